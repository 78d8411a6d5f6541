//! The model-specific registers, as data: number, name, the feature that brings it, and what reading and writing do.
//!
//! Reserved bits follow the Intel SDM, vol. 4, table 2-2; which registers a guest meets and what the quiet ones must answer
//! is `win7-platform-contract` §1.3.

use super::valid;
use crate::state::{Msrs, seg};
use aero_x86::Feature;

/// A register, or a run of alike ones.
pub struct Register {
    /// The first number.
    pub first: u32,
    /// The last number.
    pub last: u32,
    /// Its name in the manual.
    pub name: &'static str,
    /// The feature without which it does not exist.
    pub needs: Option<Feature>,
    /// What it does.
    pub rule: Rule,
}

/// What reading and writing a register do.
pub enum Rule {
    /// Reads so. Writes are ignored, or fault in strict mode.
    Constant(u64),
    /// Reads as zero and swallows writes in any mode.
    Quiet,
    /// A field of [`Msrs`] (by position in the run), what it holds after power-on, and what may be written.
    Stored(fn(&mut Msrs, u32) -> &mut u64, u64, Legal),
    /// The base of a segment register.
    SegmentBase(u8),
    /// IA32_TIME_STAMP_COUNTER.
    Tsc,
    /// IA32_TSC_ADJUST.
    TscAdjust,
    /// IA32_TSC_DEADLINE.
    TscDeadline,
    /// IA32_APIC_BASE.
    ApicBase,
    /// IA32_EFER.
    Efer,
    /// IA32_PKRS.
    Pkrs,
    /// The local APIC's registers.
    X2Apic,
}

/// What may be written; anything else is #GP(0).
pub enum Legal {
    /// Anything.
    Any,
    /// These bits.
    Bits(u64),
    /// A canonical address.
    Canonical,
    /// What the function says of the position in the run and the value.
    If(fn(u32, u64) -> bool),
}

const fn one(n: u32, name: &'static str, rule: Rule) -> Register {
    Register { first: n, last: n, name, needs: None, rule }
}

const fn run(first: u32, last: u32, name: &'static str, rule: Rule) -> Register {
    Register { first, last, name, needs: None, rule }
}

const fn with(feature: Feature, register: Register) -> Register {
    Register { needs: Some(feature), ..register }
}

/// Eight variable ranges, fixed ranges, write-combining.
const MTRR_CAP: u64 = 0x508;
/// Ten machine-check banks, MCG_CTL present.
const MCG_CAP: u64 = 0x10a;
/// No branch trace store, no precise event-based sampling, fast strings.
const MISC_ENABLE: u64 = 0x1801;
/// Fast strings, thermal control, perfmon, BTS, PEBS, SpeedStep, MONITOR, CPUID limit, xTPR, execute-disable, turbo.
const MISC_ENABLE_BITS: u64 = 0x44_00d5_1c89;
/// LBR, BTF, and bits 15:6 (branch trace messages and stores, freezes).
const DEBUGCTL_BITS: u64 = 0xffc3;
/// What power-on leaves in IA32_PAT.
const PAT: u64 = 0x0007_0406_0007_0406;

use Legal::{Any, Bits, Canonical, If};
use Rule::{Constant, Quiet, Stored};

/// Every register, by number.
pub static TABLE: [Register; 54] = [
    run(0x00, 0x01, "IA32_P5_MC_ADDR", Constant(0)),
    with(Feature::Tsc, one(0x10, "IA32_TIME_STAMP_COUNTER", Rule::Tsc)),
    one(0x17, "IA32_PLATFORM_ID", Constant(0)),
    one(0x1b, "IA32_APIC_BASE", Rule::ApicBase),
    one(0x2a, "MSR_EBL_CR_POWERON", Constant(0)),
    // Locked, with no virtual machine extensions.
    one(0x3a, "IA32_FEATURE_CONTROL", Constant(1)),
    with(Feature::TscAdjust, one(0x3b, "IA32_TSC_ADJUST", Rule::TscAdjust)),
    run(0x40, 0x47, "MSR_LASTBRANCH_FROM", Quiet),
    run(0x60, 0x67, "MSR_LASTBRANCH_TO", Quiet),
    one(0x79, "IA32_BIOS_UPDT_TRIG", Quiet),
    one(0x8b, "IA32_BIOS_SIGN_ID", Stored(|m, _| &mut m.microcode_rev, 0, Any)),
    run(0xc1, 0xc2, "IA32_PMC", Quiet),
    one(0xcd, "MSR_FSB_FREQ", Constant(0)),
    one(0xce, "MSR_PLATFORM_INFO", Constant(0)),
    one(0xfe, "IA32_MTRRCAP", Constant(MTRR_CAP)),
    // As a Core 2 has it: the second-level cache is there and switched on.
    one(0x11e, "MSR_BBL_CR_CTL3", Constant(0xbe70_2111)),
    with(Feature::Sep, one(0x174, "IA32_SYSENTER_CS", Stored(|m, _| &mut m.sysenter_cs, 0, Any))),
    with(Feature::Sep, one(0x175, "IA32_SYSENTER_ESP", Stored(|m, _| &mut m.sysenter_esp, 0, Canonical))),
    with(Feature::Sep, one(0x176, "IA32_SYSENTER_EIP", Stored(|m, _| &mut m.sysenter_eip, 0, Canonical))),
    one(0x179, "IA32_MCG_CAP", Constant(MCG_CAP)),
    one(0x17a, "IA32_MCG_STATUS", Stored(|m, _| &mut m.mcg_status, 0, Bits(7))),
    one(0x17b, "IA32_MCG_CTL", Stored(|m, _| &mut m.mcg_ctl, 0, If(valid::all_or_nothing))),
    run(0x186, 0x187, "IA32_PERFEVTSEL", Quiet),
    one(0x198, "IA32_PERF_STATUS", Constant(0)),
    one(0x199, "IA32_PERF_CTL", Quiet),
    run(0x19a, 0x19c, "IA32_CLOCK_MODULATION", Quiet),
    one(0x1a0, "IA32_MISC_ENABLE", Stored(|m, _| &mut m.misc_enable, MISC_ENABLE, Bits(MISC_ENABLE_BITS))),
    one(0x1aa, "MSR_MISC_PWR_MGMT", Quiet),
    one(0x1c9, "MSR_LASTBRANCH_TOS", Quiet),
    one(0x1d9, "IA32_DEBUGCTL", Stored(|m, _| &mut m.debugctl, 0, Bits(DEBUGCTL_BITS))),
    run(0x1da, 0x1de, "MSR_LER", Quiet),
    run(
        0x200,
        0x20f,
        "IA32_MTRR_PHYS",
        Stored(|m, n| &mut m.mtrr_variable[n as usize & 15], 0, If(valid::variable_range)),
    ),
    fixed(0x250, 0x250, |m, _| &mut m.mtrr_fixed[0]),
    fixed(0x258, 0x259, |m, n| &mut m.mtrr_fixed[1 + (n as usize & 1)]),
    fixed(0x268, 0x26f, |m, n| &mut m.mtrr_fixed[3 + (n as usize & 7)]),
    with(Feature::Pat, one(0x277, "IA32_PAT", Stored(|m, _| &mut m.pat, PAT, If(valid::page_types)))),
    one(0x2ff, "IA32_MTRR_DEF_TYPE", Stored(|m, _| &mut m.mtrr_def_type, 0, If(valid::default_type))),
    run(0x38d, 0x390, "IA32_FIXED_CTR_CTRL", Quiet),
    run(
        0x400,
        0x427,
        "IA32_MC",
        Stored(|m, n| &mut m.mc_banks[n as usize / 4 % 10][n as usize & 3], 0, If(valid::machine_check)),
    ),
    one(0x600, "IA32_DS_AREA", Quiet),
    run(0x680, 0x6cf, "MSR_LASTBRANCH_FROM_IP", Quiet),
    with(Feature::TscDeadline, one(0x6e0, "IA32_TSC_DEADLINE", Rule::TscDeadline)),
    with(Feature::Pks, one(0x6e1, "IA32_PKRS", Rule::Pkrs)),
    with(Feature::X2apic, run(0x800, 0x8ff, "IA32_X2APIC", Rule::X2Apic)),
    // No supervisor state components exist.
    with(Feature::Xsaves, one(0xda0, "IA32_XSS", Stored(|m, _| &mut m.xss, 0, Bits(0)))),
    one(0xc000_0080, "IA32_EFER", Rule::Efer),
    one(0xc000_0081, "IA32_STAR", Stored(|m, _| &mut m.star, 0, Any)),
    one(0xc000_0082, "IA32_LSTAR", Stored(|m, _| &mut m.lstar, 0, Canonical)),
    one(0xc000_0083, "IA32_CSTAR", Stored(|m, _| &mut m.cstar, 0, Canonical)),
    one(0xc000_0084, "IA32_FMASK", Stored(|m, _| &mut m.fmask, 0, Bits(0xffff_ffff))),
    one(0xc000_0100, "IA32_FS_BASE", Rule::SegmentBase(seg::FS)),
    one(0xc000_0101, "IA32_GS_BASE", Rule::SegmentBase(seg::GS)),
    one(0xc000_0102, "IA32_KERNEL_GS_BASE", Stored(|m, _| &mut m.kernel_gs_base, 0, Canonical)),
    with(
        Feature::Rdtscp,
        one(0xc000_0103, "IA32_TSC_AUX", Stored(|m, _| &mut m.tsc_aux, 0, Bits(0xffff_ffff))),
    ),
];

const fn fixed(first: u32, last: u32, place: fn(&mut Msrs, u32) -> &mut u64) -> Register {
    run(first, last, "IA32_MTRR_FIX", Stored(place, 0, If(valid::range_types)))
}

/// The register with number `n`, whether or not the processor has it.
pub fn find(n: u32) -> Option<&'static Register> {
    let at = TABLE.partition_point(|r| r.last < n);
    TABLE.get(at).filter(|r| r.first <= n)
}

/// What the stored registers hold after power-on.
pub fn power_on() -> Msrs {
    let mut m = Msrs::default();
    for r in &TABLE {
        if let Stored(place, reset, _) = r.rule {
            (0..=r.last - r.first).for_each(|n| *place(&mut m, n) = reset);
        }
    }
    m
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_in_order_and_every_number_is_found() {
        for pair in TABLE.windows(2) {
            assert!(pair[0].last < pair[1].first, "{} {}", pair[0].name, pair[1].name);
        }
        for r in &TABLE {
            assert!([r.first, r.last].iter().all(|n| find(*n).is_some_and(|f| f.first == r.first)));
        }
        assert!([2, 0x11, 0xfd, 0x428, 0x900, 0xc000_0085, u32::MAX].iter().all(|n| find(*n).is_none()));
    }

    #[test]
    fn no_two_numbers_share_a_place() {
        let mut seen = std::collections::HashSet::new();
        let mut m = Msrs::default();
        for r in &TABLE {
            let Stored(place, ..) = r.rule else { continue };
            for n in 0..=r.last - r.first {
                assert!(seen.insert(core::ptr::from_mut(place(&mut m, n)) as usize), "{} + {n}", r.name);
            }
        }
    }

    #[test]
    fn values_after_power_on_may_be_written_back() {
        for r in &TABLE {
            let Stored(_, reset, legal) = &r.rule else { continue };
            assert!((0..=r.last - r.first).all(|n| legal.allows(n, *reset)), "{}", r.name);
        }
    }
}
