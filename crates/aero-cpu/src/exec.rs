//! The run loop: dispatch blocks, take interrupts between them, stop exactly on budget.

#![allow(unsafe_code, reason = "borrows the state block out of the arena for the length of one run")]

use crate::block::{Block, BlockCache, jump_key};
use crate::debug::{Watch, debugctl, dr6};
use crate::exception::{Exception, Vector};
use crate::hot::{self, Left};
use crate::jit::{Answer, LONGEST_WAY, Regions, Status, Translator};
use crate::lapic::LocalApic;
use crate::op::random::Generator;
use crate::op::{Flat32, Flat64, Op};
use crate::state::{CpuState, Segment, eflags, seg};
use crate::tlb::Tlb;
use crate::vcpu::{Bus, Core, Counters, CpuConfig, Shadow, Stop, Vcpu, mode_of};
use aero_mem::GuestMemory;
use aero_x86::{CodeSize, slot};

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
    regions: Regions,
    translator: Option<Box<dyn Translator>>,
}

impl Cpu {
    /// A processor in power-on state.
    pub fn new(mem: &mut GuestMemory, id: u8, config: CpuConfig) -> Self {
        let core = Core {
            config,
            id,
            lapic: LocalApic::new(id, config.model.features),
            nmi_pending: false,
            nmi_blocked: false,
            shadow: Shadow::Open,
            ferr: false,
            pending_debug: 0,
            watch: Watch::default(),
            halted: false,
            monitoring: false,
            repeat_flags: None,
            random: Generator::new(config.seed),
            retired: 0,
            tsc_offset: 0,
            tsc_adjust: 0,
            hyperv: Default::default(),
            unknown_msrs: Default::default(),
            counters: Counters::default(),
        };
        let (tlb, cache) = (Tlb::new(mem, id.into()), BlockCache::default());
        let mut cpu = Self { core, tlb, cache, regions: Regions::new(mem, id.into()), translator: None };
        cpu.reset(mem);
        cpu
    }

    /// Power-on state; the instruction count goes on.
    pub fn reset(&mut self, mem: &mut GuestMemory) {
        self.tlb.flush_all();
        self.cache.clear();
        self.forget_compiled(mem);
        self.core.lapic = LocalApic::new(self.core.id, self.core.config.model.features);
        self.core.nmi_pending = false;
        self.core.nmi_blocked = false;
        self.core.shadow = Shadow::Open;
        self.core.ferr = false;
        self.core.pending_debug = 0;
        self.core.watch = Watch::default();
        self.core.halted = false;
        self.core.monitoring = false;
        self.core.repeat_flags = None;
        self.core.tsc_offset = 0;
        self.core.tsc_adjust = 0;
        self.core.hyperv = Default::default();
        // SAFETY: the state block lies in the arena, is reserved for this processor, and is plain data.
        unsafe { self.place(mem).write(CpuState::power_on()) }
    }

    /// From now on code that is run often is compiled.
    pub fn set_translator(&mut self, translator: Box<dyn Translator>) {
        self.regions.threshold = translator.threshold().min(i32::MAX as u32) as i32;
        self.translator = Some(translator);
    }

    /// Drops all compiled code, and what is remembered of code that was not worth compiling.
    pub fn forget_compiled(&mut self, mem: &mut GuestMemory) {
        self.regions.reset();
        if let Some(translator) = &mut self.translator {
            translator.reset(mem);
        }
    }

    /// What compiles code.
    pub fn translator(&self) -> Option<&dyn Translator> {
        self.translator.as_deref()
    }

    /// What the processor keeps beside compiled code.
    pub fn regions(&self) -> &Regions {
        &self.regions
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
            first: 0,
            at: 0,
            charged: 0,
            retired_at_zero,
            timer_at_entry: self.core.lapic.next_deadline(),
            exception: Exception { vector: Vector(0), code: None, address: 0 },
            delivered: false,
            stepping: false,
            mode: mode_of(st),
            mode_key: 0,
            st,
            tlb: &mut self.tlb,
            regions: &mut self.regions,
            core: &mut self.core,
            mem,
            bus,
        };
        v.update_mode();
        v.update_watch();
        if let Some(translator) = &mut self.translator {
            translator.poll(&mut v);
        }
        let exit = run_loop(&mut v, &mut self.cache, &mut self.translator);
        v.core.retired = v.retired();
        exit
    }
}

/// What [`service`] found.
enum Next {
    /// Leave the run loop.
    Exit(Exit),
    /// Run a block.
    Block,
    /// Run one instruction and look again.
    Step,
    /// An instruction breakpoint was taken: look again.
    Look,
}

/// Dispatches of a hot block without a region before the translator is asked again.
const ASK_AGAIN_SOON: i32 = 32;

/// The same when it has said that there will be none for now.
const ASK_AGAIN_LATE: i32 = 4096;

/// What compiles, if anything.
type Slot = Option<Box<dyn Translator>>;

fn run_loop(v: &mut Vcpu<'_>, cache: &mut BlockCache, translator: &mut Slot) -> Exit {
    loop {
        let next = if v.attention { service(v, cache, translator) } else { Next::Block };
        if v.st.budget <= 0 && !matches!(next, Next::Exit(_)) {
            return Exit::Budget;
        }
        let done = match next {
            Next::Block => dispatch(v, cache, translator),
            Next::Step => step(v, cache),
            Next::Look => continue,
            Next::Exit(exit) => return exit,
        };
        let stop = match done {
            Ok(()) => continue,
            Err(stop) => stop,
        };
        match stop {
            Stop::Halt => {
                v.core.halted = true;
                v.attention = true;
            }
            Stop::Shutdown => return Exit::Shutdown,
            Stop::Fault | Stop::FaultAfter => {
                let exception = v.exception;
                v.core.pending_debug &= dr6::BT;
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
fn service(v: &mut Vcpu<'_>, cache: &mut BlockCache, translator: &mut Slot) -> Next {
    v.attention = false;
    if v.tlb.map_is_stale(v.mem) {
        v.tlb.map_changed(v.mem);
    }
    if v.mem.code_was_modified() {
        let pages = v.mem.take_modified_code();
        v.core.counters.code_invalidations += pages.len() as u64;
        cache.drop_modified(&pages);
        if let Some(translator) = translator {
            translator.drop_modified(v, &pages);
        }
    }
    if v.bus.needs_attention() || v.timer_came_nearer() {
        return Next::Exit(Exit::Attention);
    }
    if v.st.budget <= 0 {
        return Next::Exit(Exit::Budget);
    }
    between_instructions(v).unwrap_or(Next::Exit(Exit::Shutdown))
}

/// Takes what waits, in order of rank: traps of the last instruction, NMI, interrupts, the next instruction's breakpoint
/// (Intel SDM vol. 3, table 6-2). STI holds interrupts off for one instruction, MOV SS everything (6.8.3).
fn between_instructions(v: &mut Vcpu<'_>) -> Result<Next, Stop> {
    let held = v.core.shadow;
    if v.core.pending_debug != 0 && held != Shadow::Traps {
        let bits = core::mem::take(&mut v.core.pending_debug);
        v.core.halted = false;
        v.deliver_exception(Exception::debug(bits))?;
    }
    if held == Shadow::Open {
        v.take_interrupt()?;
    }
    if v.core.halted {
        return Ok(Next::Exit(Exit::Halted));
    }
    if v.core.watch.execute && v.core.shadow != Shadow::Traps && v.st.eflags & eflags::RF == 0 {
        let bits = v.core.watch.on_instruction(fetch_address(v));
        if bits != 0 {
            v.deliver_exception(Exception::debug(bits))?;
            return Ok(Next::Look);
        }
    }
    if v.st.eflags & (eflags::VIF | eflags::VIP) == eflags::VIF | eflags::VIP && v.virtual_interrupt_faults()
    {
        v.deliver_exception(Exception { vector: Vector::PROTECTION, code: Some(0), address: 0 })?;
        return Ok(Next::Look);
    }
    let alone = v.core.shadow != Shadow::Open
        || v.st.eflags & (eflags::TF | eflags::RF) != 0
        || v.core.watch.execute
        || v.core.pending_debug != 0;
    Ok(if alone { Next::Step } else { Next::Block })
}

/// The linear address of the next instruction.
fn fetch_address(v: &Vcpu<'_>) -> u64 {
    if v.mode.flat {
        return v.st.rip;
    }
    v.st.segments[usize::from(seg::CS)].base.wrapping_add(v.st.rip) & 0xffff_ffff
}

/// Finds and runs what is at RIP: a compiled region, or a block, which is run again and again while it branches to
/// itself.
#[inline(always)]
fn dispatch(v: &mut Vcpu<'_>, cache: &mut BlockCache, translator: &mut Slot) -> Result<(), Stop> {
    if !v.mode.flat {
        return dispatch_limited(v, cache);
    }
    let mut counts = false;
    let left_one = translator.is_some() && core::mem::take(&mut v.regions.left_one);
    // Compiled code takes unaligned accesses as they come.
    if let Some(translator) = translator
        && !left_one
        && !v.alignment_checked()
    {
        if v.regions.jumps.is_stale(v.tlb) {
            v.regions.jumps.renew(v.tlb);
        }
        if let Some(slot) = v.regions.jumps.lookup(v.st.rip, v.mode_key).or_else(|| v.parked_region()) {
            return run_compiled(v, translator.as_mut(), slot);
        }
        counts = true;
    }
    let block = cache.block_at(v, v.st.rip)?;
    let (all, key) = (cache.ops(block), jump_key(v));
    loop {
        if counts
            && cache.count(block) >= v.regions.threshold
            && let Some(translator) = translator
            && let Some(slot) = hot_block(v, cache, block, translator.as_mut())
        {
            return run_compiled(v, translator.as_mut(), slot);
        }
        let ops = &all[..all.len().min(v.st.budget as usize)];
        let rip = enter(v, ops);
        let left = match v.mode.code {
            CodeSize::B64 => hot::run::<Flat64, u64>(v, ops),
            _ => hot::run::<Flat32, u32>(v, ops),
        };
        finish(v, ops, rip, left)?;
        let again = v.st.rip == rip && !v.attention && v.st.budget > 0;
        if !again || left_one || jump_key(v) != key || !block.lasts() {
            return Ok(());
        }
    }
}

/// Runs the region in a function slot, whose head is at RIP, and what it goes on to.
#[inline(never)]
fn run_compiled(v: &mut Vcpu<'_>, translator: &mut dyn Translator, slot: u32) -> Result<(), Stop> {
    v.regions.key = jump_key(v);
    let status = translator.run(v, slot);
    v.st.settle();
    match status {
        Status::Returned | Status::Goto => Ok(()),
        Status::Stopped => core::mem::replace(&mut v.regions.ended, Ok(())),
        Status::Redo => {
            v.st.redo = 0;
            // The interpreter is next, even if a region has its head at RIP: it might leave at once again.
            v.regions.left_one = true;
            Ok(())
        }
    }
}

/// The block at RIP is hot: the function slot of its region, if there is one.
#[cold]
#[inline(never)]
fn hot_block(
    v: &mut Vcpu<'_>,
    cache: &BlockCache,
    block: Block,
    translator: &mut dyn Translator,
) -> Option<u32> {
    let la = v.st.rip;
    let answer = if block.lasts() { translator.hot(v, la, cache) } else { Answer::Never };
    let limit = v.regions.threshold;
    cache.set_count(
        block,
        match answer {
            Answer::Run(_) => limit - 1,
            Answer::Later => limit - ASK_AGAIN_SOON,
            Answer::Never => limit - ASK_AGAIN_LATE,
        },
    );
    let Answer::Run(found) = answer else { return None };
    v.regions.jumps.fill(la, v.mode_key, found.slot, found.global);
    Some(found.slot)
}

/// Runs an instruction that compiled code leaves to the interpreter. Returns whether that ends the region, as
/// `Regions::ended` then says.
pub(crate) fn run_interpreted(v: &mut Vcpu<'_>, slot: u32, number: u32) -> bool {
    v.st.settle();
    let Some((op, only_flags)) = v.regions.op(slot, number) else {
        // No such instruction: whatever is at RIP is interpreted from its bytes.
        v.regions.ended = Ok(());
        v.attention = true;
        return true;
    };
    let next = v.next_rip(&op);
    let (budget, controls) = (v.st.budget, (v.st.cr0, v.st.cr4));
    let done = execute(v, core::slice::from_ref(&op));
    // Code may lie elsewhere now, or mean something else. A repeat is charged for its rounds too.
    let same = jump_key(v) == v.regions.key && (v.st.cr0, v.st.cr4) == controls;
    let covered = v.st.budget == budget - 1 || v.st.budget >= i64::from(LONGEST_WAY);
    let straight = matches!(done, Ok(()) | Err(Stop::Branch)) && v.st.rip == next && !v.alignment_checked();
    let goes_on = straight && same && covered && (!v.attention || needs_nobody(v, only_flags));
    if !goes_on {
        v.regions.ended = done;
    }
    !goes_on
}

/// Whether the run loop would find nothing to do before the next instruction, though something asked it to look: POPF and
/// STI do each time, which change `only_flags`. Then it need not.
fn needs_nobody(v: &mut Vcpu<'_>, only_flags: bool) -> bool {
    // The shadow of STI matters only if something waits behind it. With so much budget left nothing can come before
    // the next instruction is over.
    let shadow = match v.core.shadow {
        Shadow::Open => true,
        Shadow::Interrupts => v.st.budget >= i64::from(LONGEST_WAY),
        Shadow::Traps => false,
    };
    let alone = v.st.eflags & (eflags::TF | eflags::RF | eflags::VIP) != 0 || v.core.watch.execute;
    let trapped = alone || v.core.pending_debug != 0 || v.core.nmi_pending;
    let changed = v.tlb.map_is_stale(v.mem) || v.mem.code_was_modified();
    let nobody = shadow && !trapped && !changed && !v.interrupt_waits();
    // What reaches a device has its say about the rest.
    if nobody && (only_flags || !v.bus.needs_attention() && !v.timer_came_nearer()) {
        v.core.shadow = Shadow::Open;
        v.attention = false;
        return true;
    }
    false
}

/// As [`dispatch`], for code in a segment with a limit.
#[inline(never)]
fn dispatch_limited(v: &mut Vcpu<'_>, cache: &mut BlockCache) -> Result<(), Stop> {
    check_fetch(v)?;
    let la = fetch_address(v);
    let block = cache.block_at(v, la)?;
    let ops = cache.ops(block);
    let n = within_limit(v, &ops[..ops.len().min(v.st.budget as usize)])?;
    execute(v, &ops[..n])
}

/// #GP(0) when RIP lies beyond the limit of the code segment; that comes before any fault of the fetch.
fn check_fetch(v: &mut Vcpu<'_>) -> Result<(), Stop> {
    let limit = v.st.segments[usize::from(seg::CS)].limit;
    if v.mode.flat || v.st.rip <= u64::from(limit) { Ok(()) } else { Err(v.gp(0)) }
}

/// How many instructions of a block lie within the limit of the code segment.
fn within_limit(v: &mut Vcpu<'_>, ops: &[Op]) -> Result<usize, Stop> {
    if v.mode.flat {
        return Ok(ops.len());
    }
    let cs: Segment = v.st.segments[usize::from(seg::CS)];
    let rip = v.st.rip;
    let inside = ops.iter().take_while(|op| rip + u64::from(op.end) - 1 <= u64::from(cs.limit)).count();
    if inside == 0 { Err(v.gp(0)) } else { Ok(inside) }
}

/// Runs one instruction by itself: under TF, with its trap; in the shadow of STI or MOV SS; with RF, which it clears; or
/// while instruction breakpoints are set.
#[cold]
#[inline(never)]
fn step(v: &mut Vcpu<'_>, cache: &mut BlockCache) -> Result<(), Stop> {
    v.attention = true;
    check_fetch(v)?;
    let la = fetch_address(v);
    let block = cache.block_at(v, la)?;
    let ops = cache.ops(block);
    let n = within_limit(v, &ops[..1])?;
    let next = v.st.rip.wrapping_add(u64::from(ops[0].end)) & v.rip_mask();
    let (flags, shadow) = (v.st.eflags, core::mem::replace(&mut v.core.shadow, Shadow::Open));
    let tracing = flags & eflags::TF != 0;
    v.attention = false;
    v.delivered = false;
    v.stepping = tracing || shadow != Shadow::Open;
    v.st.eflags &= !eflags::RF;
    let done = execute(v, &ops[..n]);
    v.stepping = false;
    v.attention = true;
    match done {
        Ok(()) | Err(Stop::Halt) => {
            let traced = v.st.msr.debugctl & debugctl::BTF == 0 || v.st.rip != next;
            if tracing && traced && !v.delivered && v.core.shadow != Shadow::Traps {
                v.core.pending_debug |= dr6::BS;
            }
        }
        Err(Stop::FaultAfter) => {}
        Err(stop) => {
            v.st.eflags |= flags & eflags::RF;
            if stop == Stop::Stale {
                v.core.shadow = shadow;
            }
        }
    }
    done
}

/// Runs `ops` from RIP and leaves RIP and the budget exact, whatever happens. A fault is pending in `Err(Fault)`.
fn execute(v: &mut Vcpu<'_>, ops: &[Op]) -> Result<(), Stop> {
    let rip = enter(v, ops);
    let mut left = None;
    for op in ops {
        v.under_way(op);
        let done = (op.run)(v, op);
        if done.is_err() || v.attention {
            left = Some((op, done));
            break;
        }
    }
    finish(v, ops, rip, left)
}

/// Charges `ops` to the budget and gives RIP, where they begin.
#[inline(always)]
fn enter(v: &mut Vcpu<'_>, ops: &[Op]) -> u64 {
    let rip = v.st.rip;
    v.st.set_gpr(slot::BLOCK, rip);
    v.charged = ops.len() as u32;
    v.first = ops.as_ptr().addr();
    v.at = v.first;
    v.st.budget -= ops.len() as i64;
    rip
}

/// What follows a block that began at `rip`: its last instruction has set RIP, or it ran to its end, or it was left.
#[inline(always)]
fn finish(v: &mut Vcpu<'_>, ops: &[Op], rip: u64, left: Option<Left<'_>>) -> Result<(), Stop> {
    match left {
        Some((_, Err(Stop::Branch))) => {}
        None => v.st.rip = rip.wrapping_add(u64::from(ops[ops.len() - 1].end)) & v.rip_mask(),
        Some((op, how)) => return leave(v, ops, op, rip, how),
    }
    v.charged = 0;
    v.at = v.first;
    Ok(())
}

/// The place of `op` in its block.
fn position(ops: &[Op], op: &Op) -> usize {
    (core::ptr::from_ref(op).addr() - ops.as_ptr().addr()) / size_of::<Op>()
}

/// Leaves a block early: gives back what did not run and points RIP at the instruction that is next.
#[cold]
#[inline(never)]
fn leave(v: &mut Vcpu<'_>, ops: &[Op], op: &Op, rip: u64, how: Result<(), Stop>) -> Result<(), Stop> {
    let n = position(ops, op);
    let start = if n == 0 { 0 } else { ops[n - 1].end };
    if how == Err(Stop::FaultAfter) {
        v.st.budget += (ops.len() - n - 1) as i64;
        v.charged = 0;
        v.at = v.first;
        return how;
    }
    let (done, at) = match how {
        Ok(()) | Err(Stop::Halt | Stop::Branch) => (n + 1, op.end),
        // An iteration of REP counts as an instruction.
        Err(Stop::Again) => (n + 1, start),
        Err(_) => (n, start),
    };
    v.st.rip = rip.wrapping_add(u64::from(at)) & v.rip_mask();
    v.st.budget += (ops.len() - done) as i64;
    v.charged = 0;
    v.at = v.first;
    match how {
        Err(Stop::NonCanonical) => {
            let stack = op.segment() == seg::SS;
            Err(if stack { v.raise_code(Vector::STACK, 0) } else { v.gp(0) })
        }
        Err(Stop::Again) => {
            // What interrupts a repeat finds RF set (Intel SDM vol. 3, 18.3.1.1).
            v.st.eflags |= eflags::RF;
            v.attention = true;
            Ok(())
        }
        how => how,
    }
}
