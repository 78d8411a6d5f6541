//! Far jumps, calls and returns, and hardware task switches (Intel SDM vol. 3, 5.8 and chapter 7).

use crate::exception::Vector;
use crate::segments::{Descriptor, code, is_null, kind, rpl};
use crate::state::{Segment, cr0, eflags, reg, seg};
use crate::vcpu::{Stop, Vcpu};

/// Why a task switch happens: what becomes of the busy bit, NT and the back link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskSwitch {
    /// JMP.
    Jump,
    /// CALL, interrupt or exception: the new task is nested.
    Call,
    /// IRET with NT set.
    Return,
}

impl Vcpu<'_> {
    /// Pushes a value of 2, 4 or 8 bytes.
    pub(crate) fn push_sized(&mut self, size: u8, value: u64) -> Result<(), Stop> {
        match size {
            2 => self.push(value as u16),
            4 => self.push(value as u32),
            _ => self.push(value),
        }
    }

    /// Reads the `n`th value of `size` bytes from the stack.
    pub(crate) fn peek_sized(&mut self, size: u8, n: u64) -> Result<u64, Stop> {
        let above = n * u64::from(size);
        Ok(match size {
            2 => u64::from(self.peek::<u16>(above)?),
            4 => u64::from(self.peek::<u32>(above)?),
            _ => self.peek(above)?,
        })
    }

    /// JMP far. `next` is where the task resumes if the jump leads to another one.
    pub(crate) fn far_jump(&mut self, selector: u16, offset: u64, next: u64) -> Result<(), Stop> {
        if self.st.real_segments() {
            return self.real_transfer(selector, offset);
        }
        self.atomically(|v| v.far_jump_protected(selector, offset, next))
    }

    /// Real and VM86 mode: CS becomes a paragraph.
    fn real_transfer(&mut self, selector: u16, offset: u64) -> Result<(), Stop> {
        if offset > u64::from(self.st.segments[usize::from(seg::CS)].limit) {
            return Err(self.gp(0));
        }
        self.load_real_segment(seg::CS, selector);
        self.st.rip = offset;
        Err(Stop::Branch)
    }

    fn far_jump_protected(&mut self, selector: u16, offset: u64, next: u64) -> Result<(), Stop> {
        let mut d = self.far_target(selector)?;
        if d.is_code() {
            self.check_direct(&d)?;
            let cpl = self.st.cpl;
            self.enter_code(&mut d, cpl, offset)?;
            return Err(Stop::Branch);
        }
        self.check_gate(&d)?;
        match d.system_type() {
            kind::CALL_GATE16 | kind::CALL_GATE32 => {
                let (mut target, offset) = self.gate_target(&d)?;
                let cpl = self.st.cpl;
                if target.dpl() > cpl || !target.conforming() && target.dpl() != cpl {
                    return Err(self.gp(code(target.selector)));
                }
                self.enter_code(&mut target, cpl, offset)?;
                Err(Stop::Branch)
            }
            _ => {
                self.st.rip = next;
                self.task_transfer(&d, TaskSwitch::Jump)
            }
        }
    }

    /// CALL far.
    pub(crate) fn far_call(&mut self, selector: u16, offset: u64, size: u8, back: u64) -> Result<(), Stop> {
        let cs = self.st.segments[usize::from(seg::CS)].selector;
        self.atomically(|v| {
            if v.st.real_segments() {
                v.push_sized(size, cs.into())?;
                v.push_sized(size, back)?;
                return v.real_transfer(selector, offset);
            }
            let mut d = v.far_target(selector)?;
            if d.is_code() {
                v.check_direct(&d)?;
                v.push_sized(size, cs.into())?;
                v.push_sized(size, back)?;
                let cpl = v.st.cpl;
                v.enter_code(&mut d, cpl, offset)?;
                return Err(Stop::Branch);
            }
            v.check_gate(&d)?;
            match d.system_type() {
                kind::CALL_GATE16 | kind::CALL_GATE32 => {
                    let cpl = v.st.cpl;
                    v.call_gate(&d, cs, back).inspect_err(|_| v.name_inner_stack(cpl))
                }
                _ => {
                    v.st.rip = back;
                    v.task_transfer(&d, TaskSwitch::Call)
                }
            }
        })
    }

    fn far_target(&mut self, selector: u16) -> Result<Descriptor, Stop> {
        if is_null(selector) {
            return Err(self.gp(0));
        }
        self.descriptor(selector, Vector::PROTECTION)
    }

    /// A direct transfer keeps the CPL.
    fn check_direct(&mut self, d: &Descriptor) -> Result<(), Stop> {
        let cpl = self.st.cpl;
        let allowed = if d.conforming() { d.dpl() <= cpl } else { rpl(d.selector) <= cpl && d.dpl() == cpl };
        if allowed { Ok(()) } else { Err(self.gp(code(d.selector))) }
    }

    /// A gate or TSS must be reachable from here, of a kind that far transfers know, and present.
    fn check_gate(&mut self, d: &Descriptor) -> Result<(), Stop> {
        let known = match d.system_type() {
            _ if d.is_code_or_data() => false,
            kind::CALL_GATE32 => true,
            kind::CALL_GATE16 | kind::TASK_GATE | kind::TSS16 | kind::TSS32 => !self.st.long_mode(),
            _ => false,
        };
        if !known || d.dpl() < self.st.cpl.max(rpl(d.selector)) {
            return Err(self.gp(code(d.selector)));
        }
        if !d.present() {
            return Err(self.raise_code(Vector::NOT_PRESENT, code(d.selector)));
        }
        Ok(())
    }

    /// The code descriptor and offset behind a call gate.
    fn gate_target(&mut self, gate: &Descriptor) -> Result<(Descriptor, u64), Stop> {
        let selector = gate.gate_selector();
        let target = self.far_target(selector)?;
        let long = self.st.long_mode();
        let good = target.is_code() && target.dpl() <= self.st.cpl;
        if !good || long && target.attributes() & Segment::LONG == 0 {
            return Err(self.gp(code(selector)));
        }
        let offset = match (long, gate.system_type()) {
            (true, _) => {
                let high = self.upper_half(gate)?;
                u64::from(gate.gate_offset()) | u64::from(high) << 32
            }
            (false, kind::CALL_GATE16) => u64::from(gate.gate_offset() & 0xffff),
            (false, _) => gate.gate_offset().into(),
        };
        Ok((target, offset))
    }

    fn call_gate(&mut self, gate: &Descriptor, cs: u16, back: u64) -> Result<(), Stop> {
        let (mut target, offset) = self.gate_target(gate)?;
        let size = match (self.st.long_mode(), gate.system_type()) {
            (true, _) => 8,
            (false, kind::CALL_GATE16) => 2,
            (false, _) => 4,
        };
        let new_cpl = if target.conforming() { self.st.cpl } else { target.dpl() };
        if new_cpl < self.st.cpl {
            let (ss, sp) = (self.st.segments[usize::from(seg::SS)].selector, self.st.gpr(reg::RSP));
            let count = if size == 8 { 0 } else { (gate.raw >> 32 & 31) as u8 };
            let mut parameters = [0; 31];
            for (i, p) in parameters.iter_mut().take(count.into()).enumerate() {
                *p = self.peek_sized(size, i as u64)?;
            }
            self.switch_stack(new_cpl, 0)?;
            self.push_sized(size, ss.into())?;
            self.push_sized(size, sp)?;
            for p in parameters.iter().take(count.into()).rev() {
                self.push_sized(size, *p)?;
            }
        }
        self.push_sized(size, cs.into())?;
        self.push_sized(size, back)?;
        self.enter_code(&mut target, new_cpl, offset)?;
        Err(Stop::Branch)
    }

    /// Loads SS:RSP of an inner privilege level from the TSS; `ist` (1..=7) picks an interrupt stack of long mode.
    /// The CPL is `cpl` afterwards, so that pushes have its rights.
    pub(crate) fn switch_stack(&mut self, cpl: u8, ist: u8) -> Result<(), Stop> {
        let tr = self.st.tr;
        let ts = u32::from(tr.selector & !3);
        if self.st.long_mode() {
            let at = if ist == 0 { 4 + 8 * u64::from(cpl) } else { 0x24 + 8 * u64::from(ist - 1) };
            if at + 7 > u64::from(tr.limit) {
                return Err(self.raise_code(Vector::INVALID_TSS, ts));
            }
            let rsp: u64 = self.load_system(tr.base.wrapping_add(at))?;
            if !crate::access::is_canonical(rsp) {
                return Err(self.raise_code(Vector::STACK, 0));
            }
            let ss = Segment { selector: cpl.into(), attributes: u32::from(cpl) << 5, ..Segment::default() };
            // Same-level interrupts with an IST keep SS; inner levels get a null one.
            if cpl != self.st.cpl {
                self.st.segments[usize::from(seg::SS)] = ss;
            }
            self.st.cpl = cpl;
            self.st.set_gpr(reg::RSP, rsp);
            // Pushes go through 64-bit code's stack rules until CS is loaded.
            self.update_mode();
            self.mode.code = aero_x86::CodeSize::B64;
            self.mode.flat = true;
            return Ok(());
        }
        let wide = tr.attributes & 8 != 0;
        let (sp_at, ss_at, last) = if wide {
            let at = 4 + 8 * u64::from(cpl);
            (at, at + 4, at + 5)
        } else {
            let at = 2 + 4 * u64::from(cpl);
            (at, at + 2, at + 3)
        };
        if last > u64::from(tr.limit) {
            return Err(self.raise_code(Vector::INVALID_TSS, ts));
        }
        let sp = if wide {
            u64::from(self.load_system::<u32>(self.wrap(tr.base.wrapping_add(sp_at)))?)
        } else {
            u64::from(self.load_system::<u16>(self.wrap(tr.base.wrapping_add(sp_at)))?)
        };
        let selector: u16 = self.load_system(self.wrap(tr.base.wrapping_add(ss_at)))?;
        if is_null(selector) {
            return Err(self.raise_code(Vector::INVALID_TSS, code(selector)));
        }
        let ss = self.stack_segment(selector, cpl, Vector::INVALID_TSS)?;
        self.st.segments[usize::from(seg::SS)] = ss;
        self.st.cpl = cpl;
        self.update_mode();
        self.set_sp(sp);
        Ok(())
    }

    /// A fault on the stack of an inner level names that stack's selector, unlike one on the current stack
    /// (Intel SDM vol. 3, 6.15, #SS). `cpl` is the level before the transfer; call before the state is put back.
    pub(crate) fn name_inner_stack(&mut self, cpl: u8) {
        let stack = self.exception.vector == Vector::STACK && self.exception.code == Some(0);
        if stack && self.st.cpl < cpl && !self.st.long_mode() {
            self.exception.code = Some(code(self.st.segments[usize::from(seg::SS)].selector));
        }
    }

    /// RETF: `drop` bytes of parameters are released on both stacks.
    pub(crate) fn far_return(&mut self, size: u8, drop: u64) -> Result<(), Stop> {
        self.atomically(|v| {
            let (offset, selector) = (v.peek_sized(size, 0)?, v.peek_sized(size, 1)? as u16);
            if v.st.real_segments() {
                v.add_sp(2 * u64::from(size) + drop);
                return v.real_transfer(selector, offset);
            }
            let mut d = v.return_target(selector)?;
            let outer = rpl(selector) > v.st.cpl;
            if !outer {
                let cpl = v.st.cpl;
                v.enter_code(&mut d, cpl, offset)?;
                v.add_sp(2 * u64::from(size) + drop);
                return Err(Stop::Branch);
            }
            // The outer stack pointer lies above the parameters.
            v.add_sp(2 * u64::from(size) + drop);
            let (sp, ss) = (v.peek_sized(size, 0)?, v.peek_sized(size, 1)? as u16);
            v.return_outer(&mut d, offset, ss, sp.wrapping_add(drop))
        })
    }

    /// The code descriptor that a far return or IRET goes back to.
    pub(crate) fn return_target(&mut self, selector: u16) -> Result<Descriptor, Stop> {
        let d = self.far_target(selector)?;
        let level = rpl(selector);
        let level_ok = if d.conforming() { d.dpl() <= level } else { d.dpl() == level };
        if !d.is_code() || level < self.st.cpl || !level_ok {
            return Err(self.gp(code(selector)));
        }
        Ok(d)
    }

    /// Goes back to an outer privilege level.
    pub(crate) fn return_outer(
        &mut self,
        d: &mut Descriptor,
        offset: u64,
        ss: u16,
        sp: u64,
    ) -> Result<(), Stop> {
        let cpl = rpl(d.selector);
        let to64 = self.st.long_mode() && d.attributes() & Segment::LONG != 0;
        let stack = if is_null(ss) && to64 && cpl < 3 && rpl(ss) == cpl {
            Segment { selector: ss, attributes: u32::from(cpl) << 5, ..Segment::default() }
        } else {
            self.stack_segment(ss, cpl, Vector::PROTECTION)?
        };
        self.enter_code(d, cpl, offset)?;
        self.st.segments[usize::from(seg::SS)] = stack;
        self.update_mode();
        self.set_sp(sp);
        self.drop_inner_segments();
        Err(Stop::Branch)
    }

    /// Data segments that the outer level may not use become null.
    pub(crate) fn drop_inner_segments(&mut self) {
        for n in [seg::ES, seg::DS, seg::FS, seg::GS] {
            let s = &mut self.st.segments[usize::from(n)];
            let conforming =
                s.attributes & (Segment::CODE | Segment::CONFORMING) == Segment::CODE | Segment::CONFORMING;
            if s.present() && s.dpl() < self.st.cpl && !conforming {
                *s = Segment::default();
            }
        }
        self.update_mode();
    }

    fn task_transfer(&mut self, d: &Descriptor, how: TaskSwitch) -> Result<(), Stop> {
        let selector = if d.system_type() == kind::TASK_GATE { d.gate_selector() } else { d.selector };
        self.task_switch(selector, how, None)?;
        Err(Stop::Branch)
    }

    /// Switches to the task of TSS `selector`. RIP must already be what the old task resumes at.
    ///
    /// # Errors
    /// With a fault; the caller restores the state.
    pub(crate) fn task_switch(
        &mut self,
        selector: u16,
        how: TaskSwitch,
        error: Option<u32>,
    ) -> Result<(), Stop> {
        let bad = if how == TaskSwitch::Return { Vector::INVALID_TSS } else { Vector::PROTECTION };
        if is_null(selector) || selector & 4 != 0 {
            return Err(self.raise_code(bad, code(selector)));
        }
        let d = self.descriptor(selector, bad)?;
        let busy = if how == TaskSwitch::Return { kind::BUSY } else { 0 };
        let wide = d.system_type() == kind::TSS32 | busy;
        if d.is_code_or_data() || !wide && d.system_type() != kind::TSS16 | busy {
            return Err(self.raise_code(bad, code(selector)));
        }
        if !d.present() {
            return Err(self.raise_code(Vector::NOT_PRESENT, code(selector)));
        }
        if d.limit() < if wide { 0x67 } else { 0x2b } {
            return Err(self.raise_code(Vector::INVALID_TSS, code(selector)));
        }
        let new = TaskState::load(self, d.base(), wide)?;
        self.save_task(how)?;
        let old = self.st.tr.selector;
        if how == TaskSwitch::Call {
            self.store_system(d.base(), old)?;
        }
        if how != TaskSwitch::Return {
            self.set_busy(&d, true)?;
        }
        self.st.tr = Segment { attributes: d.attributes() | kind::BUSY, ..d.segment() };
        self.st.cr0 |= cr0::TS;
        self.enter_task(&new, how, wide)?;
        if let Some(error) = error {
            self.push_sized(if wide { 4 } else { 2 }, error.into())?;
        }
        self.attention = true;
        Ok(())
    }

    /// Stores the running task's state into its TSS, and settles its busy bit.
    fn save_task(&mut self, how: TaskSwitch) -> Result<(), Stop> {
        let tr = self.st.tr;
        let wide = tr.attributes & 8 != 0;
        let mut flags = self.st.rflags();
        if how != TaskSwitch::Call {
            let d = self.descriptor(tr.selector, Vector::INVALID_TSS)?;
            self.set_busy(&d, false)?;
        }
        if how == TaskSwitch::Return {
            flags &= !eflags::NT;
        }
        let step = if wide { 4 } else { 2 };
        let mut at = self.wrap(tr.base.wrapping_add(if wide { 0x20 } else { 0x0e }));
        let general: [u64; 8] = core::array::from_fn(|n| self.st.gpr(n as u8));
        for value in [self.st.rip, flags].into_iter().chain(general) {
            if wide {
                self.store_system(at, value as u32)?
            } else {
                self.store_system(at, value as u16)?
            }
            at = self.wrap(at.wrapping_add(step));
        }
        for n in 0..if wide { 6 } else { 4 } {
            self.store_system(at, self.st.segments[n].selector)?;
            at = self.wrap(at.wrapping_add(step));
        }
        Ok(())
    }

    fn enter_task(&mut self, new: &TaskState, how: TaskSwitch, wide: bool) -> Result<(), Stop> {
        if wide && self.st.cr0 & cr0::PG != 0 {
            self.load_cr3(new.cr3.into())?;
        }
        self.st.rip = new.eip.into();
        let nested = if how == TaskSwitch::Call { eflags::NT } else { 0 };
        self.st.set_rflags(u64::from(new.eflags) | nested);
        for (n, value) in new.general.iter().enumerate() {
            self.st.set_gpr(n as u8, u64::from(*value));
        }
        for (n, selector) in new.segments.iter().enumerate() {
            self.st.segments[n] = Segment { selector: *selector, ..Segment::default() };
        }
        self.st.ldtr = Segment { selector: new.ldt, ..Segment::default() };
        if self.st.vm86() {
            self.st.cpl = 3;
            for (n, selector) in new.segments.iter().enumerate() {
                self.st.segments[n] = Segment::real(*selector, 3);
            }
            self.update_mode();
            return self.load_ldt(new.ldt, Vector::INVALID_TSS);
        }
        self.load_ldt(new.ldt, Vector::INVALID_TSS)?;
        let cs = new.segments[usize::from(seg::CS)];
        if is_null(cs) {
            return Err(self.raise_code(Vector::INVALID_TSS, 0));
        }
        let mut d = self.descriptor(cs, Vector::INVALID_TSS)?;
        let level_ok = if d.conforming() { d.dpl() <= rpl(cs) } else { d.dpl() == rpl(cs) };
        if !d.is_code() || !level_ok {
            return Err(self.raise_code(Vector::INVALID_TSS, code(cs)));
        }
        self.enter_code(&mut d, rpl(cs), new.eip.into())?;
        let stack = self.stack_segment(new.segments[usize::from(seg::SS)], rpl(cs), Vector::INVALID_TSS)?;
        self.st.segments[usize::from(seg::SS)] = stack;
        for n in [seg::ES, seg::DS, seg::FS, seg::GS] {
            self.load_segment_or(n, new.segments[usize::from(n)], Vector::INVALID_TSS)?;
        }
        self.update_mode();
        Ok(())
    }
}

/// What a TSS says of a task.
struct TaskState {
    cr3: u32,
    eip: u32,
    eflags: u32,
    general: [u32; 8],
    segments: [u16; 6],
    ldt: u16,
}

impl TaskState {
    fn load(v: &mut Vcpu<'_>, base: u64, wide: bool) -> Result<Self, Stop> {
        let word = |v: &mut Vcpu<'_>, at: u64| -> Result<u32, Stop> {
            let la = v.wrap(base.wrapping_add(at));
            if wide { v.load_system(la) } else { v.load_system::<u16>(la).map(u32::from) }
        };
        let (first, step, count) = if wide { (0x20, 4, 6) } else { (0x0e, 2, 4) };
        let mut task = Self {
            cr3: if wide { word(v, 0x1c)? } else { 0 },
            eip: word(v, first)?,
            eflags: word(v, first + step)?,
            general: [0; 8],
            segments: [0; 6],
            ldt: word(v, if wide { 0x60 } else { 0x2a })? as u16,
        };
        for n in 0..8 {
            task.general[n] = word(v, first + step * (2 + n as u64))?;
        }
        for n in 0..count {
            task.segments[n] = word(v, first + step * (10 + n as u64))? as u16;
        }
        Ok(task)
    }
}
