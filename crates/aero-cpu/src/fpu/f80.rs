//! The 80-bit extended format and its exact arithmetic.
//!
//! A value is `±mantissa / 2^63 · 2^(exp − 16383)`; unlike the shorter formats the leading bit ("J bit")
//! is stored. That leaves encodings the formats of IEEE 754 do not have: pseudo-denormals (exponent
//! zero, J set, still numbers) and unnormals, pseudo-infinities and pseudo-NaNs (J clear below a
//! non-zero exponent), which the 387 and everything after it refuses as invalid operands.
//!
//! Every operation works on plain integers: operands become sign, exponent and a normalised
//! significand (`Parts`), the exact result becomes a 128-bit significand whose lowest bit also says
//! "more followed" (jamming), and `pack` rounds that once. Rounding knows the precision control (the
//! significand is cut to 24 or 53 bits, the exponent range stays), the rounding control, and the masks
//! of overflow and underflow, because an unmasked overflow delivers a different number.
//!
//! Results carry status-word bits, so a caller ORs them in. Which flags accompany which operands was
//! checked bit for bit against an Intel processor (see `oracle.rs`).
//! Source: Intel SDM volume 1, chapters 4 (formats, NaN rules, table 4-7) and 8 (x87).

use super::spec::{C0, C1, C2, C3, DE, IE, OE, PE, UE, ZE};
use super::wide::{div_128_by_64, shift_right_jam};

/// An 80-bit extended value exactly as the register holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct F80 {
    /// The 64-bit significand, integer bit (J) in bit 63.
    pub mantissa: u64,
    /// Sign in bit 15, biased exponent in bits 14:0.
    pub sign_exp: u16,
}

/// Exponent bias of the extended format.
pub const BIAS: i32 = 16383;
/// The exponent field of infinities and NaNs.
pub const EXP_MAX: i32 = 0x7FFF;
/// What an unmasked overflow subtracts from, and underflow adds to, the exponent (SDM 1, 8.5.4).
const BIAS_ADJUST: i32 = 24576;
const J: u64 = 1 << 63;
const QUIET: u64 = 1 << 62;
const SIGN: u16 = 0x8000;

/// What kind of number an encoding is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Plus or minus zero.
    Zero,
    /// A normal number.
    Normal,
    /// A denormal or pseudo-denormal: a number, but it raises DE.
    Denormal,
    /// An infinity.
    Infinity,
    /// A quiet NaN.
    Quiet,
    /// A signalling NaN.
    Signalling,
    /// Unnormal, pseudo-infinity or pseudo-NaN: always invalid.
    Unsupported,
}

/// Rounding control, encoded as in the control word (bits 11:10).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rounding {
    /// To nearest, ties to even.
    Nearest,
    /// Toward minus infinity.
    Down,
    /// Toward plus infinity.
    Up,
    /// Toward zero.
    Zero,
}

/// Precision control: how many significand bits results of the basic operations keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Precision {
    /// 24 bits.
    Single,
    /// 53 bits.
    Double,
    /// 64 bits.
    Extended,
}

impl Precision {
    /// Bits of the 64-bit significand that are always zero.
    const fn dropped(self) -> u32 {
        match self {
            Precision::Single => 40,
            Precision::Double => 11,
            Precision::Extended => 0,
        }
    }
}

/// The part of the control word that shapes results.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Env {
    /// Rounding control.
    pub rounding: Rounding,
    /// Precision control.
    pub precision: Precision,
    /// The control word's six mask bits: set means masked.
    pub masks: u16,
}

impl Env {
    /// Reads rounding, precision and masks from a control word.
    #[inline]
    pub fn from_control(control: u16) -> Env {
        let rounding = match control >> 10 & 3 {
            0 => Rounding::Nearest,
            1 => Rounding::Down,
            2 => Rounding::Up,
            _ => Rounding::Zero,
        };
        // The reserved value 01 behaves as full precision on Intel processors.
        let precision = match control >> 8 & 3 {
            0 => Precision::Single,
            2 => Precision::Double,
            _ => Precision::Extended,
        };
        Env { rounding, precision, masks: control & 0x3F }
    }

    /// The same environment at full precision: what the instructions use that ignore precision control.
    #[inline]
    pub fn extended(self) -> Env {
        Env { precision: Precision::Extended, ..self }
    }

    fn masked(self, flag: u16) -> bool {
        self.masks & flag != 0
    }
}

/// A result and the status-word bits that came with it (IE, DE, ZE, OE, UE, PE, and condition codes).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The masked response, or the bias-adjusted one for an unmasked overflow or underflow.
    pub value: F80,
    /// Status-word bits to set; C1 is "rounded up" where PE is set.
    pub flags: u16,
}

impl Outcome {
    /// A result without any flag.
    #[inline]
    pub const fn exact(value: F80) -> Outcome {
        Outcome { value, flags: 0 }
    }

    /// The invalid-operation response: indefinite and IE.
    pub const fn invalid() -> Outcome {
        Outcome { value: F80::INDEFINITE, flags: IE }
    }

    pub(super) const fn with(self, flags: u16) -> Outcome {
        Outcome { value: self.value, flags: self.flags | flags }
    }
}

impl F80 {
    /// Plus zero.
    pub const ZERO: F80 = F80::new(0, 0);
    /// One.
    pub const ONE: F80 = F80::new(0x3FFF, J);
    /// Plus infinity.
    pub const INFINITY: F80 = F80::new(0x7FFF, J);
    /// The real indefinite: the QNaN that masked invalid operations return.
    pub const INDEFINITE: F80 = F80::new(0xFFFF, J | QUIET);

    /// Builds a value from its two fields.
    #[inline]
    pub const fn new(sign_exp: u16, mantissa: u64) -> F80 {
        F80 { mantissa, sign_exp }
    }

    /// Reads the ten bytes of the memory format.
    #[inline]
    pub fn from_bytes(bytes: [u8; 10]) -> F80 {
        let [a, b, c, d, e, f, g, h, i, j] = bytes;
        F80::new(u16::from_le_bytes([i, j]), u64::from_le_bytes([a, b, c, d, e, f, g, h]))
    }

    /// The ten bytes of the memory format.
    #[inline]
    pub fn to_bytes(self) -> [u8; 10] {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&self.mantissa.to_le_bytes());
        bytes[8..].copy_from_slice(&self.sign_exp.to_le_bytes());
        bytes
    }

    /// True when the sign bit is set, for any class.
    #[inline]
    pub const fn is_negative(self) -> bool {
        self.sign_exp & SIGN != 0
    }

    /// The biased exponent field.
    #[inline]
    pub const fn exponent(self) -> i32 {
        (self.sign_exp & 0x7FFF) as i32
    }

    /// The same encoding with the given sign.
    #[inline]
    pub const fn with_sign(self, negative: bool) -> F80 {
        F80::new(self.sign_exp & 0x7FFF | (negative as u16) << 15, self.mantissa)
    }

    /// The sign inverted.
    #[inline]
    pub const fn negated(self) -> F80 {
        F80::new(self.sign_exp ^ SIGN, self.mantissa)
    }

    #[inline]
    const fn is_normal(self) -> bool {
        (self.sign_exp & 0x7FFF).wrapping_sub(1) < 0x7FFE && self.mantissa & J != 0
    }

    /// Classifies the encoding.
    #[inline]
    pub fn class(self) -> Class {
        match (self.exponent(), self.mantissa) {
            (0, 0) => Class::Zero,
            (0, _) => Class::Denormal,
            (_, m) if m & J == 0 => Class::Unsupported,
            (EXP_MAX, J) => Class::Infinity,
            (EXP_MAX, m) if m & QUIET != 0 => Class::Quiet,
            (EXP_MAX, _) => Class::Signalling,
            _ => Class::Normal,
        }
    }

    /// True for quiet and signalling NaNs, not for unsupported encodings.
    pub fn is_nan(self) -> bool {
        matches!(self.class(), Class::Quiet | Class::Signalling)
    }

    /// A signalling NaN made quiet; anything else unchanged but for that bit.
    pub(super) const fn quieted(self) -> F80 {
        F80::new(self.sign_exp, self.mantissa | QUIET)
    }

    /// Sign, exponent and normalised significand of a finite number other than zero.
    #[inline]
    pub(super) fn parts(self) -> Parts {
        let shift = self.mantissa.leading_zeros();
        let exp = self.exponent().max(1) - shift as i32;
        Parts { neg: self.is_negative(), exp, sig: self.mantissa << shift }
    }

    /// A key that orders magnitudes of all supported encodings except NaNs.
    fn magnitude(self) -> u128 {
        (self.exponent().max(1) as u128) << 64 | self.mantissa as u128
    }
}

/// A finite non-zero number: `±sig / 2^63 · 2^(exp − BIAS)` with bit 63 of `sig` set. The exponent may
/// lie outside the format's range.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    pub neg: bool,
    pub exp: i32,
    pub sig: u64,
}

/// The result of a comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// The first operand is less.
    Less,
    /// The operands are equal.
    Equal,
    /// The first operand is greater.
    Greater,
    /// An operand is a NaN or unsupported.
    Unordered,
}

/// The answer when an operand is a NaN or unsupported: SDM 1 table 4-7. None for ordinary operands.
#[inline(never)]
pub(super) fn nan_response(a: F80, b: F80) -> Option<Outcome> {
    use Class::{Quiet, Signalling, Unsupported};
    let (ca, cb) = (a.class(), b.class());
    if ca == Unsupported || cb == Unsupported {
        return Some(Outcome::invalid());
    }
    let flags = if ca == Signalling || cb == Signalling { IE } else { 0 };
    let value = match (ca, cb) {
        (Signalling, Quiet) => b,
        (Quiet, Signalling) => a,
        (Quiet | Signalling, Quiet | Signalling) => larger_nan(a, b),
        (Quiet | Signalling, _) => a,
        (_, Quiet | Signalling) => b,
        _ => return None,
    };
    Some(Outcome { value: value.quieted(), flags })
}

/// The NaN with the larger significand; of equal ones the positive.
fn larger_nan(a: F80, b: F80) -> F80 {
    if a.mantissa == b.mantissa {
        return if a.is_negative() { b } else { a };
    }
    if a.mantissa > b.mantissa { a } else { b }
}

/// The answer of a one-operand instruction to a NaN or unsupported operand.
pub(super) fn nan_response_one(a: F80) -> Option<Outcome> {
    match a.class() {
        Class::Unsupported => Some(Outcome::invalid()),
        Class::Signalling => Some(Outcome { value: a.quieted(), flags: IE }),
        Class::Quiet => Some(Outcome::exact(a)),
        _ => None,
    }
}

/// DE when an operand is a denormal.
pub(super) fn denormal_flag(a: F80, b: F80) -> u16 {
    if a.class() == Class::Denormal || b.class() == Class::Denormal { DE } else { 0 }
}

/// Rounds a significand to the precision: the 64-bit result (2^64 after a carry), PE and C1.
#[inline(always)]
fn round_significand(neg: bool, sig: u128, precision: Precision, rounding: Rounding) -> (u128, u16) {
    let (mut kept, mut rest) = ((sig >> 64) as u64, sig as u64);
    let drop = precision.dropped();
    if drop != 0 {
        let sticky = (rest != 0) as u64;
        rest = kept << (64 - drop) | rest >> drop | sticky;
        kept = kept >> drop << drop;
    }
    if rest == 0 {
        return (kept as u128, 0);
    }
    let up = match rounding {
        Rounding::Nearest => rest > J || rest == J && kept >> drop & 1 != 0,
        Rounding::Down => neg,
        Rounding::Up => !neg,
        Rounding::Zero => false,
    };
    if up { (kept as u128 + (1u128 << drop), PE | C1) } else { (kept as u128, PE) }
}

/// Rounds and encodes `±sig / 2^127 · 2^(exp − BIAS)`; bit 127 of `sig` must be set, bit 0 may be a
/// sticky bit.
#[inline(always)]
pub(super) fn pack(neg: bool, exp: i32, sig: u128, env: Env) -> Outcome {
    let (rounded, flags) = round_significand(neg, sig, env.precision, env.rounding);
    let carry = (rounded >> 64) as i32;
    let mantissa = rounded as u64 | (carry as u64) << 63;
    let exp_rounded = exp + carry;
    if exp_rounded > 0 && exp_rounded < EXP_MAX {
        return Outcome { value: encode(neg, exp_rounded, mantissa), flags };
    }
    if exp_rounded > 0 {
        return overflow(neg, exp_rounded, mantissa, flags, env);
    }
    if env.masked(UE) {
        return pack_denormal(neg, exp, sig, env);
    }
    // A result too small even for the adjusted range (only FSCALE makes one) stays at its lowest edge.
    let adjusted = exp_rounded + BIAS_ADJUST;
    if adjusted <= 0 {
        return Outcome { value: F80::ZERO.with_sign(neg), flags: UE | PE };
    }
    Outcome { value: encode(neg, adjusted, mantissa), flags: flags | UE }
}

#[inline]
const fn encode(neg: bool, exp: i32, mantissa: u64) -> F80 {
    F80::new((neg as u16) << 15 | exp as u16, mantissa)
}

/// The masked underflow response: a denormal, with UE only when it is inexact.
#[cold]
fn pack_denormal(neg: bool, exp: i32, sig: u128, env: Env) -> Outcome {
    let shifted = shift_right_jam(sig, (1 - exp) as u32);
    let (rounded, flags) = round_significand(neg, shifted, env.precision, env.rounding);
    let mantissa = rounded as u64;
    let underflow = if flags & PE != 0 { UE } else { 0 };
    Outcome { value: encode(neg, (mantissa >> 63) as i32, mantissa), flags: flags | underflow }
}

#[cold]
fn overflow(neg: bool, exp: i32, mantissa: u64, flags: u16, env: Env) -> Outcome {
    if env.masked(OE) {
        return overflow_masked(neg, env);
    }
    let adjusted = exp - BIAS_ADJUST;
    if adjusted >= EXP_MAX {
        return Outcome { value: F80::INFINITY.with_sign(neg), flags: OE | PE | C1 };
    }
    Outcome { value: encode(neg, adjusted, mantissa), flags: flags | OE }
}

fn overflow_masked(neg: bool, env: Env) -> Outcome {
    let to_infinity = match env.rounding {
        Rounding::Nearest => true,
        Rounding::Down => neg,
        Rounding::Up => !neg,
        Rounding::Zero => false,
    };
    if to_infinity {
        return Outcome { value: F80::INFINITY.with_sign(neg), flags: OE | PE | C1 };
    }
    let mantissa = u64::MAX << env.precision.dropped();
    Outcome { value: encode(neg, EXP_MAX - 1, mantissa), flags: OE | PE }
}

/// `a + b`.
#[inline(always)]
pub fn add(a: F80, b: F80, env: Env) -> Outcome {
    sum(a, b, b.is_negative(), env)
}

/// `a − b`.
#[inline(always)]
pub fn sub(a: F80, b: F80, env: Env) -> Outcome {
    sum(a, b, !b.is_negative(), env)
}

#[inline(always)]
fn sum(a: F80, b: F80, b_neg: bool, env: Env) -> Outcome {
    if a.is_normal() && b.is_normal() {
        return sum_finite(a.parts(), Parts { neg: b_neg, ..b.parts() }, env);
    }
    sum_special(a, b, b_neg, env)
}

#[cold]
fn sum_special(a: F80, b: F80, b_neg: bool, env: Env) -> Outcome {
    use Class::{Infinity, Zero};
    if let Some(outcome) = nan_response(a, b) {
        return outcome;
    }
    let de = denormal_flag(a, b);
    let b = b.with_sign(b_neg);
    match (a.class(), b.class()) {
        (Infinity, Infinity) if a != b => Outcome::invalid(),
        (Infinity, _) => Outcome { value: a, flags: de },
        (_, Infinity) => Outcome { value: b, flags: de },
        (Zero, Zero) if a == b => Outcome::exact(a),
        (Zero, Zero) => Outcome::exact(zero_sum(env)),
        (Zero, _) => pack_parts(b.parts(), env).with(de),
        (_, Zero) => pack_parts(a.parts(), env).with(de),
        _ => sum_finite(a.parts(), b.parts(), env).with(de),
    }
}

/// The zero that cancelling operands give.
fn zero_sum(env: Env) -> F80 {
    F80::ZERO.with_sign(env.rounding == Rounding::Down)
}

pub(super) fn pack_parts(p: Parts, env: Env) -> Outcome {
    pack(p.neg, p.exp, (p.sig as u128) << 64, env)
}

#[inline(always)]
fn sum_finite(a: Parts, b: Parts, env: Env) -> Outcome {
    let (big, small) = if (a.exp, a.sig) >= (b.exp, b.sig) { (a, b) } else { (b, a) };
    let distance = (big.exp - small.exp) as u32;
    if a.neg == b.neg {
        let total = ((big.sig as u128) << 63) + shift_right_jam((small.sig as u128) << 63, distance);
        let carry = (total >> 127) as u32;
        return pack(a.neg, big.exp + carry as i32, total << (1 - carry), env);
    }
    let rest = ((big.sig as u128) << 64) - shift_right_jam((small.sig as u128) << 64, distance);
    if rest == 0 {
        return Outcome::exact(zero_sum(env));
    }
    let shift = rest.leading_zeros();
    pack(big.neg, big.exp - shift as i32, rest << shift, env)
}

/// `a · b`.
#[inline(always)]
pub fn mul(a: F80, b: F80, env: Env) -> Outcome {
    if a.is_normal() && b.is_normal() {
        return mul_finite(a.parts(), b.parts(), env);
    }
    mul_special(a, b, env)
}

#[cold]
fn mul_special(a: F80, b: F80, env: Env) -> Outcome {
    use Class::{Infinity, Zero};
    if let Some(outcome) = nan_response(a, b) {
        return outcome;
    }
    let neg = a.is_negative() != b.is_negative();
    let de = denormal_flag(a, b);
    match (a.class(), b.class()) {
        (Infinity, Zero) | (Zero, Infinity) => Outcome::invalid(),
        (Infinity, _) | (_, Infinity) => Outcome { value: F80::INFINITY.with_sign(neg), flags: de },
        (Zero, _) | (_, Zero) => Outcome { value: F80::ZERO.with_sign(neg), flags: de },
        _ => mul_finite(a.parts(), b.parts(), env).with(de),
    }
}

#[inline(always)]
fn mul_finite(a: Parts, b: Parts, env: Env) -> Outcome {
    let product = a.sig as u128 * b.sig as u128;
    let carry = (product >> 127) as u32;
    pack(a.neg != b.neg, a.exp + b.exp - BIAS + carry as i32, product << (1 - carry), env)
}

/// `a / b`.
#[inline]
pub fn div(a: F80, b: F80, env: Env) -> Outcome {
    if a.is_normal() && b.is_normal() {
        return div_finite(a.parts(), b.parts(), env);
    }
    div_special(a, b, env)
}

#[cold]
fn div_special(a: F80, b: F80, env: Env) -> Outcome {
    use Class::{Infinity, Zero};
    if let Some(outcome) = nan_response(a, b) {
        return outcome;
    }
    let neg = a.is_negative() != b.is_negative();
    let de = denormal_flag(a, b);
    match (a.class(), b.class()) {
        (Infinity, Infinity) | (Zero, Zero) => Outcome::invalid(),
        (Infinity, _) => Outcome { value: F80::INFINITY.with_sign(neg), flags: de },
        (_, Infinity) | (Zero, _) => Outcome { value: F80::ZERO.with_sign(neg), flags: de },
        // ZE comes before DE: a denormal dividend does not raise both.
        (_, Zero) => Outcome { value: F80::INFINITY.with_sign(neg), flags: ZE },
        _ => div_finite(a.parts(), b.parts(), env).with(de),
    }
}

#[inline]
fn div_finite(a: Parts, b: Parts, env: Env) -> Outcome {
    // Chosen so that the quotient has exactly 64 bits.
    let less = (a.sig < b.sig) as u32;
    let numerator = (a.sig as u128) << (63 + less);
    let (quotient, rest) = div_128_by_64(numerator, b.sig);
    let tail = tail_of_remainder(rest, b.sig);
    let sig = (quotient as u128) << 64 | tail as u128;
    pack(a.neg != b.neg, a.exp - b.exp + BIAS - less as i32, sig, env)
}

/// Encodes `rest / divisor` (below one) as round bit and sticky bit.
fn tail_of_remainder(rest: u64, divisor: u64) -> u64 {
    let half = rest as u128 * 2;
    match half.cmp(&(divisor as u128)) {
        std::cmp::Ordering::Less => (rest != 0) as u64,
        std::cmp::Ordering::Equal => J,
        std::cmp::Ordering::Greater => J | 1,
    }
}

/// The square root of `a`.
pub fn sqrt(a: F80, env: Env) -> Outcome {
    if let Some(outcome) = nan_response_one(a) {
        return outcome;
    }
    match a.class() {
        Class::Zero => Outcome::exact(a),
        _ if a.is_negative() => Outcome::invalid(),
        Class::Infinity => Outcome::exact(a),
        _ => sqrt_finite(a.parts(), env).with(denormal_flag(a, a)),
    }
}

fn sqrt_finite(a: Parts, env: Env) -> Outcome {
    let exp = a.exp - BIAS;
    let radicand = (a.sig as u128) << (63 + (exp & 1));
    let root = radicand.isqrt();
    let rest = radicand - root * root;
    // (root + ½)² = root² + root + ¼: never a tie.
    let tail = if rest > root { J | 1 } else { (rest != 0) as u64 };
    pack(false, (exp >> 1) + BIAS, root << 64 | tail as u128, env)
}

/// Which remainder: FPREM truncates the quotient, FPREM1 (IEEE) rounds it to nearest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remainder {
    /// FPREM.
    Truncate,
    /// FPREM1.
    Nearest,
}

/// The (partial) remainder of `a / b`. Flags hold C2 (incomplete) and the quotient's low bits in
/// C0 (Q2), C3 (Q1), C1 (Q0).
pub fn remainder(a: F80, b: F80, kind: Remainder, env: Env) -> Outcome {
    use Class::{Infinity, Zero};
    if let Some(outcome) = nan_response(a, b) {
        return outcome;
    }
    let de = denormal_flag(a, b);
    match (a.class(), b.class()) {
        (Infinity, _) | (_, Zero) => Outcome::invalid(),
        (Zero, _) => Outcome { value: a, flags: de },
        (_, Infinity) => untouched(a).with(de),
        _ => remainder_finite(a.parts(), b.parts(), kind, env.extended()).with(de),
    }
}

/// A finite operand that comes back as it is (normalised), without an underflow even if that is unmasked.
fn untouched(a: F80) -> Outcome {
    pack_parts(a.parts(), Env { rounding: Rounding::Nearest, precision: Precision::Extended, masks: 0x3F })
}

fn remainder_finite(a: Parts, b: Parts, kind: Remainder, env: Env) -> Outcome {
    let distance = a.exp - b.exp;
    if distance >= 64 {
        return remainder_partial(a, b, distance, env);
    }
    let lowest = if kind == Remainder::Nearest { -1 } else { 0 };
    if distance < lowest {
        return pack_parts(a, env);
    }
    // Below the divisor the quotient is 0 and the remainder a itself, kept at a's own exponent.
    let (mut quotient, mut rest, mut unit, divisor) = if distance < 0 {
        (0, a.sig as u128, a.exp, (b.sig as u128) << 1)
    } else {
        let (q, r) = div_128_by_64((a.sig as u128) << distance, b.sig);
        (q, r as u128, b.exp, b.sig as u128)
    };
    let mut neg = a.neg;
    if kind == Remainder::Nearest && (rest * 2 > divisor || rest * 2 == divisor && quotient & 1 != 0) {
        quotient = quotient.wrapping_add(1);
        rest = divisor - rest;
        neg = !neg;
    }
    // A rest of 65 bits can only follow the doubled divisor, where it is below 2^64 again.
    if rest >> 64 != 0 {
        rest >>= 1;
        unit += 1;
    }
    pack_rest(a.neg, neg, rest as u64, unit, env).with(quotient_bits(quotient))
}

/// One step of a long remainder: reduces the exponent difference by 32 to 63.
fn remainder_partial(a: Parts, b: Parts, distance: i32, env: Env) -> Outcome {
    let step = (distance & 31) | 32;
    let (_, rest) = div_128_by_64((a.sig as u128) << step, b.sig);
    pack_rest(a.neg, a.neg, rest, b.exp + distance - step, env).with(C2)
}

fn pack_rest(zero_neg: bool, neg: bool, rest: u64, unit: i32, env: Env) -> Outcome {
    if rest == 0 {
        return Outcome::exact(F80::ZERO.with_sign(zero_neg));
    }
    let shift = rest.leading_zeros();
    pack_parts(Parts { neg, exp: unit - shift as i32, sig: rest << shift }, env)
}

fn quotient_bits(quotient: u64) -> u16 {
    let bit = |n: u32, flag: u16| if quotient >> n & 1 != 0 { flag } else { 0 };
    bit(0, C1) | bit(1, C3) | bit(2, C0)
}

/// Rounds to an integral value (FRNDINT); precision control does not matter.
pub fn round_to_integer(a: F80, env: Env) -> Outcome {
    if let Some(outcome) = nan_response_one(a) {
        return outcome;
    }
    let (class, exp) = (a.class(), a.exponent() - BIAS);
    if class == Class::Zero || exp >= 63 {
        return Outcome::exact(a);
    }
    let de = denormal_flag(a, a);
    let fixed = shift_right_jam((a.parts().sig as u128) << 64, (63 - exp) as u32);
    let (whole, flags) = round_significand(a.is_negative(), fixed, Precision::Extended, env.rounding);
    let whole = whole as u64;
    if whole == 0 {
        return Outcome { value: F80::ZERO.with_sign(a.is_negative()), flags: flags | de };
    }
    let shift = whole.leading_zeros();
    let value = encode(a.is_negative(), BIAS + 63 - shift as i32, whole << shift);
    Outcome { value, flags: flags | de }
}

/// `a · 2^trunc(b)` (FSCALE).
pub fn scale(a: F80, b: F80, env: Env) -> Outcome {
    use Class::{Infinity, Zero};
    if let Some(outcome) = nan_response(a, b) {
        return outcome;
    }
    let de = denormal_flag(a, b);
    match (a.class(), b.class()) {
        (Zero, Infinity) if !b.is_negative() => Outcome::invalid(),
        (Infinity, Infinity) if b.is_negative() => Outcome::invalid(),
        (Infinity | Zero, _) => Outcome { value: a, flags: de },
        (_, Infinity) if b.is_negative() => {
            Outcome { value: F80::ZERO.with_sign(a.is_negative()), flags: de }
        }
        (_, Infinity) => Outcome { value: F80::INFINITY.with_sign(a.is_negative()), flags: de },
        (_, Zero) => untouched(a).with(de),
        _ => {
            let p = a.parts();
            pack_parts(Parts { exp: p.exp + scale_amount(b), ..p }, env.extended()).with(de)
        }
    }
}

/// A finite scale truncated to an integer, limited to where every result has over- or underflowed.
fn scale_amount(b: F80) -> i32 {
    let exp = b.exponent() - BIAS;
    if exp < 0 {
        return 0;
    }
    let magnitude = if exp > 17 { 1 << 18 } else { (b.mantissa >> (63 - exp)) as i32 };
    if b.is_negative() { -magnitude } else { magnitude }
}

/// Splits into exponent and significand (FXTRACT): `(exponent, significand, flags)`.
pub fn extract(a: F80) -> (F80, F80, u16) {
    if let Some(o) = nan_response_one(a) {
        return (o.value, o.value, o.flags);
    }
    match a.class() {
        Class::Zero => (F80::INFINITY.negated(), a, ZE),
        Class::Infinity => (F80::INFINITY, a, 0),
        class => {
            let p = a.parts();
            let flags = if class == Class::Denormal { DE } else { 0 };
            (super::convert::from_i64((p.exp - BIAS) as i64), encode(p.neg, BIAS, p.sig), flags)
        }
    }
}

/// Compares; `quiet` is the unordered kind (FUCOM), which raises IE for signalling NaNs only.
#[inline]
pub fn compare(a: F80, b: F80, quiet: bool) -> (Order, u16) {
    if a.is_normal() && b.is_normal() {
        return (order(a, b), 0);
    }
    compare_special(a, b, quiet)
}

#[cold]
fn compare_special(a: F80, b: F80, quiet: bool) -> (Order, u16) {
    if let Some(outcome) = nan_response(a, b) {
        let flags = if quiet { outcome.flags } else { IE };
        return (Order::Unordered, flags);
    }
    let both_zero = a.mantissa == 0 && b.mantissa == 0;
    let order = if both_zero { Order::Equal } else { order(a, b) };
    (order, denormal_flag(a, b))
}

fn order(a: F80, b: F80) -> Order {
    use std::cmp::Ordering;
    let by_size = a.magnitude().cmp(&b.magnitude());
    let ordering = match (a.is_negative(), b.is_negative()) {
        (false, false) => by_size,
        (true, true) => by_size.reverse(),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
    };
    match ordering {
        Ordering::Less => Order::Less,
        Ordering::Equal => Order::Equal,
        Ordering::Greater => Order::Greater,
    }
}
