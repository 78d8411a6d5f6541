//! Video memory: plain memory in the arena that a display card shows, and where guests see it.
//!
//! A card's memory is like RAM to a processor: the *frame buffer* maps all of it at an address that the guest chooses
//! (a PCI base address register), the *window* a piece of it below 1 MiB. Both are in the processor's translations, so
//! that drawing costs what writing to RAM costs. Where the card has to look at every access (planar modes), it leaves
//! the window closed and gets the accesses as a device does.
//!
//! What has changed is known by page. A page is *clean* until it is written to; processors have no write translation of
//! a clean page, so the first write comes to the slow path, which calls [`GuestMemory::mark_video`]. Taking the dirty
//! pages ([`GuestMemory::take_dirty_video`]) makes them clean and moves [`GuestMemory::video_version`] on, upon which
//! processors drop their write translations of video memory (`docs/decisions/0011-video-memory.md`).

use crate::guest::{GuestMemory, VGA_WINDOW};
use crate::{Gpa, PAGE_SIZE};
use core::ops::Range;

/// The most video memory of a machine.
pub const MAX_VIDEO: u64 = 256 << 20;

/// Where video memory is seen, and what of it was written to.
pub(crate) struct Video {
    /// Bytes: none, or a power of two of at least a page.
    size: u32,
    /// Where all of it is mapped.
    frame_buffer: Option<u64>,
    /// A piece that is mapped in the legacy window, and from where in video memory on.
    window: Option<(Range<u64>, u32)>,
    /// A page's flag: written to since it was last taken.
    dirty: Vec<bool>,
    any_dirty: bool,
    version: u32,
}

impl Video {
    pub fn new(size: u64) -> Self {
        assert!(size == 0 || size.is_power_of_two() && (PAGE_SIZE..=MAX_VIDEO).contains(&size), "checked");
        Self {
            size: size as u32,
            frame_buffer: None,
            window: None,
            dirty: vec![true; (size / PAGE_SIZE) as usize],
            any_dirty: true,
            version: 0,
        }
    }

    /// Where in video memory `gpa` of the frame buffer lies.
    #[inline]
    pub fn in_frame_buffer(&self, gpa: u64) -> Option<u32> {
        let within = gpa.wrapping_sub(self.frame_buffer?);
        (within < u64::from(self.size)).then_some(within as u32)
    }

    /// Where in video memory `gpa` of the legacy window lies.
    pub fn in_window(&self, gpa: u64) -> Option<u32> {
        let (range, at) = self.window.as_ref()?;
        range.contains(&gpa).then(|| at + (gpa - range.start) as u32)
    }

    fn mark(&mut self, page: u32) {
        if let Some(dirty) = self.dirty.get_mut(page as usize) {
            *dirty = true;
            self.any_dirty = true;
        }
    }
}

/// Video memory. Offsets count from its start, unless they are said to be the arena's.
impl GuestMemory {
    /// Bytes of video memory.
    pub fn video_size(&self) -> u32 {
        self.video.size
    }

    /// Maps all of video memory at `base`, which is aligned to a page, or nowhere. RAM lies in front of it.
    pub fn map_frame_buffer(&mut self, base: Option<u64>) {
        let base = base.filter(|b| b.is_multiple_of(PAGE_SIZE) && self.video.size != 0);
        if self.video.frame_buffer != base {
            self.video.frame_buffer = base;
            self.map_changed();
        }
    }

    /// Maps video memory from offset `at` on in `range`, a piece of [`VGA_WINDOW`], both aligned to pages; or closes
    /// the window. A piece that does not fit closes it too.
    pub fn map_video_window(&mut self, window: Option<(Range<u64>, u32)>) {
        let window = window.filter(|(range, at)| {
            let len = range.end.saturating_sub(range.start);
            let aligned = [range.start, range.end, (*at).into()].iter().all(|n| n.is_multiple_of(PAGE_SIZE));
            let inside = range.start >= VGA_WINDOW.start && range.end <= VGA_WINDOW.end;
            aligned && inside && u64::from(*at) + len <= u64::from(self.video.size)
        });
        if self.video.window != window {
            self.video.window = window;
            self.map_changed();
        }
    }

    /// Whether the legacy window is mapped.
    pub fn video_window_is_mapped(&self) -> bool {
        self.video.window.is_some()
    }

    /// Counts how often dirty pages were made clean: write translations made before are stale.
    #[inline]
    pub fn video_version(&self) -> u32 {
        self.video.version
    }

    /// Whether the page at arena offset `offset` is video memory.
    #[inline]
    pub fn is_video(&self, offset: u32) -> bool {
        offset >= self.layout().video && offset - self.layout().video < self.video.size
    }

    /// Whether the page at arena offset `offset` is video memory that nobody has written to since it was last taken.
    #[inline]
    pub fn is_clean_video(&self, offset: u32) -> bool {
        self.is_video(offset) && !self.video.dirty[((offset - self.layout().video) >> 12) as usize]
    }

    /// The page at arena offset `offset` is written to; nothing if it is not video memory.
    #[inline]
    pub fn mark_video(&mut self, offset: u32) {
        if self.is_video(offset) {
            self.video.mark((offset - self.layout().video) >> 12);
        }
    }

    /// Hands over the numbers of the pages written to since the last call, in order.
    pub fn take_dirty_video(&mut self, mut each: impl FnMut(usize)) {
        if !core::mem::take(&mut self.video.any_dirty) {
            return;
        }
        for (page, dirty) in self.video.dirty.iter_mut().enumerate() {
            if core::mem::take(dirty) {
                each(page);
            }
        }
        self.video.version = self.video.version.wrapping_add(1);
    }

    /// Copies bytes out of video memory; what lies beyond its end is left alone.
    pub fn read_video(&self, at: u32, into: &mut [u8]) {
        let len = self.inside_video(at, into.len());
        if len != 0 {
            self.read_offset(self.layout().video + at, &mut into[..len]);
        }
    }

    /// Copies bytes into video memory; what lies beyond its end is dropped.
    pub fn write_video(&mut self, at: u32, from: &[u8]) {
        let mut at = at;
        let len = self.inside_video(at, from.len());
        let mut from = &from[..len];
        while !from.is_empty() {
            let (piece, rest) =
                from.split_at(from.len().min((PAGE_SIZE - u64::from(at) % PAGE_SIZE) as usize));
            self.write_offset(self.layout().video + at, piece);
            at += piece.len() as u32;
            from = rest;
        }
    }

    /// How many of `len` bytes from `at` on there are.
    fn inside_video(&self, at: u32, len: usize) -> usize {
        len.min(self.video.size.saturating_sub(at) as usize)
    }

    /// The aligned dword at `at`, which wraps at the end; 0 if there is no video memory.
    #[inline]
    pub fn video_dword(&self, at: u32) -> u32 {
        let mut bytes = [0; 4];
        self.read_video(self.wrapped(at), &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Stores the aligned dword at `at`.
    #[inline]
    pub fn set_video_dword(&mut self, at: u32, value: u32) {
        self.write_video(self.wrapped(at), &value.to_le_bytes());
    }

    fn wrapped(&self, at: u32) -> u32 {
        at & self.video.size.saturating_sub(1) & !3
    }

    /// Where guests see the frame buffer.
    pub fn frame_buffer(&self) -> Option<Gpa> {
        self.video.frame_buffer.map(Gpa)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bank, Unmapped, granules};

    const BASE: u64 = 0xe000_0000;

    fn memory() -> GuestMemory {
        GuestMemory::with_video(2 << 20, 1, &[0xea; 0x1000], 1 << 20).expect("3 MiB and a page")
    }

    fn taken(m: &mut GuestMemory) -> Vec<usize> {
        let mut pages = Vec::new();
        m.take_dirty_video(|page| pages.push(page));
        pages
    }

    #[test]
    fn frame_buffer_is_memory_where_it_is_mapped_and_moves() {
        let mut m = memory();
        assert_eq!(m.read_array::<1>(Gpa(BASE)), Err(Unmapped(Gpa(BASE))));
        let before = m.map_version();
        m.map_frame_buffer(Some(BASE));
        assert_ne!(m.map_version(), before);
        m.write(Gpa(BASE + 0xf_fffe), &[1, 2]).expect("its end");
        assert!(m.write(Gpa(BASE + 0xf_ffff), &[0, 0]).is_err());
        m.map_frame_buffer(Some(BASE + (1 << 20)));
        assert!(m.read_array::<1>(Gpa(BASE)).is_err());
        assert_eq!(m.read_array(Gpa(BASE + 0x1f_fffe)), Ok([1, 0]));
        m.map_frame_buffer(None);
        assert!(m.read_array::<1>(Gpa(BASE + (1 << 20))).is_err());
        assert_eq!(m.read_array(Gpa(0xffff_ffff)), Ok([0xea]), "the ROM before it in the arena");
    }

    #[test]
    fn window_shows_a_piece_unless_the_bank_is_ram() {
        let mut m = memory();
        m.write_video(0x1_0000, &[5]);
        m.map_video_window(Some((0xa_0000..0xb_0000, 0x1_0000)));
        assert_eq!(m.read_array(Gpa(0xa_0000)), Ok([5]));
        assert!(m.read_array::<1>(Gpa(0xb_0000)).is_err());
        m.set_banks(0xa_0000..0xc_0000, Bank::RAM);
        assert_eq!(m.read_array(Gpa(0xa_0000)), Ok([0]));
        m.set_banks(0xa_0000..0xc_0000, Bank::BUS);
        m.map_video_window(Some((0xa_0000..0xb_0000, 0xf_8000)));
        assert!(m.read_array::<1>(Gpa(0xa_0000)).is_err(), "it does not fit");
    }

    #[test]
    fn written_pages_are_taken_once() {
        let mut m = memory();
        assert_eq!(taken(&mut m).len(), 256, "nobody has seen it yet");
        let version = m.video_version();
        assert!(taken(&mut m).is_empty());
        assert_eq!(m.video_version(), version, "no page became clean");
        m.map_frame_buffer(Some(BASE));
        m.write(Gpa(BASE + 0x2fff), &[1, 2]).expect("mapped");
        m.set_video_dword(0x5000, 7);
        m.write(Gpa(0x1000), &[1]).expect("RAM");
        assert_eq!(taken(&mut m), [2, 3, 5]);
        assert_ne!(m.video_version(), version);
        assert!(m.is_clean_video(m.layout().video + 0x2000) && !m.is_clean_video(m.layout().ram));
    }

    #[test]
    fn code_in_video_memory_goes_stale_when_the_card_writes() {
        let mut m = memory();
        let page = m.page_of(m.layout().video);
        m.set_code_map(page, granules(0, 64));
        m.set_video_dword(8, 1);
        assert_eq!(m.take_modified_code(), [page]);
    }

    #[test]
    fn memory_without_video_reads_zeros_and_takes_nothing() {
        let mut m = GuestMemory::new(1 << 20, 1).expect("1 MiB");
        m.map_frame_buffer(Some(BASE));
        m.set_video_dword(0, 1);
        m.write_video(4, &[1]);
        assert_eq!((m.video_dword(0), m.frame_buffer(), m.video_size()), (0, None, 0));
    }
}
