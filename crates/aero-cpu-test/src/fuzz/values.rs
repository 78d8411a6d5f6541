//! Operand values with the corners over-represented.

use crate::random::Random;

/// An integer of up to 64 bits.
pub fn integer(rng: &mut Random) -> u64 {
    const CORNERS: [u64; 12] = [
        0,
        1,
        2,
        0x7f,
        0x80,
        0xff,
        0x7fff,
        0x8000,
        0x7fff_ffff,
        0x8000_0000,
        0x7fff_ffff_ffff_ffff,
        0x8000_0000_0000_0000,
    ];
    match rng.below(8) {
        0 => rng.pick(&CORNERS),
        1 => !rng.pick(&CORNERS),
        2 => rng.draw() >> rng.below(64),
        3 => !(rng.draw() >> rng.below(64)),
        4 => 1 << rng.below(64),
        5 => u64::from(rng.draw() as u8) * 0x0101_0101_0101_0101,
        _ => rng.draw(),
    }
}

/// A single.
pub fn single(rng: &mut Random) -> u32 {
    let sign = (rng.draw() as u32) << 31;
    let noise = rng.draw() as u32 & 0x7f_ffff;
    sign | match rng.below(16) {
        0 => 0,
        1 => 0x7f80_0000,
        2 => 0x7fc0_0000 | noise,
        3 => 0x7f80_0001 | noise & 0x3f_ffff,
        4 => noise | 1,
        5 => noise & 0xf | 1,
        6 => 0x0080_0000 | noise & 3,
        7 => 0x7f7f_fffc | noise & 3,
        8 => 0x3f80_0000,
        9 => (f32::to_bits(rng.below(1 << 32) as f32)).wrapping_add(noise & 1),
        10 => f32::to_bits(rng.below(200) as f32 / 2.0),
        11 => (rng.below(254) as u32 + 1) << 23,
        12 => (0x7f - 12 + rng.below(44) as u32) << 23 | noise,
        13 => (0x7f - 3 + rng.below(6) as u32) << 23 | noise & 3,
        _ => rng.draw() as u32 & 0x7fff_ffff,
    }
}

/// A double.
pub fn double(rng: &mut Random) -> u64 {
    let sign = rng.draw() << 63;
    let noise = rng.draw() & 0xf_ffff_ffff_ffff;
    sign | match rng.below(16) {
        0 => 0,
        1 => 0x7ff0_0000_0000_0000,
        2 => 0x7ff8_0000_0000_0000 | noise,
        3 => 0x7ff0_0000_0000_0001 | noise & 0x7_ffff_ffff_ffff,
        4 => noise | 1,
        5 => noise & 0xf | 1,
        6 => 0x0010_0000_0000_0000 | noise & 3,
        7 => 0x7fef_ffff_ffff_fffc | noise & 3,
        8 => 0x3ff0_0000_0000_0000,
        9 => f64::to_bits(rng.draw() as f64).wrapping_add(noise & 1),
        10 => f64::to_bits(rng.below(200) as f64 / 2.0),
        11 => (rng.below(2046) + 1) << 52,
        12 => (0x3ff - 20 + rng.below(80)) << 52 | noise,
        // What narrowing to a single rounds, overflows, or makes denormal.
        13 => (0x3ff - 152 + rng.below(30)) << 52 | noise,
        14 => (0x3ff + 120 + rng.below(12)) << 52 | noise,
        _ => rng.draw() & 0x7fff_ffff_ffff_ffff,
    }
}

/// An extended real: significand, then sign and exponent.
pub fn extended(rng: &mut Random) -> (u64, u16) {
    const J: u64 = 1 << 63;
    let sign = (rng.draw() as u16) << 15;
    let noise = rng.draw();
    let (m, e) = match rng.below(20) {
        0 => (0, 0),
        1 => (J, 0x7fff),
        2 => (J | 1 << 62 | noise >> 2, 0x7fff),
        3 => (J | noise >> 2 | 1, 0x7fff),
        4 => (noise & !J | 1, 0),
        // A pseudo-denormal.
        5 => (noise | J, 0),
        // Pseudo-infinities, pseudo-NaNs and unnormals.
        6 => (noise & !J & if noise & 1 == 0 { 0 } else { u64::MAX }, 0x7fff),
        7 => (noise & !J, 1 + rng.below(0x7ffe) as u16),
        8 => (J, 0x3fff),
        9 | 10 => {
            let n = (rng.draw() >> rng.below(64)) | 1;
            let shift = n.leading_zeros();
            (n << shift, 0x3fff + 63 - shift as u16)
        }
        11 => (J | noise & 3, rng.pick(&[1, 2, 0x7ffe, 0x7ffd])),
        12 => (u64::MAX << rng.below(3), rng.pick(&[1, 2, 0x7ffe, 0x7ffd])),
        // What narrowing to a double or a single rounds, overflows, or makes denormal.
        13 => (noise | J, 0x3fff - 1076 + rng.below(60) as u16),
        14 => (noise | J, 0x3fff + 1020 + rng.below(8) as u16),
        15 => (noise | J, 0x3fff - 152 + rng.below(30) as u16),
        16 => (noise | J, 0x3fff + 120 + rng.below(12) as u16),
        17 => (noise & 0xffff_ffff_0000_0000 | J, 0x3fff - 4 + rng.below(70) as u16),
        18 => (noise | J, 0x3fff - 20 + rng.below(90) as u16),
        _ => (noise | J, noise.rotate_left(17) as u16 & 0x7fff),
    };
    (m, sign | e)
}

/// 16 bytes of a vector: integers, singles or doubles.
pub fn vector(rng: &mut Random) -> u128 {
    let mut lanes = |f: &mut dyn FnMut(&mut Random) -> u64| u128::from(f(rng)) << 64 | u128::from(f(rng));
    match lanes(&mut |rng| rng.below(8)) as u64 {
        0 | 1 => lanes(&mut integer),
        2 | 3 => lanes(&mut |rng| u64::from(single(rng)) << 32 | u64::from(single(rng))),
        4 | 5 => lanes(&mut double),
        6 => lanes(&mut |rng| {
            (0..8).fold(0, |v, _| v << 8 | u64::from(rng.pick(&[0u8, 1, 0x7f, 0x80, 0x81, 0xff, b'a', b'z'])))
        }),
        _ => lanes(&mut |rng| rng.draw()),
    }
}
