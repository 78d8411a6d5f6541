//! The processor's tests of the system, with every block compiled the first time that it runs, by the host in `threaded`.

#[allow(dead_code, reason = "scaffolding for every test of the processor")]
#[path = "../../aero-cpu/tests/guest/mod.rs"]
mod guest;
#[allow(dead_code, reason = "scaffolding for every test of the cache")]
mod threaded;

#[path = "../../aero-cpu/tests/system/breakpoints.rs"]
mod breakpoints;
#[path = "../../aero-cpu/tests/system/contexts.rs"]
mod contexts;
#[path = "../../aero-cpu/tests/system/device_memory.rs"]
mod device_memory;
#[path = "../../aero-cpu/tests/system/exceptions.rs"]
mod exceptions;
#[path = "../../aero-cpu/tests/system/features.rs"]
mod features;
#[path = "../../aero-cpu/tests/system/flow.rs"]
mod flow;
#[path = "../../aero-cpu/tests/system/integer.rs"]
mod integer;
#[path = "../../aero-cpu/tests/system/modes.rs"]
mod modes;
#[path = "../../aero-cpu/tests/system/msrs.rs"]
mod msrs;
#[path = "../../aero-cpu/tests/system/paging.rs"]
mod paging;
#[path = "../../aero-cpu/tests/system/privilege.rs"]
mod privilege;
#[path = "../../aero-cpu/tests/system/registers.rs"]
mod registers;
#[path = "../../aero-cpu/tests/system/rights.rs"]
mod rights;
#[path = "../../aero-cpu/tests/system/stepping.rs"]
mod stepping;
#[path = "../../aero-cpu/tests/system/strings.rs"]
mod strings;
#[path = "../../aero-cpu/tests/system/tasks.rs"]
mod tasks;
#[path = "../../aero-cpu/tests/system/virtual8086.rs"]
mod virtual8086;
#[path = "../../aero-cpu/tests/system/x87.rs"]
mod x87;

use aero_cpu::Cpu;
use aero_jit::cache::{CodeCache, Limits, Options};
use aero_jit::job::{Env, Tier};
use aero_mem::GuestMemory;
use aero_x86::cpuid::MODELS;
use std::rc::Rc;

/// Gives a new machine a translator.
fn prepare(mem: &GuestMemory, cpu: &mut Cpu) {
    // A test may have a model of its own; it is as good as the largest.
    let model = MODELS.iter().position(|model| model.name == cpu.core.config.model.name);
    let model = model.unwrap_or(MODELS.len() - 1) as u8;
    let options = Options { exact: true, tail_calls: true, model, tier: Tier::Baseline };
    let env = Env::new(mem.layout(), 0, options);
    let host = threaded::Threaded::new(env, Rc::default());
    let limits = Limits { threshold: 1, ..Limits::default() };
    cpu.set_translator(Box::new(CodeCache::new(Box::new(host), env, limits)));
}
