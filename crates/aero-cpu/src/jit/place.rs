//! Where code lies, and what must be done so that it is known when it changes: the translator's view of a processor at
//! work.

use crate::access::is_canonical;
use crate::block::near_the_hole;
use crate::vcpu::{Mode, Vcpu};
use aero_mem::{GuestMemory, granules};
use aero_x86::{CodeSize, MAX_LEN};

/// A page that code may be fetched from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CodePage {
    /// Its arena offset.
    pub at: u32,
    /// It survives a CR3 load.
    pub global: bool,
}

impl Vcpu<'_> {
    /// Guest memory.
    pub fn memory(&self) -> &GuestMemory {
        self.mem
    }

    /// What decoding and checking depend on, and whether this is CPL 3, as a number: what jump table entries are tagged
    /// with.
    pub fn mode_key(&self) -> u64 {
        self.mode_key
    }

    /// 64-bit code; otherwise 16- or 32-bit code.
    pub fn is_code64(&self) -> bool {
        self.mode.code == CodeSize::B64
    }

    /// At CPL 3.
    pub fn is_user(&self) -> bool {
        self.st.cpl == 3
    }

    /// Whether code with its head at linear address `la` may be compiled in this mode: there are no segments to check,
    /// and its relative branches cannot leave the canonical addresses.
    pub fn may_compile(&self, la: u64) -> bool {
        self.mode.flat && (!self.is_code64() || is_canonical(la) && !near_the_hole(self, la))
    }

    /// The first address of the page `delta` pages from that of `la`.
    pub fn page_beside(&self, la: u64, delta: i8) -> u64 {
        let page = (la & !0xfff).wrapping_add_signed(i64::from(delta) << 12);
        if self.is_code64() { page } else { page & 0xffff_ffff }
    }

    /// The page of linear address `la`, if it is RAM or ROM that code may be fetched from, without setting accessed
    /// bits: a page table whose bits are clear has not been used. The TLB's generation moves on when the page does.
    pub fn code_page(&mut self, la: u64) -> Option<CodePage> {
        self.peek_fetch(la)
    }

    /// `len` bytes at arena offset `at`, within one page, hold code from now on.
    pub fn mark_code(&mut self, at: u32, len: u32) {
        let page = self.mem.page_of(at);
        let before = self.mem.code_map(page);
        self.mem.set_code_map(page, before | granules(at & 0xfff, len));
        if before == 0 {
            self.tlb.withhold_writes(at & !0xfff);
        }
    }

    /// The region in `slot` was compiled for the mode with this key; its instructions that are interpreted begin with
    /// these bytes.
    pub fn bind_region(&mut self, slot: u32, mode_key: u64, interpreted: &[[u8; MAX_LEN]]) {
        let (mode, features) = (Mode::of_key(mode_key as u32), self.core.config.model.features);
        self.regions.bind(slot, interpreted, mode, features);
    }

    /// The regions in these slots are gone.
    pub fn unlink_regions(&mut self, slots: &[u32]) {
        self.regions.jumps.unlink(slots);
        slots.iter().for_each(|slot| self.regions.release(*slot));
    }

    /// The region at RIP by the jump table, unless something waits or the budget is used up: what a host without a
    /// dispatcher in compiled code (the browser's) goes on with when a region returns.
    #[inline]
    pub fn next_region(&self) -> Option<u32> {
        if self.attention || self.st.budget <= 0 {
            return None;
        }
        self.regions.jumps.lookup(self.st.rip, self.mode_key)
    }

    /// Forgets where regions are, and names those that were in use.
    pub fn unlink_all(&mut self, in_use: impl FnMut(u32)) {
        self.regions.jumps.slots().for_each(in_use);
        self.regions.jumps.clear();
    }
}
