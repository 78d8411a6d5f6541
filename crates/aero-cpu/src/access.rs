//! Guest memory accesses of the interpreter: one table lookup when all goes well, the slow path otherwise.
//!
//! Everything here takes linear addresses. The slow path handles misalignment, page crossings, page walks, device
//! memory, and writes to pages with decoded code. A store is all or nothing: both pages of a crossing store are
//! translated for writing before the first byte changes.

#![allow(unsafe_code, reason = "the fast path reads and writes RAM at arena offsets that TLB entries give")]

use crate::exception::Vector;
use crate::jit::CodePage;
use crate::mmu::{self, Access, Kind, Page, Who};
use crate::state::{cr0, eflags};
use crate::tlb::{MISS, index};
use crate::vcpu::{Stop, Vcpu};
use crate::word::Word;
use aero_mem::{Gpa, granules};

/// Where an address leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// RAM, by arena offset.
    Ram(u32),
    /// Device memory or nothing, by physical address.
    Device(u64),
}

impl Vcpu<'_> {
    /// Loads from linear address `la` at the current privilege.
    #[inline(always)]
    pub fn load<T: Word>(&mut self, la: u64) -> Result<T, Stop> {
        // SAFETY: the entry is one of the current read table.
        let delta: u64 = unsafe { self.base.read(self.tlb_read + index(la) * 8) };
        let t = la.wrapping_sub(delta);
        if t & (MISS | u64::from(T::BYTES - 1)) == 0 {
            // SAFETY: a hit is an offset into a RAM page or the guard page, and an aligned access stays in it.
            return Ok(unsafe { self.base.read(t) });
        }
        self.load_slow(la, T::BYTES).map(T::trunc)
    }

    /// Hands `then` what lies at linear address `la`. Handlers of memory operands load so: a `Result` of 4 bytes or a
    /// [`Stop`] would be packed into one register, and taken apart again at every hit.
    #[inline(always)]
    pub fn load_then<T: Word>(&mut self, la: u64, then: impl FnOnce(&mut Self, T)) -> Result<(), Stop> {
        // SAFETY: as in `load`.
        let delta: u64 = unsafe { self.base.read(self.tlb_read + index(la) * 8) };
        let t = la.wrapping_sub(delta);
        let value = if t & (MISS | u64::from(T::BYTES - 1)) == 0 {
            // SAFETY: as in `load`.
            unsafe { self.base.read(t) }
        } else {
            T::trunc(self.load_slow(la, T::BYTES)?)
        };
        then(self, value);
        Ok(())
    }

    /// Stores to linear address `la` at the current privilege.
    #[inline(always)]
    pub fn store<T: Word>(&mut self, la: u64, value: T) -> Result<(), Stop> {
        // SAFETY: as in `load`, with the write table.
        let delta: u64 = unsafe { self.base.read(self.tlb_write + index(la) * 8) };
        let t = la.wrapping_sub(delta);
        if t & (MISS | u64::from(T::BYTES - 1)) == 0 {
            // SAFETY: as in `load`.
            unsafe { self.base.write(t, value) };
            return Ok(());
        }
        self.store_slow(la, T::BYTES, value.zext())
    }

    /// Replaces the value at `la` by what `change` makes of it. Faults as a write, before `change` runs.
    #[inline(always)]
    pub fn modify<T: Word>(&mut self, la: u64, change: impl FnOnce(&mut Self, T) -> T) -> Result<(), Stop> {
        // SAFETY: as in `store`.
        let delta: u64 = unsafe { self.base.read(self.tlb_write + index(la) * 8) };
        let t = la.wrapping_sub(delta);
        if t & (MISS | u64::from(T::BYTES - 1)) == 0 {
            // SAFETY: as in `load`.
            let old = unsafe { self.base.read(t) };
            let new = change(self, old);
            // SAFETY: as in `load`; `change` computes and touches no memory map.
            unsafe { self.base.write(t, new) };
            return Ok(());
        }
        self.probe_write(la, T::BYTES)?;
        let old = T::trunc(self.load_slow(la, T::BYTES)?);
        let new = change(self, old);
        self.store_slow(la, T::BYTES, new.zext())
    }

    /// Loads 16 bytes, low half first.
    #[inline]
    pub fn load128(&mut self, la: u64) -> Result<[u64; 2], Stop> {
        if la & 0xfff > 0xff0 {
            self.probe_read(la, 16)?;
        }
        Ok([self.load(la)?, self.load(la.wrapping_add(8))?])
    }

    /// Stores 16 bytes, all or nothing.
    #[inline]
    pub fn store128(&mut self, la: u64, value: [u64; 2]) -> Result<(), Stop> {
        if la & 0xfff > 0xff0 {
            self.probe_write(la, 16)?;
        }
        self.store(la, value[0])?;
        self.store(la.wrapping_add(8), value[1])
    }

    /// Faults as a write of `len` bytes at `la` would, and changes nothing but accessed and dirty bits.
    pub fn probe_write(&mut self, la: u64, len: u32) -> Result<(), Stop> {
        self.probe(la, len, true, Who::at(self.st.cpl))
    }

    /// Faults as a read of `len` bytes at `la` would.
    pub fn probe_read(&mut self, la: u64, len: u32) -> Result<(), Stop> {
        self.probe(la, len, false, Who::at(self.st.cpl))
    }

    fn probe(&mut self, la: u64, len: u32, write: bool, who: Who) -> Result<(), Stop> {
        self.check_canonical(la, len)?;
        self.translate(la, write, who)?;
        if crosses(la, len) {
            self.translate(self.next_page(la), write, who)?;
        }
        Ok(())
    }

    /// Copies bytes out of the guest.
    pub fn load_bytes(&mut self, la: u64, into: &mut [u8]) -> Result<(), Stop> {
        for (i, b) in into.iter_mut().enumerate() {
            *b = self.load(la.wrapping_add(i as u64))?;
        }
        Ok(())
    }

    /// Copies bytes into the guest, all or nothing; at most a page.
    pub fn store_bytes(&mut self, la: u64, from: &[u8]) -> Result<(), Stop> {
        self.probe_write(la, from.len() as u32)?;
        for (i, b) in from.iter().enumerate() {
            self.store(la.wrapping_add(i as u64), *b)?;
        }
        Ok(())
    }

    /// Loads as the processor itself does (descriptor tables, TSS): with supervisor rights at any CPL.
    pub fn load_system<T: Word>(&mut self, la: u64) -> Result<T, Stop> {
        self.read_at(la, T::BYTES, Who::Processor).map(T::trunc)
    }

    /// Faults as a read (or a write) of `len` bytes by the processor itself would.
    pub(crate) fn probe_system(&mut self, la: u64, len: u32, write: bool) -> Result<(), Stop> {
        self.probe(la, len, write, Who::Processor)
    }

    /// Stores as the processor itself does.
    pub fn store_system<T: Word>(&mut self, la: u64, value: T) -> Result<(), Stop> {
        self.write_at(la, T::BYTES, value.zext(), Who::Processor)
    }

    /// The RAM run that `la` begins: its arena offset and how many bytes of it lie in the page. `None` for device memory,
    /// and where each access must be looked at by itself: watched pages, alignment checks.
    /// `write` also notes that code there may change. For bulk string operations.
    pub fn run_at(&mut self, la: u64, write: bool) -> Result<Option<(u32, u32)>, Stop> {
        self.check_canonical(la, 1)?;
        if self.alignment_checked() || self.core.watch.watches_page(la) {
            return Ok(None);
        }
        Ok(match self.translate(la, write, Who::at(self.st.cpl))? {
            Place::Ram(at) => Some((at, 0x1000 - (at & 0xfff))),
            Place::Device(_) => None,
        })
    }

    /// Tells the code map of bytes written past the tables.
    pub fn wrote(&mut self, at: u32, len: u32) {
        self.mem.note_write(at, len);
        self.attention |= self.mem.code_was_modified();
    }

    /// Where instruction bytes at `la` lie.
    pub fn translate_fetch(&mut self, la: u64, user: bool) -> Result<Place, Stop> {
        Ok(self.fetch_page(la, user)?.0)
    }

    /// The same, and whether a CR3 load leaves it so.
    pub(crate) fn fetch_page(&mut self, la: u64, user: bool) -> Result<(Place, bool), Stop> {
        let who = if user { Who::User } else { Who::Supervisor };
        let page = self.walk(la, Access { who, kind: Kind::Fetch })?;
        self.tlb.note_fetch(la, page.size, page.global);
        let place = match self.ram_of(&page) {
            Some(at) => Place::Ram(at | (la & 0xfff) as u32),
            None => Place::Device(self.mem.gated(Gpa(page.base)).0 | la & 0xfff),
        };
        Ok((place, page.global))
    }

    /// Where instruction bytes at `la` lie, if nothing has to be changed to find out. The answer stands until the TLB is
    /// told otherwise if it is `kept`.
    pub(crate) fn peek_fetch(&mut self, la: u64, kept: bool) -> Option<CodePage> {
        let who = if self.st.cpl == 3 { Who::User } else { Who::Supervisor };
        let page = mmu::peek(self.st, self.core.config.model.features, self.mem, la, who)?;
        let at = self.ram_of(&page)?;
        if kept {
            self.tlb.note_fetch(la, page.size, page.global);
        }
        Some(CodePage { at, global: page.global })
    }

    /// [`Vcpu::load`] for compiled code: `None`, and nothing has happened, if the interpreter must look at it.
    pub(crate) fn load_quietly(&mut self, la: u64, len: u32) -> Option<u64> {
        let (first, second) = self.quiet(la, len, false)?;
        let Some(second) = second else { return Some(self.read_place(Place::Ram(first), len)) };
        let head = 0x1000 - (la & 0xfff) as u32;
        let low = self.read_pieces(Place::Ram(first), head);
        Some(low | self.read_pieces(Place::Ram(second), len - head) << (8 * head))
    }

    /// The same of 16 bytes, low half first.
    pub(crate) fn load16_quietly(&mut self, la: u64) -> Option<[u64; 2]> {
        self.quiet(la, 16, false)?;
        Some([self.load_quietly(la, 8)?, self.load_quietly(la.wrapping_add(8), 8)?])
    }

    /// [`Vcpu::store`] for compiled code, as [`Vcpu::load_quietly`] is to loads.
    pub(crate) fn store_quietly(&mut self, la: u64, len: u32, value: u64) -> Option<()> {
        let (first, second) = self.quiet(la, len, true)?;
        let Some(second) = second else {
            self.write_place(Place::Ram(first), len, value);
            return Some(());
        };
        let head = 0x1000 - (la & 0xfff) as u32;
        self.write_pieces(Place::Ram(first), head, value);
        self.write_pieces(Place::Ram(second), len - head, value >> (8 * head));
        Some(())
    }

    /// The same of 16 bytes, all or nothing.
    pub(crate) fn store16_quietly(&mut self, la: u64, value: [u64; 2]) -> Option<()> {
        self.quiet(la, 16, true)?;
        self.store_quietly(la, 8, value[0])?;
        self.store_quietly(la.wrapping_add(8), 8, value[1])
    }

    /// The arena offset of `len` bytes within one page that may be read and written.
    pub(crate) fn place_quietly(&mut self, la: u64, len: u32) -> Option<u32> {
        let (at, second) = self.quiet(la, len, true)?;
        second.is_none().then_some(at)
    }

    /// Where in RAM an access goes that nobody has to look at: no fault, device, breakpoint or code is in its way.
    /// Second is where the bytes go that lie on the next page. The walks have been made then, as the access would.
    fn quiet(&mut self, la: u64, len: u32, write: bool) -> Option<(u32, Option<u32>)> {
        let misaligned = la & u64::from(len - 1) != 0;
        if self.check_canonical(la, len).is_err() || misaligned && self.alignment_checked() {
            return None;
        }
        let head = len.min(0x1000 - (la & 0xfff) as u32);
        let first = self.quiet_piece(la, head, write)?;
        let rest = len - head;
        let second =
            if rest == 0 { None } else { Some(self.quiet_piece(self.next_page(la), rest, write)?) };
        (!self.attention).then_some((first, second))
    }

    fn quiet_piece(&mut self, la: u64, len: u32, write: bool) -> Option<u32> {
        if self.core.watch.watches_page(la) {
            return None;
        }
        let Ok(Place::Ram(at)) = self.translate(la, write, Who::at(self.st.cpl)) else { return None };
        let code = write && self.mem.code_map(self.mem.page_of(at)) & granules(at & 0xfff, len) != 0;
        (!code).then_some(at)
    }

    /// Copies instruction bytes, within one page, from wherever they lie.
    pub(crate) fn fetch_bytes(&mut self, place: Place, into: &mut [u8]) {
        for (i, byte) in into.iter_mut().enumerate() {
            *byte = self.read_place(place.plus(i as u32), 1) as u8;
        }
    }

    /// Walks the page tables.
    fn walk(&mut self, la: u64, access: Access) -> Result<Page, Stop> {
        let walked = mmu::walk(self.st, self.core.config.model.features, self.mem, la, access);
        // Accessed and dirty bits may lie beside code.
        self.attention |= self.mem.code_was_modified();
        walked.map_err(|f| self.page_fault(la, f.0))
    }

    /// The arena offset of a page that is RAM. The local APIC's registers lie in front of RAM at the same address
    /// (Intel SDM vol. 3, 11.4.5).
    fn ram_of(&self, page: &Page) -> Option<u32> {
        let base = self.mem.gated(Gpa(page.base));
        self.mem.offset_of(base).filter(|_| !self.is_apic(base))
    }

    /// The same of the page that writes go to.
    fn written_ram_of(&self, page: &Page) -> Option<u32> {
        let base = self.mem.gated(Gpa(page.base));
        self.mem.write_offset_of(base).filter(|_| !self.is_apic(base))
    }

    fn is_apic(&self, page: Gpa) -> bool {
        self.core.lapic.mmio_base() == Some(page.0)
    }

    #[cold]
    #[inline(never)]
    fn load_slow(&mut self, la: u64, len: u32) -> Result<u64, Stop> {
        self.check_canonical(la, len)?;
        self.check_alignment(la, len)?;
        let value = self.read_at(la, len, Who::at(self.st.cpl))?;
        if self.core.watch.data {
            self.watch_access(la, len, false);
        }
        Ok(value)
    }

    #[cold]
    #[inline(never)]
    fn store_slow(&mut self, la: u64, len: u32, value: u64) -> Result<(), Stop> {
        self.check_canonical(la, len)?;
        self.check_alignment(la, len)?;
        self.write_at(la, len, value, Who::at(self.st.cpl))?;
        if self.core.watch.data {
            self.watch_access(la, len, true);
        }
        Ok(())
    }

    fn read_at(&mut self, la: u64, len: u32, who: Who) -> Result<u64, Stop> {
        self.check_canonical(la, len)?;
        let first = self.translate(la, false, who)?;
        if !crosses(la, len) {
            return Ok(self.read_place(first, len));
        }
        let second = self.translate(self.next_page(la), false, who)?;
        let head = 0x1000 - (la & 0xfff) as u32;
        let low = self.read_pieces(first, head);
        let high = self.read_pieces(second, len - head);
        Ok(low | high << (8 * head))
    }

    fn write_at(&mut self, la: u64, len: u32, value: u64, who: Who) -> Result<(), Stop> {
        self.check_canonical(la, len)?;
        let first = self.translate(la, true, who)?;
        if !crosses(la, len) {
            self.write_place(first, len, value);
            return Ok(());
        }
        let second = self.translate(self.next_page(la), true, who)?;
        let head = 0x1000 - (la & 0xfff) as u32;
        self.write_pieces(first, head, value);
        self.write_pieces(second, len - head, value >> (8 * head));
        Ok(())
    }

    fn read_pieces(&mut self, place: Place, len: u32) -> u64 {
        (0..len).fold(0, |v, i| v | self.read_place(place.plus(i), 1) << (8 * i))
    }

    fn write_pieces(&mut self, place: Place, len: u32, value: u64) {
        (0..len).for_each(|i| self.write_place(place.plus(i), 1, value >> (8 * i) & 0xff));
    }

    fn read_place(&mut self, place: Place, len: u32) -> u64 {
        match place {
            // SAFETY: the translation gave a RAM offset and the access stays within its page.
            Place::Ram(at) => unsafe {
                match len {
                    1 => u64::from(self.base.read::<u8>(at.into())),
                    2 => u64::from(self.base.read::<u16>(at.into())),
                    4 => u64::from(self.base.read::<u32>(at.into())),
                    _ => self.base.read(at.into()),
                }
            },
            Place::Device(gpa) => self.read_device(gpa, len),
        }
    }

    fn write_place(&mut self, place: Place, len: u32, value: u64) {
        match place {
            Place::Ram(at) => {
                // SAFETY: as in `read_place`.
                unsafe {
                    match len {
                        1 => self.base.write(at.into(), value as u8),
                        2 => self.base.write(at.into(), value as u16),
                        4 => self.base.write(at.into(), value as u32),
                        _ => self.base.write(at.into(), value),
                    }
                }
                self.wrote(at, len);
            }
            Place::Device(gpa) => self.write_device(gpa, len, value),
        }
    }

    fn translate(&mut self, la: u64, write: bool, who: Who) -> Result<Place, Stop> {
        let user = who == Who::User;
        if let Some(at) = self.tlb.lookup(user, write, la) {
            return Ok(Place::Ram(at));
        }
        self.tlb.misses += 1;
        let page = self.walk(la, Access { who, kind: if write { Kind::Write } else { Kind::Read } })?;
        let within = (la & 0xfff) as u32;
        let host = self.ram_of(&page);
        let writes = self.written_ram_of(&page);
        if let Some(to) = writes.filter(|_| write) {
            self.mem.mark_video(to);
        }
        if let Some(host) = host.filter(|_| !self.core.watch.watches_page(la)) {
            // Where writes go elsewhere (ROM, shadow RAM being filled) they come here every time.
            let writable = page.writable
                && writes == Some(host)
                && self.mem.code_map(self.mem.page_of(host)) == 0
                && !self.mem.is_clean_video(host);
            self.tlb.fill(user, la & !0xfff, host, &page, writable);
        }
        Ok(match if write { writes } else { host } {
            Some(host) => Place::Ram(host | within),
            None => Place::Device(self.mem.gated(Gpa(page.base)).0 | u64::from(within)),
        })
    }

    /// The first address of the page after `la`'s, wrapped as the address size does.
    fn next_page(&self, la: u64) -> u64 {
        let next = (la | 0xfff).wrapping_add(1);
        if self.st.long_mode() { next } else { next & 0xffff_ffff }
    }

    fn check_canonical(&self, la: u64, len: u32) -> Result<(), Stop> {
        let last = la.wrapping_add(u64::from(len) - 1);
        if self.st.long_mode() && !(is_canonical(la) && is_canonical(last)) {
            return Err(Stop::NonCanonical);
        }
        Ok(())
    }

    /// Whether misaligned accesses fault (#AC).
    pub(crate) fn alignment_checked(&self) -> bool {
        self.st.eflags & eflags::AC != 0 && self.st.cpl == 3 && self.st.cr0 & cr0::AM != 0
    }

    pub(crate) fn check_alignment(&mut self, la: u64, len: u32) -> Result<(), Stop> {
        if self.alignment_checked() && la & u64::from(len - 1) != 0 {
            return Err(self.raise_code(Vector::ALIGNMENT_CHECK, 0));
        }
        Ok(())
    }
}

impl Place {
    fn plus(self, n: u32) -> Self {
        match self {
            Self::Ram(at) => Self::Ram(at + n),
            Self::Device(gpa) => Self::Device(gpa + u64::from(n)),
        }
    }
}

fn crosses(la: u64, len: u32) -> bool {
    (la & 0xfff) + u64::from(len) > 0x1000
}

/// Whether bits 63:47 are all the same.
pub fn is_canonical(la: u64) -> bool {
    (la as i64) << 16 >> 16 == la as i64
}
