//! The block that is written, and what is known of its values.

use super::{all, bits};
use crate::ir::{Binary, Inst, Type, Unary, Value};
use crate::operators::ones;
use crate::types;

/// Instructions so far.
pub struct Out {
    word: Type,
    insts: Vec<Inst>,
    known: Vec<Known>,
}

/// What is known of a value.
#[derive(Clone, Copy)]
struct Known {
    ty: Option<Type>,
    /// Bits that may be ones, of an integer.
    bits: u64,
}

impl Out {
    pub fn new(word: Type) -> Self {
        Self { word, insts: Vec::new(), known: Vec::new() }
    }

    /// The instructions that were written. The next block's come into `room`.
    pub fn take(&mut self, mut room: Vec<Inst>) -> Vec<Inst> {
        room.clear();
        self.known.clear();
        core::mem::replace(&mut self.insts, room)
    }

    /// Writes an instruction as it is; 0 if its value can be nothing else.
    pub fn push(&mut self, inst: Inst) -> Value {
        let ty = types::result(self.word, &inst, |v| Some(self.ty(v)));
        let bits = ty.map_or(0, |ty| bits::possible(self, &inst, ty));
        let inst = match ty {
            Some(ty @ (Type::I32 | Type::I64)) if bits == 0 && inst.is_pure() => Inst::Const(ty, 0),
            _ => inst,
        };
        self.insts.push(inst);
        self.known.push(Known { ty, bits });
        Value(self.insts.len() as u32 - 1)
    }

    pub fn constant(&mut self, ty: Type, bits: u64) -> Value {
        self.push(Inst::Const(ty, bits & all(ty)))
    }

    /// The instruction that makes a value.
    pub fn def(&self, value: Value) -> Inst {
        self.insts[value.0 as usize]
    }

    pub fn ty(&self, value: Value) -> Type {
        self.known[value.0 as usize].ty.unwrap_or(Type::I64)
    }

    /// Which bits of an integer may be ones.
    pub fn bits(&self, value: Value) -> u64 {
        self.known[value.0 as usize].bits
    }

    pub fn constant_of(&self, value: Value) -> Option<u64> {
        match self.def(value) {
            Inst::Const(_, bits) => Some(bits),
            _ => None,
        }
    }

    pub fn is_bool(&self, value: Value) -> bool {
        self.ty(value) == Type::I32 && self.bits(value) <= 1
    }

    /// A value with the same bits where `mask` has ones, of the same type.
    pub fn demanded(&self, mut value: Value, mask: u64) -> Value {
        while let Some(simpler) = self.demanded_once(value, mask) {
            value = simpler;
        }
        value
    }

    fn demanded_once(&self, value: Value, mask: u64) -> Option<Value> {
        // A carry comes from below.
        let below = bits::smear(mask);
        let nothing = |v: Value, mask: u64| self.bits(v) & mask == 0;
        match self.def(value) {
            Inst::Binary(Binary::And, x, c) if self.constant_of(c).is_some_and(|c| mask & !c == 0) => Some(x),
            Inst::Binary(Binary::Or | Binary::Xor, x, y) if nothing(y, mask) => Some(x),
            Inst::Binary(Binary::Or | Binary::Xor, x, y) if nothing(x, mask) => Some(y),
            Inst::Binary(Binary::Add | Binary::Sub, x, y) if nothing(y, below) => Some(x),
            Inst::Binary(Binary::Add, x, y) if nothing(x, below) => Some(y),
            Inst::Unary(Unary::Wrap, x) => match self.def(self.demanded(x, mask)) {
                Inst::Unary(Unary::ExtendU | Unary::ExtendS, narrow) => Some(narrow),
                _ => None,
            },
            Inst::Unary(Unary::ExtendU | Unary::ExtendS, x) if mask <= 0xffff_ffff => {
                match self.def(self.demanded(x, mask)) {
                    Inst::Unary(Unary::Wrap, wide) => Some(wide),
                    _ => None,
                }
            }
            Inst::Unary(Unary::Extend8S, x) if mask <= 0xff => Some(x),
            Inst::Unary(Unary::Extend16S, x) if mask <= 0xffff => Some(x),
            Inst::Unary(Unary::Extend32S, x) if mask <= 0xffff_ffff => Some(x),
            _ => None,
        }
    }

    /// A value with the same low bytes, perhaps of the other integer type.
    pub fn stored(&self, value: Value, size: u8) -> Value {
        if size > 8 || !matches!(self.ty(value), Type::I32 | Type::I64) {
            return value;
        }
        let value = self.demanded(value, ones(u32::from(size) * 8));
        match self.def(value) {
            Inst::Unary(Unary::Wrap | Unary::ExtendU | Unary::ExtendS, x) if size <= 4 => {
                self.stored(x, size)
            }
            _ => value,
        }
    }

    /// What is not 0 just when this I32 is not 0, or just when it is 0 if the second is true.
    pub fn truth(&self, mut value: Value) -> (Value, bool) {
        let mut inverse = false;
        loop {
            match self.def(value) {
                Inst::Unary(Unary::Eqz, x) if self.ty(x) == Type::I32 => (value, inverse) = (x, !inverse),
                Inst::Binary(Binary::Ne, x, zero)
                    if self.ty(x) == Type::I32 && self.constant_of(zero) == Some(0) =>
                {
                    value = x;
                }
                _ => return (value, inverse),
            }
        }
    }
}
