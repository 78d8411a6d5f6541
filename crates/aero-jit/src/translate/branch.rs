//! Jumps, calls and returns: the ends of blocks.

use super::Translator;
use crate::ir::{Binary, End, Inst, Type, Value};
use aero_cpu::bind::{JCC, condition};
use aero_x86::{Insn, Mnemonic, Operand};

impl Translator<'_> {
    /// The end that a branch makes of its block. What cannot be translated is left to the interpreter.
    pub(super) fn branch(&mut self, insn: &Insn) -> End {
        let before = self.insts.len();
        self.known_branch(insn).unwrap_or_else(|| {
            self.insts.truncate(before);
            End::Interpret(self.at)
        })
    }

    fn known_branch(&mut self, insn: &Insn) -> Option<End> {
        let after = self.at.checked_add(insn.len.into())?;
        match insn.mnemonic {
            Mnemonic::Ret => self.ret(insn),
            Mnemonic::Call => self.call(insn, after),
            Mnemonic::Jmp => match self.near(insn) {
                Some(target) => Some(self.jump(target)),
                None => {
                    let to = self.target(insn)?;
                    Some(End::Leave(to))
                }
            },
            Mnemonic::Jecxz | Mnemonic::Jrcxz => {
                let size = if insn.mnemonic == Mnemonic::Jrcxz { 8 } else { 4 };
                let count = self.read_register(aero_cpu::state::reg::RCX, size, false);
                let zero = self.un(crate::ir::Unary::Eqz, count);
                self.either(insn, zero, after)
            }
            m => {
                let cc = condition(&JCC, m)?;
                let when = self.emit(Inst::Condition(cc));
                self.either(insn, when, after)
            }
        }
    }

    fn either(&mut self, insn: &Insn, when: Value, after: i32) -> Option<End> {
        let target = self.near(insn)?;
        Some(End::Branch { when, yes: self.block_at(target), no: self.block_at(after) })
    }

    /// The target of a direct branch: bytes from the head.
    fn near(&self, insn: &Insn) -> Option<i32> {
        let Operand::Near(by) = insn.operands[0] else { return None };
        i32::try_from(by).ok().and_then(|by| self.at.checked_add(by))
    }

    /// The target of an indirect branch. One that is not canonical faults at the branch (Intel SDM vol. 2, JMP).
    fn target(&mut self, insn: &Insn) -> Option<Value> {
        let to = self.read_sized(insn, 0, self.word_size())?;
        self.guard_canonical(to);
        Some(to)
    }

    fn guard_canonical(&mut self, to: Value) {
        if !self.long {
            return;
        }
        let up = self.bin_int(Binary::Shl, Type::I64, to, 16);
        let back = self.bin_int(Binary::ShrS, Type::I64, up, 16);
        let canonical = self.bin(Binary::Eq, back, to);
        self.emit(Inst::Guard(canonical));
    }

    fn call(&mut self, insn: &Insn, after: i32) -> Option<End> {
        let to = match self.near(insn) {
            Some(target) => self.emit(Inst::Rip(target)),
            None => self.target(insn)?,
        };
        let back = self.emit(Inst::Rip(after));
        self.push_word(back);
        // What was called may have changed the x87 that was in variables.
        let then = if self.double.is_some() { self.block_outside(after) } else { self.block_at(after) };
        Some(End::Call { to, back: after, then })
    }

    fn ret(&mut self, insn: &Insn) -> Option<End> {
        let more = match insn.operands[0] {
            Operand::Imm(n) if insn.count > 0 => n & 0xffff,
            _ => 0,
        };
        let ty = self.word();
        let sp = self.gpr(aero_cpu::state::reg::RSP);
        let to = self.load(sp, self.word_size());
        self.guard_canonical(to);
        let above = self.bin_int(Binary::Add, ty, sp, u64::from(self.word_size()) + more);
        self.set_gpr(aero_cpu::state::reg::RSP, above);
        Some(End::Return(to))
    }
}
