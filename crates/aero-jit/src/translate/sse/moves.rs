//! Moves of whole registers, halves, and single values.

use super::{Translator, pattern, register};
use crate::ir::{Inst, Value};
use crate::simd::Shape;
use aero_x86::{Insn, Mnemonic as M, Operand};

/// The low 8 bytes of the first operand under those of the second.
const LOW_HALVES: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23];
/// The high 8 bytes of the second operand under those of the first.
const HIGH_HALVES: [u8; 16] = [24, 25, 26, 27, 28, 29, 30, 31, 8, 9, 10, 11, 12, 13, 14, 15];

impl Translator<'_> {
    pub(super) fn moves(&mut self, insn: &Insn) -> Option<()> {
        match insn.mnemonic {
            M::Movaps | M::Movapd | M::Movdqa | M::Movntdqa | M::Movntps | M::Movntpd | M::Movntdq => {
                self.move_whole(insn, true)
            }
            M::Movups | M::Movupd | M::Movdqu | M::Lddqu => self.move_whole(insn, false),
            M::Movss => self.move_low(insn, 4),
            M::Movsd => self.move_low(insn, 8),
            M::Movlps | M::Movlpd => self.move_low_half(insn),
            M::Movhps | M::Movhpd => self.move_high_half(insn),
            M::Movlhps => self.combine(insn, LOW_HALVES),
            M::Movhlps => self.combine(insn, HIGH_HALVES),
            M::Movd => self.move_general(insn, 4),
            M::Movq => self.move_general(insn, 8),
            M::Movddup => self.rearrange(insn, 8, pattern(8, |_| 0)),
            M::Movsldup => self.rearrange(insn, 16, pattern(4, |n| n & 2)),
            M::Movshdup => self.rearrange(insn, 16, pattern(4, |n| n | 1)),
            _ => None,
        }
    }

    fn move_whole(&mut self, insn: &Insn, aligned: bool) -> Option<()> {
        if let (Operand::Xmm(to), Operand::Xmm(from)) = (insn.operands[0], insn.operands[1]) {
            let (value, known) = (self.xmm(from), self.numbers_known[usize::from(from)]);
            self.set_xmm(to, value);
            self.numbers_known[usize::from(to)] = known;
            return Some(());
        }
        let address = if aligned { self.aligned_address(insn)? } else { self.address(insn)? };
        match (insn.operands[0], insn.operands[1]) {
            (Operand::Xmm(to), Operand::Mem) => {
                let value = self.load_vector(address, 16);
                self.set_xmm(to, value);
            }
            (Operand::Mem, Operand::Xmm(from)) => {
                let value = self.xmm(from);
                self.store(address, 16, value);
            }
            _ => return None,
        }
        Some(())
    }

    /// MOVSS and MOVSD: between registers the rest stays; from memory it becomes zero.
    fn move_low(&mut self, insn: &Insn, size: u8) -> Option<()> {
        match (insn.operands[0], insn.operands[1]) {
            (Operand::Xmm(to), Operand::Xmm(from)) => {
                let (a, b, known) = (self.xmm(to), self.xmm(from), self.numbers_known[usize::from(from)]);
                let merged = self.with_low(size, a, b);
                self.set_xmm(to, merged);
                self.numbers_known[usize::from(to)] = known & super::number::low(size);
            }
            (Operand::Xmm(to), Operand::Mem) => {
                let value = self.source(insn, 1, size)?;
                self.set_xmm(to, value);
            }
            (Operand::Mem, Operand::Xmm(from)) => self.store_low(insn, from, size)?,
            _ => return None,
        }
        Some(())
    }

    /// `a` with the low `size` bytes of `b`.
    pub(super) fn with_low(&mut self, size: u8, a: Value, b: Value) -> Value {
        self.shuffle(core::array::from_fn(|n| n as u8 + if n < size.into() { 16 } else { 0 }), a, b)
    }

    fn store_low(&mut self, insn: &Insn, from: u8, size: u8) -> Option<()> {
        let (address, value) = (self.address(insn)?, self.xmm(from));
        self.store(address, size, value);
        Some(())
    }

    fn move_low_half(&mut self, insn: &Insn) -> Option<()> {
        match (insn.operands[0], insn.operands[1]) {
            (Operand::Xmm(to), Operand::Mem) => {
                let (b, a) = (self.source(insn, 1, 8)?, self.xmm(to));
                let merged = self.with_low(8, a, b);
                self.set_xmm(to, merged);
            }
            (Operand::Mem, Operand::Xmm(from)) => self.store_low(insn, from, 8)?,
            _ => return None,
        }
        Some(())
    }

    fn move_high_half(&mut self, insn: &Insn) -> Option<()> {
        match (insn.operands[0], insn.operands[1]) {
            (Operand::Xmm(to), Operand::Mem) => {
                let (b, a) = (self.source(insn, 1, 8)?, self.xmm(to));
                let merged = self.shuffle(LOW_HALVES, a, b);
                self.set_xmm(to, merged);
            }
            (Operand::Mem, Operand::Xmm(from)) => {
                let (address, value) = (self.address(insn)?, self.xmm(from));
                let high = self.shape1(Shape::Extract { bytes: 8, lane: 1 }, value);
                self.emit(Inst::Store { address, size: 8, value: high });
            }
            _ => return None,
        }
        Some(())
    }

    /// A shuffle of both operands, the second a register or 16 bytes of memory.
    pub(super) fn combine(&mut self, insn: &Insn, pattern: [u8; 16]) -> Option<()> {
        let to = register(insn, 0)?;
        let (b, a) = (self.source(insn, 1, 16)?, self.xmm(to));
        let value = self.shuffle(pattern, a, b);
        self.set_xmm(to, value);
        Some(())
    }

    /// A shuffle of the second operand.
    pub(super) fn rearrange(&mut self, insn: &Insn, size: u8, pattern: [u8; 16]) -> Option<()> {
        let to = register(insn, 0)?;
        let b = self.source(insn, 1, size)?;
        let value = self.shuffle(pattern, b, b);
        self.set_xmm(to, value);
        Some(())
    }

    /// MOVD and MOVQ.
    fn move_general(&mut self, insn: &Insn, size: u8) -> Option<()> {
        let lane = |bytes| (Shape::Extract { bytes, lane: 0 }, Shape::Replace { bytes, lane: 0 });
        match (insn.operands[0], insn.operands[1]) {
            (Operand::Xmm(to), Operand::Gpr { reg, size, .. }) => {
                let (value, zero) = (self.read_register(reg, size, false), self.zero());
                let value = self.shape2(lane(size).1, zero, value);
                self.set_xmm(to, value);
            }
            (Operand::Gpr { reg, size, .. }, Operand::Xmm(from)) => {
                let value = self.xmm(from);
                let value = self.shape1(lane(size).0, value);
                self.write_register(reg, size, false, value);
            }
            (Operand::Xmm(to), Operand::Xmm(from)) => {
                let (value, zero) = (self.xmm(from), self.zero());
                let value = self.shuffle(LOW_HALVES, value, zero);
                self.set_xmm(to, value);
            }
            (Operand::Xmm(to), Operand::Mem) => {
                let value = self.source(insn, 1, insn.mem.size)?;
                self.set_xmm(to, value);
            }
            (Operand::Mem, Operand::Xmm(from)) if insn.mem.size <= size => {
                self.store_low(insn, from, insn.mem.size)?;
            }
            _ => return None,
        }
        Some(())
    }
}
