//! The functions of [`crate::x87`], instruction by instruction.
//!
//! All have the type `(x: i32, y: i32, value: i64) -> i32`. They look first and change the state last, so that they can
//! give up anywhere on the way by returning 0.
//!
//! Numbers are in pairs of locals: significand (I64), and sign and exponent as the register has them (I32). An exact
//! result is an exponent and 128 bits in two locals, of which the highest is set, and the lowest also says that more
//! followed; [`Function::pack`] rounds it. This is the arithmetic of `aero_cpu::fpu::f80`.

mod arith;
mod compare;
mod enter;
mod moves;

pub(super) use enter::{CONTROL, CONTROL_BITS};

use crate::emit::Made;
use crate::emit::code::{Code, Mostly, at};
use crate::ir::Type;
use crate::job::Env;
use crate::x87::{Source, X87};
use aero_cpu::fpu::{F80, Fpu, spec};
use aero_cpu::state::CpuState;
use core::mem::offset_of;
use wasm_encoder::{BlockType, ValType};

/// Parameters.
pub(super) const SIGNATURE: (&[ValType], ValType) =
    (&[ValType::I32, ValType::I32, ValType::I64], ValType::I32);
const X: u32 = 0;
const Y: u32 = 1;
const VALUE: u32 = 2;

/// The integer bit of a significand.
const J: i64 = i64::MIN;
const EXPONENT: i32 = 0x7fff;
const SIGN: i32 = 0x8000;
const PE: i32 = spec::PE as i32;
const C1: i32 = spec::C1 as i32;

/// A number in locals.
#[derive(Clone, Copy)]
struct Number {
    /// I64.
    mantissa: u32,
    /// I32.
    sign_exp: u32,
}

/// A function under construction.
struct Function {
    code: Code,
    /// Arena offset of the [`Fpu`].
    fpu: u32,
    /// I32 locals of its fields.
    status: u32,
    top: u32,
    tags: u32,
}

/// The function of an operation.
pub(super) fn function(op: X87, env: &Env) -> Option<Made> {
    let mut code = Code::new(3);
    let [status, top, tags] = [0; 3].map(|_| code.local(Type::I32));
    let fpu = env.state.checked_add(offset_of!(CpuState, fpu) as u32)?;
    let mut f = Function { code, fpu, status, top, tags };
    f.begin();
    match op {
        X87::PushInteger => f.push_integer(),
        X87::PushDouble => f.push_memory(Source::Double),
        X87::PushSingle => f.push_memory(Source::Single),
        X87::PushStack => f.push_stack(),
        X87::Exchange => f.exchange(),
        X87::Copy => f.copy(),
        X87::Sign => f.sign(),
        X87::PutDouble => f.put_float(8),
        X87::PutSingle => f.put_float(4),
        X87::PutInteger => f.put_integer(),
        X87::Arith(arith, source) => f.arith(arith, source),
        X87::Compare(source) => f.compare(source),
        X87::Order => f.order(),
        X87::Enter => f.enter(env),
    }
    Some(f.code.finish())
}

/// What all are built from.
impl Function {
    fn i32(&mut self) -> u32 {
        self.code.local(Type::I32)
    }

    fn i64(&mut self) -> u32 {
        self.code.local(Type::I64)
    }

    fn number(&mut self) -> Number {
        Number { mantissa: self.i64(), sign_exp: self.i32() }
    }

    fn field(&self, offset: usize) -> u32 {
        self.fpu + offset as u32
    }

    /// Loads status, top and tags; gives up if an exception waits.
    fn begin(&mut self) {
        let [status, top, tags] =
            [offset_of!(Fpu, status), offset_of!(Fpu, top), offset_of!(Fpu, tags)].map(|at| self.field(at));
        self.code.put().i32_const(0).i32_load16_u(at(status, 0)).local_set(self.status);
        self.code.put().i32_const(0).i32_load8_u(at(top, 0)).local_set(self.top);
        self.code.put().i32_const(0).i32_load8_u(at(tags, 0)).local_set(self.tags);
        self.code.put().local_get(self.status).i32_const(spec::ES.into()).i32_and();
        self.give_up_if();
    }

    /// Puts the control word on the stack.
    fn control(&mut self) {
        let control = self.field(offset_of!(Fpu, control));
        self.code.put().i32_const(0).i32_load16_u(at(control, 0));
    }

    /// Returns 0 if what is on the stack is not 0.
    fn give_up_if(&mut self) {
        self.code.if_(BlockType::Empty, Mostly::NotTaken);
        self.code.put().i32_const(0).return_().end();
    }

    /// Ends the function: it is done.
    fn done(&mut self) {
        self.code.put().i32_const(1).end();
    }

    /// Sets `index` to the number of the register `TOP + n`, where `n` is on the stack.
    fn physical(&mut self, index: u32) {
        self.code.put().local_get(self.top).i32_add().i32_const(7).i32_and().local_set(index);
    }

    /// Sets `index` to the number of ST(x) or ST(y), and gives up if it is empty.
    fn register(&mut self, parameter: u32, index: u32) {
        self.code.put().local_get(parameter);
        self.physical(index);
        self.give_up_if_empty(index);
    }

    fn give_up_if_empty(&mut self, index: u32) {
        self.code.put().local_get(self.tags).local_get(index).i32_shr_u().i32_const(1).i32_and().i32_eqz();
        self.give_up_if();
    }

    /// Puts the distance of a register from R0 on the stack.
    fn distance(&mut self, index: u32) {
        let shift = size_of::<F80>().trailing_zeros() as i32;
        self.code.put().local_get(index).i32_const(shift).i32_shl();
    }

    fn load(&mut self, index: u32, into: Number) {
        let from = self.fpu + offset_of!(Fpu, st) as u32;
        self.distance(index);
        let mantissa = from + offset_of!(F80, mantissa) as u32;
        self.code.put().i64_load(at(mantissa, 3)).local_set(into.mantissa);
        self.distance(index);
        let sign_exp = from + offset_of!(F80, sign_exp) as u32;
        self.code.put().i32_load16_u(at(sign_exp, 1)).local_set(into.sign_exp);
    }

    fn store(&mut self, index: u32, value: Number) {
        let to = self.fpu + offset_of!(Fpu, st) as u32;
        self.distance(index);
        let mantissa = to + offset_of!(F80, mantissa) as u32;
        self.code.put().local_get(value.mantissa).i64_store(at(mantissa, 3));
        self.distance(index);
        let sign_exp = to + offset_of!(F80, sign_exp) as u32;
        self.code.put().local_get(value.sign_exp).i32_store16(at(sign_exp, 1));
    }

    /// Stores the status with C1 clear, and with the bits in a local if there are some.
    fn store_status(&mut self, flags: Option<u32>) {
        let status = self.field(offset_of!(Fpu, status));
        self.code.put().i32_const(0).local_get(self.status).i32_const(!C1).i32_and();
        if let Some(flags) = flags {
            self.code.put().local_get(flags).i32_or();
        }
        self.code.put().i32_store16(at(status, 1));
    }

    fn store_stack(&mut self) {
        let [top, tags] = [offset_of!(Fpu, top), offset_of!(Fpu, tags)].map(|at| self.field(at));
        self.code.put().i32_const(0).local_get(self.top).i32_store8(at(top, 0));
        self.code.put().i32_const(0).local_get(self.tags).i32_store8(at(tags, 0));
    }

    /// Pops as often as is on the stack: not at all, once or twice.
    fn pop_times(&mut self) {
        let times = self.i32();
        self.code.put().local_tee(times);
        self.code.put().if_(BlockType::Empty);
        // The registers that become empty, as bits from TOP on, around the end.
        let bits = self.i32();
        self.code.put().i32_const(1).local_get(times).i32_shl().i32_const(1).i32_sub();
        self.code.put().local_get(self.top).i32_shl().local_tee(bits);
        self.code.put().local_get(bits).i32_const(8).i32_shr_u().i32_or().i32_const(-1).i32_xor();
        self.code.put().local_get(self.tags).i32_and().local_set(self.tags);
        self.code.put().local_get(times);
        self.physical(self.top);
        self.store_stack();
        self.code.put().end();
    }

    /// Puts whether a number is normal on the stack.
    fn is_normal(&mut self, n: Number) {
        self.code.put().local_get(n.sign_exp).i32_const(EXPONENT).i32_and().i32_const(1).i32_sub();
        self.code.put().i32_const(EXPONENT - 1).i32_lt_u();
        self.code.put().local_get(n.mantissa).i64_const(0).i64_lt_s().i32_and();
    }

    /// Puts whether a number is zero on the stack.
    fn is_zero(&mut self, n: Number) {
        self.code.put().local_get(n.mantissa).i64_eqz();
        self.code.put().local_get(n.sign_exp).i32_const(EXPONENT).i32_and().i32_eqz().i32_and();
    }

    /// Gives up unless a number is normal or zero.
    fn give_up_if_special(&mut self, n: Number) {
        self.is_normal(n);
        self.is_zero(n);
        self.code.put().i32_or().i32_eqz();
        self.give_up_if();
    }

    /// Widens *value*, a normal number or zero, or gives up.
    fn widen(&mut self, source: Source, into: Number) {
        let (exp_bits, size) = if source == Source::Single { (8, 32) } else { (11, 64) };
        let fraction = size - 1 - exp_bits;
        let bias = (1 << (exp_bits - 1)) - 1;
        let exp = self.i32();
        let mut put = self.code.put();
        // The sign, where the register has it.
        put.local_get(VALUE).i64_const(size - 16).i64_shr_u().i32_wrap_i64();
        put.i32_const(SIGN).i32_and().local_set(into.sign_exp);
        put.local_get(VALUE).i64_const(65 - size).i64_shl().i64_eqz().if_(BlockType::Empty);
        put.i64_const(0).local_set(into.mantissa).else_();
        put.local_get(VALUE).i64_const(fraction).i64_shr_u().i32_wrap_i64();
        put.i32_const((1 << exp_bits) - 1).i32_and().local_tee(exp);
        put.i32_const(1).i32_sub().i32_const((1 << exp_bits) - 2).i32_ge_u();
        self.give_up_if();
        let mut put = self.code.put();
        put.local_get(VALUE)
            .i64_const(63 - fraction)
            .i64_shl()
            .i64_const(J)
            .i64_or()
            .local_set(into.mantissa);
        put.local_get(into.sign_exp).local_get(exp).i32_const(i32::from(0x3fffu16) - bias).i32_add();
        put.i32_or().local_set(into.sign_exp).end();
    }
}
