//! Every vector instruction on this processor and on the interpreter, side by side.
//!
//! All encodings that the richest model decodes are tried: legacy and VEX, registers and memory, random and special
//! operands, all rounding modes, DAZ and FTZ. The instruction runs natively in a page of executable memory, and by
//! [`aero_cpu::Cpu`] at the same linear addresses. YMM and general registers, MXCSR, flags and a page of memory must
//! agree, and so must whether an unmasked exception comes up. Approximations (RCP, RSQRT) are left out: processors
//! differ.

#![cfg(all(target_arch = "x86_64", target_os = "linux"))]
#![allow(unsafe_code, reason = "runs generated machine code on the host processor")]

mod host;

use aero_cpu::op::random::Generator;
use aero_cpu::state::{Segment, cr0, cr4, efer};
use aero_cpu::{Cpu, NoDevices};
use aero_mem::{Gpa, GuestMemory};
use aero_x86::{CodeSize, Insn, Operand, decode};
use host::{CODE, DATA};
use std::collections::{BTreeMap, HashSet};
use std::mem::offset_of;
use std::sync::atomic::{AtomicI64, Ordering};

/// What surrounds a case. RSP is not part of it.
#[repr(C, align(32))]
#[derive(Clone, Copy, PartialEq, Eq)]
struct Regs {
    ymm: [[u64; 4]; 16],
    gpr: [u64; 16],
    flags: u64,
    mxcsr: u32,
}

struct Rng(Generator);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0.draw()
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[(self.next() >> 33) as usize % of.len()]
    }

    fn single(&mut self) -> u64 {
        const CORNERS: [u32; 22] = [
            0,
            1,
            0x007f_ffff,
            0x0080_0000,
            0x0080_0001,
            0x0100_0000,
            0x3f80_0000,
            0x3f80_0001,
            0x3f7f_ffff,
            0x3fc0_0000,
            0x4b80_0001,
            0x4eff_ffff,
            0x4f00_0000,
            0x5f00_0000,
            0x7f7f_ffff,
            0x7f80_0000,
            0x7f80_0001,
            0x7fc0_0000,
            0x7fff_ffff,
            0x477f_e000,
            0x387f_ffff,
            0x3300_0000,
        ];
        let bits = self.next();
        let value = match bits >> 61 {
            0..=2 => u64::from(self.pick(&CORNERS)) | bits & 0x8000_0000,
            3 => u64::from((((bits as i32) >> self.pick(&[8, 16, 24, 29])) as f32).to_bits()),
            4 => bits & 0x807f_ffff | 0x3f00_0000,
            _ => bits,
        };
        value & 0xffff_ffff
    }

    fn double(&mut self) -> u64 {
        const CORNERS: [u64; 20] = [
            0,
            1,
            0x000f_ffff_ffff_ffff,
            0x0010_0000_0000_0000,
            0x0020_0000_0000_0000,
            0x3ff0_0000_0000_0000,
            0x3ff0_0000_0000_0001,
            0x3fef_ffff_ffff_ffff,
            0x3ff8_0000_0000_0000,
            0x41df_ffff_ffe0_0000,
            0x43e0_0000_0000_0000,
            0x4340_0000_0000_0001,
            0x7fef_ffff_ffff_ffff,
            0x7ff0_0000_0000_0000,
            0x7ff0_0000_0000_0001,
            0x7ff8_0000_0000_0000,
            0x7fff_ffff_ffff_ffff,
            0x47ef_ffff_f000_0000,
            0x3810_0000_0000_0000,
            0x36a0_0000_0000_0000,
        ];
        let bits = self.next();
        match bits >> 61 {
            0..=2 => self.pick(&CORNERS) | bits & 1 << 63,
            3 => ((bits as i64 >> self.pick(&[1, 8, 31, 40, 60])) as f64 / 4.0).to_bits(),
            4 => bits & 0x800f_ffff_ffff_ffff | 0x3fe0_0000_0000_0000,
            _ => bits,
        }
    }

    /// Eight bytes; `kind` keeps a case to one sort of operands, so that they meet their like.
    fn word(&mut self, kind: u64) -> u64 {
        match kind {
            0 => self.single() | self.single() << 32,
            1 => self.double(),
            2 => self.next() & 0x3f,
            3 => {
                self.pick(&[0, u64::MAX, 0x8000_7fff_00ff_ff00, 0x6162_0063_6162_6364, 0x0061_0062_0061_0000])
            }
            // Halves, denormal ones among them.
            4 => self.next() & 0x83ff_fc00_fbff_87ff,
            _ => self.next(),
        }
    }

    fn mxcsr(&mut self) -> u32 {
        let rounding = self.pick(&[0, 0, 1 << 13, 2 << 13, 3 << 13]);
        let flush = self.pick(&[0, 0, 1 << 6, 1 << 15, 1 << 6 | 1 << 15]);
        let some = self.next() as u32 & 0x1f80;
        let unmasked = self.pick(&[0, 0, 0, some]);
        0x1f80 & !unmasked | rounding | flush | self.pick(&[0, 0x20, 0x3f])
    }
}

/// Two pages at one address: code, then data.
struct Host {
    code: *mut u8,
    data: *mut u8,
}

/// An instruction of `[rdi + disp32]` with register `n`.
fn with_rdi(code: &mut Vec<u8>, opcode: &[u8], n: u8, disp: usize) {
    code.extend(opcode);
    code.push(0x87 | (n & 7) << 3);
    code.extend((disp as u32).to_le_bytes());
}

/// VMOVDQU between YMM `n` and its place.
fn move_ymm(code: &mut Vec<u8>, n: u8, opcode: u8) {
    let vex = if n < 8 { 0xfe } else { 0x7e };
    with_rdi(code, &[0xc5, vex, opcode], n, offset_of!(Regs, ymm) + 32 * usize::from(n));
}

/// MOV between a general register and its place.
fn move_gpr(code: &mut Vec<u8>, n: u8, opcode: u8) {
    with_rdi(code, &[0x48 | (n >> 3) << 2, opcode], n, offset_of!(Regs, gpr) + 8 * usize::from(n));
}

impl Host {
    fn new() -> Self {
        let (code, data) = host::pages();
        Self { code, data }
    }

    /// Puts the instruction between what loads and what stores the registers; its place in the page.
    fn prepare(&self, insn: &[u8]) -> u64 {
        let others = || (0..16_u8).filter(|n| *n != 4 && *n != 7);
        // push rbx rbp r12-r15; push rdi
        let mut code: Vec<u8> = vec![0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57, 0x57];
        with_rdi(&mut code, &[0xff], 6, offset_of!(Regs, flags));
        code.push(0x9d);
        with_rdi(&mut code, &[0x0f, 0xae], 2, offset_of!(Regs, mxcsr));
        (0..16).for_each(|n| move_ymm(&mut code, n, 0x6f));
        others().for_each(|n| move_gpr(&mut code, n, 0x8b));
        move_gpr(&mut code, 7, 0x8b);
        let at = code.len();
        code.extend(insn);
        code.extend([0x48, 0x87, 0x3c, 0x24]); // xchg rdi, [rsp]
        others().for_each(|n| move_gpr(&mut code, n, 0x89));
        code.push(0x9c);
        with_rdi(&mut code, &[0x8f], 0, offset_of!(Regs, flags));
        code.push(0x58);
        with_rdi(&mut code, &[0x48, 0x89], 0, offset_of!(Regs, gpr) + 56);
        (0..16).for_each(|n| move_ymm(&mut code, n, 0x7f));
        with_rdi(&mut code, &[0x0f, 0xae], 3, offset_of!(Regs, mxcsr));
        // vzeroupper; push 1F80h; ldmxcsr [rsp]; pop rax; cld; pop r15-r12 rbp rbx; ret
        code.extend([0xc5, 0xf8, 0x77, 0x68, 0x80, 0x1f, 0, 0, 0x0f, 0xae, 0x14, 0x24, 0x58, 0xfc]);
        code.extend([0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3]);
        // SAFETY: the buffer is ours, and the code is shorter than a page.
        unsafe { self.code.copy_from_nonoverlapping(code.as_ptr(), code.len()) };
        at as u64
    }

    /// Runs what is prepared; whether it raised SIGFPE.
    fn run(&self, regs: &mut Regs, len: u64) -> bool {
        SKIP.store(len as i64, Ordering::Relaxed);
        // SAFETY: the code keeps the calling convention; the instruction touches only the data page.
        unsafe {
            let call: extern "C" fn(*mut Regs) = core::mem::transmute(self.code);
            call(regs);
        }
        SKIP.swap(0, Ordering::Relaxed) < 0
    }

    fn data(&mut self) -> &mut [u8] {
        // SAFETY: the data page is mapped, and nothing else refers to it while the slice lives.
        unsafe { core::slice::from_raw_parts_mut(self.data, 0x1000) }
    }
}

/// Bytes of the instruction under test; negative once it has faulted.
static SKIP: AtomicI64 = AtomicI64::new(0);

/// Goes on behind the instruction, with the registers as the fault left them.
extern "C" fn skip(_: i32, _: *mut libc::siginfo_t, context: *mut libc::ucontext_t) {
    let len = SKIP.load(Ordering::Relaxed);
    SKIP.store(-len, Ordering::Relaxed);
    // SAFETY: the kernel passes the interrupted context.
    unsafe { (*context).uc_mcontext.gregs[libc::REG_RIP as usize] += len };
}

fn catch_sigfpe() {
    // SAFETY: a handler of the right type that touches only its context and an atomic.
    unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = skip as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(libc::SIGFPE, &raw const action, core::ptr::null_mut()), 0);
    }
}

/// A processor in 64-bit mode whose page tables map the host's two pages at the host's address. Behind the code are a
/// descriptor table, a gate for #XM and a stack.
struct Guest {
    mem: GuestMemory,
    cpu: Cpu,
    linear: u64,
}

const GDT: u64 = 0x800;
const IDT: u64 = 0x900;
const HANDLER: u64 = 0xc00;
const STACK: u64 = 0xf00;

impl Guest {
    fn new(linear: u64) -> Self {
        let mut mem = GuestMemory::new(2 << 20, 1).expect("2 MiB");
        let mut cpu = Cpu::new(&mut mem, 0, aero_cpu::CpuConfig::of(&aero_x86::cpuid::MAX));
        host::map(&mut mem, linear);
        let handler = linear + HANDLER;
        let gate = 0x8e00_0008_0000 | handler & 0xffff | (handler >> 16) << 48;
        mem.write(Gpa(CODE + GDT + 8), &0x00af_9b00_0000_ffff_u64.to_le_bytes()).expect("RAM");
        mem.write(Gpa(CODE + IDT + 16 * 19), &gate.to_le_bytes()).expect("RAM");
        let st = cpu.state_mut(&mut mem);
        (st.gdtr.base, st.gdtr.limit) = (linear + GDT, 0xf);
        (st.idtr.base, st.idtr.limit) = (linear + IDT, 0x1ff);
        st.cr0 = cr0::PE | cr0::PG | cr0::ET;
        st.cr3 = 0x1000;
        st.cr4 = cr4::PAE | cr4::OSFXSR | cr4::OSXSAVE | cr4::OSXMMEXCPT;
        st.xcr0 = 7;
        st.msr.efer = efer::LME | efer::LMA;
        st.segments[1] = Segment { base: 0, limit: u32::MAX, attributes: 0xa09b, selector: 8 };
        Self { mem, cpu, linear }
    }

    /// Runs the instruction at `at` in the code page; whether it raised #XM.
    fn run(&mut self, len: u64, at: u64, regs: &mut Regs, data: &mut [u8]) -> bool {
        self.mem.write(Gpa(DATA), data).expect("RAM");
        let rip = self.linear + at;
        let st = self.cpu.state_mut(&mut self.mem);
        (0..16).for_each(|n| st.set_gpr(n, regs.gpr[usize::from(n)]));
        for (n, y) in regs.ymm.iter().enumerate() {
            (st.xmm[n], st.ymm_high[n]) = ([y[0], y[1]], [y[2], y[3]]);
        }
        st.mxcsr = regs.mxcsr;
        st.set_gpr(4, self.linear + STACK);
        st.set_rflags(regs.flags);
        st.rip = rip;
        self.cpu.run(&mut self.mem, &mut NoDevices, 1);
        let st = self.cpu.state(&self.mem);
        let raised = st.rip == self.linear + HANDLER;
        assert!(raised || st.rip == rip + len, "a fault or a jump to {:x}", st.rip);
        (0..16).for_each(|n| regs.gpr[usize::from(n)] = st.gpr(n));
        for (n, y) in regs.ymm.iter_mut().enumerate() {
            *y = [st.xmm[n][0], st.xmm[n][1], st.ymm_high[n][0], st.ymm_high[n][1]];
        }
        // The gate has cleared IF.
        (regs.mxcsr, regs.flags) = (st.mxcsr, st.rflags() | 1 << 9);
        self.mem.read(Gpa(DATA), data).expect("RAM");
        raised
    }
}

/// Encodings with registers 1 and 2, `[rcx]`, and `[rcx + index 5]`.
fn encodings() -> Vec<Vec<u8>> {
    let tails = [&[0xd1_u8][..], &[0x11], &[0x14, 0x29]];
    let mut all = Vec::new();
    let prefixes = [&[][..], &[0x66], &[0xf3], &[0xf2], &[0x48], &[0x66, 0x48], &[0xf3, 0x48], &[0xf2, 0x48]];
    for (map, opcode) in [&[][..], &[0x38], &[0x3a]].iter().flat_map(|m| (0..=255_u8).map(move |o| (m, o))) {
        if map.is_empty() && matches!(opcode, 0x38 | 0x3a) {
            continue;
        }
        for prefix in prefixes {
            let groups = (0..8_u8).map(|reg| vec![0xc1 | reg << 3]);
            for tail in tails.iter().map(|t| t.to_vec()).chain(groups) {
                all.push([prefix, &[0x0f], map, &[opcode], &tail, &[0x2b; 2]].concat());
            }
        }
    }
    for (map, opcode) in (1..=3_u8).flat_map(|m| (0..=255_u8).map(move |o| (m, o))) {
        for fields in (0..16_u8).map(|f| (f & 8) << 4 | f & 7) {
            for vvvv in [15, 2_u8] {
                let vex = [0xc4, 0xe0 | map, fields | vvvv << 3, opcode];
                let groups = (0..8_u8).map(|reg| vec![0xc1 | reg << 3]);
                for tail in tails.iter().map(|t| t.to_vec()).chain(groups) {
                    all.push([&vex[..], &tail, &[0x2b; 2]].concat());
                }
            }
        }
    }
    all
}

/// Features that a host with AVX2 may still lack.
fn host_has(name: &str) -> bool {
    let starts = |all: &[&str]| all.iter().any(|p| name.starts_with(p));
    match name {
        _ if starts(&["Sha1", "Sha256"]) => is_x86_feature_detected!("sha"),
        _ if starts(&["Aes", "Vaes"]) => is_x86_feature_detected!("aes"),
        _ if starts(&["Pclmul", "Vpclmul"]) => is_x86_feature_detected!("pclmulqdq"),
        _ if starts(&["Vfm", "Vfnm"]) => is_x86_feature_detected!("fma"),
        "Vcvtph2ps" | "Vcvtps2ph" => is_x86_feature_detected!("f16c"),
        _ => true,
    }
}

fn to_be_tried(insn: &Insn) -> bool {
    let name = format!("{:?}", insn.mnemonic);
    let operands = &insn.operands[..insn.count.into()];
    let vector = operands.iter().any(|o| matches!(o, Operand::Xmm(_) | Operand::Ymm(_)));
    let mmx = operands.iter().any(|o| matches!(o, Operand::Mm(_)));
    let vex_memory = insn.vex && name.starts_with('V') && !name.ends_with("mxcsr");
    let approximate = ["Rcp", "Rsqrt", "Vrcp", "Vrsqrt"].iter().any(|p| name.starts_with(p));
    let stack = operands.iter().any(|o| matches!(o, Operand::Gpr { reg: 4, .. }));
    (vector || vex_memory) && !mmx && !stack && !approximate && host_has(&name)
}

/// Registers of a case. Memory operands lie in the data page, aligned or, where that is allowed, not.
fn state(rng: &mut Rng, insn: &Insn, data: u64) -> Regs {
    let kind = rng.next() >> 32 & 7;
    let mut ymm = [[0; 4]; 16];
    ymm.iter_mut().flatten().for_each(|w| *w = rng.word(kind));
    if rng.next() & 3 == 0 {
        // Nearly the same operands: cancellation, equality.
        let flip = rng.next() >> 62;
        ymm[1] = ymm[2].map(|w| w ^ flip);
    }
    let mut gpr = [0; 16].map(|_: u64| rng.next() >> (rng.next() & 63));
    let name = format!("{:?}", insn.mnemonic);
    let aligned = !insn.vex || name.contains("nt");
    let slack = if aligned || insn.mnemonic.is_aligned() { 0 } else { rng.next() >> 60 };
    (gpr[1], gpr[7]) = (data + 0x400 + slack, data + 0x400);
    gpr[5] = rng.next() >> 59 << 5;
    if name.contains("gather") {
        // Small indices, of four or of eight bytes.
        let mask = if name.contains("gatherq") { 0x3f } else { 0x0000_003f_0000_003f };
        ymm[5] = ymm[5].map(|w| w & mask);
    }
    Regs { ymm, gpr, flags: 0x202 | rng.next() & 0x8d5, mxcsr: rng.mxcsr() }
}

/// Moves that insist on alignment with VEX as well.
trait Aligned {
    fn is_aligned(&self) -> bool;
}

impl Aligned for aero_x86::Mnemonic {
    fn is_aligned(&self) -> bool {
        use aero_x86::Mnemonic::{Vmovapd, Vmovaps, Vmovdqa};
        matches!(self, Vmovaps | Vmovapd | Vmovdqa)
    }
}

/// What differs, if anything does.
fn difference(want: &Regs, got: &Regs, host: &[u8], guest: &[u8]) -> Option<String> {
    for n in 0..16 {
        if want.ymm[n] != got.ymm[n] {
            return Some(format!("ymm{n} is {:016x?}, not {:016x?}", got.ymm[n], want.ymm[n]));
        }
        if n != 4 && want.gpr[n] != got.gpr[n] {
            return Some(format!("register {n} is {:x}, not {:x}", got.gpr[n], want.gpr[n]));
        }
    }
    if (want.mxcsr, want.flags) != (got.mxcsr, got.flags) {
        let (x, y) = ((got.mxcsr, got.flags), (want.mxcsr, want.flags));
        return Some(format!("mxcsr and flags are {x:x?}, not {y:x?}"));
    }
    (host != guest).then(|| "memory differs".into())
}

/// Tries one encoding some times; the first difference.
fn try_encoding(
    rng: &mut Rng,
    host: &mut Host,
    guest: &mut Guest,
    insn: &Insn,
    code: &[u8],
) -> Option<String> {
    let mut code = code[..insn.len.into()].to_vec();
    let has_immediate = insn.operands.iter().any(|o| matches!(o, Operand::Imm(_)));
    for round in 0..ROUNDS {
        if has_immediate && round % 4 == 0 {
            *code.last_mut()? = rng.next() as u8;
        }
        let at = host.prepare(&code);
        if round == 0 || has_immediate {
            guest.mem.write(Gpa(CODE + at), &code).expect("RAM");
        }
        let before = state(rng, insn, host.data as u64);
        let kind = rng.next() & 7;
        let mut data = vec![0; 0x1000];
        data[0x300..0x900].chunks_exact_mut(8).for_each(|c| c.copy_from_slice(&rng.word(kind).to_le_bytes()));
        host.data().copy_from_slice(&data);
        let (mut want, mut got) = (before, before);
        let raised = guest.run(code.len() as u64, at, &mut got, &mut data);
        let host_raised = host.run(&mut want, code.len() as u64);
        if raised != host_raised {
            return Some(format!("{code:02x?}: #XM {raised}, not {host_raised}; {:x}", before.mxcsr));
        }
        if let Some(text) = difference(&want, &got, host.data(), &data) {
            let inputs: Vec<_> = [0, 1, 2, 13].map(|n| (n, before.ymm[n])).to_vec();
            return Some(format!("{code:02x?}: {text}; mxcsr {:x} {inputs:016x?}", before.mxcsr));
        }
    }
    None
}

const ROUNDS: u32 = 60;

#[test]
fn every_vector_encoding_does_what_the_host_does() {
    if !is_x86_feature_detected!("avx2") {
        return;
    }
    catch_sigfpe();
    let mut host = Host::new();
    let mut guest = Guest::new(host.code as u64);
    let mut rng = Rng(Generator::new(0x9e37_79b9_7f4a_7c15));
    let (mut tried, mut names) = (0, HashSet::new());
    let mut failures: BTreeMap<String, String> = BTreeMap::new();
    for code in encodings() {
        let Ok(insn) = decode(&code, CodeSize::B64, aero_x86::cpuid::MAX.features) else { continue };
        if to_be_tried(&insn) {
            (tried, _) = (tried + 1, names.insert(insn.mnemonic));
            if let Some(text) = try_encoding(&mut rng, &mut host, &mut guest, &insn, &code) {
                failures.entry(format!("{:?}", insn.mnemonic)).or_insert(text);
            }
        }
    }
    println!("{tried} encodings of {} instructions", names.len());
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(names.len() > 550, "only {} instructions were tried", names.len());
}

/// An XSAVE area at `at` that can be restored: a header of either format, MXCSR and x87 registers that are sound.
fn sound_area(rng: &mut Rng, data: &mut [u8], at: usize) {
    let components = rng.next() >> 61;
    let (present, compaction) = match rng.next() >> 63 {
        0 => (components, 0),
        _ => (components & (rng.next() >> 61), 1 << 63 | components),
    };
    data[at..at + 32].fill(0);
    data[at..at + 2].copy_from_slice(&0x37f_u16.to_le_bytes());
    data[at + 24..at + 28].copy_from_slice(&(rng.mxcsr() | rng.next() as u32 & 0x3f).to_le_bytes());
    data[at + 512..at + 576].fill(0);
    data[at + 512..at + 520].copy_from_slice(&present.to_le_bytes());
    data[at + 520..at + 528].copy_from_slice(&compaction.to_le_bytes());
    (0..8).for_each(|n| data[at + 32 + 16 * n..at + 48 + 16 * n].fill(0));
}

#[test]
fn saved_state_is_what_the_host_saves_and_restores() {
    let has = is_x86_feature_detected!("xsave")
        && is_x86_feature_detected!("xsavec")
        && is_x86_feature_detected!("avx2");
    if !has {
        return;
    }
    let mut host = Host::new();
    let mut guest = Guest::new(host.code as u64);
    let mut rng = Rng(Generator::new(0x5851_f42d_4c95_7f2d));
    // XSAVE, XSAVEC and XRSTOR at [rcx], with and without REX.W.
    let codes: [&[u8]; 6] = [
        &[0x48, 0x0f, 0xae, 0x21],
        &[0x0f, 0xae, 0x21],
        &[0x48, 0x0f, 0xc7, 0x21],
        &[0x0f, 0xc7, 0x21],
        &[0x48, 0x0f, 0xae, 0x29],
        &[0x0f, 0xae, 0x29],
    ];
    for (n, code) in codes.iter().cycle().take(6000).enumerate() {
        let insn = decode(code, CodeSize::B64, aero_x86::cpuid::MAX.features).expect("an instruction");
        let at = host.prepare(code);
        guest.mem.write(Gpa(CODE + at), code).expect("RAM");
        let mut before = state(&mut rng, &insn, host.data as u64);
        (before.gpr[0], before.gpr[2]) = (rng.next() >> 61, 0);
        // Zeros are the initial configuration here; a processor need not see that they are.
        before.ymm.iter_mut().flatten().for_each(|w| *w |= 1);
        before.mxcsr = if n % 5 == 0 { 0x1f80 } else { before.mxcsr };
        let mut data = vec![0; 0x1000];
        data[0x300..0x900].chunks_exact_mut(8).for_each(|c| c.copy_from_slice(&rng.word(7).to_le_bytes()));
        sound_area(&mut rng, &mut data, 0x400);
        host.data().copy_from_slice(&data);
        let (mut want, mut got) = (before, before);
        guest.run(code.len() as u64, at, &mut got, &mut data);
        host.run(&mut want, code.len() as u64);
        // MXCSR_MASK is the processor's own.
        let mask = 0x400 + 28..0x400 + 32;
        data[mask.clone()].copy_from_slice(&host.data()[mask]);
        if let Some(text) = difference(&want, &got, host.data(), &data) {
            let at = host.data().iter().zip(&data).position(|(x, y)| x != y);
            panic!("{code:02x?} mask {:x} mxcsr {:x}: {text} at {at:x?}", before.gpr[0], before.mxcsr);
        }
    }
}
