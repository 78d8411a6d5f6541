//! What the processor keeps beside compiled code.

use super::jumps::JumpTable;
use crate::bind::bind;
use crate::op::Op;
use crate::vcpu::{Mode, Stop};
use aero_mem::GuestMemory;
use aero_x86::{Features, MAX_LEN, Mnemonic, decode};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// What the processor keeps beside compiled code: the jump table's bookkeeping, the instructions that regions have
/// interpreted, by function slot, and how compiled code last ended.
pub struct Regions {
    pub(crate) jumps: JumpTable,
    bound: Vec<Resident>,
    /// How often those of regions that are gone were run.
    runs: FxHashMap<Mnemonic, u64>,
    /// How the interpreted instruction ended that ended a region.
    pub(crate) ended: Result<(), Stop>,
    /// What the jump table was right for when compiled code was entered.
    pub(crate) key: u64,
    /// [`super::Translator::threshold`].
    pub(crate) threshold: i32,
    /// Compiled code has left the instruction at RIP to the interpreter.
    pub(crate) left_one: bool,
}

/// A region, as the processor knows it.
#[derive(Default)]
struct Resident {
    /// The instructions that it has interpreted.
    interpreted: Box<[Bound]>,
    at: Residence,
}

/// Where a region's code lies, and for which mode it was compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Residence {
    /// [`super::super::vcpu::Vcpu::mode_key`].
    pub mode: u64,
    /// The head's place in its page.
    pub offset: u16,
    /// Its pages: the distance from the head's, and the arena offset. None: there is no such region.
    pub pages: Box<[(i8, u32)]>,
}

/// An instruction that a region has interpreted.
struct Bound {
    op: Op,
    /// `None` for bytes that are no instruction.
    mnemonic: Option<Mnemonic>,
    /// How often it was.
    runs: u64,
}

impl Regions {
    /// No regions, of processor `vcpu`.
    pub(crate) fn new(mem: &GuestMemory, vcpu: u32) -> Self {
        Self {
            jumps: JumpTable::new(mem, vcpu),
            bound: Vec::new(),
            runs: FxHashMap::default(),
            ended: Ok(()),
            key: 0,
            threshold: i32::MAX,
            left_one: false,
        }
    }

    /// Notes where the region in `slot` lies, and the instructions that it numbers: the bytes that each begins with.
    pub(crate) fn bind(&mut self, slot: u32, at: Residence, code: &[[u8; MAX_LEN]], features: Features) {
        let (slot, mode) = (slot as usize, Mode::of_key(at.mode as u32));
        if self.bound.len() <= slot {
            self.bound.resize_with(slot + 1, Resident::default);
        }
        let bound = |bytes: &[u8; MAX_LEN]| {
            let insn = decode(bytes, mode.code, features);
            let mnemonic = insn.as_ref().ok().map(|insn| insn.mnemonic);
            Bound { op: bind(insn, mode, 0).op, mnemonic, runs: 0 }
        };
        self.bound[slot] = Resident { interpreted: code.iter().map(bound).collect(), at };
    }

    /// Where the region in `slot` lies.
    pub(crate) fn residence(&self, slot: u32) -> Option<&Residence> {
        self.bound.get(slot as usize).map(|region| &region.at)
    }

    /// Forgets a region that is given up.
    pub(crate) fn release(&mut self, slot: u32) {
        let Some(bound) = self.bound.get_mut(slot as usize) else { return };
        for gone in core::mem::take(bound).interpreted {
            add(&mut self.runs, &gone);
        }
    }

    /// Forgets everything but what is counted.
    pub(crate) fn reset(&mut self) {
        (0..self.bound.len() as u32).for_each(|slot| self.release(slot));
        self.bound.clear();
        self.jumps.clear();
        (self.ended, self.left_one) = (Ok(()), false);
    }

    /// Instruction `number` of the region in `slot`, which is about to run, and whether it changes nothing but flags.
    pub(crate) fn op(&mut self, slot: u32, number: u32) -> Option<(Op, bool)> {
        let bound = self.bound.get_mut(slot as usize)?.interpreted.get_mut(number as usize)?;
        bound.runs += 1;
        let only_flags = matches!(
            bound.mnemonic,
            Some(Mnemonic::Sti | Mnemonic::Popf | Mnemonic::Popfd | Mnemonic::Popfq)
        );
        Some((bound.op, only_flags))
    }

    /// How often compiled code had instructions interpreted, by their names.
    pub fn interpreted(&self) -> BTreeMap<String, u64> {
        let mut runs = self.runs.clone();
        self.bound.iter().flat_map(|region| &region.interpreted).for_each(|bound| add(&mut runs, bound));
        runs.iter().map(|(mnemonic, runs)| (format!("{mnemonic:?}").to_lowercase(), *runs)).collect()
    }
}

fn add(runs: &mut FxHashMap<Mnemonic, u64>, bound: &Bound) {
    if let (Some(mnemonic), 1..) = (bound.mnemonic, bound.runs) {
        *runs.entry(mnemonic).or_default() += bound.runs;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aero_x86::{CodeSize, cpuid};

    fn padded(code: &[u8]) -> [u8; MAX_LEN] {
        core::array::from_fn(|n| code.get(n).copied().unwrap_or(0x90))
    }

    #[test]
    fn interpreted_instructions_are_counted_by_name_beyond_the_end_of_their_region() {
        let mode = Mode { code: CodeSize::B64, stack32: true, flat: true };
        let mem = GuestMemory::new(1 << 20, 1).expect("1 MiB");
        let mut regions = Regions::new(&mem, 0);
        let (cpuid_, rdtsc) = (padded(&[0x0f, 0xa2]), padded(&[0x0f, 0x31]));
        let at = Residence { mode: mode.key().into(), ..Residence::default() };
        regions.bind(7, at.clone(), &[cpuid_, rdtsc], cpuid::MAX.features);
        regions.bind(8, at, &[cpuid_], cpuid::MAX.features);
        for (slot, number, there) in [(7, 0, true), (7, 1, true), (8, 0, true), (7, 2, false), (9, 0, false)]
        {
            assert_eq!(regions.op(slot, number).is_some(), there, "{slot} {number}");
        }
        let counted = BTreeMap::from([("cpuid".to_owned(), 2), ("rdtsc".to_owned(), 1)]);
        assert_eq!(regions.interpreted(), counted);
        regions.release(7);
        assert!(regions.op(7, 0).is_none());
        assert_eq!(regions.interpreted(), counted);
        regions.reset();
        assert!(regions.op(8, 0).is_none());
        assert_eq!(regions.interpreted(), counted);
    }
}
