//! One region as one function `(ctx: i32, depth: i32) -> i32`.
//!
//! ```text
//! block $stopped              ;; if it has instructions for the interpreter
//!   block $exit
//!     block $leave
//!       load the variables
//!       the structured code   ;; never runs through its end
//!     end
//!     store what the region may have changed
//!     go on at `to`, elsewhere
//!   end
//!   RIP and the budget of the instruction under way; status = redo
//! end
//! store what the region may have changed
//! return status
//! ```
//!
//! Side exits set `pc` and `done` and branch to `$exit`; only then does anything cost. Branches out of the region set `to`
//! and go by `$leave`: most lead to code that hardly ever runs. The other ways out (indirect branches, returns, calls) store
//! for themselves, and only what may differ from the state block there ([`Flow`]).
//!
//! **Flags.** Either the local of [`Var::FlagKind`] is not [`FlagKind::MEMORY`], and the locals describe the flags; or it
//! is, and the state block does, with what an earlier region left undone there. So storing them means: if the local is not
//! `MEMORY`, store the description. Code that looks at the description from before the region, or from before a call
//! returned, has it loaded there; all other code begins with `MEMORY`.

use crate::emit::code::{Code, Mostly, at, load, store};
use crate::emit::operators;
use crate::emit::tlb::{Address, Kind, Shared};
use crate::emit::values::Values;
use crate::emit::vars::{self, Flow, Vars};
use crate::emit::{Common, Helper, Made, Module, REGION_TYPE};
use crate::ir::{Block, BlockId, Inst, Region, Type, Value, Var};
use crate::job::Key;
use crate::structure::{Step, Structure};
use aero_cpu::jit::x87::NO_SEGMENT;
use aero_cpu::jit::{FlagKind, Lazy};
use aero_cpu::state::CpuState;
use core::mem::offset_of;
use wasm_encoder::BlockType;

mod exits;
mod memory;
mod x87;

/// The function's parameters.
const CTX: u32 = 0;
const DEPTH: u32 = 1;

/// Locals that every region has.
struct Fixed {
    /// The region's word: RIP on entry.
    base: u32,
    /// I64.
    budget: u32,
    /// I32: where a side exit goes on, from the head.
    pc: u32,
    /// I32: what the block has retired by then.
    done: u32,
    /// I32.
    status: u32,
    /// I64: an address less its TLB entry.
    t: u32,
    /// The region's word: the address of an access.
    la: u32,
    /// I64: where control goes.
    to: u32,
    /// I32: an entry of the jump table.
    entry: u32,
}

/// A function under construction.
pub(super) struct Body<'a> {
    module: &'a mut Module,
    region: &'a Region,
    key: &'a Key,
    /// The region's number in the module.
    number: u32,
    code: Code,
    values: Values,
    flow: Flow,
    structure: &'a Structure,
    fixed: Fixed,
    /// By variable.
    locals: [u32; vars::COUNT],
    /// Locals that no value waits in, by type.
    free: [Vec<u32>; 5],
    /// Locals for operands that are needed twice, by type.
    twice: [Option<u32>; 5],
    has_exec: bool,
    /// Open labels above `$leave`.
    nesting: u32,
    /// The guest instruction under way.
    offset: i32,
    done: u32,
    /// Variables that may differ from the state block.
    dirty: Vars,
    /// The kind of the flags, if the block has told.
    kind: Option<FlagKind>,
    /// Something branches to `$leave`.
    leaves: bool,
    /// The interpreter has spent budget: whether the rest of the way is covered must be asked again.
    spent: bool,
}

impl<'a> Body<'a> {
    /// The body and hints of a region; `None` if it holds what only earlier passes know, or is malformed.
    pub(super) fn emit(
        module: &'a mut Module,
        region: &'a Region,
        key: &'a Key,
        number: u32,
    ) -> Option<Made> {
        let structure = Structure::of(region)?;
        let mut code = Code::new(2);
        let fixed = Fixed {
            base: code.local(region.word),
            la: code.local(region.word),
            budget: code.local(Type::I64),
            t: code.local(Type::I64),
            to: code.local(Type::I64),
            pc: code.local(Type::I32),
            done: code.local(Type::I32),
            status: code.local(Type::I32),
            entry: code.local(Type::I32),
        };
        let mut body = Body {
            module,
            region,
            key,
            number,
            code,
            values: Values::default(),
            flow: Flow::of(region, &structure),
            structure: &structure,
            fixed,
            locals: [0; vars::COUNT],
            free: Default::default(),
            twice: [None; 5],
            has_exec: region.blocks.iter().flat_map(|b| &b.insts).any(|i| matches!(i, Inst::Exec { .. })),
            nesting: 0,
            offset: 0,
            done: 0,
            dirty: Vars::default(),
            kind: None,
            leaves: false,
            spent: false,
        };
        body.whole()?;
        Some(body.code.finish())
    }

    fn whole(&mut self) -> Option<()> {
        if self.has_exec {
            self.code.put().block(BlockType::Empty);
        }
        self.code.put().block(BlockType::Empty).block(BlockType::Empty);
        self.entry()?;
        for step in &self.structure.steps {
            self.step(*step)?;
        }
        self.left()?;
        self.side_exit()
    }

    /// Loads the variables, RIP and the budget.
    fn entry(&mut self) -> Option<()> {
        for var in self.flow.used.iter() {
            self.locals[vars::number(var)?] = self.code.local(self.region.type_of(var));
        }
        self.state(offset_of!(CpuState, rip) as u32, self.region.word, self.region.word.size())?;
        self.code.put().local_set(self.fixed.base);
        self.state(offset_of!(CpuState, budget) as u32, Type::I64, 8)?;
        self.code.put().local_set(self.fixed.budget);
        self.settle_x87()?;
        self.reload(self.flow.used)?;
        self.load_flags(BlockId(0))?;
        // A side exit stores variables, so they must have been loaded.
        if !self.header(BlockId(0)) {
            self.check_budget(BlockId(0));
        }
        Some(())
    }

    fn header(&self, block: BlockId) -> bool {
        self.structure.headers[block.0 as usize]
    }

    fn block(&self, block: BlockId) -> &'a Block {
        &self.region.blocks[block.0 as usize]
    }

    fn step(&mut self, step: Step) -> Option<()> {
        match step {
            Step::Block => {
                self.code.put().block(BlockType::Empty);
                self.nesting += 1;
            }
            Step::If => {
                self.code.put().if_(BlockType::Empty);
                self.nesting += 1;
            }
            Step::Loop(header) => {
                self.code.put().loop_(BlockType::Empty);
                self.nesting += 1;
                self.check_budget(header);
            }
            Step::Close => {
                self.nesting -= 1;
                self.code.put().end();
            }
            Step::Br(depth) => _ = self.code.put().br(depth),
            Step::BrIf(depth) => _ = self.code.put().br_if(depth),
            Step::BrUnless(depth) => _ = self.code.put().i32_eqz().br_if(depth),
            Step::Code(block) => self.straight(block)?,
        }
        Some(())
    }

    /// A block's instructions and end.
    fn straight(&mut self, id: BlockId) -> Option<()> {
        let block = self.block(id);
        self.values.plan(self.region, block);
        self.dirty = self.flow.dirty[id.0 as usize];
        (self.offset, self.done) = (block.offset, 0);
        (self.kind, self.spent) = (None, false);
        let mut n = 0;
        while let Some(inst) = block.insts.get(n) {
            n = self.inst(id, block, n, inst)?;
        }
        self.end(id, block)
    }

    /// An instruction; the number of the next.
    fn inst(&mut self, id: BlockId, block: &Block, n: usize, inst: &Inst) -> Option<usize> {
        match *inst {
            Inst::Nop => {}
            Inst::At { offset, done } => {
                (self.offset, self.done) = (offset, done);
                self.check_rest(id);
            }
            Inst::Set(var, value) => {
                self.value(block, value)?;
                self.set(block, var, value)?;
            }
            Inst::SetState { at: offset, size, value } => {
                self.code.put().i32_const(0);
                self.value(block, value)?;
                let ty = self.values.of(value);
                let to = self.place_in_state(offset)?;
                store(&mut self.code, ty, size, to)?;
            }
            Inst::Load { address, size, signed, ty } => {
                self.load(block, address, size, signed, ty)?;
                return self.result(block, n);
            }
            Inst::Store { address, size, value } => self.store(block, address, size, value)?,
            Inst::Place { address, size } => {
                self.place(block, address, size)?;
                return self.result(block, n);
            }
            Inst::Poke { place, size, value } => {
                self.value(block, place)?;
                self.value(block, value)?;
                let ty = self.values.of(value);
                store(&mut self.code, ty, size, at(0, 0))?;
            }
            Inst::Guard(value) => {
                self.value(block, value)?;
                self.code.put().i32_eqz();
                self.leave_if();
            }
            Inst::GuardEither(mostly, otherwise) => {
                self.value(block, mostly)?;
                self.code.put().i32_eqz();
                self.code.if_(BlockType::Empty, Mostly::NotTaken);
                self.nesting += 1;
                self.value(block, otherwise)?;
                self.code.put().i32_eqz();
                self.leave_if();
                self.nesting -= 1;
                self.code.put().end();
            }
            Inst::X87 { op, x, y, value } => {
                self.code.put().i32_const(x.into()).i32_const(y.into());
                self.value(block, value)?;
                let function = self.module.shared(Common::X87(op))?;
                self.code.put().call(function).local_tee(self.fixed.entry).i32_eqz();
                self.leave_if();
                self.code.put().local_get(self.fixed.entry);
                return self.result(block, n);
            }
            Inst::EnterX87 { full, empty, used } => {
                self.enter_x87(full, empty, used)?;
            }
            Inst::HaveX87 { full, empty, used } => self.have_x87(full, empty, used)?,
            Inst::Settle => self.settle()?,
            // What the flags pass has put variables in the place of.
            Inst::Flags { .. }
            | Inst::FlagsIf { .. }
            | Inst::Carry(_)
            | Inst::CarryOverflow(_)
            | Inst::Condition(_) => return None,
            Inst::Exec { op, reads, writes } => {
                self.exec(op, Vars::touched(reads), Vars::touched(writes))?;
            }
            _ => {
                let known = self.values.known[n];
                if known.uses > 0 && !known.inline {
                    self.compute(block, inst)?;
                    return self.result(block, n);
                }
            }
        }
        Some(n + 1)
    }

    /// Takes what is on the stack as the result of instruction `n`. A variable that is set to it at once takes its local's
    /// place.
    fn result(&mut self, block: &Block, n: usize) -> Option<usize> {
        let known = self.values.known[n];
        if known.uses == 0 {
            self.code.put().drop();
            return Some(n + 1);
        }
        if let (1, Some(Inst::Set(var, value))) = (known.uses, block.insts.get(n + 1))
            && value.0 as usize == n
        {
            self.set(block, *var, *value)?;
            return Some(n + 2);
        }
        let local = match self.free[known.ty as usize].pop() {
            Some(local) => local,
            None => self.code.local(known.ty),
        };
        self.values.known[n].local = local;
        self.code.put().local_set(local);
        Some(n + 1)
    }

    /// Sets a variable to what is on the stack.
    fn set(&mut self, block: &Block, var: Var, value: Value) -> Option<()> {
        self.code.put().local_set(self.locals[vars::number(var)?]);
        self.dirty = self.dirty.or(Vars::one(var));
        if var == Var::FlagKind {
            self.kind = vars::constant(block, value);
        }
        Some(())
    }

    /// Puts a value on the stack.
    fn value(&mut self, block: &Block, value: Value) -> Option<()> {
        if self.values.known[value.0 as usize].inline {
            return self.compute(block, &block.insts[value.0 as usize]);
        }
        let local = self.taken(value);
        self.code.put().local_get(local);
        Some(())
    }

    /// The local where a value waits, for one use.
    fn taken(&mut self, value: Value) -> u32 {
        let known = &mut self.values.known[value.0 as usize];
        known.uses -= 1;
        if known.uses == 0 {
            self.free[known.ty as usize].push(known.local);
        }
        known.local
    }

    /// Computes a pure instruction.
    fn compute(&mut self, block: &Block, inst: &Inst) -> Option<()> {
        match *inst {
            Inst::Const(Type::I64, bits) => _ = self.code.put().i64_const(bits as i64),
            Inst::Const(Type::I32, bits) => _ = self.code.put().i32_const(bits as i32),
            Inst::Const(Type::F32, bits) => _ = self.code.put().f32_const(f32::from_bits(bits as u32).into()),
            Inst::Const(Type::F64, bits) => _ = self.code.put().f64_const(f64::from_bits(bits).into()),
            Inst::ConstV(low, high) => {
                let bits = i128::from(low) | i128::from(high) << 64;
                self.code.put().v128_const(bits);
            }
            Inst::Get(var) => _ = self.code.put().local_get(self.locals[vars::number(var)?]),
            Inst::Unary(op, a) => {
                self.value(block, a)?;
                operators::unary(&mut self.code, op, self.values.of(a))?;
            }
            Inst::Binary(op, a, b) => {
                self.value(block, a)?;
                self.value(block, b)?;
                operators::binary(&mut self.code, op, self.values.of(a))?;
            }
            Inst::Select { when, yes, no } => {
                self.value(block, yes)?;
                self.value(block, no)?;
                self.value(block, when)?;
                self.code.put().select();
            }
            Inst::Vector(shape, of) => {
                of.into_iter().take(shape.operands()).try_for_each(|v| self.value(block, v))?;
                operators::vector(&mut self.code, shape)?;
            }
            Inst::Rip(offset) => self.rip(offset),
            Inst::State { at, size, ty } => self.state(at, ty, size)?,
            Inst::Peek { place, size, signed, ty } => {
                self.value(block, place)?;
                load(&mut self.code, ty, size, signed, at(0, 0))?;
            }
            _ => return None,
        }
        Some(())
    }

    /// Puts the linear address at `offset` from the head on the stack: the region's word.
    fn rip(&mut self, offset: i32) {
        let mut put = self.code.put();
        put.local_get(self.fixed.base);
        match (offset, self.region.word) {
            (0, _) => {}
            (_, Type::I64) => _ = put.i64_const(offset.into()).i64_add(),
            _ => _ = put.i32_const(offset).i32_add(),
        }
    }

    /// An address for what is `offset` bytes into the processor's state, with 0 on the stack.
    fn place_in_state(&self, offset: u32) -> Option<wasm_encoder::MemArg> {
        Some(at(self.module.env.state.checked_add(offset)?, 0))
    }

    /// Puts part of the processor's state on the stack.
    fn state(&mut self, offset: u32, ty: Type, size: u8) -> Option<()> {
        let from = self.place_in_state(offset)?;
        self.code.put().i32_const(0);
        load(&mut self.code, ty, size, false, from)
    }

    /// Loads the registers among `which` from the state block, and leaves the flags there.
    fn reload(&mut self, which: Vars) -> Option<()> {
        for var in which.and(self.flow.used).iter() {
            let local = self.locals[vars::number(var)?];
            match vars::register_offset(var) {
                Some(offset) => {
                    let ty = self.region.type_of(var);
                    self.state(offset, ty, ty.size())?;
                    self.code.put().local_set(local);
                }
                None if matches!(var, Var::FlagKind | Var::CarryKind) => {
                    self.code.put().i32_const(FlagKind::MEMORY.0 as i32).local_set(local);
                }
                None if matches!(var, Var::FpCode | Var::FpStack) => {
                    self.code.put().i32_const(0).local_set(local);
                }
                None if var == Var::FpDs => {
                    self.code.put().i32_const(NO_SEGMENT as i32).local_set(local);
                }
                None => {}
            }
        }
        Some(())
    }

    /// Loads the description of the flags where `block` looks at it.
    fn load_flags(&mut self, block: BlockId) -> Option<()> {
        const LAZY: usize = offset_of!(CpuState, lazy);
        const CARRY_KIND: u32 = (LAZY + offset_of!(Lazy, carry_kind)) as u32;
        if !self.flow.needs_flags[block.0 as usize] {
            return Some(());
        }
        let fields = [
            (Var::FlagKind, offset_of!(Lazy, kind)),
            (Var::FlagA, offset_of!(Lazy, a)),
            (Var::FlagB, offset_of!(Lazy, b)),
            (Var::CarryKind, offset_of!(Lazy, carry_kind)),
            (Var::CarryA, offset_of!(Lazy, carry_a)),
            (Var::CarryB, offset_of!(Lazy, carry_b)),
        ];
        if !self.flow.used.has(Var::CarryKind) {
            // No place for a CF that is told apart.
            self.state(CARRY_KIND, Type::I32, 4)?;
            self.code.if_(BlockType::Empty, Mostly::NotTaken);
            self.code.put().local_get(CTX).call(Helper::Settle.index()).end();
        }
        let used = self.flow.used;
        for (var, field) in fields.into_iter().filter(|(var, _)| used.has(*var)) {
            let ty = self.region.type_of(var);
            self.state((LAZY + field) as u32, ty, ty.size())?;
            self.code.put().local_set(self.locals[vars::number(var)?]);
        }
        Some(())
    }
}
