//! Proofs of the processor, behind `aero cpu-test`.
//!
//! | module | compares Aero with | covers |
//! |---|---|---|
//! | [`fuzz`] | the host's own processor | what user mode can run: every form, random operands |
//! | [`system`] | Bochs and QEMU, on generated ROMs | what user mode cannot: modes, gates, paging, tasks |
//! | [`vectors`] | recordings of real processors | single instructions, as published test sets hold them |
//!
//! [`processor`] makes what is tested. [`bytes`] compares with nothing: arbitrary bytes as a program must neither panic nor hang.

pub mod bytes;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod fuzz;
pub mod processor;
pub mod random;
pub mod system;
pub mod vectors;

use clap::Subcommand;
use processor::{MakeEngine, Maker};

/// The tests.
#[derive(Subcommand)]
pub enum Test {
    /// Run random instructions here and on the host's processor
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    Fuzz(fuzz::Args),
    /// Run generated system-level cases here, under Bochs and under QEMU
    System(system::Args),
    /// Run recorded single-step vectors
    Vectors(vectors::Args),
}

impl Test {
    /// Runs the test and prints its report; `false` if a difference was found. `engine` is for code that is compiled.
    ///
    /// # Errors
    /// When a file cannot be read or a tool is missing.
    pub fn run(self, engine: MakeEngine) -> anyhow::Result<bool> {
        match self {
            #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
            Self::Fuzz(args) => fuzz::run(&args, Maker::new(args.jit, engine)),
            Self::System(args) => system::run(&args, Maker::new(args.jit, engine)),
            Self::Vectors(args) => vectors::run(&args, Maker::new(args.jit, engine)),
        }
    }
}
