//! Arithmetic, comparison and square roots of single and double precision.

use super::Operation;
use super::float::{
    Double, Env, Exact, Format, Layout, Native, Rounding, Single, flush_operand, is_denormal, is_infinite,
    is_nan, is_ordinary, is_safe_result, is_signalling, is_zero, lane, lanes, mxcsr::IE, mxcsr::ZE,
    note_denormal, propagate, round, shift_sticky, with_low,
};
use core::cmp::Ordering;

/// A function of two values of one format.
pub trait Binary {
    /// The result, its flags into `env`.
    fn apply<F: Format>(env: &mut Env, a: u64, b: u64) -> u64;
}

/// An operation that has a native way.
pub trait Arith: Native {
    /// A zero result is exact whatever the operands.
    const EXACT_ZERO: bool;
    /// The exact way. NaNs and denormals are dealt with.
    fn exact<F: Format>(env: &mut Env, a: u64, b: u64) -> u64;
}

/// Addition.
pub struct Add;
/// Subtraction.
pub struct Sub;
/// Multiplication.
pub struct Mul;
/// Division.
pub struct Div;
/// MIN.
pub struct Min;
/// MAX.
pub struct Max;

macro_rules! native {
    ($($name:ident $op:tt;)*) => {$(
        impl Native for $name {
            #[inline(always)]
            fn single(a: f32, b: f32) -> f32 {
                a $op b
            }
            #[inline(always)]
            fn double(a: f64, b: f64) -> f64 {
                a $op b
            }
        }
    )*};
}
native! { Add +; Sub -; Mul *; Div /; }

impl<A: Arith> Binary for A {
    #[inline(always)]
    fn apply<F: Format>(env: &mut Env, a: u64, b: u64) -> u64 {
        if env.native() && is_ordinary::<F>(a) && is_ordinary::<F>(b) {
            let r = F::native::<A>(a, b);
            let zero = is_zero::<F>(r) && (A::EXACT_ZERO || is_zero::<F>(a) || is_zero::<F>(b));
            if is_safe_result::<F>(r) || zero {
                return r;
            }
        }
        exact_way::<F, A>(env, a, b)
    }
}

#[inline(never)]
fn exact_way<F: Format, A: Arith>(env: &mut Env, a: u64, b: u64) -> u64 {
    let (a, b) = (flush_operand::<F>(env, a), flush_operand::<F>(env, b));
    if let Some(nan) = propagate::<F>(env, a, b) {
        return nan;
    }
    A::exact::<F>(env, a, b)
}

fn note_denormals<F: Format>(env: &mut Env, a: u64, b: u64) {
    note_denormal::<F>(env, a);
    note_denormal::<F>(env, b);
}

fn sum<F: Format>(env: &mut Env, a: u64, b: u64) -> u64 {
    if is_infinite::<F>(a) && is_infinite::<F>(b) && a != b {
        return env.invalid::<F>();
    }
    note_denormals::<F>(env, a, b);
    if is_infinite::<F>(a) {
        return a;
    }
    if is_infinite::<F>(b) {
        return b;
    }
    match (Exact::of::<F>(a), Exact::of::<F>(b)) {
        (Some(x), Some(y)) => match sum_exact(&x, &y) {
            Some(r) => round::<F>(env, &r),
            None => cancelled::<F>(env),
        },
        (Some(x), None) | (None, Some(x)) => round::<F>(env, &x),
        (None, None) if a == b => a,
        (None, None) => cancelled::<F>(env),
    }
}

/// The zero that a sum of opposites is.
pub fn cancelled<F: Format>(env: &Env) -> u64 {
    if env.rounding() == Rounding::Down { F::SIGN } else { 0 }
}

/// The sum; `None` for zero.
pub fn sum_exact(x: &Exact, y: &Exact) -> Option<Exact> {
    let larger_first = (x.exponent, x.significand) >= (y.exponent, y.significand);
    let (big, small) = if larger_first { (x, y) } else { (y, x) };
    let apart = (big.exponent - small.exponent) as u32;
    // One bit of room for the carry; of both at least the last 21 bits are empty, so that what is lost only sticks.
    let (high, low) = (big.significand >> 1, shift_sticky(small.significand >> 1, apart));
    let total = if big.negative == small.negative { high + low } else { high - low };
    Exact::normalise(big.negative, big.exponent + 1, total)
}

impl Arith for Add {
    const EXACT_ZERO: bool = true;
    fn exact<F: Format>(env: &mut Env, a: u64, b: u64) -> u64 {
        sum::<F>(env, a, b)
    }
}

impl Arith for Sub {
    const EXACT_ZERO: bool = true;
    fn exact<F: Format>(env: &mut Env, a: u64, b: u64) -> u64 {
        sum::<F>(env, a, b ^ F::SIGN)
    }
}

/// The product of finite numbers; `None` for zero.
pub fn product<F: Format>(a: u64, b: u64) -> Option<Exact> {
    let (x, y) = (Exact::of::<F>(a)?, Exact::of::<F>(b)?);
    let digits = u128::from(x.high()) * u128::from(y.high());
    Exact::normalise(x.negative != y.negative, x.exponent + y.exponent + 1, digits)
}

impl Arith for Mul {
    const EXACT_ZERO: bool = false;
    fn exact<F: Format>(env: &mut Env, a: u64, b: u64) -> u64 {
        let sign = (a ^ b) & F::SIGN;
        let (infinite, zero) =
            (is_infinite::<F>(a) || is_infinite::<F>(b), is_zero::<F>(a) || is_zero::<F>(b));
        if infinite && zero {
            return env.invalid::<F>();
        }
        note_denormals::<F>(env, a, b);
        if infinite {
            return sign | F::INFINITY;
        }
        product::<F>(a, b).map_or(sign, |r| round::<F>(env, &r))
    }
}

impl Arith for Div {
    const EXACT_ZERO: bool = false;
    fn exact<F: Format>(env: &mut Env, a: u64, b: u64) -> u64 {
        let sign = (a ^ b) & F::SIGN;
        let both = |test: fn(u64) -> bool| test(a) && test(b);
        if both(is_infinite::<F>) || both(is_zero::<F>) {
            return env.invalid::<F>();
        }
        if is_zero::<F>(b) && !is_infinite::<F>(a) {
            env.flags |= ZE;
            return sign | F::INFINITY;
        }
        note_denormals::<F>(env, a, b);
        if is_infinite::<F>(a) {
            return sign | F::INFINITY;
        }
        if is_infinite::<F>(b) {
            return sign;
        }
        let (Some(x), Some(y)) = (Exact::of::<F>(a), Exact::of::<F>(b)) else {
            return sign;
        };
        let (dividend, divisor) = (x.significand >> 1, u128::from(y.high()));
        let quotient = (dividend / divisor) << 1 | u128::from(dividend % divisor != 0);
        let exact = Exact::normalise(sign != 0, x.exponent - y.exponent + 63, quotient);
        exact.map_or(sign, |r| round::<F>(env, &r))
    }
}

/// The order of two values that are no NaNs.
fn order<F: Format>(a: u64, b: u64) -> Option<Ordering> {
    F::value(a).partial_cmp(&F::value(b))
}

/// MIN and MAX give the second operand when either is a NaN or both are zeros (Intel SDM vol. 2, MINPS).
#[inline(always)]
fn select<F: Format>(env: &mut Env, a: u64, b: u64, first: Ordering) -> u64 {
    let (a, b) = (flush_operand::<F>(env, a), flush_operand::<F>(env, b));
    if is_nan::<F>(a) || is_nan::<F>(b) {
        env.flags |= IE;
        return b;
    }
    note_denormals::<F>(env, a, b);
    if order::<F>(a, b) == Some(first) { a } else { b }
}

impl Binary for Min {
    #[inline(always)]
    fn apply<F: Format>(env: &mut Env, a: u64, b: u64) -> u64 {
        select::<F>(env, a, b, Ordering::Less)
    }
}

impl Binary for Max {
    #[inline(always)]
    fn apply<F: Format>(env: &mut Env, a: u64, b: u64) -> u64 {
        select::<F>(env, a, b, Ordering::Greater)
    }
}

/// Compares and records flags: with `quiet`, only signalling NaNs are invalid.
#[inline(always)]
fn compare<F: Format>(env: &mut Env, a: u64, b: u64, quiet: bool) -> Option<Ordering> {
    let (a, b) = (flush_operand::<F>(env, a), flush_operand::<F>(env, b));
    if is_nan::<F>(a) || is_nan::<F>(b) {
        if !quiet || is_signalling::<F>(a) || is_signalling::<F>(b) {
            env.flags |= IE;
        }
        return None;
    }
    note_denormals::<F>(env, a, b);
    order::<F>(a, b)
}

/// Which outcomes a predicate holds for: bit 0 less, 1 equal, 2 greater, 3 unordered. Bit 2 of a predicate inverts
/// it, bit 4 changes only what signals (Intel SDM vol. 2, CMPPD).
const OUTCOMES: [u8; 8] = [0b0010, 0b0001, 0b0011, 0b1000, 0b1010, 0b1001, 0b1011, 0b0000];

/// CMPccxx in lane `i`: all ones if the predicate holds. Without VEX it has three bits.
#[inline(always)]
fn holds<F: Format>(env: &mut Env, a: [u64; 2], b: [u64; 2], i: usize, predicate: u8) -> u64 {
    let (a, b) = (lane::<F>(a, i), lane::<F>(b, i));
    let quiet = matches!(predicate & 3, 0 | 3) != (predicate & 16 != 0);
    let outcome = match compare::<F>(env, a, b, quiet) {
        Some(Ordering::Less) => 0,
        Some(Ordering::Equal) => 1,
        Some(Ordering::Greater) => 2,
        None => 3,
    };
    let outcomes = OUTCOMES[usize::from(predicate >> 1 & 4 | predicate & 3)];
    let holds = outcomes >> outcome & 1 != 0;
    let mask = F::SIGN | (F::SIGN - 1);
    if holds != (predicate & 4 != 0) { mask } else { 0 }
}

#[inline(always)]
fn sqrt<F: Format>(env: &mut Env, a: u64) -> u64 {
    if env.native() && is_ordinary::<F>(a) && a & F::SIGN == 0 {
        return F::native_sqrt(a);
    }
    sqrt_exact::<F>(env, a)
}

#[inline(never)]
fn sqrt_exact<F: Format>(env: &mut Env, a: u64) -> u64 {
    let a = flush_operand::<F>(env, a);
    if let Some(nan) = propagate::<F>(env, a, a) {
        return nan;
    }
    if is_zero::<F>(a) {
        return a;
    }
    if a & F::SIGN != 0 {
        return env.invalid::<F>();
    }
    note_denormal::<F>(env, a);
    if is_infinite::<F>(a) {
        return a;
    }
    let Some(x) = Exact::of::<F>(a) else {
        return a;
    };
    // An even exponent; the radicand is below 2^128 and its root has 64 bits.
    let odd = x.exponent & 1;
    let radicand = x.significand >> (1 - odd);
    let root = radicand.isqrt();
    let digits = root << 1 | u128::from(root * root != radicand);
    let exact = Exact::normalise(false, (x.exponent - odd) / 2 + 63, digits);
    exact.map_or(a, |r| round::<F>(env, &r))
}

/// RCP and RSQRT: full single precision, rounded to nearest, where processors give 12 bits. No flags;
/// denormal operands count as zeros and tiny results become zeros (Intel SDM vol. 2, RCPPS and RSQRTPS).
fn approximate(a: u64, f: impl Fn(f64) -> f64) -> u64 {
    type F = Single;
    if is_nan::<F>(a) {
        return a | F::QUIET;
    }
    let a = if is_denormal::<F>(a) { a & F::SIGN } else { a };
    let r = f(F::value(a));
    if r.is_nan() {
        return F::INDEFINITE;
    }
    let bits = u64::from((r as f32).to_bits());
    if is_denormal::<F>(bits) { bits & F::SIGN } else { bits }
}

fn reciprocal(a: u64) -> u64 {
    approximate(a, |x| 1.0 / x)
}

fn reciprocal_root(a: u64) -> u64 {
    // The root of -0 is -0, so its reciprocal is -infinity, as it should be.
    approximate(a, |x| 1.0 / x.sqrt())
}

#[inline(always)]
fn packed<F: Format, O: Binary>(env: &mut Env, a: [u64; 2], b: [u64; 2]) -> [u64; 2] {
    lanes::<F>(|i| O::apply::<F>(env, lane::<F>(a, i), lane::<F>(b, i)))
}

#[inline(always)]
fn scalar<F: Format, O: Binary>(env: &mut Env, a: [u64; 2], b: [u64; 2]) -> [u64; 2] {
    with_low::<F>(a, O::apply::<F>(env, lane::<F>(a, 0), lane::<F>(b, 0)))
}

/// ADDSUB: subtracts in even lanes, adds in odd ones.
#[inline(always)]
fn alternate<F: Format>(env: &mut Env, a: [u64; 2], b: [u64; 2]) -> [u64; 2] {
    lanes::<F>(|i| {
        let (x, y) = (lane::<F>(a, i), lane::<F>(b, i));
        if i & 1 == 0 { Sub::apply::<F>(env, x, y) } else { Add::apply::<F>(env, x, y) }
    })
}

/// HADD and HSUB: neighbours of the first operand, then of the second.
#[inline(always)]
fn horizontal<F: Format, O: Binary>(env: &mut Env, a: [u64; 2], b: [u64; 2]) -> [u64; 2] {
    lanes::<F>(|i| {
        let half = F::LANES / 2;
        let from = if i < half { a } else { b };
        let at = i % half * 2;
        O::apply::<F>(env, lane::<F>(from, at), lane::<F>(from, at + 1))
    })
}

/// COMIS and UCOMIS: the arithmetic flags (Intel SDM vol. 2, COMISS).
#[inline(always)]
fn flags_of<F: Format>(env: &mut Env, a: [u64; 2], b: [u64; 2], quiet: bool) -> [u64; 2] {
    use crate::state::eflags::{CF, PF, ZF};
    let bits = match compare::<F>(env, lane::<F>(a, 0), lane::<F>(b, 0), quiet) {
        None => ZF | PF | CF,
        Some(Ordering::Less) => CF,
        Some(Ordering::Equal) => ZF,
        Some(Ordering::Greater) => 0,
    };
    [bits, 0]
}

macro_rules! operations {
    ($($name:ident, |$env:ident, $a:ident, $b:ident, $imm:tt| $body:expr;)*) => {$(
        pub struct $name;
        impl Operation for $name {
            #[inline(always)]
            fn apply($env: &mut Env, $a: [u64; 2], $b: [u64; 2], $imm: u8) -> [u64; 2] {
                $body
            }
        }
    )*};
}

operations! {
    Addps, |e, a, b, _| packed::<Single, Add>(e, a, b);
    Addpd, |e, a, b, _| packed::<Double, Add>(e, a, b);
    Addss, |e, a, b, _| scalar::<Single, Add>(e, a, b);
    Addsd, |e, a, b, _| scalar::<Double, Add>(e, a, b);
    Subps, |e, a, b, _| packed::<Single, Sub>(e, a, b);
    Subpd, |e, a, b, _| packed::<Double, Sub>(e, a, b);
    Subss, |e, a, b, _| scalar::<Single, Sub>(e, a, b);
    Subsd, |e, a, b, _| scalar::<Double, Sub>(e, a, b);
    Mulps, |e, a, b, _| packed::<Single, Mul>(e, a, b);
    Mulpd, |e, a, b, _| packed::<Double, Mul>(e, a, b);
    Mulss, |e, a, b, _| scalar::<Single, Mul>(e, a, b);
    Mulsd, |e, a, b, _| scalar::<Double, Mul>(e, a, b);
    Divps, |e, a, b, _| packed::<Single, Div>(e, a, b);
    Divpd, |e, a, b, _| packed::<Double, Div>(e, a, b);
    Divss, |e, a, b, _| scalar::<Single, Div>(e, a, b);
    Divsd, |e, a, b, _| scalar::<Double, Div>(e, a, b);
    Minps, |e, a, b, _| packed::<Single, Min>(e, a, b);
    Minpd, |e, a, b, _| packed::<Double, Min>(e, a, b);
    Minss, |e, a, b, _| scalar::<Single, Min>(e, a, b);
    Minsd, |e, a, b, _| scalar::<Double, Min>(e, a, b);
    Maxps, |e, a, b, _| packed::<Single, Max>(e, a, b);
    Maxpd, |e, a, b, _| packed::<Double, Max>(e, a, b);
    Maxss, |e, a, b, _| scalar::<Single, Max>(e, a, b);
    Maxsd, |e, a, b, _| scalar::<Double, Max>(e, a, b);
    Sqrtps, |e, _a, b, _| lanes::<Single>(|i| sqrt::<Single>(e, lane::<Single>(b, i)));
    Sqrtpd, |e, _a, b, _| lanes::<Double>(|i| sqrt::<Double>(e, lane::<Double>(b, i)));
    Sqrtss, |e, a, b, _| with_low::<Single>(a, sqrt::<Single>(e, lane::<Single>(b, 0)));
    Sqrtsd, |e, a, b, _| with_low::<Double>(a, sqrt::<Double>(e, lane::<Double>(b, 0)));
    Rcpps, |_e, _a, b, _| lanes::<Single>(|i| reciprocal(lane::<Single>(b, i)));
    Rcpss, |_e, a, b, _| with_low::<Single>(a, reciprocal(lane::<Single>(b, 0)));
    Rsqrtps, |_e, _a, b, _| lanes::<Single>(|i| reciprocal_root(lane::<Single>(b, i)));
    Rsqrtss, |_e, a, b, _| with_low::<Single>(a, reciprocal_root(lane::<Single>(b, 0)));
    Cmpps, |e, a, b, imm| lanes::<Single>(|i| holds::<Single>(e, a, b, i, imm & 7));
    Cmppd, |e, a, b, imm| lanes::<Double>(|i| holds::<Double>(e, a, b, i, imm & 7));
    Cmpss, |e, a, b, imm| with_low::<Single>(a, holds::<Single>(e, a, b, 0, imm & 7));
    Cmpsd, |e, a, b, imm| with_low::<Double>(a, holds::<Double>(e, a, b, 0, imm & 7));
    Vcmpps, |e, a, b, imm| lanes::<Single>(|i| holds::<Single>(e, a, b, i, imm & 31));
    Vcmppd, |e, a, b, imm| lanes::<Double>(|i| holds::<Double>(e, a, b, i, imm & 31));
    Vcmpss, |e, a, b, imm| with_low::<Single>(a, holds::<Single>(e, a, b, 0, imm & 31));
    Vcmpsd, |e, a, b, imm| with_low::<Double>(a, holds::<Double>(e, a, b, 0, imm & 31));
    Comiss, |e, a, b, _| flags_of::<Single>(e, a, b, false);
    Comisd, |e, a, b, _| flags_of::<Double>(e, a, b, false);
    Ucomiss, |e, a, b, _| flags_of::<Single>(e, a, b, true);
    Ucomisd, |e, a, b, _| flags_of::<Double>(e, a, b, true);
    Addsubps, |e, a, b, _| alternate::<Single>(e, a, b);
    Addsubpd, |e, a, b, _| alternate::<Double>(e, a, b);
    Haddps, |e, a, b, _| horizontal::<Single, Add>(e, a, b);
    Haddpd, |e, a, b, _| horizontal::<Double, Add>(e, a, b);
    Hsubps, |e, a, b, _| horizontal::<Single, Sub>(e, a, b);
    Hsubpd, |e, a, b, _| horizontal::<Double, Sub>(e, a, b);
}
