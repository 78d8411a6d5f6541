//! What operators compute, on bits: for the evaluator and for constants.
//!
//! The meaning is WebAssembly's. A value is its bits, zero-extended to 128. Where WebAssembly leaves a NaN's bits open,
//! they are what this computer makes of it.

mod vectors;

use crate::ir::{Binary, Type, Unary};
use crate::simd::{Op1, Op2, Shape, Way};

/// An operator of one operand of type `ty`.
pub fn unary(op: Unary, ty: Type, a: u128) -> u128 {
    let x = a as u64;
    let bits = u32::from(ty.size()) * 8;
    let value = match op {
        Unary::Eqz => u64::from(x == 0),
        Unary::Clz => u64::from(x.leading_zeros() + bits - 64),
        Unary::Ctz => u64::from(x.trailing_zeros().min(bits)),
        Unary::Popcnt => u64::from(x.count_ones()),
        Unary::Wrap => x as u32 as u64,
        Unary::ExtendU => x,
        Unary::ExtendS | Unary::Extend32S => x as i32 as u64,
        Unary::Extend8S => x as i8 as u64 & ones(bits),
        Unary::Extend16S => x as i16 as u64 & ones(bits),
        Unary::Wasm(op) => return op1(op, a),
    };
    u128::from(value)
}

/// An operator of two operands of type `ty`, or `None` where it has no result.
pub fn binary(op: Binary, ty: Type, a: u128, b: u128) -> Option<u128> {
    match op {
        Binary::Wasm(op) => Some(op2(op, a, b)),
        _ => integers(op, u32::from(ty.size()) * 8, a as u64, b as u64).map(u128::from),
    }
}

fn integers(op: Binary, bits: u32, a: u64, b: u64) -> Option<u64> {
    use Binary::*;
    let (x, y) = (signed(a, bits), signed(b, bits));
    let count = b as u32 & (bits - 1);
    let value = match op {
        Add => a.wrapping_add(b),
        Sub => a.wrapping_sub(b),
        Mul => a.wrapping_mul(b),
        And => a & b,
        Or => a | b,
        Xor => a ^ b,
        Shl => a << count,
        ShrS => (x >> count) as u64,
        ShrU => a >> count,
        Rotl => rotate(a, count, bits),
        Rotr => rotate(a, (bits - count) & (bits - 1), bits),
        DivS => quotient(x, y, bits)? as u64,
        DivU => a.checked_div(b)?,
        RemS if y == 0 => return None,
        RemS => x.wrapping_rem(y) as u64,
        RemU => a.checked_rem(b)?,
        _ => u64::from(compare(op, (a, b), (x, y))),
    };
    Some(value & ones(bits))
}

fn compare(op: Binary, (a, b): (u64, u64), (x, y): (i64, i64)) -> bool {
    use Binary::*;
    match op {
        Eq => a == b,
        Ne => a != b,
        LtS => x < y,
        LtU => a < b,
        LeS => x <= y,
        LeU => a <= b,
        GtS => x > y,
        GtU => a > b,
        GeS => x >= y,
        _ => a >= b,
    }
}

fn quotient(x: i64, y: i64, bits: u32) -> Option<i64> {
    x.checked_div(y).filter(|q| signed(*q as u64, bits) == *q)
}

fn rotate(a: u64, count: u32, bits: u32) -> u64 {
    if bits == 32 { u64::from((a as u32).rotate_left(count)) } else { a.rotate_left(count) }
}

/// The lowest `bits` bits: 1 to 64.
pub fn ones(bits: u32) -> u64 {
    u64::MAX >> (64 - bits)
}

/// A number of so many bits, with its sign.
pub fn signed(a: u64, bits: u32) -> i64 {
    (a << (64 - bits)) as i64 >> (64 - bits)
}

fn op1(op: Op1, a: u128) -> u128 {
    use Op1::*;
    let (single, double) = (f32::from_bits(a as u32), f64::from_bits(a as u64));
    match op {
        F32Abs => of_f32(single.abs()),
        F32Neg => of_f32(-single),
        F32Sqrt => of_f32(single.sqrt()),
        F32Nearest => of_f32(single.round_ties_even()),
        F32Ceil => of_f32(single.ceil()),
        F32Floor => of_f32(single.floor()),
        F32Trunc => of_f32(single.trunc()),
        F64Abs => of_f64(double.abs()),
        F64Neg => of_f64(-double),
        F64Sqrt => of_f64(double.sqrt()),
        F64Nearest => of_f64(double.round_ties_even()),
        F64Ceil => of_f64(double.ceil()),
        F64Floor => of_f64(double.floor()),
        F64Trunc => of_f64(double.trunc()),
        F32DemoteF64 => of_f32(double as f32),
        F64PromoteF32 => of_f64(f64::from(single)),
        F32ConvertI32S => of_f32(a as i32 as f32),
        F32ConvertI64S => of_f32(a as i64 as f32),
        F64ConvertI32S => of_f64(f64::from(a as i32)),
        F64ConvertI64S => of_f64(a as i64 as f64),
        I32TruncSatF32S => u128::from(single as i32 as u32),
        I32TruncSatF64S => u128::from(double as i32 as u32),
        I64TruncSatF32S => u128::from(single as i64 as u64),
        I64TruncSatF64S => u128::from(double as i64 as u64),
        I32ReinterpretF32 | I64ReinterpretF64 | F32ReinterpretI32 | F64ReinterpretI64 => a,
        _ => vectors::one(op, a),
    }
}

fn op2(op: Op2, a: u128, b: u128) -> u128 {
    use Op2::*;
    match op {
        F32Add | F32Sub | F32Mul | F32Div | F32Eq | F32Ne | F32Lt | F32Gt | F32Le | F32Ge => {
            singles(op, f32::from_bits(a as u32), f32::from_bits(b as u32))
        }
        F64Add | F64Sub | F64Mul | F64Div | F64Eq | F64Ne | F64Lt | F64Gt | F64Le | F64Ge => {
            doubles(op, f64::from_bits(a as u64), f64::from_bits(b as u64))
        }
        V128And => a & b,
        V128AndNot => a & !b,
        V128Or => a | b,
        V128Xor => a ^ b,
        _ => vectors::two(op, a, b),
    }
}

fn singles(op: Op2, a: f32, b: f32) -> u128 {
    match op {
        Op2::F32Eq => u128::from(a == b),
        Op2::F32Lt => u128::from(a < b),
        Op2::F32Gt => u128::from(a > b),
        Op2::F32Ne => u128::from(a != b),
        Op2::F32Le => u128::from(a <= b),
        Op2::F32Ge => u128::from(a >= b),
        Op2::F32Add | Op2::F32x4Add => of_f32(a + b),
        Op2::F32Sub | Op2::F32x4Sub => of_f32(a - b),
        Op2::F32Mul | Op2::F32x4Mul => of_f32(a * b),
        _ => of_f32(a / b),
    }
}

fn doubles(op: Op2, a: f64, b: f64) -> u128 {
    match op {
        Op2::F64Eq => u128::from(a == b),
        Op2::F64Lt => u128::from(a < b),
        Op2::F64Gt => u128::from(a > b),
        Op2::F64Ne => u128::from(a != b),
        Op2::F64Le => u128::from(a <= b),
        Op2::F64Ge => u128::from(a >= b),
        Op2::F64Add | Op2::F64x2Add => of_f64(a + b),
        Op2::F64Sub | Op2::F64x2Sub => of_f64(a - b),
        Op2::F64Mul | Op2::F64x2Mul => of_f64(a * b),
        _ => of_f64(a / b),
    }
}

/// An operator of vectors with a lane, a pattern, or three operands.
pub fn vector(shape: Shape, [a, b, c]: [u128; 3]) -> u128 {
    match shape {
        Shape::Shuffle(pattern) => lanes(1, |n| {
            let from = u32::from(pattern[n as usize]);
            if from < 16 { lane(1, from, a) } else { lane(1, from - 16, b) }
        }),
        Shape::Bitselect => a & c | b & !c,
        Shape::Extract { bytes, lane: n } | Shape::ExtractFloat { bytes, lane: n } => {
            u128::from(lane(bytes, u32::from(n), a))
        }
        Shape::Replace { bytes, lane: n } | Shape::ReplaceFloat { bytes, lane: n } => {
            lanes(bytes, |at| if at == u32::from(n) { b as u64 } else { lane(bytes, at, a) })
        }
        Shape::Shift { bytes, way } => {
            let bits = u32::from(bytes) * 8;
            let count = b as u32 & (bits - 1);
            lanes(bytes, |n| shift(way, lane(bytes, n, a), bits, count))
        }
    }
}

fn shift(way: Way, a: u64, bits: u32, count: u32) -> u64 {
    match way {
        Way::Left => a << count,
        Way::Right => a >> count,
        Way::RightSigned => (signed(a, bits) >> count) as u64,
    }
}

fn of_f32(value: f32) -> u128 {
    u128::from(value.to_bits())
}

fn of_f64(value: f64) -> u128 {
    u128::from(value.to_bits())
}

fn lane(bytes: u8, number: u32, of: u128) -> u64 {
    let bits = u32::from(bytes) * 8;
    (of >> (number * bits)) as u64 & ones(bits)
}

/// A vector whose lane *n* is the low bits of what `make` gives for *n*.
fn lanes(bytes: u8, make: impl Fn(u32) -> u64) -> u128 {
    let bits = u32::from(bytes) * 8;
    (0..128 / bits).fold(0, |all, n| all | u128::from(make(n) & ones(bits)) << (n * bits))
}

fn lanes2(bytes: u8, a: u128, b: u128, make: impl Fn(u64, u64) -> u64) -> u128 {
    lanes(bytes, |n| make(lane(bytes, n, a), lane(bytes, n, b)))
}

/// Ones in the lanes of which `holds` is true, which sees them with their signs.
fn mask2(bytes: u8, a: u128, b: u128, holds: impl Fn(i64, i64) -> bool) -> u128 {
    let value = |n, of| signed(lane(bytes, n, of), u32::from(bytes) * 8);
    lanes(bytes, |n| if holds(value(n, a), value(n, b)) { u64::MAX } else { 0 })
}

/// The signs of all lanes, lane 0 in bit 0.
fn signs(bytes: u8, a: u128) -> u128 {
    let bits = u32::from(bytes) * 8;
    (0..128 / bits).fold(0, |all, n| all | u128::from(lane(bytes, n, a) >> (bits - 1)) << n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_32_bits_stay_in_32_bits() {
        let of = |op, a: i32, b: i32| binary(op, Type::I32, u128::from(a as u32), u128::from(b as u32));
        assert_eq!(of(Binary::Add, -1, 2), Some(1));
        assert_eq!(of(Binary::ShrS, -8, 33), Some(0xffff_fffc));
        assert_eq!(of(Binary::ShrU, -8, 1), Some(0x7fff_fffc));
        assert_eq!(of(Binary::Rotr, 1, 1), Some(0x8000_0000));
        assert_eq!(of(Binary::Rotr, 5, 32), Some(5));
        assert_eq!(of(Binary::LtS, -1, 0), Some(1));
        assert_eq!(of(Binary::LtU, -1, 0), Some(0));
    }

    #[test]
    fn divisions_without_a_result_have_none() {
        let of = |op, a: i32, b: i32| binary(op, Type::I32, u128::from(a as u32), u128::from(b as u32));
        assert_eq!(of(Binary::DivS, i32::MIN, -1), None);
        assert_eq!(of(Binary::RemS, i32::MIN, -1), Some(0));
        assert_eq!([Binary::DivU, Binary::RemU, Binary::RemS].map(|op| of(op, 7, 0)), [None; 3]);
        assert_eq!(of(Binary::DivS, -7, 2), Some(0xffff_fffd));
    }

    #[test]
    fn counts_of_bits_know_the_type() {
        assert_eq!(unary(Unary::Clz, Type::I32, 1), 31);
        assert_eq!(unary(Unary::Ctz, Type::I32, 0), 32);
        assert_eq!(unary(Unary::Clz, Type::I64, 0), 64);
        assert_eq!(unary(Unary::Extend8S, Type::I32, 0x80), 0xffff_ff80);
    }

    #[test]
    fn vectors_work_lane_by_lane() {
        let add = |a, b| binary(Binary::Wasm(Op2::I8x16Add), Type::V128, a, b);
        assert_eq!(add(0x01ff, 0x0101), Some(0x0200));
        assert_eq!(unary(Unary::Wasm(Op1::I32x4Bitmask), Type::V128, 0x8000_0000 << 64 | 0x8000_0000), 0b101);
        let shift = Shape::Shift { bytes: 2, way: Way::RightSigned };
        assert_eq!(vector(shift, [0x8000_4000, 17, 0]), 0xc000_2000);
        let reversed = Shape::Shuffle(core::array::from_fn(|n| 31 - n as u8));
        assert_eq!(vector(reversed, [0, 0x0102, 0]), 0x0201 << 112);
        assert_eq!(vector(Shape::Bitselect, [0xaa, 0x55, 0x0f]), 0x5a);
    }

    #[test]
    fn conversions_saturate_and_round_to_even() {
        let double = |op, x: f64| unary(Unary::Wasm(op), Type::F64, u128::from(x.to_bits()));
        assert_eq!(double(Op1::I32TruncSatF64S, 1e20), 0x7fff_ffff);
        assert_eq!(double(Op1::I32TruncSatF64S, f64::NAN), 0);
        assert_eq!(double(Op1::F64Nearest, 2.5), u128::from(2f64.to_bits()));
    }
}
