//! Conversions between the formats and integers.
//!
//! An integer that does not fit is an invalid operation: those go to the interpreter, and so do NaNs.

use super::needs::Needs;
use super::number::{Format, Range, Width};
use super::{Translator, register};
use crate::ir::{Inst, Type, Value};
use crate::simd::{Op1, Op2};
use Format::{F32, F64};
use Width::{Packed, Scalar};
use aero_x86::{Insn, Mnemonic as M, Operand};

impl Translator<'_> {
    pub(super) fn conversion(&mut self, insn: &Insn) -> Option<()> {
        match insn.mnemonic {
            M::Cvtsi2ss => self.integer_to_float(insn, F32),
            M::Cvtsi2sd => self.integer_to_float(insn, F64),
            M::Cvtss2si => self.float_to_integer(insn, F32, true),
            M::Cvttss2si => self.float_to_integer(insn, F32, false),
            M::Cvtsd2si => self.float_to_integer(insn, F64, true),
            M::Cvttsd2si => self.float_to_integer(insn, F64, false),
            M::Cvtss2sd => self.widen_number(insn),
            M::Cvtsd2ss => self.narrow_number(insn),
            M::Cvtps2pd => self.widen_numbers(insn),
            M::Cvtpd2ps => self.narrow_numbers(insn),
            M::Cvtdq2ps => {
                self.needs(Needs::Native);
                self.integers_to_floats(insn, F32, 16, Op1::F32x4ConvertI32x4S)
            }
            M::Cvtdq2pd => self.integers_to_floats(insn, F64, 8, Op1::F64x2ConvertLowI32x4S),
            M::Cvtps2dq => self.floats_to_integers(insn, F32, true),
            M::Cvttps2dq => self.floats_to_integers(insn, F32, false),
            M::Cvtpd2dq => self.floats_to_integers(insn, F64, true),
            M::Cvttpd2dq => self.floats_to_integers(insn, F64, false),
            _ => None,
        }
    }

    fn integer_to_float(&mut self, insn: &Insn, f: Format) -> Option<()> {
        let to = register(insn, 0)?;
        let size = match insn.operands[1] {
            Operand::Gpr { size, .. } => size,
            _ => insn.mem.size,
        };
        // Only a double has room for every integer, of 32 bits.
        if f == F32 || size == 8 {
            self.needs(Needs::Native);
        }
        let integer = self.read_sized(insn, 1, size)?;
        let op = match (f, size) {
            (F32, 4) => Op1::F32ConvertI32S,
            (F32, 8) => Op1::F32ConvertI64S,
            (F64, 4) => Op1::F64ConvertI32S,
            (F64, 8) => Op1::F64ConvertI64S,
            _ => return None,
        };
        let number = self.v1(op, integer);
        if f == F32 || size == 8 {
            self.guard_exact(|t| t.exact_integer(f, super::super::type_of(size), integer));
        }
        let a = self.xmm(to);
        let merged = self.with_float(f, a, number);
        self.set_xmm(to, merged);
        self.learn(Some(to), f, Scalar);
        Some(())
    }

    /// Two to the power of `exponent`.
    fn power(f: Format, exponent: u64) -> u64 {
        match f {
            F32 => (127 + exponent) << 23,
            F64 => (1023 + exponent) << 52,
        }
    }

    fn float_to_integer(&mut self, insn: &Insn, f: Format, rounds: bool) -> Option<()> {
        let Operand::Gpr { reg, size, .. } = insn.operands[0] else { return None };
        self.needs(Needs::Native);
        let vector = self.source(insn, 1, f.bytes())?;
        let pick = |single, double| if f == F32 { single } else { double };
        let original = self.float(f, vector);
        let mut number = original;
        if rounds {
            number = self.v1(pick(Op1::F32Nearest, Op1::F64Nearest), number);
        }
        let magnitude = self.v1(pick(Op1::F32Abs, Op1::F64Abs), number);
        let ty = if f == F32 { Type::F32 } else { Type::F64 };
        let limit = self.emit(Inst::Const(ty, Self::power(f, 8 * u64::from(size) - 1)));
        let less = if f == F32 { Op2::F32Lt } else { Op2::F64Lt };
        let fits = self.v2(less, magnitude, limit);
        self.emit(Inst::Guard(fits));
        self.guard_exact(|t| t.is_whole(f, number, original, rounds));
        let op = match size {
            8 => pick(Op1::I64TruncSatF32S, Op1::I64TruncSatF64S),
            _ => pick(Op1::I32TruncSatF32S, Op1::I32TruncSatF64S),
        };
        let integer = self.v1(op, number);
        self.write_register(reg, size, false, integer);
        Some(())
    }

    /// Whether a number is the integer that it becomes: that which it was rounded to, or that which cutting leaves.
    fn is_whole(&mut self, f: Format, number: Value, original: Value, rounds: bool) -> Value {
        let cut = if f == F32 { Op1::F32Trunc } else { Op1::F64Trunc };
        let whole = if rounds { number } else { self.v1(cut, number) };
        self.v2(if f == F32 { Op2::F32Eq } else { Op2::F64Eq }, whole, original)
    }

    /// CVTSS2SD: exact.
    fn widen_number(&mut self, insn: &Insn) -> Option<()> {
        let to = register(insn, 0)?;
        let b = self.source(insn, 1, 4)?;
        self.guard_operand(F32, register(insn, 1), b);
        let single = self.float(F32, b);
        let double = self.v1(Op1::F64PromoteF32, single);
        let a = self.xmm(to);
        let merged = self.with_float(F64, a, double);
        self.set_xmm(to, merged);
        self.learn(Some(to), F64, Scalar);
        Some(())
    }

    /// CVTSD2SS.
    fn narrow_number(&mut self, insn: &Insn) -> Option<()> {
        let to = register(insn, 0)?;
        self.needs(Needs::Native);
        let b = self.source(insn, 1, 8)?;
        let unsigned = self.unsigned_low(F64, b);
        self.guard_zero_or(F64, Range::Single, unsigned);
        let double = self.float(F64, b);
        let single = self.v1(Op1::F32DemoteF64, double);
        self.guard_exact(|t| {
            let back = t.v1(Op1::F64PromoteF32, single);
            t.v2(Op2::F64Eq, back, double)
        });
        let a = self.xmm(to);
        let merged = self.with_float(F32, a, single);
        self.set_xmm(to, merged);
        self.learn(Some(to), F32, Scalar);
        Some(())
    }

    fn widen_numbers(&mut self, insn: &Insn) -> Option<()> {
        let to = register(insn, 0)?;
        let b = self.source(insn, 1, 8)?;
        let unsigned = self.unsigned_lanes(F32, b);
        let wrong = self.nonzero_outside(F32, Range::Operand, unsigned);
        self.guard_lanes(F32, wrong, 2);
        let doubles = self.v1(Op1::F64x2PromoteLowF32x4, b);
        self.set_xmm(to, doubles);
        self.learn(Some(to), F64, Packed);
        Some(())
    }

    fn narrow_numbers(&mut self, insn: &Insn) -> Option<()> {
        let to = register(insn, 0)?;
        self.needs(Needs::Native);
        let b = self.source(insn, 1, 16)?;
        let unsigned = self.unsigned_lanes(F64, b);
        let wrong = self.nonzero_outside(F64, Range::Single, unsigned);
        self.guard_lanes(F64, wrong, 2);
        let singles = self.v1(Op1::F32x4DemoteF64x2Zero, b);
        self.guard_exact(|t| {
            let back = t.v1(Op1::F64x2PromoteLowF32x4, singles);
            t.all_equal(F64, back, b, 2)
        });
        self.set_xmm(to, singles);
        self.learn(Some(to), F32, Packed);
        Some(())
    }

    fn integers_to_floats(&mut self, insn: &Insn, f: Format, size: u8, op: Op1) -> Option<()> {
        let to = register(insn, 0)?;
        let b = self.source(insn, 1, size)?;
        let numbers = self.v1(op, b);
        if f == F32 {
            self.guard_exact(|t| t.exact_integers(b));
        }
        self.set_xmm(to, numbers);
        self.learn(Some(to), f, Packed);
        Some(())
    }

    fn floats_to_integers(&mut self, insn: &Insn, f: Format, rounds: bool) -> Option<()> {
        let to = register(insn, 0)?;
        self.needs(Needs::Native);
        let original = self.source(insn, 1, 16)?;
        let mut numbers = original;
        if rounds {
            numbers = self.v1(if f == F32 { Op1::F32x4Nearest } else { Op1::F64x2Nearest }, numbers);
        }
        self.guard_fit(f, numbers);
        self.guard_exact(|t| {
            let cut = if f == F32 { Op1::F32x4Trunc } else { Op1::F64x2Trunc };
            let whole = if rounds { numbers } else { t.v1(cut, numbers) };
            t.all_equal(f, whole, original, 16 / f.bytes())
        });
        let op = if f == F32 { Op1::I32x4TruncSatF32x4S } else { Op1::I32x4TruncSatF64x2SZero };
        let integers = self.v1(op, numbers);
        self.set_xmm(to, integers);
        Some(())
    }

    /// Whether four integers have no more bits than a single's significand.
    fn exact_integers(&mut self, integers: Value) -> Value {
        let most = self.everywhere(4, 1 << 24);
        let moved = self.v2(Op2::I32x4Add, integers, most);
        let last = self.everywhere(4, (2 << 24) + 1);
        let fit = self.v2(Op2::I32x4LtU, moved, last);
        self.v1(Op1::I32x4AllTrue, fit)
    }

    /// Leaves unless all lanes are integers of 32 bits, fractions aside.
    fn guard_fit(&mut self, f: Format, numbers: Value) {
        let (absolute, less) =
            if f == F32 { (Op1::F32x4Abs, Op2::F32x4Lt) } else { (Op1::F64x2Abs, Op2::F64x2Lt) };
        let magnitude = self.v1(absolute, numbers);
        let limit = self.everywhere(f.bytes(), Self::power(f, 31));
        let fits = self.v2(less, magnitude, limit);
        let wrong = self.v1(Op1::V128Not, fits);
        self.guard_lanes(f, wrong, 16 / f.bytes());
    }
}
