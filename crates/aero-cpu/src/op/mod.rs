//! The pre-decoded instruction that the interpreter runs, and the handlers behind it.
//!
//! An [`Op`] is 32 bytes: a handler, operands as byte offsets into the register file, and a memory operand in the shape
//! that its handler computes without a branch. [`bind`](crate::bind) chooses the handler once, when a block is decoded;
//! handlers are monomorphic in operand size, addressing mode and operation.

pub mod alu;
pub mod bits;
pub mod bmi;
pub mod branch;
pub mod control;
pub mod data;
pub mod idle;
pub mod io;
pub mod muldiv;
pub mod random;
pub mod shift;
pub mod stack;
pub mod string;
pub mod system;

use crate::hot::Kind;
use crate::state::{Segment, seg};
use crate::vcpu::{Stop, Vcpu};
use crate::word::Word;

/// A handler. `Ok` goes on to the next instruction of the block.
pub type Run = fn(&mut Vcpu<'_>, &Op) -> Result<(), Stop>;

/// One instruction, ready to run.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Op {
    /// The handler.
    pub run: Run,
    /// Immediate, or branch target from the start of the block.
    pub imm: u64,
    /// Displacement; with base [`aero_x86::slot::BLOCK`] from the start of the block.
    pub disp: i64,
    /// First operand: byte offset into the register file, or a register number.
    pub dst: u8,
    /// Second operand.
    pub src: u8,
    /// Slot of the base register.
    pub base: u8,
    /// Slot of the index register.
    pub index: u8,
    /// Bits 1:0 log2 of the index's factor, 4:2 segment, 6:5 log2 of the address size's 16-bit units.
    pub sib: u8,
    /// Whether the run loop knows the handler by heart.
    pub kind: Kind,
    /// Offset of the next instruction from the start of the block.
    pub end: u16,
}

impl Op {
    /// Log2 of the index's factor.
    #[inline(always)]
    pub fn scale(&self) -> u32 {
        u32::from(self.sib & 3)
    }

    /// Segment register of the memory operand.
    #[inline(always)]
    pub fn segment(&self) -> u8 {
        self.sib >> 2 & 7
    }

    /// Replaces the segment register of the memory operand.
    pub fn set_segment(&mut self, segment: u8) {
        self.sib = self.sib & !(7 << 2) | segment << 2;
    }

    /// Truncates an offset to the address size.
    #[inline(always)]
    pub fn address_mask(&self) -> u64 {
        match self.sib >> 5 {
            0 => 0xffff,
            1 => 0xffff_ffff,
            _ => u64::MAX,
        }
    }

    /// Bytes of an address: 2, 4 or 8.
    pub fn address_size(&self) -> u32 {
        2 << (self.sib >> 5)
    }
}

/// How a handler turns its memory operand into a linear address.
pub trait Ea {
    /// The linear address of `len` bytes, checked against the segment where the mode needs it.
    fn linear(v: &mut Vcpu<'_>, op: &Op, len: u32, write: bool) -> Result<u64, Stop>;

    /// The offset in the segment that gave the linear address `la`.
    fn offset_of(v: &Vcpu<'_>, op: &Op, la: u64) -> u64;
}

/// 64-bit addresses without FS or GS.
pub struct Flat64;
/// 32-bit addresses through flat segments.
pub struct Flat32;
/// Everything else.
pub struct Any;

#[inline(always)]
fn sum(v: &Vcpu<'_>, op: &Op) -> u64 {
    let index = v.st.gpr(op.index) << op.scale();
    v.st.gpr(op.base).wrapping_add(index).wrapping_add(op.disp as u64)
}

/// The offset of the memory operand in its segment.
#[inline(always)]
pub fn offset(v: &Vcpu<'_>, op: &Op) -> u64 {
    sum(v, op) & op.address_mask()
}

impl Ea for Flat64 {
    #[inline(always)]
    fn linear(v: &mut Vcpu<'_>, op: &Op, _len: u32, _write: bool) -> Result<u64, Stop> {
        Ok(sum(v, op))
    }

    #[inline(always)]
    fn offset_of(_v: &Vcpu<'_>, _op: &Op, la: u64) -> u64 {
        la
    }
}

impl Ea for Flat32 {
    #[inline(always)]
    fn linear(v: &mut Vcpu<'_>, op: &Op, _len: u32, _write: bool) -> Result<u64, Stop> {
        Ok(sum(v, op) & 0xffff_ffff)
    }

    #[inline(always)]
    fn offset_of(_v: &Vcpu<'_>, _op: &Op, la: u64) -> u64 {
        la
    }
}

impl Ea for Any {
    #[inline]
    fn linear(v: &mut Vcpu<'_>, op: &Op, len: u32, write: bool) -> Result<u64, Stop> {
        let offset = offset(v, op);
        v.linear(op.segment(), offset, len, write)
    }

    #[inline]
    fn offset_of(v: &Vcpu<'_>, op: &Op, _la: u64) -> u64 {
        offset(v, op)
    }
}

impl Vcpu<'_> {
    /// The linear address of `len` bytes at `segment:offset`, with the segment's checks
    /// (Intel SDM vol. 3, 5.3 and 5.4).
    pub fn linear(&mut self, segment: u8, offset: u64, len: u32, write: bool) -> Result<u64, Stop> {
        let s = &self.st.segments[usize::from(segment)];
        if self.st.code64() {
            let base = if segment >= seg::FS { s.base } else { 0 };
            return Ok(base.wrapping_add(offset));
        }
        let la = s.base.wrapping_add(offset) & 0xffff_ffff;
        if segment_allows(s, offset, len, write) { Ok(la) } else { Err(self.segment_fault(segment)) }
    }

    /// #SS(0) for the stack segment, #GP(0) for the others.
    #[cold]
    pub(crate) fn segment_fault(&mut self, segment: u8) -> Stop {
        if segment == seg::SS { self.raise_code(crate::exception::Vector::STACK, 0) } else { self.gp(0) }
    }

    /// Loads a value through a handler's memory operand.
    #[inline(always)]
    pub(crate) fn load_ea<T: Word, M: Ea>(&mut self, op: &Op) -> Result<T, Stop> {
        let la = M::linear(self, op, T::BYTES, false)?;
        self.load(la)
    }

    /// Hands `then` the value of a handler's memory operand.
    #[inline(always)]
    pub(crate) fn load_ea_then<T: Word, M: Ea>(
        &mut self,
        op: &Op,
        then: impl FnOnce(&mut Self, T),
    ) -> Result<(), Stop> {
        let la = M::linear(self, op, T::BYTES, false)?;
        self.load_then(la, then)
    }

    /// Stores a value through a handler's memory operand.
    #[inline(always)]
    pub(crate) fn store_ea<T: Word, M: Ea>(&mut self, op: &Op, value: T) -> Result<(), Stop> {
        let la = M::linear(self, op, T::BYTES, true)?;
        self.store(la, value)
    }

    /// RIP of the instruction under way.
    pub(crate) fn next_rip(&self, op: &Op) -> u64 {
        self.st.rip.wrapping_add(u64::from(op.end)) & self.rip_mask()
    }

    /// The width that RIP wraps at.
    #[inline(always)]
    pub(crate) fn rip_mask(&self) -> u64 {
        match self.mode.code {
            aero_x86::CodeSize::B64 => u64::MAX,
            _ => 0xffff_ffff,
        }
    }
}

fn segment_allows(s: &Segment, offset: u64, len: u32, write: bool) -> bool {
    if !s.present() {
        return false;
    }
    let code = s.attributes & Segment::CODE != 0;
    let read_write = s.attributes & Segment::READ_WRITE != 0;
    let kind_ok = match (code, write) {
        (true, false) | (false, true) => read_write,
        (true, true) => false,
        (false, false) => true,
    };
    let last = offset + u64::from(len) - 1;
    let expand_down = !code && s.attributes & Segment::CONFORMING != 0;
    let inside = if expand_down {
        let top = if s.big() { 0xffff_ffff } else { 0xffff };
        offset > u64::from(s.limit) && last <= top
    } else {
        // What wraps at 4 GiB stays within a segment that has all of them (Intel SDM vol. 3, 5.3, leaves that open).
        last <= u64::from(s.limit) || s.limit == u32::MAX
    };
    kind_ok && inside
}
