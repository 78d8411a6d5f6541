//! Model-specific registers and the time-stamp counter.
//!
//! Unknown registers read zero and swallow writes, logged once each: Windows 7 probes many (`win7-platform-contract` §1.3).

use crate::access::is_canonical;
use crate::state::{cr0, efer, seg};
use crate::vcpu::{Stop, Vcpu};

/// TSC ticks per microsecond of virtual time: 2 GHz, constant.
pub const TSC_MHZ: u64 = 2000;

mod index {
    pub const TSC: u32 = 0x10;
    pub const PLATFORM_ID: u32 = 0x17;
    pub const APIC_BASE: u32 = 0x1b;
    pub const FEATURE_CONTROL: u32 = 0x3a;
    pub const UCODE_UPDATE: u32 = 0x79;
    pub const UCODE_REV: u32 = 0x8b;
    pub const MTRR_CAP: u32 = 0xfe;
    pub const SYSENTER_CS: u32 = 0x174;
    pub const SYSENTER_ESP: u32 = 0x175;
    pub const SYSENTER_EIP: u32 = 0x176;
    pub const MCG_CAP: u32 = 0x179;
    pub const MCG_STATUS: u32 = 0x17a;
    pub const MCG_CTL: u32 = 0x17b;
    pub const MISC_ENABLE: u32 = 0x1a0;
    pub const PAT: u32 = 0x277;
    pub const MTRR_DEF_TYPE: u32 = 0x2ff;
    pub const MC0_CTL: u32 = 0x400;
    pub const MC_LAST: u32 = 0x427;
    pub const TSC_DEADLINE: u32 = 0x6e0;
    pub const EFER: u32 = 0xc000_0080;
    pub const STAR: u32 = 0xc000_0081;
    pub const LSTAR: u32 = 0xc000_0082;
    pub const CSTAR: u32 = 0xc000_0083;
    pub const FMASK: u32 = 0xc000_0084;
    pub const FS_BASE: u32 = 0xc000_0100;
    pub const GS_BASE: u32 = 0xc000_0101;
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
    pub const TSC_AUX: u32 = 0xc000_0103;
}

/// Where the eleven fixed-range MTRRs lie.
const MTRR_FIXED: [u32; 11] = [0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f];

/// Eight variable ranges, fixed ranges, write-combining.
const MTRR_CAP_VALUE: u64 = 0x508;
/// Ten machine-check banks, MCG_CTL present.
const MCG_CAP_VALUE: u64 = 0x10a;

impl Vcpu<'_> {
    /// The time-stamp counter now.
    pub(crate) fn tsc(&mut self) -> u64 {
        ticks(self.now()).wrapping_add(self.core.tsc_offset)
    }

    pub(crate) fn read_msr(&mut self, n: u32) -> Result<u64, Stop> {
        let m = &self.st.msr;
        Ok(match n {
            index::TSC => self.tsc(),
            index::APIC_BASE => self.core.lapic.apic_base(),
            index::FEATURE_CONTROL => 1,
            index::PLATFORM_ID => 0,
            index::UCODE_REV => m.microcode_rev,
            index::MTRR_CAP => MTRR_CAP_VALUE,
            index::SYSENTER_CS => m.sysenter_cs,
            index::SYSENTER_ESP => m.sysenter_esp,
            index::SYSENTER_EIP => m.sysenter_eip,
            index::MCG_CAP => MCG_CAP_VALUE,
            index::MCG_STATUS => m.mcg_status,
            index::MCG_CTL => m.mcg_ctl,
            index::MISC_ENABLE => m.misc_enable,
            0x200..=0x20f => m.mtrr_variable[(n - 0x200) as usize],
            index::PAT => m.pat,
            index::MTRR_DEF_TYPE => m.mtrr_def_type,
            index::MC0_CTL..=index::MC_LAST => {
                m.mc_banks[((n - index::MC0_CTL) / 4) as usize][(n & 3) as usize]
            }
            index::TSC_DEADLINE => {
                let now = self.now();
                self.core.lapic.tick(now);
                self.core.lapic.tsc_deadline()
            }
            index::EFER => m.efer,
            index::STAR => m.star,
            index::LSTAR => m.lstar,
            index::CSTAR => m.cstar,
            index::FMASK => m.fmask,
            index::FS_BASE => self.st.segments[usize::from(seg::FS)].base,
            index::GS_BASE => self.st.segments[usize::from(seg::GS)].base,
            index::KERNEL_GS_BASE => m.kernel_gs_base,
            index::TSC_AUX => m.tsc_aux,
            _ => match MTRR_FIXED.iter().position(|f| *f == n) {
                Some(i) => m.mtrr_fixed[i],
                None => {
                    self.unknown_msr(n, None);
                    0
                }
            },
        })
    }

    pub(crate) fn write_msr(&mut self, n: u32, value: u64) -> Result<(), Stop> {
        let canonical = is_canonical(value);
        match n {
            index::LSTAR
            | index::CSTAR
            | index::FS_BASE
            | index::GS_BASE
            | index::KERNEL_GS_BASE
            | index::SYSENTER_ESP
            | index::SYSENTER_EIP
                if !canonical =>
            {
                return Err(self.gp(0));
            }
            index::TSC => {
                let now = self.now();
                self.core.tsc_offset = value.wrapping_sub(ticks(now));
            }
            index::APIC_BASE => {
                if self.core.lapic.set_apic_base(value).is_err() {
                    return Err(self.gp(0));
                }
            }
            index::TSC_DEADLINE => {
                let now = self.now();
                let at = value.wrapping_sub(self.core.tsc_offset);
                self.core.lapic.set_tsc_deadline(value, nanoseconds(at).max(now));
            }
            index::EFER => self.write_efer(value)?,
            index::PAT if !valid_pat(value) => return Err(self.gp(0)),
            index::UCODE_UPDATE | index::PLATFORM_ID | index::FEATURE_CONTROL => {}
            _ => self.store_msr(n, value),
        }
        Ok(())
    }

    /// Registers that are plain storage.
    fn store_msr(&mut self, n: u32, value: u64) {
        let m = &mut self.st.msr;
        let place = match n {
            index::UCODE_REV => &mut m.microcode_rev,
            index::SYSENTER_CS => &mut m.sysenter_cs,
            index::SYSENTER_ESP => &mut m.sysenter_esp,
            index::SYSENTER_EIP => &mut m.sysenter_eip,
            index::MCG_STATUS => &mut m.mcg_status,
            index::MCG_CTL => &mut m.mcg_ctl,
            index::MISC_ENABLE => &mut m.misc_enable,
            0x200..=0x20f => &mut m.mtrr_variable[(n - 0x200) as usize],
            index::PAT => &mut m.pat,
            index::MTRR_DEF_TYPE => &mut m.mtrr_def_type,
            index::MC0_CTL..=index::MC_LAST => {
                &mut m.mc_banks[((n - index::MC0_CTL) / 4) as usize][(n & 3) as usize]
            }
            index::STAR => &mut m.star,
            index::LSTAR => &mut m.lstar,
            index::CSTAR => &mut m.cstar,
            index::FMASK => &mut m.fmask,
            index::FS_BASE => &mut self.st.segments[usize::from(seg::FS)].base,
            index::GS_BASE => &mut self.st.segments[usize::from(seg::GS)].base,
            index::KERNEL_GS_BASE => &mut m.kernel_gs_base,
            index::TSC_AUX => &mut m.tsc_aux,
            _ => match MTRR_FIXED.iter().position(|f| *f == n) {
                Some(i) => &mut m.mtrr_fixed[i],
                None => return self.unknown_msr(n, Some(value)),
            },
        };
        *place = value;
    }

    fn write_efer(&mut self, value: u64) -> Result<(), Stop> {
        const SETTABLE: u64 = efer::SCE | efer::LME | efer::NXE;
        let changed = self.st.msr.efer ^ value;
        let paging = self.st.cr0 & cr0::PG != 0;
        if value & !(SETTABLE | efer::LMA) != 0 || paging && changed & efer::LME != 0 {
            return Err(self.gp(0));
        }
        self.st.msr.efer = value & SETTABLE | self.st.msr.efer & efer::LMA;
        if changed & efer::NXE != 0 {
            self.tlb.flush_all();
        }
        Ok(())
    }

    #[cold]
    fn unknown_msr(&mut self, n: u32, written: Option<u64>) {
        // Bounded: a guest that asks for every number must not fill the host's memory.
        if self.core.unknown_msrs.len() < 1024 && self.core.unknown_msrs.insert(n) {
            let rip = self.st.rip;
            match written {
                Some(value) => {
                    log::info!("unknown MSR {n:#x} written with {value:#x} near {rip:#x}: ignored")
                }
                None => log::info!("unknown MSR {n:#x} read near {rip:#x}: 0"),
            }
        }
    }
}

/// TSC ticks at `ns` of virtual time.
pub fn ticks(ns: u64) -> u64 {
    (u128::from(ns) * u128::from(TSC_MHZ) / 1000) as u64
}

/// Virtual time at which the TSC (without offset) reaches `ticks`.
fn nanoseconds(ticks: u64) -> u64 {
    (u128::from(ticks) * 1000).div_ceil(TSC_MHZ.into()).min(u64::MAX.into()) as u64
}

/// Memory types 2, 3 and above 7 are reserved.
fn valid_pat(value: u64) -> bool {
    value.to_le_bytes().iter().all(|t| matches!(t, 0 | 1 | 4..=7))
}
