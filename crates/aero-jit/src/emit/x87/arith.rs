//! The basic operations.

use super::{EXPONENT, Function, J, Number, PE, SIGN, X, Y};
use crate::emit::code::Mostly;
use crate::x87::{Arith, Source};
use wasm_encoder::BlockType;

/// The control word's bits that matter: precision, rounding, and the mask of inexact results.
const WANTED: i32 = 0xf00 | PE;
/// Of them: 64 bits, to nearest, masked.
const EXTENDED: i32 = 0x300 | PE;
/// 53 bits.
const DOUBLE: i32 = 0x200 | PE;
/// 24 bits.
const SINGLE: i32 = PE;

/// Where an exact result is on its way to be rounded.
#[derive(Clone, Copy)]
struct Exact {
    /// I64: the upper half, its highest bit set.
    high: u32,
    /// I64: the lower half, the lowest bit of which says that more followed.
    low: u32,
    /// I32: the exponent.
    exp: u32,
    /// I32: the sign, in its place; other bits do not matter.
    sign: u32,
}

impl Function {
    pub(super) fn arith(&mut self, arith: Arith, source: Source) {
        let (mut a, mut b, dst) = (self.number(), self.number(), self.i32());
        let result = Exact { high: self.i64(), low: self.i64(), exp: self.i32(), sign: self.i32() };
        let (control, out) = (self.i32(), Number { mantissa: result.high, sign_exp: result.exp });
        self.precision(control);
        self.operands(source, dst, a, b);
        match arith {
            Arith::Sub => self.negate(b),
            Arith::SubR => self.negate(a),
            Arith::DivR => (a, b) = (b, a),
            Arith::Add | Arith::Mul | Arith::Div => {}
        }
        // Two blocks: through the end of the inner for rounding, through that of the outer with a zero.
        self.code.put().block(BlockType::Empty).block(BlockType::Empty);
        self.is_normal(a);
        self.is_normal(b);
        self.code.put().i32_and();
        self.code.if_(BlockType::Empty, Mostly::Taken);
        match arith {
            Arith::Add | Arith::Sub | Arith::SubR => self.sum(a, b, result),
            Arith::Mul => self.product(a, b, result),
            Arith::Div | Arith::DivR => self.quotient(a, b, result),
        }
        self.code.put().br(1).end();
        self.give_up_if_special(a);
        self.give_up_if_special(b);
        match arith {
            Arith::Add | Arith::Sub | Arith::SubR => self.sum_with_zero(a, b, result),
            Arith::Mul | Arith::Div | Arith::DivR => {
                if arith != Arith::Mul {
                    self.is_zero(b);
                    self.give_up_if();
                }
                self.code.put().local_get(a.sign_exp).local_get(b.sign_exp).i32_xor();
                self.code.put().local_set(result.sign);
                self.zero(result);
                self.code.put().br(1);
            }
        }
        self.code.put().end();
        self.pack(result, control);
        self.code.put().end();
        self.store(dst, out);
        if source == Source::Stack {
            self.code.put().local_get(Y).i32_const(3).i32_shr_u();
            self.pop_times();
        }
        self.done();
    }

    /// Gives up unless results are rounded to nearest and may be inexact.
    fn precision(&mut self, control: u32) {
        self.control();
        self.code.put().i32_const(WANTED).i32_and().local_tee(control).i32_const(EXTENDED).i32_ne();
        self.code.if_(BlockType::Empty, Mostly::NotTaken);
        self.code.put().local_get(control).i32_const(DOUBLE).i32_ne();
        self.code.put().local_get(control).i32_const(SINGLE).i32_ne().i32_and();
        self.give_up_if();
        self.code.put().end();
    }

    /// Loads both operands; `dst` is the register of the first.
    fn operands(&mut self, source: Source, dst: u32, a: Number, b: Number) {
        if source == Source::Stack {
            let src = self.i32();
            self.register(X, dst);
            self.code.put().local_get(Y);
            self.physical(src);
            self.give_up_if_empty(src);
            self.load(src, b);
        } else {
            self.code.put().local_get(self.top).local_set(dst);
            self.give_up_if_empty(dst);
            self.widen(source, b);
        }
        self.load(dst, a);
    }

    fn negate(&mut self, n: Number) {
        self.code.put().local_get(n.sign_exp).i32_const(SIGN).i32_xor().local_set(n.sign_exp);
    }

    fn exponent(&mut self, n: Number) {
        self.code.put().local_get(n.sign_exp).i32_const(EXPONENT).i32_and();
    }

    /// Makes the result a zero of its sign, with the status of an exact one.
    fn zero(&mut self, result: Exact) {
        self.code.put().i64_const(0).local_set(result.high);
        self.code.put().local_get(result.sign).i32_const(SIGN).i32_and().local_set(result.exp);
        self.store_status(None);
    }

    /// A sum of which one operand at least is zero; the other is rounded.
    fn sum_with_zero(&mut self, a: Number, b: Number, result: Exact) {
        self.code.put().local_get(a.mantissa).local_get(b.mantissa).i64_or().local_tee(result.high);
        self.code.put().i64_eqz().if_(BlockType::Empty);
        // Zeros of different signs give the positive.
        self.code.put().local_get(a.sign_exp).local_get(b.sign_exp).i32_and().local_set(result.sign);
        self.zero(result);
        self.code.put().br(2).end();
        let mut put = self.code.put();
        put.local_get(b.sign_exp).local_get(a.sign_exp).local_get(a.mantissa).i64_eqz().select();
        put.local_tee(result.sign).i32_const(EXPONENT).i32_and().local_set(result.exp);
    }

    fn sum(&mut self, a: Number, b: Number, r: Exact) {
        let (distance, small, n) = (self.i32(), self.i64(), self.i64());
        let Exact { high, low, exp, sign } = r;
        // Whether b is the larger; then it is exchanged.
        let (swap, key) = (self.i32(), self.i32());
        self.exponent(b);
        self.exponent(a);
        let mut put = self.code.put();
        put.local_tee(exp).i32_sub().local_tee(key).i32_const(0).i32_gt_s();
        put.local_get(key).i32_eqz().local_get(b.mantissa).local_get(a.mantissa).i64_gt_u().i32_and();
        put.i32_or().local_tee(swap);
        put.if_(BlockType::Empty);
        put.local_get(exp).local_get(key).i32_add().local_set(exp).local_get(key).local_set(distance);
        put.local_get(b.mantissa).local_set(high).local_get(a.mantissa).local_set(small);
        put.local_get(b.sign_exp).local_set(sign).else_();
        put.i32_const(0).local_get(key).i32_sub().local_set(distance);
        put.local_get(a.mantissa).local_set(high).local_get(b.mantissa).local_set(small);
        put.local_get(a.sign_exp).local_set(sign).end();
        self.align(distance, small, low);
        let mut put = self.code.put();
        put.local_get(a.sign_exp).local_get(b.sign_exp).i32_xor().i32_const(SIGN).i32_and().i32_eqz();
        put.if_(BlockType::Empty);
        put.local_get(high).local_get(small).i64_add().local_tee(high);
        put.local_get(small).i64_lt_u().if_(BlockType::Empty);
        put.local_get(low).i64_const(1).i64_shr_u().local_get(high).i64_const(63).i64_shl().i64_or();
        put.local_get(low).i64_const(1).i64_and().i64_or().local_set(low);
        put.local_get(high).i64_const(1).i64_shr_u().i64_const(J).i64_or().local_set(high);
        put.local_get(exp).i32_const(1).i32_add().local_set(exp).end();
        put.else_();
        put.local_get(high).local_get(small).i64_sub();
        put.local_get(low).i64_eqz().i32_eqz().i64_extend_i32_u().i64_sub().local_set(high);
        put.i64_const(0).local_get(low).i64_sub().local_set(low);
        put.local_get(high).i64_eqz().if_(BlockType::Empty);
        put.local_get(low).i64_eqz().if_(BlockType::Empty).i32_const(0).local_set(sign);
        self.zero(r);
        let mut put = self.code.put();
        // Out of: this if, the one around it, else, the operation's if, the inner block.
        put.br(5).end();
        put.local_get(low).local_set(high).i64_const(0).local_set(low);
        put.local_get(exp).i32_const(64).i32_sub().local_set(exp).end();
        put.local_get(exp).local_get(high).i64_clz().local_tee(n).i32_wrap_i64().i32_sub().local_set(exp);
        put.local_get(high).local_get(n).i64_shl();
        put.local_get(low).i64_const(1).i64_shr_u().i64_const(63).local_get(n).i64_sub().i64_shr_u();
        put.i64_or().local_set(high);
        put.local_get(low).local_get(n).i64_shl().local_set(low).end();
    }

    /// Moves `small` right by `distance`; what falls out goes to `low`, beyond that into its lowest bit.
    fn align(&mut self, distance: u32, small: u32, low: u32) {
        let by = self.i64();
        let mut put = self.code.put();
        put.local_get(distance).i64_extend_i32_u().local_set(by);
        put.local_get(distance).i32_const(64).i32_lt_u().if_(BlockType::Empty);
        put.local_get(small).i64_const(1).i64_shl().i64_const(63).local_get(by).i64_sub().i64_shl();
        put.local_set(low).local_get(small).local_get(by).i64_shr_u().local_set(small).else_();
        put.local_get(distance).i32_const(128).i32_lt_u().if_(BlockType::Empty);
        put.local_get(small).local_get(by).i64_shr_u();
        put.local_get(small).i64_const(1).i64_shl().i64_const(127).local_get(by).i64_sub().i64_shl();
        put.i64_eqz().i32_eqz().i64_extend_i32_u().i64_or().local_set(low).else_();
        put.i64_const(1).local_set(low).end();
        put.i64_const(0).local_set(small).end();
    }

    fn product(&mut self, a: Number, b: Number, r: Exact) {
        const LOW: i64 = 0xffff_ffff;
        let Exact { high, low, exp, sign } = r;
        let [al, ah, bl, bh, middle] = [0; 5].map(|_| self.i64());
        let mut put = self.code.put();
        for (from, half, other) in [(a.mantissa, al, ah), (b.mantissa, bl, bh)] {
            put.local_get(from).i64_const(LOW).i64_and().local_set(half);
            put.local_get(from).i64_const(32).i64_shr_u().local_set(other);
        }
        put.local_get(al).local_get(bl).i64_mul().local_tee(low).i64_const(32).i64_shr_u();
        put.local_get(ah).local_get(bl).i64_mul().i64_add().local_tee(middle);
        put.i64_const(32).i64_shr_u().local_get(ah).local_get(bh).i64_mul().i64_add();
        put.local_get(middle).i64_const(LOW).i64_and().local_get(al).local_get(bh).i64_mul().i64_add();
        put.local_tee(middle).i64_const(32).i64_shr_u().i64_add().local_set(high);
        put.local_get(middle).i64_const(32).i64_shl().local_get(low).i64_const(LOW).i64_and().i64_or();
        put.local_set(low);
        put.local_get(a.sign_exp).local_get(b.sign_exp).i32_xor().local_set(sign);
        self.exponent(a);
        self.exponent(b);
        let mut put = self.code.put();
        put.i32_add().i32_const(0x3ffe).i32_sub().local_set(exp);
        put.local_get(high).i64_const(0).i64_ge_s().if_(BlockType::Empty);
        put.local_get(high).i64_const(1).i64_shl().local_get(low).i64_const(63).i64_shr_u().i64_or();
        put.local_set(high).local_get(low).i64_const(1).i64_shl().local_set(low);
        put.local_get(exp).i32_const(1).i32_sub().local_set(exp).end();
    }

    fn quotient(&mut self, a: Number, b: Number, r: Exact) {
        let Exact { high, low, exp, sign } = r;
        let (less, rest, next) = (self.i32(), self.i64(), self.i64());
        let first = self.i64();
        self.code.put().local_get(a.sign_exp).local_get(b.sign_exp).i32_xor().local_set(sign);
        self.exponent(a);
        self.exponent(b);
        let mut put = self.code.put();
        put.i32_sub().i32_const(0x3fff).i32_add();
        // The numerator is shifted so that the quotient has exactly 64 bits.
        put.local_get(a.mantissa).local_get(b.mantissa).i64_lt_u().local_tee(less).i32_sub().local_set(exp);
        put.local_get(a.mantissa).local_get(less).i32_eqz().i64_extend_i32_u().i64_shr_u().local_set(rest);
        put.local_get(a.mantissa).i64_const(63).i64_shl().i64_const(0).local_get(less).i32_eqz().select();
        put.i64_const(32).i64_shr_u().local_set(next);
        self.digit(rest, next, b.mantissa, first);
        self.code.put().i64_const(0).local_set(next);
        self.digit(rest, next, b.mantissa, high);
        let mut put = self.code.put();
        put.local_get(first).i64_const(32).i64_shl().local_get(high).i64_or().local_set(high);
        // The remainder against half the divisor.
        put.local_get(b.mantissa).local_get(rest).i64_sub().local_set(next);
        put.local_get(rest).local_get(next).i64_ge_u().i64_extend_i32_u().i64_const(63).i64_shl();
        put.local_get(rest).local_get(next).i64_ne().local_get(rest).i64_eqz().i32_eqz().i32_and();
        put.i64_extend_i32_u().i64_or().local_set(low);
    }

    /// One digit of 32 bits: `(rest · 2^32 + next) / divisor`, where `rest` is less; what remains is `rest` then. Knuth's
    /// algorithm D, as in `aero_cpu::fpu`.
    fn digit(&mut self, rest: u32, next: u32, divisor: u32, digit: u32) {
        let (top, over, bottom) = (self.i64(), self.i64(), self.i64());
        let mut put = self.code.put();
        put.local_get(divisor).i64_const(32).i64_shr_u().local_set(top);
        put.local_get(divisor).i64_const(0xffff_ffff).i64_and().local_set(bottom);
        put.local_get(rest).local_get(rest).local_get(top).i64_div_u().local_tee(digit);
        put.local_get(top).i64_mul().i64_sub().local_set(over);
        put.block(BlockType::Empty).loop_(BlockType::Empty);
        put.local_get(digit).i64_const(32).i64_shr_u().i64_eqz();
        put.local_get(digit).local_get(bottom).i64_mul();
        put.local_get(over).i64_const(32).i64_shl().local_get(next).i64_or().i64_le_u();
        put.i32_and().br_if(1);
        put.local_get(digit).i64_const(1).i64_sub().local_set(digit);
        put.local_get(over).local_get(top).i64_add().local_tee(over);
        put.i64_const(32).i64_shr_u().i64_eqz().br_if(0).end().end();
        put.local_get(rest).i64_const(32).i64_shl().local_get(next).i64_or();
        put.local_get(digit).local_get(divisor).i64_mul().i64_sub().local_set(rest);
    }

    /// Rounds a result: `high` and `exp` are the register's fields then, and the status is stored. Gives up if the
    /// exponent does not fit.
    fn pack(&mut self, r: Exact, control: u32) {
        let Exact { high, low, exp, sign } = r;
        let (unit, flags, up) = (self.i64(), self.i32(), self.i32());
        self.code.put().i64_const(1).local_set(unit);
        self.code.put().local_get(control).i32_const(EXTENDED).i32_ne().if_(BlockType::Empty);
        self.shorten(r, control, unit);
        self.code.put().end();
        self.rounds_up(high, low, |f| _ = f.code.put().local_get(unit));
        self.code.put().local_set(up);
        self.rounding_flags(low, up, flags);
        let mut put = self.code.put();
        put.local_get(high).local_get(unit).i64_const(0).local_get(up).select().i64_add().local_tee(high);
        put.i64_eqz().if_(BlockType::Empty);
        put.i64_const(J).local_set(high).local_get(exp).i32_const(1).i32_add().local_set(exp).end();
        put.local_get(exp).i32_const(1).i32_sub().i32_const(EXPONENT - 1).i32_ge_u();
        self.give_up_if();
        self.code.put().local_get(sign).i32_const(SIGN).i32_and().local_get(exp).i32_or().local_set(exp);
        self.store_status(Some(flags));
    }

    /// Leaves 53 or 24 bits in `high`: the rest moves to `low`.
    fn shorten(&mut self, r: Exact, control: u32, unit: u32) {
        let (Exact { high, low, .. }, drop) = (r, self.i64());
        let mut put = self.code.put();
        put.i64_const(11).i64_const(40).local_get(control).i32_const(DOUBLE).i32_eq();
        put.select().local_set(drop);
        put.local_get(high).i64_const(64).local_get(drop).i64_sub().i64_shl();
        put.local_get(low).local_get(drop).i64_shr_u().i64_or();
        put.local_get(low).i64_eqz().i32_eqz().i64_extend_i32_u().i64_or().local_set(low);
        put.i64_const(1).local_get(drop).i64_shl().local_set(unit);
        put.i64_const(0).local_get(unit).i64_sub().local_get(high).i64_and().local_set(high);
    }
}
