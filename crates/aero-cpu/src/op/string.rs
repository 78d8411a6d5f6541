//! MOVS, CMPS, SCAS, LODS, STOS, INS, OUTS and their repeats.
//!
//! A repeat may be interrupted after any iteration and resumes where it was, with every register exact. Each iteration
//! counts as one instruction of the budget. All but INS and OUTS go by page runs: as many elements as lie in one page of
//! RAM at each end are moved or compared at once. What does not fit (an element across pages, device memory, the end of a
//! segment) takes one element at a time.
//!
//! A run never covers decoded code: a store to code goes element by element, and the repeat is fetched anew after it. So a
//! repeat that overwrites itself runs its new bytes from the next iteration on, however the budget slices it.

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

    /// Moves up to `most` elements at once, a comparison as long as ZF is `WHILE`; 0 if that cannot be done here.
    fn bulk<T: Word, const WHILE: bool>(_v: &mut Vcpu<'_>, _op: &Op, _most: u64) -> Result<u64, Stop> {
        Ok(0)
    }
}

/// Elements that lie in one page of RAM: the first one's arena offset, and how many.
#[derive(Clone, Copy)]
struct PageRun {
    first: u32,
    len: u64,
}

impl PageRun {
    /// The arena offset of element `i`.
    #[inline(always)]
    fn at<T: Word>(self, i: u64, down: bool) -> u64 {
        let by = i * u64::from(T::BYTES);
        if down { u64::from(self.first) - by } else { u64::from(self.first) + by }
    }

    /// The lowest byte of the first `n` elements.
    fn low<T: Word>(self, n: u64, down: bool) -> u32 {
        if down { self.at::<T>(n - 1, true) as u32 } else { self.first }
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

    #[inline(always)]
    fn goes_down(&self) -> bool {
        self.st.eflags & eflags::DF != 0
    }

    /// At most `most` elements from `segment:[register n]` in the direction that DF gives. A fault is the first element's;
    /// `None` when that one needs a closer look.
    fn page_run<T: Word>(
        &mut self,
        op: &Op,
        segment: u8,
        n: u8,
        most: u64,
        write: bool,
    ) -> Result<Option<PageRun>, Stop> {
        let (size, down) = (u64::from(T::BYTES), self.goes_down());
        let offset = self.st.gpr(n) & op.address_mask();
        let s = &self.st.segments[usize::from(segment)];
        let long = self.mode.code == aero_x86::CodeSize::B64;
        let la = match long {
            true if segment < seg::FS => offset,
            true => s.base.wrapping_add(offset),
            false => s.base.wrapping_add(offset) & 0xffff_ffff,
        };
        let (in_page, in_space) = match down {
            true => ((la & 0xfff) / size + 1, offset / size + 1),
            false => ((0x1000 - (la & 0xfff)) / size, (op.address_mask() - offset) / size),
        };
        let len = most.min(in_page).min(in_space);
        let crosses = (la & 0xfff) + size > 0x1000;
        if len == 0 || crosses || la & (size - 1) != 0 && self.alignment_checked() {
            return Ok(None);
        }
        let low = if down { offset - (len - 1) * size } else { offset };
        if !long && !super::segment_allows(s, low, (len * size) as u32, write) {
            return Ok(None);
        }
        Ok(self.run_at(la, write)?.map(|(first, _)| PageRun { first, len }))
    }

    /// Whether `bytes` bytes at arena offset `at`, within a page, hold decoded code.
    fn holds_code(&self, at: u32, bytes: u32) -> bool {
        self.mem.code_map(self.mem.page_of(at)) & aero_mem::granules(at & 0xfff, bytes) != 0
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

    fn bulk<T: Word, const WHILE: bool>(v: &mut Vcpu<'_>, op: &Op, most: u64) -> Result<u64, Stop> {
        let Some(src) = v.page_run::<T>(op, op.segment(), reg::RSI, most, false)? else { return Ok(0) };
        let Some(dst) = v.page_run::<T>(op, seg::ES, reg::RDI, src.len, true)? else { return Ok(0) };
        let (n, down) = (dst.len, v.goes_down());
        let (from, to, bytes) = (src.low::<T>(n, down), dst.low::<T>(n, down), n as u32 * T::BYTES);
        if v.holds_code(to, bytes) {
            return Ok(0);
        }
        // Copying onto what is still to be read repeats a pattern, element by element.
        let repeats = from != to && (from < to) != down && from.abs_diff(to) < bytes;
        // SAFETY: both runs lie in RAM pages and hold `bytes` bytes.
        unsafe {
            if repeats {
                for i in 0..n {
                    let value: T = v.base.read(src.at::<T>(i, down));
                    v.base.write(dst.at::<T>(i, down), value);
                }
            } else {
                let to = v.base.at::<u8>(to.into());
                v.base.at::<u8>(from.into()).cast_const().copy_to(to, bytes as usize);
            }
        }
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

    fn bulk<T: Word, const WHILE: bool>(v: &mut Vcpu<'_>, op: &Op, most: u64) -> Result<u64, Stop> {
        let Some(dst) = v.page_run::<T>(op, seg::ES, reg::RDI, most, true)? else { return Ok(0) };
        let (n, down) = (dst.len, v.goes_down());
        let (low, bytes) = (dst.low::<T>(n, down), n as u32 * T::BYTES);
        if v.holds_code(low, bytes) {
            return Ok(0);
        }
        let value: T = v.st.reg(0);
        let run = PageRun { first: low, ..dst };
        for i in 0..n {
            // SAFETY: the run lies in a RAM page and holds `n` elements.
            unsafe { v.base.write(run.at::<T>(i, false), value) }
        }
        v.advance::<T>(op, reg::RDI, n);
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

    /// Only the last element remains.
    fn bulk<T: Word, const WHILE: bool>(v: &mut Vcpu<'_>, op: &Op, most: u64) -> Result<u64, Stop> {
        let Some(src) = v.page_run::<T>(op, op.segment(), reg::RSI, most, false)? else { return Ok(0) };
        // SAFETY: the run lies in a RAM page.
        let value: T = unsafe { v.base.read(src.at::<T>(src.len - 1, v.goes_down())) };
        v.st.set_reg(0, value);
        v.advance::<T>(op, reg::RSI, src.len);
        Ok(src.len)
    }
}

fn compare<T: Word>(v: &mut Vcpu<'_>, a: T, b: T) {
    v.st.flags = Flags::of_sub(a, b, T::trunc(a.zext().wrapping_sub(b.zext())));
}

/// Compares elements until one ends the repeat, sets the flags of the last comparison and tells how many were made.
fn compare_run<T: Word, const WHILE: bool>(
    v: &mut Vcpu<'_>,
    n: u64,
    pair: impl Fn(&Vcpu<'_>, u64) -> (T, T),
) -> u64 {
    let mut i = 0;
    loop {
        let (a, b) = pair(v, i);
        i += 1;
        if i == n || (a == b) != WHILE {
            compare(v, a, b);
            return i;
        }
    }
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

    fn bulk<T: Word, const WHILE: bool>(v: &mut Vcpu<'_>, op: &Op, most: u64) -> Result<u64, Stop> {
        let Some(src) = v.page_run::<T>(op, op.segment(), reg::RSI, most, false)? else { return Ok(0) };
        let Some(dst) = v.page_run::<T>(op, seg::ES, reg::RDI, src.len, false)? else { return Ok(0) };
        let down = v.goes_down();
        // SAFETY: both runs lie in RAM pages and hold `dst.len` elements.
        let n = compare_run::<T, WHILE>(v, dst.len, |v, i| unsafe {
            (v.base.read(src.at::<T>(i, down)), v.base.read(dst.at::<T>(i, down)))
        });
        v.advance::<T>(op, reg::RSI, n);
        v.advance::<T>(op, reg::RDI, n);
        Ok(n)
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

    fn bulk<T: Word, const WHILE: bool>(v: &mut Vcpu<'_>, op: &Op, most: u64) -> Result<u64, Stop> {
        let Some(dst) = v.page_run::<T>(op, seg::ES, reg::RDI, most, false)? else { return Ok(0) };
        let (down, a) = (v.goes_down(), v.st.reg::<T>(0));
        // SAFETY: the run lies in a RAM page and holds `dst.len` elements.
        let n = compare_run::<T, WHILE>(v, dst.len, |v, i| (a, unsafe { v.base.read(dst.at::<T>(i, down)) }));
        v.advance::<T>(op, reg::RDI, n);
        Ok(n)
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

/// With REP, REPE (`WHILE` true) or REPNE. The last instruction of its block, so that all budget left is its own. A fault
/// gives CMPS and SCAS the flags back that they began with (Intel SDM vol. 2B, REP); one that only ran out of budget has
/// not ended, and remembers them.
pub fn repeat<T: Word, S: Step, const WHILE: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let mut count = v.st.gpr(reg::RCX) & op.address_mask();
    let allowed = if v.stepping { 1 } else { v.st.budget.max(0) as u64 + 1 };
    let mut done = 0;
    let flags_before = v.core.repeat_flags.take().unwrap_or(v.st.flags);
    let result = loop {
        if count == 0 {
            break Ok(true);
        }
        if done == allowed || v.attention {
            break Ok(false);
        }
        let moved = match S::bulk::<T, WHILE>(v, op, count.min(allowed - done)) {
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
                v.core.repeat_flags = S::COMPARES.then_some(flags_before);
                return Err(Stop::Again);
            }
            v.st.rip = v.next_rip(op);
            Err(Stop::Branch)
        }
        Err(stop) => {
            if S::COMPARES {
                v.st.flags = flags_before;
            }
            Err(stop)
        }
    }
}
