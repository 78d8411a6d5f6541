//! From descriptions of flags to variables.

use super::{Rewrite, State, keeps_carry, map_end};
use crate::ir::{Binary, Inst, Region, Type, Unary, Value, Var};
use aero_cpu::jit::FlagKind;

/// Lowers the region, given what is known at the start of its blocks.
pub(super) fn run(region: &mut Region, known: &[State]) {
    let split = region.blocks.iter().flat_map(|b| &b.insts).any(|inst| match inst {
        Inst::Flags { kind, .. } => keeps_carry(*kind),
        Inst::Carry(_) | Inst::CarryOverflow(_) | Inst::Get(Var::CarryKind) => true,
        _ => false,
    });
    let long = region.word == Type::I64;
    for (block, start) in region.blocks.iter_mut().zip(known) {
        let old = core::mem::take(&mut block.insts);
        let mut lower = Lower { to: Rewrite::new(old.len()), state: *start, split, long };
        for mut inst in old {
            inst.map_uses(|v| lower.to.now(v));
            lower.inst(inst);
            lower.state = lower.state.after(&inst);
        }
        map_end(&mut block.end, |v| lower.to.now(v));
        block.insts = lower.to.insts;
    }
}

struct Lower {
    to: Rewrite,
    state: State,
    /// The region has variables for CF alone.
    split: bool,
    long: bool,
}

impl Lower {
    fn inst(&mut self, inst: Inst) {
        match inst {
            Inst::Flags { kind, a, b } => self.flags(kind, a, b),
            Inst::FlagsIf { when, kind, a, b } => self.flags_if(when, kind, a, b),
            Inst::Carry(on) => self.carry(on),
            Inst::CarryOverflow(bits) => {
                let bits = self.word(bits);
                self.set_carry(FlagKind::BITS, bits);
            }
            inst => return self.to.keep(inst),
        }
        // Nobody names its value.
        self.to.replace(Value(0));
    }

    fn set(&mut self, var: Var, value: Value) {
        self.to.emit(Inst::Set(var, value));
    }

    fn get(&mut self, var: Var) -> Value {
        self.to.emit(Inst::Get(var))
    }

    fn kind(&mut self, kind: FlagKind) -> Value {
        self.to.emit(Inst::Const(Type::I32, kind.0.into()))
    }

    fn select(&mut self, when: Value, yes: Value, no: Value) -> Value {
        self.to.emit(Inst::Select { when, yes, no })
    }

    fn word(&mut self, value: Value) -> Value {
        if self.long { self.to.emit(Inst::Unary(Unary::ExtendU, value)) } else { value }
    }

    fn flags(&mut self, kind: FlagKind, a: Value, b: Value) {
        if keeps_carry(kind) {
            self.capture_carry();
        } else if self.split && self.state.carry != Some(FlagKind::SAME) {
            let same = self.kind(FlagKind::SAME);
            self.set(Var::CarryKind, same);
        }
        let number = self.kind(kind);
        self.set(Var::FlagKind, number);
        self.set(Var::FlagA, a);
        if !keeps_carry(kind) && kind.operation() != FlagKind::LOGIC {
            self.set(Var::FlagB, b);
        }
    }

    /// Before an increment: CF follows from what it has followed from.
    fn capture_carry(&mut self) {
        match (self.state.carry, self.state.kind) {
            (Some(FlagKind::SAME), kind) => {
                let kind = match kind {
                    Some(kind) => self.kind(kind),
                    None => self.get(Var::FlagKind),
                };
                let (a, b) = (self.get(Var::FlagA), self.get(Var::FlagB));
                self.set(Var::CarryKind, kind);
                self.set(Var::CarryA, a);
                self.set(Var::CarryB, b);
            }
            (Some(FlagKind::BITS), _) => {
                let bit = self.kind(FlagKind::BIT);
                self.set(Var::CarryKind, bit);
            }
            (Some(_), _) => {}
            (None, _) => self.capture_unknown_carry(),
        }
    }

    fn capture_unknown_carry(&mut self) {
        let own = self.get(Var::CarryKind);
        let same = self.to.emit(Inst::Unary(Unary::Eqz, own));
        let main = self.get(Var::FlagKind);
        let kind = self.select(same, main, own);
        let bits = self.kind(FlagKind::BITS);
        let both = self.to.emit(Inst::Binary(Binary::Eq, kind, bits));
        let bit = self.kind(FlagKind::BIT);
        let kind = self.select(both, bit, kind);
        for (var, from) in [(Var::CarryA, Var::FlagA), (Var::CarryB, Var::FlagB)] {
            let (own, main) = (self.get(var), self.get(from));
            let value = self.select(same, main, own);
            self.set(var, value);
        }
        self.set(Var::CarryKind, kind);
    }

    fn flags_if(&mut self, when: Value, kind: FlagKind, a: Value, b: Value) {
        let number = self.kind(kind);
        for (var, new) in [(Var::FlagKind, number), (Var::FlagA, a), (Var::FlagB, b)] {
            let old = self.get(var);
            let value = self.select(when, new, old);
            self.set(var, value);
        }
        if self.split && self.state.carry != Some(FlagKind::SAME) {
            let (same, old) = (self.kind(FlagKind::SAME), self.get(Var::CarryKind));
            let value = self.select(when, same, old);
            self.set(Var::CarryKind, value);
        }
    }

    fn set_carry(&mut self, kind: FlagKind, bits: Value) {
        let kind = self.kind(kind);
        self.set(Var::CarryKind, kind);
        self.set(Var::CarryA, bits);
    }

    /// CF alone: an OF that is described together with the old CF stays.
    fn carry(&mut self, on: Value) {
        let on = self.word(on);
        if self.state.carry.is_some_and(|kind| kind != FlagKind::BITS) {
            return self.set_carry(FlagKind::BIT, on);
        }
        let (own, old) = (self.get(Var::CarryKind), self.get(Var::CarryA));
        let word = if self.long { Type::I64 } else { Type::I32 };
        let [one, two] = [1, 2].map(|bit| self.to.emit(Inst::Const(word, bit)));
        let overflow = self.to.emit(Inst::Binary(Binary::And, old, two));
        let carry = self.to.emit(Inst::Binary(Binary::And, on, one));
        let with = self.to.emit(Inst::Binary(Binary::Or, overflow, carry));
        let (bits, bit) = (self.kind(FlagKind::BITS), self.kind(FlagKind::BIT));
        let both = self.to.emit(Inst::Binary(Binary::Eq, own, bits));
        let value = self.select(both, with, on);
        let kind = self.select(both, bits, bit);
        self.set(Var::CarryKind, kind);
        self.set(Var::CarryA, value);
    }
}
