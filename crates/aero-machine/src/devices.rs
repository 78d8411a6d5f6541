//! The devices of the board, owned by type and reached by name.

use crate::config::Config;
use crate::layout::{Dev, FUNCTIONS, PIRQ_ROUTES, PM_BASE, irq};
use aero_bus::pci::{Bdf, PciFunction};
use aero_bus::{Cx, Device, Fabric, IrqLine};
use aero_chipset::acpi_pm::AcpiPm;
use aero_chipset::coprocessor::CoprocessorError;
use aero_chipset::debug_ports::{DebugCon, DebugExit, PostPort};
use aero_chipset::fw_cfg::FwCfg;
use aero_chipset::i440fx::{HostBridge, PciHost};
use aero_chipset::i8254::Pit;
use aero_chipset::i8259::Pic;
use aero_chipset::ioapic::IoApic;
use aero_chipset::mc146818::Rtc;
use aero_chipset::piix::{IsaBridge, PowerManagement, ResetControl, SystemControlA};
use aero_chipset::serial::Serial;
use aero_chipset::test_device::TestDevice;
use aero_devices_input::i8042::I8042;
use aero_gpu::Vga;
use aero_mem::GuestMemory;

/// All devices.
pub(crate) struct Devices {
    pub pic: Pic,
    pub pit: Pit,
    pub rtc: Rtc,
    pub ioapic: IoApic,
    pub serial: Serial,
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
    pub test_device: Option<TestDevice>,
}

/// The interrupt lines of the board.
pub(crate) struct Lines {
    /// ISA interrupts, each a PIC input and an I/O APIC pin.
    pub isa: [IrqLine; 16],
    /// I/O APIC pins from 16 on.
    pub high: [IrqLine; 8],
    /// The PIC's output.
    pub intr: IrqLine,
}

impl Lines {
    pub fn mint(fabric: &mut Fabric) -> Self {
        Self {
            isa: core::array::from_fn(|_| fabric.mint_line()),
            high: core::array::from_fn(|_| fabric.mint_line()),
            intr: fabric.mint_line(),
        }
    }

    /// All lines of devices by their global number.
    fn global(&self) -> [Option<IrqLine>; 24] {
        core::array::from_fn(|n| self.isa.get(n).or_else(|| self.high.get(n - self.isa.len())).copied())
    }
}

impl Devices {
    pub fn new(config: &Config, lines: &Lines, mem: &GuestMemory) -> Self {
        let isa = |n: u8| lines.isa[usize::from(n)];
        Self {
            pic: Pic::new(lines.intr),
            pit: Pit::new(isa(irq::PIT)),
            rtc: Rtc::new(isa(irq::RTC), config.rtc, mem.low_ram(), mem.high_ram()),
            ioapic: IoApic::new(),
            serial: Serial::new(isa(irq::COM1)),
            i8042: I8042::new(isa(irq::KEYBOARD), isa(irq::MOUSE)),
            vga: config.vga.then(|| Vga::new(mem.video_size())),
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
            fw_cfg: FwCfg::new(1, mem.ram_size(), &[]),
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
            Dev::TestDevice => return self.test_device.as_mut().map(|t| t as &mut dyn Device),
            Dev::Typist => return None,
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

    /// The PCI function at `bdf`.
    pub fn function(&mut self, bdf: Bdf) -> Option<(Dev, &mut dyn PciFunction)> {
        let dev = FUNCTIONS.iter().find(|(at, _)| *at == bdf)?.1;
        Some((dev, self.get(dev)?.pci()?))
    }
}

/// Every device, in the order of reset.
const ALL: [Dev; 20] = [
    Dev::Pic,
    Dev::Pit,
    Dev::Rtc,
    Dev::IoApic,
    Dev::Serial,
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
    Dev::TestDevice,
];

/// The device with this number.
pub(crate) fn dev_of(id: aero_bus::DeviceId) -> Option<Dev> {
    if id == Dev::Typist.id() {
        return Some(Dev::Typist);
    }
    ALL.into_iter().find(|d| d.id() == id)
}
