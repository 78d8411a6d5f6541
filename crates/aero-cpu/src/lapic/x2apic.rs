//! The local APIC's registers as MSRs 800h to 8FFh (Intel SDM vol. 3, 11.12).
//!
//! The same registers as in the page, with these differences. The identification has 32 bits and the logical one follows
//! from it: cluster in the upper half, one bit of sixteen in the lower. ICR is one register of 64 bits whose upper half is
//! the destination, and has no delivery status. There are no DFR, APR and RRD. A register that does not exist, a reserved
//! bit, writing what is read-only or reading what is write-only is a general protection fault instead of a bit in ESR.

use super::{Action, DeliveryMode, Form, LocalApic, spec};

/// The first MSR.
pub const FIRST: u32 = 0x800;
/// The last one.
pub const LAST: u32 = 0x8ff;

/// The access is a general protection fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault;

/// ICR bits that must be zero: all of the lower half that is not writable, but for the delivery status of the other form.
const ICR_RESERVED: u32 = !(spec::ICR_LOW_WRITABLE | 1 << 12);

impl LocalApic {
    /// Whether the page of xAPIC registers has the register of an MSR, and MSRs have it too.
    fn offset(&self, msr: u32) -> Result<u32, Fault> {
        if self.form() != Form::X2Apic {
            return Err(Fault);
        }
        match (msr - FIRST) << 4 {
            spec::APR | spec::RRD | spec::DFR | spec::ICR_HIGH => Err(Fault),
            offset => Ok(offset),
        }
    }

    /// The identification that x2APIC form has at its reset: SDM 11.12.10.2.
    pub(super) fn x2apic_ldr(&self) -> u32 {
        let id = u32::from(self.id());
        (id >> 4) << 16 | 1 << (id & 15)
    }

    /// Reads MSR `msr` of 800h to 8FFh.
    ///
    /// # Errors
    /// Outside x2APIC form, and for registers that do not exist or cannot be read.
    pub fn read_msr(&mut self, msr: u32, now_ns: u64) -> Result<u64, Fault> {
        let offset = self.offset(msr)?;
        Ok(match offset {
            spec::ID => u64::from(self.id()),
            spec::LDR => self.x2apic_ldr().into(),
            spec::ICR_LOW => self.icr,
            spec::VERSION | spec::TPR | spec::PPR | spec::SVR => self.read(offset, now_ns).into(),
            spec::ISR..=spec::ESR | spec::LVT..=spec::CURRENT_COUNT | spec::DIVIDE => {
                self.read(offset, now_ns).into()
            }
            _ => return Err(Fault),
        })
    }

    /// Writes MSR `msr` of 800h to 8FFh.
    ///
    /// # Errors
    /// As for reading, and when a reserved bit is set.
    pub fn write_msr(&mut self, msr: u32, value: u64, now_ns: u64) -> Result<Option<Action>, Fault> {
        let offset = self.offset(msr)?;
        let low = value as u32;
        if value & !self.writable(offset)? != 0 {
            return Err(Fault);
        }
        match offset {
            spec::ICR_LOW => {
                self.icr = value & !0xffff_ffff | u64::from(low & spec::ICR_LOW_WRITABLE);
                Ok(self.command((value >> 32) as u32))
            }
            spec::SELF_IPI => Ok(self.interrupt_self(low)),
            _ => Ok(self.write(offset, low, now_ns)),
        }
    }

    /// The bits of a register that may be written.
    fn writable(&self, offset: u32) -> Result<u64, Fault> {
        Ok(match offset {
            spec::EOI | spec::ESR => 0,
            spec::ICR_LOW => !u64::from(ICR_RESERVED),
            spec::TPR | spec::SELF_IPI => 0xff,
            spec::SVR => spec::SVR_WRITABLE.into(),
            spec::INITIAL_COUNT => u32::MAX.into(),
            spec::DIVIDE => spec::DIVIDE_WRITABLE.into(),
            // What of an entry is read-only may be written back as it was read.
            spec::LVT..=spec::LVT_LAST => {
                (self.lvt_writable(((offset - spec::LVT) / 16) as usize) | 1 << 12 | 1 << 14).into()
            }
            _ => return Err(Fault),
        })
    }

    /// SELF IPI: as a fixed, edge-triggered command to oneself, without a trace in ICR.
    fn interrupt_self(&mut self, vector: u32) -> Option<Action> {
        let before = self.icr;
        self.icr = u64::from(vector | spec::ICR_SELF | spec::ICR_ASSERT);
        debug_assert_eq!(DeliveryMode::from_bits((self.icr >> 8) as u32), DeliveryMode::Fixed);
        let action = self.command(0);
        self.icr = before;
        action
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BROADCAST, InvalidApicBase, Shorthand};
    use super::*;
    use aero_x86::{Feature, Features};

    const ON: u64 = 0xfee0_0d00;

    fn apic(id: u8) -> LocalApic {
        let mut a = LocalApic::new(id, Features::of(Feature::ALL));
        a.set_apic_base(ON).unwrap();
        assert_eq!(a.write_msr(0x80f, 0x1ff, 0), Ok(None));
        a
    }

    #[test]
    fn modes_follow_each_other_only_as_the_manual_draws_them() {
        let [off, x, x2, bad] = [0xfee0_0100, 0xfee0_0900, ON, 0xfee0_0500];
        for (from, to, fine) in [
            (x, off, true),
            (x, x, true),
            (x, x2, true),
            (x2, x, false),
            (x2, off, true),
            (x2, x2, true),
            (off, x2, false),
            (off, x, true),
            (off, bad, false),
            (x, bad, false),
            (x2, bad, false),
        ] {
            let mut a = LocalApic::new(0, Features::of(Feature::ALL));
            a.set_apic_base(from).unwrap();
            let expected = if fine { Ok(()) } else { Err(InvalidApicBase) };
            assert_eq!(a.set_apic_base(to), expected, "{from:#x} to {to:#x}");
            assert_eq!(a.apic_base(), if fine { to } else { from });
        }
    }

    #[test]
    fn only_registers_that_exist_can_be_read_or_written() {
        const READ_ONLY: [u32; 6] = [0x802, 0x803, 0x80a, 0x80d, 0x810, 0x839];
        const BOTH: [u32; 12] =
            [0x808, 0x80f, 0x828, 0x830, 0x832, 0x833, 0x834, 0x835, 0x836, 0x837, 0x838, 0x83e];
        const WRITE_ONLY: [u32; 2] = [0x80b, 0x83f];
        for msr in FIRST..=LAST {
            let mut a = apic(0);
            let bank = (0x810..=0x827).contains(&msr);
            let readable = READ_ONLY.contains(&msr) || BOTH.contains(&msr) || bank;
            let writable = BOTH.contains(&msr) || WRITE_ONLY.contains(&msr);
            assert_eq!(a.read_msr(msr, 0).is_ok(), readable, "{msr:#x}");
            assert_eq!(a.write_msr(msr, 0, 0).is_ok(), writable, "{msr:#x}");
            let mut a = LocalApic::new(0, Features::of(Feature::ALL));
            assert_eq!((a.read_msr(msr, 0), a.write_msr(msr, 0, 0)), (Err(Fault), Err(Fault)));
        }
    }

    #[test]
    fn reserved_bits_fault() {
        for (msr, bad) in [
            (0x808, 0x100),
            (0x80b, 1),
            (0x80f, 0x400),
            (0x828, 1),
            (0x830, 1 << 20),
            (0x830, 1 << 16),
            (0x830, 1 << 13),
            (0x832, 1 << 32),
            (0x832, 1 << 8),
            (0x838, 1 << 32),
            (0x83e, 4),
            (0x83f, 0x100),
        ] {
            let mut a = apic(0);
            assert_eq!(a.write_msr(msr, bad, 0), Err(Fault), "{msr:#x} {bad:#x}");
        }
    }

    #[test]
    fn page_is_gone_and_identification_is_wide() {
        let mut a = apic(0x25);
        assert_eq!((a.mmio_base(), a.read_msr(0x802, 0)), (None, Ok(0x25)));
        assert_eq!(a.read_msr(0x80d, 0), Ok(0x2_0020));
        assert!(a.matches(0x25, false) && a.matches(BROADCAST, false) && !a.matches(0xff, false));
        assert!(a.matches(0x2_0020, true) && a.matches(0x2_ffff, true));
        assert!(!a.matches(0x1_0020, true) && !a.matches(0x2_0010, true));
    }

    #[test]
    fn command_is_one_register_with_a_wide_destination() {
        let mut a = apic(0);
        let written = a.write_msr(0x830, 0x1234_5678_0000_4931, 0);
        let Ok(Some(Action::Ipi(icr))) = written else { panic!("{written:?}") };
        assert_eq!((icr.destination, icr.vector, icr.logical), (0x1234_5678, 0x31, true));
        assert_eq!(icr.mode, DeliveryMode::LowestPriority);
        assert_eq!(a.read_msr(0x830, 0), Ok(0x1234_5678_0000_4931));
        let written = a.write_msr(0x83f, 0x44, 0);
        let Ok(Some(Action::Ipi(icr))) = written else { panic!("{written:?}") };
        assert_eq!((icr.shorthand, icr.vector, icr.mode), (Shorthand::SelfOnly, 0x44, DeliveryMode::Fixed));
        assert_eq!(a.read_msr(0x830, 0), Ok(0x1234_5678_0000_4931));
        assert_eq!(a.write_msr(0x83f, 5, 0), Ok(None), "an illegal vector");
        assert_eq!(a.write_msr(0x828, 0, 0), Ok(None));
        assert_eq!(a.read_msr(0x828, 0), Ok(0x20));
    }

    #[test]
    fn state_survives_the_change_from_the_page() {
        let mut a = LocalApic::new(0, Features::of(Feature::ALL));
        assert_eq!(a.write(spec::SVR, 0x1f0, 0), None);
        a.accept(0x51, true);
        a.set_cr8(3);
        a.set_apic_base(ON).unwrap();
        let seen = [0x80f, 0x822, 0x81a, 0x808].map(|n| a.read_msr(n, 0));
        assert_eq!(seen, [Ok(0x1f0), Ok(1 << 17), Ok(1 << 17), Ok(0x30)]);
        a.acknowledge();
        assert_eq!(a.write_msr(0x80b, 0, 0), Ok(Some(Action::Eoi { vector: 0x51, level_triggered: true })));
        a.set_apic_base(0xfee0_0100).unwrap();
        assert_eq!(a.cr8(), 0, "disabling loses it");
    }
}
