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
use std::collections::VecDeque;
use wasm_bindgen::JsValue;

/// Jobs that the translator has at a time: one to do, and others so that it need not wait for more.
const IN_FLIGHT: usize = 4;

/// Jobs that wait here. Whoever submits more than these is told that they cannot be had.
const WAITING: usize = 64;

/// Compiled code as functions of the emulator's own function table.
pub(crate) struct BrowserHost {
    engine: Engine,
    slots: Slots,
    pace: Pace,
    /// Jobs that nobody has begun.
    waiting: VecDeque<Job>,
    /// Jobs that the translator has, in its order.
    in_flight: VecDeque<Job>,
    /// Tickets of jobs that were too many.
    refused: VecDeque<u32>,
}

impl BrowserHost {
    /// A host with an empty part of the function table.
    pub fn new(engine: Engine) -> Self {
        Self {
            engine,
            slots: Slots::default(),
            pace: Pace::default(),
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            refused: VecDeque::new(),
        }
    }

    /// One more job, as far as time allows.
    fn next_done(&mut self, begun: u64) -> Option<Done> {
        if !self.pace.allows(begun) {
            return None;
        }
        if self.engine.has_translator() {
            let arrival = self.engine.take();
            let job = arrival.as_ref().and_then(|_| self.in_flight.pop_front());
            self.feed();
            return arrival
                .map(|arrival| self.install_arrival(&arrival, job.map_or(0, |job| job.sources.len())));
        }
        if let Some(job) = self.in_flight.pop_front() {
            return Some(self.without_translator(&job));
        }
        let job = self.waiting.pop_front()?;
        Some(self.compile_here(&job))
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

    /// The translator is gone, maybe over its oldest job, which is therefore not tried again; the others are.
    fn without_translator(&mut self, culprit: &Job) -> Done {
        while let Some(job) = self.in_flight.pop_back() {
            self.waiting.push_front(job);
        }
        let reason = String::from("the translator's worker failed");
        Done { ticket: culprit.ticket, result: Err(HostError::Refused(reason)), ns: 0 }
    }

    fn compile_here(&mut self, job: &Job) -> Done {
        let module = aero_jit::compile(job);
        let wasm = &module.wasm;
        let installed = install(&mut self.slots, &self.engine, module.regions.len(), |engine, first| {
            engine.install(wasm, first)
        });
        let regions = module.regions;
        let result = installed.map(|first| (first, Module { wasm: Vec::new(), regions }));
        Done { ticket: job.ticket, result, ns: 0 }
    }

    fn install_arrival(&mut self, arrival: &Arrival, regions: usize) -> Done {
        let result = self.try_install_arrival(arrival, regions);
        Done { ticket: arrival.ticket(), result, ns: (arrival.ms() * 1e6) as u64 }
    }

    fn try_install_arrival(&mut self, arrival: &Arrival, regions: usize) -> Result<(u32, Module), HostError> {
        let facts = arrival.facts().ok_or_else(|| HostError::Refused(arrival.refusal()))?;
        let module = translator::unpack(&facts).map_err(HostError::Refused)?;
        debug_assert_eq!(module.regions.len(), regions, "one for each source");
        let count = module.regions.len();
        let first = install(&mut self.slots, &self.engine, count, |engine, first| {
            engine.install_arrival(arrival, first)
        })?;
        Ok((first, module))
    }
}

/// Finds room for a module and installs it.
fn install(
    slots: &mut Slots,
    engine: &Engine,
    count: usize,
    how: impl FnOnce(&Engine, u32) -> Result<(), JsValue>,
) -> Result<u32, HostError> {
    let count = u32::try_from(count).map_err(|_| HostError::Full)?;
    let first = slots.take(count, |more| engine.grow(more)).ok_or(HostError::Full)?;
    how(engine, first).map_err(|error| {
        slots.put(first, count);
        HostError::Refused(words(&error))
    })?;
    Ok(first)
}

impl CodeHost for BrowserHost {
    fn submit(&mut self, job: Job) {
        if self.waiting.len() >= WAITING {
            self.refused.push_back(job.ticket);
        } else {
            self.waiting.push_back(job);
        }
    }

    fn poll(&mut self) -> Option<Done> {
        if let Some(ticket) = self.refused.pop_front() {
            return Some(Done { ticket, result: Err(HostError::Full), ns: 0 });
        }
        if self.pending() == 0 {
            return None;
        }
        let begun = BrowserClock.now_ns();
        let mut done = self.next_done(begun)?;
        let took = BrowserClock.now_ns().saturating_sub(begun);
        self.pace.spend(took);
        done.ns += took;
        Some(done)
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
