//! A module by hand, to see whether the browser does what compiled code needs before a guest depends on it.
//!
//! It has three regions: the first goes on at an address that the jump table knows, the region there calls the third
//! through the function table, and that one asks for the interpreter. Each leaves its mark in memory.

#![allow(unsafe_code, reason = "calls the module's functions")]

use super::engine::{Engine, words};
use super::host;
use super::slots::Slots;
use aero_cpu::jit::{JUMP_ENTRIES, JumpEntry, Status, jump_slot, jump_tag};
use aero_jit::host::HELPERS;
use core::cell::Cell;
use wasm_bindgen::JsError;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_encoder::{
    CodeSection, ConstExpr, ElementSection, Elements, EntityType, Function, FunctionSection, GlobalType,
    ImportSection, InstructionSink, MemArg, MemArgTarget, MemoryType, Module, RefType, TableType,
    TypeSection, ValType,
};

/// Regions of the module.
const REGIONS: u32 = 3;

/// Where the first region goes on.
const TARGET: u64 = 0xffff_8000_0012_3456;

/// A mode, for tags.
const MODE: u64 = 5;

/// What the regions write, in order.
#[derive(Debug, Default)]
#[repr(C)]
struct Board {
    rip: Cell<u64>,
    marks: [Cell<u32>; REGIONS as usize],
}

/// Installs the module, runs it, and removes it.
///
/// # Errors
/// In words, when the engine refuses the module or does something else with it.
#[wasm_bindgen]
pub fn try_code(engine: &Engine) -> Result<(), JsError> {
    let mut slots = Slots::default();
    let first = slots
        .take(REGIONS, |count| engine.grow(count))
        .ok_or_else(|| JsError::new("the function table is full"))?;
    let board = Board::default();
    let wasm = module(&raw const board as u32, engine.tail_calls());
    engine.install(&wasm, first).map_err(|error| JsError::new(&words(&error)))?;
    let mut jumps = vec![JumpEntry::EMPTY; JUMP_ENTRIES as usize];
    jumps[jump_slot(TARGET) as usize] =
        JumpEntry { tag: jump_tag(TARGET, MODE), function: first + 1, reserved: 0 };
    let next = || {
        let entry = &jumps[jump_slot(board.rip.get()) as usize];
        (entry.tag == jump_tag(board.rip.get(), MODE)).then_some(entry.function)
    };
    // SAFETY: the regions were installed there; they expect the board, whose place they were made with, and no context.
    let status = unsafe { host::run(first, core::ptr::null_mut(), next) };
    engine.release(first, REGIONS);
    let marks = board.marks.each_ref().map(Cell::get);
    if status == Status::Redo as u32 && marks == [1, 2, 3] {
        return Ok(());
    }
    Err(JsError::new(&format!("compiled code ended with {status} and left {marks:?}")))
}

/// The module. `board` is the address of the [`Board`].
fn module(board: u32, tail_calls: bool) -> Vec<u8> {
    let mut module = Module::new();
    let (types, region) = types();
    let (imports, helpers) = imports();
    let mut functions = FunctionSection::new();
    for _ in 0..REGIONS {
        functions.function(region);
    }
    let mut elements = ElementSection::new();
    let regions: Vec<u32> = (helpers..helpers + REGIONS).collect();
    elements.active(Some(0), &ConstExpr::global_get(0), Elements::Functions(regions.into()));
    module.section(&types).section(&imports).section(&functions).section(&elements);
    module.section(&code(u64::from(board), region, tail_calls));
    module.finish()
}

/// A type for each helper and, behind them, that of regions.
fn types() -> (TypeSection, u32) {
    let value = |letter: u8| if letter == b'I' { ValType::I64 } else { ValType::I32 };
    let values = |letters: &str| letters.bytes().map(value).collect::<Vec<_>>();
    let mut types = TypeSection::new();
    for (_, parameters, results) in HELPERS {
        types.ty().function(values(parameters), values(results));
    }
    types.ty().function([ValType::I32; 2], [ValType::I32]);
    (types, HELPERS.len() as u32)
}

/// What every module of compiled code imports, and how many functions that are.
fn imports() -> (ImportSection, u32) {
    let memory =
        MemoryType { minimum: 0, maximum: Some(65_536), memory64: false, shared: true, page_size_log2: None };
    let table = TableType {
        element_type: RefType::FUNCREF,
        minimum: 0,
        maximum: None,
        table64: false,
        shared: false,
    };
    let slot = GlobalType { val_type: ValType::I32, mutable: false, shared: false };
    let mut imports = ImportSection::new();
    imports.import("env", "memory", memory).import("env", "table", table).import("env", "slot", slot);
    for (number, (name, ..)) in HELPERS.iter().enumerate() {
        imports.import("env", name, EntityType::Function(number as u32));
    }
    (imports, HELPERS.len() as u32)
}

fn code(board: u64, region: u32, tail_calls: bool) -> CodeSection {
    let at = |offset: usize, align| MemArg {
        offset: board + offset as u64,
        align,
        target: MemArgTarget::Memory(0),
        ordering: None,
    };
    let mut code = CodeSection::new();
    for number in 0..REGIONS {
        let mut body = Function::new([]);
        let mut sink = body.instructions();
        let mark = at(core::mem::offset_of!(Board, marks) + number as usize * 4, 2);
        sink.i32_const(0).i32_const(number as i32 + 1).i32_store(mark);
        match number {
            0 => {
                sink.i32_const(0)
                    .i64_const(TARGET as i64)
                    .i64_store(at(core::mem::offset_of!(Board, rip), 3));
                sink.i32_const(Status::Goto as i32);
            }
            1 => call(&mut sink, region, tail_calls),
            _ => {
                sink.i32_const(Status::Redo as i32);
            }
        }
        sink.end();
        code.function(&body);
    }
    code
}

/// Calls the third region through the table.
fn call(sink: &mut InstructionSink<'_>, region: u32, tail_calls: bool) {
    sink.local_get(0).local_get(1).global_get(0).i32_const(2).i32_add();
    match tail_calls {
        true => sink.return_call_indirect(0, region),
        false => sink.call_indirect(0, region),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_names_every_import_of_compiled_code() {
        let wasm = module(1024, true);
        let found = |name: &str| {
            wasm.windows(name.len() + 1).any(|w| w[0] as usize == name.len() && &w[1..] == name.as_bytes())
        };
        for name in ["memory", "table", "slot"].into_iter().chain(HELPERS.iter().map(|(name, ..)| *name)) {
            assert!(found(name), "{name}");
        }
    }
}
