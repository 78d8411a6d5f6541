//! The keyboard.

use crate::kernel::Reg::Eax;
use crate::kernel::{Mode, machine, program, results, run};
use aero_machine::{Exit, Machine};

/// A machine that records every byte of port 60h when IRQ 1 tells of it.
fn listening(mode: Mode) -> Machine {
    let mut m = machine(program(mode, |a| {
        a.handler(0x21, |a| {
            a.inb(0x60);
            a.record(Eax);
            a.end_of_interrupt();
        });
        a.lidt();
        a.start_pic(1 << 1);
        a.sti();
        a.halt_for_ever();
    }));
    assert_eq!(run(&mut m), Exit::Idle { until: None });
    m
}

#[test]
fn key_interrupts_with_its_set_1_codes() {
    for mode in crate::kernel::MODES {
        let mut m = listening(mode);
        m.inject_browser_key("KeyA", true);
        assert_eq!(run(&mut m), Exit::Idle { until: None });
        assert_eq!(results(&m, 2), [0x1e, 0], "{mode:?}");
        m.inject_browser_key("KeyA", false);
        assert_eq!(run(&mut m), Exit::Idle { until: None });
        assert_eq!(results(&m, 3), [0x1e, 0x9e, 0], "{mode:?}");
    }
}

#[test]
fn extended_key_interrupts_twice() {
    let mut m = listening(Mode::Long);
    m.inject_browser_key("ArrowUp", true);
    m.inject_browser_key("ArrowUp", false);
    assert_eq!(run(&mut m), Exit::Idle { until: None });
    assert_eq!(results(&m, 5), [0xe0, 0x48, 0xe0, 0xc8, 0]);
}

#[test]
fn unknown_key_is_ignored() {
    let mut m = listening(Mode::Protected);
    m.inject_browser_key("NoSuchKey", true);
    assert_eq!(run(&mut m), Exit::Idle { until: None });
    assert_eq!(results(&m, 1), [0]);
}

#[test]
fn typed_text_comes_as_keys_in_order() {
    let mut m = listening(Mode::Long);
    m.type_text("Aa\n");
    assert_eq!(run(&mut m), Exit::Idle { until: None });
    assert_eq!(results(&m, 9), [0x2a, 0x1e, 0x9e, 0xaa, 0x1e, 0x9e, 0x1c, 0x9c, 0]);
}

#[test]
fn text_typed_before_the_guest_listens_is_not_lost() {
    let mut m = machine(program(Mode::Protected, |a| {
        a.cli();
        a.repeat(crate::kernel::Reg::Ecx, 4, |a| {
            a.poll(0x64, 1);
            a.inb(0x60);
            a.record(Eax);
        });
        a.exit(0);
    }));
    m.type_text("hi");
    crate::kernel::finish(&mut m);
    assert_eq!(results(&m, 4), [0x23, 0xa3, 0x17, 0x97]);
}
