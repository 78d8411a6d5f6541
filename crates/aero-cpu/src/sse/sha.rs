//! SHA-NI: the rounds and the message schedules of SHA-1 and SHA-256 (FIPS 180-4; Intel SDM vol. 2, SHA1RNDS4 and
//! its neighbours). SHA-1 has its oldest word in the top doubleword, SHA-256 in the lowest.

use super::vector::Lane;
use super::wide::pures;

/// The doublewords, low first.
fn words(v: Lane) -> [u32; 4] {
    [v[0] as u32, (v[0] >> 32) as u32, v[1] as u32, (v[1] >> 32) as u32]
}

fn from_words(w: [u32; 4]) -> Lane {
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    [pair(w[0], w[1]), pair(w[2], w[3])]
}

fn choose(x: u32, y: u32, z: u32) -> u32 {
    x & y ^ !x & z
}

fn majority(x: u32, y: u32, z: u32) -> u32 {
    x & y ^ x & z ^ y & z
}

fn parity(x: u32, y: u32, z: u32) -> u32 {
    x ^ y ^ z
}

type Mix = fn(u32, u32, u32) -> u32;

/// Four rounds of SHA-1 of the kind that imm8 names.
fn sha1_rounds(state: Lane, message: Lane, imm: u8) -> Lane {
    const KINDS: [(Mix, u32); 4] =
        [(choose, 0x5a82_7999), (parity, 0x6ed9_eba1), (majority, 0x8f1b_bcdc), (parity, 0xca62_c1d6)];
    let (f, k) = KINDS[usize::from(imm & 3)];
    let [mut d, mut c, mut b, mut a] = words(state);
    let mut e = 0_u32;
    // The first message word already has E in it.
    for w in words(message).into_iter().rev() {
        let next = f(b, c, d).wrapping_add(a.rotate_left(5)).wrapping_add(w).wrapping_add(e).wrapping_add(k);
        (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
    }
    from_words([d, c, b, a])
}

/// E of the next four rounds added to the message.
fn sha1_next(a: Lane, b: Lane) -> Lane {
    let mut w = words(b);
    w[3] = w[3].wrapping_add(words(a)[3].rotate_left(30));
    from_words(w)
}

fn sha1_message1(a: Lane, b: Lane) -> Lane {
    let ([w3, w2, w1, w0], [_, _, w5, w4]) = (words(a), words(b));
    from_words([w5 ^ w3, w4 ^ w2, w3 ^ w1, w2 ^ w0])
}

fn sha1_message2(a: Lane, b: Lane) -> Lane {
    let ([x0, x1, x2, x3], [w15, w14, w13, _]) = (words(a), words(b));
    let w16 = (x3 ^ w13).rotate_left(1);
    let w17 = (x2 ^ w14).rotate_left(1);
    let w18 = (x1 ^ w15).rotate_left(1);
    let w19 = (x0 ^ w16).rotate_left(1);
    from_words([w19, w18, w17, w16])
}

/// Two rounds of SHA-256; the message words have their constants added.
fn sha256_rounds(cdgh: Lane, abef: Lane, message: Lane) -> Lane {
    let ([mut h, mut g, mut d, mut c], [mut f, mut e, mut b, mut a]) = (words(cdgh), words(abef));
    for w in &words(message)[..2] {
        let big1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let big0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let t = choose(e, f, g).wrapping_add(big1).wrapping_add(*w).wrapping_add(h);
        let next = t.wrapping_add(majority(a, b, c)).wrapping_add(big0);
        (h, g, f, e) = (g, f, e, t.wrapping_add(d));
        (d, c, b, a) = (c, b, a, next);
    }
    from_words([f, e, b, a])
}

fn sha256_message1(a: Lane, b: Lane) -> Lane {
    let sigma = |x: u32| x.rotate_right(7) ^ x.rotate_right(18) ^ x >> 3;
    let (w, next) = (words(a), words(b)[0]);
    let after = |i: usize| if i < 3 { w[i + 1] } else { next };
    from_words(core::array::from_fn(|i| w[i].wrapping_add(sigma(after(i)))))
}

fn sha256_message2(a: Lane, b: Lane) -> Lane {
    let sigma = |x: u32| x.rotate_right(17) ^ x.rotate_right(19) ^ x >> 10;
    let (x, [_, _, w14, w15]) = (words(a), words(b));
    let w16 = x[0].wrapping_add(sigma(w14));
    let w17 = x[1].wrapping_add(sigma(w15));
    from_words([w16, w17, x[2].wrapping_add(sigma(w16)), x[3].wrapping_add(sigma(w17))])
}

pures! {
    sha1rnds4(_, a, b, _, imm) sha1_rounds(a, b, imm);
    sha1nexte(_, a, b, _, _) sha1_next(a, b);
    sha1msg1(_, a, b, _, _) sha1_message1(a, b);
    sha1msg2(_, a, b, _, _) sha1_message2(a, b);
    sha256rnds2(_, a, b, c, _) sha256_rounds(a, b, c);
    sha256msg1(_, a, b, _, _) sha256_message1(a, b);
    sha256msg2(_, a, b, _, _) sha256_message2(a, b);
}
