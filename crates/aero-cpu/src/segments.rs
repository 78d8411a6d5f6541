//! Segment registers: descriptors, loads with their checks, and the tables (Intel SDM vol. 3, chapters 3 and 5).

use crate::exception::Vector;
use crate::state::{CpuState, Segment, seg};
use crate::vcpu::{Stop, Vcpu};

/// System descriptor types.
pub mod kind {
    /// Local descriptor table.
    pub const LDT: u32 = 2;
    /// Task gate.
    pub const TASK_GATE: u32 = 5;
    /// 16-bit TSS, available.
    pub const TSS16: u32 = 1;
    /// 32-bit TSS (64-bit in long mode), available.
    pub const TSS32: u32 = 9;
    /// Added to a TSS type while its task is running or nested.
    pub const BUSY: u32 = 2;
    /// 16-bit call gate.
    pub const CALL_GATE16: u32 = 4;
    /// 32-bit call gate (64-bit in long mode).
    pub const CALL_GATE32: u32 = 12;
}

/// A descriptor as it lies in a table, with where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    /// Bytes 0 to 7.
    pub raw: u64,
    /// Linear address.
    pub at: u64,
    /// The selector it was found by.
    pub selector: u16,
}

impl Descriptor {
    /// The descriptor `raw`, found by `selector` in no particular place.
    pub fn new(selector: u16, raw: u64) -> Self {
        Self { raw, at: 0, selector }
    }

    /// Access byte and flags, as [`Segment::attributes`] stores them.
    pub fn attributes(&self) -> u32 {
        (self.raw >> 40) as u32 & 0xf0ff
    }

    /// Code or data, not system.
    pub fn is_code_or_data(&self) -> bool {
        self.attributes() & Segment::CODE_OR_DATA != 0
    }

    /// A code segment.
    pub fn is_code(&self) -> bool {
        self.attributes() & (Segment::CODE_OR_DATA | Segment::CODE) == Segment::CODE_OR_DATA | Segment::CODE
    }

    /// Conforming code, expand-down data.
    pub fn conforming(&self) -> bool {
        self.attributes() & Segment::CONFORMING != 0
    }

    /// The type of a system descriptor.
    pub fn system_type(&self) -> u32 {
        self.attributes() & 0xf
    }

    /// Present.
    pub fn present(&self) -> bool {
        self.attributes() & Segment::PRESENT != 0
    }

    /// Privilege level.
    pub fn dpl(&self) -> u8 {
        (self.attributes() >> 5 & 3) as u8
    }

    /// Base address, without the upper half of 16-byte descriptors.
    pub fn base(&self) -> u64 {
        self.raw >> 16 & 0xff_ffff | (self.raw >> 56) << 24
    }

    /// Limit in bytes.
    pub fn limit(&self) -> u32 {
        let limit = (self.raw & 0xffff | self.raw >> 32 & 0xf_0000) as u32;
        if self.attributes() & Segment::GRANULAR != 0 { limit << 12 | 0xfff } else { limit }
    }

    /// A gate's target selector.
    pub fn gate_selector(&self) -> u16 {
        (self.raw >> 16) as u16
    }

    /// A gate's target offset, low 32 bits.
    pub fn gate_offset(&self) -> u32 {
        (self.raw & 0xffff | self.raw >> 32 & 0xffff_0000) as u32
    }

    /// What a segment register holds after loading this descriptor.
    pub fn segment(&self) -> Segment {
        Segment {
            base: self.base(),
            limit: self.limit(),
            attributes: self.attributes(),
            selector: self.selector,
        }
    }
}

/// A selector's requested privilege level.
pub fn rpl(selector: u16) -> u8 {
    (selector & 3) as u8
}

/// A selector as an error code: without its RPL.
pub fn code(selector: u16) -> u32 {
    u32::from(selector & !3)
}

/// Whether a selector is null.
pub fn is_null(selector: u16) -> bool {
    selector & !3 == 0
}

/// What of the state a far transfer, an interrupt or a task switch changes.
struct Checkpoint {
    segments: [Segment; 6],
    tr: Segment,
    ldtr: Segment,
    gpr: [u64; 16],
    rip: u64,
    rflags: u64,
    cpl: u8,
    cr0: u64,
    cr3: u64,
}

impl Checkpoint {
    fn of(st: &CpuState) -> Self {
        Self {
            segments: st.segments,
            tr: st.tr,
            ldtr: st.ldtr,
            gpr: core::array::from_fn(|n| st.gpr(n as u8)),
            rip: st.rip,
            rflags: st.rflags(),
            cpl: st.cpl,
            cr0: st.cr0,
            cr3: st.cr3,
        }
    }

    fn restore(&self, st: &mut CpuState) {
        let Self { segments, tr, ldtr, gpr, rip, rflags, cpl, cr0, cr3 } = self;
        st.segments = *segments;
        st.tr = *tr;
        st.ldtr = *ldtr;
        gpr.iter().enumerate().for_each(|(n, value)| st.set_gpr(n as u8, *value));
        st.rip = *rip;
        st.set_rflags(*rflags);
        st.cpl = *cpl;
        st.cr0 = *cr0;
        st.cr3 = *cr3;
    }
}

impl Vcpu<'_> {
    /// Runs a multi-step change of the state; on an error the state is as before.
    pub(crate) fn atomically<R>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<R, Stop>,
    ) -> Result<R, Stop> {
        let before = Checkpoint::of(self.st);
        let done = change(self);
        if matches!(done, Err(stop) if !matches!(stop, Stop::Branch | Stop::FaultAfter)) {
            before.restore(self.st);
            self.update_mode();
        }
        if done.as_ref().is_err_and(|stop| *stop == Stop::NonCanonical) {
            // All that a transfer addresses besides the descriptor tables is the stack.
            return Err(self.raise_code(Vector::STACK, 0));
        }
        done
    }

    /// Reads the descriptor of a selector that is not null.
    ///
    /// # Errors
    /// `vector`(selector) when it lies outside its table.
    pub(crate) fn descriptor(&mut self, selector: u16, vector: Vector) -> Result<Descriptor, Stop> {
        let index = u64::from(selector & !7);
        let (base, limit) = if selector & 4 == 0 {
            (self.st.gdtr.base, u64::from(self.st.gdtr.limit))
        } else if self.st.ldtr.present() {
            (self.st.ldtr.base, u64::from(self.st.ldtr.limit))
        } else {
            (0, 0)
        };
        if index + 7 > limit {
            return Err(self.raise_code(vector, code(selector)));
        }
        let at = self.wrap(base.wrapping_add(index));
        let raw = self.load_system(at)?;
        Ok(Descriptor { raw, at, selector })
    }

    /// A linear address of a system structure, wrapped as the mode does.
    pub(crate) fn wrap(&self, la: u64) -> u64 {
        if self.st.long_mode() { la } else { la & 0xffff_ffff }
    }

    /// Sets a descriptor's accessed bit, only if it is clear: PatchGuard hashes the table.
    pub(crate) fn mark_accessed(&mut self, d: &mut Descriptor) -> Result<(), Stop> {
        const ACCESSED: u64 = 1 << 40;
        if d.raw & ACCESSED == 0 {
            d.raw |= ACCESSED;
            self.store_system(d.at.wrapping_add(5), (d.raw >> 40) as u8)?;
        }
        Ok(())
    }

    /// Loads a segment register other than CS, as MOV and POP do.
    pub(crate) fn load_segment(&mut self, n: u8, selector: u16) -> Result<(), Stop> {
        self.load_segment_or(n, selector, Vector::PROTECTION)
    }

    /// As [`Vcpu::load_segment`], with the vector of the checks chosen (#TS in a task switch).
    pub(crate) fn load_segment_or(&mut self, n: u8, selector: u16, vector: Vector) -> Result<(), Stop> {
        if self.st.real_segments() {
            self.load_real_segment(n, selector);
            return Ok(());
        }
        let loaded = if n == seg::SS {
            self.stack_segment(selector, self.st.cpl, vector)?
        } else {
            self.data_segment(selector, vector)?
        };
        self.st.segments[usize::from(n)] = loaded;
        self.update_mode();
        Ok(())
    }

    /// Real mode moves only the base, so that a limit loaded in protected mode stays ("unreal" mode).
    pub(crate) fn load_real_segment(&mut self, n: u8, selector: u16) {
        let vm86 = self.st.vm86();
        let s = &mut self.st.segments[usize::from(n)];
        if vm86 {
            *s = Segment::real(selector, 3);
        } else {
            // An unusable segment becomes usable, and CS can be written again; nothing else changes.
            let keep = s.present() && n != seg::CS;
            let attributes = if keep { s.attributes } else { s.attributes & 0xf000 | 0x93 };
            *s = Segment { base: u64::from(selector) << 4, selector, attributes, ..*s };
        }
        self.update_mode();
    }

    fn data_segment(&mut self, selector: u16, vector: Vector) -> Result<Segment, Stop> {
        if is_null(selector) {
            return Ok(Segment { selector, ..Segment::default() });
        }
        let mut d = self.descriptor(selector, vector)?;
        let readable = !d.is_code() || d.attributes() & Segment::READ_WRITE != 0;
        let checks_privilege = !(d.is_code() && d.conforming());
        let privileged = checks_privilege && d.dpl() < self.st.cpl.max(rpl(selector));
        if !d.is_code_or_data() || !readable || privileged {
            return Err(self.raise_code(vector, code(selector)));
        }
        if !d.present() {
            return Err(self.raise_code(Vector::NOT_PRESENT, code(selector)));
        }
        self.mark_accessed(&mut d)?;
        Ok(d.segment())
    }

    /// The stack segment that `selector` names, for a stack at privilege `cpl`.
    pub(crate) fn stack_segment(&mut self, selector: u16, cpl: u8, vector: Vector) -> Result<Segment, Stop> {
        if is_null(selector) {
            let allowed = self.st.code64() && cpl < 3 && rpl(selector) == cpl;
            return if allowed {
                Ok(Segment::null_stack(selector))
            } else {
                Err(self.raise_code(vector, if vector == Vector::INVALID_TSS { code(selector) } else { 0 }))
            };
        }
        let mut d = self.descriptor(selector, vector)?;
        let writable_data = d.is_code_or_data() && !d.is_code() && d.attributes() & Segment::READ_WRITE != 0;
        if !writable_data || rpl(selector) != cpl || d.dpl() != cpl {
            return Err(self.raise_code(vector, code(selector)));
        }
        if !d.present() {
            return Err(self.raise_code(Vector::STACK, code(selector)));
        }
        self.mark_accessed(&mut d)?;
        Ok(d.segment())
    }

    /// Whether a descriptor is one of 64-bit code.
    pub(crate) fn is_long_code(&self, d: &Descriptor) -> bool {
        self.st.long_mode() && d.attributes() & Segment::LONG != 0
    }

    /// A code segment must be present, and not both 64-bit and 32-bit.
    pub(crate) fn check_present(&mut self, d: &Descriptor) -> Result<(), Stop> {
        if self.is_long_code(d) && d.attributes() & Segment::BIG != 0 {
            return Err(self.gp(code(d.selector)));
        }
        if !d.present() {
            return Err(self.raise_code(Vector::NOT_PRESENT, code(d.selector)));
        }
        Ok(())
    }

    /// A transfer to `offset` must stay within the segment, or be canonical: #GP(0) at the instruction that makes it.
    pub(crate) fn check_entry(&mut self, d: &Descriptor, offset: u64) -> Result<(), Stop> {
        let inside = if self.is_long_code(d) {
            crate::access::is_canonical(offset)
        } else {
            offset & 0xffff_ffff <= u64::from(d.limit())
        };
        if inside { Ok(()) } else { Err(self.gp(0)) }
    }

    /// Checks and loads CS from a code descriptor, with the CPL that results, and goes to `offset` there.
    pub(crate) fn enter_code(&mut self, d: &mut Descriptor, cpl: u8, offset: u64) -> Result<(), Stop> {
        self.check_present(d)?;
        self.check_entry(d, offset)?;
        let long = self.is_long_code(d);
        self.mark_accessed(d)?;
        let segment = Segment { selector: d.selector & !3 | u16::from(cpl), ..d.segment() };
        self.st.segments[usize::from(seg::CS)] = segment;
        self.st.cpl = cpl;
        self.st.rip = if long { offset } else { offset & 0xffff_ffff };
        self.update_mode();
        Ok(())
    }

    /// Reads address bits 63:32 of a 16-byte descriptor, which must lie in its table as a whole and whose second half
    /// must not look like a descriptor of its own: its type is zero (Intel SDM vol. 3, 5.8.3.1).
    pub(crate) fn upper_half(&mut self, d: &Descriptor) -> Result<u32, Stop> {
        let local = d.selector & 4 != 0;
        let limit = if local { u64::from(self.st.ldtr.limit) } else { u64::from(self.st.gdtr.limit) };
        if u64::from(d.selector & !7) + 15 > limit {
            return Err(self.gp(code(d.selector)));
        }
        let upper: u64 = self.load_system(d.at.wrapping_add(8))?;
        if upper >> 40 & 0x1f != 0 {
            return Err(self.gp(code(d.selector)));
        }
        Ok(upper as u32)
    }

    /// The upper half of a base address: in long mode system descriptors have 16 bytes.
    fn upper_base(&mut self, d: &Descriptor) -> Result<u64, Stop> {
        Ok(if self.st.long_mode() { u64::from(self.upper_half(d)?) << 32 } else { 0 })
    }

    fn check_base(&mut self, d: &Descriptor, base: u64) -> Result<u64, Stop> {
        if crate::access::is_canonical(base) { Ok(base) } else { Err(self.gp(code(d.selector))) }
    }

    /// LLDT, and the table of a task (`vector` #TS, also for one that is absent).
    pub(crate) fn load_ldt(&mut self, selector: u16, vector: Vector) -> Result<(), Stop> {
        if is_null(selector) {
            self.st.ldtr = Segment { selector, ..Segment::default() };
            return Ok(());
        }
        if selector & 4 != 0 {
            return Err(self.raise_code(vector, code(selector)));
        }
        let d = self.descriptor(selector, vector)?;
        if d.is_code_or_data() || d.system_type() != kind::LDT {
            return Err(self.raise_code(vector, code(selector)));
        }
        // All of it must lie in the table, before it matters whether it is present (Intel SDM vol. 2A, LLDT).
        let upper = self.upper_base(&d)?;
        if !d.present() {
            let absent = if vector == Vector::INVALID_TSS { vector } else { Vector::NOT_PRESENT };
            return Err(self.raise_code(absent, code(selector)));
        }
        let base = self.check_base(&d, upper | d.base())?;
        self.st.ldtr = Segment { base, ..d.segment() };
        Ok(())
    }

    /// LTR.
    pub(crate) fn load_tr(&mut self, selector: u16) -> Result<(), Stop> {
        if is_null(selector) || selector & 4 != 0 {
            return Err(self.gp(code(selector)));
        }
        let d = self.descriptor(selector, Vector::PROTECTION)?;
        let available =
            matches!(d.system_type(), kind::TSS32) || d.system_type() == kind::TSS16 && !self.st.long_mode();
        if d.is_code_or_data() || !available {
            return Err(self.gp(code(selector)));
        }
        let upper = self.upper_base(&d)?;
        if !d.present() {
            return Err(self.raise_code(Vector::NOT_PRESENT, code(selector)));
        }
        let base = self.check_base(&d, upper | d.base())?;
        self.set_busy(&d, true)?;
        self.st.tr = Segment { base, attributes: d.attributes() | kind::BUSY, ..d.segment() };
        Ok(())
    }

    /// Sets or clears a TSS descriptor's busy bit.
    pub(crate) fn set_busy(&mut self, d: &Descriptor, busy: bool) -> Result<(), Stop> {
        let access: u8 = self.load_system(d.at.wrapping_add(5))?;
        let bit = kind::BUSY as u8;
        self.store_system(d.at.wrapping_add(5), if busy { access | bit } else { access & !bit })
    }
}
