//! The arithmetic flags: setting them from results, reading them back. See [`Flags`] for the representation.

use crate::state::{CpuState, Flags, eflags};
use crate::word::Word;

impl Flags {
    /// Carry.
    #[inline(always)]
    pub fn cf(self) -> bool {
        self.aux >> 31 != 0
    }

    /// Zero.
    #[inline(always)]
    pub fn zf(self) -> bool {
        self.result == 0
    }

    /// Sign.
    #[inline(always)]
    pub fn sf(self) -> bool {
        (self.result >> 63) as u32 ^ self.aux & 1 != 0
    }

    /// Overflow.
    #[inline(always)]
    pub fn of(self) -> bool {
        (self.aux ^ self.aux << 1) >> 31 != 0
    }

    /// Auxiliary carry.
    #[inline(always)]
    pub fn af(self) -> bool {
        self.aux & 8 != 0
    }

    /// Parity of the low byte.
    #[inline(always)]
    pub fn pf(self) -> bool {
        (self.result as u8 ^ (self.aux >> 8) as u8).count_ones() & 1 == 0
    }

    /// Flags of a result with the carry vector `carries` (bit *n* is the carry out of bit *n*).
    #[inline(always)]
    pub fn of_carries<T: Word>(result: T, carries: u64) -> Self {
        let top = (carries >> (T::BITS - 2)) as u32;
        Self { result: result.sext(), aux: top << 30 | carries as u32 & 8 }
    }

    /// Flags of `a + b (+ carry) = r`.
    #[inline(always)]
    pub fn of_add<T: Word>(a: T, b: T, r: T) -> Self {
        let (a, b) = (a.zext(), b.zext());
        Self::of_carries(r, a & b | (a | b) & !r.zext())
    }

    /// Flags of `a - b (- borrow) = r`.
    #[inline(always)]
    pub fn of_sub<T: Word>(a: T, b: T, r: T) -> Self {
        let (a, b) = (a.zext(), b.zext());
        Self::of_carries(r, !a & b | (!a | b) & r.zext())
    }

    /// Flags of a logic result: CF, OF and AF clear.
    #[inline(always)]
    pub fn of_logic<T: Word>(r: T) -> Self {
        Self { result: r.sext(), aux: 0 }
    }

    /// These flags with another carry, overflow kept.
    #[inline(always)]
    pub fn with_cf(self, cf: bool) -> Self {
        let flip = if self.cf() == cf { 0 } else { 3 << 30 };
        Self { aux: self.aux ^ flip, ..self }
    }

    /// These flags with carry and overflow replaced.
    #[inline(always)]
    pub fn with_cf_of(self, cf: bool, of: bool) -> Self {
        let top = u32::from(cf) << 31 | u32::from(cf ^ of) << 30;
        Self { aux: self.aux & !(3 << 30) | top, ..self }
    }

    /// As EFLAGS bits.
    pub fn bits(self) -> u64 {
        let bit = |on: bool, bit: u64| if on { bit } else { 0 };
        bit(self.cf(), eflags::CF)
            | bit(self.pf(), eflags::PF)
            | bit(self.af(), eflags::AF)
            | bit(self.zf(), eflags::ZF)
            | bit(self.sf(), eflags::SF)
            | bit(self.of(), eflags::OF)
    }

    /// From EFLAGS bits.
    pub fn from_bits(bits: u64) -> Self {
        let on = |bit: u64| bits & bit != 0;
        // A non-zero result with an even low byte and a clear sign; `aux` corrects parity and sign.
        let result = if on(eflags::ZF) { 0 } else { 0x100 };
        let aux =
            u32::from(on(eflags::SF)) | u32::from(!on(eflags::PF)) << 8 | if on(eflags::AF) { 8 } else { 0 };
        Self { result, aux }.with_cf_of(on(eflags::CF), on(eflags::OF))
    }

    /// Condition `cc` as the low four bits of Jcc, SETcc and CMOVcc encode it.
    #[inline(always)]
    pub fn condition<const CC: u8>(self) -> bool {
        let holds = match CC >> 1 {
            0 => self.of(),
            1 => self.cf(),
            2 => self.zf(),
            3 => self.cf() || self.zf(),
            4 => self.sf(),
            5 => self.pf(),
            6 => self.sf() != self.of(),
            _ => self.zf() || self.sf() != self.of(),
        };
        holds != (CC & 1 != 0)
    }
}

impl CpuState {
    /// The arithmetic flags as EFLAGS bits.
    pub fn arith(&self) -> u64 {
        self.flags.bits()
    }

    /// Sets the arithmetic flags from EFLAGS bits.
    pub fn set_arith(&mut self, bits: u64) {
        self.flags = Flags::from_bits(bits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_of_flags_is_kept() {
        for i in 0..64u64 {
            let spread = [eflags::CF, eflags::PF, eflags::AF, eflags::ZF, eflags::SF, eflags::OF];
            let bits = spread.iter().enumerate().map(|(n, b)| if i >> n & 1 != 0 { *b } else { 0 }).sum();
            assert_eq!(Flags::from_bits(bits).bits(), bits);
        }
    }

    #[test]
    fn addition_and_subtraction_of_all_bytes_match_the_definition() {
        for (a, b) in (0..=255u8).flat_map(|a| (0..=255u8).map(move |b| (a, b))) {
            let f = Flags::of_add(a, b, a.wrapping_add(b));
            assert_eq!(
                (f.cf(), f.of(), f.af()),
                (
                    a.checked_add(b).is_none(),
                    (a as i8).checked_add(b as i8).is_none(),
                    (a & 15) + (b & 15) > 15
                )
            );
            let f = Flags::of_sub(a, b, a.wrapping_sub(b));
            assert_eq!(
                (f.cf(), f.of(), f.af(), f.zf()),
                (a < b, (a as i8).checked_sub(b as i8).is_none(), a & 15 < b & 15, a == b)
            );
        }
    }

    #[test]
    fn carry_can_change_alone() {
        let f = Flags::of_add(0x7fu8, 1, 0x80);
        assert!(f.of() && !f.cf());
        let g = f.with_cf(true);
        assert!(g.of() && g.cf() && g.sf());
    }
}
