//! A processor while it runs: its state with everything lent to it for one call of [`crate::Cpu::run`].

use crate::debug::Watch;
use crate::exception::{Exception, Vector};
use crate::jit::Regions;
use crate::lapic::LocalApic;
use crate::op::Op;
use crate::state::{CpuState, Segment, cr0, seg};
use crate::tlb::Tlb;
use aero_mem::{ArenaPtr, GuestMemory};
use aero_x86::CodeSize;
use aero_x86::cpuid::Model;

/// The world around a processor, as the machine provides it. `when` counts the instructions that this processor has
/// retired before the one under way, so that virtual time is exact in the middle of a block.
pub trait Bus {
    /// Reads `len` (1, 2, 4, 8) bytes of device memory.
    fn read_memory(&mut self, mem: &mut GuestMemory, when: u64, gpa: u64, len: u32) -> u64;
    /// Writes device memory.
    fn write_memory(&mut self, mem: &mut GuestMemory, when: u64, gpa: u64, len: u32, value: u64);
    /// Reads `len` (1, 2, 4) bytes from a port.
    fn read_port(&mut self, mem: &mut GuestMemory, when: u64, port: u16, len: u32) -> u32;
    /// Writes a port.
    fn write_port(&mut self, mem: &mut GuestMemory, when: u64, port: u16, len: u32, value: u32);
    /// The next access comes from the block of straight code that was entered at `rip`, or from this instruction itself.
    fn at_instruction(&mut self, _rip: u64) {}
    /// Virtual time in nanoseconds.
    fn now(&mut self, when: u64) -> u64;
    /// Whether the interrupt controllers of old (8259) drive INTR.
    fn interrupt_line(&self) -> bool;
    /// The INTA cycle: the vector of the 8259's interrupt.
    fn acknowledge_interrupt(&mut self, mem: &mut GuestMemory, when: u64) -> u8;
    /// Whether the run loop must return to the machine: a line changed, a timer was armed, a reset was asked for.
    fn needs_attention(&self) -> bool;
    /// An interrupt command that the local APIC wants sent.
    fn send_ipi(&mut self, icr: crate::lapic::Icr);
    /// The FERR# pin: an unmasked floating-point error waits while CR0.NE is clear.
    fn set_ferr(&mut self, _mem: &mut GuestMemory, _when: u64, _asserted: bool) {}
    /// The IGNNE# pin: floating-point errors are to be ignored while CR0.NE is clear.
    fn ignne(&self) -> bool {
        false
    }
    /// Software asked for a reset of the machine by a register of the processor.
    fn request_reset(&mut self) {}
    /// End of a level-triggered interrupt: the I/O APICs must hear of it.
    fn end_of_interrupt(&mut self, mem: &mut GuestMemory, when: u64, vector: u8);
}

/// Why a handler did not simply go on to the next instruction of its block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Stop {
    /// The instruction is done and has set RIP.
    Branch,
    /// It must run again, RIP stays: a REP that used up the budget.
    Again,
    /// It changed nothing; [`Vcpu::exception`] is pending.
    Fault,
    /// It switched tasks and has set RIP; [`Vcpu::exception`] came up in the new task and is pending.
    FaultAfter,
    /// It changed nothing; its address was not canonical: #SS(0) or #GP(0) by its segment.
    NonCanonical,
    /// The block is stale and none of it ran.
    Stale,
    /// The processor stopped (HLT): done, RIP is the next instruction.
    Halt,
    /// A triple fault.
    Shutdown,
}

/// Decoding and checking depend on these; compiled code is keyed by them too.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Mode {
    /// Default operand and address size.
    pub code: CodeSize,
    /// Stack pointer of 4 bytes (2 otherwise, 8 in 64-bit mode).
    pub stack32: bool,
    /// CS has base 0 and the data segments need no checks.
    pub flat: bool,
}

impl Mode {
    /// A small number for keys.
    pub fn key(self) -> u32 {
        self.code as u32 | u32::from(self.stack32) << 2 | u32::from(self.flat) << 3
    }

    /// The mode that has this key. Higher bits are nothing of its.
    pub fn of_key(key: u32) -> Self {
        let code = match key & 3 {
            0 => CodeSize::B16,
            1 => CodeSize::B32,
            _ => CodeSize::B64,
        };
        Self { code, stack32: key & 4 != 0, flat: key & 8 != 0 }
    }

    /// Bytes of the stack pointer.
    pub fn stack_size(self) -> u8 {
        match (self.code, self.stack32) {
            (CodeSize::B64, _) => 8,
            (_, true) => 4,
            (_, false) => 2,
        }
    }
}

/// What a processor is made as.
#[derive(Clone, Copy, Debug)]
pub struct CpuConfig {
    /// What CPUID shows and what exists.
    pub model: &'static Model,
    /// Unknown MSRs fault; otherwise they read zero and swallow writes.
    pub strict_msr: bool,
    /// The hypervisor interface that Windows knows is there.
    pub hyperv: bool,
    /// Where RDRAND and RDSEED begin.
    pub seed: u64,
}

impl CpuConfig {
    /// A processor of `model` with the defaults of everything else.
    pub fn of(model: &'static Model) -> Self {
        Self { model, strict_msr: false, hyperv: false, seed: 0 }
    }
}

/// What belongs to the processor besides its architectural state.
pub struct Core {
    /// What it was made as.
    pub config: CpuConfig,
    /// Its number; 0 is the bootstrap processor.
    pub id: u8,
    /// Its local APIC.
    pub lapic: LocalApic,
    /// An NMI waits.
    pub nmi_pending: bool,
    /// NMIs are blocked until IRET.
    pub nmi_blocked: bool,
    /// What is held off until one more instruction has run.
    pub shadow: Shadow,
    /// FERR# is asserted.
    pub ferr: bool,
    /// DR6 bits of the debug trap that is due after the instruction under way.
    pub pending_debug: u64,
    /// What the debug registers watch for.
    pub watch: Watch,
    /// HLT was executed and nothing has woken the processor.
    pub halted: bool,
    /// MONITOR was executed and nothing has been delivered since.
    pub monitoring: bool,
    /// The flags that a CMPS or SCAS began with whose repeat goes on.
    pub repeat_flags: Option<crate::state::Flags>,
    /// Where RDRAND and RDSEED get their numbers.
    pub random: crate::op::random::Generator,
    /// Retired instructions.
    pub retired: u64,
    /// RDTSC minus virtual time in ticks (WRMSR to the TSC moves it).
    pub tsc_offset: u64,
    /// IA32_TSC_ADJUST: how far software has moved the counter.
    pub tsc_adjust: u64,
    /// State of the hypervisor interface.
    pub hyperv: crate::hyperv::HyperV,
    /// Numbers of MSRs that were asked for and are unknown, each with RIP at the first time.
    pub unknown_msrs: rustc_hash::FxHashMap<u32, u64>,
    /// Times a halted processor was entered, interrupts taken, exceptions raised.
    pub counters: Counters,
}

/// The interrupt shadow (Intel SDM vol. 3, 6.8.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shadow {
    /// None.
    Open,
    /// After STI: interrupts.
    Interrupts,
    /// After MOV SS and POP SS: interrupts and single-step traps.
    Traps,
}

/// Event counts for `--stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// External interrupts taken.
    pub interrupts: u64,
    /// Exceptions delivered.
    pub exceptions: u64,
    /// Page faults among them.
    pub page_faults: u64,
    /// Blocks decoded.
    pub blocks_decoded: u64,
    /// Block dispatches that missed the jump cache.
    pub dispatch_misses: u64,
    /// Pages whose code was overwritten.
    pub code_invalidations: u64,
    /// Device accesses: ports and memory.
    pub device_accesses: u64,
}

/// A processor at work.
pub struct Vcpu<'a> {
    /// Architectural state, in the arena.
    pub st: &'a mut CpuState,
    /// The arena.
    pub(crate) base: ArenaPtr,
    /// Arena offset of the read table of the current privilege.
    pub(crate) tlb_read: u64,
    /// Arena offset of the write table of the current privilege.
    pub(crate) tlb_write: u64,
    /// The run loop must look after this instruction.
    pub(crate) attention: bool,
    /// Address of the block's first instruction.
    pub(crate) first: usize,
    /// Address of the one that runs.
    pub(crate) at: usize,
    /// Instructions of the block that were charged to the budget in advance.
    pub(crate) charged: u32,
    /// Budget when this run began, with what was retired before it.
    pub(crate) retired_at_zero: u64,
    /// When the local APIC's timer was due as this run began: the budget was made for that.
    pub(crate) timer_at_entry: Option<u64>,
    /// The exception behind [`Stop::Fault`].
    pub(crate) exception: Exception,
    /// The instruction delivered an interrupt: TF was taken from it and does not trap.
    pub(crate) delivered: bool,
    /// One instruction runs by itself: a repeat does one iteration.
    pub(crate) stepping: bool,
    /// The mode that blocks are decoded for.
    pub(crate) mode: Mode,
    /// The mode and whether this is CPL 3, as a number.
    pub(crate) mode_key: u64,
    pub(crate) tlb: &'a mut Tlb,
    pub(crate) regions: &'a mut Regions,
    pub(crate) core: &'a mut Core,
    pub(crate) mem: &'a mut GuestMemory,
    pub(crate) bus: &'a mut dyn Bus,
}

impl Vcpu<'_> {
    /// Raises an exception without an error code.
    #[cold]
    pub fn raise(&mut self, vector: Vector) -> Stop {
        self.exception = Exception { vector, code: None, address: 0 };
        Stop::Fault
    }

    /// Raises an exception with an error code.
    #[cold]
    pub fn raise_code(&mut self, vector: Vector, code: u32) -> Stop {
        self.exception = Exception { vector, code: Some(code), address: 0 };
        Stop::Fault
    }

    /// #GP(`code`).
    #[cold]
    pub fn gp(&mut self, code: u32) -> Stop {
        self.raise_code(Vector::PROTECTION, code)
    }

    /// #UD.
    #[cold]
    pub fn ud(&mut self) -> Stop {
        self.raise(Vector::UNDEFINED)
    }

    /// #PF at `la`.
    #[cold]
    pub fn page_fault(&mut self, la: u64, code: u32) -> Stop {
        self.exception = Exception { vector: Vector::PAGE_FAULT, code: Some(code), address: la };
        Stop::Fault
    }

    /// Instructions retired before the one under way.
    pub fn retired(&self) -> u64 {
        let before_block = self.retired_at_zero.wrapping_sub(self.st.budget as u64) - u64::from(self.charged);
        before_block + (self.at.wrapping_sub(self.first) / size_of::<Op>()) as u64
    }

    /// Notes which instruction of the block runs. Its address is at hand; its number would take a register.
    #[inline(always)]
    pub(crate) fn under_way(&mut self, op: &Op) {
        self.at = core::ptr::from_ref(op).addr();
    }

    /// Virtual time in nanoseconds.
    pub fn now(&mut self) -> u64 {
        let when = self.retired();
        self.bus.now(when)
    }

    pub(crate) fn read_device(&mut self, gpa: u64, len: u32) -> u64 {
        self.core.counters.device_accesses += 1;
        if let Some(offset) = self.lapic_offset(gpa) {
            let now = self.now();
            return u64::from(self.core.lapic.read(offset & !3, now)) >> (8 * (offset & 3));
        }
        let when = self.retired();
        self.bus.at_instruction(self.st.rip);
        let value = self.bus.read_memory(self.mem, when, gpa, len);
        self.after_device();
        value
    }

    pub(crate) fn write_device(&mut self, gpa: u64, len: u32, value: u64) {
        self.core.counters.device_accesses += 1;
        if let Some(offset) = self.lapic_offset(gpa) {
            // Only aligned accesses of 32 bits are defined; others do nothing (Intel SDM vol. 3, 11.4.1).
            if len == 4 && offset & 15 == 0 {
                self.write_lapic(offset, value as u32);
            }
            return;
        }
        let when = self.retired();
        self.bus.at_instruction(self.st.rip);
        self.bus.write_memory(self.mem, when, gpa, len, value);
        self.after_device();
    }

    pub(crate) fn read_port(&mut self, port: u16, len: u32) -> u32 {
        self.core.counters.device_accesses += 1;
        let when = self.retired();
        self.bus.at_instruction(self.st.rip);
        let value = self.bus.read_port(self.mem, when, port, len);
        self.after_port(port, len);
        value
    }

    pub(crate) fn write_port(&mut self, port: u16, len: u32, value: u32) {
        self.core.counters.device_accesses += 1;
        let when = self.retired();
        self.bus.at_instruction(self.st.rip);
        self.bus.write_port(self.mem, when, port, len, value);
        self.after_port(port, len);
    }

    fn after_port(&mut self, port: u16, len: u32) {
        if self.core.watch.ports {
            self.watch_port(port, len);
        }
        self.after_device();
    }

    fn after_device(&mut self) {
        self.attention |=
            self.bus.needs_attention() || self.mem.code_was_modified() || self.tlb.map_is_stale(self.mem);
    }

    fn lapic_offset(&self, gpa: u64) -> Option<u32> {
        let offset = gpa.wrapping_sub(self.core.lapic.mmio_base()?);
        (offset < 0x1000).then_some(offset as u32)
    }

    pub(crate) fn write_lapic(&mut self, offset: u32, value: u32) {
        let now = self.now();
        let action = self.core.lapic.write(offset, value, now);
        self.lapic_action(action);
    }

    /// Does what a register write of the local APIC asks for. Always looks for interrupts afterwards: the priority,
    /// an armed timer or a self-IPI may have made one deliverable.
    pub(crate) fn lapic_action(&mut self, action: Option<crate::lapic::Action>) {
        match action {
            Some(crate::lapic::Action::Eoi { vector, level_triggered: true }) => {
                let when = self.retired();
                self.bus.end_of_interrupt(self.mem, when, vector);
            }
            Some(crate::lapic::Action::Ipi(icr)) => self.bus.send_ipi(icr),
            _ => {}
        }
        self.attention = true;
    }

    /// Whether the guest has armed the local APIC's timer for a time before the one that the budget was made for.
    pub(crate) fn timer_came_nearer(&self) -> bool {
        match (self.core.lapic.next_deadline(), self.timer_at_entry) {
            (Some(next), Some(then)) => next < then,
            (next, None) => next.is_some(),
            (None, Some(_)) => false,
        }
    }

    /// Re-derives what depends on CR0, EFER, CS, SS, DS, ES and the CPL. Call after changing any of them.
    pub(crate) fn update_mode(&mut self) {
        self.mode = mode_of(self.st);
        self.mode_key = u64::from(self.mode.key()) | u64::from(self.st.cpl == 3) << 4;
        (self.tlb_read, self.tlb_write) = self.tlb.tables(self.st.cpl == 3);
    }

    /// Whether x87 and MMX instructions may run: #NM otherwise.
    pub(crate) fn check_fpu(&mut self) -> Result<(), Stop> {
        if self.st.cr0 & (cr0::EM | cr0::TS) != 0 {
            return Err(self.raise(Vector::DEVICE_NOT_AVAILABLE));
        }
        Ok(())
    }
}

/// The decoding mode of a state.
pub(crate) fn mode_of(st: &CpuState) -> Mode {
    let at = |n: u8| &st.segments[usize::from(n)];
    let cs = at(seg::CS);
    // CS.D stays what it was when protection goes off, until a far transfer in protected mode changes it.
    let code = if st.long_mode() && cs.attributes & Segment::LONG != 0 {
        CodeSize::B64
    } else if cs.big() {
        CodeSize::B32
    } else {
        CodeSize::B16
    };
    let flat32 = || {
        code == CodeSize::B32
            && cs.base == 0
            && cs.limit == u32::MAX
            && [seg::DS, seg::ES, seg::SS].iter().all(|s| at(*s).is_flat_data())
    };
    Mode {
        code,
        stack32: code == CodeSize::B64 || at(seg::SS).big(),
        flat: code == CodeSize::B64 || !st.real_segments() && flat32(),
    }
}
