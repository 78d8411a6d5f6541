//! The 8×16 character set that a video BIOS would have loaded.
//!
//! The glyphs are Spleen's, from the `spleen-font` crate, which carries them as a PSF1 file: magic `36 04`, a
//! mode byte (bit 0: 512 glyphs, bit 1: a Unicode table follows), the bytes per glyph, the glyphs, and for
//! each glyph a list of UCS-2 characters that ends with FFFFh; after FFFEh come sequences of several
//! characters, which are of no use here. A dozen characters of code page 437 that Spleen lacks are drawn
//! below.

use crate::codepage;

/// Scan lines in a glyph.
pub const HEIGHT: usize = 16;

/// One glyph: a byte per scan line, the leftmost pixel in bit 7.
pub type Glyph = [u8; HEIGHT];

/// Characters of code page 437 that the font file does not have.
#[rustfmt::skip]
const DRAWN_HERE: [(char, Glyph); 11] = [
    ('∟', [0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xc0, 0xc0, 0xc0, 0xc0, 0xfe, 0x00, 0x00, 0x00, 0x00, 0x00]),
    ('α', [0x00, 0x00, 0x00, 0x00, 0x00, 0x76, 0xdc, 0xd8, 0xd8, 0xd8, 0xdc, 0x76, 0x00, 0x00, 0x00, 0x00]),
    ('Σ', [0x00, 0x00, 0xfe, 0xc6, 0xc0, 0x60, 0x30, 0x60, 0xc0, 0xc0, 0xc6, 0xfe, 0x00, 0x00, 0x00, 0x00]),
    ('σ', [0x00, 0x00, 0x00, 0x00, 0x00, 0x7e, 0xd8, 0xcc, 0xcc, 0xcc, 0xcc, 0x78, 0x00, 0x00, 0x00, 0x00]),
    ('τ', [0x00, 0x00, 0x00, 0x00, 0x00, 0x7e, 0xb0, 0x30, 0x30, 0x30, 0x34, 0x18, 0x00, 0x00, 0x00, 0x00]),
    ('Θ', [0x00, 0x00, 0x7c, 0xc6, 0xc6, 0xc6, 0xfe, 0xc6, 0xc6, 0xc6, 0xc6, 0x7c, 0x00, 0x00, 0x00, 0x00]),
    ('δ', [0x00, 0x00, 0x3c, 0x60, 0x30, 0x18, 0x7c, 0xcc, 0xcc, 0xcc, 0xcc, 0x78, 0x00, 0x00, 0x00, 0x00]),
    ('φ', [0x00, 0x00, 0x00, 0x18, 0x18, 0x7e, 0xdb, 0xdb, 0xdb, 0xdb, 0x7e, 0x18, 0x18, 0x00, 0x00, 0x00]),
    ('ε', [0x00, 0x00, 0x00, 0x00, 0x00, 0x7c, 0xc0, 0xc0, 0x78, 0xc0, 0xc0, 0x7c, 0x00, 0x00, 0x00, 0x00]),
    ('►', [0x00, 0x00, 0x00, 0x80, 0xe0, 0xf8, 0xfe, 0xff, 0xfe, 0xf8, 0xe0, 0x80, 0x00, 0x00, 0x00, 0x00]),
    ('◄', [0x00, 0x00, 0x00, 0x01, 0x07, 0x1f, 0x7f, 0xff, 0x7f, 0x1f, 0x07, 0x01, 0x00, 0x00, 0x00, 0x00]),
];

/// The glyphs of code page 437 in order; a character that no font has is blank.
pub fn code_page_437() -> Vec<Glyph> {
    let file = Psf1::parse(spleen_font::FONT_8X16).expect("the built-in font is an 8x16 PSF1 file");
    (0..=255).map(|code| glyph_of(&file, codepage::unicode(code))).collect()
}

fn glyph_of(file: &Psf1<'_>, character: char) -> Glyph {
    let here = || DRAWN_HERE.iter().find(|(c, _)| *c == character).map(|(_, glyph)| *glyph);
    file.glyph(character).or_else(here).unwrap_or([0; HEIGHT])
}

struct Psf1<'a> {
    glyphs: &'a [u8],
    table: &'a [u8],
}

impl<'a> Psf1<'a> {
    /// `None` when `file` is not a PSF1 file with glyphs of 16 lines and a Unicode table.
    fn parse(file: &'a [u8]) -> Option<Self> {
        const WITH_TABLE: u8 = 2;
        let (&[0x36, 0x04, mode, height], rest) = file.split_first_chunk()? else { return None };
        if mode & WITH_TABLE == 0 || usize::from(height) != HEIGHT {
            return None;
        }
        let count = if mode & 1 != 0 { 512 } else { 256 };
        let (glyphs, table) = rest.split_at_checked(count * HEIGHT)?;
        Some(Self { glyphs, table })
    }

    fn glyph(&self, character: char) -> Option<Glyph> {
        let index = self.index_of(u16::try_from(u32::from(character)).ok()?)?;
        self.glyphs.get(index * HEIGHT..)?.first_chunk().copied()
    }

    fn index_of(&self, character: u16) -> Option<usize> {
        const END: u16 = 0xffff;
        const SEQUENCES: u16 = 0xfffe;
        let (mut index, mut in_sequences) = (0, false);
        for pair in self.table.chunks_exact(2) {
            match u16::from_le_bytes([pair[0], pair[1]]) {
                END => (index, in_sequences) = (index + 1, false),
                SEQUENCES => in_sequences = true,
                found if found == character && !in_sequences => return Some(index),
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_visible_character_of_the_page_has_a_glyph() {
        for (code, glyph) in code_page_437().iter().enumerate() {
            let blank = glyph.iter().all(|line| *line == 0);
            assert_eq!(blank, [0, 32, 255].contains(&code), "code {code:#x}");
        }
    }

    #[test]
    fn full_block_and_upper_half_block_fill_what_they_say() {
        let font = code_page_437();
        assert_eq!(font[0xdb], [0xff; HEIGHT]);
        assert_eq!(font[0xdf], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn damaged_font_file_is_refused() {
        assert!(Psf1::parse(&[]).is_none());
        assert!(Psf1::parse(&[0x36, 0x04, 3, 16, 0]).is_none());
        assert!(Psf1::parse(&[0x72, 0xb5, 0x4a, 0x86, 0]).is_none());
    }
}
