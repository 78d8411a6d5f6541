//! A host without an engine: what it makes of a region is a list of steps, and running it is Rust.
//!
//! It keeps to everything that compiled code promises and asks for, and looks at the guest through the helper functions
//! alone. So it proves the cache and the run loop without the compiler, and finds out what the compiler may rely on.
//! Moves to and from memory, additions and comparisons it does itself, flags left undone; jumps lead from region to region
//! by the jump table; other instructions are left to the interpreter.

#![allow(unsafe_code, reason = "stands for compiled code, which has the processor as a bare pointer")]

use aero_cpu::bind::bind;
use aero_cpu::jit::{FlagKind, JumpEntry, Lazy, Status, jump_slot, jump_tag};
use aero_cpu::jit::{exec, load, place, store};
use aero_cpu::vcpu::{Mode, Vcpu};
use aero_jit::host::{CodeHost, Done, HostError};
use aero_jit::job::{Compiled, Env, Job, Module, Source};
use aero_x86::cpuid::MODELS;
use aero_x86::{Insn, MAX_LEN, Mnemonic, Operand, decode, slot};
use core::ffi::c_void;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// Instructions of a region at most.
const MAX_INSTRUCTIONS: usize = 40;

/// What a test may change and look at while the processor owns the host.
#[derive(Default)]
pub struct Control {
    /// Jobs are not done until this is cleared.
    pub hold: Cell<bool>,
    /// Results to give instead, first come first.
    pub errors: RefCell<VecDeque<HostError>>,
    /// Runs of each region, by its head where it was found hot.
    pub runs: RefCell<BTreeMap<u64, u32>>,
    /// Heads of each job.
    pub jobs: RefCell<Vec<usize>>,
    /// Slots that are taken.
    pub taken: Cell<usize>,
    /// No step but what the interpreter does.
    pub interpret_all: Cell<bool>,
}

/// One instruction.
enum Do {
    /// Register from memory, or memory from register.
    Move { reg: u8, size: u8, mem: Insn, store: bool },
    /// ADD, SUB or CMP of two registers.
    Arith { dst: u8, src: u8, size: u8, kind: FlagKind, writes: bool },
    /// ADD to memory, by its place.
    AddToMemory { src: u8, size: u8, mem: Insn },
    /// Number of the interpreter's.
    Interpret(u32),
    /// To an offset from the head, if the condition holds.
    Jump { to: i64, condition: Option<u8> },
}

struct Step {
    what: Do,
    /// Bytes from the head.
    offset: u64,
    end: u64,
}

struct Body {
    head: u64,
    long: bool,
    mode: u64,
    steps: Vec<Step>,
}

/// The host.
pub struct Threaded {
    env: Env,
    control: Rc<Control>,
    done: VecDeque<Done>,
    bodies: Vec<Option<Rc<Body>>>,
}

impl Threaded {
    pub fn new(env: Env, control: Rc<Control>) -> Self {
        Self { env, control, done: VecDeque::new(), bodies: Vec::new() }
    }

    fn compile(&mut self, job: &Job) -> (u32, Module) {
        let first = self.bodies.len() as u32;
        let mut module = Module { wasm: vec![0; 100 * job.sources.len()], ..Module::default() };
        for source in &job.sources {
            let made = body(source, &job.env, self.control.interpret_all.get());
            self.bodies.push(made.as_ref().map(|(body, _)| body.clone()));
            module.regions.push(made.map(|(_, compiled)| compiled));
        }
        self.control.taken.set(self.control.taken.get() + job.sources.len());
        (first, module)
    }

    /// As compiled code looks for the next region.
    fn next(&self, v: &Vcpu<'_>, mode: u64) -> Option<u32> {
        let at = u64::from(self.env.jumps) + u64::from(jump_slot(v.st.rip)) * 16;
        // SAFETY: the table is in the arena.
        let entry: JumpEntry = unsafe { v.memory().arena().read(at) };
        (entry.tag == jump_tag(v.st.rip, mode)).then_some(entry.function)
    }
}

impl CodeHost for Threaded {
    fn submit(&mut self, job: Job) {
        self.control.jobs.borrow_mut().push(job.sources.len());
        let error = self.control.errors.borrow_mut().pop_front();
        let result = match error {
            Some(error) => Err(error),
            None => Ok(self.compile(&job)),
        };
        self.done.push_back(Done { ticket: job.ticket, result, ns: 1 });
    }

    fn poll(&mut self) -> Option<Done> {
        if self.control.hold.get() { None } else { self.done.pop_front() }
    }

    fn pending(&self) -> usize {
        self.done.len()
    }

    unsafe fn call(&mut self, slot: u32, ctx: *mut c_void) -> u32 {
        let mut slot = slot;
        loop {
            let body = self.bodies[slot as usize].clone().expect("a region that lives");
            *self.control.runs.borrow_mut().entry(body.head).or_default() += 1;
            // SAFETY: the caller's promise.
            let (status, next) = unsafe {
                let status = body.run(slot, ctx);
                (status, self.next(&*ctx.cast(), body.mode))
            };
            match next {
                Some(next) if status == Status::Goto => slot = next,
                _ => return status as u32,
            }
        }
    }

    fn release(&mut self, first: u32, count: u32) {
        self.control.taken.set(self.control.taken.get() - count as usize);
        self.bodies[first as usize..][..count as usize].fill_with(|| None);
    }
}

impl Body {
    /// # Safety
    /// As for [`CodeHost::call`].
    unsafe fn run(&self, slot: u32, ctx: *mut c_void) -> Status {
        // SAFETY (here and below): the caller's promise. No reference is used after a helper has made another.
        let st = unsafe { &*cpu(ctx).st };
        let (head, mut budget) = (st.rip, st.budget);
        if budget < self.steps.len() as i64 {
            return Status::Redo;
        }
        for (n, step) in self.steps.iter().enumerate() {
            // SAFETY: as above.
            let v = unsafe { cpu(ctx) };
            let rip = self.wrap(head.wrapping_add(step.offset));
            v.st.rip = rip;
            v.st.budget = budget - n as i64;
            let done = match &step.what {
                Do::Interpret(number) => {
                    // SAFETY: compiled code calls it, so to speak.
                    if unsafe { exec(ctx, slot, *number) } != 0 {
                        return Status::Stopped;
                    }
                    // SAFETY: as above.
                    budget = unsafe { cpu(ctx) }.st.budget + n as i64 + 1;
                    true
                }
                Do::Jump { to, condition } => {
                    let taken = condition.is_none_or(|cc| holds(v, cc));
                    let to = if taken {
                        head.wrapping_add_signed(*to)
                    } else {
                        rip.wrapping_add(step.end - step.offset)
                    };
                    v.st.rip = self.wrap(to);
                    v.st.budget = budget - n as i64 - 1;
                    return Status::Goto;
                }
                Do::Arith { dst, src, size, kind, writes } => {
                    arith(v, *dst, *src, *size, *kind, *writes);
                    true
                }
                // SAFETY: as above.
                Do::Move { reg, size, mem, store } => unsafe { self.mov(ctx, *reg, *size, mem, *store) },
                // SAFETY: as above.
                Do::AddToMemory { src, size, mem } => unsafe { self.add(ctx, *src, *size, mem) },
            };
            if !done {
                return Status::Redo;
            }
        }
        // SAFETY: as above.
        let st = unsafe { &mut *cpu(ctx).st };
        st.budget = budget - self.steps.len() as i64;
        st.rip = self.wrap(head.wrapping_add(self.steps.last().map_or(0, |step| step.end)));
        Status::Goto
    }

    fn wrap(&self, la: u64) -> u64 {
        if self.long { la } else { la & 0xffff_ffff }
    }

    fn address(&self, v: &Vcpu<'_>, insn: &Insn) -> u64 {
        let mem = insn.mem;
        let base = if mem.base == slot::BLOCK { v.st.rip } else { v.st.gpr(mem.base) };
        self.wrap(base.wrapping_add(v.st.gpr(mem.index) << mem.scale).wrapping_add(mem.disp as u64))
    }

    unsafe fn mov(&self, ctx: *mut c_void, reg: u8, size: u8, insn: &Insn, is_store: bool) -> bool {
        // SAFETY: as in `run`.
        let v = unsafe { cpu(ctx) };
        let la = self.address(v, insn);
        let old = v.st.gpr(reg);
        if is_store {
            // SAFETY: the caller's promise.
            return unsafe { store(ctx, la, size.into(), old) == 0 };
        }
        // SAFETY: the caller's promise.
        let value = unsafe { load(ctx, la, size.into()) };
        // SAFETY: as in `run`.
        let v = unsafe { cpu(ctx) };
        if v.st.redo != 0 {
            return false;
        }
        v.st.set_gpr(reg, merge(old, value, size));
        true
    }

    unsafe fn add(&self, ctx: *mut c_void, src: u8, size: u8, insn: &Insn) -> bool {
        // SAFETY: as in `run`.
        let la = self.address(unsafe { cpu(ctx) }, insn);
        // SAFETY: the caller's promise.
        let at = u64::from(unsafe { place(ctx, la, size.into()) });
        // SAFETY: as in `run`.
        let v = unsafe { cpu(ctx) };
        if at == 0 {
            return false;
        }
        let arena = v.memory().arena();
        let b = v.st.gpr(src) & mask(size);
        // SAFETY: `place` gave it.
        let a = unsafe {
            if size == 4 {
                let a = u64::from(arena.read::<u32>(at));
                arena.write(at, a.wrapping_add(b) as u32);
                a
            } else {
                let a = arena.read::<u64>(at);
                arena.write(at, a.wrapping_add(b));
                a
            }
        };
        v.st.lazy = Lazy { kind: FlagKind::ADD.sized(size), a, b, ..Lazy::default() };
        true
    }
}

/// # Safety
/// As for [`CodeHost::call`]. What was got so before is not used any more.
unsafe fn cpu<'a>(ctx: *mut c_void) -> &'a mut Vcpu<'a> {
    // SAFETY: the caller's promise.
    unsafe { &mut *ctx.cast() }
}

fn mask(size: u8) -> u64 {
    u64::MAX >> (64 - 8 * u32::from(size))
}

/// A register after a write of its low bytes.
fn merge(old: u64, value: u64, size: u8) -> u64 {
    if size >= 4 { value } else { old & !mask(size) | value }
}

fn holds(v: &mut Vcpu<'_>, cc: u8) -> bool {
    v.st.settle_flags();
    let f = v.st.arith();
    let [cf, pf, zf, sf, of] = [0, 2, 6, 7, 11].map(|bit| f >> bit & 1 != 0);
    let plain = match cc >> 1 {
        0 => of,
        1 => cf,
        2 => zf,
        3 => cf | zf,
        4 => sf,
        5 => pf,
        6 => sf != of,
        _ => zf | (sf != of),
    };
    plain != (cc & 1 != 0)
}

fn arith(v: &mut Vcpu<'_>, dst: u8, src: u8, size: u8, kind: FlagKind, writes: bool) {
    let (a, b) = (v.st.gpr(dst) & mask(size), v.st.gpr(src) & mask(size));
    let result = if kind == FlagKind::ADD { a.wrapping_add(b) } else { a.wrapping_sub(b) };
    v.st.lazy = Lazy { kind: kind.sized(size), a, b, ..Lazy::default() };
    if writes {
        v.st.set_gpr(dst, result & mask(size));
    }
}

/// A region: a straight run of instructions up to a jump. `None` if it would be empty.
fn body(source: &Source, env: &Env, interpret_all: bool) -> Option<(Rc<Body>, Compiled)> {
    let mode = Mode::of_key(source.key.mode as u32);
    let features = MODELS[usize::from(env.model)].features;
    let mut steps = Vec::new();
    let mut compiled = Compiled::default();
    let mut offset = 0;
    while steps.len() < MAX_INSTRUCTIONS {
        let mut bytes = [0; MAX_LEN];
        let have = source.fetch(offset as i32, &mut bytes);
        let Ok(insn) = decode(&bytes[..have], source.code(), features) else { break };
        let bound = bind(Ok(insn), mode, 0);
        let own = (!interpret_all).then(|| own(&insn)).flatten();
        let what = match jump(&bytes, &insn, offset).or(own) {
            Some(what) => what,
            // What branches is for the run loop. Repeats, and what changes the mode, only end an interpreter's block.
            None if bound.ends
                && insn.rep == aero_x86::Rep::None
                && !matches!(insn.mnemonic, Mnemonic::Mov | Mnemonic::Invlpg | Mnemonic::Sti) =>
            {
                break;
            }
            None => {
                compiled.interpreted.push(offset as i32);
                Do::Interpret(compiled.interpreted.len() as u32 - 1)
            }
        };
        let last = matches!(what, Do::Jump { .. });
        let end = offset + u64::from(insn.len);
        steps.push(Step { what, offset, end });
        offset = end;
        if last {
            break;
        }
    }
    compiled.ranges = vec![(0, offset as u32)];
    compiled.instructions = steps.len() as u32;
    let body = Body { head: source.head, long: source.key.long, mode: source.key.mode, steps };
    (!body.steps.is_empty()).then(|| (Rc::new(body), compiled))
}

fn jump(bytes: &[u8], insn: &Insn, offset: u64) -> Option<Do> {
    let Operand::Near(by) = insn.operands[0] else { return None };
    // A 16-bit operand cuts RIP, and bounds are for others to care about.
    let to = offset as i64 + by;
    match bytes {
        [0xeb | 0xe9, ..] => Some(Do::Jump { to, condition: None }),
        [op @ 0x70..=0x7f, ..] => Some(Do::Jump { to, condition: Some(op & 15) }),
        [0x0f, op @ 0x80..=0x8f, ..] => Some(Do::Jump { to, condition: Some(op & 15) }),
        _ => None,
    }
}

/// What needs no interpreter.
fn own(insn: &Insn) -> Option<Do> {
    let gpr = |n: usize| match insn.operands[n] {
        Operand::Gpr { reg, size, high: false } => Some((reg, size)),
        _ => None,
    };
    let flat = insn.mem.segment < 4
        && insn.address_size == if insn.operand_size == 8 { 8 } else { insn.address_size };
    let mem = |n: usize| insn.operands[n] == Operand::Mem && flat && insn.address_size >= 4 && !insn.lock;
    let kind = match insn.mnemonic {
        Mnemonic::Add => FlagKind::ADD,
        Mnemonic::Sub | Mnemonic::Cmp => FlagKind::SUB,
        Mnemonic::Mov if mem(1) => {
            let (reg, size) = gpr(0)?;
            return Some(Do::Move { reg, size, mem: *insn, store: false });
        }
        Mnemonic::Mov if mem(0) => {
            let (reg, size) = gpr(1)?;
            return Some(Do::Move { reg, size, mem: *insn, store: true });
        }
        _ => return None,
    };
    if insn.mnemonic == Mnemonic::Add && mem(0) {
        let (src, size) = gpr(1).filter(|(_, size)| *size >= 4)?;
        return Some(Do::AddToMemory { src, size, mem: *insn });
    }
    let ((dst, size), (src, _)) = (gpr(0)?, gpr(1)?);
    let writes = insn.mnemonic != Mnemonic::Cmp;
    (size >= 4).then_some(Do::Arith { dst, src, size, kind, writes })
}
