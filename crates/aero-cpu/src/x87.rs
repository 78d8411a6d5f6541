//! x87 instructions: decoding forms to operations of [`crate::fpu`].
//!
//! Every handler first checks CR0.EM and TS (#NM) and, unless the instruction does not wait, a pending exception (#MF).
//! Then it records the instruction's pointers and opcode, which [`bind`] put into `imm`.

use crate::bind::EaKind;
use crate::exception::Vector;
use crate::fpu::image::Format;
use crate::fpu::{Arith, Compare, Constant, Effect, Operand as Source};
use crate::op::{Any, Ea, Flat32, Flat64, Op, Run};
use crate::state::{cr0, eflags, seg};
use crate::vcpu::{Stop, Vcpu};
use crate::word::Word;
use aero_x86::{Insn, Mnemonic as M, Operand};

/// Picks the handler of an x87 instruction.
pub fn bind(insn: &Insn, ea: EaKind, op: &mut Op) -> Option<Run> {
    if !(insn.x87_opcode != 0 || matches!(insn.mnemonic, M::Wait)) {
        return None;
    }
    // Opcode and length, for the pointers.
    op.imm = u64::from(insn.x87_opcode) | u64::from(insn.len) << 16;
    let memory = insn.operands[0] == Operand::Mem;
    match ea {
        EaKind::Flat64 => operations::<Flat64>(insn, memory, op),
        EaKind::Flat32 => operations::<Flat32>(insn, memory, op),
        EaKind::Any => operations::<Any>(insn, memory, op),
    }
    .or_else(|| functions(insn))
    .or_else(|| control(insn, op))
}

/// The instructions with a memory operand that numbers pass through.
fn operations<A: Ea>(insn: &Insn, memory: bool, op: &mut Op) -> Option<Run> {
    arithmetic::<A>(insn, memory)
        .or_else(|| comparisons::<A>(insn, memory, op))
        .or_else(|| loads::<A>(insn, memory, op))
        .or_else(|| stores::<A>(insn, memory))
}

impl Vcpu<'_> {
    /// What a waiting instruction checks first.
    #[inline]
    fn x87_wait(&mut self) -> Result<(), Stop> {
        self.check_fpu()?;
        self.x87_pending()
    }

    #[inline]
    fn x87_pending(&mut self) -> Result<(), Stop> {
        if self.st.fpu.pending_exception() { self.x87_error() } else { Ok(()) }
    }

    /// A waiting instruction found an unmasked exception: #MF, or with CR0.NE clear the way of the PC. There the
    /// instruction waits, with FERR# asserted, for the interrupt that comes of it, unless IGNNE# lets it run (Intel
    /// SDM vol. 1, 8.7.2 and appendix D).
    #[cold]
    pub(crate) fn x87_error(&mut self) -> Result<(), Stop> {
        if self.st.cr0 & cr0::NE != 0 {
            return Err(self.raise(Vector::X87));
        }
        self.drive_ferr(true);
        if self.bus.ignne() { Ok(()) } else { Err(Stop::Again) }
    }

    fn drive_ferr(&mut self, asserted: bool) {
        if self.core.ferr != asserted {
            self.core.ferr = asserted;
            let when = self.retired();
            self.bus.set_ferr(self.mem, when, asserted);
            self.attention = true;
        }
    }

    /// Releases FERR# after an instruction that may have ended the error.
    #[inline]
    pub(crate) fn x87_settle(&mut self) {
        if self.core.ferr && !self.st.fpu.pending_exception() {
            self.drive_ferr(false);
        }
    }

    /// Records where the last non-control instruction lies.
    #[inline(always)]
    fn x87_instruction(&mut self, op: &Op) {
        let start = self.next_rip(op).wrapping_sub(op.imm >> 16) & self.rip_mask();
        let cs = self.st.segments[usize::from(seg::CS)].selector;
        self.st.fpu.set_instruction(op.imm as u16, cs, start);
    }

    /// Records also where its operand lies, at linear address `la`.
    #[inline(always)]
    fn x87_operand<A: Ea>(&mut self, op: &Op, la: u64) {
        self.x87_instruction(op);
        self.st.fpu.fds = self.st.segments[usize::from(op.segment())].selector;
        self.st.fpu.fdp = A::offset_of(self, op, la);
    }

    /// Loads the operand and records the pointers.
    #[inline(always)]
    fn x87_load<T: Word, A: Ea>(&mut self, op: &Op) -> Result<T, Stop> {
        let la = A::linear(self, op, T::BYTES, false)?;
        let value = self.load(la)?;
        self.x87_operand::<A>(op, la);
        Ok(value)
    }

    #[inline(always)]
    fn x87_register(&mut self, op: &Op) -> Result<(), Stop> {
        self.x87_wait()?;
        self.x87_instruction(op);
        Ok(())
    }
}

const ARITH: [Arith; 6] = [Arith::Add, Arith::Mul, Arith::Sub, Arith::SubR, Arith::Div, Arith::DivR];

/// Memory formats of operands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Memory {
    F32,
    F64,
    I16,
    I32,
}

/// Loads an operand in one of the formats: 0 f32, 1 f64, 2 i16, 3 i32.
#[inline(always)]
fn source<A: Ea, const FORMAT: u8>(v: &mut Vcpu<'_>, op: &Op) -> Result<Source, Stop> {
    v.x87_wait()?;
    Ok(match FORMAT {
        0 => Source::from_f32(v.x87_load::<u32, A>(op)?),
        1 => Source::from_f64(v.x87_load::<u64, A>(op)?),
        2 => Source::from_i16(v.x87_load::<u16, A>(op)? as i16),
        _ => Source::from_i32(v.x87_load::<u32, A>(op)? as i32),
    })
}

fn arith_memory<A: Ea, const OP: usize, const FORMAT: u8>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let src = source::<A, FORMAT>(v, op)?;
    v.st.fpu.arith(ARITH[OP], src);
    Ok(())
}

fn arith_stack<const OP: usize, const POP: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.x87_register(op)?;
    v.st.fpu.arith_st(ARITH[OP], op.dst, op.src, POP);
    Ok(())
}

fn format_of(insn: &Insn, integer: bool) -> Memory {
    match (integer, insn.mem.size) {
        (false, 4) => Memory::F32,
        (false, _) => Memory::F64,
        (true, 2) => Memory::I16,
        (true, _) => Memory::I32,
    }
}

fn arithmetic<A: Ea>(insn: &Insn, memory: bool) -> Option<Run> {
    let (n, integer, pop) = match insn.mnemonic {
        M::Fadd => (0, false, false),
        M::Fmul => (1, false, false),
        M::Fsub => (2, false, false),
        M::Fsubr => (3, false, false),
        M::Fdiv => (4, false, false),
        M::Fdivr => (5, false, false),
        M::Faddp => (0, false, true),
        M::Fmulp => (1, false, true),
        M::Fsubp => (2, false, true),
        M::Fsubrp => (3, false, true),
        M::Fdivp => (4, false, true),
        M::Fdivrp => (5, false, true),
        M::Fiadd => (0, true, false),
        M::Fimul => (1, true, false),
        M::Fisub => (2, true, false),
        M::Fisubr => (3, true, false),
        M::Fidiv => (4, true, false),
        M::Fidivr => (5, true, false),
        _ => return None,
    };
    macro_rules! pick {
        ($($op:literal)*) => {
            match n {
                $($op => match (memory, pop, format_of(insn, integer)) {
                    (false, false, _) => arith_stack::<$op, false> as Run,
                    (false, true, _) => arith_stack::<$op, true>,
                    (true, _, Memory::F32) => arith_memory::<A, $op, 0>,
                    (true, _, Memory::F64) => arith_memory::<A, $op, 1>,
                    (true, _, Memory::I16) => arith_memory::<A, $op, 2>,
                    (true, _, Memory::I32) => arith_memory::<A, $op, 3>,
                },)*
                _ => return None,
            }
        };
    }
    Some(pick!(0 1 2 3 4 5))
}

fn compare_memory<A: Ea, const FORMAT: u8, const POPS: u8>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let src = source::<A, FORMAT>(v, op)?;
    v.st.fpu.compare(Compare::Ordered, src, POPS);
    Ok(())
}

fn compare_stack<const UNORDERED: bool, const POPS: u8>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.x87_register(op)?;
    let kind = if UNORDERED { Compare::Unordered } else { Compare::Ordered };
    v.st.fpu.compare_st(kind, op.src, POPS);
    Ok(())
}

fn compare_flags<const UNORDERED: bool, const POP: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.x87_register(op)?;
    let kind = if UNORDERED { Compare::Unordered } else { Compare::Ordered };
    let f = v.st.fpu.compare_flags(kind, op.src, POP);
    let bit = |on: bool, bit: u64| if on { bit } else { 0 };
    v.st.set_arith(bit(f.zf, eflags::ZF) | bit(f.pf, eflags::PF) | bit(f.cf, eflags::CF));
    Ok(())
}

fn comparisons<A: Ea>(insn: &Insn, memory: bool, op: &mut Op) -> Option<Run> {
    let integer = matches!(insn.mnemonic, M::Ficom | M::Ficomp);
    let format = format_of(insn, integer);
    if !memory && insn.count == 1 {
        op.src = op.dst;
    }
    if insn.count == 0 {
        // FCOMPP and FUCOMPP compare with ST(1).
        op.src = 1;
    }
    Some(match (insn.mnemonic, memory, format) {
        (M::Fcom, true, Memory::F32) => compare_memory::<A, 0, 0>,
        (M::Fcom, true, _) => compare_memory::<A, 1, 0>,
        (M::Fcomp, true, Memory::F32) => compare_memory::<A, 0, 1>,
        (M::Fcomp, true, _) => compare_memory::<A, 1, 1>,
        (M::Ficom, _, Memory::I16) => compare_memory::<A, 2, 0>,
        (M::Ficom, ..) => compare_memory::<A, 3, 0>,
        (M::Ficomp, _, Memory::I16) => compare_memory::<A, 2, 1>,
        (M::Ficomp, ..) => compare_memory::<A, 3, 1>,
        (M::Fcom, ..) => compare_stack::<false, 0>,
        (M::Fcomp, ..) => compare_stack::<false, 1>,
        (M::Fcompp, ..) => compare_stack::<false, 2>,
        (M::Fucom, ..) => compare_stack::<true, 0>,
        (M::Fucomp, ..) => compare_stack::<true, 1>,
        (M::Fucompp, ..) => compare_stack::<true, 2>,
        (M::Fcomi, ..) => compare_flags::<false, false>,
        (M::Fcomip, ..) => compare_flags::<false, true>,
        (M::Fucomi, ..) => compare_flags::<true, false>,
        (M::Fucomip, ..) => compare_flags::<true, true>,
        _ => return None,
    })
}

fn load_memory<A: Ea, const BYTES: u8, const INTEGER: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.x87_wait()?;
    match (INTEGER, BYTES) {
        (false, 4) => {
            let bits = v.x87_load::<u32, A>(op)?;
            v.st.fpu.load_f32(bits);
        }
        (false, _) => {
            let bits = v.x87_load::<u64, A>(op)?;
            v.st.fpu.load_f64(bits);
        }
        (true, _) => {
            let value = match BYTES {
                2 => i64::from(v.x87_load::<u16, A>(op)? as i16),
                4 => i64::from(v.x87_load::<u32, A>(op)? as i32),
                _ => v.x87_load::<u64, A>(op)? as i64,
            };
            v.st.fpu.load_integer(value);
        }
    }
    Ok(())
}

/// FLD m80 and FBLD.
fn load_ten<A: Ea, const BCD: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.x87_wait()?;
    let la = A::linear(v, op, 10, false)?;
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&v.load::<u64>(la)?.to_le_bytes());
    bytes[8..].copy_from_slice(&v.load::<u16>(la.wrapping_add(8))?.to_le_bytes());
    v.x87_operand::<A>(op, la);
    if BCD {
        v.st.fpu.load_bcd(bytes)
    } else {
        v.st.fpu.load_f80(bytes)
    }
    Ok(())
}

/// FNOP: only the checks, and the pointers.
fn nop(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.x87_register(op)
}

/// Wraps an operation on the register stack in the checks.
macro_rules! on_stack {
    (|$fpu:ident, $op:ident| $body:expr) => {{
        fn run(v: &mut Vcpu<'_>, $op: &Op) -> Result<(), Stop> {
            v.x87_register($op)?;
            let $fpu = &mut v.st.fpu;
            $body;
            Ok(())
        }
        run as Run
    }};
}

fn loads<A: Ea>(insn: &Insn, memory: bool, op: &mut Op) -> Option<Run> {
    if !memory && insn.mnemonic == M::Fld {
        op.src = if insn.count == 1 { op.dst } else { op.src };
    }
    Some(match (insn.mnemonic, memory, insn.mem.size) {
        (M::Fld, true, 4) => load_memory::<A, 4, false>,
        (M::Fld, true, 8) => load_memory::<A, 8, false>,
        (M::Fld, true, _) => load_ten::<A, false>,
        (M::Fld, false, _) => on_stack!(|fpu, op| fpu.load_st(op.src)),
        (M::Fild, _, 2) => load_memory::<A, 2, true>,
        (M::Fild, _, 4) => load_memory::<A, 4, true>,
        (M::Fild, ..) => load_memory::<A, 8, true>,
        (M::Fbld, ..) => load_ten::<A, true>,
        (M::Fld1, ..) => on_stack!(|fpu, _op| fpu.load_constant(Constant::One)),
        (M::Fldl2t, ..) => on_stack!(|fpu, _op| fpu.load_constant(Constant::Log2Of10)),
        (M::Fldl2e, ..) => on_stack!(|fpu, _op| fpu.load_constant(Constant::Log2OfE)),
        (M::Fldpi, ..) => on_stack!(|fpu, _op| fpu.load_constant(Constant::Pi)),
        (M::Fldlg2, ..) => on_stack!(|fpu, _op| fpu.load_constant(Constant::Log10Of2)),
        (M::Fldln2, ..) => on_stack!(|fpu, _op| fpu.load_constant(Constant::LnOf2)),
        (M::Fldz, ..) => on_stack!(|fpu, _op| fpu.load_constant(Constant::Zero)),
        _ => return None,
    })
}

/// The store itself, then its effect: a faulting store changes nothing.
fn store_memory<A: Ea, const BYTES: u8, const INTEGER: bool, const POP: bool, const TRUNCATE: bool>(
    v: &mut Vcpu<'_>,
    op: &Op,
) -> Result<(), Stop> {
    v.x87_wait()?;
    let la = A::linear(v, op, BYTES.into(), true)?;
    let effect = match (INTEGER, BYTES) {
        (false, 4) => {
            let s = v.st.fpu.store_f32();
            written(v, la, s.bits, s.effect)?
        }
        (false, _) => {
            let s = v.st.fpu.store_f64();
            written(v, la, s.bits, s.effect)?
        }
        (true, _) => {
            let bits = u32::from(BYTES) * 8;
            let s =
                if TRUNCATE { v.st.fpu.store_integer_truncated(bits) } else { v.st.fpu.store_integer(bits) };
            match BYTES {
                2 => written(v, la, s.bits.map(|b| b as u16), s.effect)?,
                4 => written(v, la, s.bits.map(|b| b as u32), s.effect)?,
                _ => written(v, la, s.bits.map(|b| b as u64), s.effect)?,
            }
        }
    };
    v.x87_operand::<A>(op, la);
    v.st.fpu.finish_store(effect, POP);
    Ok(())
}

fn written<T: Word>(v: &mut Vcpu<'_>, la: u64, bits: Option<T>, effect: Effect) -> Result<Effect, Stop> {
    match bits {
        Some(bits) => v.store(la, bits)?,
        // The page must be writable even if the exception keeps the result back.
        None => {
            v.check_alignment(la, T::BYTES)?;
            v.probe_write(la, T::BYTES)?
        }
    }
    Ok(effect)
}

/// FSTP m80 and FBSTP.
fn store_ten<A: Ea, const BCD: bool>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.x87_wait()?;
    let la = A::linear(v, op, 10, true)?;
    v.check_alignment(la, 8)?;
    let s = if BCD { v.st.fpu.store_bcd() } else { v.st.fpu.store_f80() };
    match s.bits {
        Some(bytes) => v.store_bytes(la, &bytes)?,
        None => v.probe_write(la, 10)?,
    }
    v.x87_operand::<A>(op, la);
    v.st.fpu.finish_store(s.effect, true);
    Ok(())
}

fn stores<A: Ea>(insn: &Insn, memory: bool) -> Option<Run> {
    Some(match (insn.mnemonic, memory, insn.mem.size) {
        (M::Fst, true, 4) => store_memory::<A, 4, false, false, false>,
        (M::Fst, true, _) => store_memory::<A, 8, false, false, false>,
        (M::Fstp, true, 4) => store_memory::<A, 4, false, true, false>,
        (M::Fstp, true, 8) => store_memory::<A, 8, false, true, false>,
        (M::Fstp, true, _) => store_ten::<A, false>,
        (M::Fst, false, _) => on_stack!(|fpu, op| fpu.store_st(op.dst, false)),
        (M::Fstpnce, ..) => on_stack!(|fpu, op| fpu.store_st_unchecked(op.dst)),
        (M::Fstp, false, _) => on_stack!(|fpu, op| fpu.store_st(op.dst, true)),
        (M::Fist, _, 2) => store_memory::<A, 2, true, false, false>,
        (M::Fist, ..) => store_memory::<A, 4, true, false, false>,
        (M::Fistp, _, 2) => store_memory::<A, 2, true, true, false>,
        (M::Fistp, _, 4) => store_memory::<A, 4, true, true, false>,
        (M::Fistp, ..) => store_memory::<A, 8, true, true, false>,
        (M::Fisttp, _, 2) => store_memory::<A, 2, true, true, true>,
        (M::Fisttp, _, 4) => store_memory::<A, 4, true, true, true>,
        (M::Fisttp, ..) => store_memory::<A, 8, true, true, true>,
        (M::Fbstp, ..) => store_ten::<A, true>,
        _ => return None,
    })
}

/// FCMOVcc: condition by number, as [`functions`] lists them.
fn conditional<const CC: u8>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.x87_register(op)?;
    let holds = v.st.flags.condition::<CC>();
    v.st.fpu.fcmov(holds, op.src);
    Ok(())
}

fn functions(insn: &Insn) -> Option<Run> {
    Some(match insn.mnemonic {
        M::Fxch => {
            on_stack!(|fpu, op| fpu.fxch(if op.src != 0 { op.src } else { op.dst }))
        }
        M::Fchs => on_stack!(|fpu, _op| fpu.fchs()),
        M::Fabs => on_stack!(|fpu, _op| fpu.fabs()),
        M::Ftst => on_stack!(|fpu, _op| fpu.ftst()),
        M::Fxam => on_stack!(|fpu, _op| fpu.fxam()),
        M::Fsqrt => on_stack!(|fpu, _op| fpu.fsqrt()),
        M::Fprem => on_stack!(|fpu, _op| fpu.fprem()),
        M::Fprem1 => on_stack!(|fpu, _op| fpu.fprem1()),
        M::Frndint => on_stack!(|fpu, _op| fpu.frndint()),
        M::Fscale => on_stack!(|fpu, _op| fpu.fscale()),
        M::Fxtract => on_stack!(|fpu, _op| fpu.fxtract()),
        M::F2xm1 => on_stack!(|fpu, _op| fpu.f2xm1()),
        M::Fyl2x => on_stack!(|fpu, _op| fpu.fyl2x()),
        M::Fyl2xp1 => on_stack!(|fpu, _op| fpu.fyl2xp1()),
        M::Fptan => on_stack!(|fpu, _op| fpu.fptan()),
        M::Fpatan => on_stack!(|fpu, _op| fpu.fpatan()),
        M::Fsin => on_stack!(|fpu, _op| fpu.fsin()),
        M::Fcos => on_stack!(|fpu, _op| fpu.fcos()),
        M::Fsincos => on_stack!(|fpu, _op| fpu.fsincos()),
        M::Fincstp => on_stack!(|fpu, _op| fpu.fincstp()),
        M::Fdecstp => on_stack!(|fpu, _op| fpu.fdecstp()),
        M::Ffree => on_stack!(|fpu, op| fpu.ffree(op.dst, false)),
        M::Ffreep => on_stack!(|fpu, op| fpu.ffree(op.dst, true)),
        M::Fnop => nop,
        M::Fcmovb => conditional::<2>,
        M::Fcmove => conditional::<4>,
        M::Fcmovbe => conditional::<6>,
        M::Fcmovu => conditional::<10>,
        M::Fcmovnb => conditional::<3>,
        M::Fcmovne => conditional::<5>,
        M::Fcmovnbe => conditional::<7>,
        M::Fcmovnu => conditional::<11>,
        _ => return None,
    })
}

fn control(insn: &Insn, op: &mut Op) -> Option<Run> {
    let wide = insn.operand_size != 2;
    op.src = u8::from(wide);
    Some(match (insn.mnemonic, insn.operands[0]) {
        (M::Wait, _) => wait,
        (M::Fninit, _) => fninit,
        (M::Fnclex, _) => fnclex,
        (M::Fldcw, _) => fldcw,
        (M::Fnstcw, _) => fnstcw,
        (M::Fnstsw, Operand::Gpr { .. }) => fnstsw_ax,
        (M::Fnstsw, _) => fnstsw,
        (M::Fnstenv, _) => fnstenv,
        (M::Fldenv, _) => fldenv,
        (M::Fnsave, _) => fnsave,
        (M::Frstor, _) => frstor,
        (M::Fneni | M::Fndisi | M::Fnsetpm, _) => leftover,
        _ => return None,
    })
}

/// WAIT: #NM needs both MP and TS.
fn wait(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    if v.st.cr0 & (cr0::MP | cr0::TS) == cr0::MP | cr0::TS {
        return Err(v.raise(Vector::DEVICE_NOT_AVAILABLE));
    }
    v.x87_pending()
}

/// What the 8087 and 80287 had: does not wait, does nothing, leaves the pointers alone.
fn leftover(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    v.check_fpu()
}

fn fninit(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    v.check_fpu()?;
    v.st.fpu.fninit();
    v.x87_settle();
    Ok(())
}

fn fnclex(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    v.check_fpu()?;
    v.st.fpu.fnclex();
    v.x87_settle();
    Ok(())
}

fn fldcw(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.x87_wait()?;
    let control = v.load_ea::<u16, Any>(op)?;
    v.st.fpu.set_control(control);
    v.x87_settle();
    Ok(())
}

fn fnstcw(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.check_fpu()?;
    v.store_ea::<u16, Any>(op, v.st.fpu.control)
}

fn fnstsw(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.check_fpu()?;
    v.store_ea::<u16, Any>(op, v.st.fpu.status_word())
}

fn fnstsw_ax(v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
    v.check_fpu()?;
    let status = v.st.fpu.status_word();
    v.st.set_reg(0, status);
    Ok(())
}

fn image_format(v: &Vcpu<'_>, op: &Op) -> Format {
    match (op.src != 0, v.st.real_segments()) {
        (true, true) => Format::Real32,
        (true, false) => Format::Protected32,
        (false, true) => Format::Real16,
        (false, false) => Format::Protected16,
    }
}

/// Where an image lies; it is aligned to its words (Intel SDM vol. 3, table 6-7).
fn image_address(v: &mut Vcpu<'_>, op: &Op, len: usize, write: bool) -> Result<u64, Stop> {
    let la = Any::linear(v, op, len as u32, write)?;
    v.check_alignment(la, if op.src != 0 { 4 } else { 2 })?;
    Ok(la)
}

fn fnstenv(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.check_fpu()?;
    let format = image_format(v, op);
    let image = v.st.fpu.env_image(format);
    let la = image_address(v, op, format.env_len(), true)?;
    v.store_bytes(la, &image[..format.env_len()])?;
    v.st.fpu.finish_fnstenv();
    v.x87_settle();
    Ok(())
}

fn fldenv(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.x87_wait()?;
    let format = image_format(v, op);
    let mut image = [0; crate::fpu::image::ENV_MAX];
    let la = image_address(v, op, format.env_len(), false)?;
    v.load_bytes(la, &mut image[..format.env_len()])?;
    v.st.fpu.load_env(&image, format);
    v.x87_settle();
    Ok(())
}

fn fnsave(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.check_fpu()?;
    let format = image_format(v, op);
    let image = v.st.fpu.save_image(format);
    let la = image_address(v, op, format.save_len(), true)?;
    v.store_bytes(la, &image[..format.save_len()])?;
    v.st.fpu.fninit();
    v.x87_settle();
    Ok(())
}

fn frstor(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.x87_wait()?;
    let format = image_format(v, op);
    let mut image = [0; crate::fpu::image::SAVE_MAX];
    let la = image_address(v, op, format.save_len(), false)?;
    v.load_bytes(la, &mut image[..format.save_len()])?;
    v.st.fpu.restore(&image, format);
    v.x87_settle();
    Ok(())
}
