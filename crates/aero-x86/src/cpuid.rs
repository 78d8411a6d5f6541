//! CPUID as data.
//!
//! A [`Model`] is a few numbers and a set of features; [`Model::leaf`] makes what CPUID returns of it, with what depends
//! on the running machine ([`Present`]). A feature stands in a model only when the interpreter implements it.
//! (Intel SDM vol. 2A, CPUID.)

use crate::features::{Feature, Features, Register};

/// The registers that CPUID returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Leaf {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

/// A processor that software can meet.
#[derive(Debug)]
pub struct Model {
    /// Its name on the command line.
    pub name: &'static str,
    /// CPUID.1:EAX: family, model, stepping.
    pub signature: u32,
    /// The last basic leaf.
    pub max_leaf: u32,
    /// What it can do.
    pub features: Features,
    /// The brand string.
    pub brand: &'static str,
}

/// What CPUID reports of the machine and its present state rather than of the model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Present {
    /// The local APIC's id.
    pub apic_id: u8,
    /// Logical processors.
    pub processors: u8,
    /// IA32_APIC_BASE.EN: CPUID hides an APIC that is switched off.
    pub apic_enabled: bool,
    /// The hypervisor interface is there.
    pub hypervisor: bool,
    /// CR4.OSXSAVE.
    pub osxsave: bool,
    /// CR4.PKE.
    pub ospke: bool,
    /// XCR0.
    pub xcr0: u64,
    /// IA32_XSS.
    pub xss: u64,
}

/// The state components of XSAVE: CPUID leaf 0Dh, and what XSAVE itself goes by (Intel SDM vol. 1, 13.2 to 13.5).
pub mod xstate {
    use super::{Feature, Features, Leaf, Present};

    /// x87.
    pub const X87: u64 = 1 << 0;
    /// XMM registers and MXCSR.
    pub const SSE: u64 = 1 << 1;
    /// The upper halves of YMM registers.
    pub const AVX: u64 = 1 << 2;
    /// Protection-key rights of user pages.
    pub const PKRU: u64 = 1 << 9;
    /// The legacy region and the header.
    const BASE_LEN: u32 = 576;

    /// What lies behind the header: bit, feature, offset in the standard format, bytes. In the order of bits, which
    /// is that of the compacted format.
    const EXTENDED: [(u64, Feature, u32, u32); 2] =
        [(AVX, Feature::Avx, 576, 256), (PKRU, Feature::Pku, 2688, 8)];

    /// The bits that XCR0 may have.
    pub fn supported(features: Features) -> u64 {
        let more = EXTENDED.iter().filter(|(_, feature, ..)| features.has(*feature));
        more.fold(X87 | SSE, |all, (bit, ..)| all | bit)
    }

    /// Bytes of a component behind the header.
    pub fn size(component: u64) -> u32 {
        EXTENDED.iter().find(|e| e.0 == component).map_or(0, |e| e.3)
    }

    /// Where it is in the standard format.
    pub fn standard_offset(component: u64) -> u32 {
        EXTENDED.iter().find(|e| e.0 == component).map_or(0, |e| e.2)
    }

    /// Where it is in the compacted format, with these other components. None asks for alignment.
    pub fn compacted_offset(component: u64, present: u64) -> u32 {
        let before = EXTENDED.iter().filter(|e| e.0 < component && present & e.0 != 0);
        BASE_LEN + before.map(|e| e.3).sum::<u32>()
    }

    /// Bytes that the standard format takes.
    fn standard_len(components: u64) -> u32 {
        let ends = EXTENDED.iter().filter(|e| components & e.0 != 0).map(|e| e.2 + e.3);
        ends.max().unwrap_or(BASE_LEN)
    }

    /// CPUID leaf 0Dh without the feature bits of subleaf 1. No model has supervisor components.
    pub(super) fn leaf(features: Features, subleaf: u32, now: &Present) -> Leaf {
        let all = supported(features);
        match subleaf {
            0 => Leaf {
                eax: all as u32,
                ebx: standard_len(now.xcr0),
                ecx: standard_len(all),
                edx: (all >> 32) as u32,
            },
            1 if features.has(Feature::Xsavec) => {
                Leaf { ebx: compacted_offset(1 << 63, now.xcr0 | now.xss), ..Leaf::default() }
            }
            n => match EXTENDED.iter().find(|e| all & e.0 != 0 && 1_u64.checked_shl(n) == Some(e.0)) {
                Some((_, _, offset, len)) => Leaf { eax: *len, ebx: *offset, ..Leaf::default() },
                None => Leaf::default(),
            },
        }
    }
}

const BASE: Features = {
    use Feature::*;
    Features::of(&[
        Fpu,
        Vme,
        De,
        Pse,
        Tsc,
        Msr,
        Pae,
        Mce,
        Cx8,
        Apic,
        Sep,
        Mtrr,
        Pge,
        Mca,
        Cmov,
        Pat,
        Pse36,
        Clfsh,
        Mmx,
        Fxsr,
        Sse,
        Sse2,
        Sse3,
        Cx16,
        LahfLm,
        Prefetchw,
        Syscall,
        Nx,
        Lm,
        Arat,
        InvariantTsc,
    ])
};

/// What `win7-platform-contract` §1.2 asks for. Family 6, model 0x2A: the 6.1 kernel neither expects last-branch MSRs
/// nor perfmon of it. ERMS makes C libraries copy with REP MOVSB, which is one bulk copy a page here.
pub const WIN7: Model = Model {
    name: "win7",
    signature: 0x0002_06a7,
    max_leaf: 0x0b,
    features: BASE.and(Features::of(&[
        Feature::Ssse3,
        Feature::Sse41,
        Feature::Sse42,
        Feature::Popcnt,
        Feature::Pdpe1gb,
        Feature::Rdtscp,
        Feature::Erms,
    ])),
    brand: "Aero x86-64 virtual processor",
};

/// A processor of 2006.
pub const CORE2: Model = Model {
    name: "core2",
    signature: 0x0000_06fb,
    max_leaf: 0x0a,
    features: BASE.and(Features::of(&[Feature::Ssse3])),
    brand: "Aero x86-64 virtual processor (Core 2 class)",
};

/// All that this processor implements. The signature is Ice Lake's: of several earlier ones Linux believes that their
/// TSC deadline needs a newer microcode than we claim.
pub const MAX: Model = Model {
    name: "max",
    signature: 0x0006_06a6,
    max_leaf: 0x0d,
    features: Features::of(Feature::ALL).without(Features::of(&[Feature::Hypervisor])),
    brand: "Aero x86-64 virtual processor (everything)",
};

/// Every model.
pub const MODELS: [&Model; 3] = [&WIN7, &CORE2, &MAX];

/// Width of physical addresses in bits; page-table entries with higher bits set fault as reserved.
pub const PHYSICAL_BITS: u32 = 36;

impl Model {
    /// What CPUID returns.
    pub fn leaf(&self, leaf: u32, subleaf: u32, now: &Present) -> Leaf {
        let mut l = self.facts(leaf, subleaf, now);
        for feature in Feature::ALL {
            let place = feature.place();
            let has = self.features.has(*feature) || now.hypervisor && *feature == Feature::Hypervisor;
            if has && (place.leaf, place.subleaf) == (leaf, subleaf_of(leaf, subleaf)) {
                *l.register(place.register) |= 1 << place.bit;
            }
        }
        if leaf == 1 && !now.apic_enabled {
            l.edx &= !(1 << Feature::Apic.place().bit);
        }
        l
    }

    /// All but the features.
    fn facts(&self, leaf: u32, subleaf: u32, now: &Present) -> Leaf {
        if let (true, 0x4000_0000..=0x4000_00ff) = (now.hypervisor, leaf) {
            return hypervisor(leaf, now);
        }
        if leaf < 0x8000_0000 && leaf > self.max_leaf {
            // Intel processors answer leaves beyond the last basic one with the last basic leaf's data; zeros are
            // what every guest that checks the maximum first can tell apart from nothing.
            return Leaf::default();
        }
        match leaf {
            0 => vendor(self.max_leaf),
            1 => Leaf {
                eax: self.signature,
                ebx: u32::from(now.apic_id) << 24 | 1 << 16 | 8 << 8,
                ecx: u32::from(now.osxsave) << 27,
                edx: 0,
            },
            // Descriptor byte FFh: no descriptors here, see leaf 4.
            2 => Leaf { eax: 0x00ff_ff01, ..Leaf::default() },
            4 => cache(subleaf),
            // The line that MONITOR watches, and no extensions.
            5 if self.features.has(Feature::Monitor) => Leaf { eax: 64, ebx: 64, ..Leaf::default() },
            7 if subleaf == 0 => Leaf { ecx: u32::from(now.ospke) << 4, ..Leaf::default() },
            0x0d if self.features.has(Feature::Xsave) => xstate::leaf(self.features, subleaf, now),
            0x0b => topology(subleaf, now.apic_id),
            0x8000_0000 => Leaf { eax: 0x8000_0008, ..Leaf::default() },
            0x8000_0002..=0x8000_0004 => brand(self.brand, leaf - 0x8000_0002),
            0x8000_0006 => Leaf { ecx: 0x0100_6040, ..Leaf::default() },
            0x8000_0008 => Leaf { eax: 48 << 8 | PHYSICAL_BITS, ..Leaf::default() },
            _ => Leaf::default(),
        }
    }
}

/// Leaves without subleaves ignore ECX.
fn subleaf_of(leaf: u32, subleaf: u32) -> u32 {
    if matches!(leaf, 4 | 7 | 0xb | 0xd) { subleaf } else { 0 }
}

impl Leaf {
    fn register(&mut self, register: Register) -> &mut u32 {
        match register {
            Register::Eax => &mut self.eax,
            Register::Ebx => &mut self.ebx,
            Register::Ecx => &mut self.ecx,
            Register::Edx => &mut self.edx,
        }
    }
}

fn vendor(max: u32) -> Leaf {
    let word = |s: &[u8; 4]| u32::from_le_bytes(*s);
    Leaf { eax: max, ebx: word(b"Genu"), edx: word(b"ineI"), ecx: word(b"ntel") }
}

/// Deterministic cache parameters: 32 KiB L1 each, 256 KiB L2, 8 MiB L3, 64-byte lines.
fn cache(subleaf: u32) -> Leaf {
    let (kind, level, ways, sets) = match subleaf {
        0 => (1, 1, 8, 64),
        1 => (2, 1, 8, 64),
        2 => (3, 2, 8, 512),
        3 => (3, 3, 16, 8192),
        _ => return Leaf::default(),
    };
    Leaf { eax: 1 << 8 | level << 5 | kind, ebx: (ways - 1) << 22 | 63, ecx: sets - 1, edx: 0 }
}

/// What Windows asks a hypervisor (Hypervisor Top Level Functional Specification, 2.4). Leaf 40000082h must be zeros:
/// the 6.1 kernel reads it whatever the maximum says.
fn hypervisor(leaf: u32, now: &Present) -> Leaf {
    /// Registers that may be used: reference counter, local APIC, hypercall page, processor number, reset, reference
    /// page, frequencies.
    const PRIVILEGES: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 9 | 1 << 11;
    /// The frequency registers exist.
    const FREQUENCIES: u32 = 1 << 8;
    /// Worth using: registers for EOI, ICR and TPR; the reset register; no watchdog on clock interrupts.
    const ADVICE: u32 = 1 << 3 | 1 << 4 | 1 << 5;
    let word = |s: &[u8; 4]| u32::from_le_bytes(*s);
    match leaf {
        0x4000_0000 => Leaf { eax: 0x4000_0005, ebx: word(b"Micr"), ecx: word(b"osof"), edx: word(b"t Hv") },
        0x4000_0001 => Leaf { eax: word(b"Hv#1"), ..Leaf::default() },
        // Build 7601 of version 6.1.
        0x4000_0002 => Leaf { eax: 7601, ebx: 6 << 16 | 1, ..Leaf::default() },
        0x4000_0003 => Leaf { eax: PRIVILEGES, edx: FREQUENCIES, ..Leaf::default() },
        0x4000_0004 => Leaf { eax: ADVICE, ebx: u32::MAX, ..Leaf::default() },
        0x4000_0005 => Leaf { eax: now.processors.into(), ebx: now.processors.into(), ..Leaf::default() },
        _ => Leaf::default(),
    }
}

/// One thread, one core.
fn topology(subleaf: u32, apic_id: u8) -> Leaf {
    let kind = match subleaf {
        0 => 1,
        1 => 2,
        _ => return Leaf { ecx: subleaf, edx: apic_id.into(), ..Leaf::default() },
    };
    Leaf { eax: 0, ebx: 1, ecx: kind << 8 | subleaf, edx: apic_id.into() }
}

/// 16 of the brand string's 48 bytes, padded with zeros.
fn brand(text: &str, part: u32) -> Leaf {
    let word = |i: u32| {
        let at = (part * 16 + i * 4) as usize;
        u32::from_le_bytes(core::array::from_fn(|n| text.as_bytes().get(at + n).copied().unwrap_or(0)))
    };
    Leaf { eax: word(0), ebx: word(1), ecx: word(2), edx: word(3) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn win7(leaf: u32, subleaf: u32) -> Leaf {
        WIN7.leaf(leaf, subleaf, &Present { apic_enabled: true, processors: 1, ..Present::default() })
    }

    #[test]
    fn vendor_reads_genuine_intel() {
        let l = win7(0, 0);
        let text: Vec<u8> = [l.ebx, l.edx, l.ecx].into_iter().flat_map(u32::to_le_bytes).collect();
        assert_eq!(text, b"GenuineIntel");
    }

    #[test]
    fn cache_leaves_end_with_type_zero_and_l3_has_8_mib() {
        let l3 = win7(4, 3);
        assert_eq!(((l3.ebx >> 22) + 1) * ((l3.ebx & 0xfff) + 1) * (l3.ecx + 1), 8 << 20);
        assert_eq!(win7(4, 4).eax & 31, 0);
    }

    #[test]
    fn hypervisor_leaves_come_with_the_switch() {
        let on = Present { hypervisor: true, processors: 1, ..Present::default() };
        assert_eq!((WIN7.leaf(1, 0, &on).ecx >> 31, win7(1, 0).ecx >> 31), (1, 0));
        let l = WIN7.leaf(0x4000_0000, 0, &on);
        let text: Vec<u8> = [l.ebx, l.ecx, l.edx].into_iter().flat_map(u32::to_le_bytes).collect();
        assert_eq!((l.eax, &text[..]), (0x4000_0005, &b"Microsoft Hv"[..]));
        assert_eq!(WIN7.leaf(0x4000_0001, 0, &on).eax, 0x3123_7648);
        assert_eq!(WIN7.leaf(0x4000_0082, 0, &on), Leaf::default());
        assert_eq!(win7(0x4000_0000, 0), Leaf::default());
    }

    /// `win7-platform-contract` §1.1: the x64 kernel stops with 5Dh without these.
    #[test]
    fn every_model_has_what_the_6_1_kernel_insists_on() {
        let now = Present { apic_enabled: true, processors: 1, ..Present::default() };
        for model in MODELS {
            assert_eq!(model.leaf(1, 0, &now).edx & 0x0789_f3fd, 0x0789_f3fd, "{}", model.name);
            assert_eq!(model.leaf(0x8000_0001, 0, &now).edx & 0x2010_0800, 0x2010_0800);
            // No debug store, one logical processor.
            assert_eq!(model.leaf(1, 0, &now).edx & (1 << 21 | 1 << 28), 0);
            assert_eq!(model.leaf(6, 0, &now).ecx & 2, 0);
        }
        assert_eq!(win7(1, 0).ecx & (1 << 21 | 1 << 26 | 1 << 28), 0, "no x2APIC, XSAVE, AVX");
        assert_eq!(win7(7, 0).ebx, 1 << 9, "ERMS alone");
    }

    #[test]
    fn state_components_have_sizes_and_places() {
        let leaf = |subleaf, xcr0| MAX.leaf(0x0d, subleaf, &Present { xcr0, ..Present::default() });
        assert_eq!((leaf(0, 1).eax, leaf(0, 1).ebx, leaf(0, 1).ecx), (0x207, 576, 2696));
        assert_eq!((leaf(0, 7).ebx, leaf(0, 0x207).ebx), (832, 2696));
        assert_eq!((leaf(1, 0x201).ebx, leaf(1, 0x207).ebx, leaf(1, 7).eax), (584, 840, 15));
        assert_eq!((leaf(2, 1).eax, leaf(2, 1).ebx), (256, 576));
        assert_eq!((leaf(9, 1).eax, leaf(9, 1).ebx), (8, 2688));
        assert_eq!([leaf(3, 1), leaf(64, 1), win7(0x0d, 0)], [Leaf::default(); 3]);
    }

    /// The words of the loop over `/proc/cpuinfo` in a guest test that reports with `verb`.
    fn words<'a>(test: &'a str, verb: &str) -> Vec<&'a str> {
        let line = test.lines().find(|l| l.contains(&format!("echo cpuinfo {verb} $f"))).unwrap();
        line.split_once("for f in ").unwrap().1.split_once(';').unwrap().0.split(' ').collect()
    }

    /// The guest tests ask Linux for all features of the model that they run on, and see that it shows no others.
    #[test]
    fn guest_tests_ask_for_the_features_of_the_table() {
        // PKU, once Linux has switched it on, is also this.
        const LINUX: [&str; 1] = ["ospke"];
        for (model, test) in [
            (&MAX, include_str!("../../../guests/amd64/test.toml")),
            (&WIN7, include_str!("../../../guests/pae/test.toml")),
            (&CORE2, include_str!("../../../guests/i386/test.toml")),
        ] {
            assert!(test.contains(&format!("cpu = \"{}\"", model.name)), "{}", model.name);
            let mut table: Vec<&str> = Feature::ALL
                .iter()
                .filter(|f| model.features.has(**f))
                .flat_map(|f| f.name().split_whitespace())
                .collect();
            let mut asked = words(test, "lacks");
            asked.retain(|w| !LINUX.contains(w));
            asked.sort_unstable();
            table.sort_unstable();
            assert_eq!(asked, table, "{}", model.name);
            assert!(words(test, "shows").iter().all(|w| !table.contains(w)), "{}", model.name);
        }
    }

    #[test]
    fn perfmon_is_not_advertised() {
        assert_eq!(win7(0x0a, 0), Leaf::default());
    }
}
