//! The operators of the intermediate language as WebAssembly's.

use crate::emit::code::Code;
use crate::ir::{Binary, Type, Unary};
use crate::simd::{Shape, Way};
use wasm_encoder::Instruction as I;

/// An operator of one operand of type `ty`.
pub(super) fn unary(code: &mut Code, op: Unary, ty: Type) -> Option<()> {
    use Unary as U;
    let long = ty == Type::I64;
    let instruction = match op {
        U::Eqz => pick(long, I::I32Eqz, I::I64Eqz),
        U::Clz => pick(long, I::I32Clz, I::I64Clz),
        U::Ctz => pick(long, I::I32Ctz, I::I64Ctz),
        U::Popcnt => pick(long, I::I32Popcnt, I::I64Popcnt),
        U::Wrap => I::I32WrapI64,
        U::ExtendS => I::I64ExtendI32S,
        U::ExtendU => I::I64ExtendI32U,
        U::Extend8S => pick(long, I::I32Extend8S, I::I64Extend8S),
        U::Extend16S => pick(long, I::I32Extend16S, I::I64Extend16S),
        U::Extend32S => I::I64Extend32S,
        U::Wasm(op) => op.instruction(),
    };
    code.put_one(&instruction)
}

/// An operator of two operands of type `ty`.
pub(super) fn binary(code: &mut Code, op: Binary, ty: Type) -> Option<()> {
    use Binary as B;
    let long = ty == Type::I64;
    let instruction = match op {
        B::Add => pick(long, I::I32Add, I::I64Add),
        B::Sub => pick(long, I::I32Sub, I::I64Sub),
        B::Mul => pick(long, I::I32Mul, I::I64Mul),
        B::And => pick(long, I::I32And, I::I64And),
        B::Or => pick(long, I::I32Or, I::I64Or),
        B::Xor => pick(long, I::I32Xor, I::I64Xor),
        B::Shl => pick(long, I::I32Shl, I::I64Shl),
        B::ShrS => pick(long, I::I32ShrS, I::I64ShrS),
        B::ShrU => pick(long, I::I32ShrU, I::I64ShrU),
        B::Rotl => pick(long, I::I32Rotl, I::I64Rotl),
        B::Rotr => pick(long, I::I32Rotr, I::I64Rotr),
        B::Eq => pick(long, I::I32Eq, I::I64Eq),
        B::Ne => pick(long, I::I32Ne, I::I64Ne),
        B::LtS => pick(long, I::I32LtS, I::I64LtS),
        B::LtU => pick(long, I::I32LtU, I::I64LtU),
        B::LeS => pick(long, I::I32LeS, I::I64LeS),
        B::LeU => pick(long, I::I32LeU, I::I64LeU),
        B::GtS => pick(long, I::I32GtS, I::I64GtS),
        B::GtU => pick(long, I::I32GtU, I::I64GtU),
        B::GeS => pick(long, I::I32GeS, I::I64GeS),
        B::GeU => pick(long, I::I32GeU, I::I64GeU),
        B::DivS => pick(long, I::I32DivS, I::I64DivS),
        B::DivU => pick(long, I::I32DivU, I::I64DivU),
        B::RemS => pick(long, I::I32RemS, I::I64RemS),
        B::RemU => pick(long, I::I32RemU, I::I64RemU),
        B::Wasm(op) => op.instruction(),
    };
    code.put_one(&instruction)
}

/// An operator with a lane, a pattern, or three operands.
pub(super) fn vector(code: &mut Code, shape: Shape) -> Option<()> {
    use Way::{Left, Right, RightSigned};
    let instruction = match shape {
        Shape::Shuffle(pattern) if pattern.iter().all(|lane| *lane < 32) => I::I8x16Shuffle(pattern),
        Shape::Bitselect => I::V128Bitselect,
        Shape::Extract { bytes: 1, lane: lane @ 0..16 } => I::I8x16ExtractLaneU(lane),
        Shape::Extract { bytes: 2, lane: lane @ 0..8 } => I::I16x8ExtractLaneU(lane),
        Shape::Extract { bytes: 4, lane: lane @ 0..4 } => I::I32x4ExtractLane(lane),
        Shape::Extract { bytes: 8, lane: lane @ 0..2 } => I::I64x2ExtractLane(lane),
        Shape::Replace { bytes: 1, lane: lane @ 0..16 } => I::I8x16ReplaceLane(lane),
        Shape::Replace { bytes: 2, lane: lane @ 0..8 } => I::I16x8ReplaceLane(lane),
        Shape::Replace { bytes: 4, lane: lane @ 0..4 } => I::I32x4ReplaceLane(lane),
        Shape::Replace { bytes: 8, lane: lane @ 0..2 } => I::I64x2ReplaceLane(lane),
        Shape::ExtractFloat { bytes: 4, lane: lane @ 0..4 } => I::F32x4ExtractLane(lane),
        Shape::ExtractFloat { bytes: 8, lane: lane @ 0..2 } => I::F64x2ExtractLane(lane),
        Shape::ReplaceFloat { bytes: 4, lane: lane @ 0..4 } => I::F32x4ReplaceLane(lane),
        Shape::ReplaceFloat { bytes: 8, lane: lane @ 0..2 } => I::F64x2ReplaceLane(lane),
        Shape::Shift { bytes: 1, way: Left } => I::I8x16Shl,
        Shape::Shift { bytes: 1, way: Right } => I::I8x16ShrU,
        Shape::Shift { bytes: 1, way: RightSigned } => I::I8x16ShrS,
        Shape::Shift { bytes: 2, way: Left } => I::I16x8Shl,
        Shape::Shift { bytes: 2, way: Right } => I::I16x8ShrU,
        Shape::Shift { bytes: 2, way: RightSigned } => I::I16x8ShrS,
        Shape::Shift { bytes: 4, way: Left } => I::I32x4Shl,
        Shape::Shift { bytes: 4, way: Right } => I::I32x4ShrU,
        Shape::Shift { bytes: 4, way: RightSigned } => I::I32x4ShrS,
        Shape::Shift { bytes: 8, way: Left } => I::I64x2Shl,
        Shape::Shift { bytes: 8, way: Right } => I::I64x2ShrU,
        Shape::Shift { bytes: 8, way: RightSigned } => I::I64x2ShrS,
        _ => return None,
    };
    code.put_one(&instruction)
}

fn pick(long: bool, short: I<'static>, wide: I<'static>) -> I<'static> {
    if long { wide } else { short }
}
