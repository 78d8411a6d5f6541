//! The driver's end of a virtio device, for tests of devices.

use super::{VirtioDevice, VirtioPci, feature};
use crate::bench::TestBoard;
use crate::pci::PciFunction;
use crate::pci::{Bar, COMMAND_IO, COMMAND_MASTER, COMMAND_MEMORY};
use crate::{At, Device, Mmio, Width};
use aero_mem::Gpa;

/// A stretch of memory in a buffer: address, length, whether the device writes it.
pub type Part = (u64, u32, bool);

/// A split ring in test memory.
pub struct TestRing {
    base: u64,
    size: u16,
    next: u16,
    offered: u16,
    taken: u16,
}

impl TestRing {
    /// A ring of `size` entries, laid out from `base` on as old drivers do.
    pub fn new(base: u64, size: u16) -> Self {
        Self { base, size, next: 0, offered: 0, taken: 0 }
    }

    /// Where its descriptors are.
    pub fn descriptors(&self) -> u64 {
        self.base
    }

    /// Where its available ring is.
    pub fn avail(&self) -> u64 {
        self.base + 16 * u64::from(self.size)
    }

    /// Where its used ring is.
    pub fn used(&self) -> u64 {
        (self.avail() + 6 + 2 * u64::from(self.size)).next_multiple_of(4096)
    }

    /// Writes descriptor `index`.
    pub fn describe(&self, board: &mut TestBoard, index: u16, at: u64, len: u32, flags: u16, next: u16) {
        let bytes = descriptor(at, len, flags, next);
        put(board, self.base + 16 * u64::from(index), &bytes);
    }

    /// Offers a buffer of these parts in the next descriptors; returns its head.
    pub fn offer(&mut self, board: &mut TestBoard, parts: &[Part]) -> u16 {
        let head = self.next;
        for (i, (at, len, writable)) in parts.iter().enumerate() {
            let following = (self.next + 1) % self.size;
            let flags = u16::from(i + 1 < parts.len()) | u16::from(*writable) << 1;
            self.describe(board, self.next, *at, *len, flags, following);
            self.next = following;
        }
        self.offer_head(board, head);
        head
    }

    /// Offers a buffer of these parts in an indirect table at `table`.
    pub fn offer_indirect(&mut self, board: &mut TestBoard, table: u64, parts: &[Part]) -> u16 {
        for (i, (at, len, writable)) in parts.iter().enumerate() {
            let flags = u16::from(i + 1 < parts.len()) | u16::from(*writable) << 1;
            put(board, table + 16 * i as u64, &descriptor(*at, *len, flags, i as u16 + 1));
        }
        let head = self.next;
        self.describe(board, head, table, 16 * parts.len() as u32, 4, 0);
        self.next = (head + 1) % self.size;
        self.offer_head(board, head);
        head
    }

    /// Puts `head` into the available ring, whatever its descriptor says.
    pub fn offer_head(&mut self, board: &mut TestBoard, head: u16) {
        let entry = self.avail() + 4 + 2 * u64::from(self.offered % self.size);
        put(board, entry, &head.to_le_bytes());
        self.offered = self.offered.wrapping_add(1);
        put(board, self.avail() + 2, &self.offered.to_le_bytes());
    }

    /// Takes the next returned buffer: its head and how much was written.
    pub fn take(&mut self, board: &mut TestBoard) -> Option<(u16, u32)> {
        let index = u16::from_le_bytes(get(board, self.used() + 2));
        if index == self.taken {
            return None;
        }
        let entry: [u8; 8] = get(board, self.used() + 4 + 8 * u64::from(self.taken % self.size));
        self.taken = self.taken.wrapping_add(1);
        let entry = u64::from_le_bytes(entry);
        Some((entry as u16, (entry >> 32) as u32))
    }
}

fn descriptor(at: u64, len: u32, flags: u16, next: u16) -> [u8; 16] {
    let word = u128::from(at) | u128::from(len) << 64 | u128::from(flags) << 96 | u128::from(next) << 112;
    word.to_le_bytes()
}

/// Writes test memory.
pub fn put(board: &mut TestBoard, at: u64, bytes: &[u8]) {
    board.memory.write(Gpa(at), bytes).expect("test memory");
}

/// Reads test memory.
pub fn get<const N: usize>(board: &TestBoard, at: u64) -> [u8; N] {
    board.memory.read_array(Gpa(at)).expect("test memory")
}

/// The BAR of the modern structures.
fn modern_bar<D: VirtioDevice>(function: &mut VirtioPci<D>) -> u8 {
    let config = function.config();
    let wide =
        |n: &u8| config.bar(usize::from(*n)).is_some_and(|(bar, _)| matches!(bar, Bar::Memory64 { .. }));
    (0..6).find(wide).expect("a virtio function has a 64-bit BAR")
}

/// Gives BARs addresses and turns decoding and bus mastering on, as firmware does.
pub fn power_up<D: VirtioDevice>(board: &mut TestBoard, function: &mut VirtioPci<D>) {
    for bar in 0..6 {
        function.config().write(0x10 + 4 * bar, 0x8000_0000 + u32::from(bar) * 0x1_0000, 0xf);
    }
    function.config().write(4, (COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER).into(), 0x3);
    function.config_written(&mut board.cx(), 4);
}

/// Reads the modern structures.
pub fn read<D: VirtioDevice>(
    board: &mut TestBoard,
    function: &mut VirtioPci<D>,
    offset: u64,
    width: Width,
) -> u64 {
    let at = At::new(modern_bar(function), offset);
    Mmio::read(function, &mut board.cx(), at, width).expect("decoded")
}

/// Writes the modern structures.
pub fn write<D: VirtioDevice>(
    board: &mut TestBoard,
    function: &mut VirtioPci<D>,
    offset: u64,
    width: Width,
    value: u64,
) {
    let at = At::new(modern_bar(function), offset);
    Mmio::write(function, &mut board.cx(), at, width, value).expect("decoded");
}

/// The handshake of a driver of the standard that wants `features`, with one ring for each queue from the first on.
/// Returns the status register at its end. (virtio 3.1.1)
pub fn start<D: VirtioDevice>(
    board: &mut TestBoard,
    function: &mut VirtioPci<D>,
    features: u64,
    rings: &[&TestRing],
) -> u8 {
    power_up(board, function);
    let features = features | feature::VERSION_1;
    let mut out = |offset, width, value| write(board, function, offset, width, value);
    out(0x14, Width::B1, 0);
    out(0x14, Width::B1, 3);
    for half in 0..2 {
        out(0x08, Width::B4, half);
        out(0x0c, Width::B4, features >> (32 * half) & 0xffff_ffff);
    }
    out(0x14, Width::B1, 11);
    for (n, ring) in rings.iter().enumerate() {
        out(0x16, Width::B2, n as u64);
        out(0x18, Width::B2, ring.size.into());
        for (at, address) in [(0x20, ring.descriptors()), (0x28, ring.avail()), (0x30, ring.used())] {
            out(at, Width::B4, address & 0xffff_ffff);
            out(at + 4, Width::B4, address >> 32);
        }
        out(0x1c, Width::B2, 1);
    }
    out(0x14, Width::B1, 15);
    read(board, function, 0x14, Width::B1) as u8
}

/// Notifies the device of `queue`, and carries its requests to the drives.
pub fn kick<D: VirtioDevice>(board: &mut TestBoard, function: &mut VirtioPci<D>, queue: u16) {
    write(board, function, 0x1000 + 4 * u64::from(queue), Width::B2, queue.into());
    let device: &mut dyn Device = function;
    board.serve(device);
}
