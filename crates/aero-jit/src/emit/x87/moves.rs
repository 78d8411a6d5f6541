//! Loads, stores and what only moves numbers.

use super::{C1, EXPONENT, Function, J, Number, PE, SIGN, VALUE, X, Y};
use crate::emit::code::at;
use crate::x87::Source;
use wasm_encoder::BlockType;

impl Function {
    /// Pushes a number, if there is room.
    fn push(&mut self, value: Number) {
        let index = self.i32();
        self.code.put().i32_const(7);
        self.physical(index);
        self.code.put().local_get(self.tags).local_get(index).i32_shr_u().i32_const(1).i32_and();
        self.give_up_if();
        self.code.put().local_get(index).local_set(self.top);
        self.code.put().i32_const(1).local_get(index).i32_shl().local_get(self.tags).i32_or();
        self.code.put().local_set(self.tags);
        self.store_stack();
        self.store_status(None);
        self.store(index, value);
        self.done();
    }

    pub(super) fn push_memory(&mut self, source: Source) {
        let value = self.number();
        self.widen(source, value);
        self.push(value);
    }

    pub(super) fn push_integer(&mut self) {
        let value = self.number();
        let (magnitude, shift) = (self.i64(), self.i64());
        let mut put = self.code.put();
        put.local_get(VALUE).i64_eqz().if_(BlockType::Empty);
        put.else_();
        put.i64_const(0).local_get(VALUE).i64_sub().local_get(VALUE);
        put.local_get(VALUE).i64_const(0).i64_lt_s().select().local_tee(magnitude);
        put.local_get(magnitude).i64_clz().local_tee(shift).i64_shl().local_set(value.mantissa);
        put.i32_const(0x3fff + 63).local_get(shift).i32_wrap_i64().i32_sub();
        put.local_get(VALUE).i64_const(48).i64_shr_u().i32_wrap_i64().i32_const(SIGN).i32_and();
        put.i32_or().local_set(value.sign_exp).end();
        self.push(value);
    }

    pub(super) fn push_stack(&mut self) {
        let (index, value) = (self.i32(), self.number());
        self.register(X, index);
        self.load(index, value);
        self.push(value);
    }

    pub(super) fn exchange(&mut self) {
        let (first, second) = (self.i32(), self.i32());
        let (a, b) = (self.number(), self.number());
        self.code.put().local_get(self.top).local_set(first);
        self.give_up_if_empty(first);
        self.register(X, second);
        self.load(first, a);
        self.load(second, b);
        self.store(first, b);
        self.store(second, a);
        self.store_status(None);
        self.done();
    }

    pub(super) fn copy(&mut self) {
        let (index, value) = (self.i32(), self.number());
        self.give_up_if_empty(self.top);
        self.load(self.top, value);
        self.code.put().local_get(X);
        self.physical(index);
        self.store(index, value);
        self.code.put().i32_const(1).local_get(index).i32_shl().local_get(self.tags).i32_or();
        self.code.put().local_set(self.tags);
        self.store_stack();
        self.store_status(None);
        self.code.put().local_get(Y);
        self.pop_times();
        self.done();
    }

    pub(super) fn sign(&mut self) {
        let value = self.number();
        self.give_up_if_empty(self.top);
        self.load(self.top, value);
        self.code.put().local_get(value.sign_exp).local_get(X).i32_and().local_get(Y).i32_xor();
        self.code.put().local_set(value.sign_exp);
        self.store(self.top, value);
        self.store_status(None);
        self.done();
    }

    /// Sets `flags` to what rounding off `rest`, a fraction of 2^64, sets: PE, and C1 if `up`.
    pub(super) fn rounding_flags(&mut self, rest: u32, up: u32, flags: u32) {
        let mut put = self.code.put();
        put.local_get(up).i32_const(C1.trailing_zeros() as i32).i32_shl();
        put.local_get(rest).i64_eqz().i32_eqz().i32_const(PE.trailing_zeros() as i32).i32_shl();
        put.i32_or().local_set(flags);
    }

    /// Puts whether the fraction `rest` of 2^64 rounds up to nearest on the stack; `unit` of `kept` is its lowest bit.
    pub(super) fn rounds_up(&mut self, kept: u32, rest: u32, unit: impl FnOnce(&mut Self)) {
        self.code.put().local_get(rest).i64_const(J).i64_gt_u();
        self.code.put().local_get(rest).i64_const(J).i64_eq().local_get(kept);
        unit(self);
        self.code.put().i64_and().i64_eqz().i32_eqz().i32_and().i32_or();
    }

    /// FST to memory as a float of `size` bytes.
    pub(super) fn put_float(&mut self, size: u8) {
        let (fraction, exp_max, bias) = if size == 8 { (52, 0x7ff, 1023) } else { (23, 0xff, 127) };
        let (value, exp, flags, up) = (self.number(), self.i32(), self.i32(), self.i32());
        let (kept, rest) = (self.i64(), self.i64());
        // Rounding to nearest, and nothing happens when the result is inexact.
        self.control();
        self.code.put().i32_const(0xc00 | PE).i32_and().i32_const(PE).i32_ne();
        self.give_up_if();
        self.give_up_if_empty(self.top);
        self.load(self.top, value);
        self.is_zero(value);
        self.code.put().if_(BlockType::Empty).else_();
        self.is_normal(value);
        self.code.put().i32_eqz();
        self.give_up_if();
        let mut put = self.code.put();
        put.local_get(value.mantissa).i64_const(63 - fraction).i64_shr_u().local_set(kept);
        put.local_get(value.mantissa).i64_const(fraction + 1).i64_shl().local_set(rest);
        self.rounds_up(kept, rest, |f| _ = f.code.put().i64_const(1));
        let mut put = self.code.put();
        put.local_tee(up).i64_extend_i32_u().local_get(kept).i64_add().local_set(kept);
        put.local_get(value.sign_exp).i32_const(EXPONENT).i32_and().i32_const(0x3fff - bias).i32_sub();
        put.local_get(kept).i64_const(fraction + 1).i64_shr_u().i32_wrap_i64().i32_add().local_tee(exp);
        put.i32_const(1).i32_sub().i32_const(exp_max - 1).i32_ge_u();
        self.give_up_if();
        self.rounding_flags(rest, up, flags);
        let mut put = self.code.put();
        put.local_get(kept).i64_const((1 << fraction) - 1).i64_and();
        put.local_get(exp).i64_extend_i32_u().i64_const(fraction).i64_shl().i64_or().local_set(kept).end();
        put.local_get(VALUE).i32_wrap_i64().local_get(kept);
        put.local_get(value.sign_exp).i32_const(SIGN).i32_and().i64_extend_i32_u();
        put.i64_const(i64::from(size) * 8 - 16).i64_shl().i64_or();
        match size {
            8 => put.i64_store(at(0, 0)),
            _ => put.i64_store32(at(0, 0)),
        };
        self.store_status(Some(flags));
        self.code.put().local_get(X);
        self.pop_times();
        self.done();
    }

    /// FIST and FISTTP.
    pub(super) fn put_integer(&mut self) {
        let (value, exp, flags, up) = (self.number(), self.i32(), self.i32(), self.i32());
        let (kept, rest, truncates) = (self.i64(), self.i64(), self.i32());
        // To nearest or toward zero, and nothing happens when the result is inexact.
        let control = self.i32();
        self.control();
        let mut put = self.code.put();
        put.i32_const(0xc00 | PE).i32_and().local_tee(control).i32_const(0xc00 | PE).i32_eq();
        put.local_get(X).i32_const(1).i32_shr_u();
        put.local_get(control).i32_const(PE.trailing_zeros() as i32).i32_shr_u().i32_and().i32_or();
        put.local_tee(truncates).local_get(control).i32_const(PE).i32_eq().i32_or().i32_eqz();
        self.give_up_if();
        self.give_up_if_empty(self.top);
        self.load(self.top, value);
        self.is_zero(value);
        self.code.put().if_(BlockType::Empty).else_();
        self.is_normal(value);
        self.code.put().i32_eqz();
        self.give_up_if();
        self.integer_parts(value, exp, kept, rest);
        self.rounds_up(kept, rest, |f| _ = f.code.put().i64_const(1));
        let mut put = self.code.put();
        put.local_get(truncates).i32_eqz().i32_and().local_tee(up);
        put.i64_extend_i32_u().local_get(kept).i64_add().local_tee(kept);
        // What needs all bits is left to the interpreter, the most negative number too.
        put.local_get(Y).i32_const(3).i32_shl().i32_const(1).i32_sub().i64_extend_i32_u().i64_shr_u();
        put.i64_eqz().i32_eqz();
        self.give_up_if();
        self.rounding_flags(rest, up, flags);
        let mut put = self.code.put();
        put.i64_const(0).local_get(kept).i64_sub().local_get(kept);
        put.local_get(value.sign_exp).i32_const(SIGN).i32_and().select().local_set(kept).end();
        put.local_get(Y).i32_const(2).i32_eq().if_(BlockType::Empty);
        put.local_get(VALUE).i32_wrap_i64().local_get(kept).i64_store16(at(0, 0)).else_();
        put.local_get(Y).i32_const(4).i32_eq().if_(BlockType::Empty);
        put.local_get(VALUE).i32_wrap_i64().local_get(kept).i64_store32(at(0, 0)).else_();
        put.local_get(VALUE).i32_wrap_i64().local_get(kept).i64_store(at(0, 0)).end().end();
        self.store_status(Some(flags));
        self.code.put().local_get(X).i32_const(1).i32_and();
        self.pop_times();
        self.done();
    }

    /// The whole part of a normal number below 2^63, and the fraction of 2^64 that follows it.
    fn integer_parts(&mut self, value: Number, exp: u32, kept: u32, rest: u32) {
        let mut put = self.code.put();
        put.local_get(value.sign_exp)
            .i32_const(EXPONENT)
            .i32_and()
            .i32_const(0x3fff)
            .i32_sub()
            .local_tee(exp);
        put.i32_const(62).i32_gt_s();
        self.give_up_if();
        let mut put = self.code.put();
        put.local_get(exp).i32_const(0).i32_ge_s().if_(BlockType::Empty);
        put.local_get(value.mantissa).i32_const(63).local_get(exp).i32_sub().i64_extend_i32_u().i64_shr_u();
        put.local_set(kept);
        put.local_get(value.mantissa).local_get(exp).i32_const(1).i32_add().i64_extend_i32_u().i64_shl();
        put.local_set(rest).else_();
        put.local_get(value.mantissa).i64_const(1).local_get(exp).i32_const(-1).i32_eq().select();
        put.local_set(rest).end();
    }
}
