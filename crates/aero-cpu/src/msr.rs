//! Model-specific registers and the time-stamp counter.
//!
//! [`table`] says which registers exist and what they do; this file does it. A register that is not there, or whose
//! feature the model lacks, reads zero and swallows writes, logged once each: Windows 7 probes many
//! (`win7-platform-contract` §1.3). In strict mode it faults as on hardware.
//!
//! The time-stamp counter is virtual time in ticks plus one offset. Writing the counter or IA32_TSC_ADJUST moves the offset
//! and both together (Intel SDM vol. 3, 18.17.3); the deadline timer compares with the counter, so it moves too.

pub mod table;

use crate::access::is_canonical;
use crate::state::{cr0, efer};
use crate::vcpu::{Stop, Vcpu};
use aero_x86::Feature;
use table::{Legal, Register, Rule};

/// TSC ticks per microsecond of virtual time: 2 GHz, constant.
pub const TSC_MHZ: u64 = 2000;

/// What may be written to registers with more than reserved bits.
mod valid {
    use aero_x86::cpuid::PHYSICAL_BITS;

    /// A memory type that range registers know: UC, WC, WT, WP, WB.
    fn range_type(t: u8) -> bool {
        matches!(t, 0 | 1 | 4..=6)
    }

    /// IA32_PAT: the same and UC-, eight times.
    pub fn page_types(_: u32, value: u64) -> bool {
        value.to_le_bytes().iter().all(|t| range_type(*t) || *t == 7)
    }

    /// A fixed range register.
    pub fn range_types(_: u32, value: u64) -> bool {
        value.to_le_bytes().iter().all(|t| range_type(*t))
    }

    /// IA32_MTRR_DEF_TYPE: the type, and whether the ranges count.
    pub fn default_type(_: u32, value: u64) -> bool {
        value & !0xcff == 0 && range_type(value as u8)
    }

    /// Base (even) and mask (odd) of a variable range.
    pub fn variable_range(n: u32, value: u64) -> bool {
        let address = value >> PHYSICAL_BITS == 0;
        address
            && if n.is_multiple_of(2) {
                value & 0xf00 == 0 && range_type(value as u8)
            } else {
                value & 0x7ff == 0
            }
    }

    /// IA32_MCG_CTL: everything on, or off.
    pub fn all_or_nothing(_: u32, value: u64) -> bool {
        value == 0 || value == u64::MAX
    }

    /// CTL, STATUS, ADDR, MISC of a bank. Linux leaves bits 0 or 10 of some banks' CTL clear.
    pub fn machine_check(n: u32, value: u64) -> bool {
        match n % 4 {
            0 => value == 0 || value | 1 << 10 | 1 == u64::MAX,
            1 => value == 0,
            _ => true,
        }
    }
}

impl Legal {
    /// Whether `value` may be written to the `n`th register of the run.
    pub fn allows(&self, n: u32, value: u64) -> bool {
        match self {
            Self::Any => true,
            Self::Bits(bits) => value & !bits == 0,
            Self::Canonical => is_canonical(value),
            Self::If(allows) => allows(n, value),
        }
    }
}

impl Vcpu<'_> {
    /// The time-stamp counter now.
    pub(crate) fn tsc(&mut self) -> u64 {
        ticks(self.now()).wrapping_add(self.core.tsc_offset)
    }

    /// The register of number `n`, if this processor has it.
    fn register(&self, n: u32) -> Option<&'static Register> {
        let features = self.core.config.model.features;
        table::find(n).filter(|r| r.needs.is_none_or(|f| features.has(f)))
    }

    pub(crate) fn read_msr(&mut self, n: u32) -> Result<u64, Stop> {
        let Some(r) = self.register(n) else { return self.read_unlisted(n) };
        Ok(match r.rule {
            Rule::Constant(value) => value,
            Rule::Quiet => 0,
            Rule::Stored(place, ..) => *place(&mut self.st.msr, n - r.first),
            Rule::SegmentBase(segment) => self.st.segments[usize::from(segment)].base,
            Rule::Tsc => self.tsc(),
            Rule::TscAdjust => self.core.tsc_adjust,
            Rule::TscDeadline => {
                let now = self.now();
                self.core.lapic.tick(now);
                self.core.lapic.tsc_deadline()
            }
            Rule::ApicBase => self.core.lapic.apic_base(),
            Rule::Efer => self.st.msr.efer,
            Rule::Pkrs => self.st.msr.pkrs,
            Rule::X2Apic => {
                let now = self.now();
                return self.core.lapic.read_msr(n, now).map_err(|_| self.gp(0));
            }
        })
    }

    pub(crate) fn write_msr(&mut self, n: u32, value: u64) -> Result<(), Stop> {
        let Some(r) = self.register(n) else { return self.write_unlisted(n, value) };
        match &r.rule {
            Rule::Constant(_) if self.core.config.strict_msr => return Err(self.gp(0)),
            Rule::Constant(_) | Rule::Quiet => {}
            Rule::Stored(place, _, legal) => {
                if !legal.allows(n - r.first, value) {
                    return Err(self.gp(0));
                }
                *place(&mut self.st.msr, n - r.first) = value;
            }
            Rule::SegmentBase(_) if !is_canonical(value) => return Err(self.gp(0)),
            Rule::SegmentBase(segment) => self.st.segments[usize::from(*segment)].base = value,
            Rule::Tsc => {
                let by = value.wrapping_sub(self.tsc());
                self.move_tsc(by);
            }
            Rule::TscAdjust => self.move_tsc(value.wrapping_sub(self.core.tsc_adjust)),
            Rule::TscDeadline => self.set_tsc_deadline(value),
            Rule::ApicBase => self.write_apic_base(value)?,
            Rule::Efer => self.write_efer(value)?,
            Rule::Pkrs if value >> 32 != 0 => return Err(self.gp(0)),
            Rule::Pkrs => self.set_pkrs(value as u32),
            Rule::X2Apic => {
                let now = self.now();
                let action = self.core.lapic.write_msr(n, value, now).map_err(|_| self.gp(0))?;
                self.lapic_action(action);
            }
        }
        Ok(())
    }

    fn move_tsc(&mut self, by: u64) {
        self.core.tsc_offset = self.core.tsc_offset.wrapping_add(by);
        self.core.tsc_adjust = self.core.tsc_adjust.wrapping_add(by);
        let now = self.now();
        self.core.lapic.tick(now);
        let deadline = self.core.lapic.tsc_deadline();
        if deadline != 0 {
            self.set_tsc_deadline(deadline);
        }
        self.hyperv_tsc_moved();
    }

    fn set_tsc_deadline(&mut self, value: u64) {
        let now = self.now();
        let left = value.saturating_sub(self.tsc());
        self.core.lapic.set_tsc_deadline(value, now.saturating_add(nanoseconds(left)));
        // One that has passed interrupts before the next instruction.
        self.core.lapic.tick(now);
    }

    /// The page of registers comes, goes or moves in front of RAM, so translations of either place are stale.
    fn write_apic_base(&mut self, value: u64) -> Result<(), Stop> {
        if self.core.lapic.set_apic_base(value).is_err() {
            return Err(self.gp(0));
        }
        self.tlb.flush_all();
        Ok(())
    }

    /// LMA follows paging and cannot be written; LME cannot change under paging (Intel SDM vol. 3, 2.2.1).
    fn write_efer(&mut self, value: u64) -> Result<(), Stop> {
        let features = self.core.config.model.features;
        let settable = [(Feature::Syscall, efer::SCE), (Feature::Lm, efer::LME), (Feature::Nx, efer::NXE)]
            .iter()
            .filter(|(f, _)| features.has(*f))
            .fold(0, |bits, (_, bit)| bits | bit);
        let changed = self.st.msr.efer ^ value;
        let paging = self.st.cr0 & cr0::PG != 0;
        if value & !(settable | efer::LMA) != 0 || paging && changed & efer::LME != 0 {
            return Err(self.gp(0));
        }
        self.st.msr.efer = value & settable | self.st.msr.efer & efer::LMA;
        if changed & efer::NXE != 0 {
            self.tlb.flush_all();
        }
        Ok(())
    }

    #[cold]
    fn read_unlisted(&mut self, n: u32) -> Result<u64, Stop> {
        if let Some(value) = self.read_hyperv(n) {
            return Ok(value);
        }
        self.unknown_msr(n, None)?;
        Ok(0)
    }

    #[cold]
    fn write_unlisted(&mut self, n: u32, value: u64) -> Result<(), Stop> {
        match self.write_hyperv(n, value) {
            Some(done) => done,
            None => self.unknown_msr(n, Some(value)),
        }
    }

    fn unknown_msr(&mut self, n: u32, written: Option<u64>) -> Result<(), Stop> {
        let strict = self.core.config.strict_msr;
        // Bounded: a guest that asks for every number must not fill the host's memory.
        if self.core.unknown_msrs.len() < 1024 && !self.core.unknown_msrs.contains_key(&n) {
            let rip = self.st.rip;
            self.core.unknown_msrs.insert(n, rip);
            let what = if strict { "#GP" } else { "zero, or ignored" };
            match written {
                Some(value) => log::info!("unknown MSR {n:#x} written with {value:#x} near {rip:#x}: {what}"),
                None => log::info!("unknown MSR {n:#x} read near {rip:#x}: {what}"),
            }
        }
        if strict { Err(self.gp(0)) } else { Ok(()) }
    }
}

/// TSC ticks at `ns` of virtual time.
pub fn ticks(ns: u64) -> u64 {
    (u128::from(ns) * u128::from(TSC_MHZ) / 1000) as u64
}

/// Nanoseconds in which the TSC counts `ticks`.
fn nanoseconds(ticks: u64) -> u64 {
    (u128::from(ticks) * 1000).div_ceil(TSC_MHZ.into()).min(u64::MAX.into()) as u64
}
