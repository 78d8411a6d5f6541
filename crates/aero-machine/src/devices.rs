//! The devices of the board, owned by type and reached by name.

use crate::config::{Config, Firmware};
use crate::drives::Attached;
use crate::firmware;
use crate::layout::{self, Dev, FLOPPY_DMA, FUNCTIONS, HPET_PIN, PIRQ_ROUTES, PM_BASE, irq, pirq_of};
use crate::routes::{Claim, REGION_ROM};
use aero_bus::pci::{Bar, Bdf, ConfigSpace, PciFunction};
use aero_bus::virtio::VirtioPci;
use aero_bus::{Cx, Device, Fabric, IrqLine};
use aero_chipset::acpi_pm::AcpiPm;
use aero_chipset::coprocessor::CoprocessorError;
use aero_chipset::debug_ports::{DebugCon, DebugExit, PostPort};
use aero_chipset::fw_cfg::FwCfg;
use aero_chipset::hpet::Hpet;
use aero_chipset::i440fx::{HostBridge, PciHost};
use aero_chipset::i8237::Dma;
use aero_chipset::i8254::Pit;
use aero_chipset::i8259::Pic;
use aero_chipset::ioapic::IoApic;
use aero_chipset::lpt::Lpt;
use aero_chipset::mc146818::Rtc;
use aero_chipset::piix::{IsaBridge, PowerManagement, ResetControl, SystemControlA};
use aero_chipset::serial::Serial;
use aero_chipset::test_device::TestDevice;
use aero_devices_input::i8042::I8042;
use aero_gpu::Vga;
use aero_mem::GuestMemory;
use aero_storage::ahci::Ahci;
use aero_storage::floppy::Floppy;
use aero_storage::ide::Ide;
use aero_storage::nvme::Nvme;
use aero_storage::virtio_blk::VirtioBlk;

/// The interrupts of the 8254 and of the real-time clock, which the HPET can take over.
pub(crate) const CLOCK_IRQS: [u8; 2] = [irq::PIT, irq::RTC];

/// All devices.
pub(crate) struct Devices {
    pub pic: Pic,
    pub pit: Pit,
    pub rtc: Rtc,
    pub ioapic: IoApic,
    pub hpet: Option<Hpet>,
    pub serial: Serial,
    pub serial2: Serial,
    pub i8042: I8042,
    pub vga: Option<Vga>,
    pub pci_host: PciHost,
    pub host_bridge: HostBridge,
    pub isa_bridge: IsaBridge,
    pub power: PowerManagement,
    pub acpi: AcpiPm,
    pub reset_control: ResetControl,
    pub system_control: SystemControlA,
    pub coprocessor: CoprocessorError,
    pub post: PostPort,
    pub debug_exit: DebugExit,
    pub debugcon: DebugCon,
    pub fw_cfg: FwCfg,
    pub dma: Dma,
    pub floppy: Floppy,
    pub parallel: Lpt,
    pub ide: Ide,
    pub ahci: Option<Ahci>,
    pub nvme: Option<Nvme>,
    pub virtio_blk: Option<VirtioPci<VirtioBlk>>,
    pub test_device: Option<TestDevice>,
}

/// The interrupt lines of the board.
pub(crate) struct Lines {
    /// ISA interrupts, each a PIC input and an I/O APIC pin.
    pub isa: [IrqLine; 16],
    /// I/O APIC pins from 16 on.
    pub high: [IrqLine; 8],
    /// PIRQA# to PIRQD#, which pins of PCI functions are wired to.
    pub pirq: [IrqLine; 4],
    /// Where there is an HPET: what the 8254 and the real-time clock drive, and what the HPET drives in their place.
    pub clocks: [IrqLine; 2],
    pub hpet: [IrqLine; 2],
    /// The PIC's output.
    pub intr: IrqLine,
}

impl Lines {
    pub fn mint(fabric: &mut Fabric) -> Self {
        Self {
            isa: core::array::from_fn(|_| fabric.mint_line()),
            high: core::array::from_fn(|_| fabric.mint_line()),
            pirq: core::array::from_fn(|_| fabric.mint_line()),
            clocks: [fabric.mint_line(), fabric.mint_line()],
            hpet: [fabric.mint_line(), fabric.mint_line()],
            intr: fabric.mint_line(),
        }
    }

    /// What the 8254 and the real-time clock drive.
    fn clocks_of(&self, config: &Config) -> [IrqLine; 2] {
        if config.hpet { self.clocks } else { CLOCK_IRQS.map(|n| self.isa[usize::from(n)]) }
    }

    /// The HPET on its lines.
    fn hpet(&self) -> Hpet {
        let routes = (HPET_PIN..).zip(&self.high[usize::from(HPET_PIN) - self.isa.len()..]);
        Hpet::new(self.hpet, routes.map(|(pin, line)| (pin, *line)).collect())
    }

    /// The line of a function's pin: 1 INTA# to 4 INTD#.
    pub fn pin(&self, at: Bdf, pin: u8) -> IrqLine {
        self.pirq[usize::from(pirq_of(at.device(), pin.wrapping_sub(1)))]
    }

    /// All lines of devices by their global number.
    fn global(&self) -> [Option<IrqLine>; 24] {
        core::array::from_fn(|n| self.isa.get(n).or_else(|| self.high.get(n - self.isa.len())).copied())
    }
}

impl Devices {
    pub fn new(
        config: &Config,
        drives: &Attached,
        firmware: Option<&Firmware>,
        lines: &Lines,
        mem: &GuestMemory,
    ) -> Self {
        let isa = |n: u8| lines.isa[usize::from(n)];
        let [pit, clock] = lines.clocks_of(config);
        Self {
            pic: Pic::new(lines.intr),
            pit: Pit::new(pit),
            rtc: rtc(clock, config, drives, mem),
            ioapic: IoApic::new(),
            hpet: config.hpet.then(|| lines.hpet()),
            serial: Serial::new(isa(irq::COM1)),
            serial2: Serial::unplugged(isa(irq::COM2)),
            i8042: I8042::new(isa(irq::KEYBOARD), isa(irq::MOUSE)),
            vga: config.vga.then(|| vga(firmware, mem)),
            pci_host: PciHost::new(),
            host_bridge: HostBridge::new(),
            isa_bridge: IsaBridge::new(),
            power: PowerManagement::new(),
            acpi: AcpiPm::new(isa(irq::SCI)),
            reset_control: ResetControl::new(),
            system_control: SystemControlA::new(),
            coprocessor: CoprocessorError::new(isa(irq::FPU)),
            post: PostPort::new(),
            debug_exit: DebugExit::new(),
            debugcon: DebugCon::new(config.debugcon.len()),
            fw_cfg: firmware::describe(config, drives, firmware, mem),
            dma: Dma::new(),
            floppy: drives.floppy(isa(irq::FLOPPY)),
            parallel: Lpt::new(isa(irq::LPT1)),
            ide: Ide::new(irq::IDE.map(isa), drives.ide()),
            nvme: drives.nvme(lines.pin(layout::NVME, 1)),
            virtio_blk: drives.virtio_blk(lines.pin(layout::VIRTIO_BLK, 1)),
            ahci: drives.ahci().map(|units| Ahci::new(lines.pin(layout::AHCI, 1), units)),
            test_device: config.test_device.then(|| TestDevice::new(lines.global())),
        }
    }

    /// The device of that name, if the machine has it.
    pub fn get(&mut self, dev: Dev) -> Option<&mut dyn Device> {
        Some(match dev {
            Dev::Pic => &mut self.pic,
            Dev::Pit => &mut self.pit,
            Dev::Rtc => &mut self.rtc,
            Dev::IoApic => &mut self.ioapic,
            Dev::Serial => &mut self.serial,
            Dev::Serial2 => &mut self.serial2,
            Dev::Hpet => return self.hpet.as_mut().map(|h| h as &mut dyn Device),
            Dev::I8042 => &mut self.i8042,
            Dev::Vga => return self.vga.as_mut().map(|v| v as &mut dyn Device),
            Dev::PciHost => &mut self.pci_host,
            Dev::HostBridge => &mut self.host_bridge,
            Dev::IsaBridge => &mut self.isa_bridge,
            Dev::PowerManagement => &mut self.power,
            Dev::AcpiPm => &mut self.acpi,
            Dev::ResetControl => &mut self.reset_control,
            Dev::SystemControlA => &mut self.system_control,
            Dev::Coprocessor => &mut self.coprocessor,
            Dev::PostPort => &mut self.post,
            Dev::DebugExit => &mut self.debug_exit,
            Dev::DebugCon => &mut self.debugcon,
            Dev::FwCfg => &mut self.fw_cfg,
            Dev::Dma => &mut self.dma,
            Dev::Floppy => &mut self.floppy,
            Dev::Parallel => &mut self.parallel,
            Dev::Ide => &mut self.ide,
            Dev::Ahci => return self.ahci.as_mut().map(|a| a as &mut dyn Device),
            Dev::Nvme => return self.nvme.as_mut().map(|n| n as &mut dyn Device),
            Dev::VirtioBlk => return self.virtio_blk.as_mut().map(|v| v as &mut dyn Device),
            Dev::TestDevice => return self.test_device.as_mut().map(|t| t as &mut dyn Device),
            Dev::Typist | Dev::Pirq => return None,
        })
    }

    /// Resets every device.
    pub fn reset(&mut self, fabric: &mut Fabric, mem: &mut GuestMemory) {
        for dev in ALL {
            if let Some(device) = self.get(dev) {
                device.reset(&mut Cx::new(fabric, mem, dev.id()));
            }
        }
    }

    /// Does what firmware does to the board before it hands over.
    pub fn leave_as_firmware_does(&mut self) {
        self.power.set_pm_base(PM_BASE);
        self.host_bridge.open_shadow();
        let [a, b, c, d] = PIRQ_ROUTES.map(u32::from);
        self.isa_bridge.config().write(0x60, d << 24 | c << 16 | b << 8 | a, 0xf);
    }

    /// Lets the ISA bus's DMA controller move what the floppy controller has or wants.
    pub fn serve_dma(&mut self, fabric: &mut Fabric, mem: &mut GuestMemory) {
        self.dma.serve(&mut Cx::new(fabric, mem, Dev::Floppy.id()), FLOPPY_DMA, &mut self.floppy);
    }

    /// Tells firmware in the ACPI tables where it has put the power-management ports, or `usual` before it has.
    pub fn describe_power(&mut self, usual: u16) {
        let base = self.power.pm_base().unwrap_or(usual);
        firmware::describe_board(&mut self.fw_cfg, base, self.hpet.is_some());
    }

    /// What the base address registers of all functions decode now: ports, and memory.
    pub fn bars(&mut self) -> (Vec<Claim>, Vec<Claim>) {
        let (mut ports, mut memory) = (Vec::new(), Vec::new());
        for (_, dev) in FUNCTIONS {
            let Some(function) = self.get(dev).and_then(|d| d.pci()) else { continue };
            claims(function.config(), dev, &mut ports, &mut memory);
        }
        (ports, memory)
    }

    /// The PCI function at `bdf`.
    pub fn function(&mut self, bdf: Bdf) -> Option<(Dev, &mut dyn PciFunction)> {
        let dev = FUNCTIONS.iter().find(|(at, _)| *at == bdf)?.1;
        Some((dev, self.get(dev)?.pci()?))
    }
}

fn rtc(irq: IrqLine, config: &Config, drives: &Attached, mem: &GuestMemory) -> Rtc {
    let mut rtc = Rtc::new(irq, config.rtc, mem.low_ram(), mem.high_ram());
    rtc.describe_floppies(drives.floppy_kinds().map(|kind| kind.map_or(0, |kind| kind as u8)));
    rtc
}

fn vga(firmware: Option<&Firmware>, mem: &GuestMemory) -> Vga {
    let vga = Vga::new(mem.video_size());
    match firmware.map(|f| &f.vga_bios[..]) {
        None | Some([]) => vga,
        Some(bios) => vga.with_bios(bios),
    }
}

fn claims(config: &ConfigSpace, dev: Dev, ports: &mut Vec<Claim>, memory: &mut Vec<Claim>) {
    for index in 0..6 {
        if let Some((bar, base)) = config.bar(usize::from(index)) {
            let to = if matches!(bar, Bar::Io { .. }) { &mut *ports } else { &mut *memory };
            to.push(Claim::new(base, bar.size(), dev, index));
        }
    }
    if let Some((base, size)) = config.rom() {
        memory.push(Claim::new(base, size.into(), dev, REGION_ROM));
    }
}

/// Every device, in the order of reset.
const ALL: [Dev; 29] = [
    Dev::Pic,
    Dev::Pit,
    Dev::Rtc,
    Dev::IoApic,
    Dev::Hpet,
    Dev::Serial,
    Dev::Serial2,
    Dev::I8042,
    Dev::Vga,
    Dev::PciHost,
    Dev::HostBridge,
    Dev::IsaBridge,
    Dev::PowerManagement,
    Dev::AcpiPm,
    Dev::ResetControl,
    Dev::SystemControlA,
    Dev::PostPort,
    Dev::DebugExit,
    Dev::DebugCon,
    Dev::Coprocessor,
    Dev::FwCfg,
    Dev::Dma,
    Dev::Floppy,
    Dev::Parallel,
    Dev::Ide,
    Dev::Ahci,
    Dev::Nvme,
    Dev::VirtioBlk,
    Dev::TestDevice,
];

/// The device with this number.
pub(crate) fn dev_of(id: aero_bus::DeviceId) -> Option<Dev> {
    if id == Dev::Typist.id() {
        return Some(Dev::Typist);
    }
    ALL.into_iter().find(|d| d.id() == id)
}
