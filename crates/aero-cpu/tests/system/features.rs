//! Every feature of every model does something that it does not do where the feature is missing.
//!
//! [`proof`] names for each feature the shortest program that tells. It is a `match` without a default arm, so a feature
//! that enters the table comes with its proof.

use crate::guest::*;
use aero_cpu::CpuConfig;
use aero_cpu::state::{cr4, efer, reg};
use aero_x86::Feature;
use aero_x86::cpuid::{MODELS, Model};

/// How a feature shows.
enum Proof {
    /// These instructions run; without the feature the first one is #UD.
    Code(&'static [u8]),
    /// This bit of CR4 can be set; #GP without.
    Control(u64),
    /// This MSR can be read; #GP without.
    Register(u32),
    /// A function of a guest with the model tells whether the feature is there.
    Seen(fn(&mut Guest) -> bool),
    /// Nothing tells but a property: named here with where it is tested.
    Elsewhere(&'static str),
}

use Proof::{Code, Control, Elsewhere, Register, Seen};

/// What RBX, the address of all memory operands here, holds.
const AT: u64 = DATA;

fn proof(feature: Feature) -> Proof {
    use Feature as F;
    match feature {
        F::Fpu => Code(&[0xd9, 0xe8]),
        F::Vme => Control(cr4::VME | cr4::PVI),
        F::De => Control(cr4::DE),
        F::Pse => Control(cr4::PSE),
        F::Tsc => Code(&[0x0f, 0x31]),
        F::Msr => Code(&[0xb9, 0x1b, 0, 0, 0, 0x0f, 0x32]),
        F::Pae => Control(cr4::PAE),
        F::Mce => Control(cr4::MCE),
        F::Cx8 => Code(&[0x0f, 0xc7, 0x0b]),
        F::Apic => Register(0x1b),
        F::Sep => Register(0x174),
        F::Mtrr => Register(0xfe),
        F::Pge => Control(cr4::PGE),
        F::Mca => Register(0x179),
        F::Cmov => Code(&[0x0f, 0x40, 0xc1]),
        F::Pat => Register(0x277),
        F::Pse36 => Elsewhere("contexts::pse_36_reaches_above_4_gib"),
        F::Clfsh => Code(&[0x0f, 0xae, 0x3b]),
        F::Mmx => Code(&[0x0f, 0x6f, 0xc1, 0x0f, 0x77]),
        F::Fxsr => Code(&[0x0f, 0xae, 0x03]),
        F::Sse => Code(&[0x0f, 0x57, 0xc0]),
        F::Sse2 => Code(&[0x66, 0x0f, 0x57, 0xc0]),
        F::Sse3 => Code(&[0xf2, 0x0f, 0x7c, 0xc0]),
        F::Pclmulqdq => Code(&[0x66, 0x0f, 0x3a, 0x44, 0xc1, 0]),
        F::Monitor => Code(&[0x0f, 0x01, 0xc8]),
        F::Ssse3 => Code(&[0x66, 0x0f, 0x38, 0x00, 0xc1]),
        F::Fma => Code(&[0xc4, 0xe2, 0xf1, 0x98, 0xc2]),
        F::Cx16 => Code(&[0x48, 0x0f, 0xc7, 0x0b]),
        F::Pcid => Control(cr4::PCIDE),
        F::Sse41 => Code(&[0x66, 0x0f, 0x38, 0x10, 0xc1]),
        F::Sse42 => Code(&[0xf2, 0x0f, 0x38, 0xf1, 0xc1]),
        F::X2apic => Seen(has_x2apic),
        F::Movbe => Code(&[0x0f, 0x38, 0xf0, 0x03]),
        F::Popcnt => Code(&[0xf3, 0x0f, 0xb8, 0xc1]),
        F::TscDeadline => Register(0x6e0),
        F::Aes => Code(&[0x66, 0x0f, 0x38, 0xdc, 0xc1]),
        F::Xsave => Code(&[0x0f, 0x01, 0xd0]),
        F::Avx => Code(&[0xc5, 0xfc, 0x57, 0xc0]),
        F::F16c => Code(&[0xc4, 0xe2, 0x79, 0x13, 0xc1]),
        F::Rdrand => Code(&[0x0f, 0xc7, 0xf0]),
        F::Hypervisor => Elsewhere("msrs::hypervisor_tells_time_number_and_frequencies"),
        F::Arat => Elsewhere("lapic: the timer knows no HLT"),
        F::Fsgsbase => Control(cr4::FSGSBASE),
        F::TscAdjust => Register(0x3b),
        F::Bmi1 => Code(&[0xc4, 0xe2, 0x78, 0xf2, 0xc1]),
        F::Avx2 => Code(&[0xc5, 0xfd, 0xfe, 0xc0]),
        F::Smep => Control(cr4::SMEP),
        F::Bmi2 => Code(&[0xc4, 0xe2, 0xf9, 0xf7, 0xc1]),
        F::Erms | F::Fsrm => Elsewhere("flow: REP MOVSB in one copy a page"),
        F::Invpcid => Code(&[0x66, 0x0f, 0x38, 0x82, 0x03]),
        F::Rdseed => Code(&[0x0f, 0xc7, 0xf8]),
        F::Adx => Code(&[0x66, 0x0f, 0x38, 0xf6, 0xc1]),
        F::Smap => Code(&[0x0f, 0x01, 0xcb]),
        F::Clflushopt => Code(&[0x66, 0x0f, 0xae, 0x3b]),
        F::Clwb => Code(&[0x66, 0x0f, 0xae, 0x33]),
        F::Sha => Code(&[0x0f, 0x38, 0xc8, 0xc1]),
        F::Umip => Control(cr4::UMIP),
        F::Pku => Control(cr4::PKE),
        F::Rdpid => Code(&[0xf3, 0x0f, 0xc7, 0xf8]),
        F::Pks => Control(cr4::PKS),
        F::Xsaveopt => Code(&[0x0f, 0xae, 0x33]),
        F::Xsavec => Code(&[0x0f, 0xc7, 0x23]),
        F::Xgetbv1 => Seen(has_xgetbv1),
        F::Xsaves => Code(&[0x0f, 0xc7, 0x2b]),
        F::LahfLm => Code(&[0x9f]),
        F::Lzcnt => Seen(has_lzcnt),
        F::Prefetchw => Elsewhere("decoder: a hint on any model"),
        F::Syscall => Seen(has_syscall),
        F::Nx => Seen(has_nx),
        F::Pdpe1gb => Seen(has_huge_pages),
        F::Rdtscp => Code(&[0x0f, 0x01, 0xf9]),
        F::Lm => Code(&[0x48, 0x89, 0xc0]),
        F::InvariantTsc => Elsewhere("machine: the counter is virtual time"),
    }
}

/// In 64-bit mode at CPL 0 with what instructions need: AVX state enabled where there is any.
fn guest(model: &'static Model) -> Guest {
    let mut g = Guest::with(Mode::Long, CpuConfig { strict_msr: true, ..CpuConfig::of(model) });
    // Supervisor pages: SMEP is among the bits that are tried.
    (0..512).for_each(|n| g.write64(PAGE_TABLE + 8 * n, n << 12 | 3));
    if model.features.has(Feature::Xsave) {
        g.st().cr4 |= cr4::OSXSAVE;
        g.st().xcr0 = if model.features.has(Feature::Avx) { 7 } else { 3 };
    }
    for n in [reg::RAX, reg::RCX, reg::RDX] {
        g.st().set_gpr(n, 0);
    }
    g.st().set_gpr(reg::RBX, AT);
    g
}

fn vector(end: End) -> Option<u8> {
    match end {
        End::Halt => None,
        End::Trap(t) => Some(t.vector),
        End::Exit(exit) => panic!("{exit:?}"),
    }
}

/// Runs the proof: the exception that came, and the one that comes where the feature is missing.
fn outcome(g: &mut Guest, proof: Proof) -> Option<(Option<u8>, u8)> {
    Some(match proof {
        Code(code) => (vector(g.run(code)), 6),
        Control(bits) => {
            let value = (g.st().cr4 | bits) as u32;
            (vector(g.run(&[&mov(0, value)[..], &[0x0f, 0x22, 0xe0]].concat())), 13)
        }
        Register(n) => (vector(g.run(&[&mov(1, n)[..], &[0x0f, 0x32]].concat())), 13),
        Seen(there) => (if there(g) { None } else { Some(0) }, 0),
        Elsewhere(place) => {
            assert!(!place.is_empty());
            return None;
        }
    })
}

#[test]
fn features_work_in_the_models_that_have_them_and_only_there() {
    let mut wrong = Vec::new();
    for model in MODELS {
        for feature in Feature::ALL {
            let Some((got, missing)) = outcome(&mut guest(model), proof(*feature)) else { continue };
            let expected = if model.features.has(*feature) { None } else { Some(missing) };
            if got != expected {
                wrong.push(format!("{} {feature:?}: {got:?} instead of {expected:?}", model.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn cpuid_shows_the_features_and_nothing_else() {
    // What no feature of the table stands for: APIC enabled is there, OSXSAVE and OSPKE follow CR4.
    for model in MODELS {
        for feature in Feature::ALL {
            let place = feature.place();
            let mut g = guest(model);
            g.fine(&[&mov(0, place.leaf)[..], &mov(1, place.subleaf), &[0x0f, 0xa2]].concat());
            let value = g.gpr(match place.register {
                aero_x86::features::Register::Eax => reg::RAX,
                aero_x86::features::Register::Ebx => reg::RBX,
                aero_x86::features::Register::Ecx => reg::RCX,
                aero_x86::features::Register::Edx => reg::RDX,
            });
            assert_eq!(
                value >> place.bit & 1 != 0,
                model.features.has(*feature),
                "{} {feature:?}",
                model.name
            );
        }
    }
}

fn has_x2apic(g: &mut Guest) -> bool {
    let code = [&mov(1, 0x1b)[..], &mov(0, 0xfee0_0d00), &mov(2, 0), &[0x0f, 0x30]].concat();
    g.run(&code) == End::Halt && g.cpu.core.lapic.is_x2apic()
}

fn has_xgetbv1(g: &mut Guest) -> bool {
    g.run(&[&mov(1, 1)[..], &[0x0f, 0x01, 0xd0]].concat()) == End::Halt
}

/// LZCNT counts zeros; without it the same bytes are BSR.
fn has_lzcnt(g: &mut Guest) -> bool {
    g.fine(&[&mov(1, 1)[..], &[0xf3, 0x0f, 0xbd, 0xc1]].concat());
    g.gpr(reg::RAX) == 31
}

fn has_syscall(g: &mut Guest) -> bool {
    g.write(AT, &[0xf4]);
    g.st().msr.lstar = AT;
    g.st().msr.star = u64::from(CS0) << 32;
    g.run(&[0x0f, 0x05]) == End::Halt && g.st().rip == AT + 1
}

fn has_nx(g: &mut Guest) -> bool {
    let value = (efer::SCE | efer::LME | efer::NXE) as u32;
    let set = [&mov(1, 0xc000_0080)[..], &mov(0, value), &mov(2, 0), &[0x0f, 0x30]].concat();
    g.set_pte(AT, AT | 7 | 1 << 63);
    g.run(&[set, jump(AT)].concat());
    g.st().cr2 == AT
}

fn has_huge_pages(g: &mut Guest) -> bool {
    g.write64(TABLES + 0x1000 + 8, 0x87);
    g.run(&load_eax(0x4000_0000 + AT)) == End::Halt
}
