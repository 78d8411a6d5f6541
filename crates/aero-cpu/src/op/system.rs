//! Privileged and system instructions: debug registers, descriptor tables, MSRs, CPUID, far transfers, software
//! interrupts, fast system calls, HLT. Control registers and translations are [`control`]'s.

use super::{Any, Ea, Op, Run, control};
use crate::bind;
use crate::debug::{dr6, dr7};
use crate::exception::{Exception, Vector};
use crate::segments::{is_null, kind, rpl};
use crate::state::{Segment, TableRegister, cr0, cr4, efer, eflags, reg, seg};
use crate::vcpu::{Mode, Shadow, Stop, Vcpu};
use crate::word::Word;
use aero_x86::{CodeSize, Insn, Mnemonic, Operand};

/// Picks the handler of a system instruction, and whether it ends its block.
pub fn bind(insn: &Insn, mode: Mode, op: &mut Op) -> Option<(Run, bool)> {
    if let Some(run) = bind::ports(insn) {
        return Some((run, false));
    }
    plain(insn, mode)
        .map(|run| (run, false))
        .or_else(|| ending(insn, mode, op).map(|run| (run, true)))
        .or_else(|| control::bind(insn, mode))
}

/// Instructions after which the block may go on.
fn plain(insn: &Insn, mode: Mode) -> Option<Run> {
    let long = mode.code == CodeSize::B64;
    let register = matches!(insn.operands[0], Operand::Gpr { .. });
    let size = insn.operand_size;
    Some(match (insn.mnemonic, insn.operands[0], insn.operands[1]) {
        (Mnemonic::Cpuid, ..) => cpuid,
        (Mnemonic::Rdtsc, ..) => rdtsc::<false>,
        (Mnemonic::Rdtscp, ..) => rdtsc::<true>,
        (Mnemonic::Rdpid, ..) => rdpid,
        (Mnemonic::Rdpmc, ..) => rdpmc,
        (Mnemonic::Cli, ..) => cli,
        (Mnemonic::Clts, ..) => clts,
        (Mnemonic::Wbinvd | Mnemonic::Wbnoinvd | Mnemonic::Invd, ..) => cache_control,
        (Mnemonic::Clflush | Mnemonic::Clflushopt | Mnemonic::Clwb, ..) => clflush,
        (Mnemonic::Sgdt, ..) => store_table(long, false),
        (Mnemonic::Sidt, ..) => store_table(long, true),
        (Mnemonic::Sldt, ..) => store_selector::<0>(register, size),
        (Mnemonic::Str, ..) => store_selector::<1>(register, size),
        (Mnemonic::Smsw, ..) => store_selector::<2>(register, size),
        (Mnemonic::Lldt, ..) => by_form(register, load_selector::<0, true>, load_selector::<0, false>),
        (Mnemonic::Ltr, ..) => by_form(register, load_selector::<1, true>, load_selector::<1, false>),
        (Mnemonic::Verr, ..) => by_form(register, verify::<false, true>, verify::<false, false>),
        (Mnemonic::Verw, ..) => by_form(register, verify::<true, true>, verify::<true, false>),
        (Mnemonic::Lar, ..) => inspect::<false>(insn),
        (Mnemonic::Lsl, ..) => inspect::<true>(insn),
        (Mnemonic::Arpl, ..) => by_form(register, arpl::<true>, arpl::<false>),
        (Mnemonic::Bound, ..) => by_form(size == 2, bound::<u16>, bound::<u32>),
        (Mnemonic::Mov, Operand::Gpr { size, .. }, Operand::Seg(_)) => match size {
            2 => segment_to_register::<u16>,
            4 => segment_to_register::<u32>,
            _ => segment_to_register::<u64>,
        },
        (Mnemonic::Mov, Operand::Mem, Operand::Seg(_)) => segment_to_memory,
        (Mnemonic::Mov, Operand::Gpr { .. }, Operand::Dr(_)) => by_form(long, read_dr::<u64>, read_dr::<u32>),
        (Mnemonic::Mov, Operand::Dr(_), _) => by_form(long, write_dr::<u64>, write_dr::<u32>),
        (Mnemonic::Swapgs, ..) => swapgs,
        (Mnemonic::Rdmsr, ..) => rdmsr,
        _ => return None,
    })
}

/// Instructions that end their block: control leaves it, or what follows must be decoded or checked anew.
fn ending(insn: &Insn, mode: Mode, op: &mut Op) -> Option<Run> {
    let long = mode.code == CodeSize::B64;
    let size = insn.operand_size;
    let far = matches!(insn.operands[0], Operand::Far { .. });
    Some(match (insn.mnemonic, insn.operands[0], insn.operands[1]) {
        (Mnemonic::Mov, Operand::Seg(n), s) if n != seg::CS => {
            by_form(s == Operand::Mem, register_to_segment::<true>, register_to_segment::<false>)
        }
        (Mnemonic::Lds, ..) => far_pointer::<{ seg::DS }>(size),
        (Mnemonic::Les, ..) => far_pointer::<{ seg::ES }>(size),
        (Mnemonic::Lss, ..) => far_pointer::<{ seg::SS }>(size),
        (Mnemonic::Lfs, ..) => far_pointer::<{ seg::FS }>(size),
        (Mnemonic::Lgs, ..) => far_pointer::<{ seg::GS }>(size),
        (Mnemonic::Lgdt, ..) => load_table(long, size, false),
        (Mnemonic::Lidt, ..) => load_table(long, size, true),
        (Mnemonic::Wrmsr, ..) => wrmsr,
        (Mnemonic::Sti, ..) => sti,
        (Mnemonic::Hlt, ..) => hlt,
        (Mnemonic::Jmp, ..) if far => jump_far,
        (Mnemonic::Call, ..) if far => {
            op.src = size;
            call_far
        }
        (Mnemonic::Jmp, Operand::Mem, _) => {
            op.src = insn.mem.size - 2;
            jump_far_memory
        }
        (Mnemonic::Call, Operand::Mem, _) => {
            op.src = insn.mem.size - 2;
            call_far_memory
        }
        (Mnemonic::Retf, ..) => {
            op.src = size;
            return_far
        }
        (Mnemonic::Int, ..) => int,
        (Mnemonic::Int3, ..) => int3,
        (Mnemonic::Int1, ..) => int1,
        (Mnemonic::Into, ..) => into,
        (Mnemonic::Iret | Mnemonic::Iretd | Mnemonic::Iretq, ..) => {
            op.src = size;
            iret
        }
        (Mnemonic::Syscall, ..) => syscall,
        (Mnemonic::Sysret | Mnemonic::Sysretq, ..) => by_form(size == 8, sysret::<true>, sysret::<false>),
        (Mnemonic::Sysenter, ..) => sysenter,
        (Mnemonic::Sysexit | Mnemonic::Sysexitq, ..) => by_form(size == 8, sysexit::<true>, sysexit::<false>),
        _ => return None,
    })
}

pub(super) fn by_form(first: bool, a: Run, b: Run) -> Run {
    if first { a } else { b }
}

impl Vcpu<'_> {
    /// #GP(0) unless at CPL 0.
    pub(super) fn supervisor(&mut self) -> Result<(), Stop> {
        if self.st.cpl != 0 { Err(self.gp(0)) } else { Ok(()) }
    }

    /// SYSCALL and SYSRET single-step by the TF that they leave, not the one that they found: a program cannot step
    /// into a kernel whose mask clears TF, and one that is returned to with TF traps at once.
    fn step_by_new_flag(&mut self) {
        self.delivered = true;
        if self.st.eflags & eflags::TF != 0 {
            self.pend_debug(dr6::BS);
        }
    }

    /// #UD in real and VM86 mode.
    fn protected_only(&mut self) -> Result<(), Stop> {
        if self.st.real_segments() { Err(self.ud()) } else { Ok(()) }
    }

    /// SGDT, SIDT, SLDT, STR and SMSW: #GP(0) outside CPL 0 under CR4.UMIP.
    fn may_see_tables(&mut self) -> Result<(), Stop> {
        if self.st.cr4 & cr4::UMIP != 0 { self.supervisor() } else { Ok(()) }
    }

    /// The instruction is done and has moved nothing but state: the next one is decoded and checked anew.
    pub(super) fn finish(&mut self, op: &Op) -> Result<(), Stop> {
        self.st.rip = self.next_rip(op);
        Err(Stop::Branch)
    }

    /// Holds interrupts off for one instruction. Twice in a row holds only once.
    pub(crate) fn hold_interrupts(&mut self, shadow: Shadow) {
        self.core.shadow = shadow;
        self.attention = true;
    }

    /// A 16-bit operand from a register or memory.
    pub(super) fn word_operand(&mut self, op: &Op, register: bool) -> Result<u16, Stop> {
        if register { Ok(self.st.reg(op.dst)) } else { self.load_ea::<u16, Any>(op) }
    }
}

fn cpuid(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    let (leaf, subleaf) = (v.st.gpr(reg::RAX) as u32, v.st.gpr(reg::RCX) as u32);
    let now = aero_x86::cpuid::Present {
        apic_id: v.core.id,
        processors: 1,
        apic_enabled: v.core.lapic.enabled(),
        hypervisor: v.core.config.hyperv,
        osxsave: v.st.cr4 & cr4::OSXSAVE != 0,
        ospke: v.st.cr4 & cr4::PKE != 0,
        xcr0: v.st.xcr0,
        xss: v.st.msr.xss,
    };
    let l = v.core.config.model.leaf(leaf, subleaf, &now);
    if leaf == 1 {
        // The microcode revision is latched by CPUID (Intel SDM vol. 3, 9.11.7.1).
        v.st.msr.microcode_rev = 1 << 32;
    }
    for (r, value) in [(reg::RAX, l.eax), (reg::RBX, l.ebx), (reg::RCX, l.ecx), (reg::RDX, l.edx)] {
        v.st.set_gpr(r, value.into());
    }
    Ok(())
}

fn rdtsc<const WITH_AUX: bool>(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    if v.st.cr4 & cr4::TSD != 0 && v.st.cpl != 0 {
        return Err(v.gp(0));
    }
    let tsc = v.tsc();
    v.st.set_gpr(reg::RAX, tsc & 0xffff_ffff);
    v.st.set_gpr(reg::RDX, tsc >> 32);
    if WITH_AUX {
        v.st.set_gpr(reg::RCX, v.st.msr.tsc_aux & 0xffff_ffff);
    }
    Ok(())
}

/// RDPID: IA32_TSC_AUX at any CPL, whatever CR4.TSD says.
fn rdpid(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let id = v.st.msr.tsc_aux & 0xffff_ffff;
    v.st.set_gpr(op.dst / 8, id);
    Ok(())
}

/// No counters exist: any index faults.
fn rdpmc(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    Err(v.gp(0))
}

fn rdmsr(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    v.supervisor()?;
    let value = v.read_msr(v.st.gpr(reg::RCX) as u32)?;
    v.st.set_gpr(reg::RAX, value & 0xffff_ffff);
    v.st.set_gpr(reg::RDX, value >> 32);
    Ok(())
}

fn wrmsr(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.supervisor()?;
    let value = v.st.gpr(reg::RDX) << 32 | v.st.gpr(reg::RAX) & 0xffff_ffff;
    v.write_msr(v.st.gpr(reg::RCX) as u32, value)?;
    v.attention = true;
    v.finish(op)
}

/// The flag that CLI and STI mean here: IF, or VIF for VM86 programs under VME and CPL 3 under PVI
/// (Intel SDM vol. 2A, CLI).
fn interrupt_flag(v: &mut Vcpu<'_>) -> Result<u64, Stop> {
    if !v.st.protected() || v.st.cpl <= v.st.iopl() {
        return Ok(eflags::IF);
    }
    let extension = if v.st.vm86() { cr4::VME } else { cr4::PVI };
    let virtual_flag = v.st.cr4 & extension != 0 && v.st.cpl == 3;
    if virtual_flag { Ok(eflags::VIF) } else { Err(v.gp(0)) }
}

fn cli(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    v.st.eflags &= !interrupt_flag(v)?;
    Ok(())
}

fn sti(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    if interrupt_flag(v)? == eflags::VIF {
        if v.st.eflags & eflags::VIP != 0 {
            return Err(v.gp(0));
        }
        v.st.eflags |= eflags::VIF;
    } else if v.st.eflags & eflags::IF == 0 {
        v.st.eflags |= eflags::IF;
        v.hold_interrupts(Shadow::Interrupts);
    }
    v.finish(op)
}

fn hlt(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    v.supervisor()?;
    Err(Stop::Halt)
}

fn clts(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    v.supervisor()?;
    v.st.cr0 &= !cr0::TS;
    Ok(())
}

/// WBINVD, WBNOINVD, INVD: there is no cache to write back.
fn cache_control(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    v.supervisor()
}

fn clflush(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let la = Any::linear(v, op, 1, false)?;
    v.probe_read(la, 1)
}

fn debug_register(v: &mut Vcpu<'_>, n: u8) -> Result<usize, Stop> {
    if n > 7 || matches!(n, 4 | 5) && v.st.cr4 & cr4::DE != 0 {
        return Err(v.ud());
    }
    v.supervisor()?;
    if v.st.dr[7] & dr7::GD != 0 {
        v.exception = Exception::debug(dr6::BD);
        return Err(Stop::Fault);
    }
    Ok(usize::from(if matches!(n, 4 | 5) { n + 2 } else { n }))
}

fn read_dr<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let n = debug_register(v, op.src)?;
    v.st.set_reg(op.dst, T::trunc(v.st.dr[n]));
    Ok(())
}

fn write_dr<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let n = debug_register(v, op.dst)?;
    let value = v.st.reg::<T>(op.src).zext();
    if n >= 6 && value >> 32 != 0 {
        return Err(v.gp(0));
    }
    v.st.dr[n] = match n {
        6 => value & dr6::WRITABLE | dr6::FIXED,
        7 => value & dr7::WRITABLE | dr7::FIXED,
        _ => value,
    };
    v.update_watch();
    Ok(())
}

fn store_table(long: bool, idt: bool) -> Run {
    match (long, idt) {
        (true, false) => sgdt::<u64>,
        (false, false) => sgdt::<u32>,
        (true, true) => sidt::<u64>,
        (false, true) => sidt::<u32>,
    }
}

fn put_table<T: Word>(v: &mut Vcpu<'_>, op: &Op, t: TableRegister) -> Result<(), Stop> {
    v.may_see_tables()?;
    let la = Any::linear(v, op, 2 + T::BYTES, true)?;
    v.probe_write(la, 2 + T::BYTES)?;
    v.store(la, t.limit)?;
    v.store(la.wrapping_add(2), T::trunc(t.base))
}

fn sgdt<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    put_table::<T>(v, op, v.st.gdtr)
}

fn sidt<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    put_table::<T>(v, op, v.st.idtr)
}

fn load_table(long: bool, size: u8, idt: bool) -> Run {
    match (long, size, idt) {
        (true, _, false) => lgdt::<u64, 8>,
        (false, 2, false) => lgdt::<u32, 3>,
        (false, _, false) => lgdt::<u32, 4>,
        (true, _, true) => lidt::<u64, 8>,
        (false, 2, true) => lidt::<u32, 3>,
        (false, _, true) => lidt::<u32, 4>,
    }
}

/// A 16-bit operand size keeps 24 bits of the base.
fn get_table<T: Word, const BYTES: u32>(v: &mut Vcpu<'_>, op: &Op) -> Result<TableRegister, Stop> {
    v.supervisor()?;
    let la = Any::linear(v, op, 2 + T::BYTES, false)?;
    let limit = v.load(la)?;
    let base = v.load::<T>(la.wrapping_add(2))?.zext() & u64::MAX >> (64 - 8 * BYTES);
    if T::BYTES == 8 && !crate::access::is_canonical(base) {
        return Err(v.gp(0));
    }
    Ok(TableRegister { base, limit })
}

fn lgdt<T: Word, const BYTES: u32>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.st.gdtr = get_table::<T, BYTES>(v, op)?;
    v.finish(op)
}

fn lidt<T: Word, const BYTES: u32>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.st.idtr = get_table::<T, BYTES>(v, op)?;
    v.finish(op)
}

fn store_selector<const WHICH: u8>(register: bool, size: u8) -> Run {
    match (register, size) {
        (true, 2) => selector_to_register::<WHICH, u16>,
        (true, 4) => selector_to_register::<WHICH, u32>,
        (true, _) => selector_to_register::<WHICH, u64>,
        (false, _) => selector_to_memory::<WHICH>,
    }
}

/// 0 SLDT, 1 STR, 2 SMSW.
fn stored_selector<const WHICH: u8>(v: &mut Vcpu<'_>) -> Result<u64, Stop> {
    if WHICH != 2 {
        v.protected_only()?;
    }
    v.may_see_tables()?;
    if WHICH == 2 {
        return Ok(v.st.cr0);
    }
    Ok(if WHICH == 0 { v.st.ldtr.selector } else { v.st.tr.selector }.into())
}

fn selector_to_register<const WHICH: u8, T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let value = stored_selector::<WHICH>(v)?;
    v.st.set_reg(op.dst, T::trunc(value));
    Ok(())
}

fn selector_to_memory<const WHICH: u8>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let value = stored_selector::<WHICH>(v)?;
    v.store_ea::<u16, Any>(op, value as u16)
}

/// 0 LLDT, 1 LTR.
fn load_selector<const WHICH: u8, const REGISTER: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.protected_only()?;
    v.supervisor()?;
    let selector = v.word_operand(op, REGISTER)?;
    if WHICH == 0 { v.load_ldt(selector, Vector::PROTECTION) } else { v.load_tr(selector) }
}

fn segment_to_register<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let selector = v.st.segments[usize::from(op.src)].selector;
    v.st.set_reg(op.dst, T::trunc(selector.into()));
    Ok(())
}

fn segment_to_memory(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let selector = v.st.segments[usize::from(op.src)].selector;
    v.store_ea::<u16, Any>(op, selector)
}

fn register_to_segment<const MEMORY: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let selector = if MEMORY { v.load_ea::<u16, Any>(op)? } else { v.st.reg(op.src) };
    v.load_segment(op.dst, selector)?;
    if op.dst == seg::SS {
        v.hold_interrupts(Shadow::Traps);
    }
    v.finish(op)
}

fn far_pointer<const SEGMENT: u8>(size: u8) -> Run {
    match size {
        2 => load_far_pointer::<SEGMENT, u16>,
        4 => load_far_pointer::<SEGMENT, u32>,
        _ => load_far_pointer::<SEGMENT, u64>,
    }
}

/// A far pointer in memory: offset, then selector.
fn read_far_pointer<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(u16, u64), Stop> {
    let la = Any::linear(v, op, T::BYTES + 2, false)?;
    let offset: T = v.load(la)?;
    Ok((v.load(la.wrapping_add(T::BYTES.into()))?, offset.zext()))
}

fn load_far_pointer<const SEGMENT: u8, T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let (selector, offset) = read_far_pointer::<T>(v, op)?;
    v.load_segment(SEGMENT, selector)?;
    v.st.set_reg(op.dst, T::trunc(offset));
    v.finish(op)
}

fn jump_far(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.attention = true;
    let next = v.next_rip(op);
    v.far_jump((op.imm >> 32) as u16, op.imm & 0xffff_ffff, next)
}

fn call_far(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let back = v.next_rip(op);
    v.far_call((op.imm >> 32) as u16, op.imm & 0xffff_ffff, op.src, back)
}

fn sized_far_pointer(v: &mut Vcpu<'_>, op: &Op) -> Result<(u16, u64), Stop> {
    match op.src {
        2 => read_far_pointer::<u16>(v, op),
        4 => read_far_pointer::<u32>(v, op),
        _ => read_far_pointer::<u64>(v, op),
    }
}

fn jump_far_memory(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let (selector, offset) = sized_far_pointer(v, op)?;
    let next = v.next_rip(op);
    v.far_jump(selector, offset, next)
}

fn call_far_memory(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let (selector, offset) = sized_far_pointer(v, op)?;
    let back = v.next_rip(op);
    v.far_call(selector, offset, op.src, back)
}

fn return_far(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.far_return(op.src, op.imm)
}

/// Runs a transfer that saves RIP: it is the next instruction's meanwhile, and this one's again if the transfer fails.
fn leaving(
    v: &mut Vcpu<'_>,
    op: &Op,
    transfer: impl FnOnce(&mut Vcpu<'_>) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let start = v.st.rip;
    v.st.rip = v.next_rip(op);
    match transfer(v) {
        Ok(()) | Err(Stop::Branch) => Err(Stop::Branch),
        Err(Stop::FaultAfter) => Err(Stop::FaultAfter),
        Err(stop) => {
            v.st.rip = start;
            Err(stop)
        }
    }
}

fn int(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    leaving(v, op, |v| v.software_interrupt(op.imm as u8))
}

/// INT3 in VM86 mode is not subject to IOPL; its gate's DPL still is checked.
fn int3(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    leaving(v, op, |v| v.breakpoint(Vector::BREAKPOINT.0))
}

fn int1(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    leaving(v, op, |v| v.debug_trap())
}

fn into(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    if !v.st.flags.of() {
        return v.finish(op);
    }
    leaving(v, op, |v| v.breakpoint(Vector::OVERFLOW.0))
}

fn iret(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    leaving(v, op, |v| v.interrupt_return(op.src))
}

fn flat_segment(selector: u64, code: bool, dpl: u32, long: bool) -> Segment {
    let kind = if code { 0xb } else { 0x3 };
    let big = if long && code { Segment::LONG } else { Segment::BIG };
    Segment {
        base: 0,
        limit: u32::MAX,
        attributes: Segment::PRESENT | Segment::CODE_OR_DATA | kind | dpl << 5 | Segment::GRANULAR | big,
        selector: selector as u16,
    }
}

fn enter_flat(v: &mut Vcpu<'_>, cs: u64, ss: u64, cpl: u8, long: bool) {
    v.st.segments[usize::from(seg::CS)] = flat_segment(cs, true, cpl.into(), long);
    v.st.segments[usize::from(seg::SS)] = flat_segment(ss, false, cpl.into(), long);
    v.st.cpl = cpl;
    v.update_mode();
}

fn syscall(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    // Intel: only in 64-bit mode (SDM vol. 2B, SYSCALL).
    if v.st.msr.efer & efer::SCE == 0 || !v.st.code64() {
        return Err(v.ud());
    }
    let back = v.next_rip(op);
    v.st.set_gpr(reg::RCX, back);
    v.st.set_gpr(reg::R11, v.st.rflags() & !eflags::RF);
    let star = v.st.msr.star >> 32;
    enter_flat(v, star & 0xfffc, (star & 0xffff) + 8, 0, true);
    v.st.set_rflags(v.st.rflags() & !(v.st.msr.fmask | eflags::RF));
    v.st.rip = v.st.msr.lstar;
    v.step_by_new_flag();
    Err(Stop::Branch)
}

fn sysret<const LONG: bool>(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    if v.st.msr.efer & efer::SCE == 0 || !v.st.code64() {
        return Err(v.ud());
    }
    v.supervisor()?;
    let rip = v.st.gpr(reg::RCX);
    if LONG && !crate::access::is_canonical(rip) {
        return Err(v.gp(0));
    }
    let star = v.st.msr.star >> 48;
    let cs = (star + if LONG { 16 } else { 0 }) | 3;
    enter_flat(v, cs, (star + 8) | 3, 3, LONG);
    let may = eflags::ALL & !(eflags::VM | eflags::RF);
    v.st.set_rflags(v.st.gpr(reg::R11) & may);
    v.st.rip = if LONG { rip } else { rip & 0xffff_ffff };
    v.step_by_new_flag();
    v.attention = true;
    Err(Stop::Branch)
}

fn sysenter(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    if !v.st.protected() || v.st.msr.sysenter_cs & 0xfffc == 0 {
        return Err(v.gp(0));
    }
    let long = v.st.long_mode();
    v.st.eflags &= !(eflags::VM | eflags::IF | eflags::RF);
    let cs = v.st.msr.sysenter_cs & 0xfffc;
    enter_flat(v, cs, cs + 8, 0, long);
    let mask = if long { u64::MAX } else { 0xffff_ffff };
    v.st.set_gpr(reg::RSP, v.st.msr.sysenter_esp & mask);
    v.st.rip = v.st.msr.sysenter_eip & mask;
    Err(Stop::Branch)
}

fn sysexit<const LONG: bool>(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    if !v.st.protected() || v.st.cpl != 0 || v.st.msr.sysenter_cs & 0xfffc == 0 {
        return Err(v.gp(0));
    }
    let (rip, rsp) = (v.st.gpr(reg::RDX), v.st.gpr(reg::RCX));
    if LONG && !(crate::access::is_canonical(rip) && crate::access::is_canonical(rsp)) {
        return Err(v.gp(0));
    }
    let cs = v.st.msr.sysenter_cs & 0xfffc;
    let by = if LONG { 32 } else { 16 };
    enter_flat(v, (cs + by) | 3, (cs + by + 8) | 3, 3, LONG);
    let mask = if LONG { u64::MAX } else { 0xffff_ffff };
    v.st.set_gpr(reg::RSP, rsp & mask);
    v.st.rip = rip & mask;
    v.attention = true;
    Err(Stop::Branch)
}

fn swapgs(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    if !v.st.code64() {
        return Err(v.ud());
    }
    v.supervisor()?;
    let gs = &mut v.st.segments[usize::from(seg::GS)].base;
    core::mem::swap(gs, &mut v.st.msr.kernel_gs_base);
    Ok(())
}

fn set_zf(v: &mut Vcpu<'_>, on: bool) {
    let others = v.st.arith() & !eflags::ZF;
    v.st.set_arith(others | if on { eflags::ZF } else { 0 });
}

/// VERR and VERW.
fn verify<const WRITE: bool, const REGISTER: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.protected_only()?;
    let selector = v.word_operand(op, REGISTER)?;
    let allowed = match visible(v, selector)? {
        Some(d) if d.is_code_or_data() => {
            let rw = d.attributes() & Segment::READ_WRITE != 0;
            if WRITE { !d.is_code() && rw } else { !d.is_code() || rw }
        }
        _ => false,
    };
    set_zf(v, allowed);
    Ok(())
}

/// A descriptor that LAR, LSL, VERR and VERW may look at: in its table and not too privileged.
fn visible(v: &mut Vcpu<'_>, selector: u16) -> Result<Option<crate::segments::Descriptor>, Stop> {
    if is_null(selector) {
        return Ok(None);
    }
    let outside = v.exception;
    let d = match v.descriptor(selector, Vector::PROTECTION) {
        Ok(d) => d,
        Err(Stop::Fault) if v.exception.vector == Vector::PROTECTION => {
            v.exception = outside;
            return Ok(None);
        }
        Err(stop) => return Err(stop),
    };
    let conforming = d.is_code() && d.conforming();
    Ok((conforming || d.dpl() >= v.st.cpl.max(rpl(selector))).then_some(d))
}

fn inspect<const LIMIT: bool>(insn: &Insn) -> Run {
    let register = matches!(insn.operands[1], Operand::Gpr { .. });
    match (register, insn.operand_size) {
        (true, 2) => inspect_as::<LIMIT, u16, true>,
        (true, 4) => inspect_as::<LIMIT, u32, true>,
        (true, _) => inspect_as::<LIMIT, u64, true>,
        (false, 2) => inspect_as::<LIMIT, u16, false>,
        (false, 4) => inspect_as::<LIMIT, u32, false>,
        (false, _) => inspect_as::<LIMIT, u64, false>,
    }
}

/// LAR and LSL.
fn inspect_as<const LIMIT: bool, T: Word, const REGISTER: bool>(
    v: &mut Vcpu<'_>,
    op: &Op,
) -> Result<(), Stop> {
    v.protected_only()?;
    let selector = if REGISTER { v.st.reg(op.src) } else { v.load_ea::<u16, Any>(op)? };
    let long = v.st.long_mode();
    let found = visible(v, selector)?.filter(|d| {
        let t = d.system_type();
        d.is_code_or_data()
            || match t {
                kind::LDT | kind::TSS32 | 11 => true,
                kind::TSS16 | 3 => !long,
                kind::CALL_GATE32 => !LIMIT,
                kind::CALL_GATE16 | kind::TASK_GATE => !LIMIT && !long,
                _ => false,
            }
    });
    if let Some(d) = found {
        let value = if LIMIT { u64::from(d.limit()) } else { d.raw >> 32 & 0x00f0_ff00 };
        v.st.set_reg(op.dst, T::trunc(value));
    }
    set_zf(v, found.is_some());
    Ok(())
}

fn arpl<const REGISTER: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.protected_only()?;
    let source: u16 = v.st.reg(op.src);
    let adjust = |d: u16| if rpl(d) < rpl(source) { d & !3 | source & 3 } else { d };
    let (before, after);
    if REGISTER {
        before = v.st.reg::<u16>(op.dst);
        after = adjust(before);
        v.st.set_reg(op.dst, after);
    } else {
        // A selector that needs no adjustment is not written: it may lie on a page that cannot be.
        let la = Any::linear(v, op, 2, false)?;
        before = v.load(la)?;
        after = adjust(before);
        if after != before {
            let la = Any::linear(v, op, 2, true)?;
            v.store(la, after)?;
        }
    }
    set_zf(v, after != before);
    Ok(())
}

fn bound<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let la = Any::linear(v, op, T::BYTES * 2, false)?;
    let (low, high): (T, T) = (v.load(la)?, v.load(la.wrapping_add(T::BYTES.into()))?);
    let index = v.st.reg::<T>(op.dst).sext() as i64;
    if index < low.sext() as i64 || index > high.sext() as i64 {
        return Err(v.raise(Vector::BOUND));
    }
    Ok(())
}
