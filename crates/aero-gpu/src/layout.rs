//! Where the CRT controller finds what it shows: rows of characters, and the plane addresses of each.
//!
//! Graphics modes are laid out like text: a "character" is then eight dots of a line. The controller counts characters
//! from the start address; each count becomes a plane address by its byte, word or dword mode. In mode 3 it is word
//! mode: character *n* is at address 2*n* of planes 0 (code) and 1 (attribute).

use crate::planes::PLANE;
use crate::registers::Registers;
use crate::registers::spec::*;
use core::ops::Range;

/// Where everything is on the screen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Characters in a line.
    pub columns: u32,
    /// Dots in a character: 8 or 9.
    pub dots: u32,
    /// Pixels per dot across: 2 at half the dot clock.
    pub across: u32,
    /// Screen lines per line of a row: 2 with double scanning.
    pub down: u32,
    pub height: u32,
    pub rows: Vec<Row>,
}

/// One row of characters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The character count of its first cell.
    pub first: u16,
    /// Its first line on the screen.
    pub y: u32,
    /// The line of the row that is shown there.
    pub scan: u32,
    /// How many screen lines it has.
    pub lines: u32,
    /// How many dots it is moved to the left.
    pub pan: u32,
}

/// What a piece of the screen begins with.
struct Piece {
    first: u16,
    scan: u32,
    pan: u32,
}

impl Layout {
    /// The layout that the registers describe.
    pub fn new(r: &Registers) -> Self {
        let clocking = r.seq[SEQ_CLOCKING];
        let nine = clocking & CLOCKING_8_DOTS == 0 && !r.is_graphics();
        let mut layout = Self {
            columns: u32::from(r.crtc[CRTC_H_DISPLAY]) + 1,
            dots: if nine { 9 } else { 8 },
            across: if clocking & CLOCKING_HALF != 0 { 2 } else { 1 },
            down: if r.crtc[CRTC_MAX_SCAN] & 0x80 != 0 { 2 } else { 1 },
            height: r.displayed_lines(),
            rows: Vec::new(),
        };
        let preset = r.crtc[CRTC_PRESET_ROW];
        let first = r.crtc_word(CRTC_START).wrapping_add(u16::from(preset >> 5 & 3));
        let pan = layout.panning(r);
        let below = if r.attr[ATTR_MODE] & ATTR_PAN_ABOVE_SPLIT != 0 { 0 } else { pan };
        let split = (r.line_compare() + 1).min(layout.height);
        layout.add_rows(r, 0..split, Piece { first, scan: u32::from(preset & 0x1f), pan });
        layout.add_rows(r, split..layout.height, Piece { first: 0, scan: 0, pan: below });
        layout
    }

    /// Dots that the picture is moved to the left. With nine dots 8 means none.
    fn panning(&self, r: &Registers) -> u32 {
        let value = u32::from(r.attr[ATTR_PANNING] & 15);
        match self.dots {
            9 if value >= 8 => 0,
            9 => value + 1,
            // Two dots are one pixel there.
            _ if r.gfx[GFX_MODE] & MODE_256 != 0 => value & 6,
            _ => value & 7,
        }
    }

    /// Fills screen lines with rows.
    fn add_rows(&mut self, r: &Registers, lines: Range<u32>, piece: Piece) {
        let row_lines = u32::from(r.crtc[CRTC_MAX_SCAN] & 0x1f) + 1;
        let Piece { mut first, mut scan, pan } = piece;
        scan = if scan < row_lines { scan } else { 0 };
        let mut y = lines.start;
        while y < lines.end {
            let count = ((row_lines - scan) * self.down).min(lines.end - y);
            self.rows.push(Row { first, y, scan, lines: count, pan });
            first = first.wrapping_add(u16::from(r.crtc[CRTC_OFFSET]) * 2);
            (y, scan) = (y + count, 0);
        }
    }

    /// Pixels in a line.
    pub fn width(&self) -> u32 {
        self.columns * self.dots * self.across
    }

    /// Characters in a line, one more if a row is moved and shows a piece of it.
    pub fn columns_drawn(&self) -> u32 {
        self.columns + u32::from(self.rows.iter().any(|row| row.pan != 0))
    }
}

/// The plane address of the character `column` places behind count `first`, in line `scan` of its row.
///
/// Dword mode belongs to chain 4, which on the original leaves three of four addresses unused. Here chain 4 is packed
/// (`planes.rs`), so that dword mode is byte mode.
pub fn address(r: &Registers, first: u16, column: u32, scan: u32) -> u32 {
    const BYTES: u8 = 0x40;
    const DWORDS: u8 = 0x40;
    const WRAP_AT_BIT_15: u8 = 0x20;
    let mode = r.crtc[CRTC_MODE];
    let slower = match (r.crtc[CRTC_UNDERLINE] & UNDERLINE_COUNT_BY_4, mode & CRTC_MODE_COUNT_BY_2) {
        (0, 0) => 0,
        (0, _) => 1,
        _ => 2,
    };
    let n = u32::from(first.wrapping_add((column >> slower) as u16));
    let at = if r.crtc[CRTC_UNDERLINE] & DWORDS != 0 || mode & BYTES != 0 {
        n
    } else {
        let wrap = if mode & WRAP_AT_BIT_15 != 0 { 15 } else { 13 };
        n << 1 | n >> wrap & 1
    };
    // A clear bit puts the line's bit in the place of the address's.
    let banks = u32::from(!mode & CRTC_MODE_MEMORY_BANKS) << 13;
    (at & !banks | scan << 13 & banks) % PLANE
}
