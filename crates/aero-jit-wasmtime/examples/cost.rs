//! Measures what compiled code pays at its borders: entering and leaving it, helper functions, modules.
//!
//! `cargo run --release -p aero-jit-wasmtime --example cost`

#![allow(unsafe_code, reason = "helper functions are given a pointer, here none")]

use aero_jit::host::CodeHost;
use aero_jit::job::{Env, Job, Tier};
use aero_jit_wasmtime::{Helpers, Parts, Wasmtime};
use core::ffi::c_void;
use std::time::Instant;

#[path = "../tests/modules/mod.rs"]
#[allow(dead_code, reason = "tests need the others")]
mod modules;

unsafe fn load(_: *mut c_void, la: u64, _: u32) -> u64 {
    std::hint::black_box(la)
}

unsafe fn store(_: *mut c_void, _: u64, _: u32, _: u64) -> u32 {
    0
}

unsafe fn nothing(_: *mut c_void, _: u64) -> u32 {
    0
}

unsafe fn place(_: *mut c_void, _: u64, _: u32) -> u32 {
    0
}

unsafe fn exec(_: *mut c_void, _: u32, _: u32) -> u32 {
    0
}

unsafe fn settle(_: *mut c_void) {}

const HELPERS: Helpers = Helpers { load, load16: nothing, store, store16: nothing, place, exec, settle };

const CALLS: u32 = 1_000_000;

fn job(ticket: u32) -> Job {
    let env = Env {
        state: 0,
        read: [0; 2],
        write: [0; 2],
        jumps: 0,
        exact: false,
        tail_calls: true,
        model: 0,
        tier: Tier::Baseline,
    };
    Job { ticket, env, sources: Vec::new() }
}

fn install(host: &mut Wasmtime, ticket: u32) -> (u32, u64) {
    host.submit(job(ticket));
    let done = host.poll().expect("compiled in place");
    (done.result.expect("a good module").0, done.ns)
}

/// The least of ten repetitions, in nanoseconds for each of `count`.
fn least(count: u32, mut work: impl FnMut()) -> f64 {
    let once = |_| {
        let began = Instant::now();
        work();
        began.elapsed().as_nanos() as f64 / f64::from(count)
    };
    (0..10).map(once).fold(f64::INFINITY, f64::min)
}

fn main() {
    let compile = |job: &Job| match job.ticket {
        0 => modules::repeats(CALLS),
        1 => modules::adder(0),
        functions => modules::arithmetic(functions, 500),
    };
    let parts = Parts { helpers: HELPERS, compile, thread: false };
    let (mut host, _lent) = Wasmtime::of(parts, 64 << 20).expect("wasmtime runs here");
    let (helper, _) = install(&mut host, 0);
    let (empty, _) = install(&mut host, 1);
    let ctx = core::ptr::null_mut();
    // SAFETY: the helper functions of this file do not use the pointer.
    let entered = least(CALLS, || (0..CALLS).for_each(|_| _ = unsafe { host.call(empty, ctx) }));
    // SAFETY: as above.
    let helped = least(CALLS, || _ = unsafe { host.call(helper, ctx) });
    println!("call and return     {entered:8.1} ns");
    println!("helper              {helped:8.1} ns");
    for functions in [2, 16, 64] {
        let before = host.load().bytes;
        let all: Vec<(u32, u64)> = (0..8).map(|_| install(&mut host, functions)).collect();
        let ns = all.iter().map(|(_, ns)| *ns).min().unwrap_or_default();
        let bytes = (host.load().bytes - before) / 8;
        let wasm = modules::arithmetic(functions, 500).wasm.len();
        println!(
            "module of {functions:2} x 500 operations, {wasm} bytes: {} us, {bytes} bytes of code",
            ns / 1000
        );
    }
    let slots: Vec<u32> = (0..500).map(|_| install(&mut host, 1).0).collect();
    let load = host.load();
    let began = Instant::now();
    host.rebuild().expect("the engine works");
    println!("{} modules into a new store: {} us", load.modules, began.elapsed().as_micros());
    // SAFETY: as above.
    assert_eq!(slots.iter().map(|slot| unsafe { host.call(*slot, ctx) }).max(), Some(0));
}
