//! Dead code: values that nobody uses, and variables that are set again before anyone can see them.
//!
//! A guest register is seen wherever the region may leave, and at the end of the block. A load that nobody uses stays:
//! it may fault.

use super::{FLAG_VARS, number, touches_flags};
use crate::ir::{Block, Inst, Region, Var};

/// Makes dead instructions [`Inst::Nop`].
pub fn run(region: &mut Region) {
    let mut used = Vec::new();
    region.blocks.iter_mut().for_each(|block| of_block(block, &mut used));
}

/// One walk backwards. `used` is room for a mark at each value.
fn of_block(block: &mut Block, used: &mut Vec<bool>) {
    used.clear();
    used.resize(block.insts.len(), false);
    block.end.uses().into_iter().for_each(|v| used[v.0 as usize] = true);
    let mut unseen = Unseen::default();
    for (n, inst) in block.insts.iter_mut().enumerate().rev() {
        let dead = match *inst {
            Inst::Set(var, _) => unseen.has(var),
            _ => inst.is_pure() && !used[n],
        };
        if dead {
            *inst = Inst::Nop;
            continue;
        }
        unseen.pass(inst);
        inst.uses().for_each(|v| used[v.0 as usize] = true);
    }
}

/// Variables, a bit each, that are set before they are seen.
#[derive(Clone, Copy, Default)]
struct Unseen(u64);

fn bit(var: Var) -> u64 {
    1 << number(var)
}

impl Unseen {
    fn has(self, var: Var) -> bool {
        self.0 & bit(var) != 0
    }

    /// Goes to before an instruction.
    fn pass(&mut self, inst: &Inst) {
        match *inst {
            Inst::Set(var, _) => self.0 |= bit(var),
            Inst::Get(var) => self.0 &= !bit(var),
            _ if inst.may_leave() => self.0 = 0,
            _ if touches_flags(inst) => self.0 &= !FLAG_VARS,
            _ => {}
        }
    }
}
