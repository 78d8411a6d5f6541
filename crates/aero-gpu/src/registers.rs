//! The register groups, the values that a video BIOS gives them, and what their bits mean together.
//!
//! (IBM PS/2 Hardware Interface Technical Reference, Video Subsystem; register names are that book's.)

use crate::planes::Datapath;
use aero_bus::VmTime;
use serde::{Deserialize, Serialize};

/// Register numbers and bits.
pub mod spec {
    /// Miscellaneous output bit 0: the CRT controller is at 3D4h (colour), not 3B4h.
    pub const MISC_COLOUR: u8 = 1;
    /// Miscellaneous output bit 1: the processor sees video memory.
    pub const MISC_MEMORY: u8 = 2;

    /// Sequencer: clocking mode.
    pub const SEQ_CLOCKING: usize = 1;
    /// Sequencer: map mask.
    pub const SEQ_MAP_MASK: usize = 2;
    /// Sequencer: character map select.
    pub const SEQ_CHARACTER_MAP: usize = 3;
    /// Sequencer: memory mode.
    pub const SEQ_MEMORY_MODE: usize = 4;
    /// Clocking mode bit 0: characters are 8 dots wide, not 9.
    pub const CLOCKING_8_DOTS: u8 = 1;
    /// Clocking mode bit 3: the dot clock is halved (40 columns).
    pub const CLOCKING_HALF: u8 = 8;
    /// Clocking mode bit 5: screen off.
    pub const CLOCKING_SCREEN_OFF: u8 = 0x20;
    /// Memory mode bit 2: addresses are sequential, not odd/even.
    pub const MEMORY_SEQUENTIAL: u8 = 4;
    /// Memory mode bit 3: chain 4.
    pub const MEMORY_CHAIN4: u8 = 8;

    /// Graphics controller: mode.
    pub const GFX_MODE: usize = 5;
    /// Graphics controller: miscellaneous; bit 0 graphics, bits 3:2 memory map.
    pub const GFX_MISC: usize = 6;
    /// Mode bit 4: odd/even reads.
    pub const MODE_ODD_EVEN: u8 = 0x10;

    /// CRT controller: horizontal total, less 5.
    pub const CRTC_H_TOTAL: usize = 0x00;
    /// CRT controller: characters in a line, less 1.
    pub const CRTC_H_DISPLAY: usize = 0x01;
    /// CRT controller: vertical total, less 2.
    pub const CRTC_V_TOTAL: usize = 0x06;
    /// CRT controller: bits 9 and 8 of vertical registers.
    pub const CRTC_OVERFLOW: usize = 0x07;
    /// CRT controller: preset row scan.
    pub const CRTC_PRESET_ROW: usize = 0x08;
    /// CRT controller: scan lines of a character less 1, bit 6 line compare 9, bit 7 double scan.
    pub const CRTC_MAX_SCAN: usize = 0x09;
    /// CRT controller: first line of the cursor, bit 5 off.
    pub const CRTC_CURSOR_START: usize = 0x0a;
    /// CRT controller: last line of the cursor.
    pub const CRTC_CURSOR_END: usize = 0x0b;
    /// CRT controller: start address, high byte; the low byte follows.
    pub const CRTC_START: usize = 0x0c;
    /// CRT controller: cursor location, high byte; the low byte follows.
    pub const CRTC_CURSOR: usize = 0x0e;
    /// CRT controller: first line of vertical retrace.
    pub const CRTC_V_RETRACE: usize = 0x10;
    /// CRT controller: bits 3:0 of the line after vertical retrace; bit 7 protects registers 0–7.
    pub const CRTC_V_RETRACE_END: usize = 0x11;
    /// CRT controller: last displayed line.
    pub const CRTC_V_DISPLAY: usize = 0x12;
    /// CRT controller: words from one row to the next.
    pub const CRTC_OFFSET: usize = 0x13;
    /// CRT controller: underline location, bit 6 dword addresses.
    pub const CRTC_UNDERLINE: usize = 0x14;
    /// CRT controller: mode control; bit 5 address wrap, bit 6 byte addresses.
    pub const CRTC_MODE: usize = 0x17;
    /// Overflow bit 4: line compare bit 8, the only one that protection leaves open.
    pub const OVERFLOW_LINE_COMPARE_8: u8 = 0x10;
    /// Underline bit 5: the address counter counts every fourth character.
    pub const UNDERLINE_COUNT_BY_4: u8 = 0x20;
    /// Mode control bits 1:0, clear: address bits 14:13 are bits 1:0 of the line in the row (CGA and Hercules banks).
    pub const CRTC_MODE_MEMORY_BANKS: u8 = 3;
    /// Mode control bit 3: the address counter counts every second character.
    pub const CRTC_MODE_COUNT_BY_2: u8 = 8;
    /// CRT controller: line compare, bits 7:0.
    pub const CRTC_LINE_COMPARE: usize = 0x18;
    /// CRT controller, undocumented: the latch that read map select names.
    pub const CRTC_LATCH: u8 = 0x22;
    /// CRT controller, undocumented: bit 7 is the attribute controller's flip-flop.
    pub const CRTC_FLIP_FLOP: u8 = 0x24;
    /// CRT controller, undocumented: the attribute controller's index.
    pub const CRTC_ATTR_INDEX: u8 = 0x26;

    /// Attribute controller index bit 5: the palette drives the screen, not the processor.
    pub const ATTR_SCREEN_ON: u8 = 0x20;
    /// Attribute controller: mode control.
    pub const ATTR_MODE: usize = 0x10;
    /// Attribute controller: colour plane enable.
    pub const ATTR_PLANES: usize = 0x12;
    /// Attribute controller: horizontal panning.
    pub const ATTR_PANNING: usize = 0x13;
    /// Attribute controller: colour select.
    pub const ATTR_COLOUR_SELECT: usize = 0x14;
    /// Mode control bit 0: graphics.
    pub const ATTR_GRAPHICS: u8 = 1;
    /// Mode control bit 2: the ninth dot of line graphics repeats the eighth.
    pub const ATTR_LINE_GRAPHICS: u8 = 4;
    /// Mode control bit 3: attribute bit 7 blinks.
    pub const ATTR_BLINK: u8 = 8;
    /// Mode control bit 5: no panning below the split.
    pub const ATTR_PAN_ABOVE_SPLIT: u8 = 0x20;
    /// Mode control bit 7: colour bits 5:4 come from colour select.
    pub const ATTR_P54_SELECT: u8 = 0x80;

    /// Input status 1 bit 0: not in the displayed part of the frame.
    pub const STATUS_NOT_DISPLAYING: u8 = 1;
    /// Input status 1 bit 3: vertical retrace.
    pub const STATUS_RETRACE: u8 = 8;

    /// Mode bit 5 of the graphics controller: two bits a pixel, from neighbouring planes (CGA).
    pub const MODE_INTERLEAVED: u8 = 0x20;
    /// Mode bit 6 of the graphics controller: eight bits a pixel.
    pub const MODE_256: u8 = 0x40;

    /// Frames a second where the registers give no frequency that a monitor shows, and for blinking.
    pub const FRAME_HZ: u64 = 60;
    /// Frame rates that count as such.
    pub const MONITOR_HZ: core::ops::RangeInclusive<u64> = 40..=120;
    /// The dot clocks that miscellaneous output bits 3:2 choose from, in Hz.
    pub const DOT_HZ: [u64; 2] = [25_175_000, 28_322_000];
}

use spec::*;

const SEQ_WRITABLE: [u8; 5] = [0x03, 0x3d, 0x0f, 0x3f, 0x0e];
const GFX_WRITABLE: [u8; 9] = [0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff];
const ATTR_WRITABLE: [u8; 5] = [0xef, 0xff, 0x3f, 0x0f, 0x0f];

/// Mode 3 of a VGA BIOS: 80×25 characters of 9×16 dots in 16 colours.
const MODE3_SEQ: [u8; 5] = [0x03, 0x00, 0x03, 0x00, 0x02];
const MODE3_GFX: [u8; 9] = [0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0e, 0x0f, 0xff];
const MODE3_CRTC: [u8; 25] = [
    0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00, 0x00, 0x00, 0x00, 0x9c,
    0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff,
];
const MODE3_ATTR: [u8; 21] = [
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x0c,
    0x00, 0x0f, 0x08, 0x00,
];
const MODE3_MISC: u8 = 0x67;

/// Every register but the palette's. Plain data: it is also its own saved form, version 1.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Registers {
    pub misc: u8,
    pub feature: u8,
    pub enable: u8,
    pub seq_index: u8,
    pub seq: [u8; 5],
    pub gfx_index: u8,
    pub gfx: [u8; 9],
    pub crtc_index: u8,
    pub crtc: [u8; 25],
    pub attr_index: u8,
    pub attr: [u8; 21],
    /// The attribute controller's flip-flop: the next write of 3C0h is data.
    pub attr_data_next: bool,
}

impl Registers {
    /// As a video BIOS leaves them in mode 3.
    pub fn mode3() -> Self {
        Self {
            misc: MODE3_MISC,
            feature: 0,
            enable: 1,
            seq_index: 0,
            seq: MODE3_SEQ,
            gfx_index: 0,
            gfx: MODE3_GFX,
            crtc_index: 0,
            crtc: MODE3_CRTC,
            attr_index: ATTR_SCREEN_ON,
            attr: MODE3_ATTR,
            attr_data_next: false,
        }
    }

    /// The sequencer register that the index selects, 0 where there is none.
    pub fn read_seq(&self) -> u8 {
        self.seq.get(usize::from(self.seq_index)).copied().unwrap_or(0)
    }

    /// Writes the selected sequencer register.
    pub fn write_seq(&mut self, value: u8) {
        let at = usize::from(self.seq_index);
        if let (Some(register), Some(mask)) = (self.seq.get_mut(at), SEQ_WRITABLE.get(at)) {
            *register = value & mask;
        }
    }

    /// The selected graphics controller register.
    pub fn read_gfx(&self) -> u8 {
        self.gfx.get(usize::from(self.gfx_index)).copied().unwrap_or(0)
    }

    /// Writes the selected graphics controller register.
    pub fn write_gfx(&mut self, value: u8) {
        let at = usize::from(self.gfx_index);
        if let (Some(register), Some(mask)) = (self.gfx.get_mut(at), GFX_WRITABLE.get(at)) {
            *register = value & mask;
        }
    }

    /// The selected CRT controller register, of a card with these latches.
    pub fn read_crtc(&self, latches: u32) -> u8 {
        match self.crtc_index {
            CRTC_LATCH => latches.to_le_bytes()[usize::from(self.gfx[4] & 3)],
            CRTC_FLIP_FLOP => u8::from(self.attr_data_next) << 7,
            CRTC_ATTR_INDEX => self.attr_index,
            index => self.crtc.get(usize::from(index)).copied().unwrap_or(0),
        }
    }

    /// Writes the selected CRT controller register. While protected, registers 0–7 keep their values but for
    /// line compare bit 8 in the overflow register.
    pub fn write_crtc(&mut self, value: u8) {
        let at = usize::from(self.crtc_index);
        let protected = self.crtc[CRTC_V_RETRACE_END] & 0x80 != 0;
        match self.crtc.get_mut(at) {
            Some(overflow) if protected && at == CRTC_OVERFLOW => {
                *overflow = *overflow & !OVERFLOW_LINE_COMPARE_8 | value & OVERFLOW_LINE_COMPARE_8;
            }
            Some(_) if protected && at < CRTC_OVERFLOW => {}
            Some(register) => *register = value,
            None => {}
        }
    }

    /// The selected attribute controller register.
    pub fn read_attr(&self) -> u8 {
        self.attr.get(usize::from(self.attr_index & 0x1f)).copied().unwrap_or(0)
    }

    /// A write of port 3C0h: an index or data by turns.
    pub fn write_attr(&mut self, value: u8) {
        if self.attr_data_next {
            let at = usize::from(self.attr_index & 0x1f);
            let mask = at.checked_sub(ATTR_MODE).map_or(0x3f, |i| ATTR_WRITABLE.get(i).copied().unwrap_or(0));
            if let Some(register) = self.attr.get_mut(at) {
                *register = value & mask;
            }
        } else {
            self.attr_index = value & 0x3f;
        }
        self.attr_data_next = !self.attr_data_next;
    }

    /// Whether registers and retrace status answer at 3Dxh, not at 3Bxh.
    pub fn is_colour(&self) -> bool {
        self.misc & MISC_COLOUR != 0
    }

    /// The piece of A0000h–BFFFFh where the card answers: its start from A0000h, and its size. `None` while the
    /// processor does not see video memory.
    pub fn window(&self) -> Option<(u64, u64)> {
        let seen = self.misc & MISC_MEMORY != 0 && self.enable & 1 != 0;
        seen.then_some(match self.gfx[GFX_MISC] >> 2 & 3 {
            0 => (0, 0x2_0000),
            1 => (0, 0x1_0000),
            2 => (0x1_0000, 0x8000),
            _ => (0x1_8000, 0x8000),
        })
    }

    /// How accesses to the window reach the planes.
    pub fn datapath(&self) -> Datapath {
        Datapath {
            chain4: self.seq[SEQ_MEMORY_MODE] & MEMORY_CHAIN4 != 0,
            odd_even_write: self.seq[SEQ_MEMORY_MODE] & MEMORY_SEQUENTIAL == 0,
            odd_even_read: self.gfx[GFX_MODE] & MODE_ODD_EVEN != 0,
            map_mask: self.seq[SEQ_MAP_MASK],
            graphics: self.gfx,
            bank: 0,
        }
    }

    /// Whether nothing is shown: the screen is off, or the processor has the palette.
    pub fn is_blank(&self) -> bool {
        self.seq[SEQ_CLOCKING] & CLOCKING_SCREEN_OFF != 0 || self.attr_index & ATTR_SCREEN_ON == 0
    }

    /// Whether the memory holds pixels, not characters.
    pub fn is_graphics(&self) -> bool {
        self.gfx[GFX_MISC] & 1 != 0 || self.attr[ATTR_MODE] & ATTR_GRAPHICS != 0
    }

    /// A CRT controller register with bits 8 and 9 from two bits of the overflow register.
    fn vertical(&self, register: usize, bit8: u8, bit9: u8) -> u32 {
        let overflow = u32::from(self.crtc[CRTC_OVERFLOW]);
        u32::from(self.crtc[register]) | (overflow >> bit8 & 1) << 8 | (overflow >> bit9 & 1) << 9
    }

    /// Displayed lines, 1..=1024.
    pub fn displayed_lines(&self) -> u32 {
        self.vertical(CRTC_V_DISPLAY, 1, 6) + 1
    }

    /// The line after which the display starts again at address 0.
    pub fn line_compare(&self) -> u32 {
        let bit9 = u32::from(self.crtc[CRTC_MAX_SCAN]) >> 6 & 1;
        let overflow = u32::from(self.crtc[CRTC_OVERFLOW]);
        u32::from(self.crtc[CRTC_LINE_COMPARE]) | (overflow >> 4 & 1) << 8 | bit9 << 9
    }

    /// A 16-bit CRT controller value, high byte first.
    pub fn crtc_word(&self, register: usize) -> u16 {
        u16::from_be_bytes([self.crtc[register], self.crtc[register + 1]])
    }

    /// Input status 1: where the beam is, by the programmed geometry and dot clock.
    pub fn status1(&self, now: VmTime) -> u8 {
        let (characters, lines) = (self.characters(), self.lines());
        let beam = now.ticks(self.character_hz());
        let (character, line) = (beam % characters, beam / characters % lines);
        let shown =
            line < u64::from(self.displayed_lines()) && character <= u64::from(self.crtc[CRTC_H_DISPLAY]);
        let mut status = if shown { 0 } else { STATUS_NOT_DISPLAYING };
        if self.is_retrace_line(line, lines) {
            status |= STATUS_RETRACE | STATUS_NOT_DISPLAYING;
        }
        status
    }

    /// Character times in a line.
    fn characters(&self) -> u64 {
        u64::from(self.crtc[CRTC_H_TOTAL]) + 5
    }

    /// Lines in a frame.
    fn lines(&self) -> u64 {
        u64::from(self.vertical(CRTC_V_TOTAL, 0, 5)) + 2
    }

    /// Characters a second. Geometries that no monitor shows, half programmed ones among them, take 1/60 s a frame.
    fn character_hz(&self) -> u64 {
        let clocking = self.seq[SEQ_CLOCKING];
        let dots = if clocking & CLOCKING_8_DOTS != 0 { 8 } else { 9 };
        let halved = u64::from(clocking & CLOCKING_HALF != 0);
        let hz = DOT_HZ[usize::from(self.misc >> 2 & 1)] / (dots << halved);
        let frame = self.characters() * self.lines();
        if MONITOR_HZ.contains(&(hz / frame)) { hz } else { FRAME_HZ * frame }
    }

    /// Whether vertical retrace is on in `line` of `lines`. A start beyond the frame counts as its last
    /// lines: a guest that waits for a retrace with half-programmed registers must not wait for ever.
    fn is_retrace_line(&self, line: u64, lines: u64) -> bool {
        let start = u64::from(self.vertical(CRTC_V_RETRACE, 2, 7)).min(lines - 2);
        let end = u64::from(self.crtc[CRTC_V_RETRACE_END]);
        let length = match end.wrapping_sub(start) & 15 {
            0 => 16,
            length => length,
        };
        (start..start + length).contains(&line)
    }
}
