//! A case: one instruction in one mode with everything it can read; and what came of it.

use super::layout::{self, REGION, selector};

/// Bytes of an XSAVE image with x87, SSE and AVX state, standard form (Intel SDM vol. 1, 13.4).
pub const XSAVE_SIZE: usize = 832;

/// Offsets in the image.
pub mod image {
    /// x87 control word.
    pub const FCW: usize = 0;
    /// x87 status word.
    pub const FSW: usize = 2;
    /// One bit per register that is not empty.
    pub const FTW: usize = 4;
    /// Opcode of the last x87 instruction.
    pub const FOP: usize = 6;
    /// Its address.
    pub const FIP: usize = 8;
    /// Its operand's address.
    pub const FDP: usize = 16;
    /// SSE control and status.
    pub const MXCSR: usize = 24;
    /// ST(0), 16 bytes each.
    pub const ST: usize = 32;
    /// XMM0, 16 bytes each.
    pub const XMM: usize = 160;
    /// Which components the image holds.
    pub const HEADER: usize = 512;
    /// The upper half of YMM0, 16 bytes each.
    pub const YMM: usize = 576;
}

/// Code size of a case. 32-bit and 16-bit code run in compatibility mode, as they do on the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Mode {
    /// A 16-bit code segment whose base is the region's.
    B16,
    /// Flat 32-bit code.
    B32,
    /// 64-bit code.
    B64,
}

impl Mode {
    /// In bits.
    pub fn bits(self) -> u32 {
        match self {
            Self::B16 => 16,
            Self::B32 => 32,
            Self::B64 => 64,
        }
    }

    /// The mode of that many bits.
    pub fn of_bits(bits: u32) -> Option<Self> {
        [Self::B16, Self::B32, Self::B64].into_iter().find(|m| m.bits() == bits)
    }

    /// CS.
    pub fn code_selector(self) -> u16 {
        match self {
            Self::B16 => selector::CODE16,
            Self::B32 => selector::CODE32,
            Self::B64 => selector::CODE64,
        }
    }

    /// Base of CS, SS, DS and ES.
    pub fn base(self) -> u64 {
        if self == Self::B16 { REGION } else { 0 }
    }

    /// ES, CS, SS, DS, FS, GS as cases start.
    pub fn segments(self) -> [u16; 6] {
        let data = if self == Self::B16 { selector::DATA16 } else { selector::DATA };
        let (fs, gs) = if self == Self::B64 { (0, 0) } else { (selector::FS, selector::GS) };
        [data, self.code_selector(), data, data, fs, gs]
    }
}

/// An XSAVE image.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FpuImage(pub [u8; XSAVE_SIZE]);

impl FpuImage {
    /// The state after FNINIT with MXCSR 1F80h.
    pub fn initial() -> Self {
        let mut image = Self([0; XSAVE_SIZE]);
        image.set16(image::FCW, 0x37f);
        image.set32(image::MXCSR, 0x1f80);
        image.0[image::HEADER] = 7;
        image
    }

    /// A word.
    pub fn get16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    /// A dword.
    pub fn get32(&self, at: usize) -> u32 {
        u32::from(self.get16(at)) | u32::from(self.get16(at + 2)) << 16
    }

    /// A qword.
    pub fn get64(&self, at: usize) -> u64 {
        u64::from(self.get32(at)) | u64::from(self.get32(at + 4)) << 32
    }

    /// Sets a word.
    pub fn set16(&mut self, at: usize, value: u16) {
        self.0[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    /// Sets a dword.
    pub fn set32(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// Sets a qword.
    pub fn set64(&mut self, at: usize, value: u64) {
        self.0[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
}

/// Registers before or after a case.
#[derive(Clone, PartialEq, Eq)]
pub struct State {
    /// RAX..R15 by encoding number.
    pub gpr: [u64; 16],
    /// Instruction pointer; in 16-bit code an offset into the region.
    pub rip: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// ES, CS, SS, DS, FS, GS.
    pub segments: [u16; 6],
    /// x87, MMX, SSE, AVX.
    pub fpu: FpuImage,
}

impl State {
    /// Zeros in `mode`.
    pub fn zero(mode: Mode) -> Self {
        Self { gpr: [0; 16], rip: 0, rflags: 0x202, segments: mode.segments(), fpu: FpuImage::initial() }
    }
}

/// An exception as its handler sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trap {
    /// Vector.
    pub vector: u8,
    /// Error code, 0 for vectors that have none.
    pub error: u32,
    /// CR2, meaningful for page faults.
    pub cr2: u64,
}

/// How a case ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The instruction completed.
    Done,
    /// An exception, or the single-step trap after the instruction.
    Trap(Trap),
}

/// Bytes that a case puts over the background of the region.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Patch {
    /// Offset in the region.
    pub at: u64,
    /// The bytes; they end within their page.
    pub bytes: Vec<u8>,
}

/// One instruction with its operands.
#[derive(Clone)]
pub struct Case {
    /// Where it runs.
    pub mode: Mode,
    /// Its bytes.
    pub bytes: [u8; 16],
    /// How many of them.
    pub len: u8,
    /// Registers before it.
    pub state: State,
    /// Memory before it.
    pub patches: Vec<Patch>,
    /// Whether x87, SSE and AVX state take part.
    pub fpu: bool,
}

/// RFLAGS.TF.
pub const TF: u64 = 1 << 8;

impl Case {
    /// Whether the case is single-stepped.
    pub fn stepping(&self) -> bool {
        self.state.rflags & TF != 0
    }

    /// Where in the code page the instruction begins.
    pub fn offset(&self) -> usize {
        (self.state.rip.wrapping_add(self.mode.base()).wrapping_sub(REGION + layout::CODE) & 0xfff) as usize
    }

    /// The instruction.
    pub fn code(&self) -> &[u8] {
        &self.bytes[..self.len.into()]
    }
}
