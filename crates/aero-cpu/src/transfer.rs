//! Far jumps, calls and returns, and hardware task switches (Intel SDM vol. 3, 5.8 and chapter 7).

use crate::debug::dr6;
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
                if offset > u64::from(v.st.segments[usize::from(seg::CS)].limit) {
                    return Err(v.gp(0));
                }
                v.push_sized(size, cs.into())?;
                v.push_sized(size, back)?;
                return v.real_transfer(selector, offset);
            }
            let mut d = v.far_target(selector)?;
            if d.is_code() {
                v.check_direct(&d)?;
                v.check_present(&d)?;
                v.check_entry(&d, offset)?;
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

    /// A gate or TSS must be reachable from here, of a kind that far transfers know, and present. A TSS is never in the
    /// local table (Intel SDM vol. 3, 8.2.2).
    fn check_gate(&mut self, d: &Descriptor) -> Result<(), Stop> {
        let local = d.selector & 4 != 0;
        let known = match d.system_type() {
            _ if d.is_code_or_data() => false,
            kind::CALL_GATE32 => true,
            kind::CALL_GATE16 | kind::TASK_GATE => !self.st.long_mode(),
            kind::TSS16 | kind::TSS32 => !self.st.long_mode() && !local,
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
        let offset = match (self.st.long_mode(), gate.system_type()) {
            (true, _) => u64::from(gate.gate_offset()) | u64::from(self.upper_half(gate)?) << 32,
            (false, kind::CALL_GATE16) => u64::from(gate.gate_offset() & 0xffff),
            (false, _) => gate.gate_offset().into(),
        };
        let selector = gate.gate_selector();
        let target = self.far_target(selector)?;
        let wrong_size =
            self.st.long_mode() && target.attributes() & (Segment::LONG | Segment::BIG) != Segment::LONG;
        if !target.is_code() || target.dpl() > self.st.cpl || wrong_size {
            return Err(self.gp(code(selector)));
        }
        Ok((target, offset))
    }

    fn call_gate(&mut self, gate: &Descriptor, cs: u16, back: u64) -> Result<(), Stop> {
        let (mut target, offset) = self.gate_target(gate)?;
        self.check_present(&target)?;
        let size = match (self.st.long_mode(), gate.system_type()) {
            (true, _) => 8,
            (false, kind::CALL_GATE16) => 2,
            (false, _) => 4,
        };
        let new_cpl = if target.conforming() { self.st.cpl } else { target.dpl() };
        if new_cpl < self.st.cpl {
            self.call_inner(&target, new_cpl, offset, size, (gate.raw >> 32 & 31) as u8)?;
        } else {
            self.check_entry(&target, offset)?;
            if size == 8 {
                self.push_as_long();
            }
        }
        self.push_sized(size, cs.into())?;
        self.push_sized(size, back)?;
        self.enter_code(&mut target, new_cpl, offset)?;
        Err(Stop::Branch)
    }

    /// Moves to the stack of an inner level, with the old stack pointer and `count` parameters from the old stack.
    fn call_inner(&mut self, d: &Descriptor, cpl: u8, offset: u64, size: u8, count: u8) -> Result<(), Stop> {
        let (ss, sp) = (self.st.segments[usize::from(seg::SS)].selector, self.st.gpr(reg::RSP));
        if size == 8 {
            self.long_stack(cpl, 0)?;
            self.check_entry(d, offset)?;
            self.push_sized(size, ss.into())?;
            return self.push_sized(size, sp);
        }
        let stack = self.inner_stack(cpl)?;
        self.check_entry(d, offset)?;
        let mut parameters = [0; 31];
        for (i, p) in parameters.iter_mut().take(count.into()).enumerate() {
            *p = self.peek_sized(size, i as u64)?;
        }
        self.take_stack(cpl, stack);
        self.push_sized(size, ss.into())?;
        self.push_sized(size, sp)?;
        for p in parameters.iter().take(count.into()).rev() {
            self.push_sized(size, *p)?;
        }
        Ok(())
    }

    /// From here until CS is loaded, pushes follow the rules of 64-bit code's stack.
    pub(crate) fn push_as_long(&mut self) {
        self.mode.code = aero_x86::CodeSize::B64;
        self.mode.flat = true;
    }

    /// Loads RSP of privilege level `cpl` from a 64-bit TSS; `ist` (1..=7) picks an interrupt stack. The CPL is `cpl`
    /// afterwards, so that pushes have its rights.
    pub(crate) fn long_stack(&mut self, cpl: u8, ist: u8) -> Result<(), Stop> {
        let tr = self.st.tr;
        let at = if ist == 0 { 4 + 8 * u64::from(cpl) } else { 0x24 + 8 * u64::from(ist - 1) };
        if at + 7 > u64::from(tr.limit) {
            return Err(self.raise_code(Vector::INVALID_TSS, code(tr.selector)));
        }
        let rsp: u64 = self.load_system(tr.base.wrapping_add(at))?;
        if !crate::access::is_canonical(rsp) {
            return Err(self.raise_code(Vector::STACK, 0));
        }
        // Same-level interrupts with an IST keep SS; inner levels get a null one.
        if cpl != self.st.cpl {
            self.st.segments[usize::from(seg::SS)] = Segment::null_stack(cpl.into());
        }
        self.st.cpl = cpl;
        self.st.set_gpr(reg::RSP, rsp);
        self.update_mode();
        self.push_as_long();
        Ok(())
    }

    /// The stack that the TSS has for privilege level `cpl`, checked.
    pub(crate) fn inner_stack(&mut self, cpl: u8) -> Result<(Segment, u64), Stop> {
        let tr = self.st.tr;
        let wide = tr.attributes & 8 != 0;
        let size = if wide { 4 } else { 2 };
        let at = size + 2 * size * u64::from(cpl);
        if at + size + 1 > u64::from(tr.limit) {
            return Err(self.raise_code(Vector::INVALID_TSS, code(tr.selector)));
        }
        let la = self.wrap(tr.base.wrapping_add(at));
        let sp =
            if wide { u64::from(self.load_system::<u32>(la)?) } else { self.load_system::<u16>(la)?.into() };
        let selector: u16 = self.load_system(self.wrap(la.wrapping_add(size)))?;
        if is_null(selector) {
            return Err(self.raise_code(Vector::INVALID_TSS, code(selector)));
        }
        Ok((self.stack_segment(selector, cpl, Vector::INVALID_TSS)?, sp))
    }

    /// Changes to a stack that [`Vcpu::inner_stack`] gave, and to its privilege level.
    pub(crate) fn take_stack(&mut self, cpl: u8, (ss, sp): (Segment, u64)) {
        self.st.segments[usize::from(seg::SS)] = ss;
        self.st.cpl = cpl;
        self.update_mode();
        self.set_sp(sp);
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
        self.check_present(&d)?;
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
        let stack = if !is_null(ss) {
            self.stack_segment(ss, cpl, Vector::PROTECTION)?
        } else if self.is_long_code(d) && cpl < 3 && rpl(ss) == cpl {
            Segment::null_stack(ss)
        } else {
            return Err(self.gp(0));
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
    /// [`Stop::Fault`] while nothing has changed, in the old task; [`Stop::FaultAfter`] in the new one, once the switch
    /// cannot be undone (Intel SDM vol. 3, 8.3).
    pub(crate) fn task_switch(
        &mut self,
        selector: u16,
        how: TaskSwitch,
        error: Option<u32>,
    ) -> Result<(), Stop> {
        let (d, wide) = self.task_descriptor(selector, how)?;
        let old = self.old_task(how)?;
        self.probe_system(d.base(), if wide { 0x68 } else { 0x2c }, false)?;
        let new = TaskState::load(self, d.base(), wide)?;
        let writes_link = how == TaskSwitch::Call;
        self.probe_system(d.base(), 2, writes_link)?;
        self.probe_system(d.at.wrapping_add(4), 4, how != TaskSwitch::Return)?;
        if wide && self.st.cr0 & cr0::PG != 0 {
            // The directory pointers of PAE are checked with the old task still there.
            self.check_cr3(new.cr3.into())?;
        }
        self.save_task(how)?;
        if let Some(old) = old {
            self.set_busy(&old, false)?;
        }
        if writes_link {
            self.store_system(d.base(), self.st.tr.selector)?;
        }
        if how != TaskSwitch::Return {
            self.set_busy(&d, true)?;
        }
        self.st.tr = Segment { attributes: d.attributes() | kind::BUSY, ..d.segment() };
        self.st.cr0 |= cr0::TS;
        self.attention = true;
        // The old task's TF does not trap in the new one.
        self.delivered = true;
        self.enter_task(&new, how, wide, error).map_err(|stop| match stop {
            Stop::NonCanonical | Stop::Fault => Stop::FaultAfter,
            other => other,
        })
    }

    /// The TSS descriptor of a new task, and whether it is a 32-bit one.
    fn task_descriptor(&mut self, selector: u16, how: TaskSwitch) -> Result<(Descriptor, bool), Stop> {
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
        Ok((d, wide))
    }

    /// Checks that the running task's state can be stored; its descriptor if it stops being busy.
    fn old_task(&mut self, how: TaskSwitch) -> Result<Option<Descriptor>, Stop> {
        let tr = self.st.tr;
        let wide = tr.attributes & 8 != 0;
        let (first, bytes) = if wide { (0x20, 0x40) } else { (0x0e, 0x1c) };
        if tr.limit < first as u32 + bytes - 1 {
            return Err(self.raise_code(Vector::INVALID_TSS, code(tr.selector)));
        }
        self.probe_system(self.wrap(tr.base.wrapping_add(first)), bytes, true)?;
        if how == TaskSwitch::Call {
            return Ok(None);
        }
        let d = self.descriptor(tr.selector, Vector::INVALID_TSS)?;
        self.probe_system(d.at.wrapping_add(4), 4, true)?;
        Ok(Some(d))
    }

    /// Stores the running task's state into its TSS.
    fn save_task(&mut self, how: TaskSwitch) -> Result<(), Stop> {
        let tr = self.st.tr;
        let wide = tr.attributes & 8 != 0;
        let nested = if how == TaskSwitch::Return { eflags::NT } else { 0 };
        let flags = self.st.rflags() & !nested;
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

    /// Loads a task's state. What fails here fails in the new task: its registers hold what the TSS says, and segments
    /// not yet loaded are unusable. Until SS is loaded the CPL is 3, so that a handler gets a stack from the TSS.
    fn enter_task(
        &mut self,
        new: &TaskState,
        how: TaskSwitch,
        wide: bool,
        error: Option<u32>,
    ) -> Result<(), Stop> {
        if wide && self.st.cr0 & cr0::PG != 0 {
            self.load_cr3(new.cr3.into())?;
        }
        self.st.rip = new.eip.into();
        let nested = if how == TaskSwitch::Call { eflags::NT } else { 0 };
        self.st.set_rflags(u64::from(new.eflags) | nested);
        for (n, value) in new.general.iter().enumerate() {
            self.st.set_gpr(n as u8, u64::from(*value));
        }
        self.drop_local_breakpoints();
        self.core.pending_debug = if new.traps { dr6::BT } else { 0 };
        let vm86 = self.st.vm86();
        for (n, selector) in new.segments.iter().enumerate() {
            let unusable = Segment { selector: *selector, ..Segment::default() };
            self.st.segments[n] = if vm86 { Segment::real(*selector, 3) } else { unusable };
        }
        self.st.ldtr = Segment { selector: new.ldt, ..Segment::default() };
        self.st.cpl = 3;
        self.update_mode();
        self.load_ldt(new.ldt, Vector::INVALID_TSS)?;
        if !vm86 {
            self.enter_task_segments(new)?;
        }
        match error {
            Some(error) => self.push_sized(if wide { 4 } else { 2 }, error.into()),
            None => Ok(()),
        }
    }

    fn enter_task_segments(&mut self, new: &TaskState) -> Result<(), Stop> {
        let cs = new.segments[usize::from(seg::CS)];
        let stack = self.stack_segment(new.segments[usize::from(seg::SS)], rpl(cs), Vector::INVALID_TSS)?;
        self.st.segments[usize::from(seg::SS)] = stack;
        self.st.cpl = rpl(cs);
        self.update_mode();
        for n in [seg::DS, seg::ES, seg::FS, seg::GS] {
            self.load_segment_or(n, new.segments[usize::from(n)], Vector::INVALID_TSS)?;
        }
        if is_null(cs) {
            return Err(self.raise_code(Vector::INVALID_TSS, 0));
        }
        let mut d = self.descriptor(cs, Vector::INVALID_TSS)?;
        let level_ok = if d.conforming() { d.dpl() <= rpl(cs) } else { d.dpl() == rpl(cs) };
        if !d.is_code() || !level_ok {
            return Err(self.raise_code(Vector::INVALID_TSS, code(cs)));
        }
        self.check_present(&d)?;
        self.mark_accessed(&mut d)?;
        self.st.segments[usize::from(seg::CS)] = d.segment();
        self.update_mode();
        self.check_entry(&d, new.eip.into())
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
    /// T: a debug trap comes before the task's first instruction.
    traps: bool,
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
            traps: wide && word(v, 0x64)? & 1 != 0,
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
