//! The differences that are allowed: where this host and the models may disagree, each with its reason and the manual's
//! section. Everything else is a failure.
//!
//! The host is an AMD processor under a hypervisor, the models are Intel's. A rule names instructions, fields and the
//! circumstances; it never allows a difference in what the manual defines for both makers.

use super::case::{Case, Mode, Outcome, State};
use super::compare::{Difference, Field};
use super::layout::{FS_BASE, GS_BASE};
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

/// A case after it ran on both.
pub struct Ended<'a> {
    /// The case.
    pub case: &'a Case,
    /// Its instruction.
    pub insn: &'a Instruction,
    /// The host's end.
    pub native: (Outcome, &'a State),
    /// Aero's end.
    pub ours: (Outcome, &'a State),
}

/// A rule.
pub struct Rule {
    /// A short name.
    pub name: &'static str,
    /// The instructions; none means all.
    pub mnemonics: &'static [Mnemonic],
    /// What may differ, in words.
    pub what: &'static str,
    /// Whether it covers a difference.
    pub covers: fn(&Ended<'_>, &Difference) -> bool,
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
        what: "flags that the instruction leaves undefined",
        covers: |e, d| d.field == Field::Flags && changed(d) & !u128::from(undefined_flags(e.insn)) == 0,
        reason: "processors differ in what they leave there",
        section: "SDM vol. 1, appendix A",
    },
    Rule {
        name: "double-shift",
        mnemonics: &[M::Shld, M::Shrd],
        what: "destination and flags of 16-bit operands when the count is above 16",
        covers: |e, d| {
            matches!(d.field, Field::Gpr(_) | Field::Memory(_) | Field::Flags)
                && operand_bytes(e.insn) == 2
                && shift_count(e) > 16
        },
        reason: "the manual leaves the result undefined",
        section: "SDM vol. 2B, SHLD, SHRD",
    },
    Rule {
        name: "lar",
        mnemonics: &[M::Lar],
        what: "bits 19:16 of the destination",
        covers: |_, d| matches!(d.field, Field::Gpr(_)) && changed(d) & !0xf_0000 == 0,
        reason: "the manual leaves these bits undefined; AMD delivers the limit's upper bits",
        section: "SDM vol. 2A, LAR",
    },
    Rule {
        name: "cpuid",
        mnemonics: &[M::Cpuid],
        what: "EAX, EBX, ECX, EDX",
        covers: |_, d| matches!(d.field, Field::Gpr(0..=3)),
        reason: "describes the processor",
        section: "SDM vol. 2A, CPUID",
    },
    Rule {
        name: "time",
        mnemonics: &[M::Rdtsc, M::Rdtscp],
        what: "EAX, EDX; ECX of RDTSCP",
        covers: |_, d| matches!(d.field, Field::Gpr(0..=2)),
        reason: "reads the time; the host's kernel chooses the processor's number",
        section: "SDM vol. 2B, RDTSC, RDTSCP",
    },
    Rule {
        name: "random",
        mnemonics: &[M::Rdrand, M::Rdseed],
        what: "the destination, CF",
        covers: |_, d| match d.field {
            Field::Gpr(_) => true,
            Field::Flags => changed(d) & !1 == 0,
            _ => false,
        },
        reason: "random numbers, which may run out",
        section: "SDM vol. 2B, RDRAND, RDSEED",
    },
    Rule {
        name: "processor-number",
        mnemonics: &[M::Rdpid],
        what: "the destination",
        covers: |_, d| matches!(d.field, Field::Gpr(_)),
        reason: "the host's kernel chooses it",
        section: "SDM vol. 2B, RDPID",
    },
    Rule {
        name: "xcr0",
        mnemonics: &[M::Xgetbv],
        what: "EAX, EDX",
        covers: |_, d| matches!(d.field, Field::Gpr(0 | 2)),
        reason: "the host has more state components",
        section: "SDM vol. 2D, XGETBV",
    },
    Rule {
        name: "approximation",
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
        what: "the destination, each single within 1.5 * 2^-12 of the exact value",
        covers: |_, d| {
            matches!(d.field, Field::Xmm(_) | Field::Ymm(_))
                && (0..4).all(|lane| near(single(d.native, lane), single(d.ours, lane)))
        },
        reason: "every maker has tables of its own; the relative error is bounded",
        section: "SDM vol. 2B, RCPPS, RSQRTPS",
    },
    Rule {
        name: "transcendental",
        mnemonics: &[M::Fsin, M::Fcos, M::Fsincos, M::Fptan, M::Fpatan, M::F2xm1, M::Fyl2x, M::Fyl2xp1],
        what: "results by one unit in the last place, and C1, which tells how the result was rounded",
        covers: |_, d| match d.field {
            Field::St(_) => places_apart(d.native, d.ours) <= 1,
            Field::Fsw => changed(d) & !0x200 == 0,
            _ => false,
        },
        reason: "within one unit in the last place of the exact value",
        section: "SDM vol. 1, 8.3.10",
    },
    Rule {
        name: "x87-pointers",
        mnemonics: &[],
        what: "FOP, FIP and FDP where the host shows zeros",
        covers: |_, d| matches!(d.field, Field::Fop | Field::Fip | Field::Fdp) && d.native == 0,
        reason: "AMD's XSAVE and XRSTOR pass the pointers on only while an unmasked exception is pending",
        section: "SDM vol. 1, 8.1.8; AMD64 APM vol. 2, 11.5.10",
    },
    Rule {
        name: "fxsave-image",
        mnemonics: &[
            M::Fxsave,
            M::Fxsave64,
            M::Xsave,
            M::Xsave64,
            M::Xsavec,
            M::Xsavec64,
            M::Xsaveopt,
            M::Xsaveopt64,
        ],
        what: "FOP, FIP, FDP and MXCSR_MASK in the image",
        covers: |e, d| match d.field {
            Field::Memory(at) => image_bytes(e, at, d).all(|n| matches!(n, 6..=23 | 28..=31)),
            _ => false,
        },
        reason: "as above; AMD has one more MXCSR bit (misaligned SSE)",
        section: "SDM vol. 1, 10.5.1; AMD64 APM vol. 2, 11.5.10",
    },
    Rule {
        name: "order-of-faults",
        mnemonics: &[
            M::Fldenv,
            M::Fnstenv,
            M::Frstor,
            M::Fnsave,
            M::Fxsave,
            M::Fxsave64,
            M::Fxrstor,
            M::Fxrstor64,
            M::Xsave,
            M::Xsave64,
            M::Xrstor,
            M::Xrstor64,
            M::Xsavec,
            M::Xsavec64,
            M::Xsaveopt,
            M::Xsaveopt64,
            M::Iret,
            M::Iretd,
            M::Iretq,
            M::Retf,
            M::Call,
            M::Pusha,
            M::Pushad,
            M::Popa,
            M::Popad,
            M::Pop,
            M::Lds,
            M::Les,
            M::Lfs,
            M::Lgs,
            M::Lss,
            M::Enter,
            M::Jmp,
            M::Bound,
            M::Mov,
        ],
        what: "which of several faults of one instruction comes first, and at which byte",
        covers: |e, d| both_fault(e) && matches!(d.field, Field::Vector | Field::Error | Field::Cr2),
        reason: "the manuals do not order the accesses and checks of an instruction with several",
        section: "SDM vol. 3A, 6.9",
    },
    Rule {
        name: "misaligned-beyond-limit",
        mnemonics: &[],
        what: "#GP instead of #SS for an aligned operand that is misaligned and beyond the stack segment's limit",
        covers: |e, d| {
            both_fault(e)
                && matches!(d.field, Field::Vector)
                && (d.native, d.ours) == (13, 12)
                && e.case.mode == Mode::B16
        },
        reason: "two faults at once; the manual does not say which is found first",
        section: "SDM vol. 3A, 6.9",
    },
    Rule {
        name: "partial-frames",
        mnemonics: &[
            M::Pusha,
            M::Pushad,
            M::Popa,
            M::Popad,
            M::Fnsave,
            M::Fnstenv,
            M::Fxsave,
            M::Fxsave64,
            M::Enter,
        ],
        what: "what was transferred before a fault in the middle",
        covers: |e, d| both_fault(e) && matches!(d.field, Field::Memory(_) | Field::Gpr(_)),
        reason: "AMD transfers item by item; Aero transfers all or nothing",
        section: "SDM vol. 3A, 6.5: a fault restores the state before the instruction",
    },
    Rule {
        name: "store-of-unmasked-exception",
        mnemonics: &[M::Fst, M::Fstp, M::Fist, M::Fistp, M::Fisttp, M::Fbstp],
        what: "whether a suppressed store still checks its operand's page",
        covers: |e, _| is_fault(e.native.0) && !is_fault(e.ours.0) && pending(e.ours.1),
        reason: "an unmasked exception suppresses the store; AMD probes the page all the same",
        section: "SDM vol. 1, 8.5.1",
    },
    Rule {
        name: "mmx-transition",
        mnemonics: &[
            M::Cvtpd2pi,
            M::Cvttpd2pi,
            M::Cvtps2pi,
            M::Cvttps2pi,
            M::Cvtpi2ps,
            M::Cvtpi2pd,
            M::Maskmovq,
        ],
        what: "TOP and tags when the instruction faults",
        covers: |e, d| is_fault(e.ours.0) && matches!(d.field, Field::Fsw | Field::Ftw | Field::St(_)),
        reason: "AMD enters MMX state before the fault; a fault changes nothing on Intel processors",
        section: "SDM vol. 1, 11.6.4; vol. 3A, 6.5",
    },
    Rule {
        name: "undefined-opcodes",
        mnemonics: &[M::Ud0, M::Ud1],
        what: "#PF of the fetch of a ModRM byte",
        covers: |e, d| {
            vector(e.native.0) == Some(6)
                && vector(e.ours.0) == Some(14)
                && matches!(d.field, Field::Vector | Field::Error | Field::Cr2)
        },
        reason: "AMD does not fetch the ModRM byte of UD0 and UD1",
        section: "SDM vol. 2B, UD",
    },
    Rule {
        name: "repeated-io",
        mnemonics: &[M::Insb, M::Insw, M::Insd, M::Outsb, M::Outsw, M::Outsd],
        what: "#GP for want of I/O permission although the count is zero",
        covers: |e, _| {
            vector(e.native.0) == Some(13) && !is_fault(e.ours.0) && e.case.state.gpr[1] as u16 == 0
        },
        reason: "AMD checks the permission before the count",
        section: "SDM vol. 2B, REP",
    },
    Rule {
        name: "arpl-read",
        mnemonics: &[M::Arpl],
        what: "W of a page fault's error code",
        covers: |_, d| d.field == Field::Error && changed(d) & !2 == 0,
        reason: "AMD reads the operand before it knows whether it will write",
        section: "SDM vol. 2A, ARPL",
    },
    Rule {
        name: "misaligned-sse-bit",
        mnemonics: &[M::Ldmxcsr, M::Vldmxcsr, M::Fxrstor, M::Fxrstor64, M::Xrstor, M::Xrstor64],
        what: "#GP for bit 17 of MXCSR",
        covers: |e, _| {
            vector(e.ours.0) == Some(13)
                && !is_fault(e.native.0)
                && e.native.1.fpu.get32(super::case::image::MXCSR) >> 17 & 1 != 0
        },
        reason: "the bit is reserved on Intel processors; AMD has misaligned SSE there",
        section: "SDM vol. 1, 10.2.3; AMD64 APM vol. 1, 4.2.2",
    },
    Rule {
        name: "host-hangs",
        mnemonics: &[],
        what: "everything, when the host never finishes the case",
        covers: |e, _| vector(e.native.0) == Some(super::native::HANGS),
        reason: "a far call from 16-bit to 64-bit code meets the host kernel's workaround for 16-bit stacks",
        section: "Linux, arch/x86/kernel/espfix_64.c",
    },
    Rule {
        name: "int1",
        mnemonics: &[M::Int1],
        what: "RIP",
        covers: |_, d| d.field == Field::Rip,
        reason: "the hypervisor of this host reports the instruction's own address",
        section: "SDM vol. 2A, INT1",
    },
];

/// The rule that allows `difference`.
pub fn allows(ended: &Ended<'_>, difference: &Difference) -> Option<usize> {
    RULES.iter().position(|rule| {
        (rule.mnemonics.is_empty() || rule.mnemonics.contains(&ended.insn.mnemonic()))
            && (rule.covers)(ended, difference)
    })
}

fn changed(d: &Difference) -> u128 {
    d.native ^ d.ours
}

fn vector(outcome: Outcome) -> Option<u8> {
    match outcome {
        Outcome::Done => None,
        Outcome::Trap(t) => Some(t.vector),
    }
}

/// An exception other than the trap of single stepping.
fn is_fault(outcome: Outcome) -> bool {
    vector(outcome).is_some_and(|v| v != 1)
}

fn both_fault(e: &Ended<'_>) -> bool {
    is_fault(e.native.0) && is_fault(e.ours.0)
}

/// An unmasked x87 exception waits.
fn pending(state: &State) -> bool {
    state.fpu.get16(super::case::image::FSW) & 0x80 != 0
}

fn operand_bytes(insn: &Instruction) -> usize {
    match insn.op0_kind() {
        OpKind::Register => insn.op0_register().size(),
        _ => insn.memory_size().size(),
    }
}

fn shift_count(e: &Ended<'_>) -> u8 {
    let count = if insn_has_immediate(e.insn) { e.insn.immediate8() } else { e.case.state.gpr[1] as u8 };
    count & 31
}

fn insn_has_immediate(insn: &Instruction) -> bool {
    insn.op2_kind() == OpKind::Immediate8
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

/// How many extended reals lie between two of one sign.
fn places_apart(a: u128, b: u128) -> u128 {
    const SIGN: u128 = 1 << 79;
    if (a ^ b) & SIGN != 0 {
        return u128::MAX;
    }
    // Exponent and the significand below its leading bit count on as one number.
    let ordinal = |v: u128| (v >> 64 & 0x7fff) << 63 | v & 0x7fff_ffff_ffff_ffff;
    ordinal(a).abs_diff(ordinal(b))
}

/// The EFLAGS bits that `insn` leaves undefined.
fn undefined_flags(insn: &Instruction) -> u64 {
    use iced_x86::RflagsBits as R;
    const BITS: [(u32, u64); 6] =
        [(R::CF, 1), (R::PF, 4), (R::AF, 0x10), (R::ZF, 0x40), (R::SF, 0x80), (R::OF, 0x800)];
    let undefined = insn.rflags_undefined();
    BITS.iter().filter(|(r, _)| undefined & r != 0).fold(0, |bits, (_, bit)| bits | bit)
}

/// Which bytes of the memory operand differ, of the 16 at region offset `at`.
fn image_bytes<'a>(e: &Ended<'_>, at: u64, d: &'a Difference) -> impl Iterator<Item = u64> + 'a {
    let start = operand_address(e.case, e.insn).unwrap_or(0).wrapping_sub(super::layout::REGION);
    let first = at.wrapping_sub(start);
    (0..16).filter(|n| changed(d) >> (8 * n) & 0xff != 0).map(move |n| first.wrapping_add(n))
}

/// The linear address of the first memory operand.
pub fn operand_address(case: &Case, insn: &Instruction) -> Option<u64> {
    let operand = (0..insn.op_count()).find(|n| {
        !matches!(insn.op_kind(*n), OpKind::Register | OpKind::Immediate8)
            && insn.virtual_address(*n, 0, |_, _, _| Some(0)).is_some()
    })?;
    let address = insn.virtual_address(operand, 0, |register, _, _| register_value(case, register))?;
    Some(if case.mode == Mode::B64 { address } else { address & 0xffff_ffff })
}

fn register_value(case: &Case, register: Register) -> Option<u64> {
    if register.is_segment_register() {
        return Some(match register {
            Register::FS => FS_BASE,
            Register::GS => GS_BASE,
            _ => case.mode.base(),
        });
    }
    if !register.is_gpr() {
        return Some(0);
    }
    let value = case.state.gpr[register.full_register().number()];
    Some(match register.size() {
        1 => value & 0xff,
        2 => value & 0xffff,
        4 => value & 0xffff_ffff,
        _ => value,
    })
}
