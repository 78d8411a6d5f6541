//! Ways out of a region: side exits, the interpreter, calls, and what follows elsewhere.

use super::{Body, CTX, DEPTH, REGION_TYPE, Vars, vars};
use crate::emit::Helper;
use crate::emit::code::{Mostly, store};
use crate::emit::jumps;
use crate::ir::{Block, BlockId, End, Inst, Type, Value, Var};
use aero_cpu::jit::{FlagKind, Lazy, MAX_DEPTH, Status};
use aero_cpu::state::CpuState;
use core::mem::offset_of;
use wasm_encoder::BlockType;

const RIP: u32 = offset_of!(CpuState, rip) as u32;
const BUDGET: u32 = offset_of!(CpuState, budget) as u32;
const LAZY: u32 = offset_of!(CpuState, lazy) as u32;

impl Body<'_> {
    /// Notes where a side exit goes on: the guest instruction under way.
    pub(super) fn note_exit(&mut self) {
        self.note(self.offset, self.done);
    }

    fn note(&mut self, offset: i32, done: u32) {
        let (pc, retired) = (self.fixed.pc, self.fixed.done);
        self.code.put().i32_const(offset).local_set(pc).i32_const(done as i32).local_set(retired);
    }

    /// Leaves before the guest instruction under way if the I32 on the stack is not 0.
    pub(super) fn leave_if(&mut self) {
        self.leave_for_if(self.offset, self.done);
    }

    fn leave_for_if(&mut self, offset: i32, done: u32) {
        self.code.if_(BlockType::Empty, Mostly::NotTaken);
        self.note(offset, done);
        let exit = self.exit_label();
        self.code.put().br(exit + 1).end();
    }

    /// Leaves before `block` if the budget does not cover the way from it.
    pub(super) fn check_budget(&mut self, block: BlockId) {
        self.check(block, self.block(block).offset, 0);
    }

    /// Leaves for `offset`, where `done` instructions of `block` are complete, if the budget does not cover the way from the
    /// block's begin.
    fn check(&mut self, block: BlockId, offset: i32, done: u32) {
        let least = if self.module.env.exact { self.structure.ways[block.0 as usize].max(1) } else { 1 };
        self.code.put().local_get(self.fixed.budget).i64_const(least.into()).i64_lt_s();
        self.leave_for_if(offset, done);
    }

    /// Before the next guest instruction of a block: asks again whether the budget covers the rest, if the interpreter
    /// has spent of it.
    pub(super) fn check_rest(&mut self, block: BlockId) {
        if core::mem::take(&mut self.spent) && self.module.env.exact {
            self.check(block, self.offset, self.done);
        }
    }

    /// The label of side exits, from where the code is.
    pub(super) fn exit_label(&self) -> u32 {
        self.nesting + 1
    }

    /// Closes `$leave`: the code of direct branches out of the region.
    pub(super) fn left(&mut self) -> Option<()> {
        self.code.put().end();
        if !core::mem::take(&mut self.leaves) {
            self.code.put().unreachable();
            return Some(());
        }
        self.kind = None;
        self.spill(self.flow.set)?;
        self.write_target()?;
        self.jump();
        Some(())
    }

    /// The code of side exits, and the end of the function.
    pub(super) fn side_exit(&mut self) -> Option<()> {
        self.code.put().end();
        self.at_state(RIP)?;
        let mut put = self.code.put();
        put.local_get(self.fixed.base).local_get(self.fixed.pc);
        if self.region.word == Type::I64 {
            put.i64_extend_i32_s().i64_add();
        } else {
            put.i32_add().i64_extend_i32_u();
        }
        self.store_state(RIP, Type::I64, 8)?;
        self.at_state(BUDGET)?;
        self.code.put().local_get(self.fixed.budget).local_get(self.fixed.done).i64_extend_i32_u().i64_sub();
        self.store_state(BUDGET, Type::I64, 8)?;
        if self.has_exec {
            self.code.put().i32_const(Status::Redo as i32).local_set(self.fixed.status).end();
        }
        self.kind = None;
        self.spill(self.flow.set)?;
        if self.has_exec {
            self.code.put().local_get(self.fixed.status);
        } else {
            self.code.put().i32_const(Status::Redo as i32);
        }
        self.code.put().end();
        Some(())
    }

    /// Has the interpreter run the guest instruction under way. What it writes is stored before as well: it may fault, or
    /// leave it as it was.
    pub(super) fn exec(&mut self, op: u16, reads: Vars, writes: Vars) -> Option<()> {
        let touched = reads.or(writes).or(Vars::X87);
        self.spill(self.dirty.and(touched))?;
        self.dirty = self.dirty.without(touched);
        self.at_state(RIP)?;
        self.rip(self.offset);
        self.store_word(RIP)?;
        self.at_state(BUDGET)?;
        self.code.put().local_get(self.fixed.budget).i64_const(self.done.into()).i64_sub();
        self.store_state(BUDGET, Type::I64, 8)?;
        let mut put = self.code.put();
        put.local_get(CTX).global_get(0).i32_const(self.number as i32).i32_add().i32_const(op.into());
        put.call(Helper::Exec.index()).local_set(self.fixed.status);
        self.reload(writes)?;
        if writes.any_flags() {
            self.kind = None;
        }
        self.state(BUDGET, Type::I64, 8)?;
        let spent = i64::from(self.done) + 1;
        self.code.put().i64_const(spent).i64_add().local_set(self.fixed.budget);
        self.spent = true;
        self.code.put().local_get(self.fixed.status);
        self.code.if_(BlockType::Empty, Mostly::NotTaken);
        self.code.put().i32_const(Status::Stopped as i32).local_set(self.fixed.status);
        self.forget_x87()?;
        let exit = self.exit_label();
        self.code.put().br(exit + 2).end();
        Some(())
    }

    /// Has the flags worked out into the state block, if any are undone.
    pub(super) fn settle(&mut self) -> Option<()> {
        self.spill(self.dirty.and(Vars::FLAGS))?;
        self.dirty = self.dirty.without(Vars::FLAGS);
        self.state(LAZY, Type::I64, 8)?;
        self.code.put().i64_const(0).i64_ne().if_(BlockType::Empty);
        self.code.put().local_get(CTX).call(Helper::Settle.index()).end();
        self.kind = None;
        self.reload(Vars::FLAGS)
    }

    /// A block's end.
    pub(super) fn end(&mut self, id: BlockId, block: &Block) -> Option<()> {
        match block.end {
            End::Jump(to) => {
                if core::mem::take(&mut self.spent) && self.module.env.exact && !self.header(to) {
                    self.check(id, self.block(to).offset, block.retires);
                }
                self.retire(block);
            }
            End::Branch { when, .. } => {
                self.retire(block);
                self.value(block, when)?;
            }
            End::Interpret(offset) => {
                self.note(offset, block.retires);
                let exit = self.exit_label();
                self.code.put().br(exit);
            }
            End::Leave(to) if matches!(block.insts[to.0 as usize], Inst::Rip(_)) => {
                self.retire(block);
                self.target(block, to)?;
                self.leaves = true;
                let leave = self.nesting;
                self.code.put().br(leave);
            }
            End::Leave(to) => {
                self.go_to(block, to)?;
                self.jump();
            }
            End::Return(to) => {
                self.go_to(block, to)?;
                self.code.put().i32_const(Status::Returned as i32).return_();
            }
            End::Call { to, back, then } => {
                self.go_to(block, to)?;
                self.call(back, then)?;
            }
        }
        Some(())
    }

    fn retire(&mut self, block: &Block) {
        if block.retires > 0 {
            let budget = self.fixed.budget;
            let retires = block.retires.into();
            self.code.put().local_get(budget).i64_const(retires).i64_sub().local_set(budget);
        }
    }

    /// Writes everything back for going on at a linear address, which is in `to` then.
    fn go_to(&mut self, block: &Block, to: Value) -> Option<()> {
        self.retire(block);
        self.target(block, to)?;
        self.spill(self.dirty)?;
        self.write_target()
    }

    /// Sets `to`.
    fn target(&mut self, block: &Block, to: Value) -> Option<()> {
        self.value(block, to)?;
        if self.region.word == Type::I32 {
            self.code.put().i64_extend_i32_u();
        }
        self.code.put().local_set(self.fixed.to);
        Some(())
    }

    /// Writes everything back for going on at the head, before any instruction of the block.
    pub(super) fn write_for_head(&mut self) -> Option<()> {
        self.rip(0);
        if self.region.word == Type::I32 {
            self.code.put().i64_extend_i32_u();
        }
        self.code.put().local_set(self.fixed.to);
        self.spill(self.dirty)?;
        self.write_target()
    }

    /// Writes `to` and the budget back.
    fn write_target(&mut self) -> Option<()> {
        self.at_state(RIP)?;
        self.code.put().local_get(self.fixed.to);
        self.store_state(RIP, Type::I64, 8)?;
        self.at_state(BUDGET)?;
        self.code.put().local_get(self.fixed.budget);
        self.store_state(BUDGET, Type::I64, 8)
    }

    /// Goes on in the region at `to`, or returns.
    fn jump(&mut self) {
        let (to, entry) = (self.fixed.to, self.fixed.entry);
        if self.module.env.tail_calls {
            jumps::look(&mut self.code, &self.module.env, to, entry, self.key.mode);
            self.code.put().i64_eq();
            self.code.if_(BlockType::Empty, Mostly::Taken);
            self.code.put().local_get(CTX).local_get(DEPTH).local_get(entry);
            jumps::function(&mut self.code, &self.module.env);
            self.code.put().return_call_indirect(0, REGION_TYPE).end();
        }
        self.code.put().i32_const(Status::Goto as i32).return_();
    }

    /// Calls the region at `to`, and goes on if it returns to where it should. Otherwise everything is in memory and the
    /// status is handed on.
    fn call(&mut self, back: i32, then: BlockId) -> Option<()> {
        let (to, entry) = (self.fixed.to, self.fixed.entry);
        self.code.put().local_get(DEPTH).i32_const(MAX_DEPTH as i32).i32_ge_u();
        self.return_if(|put| put.i32_const(Status::Goto as i32));
        jumps::look(&mut self.code, &self.module.env, to, entry, self.key.mode);
        self.code.put().i64_ne();
        self.return_if(|put| put.i32_const(Status::Goto as i32));
        self.code.put().local_get(CTX).local_get(DEPTH).i32_const(1).i32_add().local_get(entry);
        jumps::function(&mut self.code, &self.module.env);
        let status = self.fixed.status;
        self.code.put().call_indirect(0, REGION_TYPE).local_tee(status);
        self.return_if(|put| put.local_get(status));
        self.state(RIP, self.region.word, self.region.word.size())?;
        self.rip(back);
        if self.region.word == Type::I64 {
            self.code.put().i64_ne();
        } else {
            self.code.put().i32_ne();
        }
        self.return_if(|put| put.i32_const(Status::Returned as i32));
        self.state(BUDGET, Type::I64, 8)?;
        self.code.put().local_set(self.fixed.budget);
        self.settle_x87()?;
        self.reload(self.flow.used)?;
        self.load_flags(then)?;
        if !self.header(then) {
            self.check(then, back, 0);
        }
        Some(())
    }

    /// Returns if the I32 on the stack is not 0, which is unlikely.
    fn return_if(
        &mut self,
        status: impl for<'s, 'b> FnOnce(
            &'s mut wasm_encoder::InstructionSink<'b>,
        ) -> &'s mut wasm_encoder::InstructionSink<'b>,
    ) {
        self.code.if_(BlockType::Empty, Mostly::NotTaken);
        status(&mut self.code.put()).return_().end();
    }

    /// Stores variables to the state block.
    fn spill(&mut self, which: Vars) -> Option<()> {
        for var in which.without(Vars::FLAGS.or(Vars::X87)).iter() {
            let offset = vars::register_offset(var)?;
            let ty = self.region.type_of(var);
            self.at_state(offset)?;
            self.code.put().local_get(self.locals[vars::number(var)?]);
            if ty == Type::V128 {
                self.store_state(offset, ty, 16)?;
            } else {
                self.store_word(offset)?;
            }
        }
        if which.any_x87() {
            self.spill_x87(which)?;
        }
        if which.any_flags() { self.spill_flags() } else { Some(()) }
    }

    /// Stores the description of the flags, if the locals have it.
    fn spill_flags(&mut self) -> Option<()> {
        let carry = self.flow.used.has(Var::CarryKind);
        match self.kind {
            Some(kind) if kind != FlagKind::MEMORY => return self.spill_description(Some(kind), carry),
            Some(_) if !carry => return Some(()),
            _ => {}
        }
        self.get(Var::FlagKind)?;
        if carry {
            self.get(Var::CarryKind)?;
            self.code.put().i32_or();
        }
        self.code.put().if_(BlockType::Empty);
        self.spill_description(None, carry)?;
        self.code.put().end();
        Some(())
    }

    fn spill_description(&mut self, kind: Option<FlagKind>, carry: bool) -> Option<()> {
        self.at_state(LAZY)?;
        match kind {
            Some(kind) => _ = self.code.put().i64_const(kind.0.into()),
            None => {
                self.get(Var::FlagKind)?;
                self.code.put().i64_extend_i32_u();
            }
        }
        // The kind of CF lies behind the kind: without one it is 0, the same.
        self.store_state(LAZY, Type::I64, 8)?;
        self.spill_first(kind)?;
        self.spill_operand(Var::FlagB, offset_of!(Lazy, b) as u32)?;
        if carry {
            let at_kind = LAZY + offset_of!(Lazy, carry_kind) as u32;
            self.at_state(at_kind)?;
            self.get(Var::CarryKind)?;
            self.store_state(at_kind, Type::I32, 4)?;
            self.spill_operand(Var::CarryA, offset_of!(Lazy, carry_a) as u32)?;
            self.spill_operand(Var::CarryB, offset_of!(Lazy, carry_b) as u32)?;
        }
        Some(())
    }

    /// Stores the first operand: zero-extended, but the result of [`FlagKind::WORDS`] sign-extended.
    fn spill_first(&mut self, kind: Option<FlagKind>) -> Option<()> {
        let offset = LAZY + offset_of!(Lazy, a) as u32;
        if self.region.word == Type::I64 {
            return self.spill_operand(Var::FlagA, offset_of!(Lazy, a) as u32);
        }
        self.at_state(offset)?;
        if kind.is_none_or(|kind| kind == FlagKind::WORDS) {
            self.get(Var::FlagA)?;
            self.code.put().i64_extend_i32_s();
        }
        if kind != Some(FlagKind::WORDS) {
            self.get(Var::FlagA)?;
            self.code.put().i64_extend_i32_u();
        }
        if kind.is_none() {
            self.get(Var::FlagKind)?;
            self.code.put().i32_const(FlagKind::WORDS.0 as i32).i32_eq().select();
        }
        self.store_state(offset, Type::I64, 8)
    }

    fn spill_operand(&mut self, var: Var, offset: u32) -> Option<()> {
        self.at_state(LAZY + offset)?;
        self.get(var)?;
        self.store_word(LAZY + offset)
    }

    fn get(&mut self, var: Var) -> Option<()> {
        self.code.put().local_get(self.locals[vars::number(var)?]);
        Some(())
    }

    /// The address part of a store to the state block: the offset is all.
    pub(super) fn at_state(&mut self, offset: u32) -> Option<()> {
        self.place_in_state(offset)?;
        self.code.put().i32_const(0);
        Some(())
    }

    /// Stores what is on the stack to the state block.
    pub(super) fn store_state(&mut self, offset: u32, ty: Type, size: u8) -> Option<()> {
        let to = self.place_in_state(offset)?;
        store(&mut self.code, ty, size, to)
    }

    /// Stores a word, zero-extended to 64 bits.
    pub(super) fn store_word(&mut self, offset: u32) -> Option<()> {
        if self.region.word == Type::I32 {
            self.code.put().i64_extend_i32_u();
        }
        self.store_state(offset, Type::I64, 8)
    }
}
