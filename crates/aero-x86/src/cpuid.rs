//! CPUID as data.
//!
//! A model is a table of leaves; what depends on the running machine (APIC id, OSXSAVE) is patched in by the processor.
//! A feature bit stands here only when the interpreter implements it. (Intel SDM vol. 2A, CPUID.)

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

/// CPUID.1:EDX.
pub mod leaf1_edx {
    /// x87 on chip.
    pub const FPU: u32 = 1 << 0;
    /// Virtual-8086 mode enhancements.
    pub const VME: u32 = 1 << 1;
    /// Debugging extensions.
    pub const DE: u32 = 1 << 2;
    /// 4 MiB pages.
    pub const PSE: u32 = 1 << 3;
    /// RDTSC.
    pub const TSC: u32 = 1 << 4;
    /// RDMSR, WRMSR.
    pub const MSR: u32 = 1 << 5;
    /// Physical address extension.
    pub const PAE: u32 = 1 << 6;
    /// Machine-check exception.
    pub const MCE: u32 = 1 << 7;
    /// CMPXCHG8B.
    pub const CX8: u32 = 1 << 8;
    /// Local APIC.
    pub const APIC: u32 = 1 << 9;
    /// SYSENTER, SYSEXIT.
    pub const SEP: u32 = 1 << 11;
    /// Memory type range registers.
    pub const MTRR: u32 = 1 << 12;
    /// Global pages.
    pub const PGE: u32 = 1 << 13;
    /// Machine-check architecture.
    pub const MCA: u32 = 1 << 14;
    /// CMOVcc.
    pub const CMOV: u32 = 1 << 15;
    /// Page attribute table.
    pub const PAT: u32 = 1 << 16;
    /// 36-bit 4 MiB pages.
    pub const PSE36: u32 = 1 << 17;
    /// CLFLUSH.
    pub const CLFSH: u32 = 1 << 19;
    /// MMX.
    pub const MMX: u32 = 1 << 23;
    /// FXSAVE, FXRSTOR.
    pub const FXSR: u32 = 1 << 24;
    /// SSE.
    pub const SSE: u32 = 1 << 25;
    /// SSE2.
    pub const SSE2: u32 = 1 << 26;
}

use leaf1_edx::*;

const FEATURES_1_EDX: u32 = FPU
    | DE
    | PSE
    | TSC
    | MSR
    | PAE
    | MCE
    | CX8
    | APIC
    | SEP
    | MTRR
    | PGE
    | MCA
    | CMOV
    | PAT
    | PSE36
    | CLFSH
    | MMX
    | FXSR
    | SSE
    | SSE2;

/// SSE3 0, MONITOR clear, CX16 13, POPCNT 23.
const FEATURES_1_ECX: u32 = 1 << 0 | 1 << 13 | 1 << 23;

/// SYSCALL 11, NX 20, 1 GiB pages 26, RDTSCP 27, long mode 29.
const FEATURES_8000_0001_EDX: u32 = 1 << 11 | 1 << 20 | 1 << 26 | 1 << 27 | 1 << 29;

/// LAHF in 64-bit mode 0, PREFETCHW 8.
const FEATURES_8000_0001_ECX: u32 = 1 << 0 | 1 << 8;

/// Width of physical addresses in bits; page-table entries with higher bits set fault as reserved.
pub const PHYSICAL_BITS: u32 = 36;

const BRAND: &[u8; 48] = b"Aero x86-64 virtual processor\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// The `win7` model: what `win7-platform-contract` §1.2 asks for, as far as this processor implements it.
/// Family 6, model 0x2A: the 6.1 kernel neither expects last-branch MSRs nor perfmon of it.
pub fn win7(leaf: u32, subleaf: u32, apic_id: u8) -> Leaf {
    match leaf {
        0 => vendor(0x0b),
        1 => Leaf {
            eax: 0x0002_06a7,
            ebx: u32::from(apic_id) << 24 | 1 << 16 | 8 << 8,
            ecx: FEATURES_1_ECX,
            edx: FEATURES_1_EDX,
        },
        // Descriptor byte FFh: no descriptors here, see leaf 4.
        2 => Leaf { eax: 0x00ff_ff01, ..Leaf::default() },
        4 => cache(subleaf),
        // Always-running APIC timer.
        6 => Leaf { eax: 1 << 2, ..Leaf::default() },
        // ERMS: C libraries then copy with REP MOVSB, which is one bulk copy a page here.
        7 if subleaf == 0 => Leaf { ebx: 1 << 9, ..Leaf::default() },
        0x0b => topology(subleaf, apic_id),
        0x8000_0000 => Leaf { eax: 0x8000_0008, ..Leaf::default() },
        0x8000_0001 => Leaf { ecx: FEATURES_8000_0001_ECX, edx: FEATURES_8000_0001_EDX, ..Leaf::default() },
        0x8000_0002..=0x8000_0004 => brand(leaf - 0x8000_0002),
        0x8000_0006 => Leaf { ecx: 0x0100_6040, ..Leaf::default() },
        // Invariant TSC.
        0x8000_0007 => Leaf { edx: 1 << 8, ..Leaf::default() },
        0x8000_0008 => Leaf { eax: 48 << 8 | PHYSICAL_BITS, ..Leaf::default() },
        // Intel processors answer leaves beyond the last basic one with the last basic leaf's data; zeros are
        // what every guest that checks the maximum first can tell apart from nothing.
        _ => Leaf::default(),
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

/// One thread, one core.
fn topology(subleaf: u32, apic_id: u8) -> Leaf {
    let kind = match subleaf {
        0 => 1,
        1 => 2,
        _ => return Leaf { ecx: subleaf, edx: apic_id.into(), ..Leaf::default() },
    };
    Leaf { eax: 0, ebx: 1, ecx: kind << 8 | subleaf, edx: apic_id.into() }
}

fn brand(part: u32) -> Leaf {
    let word = |i: u32| {
        let at = (part * 16 + i * 4) as usize;
        u32::from_le_bytes([BRAND[at], BRAND[at + 1], BRAND[at + 2], BRAND[at + 3]])
    };
    Leaf { eax: word(0), ebx: word(1), ecx: word(2), edx: word(3) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendor_reads_genuine_intel() {
        let l = win7(0, 0, 0);
        let text: Vec<u8> = [l.ebx, l.edx, l.ecx].into_iter().flat_map(u32::to_le_bytes).collect();
        assert_eq!(text, b"GenuineIntel");
    }

    #[test]
    fn cache_leaves_end_with_type_zero_and_l3_has_8_mib() {
        let l3 = win7(4, 3, 0);
        assert_eq!(((l3.ebx >> 22) + 1) * ((l3.ebx & 0xfff) + 1) * (l3.ecx + 1), 8 << 20);
        assert_eq!(win7(4, 4, 0).eax & 31, 0);
    }

    #[test]
    fn perfmon_is_not_advertised() {
        assert_eq!(win7(0x0a, 0, 0), Leaf::default());
    }
}
