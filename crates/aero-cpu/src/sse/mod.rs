//! The vector instructions: MMX, SSE up to 4.2, AES, SHA, AVX, AVX2, F16C, FMA, and the state that they add.
//!
//! An instruction here is three choices: an [`Operation`] on whole registers, a [`Source`] that the second
//! operand comes from, and a [`Place`] that holds the first operand and takes the result. [`run`] puts them
//! together, and [`bind`] is the table of all instructions. Operations are pure functions, so that tests
//! compare them with the host's own processor without a virtual one.
//!
//! MMX registers are the significands of the x87 registers ([`crate::fpu`]); every MMX instruction also marks
//! all of those in use. SSE instructions need CR4.OSFXSR; both need CR0.EM and CR0.TS clear (Intel SDM vol.
//! 3, 13.1). RCP and RSQRT give full single precision.

mod arith;
mod control;
mod convert;
mod crypto;
mod float;
mod fma;
mod half;
mod integer;
mod masked;
#[cfg(all(test, target_arch = "x86_64"))]
mod oracle;

mod rounding;
mod rows;
mod select;
mod sha;
mod strings;
mod swar;
mod table;
#[cfg(test)]
mod tests;
mod vector;
mod wide;
mod xsave;

pub use table::bind;

use crate::exception::Vector;
use crate::op::{Ea, Op};
use crate::state::{cr0, cr4};
use crate::vcpu::{Stop, Vcpu};
use crate::word::Word;
use core::marker::PhantomData;
use float::Env;

/// A function of registers. `a` is the destination's old value, `b` the source's.
trait Operation {
    /// The result, its flags into `env`.
    fn apply(env: &mut Env, a: [u64; 2], b: [u64; 2], imm: u8) -> [u64; 2];
}

/// A function of registers that needs no MXCSR and is the same for MMX (`N` = 1) and SSE2 (`N` = 2).
trait Packed {
    /// The result.
    fn apply<const N: usize>(a: [u64; N], b: [u64; N], imm: u8) -> [u64; N];
}

/// A [`Packed`] on XMM registers.
struct Wide<P>(PhantomData<P>);
/// A [`Packed`] on MMX registers.
struct Narrow<P>(PhantomData<P>);

impl<P: Packed> Operation for Wide<P> {
    #[inline(always)]
    fn apply(_env: &mut Env, a: [u64; 2], b: [u64; 2], imm: u8) -> [u64; 2] {
        P::apply(a, b, imm)
    }
}

impl<P: Packed> Operation for Narrow<P> {
    #[inline(always)]
    fn apply(_env: &mut Env, a: [u64; 2], b: [u64; 2], imm: u8) -> [u64; 2] {
        let [r] = P::apply([a[0]], [b[0]], imm);
        [r, 0]
    }
}

/// Where the second operand comes from.
trait Source {
    /// An MMX register.
    const MMX: bool = false;
    /// An XMM register.
    const SSE: bool = false;
    /// Its value; what is narrower than a register is zero-extended.
    fn load(v: &mut Vcpu<'_>, op: &Op) -> Result<[u64; 2], Stop>;
}

/// Where the first operand is and the result goes.
trait Place {
    /// An MMX register.
    const MMX: bool = false;
    /// An XMM register.
    const SSE: bool = false;
    /// The old value; zero where operations do not use it.
    fn read(v: &Vcpu<'_>, op: &Op) -> [u64; 2];
    /// Takes the result.
    fn write(v: &mut Vcpu<'_>, op: &Op, value: [u64; 2]) -> Result<(), Stop>;
}

/// An XMM register.
struct Xmm;
/// An MMX register.
struct Mm;
/// A general register of the size of `T`.
struct Gpr<T>(PhantomData<T>);
/// The immediate, in place of a register.
struct Immediate;
/// Memory of `BYTES`.
struct Memory<M, const BYTES: u32>(PhantomData<M>);
/// 16 bytes of memory that may lie anywhere.
struct Unaligned<M>(PhantomData<M>);
/// `P` in an instruction that is SSE's even when it names no XMM register.
struct Computed<P>(PhantomData<P>);
/// The arithmetic flags, with the first operand in an XMM register.
struct ArithFlags;

impl Source for Xmm {
    const SSE: bool = true;
    #[inline(always)]
    fn load(v: &mut Vcpu<'_>, op: &Op) -> Result<[u64; 2], Stop> {
        Ok(v.st.xmm[usize::from(op.src & 15)])
    }
}

impl Source for Mm {
    const MMX: bool = true;
    #[inline(always)]
    fn load(v: &mut Vcpu<'_>, op: &Op) -> Result<[u64; 2], Stop> {
        Ok([v.st.fpu.mmx(op.src), 0])
    }
}

impl<T: Word> Source for Gpr<T> {
    #[inline(always)]
    fn load(v: &mut Vcpu<'_>, op: &Op) -> Result<[u64; 2], Stop> {
        Ok([v.st.reg::<T>(op.src).zext(), 0])
    }
}

impl Source for Immediate {
    #[inline(always)]
    fn load(_v: &mut Vcpu<'_>, op: &Op) -> Result<[u64; 2], Stop> {
        Ok([op.imm & 0xff, 0])
    }
}

impl<M: Ea, const BYTES: u32> Source for Memory<M, BYTES> {
    #[inline(always)]
    fn load(v: &mut Vcpu<'_>, op: &Op) -> Result<[u64; 2], Stop> {
        let la = M::linear(v, op, BYTES, false)?;
        Ok(match BYTES {
            2 => [v.load::<u16>(la)?.into(), 0],
            4 => [v.load::<u32>(la)?.into(), 0],
            8 => [v.load(la)?, 0],
            _ => {
                v.check_aligned(la)?;
                v.load128(la)?
            }
        })
    }
}

impl<M: Ea> Source for Unaligned<M> {
    #[inline(always)]
    fn load(v: &mut Vcpu<'_>, op: &Op) -> Result<[u64; 2], Stop> {
        let la = M::linear(v, op, 16, false)?;
        v.load128(la)
    }
}

impl Place for Xmm {
    const SSE: bool = true;
    #[inline(always)]
    fn read(v: &Vcpu<'_>, op: &Op) -> [u64; 2] {
        v.st.xmm[usize::from(op.dst & 15)]
    }
    #[inline(always)]
    fn write(v: &mut Vcpu<'_>, op: &Op, value: [u64; 2]) -> Result<(), Stop> {
        v.st.xmm[usize::from(op.dst & 15)] = value;
        Ok(())
    }
}

impl Place for Mm {
    const MMX: bool = true;
    #[inline(always)]
    fn read(v: &Vcpu<'_>, op: &Op) -> [u64; 2] {
        [v.st.fpu.mmx(op.dst), 0]
    }
    #[inline(always)]
    fn write(v: &mut Vcpu<'_>, op: &Op, value: [u64; 2]) -> Result<(), Stop> {
        v.st.fpu.set_mmx(op.dst, value[0]);
        Ok(())
    }
}

impl<T: Word> Place for Gpr<T> {
    #[inline(always)]
    fn read(_v: &Vcpu<'_>, _op: &Op) -> [u64; 2] {
        [0; 2]
    }
    #[inline(always)]
    fn write(v: &mut Vcpu<'_>, op: &Op, value: [u64; 2]) -> Result<(), Stop> {
        v.st.set_reg(op.dst, T::trunc(value[0]));
        Ok(())
    }
}

impl<M: Ea, const BYTES: u32> Place for Memory<M, BYTES> {
    #[inline(always)]
    fn read(_v: &Vcpu<'_>, _op: &Op) -> [u64; 2] {
        [0; 2]
    }
    #[inline(always)]
    fn write(v: &mut Vcpu<'_>, op: &Op, value: [u64; 2]) -> Result<(), Stop> {
        let la = M::linear(v, op, BYTES, true)?;
        match BYTES {
            4 => v.store(la, value[0] as u32),
            8 => v.store(la, value[0]),
            _ => {
                v.check_aligned(la)?;
                v.store128(la, value)
            }
        }
    }
}

impl<M: Ea> Place for Unaligned<M> {
    #[inline(always)]
    fn read(_v: &Vcpu<'_>, _op: &Op) -> [u64; 2] {
        [0; 2]
    }
    #[inline(always)]
    fn write(v: &mut Vcpu<'_>, op: &Op, value: [u64; 2]) -> Result<(), Stop> {
        let la = M::linear(v, op, 16, true)?;
        v.store128(la, value)
    }
}

impl<P: Place> Place for Computed<P> {
    const MMX: bool = P::MMX;
    const SSE: bool = true;
    #[inline(always)]
    fn read(v: &Vcpu<'_>, op: &Op) -> [u64; 2] {
        P::read(v, op)
    }
    #[inline(always)]
    fn write(v: &mut Vcpu<'_>, op: &Op, value: [u64; 2]) -> Result<(), Stop> {
        P::write(v, op, value)
    }
}

impl Place for ArithFlags {
    const SSE: bool = true;
    #[inline(always)]
    fn read(v: &Vcpu<'_>, op: &Op) -> [u64; 2] {
        Xmm::read(v, op)
    }
    #[inline(always)]
    fn write(v: &mut Vcpu<'_>, _op: &Op, value: [u64; 2]) -> Result<(), Stop> {
        v.st.set_arith(value[0]);
        Ok(())
    }
}

/// The handler: `D = O(D, S)`.
fn run<O: Operation, D: Place, S: Source>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let mmx = D::MMX || S::MMX;
    if D::SSE || S::SSE {
        v.check_sse()?;
    }
    if mmx {
        v.check_mmx()?;
    }
    let b = S::load(v, op)?;
    let a = D::read(v, op);
    let mut env = Env::new(v.st.mxcsr);
    let r = O::apply(&mut env, a, b, op.imm as u8);
    if env.flags != 0 {
        v.settle(env.flags)?;
    }
    D::write(v, op, r)?;
    if mmx {
        v.st.fpu.enter_mmx();
    }
    Ok(())
}

impl Vcpu<'_> {
    /// #UD or #NM where SSE instructions may not run.
    #[inline(always)]
    fn check_sse(&mut self) -> Result<(), Stop> {
        let off = self.st.cr0 & (cr0::EM | cr0::TS) | !self.st.cr4 & cr4::OSFXSR;
        if off == 0 { Ok(()) } else { Err(self.refuse_sse()) }
    }

    #[cold]
    fn refuse_sse(&mut self) -> Stop {
        if self.st.cr0 & cr0::EM != 0 || self.st.cr4 & cr4::OSFXSR == 0 {
            return self.ud();
        }
        self.raise(Vector::DEVICE_NOT_AVAILABLE)
    }

    /// #UD, #NM or #MF where MMX instructions may not run.
    #[inline(always)]
    fn check_mmx(&mut self) -> Result<(), Stop> {
        if self.st.cr0 & (cr0::EM | cr0::TS) != 0 || self.st.fpu.pending_exception() {
            return self.refuse_mmx();
        }
        Ok(())
    }

    #[cold]
    fn refuse_mmx(&mut self) -> Result<(), Stop> {
        if self.st.cr0 & cr0::EM != 0 {
            return Err(self.ud());
        }
        if self.st.cr0 & cr0::TS != 0 {
            return Err(self.raise(Vector::DEVICE_NOT_AVAILABLE));
        }
        self.x87_error()
    }

    #[inline(always)]
    fn check_aligned(&mut self, la: u64) -> Result<(), Stop> {
        if la & 15 == 0 { Ok(()) } else { Err(self.gp(0)) }
    }

    /// Records flags in MXCSR. Unmasked ones raise #XM, or #UD where the system does not know it.
    fn settle(&mut self, flags: u32) -> Result<(), Stop> {
        let (status, raises) = float::record(self.st.mxcsr, flags);
        self.st.mxcsr = status;
        if !raises {
            return Ok(());
        }
        if self.st.cr4 & cr4::OSXMMEXCPT == 0 {
            return Err(self.ud());
        }
        Err(self.raise(Vector::SIMD))
    }
}
