//! The processor under test: interpreted, or with its code compiled.
//!
//! `--jit full,threshold=1` compiles every block before it runs for the first time. Tests know no engine for compiled
//! code; who runs them does, and lends one for each processor.

use aero_cpu::{Cpu, CpuConfig};
use aero_machine::{Engine, JitConfig, JitTier, Tier};
use aero_mem::GuestMemory;

/// Makes an engine that compiles at once, for code of this tier and with an arena of so many bytes.
pub type MakeEngine = fn(Tier, u64) -> anyhow::Result<Engine>;

/// What processors are made as.
#[derive(Clone, Copy)]
pub struct Maker {
    jit: JitConfig,
    engine: Option<MakeEngine>,
}

impl Maker {
    /// Processors that interpret.
    pub const INTERPRETER: Self =
        Self { jit: JitConfig { tier: JitTier::Off, threshold: None, exact: false }, engine: None };

    /// Processors that compile as `jit` says.
    pub fn new(jit: JitConfig, engine: MakeEngine) -> Self {
        Self { jit, engine: Some(engine) }
    }

    /// How code is compiled.
    pub fn jit(&self) -> JitConfig {
        self.jit
    }

    /// A processor of the model with everything, and memory of `ram` bytes.
    ///
    /// # Errors
    /// When the host has no memory, or no engine.
    pub fn make(&self, ram: u64) -> anyhow::Result<(GuestMemory, Cpu)> {
        let bytes = GuestMemory::arena_bytes(ram, 1, 0);
        let wanted = self.jit.tier.compiled().zip(self.engine);
        let engine = wanted.map(|(tier, engine)| engine(tier, bytes)).transpose()?;
        let config = CpuConfig::of(&aero_x86::cpuid::MAX);
        aero_machine::processor((ram, 0), &[], config, &self.jit, engine)
            .map_err(|e| anyhow::anyhow!("guest memory: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_that_cannot_be_had_is_an_error_when_code_is_to_be_compiled() {
        fn none(_: Tier, bytes: u64) -> anyhow::Result<Engine> {
            anyhow::bail!("no engine for {bytes} bytes")
        }
        let error = Maker::new(JitConfig::default(), none).make(2 << 20).err().expect("no engine");
        let bytes = GuestMemory::arena_bytes(2 << 20, 1, 0);
        assert_eq!(error.to_string(), format!("no engine for {bytes} bytes"));
        assert!(Maker::new(Maker::INTERPRETER.jit, none).make(2 << 20).is_ok());
    }
}
