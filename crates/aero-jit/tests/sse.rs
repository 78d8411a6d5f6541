//! SSE beside the interpreter: every encoding that it knows, on values where instructions differ.

use aero_cpu::state::{Segment, cr0, cr4, efer, seg};
use aero_cpu::{Cpu, CpuConfig, NoDevices};
use aero_jit::evaluate::{Exit, Guest, World, evaluate};
use aero_jit::ir::{BlockId, Inst, Region, Type};
use aero_jit::job::{Env, Key, Page, Source, Tier};
use aero_jit::passes::{dead, simplify};
use aero_jit::structure::make_reducible;
use aero_jit::{emit, flags, translate, verify};
use aero_mem::{Gpa, GuestMemory};
use aero_x86::cpuid::{MAX, MODELS};
use aero_x86::{CodeSize, Insn, MAX_LEN, Mnemonic, Operand, decode};
use core::mem::offset_of;
use std::collections::{BTreeMap, BTreeSet};

const RAM: u64 = 0x10000;
const GDT: u64 = 0x1000;
const PML4: u64 = 0x4000;
const PDPT: u64 = 0x5000;
const PD: u64 = 0x6000;
const PT: u64 = 0x7000;
const CODE: u64 = 0xa000;
const DATA: u64 = 0xb100;
/// Precision recorded, everything masked: where native arithmetic is used.
const SETTLED: u32 = 0x1fa0;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 33) % n
    }
}

/// A processor that compiled code and the interpreter share.
struct Bench {
    mem: GuestMemory,
    cpu: Cpu,
    long: bool,
}

impl Bench {
    fn new(long: bool) -> Self {
        let mut mem = GuestMemory::new(1 << 20, 1).expect("a megabyte");
        let mut cpu = Cpu::new(&mut mem, 0, CpuConfig::of(&MAX));
        let mut put = |at: u64, value: u64| mem.write(Gpa(at), &value.to_le_bytes()).expect("RAM");
        put(GDT + 8, if long { 0x00af_9b00_0000_ffff } else { 0x00cf_9b00_0000_ffff });
        put(GDT + 16, 0x00cf_9300_0000_ffff);
        put(PML4, PDPT | 3);
        put(PDPT, PD | 3);
        put(PD, PT | 3);
        (0..16).for_each(|page| put(PT + 8 * page, page << 12 | 3));
        let st = cpu.state_mut(&mut mem);
        st.cr0 = cr0::PE | cr0::ET | cr0::NE;
        st.cr4 = cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::PAE;
        if long {
            st.cr0 |= cr0::PG;
            st.cr3 = PML4;
            st.msr.efer = efer::LME | efer::LMA;
        }
        let flat = Segment { base: 0, limit: u32::MAX, attributes: 0xc093, selector: 16 };
        st.segments = [flat; 6];
        let code = if long { 0xa09b } else { 0xc09b };
        st.segments[usize::from(seg::CS)] = Segment { attributes: code, selector: 8, ..flat };
        st.gdtr.base = GDT;
        st.gdtr.limit = 0xff;
        Self { mem, cpu, long }
    }

    fn registers(&self) -> usize {
        if self.long { 16 } else { 8 }
    }

    /// New numbers everywhere; RDI points at data that is aligned, RSI one byte further.
    fn fill(&mut self, random: &mut Random, how: Values, mxcsr: u32) {
        for at in (0..0x80).step_by(8) {
            let value = how.word(random);
            self.mem.write(Gpa(DATA + at), &value.to_le_bytes()).expect("RAM");
        }
        let st = self.cpu.state_mut(&mut self.mem);
        for n in 0..16 {
            st.xmm[n] = [how.word(random), how.word(random)];
        }
        for n in 0..16 {
            let value = random.next() >> random.below(64);
            st.set_gpr(n, if self.long { value } else { value & 0xffff_ffff });
        }
        st.set_gpr(7, DATA);
        st.set_gpr(6, DATA + 1);
        st.set_gpr(15, DATA);
        st.set_gpr(14, DATA + 1);
        st.set_arith(random.next() & 0x8d5);
        st.mxcsr = mxcsr;
        st.rip = CODE;
    }

    fn source(&self, code: &[u8]) -> Source {
        let mut page = vec![0xf4; 4096];
        page[..code.len()].copy_from_slice(code);
        let key = Key { long: self.long, user: false, mode: 1 };
        Source { head: CODE, key, pages: vec![Page { delta: 0, bytes: page, ran: None, heads: Vec::new() }] }
    }

    fn guest(&self) -> Guest {
        let st = self.cpu.state(&self.mem);
        let mut guest = Guest::new(if self.long { Type::I64 } else { Type::I32 }, CODE);
        guest.gprs = core::array::from_fn(|n| st.gpr(n as u8));
        guest.xmms = st.xmm.map(|[low, high]| u128::from(high) << 64 | u128::from(low));
        guest.settle(st.flags);
        guest
    }

    fn bytes(&self, at: u64, size: u8) -> u128 {
        let mut bytes = [0; 16];
        let into = &mut bytes[..size.into()];
        into.iter_mut()
            .enumerate()
            .for_each(|(n, b)| *b = self.mem.read_array::<1>(Gpa(at + n as u64)).expect("RAM")[0]);
        u128::from_le_bytes(bytes)
    }
}

/// Guest memory and control registers as they are; stores are only noted.
struct Beside<'a> {
    bench: &'a Bench,
    stored: Vec<(u64, u8, u128)>,
    interpreted: bool,
}

impl World for Beside<'_> {
    fn load(&mut self, address: u64, size: u8) -> Option<u128> {
        let end = address.checked_add(size.into()).filter(|end| *end <= RAM)?;
        let overwritten = self.stored.iter().any(|(at, n, _)| at + u64::from(*n) > address && end > *at);
        if overwritten { None } else { Some(self.bench.bytes(address, size)) }
    }

    fn store(&mut self, address: u64, size: u8, value: u128) -> Option<()> {
        let end = address.checked_add(size.into()).filter(|end| *end <= RAM)?;
        if self.stored.iter().any(|(at, n, _)| at + u64::from(*n) > address && end > *at) {
            return None;
        }
        self.stored.push((address, size, value));
        Some(())
    }

    fn place(&mut self, _address: u64, _size: u8) -> Option<u32> {
        None
    }

    fn peek(&mut self, _place: u32, _size: u8) -> u128 {
        unreachable!("no place is given")
    }

    fn poke(&mut self, _place: u32, _size: u8, _value: u128) {
        unreachable!("no place is given")
    }

    fn state(&mut self, at: u32, _size: u8) -> u128 {
        use aero_cpu::state::CpuState;
        let st = self.bench.cpu.state(&self.bench.mem);
        match at as usize {
            n if n == offset_of!(CpuState, cr0) => st.cr0.into(),
            n if n == offset_of!(CpuState, cr4) => st.cr4.into(),
            n if n == offset_of!(CpuState, mxcsr) => st.mxcsr.into(),
            n => panic!("nobody needs the state at {n}"),
        }
    }

    fn set_state(&mut self, _at: u32, _size: u8, _value: u128) {
        unreachable!("SSE changes no other state")
    }

    fn exec(&mut self, _op: u16, _guest: &mut Guest) -> bool {
        self.interpreted = true;
        false
    }
}

/// Kinds of numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Values {
    Bits,
    SpecialDoubles,
    SpecialSingles,
    Doubles,
    Singles,
    /// Few, so that equal ones meet.
    Small,
}

const VALUES: [Values; 6] = [
    Values::Bits,
    Values::SpecialDoubles,
    Values::SpecialSingles,
    Values::Doubles,
    Values::Singles,
    Values::Small,
];

impl Values {
    fn word(self, random: &mut Random) -> u64 {
        let single = |bits: u32, low: u32| u64::from(bits) << 32 | u64::from(low);
        match self {
            Self::Bits => random.next(),
            Self::SpecialDoubles => special_double(random),
            Self::SpecialSingles => single(special_single(random), special_single(random)),
            Self::Doubles => ordinary(random).to_bits(),
            Self::Singles => single((ordinary(random) as f32).to_bits(), (ordinary(random) as f32).to_bits()),
            Self::Small => {
                let mut pick = || match random.below(12) {
                    n @ 0..8 => [0, 1, 0x80, 0xff][n as usize / 2],
                    _ => random.next() as u8,
                };
                u64::from_le_bytes(core::array::from_fn(|_| pick()))
            }
        }
    }
}

fn ordinary(random: &mut Random) -> f64 {
    let sign = if random.below(2) == 0 { 1.0 } else { -1.0 };
    match random.below(8) {
        0 => 0.0,
        1 => sign * random.below(20) as f64,
        _ => sign * (random.next() >> 11) as f64 / (1u64 << (random.below(20) + 40)) as f64,
    }
}

fn special_double(random: &mut Random) -> u64 {
    const LIST: [u64; 22] = [
        0,
        1,
        0x000f_ffff_ffff_ffff,
        0x0010_0000_0000_0000,
        0x001f_ffff_ffff_ffff,
        0x0020_0000_0000_0000,
        0x3810_0000_0000_0000,
        0x37f0_0000_0000_0000,
        0x380f_ffff_ffff_ffff,
        0x47ef_ffff_f000_0000,
        0x3ff0_0000_0000_0000,
        0x3fe0_0000_0000_0001,
        0x41df_ffff_ffff_ffff,
        0x41df_ffff_ffc0_0000,
        0x41e0_0000_0000_0000,
        0x43e0_0000_0000_0000,
        0x43df_ffff_ffff_ffff,
        0x7fef_ffff_ffff_ffff,
        0x7ff0_0000_0000_0000,
        0x7ff0_0000_0000_0001,
        0x7ff8_0000_0000_0000,
        0x7fe0_0000_0000_0000,
    ];
    let bits = match random.below(3) {
        0 => (random.below(2048) << 52) | random.next() >> 12,
        _ => LIST[random.below(LIST.len() as u64) as usize],
    };
    bits | (random.below(2) << 63)
}

fn special_single(random: &mut Random) -> u32 {
    const LIST: [u32; 18] = [
        0,
        1,
        0x007f_ffff,
        0x0080_0000,
        0x00ff_ffff,
        0x0100_0000,
        0x3f80_0000,
        0x3f00_0001,
        0x4eff_ffff,
        0x4f00_0000,
        0x5f00_0000,
        0x5eff_ffff,
        0x7e80_0000,
        0x7e7f_ffff,
        0x7f7f_ffff,
        0x7f80_0000,
        0x7f80_0001,
        0x7fc0_0000,
    ];
    let bits = match random.below(3) {
        0 => (random.below(256) << 23) as u32 | random.next() as u32 >> 9,
        _ => LIST[random.below(LIST.len() as u64) as usize],
    };
    bits | (random.below(2) << 31) as u32
}

fn env() -> Env {
    let model = MODELS.iter().position(|m| m.name == MAX.name).expect("the largest model") as u8;
    Env {
        state: 0x1000,
        read: [0x10000, 0x810000],
        write: [0x1010000, 0x1810000],
        jumps: 0x2010000,
        exact: true,
        tail_calls: true,
        model,
        tier: Tier::Optimizing,
    }
}

/// What came of a piece of code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Came {
    /// All of it ran as compiled code does.
    Through,
    /// It was left.
    Left,
    /// The interpreter was asked.
    Interpreted,
}

fn translated(bench: &Bench, code: &[u8]) -> Region {
    let (mut region, _) = translate::region(&bench.source(code), &env()).expect("a region");
    verify::verify(&region).unwrap_or_else(|e| panic!("{code:02x?}: {e}\n{region}"));
    make_reducible(&mut region);
    flags::run(&mut region);
    simplify::run(&mut region);
    dead::run(&mut region);
    verify::verify(&region).unwrap_or_else(|e| panic!("{code:02x?}: {e}\n{region}"));
    region
}

/// Runs a region and then the interpreter for as many instructions, and compares all that they changed.
fn compare(bench: &mut Bench, code: &[u8], region: &Region) -> Came {
    let mut guest = bench.guest();
    let mut world = Beside { bench, stored: Vec::new(), interpreted: false };
    let outcome = evaluate(region, BlockId(0), 1, &mut guest, &mut world);
    let (stored, interpreted) = (world.stored, world.interpreted);
    let retired = outcome.retired;
    if retired > 0 {
        bench.cpu.run(&mut bench.mem, &mut NoDevices, retired);
    }
    let what = || format!("{code:02x?} after {retired} of {outcome:?}\n{region}");
    let (start, after) = (guest, bench.guest());
    for n in 0..bench.registers() {
        assert_eq!(
            format!("{:032x}", start.xmms[n]),
            format!("{:032x}", after.xmms[n]),
            "xmm{n}: {}",
            what()
        );
        assert_eq!(start.get(aero_jit::ir::Var::Gpr(n as u8)), after.gprs[n].into(), "gpr {n}: {}", what());
    }
    assert_eq!(start.flags().bits(), after.flags().bits(), "flags: {}", what());
    for (address, size, value) in stored {
        assert_eq!(bench.bytes(address, size), value, "memory: {}", what());
    }
    match outcome.exit {
        Exit::Interpret(end) => {
            assert_eq!(bench.cpu.state(&bench.mem).rip, CODE.wrapping_add_signed(end.into()), "{}", what());
            Came::Through
        }
        _ if interpreted => Came::Interpreted,
        _ => Came::Left,
    }
}

/// The instructions that use XMM registers, without VEX: opcode bytes with their prefixes, and what they decode to.
fn encodings(long: bool) -> Vec<(Vec<u8>, Insn)> {
    let mut found = Vec::new();
    let maps: [&[u8]; 3] = [&[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]];
    for (map, opcode) in maps.iter().flat_map(|map| (0..=255u8).map(move |opcode| (map, opcode))) {
        for prefix in [None, Some(0x66), Some(0xf3), Some(0xf2)] {
            for rex in [None, Some(0x48), Some(0x45)].into_iter().filter(|r| long || r.is_none()) {
                let mut bytes: Vec<u8> = prefix.into_iter().chain(rex).collect();
                bytes.extend_from_slice(map);
                bytes.push(opcode);
                found.extend(operands(&bytes, long));
            }
        }
    }
    found
}

/// Register forms, the same register twice, and memory.
fn operands(opcode: &[u8], long: bool) -> Vec<(Vec<u8>, Insn)> {
    let size = if long { CodeSize::B64 } else { CodeSize::B32 };
    let mut found = Vec::new();
    // All /n of the shifts by immediates: their number is the middle field.
    let shifts = (0xd0..=0xf8u8).step_by(8).map(|m| m | 2).chain([0xda, 0xfa]);
    for modrm in [0xca, 0xc9, 0x0f, 0x0e].into_iter().chain(shifts) {
        let mut bytes = opcode.to_vec();
        bytes.extend([modrm, 0x5a]);
        let mut padded = bytes.clone();
        padded.resize(MAX_LEN, 0);
        let Ok(insn) = decode(&padded, size, MAX.features) else { continue };
        let used = &insn.operands[..insn.count.into()];
        let ours = used.iter().any(|o| matches!(o, Operand::Xmm(_)));
        let others = used.iter().any(|o| matches!(o, Operand::Mm(_) | Operand::Ymm(_)));
        let is_new =
            !found.iter().any(|(b, _): &(Vec<u8>, Insn)| b[..insn.len.into()] == padded[..insn.len.into()]);
        if ours && !others && !insn.vex && usize::from(insn.len) <= bytes.len() && is_new {
            bytes.truncate(insn.len.into());
            found.push((bytes, insn));
        }
    }
    found
}

/// What the interpreter runs: rare, or not to be had from vectors.
const INTERPRETED: [Mnemonic; 29] = {
    use Mnemonic::*;
    [
        Maskmovdqu,
        Mpsadbw,
        Phminposuw,
        Dpps,
        Dppd,
        Pcmpestrm,
        Pcmpestri,
        Pcmpistrm,
        Pcmpistri,
        Pcmpestri64,
        Pcmpestrm64,
        Crc32,
        Aesenc,
        Aesenclast,
        Aesdec,
        Aesdeclast,
        Aesimc,
        Aeskeygenassist,
        Pclmulqdq,
        Sha1rnds4,
        Sha1nexte,
        Sha1msg1,
        Sha1msg2,
        Sha256rnds2,
        Sha256msg1,
        Sha256msg2,
        Cvtpi2pd,
        Cvtpi2ps,
        Nop,
    ]
};

#[test]
fn every_encoding_does_what_the_interpreter_does() {
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut missing = BTreeSet::new();
    for long in [true, false] {
        let mut bench = Bench::new(long);
        let mut through: BTreeMap<Mnemonic, (u32, u32)> = BTreeMap::new();
        for (bytes, insn) in encodings(long) {
            for round in 0..40 {
                let mut code = bytes.clone();
                if matches!(insn.operands[usize::from(insn.count) - 1], Operand::Imm(_)) {
                    *code.last_mut().expect("an immediate") =
                        if round & 1 == 0 { random.next() as u8 } else { random.below(17) as u8 };
                }
                bench.mem.write(Gpa(CODE), &code).expect("RAM");
                bench.mem.write(Gpa(CODE + code.len() as u64), &[0xf4]).expect("RAM");
                let mxcsr = match round % 8 {
                    0..4 => SETTLED,
                    5 | 4 => 0x1f80,
                    6 => SETTLED | (random.below(4) as u32) << 13,
                    _ => 0x1f80 | random.next() as u32 & 0xe07f,
                };
                bench.fill(&mut random, VALUES[round % 6], mxcsr);
                let region = translated(&bench, &code);
                let came = compare(&mut bench, &code, &region);
                let count = through.entry(insn.mnemonic).or_default();
                count.1 += 1;
                match came {
                    Came::Through => count.0 += 1,
                    Came::Left => {}
                    Came::Interpreted => _ = missing.insert(format!("{:?}", insn.mnemonic)),
                }
            }
        }
        let mostly_left: Vec<_> = through.iter().filter(|(_, (some, all))| some * 60 < *all).collect();
        let expected = |m: &Mnemonic| INTERPRETED.contains(m);
        let surprising: Vec<_> = mostly_left.iter().filter(|(m, _)| !expected(m)).collect();
        assert!(surprising.is_empty(), "mostly left: {surprising:?}; not translated: {missing:?}");
    }
    let expected: BTreeSet<_> = INTERPRETED.iter().map(|m| format!("{m:?}")).collect();
    let surprising: Vec<_> = missing.difference(&expected).collect();
    assert!(surprising.is_empty(), "not translated: {surprising:?}");
}

#[test]
fn sequences_do_what_the_interpreter_does() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for long in [true, false] {
        let mut bench = Bench::new(long);
        let all: Vec<_> =
            encodings(long).into_iter().filter(|(_, i)| !INTERPRETED.contains(&i.mnemonic)).collect();
        let mut all_through = 0;
        for round in 0..6000 {
            let mut code = Vec::new();
            for _ in 0..2 + random.below(5) {
                let (mut bytes, insn) = all[random.below(all.len() as u64) as usize].clone();
                let last = bytes.len() - 1;
                if matches!(insn.operands[usize::from(insn.count) - 1], Operand::Imm(_)) {
                    bytes[last] = random.next() as u8;
                }
                code.extend(bytes);
            }
            bench.mem.write(Gpa(CODE), &code).expect("RAM");
            bench.mem.write(Gpa(CODE + code.len() as u64), &[0xf4]).expect("RAM");
            bench.fill(&mut random, VALUES[round % 6], SETTLED);
            let region = translated(&bench, &code);
            all_through += u32::from(compare(&mut bench, &code, &region) == Came::Through);
        }
        assert!(all_through > 500, "{all_through} of 6000");
    }
}

#[test]
fn every_encoding_makes_a_valid_module() {
    use wasmparser::{Validator, WasmFeatures};
    for long in [true, false] {
        let bench = Bench::new(long);
        for (bytes, _) in encodings(long) {
            let region = translated(&bench, &bytes);
            let emitted = emit::module(&env(), &[Some((region, Key { long, user: false, mode: 1 }))]);
            assert_eq!(emitted.good, [true], "{bytes:02x?}");
            let features = WasmFeatures::WASM2 | WasmFeatures::THREADS | WasmFeatures::TAIL_CALL;
            let checked = Validator::new_with_features(features).validate_all(&emitted.wasm);
            checked.unwrap_or_else(|e| panic!("{bytes:02x?}: {e}"));
        }
    }
}

#[test]
fn task_switched_processor_leaves_it_to_the_interpreter() {
    let mut bench = Bench::new(true);
    bench.fill(&mut Random(7), Values::Bits, SETTLED);
    // pxor xmm1, xmm2
    let code = [0x66, 0x0f, 0xef, 0xca];
    let region = translated(&bench, &code);
    for (on, off) in [(cr0::TS, 0), (cr0::EM, 0), (0, cr4::OSFXSR)] {
        let st = bench.cpu.state_mut(&mut bench.mem);
        let before = (st.cr0, st.cr4);
        (st.cr0, st.cr4) = (st.cr0 | on, st.cr4 & !off);
        assert_eq!(compare(&mut bench, &code, &region), Came::Left);
        let st = bench.cpu.state_mut(&mut bench.mem);
        (st.cr0, st.cr4) = before;
    }
    bench.mem.write(Gpa(CODE), &code).expect("RAM");
    bench.mem.write(Gpa(CODE + 4), &[0xf4]).expect("RAM");
    assert_eq!(compare(&mut bench, &code, &region), Came::Through);
}

#[test]
fn conditions_are_checked_once_on_a_way() {
    // l: addsd xmm1, xmm2; addsd xmm1, xmm3; dec ecx; jnz l; addsd xmm4, xmm5; hlt
    let code = [
        0xf2, 0x0f, 0x58, 0xca, 0xf2, 0x0f, 0x58, 0xcb, 0xff, 0xc9, 0x75, 0xf4, 0xf2, 0x0f, 0x58, 0xe5, 0xf4,
    ];
    let region = translated(&Bench::new(true), &code);
    let states = |n: usize| region.blocks[n].insts.iter().filter(|i| matches!(i, Inst::State { .. })).count();
    // CR0, CR4 and MXCSR ahead of the loop, and in each block whether MXCSR has recorded an inexact result.
    assert_eq!([states(0), states(1), states(2)], [3, 1, 1], "{region}");
}

#[test]
fn exact_results_need_not_be_recorded_to_stay_in_compiled_code() {
    let two = |a: f64, b: f64| [a.to_bits(), b.to_bits()];
    let four = |a: f32, b: f32| {
        let pair = u64::from(b.to_bits()) << 32 | u64::from(a.to_bits());
        [pair, pair]
    };
    // xmm1 and xmm2 are the operands.
    let doubles: [&[u8]; 14] = [
        &[0xf2, 0x0f, 0x58, 0xca],
        &[0xf2, 0x0f, 0x59, 0xca],
        &[0xf2, 0x0f, 0x5c, 0xca],
        &[0xf2, 0x0f, 0x5e, 0xca],
        &[0xf2, 0x0f, 0x51, 0xc9],
        &[0x66, 0x0f, 0x58, 0xca],
        &[0x66, 0x0f, 0x59, 0xca],
        &[0x66, 0x0f, 0x5c, 0xca],
        &[0x66, 0x0f, 0xd0, 0xca],
        &[0x66, 0x0f, 0x5a, 0xca],
        &[0xf2, 0x0f, 0x5a, 0xca],
        &[0xf2, 0x0f, 0x2c, 0xc1],
        &[0xf2, 0x0f, 0x2d, 0xc1],
        &[0x66, 0x0f, 0xe6, 0xc9],
    ];
    let singles: [&[u8]; 8] = [
        &[0xf3, 0x0f, 0x58, 0xca],
        &[0xf3, 0x0f, 0x59, 0xca],
        &[0xf3, 0x0f, 0x5e, 0xca],
        &[0x0f, 0x58, 0xca],
        &[0x0f, 0x59, 0xca],
        &[0x0f, 0x5c, 0xca],
        &[0xf2, 0x0f, 0x7c, 0xca],
        &[0xf3, 0x0f, 0x5b, 0xc9],
    ];
    let mut bench = Bench::new(true);
    let all = doubles.iter().map(|c| (c, true)).chain(singles.iter().map(|c| (c, false)));
    for ((code, double), (a, b)) in all.flat_map(|c| [(36.0, 12.0), (9.0, 0.25), (0.0, 3.0)].map(|v| (c, v)))
    {
        bench.mem.write(Gpa(CODE), code).expect("RAM");
        bench.mem.write(Gpa(CODE + code.len() as u64), &[0xf4]).expect("RAM");
        bench.fill(&mut Random(5), Values::Doubles, 0x1f80);
        let st = bench.cpu.state_mut(&mut bench.mem);
        [st.xmm[1], st.xmm[2]] = if double {
            [two(a, a), two(b, b)]
        } else {
            [four(a as f32, a as f32), four(b as f32, b as f32)]
        };
        let region = translated(&bench, code);
        let whole = a / b == (a / b).trunc();
        let divides = code[code.len() - 2] == 0x5e;
        if whole || !divides {
            assert_eq!(compare(&mut bench, code, &region), Came::Through, "{code:02x?} {a} {b}");
        }
        assert_eq!(bench.cpu.state(&bench.mem).mxcsr, 0x1f80);
    }
}
