//! Rules for comparisons of integers.

use super::bits::smear;
use super::out::Out;
use crate::ir::{Binary, Inst, Type, Unary, Value};
use crate::operators::ones;

impl Out {
    /// `a op b`, neither of them a constant.
    pub fn compare(&mut self, op: Binary, a: Value, b: Value) -> Option<Value> {
        match (self.def(a), self.def(b)) {
            (Inst::Unary(Unary::ExtendU, x), Inst::Unary(Unary::ExtendU, y)) => {
                Some(self.binary(op.unsigned(), x, y))
            }
            // Extension of the sign keeps both orders.
            (Inst::Unary(Unary::ExtendS, x), Inst::Unary(Unary::ExtendS, y)) => Some(self.binary(op, x, y)),
            _ => None,
        }
    }

    /// `a op c`.
    pub fn compare_constant(&mut self, op: Binary, a: Value, c: u64) -> Option<Value> {
        if let Some(holds) = self.decided(op, a, c) {
            return Some(self.constant(Type::I32, holds.into()));
        }
        if let Some(value) = self.against_zero_or_one(op, a, c) {
            return Some(value);
        }
        match self.def(a) {
            Inst::Unary(Unary::ExtendU, x) if c <= ones(32) => Some(self.with_constant(op.unsigned(), x, c)),
            Inst::Binary(Binary::Add, x, n) if matches!(op, Binary::Eq | Binary::Ne) => {
                let rest = c.wrapping_sub(self.constant_of(n)?);
                Some(self.with_constant(op, x, rest))
            }
            _ => None,
        }
    }

    /// What follows from the bits that `a` may have.
    fn decided(&self, op: Binary, a: Value, c: u64) -> Option<bool> {
        use Binary::*;
        let (bits, top) = (self.bits(a), u32::from(self.ty(a).size()) * 8 - 1);
        let most = smear(bits);
        match op {
            Eq if c & !bits != 0 => Some(false),
            Ne if c & !bits != 0 => Some(true),
            LtU if c == 0 => Some(false),
            GeU if c == 0 => Some(true),
            LtU | LeU if most < c => Some(true),
            GtU | GeU if most < c => Some(false),
            LtS if c == 0 && bits >> top == 0 => Some(false),
            GeS if c == 0 && bits >> top == 0 => Some(true),
            _ => None,
        }
    }

    fn against_zero_or_one(&mut self, op: Binary, a: Value, c: u64) -> Option<Value> {
        use Binary::*;
        match (op, c) {
            (Eq | LeU, 0) | (LtU, 1) => Some(self.unary(Unary::Eqz, a)),
            (GtU, 0) | (GeU, 1) => Some(self.with_constant(Ne, a, 0)),
            (Ne, 0) => self.not_zero(a),
            (Eq, 1) if self.is_bool(a) => Some(a),
            (Ne, 1) if self.is_bool(a) => Some(self.unary(Unary::Eqz, a)),
            _ => None,
        }
    }

    fn not_zero(&mut self, a: Value) -> Option<Value> {
        match self.def(a) {
            _ if self.is_bool(a) => Some(a),
            Inst::Binary(Binary::Sub | Binary::Xor, x, y) => Some(self.binary(Binary::Ne, x, y)),
            Inst::Unary(Unary::ExtendU | Unary::ExtendS, x) => Some(self.with_constant(Binary::Ne, x, 0)),
            Inst::Unary(Unary::Wrap, x) if self.bits(x) >> 32 == 0 => {
                Some(self.with_constant(Binary::Ne, x, 0))
            }
            _ => None,
        }
    }
}

impl Binary {
    /// The comparison that holds when this one does not.
    pub(super) fn inverse(self) -> Self {
        use Binary::*;
        match self {
            Eq => Ne,
            Ne => Eq,
            LtS => GeS,
            LtU => GeU,
            LeS => GtS,
            LeU => GtU,
            GtS => LeS,
            GtU => LeU,
            GeS => LtS,
            GeU => LtU,
            other => other,
        }
    }

    /// The comparison of numbers without signs.
    fn unsigned(self) -> Self {
        use Binary::*;
        match self {
            LtS => LtU,
            LeS => LeU,
            GtS => GtU,
            GeS => GeU,
            other => other,
        }
    }
}
