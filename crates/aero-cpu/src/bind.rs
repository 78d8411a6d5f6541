//! From decoded instruction to [`Op`]: chooses the handler and packs the operands. Runs once per decoded instruction.
//!
//! [`template`] packs operands the same way for every instruction: `dst` and `src` are the first two operands (general
//! registers as byte offsets into the register file, others by number), `imm` is the immediate, the memory operand goes
//! to `base`, `index`, `sib` and `disp`. The tables below pick a handler by mnemonic and operand kinds; what they do not
//! know is #UD.

use crate::hot;
use crate::op::alu::{self, Adc, Add, And, Binary, Cmp, Dec, Inc, Neg, Not, Or, Sbb, Sub, Test, Unary, Xor};
use crate::op::shift::{self, Rcl, Rcr, Rol, Ror, Sar, Shift, Shl, Shr};
use crate::op::string::{self, Cmps, Ins, Lods, Movs, Outs, Scas, Step, Stos};
use crate::op::{
    Any, Flat32, Flat64, Op, Run, bits, bmi, branch, data, idle, io, muldiv, random, stack, system,
};
use crate::state::seg;
use crate::vcpu::Mode;
use aero_x86::{CodeSize, DecodeError, Insn, Mnemonic, Operand, Rep};

/// An instruction ready for a block.
pub struct Bound {
    /// The operation.
    pub op: Op,
    /// Bytes.
    pub len: u8,
    /// The block ends here.
    pub ends: bool,
}

/// How an instruction's memory operand is addressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EaKind {
    /// [`Flat64`].
    Flat64,
    /// [`Flat32`].
    Flat32,
    /// [`Any`].
    Any,
}

/// A handler, and whether it ends its block.
type Choice = (Run, bool);

/// Handler of a type parameterised by operand size.
#[macro_export]
macro_rules! sized {
    ($size:expr, $($f:ident)::+ $(, $g:tt)*) => {
        match $size {
            1 => $($f)::+::<u8 $(, $g)*> as $crate::op::Run,
            2 => $($f)::+::<u16 $(, $g)*>,
            4 => $($f)::+::<u32 $(, $g)*>,
            _ => $($f)::+::<u64 $(, $g)*>,
        }
    };
}

/// Handler of a type parameterised by operand size (2, 4, 8) only.
macro_rules! wide {
    ($size:expr, $($f:ident)::+ $(, $g:tt)*) => {
        match $size {
            2 => $($f)::+::<u16 $(, $g)*> as Run,
            4 => $($f)::+::<u32 $(, $g)*>,
            _ => $($f)::+::<u64 $(, $g)*>,
        }
    };
}

/// Handler of a near branch: `wide!` with the parameter that says whether the target may lie outside the segment.
macro_rules! near {
    ($mode:expr, $size:expr, $($f:ident)::+ $(, $g:tt)*) => {
        if $mode.flat { wide!($size, $($f)::+, false $(, $g)*) } else { wide!($size, $($f)::+, true $(, $g)*) }
    };
}

/// As `near!`, with a memory operand.
macro_rules! near_mem {
    ($mode:expr, $size:expr, $ea:expr, $($f:ident)::+) => {
        if $mode.flat { sized_mem!($size, $ea, $($f)::+, false) } else { sized_mem!($size, $ea, $($f)::+, true) }
    };
}

/// Handler of a type parameterised by operand size and addressing.
macro_rules! sized_mem {
    ($size:expr, $ea:expr, $($f:ident)::+ $(, $g:tt)*) => {
        match $ea {
            EaKind::Flat64 => sized!($size, $($f)::+, Flat64 $(, $g)*),
            EaKind::Flat32 => sized!($size, $($f)::+, Flat32 $(, $g)*),
            EaKind::Any => sized!($size, $($f)::+, Any $(, $g)*),
        }
    };
}

/// Handler with a condition code as its last parameter.
macro_rules! by_condition {
    ($cc:expr, |$name:ident| $body:expr) => {{
        macro_rules! arm {
            ($n:literal) => {{
                const $name: u8 = $n;
                $body
            }};
        }
        match $cc {
            0 => arm!(0),
            1 => arm!(1),
            2 => arm!(2),
            3 => arm!(3),
            4 => arm!(4),
            5 => arm!(5),
            6 => arm!(6),
            7 => arm!(7),
            8 => arm!(8),
            9 => arm!(9),
            10 => arm!(10),
            11 => arm!(11),
            12 => arm!(12),
            13 => arm!(13),
            14 => arm!(14),
            _ => arm!(15),
        }
    }};
}

/// Whether an instruction has a handler. What has none is #UD, so this is what the processor implements.
pub fn handles(insn: &Insn, mode: Mode) -> bool {
    let mut op = template(insn, 0);
    choose(insn, mode, ea_kind(insn, mode), &mut op).is_some()
}

/// Makes an instruction of a block out of what the decoder found `start` bytes into it.
pub fn bind(decoded: Result<Insn, DecodeError>, mode: Mode, start: u16) -> Bound {
    let insn = match decoded {
        Ok(insn) => insn,
        Err(error) => return undefined(error, start),
    };
    let ea = ea_kind(&insn, mode);
    let mut op = template(&insn, start);
    let (run, ends) = choose(&insn, mode, ea, &mut op).unwrap_or((branch::undefined, true));
    Bound { op: Op { run, kind: hot::kind(run, mode), ..op }, len: insn.len, ends }
}

fn undefined(error: DecodeError, start: u16) -> Bound {
    let run = match error {
        DecodeError::Invalid => branch::undefined,
        DecodeError::Truncated => branch::too_long,
    };
    let op = Op {
        run,
        imm: 0,
        disp: 0,
        dst: 0,
        src: 0,
        base: 16,
        index: 16,
        sib: 0,
        kind: hot::Kind::Called,
        end: start + 1,
    };
    Bound { op, len: 1, ends: true }
}

fn ea_kind(insn: &Insn, mode: Mode) -> EaKind {
    let plain = matches!(insn.mem.segment, seg::ES | seg::SS | seg::DS);
    match mode.code {
        CodeSize::B64 if insn.address_size == 8 && insn.mem.segment < seg::FS => EaKind::Flat64,
        CodeSize::B32 if mode.flat && insn.address_size == 4 && plain => EaKind::Flat32,
        _ => EaKind::Any,
    }
}

fn template(insn: &Insn, start: u16) -> Op {
    let relative = insn.mem.base == aero_x86::slot::BLOCK;
    let string = insn.operands[..insn.count.into()].contains(&Operand::Implied);
    let segment = if string { insn.string_segment } else { insn.mem.segment };
    Op {
        run: branch::undefined,
        imm: immediate(insn, start),
        disp: insn.mem.disp + if relative { i64::from(start) } else { 0 },
        dst: register(insn.operands[0]),
        src: register(insn.operands[1]),
        base: insn.mem.base,
        index: insn.mem.index,
        sib: insn.mem.scale | segment << 2 | (insn.address_size.trailing_zeros() as u8 - 1) << 5,
        kind: hot::Kind::Called,
        end: start + u16::from(insn.len),
    }
}

fn immediate(insn: &Insn, start: u16) -> u64 {
    insn.operands[..insn.count.into()]
        .iter()
        .find_map(|operand| match operand {
            Operand::Imm(value) => Some(*value),
            Operand::Near(rel) => Some((rel + i64::from(start)) as u64),
            Operand::Far { selector, offset } => Some(u64::from(*selector) << 32 | u64::from(*offset)),
            _ => None,
        })
        .unwrap_or(0)
}

/// How an operand that is a register is packed.
pub(crate) fn register(operand: Operand) -> u8 {
    match operand {
        Operand::Gpr { reg, high, .. } => reg * 8 + u8::from(high),
        Operand::Seg(n) | Operand::Cr(n) | Operand::Dr(n) => n,
        Operand::St(n) | Operand::Mm(n) | Operand::Xmm(n) => n,
        _ => 0,
    }
}

/// Bytes of the operation: of the first register or memory operand.
pub(crate) fn size_of(insn: &Insn, n: usize) -> u8 {
    match insn.operands[n] {
        Operand::Gpr { size, .. } => size,
        Operand::Mem => insn.mem.size,
        _ => 0,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reg,
    Mem,
    Imm,
    Other,
}

fn kind(insn: &Insn, n: usize) -> Kind {
    match insn.operands[n] {
        _ if n >= insn.count.into() => Kind::Other,
        Operand::Gpr { .. } => Kind::Reg,
        Operand::Mem => Kind::Mem,
        Operand::Imm(_) => Kind::Imm,
        _ => Kind::Other,
    }
}

fn kinds(insn: &Insn) -> (Kind, Kind) {
    (kind(insn, 0), kind(insn, 1))
}

fn choose(insn: &Insn, mode: Mode, ea: EaKind, op: &mut Op) -> Option<Choice> {
    arithmetic(insn, ea)
        .or_else(|| moves(insn, ea))
        .or_else(|| shifts(insn, ea))
        .or_else(|| bit_operations(insn, ea))
        .or_else(|| bmi::bind(insn, op))
        .or_else(|| random::bind(insn))
        .map(|run| (run, false))
        .or_else(|| branches(insn, mode, ea))
        .or_else(|| stack_operations(insn, mode, ea, op))
        .or_else(|| strings(insn))
        .or_else(|| idle::bind(insn, op))
        .or_else(|| conditions(insn, mode, ea))
        .or_else(|| system::bind(insn, mode, op))
        .or_else(|| crate::sse::bind(insn, ea, op).map(|run| (run, false)))
        .or_else(|| crate::x87::bind(insn, ea, op).map(|run| (run, false)))
}

fn binary<O: Binary>(insn: &Insn, ea: EaKind) -> Option<Run> {
    let size = size_of(insn, 0);
    Some(match kinds(insn) {
        (Kind::Reg, Kind::Reg) => sized!(size, alu::rr, O),
        (Kind::Reg, Kind::Imm) => sized!(size, alu::ri, O),
        (Kind::Reg, Kind::Mem) => sized_mem!(size, ea, alu::rm, O),
        (Kind::Mem, Kind::Reg) => sized_mem!(size, ea, alu::mr, O),
        (Kind::Mem, Kind::Imm) => sized_mem!(size, ea, alu::mi, O),
        _ => return None,
    })
}

fn unary<O: Unary>(insn: &Insn, ea: EaKind) -> Option<Run> {
    let size = size_of(insn, 0);
    Some(match kind(insn, 0) {
        Kind::Reg => sized!(size, alu::unary_r, O),
        _ => sized_mem!(size, ea, alu::unary_m, O),
    })
}

fn arithmetic(insn: &Insn, ea: EaKind) -> Option<Run> {
    match insn.mnemonic {
        Mnemonic::Add => binary::<Add>(insn, ea),
        Mnemonic::Or => binary::<Or>(insn, ea),
        Mnemonic::Adc => binary::<Adc>(insn, ea),
        Mnemonic::Sbb => binary::<Sbb>(insn, ea),
        Mnemonic::And => binary::<And>(insn, ea),
        Mnemonic::Sub => binary::<Sub>(insn, ea),
        Mnemonic::Xor => binary::<Xor>(insn, ea),
        Mnemonic::Cmp => binary::<Cmp>(insn, ea),
        Mnemonic::Test => binary::<Test>(insn, ea),
        Mnemonic::Inc => unary::<Inc>(insn, ea),
        Mnemonic::Dec => unary::<Dec>(insn, ea),
        Mnemonic::Neg => unary::<Neg>(insn, ea),
        Mnemonic::Not => unary::<Not>(insn, ea),
        Mnemonic::Mul => one_operand_product::<false>(insn, ea),
        Mnemonic::Imul => signed_product(insn, ea),
        Mnemonic::Div => quotient::<false>(insn, ea),
        Mnemonic::Idiv => quotient::<true>(insn, ea),
        Mnemonic::Aaa => Some(alu::ascii_adjust::<false>),
        Mnemonic::Aas => Some(alu::ascii_adjust::<true>),
        Mnemonic::Daa => Some(alu::decimal_adjust::<false>),
        Mnemonic::Das => Some(alu::decimal_adjust::<true>),
        Mnemonic::Aam => Some(alu::aam),
        Mnemonic::Aad => Some(alu::aad),
        Mnemonic::Clc => Some(alu::carry::<0>),
        Mnemonic::Stc => Some(alu::carry::<1>),
        Mnemonic::Cmc => Some(alu::carry::<2>),
        Mnemonic::Cld => Some(alu::direction::<false>),
        Mnemonic::Std => Some(alu::direction::<true>),
        Mnemonic::Lahf => Some(alu::lahf),
        Mnemonic::Sahf => Some(alu::sahf),
        Mnemonic::Salc => Some(alu::salc),
        _ => None,
    }
}

fn one_operand_product<const SIGNED: bool>(insn: &Insn, ea: EaKind) -> Option<Run> {
    let size = size_of(insn, 0);
    Some(match kind(insn, 0) {
        Kind::Reg => sized!(size, muldiv::mul_r, SIGNED),
        _ => sized_mem!(size, ea, muldiv::mul_m, SIGNED),
    })
}

fn quotient<const SIGNED: bool>(insn: &Insn, ea: EaKind) -> Option<Run> {
    let size = size_of(insn, 0);
    Some(match kind(insn, 0) {
        Kind::Reg => sized!(size, muldiv::div_r, SIGNED),
        _ => sized_mem!(size, ea, muldiv::div_m, SIGNED),
    })
}

fn signed_product(insn: &Insn, ea: EaKind) -> Option<Run> {
    let size = size_of(insn, 0);
    Some(match (insn.count, kind(insn, 1)) {
        (1, _) => return one_operand_product::<true>(insn, ea),
        (2, Kind::Reg) => wide!(size, muldiv::imul_rr),
        (2, _) => sized_mem!(size, ea, muldiv::imul_rm),
        (_, Kind::Reg) => wide!(size, muldiv::imul_rri),
        _ => sized_mem!(size, ea, muldiv::imul_rmi),
    })
}

fn moves(insn: &Insn, ea: EaKind) -> Option<Run> {
    let size = size_of(insn, 0);
    Some(match (insn.mnemonic, kinds(insn)) {
        (Mnemonic::Mov, (Kind::Reg, Kind::Reg)) => sized!(size, data::mov_rr),
        (Mnemonic::Mov, (Kind::Reg, Kind::Imm)) => sized!(size, data::mov_ri),
        (Mnemonic::Mov, (Kind::Reg, Kind::Mem)) => sized_mem!(size, ea, data::mov_rm),
        (Mnemonic::Mov | Mnemonic::Movnti, (Kind::Mem, Kind::Reg)) => sized_mem!(size, ea, data::mov_mr),
        (Mnemonic::Mov, (Kind::Mem, Kind::Imm)) => sized_mem!(size, ea, data::mov_mi),
        (Mnemonic::Movzx, _) => extension::<false>(insn, ea)?,
        (Mnemonic::Movsx | Mnemonic::Movsxd, _) => extension::<true>(insn, ea)?,
        (Mnemonic::Lea, _) if insn.address_size == 8 && size == 8 => data::lea64,
        (Mnemonic::Lea, _) => wide!(size, data::lea),
        (Mnemonic::Xchg, (Kind::Reg, Kind::Reg)) => sized!(size, data::xchg_rr),
        (Mnemonic::Xchg, (Kind::Mem, _)) => sized_mem!(size, ea, data::xchg_mr),
        (Mnemonic::Xadd, (Kind::Reg, _)) => sized!(size, data::xadd_rr),
        (Mnemonic::Xadd, _) => sized_mem!(size, ea, data::xadd_mr),
        (Mnemonic::Cmpxchg, (Kind::Reg, _)) => sized!(size, data::cmpxchg_rr),
        (Mnemonic::Cmpxchg, _) => sized_mem!(size, ea, data::cmpxchg_mr),
        (Mnemonic::Cmpxchg8b, _) => data::cmpxchg8b,
        (Mnemonic::Cmpxchg16b, _) => data::cmpxchg16b,
        (Mnemonic::Bswap, _) => wide!(size, data::bswap),
        (Mnemonic::Cbw, _) => data::extend_acc::<u16, u8>,
        (Mnemonic::Cwde, _) => data::extend_acc::<u32, u16>,
        (Mnemonic::Cdqe, _) => data::extend_acc::<u64, u32>,
        (Mnemonic::Cwd, _) => data::extend_dx::<u16>,
        (Mnemonic::Cdq, _) => data::extend_dx::<u32>,
        (Mnemonic::Cqo, _) => data::extend_dx::<u64>,
        (Mnemonic::Xlatb, _) => data::xlat,
        (Mnemonic::Nop | Mnemonic::Pause | Mnemonic::Reservednop, _) => data::nop,
        (Mnemonic::Lfence | Mnemonic::Mfence | Mnemonic::Sfence, _) => data::nop,
        _ => return None,
    })
}

fn extension<const SIGNED: bool>(insn: &Insn, ea: EaKind) -> Option<Run> {
    macro_rules! to {
        ($d:ty) => {
            match (size_of(insn, 1), kind(insn, 1), ea) {
                (1, Kind::Reg, _) => data::extend_rr::<$d, u8, SIGNED>,
                (2, Kind::Reg, _) => data::extend_rr::<$d, u16, SIGNED>,
                (_, Kind::Reg, _) => data::extend_rr::<$d, u32, SIGNED>,
                (1, _, EaKind::Flat64) => data::extend_rm::<$d, Flat64, u8, SIGNED>,
                (1, _, EaKind::Flat32) => data::extend_rm::<$d, Flat32, u8, SIGNED>,
                (1, _, EaKind::Any) => data::extend_rm::<$d, Any, u8, SIGNED>,
                (2, _, EaKind::Flat64) => data::extend_rm::<$d, Flat64, u16, SIGNED>,
                (2, _, EaKind::Flat32) => data::extend_rm::<$d, Flat32, u16, SIGNED>,
                (2, _, EaKind::Any) => data::extend_rm::<$d, Any, u16, SIGNED>,
                (_, _, EaKind::Flat64) => data::extend_rm::<$d, Flat64, u32, SIGNED>,
                (_, _, EaKind::Flat32) => data::extend_rm::<$d, Flat32, u32, SIGNED>,
                (_, _, EaKind::Any) => data::extend_rm::<$d, Any, u32, SIGNED>,
            }
        };
    }
    Some(match size_of(insn, 0) {
        2 => to!(u16),
        4 => to!(u32),
        _ => to!(u64),
    })
}

fn shifts(insn: &Insn, ea: EaKind) -> Option<Run> {
    match insn.mnemonic {
        Mnemonic::Shl | Mnemonic::Sal => shift_by::<Shl>(insn, ea),
        Mnemonic::Shr => shift_by::<Shr>(insn, ea),
        Mnemonic::Sar => shift_by::<Sar>(insn, ea),
        Mnemonic::Rol => shift_by::<Rol>(insn, ea),
        Mnemonic::Ror => shift_by::<Ror>(insn, ea),
        Mnemonic::Rcl => shift_by::<Rcl>(insn, ea),
        Mnemonic::Rcr => shift_by::<Rcr>(insn, ea),
        Mnemonic::Shld => double_shift::<true>(insn, ea),
        Mnemonic::Shrd => double_shift::<false>(insn, ea),
        _ => None,
    }
}

fn shift_by<O: Shift>(insn: &Insn, ea: EaKind) -> Option<Run> {
    let size = size_of(insn, 0);
    Some(match kinds(insn) {
        (Kind::Reg, Kind::Imm) => sized!(size, shift::shift_r, O, false),
        (Kind::Reg, _) => sized!(size, shift::shift_r, O, true),
        (_, Kind::Imm) => sized_mem!(size, ea, shift::shift_m, O, false),
        _ => sized_mem!(size, ea, shift::shift_m, O, true),
    })
}

fn double_shift<const LEFT: bool>(insn: &Insn, ea: EaKind) -> Option<Run> {
    let size = size_of(insn, 0);
    Some(match (kind(insn, 0), kind(insn, 2)) {
        (Kind::Reg, Kind::Imm) => wide!(size, shift::double_r, LEFT, false),
        (Kind::Reg, _) => wide!(size, shift::double_r, LEFT, true),
        (_, Kind::Imm) => sized_mem!(size, ea, shift::double_m, LEFT, false),
        _ => sized_mem!(size, ea, shift::double_m, LEFT, true),
    })
}

fn bit_operations(insn: &Insn, ea: EaKind) -> Option<Run> {
    let size = size_of(insn, 0);
    Some(match (insn.mnemonic, kind(insn, 1)) {
        (Mnemonic::Bt, _) => bit_test::<0>(insn),
        (Mnemonic::Bts, _) => bit_test::<1>(insn),
        (Mnemonic::Btr, _) => bit_test::<2>(insn),
        (Mnemonic::Btc, _) => bit_test::<3>(insn),
        (Mnemonic::Bsf, Kind::Reg) => wide!(size, bits::scan_rr, false),
        (Mnemonic::Bsf, _) => sized_mem!(size, ea, bits::scan_rm, false),
        (Mnemonic::Bsr, Kind::Reg) => wide!(size, bits::scan_rr, true),
        (Mnemonic::Bsr, _) => sized_mem!(size, ea, bits::scan_rm, true),
        (Mnemonic::Popcnt, Kind::Reg) => wide!(size, bits::popcnt_rr),
        (Mnemonic::Popcnt, _) => sized_mem!(size, ea, bits::popcnt_rm),
        _ => return None,
    })
}

fn bit_test<const KIND: u8>(insn: &Insn) -> Run {
    let size = size_of(insn, 0);
    match kinds(insn) {
        (Kind::Reg, Kind::Imm) => wide!(size, bits::bit_r, KIND, true),
        (Kind::Reg, _) => wide!(size, bits::bit_r, KIND, false),
        (_, Kind::Imm) => wide!(size, bits::bit_m, KIND, true),
        _ => wide!(size, bits::bit_m, KIND, false),
    }
}

/// The place of a mnemonic in [`JCC`], [`SETCC`] or [`CMOVCC`]: its condition, as the low four bits of the opcode have it.
pub fn condition(list: &[Mnemonic; 16], m: Mnemonic) -> Option<u8> {
    list.iter().position(|x| *x == m).map(|n| n as u8)
}

/// Jcc in encoding order.
pub const JCC: [Mnemonic; 16] = [
    Mnemonic::Jo,
    Mnemonic::Jno,
    Mnemonic::Jb,
    Mnemonic::Jae,
    Mnemonic::Je,
    Mnemonic::Jne,
    Mnemonic::Jbe,
    Mnemonic::Ja,
    Mnemonic::Js,
    Mnemonic::Jns,
    Mnemonic::Jp,
    Mnemonic::Jnp,
    Mnemonic::Jl,
    Mnemonic::Jge,
    Mnemonic::Jle,
    Mnemonic::Jg,
];
/// SETcc in encoding order.
pub const SETCC: [Mnemonic; 16] = [
    Mnemonic::Seto,
    Mnemonic::Setno,
    Mnemonic::Setb,
    Mnemonic::Setae,
    Mnemonic::Sete,
    Mnemonic::Setne,
    Mnemonic::Setbe,
    Mnemonic::Seta,
    Mnemonic::Sets,
    Mnemonic::Setns,
    Mnemonic::Setp,
    Mnemonic::Setnp,
    Mnemonic::Setl,
    Mnemonic::Setge,
    Mnemonic::Setle,
    Mnemonic::Setg,
];
/// CMOVcc in encoding order.
pub const CMOVCC: [Mnemonic; 16] = [
    Mnemonic::Cmovo,
    Mnemonic::Cmovno,
    Mnemonic::Cmovb,
    Mnemonic::Cmovae,
    Mnemonic::Cmove,
    Mnemonic::Cmovne,
    Mnemonic::Cmovbe,
    Mnemonic::Cmova,
    Mnemonic::Cmovs,
    Mnemonic::Cmovns,
    Mnemonic::Cmovp,
    Mnemonic::Cmovnp,
    Mnemonic::Cmovl,
    Mnemonic::Cmovge,
    Mnemonic::Cmovle,
    Mnemonic::Cmovg,
];

/// Size of a near branch's target: 64-bit code ignores operand-size prefixes (Intel SDM vol. 2, Jcc).
fn branch_size(insn: &Insn, mode: Mode) -> u8 {
    if mode.code == CodeSize::B64 { 8 } else { insn.operand_size }
}

fn conditions(insn: &Insn, mode: Mode, ea: EaKind) -> Option<Choice> {
    if let Some(cc) = condition(&JCC, insn.mnemonic) {
        let size = branch_size(insn, mode);
        return Some((by_condition!(cc, |CC| near!(mode, size, branch::jcc, CC)), true));
    }
    if let Some(cc) = condition(&SETCC, insn.mnemonic) {
        let run = match (kind(insn, 0), ea) {
            (Kind::Reg, _) => by_condition!(cc, |CC| data::setcc_r::<CC> as Run),
            _ => by_condition!(cc, |CC| data::setcc_m::<Any, CC> as Run),
        };
        return Some((run, false));
    }
    let cc = condition(&CMOVCC, insn.mnemonic)?;
    let size = size_of(insn, 0);
    let run = match kind(insn, 1) {
        Kind::Reg => by_condition!(cc, |CC| wide!(size, data::cmov_rr, CC)),
        _ => by_condition!(cc, |CC| wide!(size, data::cmov_rm, Any, CC)),
    };
    Some((run, false))
}

fn branches(insn: &Insn, mode: Mode, ea: EaKind) -> Option<Choice> {
    let size = branch_size(insn, mode);
    let near = matches!(insn.operands[0], Operand::Near(_));
    let run = match (insn.mnemonic, kind(insn, 0)) {
        (Mnemonic::Jmp, _) if near => near!(mode, size, branch::jmp),
        (Mnemonic::Call, _) if near => near!(mode, size, branch::call),
        (Mnemonic::Jmp, Kind::Reg) => near!(mode, size, branch::jmp_r),
        (Mnemonic::Call, Kind::Reg) => near!(mode, size, branch::call_r),
        (Mnemonic::Jmp, Kind::Mem) if is_near_memory(insn, size) => near_mem!(mode, size, ea, branch::jmp_m),
        (Mnemonic::Call, Kind::Mem) if is_near_memory(insn, size) => {
            near_mem!(mode, size, ea, branch::call_m)
        }
        (Mnemonic::Ret, _) => near!(mode, size, branch::ret),
        (Mnemonic::Loopne, _) => near!(mode, size, branch::loop_, 0),
        (Mnemonic::Loope, _) => near!(mode, size, branch::loop_, 1),
        (Mnemonic::Loop, _) => near!(mode, size, branch::loop_, 2),
        (Mnemonic::Jcxz | Mnemonic::Jecxz | Mnemonic::Jrcxz, _) => near!(mode, size, branch::jcxz),
        _ => return None,
    };
    Some((run, true))
}

/// A near indirect branch loads just the target; a far one loads two bytes more.
fn is_near_memory(insn: &Insn, size: u8) -> bool {
    insn.mem.size == size
}

/// Operand size of an instruction that defaults to 8 bytes in 64-bit code.
fn stack_size(insn: &Insn, mode: Mode) -> u8 {
    match (mode.code, insn.operand_size) {
        (CodeSize::B64, 2) => 2,
        (CodeSize::B64, _) => 8,
        (_, size) => size,
    }
}

fn stack_operations(insn: &Insn, mode: Mode, ea: EaKind, op: &mut Op) -> Option<Choice> {
    let size = stack_size(insn, mode);
    let seg_operand = matches!(insn.operands[0], Operand::Seg(_));
    let mut ends = false;
    let run = match (insn.mnemonic, kind(insn, 0)) {
        (Mnemonic::Push, _) if seg_operand => {
            op.src = op.dst;
            wide!(size, stack::push_seg)
        }
        (Mnemonic::Push, Kind::Reg) => wide!(size, stack::push_r),
        (Mnemonic::Push, Kind::Mem) => sized_mem!(size, ea, stack::push_m),
        (Mnemonic::Push, _) => wide!(size, stack::push_i),
        (Mnemonic::Pop, _) if seg_operand => {
            ends = true;
            wide!(size, stack::pop_seg)
        }
        (Mnemonic::Pop, Kind::Reg) => wide!(size, stack::pop_r),
        (Mnemonic::Pop, _) => wide!(size, stack::pop_m),
        (Mnemonic::Pusha | Mnemonic::Pushad, _) => wide!(size, stack::pusha),
        (Mnemonic::Popa | Mnemonic::Popad, _) => wide!(size, stack::popa),
        (Mnemonic::Enter, _) => {
            op.imm = enter_immediates(insn);
            wide!(size, stack::enter)
        }
        (Mnemonic::Leave, _) => wide!(size, stack::leave),
        (Mnemonic::Pushf | Mnemonic::Pushfd | Mnemonic::Pushfq, _) => wide!(size, stack::pushf),
        (Mnemonic::Popf | Mnemonic::Popfd | Mnemonic::Popfq, _) => {
            ends = true;
            wide!(size, stack::popf)
        }
        _ => return None,
    };
    Some((run, ends))
}

fn enter_immediates(insn: &Insn) -> u64 {
    match insn.operands[..2] {
        [Operand::Imm(size), Operand::Imm(level)] => size & 0xffff | (level & 31) << 16,
        _ => 0,
    }
}

fn strings(insn: &Insn) -> Option<Choice> {
    let size = |b, w, d| match insn.mnemonic {
        m if m == b => Some(1),
        m if m == w => Some(2),
        m if m == d => Some(4),
        _ => None,
    };
    use Mnemonic as M;
    if !insn.operands[..insn.count.into()].contains(&Operand::Implied) {
        // MOVSD and CMPSD are SSE2 instructions as well.
        return None;
    }
    if let Some(n) = size(M::Movsb, M::Movsw, M::Movsd).or((insn.mnemonic == M::Movsq).then_some(8)) {
        return string_step::<Movs>(insn, n);
    }
    if let Some(n) = size(M::Cmpsb, M::Cmpsw, M::Cmpsd).or((insn.mnemonic == M::Cmpsq).then_some(8)) {
        return string_step::<Cmps>(insn, n);
    }
    if let Some(n) = size(M::Scasb, M::Scasw, M::Scasd).or((insn.mnemonic == M::Scasq).then_some(8)) {
        return string_step::<Scas>(insn, n);
    }
    if let Some(n) = size(M::Lodsb, M::Lodsw, M::Lodsd).or((insn.mnemonic == M::Lodsq).then_some(8)) {
        return string_step::<Lods>(insn, n);
    }
    if let Some(n) = size(M::Stosb, M::Stosw, M::Stosd).or((insn.mnemonic == M::Stosq).then_some(8)) {
        return string_step::<Stos>(insn, n);
    }
    if let Some(n) = size(M::Insb, M::Insw, M::Insd) {
        return string_step::<Ins>(insn, n);
    }
    size(M::Outsb, M::Outsw, M::Outsd).and_then(|n| string_step::<Outs>(insn, n))
}

fn string_step<S: Step>(insn: &Insn, size: u8) -> Option<Choice> {
    Some(match insn.rep {
        Rep::None => (sized!(size, string::once, S), false),
        Rep::Equal => (sized!(size, string::repeat, S, true), true),
        Rep::NotEqual => (sized!(size, string::repeat, S, false), true),
    })
}

/// IN and OUT.
pub(crate) fn ports(insn: &Insn) -> Option<Run> {
    let by_dx = |n: usize| matches!(insn.operands[n], Operand::Gpr { .. });
    match insn.mnemonic {
        Mnemonic::In => {
            let size = size_of(insn, 0);
            Some(if by_dx(1) { sized!(size, io::input, true) } else { sized!(size, io::input, false) })
        }
        Mnemonic::Out => {
            let size = size_of(insn, 1);
            Some(if by_dx(0) { sized!(size, io::output, true) } else { sized!(size, io::output, false) })
        }
        _ => None,
    }
}
