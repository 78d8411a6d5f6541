//! SSE up to 4.2, on WebAssembly's vectors.
//!
//! An XMM register is a vector. Integer instructions are one operator or a few ([`integer`], [`shuffle`]). Floating point
//! is native arithmetic where that gives the interpreter's bits and flags: what may differ is found by looking at operands
//! and result, and left to the interpreter ([`number`]). What is not here at all the interpreter runs in its place.
//!
//! Two conditions are checked once for many instructions ([`needs`]): that the system lets SSE run, and that MXCSR has
//! nothing to learn from a rounded result.

mod arith;
mod convert;
mod exact;
pub(super) mod flow;
mod integer;
mod moves;
pub(super) mod needs;
mod number;
mod parts;
mod shuffle;

use super::Translator;
use crate::ir::{Binary, Inst, Type, Unary, Value, Var};
use crate::simd::{Op1, Op2, Shape};
use aero_x86::{Insn, Operand};
use needs::Needs;

impl Translator<'_> {
    pub(super) fn sse(&mut self, insn: &Insn) -> Option<()> {
        let operands = &insn.operands[..insn.count.into()];
        let ours = operands.iter().any(|o| matches!(o, Operand::Xmm(_)));
        if insn.vex || !ours || operands.iter().any(|o| matches!(o, Operand::Mm(_) | Operand::Ymm(_))) {
            return None;
        }
        self.needs(Needs::Sse);
        self.moves(insn)
            .or_else(|| self.packed_integers(insn))
            .or_else(|| self.vector_shift(insn))
            .or_else(|| self.shuffles(insn))
            .or_else(|| self.parts(insn))
            .or_else(|| self.arithmetic(insn))
            .or_else(|| self.conversion(insn))
    }
}

/// What vector code is built from.
impl Translator<'_> {
    fn v1(&mut self, op: Op1, a: Value) -> Value {
        self.un(Unary::Wasm(op), a)
    }

    fn v2(&mut self, op: Op2, a: Value, b: Value) -> Value {
        self.bin(Binary::Wasm(op), a, b)
    }

    fn shape1(&mut self, shape: Shape, a: Value) -> Value {
        self.emit(Inst::Vector(shape, [a; 3]))
    }

    fn shape2(&mut self, shape: Shape, a: Value, b: Value) -> Value {
        self.emit(Inst::Vector(shape, [a, b, b]))
    }

    /// `yes` where the mask has ones, else `no`.
    fn bitselect(&mut self, mask: Value, yes: Value, no: Value) -> Value {
        self.emit(Inst::Vector(Shape::Bitselect, [yes, no, mask]))
    }

    fn shuffle(&mut self, pattern: [u8; 16], a: Value, b: Value) -> Value {
        self.shape2(Shape::Shuffle(pattern), a, b)
    }

    fn zero(&mut self) -> Value {
        self.emit(Inst::ConstV(0, 0))
    }

    /// The same 64 bits twice.
    fn twice(&mut self, bits: u64) -> Value {
        self.emit(Inst::ConstV(bits, bits))
    }

    /// The same lane of so many bytes everywhere.
    fn everywhere(&mut self, bytes: u8, lane: u64) -> Value {
        let bits = u32::from(bytes) * 8;
        let lane = lane & (u64::MAX >> (64 - bits));
        self.twice((0..64 / bits).fold(0, |all, n| all | lane << (n * bits)))
    }

    fn xmm(&mut self, n: u8) -> Value {
        self.emit(Inst::Get(Var::Xmm(n)))
    }

    fn set_xmm(&mut self, n: u8, value: Value) {
        self.emit(Inst::Set(Var::Xmm(n), value));
        self.numbers_known[usize::from(n)] = 0;
        self.summary.written |= 1 << n;
    }

    /// The address of the memory operand of an instruction that wants it aligned to 16 bytes.
    fn aligned_address(&mut self, insn: &Insn) -> Option<Value> {
        let (address, ty) = (self.address(insn)?, self.word());
        let low = self.bin_int(Binary::And, ty, address, 15);
        let aligned = self.un(Unary::Eqz, low);
        self.emit(Inst::Guard(aligned));
        Some(address)
    }

    /// A vector from memory, zero above `size` bytes.
    fn load_vector(&mut self, address: Value, size: u8) -> Value {
        if size >= 4 {
            return self.emit(Inst::Load { address, size, signed: false, ty: Type::V128 });
        }
        let (value, zero) = (self.load(address, size), self.zero());
        self.shape2(Shape::Replace { bytes: 4, lane: 0 }, zero, value)
    }

    /// Operand `n`: all of a register, or `size` bytes of memory, aligned if they are 16.
    fn source(&mut self, insn: &Insn, n: usize, size: u8) -> Option<Value> {
        match insn.operands[n] {
            Operand::Xmm(reg) => Some(self.xmm(reg)),
            Operand::Mem if size == 16 => {
                let address = self.aligned_address(insn)?;
                Some(self.load_vector(address, 16))
            }
            Operand::Mem => {
                let address = self.address(insn)?;
                Some(self.load_vector(address, size))
            }
            _ => None,
        }
    }
}

/// The register that operand `n` is.
fn register(insn: &Insn, n: usize) -> Option<u8> {
    match insn.operands[n] {
        Operand::Xmm(reg) => Some(reg),
        _ => None,
    }
}

/// Both operands are the same register.
fn same(insn: &Insn) -> bool {
    insn.operands[0] == insn.operands[1]
}

/// The immediate that operand `n` is.
fn immediate(insn: &Insn, n: usize) -> Option<u8> {
    match insn.operands[n] {
        Operand::Imm(value) if n < insn.count.into() => Some(value as u8),
        _ => None,
    }
}

/// A pattern of bytes out of one of lanes of `bytes` bytes.
fn pattern(bytes: u8, lane: impl Fn(u8) -> u8) -> [u8; 16] {
    core::array::from_fn(|n| lane(n as u8 / bytes) * bytes + n as u8 % bytes)
}
