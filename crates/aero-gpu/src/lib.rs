//! What the guest draws with.
//!
//! [`Vga`] is a PC's display card. At its heart is IBM's Video Graphics Array: 256 KiB of memory in four *planes*, a datapath between the
//! processor and the planes (`planes.rs`), five groups of registers behind index/data port pairs
//! (`registers.rs`), and a palette (`dac.rs`). In a text mode plane 0 holds characters, plane 1 their
//! attributes and plane 2 the character set, which the guest may replace; the CRT controller says where the
//! screen begins in memory, how long a line is, and where the cursor is.
//!
//! Beside them is the Bochs VBE extension (`vbe.rs`): a picture of any size and depth whose pixels lie side by side,
//! in 16 MiB of which the four planes are the first 256 KiB. All of that memory lies in guest memory (`aero-mem`),
//! where the processor reaches it as it reaches RAM, and which knows what pages have been written to.
//!
//! A host calls [`Vga::render`] with a [`Frame`] whenever it wants to show something. `screen.rs` sees which kind of
//! mode is on; `text.rs` draws characters, `raster.rs` pixels, both where the CRT controller finds them (`layout.rs`).
//! The frame remembers what is drawn on it, so only what changed is drawn again, and an idle screen costs a
//! comparison. [`Vga::text`] is the same screen as text, for tests and scripts.

mod codepage;
mod dac;
mod edid;
mod font;
mod frame;
mod layout;
mod planes;
mod raster;
mod registers;
mod screen;
mod text;
mod vbe;
mod vga;

pub use edid::Preferred;
pub use frame::Frame;
pub use vga::{
    MAX_BIOS, REGION_FRAME_BUFFER, REGION_MEMORY, REGION_PORTS, REGION_REGISTERS, REGION_ROM,
    REGION_VBE_PORTS, VIDEO_MEMORY, Vga,
};
