//! Facts about the x86 instruction set that need no processor: what bytes mean, and what a processor says of itself.
//!
//! [`decode`] turns instruction bytes into an [`Insn`]: plain data, independent of where the bytes lie, so that code
//! can be cached by physical address. Displacements and branch targets that depend on the instruction pointer come out
//! relative to the **start** of the instruction. The decoder behind it is `iced-x86`; its [`Mnemonic`] is re-exported
//! because it is the field's own vocabulary.
//!
//! [`features`] is the table of processor features, [`cpuid`] holds the CPUID models as data, [`undefined`] tells which
//! results mean nothing, [`descriptor`] has the bits of segments and gates.

pub mod cpuid;
pub mod descriptor;
pub mod features;
mod insn;
mod touched;
pub mod undefined;

pub use features::{Feature, Features};
pub use iced_x86::Mnemonic;
pub use insn::{CodeSize, DecodeError, Insn, MAX_LEN, Mem, Operand, Rep, decode, slot};
pub use touched::{Touched, touched};
