//! A processor that interprets and one that compiles everything at once, given the same programs.
//!
//! A program runs in slices of random budgets, so that it is left and entered anywhere; what a [`Kind`] of programs can
//! see must be the same after each slice.

use aero_cpu::jit::Tally;
use aero_cpu::state::{CpuState, Segment, cr0, cr4, efer, seg};
use aero_cpu::{Cpu, CpuConfig, Exit, NoDevices};
use aero_jit::cache::{CodeCache, Limits, Options};
use aero_jit::job::{Env, Tier};
use aero_jit_wasmtime::Wasmtime;
use aero_mem::{Gpa, GuestMemory};
use aero_x86::cpuid::{MAX, MODELS};

const RAM: u64 = 4 << 20;
const CODE: u64 = 0x1_0000;
/// Where programs have their data: RSI.
pub const DATA: u64 = 0x2_0000;
const STACK: u64 = 0x3_0000;
const TABLES: u64 = 0x4_0000;

/// A generator of numbers: xorshift.
pub struct Random(pub u64);

impl Random {
    /// 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Less than `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }
}

/// A kind of programs.
pub trait Kind {
    /// A program's code. It ends with HLT.
    fn program(r: &mut Random, long: bool) -> Vec<u8>;
    /// What lies at [`DATA`].
    fn data(r: &mut Random) -> Vec<u8>;
    /// Registers at the start, beyond RSP, RSI and RIP.
    fn start(st: &mut CpuState, r: &mut Random, long: bool);
    /// What must be the same, besides general registers, RIP, flags, retired instructions and memory.
    fn seen(st: &CpuState) -> Vec<u64>;
}

type Seen = (Exit, Vec<u64>, Vec<u8>);

struct Pair {
    plain: (GuestMemory, Cpu),
    compiled: (GuestMemory, Cpu),
}

impl Pair {
    fn new(tier: Tier) -> Self {
        let mut mem = GuestMemory::new(RAM, 1).expect("memory");
        let cpu = Cpu::new(&mut mem, 0, CpuConfig::of(&MAX));
        let bytes = GuestMemory::arena_bytes(RAM, 1, 0);
        let (host, arena) = Wasmtime::synchronous(tier, bytes).expect("wasmtime");
        let mut lent = GuestMemory::lent(arena, RAM, 1, &[]).expect("memory");
        let mut jit = Cpu::new(&mut lent, 0, CpuConfig::of(&MAX));
        let model = MODELS.iter().position(|m| m.name == MAX.name).expect("a model") as u8;
        let env = Env::new(lent.layout(), 0, Options { exact: true, tail_calls: true, model, tier });
        let limits = Limits { threshold: 1, ..Limits::default() };
        jit.set_translator(Box::new(CodeCache::new(Box::new(host), env, limits)));
        Self { plain: (mem, cpu), compiled: (lent, jit) }
    }

    /// The first difference, in words.
    fn compare<K: Kind>(&mut self, code: &[u8], long: bool, seed: u64) -> Result<(), String> {
        let [theirs, ours] = [&mut self.plain, &mut self.compiled].map(|(mem, cpu)| {
            prepare::<K>(mem, cpu, code, long, seed);
            slices::<K>(mem, cpu, seed)
        });
        for (n, (o, t)) in ours.iter().zip(&theirs).enumerate() {
            if (o.0, &o.1) != (t.0, &t.1) {
                return Err(format!("slice {n}: {:?} {:x?}\ninterpreted {:?} {:x?}", o.0, o.1, t.0, t.1));
            }
            if let Some(at) = (0..o.2.len()).find(|i| o.2[*i] != t.2[*i]) {
                let place = CODE + at as u64;
                return Err(format!("slice {n}: byte {place:#x} is {:x}, not {:x}", o.2[at], t.2[at]));
            }
        }
        if ours.len() == theirs.len() { Ok(()) } else { Err("not as many slices".into()) }
    }
}

/// Runs `usual` programs, or as many as `AERO_PROGRAMS` says; how many, and what became of the compiled ones.
pub fn campaign<K: Kind>(long: bool, usual: u64) -> (u64, Tally) {
    let said = std::env::var("AERO_PROGRAMS").ok().and_then(|n| n.parse().ok());
    let count = said.unwrap_or(usual);
    let mut pair = Pair::new(Tier::Optimizing);
    for n in 0..count {
        let seed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let code = K::program(&mut Random(seed), long);
        if let Err(difference) = pair.compare::<K>(&code, long, seed) {
            let text: String = code.iter().map(|b| format!("{b:02x}")).collect();
            panic!("program {n} ({}): {text}\n{difference}", if long { 64 } else { 32 });
        }
    }
    (count, pair.compiled.1.translator().expect("a translator").tally())
}

fn prepare<K: Kind>(mem: &mut GuestMemory, cpu: &mut Cpu, code: &[u8], long: bool, seed: u64) {
    cpu.reset(mem);
    cpu.core.retired = 0;
    let mut r = Random(seed);
    mem.write(Gpa(CODE), code).expect("RAM");
    mem.write(Gpa(DATA), &K::data(&mut r)).expect("RAM");
    for (at, entry) in
        [(0, TABLES + 0x1000 + 7), (0x1000, TABLES + 0x2000 + 7), (0x2000, 0x87), (0x2008, 0x20_0087)]
    {
        mem.write(Gpa(TABLES + at), &u64::to_le_bytes(entry)).expect("RAM");
    }
    let st = cpu.state_mut(mem);
    st.cr0 = cr0::PE | cr0::ET | cr0::NE;
    st.cr4 = cr4::OSFXSR | cr4::OSXMMEXCPT;
    if long {
        st.cr4 |= cr4::PAE;
        st.msr.efer = efer::LME | efer::LMA;
        st.cr3 = TABLES;
        st.cr0 |= cr0::PG;
    }
    for n in 0..6 {
        st.segments[n] = flat(long, n);
    }
    (0..16).for_each(|n| st.set_gpr(n, 0));
    K::start(st, &mut r, long);
    st.set_gpr(4, STACK);
    st.set_gpr(6, DATA);
    st.rip = CODE;
    // A fault is a triple fault: there is no table of handlers.
    st.idtr.limit = 0;
}

fn flat(long: bool, n: usize) -> Segment {
    let code = n == usize::from(seg::CS);
    let kind = if code { 0x9b } else { 0x93 };
    let size = if long && code { Segment::LONG } else { Segment::BIG };
    let attributes = kind | size | Segment::GRANULAR;
    Segment { base: 0, limit: u32::MAX, attributes, selector: 8 * (n as u16 + 1) }
}

/// Runs until the program halts; what is seen at the end of each slice.
fn slices<K: Kind>(mem: &mut GuestMemory, cpu: &mut Cpu, seed: u64) -> Vec<Seen> {
    let mut r = Random(seed);
    let mut seen = Vec::new();
    let whole = r.below(2) > 0;
    for _ in 0..200 {
        let exit = cpu.run(mem, &mut NoDevices, if whole { 100_000 } else { 1 + r.below(200) });
        let st = cpu.state(mem);
        let mut all: Vec<u64> = (0..16).map(|n| st.gpr(n)).collect();
        all.extend([st.rip, st.rflags(), st.cr2, cpu.core.retired]);
        all.extend(K::seen(st));
        let mut memory = vec![0; (TABLES - CODE) as usize];
        mem.read(Gpa(CODE), &mut memory).expect("RAM");
        seen.push((exit, all, memory));
        if exit != Exit::Budget {
            break;
        }
    }
    seen
}
