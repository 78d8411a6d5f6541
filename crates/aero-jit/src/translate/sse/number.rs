//! Which numbers native arithmetic is exact for, flags included.
//!
//! With rounding to nearest and precision losses masked and recorded ([`super::needs::Needs::Native`]), an operation on
//! numbers that are neither NaNs nor denormal raises nothing if its result is neither, nor so small that rounding might
//! have lifted it from below the normal numbers, nor infinite. That is the condition of the interpreter's own native way
//! (`aero_cpu::sse::float`), and what the checks here ask for; where they fail the region is left.
//!
//! Checks look at a number's bits shifted left by one, which drops the sign. What is known of a register from earlier
//! checks of the block is in [`Translator::numbers_known`].

use super::Translator;
use crate::ir::{Binary, Inst, Type, Unary, Value};
use crate::simd::{Op1, Op2, Shape, Way};

/// Single or double precision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    /// Single.
    F32,
    /// Double.
    F64,
}

/// The lowest value of a register, or all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Width {
    /// One.
    Scalar,
    /// All.
    Packed,
}

/// Every register content of numbers that are neither NaN nor denormal: what is known of zero.
pub(super) const EVERYTHING: u8 = 0xf;

/// The bits of [`Translator::numbers_known`] that are about the low `size` bytes alone.
pub(super) fn low(size: u8) -> u8 {
    if size == 4 { 1 } else { 4 }
}

/// What a comparison of bits wants to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Range {
    /// Normal or infinite: an operand.
    Operand,
    /// Normal and not of the smallest binade: a result.
    Result,
    /// A double that is normal as a single, and not of its smallest or largest binade.
    Single,
    /// A normal single whose reciprocal is normal.
    Inverse,
}

impl Format {
    pub(super) fn bytes(self) -> u8 {
        if self == Self::F32 { 4 } else { 8 }
    }

    /// The integers of its size.
    pub(super) fn bits(self) -> Type {
        if self == Self::F32 { Type::I32 } else { Type::I64 }
    }

    /// The least normal number's bits, and infinity's.
    pub(super) fn normal_and_infinity(self) -> (u64, u64) {
        (1 << self.fraction(), self.top() << self.fraction())
    }

    /// Stored bits of the fraction.
    pub(super) fn fraction(self) -> u32 {
        if self == Self::F32 { 23 } else { 52 }
    }

    /// The exponent field of infinity.
    fn top(self) -> u64 {
        if self == Self::F32 { 0xff } else { 0x7ff }
    }

    /// The bits of [`Translator::numbers_known`] that a check of this width sets.
    pub(super) fn known(self, width: Width) -> u8 {
        let bits = if width == Width::Packed { 3 } else { 1 };
        if self == Self::F32 { bits } else { bits << 2 }
    }

    /// The lowest exponent field of a range, and the number of them.
    fn exponents(self, range: Range) -> (u64, u64) {
        match range {
            Range::Operand => (1, self.top() - 1),
            Range::Result => (2, self.top() - 2),
            Range::Single => (1023 - 125, 252),
            Range::Inverse => (1, 252),
        }
    }
}

impl Translator<'_> {
    pub(super) fn is_known(&self, reg: Option<u8>, f: Format, width: Width) -> bool {
        let want = match width {
            Width::Scalar => f.known(width),
            Width::Packed => f.known(width) & !f.known(Width::Scalar),
        };
        reg.is_some_and(|n| self.numbers_known[usize::from(n)] & want != 0)
    }

    pub(super) fn learn(&mut self, reg: Option<u8>, f: Format, width: Width) {
        if let Some(n) = reg {
            self.numbers_known[usize::from(n)] |= f.known(width);
        }
    }

    /// The low value of a vector as a number.
    pub(super) fn float(&mut self, f: Format, of: Value) -> Value {
        self.shape1(Shape::ExtractFloat { bytes: f.bytes(), lane: 0 }, of)
    }

    /// A vector with its low value replaced.
    pub(super) fn with_float(&mut self, f: Format, vector: Value, number: Value) -> Value {
        self.shape2(Shape::ReplaceFloat { bytes: f.bytes(), lane: 0 }, vector, number)
    }

    /// A number's bits.
    pub(super) fn bits_of(&mut self, f: Format, number: Value) -> Value {
        self.v1(if f == Format::F32 { Op1::I32ReinterpretF32 } else { Op1::I64ReinterpretF64 }, number)
    }

    /// The bits of the low value without the sign, shifted left by one.
    pub(super) fn unsigned_low(&mut self, f: Format, vector: Value) -> Value {
        let bits = self.lane(f.bytes(), 0, vector);
        self.unsigned(f, bits)
    }

    pub(super) fn unsigned(&mut self, f: Format, bits: Value) -> Value {
        self.bin_int(Binary::Shl, f.bits(), bits, 1)
    }

    /// The exponent field.
    fn exponent(&mut self, f: Format, unsigned: Value) -> Value {
        self.bin_int(Binary::ShrU, f.bits(), unsigned, u64::from(f.fraction()) + 1)
    }

    /// Whether the exponent is in a range. An operand's infinity is not.
    pub(super) fn is_within(&mut self, f: Format, range: Range, unsigned: Value) -> Value {
        let (first, count) = f.exponents(range);
        let exponent = self.exponent(f, unsigned);
        let less = self.bin_int(Binary::Sub, f.bits(), exponent, first);
        self.bin_int(Binary::LtU, f.bits(), less, count)
    }

    /// Leaves if a number is denormal. NaNs and infinities pass: the result shows them.
    pub(super) fn guard_not_denormal(&mut self, f: Format, unsigned: Value) {
        let exponent = self.exponent(f, unsigned);
        let normal = self.bin_int(Binary::Ne, f.bits(), exponent, 0);
        let zero = self.un(Unary::Eqz, unsigned);
        self.guard_either(normal, zero);
    }

    /// Leaves unless a number is zero or within the range, or an operand that is infinite.
    pub(super) fn guard_zero_or(&mut self, f: Format, range: Range, unsigned: Value) {
        let fine = self.is_within(f, range, unsigned);
        let mut other = self.un(Unary::Eqz, unsigned);
        if range == Range::Operand {
            let (_, infinity) = f.normal_and_infinity();
            let infinite = self.bin_int(Binary::Eq, f.bits(), unsigned, infinity << 1);
            other = self.bin(Binary::Or, other, infinite);
        }
        self.guard_either(fine, other);
    }

    /// Leaves unless one of two truth values holds, of which the first mostly does.
    pub(super) fn guard_either(&mut self, mostly: Value, otherwise: Value) {
        self.emit(Inst::GuardEither(mostly, otherwise));
    }

    /// The low value of an operand as a number that is neither NaN nor denormal.
    pub(super) fn guard_operand(&mut self, f: Format, reg: Option<u8>, vector: Value) {
        if !self.is_known(reg, f, Width::Scalar) {
            let unsigned = self.unsigned_low(f, vector);
            self.guard_zero_or(f, Range::Operand, unsigned);
            self.want(reg, f.known(Width::Scalar));
            self.learn(reg, f, Width::Scalar);
        }
    }
}

/// The same for all lanes: masks of ones where something is wrong.
impl Translator<'_> {
    /// All lanes without their signs, shifted left by one.
    pub(super) fn unsigned_lanes(&mut self, f: Format, vector: Value) -> Value {
        self.shift_by(f.bytes(), Way::Left, vector, 1)
    }

    fn above(&mut self, f: Format, a: Value, b: Value) -> Value {
        self.v2(if f == Format::F32 { Op2::I32x4GtS } else { Op2::I64x2GtS }, a, b)
    }

    pub(super) fn zeros(&mut self, f: Format, unsigned: Value) -> Value {
        let zero = self.zero();
        self.v2(if f == Format::F32 { Op2::I32x4Eq } else { Op2::I64x2Eq }, unsigned, zero)
    }

    /// Lanes that are not in the range of `first..first + count`, as unsigned integers. Only signed ones can be compared,
    /// so what is `first` becomes the least of those.
    pub(super) fn outside(&mut self, f: Format, lanes: Value, first: u64, count: u64) -> Value {
        let add = if f == Format::F32 { Op2::I32x4Add } else { Op2::I64x2Add };
        let least = 1u64 << (8 * f.bytes() - 1);
        let offset = self.everywhere(f.bytes(), least.wrapping_sub(first));
        let moved = self.v2(add, lanes, offset);
        let last = self.everywhere(f.bytes(), least.wrapping_add(count - 1));
        self.above(f, moved, last)
    }

    /// Denormal lanes.
    pub(super) fn denormal_lanes(&mut self, f: Format, unsigned: Value) -> Value {
        let add = if f == Format::F32 { Op2::I32x4Add } else { Op2::I64x2Add };
        let least = 1u64 << (8 * f.bytes() - 1);
        let offset = self.everywhere(f.bytes(), least.wrapping_sub(1));
        let moved = self.v2(add, unsigned, offset);
        let normal = self.everywhere(f.bytes(), least.wrapping_add((1 << (f.fraction() + 1)) - 1));
        self.above(f, normal, moved)
    }

    /// Lanes whose exponents are not in a range.
    pub(super) fn lanes_outside(&mut self, f: Format, range: Range, unsigned: Value) -> Value {
        let (first, count) = f.exponents(range);
        let shift = f.fraction() + 1;
        let infinity = u64::from(range == Range::Operand);
        self.outside(f, unsigned, first << shift, (count << shift) + infinity)
    }

    /// Lanes that are neither zero nor in a range.
    pub(super) fn nonzero_outside(&mut self, f: Format, range: Range, unsigned: Value) -> Value {
        let (wrong, zero) = (self.lanes_outside(f, range, unsigned), self.zeros(f, unsigned));
        self.v2(Op2::V128AndNot, wrong, zero)
    }

    /// Leaves if one of the lowest `count` lanes is wrong.
    pub(super) fn guard_lanes(&mut self, f: Format, wrong: Value, count: u8) {
        let mask = self.v1(if f == Format::F32 { Op1::I32x4Bitmask } else { Op1::I64x2Bitmask }, wrong);
        let all = 16 / f.bytes();
        let mask =
            if count == all { mask } else { self.bin_int(Binary::And, Type::I32, mask, (1 << count) - 1) };
        let fine = self.un(Unary::Eqz, mask);
        self.emit(Inst::Guard(fine));
    }

    /// All lanes of an operand as numbers that are neither NaN nor denormal.
    pub(super) fn guard_operands(&mut self, f: Format, reg: Option<u8>, vector: Value) {
        if !self.is_known(reg, f, Width::Packed) {
            let unsigned = self.unsigned_lanes(f, vector);
            let wrong = self.nonzero_outside(f, Range::Operand, unsigned);
            self.guard_lanes(f, wrong, 16 / f.bytes());
            self.want(reg, f.known(Width::Packed));
            self.learn(reg, f, Width::Packed);
        }
    }
}
