//! Proofs of the processor, behind `aero cpu-test`.
//!
//! | module | compares Aero with | covers |
//! |---|---|---|
//! | [`fuzz`] | the host's own processor | what user mode can run: every form, random operands |
//! | [`system`] | Bochs and QEMU, on generated ROMs | what user mode cannot: modes, gates, paging, tasks |
//! | [`vectors`] | recordings of real processors | single instructions, as published test sets hold them |
//!
//! [`bytes`] compares with nothing: arbitrary bytes as a program must neither panic nor hang.

pub mod bytes;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod fuzz;
pub mod random;
pub mod system;
pub mod vectors;

use clap::Subcommand;

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
    /// Runs the test and prints its report; `false` if a difference was found.
    ///
    /// # Errors
    /// When a file cannot be read or a tool is missing.
    pub fn run(self) -> anyhow::Result<bool> {
        match self {
            #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
            Self::Fuzz(args) => fuzz::run(&args),
            Self::System(args) => system::run(&args),
            Self::Vectors(args) => vectors::run(&args),
        }
    }
}
