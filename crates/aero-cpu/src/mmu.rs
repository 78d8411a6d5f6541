//! Page-table walks (Intel SDM vol. 3, chapter 4): 32-bit, PAE and 4-level paging with 4 KiB, 2 MiB, 4 MiB and 1 GiB
//! pages, accessed and dirty bits, write protection, user/supervisor, no-execute, reserved bits.

use crate::state::{CpuState, cr0, cr4, efer};
use aero_mem::{Gpa, GuestMemory};
use aero_x86::cpuid::PHYSICAL_BITS;

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
    pub const NO_EXECUTE: u64 = 1 << 63;
}

/// What an access wants to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// Writes.
    pub write: bool,
    /// Counts as user (CPL 3 and not an implicit system access).
    pub user: bool,
    /// Fetches an instruction.
    pub fetch: bool,
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

const ADDRESS: u64 = ((1 << PHYSICAL_BITS) - 1) & !0xfff;
const BEYOND_PHYSICAL: u64 = !((1 << PHYSICAL_BITS) - 1) & ((1 << 52) - 1);

/// Walks the page tables for the page of `la`, setting accessed and dirty bits.
///
/// # Errors
/// The error code of the page fault that the access causes.
pub fn walk(st: &CpuState, mem: &mut GuestMemory, la: u64, access: Access) -> Result<Page, PageFault> {
    if st.cr0 & cr0::PG == 0 {
        return Ok(Page { base: la & 0xffff_f000, writable: true, global: false, size: 0x1000 });
    }
    if st.cr4 & cr4::PAE == 0 {
        return walk_tables(st, mem, la, access, st.cr3 & 0xffff_f000, &LEVELS_32);
    }
    if st.long_mode() {
        return walk_tables(st, mem, la, access, st.cr3 & ADDRESS, &LEVELS_4);
    }
    let top = st.pdpte[(la >> 30 & 3) as usize];
    if top & entry::PRESENT == 0 {
        return Err(code(st, access, 0));
    }
    walk_tables(st, mem, la, access, top & ADDRESS, &LEVELS_4[2..])
}

fn walk_tables(
    st: &CpuState,
    mem: &mut GuestMemory,
    la: u64,
    access: Access,
    top: u64,
    levels: &[Level],
) -> Result<Page, PageFault> {
    let (mut table, mut rights) = (top, Rights::ALL);
    for (n, level) in levels.iter().enumerate() {
        let index_mask = if level.entry == 4 { 0x3ff } else { 0x1ff };
        let at = Gpa(table + (la >> level.shift & index_mask) * level.entry);
        let e = read_entry(mem, at, level.entry);
        if e & entry::PRESENT == 0 {
            return Err(code(st, access, 0));
        }
        let leaf = n + 1 == levels.len() || level.leaf && e & entry::LARGE != 0 && large_pages(st, level);
        if e & reserved(st, level, leaf) != 0 {
            return Err(code(st, access, fault::PRESENT | fault::RESERVED));
        }
        rights = rights.and(e);
        if !leaf {
            mark(mem, at, e, e | entry::ACCESSED, level.entry);
            table = e & ADDRESS;
            continue;
        }
        let may_write = rights.write || !access.user && st.cr0 & cr0::WP == 0;
        let refused =
            access.user && !rights.user || access.write && !may_write || access.fetch && !rights.execute;
        if refused {
            return Err(code(st, access, fault::PRESENT));
        }
        let dirty = if access.write { entry::DIRTY } else { 0 };
        let now = e | entry::ACCESSED | dirty;
        mark(mem, at, e, now, level.entry);
        return Ok(Page {
            base: leaf_base(e, level) | la & ((1 << level.shift) - 1) & !0xfff,
            writable: may_write && now & entry::DIRTY != 0,
            global: e & entry::GLOBAL != 0 && st.cr4 & cr4::PGE != 0,
            size: 1 << level.shift,
        });
    }
    unreachable!("the last level is a leaf")
}

/// 4 MiB pages need CR4.PSE; the large pages of the 8-byte formats are always there.
fn large_pages(st: &CpuState, level: &Level) -> bool {
    level.entry == 8 || st.cr4 & cr4::PSE != 0
}

fn leaf_base(e: u64, level: &Level) -> u64 {
    match (level.entry, level.shift) {
        // PSE-36: bits 16:13 of a 4 MiB entry are address bits 35:32.
        (4, 22) => e & 0xffc0_0000 | (e >> 13 & 0xf) << 32,
        _ => e & ADDRESS & !((1 << level.shift) - 1),
    }
}

/// Bits that must be zero in an entry.
fn reserved(st: &CpuState, level: &Level, leaf: bool) -> u64 {
    if level.entry == 4 {
        return if leaf && level.shift == 22 { 0x1f << 17 } else { 0 };
    }
    let no_execute = if st.msr.efer & efer::NXE == 0 { entry::NO_EXECUTE } else { 0 };
    // PAE outside long mode has no software bits above the physical address.
    let high = if st.long_mode() { 0 } else { 0x7ff << 52 };
    let large = match (leaf, level.shift) {
        (true, 21 | 30) => ((1 << level.shift) - 1) & !0x1fff,
        (false, 39) => entry::LARGE,
        _ => 0,
    };
    no_execute | high | large | BEYOND_PHYSICAL
}

fn code(st: &CpuState, access: Access, bits: u32) -> PageFault {
    let fetch = access.fetch && st.cr4 & cr4::PAE != 0 && st.msr.efer & efer::NXE != 0;
    let flag = |on: bool, bit: u32| if on { bit } else { 0 };
    PageFault(
        bits | flag(access.write, fault::WRITE) | flag(access.user, fault::USER) | flag(fetch, fault::FETCH),
    )
}

/// A table outside RAM reads as zeros: nothing is present there.
fn read_entry(mem: &GuestMemory, at: Gpa, bytes: u64) -> u64 {
    if bytes == 4 {
        mem.read_array(at).map_or(0, |b| u64::from(u32::from_le_bytes(b)))
    } else {
        mem.read_array(at).map_or(0, u64::from_le_bytes)
    }
}

fn mark(mem: &mut GuestMemory, at: Gpa, old: u64, new: u64, bytes: u64) {
    if old != new {
        // Only the low byte changes, and the entry was just read from RAM.
        let _ = mem.write(at, &new.to_le_bytes()[..bytes as usize]);
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
