//! PUSH, POP and what else moves the stack pointer.

use super::{Ea, Op};
use crate::exception::Vector;
use crate::state::{cr4, eflags, reg, seg};
use crate::vcpu::{Shadow, Stop, Vcpu};
use crate::word::Word;
use aero_x86::CodeSize;

impl Vcpu<'_> {
    /// Bits of the stack pointer that count.
    #[inline(always)]
    pub(crate) fn sp_mask(&self) -> u64 {
        match (self.mode.code, self.mode.stack32) {
            (CodeSize::B64, _) => u64::MAX,
            (_, true) => 0xffff_ffff,
            (_, false) => 0xffff,
        }
    }

    /// Sets the stack pointer in its size.
    #[inline(always)]
    pub(crate) fn set_sp(&mut self, sp: u64) {
        match (self.mode.code, self.mode.stack32) {
            (CodeSize::B64, _) => self.st.set_gpr(reg::RSP, sp),
            (_, true) => self.st.set_reg(reg::RSP * 8, sp as u32),
            (_, false) => self.st.set_reg(reg::RSP * 8, sp as u16),
        }
    }

    /// Moves the stack pointer up.
    #[inline(always)]
    pub(crate) fn add_sp(&mut self, by: u64) {
        let sp = self.st.gpr(reg::RSP).wrapping_add(by);
        self.set_sp(sp);
    }

    /// Linear address of `len` bytes at stack offset `sp`.
    #[inline(always)]
    fn stack_linear(&mut self, sp: u64, len: u32, write: bool) -> Result<u64, Stop> {
        if self.mode.flat { Ok(sp) } else { self.linear(seg::SS, sp, len, write) }
    }

    /// A stack access at a non-canonical address is #SS(0), whatever else the instruction addresses.
    #[cold]
    fn stack_stop(&mut self, stop: Stop) -> Stop {
        if stop == Stop::NonCanonical { self.raise_code(Vector::STACK, 0) } else { stop }
    }

    /// Pushes one value.
    #[inline(always)]
    pub(crate) fn push<T: Word>(&mut self, value: T) -> Result<(), Stop> {
        let sp = self.st.gpr(reg::RSP).wrapping_sub(T::BYTES.into()) & self.sp_mask();
        let la = self.stack_linear(sp, T::BYTES, true)?;
        self.store(la, value).map_err(|stop| self.stack_stop(stop))?;
        self.set_sp(sp);
        Ok(())
    }

    /// Reads the value `above` bytes above the stack pointer.
    #[inline(always)]
    pub(crate) fn peek<T: Word>(&mut self, above: u64) -> Result<T, Stop> {
        let sp = self.st.gpr(reg::RSP).wrapping_add(above) & self.sp_mask();
        let la = self.stack_linear(sp, T::BYTES, false)?;
        self.load(la).map_err(|stop| self.stack_stop(stop))
    }

    /// Checks an access at stack offset `sp`.
    fn probe_at(&mut self, sp: u64, len: u32, write: bool) -> Result<(), Stop> {
        let la = self.stack_linear(sp & self.sp_mask(), len, write)?;
        self.check_alignment(la, len)?;
        let found = if write { self.probe_write(la, len) } else { self.probe_read(la, len) };
        found.map_err(|stop| self.stack_stop(stop))
    }

    /// Checks an access at stack offset RSP - `below`.
    fn probe_slot(&mut self, below: u64, len: u32, write: bool) -> Result<(), Stop> {
        self.probe_at(self.st.gpr(reg::RSP).wrapping_sub(below), len, write)
    }

    /// Writes at stack offset RSP - `below`, without moving the stack pointer.
    pub(crate) fn poke<T: Word>(&mut self, below: u64, value: T) -> Result<(), Stop> {
        let sp = self.st.gpr(reg::RSP).wrapping_sub(below) & self.sp_mask();
        let la = self.stack_linear(sp, T::BYTES, true)?;
        self.store(la, value).map_err(|stop| self.stack_stop(stop))
    }
}

/// `push reg`.
#[inline(always)]
pub fn push_r<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.push::<T>(v.st.reg(op.dst))
}

/// `push imm`.
pub fn push_i<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.push(T::trunc(op.imm))
}

/// `push mem`.
pub fn push_m<T: Word, M: Ea>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let value: T = v.load_ea::<T, M>(op)?;
    v.push(value)
}

/// `push sreg`: zero-extended, but a 4-byte slot keeps its upper half (Intel SDM vol. 2B, PUSH: recent processors move
/// 16 bits).
pub fn push_seg<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let selector = v.st.segments[usize::from(op.src)].selector;
    if T::BYTES != 4 {
        return v.push(T::trunc(selector.into()));
    }
    v.poke(4, selector)?;
    v.add_sp(4u64.wrapping_neg());
    Ok(())
}

/// `pop reg`.
#[inline(always)]
pub fn pop_r<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let value: T = v.peek(0)?;
    v.add_sp(T::BYTES.into());
    v.st.set_reg(op.dst, value);
    Ok(())
}

/// `pop mem`: an address based on the stack pointer uses its value after the pop.
pub fn pop_m<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let value: T = v.peek(0)?;
    let before = v.st.gpr(reg::RSP);
    v.add_sp(T::BYTES.into());
    let done = v.store_ea::<T, super::Any>(op, value);
    if done.is_err() {
        v.st.set_gpr(reg::RSP, before);
    }
    done
}

/// `pop sreg`.
pub fn pop_seg<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let selector: u16 = v.peek(0)?;
    v.load_segment(op.dst, selector)?;
    v.add_sp(T::BYTES.into());
    if op.dst == seg::SS {
        v.hold_interrupts(Shadow::Traps);
    }
    v.st.rip = v.next_rip(op);
    Err(Stop::Branch)
}

/// PUSHA: every slot is checked before the first is written.
pub fn pusha<T: Word>(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    let bytes = u64::from(T::BYTES);
    (1..=8).try_for_each(|n| v.probe_slot(bytes * n, T::BYTES, true))?;
    for n in 0..8u8 {
        v.poke::<T>(bytes * u64::from(n + 1), v.st.reg(n * 8))?;
    }
    v.add_sp((bytes * 8).wrapping_neg());
    Ok(())
}

/// POPA.
pub fn popa<T: Word>(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    let bytes = u64::from(T::BYTES);
    let mut values = [T::default(); 8];
    for (i, value) in values.iter_mut().enumerate() {
        *value = v.peek(bytes * i as u64)?;
    }
    for (i, value) in values.into_iter().enumerate().filter(|(i, _)| *i != 3) {
        v.st.set_reg((7 - i as u8) * 8, value);
    }
    v.add_sp(bytes * 8);
    Ok(())
}

/// ENTER. What it reads and writes is checked first, in its order, so that a fault leaves the frame unmade; then the
/// reads see the writes before them, as frames may overlap (Intel SDM vol. 2A, ENTER).
pub fn enter<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let (size, level) = (op.imm & 0xffff, op.imm >> 16 & 31);
    let bytes = u64::from(T::BYTES);
    let (sp0, bp0) = (v.st.gpr(reg::RSP), v.st.gpr(reg::RBP));
    let slots = 1 + level;
    v.probe_slot(bytes, T::BYTES, true)?;
    for i in 1..level {
        v.probe_at(bp0.wrapping_sub(bytes * i), T::BYTES, false)?;
        v.probe_slot(bytes * (i + 1), T::BYTES, true)?;
    }
    v.probe_slot(bytes * slots, T::BYTES, true)?;
    // The final stack pointer must be writable.
    v.probe_slot(bytes * slots + size, T::BYTES, true)?;

    // A 16-bit stack pointer wraps and leaves what is above it.
    let frame = sp0 & !v.sp_mask() | sp0.wrapping_sub(bytes) & v.sp_mask();
    v.poke(bytes, T::trunc(bp0))?;
    for i in 1..level {
        let la = v.stack_linear(bp0.wrapping_sub(bytes * i) & v.sp_mask(), T::BYTES, false)?;
        let display: T = v.load(la)?;
        v.poke(bytes * (i + 1), display)?;
    }
    if level > 0 {
        v.poke(bytes * slots, T::trunc(frame))?;
    }
    v.st.set_reg(reg::RBP * 8, T::trunc(frame));
    v.set_sp(sp0.wrapping_sub(bytes * slots + size));
    Ok(())
}

/// LEAVE.
pub fn leave<T: Word>(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    let bp = v.st.gpr(reg::RBP) & v.sp_mask();
    let la = v.stack_linear(bp, T::BYTES, false)?;
    let value: T = v.load(la).map_err(|stop| v.stack_stop(stop))?;
    v.set_sp(bp.wrapping_add(T::BYTES.into()));
    v.st.set_reg(reg::RBP * 8, value);
    Ok(())
}

/// Whether PUSHF and POPF of `T` are those of VME: in VM86 mode below IOPL 3, words only.
///
/// # Errors
/// #GP(0) for VM86 programs below IOPL 3 without it.
fn virtualises<T: Word>(v: &mut Vcpu<'_>) -> Result<bool, Stop> {
    let sensitive = v.st.vm86() && v.st.iopl() < 3;
    if sensitive && (T::BYTES != 2 || v.st.cr4 & cr4::VME == 0) {
        return Err(v.gp(0));
    }
    Ok(sensitive)
}

/// PUSHF: VM and RF are pushed as zero.
pub fn pushf<T: Word>(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    let flags = if virtualises::<T>(v)? { v.virtual_flags() } else { v.st.rflags() };
    v.push(T::trunc(flags & !(eflags::VM | eflags::RF)))
}

/// POPF: what may change depends on CPL and IOPL.
pub fn popf<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let virtualised = virtualises::<T>(v)?;
    let value: T = v.peek(0)?;
    if virtualised {
        v.set_virtual_flags(value.zext())?;
        v.add_sp(T::BYTES.into());
        v.st.rip = v.next_rip(op);
        return Err(Stop::Branch);
    }
    v.add_sp(T::BYTES.into());
    let mut may = eflags::ALL & !(eflags::VM | eflags::RF | eflags::VIF | eflags::VIP);
    if v.st.cpl > 0 {
        may &= !eflags::IOPL;
    }
    if v.st.cpl > v.st.iopl() && v.st.protected() && !v.st.vm86() {
        may &= !eflags::IF;
    }
    if v.st.vm86() {
        may &= !eflags::IOPL;
    }
    if T::BYTES == 2 {
        may &= 0xffff;
    }
    let before = v.st.rflags();
    v.st.set_rflags(before & !may & !eflags::RF | value.zext() & may);
    // An interrupt may have waited for IF; TF traps after the next instruction.
    v.attention |= v.st.eflags & (!before & eflags::IF | eflags::TF) != 0;
    v.st.rip = v.next_rip(op);
    Err(Stop::Branch)
}
