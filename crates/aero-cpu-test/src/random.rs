//! Random numbers that are the same everywhere: what a proof tries follows from its seed alone.
//!
//! Every case has a stream of its own, of the seed and the case's number, so that cases can be run in any order and one
//! alone can be run again. Recorded outcomes depend on the streams: `system/golden.txt`.

use aero_cpu::op::random::Generator;

/// One stream.
#[derive(Clone, Debug)]
pub struct Random(Generator);

impl Random {
    /// Stream `number` of `seed`.
    pub fn new(seed: u64, number: u64) -> Self {
        let start = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number.wrapping_mul(0xd134_2543_de82_ef95);
        let mut generator = Generator::new(start);
        generator.draw();
        Self(generator)
    }

    /// 64 random bits.
    #[inline]
    pub fn draw(&mut self) -> u64 {
        self.0.draw()
    }

    /// 32 random bits.
    pub fn word(&mut self) -> u32 {
        (self.draw() >> 32) as u32
    }

    /// A number below `n`.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(n)) >> 64) as u64
    }

    /// A 32-bit number below `n`.
    pub fn word_below(&mut self, n: u32) -> u32 {
        self.below(n.into()) as u32
    }

    /// True once in `n` times.
    #[inline]
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of `list`.
    #[inline]
    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    /// A value within 4 of one of `edges`.
    pub fn near(&mut self, edges: &[u32]) -> u32 {
        self.pick(edges).wrapping_add(self.word_below(9)).wrapping_sub(4)
    }
}
