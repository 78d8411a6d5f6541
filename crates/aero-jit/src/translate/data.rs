//! MOV and its kin, LEA, XCHG, XADD, CMPXCHG, SETcc, CMOVcc, sign extensions, BSWAP, bit tests and scans.
//!
//! LOCK needs nothing more: one processor runs, and an instruction is not interrupted.

use super::{Dest, Translator, mask, operand_size, type_of};
use crate::ir::{Binary, Inst, Type, Unary, Value, Var};
use aero_cpu::bind::{CMOVCC, SETCC, condition};
use aero_cpu::jit::FlagKind;
use aero_cpu::state::reg;
use aero_x86::{Insn, Mnemonic, Operand};

impl Translator<'_> {
    pub(super) fn data(&mut self, insn: &Insn) -> Option<()> {
        use Mnemonic as M;
        match insn.mnemonic {
            M::Mov | M::Movnti => self.mov(insn),
            M::Movzx => self.extend(insn, false),
            M::Movsx | M::Movsxd => self.extend(insn, true),
            M::Lea => self.lea(insn),
            M::Xchg => self.exchange(insn),
            M::Xadd => self.exchange_add(insn),
            M::Cmpxchg => self.compare_exchange(insn),
            M::Bswap => self.swap_bytes(insn),
            M::Cbw => self.extend_accumulator(1, 2),
            M::Cwde => self.extend_accumulator(2, 4),
            M::Cdqe => self.extend_accumulator(4, 8),
            M::Cwd => self.extend_into_dx(2),
            M::Cdq => self.extend_into_dx(4),
            M::Cqo => self.extend_into_dx(8),
            M::Nop | M::Pause | M::Reservednop | M::Endbr32 | M::Endbr64 => Some(()),
            M::Lfence | M::Mfence | M::Sfence => Some(()),
            M::Prefetchnta | M::Prefetcht0 | M::Prefetcht1 | M::Prefetcht2 | M::Prefetchw => Some(()),
            M::Bt => self.bit_test(insn, None),
            M::Bts => self.bit_test(insn, Some(Binary::Or)),
            M::Btr => self.bit_test(insn, Some(Binary::And)),
            M::Btc => self.bit_test(insn, Some(Binary::Xor)),
            M::Bsf | M::Bsr => self.scan(insn),
            M::Tzcnt | M::Lzcnt => self.count_zeros(insn),
            M::Popcnt => self.population(insn),
            m => {
                if let Some(cc) = condition(&SETCC, m) {
                    return self.setcc(insn, cc);
                }
                self.cmov(insn, condition(&CMOVCC, m)?)
            }
        }
    }

    fn mov(&mut self, insn: &Insn) -> Option<()> {
        let size = operand_size(insn, 0)?;
        match insn.operands[0] {
            Operand::Gpr { reg, size, high } => {
                let value = self.read_sized(insn, 1, size)?;
                self.write_register(reg, size, high, value);
            }
            Operand::Mem => {
                let address = self.address(insn)?;
                let value = self.read_sized(insn, 1, size)?;
                self.store(address, size, value);
            }
            _ => return None,
        }
        Some(())
    }

    fn extend(&mut self, insn: &Insn, signed: bool) -> Option<()> {
        let (to, from) = (operand_size(insn, 0)?, operand_size(insn, 1)?);
        let Operand::Gpr { reg, .. } = insn.operands[0] else { return None };
        let ty = type_of(to);
        let value = if insn.operands[1] == Operand::Mem {
            let address = self.address(insn)?;
            self.emit(Inst::Load { address, size: from, signed, ty })
        } else {
            let value = self.read(insn, 1)?;
            let value = if signed { self.signed(from, value) } else { value };
            match (to, signed) {
                (8, true) => self.un(Unary::ExtendS, value),
                (8, false) => self.un(Unary::ExtendU, value),
                _ => value,
            }
        };
        let value = self.clean(to, value);
        self.write_register(reg, to, false, value);
        Some(())
    }

    fn lea(&mut self, insn: &Insn) -> Option<()> {
        let Operand::Gpr { reg, size, .. } = insn.operands[0] else { return None };
        let offset = self.offset(insn)?;
        let value = self.narrow(size, offset);
        self.write_register(reg, size, false, value);
        Some(())
    }

    fn exchange(&mut self, insn: &Insn) -> Option<()> {
        let (dest, a) = self.modify(insn, 0)?;
        let (other, b) = self.modify(insn, 1)?;
        if other.is_memory() {
            return None;
        }
        self.write(dest, b);
        self.write(other, a);
        Some(())
    }

    fn exchange_add(&mut self, insn: &Insn) -> Option<()> {
        let size = operand_size(insn, 0)?;
        let (dest, a) = self.modify(insn, 0)?;
        let (other, b) = self.modify(insn, 1)?;
        let sum = self.bin(Binary::Add, a, b);
        let result = self.clean(size, sum);
        self.flags(FlagKind::ADD, size, a, b);
        self.write(other, a);
        self.write(dest, result);
        Some(())
    }

    /// The destination is written in either case; of the registers only the one that changes.
    fn compare_exchange(&mut self, insn: &Insn) -> Option<()> {
        let size = operand_size(insn, 0)?;
        let (dest, seen) = self.modify(insn, 0)?;
        let new = self.read(insn, 1)?;
        let want = self.read_register(reg::RAX, size, false);
        let equal = self.bin(Binary::Eq, want, seen);
        let stored = self.select(equal, new, seen);
        if dest.is_memory() {
            self.flags(FlagKind::SUB, size, want, seen);
            self.write(dest, stored);
        } else {
            // A 32-bit destination that stays keeps its upper half.
            let Dest::Register { reg, high, .. } = dest else { return None };
            let before = self.gpr(reg);
            self.flags(FlagKind::SUB, size, want, seen);
            self.write_register(reg, size, high, stored);
            let after = self.gpr(reg);
            let kept = self.select(equal, after, before);
            self.set_gpr(reg, kept);
            if reg == reg::RAX && !high {
                return Some(());
            }
        }
        // AH may be the destination.
        let before = self.gpr(reg::RAX);
        self.write_register(reg::RAX, size, false, seen);
        let after = self.gpr(reg::RAX);
        let rax = self.select(equal, before, after);
        self.set_gpr(reg::RAX, rax);
        Some(())
    }

    fn swap_bytes(&mut self, insn: &Insn) -> Option<()> {
        let Operand::Gpr { reg, size, .. } = insn.operands[0] else { return None };
        let value = self.read(insn, 0)?;
        let ty = type_of(size);
        // Neighbouring bytes change places, then neighbouring pairs, then halves.
        let mut swapped = value;
        let steps: &[(u64, u64)] = match size {
            8 => &[(8, 0x00ff_00ff_00ff_00ff), (16, 0x0000_ffff_0000_ffff)],
            4 => &[(8, 0x00ff_00ff)],
            _ => return None,
        };
        for (by, kept) in steps {
            let down = self.bin_int(Binary::ShrU, ty, swapped, *by);
            let low = self.bin_int(Binary::And, ty, down, *kept);
            let masked = self.bin_int(Binary::And, ty, swapped, *kept);
            let high = self.bin_int(Binary::Shl, ty, masked, *by);
            swapped = self.bin(Binary::Or, low, high);
        }
        let swapped = self.bin_int(Binary::Rotl, ty, swapped, u64::from(size) * 4);
        self.write_register(reg, size, false, swapped);
        Some(())
    }

    fn extend_accumulator(&mut self, from: u8, to: u8) -> Option<()> {
        let value = self.read_register(reg::RAX, from, false);
        let value = self.signed(from, value);
        let value = if to == 8 { self.un(Unary::ExtendS, value) } else { value };
        let value = self.clean(to, value);
        self.write_register(reg::RAX, to, false, value);
        Some(())
    }

    fn extend_into_dx(&mut self, size: u8) -> Option<()> {
        let value = self.read_register(reg::RAX, size, false);
        let value = self.signed(size, value);
        let ty = type_of(size);
        let sign = self.bin_int(Binary::ShrS, ty, value, 8 * u64::from(ty.size()) - 1);
        let sign = self.clean(size, sign);
        self.write_register(reg::RDX, size, false, sign);
        Some(())
    }

    fn setcc(&mut self, insn: &Insn, cc: u8) -> Option<()> {
        match insn.operands[0] {
            Operand::Gpr { reg, size, high } => {
                let on = self.emit(Inst::Condition(cc));
                self.write_register(reg, size, high, on);
            }
            _ => {
                let address = self.address(insn)?;
                let on = self.emit(Inst::Condition(cc));
                self.store(address, 1, on);
            }
        }
        Some(())
    }

    /// The load happens in either case, and so does the clearing of the upper half.
    fn cmov(&mut self, insn: &Insn, cc: u8) -> Option<()> {
        let Operand::Gpr { reg, size, .. } = insn.operands[0] else { return None };
        let new = self.read_sized(insn, 1, size)?;
        let old = self.read(insn, 0)?;
        let when = self.emit(Inst::Condition(cc));
        let value = self.select(when, new, old);
        self.write_register(reg, size, false, value);
        Some(())
    }

    /// BT, BTS, BTR, BTC. With a register's number the bit may lie outside a memory operand: the interpreter's.
    fn bit_test(&mut self, insn: &Insn, change: Option<Binary>) -> Option<()> {
        let size = operand_size(insn, 0)?;
        let by_register = matches!(insn.operands[1], Operand::Gpr { .. });
        if by_register && insn.operands[0] == Operand::Mem {
            return None;
        }
        let (ty, bits) = (type_of(size), 8 * u64::from(size));
        let target = match change {
            Some(_) => Some(self.modify(insn, 0)?),
            None => None,
        };
        let value = match target {
            Some((_, value)) => value,
            None => self.read(insn, 0)?,
        };
        let number = self.read_sized(insn, 1, size)?;
        let number = self.bin_int(Binary::And, ty, number, bits - 1);
        let shifted = self.bin(Binary::ShrU, value, number);
        let bit = if size == 8 { self.un(Unary::Wrap, shifted) } else { shifted };
        let bit = self.bin_int(Binary::And, Type::I32, bit, 1);
        let written = change.map(|op| self.changed_bit(op, size, value, number));
        self.emit(Inst::Carry(bit));
        if let (Some((dest, _)), Some(value)) = (target, written) {
            self.write(dest, value);
        }
        Some(())
    }

    fn changed_bit(&mut self, op: Binary, size: u8, value: Value, number: Value) -> Value {
        let ty = type_of(size);
        let one = self.int(ty, 1);
        let bit = self.bin(Binary::Shl, one, number);
        let bit = if op == Binary::And { self.bin_int(Binary::Xor, ty, bit, mask(size)) } else { bit };
        self.bin(op, value, bit)
    }

    /// BSF and BSR: a zero source leaves the destination as it was, upper half included.
    fn scan(&mut self, insn: &Insn) -> Option<()> {
        let Operand::Gpr { reg, size, .. } = insn.operands[0] else { return None };
        let source = self.read_sized(insn, 1, size)?;
        let ty = type_of(size);
        let number = if insn.mnemonic == Mnemonic::Bsf {
            self.un(Unary::Ctz, source)
        } else {
            let zeros = self.un(Unary::Clz, source);
            self.bin_int(Binary::Xor, ty, zeros, 8 * u64::from(ty.size()) - 1)
        };
        let before = self.gpr(reg);
        let none = self.un(Unary::Eqz, source);
        self.logic_flags(size, source);
        self.write_register(reg, size, false, number);
        let after = self.emit(Inst::Get(Var::Gpr(reg)));
        let kept = self.select(none, before, after);
        self.set_gpr(reg, kept);
        Some(())
    }

    /// TZCNT and LZCNT, where the model has them: the interpreter knows their flags.
    fn count_zeros(&mut self, _insn: &Insn) -> Option<()> {
        None
    }

    fn population(&mut self, insn: &Insn) -> Option<()> {
        let Operand::Gpr { reg, size, .. } = insn.operands[0] else { return None };
        let source = self.read_sized(insn, 1, size)?;
        let count = self.un(Unary::Popcnt, source);
        let none = self.un(Unary::Eqz, source);
        // ZF alone: any result that is neither 0 nor negative, with the parity turned round.
        let word = self.word();
        let (zero, other) = (self.int(word, 0), self.int(word, 0x100));
        let result = self.select(none, zero, other);
        self.emit(Inst::Flags { kind: FlagKind::WORDS, a: result, b: other });
        self.write_register(reg, size, false, count);
        Some(())
    }
}
