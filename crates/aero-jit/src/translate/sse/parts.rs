//! What goes between vectors and general registers: masks, lanes, and PTEST.

use super::{Translator, immediate, register};
use crate::ir::{Inst, Unary, Value};
use crate::simd::{Op1, Op2, Shape};
use aero_cpu::jit::FlagKind;
use aero_x86::{Insn, Mnemonic as M, Operand};

impl Translator<'_> {
    pub(super) fn parts(&mut self, insn: &Insn) -> Option<()> {
        match insn.mnemonic {
            M::Pmovmskb => self.mask(insn, Op1::I8x16Bitmask),
            M::Movmskps => self.mask(insn, Op1::I32x4Bitmask),
            M::Movmskpd => self.mask(insn, Op1::I64x2Bitmask),
            M::Pextrb => self.extract(insn, 1),
            M::Pextrw => self.extract(insn, 2),
            M::Pextrd | M::Extractps => self.extract(insn, 4),
            M::Pextrq => self.extract(insn, 8),
            M::Pinsrb => self.insert(insn, 1),
            M::Pinsrw => self.insert(insn, 2),
            M::Pinsrd => self.insert(insn, 4),
            M::Pinsrq => self.insert(insn, 8),
            M::Insertps => self.insert_single(insn),
            M::Ptest => self.test_bits(insn),
            _ => None,
        }
    }

    fn mask(&mut self, insn: &Insn, op: Op1) -> Option<()> {
        let Operand::Gpr { reg, .. } = insn.operands[0] else { return None };
        let value = self.xmm(register(insn, 1)?);
        let mask = self.v1(op, value);
        self.write_register(reg, 4, false, mask);
        Some(())
    }

    fn extract(&mut self, insn: &Insn, bytes: u8) -> Option<()> {
        let (from, imm) = (register(insn, 1)?, immediate(insn, 2)?);
        let at = imm % (16 / bytes);
        match insn.operands[0] {
            Operand::Gpr { reg, .. } => {
                let value = self.xmm(from);
                let value = self.lane(bytes, at, value);
                self.write_register(reg, bytes.max(4), false, value);
            }
            _ => {
                let (address, value) = (self.address(insn)?, self.xmm(from));
                let value = self.lane(bytes, at, value);
                self.store(address, bytes, value);
            }
        }
        Some(())
    }

    fn insert(&mut self, insn: &Insn, bytes: u8) -> Option<()> {
        let (to, imm) = (register(insn, 0)?, immediate(insn, 2)?);
        let value = match insn.operands[1] {
            Operand::Gpr { reg, .. } => self.read_register(reg, bytes.max(4), false),
            _ => {
                let address = self.address(insn)?;
                self.load(address, bytes)
            }
        };
        let a = self.xmm(to);
        let value = self.shape2(Shape::Replace { bytes, lane: imm % (16 / bytes) }, a, value);
        self.set_xmm(to, value);
        Some(())
    }

    /// INSERTPS: the source's lane in bits 7:6 of the immediate (none in memory), the destination's in 5:4, and those
    /// that become zero in 3:0.
    fn insert_single(&mut self, insn: &Insn) -> Option<()> {
        let (to, imm) = (register(insn, 0)?, immediate(insn, 2)?);
        let from = if insn.operands[1] == Operand::Mem { 0 } else { imm >> 6 };
        let (b, a) = (self.source(insn, 1, 4)?, self.xmm(to));
        let at = imm >> 4 & 3;
        let merged = self.shuffle(super::pattern(4, |n| if n == at { 4 + from } else { n }), a, b);
        let kept = |n: u8| if imm >> n & 1 != 0 { 0 } else { u64::from(u32::MAX) };
        let mask = self.emit(Inst::ConstV(kept(0) | kept(1) << 32, kept(2) | kept(3) << 32));
        let value = if imm & 15 == 0 { merged } else { self.v2(Op2::V128And, merged, mask) };
        self.set_xmm(to, value);
        Some(())
    }

    /// PTEST: ZF if no bit of the second operand is in the first, CF if all are.
    fn test_bits(&mut self, insn: &Insn) -> Option<()> {
        let to = register(insn, 0)?;
        let (b, a) = (self.source(insn, 1, 16)?, self.xmm(to));
        let (common, rest) = (self.v2(Op2::V128And, a, b), self.v2(Op2::V128AndNot, b, a));
        let (zero, carry) = (self.no_bit(common), self.no_bit(rest));
        self.carry_and_zero(carry, zero);
        Some(())
    }

    fn no_bit(&mut self, of: Value) -> Value {
        let any = self.v1(Op1::V128AnyTrue, of);
        self.un(Unary::Eqz, any)
    }

    /// CF and ZF from truth values; the other arithmetic flags become clear.
    pub(super) fn carry_and_zero(&mut self, carry: Value, zero: Value) {
        let (a, b) = (self.widen(4, carry), self.widen(4, zero));
        self.emit(Inst::Flags { kind: FlagKind::ORDER, a, b });
    }
}
