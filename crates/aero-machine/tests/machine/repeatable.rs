//! Runs under the instruction-count clock are the same, however they are cut.

use crate::kernel::Reg::{Eax, Ebx, Ecx, Edi, Edx, Esi};
use crate::kernel::{Asm, COM1, MODES, Mode, When, machine, program, results, run_in_slices};
use aero_machine::Exit;

const SLICES: [u64; 6] = [1, 2, 7, 1000, 65_537, 10_000_000];
const TEXT: u32 = 0xb_8000;
const IOAPIC: u32 = aero_machine::layout::IOAPIC as u32;
const LAPIC: u32 = aero_machine::layout::LAPIC as u32;

/// Prints a register, low byte first.
fn print_register(a: &mut Asm, reg: crate::kernel::Reg) {
    a.mov(Eax, reg);
    for _ in 0..4 {
        a.out_al(COM1);
        a.raw(&[0xc1, 0xe8, 8]); // shr eax, 8
    }
}

/// Interrupts from the PIT, time-stamp counter, RTC, serial, screen, halts, a string instruction.
fn busy_program(mode: Mode) -> Vec<u8> {
    program(mode, |a| {
        a.mov_imm(Ebx, 0);
        a.handler(0x20, |a| {
            a.inc(Ebx);
            a.rdtsc();
            a.store(TEXT, Eax);
            a.end_of_interrupt();
        });
        a.lidt();
        a.start_counter(0, 2, 300);
        a.start_pic(1);
        a.sti();
        a.repeat(Esi, 40, |a| {
            a.repeat(Ecx, 500, |_| {});
            a.rdtsc();
            a.out_al(COM1);
            a.out(0x70, 0);
            a.inb(0x71);
            a.out_al(COM1);
            a.inl(0x608);
            a.out_al(COM1);
            print_register(a, Ebx);
            a.hlt();
            a.store(TEXT + 160, Ebx);
            a.mov_imm(crate::kernel::Reg::Edi, 0x8_8000);
            a.mov_imm(Ecx, 300);
            a.raw(&[0xf3, 0xaa]); // rep stosb
        });
        a.cli();
        print_register(a, Ebx);
        a.exit(0);
    })
}

/// What must be the same.
#[derive(PartialEq, Eq, Debug)]
struct Outcome {
    exit: Exit,
    serial: Vec<u8>,
    retired: u64,
    virtual_ns: u64,
    screen: String,
}

fn outcome(kernel: &[u8], budget: u64) -> Outcome {
    let mut m = machine(kernel.to_vec());
    let exit = run_in_slices(&mut m, budget);
    Outcome {
        exit,
        serial: m.take_serial(),
        retired: m.retired(),
        virtual_ns: m.now().0,
        screen: m.screen_text(),
    }
}

#[test]
fn two_runs_are_identical() {
    for mode in MODES {
        let kernel = busy_program(mode);
        let first = outcome(&kernel, 1_000_000);
        assert_eq!(first.exit, Exit::DebugExit(1), "{mode:?}");
        assert_eq!(first.serial.len(), 40 * 7 + 4, "{mode:?}");
        assert!(!first.screen.trim().is_empty(), "{mode:?}");
        assert_eq!(first, outcome(&kernel, 1_000_000), "{mode:?}");
    }
}

#[test]
fn slicing_does_not_change_a_run() {
    for mode in MODES {
        let kernel = busy_program(mode);
        let whole = outcome(&kernel, 1_000_000);
        for budget in SLICES {
            assert_eq!(outcome(&kernel, budget), whole, "{mode:?}, {budget} instructions at a time");
        }
    }
}

#[test]
fn budget_is_exact() {
    let mut m = machine(program(Mode::Long, |a| {
        let busy = a.here();
        a.inc(Ecx);
        a.jmp(busy);
    }));
    let mut retired = 0;
    for budget in [1, 2, 3, 1000, 7, 123_456] {
        assert_eq!(m.run(budget), Exit::Budget);
        retired += budget;
        assert_eq!(m.retired(), retired);
    }
}

#[test]
fn unlimited_budget_runs_to_the_exit_with_no_timer_armed() {
    let kernel = program(Mode::Long, |a| {
        a.repeat(Ecx, 1000, |_| {});
        a.exit(0);
    });
    assert_eq!(outcome(&kernel, u64::MAX), outcome(&kernel, 1_000_000));
    let kernel = busy_program(Mode::Long);
    assert_eq!(outcome(&kernel, u64::MAX), outcome(&kernel, 1_000_000));
}

/// Counts until it has been interrupted eight times on `vector`, and records the counts.
fn counting(
    mode: Mode,
    vector: u8,
    start: impl FnOnce(&mut Asm),
    end_of_interrupt: impl FnOnce(&mut Asm),
) -> Vec<u8> {
    program(mode, |a| {
        a.mov_imm(Ecx, 0);
        a.mov_imm(Ebx, 8);
        a.handler(vector, |a| {
            a.record(Ecx);
            end_of_interrupt(a);
            a.dec(Ebx);
            let more = a.label();
            a.jump_if(When::NotZero, more);
            a.exit(0);
            a.bind(more);
        });
        a.lidt();
        start(a);
        a.sti();
        let busy = a.here();
        // Blocks of other lengths than the slices.
        (0..5).for_each(|_| a.inc(Ecx));
        a.jmp(busy);
    })
}

/// The counts are the same in every slicing, and between two of them lie about `period` turns of the counter.
fn assert_same_counts(kernel: &[u8], period: u32) {
    let counts = SLICES.map(|budget| {
        let mut m = machine(kernel.to_vec());
        assert_eq!(run_in_slices(&mut m, budget), Exit::DebugExit(1));
        results(&m, 8)
    });
    assert!(counts.iter().all(|c| *c == counts[0]), "{SLICES:?} instructions at a time: {counts:?}");
    for pair in counts[0].windows(2) {
        // Of six instructions five count; the handler has a few.
        let turns = (pair[1] - pair[0]) * 6 / 5;
        assert!((period - 50..=period + 50).contains(&turns), "{counts:?}");
    }
}

#[test]
fn counter_is_interrupted_by_the_pit_at_the_same_count_in_every_slicing() {
    for mode in MODES {
        let start = |a: &mut Asm| {
            // Just under a tenth of a millisecond.
            a.start_counter(0, 2, 119);
            a.start_pic(1);
        };
        assert_same_counts(&counting(mode, 0x20, start, Asm::end_of_interrupt), 9973);
    }
}

/// Starts the local APIC's timer: periodic, vector 40h, every `ns` nanoseconds.
fn start_apic_timer(a: &mut Asm, ns: u32) {
    a.store_imm(LAPIC + 0xf0, 0x1ff);
    a.store_imm(LAPIC + 0x3e0, 0xb);
    a.store_imm(LAPIC + 0x320, 1 << 17 | 0x40);
    a.store_imm(LAPIC + 0x380, ns);
}

#[test]
fn counter_is_interrupted_by_the_apic_timer_at_the_same_count_in_every_slicing() {
    let start = |a: &mut Asm| start_apic_timer(a, 100_000);
    let end = |a: &mut Asm| a.store_imm(LAPIC + 0xb0, 0);
    assert_same_counts(&counting(Mode::Protected, 0x40, start, end), 10_000);
}

#[test]
fn apic_timer_armed_while_a_later_timer_runs_is_not_late() {
    let start = |a: &mut Asm| {
        a.start_counter(0, 2, 0);
        a.start_pic(0);
        start_apic_timer(a, 100_000);
    };
    let end = |a: &mut Asm| a.store_imm(LAPIC + 0xb0, 0);
    assert_same_counts(&counting(Mode::Protected, 0x40, start, end), 10_000);
}

/// Eight deadlines of 200,000 TSC ticks each (100 us), armed anew by the handler.
#[test]
fn counter_is_interrupted_by_tsc_deadlines_at_the_same_count_in_every_slicing() {
    const DEADLINE: u32 = 0x6e0;
    fn arm(a: &mut Asm) {
        a.push(Ecx);
        a.rdtsc();
        a.raw(&[0x05]); // add eax, imm32
        a.raw(&200_000u32.to_le_bytes());
        a.raw(&[0x83, 0xd2, 0]); // adc edx, 0
        a.mov_imm(Ecx, DEADLINE);
        a.raw(&[0x0f, 0x30]); // wrmsr
        a.pop(Ecx);
    }
    let start = |a: &mut Asm| {
        a.start_pic(0);
        a.store_imm(LAPIC + 0xf0, 0x1ff);
        a.store_imm(LAPIC + 0x320, 2 << 17 | 0x40);
        arm(a);
    };
    let end = |a: &mut Asm| {
        a.store_imm(LAPIC + 0xb0, 0);
        arm(a);
    };
    assert_same_counts(&counting(Mode::Protected, 0x40, start, end), 10_000);
}

#[test]
fn counter_is_interrupted_by_the_pit_through_the_io_apic_at_the_same_count_in_every_slicing() {
    let start = |a: &mut Asm| {
        a.start_counter(0, 2, 119);
        a.start_pic(0);
        a.store_imm(LAPIC + 0xf0, 0x1ff);
        a.store_imm(IOAPIC, 0x10 + 2 * 2);
        a.store_imm(IOAPIC + 0x10, 0x40);
    };
    let end = |a: &mut Asm| a.store_imm(LAPIC + 0xb0, 0);
    assert_same_counts(&counting(Mode::Protected, 0x40, start, end), 9973);
}

#[test]
fn interrupt_sent_to_oneself_is_taken_at_the_next_instruction() {
    const TO_SELF: u32 = 1 << 18;
    let kernel = program(Mode::Protected, |a| {
        a.mov_imm(Ecx, 0);
        a.handler(0x40, |a| {
            a.record(Ecx);
            a.store_imm(LAPIC + 0xb0, 0);
        });
        a.lidt();
        a.start_pic(0);
        a.store_imm(LAPIC + 0xf0, 0x1ff);
        a.sti();
        a.store_imm(LAPIC + 0x300, TO_SELF | 0x40);
        (0..4).for_each(|_| a.inc(Ecx));
        a.exit(0);
    });
    for budget in SLICES {
        let mut m = machine(kernel.clone());
        assert_eq!(run_in_slices(&mut m, budget), Exit::DebugExit(1));
        assert_eq!(results(&m, 2), [0, 0], "{budget} instructions at a time");
        assert_eq!(m.stats().cpu.interrupts, 1);
    }
}

/// What `kernel` has recorded, for slices of several lengths: the same.
fn assert_same_results(kernel: &[u8], count: usize) {
    let seen = SLICES.map(|budget| {
        let mut m = machine(kernel.to_vec());
        assert_eq!(run_in_slices(&mut m, budget), Exit::DebugExit(1));
        results(&m, count)
    });
    assert!(seen.windows(2).all(|w| w[0] == w[1]), "{seen:?}");
}

#[test]
fn time_in_the_shadow_of_sti_is_the_same_in_every_slicing() {
    for mode in MODES {
        let kernel = program(mode, |a| {
            for _ in 0..4 {
                a.cli();
                a.sti();
                a.rdtsc();
                a.record(Eax);
            }
            a.exit(0);
        });
        assert_same_results(&kernel, 4);
    }
}

#[test]
fn each_iteration_of_a_repeated_input_has_its_own_time() {
    const BUFFER: u32 = 0x30_0000;
    const COUNT: u32 = 64;
    let kernel = program(Mode::Protected, |a| {
        // Counter 0 counts down; its bytes are read in turn.
        a.start_counter(0, 2, 0);
        a.mov_imm(Edi, BUFFER);
        a.mov_imm(Ecx, COUNT);
        a.mov_imm(Edx, 0x40);
        a.raw(&[0xfc, 0xf3, 0x6c]);
        for n in 0..COUNT / 4 {
            a.load(Eax, BUFFER + n * 4);
            a.record(Eax);
        }
        a.exit(0);
    });
    assert_same_results(&kernel, (COUNT / 4) as usize);
}
