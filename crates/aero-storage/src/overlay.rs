//! What a guest writes kept in memory, over a drive that is only read.
//!
//! The overlay is sparse: chunks of 64 KiB, each with a bit for each sector that has been written. A read of written sectors is
//! answered at once; any other goes to the drive below, and written sectors are laid over what it brings. A chunk of zeros
//! takes no memory.

use aero_bus::block::{BlockBackend, BlockError, Medium, Operation, Outcome, SECTOR};
use std::collections::{BTreeMap, VecDeque};

/// Bytes of a chunk: a sector for each bit of the mask.
const CHUNK: u64 = u128::BITS as u64 * SECTOR;

/// Sectors that were written.
#[derive(Default)]
struct Chunk {
    written: u128,
    /// Their bytes; `None` while all of them are zeros.
    bytes: Option<Box<[u8]>>,
}

impl Chunk {
    fn store(&mut self, at: usize, from: Option<&[u8]>, len: usize) {
        let (first, count) = (at as u64 / SECTOR, len as u64 / SECTOR);
        self.written |= (u128::MAX >> (128 - count)) << first;
        match (from, &mut self.bytes) {
            (None, None) => {}
            (None, Some(bytes)) => bytes[at..at + len].fill(0),
            (Some(from), bytes) => {
                let bytes = bytes.get_or_insert_with(|| vec![0; CHUNK as usize].into());
                bytes[at..at + len].copy_from_slice(from);
            }
        }
    }

    fn load(&self, sector: u64, into: &mut [u8]) -> bool {
        if self.written >> sector & 1 == 0 {
            return false;
        }
        let at = (sector * SECTOR) as usize;
        match &self.bytes {
            Some(bytes) => into.copy_from_slice(&bytes[at..at + SECTOR as usize]),
            None => into.fill(0),
        }
        true
    }
}

/// A drive whose writes stay in memory.
pub struct Overlay {
    base: Box<dyn BlockBackend>,
    chunks: BTreeMap<u64, Chunk>,
    /// Reads that the drive below is asked for: where.
    asked: BTreeMap<u64, u64>,
    done: VecDeque<Outcome>,
}

impl Overlay {
    /// Nothing written yet, over `base`.
    pub fn new(base: Box<dyn BlockBackend>) -> Self {
        Self { base, chunks: BTreeMap::new(), asked: BTreeMap::new(), done: VecDeque::new() }
    }

    /// Bytes of memory that hold what was written.
    pub fn memory(&self) -> u64 {
        self.chunks.values().filter(|chunk| chunk.bytes.is_some()).count() as u64 * CHUNK
    }

    fn store(&mut self, offset: u64, from: Option<&[u8]>, len: u64) {
        let mut at = 0;
        while at < len {
            let (chunk, within) = ((offset + at) / CHUNK, (offset + at) % CHUNK);
            let count = (CHUNK - within).min(len - at);
            let piece = from.map(|from| &from[at as usize..(at + count) as usize]);
            self.chunks.entry(chunk).or_default().store(within as usize, piece, count as usize);
            at += count;
        }
    }

    /// Lays written sectors over `bytes`, which are those at `offset`; whether all of them were written.
    fn lay_over(&self, offset: u64, bytes: &mut [u8]) -> bool {
        let sectors = bytes.chunks_mut(SECTOR as usize);
        sectors.zip(offset / SECTOR..).fold(true, |all, (bytes, sector)| {
            let chunk = self.chunks.get(&(sector * SECTOR / CHUNK));
            chunk.is_some_and(|c| c.load(sector % u64::from(u128::BITS), bytes)) && all
        })
    }
}

impl BlockBackend for Overlay {
    fn medium(&self) -> Medium {
        Medium { read_only: false, ..self.base.medium() }
    }

    fn submit(&mut self, ticket: u64, operation: Operation) {
        match operation {
            Operation::Read { offset, len } => {
                let mut bytes = vec![0; len as usize];
                if !self.lay_over(offset, &mut bytes) {
                    self.asked.insert(ticket, offset);
                    return self.base.submit(ticket, operation);
                }
                self.done.push_back((ticket, Ok(bytes)));
                return;
            }
            Operation::Write { offset, data } => self.store(offset, Some(&data), data.len() as u64),
            Operation::WriteZeroes { offset, len } => self.store(offset, None, len),
            // What was discarded may read as anything.
            Operation::Flush | Operation::Discard { .. } => {}
        }
        self.done.push_back((ticket, Ok(Vec::new())));
    }

    fn poll(&mut self) -> Option<Outcome> {
        if let Some(outcome) = self.done.pop_front() {
            return Some(outcome);
        }
        let (ticket, mut result) = self.base.poll()?;
        match (self.asked.remove(&ticket), &mut result) {
            (Some(offset), Ok(bytes)) => _ = self.lay_over(offset, bytes),
            (None, Ok(_)) => result = Err(BlockError::Medium),
            (_, Err(_)) => {}
        }
        Some((ticket, result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aero_bus::block::MemoryDisk;

    fn overlay() -> Overlay {
        Overlay::new(Box::new(MemoryDisk::new(vec![7; 4 * CHUNK as usize], true)))
    }

    fn run(disk: &mut Overlay, operation: Operation) -> Vec<u8> {
        disk.submit(3, operation);
        let (ticket, result) = disk.poll().expect("done");
        assert_eq!(ticket, 3);
        result.expect("good")
    }

    fn read(disk: &mut Overlay, offset: u64, len: u64) -> Vec<u8> {
        run(disk, Operation::Read { offset, len: len as u32 })
    }

    #[test]
    fn written_sectors_lie_over_those_below() {
        let mut disk = overlay();
        assert!(!disk.medium().read_only);
        let at = CHUNK - SECTOR;
        run(&mut disk, Operation::Write { offset: at, data: vec![1; 2 * SECTOR as usize] });
        let bytes = read(&mut disk, at - SECTOR, 4 * SECTOR);
        let first = |sector: usize| bytes[sector * SECTOR as usize];
        assert_eq!([0, 1, 2, 3].map(first), [7, 1, 1, 7]);
        assert_eq!(read(&mut disk, at, 2 * SECTOR), vec![1; 2 * SECTOR as usize]);
    }

    #[test]
    fn zeros_take_no_memory_and_read_as_zeros() {
        let mut disk = overlay();
        run(&mut disk, Operation::WriteZeroes { offset: 0, len: 2 * CHUNK });
        assert_eq!((disk.memory(), read(&mut disk, CHUNK, 512)), (0, vec![0; 512]));
        run(&mut disk, Operation::Write { offset: 512, data: vec![2; 512] });
        assert_eq!((disk.memory(), read(&mut disk, 0, 512)), (CHUNK, vec![0; 512]));
        run(&mut disk, Operation::WriteZeroes { offset: 512, len: 512 });
        assert_eq!(read(&mut disk, 512, 512), vec![0; 512]);
    }
}
