//! A picture, and the memory of what is drawn on it.

use crate::raster::DrawnPixels;
use crate::text::{Look, TextLayout};

/// A picture of the screen: `width` × `height` pixels of four bytes, red, green, blue and an alpha of 255,
/// line by line from the top.
///
/// A frame belongs to the machine that draws on it: it remembers what it shows, so that drawing again touches
/// only what changed. Start with [`Frame::default`], keep it, and take a new one for a new machine.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// Pixels in a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// `width * height * 4` bytes.
    pub rgba: Vec<u8>,
    pub(crate) drawn: Option<Drawn>,
}

/// What a frame shows.
#[derive(Clone, Debug)]
pub(crate) struct Drawn {
    /// The device's change counter when it was drawn.
    pub generation: u64,
    /// The device's clock of memory changes then.
    pub clock: u64,
    /// The phases of the blinking then.
    pub phase: u64,
    /// What is on it.
    pub shown: Shown,
}

/// What is on a frame.
#[derive(Clone, Debug, Default)]
pub(crate) enum Shown {
    /// Black.
    #[default]
    Nothing,
    /// Characters.
    Text(DrawnText),
    /// Pixels of a graphics mode.
    Pixels(DrawnPixels),
}

/// The text that a frame shows.
#[derive(Clone, Debug)]
pub(crate) struct DrawnText {
    pub layout: TextLayout,
    pub look: Look,
    /// One key per character cell, see `text::Cell::key`.
    pub cells: Vec<u32>,
}

impl Frame {
    /// Gives the frame a size; true if it changed, and then the picture is black.
    pub(crate) fn resize(&mut self, width: u32, height: u32) -> bool {
        let bytes = width as usize * height as usize * 4;
        if (self.width, self.height, self.rgba.len()) == (width, height, bytes) {
            return false;
        }
        (self.width, self.height) = (width, height);
        self.rgba.clear();
        self.rgba.resize(bytes, 0);
        self.clear();
        true
    }

    /// Makes every pixel black.
    pub(crate) fn clear(&mut self) {
        for pixel in self.rgba.chunks_exact_mut(4) {
            pixel.copy_from_slice(&[0, 0, 0, 0xff]);
        }
    }

    /// The bytes of a line.
    pub(crate) fn line(&mut self, y: u32) -> &mut [u8] {
        let pitch = self.width as usize * 4;
        &mut self.rgba[y as usize * pitch..][..pitch]
    }
}
