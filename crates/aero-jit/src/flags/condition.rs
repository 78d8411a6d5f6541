//! Conditions become comparisons of what the flags follow from.

use super::{Rewrite, State, keeps_carry, map_end};
use crate::ir::{Binary, Inst, Region, Type, Unary, Value, Var};
use aero_cpu::jit::FlagKind;
use aero_cpu::state::{CpuState, Flags};
use core::mem::offset_of;

/// Lowers every condition, given what is known at the start of the blocks.
pub(super) fn run(region: &mut Region, known: &[State]) {
    let long = region.word == Type::I64;
    for (block, start) in region.blocks.iter_mut().zip(known) {
        let old = core::mem::take(&mut block.insts);
        let mut lower = Lower { to: Rewrite::new(old.len()), state: *start, long, main: None, carry: None };
        for mut inst in old {
            inst.map_uses(|v| lower.to.now(v));
            if let Inst::Condition(cc) = inst {
                let value = lower.condition(cc);
                lower.to.replace(value);
                continue;
            }
            lower.to.keep(inst);
            lower.note(&inst);
        }
        map_end(&mut block.end, |v| lower.to.now(v));
        block.insts = lower.to.insts;
    }
}

/// What flags follow from, at hand in this block.
#[derive(Clone, Copy)]
struct Source {
    kind: FlagKind,
    a: Value,
    b: Value,
}

struct Lower {
    to: Rewrite,
    state: State,
    long: bool,
    /// The operands behind the state's kind, if this block has them.
    main: Option<(Value, Value)>,
    /// The same for CF's kind.
    carry: Option<(Value, Value)>,
}

impl Lower {
    /// Follows an instruction that has been copied.
    fn note(&mut self, inst: &Inst) {
        let before = self.state;
        self.state = before.after(inst);
        match *inst {
            Inst::Flags { kind, a, b } => {
                if keeps_carry(kind) {
                    // CF goes on following from what it did: the same operands, under a name of their own.
                    if before.carry == Some(FlagKind::SAME) {
                        self.carry = self.main;
                    } else if before.carry.is_none() {
                        self.carry = None;
                    }
                } else {
                    self.carry = None;
                }
                self.main = Some((a, b));
            }
            Inst::FlagsIf { .. } => (self.main, self.carry) = (None, None),
            Inst::Carry(on) => self.carry = (before.carry != Some(FlagKind::BITS)).then_some((on, on)),
            Inst::CarryOverflow(bits) => self.carry = Some((bits, bits)),
            Inst::Settle => (self.main, self.carry) = (None, None),
            Inst::Exec { writes, .. } if writes.flags => (self.main, self.carry) = (None, None),
            _ => {}
        }
        if self.state.carry.is_none() {
            self.carry = None;
        }
    }

    fn bin(&mut self, op: Binary, a: Value, b: Value) -> Value {
        self.to.emit(Inst::Binary(op, a, b))
    }

    fn un(&mut self, op: Unary, a: Value) -> Value {
        self.to.emit(Inst::Unary(op, a))
    }

    fn int(&mut self, ty: Type, value: u64) -> Value {
        self.to.emit(Inst::Const(ty, value))
    }

    fn bin_int(&mut self, op: Binary, ty: Type, a: Value, n: u64) -> Value {
        let n = self.int(ty, n);
        self.bin(op, a, n)
    }

    fn not(&mut self, on: Value) -> Value {
        self.un(Unary::Eqz, on)
    }

    fn condition(&mut self, cc: u8) -> Value {
        if let Some(value) = self.comparison(cc) {
            return value;
        }
        // Whatever is not decided has been settled before.
        let on = self.composed(cc >> 1);
        debug_assert!(on.is_some(), "condition {cc} after {:?}", self.state);
        let on = on.unwrap_or_else(|| self.int(Type::I32, 0));
        if cc & 1 != 0 { self.not(on) } else { on }
    }

    /// What the flags other than CF (and OF) follow from.
    fn main(&mut self) -> Option<Source> {
        let kind = self.state.kind?;
        let (a, b) = match self.main {
            Some(operands) => operands,
            None => (self.to.emit(Inst::Get(Var::FlagA)), self.to.emit(Inst::Get(Var::FlagB))),
        };
        self.main = Some((a, b));
        Some(self.source(kind, a, b))
    }

    /// Operands in the operation's type.
    fn source(&mut self, kind: FlagKind, a: Value, b: Value) -> Source {
        let words = matches!(kind, FlagKind::MEMORY | FlagKind::WORDS | FlagKind::BIT | FlagKind::BITS);
        if !self.long || words || kind.size() == 8 {
            return Source { kind, a, b };
        }
        Source { kind, a: self.un(Unary::Wrap, a), b: self.un(Unary::Wrap, b) }
    }

    /// The conditions that one comparison decides.
    fn comparison(&mut self, cc: u8) -> Option<Value> {
        if self.state.carry? != FlagKind::SAME {
            return None;
        }
        let kind = self.state.kind?;
        let inverse = cc & 1 != 0;
        match (kind.operation(), cc >> 1) {
            (FlagKind::SUB, 1..=3) => {
                let s = self.main()?;
                let op = match (cc >> 1, inverse) {
                    (1, false) => Binary::LtU,
                    (1, true) => Binary::GeU,
                    (2, false) => Binary::Eq,
                    (2, true) => Binary::Ne,
                    (_, false) => Binary::LeU,
                    (_, true) => Binary::GtU,
                };
                Some(self.bin(op, s.a, s.b))
            }
            (FlagKind::SUB, 6 | 7) => {
                let s = self.main()?;
                let (a, b) = (self.signed(s, s.a), self.signed(s, s.b));
                let op = match (cc >> 1, inverse) {
                    (6, false) => Binary::LtS,
                    (6, true) => Binary::GeS,
                    (_, false) => Binary::LeS,
                    (_, true) => Binary::GtS,
                };
                Some(self.bin(op, a, b))
            }
            (FlagKind::LOGIC, 2..=7) if cc >> 1 != 5 => {
                let s = self.main()?;
                let ty = type_of(s.kind);
                let op = match (cc >> 1, inverse) {
                    (2 | 3, false) => return Some(self.not(s.a)),
                    (2 | 3, true) => Binary::Ne,
                    (4 | 6, false) => Binary::LtS,
                    (4 | 6, true) => Binary::GeS,
                    (_, false) => Binary::LeS,
                    (_, true) => Binary::GtS,
                };
                let a = self.signed(s, s.a);
                Some(self.bin_int(op, ty, a, 0))
            }
            _ => None,
        }
    }

    /// Condition pair `n` from single flags.
    fn composed(&mut self, n: u8) -> Option<Value> {
        match n {
            0 => self.overflow(),
            1 => self.carry(),
            2 => self.zero(),
            3 => {
                let (c, z) = (self.carry()?, self.zero()?);
                Some(self.bin(Binary::Or, c, z))
            }
            4 => self.sign(),
            5 => self.parity(),
            6 => self.less(),
            _ => {
                let (l, z) = (self.less()?, self.zero()?);
                Some(self.bin(Binary::Or, l, z))
            }
        }
    }

    fn less(&mut self) -> Option<Value> {
        let (s, o) = (self.sign()?, self.overflow()?);
        Some(self.bin(Binary::Xor, s, o))
    }

    fn signed(&mut self, s: Source, value: Value) -> Value {
        match s.kind.size() {
            1 => self.un(Unary::Extend8S, value),
            2 => self.un(Unary::Extend16S, value),
            _ => value,
        }
    }

    /// The result of the operation, zero-extended.
    fn result(&mut self, s: Source) -> Value {
        let (ty, size) = (type_of(s.kind), s.kind.size());
        let value = match s.kind.operation() {
            FlagKind::ADD => self.bin(Binary::Add, s.a, s.b),
            FlagKind::SUB => self.bin(Binary::Sub, s.a, s.b),
            FlagKind::SHL => self.bin(Binary::Shl, s.a, s.b),
            FlagKind::SHR => return self.bin(Binary::ShrU, s.a, s.b),
            FlagKind::SAR => {
                let a = self.signed(s, s.a);
                self.bin(Binary::ShrS, a, s.b)
            }
            FlagKind::IMUL | FlagKind::MUL => self.bin(Binary::Mul, s.a, s.b),
            _ => return s.a,
        };
        if size < 4 { self.bin_int(Binary::And, ty, value, (1 << (8 * u32::from(size))) - 1) } else { value }
    }

    /// The words of [`Flags`]: the result with its type, and the other as an I32.
    fn words(&mut self, s: Source) -> (Type, Value, Value) {
        if s.kind == FlagKind::WORDS {
            let aux = if self.long { self.un(Unary::Wrap, s.b) } else { s.b };
            return (if self.long { Type::I64 } else { Type::I32 }, s.a, aux);
        }
        let at = offset_of!(CpuState, flags);
        let result = (at + offset_of!(Flags, result)) as u32;
        let aux = (at + offset_of!(Flags, aux)) as u32;
        let result = self.to.emit(Inst::State { at: result, size: 8, ty: Type::I64 });
        (Type::I64, result, self.to.emit(Inst::State { at: aux, size: 4, ty: Type::I32 }))
    }

    fn zero(&mut self) -> Option<Value> {
        let s = self.main()?;
        let result = match s.kind.operation() {
            FlagKind::MEMORY | FlagKind::WORDS => self.words(s).1,
            FlagKind::SUB => return Some(self.bin(Binary::Eq, s.a, s.b)),
            FlagKind::ORDER => return Some(s.b),
            _ => self.result(s),
        };
        Some(self.not(result))
    }

    fn sign(&mut self) -> Option<Value> {
        let s = self.main()?;
        if s.kind == FlagKind::ORDER {
            return Some(self.int(Type::I32, 0));
        }
        if matches!(s.kind.operation(), FlagKind::MEMORY | FlagKind::WORDS) {
            let (ty, result, aux) = self.words(s);
            let negative = self.bin_int(Binary::LtS, ty, result, 0);
            let turned = self.bin_int(Binary::And, Type::I32, aux, 1);
            return Some(self.bin(Binary::Xor, negative, turned));
        }
        let result = self.result(s);
        let result = self.signed(s, result);
        Some(self.bin_int(Binary::LtS, type_of(s.kind), result, 0))
    }

    fn parity(&mut self) -> Option<Value> {
        let s = self.main()?;
        if s.kind == FlagKind::ORDER {
            return Some(self.int(Type::I32, 0));
        }
        let byte = if matches!(s.kind.operation(), FlagKind::MEMORY | FlagKind::WORDS) {
            let (ty, result, aux) = self.words(s);
            let low = if ty == Type::I64 { self.un(Unary::Wrap, result) } else { result };
            let turn = self.bin_int(Binary::ShrU, Type::I32, aux, 8);
            self.bin(Binary::Xor, low, turn)
        } else {
            let result = self.result(s);
            if type_of(s.kind) == Type::I64 { self.un(Unary::Wrap, result) } else { result }
        };
        let byte = self.bin_int(Binary::And, Type::I32, byte, 0xff);
        let ones = self.un(Unary::Popcnt, byte);
        let odd = self.bin_int(Binary::And, Type::I32, ones, 1);
        Some(self.not(odd))
    }

    fn carry(&mut self) -> Option<Value> {
        let kind = self.state.carry?;
        if kind == FlagKind::SAME {
            let s = self.main()?;
            return self.carry_of(s);
        }
        let (a, b) = self.carry_operands();
        if matches!(kind, FlagKind::BIT | FlagKind::BITS) {
            return Some(self.bit(a, 0));
        }
        let s = self.source(kind, a, b);
        self.carry_of(s)
    }

    fn carry_operands(&mut self) -> (Value, Value) {
        if let Some(operands) = self.carry {
            return operands;
        }
        let operands = (self.to.emit(Inst::Get(Var::CarryA)), self.to.emit(Inst::Get(Var::CarryB)));
        self.carry = Some(operands);
        operands
    }

    /// A bit of CF's description: an I32 in this block, a word in the variable.
    fn bit(&mut self, bits: Value, n: u64) -> Value {
        let is_word = matches!(self.to.insts[bits.0 as usize], Inst::Get(Var::CarryA));
        let bits = if self.long && is_word { self.un(Unary::Wrap, bits) } else { bits };
        let down = if n == 0 { bits } else { self.bin_int(Binary::ShrU, Type::I32, bits, n) };
        self.bin_int(Binary::And, Type::I32, down, 1)
    }

    fn carry_of(&mut self, s: Source) -> Option<Value> {
        let ty = type_of(s.kind);
        Some(match s.kind.operation() {
            FlagKind::ADD => {
                let r = self.result(s);
                self.bin(Binary::LtU, r, s.a)
            }
            FlagKind::SUB => self.bin(Binary::LtU, s.a, s.b),
            FlagKind::LOGIC => self.int(Type::I32, 0),
            FlagKind::ORDER => s.a,
            FlagKind::SHL if s.kind.size() < 4 => {
                let up = self.bin(Binary::Shl, s.a, s.b);
                let down = self.bin_int(Binary::ShrU, ty, up, 8 * u64::from(s.kind.size()));
                self.bin_int(Binary::And, ty, down, 1)
            }
            FlagKind::SHL => {
                let bits = self.int(ty, 8 * u64::from(s.kind.size()));
                let by = self.bin(Binary::Sub, bits, s.b);
                self.low_bit(ty, Binary::ShrU, s.a, by)
            }
            FlagKind::SHR | FlagKind::SAR => {
                let by = self.bin_int(Binary::Sub, ty, s.b, 1);
                let sar = s.kind.operation() == FlagKind::SAR;
                let a = if sar { self.signed(s, s.a) } else { s.a };
                self.low_bit(ty, if sar { Binary::ShrS } else { Binary::ShrU }, a, by)
            }
            FlagKind::MEMORY | FlagKind::WORDS => {
                let aux = self.words(s).2;
                self.bin_int(Binary::ShrU, Type::I32, aux, 31)
            }
            _ => return None,
        })
    }

    fn low_bit(&mut self, ty: Type, shift: Binary, a: Value, by: Value) -> Value {
        let down = self.bin(shift, a, by);
        let low = if ty == Type::I64 { self.un(Unary::Wrap, down) } else { down };
        self.bin_int(Binary::And, Type::I32, low, 1)
    }

    fn overflow(&mut self) -> Option<Value> {
        if self.state.carry? == FlagKind::BITS {
            let (bits, _) = self.carry_operands();
            return Some(self.bit(bits, 1));
        }
        let s = self.main()?;
        let ty = type_of(s.kind);
        Some(match s.kind.operation() {
            FlagKind::ADD | FlagKind::SUB => {
                let r = self.result(s);
                let first = self.bin(Binary::Xor, s.a, r);
                let second = if s.kind.operation() == FlagKind::ADD {
                    self.bin(Binary::Xor, s.b, r)
                } else {
                    self.bin(Binary::Xor, s.a, s.b)
                };
                let both = self.bin(Binary::And, first, second);
                let both = self.signed(s, both);
                self.bin_int(Binary::LtS, ty, both, 0)
            }
            FlagKind::LOGIC | FlagKind::SAR | FlagKind::ORDER => self.int(Type::I32, 0),
            FlagKind::INC | FlagKind::DEC => {
                let least = 1 << (8 * u32::from(s.kind.size()) - 1);
                let edge = if s.kind.operation() == FlagKind::INC { least } else { least - 1 };
                self.bin_int(Binary::Eq, ty, s.a, edge)
            }
            FlagKind::MEMORY | FlagKind::WORDS => {
                let aux = self.words(s).2;
                let up = self.bin_int(Binary::Shl, Type::I32, aux, 1);
                let differ = self.bin(Binary::Xor, aux, up);
                self.bin_int(Binary::ShrU, Type::I32, differ, 31)
            }
            _ => return None,
        })
    }
}

/// The type of the operands of a kind that has sizes.
fn type_of(kind: FlagKind) -> Type {
    if kind.size() == 8 { Type::I64 } else { Type::I32 }
}
