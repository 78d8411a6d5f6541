//! MOV in its forms, LEA, XCHG, XADD, CMPXCHG, CMOVcc, SETcc, BSWAP, sign extensions, XLAT.

use super::{Ea, Op, offset};
use crate::op::alu::{Add, Binary, Cmp};
use crate::state::{eflags, reg};
use crate::vcpu::{Stop, Vcpu};
use crate::word::Word;

/// `mov reg, reg`.
#[inline(always)]
pub fn mov_rr<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let value: T = v.st.reg(op.src);
    v.st.set_reg(op.dst, value);
    Ok(())
}

/// `mov reg, imm`.
#[inline(always)]
pub fn mov_ri<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.st.set_reg(op.dst, T::trunc(op.imm));
    Ok(())
}

/// `mov reg, mem`.
#[inline(always)]
pub fn mov_rm<T: Word, M: Ea>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.load_ea_then::<T, M>(op, |v, value| v.st.set_reg(op.dst, value))
}

/// `mov mem, reg`.
#[inline(always)]
pub fn mov_mr<T: Word, M: Ea>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.store_ea::<T, M>(op, v.st.reg(op.src))
}

/// `mov mem, imm`.
#[inline(always)]
pub fn mov_mi<T: Word, M: Ea>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.store_ea::<T, M>(op, T::trunc(op.imm))
}

/// MOVZX, MOVSX, MOVSXD between registers.
#[inline(always)]
pub fn extend_rr<D: Word, S: Word, const SIGNED: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let s: S = v.st.reg(op.src);
    v.st.set_reg(op.dst, D::trunc(if SIGNED { s.sext() } else { s.zext() }));
    Ok(())
}

/// MOVZX, MOVSX, MOVSXD from memory.
#[inline(always)]
pub fn extend_rm<D: Word, M: Ea, S: Word, const SIGNED: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.load_ea_then::<S, M>(op, |v, s| {
        v.st.set_reg(op.dst, D::trunc(if SIGNED { s.sext() } else { s.zext() }));
    })
}

/// LEA.
#[inline(always)]
pub fn lea<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let at = offset(v, op);
    v.st.set_reg(op.dst, T::trunc(at));
    Ok(())
}

/// LEA of 64-bit addresses.
#[inline(always)]
pub fn lea64(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let at = super::sum(v, op);
    v.st.set_reg(op.dst, at);
    Ok(())
}

/// `xchg reg, reg`.
pub fn xchg_rr<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let (a, b): (T, T) = (v.st.reg(op.dst), v.st.reg(op.src));
    v.st.set_reg(op.dst, b);
    v.st.set_reg(op.src, a);
    Ok(())
}

/// `xchg mem, reg`.
pub fn xchg_mr<T: Word, M: Ea>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let la = M::linear(v, op, T::BYTES, true)?;
    let new: T = v.st.reg(op.src);
    let mut old = T::default();
    v.modify(la, |_, was| {
        old = was;
        new
    })?;
    v.st.set_reg(op.src, old);
    Ok(())
}

/// `xadd reg, reg`.
pub fn xadd_rr<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let (a, b): (T, T) = (v.st.reg(op.dst), v.st.reg(op.src));
    let (r, flags) = Add::apply(v.st.flags, a, b);
    v.st.flags = flags;
    v.st.set_reg(op.src, a);
    v.st.set_reg(op.dst, r);
    Ok(())
}

/// `xadd mem, reg`.
pub fn xadd_mr<T: Word, M: Ea>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let la = M::linear(v, op, T::BYTES, true)?;
    let b: T = v.st.reg(op.src);
    let mut old = T::default();
    v.modify(la, |v, a| {
        let (r, flags) = Add::apply(v.st.flags, a, b);
        v.st.flags = flags;
        old = a;
        r
    })?;
    v.st.set_reg(op.src, old);
    Ok(())
}

/// `cmpxchg reg, reg`.
pub fn cmpxchg_rr<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let (acc, d): (T, T) = (v.st.reg(0), v.st.reg(op.dst));
    v.st.flags = Cmp::apply(v.st.flags, acc, d).1;
    if acc == d {
        let s: T = v.st.reg(op.src);
        v.st.set_reg(op.dst, s);
    } else {
        v.st.set_reg(0, d);
    }
    Ok(())
}

/// `cmpxchg mem, reg`. The destination is written in either case.
pub fn cmpxchg_mr<T: Word, M: Ea>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let la = M::linear(v, op, T::BYTES, true)?;
    let (acc, s): (T, T) = (v.st.reg(0), v.st.reg(op.src));
    let mut seen = acc;
    v.modify(la, |_, d| {
        seen = d;
        if d == acc { s } else { d }
    })?;
    v.st.flags = Cmp::apply(v.st.flags, acc, seen).1;
    if seen != acc {
        v.st.set_reg(0, seen);
    }
    Ok(())
}

/// CMPXCHG8B: one access of 8 bytes each way.
pub fn cmpxchg8b(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let la = super::Any::linear(v, op, 8, true)?;
    let pair = |v: &Vcpu<'_>, high: u8, low: u8| v.st.gpr(high) << 32 | v.st.gpr(low) & 0xffff_ffff;
    let (want, new) = (pair(v, reg::RDX, reg::RAX), pair(v, reg::RCX, reg::RBX));
    let mut seen = want;
    v.modify(la, |_, d: u64| {
        seen = d;
        if d == want { new } else { d }
    })?;
    if seen != want {
        v.st.set_gpr(reg::RAX, seen & 0xffff_ffff);
        v.st.set_gpr(reg::RDX, seen >> 32);
    }
    set_zf(v, seen == want);
    Ok(())
}

/// CMPXCHG16B.
pub fn cmpxchg16b(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let la = super::Any::linear(v, op, 16, true)?;
    if la & 15 != 0 {
        return Err(v.gp(0));
    }
    v.probe_write(la, 16)?;
    let seen = v.load128(la)?;
    let equal = seen == [v.st.gpr(reg::RAX), v.st.gpr(reg::RDX)];
    let new = if equal { [v.st.gpr(reg::RBX), v.st.gpr(reg::RCX)] } else { seen };
    v.store128(la, new)?;
    if !equal {
        v.st.set_gpr(reg::RAX, seen[0]);
        v.st.set_gpr(reg::RDX, seen[1]);
    }
    set_zf(v, equal);
    Ok(())
}

fn set_zf(v: &mut Vcpu<'_>, on: bool) {
    let others = v.st.arith() & !eflags::ZF;
    v.st.set_arith(others | if on { eflags::ZF } else { 0 });
}

/// `cmovcc reg, reg`. A 32-bit destination is zero-extended in either case.
pub fn cmov_rr<T: Word, const CC: u8>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let value: T = if v.st.flags.condition::<CC>() { v.st.reg(op.src) } else { v.st.reg(op.dst) };
    v.st.set_reg(op.dst, value);
    Ok(())
}

/// `cmovcc reg, mem`: the load happens in either case.
pub fn cmov_rm<T: Word, M: Ea, const CC: u8>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let loaded: T = v.load_ea::<T, M>(op)?;
    let value: T = if v.st.flags.condition::<CC>() { loaded } else { v.st.reg(op.dst) };
    v.st.set_reg(op.dst, value);
    Ok(())
}

/// `setcc reg`.
pub fn setcc_r<const CC: u8>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let value = u8::from(v.st.flags.condition::<CC>());
    v.st.set_reg(op.dst, value);
    Ok(())
}

/// `setcc mem`.
pub fn setcc_m<M: Ea, const CC: u8>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let value = u8::from(v.st.flags.condition::<CC>());
    v.store_ea::<u8, M>(op, value)
}

/// BSWAP. A 16-bit operand is undefined; processors clear it.
pub fn bswap<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let value: T = v.st.reg(op.dst);
    let swapped = match T::BYTES {
        8 => value.zext().swap_bytes(),
        4 => u64::from((value.zext() as u32).swap_bytes()),
        _ => 0,
    };
    v.st.set_reg(op.dst, T::trunc(swapped));
    Ok(())
}

/// CBW, CWDE, CDQE: `S` into the accumulator of `D`.
pub fn extend_acc<D: Word, S: Word>(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    let s: S = v.st.reg(0);
    v.st.set_reg(0, D::trunc(s.sext()));
    Ok(())
}

/// CWD, CDQ, CQO: the accumulator's sign into rDX.
pub fn extend_dx<T: Word>(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    let a: T = v.st.reg(0);
    v.st.set_reg(reg::RDX * 8, T::trunc(if a.sign() { u64::MAX } else { 0 }));
    Ok(())
}

/// XLAT.
pub fn xlat(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let al: u8 = v.st.reg(0);
    let at = v.st.gpr(reg::RBX).wrapping_add(al.into()) & op.address_mask();
    let la = v.linear(op.segment(), at, 1, false)?;
    let value: u8 = v.load(la)?;
    v.st.set_reg(0, value);
    Ok(())
}

/// NOP, and what a processor may treat as one.
pub fn nop(_v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    Ok(())
}

/// MOVBE: `mov reg, mem` with bytes swapped.
pub fn movbe_rm<T: Word, M: Ea>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let value: T = v.load_ea::<T, M>(op)?;
    v.st.set_reg(op.dst, swap(value));
    Ok(())
}

/// MOVBE: `mov mem, reg` with bytes swapped.
pub fn movbe_mr<T: Word, M: Ea>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.store_ea::<T, M>(op, swap(v.st.reg(op.src)))
}

fn swap<T: Word>(value: T) -> T {
    T::trunc(value.zext().swap_bytes() >> (64 - T::BITS))
}
