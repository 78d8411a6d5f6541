//! How a run ends: exit, power-off, reset, triple fault.

use crate::kernel::Reg::Eax;
use crate::kernel::{Asm, MODES, Mode, finish, machine, program, results, run};
use aero_machine::Exit;

/// A machine that runs `body` after it has said something.
fn speaking(mode: Mode, body: impl FnOnce(&mut Asm)) -> aero_machine::Machine {
    machine(program(mode, |a| {
        a.print("up ");
        body(a);
        a.print("not reached");
        a.halt_for_ever();
    }))
}

#[test]
fn debug_exit_ends_the_run_with_its_status() {
    for mode in MODES {
        assert_eq!(run(&mut speaking(mode, |a| a.exit(0x2a))), Exit::DebugExit(0x55), "{mode:?}");
    }
}

// checklist: 51
#[test]
fn s5_in_pm1_control_switches_off() {
    let mut m = speaking(Mode::Protected, |a| a.out16(0x604, 0x2000));
    assert_eq!(run(&mut m), Exit::Shutdown);
    assert_eq!(m.take_serial(), b"up ");
}

/// Runs to the reset that `how` asks for, resets, and does it again.
fn assert_resets(how: impl FnOnce(&mut Asm)) {
    let mut m = speaking(Mode::Protected, how);
    for turn in 0..3 {
        assert_eq!(run(&mut m), Exit::Reset, "turn {turn}");
        assert_eq!(m.take_serial(), b"up ", "turn {turn}");
        m.reset().expect("the kernel loads again");
    }
}

// checklist: 53
#[test]
fn reset_by_cf9_starts_the_kernel_again() {
    assert_resets(|a| {
        a.out(0xcf9, 0x02);
        a.out(0xcf9, 0x06);
    });
}

#[test]
fn reset_by_port_92_starts_the_kernel_again() {
    assert_resets(|a| a.out(0x92, 0x01));
}

// checklist: 53
#[test]
fn reset_by_the_keyboard_controller_starts_the_kernel_again() {
    assert_resets(|a| a.out(0x64, 0xfe));
}

#[test]
fn devices_are_at_power_on_after_a_reset() {
    const SCRATCH: u16 = crate::kernel::COM1 + 7;
    let mut m = machine(program(Mode::Long, |a| {
        a.inb(SCRATCH);
        a.out_al(crate::kernel::COM1);
        a.out(SCRATCH, b'x');
        a.inb(SCRATCH);
        a.out_al(crate::kernel::COM1);
        a.out(0x92, 1);
        a.halt_for_ever();
    }));
    assert_eq!(run(&mut m), Exit::Reset);
    let first = m.take_serial();
    assert_eq!(first[1], b'x');
    m.reset().expect("the kernel loads again");
    assert_eq!(run(&mut m), Exit::Reset);
    assert_eq!(m.take_serial(), first);
}

#[test]
fn code_that_overwrote_itself_is_whole_again_after_a_reset() {
    let mut m = machine(program(Mode::Protected, |a| {
        // The first byte that is printed, in its own MOV.
        let byte = a.address() as u32 + 1;
        a.print("a");
        a.store_byte(byte, b'b');
        a.out(0x92, 1);
        a.halt_for_ever();
    }));
    for _ in 0..2 {
        assert_eq!(run(&mut m), Exit::Reset);
        assert_eq!(m.take_serial(), b"a");
        m.reset().expect("the kernel loads again");
    }
}

#[test]
fn triple_fault_names_rip_and_stays() {
    for mode in MODES {
        let mut at = 0;
        let mut m = speaking(mode, |a| {
            at = a.address();
            a.ud2();
        });
        let fault = run(&mut m);
        let Exit::Fault(report) = &fault else { panic!("{mode:?}: {fault:?}") };
        assert!(report.contains("triple fault") && report.contains(&format!("rip {at:#x}")), "{report}");
        let retired = m.retired();
        assert_eq!(m.run(1000), fault, "{mode:?}");
        assert_eq!(m.retired(), retired, "{mode:?}");
    }
}

#[test]
fn reset_leads_out_of_a_triple_fault() {
    let mut m = speaking(Mode::Long, Asm::ud2);
    for _ in 0..2 {
        assert!(matches!(run(&mut m), Exit::Fault(_)));
        assert_eq!(m.take_serial(), b"up ");
        m.reset().expect("the kernel loads again");
    }
}

// checklist: 51
#[test]
fn power_button_raises_the_system_control_interrupt() {
    use crate::kernel::Reg::Eax;
    const PWRBTN: u16 = 1 << 8;
    let mut m = machine(program(Mode::Long, |a| {
        // IRQ 9.
        a.handler(0x29, |a| {
            a.inw(0x600);
            a.record(Eax);
            a.out16(0x600, PWRBTN);
            a.out(0xa0, 0x20);
            a.end_of_interrupt();
        });
        a.lidt();
        a.start_pic(1 << 2 | 1 << 9);
        a.out(0xb2, 0xf1);
        a.out16(0x602, PWRBTN);
        a.sti();
        a.halt_for_ever();
    }));
    assert_eq!(run(&mut m), Exit::Idle { until: None });
    for presses in 1..3 {
        m.power_button();
        assert_eq!(run(&mut m), Exit::Idle { until: None });
        let seen = crate::kernel::results(&m, 3);
        let pressed = seen.iter().filter(|s| **s & u32::from(PWRBTN) != 0).count();
        assert_eq!(pressed, presses, "{seen:x?}");
    }
}

#[test]
fn reset_restarts_the_time_stamp_counter() {
    let mut m = machine(program(Mode::Long, |a| {
        a.rdtsc();
        a.record(Eax);
        a.exit(0);
    }));
    finish(&mut m);
    let first = results(&m, 1)[0];
    m.reset().expect("the same kernel");
    finish(&mut m);
    assert!(results(&m, 1)[0] <= first, "{} after {first}", results(&m, 1)[0]);
}
