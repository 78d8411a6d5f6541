//! The run loop: dispatch blocks, take interrupts between them, stop exactly on budget.

#![allow(unsafe_code, reason = "borrows the state block out of the arena for the length of one run")]

use crate::block::BlockCache;
use crate::exception::{Exception, Vector};
use crate::lapic::LocalApic;
use crate::op::Op;
use crate::state::{CpuState, Segment, eflags, seg};
use crate::tlb::Tlb;
use crate::vcpu::{Bus, Core, Counters, CpuConfig, Shadow, Stop, Vcpu, mode_of};
use aero_mem::GuestMemory;
use aero_x86::slot;

/// Why [`Cpu::run`] came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// The budget is used up, to the instruction.
    Budget,
    /// A device wants the machine's attention.
    Attention,
    /// Halted with nothing to wake it.
    Halted,
    /// Triple fault.
    Shutdown,
}

/// One processor.
pub struct Cpu {
    /// What it has besides the state in the arena.
    pub core: Core,
    tlb: Tlb,
    cache: BlockCache,
}

impl Cpu {
    /// A processor in power-on state.
    pub fn new(mem: &mut GuestMemory, id: u8, config: CpuConfig) -> Self {
        let core = Core {
            config,
            id,
            lapic: LocalApic::new(id),
            nmi_pending: false,
            nmi_blocked: false,
            shadow: Shadow::Open,
            halted: false,
            retired: 0,
            tsc_offset: 0,
            unknown_msrs: Default::default(),
            counters: Counters::default(),
        };
        let mut cpu = Self { core, tlb: Tlb::new(mem, id.into()), cache: BlockCache::default() };
        cpu.reset(mem);
        cpu
    }

    /// Power-on state; the instruction count goes on.
    pub fn reset(&mut self, mem: &mut GuestMemory) {
        self.tlb.flush_all();
        self.cache.clear(mem);
        self.core.lapic.reset();
        self.core.nmi_pending = false;
        self.core.nmi_blocked = false;
        self.core.shadow = Shadow::Open;
        self.core.halted = false;
        self.core.tsc_offset = 0;
        // SAFETY: the state block lies in the arena, is reserved for this processor, and is plain data.
        unsafe { self.place(mem).write(CpuState::power_on()) }
    }

    fn place(&self, mem: &GuestMemory) -> *mut CpuState {
        mem.arena().at(u64::from(mem.layout().vcpu(self.core.id.into())))
    }

    /// The architectural state.
    pub fn state<'m>(&self, mem: &'m GuestMemory) -> &'m CpuState {
        // SAFETY: initialised by `reset`; `mem` is borrowed for as long as the reference lives.
        unsafe { &*self.place(mem) }
    }

    /// The architectural state, to be changed between runs (boot loaders, tests). Translations are dropped.
    pub fn state_mut<'m>(&mut self, mem: &'m mut GuestMemory) -> &'m mut CpuState {
        self.tlb.flush_all();
        // SAFETY: as in `state`, with `mem` borrowed exclusively.
        unsafe { &mut *self.place(mem) }
    }

    /// TLB misses so far.
    pub fn tlb_misses(&self) -> u64 {
        self.tlb.misses
    }

    /// Runs at most `budget` instructions.
    pub fn run(&mut self, mem: &mut GuestMemory, bus: &mut dyn Bus, budget: u64) -> Exit {
        let place = self.place(mem);
        // SAFETY: the state block is plain data in the arena; nothing else refers to it while `Vcpu` lives, since
        // guest addresses lead to RAM pages and the guard page only.
        let st = unsafe { &mut *place };
        let budget = budget.min(i64::MAX as u64);
        st.budget = budget as i64;
        let retired_at_zero = self.core.retired.wrapping_add(budget);
        let mut v = Vcpu {
            base: mem.arena(),
            tlb_read: 0,
            tlb_write: 0,
            attention: true,
            at: 0,
            charged: 0,
            retired_at_zero,
            timer_at_entry: self.core.lapic.next_deadline(),
            exception: Exception { vector: Vector(0), code: None, address: 0 },
            delivered: false,
            stepping: false,
            mode: mode_of(st),
            st,
            tlb: &mut self.tlb,
            core: &mut self.core,
            mem,
            bus,
        };
        v.update_mode();
        let exit = run_loop(&mut v, &mut self.cache);
        v.core.retired = v.retired();
        exit
    }
}

fn run_loop(v: &mut Vcpu<'_>, cache: &mut BlockCache) -> Exit {
    loop {
        if v.attention
            && let Some(exit) = service(v, cache)
        {
            return exit;
        }
        if v.st.budget <= 0 {
            return Exit::Budget;
        }
        let stop = match dispatch(v, cache) {
            Ok(()) => continue,
            Err(stop) => stop,
        };
        match stop {
            Stop::Halt => {
                v.core.halted = true;
                v.attention = true;
            }
            Stop::Shutdown => return Exit::Shutdown,
            Stop::Fault => {
                let exception = v.exception;
                if v.deliver_exception(exception).is_err() {
                    return Exit::Shutdown;
                }
            }
            Stop::Stale => {
                let la = fetch_address(v);
                cache.forget(la);
            }
            Stop::Branch | Stop::Again | Stop::NonCanonical => {}
        }
    }
}

/// Everything that may come between two blocks.
#[cold]
#[inline(never)]
fn service(v: &mut Vcpu<'_>, cache: &mut BlockCache) -> Option<Exit> {
    v.attention = false;
    if v.tlb.map_is_stale(v.mem) {
        v.tlb.map_changed(v.mem);
    }
    if v.mem.code_was_modified() {
        v.core.counters.code_invalidations += cache.drop_modified(v.mem);
    }
    if v.bus.needs_attention() || v.timer_came_nearer() {
        return Some(Exit::Attention);
    }
    if v.st.budget <= 0 {
        return Some(Exit::Budget);
    }
    if v.core.shadow != Shadow::Open {
        // The instruction after STI or MOV SS runs before anything is taken; `dispatch` steps it alone.
        return None;
    }
    if v.take_interrupt().is_err() {
        return Some(Exit::Shutdown);
    }
    v.core.halted.then_some(Exit::Halted)
}

/// The linear address of the next instruction.
#[inline(always)]
fn fetch_address(v: &Vcpu<'_>) -> u64 {
    if v.mode.flat {
        return v.st.rip;
    }
    v.st.segments[usize::from(seg::CS)].base.wrapping_add(v.st.rip) & 0xffff_ffff
}

/// Finds and runs the block at RIP.
#[inline(always)]
fn dispatch(v: &mut Vcpu<'_>, cache: &mut BlockCache) -> Result<(), Stop> {
    let la = fetch_address(v);
    let block = cache.block_at(v, la)?;
    let ops = cache.ops(block);
    let mut n = ops.len().min(v.st.budget as usize);
    let step = v.core.shadow != Shadow::Open || v.st.eflags & eflags::TF != 0;
    if !v.mode.flat || step {
        n = careful_length(v, ops, n, step)?;
        if step {
            return single_step(v, &ops[..n]);
        }
    }
    execute(v, &ops[..n])
}

/// How many instructions of a block may run when the code segment has a limit, or one at a time is asked for.
#[cold]
fn careful_length(v: &mut Vcpu<'_>, ops: &[Op], n: usize, step: bool) -> Result<usize, Stop> {
    let n = if step { 1 } else { n };
    if v.mode.flat {
        return Ok(n);
    }
    let cs: Segment = v.st.segments[usize::from(seg::CS)];
    let rip = v.st.rip;
    let inside = ops[..n].iter().take_while(|op| rip + u64::from(op.end) - 1 <= u64::from(cs.limit)).count();
    if inside == 0 { Err(v.gp(0)) } else { Ok(inside) }
}

/// Runs one instruction: under TF, with its trap, or in the shadow of STI or MOV SS.
#[cold]
fn single_step(v: &mut Vcpu<'_>, ops: &[Op]) -> Result<(), Stop> {
    let tracing = v.st.eflags & eflags::TF != 0;
    v.core.shadow = Shadow::Open;
    v.attention = false;
    v.delivered = false;
    v.stepping = true;
    let done = execute(v, ops);
    v.stepping = false;
    v.attention = true;
    let trap = tracing && !v.delivered && v.core.shadow != Shadow::Traps;
    match done {
        Ok(()) | Err(Stop::Halt) if trap => {
            const DR6_BS: u64 = 1 << 14;
            v.st.dr[6] |= DR6_BS;
            v.exception = Exception { vector: Vector::DEBUG, code: None, address: 0 };
            Err(Stop::Fault)
        }
        other => other,
    }
}

/// Runs `ops` from RIP and leaves RIP and the budget exact, whatever happens. A fault is pending in `Err(Fault)`.
#[inline(always)]
fn execute(v: &mut Vcpu<'_>, ops: &[Op]) -> Result<(), Stop> {
    let rip = v.st.rip;
    v.st.set_gpr(slot::BLOCK, rip);
    v.charged = ops.len() as u32;
    v.st.budget -= ops.len() as i64;
    for op in ops {
        v.at = op.n;
        match (op.run)(v, op) {
            Ok(()) => {
                if v.attention {
                    return leave(v, ops, op, rip, Ok(()));
                }
            }
            Err(Stop::Branch) => {
                v.charged = 0;
                v.at = 0;
                return Ok(());
            }
            Err(stop) => return leave(v, ops, op, rip, Err(stop)),
        }
    }
    v.st.rip = rip.wrapping_add(u64::from(ops[ops.len() - 1].end)) & v.rip_mask();
    v.charged = 0;
    v.at = 0;
    Ok(())
}

/// Leaves a block early: gives back what did not run and points RIP at the instruction that is next.
#[cold]
#[inline(never)]
fn leave(v: &mut Vcpu<'_>, ops: &[Op], op: &Op, rip: u64, how: Result<(), Stop>) -> Result<(), Stop> {
    let n = usize::from(op.n);
    let start = if n == 0 { 0 } else { ops[n - 1].end };
    let (done, at) = match how {
        Ok(()) | Err(Stop::Halt | Stop::Branch) => (n + 1, op.end),
        // An iteration of REP counts as an instruction.
        Err(Stop::Again) => (n + 1, start),
        Err(_) => (n, start),
    };
    v.st.rip = rip.wrapping_add(u64::from(at)) & v.rip_mask();
    v.st.budget += (ops.len() - done) as i64;
    v.charged = 0;
    v.at = 0;
    match how {
        Err(Stop::NonCanonical) => {
            let stack = op.segment() == seg::SS;
            Err(if stack { v.raise_code(Vector::STACK, 0) } else { v.gp(0) })
        }
        Err(Stop::Again) => {
            v.attention = true;
            Ok(())
        }
        how => how,
    }
}
