//! Idle time, the host's clock, and clocks that agree.

use crate::kernel::Reg::{Eax, Ebx, Ecx};
use crate::kernel::{
    Asm, MODES, Mode, TestClock, When, boot, config, finish, machine, program, realtime_machine, results, run,
};
use aero_machine::{ClockConfig, Config, Exit, Machine, VmTime, WallClock, layout};
use std::cell::Cell;
use std::rc::Rc;

const PIT_HZ: u64 = 1_193_182;
const PM_TIMER_HZ: u64 = 3_579_545;
/// Ticks of the time-stamp counter in a nanosecond.
const TSC_PER_NS: u64 = 2;
const PIT_VECTOR: u8 = 0x20;
/// Ten milliseconds of the PIT.
const COUNT: u16 = 11_932;

fn pit_ns(ticks: u64) -> u64 {
    VmTime::of_ticks(ticks, PIT_HZ).0
}

/// Starts the PIT before the 8259s: in mode 2 OUT goes high at once, an edge that is not a tick.
fn start_ticks(a: &mut Asm) {
    a.start_counter(0, 2, COUNT);
    a.start_pic(1);
}

/// Halts; every PIT interrupt prints a dot; the `ticks`th ends the run.
fn ticking(mode: Mode, ticks: u32) -> Vec<u8> {
    program(mode, |a| {
        a.mov_imm(Ebx, ticks);
        a.handler(PIT_VECTOR, |a| {
            a.print(".");
            a.end_of_interrupt();
            a.dec(Ebx);
            let more = a.label();
            a.jump_if(When::NotZero, more);
            a.exit(0);
            a.bind(more);
        });
        a.lidt();
        start_ticks(a);
        a.sti();
        a.halt_for_ever();
    })
}

#[test]
fn halt_with_interrupts_off_and_nothing_armed_is_idle_without_end() {
    for mode in MODES {
        let mut m = machine(program(mode, |a| {
            a.cli();
            a.halt_for_ever();
        }));
        assert_eq!(run(&mut m), Exit::Idle { until: None }, "{mode:?}");
        let retired = m.retired();
        assert_eq!(m.run(1000), Exit::Idle { until: None }, "{mode:?}");
        assert_eq!(m.retired(), retired, "{mode:?}");
    }
}

#[test]
fn halt_with_interrupts_off_and_a_running_timer_gives_the_host_its_thread_back() {
    let mut m = machine(program(Mode::Long, |a| {
        start_ticks(a);
        a.cli();
        a.halt_for_ever();
    }));
    assert!(matches!(m.run(1_000_000), Exit::Budget | Exit::Idle { .. }));
}

#[test]
fn idle_time_is_jumped_when_instructions_are_the_clock() {
    for mode in MODES {
        let mut m = machine(ticking(mode, 100));
        finish(&mut m);
        assert_eq!(m.take_serial(), [b'.'; 100]);
        let (want, got) = (pit_ns(100 * u64::from(COUNT)), m.now().0);
        assert!((want..want + 100_000).contains(&got), "{mode:?}: {want} ns expected, {got} passed");
        assert!(m.retired() < 4000, "{mode:?}: {} instructions", m.retired());
    }
}

#[test]
fn idle_machine_tells_the_host_when_to_come_back_and_goes_on_then() {
    let (mut m, clock) = realtime_machine(ticking(Mode::Long, 3));
    for dots in 0..3 {
        let now = m.now();
        let Exit::Idle { until: Some(until) } = run(&mut m) else { panic!("not idle") };
        assert!(until > now, "{until:?} is not after {now:?}");
        assert!(until.since(now) <= pit_ns(u64::from(COUNT) + 1) + 1, "{until:?} is too late after {now:?}");
        assert_eq!(m.take_serial().len(), usize::from(dots > 0));
        clock.set(until.0 - 1);
        assert_eq!(run(&mut m), Exit::Idle { until: Some(until) }, "a nanosecond early");
        clock.set(until.0);
    }
    finish(&mut m);
}

#[test]
fn input_ends_idleness_before_its_time() {
    let (mut m, _clock) = realtime_machine(program(Mode::Protected, |a| {
        a.handler(0x21, |a| {
            a.inb(0x60);
            a.exit(0);
        });
        a.lidt();
        a.start_counter(0, 2, COUNT);
        a.start_pic(1 << 0 | 1 << 1);
        a.sti();
        a.halt_for_ever();
    }));
    assert!(matches!(run(&mut m), Exit::Idle { until: Some(_) }));
    m.inject_browser_key("KeyA", true);
    finish(&mut m);
}

#[test]
fn virtual_time_stands_still_between_pause_and_resume() {
    let (mut m, clock) = realtime_machine(ticking(Mode::Protected, 2));
    clock.set(1000);
    assert!(matches!(run(&mut m), Exit::Idle { .. }));
    assert_eq!(m.now(), VmTime(1000));
    m.pause();
    clock.set(3_600_000_000_000);
    assert_eq!(m.now(), VmTime(1000));
    assert!(matches!(run(&mut m), Exit::Idle { until: Some(_) }));
    assert_eq!((m.now(), m.take_serial().len()), (VmTime(1000), 0));
    m.pause();
    m.resume();
    assert_eq!(m.now(), VmTime(1000));
    clock.set(3_600_000_000_500);
    m.resume();
    assert_eq!(m.now(), VmTime(1500));
}

/// A clock that goes on a step each time it is read.
struct Stepping {
    now: u64,
    reads_after_due: Rc<Cell<u64>>,
    reads: Rc<Cell<u64>>,
}

impl Stepping {
    const STEP: u64 = 100_000;
    const DUE: u64 = 10_000_000;
}

impl WallClock for Stepping {
    fn now_ns(&mut self) -> u64 {
        self.now += Self::STEP;
        self.reads.set(self.reads.get() + 1);
        if self.now > Self::DUE + 100 * Self::STEP {
            self.reads_after_due.set(self.reads_after_due.get() + 1);
        }
        self.now
    }
}

#[test]
fn interrupt_is_taken_within_10000_instructions_of_its_time_under_realtime() {
    let (reads, late) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let clock = Stepping { now: 0, reads: reads.clone(), reads_after_due: late.clone() };
    let kernel = program(Mode::Long, |a| {
        a.handler(PIT_VECTOR, |a| a.exit(0));
        a.lidt();
        a.start_pic(1);
        a.start_counter(0, 0, COUNT);
        a.sti();
        let busy = a.here();
        a.inc(Ecx);
        a.jmp(busy);
    });
    let config = Config { clock: ClockConfig::Realtime, ..config() };
    let mut m = Machine::new(config, boot(kernel), Box::new(clock)).expect("a small machine");
    assert_eq!(m.run(u64::MAX >> 2), Exit::DebugExit(1));
    let most = reads.get() * 10_000;
    assert!(m.retired() <= most, "{} instructions, {} looks at the clock", m.retired(), reads.get());
    assert!(late.get() <= 20, "{} looks at the clock after the interrupt was due", late.get());
}

/// What the program reads at both ends of the interval, in this order.
#[derive(Debug)]
struct Reading {
    tsc: u32,
    pm: u32,
    lapic: u32,
}

/// Reads every clock.
fn read_clocks(a: &mut Asm) {
    a.rdtsc();
    a.record(Eax);
    a.inl(0x608);
    a.record(Eax);
    a.load(Eax, layout::LAPIC as u32 + 0x390);
    a.record(Eax);
}

#[test]
fn clocks_agree_over_an_interval() {
    const TICKS: u16 = 1000;
    let kernel = program(Mode::Protected, |a| {
        const LAPIC: u32 = layout::LAPIC as u32;
        a.store_imm(LAPIC + 0xf0, 0x1ff);
        a.store_imm(LAPIC + 0x320, 1 << 16);
        a.store_imm(LAPIC + 0x3e0, 0xb);
        a.store_imm(LAPIC + 0x380, u32::MAX);
        a.out(0x61, 1);
        a.out(0x43, 0xb0);
        a.out(0x42, TICKS as u8);
        // The count begins with its high byte.
        a.mov_imm(Eax, u32::from(TICKS >> 8));
        a.out_al(0x42);
        read_clocks(a);
        a.poll(0x61, 1 << 5);
        read_clocks(a);
        a.exit(0);
    });
    let config = Config { clock: ClockConfig::Icount { mips: 1000 }, ..config() };
    let mut m = Machine::new(config, boot(kernel), Box::new(TestClock::default())).expect("a small machine");
    finish(&mut m);
    let r = results(&m, 6);
    let reading = |n: usize| Reading { tsc: r[n], pm: r[n + 1], lapic: r[n + 2] };
    let (start, end) = (reading(0), reading(3));
    let intervals = [
        ("TSC", u64::from(end.tsc - start.tsc) / TSC_PER_NS),
        ("PM timer", VmTime::of_ticks(((end.pm - start.pm) & 0xff_ffff).into(), PM_TIMER_HZ).0),
        ("LAPIC timer", u64::from(start.lapic - end.lapic)),
    ];
    // In mode 0 OUT rises one tick after the count is through.
    let pit = pit_ns(u64::from(TICKS) + 1);
    // A tick of the coarsest clock and the few instructions between two readings.
    let tolerance = pit_ns(1) + 50;
    for (name, ns) in intervals {
        assert!(ns.abs_diff(pit) <= tolerance, "{name}: {ns} ns, PIT {pit} ns; {start:?} {end:?}");
    }
    let spread = intervals.map(|(_, ns)| ns);
    let spread = spread.iter().max().expect("three") - spread.iter().min().expect("three");
    assert!(spread <= VmTime::of_ticks(1, PM_TIMER_HZ).0 + 50, "{intervals:?}");
}

#[test]
fn one_shot_interrupt_comes_on_its_tick() {
    let mut m = machine(program(Mode::Long, |a| {
        a.handler(PIT_VECTOR, |a| {
            a.rdtsc();
            a.record(Eax);
            a.exit(0);
        });
        a.lidt();
        a.start_pic(1);
        a.sti();
        a.start_counter(0, 0, COUNT);
        a.rdtsc();
        a.record(Eax);
        let busy = a.here();
        a.jmp(busy);
    }));
    finish(&mut m);
    let [start, end] = results(&m, 2)[..] else { unreachable!("two results") };
    let (want, got) = (pit_ns(u64::from(COUNT) + 1), u64::from(end - start) / TSC_PER_NS);
    assert!(got.abs_diff(want) <= pit_ns(1) + 100, "{got} ns, {want} expected");
}
