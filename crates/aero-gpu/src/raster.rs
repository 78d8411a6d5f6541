//! Graphics modes: from bytes of video memory to pixels.
//!
//! Every mode is a list of *sources*, pieces of video memory that make a line of pixels, each for one screen line or
//! for several. A source is drawn only if a page of it has been written to, and its line only if the pixels differ.

use crate::frame::{Drawn, Frame, Shown};
use crate::layout::{Layout, Row, address};
use crate::registers::spec::*;
use crate::screen::Screen;
use crate::vbe::Mode;
use core::ops::Range;

/// How bytes become pixels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    /// A bit in each of four planes.
    Planar,
    /// Two bits in each of two planes, four pixels in planes 0 and 2, then four in 1 and 3.
    Interleaved,
    /// A byte a pixel; `repeat` screen pixels show it.
    Indexed,
    /// 5 bits a colour.
    Rgb555,
    /// 5, 6 and 5 bits.
    Rgb565,
    /// Three bytes, blue first.
    Rgb24,
    /// Four bytes, blue first, the last unused.
    Rgb32,
}

/// Where a line's bytes are.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Bytes {
    /// One piece of video memory.
    Run { start: u32, len: u32 },
    /// Cells of the planes, by their addresses.
    Cells(Vec<u32>),
}

/// A line of pixels, and where it is shown.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Source {
    bytes: Bytes,
    /// Screen lines.
    lines: Range<u32>,
    /// Pixels left out at its beginning.
    skip: u32,
}

/// A screen of pixels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Picture {
    width: u32,
    height: u32,
    format: Format,
    /// Screen pixels that show a pixel of memory.
    repeat: u32,
    sources: Vec<Source>,
    /// Colours of pixel values; none where memory holds colours.
    palette: Vec<[u8; 4]>,
}

/// The pixels that a frame shows.
#[derive(Clone, Debug)]
pub(crate) struct DrawnPixels {
    picture: Picture,
}

/// The bits of a byte as eight bytes of 0 or 1, the highest first in memory.
const SPREAD: [u64; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut bit = 0;
        while bit < 8 {
            table[byte] |= ((byte as u64 >> (7 - bit)) & 1) << (8 * bit);
            bit += 1;
        }
        byte += 1;
    }
    table
};

/// The eight pixels of a cell of four planes.
fn planar(cell: u32) -> [u8; 8] {
    let [a, b, c, d] = cell.to_le_bytes().map(|plane| SPREAD[usize::from(plane)]);
    (a | b << 1 | c << 2 | d << 3).to_le_bytes()
}

/// The eight pixels of a cell in the CGA's order.
fn interleaved(cell: u32) -> [u8; 8] {
    let [a, b, c, d] = cell.to_le_bytes();
    let pixel = |low: u8, high: u8, n: usize| {
        let shift = 6 - 2 * (n & 3);
        low >> shift & 3 | (high >> shift & 3) << 2
    };
    core::array::from_fn(|n| if n < 4 { pixel(a, c, n) } else { pixel(b, d, n) })
}

impl Source {
    /// The piece of memory that all its bytes lie in.
    fn span(&self) -> Range<u32> {
        match &self.bytes {
            Bytes::Run { start, len } => *start..start + len,
            Bytes::Cells(cells) => {
                let (least, most) = cells.iter().fold((u32::MAX, 0), |(a, b), at| (a.min(*at), b.max(*at)));
                least.min(most) << 2..(most + 1) << 2
            }
        }
    }
}

impl Screen<'_> {
    /// The picture of a VGA graphics mode.
    pub fn vga_picture(&self, layout: Layout) -> Picture {
        let mode = self.registers.gfx[GFX_MODE];
        let (format, dots) = match (mode & MODE_256, mode & MODE_INTERLEAVED) {
            (0, 0) => (Format::Planar, 1),
            (0, _) => (Format::Interleaved, 1),
            _ => (Format::Indexed, 2),
        };
        Picture {
            width: layout.width(),
            height: layout.height,
            format,
            repeat: dots * layout.across,
            sources: layout.rows.iter().flat_map(|row| self.row_sources(&layout, row, dots)).collect(),
            palette: self.pixel_colours(format),
        }
    }

    /// The lines of a row: one for all its lines, unless the line is a part of the address.
    fn row_sources(&self, layout: &Layout, row: &Row, dots: u32) -> Vec<Source> {
        let banked = !self.registers.crtc[CRTC_MODE] & CRTC_MODE_MEMORY_BANKS != 0;
        let lines = if banked { layout.down } else { row.lines };
        let columns = layout.columns + u32::from(row.pan != 0);
        let source = |y: u32| {
            let scan = row.scan + (y - row.y) / layout.down;
            let cells = (0..columns).map(|c| address(self.registers, row.first, c, scan)).collect();
            let end = (y + lines).min(row.y + row.lines);
            Source { bytes: Bytes::Cells(cells), lines: y..end, skip: row.pan / dots }
        };
        (row.y..row.y + row.lines).step_by(lines as usize).map(source).collect()
    }

    /// The picture of a VBE mode.
    pub fn vbe_picture(&self, mode: Mode) -> Picture {
        let Mode { width, height, bpp, pitch, start } = mode;
        let format = match bpp {
            4 => Format::Planar,
            8 => Format::Indexed,
            15 => Format::Rgb555,
            16 => Format::Rgb565,
            24 => Format::Rgb24,
            _ => Format::Rgb32,
        };
        let (first, len, skip) = match bpp {
            4 => (start / 8 * 4, (width / 8 + 1) * 4, start % 8),
            _ => (start, width * bpp.next_multiple_of(8) / 8, 0),
        };
        let source = |y: u32| {
            let bytes = Bytes::Run { start: first + y * pitch, len };
            Source { bytes, lines: y..y + 1, skip }
        };
        let sources = (0..height).map(source).collect();
        Picture { width, height, format, repeat: 1, sources, palette: self.pixel_colours(format) }
    }

    fn pixel_colours(&self, format: Format) -> Vec<[u8; 4]> {
        match format {
            Format::Planar | Format::Interleaved => (0..16).map(|i| self.colour(i)).collect(),
            Format::Indexed => (0..=255).map(|i| self.palette(i)).collect(),
            _ => Vec::new(),
        }
    }

    /// Draws what has changed of `picture` since `before`.
    pub fn draw_pixels(&self, picture: Picture, before: Option<Drawn>, frame: &mut Frame) -> (Shown, bool) {
        let resized = frame.resize(picture.width, picture.height);
        let clock = before.as_ref().filter(|_| !resized).map(|d| d.clock);
        let same = matches!(before.map(|d| d.shown), Some(Shown::Pixels(d)) if d.picture == picture);
        let clock = clock.filter(|_| same);
        let mut painter = Painter::default();
        let mut changed = resized;
        for source in &picture.sources {
            if clock.is_none_or(|clock| self.changes.since(clock, source.span())) {
                painter.fetch(self, source);
                painter.paint(&picture, source.skip);
                changed |= painter.show(frame, source.lines.clone());
            }
        }
        (Shown::Pixels(DrawnPixels { picture }), changed)
    }
}

/// The line under work.
#[derive(Default)]
struct Painter {
    bytes: Vec<u8>,
    pixels: Vec<u8>,
}

impl Painter {
    fn fetch(&mut self, screen: &Screen<'_>, source: &Source) {
        self.bytes.clear();
        match &source.bytes {
            Bytes::Run { start, len } => {
                self.bytes.resize(*len as usize, 0);
                screen.memory.read_video(*start, &mut self.bytes);
            }
            Bytes::Cells(cells) => {
                let cells = cells.iter().map(|at| screen.memory.video_dword(at << 2));
                self.bytes.extend(cells.flat_map(u32::to_le_bytes));
            }
        }
    }

    /// Makes a line of screen pixels.
    fn paint(&mut self, picture: &Picture, skip: u32) {
        let Self { bytes, pixels } = self;
        pixels.clear();
        let palette = &picture.palette;
        let mut index = |indices: &[u8]| {
            let colours = indices.iter().map(|i| palette[usize::from(*i)]);
            if picture.repeat == 1 {
                pixels.extend(colours.flatten());
            } else {
                colours.for_each(|c| (0..picture.repeat).for_each(|_| pixels.extend_from_slice(&c)));
            }
        };
        let (cells, _) = bytes.as_chunks::<4>();
        match picture.format {
            Format::Planar => cells.iter().for_each(|c| index(&planar(u32::from_le_bytes(*c)))),
            Format::Interleaved => cells.iter().for_each(|c| index(&interleaved(u32::from_le_bytes(*c)))),
            Format::Indexed => index(bytes),
            Format::Rgb555 => extend(pixels, bytes, |[a, b]: [u8; 2]| {
                let v = u16::from_le_bytes([a, b]);
                [five(v >> 10), five(v >> 5), five(v), 0xff]
            }),
            Format::Rgb565 => extend(pixels, bytes, |[a, b]: [u8; 2]| {
                let v = u16::from_le_bytes([a, b]);
                let green = (v >> 5 & 0x3f) as u8;
                [five(v >> 11), green << 2 | green >> 4, five(v), 0xff]
            }),
            Format::Rgb24 => extend(pixels, bytes, |[b, g, r]: [u8; 3]| [r, g, b, 0xff]),
            Format::Rgb32 => extend(pixels, bytes, |[b, g, r, _]: [u8; 4]| [r, g, b, 0xff]),
        }
        pixels.drain(..(skip * picture.repeat * 4).min(pixels.len() as u32) as usize);
        pixels.resize(picture.width as usize * 4, 0xff);
    }

    /// Copies the line to where it is shown; true if a pixel differs.
    fn show(&self, frame: &mut Frame, lines: Range<u32>) -> bool {
        let mut changed = false;
        for y in lines {
            let line = frame.line(y);
            if *line != *self.pixels {
                line.copy_from_slice(&self.pixels);
                changed = true;
            }
        }
        changed
    }
}

/// Five bits as eight.
fn five(v: u16) -> u8 {
    let v = (v & 0x1f) as u8;
    v << 3 | v >> 2
}

/// Appends a pixel for every `N` bytes.
fn extend<const N: usize>(pixels: &mut Vec<u8>, bytes: &[u8], pixel: impl Fn([u8; N]) -> [u8; 4]) {
    let (chunks, _) = bytes.as_chunks::<N>();
    pixels.resize(chunks.len() * 4, 0);
    for (to, from) in pixels.as_chunks_mut::<4>().0.iter_mut().zip(chunks) {
        *to = pixel(*from);
    }
}
