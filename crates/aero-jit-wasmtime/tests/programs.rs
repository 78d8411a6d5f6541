//! Random programs, interpreted and compiled: every register, flag and byte of memory must be the same at each exit.
//!
//! A program is a loop of random instructions over a few pages, with a function that it calls. It runs in slices of random
//! budgets, so that it is left and entered anywhere.

mod pair;

use aero_cpu::state::CpuState;
use pair::{Kind, Random, campaign};

impl Random {
    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    /// A number that is apt to show mistakes.
    fn value(&mut self) -> u64 {
        let edge = [
            0,
            1,
            0x7f,
            0x80,
            0xff,
            0x7fff,
            0x8000,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_ffff,
            1 << 63,
            u64::MAX,
        ];
        match self.below(3) {
            0 => self.of(&edge),
            1 => self.next() >> self.below(64),
            _ => self.next(),
        }
    }
}

/// Registers that programs compute with; the others are the counter, the stack and the pointer to data.
const FREE: [u8; 5] = [0, 2, 3, 5, 7];

struct Program {
    long: bool,
    code: Vec<u8>,
}

impl Program {
    fn random(r: &mut Random, long: bool) -> Self {
        let mut p = Self { long, code: Vec::new() };
        p.code.extend([0xb9, 2 + r.below(30) as u8, 0, 0, 0]);
        let top = p.code.len();
        for _ in 0..r.below(24) + 1 {
            p.instruction(r);
        }
        let calls = r.below(2) == 0;
        let call = p.code.len();
        if calls {
            p.code.extend([0xe8, 0, 0, 0, 0]);
        }
        // dec ecx, or sub ecx, 1.
        if r.below(2) == 0 {
            p.code.extend([0xff, 0xc9])
        } else {
            p.code.extend([0x83, 0xe9, 1])
        }
        let back = top as i64 - (p.code.len() as i64 + 6);
        p.code.extend([0x0f, 0x85]);
        p.code.extend((back as i32).to_le_bytes());
        p.code.push(0xf4);
        let function = p.code.len();
        for _ in 0..r.below(5) {
            p.instruction(r);
        }
        p.code.push(0xc3);
        if calls {
            let by = (function - (call + 5)) as i32;
            p.code[call + 1..call + 5].copy_from_slice(&by.to_le_bytes());
        }
        p
    }

    /// ModRM for a register and either another or memory at RSI with a displacement.
    fn modrm(&mut self, r: &mut Random, reg: u8, memory: bool) {
        if !memory {
            let rm = r.of(&FREE);
            return self.code.push(0xc0 | reg << 3 | rm);
        }
        // mod 2: [rsi + disp32], here and there across a page's end.
        self.code.push(0x80 | reg << 3 | 6);
        let at = if r.below(8) == 0 { 0xff0 + r.below(32) } else { r.below(0x2000) };
        self.code.extend((at as u32).to_le_bytes());
    }

    fn prefix(&mut self, r: &mut Random) {
        match r.below(6) {
            0 => self.code.push(0x66),
            1 | 2 if self.long => self.code.push(0x48),
            _ => {}
        }
    }

    fn instruction(&mut self, r: &mut Random) {
        let (memory, reg) = (r.below(3) == 0, r.of(&FREE));
        match r.below(27) {
            0..=5 => {
                // The eight of the first row, in four forms.
                self.prefix(r);
                let form = r.below(4) as u8;
                self.code.push((r.below(8) as u8) << 3 | form);
                let reg = if form & 1 == 0 { r.of(&[0, 2, 3]) } else { reg };
                self.modrm(r, reg, memory);
            }
            6 => {
                self.code.push(0x80);
                let op = r.below(8) as u8;
                self.modrm(r, op, memory);
                self.code.push(r.value() as u8);
            }
            7 => {
                self.prefix(r);
                self.code.push(0x83);
                let op = r.below(8) as u8;
                self.modrm(r, op, memory);
                self.code.push(r.value() as u8);
            }
            8 => {
                self.prefix(r);
                self.code.push(r.of(&[0x84, 0x85]));
                self.modrm(r, r.0 as u8 & 3 & !1, memory);
            }
            9 | 10 => {
                self.prefix(r);
                self.code.push(r.of(&[0x88, 0x89, 0x8a, 0x8b]));
                self.modrm(r, r.0 as u8 & 2, memory);
            }
            11 => {
                self.prefix(r);
                let op = r.of(&[0xb6, 0xb7, 0xbe, 0xbf]);
                self.code.extend([0x0f, op]);
                self.modrm(r, reg, memory);
            }
            12 | 13 => {
                // Shifts and rotates by an immediate, by 1, by CL.
                self.prefix(r);
                let op = r.of(&[0xc0, 0xc1, 0xd0, 0xd1, 0xd2, 0xd3]);
                self.code.push(op);
                let which = r.of(&[0, 1, 2, 3, 4, 5, 7]);
                self.modrm(r, which, memory);
                if op < 0xd0 {
                    self.code.push(r.next() as u8);
                }
            }
            14 => {
                self.prefix(r);
                self.code.push(0xff);
                let op = r.below(2) as u8;
                self.modrm(r, op, memory);
            }
            15 => {
                self.prefix(r);
                self.code.push(0xf7);
                let op = r.of(&[2, 3, 4, 5]);
                self.modrm(r, op, memory);
            }
            16 => {
                self.code.extend([0x0f, 0x90 | r.below(16) as u8]);
                self.modrm(r, 0, memory);
            }
            17 => {
                self.prefix(r);
                self.code.extend([0x0f, 0x40 | r.below(16) as u8]);
                self.modrm(r, reg, memory);
            }
            18 => {
                self.prefix(r);
                self.code.extend([0x0f, 0xaf]);
                self.modrm(r, reg, memory);
            }
            19 => {
                self.code.extend([0x50 | reg, 0x58 | r.of(&FREE)]);
            }
            20 => {
                // A branch over one instruction.
                let mut over = Self { long: self.long, code: Vec::new() };
                over.instruction(r);
                if over.code.len() < 100 {
                    self.code.extend([0x70 | r.below(16) as u8, over.code.len() as u8]);
                    self.code.extend(over.code);
                }
            }
            21 => {
                self.prefix(r);
                let op = r.of(&[0xa4, 0xac]);
                self.code.extend([0x0f, op]);
                self.modrm(r, reg, memory);
                self.code.push(r.next() as u8);
            }
            22 => {
                self.prefix(r);
                let op = r.of(&[0xba, 0xbc, 0xbd, 0xc1, 0xb1, 0xa3, 0xab]);
                self.code.extend([0x0f, op]);
                let digit = 4 | r.below(4) as u8;
                self.modrm(
                    r,
                    if op == 0xba { digit } else { reg },
                    memory && matches!(op, 0xba | 0xb1 | 0xc1),
                );
                if op == 0xba {
                    self.code.push(r.next() as u8);
                }
            }
            23 => self.code.push(r.of(&[0xf8, 0xf9, 0xf5, 0x98, 0x99, 0x9f, 0x9e])),
            24 => {
                self.code.extend([0x0f, 0xc8 | reg]);
                self.prefix(r);
                self.code.push(0x87);
                self.modrm(r, reg, memory);
            }
            25 => {
                // Bytes, with those above the lowest: XADD, CMPXCHG.
                const BYTES: [u8; 6] = [0, 2, 3, 4, 6, 7];
                self.code.extend([0x0f, r.of(&[0xb0, 0xc0]), 0xc0 | r.of(&BYTES) << 3 | r.of(&BYTES)]);
            }
            _ => {
                // A division that seldom faults.
                self.code.extend([0x31, 0xd2, 0xb8]);
                self.code.extend((r.value() as u32).to_le_bytes());
                self.code.push(0xf7);
                let op = r.of(&[6, 7]);
                self.code.push(0xc0 | op << 3 | 5);
            }
        }
    }
}

impl Kind for Program {
    fn program(r: &mut Random, long: bool) -> Vec<u8> {
        Self::random(r, long).code
    }

    fn data(r: &mut Random) -> Vec<u8> {
        (0..0x3000).map(|_| r.value() as u8).collect()
    }

    fn start(st: &mut CpuState, r: &mut Random, long: bool) {
        let width = if long { u64::MAX } else { 0xffff_ffff };
        (0..if long { 16 } else { 8 }).for_each(|n| st.set_gpr(n, r.value() & width));
    }

    fn seen(_: &CpuState) -> Vec<u64> {
        Vec::new()
    }
}

fn alike(long: bool) {
    let (count, tally) = campaign::<Program>(long, 300);
    assert!(tally.installed > count / 2, "{tally:?}");
}

#[test]
fn programs_of_64_bits_run_alike() {
    alike(true);
}

#[test]
fn programs_of_32_bits_run_alike() {
    alike(false);
}
