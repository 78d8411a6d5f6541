//! SSE4 and VEX: one handler for many instructions.
//!
//! What came up to SSSE3 has a handler of its own per instruction ([`super::run`]): that is what the systems of the
//! time execute all day. What came later is rows of a table ([`super::rows`]): a pure function of 16-byte lanes, and
//! a [`Shape`] that says how lanes make up the operands. One function serves the legacy, the VEX.128 and the VEX.256
//! form; [`drive`] is compiled only once for each way to fetch the second operand and to put the result.
//!
//! A legacy instruction leaves the upper half of a YMM register alone, a VEX.128 one clears it. VEX instructions
//! need protected mode, CR4.OSXSAVE and the SSE and AVX bits of XCR0, and align nothing but the moves that say so
//! (Intel SDM vol. 2, 2.4 and vol. 1, 14.9).

use super::float::Env;
use super::rows::ROWS;
use super::{Operation, Packed, Wide};
use crate::exception::Vector;
use crate::op::{Any, Ea, Op, Run};
use crate::state::{cr0, cr4};
use crate::vcpu::{Stop, Vcpu};
use crate::word::Word;
use aero_x86::{Insn, Mnemonic, Operand};
use core::marker::PhantomData;

/// 16 bytes, low half first.
pub type Lane = [u64; 2];
/// A YMM register.
pub type Whole = [Lane; 2];
/// A lane of the result out of those of the first, second and third operand. The third is the destination's old
/// value where an instruction has no third source.
pub type Pure = fn(&mut Env, &[Lane; 3], u8) -> Lane;
/// A function that moves data between lanes.
pub type Across = fn(&[Whole; 3], u8) -> Whole;

/// What an instruction computes.
#[derive(Clone, Copy)]
pub enum Function {
    /// Lane by lane.
    Lanes(Pure),
    /// All at once.
    Across(Across),
}

/// Which part of the second operand the upper lane works on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Upper {
    /// The upper lane.
    Own,
    /// The lower lane, like the lower one: broadcasts, shift counts.
    Same,
    /// What follows these low bytes: conversions to something wider.
    After(u32),
}

/// How the lanes' results make up the instruction's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// As they are.
    Both,
    /// The low halves: conversions to something narrower.
    Halves,
    /// Masks of so many bits.
    Bits(u32),
    /// Flags that must hold in both.
    Flags,
}

/// How lanes make up operands.
#[derive(Clone, Copy)]
pub struct Shape {
    /// The second operand's upper lane.
    pub upper: Upper,
    /// The result.
    pub join: Join,
    /// The upper lane's immediate is shifted down by this.
    pub shift: u32,
    /// The memory operand must be aligned to its size, VEX or not.
    pub aligned: bool,
    /// The memory operand of 16 bytes may lie anywhere without VEX as well.
    pub anywhere: bool,
}

/// Lane by lane.
pub const PLAIN: Shape =
    Shape { upper: Upper::Own, join: Join::Both, shift: 0, aligned: false, anywhere: false };

impl Shape {
    /// The upper lane sees the lower one's second operand.
    pub const SAME: Self = Self { upper: Upper::Same, ..PLAIN };
    /// Aligned moves.
    pub const ALIGNED: Self = Self { aligned: true, ..PLAIN };
    /// Conversions to half the width.
    pub const HALVES: Self = Self { join: Join::Halves, ..PLAIN };
    /// The arithmetic flags.
    pub const FLAGS: Self = Self { join: Join::Flags, ..PLAIN };

    /// A conversion that makes 16 bytes of these.
    pub const fn from(bytes: u32) -> Self {
        Self { upper: Upper::After(bytes), ..PLAIN }
    }

    /// The upper lane uses other bits of the immediate.
    pub const fn shifted(shift: u32) -> Self {
        Self { shift, ..PLAIN }
    }

    /// A mask of so many bits per lane.
    pub const fn bits(count: u32) -> Self {
        Self { join: Join::Bits(count), ..PLAIN }
    }
}

/// Which forms of a mnemonic a row is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// All.
    Any,
    /// No memory operand.
    Registers,
    /// The last source in memory.
    Load,
    /// The destination in memory.
    Store,
    /// A shift by the immediate.
    Count,
    /// The last operand is an immediate.
    ByImmediate,
    /// The last source has 4 bytes.
    From4,
    /// The last source has 8 bytes.
    From8,
    /// The destination is a general register of 8 bytes.
    To8,
    /// The destination is a general register of fewer.
    To4,
}

/// One instruction.
pub struct Row {
    /// Its name.
    pub mnemonic: Mnemonic,
    /// Its form.
    pub form: Form,
    /// Its lanes.
    pub shape: Shape,
    /// What it does with them.
    pub function: Function,
}

/// An [`Operation`] as a [`Pure`].
pub fn pure<O: Operation>(env: &mut Env, x: &[Lane; 3], imm: u8) -> Lane {
    O::apply(env, x[0], x[1], imm)
}

/// A [`Packed`] as a [`Pure`].
pub fn packed<P: Packed>(env: &mut Env, x: &[Lane; 3], imm: u8) -> Lane {
    pure::<Wide<P>>(env, x, imm)
}

/// What surrounds imm8 in [`Op::imm`]: the numbers of the first and the third operand, and the row.
#[derive(Clone, Copy)]
pub struct Pack {
    /// Register of the first operand.
    pub first: u8,
    /// Register of the third operand.
    pub third: u8,
    /// Number in [`ROWS`].
    pub row: usize,
}

impl Pack {
    /// Adds itself to an immediate.
    pub fn with(self, imm: u64) -> u64 {
        imm & 0xff | u64::from(self.first) << 8 | u64::from(self.third) << 12 | (self.row as u64) << 16
    }

    /// What is in an operation.
    #[inline(always)]
    pub fn of(op: &Op) -> Self {
        Self {
            first: (op.imm >> 8 & 15) as u8,
            third: (op.imm >> 12 & 15) as u8,
            row: (op.imm >> 16) as usize,
        }
    }
}

/// An encoding without VEX.
pub const LEGACY: u8 = 0;
/// VEX.L = 0.
pub const VEX128: u8 = 1;
/// VEX.L = 1.
pub const VEX256: u8 = 2;

/// Where the last source comes from.
trait Fetch {
    /// Its value; what is narrower than a register is zero-extended.
    fn fetch(v: &mut Vcpu<'_>, op: &Op) -> Result<Whole, Stop>;
}

/// Where the result goes.
trait Put {
    /// Faults as taking it would, where that must come before the computation's own exceptions.
    fn probe(_v: &mut Vcpu<'_>, _op: &Op) -> Result<(), Stop> {
        Ok(())
    }
    /// Takes it.
    fn put<const LEN: u8>(v: &mut Vcpu<'_>, op: &Op, value: Whole) -> Result<(), Stop>;
}

/// A vector register.
struct Vectors;
/// A general register.
struct General<T>(PhantomData<T>);
/// Memory of as many bytes as `src` (`dst` for results) says.
struct Memory<const ALIGNED: bool>;
/// Memory for a result that may raise exceptions: VCVTPS2PH.
struct Checked;
/// The immediate.
struct Immediate;
/// The arithmetic flags.
struct ArithFlags;

impl Fetch for Vectors {
    fn fetch(v: &mut Vcpu<'_>, op: &Op) -> Result<Whole, Stop> {
        Ok(v.vector(op.src))
    }
}

impl<T: Word> Fetch for General<T> {
    fn fetch(v: &mut Vcpu<'_>, op: &Op) -> Result<Whole, Stop> {
        Ok([[v.st.reg::<T>(op.src).zext(), 0], [0; 2]])
    }
}

impl Fetch for Immediate {
    fn fetch(_v: &mut Vcpu<'_>, op: &Op) -> Result<Whole, Stop> {
        Ok([[op.imm & 0xff, 0], [0; 2]])
    }
}

impl<const ALIGNED: bool> Fetch for Memory<ALIGNED> {
    fn fetch(v: &mut Vcpu<'_>, op: &Op) -> Result<Whole, Stop> {
        let la = Any::linear(v, op, op.src.into(), false)?;
        if ALIGNED {
            v.check_aligned_to(la, op.src)?;
        }
        let low = match op.src {
            1 => [v.load::<u8>(la)?.into(), 0],
            2 => [v.load::<u16>(la)?.into(), 0],
            4 => [v.load::<u32>(la)?.into(), 0],
            8 => [v.load(la)?, 0],
            16 => v.load128(la)?,
            _ => return v.load256(la),
        };
        Ok([low, [0; 2]])
    }
}

impl Put for Vectors {
    fn put<const LEN: u8>(v: &mut Vcpu<'_>, op: &Op, value: Whole) -> Result<(), Stop> {
        v.set_vector::<LEN>(op.dst, value);
        Ok(())
    }
}

impl<T: Word> Put for General<T> {
    fn put<const LEN: u8>(v: &mut Vcpu<'_>, op: &Op, value: Whole) -> Result<(), Stop> {
        v.st.set_reg(op.dst, T::trunc(value[0][0]));
        Ok(())
    }
}

impl<const ALIGNED: bool> Put for Memory<ALIGNED> {
    fn put<const LEN: u8>(v: &mut Vcpu<'_>, op: &Op, value: Whole) -> Result<(), Stop> {
        let la = Any::linear(v, op, op.dst.into(), true)?;
        if ALIGNED {
            v.check_aligned_to(la, op.dst)?;
        }
        let [low, _] = value;
        match op.dst {
            1 => v.store(la, low[0] as u8),
            2 => v.store(la, low[0] as u16),
            4 => v.store(la, low[0] as u32),
            8 => v.store(la, low[0]),
            16 => v.store128(la, low),
            _ => v.store256(la, value),
        }
    }
}

impl Put for Checked {
    fn probe(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
        let la = Any::linear(v, op, op.dst.into(), true)?;
        v.probe_write(la, op.dst.into())
    }
    fn put<const LEN: u8>(v: &mut Vcpu<'_>, op: &Op, value: Whole) -> Result<(), Stop> {
        Memory::<false>::put::<LEN>(v, op, value)
    }
}

impl Put for ArithFlags {
    fn put<const LEN: u8>(v: &mut Vcpu<'_>, _op: &Op, value: Whole) -> Result<(), Stop> {
        v.st.set_arith(value[0][0]);
        Ok(())
    }
}

/// The handler of the rows.
fn drive<const LEN: u8, S: Fetch, T: Put>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    v.check_vector::<LEN>()?;
    let last = S::fetch(v, op)?;
    T::probe(v, op)?;
    let result = v.compute(op, last, LEN == VEX256)?;
    T::put::<LEN>(v, op, result)
}

/// The result of a row for `operands`; flags go to `env`.
pub fn compute(row: &Row, env: &mut Env, operands: &[Whole; 3], imm: u8, wide: bool) -> Whole {
    let [a, b, c] = operands;
    let upper = match row.shape.upper {
        Upper::Own => b[1],
        Upper::Same => b[0],
        Upper::After(bytes) => {
            let rest = (u128::from(b[0][1]) << 64 | u128::from(b[0][0])) >> (8 * bytes);
            [rest as u64, (rest >> 64) as u64]
        }
    };
    let f = match row.function {
        Function::Lanes(f) => f,
        Function::Across(f) => return f(operands, imm),
    };
    let low = f(env, &[a[0], b[0], c[0]], imm);
    if !wide {
        return [low, [0; 2]];
    }
    let high = f(env, &[a[1], upper, c[1]], imm >> row.shape.shift);
    match row.shape.join {
        Join::Both => [low, high],
        Join::Halves => [[low[0], high[0]], [0; 2]],
        Join::Bits(count) => [[low[0] | high[0] << count, 0], [0; 2]],
        Join::Flags => [[low[0] & high[0], 0], [0; 2]],
    }
}

impl Vcpu<'_> {
    /// A YMM register.
    #[inline(always)]
    pub(super) fn vector(&self, n: u8) -> Whole {
        let n = usize::from(n & 15);
        [self.st.xmm[n], self.st.ymm_high[n]]
    }

    /// Sets as much of a YMM register as the encoding does.
    #[inline(always)]
    pub(super) fn set_vector<const LEN: u8>(&mut self, n: u8, value: Whole) {
        let n = usize::from(n & 15);
        self.st.xmm[n] = value[0];
        if LEN != LEGACY {
            self.st.ymm_high[n] = if LEN == VEX256 { value[1] } else { [0; 2] };
        }
    }

    /// #UD or #NM where an encoding may not run.
    #[inline(always)]
    pub(super) fn check_vector<const LEN: u8>(&mut self) -> Result<(), Stop> {
        if LEN == LEGACY { self.check_sse() } else { self.check_vex() }
    }

    #[inline(always)]
    fn check_vex(&mut self) -> Result<(), Stop> {
        const SSE_AND_AVX: u64 = 6;
        let on = self.st.cr4 & cr4::OSXSAVE != 0 && self.st.xcr0 & SSE_AND_AVX == SSE_AND_AVX;
        if !on || self.st.real_segments() {
            return Err(self.ud());
        }
        if self.st.cr0 & cr0::TS != 0 {
            return Err(self.raise(Vector::DEVICE_NOT_AVAILABLE));
        }
        Ok(())
    }

    #[inline(always)]
    fn check_aligned_to(&mut self, la: u64, size: u8) -> Result<(), Stop> {
        if la & u64::from(size - 1) == 0 { Ok(()) } else { Err(self.gp(0)) }
    }

    /// Loads 32 bytes.
    pub(super) fn load256(&mut self, la: u64) -> Result<Whole, Stop> {
        if la & 0xfff > 0xfe0 {
            self.probe_read(la, 32)?;
        }
        Ok([self.load128(la)?, self.load128(la.wrapping_add(16))?])
    }

    /// Stores 32 bytes, all or nothing.
    pub(super) fn store256(&mut self, la: u64, value: Whole) -> Result<(), Stop> {
        if la & 0xfff > 0xfe0 {
            self.probe_write(la, 32)?;
        }
        self.store128(la, value[0])?;
        self.store128(la.wrapping_add(16), value[1])
    }

    /// A row's result, its flags recorded.
    fn compute(&mut self, op: &Op, last: Whole, wide: bool) -> Result<Whole, Stop> {
        let pack = Pack::of(op);
        let operands = [self.vector(pack.first), last, self.vector(pack.third)];
        let mut env = Env::new(self.st.mxcsr);
        let result = compute(&ROWS[pack.row], &mut env, &operands, op.imm as u8, wide);
        if env.flags != 0 {
            self.settle(env.flags)?;
        }
        Ok(result)
    }
}

/// The number of a vector or MMX register, or the offset of a general one.
fn register(operand: Operand) -> u8 {
    match operand {
        Operand::Xmm(n) | Operand::Ymm(n) => n,
        Operand::Gpr { reg, .. } => reg * 8,
        _ => 0,
    }
}

fn general_size(operand: Operand) -> Option<u8> {
    match operand {
        Operand::Gpr { size, .. } => Some(size),
        _ => None,
    }
}

/// The encoding that an instruction has.
pub fn length(insn: &Insn) -> u8 {
    let ymm = insn.operands[..insn.count.into()].iter().any(|o| matches!(o, Operand::Ymm(_)));
    match (insn.vex, ymm || insn.mem.size == 32) {
        (false, _) => LEGACY,
        (true, false) => VEX128,
        (true, true) => VEX256,
    }
}

/// The sources of an instruction: up to three after the destination, immediates aside.
struct Sources {
    list: [Operand; 3],
    count: usize,
}

fn sources(insn: &Insn) -> Sources {
    let mut s = Sources { list: [Operand::Other; 3], count: 0 };
    for operand in &insn.operands[1..insn.count.into()] {
        if !matches!(operand, Operand::Imm(_)) {
            s.list[s.count] = *operand;
            s.count += 1;
        }
    }
    s
}

impl Form {
    fn fits(self, insn: &Insn) -> bool {
        let s = sources(insn);
        let store = insn.operands[0] == Operand::Mem;
        let load = s.list[..s.count].contains(&Operand::Mem);
        let last = s.list[s.count.saturating_sub(1)];
        let size = general_size(last).unwrap_or(insn.mem.size);
        match self {
            Self::Any => true,
            Self::Registers => !store && !load,
            Self::Load => load,
            Self::Store => store,
            Self::Count | Self::ByImmediate => {
                matches!(insn.operands[usize::from(insn.count) - 1], Operand::Imm(_))
            }
            Self::From4 => size == 4,
            Self::From8 => size == 8,
            Self::To8 => general_size(insn.operands[0]) == Some(8),
            Self::To4 => general_size(insn.operands[0]).is_some_and(|size| size < 8),
        }
    }
}

/// A handler for each encoding.
macro_rules! by_length {
    ($len:expr, $s:ty, $t:ty) => {
        match $len {
            LEGACY => drive::<LEGACY, $s, $t> as Run,
            VEX128 => drive::<VEX128, $s, $t>,
            _ => drive::<VEX256, $s, $t>,
        }
    };
}

/// The number of an instruction's row.
pub fn row_of(insn: &Insn) -> Option<usize> {
    ROWS.iter().position(|r| r.mnemonic == insn.mnemonic && r.form.fits(insn))
}

/// The handler of an instruction that has a row; packs its operands into `op`.
pub fn bind(insn: &Insn, op: &mut Op) -> Option<Run> {
    let number = row_of(insn)?;
    let row = &ROWS[number];
    let s = sources(insn);
    let flags = row.shape.join == Join::Flags;
    let first = match (insn.vex, s.count) {
        _ if flags => insn.operands[0],
        (_, 1) if row.form == Form::Count && s.list[0] != Operand::Mem => {
            if insn.vex {
                s.list[0]
            } else {
                insn.operands[0]
            }
        }
        (false, _) | (_, 0 | 1) => insn.operands[0],
        _ => s.list[0],
    };
    // Without VEX the third operand is XMM0 and not encoded.
    let (last, third) = match (insn.vex, s.count) {
        (false, _) => (s.list[0], Operand::Xmm(0)),
        (true, 0 | 1) => (s.list[0], insn.operands[0]),
        (true, 2) => (s.list[1], insn.operands[0]),
        (true, _) => (s.list[1], s.list[2]),
    };
    let pack = |o: Operand| if matches!(o, Operand::Xmm(_) | Operand::Ymm(_)) { register(o) } else { 0 };
    op.imm = Pack { first: pack(first), third: pack(third), row: number }.with(op.imm);
    op.dst = if insn.operands[0] == Operand::Mem { insn.mem.size } else { register(insn.operands[0]) };
    op.src = if last == Operand::Mem { insn.mem.size } else { register(last) };
    Some(handler(insn, row, last, flags))
}

fn handler(insn: &Insn, row: &Row, last: Operand, flags: bool) -> Run {
    let len = length(insn);
    let legacy_aligned = len == LEGACY && insn.mem.size == 16 && !row.shape.anywhere;
    let aligned = row.shape.aligned || legacy_aligned;
    if flags {
        return match last {
            Operand::Mem if aligned => by_length!(len, Memory<true>, ArithFlags),
            Operand::Mem => by_length!(len, Memory<false>, ArithFlags),
            _ => by_length!(len, Vectors, ArithFlags),
        };
    }
    match (insn.operands[0], last) {
        _ if row.form == Form::Count => by_length!(len, Immediate, Vectors),
        (Operand::Mem, _) if row.mnemonic == Mnemonic::Vcvtps2ph => by_length!(len, Vectors, Checked),
        (Operand::Mem, _) if aligned => by_length!(len, Vectors, Memory<true>),
        (Operand::Mem, _) => by_length!(len, Vectors, Memory<false>),
        (Operand::Gpr { size: 8, .. }, Operand::Mem) => by_length!(len, Memory<false>, General<u64>),
        (Operand::Gpr { .. }, Operand::Mem) => by_length!(len, Memory<false>, General<u32>),
        (Operand::Gpr { size: 8, .. }, _) => by_length!(len, Vectors, General<u64>),
        (Operand::Gpr { .. }, _) => by_length!(len, Vectors, General<u32>),
        (_, Operand::Gpr { size: 8, .. }) => by_length!(len, General<u64>, Vectors),
        (_, Operand::Gpr { .. }) => by_length!(len, General<u32>, Vectors),
        (_, Operand::Mem) if aligned => by_length!(len, Memory<true>, Vectors),
        (_, Operand::Mem) => by_length!(len, Memory<false>, Vectors),
        _ => by_length!(len, Vectors, Vectors),
    }
}
