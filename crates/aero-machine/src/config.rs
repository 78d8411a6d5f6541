//! What a machine is made of, as plain data.

use aero_jit::job::Tier;
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
    /// Whether there is a high-precision event timer.
    pub hpet: bool,
    /// What becomes of code that runs often.
    pub jit: JitConfig,
    /// How virtual time passes.
    pub clock: ClockConfig,
    /// What the real-time clock says at power-on, in seconds since 1970.
    pub rtc: u64,
    /// Port of an `isa-debug-exit` device.
    pub debug_exit: Option<u16>,
    /// Ports of debug consoles.
    pub debugcon: Vec<u16>,
    /// A port whose bytes are POST codes to be kept for the host.
    pub post_port: Option<u16>,
    /// Whether there is the device of test kernels.
    pub test_device: bool,
    /// Whether there is a VGA card.
    pub vga: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            memory: 1 << 30,
            cpu: CpuChoice::default(),
            hyperv: false,
            hpet: false,
            jit: JitConfig::default(),
            clock: ClockConfig::Realtime,
            rtc: REPEATABLE_RTC,
            debug_exit: None,
            debugcon: Vec::new(),
            post_port: None,
            test_device: false,
            vga: true,
        }
    }
}

impl Config {
    /// Bytes of video memory.
    pub fn video_memory(&self) -> u64 {
        if self.vga { aero_gpu::VIDEO_MEMORY.into() } else { 0 }
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

/// What becomes of code that runs often, on a host that lends an engine for compiled code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JitConfig {
    /// How much work compiling may be.
    pub tier: JitTier,
    /// How often a block runs before it is compiled, at least 1; `None` leaves it to the translator.
    pub threshold: Option<u32>,
    /// Compiled code ends to the instruction. With the clock `icount` it always does.
    pub exact: bool,
}

/// How much work compiling may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JitTier {
    /// Everything is interpreted.
    Off,
    /// Quick compilation only.
    Baseline,
    /// Quick compilation, and a thorough one of what runs very often.
    #[default]
    Full,
}

impl JitTier {
    /// The translator's name for it; `None` if everything is interpreted.
    pub fn compiled(self) -> Option<Tier> {
        match self {
            Self::Off => None,
            Self::Baseline => Some(Tier::Baseline),
            Self::Full => Some(Tier::Optimizing),
        }
    }
}

impl core::str::FromStr for JitConfig {
    type Err = String;

    /// Reads `off`, `baseline` or `full`, with `,threshold=N` behind it or not.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split(',');
        let tier = match words.next() {
            Some("off") => JitTier::Off,
            Some("baseline") => JitTier::Baseline,
            Some("full") => JitTier::Full,
            other => {
                let other = other.unwrap_or_default();
                return Err(format!(
                    "there is no '{other}' way to compile; there are off, baseline and full"
                ));
            }
        };
        let mut config = Self { tier, ..Self::default() };
        for word in words {
            let number = word
                .strip_prefix("threshold=")
                .ok_or_else(|| format!("'{word}' is not known after the way to compile; threshold=N is"))?;
            let number = number.parse().ok().filter(|n| *n > 0);
            config.threshold = Some(number.ok_or("expected a threshold of 1 or more, such as threshold=1")?);
        }
        Ok(config)
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

/// What runs first.
#[derive(Clone, Debug)]
pub enum Boot {
    /// A kernel, started without firmware.
    Kernel(Kernel),
    /// Firmware, mapped below 4 GiB and below 1 MiB: the processor starts at its reset vector.
    Firmware(Firmware),
}

/// Firmware and what it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firmware {
    /// The image: its end lies below 4 GiB and below 1 MiB.
    pub rom: Vec<u8>,
    /// The video BIOS, in the graphics card's expansion ROM; empty without one.
    pub vga_bios: Vec<u8>,
    /// What is tried first and next: `a` floppies, `c` disks, `d` discs.
    pub order: String,
    /// Whether a menu is offered.
    pub menu: bool,
}

/// A kernel with what it is given.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// A Linux bzImage, or a multiboot kernel.
    pub image: Vec<u8>,
    /// What a multiboot kernel sees as its name, before its command line.
    pub name: String,
    /// An initial RAM disk, or a multiboot kernel's module.
    pub initrd: Option<Vec<u8>>,
    /// What a multiboot kernel sees as its module's name.
    pub initrd_name: String,
    /// The kernel's command line.
    pub append: String,
}

impl Kernel {
    /// A Linux kernel.
    pub fn linux(image: Vec<u8>, initrd: Option<Vec<u8>>, append: String) -> Self {
        Self { image, initrd, append, ..Self::default() }
    }
}

/// Sizes of firmware: multiples of 64 KiB up to this.
pub const MAX_FIRMWARE: u64 = aero_mem::MAX_ROM;

/// Why a ROM cannot be firmware.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FirmwareError {
    /// Its size is not one that is mapped.
    #[error(
        "a ROM has 64 KiB to 16 MiB in steps of 64 KiB, this file has {len} bytes; pad it in front, \
         so that its last 16 bytes stay the reset vector's"
    )]
    Size {
        /// Bytes of the file.
        len: u64,
    },
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
    /// The multiboot kernel or its module.
    #[error("{0}")]
    Multiboot(#[from] aero_firmware::MultibootError),
    /// The ROM.
    #[error("{0}")]
    Firmware(#[from] FirmwareError),
    /// A number out of range.
    #[error("the instruction-count clock runs at 1 to 100000 MIPS, not at {0}")]
    Mips(u32),
    /// A drive that has no place.
    #[error("{0}")]
    Drive(#[from] crate::drives::DriveError),
    /// No such processor.
    #[error("there is no CPU model '{0}'; there are {known}", known = MODELS.map(|m| m.name).join(", "))]
    Model(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_to_compile_are_read_with_their_threshold() {
        let full = JitConfig { threshold: Some(1), ..JitConfig::default() };
        assert_eq!("full,threshold=1".parse(), Ok(full));
        assert_eq!("baseline".parse(), Ok(JitConfig { tier: JitTier::Baseline, ..JitConfig::default() }));
        assert_eq!("off".parse(), Ok(JitConfig { tier: JitTier::Off, ..JitConfig::default() }));
        for (text, part) in
            [("", "off, baseline and full"), ("full,fast", "'fast'"), ("full,threshold=0", "1 or more")]
        {
            let error = text.parse::<JitConfig>().expect_err(text);
            assert!(error.contains(part), "{error}");
        }
    }
}
