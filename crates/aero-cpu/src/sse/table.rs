//! The table of instructions: mnemonic and operand kinds to handler.

use super::convert::{PairToIntegers, QuadToIntegers, ScalarFromInteger, ScalarToInteger};
use super::float::{Double, Format, Single};
use super::vector::{LEGACY, VEX128};
use super::{
    ArithFlags, Computed, Gpr, Immediate, Memory, Mm, Narrow, Operation, Packed, Unaligned, Wide, Xmm,
};
use super::{arith, control, convert, integer, masked, run, strings, vector, xsave};
use crate::bind::EaKind;
use crate::op::{Any, Flat64, Op, Run};
use aero_x86::{Insn, Mnemonic as M, Operand};

/// What an operand is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// XMM register.
    X,
    /// MMX register.
    Q,
    /// General register of 4 bytes (also 2 or 1, where no instruction is).
    G4,
    /// General register of 8 bytes.
    G8,
    /// Memory.
    Mem,
    /// Immediate.
    I,
    /// None, or something else.
    Other,
}
use Kind::{G4, G8, I, Mem, Q, X};

fn kind(insn: &Insn, n: usize) -> Kind {
    if n >= insn.count.into() {
        return Kind::Other;
    }
    match insn.operands[n] {
        Operand::Xmm(_) => X,
        Operand::Mm(_) => Q,
        Operand::Gpr { size: 8, .. } => G8,
        Operand::Gpr { .. } => G4,
        Operand::Mem => Mem,
        Operand::Imm(_) => I,
        _ => Kind::Other,
    }
}

fn kinds(insn: &Insn) -> (Kind, Kind) {
    (kind(insn, 0), kind(insn, 1))
}

/// A handler for each way of addressing; `Ea` is its name in `$run`.
macro_rules! by_ea {
    ($kind:expr, $run:expr) => {
        match $kind {
            EaKind::Flat64 => {
                type Ea = Flat64;
                $run as Run
            }
            EaKind::Flat32 | EaKind::Any => {
                type Ea = Any;
                $run as Run
            }
        }
    };
}

/// `D op= XMM register or BYTES of memory`.
macro_rules! from_xmm {
    ($insn:expr, $ea:expr, $op:ty, $place:ty, $bytes:literal) => {
        match kind($insn, 1) {
            X => Some(run::<$op, $place, Xmm> as Run),
            Mem => Some(by_ea!($ea, run::<$op, $place, Memory<Ea, $bytes>>)),
            _ => None,
        }
    };
}

/// `D op= general register or memory of the same size`.
macro_rules! from_gpr {
    ($insn:expr, $ea:expr, $op32:ty, $op64:ty, $place:ty) => {
        match (kind($insn, 1), $insn.mem.size) {
            (G4, _) => Some(run::<$op32, $place, Gpr<u32>> as Run),
            (G8, _) => Some(run::<$op64, $place, Gpr<u64>>),
            (Mem, 8) => Some(by_ea!($ea, run::<$op64, $place, Memory<Ea, 8>>)),
            (Mem, _) => Some(by_ea!($ea, run::<$op32, $place, Memory<Ea, 4>>)),
            _ => None,
        }
    };
}

/// One line per instruction: mnemonics that are functions of packed integers by the same name.
macro_rules! lookup {
    ($insn:expr, $ea:expr, $bind:ident, $module:ident, $($name:ident)*) => {
        match $insn.mnemonic {
            $(M::$name => $bind::<$module::$name>($insn, $ea),)*
            _ => None,
        }
    };
}

/// The handler of an MMX, SSE or AVX instruction; `None` for anything else.
pub fn bind(insn: &Insn, ea: EaKind, op: &mut Op) -> Option<Run> {
    let early = if insn.vex { None } else { up_to_ssse3(insn, ea) };
    early.or_else(|| system(insn)).or_else(|| xsave::bind(insn)).or_else(|| later(insn, op))
}

/// What has no handler of its own.
fn later(insn: &Insn, op: &mut Op) -> Option<Run> {
    let vector = |o: &Operand| matches!(o, Operand::Xmm(_) | Operand::Ymm(_) | Operand::Mm(_));
    if !insn.vex && !insn.operands[..insn.count.into()].iter().any(vector) {
        return None;
    }
    vector::bind(insn, op).or_else(|| masked::bind(insn, op)).or_else(|| strings::bind(insn, op))
}

fn up_to_ssse3(insn: &Insn, ea: EaKind) -> Option<Run> {
    integers(insn, ea)
        .or_else(|| renamed(insn, ea))
        .or_else(|| arithmetic(insn, ea))
        .or_else(|| conversions(insn, ea))
        .or_else(|| scalar_conversions(insn, ea))
        .or_else(|| moves(insn, ea))
        .or_else(|| partial_moves(insn, ea))
        .or_else(|| to_general(insn, ea))
}

/// A packed operation: XMM or MMX, source of the same kind, memory or immediate.
fn packed<P: Packed>(insn: &Insn, ea: EaKind) -> Option<Run> {
    Some(match kinds(insn) {
        (X, X) => run::<Wide<P>, Xmm, Xmm> as Run,
        (X, Mem) => by_ea!(ea, run::<Wide<P>, Xmm, Memory<Ea, 16>>),
        (X, I) => run::<Wide<P>, Xmm, Immediate>,
        (Q, Q) => run::<Narrow<P>, Mm, Mm>,
        (Q, Mem) => by_ea!(ea, run::<Narrow<P>, Mm, Memory<Ea, 8>>),
        (Q, I) => run::<Narrow<P>, Mm, Immediate>,
        _ => return None,
    })
}

/// Unpacking of low halves: MMX reads only 4 bytes of memory.
fn unpack_low<P: Packed>(insn: &Insn, ea: EaKind) -> Option<Run> {
    match kinds(insn) {
        (Q, Mem) => Some(by_ea!(ea, run::<Narrow<P>, Mm, Memory<Ea, 4>>)),
        _ => packed::<P>(insn, ea),
    }
}

fn integers(insn: &Insn, ea: EaKind) -> Option<Run> {
    lookup! { insn, ea, packed, integer,
        Paddb Paddw Paddd Paddq Paddsb Paddsw Paddusb Paddusw Psubb Psubw Psubd Psubq Psubsb Psubsw Psubusb
        Psubusw Pmullw Pmulhw Pmulhuw Pmuludq Pmaddwd Pavgb Pavgw Pminub Pmaxub Pminsw Pmaxsw Psadbw Pcmpeqb
        Pcmpeqw Pcmpeqd Pcmpgtb Pcmpgtw Pcmpgtd Pand Pandn Por Pxor Psllw Pslld Psllq Psrlw Psrld Psrlq
        Psraw Psrad Pslldq Psrldq Packsswb Packuswb Packssdw Punpcklqdq Punpckhbw Punpckhwd Punpckhdq
        Punpckhqdq Pshufw Pshuflw Pshufhw Pshufd Shufps Shufpd Movsldup Movshdup Pshufb Palignr Pabsb Pabsw
        Pabsd Psignb Psignw Psignd Phaddw Phaddsw Phsubw Phsubsw Phaddd Phsubd Pmulhrsw Pmaddubsw
    }
    .or_else(|| lookup! { insn, ea, unpack_low, integer, Punpcklbw Punpcklwd Punpckldq })
}

/// Floating-point names of what is the same for integers.
fn renamed(insn: &Insn, ea: EaKind) -> Option<Run> {
    match insn.mnemonic {
        M::Andps | M::Andpd => packed::<integer::Pand>(insn, ea),
        M::Andnps | M::Andnpd => packed::<integer::Pandn>(insn, ea),
        M::Orps | M::Orpd => packed::<integer::Por>(insn, ea),
        M::Xorps | M::Xorpd => packed::<integer::Pxor>(insn, ea),
        M::Unpcklps => packed::<integer::Punpckldq>(insn, ea),
        M::Unpckhps => packed::<integer::Punpckhdq>(insn, ea),
        M::Unpcklpd => packed::<integer::Punpcklqdq>(insn, ea),
        M::Unpckhpd => packed::<integer::Punpckhqdq>(insn, ea),
        _ => None,
    }
}

fn whole<O: Operation>(insn: &Insn, ea: EaKind) -> Option<Run> {
    if kind(insn, 0) != X {
        return None;
    }
    from_xmm!(insn, ea, O, Xmm, 16)
}

fn single<O: Operation>(insn: &Insn, ea: EaKind) -> Option<Run> {
    if kind(insn, 0) != X {
        return None;
    }
    from_xmm!(insn, ea, O, Xmm, 4)
}

fn double<O: Operation>(insn: &Insn, ea: EaKind) -> Option<Run> {
    if kind(insn, 0) != X {
        return None;
    }
    from_xmm!(insn, ea, O, Xmm, 8)
}

fn compare_single<O: Operation>(insn: &Insn, ea: EaKind) -> Option<Run> {
    from_xmm!(insn, ea, O, ArithFlags, 4)
}

fn compare_double<O: Operation>(insn: &Insn, ea: EaKind) -> Option<Run> {
    from_xmm!(insn, ea, O, ArithFlags, 8)
}

fn arithmetic(insn: &Insn, ea: EaKind) -> Option<Run> {
    lookup! { insn, ea, whole, arith,
        Addps Addpd Subps Subpd Mulps Mulpd Divps Divpd Minps Minpd Maxps Maxpd Sqrtps Sqrtpd Rcpps Rsqrtps
        Cmpps Cmppd Addsubps Addsubpd Haddps Haddpd Hsubps Hsubpd
    }
    .or_else(|| {
        lookup! { insn, ea, single, arith, Addss Subss Mulss Divss Minss Maxss Sqrtss Rcpss Rsqrtss Cmpss }
    })
    .or_else(|| lookup! { insn, ea, double, arith, Addsd Subsd Mulsd Divsd Minsd Maxsd Sqrtsd Cmpsd })
    .or_else(|| lookup! { insn, ea, compare_single, arith, Comiss Ucomiss })
    .or_else(|| lookup! { insn, ea, compare_double, arith, Comisd Ucomisd })
}

fn conversions(insn: &Insn, ea: EaKind) -> Option<Run> {
    match insn.mnemonic {
        M::Cvtdq2ps => whole::<convert::Cvtdq2ps>(insn, ea),
        M::Cvtdq2pd => double::<convert::Cvtdq2pd>(insn, ea),
        M::Cvtps2pd => double::<convert::Cvtps2pd>(insn, ea),
        M::Cvtpd2ps => whole::<convert::Cvtpd2ps>(insn, ea),
        M::Cvtss2sd => single::<convert::Cvtss2sd>(insn, ea),
        M::Cvtsd2ss => double::<convert::Cvtsd2ss>(insn, ea),
        M::Cvtps2dq => whole::<QuadToIntegers<false>>(insn, ea),
        M::Cvttps2dq => whole::<QuadToIntegers<true>>(insn, ea),
        M::Cvtpd2dq => whole::<PairToIntegers<Double, false>>(insn, ea),
        M::Cvttpd2dq => whole::<PairToIntegers<Double, true>>(insn, ea),
        M::Cvtpi2ps => from_mmx::<convert::Cvtpi2ps>(insn, ea),
        M::Cvtpi2pd => from_mmx::<convert::Cvtdq2pd>(insn, ea),
        M::Cvtps2pi => from_xmm!(insn, ea, PairToIntegers<Single, false>, Computed<Mm>, 8),
        M::Cvttps2pi => from_xmm!(insn, ea, PairToIntegers<Single, true>, Computed<Mm>, 8),
        M::Cvtpd2pi => from_xmm!(insn, ea, PairToIntegers<Double, false>, Computed<Mm>, 16),
        M::Cvttpd2pi => from_xmm!(insn, ea, PairToIntegers<Double, true>, Computed<Mm>, 16),
        _ => None,
    }
}

/// CVTPI2PS and CVTPI2PD. With an operand in memory they use no MMX register and leave the x87 state alone.
fn from_mmx<O: Operation>(insn: &Insn, ea: EaKind) -> Option<Run> {
    match kinds(insn) {
        (X, Q) => Some(run::<O, Xmm, Mm>),
        (X, Mem) => Some(by_ea!(ea, run::<O, Xmm, Memory<Ea, 8>>)),
        _ => None,
    }
}

/// CVTxx2SI of one format.
fn to_integer<F: Format, const TRUNCATE: bool>(insn: &Insn, ea: EaKind) -> Option<Run> {
    type To<F, const BITS: u32, const TRUNCATE: bool> = ScalarToInteger<F, BITS, TRUNCATE>;
    match (kind(insn, 0), F::BITS) {
        (G8, 64) => from_xmm!(insn, ea, To<F, 64, TRUNCATE>, Computed<Gpr<u64>>, 8),
        (G8, _) => from_xmm!(insn, ea, To<F, 64, TRUNCATE>, Computed<Gpr<u64>>, 4),
        (_, 64) => from_xmm!(insn, ea, To<F, 32, TRUNCATE>, Computed<Gpr<u32>>, 8),
        _ => from_xmm!(insn, ea, To<F, 32, TRUNCATE>, Computed<Gpr<u32>>, 4),
    }
}

fn from_integer<F: Format>(insn: &Insn, ea: EaKind) -> Option<Run> {
    from_gpr!(insn, ea, ScalarFromInteger<F, 32>, ScalarFromInteger<F, 64>, Xmm)
}

fn scalar_conversions(insn: &Insn, ea: EaKind) -> Option<Run> {
    match insn.mnemonic {
        M::Cvtss2si => to_integer::<Single, false>(insn, ea),
        M::Cvttss2si => to_integer::<Single, true>(insn, ea),
        M::Cvtsd2si => to_integer::<Double, false>(insn, ea),
        M::Cvttsd2si => to_integer::<Double, true>(insn, ea),
        M::Cvtsi2ss => from_integer::<Single>(insn, ea),
        M::Cvtsi2sd => from_integer::<Double>(insn, ea),
        _ => None,
    }
}

/// Moves of whole registers.
fn moves(insn: &Insn, ea: EaKind) -> Option<Run> {
    type Copy = Wide<integer::Copy>;
    type CopyMm = Narrow<integer::Copy>;
    Some(match (insn.mnemonic, kinds(insn)) {
        (M::Movaps | M::Movapd | M::Movdqa | M::Movups | M::Movupd | M::Movdqu, (X, X)) => {
            run::<Copy, Xmm, Xmm>
        }
        (M::Movaps | M::Movapd | M::Movdqa, (X, Mem)) => by_ea!(ea, run::<Copy, Xmm, Memory<Ea, 16>>),
        (M::Movaps | M::Movapd | M::Movdqa | M::Movntps | M::Movntpd | M::Movntdq, (Mem, X)) => {
            by_ea!(ea, run::<Copy, Memory<Ea, 16>, Xmm>)
        }
        (M::Movups | M::Movupd | M::Movdqu | M::Lddqu, (X, Mem)) => {
            by_ea!(ea, run::<Copy, Xmm, Unaligned<Ea>>)
        }
        (M::Movups | M::Movupd | M::Movdqu, (Mem, X)) => by_ea!(ea, run::<Copy, Unaligned<Ea>, Xmm>),
        (M::Movq, (Q, Q)) => run::<CopyMm, Mm, Mm>,
        (M::Movq | M::Movntq, (Mem, Q)) => by_ea!(ea, run::<CopyMm, Memory<Ea, 8>, Mm>),
        (M::Movq, (X, X)) => run::<Wide<integer::CopyQuad>, Xmm, Xmm>,
        (M::Movq, (Mem, X)) => by_ea!(ea, run::<Copy, Memory<Ea, 8>, Xmm>),
        (M::Movd, (Mem, X)) => by_ea!(ea, run::<Copy, Memory<Ea, 4>, Xmm>),
        (M::Movd, (Mem, Q)) => by_ea!(ea, run::<CopyMm, Memory<Ea, 4>, Mm>),
        (M::Movd | M::Movq, (X, G4 | G8 | Mem)) => return from_gpr!(insn, ea, Copy, Copy, Xmm),
        (M::Movd | M::Movq, (Q, G4 | G8 | Mem)) => return from_gpr!(insn, ea, CopyMm, CopyMm, Mm),
        (M::Movd | M::Movq, (G4, X)) => run::<Copy, Gpr<u32>, Xmm>,
        (M::Movd | M::Movq, (G8, X)) => run::<Copy, Gpr<u64>, Xmm>,
        (M::Movd | M::Movq, (G4, Q)) => run::<CopyMm, Gpr<u32>, Mm>,
        (M::Movd | M::Movq, (G8, Q)) => run::<CopyMm, Gpr<u64>, Mm>,
        (M::Movq2dq, (X, Q)) => run::<Copy, Xmm, Mm>,
        (M::Movdq2q, (Q, X)) => run::<Copy, Mm, Xmm>,
        _ => return None,
    })
}

/// Moves of parts of registers.
fn partial_moves(insn: &Insn, ea: EaKind) -> Option<Run> {
    use integer::{Copy, High, HighToLow, LowQuad, LowSingle, LowToHigh, Movddup, Pinsrw};
    Some(match (insn.mnemonic, kinds(insn)) {
        (M::Movss, (X, X)) => run::<Wide<LowSingle>, Xmm, Xmm>,
        (M::Movss, (X, Mem)) => by_ea!(ea, run::<Wide<Copy>, Xmm, Memory<Ea, 4>>),
        (M::Movss, (Mem, X)) => by_ea!(ea, run::<Wide<Copy>, Memory<Ea, 4>, Xmm>),
        (M::Movsd, (X, X)) => run::<Wide<LowQuad>, Xmm, Xmm>,
        (M::Movsd, (X, Mem)) => by_ea!(ea, run::<Wide<Copy>, Xmm, Memory<Ea, 8>>),
        (M::Movsd | M::Movlps | M::Movlpd, (Mem, X)) => by_ea!(ea, run::<Wide<Copy>, Memory<Ea, 8>, Xmm>),
        (M::Movlps | M::Movlpd, (X, Mem)) => by_ea!(ea, run::<Wide<LowQuad>, Xmm, Memory<Ea, 8>>),
        (M::Movhps | M::Movhpd, (X, Mem)) => by_ea!(ea, run::<Wide<LowToHigh>, Xmm, Memory<Ea, 8>>),
        (M::Movhps | M::Movhpd, (Mem, X)) => by_ea!(ea, run::<Wide<High>, Memory<Ea, 8>, Xmm>),
        (M::Movlhps, (X, X)) => run::<Wide<LowToHigh>, Xmm, Xmm>,
        (M::Movhlps, (X, X)) => run::<Wide<HighToLow>, Xmm, Xmm>,
        (M::Movddup, _) => return double::<Wide<Movddup>>(insn, ea),
        (M::Pinsrw, (X, G4 | G8)) => run::<Wide<Pinsrw>, Xmm, Gpr<u32>>,
        (M::Pinsrw, (Q, G4 | G8)) => run::<Narrow<Pinsrw>, Mm, Gpr<u32>>,
        (M::Pinsrw, (X, Mem)) => by_ea!(ea, run::<Wide<Pinsrw>, Xmm, Memory<Ea, 2>>),
        (M::Pinsrw, (Q, Mem)) => by_ea!(ea, run::<Narrow<Pinsrw>, Mm, Memory<Ea, 2>>),
        _ => return None,
    })
}

/// What goes to general registers; their upper halves become zero whatever the operand size.
fn to_general(insn: &Insn, _ea: EaKind) -> Option<Run> {
    use integer::{Movmskpd, Movmskps, Pextrw, Pmovmskb};
    Some(match (insn.mnemonic, kinds(insn)) {
        (M::Pmovmskb, (G4 | G8, X)) => run::<Wide<Pmovmskb>, Gpr<u32>, Xmm>,
        (M::Pmovmskb, (G4 | G8, Q)) => run::<Narrow<Pmovmskb>, Gpr<u32>, Mm>,
        (M::Movmskps, (G4 | G8, X)) => run::<Wide<Movmskps>, Gpr<u32>, Xmm>,
        (M::Movmskpd, (G4 | G8, X)) => run::<Wide<Movmskpd>, Gpr<u32>, Xmm>,
        (M::Pextrw, (G4 | G8, X)) => run::<Wide<Pextrw>, Gpr<u32>, Xmm>,
        (M::Pextrw, (G4 | G8, Q)) => run::<Narrow<Pextrw>, Gpr<u32>, Mm>,
        _ => return None,
    })
}

fn system(insn: &Insn) -> Option<Run> {
    Some(match insn.mnemonic {
        M::Emms => control::emms,
        M::Ldmxcsr => control::ldmxcsr::<LEGACY>,
        M::Stmxcsr => control::stmxcsr::<LEGACY>,
        M::Fxsave => control::fxsave::<false>,
        M::Fxsave64 => control::fxsave::<true>,
        M::Fxrstor => control::fxrstor::<false>,
        M::Fxrstor64 => control::fxrstor::<true>,
        M::Vldmxcsr => control::ldmxcsr::<VEX128>,
        M::Vstmxcsr => control::stmxcsr::<VEX128>,
        M::Vzeroupper => control::vzero::<false>,
        M::Vzeroall => control::vzero::<true>,
        _ => return None,
    })
}
