//! The Bochs VBE extension: linear modes of any size, behind an index port and a data port of 16 bits.
//!
//! A guest writes resolution and depth, then ENABLE, and draws in video memory from its start: in the frame buffer,
//! which is all of it, or 64 KiB at a time at A0000h (the *bank*). The picture may be a piece of a wider and higher
//! virtual screen. (Bochs, `VBE display API`, versions B0C0h to B0C5h; QEMU's `standard-vga` specification.)

use serde::{Deserialize, Serialize};

/// Register numbers and bits.
pub mod spec {
    /// Version of the interface.
    pub const ID: u16 = 0;
    /// Pixels in a line.
    pub const X_RES: u16 = 1;
    /// Lines.
    pub const Y_RES: u16 = 2;
    /// Bits per pixel.
    pub const BPP: u16 = 3;
    /// Switches it on, and options.
    pub const ENABLE: u16 = 4;
    /// Which 64 KiB are at A0000h.
    pub const BANK: u16 = 5;
    /// Pixels in a line of the virtual screen.
    pub const VIRT_WIDTH: u16 = 6;
    /// Lines of the virtual screen, as many as fit.
    pub const VIRT_HEIGHT: u16 = 7;
    /// First pixel shown.
    pub const X_OFFSET: u16 = 8;
    /// First line shown.
    pub const Y_OFFSET: u16 = 9;
    /// Video memory in 64 KiB.
    pub const MEMORY_64K: u16 = 10;
    /// How many there are.
    pub const COUNT: usize = 11;

    /// The versions that a guest may ask for, newest last.
    pub const IDS: core::ops::RangeInclusive<u16> = 0xb0c0..=0xb0c5;
    /// ENABLE: on.
    pub const ENABLED: u16 = 1;
    /// ENABLE: resolution and depth read as the largest there are.
    pub const GET_CAPS: u16 = 2;
    /// ENABLE: the palette has 8 bits a component.
    pub const DAC_8BIT: u16 = 0x20;
    /// ENABLE: the linear frame buffer is wanted; here it is always there.
    pub const LFB: u16 = 0x40;
    /// ENABLE: memory is left as it is.
    pub const NO_CLEAR: u16 = 0x80;

    /// The largest resolution and depth.
    pub const MAX: [u16; 3] = [2560, 1600, 32];
}

use spec::*;

/// The registers. Plain data: they are also their own saved form.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Vbe {
    pub index: u16,
    registers: [u16; COUNT],
}

/// What a mode makes of video memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mode {
    /// Pixels in a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// 4, 8, 15, 16, 24 or 32.
    pub bpp: u32,
    /// Bytes from one line to the next.
    pub pitch: u32,
    /// Byte of the first pixel shown; in a mode of 4 bits the pixel's number.
    pub start: u32,
}

/// Bits per pixel that there are.
const DEPTHS: [u16; 6] = [4, 8, 15, 16, 24, 32];

/// Bits that a pixel takes in memory.
fn bits_of(bpp: u16) -> u32 {
    if bpp == 15 { 16 } else { bpp.into() }
}

impl Vbe {
    /// Switched off.
    pub fn new() -> Self {
        let mut registers = [0; COUNT];
        registers[usize::from(ID)] = *IDS.end();
        registers[usize::from(BPP)] = 8;
        Self { index: 0, registers }
    }

    /// These registers if a card with `memory` bytes can have them: `None` when a saved state is damaged.
    pub fn checked(mut self, memory: u32) -> Option<Self> {
        let bank = u32::from(self.get(BANK)) << 16;
        if !DEPTHS.contains(&self.get(BPP)) || bank >= memory.max(1) {
            return None;
        }
        self.fit(memory);
        Some(self)
    }

    fn get(&self, register: u16) -> u16 {
        self.registers[usize::from(register)]
    }

    fn set(&mut self, register: u16, value: u16) {
        self.registers[usize::from(register)] = value;
    }

    /// Whether a mode of this interface is on.
    pub fn is_enabled(&self) -> bool {
        self.get(ENABLE) & ENABLED != 0
    }

    /// Whether the palette has 8 bits a component.
    pub fn has_wide_palette(&self) -> bool {
        self.get(ENABLE) & DAC_8BIT != 0
    }

    /// The byte of video memory that is at A0000h; `None` unless a mode is on whose pixels lie side by side.
    pub fn linear_bank(&self) -> Option<u32> {
        (self.is_enabled() && self.get(BPP) != 4).then(|| u32::from(self.get(BANK)) << 16)
    }

    /// The bank, 0 while no mode is on.
    pub fn bank(&self) -> u16 {
        if self.is_enabled() { self.get(BANK) } else { 0 }
    }

    /// Reads a register of a card with `memory` bytes of video memory; those that do not exist read as zero.
    pub fn read(&self, register: u16, memory: u32) -> u16 {
        let caps = self.get(ENABLE) & GET_CAPS != 0;
        match register {
            X_RES..=BPP if caps => MAX[usize::from(register - X_RES)],
            MEMORY_64K => (memory >> 16) as u16,
            _ => self.registers.get(usize::from(register)).copied().unwrap_or(0),
        }
    }

    /// Writes a register. Returns how many bytes from the start of video memory the guest wants cleared.
    pub fn write(&mut self, register: u16, value: u16, memory: u32) -> u32 {
        match register {
            ID if IDS.contains(&value) => self.set(ID, value),
            ENABLE => return self.enable(value, memory),
            BPP if value != 0 && !DEPTHS.contains(&value) => {}
            X_RES | Y_RES | BPP | VIRT_WIDTH | X_OFFSET | Y_OFFSET => {
                self.set(register, if (register, value) == (BPP, 0) { 8 } else { value });
                self.fit(memory);
            }
            BANK if u32::from(value) < memory >> 16 => self.set(BANK, value),
            _ => {}
        }
        0
    }

    fn enable(&mut self, value: u16, memory: u32) -> u32 {
        let begins = value & ENABLED != 0 && !self.is_enabled();
        if value & ENABLED == 0 {
            self.set(BANK, 0);
        }
        if begins {
            [VIRT_WIDTH, X_OFFSET, Y_OFFSET, BANK].into_iter().for_each(|register| self.set(register, 0));
        }
        self.set(ENABLE, value & (ENABLED | GET_CAPS | DAC_8BIT | LFB | NO_CLEAR));
        self.fit(memory);
        let Some(mode) = self.mode().filter(|_| begins && value & NO_CLEAR == 0) else { return 0 };
        if mode.bpp == 4 { mode.width / 2 * mode.height } else { mode.pitch * mode.height }
    }

    /// While a mode is on, makes it one that fits in `memory` bytes.
    fn fit(&mut self, memory: u32) {
        if !self.is_enabled() {
            return;
        }
        // Planar lines are whole bytes.
        let whole = if self.get(BPP) == 4 { !7 } else { !0 };
        let smallest = if self.get(BPP) == 4 { 8 } else { 1 };
        let width = (self.get(X_RES).min(MAX[0]) & whole).max(smallest);
        // A wide virtual screen may be no wider than that one line of it fits.
        let bits = bits_of(self.get(BPP));
        let widest = (memory.saturating_mul(8) / bits).min(0xfff8) as u16;
        let virtual_width = (self.get(VIRT_WIDTH).min(widest) & whole).max(width);
        let lines = memory / (u32::from(virtual_width) * bits).div_ceil(8).max(1);
        let lines = u16::try_from(lines).unwrap_or(u16::MAX).max(1);
        let height = self.get(Y_RES).clamp(1, MAX[1].min(lines));
        let values = [
            (X_RES, width),
            (Y_RES, height),
            (VIRT_WIDTH, virtual_width),
            (VIRT_HEIGHT, lines),
            (X_OFFSET, self.get(X_OFFSET).min(virtual_width - width)),
            (Y_OFFSET, self.get(Y_OFFSET).min(lines - height)),
        ];
        values.into_iter().for_each(|(register, value)| self.set(register, value));
    }

    /// The mode that is on.
    pub fn mode(&self) -> Option<Mode> {
        let [width, height, virtual_width, x, y] =
            [X_RES, Y_RES, VIRT_WIDTH, X_OFFSET, Y_OFFSET].map(|register| u32::from(self.get(register)));
        let (bpp, bits) = (self.get(BPP).into(), bits_of(self.get(BPP)));
        let (pitch, start) = match bits {
            4 => (virtual_width / 8 * 4, y * virtual_width + x),
            _ => (virtual_width * bits / 8, (y * virtual_width + x) * bits / 8),
        };
        self.is_enabled().then_some(Mode { width, height, bpp, pitch, start })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: u32 = 16 << 20;

    fn enabled(width: u16, height: u16, bpp: u16) -> Vbe {
        let mut vbe = Vbe::new();
        for (register, value) in [(X_RES, width), (Y_RES, height), (BPP, bpp), (ENABLE, ENABLED | LFB)] {
            vbe.write(register, value, MEMORY);
        }
        vbe
    }

    #[test]
    fn versions_of_the_interface_are_taken_and_others_not() {
        let mut vbe = Vbe::new();
        assert_eq!(vbe.read(ID, MEMORY), 0xb0c5);
        for id in 0xb0c0..=0xb0c5 {
            vbe.write(ID, id, MEMORY);
            assert_eq!(vbe.read(ID, MEMORY), id);
        }
        vbe.write(ID, 0xb0c6, MEMORY);
        assert_eq!((vbe.read(ID, MEMORY), vbe.read(MEMORY_64K, MEMORY)), (0xb0c5, 256));
    }

    #[test]
    fn capabilities_are_read_only_while_asked_for() {
        let mut vbe = enabled(640, 480, 8);
        vbe.write(ENABLE, GET_CAPS, MEMORY);
        assert_eq!([X_RES, Y_RES, BPP].map(|r| vbe.read(r, MEMORY)), MAX);
        vbe.write(ENABLE, 0, MEMORY);
        assert_eq!([X_RES, Y_RES, BPP].map(|r| vbe.read(r, MEMORY)), [640, 480, 8]);
    }

    #[test]
    fn mode_switched_on_is_cleared_unless_the_guest_says_no() {
        let mut vbe = Vbe::new();
        vbe.write(X_RES, 1024, MEMORY);
        vbe.write(Y_RES, 768, MEMORY);
        vbe.write(BPP, 32, MEMORY);
        assert_eq!(vbe.write(ENABLE, ENABLED, MEMORY), 1024 * 768 * 4);
        assert_eq!(vbe.write(ENABLE, ENABLED, MEMORY), 0, "it was on");
        vbe.write(ENABLE, 0, MEMORY);
        assert_eq!(vbe.write(ENABLE, ENABLED | NO_CLEAR, MEMORY), 0);
    }

    #[test]
    fn virtual_screen_moves_under_the_picture_and_stops_at_its_edges() {
        let mut vbe = enabled(800, 600, 16);
        vbe.write(VIRT_WIDTH, 1024, MEMORY);
        vbe.write(X_OFFSET, 100, MEMORY);
        vbe.write(Y_OFFSET, 10, MEMORY);
        let mode = vbe.mode().expect("on");
        assert_eq!((mode.pitch, mode.start), (2048, 10 * 2048 + 200));
        assert_eq!(vbe.read(VIRT_HEIGHT, MEMORY), 8192);
        vbe.write(X_OFFSET, 9999, MEMORY);
        vbe.write(Y_OFFSET, 9999, MEMORY);
        assert_eq!((vbe.read(X_OFFSET, MEMORY), vbe.read(Y_OFFSET, MEMORY)), (224, 7592));
    }

    #[test]
    fn mode_that_does_not_fit_gets_fewer_lines() {
        let vbe = enabled(2560, 1600, 32);
        assert_eq!(vbe.mode().map(|m| (m.width, m.height)), Some((2560, 1600)));
        let mut vbe = Vbe::new();
        for (register, value) in [(X_RES, 2560), (Y_RES, 1600), (BPP, 32), (ENABLE, ENABLED)] {
            vbe.write(register, value, 8 << 20);
        }
        assert_eq!(vbe.read(Y_RES, 8 << 20), 819);
    }

    #[test]
    fn bank_beyond_memory_is_not_taken() {
        let mut vbe = enabled(640, 480, 8);
        vbe.write(BANK, 255, MEMORY);
        vbe.write(BANK, 256, MEMORY);
        assert_eq!(vbe.linear_bank(), Some(255 << 16));
    }

    #[test]
    fn no_values_of_the_registers_make_a_picture_larger_than_memory() {
        let values = [0, 1, 7, 8, 0x7fff, 0xfff8, 0xffff];
        for memory in [256 << 10, MEMORY] {
            for (width, bpp) in values.iter().flat_map(|w| [4, 8, 15, 24, 32].map(|b| (*w, b))) {
                let mut vbe = Vbe::new();
                let order = [(X_RES, width), (Y_RES, 0xffff), (BPP, bpp), (ENABLE, 1), (VIRT_WIDTH, width)];
                order.iter().for_each(|(register, value)| _ = vbe.write(*register, *value, memory));
                vbe.write(X_OFFSET, 0xffff, memory);
                vbe.write(Y_OFFSET, 0xffff, memory);
                let mode = vbe.mode().expect("on");
                let bytes = match mode.bpp {
                    4 => mode.start / 2 + mode.pitch * (mode.height - 1) + mode.width / 2,
                    _ => mode.start + mode.pitch * (mode.height - 1),
                };
                assert!(bytes <= memory, "{width} {bpp} {memory}: {mode:?}");
            }
        }
    }
}
