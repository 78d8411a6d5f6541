//! Everything outside the processors: routes accesses to devices, moves interrupts, keeps the time.

use crate::clock::Clock;
use crate::config::Config;
use crate::devices::{Devices, Lines, dev_of};
use crate::layout::{Dev, IOAPIC, PORTS, RESET_PORT, SILENT_PORTS, TEST_MEMORY, TEST_PORTS, ioapic_pin};
use crate::typist::Typist;
use aero_bus::{At, Cx, Fabric, Mmio, PortIo, VmTime, Width};
use aero_chipset::test_device::{MEMORY_SIZE, REGION_MEMORY};
use aero_cpu::Bus;
use aero_cpu::lapic::Icr;
use aero_mem::{Gpa, GuestMemory, VGA_WINDOW};
use std::collections::BTreeSet;

/// An access that no device claimed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Unclaimed {
    /// A port.
    Port(u16),
    /// A page of memory.
    Memory(u64),
}

/// Trip-wires kept at most: a guest that scans everything must not fill the host's memory.
const MAX_UNCLAIMED: usize = 4096;

/// The board.
pub(crate) struct World {
    pub fabric: Fabric,
    pub devices: Devices,
    pub lines: Lines,
    pub clock: Clock,
    pub typist: Typist,
    /// Interrupt commands of local APICs, delivered by the machine.
    pub ipis: Vec<Icr>,
    debug_exit: Option<u16>,
    debugcon: Vec<u16>,
    post_port: Option<u16>,
    test_device: bool,
    unclaimed: BTreeSet<Unclaimed>,
    /// The next timer when the processor was last entered: one armed before it asks for attention.
    horizon: Option<VmTime>,
    /// INTR rose since the processor was last entered.
    intr_rose: bool,
}

impl World {
    pub fn new(config: &Config, clock: Clock, mem: &GuestMemory) -> Self {
        let mut fabric = Fabric::new();
        let lines = Lines::mint(&mut fabric);
        Self {
            devices: Devices::new(config, &lines, mem),
            fabric,
            lines,
            clock,
            typist: Typist::default(),
            ipis: Vec::new(),
            debug_exit: config.debug_exit,
            debugcon: config.debugcon.clone(),
            post_port: config.post_port,
            test_device: config.test_device,
            unclaimed: BTreeSet::new(),
            horizon: None,
            intr_rose: false,
        }
    }

    pub fn reset(&mut self, mem: &mut GuestMemory) {
        self.fabric.clear();
        self.typist = Typist::default();
        self.ipis.clear();
        self.devices.reset(&mut self.fabric, mem);
        self.settle(mem);
        self.map_memory(mem);
    }

    /// Without firmware: the board as it would leave it.
    pub fn leave_as_firmware_does(&mut self, mem: &mut GuestMemory) {
        self.devices.leave_as_firmware_does();
        self.map_memory(mem);
    }

    /// Makes memory what the host bridge and the A20 gates say.
    fn map_memory(&mut self, mem: &mut GuestMemory) {
        self.devices.host_bridge.shadow().for_each(|(range, bank)| mem.set_banks(range, bank));
        mem.set_a20(self.devices.system_control.a20() || self.devices.i8042.a20());
    }

    /// Accesses that nothing answered, each once.
    pub fn unclaimed(&self) -> impl Iterator<Item = Unclaimed> + '_ {
        self.unclaimed.iter().copied()
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

    fn port_owner(&self, port: u16) -> Option<(Dev, At)> {
        if self.debug_exit == Some(port) {
            return Some((Dev::DebugExit, At::new(0, 0)));
        }
        if let Some(n) = self.debugcon.iter().position(|p| *p == port) {
            return Some((Dev::DebugCon, At::new(n as u8, 0)));
        }
        if self.post_port == Some(port) {
            return Some((Dev::PostPort, At::new(1, 0)));
        }
        let test_ports = TEST_PORTS.iter().filter(|_| self.test_device);
        test_ports
            .chain(&PORTS)
            .find(|(first, count, ..)| port.wrapping_sub(*first) < *count)
            .map(|(first, _, dev, region)| (*dev, At::new(*region, u64::from(port - first))))
            .map(|(dev, at)| match dev {
                // CFAh continues what CF8h begins.
                Dev::PciHost if port > RESET_PORT => (dev, At::new(0, u64::from(port - 0xcf8))),
                _ => (dev, at),
            })
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
        let Some((dev, at)) = self.port_owner(port) else { return self.miss(Unclaimed::Port(port), width) };
        let mut cx = Cx::new(&mut self.fabric, mem, dev.id());
        let answer = self.devices.get(dev).and_then(|d| d.pio()).map(|p| PortIo::read(p, &mut cx, at, width));
        match answer {
            Some(Ok(value)) => value & width.ones(),
            _ => self.miss(Unclaimed::Port(port), width),
        }
    }

    fn port_write(&mut self, mem: &mut GuestMemory, port: u16, width: Width, value: u64) {
        if (0xcf8..0xd00).contains(&port)
            && !(port == RESET_PORT && width == Width::B1)
            && let Some(access) = self.config_access(At::new(0, u64::from(port - 0xcf8)), width)
        {
            return self.config_write(mem, access, value);
        }
        let Some((dev, at)) = self.port_owner(port) else {
            self.miss(Unclaimed::Port(port), width);
            return;
        };
        let mut cx = Cx::new(&mut self.fabric, mem, dev.id());
        let done =
            self.devices.get(dev).and_then(|d| d.pio()).map(|p| PortIo::write(p, &mut cx, at, width, value));
        if !matches!(done, Some(Ok(()))) {
            self.miss(Unclaimed::Port(port), width);
        }
        if matches!(dev, Dev::SystemControlA | Dev::I8042) {
            self.map_memory(mem);
        }
    }

    fn config_write(
        &mut self,
        mem: &mut GuestMemory,
        access: aero_chipset::i440fx::ConfigAccess,
        value: u64,
    ) {
        if let Some((dev, function)) = self.devices.function(access.bdf) {
            function.config().write(access.register, access.to_dword(value), access.enables);
            function.config_written(&mut Cx::new(&mut self.fabric, mem, dev.id()), access.register);
            if dev == Dev::HostBridge {
                self.map_memory(mem);
            }
        }
    }

    fn memory_owner(&self, gpa: u64) -> Option<(Dev, At)> {
        if VGA_WINDOW.contains(&gpa) {
            return Some((Dev::Vga, At::new(aero_gpu::REGION_MEMORY, gpa - VGA_WINDOW.start)));
        }
        if self.test_device && (TEST_MEMORY..TEST_MEMORY + MEMORY_SIZE).contains(&gpa) {
            return Some((Dev::TestDevice, At::new(REGION_MEMORY, gpa - TEST_MEMORY)));
        }
        if let Some(at) = self.devices.vga.as_ref().and_then(|v| v.decode(gpa)) {
            return Some((Dev::Vga, at));
        }
        (IOAPIC..IOAPIC + 0x1000).contains(&gpa).then(|| (Dev::IoApic, At::new(0, gpa - IOAPIC)))
    }

    /// What an access that nothing answers reads as; told once.
    #[cold]
    fn miss(&mut self, what: Unclaimed, width: Width) -> u64 {
        let silent = matches!(what, Unclaimed::Port(p) if SILENT_PORTS.iter().any(|r| r.contains(&p)));
        if !silent && self.unclaimed.len() < MAX_UNCLAIMED && self.unclaimed.insert(what) {
            log::info!("unclaimed access: {what:x?}, {} bytes", width.bytes());
        }
        width.ones()
    }
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
        let Some((dev, at)) = self.memory_owner(gpa) else { return self.miss(page, width) };
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
        let Some((dev, at)) = self.memory_owner(gpa) else {
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
