//! A disk or a disc drive at the end of a cable, and a command on its way through it.
//!
//! IDE and AHCI differ in how data and status reach the guest, not in what a command does. So the course of a
//! command is here: a [`Job`] says after each event (a request has ended, the host has taken what it was
//! offered, the host has given what it was asked for) which [`Step`] comes next, and the controller takes it.
//! A job is plain data and is part of the saved state; the end of a request that was under way still comes
//! under its number.

use crate::ata::{CHUNK, Disk, DiskSettings, Ending, Extent, Plan, TaskFile, Way, spec};
use crate::atapi::{Cd, CdSettings, Reply, SIGNATURE_LBA, Sense, Shape};
use aero_bus::block::{BlockError, DriveId, Medium, Operation};
use serde::{Deserialize, Serialize};

/// What can be at the end of a cable.
#[derive(Clone, Debug)]
pub enum Unit {
    /// A disk.
    Disk(Disk),
    /// A CD and DVD drive.
    Cd(Cd),
}

/// What a guest has changed in a unit, for the saved state of its controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum UnitStateV1 {
    /// Of a disk.
    Disk(DiskSettings),
    /// Of a drive, with its medium.
    Cd(CdSettings, Option<Medium>),
}

impl Unit {
    /// Where its bytes are.
    pub fn drive(&self) -> DriveId {
        match self {
            Self::Disk(disk) => disk.drive,
            Self::Cd(cd) => cd.drive,
        }
    }

    /// The drive for removable media, if it is one.
    pub fn cd(&mut self) -> Option<&mut Cd> {
        match self {
            Self::Disk(_) => None,
            Self::Cd(cd) => Some(cd),
        }
    }

    pub(crate) fn on_serial_cable(self) -> Self {
        match self {
            Self::Disk(disk) => Self::Disk(disk.on_serial_cable()),
            Self::Cd(cd) => Self::Cd(cd.on_serial_cable()),
        }
    }

    pub(crate) fn power_on(&mut self) {
        match self {
            Self::Disk(disk) => disk.power_on(),
            Self::Cd(cd) => cd.power_on(),
        }
    }

    pub(crate) fn soft_reset(&mut self) {
        match self {
            Self::Disk(disk) => disk.soft_reset(),
            Self::Cd(cd) => cd.soft_reset(),
        }
    }

    pub(crate) fn command(&mut self, task: &TaskFile) -> Plan {
        match self {
            Self::Disk(disk) => disk.command(task),
            Self::Cd(cd) => cd.command(task),
        }
    }

    /// What the LBA registers show after a reset; the sector count is 1 and the device register 0.
    pub(crate) fn signature(&self) -> u64 {
        match self {
            Self::Disk(_) => 1,
            Self::Cd(_) => SIGNATURE_LBA,
        }
    }

    /// The status register after a reset: a packet device is not ready before its first command.
    pub(crate) fn status_after_reset(&self) -> u8 {
        match self {
            Self::Disk(_) => spec::READY,
            Self::Cd(_) => 0,
        }
    }

    pub(crate) fn save(&self) -> UnitStateV1 {
        match self {
            Self::Disk(disk) => UnitStateV1::Disk(disk.settings()),
            Self::Cd(cd) => {
                let (settings, medium) = cd.settings();
                UnitStateV1::Cd(settings, medium)
            }
        }
    }

    /// Whether a saved state is of such a unit.
    pub(crate) fn fits(unit: Option<&Self>, state: Option<&UnitStateV1>) -> bool {
        matches!(
            (unit, state),
            (None, None)
                | (Some(Self::Disk(_)), Some(UnitStateV1::Disk(_)))
                | (Some(Self::Cd(_)), Some(UnitStateV1::Cd(..)))
        )
    }

    pub(crate) fn restore(&mut self, state: UnitStateV1) {
        match (self, state) {
            (Self::Disk(disk), UnitStateV1::Disk(settings)) => disk.set_settings(settings),
            (Self::Cd(cd), UnitStateV1::Cd(settings, medium)) => cd.set_settings((settings, medium)),
            _ => {}
        }
    }
}

/// What the controller does next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Submit these, and report each one's end.
    Submit(Vec<Operation>),
    /// Move these bytes to the host, then report it.
    Offer(Vec<u8>),
    /// Get this many bytes from the host, then report them.
    Ask(u32),
    /// Show this.
    End(Ending),
}

/// What a command does with the medium.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Work {
    /// Bytes of the device itself go to the host.
    Give,
    Read(Shape),
    Write {
        durable: bool,
    },
    Verify,
    /// The host's bytes are ranges to discard.
    Trim,
    /// The host's bytes are MODE SELECT's.
    Mode,
    /// Requests without data, so many of them left.
    Carry {
        left: u32,
        failed: Option<BlockErrorV1>,
    },
}

/// [`BlockError`] in saved state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum BlockErrorV1 {
    OutOfRange,
    ReadOnly,
    Medium,
    NoSpace,
}

impl From<BlockError> for BlockErrorV1 {
    fn from(error: BlockError) -> Self {
        match error {
            BlockError::OutOfRange => Self::OutOfRange,
            BlockError::ReadOnly => Self::ReadOnly,
            BlockError::Medium => Self::Medium,
            BlockError::NoSpace => Self::NoSpace,
        }
    }
}

impl From<BlockErrorV1> for BlockError {
    fn from(error: BlockErrorV1) -> Self {
        match error {
            BlockErrorV1::OutOfRange => Self::OutOfRange,
            BlockErrorV1::ReadOnly => Self::ReadOnly,
            BlockErrorV1::Medium => Self::Medium,
            BlockErrorV1::NoSpace => Self::NoSpace,
        }
    }
}

/// A command under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// How its data travels.
    pub way: Way,
    /// Whether it is a packet command.
    pub packet: bool,
    work: Work,
    /// The part under way.
    part: Extent,
    /// What comes behind it.
    rest: Extent,
}

impl Job {
    fn new(work: Work, way: Way, rest: Extent) -> Self {
        Self { way, packet: false, work, part: Extent::default(), rest }
    }

    /// Begins what an ATA command asks for; packets, resets and diagnostics are the controller's.
    pub fn start(plan: Plan) -> (Self, Step) {
        let none = Extent::default();
        match plan {
            Plan::Give(data, way) => (Self::new(Work::Give, way, none), Step::Offer(data)),
            Plan::Read(extent, way) => Self::new(Work::Read(Shape::USER), way, extent).begun(),
            Plan::Write { extent, way, durable } => Self::new(Work::Write { durable }, way, extent).begun(),
            Plan::Verify(extent) => Self::new(Work::Verify, Way::Dma, extent).begun(),
            Plan::Trim(bytes, way) => (Self::new(Work::Trim, way, none), Step::Ask(bytes)),
            Plan::Carry(operations) => {
                let mut job = Self::new(Work::Give, Way::Dma, none);
                let step = job.carry(operations);
                (job, step)
            }
            Plan::End(ending) => (Self::new(Work::Give, Way::Dma, none), Step::End(ending)),
            Plan::Packet { .. } | Plan::Diagnostic | Plan::Reset => {
                (Self::new(Work::Give, Way::Dma, none), Step::End(Ending::ABORTED))
            }
        }
    }

    /// Begins what a packet asks for.
    pub fn packet(reply: Reply, way: Way) -> (Self, Step) {
        let (work, rest, step) = match reply {
            Reply::Done => (Work::Give, Extent::default(), Some(Step::End(Cd::ending(None)))),
            Reply::Check(sense) => (Work::Give, Extent::default(), Some(Step::End(Cd::ending(Some(sense))))),
            Reply::Give(data) => (Work::Give, Extent::default(), Some(Step::Offer(data))),
            Reply::Take(bytes) => (Work::Mode, Extent::default(), Some(Step::Ask(bytes))),
            Reply::Read(extent, shape) => (Work::Read(shape), extent, None),
        };
        let mut job = Self { packet: true, ..Self::new(work, way, rest) };
        let step = step.unwrap_or_else(|| job.next());
        (job, step)
    }

    fn begun(mut self) -> (Self, Step) {
        let step = self.next();
        (self, step)
    }

    fn carry(&mut self, operations: Vec<Operation>) -> Step {
        self.work = Work::Carry { left: operations.len() as u32, failed: None };
        Step::Submit(operations)
    }

    /// The next part, or the end.
    fn next(&mut self) -> Step {
        self.part = self.rest.cut(CHUNK);
        let Extent { offset, len } = self.part;
        match self.work {
            _ if len == 0 => Step::End(Ending::GOOD),
            Work::Write { .. } => Step::Ask(len as u32),
            _ => Step::Submit(vec![Operation::Read { offset, len: len as u32 }]),
        }
    }

    /// A request has ended.
    pub fn completed(&mut self, unit: &mut Unit, result: Result<Vec<u8>, BlockError>) -> Step {
        if let Work::Carry { left, failed } = self.work {
            let failed = failed.or(result.err().map(BlockErrorV1::from));
            return self.carried(left.saturating_sub(1), failed);
        }
        let data = match result {
            Ok(data) => data,
            Err(error) => return Step::End(self.failed(unit, error)),
        };
        match self.work {
            Work::Read(shape) => Step::Offer(shape.of(self.part.offset, data)),
            Work::Write { durable: true } if self.rest.len == 0 => self.carry(vec![Operation::Flush]),
            _ => self.next(),
        }
    }

    fn carried(&mut self, left: u32, failed: Option<BlockErrorV1>) -> Step {
        self.work = Work::Carry { left, failed };
        match (left, failed) {
            (0, None) => Step::End(Ending::GOOD),
            (0, Some(error)) => Step::End(Ending { lba: None, ..Ending::of(error.into(), true, 0) }),
            _ => Step::Submit(Vec::new()),
        }
    }

    fn failed(&self, unit: &mut Unit, error: BlockError) -> Ending {
        match unit {
            Unit::Disk(_) => {
                let writing = matches!(self.work, Work::Write { .. });
                Ending::of(error, writing, self.part.offset)
            }
            Unit::Cd(cd) => {
                cd.failed(Sense::UNREADABLE);
                Cd::ending(Some(Sense::UNREADABLE))
            }
        }
    }

    /// The host has taken what it was offered.
    pub fn offered(&mut self) -> Step {
        self.next()
    }

    /// The host has given what it was asked for.
    pub fn given(&mut self, unit: &mut Unit, data: Vec<u8>) -> Step {
        match (self.work, unit) {
            (Work::Write { .. }, _) => {
                Step::Submit(vec![Operation::Write { offset: self.part.offset, data }])
            }
            (Work::Trim, Unit::Disk(disk)) => match disk.trim(&data) {
                Plan::Carry(operations) => self.carry(operations),
                Plan::End(ending) => Step::End(ending),
                _ => Step::End(Ending::ABORTED),
            },
            (Work::Mode, Unit::Cd(cd)) => match cd.taken(&data) {
                Reply::Check(sense) => Step::End(Cd::ending(Some(sense))),
                _ => Step::End(Cd::ending(None)),
            },
            _ => Step::End(Ending::ABORTED),
        }
    }
}
