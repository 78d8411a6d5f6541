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

/// The dot product: bits of imm8 from 4 up choose the products, those from 0 up where the sum goes.
fn dot<F: Format>(env: &mut Env, a: Lane, b: Lane, imm: u8) -> Lane {
    let mut product = |i: usize| {
        if imm >> (4 + i) & 1 == 0 { 0 } else { Mul::apply::<F>(env, lane::<F>(a, i), lane::<F>(b, i)) }
    };
    let sum = if F::LANES == 2 {
        let p = [product(0), product(1)];
        Add::apply::<F>(env, p[0], p[1])
    } else {
        let p = [product(0), product(1), product(2), product(3)];
        let halves = [Add::apply::<F>(env, p[0], p[1]), Add::apply::<F>(env, p[2], p[3])];
        Add::apply::<F>(env, halves[0], halves[1])
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
