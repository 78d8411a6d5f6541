//! The operations of the x87 that compiled code has functions for.
//!
//! x87 registers are not variables: they stay in the state block, and each operation is a call of a function that the
//! regions of a module share ([`crate::emit`] writes them). Such a function does what the instruction does in ordinary
//! cases: normal numbers and zeros, results that are normal, rounding to nearest, no unmasked exception. Otherwise it
//! changes nothing and gives 0, and the region leaves for the interpreter. That includes stack faults and an exception
//! that waits.
//!
//! Each takes two small numbers *x* and *y*, known to the translator, and a *value* of 64 bits.
//! Source: Intel SDM volume 1, chapter 8.

pub use aero_cpu::fpu::Arith;

/// An operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum X87 {
    /// Pushes the signed integer *value*.
    PushInteger,
    /// Pushes the double *value*.
    PushDouble,
    /// Pushes the single *value*.
    PushSingle,
    /// Pushes ST(*x*).
    PushStack,
    /// Exchanges ST(0) and ST(*x*).
    Exchange,
    /// Copies ST(0) to ST(*x*); pops *y* times.
    Copy,
    /// Sign and exponent of ST(0): and *x*, exclusive or *y*.
    Sign,
    /// Writes ST(0) as a double at the arena offset *value*; pops *x* times.
    PutDouble,
    /// The same as a single.
    PutSingle,
    /// Writes ST(0) as an integer of *y* bytes; pops where bit 0 of *x* is set, truncates where bit 1 is.
    PutInteger,
    /// ST(*x*) = ST(*x*) op ST(*y* & 7), then pops if bit 3 of *y* is set; or ST(0) = ST(0) op *value*.
    Arith(Arith, Source),
    /// Compares ST(0) with ST(*x*) or *value* into the condition codes; pops *y* times.
    Compare(Source),
    /// Compares ST(0) with ST(*x*) and pops *y* times; gives 1, and 2 more if less, 4 more if equal.
    Order,
    /// [`crate::ir::Inst::EnterX87`]: *x* has `full` in its low byte and `full | empty` above it, *y* is `used`. The
    /// registers are in [`aero_cpu::jit::x87::LazyX87::values`] then.
    Enter,
}

/// Where the second operand is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Source {
    /// In a register.
    Stack,
    /// A double.
    Double,
    /// A single.
    Single,
}

impl X87 {
    /// All, by the names that the text form has for them.
    pub fn named() -> impl Iterator<Item = (String, X87)> {
        use {Arith as A, Source as S};
        let ariths = [A::Add, A::Mul, A::Sub, A::SubR, A::Div, A::DivR];
        let sources = [S::Stack, S::Double, S::Single];
        let simple = [
            X87::PushInteger,
            X87::PushDouble,
            X87::PushSingle,
            X87::PushStack,
            X87::Exchange,
            X87::Copy,
            X87::Sign,
            X87::PutDouble,
            X87::PutSingle,
            X87::PutInteger,
            X87::Order,
            X87::Enter,
        ];
        let arith = ariths.into_iter().flat_map(move |a| sources.map(|s| X87::Arith(a, s)));
        let all = simple.into_iter().chain(arith).chain(sources.map(X87::Compare));
        all.map(|op| (op.name(), op))
    }

    /// Its name in the text form.
    pub fn name(self) -> String {
        let name = match self {
            Self::Arith(arith, source) => format!("{arith:?}{source:?}"),
            Self::Compare(source) => format!("Compare{source:?}"),
            _ => format!("{self:?}"),
        };
        name.to_lowercase()
    }
}
