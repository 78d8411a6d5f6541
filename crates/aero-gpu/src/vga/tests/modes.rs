//! Graphics modes, as a video BIOS sets them.

use super::*;

/// What a video BIOS writes for a mode.
struct Table {
    misc: u8,
    seq: [u8; 5],
    crtc: [u8; 25],
    gfx: [u8; 9],
    attr: [u8; 21],
}

const EGA_ATTR: [u8; 21] =
    [0, 1, 2, 3, 4, 5, 0x14, 7, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x01, 0, 0x0f, 0, 0];
const CGA_ATTR: [u8; 21] =
    [0, 0x13, 0x15, 0x17, 2, 4, 6, 7, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x01, 0, 0x03, 0, 0];
const IDENTITY_ATTR: [u8; 21] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0x41, 0, 0x0f, 0, 0];

#[rustfmt::skip]
const MODE_12: Table = Table {
    misc: 0xe3,
    seq: [3, 1, 0x0f, 0, 6],
    crtc: [0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0, 0x40, 0, 0, 0, 0, 0, 0,
           0xea, 0x8c, 0xdf, 0x28, 0, 0xe7, 0x04, 0xe3, 0xff],
    gfx: [0, 0, 0, 0, 0, 0, 5, 0x0f, 0xff],
    attr: EGA_ATTR,
};
#[rustfmt::skip]
const MODE_13: Table = Table {
    misc: 0x63,
    seq: [3, 1, 0x0f, 0, 0x0e],
    crtc: [0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0, 0x41, 0, 0, 0, 0, 0, 0,
           0x9c, 0x8e, 0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3, 0xff],
    gfx: [0, 0, 0, 0, 0, 0x40, 5, 0x0f, 0xff],
    attr: IDENTITY_ATTR,
};
#[rustfmt::skip]
const MODE_0D: Table = Table {
    misc: 0x63,
    seq: [3, 9, 0x0f, 0, 6],
    crtc: [0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0, 0xc0, 0, 0, 0, 0, 0, 0,
           0x9c, 0x8e, 0x8f, 0x14, 0, 0x96, 0xb9, 0xe3, 0xff],
    gfx: [0, 0, 0, 0, 0, 0, 5, 0x0f, 0xff],
    attr: EGA_ATTR,
};
#[rustfmt::skip]
const MODE_04: Table = Table {
    misc: 0x63,
    seq: [3, 9, 3, 0, 2],
    crtc: [0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0, 0xc1, 0, 0, 0, 0, 0, 0,
           0x9c, 0x8e, 0x8f, 0x14, 0, 0x96, 0xb9, 0xa2, 0xff],
    gfx: [0, 0, 0, 0, 0, 0x30, 0x0f, 0, 0xff],
    attr: CGA_ATTR,
};
#[rustfmt::skip]
const MODE_06: Table = Table {
    misc: 0x63,
    seq: [3, 1, 1, 0, 6],
    crtc: [0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0, 0xc1, 0, 0, 0, 0, 0, 0,
           0x9c, 0x8e, 0x8f, 0x28, 0, 0x96, 0xb9, 0xc2, 0xff],
    gfx: [0, 0, 0, 0, 0, 0, 0x0d, 0, 0xff],
    attr: [0, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17,
           0x01, 0, 0x01, 0, 0],
};

impl Rig {
    /// A card in a mode, its memory cleared.
    fn in_mode(table: &Table) -> Self {
        let mut rig = Self::new();
        rig.out(0x3c2, table.misc);
        (0..).zip(table.seq).for_each(|(i, v)| rig.indexed(0x3c4, i, v));
        rig.indexed(0x3d4, 0x11, 0);
        (0..).zip(table.crtc).for_each(|(i, v)| rig.indexed(0x3d4, i, v));
        (0..).zip(table.gfx).for_each(|(i, v)| rig.indexed(0x3ce, i, v));
        (0..).zip(table.attr).for_each(|(i, v)| rig.attribute(i, v));
        rig.inp(0x3da);
        rig.out(0x3c0, 0x20);
        rig.board.memory.write_video(0, &[0; 256 << 10]);
        rig
    }

    fn attribute(&mut self, index: u8, value: u8) {
        self.inp(0x3da);
        self.out(0x3c0, index);
        self.out(0x3c0, value);
        self.out(0x3c0, 0x20);
    }

    fn colour(&mut self, index: u8, rgb: [u8; 3]) {
        self.out(0x3c8, index);
        rgb.iter().for_each(|c| self.out(0x3c9, *c));
    }

    /// The colours 10h–17h that a BIOS gives CGA modes.
    fn load_bright_colours(&mut self) {
        for i in 0..8 {
            self.colour(0x10 + i, [2, 1, 0].map(|bit| 21 + 42 * (i >> bit & 1)));
        }
    }

    fn size(&self) -> (u32, u32) {
        (self.frame.width, self.frame.height)
    }
}

const RED: [u8; 3] = [170, 0, 0];
const GREEN: [u8; 3] = [0, 170, 0];
const WHITE: [u8; 3] = [255; 3];

/// FNV-1a, for pictures that are compared as a whole.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}

// checklist: 37
#[test]
fn mode_12_shows_what_each_write_mode_draws() {
    let mut rig = Rig::in_mode(&MODE_12);
    // Write mode 0: set/reset makes a red byte, whatever the processor writes.
    rig.indexed(0x3ce, 0, 4);
    rig.indexed(0x3ce, 1, 15);
    rig.poke(0xa0000, &[0]);
    // Two pixels of it become green by the bit mask.
    rig.indexed(0x3ce, 0, 2);
    rig.indexed(0x3ce, 8, 0b0011_0000);
    rig.peek(0xa0000);
    rig.poke(0xa0000, &[0xff]);
    // Write mode 2: the byte is a colour.
    rig.indexed(0x3ce, 1, 0);
    rig.indexed(0x3ce, 5, 2);
    rig.indexed(0x3ce, 8, 0xff);
    rig.poke(0xa0001, &[15]);
    // Write mode 3: the byte is a mask over set/reset.
    rig.indexed(0x3ce, 0, 1);
    rig.indexed(0x3ce, 5, 3);
    rig.peek(0xa0001);
    rig.poke(0xa0001, &[0x0f]);
    // Write mode 1: the latches are copied.
    rig.indexed(0x3ce, 5, 1);
    rig.peek(0xa0000);
    rig.poke(0xa0000 + 80 * 479 + 79, &[0]);
    rig.render();
    assert_eq!(rig.size(), (640, 480));
    let line: Vec<[u8; 3]> = (0..16).map(|x| rig.pixel(x, 0)).collect();
    let expected = [[RED; 2], [GREEN; 2], [RED; 2], [RED; 2], [WHITE; 2], [WHITE; 2], [BLUE; 2], [BLUE; 2]];
    assert_eq!(line, expected.concat());
    assert_eq!((rig.pixel(634, 479), rig.pixel(639, 479), rig.pixel(639, 478)), (GREEN, RED, BLACK));
}

// checklist: 37
#[test]
fn read_mode_1_finds_pixels_of_a_colour_through_the_window() {
    let mut rig = Rig::in_mode(&MODE_12);
    rig.indexed(0x3ce, 5, 2);
    rig.indexed(0x3ce, 8, 0b1010_0000);
    rig.poke(0xa0010, &[9]);
    rig.indexed(0x3ce, 5, 8);
    rig.indexed(0x3ce, 2, 9);
    assert_eq!(rig.peek(0xa0010), Some(0b1010_0000));
}

#[test]
fn mode_13_is_linear_double_and_mapped() {
    let mut rig = Rig::in_mode(&MODE_13);
    rig.colour(200, [63, 0, 32]);
    assert!(rig.board.memory.video_window_is_mapped());
    rig.board.memory.write(aero_mem::Gpa(0xa0000 + 320 * 199 + 319), &[200]).expect("mapped");
    rig.render();
    assert_eq!(rig.size(), (640, 400));
    let corner = [255, 0, 130];
    assert_eq!([(638, 398), (639, 399)].map(|(x, y)| rig.pixel(x, y)), [corner; 2]);
    assert_eq!((rig.pixel(637, 399), rig.pixel(638, 397)), (BLACK, BLACK));
    // The DAC mask reaches every pixel.
    rig.out(0x3c6, 0x37);
    rig.render();
    assert_eq!(rig.pixel(639, 399), BLACK, "colour 200 & 37h is 0");
}

#[test]
fn whole_picture_of_mode_13_is_what_it_was() {
    let mut rig = Rig::in_mode(&MODE_13);
    for at in 0..320 * 200u32 {
        let (x, y) = (at % 320, at / 320);
        rig.board.memory.write_video(at, &[(x ^ y) as u8 & 0x3f]);
    }
    rig.render();
    // The hash is of a picture made apart from this code: colour (x / 2) ^ (y / 2) & 3Fh of the EGA's 64.
    assert_eq!(hash(&rig.frame.rgba), 0xbd3a_1bcb_138a_fda5);
}

#[test]
fn write_that_needs_the_datapath_closes_the_mapped_window() {
    let mut rig = Rig::in_mode(&MODE_13);
    rig.indexed(0x3c4, 2, 1);
    assert!(!rig.board.memory.video_window_is_mapped());
    rig.poke(0xa0000, &[1, 1, 1, 1]);
    assert_eq!(rig.board.memory.video_dword(0), 1, "plane 0 alone");
    rig.indexed(0x3c4, 2, 15);
    assert!(rig.board.memory.video_window_is_mapped());
}

#[test]
fn mode_x_draws_four_pixels_an_address_and_flips_pages() {
    let mut rig = Rig::in_mode(&MODE_13);
    rig.indexed(0x3c4, 4, 6);
    rig.indexed(0x3d4, 0x14, 0);
    rig.indexed(0x3d4, 0x17, 0xe3);
    rig.colour(1, [63; 3]);
    rig.indexed(0x3c4, 2, 0b0100);
    rig.poke(0xa0000 + 16000, &[1]);
    rig.render();
    assert!(rig.frame.rgba.chunks(4).all(|p| p[..3] == BLACK), "the second page is not shown");
    rig.indexed(0x3d4, 0x0c, (16000u16 >> 8) as u8);
    rig.indexed(0x3d4, 0x0d, 16000u16 as u8);
    assert!(rig.render());
    assert_eq!([3, 4, 5, 6].map(|x| rig.pixel(x, 0)), [BLACK, WHITE, WHITE, BLACK]);
    // Half-pixel panning: two dots are a pixel.
    rig.attribute(0x13, 4);
    rig.render();
    assert_eq!([0, 1, 2].map(|x| rig.pixel(x, 0)), [WHITE, WHITE, BLACK]);
}

#[test]
fn mode_0d_doubles_dots_and_lines() {
    let mut rig = Rig::in_mode(&MODE_0D);
    rig.poke(0xa0000 + 40, &[0x80]);
    rig.render();
    assert_eq!(rig.size(), (640, 400));
    let lit = |rig: &Rig, x, y| rig.pixel(x, y) == WHITE;
    assert!(lit(&rig, 0, 2) && lit(&rig, 1, 3) && !lit(&rig, 2, 2) && !lit(&rig, 0, 1) && !lit(&rig, 0, 4));
}

#[test]
fn cga_lines_come_from_two_banks_and_pixels_from_two_bits() {
    let mut rig = Rig::in_mode(&MODE_04);
    rig.load_bright_colours();
    rig.poke(0xb8000, &[0b00_01_10_11, 0b11_00_00_00]);
    rig.poke(0xb8000 + 0x2000, &[0b11_11_00_00]);
    rig.render();
    assert_eq!(rig.size(), (640, 400));
    let (cyan, magenta, white) = ([85, 255, 255], [255, 85, 255], WHITE);
    let line = |rig: &Rig, y| -> Vec<[u8; 3]> { (0..6).map(|x| rig.pixel(2 * x, y)).collect() };
    assert_eq!(line(&rig, 0), [BLACK, cyan, magenta, white, white, BLACK]);
    assert_eq!(line(&rig, 1), line(&rig, 0));
    assert_eq!(line(&rig, 2), [white, white, BLACK, BLACK, BLACK, BLACK]);
}

#[test]
fn mode_06_has_one_bit_a_pixel() {
    let mut rig = Rig::in_mode(&MODE_06);
    rig.load_bright_colours();
    rig.poke(0xb8000 + 79, &[0x01]);
    rig.poke(0xb8000 + 0x2000 + 80 * 99, &[0x80]);
    rig.render();
    assert_eq!(rig.size(), (640, 400));
    assert_eq!([638, 639].map(|x| rig.pixel(x, 1)), [BLACK, WHITE]);
    assert_eq!(
        [(0, 397), (0, 398), (0, 399), (1, 399)].map(|(x, y)| rig.pixel(x, y)),
        [BLACK, WHITE, WHITE, BLACK]
    );
}

#[test]
fn split_screen_starts_again_at_0_and_need_not_pan() {
    let mut rig = Rig::in_mode(&MODE_12);
    rig.poke(0xa0000, &[0xff]);
    rig.indexed(0x3d4, 0x0c, 0x40);
    rig.indexed(0x3d4, 0x18, 99);
    rig.indexed(0x3d4, 0x07, 0x2e);
    rig.indexed(0x3d4, 0x09, 0x00);
    rig.attribute(0x13, 3);
    rig.render();
    assert_eq!(
        [(0, 99), (0, 100), (4, 100), (5, 100)].map(|(x, y)| rig.pixel(x, y)),
        [BLACK, WHITE, WHITE, BLACK]
    );
    rig.attribute(0x10, 0x21);
    rig.render();
    assert_eq!((rig.pixel(7, 100), rig.pixel(8, 100)), (WHITE, BLACK));
}

#[test]
fn preset_row_scan_shows_the_first_row_from_within() {
    let mut rig = Rig::in_mode(&MODE_13);
    rig.colour(1, [63; 3]);
    rig.board.memory.write_video(320, &[1]);
    rig.indexed(0x3d4, 0x08, 1);
    rig.render();
    assert_eq!((rig.pixel(0, 0), rig.pixel(0, 1), rig.pixel(0, 2)), (BLACK, WHITE, WHITE));
}

#[test]
fn colour_select_and_plane_enable_choose_among_the_palette() {
    let mut rig = Rig::in_mode(&MODE_12);
    rig.poke(0xa0000, &[0xff]);
    rig.attribute(0x12, 0b0001);
    rig.render();
    assert_eq!(rig.pixel(0, 0), BLUE);
    rig.colour(0xc1, [0, 42, 0]);
    rig.attribute(0x14, 0x0c);
    rig.render();
    assert_eq!(rig.pixel(0, 0), GREEN);
    rig.colour(0xe1, [42, 0, 0]);
    rig.attribute(0x10, 0x81);
    rig.attribute(0x14, 0x0e);
    rig.render();
    assert_eq!(rig.pixel(0, 0), RED);
}

#[test]
fn only_lines_of_written_pages_are_drawn_and_nothing_when_nothing_is_written() {
    let mut rig = Rig::in_mode(&MODE_12);
    rig.render();
    assert!(!rig.render());
    rig.poke(0xa0000 + 80 * 240, &[1]);
    assert!(rig.render());
    assert_eq!(rig.pixel(7, 240), WHITE);
    // A page whose bytes are what they were is looked at, and no pixel changes.
    rig.board.memory.set_video_dword(80 * 240 * 4, 0x0101_0101);
    assert!(!rig.render());
}

#[test]
fn retrace_takes_its_time_from_the_dot_clock() {
    for (table, hz) in [(&MODE_12, 60), (&MODE_13, 70)] {
        let mut rig = Rig::in_mode(table);
        let (mut frames, mut was, mut shown) = (0, 0, 0);
        for step in 1..=50_000 {
            rig.board.fabric.advance_to(VmTime(step * 20_000));
            let status = rig.inp(0x3da);
            frames += u32::from(status & 8 > was);
            shown += u32::from(status & 1 == 0);
            was = status & 8;
        }
        assert!((hz - 1..=hz + 1).contains(&frames), "{frames} frames a second");
        // 80 of 100 characters, and 480 of 525 or 400 of 449 lines.
        assert!((34_000..38_000).contains(&shown), "{shown} of 50000");
    }
}
