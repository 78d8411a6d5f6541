//! Packed integers: arithmetic, logic, comparisons, shifts.

use super::{Translator, immediate, register, same};
use crate::ir::{Binary, Type, Unary, Value};
use crate::simd::{Op1, Op2, Shape, Way};
use aero_x86::{Insn, Mnemonic as M, Operand};

/// The operator that an instruction is.
fn operator(m: M) -> Option<Op2> {
    Some(match m {
        M::Paddb => Op2::I8x16Add,
        M::Paddw => Op2::I16x8Add,
        M::Paddd => Op2::I32x4Add,
        M::Paddq => Op2::I64x2Add,
        M::Psubb => Op2::I8x16Sub,
        M::Psubw => Op2::I16x8Sub,
        M::Psubd => Op2::I32x4Sub,
        M::Psubq => Op2::I64x2Sub,
        M::Paddsb => Op2::I8x16AddSatS,
        M::Paddsw => Op2::I16x8AddSatS,
        M::Paddusb => Op2::I8x16AddSatU,
        M::Paddusw => Op2::I16x8AddSatU,
        M::Psubsb => Op2::I8x16SubSatS,
        M::Psubsw => Op2::I16x8SubSatS,
        M::Psubusb => Op2::I8x16SubSatU,
        M::Psubusw => Op2::I16x8SubSatU,
        M::Pmullw => Op2::I16x8Mul,
        M::Pmulld => Op2::I32x4Mul,
        M::Pmaddwd => Op2::I32x4DotI16x8S,
        M::Pavgb => Op2::I8x16AvgrU,
        M::Pavgw => Op2::I16x8AvgrU,
        M::Pminub => Op2::I8x16MinU,
        M::Pmaxub => Op2::I8x16MaxU,
        M::Pminsb => Op2::I8x16MinS,
        M::Pmaxsb => Op2::I8x16MaxS,
        M::Pminuw => Op2::I16x8MinU,
        M::Pmaxuw => Op2::I16x8MaxU,
        M::Pminsw => Op2::I16x8MinS,
        M::Pmaxsw => Op2::I16x8MaxS,
        M::Pminud => Op2::I32x4MinU,
        M::Pmaxud => Op2::I32x4MaxU,
        M::Pminsd => Op2::I32x4MinS,
        M::Pmaxsd => Op2::I32x4MaxS,
        M::Pcmpeqb => Op2::I8x16Eq,
        M::Pcmpeqw => Op2::I16x8Eq,
        M::Pcmpeqd => Op2::I32x4Eq,
        M::Pcmpeqq => Op2::I64x2Eq,
        M::Pcmpgtb => Op2::I8x16GtS,
        M::Pcmpgtw => Op2::I16x8GtS,
        M::Pcmpgtd => Op2::I32x4GtS,
        M::Pcmpgtq => Op2::I64x2GtS,
        M::Packsswb => Op2::I8x16NarrowI16x8S,
        M::Packuswb => Op2::I8x16NarrowI16x8U,
        M::Packssdw => Op2::I16x8NarrowI32x4S,
        M::Packusdw => Op2::I16x8NarrowI32x4U,
        M::Pand | M::Andps | M::Andpd => Op2::V128And,
        M::Por | M::Orps | M::Orpd => Op2::V128Or,
        M::Pxor | M::Xorps | M::Xorpd => Op2::V128Xor,
        _ => return None,
    })
}

impl Translator<'_> {
    pub(super) fn packed_integers(&mut self, insn: &Insn) -> Option<()> {
        if let Some(op) = operator(insn.mnemonic) {
            return self.packed(insn, op);
        }
        match insn.mnemonic {
            // The complement is the first operand's here, the second's there.
            M::Pandn | M::Andnps | M::Andnpd => self.binary(insn, |t, a, b| t.v2(Op2::V128AndNot, b, a)),
            M::Pmulhw => self.binary(insn, |t, a, b| {
                t.high_words(Op2::I32x4ExtMulLowI16x8S, Op2::I32x4ExtMulHighI16x8S, a, b)
            }),
            M::Pmulhuw => self.binary(insn, |t, a, b| {
                t.high_words(Op2::I32x4ExtMulLowI16x8U, Op2::I32x4ExtMulHighI16x8U, a, b)
            }),
            M::Pmuludq => self.binary(insn, |t, a, b| t.even_products(Op2::I64x2ExtMulLowI32x4U, a, b)),
            M::Pmuldq => self.binary(insn, |t, a, b| t.even_products(Op2::I64x2ExtMulLowI32x4S, a, b)),
            M::Pmulhrsw => self.binary(insn, Self::rounded_products),
            M::Pmaddubsw => self.binary(insn, Self::byte_products),
            M::Psadbw => self.binary(insn, Self::differences),
            M::Psignb => {
                self.binary(insn, |t, a, b| t.sign(a, b, Op2::I8x16Sub, Op2::I8x16GtS, Op2::I8x16Eq))
            }
            M::Psignw => {
                self.binary(insn, |t, a, b| t.sign(a, b, Op2::I16x8Sub, Op2::I16x8GtS, Op2::I16x8Eq))
            }
            M::Psignd => {
                self.binary(insn, |t, a, b| t.sign(a, b, Op2::I32x4Sub, Op2::I32x4GtS, Op2::I32x4Eq))
            }
            M::Phaddw => self.binary(insn, |t, a, b| t.neighbours(2, Op2::I16x8Add, a, b)),
            M::Phaddsw => self.binary(insn, |t, a, b| t.neighbours(2, Op2::I16x8AddSatS, a, b)),
            M::Phaddd => self.binary(insn, |t, a, b| t.neighbours(4, Op2::I32x4Add, a, b)),
            M::Phsubw => self.binary(insn, |t, a, b| t.neighbours(2, Op2::I16x8Sub, a, b)),
            M::Phsubsw => self.binary(insn, |t, a, b| t.neighbours(2, Op2::I16x8SubSatS, a, b)),
            M::Phsubd => self.binary(insn, |t, a, b| t.neighbours(4, Op2::I32x4Sub, a, b)),
            M::Pabsb => self.unary(insn, Op1::I8x16Abs),
            M::Pabsw => self.unary(insn, Op1::I16x8Abs),
            M::Pabsd => self.unary(insn, Op1::I32x4Abs),
            _ => None,
        }
    }

    /// `first = f(first, second)`, the second a register or 16 bytes of memory.
    pub(super) fn binary(
        &mut self,
        insn: &Insn,
        f: impl FnOnce(&mut Self, Value, Value) -> Value,
    ) -> Option<()> {
        let to = register(insn, 0)?;
        let (b, a) = (self.source(insn, 1, 16)?, self.xmm(to));
        let value = f(self, a, b);
        self.set_xmm(to, value);
        Some(())
    }

    fn unary(&mut self, insn: &Insn, op: Op1) -> Option<()> {
        let to = register(insn, 0)?;
        let b = self.source(insn, 1, 16)?;
        let value = self.v1(op, b);
        self.set_xmm(to, value);
        Some(())
    }

    fn packed(&mut self, insn: &Insn, op: Op2) -> Option<()> {
        let clears =
            matches!(op, Op2::V128Xor | Op2::I8x16Sub | Op2::I16x8Sub | Op2::I32x4Sub | Op2::I64x2Sub);
        let fills = matches!(op, Op2::I8x16Eq | Op2::I16x8Eq | Op2::I32x4Eq | Op2::I64x2Eq);
        if same(insn) && (clears || fills) {
            let to = register(insn, 0)?;
            let value = self.twice(if fills { u64::MAX } else { 0 });
            self.set_xmm(to, value);
            self.numbers_known[usize::from(to)] = if clears { super::number::EVERYTHING } else { 0 };
            return Some(());
        }
        self.binary(insn, |t, a, b| t.v2(op, a, b))
    }

    /// The high words of eight products.
    fn high_words(&mut self, low: Op2, high: Op2, a: Value, b: Value) -> Value {
        let (low, high) = (self.v2(low, a, b), self.v2(high, a, b));
        self.shuffle(super::pattern(2, |n| 2 * n + 1), low, high)
    }

    /// Products of the even doublewords.
    fn even_products(&mut self, op: Op2, a: Value, b: Value) -> Value {
        let even = super::pattern(4, |n| n << 1 & 2);
        let (a, b) = (self.shuffle(even, a, a), self.shuffle(even, b, b));
        self.v2(op, a, b)
    }

    /// PMULHRSW. Only -1 squared saturates there and wraps here.
    fn rounded_products(&mut self, a: Value, b: Value) -> Value {
        let product = self.v2(Op2::I16x8Q15MulrSatS, a, b);
        let least = self.everywhere(2, 0x8000);
        let (a, b) = (self.v2(Op2::I16x8Eq, a, least), self.v2(Op2::I16x8Eq, b, least));
        let both = self.v2(Op2::V128And, a, b);
        self.v2(Op2::V128Xor, product, both)
    }

    /// PMADDUBSW: unsigned bytes of `a` times signed ones of `b`, neighbours added.
    fn byte_products(&mut self, a: Value, b: Value) -> Value {
        let low = self.everywhere(2, 0xff);
        let even = self.v2(Op2::V128And, a, low);
        let odd = self.shift_by(2, Way::Right, a, 8);
        let up = self.shift_by(2, Way::Left, b, 8);
        let b_even = self.shift_by(2, Way::RightSigned, up, 8);
        let b_odd = self.shift_by(2, Way::RightSigned, b, 8);
        let even = self.v2(Op2::I16x8Mul, even, b_even);
        let odd = self.v2(Op2::I16x8Mul, odd, b_odd);
        self.v2(Op2::I16x8AddSatS, even, odd)
    }

    /// PSADBW.
    fn differences(&mut self, a: Value, b: Value) -> Value {
        let (up, down) = (self.v2(Op2::I8x16SubSatU, a, b), self.v2(Op2::I8x16SubSatU, b, a));
        let apart = self.v2(Op2::V128Or, up, down);
        let pairs = self.v1(Op1::I16x8ExtAddPairwiseI8x16U, apart);
        let fours = self.v1(Op1::I32x4ExtAddPairwiseI16x8U, pairs);
        let high = self.shift_by(8, Way::Right, fours, 32);
        let sums = self.v2(Op2::I64x2Add, fours, high);
        let low = self.twice(0xffff_ffff);
        self.v2(Op2::V128And, sums, low)
    }

    /// PSIGN: minus where `b` is negative, zero where it is zero.
    fn sign(&mut self, a: Value, b: Value, sub: Op2, above: Op2, equal: Op2) -> Value {
        let zero = self.zero();
        let negative = self.v2(above, zero, b);
        let turned = self.v2(Op2::V128Xor, a, negative);
        let turned = self.v2(sub, turned, negative);
        let none = self.v2(equal, b, zero);
        self.v2(Op2::V128AndNot, turned, none)
    }

    /// Even lanes of `a` and `b` with odd ones.
    pub(super) fn neighbours(&mut self, bytes: u8, op: Op2, a: Value, b: Value) -> Value {
        let even = self.shuffle(super::pattern(bytes, |n| 2 * n), a, b);
        let odd = self.shuffle(super::pattern(bytes, |n| 2 * n + 1), a, b);
        self.v2(op, even, odd)
    }

    pub(super) fn shift_by(&mut self, bytes: u8, way: Way, a: Value, by: u8) -> Value {
        let by = self.int(Type::I32, by.into());
        self.shape2(Shape::Shift { bytes, way }, a, by)
    }

    pub(super) fn vector_shift(&mut self, insn: &Insn) -> Option<()> {
        let (bytes, way) = match insn.mnemonic {
            M::Psllw => (2, Way::Left),
            M::Pslld => (4, Way::Left),
            M::Psllq => (8, Way::Left),
            M::Psrlw => (2, Way::Right),
            M::Psrld => (4, Way::Right),
            M::Psrlq => (8, Way::Right),
            M::Psraw => (2, Way::RightSigned),
            M::Psrad => (4, Way::RightSigned),
            _ => return None,
        };
        let to = register(insn, 0)?;
        let value = match insn.operands[1] {
            Operand::Imm(_) => self.shift_by_immediate(bytes, way, to, immediate(insn, 1)?),
            _ => {
                let count = self.source(insn, 1, 16)?;
                self.shift_by_register(bytes, way, to, count)
            }
        };
        self.set_xmm(to, value);
        Some(())
    }

    fn shift_by_immediate(&mut self, bytes: u8, way: Way, to: u8, by: u8) -> Value {
        let bits = 8 * bytes;
        if by >= bits && way != Way::RightSigned {
            return self.zero();
        }
        let a = self.xmm(to);
        self.shift_by(bytes, way, a, by.min(bits - 1))
    }

    /// The count is the low 64 bits of a register, and is not taken modulo the lane.
    fn shift_by_register(&mut self, bytes: u8, way: Way, to: u8, count: Value) -> Value {
        let bits = 8 * u64::from(bytes);
        let a = self.xmm(to);
        let count = self.shape1(Shape::Extract { bytes: 8, lane: 0 }, count);
        let within = self.bin_int(Binary::LtU, Type::I64, count, bits);
        let by = self.un(Unary::Wrap, count);
        if way == Way::RightSigned {
            let most = self.int(Type::I32, bits - 1);
            let by = self.select(within, by, most);
            return self.shape2(Shape::Shift { bytes, way }, a, by);
        }
        let shifted = self.shape2(Shape::Shift { bytes, way }, a, by);
        let zero = self.zero();
        self.select(within, shifted, zero)
    }
}
