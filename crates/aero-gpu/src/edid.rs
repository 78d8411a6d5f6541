//! What the monitor says of itself: a block of 128 bytes, EDID 1.3, made from the mode that it likes best.
//!
//! (VESA Enhanced EDID Standard, release A, revision 1: structure 1, revision 3. Timings are those of VESA CVT with
//! reduced blanking: 160 pixels of horizontal blanking, 460 µs of vertical at least.)

/// Bytes of the block.
pub const SIZE: usize = 128;

/// The best mode, in pixels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Preferred {
    /// Pixels in a line, 320..=2560.
    pub width: u16,
    /// Lines, 200..=1600.
    pub height: u16,
}

impl Default for Preferred {
    fn default() -> Self {
        Self { width: 1024, height: 768 }
    }
}

const HEADER: [u8; 8] = [0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00];
/// "AER", five bits a letter, and product 1.
const MAKER_AND_PRODUCT: [u8; 4] = [0x04, 0xb2, 0x01, 0x00];
/// Serial number 0; week 1 of 2024; version 1.3.
const MADE_AND_VERSION: [u8; 8] = [0, 0, 0, 0, 1, 34, 1, 3];
/// Red, green, blue and white of sRGB.
const CHROMATICITY: [u8; 10] = [0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54];
/// 640×480, 800×600 and 1024×768 at 60 Hz; 1280×1024 is a standard timing.
const ESTABLISHED: [u8; 3] = [0x21, 0x08, 0x00];
/// Standard timings at 60 Hz.
const STANDARD: [[u8; 2]; 8] = [
    standard(1280, FIVE_TO_FOUR),
    standard(1280, SIXTEEN_TO_NINE),
    standard(1280, SIXTEEN_TO_TEN),
    standard(1440, SIXTEEN_TO_TEN),
    standard(1600, FOUR_TO_THREE),
    standard(1680, SIXTEEN_TO_TEN),
    standard(1920, SIXTEEN_TO_NINE),
    standard(1920, SIXTEEN_TO_TEN),
];

const SIXTEEN_TO_TEN: u8 = 0x00;
const FOUR_TO_THREE: u8 = 0x40;
const FIVE_TO_FOUR: u8 = 0x80;
const SIXTEEN_TO_NINE: u8 = 0xc0;

/// A standard timing at 60 Hz: characters of 8 pixels less 31, and the aspect ratio.
const fn standard(width: u16, aspect: u8) -> [u8; 2] {
    [(width / 8 - 31) as u8, aspect]
}

const DESCRIPTOR: usize = 18;
const REFRESH_HZ: u32 = 60;

/// The block of a monitor that likes `best`.
pub fn block(best: Preferred) -> [u8; SIZE] {
    let mut edid = [0; SIZE];
    let best = Preferred { width: best.width.clamp(320, 2560), height: best.height.clamp(200, 1600) };
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        edid[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&HEADER);
    put(&MAKER_AND_PRODUCT);
    put(&MADE_AND_VERSION);
    let [width, height] = millimetres(best).map(|mm| (mm / 10) as u8);
    // Digital; gamma 2.2; RGB colour, sRGB, and the first detailed timing is the preferred one.
    put(&[0x80, width, height, 120, 0x0e]);
    put(&CHROMATICITY);
    put(&ESTABLISHED);
    put(STANDARD.as_flattened());
    put(&timing(best));
    put(&range_limits());
    put(&text(0xfc, b"Aero display"));
    put(&text(0xff, b"0"));
    // No extensions follow.
    put(&[0]);
    edid[SIZE - 1] = edid.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
    edid
}

/// Width and height at 96 dots an inch.
fn millimetres(best: Preferred) -> [u16; 2] {
    [best.width, best.height].map(|dots| (u32::from(dots) * 254 / 960) as u16)
}

/// A detailed timing descriptor.
fn timing(best: Preferred) -> [u8; DESCRIPTOR] {
    const H_BLANK: u16 = 160;
    const H_FRONT: u8 = 48;
    const H_SYNC: u8 = 32;
    const V_FRONT: u8 = 3;
    const V_SYNC: u8 = 6;
    const MIN_BLANK_US: u32 = 460;
    let Preferred { width, height } = best;
    // Blanking takes so much of a frame that 460 µs of it remain.
    let frame_us = 1_000_000 / REFRESH_HZ;
    let blank = (u32::from(height) * MIN_BLANK_US).div_ceil(frame_us - MIN_BLANK_US) + 1;
    let v_blank = blank.max(u32::from(V_FRONT + V_SYNC) + 6) as u16;
    let dots = u32::from(width + H_BLANK) * u32::from(height + v_blank);
    let clock = ((dots * REFRESH_HZ / 10_000) as u16).to_le_bytes();
    let high = |high: u16, low: u16| ((high >> 8) << 4 | low >> 8) as u8;
    let [mm_wide, mm_high] = millimetres(best);
    [
        clock[0],
        clock[1],
        width as u8,
        H_BLANK as u8,
        high(width, H_BLANK),
        height as u8,
        v_blank as u8,
        high(height, v_blank),
        H_FRONT,
        H_SYNC,
        V_FRONT << 4 | V_SYNC,
        0,
        mm_wide as u8,
        mm_high as u8,
        high(mm_wide, mm_high),
        0,
        0,
        // Separate sync, horizontal positive.
        0x1a,
    ]
}

/// 50 to 75 Hz, 30 to 125 kHz, 300 MHz.
fn range_limits() -> [u8; DESCRIPTOR] {
    let mut d = [0x20; DESCRIPTOR];
    d[..12].copy_from_slice(&[0, 0, 0, 0xfd, 0, 50, 75, 30, 125, 30, 0, 0x0a]);
    d
}

/// A text descriptor: at most 13 bytes, a line feed, then spaces.
fn text(tag: u8, text: &[u8]) -> [u8; DESCRIPTOR] {
    let mut d = [0x20; DESCRIPTOR];
    d[..5].copy_from_slice(&[0, 0, 0, tag, 0]);
    d[5..5 + text.len()].copy_from_slice(text);
    if let Some(end) = d.get_mut(5 + text.len()) {
        *end = 0x0a;
    }
    d
}

#[cfg(test)]
mod tests {
    use super::*;

    const DETAILED: usize = 54;

    #[test]
    fn block_adds_up_to_zero_and_says_its_version() {
        for best in [Preferred::default(), Preferred { width: 2560, height: 1600 }] {
            let edid = block(best);
            assert_eq!(edid.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0);
            assert_eq!((&edid[..8], &edid[18..20], edid[126]), (&HEADER[..], &[1, 3][..], 0));
        }
    }

    #[test]
    fn first_timing_is_the_preferred_mode_at_60_hz() {
        for (width, height) in [(1024, 768), (1366, 768), (1920, 1080), (2560, 1600)] {
            let d = &block(Preferred { width, height })[DETAILED..][..DESCRIPTOR];
            let wide = |low: u8, high: u8, shift: u8| u32::from(low) | u32::from(high >> shift & 15) << 8;
            assert_eq!((wide(d[2], d[4], 4), wide(d[5], d[7], 4)), (width.into(), height.into()));
            let total =
                (wide(d[2], d[4], 4) + wide(d[3], d[4], 0)) * (wide(d[5], d[7], 4) + wide(d[6], d[7], 0));
            let millihertz = u64::from(u16::from_le_bytes([d[0], d[1]])) * 10_000_000 / u64::from(total);
            assert!((59_900..=60_000).contains(&millihertz), "{width}x{height}: {millihertz} mHz");
        }
    }

    #[test]
    fn name_is_a_text_descriptor_that_ends_with_a_line_feed() {
        let edid = block(Preferred::default());
        let name = &edid[DETAILED + 2 * DESCRIPTOR..][..DESCRIPTOR];
        assert_eq!((&name[..5], &name[5..]), (&[0, 0, 0, 0xfc, 0][..], &b"Aero display\n"[..]));
    }

    #[test]
    fn odd_wishes_are_brought_into_range() {
        assert_eq!(
            block(Preferred { width: 0, height: u16::MAX }),
            block(Preferred { width: 320, height: 1600 })
        );
    }
}
