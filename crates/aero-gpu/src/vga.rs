//! The card: the VGA's ports and window, the Bochs VBE extension, and the PCI function that carries both.
//!
//! The PCI function is that of QEMU's `stdvga`: BAR 0 is all of video memory, BAR 2 a page with the monitor's EDID
//! block, the VGA's registers, those of VBE and two of QEMU's own; the expansion ROM holds the video BIOS, whose bytes
//! the board gives. Video memory lies in guest memory (`aero-mem`), and the card says where it is mapped: BAR 0 always,
//! and the window at A0000h while bytes go through it as they are. Only what has to be looked at comes here.

use crate::dac::Dac;
use crate::edid::{self, Preferred};
use crate::font;
use crate::frame::Frame;
use crate::planes::{Datapath, PLANE, Planes};
use crate::registers::Registers;
use crate::screen::{Changes, Phase, Screen};
use crate::text::GLYPH_STRIDE;
use crate::vbe::Vbe;
use aero_bus::pci::{Bar, ConfigSpace, Identity, PciFunction};
use aero_bus::{At, Cx, Device, IoError, Mmio, PortIo, VmTime, Width};
use aero_mem::{GuestMemory, VGA_WINDOW};
use aero_state::{RestoreError, Saved, Section};

/// Ports, region 0: 3B0h–3DFh.
pub const REGION_PORTS: u8 = 0;
/// Ports, region 1: VBE's index and data, 1CEh–1D0h.
pub const REGION_VBE_PORTS: u8 = 1;
/// Memory, region 0: BAR 0, the frame buffer, as far as it is not mapped.
pub const REGION_FRAME_BUFFER: u8 = 0;
/// Memory, region 2: BAR 2, the registers.
pub const REGION_REGISTERS: u8 = 2;
/// Memory, region 6: the expansion ROM.
pub const REGION_ROM: u8 = 6;
/// Memory, region 8: A0000h–BFFFFh.
pub const REGION_MEMORY: u8 = 8;

/// Video memory that the card wants of [`GuestMemory::with_video`].
pub const VIDEO_MEMORY: u32 = 16 << 20;

/// The largest video BIOS.
pub const MAX_BIOS: usize = 256 << 10;

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

    pub const FIRST_VGA_PORT: u16 = 0x3c0;
    /// BAR 2: the EDID block ends, the VGA's ports 3C0h–3DFh, VBE's registers, and QEMU's own.
    pub const REGISTERS_SIZE: u32 = 0x1000;
    pub const BAR2_EDID: core::ops::Range<u64> = 0..0x400;
    pub const BAR2_VGA: core::ops::Range<u64> = 0x400..0x420;
    pub const BAR2_VBE: core::ops::Range<u64> = 0x500..0x516;
    pub const BAR2_EXTENSION: core::ops::Range<u64> = 0x600..0x608;
    /// How many bytes of registers QEMU's extension has, and how it says "little-endian".
    pub const EXTENSION: [u32; 2] = [8, 0x1e1e_1e1e];
}

/// A VGA card.
pub struct Vga {
    registers: Registers,
    dac: Dac,
    planes: Planes,
    vbe: Vbe,
    config: ConfigSpace,
    /// Bytes of video memory.
    memory: u32,
    /// The video BIOS: what the expansion ROM holds.
    bios: Vec<u8>,
    edid: [u8; edid::SIZE],
    /// Counts changes of anything that is seen, other than memory.
    generation: u64,
    changes: Changes,
}

impl Default for Vga {
    fn default() -> Self {
        Self::new(VIDEO_MEMORY)
    }
}

impl Vga {
    /// A card as its BIOS leaves it: mode 3. Its memory of `memory` bytes, those of [`GuestMemory::video_size`], comes
    /// to life with the first reset: a blank screen and the standard character set.
    pub fn new(memory: u32) -> Self {
        let id = Identity {
            vendor: 0x1234,
            device: 0x1111,
            class: 0x03_0000,
            revision: 2,
            multifunction: false,
            interrupt_pin: 0,
        };
        let config = ConfigSpace::new(id)
            .with_bar(0, Bar::Prefetchable { size: memory.max(16) })
            .with_bar(2, Bar::Memory { size: spec::REGISTERS_SIZE });
        Self {
            registers: Registers::mode3(),
            dac: Dac::new(),
            planes: Planes::default(),
            vbe: Vbe::new(),
            config,
            memory,
            bios: Vec::new(),
            edid: edid::block(Preferred::default()),
            generation: 0,
            changes: Changes::default(),
        }
    }

    /// Puts a video BIOS into the expansion ROM: at most [`MAX_BIOS`] bytes, the rest is cut off.
    pub fn with_bios(mut self, bios: &[u8]) -> Self {
        let bios = &bios[..bios.len().min(MAX_BIOS)];
        let size = bios.len().next_power_of_two().max(2048);
        self.bios = bios.to_vec();
        self.config = self.config.with_rom(size as u32);
        self
    }

    /// Makes `best` the mode that the monitor says it likes.
    pub fn with_monitor(mut self, best: Preferred) -> Self {
        self.edid = edid::block(best);
        self
    }

    /// Draws the screen as it is at `now` (which decides what blinks). True if a pixel of `frame` changed. What the
    /// guest has written to `memory` until now counts as seen: one card draws.
    pub fn render(&mut self, now: VmTime, memory: &mut GuestMemory, frame: &mut Frame) -> bool {
        self.changes.collect(memory);
        self.screen(memory).render(Phase::at(now), frame)
    }

    /// The screen's text: a line per row, trailing blanks trimmed, code page 437 as Unicode. Empty in a
    /// graphics mode.
    pub fn text(&self, memory: &GuestMemory) -> String {
        self.screen(memory).text()
    }

    fn screen<'a>(&'a self, memory: &'a GuestMemory) -> Screen<'a> {
        let Self { registers, dac, vbe, changes, generation, .. } = self;
        Screen { registers, vbe, dac, memory, changes, generation: *generation }
    }

    /// Maps video memory where the registers say. The card does so whenever they change; who restores a saved card
    /// does it once.
    pub fn map(&self, memory: &mut GuestMemory) {
        memory.map_frame_buffer(self.config.bar(0).map(|(_, base)| base));
        memory.map_video_window(self.plain_window());
    }

    /// The place of an address in the PCI function's regions, `None` if it decodes none there.
    pub fn decode(&self, address: u64) -> Option<At> {
        let bar = |n: u8| self.config.bar(n.into()).map(|(bar, base)| (n, base, bar.size()));
        let rom = self.config.rom().map(|(base, size)| (REGION_ROM, base, size.into()));
        let regions = [bar(REGION_FRAME_BUFFER), bar(REGION_REGISTERS), rom];
        let at = |(region, base, size): (u8, u64, u64)| {
            let offset = address.checked_sub(base).filter(|o| *o < size)?;
            Some(At::new(region, offset))
        };
        regions.into_iter().flatten().find_map(at)
    }

    /// The piece of the legacy window through which bytes go as they are, and what of video memory it shows.
    fn plain_window(&self) -> Option<(core::ops::Range<u64>, u32)> {
        let (start, size) = self.window()?;
        let range = VGA_WINDOW.start + start..VGA_WINDOW.start + start + size;
        match self.vbe.linear_bank() {
            Some(bank) => Some((range, bank)),
            None if self.vbe.is_enabled() => None,
            None => self.registers.datapath().is_plain().then_some((range, 0)),
        }
    }

    /// Where the card answers in A0000h–BFFFFh: start and size. VBE has the 64 KiB at A0000h.
    fn window(&self) -> Option<(u64, u64)> {
        let window = self.registers.window()?;
        Some(if self.vbe.is_enabled() { (0, 0x1_0000) } else { window })
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
            spec::CRTC_DATA => r.read_crtc(self.planes.latches),
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
            spec::ENABLE => r.enable = value & 1,
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

    fn read_vbe(&self, register: u16) -> u16 {
        self.vbe.read(register, self.memory)
    }

    fn write_vbe(&mut self, memory: &mut GuestMemory, register: u16, value: u16) {
        let clear = self.vbe.write(register, value, self.memory);
        clear_memory(memory, clear);
        self.dac.set_wide(self.vbe.has_wide_palette());
        self.generation += 1;
        self.map(memory);
    }

    fn write_memory(&mut self, memory: &mut GuestMemory, offset: u64, value: u8) -> Option<()> {
        let (at, linear) = self.in_window(offset)?;
        if let Some(bank) = linear {
            memory.write_video(bank.checked_add(at)?, &[value]);
        } else {
            let path = Datapath { bank: self.vbe.bank(), ..self.registers.datapath() };
            self.planes.write(memory, &path, at, value);
        }
        Some(())
    }

    fn read_memory(&mut self, memory: &GuestMemory, offset: u64) -> Option<u8> {
        let (at, linear) = self.in_window(offset)?;
        if let Some(bank) = linear {
            let mut byte = [0xff];
            memory.read_video(bank.checked_add(at)?, &mut byte);
            return Some(byte[0]);
        }
        let path = Datapath { bank: self.vbe.bank(), ..self.registers.datapath() };
        Some(self.planes.read(memory, &path, at))
    }

    /// Where in the window a byte of A0000h–BFFFFh lies, and which byte of memory the window begins with, if bytes lie
    /// side by side there.
    fn in_window(&self, offset: u64) -> Option<(u32, Option<u32>)> {
        let (start, size) = self.window()?;
        let at = offset.checked_sub(start).filter(|at| *at < size)?;
        Some((at as u32, self.vbe.linear_bank()))
    }

    /// A byte of BAR 2.
    fn read_register(&mut self, now: VmTime, at: u64) -> Option<u8> {
        if spec::BAR2_EDID.contains(&at) {
            return Some(self.edid.get(at as usize).copied().unwrap_or(0));
        }
        if spec::BAR2_VGA.contains(&at) {
            return self.read_port(now, spec::FIRST_VGA_PORT + (at - spec::BAR2_VGA.start) as u16);
        }
        if spec::BAR2_VBE.contains(&at) {
            let register = (at - spec::BAR2_VBE.start) / 2;
            return Some(self.read_vbe(register as u16).to_le_bytes()[(at & 1) as usize]);
        }
        let within = at.checked_sub(spec::BAR2_EXTENSION.start)? as usize;
        Some(spec::EXTENSION.get(within / 4)?.to_le_bytes()[within % 4])
    }

    /// Writes BAR 2. VBE's registers are words.
    fn write_registers(&mut self, memory: &mut GuestMemory, at: u64, width: Width, value: u64) -> Option<()> {
        if spec::BAR2_VBE.contains(&at) {
            for word in 0..width.bytes() / 2 {
                let register = (at - spec::BAR2_VBE.start) / 2 + word;
                self.write_vbe(memory, register as u16, (value >> (16 * word)) as u16);
            }
            return Some(());
        }
        if !spec::BAR2_VGA.contains(&at) {
            let known = spec::BAR2_EXTENSION.contains(&at) || spec::BAR2_EDID.contains(&at);
            return known.then_some(());
        }
        let mut claimed = None;
        for i in 0..width.bytes() {
            let port = spec::FIRST_VGA_PORT + (at + i - spec::BAR2_VGA.start) as u16;
            claimed = claimed.or(self.write_port(port, (value >> (8 * i)) as u8));
        }
        self.map(memory);
        claimed
    }
}

/// Memory as mode 3 leaves it: spaces in light grey, and the character set in plane 2.
fn make_blank_text(memory: &mut GuestMemory) {
    const BLANK: u32 = 0x0720;
    const TEXT_BYTES: usize = 0x8000;
    let mut cells = vec![0u32; PLANE as usize];
    cells[..TEXT_BYTES].iter_mut().step_by(2).for_each(|cell| *cell = BLANK);
    for (code, glyph) in font::code_page_437().iter().enumerate() {
        for (line, dots) in glyph.iter().enumerate() {
            cells[code * GLYPH_STRIDE + line] |= u32::from(*dots) << 16;
        }
    }
    let bytes: Vec<u8> = cells.into_iter().flat_map(u32::to_le_bytes).collect();
    memory.write_video(0, &bytes);
}

/// Fills the first `bytes` of video memory with zeros.
fn clear_memory(memory: &mut GuestMemory, bytes: u32) {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    for at in (0..bytes).step_by(ZEROS.len()) {
        memory.write_video(at, &ZEROS[..ZEROS.len().min((bytes - at) as usize)]);
    }
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
        match (at.region, at.offset, width) {
            (REGION_PORTS, ..) => {
                read_bytes(at, width, |offset| self.port(offset).and_then(|port| self.read_port(now, port)))
            }
            (REGION_VBE_PORTS, 0, Width::B2) => Ok(self.vbe.index.into()),
            (REGION_VBE_PORTS, 1 | 2, Width::B2) => Ok(self.read_vbe(self.vbe.index).into()),
            _ => Err(IoError::Unclaimed),
        }
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError> {
        match (at.region, at.offset, width) {
            (REGION_PORTS, ..) => {
                let claimed = write_bytes(at, width, value, |offset, byte| {
                    self.port(offset).and_then(|port| self.write_port(port, byte))
                });
                self.map(cx.memory());
                claimed
            }
            (REGION_VBE_PORTS, 0, Width::B2) => {
                self.vbe.index = value as u16;
                Ok(())
            }
            (REGION_VBE_PORTS, 1 | 2, Width::B2) => {
                self.write_vbe(cx.memory(), self.vbe.index, value as u16);
                Ok(())
            }
            _ => Err(IoError::Unclaimed),
        }
    }
}

impl Mmio for Vga {
    fn read(&mut self, cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        let now = cx.now();
        let memory = cx.memory();
        read_bytes(at, width, |offset| match at.region {
            REGION_MEMORY => self.read_memory(memory, offset),
            REGION_REGISTERS => self.read_register(now, offset),
            REGION_ROM => {
                Some(usize::try_from(offset).ok().and_then(|o| self.bios.get(o)).copied().unwrap_or(0))
            }
            REGION_FRAME_BUFFER => {
                let mut byte = [0xff];
                memory.read_video(u32::try_from(offset).ok()?, &mut byte);
                Some(byte[0])
            }
            _ => None,
        })
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError> {
        let memory = cx.memory();
        if at.region == REGION_REGISTERS {
            return self.write_registers(memory, at.offset, width, value).ok_or(IoError::Unclaimed);
        }
        write_bytes(at, width, value, |offset, byte| match at.region {
            REGION_MEMORY => self.write_memory(memory, offset, byte),
            REGION_FRAME_BUFFER => {
                memory.write_video(u32::try_from(offset).ok()?, &[byte]);
                Some(())
            }
            // Writes to ROM are lost, as on any board.
            REGION_ROM => Some(()),
            _ => None,
        })
    }
}

impl PciFunction for Vga {
    fn config(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn config_written(&mut self, cx: &mut Cx<'_>, _at: u8) {
        self.map(cx.memory());
    }
}

impl Device for Vga {
    fn reset(&mut self, cx: &mut Cx<'_>) {
        self.registers = Registers::mode3();
        self.dac = Dac::new();
        self.planes = Planes::default();
        self.vbe = Vbe::new();
        self.config.reset();
        self.generation += 1;
        make_blank_text(cx.memory());
        self.map(cx.memory());
    }

    fn pio(&mut self) -> Option<&mut dyn PortIo> {
        Some(self)
    }

    fn mmio(&mut self) -> Option<&mut dyn Mmio> {
        Some(self)
    }

    fn pci(&mut self) -> Option<&mut dyn PciFunction> {
        Some(self)
    }
}

mod saved {
    use crate::dac::DacStateV2;
    use crate::registers::Registers;
    use crate::vbe::Vbe;
    use serde::{Deserialize, Serialize};

    pub const KIND: &str = "vga";
    pub const VERSION: u16 = 2;

    /// The card without its memory, which is saved with the guest's.
    #[derive(Serialize, Deserialize)]
    pub struct VgaStateV2 {
        pub registers: Registers,
        pub dac: DacStateV2,
        pub vbe: Vbe,
        pub latches: u32,
        pub config: Vec<u8>,
    }
}

impl Saved for Vga {
    fn save(&self) -> Section {
        let Self {
            registers,
            dac,
            planes,
            vbe,
            config,
            memory: _,
            bios: _,
            edid: _,
            generation: _,
            changes: _,
        } = self;
        let state = saved::VgaStateV2 {
            registers: registers.clone(),
            dac: dac.save(),
            vbe: vbe.clone(),
            latches: planes.latches,
            config: config.bytes().to_vec(),
        };
        Section::new(saved::KIND, saved::VERSION, &state)
    }

    fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
        let damaged = || RestoreError::Damaged { kind: saved::KIND };
        let state: saved::VgaStateV2 = section.decode(saved::KIND, saved::VERSION)?;
        let config: [u8; 256] = state.config.try_into().map_err(|_| damaged())?;
        self.dac = Dac::from_saved(state.dac).ok_or_else(damaged)?;
        self.registers = state.registers;
        self.vbe = state.vbe.checked(self.memory).ok_or_else(damaged)?;
        self.planes = Planes { latches: state.latches };
        self.config.restore(&config);
        self.generation += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
