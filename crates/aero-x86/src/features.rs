//! Processor features: what software can ask CPUID for, and what the instruction set depends on.
//!
//! One table names each feature, the name that Linux prints for it, and the CPUID bit that shows it. A model
//! ([`crate::cpuid::Model`]) is a set of them; the decoder turns instructions away whose features a model lacks, and the
//! processor asks [`Features::has`] where control bits and MSRs depend on one. (Intel SDM vol. 2A, CPUID.)

use iced_x86::CpuidFeature;

/// A register that CPUID returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Register {
    /// EAX.
    Eax,
    /// EBX.
    Ebx,
    /// ECX.
    Ecx,
    /// EDX.
    Edx,
}

/// The CPUID bit of a feature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// EAX.
    pub leaf: u32,
    /// ECX.
    pub subleaf: u32,
    /// Which register.
    pub register: Register,
    /// Which bit of it.
    pub bit: u32,
}

macro_rules! features {
    ($($name:ident $text:literal $leaf:literal $subleaf:literal $register:ident $bit:literal;)*) => {
        /// A feature with a CPUID bit.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "the names are the manual's; the table gives the bits")]
        pub enum Feature { $($name),* }

        impl Feature {
            /// Every feature.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The name in Linux's `/proc/cpuinfo`; empty where Linux prints none.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// Where CPUID shows it.
            pub fn place(self) -> Place {
                match self {
                    $(Self::$name => Place {
                        leaf: $leaf, subleaf: $subleaf, register: Register::$register, bit: $bit,
                    }),*
                }
            }
        }
    };
}

features! {
    Fpu "fpu" 1 0 Edx 0;
    Vme "vme" 1 0 Edx 1;
    De "de" 1 0 Edx 2;
    Pse "pse" 1 0 Edx 3;
    Tsc "tsc" 1 0 Edx 4;
    Msr "msr" 1 0 Edx 5;
    Pae "pae" 1 0 Edx 6;
    Mce "mce" 1 0 Edx 7;
    Cx8 "cx8" 1 0 Edx 8;
    Apic "apic" 1 0 Edx 9;
    Sep "sep" 1 0 Edx 11;
    Mtrr "mtrr" 1 0 Edx 12;
    Pge "pge" 1 0 Edx 13;
    Mca "mca" 1 0 Edx 14;
    Cmov "cmov" 1 0 Edx 15;
    Pat "pat" 1 0 Edx 16;
    Pse36 "pse36" 1 0 Edx 17;
    Clfsh "clflush" 1 0 Edx 19;
    Mmx "mmx" 1 0 Edx 23;
    Fxsr "fxsr" 1 0 Edx 24;
    Sse "sse" 1 0 Edx 25;
    Sse2 "sse2" 1 0 Edx 26;
    Sse3 "pni" 1 0 Ecx 0;
    Pclmulqdq "pclmulqdq" 1 0 Ecx 1;
    Monitor "monitor" 1 0 Ecx 3;
    Ssse3 "ssse3" 1 0 Ecx 9;
    Fma "fma" 1 0 Ecx 12;
    Cx16 "cx16" 1 0 Ecx 13;
    Pcid "pcid" 1 0 Ecx 17;
    Sse41 "sse4_1" 1 0 Ecx 19;
    Sse42 "sse4_2" 1 0 Ecx 20;
    X2apic "x2apic" 1 0 Ecx 21;
    Movbe "movbe" 1 0 Ecx 22;
    Popcnt "popcnt" 1 0 Ecx 23;
    TscDeadline "tsc_deadline_timer" 1 0 Ecx 24;
    Aes "aes" 1 0 Ecx 25;
    Xsave "xsave" 1 0 Ecx 26;
    Avx "avx" 1 0 Ecx 28;
    F16c "f16c" 1 0 Ecx 29;
    Rdrand "rdrand" 1 0 Ecx 30;
    Hypervisor "hypervisor" 1 0 Ecx 31;
    Arat "arat" 6 0 Eax 2;
    Fsgsbase "fsgsbase" 7 0 Ebx 0;
    TscAdjust "tsc_adjust" 7 0 Ebx 1;
    Bmi1 "bmi1" 7 0 Ebx 3;
    Avx2 "avx2" 7 0 Ebx 5;
    Smep "smep" 7 0 Ebx 7;
    Bmi2 "bmi2" 7 0 Ebx 8;
    Erms "erms" 7 0 Ebx 9;
    Invpcid "invpcid" 7 0 Ebx 10;
    Rdseed "rdseed" 7 0 Ebx 18;
    Adx "adx" 7 0 Ebx 19;
    Smap "smap" 7 0 Ebx 20;
    Clflushopt "clflushopt" 7 0 Ebx 23;
    Clwb "clwb" 7 0 Ebx 24;
    Sha "sha_ni" 7 0 Ebx 29;
    Umip "umip" 7 0 Ecx 2;
    Pku "pku" 7 0 Ecx 3;
    Rdpid "rdpid" 7 0 Ecx 22;
    Pks "" 7 0 Ecx 31;
    Fsrm "fsrm" 7 0 Edx 4;
    Xsaveopt "xsaveopt" 0xd 1 Eax 0;
    Xsavec "xsavec" 0xd 1 Eax 1;
    Xgetbv1 "xgetbv1" 0xd 1 Eax 2;
    Xsaves "xsaves" 0xd 1 Eax 3;
    LahfLm "lahf_lm" 0x8000_0001 0 Ecx 0;
    Lzcnt "abm" 0x8000_0001 0 Ecx 5;
    Prefetchw "3dnowprefetch" 0x8000_0001 0 Ecx 8;
    Syscall "syscall" 0x8000_0001 0 Edx 11;
    Nx "nx" 0x8000_0001 0 Edx 20;
    Pdpe1gb "pdpe1gb" 0x8000_0001 0 Edx 26;
    Rdtscp "rdtscp" 0x8000_0001 0 Edx 27;
    Lm "lm" 0x8000_0001 0 Edx 29;
    InvariantTsc "constant_tsc nonstop_tsc" 0x8000_0007 0 Edx 8;
}

/// A set of features.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Features(u128);

/// Stands in what an instruction requires for a feature that no model has.
const NEVER: u128 = 1 << 127;

const _: () = assert!(Feature::ALL.len() < 127);

impl Features {
    /// The set of `list`.
    pub const fn of(list: &[Feature]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < list.len() {
            bits |= 1 << list[i] as u8;
            i += 1;
        }
        Self(bits)
    }

    /// Both sets' features.
    pub const fn and(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    /// This set's features that are not in `less`.
    pub const fn without(self, less: Self) -> Self {
        Self(self.0 & !less.0)
    }

    /// Whether `feature` is in the set.
    #[inline(always)]
    pub const fn has(self, feature: Feature) -> bool {
        self.0 >> feature as u8 & 1 != 0
    }

    /// Whether all of `needed` are in the set.
    pub const fn has_all(self, needed: Self) -> bool {
        needed.0 & !self.0 == 0
    }

    /// What the decoder's feature list asks for. Features that every 64-bit processor has ask for nothing.
    pub fn required(list: &[CpuidFeature]) -> Self {
        Self(list.iter().fold(0, |bits, f| bits | required(*f)))
    }
}

fn required(feature: CpuidFeature) -> u128 {
    use CpuidFeature as C;
    let bit = |f: Feature| 1u128 << f as u8;
    match feature {
        C::INTEL8086
        | C::INTEL8086_ONLY
        | C::INTEL186
        | C::INTEL286
        | C::INTEL386
        | C::INTEL486
        | C::X64
        | C::CPUID
        | C::MULTIBYTENOP
        | C::PAUSE
        | C::RDPMC
        | C::SMM
        | C::WBNOINVD
        | C::CET_IBT => 0,
        C::FPU | C::FPU287 | C::FPU387 => bit(Feature::Fpu),
        C::TSC => bit(Feature::Tsc),
        C::MSR => bit(Feature::Msr),
        C::CX8 => bit(Feature::Cx8),
        C::SEP => bit(Feature::Sep),
        C::CMOV => bit(Feature::Cmov),
        C::CLFSH => bit(Feature::Clfsh),
        C::MMX => bit(Feature::Mmx),
        C::FXSR => bit(Feature::Fxsr),
        C::SSE => bit(Feature::Sse),
        C::SSE2 => bit(Feature::Sse2),
        C::SSE3 => bit(Feature::Sse3),
        C::PCLMULQDQ => bit(Feature::Pclmulqdq),
        C::MONITOR => bit(Feature::Monitor),
        C::SSSE3 => bit(Feature::Ssse3),
        C::FMA => bit(Feature::Fma),
        C::CMPXCHG16B => bit(Feature::Cx16),
        C::SSE4_1 => bit(Feature::Sse41),
        C::SSE4_2 => bit(Feature::Sse42),
        C::MOVBE => bit(Feature::Movbe),
        C::POPCNT => bit(Feature::Popcnt),
        C::AES => bit(Feature::Aes),
        C::XSAVE => bit(Feature::Xsave),
        C::AVX => bit(Feature::Avx),
        C::F16C => bit(Feature::F16c),
        C::RDRAND => bit(Feature::Rdrand),
        C::FSGSBASE => bit(Feature::Fsgsbase),
        C::BMI1 => bit(Feature::Bmi1),
        C::AVX2 => bit(Feature::Avx2),
        C::BMI2 => bit(Feature::Bmi2),
        C::INVPCID => bit(Feature::Invpcid),
        C::RDSEED => bit(Feature::Rdseed),
        C::ADX => bit(Feature::Adx),
        C::SMAP => bit(Feature::Smap),
        C::CLFLUSHOPT => bit(Feature::Clflushopt),
        C::CLWB => bit(Feature::Clwb),
        C::SHA => bit(Feature::Sha),
        C::PKU => bit(Feature::Pku),
        C::RDPID => bit(Feature::Rdpid),
        C::XSAVEOPT => bit(Feature::Xsaveopt),
        C::XSAVEC => bit(Feature::Xsavec),
        C::XSAVES => bit(Feature::Xsaves),
        C::LZCNT => bit(Feature::Lzcnt),
        C::SYSCALL => bit(Feature::Syscall),
        C::RDTSCP => bit(Feature::Rdtscp),
        _ => NEVER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_features_share_a_bit() {
        for (i, a) in Feature::ALL.iter().enumerate() {
            assert!(Feature::ALL[..i].iter().all(|b| b.place() != a.place()), "{a:?}");
        }
    }
}
