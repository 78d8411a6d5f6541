//! What makes, keeps and runs compiled code, as the run loop sees it. `aero_jit::cache` is it.

use super::Status;
use crate::block::BlockCache;
use crate::vcpu::Vcpu;
use aero_mem::GuestMemory;

/// Makes, keeps and runs compiled code.
///
/// The run loop counts how often a block is dispatched, and names it as *hot* at the [`threshold`](Translator::threshold)
/// and now and then after that. It keeps what it is told of in the jump table, and asks again when that has been emptied.
pub trait Translator {
    /// Dispatches of a block before it is hot: at least 1.
    fn threshold(&self) -> u32;

    /// A block that begins at RIP, which is linear address `la`, is hot: the region with its head there, if it may run
    /// here and now. Otherwise the translator may set about making one, of code that has `ran`.
    fn hot(&mut self, v: &mut Vcpu<'_>, la: u64, ran: &BlockCache) -> Answer;

    /// Runs the region in function slot `slot` and what it goes on to by the jump table.
    fn run(&mut self, v: &mut Vcpu<'_>, slot: u32) -> Status;

    /// Takes over what has been finished in the meantime. Called when a run begins.
    fn poll(&mut self, v: &mut Vcpu<'_>);

    /// Code in these pages (numbers as of [`GuestMemory::page_of`]) was overwritten: drops the regions that have it.
    fn drop_modified(&mut self, v: &mut Vcpu<'_>, pages: &[u32]);

    /// Drops everything: the machine was reset.
    fn reset(&mut self, mem: &mut GuestMemory);

    /// What happened so far.
    fn tally(&self) -> Tally;
}

/// What a translator says of a hot block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// This region.
    Run(Found),
    /// Nothing yet: ask again soon.
    Later,
    /// Nothing for a good while.
    Never,
}

/// A region that may run at a linear address in the current mode until the TLB's generation moves on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its function slot.
    pub slot: u32,
    /// Its pages are global: a CR3 load leaves it where it is.
    pub global: bool,
}

/// Event counts for `--stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Regions that were asked for.
    pub requested: u64,
    /// Regions that were compiled and installed.
    pub installed: u64,
    /// Regions that could not be compiled.
    pub failed: u64,
    /// Compiled regions whose code had changed by the time they were done.
    pub outdated: u64,
    /// Regions dropped because their code was overwritten.
    pub overwritten: u64,
    /// Regions dropped to make room.
    pub evicted: u64,
    /// Times that a region was not entered because its pages lie elsewhere in this address space.
    pub misfits: u64,
    /// Times that a page was given up for a while because its code keeps changing.
    pub given_up: u64,
    /// Instructions that retired in compiled code, with those that it had interpreted.
    pub instructions: u64,
    /// Times that compiled code came back since the jump table had nothing for where it went on, or the budget was spent.
    pub left: u64,
    /// Times that it left an instruction to the interpreter: a fault, a device, an instruction that is not compiled.
    pub redone: u64,
    /// Times that an instruction which it had interpreted ended it.
    pub stopped: u64,
    /// Regions that live.
    pub regions: u64,
    /// Modules that live.
    pub modules: u64,
    /// Bytes of WebAssembly of the modules that live.
    pub bytes: u64,
    /// Nanoseconds of host time that compiling took.
    pub compile_ns: u64,
}
