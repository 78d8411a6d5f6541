//! Random programs, interpreted and compiled: every register, flag and byte of memory must be the same at each exit.
//!
//! A program is a loop of random instructions over a few pages, with a function that it calls. It runs in slices of random
//! budgets, so that it is left and entered anywhere.

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
        match r.below(26) {
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

fn flat(long: bool, code: bool) -> Segment {
    let kind = if code { 0x9b } else { 0x93 };
    let size = if long && code { Segment::LONG } else { Segment::BIG };
    Segment { base: 0, limit: u32::MAX, attributes: kind | size | Segment::GRANULAR, selector: 8 }
}

fn prepare(mem: &mut GuestMemory, cpu: &mut Cpu, p: &Program, seed: u64) {
    let mut r = Random(seed | 1);
    mem.write(Gpa(CODE), &p.code).expect("RAM");
    let data: Vec<u8> = (0..0x3000).map(|_| r.value() as u8).collect();
    mem.write(Gpa(DATA), &data).expect("RAM");
    for (at, entry) in
        [(0, TABLES + 0x1000 + 7), (0x1000, TABLES + 0x2000 + 7), (0x2000, 0x87), (0x2008, 0x20_0087)]
    {
        mem.write(Gpa(TABLES + at), &u64::to_le_bytes(entry)).expect("RAM");
    }
    let st: &mut CpuState = cpu.state_mut(mem);
    st.cr0 = cr0::PE | cr0::ET | cr0::NE;
    if p.long {
        st.cr4 = cr4::PAE;
        st.msr.efer = efer::LME | efer::LMA;
        st.cr3 = TABLES;
        st.cr0 |= cr0::PG;
    }
    for n in 0..6 {
        st.segments[n] = flat(p.long, n == usize::from(seg::CS));
    }
    let width = if p.long { u64::MAX } else { 0xffff_ffff };
    (0..16).for_each(|n| st.set_gpr(n, if n < 8 || p.long { r.value() & width } else { 0 }));
    st.set_gpr(4, STACK);
    st.set_gpr(6, DATA);
    st.rip = CODE;
    // A fault is a triple fault: there is no table of handlers.
    st.idtr.limit = 0;
}

/// What must be the same.
fn visible(cpu: &Cpu, mem: &GuestMemory) -> (Vec<u64>, Vec<u8>) {
    let st = cpu.state(mem);
    let mut all: Vec<u64> = (0..16).map(|n| st.gpr(n)).collect();
    all.extend([st.rip, st.rflags(), st.cr2, cpu.core.retired]);
    let mut memory = vec![0; (TABLES - CODE) as usize];
    mem.read(Gpa(CODE), &mut memory).expect("RAM");
    (all, memory)
}

/// Runs in slices until the program halts; what is seen at the end of each.
fn slices(mem: &mut GuestMemory, cpu: &mut Cpu, seed: u64) -> Vec<(Exit, Vec<u64>, Vec<u8>)> {
    let mut r = Random(seed | 1);
    let mut seen = Vec::new();
    let whole = r.below(3) == 0;
    for _ in 0..200 {
        let budget = if whole { 100_000 } else { 1 + r.below(200) };
        let exit = cpu.run(mem, &mut NoDevices, budget);
        let (registers, memory) = visible(cpu, mem);
        seen.push((exit, registers, memory));
        if exit != Exit::Budget {
            break;
        }
    }
    seen
}

struct Pair {
    plain: (GuestMemory, Cpu),
    compiled: (GuestMemory, Cpu),
}

impl Pair {
    fn new(tier: Tier) -> Self {
        let mut mem = GuestMemory::new(RAM, 1).expect("memory");
        let cpu = Cpu::new(&mut mem, 0, CpuConfig::of(&MAX));
        let (host, arena) =
            Wasmtime::synchronous(tier, GuestMemory::arena_bytes(RAM, 1, 0)).expect("wasmtime");
        let mut lent = GuestMemory::lent(arena, RAM, 1, &[]).expect("memory");
        let mut jit = Cpu::new(&mut lent, 0, CpuConfig::of(&MAX));
        let model = MODELS.iter().position(|m| m.name == MAX.name).expect("a model") as u8;
        let env = Env::new(lent.layout(), 0, Options { exact: true, tail_calls: true, model, tier });
        let limits = Limits { threshold: 1, ..Limits::default() };
        jit.set_translator(Box::new(CodeCache::new(Box::new(host), env, limits)));
        Self { plain: (mem, cpu), compiled: (lent, jit) }
    }

    /// The first difference, in words.
    fn compare(&mut self, p: &Program, seed: u64) -> Result<(), String> {
        let mut seen = Vec::new();
        for (mem, cpu) in [&mut self.plain, &mut self.compiled] {
            cpu.reset(mem);
            cpu.core.retired = 0;
            prepare(mem, cpu, p, seed);
            seen.push(slices(mem, cpu, seed));
        }
        let (ours, theirs) = (&seen[1], &seen[0]);
        for (n, (o, t)) in ours.iter().zip(theirs).enumerate() {
            if o.0 != t.0 || o.1 != t.1 {
                return Err(format!("slice {n}: {:?} {:x?}\ninterpreted {:?} {:x?}", o.0, o.1, t.0, t.1));
            }
            if let Some(at) = (0..o.2.len()).find(|i| o.2[*i] != t.2[*i]) {
                return Err(format!(
                    "slice {n}: byte {:#x} is {:x}, not {:x}",
                    CODE + at as u64,
                    o.2[at],
                    t.2[at]
                ));
            }
        }
        if ours.len() == theirs.len() { Ok(()) } else { Err("not as many slices".into()) }
    }
}

fn campaign(long: bool, first: u64, count: u64) {
    let mut pair = Pair::new(Tier::Optimizing);
    for n in first..first + count {
        let seed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let p = Program::random(&mut Random(seed), long);
        if let Err(difference) = pair.compare(&p, seed) {
            let code: String = p.code.iter().map(|b| format!("{b:02x}")).collect();
            panic!("program {n} ({}): {code}\n{difference}", if long { 64 } else { 32 });
        }
    }
    let tally = pair.compiled.1.translator().map(aero_cpu::jit::Translator::tally);
    assert!(tally.is_some_and(|t| t.installed > count / 2), "{tally:?}");
}

/// How many programs: `AERO_PROGRAMS` for a longer look.
fn count() -> u64 {
    std::env::var("AERO_PROGRAMS").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
}

#[test]
fn programs_of_64_bits_run_alike() {
    campaign(true, 0, count());
}

#[test]
fn programs_of_32_bits_run_alike() {
    campaign(false, 0, count());
}
