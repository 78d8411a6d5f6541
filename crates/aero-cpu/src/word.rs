//! The four integer sizes, as the interpreter computes with them.

/// An operand of 1, 2, 4 or 8 bytes.
pub trait Word: Copy + Eq + Default + core::fmt::Debug + 'static {
    /// Bytes.
    const BYTES: u32;
    /// Bits.
    const BITS: u32 = Self::BYTES * 8;

    /// The low bits of `v`.
    fn trunc(v: u64) -> Self;
    /// Zero-extended.
    fn zext(self) -> u64;
    /// Sign-extended.
    fn sext(self) -> u64;

    /// The sign bit.
    #[inline(always)]
    fn sign(self) -> bool {
        self.sext() >> 63 != 0
    }
}

macro_rules! word {
    ($($u:ty, $i:ty, $bytes:expr;)*) => {$(
        impl Word for $u {
            const BYTES: u32 = $bytes;
            #[inline(always)]
            fn trunc(v: u64) -> Self {
                v as $u
            }
            #[inline(always)]
            fn zext(self) -> u64 {
                self as u64
            }
            #[inline(always)]
            fn sext(self) -> u64 {
                self as $i as i64 as u64
            }
        }
    )*};
}

word! { u8, i8, 1; u16, i16, 2; u32, i32, 4; u64, i64, 8; }
