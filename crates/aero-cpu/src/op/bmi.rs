//! BMI1, BMI2, ADX, CRC32, TZCNT, LZCNT, MOVBE: what came after the first 64-bit processors.
//!
//! Most take a source `s` (register or memory) and a second number `by`: the register that VEX.vvvv names, the
//! destination itself, or an immediate. [`bind`] packs `by`'s register into the immediate. VEX encodings exist in
//! protected mode only; the decoder does not see the mode, so the handlers ask. (Intel SDM vol. 2A, 2.6.)

use super::{Any, Op, Run, data};
use crate::state::{Flags, reg};
use crate::vcpu::{Stop, Vcpu};
use crate::word::Word;
use crate::{bind, sized};
use aero_x86::{CodeSize, Insn, Mnemonic, Operand};

/// An operation on `s` and `by`.
pub trait Extract {
    /// Encoded with VEX.
    const VEX: bool = true;
    /// Result and flags.
    fn apply<T: Word>(f: Flags, s: T, by: u64) -> (T, Flags);
}

macro_rules! extract {
    ($($(#[$doc:meta])* $name:ident, $vex:expr, |$f:ident, $s:ident: $t:ident, $by:ident| $body:expr;)*) => {$(
        $(#[$doc])*
        pub struct $name;
        impl Extract for $name {
            const VEX: bool = $vex;
            #[inline(always)]
            fn apply<$t: Word>($f: Flags, $s: $t, $by: u64) -> ($t, Flags) {
                $body
            }
        }
    )*};
}

/// Flags of a logic result with a carry.
fn logic<T: Word>(r: u64, cf: bool) -> (T, Flags) {
    let r = T::trunc(r);
    (r, Flags::of_logic(r).with_cf_of(cf, false))
}

/// The lowest `n` bits set.
fn low_bits(n: u64) -> u64 {
    if n < 64 { (1 << n) - 1 } else { u64::MAX }
}

fn shift_count<T: Word>(by: u64) -> u64 {
    by & u64::from(T::BITS - 1)
}

/// `s + by + carry` and the carry out.
fn add_carry<T: Word>(s: T, by: u64, carry: bool) -> (T, bool) {
    let wide = u128::from(s.zext()) + u128::from(by) + u128::from(carry);
    (T::trunc(wide as u64), wide >> T::BITS != 0)
}

extract! {
    /// TZCNT: the width for a source of zero.
    Tzcnt, false, |_f, s: T, _by| {
        let n = if s.zext() == 0 { T::BITS } else { s.zext().trailing_zeros() };
        logic(n.into(), s.zext() == 0)
    };
    /// LZCNT.
    Lzcnt, false, |_f, s: T, _by| logic((s.zext().leading_zeros() + T::BITS - 64).into(), s.zext() == 0);
    /// ADCX: only the carry.
    Adcx, false, |f, s: T, by| {
        let (r, carry) = add_carry(s, by, f.cf());
        (r, f.with_cf_of(carry, f.of()))
    };
    /// ADOX: only the overflow flag, as a carry.
    Adox, false, |f, s: T, by| {
        let (r, carry) = add_carry(s, by, f.of());
        (r, f.with_cf_of(f.cf(), carry))
    };
    /// ANDN.
    Andn, true, |_f, s: T, by| logic(s.zext() & !by, false);
    /// BEXTR: `by` holds the first bit and, above it, how many.
    Bextr, true, |_f, s: T, by| {
        let from = s.zext().checked_shr(by as u32 & 0xff).unwrap_or(0);
        logic(from & low_bits(by >> 8 & 0xff), false)
    };
    /// BLSI: the lowest set bit.
    Blsi, true, |_f, s: T, _by| logic(s.zext() & s.zext().wrapping_neg(), s.zext() != 0);
    /// BLSMSK: up to the lowest set bit.
    Blsmsk, true, |_f, s: T, _by| logic(s.zext() ^ s.zext().wrapping_sub(1), s.zext() == 0);
    /// BLSR: without the lowest set bit.
    Blsr, true, |_f, s: T, _by| logic(s.zext() & s.zext().wrapping_sub(1), s.zext() == 0);
    /// BZHI: the bits below `by`.
    Bzhi, true, |_f, s: T, by| {
        let n = by & 0xff;
        logic(s.zext() & low_bits(n), n >= T::BITS.into())
    };
    /// PEXT: gathers the bits under the mask `s`.
    Pext, true, |f, s: T, by| (T::trunc(gather(by, s.zext())), f);
    /// PDEP: scatters low bits to the mask `s`.
    Pdep, true, |f, s: T, by| (T::trunc(scatter(by, s.zext())), f);
    /// RORX.
    Rorx, true, |f, s: T, by| {
        let (n, s) = (shift_count::<T>(by), s.zext());
        (T::trunc(s >> n | s.checked_shl(T::BITS - n as u32).unwrap_or(0)), f)
    };
    /// SARX.
    Sarx, true, |f, s: T, by| (T::trunc((s.sext() as i64 >> shift_count::<T>(by)) as u64), f);
    /// SHLX.
    Shlx, true, |f, s: T, by| (T::trunc(s.zext() << shift_count::<T>(by)), f);
    /// SHRX.
    Shrx, true, |f, s: T, by| (T::trunc(s.zext() >> shift_count::<T>(by)), f);
}

/// The positions of a mask's bits, lowest first.
fn positions(mut mask: u64) -> impl Iterator<Item = u32> {
    core::iter::from_fn(move || {
        let at = (mask != 0).then(|| mask.trailing_zeros())?;
        mask &= mask - 1;
        Some(at)
    })
}

fn gather(from: u64, mask: u64) -> u64 {
    positions(mask).enumerate().fold(0, |r, (n, at)| r | (from >> at & 1) << n)
}

fn scatter(from: u64, mask: u64) -> u64 {
    positions(mask).enumerate().fold(0, |r, (n, at)| r | (from >> n & 1) << at)
}

/// #UD for VEX in real and VM86 mode.
#[inline(always)]
fn check_vex(v: &mut Vcpu<'_>) -> Result<(), Stop> {
    if v.mode.code == CodeSize::B16 && v.st.real_segments() { Err(v.ud()) } else { Ok(()) }
}

#[inline(always)]
fn finish<T: Word, O: Extract, const IMM: bool>(v: &mut Vcpu<'_>, op: &Op, s: T) {
    let by = if IMM { op.imm } else { v.st.reg::<T>(op.imm as u8).zext() };
    let (r, flags) = O::apply(v.st.flags, s, by);
    v.st.flags = flags;
    v.st.set_reg(op.dst, r);
}

/// From a register.
fn from_register<T: Word, O: Extract, const IMM: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    if O::VEX {
        check_vex(v)?;
    }
    let s = v.st.reg(op.src);
    finish::<T, O, IMM>(v, op, s);
    Ok(())
}

/// From memory.
fn from_memory<T: Word, O: Extract, const IMM: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    if O::VEX {
        check_vex(v)?;
    }
    let s = v.load_ea::<T, Any>(op)?;
    finish::<T, O, IMM>(v, op, s);
    Ok(())
}

/// MULX: `dst` gets the upper half, the register in `imm` the lower one; one register for both keeps the upper.
fn mulx<T: Word, const MEMORY: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    check_vex(v)?;
    let s: T = if MEMORY { v.load_ea::<T, Any>(op)? } else { v.st.reg(op.src) };
    let wide = u128::from(s.zext()) * u128::from(v.st.reg::<T>(reg::RDX * 8).zext());
    v.st.set_reg(op.imm as u8, T::trunc(wide as u64));
    v.st.set_reg(op.dst, T::trunc((wide >> T::BITS) as u64));
    Ok(())
}

/// One byte's worth of the CRC-32C remainder, bits reflected (Intel SDM vol. 2A, CRC32).
const fn crc_of_byte(byte: u32) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let (mut crc, mut bit) = (byte, 0);
    while bit < 8 {
        crc = crc >> 1 ^ if crc & 1 != 0 { POLYNOMIAL } else { 0 };
        bit += 1;
    }
    crc
}

static CRC: [u32; 256] = {
    let (mut table, mut n) = ([0; 256], 0);
    while n < 256 {
        table[n] = crc_of_byte(n as u32);
        n += 1;
    }
    table
};

/// CRC32: accumulates a source of `T` into a 32-bit destination.
fn crc32<T: Word, const MEMORY: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let s: T = if MEMORY { v.load_ea::<T, Any>(op)? } else { v.st.reg(op.src) };
    let bytes = s.zext().to_le_bytes();
    let crc = bytes[..T::BYTES as usize]
        .iter()
        .fold(v.st.reg::<u32>(op.dst), |crc, byte| crc >> 8 ^ CRC[usize::from(crc as u8 ^ byte)]);
    v.st.set_reg(op.dst, crc);
    Ok(())
}

/// Where an instruction has its second number.
enum By {
    Nothing,
    Operand(usize),
    Destination,
}

/// Picks the handler.
pub fn bind(insn: &Insn, op: &mut Op) -> Option<Run> {
    use By::{Destination, Nothing, Operand as At};
    Some(match insn.mnemonic {
        Mnemonic::Tzcnt => extract::<Tzcnt>(insn, op, 1, Nothing),
        Mnemonic::Lzcnt => extract::<Lzcnt>(insn, op, 1, Nothing),
        Mnemonic::Adcx => extract::<Adcx>(insn, op, 1, Destination),
        Mnemonic::Adox => extract::<Adox>(insn, op, 1, Destination),
        Mnemonic::Andn => extract::<Andn>(insn, op, 2, At(1)),
        Mnemonic::Bextr => extract::<Bextr>(insn, op, 1, At(2)),
        Mnemonic::Blsi => extract::<Blsi>(insn, op, 1, Nothing),
        Mnemonic::Blsmsk => extract::<Blsmsk>(insn, op, 1, Nothing),
        Mnemonic::Blsr => extract::<Blsr>(insn, op, 1, Nothing),
        Mnemonic::Bzhi => extract::<Bzhi>(insn, op, 1, At(2)),
        Mnemonic::Pext => extract::<Pext>(insn, op, 2, At(1)),
        Mnemonic::Pdep => extract::<Pdep>(insn, op, 2, At(1)),
        Mnemonic::Sarx => extract::<Sarx>(insn, op, 1, At(2)),
        Mnemonic::Shlx => extract::<Shlx>(insn, op, 1, At(2)),
        Mnemonic::Shrx => extract::<Shrx>(insn, op, 1, At(2)),
        Mnemonic::Rorx => match (bind::size_of(insn, 0), insn.operands[1]) {
            (4, Operand::Mem) => from_memory::<u32, Rorx, true>,
            (4, _) => from_register::<u32, Rorx, true>,
            (_, Operand::Mem) => from_memory::<u64, Rorx, true>,
            _ => from_register::<u64, Rorx, true>,
        },
        Mnemonic::Mulx => {
            op.src = bind::register(insn.operands[2]);
            op.imm = bind::register(insn.operands[1]).into();
            match (bind::size_of(insn, 0), insn.operands[2]) {
                (4, Operand::Mem) => mulx::<u32, true>,
                (4, _) => mulx::<u32, false>,
                (_, Operand::Mem) => mulx::<u64, true>,
                _ => mulx::<u64, false>,
            }
        }
        Mnemonic::Crc32 => match insn.operands[1] {
            Operand::Mem => sized!(bind::size_of(insn, 1), crc32, true),
            _ => sized!(bind::size_of(insn, 1), crc32, false),
        },
        Mnemonic::Movbe => match insn.operands[0] {
            Operand::Mem => sized!(bind::size_of(insn, 0), data::movbe_mr, Any),
            _ => sized!(bind::size_of(insn, 0), data::movbe_rm, Any),
        },
        _ => return None,
    })
}

/// `source` is the operand that may be memory.
fn extract<O: Extract>(insn: &Insn, op: &mut Op, source: usize, by: By) -> Run {
    op.src = bind::register(insn.operands[source]);
    op.imm = u64::from(match by {
        By::Nothing | By::Destination => op.dst,
        By::Operand(n) => bind::register(insn.operands[n]),
    });
    match insn.operands[source] {
        Operand::Mem => sized!(bind::size_of(insn, 0), from_memory, O, false),
        _ => sized!(bind::size_of(insn, 0), from_register, O, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_of_the_check_string_is_the_published_one() {
        let crc = b"123456789".iter().fold(!0u32, |crc, b| crc >> 8 ^ CRC[usize::from(crc as u8 ^ b)]);
        assert_eq!(!crc, 0xe306_9283);
    }

    #[test]
    fn scatter_undoes_gather_under_one_mask() {
        let (value, mask) = (0x0123_4567_89ab_cdef, 0xf0f0_1248_8421_ffff);
        assert_eq!(scatter(gather(value, mask), mask), value & mask);
        assert_eq!(gather(u64::MAX, mask), low_bits(mask.count_ones().into()));
    }

    #[test]
    fn field_beyond_the_source_is_empty() {
        let extract = |by| Bextr::apply(Flags::default(), 0x8000_0001u32, by).0;
        assert_eq!((extract(0x0120), extract(0x0140), extract(0xff1f), extract(0)), (0, 0, 1, 0));
    }
}
