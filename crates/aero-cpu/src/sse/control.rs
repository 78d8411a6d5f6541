//! EMMS, LDMXCSR, STMXCSR, FXSAVE, FXRSTOR, and VZEROUPPER and VZEROALL.

use super::float::mxcsr;
use super::vector::VEX128;
use crate::exception::Vector;
use crate::op::{Any, Ea, Op};
use crate::state::cr0;
use crate::vcpu::{Stop, Vcpu};

/// Offsets in the FXSAVE image (Intel SDM vol. 1, table 10-2).
mod spec {
    /// MXCSR.
    pub const MXCSR: usize = 24;
    /// MXCSR_MASK: the bits that may be set.
    pub const MXCSR_MASK: usize = 28;
    /// XMM0.
    pub const XMM: usize = 160;
    /// Bytes.
    pub const LEN: usize = 512;
}

/// EMMS.
pub fn emms(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    v.check_mmx()?;
    v.st.fpu.emms();
    Ok(())
}

/// LDMXCSR. Flags that are set together with a clear mask raise nothing before the next instruction that
/// computes.
pub fn ldmxcsr<const LEN: u8>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.check_vector::<LEN>()?;
    let value: u32 = v.load_ea::<u32, Any>(op)?;
    if value & !mxcsr::ALL != 0 {
        return Err(v.gp(0));
    }
    v.st.mxcsr = value;
    Ok(())
}

/// STMXCSR.
pub fn stmxcsr<const LEN: u8>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.check_vector::<LEN>()?;
    v.store_ea::<u32, Any>(op, v.st.mxcsr)
}

/// VZEROUPPER and VZEROALL (`ALL`), on the registers that the mode has.
pub fn vzero<const ALL: bool>(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    v.check_vector::<VEX128>()?;
    let count = xmm_count(v);
    v.st.ymm_high[..count].fill([0; 2]);
    if ALL {
        v.st.xmm[..count].fill([0; 2]);
    }
    Ok(())
}

/// The address of an FXSAVE image; it must be aligned.
fn image_address(v: &mut Vcpu<'_>, op: &Op, write: bool) -> Result<u64, Stop> {
    if v.st.cr0 & (cr0::EM | cr0::TS) != 0 {
        return Err(v.raise(Vector::DEVICE_NOT_AVAILABLE));
    }
    let la = Any::linear(v, op, spec::LEN as u32, write)?;
    v.check_aligned(la)?;
    Ok(la)
}

/// XMM registers that the mode has.
pub fn xmm_count(v: &Vcpu<'_>) -> usize {
    if v.st.code64() { 16 } else { 8 }
}

/// Writes bytes of an image.
pub fn put(image: &mut [u8; spec::LEN], at: usize, bytes: &[u8]) {
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Reads eight bytes of an image.
pub fn word(image: &[u8; spec::LEN], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&image[at..at + 8]);
    u64::from_le_bytes(bytes)
}

/// FXSAVE, FXSAVE64 (`WIDE`). What follows the last register stays as it was.
pub fn fxsave<const WIDE: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let la = image_address(v, op, true)?;
    v.probe_write(la, spec::LEN as u32)?;
    let mut image = [0; spec::LEN];
    v.st.fpu.fxsave(&mut image, WIDE);
    put(&mut image, spec::MXCSR, &v.st.mxcsr.to_le_bytes());
    put(&mut image, spec::MXCSR_MASK, &mxcsr::ALL.to_le_bytes());
    let count = xmm_count(v);
    for (i, halves) in v.st.xmm[..count].iter().enumerate() {
        put(&mut image, spec::XMM + 16 * i, &halves[0].to_le_bytes());
        put(&mut image, spec::XMM + 16 * i + 8, &halves[1].to_le_bytes());
    }
    for at in (0..spec::XMM + 16 * count).step_by(8) {
        v.store(la.wrapping_add(at as u64), word(&image, at))?;
    }
    Ok(())
}

/// FXRSTOR, FXRSTOR64 (`WIDE`).
pub fn fxrstor<const WIDE: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let la = image_address(v, op, false)?;
    v.probe_read(la, spec::LEN as u32)?;
    let mut image = [0; spec::LEN];
    let count = xmm_count(v);
    for at in (0..spec::XMM + 16 * count).step_by(8) {
        let value: u64 = v.load(la.wrapping_add(at as u64))?;
        put(&mut image, at, &value.to_le_bytes());
    }
    let control = word(&image, spec::MXCSR) as u32;
    if control & !mxcsr::ALL != 0 {
        return Err(v.gp(0));
    }
    v.st.mxcsr = control;
    v.st.fpu.fxrstor(&image, WIDE);
    v.x87_settle();
    for (i, halves) in v.st.xmm[..count].iter_mut().enumerate() {
        *halves = [word(&image, spec::XMM + 16 * i), word(&image, spec::XMM + 16 * i + 8)];
    }
    Ok(())
}
