//! PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM: comparisons of strings in registers.
//!
//! [`compare`] goes the manual's way (Intel SDM vol. 2, 4.1): how many elements are valid, what every pair of
//! elements compares to (with the answers for invalid ones), one bit per element of the second string, polarity.
//! The instructions differ in where lengths come from (EAX and EDX, or the first zero) and in what they make of the
//! bits (an index in ECX, or a mask in XMM0).

use super::integer::{bytes, from_bytes};
use super::vector::{LEGACY, Lane, Pack, VEX128};
use crate::op::{Any, Ea, Op, Run};
use crate::state::{eflags, reg};
use crate::vcpu::{Stop, Vcpu};
use aero_x86::{Insn, Mnemonic as M, Operand};

/// Fields of imm8.
mod spec {
    /// Elements are words.
    pub const WORDS: u8 = 1 << 0;
    /// Elements are signed.
    pub const SIGNED: u8 = 1 << 1;
    /// The result is inverted.
    pub const NEGATIVE: u8 = 1 << 4;
    /// The inversion spares elements past the second string's end.
    pub const MASKED: u8 = 1 << 5;
    /// The index is the last's, the mask is of elements.
    pub const MOST: u8 = 1 << 6;
}
use spec::{MASKED, MOST, NEGATIVE, SIGNED, WORDS};

/// How many elements a register has.
fn elements(imm: u8) -> usize {
    if imm & WORDS != 0 { 8 } else { 16 }
}

/// Element `i`, sign-extended if imm8 says so.
fn element(v: &[u8; 16], i: usize, imm: u8) -> i32 {
    match (imm & WORDS != 0, imm & SIGNED != 0) {
        (false, false) => v[i].into(),
        (false, true) => (v[i] as i8).into(),
        (true, false) => u16::from_le_bytes([v[2 * i], v[2 * i + 1]]).into(),
        (true, true) => i16::from_le_bytes([v[2 * i], v[2 * i + 1]]).into(),
    }
}

/// The length up to the first zero element.
fn implicit_length(v: Lane, imm: u8) -> usize {
    let all = bytes(v);
    let count = elements(imm);
    (0..count).find(|i| element(&all, *i, imm) == 0).unwrap_or(count)
}

/// A length from a register: its magnitude, at most all elements.
fn explicit_length(value: i64, imm: u8) -> usize {
    value.unsigned_abs().min(elements(imm) as u64) as usize
}

/// Two strings and how to compare them.
struct Strings {
    a: [u8; 16],
    b: [u8; 16],
    len_a: usize,
    len_b: usize,
    imm: u8,
}

/// What a comparison found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// One bit per element of the second string.
    pub bits: u32,
    /// The arithmetic flags.
    pub flags: u64,
}

impl Strings {
    fn at_a(&self, i: usize) -> i32 {
        element(&self.a, i, self.imm)
    }

    fn at_b(&self, i: usize) -> i32 {
        element(&self.b, i, self.imm)
    }

    /// Equal any: element `j` of the second string is one of the first.
    fn any(&self, j: usize) -> bool {
        j < self.len_b && (0..self.len_a).any(|i| self.at_a(i) == self.at_b(j))
    }

    /// Ranges: it lies between two neighbours of the first.
    fn ranges(&self, j: usize) -> bool {
        let inside = |i: usize| self.at_a(i) <= self.at_b(j) && self.at_b(j) <= self.at_a(i + 1);
        j < self.len_b && (0..self.len_a / 2).any(|i| inside(2 * i))
    }

    /// Equal each: the same in both; past both ends counts as the same.
    fn each(&self, j: usize) -> bool {
        match (j < self.len_a, j < self.len_b) {
            (true, true) => self.at_a(j) == self.at_b(j),
            (a, b) => a == b,
        }
    }

    /// Equal ordered: the first string begins at `j`, as far as the register reaches.
    fn ordered(&self, j: usize) -> bool {
        let count = elements(self.imm);
        (0..self.len_a.min(count - j)).all(|i| i + j < self.len_b && self.at_a(i) == self.at_b(i + j))
    }

    fn holds(&self, j: usize) -> bool {
        match self.imm >> 2 & 3 {
            0 => self.any(j),
            1 => self.ranges(j),
            2 => self.each(j),
            _ => self.ordered(j),
        }
    }

    fn compare(&self) -> Found {
        let count = elements(self.imm);
        let bits = (0..count).fold(0, |bits, j| bits | u32::from(self.holds(j)) << j);
        let inverted = match self.imm & (NEGATIVE | MASKED) {
            NEGATIVE => (1 << count) - 1,
            m if m == NEGATIVE | MASKED => (1 << self.len_b) - 1,
            _ => 0,
        };
        let bits = bits ^ inverted;
        let flag = |on: bool, bit: u64| if on { bit } else { 0 };
        let flags = flag(bits != 0, eflags::CF)
            | flag(self.len_b < count, eflags::ZF)
            | flag(self.len_a < count, eflags::SF)
            | flag(bits & 1 != 0, eflags::OF);
        Found { bits, flags }
    }
}

/// Compares strings of explicit lengths, or up to the first zero.
pub fn compare(a: Lane, b: Lane, lengths: Option<(i64, i64)>, imm: u8) -> Found {
    let (len_a, len_b) = match lengths {
        Some((x, y)) => (explicit_length(x, imm), explicit_length(y, imm)),
        None => (implicit_length(a, imm), implicit_length(b, imm)),
    };
    Strings { a: bytes(a), b: bytes(b), len_a, len_b, imm }.compare()
}

/// The index of the first or last bit; the number of elements if there is none.
pub fn index(bits: u32, imm: u8) -> u32 {
    match (bits, imm & MOST != 0) {
        (0, _) => elements(imm) as u32,
        (_, true) => 31 - bits.leading_zeros(),
        (_, false) => bits.trailing_zeros(),
    }
}

/// The bits as they are, or every bit as an element.
pub fn mask(bits: u32, imm: u8) -> Lane {
    if imm & MOST == 0 {
        return [bits.into(), 0];
    }
    let size = 16 / elements(imm);
    from_bytes(core::array::from_fn(|i| if bits >> (i / size) & 1 != 0 { 0xff } else { 0 }))
}

/// Lengths in RAX and RDX.
const QUAD: u8 = 2;
/// Lengths in EAX and EDX.
const DOUBLE: u8 = 1;
/// Lengths by the first zero.
const IMPLICIT: u8 = 0;

fn lengths<const LENGTHS: u8>(v: &Vcpu<'_>) -> Option<(i64, i64)> {
    let (a, b) = (v.st.gpr(reg::RAX) as i64, v.st.gpr(reg::RDX) as i64);
    match LENGTHS {
        IMPLICIT => None,
        DOUBLE => Some(((a as i32).into(), (b as i32).into())),
        _ => Some((a, b)),
    }
}

/// The handler: the second operand is the register `src`, or memory if the row field says so.
fn run<const LEN: u8, const LENGTHS: u8, const MASK: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.check_vector::<LEN>()?;
    let b = match Pack::of(op).row {
        0 => v.vector(op.src)[0],
        _ => {
            let la = Any::linear(v, op, 16, false)?;
            v.load128(la)?
        }
    };
    let imm = op.imm as u8;
    let found = compare(v.vector(op.dst)[0], b, lengths::<LENGTHS>(v), imm);
    v.st.set_arith(found.flags);
    if MASK {
        v.set_vector::<LEN>(0, [mask(found.bits, imm), [0; 2]]);
    } else {
        v.st.set_gpr(reg::RCX, index(found.bits, imm).into());
    }
    Ok(())
}

/// The handler of a string comparison.
pub fn bind(insn: &Insn, op: &mut Op) -> Option<Run> {
    let run = match insn.mnemonic {
        M::Pcmpestri => run::<LEGACY, DOUBLE, false>,
        M::Pcmpestri64 => run::<LEGACY, QUAD, false>,
        M::Pcmpestrm => run::<LEGACY, DOUBLE, true>,
        M::Pcmpestrm64 => run::<LEGACY, QUAD, true>,
        M::Pcmpistri => run::<LEGACY, IMPLICIT, false>,
        M::Pcmpistrm => run::<LEGACY, IMPLICIT, true>,
        M::Vpcmpestri => run::<VEX128, DOUBLE, false>,
        M::Vpcmpestri64 => run::<VEX128, QUAD, false>,
        M::Vpcmpestrm => run::<VEX128, DOUBLE, true>,
        M::Vpcmpestrm64 => run::<VEX128, QUAD, true>,
        M::Vpcmpistri => run::<VEX128, IMPLICIT, false>,
        M::Vpcmpistrm => run::<VEX128, IMPLICIT, true>,
        _ => return None,
    };
    let memory = insn.operands[1] == Operand::Mem;
    op.imm = Pack { first: 0, third: 0, row: memory.into() }.with(op.imm);
    Some(run)
}
