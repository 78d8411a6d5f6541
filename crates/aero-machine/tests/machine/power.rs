//! How a run ends: exit, power-off, reset, triple fault.

use crate::kernel::Reg::Eax;
use crate::kernel::{Asm, MODES, Mode, TestClock, config, finish, machine, program, results, run};
use aero_machine::{Boot, Exit, Firmware, Machine, layout};

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

// checklist: 52
#[test]
fn s4_in_pm1_control_switches_off_and_cmos_memory_stays() {
    let mut m = machine(program(Mode::Protected, |a| {
        a.out(0x70, 0x50);
        a.inb(0x71);
        a.out_al(crate::kernel::COM1);
        a.out(0x70, 0x50);
        a.out(0x71, b'x');
        a.out16(0x604, 0x2801);
        a.halt_for_ever();
    }));
    assert_eq!(run(&mut m), Exit::Shutdown);
    assert_ne!(m.take_serial(), b"x");
    m.reset().expect("the kernel loads again");
    assert_eq!(run(&mut m), Exit::Shutdown);
    assert_eq!(m.take_serial(), b"x");
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

// checklist: 53
#[test]
fn reset_by_the_acpi_reset_register_starts_the_kernel_again() {
    let board = layout::board(1, layout::PM_BASE, false);
    assert_resets(|a| a.out(board.reset_port, board.reset_value));
}

// checklist: 53
#[test]
fn every_reset_starts_firmware_again() {
    // In real mode, at the reset vector: write the port as often as it takes.
    for (port, values) in [(0xcf9u16, &[2, 6][..]), (0x92, &[1]), (0x64, &[0xfe])] {
        let mut rom = vec![0xf4; 64 << 10];
        let [low, high] = port.to_le_bytes();
        let mut code = vec![0xba, low, high, 0xb0, b'^', 0xe6, 0xe9]; // mov dx, port; mov al, '^'; out E9h, al
        values.iter().for_each(|value| code.extend([0xb0, *value, 0xee])); // mov al, value; out dx, al
        rom[..code.len()].copy_from_slice(&code);
        rom[0xfff0..0xfff5].copy_from_slice(&[0xea, 0, 0, 0, 0xf0]); // jmp F000:0000
        let firmware = Boot::Firmware(Firmware { rom, ..Firmware::default() });
        let mut m = Machine::new(config(), firmware, Box::new(TestClock::default())).expect("a machine");
        for turn in 0..3 {
            assert_eq!(run(&mut m), Exit::Reset, "port {port:#x}, turn {turn}");
            assert_eq!(m.take_debugcon(0), b"^", "port {port:#x}, turn {turn}");
            m.reset().expect("firmware stays");
        }
    }
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
