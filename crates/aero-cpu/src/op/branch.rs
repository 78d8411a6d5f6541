//! Near jumps, calls and returns, loops, and the ends of blocks.

use super::{Ea, Op};
use crate::access::is_canonical;
use crate::state::{reg, seg};
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

/// A branch beyond the limit of the code segment, or to an address that is not canonical, is #GP(0) at the branch.
/// `LIMITED` says that the code's place makes that possible; flat code elsewhere need not look.
#[inline(always)]
fn check<T: Word, const LIMITED: bool>(v: &mut Vcpu<'_>, target: u64) -> Result<(), Stop> {
    let limit = v.st.segments[usize::from(seg::CS)].limit;
    let outside = if T::BYTES == 8 { !is_canonical(target) } else { target > u64::from(limit) };
    if LIMITED && outside { Err(v.gp(0)) } else { Ok(()) }
}

/// `imm` bytes from the start of the block, truncated to `T`.
#[inline(always)]
fn relative<T: Word>(v: &Vcpu<'_>, op: &Op) -> u64 {
    T::trunc(v.st.rip.wrapping_add(op.imm)).zext()
}

#[inline(always)]
fn go<T: Word, const LIMITED: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let target = relative::<T>(v, op);
    check::<T, LIMITED>(v, target)?;
    v.st.rip = target;
    Err(Stop::Branch)
}

/// RIP of the next instruction: only 64-bit code has branches of 64 bits, and no others.
#[inline(always)]
fn following<T: Word>(v: &Vcpu<'_>, op: &Op) -> u64 {
    let next = v.st.rip.wrapping_add(u64::from(op.end));
    if T::BYTES == 8 { next } else { next & 0xffff_ffff }
}

#[inline(always)]
fn fall_through<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.st.rip = following::<T>(v, op);
    Err(Stop::Branch)
}

/// The checks of an absolute target: it may be anything.
#[inline(always)]
fn check_absolute<T: Word, const LIMITED: bool>(v: &mut Vcpu<'_>, target: T) -> Result<(), Stop> {
    if T::BYTES == 8 { check::<T, true>(v, target.zext()) } else { check::<T, LIMITED>(v, target.zext()) }
}

/// Goes to an absolute offset.
#[inline(always)]
fn go_to<T: Word, const LIMITED: bool>(v: &mut Vcpu<'_>, target: T) -> Result<(), Stop> {
    check_absolute::<T, LIMITED>(v, target)?;
    v.st.rip = target.zext();
    Err(Stop::Branch)
}

/// JMP rel.
#[inline(always)]
pub fn jmp<T: Word, const LIMITED: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    go::<T, LIMITED>(v, op)
}

/// Jcc rel.
#[inline(always)]
pub fn jcc<T: Word, const LIMITED: bool, const CC: u8>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    if v.st.flags.condition::<CC>() { go::<T, LIMITED>(v, op) } else { fall_through::<T>(v, op) }
}

/// `jmp reg`.
#[inline(always)]
pub fn jmp_r<T: Word, const LIMITED: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    go_to::<T, LIMITED>(v, v.st.reg(op.dst))
}

/// `jmp mem`.
#[inline(always)]
pub fn jmp_m<T: Word, M: Ea, const LIMITED: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let target: T = v.load_ea::<T, M>(op)?;
    go_to::<T, LIMITED>(v, target)
}

/// CALL rel.
#[inline(always)]
pub fn call<T: Word, const LIMITED: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let back = following::<T>(v, op);
    let target = relative::<T>(v, op);
    check::<T, LIMITED>(v, target)?;
    v.push(T::trunc(back))?;
    v.st.rip = target;
    Err(Stop::Branch)
}

/// `call reg`.
#[inline(always)]
pub fn call_r<T: Word, const LIMITED: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    call_to::<T, LIMITED>(v, op, v.st.reg(op.dst))
}

/// `call mem`.
#[inline(always)]
pub fn call_m<T: Word, M: Ea, const LIMITED: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let target: T = v.load_ea::<T, M>(op)?;
    call_to::<T, LIMITED>(v, op, target)
}

#[inline(always)]
fn call_to<T: Word, const LIMITED: bool>(v: &mut Vcpu<'_>, op: &Op, target: T) -> Result<(), Stop> {
    check_absolute::<T, LIMITED>(v, target)?;
    let back = following::<T>(v, op);
    v.push(T::trunc(back))?;
    v.st.rip = target.zext();
    Err(Stop::Branch)
}

/// RET, RET imm16.
#[inline(always)]
pub fn ret<T: Word, const LIMITED: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let target: T = v.peek(0)?;
    check_absolute::<T, LIMITED>(v, target)?;
    v.add_sp(u64::from(T::BYTES) + op.imm);
    v.st.rip = target.zext();
    Err(Stop::Branch)
}

/// LOOP, LOOPE, LOOPNE (`KIND` 2, 1, 0): the count has the address size.
pub fn loop_<T: Word, const LIMITED: bool, const KIND: u8>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let count = v.st.gpr(reg::RCX).wrapping_sub(1) & op.address_mask();
    let taken = count != 0
        && match KIND {
            0 => !v.st.flags.zf(),
            1 => v.st.flags.zf(),
            _ => true,
        };
    if taken {
        let target = relative::<T>(v, op);
        check::<T, LIMITED>(v, target)?;
        v.set_address_reg(op, reg::RCX, count);
        v.st.rip = target;
        return Err(Stop::Branch);
    }
    v.set_address_reg(op, reg::RCX, count);
    fall_through::<T>(v, op)
}

/// JCXZ, JECXZ, JRCXZ.
pub fn jcxz<T: Word, const LIMITED: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let zero = v.st.gpr(reg::RCX) & op.address_mask() == 0;
    if zero { go::<T, LIMITED>(v, op) } else { fall_through::<T>(v, op) }
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
