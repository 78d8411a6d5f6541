//! The types of values, which follow from the instructions that make them.

use crate::ir::{Binary, Block, Inst, Type, Unary, Value};
use crate::simd::Shape;

/// The type of what an instruction makes, if it makes a value. `of` knows the types of earlier values.
pub fn result(word: Type, inst: &Inst, of: impl Fn(Value) -> Option<Type>) -> Option<Type> {
    match *inst {
        Inst::Const(ty, _) | Inst::State { ty, .. } | Inst::Load { ty, .. } | Inst::Peek { ty, .. } => {
            Some(ty)
        }
        Inst::ConstV(..) => Some(Type::V128),
        Inst::Get(var) => Some(var.type_in(word)),
        Inst::Unary(op, a) => of_unary(op, of(a)),
        Inst::Binary(op, a, _) => of_binary(op, of(a)),
        Inst::Select { yes, .. } => of(yes),
        Inst::Vector(shape, _) => Some(of_shape(shape)),
        Inst::Rip(_) => Some(word),
        Inst::Place { .. } | Inst::X87 { .. } | Inst::Condition(_) => Some(Type::I32),
        Inst::Nop
        | Inst::At { .. }
        | Inst::Set(..)
        | Inst::SetState { .. }
        | Inst::Store { .. }
        | Inst::Poke { .. }
        | Inst::Guard(_)
        | Inst::GuardEither(..)
        | Inst::Exec { .. }
        | Inst::Flags { .. }
        | Inst::FlagsIf { .. }
        | Inst::Settle
        | Inst::EnterX87 { .. }
        | Inst::HaveX87 { .. }
        | Inst::Carry(_)
        | Inst::CarryOverflow(_) => None,
    }
}

fn of_unary(op: Unary, operand: Option<Type>) -> Option<Type> {
    match op {
        Unary::Eqz | Unary::Wrap => Some(Type::I32),
        Unary::ExtendS | Unary::ExtendU | Unary::Extend32S => Some(Type::I64),
        Unary::Clz | Unary::Ctz | Unary::Popcnt | Unary::Extend8S | Unary::Extend16S => operand,
        Unary::Wasm(op) => Some(op.gives()),
    }
}

fn of_binary(op: Binary, operand: Option<Type>) -> Option<Type> {
    match op {
        Binary::Wasm(op) => Some(op.gives()),
        op if op.compares() => Some(Type::I32),
        _ => operand,
    }
}

/// The type of what a vector operator makes.
pub fn of_shape(shape: Shape) -> Type {
    match shape {
        Shape::Extract { bytes, .. } => lane(bytes),
        Shape::ExtractFloat { bytes, .. } => float_lane(bytes),
        _ => Type::V128,
    }
}

/// The type that a lane of this many bytes has outside its vector.
pub fn lane(bytes: u8) -> Type {
    if bytes == 8 { Type::I64 } else { Type::I32 }
}

/// The floating-point type of a lane of this many bytes.
pub fn float_lane(bytes: u8) -> Type {
    if bytes == 8 { Type::F64 } else { Type::F32 }
}

/// The types of a block's values, one for each instruction.
pub fn of_block(word: Type, block: &Block) -> Vec<Option<Type>> {
    let mut types: Vec<Option<Type>> = Vec::with_capacity(block.insts.len());
    for inst in &block.insts {
        let ty = result(word, inst, |v| types.get(v.0 as usize).copied().flatten());
        types.push(ty);
    }
    types
}

impl Binary {
    /// Whether it compares integers, with a truth value as its result.
    pub fn compares(self) -> bool {
        use Binary::*;
        matches!(self, Eq | Ne | LtS | LtU | LeS | LeU | GtS | GtU | GeS | GeU)
    }
}
