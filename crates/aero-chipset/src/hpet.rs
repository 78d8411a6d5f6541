//! The high-precision event timer: one 64-bit counter at 100 MHz and three comparators.
//!
//! The counter is the virtual time in other units, offset by what the guest wrote; a comparator has its next
//! match computed from it, and a timer is armed only for a match that interrupts. A comparator interrupts
//! when the counter *equals* it: one that was set into the past waits until the counter comes round, in
//! 32-bit mode after 43 seconds. In periodic mode a match adds the period to the comparator. Periods that
//! passed while the host did not run the machine give one interrupt.
//!
//! Each timer interrupts on one of the board's lines, chosen by its route field: edge (a pulse) or level
//! (high until its status bit is cleared). *Legacy replacement* takes timers 0 and 1 off their routes and
//! puts them in the place of the 8254 and the real-time clock; the board asks [`Hpet::replaces_legacy`] and
//! lets go of those two.
//!
//! Source: IA-PC HPET specification 1.0a, chapter 2.

use aero_bus::{At, Cx, Device, IoError, IrqLine, Mmio, TimerId, VmTime, Width};

/// Bytes of its registers.
pub const LEN: u64 = spec::LEN;
/// Lower half of the capabilities register, as the ACPI table repeats it.
pub const ID: u32 = spec::CAPABILITIES as u32;
/// Fewest ticks of a period that do not lose interrupts, for the ACPI table.
pub const MIN_TICK: u16 = spec::MIN_PERIOD as u16;

/// Registers by their names in the specification.
mod spec {
    pub const LEN: u64 = 0x400;
    pub const HZ: u64 = 100_000_000;
    /// Femtoseconds of a tick.
    pub const PERIOD_FS: u64 = 1_000_000_000_000_000 / HZ;
    pub const TIMERS: usize = 3;

    pub const GCAP_ID: u64 = 0x000;
    pub const GEN_CONF: u64 = 0x010;
    pub const GINTR_STA: u64 = 0x020;
    pub const MAIN_CNT: u64 = 0x0f0;
    pub const TIMER: u64 = 0x100;
    pub const TIMER_STRIDE: u64 = 0x20;
    /// Within a timer.
    pub const CONF: u64 = 0x00;
    pub const COMPARATOR: u64 = 0x08;

    /// Intel, legacy replacement, 64-bit counter, three timers, revision 1.
    pub const CAPABILITIES: u64 = PERIOD_FS << 32 | 0x8086 << 16 | 1 << 15 | 1 << 13 | 2 << 8 | 1;

    pub const ENABLE_CNF: u64 = 1 << 0;
    pub const LEG_RT_CNF: u64 = 1 << 1;

    pub const INT_TYPE_CNF: u64 = 1 << 1;
    pub const INT_ENB_CNF: u64 = 1 << 2;
    pub const TYPE_CNF: u64 = 1 << 3;
    pub const PER_INT_CAP: u64 = 1 << 4;
    pub const SIZE_CAP: u64 = 1 << 5;
    pub const VAL_SET_CNF: u64 = 1 << 6;
    pub const MODE32_CNF: u64 = 1 << 8;
    pub const INT_ROUTE_SHIFT: u32 = 9;
    pub const INT_ROUTE: u64 = 0x1f << INT_ROUTE_SHIFT;
    pub const WRITABLE: u64 = INT_TYPE_CNF | INT_ENB_CNF | TYPE_CNF | VAL_SET_CNF | MODE32_CNF | INT_ROUTE;

    /// Ticks between interrupts at least: 1 µs.
    pub const MIN_PERIOD: u64 = 100;
}

use spec::*;

/// One timer.
#[derive(Clone, Copy, Default)]
struct Comparator {
    /// The writable bits of its configuration.
    conf: u64,
    value: u64,
    /// What a match adds in periodic mode.
    period: u64,
}

impl Comparator {
    fn is(&self, bits: u64) -> bool {
        self.conf & bits != 0
    }

    fn mask(&self) -> u64 {
        if self.is(MODE32_CNF) { u32::MAX.into() } else { u64::MAX }
    }

    /// Ticks from `count` to the next match, less one.
    fn distance(&self, count: u64) -> u64 {
        self.value.wrapping_sub(count).wrapping_sub(1) & self.mask()
    }

    /// Lets the counter go on from `from` by `ticks`; whether it matched.
    fn pass(&mut self, from: u64, ticks: u64) -> bool {
        let first = self.distance(from);
        if first >= ticks {
            return false;
        }
        if self.is(TYPE_CNF) && self.period != 0 {
            let matches = 1 + (ticks - 1 - first) / self.period;
            self.value = self.value.wrapping_add(matches.wrapping_mul(self.period)) & self.mask();
        }
        true
    }
}

/// The timer block. Region 0: its registers.
pub struct Hpet {
    config: u64,
    status: u64,
    /// The counter, less the ticks of virtual time while it runs.
    base: u64,
    /// Up to here matches have been seen.
    settled: u64,
    timers: [Comparator; TIMERS],
    /// In place of the 8254's output and the clock's.
    legacy: [IrqLine; 2],
    /// I/O APIC inputs that timers can be routed to.
    routes: Vec<(u8, IrqLine)>,
}

impl Hpet {
    /// A block whose timers can be routed to `routes` (numbers of I/O APIC inputs below 32, and their lines),
    /// with `legacy` for timers 0 and 1 in legacy replacement.
    pub fn new(legacy: [IrqLine; 2], routes: Vec<(u8, IrqLine)>) -> Self {
        let timers = [Comparator::default(); TIMERS];
        Self { config: 0, status: 0, base: 0, settled: 0, timers, legacy, routes }
    }

    /// Whether it interrupts in place of the 8254 and the real-time clock.
    pub fn replaces_legacy(&self) -> bool {
        self.config & LEG_RT_CNF != 0
    }

    fn runs(&self) -> bool {
        self.config & ENABLE_CNF != 0
    }

    fn counter(&self, now: VmTime) -> u64 {
        if self.runs() { self.base.wrapping_add(now.ticks(HZ)) } else { self.base }
    }

    fn set_counter(&mut self, now: VmTime, value: u64) {
        self.base = if self.runs() { value.wrapping_sub(now.ticks(HZ)) } else { value };
        self.settled = value;
    }

    fn line(&self, timer: usize) -> Option<IrqLine> {
        if self.replaces_legacy() && timer < self.legacy.len() {
            return Some(self.legacy[timer]);
        }
        let route = (self.timers[timer].conf & INT_ROUTE) >> INT_ROUTE_SHIFT;
        self.routes.iter().find(|(number, _)| u64::from(*number) == route).map(|(_, line)| *line)
    }

    fn route_capabilities(&self) -> u64 {
        self.routes
            .iter()
            .fold(0, |mask, (number, _)| mask | 1u32.checked_shl((*number).into()).unwrap_or(0))
            .into()
    }

    /// Lets the matches up to now happen.
    fn settle(&mut self, cx: &mut Cx<'_>) {
        let count = self.counter(cx.now());
        let (from, ticks) = (self.settled, count.wrapping_sub(self.settled));
        self.settled = count;
        for timer in 0..TIMERS {
            if self.timers[timer].pass(from, ticks) && self.timers[timer].is(INT_ENB_CNF) {
                self.interrupt(cx, timer);
            }
        }
    }

    fn interrupt(&mut self, cx: &mut Cx<'_>, timer: usize) {
        if self.timers[timer].is(INT_TYPE_CNF) {
            self.status |= 1 << timer;
        } else if let Some(line) = self.line(timer) {
            cx.pulse_irq(line);
        }
    }

    /// Drives the lines of level timers, and arms what will interrupt.
    fn drive(&self, cx: &mut Cx<'_>) {
        let held: Vec<IrqLine> =
            (0..TIMERS).filter(|n| self.holds(*n)).filter_map(|n| self.line(n)).collect();
        let all = self.legacy.iter().chain(self.routes.iter().map(|(_, line)| line));
        all.for_each(|line| cx.set_irq(*line, held.contains(line)));
        for (n, timer) in self.timers.iter().enumerate() {
            let which = TimerId(n as u8);
            if self.runs() && timer.is(INT_ENB_CNF) {
                cx.arm(which, self.next_match(timer, cx.now()));
            } else {
                cx.cancel(which);
            }
        }
    }

    fn holds(&self, timer: usize) -> bool {
        let t = &self.timers[timer];
        self.status >> timer & 1 != 0 && t.is(INT_TYPE_CNF) && t.is(INT_ENB_CNF)
    }

    fn next_match(&self, timer: &Comparator, now: VmTime) -> VmTime {
        let distance = timer.distance(self.counter(now)).saturating_add(1);
        let least = if timer.is(TYPE_CNF) && timer.period < MIN_PERIOD { MIN_PERIOD } else { 1 };
        VmTime::of_ticks(now.ticks(HZ).saturating_add(distance.max(least)), HZ)
    }

    // Registers, as quadwords.

    fn read_register(&self, now: VmTime, register: u64) -> u64 {
        match register {
            GCAP_ID => CAPABILITIES,
            GEN_CONF => self.config,
            GINTR_STA => self.status,
            MAIN_CNT => self.counter(now),
            _ => match self.timer_at(register) {
                Some((n, CONF)) => {
                    let fixed = PER_INT_CAP | SIZE_CAP | self.route_capabilities() << 32;
                    self.timers[n].conf & !VAL_SET_CNF | fixed
                }
                Some((n, COMPARATOR)) => self.timers[n].value,
                _ => 0,
            },
        }
    }

    fn timer_at(&self, register: u64) -> Option<(usize, u64)> {
        let offset = register.checked_sub(TIMER)?;
        let n = (offset / TIMER_STRIDE) as usize;
        (n < TIMERS).then_some((n, offset % TIMER_STRIDE))
    }

    /// Writes the bits of `mask`.
    fn write_register(&mut self, now: VmTime, register: u64, value: u64, mask: u64) {
        match register {
            GEN_CONF => self.write_config(now, self.config & !mask | value & mask),
            GINTR_STA => self.status &= !(value & mask),
            // A counter that runs cannot be written.
            MAIN_CNT if !self.runs() => self.set_counter(now, self.base & !mask | value & mask),
            _ => match self.timer_at(register) {
                Some((n, CONF)) => self.write_timer_config(n, value, mask),
                Some((n, COMPARATOR)) => self.write_comparator(n, value, mask),
                _ => {}
            },
        }
    }

    fn write_config(&mut self, now: VmTime, value: u64) {
        let count = self.counter(now);
        self.config = value & (ENABLE_CNF | LEG_RT_CNF);
        self.set_counter(now, count);
    }

    fn write_timer_config(&mut self, n: usize, value: u64, mask: u64) {
        let timer = &self.timers[n];
        let mut conf = (timer.conf & !mask | value & mask) & WRITABLE;
        let route = (conf & INT_ROUTE) >> INT_ROUTE_SHIFT;
        if self.route_capabilities() >> route & 1 == 0 {
            // The old route reads back, by which software sees that its choice was refused.
            conf = conf & !INT_ROUTE | timer.conf & INT_ROUTE;
        }
        let timer = &mut self.timers[n];
        timer.conf = conf;
        timer.value &= timer.mask();
        timer.period &= timer.mask();
        if !timer.is(INT_TYPE_CNF) {
            self.status &= !(1 << n);
        }
    }

    /// In periodic mode a write sets the period; the comparator itself only behind VAL_SET, which the write
    /// clears.
    fn write_comparator(&mut self, n: usize, value: u64, mask: u64) {
        let timer = &mut self.timers[n];
        let put = |old: u64| old & !mask | value & mask;
        if !timer.is(TYPE_CNF) || timer.is(VAL_SET_CNF) {
            timer.value = put(timer.value) & timer.mask();
        }
        if timer.is(TYPE_CNF) {
            timer.period = put(timer.period) & timer.mask();
        }
        timer.conf &= !VAL_SET_CNF;
    }
}

/// The register of an access, how far in it the access begins in bits, and the bits that it covers there.
fn place(at: At, width: Width) -> Result<(u64, u64, u64), IoError> {
    if at.region != 0 || at.offset >= LEN {
        return Err(IoError::Unclaimed);
    }
    let shift = 8 * (at.offset & 7);
    Ok((at.offset & !7, shift, width.ones() << shift))
}

impl Device for Hpet {
    fn reset(&mut self, cx: &mut Cx<'_>) {
        *self = Self::new(self.legacy, core::mem::take(&mut self.routes));
        self.drive(cx);
    }

    fn mmio(&mut self) -> Option<&mut dyn Mmio> {
        Some(self)
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _which: TimerId) {
        self.settle(cx);
        self.drive(cx);
    }
}

impl Mmio for Hpet {
    fn read(&mut self, cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        let (register, shift, _) = place(at, width)?;
        if register != MAIN_CNT {
            self.settle(cx);
        }
        Ok(self.read_register(cx.now(), register) >> shift)
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError> {
        let (register, shift, mask) = place(at, width)?;
        self.settle(cx);
        self.write_register(cx.now(), register, value << shift, mask);
        self.drive(cx);
        Ok(())
    }
}

mod saved {
    use super::{Comparator, ENABLE_CNF, Hpet, LEG_RT_CNF, TIMERS, WRITABLE};
    use aero_state::{RestoreError, Saved, Section};
    use serde::{Deserialize, Serialize};

    const KIND: &str = "hpet";

    #[derive(Serialize, Deserialize)]
    struct ComparatorStateV1 {
        conf: u64,
        value: u64,
        period: u64,
    }

    #[derive(Serialize, Deserialize)]
    struct HpetStateV1 {
        config: u64,
        status: u64,
        base: u64,
        settled: u64,
        timers: [ComparatorStateV1; TIMERS],
    }

    impl Saved for Hpet {
        fn save(&self) -> Section {
            // The lines are the board's.
            let Self { config, status, base, settled, timers, legacy: _, routes: _ } = self;
            let timers =
                timers.map(|Comparator { conf, value, period }| ComparatorStateV1 { conf, value, period });
            let state =
                HpetStateV1 { config: *config, status: *status, base: *base, settled: *settled, timers };
            Section::new(KIND, 1, &state)
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let HpetStateV1 { config, status, base, settled, timers } = section.decode(KIND, 1)?;
            self.config = config & (ENABLE_CNF | LEG_RT_CNF);
            self.status = status & ((1 << TIMERS) - 1);
            (self.base, self.settled) = (base, settled);
            self.timers = timers.map(|ComparatorStateV1 { conf, value, period }| {
                let timer = Comparator { conf: conf & WRITABLE, value, period };
                Comparator { value: value & timer.mask(), period: period & timer.mask(), ..timer }
            });
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aero_bus::bench::{TestBoard, conformance};

    struct Bench {
        board: TestBoard,
        hpet: Hpet,
        legacy: [IrqLine; 2],
        routes: [IrqLine; 2],
    }

    impl Bench {
        fn new() -> Self {
            let mut board = TestBoard::new();
            let legacy = [board.line(), board.line()];
            let routes = [board.line(), board.line()];
            let hpet = Hpet::new(legacy, vec![(20, routes[0]), (21, routes[1])]);
            Self { board, hpet, legacy, routes }
        }

        fn running() -> Self {
            let mut bench = Self::new();
            bench.set(GEN_CONF, ENABLE_CNF);
            bench
        }

        fn get(&mut self, register: u64) -> u64 {
            Mmio::read(&mut self.hpet, &mut self.board.cx(), At::new(0, register), Width::B8).unwrap()
        }

        fn set(&mut self, register: u64, value: u64) {
            Mmio::write(&mut self.hpet, &mut self.board.cx(), At::new(0, register), Width::B8, value)
                .unwrap();
        }

        fn pass_ticks(&mut self, ticks: u64) {
            self.board.pass(&mut self.hpet, ticks * 10);
        }

        /// How often `line` rose since the last call.
        fn rises(&mut self, line: IrqLine) -> usize {
            self.board.fabric.take_line_changes().iter().filter(|c| c.line == line && c.level).count()
        }
    }

    const T0: u64 = TIMER;
    const T2: u64 = TIMER + 2 * TIMER_STRIDE;
    const TO_20: u64 = 20 << INT_ROUTE_SHIFT;

    #[test]
    fn hpet_passes_the_conformance_suite() {
        conformance(&[0], |board| {
            let lines = [board.line(), board.line()];
            let route = board.line();
            Hpet::new(lines, vec![(20, route)])
        });
    }

    // checklist: 49
    #[test]
    fn counter_has_the_announced_period_and_stops_when_told() {
        let mut b = Bench::running();
        b.board.pass(&mut b.hpet, 1_000_000_000);
        let period_fs = b.get(GCAP_ID) >> 32;
        assert_eq!(b.get(MAIN_CNT) * period_fs, 1_000_000_000_000_000);
        assert!((2_000_000..=100_000_000).contains(&period_fs), "10 to 500 MHz");
        b.set(MAIN_CNT, 5);
        assert_eq!(b.get(MAIN_CNT), 100_000_000, "not while it runs");
        b.set(GEN_CONF, 0);
        b.pass_ticks(77);
        assert_eq!(b.get(MAIN_CNT), 100_000_000);
        b.set(MAIN_CNT, u64::MAX - 1);
        b.set(GEN_CONF, ENABLE_CNF);
        b.pass_ticks(3);
        assert_eq!(b.get(MAIN_CNT), 1);
    }

    #[test]
    fn capabilities_tell_of_three_64_bit_timers_with_routes() {
        let mut b = Bench::new();
        assert_eq!(b.get(GCAP_ID) as u32, 0x8086_a201);
        assert_eq!(b.get(T2), 0x30_0000 << 32 | PER_INT_CAP | SIZE_CAP);
        b.set(T2, 3 << INT_ROUTE_SHIFT | TYPE_CNF);
        assert_eq!(b.get(T2) & INT_ROUTE, 0, "an input that is not offered is refused");
        b.set(T2, TO_20);
        assert_eq!(b.get(T2) & INT_ROUTE, TO_20);
        let high = Mmio::read(&mut b.hpet, &mut b.board.cx(), At::new(0, T2 + 4), Width::B4).unwrap();
        assert_eq!(high as u32, 0x30_0000);
    }

    #[test]
    fn one_shot_edge_comes_once_at_its_tick() {
        let mut b = Bench::running();
        b.set(T0, TO_20 | INT_ENB_CNF);
        b.set(T0 + COMPARATOR, 1_000);
        b.pass_ticks(999);
        assert_eq!(b.rises(b.routes[0]), 0);
        b.pass_ticks(1);
        assert_eq!(b.rises(b.routes[0]), 1);
        b.pass_ticks(1 << 33);
        assert_eq!((b.rises(b.routes[0]), b.get(GINTR_STA)), (0, 0));
    }

    #[test]
    fn thirty_two_bit_comparator_matches_each_time_round() {
        let mut b = Bench::running();
        b.set(T0, TO_20 | INT_ENB_CNF | MODE32_CNF);
        b.set(T0 + COMPARATOR, 7 << 32 | 50);
        assert_eq!(b.get(T0 + COMPARATOR), 50);
        b.pass_ticks(3 << 32);
        assert_eq!(b.rises(b.routes[0]), 3);
    }

    #[test]
    fn periodic_timer_starts_at_its_comparator_and_repeats() {
        let mut b = Bench::running();
        b.set(T0, TO_20 | INT_ENB_CNF | TYPE_CNF | VAL_SET_CNF);
        b.set(T0 + COMPARATOR, 500);
        b.set(T0 + COMPARATOR, 1_000);
        assert_eq!(b.get(T0) & VAL_SET_CNF, 0);
        b.pass_ticks(500);
        assert_eq!(b.rises(b.routes[0]), 1);
        b.pass_ticks(10_000);
        assert_eq!(b.rises(b.routes[0]), 10);
        assert_eq!(b.get(T0 + COMPARATOR), 11_500);
    }

    #[test]
    fn level_timer_holds_its_line_until_its_status_is_cleared() {
        let mut b = Bench::running();
        b.set(T2, TO_20 | INT_ENB_CNF | INT_TYPE_CNF);
        b.set(T2 + COMPARATOR, 10);
        b.pass_ticks(10);
        assert_eq!((b.board.fabric.level(b.routes[0]), b.get(GINTR_STA)), (true, 4));
        b.set(GINTR_STA, 3);
        assert!(b.board.fabric.level(b.routes[0]), "other bits leave it");
        b.set(GINTR_STA, 4);
        assert_eq!((b.board.fabric.level(b.routes[0]), b.get(GINTR_STA)), (false, 0));
    }

    #[test]
    fn legacy_replacement_takes_timers_0_and_1_to_the_old_interrupts() {
        let mut b = Bench::running();
        b.set(GEN_CONF, ENABLE_CNF | LEG_RT_CNF);
        assert!(b.hpet.replaces_legacy());
        for n in 0..3 {
            b.set(TIMER + n * TIMER_STRIDE, TO_20 | INT_ENB_CNF);
            b.set(TIMER + n * TIMER_STRIDE + COMPARATOR, 100);
        }
        b.pass_ticks(100);
        let rises: Vec<_> =
            b.board.fabric.take_line_changes().iter().filter(|c| c.level).map(|c| c.line).collect();
        assert_eq!(rises, [b.legacy[0], b.legacy[1], b.routes[0]]);
    }

    #[test]
    fn late_host_gives_one_interrupt_and_keeps_the_phase() {
        let mut b = Bench::running();
        b.set(T0, TO_20 | INT_ENB_CNF | TYPE_CNF | VAL_SET_CNF);
        b.set(T0 + COMPARATOR, 1_000);
        b.board.fabric.advance_to(VmTime(10 * 5_500));
        b.hpet.timer(&mut b.board.cx(), TimerId(0));
        assert_eq!((b.rises(b.routes[0]), b.get(T0 + COMPARATOR)), (1, 6_000));
    }

    #[test]
    fn shortest_period_does_not_storm_the_host() {
        let mut b = Bench::running();
        b.set(T0, TO_20 | INT_ENB_CNF | TYPE_CNF | VAL_SET_CNF);
        b.set(T0 + COMPARATOR, 1);
        b.pass_ticks(100_000);
        assert!(b.rises(b.routes[0]) <= 1_000);
    }

    #[test]
    fn halves_are_written_apart() {
        let mut b = Bench::new();
        for (offset, value) in [(T0 + COMPARATOR, 0x1234_5678), (T0 + COMPARATOR + 4, 0x9abc_def0)] {
            Mmio::write(&mut b.hpet, &mut b.board.cx(), At::new(0, offset), Width::B4, value).unwrap();
        }
        assert_eq!(b.get(T0 + COMPARATOR), 0x9abc_def0_1234_5678);
    }
}
