//! Random loops of x87, interpreted and compiled: the whole state of the x87, registers and memory must be the same at
//! each exit.

mod pair;

use aero_cpu::fpu::F80;
use aero_cpu::state::CpuState;
use pair::{Kind, Random, campaign};

impl Random {
    /// Mostly doubles and singles, now and then what they must not be.
    fn word(&mut self) -> u64 {
        let double = (self.below(2000) as f64 - 1000.0) / [1.0, 8.0, 10.0, 3.0][self.below(4) as usize];
        let single = |x: f64| u64::from((x as f32).to_bits());
        match self.below(24) {
            0 => self.next(),
            1 | 2 => 0,
            3 => 0x7ff0_0000_7f80_0000 | self.next() & 0x000f_ffff_007f_ffff,
            4 => self.next() & 0x800f_ffff_807f_ffff,
            5..15 => double.to_bits(),
            _ => single(double) | single(double * 0.5) << 32,
        }
    }

    /// What a register may hold: mostly normal numbers, close to each other or to where results no longer are.
    fn number(&mut self) -> F80 {
        let sign = (self.below(2) as u16) << 15;
        let near = 0x3fff + self.below(140) as u16 - 70;
        let exp = match self.below(12) {
            0 => self.next() as u16 & 0x7fff,
            1 => [0, 1, 2, 0x7ffd, 0x7ffe, 0x7fff][self.below(6) as usize],
            2 => 0x3fff + 1023,
            _ => near,
        };
        let mantissa = match self.below(6) {
            0 => 1 << 63,
            1 => self.next() | 1 << 63 | 0x7ff,
            2 => self.next() & !0x3ff | 1 << 63,
            3 => (self.next() | 1 << 63) & !0 << self.below(64),
            _ => self.next() | 1 << 63,
        };
        match self.below(16) {
            0 => F80::new(sign, 0),
            1 => F80::new(sign | exp, self.next()),
            _ => F80::new(sign | exp, mantissa),
        }
    }
}

/// Opcode and `/digit` of instructions with an operand in memory that push, leave the stack as it is, and pop.
const LOADS: [(u8, u8); 5] = [(0xd9, 0), (0xdd, 0), (0xdf, 0), (0xdb, 0), (0xdf, 5)];
const STORES: [(u8, u8); 4] = [(0xd9, 2), (0xdd, 2), (0xdb, 2), (0xdf, 2)];
const POPS: [(u8, u8); 8] =
    [(0xd9, 3), (0xdd, 3), (0xdf, 3), (0xdb, 3), (0xdf, 7), (0xdb, 1), (0xdd, 1), (0xdf, 1)];

/// What stores may change lies below; what loads read also above. The control words lie behind it.
const STORED: u64 = 0x38;
const LOADED: u64 = 0x70;
const CONTROLS: u64 = 0x80;

/// An instruction; `depth` is how many registers are in use, and mostly suffices.
fn instruction(r: &mut Random, depth: &mut u64) -> Vec<u8> {
    let memory = |r: &mut Random, (op, digit): (u8, u8), below: u64| {
        vec![op, 0x40 | digit << 3 | 6, (r.below(below / 2) * 2) as u8]
    };
    let faults = r.below(64) == 0;
    let i = if faults { r.below(8) } else { r.below((*depth).max(1)) } as u8;
    let arith = [0, 1, 4, 5, 6, 7][r.below(6) as usize];
    match r.below(if *depth < 2 { 5 } else { 26 }) {
        0 | 1 if *depth < 8 => {
            *depth += 1;
            let load = LOADS[r.below(5) as usize];
            memory(r, load, LOADED)
        }
        2 if *depth < 8 => {
            *depth += 1;
            vec![0xd9, [0xc0 | i, 0xe8, 0xee][r.below(3) as usize]]
        }
        0..5 => vec![0xd9, [0xc8 | i, 0xe0, 0xe1][r.below(3) as usize]],
        5..8 => vec![0xd8, 0xc0 | arith << 3 | i],
        8..11 => vec![0xdc, 0xc0 | arith << 3 | i],
        11..14 => {
            let op = [0xd8, 0xdc, 0xdc, 0xda, 0xde][r.below(5) as usize];
            memory(r, (op, arith), LOADED)
        }
        14 => {
            let store = STORES[r.below(4) as usize];
            memory(r, store, STORED)
        }
        15 | 16 => {
            *depth -= 1;
            let pop = POPS[r.below(8) as usize];
            memory(r, pop, STORED)
        }
        17..20 => {
            *depth -= 1;
            vec![0xde, 0xc0 | arith << 3 | i.max(1)]
        }
        20 => {
            let op = [0xd8, 0xdc, 0xde][r.below(3) as usize];
            memory(r, (op, 2), LOADED)
        }
        21 => {
            let pops = r.below(2);
            *depth -= pops;
            let op = [(0xd8, 0xd0), (0xdd, 0xe0), (0xdb, 0xe8), (0xdb, 0xf0)][r.below(4) as usize];
            let popping = [(0xd8, 0xd8), (0xdd, 0xe8), (0xdf, 0xe8), (0xdf, 0xf0)][r.below(4) as usize];
            let (op, second) = if pops == 0 { op } else { popping };
            vec![op, second | i]
        }
        22 => {
            *depth -= 2;
            [vec![0xde, 0xd9], vec![0xda, 0xe9]][r.below(2) as usize].clone()
        }
        23 => {
            let pop = r.below(2) as u8;
            *depth -= u64::from(pop);
            vec![0xdd, 0xd0 | pop << 3 | i]
        }
        24 => vec![0xdf, 0xe0],
        _ => {
            let control = vec![0xd9, 0x80 | 5 << 3 | 6, (CONTROLS + 2 * r.below(4)) as u8, 0, 0, 0];
            let read = memory(r, (0xd9, 7), STORED);
            [control, read, vec![0xd9, 0xfa], vec![0x9b]][r.below(4) as usize].clone()
        }
    }
}

/// Registers in use at the start.
const DEPTH: u64 = 3;

/// `mov ecx, n; top: .. ; dec ecx; jnz top; hlt`, with a branch over some of it.
fn program(r: &mut Random, other: impl Fn(&mut Random) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut code = vec![0xb9, 3 + r.below(20) as u8, 0, 0, 0];
    let top = code.len();
    let mut depth = DEPTH;
    for _ in 0..1 + r.below(24) {
        let before = depth;
        let next = other(r).unwrap_or_else(|| instruction(r, &mut depth));
        if r.below(6) == 0 && before == depth {
            code.extend([0x70 | r.below(16) as u8, next.len() as u8]);
        }
        code.extend(next);
    }
    // As many as there were.
    (depth..DEPTH).for_each(|_| code.extend([0xdd, 0x46, 0x40]));
    (DEPTH..depth).for_each(|_| code.extend([0xdd, 0xd8]));
    code.extend([0xff, 0xc9, 0x0f, 0x85]);
    let back = top as i64 - (code.len() as i64 + 4);
    code.extend((back as i32).to_le_bytes());
    code.push(0xf4);
    code
}

/// Loops of x87.
struct X87;

/// Loops of x87 at 53 bits of precision, on doubles.
struct Doubles;

impl Random {
    /// A double, mostly of a usual size, else near the ends of what doubles can be.
    fn double(&mut self) -> f64 {
        let fraction = match self.below(6) {
            0 => 0,
            1 => (1 << 52) - 1 - self.below(4),
            2 => self.below(8),
            3 => 1 << self.below(52),
            _ => self.next() >> 12,
        };
        let exp = match self.below(16) {
            0 => 1 + self.below(60),
            1 => 2046 - self.below(4),
            2 => [1, 2, 511, 512, 513, 1534, 1535, 1536][self.below(8) as usize],
            3 => 1023 - 128 + self.below(5),
            4..8 => 1023,
            _ => 1023 - 60 + self.below(120),
        };
        let bits = self.below(2) << 63 | exp << 52 | fraction;
        if self.below(16) == 0 { f64::from_bits(bits & 1 << 63) } else { f64::from_bits(bits) }
    }

    /// FLDCW of one of the first words.
    fn control(&mut self, of: u64) -> Vec<u8> {
        vec![0xd9, 0xae, (CONTROLS + 2 * self.below(of)) as u8, 0, 0, 0]
    }

    /// What compilers make of a conversion to an integer, more or less.
    fn conversion(&mut self) -> Vec<u8> {
        let mut code = self.control(8);
        for _ in 0..1 + self.below(2) {
            let place = (self.below(STORED / 2) * 2) as u8;
            match self.below(4) {
                0 => code.extend([0xd9, 0xc9]),
                _ => code.extend([[0xdb, 0xdf, 0xdb][self.below(3) as usize], 0x56, place]),
            }
        }
        let back =
            if self.below(8) == 0 { self.control(8) } else { vec![0xd9, 0xae, CONTROLS as u8 + 2, 0, 0, 0] };
        code.extend(back);
        code
    }

    /// What programs that compilers do not make have among other things.
    fn rare(&mut self) -> Vec<u8> {
        let registers = self.below(8) as u8;
        match self.below(64) {
            0 => vec![0xdb, 0xe2],
            1 => self.control(8),
            58..61 => self.conversion(),
            2 => vec![0xd9, 0xfc],
            3 => vec![0xd9, 0xf7],
            4 => vec![0x0f, 0xae, 0x86, 0, 2, 0, 0],
            5 => vec![0xd9, 0xfe],
            6..9 => vec![0xd9, 0x76, 0x1c],
            9..12 => vec![0xdd, 0x7e, 0x10],
            12..16 => vec![0x9b],
            16..20 => vec![0xd9, 0x7e, 0x12],
            20..26 => vec![0x0f, 0xa4, 0xd0, 3],
            26..32 => vec![0xd9, 0xe5],
            32..36 => vec![0xd9, 0xe4],
            36..48 => vec![0xda + self.below(2) as u8, 0xc0 | registers & 3 | (self.below(4) as u8) << 3],
            48..58 => vec![0xd9, 0xfa],
            _ => vec![0xdf, 0xe0],
        }
    }
}

impl Kind for Doubles {
    fn program(r: &mut Random, _: bool) -> Vec<u8> {
        program(r, |r| if r.below(4) == 0 { Some(r.rare()) } else { None })
    }

    fn data(r: &mut Random) -> Vec<u8> {
        let words = (0..CONTROLS / 8).flat_map(|_| {
            let word = match r.below(12) {
                0 => r.word(),
                1 => r.next() & 0xffff,
                2 => r.double() as i64 as u64,
                3..5 => {
                    u64::from((r.double() as f32).to_bits()) << 32 | u64::from((r.double() as f32).to_bits())
                }
                _ => r.double().to_bits(),
            };
            word.to_le_bytes()
        });
        words.chain(CONTROL_WORDS.into_iter().flat_map(u16::to_le_bytes)).collect()
    }

    fn start(st: &mut CpuState, r: &mut Random, long: bool) {
        X87::start(st, r, long);
        for n in 0..8 {
            if r.below(64) != 0 {
                let at = if n < DEPTH as u8 || r.below(2) == 0 { r.double() } else { 0.0 };
                let wide = aero_cpu::fpu::Operand::from_f64(at.to_bits()).value;
                st.fpu.st[usize::from((st.fpu.top + n) & 7)] = wide;
            }
        }
        if r.below(8) != 0 {
            st.fpu.control = 0x27f & !(r.below(64) as u16) | 0x60;
            st.fpu.status |= 0x20;
        }
    }

    fn seen(st: &CpuState) -> Vec<u64> {
        X87::seen(st)
    }
}

/// Operations whose results are where normal doubles end.
struct Edges;

/// Operands that make such results with each other.
const EDGES: [u64; 6] = [
    0x0010_0000_0000_0000,
    0x0010_0000_0000_0001,
    0x3fef_ffff_ffff_ffff,
    0x3ff0_0000_0000_0001,
    0x4000_0000_0000_0000,
    0x7fef_ffff_ffff_ffff,
];

impl Kind for Edges {
    fn program(r: &mut Random, _: bool) -> Vec<u8> {
        let mut code = vec![0xb9, 4, 0, 0, 0];
        for _ in 0..1 + r.below(3) {
            let arith = [0, 1, 1, 4, 6, 6, 7][r.below(7) as usize];
            let [from, with] = [0; 2].map(|_| (r.below(16) * 8) as u8);
            code.extend([0xdd, 0x46, from, 0xdc, 0x46 | arith << 3, with, 0xdf, 0xe0]);
            // The result with its 80 bits, and a double in its register again.
            code.extend([0xdb, 0xbe, 0x80, 1, 0, 0, 0xd9, 0xe8, 0xdd, 0xd8]);
        }
        let back = 5 - (code.len() as i64 + 4);
        code.extend([0xff, 0xc9, 0x75, back as u8, 0xf4]);
        code
    }

    fn data(r: &mut Random) -> Vec<u8> {
        (0..16).flat_map(|_| (EDGES[r.below(6) as usize] | r.below(2) << 63).to_le_bytes()).collect()
    }

    fn start(st: &mut CpuState, _: &mut Random, _: bool) {
        (st.fpu.control, st.fpu.status) = (0x27f, 0x20);
    }

    fn seen(st: &CpuState) -> Vec<u64> {
        X87::seen(st)
    }
}

/// What FLDCW finds.
const CONTROL_WORDS: [u16; 8] = [0x37f, 0x27f, 0xf7f, 0x35f, 0xe7f, 0xe7f, 0x67f, 0xa7f];

impl Kind for X87 {
    fn program(r: &mut Random, _: bool) -> Vec<u8> {
        program(r, |_| None)
    }

    fn data(r: &mut Random) -> Vec<u8> {
        let words = (0..CONTROLS / 8).flat_map(|_| r.word().to_le_bytes()).collect::<Vec<u8>>();
        words.into_iter().chain(CONTROL_WORDS.into_iter().flat_map(u16::to_le_bytes)).collect()
    }

    fn start(st: &mut CpuState, r: &mut Random, _: bool) {
        st.fpu.top = r.below(8) as u8;
        for n in 0..8 {
            st.fpu.st[usize::from((st.fpu.top + n) & 7)] = r.number();
        }
        st.fpu.tags = (0..DEPTH as u8).fold(0, |tags, n| tags | 1 << ((st.fpu.top + n) & 7));
        st.fpu.control = [0x37f, 0x27f, 0x37f, 0x27f, 0x07f, 0xf7f, 0x340][r.below(7) as usize];
        st.fpu.status = (r.next() as u16) & 0x4760;
    }

    fn seen(st: &CpuState) -> Vec<u64> {
        let fpu = st.fpu;
        let words = [fpu.control, fpu.status, fpu.top.into(), fpu.tags.into(), fpu.fop, fpu.fcs, fpu.fds];
        let registers = fpu.st.into_iter().flat_map(|r| [r.mantissa, r.sign_exp.into()]);
        registers.chain(words.map(u64::from)).chain([fpu.fip, fpu.fdp]).collect()
    }
}

fn alike<K: Kind>(long: bool, usual: u64) {
    let (count, tally) = campaign::<K>(long, usual);
    println!("{count} programs: {tally:?}");
    // Most instructions run compiled: operands are special now and then, and control words now and then not to nearest.
    let compiled = tally.installed > count / 2 && tally.instructions > 20 * count;
    assert!(compiled && tally.redone < tally.instructions / 2, "{tally:?}");
}

#[test]
fn loops_of_64_bits_run_alike() {
    alike::<X87>(true, 200);
}

#[test]
fn loops_of_32_bits_run_alike() {
    alike::<X87>(false, 200);
}

#[test]
fn loops_on_doubles_of_64_bits_run_alike() {
    alike::<Doubles>(true, 300);
}

#[test]
fn loops_on_doubles_of_32_bits_run_alike() {
    alike::<Doubles>(false, 300);
}

#[test]
fn results_at_the_ends_of_doubles_are_alike() {
    campaign::<Edges>(true, 400);
}
