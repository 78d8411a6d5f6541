//! The MC146818 real-time clock with its 128 bytes of memory (the "CMOS").
//!
//! The time is a number of seconds and the moment of the next update, both on the virtual clock; the calendar
//! registers are computed when someone looks. While the guest holds the clock (register B's SET, or a divider
//! in reset), the registers are plain memory, and letting go makes them the time.
//!
//! Flags of register C are set whether or not their interrupts are enabled, but nobody sees them before
//! register C is read. So a timer is armed only for an enabled interrupt; all else is caught up on when the
//! device is touched.
//!
//! **Missed periods.** Windows keeps time by counting periodic interrupts, and the chip merges those that
//! come while one is unread. Here they are counted instead, up to a bound: reading register C takes one from
//! the count and raises the line again. Nothing is raised before that read, since a second edge would be lost
//! in the controller. A new rate converts the count, so that the time owed stays the same.
//!
//! Sources: Motorola MC146818A data sheet (ADI-1026); 82371SB (PIIX3) data sheet for the ports; the meaning
//! of the memory-size bytes is the AT's and its successors', as SeaBIOS and OVMF read them.

use crate::isa;
use aero_bus::{At, Cx, Device, IoError, IrqLine, PortIo, TimerId, VmTime, Width};

/// CMOS index of the century, as the FADT announces it.
pub const CENTURY_INDEX: u8 = spec::CENTURY;

mod spec {
    //! Registers by their names in the data sheet.

    /// Offset of the index port (70h) in region 0; the data port follows.
    pub const INDEX: u64 = 0;
    pub const DATA: u64 = 1;

    pub const SECONDS: u8 = 0x00;
    pub const SECONDS_ALARM: u8 = 0x01;
    pub const MINUTES: u8 = 0x02;
    pub const MINUTES_ALARM: u8 = 0x03;
    pub const HOURS: u8 = 0x04;
    pub const HOURS_ALARM: u8 = 0x05;
    pub const WEEKDAY: u8 = 0x06;
    pub const DAY: u8 = 0x07;
    pub const MONTH: u8 = 0x08;
    pub const YEAR: u8 = 0x09;
    pub const A: u8 = 0x0a;
    pub const B: u8 = 0x0b;
    pub const C: u8 = 0x0c;
    pub const D: u8 = 0x0d;
    /// Not the chip's: the AT's convention, and the FADT says so.
    pub const CENTURY: u8 = 0x32;

    /// A: an update is about to happen.
    pub const UIP: u8 = 1 << 7;
    /// A: 32,768 Hz time base, periodic rate 1,024 Hz.
    pub const A_DEFAULT: u8 = 0x26;
    /// B: the guest holds the clock.
    pub const SET: u8 = 1 << 7;
    /// B: periodic, alarm and update-ended interrupts.
    pub const PIE: u8 = 1 << 6;
    pub const AIE: u8 = 1 << 5;
    pub const UIE: u8 = 1 << 4;
    pub const SQWE: u8 = 1 << 3;
    /// B: binary (else BCD).
    pub const DM: u8 = 1 << 2;
    /// B: 24 hours (else 12 and PM).
    pub const H24: u8 = 1 << 1;
    /// C: an enabled flag is set; then the flags, in the places of their enables in B.
    pub const IRQF: u8 = 1 << 7;
    pub const PF: u8 = PIE;
    pub const AF: u8 = AIE;
    pub const UF: u8 = UIE;
    /// D: the battery is good.
    pub const VRT: u8 = 1 << 7;
    /// Alarm bytes of this and above match everything.
    pub const DO_NOT_CARE: u8 = 0xc0;
    /// Hours: PM.
    pub const PM: u8 = 1 << 7;

    /// The time base.
    pub const HZ: u64 = 32_768;
    /// One second.
    pub const SECOND_NS: u64 = 1_000_000_000;
    /// UIP rises this long before the update.
    pub const UIP_NS: u64 = 244_140;
    /// The first update after the divider is released.
    pub const DIVIDER_RELEASE_NS: u64 = 500_000_000;
    /// Ticks whose periods may be owed: four seconds. A host that stops for longer stops the guest's clock too.
    pub const MISSED_TICKS: u64 = 4 * HZ;

    /// The types of two floppy drives, the first in the upper half.
    pub const FLOPPY_TYPES: u8 = 0x10;
    /// Equipment: a mathematics coprocessor and a pointing device; bit 0: floppy drives, one more than bits
    /// 7:6.
    pub const EQUIPMENT: u8 = 0x14;
    pub const EQUIPMENT_VALUE: u8 = 0x06;
}

/// The registers of the time itself, which are memory while the guest holds the clock.
const TIME_REGISTERS: [u8; 8] = [
    spec::SECONDS,
    spec::MINUTES,
    spec::HOURS,
    spec::WEEKDAY,
    spec::DAY,
    spec::MONTH,
    spec::YEAR,
    spec::CENTURY,
];

/// Fires for a periodic interrupt.
const PERIODIC: TimerId = TimerId(0);
/// Fires for an update that ends or an alarm that matches.
const UPDATE: TimerId = TimerId(1);

/// A date and a time of day, in the Gregorian calendar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Civil {
    year: i64,
    /// 1 to 12.
    month: i64,
    /// 1 to 31.
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

/// Days from 1 March of year 0 to 1 January 1970.
const DAYS_TO_1970: i64 = 719_468;

impl Civil {
    /// From seconds since 1970. Years begin in March here, so that the leap day comes last.
    fn of_unix(seconds: i64) -> Self {
        let days = seconds.div_euclid(86_400) + DAYS_TO_1970;
        let time = seconds.rem_euclid(86_400);
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Self {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * from_march + 2) / 5 + 1,
            hour: time / 3_600,
            minute: time / 60 % 60,
            second: time % 60,
        }
    }

    /// Seconds since 1970. A day beyond its month counts into the next.
    fn unix(self) -> i64 {
        let Self { year, month, day, hour, minute, second } = self;
        let month = month.clamp(1, 12);
        let (year, from_march) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
        let year_of_era = year.rem_euclid(400);
        let day_of_year = (153 * from_march + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = year.div_euclid(400) * 146_097 + day_of_era - DAYS_TO_1970;
        days * 86_400 + hour * 3_600 + minute * 60 + second
    }
}

/// So many missed periods, but not more than may be owed.
fn bounded(missed: u64, period: Option<u64>) -> u64 {
    missed.min(spec::MISSED_TICKS / period.unwrap_or(spec::MISSED_TICKS))
}

/// Days since Sunday.
fn weekday(unix: i64) -> i64 {
    (unix.div_euclid(86_400) + 4).rem_euclid(7)
}

/// The clock and its memory.
pub struct Rtc {
    index: u8,
    /// What is not computed: alarm bytes, registers A and B, the memory; and the time while it is held.
    ram: [u8; 128],
    /// Flags of register C.
    flags: u8,
    /// The time before `next_update`, in seconds since 1970 of the guest's own calendar.
    seconds: i64,
    /// When the time next advances. While the clock is held it keeps the phase.
    next_update: VmTime,
    /// The guest may number the days of the week from any day.
    weekday_offset: u8,
    /// Events up to here are in `flags`.
    settled: VmTime,
    /// Periodic interrupts owed to the guest.
    missed: u64,
    irq8: IrqLine,
}

impl Rtc {
    /// A clock that shows `start_unix_seconds` at virtual time 0 and drives `irq8`. The sizes tell firmware
    /// of memory below 4 GiB (all of it, from address 0) and above.
    pub fn new(irq8: IrqLine, start_unix_seconds: u64, low_ram_bytes: u64, high_ram_bytes: u64) -> Self {
        // Up to the end of the year 9999.
        let seconds = start_unix_seconds.min(253_402_300_799) as i64;
        let mut ram = [0; 128];
        ram[usize::from(spec::A)] = spec::A_DEFAULT;
        ram[usize::from(spec::B)] = spec::H24;
        ram[usize::from(spec::EQUIPMENT)] = spec::EQUIPMENT_VALUE;
        describe_memory(&mut ram, low_ram_bytes, high_ram_bytes);
        Self {
            index: 0,
            ram,
            flags: 0,
            seconds,
            next_update: VmTime(spec::SECOND_NS),
            weekday_offset: 0,
            settled: VmTime(0),
            missed: 0,
            irq8,
        }
    }

    /// A byte of the memory behind the clock's registers (0Eh to 7Fh), as firmware leaves messages for itself
    /// there.
    pub fn nvram(&self, index: u8) -> u8 {
        self.ram[usize::from(index & 0x7f)]
    }

    /// Sets a byte of the memory behind the clock's registers; the registers themselves (00h to 0Dh) are left
    /// alone.
    pub fn set_nvram(&mut self, index: u8, value: u8) {
        if (spec::D + 1..=0x7f).contains(&index) {
            self.ram[usize::from(index)] = value;
        }
    }

    /// Tells firmware of floppy drives by their types, 0 for none: 1 is 360 KiB, then 1.2 MiB, 720 KiB, 1.44
    /// MiB, 2.88 MiB.
    pub fn describe_floppies(&mut self, types: [u8; 2]) {
        let [first, second] = types.map(|kind| kind & 0xf);
        self.set_nvram(spec::FLOPPY_TYPES, first << 4 | second);
        let count = types.iter().filter(|kind| **kind != 0).count() as u8;
        let equipment = spec::EQUIPMENT_VALUE | if count > 0 { (count - 1) << 6 | 1 } else { 0 };
        self.set_nvram(spec::EQUIPMENT, equipment);
    }

    fn reg(&self, index: u8) -> u8 {
        self.ram[usize::from(index)]
    }

    fn enabled(&self, bits: u8) -> bool {
        self.reg(spec::B) & bits != 0
    }

    /// Divider settings 110 and 111 hold the clock in reset.
    fn divider_held(&self) -> bool {
        self.reg(spec::A) & 0x60 == 0x60
    }

    /// Whether no update happens.
    fn held(&self) -> bool {
        self.enabled(spec::SET) || self.divider_held()
    }

    /// The period of the periodic interrupt, in ticks of 32,768 Hz.
    fn period(&self) -> Option<u64> {
        match self.reg(spec::A) & 0xf {
            _ if self.divider_held() => None,
            0 => None,
            rate @ 1..=2 => Some(1 << (rate + 6)),
            rate => Some(1 << (rate - 1)),
        }
    }

    // The calendar.

    fn seconds_at(&self, now: VmTime) -> i64 {
        if now < self.next_update {
            return self.seconds;
        }
        self.seconds + 1 + (now.since(self.next_update) / spec::SECOND_NS) as i64
    }

    /// The first update after `now`, on the phase of `next_update`.
    fn update_after(&self, now: VmTime) -> VmTime {
        if now < self.next_update {
            return self.next_update;
        }
        let passed = now.since(self.next_update) / spec::SECOND_NS + 1;
        self.next_update.after(passed.saturating_mul(spec::SECOND_NS))
    }

    fn number(&self, value: i64) -> u8 {
        let value = value.rem_euclid(100) as u8;
        if self.enabled(spec::DM) { value } else { value + 6 * (value / 10) }
    }

    fn parse(&self, byte: u8) -> i64 {
        if self.enabled(spec::DM) { byte.into() } else { i64::from(byte >> 4) * 10 + i64::from(byte & 0xf) }
    }

    fn hour_byte(&self, hour: i64) -> u8 {
        if self.enabled(spec::H24) {
            return self.number(hour);
        }
        let pm = if hour >= 12 { spec::PM } else { 0 };
        self.number((hour + 11) % 12 + 1) | pm
    }

    fn parse_hour(&self, byte: u8) -> i64 {
        if self.enabled(spec::H24) {
            return self.parse(byte);
        }
        let pm = if byte & spec::PM != 0 { 12 } else { 0 };
        self.parse(byte & !spec::PM) % 12 + pm
    }

    /// A calendar register, computed from the time.
    fn calendar(&self, index: u8, unix: i64) -> u8 {
        let civil = Civil::of_unix(unix);
        match index {
            spec::SECONDS => self.number(civil.second),
            spec::MINUTES => self.number(civil.minute),
            spec::HOURS => self.hour_byte(civil.hour),
            spec::WEEKDAY => self.number((weekday(unix) + i64::from(self.weekday_offset)) % 7 + 1),
            spec::DAY => self.number(civil.day),
            spec::MONTH => self.number(civil.month),
            spec::YEAR => self.number(civil.year),
            _ => self.number(civil.year / 100),
        }
    }

    /// Makes the registers show the time.
    fn unfold(&mut self, now: VmTime) {
        let unix = self.seconds_at(now);
        for index in TIME_REGISTERS {
            self.ram[usize::from(index)] = self.calendar(index, unix);
        }
    }

    /// Makes the time what the registers show.
    fn fold(&mut self) {
        let civil = Civil {
            year: self.parse(self.reg(spec::CENTURY)) * 100 + self.parse(self.reg(spec::YEAR)),
            month: self.parse(self.reg(spec::MONTH)),
            day: self.parse(self.reg(spec::DAY)),
            hour: self.parse_hour(self.reg(spec::HOURS)),
            minute: self.parse(self.reg(spec::MINUTES)),
            second: self.parse(self.reg(spec::SECONDS)),
        };
        self.seconds = civil.unix();
        let shown = self.parse(self.reg(spec::WEEKDAY)) - 1;
        self.weekday_offset = (shown - weekday(self.seconds)).rem_euclid(7) as u8;
    }

    // Events.

    /// Puts everything that happened since the last call into the flags.
    fn settle(&mut self, now: VmTime) {
        let since = self.settled;
        self.settled = now.max(since);
        if !self.held() && self.update_after(since) <= now {
            self.flags |= spec::UF;
            if self.next_alarm(since).is_some_and(|at| at <= now) {
                self.flags |= spec::AF;
            }
        }
        let Some(period) = self.period() else { return };
        let periods = (now.ticks(spec::HZ) / period).saturating_sub(since.ticks(spec::HZ) / period);
        self.count_periods(periods);
    }

    fn count_periods(&mut self, periods: u64) {
        if periods == 0 {
            return;
        }
        if self.enabled(spec::PIE) {
            let shown = if self.flags & spec::PF == 0 { 1 } else { 0 };
            self.missed = bounded(self.missed + periods - shown, self.period());
        }
        self.flags |= spec::PF;
    }

    /// The first update after `since` at which the time matches the alarm.
    fn next_alarm(&self, since: VmTime) -> Option<VmTime> {
        let wanted = |index: u8, parsed: i64| (self.reg(index) < spec::DO_NOT_CARE).then_some(parsed);
        let second = wanted(spec::SECONDS_ALARM, self.parse(self.reg(spec::SECONDS_ALARM)));
        let minute = wanted(spec::MINUTES_ALARM, self.parse(self.reg(spec::MINUTES_ALARM)));
        let hour = wanted(spec::HOURS_ALARM, self.parse_hour(self.reg(spec::HOURS_ALARM)));
        let first = self.seconds_at(since) + 1;
        let mut at = first;
        while at < first + 86_400 + 3_600 {
            let civil = Civil::of_unix(at);
            if hour.is_some_and(|h| h != civil.hour) {
                at += 3_600 - at.rem_euclid(3_600);
            } else if minute.is_some_and(|m| m != civil.minute) {
                at += 60 - at.rem_euclid(60);
            } else if second.is_some_and(|s| s != civil.second) {
                at += 1;
            } else {
                let updates = (at - first) as u64;
                return Some(self.update_after(since).after(updates * spec::SECOND_NS));
            }
        }
        None
    }

    /// Drives the line and arms the timers that an enabled interrupt needs.
    fn drive(&mut self, cx: &mut Cx<'_>) {
        cx.set_irq(self.irq8, self.irq_flag());
        match self.next_period(cx.now()) {
            Some(at) => cx.arm(PERIODIC, at),
            None => cx.cancel(PERIODIC),
        }
        match self.next_update_event(cx.now()) {
            Some(at) => cx.arm(UPDATE, at),
            None => cx.cancel(UPDATE),
        }
    }

    fn irq_flag(&self) -> bool {
        self.flags & self.reg(spec::B) & (spec::PF | spec::AF | spec::UF) != 0
    }

    fn next_period(&self, now: VmTime) -> Option<VmTime> {
        let period = self.period().filter(|_| self.enabled(spec::PIE))?;
        let tick = (now.ticks(spec::HZ) / period + 1) * period;
        Some(VmTime::of_ticks(tick, spec::HZ))
    }

    fn next_update_event(&self, now: VmTime) -> Option<VmTime> {
        if self.held() {
            None
        } else if self.enabled(spec::UIE) {
            Some(self.update_after(now))
        } else if self.enabled(spec::AIE) {
            self.next_alarm(now)
        } else {
            None
        }
    }

    // Registers.

    fn read_register(&mut self, now: VmTime, index: u8) -> u8 {
        match index {
            spec::A => self.reg(spec::A) | self.uip(now),
            spec::C => self.flags | if self.irq_flag() { spec::IRQF } else { 0 },
            spec::D => spec::VRT,
            _ if TIME_REGISTERS.contains(&index) && !self.held() => {
                self.calendar(index, self.seconds_at(now))
            }
            _ => self.reg(index),
        }
    }

    fn uip(&self, now: VmTime) -> u8 {
        let soon = self.update_after(now).since(now) <= spec::UIP_NS;
        if soon && !self.held() { spec::UIP } else { 0 }
    }

    /// Register C was read: its flags clear, the line falls, and a period that is owed raises it again.
    fn acknowledge(&mut self, cx: &mut Cx<'_>) {
        self.flags = 0;
        cx.set_irq(self.irq8, false);
        if self.missed > 0 && self.enabled(spec::PIE) {
            self.missed -= 1;
            self.flags = spec::PF;
        }
    }

    fn write_register(&mut self, now: VmTime, index: u8, value: u8) {
        match index {
            spec::A => self.write_a(now, value & !spec::UIP),
            spec::B => self.write_b(now, value),
            spec::C | spec::D => {}
            _ if TIME_REGISTERS.contains(&index) && !self.held() => {
                self.unfold(now);
                self.ram[usize::from(index)] = value;
                self.next_update = self.update_after(now);
                self.fold();
            }
            _ => self.ram[usize::from(index)] = value,
        }
    }

    fn write_a(&mut self, now: VmTime, value: u8) {
        let period_before = self.period();
        let divider_before = self.divider_held();
        self.change(now, spec::A, value);
        if divider_before && !self.divider_held() {
            self.next_update = now.after(spec::DIVIDER_RELEASE_NS);
        }
        self.missed = match (period_before, self.period()) {
            (Some(before), Some(after)) => bounded(self.missed * before / after, Some(after)),
            _ => 0,
        };
    }

    fn write_b(&mut self, now: VmTime, value: u8) {
        // Holding the clock disables the interrupt that tells of updates.
        let value = if value & spec::SET != 0 { value & !spec::UIE } else { value };
        self.change(now, spec::B, value);
        if !self.enabled(spec::PIE) {
            self.missed = 0;
        }
    }

    /// Writes register A or B, and takes or releases the time if that begins or ends holding the clock.
    fn change(&mut self, now: VmTime, index: u8, value: u8) {
        let held_before = self.held();
        if !held_before {
            // In the format that the guest has been reading.
            self.unfold(now);
            self.seconds = self.seconds_at(now);
            self.next_update = self.update_after(now);
        }
        self.ram[usize::from(index)] = value;
        if held_before && !self.held() {
            self.fold();
            self.next_update = self.update_after(now);
        }
    }

    fn read_byte(&mut self, cx: &mut Cx<'_>, at: At) -> Result<u8, IoError> {
        match (at.region, at.offset) {
            // The index cannot be read back.
            (0, spec::INDEX) => Ok(0xff),
            (0, spec::DATA) => {
                self.settle(cx.now());
                let value = self.read_register(cx.now(), self.index);
                if self.index == spec::C {
                    self.acknowledge(cx);
                    self.drive(cx);
                }
                Ok(value)
            }
            _ => Err(IoError::Unclaimed),
        }
    }

    fn write_byte(&mut self, cx: &mut Cx<'_>, at: At, value: u8) -> Result<(), IoError> {
        match (at.region, at.offset) {
            // Bit 7 masks NMI, which nothing on this board raises.
            (0, spec::INDEX) => self.index = value & 0x7f,
            (0, spec::DATA) => {
                self.settle(cx.now());
                self.write_register(cx.now(), self.index, value);
                self.drive(cx);
            }
            _ => return Err(IoError::Unclaimed),
        }
        Ok(())
    }
}

/// Memory sizes where firmware looks for them.
fn describe_memory(ram: &mut [u8; 128], low: u64, high: u64) {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    let mut word = |index: usize, value: u64| {
        let [a, b, ..] = value.min(0xffff).to_le_bytes();
        ram[index..index + 2].copy_from_slice(&[a, b]);
    };
    word(0x15, (low / KIB).min(640));
    // From 1 MiB in KiB, twice; from 16 MiB in units of 64 KiB.
    word(0x17, low.saturating_sub(MIB) / KIB);
    word(0x30, low.saturating_sub(MIB) / KIB);
    word(0x34, low.saturating_sub(16 * MIB) / (64 * KIB));
    let [a, b, c, ..] = (high / (64 * KIB)).min(0xff_ffff).to_le_bytes();
    ram[0x5b..0x5e].copy_from_slice(&[a, b, c]);
}

impl Device for Rtc {
    /// The battery keeps time and memory; RESET clears the interrupts and their enables (data sheet,
    /// "RESET").
    fn reset(&mut self, cx: &mut Cx<'_>) {
        self.settle(cx.now());
        self.index = 0;
        self.missed = 0;
        self.flags = 0;
        self.ram[usize::from(spec::B)] &= !(spec::PIE | spec::AIE | spec::UIE | spec::SQWE);
        self.drive(cx);
    }

    fn pio(&mut self) -> Option<&mut dyn PortIo> {
        Some(self)
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _which: TimerId) {
        self.settle(cx.now());
        self.drive(cx);
    }
}

impl PortIo for Rtc {
    fn read(&mut self, cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        isa::read_bytes(at, width, |at| self.read_byte(cx, at))
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError> {
        isa::write_bytes(at, width, value, |at, byte| self.write_byte(cx, at, byte))
    }
}

mod saved {
    use super::{Rtc, bounded};
    use aero_bus::VmTime;
    use aero_state::{RestoreError, Saved, Section};
    use serde::{Deserialize, Serialize};

    const KIND: &str = "mc146818";

    #[derive(Serialize, Deserialize)]
    struct RtcStateV1 {
        index: u8,
        ram: Vec<u8>,
        flags: u8,
        seconds: i64,
        next_update: VmTime,
        weekday_offset: u8,
        settled: VmTime,
        missed: u64,
    }

    impl Saved for Rtc {
        fn save(&self) -> Section {
            let Self { index, ram, flags, seconds, next_update, weekday_offset, settled, missed, irq8: _ } =
                self;
            let state = RtcStateV1 {
                index: *index,
                ram: ram.to_vec(),
                flags: *flags,
                seconds: *seconds,
                next_update: *next_update,
                weekday_offset: *weekday_offset,
                settled: *settled,
                missed: *missed,
            };
            Section::new(KIND, 1, &state)
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let RtcStateV1 { index, ram, flags, seconds, next_update, weekday_offset, settled, missed } =
                section.decode(KIND, 1)?;
            let damaged = RestoreError::Damaged { kind: KIND };
            // Times far outside any calendar would overflow later.
            if seconds.unsigned_abs() > 1 << 50 {
                return Err(damaged);
            }
            self.ram = ram.try_into().map_err(|_| damaged)?;
            self.index = index & 0x7f;
            self.flags = flags;
            self.seconds = seconds;
            self.next_update = next_update;
            self.weekday_offset = weekday_offset % 7;
            self.settled = settled;
            self.missed = bounded(missed, self.period());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aero_bus::bench::{TestBoard, conformance};

    /// 2026-11-21 10:34:56, a Saturday.
    const START: u64 = 1_795_257_296;
    const MS: u64 = 1_000_000;
    const SECOND: u64 = spec::SECOND_NS;

    struct Bench {
        board: TestBoard,
        rtc: Rtc,
        irq8: IrqLine,
    }

    impl Bench {
        fn new() -> Self {
            let mut board = TestBoard::new();
            let irq8 = board.line();
            let rtc = Rtc::new(irq8, START, 3 << 30, 5 << 30);
            Self { board, rtc, irq8 }
        }

        fn get(&mut self, index: u8) -> u8 {
            self.board.outb(&mut self.rtc, 0, 0, index);
            self.board.inb(&mut self.rtc, 0, 1)
        }

        fn set(&mut self, index: u8, value: u8) {
            self.board.outb(&mut self.rtc, 0, 0, index);
            self.board.outb(&mut self.rtc, 0, 1, value);
        }

        fn pass(&mut self, ns: u64) {
            self.board.pass(&mut self.rtc, ns);
        }

        fn irq(&self) -> bool {
            self.board.fabric.level(self.irq8)
        }

        fn armed(&self) -> bool {
            self.board.fabric.timers.next_deadline().is_some()
        }

        /// Century, year, month, day, weekday, hour, minute, second.
        fn time(&mut self) -> [u8; 8] {
            [0x32, 9, 8, 7, 6, 4, 2, 0].map(|i| self.get(i))
        }
    }

    #[test]
    fn conforms() {
        conformance(&[0], |board| Rtc::new(board.line(), START, 1 << 30, 0));
    }

    // checklist: 48
    #[test]
    fn time_starts_where_told_in_bcd() {
        let mut b = Bench::new();
        assert_eq!(b.time(), [0x20, 0x26, 0x11, 0x21, 7, 0x10, 0x34, 0x56]);
        b.pass(4 * SECOND);
        assert_eq!(b.time(), [0x20, 0x26, 0x11, 0x21, 7, 0x10, 0x35, 0x00]);
        assert!(!b.armed());
    }

    #[test]
    fn calendar_round_trips_over_centuries() {
        for day in (-200_000..3_000_000).step_by(97) {
            let unix = day * 86_400 + 12_345;
            assert_eq!(Civil::of_unix(unix).unix(), unix);
        }
        let leap = Civil { year: 2000, month: 2, day: 29, hour: 0, minute: 0, second: 0 };
        assert_eq!((Civil::of_unix(951_782_400), leap.unix()), (leap, 951_782_400));
    }

    // checklist: 48
    #[test]
    fn binary_and_twelve_hours_are_shown_as_asked() {
        let mut b = Bench::new();
        b.set(spec::B, spec::DM);
        b.pass(3 * 3_600 * SECOND);
        assert_eq!(b.time(), [20, 26, 11, 21, 7, 0x81, 34, 56]);
        b.pass(11 * 3_600 * SECOND);
        assert_eq!(b.get(spec::HOURS), 12, "half past midnight");
    }

    #[test]
    fn held_clock_is_memory_and_released_clock_runs_from_it() {
        let mut b = Bench::new();
        b.pass(300 * MS);
        b.set(spec::B, spec::SET | spec::H24);
        b.pass(10 * SECOND);
        assert_eq!(b.get(spec::SECONDS), 0x56);
        for (index, value) in
            [(9, 0x99), (0x32, 0x19), (8, 0x12), (7, 0x31), (6, 6), (4, 0x23), (2, 0x59), (0, 0x59)]
        {
            b.set(index, value);
        }
        b.set(spec::B, spec::H24);
        assert_eq!(b.time(), [0x19, 0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x59]);
        b.pass(700 * MS);
        assert_eq!(b.time(), [0x20, 0x00, 0x01, 0x01, 7, 0, 0, 0]);
    }

    #[test]
    fn write_to_a_running_clock_changes_one_field() {
        let mut b = Bench::new();
        b.set(spec::MINUTES, 0x05);
        b.pass(SECOND);
        assert_eq!(b.time(), [0x20, 0x26, 0x11, 0x21, 7, 0x10, 0x05, 0x57]);
    }

    #[test]
    fn released_divider_updates_after_half_a_second() {
        let mut b = Bench::new();
        b.set(spec::A, 0x76);
        b.pass(5 * SECOND);
        b.set(spec::A, 0x26);
        b.pass(499 * MS);
        assert_eq!(b.get(spec::SECONDS), 0x56);
        b.pass(MS);
        assert_eq!(b.get(spec::SECONDS), 0x57);
    }

    // checklist: 48
    #[test]
    fn update_in_progress_shows_before_the_update() {
        let mut b = Bench::new();
        b.pass(SECOND - 245_000);
        assert_eq!(b.get(spec::A), 0x26);
        b.pass(1_000);
        assert_eq!(b.get(spec::A), 0xa6);
        b.pass(244_000);
        assert_eq!((b.get(spec::A), b.get(spec::SECONDS)), (0x26, 0x57));
    }

    #[test]
    fn update_ended_interrupts_each_second() {
        let mut b = Bench::new();
        b.get(spec::C);
        b.set(spec::B, spec::UIE | spec::H24);
        b.pass(SECOND - 1);
        assert!(!b.irq());
        b.pass(1);
        assert!(b.irq());
        assert_eq!(b.get(spec::C), 0x80 | spec::UF | spec::PF);
        assert!(!b.irq());
        b.pass(SECOND);
        assert!(b.irq());
        b.set(spec::B, spec::SET | spec::UIE | spec::H24);
        assert_eq!(b.get(spec::B), spec::SET | spec::H24, "holding disables it");
        assert!(!b.irq());
    }

    #[test]
    fn flags_show_without_interrupts_or_timers() {
        let mut b = Bench::new();
        b.set(spec::HOURS_ALARM, 0xff);
        b.set(spec::MINUTES_ALARM, 0xff);
        b.set(spec::SECONDS_ALARM, 0x58);
        b.pass(SECOND);
        assert!(!b.armed());
        assert_eq!(b.get(spec::C), spec::UF | spec::PF);
        assert_eq!(b.get(spec::C), 0);
        b.pass(SECOND);
        assert_eq!(b.get(spec::C), spec::UF | spec::PF | spec::AF);
    }

    // checklist: 48
    #[test]
    fn alarm_interrupts_at_its_time_only() {
        let mut b = Bench::new();
        b.set(spec::HOURS_ALARM, 0x09);
        b.set(spec::MINUTES_ALARM, 0x15);
        b.set(spec::SECONDS_ALARM, 0x30);
        b.set(spec::B, spec::AIE | spec::H24);
        let wait = (22 * 3_600 + 40 * 60 + 34) * SECOND;
        assert_eq!(b.board.fabric.timers.next_deadline(), Some(VmTime(wait)));
        b.pass(wait);
        assert!(b.irq());
        assert_eq!(b.get(spec::C) & (0x80 | spec::AF), 0x80 | spec::AF);
        assert_eq!(b.board.fabric.timers.next_deadline(), Some(VmTime(wait + 86_400 * SECOND)));
    }

    #[test]
    fn alarm_that_never_matches_arms_nothing() {
        let mut b = Bench::new();
        b.set(spec::MINUTES_ALARM, 0x75);
        b.set(spec::B, spec::AIE | spec::H24);
        assert!(!b.armed());
    }

    #[test]
    fn periodic_rates_are_the_data_sheets() {
        let mut b = Bench::new();
        b.set(spec::B, spec::PIE | spec::H24);
        for (rate, hz) in [(1, 256), (2, 128), (3, 8192), (6, 1024), (10, 64), (15, 2)] {
            b.set(spec::A, 0x20 | rate);
            b.get(spec::C);
            let mut count = 0;
            let end = b.board.fabric.now().after(SECOND);
            while let Some(at) = b.board.fabric.timers.next_deadline().filter(|at| *at <= end) {
                let ns = at.since(b.board.fabric.now());
                b.pass(ns);
                assert!(b.irq());
                b.get(spec::C);
                count += 1;
            }
            let rest = end.since(b.board.fabric.now());
            b.pass(rest);
            assert_eq!(count, hz, "rate {rate}");
        }
        b.set(spec::A, 0x20);
        assert!(!b.armed());
    }

    // checklist: 47
    #[test]
    fn missed_periods_come_one_for_each_read_of_c() {
        let mut b = Bench::new();
        b.set(spec::A, 0x2a);
        b.get(spec::C);
        b.set(spec::B, spec::PIE | spec::H24);
        let _ = b.board.fabric.take_line_changes();
        b.pass(SECOND / 8);
        assert_eq!(b.board.fabric.take_line_changes().len(), 1, "nothing new before register C is read");
        let mut delivered = 0;
        while b.irq() {
            assert_eq!(b.get(spec::C) & 0xc0, 0xc0);
            delivered += 1;
        }
        assert_eq!(delivered, 8);
        assert_eq!(b.board.fabric.take_line_changes().len(), 15, "each is an edge of its own");
    }

    // checklist: 47
    #[test]
    fn as_many_interrupts_come_as_periods_passed_however_late_the_guest_is() {
        for (rate, hz) in [(10, 64), (6, 1024)] {
            let mut b = Bench::new();
            b.set(spec::A, 0x20 | rate);
            b.get(spec::C);
            b.set(spec::B, spec::PIE | spec::H24);
            let (mut delivered, mut stalls) = (0, [1, 70, 3, 400, 0, 33, 900].iter().cycle());
            while b.board.fabric.now() < VmTime(60 * SECOND) {
                // The guest and its timers sleep, then it takes what is there.
                let wake = b.board.fabric.now().after(stalls.next().map_or(0, |ms| ms * MS) + MS / 3);
                b.board.fabric.advance_to(wake.min(VmTime(60 * SECOND)));
                b.pass(0);
                while b.irq() {
                    assert_eq!(b.get(spec::C) & 0xc0, 0xc0);
                    delivered += 1;
                }
            }
            assert_eq!(delivered, 60 * hz, "{hz} Hz");
        }
    }

    // checklist: 47
    #[test]
    fn nothing_is_raised_before_register_c_is_read() {
        let mut b = Bench::new();
        b.set(spec::B, spec::PIE | spec::H24);
        let _ = b.board.fabric.take_line_changes();
        b.pass(SECOND);
        assert!(b.irq());
        assert_eq!(b.board.fabric.take_line_changes().len(), 1);
    }

    #[test]
    fn missed_periods_are_bounded_and_dropped_when_disabled() {
        let mut b = Bench::new();
        b.set(spec::B, spec::PIE | spec::H24);
        b.pass(10 * SECOND);
        assert_eq!(b.rtc.missed, 4 * 1024);
        b.set(spec::B, spec::H24);
        b.get(spec::C);
        b.set(spec::B, spec::PIE | spec::H24);
        assert!(!b.irq());
    }

    #[test]
    fn new_rate_keeps_the_time_owed() {
        let mut b = Bench::new();
        b.set(spec::A, 0x2a);
        b.get(spec::C);
        b.set(spec::B, spec::PIE | spec::H24);
        b.pass(3 * SECOND / 64);
        assert_eq!(b.rtc.missed, 2);
        b.set(spec::A, 0x26);
        assert_eq!(b.rtc.missed, 32);
    }

    #[test]
    fn late_timer_counts_every_period() {
        let mut b = Bench::new();
        b.set(spec::A, 0x2a);
        b.get(spec::C);
        b.set(spec::B, spec::PIE | spec::H24);
        b.board.fabric.advance_to(VmTime(SECOND));
        b.rtc.timer(&mut b.board.cx(), PERIODIC);
        assert_eq!(b.rtc.missed, 63);
    }

    #[test]
    fn memory_sizes_are_described() {
        let mut b = Bench::new();
        let seen = [0x15, 0x16, 0x17, 0x18, 0x30, 0x31, 0x34, 0x35].map(|i| b.get(i));
        assert_eq!(seen, [0x80, 0x02, 0xff, 0xff, 0xff, 0xff, 0x00, 0xbf]);
        assert_eq!([0x5b, 0x5c, 0x5d].map(|i| b.get(i)), [0x00, 0x40, 0x01]);
    }

    #[test]
    fn floppy_drives_are_described() {
        let mut b = Bench::new();
        assert_eq!((b.get(0x10), b.get(0x14)), (0, 0x06));
        for (types, want) in [([4, 0], (0x40, 0x07)), ([4, 5], (0x45, 0x47)), ([0, 0], (0, 0x06))] {
            b.rtc.describe_floppies(types);
            assert_eq!((b.get(0x10), b.get(0x14)), want);
        }
    }

    #[test]
    fn memory_survives_reset_and_interrupts_do_not() {
        let mut b = Bench::new();
        b.set(0x0f, 0x5a);
        b.set(spec::B, spec::PIE | spec::UIE | spec::H24);
        b.pass(2 * SECOND);
        b.rtc.reset(&mut b.board.cx());
        assert!(!b.irq() && !b.armed());
        assert_eq!((b.get(0x0f), b.get(spec::B), b.get(spec::SECONDS)), (0x5a, spec::H24, 0x58));
    }

    #[test]
    fn index_keeps_seven_bits_and_wide_write_sets_both() {
        let mut b = Bench::new();
        b.rtc.write(&mut b.board.cx(), At::new(0, 0), Width::B2, 0x77c0).unwrap();
        assert_eq!(b.get(0x40), 0x77);
        assert_eq!((b.get(spec::D), b.board.inb(&mut b.rtc, 0, 0)), (0x80, 0xff));
    }

    #[test]
    fn nvram_setter_leaves_the_clock_alone() {
        let mut b = Bench::new();
        b.rtc.set_nvram(spec::B, 0xff);
        b.rtc.set_nvram(0x5f, 3);
        assert_eq!((b.get(spec::B), b.get(0x5f), b.rtc.nvram(0x5f)), (spec::H24, 3, 3));
    }
}
