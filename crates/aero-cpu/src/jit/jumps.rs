//! The jump table: which region has its head at a linear address, in the mode of the moment.
//!
//! Compiled code reads it when it goes from region to region, the run loop when it dispatches. An entry stands for
//! walks of the page tables, so it is a translation like those of the TLB and is dropped with them. A CR3 load, of
//! which a busy system makes thousands a second, takes only the entries whose pages are not global.
//!
//! What is dropped is *parked*: it is likely to be right again when the address space comes back. Whoever wants to use
//! it must look whether it is.

#![allow(unsafe_code, reason = "reads and writes table entries at offsets that `Layout` gives")]

use super::{JUMP_ENTRIES, JumpEntry, jump_slot, jump_tag};
use crate::tlb::Tlb;
use aero_mem::{ArenaPtr, GuestMemory};

/// Filled entries that are kept account of. One that is filled again counts again.
const MAX_FILLED: usize = 2 * JUMP_ENTRIES as usize;

const ENTRY_SIZE: u64 = size_of::<JumpEntry>() as u64;

/// The table of one processor. Its entries lie in the arena.
pub(crate) struct JumpTable {
    base: ArenaPtr,
    at: u64,
    /// Entries that may not be empty.
    filled: Vec<Filled>,
    /// What entries held before.
    parked: Box<[JumpEntry]>,
    generation: u32,
    renewals: u32,
}

#[derive(Clone, Copy)]
struct Filled {
    entry: u32,
    global: bool,
}

impl JumpTable {
    /// The empty table of processor `vcpu`.
    pub fn new(mem: &GuestMemory, vcpu: u32) -> Self {
        let (base, at) = (mem.arena(), mem.layout().jumps(vcpu).into());
        let parked = vec![JumpEntry::EMPTY; JUMP_ENTRIES as usize].into_boxed_slice();
        let table = Self { base, at, filled: Vec::new(), parked, generation: 0, renewals: 0 };
        (0..JUMP_ENTRIES).for_each(|entry| table.write(entry, JumpEntry::EMPTY));
        table
    }

    fn read(&self, entry: u32) -> JumpEntry {
        // SAFETY: the table has an entry of that number, and every bit pattern is an entry.
        unsafe { self.base.read(self.at + u64::from(entry) * ENTRY_SIZE) }
    }

    fn write(&self, entry: u32, to: JumpEntry) {
        // SAFETY: as above.
        unsafe { self.base.write(self.at + u64::from(entry) * ENTRY_SIZE, to) }
    }

    /// The function slot of the region at `la` in mode `key`.
    #[inline(always)]
    pub fn lookup(&self, la: u64, key: u64) -> Option<u32> {
        let entry = self.read(jump_slot(la));
        (entry.tag == jump_tag(la, key)).then_some(entry.function)
    }

    /// The function slot of the region that was at `la` in mode `key`. It may be gone, or its code elsewhere.
    pub fn parked(&self, la: u64, key: u64) -> Option<u32> {
        let entry = self.parked[jump_slot(la) as usize];
        (entry.tag == jump_tag(la, key)).then_some(entry.function)
    }

    /// The region in `slot` is at `la` in mode `key`.
    pub fn fill(&mut self, la: u64, key: u64, slot: u32, global: bool) {
        if self.filled.len() >= MAX_FILLED {
            self.clear();
        }
        let entry = jump_slot(la);
        self.write(entry, JumpEntry { tag: jump_tag(la, key), function: slot, reserved: 0 });
        self.filled.push(Filled { entry, global });
    }

    /// Whether translations have been dropped since [`JumpTable::renew`].
    #[inline]
    pub fn is_stale(&self, tlb: &Tlb) -> bool {
        self.generation != tlb.generation
    }

    /// Drops what was dropped from the TLB.
    #[cold]
    pub fn renew(&mut self, tlb: &Tlb) {
        if self.renewals == tlb.renewals {
            self.retain(|filled, _| filled.global);
        } else {
            self.clear();
        }
        (self.generation, self.renewals) = (tlb.generation, tlb.renewals);
    }

    /// Drops the entries of regions that are gone.
    pub fn unlink(&mut self, slots: &[u32]) {
        self.retain(|_, entry| !slots.contains(&entry.function));
    }

    /// The function slots that the table names.
    pub fn slots(&self) -> impl Iterator<Item = u32> {
        let full = self.filled.iter().map(|filled| self.read(filled.entry));
        full.filter(|entry| *entry != JumpEntry::EMPTY).map(|entry| entry.function)
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.retain(|_, _| false);
    }

    /// Keeps entries. One that was filled as global and as not goes if either would, whatever it is now.
    fn retain(&mut self, keep: impl Fn(Filled, JumpEntry) -> bool) {
        let mut filled = core::mem::take(&mut self.filled);
        filled.retain(|filled| {
            let entry = self.read(filled.entry);
            let stays = keep(*filled, entry);
            if !stays && entry != JumpEntry::EMPTY {
                self.parked[filled.entry as usize] = entry;
                self.write(filled.entry, JumpEntry::EMPTY);
            }
            stays
        });
        self.filled = filled;
    }
}
