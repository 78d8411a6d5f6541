//! Whether results are exact, for as long as MXCSR has not recorded that one was not.
//!
//! Code on whole numbers in floating-point registers may never lose precision, so these questions may be asked for ever;
//! they need not be cheap, since mostly they are not asked at all ([`Translator::guard_exact`]). "No" may be wrong: the
//! interpreter decides then.

use super::Translator;
use super::number::Format;
use crate::ir::{Binary, Type, Unary, Value};
use crate::simd::{Op1, Op2};
use Format::F32;

impl Translator<'_> {
    fn equal(&mut self, f: Format, a: Value, b: Value) -> Value {
        self.v2(if f == F32 { Op2::F32Eq } else { Op2::F64Eq }, a, b)
    }

    /// Whether `r` is `x + y`. From a rounded sum the larger operand can be taken without loss (Dekker's theorem), which
    /// leaves the smaller one exactly if nothing was lost before.
    pub(super) fn exact_sum(&mut self, f: Format, x: Value, y: Value, r: Value) -> Value {
        let sub = if f == F32 { Op2::F32Sub } else { Op2::F64Sub };
        let (other_y, other_x) = (self.v2(sub, r, x), self.v2(sub, r, y));
        let (y, x) = (self.equal(f, other_y, y), self.equal(f, other_x, x));
        self.bin(Binary::And, x, y)
    }

    /// The same of `x - y`.
    pub(super) fn exact_difference(&mut self, f: Format, x: Value, y: Value, r: Value) -> Value {
        let (sub, add) = if f == F32 { (Op2::F32Sub, Op2::F32Add) } else { (Op2::F64Sub, Op2::F64Add) };
        let (other_y, other_x) = (self.v2(sub, x, r), self.v2(add, r, y));
        let (y, x) = (self.equal(f, other_y, y), self.equal(f, other_x, x));
        self.bin(Binary::And, x, y)
    }

    /// Zeros at the end of a significand, and one more; two more if nothing but zeros follows the point.
    fn trailing(&mut self, f: Format, unsigned: Value) -> Value {
        let bits = f.fraction() + 1;
        let fraction = self.bin_int(Binary::And, f.bits(), unsigned, (1 << bits) - 1);
        let ended = self.bin_int(Binary::Or, f.bits(), fraction, 1 << (bits + 1));
        self.un(Unary::Ctz, ended)
    }

    /// Whether the product of two numbers, given by their bits without signs, needs no more digits than there are.
    pub(super) fn exact_product(&mut self, f: Format, a: Value, b: Value) -> Value {
        let (a, b) = (self.trailing(f, a), self.trailing(f, b));
        let sum = self.bin(Binary::Add, a, b);
        self.bin_int(Binary::GeU, f.bits(), sum, u64::from(f.fraction()) + 3)
    }

    /// Whether `r * y` is `x`, exactly; `of_y` are the bits of `y` without its sign.
    pub(super) fn exact_quotient(&mut self, f: Format, x: Value, y: Value, of_y: Value, r: Value) -> Value {
        let product = self.v2(if f == F32 { Op2::F32Mul } else { Op2::F64Mul }, r, y);
        let same = self.equal(f, product, x);
        let bits = self.bits_of(f, r);
        let unsigned = self.unsigned(f, bits);
        let exact = self.exact_product(f, unsigned, of_y);
        self.bin(Binary::And, same, exact)
    }

    /// Whether two numbers are equal in all lanes, or the lowest `count`.
    pub(super) fn all_equal(&mut self, f: Format, a: Value, b: Value, count: u8) -> Value {
        let same = self.v2(if f == F32 { Op2::F32x4Eq } else { Op2::F64x2Eq }, a, b);
        let mask = self.v1(if f == F32 { Op1::I32x4Bitmask } else { Op1::I64x2Bitmask }, same);
        let want = (1 << count) - 1;
        let mask = self.bin_int(Binary::And, Type::I32, mask, want);
        self.bin_int(Binary::Eq, Type::I32, mask, want)
    }

    /// [`Self::exact_sum`] of all lanes.
    pub(super) fn exact_sums(&mut self, f: Format, x: Value, y: Value, r: Value) -> Value {
        let sub = if f == F32 { Op2::F32x4Sub } else { Op2::F64x2Sub };
        let (other_y, other_x) = (self.v2(sub, r, x), self.v2(sub, r, y));
        self.both_equal(f, (other_y, y), (other_x, x))
    }

    /// [`Self::exact_difference`] of all lanes.
    pub(super) fn exact_differences(&mut self, f: Format, x: Value, y: Value, r: Value) -> Value {
        let (sub, add) =
            if f == F32 { (Op2::F32x4Sub, Op2::F32x4Add) } else { (Op2::F64x2Sub, Op2::F64x2Add) };
        let (other_y, other_x) = (self.v2(sub, x, r), self.v2(add, r, y));
        self.both_equal(f, (other_y, y), (other_x, x))
    }

    fn both_equal(&mut self, f: Format, a: (Value, Value), b: (Value, Value)) -> Value {
        let count = 16 / f.bytes();
        let (a, b) = (self.all_equal(f, a.0, a.1, count), self.all_equal(f, b.0, b.1, count));
        self.bin(Binary::And, a, b)
    }

    /// Whether the products `r` of all lanes are exact: those of singles are, as doubles.
    pub(super) fn exact_products(&mut self, f: Format, x: Value, y: Value, r: Value) -> Value {
        if f != F32 {
            let both = [0, 1].map(|lane| {
                let [x, y] = [x, y].map(|vector| {
                    let bits = self.lane(8, lane, vector);
                    self.unsigned(f, bits)
                });
                self.exact_product(f, x, y)
            });
            return self.bin(Binary::And, both[0], both[1]);
        }
        let both = [0, 1].map(|half| {
            let [x, y, r] = [x, y, r].map(|vector| {
                let low = self.shuffle(super::pattern(8, |_| half), vector, vector);
                self.v1(Op1::F64x2PromoteLowF32x4, low)
            });
            let product = self.v2(Op2::F64x2Mul, x, y);
            self.all_equal(Format::F64, product, r, 2)
        });
        self.bin(Binary::And, both[0], both[1])
    }

    /// Whether an integer has no more bits than a significand.
    pub(super) fn exact_integer(&mut self, f: Format, ty: Type, integer: Value) -> Value {
        let most = 1u64 << (f.fraction() + 1);
        let moved = self.bin_int(Binary::Add, ty, integer, most);
        self.bin_int(Binary::LeU, ty, moved, 2 * most)
    }
}
