//! What kernels do at their borders and needs no look at anything else: CLI, CLD, STD, and selectors read.

use super::Translator;
use crate::ir::{Binary, Inst, Type, Value};
use aero_cpu::state::{CpuState, Segment, eflags, reg};
use aero_x86::{Insn, Mnemonic, Operand};
use core::mem::offset_of;

const EFLAGS: u32 = offset_of!(CpuState, eflags) as u32;
const CPL: u32 = offset_of!(CpuState, cpl) as u32;

impl Translator<'_> {
    pub(super) fn system(&mut self, insn: &Insn) -> Option<()> {
        match (insn.mnemonic, insn.operands[0], insn.operands[1]) {
            (Mnemonic::Cld, ..) => self.change_eflags(!eflags::DF, 0),
            (Mnemonic::Std, ..) => self.change_eflags(!eflags::DF, eflags::DF),
            (Mnemonic::Cli, ..) if !self.bytes.key.user => {
                // CPL 1 and 2 depend on IOPL.
                let cpl = self.emit(Inst::State { at: CPL, size: 1, ty: Type::I32 });
                let supervisor = self.bin_int(Binary::Eq, Type::I32, cpl, 0);
                self.emit(Inst::Guard(supervisor));
                self.change_eflags(!eflags::IF, 0);
            }
            (Mnemonic::Mov, Operand::Gpr { reg, size, high: false }, Operand::Seg(from)) => {
                let selector = self.segment_selector(from);
                let value = self.widen_from(selector, size);
                self.write_register(reg, size, false, value);
            }
            (Mnemonic::Push, Operand::Seg(from), _) if insn.operand_size != 2 => self.push_selector(from),
            _ => return None,
        }
        Some(())
    }

    /// Keeps some bits of EFLAGS, which are none of the arithmetic ones, and sets others.
    fn change_eflags(&mut self, keep: u64, set: u64) {
        let old = self.emit(Inst::State { at: EFLAGS, size: 8, ty: Type::I64 });
        let kept = self.bin_int(Binary::And, Type::I64, old, keep);
        let new = self.bin_int(Binary::Or, Type::I64, kept, set);
        self.emit(Inst::SetState { at: EFLAGS, size: 8, value: new });
    }

    /// The selector in a segment register: an I32.
    fn segment_selector(&mut self, segment: u8) -> Value {
        let field = usize::from(segment) * size_of::<Segment>() + offset_of!(Segment, selector);
        let at = (offset_of!(CpuState, segments) + field) as u32;
        self.emit(Inst::State { at, size: 2, ty: Type::I32 })
    }

    /// An I32 as an integer of `size` bytes.
    fn widen_from(&mut self, value: Value, size: u8) -> Value {
        if size == 8 { self.un(crate::ir::Unary::ExtendU, value) } else { value }
    }

    /// 32-bit code writes the selector alone, and moves the stack pointer by four.
    fn push_selector(&mut self, segment: u8) {
        let (ty, size) = (self.word(), self.word_size());
        let selector = self.segment_selector(segment);
        let sp = self.gpr(reg::RSP);
        let sp = self.bin_int(Binary::Sub, ty, sp, size.into());
        let (written, value) = if self.long { (8, self.widen_from(selector, 8)) } else { (2, selector) };
        self.store(sp, written, value);
        self.set_gpr(reg::RSP, sp);
    }
}
