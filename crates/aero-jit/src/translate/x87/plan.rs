//! Where a region can have the x87 in variables, and what must hold when it is entered.
//!
//! Instructions name registers from TOP, and compilers keep TOP the same on every way to a place. So one walk over the
//! blocks tells of each instruction which registers it means, counted from what TOP was at the head, and which of them
//! must be empty or not. What is not known of a register, because nothing has happened to it since the head, is asked at the
//! head ([`crate::ir::Inst::EnterX87`]). An instruction that would find a register empty, or full, is left to the
//! interpreter, and so is everything after a call.

use crate::region::{Next, Straight};
use aero_x86::{Insn, Mnemonic as M, Operand};
use rustc_hash::FxHashMap;

/// What an instruction does to the stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Effect {
    /// Registers that must not be empty, from TOP.
    pub needs: [Option<u8>; 2],
    /// One that is written whatever it was before.
    pub fills: Option<u8>,
    /// It pushes.
    pub push: bool,
    /// How often it pops.
    pub pops: u8,
}

/// What is known of the stack at a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stack {
    /// TOP less what it was at the head, 0 to 7.
    pub top: u8,
    /// Which registers have been written or popped since; counted from TOP at the head.
    pub known: u8,
    /// Which of them are not empty.
    pub full: u8,
}

/// What is asked of registers at the head, a bit each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Asked {
    /// They must not be empty.
    pub full: u8,
    /// They must be.
    pub empty: u8,
}

/// How to have the x87 in variables.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// What is asked at the head.
    pub asked: Asked,
    /// Registers that are read or written.
    pub used: u8,
    /// By block: the stack at its begin, if it is reached.
    pub starts: Vec<Option<Stack>>,
}

/// The plan for a region; `None` where nothing is gained, or where TOP is not the same on all ways.
pub fn of(blocks: &[Straight]) -> Option<Plan> {
    let gains = |insn: &Insn| insn.x87_opcode != 0 && counts(insn);
    if !blocks.iter().flat_map(|b| &b.insns).any(|(_, insn)| gains(insn)) {
        return None;
    }
    let numbers: FxHashMap<i32, usize> = blocks.iter().enumerate().map(|(n, b)| (b.offset, n)).collect();
    let mut plan = Plan { starts: vec![None; blocks.len()], ..Plan::default() };
    plan.starts[0] = Some(Stack::default());
    let mut open = vec![0];
    while let Some(n) = open.pop() {
        let mut stack = plan.starts[n]?;
        let through = blocks[n].insns.iter().try_for_each(|(_, insn)| plan.pass(insn, &mut stack));
        if through.is_none() {
            continue;
        }
        for to in successors(&blocks[n]).into_iter().flatten().filter_map(|at| numbers.get(&at)) {
            match plan.starts[*to] {
                Some(start) => plan.meet(start, stack)?,
                None => {
                    plan.starts[*to] = Some(stack);
                    open.push(*to);
                }
            }
        }
    }
    Some(plan)
}

/// Where a block goes on in the region. A call goes on in no variables.
fn successors(block: &Straight) -> [Option<i32>; 2] {
    match block.next {
        Next::Block(at) => [Some(at), None],
        Next::Outside(_) | Next::Interpret(_) => [None, None],
        Next::Branch => {
            let Some((at, insn)) = block.insns.last() else { return [None, None] };
            let after = at + i32::from(insn.len);
            let target = match insn.operands[0] {
                Operand::Near(by) => i32::try_from(by).ok().and_then(|by| at.checked_add(by)),
                _ => None,
            };
            match insn.mnemonic {
                M::Ret | M::Call => [None, None],
                M::Jmp => [target, None],
                _ => [target, Some(after)],
            }
        }
    }
}

impl Asked {
    /// What is known of register `n`: whether it is not empty.
    pub fn is_full(&self, stack: &Stack, n: u8) -> Option<bool> {
        let bit = 1 << n;
        if stack.known & bit != 0 {
            Some(stack.full & bit != 0)
        } else if (self.full | self.empty) & bit != 0 {
            Some(self.full & bit != 0)
        } else {
            None
        }
    }

    /// Registers of which it is known whether they are empty, and which of them are not.
    pub fn all(&self, stack: &Stack) -> (u8, u8) {
        (stack.known | self.full | self.empty, stack.full | self.full & !stack.known)
    }
}

impl Plan {
    /// Has a register be full or not, by asking at the head if nothing is known. `None` if it is known not to be so.
    fn want(&mut self, stack: &Stack, n: u8, full: bool) -> Option<()> {
        self.used |= 1 << n;
        match self.asked.is_full(stack, n) {
            Some(is) => (is == full).then_some(()),
            None => {
                *(if full { &mut self.asked.full } else { &mut self.asked.empty }) |= 1 << n;
                Some(())
            }
        }
    }

    /// Another way to a place.
    fn meet(&mut self, there: Stack, comes: Stack) -> Option<()> {
        if there.top != comes.top {
            return None;
        }
        for n in 0..8 {
            match (self.asked.is_full(&there, n), self.asked.is_full(&comes, n)) {
                (a, b) if a == b => {}
                (Some(is), None) => self.want(&comes, n, is)?,
                (None, Some(is)) => self.want(&there, n, is)?,
                _ => return None,
            }
        }
        Some(())
    }

    /// Goes past an instruction. `None` if it cannot run with the x87 in variables.
    fn pass(&mut self, insn: &Insn, stack: &mut Stack) -> Option<()> {
        if insn.x87_opcode == 0 {
            return keeps_x87(insn).then_some(());
        }
        let effect = effect(insn)?;
        for n in effect.needs.into_iter().flatten() {
            self.want(stack, stack.register(n), true)?;
        }
        if let Some(n) = effect.fills {
            self.used |= 1 << stack.register(n);
        }
        if effect.push {
            self.want(stack, stack.register(7), false)?;
        }
        stack.change(&effect);
        Some(())
    }
}

impl Stack {
    /// The register that ST(n) is.
    pub fn register(&self, n: u8) -> u8 {
        (self.top + n) & 7
    }

    /// What an instruction makes of it.
    pub fn change(&mut self, effect: &Effect) {
        let mut mark = |n: u8, full: bool| {
            self.known |= 1 << n;
            self.full = self.full & !(1 << n) | u8::from(full) << n;
        };
        if let Some(n) = effect.fills {
            mark((self.top + n) & 7, true);
        }
        for n in 0..effect.pops {
            mark((self.top + n) & 7, false);
        }
        if effect.push {
            mark((self.top + 7) & 7, true);
        }
        self.top = (self.top + effect.pops + if effect.push { 7 } else { 0 }) & 7;
    }
}

/// Whether an instruction of another kind does nothing to the x87, whoever runs it.
pub fn keeps_x87(insn: &Insn) -> bool {
    let changes = matches!(
        insn.mnemonic,
        M::Emms
            | M::Fxrstor
            | M::Fxrstor64
            | M::Xrstor
            | M::Xrstor64
            | M::Xrstors
            | M::Xrstors64
            | M::Clts
            | M::Lmsw
    );
    !changes && !insn.operands.iter().any(|o| matches!(o, Operand::Mm(_) | Operand::Cr(_)))
}

/// Whether an x87 instruction changes nothing of the x87.
pub fn only_reads(insn: &Insn) -> bool {
    matches!(insn.mnemonic, M::Fnstsw | M::Fnstcw)
}

/// Whether a control word that is loaded before these instructions is replaced before its rounding matters but to stores of
/// integers: what compilers make of a conversion.
pub fn is_replaced(rest: &[(i32, Insn)]) -> bool {
    for (_, insn) in rest {
        match insn.mnemonic {
            M::Fldcw => return true,
            M::Fist | M::Fistp | M::Fisttp | M::Fild | M::Fld | M::Fxch | M::Fnstcw => {}
            M::Fst | M::Fstp if insn.operands[0] != Operand::Mem || insn.mem.size == 8 => {}
            _ if insn.x87_opcode == 0 && keeps_x87(insn) => {}
            _ => return false,
        }
    }
    false
}

/// Whether it is worth having the x87 in variables for it.
fn counts(insn: &Insn) -> bool {
    super::arithmetic(insn).is_some() || insn.mnemonic == M::Fsqrt
}

/// What an instruction does to the stack, if it can run with the x87 in variables.
pub fn effect(insn: &Insn) -> Option<Effect> {
    let memory = insn.operands[0] == Operand::Mem;
    let (size, st) = (insn.mem.size, |n: usize| super::stack(insn, n).map(|n| n as u8));
    let (none, needs) = (Effect::default(), |a: u8| Effect { needs: [Some(a), None], ..Effect::default() });
    let both = |a: u8, b: u8| Effect { needs: [Some(a), Some(b)], ..Effect::default() };
    if super::arithmetic(insn).is_some() {
        let pops = u8::from(super::pops(insn));
        return match memory {
            true => matches!(size, 2 | 4 | 8).then(|| needs(0)),
            false => Some(Effect { pops, ..both(st(0)?, st(1)?) }),
        };
    }
    Some(match (insn.mnemonic, memory) {
        (M::Fld, true) if matches!(size, 4 | 8) => Effect { push: true, ..none },
        (M::Fild, true) if matches!(size, 2 | 4 | 8) => Effect { push: true, ..none },
        (M::Fld1 | M::Fldz, _) => Effect { push: true, ..none },
        (M::Fld, false) => Effect { push: true, ..needs(st(usize::from(insn.count != 1))?) },
        (M::Fst | M::Fstp, true) if matches!(size, 4 | 8) => {
            Effect { pops: u8::from(insn.mnemonic == M::Fstp), ..needs(0) }
        }
        (M::Fist | M::Fistp | M::Fisttp, true) if matches!(size, 2 | 4 | 8) => {
            Effect { pops: u8::from(insn.mnemonic != M::Fist), ..needs(0) }
        }
        (M::Fst | M::Fstp, false) => {
            Effect { pops: u8::from(insn.mnemonic == M::Fstp), fills: Some(st(0)?), ..needs(0) }
        }
        (M::Fxch, _) => both(0, super::exchanged(insn)? as u8),
        (M::Fchs | M::Fabs | M::Fsqrt | M::Fxam | M::Ftst, _) => needs(0),
        (M::Fnstsw | M::Fnstcw | M::Fldcw, _) => none,
        _ if super::moved_if(insn).is_some() => both(0, st(1)?),
        _ => match (super::comparison(insn)?, memory) {
            (pops, true) => matches!(size, 4 | 8).then(|| Effect { pops, ..needs(0) })?,
            (pops, false) => Effect { pops, ..both(0, super::compared_with(insn) as u8) },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effects(list: &[Effect]) -> Stack {
        list.iter().fold(Stack::default(), |mut stack, effect| {
            stack.change(effect);
            stack
        })
    }

    #[test]
    fn pushes_and_pops_move_the_top_around_the_end() {
        let push = Effect { push: true, ..Effect::default() };
        let pop = Effect { pops: 1, ..Effect::default() };
        assert_eq!(effects(&[push]), Stack { top: 7, known: 0x80, full: 0x80 });
        assert_eq!(effects(&[push, pop]), Stack { top: 0, known: 0x80, full: 0 });
        assert_eq!(effects(&[pop, pop]), Stack { top: 2, known: 3, full: 0 });
    }

    #[test]
    fn copy_that_pops_its_own_register_leaves_it_empty() {
        let effect = Effect { pops: 1, fills: Some(0), ..Effect::default() };
        assert_eq!(effects(&[effect]), Stack { top: 1, known: 1, full: 0 });
    }

    #[test]
    fn ways_that_disagree_about_an_untouched_register_ask_for_it() {
        let mut plan = Plan::default();
        let touched = Stack { top: 0, known: 4, full: 4 };
        assert_eq!(plan.meet(touched, Stack::default()), Some(()));
        assert_eq!(plan.asked, Asked { full: 4, empty: 0 });
        assert_eq!(plan.meet(Stack { top: 0, known: 4, full: 0 }, touched), None);
    }
}
