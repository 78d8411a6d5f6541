//! The processor as a system: exceptions, paging, privilege, tasks, interrupts. Semantics from the Intel SDM, volume 3.

#[allow(dead_code, reason = "scaffolding for every test of the processor")]
#[path = "../guest/mod.rs"]
mod guest;

mod breakpoints;
mod contexts;
mod device_memory;
mod exceptions;
mod features;
mod flow;
mod integer;
mod modes;
mod msrs;
mod paging;
mod privilege;
mod registers;
mod rights;
mod stepping;
mod strings;
mod tasks;
mod virtual8086;
mod windows7;
mod x87;

/// These tests are of the processor alone.
fn prepare(_: &aero_mem::GuestMemory, _: &mut aero_cpu::Cpu) {}
