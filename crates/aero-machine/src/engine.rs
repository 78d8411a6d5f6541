//! An engine for compiled code, and a processor that uses it.
//!
//! A host that has a WebAssembly engine lends it, together with the memory that both the engine and the emulator see:
//! natively the engine's own, in the browser the emulator's. Without one everything is interpreted.

use crate::config::JitConfig;
use aero_cpu::{Cpu, CpuConfig};
use aero_jit::cache::{CodeCache, Limits, Options};
use aero_jit::host::CodeHost;
use aero_jit::job::Env;
use aero_mem::{AllocError, GuestMemory};
use aero_x86::cpuid::MODELS;

/// What a host lends so that code can be compiled.
pub struct Engine {
    /// Runs compiled code.
    pub host: Box<dyn CodeHost>,
    /// It has tail calls.
    pub tail_calls: bool,
    /// The memory that compiled code sees, of [`GuestMemory::arena_bytes`] or more.
    #[cfg(not(target_arch = "wasm32"))]
    pub arena: aero_mem::Lent,
}

/// Guest memory, of `ram` bytes and as much `video` memory as the card has, and processor 0, with what compiles its code
/// if there is an engine for it and `jit` does not say `off`.
///
/// # Errors
/// When there is no such memory.
pub fn processor(
    (ram, video): (u64, u64),
    rom: &[u8],
    cpu: CpuConfig,
    jit: &JitConfig,
    engine: Option<Engine>,
) -> Result<(GuestMemory, Cpu), AllocError> {
    let Some((tier, engine)) = jit.tier.compiled().zip(engine) else {
        let mut mem = GuestMemory::with_video(ram, 1, rom, video)?;
        let cpu = Cpu::new(&mut mem, 0, cpu);
        return Ok((mem, cpu));
    };
    #[cfg(not(target_arch = "wasm32"))]
    let mut mem = GuestMemory::lent_with_video(engine.arena, ram, 1, rom, video)?;
    #[cfg(target_arch = "wasm32")]
    let mut mem = GuestMemory::with_video(ram, 1, rom, video)?;
    let mut processor = Cpu::new(&mut mem, 0, cpu);
    let model = MODELS.iter().position(|model| model.name == cpu.model.name).unwrap_or_default() as u8;
    let options = Options { exact: jit.exact, tail_calls: engine.tail_calls, model, tier };
    let env = Env::new(mem.layout(), 0, options);
    let defaults = Limits::default();
    let limits = Limits { threshold: jit.threshold.unwrap_or(defaults.threshold), ..defaults };
    processor.set_translator(Box::new(CodeCache::new(engine.host, env, limits)));
    Ok((mem, processor))
}
