//! Guest physical memory, and the arena that holds it.
//!
//! One block of host memory, the *arena*, holds everything that compiled code touches: the processors' state blocks,
//! their translation look-aside tables, the code map, guest RAM and video memory. Every place in it is a 32-bit **offset**, the same
//! number for Rust, for the interpreter and for generated WebAssembly. In the browser an offset is an address of the
//! emulator's own linear memory; natively it counts from the start of the block, which is memory that a WebAssembly
//! engine has lent (`Lent`) or, without one, an anonymous mapping. [`Layout`] is the one definition of what lies where.
//!
//! Guest RAM is reached by copies ([`GuestMemory::read`], [`GuestMemory::write`]) or, from the processor's fast path,
//! through [`ArenaPtr`]. No Rust slice ever spans guest RAM: on wasm32 an object above 2 GiB is undefined behaviour.
//!
//! Every write that does not come from a TLB entry passes [`GuestMemory::note_write`], which keeps decoded code honest:
//! a page that holds code carries a bit per 64-byte granule, and a write to a marked granule bumps the page's version
//! and queues the page for [`GuestMemory::take_modified_code`]. DMA goes the same way.

#![allow(unsafe_code, reason = "the only pointer arithmetic on guest RAM; see `arena`")]

#[cfg(target_endian = "big")]
compile_error!("Aero shares guest memory with the host byte for byte and needs a little-endian host");

mod arena;
mod guest;
mod video;

#[cfg(not(target_arch = "wasm32"))]
pub use arena::Lent;
pub use arena::{ArenaPtr, JUMP_ENTRIES, Layout, TLB_ENTRIES, TlbKind, VCPU_STATE_SIZE};
pub use guest::{
    AllocError, BANK_SIZE, BANKED, Bank, GuestMemory, LOW_RAM_END, MAX_RAM, MAX_ROM, Unmapped, VGA_WINDOW,
    granules,
};
pub use video::MAX_VIDEO;

/// Bytes in a page, as the arena, the MMU and the code map count them.
pub const PAGE_SIZE: u64 = 4096;

/// A guest physical address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Gpa(pub u64);

impl Gpa {
    /// This address `bytes` further on, wrapping at 2^64.
    pub fn offset(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl core::fmt::LowerHex for Gpa {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}
