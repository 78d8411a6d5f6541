//! The high-precision event timer on the board: beside the old clocks, in their place, and on pins of its own.

use crate::kernel::Reg::{Eax, Ebx};
use crate::kernel::{Asm, Mode, TestClock, When, boot, config, finish, machine, program, results};
use aero_machine::layout::{self, HPET_PIN, IOAPIC};
use aero_machine::{Config, Machine, Unclaimed};

const BASE: u32 = layout::HPET as u32;
const CONFIG: u32 = BASE + 0x10;
const COUNTER: u32 = BASE + 0xf0;
const TIMER_0: u32 = BASE + 0x100;
const TIMER_2: u32 = BASE + 0x140;
const ENABLE: u32 = 1;
const LEGACY: u32 = 2;
/// Periodic with its period to be set, interrupting.
const PERIODIC: u32 = 1 << 6 | 1 << 3 | 1 << 2;
const CLOCK_VECTOR: u8 = 0x20;
/// Ten milliseconds of the PIT, and of the HPET.
const PIT_COUNT: u16 = 11_932;
const PIT_TICKS: u32 = 1_000_000;
/// One millisecond of the HPET.
const HPET_TICKS: u32 = 100_000;

fn finished(hpet: bool, body: impl FnOnce(&mut Asm)) -> Machine {
    let config = Config { hpet, ..config() };
    let kernel = boot(program(Mode::Protected, body));
    let mut m = Machine::new(config, kernel, Box::new(TestClock::default())).expect("a small machine");
    finish(&mut m);
    m
}

/// Notes the counter at each interrupt of the clock's line and counts in EBX.
fn note_clock(a: &mut Asm) {
    a.handler(CLOCK_VECTOR, |a| {
        a.load(Eax, COUNTER);
        a.record(Eax);
        a.end_of_interrupt();
        a.inc(Ebx);
    });
    a.lidt();
}

/// Waits for three interrupts.
fn wait_for_three(a: &mut Asm) {
    a.mov_imm(Ebx, 0);
    let again = a.here();
    a.hlt();
    a.cmp_imm(Ebx, 3);
    a.jump_if(When::NotZero, again);
}

/// How far the second and the third of three moments lie behind those before.
fn distances(moments: &[u32]) -> [u32; 2] {
    [moments[1] - moments[0], moments[2] - moments[1]]
}

fn assert_about(distances: [u32; 2], ticks: u32) {
    assert!(distances.iter().all(|d| d.abs_diff(ticks) < ticks / 100), "{distances:?}, not {ticks}");
}

// checklist: 63
#[test]
fn legacy_replacement_takes_the_clock_line_and_gives_it_back() {
    let m = finished(true, |a| {
        note_clock(a);
        a.start_counter(0, 2, PIT_COUNT);
        a.start_pic(1);
        a.store_imm(CONFIG, ENABLE);
        a.sti();
        wait_for_three(a);
        a.store_imm(TIMER_0, PERIODIC);
        a.store_imm(TIMER_0 + 8, HPET_TICKS);
        a.store_imm(COUNTER, 0); // ignored: it runs
        a.store_imm(CONFIG, 0);
        a.store_imm(COUNTER, 0);
        a.store_imm(CONFIG, ENABLE | LEGACY);
        wait_for_three(a);
        a.store_imm(TIMER_0, 0);
        a.store_imm(CONFIG, ENABLE);
        wait_for_three(a);
        a.exit(0);
    });
    let noted = results(&m, 9);
    assert_about(distances(&noted[..3]), PIT_TICKS);
    assert_about(distances(&noted[3..6]), HPET_TICKS);
    // The first may be the rise of the line from one clock's level to the other's.
    assert_about([noted[8] - noted[7]; 2], PIT_TICKS);
    assert_eq!(m.unclaimed().count(), 0);
}

#[test]
fn real_time_clock_is_silent_while_its_line_is_replaced() {
    let m = finished(true, |a| {
        a.handler(0x28, |a| a.inc(Ebx));
        a.lidt();
        a.start_pic(1 << 2 | 1 << 8);
        // The periodic interrupt, 1,024 times a second: nobody reads register C, so it stays asserted.
        a.out(0x70, 0x0b);
        a.out(0x71, 0x42);
        a.store_imm(CONFIG, ENABLE | LEGACY);
        a.mov_imm(Ebx, 0);
        a.sti();
        let again = a.here();
        a.load(Eax, COUNTER);
        a.raw(&[0xc1, 0xe8, 20]); // shr eax, 20
        a.jump_if(When::Zero, again);
        a.record(Ebx);
        a.store_imm(CONFIG, ENABLE);
        a.load(Eax, COUNTER);
        a.record(Ebx);
        a.exit(0);
    });
    assert_eq!(results(&m, 2), [0, 1]);
}

#[test]
fn timer_interrupts_by_an_apic_pin_of_its_own() {
    let m = finished(true, |a| {
        a.handler(0x51, |a| {
            a.store_imm(layout::LAPIC as u32 + 0xb0, 0);
            a.inc(Ebx);
        });
        a.lidt();
        a.start_pic(0);
        a.store_imm(layout::LAPIC as u32 + 0xf0, 0x1ff);
        a.store_imm(IOAPIC as u32, 0x10 + 2 * u32::from(HPET_PIN));
        a.store_imm(IOAPIC as u32 + 0x10, 0x51);
        a.store_imm(TIMER_2, PERIODIC | u32::from(HPET_PIN) << 9);
        a.store_imm(TIMER_2 + 8, HPET_TICKS);
        a.store_imm(CONFIG, ENABLE);
        a.sti();
        wait_for_three(a);
        a.load(Eax, COUNTER);
        a.record(Eax);
        a.load(Eax, TIMER_2 + 4);
        a.record(Eax);
        a.exit(0);
    });
    let [counter, routes] = results(&m, 2)[..] else { panic!("two results") };
    assert!(counter.abs_diff(3 * HPET_TICKS) < HPET_TICKS / 100, "{counter}");
    assert_eq!(routes, 0xf << HPET_PIN);
}

#[test]
fn machine_of_old_has_no_such_timer() {
    let mut m = machine(program(Mode::Protected, |a| {
        a.load(Eax, BASE);
        a.record(Eax);
        a.exit(0);
    }));
    finish(&mut m);
    assert_eq!(results(&m, 1), [u32::MAX]);
    assert_eq!(m.unclaimed().collect::<Vec<_>>(), [Unclaimed::Memory(layout::HPET)]);
}
