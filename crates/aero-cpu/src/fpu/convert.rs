//! Conversions between the extended format and everything the x87 can load or store.
//!
//! Loads widen exactly. An [`Operand`] remembers that the memory form was a denormal, since the wide
//! form no longer shows it but DE must still be raised. Stores narrow with one rounding and report the
//! flags; [`Narrowed::bits`] is None where an unmasked exception forbids the store.
//! Source: Intel SDM volume 1, 4.2, 4.7, 8.2 and 8.5; the FIST, FBSTP, FISTTP and FST pages of volume 2.

use super::f80::{BIAS, Class, EXP_MAX, Env, F80, Rounding};
use super::spec::{C1, DE, IE, OE, PE, UE};
use super::wide::shift_right_jam;

const J: u64 = 1 << 63;

/// A value on its way into an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operand {
    /// The value, widened exactly; a signalling NaN still signals.
    pub value: F80,
    /// The memory form was a denormal of its own format.
    pub denormal: bool,
}

impl From<F80> for Operand {
    #[inline]
    fn from(value: F80) -> Operand {
        Operand { value, denormal: false }
    }
}

impl Operand {
    /// A single-precision operand.
    #[inline]
    pub fn from_f32(bits: u32) -> Operand {
        let exp = bits >> 23 & 0xFF;
        widen(bits >> 31 != 0, exp as i32, (bits as u64) << 41 >> 1, &SINGLE)
    }

    /// A double-precision operand.
    #[inline]
    pub fn from_f64(bits: u64) -> Operand {
        let exp = bits >> 52 & 0x7FF;
        widen(bits >> 63 != 0, exp as i32, bits << 12 >> 1, &DOUBLE)
    }

    /// A 16-bit integer operand.
    #[inline]
    pub fn from_i16(value: i16) -> Operand {
        from_i64(value as i64).into()
    }

    /// A 32-bit integer operand.
    #[inline]
    pub fn from_i32(value: i32) -> Operand {
        from_i64(value as i64).into()
    }
}

/// An IEEE 754 interchange format.
struct Format {
    exp_bits: u32,
    fraction_bits: u32,
}

const SINGLE: Format = Format { exp_bits: 8, fraction_bits: 23 };
const DOUBLE: Format = Format { exp_bits: 11, fraction_bits: 52 };

impl Format {
    const fn exp_max(&self) -> i32 {
        (1 << self.exp_bits) - 1
    }

    const fn bias(&self) -> i32 {
        (1 << (self.exp_bits - 1)) - 1
    }

    const fn assemble(&self, neg: bool, exp: i32, fraction: u64) -> u64 {
        let sign = (neg as u64) << (self.exp_bits + self.fraction_bits);
        sign | (exp as u64) << self.fraction_bits | fraction
    }
}

/// Widens; `fraction` has its highest bit in bit 62.
#[inline]
fn widen(neg: bool, exp: i32, fraction: u64, format: &Format) -> Operand {
    if exp == format.exp_max() {
        return F80::new(EXP_MAX as u16, J | fraction).with_sign(neg).into();
    }
    if exp == 0 {
        return widen_denormal(neg, fraction, format);
    }
    let exp = exp - format.bias() + BIAS;
    F80::new(exp as u16, J | fraction).with_sign(neg).into()
}

#[cold]
fn widen_denormal(neg: bool, fraction: u64, format: &Format) -> Operand {
    if fraction == 0 {
        return F80::ZERO.with_sign(neg).into();
    }
    let shift = fraction.leading_zeros();
    let exp = 1 - format.bias() + BIAS - shift as i32;
    Operand { value: F80::new(exp as u16, fraction << shift).with_sign(neg), denormal: true }
}

/// Converts a 64-bit integer exactly.
#[inline]
pub fn from_i64(value: i64) -> F80 {
    if value == 0 {
        return F80::ZERO;
    }
    let magnitude = value.unsigned_abs();
    let shift = magnitude.leading_zeros();
    F80::new((BIAS + 63) as u16 - shift as u16, magnitude << shift).with_sign(value < 0)
}

/// What a store writes, and the status bits it sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Narrowed<T> {
    /// The bits, or None when an unmasked exception forbids the store.
    pub bits: Option<T>,
    /// Status-word bits.
    pub flags: u16,
}

impl<T> Narrowed<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> Narrowed<U> {
        Narrowed { bits: self.bits.map(f), flags: self.flags }
    }

    /// The masked response `bits` to the exceptions in `flags`; nothing if one of them is unmasked.
    fn unless_unmasked(bits: T, flags: u16, env: Env) -> Narrowed<T> {
        let stored = flags & !env.masks & (IE | DE | OE | UE) == 0;
        Narrowed { bits: stored.then_some(bits), flags }
    }
}

/// Narrows to single precision.
pub fn to_f32(a: F80, env: Env) -> Narrowed<u32> {
    narrow(a, &SINGLE, env).map(|bits| bits as u32)
}

/// Narrows to double precision.
pub fn to_f64(a: F80, env: Env) -> Narrowed<u64> {
    narrow(a, &DOUBLE, env)
}

#[inline]
fn narrow(a: F80, format: &Format, env: Env) -> Narrowed<u64> {
    if a.class() == Class::Normal {
        return narrow_finite(a, format, env);
    }
    narrow_special(a, format, env)
}

#[cold]
fn narrow_special(a: F80, format: &Format, env: Env) -> Narrowed<u64> {
    let neg = a.is_negative();
    let top = format.exp_max();
    let nan = |a: F80| format.assemble(a.is_negative(), top, a.mantissa << 1 >> (64 - format.fraction_bits));
    let always = |bits| Narrowed { bits: Some(bits), flags: 0 };
    match a.class() {
        Class::Zero => always(format.assemble(neg, 0, 0)),
        Class::Infinity => always(format.assemble(neg, top, 0)),
        Class::Quiet => always(nan(a)),
        Class::Signalling => Narrowed::unless_unmasked(nan(a.quieted()), IE, env),
        Class::Unsupported => Narrowed::unless_unmasked(nan(F80::INDEFINITE), IE, env),
        Class::Normal | Class::Denormal => narrow_finite(a, format, env),
    }
}

#[inline]
fn narrow_finite(a: F80, format: &Format, env: Env) -> Narrowed<u64> {
    let p = a.parts();
    let exp = p.exp - BIAS + format.bias();
    let drop = 63 - format.fraction_bits;
    let (kept, flags) = round_off(p.sig >> drop, p.sig << (64 - drop), p.neg, env.rounding);
    let carry = (kept >> (format.fraction_bits + 1)) as i32;
    if exp + carry >= format.exp_max() {
        return narrow_overflow(p.neg, format, env);
    }
    if exp + carry > 0 {
        let fraction = if carry != 0 { 0 } else { kept & ((1 << format.fraction_bits) - 1) };
        return Narrowed { bits: Some(format.assemble(p.neg, exp + carry, fraction)), flags };
    }
    narrow_denormal(p.neg, p.sig, (1 - exp) as u32, format, env)
}

/// Narrows a number whose significand must first move right by `shift`.
#[cold]
fn narrow_denormal(neg: bool, sig: u64, shift: u32, format: &Format, env: Env) -> Narrowed<u64> {
    if env.masks & UE == 0 {
        return Narrowed { bits: None, flags: UE };
    }
    let drop = 63 - format.fraction_bits;
    // The jammed bit stays below the rounding bit: at least 11 bits are dropped.
    let sig = shift_right_jam(sig as u128, shift) as u64;
    let (kept, flags) = round_off(sig >> drop, sig << (64 - drop), neg, env.rounding);
    let underflow = if flags & PE != 0 { UE } else { 0 };
    // A carry into the implicit bit is the exponent field becoming one.
    Narrowed { bits: Some(format.assemble(neg, 0, kept)), flags: flags | underflow }
}

fn narrow_overflow(neg: bool, format: &Format, env: Env) -> Narrowed<u64> {
    if env.masks & OE == 0 {
        return Narrowed { bits: None, flags: OE };
    }
    let up = match env.rounding {
        Rounding::Nearest => true,
        Rounding::Down => neg,
        Rounding::Up => !neg,
        Rounding::Zero => false,
    };
    let infinity = format.assemble(neg, format.exp_max(), 0);
    if up {
        Narrowed { bits: Some(infinity), flags: OE | PE | C1 }
    } else {
        Narrowed { bits: Some(infinity - 1), flags: OE | PE }
    }
}

/// Rounds `kept`, which is followed by the fraction `rest / 2^64`.
#[inline]
fn round_off(kept: u64, rest: u64, neg: bool, rounding: Rounding) -> (u64, u16) {
    if rest == 0 {
        return (kept, 0);
    }
    let up = match rounding {
        Rounding::Nearest => rest > J || rest == J && kept & 1 != 0,
        Rounding::Down => neg,
        Rounding::Up => !neg,
        Rounding::Zero => false,
    };
    // All ones are never followed by a fraction: at least one bit was shifted out of `kept`.
    if up { (kept + 1, PE | C1) } else { (kept, PE) }
}

/// Rounds to an integer magnitude; None when it is 2^64 or more, a NaN or an infinity.
fn integer_magnitude(a: F80, rounding: Rounding) -> Option<(u64, u16)> {
    match a.class() {
        Class::Zero => return Some((0, 0)),
        Class::Normal | Class::Denormal => {}
        _ => return None,
    }
    let p = a.parts();
    let exp = p.exp - BIAS;
    if exp > 63 {
        return None;
    }
    let (kept, rest) = match exp {
        63 => (p.sig, 0),
        0..63 => (p.sig >> (63 - exp), p.sig << (exp + 1)),
        -1 => (0, p.sig),
        _ => (0, 1),
    };
    Some(round_off(kept, rest, p.neg, rounding))
}

/// Rounds to a signed integer of `bits` bits (16, 32 or 64), sign-extended. Out of range is IE and the
/// integer indefinite (the most negative value).
pub fn to_integer(a: F80, bits: u32, env: Env) -> Narrowed<i64> {
    let limit = 1u64 << (bits - 1);
    let indefinite = i64::MIN >> (64 - bits);
    let neg = a.is_negative();
    match integer_magnitude(a, env.rounding) {
        Some((m, flags)) if m < limit || neg && m == limit => {
            let value = if neg { (m as i64).wrapping_neg() } else { m as i64 };
            Narrowed { bits: Some(value), flags }
        }
        _ => Narrowed::unless_unmasked(indefinite, IE, env),
    }
}

/// The packed-BCD indefinite.
pub(super) const BCD_INDEFINITE: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 0xC0, 0xFF, 0xFF];
/// Eighteen digits.
const BCD_LIMIT: u64 = 1_000_000_000_000_000_000;

/// Rounds to 18 packed decimal digits and a sign byte; IE and indefinite when they do not suffice.
pub fn to_bcd(a: F80, env: Env) -> Narrowed<[u8; 10]> {
    match integer_magnitude(a, env.rounding) {
        Some((m, flags)) if m < BCD_LIMIT => Narrowed { bits: Some(bcd_bytes(m, a.is_negative())), flags },
        _ => Narrowed::unless_unmasked(BCD_INDEFINITE, IE, env),
    }
}

fn bcd_bytes(mut magnitude: u64, neg: bool) -> [u8; 10] {
    let mut bytes = [0; 10];
    for byte in &mut bytes[..9] {
        let pair = (magnitude % 100) as u8;
        *byte = ((pair / 10) << 4) | (pair % 10);
        magnitude /= 100;
    }
    bytes[9] = (neg as u8) << 7;
    bytes
}

/// Reads packed BCD. Nibbles above nine count as their value (the SDM leaves them undefined).
pub fn from_bcd(bytes: [u8; 10]) -> F80 {
    let digits = bytes[..9].iter().rev();
    let magnitude = digits.fold(0u64, |sum, &byte| sum * 100 + (byte >> 4) as u64 * 10 + (byte & 15) as u64);
    from_i64(magnitude as i64).with_sign(bytes[9] & 0x80 != 0)
}
