//! Guest memory as devices, loaders and the processor's slow path see it.
//!
//! RAM begins at 0, runs to [`LOW_RAM_END`] at most, and continues at 4 GiB. A machine with firmware has its ROM right
//! below 4 GiB, backed by memory like RAM so that code runs from it, and read-only. Between A0000h and 1 MiB lie
//! *banks* of 16 KiB that the chipset switches one by one, for reads and for writes: to RAM, or to the bus, where the
//! end of the ROM shows through below 1 MiB and the rest is device memory. [`GuestMemory::offset_of`] answers for
//! reads, [`GuestMemory::write_offset_of`] for writes; they differ only there and in ROM.
//!
//! The A20 gate takes part too: while it is closed, address bit 20 reads as zero. Whatever changes where an address
//! leads moves [`GuestMemory::map_version`] on; a processor that sees it change drops its translations.

use crate::arena::{Arena, ArenaPtr, Layout};
use crate::video::Video;
use crate::{Gpa, PAGE_SIZE};
use core::ops::Range;
use rustc_hash::FxHashSet;

/// RAM below 4 GiB ends here at most; above lie the PCI window and the interrupt controllers.
pub const LOW_RAM_END: u64 = 0xC000_0000;

/// The most guest RAM that fits in an arena of 32-bit offsets together with the tables.
pub const MAX_RAM: u64 = 3584 << 20;

/// The legacy video window: device memory whatever lies beneath, unless the chipset opens its banks.
pub const VGA_WINDOW: Range<u64> = 0xA_0000..0xC_0000;

/// The first megabyte's end, which is switched in banks.
pub const BANKED: Range<u64> = 0xA_0000..0x10_0000;

/// Bytes of a bank.
pub const BANK_SIZE: u64 = 16 << 10;

const BANKS: usize = ((BANKED.end - BANKED.start) / BANK_SIZE) as usize;

/// So much of the ROM's end shows below 1 MiB.
const ROM_BELOW_1_MIB: u64 = 128 << 10;

/// The largest ROM.
pub const MAX_ROM: u64 = 16 << 20;

const HIGH_RAM: u64 = 1 << 32;
const A20: u64 = 1 << 20;

/// Where reads and writes of one bank go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bank {
    /// Reads see RAM; otherwise the bus.
    pub read_ram: bool,
    /// Writes go to RAM; otherwise to the bus.
    pub write_ram: bool,
}

impl Bank {
    /// RAM like any other.
    pub const RAM: Self = Self { read_ram: true, write_ram: true };
    /// Nothing but the bus.
    pub const BUS: Self = Self { read_ram: false, write_ram: false };
}

/// The host gave no memory for the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocError {
    /// Bytes of guest RAM asked for.
    pub ram: u64,
    /// What was lent for an arena, if that is too little.
    pub lent: Option<u64>,
}

impl AllocError {
    /// There is no such guest RAM.
    pub fn of(ram: u64) -> Self {
        Self { ram, lent: None }
    }
}

impl core::fmt::Display for AllocError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mib = self.ram.div_ceil(1 << 20);
        if let Some(lent) = self.lent {
            write!(f, "{mib} MiB of guest memory and the tables beside it do not fit in {lent} bytes")
        } else if self.ram > MAX_RAM {
            write!(
                f,
                "{mib} MiB of guest memory is more than the {} MiB that one machine can have",
                MAX_RAM >> 20
            )
        } else if self.ram < 1 << 20 {
            write!(f, "{} bytes of guest memory is less than the 1 MiB that a PC needs", self.ram)
        } else {
            write!(f, "the host has no {mib} MiB for guest memory; choose a smaller size")
        }
    }
}

impl core::error::Error for AllocError {}

/// An access touched an address that is not RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unmapped(pub Gpa);

impl core::fmt::Display for Unmapped {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "guest physical address {:#x} is not RAM", self.0)
    }
}

impl core::error::Error for Unmapped {}

/// Guest memory and the tables beside it.
pub struct GuestMemory {
    arena: Arena,
    layout: Layout,
    ram: u64,
    rom: u64,
    pub(crate) video: Video,
    banks: [Bank; BANKS],
    /// Address bits that get through the A20 gate.
    gate: u64,
    map_version: u32,
    modified_code: Vec<u32>,
    /// Pages whose code was overwritten and that none has been decoded from since.
    overwritten: FxHashSet<u32>,
}

impl GuestMemory {
    /// Zeroed memory for a machine with `ram` bytes (rounded up to pages) and `vcpus` processors.
    ///
    /// # Errors
    /// When the size is outside 1 MiB..=[`MAX_RAM`] or the host refuses it.
    pub fn new(ram: u64, vcpus: u32) -> Result<Self, AllocError> {
        Self::with_rom(ram, vcpus, &[])
    }

    /// The same with a ROM below 4 GiB. Its size is a multiple of a page, at most [`MAX_ROM`]; the caller checks.
    ///
    /// # Errors
    /// As for [`GuestMemory::new`].
    pub fn with_rom(ram: u64, vcpus: u32, rom: &[u8]) -> Result<Self, AllocError> {
        Self::with_video(ram, vcpus, rom, 0)
    }

    /// The same with `video` bytes of video memory: none, or a power of two of at least a page and at most
    /// [`MAX_VIDEO`](crate::MAX_VIDEO); the caller checks.
    ///
    /// # Errors
    /// As for [`GuestMemory::new`].
    pub fn with_video(ram: u64, vcpus: u32, rom: &[u8], video: u64) -> Result<Self, AllocError> {
        let ram = size(ram)?;
        let bytes = Self::arena_bytes_with_video(ram, vcpus, rom.len() as u64, video);
        let (arena, start) = Arena::new(bytes).ok_or(AllocError::of(ram))?;
        Ok(Self::in_arena(arena, start, (ram, video), vcpus, rom))
    }

    /// The same in an arena that the host lends, of [`GuestMemory::arena_bytes`] or more. Offset 0 is its first byte.
    ///
    /// # Errors
    /// When the size is outside 1 MiB..=[`MAX_RAM`] or more than was lent is needed.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn lent(lent: crate::Lent, ram: u64, vcpus: u32, rom: &[u8]) -> Result<Self, AllocError> {
        Self::lent_with_video(lent, ram, vcpus, rom, 0)
    }

    /// The same with video memory, in an arena of [`GuestMemory::arena_bytes_with_video`].
    ///
    /// # Errors
    /// As for [`GuestMemory::lent`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn lent_with_video(
        lent: crate::Lent,
        ram: u64,
        vcpus: u32,
        rom: &[u8],
        video: u64,
    ) -> Result<Self, AllocError> {
        let ram = size(ram)?;
        if lent.bytes() < Self::arena_bytes_with_video(ram, vcpus, rom.len() as u64, video) {
            return Err(AllocError { ram, lent: Some(lent.bytes()) });
        }
        Ok(Self::in_arena(Arena::lent(lent), 0, (ram, video), vcpus, rom))
    }

    /// Bytes of the arena for `ram` bytes of guest RAM, `vcpus` processors and a ROM of `rom` bytes.
    pub fn arena_bytes(ram: u64, vcpus: u32, rom: u64) -> u64 {
        Self::arena_bytes_with_video(ram, vcpus, rom, 0)
    }

    /// The same with `video` bytes of video memory.
    pub fn arena_bytes_with_video(ram: u64, vcpus: u32, rom: u64, video: u64) -> u64 {
        Layout::new(0, ram.next_multiple_of(PAGE_SIZE), rom, video, vcpus).end + PAGE_SIZE
    }

    fn in_arena(arena: Arena, start: u32, (ram, video): (u64, u64), vcpus: u32, rom: &[u8]) -> Self {
        let rom_len = rom.len() as u64;
        assert!(rom_len.is_multiple_of(PAGE_SIZE) && rom_len <= MAX_ROM, "the ROM's size was checked");
        let layout = Layout::new(start, ram, rom_len, video, vcpus);
        // SAFETY: the arena has room for the layout, which has `rom.len()` bytes at `rom`.
        unsafe { arena.base.at::<u8>(layout.rom.into()).copy_from_nonoverlapping(rom.as_ptr(), rom.len()) }
        let mut memory = Self {
            arena,
            layout,
            ram,
            rom: rom_len,
            video: Video::new(video),
            banks: [Bank::BUS; BANKS],
            gate: u64::MAX,
            map_version: 0,
            modified_code: Vec::new(),
            overwritten: FxHashSet::default(),
        };
        memory.set_banks(VGA_WINDOW.end..BANKED.end, Bank::RAM);
        memory
    }

    /// Switches the banks that `range` covers, all of it between A0000h and 1 MiB.
    pub fn set_banks(&mut self, range: Range<u64>, to: Bank) {
        let bank = |at: u64| (at.clamp(BANKED.start, BANKED.end) - BANKED.start) / BANK_SIZE;
        let banks = &mut self.banks[bank(range.start) as usize..bank(range.end) as usize];
        if banks.iter().any(|bank| *bank != to) {
            banks.fill(to);
            self.map_changed();
        }
    }

    /// Opens or closes the A20 gate.
    pub fn set_a20(&mut self, open: bool) {
        let gate = if open { u64::MAX } else { !A20 };
        if gate != self.gate {
            self.gate = gate;
            self.map_changed();
        }
    }

    /// Addresses lead elsewhere from now on.
    pub(crate) fn map_changed(&mut self) {
        self.map_version = self.map_version.wrapping_add(1);
    }

    /// `gpa` behind the A20 gate.
    #[inline]
    pub fn gated(&self, gpa: Gpa) -> Gpa {
        Gpa(gpa.0 & self.gate)
    }

    /// Counts changes of where addresses lead.
    #[inline]
    pub fn map_version(&self) -> u32 {
        self.map_version
    }

    /// Where everything lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The arena's base, for the processor's fast path.
    pub fn arena(&self) -> ArenaPtr {
        self.arena.base
    }

    /// Bytes of guest RAM.
    pub fn ram_size(&self) -> u64 {
        self.ram
    }

    /// RAM below 4 GiB, in bytes from address 0.
    pub fn low_ram(&self) -> u64 {
        self.ram.min(LOW_RAM_END)
    }

    /// RAM that continues at 4 GiB, in bytes.
    pub fn high_ram(&self) -> u64 {
        self.ram - self.low_ram()
    }

    /// The arena offset of the byte that a read of `gpa` sees, `None` for device memory and holes.
    #[inline]
    pub fn offset_of(&self, gpa: Gpa) -> Option<u32> {
        let at = self.gated(gpa).0;
        if BANKED.contains(&at) && !self.bank(at).read_ram {
            return self.window_offset(at).or_else(|| self.rom_below_1_mib(at));
        }
        self.ram_offset(at).or_else(|| self.frame_buffer_offset(at)).or_else(|| self.rom_at_top(at))
    }

    /// The arena offset of the byte that a write of `gpa` changes, `None` for device memory, holes and ROM.
    #[inline]
    pub fn write_offset_of(&self, gpa: Gpa) -> Option<u32> {
        let at = self.gated(gpa).0;
        if BANKED.contains(&at) && !self.bank(at).write_ram {
            return self.window_offset(at);
        }
        self.ram_offset(at).or_else(|| self.frame_buffer_offset(at))
    }

    fn frame_buffer_offset(&self, at: u64) -> Option<u32> {
        Some(self.layout.video + self.video.in_frame_buffer(at)?)
    }

    fn window_offset(&self, at: u64) -> Option<u32> {
        Some(self.layout.video + self.video.in_window(at)?)
    }

    fn bank(&self, at: u64) -> Bank {
        self.banks[((at - BANKED.start) / BANK_SIZE) as usize]
    }

    fn ram_offset(&self, at: u64) -> Option<u32> {
        let within = if at < self.low_ram() {
            at
        } else if at >= HIGH_RAM && at - HIGH_RAM < self.high_ram() {
            at - HIGH_RAM + self.low_ram()
        } else {
            return None;
        };
        Some((u64::from(self.layout.ram) + within) as u32)
    }

    fn rom_at_top(&self, at: u64) -> Option<u32> {
        let from_end = HIGH_RAM.checked_sub(at).filter(|n| (1..=self.rom).contains(n))?;
        Some((u64::from(self.layout.rom) + self.rom - from_end) as u32)
    }

    fn rom_below_1_mib(&self, at: u64) -> Option<u32> {
        let from_end = BANKED.end - at;
        (from_end <= ROM_BELOW_1_MIB).then(|| self.rom_at_top(HIGH_RAM - from_end))?
    }

    /// The number of the page of RAM, ROM or video memory that an arena offset lies in: the index of the code map and of page versions.
    #[inline]
    pub fn page_of(&self, offset: u32) -> u32 {
        (offset - self.layout.ram) >> 12
    }

    /// Copies guest bytes out.
    ///
    /// # Errors
    /// At the first byte that is not RAM; bytes before it have been copied.
    pub fn read(&self, gpa: Gpa, into: &mut [u8]) -> Result<(), Unmapped> {
        for (at, range) in pages(gpa, into.len()) {
            let offset = self.offset_of(at).ok_or(Unmapped(at))?;
            let into = &mut into[range];
            // SAFETY: `pages` keeps each piece inside one page, and `offset_of` said that the page is memory.
            unsafe {
                self.arena
                    .base
                    .at::<u8>(u64::from(offset))
                    .copy_to_nonoverlapping(into.as_mut_ptr(), into.len())
            }
        }
        Ok(())
    }

    /// Copies bytes into the guest, past the code map (DMA, loaders).
    ///
    /// # Errors
    /// At the first byte that is not RAM; bytes before it have been written.
    pub fn write(&mut self, gpa: Gpa, from: &[u8]) -> Result<(), Unmapped> {
        for (at, range) in pages(gpa, from.len()) {
            let offset = self.write_offset_of(at).ok_or(Unmapped(at))?;
            let from = &from[range];
            self.write_offset(offset, from);
        }
        Ok(())
    }

    /// Copies bytes to arena offset `at`, past the code map; they lie within one page of guest memory, or nothing
    /// happens.
    pub(crate) fn write_offset(&mut self, at: u32, from: &[u8]) {
        let inside = at >= self.layout.ram && u64::from(at) + from.len() as u64 <= self.layout.end;
        if inside {
            // SAFETY: the bytes lie in guest memory.
            unsafe {
                self.arena.base.at::<u8>(u64::from(at)).copy_from_nonoverlapping(from.as_ptr(), from.len())
            }
            self.note_write(at, from.len() as u32);
        }
    }

    /// Reads a little-endian integer of `N` bytes.
    ///
    /// # Errors
    /// When a byte of it is not RAM.
    pub fn read_array<const N: usize>(&self, gpa: Gpa) -> Result<[u8; N], Unmapped> {
        let mut bytes = [0; N];
        self.read(gpa, &mut bytes)?;
        Ok(bytes)
    }

    /// Copies bytes out of RAM at arena offset `at`, which [`GuestMemory::offset_of`] gave; a piece that would leave
    /// guest RAM is not copied.
    pub fn read_offset(&self, at: u32, into: &mut [u8]) {
        let inside = at >= self.layout.ram && u64::from(at) + into.len() as u64 <= self.layout.end;
        if inside {
            // SAFETY: the bytes lie in guest RAM, ROM or video memory.
            unsafe {
                self.arena.base.at::<u8>(u64::from(at)).copy_to_nonoverlapping(into.as_mut_ptr(), into.len())
            }
        }
    }

    /// The granules of RAM page `page` that hold decoded code.
    #[inline]
    pub fn code_map(&self, page: u32) -> u64 {
        // SAFETY: the map has an entry for every page.
        unsafe { self.arena.base.read(u64::from(self.layout.code_map) + u64::from(page) * 8) }
    }

    /// Sets the granules of `page` that hold decoded code. The caller withholds write TLB entries of a page whose
    /// map is not zero.
    pub fn set_code_map(&mut self, page: u32, granules: u64) {
        self.overwritten.remove(&page);
        // SAFETY: as in `code_map`.
        unsafe { self.arena.base.write(u64::from(self.layout.code_map) + u64::from(page) * 8, granules) }
    }

    /// How often code in RAM page `page` was overwritten.
    pub fn page_version(&self, page: u32) -> u32 {
        // SAFETY: there is a version for every page.
        unsafe { self.arena.base.read(u64::from(self.layout.page_versions) + u64::from(page) * 4) }
    }

    /// Tells the code map, and who watches video memory, that `len` bytes at arena offset `offset`, within one page,
    /// were written.
    #[inline]
    pub fn note_write(&mut self, offset: u32, len: u32) {
        self.mark_video(offset);
        let page = self.page_of(offset);
        let map = self.code_map(page);
        if map != 0 && map & granules(offset & 0xfff, len) != 0 {
            self.bump_version(page);
        }
    }

    /// Code was overwritten. The page keeps its map until it is written to again: where it changes and runs in turn,
    /// nobody has to find out each time who may write to it.
    #[cold]
    fn bump_version(&mut self, page: u32) {
        let version = self.page_version(page).wrapping_add(1);
        // SAFETY: there is a version for every page.
        unsafe { self.arena.base.write(u64::from(self.layout.page_versions) + u64::from(page) * 4, version) }
        if !self.overwritten.insert(page) {
            self.set_code_map(page, 0);
        }
        self.modified_code.push(page);
    }

    /// Whether a write hit decoded code since [`GuestMemory::take_modified_code`] was last called.
    #[inline]
    pub fn code_was_modified(&self) -> bool {
        !self.modified_code.is_empty()
    }

    /// RAM pages whose decoded code is stale.
    pub fn take_modified_code(&mut self) -> Vec<u32> {
        core::mem::take(&mut self.modified_code)
    }
}

/// The bits of the code map that `len` bytes from `at` (both within one page) cover.
pub fn granules(at: u32, len: u32) -> u64 {
    let (first, last) = (at >> 6, (at + len.max(1) - 1) >> 6);
    (u64::MAX >> (63 - (last.min(63) - first))) << first
}

/// A size of guest RAM, rounded up to pages.
fn size(ram: u64) -> Result<u64, AllocError> {
    match (1 << 20..=MAX_RAM).contains(&ram) {
        true => Ok(ram.next_multiple_of(PAGE_SIZE)),
        false => Err(AllocError::of(ram)),
    }
}

/// Cuts `len` bytes at `gpa` into pieces that stay within a page.
fn pages(gpa: Gpa, len: usize) -> impl Iterator<Item = (Gpa, Range<usize>)> {
    let mut done = 0;
    core::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = gpa.offset(done as u64);
        let n = ((PAGE_SIZE - at.0 % PAGE_SIZE) as usize).min(len - done);
        done += n;
        Some((at, done - n..done))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lent;
    use core::cell::Cell;
    use core::ptr::NonNull;
    use std::sync::Arc;

    fn memory() -> GuestMemory {
        GuestMemory::new(2 << 20, 1).expect("2 MiB")
    }

    #[test]
    fn bytes_written_across_a_page_are_read_back() {
        let mut m = memory();
        m.write(Gpa(0x1ffe), &[1, 2, 3, 4]).expect("RAM");
        assert_eq!(m.read_array(Gpa(0x1ffe)), Ok([1, 2, 3, 4]));
        assert_eq!(m.read_array(Gpa(0x2000)), Ok([3, 4]));
    }

    #[test]
    fn video_window_and_addresses_past_the_end_are_not_ram() {
        let mut m = memory();
        assert_eq!(m.write(Gpa(0x9_ffff), &[0; 2]), Err(Unmapped(Gpa(0xa_0000))));
        assert_eq!(m.read_array::<1>(Gpa(2 << 20)), Err(Unmapped(Gpa(2 << 20))));
        assert_eq!(m.read_array::<1>(Gpa(u64::MAX)), Err(Unmapped(Gpa(u64::MAX))));
    }

    #[test]
    fn write_beside_code_leaves_it_and_write_to_code_queues_the_page() {
        let mut m = memory();
        m.set_code_map(3, granules(0x40, 0x40));
        m.write(Gpa(0x3000), &[0; 0x40]).expect("RAM");
        assert!(!m.code_was_modified());
        m.write(Gpa(0x307f), &[0]).expect("RAM");
        assert_eq!(
            (m.take_modified_code(), m.page_version(3), m.code_map(3)),
            (vec![3], 1, granules(0x40, 0x40))
        );
        // Nobody has decoded anything since: it is data now.
        m.note_write(m.offset_of(Gpa(0x3040)).expect("RAM"), 1);
        assert_eq!((m.take_modified_code(), m.page_version(3), m.code_map(3)), (vec![3], 2, 0));
    }

    #[test]
    fn granules_cover_first_and_last_byte() {
        assert_eq!(granules(0, 4096), u64::MAX);
        assert_eq!(granules(63, 2), 0b11);
        assert_eq!(granules(4095, 1), 1 << 63);
    }

    /// A ROM of 192 KiB whose pages hold their numbers.
    fn with_rom() -> GuestMemory {
        let rom: Vec<u8> = (0..192 << 10).map(|at| (at >> 12) as u8).collect();
        GuestMemory::with_rom(2 << 20, 1, &rom).expect("2 MiB and a ROM")
    }

    #[test]
    fn rom_lies_below_4_gib_and_its_end_below_1_mib_while_the_banks_show_the_bus() {
        let mut m = with_rom();
        let byte = |m: &GuestMemory, at: u64| m.read_array::<1>(Gpa(at)).map(|[b]| b);
        assert_eq!((byte(&m, 0xffff_ffff), byte(&m, 0xfffd_0000)), (Ok(47), Ok(0)));
        assert!(byte(&m, 0xfffc_ffff).is_err());
        assert_eq!(byte(&m, 0xf_ffff), Ok(0), "RAM until the banks are switched");
        m.set_banks(0xc_0000..0x10_0000, Bank::BUS);
        assert_eq!((byte(&m, 0xf_ffff), byte(&m, 0xe_0000)), (Ok(47), Ok(16)));
        assert!(byte(&m, 0xd_ffff).is_err());
    }

    #[test]
    fn writes_to_rom_are_refused_and_shadowed_banks_take_them() {
        let mut m = with_rom();
        m.set_banks(0xc_0000..0x10_0000, Bank::BUS);
        assert!(m.write(Gpa(0xffff_f000), &[1]).is_err() && m.write(Gpa(0xf_f000), &[1]).is_err());
        m.set_banks(0xf_c000..0x10_0000, Bank { read_ram: false, write_ram: true });
        m.write(Gpa(0xf_f000), &[1]).expect("RAM under the ROM");
        assert_eq!(m.read_array(Gpa(0xf_f000)), Ok([47]));
        m.set_banks(0xf_c000..0x10_0000, Bank { read_ram: true, write_ram: false });
        assert_eq!(m.read_array(Gpa(0xf_f000)), Ok([1]));
        assert!(m.write(Gpa(0xf_f000), &[2]).is_err());
    }

    #[test]
    fn closed_a20_gate_folds_odd_megabytes_onto_even_ones() {
        let mut m = memory();
        m.write(Gpa(0x10_0010), &[7]).expect("RAM");
        let before = m.map_version();
        m.set_a20(false);
        assert_ne!(m.map_version(), before);
        m.write(Gpa(0x10_0010), &[9]).expect("RAM");
        assert_eq!(m.read_array(Gpa(0x10)), Ok([9]));
        m.set_a20(true);
        assert_eq!(m.read_array(Gpa(0x10_0010)), Ok([7]));
    }

    #[test]
    fn map_version_moves_only_when_something_changes() {
        let mut m = memory();
        let before = m.map_version();
        m.set_banks(0xc_0000..0x10_0000, Bank::RAM);
        m.set_a20(true);
        assert_eq!(m.map_version(), before);
    }

    #[test]
    fn sizes_no_machine_can_have_are_refused() {
        assert!(GuestMemory::new(MAX_RAM + 1, 1).is_err());
        assert!(GuestMemory::new(0, 1).is_err());
    }

    /// Lends `bytes` of a block that is noticed when it is given back.
    fn lend(bytes: u64) -> (Lent, Arc<Block>) {
        let block = Arc::new(Block(vec![Cell::new(0); bytes.div_ceil(16) as usize]));
        let base = NonNull::new(block.0.as_ptr().cast_mut().cast()).expect("a block");
        // SAFETY: the lender keeps the block, and nobody but the test looks at it.
        let lent = unsafe { Lent::new(base, bytes, Box::new(block.clone())) };
        (lent, block)
    }

    struct Block(Vec<Cell<u128>>);

    // SAFETY: the cells stay in the thread of the test.
    unsafe impl Send for Block {}
    // SAFETY: as above.
    unsafe impl Sync for Block {}

    #[test]
    fn lent_memory_is_used_in_place_and_given_back() {
        let (lent, block) = lend(GuestMemory::arena_bytes(1 << 20, 1, 0x1000));
        let mut m = GuestMemory::lent(lent, 1 << 20, 1, &[0xea; 0x1000]).expect("room enough");
        m.write(Gpa(8), &[1, 2]).expect("RAM");
        assert_eq!(m.read_array(Gpa(0xffff_ffff)), Ok([0xea]));
        assert_eq!(block.0[m.layout().ram as usize / 16].get(), 0x201 << 64);
        assert_eq!(Arc::strong_count(&block), 2);
        drop(m);
        assert_eq!(Arc::strong_count(&block), 1);
    }

    #[test]
    fn lent_memory_that_is_too_small_is_refused() {
        let bytes = GuestMemory::arena_bytes(1 << 20, 1, 0) - 1;
        let error = GuestMemory::lent(lend(bytes).0, 1 << 20, 1, &[]).err();
        assert_eq!(error, Some(AllocError { ram: 1 << 20, lent: Some(bytes) }));
    }
}
