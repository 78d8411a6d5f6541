//! The code cache: decides what is compiled, keeps what was, and says where it may run.
//!
//! A region is known by its **place**: the arena offset of its head, and the mode. That is what all address spaces share.
//! It may run at a linear address whose page leads there, if its other pages lie as they did when it was compiled; the
//! run loop asks once ([`Translator::hot`]) and keeps the answer in the jump table until translations change.
//!
//! ```text
//! hot ──► queue ──► job ──► host ──► install ──► Ready ──► run
//!           (a copy of the code)        │
//!                          the bytes are still those
//! ```
//!
//! **Overwritten code.** An installed region's bytes are marked in the code map, so that a write to their granules is
//! noticed, the processor's or a device's. Then the regions of the page whose bytes differ from those that were compiled
//! are dropped, before anything else runs; the others stay, so that data beside code costs no compiling. A page that
//! keeps changing is given up for a while ([`churn`]).
//!
//! **Heads.** Once one block of a loop is hot, so are the others a moment later, and what they reach is the same. They wait
//! whether the region of the first is enough ([`covers`]).
//!
//! **Room.** A module is the unit that can be given back. When there are too many, those go whose regions have not been
//! found for longest.

mod churn;
mod covers;
mod queue;
mod store;

use crate::host::{CodeHost, Done, HostError};
use crate::job::{Compiled, Env, Job, Module, Tier};
use aero_cpu::block::BlockCache;
use aero_cpu::jit::{Answer, Found, LONGEST_WAY, Status, Tally, Translator};
use aero_cpu::vcpu::Vcpu;
use aero_mem::{GuestMemory, Layout, TlbKind};
use churn::Churn;
use core::ffi::c_void;
use covers::Covers;
use queue::{Profile, Queue, Wanted};
use store::{Failure, Place, Region, State, Store};

/// Times that a region is found not to fit the address space before it is compiled anew from the one it is wanted in.
const MAX_MISFITS: u32 = 64;

/// From this threshold on, the interpreter has seen enough by then to say which code runs at all.
const PROFILED: u32 = 16;

/// Dispatches of a block that make it worth compiling along with a hot one.
const RAN: i32 = 2;

/// Choices that are compiled into code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Regions end to the instruction ([`Env::exact`]).
    pub exact: bool,
    /// The engine has tail calls.
    pub tail_calls: bool,
    /// Number of the processor's model in [`aero_x86::cpuid::MODELS`].
    pub model: u8,
    /// What is done beyond the quick translation.
    pub tier: Tier,
}

/// Bounds, and when to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Dispatches of a block before it is compiled.
    pub threshold: u32,
    /// Regions.
    pub regions: usize,
    /// Modules.
    pub modules: usize,
    /// Bytes of their WebAssembly; the engine makes several times that of it.
    pub bytes: usize,
    /// Heads that wait to be compiled.
    pub queue: usize,
    /// Jobs under way.
    pub jobs: usize,
    /// Heads in a job.
    pub batch: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            threshold: 200,
            regions: 16 << 10,
            modules: 4 << 10,
            bytes: 32 << 20,
            queue: 64,
            jobs: 2,
            batch: 16,
        }
    }
}

/// The cache of one processor.
pub struct CodeCache {
    host: Box<dyn CodeHost>,
    env: Env,
    limits: Limits,
    store: Store,
    queue: Queue,
    churn: Churn,
    covers: Covers,
    tally: Tally,
}

impl Env {
    /// What is compiled into code for processor `vcpu`.
    pub fn new(layout: &Layout, vcpu: u32, options: Options) -> Self {
        let at = |kind| layout.tlb(vcpu, kind);
        Self {
            state: layout.vcpu(vcpu),
            read: [at(TlbKind::SupervisorRead), at(TlbKind::UserRead)],
            write: [at(TlbKind::SupervisorWrite), at(TlbKind::UserWrite)],
            jumps: layout.jumps(vcpu),
            exact: options.exact,
            tail_calls: options.tail_calls,
            model: options.model,
            tier: options.tier,
        }
    }
}

impl CodeCache {
    /// An empty cache of code that `host` runs.
    pub fn new(host: Box<dyn CodeHost>, env: Env, limits: Limits) -> Self {
        Self {
            host,
            env,
            limits,
            store: Store::default(),
            queue: Queue::default(),
            churn: Churn::default(),
            covers: Covers::default(),
            tally: Tally::default(),
        }
    }

    /// What is known of the block at `la`, whose place is `place`. `None`: nothing.
    fn known(&mut self, v: &mut Vcpu<'_>, la: u64, place: Place) -> Option<Answer> {
        let now = v.retired();
        let region = match self.store.state(place)? {
            State::Waiting => return Some(Answer::Later),
            State::Failed(failure) if failure.is_over(now) => {
                self.store.forget(place);
                return None;
            }
            State::Failed(_) => return Some(Answer::Never),
            State::Ready(region) => region,
        };
        let slot = region.slot;
        if let Some(global) = v.region_fits(slot, la) {
            self.store.found(slot);
            return Some(Answer::Run(Found { slot, global }));
        }
        self.tally.misfits += 1;
        region.misfits += 1;
        if region.misfits < MAX_MISFITS {
            return Some(Answer::Later);
        }
        self.drop_regions(v, &[place]);
        None
    }

    /// Puts the block at `la` into the queue.
    fn request(&mut self, v: &mut Vcpu<'_>, la: u64, place: Place, blocks: &BlockCache) {
        if self.queue.waiting() >= self.limits.queue {
            return;
        }
        let (churn, now) = (&self.churn, v.retired());
        let (mode, threshold) = (v.mode_key(), self.limits.threshold);
        let store = &self.store;
        let profile = |mem: &GuestMemory, page| {
            if threshold < PROFILED {
                return Profile::default();
            }
            Profile { ran: Some(blocks.starts(mem, page, mode, RAN)), heads: store.heads_on(page, mode) }
        };
        let given_up = |page| churn.is_given_up(page, now);
        let Some(wanted) = Wanted::at(v, la, place, given_up, profile) else { return };
        self.tally.requested += 1;
        self.covers.note(place, wanted.entries(&self.env));
        self.store.set(place, State::Waiting);
        self.queue.push(wanted);
    }

    /// Hands a job to the host: what there is if it is idle, a full one otherwise. Whether it did.
    fn submit(&mut self) -> bool {
        let pending = self.host.pending();
        let full = self.queue.waiting() >= self.limits.batch;
        if pending >= self.limits.jobs || pending > 0 && !full {
            return false;
        }
        let Some((ticket, sources)) = self.queue.next_job(self.limits.batch) else { return false };
        self.host.submit(Job { ticket, env: self.env, sources });
        true
    }

    /// Takes over a job's result.
    fn finish(&mut self, v: &mut Vcpu<'_>, done: Done) {
        self.tally.compile_ns += done.ns;
        let wanted = self.queue.done(done.ticket);
        match done.result {
            Ok((first, module)) => self.install(v, first, module, wanted),
            Err(HostError::Full) => {
                // With nothing to give back it would be so the next time.
                let hopeless = self.store.load().modules == 0;
                for wanted in wanted {
                    self.store.forget(wanted.place);
                    if hopeless {
                        self.give_up(v, wanted.place);
                    }
                }
                self.make_room(v);
            }
            Err(error @ HostError::Refused(_)) => self.refused(v, wanted, &error),
        }
    }

    /// A head is not worth another try for now.
    fn give_up(&mut self, v: &Vcpu<'_>, place: Place) {
        self.tally.failed += 1;
        self.store.set(place, State::Failed(Failure::new(v.memory(), place, v.retired())));
    }

    /// One region may have spoilt the batch: each is tried by itself.
    fn refused(&mut self, v: &Vcpu<'_>, wanted: Vec<Wanted>, error: &HostError) {
        if let [only] = &wanted[..] {
            log::warn!("{error}");
            return self.give_up(v, only.place);
        }
        self.queue.push_alone(wanted);
    }

    fn install(&mut self, v: &mut Vcpu<'_>, first: u32, module: Module, wanted: Vec<Wanted>) {
        let count = module.regions.len() as u32;
        self.store.add_module(first, count, module.wasm.len());
        let mut installed = 0;
        let mut regions = module.regions.into_iter();
        for (slot, wanted) in (first..).zip(wanted) {
            let compiled = regions.next().flatten();
            installed += u32::from(self.install_region(v, first, slot, &wanted, compiled));
        }
        if installed == 0 {
            self.store.remove_module(first);
            self.host.release(first, count);
        }
        if self.is_over(self.limits) {
            self.make_room(v);
        }
    }

    /// Whether the region now lives.
    fn install_region(
        &mut self,
        v: &mut Vcpu<'_>,
        module: u32,
        slot: u32,
        wanted: &Wanted,
        compiled: Option<Compiled>,
    ) -> bool {
        // A reset in the meantime has forgotten it.
        if !matches!(self.store.state(wanted.place), Some(State::Waiting)) {
            return false;
        }
        let region = compiled.as_ref().and_then(|compiled| Region::new(wanted, compiled, module, slot));
        let (Some(region), Some(compiled)) = (region, compiled) else {
            self.give_up(v, wanted.place);
            return false;
        };
        if let Some(page) = region.changed_page(v.memory()) {
            self.tally.outdated += 1;
            self.tally.given_up += u64::from(self.churn.changed(page, v.retired()));
            self.store.forget(wanted.place);
            return false;
        }
        region.mark(v);
        v.bind_region(slot, region.residence(wanted.place), &wanted.interpreted(&compiled));
        self.tally.installed += 1;
        self.store.set(wanted.place, State::Ready(region));
        true
    }

    fn is_over(&self, limits: Limits) -> bool {
        let load = self.store.load();
        load.regions > limits.regions || load.modules > limits.modules || load.bytes > limits.bytes
    }

    /// Gives back the modules that have not been used for longest, a quarter of what there is or may be.
    fn make_room(&mut self, v: &mut Vcpu<'_>) {
        let store = &mut self.store;
        v.unlink_all(|slot| store.in_use(slot));
        let load = store.load();
        let part = |now: usize, limit: usize| now.min(limit) / 4 * 3;
        let target = Limits {
            regions: part(load.regions, self.limits.regions),
            modules: part(load.modules, self.limits.modules),
            bytes: part(load.bytes, self.limits.bytes),
            ..self.limits
        };
        for places in self.store.oldest_first() {
            if !self.is_over(target) {
                break;
            }
            self.tally.evicted += places.len() as u64;
            self.drop_regions(v, &places);
        }
    }

    /// The regions that have lost code on a page. The others mark theirs again.
    fn changed_on(&mut self, v: &mut Vcpu<'_>, page: u32) -> Vec<Place> {
        let mut changed = Vec::new();
        for place in self.store.on_page(page) {
            match self.store.state(place) {
                Some(State::Ready(region)) if region.changed_page(v.memory()).is_none() => region.mark(v),
                Some(State::Ready(_)) => changed.push(place),
                Some(State::Failed(failure)) if failure.is_current(v.memory()) => {}
                _ => _ = self.store.forget(place),
            }
        }
        changed
    }

    /// Drops regions, and modules without any.
    fn drop_regions(&mut self, v: &mut Vcpu<'_>, places: &[Place]) {
        let mut slots = Vec::new();
        for place in places {
            let Some(State::Ready(region)) = self.store.forget(*place) else { continue };
            slots.push(region.slot);
            if let Some((first, count)) = self.store.module_lost(region.module) {
                self.host.release(first, count);
            }
        }
        v.unlink_regions(&slots);
    }

    /// A region left at its first instruction. One that keeps doing so costs more than it saves.
    #[cold]
    fn ran_in_vain(&mut self, v: &mut Vcpu<'_>, slot: u32) {
        if let Some(place) = self.store.ran_in_vain(slot, v.retired()) {
            self.drop_regions(v, &[place]);
            self.give_up(v, place);
        }
    }
}

impl Translator for CodeCache {
    fn threshold(&self) -> u32 {
        self.limits.threshold
    }

    fn hot(&mut self, v: &mut Vcpu<'_>, la: u64, ran: &BlockCache) -> Answer {
        self.poll(v);
        if !v.may_compile(la) {
            return Answer::Never;
        }
        let Some(page) = v.code_page(la) else { return Answer::Later };
        let place = Place::new(page.at | (la & 0xfff) as u32, v.mode_key());
        if let Some(answer) = self.known(v, la, place) {
            return answer;
        }
        if self.churn.is_given_up(place.page(), v.retired()) {
            return Answer::Never;
        }
        if self.limits.threshold >= PROFILED && self.covers.may_wait(place, &mut self.store) {
            return Answer::Later;
        }
        self.request(v, la, place, ran);
        self.poll(v);
        self.known(v, la, place).unwrap_or(Answer::Later)
    }

    #[expect(unsafe_code, reason = "compiled code is handed the processor")]
    fn run(&mut self, v: &mut Vcpu<'_>, slot: u32) -> Status {
        let (rip, budget) = (v.st.rip, v.st.budget);
        let ctx = core::ptr::from_mut(v).cast::<c_void>();
        // SAFETY: `v` is borrowed exclusively and not used before the call returns.
        let status = unsafe { self.host.call(slot, ctx) };
        let status = Status::of(status);
        self.tally.instructions += budget.wrapping_sub(v.st.budget) as u64;
        match status {
            Status::Returned | Status::Goto => self.tally.left += 1,
            Status::Redo => self.tally.redone += 1,
            Status::Stopped => self.tally.stopped += 1,
        }
        let in_vain = status == Status::Redo && (v.st.rip, v.st.budget) == (rip, budget);
        if in_vain && budget > i64::from(LONGEST_WAY) {
            self.ran_in_vain(v, slot);
        }
        status
    }

    fn poll(&mut self, v: &mut Vcpu<'_>) {
        loop {
            while let Some(done) = self.host.poll() {
                self.finish(v, done);
            }
            // A host that compiles at once has something again.
            if !self.submit() {
                return;
            }
        }
    }

    fn drop_modified(&mut self, v: &mut Vcpu<'_>, pages: &[u32]) {
        for number in pages {
            let page = v.memory().layout().ram + (number << 12);
            let changed = self.changed_on(v, page);
            if !changed.is_empty() {
                self.tally.overwritten += changed.len() as u64;
                self.tally.given_up += u64::from(self.churn.changed(page, v.retired()));
                self.drop_regions(v, &changed);
            }
        }
    }

    fn reset(&mut self, _: &mut GuestMemory) {
        for (first, count) in self.store.clear() {
            self.host.release(first, count);
        }
        self.queue.clear();
        self.churn = Churn::default();
        self.covers = Covers::default();
    }

    fn tally(&self) -> Tally {
        let load = self.store.load();
        Tally {
            regions: load.regions as u64,
            modules: load.modules as u64,
            bytes: load.bytes as u64,
            ..self.tally
        }
    }
}
