//! Conditions that a run of instructions shares.
//!
//! They are checked before the first instruction that needs them; nothing in compiled code changes them. Only the
//! interpreter can, and other regions. After all blocks are there, [`drop_repeated`] takes away the checks that every way
//! to them has passed already.

use super::Translator;
use crate::ir::{Binary, Block, End, Inst, Type, Unary, Value};
use aero_cpu::state::{CpuState, cr0, cr4};
use core::mem::offset_of;

/// A condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Needs {
    /// SSE instructions may run (Intel SDM vol. 3, 13.1).
    Sse = 1,
    /// Rounding is to nearest, and an inexact result is no exception (vol. 1, 10.2.3).
    Native = 2,
    /// x87 instructions may run (vol. 3, 2.5).
    X87 = 4,
}

/// A check in a block: the instructions `at..at + len`.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    at: usize,
    len: usize,
    what: Needs,
}

/// MXCSR: an inexact result is recorded; it is masked; and the rounding control.
const INEXACT: u64 = 1 << 5;
const MASKED: u64 = 1 << 12;
const ROUNDING: u64 = 3 << 13;

impl Translator<'_> {
    /// Leaves unless a condition holds.
    pub(in crate::translate) fn needs(&mut self, what: Needs) {
        if self.proven & what as u8 != 0 {
            return;
        }
        let at = self.insts.len();
        match what {
            Needs::Sse => self.check_sse(),
            Needs::Native => self.check_mxcsr(),
            Needs::X87 => self.check_x87(),
        }
        self.proven |= what as u8;
        self.summary.needs |= what as u8;
        self.checks.push(Check { at, len: self.insts.len() - at, what });
    }

    fn check_sse(&mut self) {
        let state = |at: usize| Inst::State { at: at as u32, size: 4, ty: Type::I32 };
        let cr0 = self.emit(state(offset_of!(CpuState, cr0)));
        let cr4 = self.emit(state(offset_of!(CpuState, cr4)));
        let off = self.bin_int(Binary::And, Type::I32, cr0, cr0::EM | cr0::TS);
        let on = self.bin_int(Binary::And, Type::I32, cr4, cr4::OSFXSR);
        let wrong = self.bin_int(Binary::Xor, Type::I32, on, cr4::OSFXSR);
        let wrong = self.bin(Binary::Or, off, wrong);
        let right = self.un(Unary::Eqz, wrong);
        self.emit(Inst::Guard(right));
    }

    fn check_x87(&mut self) {
        let at = offset_of!(CpuState, cr0) as u32;
        let cr0 = self.emit(Inst::State { at, size: 4, ty: Type::I32 });
        let off = self.bin_int(Binary::And, Type::I32, cr0, cr0::EM | cr0::TS);
        let right = self.un(Unary::Eqz, off);
        self.emit(Inst::Guard(right));
    }

    fn check_mxcsr(&mut self) {
        let at = offset_of!(CpuState, mxcsr) as u32;
        let mxcsr = self.emit(Inst::State { at, size: 4, ty: Type::I32 });
        let bits = self.bin_int(Binary::And, Type::I32, mxcsr, MASKED | ROUNDING);
        let right = self.bin_int(Binary::Eq, Type::I32, bits, MASKED);
        self.emit(Inst::Guard(right));
    }

    /// Leaves if a result is inexact and that is not yet recorded: the interpreter records it. Only then `exact` is asked,
    /// and may say no if it does not know.
    pub(super) fn guard_exact(&mut self, exact: impl FnOnce(&mut Self) -> Value) {
        let recorded = match self.recorded {
            Some(value) => value,
            None => {
                let at = offset_of!(CpuState, mxcsr) as u32;
                let mxcsr = self.emit(Inst::State { at, size: 4, ty: Type::I32 });
                self.bin_int(Binary::And, Type::I32, mxcsr, INEXACT)
            }
        };
        self.recorded = Some(recorded);
        let exact = exact(self);
        self.guard_either(recorded, exact);
    }
}

/// What holds after a block, given what holds before it.
fn after(block: &Block, checks: &[Check], before: u8) -> u8 {
    let end = if matches!(block.end, End::Call { .. }) { 0 } else { u8::MAX };
    let last_exec = block.insts.iter().rposition(|i| matches!(i, Inst::Exec { .. }));
    let kept = if last_exec.is_some() { 0 } else { before };
    let later = checks.iter().filter(|c| last_exec.is_none_or(|e| c.at > e));
    later.fold(kept, |all, c| all | c.what as u8) & end
}

/// Removes checks of what holds on every way to them. `checks` are those of each block, in order.
pub fn drop_repeated(blocks: &mut [Block], checks: &[Vec<Check>]) {
    let none = Vec::new();
    let of = |n: usize| checks.get(n).unwrap_or(&none);
    // Assumes the best of blocks not yet seen.
    let mut before = vec![u8::MAX; blocks.len()];
    before[0] = 0;
    let mut open = vec![0];
    let mut seen = vec![false; blocks.len()];
    while let Some(n) = open.pop() {
        seen[n] = true;
        let end = after(&blocks[n], of(n), before[n]);
        for next in blocks[n].end.successors() {
            let to = next.0 as usize;
            let met = before[to] & end;
            if met != before[to] || !seen[to] {
                before[to] = met;
                open.push(to);
            }
        }
    }
    for (n, block) in blocks.iter_mut().enumerate() {
        let first_exec = block.insts.iter().position(|i| matches!(i, Inst::Exec { .. }));
        for check in of(n).iter().filter(|c| first_exec.is_none_or(|e| c.at < e)) {
            if before[n] & check.what as u8 != 0 {
                block.insts[check.at..][..check.len].fill(Inst::Nop);
            }
        }
    }
}
