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

/// Whether a near branch may go to `target`: canonical, within the code segment. A branch that may not faults itself and
/// changes nothing (Intel SDM vol. 2A, JMP, CALL).
#[inline(always)]
fn check<T: Word>(v: &mut Vcpu<'_>, target: T) -> Result<(), Stop> {
    let reachable = if T::BYTES == 8 {
        is_canonical(target.zext())
    } else {
        v.mode.flat || target.zext() <= u64::from(v.st.segments[usize::from(seg::CS)].limit)
    };
    if reachable { Ok(()) } else { Err(v.gp(0)) }
}

/// `imm` bytes from the start of the block, truncated to `T`.
#[inline(always)]
fn relative<T: Word>(v: &Vcpu<'_>, op: &Op) -> T {
    T::trunc(v.st.rip.wrapping_add(op.imm))
}

#[inline(always)]
fn go<T: Word>(v: &mut Vcpu<'_>, target: T) -> Result<(), Stop> {
    check(v, target)?;
    v.st.rip = target.zext();
    Err(Stop::Branch)
}

#[inline(always)]
fn fall_through(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.st.rip = v.next_rip(op);
    Err(Stop::Branch)
}

/// JMP rel.
pub fn jmp<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    go::<T>(v, relative(v, op))
}

/// Jcc rel.
pub fn jcc<T: Word, const CC: u8>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    if v.st.flags.condition::<CC>() { go::<T>(v, relative(v, op)) } else { fall_through(v, op) }
}

/// `jmp reg`.
pub fn jmp_r<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    go::<T>(v, v.st.reg(op.dst))
}

/// `jmp mem`.
pub fn jmp_m<T: Word, M: Ea>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let target: T = v.load_ea::<T, M>(op)?;
    go(v, target)
}

/// CALL rel.
pub fn call<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    call_to::<T>(v, op, relative(v, op))
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

#[inline(always)]
fn call_to<T: Word>(v: &mut Vcpu<'_>, op: &Op, target: T) -> Result<(), Stop> {
    check(v, target)?;
    let back = v.next_rip(op);
    v.push(T::trunc(back))?;
    v.st.rip = target.zext();
    Err(Stop::Branch)
}

/// RET, RET imm16.
pub fn ret<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let target: T = v.peek(0)?;
    check(v, target)?;
    v.add_sp(u64::from(T::BYTES) + op.imm);
    v.st.rip = target.zext();
    Err(Stop::Branch)
}

/// LOOP, LOOPE, LOOPNE (`KIND` 2, 1, 0): the count has the address size.
pub fn loop_<T: Word, const KIND: u8>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let count = v.st.gpr(reg::RCX).wrapping_sub(1) & op.address_mask();
    let taken = count != 0
        && match KIND {
            0 => !v.st.flags.zf(),
            1 => v.st.flags.zf(),
            _ => true,
        };
    let target: T = relative(v, op);
    if taken {
        check(v, target)?;
    }
    v.set_address_reg(op, reg::RCX, count);
    if taken { go(v, target) } else { fall_through(v, op) }
}

/// JCXZ, JECXZ, JRCXZ.
pub fn jcxz<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let zero = v.st.gpr(reg::RCX) & op.address_mask() == 0;
    if zero { go::<T>(v, relative(v, op)) } else { fall_through(v, op) }
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
