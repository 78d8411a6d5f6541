//! The memory images: FNSTENV/FLDENV, FNSAVE/FRSTOR and the x87 part of FXSAVE/FXRSTOR.
//!
//! Source: Intel SDM volume 1, figures 8-9 to 8-12 (environments) and table 10-2 (FXSAVE).

use super::spec::{CONTROL_ONE, CONTROL_WRITABLE, EXCEPTIONS, FOP_MASK};
use super::{F80, Fpu, f80::Class};

/// Which of the four environment layouts an instruction uses: operand size by processor mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// 16-bit operand size, real or virtual-8086 mode: 14 bytes.
    Real16,
    /// 16-bit operand size, protected mode: 14 bytes.
    Protected16,
    /// 32-bit operand size, real or virtual-8086 mode: 28 bytes.
    Real32,
    /// 32-bit operand size, protected and long mode: 28 bytes.
    Protected32,
}

impl Format {
    /// Bytes of the environment: 14 or 28. The save image has 80 more.
    pub const fn env_len(self) -> usize {
        match self {
            Format::Real16 | Format::Protected16 => 14,
            Format::Real32 | Format::Protected32 => 28,
        }
    }

    /// Bytes of the FNSAVE image: 94 or 108.
    pub const fn save_len(self) -> usize {
        self.env_len() + REGISTERS_LEN
    }
}

/// Largest environment image.
pub const ENV_MAX: usize = 28;
/// Largest FNSAVE image.
pub const SAVE_MAX: usize = ENV_MAX + REGISTERS_LEN;
const REGISTERS_LEN: usize = 80;

/// Offsets inside the FXSAVE image.
mod fx {
    pub const FCW: usize = 0;
    pub const FSW: usize = 2;
    pub const FTW: usize = 4;
    pub const FOP: usize = 6;
    pub const FIP: usize = 8;
    pub const FCS: usize = 12;
    pub const FDP: usize = 16;
    pub const FDS: usize = 20;
    pub const ST: usize = 32;
    pub const ST_STRIDE: usize = 16;
}

fn put16(image: &mut [u8], at: usize, value: u16) {
    image[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

fn put32(image: &mut [u8], at: usize, value: u32) {
    image[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn get16(image: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([image[at], image[at + 1]])
}

fn get32(image: &[u8], at: usize) -> u32 {
    get16(image, at) as u32 | (get16(image, at + 2) as u32) << 16
}

impl Fpu {
    /// The full tag word: two bits per register (valid, zero, special, empty).
    pub fn tag_word(&self) -> u16 {
        (0..8).fold(0, |word, i| word | self.tag(i) << (2 * i))
    }

    fn tag(&self, i: usize) -> u16 {
        if self.tags >> i & 1 == 0 {
            return 3;
        }
        match self.st[i].class() {
            Class::Normal => 0,
            Class::Zero => 1,
            _ => 2,
        }
    }

    fn set_tag_word(&mut self, word: u16) {
        self.tags = (0..8).fold(0, |tags, i| tags | ((word >> (2 * i) & 3 != 3) as u8) << i);
    }

    /// The environment image (FNSTENV); the first [`Format::env_len`] bytes count. Call
    /// [`Fpu::finish_fnstenv`] once it is written.
    pub fn env_image(&self, format: Format) -> [u8; ENV_MAX] {
        let mut image = [0; ENV_MAX];
        match format {
            Format::Real32 | Format::Protected32 => self.env_image_32(&mut image, format),
            Format::Real16 | Format::Protected16 => self.env_image_16(&mut image, format),
        }
        image
    }

    fn env_image_32(&self, image: &mut [u8; ENV_MAX], format: Format) {
        // The unused upper halves of the three words read as ones.
        put32(image, 0, 0xFFFF_0000 | self.control as u32);
        put32(image, 4, 0xFFFF_0000 | self.status_word() as u32);
        put32(image, 8, 0xFFFF_0000 | self.tag_word() as u32);
        if format == Format::Protected32 {
            put32(image, 12, self.fip as u32);
            put32(image, 16, (self.fop as u32) << 16 | self.fcs as u32);
            put32(image, 20, self.fdp as u32);
            put32(image, 24, 0xFFFF_0000 | self.fds as u32);
            return;
        }
        let (fip, fdp) = (linear(self.fcs, self.fip), linear(self.fds, self.fdp));
        put32(image, 12, 0xFFFF_0000 | fip & 0xFFFF);
        put32(image, 16, fip >> 16 << 12 | self.fop as u32);
        put32(image, 20, 0xFFFF_0000 | fdp & 0xFFFF);
        put32(image, 24, fdp >> 16 << 12);
    }

    fn env_image_16(&self, image: &mut [u8; ENV_MAX], format: Format) {
        put16(image, 0, self.control);
        put16(image, 2, self.status_word());
        put16(image, 4, self.tag_word());
        if format == Format::Protected16 {
            put16(image, 6, self.fip as u16);
            put16(image, 8, self.fcs);
            put16(image, 10, self.fdp as u16);
            put16(image, 12, self.fds);
            return;
        }
        let (fip, fdp) = (linear(self.fcs, self.fip), linear(self.fds, self.fdp));
        put16(image, 6, fip as u16);
        put16(image, 8, (fip >> 16 << 12) as u16 | self.fop);
        put16(image, 10, fdp as u16);
        put16(image, 12, (fdp >> 16 << 12) as u16);
    }

    /// What FNSTENV does after the store: masks all exceptions.
    pub fn finish_fnstenv(&mut self) {
        self.control |= EXCEPTIONS;
        self.update_summary();
    }

    /// FLDENV; `image` holds at least [`Format::env_len`] bytes.
    pub fn load_env(&mut self, image: &[u8], format: Format) {
        let wide = matches!(format, Format::Real32 | Format::Protected32);
        let stride = if wide { 4 } else { 2 };
        self.control = get16(image, 0) & CONTROL_WRITABLE | CONTROL_ONE;
        self.set_status_word(get16(image, stride));
        self.set_tag_word(get16(image, 2 * stride));
        match format {
            Format::Protected32 => self.load_pointers_protected32(image),
            Format::Protected16 => self.load_pointers_protected16(image),
            Format::Real32 | Format::Real16 => self.load_pointers_real(image, wide),
        }
    }

    fn load_pointers_protected32(&mut self, image: &[u8]) {
        let opcode = get16(image, 18);
        let (fip, fdp) = (get32(image, 12) as u64, get32(image, 20) as u64);
        self.set_pointers(opcode, get16(image, 16), fip, get16(image, 24), fdp);
    }

    fn load_pointers_protected16(&mut self, image: &[u8]) {
        let (fip, fdp) = (get16(image, 6) as u64, get16(image, 10) as u64);
        // This layout has no opcode.
        self.set_pointers(0, get16(image, 8), fip, get16(image, 12), fdp);
    }

    fn load_pointers_real(&mut self, image: &[u8], wide: bool) {
        let step = if wide { 4 } else { 2 };
        let start = 3 * step;
        let word = |i: usize| {
            let at = start + i * step;
            if wide { get32(image, at) } else { get16(image, at) as u32 }
        };
        let join = |low: u32, high: u32| (low & 0xFFFF | high >> 12 << 16) as u64;
        let (fip, fdp) = (join(word(0), word(1)), join(word(2), word(3)));
        self.set_pointers(word(1) as u16, 0, fip, 0, fdp);
    }

    /// The FNSAVE image; the first [`Format::save_len`] bytes count. Call [`Fpu::fninit`] once it is
    /// written.
    pub fn save_image(&self, format: Format) -> [u8; SAVE_MAX] {
        let mut image = [0; SAVE_MAX];
        image[..ENV_MAX].copy_from_slice(&self.env_image(format));
        for (i, bytes) in image[format.env_len()..].chunks_exact_mut(10).take(8).enumerate() {
            bytes.copy_from_slice(&self.st(i as u8).to_bytes());
        }
        image
    }

    /// FRSTOR; `image` holds at least [`Format::save_len`] bytes.
    pub fn restore(&mut self, image: &[u8], format: Format) {
        self.load_env(image, format);
        for (i, bytes) in image[format.env_len()..].chunks_exact(10).take(8).enumerate() {
            let index = self.physical(i as u8);
            self.st[index] = register_from(bytes);
        }
    }

    /// Writes the x87 part of an FXSAVE or XSAVE image: bytes 0 to 23 and the ten used bytes of each
    /// register slot. `wide` is the 64-bit form (REX.W), which has full pointers and no selectors.
    pub fn fxsave(&self, image: &mut [u8; 512], wide: bool) {
        put16(image, fx::FCW, self.control);
        put16(image, fx::FSW, self.status_word());
        put16(image, fx::FTW, self.tags as u16);
        put16(image, fx::FOP, self.fop);
        put32(image, fx::FIP, self.fip as u32);
        put32(image, fx::FDP, self.fdp as u32);
        let (fip_high, fdp_high) = ((self.fip >> 32) as u32, (self.fdp >> 32) as u32);
        put32(image, fx::FCS, if wide { fip_high } else { self.fcs as u32 });
        put32(image, fx::FDS, if wide { fdp_high } else { self.fds as u32 });
        for i in 0..8 {
            let at = fx::ST + i * fx::ST_STRIDE;
            image[at..at + 10].copy_from_slice(&self.st(i as u8).to_bytes());
            image[at + 10..at + 16].fill(0);
        }
    }

    /// Reads the x87 part of an FXSAVE image.
    pub fn fxrstor(&mut self, image: &[u8; 512], wide: bool) {
        self.control = get16(image, fx::FCW) & CONTROL_WRITABLE | CONTROL_ONE;
        self.set_status_word(get16(image, fx::FSW));
        self.tags = image[fx::FTW];
        self.fop = get16(image, fx::FOP) & FOP_MASK;
        self.fip = get32(image, fx::FIP) as u64;
        self.fdp = get32(image, fx::FDP) as u64;
        if wide {
            self.fip |= (get32(image, fx::FCS) as u64) << 32;
            self.fdp |= (get32(image, fx::FDS) as u64) << 32;
            // The selectors have no place in this form.
            (self.fcs, self.fds) = (0, 0);
        } else {
            self.fcs = get16(image, fx::FCS);
            self.fds = get16(image, fx::FDS);
        }
        for i in 0..8 {
            let at = fx::ST + i * fx::ST_STRIDE;
            let index = self.physical(i as u8);
            self.st[index] = register_from(&image[at..at + 10]);
        }
    }
}

/// The 20-bit (or, past 1 MiB, longer) linear address the real-mode layouts store.
fn linear(selector: u16, offset: u64) -> u32 {
    ((selector as u32) << 4).wrapping_add(offset as u32)
}

fn register_from(bytes: &[u8]) -> F80 {
    let mut value = [0; 10];
    value.copy_from_slice(bytes);
    F80::from_bytes(value)
}
