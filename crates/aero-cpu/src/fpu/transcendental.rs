//! The transcendental instructions and the constants.
//!
//! Everything is computed in `Wide`, a 128-bit significand with its own exponent, from power series
//! whose coefficients the compiler derives (`1/n!`, `1/(2n+1)`); the error before the only rounding is
//! below 2^−90 of the result. So results are correctly rounded in practice, identical on every host,
//! and obey rounding control; the hardware promises one unit in the last place.
//!
//! Two facts of the hardware are kept. The trigonometric instructions reduce with a π of 66 bits
//! (SDM 1, 8.3.8), here exactly: near multiples of π guests see the same answers as on a real
//! processor. Intel's and AMD's both do: on either the sine of what FLDPI loads is −2^−64, where with
//! the true π it would be −5.017·10^−20. "Exact" below means the function of that reduced angle. And an
//! operand of 2^63 or more sets C2 and is left alone.
//!
//! Against 320-bit values the results to nearest were never more than half a unit in the last place off
//! (150,000 operands of each function over its whole domain); `accuracy.rs` keeps some of them.
//!
//! Methods: sine and cosine: Taylor on [−π/4, π/4]. Arctangent: subtract the arctangent of the nearest
//! 1/32 by the addition theorem, Taylor on the rest. Logarithm: `2·artanh((m−1)/(m+1))` for m within
//! [√½, √2). `2^x − 1`: Taylor of `(e^y − 1)/y`.

use super::f80::{
    BIAS, Class, Env, F80, Outcome, Parts, Rounding, denormal_flag, nan_response, nan_response_one, pack,
    pack_parts,
};
use super::spec::{C2, PE, UE, ZE};
use super::wide::{Wide, mul_high};

/// One in the fixed-point form of the series (1 integer bit, 127 fraction bits).
const ONE: u128 = 1 << 127;

/// 1/n! for n = `FIRST`, `FIRST + STEP`, …
const fn inverse_factorials<const N: usize>(first: u128, step: u128) -> [u128; N] {
    let mut table = [0; N];
    let mut value = ONE;
    let mut n = 0;
    let mut i = 0;
    while i < N {
        while n < first + step * i as u128 {
            n += 1;
            value /= n;
        }
        table[i] = value;
        i += 1;
    }
    table
}

/// 1, 1/3, 1/5, …
const fn inverse_odds<const N: usize>() -> [u128; N] {
    let mut table = [0; N];
    let mut i = 0;
    while i < N {
        table[i] = ONE / (2 * i as u128 + 1);
        i += 1;
    }
    table
}

const SIN: [u128; 13] = inverse_factorials(1, 2);
const COS: [u128; 14] = inverse_factorials(0, 2);
const EXP: [u128; 27] = inverse_factorials(1, 1);
const ODD: [u128; 20] = inverse_odds();
/// Terms of `ODD` that the arctangent needs below 1/64.
const ATAN_TERMS: usize = 9;

/// π.
const PI: Wide = Wide::new(1, 0xC90F_DAA2_2168_C234_C4C6_628B_80DC_1CD1);
/// ln 2.
const LN_2: Wide = Wide::new(-1, 0xB172_17F7_D1CF_79AB_C9E3_B398_03F2_F6AF);
/// log₂ e.
const LOG2_E: Wide = Wide::new(0, 0xB8AA_3B29_5C17_F0BB_BE87_FED0_691D_3E88);
/// log₂ 10.
const LOG2_10: Wide = Wide::new(1, 0xD49A_784B_CD1B_8AFE_492B_F6FF_4DAF_DB4C);
/// log₁₀ 2.
const LOG10_2: Wide = Wide::new(-2, 0x9A20_9A84_FBCF_F798_8F89_59AC_0B7C_9178);

/// The hardware's π/2: 66 bits, in units of 2^−67.
const HALF_PI: u128 = 0xC_90FD_AA22_168C_234C;

/// arctan(j/32) in units of 2^−128.
#[rustfmt::skip]
const ATAN: [u128; 33] = [
    0x00000000_00000000_00000000_00000000,
    0x07FF556E_EA5D892A_13BCEBBB_6ED46310,
    0x0FFAADDB_967EF4E3_6CB2792D_C0E2E0D5,
    0x17EE1826_02F10E8C_126ACFCF_099F06CE,
    0x1FD5BA9A_AC2F6DC6_5912F313_E7D111DE,
    0x27ADDDD1_8CC4D8B0_D1D86749_40D83FA1,
    0x2F72F697_9CB6044D_1EC2D3E2_07271D21,
    0x3721AEA5_24C14408_BD886970_72D54BC0,
    0x3EB6EBF2_5901BAC5_5B71E7BD_7DE885F9,
    0x462FD68C_2FC5E098_6523A458_DFC414C6,
    0x4D89DCDC_1FAF2F34_E2D5DA4C_693D7994,
    0x54C2B665_4735276D_4CDBFBBD_FBECF460,
    0x5BD86507_937BC239_C5519091_6E7F2241,
    0x62C934E5_286C95B6_D0BA3748_FA85146E,
    0x6993BB0F_308FF2DB_213E4AF4_800F389B,
    0x7036D325_3B27BE33_E318F6CB_3CC65C01,
    0x76B19C15_86ED3DA2_B7F222F6_5E1D4681,
    0x7D03742D_50505F2E_33691E3E_AEE47661,
    0x832BF4A6_D9867E2A_4B6A09CB_61A515C0,
    0x892AECDF_DE9547B5_094478FC_472B4AFB,
    0x8F005D5E_F7F59F9B_5C835E16_65C43747,
    0x94AC72C9_847186F6_18C4F393_F78A32F8,
    0x9A2F80E6_71BDDA20_4226F8E2_204FF3BC,
    0x9F89FDC4_F4B7A1EC_F8B49264_4F0701DF,
    0xA4BC7D19_34F70924_19A87F2A_457DAC9E,
    0xA9C7ABDC_4830F5C8_916A84B5_BE7933F5,
    0xAEAC4C38_B4D8C080_14725E2F_3E52070A,
    0xB36B31C9_1F043691_59014174_4462F939,
    0xB8053E2B_C2319E73_CB2DA552_10A4443D,
    0xBC7B5DEA_E98AF280_D4113006_E80FB290,
    0xC0CE85B8_AC526640_89DD62C4_6E92FA24,
    0xC4FFAFFA_BF8FBD54_8CB43D10_BC9E0221,
    0xC90FDAA2_2168C234_C4C6628B_80DC1CD1,
];

/// The constants the FLD instructions push.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Constant {
    /// FLD1.
    One,
    /// FLDL2T: log₂ 10.
    Log2Of10,
    /// FLDL2E: log₂ e.
    Log2OfE,
    /// FLDPI.
    Pi,
    /// FLDLG2: log₁₀ 2.
    Log10Of2,
    /// FLDLN2: ln 2.
    LnOf2,
    /// FLDZ.
    Zero,
}

/// A constant under rounding control; neither precision control nor PE takes part.
pub fn constant(which: Constant, rounding: Rounding) -> F80 {
    let wide = match which {
        Constant::One => return F80::ONE,
        Constant::Zero => return F80::ZERO,
        Constant::Log2Of10 => LOG2_10,
        Constant::Log2OfE => LOG2_E,
        Constant::Pi => PI,
        Constant::Log10Of2 => LOG10_2,
        Constant::LnOf2 => LN_2,
    };
    round(wide, Env { rounding, precision: super::f80::Precision::Extended, masks: 0x3F }).value
}

fn widen(p: Parts) -> Wide {
    Wide { neg: p.neg, exp: p.exp - BIAS, sig: (p.sig as u128) << 64 }
}

/// Rounds a value whose 128 bits are exact or jammed.
fn round(w: Wide, env: Env) -> Outcome {
    pack(w.neg, w.exp + BIAS, w.sig, env.extended())
}

/// Rounds an irrational value, which is never exact.
fn round_inexact(w: Wide, env: Env) -> Outcome {
    round(Wide { sig: w.sig | 1, ..w }, env)
}

/// Marks a result inexact that was not rounded: processors raise PE for every ordinary operand, and
/// then UE for a denormal result, even where it happens to be exact.
fn always_inexact(outcome: Outcome) -> Outcome {
    let tiny = if outcome.value.exponent() == 0 { UE } else { 0 };
    outcome.with(PE | tiny)
}

/// `c₀ − z·(c₁ − z·(…))`, kept below one so that a vanishing `z` still shows as "a little less".
fn alternating(z: u128, coefficients: &[u128]) -> u128 {
    coefficients.iter().rev().fold(0, |sum, &c| c - mul_high(z, sum)).min(ONE - 1)
}

/// `c₀ + z·(c₁ + z·(…))`.
fn ascending(z: u128, coefficients: &[u128]) -> u128 {
    coefficients.iter().rev().fold(0, |sum, &c| c + mul_high(z, sum))
}

/// Turns a series sum, which is never zero, into a factor.
fn factor(sum: u128) -> Wide {
    Wide::normalised(false, 0, sum | 1).unwrap_or(Wide::ONE)
}

/// Reduces a magnitude modulo π/2: (quadrant, rest within ±π/4).
fn reduce(p: Parts) -> (u8, Wide) {
    let exp = p.exp - BIAS;
    if exp < -1 {
        return (0, widen(Parts { neg: false, ..p }));
    }
    let (mut quotient, mut rest) = (0u128, p.sig as u128);
    let mut shift = exp + 4;
    while shift > 0 {
        // The rest has 68 bits at most.
        let step = shift.min(59);
        rest <<= step;
        quotient = (quotient << step) | (rest / HALF_PI);
        rest %= HALF_PI;
        shift -= step;
    }
    let above = rest * 2 > HALF_PI;
    if above {
        rest = HALF_PI - rest;
    }
    // HALF_PI has an odd 66-bit factor, which no 64-bit significand contains: the rest is not zero.
    let rest = Wide::normalised(above, 0, rest << 60).unwrap_or(Wide::new(-67, ONE));
    ((quotient + above as u128) as u8 & 3, rest)
}

fn sin_kernel(r: Wide) -> Wide {
    r.mul(factor(alternating(r.mul(r).fraction(), &SIN)))
}

fn cos_kernel(r: Wide) -> Wide {
    factor(alternating(r.mul(r).fraction(), &COS))
}

fn sine(p: Parts) -> Wide {
    let (quadrant, r) = reduce(p);
    let value = if quadrant & 1 == 0 { sin_kernel(r) } else { cos_kernel(r) };
    value.with_sign(value.neg ^ (quadrant & 2 != 0) ^ p.neg)
}

fn cosine(p: Parts) -> Wide {
    let (quadrant, r) = reduce(p);
    let value = if quadrant & 1 == 0 { cos_kernel(r) } else { sin_kernel(r) };
    value.with_sign(value.neg ^ matches!(quadrant, 1 | 2))
}

fn tangent(p: Parts) -> Wide {
    let (quadrant, r) = reduce(p);
    let (sin, cos) = (sin_kernel(r), cos_kernel(r));
    let value = match quadrant & 1 {
        0 => sin.div(cos),
        // Next to a pole the series no longer tell sine from angle: 1/r less a trace.
        _ if r.exp < POLE => Wide::ONE.div(r).just_below().negated(),
        _ => cos.div(sin).negated(),
    };
    value.with_sign(value.neg ^ p.neg)
}

/// Below this exponent `r² / 3` is no part of 2^127.
const POLE: i32 = -64;

/// The common part of the trigonometric instructions: `at_zero` is the answer to ±0.
fn trigonometric(a: F80, env: Env, at_zero: F80, function: fn(Parts) -> Wide) -> Outcome {
    if let Some(outcome) = nan_response_one(a) {
        return outcome;
    }
    match a.class() {
        Class::Zero => Outcome::exact(at_zero),
        Class::Infinity => Outcome::invalid(),
        _ if a.exponent() - BIAS >= 63 => Outcome { value: a, flags: C2 },
        _ if a.exponent() - BIAS < TINY_ANGLE => tiny_angle(a, at_zero, env),
        _ => round_inexact(function(a.parts()), env).with(denormal_flag(a, a)),
    }
}

/// Below this exponent processors take sin x = tan x = x and cos x = 1, whatever the rounding control.
const TINY_ANGLE: i32 = -68;

fn tiny_angle(a: F80, at_zero: F80, env: Env) -> Outcome {
    let value = if at_zero.class() == Class::Zero { a } else { at_zero };
    always_inexact(pack_parts(value.parts(), env.extended())).with(denormal_flag(a, a))
}

/// Sine of an angle in radians; C2 when it is out of range.
pub fn sin(a: F80, env: Env) -> Outcome {
    trigonometric(a, env, a, sine)
}

/// Cosine of an angle in radians; C2 when it is out of range.
pub fn cos(a: F80, env: Env) -> Outcome {
    trigonometric(a, env, F80::ONE, cosine)
}

/// Tangent of an angle in radians; C2 when it is out of range.
pub fn tan(a: F80, env: Env) -> Outcome {
    trigonometric(a, env, a, tangent)
}

/// arctan of a `z` of at most 1/64.
fn atan_kernel(z: Wide) -> Wide {
    z.mul(factor(alternating(z.mul(z).fraction(), &ODD[..ATAN_TERMS])))
}

/// arctan(n/d) for magnitudes n ≤ d of 64 significant bits.
fn atan_ratio(n: Wide, d: Wide) -> Wide {
    let distance = d.exp - n.exp;
    let (top, bottom) = ((n.sig >> 64) as i128, (d.sig >> 64) as i128);
    // Both in units of 2^−7 of the denominator's last place; the numerator stays exact.
    let (top, bottom) = if distance > 7 { (0, bottom << 7) } else { (top << (7 - distance), bottom << 7) };
    let j = (top * 32 + bottom / 2) / bottom;
    if j == 0 {
        return atan_kernel(n.div(d));
    }
    let base = Wide::normalised(false, -1, ATAN[j as usize]).unwrap_or(PI.scaled(-2));
    let (num, den) = (top * 32 - j * bottom, bottom * 32 + j * top);
    let rest = Wide::normalised(num < 0, 0, num.unsigned_abs() << 49);
    let divisor = Wide::normalised(false, 0, (den as u128) << 49).unwrap_or(Wide::ONE);
    match rest {
        None => base,
        Some(rest) => base.add(atan_kernel(rest.div(divisor))).unwrap_or(base),
    }
}

/// The angle of the point (x, y): arctan(y/x) in the right quadrant.
pub fn atan2(y: F80, x: F80, env: Env) -> Outcome {
    if let Some(outcome) = nan_response(y, x) {
        return outcome;
    }
    let neg = y.is_negative();
    let de = denormal_flag(y, x);
    match atan2_special(y, x) {
        Angle::Zero => Outcome { value: F80::ZERO.with_sign(neg), flags: de },
        Angle::Eighths(n) => round_inexact(eighths_of_turn(n).with_sign(neg), env).with(de),
        Angle::General => round_atan2(y.parts(), x.parts(), env).with(de),
    }
}

enum Angle {
    Zero,
    /// Multiples of π/4.
    Eighths(u8),
    General,
}

fn atan2_special(y: F80, x: F80) -> Angle {
    use Class::{Infinity, Zero};
    let left = x.is_negative();
    match (y.class(), x.class()) {
        (Infinity, Infinity) => Angle::Eighths(if left { 3 } else { 1 }),
        (Infinity, _) => Angle::Eighths(2),
        (Zero, _) | (_, Infinity) => {
            if left {
                Angle::Eighths(4)
            } else {
                Angle::Zero
            }
        }
        (_, Zero) => Angle::Eighths(2),
        _ => Angle::General,
    }
}

fn eighths_of_turn(n: u8) -> Wide {
    match n {
        1 => PI.scaled(-2),
        2 => PI.scaled(-1),
        3 => PI.scaled(-2).add(PI.scaled(-1)).unwrap_or(PI),
        _ => PI,
    }
}

/// Past this exponent difference processors take arctan(y/x) = y/x where that is exact.
const TINY_RATIO: i32 = 40;

/// Whether two significands divide without a remainder.
fn divides_exactly(y: Parts, x: Parts) -> bool {
    ((y.sig as u128) << 64).is_multiple_of(x.sig as u128 >> x.sig.trailing_zeros())
}

fn round_atan2(y: Parts, x: Parts, env: Env) -> Outcome {
    let (top, side) = (widen(Parts { neg: false, ..y }), widen(Parts { neg: false, ..x }));
    let steep = (y.exp, y.sig) > (x.exp, x.sig);
    let angle = if steep { atan_ratio(side, top) } else { atan_ratio(top, side) };
    let around = |center: Wide, angle: Wide| center.add(angle).unwrap_or(center);
    let angle = match (steep, x.neg) {
        (false, false) if x.exp - y.exp > TINY_RATIO && divides_exactly(y, x) => {
            return always_inexact(round(top.div(side).with_sign(y.neg), env));
        }
        (false, false) => angle,
        (false, true) => around(PI, angle.negated()),
        (true, false) => around(PI.scaled(-1), angle.negated()),
        (true, true) => around(PI.scaled(-1), angle),
    };
    round_inexact(angle.with_sign(y.neg), env)
}

/// `2^a − 1` for a within [−1, 1]; beyond, where the SDM leaves the result undefined, `a` itself.
pub fn exp2_minus_1(a: F80, env: Env) -> Outcome {
    if let Some(outcome) = nan_response_one(a) {
        return outcome;
    }
    match a.class() {
        Class::Zero => Outcome::exact(a),
        Class::Infinity if a.is_negative() => Outcome::exact(F80::ONE.negated()),
        Class::Infinity => Outcome::exact(a),
        _ => exp2_minus_1_finite(a, env).with(denormal_flag(a, a)),
    }
}

fn exp2_minus_1_finite(a: F80, env: Env) -> Outcome {
    let p = a.parts();
    if p.exp >= BIAS {
        let half = F80::new(0xBFFE, 1 << 63);
        return always_inexact(Outcome::exact(if a == F80::ONE.negated() { half } else { a }));
    }
    let y = widen(p).mul(LN_2);
    let z = y.fraction();
    let sum = if p.neg { alternating(z, &EXP) } else { ascending(z, &EXP) };
    round_inexact(y.mul(factor(sum)), env)
}

/// log₂ of `x`; None when it is zero. Exact for powers of two.
fn log2(x: Wide) -> Option<Wide> {
    // √2, to decide which power of two is nearer.
    const SQRT_2: u128 = 0xB504_F333_F9DE_6484 << 64;
    let high = x.sig > SQRT_2;
    let whole = x.exp + high as i32;
    let m = Wide::new(-(high as i32), x.sig);
    let power = Wide::normalised(whole < 0, 127, whole.unsigned_abs() as u128);
    let Some(num) = m.add(Wide::ONE.negated()) else {
        return power;
    };
    let den = m.add(Wide::ONE).unwrap_or(Wide::ONE);
    let fraction = log2_kernel(num.div(den));
    let total = match power {
        None => fraction,
        Some(power) => power.add(fraction).unwrap_or(fraction),
    };
    Some(total)
}

/// `2·artanh(s)·log₂ e`.
fn log2_kernel(s: Wide) -> Wide {
    let sum = ascending(s.mul(s).fraction(), &ODD);
    s.scaled(1).mul(factor(sum)).mul(LOG2_E)
}

/// `y · log₂ x`.
pub fn y_log2_x(y: F80, x: F80, env: Env) -> Outcome {
    use Class::{Infinity, Zero};
    if let Some(outcome) = nan_response(y, x) {
        return outcome;
    }
    let de = denormal_flag(y, x);
    match (y.class(), x.class()) {
        (Zero, Zero) => Outcome::invalid(),
        (Infinity, Zero) => Outcome { value: y.negated(), flags: de },
        (_, Zero) => Outcome { value: F80::INFINITY.with_sign(!y.is_negative()), flags: ZE },
        _ if x.is_negative() => Outcome::invalid(),
        (Zero, Infinity) => Outcome::invalid(),
        (_, Infinity) => Outcome { value: F80::INFINITY.with_sign(y.is_negative()), flags: de },
        _ => scaled_log(y, log2(widen(x.parts())), env).with(de),
    }
}

/// `y · log`, where y may be zero or infinite and the logarithm zero.
fn scaled_log(y: F80, log: Option<Wide>, env: Env) -> Outcome {
    let Some(log) = log else {
        let invalid = y.class() == Class::Infinity;
        return if invalid {
            Outcome::invalid()
        } else {
            Outcome::exact(F80::ZERO.with_sign(y.is_negative()))
        };
    };
    let neg = y.is_negative() != log.neg;
    match y.class() {
        Class::Zero => Outcome::exact(F80::ZERO.with_sign(neg)),
        Class::Infinity => Outcome::exact(F80::INFINITY.with_sign(neg)),
        _ => always_inexact(round(widen(y.parts()).mul(log), env)),
    }
}

/// `y · log₂(x + 1)`, precise for small x.
pub fn y_log2_x_plus_1(y: F80, x: F80, env: Env) -> Outcome {
    use Class::{Infinity, Zero};
    if let Some(outcome) = nan_response(y, x) {
        return outcome;
    }
    let de = denormal_flag(y, x);
    let neg = y.is_negative() != x.is_negative();
    match (y.class(), x.class()) {
        (Infinity, Zero) | (Zero, Infinity) => Outcome::invalid(),
        (_, Zero) => Outcome { value: F80::ZERO.with_sign(neg), flags: de },
        (_, Infinity) if x.is_negative() => Outcome::invalid(),
        (_, Infinity) => Outcome { value: F80::INFINITY.with_sign(neg), flags: de },
        _ => match log2_plus_1(widen(x.parts())) {
            Some(log) => scaled_log(y, Some(log), env).with(de),
            // Undefined; processors hand back x.
            None => always_inexact(Outcome::exact(x)),
        },
    }
}

/// log₂(1 + x); None at and below x = −1, where the SDM promises nothing.
fn log2_plus_1(x: Wide) -> Option<Wide> {
    if x.exp < -2 {
        let two = Wide::ONE.scaled(1);
        return Some(log2_kernel(x.div(two.add(x).unwrap_or(two))));
    }
    let sum = Wide::ONE.add(x)?;
    if sum.neg {
        return None;
    }
    log2(sum)
}
