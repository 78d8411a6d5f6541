//! XSAVE, XSAVEOPT, XSAVEC, XSAVES, XRSTOR, XRSTORS, XGETBV and XSETBV (Intel SDM vol. 1, 13).
//!
//! State comes in components, each a bit of XCR0: x87 and SSE in the layout of FXSAVE, then, behind a header of 64
//! bytes, the upper halves of the YMM registers and PKRU. The standard format has each at a place of its own, the
//! compacted one has them one behind the other. A header's XSTATE_BV tells which components are not in their initial
//! configuration; of those that are, XRSTOR needs no bytes, and all but XSAVE write none. The *modified optimization*
//! is not made: software cannot rely on it.
//!
//! A save touches nothing before all that it writes has been found writable, and a restore changes nothing before
//! all has been read and checked.

use super::control::{put, word, xmm_count};
use super::float::mxcsr;
use crate::exception::Vector;
use crate::fpu::Fpu;
use crate::op::{Any, Ea, Op, Run};
use crate::state::{cr0, cr4, reg};
use crate::vcpu::{Stop, Vcpu};
use aero_x86::cpuid::xstate;
use aero_x86::{Feature, Insn, Mnemonic as M};

/// The layout of the area (Intel SDM vol. 1, 13.4).
mod spec {
    /// Bytes of the FXSAVE layout.
    pub const LEGACY: usize = 512;
    /// XSTATE_BV, then XCOMP_BV.
    pub const HEADER: u64 = 512;
    /// Bytes of the header.
    pub const HEADER_LEN: usize = 64;
    /// MXCSR and its mask.
    pub const MXCSR: usize = 24;
    /// XMM0.
    pub const XMM: usize = 160;
    /// In XCOMP_BV: the format is the compacted one.
    pub const COMPACTED: u64 = 1 << 63;
    /// MXCSR at power-on.
    pub const MXCSR_INIT: u32 = 0x1f80;
}
use spec::{COMPACTED, HEADER, HEADER_LEN, LEGACY, MXCSR_INIT};
use xstate::{AVX, PKRU, SSE, X87};

type Image = [u8; LEGACY];

/// How an instruction differs from XSAVE or XRSTOR.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind(u8);

impl Kind {
    const PLAIN: u8 = 0;
    /// REX.W.
    const WIDE: u8 = 1;
    /// XSAVEOPT: what is in its initial configuration is not written.
    const OPTIMISED: u8 = 2;
    /// XSAVEC and XSAVES: the compacted format.
    const COMPACT: u8 = 4;
    /// XSAVES and XRSTORS.
    const SUPERVISOR: u8 = 8;

    fn is(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// What EDX:EAX says.
fn pair(v: &Vcpu<'_>) -> u64 {
    v.st.gpr(reg::RDX) << 32 | v.st.gpr(reg::RAX) & 0xffff_ffff
}

fn set_pair(v: &mut Vcpu<'_>, value: u64) {
    v.st.set_gpr(reg::RAX, value & 0xffff_ffff);
    v.st.set_gpr(reg::RDX, value >> 32);
}

impl Vcpu<'_> {
    /// #UD where the system has not enabled XSAVE.
    fn check_xsave(&mut self) -> Result<(), Stop> {
        if self.st.cr4 & cr4::OSXSAVE == 0 { Err(self.ud()) } else { Ok(()) }
    }

    /// The components that are not in their initial configuration. MXCSR is not looked at.
    fn components_in_use(&self) -> u64 {
        let bit = |used: bool, bit: u64| if used { bit } else { 0 };
        let count = xmm_count(self);
        let any = |registers: &[[u64; 2]; 16]| registers[..count].iter().any(|r| *r != [0; 2]);
        bit(self.st.fpu != Fpu::default(), X87)
            | bit(any(&self.st.xmm), SSE)
            | bit(any(&self.st.ymm_high), AVX)
            | bit(self.st.pkru != 0, PKRU)
    }

    /// The same for what has MXCSR only together with SSE.
    fn in_use_with_mxcsr(&self) -> u64 {
        self.components_in_use() | if self.st.mxcsr != MXCSR_INIT { SSE } else { 0 }
    }

    /// The address of an area: #UD, #NM, #GP in this order.
    fn xsave_area(&mut self, op: &Op, kind: Kind, write: bool) -> Result<Area, Stop> {
        self.check_xsave()?;
        if kind.is(Kind::SUPERVISOR) && self.st.cpl != 0 {
            return Err(self.gp(0));
        }
        if self.st.cr0 & cr0::TS != 0 {
            return Err(self.raise(Vector::DEVICE_NOT_AVAILABLE));
        }
        let la = Any::linear(self, op, (LEGACY + HEADER_LEN) as u32, write)?;
        if la & 63 != 0 {
            return Err(self.gp(0));
        }
        Ok(Area { la, segment: op.segment(), offset: crate::op::offset(self, op) })
    }

    /// The components that an instruction handles.
    fn requested(&self, kind: Kind) -> u64 {
        self.enabled(kind) & pair(self)
    }

    /// Those that it knows.
    fn enabled(&self, kind: Kind) -> u64 {
        self.st.xcr0 | if kind.is(Kind::SUPERVISOR) { self.st.msr.xss } else { 0 }
    }
}

/// An XSAVE area.
struct Area {
    la: u64,
    segment: u8,
    offset: u64,
}

impl Area {
    /// The linear address of a component behind the header.
    fn component(&self, v: &mut Vcpu<'_>, at: u32, len: u32, write: bool) -> Result<u64, Stop> {
        v.linear(self.segment, self.offset.wrapping_add(at.into()), len, write)
    }

    fn load(&self, v: &mut Vcpu<'_>, at: u64) -> Result<u64, Stop> {
        v.load(self.la.wrapping_add(at))
    }

    fn store(&self, v: &mut Vcpu<'_>, at: u64, value: u64) -> Result<(), Stop> {
        v.store(self.la.wrapping_add(at), value)
    }
}

/// Where a component is in an area of the format that XCOMP_BV describes.
fn place(component: u64, compaction: u64) -> u32 {
    if compaction & COMPACTED != 0 {
        xstate::compacted_offset(component, compaction)
    } else {
        xstate::standard_offset(component)
    }
}

/// XSAVE and its kin.
fn save(v: &mut Vcpu<'_>, op: &Op, kind: Kind) -> Result<(), Stop> {
    let area = v.xsave_area(op, kind, true)?;
    let compact = kind.is(Kind::COMPACT);
    let requested = v.requested(kind);
    let in_use = requested & if compact { v.in_use_with_mxcsr() } else { v.components_in_use() };
    let written = if compact || kind.is(Kind::OPTIMISED) { in_use } else { requested };
    let compaction = if compact { requested | COMPACTED } else { 0 };
    v.probe_write(area.la, (LEGACY + HEADER_LEN) as u32)?;
    let avx = extended_place(v, &area, written, AVX, compaction, true)?;
    let pkru = extended_place(v, &area, written, PKRU, compaction, true)?;
    let old = if compact { 0 } else { area.load(v, HEADER)? & !requested };
    // Standard formats have MXCSR with AVX too.
    let with_mxcsr = if compact { written & SSE != 0 } else { requested & (SSE | AVX) != 0 };
    save_legacy(v, &area, kind, written, with_mxcsr)?;
    if let Some(la) = avx {
        for n in 0..xmm_count(v) {
            v.store128(la.wrapping_add(16 * n as u64), v.st.ymm_high[n])?;
        }
    }
    if let Some(la) = pkru {
        v.store(la, u64::from(v.st.pkru))?;
    }
    area.store(v, HEADER, old | in_use)?;
    if compact {
        area.store(v, HEADER + 8, compaction)?;
    }
    Ok(())
}

/// The linear address of a component behind the header if it is among `wanted`; faults as the access will.
fn extended_place(
    v: &mut Vcpu<'_>,
    area: &Area,
    wanted: u64,
    component: u64,
    compaction: u64,
    write: bool,
) -> Result<Option<u64>, Stop> {
    if wanted & component == 0 {
        return Ok(None);
    }
    let len = xstate::size(component);
    let la = area.component(v, place(component, compaction), len, write)?;
    if write {
        v.probe_write(la, len)?
    } else {
        v.probe_read(la, len)?
    }
    Ok(Some(la))
}

/// The parts of the FXSAVE layout that are asked for.
fn save_legacy(v: &mut Vcpu<'_>, area: &Area, kind: Kind, written: u64, mxcsr: bool) -> Result<(), Stop> {
    let mut image: Image = [0; LEGACY];
    v.st.fpu.fxsave(&mut image, kind.is(Kind::WIDE));
    put(&mut image, spec::MXCSR, &v.st.mxcsr.to_le_bytes());
    put(&mut image, spec::MXCSR + 4, &mxcsr::ALL.to_le_bytes());
    let xmm = spec::XMM..spec::XMM + 16 * xmm_count(v);
    for (n, at) in xmm.clone().step_by(16).enumerate() {
        put(&mut image, at, &v.st.xmm[n][0].to_le_bytes());
        put(&mut image, at + 8, &v.st.xmm[n][1].to_le_bytes());
    }
    for at in (0..xmm.end).step_by(8) {
        let yes = match at {
            spec::MXCSR => mxcsr,
            ..spec::XMM => written & X87 != 0,
            _ => written & SSE != 0,
        };
        if yes {
            area.store(v, at as u64, word(&image, at))?;
        }
    }
    Ok(())
}

/// A header, and what it means for a restore.
struct Header {
    /// XSTATE_BV.
    present: u64,
    /// XCOMP_BV.
    compaction: u64,
}

/// Reads a header and refuses what is reserved in it.
fn header(v: &mut Vcpu<'_>, area: &Area, kind: Kind) -> Result<Header, Stop> {
    let mut words = [0; HEADER_LEN / 8];
    for (n, w) in words.iter_mut().enumerate() {
        *w = area.load(v, HEADER + 8 * n as u64)?;
    }
    let [present, compaction, ref reserved @ ..] = words;
    let (enabled, supervisor) = (v.enabled(kind), kind.is(Kind::SUPERVISOR));
    let sound = if compaction & COMPACTED != 0 {
        v.core.config.model.features.has(Feature::Xsavec)
            && compaction & !COMPACTED & !enabled == 0
            && present & !compaction == 0
            && reserved.iter().all(|w| *w == 0)
    } else {
        !supervisor && present & !v.st.xcr0 == 0 && compaction == 0 && reserved[0] == 0
    };
    if sound { Ok(Header { present, compaction }) } else { Err(v.gp(0)) }
}

/// XRSTOR and XRSTORS.
fn restore(v: &mut Vcpu<'_>, op: &Op, kind: Kind) -> Result<(), Stop> {
    let area = v.xsave_area(op, kind, false)?;
    v.probe_read(area.la, (LEGACY + HEADER_LEN) as u32)?;
    let h = header(v, &area, kind)?;
    let requested = v.requested(kind);
    let loaded = requested & h.present;
    let mut image: Image = [0; LEGACY];
    for at in (0..spec::XMM + 16 * xmm_count(v)).step_by(8) {
        put(&mut image, at, &area.load(v, at as u64)?.to_le_bytes());
    }
    let mxcsr = restored_mxcsr(v, &image, &h, requested)?;
    let avx = extended_place(v, &area, loaded, AVX, h.compaction, false)?;
    let pkru = extended_place(v, &area, loaded, PKRU, h.compaction, false)?;
    let mut high = [[0; 2]; 16];
    if let Some(la) = avx {
        for (n, r) in high[..xmm_count(v)].iter_mut().enumerate() {
            *r = v.load128(la.wrapping_add(16 * n as u64))?;
        }
    }
    let keys = pkru.map_or(Ok(0), |la| v.load::<u32>(la))?;
    if let Some(value) = mxcsr {
        v.st.mxcsr = value;
    }
    restore_legacy(v, &image, kind, requested, loaded);
    if requested & AVX != 0 {
        let count = xmm_count(v);
        v.st.ymm_high[..count].copy_from_slice(&high[..count]);
    }
    if requested & PKRU != 0 {
        v.set_pkru(keys);
    }
    Ok(())
}

/// The MXCSR that a restore brings, if it does: the standard format always has it with SSE and AVX, the compacted
/// one with SSE alone, and not when that is in its initial configuration (Intel SDM vol. 1, 13.8).
fn restored_mxcsr(v: &mut Vcpu<'_>, image: &Image, h: &Header, requested: u64) -> Result<Option<u32>, Stop> {
    let value = word(image, spec::MXCSR) as u32;
    let loads = if h.compaction & COMPACTED == 0 {
        requested & (SSE | AVX) != 0
    } else {
        requested & h.present & SSE != 0
    };
    if loads && value & !mxcsr::ALL != 0 {
        return Err(v.gp(0));
    }
    let initial = (requested & SSE != 0).then_some(MXCSR_INIT);
    Ok(if loads { Some(value) } else { initial })
}

fn restore_legacy(v: &mut Vcpu<'_>, image: &Image, kind: Kind, requested: u64, loaded: u64) {
    if loaded & X87 != 0 {
        v.st.fpu.fxrstor(image, kind.is(Kind::WIDE));
    } else if requested & X87 != 0 {
        v.st.fpu = Fpu::default();
        v.st.fpu.fninit();
    }
    v.x87_settle();
    if requested & SSE != 0 {
        let count = xmm_count(v);
        for (n, r) in v.st.xmm[..count].iter_mut().enumerate() {
            let at = spec::XMM + 16 * n;
            *r = if loaded & SSE != 0 { [word(image, at), word(image, at + 8)] } else { [0; 2] };
        }
    }
}

/// XGETBV: XCR0, or with ECX = 1 what of it is in use.
fn xgetbv(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    v.check_xsave()?;
    let value = match v.st.gpr(reg::RCX) as u32 {
        0 => v.st.xcr0,
        1 if v.core.config.model.features.has(Feature::Xgetbv1) => v.st.xcr0 & v.in_use_with_mxcsr(),
        _ => return Err(v.gp(0)),
    };
    set_pair(v, value);
    Ok(())
}

/// XSETBV: x87 is always on, AVX needs SSE, and nothing else may be set than the model has.
fn xsetbv(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    v.check_xsave()?;
    let value = pair(v);
    let unknown = value & !xstate::supported(v.core.config.model.features) != 0;
    let alone = value & X87 == 0 || value & (SSE | AVX) == AVX;
    if v.st.cpl != 0 || v.st.gpr(reg::RCX) as u32 != 0 || unknown || alone {
        return Err(v.gp(0));
    }
    v.st.xcr0 = value;
    Ok(())
}

fn saving<const KIND: u8>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    save(v, op, Kind(KIND))
}

fn restoring<const KIND: u8>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    restore(v, op, Kind(KIND))
}

/// The handler of an instruction of the family.
pub fn bind(insn: &Insn) -> Option<Run> {
    Some(match insn.mnemonic {
        M::Xsave => saving::<{ Kind::PLAIN }>,
        M::Xsave64 => saving::<{ Kind::WIDE }>,
        M::Xsaveopt => saving::<{ Kind::OPTIMISED }>,
        M::Xsaveopt64 => saving::<{ Kind::OPTIMISED | Kind::WIDE }>,
        M::Xsavec => saving::<{ Kind::COMPACT }>,
        M::Xsavec64 => saving::<{ Kind::COMPACT | Kind::WIDE }>,
        M::Xsaves => saving::<{ Kind::COMPACT | Kind::SUPERVISOR }>,
        M::Xsaves64 => saving::<{ Kind::COMPACT | Kind::SUPERVISOR | Kind::WIDE }>,
        M::Xrstor => restoring::<{ Kind::PLAIN }>,
        M::Xrstor64 => restoring::<{ Kind::WIDE }>,
        M::Xrstors => restoring::<{ Kind::SUPERVISOR }>,
        M::Xrstors64 => restoring::<{ Kind::SUPERVISOR | Kind::WIDE }>,
        M::Xgetbv => xgetbv,
        M::Xsetbv => xsetbv,
        _ => return None,
    })
}
