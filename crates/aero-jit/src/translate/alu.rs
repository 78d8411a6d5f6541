//! ADD, OR, ADC, SBB, AND, SUB, XOR, CMP, TEST, INC, DEC, NEG, NOT, and the carry flag.

use super::{Dest, Translator, mask, operand_size, type_of};
use crate::ir::{Binary, Inst, Type, Unary, Value};
use aero_cpu::jit::FlagKind;
use aero_x86::{Insn, Mnemonic, Operand};

/// Condition B: CF is set.
const BELOW: u8 = 2;

impl Translator<'_> {
    pub(super) fn alu(&mut self, insn: &Insn) -> Option<()> {
        use Mnemonic as M;
        match insn.mnemonic {
            M::Add => self.sum(insn, Binary::Add, FlagKind::ADD),
            M::Sub => self.sum(insn, Binary::Sub, FlagKind::SUB),
            M::And => self.logic(insn, Binary::And),
            M::Or => self.logic(insn, Binary::Or),
            M::Xor => self.logic(insn, Binary::Xor),
            M::Cmp => self.compare(insn),
            M::Test => self.test(insn),
            M::Adc => self.with_carry(insn, Binary::Add),
            M::Sbb => self.with_carry(insn, Binary::Sub),
            M::Inc => self.step(insn, Binary::Add, FlagKind::INC),
            M::Dec => self.step(insn, Binary::Sub, FlagKind::DEC),
            M::Neg => self.negate(insn),
            M::Not => self.invert(insn),
            M::Clc => self.set_carry(0),
            M::Stc => self.set_carry(1),
            M::Cmc => self.invert_carry(),
            _ => None,
        }
    }

    fn sum(&mut self, insn: &Insn, op: Binary, kind: FlagKind) -> Option<()> {
        let size = operand_size(insn, 0)?;
        if op == Binary::Sub && same_register(insn) {
            return self.clear(insn, size);
        }
        let (dest, a) = self.modify(insn, 0)?;
        let b = self.read_sized(insn, 1, size)?;
        let sum = self.bin(op, a, b);
        let result = self.clean(size, sum);
        self.flags(kind, size, a, b);
        self.write(dest, result);
        Some(())
    }

    fn logic(&mut self, insn: &Insn, op: Binary) -> Option<()> {
        let size = operand_size(insn, 0)?;
        if op == Binary::Xor && same_register(insn) {
            return self.clear(insn, size);
        }
        let (dest, a) = self.modify(insn, 0)?;
        let b = self.read_sized(insn, 1, size)?;
        let result = self.bin(op, a, b);
        self.logic_flags(size, result);
        self.write(dest, result);
        Some(())
    }

    /// A register with itself gives 0 whatever it holds.
    fn clear(&mut self, insn: &Insn, size: u8) -> Option<()> {
        let Operand::Gpr { reg, high, .. } = insn.operands[0] else { return None };
        let zero = self.int_of(size, 0);
        self.logic_flags(size, zero);
        self.write_register(reg, size, high, zero);
        Some(())
    }

    fn compare(&mut self, insn: &Insn) -> Option<()> {
        let size = operand_size(insn, 0)?;
        let a = self.read(insn, 0)?;
        let b = self.read_sized(insn, 1, size)?;
        self.flags(FlagKind::SUB, size, a, b);
        Some(())
    }

    fn test(&mut self, insn: &Insn) -> Option<()> {
        let size = operand_size(insn, 0)?;
        let a = self.read(insn, 0)?;
        let result = if same_register(insn) {
            a
        } else {
            let b = self.read_sized(insn, 1, size)?;
            self.bin(Binary::And, a, b)
        };
        self.logic_flags(size, result);
        Some(())
    }

    fn with_carry(&mut self, insn: &Insn, op: Binary) -> Option<()> {
        let size = operand_size(insn, 0)?;
        let (dest, a) = self.modify(insn, 0)?;
        let b = self.read_sized(insn, 1, size)?;
        let carry = self.emit(Inst::Condition(BELOW));
        let carry = if size == 8 { self.un(Unary::ExtendU, carry) } else { carry };
        let sum = self.bin(op, a, b);
        let sum = self.bin(op, sum, carry);
        let result = self.clean(size, sum);
        let carries = self.carries(op, size, a, b, result);
        self.word_flags(size, result, carries);
        self.write(dest, result);
        Some(())
    }

    /// The vector whose bit *n* is the carry (the borrow) out of bit *n*.
    fn carries(&mut self, op: Binary, size: u8, a: Value, b: Value, result: Value) -> Value {
        let ty = type_of(size);
        let (x, y) = match op {
            Binary::Add => (a, self.bin_int(Binary::Xor, ty, result, mask(size))),
            _ => (self.bin_int(Binary::Xor, ty, a, mask(size)), result),
        };
        let both = self.bin(Binary::And, x, b);
        let either = self.bin(Binary::Or, x, b);
        let lost = self.bin(Binary::And, either, y);
        self.bin(Binary::Or, both, lost)
    }

    /// Flags as [`aero_cpu::state::Flags`] has them, of a result and its carries.
    fn word_flags(&mut self, size: u8, result: Value, carries: Value) {
        let ty = type_of(size);
        let aux = match size {
            8 => {
                let top = self.bin_int(Binary::ShrU, ty, carries, 62);
                self.bin_int(Binary::Shl, ty, top, 30)
            }
            4 => self.bin_int(Binary::And, ty, carries, 0xc000_0000),
            _ => {
                let up = self.bin_int(Binary::Shl, ty, carries, 32 - 8 * u64::from(size));
                self.bin_int(Binary::And, ty, up, 0xc000_0000)
            }
        };
        let half = self.bin_int(Binary::And, ty, carries, 8);
        let aux = self.bin(Binary::Or, aux, half);
        self.flag_words(size, result, aux);
    }

    /// Flags in words: the result of `size` bytes, and the other word in its type.
    pub(super) fn flag_words(&mut self, size: u8, result: Value, aux: Value) {
        let result = self.signed(size, result);
        let result = if self.long && size < 8 { self.un(Unary::ExtendS, result) } else { result };
        let aux = self.widen(size, aux);
        self.emit(Inst::Flags { kind: FlagKind::WORDS, a: result, b: aux });
    }

    fn step(&mut self, insn: &Insn, op: Binary, kind: FlagKind) -> Option<()> {
        let size = operand_size(insn, 0)?;
        let (dest, a) = self.modify(insn, 0)?;
        let sum = self.bin_int(op, type_of(size), a, 1);
        let result = self.clean(size, sum);
        self.flags(kind, size, result, result);
        self.write(dest, result);
        Some(())
    }

    fn negate(&mut self, insn: &Insn) -> Option<()> {
        let size = operand_size(insn, 0)?;
        let (dest, a) = self.modify(insn, 0)?;
        let zero = self.int_of(size, 0);
        let difference = self.bin(Binary::Sub, zero, a);
        let result = self.clean(size, difference);
        self.flags(FlagKind::SUB, size, zero, a);
        self.write(dest, result);
        Some(())
    }

    fn invert(&mut self, insn: &Insn) -> Option<()> {
        let size = operand_size(insn, 0)?;
        let (dest, a) = self.modify(insn, 0)?;
        let result = self.bin_int(Binary::Xor, type_of(size), a, mask(size));
        self.write(dest, result);
        Some(())
    }

    fn set_carry(&mut self, on: u64) -> Option<()> {
        let on = self.int(Type::I32, on);
        self.emit(Inst::Carry(on));
        Some(())
    }

    fn invert_carry(&mut self) -> Option<()> {
        let carry = self.emit(Inst::Condition(BELOW));
        let not = self.un(Unary::Eqz, carry);
        self.emit(Inst::Carry(not));
        Some(())
    }
}

/// Whether both operands are one register.
fn same_register(insn: &Insn) -> bool {
    matches!(insn.operands[0], Operand::Gpr { .. }) && insn.operands[0] == insn.operands[1]
}

impl Dest {
    /// Whether it is memory.
    pub(super) fn is_memory(self) -> bool {
        matches!(self, Self::Place { .. })
    }
}
