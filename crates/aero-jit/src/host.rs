//! Where compiled code runs: the browser's engine, or wasmtime.
//!
//! A module imports, all from `env`: `memory` (shared, the arena; its maximum is 65,536 pages), `table` (of functions), the
//! immutable `slot: i32`, and the functions of [`HELPERS`]. Its active element segment puts its regions into the table from
//! `slot` on, so that instantiating it is all there is to installing it.

use crate::job::{Job, Module};
use core::ffi::c_void;

/// A function that modules import: name, types of parameters and result (`i` I32, `I` I64). The first parameter is the
/// context, which a host that cannot put a pointer there ignores. What they do says [`aero_cpu::jit`].
pub const HELPERS: &[(&str, &str, &str)] = &[
    // Linear address, bytes (1 to 8); the value, or `redo` is set.
    ("load", "iIi", "I"),
    // Linear address; the value in `scratch`; not 0: redo.
    ("load16", "iI", "i"),
    // Linear address, bytes, value; not 0: redo.
    ("store", "iIiI", "i"),
    // Linear address, value in `scratch`; not 0: redo.
    ("store16", "iI", "i"),
    // Linear address, bytes; an arena offset, 0: redo.
    ("place", "iIi", "i"),
    // Function slot of the region, number of the instruction in it; not 0: it ended the region, and RIP and the budget are exact.
    ("exec", "iii", "i"),
    // Works out the flags that were left undone.
    ("settle", "i", ""),
];

/// A job that is done.
#[derive(Debug)]
pub struct Done {
    /// Which.
    pub ticket: u32,
    /// The function table's first slot of the module's regions and what is known of them.
    pub result: Result<(u32, Module), HostError>,
    /// Nanoseconds of host time that it took.
    pub ns: u64,
}

/// Why a module could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// The engine refused it.
    #[error("the WebAssembly engine refused compiled code: {0}")]
    Refused(String),
    /// The function table or the code memory is full.
    #[error("there is no room for more compiled code")]
    Full,
}

/// Runs compiled code.
pub trait CodeHost {
    /// Takes on a job, to be compiled by [`crate::compile()`] here or elsewhere.
    fn submit(&mut self, job: Job);

    /// A job that is done, its module installed.
    fn poll(&mut self) -> Option<Done>;

    /// Jobs that were taken on and are not done.
    fn pending(&self) -> usize;

    /// Runs the region in a slot and what it goes on to, until one returns what is not in the jump table; its status.
    ///
    /// # Safety
    /// `ctx` is the run loop's [`aero_cpu::vcpu::Vcpu`], which nothing else refers to until this returns.
    #[expect(unsafe_code, reason = "compiled code calls back into the processor")]
    unsafe fn call(&mut self, slot: u32, ctx: *mut c_void) -> u32;

    /// Gives up the slots of a module.
    fn release(&mut self, first: u32, count: u32);
}
