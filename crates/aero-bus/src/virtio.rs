//! Virtio: devices whose driver and device agree on rings in memory instead of on registers.
//!
//! A driver writes buffers into a ring and notifies the device; the device takes them in any order, fills them and
//! hands them back through the second half of the ring. [`Queues`] is the device's end of those rings: it walks
//! descriptor chains ([`Chain`]) and decides when the driver wants an interrupt. [`VirtioPci`] is the PCI function
//! around them: feature negotiation, the status handshake, capabilities and interrupts, for modern drivers and, as a
//! transitional device, for those of before the standard. What remains is a device type, a [`VirtioDevice`].
//!
//! Everything a guest can get wrong in a ring (a loop, an index beyond the table, an address that is no memory) ends in
//! the status bit `DEVICE_NEEDS_RESET`, after which the device touches no ring until the driver resets it.
//!
//! Source: OASIS Virtual I/O Device (VIRTIO) 1.2; sections are cited as "virtio 2.7".

pub mod bench;
mod pci;
mod queue;
#[cfg(test)]
mod tests;

pub use pci::{Interface, VirtioPci};
pub use queue::{Chain, Queues};

use crate::block::Completion;
use crate::{Cx, TimerId};
use serde::{Serialize, de::DeserializeOwned};

/// Feature bits that belong to the rings and the transport (virtio 6).
pub mod feature {
    /// A buffer may be laid out in descriptors in any way. Only old drivers need to be told.
    pub const ANY_LAYOUT: u64 = 1 << 27;
    /// A descriptor may point to a table of descriptors.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// Each side says at which index it wants to be notified.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// The driver follows the standard.
    pub const VERSION_1: u64 = 1 << 32;
}

/// Who a virtio device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Device type: 1 network, 2 block, 16 GPU, 18 input, 25 sound (virtio 5).
    pub kind: u16,
    /// PCI device id of its transitional form, if the type has one: `0x1000` network, `0x1001` block.
    pub legacy_id: Option<u16>,
    /// PCI class code, as in [`Identity`](crate::pci::Identity).
    pub class: u32,
    /// PCI subsystem id; the device type where nothing distinguishes several of a kind.
    pub subsystem: u16,
    /// Whether further PCI functions follow this one.
    pub multifunction: bool,
    /// Queues and the most entries each may have, powers of two.
    pub queues: Vec<u16>,
    /// Bytes of its configuration structure, at most 256.
    pub config_len: usize,
}

/// A virtio device without its transport.
pub trait VirtioDevice {
    /// What its saved state is called.
    const KIND: &'static str;
    /// Its saved state.
    type State: Serialize + DeserializeOwned;

    /// Who it is. Never changes.
    fn profile(&self) -> Profile;

    /// Feature bits of its type that it offers, below bit 24.
    fn features(&self) -> u64;

    /// Fills `image`, [`Profile::config_len`] zeros, with its configuration structure as it is now.
    fn config(&self, image: &mut [u8]);

    /// The driver wrote a byte of the configuration structure.
    fn config_written(&mut self, _offset: usize, _value: u8) {}

    /// Back to its power-on state. Requests that it has submitted still complete afterwards.
    fn reset(&mut self);

    /// There may be buffers in `queue`; called for every queue once the driver is ready.
    fn queue_notified(&mut self, cx: &mut Cx<'_>, queues: &mut Queues, queue: u16);

    /// A request to a drive has ended.
    fn complete(&mut self, _cx: &mut Cx<'_>, _queues: &mut Queues, _done: Completion) {}

    /// A timer that it armed has come.
    fn timer(&mut self, _cx: &mut Cx<'_>, _queues: &mut Queues, _which: TimerId) {}

    /// Its state now, beyond that of the rings.
    fn state(&self) -> Self::State;

    /// Takes over a saved state; false, with nothing changed, if it does not fit.
    fn restore(&mut self, state: Self::State) -> bool;
}
