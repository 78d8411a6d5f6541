//! Cases of random bytes: what decoders make of prefixes that do not belong, undefined opcodes, damaged instructions.
//!
//! They run single-stepped. What the host must not run, or knows and the model does not, is sorted out here.

use super::case::{Case, Mode, TF};
use super::forms::{self, Form};
use super::generate;
use super::layout::{self, REGION};
use super::listed::operand_address;
use crate::random::Random;
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, Register};

/// A damaged case of `form`, or random bytes, `None` if the host must not run it.
pub fn case(rng: &mut Random, form: &Form, mode: Mode) -> Option<Case> {
    let mut case = generate::case(rng, form, mode)?;
    case.bytes[usize::from(case.len)..].iter_mut().for_each(|b| *b = rng.draw() as u8);
    damage(rng, &mut case);
    // All 15 bytes must be there for the processor to look at.
    case.len = 15;
    let offset = case.offset().min(0x1000 - 16) as u64;
    case.state.rip = REGION + layout::CODE + offset - mode.base();
    case.state.rflags |= TF;
    case.fpu = true;
    let insn = Decoder::with_ip(mode.bits(), case.code(), case.state.rip, DecoderOptions::NONE).decode();
    if matches!(
        insn.mnemonic(),
        Mnemonic::Xsave
            | Mnemonic::Xsave64
            | Mnemonic::Xsavec
            | Mnemonic::Xsavec64
            | Mnemonic::Xsaveopt
            | Mnemonic::Xsaveopt64
            | Mnemonic::Xrstor
            | Mnemonic::Xrstor64
    ) {
        case.state.gpr[0] &= 7;
        case.state.gpr[2] = 0;
    }
    harmless(&case, &insn).then_some(case)
}

fn damage(rng: &mut Random, case: &mut Case) {
    const PREFIXES: [u8; 18] = [
        0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x66, 0x67, 0xf0, 0xf0, 0xf2, 0xf3, 0x40, 0x48, 0x4f, 0x44,
        0x66,
    ];
    let len = u64::from(case.len);
    match rng.below(5) {
        0 => case.bytes = core::array::from_fn(|_| rng.draw() as u8),
        1 => case.bytes[rng.below(len) as usize] = rng.draw() as u8,
        2 => case.bytes[rng.below(len) as usize] ^= 1 << rng.below(8),
        3 => {
            case.bytes = core::array::from_fn(|_| rng.draw() as u8);
            case.bytes[0] = 0x0f;
        }
        _ => {
            let n = if rng.one_in(8) { 1 + rng.below(14) as usize } else { 1 + rng.below(2) as usize };
            case.bytes.copy_within(..16 - n, n);
            (0..n).for_each(|i| case.bytes[i] = rng.pick(&PREFIXES));
        }
    }
}

/// Whether the host may run it, and the model should know it.
fn harmless(case: &Case, insn: &Instruction) -> bool {
    let code = insn.code();
    if code == Code::INVALID {
        return !is_evex(case);
    }
    let info = code.op_code();
    let decoders_agree = match case.mode {
        Mode::B16 => info.intel_decoder16() && info.amd_decoder16(),
        Mode::B32 => info.intel_decoder32() && info.amd_decoder32(),
        Mode::B64 => info.intel_decoder64() && info.amd_decoder64(),
    };
    // What loads SS holds the trap off until one more instruction has run.
    let loads_ss =
        insn.op_count() > 0 && insn.op0_register() == Register::SS && insn.mnemonic() != Mnemonic::Push;
    decoders_agree
        && !loads_ss
        && forms::excluded(code).is_none()
        && forms::available(code, forms::shared_features())
        && operand_address(case, insn).is_none_or(reachable)
}

/// Whether an address is the case's own, or surely nothing's.
fn reachable(address: u64) -> bool {
    const HARNESS: core::ops::Range<u64> = 0x1000_0000..0x1100_0000;
    const PROGRAM: core::ops::Range<u64> = 0x1_0000_0000..0x8000_0000_0000;
    !HARNESS.contains(&address) && !PROGRAM.contains(&address)
}

/// EVEX encodings: the host may have AVX-512, the model has not, and the decoder does not know them.
fn is_evex(case: &Case) -> bool {
    let long = case.mode == Mode::B64;
    let mut rest = case.code().iter().skip_while(|b| {
        matches!(b, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3)
            || long && **b & 0xf0 == 0x40
    });
    rest.next() == Some(&0x62) && (long || rest.next().is_some_and(|b| *b >= 0xc0))
}
