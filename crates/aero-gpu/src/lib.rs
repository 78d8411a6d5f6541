//! What the guest draws with.
//!
//! [`Vga`] is IBM's Video Graphics Array: 256 KiB of memory in four *planes*, a datapath between the
//! processor and the planes (`planes.rs`), five groups of registers behind index/data port pairs
//! (`registers.rs`), and a palette (`dac.rs`). In a text mode plane 0 holds characters, plane 1 their
//! attributes and plane 2 the character set, which the guest may replace; the CRT controller says where the
//! screen begins in memory, how long a line is, and where the cursor is.
//!
//! A host calls [`Vga::render`] with a [`Frame`] whenever it wants to show something. The frame remembers
//! what is drawn on it, so only the character cells that changed are drawn again, and an idle screen costs a
//! comparison. [`Vga::text`] is the same screen as text, for tests and scripts.

mod codepage;
mod dac;
mod font;
mod frame;
mod planes;
mod registers;
mod text;
mod vga;

pub use frame::Frame;
pub use vga::{REGION_MEMORY, REGION_PORTS, Vga};
