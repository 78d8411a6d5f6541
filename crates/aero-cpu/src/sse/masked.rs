//! Accesses that a mask chooses element by element: MASKMOV*, VMASKMOV*, VPMASKMOV*, and the gathers.
//!
//! Elements that are not chosen are not touched and cannot fault. A store is all or nothing. A gather is not: what
//! it has loaded stays, its mask tells what is missing, and it goes on from there when it runs again (Intel SDM
//! vol. 2, VGATHERDPS).

use super::vector::{LEGACY, Pack, VEX128, VEX256, Whole, length};
use crate::op::{Op, Run};
use crate::state::reg;
use crate::vcpu::{Stop, Vcpu};
use aero_x86::{Insn, Mnemonic as M, Operand};

/// Value `i` of `SIZE` bytes (4 or 8).
fn value<const SIZE: usize>(v: &Whole, i: usize) -> u64 {
    let word = v[i * SIZE / 16][i * SIZE / 8 % 2];
    if SIZE == 8 { word } else { word >> (32 * (i & 1)) & 0xffff_ffff }
}

/// Replaces value `i`.
fn set_value<const SIZE: usize>(v: &mut Whole, i: usize, new: u64) {
    let word = &mut v[i * SIZE / 16][i * SIZE / 8 % 2];
    let at = 32 * (i & 1);
    *word = if SIZE == 8 { new } else { *word & !(0xffff_ffff << at) | new << at };
}

fn chosen<const SIZE: usize>(mask: &Whole, i: usize) -> bool {
    value::<SIZE>(mask, i) >> (8 * SIZE - 1) != 0
}

fn load<const SIZE: usize>(v: &mut Vcpu<'_>, la: u64) -> Result<u64, Stop> {
    if SIZE == 8 { v.load(la) } else { v.load::<u32>(la).map(u64::from) }
}

/// The linear address of value `i` behind the memory operand. Only the operand's own offset wraps.
fn element<const SIZE: usize>(v: &mut Vcpu<'_>, op: &Op, i: usize, write: bool) -> Result<u64, Stop> {
    let at = crate::op::offset(v, op).wrapping_add((SIZE * i) as u64);
    v.linear(op.segment(), at, SIZE as u32, write)
}

/// VMASKMOVPS, VMASKMOVPD, VPMASKMOVD and VPMASKMOVQ as loads: what is not chosen is zero.
fn masked_load<const LEN: u8, const SIZE: usize>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.check_vector::<LEN>()?;
    let mask = v.vector(Pack::of(op).first);
    let mut result = [[0; 2]; 2];
    for i in 0..16 * usize::from(LEN) / SIZE {
        if chosen::<SIZE>(&mask, i) {
            let la = element::<SIZE>(v, op, i, false)?;
            let loaded = load::<SIZE>(v, la)?;
            set_value::<SIZE>(&mut result, i, loaded);
        }
    }
    v.set_vector::<LEN>(op.dst, result);
    Ok(())
}

/// The same as stores.
fn masked_store<const LEN: u8, const SIZE: usize>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.check_vector::<LEN>()?;
    let (mask, from) = (v.vector(Pack::of(op).first), v.vector(op.src));
    let elements = || (0..16 * usize::from(LEN) / SIZE).filter(|i| chosen::<SIZE>(&mask, *i));
    for i in elements() {
        let la = element::<SIZE>(v, op, i, true)?;
        v.probe_write(la, SIZE as u32)?;
    }
    for i in elements() {
        let la = element::<SIZE>(v, op, i, true)?;
        let new = value::<SIZE>(&from, i);
        if SIZE == 8 { v.store(la, new)? } else { v.store(la, new as u32)? }
    }
    Ok(())
}

/// Stores the bytes of `from` whose `mask` byte is negative to `segment:rDI`. The whole range must be writable.
fn store_bytes(v: &mut Vcpu<'_>, op: &Op, from: &[u64], mask: &[u64]) -> Result<(), Stop> {
    let len = 8 * from.len() as u32;
    let at = v.st.gpr(reg::RDI) & op.address_mask();
    let la = v.linear(op.segment(), at, len, true)?;
    v.probe_write(la, len)?;
    for i in 0..8 * from.len() {
        let byte = |words: &[u64]| words[i / 8].to_le_bytes()[i % 8];
        if byte(mask) & 0x80 != 0 {
            v.store(la.wrapping_add(i as u64), byte(from))?;
        }
    }
    Ok(())
}

/// MASKMOVDQU and VMASKMOVDQU, with the mask in the register that the immediate names.
fn maskmovdqu<const LEN: u8>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.check_vector::<LEN>()?;
    let (from, mask) = (v.vector(op.src)[0], v.vector(op.imm as u8)[0]);
    store_bytes(v, op, &from, &mask)
}

/// MASKMOVQ.
fn maskmovq(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.check_mmx()?;
    let (from, mask) = (v.st.fpu.mmx(op.src), v.st.fpu.mmx(op.imm as u8));
    store_bytes(v, op, &[from], &[mask])?;
    v.st.fpu.enter_mmx();
    Ok(())
}

/// In a gather's immediate: the destination is a YMM register. What is below is the number of elements.
const TO_YMM: u8 = 0x80;

/// A gather of elements of `SIZE` bytes with indices of `INDEX` bytes.
fn gather<const INDEX: usize, const SIZE: usize>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.check_vector::<VEX128>()?;
    let imm = op.imm as u8;
    let count = usize::from(imm & !TO_YMM);
    let mask_register = Pack::of(op).first;
    let (mut result, mut mask) = (v.vector(op.dst), v.vector(mask_register));
    let indices = v.vector(op.index);
    for i in 0..count {
        if chosen::<SIZE>(&mask, i) {
            match gather_one::<INDEX, SIZE>(v, op, &indices, i) {
                Ok(loaded) => set_value::<SIZE>(&mut result, i, loaded),
                Err(stop) => {
                    v.set_vector::<VEX256>(op.dst, result);
                    v.set_vector::<VEX256>(mask_register, mask);
                    return Err(stop);
                }
            }
        }
        set_value::<SIZE>(&mut mask, i, 0);
    }
    if imm & TO_YMM == 0 {
        result[1] = [0; 2];
    }
    if count * SIZE == 8 {
        result[0][1] = 0;
    }
    v.set_vector::<VEX256>(op.dst, result);
    v.set_vector::<VEX256>(mask_register, [[0; 2]; 2]);
    Ok(())
}

fn gather_one<const INDEX: usize, const SIZE: usize>(
    v: &mut Vcpu<'_>,
    op: &Op,
    indices: &Whole,
    i: usize,
) -> Result<u64, Stop> {
    let index = value::<INDEX>(indices, i);
    let index = if INDEX == 4 { i64::from(index as i32) as u64 } else { index };
    let base = v.st.gpr(op.base).wrapping_add(op.disp as u64);
    let at = base.wrapping_add(index << op.scale()) & op.address_mask();
    let la = v.linear(op.segment(), at, SIZE as u32, false)?;
    load::<SIZE>(v, la)
}

fn vector_number(operand: Operand) -> u8 {
    match operand {
        Operand::Xmm(n) | Operand::Ymm(n) | Operand::Mm(n) => n,
        _ => 0,
    }
}

/// The handler of a masked access; packs its operands into `op`.
pub fn bind(insn: &Insn, op: &mut Op) -> Option<Run> {
    by_bytes(insn, op).or_else(|| moves(insn, op)).or_else(|| gathers(insn, op))
}

fn by_bytes(insn: &Insn, op: &mut Op) -> Option<Run> {
    let run = match insn.mnemonic {
        M::Maskmovdqu => maskmovdqu::<LEGACY>,
        M::Vmaskmovdqu => maskmovdqu::<VEX128>,
        M::Maskmovq => maskmovq,
        _ => return None,
    };
    op.imm = vector_number(insn.operands[2]).into();
    Some(run)
}

fn moves(insn: &Insn, op: &mut Op) -> Option<Run> {
    let size = match insn.mnemonic {
        M::Vmaskmovps | M::Vpmaskmovd => 4,
        M::Vmaskmovpd | M::Vpmaskmovq => 8,
        _ => return None,
    };
    op.dst = vector_number(insn.operands[0]);
    op.src = vector_number(insn.operands[2]);
    op.imm = Pack { first: vector_number(insn.operands[1]), third: 0, row: 0 }.with(0);
    let store = insn.operands[0] == Operand::Mem;
    Some(match (length(insn), size, store) {
        (VEX256, 4, false) => masked_load::<VEX256, 4>,
        (VEX256, 4, true) => masked_store::<VEX256, 4>,
        (VEX256, _, false) => masked_load::<VEX256, 8>,
        (VEX256, _, true) => masked_store::<VEX256, 8>,
        (_, 4, false) => masked_load::<VEX128, 4>,
        (_, 4, true) => masked_store::<VEX128, 4>,
        (_, _, false) => masked_load::<VEX128, 8>,
        (_, _, true) => masked_store::<VEX128, 8>,
    })
}

fn gathers(insn: &Insn, op: &mut Op) -> Option<Run> {
    let (run, index, size): (Run, u8, u8) = match insn.mnemonic {
        M::Vgatherdps | M::Vpgatherdd => (gather::<4, 4>, 4, 4),
        M::Vgatherdpd | M::Vpgatherdq => (gather::<4, 8>, 4, 8),
        M::Vgatherqps | M::Vpgatherqd => (gather::<8, 4>, 8, 4),
        M::Vgatherqpd | M::Vpgatherqq => (gather::<8, 8>, 8, 8),
        _ => return None,
    };
    let ymm = matches!(insn.operands[0], Operand::Ymm(_));
    // With a vector index the memory operand's size is the index register's.
    let count = (if ymm { 32 } else { 16 } / size).min(insn.mem.size / index);
    op.dst = vector_number(insn.operands[0]);
    let imm = count | if ymm { TO_YMM } else { 0 };
    op.imm = Pack { first: vector_number(insn.operands[2]), third: 0, row: 0 }.with(imm.into());
    Some(run)
}
