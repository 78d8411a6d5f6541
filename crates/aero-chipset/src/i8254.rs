//! The 8254 interval timer: three 16-bit down counters at 1,193,182 Hz, and port 61h, through which the board
//! shows counter 2 (the speaker) and the memory refresh.
//!
//! Nothing here counts. A counter knows the tick at which its count was loaded; its value and its output at
//! any tick follow from the difference, so there is no drift and an idle counter costs nothing. Only counter
//! 0 has a timer: its output is interrupt line 0, and the timer is armed for the tick of the next rising
//! edge.
//!
//! The line rests high where the output does. In the modes that repeat (2 and 3) and in mode 4 the fall is
//! delivered together with the rise that follows it: controllers see the same edges at the same times, with
//! one event a period. A reading of the output (read-back status) always gives the exact level.
//!
//! An edge whose time passed while the host did not run the machine is delivered once, not once for each
//! period: the controller could hold only one anyway.
//!
//! Source: Intel 82C54 data sheet (231244-006); port 61h: 82371SB (PIIX3) data sheet, "NMI status and control
//! register".

use crate::isa;
use aero_bus::{At, Cx, Device, IoError, IrqLine, PortIo, TimerId, VmTime, Width};

pub use spec::HZ;

mod spec {
    //! Registers by their names in the data sheet.

    /// The input clock.
    pub const HZ: u64 = 1_193_182;

    /// Region 0: ports 40h to 43h.
    pub const COUNTERS: u8 = 0;
    /// Region 1: port 61h.
    pub const PORT_B: u8 = 1;
    /// Offset of the control word in region 0.
    pub const CONTROL: u64 = 3;

    /// Control word, bits 7:6: the read-back command.
    pub const READ_BACK: u8 = 3;
    /// Read-back: do not latch the count.
    pub const NOT_COUNT: u8 = 1 << 5;
    /// Read-back: do not latch the status.
    pub const NOT_STATUS: u8 = 1 << 4;
    /// Status: the level of OUT.
    pub const STATUS_OUT: u8 = 1 << 7;
    /// Status: the count written last is not yet in use.
    pub const STATUS_NULL_COUNT: u8 = 1 << 6;

    /// Port 61h: gate of counter 2.
    pub const GATE2: u8 = 1 << 0;
    /// Port 61h: bits that keep what is written (gate, speaker, parity and channel check enables).
    pub const PORT_B_WRITABLE: u8 = 0x0f;
    /// Port 61h: toggles with every memory refresh.
    pub const REFRESH: u8 = 1 << 4;
    /// Port 61h: OUT of counter 2.
    pub const OUT2: u8 = 1 << 5;
    /// Ticks from one refresh to the next: what firmware loads into counter 1, 15.085 us.
    pub const REFRESH_TICKS: u64 = 18;
}

/// Bytes through which a count is read and written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
enum Access {
    Low,
    High,
    /// Low byte first, then high.
    Both,
}

/// Where the counting element is. Ticks are signed so that a half-period may be thought to have begun before
/// time 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
enum Run {
    /// No count was written, or no trigger came.
    Idle,
    /// The count was, or will be, loaded at this tick.
    Since(i64),
    /// The gate is low; so many ticks were counted.
    Paused(i64),
}

/// One counter.
#[derive(Clone, Copy)]
struct Counter {
    mode: u8,
    access: Access,
    bcd: bool,
    gate: bool,
    /// CR: the count written last, 1 to 65,536.
    reload: u32,
    /// The count in use.
    count: u32,
    run: Run,
    /// Modes 2 and 3: the tick at which `reload` will be taken over.
    switch_at: Option<i64>,
    /// A count was written since the control word.
    armed: bool,
    /// The low byte of a count whose high byte is still to come.
    low_byte: Option<u8>,
    /// The next live or latched read gives the high byte.
    read_high: bool,
    latched_count: Option<u16>,
    latched_status: Option<u8>,
}

impl Counter {
    fn new(gate: bool) -> Self {
        Self {
            mode: 0,
            access: Access::Both,
            bcd: false,
            gate,
            reload: 0x1_0000,
            count: 0x1_0000,
            run: Run::Idle,
            switch_at: None,
            armed: false,
            low_byte: None,
            read_high: false,
            latched_count: None,
            latched_status: None,
        }
    }

    /// How many values the counter has.
    fn modulus(&self) -> i64 {
        if self.bcd { 10_000 } else { 0x1_0000 }
    }

    /// Ticks since the count was loaded, none before that.
    fn elapsed(&self, tick: i64) -> Option<i64> {
        match self.run {
            Run::Idle => None,
            Run::Since(start) => (tick >= start).then(|| tick - start),
            Run::Paused(ticks) => Some(ticks),
        }
    }

    /// Mode 3: ticks for which the output is high.
    fn high_ticks(&self) -> i64 {
        i64::from(self.count.div_ceil(2))
    }

    /// The level of OUT.
    fn out(&self, tick: i64) -> bool {
        let n = i64::from(self.count);
        let Some(elapsed) = self.elapsed(tick) else {
            // Not loaded: only mode 0 begins low.
            return self.mode != 0;
        };
        match self.mode {
            0 | 1 => elapsed >= n,
            // A gate that is low holds the output high.
            2 => !self.gate || n == 1 || elapsed % n != n - 1,
            3 => !self.gate || elapsed % n < self.high_ticks(),
            _ => elapsed != n,
        }
    }

    /// The counting element, in binary.
    fn value(&self, tick: i64) -> i64 {
        let n = i64::from(self.count);
        let elapsed = self.elapsed(tick).unwrap_or(0);
        match self.mode {
            2 => n - elapsed % n,
            3 => {
                // Counts by two; an odd count is loaded less one.
                let phase = elapsed % n;
                let half = if phase < self.high_ticks() { phase } else { phase - self.high_ticks() };
                (n & !1) - 2 * half
            }
            _ => (n - elapsed).rem_euclid(self.modulus()),
        }
    }

    /// What a read of the count gives.
    fn read_value(&self, tick: i64) -> u16 {
        let value = self.value(tick).rem_euclid(self.modulus()) as u16;
        if self.bcd { to_bcd(value) } else { value }
    }

    fn status(&self, tick: i64) -> u8 {
        let out = if self.out(tick) { spec::STATUS_OUT } else { 0 };
        let pending = !self.armed || self.switch_at.is_some() || self.elapsed(tick).is_none();
        let null = if pending { spec::STATUS_NULL_COUNT } else { 0 };
        let access = match self.access {
            Access::Low => 1,
            Access::High => 2,
            Access::Both => 3,
        };
        out | null | access << 4 | self.mode << 1 | u8::from(self.bcd)
    }

    /// Takes over a new count whose time has come.
    fn settle(&mut self, tick: i64) {
        let Some(at) = self.switch_at.filter(|at| tick >= *at) else { return };
        let Run::Since(start) = self.run else { return };
        self.switch_at = None;
        let in_low_half = self.mode == 3 && (at - start) % i64::from(self.count) == self.high_ticks();
        self.count = self.reload;
        self.run = Run::Since(if in_low_half { at - self.high_ticks() } else { at });
    }

    /// The first tick after `tick` at which OUT rises.
    fn next_rise(&self, tick: i64) -> Option<i64> {
        let Run::Since(start) = self.run else { return None };
        let n = i64::from(self.count);
        let rise = match self.mode {
            0 | 1 => start + n,
            2 | 3 if n == 1 => return None,
            2 | 3 => start + n * ((tick - start).max(0) / n + 1),
            _ => start + n + 1,
        };
        if let Some(at) = self.switch_at.filter(|at| *at < rise) {
            let mut after = *self;
            after.settle(at);
            return after.next_rise(tick.max(at));
        }
        (rise > tick).then_some(rise)
    }

    fn control(&mut self, word: u8) {
        let mode = word >> 1 & 7;
        *self = Self {
            mode: if mode > 5 { mode - 4 } else { mode },
            access: match word >> 4 & 3 {
                1 => Access::Low,
                2 => Access::High,
                _ => Access::Both,
            },
            bcd: word & 1 != 0,
            reload: self.reload,
            count: self.count,
            ..Self::new(self.gate)
        };
    }

    fn latch_count(&mut self, tick: i64) {
        if self.latched_count.is_none() {
            self.latched_count = Some(self.read_value(tick));
        }
    }

    fn latch_status(&mut self, tick: i64) {
        if self.latched_status.is_none() {
            self.latched_status = Some(self.status(tick));
        }
    }

    fn read(&mut self, tick: i64) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let value = self.latched_count.unwrap_or_else(|| self.read_value(tick));
        let high = match self.access {
            Access::Low => false,
            Access::High => true,
            Access::Both => {
                self.read_high = !self.read_high;
                !self.read_high
            }
        };
        if !(self.access == Access::Both && self.read_high) {
            self.latched_count = None;
        }
        value.to_le_bytes()[usize::from(high)]
    }

    fn write(&mut self, tick: i64, byte: u8) {
        let value = match (self.access, self.low_byte.take()) {
            (Access::Low, _) => u16::from(byte),
            (Access::High, _) => u16::from(byte) << 8,
            (Access::Both, Some(low)) => u16::from_le_bytes([low, byte]),
            (Access::Both, None) => {
                self.low_byte = Some(byte);
                // The first byte stops a mode 0 count and pulls OUT down.
                if self.mode == 0 {
                    self.run = Run::Idle;
                }
                return;
            }
        };
        let count = if self.bcd { from_bcd(value) } else { value.into() };
        self.reload = if count == 0 { self.modulus() as u32 } else { count };
        self.armed = true;
        self.load(tick);
    }

    /// A count was written: when it takes effect depends on the mode.
    fn load(&mut self, tick: i64) {
        match (self.mode, self.run) {
            (0 | 4, _) => self.begin(tick),
            // Waits for the trigger.
            (1 | 5, _) => {}
            (_, Run::Since(start)) if tick >= start => self.switch_at = Some(self.next_boundary(tick)),
            _ => self.begin(tick),
        }
    }

    /// Loads the count on the next tick, or holds it until the gate opens.
    fn begin(&mut self, tick: i64) {
        self.count = self.reload;
        self.switch_at = None;
        self.run = if self.gate { Run::Since(tick + 1) } else { Run::Paused(0) };
    }

    /// Modes 2 and 3: the end of the period, or of the half-period.
    fn next_boundary(&self, tick: i64) -> i64 {
        let Run::Since(start) = self.run else { return tick };
        let n = i64::from(self.count);
        let phase = (tick - start) % n;
        let period = tick - phase;
        if self.mode == 3 && phase < self.high_ticks() && n > 1 {
            period + self.high_ticks()
        } else {
            period + n
        }
    }

    fn set_gate(&mut self, tick: i64, gate: bool) {
        let rising = gate && !self.gate;
        let falling = !gate && self.gate;
        self.gate = gate;
        match self.mode {
            0 | 4 if falling => {
                if let Run::Since(start) = self.run {
                    self.run = Run::Paused((tick - start).max(0));
                }
            }
            0 | 4 if rising => {
                if let Run::Paused(ticks) = self.run {
                    self.run = Run::Since(tick - ticks);
                }
            }
            2 | 3 if falling => {
                if let Run::Since(start) = self.run {
                    self.switch_at = None;
                    self.run = Run::Paused((tick - start).max(0));
                }
            }
            _ if rising && self.armed => self.begin(tick),
            _ => {}
        }
    }
}

fn to_bcd(value: u16) -> u16 {
    [1, 10, 100, 1000].iter().rev().fold(0, |bcd, unit| bcd << 4 | (value / unit % 10))
}

fn from_bcd(value: u16) -> u32 {
    (0..4).rev().fold(0, |sum, digit| sum * 10 + u32::from(value >> (4 * digit) & 0xf))
}

/// The timer that is armed for the next rising edge of counter 0.
const EDGE: TimerId = TimerId(0);

/// The interval timer and port 61h.
pub struct Pit {
    counters: [Counter; 3],
    port_b: u8,
    /// The tick for which the timer is armed.
    edge_at: Option<i64>,
    irq0: IrqLine,
}

impl Pit {
    /// A timer whose counter 0 drives `irq0`.
    pub fn new(irq0: IrqLine) -> Self {
        let counters = [Counter::new(true), Counter::new(true), Counter::new(false)];
        Self { counters, port_b: 0, edge_at: None, irq0 }
    }

    /// The speaker: counter 2's period in ticks of [`HZ`] while it makes a square wave and the speaker is on.
    pub fn speaker(&self) -> Option<u32> {
        let Self { counters: [_, _, tone], port_b, .. } = self;
        let sounding = port_b & 3 == 3 && tone.mode == 3 && tone.armed;
        sounding.then_some(tone.reload)
    }

    fn tick(cx: &Cx<'_>) -> i64 {
        cx.now().ticks(HZ) as i64
    }

    fn settle(&mut self, tick: i64) {
        self.counters.iter_mut().for_each(|c| c.settle(tick));
    }

    fn read_byte(&mut self, tick: i64, at: At) -> Result<u8, IoError> {
        match (at.region, at.offset) {
            (spec::COUNTERS, n @ 0..=2) => Ok(self.counters[n as usize].read(tick)),
            // The control word cannot be read.
            (spec::COUNTERS, spec::CONTROL) => Ok(0xff),
            (spec::PORT_B, 0) => Ok(self.read_port_b(tick)),
            _ => Err(IoError::Unclaimed),
        }
    }

    fn read_port_b(&self, tick: i64) -> u8 {
        let refresh = if (tick as u64 / spec::REFRESH_TICKS) % 2 == 1 { spec::REFRESH } else { 0 };
        let out2 = if self.counters[2].out(tick) { spec::OUT2 } else { 0 };
        self.port_b | refresh | out2
    }

    fn write_byte(&mut self, cx: &mut Cx<'_>, tick: i64, at: At, value: u8) -> Result<(), IoError> {
        match (at.region, at.offset) {
            (spec::COUNTERS, n @ 0..=2) => {
                self.counters[n as usize].write(tick, value);
                if n == 0 {
                    self.drive(cx, tick);
                }
            }
            (spec::COUNTERS, spec::CONTROL) => self.control(cx, tick, value),
            (spec::PORT_B, 0) => {
                self.port_b = value & spec::PORT_B_WRITABLE;
                self.counters[2].set_gate(tick, value & spec::GATE2 != 0);
            }
            _ => return Err(IoError::Unclaimed),
        }
        Ok(())
    }

    fn control(&mut self, cx: &mut Cx<'_>, tick: i64, word: u8) {
        let select = word >> 6;
        if select == spec::READ_BACK {
            self.read_back(tick, word);
        } else if word >> 4 & 3 == 0 {
            self.counters[usize::from(select)].latch_count(tick);
        } else {
            self.counters[usize::from(select)].control(word);
            if select == 0 {
                self.drive(cx, tick);
            }
        }
    }

    fn read_back(&mut self, tick: i64, word: u8) {
        let selected = self.counters.iter_mut().enumerate().filter(|(n, _)| word >> (n + 1) & 1 != 0);
        for (_, counter) in selected {
            if word & spec::NOT_COUNT == 0 {
                counter.latch_count(tick);
            }
            if word & spec::NOT_STATUS == 0 {
                counter.latch_status(tick);
            }
        }
    }

    /// Counter 0 was programmed: its line, and the next edge.
    fn drive(&mut self, cx: &mut Cx<'_>, tick: i64) {
        let counter = &self.counters[0];
        // The short low phases of the other modes come with the rise that ends them.
        let level = counter.mode != 0 || counter.out(tick);
        cx.set_irq(self.irq0, level);
        self.arm(cx, tick);
    }

    fn arm(&mut self, cx: &mut Cx<'_>, tick: i64) {
        self.edge_at = self.counters[0].next_rise(tick);
        match self.edge_at {
            Some(at) => cx.arm(EDGE, VmTime::of_ticks(at as u64, HZ)),
            None => cx.cancel(EDGE),
        }
    }
}

impl Device for Pit {
    fn reset(&mut self, cx: &mut Cx<'_>) {
        *self = Self::new(self.irq0);
        cx.set_irq(self.irq0, false);
        cx.cancel(EDGE);
    }

    fn pio(&mut self) -> Option<&mut dyn PortIo> {
        Some(self)
    }

    fn timer(&mut self, cx: &mut Cx<'_>, which: TimerId) {
        let tick = Self::tick(cx);
        if which != EDGE || self.edge_at.is_none_or(|at| tick < at) {
            return;
        }
        self.settle(tick);
        cx.set_irq(self.irq0, false);
        cx.set_irq(self.irq0, true);
        self.arm(cx, tick);
    }
}

impl PortIo for Pit {
    fn read(&mut self, cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        let tick = Self::tick(cx);
        self.settle(tick);
        isa::read_bytes(at, width, |at| self.read_byte(tick, at))
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError> {
        let tick = Self::tick(cx);
        self.settle(tick);
        isa::write_bytes(at, width, value, |at, byte| self.write_byte(cx, tick, at, byte))
    }
}

mod saved {
    use super::{Access, Counter, Pit, Run, spec};
    use aero_state::{RestoreError, Saved, Section};
    use serde::{Deserialize, Serialize};

    const KIND: &str = "i8254";

    #[derive(Serialize, Deserialize)]
    struct CounterStateV1 {
        mode: u8,
        access: Access,
        bcd: bool,
        gate: bool,
        reload: u32,
        count: u32,
        run: Run,
        switch_at: Option<i64>,
        armed: bool,
        low_byte: Option<u8>,
        read_high: bool,
        latched_count: Option<u16>,
        latched_status: Option<u8>,
    }

    #[derive(Serialize, Deserialize)]
    struct PitStateV1 {
        counters: [CounterStateV1; 3],
        port_b: u8,
        edge_at: Option<i64>,
    }

    impl From<Counter> for CounterStateV1 {
        fn from(counter: Counter) -> Self {
            let Counter {
                mode,
                access,
                bcd,
                gate,
                reload,
                count,
                run,
                switch_at,
                armed,
                low_byte,
                read_high,
                latched_count,
                latched_status,
            } = counter;
            Self {
                mode,
                access,
                bcd,
                gate,
                reload,
                count,
                run,
                switch_at,
                armed,
                low_byte,
                read_high,
                latched_count,
                latched_status,
            }
        }
    }

    /// Ticks of any real run, so that arithmetic on those of a damaged file cannot overflow.
    fn sane(tick: i64) -> i64 {
        const LIMIT: i64 = 1 << 56;
        tick.clamp(-LIMIT, LIMIT)
    }

    impl From<CounterStateV1> for Counter {
        fn from(s: CounterStateV1) -> Self {
            Self {
                mode: s.mode.min(5),
                access: s.access,
                bcd: s.bcd,
                gate: s.gate,
                reload: s.reload.clamp(1, 0x1_0000),
                count: s.count.clamp(1, 0x1_0000),
                run: match s.run {
                    Run::Idle => Run::Idle,
                    Run::Since(tick) => Run::Since(sane(tick)),
                    Run::Paused(ticks) => Run::Paused(sane(ticks).max(0)),
                },
                switch_at: s.switch_at.map(sane),
                armed: s.armed,
                low_byte: s.low_byte,
                read_high: s.read_high,
                latched_count: s.latched_count,
                latched_status: s.latched_status,
            }
        }
    }

    impl Saved for Pit {
        fn save(&self) -> Section {
            let Self { counters, port_b, edge_at, irq0: _ } = self;
            let counters = counters.map(CounterStateV1::from);
            Section::new(KIND, 1, &PitStateV1 { counters, port_b: *port_b, edge_at: *edge_at })
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let PitStateV1 { counters, port_b, edge_at } = section.decode(KIND, 1)?;
            self.counters = counters.map(Counter::from);
            self.port_b = port_b & spec::PORT_B_WRITABLE;
            self.edge_at = edge_at;
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
        pit: Pit,
        irq0: IrqLine,
    }

    impl Bench {
        fn new() -> Self {
            let mut board = TestBoard::new();
            let irq0 = board.line();
            Self { pit: Pit::new(irq0), board, irq0 }
        }

        /// Programs a counter with low and high byte.
        fn program(&mut self, counter: u8, mode: u8, count: u16) {
            self.out(3, counter << 6 | 0x30 | mode << 1);
            self.count(counter, count);
        }

        fn count(&mut self, counter: u8, count: u16) {
            for byte in count.to_le_bytes() {
                self.out(counter.into(), byte);
            }
        }

        fn out(&mut self, offset: u64, value: u8) {
            self.board.outb(&mut self.pit, 0, offset, value);
        }

        fn gate2(&mut self, gate: bool) {
            self.board.outb(&mut self.pit, 1, 0, gate.into());
        }

        fn inb(&mut self, offset: u64) -> u8 {
            self.board.inb(&mut self.pit, 0, offset)
        }

        fn out2(&mut self) -> bool {
            self.board.inb(&mut self.pit, 1, 0) & 0x20 != 0
        }

        fn latched(&mut self, counter: u8) -> u16 {
            self.out(3, counter << 6);
            let low = self.inb(counter.into());
            u16::from_le_bytes([low, self.inb(counter.into())])
        }

        fn status(&mut self, counter: u8) -> u8 {
            self.out(3, 0xe0 | 2 << counter);
            self.inb(counter.into())
        }

        /// Goes to the time of a tick.
        fn at(&mut self, tick: u64) {
            let ns = VmTime::of_ticks(tick, HZ).since(self.board.fabric.now());
            self.board.pass(&mut self.pit, ns);
        }

        /// Ticks of the rising edges of line 0 until `tick`.
        fn rises(&mut self, until: u64) -> Vec<u64> {
            let _ = self.board.fabric.take_line_changes();
            let mut seen = Vec::new();
            while let Some(at) = self.board.fabric.timers.next_deadline() {
                if at > VmTime::of_ticks(until, HZ) {
                    break;
                }
                let ns = at.since(self.board.fabric.now());
                self.board.pass(&mut self.pit, ns);
                if self.board.fabric.take_line_changes().iter().any(|c| c.level && c.line == self.irq0) {
                    seen.push(self.board.fabric.now().ticks(HZ));
                }
            }
            seen
        }
    }

    #[test]
    fn conforms() {
        conformance(&[0, 1], |board| Pit::new(board.line()));
    }

    #[test]
    fn mode_0_rises_after_its_count() {
        let mut b = Bench::new();
        b.program(0, 0, 100);
        assert!(!b.board.fabric.level(b.irq0));
        assert_eq!(b.rises(10_000), [101], "one tick to load, then 100");
        assert!(b.board.fabric.level(b.irq0));
        b.program(0, 0, 5);
        assert!(!b.board.fabric.level(b.irq0));
    }

    #[test]
    fn mode_0_counts_on_after_zero() {
        let mut b = Bench::new();
        b.program(0, 0, 3);
        b.at(1 + 2);
        assert_eq!(b.latched(0), 1);
        b.at(1 + 5);
        assert_eq!(b.latched(0), 0xfffe);
    }

    #[test]
    fn mode_2_rises_once_a_period_without_drift() {
        let mut b = Bench::new();
        b.program(0, 2, 11932);
        let rises = b.rises(119_320 * 5);
        let ideal: Vec<u64> = (1..50).map(|k| 1 + 11932 * k).collect();
        assert_eq!(rises, ideal);
    }

    #[test]
    fn mode_2_counts_from_n_to_1() {
        let mut b = Bench::new();
        b.program(0, 2, 4);
        let seen: Vec<u16> = (1..10)
            .map(|t| {
                b.at(t);
                b.latched(0)
            })
            .collect();
        assert_eq!(seen, [4, 3, 2, 1, 4, 3, 2, 1, 4]);
    }

    #[test]
    fn mode_2_output_is_low_for_the_last_tick() {
        let mut b = Bench::new();
        b.program(0, 2, 4);
        let seen: Vec<bool> = (1..9)
            .map(|t| {
                b.at(t);
                b.status(0) & 0x80 != 0
            })
            .collect();
        assert_eq!(seen, [true, true, true, false, true, true, true, false]);
    }

    #[test]
    fn mode_2_takes_a_new_count_at_the_end_of_the_period() {
        let mut b = Bench::new();
        b.program(0, 2, 100);
        b.at(51);
        b.count(0, 10);
        assert_eq!(b.status(0) & 0x40, 0x40, "not yet in use");
        assert_eq!(b.rises(125), [101, 111, 121]);
        assert_eq!(b.status(0) & 0x40, 0);
    }

    #[test]
    fn mode_3_is_a_square_wave_that_counts_by_two() {
        let mut b = Bench::new();
        b.program(0, 3, 6);
        let seen: Vec<(u16, bool)> = (1..8)
            .map(|t| {
                b.at(t);
                (b.latched(0), b.status(0) & 0x80 != 0)
            })
            .collect();
        assert_eq!(seen, [(6, true), (4, true), (2, true), (6, false), (4, false), (2, false), (6, true)]);
        assert_eq!(b.rises(20), [13, 19]);
    }

    #[test]
    fn mode_3_with_an_odd_count_is_high_one_tick_longer() {
        let mut b = Bench::new();
        b.program(0, 3, 5);
        let seen: Vec<(u16, bool)> = (1..7)
            .map(|t| {
                b.at(t);
                (b.latched(0), b.status(0) & 0x80 != 0)
            })
            .collect();
        assert_eq!(seen, [(4, true), (2, true), (0, true), (4, false), (2, false), (4, true)]);
    }

    #[test]
    fn mode_3_takes_a_new_count_at_the_half_period() {
        let mut b = Bench::new();
        b.program(0, 3, 100);
        b.at(11);
        b.count(0, 20);
        assert_eq!(b.rises(90), [61, 81], "high 50, low 10, then periods of 20");
    }

    #[test]
    fn mode_4_strobes_once() {
        let mut b = Bench::new();
        b.program(0, 4, 10);
        assert!(b.board.fabric.level(b.irq0));
        assert_eq!(b.rises(1000), [12], "low at 11, high again at 12");
        b.count(0, 10);
        assert_eq!(b.rises(2000).len(), 1, "a new count strobes again");
    }

    #[test]
    fn mode_1_and_5_wait_for_the_gate() {
        let mut b = Bench::new();
        b.program(2, 1, 10);
        b.at(50);
        assert!(b.out2());
        b.gate2(true);
        let seen: Vec<bool> = [51, 60, 61]
            .map(|t| {
                b.at(t);
                b.out2()
            })
            .to_vec();
        assert_eq!(seen, [false, false, true]);
        b.program(2, 5, 10);
        b.gate2(false);
        b.at(100);
        b.gate2(true);
        let seen: Vec<bool> = [110, 111, 112]
            .map(|t| {
                b.at(t);
                b.out2()
            })
            .to_vec();
        assert_eq!(seen, [true, false, true]);
    }

    // checklist: 49
    #[test]
    fn gate_of_counter_2_pauses_mode_0() {
        let mut b = Bench::new();
        b.gate2(true);
        b.program(2, 0, 100);
        b.at(41);
        b.gate2(false);
        b.at(1000);
        assert_eq!(b.latched(2), 60);
        b.gate2(true);
        b.at(1059);
        assert!(!b.out2());
        b.at(1060);
        assert!(b.out2());
    }

    // checklist: 49
    #[test]
    fn linux_calibration_sees_counter_2_fall() {
        let mut b = Bench::new();
        b.gate2(true);
        b.program(2, 0, 0xffff);
        b.at(1 + 0x1234);
        let low = b.inb(2);
        let high = b.inb(2);
        assert_eq!(u16::from_le_bytes([low, high]), 0xffff - 0x1234);
    }

    #[test]
    fn latch_holds_until_both_bytes_are_read() {
        let mut b = Bench::new();
        b.program(0, 2, 0x1000);
        b.at(0x101);
        b.out(3, 0);
        b.at(0x201);
        b.out(3, 0);
        assert_eq!((b.inb(0), b.inb(0)), (0x00, 0x0f));
        assert_eq!(b.latched(0), 0xe00);
    }

    #[test]
    fn read_back_gives_status_then_count() {
        let mut b = Bench::new();
        b.program(0, 2, 0x1000);
        b.at(0x101);
        b.out(3, 0xc2);
        assert_eq!([b.inb(0), b.inb(0), b.inb(0)], [0xb4, 0x00, 0x0f]);
    }

    #[test]
    fn low_byte_access_reads_and_writes_one_byte() {
        let mut b = Bench::new();
        b.out(3, 0x14);
        b.out(0, 200);
        b.at(1 + 50);
        assert_eq!([b.inb(0), b.inb(0)], [150, 150]);
        b.out(3, 0x24);
        b.out(0, 2);
        b.at(51 + 1 + 0x80);
        assert_eq!(b.inb(0), 1);
    }

    #[test]
    fn bcd_counts_in_decimal() {
        let mut b = Bench::new();
        b.out(3, 0x35);
        b.count(0, 0x1000);
        b.at(2);
        assert_eq!(b.latched(0), 0x0999);
        b.out(3, 0x31);
        b.count(0, 0);
        b.at(4);
        assert_eq!(b.latched(0), 0x9999);
    }

    #[test]
    fn count_of_zero_is_65536() {
        let mut b = Bench::new();
        b.program(0, 2, 0);
        assert_eq!(b.rises(140_000), [65_537, 131_073]);
    }

    #[test]
    fn edges_are_where_the_output_rises_whenever_a_count_is_written() {
        for (mode, first, second, when) in
            (0..6u8).flat_map(|m| [(m, 7, 4, 9), (m, 6, 9, 3), (m, 2, 5, 8), (m, 9, 2, 13), (m, 5, 1, 6)])
        {
            let mut counter = Counter::new(true);
            counter.control(0x10 | mode << 1);
            counter.write(0, first);
            let mut before = counter.out(0);
            for tick in 1..60 {
                let predicted = counter.next_rise(tick - 1) == Some(tick);
                counter.settle(tick);
                let rose = !before && counter.out(tick);
                assert_eq!(rose, predicted, "mode {mode} counts {first} {second} at {when}, tick {tick}");
                if tick == when {
                    counter.write(tick, second);
                }
                before = counter.out(tick);
            }
        }
    }

    #[test]
    fn late_timer_gives_one_edge_and_stays_on_the_grid() {
        let mut b = Bench::new();
        b.program(0, 2, 100);
        let _ = b.board.fabric.take_line_changes();
        b.board.fabric.advance_to(VmTime::of_ticks(1_050, HZ));
        let (_, which) = b.board.fabric.timers.take_due(b.board.fabric.now()).unwrap();
        b.pit.timer(&mut b.board.cx(), which);
        assert_eq!(b.board.fabric.take_line_changes().len(), 2);
        assert_eq!(b.rises(1_150), [1_101]);
    }

    #[test]
    fn other_counters_arm_no_timer() {
        let mut b = Bench::new();
        b.program(1, 2, 18);
        b.program(2, 3, 1000);
        assert_eq!(b.board.fabric.timers.next_deadline(), None);
    }

    #[test]
    fn refresh_bit_toggles() {
        let mut b = Bench::new();
        let seen: Vec<u8> = [0, 18, 36]
            .map(|t| {
                b.at(t);
                b.board.inb(&mut b.pit, 1, 0) & 0x10
            })
            .to_vec();
        assert_eq!(seen, [0, 0x10, 0]);
    }

    #[test]
    fn speaker_reports_its_period() {
        let mut b = Bench::new();
        b.program(2, 3, 1193);
        assert_eq!(b.pit.speaker(), None);
        b.board.outb(&mut b.pit, 1, 0, 3);
        assert_eq!(b.pit.speaker(), Some(1193));
    }
}
