//! ROUND* and DPP*: SSE4.1's floating-point instructions.

use super::arith::{Add, Binary, Mul};
use super::float::{
    Double, Env, Exact, Format, Rounding, Single, flush_operand, is_infinite, lane, lanes, mxcsr::PE,
    propagate, round, round_bits, with_low,
};
use super::vector::Lane;
use super::wide::pures;

/// An integer in the format. imm8: rounding in bits 1:0, unless bit 2 says MXCSR's; bit 3 keeps the precision
/// exception quiet. Denormals raise nothing (Intel SDM vol. 2, ROUNDPD).
fn round_value<F: Format>(env: &mut Env, a: u64, imm: u8) -> u64 {
    let a = flush_operand::<F>(env, a);
    if let Some(nan) = propagate::<F>(env, a, a) {
        return nan;
    }
    let x = match Exact::of::<F>(a) {
        Some(x) if !is_infinite::<F>(a) && x.exponent < F::FRACTION as i32 => x,
        _ => return a,
    };
    let mode = if imm & 4 != 0 { env.rounding() } else { Rounding::of(imm.into()) };
    let (size, inexact) = round_bits(&x, x.exponent + 1, mode);
    if inexact && imm & 8 == 0 {
        env.flags |= PE;
    }
    Exact::normalise(x.negative, 127, size).map_or(a & F::SIGN, |r| round::<F>(env, &r))
}

/// The dot product: bits of imm8 from 4 up choose the products, those from 0 up where the sum goes. Products, sums
/// and the sum of sums are steps of their own, in both lanes together (Intel SDM vol. 2, DPPS).
fn dot<F: Format>(env: &mut Env, a: Lane, b: Lane, imm: u8) -> Lane {
    let mut p = [0; 4];
    env.step(0, |env| {
        for i in (0..F::LANES).filter(|i| imm >> (4 + i) & 1 != 0) {
            p[i] = Mul::apply::<F>(env, lane::<F>(a, i), lane::<F>(b, i));
        }
    });
    let first = env.step(1, |env| Add::apply::<F>(env, p[0], p[1]));
    let sum = if F::LANES == 2 {
        first
    } else {
        let second = env.step(1, |env| Add::apply::<F>(env, p[2], p[3]));
        env.step(2, |env| Add::apply::<F>(env, first, second))
    };
    lanes::<F>(|i| if imm >> i & 1 != 0 { sum } else { 0 })
}

pures! {
    roundps(e, _, b, _, imm) lanes::<Single>(|i| round_value::<Single>(e, lane::<Single>(b, i), imm));
    roundpd(e, _, b, _, imm) lanes::<Double>(|i| round_value::<Double>(e, b[i], imm));
    roundss(e, a, b, _, imm) with_low::<Single>(a, round_value::<Single>(e, lane::<Single>(b, 0), imm));
    roundsd(e, a, b, _, imm) with_low::<Double>(a, round_value::<Double>(e, b[0], imm));
    dpps(e, a, b, _, imm) dot::<Single>(e, a, b, imm);
    dppd(e, a, b, _, imm) dot::<Double>(e, a, b, imm);
}
