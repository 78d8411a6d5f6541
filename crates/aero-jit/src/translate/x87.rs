//! x87, by the functions of [`crate::x87`].
//!
//! Each instruction is a call, after its operand was loaded or its place found. Then the pointers of the instruction are
//! stored as the interpreter does (Intel SDM vol. 1, 8.1.8). What has no function the interpreter runs.

use super::Translator;
use super::sse::needs::Needs;
use crate::ir::{Binary, Inst, Type, Unary, Value};
use crate::simd::Op1;
use crate::x87::{Arith, Source, X87};
use aero_cpu::fpu::{Fpu, spec};
use aero_cpu::jit::FlagKind;
use aero_cpu::state::{CpuState, Segment, seg};
use aero_x86::{Insn, Mnemonic as M, Operand};
use core::mem::offset_of;

/// One, as a double.
const ONE: u64 = 0x3ff0_0000_0000_0000;
/// The register's sign, and its other bits.
const SIGN: u16 = 0x8000;

impl Translator<'_> {
    pub(super) fn x87(&mut self, insn: &Insn) -> Option<()> {
        if insn.x87_opcode == 0 || insn.mem.segment >= seg::FS && insn.operands.contains(&Operand::Mem) {
            return None;
        }
        self.x87_control(insn).or_else(|| {
            self.needs(Needs::X87);
            self.x87_load(insn)
                .or_else(|| self.x87_store(insn))
                .or_else(|| self.x87_move(insn))
                .or_else(|| self.x87_arith(insn))
                .or_else(|| self.x87_compare(insn))
        })
    }

    fn operation(&mut self, op: X87, x: u16, y: u16, value: Option<Value>) -> Value {
        let value = match value {
            Some(value) => value,
            None => self.int(Type::I64, 0),
        };
        self.emit(Inst::X87 { op, x, y, value })
    }

    /// Stores where the instruction lies, and its operand if it has one in memory.
    fn pointers(&mut self, insn: &Insn, operand: Option<Value>) {
        let opcode = self.int(Type::I32, u64::from(insn.x87_opcode & spec::FOP_MASK));
        self.set_fpu(offset_of!(Fpu, fop), 2, opcode);
        self.selector(seg::CS, offset_of!(Fpu, fcs));
        let rip = self.emit(Inst::Rip(self.at));
        let rip = if self.long { rip } else { self.un(Unary::ExtendU, rip) };
        self.set_fpu(offset_of!(Fpu, fip), 8, rip);
        if let Some(offset) = operand {
            self.selector(insn.mem.segment, offset_of!(Fpu, fds));
            let offset = if self.long { offset } else { self.un(Unary::ExtendU, offset) };
            self.set_fpu(offset_of!(Fpu, fdp), 8, offset);
        }
    }

    fn selector(&mut self, segment: u8, field: usize) {
        let at = offset_of!(CpuState, segments)
            + usize::from(segment) * size_of::<Segment>()
            + offset_of!(Segment, selector);
        let selector = self.emit(Inst::State { at: at as u32, size: 2, ty: Type::I32 });
        self.set_fpu(field, 2, selector);
    }

    fn set_fpu(&mut self, field: usize, size: u8, value: Value) {
        let at = (offset_of!(CpuState, fpu) + field) as u32;
        self.emit(Inst::SetState { at, size, value });
    }

    fn fpu(&mut self, field: usize, size: u8) -> Value {
        let at = (offset_of!(CpuState, fpu) + field) as u32;
        self.emit(Inst::State { at, size, ty: Type::I32 })
    }

    /// An operation on registers alone.
    fn on_stack(&mut self, insn: &Insn, op: X87, x: u16, y: u16) {
        self.operation(op, x, y, None);
        self.pointers(insn, None);
    }

    /// An operation with an operand in memory that `prepare` makes of `size` bytes.
    fn on_memory(
        &mut self,
        insn: &Insn,
        op: X87,
        y: u16,
        prepare: impl FnOnce(&mut Self, Value) -> Value,
    ) -> Option<()> {
        let size = insn.mem.size;
        let address = self.address(insn)?;
        let loaded = self.load(address, size);
        let value = prepare(self, loaded);
        self.operation(op, 0, y, Some(value));
        self.pointers(insn, Some(address));
        Some(())
    }

    /// An integer of `size` bytes with its sign in 64 bits.
    fn wide_integer(&mut self, size: u8, value: Value) -> Value {
        if size == 8 {
            return value;
        }
        let signed = self.signed(size, value);
        self.un(Unary::ExtendS, signed)
    }

    fn wide_bits(&mut self, size: u8, value: Value) -> Value {
        if size == 8 { value } else { self.un(Unary::ExtendU, value) }
    }

    fn x87_load(&mut self, insn: &Insn) -> Option<()> {
        let memory = insn.operands[0] == Operand::Mem;
        match (insn.mnemonic, memory, insn.mem.size) {
            (M::Fld, true, size @ (4 | 8)) => {
                let op = if size == 4 { X87::PushSingle } else { X87::PushDouble };
                self.on_memory(insn, op, 0, |t, v| t.wide_bits(size, v))?;
            }
            (M::Fild, true, size @ (2 | 4 | 8)) => {
                self.on_memory(insn, X87::PushInteger, 0, |t, v| t.wide_integer(size, v))?;
            }
            (M::Fld, false, _) => {
                let register = if insn.count == 1 { stack(insn, 0)? } else { stack(insn, 1)? };
                self.on_stack(insn, X87::PushStack, register, 0);
            }
            (M::Fld1 | M::Fldz, ..) => {
                let bits = if insn.mnemonic == M::Fld1 { ONE } else { 0 };
                let value = self.int(Type::I64, bits);
                self.operation(X87::PushDouble, 0, 0, Some(value));
                self.pointers(insn, None);
            }
            _ => return None,
        }
        Some(())
    }

    fn x87_store(&mut self, insn: &Insn) -> Option<()> {
        let memory = insn.operands[0] == Operand::Mem;
        let pop = u16::from(matches!(insn.mnemonic, M::Fstp | M::Fistp | M::Fisttp));
        let size = insn.mem.size;
        let (op, x) = match (insn.mnemonic, memory, size) {
            (M::Fst | M::Fstp, false, _) => {
                self.on_stack(insn, X87::Copy, stack(insn, 0)?, pop);
                return Some(());
            }
            (M::Fst | M::Fstp, true, 4) => (X87::PutSingle, pop),
            (M::Fst | M::Fstp, true, 8) => (X87::PutDouble, pop),
            (M::Fist | M::Fistp, true, 2 | 4 | 8) => (X87::PutInteger, pop),
            (M::Fisttp, true, 2 | 4 | 8) => (X87::PutInteger, pop | 2),
            _ => return None,
        };
        let address = self.address(insn)?;
        let place = self.emit(Inst::Place { address, size });
        let place = self.un(Unary::ExtendU, place);
        self.operation(op, x, size.into(), Some(place));
        self.pointers(insn, Some(address));
        Some(())
    }

    fn x87_move(&mut self, insn: &Insn) -> Option<()> {
        match insn.mnemonic {
            M::Fxch => {
                let register = stack(insn, 1).filter(|n| *n != 0).or_else(|| stack(insn, 0))?;
                self.on_stack(insn, X87::Exchange, register, 0);
            }
            M::Fchs => self.on_stack(insn, X87::Sign, u16::MAX, SIGN),
            M::Fabs => self.on_stack(insn, X87::Sign, !SIGN, 0),
            _ => return None,
        }
        Some(())
    }

    fn x87_arith(&mut self, insn: &Insn) -> Option<()> {
        let (arith, pop) = match insn.mnemonic {
            M::Fadd | M::Fiadd => (Arith::Add, 0),
            M::Fmul | M::Fimul => (Arith::Mul, 0),
            M::Fsub | M::Fisub => (Arith::Sub, 0),
            M::Fsubr | M::Fisubr => (Arith::SubR, 0),
            M::Fdiv | M::Fidiv => (Arith::Div, 0),
            M::Fdivr | M::Fidivr => (Arith::DivR, 0),
            M::Faddp => (Arith::Add, 8),
            M::Fmulp => (Arith::Mul, 8),
            M::Fsubp => (Arith::Sub, 8),
            M::Fsubrp => (Arith::SubR, 8),
            M::Fdivp => (Arith::Div, 8),
            M::Fdivrp => (Arith::DivR, 8),
            _ => return None,
        };
        let size = insn.mem.size;
        let integer =
            matches!(insn.mnemonic, M::Fiadd | M::Fimul | M::Fisub | M::Fisubr | M::Fidiv | M::Fidivr);
        match (insn.operands[0], integer, size) {
            (Operand::Mem, true, 2 | 4) => {
                self.on_memory(insn, X87::Arith(arith, Source::Double), 0, |t, v| {
                    let signed = t.signed(size, v);
                    let double = t.un(Unary::Wasm(Op1::F64ConvertI32S), signed);
                    t.un(Unary::Wasm(Op1::I64ReinterpretF64), double)
                })
            }
            (Operand::Mem, false, 4 | 8) => {
                let source = if size == 4 { Source::Single } else { Source::Double };
                self.on_memory(insn, X87::Arith(arith, source), 0, |t, v| t.wide_bits(size, v))
            }
            (Operand::St(_), false, _) => {
                let (dst, src) = (stack(insn, 0)?, stack(insn, 1).filter(|_| insn.count > 1)?);
                self.on_stack(insn, X87::Arith(arith, Source::Stack), dst, src | pop);
                Some(())
            }
            _ => None,
        }
    }

    fn x87_compare(&mut self, insn: &Insn) -> Option<()> {
        let size = insn.mem.size;
        let with = match insn.count {
            0 => 1,
            1 => stack(insn, 0).unwrap_or(0),
            _ => stack(insn, 1).unwrap_or(0),
        };
        let pops = match insn.mnemonic {
            M::Fcom | M::Fucom | M::Fcomi | M::Fucomi => 0,
            M::Fcomp | M::Fucomp | M::Fcomip | M::Fucomip => 1,
            M::Fcompp | M::Fucompp => 2,
            _ => return None,
        };
        match (insn.mnemonic, insn.operands[0], size) {
            (M::Fcomi | M::Fcomip | M::Fucomi | M::Fucomip, ..) => {
                let order = self.operation(X87::Order, with, pops, None);
                self.pointers(insn, None);
                let less = self.bit(order, 1);
                let equal = self.bit(order, 2);
                self.emit(Inst::Flags { kind: FlagKind::ORDER, a: less, b: equal });
                Some(())
            }
            (_, Operand::Mem, 4) => {
                self.on_memory(insn, X87::Compare(Source::Single), pops, |t, v| t.wide_bits(4, v))
            }
            (_, Operand::Mem, 8) => self.on_memory(insn, X87::Compare(Source::Double), pops, |_, v| v),
            (_, Operand::Mem, _) => None,
            _ => {
                self.on_stack(insn, X87::Compare(Source::Stack), with, pops);
                Some(())
            }
        }
    }

    /// Bit `n` of an I32 as a word.
    fn bit(&mut self, value: Value, n: u64) -> Value {
        let moved = self.bin_int(Binary::ShrU, Type::I32, value, n);
        let bit = self.bin_int(Binary::And, Type::I32, moved, 1);
        self.widen(4, bit)
    }

    /// The status and control words. Their instructions do not wait and leave the pointers alone, but for FLDCW, which
    /// waits.
    fn x87_control(&mut self, insn: &Insn) -> Option<()> {
        match (insn.mnemonic, insn.operands[0]) {
            (M::Fnstsw, Operand::Gpr { .. }) => {
                self.needs(Needs::X87);
                let status = self.fpu(offset_of!(Fpu, status), 2);
                let top = self.fpu(offset_of!(Fpu, top), 1);
                let top = self.bin_int(Binary::Shl, Type::I32, top, spec::TOP_SHIFT.into());
                let word = self.bin(Binary::Or, status, top);
                self.write_register(0, 2, false, word);
            }
            (M::Fnstcw, Operand::Mem) => {
                self.needs(Needs::X87);
                let address = self.address(insn)?;
                let control = self.fpu(offset_of!(Fpu, control), 2);
                self.store(address, 2, control);
            }
            (M::Fldcw, Operand::Mem) => {
                self.needs(Needs::X87);
                let address = self.address(insn)?;
                let word = self.load(address, 2);
                self.load_control(word);
            }
            _ => return None,
        }
        Some(())
    }

    /// FLDCW. It leaves if an exception waits, or would with these masks.
    fn load_control(&mut self, word: Value) {
        let legal = self.bin_int(Binary::And, Type::I32, word, spec::CONTROL_WRITABLE.into());
        let control = self.bin_int(Binary::Or, Type::I32, legal, spec::CONTROL_ONE.into());
        let unmasked = self.bin_int(Binary::Xor, Type::I32, control, spec::EXCEPTIONS.into());
        let asked = self.bin_int(Binary::And, Type::I32, unmasked, spec::EXCEPTIONS.into());
        let asked = self.bin_int(Binary::Or, Type::I32, asked, (spec::ES | spec::B).into());
        let status = self.fpu(offset_of!(Fpu, status), 2);
        let pending = self.bin(Binary::And, status, asked);
        let none = self.un(Unary::Eqz, pending);
        self.emit(Inst::Guard(none));
        self.set_fpu(offset_of!(Fpu, control), 2, control);
    }
}

/// The number of the stack register that operand `n` is.
fn stack(insn: &Insn, n: usize) -> Option<u16> {
    match insn.operands[n] {
        Operand::St(i) => Some(i.into()),
        _ => None,
    }
}
