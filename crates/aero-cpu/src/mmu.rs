//! Page-table walks (Intel SDM vol. 3, chapter 4): 32-bit, PAE and 4-level paging with 4 KiB, 2 MiB, 4 MiB and 1 GiB
//! pages, accessed and dirty bits, write protection, user/supervisor, no-execute, SMEP, SMAP, protection keys, reserved
//! bits.
//!
//! A walk answers for one access. What it finds may be kept in the TLB only as far as later accesses of the same kind get
//! the same answer, so [`Page`] says what must not be kept: a supervisor's access to a user page while SMAP is on hangs on
//! EFLAGS.AC, which POPF, IRET and STAC flip without a flush, and a page's protection key hangs on PKRU or IA32_PKRS.

use crate::state::{CpuState, cr0, cr4, efer};
use aero_mem::{Gpa, GuestMemory};
use aero_x86::cpuid::PHYSICAL_BITS;
use aero_x86::{Feature, Features};

/// Page-fault error code bits.
pub mod fault {
    /// P: the page was present, a right was missing.
    pub const PRESENT: u32 = 1 << 0;
    /// W/R: a write.
    pub const WRITE: u32 = 1 << 1;
    /// U/S: an access with user rights.
    pub const USER: u32 = 1 << 2;
    /// RSVD: a reserved bit was set.
    pub const RESERVED: u32 = 1 << 3;
    /// I/D: an instruction fetch.
    pub const FETCH: u32 = 1 << 4;
    /// PK: a protection key forbids it.
    pub const KEY: u32 = 1 << 5;
}

mod entry {
    /// P: the page was present, a right was missing.
    pub const PRESENT: u64 = 1 << 0;
    /// W/R: a write.
    pub const WRITE: u64 = 1 << 1;
    /// U/S: an access with user rights.
    pub const USER: u64 = 1 << 2;
    pub const ACCESSED: u64 = 1 << 5;
    pub const DIRTY: u64 = 1 << 6;
    pub const LARGE: u64 = 1 << 7;
    pub const GLOBAL: u64 = 1 << 8;
    /// The lowest of the four bits of the protection key.
    pub const KEY_SHIFT: u32 = 59;
    pub const NO_EXECUTE: u64 = 1 << 63;
}

/// With whose rights an access is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// A program at CPL 3.
    User,
    /// A program at CPL 0 to 2.
    Supervisor,
    /// The processor itself, for descriptor tables and task states: a supervisor whatever the CPL, and one that
    /// EFLAGS.AC does not free from SMAP (Intel SDM vol. 3, 4.6.1).
    Processor,
}

impl Who {
    /// The program that runs at `cpl`.
    pub fn at(cpl: u8) -> Self {
        if cpl == 3 { Self::User } else { Self::Supervisor }
    }
}

/// What an access wants to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Read data.
    Read,
    /// Write data.
    Write,
    /// Fetch an instruction.
    Fetch,
}

/// An access to memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// By whom.
    pub who: Who,
    /// What for.
    pub kind: Kind,
}

/// Where a linear page leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    /// Physical address of the 4 KiB page.
    pub base: u64,
    /// A write by the same kind of access needs no further walk: permitted and already dirty.
    pub writable: bool,
    /// Survives a CR3 load.
    pub global: bool,
    /// Bytes of the page that the entry maps: 4 KiB to 1 GiB.
    pub size: u64,
    /// Later accesses may be judged as this one was, until something is flushed.
    pub lasting: bool,
    /// The register of key rights that had a say, and the key.
    pub key: Option<Key>,
}

/// A protection key in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// Judged by IA32_PKRS, for supervisor pages; otherwise by PKRU.
    pub supervisor: bool,
    /// 0 to 15.
    pub number: u8,
}

/// A page fault's error code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageFault(pub u32);

/// A PAE directory pointer has a reserved bit set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReservedBit;

/// Permissions gathered on the way down.
#[derive(Clone, Copy)]
struct Rights {
    write: bool,
    user: bool,
    execute: bool,
}

impl Rights {
    const ALL: Self = Self { write: true, user: true, execute: true };

    fn and(self, e: u64) -> Self {
        Self {
            write: self.write && e & entry::WRITE != 0,
            user: self.user && e & entry::USER != 0,
            execute: self.execute && e & entry::NO_EXECUTE == 0,
        }
    }
}

/// One level of a walk.
struct Level {
    /// Lowest linear-address bit that indexes this table.
    shift: u32,
    /// Bytes of an entry: 4 or 8.
    entry: u64,
    /// Whether an entry with PS set is a page.
    leaf: bool,
}

const LEVELS_4: [Level; 4] = [
    Level { shift: 39, entry: 8, leaf: false },
    Level { shift: 30, entry: 8, leaf: true },
    Level { shift: 21, entry: 8, leaf: true },
    Level { shift: 12, entry: 8, leaf: true },
];
const LEVELS_32: [Level; 2] =
    [Level { shift: 22, entry: 4, leaf: true }, Level { shift: 12, entry: 4, leaf: true }];

/// How many bits of a 4 MiB entry continue the address above bit 31, as a mask.
const PSE_HIGH: u64 = (1 << if PHYSICAL_BITS > 40 { 8 } else { PHYSICAL_BITS - 32 }) - 1;

const ADDRESS: u64 = ((1 << PHYSICAL_BITS) - 1) & !0xfff;
const BEYOND_PHYSICAL: u64 = !((1 << PHYSICAL_BITS) - 1) & ((1 << 52) - 1);

/// Walks the page tables for the page of `la`, setting accessed and dirty bits.
///
/// # Errors
/// The error code of the page fault that the access causes.
pub fn walk(
    st: &CpuState,
    features: Features,
    mem: &mut GuestMemory,
    la: u64,
    access: Access,
) -> Result<Page, PageFault> {
    if st.cr0 & cr0::PG == 0 {
        let base = la & 0xffff_f000;
        return Ok(Page { base, writable: true, global: false, size: 0x1000, lasting: true, key: None });
    }
    Walk { st, features, la, access, marks: true }.begin(mem)
}

/// What [`walk`] of a fetch would find, if all accessed bits on the way are set. Sets none.
pub fn peek(st: &CpuState, features: Features, mem: &mut GuestMemory, la: u64, who: Who) -> Option<Page> {
    let access = Access { who, kind: Kind::Fetch };
    if st.cr0 & cr0::PG == 0 {
        return walk(st, features, mem, la, access).ok();
    }
    Walk { st, features, la, access, marks: false }.begin(mem).ok()
}

/// A walk under way.
struct Walk<'a> {
    st: &'a CpuState,
    features: Features,
    la: u64,
    access: Access,
    /// Sets accessed and dirty bits; otherwise ends where one would have to be.
    marks: bool,
}

impl Walk<'_> {
    fn begin(&self, mem: &mut GuestMemory) -> Result<Page, PageFault> {
        let st = self.st;
        if st.cr4 & cr4::PAE == 0 {
            return self.down(mem, st.cr3 & 0xffff_f000, &LEVELS_32);
        }
        if st.long_mode() {
            return self.down(mem, st.cr3 & ADDRESS, &LEVELS_4);
        }
        let top = st.pdpte[(self.la >> 30 & 3) as usize];
        if top & entry::PRESENT == 0 {
            return Err(self.fault(0));
        }
        self.down(mem, top & ADDRESS, &LEVELS_4[2..])
    }

    fn down(&self, mem: &mut GuestMemory, top: u64, levels: &[Level]) -> Result<Page, PageFault> {
        let (mut table, mut rights) = (top, Rights::ALL);
        for (n, level) in levels.iter().enumerate() {
            let index_mask = if level.entry == 4 { 0x3ff } else { 0x1ff };
            let at = Gpa(table + (self.la >> level.shift & index_mask) * level.entry);
            let e = read_entry(mem, at, level.entry);
            if e & entry::PRESENT == 0 {
                return Err(self.fault(0));
            }
            let leaf = n + 1 == levels.len() || e & entry::LARGE != 0 && self.large_page(level);
            if e & self.reserved(level, leaf) != 0 {
                return Err(self.fault(fault::PRESENT | fault::RESERVED));
            }
            rights = rights.and(e);
            if leaf {
                return self.leaf(mem, at, e, level, rights);
            }
            self.mark(mem, at, e, e | entry::ACCESSED, level.entry)?;
            table = e & ADDRESS;
        }
        unreachable!("the last level is a leaf")
    }

    fn leaf(
        &self,
        mem: &mut GuestMemory,
        at: Gpa,
        e: u64,
        level: &Level,
        rights: Rights,
    ) -> Result<Page, PageFault> {
        let user = self.access.who == Who::User;
        let write = self.access.kind == Kind::Write;
        // Without WP a supervisor's writes are not stopped by read-only pages, nor by write-disabled keys.
        let binding = user || self.st.cr0 & cr0::WP != 0;
        let key = self.key(e, rights);
        let (no_access, no_write) = key.map_or((false, false), |k| self.key_rights(k));
        let forbidden_key = self.access.kind != Kind::Fetch && (no_access || write && no_write && binding);
        let may_write = rights.write || !binding;
        if forbidden_key || !self.level_permits(rights) || write && !may_write {
            let key = if forbidden_key { fault::KEY } else { 0 };
            return Err(self.fault(fault::PRESENT | key));
        }
        let now = e | entry::ACCESSED | if write { entry::DIRTY } else { 0 };
        self.mark(mem, at, e, now, level.entry)?;
        Ok(Page {
            base: leaf_base(e, level) | self.la & ((1 << level.shift) - 1) & !0xfff,
            writable: may_write && !(no_write && binding) && now & entry::DIRTY != 0,
            global: e & entry::GLOBAL != 0 && self.st.cr4 & cr4::PGE != 0,
            size: 1 << level.shift,
            lasting: !(rights.user && !user && self.st.cr4 & cr4::SMAP != 0),
            key,
        })
    }

    fn mark(&self, mem: &mut GuestMemory, at: Gpa, old: u64, new: u64, bytes: u64) -> Result<(), PageFault> {
        if old == new {
            return Ok(());
        }
        if !self.marks {
            return Err(self.fault(0));
        }
        // Only the low byte changes, and the entry was just read from RAM.
        let _ = mem.write(at, &new.to_le_bytes()[..bytes as usize]);
        Ok(())
    }

    /// What user and supervisor may do with each other's pages, and no-execute.
    fn level_permits(&self, rights: Rights) -> bool {
        let has = |bit: u64| self.st.cr4 & bit != 0;
        let fetch = self.access.kind == Kind::Fetch;
        if fetch && !rights.execute {
            return false;
        }
        match self.access.who {
            Who::User => rights.user,
            _ if !rights.user => true,
            _ if fetch => !has(cr4::SMEP),
            Who::Supervisor => !has(cr4::SMAP) || self.st.eflags & crate::state::eflags::AC != 0,
            Who::Processor => !has(cr4::SMAP),
        }
    }

    /// The key that limits data accesses through leaf `e`: 4-level paging only (Intel SDM vol. 3, 4.6.2).
    fn key(&self, e: u64, rights: Rights) -> Option<Key> {
        let enabled = self.st.cr4 & if rights.user { cr4::PKE } else { cr4::PKS } != 0;
        let number = (e >> entry::KEY_SHIFT & 15) as u8;
        (enabled && self.st.long_mode()).then_some(Key { supervisor: !rights.user, number })
    }

    /// Access disabled, write disabled.
    fn key_rights(&self, key: Key) -> (bool, bool) {
        let all = if key.supervisor { self.st.msr.pkrs as u32 } else { self.st.pkru };
        let bits = all >> (2 * key.number);
        (bits & 1 != 0, bits & 2 != 0)
    }

    /// Whether an entry with PS set is a page at this level, for this processor.
    fn large_page(&self, level: &Level) -> bool {
        match (level.entry, level.shift) {
            (4, _) => self.st.cr4 & cr4::PSE != 0,
            (_, 30) => self.features.has(Feature::Pdpe1gb),
            _ => level.leaf,
        }
    }

    /// Bits that must be zero in an entry.
    fn reserved(&self, level: &Level, leaf: bool) -> u64 {
        if level.entry == 4 {
            return match (leaf, level.shift) {
                // Bit 21 and what PSE-36 does not use for the address (bits 20:13 from address bit 32 on).
                (true, 22) if self.features.has(Feature::Pse36) => 0x1ff << 13 & !(PSE_HIGH << 13),
                (true, 22) => 0x1ff << 13,
                _ => 0,
            };
        }
        let no_execute = if self.st.msr.efer & efer::NXE == 0 { entry::NO_EXECUTE } else { 0 };
        // PAE outside long mode has no software bits above the physical address.
        let high = if self.st.long_mode() { 0 } else { 0x7ff << 52 };
        let large = match (leaf, level.shift) {
            (true, 21 | 30) => ((1 << level.shift) - 1) & !0x1fff,
            // PS in a root entry, and where there are no pages of 1 GiB.
            (false, 30 | 39) => entry::LARGE,
            _ => 0,
        };
        no_execute | high | large | BEYOND_PHYSICAL
    }

    fn fault(&self, bits: u32) -> PageFault {
        let st = self.st;
        let no_execute = st.cr4 & cr4::PAE != 0 && st.msr.efer & efer::NXE != 0;
        let fetch = self.access.kind == Kind::Fetch && (no_execute || st.cr4 & cr4::SMEP != 0);
        let flag = |on: bool, bit: u32| if on { bit } else { 0 };
        PageFault(
            bits | flag(self.access.kind == Kind::Write, fault::WRITE)
                | flag(self.access.who == Who::User, fault::USER)
                | flag(fetch, fault::FETCH),
        )
    }
}

fn leaf_base(e: u64, level: &Level) -> u64 {
    match (level.entry, level.shift) {
        // PSE-36: bits 20:13 of a 4 MiB entry are address bits from 32 on.
        (4, 22) => e & 0xffc0_0000 | (e >> 13 & PSE_HIGH) << 32,
        _ => e & ADDRESS & !((1 << level.shift) - 1),
    }
}

/// A table outside RAM reads as zeros: nothing is present there.
fn read_entry(mem: &GuestMemory, at: Gpa, bytes: u64) -> u64 {
    if bytes == 4 {
        mem.read_array(at).map_or(0, |b| u64::from(u32::from_le_bytes(b)))
    } else {
        mem.read_array(at).map_or(0, u64::from_le_bytes)
    }
}

/// Loads the four PAE directory-pointer entries that CR3 names.
///
/// # Errors
/// When an entry has a reserved bit set: the load faults (#GP).
pub fn load_pdptes(mem: &GuestMemory, cr3: u64) -> Result<[u64; 4], ReservedBit> {
    let mut pdpte = [0; 4];
    for (i, e) in pdpte.iter_mut().enumerate() {
        *e = read_entry(mem, Gpa((cr3 & 0xffff_ffe0) + i as u64 * 8), 8);
        let reserved = 0x1e6 | !((1u64 << PHYSICAL_BITS) - 1);
        if *e & entry::PRESENT != 0 && *e & reserved != 0 {
            return Err(ReservedBit);
        }
    }
    Ok(pdpte)
}
