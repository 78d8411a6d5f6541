//! Commands, completions, the rings that hold them, and the lists of pages that commands point to.

use super::spec::*;
use aero_bus::Cx;
use aero_mem::{Gpa, Unmapped};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// How a command ended: status code in bits 7:0, its type in 10:8, "more" (in the error log) 13, "do not retry" 14.
/// (NVMe 1.4, 4.6.1)
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Status(pub(super) u16);

impl Status {
    pub(super) const OK: Self = Self(0);
    pub(super) const INVALID_OPCODE: Self = Self(0x4001);
    pub(super) const INVALID_FIELD: Self = Self(0x4002);
    pub(super) const DATA_TRANSFER: Self = Self(0x0004);
    pub(super) const ABORTED: Self = Self(0x0007);
    pub(super) const SQ_DELETED: Self = Self(0x0008);
    pub(super) const INVALID_NAMESPACE: Self = Self(0x400b);
    pub(super) const SEQUENCE: Self = Self(0x400c);
    pub(super) const PRP_OFFSET: Self = Self(0x4013);
    pub(super) const WRITE_PROTECTED: Self = Self(0x4020);
    pub(super) const LBA_RANGE: Self = Self(0x4080);
    pub(super) const CAPACITY: Self = Self(0x0081);
    pub(super) const CQ_INVALID: Self = Self(0x4100);
    pub(super) const QUEUE_ID: Self = Self(0x4101);
    pub(super) const QUEUE_SIZE: Self = Self(0x4102);
    pub(super) const EVENT_LIMIT: Self = Self(0x4105);
    pub(super) const VECTOR: Self = Self(0x4108);
    pub(super) const LOG_PAGE: Self = Self(0x4109);
    pub(super) const QUEUE_DELETION: Self = Self(0x410c);
    pub(super) const NOT_SAVEABLE: Self = Self(0x410d);
    pub(super) const WRITE_FAULT: Self = Self(0x0280);
    pub(super) const READ_ERROR: Self = Self(0x0281);
    pub(super) const COMPARE_FAILURE: Self = Self(0x4285);

    const MORE: u16 = 1 << 13;

    pub(super) fn with_more(self) -> Self {
        Self(self.0 | Self::MORE)
    }
}

/// A command. (4.2)
#[derive(Clone, Copy, Debug)]
pub(super) struct Command {
    dwords: [u32; 16],
}

impl Command {
    fn parse(bytes: &[u8; COMMAND]) -> Self {
        let mut dwords = [0; 16];
        let (chunks, _) = bytes.as_chunks::<4>();
        dwords.iter_mut().zip(chunks).for_each(|(to, from)| *to = u32::from_le_bytes(*from));
        Self { dwords }
    }

    pub(super) fn opcode(&self) -> u8 {
        self.dwords[0] as u8
    }

    /// Neither fused nor with scatter-gather lists: no other is supported.
    pub(super) fn is_plain(&self) -> bool {
        self.dwords[0] & 0xc300 == 0
    }

    pub(super) fn id(&self) -> u16 {
        (self.dwords[0] >> 16) as u16
    }

    pub(super) fn namespace(&self) -> u32 {
        self.dwords[1]
    }

    /// Dword `n`.
    pub(super) fn dword(&self, n: usize) -> u32 {
        self.dwords[n]
    }

    /// Dwords `n` and `n + 1`.
    pub(super) fn qword(&self, n: usize) -> u64 {
        u64::from(self.dwords[n]) | u64::from(self.dwords[n + 1]) << 32
    }

    pub(super) fn prp1(&self) -> u64 {
        self.qword(6)
    }

    pub(super) fn prp2(&self) -> u64 {
        self.qword(8)
    }
}

/// A submission queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Submission {
    pub(super) base: u64,
    pub(super) size: u32,
    pub(super) head: u32,
    pub(super) tail: u32,
    /// The completion queue that its commands end in.
    pub(super) cq: u16,
}

impl Submission {
    pub(super) fn new(base: u64, size: u32, cq: u16) -> Self {
        Self { base, size, head: 0, tail: 0, cq }
    }

    /// Takes the next command.
    pub(super) fn fetch(&mut self, cx: &Cx<'_>) -> Result<Option<Command>, Unmapped> {
        if self.head == self.tail {
            return Ok(None);
        }
        let mut bytes = [0; COMMAND];
        cx.dma_read(Gpa(self.base).offset(u64::from(self.head) * COMMAND as u64), &mut bytes)?;
        self.head = (self.head + 1) % self.size;
        Ok(Some(Command::parse(&bytes)))
    }

    pub(super) fn is_sane(&self) -> bool {
        (2..=MAX_ENTRIES.max(4096)).contains(&self.size) && self.head < self.size && self.tail < self.size
    }
}

/// A completion without its phase and queue head: result, submission queue, command, status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Completion {
    pub(super) result: u32,
    pub(super) sq: u16,
    pub(super) sq_head: u16,
    pub(super) id: u16,
    pub(super) status: Status,
}

/// A completion queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CompletionQueue {
    pub(super) base: u64,
    pub(super) size: u32,
    pub(super) head: u32,
    pub(super) tail: u32,
    /// The phase tag of entries written in this pass through the ring.
    phase: bool,
    pub(super) interrupts: bool,
    pub(super) vector: u16,
    /// What found the ring full.
    waiting: VecDeque<Completion>,
}

impl CompletionQueue {
    pub(super) fn new(base: u64, size: u32, interrupts: bool, vector: u16) -> Self {
        Self { base, size, head: 0, tail: 0, phase: true, interrupts, vector, waiting: VecDeque::new() }
    }

    fn is_full(&self) -> bool {
        (self.tail + 1) % self.size == self.head
    }

    /// Whether commands may be taken whose ends go here.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether it has entries that software has not taken.
    pub(super) fn is_pending(&self) -> bool {
        self.head != self.tail
    }

    /// Posts a completion, or keeps it until there is room.
    pub(super) fn post(&mut self, cx: &mut Cx<'_>, completion: Completion) -> Result<(), Unmapped> {
        if self.is_full() || !self.waiting.is_empty() {
            self.waiting.push_back(completion);
            return Ok(());
        }
        self.write(cx, completion)
    }

    fn write(&mut self, cx: &mut Cx<'_>, c: Completion) -> Result<(), Unmapped> {
        let third = u32::from(c.sq_head) | u32::from(c.sq) << 16;
        let fourth = u32::from(c.id) | u32::from(self.phase) << 16 | u32::from(c.status.0) << 17;
        let entry = u128::from(c.result) | u128::from(third) << 64 | u128::from(fourth) << 96;
        let at = Gpa(self.base).offset(u64::from(self.tail) * COMPLETION as u64);
        cx.dma_write(at, &entry.to_le_bytes())?;
        self.tail = (self.tail + 1) % self.size;
        self.phase ^= self.tail == 0;
        Ok(())
    }

    /// Software took entries up to `head`; false if that cannot be. What waited is posted.
    pub(super) fn advance(&mut self, cx: &mut Cx<'_>, head: u32) -> Result<bool, Unmapped> {
        let ahead = |index: u32| (index + self.size - self.head) % self.size;
        if head >= self.size || ahead(head) > ahead(self.tail) {
            return Ok(false);
        }
        self.head = head;
        while !self.is_full() {
            let Some(completion) = self.waiting.pop_front() else { break };
            self.write(cx, completion)?;
        }
        Ok(true)
    }

    pub(super) fn is_sane(&self) -> bool {
        (2..=4096).contains(&self.size)
            && self.head < self.size
            && self.tail < self.size
            && usize::from(self.vector) < QUEUES
    }
}

/// A stretch of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    at: u64,
    len: u32,
}

/// Where a command's data is in guest memory; made to be kept and filled again.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    segments: Vec<Segment>,
}

/// Entries of a page list read at once.
const LIST_CHUNK: u64 = 512;

impl Pages {
    /// Follows the two entries of a command to `len` bytes, in pages of `page` bytes. (4.3)
    pub(super) fn follow(
        &mut self,
        cx: &Cx<'_>,
        page: u64,
        command: &Command,
        len: u32,
    ) -> Result<(), Status> {
        let (first, second) = (command.prp1(), command.prp2());
        self.segments.clear();
        if first & 3 != 0 {
            return Err(Status::PRP_OFFSET);
        }
        let len = u64::from(len);
        let here = (page - first % page).min(len);
        self.push(first, here);
        match len - here {
            0 => Ok(()),
            rest if rest > page => self.follow_list(cx, page, second, rest),
            _ if !second.is_multiple_of(page) => Err(Status::PRP_OFFSET),
            rest => {
                self.push(second, rest);
                Ok(())
            }
        }
    }

    /// A list's last entry in a page points to its next page when more are needed. Only the first page may begin within
    /// one, so that a list cannot be a circle of pointers.
    fn follow_list(&mut self, cx: &Cx<'_>, page: u64, list: u64, mut rest: u64) -> Result<(), Status> {
        if !list.is_multiple_of(8) {
            return Err(Status::PRP_OFFSET);
        }
        let (mut at, mut left) = (list, (page - list % page) / 8);
        let mut bytes = [0; (LIST_CHUNK * 8) as usize];
        while rest != 0 {
            let needed = rest.div_ceil(page);
            let count = needed.min(left).min(LIST_CHUNK);
            let chunk = &mut bytes[..(count * 8) as usize];
            cx.dma_read(Gpa(at), chunk).map_err(|_| Status::DATA_TRANSFER)?;
            (at, left) = (at.wrapping_add(count * 8), left - count);
            let mut entries = chunk.as_chunks::<8>().0;
            if left == 0
                && needed > count
                && let [before @ .., next] = entries
            {
                (at, left, entries) = (u64::from_le_bytes(*next), page / 8, before);
                if !at.is_multiple_of(page) {
                    return Err(Status::PRP_OFFSET);
                }
            }
            for entry in entries {
                let entry = u64::from_le_bytes(*entry);
                if !entry.is_multiple_of(page) {
                    return Err(Status::PRP_OFFSET);
                }
                let here = rest.min(page);
                self.push(entry, here);
                rest -= here;
            }
        }
        Ok(())
    }

    fn push(&mut self, at: u64, len: u64) {
        let len = len as u32;
        match self.segments.last_mut() {
            Some(last) if last.at.wrapping_add(last.len.into()) == at => last.len += len,
            _ => self.segments.push(Segment { at, len }),
        }
    }

    /// Copies the data out.
    pub(super) fn read(&self, cx: &Cx<'_>, mut into: &mut [u8]) -> Result<(), Status> {
        for s in &self.segments {
            let (here, rest) = into.split_at_mut(into.len().min(s.len as usize));
            cx.dma_read(Gpa(s.at), here).map_err(|_| Status::DATA_TRANSFER)?;
            into = rest;
        }
        Ok(())
    }

    /// Copies data in.
    pub(super) fn write(&self, cx: &mut Cx<'_>, mut from: &[u8]) -> Result<(), Status> {
        for s in &self.segments {
            let (here, rest) = from.split_at(from.len().min(s.len as usize));
            cx.dma_write(Gpa(s.at), here).map_err(|_| Status::DATA_TRANSFER)?;
            from = rest;
        }
        Ok(())
    }
}
