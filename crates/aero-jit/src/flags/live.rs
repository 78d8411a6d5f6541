//! Descriptions of flags that nobody sees.

use crate::flags::keeps_carry;
use crate::ir::{Block, BlockId, End, Inst, Region, Var};

/// Who may look at the flags from here on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Seen {
    /// Those other than CF.
    others: bool,
    /// CF.
    carry: bool,
}

const ALL: Seen = Seen { others: true, carry: true };

impl Seen {
    fn or(self, other: Self) -> Self {
        Self { others: self.others || other.others, carry: self.carry || other.carry }
    }

    /// Before an instruction, given what is seen after it.
    fn before(self, inst: &Inst) -> Self {
        match inst {
            Inst::Flags { kind, .. } => Self { others: false, carry: self.carry && keeps_carry(*kind) },
            Inst::Carry(_) => Self { carry: false, ..self },
            Inst::CarryOverflow(_) => Self { carry: false, ..self },
            Inst::Settle => ALL,
            Inst::Get(Var::FlagKind | Var::FlagA | Var::FlagB) => Self { others: true, ..self },
            // Whether CF has a description of its own decides what the others' means.
            Inst::Get(Var::CarryKind | Var::CarryA | Var::CarryB) => Self { carry: true, ..self },
            inst if inst.may_leave() => ALL,
            _ => self,
        }
    }
}

/// Removes what is not seen. A loop's header checks the budget, where all is seen.
pub(super) fn run(region: &mut Region) {
    let mut at_start = vec![Seen::default(); region.blocks.len()];
    let headers = headers(region);
    let mut changed = true;
    while changed {
        changed = false;
        for (n, block) in region.blocks.iter().enumerate().rev() {
            let seen = block.insts.iter().rev().fold(at_end(block, &at_start), |s, inst| s.before(inst));
            let seen = if headers[n] { ALL } else { seen };
            changed |= core::mem::replace(&mut at_start[n], seen) != seen;
        }
    }
    for n in 0..region.blocks.len() {
        let mut seen = at_end(&region.blocks[n], &at_start);
        for inst in region.blocks[n].insts.iter_mut().rev() {
            let dead = match inst {
                // An increment that is seen by CF alone says where CF is described from then on.
                Inst::Flags { .. } | Inst::FlagsIf { .. } | Inst::CarryOverflow(_) => seen == Seen::default(),
                Inst::Carry(_) => !seen.carry,
                _ => false,
            };
            if dead {
                *inst = Inst::Nop;
            }
            seen = seen.before(inst);
        }
    }
}

fn at_end(block: &Block, at_start: &[Seen]) -> Seen {
    match block.end {
        End::Jump(_) | End::Branch { .. } => {
            block.end.successors().fold(Seen::default(), |seen, to| seen.or(at_start[to.0 as usize]))
        }
        End::Leave(_) | End::Call { .. } | End::Return(_) | End::Interpret(_) => ALL,
    }
}

/// The blocks that loops go back to.
fn headers(region: &Region) -> Vec<bool> {
    let mut header = vec![false; region.blocks.len()];
    // Blocks that were begun, and those of them that are done.
    let (mut begun, mut done) = (header.clone(), header.clone());
    let mut path = vec![BlockId(0)];
    while let Some(BlockId(n)) = path.last().copied() {
        let n = n as usize;
        if core::mem::replace(&mut begun[n], true) {
            done[n] = true;
            path.pop();
            continue;
        }
        for next in region.blocks[n].end.successors() {
            let to = next.0 as usize;
            if !begun[to] {
                path.push(next);
            } else if !done[to] {
                header[to] = true;
            }
        }
    }
    header
}
