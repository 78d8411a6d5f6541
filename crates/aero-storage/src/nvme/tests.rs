//! The controller, driven through registers and rings as a driver does.

use super::*;
use aero_bus::ApicMessage;
use aero_bus::bench::{TestBoard, conformance};
use aero_bus::block::{BlockError, MemoryDisk, Operation};
use aero_mem::Gpa;
use aero_state::Saved;

const ASQ_AT: u64 = 0x1_0000;
const ACQ_AT: u64 = 0x1_1000;
const IO_SQ: u64 = 0x2_0000;
const IO_CQ: u64 = 0x4_0000;
const DATA: u64 = 0x10_0000;
const LIST: u64 = 0x6_0000;
const SECTORS: u64 = 4096;

/// A ring pair as the driver sees it.
#[derive(Clone, Copy)]
struct Pair {
    n: u64,
    sq: u64,
    cq: u64,
    size: u32,
    tail: u32,
    head: u32,
    phase: u32,
}

/// A completion as the driver sees it.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
struct Seen {
    id: u16,
    status: u16,
    result: u32,
    sq_head: u16,
}

struct Bench {
    board: TestBoard,
    nvme: Nvme,
    line: IrqLine,
    admin: Pair,
    io: Pair,
}

fn pair(n: u64, size: u32) -> Pair {
    let (sq, cq) = if n == 0 { (ASQ_AT, ACQ_AT) } else { (IO_SQ + 0x4000 * n, IO_CQ + 0x1000 * n) };
    Pair { n, sq, cq, size, tail: 0, head: 0, phase: 1 }
}

/// A command's dwords: opcode and id, namespace, first data pointer, second, and dwords 10 to 12.
fn command(opcode: u8, id: u16, prp: [u64; 2], rest: [u32; 3]) -> [u32; 16] {
    let mut c = [0; 16];
    c[0] = u32::from(opcode) | u32::from(id) << 16;
    c[1] = 1;
    for (n, p) in prp.into_iter().enumerate() {
        (c[6 + 2 * n], c[7 + 2 * n]) = (p as u32, (p >> 32) as u32);
    }
    c[10..13].copy_from_slice(&rest);
    c
}

/// A transfer of `count` blocks from `lba` on.
fn transfer(opcode: u8, lba: u32, count: u32, prp: [u64; 2]) -> [u32; 16] {
    command(opcode, 0, prp, [lba, 0, count - 1])
}

impl Bench {
    fn bare(read_only: bool) -> Self {
        let mut board = TestBoard::new();
        let bytes: Vec<u8> = (0..SECTORS * 512).map(|i| (i / 512 * 7) as u8).collect();
        let disk = MemoryDisk::new(bytes, read_only);
        let medium = aero_bus::block::BlockBackend::medium(&disk);
        let drive = board.attach(disk);
        let line = board.line();
        let mut nvme = Nvme::new(drive, medium, "AERO0001", line);
        nvme.config.write(0x10, 0xf000_0000, 0xf);
        nvme.config.write(4, 6, 3);
        nvme.config_written(&mut board.cx(), 4);
        Self { board, nvme, line, admin: pair(0, 16), io: pair(1, 64) }
    }

    /// Enabled, with one pair of I/O queues.
    fn with(read_only: bool) -> Self {
        let mut b = Self::bare(read_only);
        b.enable();
        let io = b.io;
        b.make_pair(io);
        b
    }

    fn new() -> Self {
        Self::with(false)
    }

    fn read(&mut self, offset: u64, width: Width) -> u64 {
        Mmio::read(&mut self.nvme, &mut self.board.cx(), At::new(0, offset), width).unwrap()
    }

    fn write(&mut self, offset: u64, value: u64) {
        Mmio::write(&mut self.nvme, &mut self.board.cx(), At::new(0, offset), Width::B4, value).unwrap();
    }

    fn enable(&mut self) {
        self.write(AQA, 0x000f_000f);
        self.write(ASQ, ASQ_AT);
        self.write(ACQ, ACQ_AT);
        self.write(CC, 0x0046_0001);
        assert_eq!(self.read(0x1c, Width::B4), 1);
    }

    fn make_pair(&mut self, p: Pair) {
        let (n, last) = (p.n as u32, (p.size - 1) << 16);
        assert_eq!(self.administer(command(CREATE_CQ, 0, [p.cq, 0], [last | n, n << 16 | 3, 0])).status, 0);
        assert_eq!(self.administer(command(CREATE_SQ, 0, [p.sq, 0], [last | n, n << 16 | 1, 0])).status, 0);
    }

    fn queue(&mut self, p: &mut Pair, dwords: [u32; 16]) {
        let bytes: Vec<u8> = dwords.iter().flat_map(|d| d.to_le_bytes()).collect();
        self.board.memory.write(Gpa(p.sq + 64 * u64::from(p.tail)), &bytes).unwrap();
        p.tail = (p.tail + 1) % p.size;
    }

    fn ring(&mut self, p: &Pair) {
        self.write(DOORBELLS + 8 * p.n, p.tail.into());
    }

    /// The next completion, without telling the controller.
    fn take(&mut self, p: &mut Pair) -> Option<Seen> {
        let bytes = self.board.memory.read_array(Gpa(p.cq + 16 * u64::from(p.head))).unwrap();
        let word = u128::from_le_bytes(bytes);
        if (word >> 112) as u32 & 1 != p.phase {
            return None;
        }
        p.head = (p.head + 1) % p.size;
        p.phase ^= u32::from(p.head == 0);
        assert_eq!((word >> 80) as u16, p.n as u16, "its submission queue");
        // The "more" bit is the controller's own business.
        let status = (word >> 113) as u16 & !0x2000;
        Some(Seen { id: (word >> 96) as u16, status, result: word as u32, sq_head: (word >> 64) as u16 })
    }

    fn serve(&mut self) {
        self.board.serve(&mut self.nvme);
    }

    fn run(&mut self, mut p: Pair, dwords: [u32; 16]) -> (Seen, Pair) {
        self.queue(&mut p, dwords);
        self.ring(&p);
        self.serve();
        let seen = self.take(&mut p).expect("completed");
        self.write(DOORBELLS + 8 * p.n + 4, p.head.into());
        (seen, p)
    }

    fn administer(&mut self, dwords: [u32; 16]) -> Seen {
        let (seen, p) = self.run(self.admin, dwords);
        self.admin = p;
        seen
    }

    fn io(&mut self, dwords: [u32; 16]) -> u16 {
        let (seen, p) = self.run(self.io, dwords);
        self.io = p;
        seen.status
    }

    fn memory<const N: usize>(&self, at: u64) -> [u8; N] {
        self.board.memory.read_array(Gpa(at)).unwrap()
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        self.board.memory.write(Gpa(at), bytes).unwrap();
    }

    fn bytes(&self) -> &[u8] {
        self.board.disks[0].bytes()
    }

    fn flushes(&self) -> u64 {
        self.board.disks[0].flushes
    }

    fn identify(&mut self, cns: u32, namespace: u32) -> (u16, [u8; 4096]) {
        let mut c = command(IDENTIFY, 0, [DATA, 0], [cns, 0, 0]);
        c[1] = namespace;
        (self.administer(c).status, self.memory(DATA))
    }

    fn feature(&mut self, id: u32) -> u32 {
        self.administer(command(GET_FEATURES, 0, [0, 0], [id, 0, 0])).result
    }

    fn set_feature(&mut self, id: u32, value: u32) -> Seen {
        self.administer(command(SET_FEATURES, 0, [0, 0], [id, value, 0]))
    }

    fn high(&self) -> bool {
        self.board.fabric.level(self.line)
    }

    /// Gives vectors 0 to 3 messages and turns MSI-X on.
    fn use_msix(&mut self) {
        for n in 0..4 {
            for (at, value) in [(0, 0xfee0_0000), (8, 0x50 + n), (12, 0)] {
                self.write(MSIX_TABLE + 16 * n + at, value);
            }
        }
        let at = self.capability(0x11);
        self.nvme.config.write(at, 0x8000_0000, 0xc);
        self.nvme.config_written(&mut self.board.cx(), at);
    }

    fn capability(&mut self, id: u8) -> u8 {
        let mut at = self.nvme.config.byte(0x34);
        while self.nvme.config.byte(at) != id {
            at = self.nvme.config.byte(at + 1);
            assert_ne!(at, 0, "capability {id:x}");
        }
        at
    }

    fn messages(&mut self) -> Vec<u32> {
        self.board.fabric.take_messages().iter().map(|ApicMessage { data, .. }| *data).collect()
    }
}

#[test]
fn conforms() {
    conformance(&[0], |board| {
        let medium = Medium { bytes: 1 << 20, read_only: false };
        Nvme::new(DriveId(0), medium, "x", board.line())
    });
}

#[test]
fn identity_is_that_of_a_controller_every_driver_binds() {
    let mut b = Bench::bare(false);
    assert_eq!((b.nvme.config.read(0), b.nvme.config.read(8) >> 8), (0x0010_1b36, 0x01_0802));
    assert_eq!((b.read(8, Width::B4), b.read(0, Width::B4) & 0xffff), (0x0001_0400, 1023));
    b.enable();
    let (status, page) = b.identify(1, 0);
    assert_eq!(
        (status, &page[4..12], page[77], &page[512..514]),
        (0, &b"AERO0001"[..], 8, &[0x66, 0x44][..])
    );
    let (status, page) = b.identify(0, 1);
    assert_eq!((status, &page[..8], &page[128..132]), (0, &SECTORS.to_le_bytes()[..], &[0, 0, 9, 0][..]));
    let (status, page) = b.identify(2, 0);
    assert_eq!((status, &page[..8]), (0, &[1, 0, 0, 0, 0, 0, 0, 0][..]));
    assert_eq!(b.identify(2, 1).1[..4], [0; 4]);
    let (status, page) = b.identify(3, 1);
    assert_eq!((status, page[0], page[1], page[4] & 3, page[12]), (0, 1, 8, 2, 0));
    for (cns, namespace, status) in [(0, 2, 0x400b), (3, 0, 0x400b), (2, u32::MAX, 0x400b), (0x99, 1, 0x4002)]
    {
        assert_eq!(b.identify(cns, namespace).0, status);
    }
}

#[test]
fn unsound_configuration_is_fatal_until_disabled() {
    for (aqa, cc) in [(0, 0x0046_0001), (0x000f_000f, 0x0046_0781), (0x000f_000f, 0x0046_0011)] {
        let mut b = Bench::bare(false);
        b.write(AQA, aqa);
        b.write(CC, cc);
        assert_eq!(b.read(0x1c, Width::B4), 2);
        b.write(CC, 0);
        assert_eq!(b.read(0x1c, Width::B4), 0);
    }
}

#[test]
fn pages_and_lists_of_them_scatter_and_gather() {
    let mut b = Bench::new();
    // One page with an offset; two pages; a list; a list that begins at the last entry of its page.
    assert_eq!(b.io(transfer(READ, 3, 1, [DATA + 0x204, 0])), 0);
    assert_eq!(b.memory(DATA + 0x204), [21; 512]);
    assert_eq!(b.io(transfer(READ, 8, 9, [DATA + 0xe00, DATA + 0x8000])), 0);
    assert_eq!((b.memory(DATA + 0xe00), b.memory(DATA + 0x8000)), ([56; 512], [63; 512]));
    let entries: Vec<u8> = (0..512u64).flat_map(|n| (DATA + 0x1000 * (n ^ 1)).to_le_bytes()).collect();
    b.put(LIST, &entries);
    assert_eq!(b.io(transfer(READ, 0, 128, [DATA + 0x4_0000, LIST])), 0);
    for n in 1..16 {
        let page = DATA + 0x1000 * ((n - 1) ^ 1);
        assert_eq!(b.memory(page), [(n * 8 * 7) as u8; 512], "page {n}");
    }
    b.put(LIST + 0x1ff8, &LIST.to_le_bytes());
    assert_eq!(b.io(transfer(READ, 64, 128, [DATA + 0x5_0000, LIST + 0x1ff8])), 0);
    assert_eq!(b.memory(DATA + 0x1000), [(72u32 * 7) as u8; 512]);

    for n in 0..128 {
        b.put(DATA + 512 * n, &[n as u8 ^ 0x5a; 512]);
    }
    let straight: Vec<u8> = (1..16u64).flat_map(|n| (DATA + 0x1000 * n).to_le_bytes()).collect();
    b.put(LIST, &straight);
    assert_eq!(b.io(transfer(WRITE, 1000, 128, [DATA, LIST])), 0);
    for n in 0..128 {
        assert_eq!(b.bytes()[(1000 + n) * 512..][..512], [n as u8 ^ 0x5a; 512]);
    }
}

#[test]
fn data_pointers_that_cannot_be_have_their_status() {
    let mut b = Bench::new();
    let far = 0x7000_0000;
    let cases = [
        (transfer(READ, 0, 1, [DATA + 1, 0]), 0x4013),
        (transfer(READ, 0, 9, [DATA, DATA + 0x200]), 0x4013),
        (transfer(READ, 0, 64, [DATA, LIST + 4]), 0x4013),
        (transfer(READ, 0, 1, [far, 0]), 0x0004),
        (transfer(WRITE, 0, 1, [far, 0]), 0x0004),
        (transfer(READ, 0, 64, [DATA, far]), 0x0004),
        (transfer(READ, 0, 64, [DATA, u64::MAX - 7]), 0x0004),
        (transfer(COMPARE, 0, 1, [far, 0]), 0x0004),
    ];
    for (n, (c, status)) in cases.into_iter().enumerate() {
        assert_eq!(b.io(c), status, "case {n}");
        assert!(!b.nvme.is_busy());
    }
    // A list that points to itself from its last entry.
    b.put(LIST + 0xff8, &(LIST + 0xff8).to_le_bytes());
    assert_eq!(b.io(transfer(READ, 0, 64, [DATA, LIST + 0xff8])), 0x4013);
    // And one of entries that are no pages.
    b.put(LIST, &[0x11; 4096]);
    assert_eq!(b.io(transfer(READ, 0, 64, [DATA, LIST])), 0x4013);
    // Scatter-gather lists and fused commands.
    for bits in [0x4000, 0x8000, 0x100] {
        let mut c = transfer(READ, 0, 1, [DATA, 0]);
        c[0] |= bits;
        assert_eq!(b.io(c), 0x4002);
    }
}

#[test]
fn commands_that_cannot_be_have_their_status() {
    let mut b = Bench::new();
    let mut other = transfer(READ, 0, 1, [DATA, 0]);
    other[1] = 2;
    let mut all = other;
    all[1] = ALL_NAMESPACES;
    let mut huge = transfer(READ, 0, 1, [DATA, 0]);
    (huge[10], huge[11]) = (u32::MAX, u32::MAX);
    let cases = [
        (transfer(READ, SECTORS as u32, 1, [DATA, 0]), 0x4080),
        (transfer(WRITE, SECTORS as u32 - 1, 2, [DATA, 0]), 0x4080),
        (transfer(WRITE_ZEROES, 1, SECTORS as u32, [0, 0]), 0x4080),
        (huge, 0x4080),
        (transfer(READ, 0, 2049, [DATA, LIST]), 0x4002),
        (other, 0x400b),
        (all, 0x400b),
        (command(0x7f, 0, [0, 0], [0, 0, 0]), 0x4001),
        (command(0x04, 0, [0, 0], [0, 0, 0]), 0x4001),
    ];
    for (n, (c, status)) in cases.into_iter().enumerate() {
        assert_eq!(b.io(c), status, "case {n}");
    }
    // Format, firmware download and commit, namespace management, security.
    for opcode in [0x80, 0x10, 0x11, 0x0d, 0x15, 0x81, 0x82, 0x7c] {
        assert_eq!(b.administer(command(opcode, 0, [DATA, 0], [0, 0, 0])).status, 0x4001);
    }
    let mut b = Bench::with(true);
    for c in [transfer(WRITE, 0, 1, [DATA, 0]), transfer(WRITE_ZEROES, 0, 1, [0, 0])] {
        assert_eq!(b.io(c), 0x4020);
    }
    assert_eq!(b.identify(0, 1).1[99], 1);
}

#[test]
fn failures_of_the_drive_have_their_status() {
    let cases = [
        (READ, BlockError::Medium, 0x0281),
        (WRITE, BlockError::Medium, 0x0280),
        (WRITE, BlockError::NoSpace, 0x0081),
        (WRITE, BlockError::ReadOnly, 0x4020),
        (READ, BlockError::OutOfRange, 0x4080),
    ];
    for (opcode, error, status) in cases {
        let mut b = Bench::new();
        let mut p = b.io;
        b.queue(&mut p, transfer(opcode, 0, 1, [DATA, 0]));
        b.ring(&p);
        let (_, request) = b.board.fabric.take_transfers().remove(0);
        let done = Ended { drive: request.drive, id: request.id, result: Err(error) };
        b.nvme.complete(&mut b.board.cx(), done);
        assert_eq!(b.take(&mut p).unwrap().status, status);
    }
}

#[test]
fn flush_fua_and_a_write_cache_that_is_off_make_writes_last() {
    let mut b = Bench::new();
    b.io(transfer(WRITE, 0, 1, [DATA, 0]));
    assert_eq!(b.flushes(), 0);
    let mut all = command(FLUSH, 0, [0, 0], [0, 0, 0]);
    all[1] = ALL_NAMESPACES;
    assert_eq!((b.io(command(FLUSH, 0, [0, 0], [0, 0, 0])), b.io(all), b.flushes()), (0, 0, 2));
    let mut forced = transfer(WRITE, 0, 1, [DATA, 0]);
    forced[12] |= FUA;
    assert_eq!((b.io(forced), b.flushes()), (0, 3));
    assert_eq!((b.set_feature(6, 0).status, b.feature(6)), (0, 0));
    assert_eq!((b.io(transfer(WRITE, 0, 1, [DATA, 0])), b.flushes()), (0, 4));
    assert_eq!((b.io(transfer(WRITE_ZEROES, 0, 1, [0, 0])), b.flushes()), (0, 5));
}

#[test]
fn compare_verify_zero_and_deallocate_do_what_they_say() {
    let mut b = Bench::new();
    b.put(DATA, &[35; 512]);
    assert_eq!(b.io(transfer(COMPARE, 5, 1, [DATA, 0])), 0);
    b.put(DATA + 511, &[0]);
    assert_eq!(b.io(transfer(COMPARE, 5, 1, [DATA, 0])), 0x4285);
    assert_eq!(b.io(transfer(VERIFY, 5, 100, [0, 0])), 0);
    assert_eq!(b.io(transfer(WRITE_ZEROES, 5, 2, [0, 0])), 0);
    assert_eq!((b.bytes()[5 * 512], b.bytes()[6 * 512 + 511], b.bytes()[7 * 512]), (0, 0, 49));
    let range = |first: u64, count: u64| (u128::from(first) << 64 | u128::from(count) << 32).to_le_bytes();
    b.put(DATA, &[range(10, 2), range(20, 0), range(30, 1)].concat());
    assert_eq!(b.io(command(DATASET_MANAGEMENT, 0, [DATA, 0], [2, 0, 0])), 0);
    assert_eq!(b.bytes()[10 * 512], 70, "hints alone change nothing");
    assert_eq!(b.io(command(DATASET_MANAGEMENT, 0, [DATA, 0], [2, 4, 0])), 0);
    let firsts = [10, 11, 12, 20, 30, 31].map(|n| b.bytes()[n * 512]);
    assert_eq!(firsts, [0, 0, 84, 140, 0, 217]);
    b.put(DATA, &range(SECTORS, 1));
    assert_eq!(b.io(command(DATASET_MANAGEMENT, 0, [DATA, 0], [0, 4, 0])), 0x4080);
}

#[test]
fn queues_are_made_and_deleted_by_the_rules() {
    let mut b = Bench::new();
    let cq =
        |n: u32, last: u32, flags: u32, at: u64| command(CREATE_CQ, 0, [at, 0], [last << 16 | n, flags, 0]);
    let sq =
        |n: u32, last: u32, flags: u32, at: u64| command(CREATE_SQ, 0, [at, 0], [last << 16 | n, flags, 0]);
    let delete = |opcode: u8, n: u32| command(opcode, 0, [0, 0], [n, 0, 0]);
    let cases = [
        (cq(0, 7, 1, IO_CQ), 0x4101),
        (cq(1, 7, 1, IO_CQ), 0x4101),
        (cq(33, 7, 1, IO_CQ), 0x4101),
        (cq(2, 0, 1, IO_CQ), 0x4102),
        (cq(2, 1024, 1, IO_CQ), 0x4102),
        (cq(2, 7, 0, IO_CQ), 0x4002),
        (cq(2, 7, 1, IO_CQ + 8), 0x4013),
        (cq(2, 7, 33 << 16 | 3, IO_CQ), 0x4108),
        (sq(2, 7, 2 << 16 | 1, IO_SQ), 0x4100),
        (sq(2, 7, 1, IO_SQ), 0x4100),
        (sq(1, 7, 1 << 16 | 1, IO_SQ), 0x4101),
        (delete(DELETE_CQ, 1), 0x410c),
        (delete(DELETE_CQ, 0), 0x4101),
        (delete(DELETE_SQ, 0), 0x4101),
        (delete(DELETE_SQ, 2), 0x4101),
        (delete(DELETE_SQ, 0xffff), 0x4101),
        (delete(DELETE_SQ, 1), 0),
        (delete(DELETE_CQ, 1), 0),
    ];
    for (n, (c, status)) in cases.into_iter().enumerate() {
        assert_eq!(b.administer(c).status, status, "case {n}");
    }
}

#[test]
fn sixteen_pairs_work_each_with_its_own_vector() {
    let mut b = Bench::bare(false);
    b.enable();
    b.use_msix();
    assert_eq!(b.set_feature(7, 0x000f_000f).result, 0x000f_000f);
    let mut pairs: Vec<Pair> = (1..=15).map(|n| pair(n, 32)).collect();
    for p in &mut pairs {
        (p.sq, p.cq) = (IO_SQ + 0x1000 * p.n, IO_CQ + 0x1000 * p.n);
        b.make_pair(*p);
    }
    b.messages();
    for p in &mut pairs {
        b.queue(p, transfer(READ, p.n as u32, 1, [DATA + 0x1000 * p.n, 0]));
        b.ring(p);
    }
    b.serve();
    for p in &mut pairs {
        assert_eq!(b.take(p).unwrap().status, 0);
        assert_eq!(b.memory(DATA + 0x1000 * p.n), [p.n as u8 * 7; 512]);
    }
    assert_eq!(b.messages(), [0x51, 0x52, 0x53], "the others are masked");
    assert_eq!(b.read(MSIX_PBA, Width::B4), 0xfff0);
    assert_eq!(b.set_feature(7, 0).status, 0x400c, "too late");
}

#[test]
fn features_have_defaults_values_and_limits() {
    let mut b = Bench::bare(false);
    b.enable();
    assert_eq!(b.set_feature(7, 0x00ff_0003).result, 0x001f_0003);
    assert_eq!((b.feature(7), b.set_feature(7, 0xffff).status), (0x001f_0003, 0x4002));
    for (id, value) in [(1, 0x0102_0306), (5, 7), (8, 0x0a05), (10, 1), (11, 0x1f)] {
        assert_eq!((b.set_feature(id, value).status, b.feature(id)), (0, value), "feature {id}");
    }
    assert_eq!((b.feature(4), b.feature(2), b.feature(6)), (343, 0, 1));
    b.set_feature(4, 1 << 20 | 300);
    assert_eq!(b.administer(command(GET_FEATURES, 0, [0, 0], [4, 1 << 20, 0])).result, 300);
    b.set_feature(9, 1 << 16 | 5);
    assert_eq!(b.administer(command(GET_FEATURES, 0, [0, 0], [9, 5, 0])).result, 0x1_0005);
    assert_eq!(b.administer(command(GET_FEATURES, 0, [0, 0], [0x106, 0, 0])).result, 1, "the default");
    assert_eq!(b.administer(command(GET_FEATURES, 0, [0, 0], [0x306, 0, 0])).result, 4, "changeable");
    let bad = [(0x8000_0006, 0, 0x410d), (2, 1, 0x4002), (0x7f, 0, 0x4002), (9, 33, 0x4002)];
    for (id, value, status) in bad {
        assert_eq!(b.set_feature(id, value).status, status);
    }
}

#[test]
fn logs_tell_of_errors_use_and_firmware() {
    let mut b = Bench::new();
    let log = |id: u32, dwords: u32| command(GET_LOG_PAGE, 0, [DATA, 0], [(dwords - 1) << 16 | id, 0, 0]);
    b.io(transfer(READ, 0, 8, [DATA, 0]));
    b.io(transfer(WRITE, 0, 1, [DATA, 0]));
    b.io(transfer(READ, SECTORS as u32 + 5, 1, [DATA, 0]));
    assert_eq!(b.administer(log(1, 32)).status, 0);
    let entry: [u8; 128] = b.memory(DATA);
    assert_eq!((entry[0], entry[8], &entry[16..20], entry[24]), (1, 1, &[5, 16, 0, 0][..], 1));
    assert_eq!((u16::from_le_bytes([entry[12], entry[13]]) >> 1 & 0x7ff, entry[64]), (0x80, 0));
    assert_eq!(b.administer(log(2, 128)).status, 0);
    let smart: [u8; 512] = b.memory(DATA);
    assert_eq!((smart[0], smart[1], smart[3], smart[32], smart[48]), (0, 54, 100, 1, 1));
    assert_eq!((smart[64], smart[80], smart[176]), (1, 1, 1));
    assert_eq!(b.administer(log(3, 128)).status, 0);
    assert_eq!(b.memory::<16>(DATA)[8..12], *b"1.0 ");
    let mut tail = log(3, 2);
    tail[12] = 8;
    assert_eq!((b.administer(tail).status, b.memory(DATA)), (0, *b"1.0     "));
    tail[12] = 516;
    assert_eq!((b.administer(tail).status, b.administer(log(0x70, 1)).status), (0x4002, 0x4109));
}

#[test]
fn events_wait_for_requests_and_for_their_log_to_be_read() {
    let mut b = Bench::new();
    let request = |id: u16| command(ASYNC_EVENT, id, [0, 0], [0, 0, 0]);
    let mut p = b.admin;
    for id in 40..45 {
        b.queue(&mut p, request(id));
    }
    b.ring(&p);
    let over = b.take(&mut p).unwrap();
    assert_eq!((over.id, over.status), (44, 0x4105), "one too many");
    b.write(DOORBELLS + 8 * 9, 1);
    b.write(DOORBELLS + 8, 64);
    let seen = b.take(&mut p).unwrap();
    assert_eq!((seen.id, seen.status, seen.result), (40, 0, 0x0001_0000), "invalid doorbell");
    assert_eq!(b.take(&mut p), None, "silent until the log is read");
    b.admin = p;
    b.queue(&mut p, command(GET_LOG_PAGE, 7, [DATA, 0], [1, 0, 0]));
    b.ring(&p);
    let order = [b.take(&mut p).unwrap(), b.take(&mut p).unwrap()].map(|s| (s.id, s.result));
    assert!(order.contains(&(41, 0x0001_0100)) && order.contains(&(7, 0)), "invalid value: {order:x?}");
    b.admin = p;
    // A temperature above its threshold, once that is to be told.
    assert_eq!(b.set_feature(4, 300).status, 0);
    b.queue(&mut p.clone(), request(0));
    p = b.admin;
    b.queue(&mut p, command(SET_FEATURES, 8, [0, 0], [11, 2, 0]));
    b.ring(&p);
    let order = [b.take(&mut p).unwrap(), b.take(&mut p).unwrap()].map(|s| (s.id, s.result));
    assert!(order.contains(&(42, 0x0002_0101)), "{order:x?}");
    // The last request can be aborted; another command cannot.
    b.admin = p;
    b.queue(&mut p, command(ABORT, 9, [0, 0], [43 << 16, 0, 0]));
    b.ring(&p);
    let order = [b.take(&mut p).unwrap(), b.take(&mut p).unwrap()].map(|s| (s.id, s.status, s.result));
    assert_eq!(order, [(43, 7, 0), (9, 0, 0)]);
    b.admin = p;
    assert_eq!(b.administer(command(ABORT, 9, [0, 0], [5 << 16 | 1, 0, 0])).result, 1);
}

#[test]
fn pin_is_high_while_completions_wait_and_are_not_masked() {
    let mut b = Bench::new();
    assert!(!b.high());
    let mut p = b.io;
    b.queue(&mut p, transfer(READ, 0, 1, [DATA, 0]));
    b.ring(&p);
    assert!(!b.high());
    b.serve();
    assert!(b.high());
    b.write(INTMS, 1);
    assert_eq!((b.high(), b.read(INTMC, Width::B4)), (false, 1));
    b.write(INTMC, 1);
    assert!(b.high());
    b.nvme.config.write(4, 0x406, 3);
    b.nvme.config_written(&mut b.board.cx(), 4);
    assert!(!b.high(), "the command register's interrupt disable");
    b.nvme.config.write(4, 6, 3);
    b.nvme.config_written(&mut b.board.cx(), 4);
    assert!(b.high());
    b.write(DOORBELLS + 12, 1);
    assert!(!b.high());
}

#[test]
fn one_message_is_sent_by_msi_and_waits_while_masked() {
    let mut b = Bench::new();
    let msi = b.capability(5);
    b.nvme.config.write(msi + 4, 0xfee0_0000, 0xf);
    b.nvme.config.write(msi + 12, 0x61, 0xf);
    b.nvme.config.write(msi, 1 << 16, 0xf);
    b.nvme.config_written(&mut b.board.cx(), msi);
    b.io(transfer(READ, 0, 1, [DATA, 0]));
    assert_eq!((b.messages(), b.high()), (vec![0x61], false));
    b.write(INTMS, 1);
    let mut p = b.io;
    b.queue(&mut p, transfer(READ, 0, 1, [DATA, 0]));
    b.ring(&p);
    b.serve();
    assert_eq!(b.messages(), []);
    b.write(INTMC, 1);
    assert_eq!(b.messages(), [0x61]);
}

#[test]
fn full_completion_queue_holds_everything_back_and_loses_nothing() {
    let mut b = Bench::bare(false);
    b.enable();
    let mut p = pair(1, 64);
    assert_eq!(b.administer(command(CREATE_CQ, 0, [p.cq, 0], [3 << 16 | 1, 1, 0])).status, 0);
    assert_eq!(b.administer(command(CREATE_SQ, 0, [p.sq, 0], [63 << 16 | 1, 1 << 16 | 1, 0])).status, 0);
    for id in 0..40 {
        b.queue(&mut p, command(READ, id, [DATA, 0], [0, 0, 0]));
    }
    b.ring(&p);
    b.serve();
    let mut ring = Pair { size: 4, ..p };
    for id in 0..40 {
        let seen = b.take(&mut ring).expect("one more");
        assert_eq!((seen.id, seen.status), (id, 0));
        b.write(DOORBELLS + 12, ring.head.into());
        b.serve();
    }
    assert_eq!(b.take(&mut ring), None);
}

#[test]
fn ends_come_in_the_drives_order() {
    let mut b = Bench::new();
    let mut p = b.io;
    for id in 0..32 {
        b.queue(&mut p, command(READ, id, [DATA + 512 * u64::from(id), 0], [id.into(), 0, 0]));
    }
    b.ring(&p);
    let mut requests = b.board.fabric.take_transfers();
    assert_eq!(requests.len(), 32, "one for each command");
    requests.reverse();
    for (_, request) in requests {
        let Operation::Read { offset, len } = request.operation else { panic!("a read") };
        let result = Ok(b.bytes()[offset as usize..][..len as usize].to_vec());
        b.nvme.complete(&mut b.board.cx(), Ended { drive: request.drive, id: request.id, result });
    }
    for id in (0..32).rev() {
        let seen = b.take(&mut p).unwrap();
        assert_eq!((seen.id, seen.status, seen.sq_head), (id, 0, 32));
        assert_eq!(b.memory(DATA + 512 * u64::from(id)), [(id * 7) as u8; 512]);
    }
}

#[test]
fn deleting_a_queue_ends_its_commands_and_their_data_never_comes() {
    let mut b = Bench::new();
    let mut p = b.io;
    b.queue(&mut p, command(READ, 77, [DATA, 0], [9, 0, 0]));
    b.ring(&p);
    let late = b.board.fabric.take_transfers();
    assert_eq!(b.administer(command(DELETE_SQ, 0, [0, 0], [1, 0, 0])).status, 0);
    let seen = b.take(&mut p).unwrap();
    assert_eq!((seen.id, seen.status), (77, 8));
    for (_, request) in late {
        let done = Ended { drive: request.drive, id: request.id, result: Ok(vec![0xee; 512]) };
        b.nvme.complete(&mut b.board.cx(), done);
    }
    assert_eq!((b.memory(DATA), b.take(&mut p)), ([0; 512], None));
}

#[test]
fn controller_reset_forgets_commands_and_queues() {
    let mut b = Bench::new();
    let mut p = b.io;
    b.queue(&mut p, transfer(READ, 9, 1, [DATA, 0]));
    b.ring(&p);
    b.write(CC, 0x0046_0000);
    assert_eq!((b.read(0x1c, Width::B4), b.nvme.is_busy()), (0, false));
    b.serve();
    assert_eq!(b.memory(DATA), [0; 512]);
    b.put(ASQ_AT, &[0; 4096]);
    b.put(ACQ_AT, &[0; 4096]);
    b.admin = pair(0, 16);
    b.enable();
    let io = b.io;
    b.put(io.cq, &[0; 4096]);
    b.make_pair(io);
    assert_eq!(b.io(transfer(READ, 9, 1, [DATA, 0])), 0);
}

#[test]
fn shutdown_flushes_before_it_says_so() {
    let mut b = Bench::new();
    b.write(CC, 0x0046_4001);
    assert_eq!(b.read(0x1c, Width::B4), 5, "under way");
    b.serve();
    assert_eq!((b.read(0x1c, Width::B4), b.flushes()), (9, 1));
    b.write(CC, 0);
    assert_eq!(b.read(0x1c, Width::B4), 0);
}

#[test]
fn queues_outside_memory_are_fatal_and_do_not_panic() {
    for (asq, acq) in [(0x7000_0000, ACQ_AT), (ASQ_AT, 0x7000_0000), (!0xfff, ACQ_AT)] {
        let mut b = Bench::bare(false);
        b.write(AQA, 0x000f_000f);
        b.write(ASQ, asq & 0xffff_ffff);
        b.write(ASQ + 4, asq >> 32);
        b.write(ACQ, acq);
        b.write(CC, 0x0046_0001);
        b.write(DOORBELLS, 1);
        assert_eq!(b.read(0x1c, Width::B4) & 2, 2);
        b.write(DOORBELLS, 2);
        b.write(CC, 0);
        assert_eq!(b.read(0x1c, Width::B4), 0);
    }
}

#[test]
fn garbage_in_queues_never_panics() {
    let mut seed = 0x1234_5678_9abc_def1_u64;
    for _ in 0..200 {
        let mut b = Bench::new();
        for at in [ASQ_AT + 0xc0, IO_SQ + 0x4000] {
            let mut garbage = vec![0; 0x340];
            for byte in &mut garbage {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = if seed >> 62 == 0 { (seed >> 40) as u8 } else { (seed >> 40) as u8 & 0xf };
                if seed >> 61 & 1 == 0 {
                    *byte = 0;
                }
            }
            b.put(at, &garbage);
        }
        b.write(DOORBELLS, 15);
        b.write(DOORBELLS + 8, 13);
        b.serve();
        b.write(DOORBELLS + 4, 9);
        b.write(DOORBELLS + 12, 5);
        b.serve();
        assert!(!b.nvme.is_busy());
    }
}

#[test]
fn nothing_is_fetched_until_the_function_is_a_bus_master() {
    let mut b = Bench::new();
    b.nvme.config.write(4, 2, 3);
    b.nvme.config_written(&mut b.board.cx(), 4);
    let mut p = b.io;
    b.queue(&mut p, transfer(READ, 9, 1, [DATA, 0]));
    b.ring(&p);
    b.serve();
    assert_eq!(b.take(&mut p), None);
    b.nvme.config.write(4, 6, 3);
    b.nvme.config_written(&mut b.board.cx(), 4);
    b.serve();
    assert_eq!(b.take(&mut p).unwrap().status, 0);
}

#[test]
fn saved_while_idle_goes_on() {
    let mut b = Bench::new();
    b.set_feature(6, 0);
    b.io(transfer(READ, 1, 1, [DATA, 0]));
    let saved = b.nvme.save();
    let mut twin = Nvme::new(b.nvme.drive, b.nvme.medium, "AERO0001", b.line);
    twin.restore(&saved).unwrap();
    assert_eq!(twin.save(), saved);
    b.nvme = twin;
    assert_eq!((b.io(transfer(WRITE, 2, 1, [DATA, 0])), b.flushes()), (0, 1));
    assert_eq!(b.bytes()[2 * 512], 7);
}

#[test]
fn head_beyond_what_was_completed_is_an_invalid_value_and_is_not_taken() {
    for head in [2, 63, 64, 0xffff] {
        let mut b = Bench::new();
        let mut p = b.admin;
        b.queue(&mut p, command(ASYNC_EVENT, 40, [0, 0], [0, 0, 0]));
        b.ring(&p);
        let mut io = b.io;
        b.queue(&mut io, transfer(READ, 0, 1, [DATA, 0]));
        b.ring(&io);
        b.serve();
        b.write(DOORBELLS + 12, head);
        assert_eq!(b.take(&mut p).map(|s| s.result), Some(0x0001_0100), "head {head}");
        b.write(DOORBELLS + 4, p.head.into());
        assert!(b.high(), "the entry still waits");
    }
}

/// The device's own cost, without a processor: what the goal leaves to the rest of the machine.
#[test]
#[ignore = "measures time"]
fn speed() {
    let mut b = Bench::new();
    let list: Vec<u8> = (1..128u64).flat_map(|n| (DATA + 0x1000 * n).to_le_bytes()).collect();
    b.put(LIST, &list);
    for (blocks, depth) in [(8, 32), (1024, 1)] {
        let (mut p, began) = (b.io, std::time::Instant::now());
        for _ in 0..64_000 / (depth * blocks / 8) {
            for id in 0..depth {
                let mut c = transfer(READ, 0, blocks, [DATA, LIST]);
                c[0] |= id << 16;
                b.queue(&mut p, c);
            }
            b.ring(&p);
            b.serve();
            assert!((0..depth).all(|_| b.take(&mut p).is_some()));
            b.write(DOORBELLS + 12, p.head.into());
        }
        b.io = p;
        let (bytes, seconds) = (64_000.0 * 4096.0, began.elapsed().as_secs_f64());
        println!("NVMe, reads of {blocks} blocks at depth {depth}: {:.0} MB/s", bytes / seconds / 1e6);
        assert!(bytes / seconds > 1e9);
    }
}
