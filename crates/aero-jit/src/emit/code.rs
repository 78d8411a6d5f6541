//! A function under construction: its bytes, the locals that it asks for, and its branch hints.

use crate::ir::Type;
use wasm_encoder::{
    BlockType, BranchHint, Encode, Function, Instruction, InstructionSink, MemArg, MemArgTarget, ValType,
};

/// What the branch that follows mostly does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mostly {
    Taken,
    NotTaken,
}

/// A function's code.
pub(super) struct Code {
    bytes: Vec<u8>,
    hints: Vec<BranchHint>,
    parameters: u32,
    locals: Vec<ValType>,
}

impl Code {
    pub(super) fn new(parameters: u32) -> Self {
        Self { bytes: Vec::with_capacity(4096), hints: Vec::new(), parameters, locals: Vec::new() }
    }

    /// Where instructions go.
    pub(super) fn put(&mut self) -> InstructionSink<'_> {
        InstructionSink::new(&mut self.bytes)
    }

    /// One instruction.
    pub(super) fn put_one(&mut self, instruction: &Instruction<'_>) -> Option<()> {
        instruction.encode(&mut self.bytes);
        Some(())
    }

    /// A new local.
    pub(super) fn local(&mut self, ty: Type) -> u32 {
        self.locals.push(val_type(ty));
        self.parameters + self.locals.len() as u32 - 1
    }

    /// An `if` of what is on the stack.
    pub(super) fn if_(&mut self, ty: BlockType, mostly: Mostly) {
        self.hint(mostly);
        self.put().if_(ty);
    }

    /// A `br_if` of what is on the stack.
    pub(super) fn br_if(&mut self, depth: u32, mostly: Mostly) {
        self.hint(mostly);
        self.put().br_if(depth);
    }

    fn hint(&mut self, mostly: Mostly) {
        self.hints.push(BranchHint {
            branch_func_offset: self.bytes.len() as u32,
            branch_hint_value: u32::from(mostly == Mostly::Taken),
        });
    }

    /// The body with its locals, and the hints, whose offsets count from the body's begin.
    pub(super) fn finish(mut self) -> (Function, Vec<BranchHint>) {
        let mut function = Function::new_with_locals_types(self.locals);
        let before = function.byte_len() as u32;
        self.hints.iter_mut().for_each(|hint| hint.branch_func_offset += before);
        function.raw(self.bytes);
        (function, self.hints)
    }
}

/// The engine's type.
pub(super) fn val_type(ty: Type) -> ValType {
    match ty {
        Type::I32 => ValType::I32,
        Type::I64 => ValType::I64,
        Type::F32 => ValType::F32,
        Type::F64 => ValType::F64,
        Type::V128 => ValType::V128,
    }
}

/// A place in memory, `offset` from the address on the stack, of `2^align` bytes.
pub(super) fn at(offset: u32, align: u32) -> MemArg {
    MemArg { offset: offset.into(), align, target: MemArgTarget::Memory(0), ordering: None }
}

/// Loads `size` bytes as a `ty` from the address on the stack. `None` if there is no such load.
pub(super) fn load(code: &mut Code, ty: Type, size: u8, signed: bool, from: MemArg) -> Option<()> {
    let mut put = code.put();
    match (ty, size, signed) {
        (Type::I32, 1, false) => put.i32_load8_u(from),
        (Type::I32, 1, true) => put.i32_load8_s(from),
        (Type::I32, 2, false) => put.i32_load16_u(from),
        (Type::I32, 2, true) => put.i32_load16_s(from),
        (Type::I32, 4, _) => put.i32_load(from),
        (Type::I64, 1, false) => put.i64_load8_u(from),
        (Type::I64, 1, true) => put.i64_load8_s(from),
        (Type::I64, 2, false) => put.i64_load16_u(from),
        (Type::I64, 2, true) => put.i64_load16_s(from),
        (Type::I64, 4, false) => put.i64_load32_u(from),
        (Type::I64, 4, true) => put.i64_load32_s(from),
        (Type::I64, 8, _) => put.i64_load(from),
        (Type::F32, 4, _) => put.f32_load(from),
        (Type::F64, 8, _) => put.f64_load(from),
        (Type::V128, 1, _) => put.v128_const(0).v128_load8_lane(from, 0),
        (Type::V128, 2, _) => put.v128_const(0).v128_load16_lane(from, 0),
        (Type::V128, 4, _) => put.v128_load32_zero(from),
        (Type::V128, 8, _) => put.v128_load64_zero(from),
        (Type::V128, 16, _) => put.v128_load(from),
        _ => return None,
    };
    Some(())
}

/// Stores the low `size` bytes of the `ty` on the stack at the address below it. `None` if there is no such store.
pub(super) fn store(code: &mut Code, ty: Type, size: u8, to: MemArg) -> Option<()> {
    let mut put = code.put();
    match (ty, size) {
        (Type::I32, 1) => put.i32_store8(to),
        (Type::I32, 2) => put.i32_store16(to),
        (Type::I32, 4) => put.i32_store(to),
        (Type::I64, 1) => put.i64_store8(to),
        (Type::I64, 2) => put.i64_store16(to),
        (Type::I64, 4) => put.i64_store32(to),
        (Type::I64, 8) => put.i64_store(to),
        (Type::F32, 4) => put.f32_store(to),
        (Type::F64, 8) => put.f64_store(to),
        (Type::V128, 1) => put.v128_store8_lane(to, 0),
        (Type::V128, 2) => put.v128_store16_lane(to, 0),
        (Type::V128, 4) => put.v128_store32_lane(to, 0),
        (Type::V128, 8) => put.v128_store64_lane(to, 0),
        (Type::V128, 16) => put.v128_store(to),
        _ => return None,
    };
    Some(())
}
