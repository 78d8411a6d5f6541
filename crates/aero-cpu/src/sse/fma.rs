//! FMA3: multiply and add with one rounding.
//!
//! The product of two significands fits in [`Exact`]'s 128 bits, and so does its sum with the third: what the
//! alignment shifts out only sticks. Nothing here depends on what the host can do.
//!
//! Digits of a mnemonic order the operands: the first two are multiplied, the third is added, and a NaN comes from
//! the first of them in that order that is one (Intel SDM vol. 1, 14.5.1).

use super::arith::{cancelled, product, sum_exact};
use super::float::{
    Double, Env, Exact, Format, Single, flush_operand, is_infinite, is_nan, is_signalling, is_zero, lane,
    lanes, mxcsr::IE, note_denormal, round, with_low,
};
use super::vector::Lane;

/// `x * y + z`, rounded once.
#[inline(never)]
fn fused<F: Format>(env: &mut Env, x: u64, y: u64, z: u64) -> u64 {
    let all = [x, y, z].map(|v| flush_operand::<F>(env, v));
    if let Some(nan) = all.into_iter().find(|v| is_nan::<F>(*v)) {
        if all.into_iter().any(is_signalling::<F>) {
            env.flags |= IE;
        }
        return nan | F::QUIET;
    }
    let [x, y, z] = all;
    let sign = (x ^ y) & F::SIGN;
    let infinite = is_infinite::<F>(x) || is_infinite::<F>(y);
    let zero = is_zero::<F>(x) || is_zero::<F>(y);
    if infinite && (zero || is_infinite::<F>(z) && z & F::SIGN != sign) {
        return env.invalid::<F>();
    }
    all.into_iter().for_each(|v| note_denormal::<F>(env, v));
    if infinite {
        return sign | F::INFINITY;
    }
    if is_infinite::<F>(z) {
        return z;
    }
    match (product::<F>(x, y), Exact::of::<F>(z)) {
        (Some(p), Some(c)) => match sum_exact(&p, &c) {
            Some(r) => round::<F>(env, &r),
            None => cancelled::<F>(env),
        },
        (Some(r), None) | (None, Some(r)) => round::<F>(env, &r),
        (None, None) if sign == z => z,
        (None, None) => cancelled::<F>(env),
    }
}

/// Add.
pub const ADD: u8 = 0;
/// Subtract: the third operand is negated.
pub const SUB: u8 = 1;
/// The product is negated.
pub const NEGATED_ADD: u8 = 2;
/// Both are.
pub const NEGATED_SUB: u8 = 3;
/// Subtract in even lanes, add in odd ones.
pub const ADD_SUB: u8 = 4;
/// The other way round.
pub const SUB_ADD: u8 = 5;

/// Negates a number, and a NaN not: it is what it was when it comes out again.
fn negate<F: Format>(a: u64, yes: bool) -> u64 {
    if yes && !is_nan::<F>(a) { a ^ F::SIGN } else { a }
}

/// Lane `i`. Operands come as VEX has them: the second, the third, and the destination, which is the first.
#[inline(always)]
fn one<F: Format, const ORDER: u16, const KIND: u8>(env: &mut Env, v: &[Lane; 3], i: usize) -> u64 {
    let [second, third, first] = v.map(|x| lane::<F>(x, i));
    let (x, y, z) = match ORDER {
        132 => (first, third, second),
        213 => (second, first, third),
        _ => (second, third, first),
    };
    let subtract = match KIND {
        ADD_SUB => i & 1 == 0,
        SUB_ADD => i & 1 != 0,
        _ => KIND & 1 != 0,
    };
    let negated = matches!(KIND, NEGATED_ADD | NEGATED_SUB);
    fused::<F>(env, negate::<F>(x, negated), y, negate::<F>(z, subtract))
}

/// PS.
pub fn ps<const ORDER: u16, const KIND: u8>(env: &mut Env, x: &[Lane; 3], _imm: u8) -> Lane {
    lanes::<Single>(|i| one::<Single, ORDER, KIND>(env, x, i))
}

/// PD.
pub fn pd<const ORDER: u16, const KIND: u8>(env: &mut Env, x: &[Lane; 3], _imm: u8) -> Lane {
    lanes::<Double>(|i| one::<Double, ORDER, KIND>(env, x, i))
}

/// SS.
pub fn ss<const ORDER: u16, const KIND: u8>(env: &mut Env, x: &[Lane; 3], _imm: u8) -> Lane {
    with_low::<Single>(x[2], one::<Single, ORDER, KIND>(env, x, 0))
}

/// SD.
pub fn sd<const ORDER: u16, const KIND: u8>(env: &mut Env, x: &[Lane; 3], _imm: u8) -> Lane {
    with_low::<Double>(x[2], one::<Double, ORDER, KIND>(env, x, 0))
}
