//! Registers become doubles.

use super::{EXPONENT, Function, J, PE, SIGN, X, Y};
use crate::emit::code::at;
use crate::job::Env;
use aero_cpu::jit::x87::LazyX87;
use aero_cpu::state::CpuState;
use core::mem::offset_of;
use wasm_encoder::BlockType;

/// The exponent of the smallest normal double, less 1, as registers have it.
const BELOW: i32 = 0x3fff - 1023;
/// What the control word must be like: 53 bits, to nearest, an inexact result masked.
pub(in crate::emit) const CONTROL: i32 = 0x200 | PE;
/// Which those are.
pub(in crate::emit) const CONTROL_BITS: i32 = 0xf00 | PE;

impl Function {
    /// See [`crate::ir::Inst::EnterX87`]; the region has looked at the control word and at CR0.
    pub(super) fn enter(&mut self, env: &Env) {
        self.code.put().local_get(self.status).i32_const(PE).i32_and().i32_eqz();
        let tags = self.tags;
        // The tags counted from TOP.
        let mut put = self.code.put();
        put.local_get(tags).local_get(tags).i32_const(8).i32_shl().i32_or().local_get(self.top).i32_shr_u();
        put.local_get(X).i32_const(8).i32_shr_u().i32_and().local_get(X).i32_const(0xff).i32_and().i32_ne();
        put.i32_or();
        self.give_up_if();
        self.doubles(env.state + offset_of!(CpuState, lazy_x87) as u32);
        self.done();
    }

    /// Writes the registers *y* as doubles, or gives up.
    fn doubles(&mut self, lazy: u32) {
        let (index, n, value) = (self.i32(), self.i32(), self.number());
        let exp = self.i32();
        self.code.put().loop_(BlockType::Empty);
        self.code.put().local_get(Y).i32_const(1).i32_and().if_(BlockType::Empty);
        self.code.put().local_get(n);
        self.physical(index);
        self.load(index, value);
        let mut put = self.code.put();
        put.local_get(value.mantissa).i64_eqz().if_(BlockType::Empty);
        put.local_get(value.sign_exp).i32_const(EXPONENT).i32_and();
        self.give_up_if();
        self.code.put().else_();
        let mut put = self.code.put();
        put.local_get(value.sign_exp).i32_const(EXPONENT).i32_and().i32_const(BELOW).i32_sub();
        put.local_tee(exp).i32_const(1).i32_sub().i32_const(0x7fe).i32_ge_u();
        put.local_get(value.mantissa).i64_const(0).i64_ge_s().i32_or();
        put.local_get(value.mantissa).i64_const(0x7ff).i64_and().i64_eqz().i32_eqz().i32_or();
        self.give_up_if();
        let mut put = self.code.put();
        put.local_get(value.mantissa).i64_const(!J).i64_and().i64_const(11).i64_shr_u();
        put.local_get(exp)
            .i64_extend_i32_u()
            .i64_const(52)
            .i64_shl()
            .i64_or()
            .local_set(value.mantissa)
            .end();
        put.local_get(n).i32_const(3).i32_shl().local_get(value.mantissa);
        put.local_get(value.sign_exp).i32_const(SIGN).i32_and().i64_extend_i32_u().i64_const(48).i64_shl();
        put.i64_or().i64_store(at(lazy + offset_of!(LazyX87, values) as u32, 3)).end();
        put.local_get(n).i32_const(1).i32_add().local_set(n);
        put.local_get(Y).i32_const(1).i32_shr_u().local_tee(Y).br_if(0).end();
    }
}
