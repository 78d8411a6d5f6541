//! Text modes: from characters, attributes and a character set to pixels, or to a string.
//!
//! Characters are in plane 0 and their attributes in plane 1, where the CRT controller's addresses lead (`layout.rs`).
//! The glyph's lines are in plane 2, 32 bytes a glyph, in one of eight sets.

use crate::codepage;
use crate::frame::{Drawn, DrawnText, Frame, Shown};
pub use crate::layout::Layout as TextLayout;
use crate::layout::{Layout, Row, address};
use crate::planes::cell;
use crate::registers::spec::*;
use crate::screen::{Phase, Screen};

/// Bytes of plane 2 per glyph.
pub const GLYPH_STRIDE: usize = 32;

/// Bytes of plane 2 in a set.
const SET: usize = 256 * GLYPH_STRIDE;

/// What a character looks like, whichever it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Look {
    colours: [[u8; 4]; 16],
    blinks: bool,
    line_graphics: bool,
    /// The sets for attribute bit 3 clear and set.
    sets: [Vec<u8>; 2],
    underline: u32,
    cursor: core::ops::RangeInclusive<u32>,
}

impl Look {
    /// The look that the registers, the palette and the character sets give.
    fn new(screen: &Screen<'_>) -> Self {
        let r = screen.registers;
        let mode = r.attr[ATTR_MODE];
        let map = r.seq[SEQ_CHARACTER_MAP];
        let starts = [set_start(map & 3, map >> 4 & 1), set_start(map >> 2 & 3, map >> 5 & 1)];
        Self {
            colours: core::array::from_fn(|i| screen.colour(i)),
            blinks: mode & ATTR_BLINK != 0,
            line_graphics: mode & ATTR_LINE_GRAPHICS != 0,
            sets: starts.map(|start| set_at(screen, start)),
            underline: u32::from(r.crtc[CRTC_UNDERLINE] & 0x1f),
            cursor: u32::from(r.crtc[CRTC_CURSOR_START] & 0x1f)..=u32::from(r.crtc[CRTC_CURSOR_END] & 0x1f),
        }
    }

    /// The lit dots of a glyph line, the leftmost in bit 8; the lowest is the ninth dot.
    fn dots(&self, cell: Cell, scan: u32) -> u32 {
        const ALL: u32 = 0x1ff;
        let under_cursor = cell.cursor && self.cursor.contains(&scan);
        if under_cursor || (scan == self.underline && cell.attribute & 7 == 1) {
            return ALL;
        }
        let set = &self.sets[usize::from(cell.attribute >> 3 & 1)];
        let at = usize::from(cell.code) * GLYPH_STRIDE + scan as usize % GLYPH_STRIDE;
        let dots = u32::from(set[at]);
        let repeats = self.line_graphics && (0xc0..0xe0).contains(&cell.code);
        dots << 1 | if repeats { dots & 1 } else { 0 }
    }

    /// Foreground and background.
    fn colours(&self, cell: Cell) -> [[u8; 4]; 2] {
        let background = cell.attribute >> 4 & if self.blinks { 7 } else { 15 };
        let foreground = if cell.hidden { background } else { cell.attribute & 15 };
        [foreground, background].map(|c| self.colours[usize::from(c)])
    }
}

/// Where one of the eight character sets begins in plane 2. The upper four lie between the lower four,
/// because the EGA had only those.
fn set_start(low: u8, high: u8) -> u32 {
    u32::from(low) * 0x4000 + u32::from(high) * 0x2000
}

/// The character set at `start` of plane 2.
fn set_at(screen: &Screen<'_>, start: u32) -> Vec<u8> {
    let mut cells = vec![0; SET * 4];
    screen.memory.read_video(start * 4, &mut cells);
    cells.into_iter().skip(2).step_by(4).collect()
}

/// One character on the screen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cell {
    code: u8,
    attribute: u8,
    /// In the dark half of its blinking.
    hidden: bool,
    /// The cursor is on it and lit.
    cursor: bool,
}

impl Cell {
    fn key(self) -> u32 {
        let flags = u32::from(self.hidden) << 16 | u32::from(self.cursor) << 17;
        u32::from(self.code) | u32::from(self.attribute) << 8 | flags
    }
}

impl Screen<'_> {
    /// Draws the characters that have changed.
    pub fn draw_text(
        &self,
        phase: Phase,
        layout: Layout,
        before: Option<Drawn>,
        frame: &mut Frame,
    ) -> (Shown, bool) {
        const NOT_DRAWN: u32 = u32::MAX;
        let resized = frame.resize(layout.width(), layout.height);
        let look = Look::new(self);
        let mut cells = match before.map(|d| d.shown) {
            Some(Shown::Text(b)) if !resized && b.layout == layout && b.look == look => b.cells,
            _ => vec![NOT_DRAWN; layout.rows.len() * layout.columns_drawn() as usize],
        };
        let mut changed = resized;
        let mut keys = cells.iter_mut();
        for row in &layout.rows {
            for (column, key) in (0..layout.columns_drawn()).zip(&mut keys) {
                let cell = self.cell(row, column, phase);
                if *key != cell.key() {
                    *key = cell.key();
                    changed = true;
                    draw_cell(frame, &layout, &look, (row, column), cell);
                }
            }
        }
        (Shown::Text(DrawnText { layout, look, cells }), changed)
    }

    fn cell(&self, row: &Row, column: u32, phase: Phase) -> Cell {
        const OFF: u8 = 0x20;
        let r = self.registers;
        let n = row.first.wrapping_add(column as u16);
        let [code, attribute, ..] = cell(self.memory, address(r, row.first, column, 0)).to_le_bytes();
        let blinks = r.attr[ATTR_MODE] & ATTR_BLINK != 0 && attribute & 0x80 != 0;
        let has_cursor = n == r.crtc_word(CRTC_CURSOR) && r.crtc[CRTC_CURSOR_START] & OFF == 0;
        Cell {
            code,
            attribute,
            hidden: blinks && !phase.characters_lit(),
            cursor: has_cursor && phase.cursor_lit(),
        }
    }

    /// The characters on the screen: trailing blanks trimmed, rows joined by line feeds; empty in a graphics
    /// mode.
    pub fn text(&self) -> String {
        if !self.is_text() {
            return String::new();
        }
        let layout = Layout::new(self.registers);
        let rows: Vec<String> = layout.rows.iter().map(|row| self.row_text(row, layout.columns)).collect();
        rows.join("\n")
    }

    fn row_text(&self, row: &Row, columns: u32) -> String {
        let at = |column| address(self.registers, row.first, column, 0);
        let codes = (0..columns).map(|column| cell(self.memory, at(column)) as u8);
        codes.map(codepage::unicode).collect::<String>().trim_end().to_owned()
    }
}

/// Draws a cell, cut where panning moves it over an edge.
fn draw_cell(frame: &mut Frame, layout: &Layout, look: &Look, (row, column): (&Row, u32), cell: Cell) {
    let [foreground, background] = look.colours(cell);
    let width = layout.dots * layout.across;
    let left = i64::from(column * width) - i64::from(row.pan * layout.across);
    for line in 0..row.lines {
        let dots = look.dots(cell, row.scan + line / layout.down);
        let pixels = frame.line(row.y + line);
        for x in 0..width {
            let lit = dots >> (8 - x / layout.across) & 1 != 0;
            let at = usize::try_from((left + i64::from(x)) * 4).unwrap_or(usize::MAX);
            if let Some(pixel) = pixels.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
                *pixel = if lit { foreground } else { background };
            }
        }
    }
}
