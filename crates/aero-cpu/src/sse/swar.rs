//! Lanes inside a 64-bit word, all at once with ordinary integer instructions.
//!
//! Compilers do not recognise lanes cut out of registers, so the common packed operations are written this way:
//! a few dozen instructions at most, the same on every host, and two words of an XMM register still become one
//! vector.

/// Words of lanes of `BITS` bits.
pub struct Swar<const BITS: u32>;

impl<const BITS: u32> Swar<BITS> {
    /// One lane full of ones.
    const LANE: u64 = u64::MAX >> (64 - BITS);
    /// The lowest bit of each lane.
    const LOW: u64 = u64::MAX / Self::LANE;
    /// The sign of each lane.
    const SIGN: u64 = Self::LOW << (BITS - 1);

    /// All ones in the lanes whose sign is set in `signs`, which has no other bits.
    #[inline(always)]
    fn fill(signs: u64) -> u64 {
        (signs << 1).wrapping_sub(signs >> (BITS - 1))
    }

    /// `a` where `mask` is set, `b` elsewhere.
    #[inline(always)]
    fn select(mask: u64, a: u64, b: u64) -> u64 {
        a & mask | b & !mask
    }

    /// Sum, wrapping.
    #[inline(always)]
    pub fn add(a: u64, b: u64) -> u64 {
        (a & !Self::SIGN).wrapping_add(b & !Self::SIGN) ^ (a ^ b) & Self::SIGN
    }

    /// Difference, wrapping.
    #[inline(always)]
    pub fn sub(a: u64, b: u64) -> u64 {
        (a | Self::SIGN).wrapping_sub(b & !Self::SIGN) ^ (a ^ !b) & Self::SIGN
    }

    /// The sign set where `a` is below `b`, both unsigned: the borrow of their difference.
    #[inline(always)]
    fn below(a: u64, b: u64) -> u64 {
        (!a & b | !(a ^ b) & Self::sub(a, b)) & Self::SIGN
    }

    /// What overflow saturates to: the limit with the sign of `a`.
    #[inline(always)]
    fn limit(a: u64) -> u64 {
        !Self::SIGN ^ Self::fill(a & Self::SIGN)
    }

    /// Sum, saturating at the unsigned maximum.
    #[inline(always)]
    pub fn add_unsigned(a: u64, b: u64) -> u64 {
        let r = Self::add(a, b);
        r | Self::fill((a & b | (a | b) & !r) & Self::SIGN)
    }

    /// Difference, saturating at zero.
    #[inline(always)]
    pub fn sub_unsigned(a: u64, b: u64) -> u64 {
        Self::sub(a, b) & !Self::fill(Self::below(a, b))
    }

    /// Sum, saturating at the signed limits.
    #[inline(always)]
    pub fn add_signed(a: u64, b: u64) -> u64 {
        let r = Self::add(a, b);
        Self::select(Self::fill(!(a ^ b) & (a ^ r) & Self::SIGN), Self::limit(a), r)
    }

    /// Difference, saturating at the signed limits.
    #[inline(always)]
    pub fn sub_signed(a: u64, b: u64) -> u64 {
        let r = Self::sub(a, b);
        Self::select(Self::fill((a ^ b) & (a ^ r) & Self::SIGN), Self::limit(a), r)
    }

    /// All ones where equal.
    #[inline(always)]
    pub fn equal(a: u64, b: u64) -> u64 {
        let x = a ^ b;
        Self::fill(!((x & !Self::SIGN).wrapping_add(!Self::SIGN) | x) & Self::SIGN)
    }

    /// All ones where `a` is above `b`, both signed.
    #[inline(always)]
    pub fn above(a: u64, b: u64) -> u64 {
        Self::fill(Self::below(b ^ Self::SIGN, a ^ Self::SIGN))
    }

    /// The smaller, unsigned.
    #[inline(always)]
    pub fn min_unsigned(a: u64, b: u64) -> u64 {
        Self::select(Self::fill(Self::below(a, b)), a, b)
    }

    /// The larger, unsigned.
    #[inline(always)]
    pub fn max_unsigned(a: u64, b: u64) -> u64 {
        Self::select(Self::fill(Self::below(a, b)), b, a)
    }

    /// The smaller, signed.
    #[inline(always)]
    pub fn min_signed(a: u64, b: u64) -> u64 {
        Self::select(Self::above(a, b), b, a)
    }

    /// The larger, signed.
    #[inline(always)]
    pub fn max_signed(a: u64, b: u64) -> u64 {
        Self::select(Self::above(a, b), a, b)
    }

    /// The mean, rounded up.
    #[inline(always)]
    pub fn average(a: u64, b: u64) -> u64 {
        (a | b) - (((a ^ b) & !Self::LOW) >> 1)
    }

    /// Shifted up by less than a lane.
    #[inline(always)]
    pub fn left(a: u64, by: u32) -> u64 {
        (a & (Self::LOW * (Self::LANE >> by))) << by
    }

    /// Shifted down by less than a lane, zeros coming in.
    #[inline(always)]
    pub fn right(a: u64, by: u32) -> u64 {
        (a >> by) & (Self::LOW * (Self::LANE >> by))
    }

    /// Shifted down by less than a lane, signs coming in.
    #[inline(always)]
    pub fn right_signed(a: u64, by: u32) -> u64 {
        Self::right(a, by) | Self::fill(a & Self::SIGN) & !(Self::LOW * (Self::LANE >> by))
    }
}

/// The lanes of `SIZE` bytes of two doublewords, in turn.
#[inline(always)]
pub fn interleave<const SIZE: usize>(a: u64, b: u64) -> u64 {
    let apart = |x: u64| match SIZE {
        1 => {
            let pairs = (x | x << 16) & 0x0000_ffff_0000_ffff;
            (pairs | pairs << 8) & 0x00ff_00ff_00ff_00ff
        }
        2 => (x | x << 16) & 0x0000_ffff_0000_ffff,
        _ => x,
    };
    apart(a) | apart(b) << (8 * SIZE)
}
