//! PCI configuration space as data: a header, base address registers, and the bits that software may write.
//!
//! A device holds a [`ConfigSpace`] and implements [`PciFunction`]. The host bridge (`aero-chipset`) turns accesses to
//! ports CF8h/CFCh into dwords with byte enables and asks the machine where a function's BARs are decoded.
//! (PCI Local Bus Specification 3.0, chapter 6.)

mod msi;

pub use msi::{Msi, Msix, MsixVector};

use serde::{Deserialize, Serialize};

/// Bus, device and function.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
pub struct Bdf(pub u16);

impl Bdf {
    /// Bus 0..=255, device 0..=31, function 0..=7.
    pub const fn new(bus: u8, device: u8, function: u8) -> Self {
        Self((bus as u16) << 8 | ((device & 31) as u16) << 3 | (function & 7) as u16)
    }

    /// The device number.
    pub fn device(self) -> u8 {
        (self.0 >> 3 & 31) as u8
    }

    /// The function number.
    pub fn function(self) -> u8 {
        (self.0 & 7) as u8
    }
}

/// What a base address register decodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Bar {
    /// I/O ports; the size is a power of two of at least 4.
    Io {
        /// Bytes decoded.
        size: u32,
    },
    /// 32-bit memory; the size is a power of two of at least 16.
    Memory {
        /// Bytes decoded.
        size: u32,
    },
    /// 32-bit memory whose reads have no side effects, such as a frame buffer's.
    Prefetchable {
        /// Bytes decoded.
        size: u32,
    },
    /// 64-bit memory: it takes the next BAR too.
    Memory64 {
        /// Bytes decoded.
        size: u64,
    },
}

impl Bar {
    /// Bytes decoded.
    pub fn size(self) -> u64 {
        match self {
            Self::Io { size } | Self::Memory { size } | Self::Prefetchable { size } => size.into(),
            Self::Memory64 { size } => size,
        }
    }

    /// Bits 3:0 of the register.
    fn kind(self) -> u32 {
        match self {
            Self::Io { .. } => 1,
            Self::Memory { .. } => 0,
            Self::Prefetchable { .. } => 8,
            Self::Memory64 { .. } => 4,
        }
    }
}

/// Who a function is: the read-only part of its header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Class, subclass and programming interface: `0x060000` is a host bridge.
    pub class: u32,
    /// Revision id.
    pub revision: u8,
    /// Whether the device has more functions than this one.
    pub multifunction: bool,
    /// Interrupt pin: 0 none, 1 INTA#, … 4 INTD#.
    pub interrupt_pin: u8,
}

/// Command register: I/O space decoding.
pub const COMMAND_IO: u16 = 1;
/// Command register: memory space decoding.
pub const COMMAND_MEMORY: u16 = 2;
/// Command register: bus mastering.
pub const COMMAND_MASTER: u16 = 4;

/// Command register: the interrupt pin is not to be driven.
pub const COMMAND_INTX_DISABLE: u16 = 1 << 10;
/// Status register: the function drives its interrupt pin.
pub const STATUS_INTERRUPT: u16 = 1 << 3;
/// Status register: there is a list of capabilities.
const STATUS_CAPABILITIES: u8 = 1 << 4;

const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const BAR0: usize = 0x10;
const ROM: usize = 0x30;
const ROM_ENABLE: u32 = 1;
const CAPABILITIES: usize = 0x34;
const INTERRUPT_LINE: usize = 0x3c;
/// Capabilities are put here and behind, so that a chip's own registers at 40h keep their places.
const FIRST_CAPABILITY: u8 = 0x80;

/// 256 bytes of configuration space with a write mask for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSpace {
    bytes: [u8; 256],
    writable: [u8; 256],
    bars: [Option<Bar>; 6],
    rom: Option<u32>,
    next_capability: u8,
}

impl ConfigSpace {
    /// The space of a type 0 function.
    pub fn new(id: Identity) -> Self {
        let mut c = Self {
            bytes: [0; 256],
            writable: [0; 256],
            bars: [None; 6],
            rom: None,
            next_capability: FIRST_CAPABILITY,
        };
        c.set(0x00, &id.vendor.to_le_bytes());
        c.set(0x02, &id.device.to_le_bytes());
        c.set(0x08, &(id.class << 8 | u32::from(id.revision)).to_le_bytes());
        c.set(0x0e, &[u8::from(id.multifunction) << 7]);
        c.set(0x2c, &[0xf4, 0x1a, 0x00, 0x11]);
        c.set(0x3d, &[id.interrupt_pin]);
        c.allow(COMMAND, &[0x07, 0x05]);
        c.allow(INTERRUPT_LINE, &[0xff]);
        c
    }

    /// Adds BAR `index` (0..=5).
    pub fn with_bar(mut self, index: usize, bar: Bar) -> Self {
        let at = BAR0 + index * 4;
        let mask = !(bar.size() - 1);
        self.bars[index] = Some(bar);
        self.set(at, &bar.kind().to_le_bytes());
        self.allow(at, &(mask as u32).to_le_bytes());
        if let Bar::Memory64 { .. } = bar {
            self.allow(at + 4, &((mask >> 32) as u32).to_le_bytes());
        }
        self
    }

    /// Adds an expansion ROM of `size` bytes, a power of two of at least 2 KiB.
    pub fn with_rom(mut self, size: u32) -> Self {
        self.rom = Some(size);
        self.allow(ROM, &(!(size - 1) | ROM_ENABLE).to_le_bytes());
        self
    }

    /// Sets the subsystem's vendor and id, which are QEMU's unless told.
    pub fn with_subsystem(mut self, vendor: u16, id: u16) -> Self {
        self.set(0x2c, &vendor.to_le_bytes());
        self.set(0x2e, &id.to_le_bytes());
        self
    }

    /// Adds a capability behind those there are: `body` follows its id and link, and software may write the bits of `mask`.
    /// Returns where it is.
    pub fn add_capability(&mut self, id: u8, body: &[u8], mask: &[u8]) -> u8 {
        let at = usize::from(self.next_capability);
        let before = self.bytes[CAPABILITIES];
        self.set(at, &[id, before]);
        self.set(at + 2, body);
        self.allow(at + 2, mask);
        self.bytes[CAPABILITIES] = at as u8;
        self.bytes[STATUS] |= STATUS_CAPABILITIES;
        self.next_capability = (at + 2 + body.len()).next_multiple_of(4) as u8;
        at as u8
    }

    /// Stores bytes at `at`, whatever software may write.
    pub fn set(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Lets software write the bits of `mask` at `at`.
    pub fn allow(&mut self, at: usize, mask: &[u8]) {
        self.writable[at..at + mask.len()].copy_from_slice(mask);
    }

    /// The byte at `at`.
    pub fn byte(&self, at: u8) -> u8 {
        self.bytes[usize::from(at)]
    }

    /// The word at `at`, an even number.
    pub fn word(&self, at: u8) -> u16 {
        (self.read(at) >> ((at & 2) * 8)) as u16
    }

    /// The dword that contains byte `at`.
    pub fn read(&self, at: u8) -> u32 {
        let at = usize::from(at & 0xfc);
        u32::from_le_bytes([self.bytes[at], self.bytes[at + 1], self.bytes[at + 2], self.bytes[at + 3]])
    }

    /// Writes the bytes of a dword that `enables` (bits 3:0) selects.
    pub fn write(&mut self, at: u8, value: u32, enables: u8) {
        let at = usize::from(at & 0xfc);
        for (i, new) in value.to_le_bytes().into_iter().enumerate().filter(|(i, _)| enables >> i & 1 != 0) {
            let mask = self.writable[at + i];
            self.bytes[at + i] = self.bytes[at + i] & !mask | new & mask;
        }
    }

    /// The command register.
    pub fn command(&self) -> u16 {
        u16::from_le_bytes([self.bytes[COMMAND], self.bytes[COMMAND + 1]])
    }

    /// Whether the function may read and write memory by itself: a device looks before each transfer.
    pub fn is_master(&self) -> bool {
        self.command() & COMMAND_MASTER != 0
    }

    /// Shows in the status register whether the function asks for an interrupt, and tells whether it may drive its pin.
    pub fn set_interrupt(&mut self, asked: bool) -> bool {
        let bit = STATUS_INTERRUPT as u8;
        self.bytes[STATUS] = self.bytes[STATUS] & !bit | if asked { bit } else { 0 };
        asked && self.command() & COMMAND_INTX_DISABLE == 0
    }

    /// What BAR `index` decodes now and from where; `None` while decoding is off or the BAR is at 0.
    pub fn bar(&self, index: usize) -> Option<(Bar, u64)> {
        let bar = self.bars[index]?;
        let at = (BAR0 + index * 4) as u8;
        let raw = u64::from(self.read(at));
        let (base, enable) = match bar {
            Bar::Io { .. } => (raw & !3, COMMAND_IO),
            Bar::Memory { .. } | Bar::Prefetchable { .. } => (raw & !15, COMMAND_MEMORY),
            Bar::Memory64 { .. } => (raw & !15 | u64::from(self.read(at + 4)) << 32, COMMAND_MEMORY),
        };
        (base != 0 && self.command() & enable != 0).then_some((bar, base))
    }

    /// Where the expansion ROM is decoded now, and its size.
    pub fn rom(&self) -> Option<(u64, u32)> {
        let (size, raw) = (self.rom?, self.read(ROM as u8));
        let on = raw & ROM_ENABLE != 0 && self.command() & COMMAND_MEMORY != 0;
        on.then_some((u64::from(raw & !0x7ff), size))
    }

    /// Every byte, for saved state.
    pub fn bytes(&self) -> &[u8; 256] {
        &self.bytes
    }

    /// Takes over saved bytes: the writable bits only, so that a function keeps its identity.
    pub fn restore(&mut self, bytes: &[u8; 256]) {
        for at in (0..=0xfcu8).step_by(4) {
            let i = usize::from(at);
            self.write(at, u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]), 0xf);
        }
    }

    /// Clears every bit that software may write.
    pub fn reset(&mut self) {
        self.restore(&[0; 256]);
    }
}

/// A PCI function.
pub trait PciFunction {
    /// Its configuration space.
    fn config(&mut self) -> &mut ConfigSpace;

    /// Software is about to read the dword at `at`: for the few registers whose reading does something.
    fn config_reading(&mut self, _cx: &mut crate::Cx<'_>, _at: u8) {}

    /// Software wrote the dword at `at`; the default does nothing more.
    fn config_written(&mut self, _cx: &mut crate::Cx<'_>, _at: u8) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function() -> ConfigSpace {
        let id = Identity {
            vendor: 0x8086,
            device: 0x1237,
            class: 0x060000,
            revision: 2,
            multifunction: true,
            interrupt_pin: 1,
        };
        ConfigSpace::new(id).with_bar(1, Bar::Memory { size: 4096 }).with_bar(2, Bar::Io { size: 32 })
    }

    // checklist: 54
    #[test]
    fn all_ones_written_to_a_bar_read_back_as_its_size() {
        let mut c = function();
        c.write(0x14, u32::MAX, 0xf);
        c.write(0x18, u32::MAX, 0xf);
        assert_eq!((c.read(0x14), c.read(0x18), c.read(0x10)), (0xffff_f000, 0xffff_ffe1, 0));
    }

    #[test]
    fn bar_decodes_only_while_enabled() {
        let mut c = function();
        c.write(0x14, 0xe000_0000, 0xf);
        assert_eq!(c.bar(1), None);
        c.write(0x04, COMMAND_MEMORY.into(), 0x3);
        assert_eq!(c.bar(1), Some((Bar::Memory { size: 4096 }, 0xe000_0000)));
    }

    #[test]
    fn wide_bar_takes_two_registers() {
        let mut c = function().with_bar(4, Bar::Memory64 { size: 0x4000 });
        c.write(0x20, u32::MAX, 0xf);
        c.write(0x24, u32::MAX, 0xf);
        assert_eq!((c.read(0x20), c.read(0x24)), (0xffff_c004, u32::MAX));
        c.write(0x24, 1, 0xf);
        c.write(0x04, COMMAND_MEMORY.into(), 0x3);
        assert_eq!(c.bar(4), Some((Bar::Memory64 { size: 0x4000 }, 0x1_ffff_c000)));
    }

    #[test]
    fn capabilities_form_a_list() {
        let mut c = function();
        let first = c.add_capability(1, &[2, 0, 0, 0, 0, 0], &[]);
        let second = c.add_capability(0x12, &[0, 0], &[]);
        assert_eq!((c.byte(0x34), c.byte(second + 1), c.byte(first + 1)), (second, first, 0));
        assert_eq!(second, first + 8);
    }

    #[test]
    fn identity_cannot_be_written() {
        let mut c = function();
        c.write(0, 0, 0xf);
        assert_eq!(c.read(0), 0x1237_8086);
    }
}
