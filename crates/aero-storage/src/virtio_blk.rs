//! virtio-blk: a disk over virtio queues. (virtio 5.2)
//!
//! A request is one buffer: a header of 16 bytes that the device reads, data in one direction, and a status byte at the
//! very end. It becomes one request to the drive, whose end returns the buffer, in whatever order the drive ends
//! them; only discarding and zeroing may be several, one for each range. A write's data is copied once, from the guest
//! into what the drive takes, and a read's once, from what the drive gave into the guest.
//!
//! Durability: a drive's writes last once flushed. A driver that takes neither `FLUSH` nor write-back (`CONFIG_WCE`)
//! relies on each write, so a flush follows each one and the buffer returns after it (5.2.6.2).

use crate::in_flight::InFlight;
use aero_bus::Cx;
use aero_bus::block::{Completion, DriveId, Medium, Operation, RequestId, SECTOR};
use aero_bus::virtio::{Chain, Profile, Queues, VirtioDevice};

mod spec {
    //! Names of the standard.

    pub const SEG_MAX: u64 = 1 << 2;
    pub const RO: u64 = 1 << 5;
    pub const BLK_SIZE: u64 = 1 << 6;
    pub const FLUSH: u64 = 1 << 9;
    pub const TOPOLOGY: u64 = 1 << 10;
    pub const CONFIG_WCE: u64 = 1 << 11;
    pub const MQ: u64 = 1 << 12;
    pub const DISCARD: u64 = 1 << 13;
    pub const WRITE_ZEROES: u64 = 1 << 14;

    pub const T_IN: u32 = 0;
    pub const T_OUT: u32 = 1;
    pub const T_FLUSH: u32 = 4;
    pub const T_GET_ID: u32 = 8;
    pub const T_DISCARD: u32 = 11;
    pub const T_WRITE_ZEROES: u32 = 13;

    pub const S_OK: u8 = 0;
    pub const S_IOERR: u8 = 1;
    pub const S_UNSUPP: u8 = 2;

    /// Bytes of a request's header.
    pub const HEADER: u32 = 16;
    /// Bytes of a range to discard or zero.
    pub const RANGE: u32 = 16;
    /// Flag of a range to zero: it may be discarded.
    pub const UNMAP: u32 = 1;
    /// Bytes of an id string.
    pub const ID_LEN: usize = 20;

    /// Bytes of the configuration structure, and offset of its write-back switch.
    pub const CONFIG_LEN: usize = 60;
    pub const WRITEBACK: usize = 32;

    /// Entries of a queue; two of them are the header and the status.
    pub const QUEUE: u16 = 256;
    pub const SEGMENTS: u32 = QUEUE as u32 - 2;
    /// Ranges in one request.
    pub const MAX_RANGES: u32 = 16;
    /// Sectors in one range: 2 GiB.
    pub const MAX_RANGE_SECTORS: u32 = 1 << 22;
    /// The longest data of a request: the bound of what a guest can make the host hold for one.
    pub const MAX_DATA: u32 = 64 << 20;
}

use spec::*;

/// A request under way.
#[derive(Default)]
struct Entry {
    chain: Chain,
    queue: u16,
    read: bool,
    /// A flush is to follow before the buffer returns.
    then_flush: bool,
    /// Requests to the drive that have not ended.
    parts: u32,
    status: u8,
}

/// How a request begins.
struct Header {
    kind: u32,
    sector: u64,
}

/// What becomes of a buffer.
enum Fate {
    /// It returns at once with this status, and so many bytes of data.
    Done(u8, u32),
    /// The drive has these to do first.
    Submitted(u32),
    /// It has no place for a status, or lies outside memory.
    Broken,
}

/// A disk.
pub struct VirtioBlk {
    drive: DriveId,
    medium: Medium,
    id: [u8; ID_LEN],
    queues: u16,
    writeback: bool,
    under_way: InFlight<Entry>,
}

impl VirtioBlk {
    /// A disk with `drive` in it, which holds `medium`; `id` is what the guest is told as its serial number (20 bytes at most), and
    /// `queues` (at least 1) how many request queues there are, one for each processor being best.
    pub fn new(drive: DriveId, medium: Medium, id: &str, queues: u16) -> Self {
        let mut bytes = [0; ID_LEN];
        bytes.iter_mut().zip(id.bytes()).for_each(|(to, from)| *to = from);
        let under_way = InFlight::default();
        Self { drive, medium, id: bytes, queues: queues.max(1), writeback: true, under_way }
    }

    /// Whether a request is under way, so that state cannot be saved yet.
    pub fn is_busy(&self) -> bool {
        self.under_way.len() != 0
    }

    fn write_through(&self, queues: &Queues) -> bool {
        if queues.has(CONFIG_WCE) { !self.writeback } else { !queues.has(FLUSH) }
    }

    /// Takes one buffer; false if there was none.
    fn serve(&mut self, cx: &mut Cx<'_>, queues: &mut Queues, queue: u16) -> bool {
        let Some((id, entry)) = self.under_way.claim() else { return false };
        if !queues.pop(cx, queue, &mut entry.chain) {
            self.under_way.release(id);
            return false;
        }
        (entry.queue, entry.read, entry.then_flush, entry.parts, entry.status) =
            (queue, false, false, 0, S_OK);
        let fate = self.begin(cx, queues, id).unwrap_or(Fate::Broken);
        let Some(entry) = self.under_way.get(id) else { return false };
        match fate {
            Fate::Submitted(parts) => entry.parts = parts,
            Fate::Done(status, data) => {
                entry.status = status;
                self.finish(cx, queues, id, data);
            }
            Fate::Broken => {
                self.under_way.release(id);
                queues.fail();
            }
        }
        true
    }

    /// Reads the header and starts what it asks for; `None` if the buffer lies outside memory.
    fn begin(&mut self, cx: &mut Cx<'_>, queues: &Queues, id: RequestId) -> Option<Fate> {
        let write_through = self.write_through(queues);
        let entry = self.under_way.get(id)?;
        let chain = &entry.chain;
        if chain.writable_len() == 0 {
            return Some(Fate::Broken);
        }
        let header = read_header(cx, chain)?;
        let operation = match header.kind {
            T_IN => {
                entry.read = true;
                Operation::Read { offset: byte_of(header.sector), len: chain.writable_len() - 1 }
            }
            T_OUT => {
                entry.then_flush = write_through;
                let len = chain.readable_len() - HEADER;
                let range = Operation::Discard { offset: byte_of(header.sector), len: len.into() };
                if len > MAX_DATA || self.medium.check(&range).is_err() {
                    return Some(Fate::Done(S_IOERR, 0));
                }
                let mut data = vec![0; len as usize];
                chain.read(cx, HEADER, &mut data).ok()?;
                Operation::Write { offset: byte_of(header.sector), data }
            }
            T_FLUSH => Operation::Flush,
            T_GET_ID => return give_id(cx, chain, &self.id),
            T_DISCARD | T_WRITE_ZEROES => {
                entry.then_flush = write_through;
                return begin_ranges(cx, chain, &header, id, self.drive, &self.medium);
            }
            _ => return Some(Fate::Done(S_UNSUPP, 0)),
        };
        let too_long = matches!(operation, Operation::Read { len, .. } if len > MAX_DATA);
        if too_long || self.medium.check(&operation).is_err() {
            return Some(Fate::Done(S_IOERR, 0));
        }
        cx.submit(self.drive, id, operation);
        Some(Fate::Submitted(1))
    }

    /// Writes the status behind `data` bytes already written, and returns the buffer.
    fn finish(&mut self, cx: &mut Cx<'_>, queues: &mut Queues, id: RequestId, data: u32) {
        let Some(entry) = self.under_way.get(id) else { return };
        let last = entry.chain.writable_len() - 1;
        if queues.usable(entry.queue) {
            match entry.chain.write(cx, last, &[entry.status]) {
                // What was written is counted from the buffer's start and the status is at its end.
                Ok(()) => queues.push(cx, entry.queue, entry.chain.head(), data + 1),
                Err(_) => queues.fail(),
            }
        }
        self.under_way.release(id);
    }
}

fn byte_of(sector: u64) -> u64 {
    // One that overflows is on no medium.
    sector.saturating_mul(SECTOR)
}

fn read_header(cx: &Cx<'_>, chain: &Chain) -> Option<Header> {
    let mut bytes = [0; HEADER as usize];
    chain.read(cx, 0, &mut bytes).ok()?;
    let word = u128::from_le_bytes(bytes);
    Some(Header { kind: word as u32, sector: (word >> 64) as u64 })
}

fn give_id(cx: &mut Cx<'_>, chain: &Chain, id: &[u8; ID_LEN]) -> Option<Fate> {
    let room = (chain.writable_len() - 1).min(ID_LEN as u32);
    chain.write(cx, 0, &id[..room as usize]).ok()?;
    Some(Fate::Done(S_OK, room))
}

/// Starts a request for each range, once all of them are known to be good. (5.2.6.2)
fn begin_ranges(
    cx: &mut Cx<'_>,
    chain: &Chain,
    header: &Header,
    id: RequestId,
    drive: DriveId,
    medium: &Medium,
) -> Option<Fate> {
    let len = chain.readable_len() - HEADER;
    let count = len / RANGE;
    if count == 0 || count > MAX_RANGES || !len.is_multiple_of(RANGE) {
        return Some(Fate::Done(S_IOERR, 0));
    }
    let mut bytes = [0; (MAX_RANGES * RANGE) as usize];
    let bytes = &mut bytes[..len as usize];
    chain.read(cx, HEADER, bytes).ok()?;
    let (ranges, _) = bytes.as_chunks::<{ RANGE as usize }>();
    for range in ranges {
        let (operation, flags) = range_operation(header.kind, *range);
        let allowed = if header.kind == T_DISCARD { 0 } else { UNMAP };
        if flags & !allowed != 0 {
            return Some(Fate::Done(S_UNSUPP, 0));
        }
        let limit = u64::from(MAX_RANGE_SECTORS) * SECTOR;
        if medium.check(&operation).is_err() || operation.extent().is_some_and(|(_, len)| len > limit) {
            return Some(Fate::Done(S_IOERR, 0));
        }
    }
    ranges.iter().for_each(|range| cx.submit(drive, id, range_operation(header.kind, *range).0));
    Some(Fate::Submitted(count))
}

/// A range's operation and flags.
fn range_operation(kind: u32, range: [u8; RANGE as usize]) -> (Operation, u32) {
    let word = u128::from_le_bytes(range);
    let offset = byte_of(word as u64);
    let len = u64::from((word >> 64) as u32) * SECTOR;
    let operation = match kind {
        T_DISCARD => Operation::Discard { offset, len },
        _ => Operation::WriteZeroes { offset, len },
    };
    (operation, (word >> 96) as u32)
}

impl VirtioDevice for VirtioBlk {
    const KIND: &'static str = "virtio-blk";
    type State = bool;

    fn profile(&self) -> Profile {
        Profile {
            kind: 2,
            legacy_id: Some(0x1001),
            class: 0x01_0000,
            subsystem: 2,
            multifunction: false,
            queues: vec![QUEUE; self.queues.into()],
            config_len: CONFIG_LEN,
        }
    }

    fn features(&self) -> u64 {
        let many = if self.queues > 1 { MQ } else { 0 };
        let access = if self.medium.read_only { RO } else { DISCARD | WRITE_ZEROES };
        SEG_MAX | BLK_SIZE | FLUSH | TOPOLOGY | CONFIG_WCE | many | access
    }

    fn config(&self, image: &mut [u8]) {
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &(self.medium.bytes / SECTOR).to_le_bytes());
        put(12, &SEGMENTS.to_le_bytes());
        put(20, &(SECTOR as u32).to_le_bytes());
        // Topology: physical blocks of 2^3 logical ones, none before the first, and the best sizes in blocks.
        put(24, &[3, 0, 8, 0]);
        put(28, &256u32.to_le_bytes());
        put(WRITEBACK, &[self.writeback.into()]);
        put(34, &self.queues.to_le_bytes());
        for (at, value) in [(36, MAX_RANGE_SECTORS), (40, MAX_RANGES), (44, 1)] {
            put(at, &value.to_le_bytes());
        }
        for (at, value) in [(48, MAX_RANGE_SECTORS), (52, MAX_RANGES)] {
            put(at, &value.to_le_bytes());
        }
        put(56, &[1]);
    }

    fn config_written(&mut self, offset: usize, value: u8) {
        if offset == WRITEBACK {
            self.writeback = value & 1 != 0;
        }
    }

    fn reset(&mut self) {
        self.writeback = true;
        self.under_way.release_if(|_| true);
    }

    fn queue_notified(&mut self, cx: &mut Cx<'_>, queues: &mut Queues, queue: u16) {
        while self.serve(cx, queues, queue) {}
    }

    fn complete(&mut self, cx: &mut Cx<'_>, queues: &mut Queues, done: Completion) {
        let Some(entry) = self.under_way.get(done.id) else { return };
        let mut written = 0;
        match done.result {
            Ok(data) if entry.read && queues.usable(entry.queue) => {
                written = data.len() as u32;
                if entry.chain.write(cx, 0, &data).is_err() {
                    self.under_way.release(done.id);
                    return queues.fail();
                }
            }
            Ok(_) => {}
            Err(_) => entry.status = S_IOERR,
        }
        entry.parts = entry.parts.saturating_sub(1);
        if entry.parts != 0 {
            return;
        }
        if entry.then_flush && entry.status == S_OK {
            (entry.then_flush, entry.parts) = (false, 1);
            return cx.submit(self.drive, done.id, Operation::Flush);
        }
        self.finish(cx, queues, done.id, written);
    }

    fn state(&self) -> bool {
        self.writeback
    }

    fn restore(&mut self, state: bool) -> bool {
        self.writeback = state;
        self.under_way.release_if(|_| true);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aero_bus::bench::{TestBoard, conformance};
    use aero_bus::block::MemoryDisk;
    use aero_bus::virtio::bench::{Part, TestRing, get, kick, put, read, start, write};
    use aero_bus::virtio::{Interface, VirtioPci};
    use aero_bus::{Device, Width};
    use aero_state::Saved;

    const ALL: u64 = 1 << 28 | 1 << 29 | SEG_MAX | BLK_SIZE | FLUSH | TOPOLOGY | MQ | DISCARD | WRITE_ZEROES;
    const HEAD: u64 = 0x8000;
    const DATA: u64 = 0x10_0000;
    const STATUS: u64 = 0x9000;

    struct Bench {
        board: TestBoard,
        disk: VirtioPci<VirtioBlk>,
        rings: [TestRing; 2],
    }

    impl Bench {
        fn with(features: u64, read_only: bool) -> Self {
            let mut board = TestBoard::new();
            let bytes: Vec<u8> = (0..128 * 512u32).map(|i| (i / 512) as u8).collect();
            let disk = MemoryDisk::new(bytes, read_only);
            let medium = aero_bus::block::BlockBackend::medium(&disk);
            let drive = board.attach(disk);
            let device = VirtioBlk::new(drive, medium, "AERO-0001", 2);
            let mut disk = VirtioPci::new(device, Interface::Transitional, board.line());
            let rings = [TestRing::new(0x2_0000, 256), TestRing::new(0x3_0000, 256)];
            assert_eq!(start(&mut board, &mut disk, features, &[&rings[0], &rings[1]]), 15);
            Self { board, disk, rings }
        }

        fn new() -> Self {
            Self::with(ALL, false)
        }

        /// One request with its data between header and status; its status and what was written.
        fn request(&mut self, kind: u32, sector: u64, data: &[Part]) -> (u8, u32) {
            self.offer(0, kind, sector, data, STATUS);
            kick(&mut self.board, &mut self.disk, 0);
            let (_, written) = self.rings[0].take(&mut self.board).expect("returned");
            (get::<1>(&self.board, STATUS)[0], written)
        }

        fn offer(&mut self, queue: usize, kind: u32, sector: u64, data: &[Part], status: u64) -> u16 {
            let at = HEAD + 16 * (status % 64);
            put(&mut self.board, at, &(u128::from(kind) | u128::from(sector) << 64).to_le_bytes());
            put(&mut self.board, status, &[0xee]);
            let parts: Vec<Part> = [(at, 16, false)]
                .into_iter()
                .chain(data.iter().copied())
                .chain([(status, 1, true)])
                .collect();
            self.rings[queue].offer(&mut self.board, &parts)
        }

        fn range(&mut self, n: u64, sector: u64, sectors: u32, flags: u32) {
            let word = u128::from(sector) | u128::from(sectors) << 64 | u128::from(flags) << 96;
            put(&mut self.board, DATA + 16 * n, &word.to_le_bytes());
        }

        fn bytes(&self) -> &[u8] {
            self.board.disks[0].bytes()
        }

        fn status(&mut self) -> u8 {
            read(&mut self.board, &mut self.disk, 0x14, Width::B1) as u8
        }
    }

    #[test]
    fn conforms() {
        for interface in [Interface::Modern, Interface::Transitional] {
            conformance(&[0, 1, 2, 4], |board| {
                let medium = Medium { bytes: 1 << 20, read_only: false };
                VirtioPci::new(VirtioBlk::new(DriveId(0), medium, "x", 4), interface, board.line())
            });
        }
    }

    #[test]
    fn read_scatters_and_counts_data_and_status() {
        let mut b = Bench::new();
        let parts = [(DATA, 512, true), (DATA + 0x5000, 1024, true)];
        assert_eq!(b.request(T_IN, 5, &parts), (S_OK, 1537));
        assert_eq!(get(&b.board, DATA), [5; 512]);
        assert_eq!(get::<1024>(&b.board, DATA + 0x5000)[510..514], [6, 6, 7, 7]);
    }

    #[test]
    fn status_that_shares_a_segment_with_data_is_its_last_byte() {
        let mut b = Bench::new();
        put(&mut b.board, HEAD, &(9u128 << 64).to_le_bytes());
        b.rings[0].offer(&mut b.board, &[(HEAD, 10, false), (HEAD + 10, 6, false), (DATA, 513, true)]);
        kick(&mut b.board, &mut b.disk, 0);
        assert_eq!(b.rings[0].take(&mut b.board), Some((0, 513)));
        assert_eq!(get::<513>(&b.board, DATA)[511..], [9, S_OK]);
    }

    #[test]
    fn write_gathers_and_flush_flushes() {
        let mut b = Bench::new();
        put(&mut b.board, DATA, &[0xa1; 700]);
        put(&mut b.board, DATA + 0x2000, &[0xa2; 324]);
        let parts = [(DATA, 700, false), (DATA + 0x2000, 324, false)];
        assert_eq!(b.request(T_OUT, 2, &parts), (S_OK, 1));
        assert_eq!(
            (b.bytes()[1023], b.bytes()[1024], b.bytes()[1723], b.bytes()[1724]),
            (1, 0xa1, 0xa1, 0xa2)
        );
        assert_eq!((b.bytes()[2047], b.bytes()[2048], b.board.disks[0].flushes), (0xa2, 4, 0));
        assert_eq!(b.request(T_FLUSH, 0, &[]), (S_OK, 1));
        assert_eq!(b.board.disks[0].flushes, 1);
    }

    #[test]
    fn driver_that_cannot_flush_or_turned_the_cache_off_gets_writes_that_last() {
        let mut b = Bench::with(ALL & !FLUSH, false);
        assert_eq!(b.request(T_OUT, 0, &[(DATA, 512, false)]), (S_OK, 1));
        assert_eq!(b.board.disks[0].flushes, 1);
        let mut b = Bench::with(ALL | CONFIG_WCE, false);
        b.request(T_OUT, 0, &[(DATA, 512, false)]);
        assert_eq!(b.board.disks[0].flushes, 0);
        write(&mut b.board, &mut b.disk, 0x3020, Width::B1, 0);
        assert_eq!(read(&mut b.board, &mut b.disk, 0x3020, Width::B1), 0);
        b.request(T_OUT, 0, &[(DATA, 512, false)]);
        assert_eq!(b.board.disks[0].flushes, 1);
    }

    #[test]
    fn ranges_are_discarded_and_zeroed_all_or_none() {
        let mut b = Bench::new();
        b.range(0, 1, 2, 0);
        b.range(1, 8, 1, 0);
        assert_eq!(b.request(T_DISCARD, 0, &[(DATA, 32, false)]), (S_OK, 1));
        assert_eq!((b.bytes()[512], b.bytes()[1024], b.bytes()[1536], b.bytes()[4096]), (0, 0, 3, 0));
        b.range(0, 20, 1, UNMAP);
        assert_eq!(b.request(T_WRITE_ZEROES, 0, &[(DATA, 16, false)]), (S_OK, 1));
        assert_eq!(b.bytes()[20 * 512], 0);
        b.range(0, 30, 1, 0);
        b.range(1, 128, 1, 0);
        assert_eq!(b.request(T_DISCARD, 0, &[(DATA, 32, false)]).0, S_IOERR);
        b.range(1, 1, 1, UNMAP);
        assert_eq!(b.request(T_DISCARD, 0, &[(DATA, 32, false)]).0, S_UNSUPP);
        assert_eq!(b.bytes()[30 * 512], 30, "the good range of a bad request is left alone");
        for len in [0, 8, 24, 17 * 16] {
            assert_eq!(b.request(T_DISCARD, 0, &[(DATA, len, false)]).0, S_IOERR);
        }
    }

    #[test]
    fn bad_requests_have_their_status() {
        let mut b = Bench::new();
        assert_eq!(b.request(T_IN, 127, &[(DATA, 1024, true)]), (S_IOERR, 1));
        assert_eq!(b.request(T_IN, u64::MAX, &[(DATA, 512, true)]).0, S_IOERR);
        assert_eq!(b.request(T_IN, 0, &[(DATA, 100, true)]).0, S_IOERR);
        assert_eq!(b.request(T_OUT, 128, &[(DATA, 512, false)]).0, S_IOERR);
        assert_eq!(b.request(2, 0, &[]).0, S_UNSUPP, "SCSI commands of old drivers");
        let mut b = Bench::with(ALL & !(DISCARD | WRITE_ZEROES), true);
        assert_eq!(b.request(T_OUT, 0, &[(DATA, 512, false)]).0, S_IOERR);
        assert_eq!(b.disk.device().features() & RO, RO);
    }

    #[test]
    fn id_is_the_serial_number() {
        let mut b = Bench::new();
        assert_eq!(b.request(T_GET_ID, 0, &[(DATA, 20, true)]), (S_OK, 21));
        assert_eq!(&get::<20>(&b.board, DATA)[..10], b"AERO-0001\0");
    }

    #[test]
    fn configuration_says_size_and_limits() {
        let mut b = Bench::new();
        let fields = [(0, 128), (12, 254), (20, 512), (34, 2), (36, MAX_RANGE_SECTORS), (56, 1)];
        for (at, value) in fields {
            let width = if at == 34 { Width::B2 } else { Width::B4 };
            assert_eq!(read(&mut b.board, &mut b.disk, 0x3000 + at, width), u64::from(value), "at {at}");
        }
    }

    #[test]
    fn requests_end_in_the_drives_order_on_their_own_queues() {
        let mut b = Bench::new();
        let mut heads = Vec::new();
        for n in 0..6 {
            let queue = n as usize % 2;
            heads.push(b.offer(queue, T_IN, n, &[(DATA + 512 * n, 512, true)], STATUS + n));
        }
        write(&mut b.board, &mut b.disk, 0x1000, Width::B2, 0);
        write(&mut b.board, &mut b.disk, 0x1004, Width::B2, 1);
        let mut requests = b.board.fabric.take_transfers();
        assert_eq!((requests.len(), b.disk.device().is_busy()), (6, true), "one for each");
        requests.reverse();
        for (_, request) in requests {
            let offset = request.operation.extent().unwrap().0;
            let result = Ok(b.bytes()[offset as usize..][..512].to_vec());
            let done = Completion { drive: request.drive, id: request.id, result };
            b.disk.complete(&mut b.board.cx(), done);
        }
        for (queue, order) in [(0, [4, 2, 0]), (1, [5, 3, 1])] {
            for n in order {
                assert_eq!(b.rings[queue].take(&mut b.board), Some((heads[n], 513)));
                assert_eq!(get(&b.board, DATA + 512 * n as u64), [n as u8; 512]);
            }
        }
        assert!(!b.disk.device().is_busy());
    }

    #[test]
    fn end_of_a_request_from_before_a_reset_touches_nothing() {
        let mut b = Bench::new();
        b.offer(0, T_IN, 3, &[(DATA, 512, true)], STATUS);
        write(&mut b.board, &mut b.disk, 0x1000, Width::B2, 0);
        write(&mut b.board, &mut b.disk, 0x14, Width::B1, 0);
        b.board.serve(&mut b.disk);
        assert_eq!((get(&b.board, DATA), get(&b.board, STATUS)), ([0; 512], [0xee]));
        assert_eq!(b.rings[0].take(&mut b.board), None);
    }

    #[test]
    fn buffers_without_room_or_outside_memory_need_a_reset() {
        let bad: [&[Part]; 5] = [
            &[(HEAD, 16, false)],
            &[(HEAD, 8, false), (STATUS, 1, true)],
            &[(HEAD, 16, false), (u64::MAX - 700, 512, true), (STATUS, 1, true)],
            &[(HEAD, 16, false), (DATA, 512, true), (0x7000_0000, 1, true)],
            &[(0x7000_0000, 16, false), (STATUS, 1, true)],
        ];
        for parts in bad {
            let mut b = Bench::new();
            b.rings[0].offer(&mut b.board, parts);
            kick(&mut b.board, &mut b.disk, 0);
            assert_eq!((b.status(), b.disk.device().is_busy()), (0x4f, false));
        }
        let mut b = Bench::new();
        assert_eq!(b.request(T_IN, 0, &[(DATA, 1 << 31, true)]).0, S_IOERR, "a giant is refused unallocated");
        assert_eq!(b.request(T_OUT, 0, &[(DATA, 1 << 31, false)]).0, S_IOERR);
    }

    #[test]
    fn saved_while_idle_goes_on() {
        let mut b = Bench::with(ALL | CONFIG_WCE, false);
        write(&mut b.board, &mut b.disk, 0x3020, Width::B1, 0);
        b.request(T_IN, 1, &[(DATA, 512, true)]);
        let saved = b.disk.save();
        let line = b.board.line();
        let medium = Medium { bytes: 128 * 512, read_only: false };
        let device = VirtioBlk::new(DriveId(0), medium, "AERO-0001", 2);
        b.disk = VirtioPci::new(device, Interface::Transitional, line);
        b.disk.restore(&saved).unwrap();
        assert_eq!(b.request(T_OUT, 1, &[(DATA, 512, false)]), (S_OK, 1));
        assert_eq!(b.board.disks[0].flushes, 1);
    }

    /// The device's own cost, without a processor: what the goal leaves to the rest of the machine.
    #[test]
    #[ignore = "measures time"]
    fn speed() {
        let mut b = Bench::new();
        let began = std::time::Instant::now();
        for _ in 0..2_000 {
            for n in 0..32 {
                b.offer(0, T_IN, n, &[(DATA + 0x1000 * n, 4096, true)], STATUS + n);
            }
            kick(&mut b.board, &mut b.disk, 0);
            assert!((0..32).all(|_| b.rings[0].take(&mut b.board).is_some()));
        }
        let requests = 64_000.0 / began.elapsed().as_secs_f64();
        println!(
            "virtio-blk, 4 KiB reads at depth 32: {:.0} k/s, {:.0} MB/s",
            requests / 1e3,
            requests * 4096.0 / 1e6
        );
        assert!(requests > 200_000.0);
    }
}
