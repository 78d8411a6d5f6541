//! The x87 that compiled code has left undone.
//!
//! Compiled code does not write where each x87 instruction lies, as the interpreter does, but says at its exits where the
//! last one was. At 53 bits of precision it also has the registers as doubles ([`LazyX87::stack`] tells), and instead of C1
//! the last operation with its operands: C1 says whether that was rounded up, and follows from them. All is worked out
//! before anyone looks.
//! Source: Intel SDM volume 1, 8.1.3 and 8.1.8.

use crate::fpu::f80::{self, Env};
use crate::fpu::{F80, Operand, spec};
use crate::state::CpuState;

/// What compiled code says at its exits.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
#[repr(C)]
pub struct LazyX87 {
    /// Registers as doubles, normal or zero: number 0 is R([`Self::base`]), and so on around the end.
    pub values: [f64; 8],
    /// First operand of the last operation.
    pub a: f64,
    /// Second.
    pub b: f64,
    /// Address of the last instruction.
    pub ip: u64,
    /// Address of the last operand in memory.
    pub dp: u64,
    /// Not 0: there is something to work out.
    pub pending: u32,
    /// [`code`] of the last instruction; 0: none.
    pub code: u32,
    /// Number of the last operand's segment; [`NO_SEGMENT`]: none.
    pub ds: u32,
    /// [`stack`] of the register stack; 0: the registers are not here.
    pub stack: u32,
    /// What TOP was when the registers became doubles.
    pub base: u32,
    /// Which of [`Self::values`] have values.
    pub mask: u32,
}

/// There was no operand in memory.
pub const NO_SEGMENT: u32 = 0xff;

/// What C1 follows from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Last {
    /// The status word has it.
    Status = 0,
    /// It is clear.
    Clear = 1,
    /// A sum.
    Add = 2,
    /// A difference.
    Sub = 3,
    /// A product.
    Mul = 4,
    /// A quotient.
    Div = 5,
    /// A square root.
    Root = 6,
    /// A double that became a single.
    Single = 7,
    /// A double that became an integer.
    Integer = 8,
}

const LAST: [Last; 9] = [
    Last::Status,
    Last::Clear,
    Last::Add,
    Last::Sub,
    Last::Mul,
    Last::Div,
    Last::Root,
    Last::Single,
    Last::Integer,
];

/// An instruction's opcode, and what C1 follows from after it.
pub const fn code(fop: u16, last: Last) -> u32 {
    1 << 31 | (last as u32) << 16 | (fop & spec::FOP_MASK) as u32
}

/// TOP less what it was, which registers it is known of whether they are empty, and which of them are not.
pub const fn stack(top: u8, known: u8, full: u8) -> u32 {
    1 << 31 | (top as u32) << 16 | (known as u32) << 8 | full as u32
}

/// Whether rounding to 53 bits went up.
fn went_up(last: Last, a: f64, b: f64) -> bool {
    let wide = |x: f64| Operand::from_f64(x.to_bits()).value;
    let env = Env::from_control(0x200 | spec::EXCEPTIONS);
    let outcome = match last {
        Last::Status | Last::Clear => return false,
        Last::Add => f80::add(wide(a), wide(b), env),
        Last::Sub => f80::sub(wide(a), wide(b), env),
        Last::Mul => f80::mul(wide(a), wide(b), env),
        Last::Div => f80::div(wide(a), wide(b), env),
        Last::Root => f80::sqrt(wide(a), env),
        Last::Single => return f64::from(a as f32).abs() > a.abs(),
        Last::Integer => return a.round_ties_even().abs() > a.abs(),
    };
    outcome.flags & spec::C1 != 0
}

impl CpuState {
    /// Works out the x87 that compiled code left undone.
    #[inline]
    pub fn settle_x87(&mut self) {
        if self.lazy_x87.pending != 0 {
            self.settle_pending();
        }
    }

    fn settle_pending(&mut self) {
        let LazyX87 { code, ds, ip, dp, stack, a, b, .. } = self.lazy_x87;
        self.lazy_x87.pending = 0;
        let selector = |st: &Self, n: usize| st.segments[n].selector;
        if code != 0 {
            (self.fpu.fop, self.fpu.fip) = (code as u16 & spec::FOP_MASK, ip);
            self.fpu.fcs = selector(self, crate::state::seg::CS.into());
        }
        if ds < 6 {
            (self.fpu.fds, self.fpu.fdp) = (selector(self, ds as usize), dp);
        }
        let last = LAST[(code >> 16 & 15).min(8) as usize];
        if last != Last::Status {
            let c1 = if went_up(last, a, b) { spec::C1 } else { 0 };
            self.fpu.status = self.fpu.status & !spec::C1 | c1;
        }
        if stack != 0 {
            self.settle_stack();
        }
    }

    fn settle_stack(&mut self) {
        let LazyX87 { values, stack, base, mask, .. } = self.lazy_x87;
        let base = base as u8 & 7;
        for n in (0..8u8).filter(|n| mask >> n & 1 != 0) {
            let value: F80 = Operand::from_f64(values[usize::from(n)].to_bits()).value;
            self.fpu.st[usize::from((base + n) & 7)] = value;
        }
        let [full, known, top, _] = stack.to_le_bytes();
        let [full, known] = [full, known].map(|bits| bits.rotate_left(base.into()));
        self.fpu.tags = self.fpu.tags & !known | full;
        self.fpu.top = (base + top) & 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(lazy: LazyX87) -> CpuState {
        let mut state = CpuState::power_on();
        state.fpu.top = 6;
        state.fpu.tags = 0b0100_0001;
        state.fpu.status = spec::C1;
        state.segments[3].selector = 0x23;
        state.lazy_x87 = LazyX87 { pending: 1, ds: NO_SEGMENT, ..lazy };
        state.settle_x87();
        assert_eq!(state.lazy_x87.pending, 0);
        state
    }

    #[test]
    fn registers_are_put_around_the_end_of_the_stack() {
        let mut values = [0.0; 8];
        (values[1], values[2]) = (1.0, -2.0);
        let lazy = LazyX87 { values, mask: 6, base: 6, stack: stack(2, 7, 4), ..LazyX87::default() };
        let state = settled(lazy);
        assert_eq!((state.fpu.top, state.fpu.tags), (0, 1));
        assert_eq!((state.fpu.st[7], state.fpu.st[0]), (F80::ONE, F80::new(0xc000, 1 << 63)));
    }

    #[test]
    fn last_operation_tells_whether_it_was_rounded_up() {
        let cases = [
            (Last::Status, 1.0, 3.0, true),
            (Last::Clear, 1.0, 3.0, false),
            (Last::Div, 1.0, 3.0, false),
            (Last::Div, 1.0, 10.0, true),
            (Last::Add, 1.0, 0.75 * f64::EPSILON, true),
            (Last::Sub, 1.0, 0.2 * f64::EPSILON, true),
            (Last::Mul, 1.0, 3.0, false),
            (Last::Root, 2.0, 0.0, true),
            (Last::Single, 0.1, 0.0, true),
            (Last::Integer, -2.5, 0.0, false),
            (Last::Integer, -3.5, 0.0, true),
        ];
        for (last, a, b, up) in cases {
            let state = settled(LazyX87 { a, b, code: code(0x123, last), ip: 77, ..LazyX87::default() });
            assert_eq!(state.fpu.status & spec::C1 != 0, up, "{last:?} {a} {b}");
            assert_eq!((state.fpu.fop, state.fpu.fip), (0x123, 77));
        }
    }

    #[test]
    fn operand_is_recorded_with_its_segment() {
        let state = settled(LazyX87::default());
        assert_eq!((state.fpu.fop, state.fpu.fds), (0, 0));
        let mut state = state;
        state.lazy_x87 = LazyX87 { pending: 1, ds: 3, dp: 99, ..LazyX87::default() };
        state.settle_x87();
        assert_eq!((state.fpu.fds, state.fpu.fdp), (0x23, 99));
    }
}
