//! Commands that reach the drive. (6)

use super::queue::{Command, Pages, Status};
use super::spec::*;
use super::{Fate, Nvme};
use aero_bus::Cx;
use aero_bus::block::{BlockError, Completion, Operation, RequestId, SECTOR};

/// What is done with what the drive gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Purpose {
    /// Copied to the guest.
    Read,
    /// Held against the guest's data.
    Compare,
    /// Nothing.
    #[default]
    Plain,
    /// It writes, so that its failure is a write fault.
    Write,
    /// Not a command: the controller was told to shut down.
    ShutDown,
}

/// A command under way.
#[derive(Default)]
pub(super) struct Entry {
    sq: u16,
    id: u16,
    purpose: Purpose,
    pages: Pages,
    lba: u64,
    /// Requests to the drive that have not ended.
    parts: u32,
    /// A flush is to follow.
    then_flush: bool,
    status: Status,
}

/// Blocks that a command names: where the first is, and how many there are.
struct Blocks {
    offset: u64,
    len: u32,
}

impl Nvme {
    /// Starts an I/O command of submission queue `sq`.
    pub(super) fn begin(&mut self, cx: &mut Cx<'_>, sq: u16, command: &Command) -> Result<Fate, Status> {
        if !command.is_plain() {
            return Err(Status::INVALID_FIELD);
        }
        let all = command.opcode() == FLUSH && command.namespace() == ALL_NAMESPACES;
        if command.namespace() != NAMESPACE && !all {
            return Err(Status::INVALID_NAMESPACE);
        }
        match command.opcode() {
            FLUSH => self.start(cx, sq, command, Purpose::Plain, Operation::Flush),
            WRITE => self.begin_write(cx, sq, command),
            READ | COMPARE | VERIFY => self.begin_read(cx, sq, command),
            WRITE_ZEROES => {
                let Blocks { offset, len } = self.blocks_of(command)?;
                self.check_writable()?;
                let operation = Operation::WriteZeroes { offset, len: len.into() };
                self.start(cx, sq, command, Purpose::Write, operation)
            }
            DATASET_MANAGEMENT => self.begin_dataset(cx, sq, command),
            _ => Err(Status::INVALID_OPCODE),
        }
    }

    /// Software says that power will go: what was written is made to last. (7.6.2)
    pub(super) fn shut_down(&mut self, cx: &mut Cx<'_>) {
        let r = &mut self.registers;
        r.csts = r.csts & !CSTS_SHST | CSTS_SHUTTING_DOWN;
        match self.under_way.claim() {
            Some((id, entry)) => {
                (entry.purpose, entry.parts, entry.then_flush, entry.status) =
                    (Purpose::ShutDown, 1, false, Status::OK);
                cx.submit(self.drive, id, Operation::Flush);
            }
            None => r.csts = r.csts & !CSTS_SHST | CSTS_SHUT_DOWN,
        }
    }

    fn blocks_of(&self, command: &Command) -> Result<Blocks, Status> {
        let (first, count) = (command.qword(10), u64::from(command.dword(12) & 0xffff) + 1);
        let inside = first.checked_add(count).is_some_and(|end| end <= self.blocks());
        let blocks = Blocks { offset: first.wrapping_mul(SECTOR), len: (count * SECTOR) as u32 };
        inside.then_some(blocks).ok_or(Status::LBA_RANGE)
    }

    /// Blocks whose data is transferred.
    fn transfer_of(&self, command: &Command) -> Result<Blocks, Status> {
        let count = (command.dword(12) & 0xffff) + 1;
        if count * SECTOR as u32 > MAX_TRANSFER {
            return Err(Status::INVALID_FIELD);
        }
        self.blocks_of(command)
    }

    fn check_writable(&self) -> Result<(), Status> {
        (!self.medium.read_only).then_some(()).ok_or(Status::WRITE_PROTECTED)
    }

    /// A slot for `command`, with nothing asked of the drive yet.
    fn claim(
        &mut self,
        sq: u16,
        command: &Command,
        purpose: Purpose,
    ) -> Result<(RequestId, &mut Entry), Status> {
        // A command is only taken while there is a slot.
        let (id, entry) = self.under_way.claim().ok_or(Status::ABORTED)?;
        (entry.sq, entry.id, entry.purpose) = (sq, command.id(), purpose);
        (entry.lba, entry.parts, entry.then_flush, entry.status) = (command.qword(10), 1, false, Status::OK);
        Ok((id, entry))
    }

    fn start(
        &mut self,
        cx: &mut Cx<'_>,
        sq: u16,
        command: &Command,
        purpose: Purpose,
        operation: Operation,
    ) -> Result<Fate, Status> {
        let lasting = purpose == Purpose::Write && !self.features.write_cache;
        let (id, entry) = self.claim(sq, command, purpose)?;
        entry.then_flush = lasting;
        cx.submit(self.drive, id, operation);
        Ok(Fate::Later)
    }

    fn begin_read(&mut self, cx: &mut Cx<'_>, sq: u16, command: &Command) -> Result<Fate, Status> {
        let Blocks { offset, len } = self.transfer_of(command)?;
        let page = self.registers.page();
        let purpose = match command.opcode() {
            READ => Purpose::Read,
            COMPARE => Purpose::Compare,
            _ => Purpose::Plain,
        };
        let (id, entry) = self.claim(sq, command, purpose)?;
        if purpose != Purpose::Plain
            && let Err(status) = entry.pages.follow(cx, page, command, len)
        {
            self.under_way.release(id);
            return Err(status);
        }
        self.log.count_read(if purpose == Purpose::Read { len } else { 0 });
        cx.submit(self.drive, id, Operation::Read { offset, len });
        Ok(Fate::Later)
    }

    fn begin_write(&mut self, cx: &mut Cx<'_>, sq: u16, command: &Command) -> Result<Fate, Status> {
        let Blocks { offset, len } = self.transfer_of(command)?;
        self.check_writable()?;
        let page = self.registers.page();
        let lasting = command.dword(12) & FUA != 0 || !self.features.write_cache;
        let (id, entry) = self.claim(sq, command, Purpose::Write)?;
        entry.then_flush = lasting;
        let mut data = vec![0; len as usize];
        let copied =
            entry.pages.follow(cx, page, command, len).and_then(|()| entry.pages.read(cx, &mut data));
        if let Err(status) = copied {
            self.under_way.release(id);
            return Err(status);
        }
        self.log.count_write(len);
        cx.submit(self.drive, id, Operation::Write { offset, data });
        Ok(Fate::Later)
    }

    /// Ranges of which only "deallocate" does anything. (6.7)
    fn begin_dataset(&mut self, cx: &mut Cx<'_>, sq: u16, command: &Command) -> Result<Fate, Status> {
        const RANGE: usize = 16;
        let len = ((command.dword(10) & 0xff) as usize + 1) * RANGE;
        let mut bytes = [0; 256 * RANGE];
        let bytes = &mut bytes[..len];
        let mut pages = Pages::default();
        pages.follow(cx, self.registers.page(), command, len as u32)?;
        pages.read(cx, bytes)?;
        let (ranges, _) = bytes.as_chunks::<RANGE>();
        let ranges = ranges.iter().map(|r| u128::from_le_bytes(*r)).map(|r| {
            let (count, first) = (u64::from((r >> 32) as u32), (r >> 64) as u64);
            (first, count)
        });
        let outside =
            |(first, count): (u64, u64)| first.checked_add(count).is_none_or(|end| end > self.blocks());
        if ranges.clone().any(outside) {
            return Err(Status::LBA_RANGE);
        }
        if command.dword(11) & 4 == 0 {
            return Ok(Fate::Done(0));
        }
        self.check_writable()?;
        let drive = self.drive;
        let (id, entry) = self.claim(sq, command, Purpose::Write)?;
        entry.parts = 0;
        for (first, count) in ranges.filter(|(_, count)| *count != 0) {
            entry.parts += 1;
            cx.submit(drive, id, Operation::Discard { offset: first * SECTOR, len: count * SECTOR });
        }
        if entry.parts == 0 {
            self.under_way.release(id);
            return Ok(Fate::Done(0));
        }
        Ok(Fate::Later)
    }

    /// A request to the drive has ended.
    pub(super) fn end(&mut self, cx: &mut Cx<'_>, done: Completion) {
        let master = self.config.is_master();
        let Some(entry) = self.under_way.get(done.id) else { return };
        let status = match done.result {
            Err(error) => status_of(error, entry.purpose),
            // Without bus mastering nothing can be copied, nor a completion be posted.
            Ok(_) if !master => Status::DATA_TRANSFER,
            Ok(data) => settle(cx, entry, &data),
        };
        if entry.status == Status::OK {
            entry.status = status;
        }
        entry.parts = entry.parts.saturating_sub(1);
        if entry.parts != 0 {
            return;
        }
        if entry.then_flush && entry.status == Status::OK {
            (entry.then_flush, entry.parts) = (false, 1);
            return cx.submit(self.drive, done.id, Operation::Flush);
        }
        let (sq, id, purpose, lba, status) = (entry.sq, entry.id, entry.purpose, entry.lba, entry.status);
        self.under_way.release(done.id);
        if purpose == Purpose::ShutDown {
            let r = &mut self.registers;
            r.csts = r.csts & !CSTS_SHST | CSTS_SHUT_DOWN;
        } else if master {
            self.finish(cx, sq, id, lba, status);
        }
    }

    fn finish(&mut self, cx: &mut Cx<'_>, sq: u16, id: u16, lba: u64, status: Status) {
        if status == Status::OK {
            self.post(cx, sq, id, 0, status);
        } else {
            self.log.error(sq, id, status, NAMESPACE, lba);
            self.post(cx, sq, id, 0, status.with_more());
        }
        // The queue may have waited for a slot.
        self.run(cx, usize::from(sq));
    }

    /// Ends every command of a submission queue that is being deleted. (5.6)
    pub(super) fn abandon(&mut self, cx: &mut Cx<'_>, sq: u16) {
        let mut ids = Vec::new();
        self.under_way.release_if(|entry| {
            let gone = entry.sq == sq && entry.purpose != Purpose::ShutDown;
            if gone {
                ids.push(entry.id);
            }
            gone
        });
        ids.into_iter().for_each(|id| self.post(cx, sq, id, 0, Status::SQ_DELETED));
    }
}

/// Does with a drive's data what the command is for.
fn settle(cx: &mut Cx<'_>, entry: &Entry, data: &[u8]) -> Status {
    match entry.purpose {
        Purpose::Read => entry.pages.write(cx, data).err().unwrap_or(Status::OK),
        Purpose::Compare => {
            let mut theirs = vec![0; data.len()];
            match entry.pages.read(cx, &mut theirs) {
                Err(status) => status,
                Ok(()) if theirs == data => Status::OK,
                Ok(()) => Status::COMPARE_FAILURE,
            }
        }
        Purpose::Plain | Purpose::Write | Purpose::ShutDown => Status::OK,
    }
}

fn status_of(error: BlockError, purpose: Purpose) -> Status {
    match error {
        BlockError::OutOfRange => Status::LBA_RANGE,
        BlockError::ReadOnly => Status::WRITE_PROTECTED,
        BlockError::NoSpace => Status::CAPACITY,
        BlockError::Medium if purpose == Purpose::Write => Status::WRITE_FAULT,
        BlockError::Medium => Status::READ_ERROR,
    }
}
