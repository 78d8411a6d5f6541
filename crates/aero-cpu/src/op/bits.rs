//! BT, BTS, BTR, BTC, BSF, BSR, POPCNT.

use super::{Any, Ea, Op, offset};
use crate::state::{Flags, eflags};
use crate::vcpu::{Stop, Vcpu};
use crate::word::Word;

/// What happens to the tested bit: 0 BT, 1 BTS, 2 BTR, 3 BTC.
#[inline(always)]
fn change<T: Word, const KIND: u8>(a: T, mask: u64) -> T {
    T::trunc(match KIND {
        0 => a.zext(),
        1 => a.zext() | mask,
        2 => a.zext() & !mask,
        _ => a.zext() ^ mask,
    })
}

/// `bt* reg, reg` (`IMM` false) and `bt* reg, imm`.
pub fn bit_r<T: Word, const KIND: u8, const IMM: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let n = if IMM { op.imm } else { v.st.reg::<T>(op.src).zext() } & u64::from(T::BITS - 1);
    let a: T = v.st.reg(op.dst);
    v.st.flags = v.st.flags.with_cf(a.zext() >> n & 1 != 0);
    if KIND != 0 {
        v.st.set_reg(op.dst, change::<T, KIND>(a, 1 << n));
    }
    Ok(())
}

/// `bt* mem, imm` and `bt* mem, reg`: a register addresses a bit string that reaches beyond the operand.
pub fn bit_m<T: Word, const KIND: u8, const IMM: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let (n, la) = if IMM {
        (op.imm, Any::linear(v, op, T::BYTES, KIND != 0)?)
    } else {
        let n = v.st.reg::<T>(op.src).sext() as i64;
        let far = (n >> T::BITS.trailing_zeros()).wrapping_mul(T::BYTES.into()) as u64;
        let at = offset(v, op).wrapping_add(far) & op.address_mask();
        (n as u64, v.linear(op.segment(), at, T::BYTES, KIND != 0)?)
    };
    let n = n & u64::from(T::BITS - 1);
    if KIND == 0 {
        let a: T = v.load(la)?;
        v.st.flags = v.st.flags.with_cf(a.zext() >> n & 1 != 0);
        return Ok(());
    }
    v.modify(la, |v, a: T| {
        v.st.flags = v.st.flags.with_cf(a.zext() >> n & 1 != 0);
        change::<T, KIND>(a, 1 << n)
    })
}

/// BSF (`REVERSE` false) and BSR. A zero source sets ZF and leaves the destination as it was, upper half included.
#[inline(always)]
fn scan<T: Word, const REVERSE: bool>(v: &mut Vcpu<'_>, op: &Op, s: T) {
    let others = Flags::of_logic(s);
    v.st.flags = others;
    if s.zext() != 0 {
        let n = if REVERSE { 63 - s.zext().leading_zeros() } else { s.zext().trailing_zeros() };
        v.st.set_reg(op.dst, T::trunc(n.into()));
    }
}

/// `bsf/bsr reg, reg`.
pub fn scan_rr<T: Word, const REVERSE: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    scan::<T, REVERSE>(v, op, v.st.reg(op.src));
    Ok(())
}

/// `bsf/bsr reg, mem`.
pub fn scan_rm<T: Word, M: Ea, const REVERSE: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let s: T = v.load_ea::<T, M>(op)?;
    scan::<T, REVERSE>(v, op, s);
    Ok(())
}

fn popcnt<T: Word>(v: &mut Vcpu<'_>, op: &Op, s: T) {
    v.st.set_arith(if s.zext() == 0 { eflags::ZF } else { 0 });
    v.st.set_reg(op.dst, T::trunc(s.zext().count_ones().into()));
}

/// `popcnt reg, reg`.
pub fn popcnt_rr<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    popcnt::<T>(v, op, v.st.reg(op.src));
    Ok(())
}

/// `popcnt reg, mem`.
pub fn popcnt_rm<T: Word, M: Ea>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let s: T = v.load_ea::<T, M>(op)?;
    popcnt(v, op, s);
    Ok(())
}
