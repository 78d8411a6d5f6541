//! One decoded instruction.

use crate::features::{Feature, Features};
use iced_x86::{Code, Decoder, DecoderError, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

/// The longest legal instruction, in bytes (Intel SDM vol. 2, 2.3.11).
pub const MAX_LEN: usize = 15;

/// Default operand and address size of a code segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum CodeSize {
    /// Real mode, virtual-8086 mode, and segments with D = 0.
    B16 = 0,
    /// Segments with D = 1.
    B32 = 1,
    /// Long mode with L = 1.
    B64 = 2,
}

impl CodeSize {
    pub(crate) fn bits(self) -> u32 {
        16 << self as u32
    }
}

/// Slots of the register file that stand for something other than a general register.
pub mod slot {
    /// Always zero: the slot of an absent base or index.
    pub const ZERO: u8 = 16;
    /// The instruction pointer at the start of the block: the base of RIP-relative operands.
    pub const BLOCK: u8 = 17;
}

/// A memory operand: `segment:[base + index * 2^scale + disp]`, truncated to `address_size` bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mem {
    /// Register slot of the base, [`slot::ZERO`] if none, [`slot::BLOCK`] for RIP-relative.
    pub base: u8,
    /// Register slot of the index, [`slot::ZERO`] if none.
    pub index: u8,
    /// Log2 of the index's factor.
    pub scale: u8,
    /// Segment register number: ES CS SS DS FS GS.
    pub segment: u8,
    /// Displacement. RIP-relative: from the start of this instruction.
    pub disp: i64,
    /// Bytes accessed, 0 where the operand has no fixed size. With a vector index (gathers; `index` is then the
    /// number of a vector register) bytes of the index register.
    pub size: u8,
}

/// An operand. Registers carry their encoding number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operand {
    /// General register; `high` is AH, CH, DH or BH of number 0..=3.
    Gpr {
        /// Encoding number.
        reg: u8,
        /// Bytes.
        size: u8,
        /// Bits 15:8 of the register.
        high: bool,
    },
    /// Segment register: ES CS SS DS FS GS.
    Seg(u8),
    /// Control register.
    Cr(u8),
    /// Debug register.
    Dr(u8),
    /// x87 stack register ST(i).
    St(u8),
    /// MMX register.
    Mm(u8),
    /// XMM register.
    Xmm(u8),
    /// YMM register.
    Ymm(u8),
    /// The memory operand in [`Insn::mem`].
    Mem,
    /// An immediate, sign-extended as the instruction does.
    Imm(u64),
    /// A near branch target, relative to the start of the instruction.
    Near(i64),
    /// A far pointer.
    Far {
        /// Segment selector.
        selector: u16,
        /// Offset in it.
        offset: u32,
    },
    /// A string instruction's memory operand at rSI (segment in [`Insn::string_segment`]) or ES:rDI.
    Implied,
    /// An operand that this decoder does not pass on: the instruction is undefined here.
    Other,
}

/// A repeat prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rep {
    /// None.
    None,
    /// F3: REP, REPE.
    Equal,
    /// F2: REPNE.
    NotEqual,
}

/// A decoded instruction.
#[derive(Clone, Copy, Debug)]
pub struct Insn {
    /// What it does.
    pub mnemonic: Mnemonic,
    /// Bytes.
    pub len: u8,
    /// Operand size attribute in bytes: 2, 4 or 8 (the prefixes' word, not that of 64-bit default forms).
    pub operand_size: u8,
    /// Address size attribute in bytes: 2, 4 or 8.
    pub address_size: u8,
    /// The first repeat prefix's meaning.
    pub rep: Rep,
    /// LOCK.
    pub lock: bool,
    /// Operand count.
    pub count: u8,
    /// Operands in Intel order.
    pub operands: [Operand; 4],
    /// The memory operand.
    pub mem: Mem,
    /// Segment of a string instruction's source.
    pub string_segment: u8,
    /// Encoded with VEX.
    pub vex: bool,
    /// x87: the low three bits of the first opcode byte and the ModRM byte, as FOP records them; 0 otherwise.
    /// (Valid x87 encodings with an all-zero FOP exist: `D8 00`; bit 15 is set in every x87 instruction to tell.)
    pub x87_opcode: u16,
}

/// Why bytes are not an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// The bytes end inside the instruction; with [`MAX_LEN`] bytes given it is longer than the limit (#GP).
    Truncated,
    /// An undefined encoding (#UD).
    Invalid,
}

const NO_MEM: Mem = Mem { base: slot::ZERO, index: slot::ZERO, scale: 0, segment: 3, disp: 0, size: 0 };

/// Decodes the instruction at the start of `bytes` as a processor with `features` does.
///
/// # Errors
/// See [`DecodeError`]; an instruction of a feature that is missing is [`DecodeError::Invalid`].
pub fn decode(bytes: &[u8], size: CodeSize, features: Features) -> Result<Insn, DecodeError> {
    let bytes = &bytes[..bytes.len().min(MAX_LEN)];
    let mut decoder = Decoder::with_ip(size.bits(), bytes, 0, options(features));
    let mut raw = decoder.decode();
    if raw.code() == Code::Pause && bytes[raw.len() - 2] & 0xf1 == 0x41 && size == CodeSize::B64 {
        raw = exchange_with_r8(bytes, raw.len());
    }
    if raw.code() == Code::INVALID {
        return Err(match decoder.last_error() {
            DecoderError::NoMoreBytes => DecodeError::Truncated,
            _ if bytes.len() == MAX_LEN && goes_on(&bytes[1..], size) => DecodeError::Truncated,
            _ => DecodeError::Invalid,
        });
    }
    let hint = raw.mnemonic() == Mnemonic::Reservednop;
    if !hint && !features.has_all(Features::required(raw.code().cpuid_features())) {
        return Err(DecodeError::Invalid);
    }
    let prefixes = Prefixes::scan(&bytes[..raw.len()], size);
    let mut insn = Insn {
        mnemonic: raw.mnemonic(),
        len: raw.len() as u8,
        operand_size: prefixes.operand_size,
        address_size: prefixes.address_size,
        rep: prefixes.rep,
        lock: prefixes.lock,
        count: raw.op_count().min(4) as u8,
        operands: [Operand::Other; 4],
        mem: NO_MEM,
        string_segment: prefixes.segment.unwrap_or(3),
        vex: prefixes.vex,
        x87_opcode: prefixes.x87_opcode,
    };
    for i in 0..u32::from(insn.count) {
        insn.operands[i as usize] = operand(&raw, i);
    }
    if (0..raw.op_count()).any(|i| raw.op_kind(i) == OpKind::Memory) {
        insn.mem = memory(&raw, size);
    }
    Ok(insn)
}

/// With REX.B, 90h exchanges R8 and rAX, and F3h before it means nothing. The decoder takes it for PAUSE; with a prefix
/// that 64-bit code ignores in its place it does not.
fn exchange_with_r8(bytes: &[u8], len: usize) -> Instruction {
    let mut plain = [0; MAX_LEN];
    for (to, from) in plain.iter_mut().zip(&bytes[..len]) {
        *to = if *from == 0xf3 { 0x3e } else { *from };
    }
    Decoder::with_ip(64, &plain[..len], 0, DecoderOptions::NONE).decode()
}

/// Without their features LZCNT and TZCNT are BSR and BSF with a prefix that is ignored, and LAHF and SAHF do not exist
/// in 64-bit code. 0F0D and 0F18 to 0F1F are hints that may always be ignored: prefetches, CLDEMOTE, and ENDBR and RDSSP
/// as long as CET is off (Intel SDM vol. 2B, NOP).
fn options(features: Features) -> u32 {
    let unless = |feature, option| if features.has(feature) { DecoderOptions::NONE } else { option };
    DecoderOptions::FORCE_RESERVED_NOP
        | unless(Feature::Bmi1, DecoderOptions::NO_MPFX_0FBC)
        | unless(Feature::Lzcnt, DecoderOptions::NO_MPFX_0FBD)
        | unless(Feature::LahfLm, DecoderOptions::NO_LAHF_SAHF_64)
}

/// Whether an instruction does not end within `bytes`. The decoder calls one that goes on after its 15th byte invalid;
/// without its first prefix it is told apart from one that is.
fn goes_on(bytes: &[u8], size: CodeSize) -> bool {
    let mut decoder = Decoder::with_ip(size.bits(), bytes, 0, DecoderOptions::NONE);
    decoder.decode().code() == Code::INVALID && decoder.last_error() == DecoderError::NoMoreBytes
}

struct Prefixes {
    operand_size: u8,
    address_size: u8,
    rep: Rep,
    lock: bool,
    segment: Option<u8>,
    vex: bool,
    x87_opcode: u16,
}

impl Prefixes {
    /// Reads the prefixes of an instruction that has been found legal.
    fn scan(bytes: &[u8], size: CodeSize) -> Self {
        let long = size == CodeSize::B64;
        let mut p = Self {
            operand_size: 0,
            address_size: 0,
            rep: Rep::None,
            lock: false,
            segment: None,
            vex: false,
            x87_opcode: 0,
        };
        let (mut narrow, mut short, mut rex) = (false, false, 0);
        let mut rest = bytes.iter();
        for &byte in rest.by_ref() {
            match byte {
                0x66 => narrow = true,
                0x67 => short = true,
                0xf0 => p.lock = true,
                0xf2 => p.rep = Rep::NotEqual,
                0xf3 => p.rep = Rep::Equal,
                0x26 | 0x2e | 0x36 | 0x3e => p.segment = if long { p.segment } else { Some(byte >> 3 & 3) },
                0x64 | 0x65 => p.segment = Some(byte & 7),
                0x40..=0x4f if long => {
                    rex = byte;
                    continue;
                }
                opcode => {
                    // In 32-bit code C4 and C5 are LES and LDS unless the next byte would be a register form.
                    let register_form = rest.as_slice().first().is_some_and(|b| *b >= 0xc0);
                    if let (0xd8..=0xdf, Some(modrm)) = (opcode, rest.as_slice().first()) {
                        p.x87_opcode = 1 << 15 | u16::from(opcode & 7) << 8 | u16::from(*modrm);
                    }
                    p.vex = matches!(opcode, 0xc4 | 0xc5) && (long || register_form);
                    break;
                }
            }
            // REX counts only directly before the opcode: a legacy prefix after it cancels it.
            rex = 0;
        }
        p.operand_size = match (rex & 8 != 0, (size == CodeSize::B16) != narrow) {
            (true, _) => 8,
            (false, true) => 2,
            (false, false) => 4,
        };
        p.address_size = match (size, short) {
            (CodeSize::B64, false) => 8,
            (CodeSize::B64, true) | (CodeSize::B32, false) | (CodeSize::B16, true) => 4,
            (CodeSize::B32, true) | (CodeSize::B16, false) => 2,
        };
        p
    }
}

fn operand(raw: &Instruction, i: u32) -> Operand {
    match raw.op_kind(i) {
        OpKind::Register => register(raw.op_register(i)),
        OpKind::Memory => Operand::Mem,
        OpKind::NearBranch16 => Operand::Near(i64::from(raw.near_branch16() as i16)),
        OpKind::NearBranch32 => Operand::Near(i64::from(raw.near_branch32() as i32)),
        OpKind::NearBranch64 => Operand::Near(raw.near_branch64() as i64),
        OpKind::FarBranch16 => {
            Operand::Far { selector: raw.far_branch_selector(), offset: raw.far_branch16().into() }
        }
        OpKind::FarBranch32 => {
            Operand::Far { selector: raw.far_branch_selector(), offset: raw.far_branch32() }
        }
        OpKind::MemorySegSI
        | OpKind::MemorySegESI
        | OpKind::MemorySegRSI
        | OpKind::MemorySegDI
        | OpKind::MemorySegEDI
        | OpKind::MemorySegRDI
        | OpKind::MemoryESDI
        | OpKind::MemoryESEDI
        | OpKind::MemoryESRDI => Operand::Implied,
        _ => raw.try_immediate(i).map_or(Operand::Other, Operand::Imm),
    }
}

fn register(r: Register) -> Operand {
    let number = r.number() as u8;
    if r.is_gpr8() {
        // iced numbers AL..BL, AH..BH, SPL..: the high halves are 4..=7 without REX.
        return match r {
            Register::AH | Register::CH | Register::DH | Register::BH => {
                Operand::Gpr { reg: number & 3, size: 1, high: true }
            }
            _ => Operand::Gpr { reg: gpr8_number(r), size: 1, high: false },
        };
    }
    if r.is_gpr() {
        return Operand::Gpr { reg: number, size: r.size() as u8, high: false };
    }
    if r.is_segment_register() {
        return Operand::Seg(number);
    }
    if r.is_cr() {
        return Operand::Cr(number);
    }
    if r.is_dr() {
        return Operand::Dr(number);
    }
    if r.is_st() {
        return Operand::St(number);
    }
    if r.is_mm() {
        return Operand::Mm(number);
    }
    if r.is_xmm() && number < 16 {
        return Operand::Xmm(number);
    }
    if r.is_ymm() && number < 16 {
        return Operand::Ymm(number);
    }
    Operand::Other
}

fn gpr8_number(r: Register) -> u8 {
    (r.full_register() as u32 - Register::RAX as u32) as u8
}

/// The segment of a memory operand. 64-bit code ignores overrides other than FS and GS: what is left decides between
/// #SS and #GP for non-canonical addresses.
fn memory_segment(raw: &Instruction, size: CodeSize) -> u8 {
    let segment = raw.memory_segment().number() as u8;
    if size != CodeSize::B64 || segment >= 4 || raw.segment_prefix() == Register::None {
        return segment;
    }
    let stack = matches!(raw.memory_base(), Register::RSP | Register::RBP | Register::ESP | Register::EBP);
    if stack { 2 } else { 3 }
}

fn memory(raw: &Instruction, size: CodeSize) -> Mem {
    let rip_relative = raw.is_ip_rel_memory_operand();
    let (base, index) = (raw.memory_base(), raw.memory_index());
    Mem {
        base: if rip_relative { slot::BLOCK } else { register_slot(base) },
        index: register_slot(index),
        scale: raw.memory_index_scale().trailing_zeros() as u8,
        segment: memory_segment(raw, size),
        disp: displacement(raw, base),
        size: if raw.is_vsib() { index.size() } else { raw.memory_size().size() }.min(255) as u8,
    }
}

/// Displacements of short address sizes come zero-extended from the decoder; sign-extended they keep their meaning
/// under truncation and fit in 32 bits.
fn displacement(raw: &Instruction, base: Register) -> i64 {
    let disp = raw.memory_displacement64();
    if raw.is_ip_rel_memory_operand() {
        return if base == Register::EIP { i64::from(disp as i32) } else { disp as i64 };
    }
    disp as i64
}

fn register_slot(r: Register) -> u8 {
    if r == Register::None { slot::ZERO } else { r.number() as u8 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Features = Features::of(Feature::ALL);

    fn decode(bytes: &[u8], size: CodeSize) -> Result<Insn, DecodeError> {
        super::decode(bytes, size, ALL)
    }

    fn d64(bytes: &[u8]) -> Insn {
        decode(bytes, CodeSize::B64).expect("a legal instruction")
    }

    #[test]
    fn rip_relative_displacement_counts_from_the_start() {
        let i = d64(&[0x48, 0x8b, 0x05, 0x10, 0, 0, 0]);
        assert_eq!((i.mnemonic, i.len, i.mem.base, i.mem.disp), (Mnemonic::Mov, 7, slot::BLOCK, 0x17));
        let back = d64(&[0x48, 0x8b, 0x05, 0xf0, 0xff, 0xff, 0xff]);
        assert_eq!(back.mem.disp, -9);
    }

    #[test]
    fn branch_target_counts_from_the_start() {
        assert_eq!(d64(&[0xeb, 0xfe]).operands[0], Operand::Near(0));
        assert_eq!(decode(&[0x74, 0x80], CodeSize::B16).map(|i| i.operands[0]), Ok(Operand::Near(-126)));
    }

    #[test]
    fn byte_registers_tell_high_from_rex_low() {
        assert_eq!(d64(&[0x88, 0xe0]).operands[1], Operand::Gpr { reg: 0, size: 1, high: true });
        assert_eq!(d64(&[0x40, 0x88, 0xe0]).operands[1], Operand::Gpr { reg: 4, size: 1, high: false });
        assert_eq!(d64(&[0x44, 0x88, 0xe0]).operands[1], Operand::Gpr { reg: 12, size: 1, high: false });
    }

    #[test]
    fn operand_and_address_sizes_follow_prefixes() {
        let sizes = |b: &[u8], s| decode(b, s).map(|i| (i.operand_size, i.address_size));
        assert_eq!(sizes(&[0x89, 0x00], CodeSize::B16), Ok((2, 2)));
        assert_eq!(sizes(&[0x66, 0x67, 0x89, 0x00], CodeSize::B16), Ok((4, 4)));
        assert_eq!(sizes(&[0x66, 0x89, 0x00], CodeSize::B32), Ok((2, 4)));
        assert_eq!(sizes(&[0x66, 0x48, 0x89, 0x00], CodeSize::B64), Ok((8, 8)));
        assert_eq!(sizes(&[0x48, 0x66, 0x89, 0x00], CodeSize::B64), Ok((2, 8)));
    }

    #[test]
    fn undefined_and_truncated_bytes_are_told_apart() {
        assert_eq!(decode(&[0x0f, 0x04, 0xc0], CodeSize::B64).map(|i| i.len), Err(DecodeError::Invalid));
        assert_eq!(decode(&[0xf0, 0x90], CodeSize::B64).map(|i| i.len), Err(DecodeError::Invalid));
        assert_eq!(decode(&[0x48, 0x8b], CodeSize::B64).map(|i| i.len), Err(DecodeError::Truncated));
        for size in [CodeSize::B16, CodeSize::B32, CodeSize::B64] {
            assert_eq!(decode(&[0x66; 15], size).map(|i| i.len), Err(DecodeError::Truncated));
        }
        let mut undefined = [0x66; 15];
        undefined[12..].copy_from_slice(&[0x0f, 0x0b, 0x0b]);
        assert_eq!(decode(&undefined, CodeSize::B64).map(|i| i.mnemonic), Ok(Mnemonic::Ud2));
        undefined[13] = 0x04;
        assert_eq!(decode(&undefined, CodeSize::B64).map(|i| i.len), Err(DecodeError::Invalid));
    }

    #[test]
    fn instruction_of_a_missing_feature_is_undefined() {
        let crc32 = [0xf2, 0x0f, 0x38, 0xf1, 0xc1];
        assert!(decode(&crc32, CodeSize::B64).is_ok());
        let less = ALL.without(Features::of(&[Feature::Sse42]));
        assert_eq!(super::decode(&crc32, CodeSize::B64, less).map(|i| i.len), Err(DecodeError::Invalid));
    }

    #[test]
    fn pause_with_rex_b_is_an_exchange() {
        let of = |bytes: &[u8]| decode(bytes, CodeSize::B64).map(|i| (i.mnemonic, i.len));
        assert_eq!(of(&[0xf3, 0x90]), Ok((Mnemonic::Pause, 2)));
        assert_eq!(of(&[0xf3, 0x40, 0x90]), Ok((Mnemonic::Pause, 3)));
        assert_eq!(of(&[0xf3, 0x41, 0x90]), Ok((Mnemonic::Xchg, 3)));
        assert_eq!(of(&[0x41, 0xf3, 0x90]), Ok((Mnemonic::Pause, 3)));
    }

    #[test]
    fn tzcnt_without_its_feature_is_bsf() {
        let tzcnt = [0xf3, 0x0f, 0xbc, 0xc1];
        let less = ALL.without(Features::of(&[Feature::Bmi1]));
        assert_eq!(decode(&tzcnt, CodeSize::B64).map(|i| i.mnemonic), Ok(Mnemonic::Tzcnt));
        assert_eq!(super::decode(&tzcnt, CodeSize::B64, less).map(|i| i.mnemonic), Ok(Mnemonic::Bsf));
    }

    #[test]
    fn segment_override_reaches_memory_and_string_operands() {
        assert_eq!(d64(&[0x65, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0]).mem.segment, 5);
        assert_eq!(decode(&[0x26, 0xac], CodeSize::B32).map(|i| i.string_segment), Ok(0));
    }
}
