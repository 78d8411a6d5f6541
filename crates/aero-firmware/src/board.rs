//! The board as plain data: all that the tables of firmware say, and nothing of how.
//!
//! The machine's address map fills in a [`Board`]; the tables of ACPI are made from it. A topology that a
//! guest was installed on must not change under it (Windows picks its HAL and counts its devices once), so
//! whatever is here belongs to a machine's profile and not to a run.

use core::ops::Range;

/// What the tables have to know about the machine. Filled in by the machine's address map.
#[derive(Clone, Debug)]
pub struct Board {
    /// Processors; their local APIC ids and ACPI ids are 0, 1, …
    pub cpus: u8,
    /// Address of the I/O APIC.
    pub ioapic: u32,
    /// The id in the I/O APIC's ID register.
    pub ioapic_id: u8,
    /// Address of the local APICs.
    pub lapic: u32,
    /// First port of the PIIX4 power-management block: PM1 status and enable at 0, PM1 control at 4, timer at
    /// 8.
    pub pm_base: u16,
    /// Ports in that block.
    pub pm_len: u8,
    /// First port of the general-purpose event block.
    pub gpe0: u16,
    /// Ports in that block: half for status, half for enable bits.
    pub gpe0_len: u8,
    /// Port of the SMI command register.
    pub smi_cmd: u16,
    /// Value that switches ACPI mode on when written to `smi_cmd`.
    pub acpi_enable: u8,
    /// Value that switches it off.
    pub acpi_disable: u8,
    /// Interrupt of power-management events: ISA line and GSI alike, level, active high.
    pub sci: u8,
    /// Port that resets the machine.
    pub reset_port: u16,
    /// Value that does it.
    pub reset_value: u8,
    /// `SLP_TYP` of suspend to RAM, if the machine can.
    pub s3: Option<u8>,
    /// `SLP_TYP` of hibernation, if the machine can: to it, this is switching off and on again.
    pub s4: Option<u8>,
    /// `SLP_TYP` of soft-off.
    pub s5: u8,
    /// CMOS index of the century.
    pub rtc_century: u8,
    /// Addresses from which PCI memory BARs are assigned.
    pub pci_window: Range<u32>,
    /// Ports of PCI configuration mechanism 1.
    pub pci_config: (u16, u8),
    /// Device number of the PIIX3 ISA bridge on bus 0, function 0.
    pub isa_bridge: u8,
    /// Which PIRQ line (0 = A … 3 = D) pin 0–3 (INTA–INTD) of a device of bus 0 is wired to.
    pub pirq_of: fn(device: u8, pin: u8) -> u8,
    /// The interrupts that a PIRQ line may be steered to: ISA lines and GSIs alike, level, active high.
    pub pirq_choices: Vec<u8>,
    /// The HPET, if there is one.
    pub hpet: Option<HpetBlock>,
    /// The drives of the floppy controller, if there is one among `isa`.
    pub floppies: [Option<FloppyKind>; 2],
    /// The devices behind the ISA bridge.
    pub isa: Vec<IsaDevice>,
}

/// A device on the ISA bus, which no operating system can find without being told.
#[derive(Clone, Debug)]
pub struct IsaDevice {
    /// What it is.
    pub kind: IsaKind,
    /// Its ports as (first, count).
    pub ports: Vec<(u16, u8)>,
    /// Its interrupt, edge-triggered.
    pub irq: Option<u8>,
    /// Its channel of the 8237s, 8-bit transfers.
    pub dma: Option<u8>,
}

/// Where the HPET is and what its registers say of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HpetBlock {
    /// Address of its registers.
    pub base: u32,
    /// Lower half of its general capabilities and ID register.
    pub id: u32,
    /// Fewest ticks of a periodic timer that do not lose interrupts.
    pub min_tick: u16,
}

/// Kinds of floppy drive; the discriminants are the types of CMOS byte 10h and `INT 13h, AH=08h`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FloppyKind {
    /// 5.25 inches, 360 KiB.
    D360 = 1,
    /// 5.25 inches, 1.2 MiB.
    D1200 = 2,
    /// 3.5 inches, 720 KiB.
    D720 = 3,
    /// 3.5 inches, 1.44 MiB.
    D1440 = 4,
    /// 3.5 inches, 2.88 MiB.
    D2880 = 5,
}

impl FloppyKind {
    /// The last cylinder, and sectors of a track.
    pub fn extent(self) -> (u8, u8) {
        match self {
            Self::D360 => (39, 9),
            Self::D1200 => (79, 15),
            Self::D720 => (79, 9),
            Self::D1440 => (79, 18),
            Self::D2880 => (79, 36),
        }
    }
}

/// The kinds of ISA device that have a Plug and Play id here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IsaKind {
    /// Real-time clock.
    Rtc,
    /// 8254 timer.
    Pit,
    /// The two 8259s.
    Pic,
    /// The two 8237s; its channel is that of the cascade.
    Dma,
    /// PC speaker.
    Speaker,
    /// x87 error reporting.
    Fpu,
    /// Keyboard side of the 8042.
    Keyboard,
    /// Mouse side of the 8042; its ports are the keyboard's.
    Mouse,
    /// 16550A.
    Serial,
    /// Parallel port.
    Parallel,
    /// 82077AA floppy controller.
    Floppy,
    /// Ports that are in use and belong to no device: power management, ELCR, A20, diagnostics.
    Motherboard,
}
