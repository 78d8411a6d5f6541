//! Which bits of an integer may be ones.

use super::all;
use super::out::Out;
use crate::ir::{Binary, Inst, Type, Unary, Value};
use crate::operators::ones;
use crate::simd::Shape;

/// The bits of a new value of type `ty` that may be ones.
pub fn possible(out: &Out, inst: &Inst, ty: Type) -> u64 {
    let bits = match *inst {
        Inst::Const(_, bits) => bits,
        Inst::Unary(op, a) => of_unary(op, out.ty(a), out.bits(a)),
        Inst::Binary(op, a, b) => of_binary(out, op, a, b),
        Inst::Select { yes, no, .. } => out.bits(yes) | out.bits(no),
        Inst::Load { size, signed: false, .. }
        | Inst::Peek { size, signed: false, .. }
        | Inst::State { size, .. } => ones(u32::from(size).min(8) * 8),
        Inst::Vector(Shape::Extract { bytes, .. }, _) => ones(u32::from(bytes) * 8),
        Inst::Condition(_) => 1,
        _ => u64::MAX,
    };
    bits & all(ty)
}

/// All bits up to the highest.
pub fn smear(bits: u64) -> u64 {
    if bits == 0 { 0 } else { ones(64 - bits.leading_zeros()) }
}

fn of_unary(op: Unary, ty: Type, a: u64) -> u64 {
    match op {
        Unary::Eqz => 1,
        Unary::Clz | Unary::Ctz | Unary::Popcnt => u64::from(ty.size()) * 16 - 1,
        Unary::Wrap | Unary::ExtendU => a,
        Unary::ExtendS | Unary::Extend32S => of_extension(a, 32),
        Unary::Extend8S => of_extension(a, 8),
        Unary::Extend16S => of_extension(a, 16),
        Unary::Wasm(_) => u64::MAX,
    }
}

/// The sign of so many bits is copied, if there may be one.
fn of_extension(a: u64, bits: u32) -> u64 {
    let low = a & ones(bits);
    if low >> (bits - 1) == 0 { low } else { low | !ones(bits) }
}

fn of_binary(out: &Out, op: Binary, a: Value, b: Value) -> u64 {
    let width = u32::from(out.ty(a).size()) * 8;
    let count = out.constant_of(b).map(|c| c as u32 & width.wrapping_sub(1));
    let (x, y) = (out.bits(a), out.bits(b));
    match (op, count) {
        (Binary::And, _) => x & y,
        (Binary::Or | Binary::Xor, _) => x | y,
        (Binary::Shl, Some(count)) => x << count,
        (Binary::ShrU, Some(count)) => x >> count,
        (Binary::ShrU | Binary::DivU | Binary::RemU, _) => smear(x),
        // One bit more than both.
        (Binary::Add, _) => smear(x | y) << 1 | 1,
        (Binary::Wasm(op), _) if op.gives() == Type::I32 => 1,
        (op, _) if op.compares() => 1,
        _ => u64::MAX,
    }
}
