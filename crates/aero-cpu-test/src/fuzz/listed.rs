//! The differences that are allowed: where this host and the models may disagree, each with its reason and the manual's
//! section. Everything else is a failure.
//!
//! The host is an AMD processor under a hypervisor, the models are Intel's. A rule names instructions, fields and the
//! circumstances; it never allows a difference in what the manual defines for both makers.

use super::case::{Case, Mode, Outcome, State};
use super::compare::{Difference, Field};
use super::layout::{FS_BASE, GS_BASE};
use aero_x86::CodeSize;
use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind, Register};

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

/// The rule that is tried by running a case again.
const CONTEXT_SWITCH: &str = "context-switch";

/// The number of the rule about context switches, if `insn` is one of its instructions.
pub fn may_be_interrupted(insn: &Instruction) -> Option<usize> {
    RULES.iter().position(|r| r.name == CONTEXT_SWITCH && r.mnemonics.contains(&insn.mnemonic()))
}

/// The list.
pub const RULES: &[Rule] = &[
    Rule {
        name: "undefined",
        mnemonics: &[],
        what: "flags that the instruction leaves undefined; results, where the manual calls them undefined",
        covers: |e, d| {
            let undefined = undefined(e);
            match d.field {
                Field::Flags => changed(d) & !u128::from(undefined.flags) == 0,
                Field::Gpr(_) | Field::Memory(_) => undefined.result && !is_fault(e.ours.0),
                _ => false,
            }
        },
        reason: "processors differ in what they leave there; aero_x86::undefined has the table",
        section: "SDM vol. 1, appendix A; vol. 2, each instruction",
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
        what: "results by one unit in the last place, C1, which tells how the result was rounded, and UE",
        covers: |e, d| {
            const UE: u16 = 0x10;
            let status = |s: &State| s.fpu.get16(super::case::image::FSW);
            let edge = (status(e.native.1) ^ status(e.ours.1)) & UE != 0;
            match d.field {
                // An unmasked underflow delivers the result with another exponent.
                Field::St(_) => places_apart(d.native, d.ours) <= 1 || edge && rescaled(d) <= 1,
                Field::Fsw => changed(d) & !if edge { 0x8290 } else { 0x200 } == 0,
                _ => false,
            }
        },
        reason: "within one unit in the last place of the exact value, which decides about underflow too",
        section: "SDM vol. 1, 8.3.10",
    },
    Rule {
        name: "denormal-unchanged",
        mnemonics: &[M::Fprem, M::Fprem1, M::Fscale],
        what: "underflow of a denormal that comes back as it is (divided by infinity, scaled by 0), with UE unmasked",
        covers: |e, d| {
            use super::case::image::{FCW, ST};
            let fpu = &e.case.state.fpu;
            let (significand, exponent) = (fpu.get64(ST + 16), fpu.get16(ST + 24) & 0x7fff);
            let neutral = match e.insn.mnemonic() {
                M::Fscale => significand == 0 && exponent == 0,
                _ => significand == 1 << 63 && exponent == 0x7fff,
            };
            neutral
                && denormal(e, 0)
                && fpu.get16(FCW) & 0x10 == 0
                && matches!(d.field, Field::Fsw | Field::St(0))
        },
        reason: "Intel delivers the operand without an exception, AMD with an underflow",
        section: "SDM vol. 2A, FPREM, FSCALE",
    },
    Rule {
        name: "x87-pointers",
        mnemonics: &[],
        what: "FOP, FIP and FDP where the host shows zeros; the upper 16 bits of FIP and FDP",
        covers: |_, d| match d.field {
            Field::Fop => d.native == 0,
            Field::Fip | Field::Fdp => d.native == 0 || changed(d) << 80 == 0,
            _ => false,
        },
        reason: "AMD's XSAVE and XRSTOR pass the pointers on only while an unmasked exception is pending, and keep them canonical",
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
        mnemonics: &[],
        what: "which of several faults of one instruction with several accesses comes first, and at which byte",
        covers: |e, d| {
            both_fault(e)
                && several_accesses(e)
                && matches!(d.field, Field::Vector | Field::Error | Field::Cr2)
        },
        reason: "the manuals do not order the accesses and checks of an instruction with several",
        section: "SDM vol. 3A, 6.9",
    },
    Rule {
        name: "xsave-footprint",
        mnemonics: &[
            M::Xrstor,
            M::Xrstor64,
            M::Xsave,
            M::Xsave64,
            M::Xsavec,
            M::Xsavec64,
            M::Xsaveopt,
            M::Xsaveopt64,
        ],
        what: "#PF of components that are neither saved nor restored",
        covers: |e, _| vector(e.native.0) == Some(14) && !is_fault(e.ours.0),
        reason: "AMD touches the whole area; Intel's manual names the bytes that are used",
        section: "SDM vol. 1, 13.7 to 13.10",
    },
    Rule {
        name: "components-of-the-host",
        mnemonics: &[M::Xrstor, M::Xrstor64],
        what: "#GP of an image with components that XCR0 does not have",
        covers: |e, _| {
            const AVX512: u64 = 0xe0;
            vector(e.ours.0) == Some(13)
                && !is_fault(e.native.0)
                && matches!(xstate_bv(e) & !7, bv if bv & !AVX512 == 0 && bv != 0)
        },
        reason: "the host has AVX-512, the model has not",
        section: "SDM vol. 1, 13.8.1",
    },
    Rule {
        name: "gather-progress",
        mnemonics: &[
            M::Vgatherdps,
            M::Vgatherdpd,
            M::Vgatherqps,
            M::Vgatherqpd,
            M::Vpgatherdd,
            M::Vpgatherdq,
            M::Vpgatherqd,
            M::Vpgatherqq,
        ],
        what: "destination and mask when an element faults; a single-step trap between elements instead of the fault",
        covers: |e, d| {
            let stepped = vector(e.native.0) == Some(1)
                && matches!(vector(e.ours.0), Some(12..=14))
                && e.native.1.rip == e.ours.1.rip;
            stepped || both_fault(e) && matches!(d.field, Field::Xmm(_) | Field::Ymm(_) | Field::Cr2)
        },
        reason: "how far a gather comes before a fault is left to the implementation",
        section: "SDM vol. 2C, VGATHERDPS",
    },
    Rule {
        name: "suspended-comparison",
        mnemonics: &[M::Cmpsb, M::Cmpsw, M::Cmpsd, M::Cmpsq, M::Scasb, M::Scasw, M::Scasd, M::Scasq],
        what: "flags when a repeat is cut short by a fault",
        covers: |e, d| both_fault(e) && d.field == Field::Flags,
        reason: "Intel restores the flags from before the instruction, AMD keeps those of the last comparison",
        section: "SDM vol. 2B, REP",
    },
    Rule {
        name: "pushed-selector",
        mnemonics: &[M::Push],
        what: "the upper half of a dword stack slot",
        covers: |e, d| matches!(d.field, Field::Memory(_)) && e.insn.op0_register().is_segment_register(),
        reason: "Intel writes the 16 bits of the selector, AMD a zero-extended dword",
        section: "SDM vol. 2B, PUSH",
    },
    Rule {
        name: "sha-alignment",
        mnemonics: &[
            M::Sha1msg1,
            M::Sha1msg2,
            M::Sha1nexte,
            M::Sha1rnds4,
            M::Sha256msg1,
            M::Sha256msg2,
            M::Sha256rnds2,
        ],
        what: "#GP of a misaligned operand",
        covers: |e, _| vector(e.ours.0) == Some(13) && vector(e.native.0) != Some(13),
        reason: "AMD does not ask for alignment here; on Intel processors these follow exception type 4",
        section: "SDM vol. 2B, SHA1MSG1; 2.4",
    },
    Rule {
        name: "prefetch-register",
        mnemonics: &[M::Reservednop],
        what: "#UD of 0F 0D with a register operand",
        covers: |e, _| vector(e.native.0) == Some(6) && format!("{:?}", e.insn.code()).ends_with("0F0D"),
        reason: "a reserved NOP for Intel, undefined for AMD",
        section: "SDM vol. 2D, table A-3",
    },
    Rule {
        name: "sysret-outside-64-bit-code",
        mnemonics: &[M::Sysret, M::Sysretq],
        what: "#UD instead of #GP",
        covers: |e, d| {
            (vector(e.native.0), vector(e.ours.0)) == (Some(13), Some(6))
                && matches!(d.field, Field::Vector | Field::Error)
        },
        reason: "AMD has the instruction in every mode",
        section: "SDM vol. 2B, SYSRET",
    },
    Rule {
        name: "log-out-of-range",
        mnemonics: &[M::Fyl2xp1],
        what: "result and flags",
        covers: |e, d| {
            let undefined = !one_plus_x_is_defined(e) || denormal(e, 0) || denormal(e, 1);
            undefined && matches!(d.field, Field::St(_) | Field::Fsw | Field::Ftw)
        },
        reason: "undefined for operands outside -(1 - sqrt(2)/2) to sqrt(2)-1, and at denormals as above",
        section: "SDM vol. 1, FYL2XP1 in 8.3.7; vol. 2A, FYL2XP1",
    },
    Rule {
        name: "vex-w",
        mnemonics: &[M::INVALID],
        what: "#UD of VPERMQ and VPERMPD with VEX.W clear",
        covers: |e, _| {
            !is_fault(e.native.0)
                && vector(e.ours.0) == Some(6)
                && matches!(unprefixed(e), [0xc4, map, w, 0 | 1, ..] if map & 0x1f == 3 && w & 0x80 == 0)
        },
        reason: "Intel defines W1 only; AMD ignores the bit",
        section: "SDM vol. 2C, VPERMQ, VPERMPD",
    },
    Rule {
        name: "vex-w-outside-64-bit-code",
        mnemonics: &[M::Vpextrd, M::Vpinsrd],
        what: "#UD of VEX.W set in 16-bit and 32-bit code",
        covers: |e, _| vector(e.native.0) == Some(6) && e.case.mode != Mode::B64,
        reason: "Intel ignores the bit, AMD does not",
        section: "SDM vol. 2B, PEXTRD, PINSRD",
    },
    Rule {
        name: "locked-verification",
        mnemonics: &[M::INVALID],
        what: "#UD of VERW and its kin with LOCK",
        covers: |e, _| {
            vector(e.ours.0) == Some(6)
                && prefixes(e).contains(&0xf0)
                && matches!(unprefixed(e), [0x0f, 0x00, ..])
        },
        reason: "this host ignores the prefix there",
        section: "SDM vol. 2A, LOCK",
    },
    Rule {
        name: "processor-in-a-limit",
        mnemonics: &[M::Lsl],
        what: "the destination",
        covers: |_, d| matches!(d.field, Field::Gpr(_)) && d.ours & 0xffff == 0,
        reason: "the host's kernel keeps the processor's number in the limit of descriptor 7Bh",
        section: "SDM vol. 2A, LSL; Linux, arch/x86/include/asm/segment.h",
    },
    Rule {
        name: "canonical-before-base",
        mnemonics: &[],
        what: "#GP of an offset that is not canonical while the linear address is",
        covers: |e, d| {
            e.case.mode == Mode::B64
                && (vector(e.native.0), vector(e.ours.0)) == (Some(13), Some(14))
                && prefixes(e).iter().any(|p| matches!(p, 0x64 | 0x65))
                && matches!(d.field, Field::Vector | Field::Error | Field::Cr2)
        },
        reason: "AMD checks the offset too; Intel's manual speaks of the linear address",
        section: "SDM vol. 1, 3.3.7.1",
    },
    Rule {
        name: "far-call-out-of-64-bit-code",
        mnemonics: &[M::Call],
        what: "where the return address goes when RSP is above 4 GiB",
        covers: |e, _| {
            let far = e.insn.is_call_far() || e.insn.is_call_far_indirect();
            far && e.case.mode == Mode::B64 && e.case.state.gpr[4] >> 32 != 0
        },
        reason: "AMD pushes by the new code segment's rules, Intel by the old one's",
        section: "SDM vol. 2A, CALL",
    },
    Rule {
        name: "far-return-upper-half",
        mnemonics: &[M::Retf, M::Iretq],
        what: "#GP of a 64-bit return into 16-bit or 32-bit code with bits of RIP above 31 set",
        covers: |e, _| {
            vector(e.native.0) == Some(13)
                && !is_fault(e.ours.0)
                && e.case.mode == Mode::B64
                && e.ours.1.segments[1] != super::layout::selector::CODE64
        },
        reason: "AMD holds all 64 bits against the limit; Bochs and QEMU agree with Aero on 32",
        section: "SDM vol. 2B, RET",
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
            M::Call,
        ],
        what: "what was transferred before a fault in the middle",
        covers: |e, d| both_fault(e) && matches!(d.field, Field::Memory(_) | Field::Gpr(_)),
        reason: "AMD transfers item by item; Aero transfers all or nothing",
        section: "SDM vol. 3A, 6.5: a fault restores the state before the instruction",
    },
    Rule {
        name: "store-of-unmasked-exception",
        mnemonics: &[M::Fst, M::Fstp, M::Fist, M::Fistp, M::Fisttp, M::Fbstp, M::Vcvtps2ph],
        what: "whether a suppressed store still checks its operand's page",
        covers: |e, _| {
            vector(e.native.0) == Some(14)
                && (!is_fault(e.ours.0) && pending(e.ours.1) || vector(e.ours.0) == Some(19))
        },
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
        name: "narrow-near-branches",
        mnemonics: &[],
        what: "everything, of near branches with prefix 66h in 64-bit code",
        covers: |e, _| {
            use FlowControl as F;
            let near = matches!(
                e.insn.flow_control(),
                F::UnconditionalBranch
                    | F::ConditionalBranch
                    | F::Call
                    | F::Return
                    | F::IndirectBranch
                    | F::IndirectCall
            );
            // Shorter by two bytes, one may keep within 15 bytes on AMD's processors only.
            let long = e.insn.is_invalid()
                && matches!(unprefixed(e), [0xe8 | 0xe9, ..] | [0x0f, 0x80..=0x8f, ..])
                && vector(e.ours.0) == Some(13);
            (near || long) && e.case.mode == Mode::B64 && prefixes(e).contains(&0x66)
        },
        reason: "Intel processors ignore the prefix there; on AMD's it truncates RIP to 16 bits",
        section: "SDM vol. 1, 6.3.7; AMD64 APM vol. 3, 1.2.7",
    },
    Rule {
        name: "repeated-loops",
        mnemonics: &[M::Loope, M::Loopne],
        what: "RIP, with a repeat prefix",
        covers: |e, d| d.field == Field::Rip && prefixes(e).iter().any(|p| matches!(p, 0xf2 | 0xf3)),
        reason: "the prefix is reserved there; on AMD's processors it selects the condition",
        section: "SDM vol. 2A, 2.1.1",
    },
    Rule {
        name: "wrap-at-4-gib",
        mnemonics: &[],
        what: "#GP or #SS, or none, of an operand that extends beyond offset FFFF_FFFFh of a 4 GiB segment",
        covers: |e, _| e.case.mode != Mode::B64 && (is_fault(e.native.0) || is_fault(e.ours.0)) && wraps(e),
        reason: "whether such an access violates the limit is left to the implementation",
        section: "SDM vol. 3A, 5.3",
    },
    Rule {
        name: "long-and-undefined",
        mnemonics: &[],
        what: "#UD or #GP where an instruction is undefined and longer than 15 bytes",
        covers: |e, d| {
            matches!((vector(e.native.0), vector(e.ours.0)), (Some(6), Some(13)) | (Some(13), Some(6)))
                && prefixes(e).len() > 4
                && matches!(d.field, Field::Vector | Field::Error)
        },
        reason: "both faults apply; the manual does not say which is found first",
        section: "SDM vol. 3A, 6.9",
    },
    Rule {
        name: "movsxd-16",
        mnemonics: &[M::Movsxd],
        what: "faults of the upper half of a dword operand, with a 16-bit destination",
        covers: |e, _| vector(e.native.0) == Some(14) && e.insn.memory_size().size() == 2,
        reason: "AMD reads a dword, Intel a word",
        section: "SDM vol. 2B, MOVSXD; AMD64 APM vol. 3, MOVSXD",
    },
    Rule {
        name: "pop-of-a-selector",
        mnemonics: &[M::Pop],
        what: "#PF of the upper half of a dword on the stack",
        covers: |e, _| vector(e.native.0) == Some(14) && e.insn.op0_register().is_segment_register(),
        reason: "AMD reads the whole stack slot, Intel the selector",
        section: "SDM vol. 2B, POP",
    },
    Rule {
        name: CONTEXT_SWITCH,
        mnemonics: &[M::Fnstenv, M::Fnsave],
        what: "the pointers in the image, if the same case passes when it is run again",
        covers: |_, _| false,
        reason: "a switch to another process between the case's start and its instruction clears them on AMD's processors",
        section: "Linux, X86_BUG_FXSAVE_LEAK",
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

/// As [`places_apart`], when one of the two has the exponent of an unmasked underflow (SDM vol. 1, 8.5.5).
fn rescaled(d: &Difference) -> u128 {
    const ADJUSTMENT: u128 = 24576 << 64;
    let (large, small) = (d.native.max(d.ours), d.native.min(d.ours));
    places_apart(large.wrapping_sub(ADJUSTMENT), small)
}

/// The legacy prefixes of the case's instruction.
fn prefixes<'a>(e: &Ended<'a>) -> &'a [u8] {
    let code = e.case.code();
    &code[..code.len() - unprefixed(e).len()]
}

/// The case's instruction from its opcode on.
fn unprefixed<'a>(e: &Ended<'a>) -> &'a [u8] {
    let long = e.case.mode == Mode::B64;
    let is_prefix = |b: &u8| {
        matches!(b, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3) || long && b & 0xf0 == 0x40
    };
    let code = e.case.code();
    &code[code.iter().position(|b| !is_prefix(b)).unwrap_or(code.len())..]
}

fn both_fault(e: &Ended<'_>) -> bool {
    is_fault(e.native.0) && is_fault(e.ours.0)
}

/// Instructions that access memory more than once, or more than eight bytes of it.
fn several_accesses(e: &Ended<'_>) -> bool {
    let insn = e.insn;
    let far_pointer = matches!(insn.mnemonic(), M::Lds | M::Les | M::Lfs | M::Lgs | M::Lss | M::Bound);
    let state = insn.code().is_save_restore_instruction()
        || matches!(insn.mnemonic(), M::Fldenv | M::Fnstenv | M::Frstor | M::Fnsave);
    let segment = insn.op_count() > 0 && insn.op0_register().is_segment_register();
    insn.memory_size().size() > 8
        || far_pointer
        || state
        || segment
        || insn.is_stack_instruction()
        || insn.flow_control() != FlowControl::Next
        || matches!(insn.mnemonic(), M::Vmaskmovps | M::Vmaskmovpd | M::Vpmaskmovd | M::Vpmaskmovq)
}

/// An unmasked x87 exception waits.
fn pending(state: &State) -> bool {
    state.fpu.get16(super::case::image::FSW) & 0x80 != 0
}

/// Whether ST(0) is a number that FYL2XP1 is defined for: from sqrt(2)/2 - 1 to sqrt(2) - 1.
fn one_plus_x_is_defined(e: &Ended<'_>) -> bool {
    use super::case::image::ST;
    let (significand, exponent) = (e.case.state.fpu.get64(ST), e.case.state.fpu.get16(ST + 8));
    let magnitude = significand as f64 * 2f64.powi(i32::from(exponent & 0x7fff) - 16383 - 63);
    let number = significand >> 63 != 0 && exponent & 0x7fff != 0x7fff;
    let limit = if exponent >> 15 != 0 { 0.292_89 } else { 0.414_21 };
    number && magnitude < limit
}

/// Whether ST(`n`) has the exponent of zero and of denormals.
fn denormal(e: &Ended<'_>, n: usize) -> bool {
    e.case.state.fpu.get16(super::case::image::ST + 16 * n + 8) & 0x7fff == 0
}

/// Whether a 32-bit operand begins below 4 GiB and ends above, by its offset in its segment.
fn wraps(e: &Ended<'_>) -> bool {
    let frame = matches!(e.insn.mnemonic(), M::Leave | M::Enter);
    let size = if frame { 4 } else { e.insn.memory_size().size().max(1) as u64 };
    let beyond = |offset: u64| (offset & 0xffff_ffff) + size > 1 << 32;
    let ahead = bit_string_bytes(e);
    frame && beyond(e.case.state.gpr[5])
        || operand_offsets(e.case, e.insn).any(|offset| beyond(offset.wrapping_add(ahead)))
}

/// How far from its operand's address a bit test by a register reaches.
fn bit_string_bytes(e: &Ended<'_>) -> u64 {
    let insn = e.insn;
    let by_register = matches!(insn.mnemonic(), M::Bt | M::Bts | M::Btr | M::Btc)
        && insn.op0_kind() == OpKind::Memory
        && insn.op1_kind() == OpKind::Register;
    if !by_register {
        return 0;
    }
    let value = register_value(e.case, insn.op1_register()).unwrap_or(0);
    match insn.op1_register().size() {
        2 => (i64::from(value as i16) >> 4 << 1) as u64,
        4 => (i64::from(value as i32) >> 5 << 2) as u64,
        _ => (value as i64 >> 6 << 3) as u64,
    }
}

/// XSTATE_BV of the image that XRSTOR reads.
fn xstate_bv(e: &Ended<'_>) -> u64 {
    const OFFSET: u64 = super::case::image::HEADER as u64;
    let at = operand_address(e.case, e.insn).unwrap_or(0).wrapping_sub(super::layout::REGION) + OFFSET;
    let mut bytes = [0; 8];
    if super::layout::PAGES.contains(&(at & !0xfff)) {
        let start = at as usize & 0xfff;
        bytes.copy_from_slice(&super::layout::background(at & !0xfff)[start..start + 8]);
    }
    for patch in &e.case.patches {
        for (n, byte) in patch.bytes.iter().enumerate() {
            if let Some(to) = bytes.get_mut((patch.at + n as u64).wrapping_sub(at) as usize) {
                *to = *byte;
            }
        }
    }
    u64::from_le_bytes(bytes)
}

fn single(vector: u128, lane: u32) -> f32 {
    f32::from_bits((vector >> (32 * lane)) as u32)
}

/// Two approximations of one value may lie twice the bound apart.
fn near(a: f32, b: f32) -> bool {
    const BOUND: f64 = 1.5 / 4096.0;
    let (x, y) = (f64::from(a), f64::from(b));
    // Tiny results are flushed to zero: at the edge the two may fall on either side.
    let tiny = f64::from(f32::MIN_POSITIVE) * (1.0 + 2.0 * BOUND);
    let flushed = x.min(y).abs().min(x.max(y).abs()) == 0.0 && x.abs().max(y.abs()) <= tiny;
    a.to_bits() == b.to_bits() || flushed || (x - y).abs() <= 2.0 * BOUND * x.abs().max(y.abs())
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

/// What the instruction leaves undefined with the case's operands.
fn undefined(e: &Ended<'_>) -> aero_x86::undefined::Undefined {
    let size = match e.case.mode {
        Mode::B16 => CodeSize::B16,
        Mode::B32 => CodeSize::B32,
        Mode::B64 => CodeSize::B64,
    };
    let Ok(insn) = aero_x86::decode(e.case.code(), size, aero_x86::cpuid::MAX.features) else {
        return Default::default();
    };
    // ZF of BSF and BSR tells whether the source was zero.
    let source = u64::from(e.ours.1.rflags & 0x40 == 0);
    aero_x86::undefined::undefined(&insn, e.case.state.gpr[1] as u8, source)
}

/// Which bytes of the memory operand differ, of the 16 at region offset `at`.
fn image_bytes<'a>(e: &Ended<'_>, at: u64, d: &'a Difference) -> impl Iterator<Item = u64> + 'a {
    let start = operand_address(e.case, e.insn).unwrap_or(0).wrapping_sub(super::layout::REGION);
    let first = at.wrapping_sub(start);
    (0..16).filter(|n| changed(d) >> (8 * n) & 0xff != 0).map(move |n| first.wrapping_add(n))
}

/// The linear address of the first memory operand.
pub fn operand_address(case: &Case, insn: &Instruction) -> Option<u64> {
    let address = operand(insn, |register| {
        if register.is_segment_register() {
            Some(segment_base(case, register))
        } else {
            register_value(case, register)
        }
    })?;
    Some(if case.mode == Mode::B64 { address } else { address & 0xffff_ffff })
}

/// The memory operands' offsets in their segments, those of each element of a gather.
fn operand_offsets<'a>(case: &'a Case, insn: &'a Instruction) -> impl Iterator<Item = u64> + 'a {
    const ELEMENTS: usize = 8;
    let elements = if insn.is_vsib() { ELEMENTS } else { 1 };
    let places = (0..insn.op_count()).filter(|n| insn.op_kind(*n) != OpKind::Register);
    places.flat_map(move |n| (0..elements).map(move |i| (n, i))).filter_map(|(n, i)| {
        insn.virtual_address(n, i, |register, element, size| {
            if register.is_segment_register() {
                Some(0)
            } else if register.is_vector_register() {
                Some(vector_element(case, register, element, size))
            } else {
                register_value(case, register)
            }
        })
    })
}

/// A sign-extended element of a vector register, 0 beyond its end.
fn vector_element(case: &Case, register: Register, element: usize, size: usize) -> u64 {
    use super::case::image::{XMM, YMM};
    let at = element * size;
    if at >= register.size() {
        return 0;
    }
    let base = if at < 16 { XMM + at } else { YMM + at - 16 } + 16 * register.number();
    let fpu = &case.state.fpu;
    if size == 4 { i64::from(fpu.get32(base) as i32) as u64 } else { fpu.get64(base) }
}

fn operand(insn: &Instruction, value: impl Fn(Register) -> Option<u64>) -> Option<u64> {
    let n = (0..insn.op_count()).find(|n| {
        !matches!(insn.op_kind(*n), OpKind::Register | OpKind::Immediate8)
            && insn.virtual_address(*n, 0, |_, _, _| Some(0)).is_some()
    })?;
    insn.virtual_address(n, 0, |register, _, _| value(register))
}

fn segment_base(case: &Case, register: Register) -> u64 {
    match register {
        Register::FS => FS_BASE,
        Register::GS => GS_BASE,
        _ => case.mode.base(),
    }
}

fn register_value(case: &Case, register: Register) -> Option<u64> {
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
