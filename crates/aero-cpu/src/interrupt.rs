//! Delivery of exceptions and interrupts through the IDT or the IVT, and IRET (Intel SDM vol. 3, chapter 6).

use crate::exception::{Exception, Vector};
use crate::segments::{Descriptor, code, is_null, rpl};
use crate::state::{Segment, cr4, eflags, reg, seg};
use crate::transfer::TaskSwitch;
use crate::vcpu::{Shadow, Stop, Vcpu};

/// Where an interrupt comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    /// A device, or NMI.
    External,
    /// An exception, with its error code, and whether RF is saved as set.
    Exception { code: Option<u32>, resumes: bool },
    /// INT n, INT3, INTO: the gate's DPL is checked.
    Software,
}

impl Source {
    fn code(self) -> Option<u32> {
        if let Self::Exception { code, .. } = self { code } else { None }
    }

    fn resumes(self) -> bool {
        matches!(self, Self::Exception { resumes: true, .. })
    }
}

mod gate {
    pub const TASK: u32 = 5;
    pub const INTERRUPT16: u32 = 6;
    pub const TRAP16: u32 = 7;
    pub const INTERRUPT32: u32 = 14;
    pub const TRAP32: u32 = 15;
}

impl Vcpu<'_> {
    /// Delivers an exception, with the double-fault rules.
    ///
    /// # Errors
    /// On a triple fault.
    pub(crate) fn deliver_exception(&mut self, first: Exception) -> Result<(), Stop> {
        let mut current = first;
        loop {
            self.core.counters.exceptions += 1;
            // A delivery counts as an instruction, so that a handler that faults at once cannot run for ever.
            self.st.budget -= 1;
            log::trace!("{current:x?} at {:#x}:{:#x}", self.st.segments[1].selector, self.st.rip);
            if current.vector == Vector::PAGE_FAULT {
                self.core.counters.page_faults += 1;
                self.st.cr2 = current.address;
            }
            if current.vector == Vector::DEBUG {
                self.record_debug(current.address);
            }
            let source = Source::Exception { code: current.code, resumes: current.resumes() };
            match self.interrupt(current.vector.0, source) {
                Ok(()) => return Ok(()),
                Err(_) => match self.exception.after(current) {
                    Some(next) => {
                        if self.exception.vector == Vector::PAGE_FAULT {
                            // CR2 tells of the last page fault, even when it ends in a double fault.
                            self.st.cr2 = self.exception.address;
                        }
                        current = next;
                    }
                    None => {
                        log::error!(
                            "triple fault: {:?} while delivering {current:?} at {:#x}",
                            self.exception,
                            self.st.rip
                        );
                        return Err(Stop::Shutdown);
                    }
                },
            }
        }
    }

    /// Takes an NMI or a maskable interrupt if one may be taken now.
    ///
    /// # Errors
    /// On a triple fault.
    pub(crate) fn take_interrupt(&mut self) -> Result<(), Stop> {
        if self.core.nmi_pending && !self.core.nmi_blocked {
            self.core.nmi_pending = false;
            self.core.nmi_blocked = true;
            return self.take(Vector::NMI.0);
        }
        if self.st.eflags & eflags::IF == 0 {
            return Ok(());
        }
        if let Some(vector) = self.next_vector() {
            self.core.counters.interrupts += 1;
            return self.take(vector);
        }
        Ok(())
    }

    /// Whether [`Vcpu::take_interrupt`] would take a maskable one.
    pub(crate) fn interrupt_waits(&self) -> bool {
        let lapic = &self.core.lapic;
        self.st.eflags & eflags::IF != 0
            && (lapic.pending_vector().is_some() || lapic.extint_enabled() && self.bus.interrupt_line())
    }

    fn next_vector(&mut self) -> Option<u8> {
        if self.core.lapic.pending_vector().is_some() {
            return Some(self.core.lapic.acknowledge());
        }
        let when = self.retired();
        if self.core.lapic.extint_enabled() && self.bus.interrupt_line() {
            return Some(self.bus.acknowledge_interrupt(self.mem, when));
        }
        None
    }

    fn take(&mut self, vector: u8) -> Result<(), Stop> {
        self.core.halted = false;
        self.attention = true;
        match self.interrupt(vector, Source::External) {
            Ok(()) => Ok(()),
            Err(_) => self.deliver_exception(self.exception),
        }
    }

    /// INT n, INT3, INTO: RIP must already be the next instruction's.
    pub(crate) fn software_interrupt(&mut self, vector: u8) -> Result<(), Stop> {
        if self.st.vm86() {
            if self.st.cr4 & cr4::VME != 0 && self.is_redirected(vector)? {
                return self.atomically(|v| v.redirected_interrupt(vector));
            }
            if self.st.iopl() < 3 {
                return Err(self.gp(0));
            }
        }
        self.interrupt(vector, Source::Software)
    }

    /// Whether the redirection bitmap, the 32 bytes below the I/O permission bitmap, leaves `vector` to the 8086
    /// program (Intel SDM vol. 3, 21.3.3.4).
    fn is_redirected(&mut self, vector: u8) -> Result<bool, Stop> {
        let tr = self.st.tr;
        if tr.limit < 0x67 {
            return Err(self.gp(0));
        }
        let map: u16 = self.load_system(self.wrap(tr.base.wrapping_add(0x66)))?;
        let at = u32::from(map).wrapping_sub(32).wrapping_add(u32::from(vector >> 3));
        if at > tr.limit {
            return Err(self.gp(0));
        }
        let bits: u8 = self.load_system(self.wrap(tr.base.wrapping_add(at.into())))?;
        Ok(bits >> (vector & 7) & 1 == 0)
    }

    /// An interrupt of VM86 mode through the 8086 program's own table. Below IOPL 3 it sees VIF as IF.
    fn redirected_interrupt(&mut self, vector: u8) -> Result<(), Stop> {
        self.delivered = true;
        self.attention = true;
        let entry: u32 = self.load_system(u64::from(vector) * 4)?;
        let flags = self.virtual_flags();
        self.push(flags as u16)?;
        self.push(self.st.segments[usize::from(seg::CS)].selector)?;
        self.push(self.st.rip as u16)?;
        let enable = if self.st.iopl() == 3 { eflags::IF } else { eflags::VIF };
        self.st.eflags &= !(enable | eflags::TF | eflags::RF);
        self.load_real_segment(seg::CS, (entry >> 16) as u16);
        self.st.rip = u64::from(entry & 0xffff);
        Ok(())
    }

    /// Whether VIF and VIP together are #GP(0) here: the program enabled virtual interrupts, and one waits. Only a
    /// supervisor can bring both about (Intel SDM vol. 3, 21.3.3.5).
    pub(crate) fn virtual_interrupt_faults(&self) -> bool {
        self.st.vm86() && self.st.cr4 & cr4::VME != 0
    }

    /// The flags as a VM86 program sees them: below IOPL 3 under VME, IOPL reads as 3 and IF as VIF
    /// (Intel SDM vol. 3, 21.3.2).
    pub(crate) fn virtual_flags(&self) -> u64 {
        let flags = self.st.rflags();
        if self.st.iopl() == 3 {
            return flags;
        }
        let enabled = if flags & eflags::VIF != 0 { eflags::IF } else { 0 };
        flags & !eflags::IF | eflags::IOPL | enabled
    }

    /// Sets the flags word that a VM86 program below IOPL 3 pops under VME: IF goes to VIF.
    ///
    /// # Errors
    /// #GP(0) if it sets TF, or IF while an interrupt is pending.
    pub(crate) fn set_virtual_flags(&mut self, value: u64) -> Result<(), Stop> {
        let pending = value & eflags::IF != 0 && self.st.eflags & eflags::VIP != 0;
        if pending || value & eflags::TF != 0 {
            return Err(self.gp(0));
        }
        let may = eflags::ALL & 0xffff & !(eflags::IF | eflags::IOPL);
        let enabled = if value & eflags::IF != 0 { eflags::VIF } else { 0 };
        self.st.set_rflags(self.st.rflags() & !(may | eflags::VIF | eflags::RF) | value & may | enabled);
        Ok(())
    }

    /// INT3 and INTO: like INT n, without the IOPL check of VM86 mode.
    pub(crate) fn breakpoint(&mut self, vector: u8) -> Result<(), Stop> {
        self.interrupt(vector, Source::Software)
    }

    /// INT1: the gate's DPL is not checked, and faults count as external (Intel SDM vol. 2A, INT n).
    pub(crate) fn debug_trap(&mut self) -> Result<(), Stop> {
        // A data breakpoint that MOV SS has held off comes along.
        let held = core::mem::take(&mut self.core.pending_debug);
        self.interrupt(Vector::DEBUG.0, Source::Exception { code: None, resumes: false })?;
        self.record_debug(held);
        Ok(())
    }

    fn interrupt(&mut self, vector: u8, source: Source) -> Result<(), Stop> {
        self.delivered = true;
        self.core.monitoring = false;
        self.core.repeat_flags = None;
        self.attention = true;
        self.core.shadow = Shadow::Open;
        self.atomically(|v| {
            if !v.st.protected() {
                return v.real_interrupt(vector);
            }
            if v.st.long_mode() {
                return v.long_interrupt(vector, source);
            }
            let cpl = v.st.cpl;
            v.protected_interrupt(vector, source).inspect_err(|_| v.name_inner_stack(cpl))
        })
        .inspect_err(|stop| {
            if matches!(stop, Stop::Fault | Stop::FaultAfter) && source != Source::Software {
                self.exception.mark_external();
            }
        })
    }

    fn real_interrupt(&mut self, vector: u8) -> Result<(), Stop> {
        let at = u64::from(vector) * 4;
        if at + 3 > u64::from(self.st.idtr.limit) {
            return Err(self.gp(u32::from(vector) * 8 + 2));
        }
        let entry: u32 = self.load_system(self.st.idtr.base.wrapping_add(at))?;
        self.push(self.st.rflags() as u16)?;
        self.push(self.st.segments[usize::from(seg::CS)].selector)?;
        self.push(self.st.rip as u16)?;
        self.st.eflags &= !(eflags::IF | eflags::TF | eflags::AC | eflags::RF);
        self.load_real_segment(seg::CS, (entry >> 16) as u16);
        self.st.rip = u64::from(entry & 0xffff);
        Ok(())
    }

    /// The gate of `vector`, checked for software interrupts and presence.
    fn idt_gate(&mut self, vector: u8, source: Source, size: u64) -> Result<Descriptor, Stop> {
        let error = u32::from(vector) * 8 + 2;
        let at = u64::from(vector) * size;
        if at + size - 1 > u64::from(self.st.idtr.limit) {
            return Err(self.gp(error));
        }
        let at = self.wrap(self.st.idtr.base.wrapping_add(at));
        let d = Descriptor { raw: self.load_system(at)?, at, selector: 0 };
        let long = self.st.long_mode();
        let known = match d.system_type() {
            _ if d.is_code_or_data() => false,
            gate::INTERRUPT32 | gate::TRAP32 => true,
            gate::TASK | gate::INTERRUPT16 | gate::TRAP16 => !long,
            _ => false,
        };
        if !known || source == Source::Software && d.dpl() < self.st.cpl {
            return Err(self.gp(error));
        }
        if !d.present() {
            return Err(self.raise_code(Vector::NOT_PRESENT, error));
        }
        Ok(d)
    }

    /// The handler's code descriptor.
    fn handler(&mut self, gate: &Descriptor) -> Result<Descriptor, Stop> {
        let selector = gate.gate_selector();
        if is_null(selector) {
            return Err(self.gp(0));
        }
        let d = self.descriptor(selector, Vector::PROTECTION)?;
        let wrong_size =
            self.st.long_mode() && d.attributes() & (Segment::LONG | Segment::BIG) != Segment::LONG;
        if !d.is_code() || d.dpl() > self.st.cpl || wrong_size {
            return Err(self.gp(code(selector)));
        }
        if !d.present() {
            return Err(self.raise_code(Vector::NOT_PRESENT, code(selector)));
        }
        Ok(d)
    }

    fn protected_interrupt(&mut self, vector: u8, source: Source) -> Result<(), Stop> {
        let gate = self.idt_gate(vector, source, 8)?;
        if source.resumes() {
            self.st.eflags |= eflags::RF;
        }
        if gate.system_type() == gate::TASK {
            return self.task_switch(gate.gate_selector(), TaskSwitch::Call, source.code());
        }
        let mut target = self.handler(&gate)?;
        let size = if gate.system_type() & 8 != 0 { 4 } else { 2 };
        let offset = if size == 4 { gate.gate_offset() } else { gate.gate_offset() & 0xffff };
        let flags = self.st.rflags();
        let (cs, rip) = (self.st.segments[usize::from(seg::CS)].selector, self.st.rip);
        let cpl = if target.conforming() { self.st.cpl } else { target.dpl() };
        let from_vm86 = self.st.vm86();
        if from_vm86 && cpl != 0 {
            return Err(self.gp(code(target.selector)));
        }
        if cpl < self.st.cpl {
            let old = self.st.segments;
            let sp = self.st.gpr(reg::RSP);
            let stack = self.inner_stack(cpl)?;
            self.check_entry(&target, offset.into())?;
            self.st.eflags &= !eflags::VM;
            self.take_stack(cpl, stack);
            if from_vm86 {
                for n in [seg::GS, seg::FS, seg::DS, seg::ES] {
                    self.push_sized(size, old[usize::from(n)].selector.into())?;
                    self.st.segments[usize::from(n)] = Segment::default();
                }
                self.update_mode();
            }
            self.push_sized(size, old[usize::from(seg::SS)].selector.into())?;
            self.push_sized(size, sp)?;
        } else {
            self.check_entry(&target, offset.into())?;
        }
        self.push_sized(size, flags)?;
        self.push_sized(size, cs.into())?;
        self.push_sized(size, rip)?;
        if let Some(error) = source.code() {
            self.push_sized(size, error.into())?;
        }
        self.enter_code(&mut target, cpl, offset.into())?;
        self.mask_after_delivery(&gate);
        Ok(())
    }

    fn mask_after_delivery(&mut self, gate: &Descriptor) {
        let mut clear = eflags::TF | eflags::NT | eflags::RF | eflags::VM;
        if gate.system_type() & 1 == 0 {
            clear |= eflags::IF;
        }
        self.st.eflags &= !clear;
    }

    fn long_interrupt(&mut self, vector: u8, source: Source) -> Result<(), Stop> {
        let gate = self.idt_gate(vector, source, 16)?;
        let high: u32 = self.load_system(gate.at.wrapping_add(8))?;
        let offset = u64::from(gate.gate_offset()) | u64::from(high) << 32;
        let mut target = self.handler(&gate)?;
        let ist = (gate.raw >> 32 & 7) as u8;
        let flags = self.st.rflags() | if source.resumes() { eflags::RF } else { 0 };
        let (cs, rip) = (self.st.segments[usize::from(seg::CS)].selector, self.st.rip);
        let (ss, sp) = (self.st.segments[usize::from(seg::SS)].selector, self.st.gpr(reg::RSP));
        let cpl = if target.conforming() { self.st.cpl } else { target.dpl() };
        if cpl < self.st.cpl || ist != 0 {
            self.long_stack(cpl, ist)?;
        } else {
            // From compatibility mode, too.
            self.push_as_long();
        }
        self.check_entry(&target, offset)?;
        self.st.set_gpr(reg::RSP, self.st.gpr(reg::RSP) & !15);
        for value in [ss.into(), sp, flags, cs.into(), rip] {
            self.push(value)?;
        }
        if let Some(error) = source.code() {
            self.push(u64::from(error))?;
        }
        self.enter_code(&mut target, cpl, offset)?;
        self.mask_after_delivery(&gate);
        Ok(())
    }

    /// IRET in its forms.
    pub(crate) fn interrupt_return(&mut self, size: u8) -> Result<(), Stop> {
        self.attention = true;
        self.core.nmi_blocked = false;
        self.atomically(|v| {
            if !v.st.protected() || v.st.vm86() {
                return v.iret_real(size);
            }
            if v.st.eflags & eflags::NT != 0 {
                if v.st.long_mode() {
                    return Err(v.gp(0));
                }
                let link: u16 = v.load_system(v.wrap(v.st.tr.base))?;
                v.task_switch(link, TaskSwitch::Return, None)?;
                return Err(Stop::Branch);
            }
            v.iret_protected(size)
        })
    }

    fn iret_real(&mut self, size: u8) -> Result<(), Stop> {
        let virtualised = self.st.vm86() && self.st.iopl() < 3;
        if virtualised && (size != 2 || self.st.cr4 & cr4::VME == 0) {
            return Err(self.gp(0));
        }
        let (ip, cs, flags) =
            (self.peek_sized(size, 0)?, self.peek_sized(size, 1)? as u16, self.peek_sized(size, 2)?);
        if ip > u64::from(self.st.segments[usize::from(seg::CS)].limit) {
            return Err(self.gp(0));
        }
        self.add_sp(3 * u64::from(size));
        if virtualised {
            self.set_virtual_flags(flags)?;
            self.load_real_segment(seg::CS, cs);
            self.st.rip = ip;
            return Err(Stop::Branch);
        }
        let mut may = eflags::ALL & !(eflags::VM | eflags::VIF | eflags::VIP);
        if self.st.vm86() {
            may &= !eflags::IOPL;
        }
        self.set_returned_flags(size, flags, may);
        self.load_real_segment(seg::CS, cs);
        self.st.rip = ip;
        Err(Stop::Branch)
    }

    fn set_returned_flags(&mut self, size: u8, flags: u64, may: u64) {
        let may = if size == 2 { may & 0xffff } else { may };
        let keep = self.st.rflags() & !may;
        self.st.set_rflags(keep | flags & may);
    }

    fn iret_protected(&mut self, size: u8) -> Result<(), Stop> {
        let (rip, cs, flags) =
            (self.peek_sized(size, 0)?, self.peek_sized(size, 1)? as u16, self.peek_sized(size, 2)?);
        let cpl = self.st.cpl;
        if size == 4 && flags & eflags::VM != 0 && cpl == 0 && !self.st.long_mode() {
            return self.iret_to_vm86(rip, cs, flags);
        }
        let mut may = eflags::ALL & !eflags::VM;
        if cpl > 0 {
            may &= !(eflags::IOPL | eflags::VIF | eflags::VIP);
        }
        if cpl > self.st.iopl() {
            may &= !eflags::IF;
        }
        let mut d = self.return_target(cs)?;
        let outer = rpl(cs) > cpl;
        // In 64-bit mode SS:RSP come back at any level.
        if outer || self.st.code64() {
            let (sp, ss) = (self.peek_sized(size, 3)?, self.peek_sized(size, 4)? as u16);
            let done = self.return_outer(&mut d, rip, ss, sp);
            if done == Err(Stop::Branch) {
                self.set_returned_flags(size, flags, may);
            }
            return done;
        }
        self.enter_code(&mut d, cpl, rip)?;
        self.add_sp(3 * u64::from(size));
        self.set_returned_flags(size, flags, may);
        Err(Stop::Branch)
    }

    fn iret_to_vm86(&mut self, rip: u64, cs: u16, flags: u64) -> Result<(), Stop> {
        let mut words = [0; 6];
        for (i, w) in words.iter_mut().enumerate() {
            *w = self.peek_sized(4, 3 + i as u64)?;
        }
        if rip > 0xffff {
            return Err(self.gp(0));
        }
        let [sp, ss, es, ds, fs, gs] = words;
        self.st.set_rflags(flags);
        self.st.cpl = 3;
        for (n, selector) in [
            (seg::CS, cs),
            (seg::SS, ss as u16),
            (seg::ES, es as u16),
            (seg::DS, ds as u16),
            (seg::FS, fs as u16),
            (seg::GS, gs as u16),
        ] {
            self.st.segments[usize::from(n)] = Segment::real(selector, 3);
        }
        self.update_mode();
        self.st.set_gpr(reg::RSP, sp);
        self.st.rip = rip;
        Err(Stop::Branch)
    }
}
