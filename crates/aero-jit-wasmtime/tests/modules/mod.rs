//! Modules made by hand, of the shape that `aero_jit::host` describes.

use aero_jit::host::HELPERS;
use aero_jit::job::{Compiled, Module};
use wasm_encoder::{
    CodeSection, ConstExpr, ElementSection, Elements, EntityType, Function, FunctionSection, GlobalType,
    ImportSection, InstructionSink, MemArg, MemArgTarget, MemoryType, RefType, TableType, TypeSection,
    ValType,
};

/// Two regions that return `n` and `n + 1`.
pub fn adder(n: u32) -> Module {
    let body = |n: u32| move |f: &mut InstructionSink<'_>| _ = f.i32_const(n as i32);
    module(None, &[&body(n), &body(n + 1)])
}

/// A region that returns the I32 at arena offset `at`.
pub fn loader(at: u32) -> Module {
    let body = |f: &mut InstructionSink<'_>| {
        f.i32_const(0).i32_load(MemArg {
            offset: at.into(),
            align: 2,
            target: MemArgTarget::Memory(0),
            ordering: None,
        });
    };
    module(None, &[&body])
}

/// A region that returns what the region in `slot` returns.
pub fn caller(slot: u32) -> Module {
    let body = |f: &mut InstructionSink<'_>| {
        f.i32_const(0).i32_const(0).i32_const(slot as i32).call_indirect(0, 0);
    };
    module(None, &[&body])
}

/// A region that returns what the helper returns for an address (or slot) of 30, a size (or number) of 4 and a
/// value of 5.
pub fn helped(name: &str) -> Module {
    let shape = HELPERS.iter().find(|(known, ..)| *known == name);
    let (parameters, result) = shape.map_or(("i", ""), |(_, parameters, result)| (*parameters, *result));
    let body = |f: &mut InstructionSink<'_>| {
        for (kind, value) in parameters.chars().zip([0, 30, 4, 5]) {
            match kind {
                'I' => f.i64_const(value),
                _ => f.i32_const(value as i32),
            };
        }
        f.call(0);
        match result {
            "I" => f.i32_wrap_i64(),
            "" => f.i32_const(0),
            _ => f,
        };
    };
    module(Some((name, parameters, result)), &[&body])
}

/// A region that calls the helper `load` with 1 as often as `times` says, and returns 0.
#[allow(dead_code, reason = "measurements need it, tests do not")]
pub fn repeats(times: u32) -> Module {
    let body = |f: &mut InstructionSink<'_>| {
        f.i32_const(times as i32).local_set(1);
        f.loop_(wasm_encoder::BlockType::Empty);
        f.i32_const(0).i64_const(1).i32_const(8).call(0).drop();
        f.local_get(1).i32_const(1).i32_sub().local_tee(1).br_if(0).end();
        f.i32_const(0);
    };
    module(Some(("load", "iIi", "I")), &[&body])
}

/// `functions` regions of `operations` loads, additions and stores.
#[allow(dead_code, reason = "measurements need it, tests do not")]
pub fn arithmetic(functions: u32, operations: u32) -> Module {
    let at = |offset| MemArg { offset, align: 2, target: MemArgTarget::Memory(0), ordering: None };
    let body = |f: &mut InstructionSink<'_>| {
        for n in 0..operations {
            f.i32_const(0).local_get(1).i32_const(n as i32).i32_xor().local_tee(1);
            f.i32_const(0).i32_load(at((n % 1000 * 4).into())).i32_add();
            f.i32_store(at((n % 777 * 4).into()));
        }
        f.local_get(1);
    };
    let body: &dyn Fn(&mut InstructionSink<'_>) = &body;
    module(None, &vec![body; functions as usize])
}

/// A module of functions with these bodies, which imports what all do and perhaps a helper.
pub fn module(helper: Option<(&str, &str, &str)>, bodies: &[&dyn Fn(&mut InstructionSink<'_>)]) -> Module {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32, ValType::I32], [ValType::I32]);
    let mut imports = ImportSection::new();
    let memory =
        MemoryType { minimum: 1, maximum: Some(65_536), memory64: false, shared: true, page_size_log2: None };
    imports.import("env", "memory", memory);
    let table = TableType {
        element_type: RefType::FUNCREF,
        minimum: 1,
        maximum: None,
        table64: false,
        shared: false,
    };
    imports.import("env", "table", table);
    let slot = GlobalType { val_type: ValType::I32, mutable: false, shared: false };
    imports.import("env", "slot", slot);
    if let Some((name, parameters, result)) = helper {
        types.ty().function(kinds(parameters), kinds(result));
        imports.import("env", name, EntityType::Function(1));
    }
    let imported = u32::from(helper.is_some());
    let mut functions = FunctionSection::new();
    let mut code = CodeSection::new();
    for body in bodies {
        functions.function(0);
        let mut function = Function::new([]);
        body(&mut function.instructions());
        function.instructions().end();
        code.function(&function);
    }
    let indices: Vec<u32> = (imported..).take(bodies.len()).collect();
    let mut elements = ElementSection::new();
    elements.active(None, &ConstExpr::global_get(0), Elements::Functions(indices.as_slice().into()));
    let mut wasm = wasm_encoder::Module::new();
    wasm.section(&types).section(&imports).section(&functions).section(&elements).section(&code);
    Module { wasm: wasm.finish(), regions: vec![Some(Compiled::default()); bodies.len()] }
}

fn kinds(text: &str) -> Vec<ValType> {
    let kind = |letter| if letter == 'I' { ValType::I64 } else { ValType::I32 };
    text.chars().map(kind).collect()
}
