//! Packed integers, for MMX (one word of 64 bits) and SSE2 (two) alike, and the moves within registers.
//!
//! Each operation is a function of whole registers. The common ones work on all lanes of a word at once
//! ([`super::swar`]); `each8` and its sisters apply a function to every pair of lanes.

use super::Packed;
use super::swar::{Swar, interleave};

macro_rules! lanes {
    ($($each:ident, $split:ident, $join:ident, $u:ty, $per:expr;)*) => {$(
        /// The lanes of one word, low first.
        #[inline(always)]
        fn $split(word: u64) -> [$u; $per] {
            core::array::from_fn(|i| (word >> (i as u32 * <$u>::BITS)) as $u)
        }

        /// The word of these lanes.
        #[inline(always)]
        fn $join(lanes: [$u; $per]) -> u64 {
            let mut word = 0;
            for (i, lane) in lanes.into_iter().enumerate() {
                word |= u64::from(lane) << (i as u32 * <$u>::BITS);
            }
            word
        }

        /// Applies `f` lane by lane.
        #[inline(always)]
        pub fn $each<const N: usize>(a: [u64; N], b: [u64; N], f: impl Fn($u, $u) -> $u) -> [u64; N] {
            core::array::from_fn(|n| {
                let (x, y) = ($split(a[n]), $split(b[n]));
                $join(core::array::from_fn(|i| f(x[i], y[i])))
            })
        }
    )*};
}
lanes! {
    each8, split8, join8, u8, 8;
    each16, split16, join16, u16, 4;
    each32, split32, join32, u32, 2;
    each64, split64, join64, u64, 1;
}

/// The bytes of a register, low first; MMX leaves the upper half empty.
#[inline(always)]
pub fn bytes<const N: usize>(v: [u64; N]) -> [u8; 16] {
    let mut all = [0; 16];
    for (n, word) in v.into_iter().enumerate() {
        all[8 * n..8 * n + 8].copy_from_slice(&word.to_le_bytes());
    }
    all
}

#[inline(always)]
pub fn from_bytes<const N: usize>(all: [u8; 16]) -> [u64; N] {
    core::array::from_fn(|n| {
        let mut word = [0; 8];
        word.copy_from_slice(&all[8 * n..8 * n + 8]);
        u64::from_le_bytes(word)
    })
}

/// Interleaves the lanes of `SIZE` bytes of the low or high halves.
#[inline(always)]
fn unpack<const N: usize, const SIZE: usize, const HIGH: bool>(a: [u64; N], b: [u64; N]) -> [u64; N] {
    let start = if HIGH { N as u8 } else { 0 };
    core::array::from_fn(|n| interleave::<SIZE>(dword(a, start + n as u8), dword(b, start + n as u8)))
}

/// The quadwords of the low or high halves.
#[inline(always)]
fn unpack64<const N: usize>(a: [u64; N], b: [u64; N], half: usize) -> [u64; N] {
    core::array::from_fn(|n| if n == 0 { a[half & (N - 1)] } else { b[half & (N - 1)] })
}

/// Narrows words to bytes: those of `a` to the low half, those of `b` to the high one.
#[inline(always)]
fn pack16<const N: usize>(a: [u64; N], b: [u64; N], f: impl Fn(i16) -> u8) -> [u64; N] {
    let mut r = [0; 16];
    for i in 0..4 * N {
        let word = |v: [u64; N]| (v[i / 4] >> (16 * (i % 4))) as i16;
        r[i] = f(word(a));
        r[4 * N + i] = f(word(b));
    }
    from_bytes(r)
}

/// Narrows doublewords to words, saturating.
#[inline(always)]
fn pack32<const N: usize>(a: [u64; N], b: [u64; N]) -> [u64; N] {
    let narrow = |w: u64| w as i32 as i64;
    let mut r = [0; 16];
    for i in 0..2 * N {
        let word = |v: [u64; N]| {
            let value = narrow(v[i / 2] >> (32 * (i % 2)));
            (value.clamp(i16::MIN.into(), i16::MAX.into()) as i16).to_le_bytes()
        };
        r[2 * i..2 * i + 2].copy_from_slice(&word(a));
        r[4 * N + 2 * i..4 * N + 2 * i + 2].copy_from_slice(&word(b));
    }
    from_bytes(r)
}

/// A shift count as lanes of `bits` take it: `None` is beyond the lane.
#[inline(always)]
fn count<const N: usize>(b: [u64; N], bits: u32) -> Option<u32> {
    (b[0] < u64::from(bits)).then_some(b[0] as u32)
}

/// A shift count for arithmetic shifts.
#[inline(always)]
fn count_sign<const N: usize>(b: [u64; N], bits: u32) -> u32 {
    b[0].min(u64::from(bits - 1)) as u32
}

/// Words of one 64-bit word chosen by the four fields of `imm`.
#[inline(always)]
fn shuffle16(word: u64, imm: u8) -> u64 {
    let lanes = split16(word);
    join16(core::array::from_fn(|i| lanes[usize::from(imm >> (2 * i) & 3)]))
}

/// Doubleword `i & 3` of a register.
#[inline(always)]
fn dword<const N: usize>(v: [u64; N], i: u8) -> u64 {
    v[usize::from(i >> 1) & (N - 1)] >> (32 * (i & 1)) & 0xffff_ffff
}

/// Four doublewords chosen by the fields of `imm`: two of `a`, then two of `b`. MMX has no such operation.
#[inline(always)]
fn shuffle32<const N: usize>(a: [u64; N], b: [u64; N], imm: u8) -> [u64; N] {
    core::array::from_fn(|n| {
        let from = if n == 0 { a } else { b };
        let fields = imm >> (4 * n);
        dword(from, fields & 3) | dword(from, fields >> 2 & 3) << 32
    })
}

/// The register's bytes shifted up (`by` above 0) with zeros coming in.
#[inline(always)]
fn shift_bytes<const N: usize>(a: [u64; N], by: u64, left: bool) -> [u64; N] {
    let whole = if N == 2 { u128::from(a[N - 1]) << 64 | u128::from(a[0]) } else { a[0].into() };
    let bits = 8 * by.min(16) as u32;
    let r = if left { whole.checked_shl(bits) } else { whole.checked_shr(bits) }.unwrap_or(0);
    core::array::from_fn(|n| (r >> (64 * n)) as u64)
}

/// The product of signed words.
#[inline(always)]
fn product(x: u16, y: u16) -> i32 {
    i32::from(x as i16) * i32::from(y as i16)
}

/// The sums of products of neighbouring signed words.
#[inline(always)]
fn multiply_add(x: u64, y: u64) -> u64 {
    let (x, y) = (split16(x), split16(y));
    let at = |i: usize| product(x[i], y[i]);
    join32(core::array::from_fn(|i| at(2 * i).wrapping_add(at(2 * i + 1)) as u32))
}

/// The sum of absolute differences of eight bytes.
#[inline(always)]
fn difference(x: u64, y: u64) -> u64 {
    let (x, y) = (split8(x), split8(y));
    (0..8).map(|i| u64::from(x[i].abs_diff(y[i]))).sum()
}

/// Whether each byte is negative, one bit each.
#[inline(always)]
fn sign_bits(word: u64) -> u64 {
    // Gathers bits 7, 15, .. 63 into one byte: the products do not overlap.
    (word >> 7 & 0x0101_0101_0101_0101).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

fn low_only<const N: usize>(low: u64) -> [u64; N] {
    core::array::from_fn(|n| if n == 0 { low } else { 0 })
}

/// Horizontal operation on neighbouring words (SSSE3): those of `a`, then of `b`.
#[inline(always)]
fn horizontal16<const N: usize>(a: [u64; N], b: [u64; N], f: impl Fn(i16, i16) -> i16) -> [u64; N] {
    let word = |v: [u64; N], i: usize| (v[i / 4] >> (16 * (i % 4))) as i16;
    let half = 2 * N;
    core::array::from_fn(|n| {
        join16(core::array::from_fn(|k| {
            let i = 4 * n + k;
            let from = if i < half { a } else { b };
            let at = 2 * (i % half);
            f(word(from, at), word(from, at + 1)) as u16
        }))
    })
}

/// Horizontal operation on neighbouring doublewords (SSSE3).
#[inline(always)]
fn horizontal32<const N: usize>(a: [u64; N], b: [u64; N], f: impl Fn(u32, u32) -> u32) -> [u64; N] {
    core::array::from_fn(|n| {
        join32(core::array::from_fn(|k| {
            let i = 2 * n + k;
            let words = split32(if i < N { a[i % N] } else { b[i % N] });
            f(words[0], words[1])
        }))
    })
}

/// PALIGNR: bytes `by` and up of `a:b`.
fn align<const N: usize>(a: [u64; N], b: [u64; N], by: usize) -> [u64; N] {
    let (x, y) = (bytes(a), bytes(b));
    let width = 8 * N;
    from_bytes(core::array::from_fn(|i| match i + by {
        at if at < width => y[at],
        at if at < 2 * width => x[at - width],
        _ => 0,
    }))
}

/// PSHUFB.
fn shuffle_bytes<const N: usize>(a: [u64; N], b: [u64; N]) -> [u64; N] {
    let (x, control) = (bytes(a), bytes(b));
    from_bytes(core::array::from_fn(|i| {
        let pick = control[i];
        if pick & 0x80 != 0 { 0 } else { x[usize::from(pick) & (8 * N - 1)] }
    }))
}

macro_rules! operations {
    ($($name:ident, |$a:ident, $b:ident, $imm:tt| $body:expr;)*) => {$(
        pub struct $name;
        impl Packed for $name {
            #[inline(always)]
            fn apply<const N: usize>($a: [u64; N], $b: [u64; N], $imm: u8) -> [u64; N] {
                $body
            }
        }
    )*};
}

/// PSIGN: negates, clears or keeps by the sign of the second operand.
macro_rules! by_sign {
    ($i:ty, $u:ty) => {
        |x, y| match (y as $i).signum() {
            -1 => x.wrapping_neg(),
            0 => 0,
            _ => x,
        }
    };
}

operations! {
    Paddb, |a, b, _| each64(a, b, Swar::<8>::add);
    Paddw, |a, b, _| each64(a, b, Swar::<16>::add);
    Paddd, |a, b, _| each64(a, b, Swar::<32>::add);
    Paddq, |a, b, _| each64(a, b, u64::wrapping_add);
    Paddsb, |a, b, _| each64(a, b, Swar::<8>::add_signed);
    Paddsw, |a, b, _| each64(a, b, Swar::<16>::add_signed);
    Paddusb, |a, b, _| each64(a, b, Swar::<8>::add_unsigned);
    Paddusw, |a, b, _| each64(a, b, Swar::<16>::add_unsigned);
    Psubb, |a, b, _| each64(a, b, Swar::<8>::sub);
    Psubw, |a, b, _| each64(a, b, Swar::<16>::sub);
    Psubd, |a, b, _| each64(a, b, Swar::<32>::sub);
    Psubq, |a, b, _| each64(a, b, u64::wrapping_sub);
    Psubsb, |a, b, _| each64(a, b, Swar::<8>::sub_signed);
    Psubsw, |a, b, _| each64(a, b, Swar::<16>::sub_signed);
    Psubusb, |a, b, _| each64(a, b, Swar::<8>::sub_unsigned);
    Psubusw, |a, b, _| each64(a, b, Swar::<16>::sub_unsigned);
    Pmullw, |a, b, _| each16(a, b, u16::wrapping_mul);
    Pmulhw, |a, b, _| each16(a, b, |x, y| (product(x, y) >> 16) as u16);
    Pmulhuw, |a, b, _| each16(a, b, |x, y| ((u32::from(x) * u32::from(y)) >> 16) as u16);
    Pmuludq, |a, b, _| each64(a, b, |x, y| (x & 0xffff_ffff) * (y & 0xffff_ffff));
    Pmaddwd, |a, b, _| each64(a, b, multiply_add);
    Pavgb, |a, b, _| each64(a, b, Swar::<8>::average);
    Pavgw, |a, b, _| each64(a, b, Swar::<16>::average);
    Pminub, |a, b, _| each64(a, b, Swar::<8>::min_unsigned);
    Pmaxub, |a, b, _| each64(a, b, Swar::<8>::max_unsigned);
    Pminsw, |a, b, _| each64(a, b, Swar::<16>::min_signed);
    Pmaxsw, |a, b, _| each64(a, b, Swar::<16>::max_signed);
    Psadbw, |a, b, _| each64(a, b, difference);
    Pcmpeqb, |a, b, _| each64(a, b, Swar::<8>::equal);
    Pcmpeqw, |a, b, _| each64(a, b, Swar::<16>::equal);
    Pcmpeqd, |a, b, _| each64(a, b, Swar::<32>::equal);
    Pcmpgtb, |a, b, _| each64(a, b, Swar::<8>::above);
    Pcmpgtw, |a, b, _| each64(a, b, Swar::<16>::above);
    Pcmpgtd, |a, b, _| each64(a, b, Swar::<32>::above);
    Pand, |a, b, _| each64(a, b, |x, y| x & y);
    Pandn, |a, b, _| each64(a, b, |x, y| !x & y);
    Por, |a, b, _| each64(a, b, |x, y| x | y);
    Pxor, |a, b, _| each64(a, b, |x, y| x ^ y);
    Psllw, |a, b, _| count(b, 16).map_or([0; N], |n| each64(a, a, |x, _| Swar::<16>::left(x, n)));
    Pslld, |a, b, _| count(b, 32).map_or([0; N], |n| each64(a, a, |x, _| Swar::<32>::left(x, n)));
    Psllq, |a, b, _| count(b, 64).map_or([0; N], |n| each64(a, a, |x, _| Swar::<64>::left(x, n)));
    Psrlw, |a, b, _| count(b, 16).map_or([0; N], |n| each64(a, a, |x, _| Swar::<16>::right(x, n)));
    Psrld, |a, b, _| count(b, 32).map_or([0; N], |n| each64(a, a, |x, _| Swar::<32>::right(x, n)));
    Psrlq, |a, b, _| count(b, 64).map_or([0; N], |n| each64(a, a, |x, _| Swar::<64>::right(x, n)));
    Psraw, |a, b, _| each64(a, a, |x, _| Swar::<16>::right_signed(x, count_sign(b, 16)));
    Psrad, |a, b, _| each64(a, a, |x, _| Swar::<32>::right_signed(x, count_sign(b, 32)));
    Pslldq, |a, b, _| shift_bytes(a, b[0], true);
    Psrldq, |a, b, _| shift_bytes(a, b[0], false);
    Packsswb, |a, b, _| pack16(a, b, |w| w.clamp(-128, 127) as u8);
    Packuswb, |a, b, _| pack16(a, b, |w| w.clamp(0, 255) as u8);
    Packssdw, |a, b, _| pack32(a, b);
    Punpcklbw, |a, b, _| unpack::<N, 1, false>(a, b);
    Punpcklwd, |a, b, _| unpack::<N, 2, false>(a, b);
    Punpckldq, |a, b, _| unpack::<N, 4, false>(a, b);
    Punpcklqdq, |a, b, _| unpack64(a, b, 0);
    Punpckhbw, |a, b, _| unpack::<N, 1, true>(a, b);
    Punpckhwd, |a, b, _| unpack::<N, 2, true>(a, b);
    Punpckhdq, |a, b, _| unpack::<N, 4, true>(a, b);
    Punpckhqdq, |a, b, _| unpack64(a, b, 1);
    Pshufw, |_a, b, imm| each64(b, b, |x, _| shuffle16(x, imm));
    Pshuflw, |_a, b, imm| core::array::from_fn(|n| if n == 0 { shuffle16(b[n], imm) } else { b[n] });
    Pshufhw, |_a, b, imm| core::array::from_fn(|n| if n == 1 { shuffle16(b[n], imm) } else { b[n] });
    Pshufd, |_a, b, imm| shuffle32(b, b, imm);
    Shufps, |a, b, imm| shuffle32(a, b, imm);
    Shufpd, |a, b, imm| core::array::from_fn(|n| {
        let pick = usize::from(imm >> n & 1) & (N - 1);
        if n == 0 { a[pick] } else { b[pick] }
    });
    Pextrw, |_a, b, imm| {
        let i = usize::from(imm) & (4 * N - 1);
        low_only(b[i / 4] >> (16 * (i % 4)) & 0xffff)
    };
    Pinsrw, |a, b, imm| {
        let i = usize::from(imm) & (4 * N - 1);
        let at = 16 * (i % 4);
        let mut r = a;
        r[i / 4] = a[i / 4] & !(0xffff << at) | (b[0] & 0xffff) << at;
        r
    };
    Pmovmskb, |_a, b, _| low_only((0..N).fold(0, |all, n| all | sign_bits(b[n]) << (8 * n)));
    Movmskps, |_a, b, _| low_only((0..2 * N).fold(0, |all, n| all | (dword(b, n as u8) >> 31) << n));
    Movmskpd, |_a, b, _| low_only((0..N).fold(0, |all, n| all | b[n] >> 63 << n));
    // The whole source, and parts of it.
    Copy, |_a, b, _| b;
    High, |_a, b, _| low_only(b[N - 1]);
    CopyQuad, |_a, b, _| low_only(b[0]);
    LowSingle, |a, b, _| {
        let low = a[0] & !0xffff_ffff | b[0] & 0xffff_ffff;
        core::array::from_fn(|n| if n == 0 { low } else { a[n] })
    };
    LowQuad, |a, b, _| core::array::from_fn(|n| if n == 0 { b[n] } else { a[n] });
    LowToHigh, |a, b, _| core::array::from_fn(|n| if n == 0 { a[n] } else { b[0] });
    HighToLow, |a, b, _| core::array::from_fn(|n| if n == 0 { b[N - 1] } else { a[n] });
    Movddup, |_a, b, _| [b[0]; N];
    Movsldup, |_a, b, _| each64(b, b, |x, _| x & 0xffff_ffff | x << 32);
    Movshdup, |_a, b, _| each64(b, b, |x, _| x >> 32 | x & !0xffff_ffff);
    // SSSE3.
    Pshufb, |a, b, _| shuffle_bytes(a, b);
    Palignr, |a, b, imm| align(a, b, imm.into());
    Pabsb, |_a, b, _| each8(b, b, |x, _| (x as i8).unsigned_abs());
    Pabsw, |_a, b, _| each16(b, b, |x, _| (x as i16).unsigned_abs());
    Pabsd, |_a, b, _| each32(b, b, |x, _| (x as i32).unsigned_abs());
    Psignb, |a, b, _| each8(a, b, by_sign!(i8, u8));
    Psignw, |a, b, _| each16(a, b, by_sign!(i16, u16));
    Psignd, |a, b, _| each32(a, b, by_sign!(i32, u32));
    Phaddw, |a, b, _| horizontal16(a, b, i16::wrapping_add);
    Phaddsw, |a, b, _| horizontal16(a, b, i16::saturating_add);
    Phsubw, |a, b, _| horizontal16(a, b, i16::wrapping_sub);
    Phsubsw, |a, b, _| horizontal16(a, b, i16::saturating_sub);
    Phaddd, |a, b, _| horizontal32(a, b, u32::wrapping_add);
    Phsubd, |a, b, _| horizontal32(a, b, u32::wrapping_sub);
    Pmulhrsw, |a, b, _| each16(a, b, |x, y| (((product(x, y) >> 14) + 1) >> 1) as u16);
    Pmaddubsw, |a, b, _| each16(a, b, |x, y| {
        let product = |at: u32| i32::from((x >> at) as u8) * i32::from((y >> at) as i8);
        (product(0) + product(8)).clamp(i16::MIN.into(), i16::MAX.into()) as u16
    });
}
