//! The palette: 256 colours of 18 bits, or of 24 where VBE says so, behind an index that counts by itself.
//!
//! (IBM PS/2 Hardware Interface Technical Reference, Video Subsystem, "Digital-to-Analog Converter".)

use serde::{Deserialize, Serialize};

/// Read state of port 3C7h: the last index written was a read index (3) or a write index (0).
const READING: u8 = 3;

/// The palette and its ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dac {
    /// Red, green and blue of each colour, 0..=63, or 0..=255 when `wide`.
    colours: [[u8; 3]; 256],
    /// Components have 8 bits.
    wide: bool,
    mask: u8,
    read_index: u8,
    write_index: u8,
    /// Which of red, green and blue comes next.
    component: u8,
    /// Red and green of a write that still lacks its blue.
    pending: [u8; 2],
    state: u8,
}

impl Dac {
    /// The palette as a video BIOS sets it for colour text: the 64 colours of the EGA, then black.
    pub fn new() -> Self {
        let mut colours = [[0; 3]; 256];
        for (i, colour) in colours.iter_mut().take(64).enumerate() {
            *colour = ega(i);
        }
        Self {
            colours,
            wide: false,
            mask: 0xff,
            read_index: 0,
            write_index: 0,
            component: 0,
            pending: [0; 2],
            state: 0,
        }
    }

    /// The colour of `index` on the screen, 8 bits a channel.
    pub fn rgb(&self, index: u8) -> [u8; 3] {
        let wide = self.wide;
        self.colours[usize::from(index & self.mask)].map(|c| if wide { c } else { c << 2 | c >> 4 })
    }

    /// Gives components 8 bits or 6. The colours stay what they are as nearly as they can.
    pub fn set_wide(&mut self, wide: bool) {
        if self.wide != wide {
            for c in self.colours.as_flattened_mut() {
                *c = if wide { *c << 2 | *c >> 4 } else { *c >> 2 };
            }
            (self.wide, self.component) = (wide, 0);
        }
    }

    /// Port 3C6h: the mask that every index passes on its way to the screen.
    pub fn mask(&self) -> u8 {
        self.mask
    }

    /// Writes port 3C6h.
    pub fn set_mask(&mut self, mask: u8) {
        self.mask = mask;
    }

    /// Reads port 3C7h.
    pub fn state(&self) -> u8 {
        self.state
    }

    /// Writes port 3C7h: the next reads of 3C9h come from `index`.
    pub fn set_read_index(&mut self, index: u8) {
        (self.read_index, self.component, self.state) = (index, 0, READING);
    }

    /// Reads port 3C8h.
    pub fn write_index(&self) -> u8 {
        self.write_index
    }

    /// Writes port 3C8h: the next writes of 3C9h go to `index`.
    pub fn set_write_index(&mut self, index: u8) {
        (self.write_index, self.component, self.state) = (index, 0, 0);
    }

    /// Reads port 3C9h: red, green, blue, then those of the next colour.
    pub fn read(&mut self) -> u8 {
        let value = self.colours[usize::from(self.read_index)][usize::from(self.component)];
        self.component = (self.component + 1) % 3;
        if self.component == 0 {
            self.read_index = self.read_index.wrapping_add(1);
        }
        value
    }

    /// Writes port 3C9h. A colour takes effect with its third component; true then.
    pub fn write(&mut self, value: u8) -> bool {
        let value = value & if self.wide { 0xff } else { 0x3f };
        if let Some(slot) = self.pending.get_mut(usize::from(self.component)) {
            *slot = value;
            self.component += 1;
            return false;
        }
        self.colours[usize::from(self.write_index)] = [self.pending[0], self.pending[1], value];
        self.write_index = self.write_index.wrapping_add(1);
        self.component = 0;
        true
    }

    /// The state to save.
    pub fn save(&self) -> DacStateV2 {
        let Self { colours, wide, mask, read_index, write_index, component, pending, state } = self;
        DacStateV2 {
            colours: colours.as_flattened().to_vec(),
            wide: *wide,
            mask: *mask,
            read_index: *read_index,
            write_index: *write_index,
            component: *component,
            pending: *pending,
            state: *state,
        }
    }

    /// The palette of a saved state; `None` when it is damaged.
    pub fn from_saved(saved: DacStateV2) -> Option<Self> {
        let DacStateV2 { colours, wide, mask, read_index, write_index, component, pending, state } = saved;
        let (triples, rest) = colours.as_chunks::<3>();
        let valid = rest.is_empty() && component < 3 && (wide || colours.iter().all(|c| *c < 64));
        let colours = triples.try_into().ok().filter(|_| valid)?;
        Some(Self {
            colours,
            wide,
            mask,
            read_index,
            write_index,
            component,
            pending: pending.map(|c| if wide { c } else { c & 0x3f }),
            state,
        })
    }
}

/// Colour `i` of the EGA: bits 2:0 are two thirds, bits 5:3 one third of red, green and blue.
fn ega(i: usize) -> [u8; 3] {
    [2, 1, 0].map(|bit| (i >> bit & 1) as u8 * 0x2a + (i >> (bit + 3) & 1) as u8 * 0x15)
}

/// Saved state of the palette.
#[derive(Serialize, Deserialize)]
pub struct DacStateV2 {
    colours: Vec<u8>,
    wide: bool,
    mask: u8,
    read_index: u8,
    write_index: u8,
    component: u8,
    pending: [u8; 2],
    state: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_colour_takes_effect_with_blue_and_reads_back() {
        let mut dac = Dac::new();
        dac.set_write_index(7);
        assert!(!dac.write(1) && !dac.write(2));
        assert_eq!(dac.rgb(7), [170, 170, 170]);
        assert!(dac.write(0xff));
        assert_eq!((dac.rgb(7), dac.write_index(), dac.state()), ([4, 8, 255], 8, 0));
        dac.set_read_index(7);
        assert_eq!([dac.read(), dac.read(), dac.read()], [1, 2, 63]);
        assert_eq!(dac.state(), 3);
        assert_eq!(dac.read(), 0x00, "the next colour, red of 8");
    }

    #[test]
    fn index_counts_over_the_end() {
        let mut dac = Dac::new();
        dac.set_write_index(255);
        for value in [9, 9, 9, 5, 5, 5] {
            dac.write(value);
        }
        assert_eq!(dac.rgb(0), [20, 20, 20]);
    }

    #[test]
    fn ega_colours_have_brown_and_bright_white() {
        let dac = Dac::new();
        assert_eq!((dac.rgb(0x14), dac.rgb(0x3f), dac.rgb(0)), ([170, 85, 0], [255; 3], [0; 3]));
    }

    #[test]
    fn wide_colours_have_8_bits_and_keep_their_look() {
        let mut dac = Dac::new();
        let brown = dac.rgb(0x14);
        dac.set_wide(true);
        assert_eq!(dac.rgb(0x14), brown);
        dac.set_write_index(1);
        for value in [0x81, 0xff, 1] {
            dac.write(value);
        }
        assert_eq!(dac.rgb(1), [0x81, 0xff, 1]);
        dac.set_wide(false);
        assert_eq!((dac.rgb(0x14), dac.rgb(1)), (brown, [130, 255, 0]));
    }

    #[test]
    fn damaged_state_is_refused() {
        let whole = || Dac::new().save();
        assert!(Dac::from_saved(whole()).is_some());
        assert!(Dac::from_saved(DacStateV2 { component: 3, ..whole() }).is_none());
        assert!(Dac::from_saved(DacStateV2 { colours: vec![0; 5], ..whole() }).is_none());
        assert!(Dac::from_saved(DacStateV2 { colours: vec![64; 768], ..whole() }).is_none());
    }
}
