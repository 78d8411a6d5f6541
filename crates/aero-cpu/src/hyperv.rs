//! The hypervisor interface that Windows knows, behind a switch (`CpuConfig::hyperv`).
//!
//! Only what costs nothing to be honest about: time without device accesses, the local APIC without its page, the processor
//! number, a reset. There are no hypercalls: the page that a guest calls through answers each with "invalid hypercall
//! code". (Hypervisor Top Level Functional Specification, chapters 2, 3, 11 and 12; `win7-platform-contract` §1.4.)

use crate::lapic::BUS_HZ;
use crate::msr::TSC_MHZ;
use crate::vcpu::{Stop, Vcpu};
use aero_mem::Gpa;

mod spec {
    pub const GUEST_OS_ID: u32 = 0x4000_0000;
    pub const HYPERCALL: u32 = 0x4000_0001;
    pub const VP_INDEX: u32 = 0x4000_0002;
    pub const RESET: u32 = 0x4000_0003;
    pub const TIME_REF_COUNT: u32 = 0x4000_0020;
    pub const REFERENCE_TSC: u32 = 0x4000_0021;
    pub const TSC_FREQUENCY: u32 = 0x4000_0022;
    pub const APIC_FREQUENCY: u32 = 0x4000_0023;
    pub const EOI: u32 = 0x4000_0070;
    pub const ICR: u32 = 0x4000_0071;
    pub const TPR: u32 = 0x4000_0072;
    pub const APIC_ASSIST: u32 = 0x4000_0073;

    /// HYPERCALL, REFERENCE_TSC, APIC_ASSIST: the page is in use.
    pub const ENABLE: u64 = 1;
    /// The page number in the same registers.
    pub const PAGE: u64 = !0xfff;
    /// HYPERCALL: no further change until reset.
    pub const LOCKED: u64 = 2;
    /// Status of a hypercall: no such code.
    pub const INVALID_HYPERCALL_CODE: u8 = 2;
}

/// The interface's own state.
#[derive(Clone, Copy, Debug, Default)]
pub struct HyperV {
    guest_os_id: u64,
    hypercall: u64,
    reference_tsc: u64,
    apic_assist: u64,
}

/// Ticks of the counter in 100 ns, as a factor of 2^-64.
const SCALE: u64 = ((1u128 << 64) / (TSC_MHZ as u128 / 10)) as u64;

impl Vcpu<'_> {
    /// A register of the interface; `None` if there is none of that number.
    pub(crate) fn read_hyperv(&mut self, n: u32) -> Option<u64> {
        if !self.core.config.hyperv {
            return None;
        }
        let state = self.core.hyperv;
        Some(match n {
            spec::GUEST_OS_ID => state.guest_os_id,
            spec::HYPERCALL => state.hypercall,
            spec::VP_INDEX => self.core.id.into(),
            spec::RESET | spec::EOI => 0,
            spec::TIME_REF_COUNT => self.now() / 100,
            spec::REFERENCE_TSC => state.reference_tsc,
            spec::TSC_FREQUENCY => TSC_MHZ * 1_000_000,
            spec::APIC_FREQUENCY => BUS_HZ,
            spec::ICR => {
                let now = self.now();
                let lapic = &mut self.core.lapic;
                u64::from(lapic.read(0x310, now)) << 32 | u64::from(lapic.read(0x300, now))
            }
            spec::TPR => self.core.lapic.cr8() << 4,
            spec::APIC_ASSIST => state.apic_assist,
            _ => return None,
        })
    }

    /// Writes a register of the interface; `None` if there is none of that number.
    pub(crate) fn write_hyperv(&mut self, n: u32, value: u64) -> Option<Result<(), Stop>> {
        if !self.core.config.hyperv {
            return None;
        }
        match n {
            spec::GUEST_OS_ID => self.identify_guest(value),
            spec::HYPERCALL => self.place_hypercall_page(value),
            spec::RESET if value & 1 != 0 => self.bus.request_reset(),
            spec::RESET => {}
            spec::REFERENCE_TSC => {
                self.core.hyperv.reference_tsc = value;
                self.hyperv_tsc_moved();
            }
            spec::EOI => self.write_lapic(0xb0, 0),
            spec::ICR => {
                self.write_lapic(0x310, (value >> 32) as u32);
                self.write_lapic(0x300, value as u32);
            }
            spec::TPR => self.write_lapic(0x80, (value & 0xff) as u32),
            spec::APIC_ASSIST => {
                self.core.hyperv.apic_assist = value;
                if value & spec::ENABLE != 0 {
                    // "An end of interrupt is not required" is never offered.
                    self.overlay(value, &[0; 4]);
                }
            }
            spec::VP_INDEX | spec::TIME_REF_COUNT | spec::TSC_FREQUENCY | spec::APIC_FREQUENCY => {
                return Some(Err(self.gp(0)));
            }
            _ => return None,
        }
        self.attention = true;
        Some(Ok(()))
    }

    fn identify_guest(&mut self, value: u64) {
        log::info!("the guest tells the hypervisor interface that it is {value:#018x}");
        self.core.hyperv.guest_os_id = value;
        if value == 0 {
            self.core.hyperv.hypercall &= !spec::ENABLE;
        }
    }

    /// The page can be enabled only by a guest that has said what it is.
    fn place_hypercall_page(&mut self, value: u64) {
        let state = &mut self.core.hyperv;
        if state.hypercall & spec::LOCKED != 0 {
            return;
        }
        state.hypercall = if state.guest_os_id == 0 { value & !spec::ENABLE } else { value };
        if state.hypercall & spec::ENABLE == 0 {
            return;
        }
        const STATUS: u8 = spec::INVALID_HYPERCALL_CODE;
        // mov eax, STATUS; ret. The 32-bit convention returns the status in EDX:EAX.
        let long: &[u8] = &[0xb8, STATUS, 0, 0, 0, 0xc3];
        let short: &[u8] = &[0xb8, STATUS, 0, 0, 0, 0x31, 0xd2, 0xc3];
        let code = if self.st.long_mode() { long } else { short };
        self.overlay(value, code);
    }

    /// Brings the page of the reference counter up to date: sequence, scale, offset.
    pub(crate) fn hyperv_tsc_moved(&mut self) {
        let page = self.core.hyperv.reference_tsc;
        if page & spec::ENABLE == 0 || !self.core.config.hyperv {
            return;
        }
        let scaled = ((u128::from(self.tsc()) * u128::from(SCALE)) >> 64) as u64;
        let offset = (self.now() / 100).wrapping_sub(scaled);
        let mut bytes = [0; 24];
        bytes[0] = 1;
        bytes[8..16].copy_from_slice(&SCALE.to_le_bytes());
        bytes[16..].copy_from_slice(&offset.to_le_bytes());
        self.overlay(page, &bytes);
    }

    /// Writes to the page that a register names. Outside RAM nobody could see it.
    fn overlay(&mut self, register: u64, bytes: &[u8]) {
        let _ = self.mem.write(Gpa(register & spec::PAGE), bytes);
        self.attention |= self.mem.code_was_modified();
    }
}
