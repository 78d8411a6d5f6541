//! What the processor and compiled code agree on.
//!
//! A *region* of guest code, compiled, is a WebAssembly function `(ctx: i32, depth: i32) -> i32`. It finds the guest's
//! state in [`CpuState`] and memory through the TLB's tables, at arena offsets that it was compiled with. While it runs,
//! guest registers live in its locals; whenever it returns, calls another region, or asks for help, what the callee may
//! look at has been written back. It returns a [`Status`].
//!
//! Compiled code never raises an exception and never touches a device. What it cannot do it leaves, with everything as it
//! was before the guest instruction under way ([`Status::Redo`]), and the interpreter runs that instruction.
//!
//! Regions find each other through the *jump table*, [`JUMP_ENTRIES`] entries of [`JumpEntry`] in the arena. The run loop
//! fills it; whatever changes where code lies empties it.
//!
//! | here | what |
//! |---|---|
//! | [`load`] and its kin | the functions that compiled code calls |
//! | [`Translator`] | what makes, keeps and runs compiled code, as the run loop sees it |
//! | [`Regions`] | what the processor keeps beside compiled code: the jump table's bookkeeping, instructions to interpret |
//!
//! [`Translator`]'s side finds its way around the running processor by the methods of [`Vcpu`] in `jit/place.rs`.
//!
//! [`Vcpu`]: crate::vcpu::Vcpu

mod helpers;
mod jumps;
mod place;
mod regions;
mod translator;
pub mod x87;

pub use helpers::{exec, load, load16, place, settle, store, store16};
pub use place::CodePage;
pub use regions::{Regions, Residence};
pub use translator::{Answer, Found, Tally, Translator};

use crate::op::muldiv;
use crate::op::shift::{Sar, Shift, Shl, Shr};
use crate::state::{CpuState, Flags, eflags};

/// What the arithmetic flags follow from. Kinds of operations on 1, 2, 4 and 8 bytes are four in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
#[repr(transparent)]
pub struct FlagKind(pub u32);

impl FlagKind {
    /// [`CpuState::flags`] has them.
    pub const MEMORY: Self = Self(0);
    /// `a + b`, by size.
    pub const ADD: Self = Self(4);
    /// `a - b`, by size.
    pub const SUB: Self = Self(8);
    /// The result `a` of a logic operation, by size.
    pub const LOGIC: Self = Self(12);
    /// The result `a` of an increment, by size. CF is told apart.
    pub const INC: Self = Self(16);
    /// The result `a` of a decrement, by size. CF is told apart.
    pub const DEC: Self = Self(20);
    /// [`Flags`]: `a` is the result, sign-extended, and `b` the other word.
    pub const WORDS: Self = Self(24);
    /// For CF alone: bit 0 of `a`.
    pub const BIT: Self = Self(28);
    /// For CF and OF: bits 0 and 1 of `a`.
    pub const BITS: Self = Self(29);
    /// `a` shifted left by `b`, which is not 0, by size.
    pub const SHL: Self = Self(32);
    /// `a` shifted right by `b`, which is not 0, by size.
    pub const SHR: Self = Self(36);
    /// The same of a signed number.
    pub const SAR: Self = Self(40);
    /// The signed product of `a` and `b`, by size.
    pub const IMUL: Self = Self(44);
    /// The unsigned product of `a` and `b`, by size.
    pub const MUL: Self = Self(48);
    /// CF is `a` and ZF is `b`, either 0 or 1; the others are clear.
    pub const ORDER: Self = Self(52);
    /// For CF alone: it follows from what the other flags follow from.
    pub const SAME: Self = Self(0);

    /// This operation on `size` bytes.
    pub const fn sized(self, size: u8) -> Self {
        Self(self.0 + size.trailing_zeros())
    }

    /// The operation, without its size.
    pub const fn operation(self) -> Self {
        Self(self.0 & !3)
    }

    /// Bytes of the operands.
    pub const fn size(self) -> u8 {
        1 << (self.0 & 3)
    }
}

/// Arithmetic flags that compiled code has left undone. Kind [`FlagKind::MEMORY`] means that [`CpuState::flags`] is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Lazy {
    /// What the flags follow from.
    pub kind: FlagKind,
    /// What CF follows from, or [`FlagKind::SAME`].
    pub carry_kind: FlagKind,
    /// First operand, zero-extended from its size (`WORDS`: sign-extended).
    pub a: u64,
    /// Second operand.
    pub b: u64,
    /// CF's first operand.
    pub carry_a: u64,
    /// CF's second operand.
    pub carry_b: u64,
}

/// Why a region returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Status {
    /// The guest returned from a function; RIP is where.
    Returned = 0,
    /// Go on at RIP.
    Goto = 1,
    /// The interpreter must run at least the instruction at RIP before compiled code may go on.
    Redo = 2,
    /// An interpreted instruction ended it: [`crate::vcpu::Vcpu`] knows how.
    Stopped = 3,
}

/// Entries of the jump table.
pub const JUMP_ENTRIES: u32 = aero_mem::JUMP_ENTRIES;

/// Guest calls that may be nested in calls of compiled code. A region's frame takes some hundred bytes of the engine's
/// stack, of which the smallest has half a megabyte.
pub const MAX_DEPTH: u32 = 200;

/// Instructions on the longest way of a region from one look at the budget to the next. A repeat that the interpreter
/// runs in between may use the budget up, and leaves less than this only by ending the region.
pub const LONGEST_WAY: u32 = 1024;

/// An entry of the jump table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct JumpEntry {
    /// [`jump_tag`] of the region's head.
    pub tag: u64,
    /// The region's place in the function table.
    pub function: u32,
    /// Nothing.
    pub reserved: u32,
}

impl Status {
    /// What a region returned. Any other number is as good as [`Status::Redo`]: that promises nothing.
    pub fn of(number: u32) -> Self {
        match number {
            0 => Self::Returned,
            1 => Self::Goto,
            3 => Self::Stopped,
            _ => Self::Redo,
        }
    }
}

impl JumpEntry {
    /// Matches nothing.
    pub const EMPTY: Self = Self { tag: u64::MAX, function: 0, reserved: 0 };
}

/// What the entry of a region at linear address `la` is tagged with: the address's 48 bits, and above them the mode.
#[inline(always)]
pub fn jump_tag(la: u64, mode_key: u64) -> u64 {
    la & 0xffff_ffff_ffff | mode_key << 48
}

/// The entry of linear address `la`.
#[inline(always)]
pub fn jump_slot(la: u64) -> u32 {
    (la ^ la >> 12) as u32 & (JUMP_ENTRIES - 1)
}

impl Lazy {
    /// The flags, given those in [`CpuState::flags`].
    pub fn resolve(&self, stored: Flags) -> Flags {
        let flags = resolve(self.kind, self.a, self.b, stored);
        match self.carry_kind {
            FlagKind::SAME => flags,
            FlagKind::BITS => flags.with_cf_of(self.carry_a & 1 != 0, self.carry_a & 2 != 0),
            kind => flags.with_cf(resolve(kind, self.carry_a, self.carry_b, stored).cf()),
        }
    }
}

fn resolve(kind: FlagKind, a: u64, b: u64, stored: Flags) -> Flags {
    match kind.size() {
        1 => resolve_sized::<u8>(kind, a, b, stored),
        2 => resolve_sized::<u16>(kind, a, b, stored),
        4 => resolve_sized::<u32>(kind, a, b, stored),
        _ => resolve_sized::<u64>(kind, a, b, stored),
    }
}

fn resolve_sized<T: crate::word::Word>(kind: FlagKind, a: u64, b: u64, stored: Flags) -> Flags {
    let (x, y) = (T::trunc(a), T::trunc(b));
    match kind.operation() {
        FlagKind::ADD => Flags::of_add(x, y, T::trunc(a.wrapping_add(b))),
        FlagKind::SUB => Flags::of_sub(x, y, T::trunc(a.wrapping_sub(b))),
        FlagKind::LOGIC => Flags::of_logic(x),
        FlagKind::INC => Flags::of_add(T::trunc(a.wrapping_sub(1)), T::trunc(1), x).with_cf(stored.cf()),
        FlagKind::DEC => Flags::of_sub(T::trunc(a.wrapping_add(1)), T::trunc(1), x).with_cf(stored.cf()),
        FlagKind::WORDS => Flags { result: a, aux: b as u32 },
        FlagKind::SHL => Shl::apply(stored, x, b as u32).1,
        FlagKind::SHR => Shr::apply(stored, x, b as u32).1,
        FlagKind::SAR => Sar::apply(stored, x, b as u32).1,
        FlagKind::IMUL => muldiv::imul(x, y).1,
        FlagKind::MUL => muldiv::mul_flags(x, y),
        FlagKind::BIT => stored.with_cf(a & 1 != 0),
        FlagKind::ORDER => Flags::from_bits(
            if a & 1 != 0 { eflags::CF } else { 0 } | if b & 1 != 0 { eflags::ZF } else { 0 },
        ),
        _ => stored,
    }
}

impl CpuState {
    /// Works out the arithmetic flags that compiled code left undone.
    pub fn settle_flags(&mut self) {
        if self.lazy.kind == FlagKind::MEMORY && self.lazy.carry_kind == FlagKind::SAME {
            return;
        }
        self.flags = self.lazy.resolve(self.flags);
        self.lazy = Lazy::default();
    }

    /// Works out all that compiled code left undone.
    #[inline]
    pub fn settle(&mut self) {
        self.settle_flags();
        self.settle_x87();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn increment_keeps_the_carry_that_is_told_apart() {
        let lazy = Lazy {
            kind: FlagKind::INC.sized(4),
            carry_kind: FlagKind::SUB.sized(4),
            a: 0x8000_0000,
            b: 0,
            carry_a: 1,
            carry_b: 2,
        };
        let flags = lazy.resolve(Flags::default());
        assert!(flags.cf() && flags.of() && flags.sf() && flags.af() && !flags.zf());
    }

    #[test]
    fn every_size_has_its_kind() {
        assert_eq!([1, 2, 4, 8].map(|n| FlagKind::SUB.sized(n).size()), [1, 2, 4, 8]);
        assert_eq!(FlagKind::SUB.sized(8).operation(), FlagKind::SUB);
    }
}
