//! Random loops of SSE, interpreted and compiled: registers, MXCSR and memory must be the same at each exit.

use aero_cpu::state::{CpuState, Segment, cr0, cr4, efer, seg};
use aero_cpu::{Cpu, CpuConfig, Exit, NoDevices};
use aero_jit::cache::{CodeCache, Limits, Options};
use aero_jit::job::{Env, Tier};
use aero_jit_wasmtime::Wasmtime;
use aero_mem::{Gpa, GuestMemory};
use aero_x86::cpuid::{MAX, MODELS};
use aero_x86::{CodeSize, MAX_LEN, Operand, decode};

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

    /// Mostly numbers, of both formats, now and then what they must not be.
    fn word(&mut self) -> u64 {
        let double = (self.below(2000) as f64 - 1000.0) / [1.0, 8.0, 10.0, 3.0][self.below(4) as usize];
        let single = |x: f64| u64::from((x as f32).to_bits());
        match self.below(16) {
            0 => self.next(),
            1 => 0,
            2 => 0x7ff0_0000_7f80_0000 | self.next() & 0x000f_ffff_007f_ffff,
            3 => self.next() & 0x800f_ffff_807f_ffff,
            4..10 => double.to_bits(),
            _ => single(double) | single(double * 0.5) << 32,
        }
    }
}

/// An SSE instruction over XMM0 to XMM7 and memory at RSI, which changes no general register but EAX and EDX.
fn instruction(r: &mut Random, long: bool) -> Vec<u8> {
    let size = if long { CodeSize::B64 } else { CodeSize::B32 };
    loop {
        let mut bytes: Vec<u8> =
            [None, Some(0x66), Some(0xf3), Some(0xf2)][r.below(4) as usize].into_iter().collect();
        bytes.push(0x0f);
        // Half of the time arithmetic.
        match r.below(8) {
            0 => bytes.extend([0x38, r.below(0x42) as u8]),
            1 => bytes.extend([0x3a, 0x08 + r.below(0x1a) as u8]),
            2..6 => bytes.push(0x51 + r.below(15) as u8),
            _ => bytes.push(r.next() as u8),
        }
        // A register, or memory within the data, mostly aligned.
        let reg = (r.below(8) as u8) << 3;
        if r.below(3) > 0 {
            bytes.push(0xc0 | reg | r.below(8) as u8);
        } else {
            let at = (r.below(7) * 16 + if r.below(16) == 0 { r.below(16) } else { 0 }) as u8;
            bytes.extend([0x40 | reg | 6, at]);
        }
        bytes.push(r.next() as u8);
        let mut padded = bytes.clone();
        padded.resize(MAX_LEN, 0);
        let Ok(insn) = decode(&padded, size, MAX.features) else { continue };
        let used = &insn.operands[..insn.count.into()];
        let ours = used.iter().any(|o| matches!(o, Operand::Xmm(_)));
        let fine = used.iter().all(|o| match o {
            Operand::Mm(_) | Operand::Ymm(_) | Operand::Implied => false,
            Operand::Gpr { reg, .. } => matches!(reg, 0 | 2),
            _ => true,
        });
        let len = usize::from(insn.len);
        if ours && fine && !insn.vex && len <= bytes.len() && !format!("{:?}", insn.mnemonic).contains("str")
        {
            return bytes[..len].to_vec();
        }
    }
}

/// `mov ecx, n; top: .. ; dec ecx; jnz top; hlt`, with a branch over some of it.
fn program(r: &mut Random, long: bool) -> Vec<u8> {
    let mut code = vec![0xb9, 3 + r.below(20) as u8, 0, 0, 0];
    let top = code.len();
    for _ in 0..1 + r.below(12) {
        let next = instruction(r, long);
        if r.below(6) == 0 {
            code.extend([0x70 | r.below(16) as u8, next.len() as u8]);
        }
        code.extend(next);
    }
    code.extend([0xff, 0xc9, 0x0f, 0x85]);
    let back = top as i64 - (code.len() as i64 + 4);
    code.extend((back as i32).to_le_bytes());
    code.push(0xf4);
    code
}

fn prepare(mem: &mut GuestMemory, cpu: &mut Cpu, code: &[u8], long: bool, seed: u64) {
    let mut r = Random(seed | 1);
    mem.write(Gpa(CODE), code).expect("RAM");
    (0..0x20).for_each(|n| mem.write(Gpa(DATA + 8 * n), &r.word().to_le_bytes()).expect("RAM"));
    for (at, entry) in
        [(0, TABLES + 0x1000 + 7), (0x1000, TABLES + 0x2000 + 7), (0x2000, 0x87), (0x2008, 0x20_0087)]
    {
        mem.write(Gpa(TABLES + at), &u64::to_le_bytes(entry)).expect("RAM");
    }
    let st: &mut CpuState = cpu.state_mut(mem);
    st.cr0 = cr0::PE | cr0::ET | cr0::NE;
    st.cr4 = cr4::OSFXSR | cr4::OSXMMEXCPT;
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
        st.segments[n] = Segment { base: 0, limit: u32::MAX, attributes, selector: 8 };
    }
    (0..16).for_each(|n| st.set_gpr(n, 0));
    st.set_gpr(4, STACK);
    st.set_gpr(6, DATA);
    for n in 0..8 {
        st.xmm[n] = [r.word(), r.word()];
    }
    st.mxcsr = [0x1fa0, 0x1f80, 0x1fa0, 0x9fe0 | (r.below(4) as u32) << 13][r.below(4) as usize];
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
        let mut all: Vec<u64> = (0..16).map(|n| st.gpr(n)).chain(st.xmm.into_iter().flatten()).collect();
        all.extend([st.rip, st.rflags(), st.mxcsr.into(), cpu.core.retired]);
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
        let code = program(&mut Random(seed), long);
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
    assert!(tally.is_some_and(|t| t.installed > count / 2 && t.instructions > 20 * count), "{tally:?}");
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
