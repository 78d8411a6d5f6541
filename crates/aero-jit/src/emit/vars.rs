//! Sets of variables, where they lie in the processor's state, and what a region does with them.
//!
//! Two questions are answered for each block. *Dirty*: which variables may differ there from what the state block holds, so
//! that only those are stored before leaving. *Needs flags*: whether the flags that were there before may be looked at; then flags
//! that an earlier region left undone must be worked out first. Both are bits, and a few rounds over the blocks settle
//! them.

use crate::ir::{Block, End, Inst, Region, Touched, Value, Var};
use crate::structure::Structure;
use aero_cpu::jit::FlagKind;
use aero_cpu::state::CpuState;
use core::mem::offset_of;

/// Variables in all.
pub(super) const COUNT: usize = 54;

/// A variable's number; `None` for a register that there is not.
pub(super) fn number(var: Var) -> Option<usize> {
    match var {
        Var::Gpr(n @ 0..16) => Some(n.into()),
        Var::Xmm(n @ 0..16) => Some(16 + usize::from(n)),
        Var::Gpr(_) | Var::Xmm(_) => None,
        Var::FlagKind => Some(32),
        Var::FlagA => Some(33),
        Var::FlagB => Some(34),
        Var::CarryKind => Some(35),
        Var::CarryA => Some(36),
        Var::CarryB => Some(37),
        Var::Fp(n @ 0..8) => Some(38 + usize::from(n)),
        Var::Fp(_) => None,
        Var::FpStack => Some(46),
        Var::FpBase => Some(47),
        Var::FpA => Some(48),
        Var::FpB => Some(49),
        Var::FpCode => Some(50),
        Var::FpIp => Some(51),
        Var::FpDp => Some(52),
        Var::FpDs => Some(53),
    }
}

/// A variable by number.
pub(super) fn var(number: usize) -> Var {
    match number {
        0..16 => Var::Gpr(number as u8),
        16..32 => Var::Xmm((number - 16) as u8),
        32 => Var::FlagKind,
        33 => Var::FlagA,
        34 => Var::FlagB,
        35 => Var::CarryKind,
        36 => Var::CarryA,
        37 => Var::CarryB,
        38..46 => Var::Fp((number - 38) as u8),
        46 => Var::FpStack,
        47 => Var::FpBase,
        48 => Var::FpA,
        49 => Var::FpB,
        50 => Var::FpCode,
        51 => Var::FpIp,
        52 => Var::FpDp,
        _ => Var::FpDs,
    }
}

/// Variables, by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Vars(u64);

impl Vars {
    /// All that describe the flags.
    pub(super) const FLAGS: Self = Self(0x3f << 32);
    /// All that describe the x87.
    pub(super) const X87: Self = Self(0xffff << 38);
    /// Of them, its registers and what goes with them.
    pub(super) const FP: Self = Self(0xfff << 38);
    /// Of them, the last instruction.
    pub(super) const LAST: Self = Self(0xf << 50);

    /// One variable.
    pub(super) fn one(var: Var) -> Self {
        Self(number(var).map_or(0, |n| 1 << n))
    }

    /// Registers, and all of the flags.
    pub(super) fn touched(t: Touched) -> Self {
        let flags = if t.flags { Self::FLAGS } else { Self(0) };
        Self(u64::from(t.gprs) | u64::from(t.xmms) << 16).or(flags)
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) fn has(self, var: Var) -> bool {
        self.and(Self::one(var)).0 != 0
    }

    /// x87 registers, a bit each.
    pub(super) fn registers_of_x87(registers: u8) -> Self {
        Self(u64::from(registers) << 38)
    }

    /// Which x87 registers are among them.
    pub(super) fn mask_of_x87(self) -> u8 {
        (self.0 >> 38) as u8
    }

    /// Whether any describes the x87.
    pub(super) fn any_x87(self) -> bool {
        self.and(Self::X87) != Self::default()
    }

    /// Whether any describes the flags.
    pub(super) fn any_flags(self) -> bool {
        self.and(Self::FLAGS).0 != 0
    }

    /// The same, but a description of the flags is there with all its parts or not at all: it is loaded and stored so.
    fn with_whole_description(self) -> Self {
        const MAIN: Vars = Vars(7 << 32);
        if self.and(Self::FLAGS.without(MAIN)) != Self::default() {
            self.or(Self::FLAGS)
        } else if self.any_flags() {
            self.or(MAIN)
        } else {
            self
        }
    }

    /// The same of the x87, but for its registers.
    fn with_whole_x87(self) -> Self {
        const REGISTERS: Vars = Vars(0xff << 38);
        let fp = if self.and(Self::FP) != Self::default() { Self::FP.without(REGISTERS) } else { Self(0) };
        let last = if self.any_x87() { Self::LAST } else { Self(0) };
        self.or(fp).or(last)
    }

    /// Each, in order.
    pub(super) fn iter(self) -> impl Iterator<Item = Var> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            let n = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            (n < 64).then(|| var(n))
        })
    }
}

/// Where a register lies in the state block; `None` for the flags.
pub(super) fn register_offset(var: Var) -> Option<u32> {
    match var {
        Var::Gpr(n) => Some(CpuState::gpr_offset(n)),
        Var::Xmm(n) => Some((offset_of!(CpuState, xmm) + 16 * usize::from(n)) as u32),
        _ => None,
    }
}

/// What a region does with its variables.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Those that it reads or sets.
    pub(super) used: Vars,
    /// Those that it sets.
    pub(super) set: Vars,
    /// By block: those that may be dirty at its begin.
    pub(super) dirty: Vec<Vars>,
    /// By block: whether it or what follows may look at the description of flags from before it.
    pub(super) needs_flags: Vec<bool>,
}

/// What a block does.
#[derive(Clone, Copy, Default)]
struct Summary {
    sets: Vars,
    cleans: Vars,
    needs_flags: bool,
    hides_flags: bool,
}

impl Flow {
    pub(super) fn of(region: &Region, structure: &Structure) -> Self {
        let mut flow = Self {
            dirty: vec![Vars::default(); region.blocks.len()],
            needs_flags: vec![false; region.blocks.len()],
            ..Self::default()
        };
        let mut summaries = vec![Summary::default(); region.blocks.len()];
        for block in &structure.order {
            let block = block.0 as usize;
            summaries[block] = flow.summary(&region.blocks[block]);
        }
        flow.used = flow.used.with_whole_description().with_whole_x87();
        while flow.spread_dirty(region, structure, &summaries) {}
        while flow.spread_needs(region, structure, &summaries) {}
        flow
    }

    fn summary(&mut self, block: &Block) -> Summary {
        let mut s = Summary::default();
        for inst in &block.insts {
            s.needs_flags |= !s.hides_flags && looks_at_flags(inst, block);
            match *inst {
                Inst::Get(var) => self.used = self.used.or(Vars::one(var)),
                Inst::Set(var, _) => {
                    self.used = self.used.or(Vars::one(var));
                    self.set = self.set.or(Vars::one(var));
                    s.sets = s.sets.or(Vars::one(var));
                    s.hides_flags |= var == Var::FlagKind;
                }
                Inst::HaveX87 { used, .. } => {
                    self.used = self.used.or(Vars::registers_of_x87(used)).or(Vars::one(Var::FpStack));
                }
                Inst::Exec { reads, writes, .. } => {
                    let stored = Vars::touched(reads).or(Vars::touched(writes)).or(Vars::X87);
                    s.sets = s.sets.without(stored);
                    s.cleans = s.cleans.or(stored);
                    // The helper works out what is undone.
                    s.hides_flags = true;
                }
                Inst::Settle => {
                    s.sets = s.sets.without(Vars::FLAGS);
                    s.cleans = s.cleans.or(Vars::FLAGS);
                    s.hides_flags = true;
                }
                _ => {}
            }
        }
        if let End::Call { .. } = block.end {
            s.sets = Vars::default();
            s.cleans = Vars(u64::MAX);
            s.hides_flags = true;
        }
        s
    }

    fn spread_dirty(&mut self, region: &Region, structure: &Structure, summaries: &[Summary]) -> bool {
        let mut changed = false;
        for from in &structure.order {
            let from = from.0 as usize;
            let out = self.dirty[from].without(summaries[from].cleans).or(summaries[from].sets);
            for to in region.blocks[from].end.successors() {
                let into = &mut self.dirty[to.0 as usize];
                changed |= *into != into.or(out);
                *into = into.or(out);
            }
        }
        changed
    }

    fn spread_needs(&mut self, region: &Region, structure: &Structure, summaries: &[Summary]) -> bool {
        let mut changed = false;
        for block in structure.order.iter().rev() {
            let block = block.0 as usize;
            let mut after = region.blocks[block].end.successors().map(|to| self.needs_flags[to.0 as usize]);
            let s = summaries[block];
            let needs = s.needs_flags || !s.hides_flags && after.any(|n| n);
            changed |= self.needs_flags[block] != needs;
            self.needs_flags[block] = needs;
        }
        changed
    }
}

/// Whether an instruction reads what describes the flags, or makes a description that builds on what is there.
fn looks_at_flags(inst: &Inst, block: &Block) -> bool {
    match *inst {
        Inst::Get(var) => Vars::FLAGS.has(var),
        Inst::Set(Var::CarryKind, kind) => constant(block, kind) != Some(FlagKind::SAME),
        _ => false,
    }
}

/// A kind that is known.
pub(super) fn constant(block: &Block, kind: Value) -> Option<FlagKind> {
    match block.insts.get(kind.0 as usize) {
        Some(Inst::Const(_, kind)) => Some(FlagKind(*kind as u32)),
        _ => None,
    }
}
