//! What the payloads compute, in Rust: the checksum of any number of repetitions.

use super::Test;

const SPAN: usize = 4 << 20;

/// Registers of 32 or 64 bits.
#[derive(Clone, Copy)]
struct Width(u32);

impl Width {
    fn mask(self) -> u64 {
        u64::MAX >> (64 - self.0)
    }

    fn cut(self, value: u64) -> u64 {
        value & self.mask()
    }

    fn rotate(self, value: u64, count: u32) -> u64 {
        self.cut(value << count | value >> (self.0 - count))
    }

    fn seed(self) -> u64 {
        0x9E37_79B9_7F4A_7C15 >> (64 - self.0)
    }

    fn bytes(self) -> usize {
        self.0 as usize / 8
    }

    /// What memory holds at an offset of the source.
    fn source(self, at: usize) -> u64 {
        let dword = |n: usize| u64::from((n as u32).wrapping_mul(0x9E37_79B1));
        self.cut(dword(at / 4) | dword(at / 4 + 1) << 32)
    }
}

/// The result of a test that is repeated `turns` times, with registers of `bits` bits.
pub(super) fn checksum(test: Test, bits: u32, turns: u32) -> u64 {
    let width = Width(bits);
    match test {
        Test::Alu => alu(width, turns),
        Test::BranchPredictable => predictable(width, turns),
        Test::BranchUnpredictable => unpredictable(width, turns),
        Test::MemorySequential => memory(width, turns, width.bytes(), 0x1_0000, 0x8000),
        Test::MemoryStrided => memory(width, turns, 4096 + 64, SPAN, 0),
        Test::CallReturn => calls(width, turns),
    }
}

fn alu(width: Width, turns: u32) -> u64 {
    let (mut a, mut b, mut d) = (width.seed(), 12_345_u64, 67_890_u64);
    for _ in 0..turns {
        a = width.cut(a.wrapping_add(b));
        b = width.rotate(b, 7) ^ a;
        d = width.cut(a.wrapping_mul(0x4D).wrapping_sub(b));
        a ^= a >> 3;
        b = width.cut(b.wrapping_add(d << 2).wrapping_add(5));
        let sum = u128::from(a) + u128::from(d);
        let carry = u64::from(sum > u128::from(width.mask()));
        a = width.cut(sum as u64);
        b = width.cut(b.wrapping_add(carry));
        d = width.cut(!d);
    }
    width.cut(a.wrapping_add(b)) ^ d
}

fn predictable(width: Width, turns: u32) -> u64 {
    let (mut a, mut b) = (width.seed(), 0_u64);
    for c in (1..=u64::from(turns)).rev() {
        if c % 8 == 0 {
            a = a.wrapping_add(c);
        }
        if c % 2 == 1 {
            a ^= 0x55;
        }
        b += 1;
        if b != 1 {
            a = a.wrapping_add(3);
        }
    }
    width.cut(a.wrapping_add(b))
}

fn unpredictable(width: Width, turns: u32) -> u64 {
    let shifts = if width.0 == 64 { (7, 17) } else { (17, 5) };
    let (mut a, mut d) = (0_u64, width.seed());
    for _ in 0..turns {
        d ^= width.cut(d << 13);
        d ^= d >> shifts.0;
        d ^= width.cut(d << shifts.1);
        a = if d & 0x10 == 0 { a ^ d } else { width.cut(a.wrapping_add(d)) };
        if d & 0x200 == 0 {
            a = width.cut(a.wrapping_add(1));
        }
        if d & 0x80 != 0 {
            a = width.rotate(a, 1);
        }
    }
    a
}

/// Running sums; the one at `read_back` is taken into the result.
fn memory(width: Width, turns: u32, step: usize, span: usize, read_back: usize) -> u64 {
    let (mut a, mut at, mut stored) = (0_u64, 0, 0);
    for _ in 0..turns {
        a = width.cut(a.wrapping_add(width.source(at)));
        if at == read_back {
            stored = a;
        }
        at = (at + step) % span;
    }
    a ^ stored
}

fn calls(width: Width, turns: u32) -> u64 {
    (1..=u64::from(turns)).rev().fold(width.seed(), |a, c| {
        let sum = width.cut(a.wrapping_add(c).wrapping_add(3));
        width.rotate(sum, 5) ^ c
    })
}
