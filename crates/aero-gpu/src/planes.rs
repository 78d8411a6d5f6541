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

/// Bytes of video memory.
pub const SIZE: usize = 256 << 10;

/// Addresses in a plane.
pub const PLANE: usize = SIZE / 4;

/// Plane 2 in a dword of the planes: the character sets in a text mode.
pub const FONT_LANE: u32 = 0x00ff_0000;

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
}

/// Video memory and the latches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Planes {
    cells: Vec<u32>,
    latches: u32,
}

/// A byte in each of the four lanes.
fn in_every_lane(byte: u8) -> u32 {
    u32::from(byte) * 0x0101_0101
}

/// The low four bits of `bits` as four lanes of all ones or zeros.
fn lanes(bits: u8) -> u32 {
    (0..4).filter(|plane| bits >> plane & 1 != 0).map(|plane| 0xff << (8 * plane)).sum()
}

impl Planes {
    /// Memory of zeros.
    pub fn new() -> Self {
        Self { cells: vec![0; PLANE], latches: 0 }
    }

    /// The four bytes at a plane address, plane 0 lowest. Addresses wrap at 64 KiB.
    pub fn cell(&self, address: usize) -> u32 {
        self.cells[address % PLANE]
    }

    /// Stores four bytes, past the datapath.
    pub fn set_cell(&mut self, address: usize, value: u32) {
        self.cells[address % PLANE] = value;
    }

    /// The processor reads `address` (bytes from the window's start).
    pub fn read(&mut self, path: &Datapath, address: usize) -> u8 {
        let selected = path.graphics[4] & 3;
        let (at, plane) = if path.chain4 {
            (address >> 2, (address & 3) as u8)
        } else if path.odd_even_read {
            (address & !1, selected & 2 | (address & 1) as u8)
        } else {
            (address, selected)
        };
        self.latches = self.cell(at);
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

    /// The processor writes `address` (bytes from the window's start). Returns the bits that changed.
    pub fn write(&mut self, path: &Datapath, address: usize, value: u8) -> u32 {
        let (at, planes) = if path.chain4 {
            (address >> 2, 1 << (address & 3))
        } else if path.odd_even_write {
            (address & !1, if address & 1 == 0 { 0b0101 } else { 0b1010 })
        } else {
            (address, 0b1111)
        };
        let enabled = lanes(planes & path.map_mask);
        let before = self.cell(at);
        let after = before & !enabled | self.latches_combined(path, value) & enabled;
        self.set_cell(at, after);
        before ^ after
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

    /// The memory and the latches, to save.
    pub fn save(&self) -> (Vec<u8>, u32) {
        let Self { cells, latches } = self;
        (cells.iter().flat_map(|cell| cell.to_le_bytes()).collect(), *latches)
    }

    /// Memory from a saved state; `None` when its size is wrong.
    pub fn from_saved(memory: &[u8], latches: u32) -> Option<Self> {
        let (cells, _) = memory.as_chunks::<4>();
        let cells = cells.iter().map(|cell| u32::from_le_bytes(*cell)).collect();
        (memory.len() == SIZE).then_some(Self { cells, latches })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planar(graphics: [u8; 9]) -> Datapath {
        Datapath { chain4: false, odd_even_write: false, odd_even_read: false, map_mask: 0xf, graphics }
    }

    fn with_latches(latches: u32) -> Planes {
        Planes { latches, ..Planes::new() }
    }

    #[test]
    fn write_mode_0_rotates_and_takes_set_reset_where_enabled() {
        let mut p = Planes::new();
        p.write(&planar([0b0001, 0b0011, 0, 1, 0, 0, 0, 0, 0xff]), 5, 0b0000_0011);
        assert_eq!(p.cell(5), 0x8181_00ff);
    }

    #[test]
    fn write_mode_0_keeps_latched_pixels_outside_the_bit_mask() {
        let mut p = with_latches(0x4433_2211);
        p.write(&planar([0, 0, 0, 0, 0, 0, 0, 0, 0x0f]), 0, 0xff);
        assert_eq!(p.cell(0), 0x4f3f_2f1f);
    }

    #[test]
    fn logical_functions_combine_with_the_latches() {
        for (function, expected) in [(0, 0x0f0f_0f0f), (1, 0x0303_0303), (2, 0x3f3f_3f3f), (3, 0x3c3c_3c3c)] {
            let mut p = with_latches(0x3333_3333);
            p.write(&planar([0, 0, 0, function << 3, 0, 0, 0, 0, 0xff]), 0, 0x0f);
            assert_eq!(p.cell(0), expected, "function {function}");
        }
    }

    #[test]
    fn write_mode_1_copies_the_latches() {
        let mut p = Planes::new();
        p.set_cell(9, 0xdead_beef);
        let path = planar([0, 0, 0, 0, 0, 1, 0, 0, 0]);
        p.read(&path, 9);
        p.write(&path, 10, 0);
        assert_eq!(p.cell(10), 0xdead_beef);
    }

    #[test]
    fn write_mode_2_spreads_a_colour_over_the_planes() {
        let mut p = Planes::new();
        p.write(&planar([0, 0, 0, 0, 0, 2, 0, 0, 0xf0]), 0, 0b1010);
        assert_eq!(p.cell(0), 0xf000_f000);
    }

    #[test]
    fn write_mode_3_uses_the_byte_as_a_bit_mask_for_set_reset() {
        let mut p = with_latches(0x1111_1111);
        p.write(&planar([0b0110, 0, 0, 0, 0, 3, 0, 0, 0x3c]), 0, 0xf0);
        assert_eq!(p.cell(0), 0x0131_3101);
    }

    #[test]
    fn read_mode_0_selects_a_plane_and_mode_1_compares_colours() {
        let mut p = Planes::new();
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
        let mut p = Planes::new();
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
        let mut p = Planes::new();
        let path = Datapath { chain4: true, map_mask: 0b0111, ..planar([0, 0, 0, 0, 0, 0, 0, 0, 0xff]) };
        for (i, byte) in [1, 2, 3, 4].into_iter().enumerate() {
            p.write(&path, 8 + i, byte);
        }
        assert_eq!((p.cell(2), p.read(&path, 10)), (0x0003_0201, 3));
    }
}
