//! The arithmetic flags: conditions become comparisons, and what describes the flags becomes variables.
//!
//! Where the kind of the last operation is known, which is nearly always, a condition is one comparison of its operands.
//! An operation whose flags nobody sees before the next one leaves nothing behind; all others leave a kind and two
//! operands, three variables that cost no computation. Since every side exit sees the flags, that is the usual case.
//!
//! Four steps: [`Inst::Settle`] where nothing is known that decides a condition; then [`Inst::Condition`] goes, which may read
//! variables; then dead descriptions; then the rest becomes [`Inst::Set`].
//!
//! CF has variables of its own for INC and DEC, which keep it, and for instructions that change it alone. Their kind is
//! [`FlagKind::SAME`] as long as CF follows from what the others follow from.

mod condition;
mod live;
mod lower;
mod settle;

use crate::ir::{BlockId, End, Inst, Region, Value};
use aero_cpu::jit::FlagKind;

/// Removes [`Inst::Flags`], [`Inst::FlagsIf`], [`Inst::Carry`], [`Inst::CarryOverflow`] and [`Inst::Condition`].
pub fn run(region: &mut Region) {
    let mut known = states(region);
    while settle::run(region, &known) {
        known = states(region);
    }
    condition::run(region, &known);
    live::run(region);
    let known = states(region);
    lower::run(region, &known);
}

/// What is known of the variables that describe the flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct State {
    /// Of which kind the description is.
    kind: Option<FlagKind>,
    /// The same of CF's.
    carry: Option<FlagKind>,
}

impl State {
    const UNKNOWN: Self = Self { kind: None, carry: None };
    /// All is in the state block.
    const SETTLED: Self = Self { kind: Some(FlagKind::MEMORY), carry: Some(FlagKind::SAME) };

    /// After an instruction.
    fn after(self, inst: &Inst) -> Self {
        match *inst {
            Inst::Flags { kind, .. } if keeps_carry(kind) => {
                Self { kind: Some(kind), carry: self.captured() }
            }
            Inst::Flags { kind, .. } => Self { kind: Some(kind), carry: Some(FlagKind::SAME) },
            Inst::FlagsIf { kind, .. } => Self {
                kind: self.kind.filter(|k| *k == kind),
                carry: self.carry.filter(|k| *k == FlagKind::SAME),
            },
            Inst::Carry(_) => Self {
                carry: match self.carry {
                    None => None,
                    Some(FlagKind::BITS) => Some(FlagKind::BITS),
                    Some(_) => Some(FlagKind::BIT),
                },
                ..self
            },
            Inst::CarryOverflow(_) => Self { carry: Some(FlagKind::BITS), ..self },
            Inst::Settle => Self::SETTLED,
            Inst::Exec { writes, .. } if writes.flags => Self::SETTLED,
            _ => self,
        }
    }

    /// What CF follows from once an increment has taken the place of what it followed from.
    fn captured(self) -> Option<FlagKind> {
        match self.carry? {
            FlagKind::SAME => self.kind,
            FlagKind::BITS => Some(FlagKind::BIT),
            kind => Some(kind),
        }
    }

    fn meet(self, other: Self) -> Self {
        Self {
            kind: self.kind.filter(|k| other.kind == Some(*k)),
            carry: self.carry.filter(|k| other.carry == Some(*k)),
        }
    }
}

/// Whether an operation leaves CF alone.
fn keeps_carry(kind: FlagKind) -> bool {
    matches!(kind.operation(), FlagKind::INC | FlagKind::DEC)
}

/// What is known at the start of each block.
fn states(region: &Region) -> Vec<State> {
    let mut at_start: Vec<Option<State>> = vec![None; region.blocks.len()];
    at_start[0] = Some(State::UNKNOWN);
    let mut open = vec![BlockId(0)];
    while let Some(id) = open.pop() {
        let block = &region.blocks[id.0 as usize];
        let Some(start) = at_start[id.0 as usize] else { continue };
        let end = block.insts.iter().fold(start, |state, inst| state.after(inst));
        // Another function has run in between.
        let end = if matches!(block.end, End::Call { .. }) { State::UNKNOWN } else { end };
        for next in block.end.successors() {
            let slot = &mut at_start[next.0 as usize];
            let met = slot.map_or(end, |state| state.meet(end));
            if *slot != Some(met) {
                *slot = Some(met);
                open.push(next);
            }
        }
    }
    at_start.into_iter().map(|s| s.unwrap_or(State::UNKNOWN)).collect()
}

/// A block being written anew: old values get new numbers.
struct Rewrite {
    insts: Vec<Inst>,
    numbers: Vec<Value>,
}

impl Rewrite {
    fn new(len: usize) -> Self {
        Self { insts: Vec::with_capacity(len * 2), numbers: Vec::with_capacity(len) }
    }

    fn emit(&mut self, inst: Inst) -> Value {
        self.insts.push(inst);
        Value(self.insts.len() as u32 - 1)
    }

    /// Where old value `v` is now.
    fn now(&self, v: Value) -> Value {
        self.numbers[v.0 as usize]
    }

    /// Copies an instruction, with its operands renumbered already.
    fn keep(&mut self, inst: Inst) {
        let at = self.emit(inst);
        self.numbers.push(at);
    }

    /// Gives the next old instruction's value.
    fn replace(&mut self, by: Value) {
        self.numbers.push(by);
    }
}

/// Replaces the value that a block's end uses.
fn map_end(end: &mut End, to: impl Fn(Value) -> Value) {
    match end {
        End::Branch { when: v, .. } | End::Leave(v) | End::Call { to: v, .. } | End::Return(v) => *v = to(*v),
        End::Jump(_) | End::Interpret(_) => {}
    }
}
