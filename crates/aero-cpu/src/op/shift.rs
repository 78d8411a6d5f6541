//! Shifts and rotates, by an immediate, by CL, and double (SHLD, SHRD).
//!
//! A count of zero changes no flag. Flags that the manual leaves undefined are what Intel processors set.

use super::{Ea, Op};
use crate::state::{Flags, reg};
use crate::vcpu::{Stop, Vcpu};
use crate::word::Word;

/// A shift or rotate by a count already masked and not zero.
pub trait Shift {
    /// Result and flags.
    fn apply<T: Word>(flags: Flags, a: T, count: u32) -> (T, Flags);
}

/// SHL.
pub struct Shl;
/// SHR.
pub struct Shr;
/// SAR.
pub struct Sar;
/// ROL.
pub struct Rol;
/// ROR.
pub struct Ror;
/// RCL.
pub struct Rcl;
/// RCR.
pub struct Rcr;

/// Bit `n` of `v`, 0 beyond bit 63.
#[inline(always)]
fn bit(v: u64, n: u32) -> bool {
    n < 64 && v >> n & 1 != 0
}

impl Shift for Shl {
    #[inline(always)]
    fn apply<T: Word>(_f: Flags, a: T, count: u32) -> (T, Flags) {
        let r = T::trunc(a.zext() << count);
        let cf = count <= T::BITS && bit(a.zext(), T::BITS - count);
        (r, Flags::of_logic(r).with_cf_of(cf, r.sign() != cf))
    }
}

impl Shift for Shr {
    #[inline(always)]
    fn apply<T: Word>(_f: Flags, a: T, count: u32) -> (T, Flags) {
        let r = T::trunc(a.zext() >> count);
        let cf = bit(a.zext(), count - 1);
        (r, Flags::of_logic(r).with_cf_of(cf, count == 1 && a.sign()))
    }
}

impl Shift for Sar {
    #[inline(always)]
    fn apply<T: Word>(_f: Flags, a: T, count: u32) -> (T, Flags) {
        let wide = a.sext() as i64;
        let r = T::trunc((wide >> count) as u64);
        let cf = wide >> (count - 1) & 1 != 0;
        (r, Flags::of_logic(r).with_cf_of(cf, false))
    }
}

impl Shift for Rol {
    #[inline(always)]
    fn apply<T: Word>(f: Flags, a: T, count: u32) -> (T, Flags) {
        let n = count % T::BITS;
        let r = if n == 0 { a } else { T::trunc(a.zext() << n | a.zext() >> (T::BITS - n)) };
        let cf = r.zext() & 1 != 0;
        (r, f.with_cf_of(cf, r.sign() != cf))
    }
}

impl Shift for Ror {
    #[inline(always)]
    fn apply<T: Word>(f: Flags, a: T, count: u32) -> (T, Flags) {
        let n = count % T::BITS;
        let r = if n == 0 { a } else { T::trunc(a.zext() >> n | a.zext() << (T::BITS - n)) };
        (r, f.with_cf_of(r.sign(), r.sign() != bit(r.zext(), T::BITS - 2)))
    }
}

impl Shift for Rcl {
    #[inline(always)]
    fn apply<T: Word>(f: Flags, a: T, count: u32) -> (T, Flags) {
        let n = count % (T::BITS + 1);
        if n == 0 {
            return (a, f);
        }
        let wide = u128::from(a.zext()) | u128::from(f.cf()) << T::BITS;
        let r = wide << n | wide >> (T::BITS + 1 - n);
        let (r, cf) = (T::trunc(r as u64), r >> T::BITS & 1 != 0);
        (r, f.with_cf_of(cf, r.sign() != cf))
    }
}

impl Shift for Rcr {
    #[inline(always)]
    fn apply<T: Word>(f: Flags, a: T, count: u32) -> (T, Flags) {
        let n = count % (T::BITS + 1);
        if n == 0 {
            return (a, f);
        }
        let wide = u128::from(a.zext()) | u128::from(f.cf()) << T::BITS;
        let r = wide >> n | wide << (T::BITS + 1 - n);
        let (r, cf) = (T::trunc(r as u64), r >> T::BITS & 1 != 0);
        (r, f.with_cf_of(cf, r.sign() != bit(r.zext(), T::BITS - 2)))
    }
}

/// The count that an operand of this size uses (Intel SDM vol. 2, SAL/SAR/SHL/SHR).
#[inline(always)]
fn masked<T: Word>(count: u64) -> u32 {
    (count & if T::BYTES == 8 { 63 } else { 31 }) as u32
}

#[inline(always)]
fn count<T: Word, const BY_CL: bool>(v: &Vcpu<'_>, op: &Op) -> u32 {
    masked::<T>(if BY_CL { v.st.gpr(reg::RCX) } else { op.imm })
}

/// `op reg, imm` and `op reg, cl`.
#[inline(always)]
pub fn shift_r<T: Word, O: Shift, const BY_CL: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let n = count::<T, BY_CL>(v, op);
    let a: T = v.st.reg(op.dst);
    if n == 0 {
        // The destination is written all the same: 32-bit operands lose their upper half.
        v.st.set_reg(op.dst, a);
        return Ok(());
    }
    let (r, flags) = O::apply(v.st.flags, a, n);
    v.st.flags = flags;
    v.st.set_reg(op.dst, r);
    Ok(())
}

/// `op mem, imm` and `op mem, cl`.
pub fn shift_m<T: Word, M: Ea, O: Shift, const BY_CL: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let n = count::<T, BY_CL>(v, op);
    let la = M::linear(v, op, T::BYTES, true)?;
    v.modify(la, |v, a: T| {
        if n == 0 {
            return a;
        }
        let (r, flags) = O::apply(v.st.flags, a, n);
        v.st.flags = flags;
        r
    })
}

/// SHLD (`LEFT`) and SHRD of `a` filled from `b`. Beyond the operand's width the result is undefined; Intel processors
/// rotate through both operands.
#[inline(always)]
fn double<T: Word, const LEFT: bool>(f: Flags, a: T, b: T, n: u32) -> (T, Flags) {
    if n == 0 {
        return (a, f);
    }
    let (wa, wb, bits) = (u128::from(a.zext()), u128::from(b.zext()), T::BITS);
    let (r, cf) = if LEFT {
        let wide = (wa << bits | wb) << if bits == 64 { 0 } else { 128 - 2 * bits };
        let wide = if bits == 16 { (wa << 112) | (wb << 96) | (wa << 80) } else { wide };
        ((wide << n) >> (128 - bits), wide >> (128 - n) & 1 != 0)
    } else {
        let wide = if bits == 16 { wa | wb << 16 | wa << 32 } else { wb << bits | wa };
        (wide >> n, wide >> (n - 1) & 1 != 0)
    };
    let r = T::trunc(r as u64);
    // The manual defines OF for a count of 1, where both forms tell whether the sign changed.
    let of = r.sign() != if LEFT { cf } else { bit(r.zext(), T::BITS - 2) };
    (r, Flags::of_logic(r).with_cf_of(cf, of))
}

/// SHLD and SHRD of a register.
pub fn double_r<T: Word, const LEFT: bool, const BY_CL: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let n = count::<T, BY_CL>(v, op);
    let (r, flags) = double::<T, LEFT>(v.st.flags, v.st.reg(op.dst), v.st.reg(op.src), n);
    v.st.flags = flags;
    v.st.set_reg(op.dst, r);
    Ok(())
}

/// SHLD and SHRD of memory.
pub fn double_m<T: Word, M: Ea, const LEFT: bool, const BY_CL: bool>(
    v: &mut Vcpu<'_>,
    op: &Op,
) -> Result<(), Stop> {
    let n = count::<T, BY_CL>(v, op);
    let la = M::linear(v, op, T::BYTES, true)?;
    v.modify(la, |v, a: T| {
        let (r, flags) = double::<T, LEFT>(v.st.flags, a, v.st.reg(op.src), n);
        v.st.flags = flags;
        r
    })
}
