//! What decides about translation and rights: control registers, INVLPG and INVPCID, protection keys, STAC and CLAC, and
//! the bases of FS and GS (Intel SDM vol. 3, 2.5 and chapter 4).
//!
//! The TLB knows no process-context identifiers: a CR3 load drops all that is not global whatever CR3 bit 63 says, which
//! the architecture allows (SDM vol. 3, 4.10.4.1 says what must go, not what may stay).

use super::system::by_form;
use super::{Any, Ea, Op, Run, offset};
use crate::access::is_canonical;
use crate::state::{Segment, cr0, cr4, efer, eflags, reg, seg};
use crate::vcpu::{Mode, Stop, Vcpu};
use crate::word::Word;
use aero_x86::cpuid::PHYSICAL_BITS;
use aero_x86::{CodeSize, Insn, Mnemonic, Operand};

/// CR3 bit 63 as an operand with process-context identifiers: keep the translations. Never stored.
const CR3_KEEP: u64 = 1 << 63;
/// CR3 bits 11:0: the process-context identifier.
const CR3_PCID: u64 = 0xfff;

/// Picks the handler, and whether it ends its block.
pub fn bind(insn: &Insn, mode: Mode) -> Option<(Run, bool)> {
    let long = mode.code == CodeSize::B64;
    let register = matches!(insn.operands[0], Operand::Gpr { .. });
    Some(match (insn.mnemonic, insn.operands[0], insn.operands[1]) {
        (Mnemonic::Mov, Operand::Gpr { .. }, Operand::Cr(_)) => {
            (by_form(long, read_cr::<u64>, read_cr::<u32>), false)
        }
        (Mnemonic::Mov, Operand::Cr(_), _) => (by_form(long, write_cr::<u64>, write_cr::<u32>), true),
        (Mnemonic::Lmsw, ..) => (by_form(register, lmsw::<true>, lmsw::<false>), true),
        (Mnemonic::Invlpg, ..) => (invlpg, true),
        (Mnemonic::Invpcid, ..) => (by_form(long, invpcid::<u64>, invpcid::<u32>), true),
        (Mnemonic::Rdpkru, ..) => (rdpkru, false),
        (Mnemonic::Wrpkru, ..) => (wrpkru, false),
        (Mnemonic::Stac, ..) => (set_ac::<true>, false),
        (Mnemonic::Clac, ..) => (set_ac::<false>, false),
        (Mnemonic::Rdfsbase, Operand::Gpr { size, .. }, _) => (read_base::<{ seg::FS }>(size), false),
        (Mnemonic::Rdgsbase, Operand::Gpr { size, .. }, _) => (read_base::<{ seg::GS }>(size), false),
        (Mnemonic::Wrfsbase, Operand::Gpr { size, .. }, _) => (write_base::<{ seg::FS }>(size), false),
        (Mnemonic::Wrgsbase, Operand::Gpr { size, .. }, _) => (write_base::<{ seg::GS }>(size), false),
        _ => return None,
    })
}

impl Vcpu<'_> {
    fn pae_paging(&self) -> bool {
        self.st.cr0 & cr0::PG != 0 && self.st.cr4 & cr4::PAE != 0 && !self.st.long_mode()
    }

    /// Loads CR3, with the PAE directory pointers.
    pub(crate) fn load_cr3(&mut self, value: u64) -> Result<(), Stop> {
        if self.pae_paging() {
            self.load_pdptes(value)?;
        }
        self.st.cr3 = value;
        self.tlb.flush_non_global();
        Ok(())
    }

    /// Whether [`Vcpu::load_cr3`] would take `value`.
    pub(crate) fn check_cr3(&mut self, value: u64) -> Result<(), Stop> {
        let pointers = self.st.pdpte;
        if self.pae_paging() {
            self.load_pdptes(value)?;
            self.st.pdpte = pointers;
        }
        Ok(())
    }

    /// MOV to CR3. Outside long mode only 32 bits reach it.
    fn write_cr3(&mut self, value: u64) -> Result<(), Stop> {
        let keep = if self.st.cr4 & cr4::PCIDE != 0 { CR3_KEEP } else { 0 };
        let value = value & !keep;
        if value >> PHYSICAL_BITS != 0 {
            return Err(self.gp(0));
        }
        self.load_cr3(value)
    }

    fn load_pdptes(&mut self, cr3: u64) -> Result<(), Stop> {
        match crate::mmu::load_pdptes(self.mem, cr3) {
            Ok(pdpte) => {
                self.st.pdpte = pdpte;
                Ok(())
            }
            Err(crate::mmu::ReservedBit) => Err(self.gp(0)),
        }
    }

    /// Writes CR0 with all that hangs on it. Undefined bits of the lower half are ignored.
    fn write_cr0(&mut self, value: u64) -> Result<(), Stop> {
        let value = value & cr0::ALL | cr0::ET;
        let old = self.st.cr0;
        let (on, off) = (value & !old & cr0::PG != 0, old & !value & cr0::PG != 0);
        let paging_unprotected = value & cr0::PG != 0 && value & cr0::PE == 0;
        let bad_caching = value & (cr0::NW | cr0::CD) == cr0::NW;
        let must_stay = off && (self.st.code64() || self.st.cr4 & cr4::PCIDE != 0);
        if paging_unprotected || bad_caching || must_stay {
            return Err(self.gp(0));
        }
        let entering_long = on && self.st.msr.efer & efer::LME != 0;
        if entering_long {
            self.may_enter_long_mode()?;
        }
        // Intel SDM vol. 3, 4.4.1: these bits reload the pointers while PAE paging is, or comes, in use.
        const RELOADS: u64 = cr0::CD | cr0::NW | cr0::PG;
        let pae = value & cr0::PG != 0 && self.st.cr4 & cr4::PAE != 0 && !entering_long;
        if pae && !self.st.long_mode() && (old ^ value) & RELOADS != 0 {
            self.load_pdptes(self.st.cr3)?;
        }
        if entering_long {
            self.st.msr.efer |= efer::LMA;
        } else if off {
            self.st.msr.efer &= !efer::LMA;
        }
        self.st.cr0 = value;
        if (old ^ value) & (cr0::PG | cr0::WP | cr0::PE) != 0 {
            self.tlb.flush_all();
        }
        self.update_mode();
        Ok(())
    }

    /// Paging with EFER.LME needs PAE, code that is not 64-bit yet, and no 16-bit task (Intel SDM vol. 3, 9.8.5).
    fn may_enter_long_mode(&mut self) -> Result<(), Stop> {
        let cs_long = self.st.segments[usize::from(seg::CS)].attributes & Segment::LONG != 0;
        let tss16 = self.st.tr.attributes & 0xd == crate::segments::kind::TSS16;
        let refused = self.st.cr4 & cr4::PAE == 0 || cs_long || tss16 && self.st.tr.selector & !3 != 0;
        if refused { Err(self.gp(0)) } else { Ok(()) }
    }

    fn write_cr4(&mut self, value: u64) -> Result<(), Stop> {
        let (old, long) = (self.st.cr4, self.st.long_mode());
        let (on, changed) = (value & !old, old ^ value);
        let leaving_pae = changed & cr4::PAE != 0 && long;
        let bad_pcid = on & cr4::PCIDE != 0 && (!long || self.st.cr3 & CR3_PCID != 0);
        let unknown = value & !cr4::legal(self.core.config.model.features) != 0;
        if unknown || leaving_pae || bad_pcid {
            return Err(self.gp(0));
        }
        const RELOADS: u64 = cr4::PAE | cr4::PGE | cr4::PSE | cr4::SMEP;
        let pae = value & cr4::PAE != 0 && self.st.cr0 & cr0::PG != 0 && !long;
        if pae && changed & RELOADS != 0 {
            self.load_pdptes(self.st.cr3)?;
        }
        self.st.cr4 = value;
        if changed & cr4::DE != 0 {
            self.update_watch();
        }
        const FLUSHES: u64 =
            cr4::PAE | cr4::PSE | cr4::PGE | cr4::PCIDE | cr4::SMEP | cr4::SMAP | cr4::PKE | cr4::PKS;
        if changed & FLUSHES != 0 {
            self.tlb.flush_all();
        }
        Ok(())
    }
}

fn read_cr<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    // A register that does not exist is #UD at any CPL.
    if !matches!(op.src, 0 | 2 | 3 | 4 | 8) {
        return Err(v.ud());
    }
    v.supervisor()?;
    let value = match op.src {
        0 => v.st.cr0,
        2 => v.st.cr2,
        3 => v.st.cr3,
        4 => v.st.cr4,
        _ => v.core.lapic.cr8(),
    };
    v.st.set_reg(op.dst, T::trunc(value));
    Ok(())
}

fn write_cr<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    if !matches!(op.dst, 0 | 2 | 3 | 4 | 8) {
        return Err(v.ud());
    }
    v.supervisor()?;
    let value = v.st.reg::<T>(op.src).zext();
    if value >> 32 != 0 && matches!(op.dst, 0 | 4) {
        return Err(v.gp(0));
    }
    match op.dst {
        0 => v.write_cr0(value)?,
        2 => v.st.cr2 = value,
        3 => v.write_cr3(value)?,
        4 => v.write_cr4(value)?,
        _ if value > 15 => return Err(v.gp(0)),
        _ => {
            v.core.lapic.set_cr8(value);
            v.attention = true;
        }
    }
    v.finish(op)
}

fn lmsw<const REGISTER: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.supervisor()?;
    let value = u64::from(v.word_operand(op, REGISTER)?);
    // PE can be set this way, not cleared.
    let low = value & 0xf | v.st.cr0 & cr0::PE;
    v.write_cr0(v.st.cr0 & !0xf | low)?;
    v.finish(op)
}

/// INVLPG checks nothing of its address: what is not canonical has no translations to drop.
fn invlpg(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.supervisor()?;
    let at = offset(v, op);
    let s = v.st.segments[usize::from(op.segment())];
    let la = if v.st.code64() {
        at.wrapping_add(if op.segment() >= seg::FS { s.base } else { 0 })
    } else {
        s.base.wrapping_add(at) & 0xffff_ffff
    };
    v.tlb.flush_page(la);
    v.finish(op)
}

/// What INVPCID is asked to drop.
mod drop {
    pub const ADDRESS: u64 = 0;
    pub const CONTEXT: u64 = 1;
    pub const ALL: u64 = 2;
    pub const ALL_NOT_GLOBAL: u64 = 3;
}

fn invpcid<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    if v.st.vm86() {
        return Err(v.gp(0));
    }
    v.supervisor()?;
    let kind = v.st.reg::<T>(op.dst).zext();
    if kind > drop::ALL_NOT_GLOBAL {
        return Err(v.gp(0));
    }
    let la = Any::linear(v, op, 16, false)?;
    let [context, address] = v.load128(la)?;
    let one_context = matches!(kind, drop::ADDRESS | drop::CONTEXT);
    let no_contexts = v.st.cr4 & cr4::PCIDE == 0;
    let bad = context & !CR3_PCID != 0
        || one_context && no_contexts && context != 0
        || kind == drop::ADDRESS && !is_canonical(address);
    if bad {
        return Err(v.gp(0));
    }
    match kind {
        drop::ADDRESS => v.tlb.flush_page(address),
        drop::ALL => v.tlb.flush_all(),
        _ => v.tlb.flush_non_global(),
    }
    v.finish(op)
}

fn keys_enabled(v: &mut Vcpu<'_>) -> Result<(), Stop> {
    if v.st.cr4 & cr4::PKE == 0 {
        return Err(v.ud());
    }
    if v.st.reg::<u32>(reg::RCX * 8) != 0 { Err(v.gp(0)) } else { Ok(()) }
}

fn rdpkru(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    keys_enabled(v)?;
    v.st.set_gpr(reg::RAX, v.st.pkru.into());
    v.st.set_gpr(reg::RDX, 0);
    Ok(())
}

fn wrpkru(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    keys_enabled(v)?;
    if v.st.reg::<u32>(reg::RDX * 8) != 0 {
        return Err(v.gp(0));
    }
    v.set_pkru(v.st.reg(reg::RAX * 8));
    Ok(())
}

impl Vcpu<'_> {
    /// Sets the rights of user pages' keys (WRPKRU, XRSTOR).
    pub(crate) fn set_pkru(&mut self, value: u32) {
        let old = core::mem::replace(&mut self.st.pkru, value);
        self.tlb.keys_changed(false, old, value);
    }

    /// Sets the rights of supervisor pages' keys (WRMSR).
    pub(crate) fn set_pkrs(&mut self, value: u32) {
        let old = core::mem::replace(&mut self.st.msr.pkrs, value.into()) as u32;
        self.tlb.keys_changed(true, old, value);
    }
}

/// STAC and CLAC: at CPL 0 only, so never in VM86 mode.
fn set_ac<const ON: bool>(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    if v.st.cpl != 0 {
        return Err(v.ud());
    }
    v.st.eflags = v.st.eflags & !eflags::AC | if ON { eflags::AC } else { 0 };
    Ok(())
}

fn read_base<const SEGMENT: u8>(size: u8) -> Run {
    by_form(size == 8, rdbase::<SEGMENT, u64>, rdbase::<SEGMENT, u32>)
}

fn write_base<const SEGMENT: u8>(size: u8) -> Run {
    by_form(size == 8, wrbase::<SEGMENT, u64>, wrbase::<SEGMENT, u32>)
}

fn bases_enabled(v: &mut Vcpu<'_>) -> Result<(), Stop> {
    if v.st.cr4 & cr4::FSGSBASE == 0 || !v.st.code64() { Err(v.ud()) } else { Ok(()) }
}

fn rdbase<const SEGMENT: u8, T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    bases_enabled(v)?;
    let base = v.st.segments[usize::from(SEGMENT)].base;
    v.st.set_reg(op.dst, T::trunc(base));
    Ok(())
}

fn wrbase<const SEGMENT: u8, T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    bases_enabled(v)?;
    let base = v.st.reg::<T>(op.dst).zext();
    if !is_canonical(base) {
        return Err(v.gp(0));
    }
    v.st.segments[usize::from(SEGMENT)].base = base;
    Ok(())
}
