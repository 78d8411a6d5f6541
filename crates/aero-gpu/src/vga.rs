//! The card: its ports, its memory window, and its state.

use crate::dac::Dac;
use crate::font;
use crate::frame::Frame;
use crate::planes::{FONT_LANE, Planes};
use crate::registers::Registers;
use crate::text::{GLYPH_STRIDE, Phase, Source};
use aero_bus::{At, Cx, Device, IoError, Mmio, PortIo, VmTime, Width};
use aero_state::{RestoreError, Saved, Section};

/// Region 0: ports 3B0h–3DFh.
pub const REGION_PORTS: u8 = 0;
/// Region 1: memory A0000h–BFFFFh.
pub const REGION_MEMORY: u8 = 1;

mod spec {
    pub const FIRST_PORT: u64 = 0x3b0;
    pub const ATTRIBUTE: u16 = 0x3c0;
    pub const ATTRIBUTE_READ: u16 = 0x3c1;
    /// Reads input status 0, writes miscellaneous output.
    pub const MISC_WRITE: u16 = 0x3c2;
    pub const ENABLE: u16 = 0x3c3;
    pub const SEQ_INDEX: u16 = 0x3c4;
    pub const SEQ_DATA: u16 = 0x3c5;
    pub const DAC_MASK: u16 = 0x3c6;
    /// Reads the state, writes the read index.
    pub const DAC_READ_INDEX: u16 = 0x3c7;
    pub const DAC_WRITE_INDEX: u16 = 0x3c8;
    pub const DAC_DATA: u16 = 0x3c9;
    pub const FEATURE_READ: u16 = 0x3ca;
    pub const MISC_READ: u16 = 0x3cc;
    pub const GFX_INDEX: u16 = 0x3ce;
    pub const GFX_DATA: u16 = 0x3cf;
    pub const CRTC_INDEX: u16 = 0x3d4;
    pub const CRTC_DATA: u16 = 0x3d5;
    /// Reads input status 1, writes feature control.
    pub const STATUS1: u16 = 0x3da;

    /// Input status 0 bit 4: the switch sense says that a colour monitor is connected.
    pub const STATUS0_COLOUR_MONITOR: u8 = 0x10;
}

/// A VGA card.
pub struct Vga {
    registers: Registers,
    dac: Dac,
    planes: Planes,
    /// Counts changes of anything that is seen.
    generation: u64,
    /// Counts changes of plane 2, where the character sets are.
    set_generation: u64,
}

impl Default for Vga {
    fn default() -> Self {
        Self::new()
    }
}

impl Vga {
    /// A card as its BIOS leaves it: mode 3, a blank screen, the standard character set.
    pub fn new() -> Self {
        Self {
            registers: Registers::mode3(),
            dac: Dac::new(),
            planes: blank_text(),
            generation: 0,
            set_generation: 0,
        }
    }

    /// Draws the screen as it is at `now` (which decides what blinks). True if a pixel of `frame` changed.
    pub fn render(&mut self, now: VmTime, frame: &mut Frame) -> bool {
        self.source().render(Phase::at(now), frame)
    }

    /// The screen's text: a line per row, trailing blanks trimmed, code page 437 as Unicode. Empty in a
    /// graphics mode.
    pub fn text(&self) -> String {
        self.source().text()
    }

    fn source(&self) -> Source<'_> {
        let Self { registers, dac, planes, generation, set_generation } = self;
        Source { registers, planes, dac, generation: *generation, set_generation: *set_generation }
    }

    /// The port of an offset, with 3Bxh folded onto 3Dxh; `None` where the card does not answer in its
    /// present mode.
    fn port(&self, offset: u64) -> Option<u16> {
        let port = spec::FIRST_PORT.checked_add(offset)? as u16;
        match (port, self.registers.is_colour()) {
            (0x3c0..=0x3cf, _) | (0x3d0..=0x3df, true) => Some(port),
            (0x3b0..=0x3bf, false) => Some(port + 0x20),
            _ => None,
        }
    }

    fn read_port(&mut self, now: VmTime, port: u16) -> Option<u8> {
        let r = &mut self.registers;
        Some(match port {
            spec::ATTRIBUTE => r.attr_index,
            spec::ATTRIBUTE_READ => r.read_attr(),
            spec::MISC_WRITE => spec::STATUS0_COLOUR_MONITOR,
            spec::ENABLE => r.enable,
            spec::SEQ_INDEX => r.seq_index,
            spec::SEQ_DATA => r.read_seq(),
            spec::DAC_MASK => self.dac.mask(),
            spec::DAC_READ_INDEX => self.dac.state(),
            spec::DAC_WRITE_INDEX => self.dac.write_index(),
            spec::DAC_DATA => self.dac.read(),
            spec::FEATURE_READ => r.feature,
            spec::MISC_READ => r.misc,
            spec::GFX_INDEX => r.gfx_index,
            spec::GFX_DATA => r.read_gfx(),
            spec::CRTC_INDEX => r.crtc_index,
            spec::CRTC_DATA => r.read_crtc(),
            spec::STATUS1 => {
                r.attr_data_next = false;
                r.status1(now)
            }
            _ => return None,
        })
    }

    fn write_port(&mut self, port: u16, value: u8) -> Option<()> {
        let r = &mut self.registers;
        match port {
            spec::SEQ_INDEX => r.seq_index = value,
            spec::GFX_INDEX => r.gfx_index = value,
            spec::CRTC_INDEX => r.crtc_index = value,
            spec::STATUS1 => r.feature = value & 3,
            spec::ENABLE => r.enable = value & 1,
            spec::DAC_READ_INDEX => self.dac.set_read_index(value),
            spec::DAC_WRITE_INDEX => self.dac.set_write_index(value),
            _ => return self.write_visible(port, value),
        }
        Some(())
    }

    /// Writes of registers that change what is seen.
    fn write_visible(&mut self, port: u16, value: u8) -> Option<()> {
        let r = &mut self.registers;
        match port {
            spec::ATTRIBUTE => r.write_attr(value),
            spec::MISC_WRITE => r.misc = value,
            spec::SEQ_DATA => r.write_seq(value),
            spec::GFX_DATA => r.write_gfx(value),
            spec::CRTC_DATA => r.write_crtc(value),
            spec::DAC_MASK => self.dac.set_mask(value),
            spec::DAC_DATA => {
                self.dac.write(value);
            }
            _ => return None,
        }
        self.generation += 1;
        Some(())
    }

    fn write_memory(&mut self, offset: u64, value: u8) -> Option<()> {
        let at = self.registers.window(offset)?;
        let changed = self.planes.write(&self.registers.datapath(), at, value);
        self.generation += u64::from(changed != 0);
        self.set_generation += u64::from(changed & FONT_LANE != 0);
        Some(())
    }

    fn read_memory(&mut self, offset: u64) -> Option<u8> {
        let at = self.registers.window(offset)?;
        Some(self.planes.read(&self.registers.datapath(), at))
    }
}

/// Memory as mode 3 leaves it: spaces in light grey, and the character set in plane 2.
fn blank_text() -> Planes {
    const BLANK: u32 = 0x0720;
    const TEXT_BYTES: usize = 0x8000;
    let mut planes = Planes::new();
    for at in (0..TEXT_BYTES).step_by(2) {
        planes.set_cell(at, BLANK);
    }
    for (code, glyph) in font::code_page_437().iter().enumerate() {
        for (line, dots) in glyph.iter().enumerate() {
            let at = code * GLYPH_STRIDE + line;
            planes.set_cell(at, planes.cell(at) | u32::from(*dots) << 16);
        }
    }
    planes
}

/// Reads a byte at a time, lowest offset first; claimed when one byte is.
fn read_bytes(at: At, width: Width, mut byte: impl FnMut(u64) -> Option<u8>) -> Result<u64, IoError> {
    let mut claimed = false;
    let mut value = 0;
    for i in 0..width.bytes() {
        let read = at.offset.checked_add(i).and_then(&mut byte);
        claimed |= read.is_some();
        value |= u64::from(read.unwrap_or(0xff)) << (8 * i);
    }
    claimed.then_some(value).ok_or(IoError::Unclaimed)
}

/// Writes a byte at a time, lowest offset first; claimed when one byte is.
fn write_bytes(
    at: At,
    width: Width,
    value: u64,
    mut byte: impl FnMut(u64, u8) -> Option<()>,
) -> Result<(), IoError> {
    let mut claimed = false;
    for i in 0..width.bytes() {
        let written = at.offset.checked_add(i).and_then(|offset| byte(offset, (value >> (8 * i)) as u8));
        claimed |= written.is_some();
    }
    claimed.then_some(()).ok_or(IoError::Unclaimed)
}

impl PortIo for Vga {
    fn read(&mut self, cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        let now = cx.now();
        read_bytes(at, width, |offset| self.port(offset).and_then(|port| self.read_port(now, port)))
    }

    fn write(&mut self, _cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError> {
        write_bytes(at, width, value, |offset, byte| {
            self.port(offset).and_then(|port| self.write_port(port, byte))
        })
    }
}

impl Mmio for Vga {
    fn read(&mut self, _cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        read_bytes(at, width, |offset| self.read_memory(offset))
    }

    fn write(&mut self, _cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError> {
        write_bytes(at, width, value, |offset, byte| self.write_memory(offset, byte))
    }
}

impl Device for Vga {
    fn reset(&mut self, _cx: &mut Cx<'_>) {
        let (generation, set_generation) = (self.generation + 1, self.set_generation + 1);
        *self = Self { generation, set_generation, ..Self::new() };
    }

    fn pio(&mut self) -> Option<&mut dyn PortIo> {
        Some(self)
    }

    fn mmio(&mut self) -> Option<&mut dyn Mmio> {
        Some(self)
    }
}

mod saved {
    use crate::dac::DacStateV1;
    use crate::registers::Registers;
    use serde::{Deserialize, Serialize};

    pub const KIND: &str = "vga";
    pub const VERSION: u16 = 1;

    #[derive(Serialize, Deserialize)]
    pub struct VgaStateV1 {
        pub registers: Registers,
        pub dac: DacStateV1,
        /// The planes, four bytes an address, plane 0 first.
        pub memory: Vec<u8>,
        pub latches: u32,
    }
}

impl Saved for Vga {
    fn save(&self) -> Section {
        let Self { registers, dac, planes, generation: _, set_generation: _ } = self;
        let (memory, latches) = planes.save();
        let state = saved::VgaStateV1 { registers: registers.clone(), dac: dac.save(), memory, latches };
        Section::new(saved::KIND, saved::VERSION, &state)
    }

    fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
        let damaged = || RestoreError::Damaged { kind: saved::KIND };
        let state: saved::VgaStateV1 = section.decode(saved::KIND, saved::VERSION)?;
        let planes = Planes::from_saved(&state.memory, state.latches).ok_or_else(damaged)?;
        let dac = Dac::from_saved(state.dac).ok_or_else(damaged)?;
        *self = Self {
            registers: state.registers,
            dac,
            planes,
            generation: self.generation + 1,
            set_generation: self.set_generation + 1,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests;
