//! MUL, IMUL, DIV, IDIV. A division that faults, or whose dividend needs twice the bits, is the interpreter's.

use super::{Translator, operand_size, type_of};
use crate::ir::{Binary, Inst, Type, Unary, Value};
use aero_cpu::jit::FlagKind;
use aero_cpu::state::reg;
use aero_x86::{Insn, Mnemonic, Operand};

impl Translator<'_> {
    pub(super) fn product(&mut self, insn: &Insn) -> Option<()> {
        match insn.mnemonic {
            Mnemonic::Imul if insn.count > 1 => self.short_product(insn),
            Mnemonic::Imul => self.long_product(insn, true),
            Mnemonic::Mul => self.long_product(insn, false),
            Mnemonic::Div => self.quotient(insn, false),
            Mnemonic::Idiv => self.quotient(insn, true),
            _ => None,
        }
    }

    fn short_product(&mut self, insn: &Insn) -> Option<()> {
        let Operand::Gpr { reg, size, .. } = insn.operands[0] else { return None };
        let (first, second) = if insn.count == 3 { (1, 2) } else { (0, 1) };
        let a = self.read_sized(insn, first, size)?;
        let b = self.read_sized(insn, second, size)?;
        let product = self.bin(Binary::Mul, a, b);
        let result = self.clean(size, product);
        self.flags(FlagKind::IMUL, size, a, b);
        self.write_register(reg, size, false, result);
        Some(())
    }

    /// rDX:rAX from rAX and the operand.
    fn long_product(&mut self, insn: &Insn, signed: bool) -> Option<()> {
        let size = operand_size(insn, 0).filter(|s| *s >= 4)?;
        let b = self.read(insn, 0)?;
        let a = self.read_register(reg::RAX, size, false);
        let (low, high) =
            if size == 8 { self.wide_product(a, b, signed) } else { self.product_of_32(a, b, signed) };
        self.flags(if signed { FlagKind::IMUL } else { FlagKind::MUL }, size, a, b);
        self.write_register(reg::RAX, size, false, low);
        self.write_register(reg::RDX, size, false, high);
        Some(())
    }

    fn product_of_32(&mut self, a: Value, b: Value, signed: bool) -> (Value, Value) {
        let extend = if signed { Unary::ExtendS } else { Unary::ExtendU };
        let (a, b) = (self.un(extend, a), self.un(extend, b));
        let wide = self.bin(Binary::Mul, a, b);
        let up = self.bin_int(Binary::ShrU, Type::I64, wide, 32);
        (self.un(Unary::Wrap, wide), self.un(Unary::Wrap, up))
    }

    /// 128 bits from four products of 32; the upper half of a signed product is the unsigned one's less each factor whose
    /// counterpart is negative.
    fn wide_product(&mut self, a: Value, b: Value, signed: bool) -> (Value, Value) {
        let ty = Type::I64;
        let halves = |t: &mut Self, v| {
            (t.bin_int(Binary::And, ty, v, 0xffff_ffff), t.bin_int(Binary::ShrU, ty, v, 32))
        };
        let ((al, ah), (bl, bh)) = (halves(self, a), halves(self, b));
        let low = self.bin(Binary::Mul, al, bl);
        let carry = self.bin_int(Binary::ShrU, ty, low, 32);
        let middle = self.bin(Binary::Mul, ah, bl);
        let middle = self.bin(Binary::Add, middle, carry);
        let (middle_low, middle_high) = halves(self, middle);
        let other = self.bin(Binary::Mul, al, bh);
        let other = self.bin(Binary::Add, other, middle_low);
        let other_high = self.bin_int(Binary::ShrU, ty, other, 32);
        let top = self.bin(Binary::Mul, ah, bh);
        let top = self.bin(Binary::Add, top, middle_high);
        let mut high = self.bin(Binary::Add, top, other_high);
        if signed {
            for (sign, factor) in [(a, b), (b, a)] {
                let ones = self.bin_int(Binary::ShrS, ty, sign, 63);
                let less = self.bin(Binary::And, ones, factor);
                high = self.bin(Binary::Sub, high, less);
            }
        }
        (self.bin(Binary::Mul, a, b), high)
    }

    fn quotient(&mut self, insn: &Insn, signed: bool) -> Option<()> {
        match operand_size(insn, 0)? {
            4 => self.quotient_of_32(insn, signed),
            8 => self.quotient_of_64(insn, signed),
            _ => None,
        }
    }

    fn quotient_of_32(&mut self, insn: &Insn, signed: bool) -> Option<()> {
        let divisor = self.read(insn, 0)?;
        let (low, high) = (self.read_register(reg::RAX, 4, false), self.read_register(reg::RDX, 4, false));
        let (low, high) = (self.un(Unary::ExtendU, low), self.un(Unary::ExtendU, high));
        let up = self.bin_int(Binary::Shl, Type::I64, high, 32);
        let dividend = self.bin(Binary::Or, up, low);
        let wide = self.un(if signed { Unary::ExtendS } else { Unary::ExtendU }, divisor);
        self.emit(Inst::Guard(divisor));
        if signed {
            // The least dividend over -1 traps in WebAssembly; its quotient would not fit anyhow.
            let least = self.bin_int(Binary::Ne, Type::I64, dividend, 1 << 63);
            self.emit(Inst::Guard(least));
        }
        let (div, rem) = division(signed);
        let quotient = self.bin(div, dividend, wide);
        let short = self.un(Unary::Wrap, quotient);
        let again = self.un(if signed { Unary::ExtendS } else { Unary::ExtendU }, short);
        let fits = self.bin(Binary::Eq, again, quotient);
        self.emit(Inst::Guard(fits));
        let remainder = self.bin(rem, dividend, wide);
        let remainder = self.un(Unary::Wrap, remainder);
        self.write_register(reg::RAX, 4, false, short);
        self.write_register(reg::RDX, 4, false, remainder);
        Some(())
    }

    /// Where the upper half of the dividend only extends the lower.
    fn quotient_of_64(&mut self, insn: &Insn, signed: bool) -> Option<()> {
        let ty = type_of(8);
        let divisor = self.read(insn, 0)?;
        let (low, high) = (self.gpr(reg::RAX), self.gpr(reg::RDX));
        let extension = if signed { self.bin_int(Binary::ShrS, ty, low, 63) } else { self.int(ty, 0) };
        let short = self.bin(Binary::Eq, high, extension);
        self.emit(Inst::Guard(short));
        let nonzero = self.bin_int(Binary::Ne, ty, divisor, 0);
        self.emit(Inst::Guard(nonzero));
        if signed {
            let safe = self.bin_int(Binary::Ne, ty, low, 1 << 63);
            self.emit(Inst::Guard(safe));
        }
        let (div, rem) = division(signed);
        let quotient = self.bin(div, low, divisor);
        let remainder = self.bin(rem, low, divisor);
        self.set_gpr(reg::RAX, quotient);
        self.set_gpr(reg::RDX, remainder);
        Some(())
    }
}

fn division(signed: bool) -> (Binary, Binary) {
    if signed { (Binary::DivS, Binary::RemS) } else { (Binary::DivU, Binary::RemU) }
}
