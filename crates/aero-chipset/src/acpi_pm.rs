//! ACPI power management: the PM1 event and control registers, the PM timer, general-purpose events, and the
//! SMI command port by which an operating system asks firmware to hand the registers over.
//!
//! The registers raise one level interrupt, the SCI: while SCI_EN is set, it is high as long as any status
//! bit has its enable bit set. A status bit is cleared by writing 1 to it. There is no system-management mode
//! behind the SMI command port: writing ACPI_ENABLE to it sets SCI_EN before the next instruction, which is
//! all an operating system waits for.
//!
//! The PM timer counts 3,579,545 Hz in 24 bits and is nothing but the virtual time in other units. TMR_STS
//! rises each time bit 23 changes; whether it has is computed from the number of changes since it was last
//! cleared, so a timer is armed only while the guest wants the interrupt. (ACPI specification 5.0, chapter 4;
//! Intel 290562, 82371AB PIIX4, section 7.2.)

use crate::isa;
use aero_bus::{At, Cx, Device, IoError, IrqLine, PortIo, TimerId, VmTime, Width};

/// Register facts.
mod spec {
    /// Region 0: the power-management ports, at PMBASE.
    pub const PM_PORTS: u64 = 64;
    /// Region 1: the general-purpose event block.
    pub const GPE_PORTS: u64 = 4;
    /// Region 2: APMC and APMS, ports B2h and B3h.
    pub const APM_PORTS: u64 = 2;

    pub const PM1_STS: u64 = 0x00;
    pub const PM1_EN: u64 = 0x02;
    pub const PM1_CNT: u64 = 0x04;
    pub const PM_TMR: u64 = 0x08;

    pub const TMR: u16 = 1 << 0;
    pub const GBL: u16 = 1 << 5;
    pub const PWRBTN: u16 = 1 << 8;
    pub const RTC: u16 = 1 << 10;
    /// The enable bits of a PIIX4.
    pub const PM1_EN_MASK: u16 = TMR | GBL | PWRBTN | RTC;

    pub const SCI_EN: u16 = 1 << 0;
    pub const BM_RLD: u16 = 1 << 1;
    pub const SLP_TYP_SHIFT: u32 = 10;
    pub const SLP_EN: u16 = 1 << 13;
    /// What PM1_CNT keeps: GBL_RLS and SLP_EN read as 0.
    pub const PM1_CNT_MASK: u16 = SCI_EN | BM_RLD | 7 << SLP_TYP_SHIFT;
    /// SLP_TYP of soft off, which the DSDT's `_S5` names.
    pub const SLP_TYP_S5: u16 = 0;
    /// SLP_TYP of hibernation, which its `_S4` names. The system has put memory on its disk: to the board it is S5.
    pub const SLP_TYP_S4: u16 = 2;

    /// Hertz of the PM timer.
    pub const TIMER_HZ: u64 = 3_579_545;
    pub const TIMER_BITS: u32 = 24;
    /// Ticks between two changes of the timer's top bit.
    pub const TIMER_HALF: u64 = 1 << (TIMER_BITS - 1);

    pub const APMC: usize = 0;
    pub const ACPI_ENABLE: u8 = 0xf1;
    pub const ACPI_DISABLE: u8 = 0xf0;
}

use spec::*;

/// The value that the FADT gives as ACPI_ENABLE.
pub const ACPI_ENABLE_COMMAND: u8 = ACPI_ENABLE;
/// The value that the FADT gives as ACPI_DISABLE.
pub const ACPI_DISABLE_COMMAND: u8 = ACPI_DISABLE;

/// The value of `_S4`.
pub const SLEEP_TYPE_S4: u8 = SLP_TYP_S4 as u8;
/// The value of `_S5`.
pub const SLEEP_TYPE_S5: u8 = SLP_TYP_S5 as u8;

/// The one timer: bit 23 of the PM timer changes.
const TOP_BIT: TimerId = TimerId(0);

/// The power-management registers. Region 0: 64 ports at PMBASE; region 1: four ports of GPE0; region 2: B2h
/// and B3h.
pub struct AcpiPm {
    sci: IrqLine,
    /// PM1_STS without TMR_STS.
    status: u16,
    enable: u16,
    control: u16,
    /// How often bit 23 had changed when TMR_STS was last cleared.
    changes_seen: u64,
    gpe_status: u16,
    gpe_enable: u16,
    apm: [u8; 2],
}

impl AcpiPm {
    /// The registers after a reset at time 0, with the SCI on `sci`.
    pub fn new(sci: IrqLine) -> Self {
        Self {
            sci,
            status: 0,
            enable: 0,
            control: 0,
            changes_seen: 0,
            gpe_status: 0,
            gpe_enable: 0,
            apm: [0; 2],
        }
    }

    /// The user presses the power button.
    pub fn press_power_button(&mut self, cx: &mut Cx<'_>) {
        self.status |= PWRBTN;
        self.settle(cx);
    }

    /// General-purpose event `event` (0..=15) happens; a higher number is ignored.
    pub fn raise_gpe(&mut self, cx: &mut Cx<'_>, event: u8) {
        self.gpe_status |= 1u16.checked_shl(event.into()).unwrap_or(0);
        self.settle(cx);
    }

    /// Whether an operating system has taken the registers over (SCI_EN).
    pub fn acpi_enabled(&self) -> bool {
        self.control & SCI_EN != 0
    }

    fn status(&self, now: VmTime) -> u16 {
        self.status | if top_bit_changes(now) == self.changes_seen { 0 } else { TMR }
    }

    /// Drives the SCI, and arms the timer if an interrupt is to come of it.
    fn settle(&mut self, cx: &mut Cx<'_>) {
        let status = self.status(cx.now());
        let event = status & self.enable != 0 || self.gpe_status & self.gpe_enable != 0;
        cx.set_irq(self.sci, self.acpi_enabled() && event);
        if self.acpi_enabled() && self.enable & TMR != 0 && status & TMR == 0 {
            cx.arm(TOP_BIT, VmTime::of_ticks((self.changes_seen + 1) * TIMER_HALF, TIMER_HZ));
        } else {
            cx.cancel(TOP_BIT);
        }
    }

    fn pm_byte(&self, now: VmTime, offset: u64) -> u8 {
        let (register, value) = match offset {
            0x00..=0x01 => (PM1_STS, self.status(now).into()),
            0x02..=0x03 => (PM1_EN, self.enable.into()),
            0x04..=0x05 => (PM1_CNT, self.control.into()),
            0x08..=0x0b => (PM_TMR, now.ticks(TIMER_HZ) as u32 & ((1 << TIMER_BITS) - 1)),
            _ => (offset, 0),
        };
        (value >> (8 * (offset - register))) as u8
    }

    fn write_pm_byte(&mut self, cx: &mut Cx<'_>, offset: u64, value: u8) {
        match offset {
            0x00..=0x01 => self.clear_status(cx.now(), in_word(0, offset, value)),
            0x02..=0x03 => self.enable = in_word(self.enable, offset, value) & PM1_EN_MASK,
            0x04..=0x05 => self.write_control(cx, in_word(self.control, offset, value)),
            _ => {}
        }
    }

    fn clear_status(&mut self, now: VmTime, bits: u16) {
        self.status &= !bits;
        if bits & TMR != 0 {
            self.changes_seen = top_bit_changes(now);
        }
    }

    fn write_control(&mut self, cx: &mut Cx<'_>, value: u16) {
        self.control = value & PM1_CNT_MASK;
        if value & SLP_EN == 0 {
            return;
        }
        match value >> SLP_TYP_SHIFT & 7 {
            SLP_TYP_S4 | SLP_TYP_S5 => cx.request_power_off(),
            other => {
                log::warn!("the guest asks for sleep type {other}, which no table of this machine names")
            }
        }
    }

    fn gpe_byte(&self, offset: u64) -> u8 {
        let word = if offset < 2 { self.gpe_status } else { self.gpe_enable };
        (word >> (8 * (offset & 1))) as u8
    }

    fn write_gpe_byte(&mut self, offset: u64, value: u8) {
        match offset {
            0..=1 => self.gpe_status &= !in_word(0, offset, value),
            _ => self.gpe_enable = in_word(self.gpe_enable, offset, value),
        }
    }

    fn write_apm_byte(&mut self, register: usize, value: u8) {
        self.apm[register] = value;
        match (register, value) {
            (APMC, ACPI_ENABLE) => self.control |= SCI_EN,
            (APMC, ACPI_DISABLE) => self.control &= !SCI_EN,
            _ => {}
        }
    }
}

/// How often bit 23 of the PM timer has changed.
fn top_bit_changes(now: VmTime) -> u64 {
    now.ticks(TIMER_HZ) / TIMER_HALF
}

/// `word` with the byte at `offset` (its low bit tells which) replaced.
fn in_word(word: u16, offset: u64, byte: u8) -> u16 {
    let mut bytes = word.to_le_bytes();
    bytes[(offset & 1) as usize] = byte;
    u16::from_le_bytes(bytes)
}

impl Device for AcpiPm {
    fn reset(&mut self, cx: &mut Cx<'_>) {
        *self = Self { changes_seen: top_bit_changes(cx.now()), ..Self::new(self.sci) };
        self.settle(cx);
    }

    fn pio(&mut self) -> Option<&mut dyn PortIo> {
        Some(self)
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _which: TimerId) {
        self.settle(cx);
    }
}

impl PortIo for AcpiPm {
    fn read(&mut self, cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        let now = cx.now();
        isa::read_bytes(at, width, |at| match (at.region, at.offset) {
            (0, offset) if offset < PM_PORTS => Ok(self.pm_byte(now, offset)),
            (1, offset) if offset < GPE_PORTS => Ok(self.gpe_byte(offset)),
            (2, offset) if offset < APM_PORTS => Ok(self.apm[offset as usize]),
            _ => Err(IoError::Unclaimed),
        })
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError> {
        let done = isa::write_bytes(at, width, value, |at, byte| {
            match (at.region, at.offset) {
                (0, offset) if offset < PM_PORTS => self.write_pm_byte(cx, offset, byte),
                (1, offset) if offset < GPE_PORTS => self.write_gpe_byte(offset, byte),
                (2, offset) if offset < APM_PORTS => self.write_apm_byte(offset as usize, byte),
                _ => return Err(IoError::Unclaimed),
            }
            Ok(())
        });
        self.settle(cx);
        done
    }
}

mod saved {
    use super::{AcpiPm, PM1_CNT_MASK, PM1_EN_MASK, TIMER_HALF};
    use aero_state::{RestoreError, Saved, Section};
    use serde::{Deserialize, Serialize};

    const KIND: &str = "acpi-pm";

    #[derive(Serialize, Deserialize)]
    struct AcpiPmStateV1 {
        status: u16,
        enable: u16,
        control: u16,
        changes_seen: u64,
        gpe_status: u16,
        gpe_enable: u16,
        apm: [u8; 2],
    }

    impl Saved for AcpiPm {
        fn save(&self) -> Section {
            let Self { sci: _, status, enable, control, changes_seen, gpe_status, gpe_enable, apm } = *self;
            let state = AcpiPmStateV1 { status, enable, control, changes_seen, gpe_status, gpe_enable, apm };
            Section::new(KIND, 1, &state)
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let AcpiPmStateV1 { status, enable, control, changes_seen, gpe_status, gpe_enable, apm } =
                section.decode(KIND, 1)?;
            // Bounded, so that the next change's tick count cannot overflow.
            let changes_seen = changes_seen.min(u64::MAX / TIMER_HALF - 1);
            let (enable, control) = (enable & PM1_EN_MASK, control & PM1_CNT_MASK);
            *self =
                Self { sci: self.sci, status, enable, control, changes_seen, gpe_status, gpe_enable, apm };
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aero_bus::PowerRequest;
    use aero_bus::bench::{TestBoard, conformance};
    use aero_state::Saved;

    /// Nanoseconds until bit 23 changes, rounded up.
    const HALF_NS: u64 = (TIMER_HALF * 1_000_000_000).div_ceil(TIMER_HZ);

    struct Bench {
        board: TestBoard,
        pm: AcpiPm,
        sci: IrqLine,
    }

    impl Bench {
        fn new() -> Self {
            let mut board = TestBoard::new();
            let sci = board.line();
            Self { board, pm: AcpiPm::new(sci), sci }
        }

        /// A bench on which the operating system has enabled ACPI.
        fn enabled() -> Self {
            let mut bench = Self::new();
            bench.board.outb(&mut bench.pm, 2, 0, ACPI_ENABLE);
            bench
        }

        fn read(&mut self, offset: u64, width: Width) -> u64 {
            self.pm.read(&mut self.board.cx(), At::new(0, offset), width).unwrap()
        }

        fn write(&mut self, offset: u64, value: u16) {
            self.pm.write(&mut self.board.cx(), At::new(0, offset), Width::B2, value.into()).unwrap();
        }

        fn pass(&mut self, ns: u64) {
            self.board.pass(&mut self.pm, ns);
        }

        fn sci(&self) -> bool {
            self.board.fabric.level(self.sci)
        }
    }

    #[test]
    fn power_management_passes_the_conformance_suite() {
        conformance(&[0, 1, 2], |board| AcpiPm::new(board.line()));
    }

    // checklist: 42
    #[test]
    fn acpi_enable_command_sets_sci_en_at_once() {
        let mut b = Bench::new();
        assert_eq!(b.read(PM1_CNT, Width::B2), 0);
        b.board.outb(&mut b.pm, 2, 0, ACPI_ENABLE);
        assert_eq!(b.read(PM1_CNT, Width::B2), 1);
        assert_eq!(b.board.inb(&mut b.pm, 2, 0), ACPI_ENABLE);
        b.board.outb(&mut b.pm, 2, 0, ACPI_DISABLE);
        assert!(!b.pm.acpi_enabled());
    }

    // checklist: 43
    #[test]
    fn timer_counts_the_virtual_time_in_24_bits() {
        let mut b = Bench::new();
        b.pass(1_000_000_000);
        assert_eq!(b.read(PM_TMR, Width::B4), 3_579_545);
        b.pass(4_000_000_000);
        assert_eq!(b.read(PM_TMR, Width::B4), (5 * 3_579_545) & 0xff_ffff);
    }

    // checklist: 43
    #[test]
    fn top_bit_change_sets_status_without_any_timer() {
        let mut b = Bench::new();
        b.pass(HALF_NS - 1);
        assert_eq!(b.read(PM1_STS, Width::B2), 0);
        b.pass(1);
        assert_eq!(b.read(PM1_STS, Width::B2), TMR.into());
        b.write(PM1_STS, TMR);
        assert_eq!(b.read(PM1_STS, Width::B2), 0);
        assert_eq!(b.board.fabric.timers.next_deadline(), None);
    }

    // checklist: 43
    #[test]
    fn enabled_timer_event_raises_the_sci_each_time() {
        let mut b = Bench::enabled();
        b.write(PM1_EN, TMR);
        for _ in 0..2 {
            b.pass(HALF_NS);
            assert!(b.sci());
            b.write(PM1_STS, TMR);
            assert!(!b.sci());
        }
        b.write(PM1_EN, 0);
        assert_eq!(b.board.fabric.timers.next_deadline(), None);
    }

    // checklist: 51
    #[test]
    fn power_button_raises_the_sci_until_its_status_is_cleared() {
        let mut b = Bench::enabled();
        b.write(PM1_EN, PWRBTN | GBL);
        b.pm.press_power_button(&mut b.board.cx());
        assert!(b.sci());
        b.write(PM1_STS, GBL);
        assert!(b.sci(), "another bit's clearing leaves it");
        b.write(PM1_STS, PWRBTN);
        assert!(!b.sci());
    }

    #[test]
    fn event_before_acpi_is_enabled_waits() {
        let mut b = Bench::new();
        b.write(PM1_EN, PWRBTN);
        b.pm.press_power_button(&mut b.board.cx());
        assert!(!b.sci());
        b.board.outb(&mut b.pm, 2, 0, ACPI_ENABLE);
        assert!(b.sci());
    }

    // checklist: 51
    #[test]
    fn sleep_types_of_s4_and_s5_switch_off_and_read_back_without_the_trigger() {
        let mut b = Bench::enabled();
        b.write(PM1_CNT, SCI_EN | 5 << SLP_TYP_SHIFT | SLP_EN);
        assert_eq!(b.board.fabric.take_request(), None);
        for sleep in [SLP_TYP_S4, SLP_TYP_S5] {
            b.write(PM1_CNT, SCI_EN | sleep << SLP_TYP_SHIFT | SLP_EN);
            assert_eq!(b.board.fabric.take_request(), Some(PowerRequest::Off));
        }
        assert_eq!(b.read(PM1_CNT, Width::B2), SCI_EN.into());
    }

    #[test]
    fn general_purpose_event_raises_the_sci() {
        let mut b = Bench::enabled();
        b.board.outb(&mut b.pm, 1, 3, 0x02);
        b.pm.raise_gpe(&mut b.board.cx(), 9);
        b.pm.raise_gpe(&mut b.board.cx(), 200);
        assert!(b.sci());
        b.board.outb(&mut b.pm, 1, 1, 0x02);
        assert_eq!((b.sci(), b.board.inb(&mut b.pm, 1, 1)), (false, 0));
    }

    #[test]
    fn timer_status_survives_a_restore() {
        let mut b = Bench::new();
        b.pass(HALF_NS);
        let mut twin = AcpiPm::new(b.sci);
        twin.restore(&b.pm.save()).unwrap();
        b.pm = twin;
        assert_eq!(b.read(PM1_STS, Width::B2), TMR.into());
    }
}
