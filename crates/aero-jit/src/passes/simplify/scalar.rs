//! Rules for integers.

use super::all;
use super::bits::smear;
use super::out::Out;
use crate::ir::{Binary, Inst, Type, Unary, Value};
use crate::operators::{self, ones, signed};

impl Out {
    pub fn unary(&mut self, op: Unary, a: Value) -> Value {
        if let Some(value) = self.fold_unary(op, a) {
            return value;
        }
        let known = match op {
            Unary::Eqz => self.eqz(a),
            Unary::Wrap => self.wrap(a),
            Unary::ExtendU => self.extend_u(a),
            Unary::ExtendS => self.extend_s(a),
            Unary::Extend8S => self.sign(op, 8, a),
            Unary::Extend16S => self.sign(op, 16, a),
            Unary::Extend32S => self.sign(op, 32, a),
            Unary::Clz | Unary::Ctz | Unary::Popcnt => None,
            Unary::Wasm(op) => self.wasm1(op, a),
        };
        known.unwrap_or_else(|| self.push(Inst::Unary(op, a)))
    }

    fn fold_unary(&mut self, op: Unary, a: Value) -> Option<Value> {
        let (bits, ty) = (self.constant_of(a)?, self.ty(a));
        let result = match op {
            Unary::Wasm(_) => return None,
            Unary::Eqz | Unary::Wrap => Type::I32,
            Unary::ExtendS | Unary::ExtendU => Type::I64,
            _ => ty,
        };
        Some(self.constant(result, operators::unary(op, ty, bits.into()) as u64))
    }

    fn eqz(&mut self, a: Value) -> Option<Value> {
        match self.def(a) {
            Inst::Unary(Unary::Eqz, x) if self.is_bool(x) => Some(x),
            Inst::Unary(Unary::ExtendU | Unary::ExtendS, x) => Some(self.unary(Unary::Eqz, x)),
            Inst::Unary(Unary::Wrap, x) if self.is_short(x) => Some(self.unary(Unary::Eqz, x)),
            Inst::Binary(Binary::Sub | Binary::Xor, x, y) => Some(self.binary(Binary::Eq, x, y)),
            Inst::Binary(op, x, y) if op.compares() => Some(self.binary(op.inverse(), x, y)),
            _ => None,
        }
    }

    /// Whether the upper half is known to be 0.
    fn is_short(&self, value: Value) -> bool {
        self.bits(value) >> 32 == 0
    }

    fn wrap(&mut self, a: Value) -> Option<Value> {
        let low = self.demanded(a, ones(32));
        if low != a {
            return Some(self.unary(Unary::Wrap, low));
        }
        match self.def(a) {
            Inst::Unary(Unary::ExtendU | Unary::ExtendS, x) => Some(x),
            Inst::Binary(
                op @ (Binary::Add | Binary::Sub | Binary::Mul | Binary::And | Binary::Or | Binary::Xor),
                x,
                y,
            ) if self.is_narrow(x) && self.is_narrow(y) => {
                let (x, y) = (self.unary(Unary::Wrap, x), self.unary(Unary::Wrap, y));
                Some(self.binary(op, x, y))
            }
            Inst::Binary(op @ (Binary::Shl | Binary::ShrU), x, count) => self.wrap_shift(op, x, count),
            Inst::Select { when, yes, no } if self.is_narrow(yes) && self.is_narrow(no) => {
                let (yes, no) = (self.unary(Unary::Wrap, yes), self.unary(Unary::Wrap, no));
                Some(self.select(when, yes, no))
            }
            _ => None,
        }
    }

    /// Whether its low half costs nothing.
    fn is_narrow(&self, value: Value) -> bool {
        matches!(self.def(value), Inst::Const(..) | Inst::Unary(Unary::ExtendU | Unary::ExtendS, _))
    }

    fn wrap_shift(&mut self, op: Binary, x: Value, count: Value) -> Option<Value> {
        let count = self.constant_of(count).filter(|c| *c < 32)?;
        match self.def(x) {
            Inst::Unary(Unary::ExtendU, x) => Some(self.with_constant(op, x, count)),
            Inst::Unary(Unary::ExtendS, x) if op == Binary::Shl => Some(self.with_constant(op, x, count)),
            _ => None,
        }
    }

    fn extend_u(&mut self, a: Value) -> Option<Value> {
        match self.def(a) {
            Inst::Unary(Unary::Wrap, x) if self.is_short(x) => Some(x),
            _ => None,
        }
    }

    fn extend_s(&mut self, a: Value) -> Option<Value> {
        match self.def(a) {
            Inst::Unary(Unary::Wrap, x) => Some(self.unary(Unary::Extend32S, x)),
            _ if self.bits(a) >> 31 == 0 => Some(self.unary(Unary::ExtendU, a)),
            _ => None,
        }
    }

    /// Sign extension from so many bits in the same type.
    fn sign(&mut self, op: Unary, bits: u32, a: Value) -> Option<Value> {
        if self.bits(a) >> (bits - 1) == 0 {
            return Some(a);
        }
        let low = self.demanded(a, ones(bits));
        if low != a {
            return Some(self.unary(op, low));
        }
        match self.def(a) {
            Inst::Unary(Unary::Extend8S, _) => Some(a),
            Inst::Unary(Unary::Extend16S, _) if bits >= 16 => Some(a),
            Inst::Unary(Unary::ExtendS | Unary::ExtendU, x) if bits == 32 => {
                Some(self.unary(Unary::ExtendS, x))
            }
            _ => None,
        }
    }

    /// `a op n`, of `a`'s type.
    pub fn with_constant(&mut self, op: Binary, a: Value, n: u64) -> Value {
        let n = self.constant(self.ty(a), n);
        self.binary(op, a, n)
    }

    pub fn binary(&mut self, op: Binary, a: Value, b: Value) -> Value {
        let known = match (op, self.constant_of(a), self.constant_of(b)) {
            (Binary::Wasm(op), ..) => self.wasm2(op, a, b),
            (_, Some(x), Some(y)) => self.fold(op, a, x, y),
            (_, Some(_), None) => op.swapped().map(|op| self.binary(op, b, a)),
            (_, None, Some(c)) if op.compares() => self.compare_constant(op, a, c),
            (_, None, Some(c)) => self.constant_rule(op, a, c),
            (_, None, None) if a == b => self.same(op, a),
            (_, None, None) => self.variables(op, a, b),
        };
        known.unwrap_or_else(|| self.push(Inst::Binary(op, a, b)))
    }

    fn fold(&mut self, op: Binary, a: Value, x: u64, y: u64) -> Option<Value> {
        let ty = self.ty(a);
        let bits = operators::binary(op, ty, x.into(), y.into())?;
        Some(self.constant(if op.compares() { Type::I32 } else { ty }, bits as u64))
    }

    /// Of a value and itself.
    fn same(&mut self, op: Binary, a: Value) -> Option<Value> {
        use Binary::*;
        let ty = self.ty(a);
        match op {
            And | Or => Some(a),
            Sub | Xor => Some(self.constant(ty, 0)),
            Eq | LeS | LeU | GeS | GeU => Some(self.constant(Type::I32, 1)),
            Ne | LtS | LtU | GtS | GtU => Some(self.constant(Type::I32, 0)),
            _ => None,
        }
    }

    fn variables(&mut self, op: Binary, a: Value, b: Value) -> Option<Value> {
        use Binary::*;
        match op {
            Shl | ShrS | ShrU | Rotl | Rotr => {
                let count = self.demanded(b, u64::from(self.ty(a).size()) * 8 - 1);
                (count != b).then(|| self.binary(op, a, count))
            }
            op if op.compares() => self.compare(op, a, b),
            _ => None,
        }
    }

    /// `a op c`, not a comparison.
    fn constant_rule(&mut self, op: Binary, a: Value, c: u64) -> Option<Value> {
        use Binary::*;
        match op {
            Add => self.add(a, c),
            Sub => Some(self.with_constant(Add, a, c.wrapping_neg())),
            Mul => self.multiply(a, c),
            And => self.and(a, c),
            Or | Xor => self.or(op, a, c),
            Shl | ShrS | ShrU | Rotl | Rotr => self.shift(op, a, c),
            _ => self.divide(op, a, c),
        }
    }

    fn add(&mut self, a: Value, c: u64) -> Option<Value> {
        if c == 0 {
            return Some(a);
        }
        match self.def(a) {
            Inst::Binary(Binary::Add, x, n) => {
                let sum = self.constant_of(n)?.wrapping_add(c);
                Some(self.with_constant(Binary::Add, x, sum))
            }
            Inst::Rip(offset) => {
                let by = signed(c, u32::from(self.ty(a).size()) * 8);
                let sum = i64::from(offset).checked_add(by).and_then(|sum| i32::try_from(sum).ok())?;
                Some(self.push(Inst::Rip(sum)))
            }
            _ => None,
        }
    }

    fn multiply(&mut self, a: Value, c: u64) -> Option<Value> {
        match c {
            0 => Some(self.constant(self.ty(a), 0)),
            1 => Some(a),
            _ if c.is_power_of_two() => Some(self.with_constant(Binary::Shl, a, c.trailing_zeros().into())),
            _ => None,
        }
    }

    fn and(&mut self, a: Value, c: u64) -> Option<Value> {
        if self.bits(a) & !c == 0 {
            return Some(a);
        }
        let simpler = self.demanded(a, c);
        if simpler != a {
            return Some(self.with_constant(Binary::And, simpler, c));
        }
        match self.def(a) {
            Inst::Binary(Binary::And, x, n) => {
                let both = self.constant_of(n)? & c;
                Some(self.with_constant(Binary::And, x, both))
            }
            _ => None,
        }
    }

    fn or(&mut self, op: Binary, a: Value, c: u64) -> Option<Value> {
        match self.def(a) {
            _ if c == 0 => Some(a),
            _ if op == Binary::Or && self.bits(a) & !c == 0 => Some(self.constant(self.ty(a), c)),
            _ if op == Binary::Xor && c == 1 && self.is_bool(a) => Some(self.unary(Unary::Eqz, a)),
            Inst::Binary(inner, x, n) if inner == op => {
                let n = self.constant_of(n)?;
                Some(self.with_constant(op, x, if op == Binary::Or { n | c } else { n ^ c }))
            }
            _ => None,
        }
    }

    fn shift(&mut self, op: Binary, a: Value, c: u64) -> Option<Value> {
        let (ty, width) = (self.ty(a), u64::from(self.ty(a).size()) * 8);
        let count = c & (width - 1);
        match self.def(a) {
            _ if count == 0 => Some(a),
            _ if count != c => Some(self.with_constant(op, a, count)),
            _ if op == Binary::ShrS && self.bits(a) >> (width - 1) == 0 => {
                Some(self.with_constant(Binary::ShrU, a, count))
            }
            Inst::Binary(inner, x, n) => {
                let n = self.constant_of(n)? & (width - 1);
                self.shift_of_shift(op, inner, x, (n, count, ty))
            }
            _ => None,
        }
    }

    /// `(x inner n) op count`.
    fn shift_of_shift(
        &mut self,
        op: Binary,
        inner: Binary,
        x: Value,
        (n, count, ty): (u64, u64, Type),
    ) -> Option<Value> {
        use Binary::*;
        let width = u64::from(ty.size()) * 8;
        match (inner, op) {
            (Shl, Shl) | (ShrU, ShrU) if n + count >= width => Some(self.constant(ty, 0)),
            (Shl, Shl) | (ShrU, ShrU) => Some(self.with_constant(op, x, n + count)),
            (ShrS, ShrS) => Some(self.with_constant(op, x, (n + count).min(width - 1))),
            (Rotl, Rotl) | (Rotr, Rotr) => Some(self.with_constant(op, x, n + count)),
            (ShrU, Shl) if n == count => Some(self.with_constant(And, x, all(ty) << count)),
            (Shl, ShrU) if n == count => Some(self.with_constant(And, x, all(ty) >> count)),
            _ => None,
        }
    }

    fn divide(&mut self, op: Binary, a: Value, c: u64) -> Option<Value> {
        use Binary::*;
        match op {
            DivS | DivU if c == 1 => Some(a),
            RemS | RemU if c == 1 => Some(self.constant(self.ty(a), 0)),
            DivU if c.is_power_of_two() => Some(self.with_constant(ShrU, a, c.trailing_zeros().into())),
            RemU if c.is_power_of_two() => Some(self.with_constant(And, a, c - 1)),
            RemU if smear(self.bits(a)) < c => Some(a),
            _ => None,
        }
    }

    pub fn select(&mut self, when: Value, yes: Value, no: Value) -> Value {
        let (when, inverse) = self.truth(when);
        let (yes, no) = if inverse { (no, yes) } else { (yes, no) };
        let integer = self.ty(yes) == Type::I32;
        match (self.constant_of(when), self.constant_of(yes), self.constant_of(no)) {
            _ if yes == no => yes,
            (Some(0), ..) => no,
            (Some(_), ..) => yes,
            (_, Some(1), Some(0)) if integer && self.is_bool(when) => when,
            (_, Some(0), Some(1)) if integer => self.unary(Unary::Eqz, when),
            (_, Some(x), Some(y)) if x == y && integer => yes,
            _ => self.push(Inst::Select { when, yes, no }),
        }
    }
}

impl Binary {
    /// The operator that gives the same with the operands the other way round.
    fn swapped(self) -> Option<Self> {
        use Binary::*;
        match self {
            Add | Mul | And | Or | Xor | Eq | Ne => Some(self),
            LtS => Some(GtS),
            LtU => Some(GtU),
            LeS => Some(GeS),
            LeU => Some(GeU),
            GtS => Some(LtS),
            GtU => Some(LtU),
            GeS => Some(LeS),
            GeU => Some(LeU),
            _ => None,
        }
    }
}
