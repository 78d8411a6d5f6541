//! Numbers of SSE: the two formats, MXCSR, and rounding of exact results.
//!
//! Every operation has two ways to its result. The **native** way lets the host's own arithmetic compute; it
//! is taken when rounding is to nearest, the precision exception is masked and already recorded (so it need
//! not be detected), and operands and result are ordinary numbers, which no other exception is possible for.
//! Everything else goes the **exact** way: integer arithmetic makes a significand of 128 bits, and [`round`]
//! turns it into the format with the flags of MXCSR. NaNs are always made by integer operations, so results
//! are the same on every host, wasm included.
//!
//! Source: Intel SDM vol. 1, 4.8, 10.2.3 and 11.5.

/// MXCSR bits (Intel SDM vol. 1, figure 10-3).
pub mod mxcsr {
    /// Invalid operation.
    pub const IE: u32 = 1 << 0;
    /// Denormal operand.
    pub const DE: u32 = 1 << 1;
    /// Division by zero.
    pub const ZE: u32 = 1 << 2;
    /// Overflow.
    pub const OE: u32 = 1 << 3;
    /// Underflow.
    pub const UE: u32 = 1 << 4;
    /// Inexact result.
    pub const PE: u32 = 1 << 5;
    /// The flags found before the operation: they win over those found after it.
    pub const BEFORE: u32 = IE | DE | ZE;
    /// Denormal operands count as zeros.
    pub const DAZ: u32 = 1 << 6;
    /// Where the masks of the flags begin.
    pub const MASK_SHIFT: u32 = 7;
    /// Rounding control.
    pub const RC_SHIFT: u32 = 13;
    /// Tiny results become zero while underflow is masked.
    pub const FTZ: u32 = 1 << 15;
    /// The bits that exist (MXCSR_MASK of FXSAVE).
    pub const ALL: u32 = 0xffff;
}
use mxcsr::{BEFORE, DAZ, DE, FTZ, IE, MASK_SHIFT, OE, PE, RC_SHIFT, UE};

/// MXCSR during one instruction.
#[derive(Clone, Copy, Debug)]
pub struct Env {
    /// MXCSR before it.
    pub control: u32,
    /// Flags that it raised; see [`Env::step`] for those of steps.
    pub flags: u32,
}

/// Rounding control.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rounding {
    Nearest,
    Down,
    Up,
    Zero,
}

impl Rounding {
    /// What the low two bits of `field` say.
    pub fn of(field: u32) -> Self {
        match field & 3 {
            0 => Self::Nearest,
            1 => Self::Down,
            2 => Self::Up,
            _ => Self::Zero,
        }
    }
}

impl Env {
    /// The environment that `control` describes.
    #[inline(always)]
    pub fn new(control: u32) -> Self {
        Self { control, flags: 0 }
    }

    /// Whether native arithmetic gives the right result and the right flags for ordinary numbers.
    #[inline(always)]
    pub fn native(&self) -> bool {
        const WANT: u32 = PE | PE << MASK_SHIFT;
        self.control & (WANT | 3 << RC_SHIFT) == WANT
    }

    /// Rounding control.
    pub fn rounding(&self) -> Rounding {
        Rounding::of(self.control >> RC_SHIFT)
    }

    /// Does step `n` of several: all its flags count as raised before those of the next.
    pub fn step<T>(&mut self, n: u32, f: impl FnOnce(&mut Self) -> T) -> T {
        let mut here = Self::new(self.control);
        let result = f(&mut here);
        self.flags |= here.flags << (STEP_BITS * n);
        result
    }

    /// The same with another rounding control.
    pub fn with_rounding(self, rounding: Rounding) -> Self {
        let control = self.control & !(3 << RC_SHIFT) | (rounding as u32) << RC_SHIFT;
        Self { control, ..self }
    }

    fn masked(&self, flag: u32) -> bool {
        self.control & flag << MASK_SHIFT != 0
    }

    /// Records an invalid operation; its masked result is the default NaN.
    #[cold]
    pub fn invalid<F: Layout>(&mut self) -> u64 {
        self.flags |= IE;
        F::INDEFINITE
    }
}

/// MXCSR after an instruction that raised `flags`, and whether one of them is unmasked. While one found
/// before the operation is, those found after it are not recorded (Intel SDM vol. 1, 11.5.3). An instruction of
/// several steps ends with the first that raises an unmasked one.
pub fn record(control: u32, flags: u32) -> (u32, bool) {
    let mut control = control;
    for step in (0..STEPS).map(|n| flags >> (STEP_BITS * n) & FLAGS).filter(|step| *step != 0) {
        let unmasked = step & !(control >> MASK_SHIFT);
        control |= if unmasked & BEFORE != 0 { step & BEFORE } else { step };
        if unmasked != 0 {
            return (control, true);
        }
    }
    (control, false)
}

/// Steps that an instruction has at most.
const STEPS: u32 = 3;
/// In [`Env::flags`] those of the next step are further up by this.
const STEP_BITS: u32 = 8;
/// Every flag.
const FLAGS: u32 = 0x3f;

/// A format; values are bit patterns in the low bits of a `u64`.
pub trait Layout: 'static {
    /// Stored bits of the fraction.
    const FRACTION: u32;
    /// Bits.
    const BITS: u32;
    /// Values in a register.
    const LANES: usize = 128 / Self::BITS as usize;
    /// The sign bit.
    const SIGN: u64 = 1 << (Self::BITS - 1);
    /// The fraction.
    const FRACTION_MASK: u64 = (1 << Self::FRACTION) - 1;
    /// Plus infinity, and all bits of the exponent.
    const INFINITY: u64 = (Self::SIGN - 1) & !Self::FRACTION_MASK;
    /// The bit that tells quiet NaNs.
    const QUIET: u64 = 1 << (Self::FRACTION - 1);
    /// The default NaN.
    const INDEFINITE: u64 = Self::SIGN | Self::INFINITY | Self::QUIET;
    /// The exponent field of 1.0.
    const BIAS: i32 = (Self::INFINITY >> Self::FRACTION >> 1) as i32;
}

/// Single or double precision.
pub trait Format: Layout {
    /// Native arithmetic on bit patterns.
    fn native<A: Native>(a: u64, b: u64) -> u64;
    /// Native square root.
    fn native_sqrt(a: u64) -> u64;
    /// Native conversion of an integer.
    fn native_from(value: i64) -> u64;
    /// The value, exactly.
    fn value(a: u64) -> f64;
}

/// An operation of the host.
pub trait Native {
    /// In single precision.
    fn single(a: f32, b: f32) -> f32;
    /// In double precision.
    fn double(a: f64, b: f64) -> f64;
}

/// Single precision.
pub struct Single;
/// Double precision.
pub struct Double;

impl Layout for Single {
    const FRACTION: u32 = 23;
    const BITS: u32 = 32;
}

impl Format for Single {
    #[inline(always)]
    fn native<A: Native>(a: u64, b: u64) -> u64 {
        A::single(f32::from_bits(a as u32), f32::from_bits(b as u32)).to_bits().into()
    }
    #[inline(always)]
    fn native_sqrt(a: u64) -> u64 {
        f32::from_bits(a as u32).sqrt().to_bits().into()
    }
    #[inline(always)]
    fn native_from(value: i64) -> u64 {
        (value as f32).to_bits().into()
    }
    #[inline(always)]
    fn value(a: u64) -> f64 {
        f32::from_bits(a as u32).into()
    }
}

impl Layout for Double {
    const FRACTION: u32 = 52;
    const BITS: u32 = 64;
}

impl Format for Double {
    #[inline(always)]
    fn native<A: Native>(a: u64, b: u64) -> u64 {
        A::double(f64::from_bits(a), f64::from_bits(b)).to_bits()
    }
    #[inline(always)]
    fn native_sqrt(a: u64) -> u64 {
        f64::from_bits(a).sqrt().to_bits()
    }
    #[inline(always)]
    fn native_from(value: i64) -> u64 {
        (value as f64).to_bits()
    }
    #[inline(always)]
    fn value(a: u64) -> f64 {
        f64::from_bits(a)
    }
}

/// Without its sign.
#[inline(always)]
pub fn magnitude<F: Layout>(a: u64) -> u64 {
    a & !F::SIGN
}

/// Any NaN.
#[inline(always)]
pub fn is_nan<F: Layout>(a: u64) -> bool {
    magnitude::<F>(a) > F::INFINITY
}

/// A signalling NaN.
#[inline(always)]
pub fn is_signalling<F: Layout>(a: u64) -> bool {
    is_nan::<F>(a) && a & F::QUIET == 0
}

/// Either zero.
#[inline(always)]
pub fn is_zero<F: Layout>(a: u64) -> bool {
    magnitude::<F>(a) == 0
}

/// Either infinity.
#[inline(always)]
pub fn is_infinite<F: Layout>(a: u64) -> bool {
    magnitude::<F>(a) == F::INFINITY
}

/// A denormal number.
#[inline(always)]
pub fn is_denormal<F: Layout>(a: u64) -> bool {
    a & F::INFINITY == 0 && a & F::FRACTION_MASK != 0
}

/// A normal number or zero: as an operand it raises nothing by itself.
#[inline(always)]
pub fn is_ordinary<F: Layout>(a: u64) -> bool {
    let one = 1 << F::FRACTION;
    (a & F::INFINITY).wrapping_sub(one) < F::INFINITY - one || is_zero::<F>(a)
}

/// A normal number that is not the smallest binade's: as a rounded result it neither overflowed nor was tiny.
#[inline(always)]
pub fn is_safe_result<F: Layout>(a: u64) -> bool {
    let two = 2 << F::FRACTION;
    (a & F::INFINITY).wrapping_sub(two) < F::INFINITY - two
}

/// What DAZ makes of an operand.
pub fn flush_operand<F: Layout>(env: &Env, a: u64) -> u64 {
    if env.control & DAZ != 0 && is_denormal::<F>(a) { a & F::SIGN } else { a }
}

/// Records denormal operands.
pub fn note_denormal<F: Layout>(env: &mut Env, a: u64) {
    if is_denormal::<F>(a) {
        env.flags |= DE;
    }
}

/// The NaN that an operation on `a` and `b` gives, if one is a NaN: the first that is, quieted
/// (Intel SDM vol. 1, table 4-7).
pub fn propagate<F: Layout>(env: &mut Env, a: u64, b: u64) -> Option<u64> {
    if !is_nan::<F>(a) && !is_nan::<F>(b) {
        return None;
    }
    if is_signalling::<F>(a) || is_signalling::<F>(b) {
        env.flags |= IE;
    }
    Some(if is_nan::<F>(a) { a } else { b } | F::QUIET)
}

/// A finite number other than zero, exactly: `significand / 2^127 * 2^exponent`, bit 127 set.
#[derive(Clone, Copy, Debug)]
pub struct Exact {
    /// Below zero.
    pub negative: bool,
    /// Of the leading bit.
    pub exponent: i32,
    /// The digits; the last bit may stand for any nonzero rest.
    pub significand: u128,
}

impl Exact {
    /// The value of `significand / 2^127 * 2^exponent` with any leading zeros; `None` for zero.
    pub fn normalise(negative: bool, exponent: i32, significand: u128) -> Option<Self> {
        let zeros = significand.leading_zeros();
        (significand != 0).then(|| Self {
            negative,
            exponent: exponent - zeros as i32,
            significand: significand << zeros,
        })
    }

    /// The value of an integer; `None` for zero.
    pub fn of_integer(value: i64) -> Option<Self> {
        Self::normalise(value < 0, 127, value.unsigned_abs().into())
    }

    /// The value of a finite bit pattern; `None` for zero.
    pub fn of<F: Layout>(a: u64) -> Option<Self> {
        let field = ((a & F::INFINITY) >> F::FRACTION) as i32;
        let hidden = u64::from(field != 0) << F::FRACTION;
        let digits = a & F::FRACTION_MASK | hidden;
        let exponent = field.max(1) - F::BIAS + 127 - F::FRACTION as i32;
        Self::normalise(a & F::SIGN != 0, exponent, digits.into())
    }

    /// The leading 64 bits, which are all there are of a number that came out of a format.
    pub fn high(&self) -> u64 {
        (self.significand >> 64) as u64
    }
}

/// `value >> by`, with the last bit set if bits were lost.
pub fn shift_sticky(value: u128, by: u32) -> u128 {
    if by == 0 {
        return value;
    }
    if by > 127 {
        return (value != 0).into();
    }
    value >> by | u128::from(value << (128 - by) != 0)
}

/// The leading `keep` (at most 64, below 0 counts from above the leading bit) bits of a normalised
/// significand, rounded, and whether anything was lost.
pub fn round_bits(x: &Exact, keep: i32, rounding: Rounding) -> (u128, bool) {
    const HALF: u128 = 1 << 127;
    let (kept, rest) = match keep {
        ..0 => (0, 1),
        0 => (0, x.significand),
        _ => (x.significand >> (128 - keep), x.significand << keep),
    };
    let up = match rounding {
        Rounding::Nearest => rest > HALF || rest == HALF && kept & 1 != 0,
        Rounding::Down => x.negative && rest != 0,
        Rounding::Up => !x.negative && rest != 0,
        Rounding::Zero => false,
    };
    (kept + u128::from(up), rest != 0)
}

/// Rounds to a format and records overflow, underflow and inexactness.
pub fn round<F: Layout>(env: &mut Env, x: &Exact) -> u64 {
    let sign = if x.negative { F::SIGN } else { 0 };
    let (mut digits, inexact) = round_bits(x, F::FRACTION as i32 + 1, env.rounding());
    let mut exponent = x.exponent;
    if digits >> (F::FRACTION + 1) != 0 {
        digits >>= 1;
        exponent += 1;
    }
    if exponent < 1 - F::BIAS {
        return sign | round_tiny::<F>(env, x, inexact);
    }
    if exponent > F::BIAS {
        return sign | overflow::<F>(env, x.negative, inexact);
    }
    if inexact {
        env.flags |= PE;
    }
    let field = (exponent + F::BIAS) as u64;
    sign | field << F::FRACTION | digits as u64 & F::FRACTION_MASK
}

/// Masked underflow is recorded only together with a loss of precision; flushing to zero counts as one.
#[cold]
fn round_tiny<F: Layout>(env: &mut Env, x: &Exact, inexact: bool) -> u64 {
    if !env.masked(UE) {
        env.flags |= UE | if inexact { PE } else { 0 };
        return 0;
    }
    if env.control & FTZ != 0 {
        env.flags |= UE | PE;
        return 0;
    }
    let keep = x.exponent + F::BIAS + F::FRACTION as i32;
    let (digits, inexact) = round_bits(x, keep, env.rounding());
    if inexact {
        env.flags |= UE | PE;
    }
    digits as u64
}

#[cold]
fn overflow<F: Layout>(env: &mut Env, negative: bool, inexact: bool) -> u64 {
    let lost = inexact || env.masked(OE);
    env.flags |= OE | if lost { PE } else { 0 };
    let to_infinity = match env.rounding() {
        Rounding::Nearest => true,
        Rounding::Down => negative,
        Rounding::Up => !negative,
        Rounding::Zero => false,
    };
    F::INFINITY - u64::from(!to_infinity)
}

/// Value `i` of a register.
#[inline(always)]
pub fn lane<F: Format>(v: [u64; 2], i: usize) -> u64 {
    match F::BITS {
        64 => v[i],
        _ => v[i / 2] >> (32 * (i & 1)) & 0xffff_ffff,
    }
}

/// A register of values that `f` makes.
#[inline(always)]
pub fn lanes<F: Format>(mut f: impl FnMut(usize) -> u64) -> [u64; 2] {
    match F::BITS {
        64 => [f(0), f(1)],
        _ => {
            let low = f(0) | f(1) << 32;
            [low, f(2) | f(3) << 32]
        }
    }
}

/// `v` with its lowest value replaced.
#[inline(always)]
pub fn with_low<F: Format>(v: [u64; 2], low: u64) -> [u64; 2] {
    match F::BITS {
        64 => [low, v[1]],
        _ => [v[0] & !0xffff_ffff | low, v[1]],
    }
}
