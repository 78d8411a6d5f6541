//! Text modes: from characters, attributes and a character set to pixels, or to a string.
//!
//! The CRT controller counts characters from the start address; each count becomes a memory address by its
//! byte, word or dword mode. In mode 3 it is word mode: character *n* is at address 2*n* of planes 0 (code)
//! and 1 (attribute). The glyph's lines are in plane 2, 32 bytes a glyph, in one of eight sets.

use crate::codepage;
use crate::dac::Dac;
use crate::frame::{Drawn, DrawnText, Frame};
use crate::planes::Planes;
use crate::registers::Registers;
use crate::registers::spec::*;
use aero_bus::VmTime;

/// Bytes of plane 2 per glyph.
pub const GLYPH_STRIDE: usize = 32;

/// Where everything is on the screen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    columns: u32,
    /// Dots in a character: 8 or 9.
    dots: u32,
    /// Pixels per dot across: 2 at half the dot clock.
    across: u32,
    /// Screen lines per glyph line: 2 with double scanning.
    down: u32,
    height: u32,
    rows: Vec<Row>,
}

/// One row of characters.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Row {
    /// The character count of its first cell.
    first: u16,
    /// Its first line on the screen.
    y: u32,
    /// The glyph line shown there.
    scan: u32,
    /// How many screen lines it has.
    lines: u32,
}

impl Layout {
    /// The layout that the registers describe.
    pub fn new(r: &Registers) -> Self {
        let clocking = r.seq[SEQ_CLOCKING];
        let mut layout = Self {
            columns: u32::from(r.crtc[CRTC_H_DISPLAY]) + 1,
            dots: if clocking & CLOCKING_8_DOTS != 0 { 8 } else { 9 },
            across: if clocking & CLOCKING_HALF != 0 { 2 } else { 1 },
            down: if r.crtc[CRTC_MAX_SCAN] & 0x80 != 0 { 2 } else { 1 },
            height: r.displayed_lines(),
            rows: Vec::new(),
        };
        let split = (r.line_compare() + 1).min(layout.height);
        layout.add_rows(r, 0..split, r.crtc_word(CRTC_START), u32::from(r.crtc[CRTC_PRESET_ROW] & 0x1f));
        layout.add_rows(r, split..layout.height, 0, 0);
        layout
    }

    /// Fills screen lines with rows, the first of them from glyph line `scan`.
    fn add_rows(&mut self, r: &Registers, lines: core::ops::Range<u32>, mut first: u16, scan: u32) {
        let glyph_lines = u32::from(r.crtc[CRTC_MAX_SCAN] & 0x1f) + 1;
        let mut scan = if scan < glyph_lines { scan } else { 0 };
        let mut y = lines.start;
        while y < lines.end {
            let count = ((glyph_lines - scan) * self.down).min(lines.end - y);
            self.rows.push(Row { first, y, scan, lines: count });
            first = first.wrapping_add(u16::from(r.crtc[CRTC_OFFSET]) * 2);
            (y, scan) = (y + count, 0);
        }
    }

    /// Pixels in a line.
    pub fn width(&self) -> u32 {
        self.columns * self.dots * self.across
    }

    /// Lines.
    pub fn height(&self) -> u32 {
        self.height
    }
}

/// What a character looks like, whichever it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Look {
    colours: [[u8; 4]; 16],
    blinks: bool,
    line_graphics: bool,
    /// Where the sets for attribute bit 3 clear and set begin in plane 2.
    sets: [usize; 2],
    /// The device's count of changes of plane 2.
    set_generation: u64,
    underline: u32,
    cursor: core::ops::RangeInclusive<u32>,
}

impl Look {
    /// The look that the registers and the palette give.
    pub fn new(r: &Registers, dac: &Dac, set_generation: u64) -> Self {
        let mode = r.attr[ATTR_MODE];
        let map = r.seq[SEQ_CHARACTER_MAP];
        Self {
            colours: core::array::from_fn(|i| colour(r, dac, i)),
            blinks: mode & ATTR_BLINK != 0,
            line_graphics: mode & ATTR_LINE_GRAPHICS != 0,
            sets: [set_start(map & 3, map >> 4 & 1), set_start(map >> 2 & 3, map >> 5 & 1)],
            set_generation,
            underline: u32::from(r.crtc[CRTC_UNDERLINE] & 0x1f),
            cursor: u32::from(r.crtc[CRTC_CURSOR_START] & 0x1f)..=u32::from(r.crtc[CRTC_CURSOR_END] & 0x1f),
        }
    }

    /// The lit dots of a glyph line, the leftmost in bit 8; the lowest is the ninth dot.
    fn dots(&self, planes: &Planes, cell: Cell, scan: u32) -> u32 {
        const ALL: u32 = 0x1ff;
        let under_cursor = cell.cursor && self.cursor.contains(&scan);
        if under_cursor || (scan == self.underline && cell.attribute & 7 == 1) {
            return ALL;
        }
        let set = self.sets[usize::from(cell.attribute >> 3 & 1)];
        let at = set + usize::from(cell.code) * GLYPH_STRIDE + scan as usize;
        let dots = planes.cell(at) >> 16 & 0xff;
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
fn set_start(low: u8, high: u8) -> usize {
    usize::from(low) * 0x4000 + usize::from(high) * 0x2000
}

/// The colour of pixel value `index` (0..=15): plane enable, palette, colour select, then the DAC.
fn colour(r: &Registers, dac: &Dac, index: usize) -> [u8; 4] {
    let select = r.attr[ATTR_COLOUR_SELECT];
    let mut value = r.attr[index & usize::from(r.attr[ATTR_PLANES] & 15)] & 0x3f | (select & 0x0c) << 4;
    if r.attr[ATTR_MODE] & ATTR_P54_SELECT != 0 {
        value = value & 0xcf | (select & 3) << 4;
    }
    let [red, green, blue] = dac.rgb(value);
    [red, green, blue, 0xff]
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

/// The plane address of character count `n`.
fn address(r: &Registers, n: u16) -> usize {
    const BYTES: u8 = 0x40;
    const DWORDS: u8 = 0x40;
    const WRAP_AT_BIT_15: u8 = 0x20;
    let n = usize::from(n);
    if r.crtc[CRTC_UNDERLINE] & DWORDS != 0 {
        n << 2 | n >> 14
    } else if r.crtc[CRTC_MODE] & BYTES != 0 {
        n
    } else {
        let wrap = if r.crtc[CRTC_MODE] & WRAP_AT_BIT_15 != 0 { 15 } else { 13 };
        n << 1 | n >> wrap & 1
    }
}

/// The two blinking states at a time: the cursor changes every 8 frames, characters every 16.
#[derive(Clone, Copy)]
pub struct Phase(u64);

impl Phase {
    /// The phase at `now`.
    pub fn at(now: VmTime) -> Self {
        Self(now.ticks(FRAME_HZ) / 8)
    }

    fn cursor_lit(self) -> bool {
        self.0 & 1 == 0
    }

    fn characters_lit(self) -> bool {
        self.0 & 2 == 0
    }
}

/// What the text is made from.
pub struct Source<'a> {
    pub registers: &'a Registers,
    pub planes: &'a Planes,
    pub dac: &'a Dac,
    /// Counts changes of anything.
    pub generation: u64,
    /// Counts changes of plane 2.
    pub set_generation: u64,
}

impl Source<'_> {
    /// Draws the screen if it is not what `frame` shows. True if a pixel changed.
    pub fn render(&self, phase: Phase, frame: &mut Frame) -> bool {
        if frame.drawn.as_ref().is_some_and(|d| d.generation == self.generation && d.phase == phase.0) {
            return false;
        }
        let drawn = frame.drawn.take();
        let layout = Layout::new(self.registers);
        let before = drawn.and_then(|d| d.text);
        let was_text = before.is_some();
        let resized = frame.resize(layout.width(), layout.height());
        let (text, changed) = if self.registers.is_blank() || self.registers.is_graphics() {
            if was_text {
                frame.clear();
            }
            (None, was_text)
        } else {
            let (text, changed) = self.draw_text(phase, layout, before.filter(|_| !resized), frame);
            (Some(text), changed)
        };
        frame.drawn = Some(Drawn { generation: self.generation, phase: phase.0, text });
        changed || resized
    }

    fn draw_text(
        &self,
        phase: Phase,
        layout: Layout,
        before: Option<DrawnText>,
        frame: &mut Frame,
    ) -> (DrawnText, bool) {
        const NOT_DRAWN: u32 = u32::MAX;
        let look = Look::new(self.registers, self.dac, self.set_generation);
        let mut cells = match before {
            Some(b) if b.layout == layout && b.look == look => b.cells,
            _ => vec![NOT_DRAWN; layout.rows.len() * layout.columns as usize],
        };
        let mut changed = false;
        let mut keys = cells.iter_mut();
        for row in &layout.rows {
            for (column, key) in (0..layout.columns).zip(&mut keys) {
                let cell = self.cell(row, column, phase);
                if *key != cell.key() {
                    *key = cell.key();
                    changed = true;
                    self.draw_cell(frame, &layout, &look, (row, column), cell);
                }
            }
        }
        (DrawnText { layout, look, cells }, changed)
    }

    fn cell(&self, row: &Row, column: u32, phase: Phase) -> Cell {
        const OFF: u8 = 0x20;
        let r = self.registers;
        let n = row.first.wrapping_add(column as u16);
        let [code, attribute, ..] = self.planes.cell(address(r, n)).to_le_bytes();
        let blinks = r.attr[ATTR_MODE] & ATTR_BLINK != 0 && attribute & 0x80 != 0;
        let has_cursor = n == r.crtc_word(CRTC_CURSOR) && r.crtc[CRTC_CURSOR_START] & OFF == 0;
        Cell {
            code,
            attribute,
            hidden: blinks && !phase.characters_lit(),
            cursor: has_cursor && phase.cursor_lit(),
        }
    }

    fn draw_cell(
        &self,
        frame: &mut Frame,
        layout: &Layout,
        look: &Look,
        (row, column): (&Row, u32),
        cell: Cell,
    ) {
        let [foreground, background] = look.colours(cell);
        let pitch = layout.width() as usize * 4;
        let bytes = (layout.dots * layout.across) as usize * 4;
        for line in 0..row.lines {
            let dots = look.dots(self.planes, cell, row.scan + line / layout.down);
            let start = (row.y + line) as usize * pitch + column as usize * bytes;
            let pixels = frame.rgba[start..start + bytes].chunks_exact_mut(4);
            for (x, pixel) in (0..).zip(pixels) {
                let lit = dots >> (8 - x / layout.across) & 1 != 0;
                pixel.copy_from_slice(if lit { &foreground } else { &background });
            }
        }
    }

    /// The characters on the screen: trailing blanks trimmed, rows joined by line feeds; empty in a graphics
    /// mode.
    pub fn text(&self) -> String {
        if self.registers.is_graphics() {
            return String::new();
        }
        let layout = Layout::new(self.registers);
        let rows: Vec<String> = layout.rows.iter().map(|row| self.row_text(row, layout.columns)).collect();
        rows.join("\n")
    }

    fn row_text(&self, row: &Row, columns: u32) -> String {
        let at = |column| address(self.registers, row.first.wrapping_add(column as u16));
        let codes = (0..columns).map(|column| self.planes.cell(at(column)) as u8);
        codes.map(codepage::unicode).collect::<String>().trim_end().to_owned()
    }
}
