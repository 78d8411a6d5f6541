//! The chipset: what a PC mainboard carries besides the processor, its memory and its plug-in devices.
//!
//! Three kinds of part live here, and they meet only through the machine:
//!
//! - **Interrupt controllers.** A device drives a *line*; the machine carries each change of a line to the
//!   inputs of both controllers, as the board's wiring does. [`i8259`] is the pair of PICs which asks the
//!   processor through its INTR pin and is asked back (`acknowledge`) for a vector. [`ioapic`] turns a change
//!   of a pin into a message to the local APICs, which live in the processors (`aero-cpu`). Which of the two
//!   speaks is the guest's choice: it masks the other.
//! - **Clocks.** [`i8254`] (the interval timer, 1,193,182 Hz), [`mc146818`] (the battery clock with its
//!   memory, 32,768 Hz), [`acpi_pm`] (the power-management timer, 3,579,545 Hz) and [`hpet`] are all computed
//!   from the
//!   one virtual time that the context lends. A counter has no state that advances: it has the tick at which
//!   it started, and every read subtracts. A timer is armed only when an edge that someone may see is due, so
//!   an idle machine sleeps.
//! - **The board.** The host bridge [`i440fx`], the ISA bridge [`piix`], the serial ports ([`uart16550`] is
//!   the chip, [`serial`] its place on the board), the parallel port ([`lpt`]), DMA for ISA devices
//!   ([`i8237`]), the latch for floating-point errors ([`coprocessor`]), the
//!   machine's answers to its firmware ([`fw_cfg`]), the ports that exist for debugging ([`debug_ports`]), and the
//!   device of test kernels ([`test_device`]).
//!
//! Every device here has the same shape: `spec` (the data sheet's names), the state, its behaviour, the
//! traits of `aero-bus`, the saved state, the tests.

mod isa;

pub mod acpi_pm;
pub mod coprocessor;
pub mod debug_ports;
pub mod fw_cfg;
pub mod hpet;
pub mod i440fx;
pub mod i8237;
pub mod i8254;
pub mod i8259;
pub mod ioapic;
pub mod lpt;
pub mod mc146818;
pub mod piix;
pub mod serial;
pub mod test_device;
pub mod uart16550;
