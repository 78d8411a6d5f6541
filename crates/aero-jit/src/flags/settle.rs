//! Where a condition cannot be decided from what is known, the flags are worked out first.

use super::{Rewrite, State, map_end};
use crate::ir::{Inst, Region};
use aero_cpu::jit::FlagKind;

/// Puts [`Inst::Settle`] before the first condition of each block that needs it, given what is known at the start of the
/// blocks. Returns whether there was one: then more is known, and less of what was known is true.
pub(super) fn run(region: &mut Region, known: &[State]) -> bool {
    let mut any = false;
    for (block, start) in region.blocks.iter_mut().zip(known) {
        let mut state = *start;
        let at = block.insts.iter().position(|inst| {
            let needs = matches!(inst, Inst::Condition(cc) if !state.decides(*cc));
            state = state.after(inst);
            needs
        });
        let Some(at) = at else { continue };
        any = true;
        let old = core::mem::take(&mut block.insts);
        let mut to = Rewrite::new(old.len());
        for (n, mut inst) in old.into_iter().enumerate() {
            if n == at {
                to.emit(Inst::Settle);
            }
            inst.map_uses(|v| to.now(v));
            to.keep(inst);
        }
        map_end(&mut block.end, |v| to.now(v));
        block.insts = to.insts;
    }
    any
}

impl State {
    /// Whether condition `cc` follows from descriptions of these kinds.
    fn decides(self, cc: u8) -> bool {
        match cc >> 1 {
            0 => self.tells_overflow(),
            1 => self.tells_carry(),
            2 | 4 | 5 => self.kind.is_some(),
            3 => self.tells_carry() && self.kind.is_some(),
            _ => self.tells_overflow() && self.kind.is_some(),
        }
    }

    fn tells_carry(self) -> bool {
        let kind = match self.carry {
            Some(FlagKind::SAME) => self.kind,
            kind => kind,
        };
        // The products' CF takes a product of twice the bits.
        kind.is_some_and(|kind| {
            !matches!(kind.operation(), FlagKind::INC | FlagKind::DEC | FlagKind::IMUL | FlagKind::MUL)
        })
    }

    fn tells_overflow(self) -> bool {
        match (self.carry, self.kind) {
            (Some(FlagKind::BITS), _) => true,
            (Some(_), Some(kind)) => {
                !matches!(kind.operation(), FlagKind::SHL | FlagKind::SHR | FlagKind::IMUL | FlagKind::MUL)
            }
            _ => false,
        }
    }
}
