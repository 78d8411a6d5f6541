//! Packed integers of SSE4.1, SSE4.2 and AVX2: what MMX registers never had.

use super::integer::{bytes, each32, each64};
use super::swar::Swar;
use super::vector::Lane;

/// Functions of lanes by name: environment, three operands, immediate.
macro_rules! pures {
    ($($(#[$doc:meta])* $name:ident($env:tt, $a:tt, $b:tt, $c:tt, $imm:tt) $body:expr;)*) => {$(
        $(#[$doc])*
        pub fn $name($env: &mut super::float::Env, x: &[super::vector::Lane; 3], $imm: u8) -> super::vector::Lane {
            let [$a, $b, $c] = *x;
            $body
        }
    )*};
}
pub(super) use pures;

fn all_ones(yes: bool) -> u64 {
    if yes { u64::MAX } else { 0 }
}

/// The word `i` of a lane.
fn word(v: Lane, i: usize) -> u16 {
    (v[i / 4] >> (16 * (i % 4))) as u16
}

/// A lane of words.
fn from_words(f: impl Fn(usize) -> u16) -> Lane {
    core::array::from_fn(|n| (0..4).fold(0, |all, i| all | u64::from(f(4 * n + i)) << (16 * i)))
}

/// PACKUSDW: doublewords to unsigned words, saturating.
fn pack_unsigned(a: Lane, b: Lane) -> Lane {
    from_words(|i| {
        let from = if i < 4 { a } else { b };
        let value = (from[i % 4 / 2] >> (32 * (i % 2))) as i32;
        value.clamp(0, 0xffff) as u16
    })
}

/// MPSADBW: sums of absolute differences of four bytes of `b` and of those at eight places in `a`
/// (Intel SDM vol. 2, MPSADBW).
fn sliding_differences(a: Lane, b: Lane, imm: u8) -> Lane {
    let (x, y) = (bytes(a), bytes(b));
    let (at, from) = (usize::from(imm >> 2 & 1) * 4, usize::from(imm & 3) * 4);
    from_words(|i| (0..4).map(|k| u16::from(x[at + i + k].abs_diff(y[from + k]))).sum())
}

/// PHMINPOSUW: the least word and where it is.
fn least(v: Lane) -> Lane {
    let (value, at) = (0..8).map(|i| (word(v, i), i as u64)).min().unwrap_or_default();
    [u64::from(value) | at << 16, 0]
}

/// A shift of each value by its own count; counts beyond it give `None` to `f`.
fn shift32(a: Lane, b: Lane, f: impl Fn(u32, Option<u32>) -> u32) -> Lane {
    each32(a, b, |x, n| f(x, (n < 32).then_some(n)))
}

fn shift64(a: Lane, b: Lane, f: impl Fn(u64, u32) -> u64) -> Lane {
    each64(a, b, |x, n| if n < 64 { f(x, n as u32) } else { 0 })
}

/// PTEST: ZF if no bit of `b` is in `a`, CF if all are.
fn test(a: Lane, b: Lane) -> Lane {
    let any = |f: fn(u64, u64) -> u64| f(a[0], b[0]) | f(a[1], b[1]) != 0;
    flags(!any(|x, y| x & y), !any(|x, y| !x & y))
}

/// VTESTPS and VTESTPD: PTEST of the bits in `mask` alone.
fn test_signs(a: Lane, b: Lane, mask: u64) -> Lane {
    test(a, b.map(|word| word & mask))
}

fn flags(zero: bool, carry: bool) -> Lane {
    use crate::state::eflags::{CF, ZF};
    [if zero { ZF } else { 0 } | if carry { CF } else { 0 }, 0]
}

pures! {
    pmulld(_, a, b, _, _) each32(a, b, u32::wrapping_mul);
    pmuldq(_, a, b, _, _) each64(a, b, |x, y| (i64::from(x as i32) * i64::from(y as i32)) as u64);
    pminsb(_, a, b, _, _) each64(a, b, Swar::<8>::min_signed);
    pmaxsb(_, a, b, _, _) each64(a, b, Swar::<8>::max_signed);
    pminuw(_, a, b, _, _) each64(a, b, Swar::<16>::min_unsigned);
    pmaxuw(_, a, b, _, _) each64(a, b, Swar::<16>::max_unsigned);
    pminsd(_, a, b, _, _) each64(a, b, Swar::<32>::min_signed);
    pmaxsd(_, a, b, _, _) each64(a, b, Swar::<32>::max_signed);
    pminud(_, a, b, _, _) each64(a, b, Swar::<32>::min_unsigned);
    pmaxud(_, a, b, _, _) each64(a, b, Swar::<32>::max_unsigned);
    pcmpeqq(_, a, b, _, _) each64(a, b, |x, y| all_ones(x == y));
    pcmpgtq(_, a, b, _, _) each64(a, b, |x, y| all_ones(x as i64 > y as i64));
    packusdw(_, a, b, _, _) pack_unsigned(a, b);
    mpsadbw(_, a, b, _, imm) sliding_differences(a, b, imm);
    phminposuw(_, _, b, _, _) least(b);
    vpsllvd(_, a, b, _, _) shift32(a, b, |x, n| n.map_or(0, |n| x << n));
    vpsrlvd(_, a, b, _, _) shift32(a, b, |x, n| n.map_or(0, |n| x >> n));
    vpsravd(_, a, b, _, _) shift32(a, b, |x, n| (x as i32 >> n.unwrap_or(31)) as u32);
    vpsllvq(_, a, b, _, _) shift64(a, b, |x, n| x << n);
    vpsrlvq(_, a, b, _, _) shift64(a, b, |x, n| x >> n);
    ptest(_, a, b, _, _) test(a, b);
    vtestps(_, a, b, _, _) test_signs(a, b, 0x8000_0000_8000_0000);
    vtestpd(_, a, b, _, _) test_signs(a, b, 1 << 63);
}
