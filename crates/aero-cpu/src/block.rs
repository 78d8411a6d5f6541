//! The cache of decoded blocks.
//!
//! A block is a straight run of instructions within one page (its last may cross into the next), decoded once and found
//! again by **physical** place and [`Mode`], so that every address space shares it. In front stands the jump cache, keyed
//! by linear address, which is all that a warm dispatch touches; what it knows of global pages outlasts CR3 loads. A store
//! to code removes the page's blocks and turns their first instruction into [`stale`], so the jump cache needs no search.
//!
//! Code outside RAM (a ROM that is a device, the video window) is read through the bus and decoded anew every time, an
//! instruction at a time, in the one place of the cache that is never looked up.

use crate::access::Place;
use crate::bind::bind;
use crate::hot::Kind;
use crate::op::{Op, branch};
use crate::state::seg;
use crate::tlb::Tlb;
use crate::vcpu::{Mode, Stop, Vcpu};
use aero_mem::GuestMemory;
use aero_x86::{DecodeError, MAX_LEN, decode};
use core::cell::Cell;
use rustc_hash::FxHashMap;

/// Instructions in a block at most.
const MAX_BLOCK: usize = 64;

/// Decoded instructions kept at most: 24 MiB. Then everything is decoded anew, which takes a moment every few million.
const MAX_OPS: usize = 768 << 10;

/// Dropped blocks whose heat is kept.
const MAX_COOLED: usize = 4096;

const JUMP_ENTRIES: usize = 16384;

/// Where a block's instructions lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    start: u32,
    len: u16,
}

impl Block {
    /// Whether it holds until the cache is told otherwise. An instruction outside RAM does not.
    #[inline(always)]
    pub fn lasts(self) -> bool {
        self.start != 0
    }
}

#[derive(Clone, Copy)]
struct JumpEntry {
    la: u64,
    key: u64,
    /// The [`lasting_key`] under which it can be used again when `key` no longer matches.
    lasting: u64,
    block: Block,
}

/// A page that code was fetched from: the walk of a fetch, remembered as long as the TLB's generation lasts, or of a
/// global page until that begins anew.
#[derive(Clone, Copy)]
struct FetchEntry {
    page: u64,
    key: u64,
    lasting: u64,
    host: u32,
}

const FETCH_ENTRIES: usize = 256;

const NO_FETCH: FetchEntry = FetchEntry { page: 0, key: u64::MAX, lasting: u64::MAX, host: 0 };

/// The first op of the cache: an instruction that lies outside RAM is put here to be run once.
const UNCACHED: Op = Op {
    run: branch::undefined,
    imm: 0,
    disp: 0,
    dst: 0,
    src: 0,
    base: 0,
    index: 0,
    sib: 0,
    kind: Kind::Called,
    end: 1,
};

const NO_ENTRY: JumpEntry =
    JumpEntry { la: 0, key: u64::MAX, lasting: u64::MAX, block: Block { start: 0, len: 0 } };

/// A block with the page that its last instruction crosses into.
#[derive(Clone, Copy)]
struct Entry {
    block: Block,
    second: Option<u32>,
}

/// The cache.
pub struct BlockCache {
    ops: Vec<Op>,
    /// Beside each block's first op: how often it was dispatched, as a translator counts.
    heat: Vec<Cell<i32>>,
    /// The same of blocks that were dropped, by place: they may come back as they were.
    cooled: FxHashMap<u64, i32>,
    by_place: FxHashMap<u64, Entry>,
    by_page: FxHashMap<u32, Vec<u64>>,
    jump: Box<[JumpEntry]>,
    fetch: Box<[FetchEntry]>,
}

impl Default for BlockCache {
    fn default() -> Self {
        Self {
            ops: vec![UNCACHED],
            heat: vec![Cell::new(0)],
            cooled: FxHashMap::default(),
            by_place: FxHashMap::default(),
            by_page: FxHashMap::default(),
            jump: vec![NO_ENTRY; JUMP_ENTRIES].into_boxed_slice(),
            fetch: vec![NO_FETCH; FETCH_ENTRIES].into_boxed_slice(),
        }
    }
}

/// What a jump cache entry must match besides the linear address.
#[inline(always)]
pub fn jump_key(v: &Vcpu<'_>) -> u64 {
    u64::from(v.tlb.generation) << 8 | v.mode_key
}

/// The same of an entry for a global page, which CR3 loads leave alone.
fn lasting_key(v: &Vcpu<'_>) -> u64 {
    u64::from(v.tlb.renewals) << 8 | v.mode_key
}

#[inline(always)]
fn jump_slot(la: u64) -> usize {
    (la ^ la >> 12) as usize % JUMP_ENTRIES
}

impl BlockCache {
    /// The instructions of a block.
    #[inline(always)]
    pub fn ops(&self, block: Block) -> &[Op] {
        &self.ops[block.start as usize..][..usize::from(block.len)]
    }

    /// Counts a dispatch of a block; how many there were.
    #[inline(always)]
    pub fn count(&self, block: Block) -> i32 {
        let heat = &self.heat[block.start as usize];
        heat.set(heat.get().wrapping_add(1));
        heat.get()
    }

    /// Goes on counting from another number.
    pub fn set_count(&self, block: Block, to: i32) {
        self.heat[block.start as usize].set(to);
    }

    /// Where on the page at arena offset `page` blocks of the mode with this key begin that were dispatched `least` times
    /// or more: bytes from the page's start, in order.
    pub fn starts(&self, mem: &GuestMemory, page: u32, mode_key: u64, least: i32) -> Vec<u16> {
        let keys = self.by_page.get(&mem.page_of(page)).into_iter().flatten();
        let wanted = place_key(page, Mode::of_key(mode_key as u32));
        let ran = keys.filter(|key| {
            let entry = self.by_place.get(key);
            **key & !0xfff == wanted
                && entry.is_some_and(|e| self.heat[e.block.start as usize].get() >= least)
        });
        let mut starts: Vec<u16> = ran.map(|key| (key & 0xfff) as u16).collect();
        starts.sort_unstable();
        starts.dedup();
        starts
    }

    /// The block at linear address `la`, decoded if need be.
    ///
    /// # Errors
    /// With a fault pending when the code cannot be fetched.
    #[inline(always)]
    pub fn block_at(&mut self, v: &mut Vcpu<'_>, la: u64) -> Result<Block, Stop> {
        let entry = &self.jump[jump_slot(la)];
        if entry.la == la && entry.key == jump_key(v) {
            return Ok(entry.block);
        }
        self.find(v, la)
    }

    #[cold]
    #[inline(never)]
    fn find(&mut self, v: &mut Vcpu<'_>, la: u64) -> Result<Block, Stop> {
        let entry = &mut self.jump[jump_slot(la)];
        if entry.la == la && entry.lasting == lasting_key(v) {
            entry.key = jump_key(v);
            return Ok(entry.block);
        }
        v.core.counters.dispatch_misses += 1;
        let user = v.st.cpl == 3;
        if v.mode.code == aero_x86::CodeSize::B64 && !crate::access::is_canonical(la) {
            return Err(v.gp(0));
        }
        check_limit(v, la)?;
        let (place, lasting) = self.translate(v, la, user)?;
        let Place::Ram(at) = place else { return self.decode_uncached(v, la, place) };
        let key = place_key(at, v.mode);
        let entry = match self.by_place.get(&key).copied() {
            Some(entry) if self.second_page_holds(v, la, entry)? => entry,
            _ => match self.decode(v, la, at, key)? {
                Some(entry) => entry,
                None => return self.decode_uncached(v, la, place),
            },
        };
        let lasting = if entry.second.is_none() { lasting } else { u64::MAX };
        self.jump[jump_slot(la)] = JumpEntry { la, key: jump_key(v), lasting, block: entry.block };
        Ok(entry.block)
    }

    /// Where the code at `la` lies, and the [`lasting_key`] under which it stays there when the generation moves on.
    fn translate(&mut self, v: &mut Vcpu<'_>, la: u64, user: bool) -> Result<(Place, u64), Stop> {
        let page = la & !0xfff;
        let slot = (la >> 12) as usize % FETCH_ENTRIES;
        let entry = self.fetch[slot];
        if entry.page == page && (entry.key == jump_key(v) || entry.lasting == lasting_key(v)) {
            return Ok((Place::Ram(entry.host | (la & 0xfff) as u32), entry.lasting));
        }
        let (place, global) = v.fetch_page(la, user)?;
        let lasting = if global { lasting_key(v) } else { u64::MAX };
        if let Place::Ram(at) = place {
            self.fetch[slot] = FetchEntry { page, key: jump_key(v), lasting, host: at & !0xfff };
        }
        Ok((place, lasting))
    }

    /// The one instruction at `la`, of which some bytes lie outside RAM at `place` or on the page after it.
    #[cold]
    fn decode_uncached(&mut self, v: &mut Vcpu<'_>, la: u64, place: Place) -> Result<Block, Stop> {
        let features = v.core.config.model.features;
        let mut bytes = [0; MAX_LEN];
        let in_page = (0x1000 - (la & 0xfff) as usize).min(MAX_LEN);
        v.fetch_bytes(place, &mut bytes[..in_page]);
        let mut decoded = decode(&bytes[..in_page], v.mode.code, features);
        if matches!(decoded, Err(DecodeError::Truncated)) && in_page < MAX_LEN {
            let next = next_page(v, la);
            check_limit(v, next)?;
            let second = v.translate_fetch(next, v.st.cpl == 3)?;
            v.fetch_bytes(second, &mut bytes[in_page..]);
            decoded = decode(&bytes, v.mode.code, features);
        }
        self.ops[0] = bind(decoded, v.mode, 0).op;
        Ok(Block { start: 0, len: 1 })
    }

    /// Whether the block's second page, if it has one, still lies where it was decoded from.
    fn second_page_holds(&self, v: &mut Vcpu<'_>, la: u64, entry: Entry) -> Result<bool, Stop> {
        let Some(second) = entry.second else { return Ok(true) };
        let next = next_page(v, la);
        check_limit(v, next)?;
        Ok(v.translate_fetch(next, v.st.cpl == 3)? == Place::Ram(second))
    }

    /// Decodes the block at arena offset `at`; `None` if its first instruction ends outside RAM.
    fn decode(&mut self, v: &mut Vcpu<'_>, la: u64, at: u32, key: u64) -> Result<Option<Entry>, Stop> {
        if self.ops.len() + MAX_BLOCK > MAX_OPS {
            self.clear();
        }
        v.core.counters.blocks_decoded += 1;
        let features = v.core.config.model.features;
        // A relative branch from here may leave the canonical addresses, so it must look.
        let mode = Mode { flat: v.mode.flat && !near_the_hole(v, la), ..v.mode };
        let start = self.ops.len();
        let mut end = 0u32;
        let mut second = None;
        let in_page = 0x1000 - (at & 0xfff);
        while self.ops.len() - start < MAX_BLOCK && end < in_page {
            let mut bytes = [0; MAX_LEN];
            let have = fetch(v.mem, at + end, (in_page - end) as usize, &mut bytes);
            let decoded = match decode(&bytes[..have], v.mode.code, features) {
                Err(DecodeError::Truncated) if have < MAX_LEN && end == 0 => {
                    let next = next_page(v, la);
                    if v.mode.code == aero_x86::CodeSize::B64 && !crate::access::is_canonical(next) {
                        return Err(v.gp(0));
                    }
                    check_limit(v, next)?;
                    let Place::Ram(s) = v.translate_fetch(next, v.st.cpl == 3)? else { return Ok(None) };
                    second = Some(s);
                    let more = fetch(v.mem, s, MAX_LEN - have, &mut bytes[have..]);
                    decode(&bytes[..have + more], v.mode.code, features)
                }
                Err(DecodeError::Truncated) if have < MAX_LEN => break,
                other => other,
            };
            let bound = bind(decoded, mode, end as u16);
            end += u32::from(bound.len);
            self.ops.push(bound.op);
            if bound.ends {
                break;
            }
        }
        self.heat.resize(self.ops.len(), Cell::new(0));
        self.heat[start].set(self.cooled.remove(&key).unwrap_or(0));
        let block = Block { start: start as u32, len: (self.ops.len() - start) as u16 };
        let entry = Entry { block, second: second.filter(|_| end > in_page) };
        self.by_place.insert(key, entry);
        self.register(v.mem, v.tlb, at, end.min(in_page), key);
        if let Some(second) = entry.second {
            self.register(v.mem, v.tlb, second, end - in_page, key);
        }
        Ok(Some(entry))
    }

    /// Marks `len` bytes at arena offset `at` as code of block `key`.
    fn register(&mut self, mem: &mut GuestMemory, tlb: &mut Tlb, at: u32, len: u32, key: u64) {
        let page = mem.page_of(at);
        let before = mem.code_map(page);
        mem.set_code_map(page, before | aero_mem::granules(at & 0xfff, len));
        if before == 0 {
            tlb.withhold_writes(at & !0xfff);
        }
        self.by_page.entry(page).or_default().push(key);
    }

    /// Drops the jump cache's entry for `la`: its block is stale.
    pub fn forget(&mut self, la: u64) {
        self.jump[jump_slot(la)] = NO_ENTRY;
    }

    /// Drops the blocks of pages whose code was overwritten.
    pub fn drop_modified(&mut self, pages: &[u32]) {
        for page in pages {
            for key in self.by_page.remove(page).unwrap_or_default() {
                if let Some(entry) = self.by_place.remove(&key) {
                    let start = entry.block.start as usize;
                    self.cool(key, self.heat[start].get());
                    let first = &mut self.ops[start];
                    (first.run, first.kind) = (branch::stale, Kind::Called);
                }
            }
        }
    }

    /// Keeps the heat of a block that is dropped.
    fn cool(&mut self, key: u64, heat: i32) {
        if self.cooled.len() >= MAX_COOLED {
            self.cooled.clear();
        }
        if heat != 0 {
            self.cooled.insert(key, heat);
        }
    }

    /// Forgets everything. The code map keeps its bits, which compiled regions may need: where they are too many, the
    /// first write to the page clears them.
    pub fn clear(&mut self) {
        self.by_page.clear();
        self.cooled.clear();
        self.heat.truncate(1);
        self.by_place.clear();
        self.ops.truncate(1);
        self.jump.fill(NO_ENTRY);
        self.fetch.fill(NO_FETCH);
    }
}

fn place_key(at: u32, mode: Mode) -> u64 {
    u64::from(mode.key()) << 32 | u64::from(at)
}

/// Whether a 32-bit displacement from 64-bit code at `la` can reach the non-canonical hole.
pub(crate) fn near_the_hole(v: &Vcpu<'_>, la: u64) -> bool {
    const REACH: u64 = (1 << 31) + 0x1_0000;
    let canonical = crate::access::is_canonical;
    v.mode.code == aero_x86::CodeSize::B64
        && !(canonical(la.wrapping_add(REACH)) && canonical(la.wrapping_sub(REACH)))
}

fn next_page(v: &Vcpu<'_>, la: u64) -> u64 {
    let next = (la | 0xfff).wrapping_add(1);
    if v.mode.code == aero_x86::CodeSize::B64 { next } else { next & 0xffff_ffff }
}

/// Whether code may lie at linear address `la`. A byte beyond the limit of CS faults before its page is looked up
/// (Intel SDM vol. 3, 5.3).
fn check_limit(v: &mut Vcpu<'_>, la: u64) -> Result<(), Stop> {
    let cs = v.st.segments[usize::from(seg::CS)];
    let beyond = (la.wrapping_sub(cs.base) & 0xffff_ffff) > u64::from(cs.limit);
    if !v.mode.flat && beyond { Err(v.gp(0)) } else { Ok(()) }
}

/// Copies instruction bytes out of RAM at arena offset `at`: at most `limit`, at most what fits.
fn fetch(mem: &GuestMemory, at: u32, limit: usize, into: &mut [u8]) -> usize {
    let n = limit.min(into.len());
    mem.read_offset(at, &mut into[..n]);
    n
}
