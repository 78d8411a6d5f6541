//! IN and OUT, with the I/O permission bitmap.

use super::Op;
use crate::state::reg;
use crate::vcpu::{Stop, Vcpu};
use crate::word::Word;

impl Vcpu<'_> {
    /// Whether `len` ports from `port` may be used: by IOPL, else by the bitmap in the TSS (Intel SDM vol. 1, 19.5.2).
    pub(crate) fn check_io(&mut self, port: u16, len: u32) -> Result<(), Stop> {
        let free = !self.st.protected() || (self.st.cpl <= self.st.iopl() && !self.st.vm86());
        if free {
            return Ok(());
        }
        const TSS32: u32 = 9;
        let tr = self.st.tr;
        if !tr.present() || tr.attributes & 0xd != TSS32 || tr.limit < 0x67 {
            return Err(self.gp(0));
        }
        let map: u16 = self.load_system(self.wrap(tr.base.wrapping_add(0x66)))?;
        let at = u64::from(map) + u64::from(port >> 3);
        if at + 1 > u64::from(tr.limit) {
            return Err(self.gp(0));
        }
        let bits: u16 = self.load_system(self.wrap(tr.base.wrapping_add(at)))?;
        let mask = ((1u16 << len) - 1) << (port & 7);
        if bits & mask != 0 { Err(self.gp(0)) } else { Ok(()) }
    }
}

fn port(v: &Vcpu<'_>, op: &Op, by_dx: bool) -> u16 {
    if by_dx { v.st.reg(reg::RDX * 8) } else { op.imm as u16 }
}

/// `in acc, imm8` and `in acc, dx`.
pub fn input<T: Word, const BY_DX: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let port = port(v, op, BY_DX);
    v.check_io(port, T::BYTES)?;
    let value = v.read_port(port, T::BYTES);
    v.st.set_reg(0, T::trunc(value.into()));
    Ok(())
}

/// `out imm8, acc` and `out dx, acc`.
pub fn output<T: Word, const BY_DX: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let port = port(v, op, BY_DX);
    v.check_io(port, T::BYTES)?;
    let value: T = v.st.reg(0);
    v.write_port(port, T::BYTES, value.zext() as u32);
    Ok(())
}
