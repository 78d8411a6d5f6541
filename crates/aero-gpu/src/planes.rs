//! The four planes of video memory and the datapath between them and the processor.
//!
//! The planes are stored side by side, one dword for each plane address with plane 0 in its low byte: a latch
//! load is one read, the four byte lanes of the datapath are one dword operation, and a linear frame buffer
//! (chain 4) is the same memory in plain order.
//!
//! A read loads all four bytes of an address into the *latches* and returns one of them (read mode 0) or
//! which pixels have a given colour (read mode 1). A write combines the processor's byte with the latches as
//! the write mode says and goes to the planes that the map mask enables. (IBM PS/2 Hardware Interface
//! Technical Reference, Video Subsystem, "Graphics Controller".)

use aero_mem::GuestMemory;

/// Bytes of the VGA's own memory, the beginning of video memory.
pub const SIZE: usize = 256 << 10;

/// Addresses in a plane.
pub const PLANE: u32 = (SIZE / 4) as u32;

/// How the processor's accesses reach the planes: the registers that matter, decoded.
#[derive(Clone, Copy, Debug)]
pub struct Datapath {
    /// Sequencer 4 bit 3: address bits 1:0 choose the plane.
    pub chain4: bool,
    /// Sequencer 4 bit 2 clear: on writes, even addresses go to planes 0 and 2, odd ones to 1 and 3.
    pub odd_even_write: bool,
    /// Graphics 5 bit 4: the same on reads.
    pub odd_even_read: bool,
    /// Sequencer 2: the planes that a write reaches.
    pub map_mask: u8,
    /// Graphics 0–8.
    pub graphics: [u8; 9],
    /// Which 64 KiB of plane addresses: VBE's bank.
    pub bank: u16,
}

/// The latches, and the way through them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Planes {
    /// What the last read loaded, plane 0 lowest.
    pub latches: u32,
}

/// The four bytes at a plane address, plane 0 lowest.
pub fn cell(memory: &GuestMemory, address: u32) -> u32 {
    memory.video_dword(address << 2)
}

/// A byte in each of the four lanes.
fn in_every_lane(byte: u8) -> u32 {
    u32::from(byte) * 0x0101_0101
}

/// The low four bits of `bits` as four lanes of all ones or zeros.
fn lanes(bits: u8) -> u32 {
    (0..4).filter(|plane| bits >> plane & 1 != 0).map(|plane| 0xff << (8 * plane)).sum()
}

impl Datapath {
    /// The plane address of `address` in the bank; addresses wrap at 64 KiB.
    fn cell(&self, address: u32) -> u32 {
        u32::from(self.bank) * PLANE + address % PLANE
    }

    /// Whether bytes go to and come from memory as they are, in chain 4: then the window can be mapped. (What is lost
    /// is that reads load the latches, which count in no such mode.)
    pub fn is_plain(&self) -> bool {
        let g = &self.graphics;
        self.chain4 && self.map_mask == 15 && (g[1], g[3], g[5] & 0x0b, g[8]) == (0, 0, 0, 0xff)
    }
}

impl Planes {
    /// The processor reads `address` (bytes from the window's start).
    pub fn read(&mut self, memory: &GuestMemory, path: &Datapath, address: u32) -> u8 {
        let selected = path.graphics[4] & 3;
        let (at, plane) = if path.chain4 {
            (address >> 2, (address & 3) as u8)
        } else if path.odd_even_read {
            (address & !1, selected & 2 | (address & 1) as u8)
        } else {
            (address, selected)
        };
        self.latches = cell(memory, path.cell(at));
        let compares_colours = path.graphics[5] & 8 != 0;
        if compares_colours {
            self.matching_pixels(path)
        } else {
            self.latches.to_le_bytes()[usize::from(plane)]
        }
    }

    /// Read mode 1: a bit per pixel, set where the planes of "colour don't care" have the bits of "colour
    /// compare".
    fn matching_pixels(&self, path: &Datapath) -> u8 {
        let differing = (self.latches ^ lanes(path.graphics[2])) & lanes(path.graphics[7]);
        !differing.to_le_bytes().into_iter().fold(0, |all, lane| all | lane)
    }

    /// The processor writes `address` (bytes from the window's start).
    pub fn write(&self, memory: &mut GuestMemory, path: &Datapath, address: u32, value: u8) {
        let (at, planes) = if path.chain4 {
            (address >> 2, 1 << (address & 3))
        } else if path.odd_even_write {
            (address & !1, if address & 1 == 0 { 0b0101 } else { 0b1010 })
        } else {
            (address, 0b1111)
        };
        let enabled = lanes(planes & path.map_mask);
        let at = path.cell(at);
        let before = cell(memory, at);
        let after = before & !enabled | self.latches_combined(path, value) & enabled;
        // What does not change must not be drawn again.
        if after != before {
            memory.set_video_dword(at << 2, after);
        }
    }

    /// The four bytes that a write of `value` makes from it and the latches.
    fn latches_combined(&self, path: &Datapath, value: u8) -> u32 {
        let g = &path.graphics;
        let rotated = value.rotate_right(u32::from(g[3] & 7));
        let (new, bit_mask) = match g[5] & 3 {
            0 => (in_every_lane(rotated) & !lanes(g[1]) | lanes(g[0] & g[1]), g[8]),
            1 => return self.latches,
            2 => (lanes(value), g[8]),
            _ => (lanes(g[0]), g[8] & rotated),
        };
        let new = match g[3] >> 3 & 3 {
            0 => new,
            1 => new & self.latches,
            2 => new | self.latches,
            _ => new ^ self.latches,
        };
        let mask = in_every_lane(bit_mask);
        new & mask | self.latches & !mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planar(graphics: [u8; 9]) -> Datapath {
        Datapath {
            chain4: false,
            odd_even_write: false,
            odd_even_read: false,
            map_mask: 0xf,
            graphics,
            bank: 0,
        }
    }

    /// Planes with their memory.
    struct Rig {
        memory: GuestMemory,
        planes: Planes,
    }

    impl Rig {
        fn with_latches(latches: u32) -> Self {
            let memory = GuestMemory::with_video(1 << 20, 1, &[], SIZE as u64).expect("a small memory");
            Self { memory, planes: Planes { latches } }
        }

        fn new() -> Self {
            Self::with_latches(0)
        }

        fn write(&mut self, path: &Datapath, address: u32, value: u8) {
            self.planes.write(&mut self.memory, path, address, value);
        }

        fn read(&mut self, path: &Datapath, address: u32) -> u8 {
            self.planes.read(&self.memory, path, address)
        }

        fn cell(&self, at: u32) -> u32 {
            cell(&self.memory, at)
        }

        fn set_cell(&mut self, at: u32, value: u32) {
            self.memory.set_video_dword(at << 2, value);
        }
    }

    // checklist: 37
    #[test]
    fn write_mode_0_rotates_and_takes_set_reset_where_enabled() {
        let mut p = Rig::new();
        p.write(&planar([0b0001, 0b0011, 0, 1, 0, 0, 0, 0, 0xff]), 5, 0b0000_0011);
        assert_eq!(p.cell(5), 0x8181_00ff);
    }

    // checklist: 37
    #[test]
    fn write_mode_0_keeps_latched_pixels_outside_the_bit_mask() {
        let mut p = Rig::with_latches(0x4433_2211);
        p.write(&planar([0, 0, 0, 0, 0, 0, 0, 0, 0x0f]), 0, 0xff);
        assert_eq!(p.cell(0), 0x4f3f_2f1f);
    }

    // checklist: 37
    #[test]
    fn logical_functions_combine_with_the_latches() {
        for (function, expected) in [(0, 0x0f0f_0f0f), (1, 0x0303_0303), (2, 0x3f3f_3f3f), (3, 0x3c3c_3c3c)] {
            let mut p = Rig::with_latches(0x3333_3333);
            p.write(&planar([0, 0, 0, function << 3, 0, 0, 0, 0, 0xff]), 0, 0x0f);
            assert_eq!(p.cell(0), expected, "function {function}");
        }
    }

    // checklist: 37
    #[test]
    fn write_mode_1_copies_the_latches() {
        let mut p = Rig::new();
        p.set_cell(9, 0xdead_beef);
        let path = planar([0, 0, 0, 0, 0, 1, 0, 0, 0]);
        p.read(&path, 9);
        p.write(&path, 10, 0);
        assert_eq!(p.cell(10), 0xdead_beef);
    }

    // checklist: 37
    #[test]
    fn write_mode_2_spreads_a_colour_over_the_planes() {
        let mut p = Rig::new();
        p.write(&planar([0, 0, 0, 0, 0, 2, 0, 0, 0xf0]), 0, 0b1010);
        assert_eq!(p.cell(0), 0xf000_f000);
    }

    // checklist: 37
    #[test]
    fn write_mode_3_uses_the_byte_as_a_bit_mask_for_set_reset() {
        let mut p = Rig::with_latches(0x1111_1111);
        p.write(&planar([0b0110, 0, 0, 0, 0, 3, 0, 0, 0x3c]), 0, 0xf0);
        assert_eq!(p.cell(0), 0x0131_3101);
    }

    #[test]
    fn read_mode_0_selects_a_plane_and_mode_1_compares_colours() {
        let mut p = Rig::new();
        p.set_cell(3, 0x0f_00_f0_ff);
        assert_eq!(p.read(&planar([0, 0, 0, 0, 3, 0, 0, 0, 0]), 3), 0x0f);
        assert_eq!(p.read(&planar([0, 0, 0b0011, 0, 0, 8, 0, 0b1111, 0]), 3), 0xf0);
        assert_eq!(
            p.read(&planar([0, 0, 0, 0, 0, 8, 0, 0b0100, 0]), 3),
            0xff,
            "plane 2 alone is 0 everywhere"
        );
    }

    #[test]
    fn odd_even_puts_neighbours_into_planes_0_and_1() {
        let mut p = Rig::new();
        let text = Datapath {
            odd_even_write: true,
            odd_even_read: true,
            map_mask: 3,
            ..planar([0, 0, 0, 0, 0, 0x10, 0x0e, 0, 0xff])
        };
        p.write(&text, 6, b'A');
        p.write(&text, 7, 0x1e);
        assert_eq!((p.cell(6), p.cell(7)), (0x1e41, 0));
        assert_eq!((p.read(&text, 6), p.read(&text, 7)), (b'A', 0x1e));
    }

    #[test]
    fn chain_4_is_linear_and_map_mask_still_counts() {
        let mut p = Rig::new();
        let path = Datapath { chain4: true, map_mask: 0b0111, ..planar([0, 0, 0, 0, 0, 0, 0, 0, 0xff]) };
        for (i, byte) in (0..).zip([1, 2, 3, 4]) {
            p.write(&path, 8 + i, byte);
        }
        assert_eq!((p.cell(2), p.read(&path, 10)), (0x0003_0201, 3));
    }
}
