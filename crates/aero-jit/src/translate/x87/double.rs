//! x87 instructions on doubles in variables.
//!
//! At 53 bits of precision, to nearest, the operations are those of doubles as long as results are normal doubles or exact
//! zeros; the registers' wider exponents make the difference beyond. An inexact result has been recorded before, or the
//! region is not entered so. C1 is left to whoever looks ([`aero_cpu::jit::x87::Last`]).
//!
//! A result just at the border of the normal numbers may have been rounded in another place than in a register, so
//! it is not taken either.

use super::plan::{self, Stack};
use crate::ir::{Binary, Inst, Type, Unary, Value, Var};
use crate::simd::{Op1, Op2};
use crate::translate::Translator;
use crate::x87::Arith;
use aero_cpu::fpu::{Fpu, spec};
use aero_cpu::jit::x87::{Last, stack};
use aero_x86::{Insn, Mnemonic as M, Operand};
use core::mem::offset_of;

/// Bits of the control word: rounding and precision, and which precision it must be.
const ROUNDING: u64 = 0xc00;
const PRECISION: u64 = 0x300;
const DOUBLE: u64 = 0x200;
/// All that matters.
const CONTROL: u64 = ROUNDING | PRECISION | spec::PE as u64;

/// A format: bits of a fraction, the largest exponent, and whether it is a double.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Single,
    Double,
}

/// What is known of the x87 at an instruction.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub stack: Stack,
    /// What C1 follows from, if the block has told.
    pub last: Option<Last>,
    /// The control word may say another rounding than to nearest, but only stores of integers come before the next.
    pub rounds: bool,
    /// The same of one that would be loaded by this instruction.
    pub may_round: bool,
}

impl Now {
    /// At the begin of a block.
    pub fn new(stack: Stack) -> Self {
        Self { stack, last: None, rounds: false, may_round: false }
    }
}

impl Format {
    fn bits(self) -> Type {
        if self == Self::Single { Type::I32 } else { Type::I64 }
    }

    /// Bits of the fraction, and the exponent of infinity.
    fn shape(self) -> (u64, u64) {
        if self == Self::Single { (23, 0xff) } else { (52, 0x7ff) }
    }
}

impl Translator<'_> {
    /// An x87 instruction with the x87 in variables; `None` if it has to be interpreted.
    pub(in crate::translate) fn x87_in_variables(&mut self, insn: &Insn) -> Option<()> {
        if insn.mem.segment >= aero_cpu::state::seg::FS && insn.operands.contains(&Operand::Mem) {
            return None;
        }
        let effect = plan::effect(insn)?;
        let stack = self.double?.stack;
        let is = |n: u8, full: bool| self.asked.is_full(&stack, stack.register(n)) == Some(full);
        if !effect.needs.into_iter().flatten().all(|n| is(n, true)) || effect.push && !is(7, false) {
            return None;
        }
        match (insn.mnemonic, insn.operands[0]) {
            (M::Fnstsw, Operand::Gpr { .. }) => return self.double_status(),
            (M::Fnstcw, _) => return self.x87_control(insn),
            (M::Fldcw, _) => return self.double_control(insn),
            _ => {}
        }
        self.double_load(insn)
            .or_else(|| self.double_store(insn))
            .or_else(|| self.double_move(insn))
            .or_else(|| self.double_arith(insn))
            .or_else(|| self.double_compare(insn))
    }

    fn register(&self, n: u8) -> Var {
        Var::Fp(self.double.map_or(0, |now| now.stack.register(n)))
    }

    fn st(&mut self, n: u8) -> Value {
        let var = self.register(n);
        self.emit(Inst::Get(var))
    }

    fn set_st(&mut self, n: u8, value: Value) {
        let var = self.register(n);
        self.emit(Inst::Set(var, value));
    }

    /// Ends an instruction: what it did to the stack, where it lies, and what C1 follows from.
    fn done(&mut self, insn: &Insn, operand: Option<Value>, last: Option<(Last, Value, Value)>) {
        let Some(mut now) = self.double else { return };
        let before = now.stack;
        now.stack.change(&plan::effect(insn).unwrap_or_default());
        if now.stack != before {
            let (known, full) = self.asked.all(&now.stack);
            let value = self.int(Type::I32, stack(now.stack.top, known, full).into());
            self.emit(Inst::Set(Var::FpStack, value));
        }
        if let Some((last, a, b)) = last {
            if !matches!(last, Last::Status | Last::Clear) {
                self.emit(Inst::Set(Var::FpA, a));
                self.emit(Inst::Set(Var::FpB, b));
            }
            now.last = Some(last);
        }
        self.double = Some(now);
        self.pointers(insn, operand);
    }

    /// The same where C1 is clear then.
    fn done_clear(&mut self, insn: &Insn, operand: Option<Value>) {
        let none = self.zero_double();
        self.done(insn, operand, Some((Last::Clear, none, none)));
    }

    fn zero_double(&mut self) -> Value {
        self.emit(Inst::Const(Type::F64, 0))
    }

    fn op1(&mut self, op: Op1, a: Value) -> Value {
        self.un(Unary::Wasm(op), a)
    }

    fn op2(&mut self, op: Op2, a: Value, b: Value) -> Value {
        self.bin(Binary::Wasm(op), a, b)
    }

    /// Whether a number, by its bits, has an exponent of at least `least` and is no infinity.
    fn has_exponent(&mut self, f: Format, bits: Value, least: u64) -> Value {
        let (fraction, infinity) = f.shape();
        let moved = self.bin_int(Binary::ShrU, f.bits(), bits, fraction);
        let moved = if f == Format::Double { self.un(Unary::Wrap, moved) } else { moved };
        let exp = self.bin_int(Binary::And, Type::I32, moved, infinity);
        let above = self.bin_int(Binary::Sub, Type::I32, exp, least);
        self.bin_int(Binary::LtU, Type::I32, above, infinity - least)
    }

    fn is_zero(&mut self, x: Value) -> Value {
        let zero = self.zero_double();
        self.op2(Op2::F64Eq, x, zero)
    }

    /// Leaves unless bits from memory are a normal number or zero; the number as a double.
    fn widened(&mut self, f: Format, bits: Value) -> Value {
        let normal = self.has_exponent(f, bits, 1);
        let rest = self.bin_int(Binary::Shl, f.bits(), bits, 1);
        let zero = self.un(Unary::Eqz, rest);
        self.emit(Inst::GuardEither(normal, zero));
        if f == Format::Double {
            return self.op1(Op1::F64ReinterpretI64, bits);
        }
        let single = self.op1(Op1::F32ReinterpretI32, bits);
        self.op1(Op1::F64PromoteF32, single)
    }

    /// The memory operand as a double, and its address.
    fn operand(&mut self, insn: &Insn, integer: bool) -> Option<(Value, Value)> {
        let size = insn.mem.size;
        let address = self.address(insn)?;
        let loaded = self.load(address, size);
        let value = match (integer, size) {
            (true, 8) => {
                // All integers to 2^53 are doubles.
                let moved = self.bin_int(Binary::Add, Type::I64, loaded, 1 << 53);
                let small = self.bin_int(Binary::LeU, Type::I64, moved, 1 << 54);
                self.emit(Inst::Guard(small));
                self.op1(Op1::F64ConvertI64S, loaded)
            }
            (true, _) => {
                let signed = self.signed(size, loaded);
                self.op1(Op1::F64ConvertI32S, signed)
            }
            (false, 4) => self.widened(Format::Single, loaded),
            (false, 8) => self.widened(Format::Double, loaded),
            _ => return None,
        };
        Some((value, address))
    }

    fn double_load(&mut self, insn: &Insn) -> Option<()> {
        let memory = insn.operands[0] == Operand::Mem;
        let (value, address) = match (insn.mnemonic, memory) {
            (M::Fld | M::Fild, true) => {
                let (value, address) = self.operand(insn, insn.mnemonic == M::Fild)?;
                (value, Some(address))
            }
            (M::Fld, false) => (self.st(super::stack(insn, usize::from(insn.count != 1))? as u8), None),
            (M::Fldz, _) => (self.zero_double(), None),
            (M::Fld1, _) => (self.emit(Inst::Const(Type::F64, super::ONE)), None),
            _ => return None,
        };
        self.set_st(7, value);
        self.done_clear(insn, address);
        Some(())
    }

    fn double_store(&mut self, insn: &Insn) -> Option<()> {
        let memory = insn.operands[0] == Operand::Mem;
        let x = match (insn.mnemonic, memory) {
            (M::Fst | M::Fstp, false) => {
                let x = self.st(0);
                self.set_st(super::stack(insn, 0)? as u8, x);
                self.done_clear(insn, None);
                return Some(());
            }
            (M::Fst | M::Fstp | M::Fist | M::Fistp | M::Fisttp, true) => self.st(0),
            _ => return None,
        };
        let size = insn.mem.size;
        let (value, last) = match (insn.mnemonic, size) {
            (M::Fst | M::Fstp, 8) => (self.op1(Op1::I64ReinterpretF64, x), Last::Clear),
            (M::Fst | M::Fstp, 4) => (self.narrowed(x), Last::Single),
            (M::Fisttp, _) => (self.whole(Op1::F64Trunc, size, x)?, Last::Clear),
            _ if self.double?.rounds => return self.double_rounded(insn, x),
            _ => (self.whole(Op1::F64Nearest, size, x)?, Last::Integer),
        };
        let address = self.address(insn)?;
        self.store(address, size, value);
        self.done(insn, Some(address), Some((last, x, x)));
        Some(())
    }

    /// FIST as the control word says: to nearest, or toward zero.
    fn double_rounded(&mut self, insn: &Insn, x: Value) -> Option<()> {
        let control = self.fpu(offset_of!(Fpu, control), 2);
        let rounding = self.bin_int(Binary::And, Type::I32, control, ROUNDING);
        let nearest = self.un(Unary::Eqz, rounding);
        let zero = self.bin_int(Binary::Eq, Type::I32, rounding, ROUNDING);
        self.emit(Inst::GuardEither(zero, nearest));
        let (down, up) = (self.op1(Op1::F64Trunc, x), self.op1(Op1::F64Nearest, x));
        let rounded = self.select(zero, down, up);
        let size = insn.mem.size;
        let value = self.whole(Op1::F64Trunc, size, rounded)?;
        let address = self.address(insn)?;
        self.store(address, size, value);
        // What is truncated has not been rounded up.
        let told = self.select(zero, down, x);
        self.done(insn, Some(address), Some((Last::Integer, told, told)));
        Some(())
    }

    /// FLDCW. The rest of the region relies on what the control word says, but for conversions to integers.
    fn double_control(&mut self, insn: &Insn) -> Option<()> {
        let mut now = self.double?;
        if !now.rounds && !now.may_round {
            return None;
        }
        let address = self.address(insn)?;
        let word = self.load(address, 2);
        let matters = if now.may_round { PRECISION | u64::from(spec::PE) } else { CONTROL };
        let bits = self.bin_int(Binary::And, Type::I32, word, matters);
        let same = self.bin_int(Binary::Eq, Type::I32, bits, DOUBLE | u64::from(spec::PE));
        self.emit(Inst::Guard(same));
        self.load_control(word);
        now.rounds = now.may_round;
        self.double = Some(now);
        Some(())
    }

    /// The bits of a single, if it is normal or was zero before.
    fn narrowed(&mut self, x: Value) -> Value {
        let single = self.op1(Op1::F32DemoteF64, x);
        let bits = self.op1(Op1::I32ReinterpretF32, single);
        let normal = self.has_exponent(Format::Single, bits, 2);
        let zero = self.is_zero(x);
        self.emit(Inst::GuardEither(normal, zero));
        bits
    }

    /// An integer of `size` bytes but for the most negative.
    fn whole(&mut self, round: Op1, size: u8, x: Value) -> Option<Value> {
        let rounded = self.op1(round, x);
        let magnitude = self.op1(Op1::F64Abs, rounded);
        let end = f64::from(2f32.powi(i32::from(size) * 8 - 1));
        let end = self.emit(Inst::Const(Type::F64, end.to_bits()));
        let fits = self.op2(Op2::F64Lt, magnitude, end);
        self.emit(Inst::Guard(fits));
        let convert = if size == 8 { Op1::I64TruncSatF64S } else { Op1::I32TruncSatF64S };
        Some(self.op1(convert, rounded))
    }

    fn double_move(&mut self, insn: &Insn) -> Option<()> {
        match insn.mnemonic {
            M::Fxch => {
                let n = super::exchanged(insn)? as u8;
                let (a, b) = (self.st(0), self.st(n));
                self.set_st(0, b);
                self.set_st(n, a);
                self.done_clear(insn, None);
            }
            M::Fchs | M::Fabs => {
                let x = self.st(0);
                let op = if insn.mnemonic == M::Fchs { Op1::F64Neg } else { Op1::F64Abs };
                let result = self.op1(op, x);
                self.set_st(0, result);
                self.done_clear(insn, None);
            }
            M::Fxam => {
                let x = self.st(0);
                let zero = self.is_zero(x);
                let bits = self.op1(Op1::I64ReinterpretF64, x);
                let sign = self.bin_int(Binary::ShrU, Type::I64, bits, 63);
                let sign = self.un(Unary::Wrap, sign);
                let c1 = self.bin_int(Binary::Shl, Type::I32, sign, spec::C1.trailing_zeros().into());
                let c3 = self.int(Type::I32, spec::C3.into());
                let c2 = self.int(Type::I32, spec::C2.into());
                let class = self.select(zero, c3, c2);
                let codes = self.bin(Binary::Or, class, c1);
                self.set_codes(codes);
                let none = self.zero_double();
                self.done(insn, None, Some((Last::Status, none, none)));
            }
            _ => {
                let condition = super::moved_if(insn)?;
                let n = super::stack(insn, 1)? as u8;
                let (a, b) = (self.st(0), self.st(n));
                let when = self.emit(Inst::Condition(condition));
                let result = self.select(when, b, a);
                self.set_st(0, result);
                self.done(insn, None, None);
            }
        }
        Some(())
    }

    /// Puts condition codes into the status word.
    fn set_codes(&mut self, codes: Value) {
        let at = offset_of!(Fpu, status);
        let status = self.fpu(at, 2);
        let kept = !u64::from(spec::C0 | spec::C1 | spec::C2 | spec::C3) & 0xffff;
        let kept = self.bin_int(Binary::And, Type::I32, status, kept);
        let word = self.bin(Binary::Or, kept, codes);
        self.set_fpu(at, 2, word);
    }

    fn double_arith(&mut self, insn: &Insn) -> Option<()> {
        if insn.mnemonic == M::Fsqrt {
            return self.double_root(insn);
        }
        let arith = super::arithmetic(insn)?;
        let (dst, a, b, address) = if insn.operands[0] == Operand::Mem {
            let (b, address) = self.operand(insn, super::is_integer(insn))?;
            (0, self.st(0), b, Some(address))
        } else {
            let (dst, src) = (super::stack(insn, 0)? as u8, super::stack(insn, 1)? as u8);
            (dst, self.st(dst), self.st(src), None)
        };
        let (a, b) = if matches!(arith, Arith::SubR | Arith::DivR) { (b, a) } else { (a, b) };
        let (op, last) = match arith {
            Arith::Add => (Op2::F64Add, Last::Add),
            Arith::Sub | Arith::SubR => (Op2::F64Sub, Last::Sub),
            Arith::Mul => (Op2::F64Mul, Last::Mul),
            Arith::Div | Arith::DivR => (Op2::F64Div, Last::Div),
        };
        let result = self.op2(op, a, b);
        let bits = self.op1(Op1::I64ReinterpretF64, result);
        let normal = self.has_exponent(Format::Double, bits, 2);
        let zero = match last {
            Last::Mul => {
                let (x, y) = (self.is_zero(a), self.is_zero(b));
                self.bin(Binary::Or, x, y)
            }
            Last::Div => {
                let (x, y) = (self.is_zero(a), self.is_zero(result));
                self.bin(Binary::And, x, y)
            }
            _ => self.is_zero(result),
        };
        self.emit(Inst::GuardEither(normal, zero));
        self.set_st(dst, result);
        self.done(insn, address, Some((last, a, b)));
        Some(())
    }

    fn double_root(&mut self, insn: &Insn) -> Option<()> {
        let x = self.st(0);
        let zero = self.zero_double();
        let positive = self.op2(Op2::F64Ge, x, zero);
        self.emit(Inst::Guard(positive));
        let root = self.op1(Op1::F64Sqrt, x);
        self.set_st(0, root);
        self.done(insn, None, Some((Last::Root, x, x)));
        Some(())
    }

    fn double_compare(&mut self, insn: &Insn) -> Option<()> {
        let (a, b, address) = match (insn.mnemonic, insn.operands[0]) {
            (M::Ftst, _) => (self.st(0), self.zero_double(), None),
            (_, Operand::Mem) => {
                super::comparison(insn)?;
                let (b, address) = self.operand(insn, false)?;
                (self.st(0), b, Some(address))
            }
            _ => {
                super::comparison(insn)?;
                (self.st(0), self.st(super::compared_with(insn) as u8), None)
            }
        };
        let (less, equal) = (self.op2(Op2::F64Lt, a, b), self.op2(Op2::F64Eq, a, b));
        if matches!(insn.mnemonic, M::Fcomi | M::Fcomip | M::Fucomi | M::Fucomip) {
            let (less, equal) = (self.widen(4, less), self.widen(4, equal));
            self.done(insn, None, None);
            self.emit(Inst::Flags { kind: aero_cpu::jit::FlagKind::ORDER, a: less, b: equal });
            return Some(());
        }
        let c0 = self.bin_int(Binary::Shl, Type::I32, less, spec::C0.trailing_zeros().into());
        let c3 = self.bin_int(Binary::Shl, Type::I32, equal, spec::C3.trailing_zeros().into());
        let codes = self.bin(Binary::Or, c0, c3);
        self.set_codes(codes);
        let none = self.zero_double();
        self.done(insn, address, Some((Last::Status, none, none)));
        Some(())
    }

    /// FNSTSW AX, where C1 is known.
    fn double_status(&mut self) -> Option<()> {
        let now = self.double?;
        let status = self.fpu(offset_of!(Fpu, status), 2);
        let status = match now.last? {
            Last::Status => status,
            Last::Clear => self.bin_int(Binary::And, Type::I32, status, u64::from(!spec::C1)),
            _ => return None,
        };
        let base = self.emit(Inst::Get(Var::FpBase));
        let top = self.bin_int(Binary::Add, Type::I32, base, now.stack.top.into());
        let top = self.bin_int(Binary::And, Type::I32, top, 7);
        let top = self.bin_int(Binary::Shl, Type::I32, top, spec::TOP_SHIFT.into());
        let word = self.bin(Binary::Or, status, top);
        self.write_register(0, 2, false, word);
        Some(())
    }
}
