//! Regions become a WebAssembly module.
//!
//! [`module`] makes one function of each region, with what the host and the module share as [`crate::host`] says. The parts:
//! [`region`] writes a function, along the steps of [`crate::structure`]; [`values`] says which values need a local;
//! [`vars`] what must be stored where; [`tlb`] and [`jumps`] are the two tables that compiled code looks into.
//!
//! Compiling is as fast as it is simple: a few passes over each block that look at an instruction once, and no memory for
//! each.

mod code;
mod jumps;
mod operators;
mod region;
mod tlb;
mod values;
mod vars;
mod x87;

use crate::host::HELPERS;
use crate::ir::Region;
use crate::job::{Env, Key};
use crate::x87::X87;
use aero_cpu::jit::Status;
use aero_cpu::state::CpuState;
use code::{Code, Mostly, at};
use core::mem::offset_of;
use region::Body;
use tlb::{Kind, Shared};
use wasm_encoder::{
    BlockType, BranchHint, BranchHints, CodeSection, ConstExpr, ElementSection, Elements, EntityType,
    ExportKind, ExportSection, Function, FunctionSection, GlobalType, ImportSection, MemoryType, RefType,
    TableType, TypeSection, ValType,
};

/// A function's body and hints.
type Made = (Function, Vec<BranchHint>);

/// The type of regions.
const REGION_TYPE: u32 = 0;

/// The memory's maximum, in pages of 64 KiB: the host's is the same.
const MAX_PAGES: u64 = 65_536;

/// A module, and which of its regions could not be made: their functions return [`Status::Redo`] at once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Emitted {
    /// WebAssembly.
    pub wasm: Vec<u8>,
    /// By region: whether its function does what it should.
    pub good: Vec<bool>,
}

/// Makes a module of regions, which have been verified, and whose flags have been worked into variables.
pub fn module(env: &Env, regions: &[Option<(Region, Key)>]) -> Emitted {
    let mut module = Module {
        env: *env,
        regions: regions.len() as u32,
        shared: Vec::new(),
        code: CodeSection::new(),
        hints: BranchHints::new(),
    };
    let mut good = Vec::with_capacity(regions.len());
    for (n, region) in regions.iter().enumerate() {
        let made = region.as_ref().and_then(|(region, key)| {
            module.second(region, key, n as u32);
            Body::emit(&mut module, region, key, n as u32)
        });
        good.push(made.is_some());
        module.function(&made.unwrap_or_else(redo));
    }
    Emitted { wasm: module.finish(), good }
}

/// The body of a region that there is none of.
fn redo() -> Made {
    let mut code = Code::new(2);
    code.put().i32_const(Status::Redo as i32).end();
    code.finish()
}

/// A module that exports `run(ctx: i32, slot: i32, mode: i64) -> i32`: runs the region in a slot of `table`, and what the
/// jump table has for where it goes on, until there is nothing, a region returns for another reason, or the budget is spent.
/// `mode` is the run loop's number for the mode, shifted to its place in tags ([`aero_cpu::jit::jump_tag`]). Returns the
/// last status. It imports `memory` and `table` alone.
pub fn dispatcher(env: &Env) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32; 2], [ValType::I32]);
    types.ty().function([ValType::I32, ValType::I32, ValType::I64], [ValType::I32]);
    let mut functions = FunctionSection::new();
    functions.function(1);
    let mut exports = ExportSection::new();
    exports.export("run", ExportKind::Func, 0);
    let (body, hints) = dispatcher_body(env);
    let mut code = CodeSection::new();
    code.function(&body);
    let mut all = BranchHints::new();
    all.function_hints(0, hints);
    let mut module = wasm_encoder::Module::new();
    module.section(&types).section(&memory_and_table()).section(&functions).section(&exports);
    module.section(&all).section(&code);
    module.finish()
}

fn dispatcher_body(env: &Env) -> Made {
    const CTX: u32 = 0;
    const SLOT: u32 = 1;
    const MODE: u32 = 2;
    let mut code = Code::new(3);
    let (status, entry) = (code.local(crate::ir::Type::I32), code.local(crate::ir::Type::I32));
    let to = code.local(crate::ir::Type::I64);
    let state = |field: usize| at(env.state + field as u32, 3);
    code.put().loop_(BlockType::Empty).local_get(CTX).i32_const(0).local_get(SLOT);
    code.put().call_indirect(0, REGION_TYPE).local_tee(status);
    code.put().i32_const(Status::Goto as i32).i32_gt_u();
    code.put().i32_const(0).i64_load(state(offset_of!(CpuState, budget))).i64_const(0).i64_le_s().i32_or();
    code.if_(BlockType::Empty, Mostly::NotTaken);
    code.put().local_get(status).return_().end();
    code.put().i32_const(0).i64_load(state(offset_of!(CpuState, rip))).local_set(to);
    jumps::look_for(&mut code, env, to, entry, MODE);
    code.put().i64_eq();
    code.if_(BlockType::Empty, Mostly::Taken);
    code.put().local_get(entry);
    jumps::function(&mut code, env);
    code.put().local_set(SLOT).br(1).end().end().local_get(status).end();
    code.finish()
}

fn memory_and_table() -> ImportSection {
    let mut imports = ImportSection::new();
    let memory = MemoryType {
        minimum: 1,
        maximum: Some(MAX_PAGES),
        memory64: false,
        shared: true,
        page_size_log2: None,
    };
    let table = TableType {
        element_type: RefType::FUNCREF,
        table64: false,
        minimum: 0,
        maximum: None,
        shared: false,
    };
    imports.import("env", "memory", EntityType::Memory(memory));
    imports.import("env", "table", EntityType::Table(table));
    imports
}

/// The imported functions, in the order of [`HELPERS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Helper {
    Load,
    Load16,
    Store,
    Store16,
    Place,
    Exec,
    Settle,
}

impl Helper {
    fn index(self) -> u32 {
        self as u32
    }

    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Load => Self::Load,
            Kind::Store => Self::Store,
            Kind::Place => Self::Place,
        }
    }
}

/// What regions share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Common {
    /// An access to memory.
    Access(Shared),
    /// An operation of the x87.
    X87(X87),
    /// The second form of a region.
    Second(u32),
}

impl Common {
    /// Its type's parameters and result.
    fn signature(self) -> (&'static [ValType], ValType) {
        match self {
            Self::Access(access) => Shared::signature(access.kind),
            Self::X87(_) => x87::SIGNATURE,
            Self::Second(_) => (&[ValType::I32; 2], ValType::I32),
        }
    }

    fn body(self, env: &Env) -> Option<Made> {
        match self {
            Self::Access(access) => access.body(Helper::of(access.kind).index()),
            Self::X87(op) => x87::function(op, env),
            Self::Second(_) => None,
        }
    }
}

/// A module under construction. Its functions are the imported ones, the regions, and what they share.
struct Module {
    env: Env,
    regions: u32,
    shared: Vec<(Common, Made)>,
    code: CodeSection,
    hints: BranchHints,
}

impl Module {
    /// A function that regions share.
    fn shared(&mut self, wanted: Common) -> Option<u32> {
        if self.known(wanted).is_none() {
            let body = wanted.body(&self.env)?;
            self.shared.push((wanted, body));
        }
        self.known(wanted)
    }

    /// The number of a function that is there.
    fn known(&self, wanted: Common) -> Option<u32> {
        let n = self.shared.iter().position(|(shared, _)| *shared == wanted)?;
        Some(HELPERS.len() as u32 + self.regions + n as u32)
    }

    /// Makes the second form of a region, if there is one and it can be made.
    fn second(&mut self, region: &Region, key: &Key, n: u32) {
        let second = region.second.as_ref();
        if let Some(made) = second.and_then(|second| Body::emit(self, second, key, n)) {
            self.shared.push((Common::Second(n), made));
        }
    }

    fn function(&mut self, (body, hints): &Made) {
        if !hints.is_empty() {
            self.hints.function_hints(HELPERS.len() as u32 + self.code.len(), hints.iter().copied());
        }
        self.code.function(body);
    }

    fn finish(mut self) -> Vec<u8> {
        let shared = core::mem::take(&mut self.shared);
        shared.iter().for_each(|(_, made)| self.function(made));
        self.shared = shared;
        let mut module = wasm_encoder::Module::new();
        module.section(&self.types()).section(&self.imports()).section(&self.functions());
        module.section(&self.elements()).section(&self.hints).section(&self.code);
        module.finish()
    }

    /// Regions' type, helpers' types in their order, and the types of what regions share.
    fn types(&self) -> TypeSection {
        let mut types = TypeSection::new();
        types.ty().function([ValType::I32; 2], [ValType::I32]);
        for (_, parameters, result) in HELPERS {
            types.ty().function(parameters.bytes().map(letter), result.bytes().map(letter));
        }
        for (shared, _) in &self.shared {
            let (parameters, result) = shared.signature();
            types.ty().function(parameters.iter().copied(), [result]);
        }
        types
    }

    fn imports(&self) -> ImportSection {
        let mut imports = memory_and_table();
        let slot = GlobalType { val_type: ValType::I32, mutable: false, shared: false };
        imports.import("env", "slot", EntityType::Global(slot));
        for (n, (name, ..)) in HELPERS.iter().enumerate() {
            imports.import("env", name, EntityType::Function(1 + n as u32));
        }
        imports
    }

    fn functions(&self) -> FunctionSection {
        let mut functions = FunctionSection::new();
        (0..self.regions).for_each(|_| _ = functions.function(REGION_TYPE));
        let first = 1 + HELPERS.len() as u32;
        (0..self.shared.len() as u32).for_each(|n| _ = functions.function(first + n));
        functions
    }

    fn elements(&self) -> ElementSection {
        let first = HELPERS.len() as u32;
        let functions: Vec<u32> = (first..first + self.regions).collect();
        let mut elements = ElementSection::new();
        elements.active(None, &ConstExpr::global_get(0), Elements::Functions(functions.into()));
        elements
    }
}

/// The type that a letter stands for in [`HELPERS`].
fn letter(letter: u8) -> ValType {
    if letter == b'I' { ValType::I64 } else { ValType::I32 }
}

#[cfg(test)]
mod tests;
