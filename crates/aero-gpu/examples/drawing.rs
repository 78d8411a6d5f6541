//! What a picture costs: every kind of mode, drawn whole, after one write, and when nothing has changed.

use aero_bus::bench::TestBoard;
use aero_bus::{At, Device, PortIo, VmTime, Width};
use aero_gpu::{Frame, REGION_PORTS, REGION_VBE_PORTS, Vga};
use std::time::{Duration, Instant};

const ROUNDS: u32 = 50;

struct Bench {
    board: TestBoard,
    vga: Vga,
    frame: Frame,
}

impl Bench {
    fn out(&mut self, region: u8, offset: u64, width: Width, value: u64) {
        let _ = PortIo::write(&mut self.vga, &mut self.board.cx(), At::new(region, offset), width, value);
    }

    fn indexed(&mut self, port: u64, index: u64, value: u64) {
        self.out(REGION_PORTS, port - 0x3b0, Width::B2, value << 8 | index);
    }

    fn vbe(&mut self, width: u64, height: u64, bpp: u64) {
        for (register, value) in [(4, 0), (1, width), (2, height), (3, bpp), (4, 0x41)] {
            self.out(REGION_VBE_PORTS, 0, Width::B2, register);
            self.out(REGION_VBE_PORTS, 1, Width::B2, value);
        }
    }

    /// The mean time of a drawing after `change`.
    fn time(&mut self, mut change: impl FnMut(&mut TestBoard, u8)) -> Duration {
        let mut spent = Duration::ZERO;
        for round in 0..ROUNDS {
            change(&mut self.board, round as u8);
            let start = Instant::now();
            self.vga.render(VmTime(0), &mut self.board.memory, &mut self.frame);
            spent += start.elapsed();
        }
        spent / ROUNDS
    }

    fn report(&mut self, name: &str, bytes: usize) {
        let whole = self.time(|board, n| board.memory.write_video(0, &vec![n.wrapping_mul(37); bytes]));
        let one = self.time(|board, n| board.memory.write_video(0, &[n]));
        let none = self.time(|_, _| {});
        let Frame { width, height, .. } = self.frame;
        println!("{name:<28} {width}x{height}: all of it {whole:?}, one byte {one:?}, nothing {none:?}");
    }
}

fn main() {
    let mut b = Bench { board: TestBoard::new(), vga: Vga::default(), frame: Frame::default() };
    b.vga.reset(&mut b.board.cx());
    b.report("text, 80x25", 80 * 25 * 8);
    // Mode 3's geometry of 400 lines, with the planes as pixels.
    for (port, index, value) in [(0x3ce, 6, 5), (0x3ce, 5, 0), (0x3c4, 4, 6), (0x3c4, 1, 1), (0x3d4, 9, 0)] {
        b.indexed(port, index, value);
    }
    b.indexed(0x3d4, 0x17, 0xe3);
    b.report("16 colours in planes", 256 << 10);
    for (bpp, bytes) in [(8, 1), (16, 2), (24, 3), (32, 4)] {
        b.vbe(1024, 768, bpp);
        b.report(&format!("VBE, {bpp} bits"), 1024 * 768 * bytes);
    }
    b.vbe(1920, 1080, 32);
    b.report("VBE, 32 bits", 1920 * 1080 * 4);
}
