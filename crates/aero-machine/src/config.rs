//! What a machine is made of, as plain data.

use aero_x86::cpuid::{MODELS, Model};
use serde::{Deserialize, Serialize};

/// What a real-time clock says at power-on unless told: 2026-01-01 00:00:00 UTC, in seconds since 1970. Repeatable
/// runs start here, in the terminal and in the page.
pub const REPEATABLE_RTC: u64 = 1_767_225_600;

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bytes of guest RAM.
    pub memory: u64,
    /// What the processors are.
    pub cpu: CpuChoice,
    /// Whether software sees the hypervisor interface that Windows knows.
    pub hyperv: bool,
    /// How virtual time passes.
    pub clock: ClockConfig,
    /// What the real-time clock says at power-on, in seconds since 1970.
    pub rtc: u64,
    /// Port of an `isa-debug-exit` device.
    pub debug_exit: Option<u16>,
    /// Port of a debug console.
    pub debugcon: Option<u16>,
    /// Whether there is a VGA card.
    pub vga: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            memory: 1 << 30,
            cpu: CpuChoice::default(),
            hyperv: false,
            clock: ClockConfig::Realtime,
            rtc: REPEATABLE_RTC,
            debug_exit: None,
            debugcon: None,
            vga: true,
        }
    }
}

/// Which processor, by the name of its model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CpuChoice {
    /// One of [`aero_x86::cpuid::MODELS`].
    pub model: String,
    /// Unknown MSRs raise #GP; otherwise they read zero and swallow writes.
    pub strict_msr: bool,
}

impl Default for CpuChoice {
    fn default() -> Self {
        Self { model: aero_x86::cpuid::WIN7.name.to_owned(), strict_msr: false }
    }
}

impl CpuChoice {
    /// The model that is meant.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn find(&self) -> Result<&'static Model, BuildError> {
        let found = MODELS.iter().find(|m| m.name == self.model);
        found.copied().ok_or_else(|| BuildError::Model(self.model.clone()))
    }
}

/// How virtual time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ClockConfig {
    /// With the host's clock.
    Realtime,
    /// With retired instructions: a run is repeatable, and an idle machine jumps to its next timer.
    Icount {
        /// Instructions per virtual microsecond, 1 to 100,000.
        mips: u32,
    },
}

/// What is booted directly, without firmware.
#[derive(Clone, Debug, Default)]
pub struct Boot {
    /// A Linux bzImage.
    pub kernel: Vec<u8>,
    /// An initial RAM disk.
    pub initrd: Option<Vec<u8>>,
    /// The kernel's command line.
    pub append: String,
}

/// Why a machine cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The host has no such memory.
    #[error("{0}")]
    Memory(#[from] aero_mem::AllocError),
    /// The kernel or the initrd.
    #[error("{0}")]
    Load(#[from] aero_firmware::linux::LoadError),
    /// A number out of range.
    #[error("the instruction-count clock runs at 1 to 100000 MIPS, not at {0}")]
    Mips(u32),
    /// No such processor.
    #[error("there is no CPU model '{0}'; there are {known}", known = MODELS.map(|m| m.name).join(", "))]
    Model(String),
}
