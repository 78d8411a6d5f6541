//! CVT*: conversions between the formats and integers.

use super::Operation;
use super::float::{
    Double, Env, Exact, Format, Layout, Rounding, Single, flush_operand, is_infinite, is_nan, is_ordinary,
    is_safe_result, is_zero, lane, lanes, mxcsr::IE, mxcsr::PE, note_denormal, propagate, round, round_bits,
    with_low,
};

/// An integer of `bits` bits, sign-extended: out of range and NaN give the smallest one. Denormals raise
/// nothing here.
#[inline(always)]
fn to_integer<F: Format>(env: &mut Env, a: u64, bits: u32, truncate: bool) -> u64 {
    let a = flush_operand::<F>(env, a);
    let rounding = if truncate { Rounding::Zero } else { env.rounding() };
    let indefinite = (i64::MIN >> (64 - bits)) as u64;
    if is_nan::<F>(a) || is_infinite::<F>(a) {
        env.flags |= IE;
        return indefinite;
    }
    let Some(x) = Exact::of::<F>(a) else {
        return 0;
    };
    if x.exponent >= 64 {
        env.flags |= IE;
        return indefinite;
    }
    let (size, inexact) = round_bits(&x, x.exponent + 1, rounding);
    let limit = (1 << (bits - 1)) - u128::from(!x.negative);
    if size > limit {
        env.flags |= IE;
        return indefinite;
    }
    if inexact {
        env.flags |= PE;
    }
    let size = size as u64;
    if x.negative { size.wrapping_neg() } else { size }
}

#[inline(always)]
fn from_integer<F: Format>(env: &mut Env, value: i64) -> u64 {
    if env.native() || value.unsigned_abs() <= 1 << (F::FRACTION + 1) {
        return F::native_from(value);
    }
    Exact::of_integer(value).map_or(0, |x| round::<F>(env, &x))
}

/// CVTSS2SD: exact, but for NaNs and denormals.
#[inline(always)]
fn widen(env: &mut Env, a: u64) -> u64 {
    if is_ordinary::<Single>(a) {
        return Single::value(a).to_bits();
    }
    let a = flush_operand::<Single>(env, a);
    let sign = (a & Single::SIGN) << 32;
    if let Some(nan) = propagate::<Single>(env, a, a) {
        return sign
            | Double::INFINITY
            | (nan & Single::FRACTION_MASK) << (Double::FRACTION - Single::FRACTION);
    }
    note_denormal::<Single>(env, a);
    Single::value(a).to_bits()
}

/// CVTSD2SS.
#[inline(always)]
fn narrow(env: &mut Env, a: u64) -> u64 {
    if env.native() && is_ordinary::<Double>(a) {
        let r = u64::from((Double::value(a) as f32).to_bits());
        if is_safe_result::<Single>(r) || is_zero::<Double>(a) {
            return r;
        }
    }
    narrow_exact(env, a)
}

#[inline(never)]
fn narrow_exact(env: &mut Env, a: u64) -> u64 {
    let a = flush_operand::<Double>(env, a);
    let sign = a >> 32 & Single::SIGN;
    if let Some(nan) = propagate::<Double>(env, a, a) {
        let fraction = (nan & Double::FRACTION_MASK) >> (Double::FRACTION - Single::FRACTION);
        return sign | Single::INFINITY | fraction;
    }
    if is_infinite::<Double>(a) {
        return sign | Single::INFINITY;
    }
    note_denormal::<Double>(env, a);
    Exact::of::<Double>(a).map_or(sign, |x| round::<Single>(env, &x))
}

/// The doubleword `i` of a register, sign-extended.
#[inline(always)]
fn dword(v: [u64; 2], i: usize) -> i64 {
    i64::from(lane::<Single>(v, i) as i32)
}

#[inline(always)]
fn dwords(low: u64, high: u64) -> u64 {
    low & 0xffff_ffff | high << 32
}

/// CVT(T)SS2SI and CVT(T)SD2SI.
pub struct ScalarToInteger<F, const BITS: u32, const TRUNCATE: bool>(F);
/// CVT(T)PS2DQ.
pub struct QuadToIntegers<const TRUNCATE: bool>;
/// The low two values: CVT(T)PD2DQ, CVT(T)PD2PI, CVT(T)PS2PI.
pub struct PairToIntegers<F, const TRUNCATE: bool>(F);
/// CVTSI2SS and CVTSI2SD.
pub struct ScalarFromInteger<F, const BITS: u32>(F);

impl<F: Format, const BITS: u32, const TRUNCATE: bool> Operation for ScalarToInteger<F, BITS, TRUNCATE> {
    fn apply(env: &mut Env, _a: [u64; 2], b: [u64; 2], _imm: u8) -> [u64; 2] {
        [to_integer::<F>(env, lane::<F>(b, 0), BITS, TRUNCATE), 0]
    }
}

impl<const TRUNCATE: bool> Operation for QuadToIntegers<TRUNCATE> {
    fn apply(env: &mut Env, _a: [u64; 2], b: [u64; 2], _imm: u8) -> [u64; 2] {
        lanes::<Single>(|i| dwords(to_integer::<Single>(env, lane::<Single>(b, i), 32, TRUNCATE), 0))
    }
}

impl<F: Format, const TRUNCATE: bool> Operation for PairToIntegers<F, TRUNCATE> {
    fn apply(env: &mut Env, _a: [u64; 2], b: [u64; 2], _imm: u8) -> [u64; 2] {
        let low = to_integer::<F>(env, lane::<F>(b, 0), 32, TRUNCATE);
        let high = to_integer::<F>(env, lane::<F>(b, 1), 32, TRUNCATE);
        [dwords(low, high), 0]
    }
}

impl<F: Format, const BITS: u32> Operation for ScalarFromInteger<F, BITS> {
    #[inline(always)]
    fn apply(env: &mut Env, a: [u64; 2], b: [u64; 2], _imm: u8) -> [u64; 2] {
        let value = if BITS == 32 { dword(b, 0) } else { b[0] as i64 };
        with_low::<F>(a, from_integer::<F>(env, value))
    }
}

macro_rules! operations {
    ($($name:ident, |$env:ident, $a:ident, $b:ident| $body:expr;)*) => {$(
        pub struct $name;
        impl Operation for $name {
            #[inline(always)]
            fn apply($env: &mut Env, $a: [u64; 2], $b: [u64; 2], _imm: u8) -> [u64; 2] {
                $body
            }
        }
    )*};
}

operations! {
    Cvtdq2ps, |e, _a, b| lanes::<Single>(|i| from_integer::<Single>(e, dword(b, i)));
    Cvtdq2pd, |e, _a, b| lanes::<Double>(|i| from_integer::<Double>(e, dword(b, i)));
    Cvtpi2ps, |e, a, b| {
        let low = from_integer::<Single>(e, dword(b, 0));
        [dwords(low, from_integer::<Single>(e, dword(b, 1))), a[1]]
    };
    Cvtps2pd, |e, _a, b| lanes::<Double>(|i| widen(e, lane::<Single>(b, i)));
    Cvtss2sd, |e, a, b| with_low::<Double>(a, widen(e, lane::<Single>(b, 0)));
    Cvtsd2ss, |e, a, b| with_low::<Single>(a, narrow(e, b[0]));
    Cvtpd2ps, |e, _a, b| {
        let low = narrow(e, b[0]);
        [dwords(low, narrow(e, b[1])), 0]
    };
}
