//! Operators of vectors.

use super::{doubles, lane, lanes, lanes2, mask2, signed, signs, singles};
use crate::simd::{Op1, Op2};

/// One operand.
pub(super) fn one(op: Op1, a: u128) -> u128 {
    use Op1::*;
    match op {
        V128Not => !a,
        V128AnyTrue => u128::from(a != 0),
        I8x16AllTrue => all(1, a),
        I16x8AllTrue => all(2, a),
        I32x4AllTrue => all(4, a),
        I64x2AllTrue => all(8, a),
        I8x16Splat => lanes(1, |_| a as u64),
        I16x8Splat => lanes(2, |_| a as u64),
        I32x4Splat | F32x4Splat => lanes(4, |_| a as u64),
        I64x2Splat | F64x2Splat => lanes(8, |_| a as u64),
        I8x16Bitmask => signs(1, a),
        I16x8Bitmask => signs(2, a),
        I32x4Bitmask => signs(4, a),
        I64x2Bitmask => signs(8, a),
        I8x16Abs => each(1, a, i64::wrapping_abs),
        I16x8Abs => each(2, a, i64::wrapping_abs),
        I32x4Abs => each(4, a, i64::wrapping_abs),
        I16x8ExtendLowI8x16S => extend(2, 0, true, a),
        I16x8ExtendLowI8x16U => extend(2, 0, false, a),
        I16x8ExtendHighI8x16S => extend(2, 1, true, a),
        I16x8ExtendHighI8x16U => extend(2, 1, false, a),
        I32x4ExtendLowI16x8S => extend(4, 0, true, a),
        I32x4ExtendLowI16x8U => extend(4, 0, false, a),
        I64x2ExtendLowI32x4S => extend(8, 0, true, a),
        I64x2ExtendLowI32x4U => extend(8, 0, false, a),
        I16x8ExtAddPairwiseI8x16U => pairs(2, false, a),
        I32x4ExtAddPairwiseI16x8U => pairs(4, false, a),
        I32x4ExtAddPairwiseI16x8S => pairs(4, true, a),
        _ => floats(op, a),
    }
}

fn floats(op: Op1, a: u128) -> u128 {
    use Op1::*;
    match op {
        F32x4Abs => each_f32(a, f32::abs),
        F32x4Sqrt => each_f32(a, f32::sqrt),
        F32x4Nearest => each_f32(a, f32::round_ties_even),
        F32x4Ceil => each_f32(a, f32::ceil),
        F32x4Floor => each_f32(a, f32::floor),
        F32x4Trunc => each_f32(a, f32::trunc),
        F64x2Abs => each_f64(a, f64::abs),
        F64x2Sqrt => each_f64(a, f64::sqrt),
        F64x2Nearest => each_f64(a, f64::round_ties_even),
        F64x2Ceil => each_f64(a, f64::ceil),
        F64x2Floor => each_f64(a, f64::floor),
        F64x2Trunc => each_f64(a, f64::trunc),
        F32x4ConvertI32x4S => lanes(4, |n| (lane(4, n, a) as i32 as f32).to_bits().into()),
        F64x2ConvertLowI32x4S => lanes(8, |n| f64::from(lane(4, n, a) as i32).to_bits()),
        F64x2PromoteLowF32x4 => lanes(8, |n| f64::from(f32_at(n, a)).to_bits()),
        F32x4DemoteF64x2Zero => lanes(4, |n| if n < 2 { (f64_at(n, a) as f32).to_bits().into() } else { 0 }),
        I32x4TruncSatF32x4S => lanes(4, |n| f32_at(n, a) as i32 as u64),
        I32x4TruncSatF64x2SZero => lanes(4, |n| if n < 2 { f64_at(n, a) as i32 as u64 } else { 0 }),
        _ => a,
    }
}

/// Two operands.
pub(super) fn two(op: Op2, a: u128, b: u128) -> u128 {
    use Op2::*;
    match op {
        I8x16Add => lanes2(1, a, b, u64::wrapping_add),
        I8x16Sub => lanes2(1, a, b, u64::wrapping_sub),
        I16x8Add => lanes2(2, a, b, u64::wrapping_add),
        I16x8Sub => lanes2(2, a, b, u64::wrapping_sub),
        I16x8Mul => lanes2(2, a, b, u64::wrapping_mul),
        I32x4Add => lanes2(4, a, b, u64::wrapping_add),
        I32x4Sub => lanes2(4, a, b, u64::wrapping_sub),
        I32x4Mul => lanes2(4, a, b, u64::wrapping_mul),
        I64x2Add => lanes2(8, a, b, u64::wrapping_add),
        I64x2Sub => lanes2(8, a, b, u64::wrapping_sub),
        I8x16Eq => mask2(1, a, b, |x, y| x == y),
        I16x8Eq => mask2(2, a, b, |x, y| x == y),
        I32x4Eq => mask2(4, a, b, |x, y| x == y),
        I64x2Eq => mask2(8, a, b, |x, y| x == y),
        I8x16GtS => mask2(1, a, b, |x, y| x > y),
        I16x8GtS => mask2(2, a, b, |x, y| x > y),
        I32x4GtS => mask2(4, a, b, |x, y| x > y),
        I64x2GtS => mask2(8, a, b, |x, y| x > y),
        I32x4LtU => mask2(4, a, b, |x, y| (x as u64) < y as u64),
        I32x4GeU => mask2(4, a, b, |x, y| x as u64 >= y as u64),
        I8x16MinS => signed2(1, a, b, i64::min),
        I8x16MaxS => signed2(1, a, b, i64::max),
        I8x16MinU => lanes2(1, a, b, u64::min),
        I8x16MaxU => lanes2(1, a, b, u64::max),
        I16x8MinS => signed2(2, a, b, i64::min),
        I16x8MaxS => signed2(2, a, b, i64::max),
        I16x8MinU => lanes2(2, a, b, u64::min),
        I16x8MaxU => lanes2(2, a, b, u64::max),
        I32x4MinS => signed2(4, a, b, i64::min),
        I32x4MaxS => signed2(4, a, b, i64::max),
        I32x4MinU => lanes2(4, a, b, u64::min),
        I32x4MaxU => lanes2(4, a, b, u64::max),
        I8x16AvgrU => lanes2(1, a, b, |x, y| (x + y).div_ceil(2)),
        I16x8AvgrU => lanes2(2, a, b, |x, y| (x + y).div_ceil(2)),
        _ => wide(op, a, b),
    }
}

/// What saturates, multiplies or narrows.
fn wide(op: Op2, a: u128, b: u128) -> u128 {
    use Op2::*;
    let saturated = |bytes: u8, f: fn(i64, i64) -> i64| {
        let top = (1 << (8 * bytes - 1)) - 1;
        signed2(bytes, a, b, |x, y| f(x, y).clamp(-top - 1, top))
    };
    let unsigned = |bytes: u8, f: fn(i64, i64) -> i64| {
        let top = (1 << (8 * bytes)) - 1;
        lanes2(bytes, a, b, |x, y| f(x as i64, y as i64).clamp(0, top) as u64)
    };
    match op {
        I8x16AddSatS => saturated(1, |x, y| x + y),
        I8x16SubSatS => saturated(1, |x, y| x - y),
        I16x8AddSatS => saturated(2, |x, y| x + y),
        I16x8SubSatS => saturated(2, |x, y| x - y),
        I16x8Q15MulrSatS => saturated(2, |x, y| (x * y + 0x4000) >> 15),
        I8x16AddSatU => unsigned(1, |x, y| x + y),
        I8x16SubSatU => unsigned(1, |x, y| x - y),
        I16x8AddSatU => unsigned(2, |x, y| x + y),
        I16x8SubSatU => unsigned(2, |x, y| x - y),
        I32x4ExtMulLowI16x8S => products(4, 0, true, a, b),
        I32x4ExtMulHighI16x8S => products(4, 1, true, a, b),
        I32x4ExtMulLowI16x8U => products(4, 0, false, a, b),
        I32x4ExtMulHighI16x8U => products(4, 1, false, a, b),
        I64x2ExtMulLowI32x4S => products(8, 0, true, a, b),
        I64x2ExtMulLowI32x4U => products(8, 0, false, a, b),
        I32x4DotI16x8S => lanes(4, |n| {
            let at = |n| signed(lane(2, n, a), 16) * signed(lane(2, n, b), 16);
            (at(2 * n) + at(2 * n + 1)) as u64
        }),
        I8x16NarrowI16x8S => narrow(1, -128, 127, a, b),
        I8x16NarrowI16x8U => narrow(1, 0, 255, a, b),
        I16x8NarrowI32x4S => narrow(2, -0x8000, 0x7fff, a, b),
        I16x8NarrowI32x4U => narrow(2, 0, 0xffff, a, b),
        I8x16Swizzle => lanes(1, |n| match lane(1, n, b) as u32 {
            at @ 0..16 => lane(1, at, a),
            _ => 0,
        }),
        _ => floats2(op, a, b),
    }
}

fn floats2(op: Op2, a: u128, b: u128) -> u128 {
    use Op2::*;
    match op {
        F32x4Add | F32x4Sub | F32x4Mul | F32x4Div => {
            let single = |x: u64| f32::from_bits(x as u32);
            lanes2(4, a, b, |x, y| singles(op, single(x), single(y)) as u64)
        }
        F32x4Eq => mask_f32(a, b, |x, y| x == y),
        F32x4Ne => mask_f32(a, b, |x, y| x != y),
        F32x4Lt => mask_f32(a, b, |x, y| x < y),
        F32x4Le => mask_f32(a, b, |x, y| x <= y),
        F32x4Ge => mask_f32(a, b, |x, y| x >= y),
        F32x4PMin => chosen(4, a, b, |n| f32_at(n, b) < f32_at(n, a)),
        F32x4PMax => chosen(4, a, b, |n| f32_at(n, a) < f32_at(n, b)),
        F64x2Eq => mask_f64(a, b, |x, y| x == y),
        F64x2Ne => mask_f64(a, b, |x, y| x != y),
        F64x2Lt => mask_f64(a, b, |x, y| x < y),
        F64x2Le => mask_f64(a, b, |x, y| x <= y),
        F64x2Ge => mask_f64(a, b, |x, y| x >= y),
        F64x2PMin => chosen(8, a, b, |n| f64_at(n, b) < f64_at(n, a)),
        F64x2PMax => chosen(8, a, b, |n| f64_at(n, a) < f64_at(n, b)),
        _ => lanes2(8, a, b, |x, y| doubles(op, f64::from_bits(x), f64::from_bits(y)) as u64),
    }
}

fn f32_at(n: u32, of: u128) -> f32 {
    f32::from_bits(lane(4, n, of) as u32)
}

fn f64_at(n: u32, of: u128) -> f64 {
    f64::from_bits(lane(8, n, of))
}

/// Whether no lane is 0.
fn all(bytes: u8, a: u128) -> u128 {
    (0..16 / u32::from(bytes)).all(|n| lane(bytes, n, a) != 0).into()
}

fn each(bytes: u8, a: u128, make: impl Fn(i64) -> i64) -> u128 {
    lanes(bytes, |n| make(signed(lane(bytes, n, a), u32::from(bytes) * 8)) as u64)
}

fn each_f32(a: u128, make: impl Fn(f32) -> f32) -> u128 {
    lanes(4, |n| make(f32_at(n, a)).to_bits().into())
}

fn each_f64(a: u128, make: impl Fn(f64) -> f64) -> u128 {
    lanes(8, |n| make(f64_at(n, a)).to_bits())
}

fn signed2(bytes: u8, a: u128, b: u128, make: impl Fn(i64, i64) -> i64) -> u128 {
    let value = |n, of| signed(lane(bytes, n, of), u32::from(bytes) * 8);
    lanes(bytes, |n| make(value(n, a), value(n, b)) as u64)
}

/// Lane `n` of half the bytes, with or without a sign.
fn half(bytes: u8, n: u32, with_sign: bool, of: u128) -> i64 {
    let value = lane(bytes / 2, n, of);
    if with_sign { signed(value, u32::from(bytes) * 4) } else { value as i64 }
}

/// Half of the lanes, widened to so many bytes.
fn extend(bytes: u8, upper: u32, with_sign: bool, a: u128) -> u128 {
    let count = 16 / u32::from(bytes);
    lanes(bytes, |n| half(bytes, n + upper * count, with_sign, a) as u64)
}

/// Products of half of the lanes.
fn products(bytes: u8, upper: u32, with_sign: bool, a: u128, b: u128) -> u128 {
    let count = 16 / u32::from(bytes);
    let at = |n: u32, of| half(bytes, n + upper * count, with_sign, of);
    lanes(bytes, |n| at(n, a).wrapping_mul(at(n, b)) as u64)
}

/// Sums of neighbours.
fn pairs(bytes: u8, with_sign: bool, a: u128) -> u128 {
    lanes(bytes, |n| (half(bytes, 2 * n, with_sign, a) + half(bytes, 2 * n + 1, with_sign, a)) as u64)
}

/// Lanes of twice the bytes, saturated: those of `a`, then those of `b`.
fn narrow(bytes: u8, least: i64, most: i64, a: u128, b: u128) -> u128 {
    let count = 8 / u32::from(bytes);
    lanes(bytes, |n| {
        let (from, at) = if n < count { (a, n) } else { (b, n - count) };
        signed(lane(2 * bytes, at, from), u32::from(bytes) * 16).clamp(least, most) as u64
    })
}

fn mask_f32(a: u128, b: u128, holds: impl Fn(f32, f32) -> bool) -> u128 {
    lanes(4, |n| if holds(f32_at(n, a), f32_at(n, b)) { u64::MAX } else { 0 })
}

fn mask_f64(a: u128, b: u128, holds: impl Fn(f64, f64) -> bool) -> u128 {
    lanes(8, |n| if holds(f64_at(n, a), f64_at(n, b)) { u64::MAX } else { 0 })
}

/// Lanes of `b` where `choose` says so, of `a` elsewhere.
fn chosen(bytes: u8, a: u128, b: u128, choose: impl Fn(u32) -> bool) -> u128 {
    lanes(bytes, |n| lane(bytes, n, if choose(n) { b } else { a }))
}
