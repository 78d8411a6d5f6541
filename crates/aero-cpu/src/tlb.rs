//! The software TLB: four tables of `2^20` deltas in the arena.
//!
//! Entry *i* holds `D = linear page - arena offset of the page`. An access to `la` computes `t = la - D[la >> 12 mod 2^20]`;
//! when `t` is below 4 GiB it **is** the arena offset, since two pages with one index lie a multiple of 4 GiB apart.
//! One load, one subtraction, one test, which also catches misalignment. See `docs/decisions/0002-delta-tlb.md`.
//!
//! An empty entry aims at the guard page from a linear page in the non-canonical hole. Write entries are withheld from
//! pages that hold decoded code, from clean pages, from video memory that has not been written to since it was last drawn
//! and from device memory, so that such writes come to the slow path.

#![allow(unsafe_code, reason = "reads and writes table entries at offsets that `Layout` gives")]

use crate::mmu::Page;
use aero_mem::{ArenaPtr, GuestMemory, Layout, TLB_ENTRIES, TlbKind};
use rustc_hash::FxHashSet;

/// Linear page of empty entries: inside the non-canonical hole, so that no 64-bit guest may use it.
const HOLE: u64 = 0x9e37_79b9_0000_0000;

/// Bits of an access's `t` that must be zero besides the alignment bits.
pub const MISS: u64 = !0xffff_ffff;

/// Beyond this many filled entries the bookkeeping costs more than starting over.
const MAX_FILLED: usize = 1 << 17;

/// And so many regions of large pages: a guest that touches ever new ones must not fill the host's memory.
const MAX_LARGE: usize = 1 << 12;

/// Global pages with code that are remembered: beyond that everything begins anew.
const MAX_LASTING: usize = 1 << 15;

/// Write entries of video memory that are remembered: beyond that all are withdrawn.
const MAX_VIDEO_WRITES: usize = 1 << 14;

const USER: u64 = 1;
const GLOBAL: u64 = 2;
const LARGE_REGION_PAGES: u64 = 1024;
const LARGE_REGION: u64 = !((LARGE_REGION_PAGES << 12) - 1);
const HUGE_REGION: u64 = !((1 << 30) - 1);

/// The tables' bookkeeping. The tables themselves lie in the arena.
pub struct Tlb {
    base: ArenaPtr,
    layout: Layout,
    vcpu: u32,
    /// Filled linear pages, with [`USER`] and [`GLOBAL`] in the low bits.
    filled: Vec<u64>,
    /// 4 MiB-aligned regions that entries of 2 and 4 MiB pages were filled in.
    large: FxHashSet<u64>,
    /// 1 GiB-aligned regions that entries of 1 GiB pages were filled in.
    huge: FxHashSet<u64>,
    /// Pages, not global, that code was fetched from in this generation: INVLPG of any other leaves it alone.
    fetched: FxHashSet<u64>,
    /// Global pages that code was fetched from, or may be: a CR3 load leaves what was found there in use.
    lasting: FxHashSet<u64>,
    /// Keys (of PKRU, of IA32_PKRS) that had a say in what is filled, as bits.
    keys: [u16; 2],
    /// Counts flushes; what was derived from translations is stale when it moved on.
    pub generation: u32,
    /// Counts those flushes that took global translations too.
    pub renewals: u32,
    /// Walks made for data accesses.
    pub misses: u64,
    /// The memory's map that the entries were made from.
    map_version: u32,
    /// The memory's count of how often written video memory was taken.
    video_version: u32,
    /// Filled linear pages that lead to video memory and may be written, with [`USER`]; some are stale.
    video: Vec<u64>,
}

impl Tlb {
    /// Empty tables for processor `vcpu`.
    pub fn new(mem: &GuestMemory, vcpu: u32) -> Self {
        let (base, layout) = (mem.arena(), *mem.layout());
        let tlb = Self {
            base,
            layout,
            vcpu,
            filled: Vec::new(),
            large: FxHashSet::default(),
            huge: FxHashSet::default(),
            fetched: FxHashSet::default(),
            lasting: FxHashSet::default(),
            keys: [0; 2],
            generation: 1,
            renewals: 0,
            misses: 0,
            map_version: mem.map_version(),
            video_version: mem.video_version(),
            video: Vec::new(),
        };
        for kind in [TlbKind::SupervisorRead, TlbKind::SupervisorWrite, TlbKind::UserRead, TlbKind::UserWrite]
        {
            (0..TLB_ENTRIES as u64).for_each(|i| tlb.set(kind, i, tlb.empty(i)));
        }
        tlb
    }

    /// The arena offsets of the read and the write table for user or supervisor accesses.
    pub fn tables(&self, user: bool) -> (u64, u64) {
        let (read, write) = kinds(user);
        (self.layout.tlb(self.vcpu, read).into(), self.layout.tlb(self.vcpu, write).into())
    }

    fn empty(&self, index: u64) -> u64 {
        HOLE + (index << 12) - u64::from(self.layout.guard)
    }

    fn slot(&self, kind: TlbKind, index: u64) -> u64 {
        u64::from(self.layout.tlb(self.vcpu, kind)) + index * 8
    }

    fn get(&self, kind: TlbKind, index: u64) -> u64 {
        // SAFETY: the slot is an entry of a table.
        unsafe { self.base.read(self.slot(kind, index)) }
    }

    fn set(&self, kind: TlbKind, index: u64, delta: u64) {
        // SAFETY: as above.
        unsafe { self.base.write(self.slot(kind, index), delta) }
    }

    /// Makes linear page `la` lead to the RAM page at arena offset `host`, as far as `page` may be kept.
    pub fn fill(&mut self, user: bool, la: u64, host: u32, page: &Page, writable: bool) {
        if !page.lasting {
            return;
        }
        if self.filled.len() >= MAX_FILLED || self.large.len() + self.huge.len() >= MAX_LARGE {
            self.flush_all();
        }
        if let Some(key) = page.key {
            self.keys[usize::from(key.supervisor)] |= 1 << key.number;
        }
        let (read, write) = kinds(user);
        let (i, delta) = (index(la), la.wrapping_sub(host.into()));
        // A page that is written to while it holds code comes here at each write; it is in the list already.
        let listed = self.get(read, i) == delta;
        self.set(read, i, delta);
        self.set(write, i, if writable { delta } else { self.empty(i) });
        if !listed {
            self.filled.push(la | if user { USER } else { 0 } | if page.global { GLOBAL } else { 0 });
        }
        if writable && host >= self.layout.video {
            self.note_video(la | if user { USER } else { 0 });
        }
        self.note_size(la, page.size);
    }

    fn note_video(&mut self, tagged: u64) {
        if self.video.len() >= MAX_VIDEO_WRITES {
            let newest = self.lookup(tagged & USER != 0, true, tagged & !0xfff);
            self.withdraw_video_writes();
            let (i, (_, write)) = (index(tagged), kinds(tagged & USER != 0));
            if let Some(at) = newest {
                self.set(write, i, (tagged & !0xfff).wrapping_sub(at.into()));
            }
        }
        self.video.push(tagged);
    }

    /// Withholds write entries that lead to video memory: what was written has been drawn.
    fn withdraw_video_writes(&mut self) {
        for tagged in core::mem::take(&mut self.video) {
            let (user, page) = (tagged & USER != 0, tagged & !0xfff);
            if self.lookup(user, true, page).is_some_and(|at| at >= self.layout.video) {
                let i = index(page);
                self.set(kinds(user).1, i, self.empty(i));
            }
        }
    }

    /// The arena offset that the tables give `la`, if they do.
    pub fn lookup(&self, user: bool, write: bool, la: u64) -> Option<u32> {
        let (r, w) = kinds(user);
        let t = la.wrapping_sub(self.get(if write { w } else { r }, index(la)));
        (t & MISS == 0).then_some(t as u32)
    }

    fn clear_kind(&self, page: u64, user: bool) {
        let (i, (read, write)) = (index(page), kinds(user));
        self.set(read, i, self.empty(i));
        self.set(write, i, self.empty(i));
    }

    fn clear(&self, page: u64) {
        self.clear_kind(page, false);
        self.clear_kind(page, true);
    }

    /// Empties the entries of a 4 MiB region, which lie side by side: guests that try out page tables do this often.
    fn clear_region(&mut self, region: u64) {
        let first = index(region);
        for kind in [TlbKind::SupervisorRead, TlbKind::SupervisorWrite, TlbKind::UserRead, TlbKind::UserWrite]
        {
            let (slot, delta) = (self.slot(kind, first), self.empty(first));
            for n in 0..LARGE_REGION_PAGES {
                // SAFETY: the region is aligned to its size, so its entries do not run past the table's end.
                unsafe { self.base.write(slot + n * 8, delta + (n << 12)) };
            }
        }
    }

    /// Drops every entry (CR0.PG, CR4, mode changes).
    pub fn flush_all(&mut self) {
        for tagged in core::mem::take(&mut self.filled) {
            self.clear_kind(tagged, tagged & USER != 0);
        }
        self.video.clear();
        self.large.clear();
        self.huge.clear();
        self.keys = [0; 2];
        self.renew();
    }

    /// Whether physical addresses have come to lead elsewhere since the entries were made, or written video memory
    /// has been drawn.
    #[inline]
    pub fn map_is_stale(&self, mem: &GuestMemory) -> bool {
        self.map_version != mem.map_version() || self.video_version != mem.video_version()
    }

    /// Drops every entry if the chipset has changed where physical addresses lead, and write entries of video memory
    /// if it is clean again.
    #[cold]
    pub fn map_changed(&mut self, mem: &GuestMemory) {
        if self.map_version != mem.map_version() {
            self.flush_all();
        } else {
            self.withdraw_video_writes();
        }
        (self.map_version, self.video_version) = (mem.map_version(), mem.video_version());
    }

    /// Drops every entry that is not global (a CR3 load).
    pub fn flush_non_global(&mut self) {
        let mut filled = core::mem::take(&mut self.filled);
        filled.retain(|tagged| {
            if tagged & GLOBAL == 0 {
                self.clear_kind(*tagged, tagged & USER != 0);
            }
            tagged & GLOBAL != 0
        });
        self.filled = filled;
        self.begin_generation();
    }

    /// Drops the page that `la` lies in, all of it when it is a large page (INVLPG).
    pub fn flush_page(&mut self, la: u64) {
        if self.huge.contains(&(la & HUGE_REGION)) {
            return self.flush_all();
        }
        let region = la & LARGE_REGION;
        if self.large.remove(&region) {
            self.clear_region(region);
            self.renew();
        } else {
            self.clear(la);
            let page = la >> 12;
            if self.lasting.contains(&page) {
                self.renew();
            } else if self.fetched.contains(&page) {
                self.begin_generation();
            }
        }
    }

    /// The key rights of PKRU, or of IA32_PKRS for supervisor pages, have changed: drops what they had a say in.
    pub fn keys_changed(&mut self, supervisor: bool, old: u32, new: u32) {
        let changed = old ^ new;
        let keys = (0..16).filter(|n| changed >> (2 * n) & 3 != 0).fold(0u16, |keys, n| keys | 1 << n);
        if self.keys[usize::from(supervisor)] & keys != 0 {
            self.flush_all();
        }
    }

    /// Code at `la` lies in a page of `size` bytes, and may be run there without another walk until the generation moves
    /// on, or, if the page is `global`, the renewals do.
    pub fn note_fetch(&mut self, la: u64, size: u64, global: bool) {
        if global {
            if self.lasting.len() >= MAX_LASTING {
                self.renew();
            }
            self.lasting.insert(la >> 12);
        } else {
            self.fetched.insert(la >> 12);
        }
        self.note_size(la, size);
    }

    fn note_size(&mut self, la: u64, size: u64) {
        match size {
            0x1000 => {}
            0x4000_0000 => _ = self.huge.insert(la & HUGE_REGION),
            _ => _ = self.large.insert(la & LARGE_REGION),
        }
    }

    fn begin_generation(&mut self) {
        self.fetched.clear();
        self.generation = self.generation.wrapping_add(1);
    }

    /// Begins a generation that nothing outlasts.
    fn renew(&mut self) {
        self.lasting.clear();
        self.renewals = self.renewals.wrapping_add(1);
        self.begin_generation();
    }

    /// Withholds write entries that lead to the RAM page at arena offset `host`: it holds code from now on.
    pub fn withhold_writes(&mut self, host: u32) {
        for tagged in &self.filled {
            let (page, write) = (tagged & !0xfff, kinds(tagged & USER != 0).1);
            let i = index(page);
            if page.wrapping_sub(self.get(write, i)) == u64::from(host) {
                self.set(write, i, self.empty(i));
            }
        }
    }
}

fn kinds(user: bool) -> (TlbKind, TlbKind) {
    if user {
        (TlbKind::UserRead, TlbKind::UserWrite)
    } else {
        (TlbKind::SupervisorRead, TlbKind::SupervisorWrite)
    }
}

/// The table index of a linear address.
#[inline(always)]
pub fn index(la: u64) -> u64 {
    la >> 12 & (TLB_ENTRIES as u64 - 1)
}
