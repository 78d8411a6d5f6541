//! The Bochs VBE extension and the PCI function.

use super::*;
use crate::vbe::spec::*;
use aero_mem::Gpa;

const LFB_BASE: u64 = 0xfd00_0000;

impl Rig {
    pub fn vbe_write(&mut self, register: u16, value: u16) {
        self.words(0, register);
        self.words(1, value);
    }

    pub fn words(&mut self, offset: u64, value: u16) {
        let at = At::new(REGION_VBE_PORTS, offset);
        PortIo::write(&mut self.vga, &mut self.board.cx(), at, Width::B2, value.into()).expect("VBE's ports");
    }

    fn vbe_read(&mut self, register: u16) -> u16 {
        self.words(0, register);
        let at = At::new(REGION_VBE_PORTS, 1);
        PortIo::read(&mut self.vga, &mut self.board.cx(), at, Width::B2).expect("VBE's ports") as u16
    }

    fn set_vbe(&mut self, width: u16, height: u16, bpp: u16) {
        let values = [(ENABLE, 0), (X_RES, width), (Y_RES, height), (BPP, bpp), (ENABLE, ENABLED | LFB)];
        values.into_iter().for_each(|(register, value)| self.vbe_write(register, value));
    }

    fn config(&mut self, at: u8, value: u32) {
        self.vga.config().write(at, value, 0xf);
        self.vga.config_written(&mut self.board.cx(), at);
    }

    /// What firmware does.
    fn map(&mut self) {
        self.config(0x10, LFB_BASE as u32);
        self.config(0x18, 0xfebf_0000);
        self.config(0x04, 2);
    }

    fn register(&mut self, offset: u64, width: Width) -> u64 {
        let at = At::new(REGION_REGISTERS, offset);
        Mmio::read(&mut self.vga, &mut self.board.cx(), at, width).expect("a register")
    }

    fn set_register(&mut self, offset: u64, width: Width, value: u64) {
        let at = At::new(REGION_REGISTERS, offset);
        Mmio::write(&mut self.vga, &mut self.board.cx(), at, width, value).expect("a register");
    }
}

#[test]
fn function_is_qemus_standard_vga() {
    let mut rig = Rig::with(Vga::default().with_bios(&[0x55, 0xaa, 0x4c]));
    let c = rig.vga.config();
    assert_eq!((c.read(0), c.read(8)), (0x1111_1234, 0x0300_0002));
    [0x10, 0x14, 0x18, 0x30].into_iter().for_each(|at| c.write(at, u32::MAX, 0xf));
    let sizes = [0x10, 0x14, 0x18, 0x30].map(|at| c.read(at));
    assert_eq!(sizes, [0xff00_0008, 0, 0xffff_f000, 0xffff_f801]);
    let at = At::new(REGION_ROM, 0);
    assert_eq!(Mmio::read(&mut rig.vga, &mut rig.board.cx(), at, Width::B4), Ok(0x004c_aa55));
}

#[test]
fn frame_buffer_is_memory_at_bar_0_while_it_is_decoded() {
    let mut rig = Rig::new();
    rig.map();
    rig.set_vbe(1024, 768, 32);
    assert_eq!(rig.board.memory.read_array(Gpa(LFB_BASE)), Ok([0; 4]), "cleared");
    rig.board.memory.write(Gpa(LFB_BASE + 4 * (1024 * 767 + 1023)), &[1, 2, 3, 0]).expect("mapped");
    rig.render();
    assert_eq!((rig.frame.width, rig.frame.height), (1024, 768));
    assert_eq!((rig.pixel(1023, 767), rig.pixel(1022, 767)), ([3, 2, 1], BLACK));
    rig.config(0x04, 0);
    assert!(rig.board.memory.read_array::<1>(Gpa(LFB_BASE)).is_err());
}

#[test]
fn every_depth_shows_its_colours() {
    // A pixel of blue's least bit or so, red's highest, green's highest.
    let depths: [(u16, &[u8], [u8; 3]); 5] = [
        (15, &[0x10, 0x40, 0xe0, 0x03], [132, 0, 132]),
        (16, &[0x10, 0x80, 0xe0, 0x07], [132, 0, 132]),
        (24, &[0x01, 0x80, 0xff, 0x00, 0xff, 0x00], [255, 128, 1]),
        (32, &[0x01, 0x80, 0xff, 0xaa, 0x00, 0xff, 0x00, 0xaa], [255, 128, 1]),
        (8, &[0x14, 0x02], [170, 85, 0]),
    ];
    for (bpp, bytes, first) in depths {
        let mut rig = Rig::new();
        rig.set_vbe(640, 480, bpp);
        rig.board.memory.write_video(0, bytes);
        rig.render();
        let green = if bpp == 8 { [0, 170, 0] } else { [0, 255, 0] };
        assert_eq!([0, 1, 2].map(|x| rig.pixel(x, 0)), [first, green, BLACK], "{bpp} bits");
    }
}

#[test]
fn planar_depth_goes_through_the_datapath() {
    let mut rig = Rig::new();
    for (index, value) in [(2, 15), (4, 6)] {
        rig.indexed(0x3c4, index, value);
    }
    for (index, value) in [(5, 2), (6, 5), (8, 0x80)] {
        rig.indexed(0x3ce, index, value);
    }
    rig.set_vbe(800, 600, 4);
    assert!(!rig.board.memory.video_window_is_mapped());
    rig.poke(0xa0000 + 100 * 599 + 99, &[4]);
    rig.vbe_write(BANK, 1);
    rig.poke(0xa0000, &[2]);
    rig.render();
    assert_eq!((rig.frame.width, rig.frame.height), (800, 600));
    assert_eq!((rig.pixel(792, 599), rig.pixel(793, 599)), ([170, 0, 0], BLACK));
    assert_eq!(rig.board.memory.video_dword(0x1_0000 * 4), 0x8000, "plane address 64 Ki");
}

#[test]
fn bank_moves_the_window_at_a0000() {
    let mut rig = Rig::new();
    rig.set_vbe(640, 480, 8);
    rig.vbe_write(BANK, 2);
    rig.board.memory.write(Gpa(0xa_0005), &[9]).expect("mapped");
    let mut byte = [0];
    rig.board.memory.read_video(0x2_0005, &mut byte);
    assert_eq!((byte, rig.peek(0xa0005), rig.peek(0xb8000)), ([9], Some(9), None));
    rig.vbe_write(ENABLE, 0);
    assert!(!rig.board.memory.video_window_is_mapped(), "text again");
}

#[test]
fn offsets_scroll_over_the_virtual_screen() {
    let mut rig = Rig::new();
    rig.set_vbe(640, 480, 8);
    rig.vbe_write(VIRT_WIDTH, 1024);
    rig.board.memory.write_video(1024 * 3 + 5, &[2]);
    rig.vbe_write(X_OFFSET, 5);
    rig.vbe_write(Y_OFFSET, 3);
    rig.render();
    assert_eq!((rig.pixel(0, 0), rig.pixel(1, 0)), ([0, 170, 0], BLACK));
}

#[test]
fn clearing_is_left_out_when_asked_and_text_survives_below() {
    let mut rig = Rig::new();
    rig.poke(0xb8000, b"x\x07");
    for (register, value) in [(X_RES, 640), (Y_RES, 480), (BPP, 32), (ENABLE, ENABLED | NO_CLEAR)] {
        rig.vbe_write(register, value);
    }
    assert_eq!(rig.text(), "", "no text mode");
    rig.vbe_write(ENABLE, 0);
    assert!(rig.text().starts_with('x'));
}

#[test]
fn wide_palette_shows_8_bits() {
    let mut rig = Rig::new();
    rig.set_vbe(640, 480, 8);
    rig.vbe_write(ENABLE, ENABLED | DAC_8BIT);
    rig.out(0x3c8, 0);
    for component in [0x81, 0x42, 0xff] {
        rig.out(0x3c9, component);
    }
    rig.render();
    assert_eq!(rig.pixel(0, 0), [0x81, 0x42, 0xff]);
}

#[test]
fn resolution_changes_give_the_frame_its_size_and_blank_is_black() {
    let mut rig = Rig::new();
    for (width, height) in [(800, 600), (1600, 1200), (640, 480)] {
        rig.set_vbe(width, height, 32);
        assert!(rig.render());
        assert_eq!((rig.frame.width, rig.frame.height), (width.into(), height.into()));
    }
    rig.board.memory.write_video(0, &[0xff; 4]);
    rig.render();
    rig.inp(0x3da);
    rig.out(0x3c0, 0);
    assert!(rig.render() && rig.pixel(0, 0) == BLACK);
    rig.out(0x3c0, 0);
    rig.out(0x3c0, 0x20);
    assert!(rig.render() && rig.pixel(0, 0) == [255; 3]);
}

// Linux's bochs-drm does this, by BAR 2 alone.
#[test]
fn driver_sets_a_mode_through_the_register_bar() {
    let mut rig = Rig::new();
    rig.map();
    assert_eq!(rig.register(0x500, Width::B2) & 0xfff0, 0xb0c0);
    assert_eq!(rig.register(0x500 + 2 * u64::from(MEMORY_64K), Width::B2), 256);
    assert_eq!((rig.register(0x600, Width::B4), rig.register(0x604, Width::B4)), (8, 0x1e1e_1e1e));
    let header: Vec<u64> = (0..8).map(|at| rig.register(at, Width::B1)).collect();
    assert_eq!(header, [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
    rig.set_register(0x604, Width::B4, 0x1e1e_1e1e);
    rig.set_register(0x402, Width::B1, 1);
    rig.register(0x41a, Width::B1);
    rig.set_register(0x400, Width::B1, 0x20);
    let values = [
        (ENABLE, 0),
        (BPP, 32),
        (X_RES, 1280),
        (Y_RES, 800),
        (BANK, 0),
        (VIRT_WIDTH, 1280),
        (VIRT_HEIGHT, 1600),
        (X_OFFSET, 0),
        (Y_OFFSET, 0),
        (ENABLE, ENABLED | LFB),
    ];
    for (register, value) in values {
        rig.set_register(0x500 + 2 * u64::from(register), Width::B2, value.into());
    }
    rig.board.memory.write(Gpa(LFB_BASE), &[0xff, 0, 0, 0]).expect("mapped");
    rig.render();
    assert_eq!((rig.frame.width, rig.frame.height, rig.pixel(0, 0)), (1280, 800, [0, 0, 255]));
}

#[test]
fn restored_card_maps_its_memory_when_told() {
    let mut rig = Rig::new();
    rig.map();
    rig.set_vbe(640, 480, 8);
    rig.vbe_write(BANK, 3);
    let section = rig.vga.save();
    let mut twin = Rig::new();
    twin.vga.restore(&section).expect("its own state");
    twin.vga.map(&mut twin.board.memory);
    assert_eq!(twin.board.memory.frame_buffer(), Some(Gpa(LFB_BASE)));
    twin.board.memory.write_video(3 << 16, &[7]);
    assert_eq!(twin.board.memory.read_array(Gpa(0xa_0000)), Ok([7]));
}

#[test]
fn reset_switches_everything_off() {
    let mut rig = Rig::new();
    rig.map();
    rig.set_vbe(640, 480, 8);
    rig.vga.reset(&mut rig.board.cx());
    assert_eq!((rig.board.memory.frame_buffer(), rig.vbe_read(ENABLE)), (None, 0));
    assert!(!rig.board.memory.video_window_is_mapped());
    rig.render();
    assert_eq!(rig.frame.width, 720);
}
