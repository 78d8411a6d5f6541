//! Where everything is: the only file with addresses, ports, device numbers and interrupt numbers.
//!
//! The board is compatible with QEMU's `pc` on purpose (`docs/decisions/0001-board.md`). The ACPI tables are generated
//! from here, so that what firmware says and what the machine does cannot differ.

use aero_bus::DeviceId;
use aero_bus::pci::Bdf;
use aero_chipset::{acpi_pm, hpet, mc146818};
use aero_firmware::{Board, FloppyKind, HpetBlock, IsaDevice, IsaKind};
use core::ops::Range;

/// The devices of the board, numbered for timers and saved state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Dev {
    /// The pair of 8259s.
    Pic = 1,
    /// 8254 and port 61h.
    Pit,
    /// MC146818 and CMOS memory.
    Rtc,
    /// 82093AA.
    IoApic,
    /// COM1.
    Serial,
    /// Keyboard controller.
    I8042,
    /// VGA.
    Vga,
    /// PCI configuration ports.
    PciHost,
    /// 00:00.0.
    HostBridge,
    /// 00:01.0.
    IsaBridge,
    /// 00:01.3.
    PowerManagement,
    /// ACPI registers.
    AcpiPm,
    /// Port CF9h.
    ResetControl,
    /// Port 92h.
    SystemControlA,
    /// POST codes.
    PostPort,
    /// `isa-debug-exit`.
    DebugExit,
    /// Debug console.
    DebugCon,
    /// `fw_cfg`.
    FwCfg,
    /// The device of test kernels.
    TestDevice,
    /// Not a device: the queue of typed text, which has a timer.
    Typist,
    /// Floating-point errors, port F0h.
    Coprocessor,
    /// The pair of 8237s.
    Dma,
    /// 82077AA.
    Floppy,
    /// LPT1.
    Parallel,
    /// 00:01.1.
    Ide,
    /// 00:04.0.
    Ahci,
    /// 00:05.0.
    Nvme,
    /// 00:06.0.
    VirtioBlk,
    /// Not a device: what the ISA bridge makes of the four PCI interrupt lines.
    Pirq,
    /// High-precision event timer.
    Hpet,
    /// COM2.
    Serial2,
}

impl Dev {
    /// Its number.
    pub const fn id(self) -> DeviceId {
        DeviceId(self as u16)
    }
}

/// Base of the I/O APIC's page.
pub const IOAPIC: u64 = 0xfec0_0000;
/// Base of the local APICs' page.
pub const LAPIC: u64 = 0xfee0_0000;
/// Base of the high-precision event timer.
pub const HPET: u64 = 0xfed0_0000;
/// Where PCI memory BARs are assigned.
pub const PCI_WINDOW: Range<u32> = 0xe000_0000..0xfec0_0000;
/// Where the firmware puts the ACPI root pointer.
pub const RSDP: u64 = 0xf_5a00;

/// First port of the power-management block.
pub const PM_BASE: u16 = 0x600;
/// Ports of that block.
pub const PM_LEN: u16 = 64;
const GPE0: u16 = 0xafe0;
const GPE0_LEN: u16 = 4;
const SMI_CMD: u16 = 0xb2;
const PCI_CONFIG: u16 = 0xcf8;
/// The byte of the PCI configuration ports that is the reset control register.
pub const RESET_PORT: u16 = 0xcf9;
/// First port of COM1.
const COM1: u16 = 0x3f8;
/// First port of COM2.
const COM2: u16 = 0x2f8;

/// ISA interrupts.
pub mod irq {
    /// 8254 counter 0.
    pub const PIT: u8 = 0;
    /// Keyboard.
    pub const KEYBOARD: u8 = 1;
    /// COM2.
    pub const COM2: u8 = 3;
    /// COM1.
    pub const COM1: u8 = 4;
    /// ACPI.
    pub const SCI: u8 = 9;
    /// MC146818.
    pub const RTC: u8 = 8;
    /// PS/2 mouse.
    pub const MOUSE: u8 = 12;
    /// Floating-point errors.
    pub const FPU: u8 = 13;
    /// Floppy controller.
    pub const FLOPPY: u8 = 6;
    /// LPT1.
    pub const LPT1: u8 = 7;
    /// The two channels of the IDE function.
    pub const IDE: [u8; 2] = [14, 15];
}

/// The first of the four I/O APIC pins that the timers of the HPET can be routed to.
pub const HPET_PIN: u8 = 20;

/// What firmware steers PIRQ A–D to at power-on.
pub const PIRQ_ROUTES: [u8; 4] = [10, 10, 11, 11];

/// The I/O APIC pin of an ISA interrupt: the PIT is on pin 2, the others on the pin of their number.
pub fn ioapic_pin(irq: u8) -> u8 {
    if irq == 0 { 2 } else { irq }
}

/// Where the AHCI controller is, if a drive is on it.
pub const AHCI: Bdf = Bdf::new(0, 4, 0);

/// Where the NVMe controller is, if a drive is on it.
pub const NVME: Bdf = Bdf::new(0, 5, 0);

/// Where the virtio disk is, if there is one.
pub const VIRTIO_BLK: Bdf = Bdf::new(0, 6, 0);

/// PCI functions.
pub const FUNCTIONS: [(Bdf, Dev); 8] = [
    (Bdf::new(0, 0, 0), Dev::HostBridge),
    (Bdf::new(0, 1, 0), Dev::IsaBridge),
    (Bdf::new(0, 1, 1), Dev::Ide),
    (Bdf::new(0, 1, 3), Dev::PowerManagement),
    (Bdf::new(0, 2, 0), Dev::Vga),
    (AHCI, Dev::Ahci),
    (NVME, Dev::Nvme),
    (VIRTIO_BLK, Dev::VirtioBlk),
];

/// Fixed ports: first, count, device, region.
pub const PORTS: [(u16, u16, Dev, u8); 33] = [
    (0x20, 2, Dev::Pic, 0),
    (0xa0, 2, Dev::Pic, 1),
    (0x4d0, 2, Dev::Pic, 2),
    (0x40, 4, Dev::Pit, 0),
    (0x61, 1, Dev::Pit, 1),
    (0x60, 1, Dev::I8042, 0),
    (0x64, 1, Dev::I8042, 1),
    (0x70, 2, Dev::Rtc, 0),
    (0x80, 1, Dev::PostPort, 0),
    (0x92, 1, Dev::SystemControlA, 0),
    (0xf0, 1, Dev::Coprocessor, 0),
    (SMI_CMD, 2, Dev::AcpiPm, 2),
    (0x3b0, 0x30, Dev::Vga, aero_gpu::REGION_PORTS),
    (0x1ce, 3, Dev::Vga, aero_gpu::REGION_VBE_PORTS),
    (COM1, 8, Dev::Serial, 0),
    (COM2, 8, Dev::Serial2, 0),
    (GPE0, GPE0_LEN, Dev::AcpiPm, 1),
    (PCI_CONFIG, 1, Dev::PciHost, 0),
    (RESET_PORT, 1, Dev::ResetControl, 0),
    (0xcfa, 6, Dev::PciHost, 0),
    (0xed, 1, Dev::PostPort, 0),
    (0x510, 2, Dev::FwCfg, 0),
    (0x514, 8, Dev::FwCfg, 1),
    (0x00, 0x10, Dev::Dma, 0),
    (0xc0, 0x20, Dev::Dma, 1),
    (0x81, 0x0f, Dev::Dma, 2),
    (0x3f0, 6, Dev::Floppy, 0),
    (0x3f7, 1, Dev::Floppy, 1),
    (0x378, 3, Dev::Parallel, 0),
    (0x1f0, 8, Dev::Ide, 0),
    (0x3f6, 1, Dev::Ide, 1),
    (0x170, 8, Dev::Ide, 2),
    (0x376, 1, Dev::Ide, 3),
];

/// Ports of the device of test kernels, where there is one: they come before the others.
pub const TEST_PORTS: [(u16, u16, Dev, u8); 4] = [
    (0xe0, 4, Dev::TestDevice, 0),
    (0xe4, 4, Dev::TestDevice, 1),
    (0xe8, 4, Dev::TestDevice, 2),
    (0x2000, 24, Dev::TestDevice, 3),
];

/// Its memory.
pub const TEST_MEMORY: u64 = 0xff00_0000;

/// Ports that nobody answers and nobody wonders about: probed by every Linux boot (third and fourth serial port, ISA PnP,
/// coprocessor reset).
pub const SILENT_PORTS: [Range<u16>; 6] =
    [0x10..0x20, 0xf0..0x100, 0x279..0x27a, 0x2e8..0x2f0, 0x3e8..0x3f0, 0xa79..0xa7a];

/// What the ACPI tables say of floppy drives: a topology that does not change with what is in them.
const FLOPPIES: [Option<FloppyKind>; 2] = [Some(FloppyKind::D1440), None];

/// The DMA channel of the floppy controller.
pub const FLOPPY_DMA: u8 = 2;

/// Pages of chips that no PCI window covers, which memory maps reserve.
pub fn reserved(hpet: bool) -> Vec<Range<u64>> {
    let pages = [IOAPIC, LAPIC].into_iter().chain(hpet.then_some(HPET));
    pages.map(|page| page..page + 0x1000).collect()
}

/// What the ACPI tables are made from.
pub fn board(cpus: u8, pm_base: u16, hpet: bool) -> Board {
    let isa = |kind, ports: &[(u16, u8)], irq| IsaDevice { kind, ports: ports.to_vec(), irq, dma: None };
    let floppy = IsaDevice {
        dma: Some(FLOPPY_DMA),
        ..isa(IsaKind::Floppy, &[(0x3f0, 6), (0x3f7, 1)], Some(irq::FLOPPY))
    };
    Board {
        cpus,
        ioapic: IOAPIC as u32,
        ioapic_id: 0,
        lapic: LAPIC as u32,
        pm_base,
        pm_len: PM_LEN as u8,
        gpe0: GPE0,
        gpe0_len: GPE0_LEN as u8,
        smi_cmd: SMI_CMD,
        acpi_enable: acpi_pm::ACPI_ENABLE_COMMAND,
        acpi_disable: acpi_pm::ACPI_DISABLE_COMMAND,
        sci: irq::SCI,
        reset_port: RESET_PORT,
        reset_value: 6,
        s3: None,
        s4: Some(acpi_pm::SLEEP_TYPE_S4),
        s5: acpi_pm::SLEEP_TYPE_S5,
        rtc_century: mc146818::CENTURY_INDEX,
        pci_window: PCI_WINDOW,
        pci_config: (PCI_CONFIG, 8),
        isa_bridge: 1,
        pirq_of,
        pirq_choices: vec![5, 10, 11],
        hpet: hpet.then_some(HpetBlock { base: HPET as u32, id: hpet::ID, min_tick: hpet::MIN_TICK }),
        floppies: FLOPPIES,
        isa: vec![
            isa(
                IsaKind::Motherboard,
                &[
                    (0x80, 1),
                    (0x92, 1),
                    (SMI_CMD, 2),
                    (0x4d0, 2),
                    (pm_base, PM_LEN as u8),
                    (GPE0, GPE0_LEN as u8),
                ],
                None,
            ),
            isa(IsaKind::Pic, &[(0x20, 2), (0xa0, 2)], Some(2)),
            isa(IsaKind::Pit, &[(0x40, 4)], Some(irq::PIT)),
            isa(IsaKind::Speaker, &[(0x61, 1)], None),
            isa(IsaKind::Rtc, &[(0x70, 2)], Some(irq::RTC)),
            isa(IsaKind::Fpu, &[(0xf0, 16)], Some(irq::FPU)),
            isa(IsaKind::Keyboard, &[(0x60, 1), (0x64, 1)], Some(irq::KEYBOARD)),
            isa(IsaKind::Mouse, &[], Some(irq::MOUSE)),
            isa(IsaKind::Serial, &[(COM1, 8)], Some(irq::COM1)),
            isa(IsaKind::Serial, &[(COM2, 8)], Some(irq::COM2)),
            isa(IsaKind::Parallel, &[(0x378, 3)], Some(irq::LPT1)),
            isa(IsaKind::Dma, &[(0x00, 0x10), (0x81, 0x0f), (0xc0, 0x20)], None),
            floppy,
        ],
    }
}

/// The PIRQ line of a device's pin (0 = INTA): neighbours differ.
pub fn pirq_of(device: u8, pin: u8) -> u8 {
    device.wrapping_add(pin).wrapping_sub(1) & 3
}
