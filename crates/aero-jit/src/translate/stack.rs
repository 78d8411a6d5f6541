//! PUSH, POP and LEAVE.

use super::{Translator, operand_size};
use crate::ir::{Binary, Value};
use aero_cpu::state::reg;
use aero_x86::{Insn, Mnemonic, Operand};

impl Translator<'_> {
    pub(super) fn stack(&mut self, insn: &Insn) -> Option<()> {
        match insn.mnemonic {
            Mnemonic::Push => self.push(insn),
            Mnemonic::Pop => self.pop(insn),
            Mnemonic::Leave => self.leave(insn),
            _ => None,
        }
    }

    fn push(&mut self, insn: &Insn) -> Option<()> {
        let size = self.word_size();
        if insn.operand_size == 2 || operand_size(insn, 0).is_some_and(|s| s != size) {
            return None;
        }
        let value = self.read_sized(insn, 0, size)?;
        self.push_word(value);
        Some(())
    }

    /// Pushes a word: the store, then the stack pointer.
    pub(super) fn push_word(&mut self, value: Value) {
        let (ty, size) = (self.word(), self.word_size());
        let sp = self.gpr(reg::RSP);
        let sp = self.bin_int(Binary::Sub, ty, sp, size.into());
        self.store(sp, size, value);
        self.set_gpr(reg::RSP, sp);
    }

    fn pop(&mut self, insn: &Insn) -> Option<()> {
        let Operand::Gpr { reg, size, .. } = insn.operands[0] else { return None };
        if size != self.word_size() {
            return None;
        }
        let value = self.pop_word(0);
        self.set_gpr(reg, value);
        Some(())
    }

    /// Pops a word, and `more` bytes.
    pub(super) fn pop_word(&mut self, more: u64) -> Value {
        let (ty, size) = (self.word(), self.word_size());
        let sp = self.gpr(reg::RSP);
        let value = self.load(sp, size);
        let above = self.bin_int(Binary::Add, ty, sp, u64::from(size) + more);
        self.set_gpr(reg::RSP, above);
        value
    }

    fn leave(&mut self, insn: &Insn) -> Option<()> {
        if insn.operand_size == 2 {
            return None;
        }
        let (ty, size) = (self.word(), self.word_size());
        let frame = self.gpr(reg::RBP);
        let saved = self.load(frame, size);
        let above = self.bin_int(Binary::Add, ty, frame, size.into());
        self.set_gpr(reg::RSP, above);
        self.set_gpr(reg::RBP, saved);
        Some(())
    }
}
