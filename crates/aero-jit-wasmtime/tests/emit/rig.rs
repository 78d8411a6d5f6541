//! An arena with a processor's state, TLB tables, a jump table and some RAM, and helper functions that know only those.

use aero_cpu::jit::{JUMP_ENTRIES, JumpEntry, Status, jump_slot};
use aero_cpu::state::{CpuState, Flags};
use aero_jit::emit::Emitted;
use aero_jit::evaluate::Guest;
use aero_jit::host::CodeHost;
use aero_jit::ir::{Touched, Type};
use aero_jit::job::{Compiled, Env, Job, Key, Module, Tier};
use aero_jit_wasmtime::{Helpers, Parts, Wasmtime};
use aero_mem::{GuestMemory, TlbKind};
use core::ffi::c_void;
use std::cell::RefCell;

/// Pages of RAM, which linear addresses from 0 lead to.
pub const PAGES: u64 = 8;

/// The least that a machine has.
const ARENA_RAM: u64 = 1 << 20;

/// Free bytes behind the state proper.
pub const SPARE: u32 = 12 << 10;
pub const SPARE_BYTES: usize = 2048;
const _: () = assert!(size_of::<CpuState>() <= SPARE as usize);

/// A delta that no address of the tests comes near.
const EMPTY: u64 = 0x5a5a_0000_0000_0000;

/// What an interpreted instruction of this number reads and writes, and whether it ends the region.
#[derive(Clone, Copy, Debug, Default)]
pub struct Op {
    pub reads: Touched,
    pub writes: Touched,
    /// Budget that it takes beyond its own instruction.
    pub greedy: i64,
}

thread_local! {
    static MODULE: RefCell<Module> = RefCell::default();
}

/// The engine with an arena.
pub struct Rig {
    host: Wasmtime,
    memory: GuestMemory,
    pub env: Env,
    /// Arena offset of RAM.
    pub ram: u32,
    pub ops: Vec<Op>,
    /// Which interpreted instructions stop, by their order.
    pub stops: u64,
    /// What they found.
    pub interpreted: Vec<(u32, u64)>,
    /// RIP and the budget that they found.
    pub found: Vec<(u64, i64)>,
    /// Pages without RAM, and pages that cannot be written.
    pub missing: Vec<u64>,
    pub code: Vec<u64>,
    /// Calls of helper functions for memory.
    pub slow: u32,
    pub settled: u32,
    /// That of the region which runs.
    pub word: Type,
}

/// What modules of tests are made for.
pub fn env(layout: &aero_mem::Layout) -> Env {
    Env {
        state: layout.vcpu(0),
        read: [TlbKind::SupervisorRead, TlbKind::UserRead].map(|kind| layout.tlb(0, kind)),
        write: [TlbKind::SupervisorWrite, TlbKind::UserWrite].map(|kind| layout.tlb(0, kind)),
        jumps: layout.jumps(0),
        exact: false,
        tail_calls: true,
        model: 0,
        tier: Tier::Baseline,
    }
}

pub fn key(word: Type) -> Key {
    Key { long: word == Type::I64, user: false, mode: 3 }
}

impl Rig {
    pub fn new() -> Self {
        // No region is of this mode: the dispatcher hands on what a region returns.
        let mode = |_| 0x7777;
        let helpers = Helpers { load, load16, store, store16, place, exec, settle, mode };
        let parts =
            Parts { helpers, compile: |_: &Job| MODULE.take(), thread: false, tier: Tier::Optimizing };
        let (host, lent) =
            Wasmtime::of(parts, GuestMemory::arena_bytes(ARENA_RAM, 1, 0)).expect("wasmtime runs here");
        let memory = GuestMemory::lent(lent, ARENA_RAM, 1, &[]).expect("the arena fits");
        let mut rig = Self {
            host,
            env: env(memory.layout()),
            ram: memory.layout().ram,
            memory,
            ops: Vec::new(),
            stops: 0,
            interpreted: Vec::new(),
            found: Vec::new(),
            missing: Vec::new(),
            code: Vec::new(),
            slow: 0,
            settled: 0,
            word: Type::I64,
        };
        for table in rig.env.read.into_iter().chain(rig.env.write) {
            (0..1 << 20).for_each(|entry| rig.write(table + entry * 8, EMPTY));
        }
        rig.empty_jumps();
        *rig.state() = CpuState::power_on();
        rig
    }

    fn write<T: Copy>(&mut self, at: u32, value: T) {
        // SAFETY: the callers' offsets follow from the layout.
        unsafe { self.memory.arena().write(at.into(), value) }
    }

    pub fn state(&mut self) -> &mut CpuState {
        // SAFETY: any bits are a state; compiled code does not run while the reference lives.
        unsafe { &mut *self.memory.arena().at(self.env.state.into()) }
    }

    /// RAM, from linear address 0.
    pub fn ram(&mut self) -> &mut [u8] {
        self.bytes(self.ram, PAGES as usize * 4096)
    }

    pub fn spare(&mut self) -> &mut [u8] {
        self.bytes(self.env.state + SPARE, SPARE_BYTES)
    }

    fn bytes(&mut self, at: u32, len: usize) -> &mut [u8] {
        // SAFETY: it lies in the arena, and compiled code does not run while the reference lives.
        unsafe { core::slice::from_raw_parts_mut(self.memory.arena().at(at.into()), len) }
    }

    /// Fills the TLB's entries of the pages of RAM that `known` has a bit for.
    pub fn fill(&mut self, known: u64) {
        let delta = 0u64.wrapping_sub(self.ram.into());
        for page in 0..PAGES {
            let there = known >> page & 1 != 0 && !self.missing.contains(&page);
            let writable = there && !self.code.contains(&page);
            for (table, filled) in [(self.env.read[0], there), (self.env.write[0], writable)] {
                let value = if filled { delta } else { EMPTY };
                self.write(table + page as u32 * 8, value);
            }
        }
    }

    pub fn empty_jumps(&mut self) {
        (0..JUMP_ENTRIES).for_each(|n| self.write(self.env.jumps + n * 16, JumpEntry::EMPTY));
    }

    /// The jump table leads `la` to a region.
    pub fn lead(&mut self, la: u64, word: Type, function: u32) {
        let tag = aero_cpu::jit::jump_tag(la, key(word).mode);
        self.write(self.env.jumps + jump_slot(la) * 16, JumpEntry { tag, function, reserved: 0 });
    }

    /// Installs a module; its first slot.
    pub fn install(&mut self, emitted: Emitted) -> u32 {
        let known = |good: &bool| good.then(Compiled::default);
        let regions = emitted.good.iter().map(known).collect();
        MODULE.set(Module { wasm: emitted.wasm, regions });
        self.host.submit(Job { ticket: 0, env: self.env, sources: Vec::new() });
        self.host.poll().expect("it is done").result.expect("the module is good").0
    }

    pub fn release(&mut self, first: u32, count: u32) {
        self.host.release(first, count);
    }

    pub fn call(&mut self, slot: u32) -> Status {
        self.state().redo = 0;
        let rig: *mut Self = self;
        // SAFETY: the helper functions take a rig, of which they use what the host is not in.
        Status::of(unsafe { (*rig).host.call(slot, rig.cast()) })
    }

    /// Where `size` bytes of RAM lie.
    fn find(&self, la: u64, size: u32, write: bool) -> Option<u32> {
        let last = la.checked_add(u64::from(size) - 1)?;
        let bad = |page| self.missing.contains(&page) || write && self.code.contains(&page);
        (last < PAGES * 4096 && !bad(la >> 12) && !bad(last >> 12)).then(|| self.ram + la as u32)
    }

    fn exec(&mut self, number: u32) -> u32 {
        self.state().settle_flags();
        let found = (self.state().rip, self.state().budget);
        self.found.push(found);
        let op = self.ops[number as usize];
        let nth = self.interpreted.len() as u32;
        let mut guest = self.guest(self.word, 0);
        self.interpreted.push((number, interpret(&mut guest, number, op)));
        let state = self.state();
        (0..16)
            .filter(|n| op.writes.gprs >> n & 1 != 0)
            .for_each(|n| state.set_gpr(n, guest.gprs[n as usize]));
        for n in (0..16).filter(|n| op.writes.xmms >> n & 1 != 0) {
            state.xmm[n] = [guest.xmms[n] as u64, (guest.xmms[n] >> 64) as u64];
        }
        if op.writes.flags {
            state.flags = guest.flags();
        }
        state.budget -= 1 + op.greedy;
        (self.stops >> (nth % 64) & 1) as u32
    }

    /// What the state block holds.
    pub fn guest(&mut self, word: Type, head: u64) -> Guest {
        let state = self.state();
        Guest {
            gprs: core::array::from_fn(|n| state.gpr(n as u8)),
            xmms: core::array::from_fn(|n| u128::from(state.xmm[n][0]) | u128::from(state.xmm[n][1]) << 64),
            lazy: state.lazy,
            stored: state.flags,
            ..Guest::new(word, head)
        }
    }
}

/// Interprets an instruction: all that it writes follows from all that it reads. A digest of that.
pub fn interpret(guest: &mut Guest, number: u32, op: Op) -> u64 {
    let mut digest = u64::from(number) + 1;
    let mut add = |bits: u64| digest = (digest ^ bits).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    for n in 0..16 {
        if op.reads.gprs >> n & 1 != 0 {
            add(if guest.word == Type::I32 { u64::from(guest.gprs[n] as u32) } else { guest.gprs[n] });
        }
        if op.reads.xmms >> n & 1 != 0 {
            add(guest.xmms[n] as u64);
            add((guest.xmms[n] >> 64) as u64);
        }
    }
    if op.reads.flags {
        add(guest.flags().bits());
    }
    let mask = if guest.word == Type::I32 { u64::from(u32::MAX) } else { u64::MAX };
    guest.gprs = core::array::from_fn(|n| digest.rotate_left(n as u32 * 3) & mask);
    guest.xmms = core::array::from_fn(|n| u128::from(digest).rotate_left(n as u32 * 5));
    if op.writes.flags {
        guest.settle(Flags::from_bits(digest));
    }
    digest
}

/// The rig of the call under way.
unsafe fn rig<'a>(ctx: *mut c_void) -> &'a mut Rig {
    // SAFETY: `Rig::call` passes itself, and waits.
    unsafe { &mut *ctx.cast::<Rig>() }
}

unsafe fn load(ctx: *mut c_void, la: u64, size: u32) -> u64 {
    // SAFETY (here and below): by `rig`.
    let rig = unsafe { rig(ctx) };
    rig.slow += 1;
    let Some(at) = rig.find(la, size, false) else {
        rig.state().redo = 1;
        return 0xdead_beef_dead_beef;
    };
    let mut bytes = [0; 8];
    bytes[..size as usize].copy_from_slice(rig.bytes(at, size as usize));
    u64::from_le_bytes(bytes)
}

unsafe fn load16(ctx: *mut c_void, la: u64) -> u32 {
    let rig = unsafe { rig(ctx) };
    rig.slow += 1;
    let Some(at) = rig.find(la, 16, false) else { return 1 };
    for n in 0..2 {
        let half = rig.bytes(at + n * 8, 8).try_into().expect("8 bytes");
        rig.state().scratch[n as usize] = u64::from_le_bytes(half);
    }
    0
}

unsafe fn store(ctx: *mut c_void, la: u64, size: u32, value: u64) -> u32 {
    let rig = unsafe { rig(ctx) };
    rig.slow += 1;
    let Some(at) = rig.find(la, size, true) else { return 1 };
    rig.bytes(at, size as usize).copy_from_slice(&value.to_le_bytes()[..size as usize]);
    0
}

unsafe fn store16(ctx: *mut c_void, la: u64) -> u32 {
    let rig = unsafe { rig(ctx) };
    rig.slow += 1;
    let Some(at) = rig.find(la, 16, true) else { return 1 };
    for n in 0..2 {
        let half = rig.state().scratch[n as usize].to_le_bytes();
        rig.bytes(at + n * 8, 8).copy_from_slice(&half);
    }
    0
}

unsafe fn place(ctx: *mut c_void, la: u64, size: u32) -> u32 {
    let rig = unsafe { rig(ctx) };
    rig.slow += 1;
    rig.find(la, size, true).unwrap_or(0)
}

unsafe fn exec(ctx: *mut c_void, _: u32, number: u32) -> u32 {
    unsafe { rig(ctx) }.exec(number)
}

unsafe fn settle(ctx: *mut c_void) {
    let rig = unsafe { rig(ctx) };
    rig.settled += 1;
    rig.state().settle_flags();
}
