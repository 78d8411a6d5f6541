//! The VGA card.

use crate::kernel::{Asm, MODES, Mode, Reg, boot, config, finish, machine, program, results};
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

/// Where these tests have the guest put the frame buffer, and then elsewhere.
const FRAME_BUFFER: u32 = 0x4000_0000;
const MOVED: u32 = 0x5000_0000;

/// Writes a dword of the card's configuration space.
fn configure(a: &mut Asm, register: u32, value: u32) {
    a.out32(0xcf8, 0x8000_1000 | register);
    a.out32(0xcfc, value);
}

/// Switches a mode of VBE on.
fn set_mode(a: &mut Asm, width: u16, height: u16, bpp: u16) {
    for (register, value) in [(4, 0), (1, width), (2, height), (3, bpp), (4, 0x41)] {
        a.out16(0x1ce, register);
        a.out16(0x1cf, value);
    }
}

fn pixel(frame: &Frame, x: u32, y: u32) -> [u8; 3] {
    let at = ((y * frame.width + x) * 4) as usize;
    [frame.rgba[at], frame.rgba[at + 1], frame.rgba[at + 2]]
}

#[test]
fn frame_buffer_that_was_drawn_shows_what_is_written_to_the_same_page_again() {
    for mode in MODES {
        let mut m = machine(program(mode, |a| {
            configure(a, 0x10, FRAME_BUFFER);
            configure(a, 0x04, 2);
            set_mode(a, 640, 480, 32);
            for n in 0..3 {
                a.store_imm(FRAME_BUFFER + 4 * n, 0xff_0000);
                a.store_imm(FRAME_BUFFER + 4 * (640 * 479 + 639 - n), 0x00_ff00);
                a.exit(0);
            }
        }));
        let mut frame = Frame::default();
        for n in 0..3 {
            finish(&mut m);
            assert!(m.render(&mut frame), "{mode:?}: write {n}");
            assert_eq!((frame.width, frame.height), (640, 480));
            assert_eq!(pixel(&frame, n, 0), [255, 0, 0]);
            assert_eq!(pixel(&frame, 639 - n, 479), [0, 255, 0]);
            assert_eq!(pixel(&frame, n + 1, 0), [0; 3]);
            assert!(!m.render(&mut frame), "nothing more");
        }
    }
}

#[test]
fn frame_buffer_moves_under_a_running_processor() {
    for mode in MODES {
        let mut m = machine(program(mode, |a| {
            configure(a, 0x10, FRAME_BUFFER);
            configure(a, 0x04, 2);
            set_mode(a, 640, 480, 32);
            a.store_imm(FRAME_BUFFER, 0x12_3456);
            a.load(Reg::Ecx, FRAME_BUFFER);
            a.record(Reg::Ecx);
            configure(a, 0x10, MOVED);
            a.load(Reg::Ecx, FRAME_BUFFER);
            a.record(Reg::Ecx);
            a.load(Reg::Ecx, MOVED);
            a.record(Reg::Ecx);
            a.store_imm(FRAME_BUFFER, 1);
            a.store_imm(MOVED + 4, 0x65_4321);
            configure(a, 0x04, 0);
            a.load(Reg::Ecx, MOVED);
            a.record(Reg::Ecx);
            a.exit(0);
        }));
        finish(&mut m);
        assert_eq!(results(&m, 4), [0x12_3456, u32::MAX, 0x12_3456, u32::MAX], "{mode:?}");
        let mut frame = Frame::default();
        m.render(&mut frame);
        assert_eq!([0, 1].map(|x| pixel(&frame, x, 0)), [[0x12, 0x34, 0x56], [0x65, 0x43, 0x21]]);
    }
}

#[test]
fn bank_that_is_switched_shows_another_piece_through_the_same_address() {
    let mut m = machine(program(Mode::Protected, |a| {
        set_mode(a, 640, 480, 8);
        let bank = |a: &mut Asm, n| {
            a.out16(0x1ce, 5);
            a.out16(0x1cf, n);
        };
        for n in 0..4 {
            bank(a, n);
            a.store_imm(0xa_0000, 0x0101_0101 * u32::from(n + 1));
        }
        for n in [2, 0, 3, 1] {
            bank(a, n);
            a.load(Reg::Ecx, 0xa_0000);
            a.record(Reg::Ecx);
        }
        a.exit(0);
    }));
    finish(&mut m);
    assert_eq!(results(&m, 4), [3, 1, 4, 2].map(|n| 0x0101_0101 * n));
    let mut frame = Frame::default();
    m.render(&mut frame);
    // 64 KiB into lines of 640: pixel 256 of line 102.
    assert_eq!(pixel(&frame, 256, 102), [0, 170, 0]);
}

#[test]
fn code_runs_from_the_frame_buffer_and_sees_its_own_changes() {
    let mut m = machine(program(Mode::Protected, |a| {
        configure(a, 0x10, FRAME_BUFFER);
        configure(a, 0x04, 2);
        // inc ecx; ret, and then inc ecx; inc ecx; ret in its place.
        for code in [0xc341, 0x00c3_4141] {
            a.store_imm(FRAME_BUFFER, code);
            a.mov_imm(Reg::Ecx, 0);
            a.mov_imm(Reg::Eax, FRAME_BUFFER);
            a.raw(&[0xff, 0xd0]);
            a.record(Reg::Ecx);
        }
        a.exit(0);
    }));
    finish(&mut m);
    assert_eq!(results(&m, 2), [1, 2]);
}
