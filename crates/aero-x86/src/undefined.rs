//! What integer instructions leave undefined: flags, and now and then a result.
//!
//! The manual leaves some flags of some instructions to each processor, and processors of different makers differ in
//! them. [`undefined`] says which, so that a comparison with a real processor looks at the rest. What this processor puts
//! there is always the same and, where it is known, what Intel's put there; code that relies on it is wrong all the
//! same. (Intel SDM vol. 1, appendix A; vol. 2, "Flags Affected" of each instruction.)

use crate::insn::{Insn, Operand};
use iced_x86::Mnemonic;

/// Carry.
pub const CF: u64 = 1 << 0;
/// Parity.
pub const PF: u64 = 1 << 2;
/// Auxiliary carry.
pub const AF: u64 = 1 << 4;
/// Zero.
pub const ZF: u64 = 1 << 6;
/// Sign.
pub const SF: u64 = 1 << 7;
/// Overflow.
pub const OF: u64 = 1 << 11;

const ALL: u64 = CF | PF | AF | ZF | SF | OF;

/// What one execution leaves undefined.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Undefined {
    /// Bits of RFLAGS.
    pub flags: u64,
    /// The destination operand, register or memory.
    pub result: bool,
}

/// Instructions whose undefined flags do not depend on their operands.
const ALWAYS: &[(&[Mnemonic], u64)] = &[
    (&[Mnemonic::Aaa, Mnemonic::Aas], OF | SF | ZF | PF),
    (&[Mnemonic::Aad, Mnemonic::Aam], OF | AF | CF),
    (&[Mnemonic::Daa, Mnemonic::Das], OF),
    (&[Mnemonic::And, Mnemonic::Or, Mnemonic::Xor, Mnemonic::Test], AF),
    (&[Mnemonic::Andn, Mnemonic::Blsi, Mnemonic::Blsmsk, Mnemonic::Blsr, Mnemonic::Bzhi], AF | PF),
    (&[Mnemonic::Bextr], AF | SF | PF),
    (&[Mnemonic::Bsf, Mnemonic::Bsr], CF | OF | SF | AF | PF),
    (&[Mnemonic::Tzcnt, Mnemonic::Lzcnt], OF | SF | AF | PF),
    (&[Mnemonic::Bt, Mnemonic::Bts, Mnemonic::Btr, Mnemonic::Btc], OF | SF | AF | PF),
    (&[Mnemonic::Mul, Mnemonic::Imul], SF | ZF | AF | PF),
    (&[Mnemonic::Div, Mnemonic::Idiv], ALL),
];

/// What `insn` leaves undefined when it runs with `cl` in CL and, for BSF and BSR, with `source` as its source operand
/// (truncated to the operand size).
pub fn undefined(insn: &Insn, cl: u8, source: u64) -> Undefined {
    let flags = ALWAYS.iter().find(|(list, _)| list.contains(&insn.mnemonic)).map_or(0, |(_, flags)| *flags);
    match insn.mnemonic {
        Mnemonic::Bsf | Mnemonic::Bsr => Undefined { flags, result: source == 0 },
        Mnemonic::Bswap => Undefined { flags, result: bits(insn) == 16 },
        _ => by_count(insn, cl).unwrap_or(Undefined { flags, result: false }),
    }
}

/// Shifts and rotates: it depends on the count.
fn by_count(insn: &Insn, cl: u8) -> Option<Undefined> {
    let (bits, count) = (bits(insn), count(insn, cl));
    let overflow = if count > 1 { OF } else { 0 };
    use Mnemonic as M;
    let flags = match insn.mnemonic {
        M::Rol | M::Ror | M::Rcl | M::Rcr => overflow,
        M::Shl | M::Sal | M::Shr | M::Sar | M::Shld | M::Shrd if count == 0 => 0,
        M::Sar => overflow | AF,
        M::Shl | M::Sal | M::Shr if count >= bits => overflow | AF | CF,
        M::Shld | M::Shrd if count > bits => return Some(Undefined { flags: ALL, result: true }),
        M::Shl | M::Sal | M::Shr | M::Shld | M::Shrd => overflow | AF,
        _ => return None,
    };
    Some(Undefined { flags, result: false })
}

/// The destination's width.
fn bits(insn: &Insn) -> u32 {
    8 * match insn.operands[0] {
        Operand::Gpr { size, .. } => u32::from(size),
        _ => u32::from(insn.mem.size),
    }
}

/// A shift's count as its operand size masks it: an immediate or CL is its last operand.
fn count(insn: &Insn, cl: u8) -> u32 {
    let by = match insn.operands[usize::from(insn.count).clamp(1, 4) - 1] {
        Operand::Imm(value) => value as u32,
        _ => cl.into(),
    };
    by & if bits(insn) == 64 { 63 } else { 31 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CodeSize, Feature, Features, decode};

    fn of(bytes: &[u8], cl: u8, source: u64) -> Undefined {
        let insn = decode(bytes, CodeSize::B64, Features::of(Feature::ALL)).expect("legal");
        undefined(&insn, cl, source)
    }

    fn flags(bytes: &[u8], cl: u8) -> u64 {
        of(bytes, cl, 1).flags
    }

    #[test]
    fn logic_leaves_only_the_auxiliary_carry_undefined() {
        assert_eq!(flags(&[0x21, 0xc8], 0), AF);
        assert_eq!(flags(&[0x01, 0xc8], 0), 0);
    }

    #[test]
    fn shifts_depend_on_the_masked_count() {
        assert_eq!(flags(&[0xd3, 0xe0], 0x20), 0);
        assert_eq!(flags(&[0xd3, 0xe0], 0x21), AF);
        assert_eq!(flags(&[0xd1, 0xe0], 5), AF);
        assert_eq!(flags(&[0xc1, 0xe0, 2], 0), AF | OF);
        assert_eq!(flags(&[0xd2, 0xe0], 8), AF | OF | CF);
        assert_eq!(flags(&[0xd2, 0xf8], 8), AF | OF);
        assert_eq!(flags(&[0x48, 0xd3, 0xe0], 0x40), 0);
    }

    #[test]
    fn double_shift_beyond_the_width_leaves_the_result_undefined() {
        assert_eq!(of(&[0x66, 0x0f, 0xa4, 0xc2, 17], 0, 0), Undefined { flags: ALL, result: true });
        assert_eq!(of(&[0x66, 0x0f, 0xa5, 0xc2], 16, 0), Undefined { flags: AF | OF, result: false });
    }

    #[test]
    fn scan_of_zero_leaves_the_destination_undefined() {
        assert!(of(&[0x0f, 0xbc, 0xc1], 0, 0).result);
        assert!(!of(&[0x0f, 0xbc, 0xc1], 0, 8).result);
    }
}
