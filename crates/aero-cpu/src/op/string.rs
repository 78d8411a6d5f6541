//! MOVS, CMPS, SCAS, LODS, STOS, INS, OUTS and their repeats.
//!
//! A repeat may be interrupted after any iteration and resumes where it was, with every register exact. Each iteration
//! counts as one instruction of the budget. MOVS and STOS upwards through flat segments go by page runs, one host copy
//! each.

#![allow(unsafe_code, reason = "bulk copies between RAM runs that `run_at` gave")]

use super::Op;
use crate::state::{Flags, eflags, reg, seg};
use crate::vcpu::{Stop, Vcpu};
use crate::word::Word;

/// One iteration without the count.
pub trait Step {
    /// Whether a repeat also ends by ZF (CMPS, SCAS).
    const COMPARES: bool = false;

    /// Moves one element; on an error nothing has changed.
    fn step<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop>;

    /// Moves up to `most` elements at once; 0 if that cannot be done here.
    fn bulk<T: Word>(_v: &mut Vcpu<'_>, _op: &Op, _most: u64) -> Result<u64, Stop> {
        Ok(0)
    }
}

/// MOVS.
pub struct Movs;
/// CMPS.
pub struct Cmps;
/// SCAS.
pub struct Scas;
/// LODS.
pub struct Lods;
/// STOS.
pub struct Stos;
/// INS.
pub struct Ins;
/// OUTS.
pub struct Outs;

impl Vcpu<'_> {
    fn source<T: Word>(&mut self, op: &Op) -> Result<u64, Stop> {
        let at = self.st.gpr(reg::RSI) & op.address_mask();
        self.linear(op.segment(), at, T::BYTES, false)
    }

    fn destination<T: Word>(&mut self, op: &Op, write: bool) -> Result<u64, Stop> {
        let at = self.st.gpr(reg::RDI) & op.address_mask();
        self.linear(seg::ES, at, T::BYTES, write)
    }

    /// Moves an index register by `elements` in the direction that DF gives.
    #[inline]
    fn advance<T: Word>(&mut self, op: &Op, n: u8, elements: u64) {
        let by = elements.wrapping_mul(T::BYTES.into());
        let at = self.st.gpr(n);
        let down = self.st.eflags & eflags::DF != 0;
        self.set_address_reg(op, n, if down { at.wrapping_sub(by) } else { at.wrapping_add(by) });
    }

    /// Whether page runs may be used: upwards and with nothing to check per element.
    fn bulk_ok(&self, op: &Op) -> bool {
        let segment_free = self.mode.code == aero_x86::CodeSize::B64 || op.segment() < seg::FS;
        self.mode.flat && self.st.eflags & eflags::DF == 0 && segment_free && op.address_size() > 2
    }
}

impl Step for Movs {
    fn step<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
        let from = v.source::<T>(op)?;
        let value: T = v.load(from)?;
        let to = v.destination::<T>(op, true)?;
        v.store(to, value)?;
        v.advance::<T>(op, reg::RSI, 1);
        v.advance::<T>(op, reg::RDI, 1);
        Ok(())
    }

    fn bulk<T: Word>(v: &mut Vcpu<'_>, op: &Op, most: u64) -> Result<u64, Stop> {
        if !v.bulk_ok(op) {
            return Ok(0);
        }
        let (from, to) = (v.source::<T>(op)?, v.destination::<T>(op, true)?);
        let (Some(src), Some(dst)) = (v.run_at(from, false)?, v.run_at(to, true)?) else { return Ok(0) };
        let n = most.min(u64::from(src.1.min(dst.1) / T::BYTES));
        let bytes = n as u32 * T::BYTES;
        if n == 0 || (dst.0 > src.0 && dst.0 < src.0 + bytes) {
            // An upward copy onto itself repeats a pattern: element by element.
            return Ok(0);
        }
        // SAFETY: both runs lie in RAM pages and hold `bytes` bytes.
        unsafe {
            let to = v.base.at::<u8>(dst.0.into());
            v.base.at::<u8>(src.0.into()).cast_const().copy_to(to, bytes as usize);
        }
        v.wrote(dst.0, bytes);
        v.advance::<T>(op, reg::RSI, n);
        v.advance::<T>(op, reg::RDI, n);
        Ok(n)
    }
}

impl Step for Stos {
    fn step<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
        let to = v.destination::<T>(op, true)?;
        v.store::<T>(to, v.st.reg(0))?;
        v.advance::<T>(op, reg::RDI, 1);
        Ok(())
    }

    fn bulk<T: Word>(v: &mut Vcpu<'_>, op: &Op, most: u64) -> Result<u64, Stop> {
        if !v.bulk_ok(op) {
            return Ok(0);
        }
        let to = v.destination::<T>(op, true)?;
        let Some(dst) = v.run_at(to, true)? else { return Ok(0) };
        let n = most.min(u64::from(dst.1 / T::BYTES));
        let value: T = v.st.reg(0);
        for i in 0..n {
            // SAFETY: the run lies in a RAM page and holds `n` elements.
            unsafe { v.base.write(u64::from(dst.0) + i * u64::from(T::BYTES), value) }
        }
        if n > 0 {
            v.wrote(dst.0, n as u32 * T::BYTES);
            v.advance::<T>(op, reg::RDI, n);
        }
        Ok(n)
    }
}

impl Step for Lods {
    fn step<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
        let from = v.source::<T>(op)?;
        let value: T = v.load(from)?;
        v.st.set_reg(0, value);
        v.advance::<T>(op, reg::RSI, 1);
        Ok(())
    }
}

fn compare<T: Word>(v: &mut Vcpu<'_>, a: T, b: T) {
    v.st.flags = Flags::of_sub(a, b, T::trunc(a.zext().wrapping_sub(b.zext())));
}

impl Step for Cmps {
    const COMPARES: bool = true;

    fn step<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
        let from = v.source::<T>(op)?;
        let a: T = v.load(from)?;
        let to = v.destination::<T>(op, false)?;
        let b: T = v.load(to)?;
        compare(v, a, b);
        v.advance::<T>(op, reg::RSI, 1);
        v.advance::<T>(op, reg::RDI, 1);
        Ok(())
    }
}

impl Step for Scas {
    const COMPARES: bool = true;

    fn step<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
        let to = v.destination::<T>(op, false)?;
        let b: T = v.load(to)?;
        compare(v, v.st.reg(0), b);
        v.advance::<T>(op, reg::RDI, 1);
        Ok(())
    }
}

impl Step for Ins {
    fn step<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
        let port: u16 = v.st.reg(reg::RDX * 8);
        v.check_io(port, T::BYTES)?;
        let to = v.destination::<T>(op, true)?;
        v.probe_write(to, T::BYTES)?;
        let value = v.read_port(port, T::BYTES);
        v.store(to, T::trunc(value.into()))?;
        v.advance::<T>(op, reg::RDI, 1);
        Ok(())
    }
}

impl Step for Outs {
    fn step<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
        let port: u16 = v.st.reg(reg::RDX * 8);
        v.check_io(port, T::BYTES)?;
        let from = v.source::<T>(op)?;
        let value: T = v.load(from)?;
        v.write_port(port, T::BYTES, value.zext() as u32);
        v.advance::<T>(op, reg::RSI, 1);
        Ok(())
    }
}

/// Without a repeat prefix.
pub fn once<T: Word, S: Step>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    S::step::<T>(v, op)
}

/// With REP, REPE (`WHILE` true) or REPNE. The last instruction of its block, so that all budget left is its own.
pub fn repeat<T: Word, S: Step, const WHILE: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let mut count = v.st.gpr(reg::RCX) & op.address_mask();
    let allowed = if v.stepping { 1 } else { v.st.budget.max(0) as u64 + 1 };
    let mut done = 0;
    let result = loop {
        if count == 0 {
            break Ok(true);
        }
        if done == allowed || v.attention {
            break Ok(false);
        }
        let moved = match S::bulk::<T>(v, op, count.min(allowed - done)) {
            Ok(0) => S::step::<T>(v, op).map(|()| 1),
            other => other,
        };
        match moved {
            Ok(n) => {
                done += n;
                count -= n;
                // Charged at once, so that the next iteration's device access has its own time.
                v.st.budget -= n as i64;
                v.set_address_reg(op, reg::RCX, count);
            }
            Err(stop) => break Err(stop),
        }
        if S::COMPARES && v.st.flags.zf() != WHILE {
            break Ok(true);
        }
    };
    match result {
        Ok(finished) => {
            // The block's charge has paid for one iteration already.
            v.st.budget += done.min(1) as i64;
            if !finished {
                return Err(Stop::Again);
            }
            v.st.rip = v.next_rip(op);
            Err(Stop::Branch)
        }
        Err(stop) => Err(stop),
    }
}
