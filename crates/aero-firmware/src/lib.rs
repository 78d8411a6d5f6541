//! What firmware leaves in memory for an operating system.
//!
//! An operating system that starts on a PC asks its firmware three questions, and each module here writes one
//! answer:
//!
//! - *Where is memory?* [`e820`] makes the map that `INT 15h, AX=E820h` would give.
//! - *What is on the board?* [`acpi`] makes the ACPI tables: the interrupt topology (MADT), the
//!   power-management ports (FADT, FACS), and the DSDT, whose byte code describes the buses and devices that
//!   cannot be found by looking. [`smbios`] describes the computer to management software.
//! - *Where do I start?* [`linux`] puts a kernel, its initial RAM disk and its command line where the x86
//!   boot protocol wants them and says in which state the processor has to enter; [`multiboot`] does the same
//!   for kernels of that specification.
//!
//! Nothing here runs in the guest: firmware that does (SeaBIOS, OVMF) gets the same tables as files, with a
//! program that installs them ([`loader`], [`fn@files`]). Everything is generated from a [`Board`], the plain
//! description that the machine's own address map fills in, so that no address is written down twice. A
//! machine that boots directly calls [`acpi::build`], copies the pieces into guest memory, makes the map with
//! [`e820::memory_map`] and ends with [`linux::load`].

pub mod acpi;
#[cfg(test)]
mod acpica;
mod board;
mod dsdt;
pub mod e820;
pub mod linux;
pub mod loader;
pub mod multiboot;
pub mod smbios;

pub use acpi::AcpiTables;
pub use board::{Board, FloppyKind, HpetBlock, IsaDevice, IsaKind};
pub use e820::{E820Entry, E820Kind, memory_map};
pub use linux::{Entry, LinuxImage, LoadError};
pub use multiboot::{MultibootEntry, MultibootError};

/// The files by which firmware in the guest learns of ACPI and SMBIOS: names of `fw_cfg` and bytes. To be
/// made when the guest first selects one of them (see [`loader`]).
pub fn files(board: &Board, system: &smbios::System) -> Vec<(&'static str, Vec<u8>)> {
    [loader::files(board), smbios::files(system)].concat()
}
