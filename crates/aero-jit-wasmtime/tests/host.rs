//! The engine as the code cache sees it, with small modules made by hand.

#![allow(unsafe_code, reason = "helper functions are given a pointer, here to a counter")]

use aero_cpu::jit::{JumpEntry, Status, jump_slot, jump_tag};
use aero_cpu::state::CpuState;
use aero_jit::cache::Options;
use aero_jit::host::{CodeHost, Done, HostError};
use aero_jit::job::{Env, Job, Module, Tier};
use aero_jit_wasmtime::{Helpers, Limits, Parts, Wasmtime};
use aero_mem::{Gpa, GuestMemory};
use core::ffi::c_void;

mod modules;
use modules::{adder, caller, helped, loader};

/// Adds `la` to the counter.
unsafe fn load(ctx: *mut c_void, la: u64, _: u32) -> u64 {
    let counter = ctx.cast::<u64>();
    // SAFETY: every call of this file passes a counter.
    unsafe {
        *counter += la;
        *counter
    }
}

/// Fails.
unsafe fn store(_: *mut c_void, _: u64, _: u32, _: u64) -> u32 {
    1
}

unsafe fn by_address(_: *mut c_void, la: u64) -> u32 {
    la as u32
}

unsafe fn place(_: *mut c_void, la: u64, size: u32) -> u32 {
    la as u32 + size
}

/// Slot and number as digits.
unsafe fn exec(_: *mut c_void, slot: u32, number: u32) -> u32 {
    slot * 10 + number
}

unsafe fn mode(_: *mut c_void) -> u64 {
    0
}

unsafe fn settle(ctx: *mut c_void) {
    // SAFETY: as in `load`.
    unsafe { *ctx.cast::<u64>() += 1000 }
}

const HELPERS: Helpers =
    Helpers { load, load16: by_address, store, store16: by_address, place, exec, settle, mode };

fn env() -> Env {
    Env {
        state: 0,
        read: [0; 2],
        write: [0; 2],
        jumps: 0,
        exact: false,
        tail_calls: true,
        model: 0,
        tier: Tier::Baseline,
    }
}

fn job(ticket: u32) -> Job {
    Job { ticket, env: env(), sources: Vec::new() }
}

fn host(compile: fn(&Job) -> Module, thread: bool) -> Wasmtime {
    Wasmtime::of(Parts { helpers: HELPERS, compile, thread, tier: Tier::Baseline }, 1 << 20)
        .expect("wasmtime runs here")
        .0
}

/// Waits for the thread.
fn wait(host: &mut Wasmtime) -> Done {
    loop {
        match host.poll() {
            Some(done) => return done,
            None => std::thread::yield_now(),
        }
    }
}

fn install(host: &mut Wasmtime, ticket: u32) -> u32 {
    host.submit(job(ticket));
    let done = wait(host);
    assert_eq!((done.ticket, host.pending()), (ticket, 0));
    done.result.expect("the module is good").0
}

fn call(host: &mut Wasmtime, slot: u32, counter: &mut u64) -> u32 {
    // SAFETY: the helper functions of this file take a counter.
    unsafe { host.call(slot, core::ptr::from_mut(counter).cast()) }
}

#[test]
fn modules_come_from_the_thread_in_order_and_run() {
    let mut host = host(|job| adder(job.ticket), true);
    (1..=3).for_each(|ticket| host.submit(job(ticket)));
    assert_eq!(host.pending(), 3);
    for ticket in 1..=3 {
        let done = wait(&mut host);
        let (slot, module) = done.result.expect("the module is good");
        assert_eq!((done.ticket, module), (ticket, adder(ticket)));
        let found = [slot, slot + 1].map(|slot| call(&mut host, slot, &mut 0));
        assert_eq!(found, [ticket, ticket + 1]);
    }
    assert!(host.poll().is_none() && host.pending() == 0);
}

#[test]
fn compiling_in_place_is_done_at_once() {
    let mut host = host(|job| adder(job.ticket), false);
    host.submit(job(7));
    let done = host.poll().expect("done before anybody waits");
    assert!(done.ns > 0 && done.ticket == 7);
}

#[test]
fn module_that_the_engine_refuses_is_an_error() {
    let mut host = host(|_| Module { wasm: b"nothing".to_vec(), ..Module::default() }, false);
    host.submit(job(1));
    let refused = host.poll().expect("done").result;
    assert!(matches!(&refused, Err(HostError::Refused(why)) if !why.is_empty()), "{refused:?}");
}

#[test]
fn module_with_a_strange_import_is_an_error() {
    let mut host = host(|_| helped("nobody"), false);
    host.submit(job(1));
    let refused = host.poll().expect("done").result;
    assert!(matches!(&refused, Err(HostError::Refused(why)) if why.contains("nobody")), "{refused:?}");
}

#[test]
fn helpers_get_their_arguments_and_the_pointer_of_the_call() {
    for (name, result, counted) in [
        ("load", 30, 30),
        ("load16", 30, 0),
        ("store", 1, 0),
        ("store16", 30, 0),
        ("place", 34, 0),
        ("exec", 304, 0),
        ("settle", 0, 1000),
    ] {
        let compile = match name {
            "load" => |_: &Job| helped("load"),
            "load16" => |_: &Job| helped("load16"),
            "store" => |_: &Job| helped("store"),
            "store16" => |_: &Job| helped("store16"),
            "place" => |_: &Job| helped("place"),
            "exec" => |_: &Job| helped("exec"),
            _ => |_: &Job| helped("settle"),
        };
        let mut host = host(compile, false);
        let slot = install(&mut host, 1);
        let mut counter = 0;
        assert_eq!((call(&mut host, slot, &mut counter), counter), (result, counted), "{name}");
    }
}

#[test]
fn compiled_code_and_guest_memory_see_the_same_bytes() {
    let bytes = GuestMemory::arena_bytes(1 << 20, 1, 0);
    let parts =
        Parts { helpers: HELPERS, compile: |job| loader(job.ticket), thread: false, tier: Tier::Optimizing };
    let (mut host, lent) = Wasmtime::of(parts, bytes).expect("wasmtime runs here");
    let mut mem = GuestMemory::lent(lent, 1 << 20, 1, &[]).expect("room enough");
    mem.write(Gpa(0x1234), &0xfeed_u32.to_le_bytes()).expect("RAM");
    let at = mem.offset_of(Gpa(0x1234)).expect("RAM");
    let slot = install(&mut host, at);
    assert_eq!(call(&mut host, slot, &mut 0), 0xfeed);
    drop(host);
    assert_eq!(mem.read_array(Gpa(0x1234)), Ok(0xfeed_u32.to_le_bytes()), "the memory outlives the engine");
}

#[test]
fn regions_of_other_modules_are_called_through_the_table() {
    let mut host = host(
        |job| match job.ticket {
            100.. => caller(job.ticket - 100),
            _ => adder(job.ticket),
        },
        false,
    );
    let callee = install(&mut host, 5);
    let slot = install(&mut host, 100 + callee);
    assert_eq!(call(&mut host, slot, &mut 0), 5);
}

#[test]
fn dispatcher_goes_on_by_the_jump_table_while_mode_and_budget_allow() {
    const RIP: u64 = 0x40_1234;
    let bytes = GuestMemory::arena_bytes(1 << 20, 1, 0);
    let compile = |job: &Job| adder(job.ticket);
    let parts =
        Parts { helpers: Helpers { mode: |_| 5, ..HELPERS }, compile, thread: false, tier: Tier::Optimizing };
    let (mut host, lent) = Wasmtime::of(parts, bytes).expect("wasmtime runs here");
    let mem = GuestMemory::lent(lent, 1 << 20, 1, &[]).expect("room enough");
    let options = Options { exact: false, tail_calls: true, model: 0, tier: Tier::Baseline };
    let env = Env::new(mem.layout(), 0, options);
    let mut install = |status: Status| {
        host.submit(Job { ticket: status as u32, env, sources: Vec::new() });
        host.poll().expect("done at once").result.expect("the module is good").0
    };
    let [first, second] = [Status::Goto, Status::Redo].map(&mut install);
    let entry = u64::from(env.jumps + jump_slot(RIP) * size_of::<JumpEntry>() as u32);
    let state = mem.arena().at::<CpuState>(env.state.into());
    for (mode, budget, status) in [(5, 1, Status::Redo), (5, 0, Status::Goto), (6, 1, Status::Goto)] {
        let found = JumpEntry { tag: jump_tag(RIP, mode), function: second, reserved: 0 };
        // SAFETY: both lie in the arena, and nothing else uses it now.
        unsafe {
            (*state).rip = RIP;
            (*state).budget = budget;
            mem.arena().at::<JumpEntry>(entry).write(found);
        }
        assert_eq!(call(&mut host, first, &mut 0), status as u32, "mode {mode}, budget {budget}");
    }
}

#[test]
fn slots_of_a_released_module_are_used_again() {
    let mut host = host(|job| adder(job.ticket), false);
    let slots = [1, 2, 3].map(|ticket| install(&mut host, ticket));
    host.release(slots[1], 2);
    assert_eq!(host.load().modules, 2);
    assert_eq!(install(&mut host, 9), slots[1]);
    let found = slots.map(|slot| call(&mut host, slot, &mut 0));
    assert_eq!(found, [1, 9, 3]);
}

#[test]
fn full_host_says_so_until_something_is_released() {
    let mut host = host(|job| adder(job.ticket), false);
    host.set_limits(Limits { modules: 2, ..Limits::default() });
    let first = install(&mut host, 1);
    install(&mut host, 2);
    host.submit(job(3));
    assert_eq!(host.poll().map(|done| done.result), Some(Err(HostError::Full)));
    host.release(first, 2);
    install(&mut host, 4);
}

#[test]
fn survivors_run_at_their_slots_after_the_store_was_made_anew() {
    let mut host = host(|job| adder(job.ticket), false);
    let [a, b] = [11, 22].map(|ticket| install(&mut host, ticket));
    for ticket in 0.. {
        if host.load().rebuilds == 2 {
            break;
        }
        let slot = install(&mut host, ticket);
        host.release(slot, 2);
        assert!(ticket < 10_000, "nothing is ever freed: {:?}", host.load());
    }
    assert_eq!([a, b].map(|slot| call(&mut host, slot, &mut 0)), [11, 22]);
    let callee = install(&mut host, 33);
    assert_eq!(call(&mut host, callee, &mut 0), 33);
    assert!(host.load().released_bytes < 1 << 20);
}
