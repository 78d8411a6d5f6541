//! The processor.
//!
//! [`Cpu`] is one x86-64 processor: architectural state in the arena ([`state`]), software TLB ([`tlb`]), page-table
//! walks ([`mmu`]), exceptions and interrupts ([`interrupt`]), and an interpreter that runs **decoded blocks**:
//!
//! 1. [`exec`] looks up RIP in the jump cache of [`block`]; a hit names a run of [`op::Op`]s.
//! 2. Each op is a function pointer and 24 bytes of operands; [`bind`] chose the function when the block was decoded,
//!    monomorphic in operand size, addressing mode and operation.
//!    The commonest ones of flat code are not called: `hot` has them in the loop.
//! 3. Memory goes through [`access`]: one load from a table in the arena, one subtraction, one test.
//! 4. A handler that cannot go on returns a [`vcpu::Stop`]; state is then exactly as before the instruction.
//!
//! What handlers are made of:
//!
//! | module | holds |
//! |---|---|
//! | [`op`] | integer instructions, a file a group |
//! | [`x87`], [`fpu`] | the x87: its instructions, and its arithmetic, which knows no processor |
//! | [`sse`] | MMX, SSE, AVX and what came with them, XSAVE |
//! | [`segments`], [`transfer`] | descriptors and their checks; far transfers and task switches |
//! | [`exception`], [`interrupt`] | faults, and their delivery through gates |
//! | [`msr`] | model-specific registers, a table |
//! | [`debug`] | breakpoints and single steps |
//! | [`jit`] | what compiled code and the processor agree on |
//! | [`lapic`], [`hyperv`] | the local APIC, as xAPIC and x2APIC; the hypervisor's interface |
//!
//! What the processor can do is a set of features ([`CpuConfig`] names the model, `aero_x86::features` has the table).
//!
//! RIP is written at the ends of blocks only, and reconstructed from the block when something stops in its middle. The
//! budget is charged per block and corrected the same way, so both are exact to the instruction whenever the run loop
//! looks. The devices around the processor are behind [`Bus`].

pub mod access;
pub mod bind;
pub mod block;
pub mod debug;
pub mod exception;
pub mod exec;
pub mod flags;
pub mod fpu;
mod hot;
pub mod hyperv;
pub mod interrupt;
pub mod jit;
pub mod lapic;
pub mod mmu;
pub mod msr;
mod no_devices;
pub mod op;
pub mod segments;
pub mod sse;
pub mod state;
pub mod tlb;
pub mod transfer;
pub mod vcpu;
pub mod word;
pub mod x87;

pub use exec::{Cpu, Exit};
pub use no_devices::NoDevices;
pub use vcpu::{Bus, Counters, CpuConfig};
