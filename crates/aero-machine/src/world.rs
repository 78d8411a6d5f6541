//! Everything outside the processors: routes accesses to devices, moves interrupts, keeps the time.

use crate::clock::Clock;
use crate::config::{Config, Firmware};
use crate::devices::{CLOCK_IRQS, Devices, Lines, dev_of};
use crate::drives::{Attached, Place};
use crate::hub::Hub;
use crate::layout::{
    Dev, HPET, IOAPIC, PM_BASE, PM_LEN, PORTS, RESET_PORT, SILENT_PORTS, TEST_MEMORY, TEST_PORTS, ioapic_pin,
};
use crate::routes::{Claim, Routes};
use crate::typist::Typist;
use aero_bus::block::{BlockBackend, DriveId, Medium};
use aero_bus::{At, Cx, Fabric, IrqLine, Mmio, PortIo, VmTime, Width};
use aero_chipset::hpet;
use aero_chipset::test_device::{MEMORY_SIZE, REGION_MEMORY};
use aero_cpu::Bus;
use aero_cpu::lapic::Icr;
use aero_mem::{Gpa, GuestMemory, VGA_WINDOW};
use aero_storage::atapi::Cd;
use std::collections::BTreeMap;

/// An access that nothing claimed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Unclaimed {
    /// A port.
    Port(u16),
    /// A page of memory.
    Memory(u64),
    /// A model-specific register of the processor.
    Msr(u32),
}

impl core::fmt::Display for Unclaimed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Port(port) => write!(f, "port {port:#x}"),
            Self::Memory(page) => write!(f, "memory page {page:#x}"),
            Self::Msr(n) => write!(f, "MSR {n:#x}"),
        }
    }
}

/// Trip-wires kept at most: a guest that scans everything must not fill the host's memory.
const MAX_UNCLAIMED: usize = 4096;

/// Requests brought back between two slices at most.
const MAX_ENDS: u32 = 4096;

/// The board.
pub(crate) struct World {
    pub fabric: Fabric,
    pub devices: Devices,
    pub lines: Lines,
    pub clock: Clock,
    pub typist: Typist,
    /// Interrupt commands of local APICs, delivered by the machine.
    pub ipis: Vec<Icr>,
    /// Requests to drives.
    pub hub: Hub,
    /// Where each drive is.
    places: Vec<Place>,
    routes: Routes,
    /// Ports and memory that are where they are, first claim first.
    fixed: (Vec<Claim>, Vec<Claim>),
    /// Whether the HPET interrupts in place of the 8254 and the real-time clock.
    clocks_replaced: bool,
    /// ISA interrupts that PCI interrupts hold high.
    pirq_high: u16,
    /// Each with RIP at the first time.
    unclaimed: BTreeMap<Unclaimed, u64>,
    /// Where the access under way comes from: RIP of its block.
    rip: u64,
    /// The next timer when the processor was last entered: one armed before it asks for attention.
    horizon: Option<VmTime>,
    /// INTR rose since the processor was last entered.
    intr_rose: bool,
}

impl World {
    pub fn new(
        config: &Config,
        clock: Clock,
        drives: Attached,
        firmware: Option<&Firmware>,
        mem: &GuestMemory,
    ) -> Self {
        let mut fabric = Fabric::new();
        let lines = Lines::mint(&mut fabric);
        Self {
            devices: Devices::new(config, &drives, firmware, &lines, mem),
            places: drives.places().to_vec(),
            hub: Hub::new(drives.into_backends(), clock.skips_idle_time()),
            fabric,
            lines,
            clock,
            typist: Typist::default(),
            ipis: Vec::new(),
            routes: Routes::new(),
            fixed: (fixed_ports(config), fixed_memory(config)),
            clocks_replaced: false,
            pirq_high: 0,
            unclaimed: BTreeMap::new(),
            rip: 0,
            horizon: None,
            intr_rose: false,
        }
    }

    pub fn reset(&mut self, mem: &mut GuestMemory) {
        self.fabric.clear();
        self.typist = Typist::default();
        self.ipis.clear();
        self.pirq_high = 0;
        self.clocks_replaced = false;
        self.devices.reset(&mut self.fabric, mem);
        self.reroute();
        self.settle(mem);
        self.map_memory(mem);
    }

    /// Without firmware: the board as it would leave it.
    pub fn leave_as_firmware_does(&mut self, mem: &mut GuestMemory) {
        self.devices.leave_as_firmware_does();
        self.reroute();
        self.map_memory(mem);
    }

    /// Makes memory what the host bridge and the A20 gates say.
    fn map_memory(&mut self, mem: &mut GuestMemory) {
        self.devices.host_bridge.shadow().for_each(|(range, bank)| mem.set_banks(range, bank));
        mem.set_a20(self.devices.system_control.a20() || self.devices.i8042.a20());
    }

    /// Accesses that nothing answered, each once, with RIP there.
    pub fn unclaimed(&self) -> impl Iterator<Item = (Unclaimed, u64)> + '_ {
        self.unclaimed.iter().map(|(what, rip)| (*what, *rip))
    }

    /// Brings virtual time up to `retired` instructions.
    pub fn sync(&mut self, retired: u64) -> VmTime {
        let now = self.clock.now(retired);
        self.fabric.advance_to(now);
        now
    }

    /// Runs every timer that is due.
    pub fn run_timers(&mut self, mem: &mut GuestMemory) {
        while let Some((id, which)) = self.fabric.timers.take_due(self.fabric.now()) {
            let Some(dev) = dev_of(id) else { continue };
            let mut cx = Cx::new(&mut self.fabric, mem, id);
            match self.devices.get(dev) {
                Some(device) => device.timer(&mut cx, which),
                None => self.typist.press_next(&mut self.fabric, mem, &mut self.devices.i8042),
            }
            self.after_port(mem, dev);
            self.settle(mem);
        }
    }

    /// Lends a device the world, for calls that come from the host.
    pub fn with<R>(
        &mut self,
        mem: &mut GuestMemory,
        dev: Dev,
        call: impl FnOnce(&mut Devices, &mut Cx<'_>) -> R,
    ) -> R {
        let result = call(&mut self.devices, &mut Cx::new(&mut self.fabric, mem, dev.id()));
        self.settle(mem);
        result
    }

    /// Before the processor is entered: what would make it come back early starts from here.
    pub fn begin_slice(&mut self) {
        self.horizon = self.fabric.timers.next_deadline();
        self.intr_rose = false;
    }

    /// Carries line changes to the interrupt controllers until nothing moves.
    pub fn settle(&mut self, mem: &mut GuestMemory) {
        loop {
            let changes = self.fabric.take_line_changes();
            if changes.is_empty() {
                return;
            }
            for change in changes {
                if change.line == self.lines.intr {
                    self.intr_rose |= change.level;
                } else if self.lines.pirq.contains(&change.line) {
                    self.steer_pirqs(mem);
                } else if let Some(n) = self.clock_lines().iter().position(|l| *l == change.line) {
                    self.drive_clock(mem, n, change.level);
                } else if let Some(n) = self.lines.high.iter().position(|l| *l == change.line) {
                    let mut cx = Cx::new(&mut self.fabric, mem, Dev::IoApic.id());
                    self.devices.ioapic.set_pin(&mut cx, 16 + n as u8, change.level);
                } else if let Some(n) = self.lines.isa.iter().position(|l| *l == change.line) {
                    let n = n as u8;
                    let mut cx = Cx::new(&mut self.fabric, mem, Dev::Pic.id());
                    self.devices.pic.set_input(&mut cx, n, change.level);
                    let mut cx = Cx::new(&mut self.fabric, mem, Dev::IoApic.id());
                    self.devices.ioapic.set_pin(&mut cx, ioapic_pin(n), change.level);
                }
            }
        }
    }

    /// The lines that drive the clocks' interrupts where there is an HPET.
    fn clock_lines(&self) -> [IrqLine; 2] {
        if self.clocks_replaced { self.lines.hpet } else { self.lines.clocks }
    }

    fn drive_clock(&mut self, mem: &mut GuestMemory, n: usize, level: bool) {
        let line = self.lines.isa[usize::from(CLOCK_IRQS[n])];
        Cx::new(&mut self.fabric, mem, Dev::Hpet.id()).set_irq(line, level);
    }

    /// Lets the HPET, or the 8254 and the real-time clock, have their interrupts after a write to the HPET.
    fn choose_clocks(&mut self, mem: &mut GuestMemory) {
        let replaced = self.devices.hpet.as_ref().is_some_and(|hpet| hpet.replaces_legacy());
        if replaced != core::mem::replace(&mut self.clocks_replaced, replaced) {
            for (n, line) in self.clock_lines().into_iter().enumerate() {
                let level = self.fabric.level(line);
                self.drive_clock(mem, n, level);
            }
        }
    }

    /// Carries the four PCI interrupt lines to the ISA interrupts that the ISA bridge steers them to.
    fn steer_pirqs(&mut self, mem: &mut GuestMemory) {
        let high = (0..4u8).filter(|n| self.fabric.level(self.lines.pirq[usize::from(*n)]));
        let high = high.filter_map(|n| self.devices.isa_bridge.pirq_irq(n)).fold(0u16, |all, n| all | 1 << n);
        let mut changed = high ^ core::mem::replace(&mut self.pirq_high, high);
        while changed != 0 {
            let n = changed.trailing_zeros() as usize;
            changed &= changed - 1;
            Cx::new(&mut self.fabric, mem, Dev::Pirq.id()).set_irq(self.lines.isa[n], high >> n & 1 != 0);
        }
    }

    /// Takes the requests to drives that devices have submitted, and brings back what has ended.
    pub fn run_drives(&mut self, mem: &mut GuestMemory) {
        // A bound, so that a guest whose requests end at once cannot keep the host.
        for _ in 0..MAX_ENDS {
            if self.fabric.has_transfers() {
                let now = self.fabric.now();
                for (device, request) in self.fabric.take_transfers() {
                    self.hub.submit(now, device, request);
                }
            }
            let Some((id, end)) = self.hub.take_done(self.fabric.now()) else { return };
            let Some(dev) = dev_of(id) else { continue };
            if let Some(device) = self.devices.get(dev) {
                device.complete(&mut Cx::new(&mut self.fabric, mem, id), end);
            }
            self.after_port(mem, dev);
            self.settle(mem);
        }
    }

    /// Puts another medium into a drive, or takes it out; false if the drive refuses.
    pub fn change_medium(&mut self, n: usize, backend: Option<Box<dyn BlockBackend>>) -> bool {
        let Some(place) = self.places.get(n) else { return false };
        let id = DriveId(n as u8);
        let medium = backend.as_ref().map(|b| b.medium());
        let changed = match *place {
            Place::Floppy(drive) => self.devices.floppy.insert(drive, medium.map(|m| (id, m))),
            Place::Ide(channel, unit) => {
                change_disc(self.devices.ide.cd(channel.into(), unit.into()), medium)
            }
            Place::Nvme | Place::Virtio => false,
            Place::Ahci(port) => {
                let cd = self.devices.ahci.as_mut().and_then(|ahci| ahci.cd(port.into()));
                change_disc(cd, medium)
            }
        };
        if changed {
            self.hub.change(id, backend);
        }
        changed
    }

    /// Makes the table of who answers where, after something has moved.
    fn reroute(&mut self) {
        let (bar_ports, bar_memory) = self.devices.bars();
        let power = self.devices.power.pm_base();
        let power = power.map(|base| Claim::new(base.into(), PM_LEN.into(), Dev::AcpiPm, 0));
        let (ports, memory) = self.fixed.clone();
        let ports = ports.into_iter().chain(power).chain(bar_ports).collect();
        self.routes.rebuild(ports, memory.into_iter().chain(bar_memory).collect());
    }

    fn config_access(&mut self, at: At, width: Width) -> Option<aero_chipset::i440fx::ConfigAccess> {
        self.devices.pci_host.config_access(at, width)
    }

    fn port_read(&mut self, mem: &mut GuestMemory, port: u16, width: Width) -> u64 {
        let port_at = |p: u16| At::new(0, u64::from(p - 0xcf8));
        if (0xcf8..0xd00).contains(&port)
            && !(port == RESET_PORT && width == Width::B1)
            && let Some(access) = self.config_access(port_at(port), width)
        {
            let dword =
                self.devices.function(access.bdf).map_or(u32::MAX, |(_, f)| f.config().read(access.register));
            return access.from_dword(dword, width);
        }
        let Some((dev, at)) = self.routes.port(port) else { return self.miss(Unclaimed::Port(port), width) };
        let mut cx = Cx::new(&mut self.fabric, mem, dev.id());
        let answer = self.devices.get(dev).and_then(|d| d.pio()).map(|p| PortIo::read(p, &mut cx, at, width));
        if dev == Dev::Floppy {
            self.after_port(mem, dev);
        }
        match answer {
            Some(Ok(value)) => value & width.ones(),
            _ => self.miss(Unclaimed::Port(port), width),
        }
    }

    /// What a device's call may have changed beyond itself.
    #[inline]
    fn after_port(&mut self, mem: &mut GuestMemory, dev: Dev) {
        match dev {
            Dev::SystemControlA | Dev::I8042 => self.map_memory(mem),
            Dev::Floppy | Dev::Dma => self.devices.serve_dma(&mut self.fabric, mem),
            _ => {}
        }
    }

    fn port_write(&mut self, mem: &mut GuestMemory, port: u16, width: Width, value: u64) {
        if (0xcf8..0xd00).contains(&port)
            && !(port == RESET_PORT && width == Width::B1)
            && let Some(access) = self.config_access(At::new(0, u64::from(port - 0xcf8)), width)
        {
            return self.config_write(mem, access, value);
        }
        let Some((dev, at)) = self.routes.port(port) else {
            self.miss(Unclaimed::Port(port), width);
            return;
        };
        let mut cx = Cx::new(&mut self.fabric, mem, dev.id());
        let done =
            self.devices.get(dev).and_then(|d| d.pio()).map(|p| PortIo::write(p, &mut cx, at, width, value));
        if !matches!(done, Some(Ok(()))) {
            self.miss(Unclaimed::Port(port), width);
        }
        self.after_port(mem, dev);
    }

    fn config_write(
        &mut self,
        mem: &mut GuestMemory,
        access: aero_chipset::i440fx::ConfigAccess,
        value: u64,
    ) {
        let Some((dev, function)) = self.devices.function(access.bdf) else { return };
        function.config().write(access.register, access.to_dword(value), access.enables);
        function.config_written(&mut Cx::new(&mut self.fabric, mem, dev.id()), access.register);
        match (dev, access.register) {
            (Dev::HostBridge, _) => self.map_memory(mem),
            (Dev::IsaBridge, _) => self.steer_pirqs(mem),
            (Dev::PowerManagement, _) => {
                self.reroute();
                self.devices.describe_power(PM_BASE);
            }
            (_, 0x04..=0x27 | 0x30) => self.reroute(),
            _ => {}
        }
    }

    /// What an access that nothing answers reads as; told once.
    #[cold]
    fn miss(&mut self, what: Unclaimed, width: Width) -> u64 {
        let silent = matches!(what, Unclaimed::Port(p) if SILENT_PORTS.iter().any(|r| r.contains(&p)));
        if !silent && self.unclaimed.len() < MAX_UNCLAIMED && !self.unclaimed.contains_key(&what) {
            self.unclaimed.insert(what, self.rip);
            log::info!("unclaimed access near {:#x}: {what:x?}, {} bytes", self.rip, width.bytes());
        }
        width.ones()
    }
}

/// Puts a disc into a drive, or asks for it back; false if it stays, or this is no such drive.
fn change_disc(drive: Option<&mut Cd>, medium: Option<Medium>) -> bool {
    let Some(drive) = drive else { return false };
    match medium {
        Some(medium) => drive.insert(medium),
        None => return drive.eject(false),
    }
    true
}

/// Ports that do not move. Those of the user's choice come first, then the test device's.
fn fixed_ports(config: &Config) -> Vec<Claim> {
    let one = |port: u16, dev, region| Claim::new(port.into(), 1, dev, region);
    let consoles = config.debugcon.iter().zip(0..);
    let tests = TEST_PORTS.iter().filter(|_| config.test_device);
    let exit = config.debug_exit.map(|port| one(port, Dev::DebugExit, 0));
    let consoles = consoles.map(|(port, n)| one(*port, Dev::DebugCon, n));
    let post = config.post_port.map(|port| one(port, Dev::PostPort, 1));
    let board = tests.chain(&PORTS).map(|(first, count, dev, region)| Claim {
        // CFAh continues what CF8h begins.
        offset: if *dev == Dev::PciHost && *first > RESET_PORT { u64::from(first - 0xcf8) } else { 0 },
        ..Claim::new((*first).into(), (*count).into(), *dev, *region)
    });
    exit.into_iter().chain(consoles).chain(post).chain(board).collect()
}

/// Memory of devices that does not move.
fn fixed_memory(config: &Config) -> Vec<Claim> {
    let window = VGA_WINDOW.end - VGA_WINDOW.start;
    let test = Claim::new(TEST_MEMORY, MEMORY_SIZE, Dev::TestDevice, REGION_MEMORY);
    let vga = Claim::new(VGA_WINDOW.start, window, Dev::Vga, aero_gpu::REGION_MEMORY);
    let ioapic = Claim::new(IOAPIC, 0x1000, Dev::IoApic, 0);
    let timer = config.hpet.then(|| Claim::new(HPET, hpet::LEN, Dev::Hpet, 0));
    [vga, ioapic].into_iter().chain(config.test_device.then_some(test)).chain(timer).collect()
}

/// Pieces of an access that devices know: an access of another size is cut by the processor already.
fn width_of(len: u32) -> Width {
    Width::of(len as usize).unwrap_or(Width::B1)
}

impl Bus for World {
    fn read_memory(&mut self, mem: &mut GuestMemory, when: u64, gpa: u64, len: u32) -> u64 {
        self.sync(when);
        let width = width_of(len);
        let page = Unclaimed::Memory(gpa & !0xfff);
        let Some((dev, at)) = self.routes.memory(gpa) else { return self.miss(page, width) };
        let mut cx = Cx::new(&mut self.fabric, mem, dev.id());
        let answer = self.devices.get(dev).and_then(|d| d.mmio()).map(|m| Mmio::read(m, &mut cx, at, width));
        self.settle(mem);
        match answer {
            Some(Ok(value)) => value & width.ones(),
            _ => self.miss(page, width),
        }
    }

    fn write_memory(&mut self, mem: &mut GuestMemory, when: u64, gpa: u64, len: u32, value: u64) {
        self.sync(when);
        let width = width_of(len);
        let page = Unclaimed::Memory(gpa & !0xfff);
        if mem.offset_of(Gpa(gpa)).is_some() {
            // ROM, or RAM that the host bridge has write-protected.
            return;
        }
        let Some((dev, at)) = self.routes.memory(gpa) else {
            self.miss(page, width);
            return;
        };
        let mut cx = Cx::new(&mut self.fabric, mem, dev.id());
        let value = value & width.ones();
        let done =
            self.devices.get(dev).and_then(|d| d.mmio()).map(|m| Mmio::write(m, &mut cx, at, width, value));
        if !matches!(done, Some(Ok(()))) {
            self.miss(page, width);
        }
        if dev == Dev::Hpet {
            self.choose_clocks(mem);
        }
        self.settle(mem);
    }

    fn read_port(&mut self, mem: &mut GuestMemory, when: u64, port: u16, len: u32) -> u32 {
        self.sync(when);
        let value = self.port_read(mem, port, width_of(len));
        self.settle(mem);
        value as u32
    }

    fn write_port(&mut self, mem: &mut GuestMemory, when: u64, port: u16, len: u32, value: u32) {
        self.sync(when);
        self.port_write(mem, port, width_of(len), value.into());
        self.settle(mem);
    }

    fn set_ferr(&mut self, mem: &mut GuestMemory, when: u64, asserted: bool) {
        self.sync(when);
        self.devices
            .coprocessor
            .set_ferr(&mut Cx::new(&mut self.fabric, mem, Dev::Coprocessor.id()), asserted);
        self.settle(mem);
    }

    fn at_instruction(&mut self, rip: u64) {
        self.rip = rip;
    }

    fn ignne(&self) -> bool {
        self.devices.coprocessor.ignne()
    }

    fn now(&mut self, when: u64) -> u64 {
        self.sync(when).0
    }

    fn interrupt_line(&self) -> bool {
        self.fabric.level(self.lines.intr)
    }

    fn acknowledge_interrupt(&mut self, mem: &mut GuestMemory, when: u64) -> u8 {
        self.sync(when);
        let vector = self.devices.pic.acknowledge(&mut Cx::new(&mut self.fabric, mem, Dev::Pic.id()));
        self.settle(mem);
        vector
    }

    fn needs_attention(&self) -> bool {
        let earlier = match (self.fabric.timers.next_deadline(), self.horizon) {
            (Some(next), Some(horizon)) => next < horizon,
            (Some(_), None) => true,
            (None, _) => false,
        };
        self.intr_rose || earlier || !self.ipis.is_empty() || self.fabric.has_work()
    }

    fn request_reset(&mut self) {
        // As the reset port does.
        self.fabric.request(aero_bus::PowerRequest::Reset);
    }

    fn send_ipi(&mut self, icr: Icr) {
        self.ipis.push(icr);
    }

    fn end_of_interrupt(&mut self, mem: &mut GuestMemory, when: u64, vector: u8) {
        self.sync(when);
        self.devices.ioapic.end_of_interrupt(&mut Cx::new(&mut self.fabric, mem, Dev::IoApic.id()), vector);
        self.settle(mem);
    }
}
