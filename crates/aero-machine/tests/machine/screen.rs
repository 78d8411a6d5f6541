//! The VGA card.

use crate::kernel::{Asm, Mode, boot, config, finish, machine, program};
use aero_machine::{Config, Exit, Frame, Machine};

const TEXT: u32 = 0xb_8000;

/// Writes light grey text at a line and a column.
fn write(a: &mut Asm, line: u32, column: u32, text: &str) {
    for (at, byte) in (TEXT + 160 * line + 2 * column..).step_by(2).zip(text.bytes()) {
        a.store_byte(at, byte);
        a.store_byte(at + 1, 7);
    }
}

#[test]
fn characters_at_b8000_show_in_the_screen_text() {
    let mut m = machine(program(Mode::Long, |a| {
        write(a, 0, 0, "top");
        write(a, 1, 5, "in dented");
        write(a, 24, 74, "bottom");
        a.exit(0);
    }));
    finish(&mut m);
    let text = m.screen_text();
    let lines: Vec<&str> = text.split('\n').collect();
    assert_eq!(lines.len(), 25, "{text:?}");
    assert_eq!((lines[0], lines[1]), ("top", "     in dented"));
    assert_eq!(lines[24].trim(), "bottom");
    assert_eq!(lines[24].len(), 80);
    assert!(lines[2..24].iter().all(|l| l.is_empty()), "{text:?}");
}

#[test]
fn frame_is_drawn_when_the_screen_has_changed() {
    let mut m = machine(program(Mode::Protected, |a| {
        // The cursor, which would blink.
        a.out(0x3d4, 0x0a);
        a.out(0x3d5, 0x20);
        write(a, 3, 3, "A");
        a.exit(0);
        write(a, 3, 3, "B");
        a.exit(0);
        a.halt_for_ever();
    }));
    let mut frame = Frame::default();
    finish(&mut m);
    assert!(m.render(&mut frame), "the first time");
    assert_eq!((frame.width, frame.height), (720, 400));
    assert_eq!(frame.rgba.len(), 720 * 400 * 4);
    let first = frame.rgba.clone();
    assert!(first.chunks_exact(4).any(|p| p != [0, 0, 0, 0xff]), "the letter is to be seen");
    assert!(!m.render(&mut frame), "nothing has changed");
    assert_eq!(frame.rgba, first);
    finish(&mut m);
    assert!(m.render(&mut frame), "another letter");
    assert_ne!(frame.rgba, first);
    assert!(!m.render(&mut frame), "nothing has changed");
}

#[test]
fn machine_without_a_card_has_no_screen() {
    let kernel = program(Mode::Protected, |a| {
        write(a, 0, 0, "x");
        a.exit(0);
    });
    let config = Config { vga: false, ..config() };
    let clock = Box::new(crate::kernel::TestClock::default());
    let mut m = Machine::new(config, boot(kernel), clock).expect("a small machine");
    assert_eq!(m.run(1000), Exit::DebugExit(1));
    assert_eq!(m.screen_text(), "");
    assert!(!m.render(&mut Frame::default()));
}
