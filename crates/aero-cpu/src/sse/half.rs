//! F16C: half precision, a format that is only ever converted.
//!
//! Half-precision denormals are numbers like others: DAZ and FTZ do not see them, and reading one raises nothing
//! (Intel SDM vol. 2, VCVTPH2PS and VCVTPS2PH).

use super::float::{
    Env, Exact, Layout, Rounding, Single, flush_operand, is_infinite, lane, lanes, mxcsr, note_denormal,
    propagate, round,
};
use super::wide::pures;

/// Half precision.
struct Half;

impl Layout for Half {
    const FRACTION: u32 = 10;
    const BITS: u32 = 16;
}

/// How much longer a single's fraction is.
const LONGER: u32 = Single::FRACTION - Half::FRACTION;

fn widen(env: &mut Env, a: u64) -> u64 {
    let sign = (a & Half::SIGN) << 16;
    if let Some(nan) = propagate::<Half>(env, a, a) {
        return sign | Single::INFINITY | (nan & Half::FRACTION_MASK) << LONGER;
    }
    if is_infinite::<Half>(a) {
        return sign | Single::INFINITY;
    }
    // Exact, so nothing is rounded and nothing is tiny.
    Exact::of::<Half>(a).map_or(sign, |x| round::<Single>(env, &x))
}

/// Rounds as imm8 says: bits 1:0, or MXCSR if bit 2 is set.
fn narrow(env: &mut Env, a: u64, imm: u8) -> u64 {
    let a = flush_operand::<Single>(env, a);
    let sign = a >> 16 & Half::SIGN;
    if let Some(nan) = propagate::<Single>(env, a, a) {
        return sign | Half::INFINITY | (nan & Single::FRACTION_MASK) >> LONGER;
    }
    if is_infinite::<Single>(a) {
        return sign | Half::INFINITY;
    }
    note_denormal::<Single>(env, a);
    let rounding = if imm & 4 != 0 { env.rounding() } else { Rounding::of(imm.into()) };
    let mut here = Env::new(env.control & !mxcsr::FTZ).with_rounding(rounding);
    let r = Exact::of::<Single>(a).map_or(sign, |x| round::<Half>(&mut here, &x));
    env.flags |= here.flags;
    r
}

fn four_halves(v: u64) -> impl Fn(usize) -> u64 {
    move |i| v >> (16 * i) & 0xffff
}

pures! {
    vcvtph2ps(e, _, b, _, _) {
        let half = four_halves(b[0]);
        lanes::<Single>(|i| widen(e, half(i)))
    };
    vcvtps2ph(e, _, b, _, imm) {
        let all = (0..4).fold(0, |all, i| all | narrow(e, lane::<Single>(b, i), imm) << (16 * i));
        [all, 0]
    };
}

const _: () = assert!(Half::BIAS == 15 && Half::INFINITY == 0x7c00);
