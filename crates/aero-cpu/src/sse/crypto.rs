//! AES-NI and PCLMULQDQ.
//!
//! The S-box is computed when this is compiled: an inverse in GF(2^8), then an affine map (FIPS 197, 5.1.1). State
//! is a lane of 16 bytes in column order, as the instructions have it.

use super::integer::{bytes, from_bytes};
use super::vector::Lane;
use super::wide::pures;

/// The product in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1.
const fn times(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 != 0 {
            product ^= a;
        }
        a = a << 1 ^ if a & 0x80 != 0 { 0x1b } else { 0 };
        b >>= 1;
    }
    product
}

/// The inverse, and 0 for 0: the 254th power.
const fn inverse(a: u8) -> u8 {
    let (mut power, mut i) = (1, 0);
    while i < 254 {
        power = times(power, a);
        i += 1;
    }
    power
}

const SBOX: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let x = inverse(i as u8);
        table[i] = x ^ x.rotate_left(1) ^ x.rotate_left(2) ^ x.rotate_left(3) ^ x.rotate_left(4) ^ 0x63;
        i += 1;
    }
    table
};

const INVERSE_SBOX: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        table[SBOX[i] as usize] = i as u8;
        i += 1;
    }
    table
};

type Bytes = [u8; 16];

static FORWARD: [u8; 256] = SBOX;
static BACKWARD: [u8; 256] = INVERSE_SBOX;

/// ShiftRows then SubBytes: byte `i` comes from column `step` further on for every row. `step` 1 enciphers, 3
/// deciphers.
fn shift_and_substitute(s: &Bytes, table: &[u8; 256], step: usize) -> Bytes {
    core::array::from_fn(|i| table[usize::from(s[(i + 4 * step * (i % 4)) % 16])])
}

/// MixColumns with the given first row of its matrix.
fn mix_columns(s: &Bytes, row: [u8; 4]) -> Bytes {
    core::array::from_fn(|i| (0..4).fold(0, |sum, k| sum ^ times(s[i / 4 * 4 + (i + k) % 4], row[k])))
}

const MIX: [u8; 4] = [2, 3, 1, 1];
const UNMIX: [u8; 4] = [14, 11, 13, 9];

fn add(state: &Bytes, key: Lane) -> Lane {
    let s: Lane = from_bytes(*state);
    [s[0] ^ key[0], s[1] ^ key[1]]
}

fn encipher(state: Lane) -> Bytes {
    shift_and_substitute(&bytes(state), &FORWARD, 1)
}

fn decipher(state: Lane) -> Bytes {
    shift_and_substitute(&bytes(state), &BACKWARD, 3)
}

/// AESKEYGENASSIST: SubWord of doublewords 1 and 3, and the same rotated with the round constant
/// (Intel SDM vol. 2).
fn assist(b: Lane, constant: u8) -> Lane {
    let word = |x: u64| u32::from_le_bytes(((x >> 32) as u32).to_le_bytes().map(|i| FORWARD[usize::from(i)]));
    b.map(|half| {
        let w = word(half);
        u64::from(w) | u64::from(w.rotate_right(8) ^ u32::from(constant)) << 32
    })
}

/// The product without carries.
fn carryless(a: u64, b: u64) -> Lane {
    let product = (0..64).filter(|i| b >> i & 1 != 0).fold(0_u128, |sum, i| sum ^ u128::from(a) << i);
    [product as u64, (product >> 64) as u64]
}

pures! {
    aesenc(_, a, b, _, _) add(&mix_columns(&encipher(a), MIX), b);
    aesenclast(_, a, b, _, _) add(&encipher(a), b);
    aesdec(_, a, b, _, _) add(&mix_columns(&decipher(a), UNMIX), b);
    aesdeclast(_, a, b, _, _) add(&decipher(a), b);
    aesimc(_, _, b, _, _) from_bytes(mix_columns(&bytes(b), UNMIX));
    aeskeygenassist(_, _, b, _, imm) assist(b, imm);
    pclmulqdq(_, a, b, _, imm) carryless(a[usize::from(imm & 1)], b[usize::from(imm >> 4 & 1)]);
}
