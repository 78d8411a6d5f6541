//! Moves between and within vector registers: blends, insertions, extractions, extensions, broadcasts, permutations.

use super::float::{Double, Single, lane, lanes};
use super::integer::{bytes, from_bytes};
use super::vector::{Lane, Whole};
use super::wide::pures;

/// Chooses `b` where `choose` says so, `a` elsewhere; values have `bytes` bytes.
fn blend(a: Lane, b: Lane, size: usize, choose: impl Fn(usize) -> bool) -> Lane {
    let (x, y) = (bytes(a), bytes(b));
    from_bytes(core::array::from_fn(|i| if choose(i / size) { y[i] } else { x[i] }))
}

/// The blend by the signs of `mask`.
fn blend_by_sign(a: Lane, b: Lane, mask: Lane, size: usize) -> Lane {
    let m = bytes(mask);
    blend(a, b, size, |i| m[size * i + size - 1] & 0x80 != 0)
}

fn blend_by_bits(a: Lane, b: Lane, imm: u8, size: usize) -> Lane {
    blend(a, b, size, |i| imm >> i & 1 != 0)
}

/// `a` with value `at` of `SIZE` bytes replaced.
fn insert<const SIZE: usize>(a: Lane, value: u64, at: u8) -> Lane {
    let mut all = bytes(a);
    let at = usize::from(at) % (16 / SIZE) * SIZE;
    all[at..at + SIZE].copy_from_slice(&value.to_le_bytes()[..SIZE]);
    from_bytes(all)
}

/// Value `at` of `SIZE` bytes, zero-extended.
fn extract<const SIZE: usize>(a: Lane, at: u8) -> Lane {
    let all = bytes(a);
    let at = usize::from(at) % (16 / SIZE) * SIZE;
    let mut value = [0; 8];
    value[..SIZE].copy_from_slice(&all[at..at + SIZE]);
    [u64::from_le_bytes(value), 0]
}

/// INSERTPS: imm8 has the source in bits 7:6, the destination in 5:4, what becomes zero in 3:0.
fn insert_single(a: Lane, b: Lane, imm: u8) -> Lane {
    let value = lane::<Single>(b, usize::from(imm >> 6));
    let r = insert::<4>(a, value, imm >> 4 & 3);
    lanes::<Single>(|i| if imm >> i & 1 != 0 { 0 } else { lane::<Single>(r, i) })
}

/// Values of `FROM` bits widened to `TO` bits.
fn extend<const FROM: u32, const TO: u32, const SIGNED: bool>(b: Lane) -> Lane {
    let all = u128::from(b[1]) << 64 | u128::from(b[0]);
    let per = 64 / TO;
    core::array::from_fn(|n| {
        (0..per).fold(0, |word, i| {
            let raw = (all >> (FROM * (n as u32 * per + i))) as u64;
            let value = if SIGNED {
                ((raw << (64 - FROM)) as i64 >> (64 - FROM)) as u64
            } else {
                raw << (64 - FROM) >> (64 - FROM)
            };
            word | (value & (u64::MAX >> (64 - TO))) << (TO * i)
        })
    })
}

/// The lowest value of `BITS` bits everywhere.
fn broadcast<const BITS: u32>(b: Lane) -> Lane {
    let mask = u64::MAX >> (64 - BITS);
    [(b[0] & mask) * (u64::MAX / mask); 2]
}

pures! {
    copy(_, _, b, _, _) b;
    blendps(_, a, b, _, imm) blend_by_bits(a, b, imm, 4);
    blendpd(_, a, b, _, imm) blend_by_bits(a, b, imm, 8);
    pblendw(_, a, b, _, imm) blend_by_bits(a, b, imm, 2);
    blendvps(_, a, b, c, _) blend_by_sign(a, b, c, 4);
    blendvpd(_, a, b, c, _) blend_by_sign(a, b, c, 8);
    pblendvb(_, a, b, c, _) blend_by_sign(a, b, c, 1);
    pinsrb(_, a, b, _, imm) insert::<1>(a, b[0], imm);
    pinsrw(_, a, b, _, imm) insert::<2>(a, b[0], imm);
    pinsrd(_, a, b, _, imm) insert::<4>(a, b[0], imm);
    pinsrq(_, a, b, _, imm) insert::<8>(a, b[0], imm);
    pextrb(_, _, b, _, imm) extract::<1>(b, imm);
    pextrw(_, _, b, _, imm) extract::<2>(b, imm);
    pextrd(_, _, b, _, imm) extract::<4>(b, imm);
    pextrq(_, _, b, _, imm) extract::<8>(b, imm);
    insertps(_, a, b, _, imm) insert_single(a, b, imm);
    // A source in memory is one value, whatever bits 7:6 say.
    insertps_memory(_, a, b, _, imm) insert_single(a, b, imm & 0x3f);
    pmovsxbw(_, _, b, _, _) extend::<8, 16, true>(b);
    pmovsxbd(_, _, b, _, _) extend::<8, 32, true>(b);
    pmovsxbq(_, _, b, _, _) extend::<8, 64, true>(b);
    pmovsxwd(_, _, b, _, _) extend::<16, 32, true>(b);
    pmovsxwq(_, _, b, _, _) extend::<16, 64, true>(b);
    pmovsxdq(_, _, b, _, _) extend::<32, 64, true>(b);
    pmovzxbw(_, _, b, _, _) extend::<8, 16, false>(b);
    pmovzxbd(_, _, b, _, _) extend::<8, 32, false>(b);
    pmovzxbq(_, _, b, _, _) extend::<8, 64, false>(b);
    pmovzxwd(_, _, b, _, _) extend::<16, 32, false>(b);
    pmovzxwq(_, _, b, _, _) extend::<16, 64, false>(b);
    pmovzxdq(_, _, b, _, _) extend::<32, 64, false>(b);
    broadcast8(_, _, b, _, _) broadcast::<8>(b);
    broadcast16(_, _, b, _, _) broadcast::<16>(b);
    broadcast32(_, _, b, _, _) broadcast::<32>(b);
    broadcast64(_, _, b, _, _) broadcast::<64>(b);
    // VPERMILPS and VPERMILPD by the immediate, and by a register.
    vpermilps_immediate(_, _, b, _, imm) lanes::<Single>(|i| lane::<Single>(b, usize::from(imm >> (2 * i) & 3)));
    vpermilpd_immediate(_, _, b, _, imm) lanes::<Double>(|i| b[usize::from(imm >> i & 1)]);
    vpermilps(_, a, b, _, _) lanes::<Single>(|i| lane::<Single>(a, (lane::<Single>(b, i) & 3) as usize));
    vpermilpd(_, a, b, _, _) lanes::<Double>(|i| a[(b[i] >> 1 & 1) as usize]);
}

fn quads(v: &Whole) -> [u64; 4] {
    [v[0][0], v[0][1], v[1][0], v[1][1]]
}

fn from_quads(q: [u64; 4]) -> Whole {
    [[q[0], q[1]], [q[2], q[3]]]
}

/// VPERMQ and VPERMPD.
pub fn permute64(x: &[Whole; 3], imm: u8) -> Whole {
    let q = quads(&x[1]);
    from_quads(core::array::from_fn(|i| q[usize::from(imm >> (2 * i) & 3)]))
}

/// VPERMD and VPERMPS: the first operand chooses.
pub fn permute32(x: &[Whole; 3], _imm: u8) -> Whole {
    let value = |v: &Whole, i: usize| lane::<Single>(v[i / 4], i % 4);
    let pick = |i: usize| value(&x[1], (value(&x[0], i) & 7) as usize);
    [lanes::<Single>(pick), lanes::<Single>(|i| pick(i + 4))]
}

/// VPERM2F128 and VPERM2I128.
pub fn permute128(x: &[Whole; 3], imm: u8) -> Whole {
    let pick = |field: u8| match field {
        f if f & 8 != 0 => [0; 2],
        f => x[usize::from(f >> 1 & 1)][usize::from(f & 1)],
    };
    [pick(imm), pick(imm >> 4)]
}

/// VINSERTF128 and VINSERTI128.
pub fn insert128(x: &[Whole; 3], imm: u8) -> Whole {
    let mut r = x[0];
    r[usize::from(imm & 1)] = x[1][0];
    r
}

/// VEXTRACTF128 and VEXTRACTI128.
pub fn extract128(x: &[Whole; 3], imm: u8) -> Whole {
    [x[1][usize::from(imm & 1)], [0; 2]]
}
