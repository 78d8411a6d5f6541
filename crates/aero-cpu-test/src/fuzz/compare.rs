//! Compares two ends of one case, field by field.

use super::case::{Case, FpuImage, Mode, Outcome, State, image};
use super::layout::selector;
use core::fmt;

/// A part of the state after a case.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Field {
    /// Whether and which exception came up.
    Vector,
    /// Its error code.
    Error,
    /// The page fault's address.
    Cr2,
    /// A general register.
    Gpr(u8),
    /// The instruction pointer.
    Rip,
    /// RFLAGS.
    Flags,
    /// A segment selector.
    Segment(u8),
    /// x87 control word.
    Fcw,
    /// x87 status word.
    Fsw,
    /// Which x87 registers are not empty.
    Ftw,
    /// Opcode of the last x87 instruction.
    Fop,
    /// Its address.
    Fip,
    /// Its operand's address.
    Fdp,
    /// SSE control and status.
    Mxcsr,
    /// ST(n) or MMn.
    St(u8),
    /// The low half of a YMM register.
    Xmm(u8),
    /// The high half.
    Ymm(u8),
    /// 16 bytes of memory at this offset in the region.
    Memory(u64),
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const GPR: [&str; 8] = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"];
        const SEGMENTS: [&str; 6] = ["es", "cs", "ss", "ds", "fs", "gs"];
        match *self {
            Self::Gpr(n @ 0..=7) => f.write_str(GPR[usize::from(n)]),
            Self::Gpr(n) => write!(f, "r{n}"),
            Self::Segment(n) => f.write_str(SEGMENTS[usize::from(n) % 6]),
            Self::St(n) => write!(f, "st{n}"),
            Self::Xmm(n) => write!(f, "xmm{n}"),
            Self::Ymm(n) => write!(f, "ymm{n}.high"),
            Self::Memory(at) => write!(f, "memory {at:04x}"),
            other => write!(f, "{}", format!("{other:?}").to_lowercase()),
        }
    }
}

/// A field that differs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Difference {
    /// Which.
    pub field: Field,
    /// What the host's processor left there.
    pub native: u128,
    /// What Aero left there.
    pub ours: u128,
}

/// RF is set in the frame of a fault and not in that of a trap; the kernel's frame shows it likewise. Nothing reads it.
const FLAGS: u64 = !(1 << 16);

/// An end of a case: how, and the state after it.
pub type End<'a> = (Outcome, &'a State);

/// The fields that differ, memory apart.
pub fn registers(case: &Case, native: End<'_>, ours: End<'_>, into: &mut Vec<Difference>) {
    let mut put = |field, native: u64, ours: u64| {
        if native != ours {
            into.push(Difference { field, native: native.into(), ours: ours.into() });
        }
    };
    outcomes(native.0, ours.0, &mut put);
    let (n, o) = (native.1, ours.1);
    // A far transfer may end in the other world, where the upper halves are nobody's business.
    let long = case.mode == Mode::B64 && n.segments[1] == selector::CODE64;
    let (count, mask) = if long { (16, u64::MAX) } else { (8, 0xffff_ffff) };
    for i in 0..count {
        put(Field::Gpr(i as u8), n.gpr[i] & mask, o.gpr[i] & mask);
    }
    put(Field::Rip, n.rip, o.rip);
    put(Field::Flags, n.rflags & FLAGS, o.rflags & FLAGS);
    for i in 0..6 {
        // The host's kernel returns to the signal handler by IRET, which makes null selectors plain zeros.
        let null = n.segments[i] == 0 && o.segments[i] < 4;
        put(Field::Segment(i as u8), n.segments[i].into(), if null { 0 } else { o.segments[i].into() });
    }
    if case.fpu && n.fpu != o.fpu {
        fpu(&n.fpu, &o.fpu, into);
    }
}

fn outcomes(native: Outcome, ours: Outcome, put: &mut impl FnMut(Field, u64, u64)) {
    const NONE: u64 = 0x100;
    const PAGE_FAULT: u8 = 14;
    let vector = |o| match o {
        Outcome::Done => NONE,
        Outcome::Trap(t) => u64::from(t.vector),
    };
    put(Field::Vector, vector(native), vector(ours));
    if let (Outcome::Trap(n), Outcome::Trap(o)) = (native, ours)
        && n.vector == o.vector
    {
        let mut error = n.error;
        if n.vector == PAGE_FAULT {
            put(Field::Cr2, n.cr2, o.cr2);
            // The kernel shows P set for every address that is not the program's.
            const PROGRAM_END: u64 = 0x7fff_ffff_f000;
            if n.cr2 >= PROGRAM_END {
                error = error & !1 | o.error & 1;
            }
        }
        let coded = matches!(n.vector, 8 | 10..=14 | 17 | 21);
        put(Field::Error, if coded { error.into() } else { 0 }, o.error.into());
    }
}

fn fpu(n: &FpuImage, o: &FpuImage, into: &mut Vec<Difference>) {
    let mut put = |field, native: u128, ours: u128| {
        if native != ours {
            into.push(Difference { field, native, ours });
        }
    };
    let word = |f: &FpuImage, at| u128::from(f.get16(at));
    let quad = |f: &FpuImage, at| u128::from(f.get64(at));
    for (field, at) in [(Field::Fcw, image::FCW), (Field::Fsw, image::FSW), (Field::Fop, image::FOP)] {
        put(field, word(n, at), word(o, at));
    }
    put(Field::Ftw, n.0[image::FTW].into(), o.0[image::FTW].into());
    for (field, at) in [(Field::Fip, image::FIP), (Field::Fdp, image::FDP)] {
        put(field, quad(n, at), quad(o, at));
    }
    put(Field::Mxcsr, n.get32(image::MXCSR).into(), o.get32(image::MXCSR).into());
    let both = |f: &FpuImage, at| quad(f, at) | quad(f, at + 8) << 64;
    for i in 0..8u8 {
        let at = image::ST + 16 * usize::from(i);
        let real = |f: &FpuImage| quad(f, at) | word(f, at + 8) << 64;
        put(Field::St(i), real(n), real(o));
    }
    for i in 0..16u8 {
        let offset = 16 * usize::from(i);
        put(Field::Xmm(i), both(n, image::XMM + offset), both(o, image::XMM + offset));
        put(Field::Ymm(i), both(n, image::YMM + offset), both(o, image::YMM + offset));
    }
}

/// The parts of a page that differ.
pub fn memory(page: u64, native: &[u8; 0x1000], ours: &[u8; 0x1000], into: &mut Vec<Difference>) {
    for (i, (n, o)) in native.chunks_exact(16).zip(ours.chunks_exact(16)).enumerate() {
        if n != o {
            let value = |b: &[u8]| u128::from_le_bytes(core::array::from_fn(|i| b[i]));
            let field = Field::Memory(page + 16 * i as u64);
            into.push(Difference { field, native: value(n), ours: value(o) });
        }
    }
}
