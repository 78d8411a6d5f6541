//! What firmware leaves in memory for an operating system.
//!
//! An operating system that starts on a PC asks its firmware three questions, and each module here writes one
//! answer:
//!
//! - *Where is memory?* [`e820`] makes the map that `INT 15h, AX=E820h` would give.
//! - *What is on the board?* [`acpi`] makes the ACPI tables: the interrupt topology (MADT), the
//!   power-management ports (FADT, FACS), and the DSDT, whose byte code describes the buses and devices that
//!   cannot be found by looking.
//! - *Where do I start?* [`linux`] puts a kernel, its initial RAM disk and its command line where the x86
//!   boot protocol wants them and says in which state the processor has to enter; [`multiboot`] does the same
//!   for kernels of that specification.
//!
//! Nothing here runs in the guest. Everything is generated from a [`Board`], the plain description that the
//! machine's own address map fills in, so that no address is written down twice. A machine that boots
//! directly calls [`acpi::build`], copies the pieces into guest memory, makes the map with
//! [`e820::memory_map`] and ends with [`linux::load`].

pub mod acpi;
mod dsdt;
pub mod e820;
pub mod linux;
pub mod multiboot;

pub use acpi::{AcpiTables, Board, IsaDevice, IsaKind};
pub use e820::{E820Entry, E820Kind, memory_map};
pub use linux::{Entry, LinuxImage, LoadError};
pub use multiboot::{MultibootEntry, MultibootError};
