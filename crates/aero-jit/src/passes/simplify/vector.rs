//! Rules for vectors, and for floating point as far as it is bits: numbers are computed at run time only.

use super::out::Out;
use crate::ir::{Binary, Inst, Unary, Value};
use crate::operators::{self, ones};
use crate::simd::{Op1, Op2, Shape};
use crate::types;

impl Out {
    pub fn wasm1(&mut self, op: Op1, a: Value) -> Option<Value> {
        use Op1::*;
        let Inst::Unary(Unary::Wasm(inner), x) = self.def(a) else { return None };
        let undone = matches!(
            (op, inner),
            (V128Not, V128Not)
                | (I32ReinterpretF32, F32ReinterpretI32)
                | (F32ReinterpretI32, I32ReinterpretF32)
                | (I64ReinterpretF64, F64ReinterpretI64)
                | (F64ReinterpretI64, I64ReinterpretF64)
        );
        undone.then_some(x)
    }

    pub fn wasm2(&mut self, op: Op2, a: Value, b: Value) -> Option<Value> {
        match op {
            Op2::V128And | Op2::V128Or if a == b => Some(a),
            // The idioms that clear a register.
            Op2::V128Xor
            | Op2::V128AndNot
            | Op2::I8x16Sub
            | Op2::I16x8Sub
            | Op2::I32x4Sub
            | Op2::I64x2Sub
                if a == b =>
            {
                Some(self.push(Inst::ConstV(0, 0)))
            }
            _ => None,
        }
    }

    pub fn vector(&mut self, shape: Shape, of: [Value; 3]) -> Value {
        let known = match shape {
            Shape::Extract { bytes, lane } => self.extract(bytes, lane, of[0]),
            _ => None,
        };
        known.unwrap_or_else(|| self.push(Inst::Vector(shape, of)))
    }

    fn extract(&mut self, bytes: u8, lane: u8, from: Value) -> Option<Value> {
        let shape = Shape::Extract { bytes, lane };
        match self.def(from) {
            Inst::ConstV(low, high) => {
                let bits = operators::vector(shape, [u128::from(high) << 64 | u128::from(low), 0, 0]);
                Some(self.constant(types::lane(bytes), bits as u64))
            }
            Inst::Vector(Shape::Replace { bytes: size, lane: at }, [x, value, _]) if size == bytes => {
                if at == lane {
                    return Some(self.with_constant(Binary::And, value, ones(u32::from(bytes) * 8)));
                }
                Some(self.vector(shape, [x; 3]))
            }
            Inst::Unary(Unary::Wasm(splat), value) if lane_of(splat) == Some(bytes) => {
                Some(self.with_constant(Binary::And, value, ones(u32::from(bytes) * 8)))
            }
            _ => None,
        }
    }
}

/// Bytes of the integer that a splat copies.
fn lane_of(splat: Op1) -> Option<u8> {
    match splat {
        Op1::I8x16Splat => Some(1),
        Op1::I16x8Splat => Some(2),
        Op1::I32x4Splat => Some(4),
        Op1::I64x2Splat => Some(8),
        _ => None,
    }
}
