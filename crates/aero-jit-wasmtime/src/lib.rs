//! Compiled guest code outside a browser: wasmtime behind [`aero_jit::host::CodeHost`].
//!
//! ```text
//! submit ──► worker: compile a job, Module::new ──► poll: instantiate ──► the function table
//! call ──► the dispatcher ──► regions ──► helpers ──► aero_cpu::jit
//! ```
//!
//! **Memory.** Wasmtime makes the shared memory, and lends it to the machine as its arena ([`Lent`]). It has the full
//! 4 GiB of address space, so that no access of compiled code is checked against its size, and never grows.
//!
//! **Threads.** Compiling is work for another thread ([`worker`]); everything else happens on the machine's. A
//! host that is [`Wasmtime::synchronous`] compiles where it is asked to, so that what is compiled when depends on the
//! guest alone.
//!
//! **Tiers.** An engine makes all its machine code one way, and code of two engines cannot share a table. So the tier is
//! chosen with the engine: quick code takes about half the time to make, and more than twice the room.
//!
//! **Giving back.** Wasmtime frees an instance only with its whole store. So released modules pile up until they weigh
//! more than those that live; then [`room`] makes a new store and instantiates the survivors in it, at their old slots.
//!
//! **Traps.** Compiled code has none: addresses come from the TLB, divisors are tested, the depth of calls is limited.
//! One that happens all the same has lost the guest's registers, and ends the program with its reason.

#![allow(unsafe_code, reason = "lends the engine's memory and passes the processor to helper functions")]

mod engine;
mod helpers;
mod room;
mod slots;
mod worker;

pub use helpers::Helpers;

use aero_jit::host::{CodeHost, Done, HostError};
use aero_jit::job::{Job, Module, Tier};
use aero_mem::Lent;
use core::ffi::c_void;
use room::Room;
use std::collections::VecDeque;
use std::time::Instant;
use worker::{Compiled, Work};

/// Why there is no engine. The machine can do without: it interprets.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Wasmtime does not run here, or the host has no address space for the memory.
    #[error("wasmtime cannot be used here: {0}")]
    Engine(String),
    /// More than 32-bit offsets reach.
    #[error("an arena of {0} bytes is more than the 4 GiB that WebAssembly has")]
    Size(u64),
}

/// Bounds of what lives at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Modules.
    pub modules: usize,
    /// Bytes of machine code with what belongs to it.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { modules: 8192, bytes: 512 << 20 }
    }
}

/// What a host has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Modules that live.
    pub modules: usize,
    /// Bytes of their machine code.
    pub bytes: u64,
    /// Bytes of machine code of modules that were released and not yet freed.
    pub released_bytes: u64,
    /// Times the store was made anew.
    pub rebuilds: u64,
}

/// What an engine is put together from. Tests have parts of their own.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    /// The functions that compiled code calls.
    pub helpers: Helpers,
    /// Makes WebAssembly of a job: [`aero_jit::compile()`].
    pub compile: fn(&Job) -> Module,
    /// Compiles on a thread of its own; otherwise at once, where it is asked to.
    pub thread: bool,
    /// How much work making machine code may be.
    pub tier: Tier,
}

/// The engine.
pub struct Wasmtime {
    work: Box<dyn Work>,
    room: Room,
    limits: Limits,
    /// Jobs that could not be taken on.
    failed: VecDeque<(u32, HostError)>,
}

impl Parts {
    /// The processor's helper functions and the translator.
    pub const fn of_processor(tier: Tier, thread: bool) -> Self {
        Self { helpers: Helpers::PROCESSOR, compile: aero_jit::compile, thread, tier }
    }
}

impl Wasmtime {
    /// An engine that compiles on a thread of its own, and an arena of `bytes` or more.
    ///
    /// # Errors
    /// When wasmtime does not run here, or the host has no room for the arena.
    pub fn new(tier: Tier, bytes: u64) -> Result<(Self, Lent), StartError> {
        Self::of(Parts::of_processor(tier, true), bytes)
    }

    /// The same, but it compiles at once, where it is asked to.
    ///
    /// # Errors
    /// As for [`Wasmtime::new`].
    pub fn synchronous(tier: Tier, bytes: u64) -> Result<(Self, Lent), StartError> {
        Self::of(Parts::of_processor(tier, false), bytes)
    }

    /// An engine made of these parts, and an arena of `bytes` or more.
    ///
    /// # Errors
    /// As for [`Wasmtime::new`].
    pub fn of(parts: Parts, bytes: u64) -> Result<(Self, Lent), StartError> {
        let engine = engine::engine(parts.tier).map_err(started)?;
        let memory = engine::memory(&engine, bytes)?;
        let lent = engine::lend(&memory);
        let work = worker::start(&engine, parts).map_err(|e| StartError::Engine(e.to_string()))?;
        let room = Room::new(engine, memory, parts.helpers).map_err(started)?;
        Ok((Self { work, room, limits: Limits::default(), failed: VecDeque::new() }, lent))
    }

    /// Sets the bounds of what lives at a time.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// How full it is.
    pub fn load(&self) -> Load {
        self.room.load()
    }

    /// Makes the store anew, which frees what was released. [`CodeHost::poll`] does it when it is worth it.
    ///
    /// # Errors
    /// When wasmtime refuses what it has taken before.
    pub fn rebuild(&mut self) -> Result<(), HostError> {
        self.room.rebuild().map_err(refused)
    }

    fn install(&mut self, compiled: Compiled) -> Result<(u32, Module), HostError> {
        let load = self.room.load();
        if load.modules >= self.limits.modules || load.bytes >= self.limits.bytes {
            return Err(HostError::Full);
        }
        if self.room.is_littered() {
            self.rebuild()?;
        }
        let first = self.room.install(&compiled)?;
        Ok((first, compiled.known))
    }
}

fn started(error: wasmtime::Error) -> StartError {
    StartError::Engine(format!("{error:#}"))
}

fn refused(error: wasmtime::Error) -> HostError {
    HostError::Refused(format!("{error:#}"))
}

impl CodeHost for Wasmtime {
    fn submit(&mut self, job: Job) {
        let ready = self.room.prepare(&job.env).map_err(refused);
        match ready {
            Ok(()) => self.work.submit(job),
            Err(error) => self.failed.push_back((job.ticket, error)),
        }
    }

    fn poll(&mut self) -> Option<Done> {
        if let Some((ticket, error)) = self.failed.pop_front() {
            return Some(Done { ticket, result: Err(error), ns: 0 });
        }
        let finished = self.work.poll()?;
        let began = Instant::now();
        let result = finished.result.and_then(|compiled| self.install(compiled));
        Some(Done { ticket: finished.ticket, result, ns: finished.ns + nanoseconds(began) })
    }

    fn pending(&self) -> usize {
        self.work.pending() + self.failed.len()
    }

    unsafe fn call(&mut self, slot: u32, ctx: *mut c_void) -> u32 {
        // SAFETY: by the contract of this function, `ctx` is the processor that the helper functions take.
        unsafe { self.room.call(slot, ctx) }
    }

    fn release(&mut self, first: u32, count: u32) {
        self.room.release(first, count);
    }
}

fn nanoseconds(since: Instant) -> u64 {
    since.elapsed().as_nanos() as u64
}
