//! The differences that are allowed: where this host and the models may disagree, each with its reason and the manual's
//! section. Everything else is a failure.

use super::compare::{Difference, Field};
use iced_x86::{Instruction, Mnemonic};

/// What a rule allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allowance {
    /// Flags that the manual calls undefined.
    UndefinedFlags,
    /// Any value.
    Anything,
    /// The relative error of both against the exact value is below 1.5 * 2^-12, lane by lane of singles.
    Approximation,
    /// One unit in the last place of an extended real.
    LastPlace,
    /// Zero on the host.
    HostZero,
}

/// A rule.
pub struct Rule {
    /// A short name.
    pub name: &'static str,
    /// The instructions; none means all.
    pub mnemonics: &'static [Mnemonic],
    /// The fields.
    pub fields: fn(Field) -> bool,
    /// What is allowed there.
    pub allows: Allowance,
    /// Why.
    pub reason: &'static str,
    /// The manual's section.
    pub section: &'static str,
}

use Mnemonic as M;

/// The list.
pub const RULES: &[Rule] = &[
    Rule {
        name: "undefined-flags",
        mnemonics: &[],
        fields: |f| f == Field::Flags,
        allows: Allowance::UndefinedFlags,
        reason: "the manual leaves these flags undefined",
        section: "SDM vol. 1, appendix A",
    },
    Rule {
        name: "cpuid",
        mnemonics: &[M::Cpuid],
        fields: |f| matches!(f, Field::Gpr(0..=3)),
        allows: Allowance::Anything,
        reason: "describes the processor",
        section: "SDM vol. 2A, CPUID",
    },
    Rule {
        name: "time",
        mnemonics: &[M::Rdtsc, M::Rdtscp],
        fields: |f| matches!(f, Field::Gpr(0..=2)),
        allows: Allowance::Anything,
        reason: "reads the time, RDTSCP also the number of the host's processor",
        section: "SDM vol. 2B, RDTSC, RDTSCP",
    },
    Rule {
        name: "random",
        mnemonics: &[M::Rdrand, M::Rdseed],
        fields: |f| matches!(f, Field::Gpr(_) | Field::Flags),
        allows: Allowance::Anything,
        reason: "random numbers, which may run out",
        section: "SDM vol. 2B, RDRAND, RDSEED",
    },
    Rule {
        name: "processor-number",
        mnemonics: &[M::Rdpid],
        fields: |f| matches!(f, Field::Gpr(_)),
        allows: Allowance::Anything,
        reason: "the host's kernel chooses it",
        section: "SDM vol. 2B, RDPID",
    },
    Rule {
        name: "xcr0",
        mnemonics: &[M::Xgetbv],
        fields: |f| matches!(f, Field::Gpr(0 | 2)),
        allows: Allowance::Anything,
        reason: "the host has more state components",
        section: "SDM vol. 2D, XGETBV",
    },
    Rule {
        name: "approximations",
        mnemonics: &[
            M::Rcpps,
            M::Rcpss,
            M::Rsqrtps,
            M::Rsqrtss,
            M::Vrcpps,
            M::Vrcpss,
            M::Vrsqrtps,
            M::Vrsqrtss,
        ],
        fields: |f| matches!(f, Field::Xmm(_) | Field::Ymm(_)),
        allows: Allowance::Approximation,
        reason: "every maker has tables of its own; the relative error is bounded",
        section: "SDM vol. 2B, RCPPS, RSQRTPS",
    },
    Rule {
        name: "transcendental",
        mnemonics: &[M::Fsin, M::Fcos, M::Fsincos, M::Fptan, M::Fpatan, M::F2xm1, M::Fyl2x, M::Fyl2xp1],
        fields: |f| matches!(f, Field::St(_)),
        allows: Allowance::LastPlace,
        reason: "within one unit in the last place of the exact value",
        section: "SDM vol. 1, 8.3.10",
    },
    Rule {
        name: "x87-pointers",
        mnemonics: &[],
        fields: |f| matches!(f, Field::Fop | Field::Fip | Field::Fdp),
        allows: Allowance::HostZero,
        reason: "AMD's XSAVE and XRSTOR pass the pointers on only while an unmasked exception is pending",
        section: "SDM vol. 1, 8.1.8; AMD APM vol. 2, 11.5",
    },
];

/// The rule that allows `difference` of `insn`.
pub fn allows(insn: &Instruction, difference: &Difference) -> Option<&'static Rule> {
    RULES.iter().find(|rule| {
        (rule.mnemonics.is_empty() || rule.mnemonics.contains(&insn.mnemonic()))
            && (rule.fields)(difference.field)
            && rule.allows.covers(insn, difference)
    })
}

impl Allowance {
    fn covers(self, insn: &Instruction, d: &Difference) -> bool {
        match self {
            Self::UndefinedFlags => (d.native ^ d.ours) & !u128::from(undefined_flags(insn)) == 0,
            Self::Anything => true,
            Self::Approximation => (0..4).all(|lane| near(single(d.native, lane), single(d.ours, lane))),
            Self::LastPlace => d.native.abs_diff(d.ours) <= 1,
            Self::HostZero => d.native == 0,
        }
    }
}

fn single(vector: u128, lane: u32) -> f32 {
    f32::from_bits((vector >> (32 * lane)) as u32)
}

/// Two approximations of one value may lie twice the bound apart.
fn near(a: f32, b: f32) -> bool {
    const BOUND: f64 = 1.5 / 4096.0;
    let (x, y) = (f64::from(a), f64::from(b));
    a.to_bits() == b.to_bits() || (x - y).abs() <= 2.0 * BOUND * x.abs().max(y.abs())
}

/// The EFLAGS bits that `insn` leaves undefined.
fn undefined_flags(insn: &Instruction) -> u64 {
    use iced_x86::RflagsBits as R;
    const BITS: [(u32, u64); 6] =
        [(R::CF, 1), (R::PF, 4), (R::AF, 0x10), (R::ZF, 0x40), (R::SF, 0x80), (R::OF, 0x800)];
    let undefined = insn.rflags_undefined();
    BITS.iter().filter(|(r, _)| undefined & r != 0).fold(0, |bits, (_, bit)| bits | bit)
}
