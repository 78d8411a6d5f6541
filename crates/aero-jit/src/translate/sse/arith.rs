//! Arithmetic, roots, least and greatest, comparisons, and rounding.

use super::needs::Needs;
use super::number::{Format, Range, Width};
use super::{Translator, immediate, register, same};
use crate::ir::{Binary, Inst, Type, Unary, Value};
use crate::simd::{Op1, Op2};
use Format::{F32, F64};
use Width::{Packed, Scalar};
use aero_x86::{Insn, Mnemonic as M};

/// An operation that rounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Add,
    Sub,
    Mul,
    Div,
}

impl Kind {
    fn operator(self, f: Format, width: Width) -> Op2 {
        use Kind::*;
        match (self, f, width) {
            (Add, F32, Scalar) => Op2::F32Add,
            (Add, F32, Packed) => Op2::F32x4Add,
            (Add, F64, Scalar) => Op2::F64Add,
            (Add, F64, Packed) => Op2::F64x2Add,
            (Sub, F32, Scalar) => Op2::F32Sub,
            (Sub, F32, Packed) => Op2::F32x4Sub,
            (Sub, F64, Scalar) => Op2::F64Sub,
            (Sub, F64, Packed) => Op2::F64x2Sub,
            (Mul, F32, Scalar) => Op2::F32Mul,
            (Mul, F32, Packed) => Op2::F32x4Mul,
            (Mul, F64, Scalar) => Op2::F64Mul,
            (Mul, F64, Packed) => Op2::F64x2Mul,
            (Div, F32, Scalar) => Op2::F32Div,
            (Div, F32, Packed) => Op2::F32x4Div,
            (Div, F64, Scalar) => Op2::F64Div,
            (Div, F64, Packed) => Op2::F64x2Div,
        }
    }
}

/// An operand: the register it is, if it is one, and its value.
#[derive(Clone, Copy)]
struct Number {
    reg: Option<u8>,
    vector: Value,
}

impl Translator<'_> {
    pub(super) fn arithmetic(&mut self, insn: &Insn) -> Option<()> {
        use Kind::*;
        match insn.mnemonic {
            M::Addss => self.scalar(insn, F32, Add),
            M::Addsd => self.scalar(insn, F64, Add),
            M::Addps => self.packed_numbers(insn, F32, Add),
            M::Addpd => self.packed_numbers(insn, F64, Add),
            M::Subss => self.scalar(insn, F32, Sub),
            M::Subsd => self.scalar(insn, F64, Sub),
            M::Subps => self.packed_numbers(insn, F32, Sub),
            M::Subpd => self.packed_numbers(insn, F64, Sub),
            M::Mulss => self.scalar(insn, F32, Mul),
            M::Mulsd => self.scalar(insn, F64, Mul),
            M::Mulps => self.packed_numbers(insn, F32, Mul),
            M::Mulpd => self.packed_numbers(insn, F64, Mul),
            M::Divss => self.scalar(insn, F32, Div),
            M::Divsd => self.scalar(insn, F64, Div),
            M::Divps => self.packed_numbers(insn, F32, Div),
            M::Divpd => self.packed_numbers(insn, F64, Div),
            M::Haddps => self.neighbour_sums(insn, F32, Add),
            M::Haddpd => self.neighbour_sums(insn, F64, Add),
            M::Hsubps => self.neighbour_sums(insn, F32, Sub),
            M::Hsubpd => self.neighbour_sums(insn, F64, Sub),
            M::Addsubps => self.alternate(insn, F32),
            M::Addsubpd => self.alternate(insn, F64),
            M::Sqrtss => self.root(insn, F32),
            M::Sqrtsd => self.root(insn, F64),
            M::Sqrtps => self.roots(insn, F32),
            M::Sqrtpd => self.roots(insn, F64),
            M::Comiss | M::Ucomiss => self.order(insn, F32),
            M::Comisd | M::Ucomisd => self.order(insn, F64),
            M::Roundss => self.round_scalar(insn, F32),
            M::Roundsd => self.round_scalar(insn, F64),
            M::Roundps => self.round_packed(insn, F32),
            M::Roundpd => self.round_packed(insn, F64),
            M::Rcpss => self.inverse(insn, false),
            M::Rsqrtss => self.inverse(insn, true),
            M::Rcpps => self.inverses(insn, false),
            M::Rsqrtps => self.inverses(insn, true),
            _ => self.choice(insn),
        }
    }

    /// MIN, MAX and CMP, which do not round.
    fn choice(&mut self, insn: &Insn) -> Option<()> {
        match insn.mnemonic {
            M::Minss => self.chosen(insn, F32, Scalar, Op2::F32x4PMin),
            M::Minsd => self.chosen(insn, F64, Scalar, Op2::F64x2PMin),
            M::Minps => self.chosen(insn, F32, Packed, Op2::F32x4PMin),
            M::Minpd => self.chosen(insn, F64, Packed, Op2::F64x2PMin),
            M::Maxss => self.chosen(insn, F32, Scalar, Op2::F32x4PMax),
            M::Maxsd => self.chosen(insn, F64, Scalar, Op2::F64x2PMax),
            M::Maxps => self.chosen(insn, F32, Packed, Op2::F32x4PMax),
            M::Maxpd => self.chosen(insn, F64, Packed, Op2::F64x2PMax),
            M::Cmpss => self.compared(insn, F32, Scalar),
            M::Cmpsd => self.compared(insn, F64, Scalar),
            M::Cmpps => self.compared(insn, F32, Packed),
            M::Cmppd => self.compared(insn, F64, Packed),
            _ => None,
        }
    }

    /// The destination's number and the source's.
    fn numbers(&mut self, insn: &Insn, size: u8) -> Option<(u8, Number, Number)> {
        let to = register(insn, 0)?;
        let vector = self.source(insn, 1, size)?;
        let b = Number { reg: register(insn, 1), vector };
        Some((to, Number { reg: Some(to), vector: self.xmm(to) }, b))
    }

    fn scalar(&mut self, insn: &Insn, f: Format, kind: Kind) -> Option<()> {
        self.needs(Needs::Native);
        let (to, a, b) = self.numbers(insn, f.bytes())?;
        let b = if same(insn) { a } else { b };
        let (x, y) = (self.float(f, a.vector), self.float(f, b.vector));
        let result = self.v2(kind.operator(f, Scalar), x, y);
        self.guard_not_denormal_low(f, a);
        if !same(insn) {
            self.guard_not_denormal_low(f, b);
        }
        let bits = self.bits_of(f, result);
        let unsigned = self.unsigned(f, bits);
        let normal = self.is_within(f, Range::Result, unsigned);
        let zero = self.un(Unary::Eqz, unsigned);
        let exact = self.exact_zero(f, kind, a, b, zero);
        self.guard_either(normal, exact);
        self.guard_exact(|t| t.is_exact(f, kind, (a.vector, x), (b.vector, y), result));
        let merged = self.with_float(f, a.vector, result);
        self.set_xmm(to, merged);
        self.learn(b.reg, f, Scalar);
        self.learn(Some(to), f, Scalar);
        Some(())
    }

    /// Whether a result is exact, of operands as vectors and as numbers.
    fn is_exact(&mut self, f: Format, kind: Kind, a: (Value, Value), b: (Value, Value), r: Value) -> Value {
        match kind {
            Kind::Add => self.exact_sum(f, a.1, b.1, r),
            Kind::Sub => self.exact_difference(f, a.1, b.1, r),
            Kind::Mul => {
                let (a, b) = (self.unsigned_low(f, a.0), self.unsigned_low(f, b.0));
                self.exact_product(f, a, b)
            }
            Kind::Div => {
                let of_b = self.unsigned_low(f, b.0);
                self.exact_quotient(f, a.1, b.1, of_b, r)
            }
        }
    }

    fn guard_not_denormal_low(&mut self, f: Format, number: Number) {
        if !self.is_known(number.reg, f, Scalar) {
            let unsigned = self.unsigned_low(f, number.vector);
            self.guard_not_denormal(f, unsigned);
            self.want(number.reg, f.known(Scalar));
        }
    }

    /// Whether a result that is zero is so exactly: a sum always, a product if a factor is zero.
    fn exact_zero(&mut self, f: Format, kind: Kind, a: Number, b: Number, zero: Value) -> Value {
        if matches!(kind, Kind::Add | Kind::Sub) {
            return zero;
        }
        let of = self.unsigned_low(f, a.vector);
        let mut operand = self.un(Unary::Eqz, of);
        if kind == Kind::Mul {
            let of = self.unsigned_low(f, b.vector);
            let other = self.un(Unary::Eqz, of);
            operand = self.bin(Binary::Or, operand, other);
        }
        self.bin(Binary::And, zero, operand)
    }

    fn packed_numbers(&mut self, insn: &Insn, f: Format, kind: Kind) -> Option<()> {
        let (to, a, b) = self.numbers(insn, 16)?;
        let b = if same(insn) { a } else { b };
        let result = self.v2(kind.operator(f, Packed), a.vector, b.vector);
        self.guard_results(f, kind, a, b, result);
        self.set_xmm(to, result);
        self.learn(b.reg, f, Packed);
        self.learn(Some(to), f, Packed);
        Some(())
    }

    /// Leaves unless `result` is what the interpreter's native way gives for the operands.
    fn guard_results(&mut self, f: Format, kind: Kind, a: Number, b: Number, result: Value) {
        self.needs(Needs::Native);
        let of_result = self.unsigned_lanes(f, result);
        let mut wrong = self.lanes_outside(f, Range::Result, of_result);
        let mut exact = self.zeros(f, of_result);
        let (of_a, of_b) = (self.unsigned_lanes(f, a.vector), self.unsigned_lanes(f, b.vector));
        if matches!(kind, Kind::Mul | Kind::Div) {
            let mut operand = self.zeros(f, of_a);
            if kind == Kind::Mul {
                let other = self.zeros(f, of_b);
                operand = self.v2(Op2::V128Or, operand, other);
            }
            exact = self.v2(Op2::V128And, exact, operand);
        }
        wrong = self.v2(Op2::V128AndNot, wrong, exact);
        for (number, unsigned) in [(a, of_a), (b, of_b)] {
            if !self.is_known(number.reg, f, Packed) {
                let denormal = self.denormal_lanes(f, unsigned);
                wrong = self.v2(Op2::V128Or, wrong, denormal);
                self.want(number.reg, f.known(Packed));
            }
        }
        self.guard_lanes(f, wrong, 16 / f.bytes());
        self.guard_exact(|t| match kind {
            Kind::Add => t.exact_sums(f, a.vector, b.vector, result),
            Kind::Sub => t.exact_differences(f, a.vector, b.vector, result),
            Kind::Mul => t.exact_products(f, a.vector, b.vector, result),
            Kind::Div => t.int(Type::I32, 0),
        });
    }

    /// HADD and HSUB.
    fn neighbour_sums(&mut self, insn: &Insn, f: Format, kind: Kind) -> Option<()> {
        let (to, a, b) = self.numbers(insn, 16)?;
        let pick = |odd: u8| super::pattern(f.bytes(), |n| 2 * n + odd);
        let even = self.shuffle(pick(0), a.vector, b.vector);
        let odd = self.shuffle(pick(1), a.vector, b.vector);
        let result = self.v2(kind.operator(f, Packed), even, odd);
        let number = |vector| Number { reg: None, vector };
        self.guard_results(f, kind, number(even), number(odd), result);
        self.set_xmm(to, result);
        self.learn(Some(to), f, Packed);
        Some(())
    }

    /// ADDSUB: subtracts in even lanes, adds in odd ones.
    fn alternate(&mut self, insn: &Insn, f: Format) -> Option<()> {
        let (to, a, b) = self.numbers(insn, 16)?;
        let sum = self.v2(Kind::Add.operator(f, Packed), a.vector, b.vector);
        let difference = self.v2(Kind::Sub.operator(f, Packed), a.vector, b.vector);
        let lanes = 16 / f.bytes();
        let odd = super::pattern(f.bytes(), |n| if n & 1 != 0 { n + lanes } else { n });
        let result = self.shuffle(odd, difference, sum);
        // A difference is the sum with what has its sign turned.
        let even = match f {
            F32 => Inst::ConstV(1 << 31, 1 << 31),
            F64 => Inst::ConstV(1 << 63, 0),
        };
        let even = self.emit(even);
        let turned = Number { vector: self.v2(Op2::V128Xor, b.vector, even), ..b };
        self.guard_results(f, Kind::Add, a, turned, result);
        self.set_xmm(to, result);
        self.learn(Some(to), f, Packed);
        Some(())
    }

    fn root(&mut self, insn: &Insn, f: Format) -> Option<()> {
        self.needs(Needs::Native);
        let (to, a, b) = self.numbers(insn, f.bytes())?;
        let bits = self.lane(f.bytes(), 0, b.vector);
        if self.is_known(b.reg, f, Scalar) {
            let fine = self.bin_int(Binary::GeS, f.bits(), bits, 0);
            self.emit(Inst::Guard(fine));
        } else {
            let (normal, infinity) = f.normal_and_infinity();
            let less = self.bin_int(Binary::Sub, f.bits(), bits, normal);
            let fine = self.bin_int(Binary::LeU, f.bits(), less, infinity - normal);
            let zero = self.un(Unary::Eqz, bits);
            self.guard_either(fine, zero);
        }
        let x = self.float(f, b.vector);
        let root = self.v1(if f == F32 { Op1::F32Sqrt } else { Op1::F64Sqrt }, x);
        self.guard_exact(|t| {
            let bits = t.bits_of(f, root);
            let unsigned = t.unsigned(f, bits);
            t.exact_quotient(f, x, root, unsigned, root)
        });
        let merged = self.with_float(f, a.vector, root);
        self.set_xmm(to, merged);
        self.learn(b.reg, f, Scalar);
        self.learn(Some(to), f, Scalar);
        Some(())
    }

    fn roots(&mut self, insn: &Insn, f: Format) -> Option<()> {
        self.needs(Needs::Native);
        let (to, _, b) = self.numbers(insn, 16)?;
        let wrong = if self.is_known(b.reg, f, Packed) {
            b.vector
        } else {
            let (normal, infinity) = f.normal_and_infinity();
            let wrong = self.outside(f, b.vector, normal, infinity - normal + 1);
            let zero = self.zeros(f, b.vector);
            self.v2(Op2::V128AndNot, wrong, zero)
        };
        self.guard_lanes(f, wrong, 16 / f.bytes());
        let root = self.v1(if f == F32 { Op1::F32x4Sqrt } else { Op1::F64x2Sqrt }, b.vector);
        self.guard_exact(|t| t.int(Type::I32, 0));
        self.set_xmm(to, root);
        self.learn(b.reg, f, Packed);
        self.learn(Some(to), f, Packed);
        Some(())
    }

    /// Leaves unless both operands are numbers of which a comparison says nothing but their order.
    fn guard_comparable(&mut self, f: Format, width: Width, a: Number, b: Number) {
        for number in [a, b] {
            match width {
                Scalar => self.guard_operand(f, number.reg, number.vector),
                Packed => self.guard_operands(f, number.reg, number.vector),
            }
        }
    }

    fn merged(&mut self, f: Format, width: Width, a: Number, result: Value) -> Value {
        if width == Packed { result } else { self.with_low(f.bytes(), a.vector, result) }
    }

    /// MIN and MAX: the second operand if both are equal, which is what these operators do with the operands exchanged.
    fn chosen(&mut self, insn: &Insn, f: Format, width: Width, op: Op2) -> Option<()> {
        let (to, a, b) = self.numbers(insn, if width == Packed { 16 } else { f.bytes() })?;
        self.guard_comparable(f, width, a, b);
        let result = self.v2(op, b.vector, a.vector);
        let result = self.merged(f, width, a, result);
        self.set_xmm(to, result);
        self.learn(Some(to), f, width);
        Some(())
    }

    /// CMP with one of eight predicates (Intel SDM vol. 2, CMPPD). Operands are no NaNs here.
    fn compared(&mut self, insn: &Insn, f: Format, width: Width) -> Option<()> {
        let predicate = immediate(insn, 2)? & 7;
        let (to, a, b) = self.numbers(insn, if width == Packed { 16 } else { f.bytes() })?;
        self.guard_comparable(f, width, a, b);
        let pick = |single, double| if f == F32 { single } else { double };
        let (x, y) = (a.vector, b.vector);
        let result = match predicate {
            0 => self.v2(pick(Op2::F32x4Eq, Op2::F64x2Eq), x, y),
            1 => self.v2(pick(Op2::F32x4Lt, Op2::F64x2Lt), x, y),
            2 => self.v2(pick(Op2::F32x4Le, Op2::F64x2Le), x, y),
            3 => self.zero(),
            4 => self.v2(pick(Op2::F32x4Ne, Op2::F64x2Ne), x, y),
            5 => self.v2(pick(Op2::F32x4Le, Op2::F64x2Le), y, x),
            6 => self.v2(pick(Op2::F32x4Lt, Op2::F64x2Lt), y, x),
            _ => self.twice(u64::MAX),
        };
        let result = self.merged(f, width, a, result);
        self.set_xmm(to, result);
        Some(())
    }

    /// COMIS and UCOMIS: CF if less, ZF if equal.
    fn order(&mut self, insn: &Insn, f: Format) -> Option<()> {
        let (_, a, b) = self.numbers(insn, f.bytes())?;
        self.guard_comparable(f, Scalar, a, b);
        let (x, y) = (self.float(f, a.vector), self.float(f, b.vector));
        let (less, equal) = if f == F32 { (Op2::F32Lt, Op2::F32Eq) } else { (Op2::F64Lt, Op2::F64Eq) };
        let (less, equal) = (self.v2(less, x, y), self.v2(equal, x, y));
        self.carry_and_zero(less, equal);
        Some(())
    }

    /// The operator of a rounding immediate. All but those that round to nearest have it from bits 1:0; bit 2 says MXCSR,
    /// which says nearest. Bit 3 keeps the loss of precision out of MXCSR.
    fn rounding(&mut self, imm: u8, nearest: Op1, down: Op1, up: Op1, zero: Op1) -> Op1 {
        if imm & 4 != 0 || imm & 8 == 0 {
            self.needs(Needs::Native);
        }
        match imm & 7 {
            1 => down,
            2 => up,
            3 => zero,
            _ => nearest,
        }
    }

    fn round_scalar(&mut self, insn: &Insn, f: Format) -> Option<()> {
        use Op1::*;
        let imm = immediate(insn, 2)?;
        let (to, a, b) = self.numbers(insn, f.bytes())?;
        let op = match f {
            F32 => self.rounding(imm, F32Nearest, F32Floor, F32Ceil, F32Trunc),
            F64 => self.rounding(imm, F64Nearest, F64Floor, F64Ceil, F64Trunc),
        };
        self.guard_operand(f, b.reg, b.vector);
        let x = self.float(f, b.vector);
        let rounded = self.v1(op, x);
        if imm & 8 == 0 {
            self.guard_exact(|t| t.v2(if f == F32 { Op2::F32Eq } else { Op2::F64Eq }, rounded, x));
        }
        let merged = self.with_float(f, a.vector, rounded);
        self.set_xmm(to, merged);
        self.learn(Some(to), f, Scalar);
        Some(())
    }

    fn round_packed(&mut self, insn: &Insn, f: Format) -> Option<()> {
        use Op1::*;
        let imm = immediate(insn, 2)?;
        let (to, _, b) = self.numbers(insn, 16)?;
        let op = match f {
            F32 => self.rounding(imm, F32x4Nearest, F32x4Floor, F32x4Ceil, F32x4Trunc),
            F64 => self.rounding(imm, F64x2Nearest, F64x2Floor, F64x2Ceil, F64x2Trunc),
        };
        self.guard_operands(f, b.reg, b.vector);
        let rounded = self.v1(op, b.vector);
        if imm & 8 == 0 {
            self.guard_exact(|t| t.all_equal(f, rounded, b.vector, 16 / f.bytes()));
        }
        self.set_xmm(to, rounded);
        self.learn(Some(to), f, Packed);
        Some(())
    }

    /// RCPSS and RSQRTSS, which the interpreter computes in double precision.
    fn inverse(&mut self, insn: &Insn, of_root: bool) -> Option<()> {
        let (to, a, b) = self.numbers(insn, 4)?;
        let bits = self.lane(4, 0, b.vector);
        let unsigned = self.unsigned(F32, bits);
        let fine = self.is_within(F32, Range::Inverse, unsigned);
        self.emit(Inst::Guard(fine));
        if of_root {
            let positive = self.bin_int(Binary::GeS, F32.bits(), bits, 0);
            self.emit(Inst::Guard(positive));
        }
        let x = self.float(F32, b.vector);
        let mut x = self.v1(Op1::F64PromoteF32, x);
        if of_root {
            x = self.v1(Op1::F64Sqrt, x);
        }
        let one = self.emit(Inst::Const(Type::F64, 1f64.to_bits()));
        let inverse = self.v2(Op2::F64Div, one, x);
        let inverse = self.v1(Op1::F32DemoteF64, inverse);
        let merged = self.with_float(F32, a.vector, inverse);
        self.set_xmm(to, merged);
        self.learn(Some(to), F32, Scalar);
        Some(())
    }

    fn inverses(&mut self, insn: &Insn, of_root: bool) -> Option<()> {
        let (to, _, b) = self.numbers(insn, 16)?;
        let unsigned = self.unsigned_lanes(F32, b.vector);
        let mut wrong = self.lanes_outside(F32, Range::Inverse, unsigned);
        if of_root {
            wrong = self.v2(Op2::V128Or, wrong, b.vector);
        }
        self.guard_lanes(F32, wrong, 4);
        let upper = self.shuffle(super::pattern(8, |_| 1), b.vector, b.vector);
        let [low, high] = [b.vector, upper].map(|half| {
            let mut x = self.v1(Op1::F64x2PromoteLowF32x4, half);
            if of_root {
                x = self.v1(Op1::F64x2Sqrt, x);
            }
            let one = self.twice(1f64.to_bits());
            let inverse = self.v2(Op2::F64x2Div, one, x);
            self.v1(Op1::F32x4DemoteF64x2Zero, inverse)
        });
        let result = self.shuffle(super::pattern(8, |n| 2 * n), low, high);
        self.set_xmm(to, result);
        self.learn(Some(to), F32, Packed);
        Some(())
    }
}
