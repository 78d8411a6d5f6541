//! SHL, SHR, SAR, ROL, ROR, SHLD and SHRD. A count of 0 changes no flag; by CL it is not known before.

use super::{Translator, operand_size, type_of};
use crate::ir::{Binary, Inst, Type, Unary, Value};
use aero_cpu::jit::FlagKind;
use aero_cpu::state::reg;
use aero_x86::{Insn, Mnemonic, Operand};

impl Translator<'_> {
    pub(super) fn shift(&mut self, insn: &Insn) -> Option<()> {
        use Mnemonic as M;
        match insn.mnemonic {
            M::Shl | M::Sal => self.plain_shift(insn, Binary::Shl, FlagKind::SHL),
            M::Shr => self.plain_shift(insn, Binary::ShrU, FlagKind::SHR),
            M::Sar => self.plain_shift(insn, Binary::ShrS, FlagKind::SAR),
            M::Rol => self.rotate(insn, true),
            M::Ror => self.rotate(insn, false),
            M::Shld => self.double_shift(insn, true),
            M::Shrd => self.double_shift(insn, false),
            _ => None,
        }
    }

    fn plain_shift(&mut self, insn: &Insn, op: Binary, kind: FlagKind) -> Option<()> {
        let size = operand_size(insn, 0)?;
        let limit = if size == 8 { 63 } else { 31 };
        match insn.operands[1] {
            Operand::Imm(n) if n & limit == 0 => self.unshifted(insn),
            Operand::Imm(n) => {
                let (dest, a) = self.modify(insn, 0)?;
                let count = self.int(type_of(size), n & limit);
                let result = self.shifted(op, size, a, count);
                self.flags(kind, size, a, count);
                self.write(dest, result);
                Some(())
            }
            _ => {
                let (dest, a) = self.modify(insn, 0)?;
                let cl = self.read_register(reg::RCX, size.max(4), false);
                let count = self.bin_int(Binary::And, type_of(size), cl, limit);
                let result = self.shifted(op, size, a, count);
                let (wide_a, wide_count) = (self.widen(size, a), self.widen(size, count));
                let when = if size == 8 { self.un(Unary::Wrap, count) } else { count };
                self.emit(Inst::FlagsIf { when, kind: kind.sized(size), a: wide_a, b: wide_count });
                self.write(dest, result);
                Some(())
            }
        }
    }

    /// The destination is written all the same: 32-bit operands lose their upper half, memory may fault.
    fn unshifted(&mut self, insn: &Insn) -> Option<()> {
        let (dest, a) = self.modify(insn, 0)?;
        self.write(dest, a);
        Some(())
    }

    /// `count` is below 32, or 64 for 8 bytes: that is what WebAssembly's shifts can do.
    fn shifted(&mut self, op: Binary, size: u8, a: Value, count: Value) -> Value {
        let a = if op == Binary::ShrS { self.signed(size, a) } else { a };
        let result = self.bin(op, a, count);
        self.clean(size, result)
    }

    fn rotate(&mut self, insn: &Insn, left: bool) -> Option<()> {
        let size = operand_size(insn, 0)?;
        let Operand::Imm(n) = insn.operands[1] else { return None };
        let n = n & if size == 8 { 63 } else { 31 };
        if n == 0 {
            return self.unshifted(insn);
        }
        let (dest, a) = self.modify(insn, 0)?;
        let (ty, bits) = (type_of(size), 8 * u64::from(size));
        let by = if left { n % bits } else { (bits - n % bits) % bits };
        let result = match size {
            4 | 8 => self.bin_int(Binary::Rotl, ty, a, by),
            _ => {
                let up = self.bin_int(Binary::Shl, ty, a, by);
                let down = self.bin_int(Binary::ShrU, ty, a, bits - by);
                let both = self.bin(Binary::Or, up, down);
                self.clean(size, both)
            }
        };
        self.rotate_flags(left, size, result);
        self.write(dest, result);
        Some(())
    }

    /// CF is the bit that came round, and OF tells whether the upper two bits (left: the sign and CF) differ.
    fn rotate_flags(&mut self, left: bool, size: u8, result: Value) {
        let (ty, bits) = (type_of(size), 8 * u64::from(size));
        let bit = |t: &mut Self, n: u64| {
            let down = t.bin_int(Binary::ShrU, ty, result, n);
            let low = if size == 8 { t.un(Unary::Wrap, down) } else { down };
            t.bin_int(Binary::And, Type::I32, low, 1)
        };
        let sign = bit(self, bits - 1);
        let (carry, other) = if left {
            let low = bit(self, 0);
            (low, low)
        } else {
            (sign, bit(self, bits - 2))
        };
        let overflow = self.bin(Binary::Xor, sign, other);
        let overflow = self.bin_int(Binary::Shl, Type::I32, overflow, 1);
        let both = self.bin(Binary::Or, carry, overflow);
        self.emit(Inst::CarryOverflow(both));
    }

    /// By a number of 1 up to the operand's bits less 1, of 4 and 8 bytes.
    fn double_shift(&mut self, insn: &Insn, left: bool) -> Option<()> {
        let size = operand_size(insn, 0).filter(|s| *s >= 4)?;
        let Operand::Imm(n) = insn.operands[2] else { return None };
        let (ty, bits) = (type_of(size), 8 * u64::from(size));
        let n = n & (bits - 1);
        if n == 0 {
            return self.unshifted(insn);
        }
        let (dest, a) = self.modify(insn, 0)?;
        let b = self.read(insn, 1)?;
        let (toward, back) = if left { (Binary::Shl, Binary::ShrU) } else { (Binary::ShrU, Binary::Shl) };
        let moved = self.bin_int(toward, ty, a, n);
        let filled = self.bin_int(back, ty, b, bits - n);
        let result = self.bin(Binary::Or, moved, filled);
        let lost = self.bin_int(Binary::ShrU, ty, a, if left { bits - n } else { n - 1 });
        let carry = self.bin_int(Binary::And, ty, lost, 1);
        let aux = self.double_shift_flags(left, size, result, carry);
        self.flag_words(size, result, aux);
        self.write(dest, result);
        Some(())
    }

    /// The second flag word: CF, and bit 30 CF xor OF, where OF is the sign xor CF (left) or xor the bit below it.
    fn double_shift_flags(&mut self, left: bool, size: u8, result: Value, carry: Value) -> Value {
        let (ty, bits) = (type_of(size), 8 * u64::from(size));
        let sign = self.bin_int(Binary::ShrU, ty, result, bits - 1);
        let below = if left {
            sign
        } else {
            let down = self.bin_int(Binary::ShrU, ty, result, bits - 2);
            let below = self.bin_int(Binary::And, ty, down, 1);
            let of = self.bin(Binary::Xor, sign, below);
            self.bin(Binary::Xor, of, carry)
        };
        let high = self.bin_int(Binary::Shl, ty, carry, 31);
        let low = self.bin_int(Binary::Shl, ty, below, 30);
        self.bin(Binary::Or, high, low)
    }
}
