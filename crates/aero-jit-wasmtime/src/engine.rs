//! How wasmtime is set up, and the memory that it makes.

use crate::StartError;
use aero_jit::job::Tier;
use aero_mem::Lent;
use core::ptr::NonNull;
use wasmtime::{Config, Engine, MemoryType, OptLevel, SharedMemory};

/// What modules say their memory's maximum is, in pages: all that 32-bit addresses reach.
const MAX_PAGES: u32 = 65_536;

const PAGE: u64 = 65_536;

/// Compiled code's share of the machine's stack: [`aero_cpu::jit::MAX_DEPTH`] calls with frames of 5 KiB. Threads have
/// 2 MiB or more, and helper functions need some of it.
const STACK: usize = 1 << 20;

/// An engine for modules as [`aero_jit::host`] describes them.
pub fn engine(tier: Tier) -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config.cranelift_opt_level(match tier {
        Tier::Baseline => OptLevel::None,
        Tier::Optimizing => OptLevel::Speed,
    });
    config.wasm_threads(true).shared_memory(true);
    config.wasm_simd(true).wasm_bulk_memory(true).wasm_multi_value(true).wasm_tail_call(true);
    config.wasm_branch_hinting(true);
    // Accesses past the memory's end are caught by the pages there instead of being looked for.
    // Tables lie at constant offsets of up to 4 GiB from an index of 0: with less behind the memory each such access
    // would be looked at after all.
    config.signals_based_traps(true).memory_reservation(4 << 30).memory_guard_size(4 << 30);
    config.max_wasm_stack(STACK);
    // Entries of the function table are written when a module is instantiated, so that calls need not look.
    config.table_lazy_init(false);
    // Nobody asks where in a module a trap was.
    config.generate_address_map(false).native_unwind_info(false);
    Engine::new(&config)
}

/// A memory of `bytes` or more that never grows.
pub fn memory(engine: &Engine, bytes: u64) -> Result<SharedMemory, StartError> {
    let pages = u32::try_from(bytes.div_ceil(PAGE)).ok().filter(|pages| *pages <= MAX_PAGES);
    let pages = pages.ok_or(StartError::Size(bytes))?;
    SharedMemory::new(engine, MemoryType::shared(pages, MAX_PAGES)).map_err(crate::started)
}

/// The memory, as an arena.
pub fn lend(memory: &SharedMemory) -> Lent {
    let data = memory.data();
    let base = NonNull::from(data).cast();
    // SAFETY: the memory is new, so zero; it lies at a page's start, and lives as long as a handle of it. Besides the
    // arena's owner only compiled code touches it, which runs when that owner's processor calls it.
    unsafe { Lent::new(base, data.len() as u64, Box::new(memory.clone())) }
}
