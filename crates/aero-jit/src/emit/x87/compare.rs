//! Comparisons.

use super::{EXPONENT, Function, Number, X, Y};
use crate::emit::code::at;
use crate::x87::Source;
use aero_cpu::fpu::{Fpu, spec};
use core::mem::offset_of;

impl Function {
    /// Loads both operands, normal numbers or zeros.
    fn compared(&mut self, source: Source) -> (Number, Number) {
        let (a, b, index) = (self.number(), self.number(), self.i32());
        self.give_up_if_empty(self.top);
        self.load(self.top, a);
        if source == Source::Stack {
            self.register(X, index);
            self.load(index, b);
            self.give_up_if_special(b);
        } else {
            self.widen(source, b);
        }
        self.give_up_if_special(a);
        (a, b)
    }

    /// The locals that say whether the first is less, and whether they are equal.
    fn ordered(&mut self, source: Source) -> (u32, u32) {
        let (a, b) = self.compared(source);
        let [less, equal, smaller, greater, sign] = [0; 5].map(|_| self.i32());
        self.by_size(a, b, smaller);
        self.by_size(b, a, greater);
        let mut put = self.code.put();
        put.local_get(a.sign_exp).i32_const(15).i32_shr_u().local_set(sign);
        put.local_get(a.sign_exp).local_get(b.sign_exp).i32_xor().i32_const(15).i32_shr_u().local_set(equal);
        // Of different signs the negative is less, unless both are zero.
        put.local_get(sign)
            .local_get(a.mantissa)
            .local_get(b.mantissa)
            .i64_or()
            .i64_eqz()
            .i32_eqz()
            .i32_and();
        put.local_get(greater).local_get(smaller).local_get(sign).select().local_get(equal).select();
        put.local_set(less);
        put.local_get(equal).local_get(smaller).i32_or().local_get(greater).i32_or().i32_eqz();
        put.local_get(a.mantissa).local_get(b.mantissa).i64_or().i64_eqz().i32_or().local_set(equal);
        (less, equal)
    }

    /// Sets `into` to whether the magnitude of `a` is less than that of `b`.
    fn by_size(&mut self, a: Number, b: Number, into: u32) {
        let [x, y] = [0; 2].map(|_| self.i32());
        let mut put = self.code.put();
        put.local_get(a.sign_exp).i32_const(EXPONENT).i32_and().local_tee(x);
        put.local_get(b.sign_exp).i32_const(EXPONENT).i32_and().local_tee(y).i32_lt_u();
        put.local_get(x).local_get(y).i32_eq();
        put.local_get(a.mantissa).local_get(b.mantissa).i64_lt_u().i32_and().i32_or().local_set(into);
    }

    /// FCOM and FUCOM.
    pub(super) fn compare(&mut self, source: Source) {
        let (less, equal) = self.ordered(source);
        let status = self.fpu + offset_of!(Fpu, status) as u32;
        let kept = !i32::from(spec::C0 | spec::C1 | spec::C2 | spec::C3);
        let mut put = self.code.put();
        put.i32_const(0).local_get(self.status).i32_const(kept).i32_and();
        put.local_get(less).i32_const(spec::C0.trailing_zeros() as i32).i32_shl().i32_or();
        put.local_get(equal).i32_const(spec::C3.trailing_zeros() as i32).i32_shl().i32_or();
        put.i32_store16(at(status, 1)).local_get(Y);
        self.pop_times();
        self.done();
    }

    /// FCOMI and FUCOMI, which leave the status word alone.
    pub(super) fn order(&mut self) {
        let (less, equal) = self.ordered(Source::Stack);
        self.code.put().local_get(Y);
        self.pop_times();
        let mut put = self.code.put();
        put.i32_const(1).local_get(less).i32_const(1).i32_shl().i32_or();
        put.local_get(equal).i32_const(2).i32_shl().i32_or().end();
    }
}
