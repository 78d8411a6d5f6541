//! ADD, OR, ADC, SBB, AND, SUB, XOR, CMP, TEST, INC, DEC, NEG, NOT, and the decimal adjustments.

use super::{Ea, Op};
use crate::exception::Vector;
use crate::state::{Flags, eflags, reg};
use crate::vcpu::{Stop, Vcpu};
use crate::word::Word;

/// A two-operand operation.
pub trait Binary {
    /// Whether the result goes back to the destination.
    const WRITES: bool = true;
    /// Result and flags.
    fn apply<T: Word>(flags: Flags, a: T, b: T) -> (T, Flags);
}

/// A one-operand operation.
pub trait Unary {
    /// Result and flags.
    fn apply<T: Word>(flags: Flags, a: T) -> (T, Flags);
}

macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident, $writes:expr, |$flags:ident, $a:ident, $b:ident| $body:expr;)*) => {$(
        $(#[$doc])*
        pub struct $name;
        impl Binary for $name {
            const WRITES: bool = $writes;
            #[inline(always)]
            fn apply<T: Word>($flags: Flags, $a: T, $b: T) -> (T, Flags) {
                $body
            }
        }
    )*};
}

#[inline(always)]
fn add<T: Word>(a: T, b: T, carry: bool) -> (T, Flags) {
    let r = T::trunc(a.zext().wrapping_add(b.zext()).wrapping_add(carry.into()));
    (r, Flags::of_add(a, b, r))
}

#[inline(always)]
fn sub<T: Word>(a: T, b: T, borrow: bool) -> (T, Flags) {
    let r = T::trunc(a.zext().wrapping_sub(b.zext()).wrapping_sub(borrow.into()));
    (r, Flags::of_sub(a, b, r))
}

#[inline(always)]
fn logic<T: Word>(r: u64) -> (T, Flags) {
    let r = T::trunc(r);
    (r, Flags::of_logic(r))
}

binary! {
    /// ADD.
    Add, true, |_f, a, b| add(a, b, false);
    /// ADC.
    Adc, true, |f, a, b| add(a, b, f.cf());
    /// SUB.
    Sub, true, |_f, a, b| sub(a, b, false);
    /// SBB.
    Sbb, true, |f, a, b| sub(a, b, f.cf());
    /// CMP.
    Cmp, false, |_f, a, b| sub(a, b, false);
    /// AND.
    And, true, |_f, a, b| logic(a.zext() & b.zext());
    /// OR.
    Or, true, |_f, a, b| logic(a.zext() | b.zext());
    /// XOR.
    Xor, true, |_f, a, b| logic(a.zext() ^ b.zext());
    /// TEST.
    Test, false, |_f, a, b| logic(a.zext() & b.zext());
}

/// INC.
pub struct Inc;
/// DEC.
pub struct Dec;
/// NEG.
pub struct Neg;
/// NOT.
pub struct Not;

impl Unary for Inc {
    #[inline(always)]
    fn apply<T: Word>(flags: Flags, a: T) -> (T, Flags) {
        let (r, f) = add(a, T::trunc(1), false);
        (r, f.with_cf(flags.cf()))
    }
}

impl Unary for Dec {
    #[inline(always)]
    fn apply<T: Word>(flags: Flags, a: T) -> (T, Flags) {
        let (r, f) = sub(a, T::trunc(1), false);
        (r, f.with_cf(flags.cf()))
    }
}

impl Unary for Neg {
    #[inline(always)]
    fn apply<T: Word>(_flags: Flags, a: T) -> (T, Flags) {
        sub(T::trunc(0), a, false)
    }
}

impl Unary for Not {
    #[inline(always)]
    fn apply<T: Word>(flags: Flags, a: T) -> (T, Flags) {
        (T::trunc(!a.zext()), flags)
    }
}

/// `op reg, reg`.
#[inline(always)]
pub fn rr<T: Word, O: Binary>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let (r, flags) = O::apply::<T>(v.st.flags, v.st.reg(op.dst), v.st.reg(op.src));
    v.st.flags = flags;
    if O::WRITES {
        v.st.set_reg(op.dst, r);
    }
    Ok(())
}

/// `op reg, imm`.
#[inline(always)]
pub fn ri<T: Word, O: Binary>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let (r, flags) = O::apply::<T>(v.st.flags, v.st.reg(op.dst), T::trunc(op.imm));
    v.st.flags = flags;
    if O::WRITES {
        v.st.set_reg(op.dst, r);
    }
    Ok(())
}

/// `op reg, mem`.
#[inline(always)]
pub fn rm<T: Word, M: Ea, O: Binary>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.load_ea_then::<T, M>(op, |v, b| {
        let (r, flags) = O::apply::<T>(v.st.flags, v.st.reg(op.dst), b);
        v.st.flags = flags;
        if O::WRITES {
            v.st.set_reg(op.dst, r);
        }
    })
}

#[inline(always)]
fn on_memory<T: Word, M: Ea, O: Binary>(v: &mut Vcpu<'_>, op: &Op, b: T) -> Result<(), Stop> {
    if !O::WRITES {
        return v.load_ea_then::<T, M>(op, |v, a| v.st.flags = O::apply::<T>(v.st.flags, a, b).1);
    }
    let la = M::linear(v, op, T::BYTES, true)?;
    v.modify(la, |v, a| {
        let (r, flags) = O::apply::<T>(v.st.flags, a, b);
        v.st.flags = flags;
        r
    })
}

/// `op mem, reg`.
#[inline(always)]
pub fn mr<T: Word, M: Ea, O: Binary>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let b = v.st.reg(op.src);
    on_memory::<T, M, O>(v, op, b)
}

/// `op mem, imm`.
#[inline(always)]
pub fn mi<T: Word, M: Ea, O: Binary>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    on_memory::<T, M, O>(v, op, T::trunc(op.imm))
}

/// `op reg`.
#[inline(always)]
pub fn unary_r<T: Word, O: Unary>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let (r, flags) = O::apply::<T>(v.st.flags, v.st.reg(op.dst));
    v.st.flags = flags;
    v.st.set_reg(op.dst, r);
    Ok(())
}

/// `op mem`.
pub fn unary_m<T: Word, M: Ea, O: Unary>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let la = M::linear(v, op, T::BYTES, true)?;
    v.modify(la, |v, a: T| {
        let (r, flags) = O::apply(v.st.flags, a);
        v.st.flags = flags;
        r
    })
}

const AL: u8 = 0;
const AH: u8 = 1;

/// AAA and AAS: `SUBTRACT` selects.
pub fn ascii_adjust<const SUBTRACT: bool>(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    let (al, ax): (u8, u16) = (v.st.reg(AL), v.st.reg(AL));
    let adjust = al & 15 > 9 || v.st.flags.af();
    if adjust {
        let ax = if SUBTRACT { ax.wrapping_sub(0x106) } else { ax.wrapping_add(0x106) };
        v.st.set_reg(AL, ax);
    }
    let al: u8 = v.st.reg::<u8>(AL) & 15;
    v.st.set_reg(AL, al);
    let carry = if adjust { eflags::CF | eflags::AF } else { 0 };
    v.st.set_arith(Flags::of_logic(al).bits() | carry);
    Ok(())
}

/// DAA and DAS.
pub fn decimal_adjust<const SUBTRACT: bool>(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    let al: u8 = v.st.reg(AL);
    let (low, high) = (al & 15 > 9 || v.st.flags.af(), al > 0x99 || v.st.flags.cf());
    let by = if low { 6 } else { 0 } + if high { 0x60 } else { 0 };
    let r = if SUBTRACT { al.wrapping_sub(by) } else { al.wrapping_add(by) };
    v.st.set_reg(AL, r);
    let borrow = SUBTRACT && low && al < 6;
    let flags = if low { eflags::AF } else { 0 } | if high || borrow { eflags::CF } else { 0 };
    v.st.set_arith(Flags::of_logic(r).bits() | flags);
    Ok(())
}

/// AAM: a zero base is a divide error.
pub fn aam(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let (al, base): (u8, u8) = (v.st.reg(AL), op.imm as u8);
    if base == 0 {
        return Err(v.raise(Vector::DIVIDE_ERROR));
    }
    v.st.set_reg(AH, al / base);
    v.st.set_reg(AL, al % base);
    v.st.flags = Flags::of_logic(al % base);
    Ok(())
}

/// AAD.
pub fn aad(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let (al, ah): (u8, u8) = (v.st.reg(AL), v.st.reg(AH));
    let r = al.wrapping_add(ah.wrapping_mul(op.imm as u8));
    v.st.set_reg(AL, u16::from(r));
    v.st.flags = Flags::of_logic(r);
    Ok(())
}

/// CMC, CLC, STC.
pub fn carry<const CHANGE: u8>(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    let cf = match CHANGE {
        0 => false,
        1 => true,
        _ => !v.st.flags.cf(),
    };
    v.st.flags = v.st.flags.with_cf(cf);
    Ok(())
}

/// CLD, STD.
pub fn direction<const SET: bool>(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    v.st.eflags = v.st.eflags & !eflags::DF | if SET { eflags::DF } else { 0 };
    Ok(())
}

/// LAHF.
pub fn lahf(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    let flags = v.st.rflags() as u8;
    v.st.set_reg(AH, flags);
    Ok(())
}

/// SAHF.
pub fn sahf(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    let ah: u8 = v.st.reg(AH);
    let overflow = v.st.arith() & eflags::OF;
    v.st.set_arith(u64::from(ah) | overflow);
    Ok(())
}

/// SALC: AL from carry.
pub fn salc(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    let al: u8 = if v.st.flags.cf() { 0xff } else { 0 };
    v.st.set_reg(reg::RAX * 8, al);
    Ok(())
}
