//! Shuffles, unpacking, blends, and extensions.

use super::{Translator, immediate, pattern, register};
use crate::ir::Value;
use crate::simd::{Op1, Op2, Shape};
use aero_x86::{Insn, Mnemonic as M};

/// Interleaves lanes of two operands, from the low or the high half.
fn unpack(bytes: u8, high: bool) -> [u8; 16] {
    let from = if high { 8 / bytes } else { 0 };
    pattern(bytes, |n| from + n / 2 + if n & 1 != 0 { 16 / bytes } else { 0 })
}

/// Field `n` of two bits.
fn field(imm: u8, n: u8) -> u8 {
    imm >> (2 * n) & 3
}

/// Lanes of the second operand where the immediate has ones, else of the first.
fn blend(bytes: u8, imm: u8) -> [u8; 16] {
    pattern(bytes, |n| n + if imm >> n & 1 != 0 { 16 / bytes } else { 0 })
}

impl Translator<'_> {
    pub(super) fn shuffles(&mut self, insn: &Insn) -> Option<()> {
        match insn.mnemonic {
            M::Punpcklbw => self.combine(insn, unpack(1, false)),
            M::Punpcklwd => self.combine(insn, unpack(2, false)),
            M::Punpckldq | M::Unpcklps => self.combine(insn, unpack(4, false)),
            M::Punpcklqdq | M::Unpcklpd => self.combine(insn, unpack(8, false)),
            M::Punpckhbw => self.combine(insn, unpack(1, true)),
            M::Punpckhwd => self.combine(insn, unpack(2, true)),
            M::Punpckhdq | M::Unpckhps => self.combine(insn, unpack(4, true)),
            M::Punpckhqdq | M::Unpckhpd => self.combine(insn, unpack(8, true)),
            M::Pshufb => self.binary(insn, Self::shuffle_bytes),
            M::Pblendvb => self.blend_by_sign(insn, Op2::I8x16GtS),
            M::Blendvps => self.blend_by_sign(insn, Op2::I32x4GtS),
            M::Blendvpd => self.blend_by_sign(insn, Op2::I64x2GtS),
            M::Pslldq | M::Psrldq => self.shift_bytes(insn, immediate(insn, 1)?),
            _ => self.by_immediate(insn).or_else(|| self.extension(insn)),
        }
    }

    fn by_immediate(&mut self, insn: &Insn) -> Option<()> {
        let imm = immediate(insn, 2)?;
        match insn.mnemonic {
            M::Pshufd => self.rearrange(insn, 16, pattern(4, |n| field(imm, n))),
            M::Pshuflw => self.rearrange(insn, 16, pattern(2, |n| if n < 4 { field(imm, n) } else { n })),
            M::Pshufhw => {
                self.rearrange(insn, 16, pattern(2, |n| if n < 4 { n } else { 4 + field(imm, n - 4) }))
            }
            M::Shufps => self.combine(insn, pattern(4, |n| field(imm, n) + if n < 2 { 0 } else { 4 })),
            M::Shufpd => self.combine(insn, [imm & 1, 2 + (imm >> 1 & 1)].lanes()),
            M::Blendps => self.combine(insn, blend(4, imm)),
            M::Blendpd => self.combine(insn, blend(8, imm)),
            M::Pblendw => self.combine(insn, blend(2, imm)),
            M::Palignr => self.align(insn, imm),
            _ => None,
        }
    }

    /// PSHUFB: bit 7 of an index makes a zero, bits 6:4 are ignored.
    fn shuffle_bytes(&mut self, a: Value, b: Value) -> Value {
        let bits = self.everywhere(1, 0x8f);
        let index = self.v2(Op2::V128And, b, bits);
        self.v2(Op2::I8x16Swizzle, a, index)
    }

    /// BLENDV: the mask's signs are in XMM0.
    fn blend_by_sign(&mut self, insn: &Insn, above: Op2) -> Option<()> {
        self.binary(insn, |t, a, b| {
            let (zero, mask) = (t.zero(), t.xmm(0));
            let negative = t.v2(above, zero, mask);
            t.bitselect(negative, b, a)
        })
    }

    /// PSLLDQ and PSRLDQ.
    fn shift_bytes(&mut self, insn: &Insn, by: u8) -> Option<()> {
        let (to, by) = (register(insn, 0)?, by.min(16));
        let (a, zero) = (self.xmm(to), self.zero());
        let value = if insn.mnemonic == M::Pslldq {
            self.shuffle(core::array::from_fn(|n| 16 - by + n as u8), zero, a)
        } else {
            self.shuffle(core::array::from_fn(|n| by + n as u8), a, zero)
        };
        self.set_xmm(to, value);
        Some(())
    }

    /// PALIGNR: bytes from `by` up of the second operand with the first above it.
    fn align(&mut self, insn: &Insn, by: u8) -> Option<()> {
        self.binary(insn, |t, a, b| match by {
            0..=16 => t.shuffle(core::array::from_fn(|n| by + n as u8), b, a),
            _ => {
                let (zero, by) = (t.zero(), (by - 16).min(16));
                t.shuffle(core::array::from_fn(|n| by + n as u8), a, zero)
            }
        })
    }

    /// PMOVSX and PMOVZX.
    fn extension(&mut self, insn: &Insn) -> Option<()> {
        use Op1::*;
        const BYTES: [Op1; 2] = [I16x8ExtendLowI8x16S, I16x8ExtendLowI8x16U];
        const WORDS: [Op1; 2] = [I32x4ExtendLowI16x8S, I32x4ExtendLowI16x8U];
        const DWORDS: [Op1; 2] = [I64x2ExtendLowI32x4S, I64x2ExtendLowI32x4U];
        let (size, unsigned, steps): (u8, usize, &[[Op1; 2]]) = match insn.mnemonic {
            M::Pmovsxbw => (8, 0, &[BYTES]),
            M::Pmovsxbd => (4, 0, &[BYTES, WORDS]),
            M::Pmovsxbq => (2, 0, &[BYTES, WORDS, DWORDS]),
            M::Pmovsxwd => (8, 0, &[WORDS]),
            M::Pmovsxwq => (4, 0, &[WORDS, DWORDS]),
            M::Pmovsxdq => (8, 0, &[DWORDS]),
            M::Pmovzxbw => (8, 1, &[BYTES]),
            M::Pmovzxbd => (4, 1, &[BYTES, WORDS]),
            M::Pmovzxbq => (2, 1, &[BYTES, WORDS, DWORDS]),
            M::Pmovzxwd => (8, 1, &[WORDS]),
            M::Pmovzxwq => (4, 1, &[WORDS, DWORDS]),
            M::Pmovzxdq => (8, 1, &[DWORDS]),
            _ => return None,
        };
        let to = register(insn, 0)?;
        let source = self.source(insn, 1, size)?;
        let value = steps.iter().fold(source, |value, step| self.v1(step[unsigned], value));
        self.set_xmm(to, value);
        Some(())
    }

    /// The lane of `bytes` bytes whose number is `lane`.
    pub(super) fn lane(&mut self, bytes: u8, lane: u8, of: Value) -> Value {
        self.shape1(Shape::Extract { bytes, lane }, of)
    }
}

/// Numbers of 8-byte lanes as a pattern.
trait Lanes {
    fn lanes(self) -> [u8; 16];
}

impl Lanes for [u8; 2] {
    fn lanes(self) -> [u8; 16] {
        pattern(8, |n| self[usize::from(n)])
    }
}
