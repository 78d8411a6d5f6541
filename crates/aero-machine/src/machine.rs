//! The machine: one owner of processors, memory and devices, and the loop that runs them.

use crate::boot;
use crate::clock::{Clock, WallClock};
use crate::config::{Boot, BuildError, ClockConfig, Config, JitConfig, JitTier, Kernel};
use crate::drives::{Attached, Drive};
use crate::engine::{self, Engine};
use crate::hub::DriveTally;
use crate::layout::Dev;
use crate::world::{Unclaimed, World};
use aero_bus::block::BlockBackend;
use aero_bus::{PowerRequest, VmTime};
use aero_cpu::lapic::{Delivery, DeliveryMode, Icr, Message, Shorthand};
use aero_cpu::{Cpu, CpuConfig, Exit as CpuExit};
use aero_gpu::Frame;
use aero_mem::GuestMemory;
use serde::Serialize;
use std::collections::BTreeMap;

/// Why [`Machine::run`] came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The budget is used up.
    Budget,
    /// Every processor is halted and nothing is due before `until`; input may come earlier. `None`: nothing is armed.
    Idle {
        /// Virtual time of the next timer.
        until: Option<VmTime>,
    },
    /// With the clock `icount`: the guest's time has come to where a request to a drive ends, and the host has not finished it.
    WaitIo,
    /// The guest switched the machine off.
    Shutdown,
    /// The guest asked for a reset: call [`Machine::reset`] and go on, or stop.
    Reset,
    /// The guest ended the run with this status.
    DebugExit(u32),
    /// The guest cannot go on: a triple fault, with the state at that point.
    Fault(String),
}

/// Counters of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Guest instructions retired.
    pub instructions: u64,
    /// Virtual time in nanoseconds.
    pub virtual_ns: u64,
    /// Bytes of guest RAM.
    pub memory: u64,
    /// Walks of the page tables for data.
    pub tlb_misses: u64,
    /// Interrupts, exceptions, decoding, devices.
    #[serde(flatten)]
    pub cpu: aero_cpu::Counters,
    /// Compiled code, if there is any.
    pub jit: Option<Compiled>,
    /// What each drive has moved, in the order of the drives.
    pub drives: Vec<DriveTally>,
    /// Ports and pages that nothing answered.
    pub unclaimed: usize,
    /// The last POST code.
    pub post_code: u8,
}

/// Counters of compiled code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Compiled {
    /// How it is compiled.
    pub tier: JitTier,
    /// Regions, instructions, reasons to leave.
    #[serde(flatten)]
    pub tally: aero_cpu::jit::Tally,
    /// Instructions that compiled code had interpreted, by name.
    pub interpreted: BTreeMap<String, u64>,
}

/// In one call, idle time is jumped over so often at most: a guest that halts with interrupts off and a timer running
/// must not keep the host.
const MAX_IDLE_JUMPS: u32 = 10_000;

/// A PC.
pub struct Machine {
    mem: GuestMemory,
    cpus: Vec<Cpu>,
    world: World,
    /// What is started without firmware, and loaded again at a reset.
    kernel: Option<Kernel>,
    fault: Option<String>,
    /// How code is compiled.
    tier: JitTier,
}

impl Machine {
    /// Builds a machine at power-on, with its kernel loaded or its firmware in place.
    ///
    /// # Errors
    /// When there is no such memory, or the kernel, initrd or ROM cannot be loaded.
    pub fn new(config: Config, boot: Boot, wall: Box<dyn WallClock>) -> Result<Self, BuildError> {
        Self::with_engine(config, boot, wall, None)
    }

    /// Bytes of the arena that an [`Engine`] must lend.
    pub fn arena_bytes(config: &Config, boot: &Boot) -> u64 {
        let rom = match boot {
            Boot::Kernel(_) => 0,
            Boot::Firmware(firmware) => firmware.rom.len() as u64,
        };
        GuestMemory::arena_bytes_with_video(config.memory, 1, rom, config.video_memory())
    }

    /// The same with an engine for compiled code.
    ///
    /// # Errors
    /// As for [`Machine::new`], and when the engine's arena is too small.
    pub fn with_engine(
        config: Config,
        boot: Boot,
        wall: Box<dyn WallClock>,
        engine: Option<Engine>,
    ) -> Result<Self, BuildError> {
        Self::with_drives(config, boot, Vec::new(), wall, engine)
    }

    /// The same with drives.
    ///
    /// # Errors
    /// As for [`Machine::with_engine`], and when a drive has no place.
    pub fn with_drives(
        config: Config,
        boot: Boot,
        drives: Vec<Drive>,
        wall: Box<dyn WallClock>,
        engine: Option<Engine>,
    ) -> Result<Self, BuildError> {
        if let ClockConfig::Icount { mips } = config.clock
            && !(1..=100_000).contains(&mips)
        {
            return Err(BuildError::Mips(mips));
        }
        let cpu = CpuConfig {
            model: config.cpu.find()?,
            strict_msr: config.cpu.strict_msr,
            hyperv: config.hyperv,
            seed: config.rtc,
        };
        let drives = Attached::new(drives)?;
        // A bad file is told before memory is asked for.
        let (kernel, firmware) = match boot {
            Boot::Kernel(kernel) => {
                boot::check(&kernel)?;
                (Some(kernel), None)
            }
            Boot::Firmware(firmware) => {
                boot::check_firmware(&firmware.rom)?;
                (None, Some(firmware))
            }
        };
        let repeatable = matches!(config.clock, ClockConfig::Icount { .. });
        let jit = JitConfig { exact: config.jit.exact || repeatable, ..config.jit };
        let rom = firmware.as_ref().map_or(&[][..], |f| &f.rom);
        let (mem, cpu) = engine::processor((config.memory, config.video_memory()), rom, cpu, &jit, engine)?;
        let cpus = vec![cpu];
        let world = World::new(&config, Clock::new(config.clock, wall), drives, firmware.as_ref(), &mem);
        let mut machine = Self { mem, cpus, world, kernel, fault: None, tier: jit.tier };
        machine.reset()?;
        Ok(machine)
    }

    /// Power-on state; a kernel that is started without firmware is loaded again. Virtual time and the instruction count go on.
    ///
    /// # Errors
    /// As for [`Machine::new`].
    pub fn reset(&mut self) -> Result<(), BuildError> {
        self.fault = None;
        let now = self.now();
        for cpu in &mut self.cpus {
            cpu.reset(&mut self.mem);
            // RESET clears the time-stamp counter (Intel SDM vol. 3, 18.17); virtual time goes on.
            cpu.core.tsc_offset = aero_cpu::msr::ticks(now.0).wrapping_neg();
        }
        self.world.reset(&mut self.mem);
        if let Some(kernel) = &self.kernel {
            self.world.leave_as_firmware_does(&mut self.mem);
            boot::load(&mut self.cpus, &mut self.mem, kernel, self.world.devices.hpet.is_some())?;
        } else {
            self.cpus[0].core.lapic.connect_pic();
        }
        Ok(())
    }

    /// Runs at most `budget` instructions.
    pub fn run(&mut self, budget: u64) -> Exit {
        if let Some(report) = &self.fault {
            return Exit::Fault(report.clone());
        }
        let end = self.retired().saturating_add(budget);
        let mut jumps = 0;
        loop {
            let now = self.advance();
            if let Some(exit) = self.power_request() {
                return exit;
            }
            if self.world.hub.is_waiting(now) {
                return Exit::WaitIo;
            }
            let retired = self.retired();
            if retired >= end {
                return Exit::Budget;
            }
            let next = self.next_deadline();
            let slice = self.world.clock.instructions_until(retired, next).min(end - retired);
            self.world.begin_slice();
            match self.cpus[0].run(&mut self.mem, &mut self.world, slice) {
                CpuExit::Budget | CpuExit::Attention => {}
                CpuExit::Shutdown => return self.triple_fault(),
                CpuExit::Halted => {
                    if let Some(exit) = self.idle(now, &mut jumps) {
                        return exit;
                    }
                }
            }
        }
    }

    /// Brings time up to date and delivers everything that is due.
    fn advance(&mut self) -> VmTime {
        let now = self.world.sync(self.cpus[0].core.retired);
        self.world.run_timers(&mut self.mem);
        self.world.run_drives(&mut self.mem);
        for cpu in &mut self.cpus {
            cpu.core.lapic.tick(now.0);
        }
        for message in self.world.fabric.take_messages() {
            let m = Message::decode(message.address, message.data);
            self.deliver(m.mode, m.vector, m.level_triggered, |id| id.matches(m.destination, m.logical));
        }
        for icr in core::mem::take(&mut self.world.ipis) {
            self.deliver_ipi(icr);
        }
        now
    }

    fn deliver_ipi(&mut self, icr: Icr) {
        // With one processor the sender is processor 0.
        let target = |lapic: &aero_cpu::lapic::LocalApic| match icr.shorthand {
            Shorthand::Destination => lapic.matches(icr.destination, icr.logical),
            Shorthand::SelfOnly => lapic.id() == 0,
            Shorthand::All => true,
            Shorthand::Others => lapic.id() != 0,
        };
        self.deliver(icr.mode, icr.vector, false, target);
    }

    fn deliver(
        &mut self,
        mode: DeliveryMode,
        vector: u8,
        level: bool,
        target: impl Fn(&aero_cpu::lapic::LocalApic) -> bool,
    ) {
        let mut targets: Vec<usize> =
            (0..self.cpus.len()).filter(|n| target(&self.cpus[*n].core.lapic)).collect();
        if mode == DeliveryMode::LowestPriority {
            targets.sort_by_key(|n| self.cpus[*n].core.lapic.priority());
            targets.truncate(1);
        }
        for n in targets {
            let core = &mut self.cpus[n].core;
            match core.lapic.deliver(mode, vector, level) {
                Delivery::Nmi => core.nmi_pending = true,
                // INTR is looked at whenever the processor may take an interrupt.
                Delivery::Accepted | Delivery::Ignored | Delivery::ExtInt => {}
                Delivery::Init | Delivery::StartUp { .. } | Delivery::Smi => {
                    log::info!("{mode:?} interrupt to processor {n} ignored: one processor, no SMM");
                }
            }
        }
    }

    fn power_request(&mut self) -> Option<Exit> {
        Some(match self.world.fabric.take_request()? {
            PowerRequest::Reset => Exit::Reset,
            PowerRequest::Off => Exit::Shutdown,
            PowerRequest::DebugExit(status) => Exit::DebugExit(status),
        })
    }

    fn next_deadline(&self) -> Option<VmTime> {
        let apics = self.cpus.iter().filter_map(|c| c.core.lapic.next_deadline().map(VmTime));
        let drives = self.world.hub.next_deadline();
        self.world.fabric.timers.next_deadline().into_iter().chain(drives).chain(apics).min()
    }

    /// The processor is halted: jump to the next timer, or let the host wait for it.
    fn idle(&mut self, now: VmTime, jumps: &mut u32) -> Option<Exit> {
        let Some(next) = self.next_deadline() else { return Some(Exit::Idle { until: None }) };
        if next <= now {
            return None;
        }
        if !self.world.clock.skips_idle_time() {
            return Some(Exit::Idle { until: Some(next) });
        }
        *jumps += 1;
        if *jumps > MAX_IDLE_JUMPS {
            return Some(Exit::Budget);
        }
        let retired = self.retired();
        self.world.clock.skip_to(retired, next);
        None
    }

    fn triple_fault(&mut self) -> Exit {
        let st = self.cpus[0].state(&self.mem);
        let report = format!(
            "triple fault at rip {:#x} (cs {:#x}, cr0 {:#x}, cr2 {:#x}, cr3 {:#x}, cr4 {:#x}, rsp {:#x})",
            st.rip,
            st.segments[1].selector,
            st.cr0,
            st.cr2,
            st.cr3,
            st.cr4,
            st.gpr(4)
        );
        self.fault = Some(report.clone());
        Exit::Fault(report)
    }

    /// Stops virtual time.
    pub fn pause(&mut self) {
        self.world.clock.pause();
    }

    /// Lets virtual time go on from where it stopped.
    pub fn resume(&mut self) {
        self.world.clock.resume();
    }

    /// Virtual time.
    pub fn now(&mut self) -> VmTime {
        self.world.clock.now(self.cpus[0].core.retired)
    }

    /// Guest instructions retired.
    pub fn retired(&self) -> u64 {
        self.cpus[0].core.retired
    }

    /// Counters.
    pub fn stats(&mut self) -> Stats {
        let cpu = &self.cpus[0];
        Stats {
            instructions: cpu.core.retired,
            virtual_ns: self.world.fabric.now().0,
            memory: self.mem.ram_size(),
            tlb_misses: cpu.tlb_misses(),
            cpu: cpu.core.counters,
            jit: cpu.translator().map(|translator| Compiled {
                tier: self.tier,
                tally: translator.tally(),
                interpreted: cpu.regions().interpreted(),
            }),
            drives: self.world.hub.tallies().to_vec(),
            unclaimed: self.world.unclaimed().count(),
            post_code: self.world.devices.post.code(),
        }
    }

    /// Puts a medium into drive `n`, in the order of the drives that the machine was built with, or takes it out. A disc drive
    /// whose tray the guest has locked is only told of the wish to take it out; then, or where media do not change, this is false.
    pub fn change_medium(&mut self, n: usize, backend: Option<Box<dyn BlockBackend>>) -> bool {
        self.world.sync(self.cpus[0].core.retired);
        self.world.change_medium(n, backend)
    }

    /// Whether a request to a drive is under way: its end may come while the guest is idle.
    pub fn io_pending(&self) -> bool {
        !self.world.hub.is_idle()
    }

    /// Ports and memory pages that the guest used and nothing answered.
    pub fn unclaimed(&self) -> impl Iterator<Item = Unclaimed> + '_ {
        self.world.unclaimed().map(|(what, _)| what)
    }

    /// What the guest used and nothing knows, registers of the processor too: each once, with RIP at the
    /// first time: that of the instruction, or of the block of straight code that it lies in.
    pub fn trip_wires(&self) -> Vec<(Unclaimed, u64)> {
        let msrs = self.cpus.iter().flat_map(|cpu| &cpu.core.unknown_msrs);
        let mut all: Vec<_> = msrs.map(|(n, rip)| (Unclaimed::Msr(*n), *rip)).collect();
        all.extend(self.world.unclaimed());
        all.sort_unstable();
        all
    }

    /// The architectural state of the bootstrap processor.
    pub fn cpu_state(&self) -> &aero_cpu::state::CpuState {
        self.cpus[0].state(&self.mem)
    }

    /// Guest memory.
    pub fn memory(&self) -> &GuestMemory {
        &self.mem
    }

    /// Sends bytes into COM1.
    pub fn serial_send(&mut self, bytes: &[u8]) {
        self.world.sync(self.cpus[0].core.retired);
        self.world.with(&mut self.mem, Dev::Serial, |d, cx| d.serial.send(cx, bytes));
    }

    /// What the guest wrote to COM1 since the last call.
    pub fn take_serial(&mut self) -> Vec<u8> {
        self.world.devices.serial.take_output()
    }

    /// What the guest wrote to debug console `n` ([`Config::debugcon`]) since the last call.
    pub fn take_debugcon(&mut self, n: usize) -> Vec<u8> {
        self.world.devices.debugcon.take_output(n)
    }

    /// The codes written to [`Config::post_port`] since the last call.
    pub fn take_post_codes(&mut self) -> Vec<u8> {
        self.world.devices.post.take_log()
    }

    /// The text on the screen: lines joined by newlines, trailing blanks trimmed. Empty without a VGA card.
    pub fn screen_text(&self) -> String {
        self.world.devices.vga.as_ref().map(|v| v.text(&self.mem)).unwrap_or_default()
    }

    /// Draws the screen into `frame`; false if it has not changed since it was last drawn.
    pub fn render(&mut self, frame: &mut Frame) -> bool {
        let now = self.now();
        self.world.devices.vga.as_mut().is_some_and(|v| v.render(now, &mut self.mem, frame))
    }

    /// A key of the host's keyboard, by its `KeyboardEvent.code`.
    pub fn inject_browser_key(&mut self, code: &str, pressed: bool) {
        self.world.sync(self.cpus[0].core.retired);
        self.world.with(&mut self.mem, Dev::I8042, |d, cx| d.i8042.key(cx, code, pressed));
    }

    /// Moves the mouse: `dx` right, `dy` down, `wheel` up.
    pub fn inject_mouse_motion(&mut self, dx: i32, dy: i32, wheel: i32) {
        self.world.sync(self.cpus[0].core.retired);
        self.world.with(&mut self.mem, Dev::I8042, |d, cx| d.i8042.mouse_motion(cx, dx, dy, wheel));
    }

    /// Types text, a key at a time.
    pub fn type_text(&mut self, text: &str) {
        self.world.sync(self.cpus[0].core.retired);
        self.world.typist.queue(&mut self.world.fabric, text);
    }

    /// Presses the power button.
    pub fn power_button(&mut self) {
        self.world.sync(self.cpus[0].core.retired);
        self.world.with(&mut self.mem, Dev::AcpiPm, |d, cx| d.acpi.press_power_button(cx));
    }
}
