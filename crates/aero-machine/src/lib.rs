//! A whole PC: configuration in, a machine out, and the loop that runs it.
//!
//! [`Machine`] is one value on one thread. It owns guest memory, the processors and the board; hosts (the terminal, the
//! browser) call [`Machine::run`] with a budget of instructions and act on the [`Exit`]. Nothing here knows a host: the
//! clock is a trait, serial and screen are pulled, input is pushed.
//!
//! `layout` is the only file with addresses and interrupt numbers.

mod boot;
mod clock;
mod config;
mod devices;
mod drives;
mod engine;
mod firmware;
pub mod guest_cpu;
mod hub;
pub mod layout;
mod machine;
mod routes;
mod typist;
mod world;

pub use aero_bus::VmTime;
pub use aero_gpu::Frame;
pub use aero_jit::job::Tier;
pub use clock::WallClock;
pub use config::{
    Boot, BuildError, ClockConfig, Config, CpuChoice, Firmware, FirmwareError, JitConfig, JitTier, Kernel,
    MAX_FIRMWARE, REPEATABLE_RTC,
};
pub use drives::{Bus, Drive, DriveError};
pub use engine::{Engine, processor};
pub use hub::DriveTally;
pub use machine::{Compiled, Exit, Machine, Stats};
pub use world::Unclaimed;
