use super::*;
use aero_bus::bench::{TestBoard, conformance};

/// A card on a board, by absolute ports and addresses.
struct Rig {
    board: TestBoard,
    vga: Vga,
    frame: Frame,
}

impl Rig {
    fn new() -> Self {
        Self::with(Vga::default())
    }

    fn with(mut vga: Vga) -> Self {
        let mut board = TestBoard::new();
        vga.reset(&mut board.cx());
        Self { board, vga, frame: Frame::default() }
    }

    fn out(&mut self, port: u64, value: u8) {
        self.board.outb(&mut self.vga, REGION_PORTS, port - 0x3b0, value);
    }

    fn inp(&mut self, port: u64) -> u8 {
        self.board.inb(&mut self.vga, REGION_PORTS, port - 0x3b0)
    }

    fn indexed(&mut self, port: u64, index: u8, value: u8) {
        self.out(port, index);
        self.out(port + 1, value);
    }

    fn poke(&mut self, address: u64, bytes: &[u8]) {
        for (i, byte) in bytes.iter().enumerate() {
            let at = At::new(REGION_MEMORY, address - 0xa0000 + i as u64);
            let _ = Mmio::write(&mut self.vga, &mut self.board.cx(), at, Width::B1, (*byte).into());
        }
    }

    fn peek(&mut self, address: u64) -> Option<u8> {
        let at = At::new(REGION_MEMORY, address - 0xa0000);
        Mmio::read(&mut self.vga, &mut self.board.cx(), at, Width::B1).ok().map(|v| v as u8)
    }

    fn render(&mut self) -> bool {
        self.vga.render(self.board.fabric.now(), &mut self.board.memory, &mut self.frame)
    }

    fn text(&self) -> String {
        self.vga.text(&self.board.memory)
    }

    fn pixel(&self, x: u32, y: u32) -> [u8; 3] {
        let at = (y * self.frame.width + x) as usize * 4;
        [self.frame.rgba[at], self.frame.rgba[at + 1], self.frame.rgba[at + 2]]
    }

    /// What Linux's `vgacon` does before it copies a character set through A0000h.
    fn open_plane_2(&mut self) {
        for (index, value) in [(0, 1), (2, 4), (4, 7), (0, 3)] {
            self.indexed(0x3c4, index, value);
        }
        for (index, value) in [(4, 2), (5, 0), (6, 0)] {
            self.indexed(0x3ce, index, value);
        }
    }

    /// And afterwards.
    fn close_plane_2(&mut self) {
        for (index, value) in [(0, 1), (2, 3), (4, 3), (0, 3)] {
            self.indexed(0x3c4, index, value);
        }
        for (index, value) in [(4, 0), (5, 0x10), (6, 0x0e)] {
            self.indexed(0x3ce, index, value);
        }
    }
}

const YELLOW: [u8; 3] = [255, 255, 85];
const BLUE: [u8; 3] = [0, 0, 170];
const GREY: [u8; 3] = [170, 170, 170];
const BLACK: [u8; 3] = [0, 0, 0];

#[test]
fn device_passes_the_conformance_suite() {
    conformance(&[0, 1, 2, 6, 8], |_| Vga::default().with_bios(&[0x55, 0xaa]));
}

#[test]
fn power_on_screen_is_blank_mode_3_with_a_cursor() {
    let mut rig = Rig::new();
    assert!(rig.render());
    assert_eq!((rig.frame.width, rig.frame.height, rig.frame.rgba.len()), (720, 400, 720 * 400 * 4));
    assert_eq!(rig.text(), "\n".repeat(24));
    assert_eq!(rig.pixel(0, 12), BLACK);
    assert_eq!((rig.pixel(0, 13), rig.pixel(8, 14), rig.pixel(9, 14)), (GREY, GREY, BLACK));
}

#[test]
fn character_in_the_window_appears_as_text_and_as_pixels() {
    let mut rig = Rig::new();
    rig.poke(0xb8000 + 2 * (80 + 3), &[b'A', 0x1e, b'l', 0x1e]);
    assert!(rig.render());
    assert_eq!(rig.text().lines().nth(1), Some("   Al"));
    let glyph = font::code_page_437()[usize::from(b'A')];
    for (line, dots) in glyph.iter().enumerate() {
        for x in 0..9 {
            let lit = x < 8 && dots >> (7 - x) & 1 != 0;
            let expected = if lit { YELLOW } else { BLUE };
            assert_eq!(rig.pixel(27 + x, 16 + line as u32), expected, "dot {x} of line {line}");
        }
    }
    assert_eq!(rig.peek(0xb8000 + 166), Some(b'A'));
}

#[test]
fn word_and_dword_writes_are_bytes_in_order() {
    let mut rig = Rig::new();
    let at = At::new(REGION_MEMORY, 0x18000);
    Mmio::write(&mut rig.vga, &mut rig.board.cx(), at, Width::B4, 0x1e42_1e41).expect("the window is open");
    assert_eq!(rig.text().lines().next(), Some("AB"));
    assert_eq!(Mmio::read(&mut rig.vga, &mut rig.board.cx(), at, Width::B4), Ok(0x1e42_1e41));
}

#[test]
fn unchanged_screen_is_not_drawn_again() {
    let mut rig = Rig::new();
    rig.indexed(0x3d4, 0x0a, 0x20);
    assert!(rig.render());
    assert!(!rig.render());
    rig.board.fabric.advance_to(VmTime(1_000_000_000));
    assert!(!rig.render(), "without a cursor nothing blinks");
    rig.poke(0xb8000, b" ");
    assert!(!rig.render(), "a write of what is there changes nothing");
    rig.poke(0xb8000, b"x");
    assert!(rig.render());
}

#[test]
fn new_frame_is_drawn_whole_and_the_old_one_still_catches_up() {
    let mut rig = Rig::new();
    rig.render();
    rig.poke(0xb8000, b"x");
    let mut shot = Frame::default();
    assert!(rig.vga.render(VmTime(0), &mut rig.board.memory, &mut shot));
    assert!(rig.render());
    assert_eq!(shot.rgba, rig.frame.rgba);
}

#[test]
fn scrolling_by_start_address_moves_the_text() {
    let mut rig = Rig::new();
    rig.poke(0xb8000 + 160, b"H\x07i\x07");
    rig.render();
    rig.indexed(0x3d4, 0x0d, 80);
    assert!(rig.text().starts_with("Hi\n"));
    let before = rig.frame.rgba.clone();
    assert!(rig.render());
    let (lines, end) = (720 * 4 * 16, 720 * 4 * 32);
    assert_eq!(rig.frame.rgba[..lines], before[lines..end]);
}

#[test]
fn line_compare_splits_the_screen_back_to_address_0() {
    let mut rig = Rig::new();
    rig.poke(0xb8000, b"S\x07");
    rig.indexed(0x3d4, 0x0d, 80);
    rig.indexed(0x3d4, 0x18, 0x3f);
    rig.indexed(0x3d4, 0x09, 0x0f);
    assert_eq!(rig.text().lines().position(|line| line == "S"), Some(20));
}

#[test]
fn cursor_blinks_every_eight_frames() {
    let mut rig = Rig::new();
    rig.indexed(0x3d4, 0x0f, 2);
    rig.render();
    assert_eq!(rig.pixel(18, 13), GREY);
    rig.board.fabric.advance_to(VmTime(134_000_000));
    assert!(rig.render());
    assert_eq!(rig.pixel(18, 13), BLACK);
}

#[test]
fn attribute_bit_7_blinks_or_brightens_the_background() {
    let mut rig = Rig::new();
    rig.poke(0xb8000 + 2, b"\xdb\x9e");
    rig.render();
    assert_eq!(rig.pixel(9, 0), YELLOW);
    rig.board.fabric.advance_to(VmTime(270_000_000));
    rig.render();
    assert_eq!(rig.pixel(9, 0), BLUE, "the dark half");
    rig.inp(0x3da);
    for byte in [0x30, 0x04] {
        rig.out(0x3c0, byte);
    }
    rig.poke(0xb8000 + 4, b" \x9e");
    rig.render();
    assert_eq!((rig.pixel(9, 0), rig.pixel(18, 0)), (YELLOW, [85, 85, 255]));
}

#[test]
fn ninth_dot_repeats_the_eighth_for_line_graphics_only() {
    let mut rig = Rig::new();
    rig.indexed(0x3d4, 0x0a, 0x20);
    rig.poke(0xb8000, b"\xdb\x07\xb2\x07");
    rig.render();
    assert_eq!(rig.pixel(8, 0), GREY);
    assert_eq!(rig.pixel(17, 0), BLACK);
}

#[test]
fn eight_dot_clock_makes_640_pixels_and_half_clock_doubles_dots() {
    let mut rig = Rig::new();
    rig.indexed(0x3c4, 1, 0x01);
    rig.render();
    assert_eq!(rig.frame.width, 640);
    rig.indexed(0x3d4, 0x11, 0x0e);
    rig.indexed(0x3d4, 0x01, 39);
    rig.indexed(0x3c4, 1, 0x09);
    rig.poke(0xb8000, b"\xdd\x0f");
    rig.render();
    assert_eq!((rig.frame.width, rig.pixel(7, 0), rig.pixel(8, 0)), (640, [255; 3], BLACK));
}

#[test]
fn character_set_is_read_and_replaced_through_plane_2() {
    let mut rig = Rig::new();
    rig.poke(0xb8000 + 2, b"A\x07");
    rig.render();
    rig.open_plane_2();
    let glyph = font::code_page_437()[0x41];
    assert_eq!(rig.peek(0xa0000 + 0x41 * 32 + 4), Some(glyph[4]));
    rig.poke(0xa0000 + 0x41 * 32, &[0xff; 16]);
    rig.close_plane_2();
    assert!(rig.render());
    assert_eq!((rig.pixel(9, 0), rig.pixel(16, 15), rig.pixel(17, 15)), (GREY, GREY, BLACK));
    assert_eq!(rig.text().lines().next(), Some(" A"));
}

#[test]
fn attribute_bit_3_selects_the_second_character_set() {
    let mut rig = Rig::new();
    rig.open_plane_2();
    rig.poke(0xa4000 + 0x41 * 32, &[0xff; 16]);
    rig.close_plane_2();
    rig.indexed(0x3c4, 3, 0x04);
    rig.poke(0xb8000 + 2, b"A\x07A\x0f");
    rig.render();
    assert_eq!((rig.pixel(9, 0), rig.pixel(18, 0)), (BLACK, [255; 3]));
}

#[test]
fn memory_map_select_moves_the_window() {
    let mut rig = Rig::new();
    let answers = |rig: &mut Rig| [0xa0000, 0xb0000, 0xb8000].map(|at| rig.peek(at).is_some());
    for (map, expected) in
        [(0x02, [true, true, true]), (0x06, [true, false, false]), (0x0a, [false, true, false])]
    {
        rig.indexed(0x3ce, 6, map);
        assert_eq!(answers(&mut rig), expected, "map {map:#x}");
    }
    rig.indexed(0x3ce, 6, 0x0e);
    assert_eq!(answers(&mut rig), [false, false, true]);
    rig.out(0x3c2, 0x65);
    assert_eq!(answers(&mut rig), [false; 3], "memory disabled in miscellaneous output");
}

#[test]
fn flip_flop_alternates_and_status_read_resets_it() {
    let mut rig = Rig::new();
    rig.inp(0x3da);
    rig.out(0x3c0, 0x31);
    rig.inp(0x3da);
    rig.out(0x3c0, 0x32);
    rig.out(0x3c0, 0x07);
    assert_eq!((rig.inp(0x3c0), rig.inp(0x3c1)), (0x32, 0x07));
    rig.inp(0x3da);
    rig.out(0x3c0, 0x31);
    assert_eq!(rig.inp(0x3c1), 0, "the overscan colour was not written");
}

#[test]
fn palette_written_through_the_dac_colours_the_screen() {
    let mut rig = Rig::new();
    rig.poke(0xb8000 + 2, b"\xdb\x01");
    rig.out(0x3c8, 1);
    for component in [63, 0, 32] {
        rig.out(0x3c9, component);
    }
    rig.render();
    assert_eq!(rig.pixel(9, 0), [255, 0, 130]);
    rig.out(0x3c7, 1);
    assert_eq!([rig.inp(0x3c9), rig.inp(0x3c9), rig.inp(0x3c9)], [63, 0, 32]);
    assert_eq!((rig.inp(0x3c7), rig.inp(0x3c8)), (3, 2));
}

#[test]
fn protected_crtc_registers_keep_their_values_but_for_line_compare() {
    let mut rig = Rig::new();
    rig.indexed(0x3d4, 0x00, 0x11);
    assert_eq!(rig.inp(0x3d5), 0x5f);
    rig.indexed(0x3d4, 0x07, 0x00);
    assert_eq!(rig.inp(0x3d5), 0x0f);
    rig.indexed(0x3d4, 0x11, 0x0e);
    rig.indexed(0x3d4, 0x00, 0x11);
    assert_eq!(rig.inp(0x3d5), 0x11);
}

#[test]
fn crtc_moves_to_3b4_in_monochrome() {
    let mut rig = Rig::new();
    assert_eq!(rig.inp(0x3b4), 0xff);
    rig.out(0x3c2, 0x66);
    rig.indexed(0x3b4, 0x0f, 5);
    assert_eq!((rig.inp(0x3b5), rig.inp(0x3d5), rig.inp(0x3cc)), (5, 0xff, 0x66));
}

#[test]
fn word_write_sets_index_and_data() {
    let mut rig = Rig::new();
    let at = At::new(REGION_PORTS, 0x3d4 - 0x3b0);
    PortIo::write(&mut rig.vga, &mut rig.board.cx(), at, Width::B2, 0x2a0f)
        .expect("the CRT controller answers");
    assert_eq!((rig.inp(0x3d4), rig.inp(0x3d5)), (0x0f, 0x2a));
}

#[test]
fn retrace_comes_once_a_frame() {
    let mut rig = Rig::new();
    let mut starts = 0;
    let mut was = rig.inp(0x3da) & 8;
    assert_eq!(rig.inp(0x3da), 0, "time 0 is the first displayed character");
    for step in 1..=5000 {
        rig.board.fabric.advance_to(VmTime(step * 20_000));
        let status = rig.inp(0x3da);
        assert!(status & 8 == 0 || status & 1 != 0, "retrace is outside the display");
        starts += u8::from(status & 8 != 0 && was == 0);
        was = status & 8;
    }
    assert_eq!(starts, 7, "100 ms at 70 Hz: the vertical total and the dot clock of mode 3");
}

#[test]
fn screen_off_is_black_and_comes_back() {
    let mut rig = Rig::new();
    rig.poke(0xb8000 + 2, b"\xdb\x0f");
    rig.render();
    rig.indexed(0x3c4, 1, 0x20);
    assert!(rig.render());
    assert_eq!(rig.pixel(9, 0), BLACK);
    rig.indexed(0x3c4, 1, 0x00);
    assert!(rig.render());
    assert_eq!(rig.pixel(9, 0), [255; 3]);
}

#[test]
fn monochrome_underline_is_drawn_at_its_line() {
    let mut rig = Rig::new();
    rig.indexed(0x3d4, 0x14, 0x0c);
    rig.poke(0xb8000 + 2, b" \x01");
    rig.render();
    assert_eq!((rig.pixel(9, 12), rig.pixel(9, 11)), (BLUE, BLACK));
}

#[test]
fn restored_card_shows_the_same_screen() {
    let mut rig = Rig::new();
    rig.poke(0xb8000, b"ok");
    let section = rig.vga.save();
    let mut twin = Rig::new();
    twin.render();
    let mut bytes = vec![0; 256 << 10];
    rig.board.memory.read_video(0, &mut bytes);
    twin.board.memory.write_video(0, &bytes);
    twin.vga.restore(&section).expect("its own state");
    twin.render();
    rig.render();
    assert_eq!(twin.frame.rgba, rig.frame.rgba);
    let cut = Section { body: section.body[..100].to_vec(), ..section };
    assert!(twin.vga.restore(&cut).is_err());
}

#[test]
fn panning_moves_text_by_dots_and_preset_row_scan_by_lines() {
    let mut rig = Rig::new();
    rig.indexed(0x3d4, 0x0a, 0x20);
    rig.poke(0xb8000, b" \x07\xdb\x07 \x07\xdb\x07");
    rig.render();
    assert_eq!((rig.pixel(8, 0), rig.pixel(9, 0)), (BLACK, GREY));
    rig.inp(0x3da);
    for byte in [0x33, 2] {
        rig.out(0x3c0, byte);
    }
    rig.render();
    assert_eq!(
        (rig.pixel(5, 0), rig.pixel(6, 0)),
        (BLACK, GREY),
        "2 is three dots where characters have nine"
    );
    rig.poke(0xb8000 + 160, b"\xdb\x01");
    rig.indexed(0x3d4, 0x08, 4);
    rig.render();
    assert_eq!((rig.pixel(5, 11), rig.pixel(0, 12)), (BLACK, BLUE), "the first row has lost four lines");
}

#[test]
fn every_register_reads_back_what_it_can_hold() {
    let mut rig = Rig::new();
    rig.indexed(0x3d4, 0x11, 0);
    let mut read_back = |index_port: u64, registers: core::ops::Range<u8>| -> Vec<u8> {
        let pass = |rig: &mut Rig, index: u8, value: u8| {
            rig.indexed(index_port, index, value);
            rig.inp(index_port + 1)
        };
        registers
            .map(|index| {
                let ones =
                    pass(&mut rig, index, if index_port == 0x3d4 && index == 0x11 { 0x7f } else { 0xff });
                assert_eq!(pass(&mut rig, index, 0), 0, "register {index:#x} of {index_port:#x}");
                ones
            })
            .collect()
    };
    assert_eq!(read_back(0x3c4, 0..5), [0x03, 0x3d, 0x0f, 0x3f, 0x0e]);
    assert_eq!(read_back(0x3ce, 0..9), [0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff]);
    let crtc = read_back(0x3d4, 0..0x19);
    assert!(
        crtc.iter().enumerate().all(|(n, ones)| *ones == if n == 0x11 { 0x7f } else { 0xff }),
        "{crtc:x?}"
    );
    assert_eq!(read_back(0x3d4, 0x19..0x22), [0; 9], "there are no more");
}

#[test]
fn undocumented_registers_show_latches_and_flip_flop() {
    let mut rig = Rig::new();
    rig.open_plane_2();
    rig.poke(0xa1000, &[0x5a]);
    rig.peek(0xa1000);
    rig.out(0x3d4, 0x22);
    assert_eq!(rig.inp(0x3d5), 0x5a, "plane 2 is the one that reads come from");
    rig.inp(0x3da);
    rig.out(0x3d4, 0x24);
    assert_eq!(rig.inp(0x3d5), 0);
    rig.out(0x3c0, 0x33);
    assert_eq!(rig.inp(0x3d5), 0x80);
    rig.out(0x3d4, 0x26);
    assert_eq!(rig.inp(0x3d5), 0x33);
}

#[test]
fn no_values_of_the_registers_stop_the_drawing() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) as u32
    };
    let mut rig = Rig::new();
    for _ in 0..100 {
        for _ in 0..40 {
            let (index, value) = (random() as u8, random() as u8);
            match random() % 6 {
                0 => rig.indexed(0x3c4, index % 8, value & !0x20),
                1 => rig.indexed(0x3d4, index % 0x20, value),
                2 => rig.indexed(0x3ce, index % 10, value),
                3 => [index & 0x1f, value, 0x20].into_iter().for_each(|v| rig.out(0x3c0, v)),
                4 => rig.poke(0xa0000 + u64::from(random() % 0x2_0000), &[value]),
                _ => {
                    rig.words(u64::from(value & 1), random() as u16 & if value & 1 == 0 { 15 } else { 0xfff })
                }
            }
            if index == 7 {
                // Off again, so that the VGA has its turn.
                rig.vbe_write(4, u16::from(value & 1));
            }
        }
        rig.render();
        let Frame { width, height, .. } = rig.frame;
        assert_eq!(rig.frame.rgba.len(), (width * height * 4) as usize);
        assert!(rig.frame.rgba.iter().skip(3).step_by(4).all(|alpha| *alpha == 0xff));
        rig.text();
    }
}

mod bochs;
mod modes;
