//! MUL, IMUL, DIV, IDIV.

use super::{Ea, Op};
use crate::exception::Vector;
use crate::state::{Flags, reg};
use crate::vcpu::{Stop, Vcpu};
use crate::word::Word;

const AX: u8 = reg::RAX * 8;
const DX: u8 = reg::RDX * 8;

/// Flags of a product: CF and OF tell that the upper half matters; the rest follows the lower half, as on Intel's.
fn product_flags<T: Word>(low: T, overflow: bool) -> Flags {
    Flags::of_logic(low).with_cf_of(overflow, overflow)
}

/// Where the upper half of a product or a dividend lies: AH for bytes, rDX otherwise.
fn upper<T: Word>() -> u8 {
    if T::BYTES == 1 { AX + 1 } else { DX }
}

fn multiply<T: Word, const SIGNED: bool>(v: &mut Vcpu<'_>, b: T) {
    let a: T = v.st.reg(AX);
    let wide = if SIGNED {
        (a.sext() as i64 as i128).wrapping_mul(b.sext() as i64 as i128)
    } else {
        (u128::from(a.zext()).wrapping_mul(b.zext().into())) as i128
    };
    let (low, high) = (T::trunc(wide as u64), T::trunc((wide >> T::BITS) as u64));
    v.st.set_reg(AX, low);
    v.st.set_reg(upper::<T>(), high);
    let overflow = if SIGNED { wide != low.sext() as i64 as i128 } else { high.zext() != 0 };
    v.st.flags = product_flags(low, overflow);
}

fn divide<T: Word, const SIGNED: bool>(v: &mut Vcpu<'_>, b: T) -> Result<(), Stop> {
    let (low, high): (T, T) = (v.st.reg(AX), v.st.reg(upper::<T>()));
    let quotient = if SIGNED { signed(low, high, b) } else { unsigned(low, high, b) };
    let Some((q, r)) = quotient else {
        return Err(v.raise(Vector::DIVIDE_ERROR));
    };
    v.st.set_reg(AX, q);
    v.st.set_reg(upper::<T>(), r);
    Ok(())
}

#[inline(always)]
fn unsigned<T: Word>(low: T, high: T, b: T) -> Option<(T, T)> {
    if T::BYTES < 8 || high.zext() == 0 {
        let a = if T::BYTES < 8 { high.zext() << T::BITS | low.zext() } else { low.zext() };
        let (q, r) = (a.checked_div(b.zext())?, a % b.zext());
        return (T::trunc(q).zext() == q).then_some((T::trunc(q), T::trunc(r)));
    }
    let a = u128::from(high.zext()) << 64 | u128::from(low.zext());
    let (q, r) = (a.checked_div(b.zext().into())?, a % u128::from(b.zext()));
    u64::try_from(q).ok().map(|q| (T::trunc(q), T::trunc(r as u64)))
}

#[inline(always)]
fn signed<T: Word>(low: T, high: T, b: T) -> Option<(T, T)> {
    let b = b.sext() as i64;
    if T::BYTES < 8 {
        let a = (high.zext() << T::BITS | low.zext()) as i64;
        let a = a << (64 - 2 * T::BITS) >> (64 - 2 * T::BITS);
        let (q, r) = (a.checked_div(b)?, a.checked_rem(b)?);
        return (T::trunc(q as u64).sext() as i64 == q).then_some((T::trunc(q as u64), T::trunc(r as u64)));
    }
    let a = (u128::from(high.zext()) << 64 | u128::from(low.zext())) as i128;
    let (q, r) = (a.checked_div(b.into())?, a.checked_rem(b.into())?);
    i64::try_from(q).ok().map(|q| (T::trunc(q as u64), T::trunc(r as u64)))
}

/// `mul reg`, `imul reg`.
pub fn mul_r<T: Word, const SIGNED: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    multiply::<T, SIGNED>(v, v.st.reg(op.dst));
    Ok(())
}

/// `mul mem`, `imul mem`.
pub fn mul_m<T: Word, M: Ea, const SIGNED: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let b: T = v.load_ea::<T, M>(op)?;
    multiply::<T, SIGNED>(v, b);
    Ok(())
}

/// `div reg`, `idiv reg`.
pub fn div_r<T: Word, const SIGNED: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    divide::<T, SIGNED>(v, v.st.reg(op.dst))
}

/// `div mem`, `idiv mem`.
pub fn div_m<T: Word, M: Ea, const SIGNED: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let b: T = v.load_ea::<T, M>(op)?;
    divide::<T, SIGNED>(v, b)
}

/// The flags of an unsigned product.
pub(crate) fn mul_flags<T: Word>(a: T, b: T) -> Flags {
    let wide = u128::from(a.zext()).wrapping_mul(b.zext().into());
    product_flags(T::trunc(wide as u64), wide >> T::BITS != 0)
}

#[inline(always)]
pub(crate) fn imul<T: Word>(a: T, b: T) -> (T, Flags) {
    if T::BYTES < 8 {
        let wide = (a.sext() as i64).wrapping_mul(b.sext() as i64);
        let low = T::trunc(wide as u64);
        return (low, product_flags(low, low.sext() as i64 != wide));
    }
    let (wide, overflow) = (a.sext() as i64).overflowing_mul(b.sext() as i64);
    let low = T::trunc(wide as u64);
    (low, product_flags(low, overflow))
}

/// `imul reg, reg`.
#[inline(always)]
pub fn imul_rr<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let (r, flags) = imul::<T>(v.st.reg(op.dst), v.st.reg(op.src));
    v.st.flags = flags;
    v.st.set_reg(op.dst, r);
    Ok(())
}

/// `imul reg, mem`.
pub fn imul_rm<T: Word, M: Ea>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let b: T = v.load_ea::<T, M>(op)?;
    let (r, flags) = imul::<T>(v.st.reg(op.dst), b);
    v.st.flags = flags;
    v.st.set_reg(op.dst, r);
    Ok(())
}

/// `imul reg, reg, imm`.
pub fn imul_rri<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let (r, flags) = imul(v.st.reg(op.src), T::trunc(op.imm));
    v.st.flags = flags;
    v.st.set_reg(op.dst, r);
    Ok(())
}

/// `imul reg, mem, imm`.
pub fn imul_rmi<T: Word, M: Ea>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let a: T = v.load_ea::<T, M>(op)?;
    let (r, flags) = imul(a, T::trunc(op.imm));
    v.st.flags = flags;
    v.st.set_reg(op.dst, r);
    Ok(())
}
