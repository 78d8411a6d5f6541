//! RDRAND and RDSEED: numbers from a generator that the configuration seeds, so that runs repeat.
//!
//! The generator always has a number: CF is set every time. (Intel SDM vol. 1, 7.3.17.)

use super::{Op, Run};
use crate::bind;
use crate::state::eflags;
use crate::vcpu::{Stop, Vcpu};
use crate::word::Word;
use aero_x86::{Insn, Mnemonic};

/// A generator of 64 bits of state that visits every value once: a counter, mixed (SplitMix64).
#[derive(Clone, Copy, Debug)]
pub struct Generator(u64);

impl Generator {
    /// A generator that begins at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

/// Picks the handler.
pub fn bind(insn: &Insn) -> Option<Run> {
    matches!(insn.mnemonic, Mnemonic::Rdrand | Mnemonic::Rdseed).then(|| match bind::size_of(insn, 0) {
        2 => random::<u16> as Run,
        4 => random::<u32>,
        _ => random::<u64>,
    })
}

fn random<T: Word>(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    let number = v.core.random.draw();
    v.st.set_reg(op.dst, T::trunc(number));
    v.st.set_arith(eflags::CF);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_decides_the_sequence() {
        let first = |seed| {
            let mut g = Generator::new(seed);
            [g.draw(), g.draw()]
        };
        assert_eq!(first(7), first(7));
        assert_ne!(first(7), first(8));
        assert_ne!(first(7)[0], first(7)[1]);
    }
}
