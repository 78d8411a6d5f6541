//! Compiling, installing and calling.

#![allow(unsafe_code, reason = "calls compiled code by its number in the function table")]

use super::engine::{Arrival, Engine, words};
use super::pace::Pace;
use super::slots::Slots;
use super::translator;
use crate::host::BrowserClock;
use aero_cpu::jit::Status;
use aero_cpu::vcpu::Vcpu;
use aero_jit::host::{CodeHost, Done, HostError};
use aero_jit::job::{Job, Module};
use aero_machine::WallClock;
use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, Ordering};
use std::collections::VecDeque;
use wasm_bindgen::JsValue;

/// Jobs that the translator has at a time: one to do, and others so that it need not wait for more.
const IN_FLIGHT: usize = 4;

/// Jobs that wait here. Whoever submits more than these is told that they cannot be had.
const WAITING: usize = 64;

/// Compiled code as functions of the emulator's own function table.
struct BrowserHost {
    engine: Engine,
    slots: Slots,
    pace: Pace,
    /// Jobs that nobody has begun.
    waiting: VecDeque<Job>,
    /// Jobs that the translator has, in its order.
    in_flight: VecDeque<Job>,
    /// Tickets of jobs that were too many.
    refused: VecDeque<u32>,
    /// The turn in which everything had been taken that the translator had done.
    drained: u32,
}

/// What a machine compiles with. Compiled code sees guest memory where it is, in the emulator's own.
#[cfg(target_arch = "wasm32")]
pub(crate) fn lend(engine: Engine) -> Option<aero_machine::Engine> {
    let tail_calls = engine.tail_calls();
    Some(aero_machine::Engine { host: Box::new(BrowserHost::new(engine)), tail_calls })
}

/// Elsewhere, where only tests come by, no engine sees the emulator's memory.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn lend(_: Engine) -> Option<aero_machine::Engine> {
    None
}

/// Turns of the worker's event loop that ran the guest.
static TURNS: AtomicU32 = AtomicU32::new(0);

/// The worker's event loop has had a turn: only then can the translator's results arrive.
pub(crate) fn begin_turn() {
    TURNS.fetch_add(1, Ordering::Relaxed);
}

fn turn() -> u32 {
    TURNS.load(Ordering::Relaxed)
}

impl BrowserHost {
    /// A host with an empty part of the function table.
    fn new(engine: Engine) -> Self {
        Self {
            engine,
            slots: Slots::default(),
            pace: Pace::default(),
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            refused: VecDeque::new(),
            drained: turn().wrapping_sub(1),
        }
    }

    /// One more job that the translator has done, as far as time allows.
    fn next_arrival(&mut self) -> Option<Done> {
        if self.drained == turn() {
            return None;
        }
        let begun = BrowserClock.now_ns();
        if !self.pace.allows(begun) {
            return None;
        }
        let Some(arrival) = self.engine.take() else {
            self.drained = turn();
            return None;
        };
        self.in_flight.retain(|job| job.ticket != arrival.ticket());
        let result = self.install_arrival(&arrival);
        let took = since(begun);
        self.pace.spend(took);
        Some(Done { ticket: arrival.ticket(), result, ns: (arrival.ms() * 1e6) as u64 + took })
    }

    fn install_arrival(&mut self, arrival: &Arrival) -> Result<(u32, Module), HostError> {
        let facts = arrival.facts().ok_or_else(|| HostError::Refused(arrival.refusal()))?;
        let module = translator::unpack(&facts).map_err(HostError::Refused)?;
        let first =
            self.install(module.regions.len(), |engine, first| engine.install_arrival(arrival, first))?;
        Ok((first, module))
    }

    /// Keeps the translator busy.
    fn feed(&mut self) {
        while self.in_flight.len() < IN_FLIGHT
            && let Some(job) = self.waiting.pop_front()
        {
            self.engine.submit(job.ticket, &translator::pack(&job));
            self.in_flight.push_back(job);
        }
    }

    /// The next job without a translator. If one is gone it is maybe over its oldest job, which is therefore not tried
    /// again; the others are.
    fn next_here(&mut self) -> Option<Done> {
        if let Some(culprit) = self.in_flight.pop_front() {
            self.waiting.extend(self.in_flight.drain(..));
            let reason = HostError::Refused(String::from("the translator's worker failed"));
            return Some(Done { ticket: culprit.ticket, result: Err(reason), ns: 0 });
        }
        let job = self.waiting.pop_front()?;
        let begun = BrowserClock.now_ns();
        let module = aero_jit::compile(&job);
        let first = self.install(module.regions.len(), |engine, first| engine.install(&module.wasm, first));
        Some(Done { ticket: job.ticket, result: first.map(|first| (first, module)), ns: since(begun) })
    }

    /// Finds room for a module and installs it.
    fn install(
        &mut self,
        count: usize,
        how: impl FnOnce(&Engine, u32) -> Result<(), JsValue>,
    ) -> Result<u32, HostError> {
        let count = u32::try_from(count).map_err(|_| HostError::Full)?;
        let first = self.slots.take(count, |more| self.engine.grow(more)).ok_or(HostError::Full)?;
        how(&self.engine, first).map_err(|error| {
            self.slots.put(first, count);
            HostError::Refused(words(&error))
        })?;
        Ok(first)
    }
}

fn since(begun: u64) -> u64 {
    BrowserClock.now_ns().saturating_sub(begun)
}

impl CodeHost for BrowserHost {
    fn submit(&mut self, job: Job) {
        if self.waiting.len() >= WAITING {
            self.refused.push_back(job.ticket);
            return;
        }
        self.waiting.push_back(job);
        if self.engine.has_translator() {
            self.feed();
        }
    }

    fn poll(&mut self) -> Option<Done> {
        if let Some(ticket) = self.refused.pop_front() {
            return Some(Done { ticket, result: Err(HostError::Full), ns: 0 });
        }
        if self.pending() == 0 {
            return None;
        }
        if !self.engine.has_translator() {
            return self.next_here();
        }
        let done = self.next_arrival();
        self.feed();
        done
    }

    fn pending(&self) -> usize {
        self.waiting.len() + self.in_flight.len() + self.refused.len()
    }

    unsafe fn call(&mut self, slot: u32, ctx: *mut c_void) -> u32 {
        // SAFETY: `ctx` is the run loop's, and between two regions nobody else refers to it.
        let next = || unsafe { &*ctx.cast::<Vcpu<'_>>() }.next_region();
        // SAFETY: slots in the jump table, as the first one, are those of regions that are installed.
        unsafe { run(slot, ctx, next) }
    }

    fn release(&mut self, first: u32, count: u32) {
        self.engine.release(first, count);
        self.slots.put(first, count);
    }
}

/// Calls a region, and the next one for as long as there is one; the last one's status.
///
/// # Safety
/// Regions are installed in `slot` and in what `next` returns, and `ctx` is what they expect.
pub(super) unsafe fn run(slot: u32, ctx: *mut c_void, mut next: impl FnMut() -> Option<u32>) -> u32 {
    let mut slot = slot;
    loop {
        // SAFETY: the caller's promise.
        let status = unsafe { function(slot)(ctx, 0) };
        if status > Status::Goto as u32 {
            return status;
        }
        match next() {
            Some(found) => slot = found,
            None => return status,
        }
    }
}

/// The function in a slot.
///
/// # Safety
/// A region is installed there.
unsafe fn function(slot: u32) -> unsafe extern "C" fn(*mut c_void, u32) -> u32 {
    // SAFETY: in WebAssembly a function pointer is a number of the function table. A call through it is checked: one
    // through an empty slot, or of a function of another type, stops the emulator.
    unsafe { core::mem::transmute(slot as usize as *const ()) }
}
