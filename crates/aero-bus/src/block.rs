//! Disks, as the devices that serve them to a guest see them.
//!
//! Nothing here waits. A device submits a [`Request`] through [`Cx::submit`](crate::Cx::submit) and goes on; later the
//! machine hands it the [`Completion`] with [`Device::complete`](crate::Device::complete), always between two calls of the
//! device and never within one. Between the two, the machine carries the request to a [`BlockBackend`]: a file, memory, a
//! browser's storage, a server. Requests of one drive may complete in any order; a [`Operation::Flush`] covers the
//! writes that had completed before it was submitted. A write's bytes are taken when it is submitted, and a read's bytes are stored by
//! the device when it completes, so that guest memory is only touched by a device's own call.

use serde::{Deserialize, Serialize};

/// Bytes of the unit in which offsets and lengths of requests count at least.
pub const SECTOR: u64 = 512;

/// A drive of this machine, as its builder numbers them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
pub struct DriveId(pub u8);

/// A device's own name for a request under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u32);

/// What to do with a drive. Offsets and lengths are bytes, multiples of [`SECTOR`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Read `len` bytes.
    Read {
        /// First byte.
        offset: u64,
        /// How many.
        len: u32,
    },
    /// Write these bytes.
    Write {
        /// First byte.
        offset: u64,
        /// What is written.
        data: Vec<u8>,
    },
    /// Make everything that was written last.
    Flush,
    /// The guest no longer needs what is there; it may read as anything afterwards.
    Discard {
        /// First byte.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// Make the range zeros.
    WriteZeroes {
        /// First byte.
        offset: u64,
        /// How many.
        len: u64,
    },
}

impl Operation {
    /// The bytes that it reaches, offset and length; `None` for a flush.
    pub fn extent(&self) -> Option<(u64, u64)> {
        match self {
            Self::Read { offset, len } => Some((*offset, u64::from(*len))),
            Self::Write { offset, data } => Some((*offset, data.len() as u64)),
            Self::Discard { offset, len } | Self::WriteZeroes { offset, len } => Some((*offset, *len)),
            Self::Flush => None,
        }
    }

    /// Whether it changes what the drive holds.
    pub fn writes(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Discard { .. } | Self::WriteZeroes { .. })
    }
}

/// A device's request, on its way to a drive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// Which drive.
    pub drive: DriveId,
    /// What the device calls it.
    pub id: RequestId,
    /// What to do.
    pub operation: Operation,
}

/// The end of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Completion {
    /// Which drive.
    pub drive: DriveId,
    /// What the device called it.
    pub id: RequestId,
    /// The bytes read, of the length asked for; empty for anything but a read.
    pub result: Result<Vec<u8>, BlockError>,
}

/// Why a request failed, as far as a guest can be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BlockError {
    /// The range is not all on the medium, or not in whole sectors.
    #[error("the range lies outside the medium")]
    OutOfRange,
    /// The medium takes no writes.
    #[error("the medium is read-only")]
    ReadOnly,
    /// What lies below cannot be read or written.
    #[error("the medium cannot be read or written")]
    Medium,
    /// What lies below is full.
    #[error("the host has no room left")]
    NoSpace,
}

/// What a drive holds now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Medium {
    /// Its size in bytes, a multiple of [`SECTOR`].
    pub bytes: u64,
    /// Whether it refuses writes.
    pub read_only: bool,
}

impl Medium {
    /// Whether `operation` can be done here at all.
    ///
    /// # Errors
    /// When it writes to a read-only medium, or reaches beyond the end or into half a sector.
    pub fn check(&self, operation: &Operation) -> Result<(), BlockError> {
        if operation.writes() && self.read_only {
            return Err(BlockError::ReadOnly);
        }
        let Some((offset, len)) = operation.extent() else { return Ok(()) };
        let whole = offset.is_multiple_of(SECTOR) && len.is_multiple_of(SECTOR);
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.bytes);
        (whole && inside).then_some(()).ok_or(BlockError::OutOfRange)
    }
}

/// What [`BlockBackend::poll`] hands back: the ticket of the request and how it ended.
pub type Outcome = (u64, Result<Vec<u8>, BlockError>);

/// Where a drive's bytes really are. The machine owns it and calls it from one thread; it must not wait for anything slower than
/// memory or a local file.
pub trait BlockBackend {
    /// What it holds.
    fn medium(&self) -> Medium;

    /// Begins `operation`; its end comes out of [`poll`](Self::poll) under this `ticket`, which is unique among those under way.
    /// Operations have passed [`Medium::check`].
    fn submit(&mut self, ticket: u64, operation: Operation);

    /// The next request that has ended, in any order.
    fn poll(&mut self) -> Option<Outcome>;
}

/// A drive in memory: the twin of every other backend, for tests and for what a snapshot overlay keeps.
#[derive(Clone, Debug)]
pub struct MemoryDisk {
    bytes: Vec<u8>,
    read_only: bool,
    done: std::collections::VecDeque<Outcome>,
    /// Flushes so far, for tests of durability.
    pub flushes: u64,
}

impl MemoryDisk {
    /// A drive that holds `bytes`, padded with zeros to whole sectors.
    pub fn new(mut bytes: Vec<u8>, read_only: bool) -> Self {
        bytes.resize(bytes.len().next_multiple_of(SECTOR as usize), 0);
        Self { bytes, read_only, done: std::collections::VecDeque::new(), flushes: 0 }
    }

    /// What it holds now.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn execute(&mut self, operation: Operation) -> Result<Vec<u8>, BlockError> {
        self.medium().check(&operation)?;
        let (offset, len) = operation.extent().unwrap_or_default();
        let range = &mut self.bytes[offset as usize..(offset + len) as usize];
        match operation {
            Operation::Read { .. } => return Ok(range.to_vec()),
            Operation::Write { data, .. } => range.copy_from_slice(&data),
            Operation::Discard { .. } | Operation::WriteZeroes { .. } => range.fill(0),
            Operation::Flush => self.flushes += 1,
        }
        Ok(Vec::new())
    }
}

impl BlockBackend for MemoryDisk {
    fn medium(&self) -> Medium {
        Medium { bytes: self.bytes.len() as u64, read_only: self.read_only }
    }

    fn submit(&mut self, ticket: u64, operation: Operation) {
        let result = self.execute(operation);
        self.done.push_back((ticket, result));
    }

    fn poll(&mut self) -> Option<Outcome> {
        self.done.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(disk: &mut MemoryDisk, operation: Operation) -> Result<Vec<u8>, BlockError> {
        disk.submit(7, operation);
        disk.poll()
            .map(|(ticket, result)| (ticket == 7).then_some(result).expect("its own ticket"))
            .expect("done")
    }

    #[test]
    fn what_is_written_is_read_and_zeroes_are_zeroes() {
        let mut disk = MemoryDisk::new(vec![1; 1025], false);
        assert_eq!(disk.medium().bytes, 1536);
        run(&mut disk, Operation::Write { offset: 512, data: vec![7; 512] }).unwrap();
        assert_eq!(run(&mut disk, Operation::Read { offset: 512, len: 512 }), Ok(vec![7; 512]));
        run(&mut disk, Operation::WriteZeroes { offset: 0, len: 1024 }).unwrap();
        assert_eq!(run(&mut disk, Operation::Read { offset: 0, len: 1024 }), Ok(vec![0; 1024]));
    }

    #[test]
    fn requests_beyond_the_end_or_to_a_read_only_medium_fail() {
        let mut disk = MemoryDisk::new(vec![0; 1024], true);
        for (offset, len) in [(1024, 512), (512, 1024), (0, 100), (u64::MAX - 511, 512)] {
            assert_eq!(run(&mut disk, Operation::Read { offset, len }), Err(BlockError::OutOfRange));
        }
        let write = Operation::Write { offset: 0, data: vec![0; 512] };
        assert_eq!(run(&mut disk, write), Err(BlockError::ReadOnly));
        assert_eq!(run(&mut disk, Operation::Flush), Ok(Vec::new()));
    }
}
