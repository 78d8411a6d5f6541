//! Split virtqueues, the device's end. (virtio 2.7)
//!
//! Taking a buffer reads the descriptors of its chain into a [`Chain`] that the device keeps and reuses, so that a request
//! allocates nothing here. An indirect table is read in one piece. Returned buffers become visible to the driver, and the
//! question whether it wants an interrupt is asked, once after each call of the device, however many it returned.

use super::feature;
use crate::Cx;
use aero_mem::{Gpa, Unmapped};

mod spec {
    //! Layout of the rings.

    /// Bytes of a descriptor: address, length, flags, next.
    pub const DESCRIPTOR: usize = 16;
    /// Descriptor: another follows.
    pub const NEXT: u16 = 1;
    /// Descriptor: the device writes it.
    pub const WRITE: u16 = 2;
    /// Descriptor: it holds a table of descriptors.
    pub const INDIRECT: u16 = 4;
    /// Available ring: the driver's index, and where the entries begin.
    pub const AVAIL_INDEX: u64 = 2;
    pub const AVAIL_RING: u64 = 4;
    /// Available ring, flags: the driver wants no interrupts.
    pub const NO_INTERRUPT: u16 = 1;
    /// Used ring: the device's index, and where the entries of 8 bytes begin.
    pub const USED_INDEX: u64 = 2;
    pub const USED_RING: u64 = 4;
    /// Most descriptors that an indirect table may have here. A driver makes none longer than its queue (2.7.5.3.1).
    pub const MAX_TABLE: usize = 1024;
}

use spec::*;

/// The driver broke a rule of the rings.
struct Broken;

impl From<Unmapped> for Broken {
    fn from(_: Unmapped) -> Self {
        Self
    }
}

/// A stretch of guest memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Segment {
    at: Gpa,
    len: u32,
}

/// A descriptor as it lies in memory.
#[derive(Clone, Copy)]
struct Descriptor {
    segment: Segment,
    flags: u16,
    next: u16,
}

impl Descriptor {
    fn parse(b: [u8; DESCRIPTOR]) -> Self {
        let word = u128::from_le_bytes(b);
        Self {
            segment: Segment { at: Gpa(word as u64), len: (word >> 64) as u32 },
            flags: (word >> 96) as u16,
            next: (word >> 112) as u16,
        }
    }

    fn next(self) -> Option<u16> {
        (self.flags & NEXT != 0).then_some(self.next)
    }
}

/// A buffer of the driver's: what the device may read, then what it may write. Made to be kept and filled again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    head: u16,
    segments: Vec<Segment>,
    /// How many of the segments are readable; they come first (2.7.4.2).
    readable: usize,
    readable_len: u32,
    writable_len: u32,
}

impl Chain {
    /// The index by which the buffer is handed back.
    pub fn head(&self) -> u16 {
        self.head
    }

    /// Bytes that the device may read.
    pub fn readable_len(&self) -> u32 {
        self.readable_len
    }

    /// Bytes that the device may write.
    pub fn writable_len(&self) -> u32 {
        self.writable_len
    }

    /// Copies out the readable bytes from `offset` on.
    ///
    /// # Errors
    /// When they are not all memory, or not all there.
    pub fn read(&self, cx: &Cx<'_>, offset: u32, into: &mut [u8]) -> Result<(), Unmapped> {
        let mut done = 0;
        for (at, range) in pieces(&self.segments[..self.readable], offset, into.len()) {
            done = range.end;
            cx.dma_read(at, &mut into[range])?;
        }
        (done == into.len()).then_some(()).ok_or(Unmapped(Gpa(u64::MAX)))
    }

    /// Copies into the writable bytes from `offset` on.
    ///
    /// # Errors
    /// When they are not all memory, or not all there.
    pub fn write(&self, cx: &mut Cx<'_>, offset: u32, from: &[u8]) -> Result<(), Unmapped> {
        let mut done = 0;
        for (at, range) in pieces(&self.segments[self.readable..], offset, from.len()) {
            done = range.end;
            cx.dma_write(at, &from[range])?;
        }
        (done == from.len()).then_some(()).ok_or(Unmapped(Gpa(u64::MAX)))
    }

    fn clear(&mut self) {
        self.segments.clear();
        (self.readable, self.readable_len, self.writable_len) = (0, 0, 0);
    }

    fn add(&mut self, d: Descriptor) -> Result<(), Broken> {
        let writable = d.flags & WRITE != 0;
        if !writable && self.segments.len() > self.readable {
            return Err(Broken);
        }
        let total = if writable { &mut self.writable_len } else { &mut self.readable_len };
        *total = total.checked_add(d.segment.len).ok_or(Broken)?;
        if d.segment.len != 0 {
            self.segments.push(d.segment);
            self.readable += usize::from(!writable);
        }
        Ok(())
    }
}

/// The parts of `segments` that hold `len` bytes from `offset` on, each with its range of those bytes.
fn pieces(
    segments: &[Segment],
    offset: u32,
    len: usize,
) -> impl Iterator<Item = (Gpa, core::ops::Range<usize>)> {
    let (mut skip, mut done) = (offset, 0);
    segments.iter().filter_map(move |s| {
        let before = skip.min(s.len);
        skip -= before;
        let take = ((s.len - before) as usize).min(len - done);
        let range = done..done + take;
        done += take;
        (take != 0).then(|| (s.at.offset(before.into()), range))
    })
}

/// One queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Virtqueue {
    /// The most entries it can have.
    pub(super) max: u16,
    pub(super) size: u16,
    pub(super) enabled: bool,
    pub(super) descriptors: u64,
    pub(super) avail: u64,
    pub(super) used: u64,
    /// MSI-X vector, [`NO_VECTOR`](super::pci::NO_VECTOR) for none.
    pub(super) vector: u16,
    /// Position in the available ring of the next buffer to take.
    pub(super) taken: u16,
    /// The driver's index as last read.
    seen: u16,
    /// Position in the used ring of the next buffer to return.
    pub(super) returned: u16,
    /// What the driver was shown of that.
    published: u16,
}

impl Virtqueue {
    pub(super) fn new(max: u16) -> Self {
        Self {
            max,
            size: max,
            enabled: false,
            descriptors: 0,
            avail: 0,
            used: 0,
            vector: super::pci::NO_VECTOR,
            taken: 0,
            seen: 0,
            returned: 0,
            published: 0,
        }
    }

    /// Takes over ring positions from a saved state.
    pub(super) fn resume(&mut self, taken: u16, returned: u16) {
        (self.taken, self.seen, self.returned, self.published) = (taken, taken, returned, returned);
    }

    /// Position `n` modulo the size, a power of two.
    fn slot(&self, n: u16) -> u64 {
        u64::from(n & (self.size - 1))
    }

    fn avail_entry(&self, n: u16) -> Gpa {
        Gpa(self.avail.wrapping_add(AVAIL_RING + 2 * self.slot(n)))
    }

    /// Where the driver says at which index it wants an interrupt: behind the available ring.
    fn used_event(&self) -> Gpa {
        Gpa(self.avail.wrapping_add(AVAIL_RING + 2 * u64::from(self.size)))
    }

    /// Where the device says at which index it wants to be notified: behind the used ring.
    fn avail_event(&self) -> Gpa {
        Gpa(self.used.wrapping_add(USED_RING + 8 * u64::from(self.size)))
    }

    /// Reads the driver's index. It cannot be ahead by more than the ring holds, counting what is still under way.
    fn look(&mut self, cx: &Cx<'_>) -> Result<bool, Broken> {
        self.seen = read_u16(cx, Gpa(self.avail.wrapping_add(AVAIL_INDEX)))?;
        let ahead = self.seen.wrapping_sub(self.returned);
        (ahead <= self.size).then_some(self.seen != self.taken).ok_or(Broken)
    }

    /// Whether a buffer waits. If none does, tells the driver to notify at the next one, and looks once more.
    fn waiting(&mut self, cx: &mut Cx<'_>, event_idx: bool) -> Result<bool, Broken> {
        if self.seen != self.taken || self.look(cx)? {
            return Ok(true);
        }
        if event_idx {
            cx.dma_write(self.avail_event(), &self.taken.to_le_bytes())?;
            return self.look(cx);
        }
        Ok(false)
    }

    fn descriptor(&self, cx: &Cx<'_>, index: u16) -> Result<Descriptor, Broken> {
        if index >= self.size {
            return Err(Broken);
        }
        let mut bytes = [0; DESCRIPTOR];
        cx.dma_read(Gpa(self.descriptors.wrapping_add(u64::from(index) * 16)), &mut bytes)?;
        Ok(Descriptor::parse(bytes))
    }

    /// Shows the driver what was returned; whether it wants an interrupt for it (2.7.7).
    fn publish(&mut self, cx: &mut Cx<'_>, event_idx: bool) -> Result<bool, Broken> {
        let (old, new) = (self.published, self.returned);
        if old == new {
            return Ok(false);
        }
        cx.dma_write(Gpa(self.used.wrapping_add(USED_INDEX)), &new.to_le_bytes())?;
        self.published = new;
        if !event_idx {
            return Ok(read_u16(cx, Gpa(self.avail))? & NO_INTERRUPT == 0);
        }
        let event = read_u16(cx, self.used_event())?;
        Ok(new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old))
    }
}

fn read_u16(cx: &Cx<'_>, at: Gpa) -> Result<u16, Unmapped> {
    let mut bytes = [0; 2];
    cx.dma_read(at, &mut bytes)?;
    Ok(u16::from_le_bytes(bytes))
}

/// A device's queues, with what its driver has agreed to.
pub struct Queues {
    pub(super) list: Vec<Virtqueue>,
    /// Features that the driver has taken.
    pub(super) features: u64,
    /// Whether the device may use the rings now.
    pub(super) running: bool,
    /// The driver broke a rule: nothing more happens until a reset.
    pub(super) broken: bool,
    /// The device's configuration structure has changed.
    pub(super) config_changed: bool,
    /// An indirect table's bytes.
    table: Vec<u8>,
}

impl Queues {
    pub(super) fn new(sizes: &[u16]) -> Self {
        Self {
            list: sizes.iter().map(|max| Virtqueue::new(*max)).collect(),
            features: 0,
            running: false,
            broken: false,
            config_changed: false,
            table: Vec::new(),
        }
    }

    /// Whether the driver has agreed to all of `features`.
    pub fn has(&self, features: u64) -> bool {
        self.features & features == features
    }

    /// Whether the driver follows the standard: it has agreed to [`feature::VERSION_1`].
    pub fn is_modern(&self) -> bool {
        self.has(feature::VERSION_1)
    }

    /// Takes the next buffer of `queue` into `chain`; false if there is none, or none may be taken now.
    #[must_use]
    pub fn pop(&mut self, cx: &mut Cx<'_>, queue: u16, chain: &mut Chain) -> bool {
        if !self.usable(queue) {
            return false;
        }
        let taken = self.take(cx, queue, chain);
        taken.unwrap_or_else(|Broken| {
            self.fail();
            false
        })
    }

    /// Hands the buffer of `head` back, with `written` bytes written into it.
    pub fn push(&mut self, cx: &mut Cx<'_>, queue: u16, head: u16, written: u32) {
        if !self.usable(queue) {
            return;
        }
        let q = &mut self.list[usize::from(queue)];
        let entry = u64::from(head) | u64::from(written) << 32;
        let at = Gpa(q.used.wrapping_add(USED_RING + 8 * q.slot(q.returned)));
        q.returned = q.returned.wrapping_add(1);
        if cx.dma_write(at, &entry.to_le_bytes()).is_err() {
            self.fail();
        }
    }

    /// Tells the driver that the device's configuration structure has changed.
    pub fn config_changed(&mut self) {
        self.config_changed = true;
    }

    /// The driver broke a rule: the device needs a reset.
    pub fn fail(&mut self) {
        log::warn!("virtio: a driver broke the rules of its queues; the device waits for a reset");
        self.broken = true;
        self.running = false;
    }

    /// Whether the device may use `queue` now.
    pub fn usable(&self, queue: u16) -> bool {
        self.running && self.list.get(usize::from(queue)).is_some_and(|q| q.enabled)
    }

    fn take(&mut self, cx: &mut Cx<'_>, queue: u16, chain: &mut Chain) -> Result<bool, Broken> {
        let event_idx = self.has(feature::EVENT_IDX);
        let indirect = self.has(feature::INDIRECT_DESC);
        let q = &mut self.list[usize::from(queue)];
        if !q.waiting(cx, event_idx)? {
            return Ok(false);
        }
        let head = read_u16(cx, q.avail_entry(q.taken))?;
        q.taken = q.taken.wrapping_add(1);
        chain.clear();
        chain.head = head;
        let mut next = Some(head);
        // A chain longer than the table is a loop.
        for _ in 0..q.size {
            let Some(index) = next else { return Ok(true) };
            let d = q.descriptor(cx, index)?;
            next = d.next();
            match d.flags & INDIRECT != 0 {
                false => chain.add(d)?,
                true if indirect && next.is_none() => walk_table(cx, d.segment, &mut self.table, chain)?,
                true => return Err(Broken),
            }
        }
        next.is_none().then_some(true).ok_or(Broken)
    }

    /// Shows the driver what queue `n` has returned; whether it wants an interrupt.
    pub(super) fn publish(&mut self, cx: &mut Cx<'_>, n: usize) -> bool {
        let event_idx = self.has(feature::EVENT_IDX);
        let wanted = self.list[n].publish(cx, event_idx);
        wanted.unwrap_or_else(|Broken| {
            self.fail();
            false
        })
    }
}

/// Adds the chain of an indirect table, which begins at its first entry (2.7.5.3).
fn walk_table(cx: &Cx<'_>, table: Segment, bytes: &mut Vec<u8>, chain: &mut Chain) -> Result<(), Broken> {
    let len = table.len as usize;
    if len == 0 || !len.is_multiple_of(DESCRIPTOR) || len > MAX_TABLE * DESCRIPTOR {
        return Err(Broken);
    }
    bytes.resize(len, 0);
    cx.dma_read(table.at, bytes)?;
    let (entries, _) = bytes.as_chunks::<DESCRIPTOR>();
    let mut next = Some(0);
    for _ in 0..entries.len() {
        let Some(index) = next else { return Ok(()) };
        let d = Descriptor::parse(*entries.get(usize::from(index)).ok_or(Broken)?);
        if d.flags & INDIRECT != 0 {
            return Err(Broken);
        }
        chain.add(d)?;
        next = d.next();
    }
    next.is_none().then_some(()).ok_or(Broken)
}
