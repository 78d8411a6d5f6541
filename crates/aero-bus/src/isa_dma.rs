//! DMA on the ISA bus: the device asks, the controller on the mainboard moves.
//!
//! A device there cannot address memory. It raises DREQ, and the 8237 fetches or stores bytes for it at an
//! address that the guest programmed, until the device lowers DREQ or the programmed count ends (terminal
//! count). Controller and device are two chips that do not know each other: the board, which knows which
//! channel a device sits on, lends the device to the controller as a [`DmaPeer`] whenever either of them may
//! have changed.

use crate::Cx;

/// What a device asks of its DMA channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DmaRequest {
    /// It has so many bytes for memory.
    ToMemory(usize),
    /// It takes up to so many bytes from memory.
    FromMemory(usize),
}

/// The device side of a DMA channel.
pub trait DmaPeer {
    /// DREQ: what it can move right now.
    fn dma_request(&self) -> Option<DmaRequest>;

    /// Gives the next `len` bytes, at most as many as it asked to move. With `last` the programmed count ends
    /// with them (terminal count).
    fn dma_take(&mut self, cx: &mut Cx<'_>, len: usize, last: bool) -> Vec<u8>;

    /// Accepts bytes from memory, at most as many as it asked for. With `last` the programmed count ends with
    /// them.
    fn dma_give(&mut self, cx: &mut Cx<'_>, bytes: &[u8], last: bool);
}
