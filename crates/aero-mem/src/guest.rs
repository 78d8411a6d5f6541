//! Guest RAM as devices, loaders and the processor's slow path see it.
//!
//! RAM begins at 0, runs to [`LOW_RAM_END`] at most, and continues at 4 GiB. The legacy video window is never RAM.

use crate::arena::{Arena, ArenaPtr, Layout};
use crate::{Gpa, PAGE_SIZE};
use core::ops::Range;

/// RAM below 4 GiB ends here at most; above lie the PCI window and the interrupt controllers.
pub const LOW_RAM_END: u64 = 0xC000_0000;

/// The most guest RAM that fits in an arena of 32-bit offsets together with the tables.
pub const MAX_RAM: u64 = 3584 << 20;

/// The legacy video window: device memory whatever lies beneath.
pub const VGA_WINDOW: Range<u64> = 0xA_0000..0xC_0000;

const HIGH_RAM: u64 = 1 << 32;

/// The host gave no memory for the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocError {
    /// Bytes of guest RAM asked for.
    pub ram: u64,
}

impl core::fmt::Display for AllocError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mib = self.ram.div_ceil(1 << 20);
        if self.ram > MAX_RAM {
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

/// Guest RAM and the tables beside it.
pub struct GuestMemory {
    arena: Arena,
    layout: Layout,
    ram: u64,
    modified_code: Vec<u32>,
}

impl GuestMemory {
    /// Zeroed memory for a machine with `ram` bytes (rounded up to pages) and `vcpus` processors.
    ///
    /// # Errors
    /// When the size is outside 1 MiB..=[`MAX_RAM`] or the host refuses it.
    pub fn new(ram: u64, vcpus: u32) -> Result<Self, AllocError> {
        let refused = AllocError { ram };
        if !(1 << 20..=MAX_RAM).contains(&ram) {
            return Err(refused);
        }
        let ram = ram.next_multiple_of(PAGE_SIZE);
        let bytes = Layout::new(0, ram, vcpus).end + PAGE_SIZE;
        let (arena, start) = Arena::new(bytes).ok_or(refused)?;
        Ok(Self { arena, layout: Layout::new(start, ram, vcpus), ram, modified_code: Vec::new() })
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

    /// The arena offset of a RAM byte, `None` for device memory and holes.
    #[inline]
    pub fn offset_of(&self, gpa: Gpa) -> Option<u32> {
        let at = gpa.0;
        let within = if at < self.low_ram() {
            if VGA_WINDOW.contains(&at) {
                return None;
            }
            at
        } else if at >= HIGH_RAM && at - HIGH_RAM < self.high_ram() {
            at - HIGH_RAM + self.low_ram()
        } else {
            return None;
        };
        Some((u64::from(self.layout.ram) + within) as u32)
    }

    /// The number of the RAM page that an arena offset lies in: the index of the code map and of page versions.
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
            // SAFETY: `pages` keeps each piece inside one page, and `offset_of` said that the page is RAM.
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
            let offset = self.offset_of(at).ok_or(Unmapped(at))?;
            let from = &from[range];
            // SAFETY: as in `read`.
            unsafe {
                self.arena
                    .base
                    .at::<u8>(u64::from(offset))
                    .copy_from_nonoverlapping(from.as_ptr(), from.len())
            }
            self.note_write(offset, from.len() as u32);
        }
        Ok(())
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
            // SAFETY: the bytes lie in guest RAM.
            unsafe {
                self.arena.base.at::<u8>(u64::from(at)).copy_to_nonoverlapping(into.as_mut_ptr(), into.len())
            }
        }
    }

    /// The granules of RAM page `page` that hold decoded code.
    #[inline]
    pub fn code_map(&self, page: u32) -> u64 {
        // SAFETY: the map has an entry for every RAM page.
        unsafe { self.arena.base.read(u64::from(self.layout.code_map) + u64::from(page) * 8) }
    }

    /// Sets the granules of `page` that hold decoded code. The caller withholds write TLB entries of a page whose
    /// map is not zero.
    pub fn set_code_map(&mut self, page: u32, granules: u64) {
        // SAFETY: as in `code_map`.
        unsafe { self.arena.base.write(u64::from(self.layout.code_map) + u64::from(page) * 8, granules) }
    }

    /// How often code in RAM page `page` was overwritten.
    pub fn page_version(&self, page: u32) -> u32 {
        // SAFETY: there is a version for every RAM page.
        unsafe { self.arena.base.read(u64::from(self.layout.page_versions) + u64::from(page) * 4) }
    }

    /// Tells the code map that `len` bytes at arena offset `offset`, within one page, were written.
    #[inline]
    pub fn note_write(&mut self, offset: u32, len: u32) {
        let page = self.page_of(offset);
        let map = self.code_map(page);
        if map != 0 && map & granules(offset & 0xfff, len) != 0 {
            self.bump_version(page);
        }
    }

    #[cold]
    fn bump_version(&mut self, page: u32) {
        let version = self.page_version(page).wrapping_add(1);
        // SAFETY: there is a version for every RAM page.
        unsafe { self.arena.base.write(u64::from(self.layout.page_versions) + u64::from(page) * 4, version) }
        self.set_code_map(page, 0);
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
        assert_eq!((m.take_modified_code(), m.page_version(3), m.code_map(3)), (vec![3], 1, 0));
    }

    #[test]
    fn granules_cover_first_and_last_byte() {
        assert_eq!(granules(0, 4096), u64::MAX);
        assert_eq!(granules(63, 2), 0b11);
        assert_eq!(granules(4095, 1), 1 << 63);
    }

    #[test]
    fn sizes_no_machine_can_have_are_refused() {
        assert!(GuestMemory::new(MAX_RAM + 1, 1).is_err());
        assert!(GuestMemory::new(0, 1).is_err());
    }
}
