//! The instruction forms that cases are made of: everything that user mode may meet of what the model `max` has and the
//! host has too.
//!
//! A form is the decoder's `Code`: one line of the manual's opcode tables. [`Form`] adds how to encode it.

use super::case::Mode;
use aero_x86::{Feature, Features, cpuid};
use iced_x86::{
    Code, CpuidFeature, EncodingKind, FlowControl, MandatoryPrefix, Mnemonic, OpCodeOperandKind as Kind,
};
use iced_x86::{OpCodeInfo, OpCodeTableKind};
use std::sync::OnceLock;

/// How a form is reached and encoded.
pub struct Form {
    /// The form.
    pub code: Code,
    /// The manual's line for it.
    pub info: &'static OpCodeInfo,
    /// Its operands.
    pub operands: Vec<Kind>,
    /// Has a ModRM byte.
    pub modrm: bool,
    /// The `rm` operand is a register only, memory only, or either.
    pub rm: Rm,
    /// It touches x87, MMX, SSE or AVX state.
    pub fpu: bool,
    /// It must be single-stepped: it may go elsewhere, change TF or load segments.
    pub step: bool,
    /// It is a string instruction.
    pub string: bool,
    /// Modes it exists in.
    pub modes: [bool; 3],
}

/// What `rm` may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rm {
    /// A register.
    Register,
    /// Memory.
    Memory,
    /// Either.
    Both,
}

/// Whether the processor that this runs on has `feature`.
pub fn host_has(feature: Feature) -> bool {
    let place = feature.place();
    let max = core::arch::x86_64::__cpuid(place.leaf & 0x8000_0000).eax;
    if place.leaf > max {
        return false;
    }
    let leaf = core::arch::x86_64::__cpuid_count(place.leaf, place.subleaf);
    let register = match place.register {
        aero_x86::features::Register::Eax => leaf.eax,
        aero_x86::features::Register::Ebx => leaf.ebx,
        aero_x86::features::Register::Ecx => leaf.ecx,
        aero_x86::features::Register::Edx => leaf.edx,
    };
    register >> place.bit & 1 != 0
}

/// The features that this host and the model `max` share.
pub fn shared_features() -> Features {
    // CPUID is slow under a hypervisor.
    static SHARED: OnceLock<Features> = OnceLock::new();
    *SHARED.get_or_init(|| {
        let missing: Vec<Feature> = Feature::ALL.iter().copied().filter(|f| !host_has(*f)).collect();
        cpuid::MAX.features.without(Features::of(&missing))
    })
}

/// Why a form of the model's features is not run.
pub fn excluded(code: Code) -> Option<&'static str> {
    let info = code.op_code();
    match code.mnemonic() {
        Mnemonic::Syscall | Mnemonic::Sysenter | Mnemonic::Int => Some("enters the host's kernel"),
        Mnemonic::Sysret | Mnemonic::Sysexit => None,
        Mnemonic::Sgdt | Mnemonic::Sidt | Mnemonic::Smsw | Mnemonic::Sldt | Mnemonic::Str => {
            Some("reads the host's tables, which its kernel hides")
        }
        Mnemonic::Wrfsbase | Mnemonic::Wrgsbase => None,
        Mnemonic::Rsm | Mnemonic::Getsec => Some("has no user-mode meaning"),
        _ if info.encoding() != EncodingKind::Legacy && info.encoding() != EncodingKind::VEX => {
            Some("encoding")
        }
        _ => None,
    }
}

fn has_modrm(info: &OpCodeInfo, operands: &[Kind]) -> bool {
    use Kind::*;
    info.is_group()
        || info.is_rm_group()
        || operands.iter().any(|k| {
            rm_kind(*k).is_some()
                || matches!(
                    k,
                    r8_reg
                        | r16_reg
                        | r32_reg
                        | r64_reg
                        | r16_reg_mem
                        | r32_reg_mem
                        | r64_reg_mem
                        | seg_reg
                        | mm_reg
                        | xmm_reg
                        | ymm_reg
                        | cr_reg
                        | dr_reg
                        | tr_reg
                )
        })
}

/// Whether an operand is the `rm` operand, and what it may be.
pub fn rm_kind(kind: Kind) -> Option<Rm> {
    use Kind::*;
    Some(match kind {
        mem | mem_mpx | mem_mib | mem_vsib32x | mem_vsib64x | mem_vsib32y | mem_vsib64y | mem_vsib32z
        | mem_vsib64z | sibmem => Rm::Memory,
        r8_or_mem | r16_or_mem | r32_or_mem | r32_or_mem_mpx | r64_or_mem | r64_or_mem_mpx | mm_or_mem
        | xmm_or_mem | ymm_or_mem => Rm::Both,
        r16_rm | r32_rm | r64_rm | mm_rm | xmm_rm | ymm_rm => Rm::Register,
        _ => return Option::None,
    })
}

fn touches_fpu(code: Code, operands: &[Kind]) -> bool {
    use Kind::*;
    let vector = operands.iter().any(|k| {
        matches!(
            k,
            mm_or_mem
                | xmm_or_mem
                | ymm_or_mem
                | mm_reg
                | mm_rm
                | xmm_reg
                | xmm_rm
                | xmm_vvvv
                | ymm_reg
                | ymm_rm
                | ymm_vvvv
                | xmm_is4
                | ymm_is4
                | st0
                | sti_opcode
                | mem_vsib32x
                | mem_vsib64x
                | mem_vsib32y
                | mem_vsib64y
        )
    });
    vector
        || code.mnemonic() == Mnemonic::Wait
        || code.is_save_restore_instruction()
        || code.cpuid_features().iter().any(|f| {
            matches!(
                f,
                CpuidFeature::FPU
                    | CpuidFeature::FPU287
                    | CpuidFeature::FPU387
                    | CpuidFeature::MMX
                    | CpuidFeature::SSE
                    | CpuidFeature::SSE2
                    | CpuidFeature::SSE3
                    | CpuidFeature::AVX
                    | CpuidFeature::FXSR
                    | CpuidFeature::XSAVE
            )
        })
}

fn must_step(code: Code) -> bool {
    code.flow_control() != FlowControl::Next
        || matches!(
            code.mnemonic(),
            Mnemonic::Popf
                | Mnemonic::Popfd
                | Mnemonic::Popfq
                | Mnemonic::Lds
                | Mnemonic::Les
                | Mnemonic::Lss
                | Mnemonic::Lfs
                | Mnemonic::Lgs
        )
        || loads_segment(code)
}

/// MOV and POP to a segment register.
fn loads_segment(code: Code) -> bool {
    use Kind::*;
    matches!(code.mnemonic(), Mnemonic::Mov | Mnemonic::Pop)
        && matches!(code.op_code().op0_kind(), seg_reg | es | cs | ss | ds | fs | gs)
}

impl Form {
    fn new(code: Code) -> Self {
        let info = code.op_code();
        let operands = info.op_kinds().to_vec();
        let rm = operands.iter().find_map(|k| rm_kind(*k));
        use Kind::*;
        Self {
            code,
            info,
            modrm: has_modrm(info, &operands),
            rm: rm.unwrap_or(Rm::Register),
            fpu: touches_fpu(code, &operands),
            step: must_step(code),
            string: operands.iter().any(|k| matches!(k, seg_rSI | es_rDI)),
            modes: [
                info.mode16() && info.intel_decoder16() && info.amd_decoder16(),
                info.mode32() && info.intel_decoder32() && info.amd_decoder32(),
                info.mode64() && info.intel_decoder64() && info.amd_decoder64(),
            ],
            operands,
        }
    }

    /// Whether it exists in `mode`.
    pub fn in_mode(&self, mode: Mode) -> bool {
        self.modes[mode as usize]
    }

    /// The prefix that is part of the opcode.
    pub fn mandatory(&self) -> Option<u8> {
        match self.info.mandatory_prefix() {
            MandatoryPrefix::P66 => Some(0x66),
            MandatoryPrefix::PF3 => Some(0xf3),
            MandatoryPrefix::PF2 => Some(0xf2),
            _ => None,
        }
    }

    /// Escape bytes before the opcode, for legacy encodings.
    pub fn escape(&self) -> &'static [u8] {
        match self.info.table() {
            OpCodeTableKind::T0F => &[0x0f],
            OpCodeTableKind::T0F38 => &[0x0f, 0x38],
            OpCodeTableKind::T0F3A => &[0x0f, 0x3a],
            _ => &[],
        }
    }

    /// The name that reports use.
    pub fn name(&self) -> String {
        format!("{:?}", self.code)
    }
}

/// Whether `features` have what `code` needs.
pub fn available(code: Code, features: Features) -> bool {
    features.has_all(Features::required(code.cpuid_features()))
}

/// All forms that can be run here, by name order of the decoder.
pub fn all() -> Vec<Form> {
    let features = shared_features();
    Code::values()
        .filter(|code| {
            let info = code.op_code();
            info.is_instruction() && !info.fwait() && excluded(*code).is_none() && available(*code, features)
        })
        .map(Form::new)
        .filter(|f| f.modes.contains(&true))
        .collect()
}

/// Forms of the model `max` that are not run, with the reason.
pub fn not_run() -> Vec<(Code, &'static str)> {
    let features = shared_features();
    Code::values()
        .filter(|code| code.op_code().is_instruction() && available(*code, cpuid::MAX.features))
        .filter_map(|code| {
            let maker = || {
                let form = Form::new(code);
                (!form.modes.contains(&true)).then_some("Intel's and AMD's decoders differ")
            };
            let lacking = || (!available(code, features)).then_some("the host lacks it");
            let reason = excluded(code).or_else(lacking).or_else(maker)?;
            (reason != "encoding").then_some((code, reason))
        })
        .collect()
}
