//! 128-bit helpers: jamming shifts, the divisions, and a small floating format for the functions.

/// Shifts right; bits that fall out leave a one in bit 0.
#[inline]
pub(super) fn shift_right_jam(value: u128, by: u32) -> u128 {
    if by == 0 {
        return value;
    }
    if by >= 128 {
        return (value != 0) as u128;
    }
    value >> by | (value << (128 - by) != 0) as u128
}

/// Quotient and remainder of `numerator / divisor`, where the quotient fits 64 bits and bit 63 of the
/// divisor is set (Knuth's algorithm D with 32-bit digits, which 64-bit and wasm hosts both do fast).
#[inline]
pub(super) fn div_128_by_64(numerator: u128, divisor: u64) -> (u64, u64) {
    debug_assert!(divisor >> 63 == 1 && (numerator >> 64) < divisor as u128);
    let low = numerator as u64;
    let (high_digit, rest) = div_digit((numerator >> 64) as u64, low >> 32, divisor);
    let (low_digit, rest) = div_digit(rest, low & 0xFFFF_FFFF, divisor);
    (high_digit << 32 | low_digit, rest)
}

/// One 32-bit quotient digit of `(rest · 2^32 + next) / divisor`, with `rest < divisor`.
#[inline]
fn div_digit(rest: u64, next: u64, divisor: u64) -> (u64, u64) {
    let (top, bottom) = (divisor >> 32, divisor & 0xFFFF_FFFF);
    let mut digit = rest / top;
    let mut over = rest % top;
    while digit >> 32 != 0 || digit * bottom > (over << 32 | next) {
        digit -= 1;
        over += top;
        if over >> 32 != 0 {
            break;
        }
    }
    let left = (rest << 32 | next).wrapping_sub(digit.wrapping_mul(divisor));
    (digit, left)
}

/// The high 128 bits of a 256-bit product.
#[inline]
pub(super) fn mul_high(a: u128, b: u128) -> u128 {
    mul_wide(a, b).0
}

/// The 256-bit product as (high, low).
#[inline]
fn mul_wide(a: u128, b: u128) -> (u128, u128) {
    let (ah, al) = (a >> 64, a & u64::MAX as u128);
    let (bh, bl) = (b >> 64, b & u64::MAX as u128);
    let (low, cross) = (al * bl, ah * bl);
    let middle = cross + (low >> 64);
    let (other, carry) = (al * bh).overflowing_add(middle);
    let high = ah * bh + (other >> 64) + ((carry as u128) << 64);
    (high, other << 64 | low & u64::MAX as u128)
}

/// `floor(n · 2^128 / d)`-ish with a jammed lowest bit; needs `n < d` and bit 127 of `d` set.
fn div_fraction(n: u128, d: u128) -> u128 {
    let (high, rest) = div_wide_digit(n, d);
    let (low, rest) = div_wide_digit(rest, d);
    (high as u128) << 64 | low as u128 | (rest != 0) as u128
}

/// One 64-bit quotient digit of `rest · 2^64 / d`, with `rest < d`.
fn div_wide_digit(rest: u128, d: u128) -> (u64, u128) {
    let (top, bottom) = ((d >> 64) as u64, d as u64);
    let rest_top = (rest >> 64) as u64;
    let mut digit = if rest_top >= top { u64::MAX } else { div_128_by_64(rest, top).0 };
    let mut over = rest - digit as u128 * top as u128;
    let mut product = digit as u128 * bottom as u128;
    while over >> 64 == 0 && product > over << 64 {
        digit -= 1;
        over += top as u128;
        product -= bottom as u128;
    }
    (digit, (over << 64).wrapping_sub(product))
}

/// `±sig / 2^127 · 2^exp` with bit 127 of `sig` set. Never zero. Operations jam, so an exact result
/// stays recognisable as exact.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wide {
    pub neg: bool,
    pub exp: i32,
    pub sig: u128,
}

impl Wide {
    pub const ONE: Wide = Wide::new(0, 1 << 127);

    /// A positive value.
    pub const fn new(exp: i32, sig: u128) -> Wide {
        Wide { neg: false, exp, sig }
    }

    /// Normalises `fixed / 2^127 · 2^exp`; None for zero.
    pub fn normalised(neg: bool, exp: i32, fixed: u128) -> Option<Wide> {
        let shift = fixed.leading_zeros();
        (fixed != 0).then(|| Wide { neg, exp: exp - shift as i32, sig: fixed << shift })
    }

    pub fn negated(self) -> Wide {
        Wide { neg: !self.neg, ..self }
    }

    pub fn with_sign(self, neg: bool) -> Wide {
        Wide { neg, ..self }
    }

    /// The next smaller magnitude.
    pub fn just_below(self) -> Wide {
        if self.sig == 1 << 127 {
            Wide { exp: self.exp - 1, sig: u128::MAX, ..self }
        } else {
            Wide { sig: self.sig - 1, ..self }
        }
    }

    /// Multiplies by a power of two.
    pub fn scaled(self, by: i32) -> Wide {
        Wide { exp: self.exp + by, ..self }
    }

    pub fn mul(self, other: Wide) -> Wide {
        let (high, low) = mul_wide(self.sig, other.sig);
        let carry = (high >> 127) as u32;
        let sig = if carry == 0 { high << 1 | low >> 127 } else { high };
        let sticky = low << (1 - carry) != 0;
        Wide {
            neg: self.neg != other.neg,
            exp: self.exp + other.exp + carry as i32,
            sig: sig | sticky as u128,
        }
    }

    pub fn div(self, other: Wide) -> Wide {
        let neg = self.neg != other.neg;
        let exp = self.exp - other.exp;
        if self.sig == other.sig {
            return Wide { neg, exp, sig: 1 << 127 };
        }
        if self.sig < other.sig {
            // A quotient in (½, 1): bit 127 set already.
            return Wide { neg, exp: exp - 1, sig: div_fraction(self.sig, other.sig) };
        }
        // A quotient in (1, 2): halve the numerator first.
        let quotient = div_fraction(self.sig >> 1, other.sig) | self.sig & 1;
        Wide { neg, exp, sig: quotient }
    }

    /// The sum; None when the operands cancel exactly.
    pub fn add(self, other: Wide) -> Option<Wide> {
        let (big, small) =
            if (self.exp, self.sig) >= (other.exp, other.sig) { (self, other) } else { (other, self) };
        let distance = (big.exp - small.exp) as u32;
        if big.neg != small.neg {
            let rest = big.sig - shift_right_jam(small.sig, distance);
            return Wide::normalised(big.neg, big.exp, rest);
        }
        let (sum, carry) = big.sig.overflowing_add(shift_right_jam(small.sig, distance));
        if !carry {
            return Some(Wide { sig: sum, ..big });
        }
        let sig = sum >> 1 | sum & 1 | 1 << 127;
        Some(Wide { sig, exp: big.exp + 1, ..big })
    }

    /// The magnitude as a fraction of 2^128, rounded down; the value must be below one.
    pub fn fraction(self) -> u128 {
        debug_assert!(self.exp < 0);
        let shift = (-1 - self.exp) as u32;
        if shift >= 128 { 0 } else { self.sig >> shift }
    }
}
