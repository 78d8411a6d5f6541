//! x87, by the functions of [`crate::x87`].
//!
//! Each instruction is a call, after its operand was loaded or its place found. Then variables say where the instruction
//! lies (Intel SDM vol. 1, 8.1.8). What has no function the interpreter runs. A region with arithmetic is translated a
//! second time, as [`double`] does it, for when [`plan`] says and the control word is right.

pub mod double;
pub mod plan;

use super::Translator;
use super::sse::needs::Needs;
use crate::ir::{Binary, Inst, Type, Unary, Value, Var};
use crate::simd::Op1;
use crate::x87::{Arith, Source, X87};
use aero_cpu::fpu::{Fpu, spec};
use aero_cpu::jit::FlagKind;
use aero_cpu::jit::x87::{Last, NO_SEGMENT, code};
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

    /// Stores where the instruction lies, and its operand if it has one in memory; or says so with the x87 in variables.
    fn pointers(&mut self, insn: &Insn, operand: Option<Value>) {
        if self.double.is_some() {
            return self.say_pointers(insn, operand);
        }
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

    fn say_pointers(&mut self, insn: &Insn, operand: Option<Value>) {
        let ip = self.int(Type::I32, self.at as u64);
        self.emit(Inst::Set(Var::FpIp, ip));
        let said = self.double.map_or(Some(Last::Status), |now| now.last);
        let opcode = self.int(Type::I32, code(insn.x87_opcode, said.unwrap_or(Last::Status)).into());
        let opcode = if said.is_some() { opcode } else { self.with_kind_before(opcode) };
        self.emit(Inst::Set(Var::FpCode, opcode));
        if let Some(offset) = operand {
            self.emit(Inst::Set(Var::FpDp, offset));
            let segment = self.int(Type::I32, insn.mem.segment.into());
            self.emit(Inst::Set(Var::FpDs, segment));
        }
    }

    /// An opcode with what C1 follows from, as it was before.
    fn with_kind_before(&mut self, opcode: Value) -> Value {
        let before = self.emit(Inst::Get(Var::FpCode));
        let kind = self.bin_int(Binary::And, Type::I32, before, 0xf_0000);
        self.bin(Binary::Or, opcode, kind)
    }

    /// After the interpreter has run an instruction the state block says what the last one was, and holds the registers
    /// if they may have `changed`.
    pub(super) fn forget_x87(&mut self, changed: bool) {
        let none = self.int(Type::I32, 0);
        self.emit(Inst::Set(Var::FpCode, none));
        if changed {
            self.emit(Inst::Set(Var::FpStack, none));
        }
        let none = self.int(Type::I32, NO_SEGMENT.into());
        self.emit(Inst::Set(Var::FpDs, none));
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
                let register = exchanged(insn)?;
                self.on_stack(insn, X87::Exchange, register, 0);
            }
            M::Fchs => self.on_stack(insn, X87::Sign, u16::MAX, SIGN),
            M::Fabs => self.on_stack(insn, X87::Sign, !SIGN, 0),
            _ => return None,
        }
        Some(())
    }

    fn x87_arith(&mut self, insn: &Insn) -> Option<()> {
        let arith = arithmetic(insn)?;
        let pop = if pops(insn) { 8 } else { 0 };
        let (integer, size) = (is_integer(insn), insn.mem.size);
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
        let with = compared_with(insn);
        let pops = comparison(insn).filter(|_| insn.mnemonic != M::Ftst)?.into();
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

/// The other register of FXCH.
fn exchanged(insn: &Insn) -> Option<u16> {
    stack(insn, 1).filter(|n| *n != 0).or_else(|| stack(insn, 0))
}

/// The basic operation that an instruction is.
fn arithmetic(insn: &Insn) -> Option<Arith> {
    Some(match insn.mnemonic {
        M::Fadd | M::Fiadd | M::Faddp => Arith::Add,
        M::Fmul | M::Fimul | M::Fmulp => Arith::Mul,
        M::Fsub | M::Fisub | M::Fsubp => Arith::Sub,
        M::Fsubr | M::Fisubr | M::Fsubrp => Arith::SubR,
        M::Fdiv | M::Fidiv | M::Fdivp => Arith::Div,
        M::Fdivr | M::Fidivr | M::Fdivrp => Arith::DivR,
        _ => return None,
    })
}

/// Whether a basic operation pops.
fn pops(insn: &Insn) -> bool {
    matches!(insn.mnemonic, M::Faddp | M::Fmulp | M::Fsubp | M::Fsubrp | M::Fdivp | M::Fdivrp)
}

/// Whether a basic operation has an integer in memory.
fn is_integer(insn: &Insn) -> bool {
    matches!(insn.mnemonic, M::Fiadd | M::Fimul | M::Fisub | M::Fisubr | M::Fidiv | M::Fidivr)
}

/// How often a comparison pops.
fn comparison(insn: &Insn) -> Option<u8> {
    Some(match insn.mnemonic {
        M::Fcom | M::Fucom | M::Fcomi | M::Fucomi | M::Ftst => 0,
        M::Fcomp | M::Fucomp | M::Fcomip | M::Fucomip => 1,
        M::Fcompp | M::Fucompp => 2,
        _ => return None,
    })
}

/// The register that a comparison compares with.
fn compared_with(insn: &Insn) -> u16 {
    match insn.count {
        0 => 1,
        1 => stack(insn, 0).unwrap_or(0),
        _ => stack(insn, 1).unwrap_or(0),
    }
}

/// The condition of an FCMOVcc.
fn moved_if(insn: &Insn) -> Option<u8> {
    Some(match insn.mnemonic {
        M::Fcmovb => 2,
        M::Fcmovnb => 3,
        M::Fcmove => 4,
        M::Fcmovne => 5,
        M::Fcmovbe => 6,
        M::Fcmovnbe => 7,
        M::Fcmovu => 10,
        M::Fcmovnu => 11,
        _ => return None,
    })
}
