//! The device contract.
//!
//! A device is a value with `&mut self` methods. It never learns its absolute address, its interrupt number or the
//! time by itself: everything it may do to the world goes through [`Cx`], lent for the length of one call. [`Cx`]
//! writes into the [`Fabric`], plain data that the machine drains after each call: interrupt line changes, interrupt
//! messages, timers, requests to disks ([`block`]). So a device test needs no machine: [`bench::TestBoard`] lends a `Cx` in one line.
//!
//! A device implements [`Device`] and whichever of [`PortIo`], [`Mmio`] and [`PciFunction`] it has. An access that
//! a device does not decode returns [`IoError`]; the machine answers all-ones and logs it once.

pub mod bench;
pub mod block;
mod cx;
mod fabric;
pub mod isa_dma;
pub mod pci;
pub mod virtio;

pub use cx::Cx;
pub use fabric::{ApicMessage, Fabric, IrqLine, LineChange, PowerRequest, TimerQueue};

use aero_state::Saved;
use serde::{Deserialize, Serialize};

/// Virtual time: nanoseconds since the machine was switched on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct VmTime(pub u64);

impl VmTime {
    /// This time `ns` nanoseconds later.
    pub fn after(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }

    /// Nanoseconds since `earlier`, 0 if that is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// How many ticks of a clock of `hz` have passed at this time.
    pub fn ticks(self, hz: u64) -> u64 {
        (u128::from(self.0) * u128::from(hz) / 1_000_000_000) as u64
    }

    /// The first time at which a clock of `hz` has ticked `ticks` times.
    pub fn of_ticks(ticks: u64, hz: u64) -> Self {
        Self((u128::from(ticks) * 1_000_000_000).div_ceil(u128::from(hz)).min(u128::from(u64::MAX)) as u64)
    }
}

/// How many bytes an access has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Width {
    /// 1 byte.
    B1 = 1,
    /// 2 bytes.
    B2 = 2,
    /// 4 bytes.
    B4 = 4,
    /// 8 bytes.
    B8 = 8,
}

impl Width {
    /// The number of bytes.
    pub fn bytes(self) -> u64 {
        self as u64
    }

    /// All bits of this width set: what an unclaimed read returns.
    pub fn ones(self) -> u64 {
        u64::MAX >> (64 - 8 * self.bytes())
    }

    /// The width of `bytes` bytes.
    pub fn of(bytes: usize) -> Option<Self> {
        Some(match bytes {
            1 => Self::B1,
            2 => Self::B2,
            4 => Self::B4,
            8 => Self::B8,
            _ => return None,
        })
    }
}

/// Where in a device an access lands: one of the regions it was given, and the offset in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct At {
    /// The region's number, as the device defines them.
    pub region: u8,
    /// Bytes from the region's start.
    pub offset: u64,
}

impl At {
    /// Offset `offset` of region `region`.
    pub fn new(region: u8, offset: u64) -> Self {
        Self { region, offset }
    }
}

/// A device of this machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
pub struct DeviceId(pub u16);

/// One of a device's timers, as the device numbers them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
pub struct TimerId(pub u8);

/// The device does not decode this access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IoError {
    /// No register there: reads are all-ones, writes are dropped, and the machine logs it once.
    Unclaimed,
}

/// What every device has.
pub trait Device: Saved {
    /// Puts the device into its power-on state. Twice is the same as once.
    fn reset(&mut self, cx: &mut Cx<'_>);

    /// Its I/O ports.
    fn pio(&mut self) -> Option<&mut dyn PortIo> {
        None
    }

    /// Its memory-mapped registers.
    fn mmio(&mut self) -> Option<&mut dyn Mmio> {
        None
    }

    /// Its PCI function.
    fn pci(&mut self) -> Option<&mut dyn pci::PciFunction> {
        None
    }

    /// A timer that the device armed has come.
    fn timer(&mut self, _cx: &mut Cx<'_>, _which: TimerId) {}

    /// A request that the device submitted has ended. After a reset the ends of earlier requests still come.
    fn complete(&mut self, _cx: &mut Cx<'_>, _done: block::Completion) {}
}

/// I/O ports.
pub trait PortIo {
    /// Reads a register; the value's upper bits beyond `width` are ignored.
    ///
    /// # Errors
    /// When nothing decodes the access.
    fn read(&mut self, cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError>;

    /// Writes a register; the value's bits beyond `width` are zero.
    ///
    /// # Errors
    /// When nothing decodes the access.
    fn write(&mut self, cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError>;
}

/// Memory-mapped registers.
pub trait Mmio {
    /// Reads a register; the value's upper bits beyond `width` are ignored.
    ///
    /// # Errors
    /// When nothing decodes the access.
    fn read(&mut self, cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError>;

    /// Writes a register; the value's bits beyond `width` are zero.
    ///
    /// # Errors
    /// When nothing decodes the access.
    fn write(&mut self, cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError>;
}
