//! Random loops of x87, interpreted and compiled: the whole state of the x87, registers and memory must be the same at
//! each exit.

use aero_cpu::fpu::F80;
use aero_cpu::state::{CpuState, Segment, cr0, cr4, efer, seg};
use aero_cpu::{Cpu, CpuConfig, Exit, NoDevices};
use aero_jit::cache::{CodeCache, Limits, Options};
use aero_jit::job::{Env, Tier};
use aero_jit_wasmtime::Wasmtime;
use aero_mem::{Gpa, GuestMemory};
use aero_x86::cpuid::{MAX, MODELS};

const RAM: u64 = 4 << 20;
const CODE: u64 = 0x1_0000;
const DATA: u64 = 0x2_0000;
const STACK: u64 = 0x3_0000;
const TABLES: u64 = 0x4_0000;

/// A generator of numbers: xorshift.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }

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
fn program(r: &mut Random) -> Vec<u8> {
    let mut code = vec![0xb9, 3 + r.below(20) as u8, 0, 0, 0];
    let top = code.len();
    let mut depth = DEPTH;
    for _ in 0..1 + r.below(24) {
        let before = depth;
        let next = instruction(r, &mut depth);
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

fn prepare(mem: &mut GuestMemory, cpu: &mut Cpu, code: &[u8], long: bool, seed: u64) {
    let mut r = Random(seed | 1);
    mem.write(Gpa(CODE), code).expect("RAM");
    (0..0x10).for_each(|n| mem.write(Gpa(DATA + 8 * n), &r.word().to_le_bytes()).expect("RAM"));
    for (at, entry) in
        [(0, TABLES + 0x1000 + 7), (0x1000, TABLES + 0x2000 + 7), (0x2000, 0x87), (0x2008, 0x20_0087)]
    {
        mem.write(Gpa(TABLES + at), &u64::to_le_bytes(entry)).expect("RAM");
    }
    for (n, control) in [0x37fu16, 0x27f, 0xf7f, 0x35f].into_iter().enumerate() {
        mem.write(Gpa(DATA + CONTROLS + 2 * n as u64), &control.to_le_bytes()).expect("RAM");
    }
    let st: &mut CpuState = cpu.state_mut(mem);
    st.cr0 = cr0::PE | cr0::ET | cr0::NE;
    if long {
        st.cr4 |= cr4::PAE;
        st.msr.efer = efer::LME | efer::LMA;
        st.cr3 = TABLES;
        st.cr0 |= cr0::PG;
    }
    for n in 0..6 {
        let code = n == usize::from(seg::CS);
        let kind = if code { 0x9b } else { 0x93 };
        let size = if long && code { Segment::LONG } else { Segment::BIG };
        let attributes = kind | size | Segment::GRANULAR;
        st.segments[n] = Segment { base: 0, limit: u32::MAX, attributes, selector: 8 * (n as u16 + 1) };
    }
    (0..16).for_each(|n| st.set_gpr(n, 0));
    st.set_gpr(4, STACK);
    st.set_gpr(6, DATA);
    st.fpu.top = r.below(8) as u8;
    for n in 0..8 {
        st.fpu.st[usize::from((st.fpu.top + n) & 7)] = r.number();
    }
    st.fpu.tags = (0..DEPTH as u8).fold(0, |tags, n| tags | 1 << ((st.fpu.top + n) & 7));
    st.fpu.control = [0x37f, 0x27f, 0x37f, 0x27f, 0x07f, 0xf7f, 0x340][r.below(7) as usize];
    st.fpu.status = (r.next() as u16) & 0x4760;
    st.rip = CODE;
    // A fault is a triple fault: there is no table of handlers.
    st.idtr.limit = 0;
}

type Seen = (Exit, Vec<u64>, Vec<u8>);

fn slices(mem: &mut GuestMemory, cpu: &mut Cpu, seed: u64) -> Vec<Seen> {
    let mut r = Random(seed | 1);
    let mut seen = Vec::new();
    let whole = r.below(3) > 0;
    for _ in 0..100 {
        let exit = cpu.run(mem, &mut NoDevices, if whole { 100_000 } else { 1 + r.below(100) });
        let st = cpu.state(mem);
        let mut all: Vec<u64> = (0..16).map(|n| st.gpr(n)).collect();
        let fpu = st.fpu;
        all.extend(fpu.st.iter().flat_map(|r| [r.mantissa, r.sign_exp.into()]));
        let words = [fpu.control, fpu.status, fpu.top.into(), fpu.tags.into(), fpu.fop, fpu.fcs, fpu.fds];
        all.extend(words.map(u64::from));
        all.extend([fpu.fip, fpu.fdp]);
        all.extend([st.rip, st.rflags(), cpu.core.retired]);
        let mut memory = vec![0; 0x100];
        mem.read(Gpa(DATA), &mut memory).expect("RAM");
        seen.push((exit, all, memory));
        if exit != Exit::Budget {
            break;
        }
    }
    seen
}

fn campaign(long: bool, count: u64) {
    let tier = Tier::Optimizing;
    let mut mem = GuestMemory::new(RAM, 1).expect("memory");
    let mut cpu = Cpu::new(&mut mem, 0, CpuConfig::of(&MAX));
    let (host, arena) = Wasmtime::synchronous(tier, GuestMemory::arena_bytes(RAM, 1, 0)).expect("wasmtime");
    let mut lent = GuestMemory::lent(arena, RAM, 1, &[]).expect("memory");
    let mut jit = Cpu::new(&mut lent, 0, CpuConfig::of(&MAX));
    let model = MODELS.iter().position(|m| m.name == MAX.name).expect("a model") as u8;
    let env = Env::new(lent.layout(), 0, Options { exact: true, tail_calls: true, model, tier });
    let limits = Limits { threshold: 1, ..Limits::default() };
    jit.set_translator(Box::new(CodeCache::new(Box::new(host), env, limits)));
    for n in 0..count {
        let seed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let code = program(&mut Random(seed));
        let [theirs, ours] = [(&mut mem, &mut cpu), (&mut lent, &mut jit)].map(|(mem, cpu)| {
            cpu.reset(mem);
            cpu.core.retired = 0;
            prepare(mem, cpu, &code, long, seed);
            slices(mem, cpu, seed)
        });
        let text: String = code.iter().map(|b| format!("{b:02x}")).collect();
        for (slice, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            assert!(
                ours == theirs,
                "program {n}, slice {slice}: {text}\n{ours:x?}\ninterpreted\n{theirs:x?}"
            );
        }
        assert_eq!(ours.len(), theirs.len(), "program {n}: {text}");
    }
    let tally = jit.translator().map(aero_cpu::jit::Translator::tally);
    // Most instructions run compiled: operands are special now and then, and control words now and then not to nearest.
    let enough = |t: aero_cpu::jit::Tally| {
        t.installed > count / 2 && t.instructions > 20 * count && t.redone < t.instructions / 2
    };
    assert!(tally.is_some_and(enough), "{tally:?}");
}

/// How many programs: `AERO_PROGRAMS` for a longer look.
fn count() -> u64 {
    std::env::var("AERO_PROGRAMS").ok().and_then(|n| n.parse().ok()).unwrap_or(200)
}

#[test]
fn loops_of_64_bits_run_alike() {
    campaign(true, count());
}

#[test]
fn loops_of_32_bits_run_alike() {
    campaign(false, count());
}
