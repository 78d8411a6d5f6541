//! Where code lies, and what must be done so that it is known when it changes: the translator's view of a processor at
//! work.

use super::Residence;
use crate::access::is_canonical;
use crate::block::near_the_hole;
use crate::vcpu::Vcpu;
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
        self.peek_fetch(la, true)
    }

    /// The same, of which nothing will be remembered: the generation stays.
    pub fn peek_code_page(&mut self, la: u64) -> Option<CodePage> {
        self.peek_fetch(la, false)
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

    /// The region in `slot` lies there; its instructions that are interpreted begin with these bytes.
    pub fn bind_region(&mut self, slot: u32, at: Residence, interpreted: &[[u8; MAX_LEN]]) {
        self.regions.bind(slot, at, interpreted, self.core.config.model.features);
    }

    /// Whether the region in `slot` may run with its head at linear address `la` in this mode: its pages lie as they did when
    /// it was compiled. Then, whether all are global.
    pub fn region_fits(&mut self, slot: u32, la: u64) -> Option<bool> {
        let at = self.regions.residence(slot)?;
        let here = at.mode == self.mode_key && u64::from(at.offset) == la & 0xfff;
        let count = at.pages.len();
        let mut global = true;
        for n in 0..count {
            let (delta, at) = self.regions.residence(slot)?.pages[n];
            let found = self.code_page(self.page_beside(la, delta)).filter(|found| found.at == at)?;
            global &= found.global;
        }
        (here && count > 0).then_some(global)
    }

    /// The region that was at RIP before translations were dropped, if it may run there still.
    pub(crate) fn parked_region(&mut self) -> Option<u32> {
        let (la, key) = (self.st.rip, self.mode_key);
        let slot = self.regions.jumps.parked(la, key)?;
        let global = self.region_fits(slot, la)?;
        self.regions.jumps.fill(la, key, slot, global);
        Some(slot)
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
