//! Near jumps, calls and returns, loops, and the ends of blocks.

use super::{Ea, Op};
use crate::access::is_canonical;
use crate::state::reg;
use crate::vcpu::{Stop, Vcpu};
use crate::word::Word;

/// The handler of a block whose code was overwritten.
pub fn stale(_v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    Err(Stop::Stale)
}

/// An undefined instruction.
pub fn undefined(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    Err(v.ud())
}

/// An instruction longer than 15 bytes.
pub fn too_long(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    Err(v.gp(0))
}

/// Goes to `imm` bytes from the start of the block, truncated to `T`.
#[inline(always)]
fn go<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.st.rip = T::trunc(v.st.rip.wrapping_add(op.imm)).zext();
    Err(Stop::Branch)
}

#[inline(always)]
fn fall_through(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.st.rip = v.next_rip(op);
    Err(Stop::Branch)
}

/// Goes to an absolute offset.
#[inline(always)]
fn go_to<T: Word>(v: &mut Vcpu<'_>, target: T) -> Result<(), Stop> {
    if T::BYTES == 8 && !is_canonical(target.zext()) {
        return Err(v.gp(0));
    }
    v.st.rip = target.zext();
    Err(Stop::Branch)
}

/// JMP rel.
pub fn jmp<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    go::<T>(v, op)
}

/// Jcc rel.
pub fn jcc<T: Word, const CC: u8>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    if v.st.flags.condition::<CC>() { go::<T>(v, op) } else { fall_through(v, op) }
}

/// `jmp reg`.
pub fn jmp_r<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    go_to::<T>(v, v.st.reg(op.dst))
}

/// `jmp mem`.
pub fn jmp_m<T: Word, M: Ea>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let target: T = v.load_ea::<T, M>(op)?;
    go_to(v, target)
}

/// CALL rel.
pub fn call<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let back = v.next_rip(op);
    v.push(T::trunc(back))?;
    go::<T>(v, op)
}

/// `call reg`.
pub fn call_r<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    call_to::<T>(v, op, v.st.reg(op.dst))
}

/// `call mem`.
pub fn call_m<T: Word, M: Ea>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let target: T = v.load_ea::<T, M>(op)?;
    call_to(v, op, target)
}

fn call_to<T: Word>(v: &mut Vcpu<'_>, op: &Op, target: T) -> Result<(), Stop> {
    if T::BYTES == 8 && !is_canonical(target.zext()) {
        return Err(v.gp(0));
    }
    let back = v.next_rip(op);
    v.push(T::trunc(back))?;
    go_to(v, target)
}

/// RET, RET imm16.
pub fn ret<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let target: T = v.peek(0)?;
    if T::BYTES == 8 && !is_canonical(target.zext()) {
        return Err(v.gp(0));
    }
    v.add_sp(u64::from(T::BYTES) + op.imm);
    go_to(v, target)
}

/// LOOP, LOOPE, LOOPNE (`KIND` 2, 1, 0): the count has the address size.
pub fn loop_<T: Word, const KIND: u8>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let count = v.st.gpr(reg::RCX).wrapping_sub(1) & op.address_mask();
    v.set_address_reg(op, reg::RCX, count);
    let taken = count != 0
        && match KIND {
            0 => !v.st.flags.zf(),
            1 => v.st.flags.zf(),
            _ => true,
        };
    if taken { go::<T>(v, op) } else { fall_through(v, op) }
}

/// JCXZ, JECXZ, JRCXZ.
pub fn jcxz<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    if v.st.gpr(reg::RCX) & op.address_mask() == 0 { go::<T>(v, op) } else { fall_through(v, op) }
}

impl Vcpu<'_> {
    /// Writes a register of the address size: 16-bit keeps the upper part, 32-bit clears it.
    #[inline]
    pub(crate) fn set_address_reg(&mut self, op: &Op, n: u8, value: u64) {
        match op.sib >> 5 {
            0 => self.st.set_reg(n * 8, value as u16),
            1 => self.st.set_reg(n * 8, value as u32),
            _ => self.st.set_gpr(n, value),
        }
    }
}
