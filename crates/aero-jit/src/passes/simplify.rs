//! Simpler instructions for the same values: constants are folded, what undoes itself is undone, what variables hold is
//! not asked again.
//!
//! One walk forwards writes each block anew. Operands are in simplest form when an instruction comes to them, so each
//! rule looks at an instruction and the ones that made its operands, no further. What is left without use is for
//! [`super::dead`].
//!
//! Three things are known of the values so far: the instruction that made them, their type, and which of their bits may
//! be ones ([`bits`]). What variables hold is known from the last `Get` or `Set`.

mod bits;
mod compare;
mod out;
mod scalar;
mod vector;

use super::{FLAG_VARS, VARS, number, touches_flags};
use crate::ir::{Block, End, Inst, Region, Touched, Type, Value, Var};
use crate::operators::ones;
use out::Out;

/// Simplifies a region. Removes [`Inst::Nop`].
pub fn run(region: &mut Region) {
    let mut walk = Walk { out: Out::new(region.word), now: Vec::new(), held: [None; VARS] };
    region.blocks.iter_mut().for_each(|block| walk.block(block));
}

/// A block being written anew.
struct Walk {
    out: Out,
    /// What the old values are now.
    now: Vec<Value>,
    /// The values of variables, as far as known.
    held: [Option<Value>; VARS],
}

/// Stands for what makes no value, or is gone. No valid region uses it.
const NONE: Value = Value(u32::MAX);

impl Walk {
    fn block(&mut self, block: &mut Block) {
        self.now.clear();
        self.held = [None; VARS];
        let old = core::mem::take(&mut block.insts);
        for inst in &old {
            let mut inst = *inst;
            inst.map_uses(|v| self.now[v.0 as usize]);
            let value = self.inst(inst).unwrap_or(NONE);
            self.now.push(value);
        }
        block.end = self.end(block.end);
        block.insts = self.out.take(old);
    }

    /// Writes an instruction. The value that stands for the one it made.
    fn inst(&mut self, inst: Inst) -> Option<Value> {
        match inst {
            Inst::Nop => None,
            Inst::Const(ty, bits) => Some(self.out.constant(ty, bits)),
            Inst::Get(var) => Some(self.get(var)),
            Inst::Set(var, value) => self.set(var, value),
            Inst::Unary(op, a) => Some(self.out.unary(op, a)),
            Inst::Binary(op, a, b) => Some(self.out.binary(op, a, b)),
            Inst::Select { when, yes, no } => Some(self.out.select(when, yes, no)),
            Inst::Vector(shape, of) => Some(self.out.vector(shape, of)),
            Inst::Guard(when) => self.guard(when),
            Inst::GuardEither(a, b) => self.guard_either(a, b),
            _ => Some(self.effect(inst)),
        }
    }

    fn get(&mut self, var: Var) -> Value {
        if let Some(value) = self.held[number(var)] {
            return value;
        }
        let value = self.out.push(Inst::Get(var));
        self.held[number(var)] = Some(value);
        value
    }

    fn set(&mut self, var: Var, value: Value) -> Option<Value> {
        let before = self.held[number(var)].replace(value);
        (before != Some(value)).then(|| self.out.push(Inst::Set(var, value)))
    }

    fn guard(&mut self, when: Value) -> Option<Value> {
        let when = match self.out.truth(when) {
            (simpler, false) => simpler,
            (_, true) => when,
        };
        let holds = self.out.constant_of(when).is_some_and(|bits| bits != 0);
        (!holds).then(|| self.out.push(Inst::Guard(when)))
    }

    fn guard_either(&mut self, mostly: Value, otherwise: Value) -> Option<Value> {
        match (self.out.constant_of(mostly), self.out.constant_of(otherwise)) {
            (Some(0), _) => self.guard(otherwise),
            (_, Some(0)) => self.guard(mostly),
            (Some(_), _) | (_, Some(_)) => None,
            (None, None) => Some(self.out.push(Inst::GuardEither(mostly, otherwise))),
        }
    }

    /// Instructions with effects, and such that read what is not known here.
    fn effect(&mut self, mut inst: Inst) -> Value {
        match &mut inst {
            Inst::Store { value, size, .. }
            | Inst::Poke { value, size, .. }
            | Inst::SetState { value, size, .. } => {
                *value = self.out.stored(*value, *size);
            }
            Inst::Load { size, signed, ty, .. } | Inst::Peek { size, signed, ty, .. } => {
                *signed &= *size < ty.size();
            }
            Inst::Exec { writes, .. } => self.forget(*writes),
            _ => {}
        }
        if touches_flags(&inst) {
            self.forget_those(FLAG_VARS);
        }
        self.out.push(inst)
    }

    fn forget(&mut self, written: Touched) {
        self.forget_those(u64::from(written.gprs) | u64::from(written.xmms) << 16);
    }

    fn forget_those(&mut self, vars: u64) {
        let forgotten = |n: &usize| vars >> n & 1 != 0;
        (0..VARS).filter(forgotten).for_each(|n| self.held[n] = None);
    }

    fn end(&mut self, end: End) -> End {
        let now = |v: Value| self.now[v.0 as usize];
        match end {
            End::Branch { when, yes, no } => {
                let (when, inverse) = self.out.truth(now(when));
                let (yes, no) = if inverse { (no, yes) } else { (yes, no) };
                match self.out.constant_of(when) {
                    Some(0) => End::Jump(no),
                    Some(_) => End::Jump(yes),
                    None if yes == no => End::Jump(yes),
                    None => End::Branch { when, yes, no },
                }
            }
            End::Leave(to) => End::Leave(now(to)),
            End::Call { to, back, then } => End::Call { to: now(to), back, then },
            End::Return(to) => End::Return(now(to)),
            End::Jump(_) | End::Interpret(_) => end,
        }
    }
}

/// All bits of a type, as far as 64.
fn all(ty: Type) -> u64 {
    ones(u32::from(ty.size()).min(8) * 8)
}
