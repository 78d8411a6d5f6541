//! The x87 floating-point unit.
//!
//! [`Fpu`] is the programmer's state as plain data, and one method per instruction with the complete
//! semantics: stack faults, exceptions, masked and unmasked responses, condition codes, pops. It knows
//! nothing of decoding, memory or interrupts. The interpreter
//!
//! 1. checks [`Fpu::pending_exception`] before each waiting instruction (then it raises #MF),
//! 2. reads memory operands itself and hands over bits,
//! 3. for stores asks for a [`Store`], writes its bits (which may fault and leave everything as it was),
//!    then calls [`Fpu::finish_store`],
//! 4. records the instruction with [`Fpu::set_pointers`].
//!
//! Exceptions are recorded in the status word. IE, DE and ZE are found before the operation: unmasked,
//! they leave operands and stack untouched. OE, UE and PE are found after it: unmasked, a register still
//! receives its (bias-adjusted) result, while memory is not written for OE and UE.
//!
//! Of the tag word only "empty or not" is kept, as FXSAVE shows it; the other tags are a function of the
//! register's contents. Behaviour the manual leaves undefined follows Intel processors, against which
//! `oracle.rs` compares whole register images.
//! Source: Intel SDM volume 1 chapter 8, and the instruction pages of volume 2.

#[cfg(test)]
mod accuracy;
pub mod convert;
pub mod f80;
pub mod image;
#[cfg(all(test, target_arch = "x86_64"))]
mod oracle;
#[cfg(test)]
mod tests;
pub mod transcendental;
mod wide;

pub use convert::Operand;
pub use f80::F80;
pub use image::{ENV_MAX, Format, SAVE_MAX};
pub use transcendental::Constant;

use convert::Narrowed;
use f80::{Class, Env, Order, Outcome, Remainder};

/// Status and control word bits (SDM 1, figures 8-4 and 8-6).
pub mod spec {
    /// Invalid operation.
    pub const IE: u16 = 1 << 0;
    /// Denormal operand.
    pub const DE: u16 = 1 << 1;
    /// Division of a finite number by zero.
    pub const ZE: u16 = 1 << 2;
    /// Overflow.
    pub const OE: u16 = 1 << 3;
    /// Underflow.
    pub const UE: u16 = 1 << 4;
    /// Inexact result.
    pub const PE: u16 = 1 << 5;
    /// The invalid operation was a stack fault.
    pub const SF: u16 = 1 << 6;
    /// Summary: an unmasked exception is pending.
    pub const ES: u16 = 1 << 7;
    /// Condition code 0.
    pub const C0: u16 = 1 << 8;
    /// Condition code 1: stack overflow (not underflow), or "rounded up".
    pub const C1: u16 = 1 << 9;
    /// Condition code 2: unordered, or reduction incomplete.
    pub const C2: u16 = 1 << 10;
    /// Condition code 3.
    pub const C3: u16 = 1 << 14;
    /// Busy; mirrors ES.
    pub const B: u16 = 1 << 15;
    /// The six exception flags, and their masks in the control word.
    pub const EXCEPTIONS: u16 = 0x3F;
    /// Where the status word shows the top of stack.
    pub const TOP_SHIFT: u32 = 11;
    /// The top-of-stack field.
    pub const TOP: u16 = 7 << TOP_SHIFT;
    /// The control word after FNINIT: everything masked, nearest, 64 bits.
    pub const CONTROL_INIT: u16 = 0x037F;
    /// Control word bits that can be set; bit 6 reads as one.
    pub const CONTROL_WRITABLE: u16 = 0x1F3F;
    /// The control word bit that always reads as one.
    pub const CONTROL_ONE: u16 = 0x0040;
    /// Bits of the last-instruction opcode register.
    pub const FOP_MASK: u16 = 0x07FF;
}
use spec::*;

/// The x87 state. Plain data: it lies inside the CPU's state block, which compiled code addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Fpu {
    /// The registers R0 to R7 in physical order; their significands are MM0 to MM7.
    pub st: [F80; 8],
    /// The control word.
    pub control: u16,
    /// The status word with a TOP field of zero; [`Fpu::status_word`] completes it.
    pub status: u16,
    /// Number of the register that is ST(0), 0 to 7.
    pub top: u8,
    /// One bit per physical register: set when it is not empty.
    pub tags: u8,
    /// Opcode of the last non-control instruction (11 bits).
    pub fop: u16,
    /// Code segment of the last non-control instruction.
    pub fcs: u16,
    /// Segment of its memory operand.
    pub fds: u16,
    /// Address of the last non-control instruction.
    pub fip: u64,
    /// Address of its memory operand.
    pub fdp: u64,
}

impl Default for Fpu {
    fn default() -> Fpu {
        Fpu {
            st: [F80::ZERO; 8],
            control: CONTROL_INIT,
            status: 0,
            top: 0,
            tags: 0,
            fop: 0,
            fcs: 0,
            fds: 0,
            fip: 0,
            fdp: 0,
        }
    }
}

/// The six basic operations: `dst = dst op src`, or `src op dst` for the reversed two.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Arith {
    /// FADD, FADDP, FIADD.
    Add,
    /// FMUL, FMULP, FIMUL.
    Mul,
    /// FSUB, FSUBP, FISUB.
    Sub,
    /// FSUBR, FSUBRP, FISUBR.
    SubR,
    /// FDIV, FDIVP, FIDIV.
    Div,
    /// FDIVR, FDIVRP, FIDIVR.
    DivR,
}

impl Arith {
    #[inline(always)]
    fn apply(self, dst: F80, src: F80, env: Env) -> Outcome {
        match self {
            Arith::Add => f80::add(dst, src, env),
            Arith::Mul => f80::mul(dst, src, env),
            Arith::Sub => f80::sub(dst, src, env),
            Arith::SubR => f80::sub(src, dst, env),
            Arith::Div => f80::div(dst, src, env),
            Arith::DivR => f80::div(src, dst, env),
        }
    }
}

/// Which comparison: they differ in what a quiet NaN raises.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compare {
    /// FCOM, FCOMI, FICOM, FTST: IE for every NaN.
    Ordered,
    /// FUCOM, FUCOMI: IE for signalling NaNs only.
    Unordered,
}

/// The EFLAGS bits of FCOMI and FUCOMI; OF, SF and AF become zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CompareFlags {
    /// Equal or unordered.
    pub zf: bool,
    /// Unordered.
    pub pf: bool,
    /// Less or unordered.
    pub cf: bool,
}

/// What a store instruction writes. Write `bits` first, then pass `effect` to [`Fpu::finish_store`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Store<T> {
    /// The bits for memory; None when an unmasked exception suppresses the store.
    pub bits: Option<T>,
    /// What happens to the FPU once memory has been written.
    pub effect: Effect,
}

/// The pending half of a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Effect {
    flags: u16,
    stored: bool,
}

/// One of the functions of a single operand in ST(0).
type Function = fn(F80, Env) -> Outcome;

// ---- the register stack ----

impl Fpu {
    #[inline]
    fn physical(&self, i: u8) -> usize {
        (self.top.wrapping_add(i) & 7) as usize
    }

    #[inline]
    fn in_use(&self, i: u8) -> bool {
        self.tags >> self.physical(i) & 1 != 0
    }

    /// The contents of ST(i), empty or not.
    #[inline(always)]
    pub fn st(&self, i: u8) -> F80 {
        self.st[self.physical(i)]
    }

    /// Writes ST(i) and marks it used.
    #[inline(always)]
    pub fn set_st(&mut self, i: u8, value: F80) {
        let index = self.physical(i);
        self.st[index] = value;
        self.tags |= 1 << index;
    }

    #[inline]
    fn pop(&mut self) {
        self.tags &= !(1 << self.physical(0));
        self.top = self.top.wrapping_add(1) & 7;
    }

    fn pop_times(&mut self, pops: u8) {
        for _ in 0..pops {
            self.pop();
        }
    }

    #[inline]
    fn push_unchecked(&mut self, value: F80) {
        self.top = self.top.wrapping_sub(1) & 7;
        self.set_st(0, value);
    }

    #[inline(always)]
    fn env(&self) -> Env {
        Env::from_control(self.control)
    }

    // ---- exceptions ----

    /// Sets the condition codes `codes` among those in `which`.
    #[inline]
    fn set_codes(&mut self, which: u16, codes: u16) {
        self.status = self.status & !which | codes & which;
    }

    /// Records exceptions and C1. True when the result may be delivered: no unmasked IE, DE or ZE.
    #[inline(always)]
    fn raise(&mut self, flags: u16) -> bool {
        self.status &= !C1;
        if flags == 0 {
            return true;
        }
        self.raise_some(flags)
    }

    fn raise_some(&mut self, flags: u16) -> bool {
        let unmasked = flags & !self.control & EXCEPTIONS;
        let delivered = unmasked & (IE | DE | ZE) == 0;
        let mut recorded = flags & (EXCEPTIONS | SF | C1);
        if !delivered {
            recorded &= IE | DE | ZE | SF | if flags & SF != 0 { C1 } else { 0 };
        }
        self.status |= recorded;
        if unmasked != 0 {
            self.status |= ES | B;
        }
        delivered
    }

    fn stack_underflow(&mut self) -> bool {
        self.raise(IE | SF)
    }

    fn stack_overflow(&mut self) -> bool {
        self.raise(IE | SF | C1)
    }

    /// Brings ES and B in line with flags and masks after either was written.
    fn update_summary(&mut self) {
        let pending = self.status & !self.control & EXCEPTIONS != 0;
        self.status &= !(ES | B);
        if pending {
            self.status |= ES | B;
        }
    }

    /// True when an unmasked exception waits: a waiting instruction then raises #MF instead.
    #[inline]
    pub fn pending_exception(&self) -> bool {
        self.status & ES != 0
    }

    // ---- arithmetic ----

    /// `ST(dst) = ST(dst) op ST(src)`, then optionally pops.
    #[inline(always)]
    pub fn arith_st(&mut self, op: Arith, dst: u8, src: u8, pop: bool) {
        if !(self.in_use(dst) && self.in_use(src)) {
            return self.underflow_into(dst, pop);
        }
        let outcome = op.apply(self.st(dst), self.st(src), self.env());
        self.deliver(dst, outcome, pop);
    }

    /// `ST(0) = ST(0) op src` with an operand from memory.
    #[inline(always)]
    pub fn arith(&mut self, op: Arith, src: Operand) {
        if !self.in_use(0) {
            return self.underflow_into(0, false);
        }
        let dst = self.st(0);
        let outcome = op.apply(dst, src.value, self.env());
        let de = if src.denormal && outcome.flags & (IE | ZE) == 0 && !dst.is_nan() { DE } else { 0 };
        self.deliver(0, outcome.with(de), false);
    }

    /// The masked response to an empty operand: indefinite.
    #[cold]
    fn underflow_into(&mut self, dst: u8, pop: bool) {
        if self.stack_underflow() {
            self.set_st(dst, F80::INDEFINITE);
            self.pop_times(pop as u8);
        }
    }

    #[inline(always)]
    fn deliver(&mut self, dst: u8, outcome: Outcome, pop: bool) {
        if self.raise(outcome.flags) {
            self.set_st(dst, outcome.value);
            if pop {
                self.pop();
            }
        }
    }

    fn one_operand(&mut self, function: Function) {
        if !self.in_use(0) {
            return self.underflow_into(0, false);
        }
        let outcome = function(self.st(0), self.env());
        self.deliver(0, outcome, false);
    }

    /// FSQRT.
    pub fn fsqrt(&mut self) {
        self.one_operand(f80::sqrt);
    }

    /// FRNDINT.
    pub fn frndint(&mut self) {
        self.one_operand(f80::round_to_integer);
    }

    /// FSCALE.
    pub fn fscale(&mut self) {
        if !(self.in_use(0) && self.in_use(1)) {
            return self.underflow_into(0, false);
        }
        let outcome = f80::scale(self.st(0), self.st(1), self.env());
        self.deliver(0, outcome, false);
    }

    /// FPREM.
    pub fn fprem(&mut self) {
        self.remainder(Remainder::Truncate);
    }

    /// FPREM1.
    pub fn fprem1(&mut self) {
        self.remainder(Remainder::Nearest);
    }

    fn remainder(&mut self, kind: Remainder) {
        self.set_codes(C2, 0);
        if !(self.in_use(0) && self.in_use(1)) {
            return self.underflow_into(0, false);
        }
        let outcome = f80::remainder(self.st(0), self.st(1), kind, self.env());
        if self.raise(outcome.flags & !C1) {
            self.set_st(0, outcome.value);
            if outcome.flags & IE == 0 && !self.st(0).is_nan() {
                self.set_codes(C0 | C1 | C2 | C3, outcome.flags);
            }
        }
    }

    /// FXTRACT: ST(0) becomes the exponent, then the significand is pushed.
    pub fn fxtract(&mut self) {
        if self.pair_fault() {
            return;
        }
        let (exponent, significand, flags) = f80::extract(self.st(0));
        if self.raise(flags) {
            self.set_st(0, exponent);
            self.push_unchecked(significand);
        }
    }

    /// Stack faults of instructions that replace ST(0) and push: true when one was handled.
    fn pair_fault(&mut self) -> bool {
        let empty = !self.in_use(0);
        if !empty && !self.in_use(7) {
            return false;
        }
        let masked = if empty { self.stack_underflow() } else { self.stack_overflow() };
        if masked {
            self.set_st(0, F80::INDEFINITE);
            self.push_unchecked(F80::INDEFINITE);
        }
        true
    }

    /// FABS.
    pub fn fabs(&mut self) {
        self.change_sign(|value| value.with_sign(false));
    }

    /// FCHS.
    pub fn fchs(&mut self) {
        self.change_sign(F80::negated);
    }

    fn change_sign(&mut self, change: fn(F80) -> F80) {
        if !self.in_use(0) {
            return self.underflow_into(0, false);
        }
        self.deliver(0, Outcome::exact(change(self.st(0))), false);
    }

    // ---- transcendental ----

    /// F2XM1.
    pub fn f2xm1(&mut self) {
        self.one_operand(transcendental::exp2_minus_1);
    }

    /// FYL2X: ST(1) = ST(1) · log₂ ST(0), pop.
    pub fn fyl2x(&mut self) {
        self.two_operands(transcendental::y_log2_x);
    }

    /// FYL2XP1: ST(1) = ST(1) · log₂ (ST(0) + 1), pop.
    pub fn fyl2xp1(&mut self) {
        self.two_operands(transcendental::y_log2_x_plus_1);
    }

    /// FPATAN: ST(1) = arctan(ST(1) / ST(0)), pop.
    pub fn fpatan(&mut self) {
        self.two_operands(transcendental::atan2);
    }

    fn two_operands(&mut self, function: fn(F80, F80, Env) -> Outcome) {
        if !(self.in_use(0) && self.in_use(1)) {
            return self.underflow_into(1, true);
        }
        let outcome = function(self.st(1), self.st(0), self.env());
        self.deliver(1, outcome, true);
    }

    /// FSIN.
    pub fn fsin(&mut self) {
        self.trigonometric(transcendental::sin);
    }

    /// FCOS.
    pub fn fcos(&mut self) {
        self.trigonometric(transcendental::cos);
    }

    fn trigonometric(&mut self, function: Function) {
        self.set_codes(C2, 0);
        if !self.in_use(0) {
            return self.underflow_into(0, false);
        }
        let outcome = function(self.st(0), self.env());
        self.set_codes(C2, outcome.flags);
        self.deliver(0, outcome, false);
    }

    /// FPTAN: ST(0) becomes its tangent, then 1.0 is pushed.
    pub fn fptan(&mut self) {
        self.trigonometric_pair(transcendental::tan, |_, _| Outcome::exact(F80::ONE));
    }

    /// FSINCOS: ST(0) becomes its sine, then the cosine is pushed.
    pub fn fsincos(&mut self) {
        self.trigonometric_pair(transcendental::sin, transcendental::cos);
    }

    /// C1 tells of the rounding that came last: the cosine's, or the tangent's before an exact 1.
    fn trigonometric_pair(&mut self, replace: Function, push: Function) {
        self.set_codes(C2, 0);
        if self.pair_fault() {
            return;
        }
        let (angle, env) = (self.st(0), self.env());
        let first = replace(angle, env);
        if first.flags & C2 != 0 {
            self.set_codes(C1 | C2, C2);
            return;
        }
        let second = if angle.is_nan() || first.flags & IE != 0 { first } else { push(angle, env) };
        let first_flags = if second.flags & PE != 0 { first.flags & !C1 } else { first.flags };
        if self.raise(first_flags | second.flags) {
            self.set_st(0, first.value);
            self.push_unchecked(second.value);
        }
    }

    // ---- comparison ----

    /// FCOM and FUCOM with ST(i), popping `pops` times (2 for FCOMPP and FUCOMPP).
    pub fn compare_st(&mut self, kind: Compare, i: u8, pops: u8) {
        if self.in_use(i) {
            self.compare(kind, self.st(i).into(), pops);
        } else {
            self.compare_underflow(pops);
        }
    }

    /// FCOM with an operand from memory.
    pub fn compare(&mut self, kind: Compare, src: Operand, pops: u8) {
        if !self.in_use(0) {
            return self.compare_underflow(pops);
        }
        let (order, flags) = compare_operands(kind, self.st(0), src);
        self.finish_compare(order, flags, pops);
    }

    fn compare_underflow(&mut self, pops: u8) {
        self.finish_compare(Order::Unordered, IE | SF, pops);
    }

    /// The condition codes change even where an unmasked exception prevents the pop.
    #[inline]
    fn finish_compare(&mut self, order: Order, flags: u16, pops: u8) {
        self.set_codes(C0 | C2 | C3, condition_codes(order));
        if self.raise(flags) {
            self.pop_times(pops);
        }
    }

    /// FTST.
    pub fn ftst(&mut self) {
        self.compare(Compare::Ordered, F80::ZERO.into(), 0);
    }

    /// FCOMI and FUCOMI with ST(i). EFLAGS change even under an unmasked exception, which only
    /// prevents the pop (the manual says otherwise; processors do this).
    pub fn compare_flags(&mut self, kind: Compare, i: u8, pop: bool) -> CompareFlags {
        let (order, flags) = if self.in_use(0) && self.in_use(i) {
            compare_operands(kind, self.st(0), self.st(i).into())
        } else {
            (Order::Unordered, IE | SF)
        };
        // C1 is cleared by a stack fault only.
        let kept = if flags & SF == 0 { self.status & C1 } else { 0 };
        let delivered = self.raise(flags);
        self.status |= kept;
        if delivered {
            self.pop_times(pop as u8);
        }
        let unordered = order == Order::Unordered;
        CompareFlags {
            zf: unordered || order == Order::Equal,
            pf: unordered,
            cf: unordered || order == Order::Less,
        }
    }

    /// FXAM: classifies ST(0) in the condition codes.
    pub fn fxam(&mut self) {
        let value = self.st(0);
        let class = if !self.in_use(0) {
            C3 | C0
        } else {
            match value.class() {
                Class::Unsupported => 0,
                Class::Quiet | Class::Signalling => C0,
                Class::Normal => C2,
                Class::Infinity => C2 | C0,
                Class::Zero => C3,
                Class::Denormal => C3 | C2,
            }
        };
        let sign = if value.is_negative() { C1 } else { 0 };
        self.set_codes(C0 | C1 | C2 | C3, class | sign);
    }

    // ---- loads and moves ----

    /// Pushes a value as it is: FLD m80, FILD, FBLD.
    #[inline]
    pub fn push(&mut self, value: F80) {
        if self.in_use(7) {
            return self.push_fault();
        }
        self.status &= !C1;
        self.push_unchecked(value);
    }

    #[cold]
    fn push_fault(&mut self) {
        if self.stack_overflow() {
            self.push_unchecked(F80::INDEFINITE);
        }
    }

    /// Pushes a single- or double-precision operand: signalling NaNs and denormals raise.
    #[inline]
    fn push_operand(&mut self, operand: Operand) {
        if self.in_use(7) {
            return self.push_fault();
        }
        let signalling = operand.value.class() == Class::Signalling;
        let delivered = self.raise(if signalling { IE } else { 0 } | if operand.denormal { DE } else { 0 });
        // A denormal is pushed even when DE is unmasked.
        if delivered || operand.denormal {
            self.push_unchecked(if signalling { operand.value.quieted() } else { operand.value });
        }
    }

    /// FLD m32fp.
    #[inline]
    pub fn load_f32(&mut self, bits: u32) {
        self.push_operand(Operand::from_f32(bits));
    }

    /// FLD m64fp.
    #[inline]
    pub fn load_f64(&mut self, bits: u64) {
        self.push_operand(Operand::from_f64(bits));
    }

    /// FLD m80fp.
    pub fn load_f80(&mut self, bytes: [u8; 10]) {
        self.push(F80::from_bytes(bytes));
    }

    /// FILD, any width (sign-extended by the caller).
    pub fn load_integer(&mut self, value: i64) {
        self.push(convert::from_i64(value));
    }

    /// FBLD.
    pub fn load_bcd(&mut self, bytes: [u8; 10]) {
        self.push(convert::from_bcd(bytes));
    }

    /// FLD1, FLDPI and the like.
    pub fn load_constant(&mut self, which: Constant) {
        self.push(transcendental::constant(which, self.env().rounding));
    }

    /// FLD ST(i).
    pub fn load_st(&mut self, i: u8) {
        if self.in_use(i) {
            return self.push(self.st(i));
        }
        if self.stack_underflow() {
            self.push_unchecked(F80::INDEFINITE);
        }
    }

    /// FST and FSTP ST(i).
    pub fn store_st(&mut self, i: u8, pop: bool) {
        if !self.in_use(0) {
            return self.underflow_into(i, pop);
        }
        self.deliver(i, Outcome::exact(self.st(0)), pop);
    }

    /// FSTP ST(i) in its encoding D9 D8+i, which only pops when ST(0) is empty.
    pub fn store_st_unchecked(&mut self, i: u8) {
        if self.in_use(0) {
            return self.store_st(i, true);
        }
        self.status &= !C1;
        self.pop();
    }

    /// FXCH; empty registers count as indefinite after the fault.
    pub fn fxch(&mut self, i: u8) {
        if self.in_use(0) && self.in_use(i) {
            self.status &= !C1;
        } else if !self.stack_underflow() {
            return;
        }
        let contents = |i| if self.in_use(i) { self.st(i) } else { F80::INDEFINITE };
        let (first, second) = (contents(0), contents(i));
        self.set_st(0, second);
        self.set_st(i, first);
    }

    /// FCMOVcc: copies ST(i) when the condition holds. Faults without it too; leaves C1 alone.
    pub fn fcmov(&mut self, condition: bool, i: u8) {
        if !(self.in_use(0) && self.in_use(i)) {
            return self.underflow_into(0, false);
        }
        if condition {
            self.set_st(0, self.st(i));
        }
    }

    // ---- stores ----

    fn prepare<T>(&self, indefinite: T, convert: impl FnOnce(F80, Env) -> Narrowed<T>) -> Store<T> {
        let narrowed = if self.in_use(0) {
            convert(self.st(0), self.env())
        } else {
            let masked = self.control & IE != 0;
            Narrowed { bits: masked.then_some(indefinite), flags: IE | SF }
        };
        let effect = Effect { flags: narrowed.flags, stored: narrowed.bits.is_some() };
        Store { bits: narrowed.bits, effect }
    }

    /// FST m32fp.
    pub fn store_f32(&self) -> Store<u32> {
        self.prepare(0xFFC0_0000, convert::to_f32)
    }

    /// FST m64fp.
    pub fn store_f64(&self) -> Store<u64> {
        self.prepare(0xFFF8_0000_0000_0000, convert::to_f64)
    }

    /// FSTP m80fp.
    pub fn store_f80(&self) -> Store<[u8; 10]> {
        let copy = |value: F80, _| Narrowed { bits: Some(value.to_bytes()), flags: 0 };
        self.prepare(F80::INDEFINITE.to_bytes(), copy)
    }

    /// FIST of `bits` (16, 32 or 64) bits, sign-extended.
    pub fn store_integer(&self, bits: u32) -> Store<i64> {
        self.prepare(i64::MIN >> (64 - bits), |value, env| convert::to_integer(value, bits, env))
    }

    /// FISTTP: truncates whatever the rounding control says.
    pub fn store_integer_truncated(&self, bits: u32) -> Store<i64> {
        self.prepare(i64::MIN >> (64 - bits), |value, env| {
            convert::to_integer(value, bits, Env { rounding: f80::Rounding::Zero, ..env })
        })
    }

    /// FBSTP.
    pub fn store_bcd(&self) -> Store<[u8; 10]> {
        self.prepare(convert::BCD_INDEFINITE, convert::to_bcd)
    }

    /// Completes a store after memory was written (or suppressed): flags, then the pop.
    pub fn finish_store(&mut self, effect: Effect, pop: bool) {
        self.raise(effect.flags);
        if effect.stored && pop {
            self.pop();
        }
    }

    // ---- control ----

    /// FNINIT. The registers keep their contents and become empty.
    pub fn fninit(&mut self) {
        *self = Fpu { st: self.st, ..Fpu::default() };
    }

    /// FNCLEX.
    pub fn fnclex(&mut self) {
        self.status &= !(EXCEPTIONS | SF | ES | B);
    }

    /// FLDCW. Unmasking a recorded exception makes it pending.
    pub fn set_control(&mut self, control: u16) {
        self.control = control & CONTROL_WRITABLE | CONTROL_ONE;
        self.update_summary();
    }

    /// FNSTSW: the status word with TOP.
    #[inline]
    pub fn status_word(&self) -> u16 {
        self.status | (self.top as u16) << TOP_SHIFT
    }

    fn set_status_word(&mut self, word: u16) {
        self.top = (word >> TOP_SHIFT & 7) as u8;
        self.status = word & !TOP;
        self.update_summary();
    }

    /// FINCSTP.
    pub fn fincstp(&mut self) {
        self.top = self.top.wrapping_add(1) & 7;
        self.status &= !C1;
    }

    /// FDECSTP.
    pub fn fdecstp(&mut self) {
        self.top = self.top.wrapping_sub(1) & 7;
        self.status &= !C1;
    }

    /// FFREE, and FFREEP with `pop`.
    pub fn ffree(&mut self, i: u8, pop: bool) {
        self.status &= !C1;
        self.tags &= !(1 << self.physical(i));
        if pop {
            self.pop();
        }
    }

    /// Records the instruction for the environment images: opcode (11 bits), code and data pointers.
    #[inline]
    pub fn set_pointers(&mut self, fop: u16, fcs: u16, fip: u64, fds: u16, fdp: u64) {
        self.set_instruction(fop, fcs, fip);
        (self.fds, self.fdp) = (fds, fdp);
    }

    /// Records an instruction without an operand in memory.
    #[inline]
    pub fn set_instruction(&mut self, fop: u16, fcs: u16, fip: u64) {
        self.fop = fop & FOP_MASK;
        (self.fcs, self.fip) = (fcs, fip);
    }

    // ---- MMX, which lives in the significands ----

    /// What every MMX instruction but EMMS does: TOP to zero, all registers in use.
    #[inline]
    pub fn enter_mmx(&mut self) {
        self.top = 0;
        self.tags = 0xFF;
    }

    /// EMMS: all registers empty, TOP zero (SDM 3, table 13-1).
    pub fn emms(&mut self) {
        self.top = 0;
        self.tags = 0;
    }

    /// MMi.
    #[inline]
    pub fn mmx(&self, i: u8) -> u64 {
        self.st[(i & 7) as usize].mantissa
    }

    /// Writes MMi; sign and exponent become all ones.
    #[inline]
    pub fn set_mmx(&mut self, i: u8, value: u64) {
        self.st[(i & 7) as usize] = F80::new(0xFFFF, value);
    }
}

fn compare_operands(kind: Compare, a: F80, src: Operand) -> (Order, u16) {
    let (order, flags) = f80::compare(a, src.value, kind == Compare::Unordered);
    let de = if src.denormal && order != Order::Unordered { DE } else { 0 };
    (order, flags | de)
}

fn condition_codes(order: Order) -> u16 {
    match order {
        Order::Greater => 0,
        Order::Less => C0,
        Order::Equal => C3,
        Order::Unordered => C3 | C2 | C0,
    }
}
