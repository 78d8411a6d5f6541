//! Integer instructions on this processor and on the interpreter, side by side.
//!
//! Each case is one instruction with random operands and registers, run natively in a page of executable memory and by
//! [`aero_cpu::Cpu`] at the same linear addresses. General registers, flags and a page of memory must agree. Flags that
//! the manual leaves undefined are compared only where Intel processors agree among themselves.

#![cfg(all(target_arch = "x86_64", target_os = "linux"))]
#![allow(unsafe_code, reason = "runs generated machine code on the host processor")]

mod host;

use aero_cpu::op::random::Generator;
use aero_cpu::state::{Segment, cr0, cr4, efer};
use aero_cpu::{Cpu, NoDevices};
use aero_mem::{Gpa, GuestMemory};
use host::{CODE, DATA};

/// Registers and flags around a case. RSP is not part of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Regs {
    gpr: [u64; 16],
    flags: u64,
}

struct Rng(Generator);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0.draw()
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Values with the corners over-represented.
    fn value(&mut self) -> u64 {
        const CORNERS: [u64; 10] =
            [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0x7fff_ffff, 0x8000_0000, 0x8000_0000_0000_0000];
        match self.below(4) {
            0 => CORNERS[self.below(10) as usize],
            1 => !CORNERS[self.below(10) as usize],
            2 => self.next() >> self.below(64),
            _ => self.next(),
        }
    }
}

/// Two pages at one address: code, then data.
struct Host {
    code: *mut u8,
    data: *mut u8,
}

impl Host {
    fn new() -> Self {
        let (code, data) = host::pages();
        Self { code, data }
    }

    /// Where the instruction lies: after a prologue that loads the registers.
    fn run(&self, insn: &[u8], regs: &mut Regs) -> u64 {
        // push rbx rbp r12-r15; push rdi (regs); load flags and registers from [rdi]
        let mut code: Vec<u8> = vec![0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57, 0x57];
        code.extend([0xff, 0xb7, 0x80, 0, 0, 0, 0x9d]); // push [rdi+128]; popfq
        let load = |code: &mut Vec<u8>, n: u8| {
            code.extend([0x48 | (n >> 3) << 2, 0x8b, 0x87 | (n & 7) << 3]);
            code.extend(u32::from(n * 8).to_le_bytes());
        };
        (0..16).filter(|n| *n != 4 && *n != 7).for_each(|n| load(&mut code, n));
        load(&mut code, 7);
        let at = code.len();
        code.extend(insn);
        // xchg rdi, [rsp]; store the others; pop rax as rdi's value; flags
        code.extend([0x48, 0x87, 0x3c, 0x24]);
        for n in (0..16u8).filter(|n| *n != 4 && *n != 7) {
            code.extend([0x48 | (n >> 3) << 2, 0x89, 0x87 | (n & 7) << 3]);
            code.extend(u32::from(n * 8).to_le_bytes());
        }
        code.extend([0x9c, 0x8f, 0x87, 0x80, 0, 0, 0]); // pushfq; pop [rdi+128]
        code.extend([0x58, 0x48, 0x89, 0x87, 0x38, 0, 0, 0]); // pop rax; mov [rdi+56], rax
        code.extend([0xfc, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3]);
        // SAFETY: the buffer is ours and executable; the code keeps the calling convention, and the instruction
        // touches only the data page.
        unsafe {
            self.code.copy_from_nonoverlapping(code.as_ptr(), code.len());
            let call: extern "C" fn(*mut Regs) = core::mem::transmute(self.code);
            call(regs);
        }
        at as u64
    }

    fn bytes(&self) -> Vec<u8> {
        // SAFETY: the data page is mapped.
        unsafe { core::slice::from_raw_parts(self.data, 0x1000) }.to_vec()
    }

    fn set_bytes(&self, bytes: &[u8]) {
        // SAFETY: as above.
        unsafe { self.data.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }
}

/// A processor in 64-bit user mode whose page tables map the host's two pages at the host's address.
struct Guest {
    mem: GuestMemory,
    cpu: Cpu,
    linear: u64,
}

impl Guest {
    fn new(linear: u64) -> Self {
        let mut mem = GuestMemory::new(2 << 20, 1).expect("2 MiB");
        let mut cpu = Cpu::new(&mut mem, 0, aero_cpu::CpuConfig::of(&aero_x86::cpuid::MAX));
        host::map(&mut mem, linear);
        let st = cpu.state_mut(&mut mem);
        st.cr0 = cr0::PE | cr0::PG | cr0::ET;
        st.cr3 = 0x1000;
        st.cr4 = cr4::PAE | cr4::OSFXSR;
        st.msr.efer = efer::LME | efer::LMA;
        st.cpl = 3;
        st.segments[1] = Segment { base: 0, limit: u32::MAX, attributes: 0xa0fb, selector: 0x33 };
        Self { mem, cpu, linear }
    }

    fn run(&mut self, insn: &[u8], at: u64, regs: &mut Regs, data: &mut [u8]) {
        self.mem.write(Gpa(CODE + at), insn).expect("RAM");
        self.mem.write(Gpa(DATA), data).expect("RAM");
        let rip = self.linear + at;
        let st = self.cpu.state_mut(&mut self.mem);
        (0..16).for_each(|n| st.set_gpr(n, regs.gpr[usize::from(n)]));
        st.set_rflags(regs.flags);
        st.rip = rip;
        self.cpu.run(&mut self.mem, &mut NoDevices, 1);
        let st = self.cpu.state(&self.mem);
        assert_eq!(st.rip, rip + insn.len() as u64, "{insn:02x?} went elsewhere or faulted; {regs:x?}");
        (0..16).for_each(|n| regs.gpr[usize::from(n)] = st.gpr(n));
        regs.flags = st.rflags();
        self.mem.read(Gpa(DATA), data).expect("RAM");
    }
}

const CF: u64 = 1;
const PF: u64 = 4;
const AF: u64 = 0x10;
const ZF: u64 = 0x40;
const SF: u64 = 0x80;
const OF: u64 = 0x800;
const ARITH: u64 = CF | PF | AF | ZF | SF | OF;

/// An instruction form: opcode bytes, whether a ModRM byte follows and with which extension, immediate bytes.
struct Form {
    opcode: &'static [u8],
    /// Fixed `reg` field, or a register operand.
    extension: Option<u8>,
    modrm: bool,
    /// Bytes of immediate; 9 means "operand size, at most 4".
    imm: u8,
    /// Operand size is a byte.
    byte: bool,
    undefined: u64,
    /// The memory form exists.
    memory: bool,
    register: bool,
}

const BASE: Form = Form {
    opcode: &[],
    extension: None,
    modrm: true,
    imm: 0,
    byte: false,
    undefined: 0,
    memory: true,
    register: true,
};

fn forms() -> Vec<Form> {
    let mut all = Vec::new();
    for op in 0..8u8 {
        let undefined = if matches!(op, 1 | 4 | 6) { AF } else { 0 };
        for (low, byte) in [(0, true), (1, false), (2, true), (3, false)] {
            let opcode: &'static [u8] = Box::leak(Box::new([op * 8 + low]));
            all.push(Form { opcode, byte, undefined, ..BASE });
        }
        let imm8: &'static [u8] = Box::leak(Box::new([op * 8 + 4]));
        all.push(Form { opcode: imm8, modrm: false, imm: 1, byte: true, undefined, ..BASE });
        let imm: &'static [u8] = Box::leak(Box::new([op * 8 + 5]));
        all.push(Form { opcode: imm, modrm: false, imm: 9, undefined, ..BASE });
        let e = Some(op);
        all.push(Form { opcode: &[0x80], extension: e, imm: 1, byte: true, undefined, ..BASE });
        all.push(Form { opcode: &[0x81], extension: e, imm: 9, undefined, ..BASE });
        all.push(Form { opcode: &[0x83], extension: e, imm: 1, undefined, ..BASE });
        // Shifts: AF is undefined; OF beyond a count of 1 and CF beyond the width differ between makers.
        let shift = AF | OF;
        all.push(Form { opcode: &[0xc0], extension: e, imm: 1, byte: true, undefined: shift | CF, ..BASE });
        all.push(Form { opcode: &[0xc1], extension: e, imm: 1, undefined: shift | CF, ..BASE });
        all.push(Form { opcode: &[0xd0], extension: e, byte: true, undefined: AF, ..BASE });
        all.push(Form { opcode: &[0xd1], extension: e, undefined: AF, ..BASE });
        all.push(Form { opcode: &[0xd2], extension: e, byte: true, undefined: shift | CF, ..BASE });
        all.push(Form { opcode: &[0xd3], extension: e, undefined: shift | CF, ..BASE });
    }
    for (e, undefined) in [(0, AF), (2, 0), (3, 0), (4, SF | ZF | AF | PF), (5, SF | ZF | AF | PF)] {
        let imm = if e == 0 { 1 } else { 0 };
        let extension = Some(e);
        all.push(Form { opcode: &[0xf6], extension, imm, byte: true, undefined, ..BASE });
        let imm = if e == 0 { 9 } else { 0 };
        all.push(Form { opcode: &[0xf7], extension, imm, undefined, ..BASE });
    }
    for e in [0, 1] {
        all.push(Form { opcode: &[0xfe], extension: Some(e), byte: true, ..BASE });
        all.push(Form { opcode: &[0xff], extension: Some(e), ..BASE });
    }
    let bytes = |opcode, byte| Form { opcode, byte, ..BASE };
    all.extend([
        bytes(&[0x84], true),
        bytes(&[0x85], false),
        bytes(&[0x86], true),
        bytes(&[0x87], false),
        bytes(&[0x88], true),
        bytes(&[0x89], false),
        bytes(&[0x8a], true),
        bytes(&[0x8b], false),
        bytes(&[0x63], false),
        bytes(&[0x0f, 0xb6], false),
        bytes(&[0x0f, 0xb7], false),
        bytes(&[0x0f, 0xbe], false),
        bytes(&[0x0f, 0xbf], false),
        bytes(&[0x0f, 0xc0], true),
        bytes(&[0x0f, 0xc1], false),
        bytes(&[0x0f, 0xb0], true),
        bytes(&[0x0f, 0xb1], false),
    ]);
    all.push(Form { opcode: &[0x8d], register: false, ..BASE });
    all.push(Form { opcode: &[0xc6], extension: Some(0), imm: 1, byte: true, ..BASE });
    all.push(Form { opcode: &[0xc7], extension: Some(0), imm: 9, ..BASE });
    let product = SF | ZF | AF | PF;
    all.push(Form { opcode: &[0x0f, 0xaf], undefined: product, ..BASE });
    all.push(Form { opcode: &[0x69], imm: 9, undefined: product, ..BASE });
    all.push(Form { opcode: &[0x6b], imm: 1, undefined: product, ..BASE });
    all.push(Form { opcode: &[0x0f, 0xa4], imm: 1, undefined: AF | OF, ..BASE });
    all.push(Form { opcode: &[0x0f, 0xac], imm: 1, undefined: AF | OF, ..BASE });
    all.push(Form { opcode: &[0x0f, 0xa5], undefined: AF | OF, ..BASE });
    all.push(Form { opcode: &[0x0f, 0xad], undefined: AF | OF, ..BASE });
    all.push(Form { opcode: &[0xf3, 0x0f, 0xb8], ..BASE });
    let bits = OF | SF | AF | PF;
    for e in 4..8 {
        all.push(Form { opcode: &[0x0f, 0xba], extension: Some(e), imm: 1, undefined: bits, ..BASE });
    }
    const BY_REGISTER: [&[u8]; 4] = [&[0x0f, 0xa3], &[0x0f, 0xab], &[0x0f, 0xb3], &[0x0f, 0xbb]];
    for opcode in BY_REGISTER {
        all.push(Form { opcode, undefined: bits, memory: false, ..BASE });
    }
    for cc in 0..16u8 {
        all.push(Form { opcode: Box::leak(Box::new([0x0f, 0x40 + cc])), ..BASE });
        all.push(Form {
            opcode: Box::leak(Box::new([0x0f, 0x90 + cc])),
            extension: Some(0),
            byte: true,
            ..BASE
        });
    }
    for op in [0x98u8, 0x99, 0x9e, 0x9f, 0xf5, 0xf8, 0xf9] {
        all.push(Form { opcode: Box::leak(Box::new([op])), modrm: false, memory: false, ..BASE });
    }
    for r in (0..8u8).filter(|r| *r != 4) {
        let bswap: &'static [u8] = Box::leak(Box::new([0x0f, 0xc8 + r]));
        all.push(Form { opcode: bswap, modrm: false, memory: false, ..BASE });
        let mov: &'static [u8] = Box::leak(Box::new([0xb8 + r]));
        all.push(Form { opcode: mov, modrm: false, imm: 10, memory: false, ..BASE });
        let xchg: &'static [u8] = Box::leak(Box::new([0x90 + r]));
        all.push(Form { opcode: xchg, modrm: false, memory: false, ..BASE });
    }
    all
}

/// Encodes a form with random operands. RSP is never an operand; memory operands lie in the data page by RBX.
fn encode(form: &Form, rng: &mut Rng) -> Vec<u8> {
    let mut insn = Vec::new();
    let swap = form.opcode.len() == 2 && form.opcode[0] == 0x0f && form.opcode[1] & 0xf8 == 0xc8;
    let narrow = !form.byte && !swap && rng.below(4) == 0;
    if narrow {
        insn.push(0x66);
    }
    let (mandatory, rest) =
        if form.opcode[0] == 0xf3 { form.opcode.split_at(1) } else { form.opcode.split_at(0) };
    insn.extend(mandatory);
    let wide = !form.byte && rng.below(2) == 0;
    let rex = 0x40 | u8::from(wide) << 3 | (rng.below(2) as u8) << 2 | (rng.below(2) as u8);
    let with_rex = wide || rng.below(2) == 0;
    let in_memory = form.memory && (!form.register || rng.below(2) == 0) && form.modrm;
    let rex = if in_memory || !form.modrm { rex & !1 } else { rex };
    let rex = if form.extension.is_some() { rex & !4 } else { rex };
    if with_rex {
        insn.push(rex);
    }
    insn.extend(rest);
    if form.modrm {
        // Number 4 is RSP, or AH without REX in byte forms.
        let pick = |rng: &mut Rng, high: bool| loop {
            let r = rng.below(8) as u8;
            let is_sp = r == 4 && !high && (!form.byte || with_rex);
            if !is_sp {
                return r;
            }
        };
        let reg = form.extension.unwrap_or_else(|| pick(rng, with_rex && rex & 4 != 0));
        // Source operands of one byte may be AH..BH; destinations of the wide forms may not be RSP.
        if in_memory {
            match rng.below(3) {
                0 => insn.extend([0x43 | reg << 3, rng.next() as u8]),
                1 => {
                    insn.push(0x83 | reg << 3);
                    insn.extend((rng.below(2000) as i32 - 1000).to_le_bytes());
                }
                // [rbx + rbp * scale]
                _ => insn.extend([0x44 | reg << 3, 0x2b | (rng.below(3) as u8) << 6, rng.next() as u8]),
            }
        } else {
            insn.push(0xc0 | reg << 3 | pick(rng, with_rex && rex & 1 != 0));
        }
    }
    let imm = match form.imm {
        9 if narrow && !wide => 2,
        9 => 4,
        10 if wide => 8,
        10 if narrow => 2,
        10 => 4,
        n => n,
    };
    insn.extend(&rng.next().to_le_bytes()[..imm.into()]);
    insn
}

/// Whether a case's result, not only its flags, is undefined: SHLD and SHRD of 16 bits by more than 16 (Intel SDM
/// vol. 2B, SHLD). AMD processors shift the second operand in twice, Intel's come back to the first.
fn result_is_undefined(insn: &[u8], regs: &Regs) -> bool {
    let [0x66, rest @ ..] = insn else { return false };
    let rest = if let [0x40..=0x47, rest @ ..] = rest { rest } else { rest };
    let count = match rest {
        [0x0f, 0xa4 | 0xac, .., imm] => u64::from(*imm),
        [0x0f, 0xa5 | 0xad, ..] => regs.gpr[1],
        _ => return false,
    };
    count & 31 > 16
}

/// Instructions of BMI1 and BMI2: map, mandatory prefix (0 none, 1 66, 2 F3, 3 F2), opcode, ModRM extension, immediate,
/// undefined flags.
const VEX: [(u8, u8, u8, Option<u8>, bool, u64); 13] = [
    (2, 0, 0xf2, None, false, AF | PF),
    (2, 0, 0xf7, None, false, AF | SF | PF),
    (2, 0, 0xf3, Some(1), false, AF | PF),
    (2, 0, 0xf3, Some(2), false, AF | PF),
    (2, 0, 0xf3, Some(3), false, AF | PF),
    (2, 0, 0xf5, None, false, AF | PF),
    (2, 3, 0xf5, None, false, 0),
    (2, 2, 0xf5, None, false, 0),
    (2, 3, 0xf6, None, false, 0),
    (2, 1, 0xf7, None, false, 0),
    (2, 2, 0xf7, None, false, 0),
    (2, 3, 0xf7, None, false, 0),
    (3, 3, 0xf0, None, true, 0),
];

/// The same for legacy encodings: prefix, opcode after 0F, bytes of source (0: operand size), undefined flags.
const LEGACY: [(u8, &[u8], u64); 7] = [
    (0xf3, &[0xbc], OF | SF | AF | PF),
    (0xf3, &[0xbd], OF | SF | AF | PF),
    (0x66, &[0x38, 0xf6], 0),
    (0xf3, &[0x38, 0xf6], 0),
    (0xf2, &[0x38, 0xf0], 0),
    (0xf2, &[0x38, 0xf1], 0),
    (0xf3, &[0xb8], 0),
];

/// A register that is neither RSP nor the base of memory operands.
fn free_register(rng: &mut Rng) -> u8 {
    loop {
        let r = rng.below(16) as u8;
        if r != 3 && r != 4 {
            return r;
        }
    }
}

/// The ModRM byte with what follows: a register, or `[rbx + disp8]`.
fn operand(rng: &mut Rng, reg: u8, rm: u8) -> Vec<u8> {
    if rng.below(2) == 0 {
        vec![0x43 | (reg & 7) << 3, rng.next() as u8]
    } else {
        vec![0xc0 | (reg & 7) << 3 | rm & 7]
    }
}

fn encode_vex(rng: &mut Rng) -> (Vec<u8>, u64) {
    let (map, pp, opcode, extension, immediate, undefined) = VEX[rng.below(VEX.len() as u64) as usize];
    let (reg, rm, other) = (free_register(rng), free_register(rng), free_register(rng));
    let reg = extension.unwrap_or(reg);
    let tail = operand(rng, reg, rm);
    let base = if tail[0] >= 0xc0 { rm } else { 3 };
    let wide = (rng.below(2) as u8) << 7;
    let other = if immediate { 0 } else { other };
    let mut insn =
        vec![0xc4, !(reg >> 3) << 7 | 0x40 | (!(base >> 3) & 1) << 5 | map, wide | (!other & 15) << 3 | pp];
    insn.push(opcode);
    insn.extend(tail);
    if immediate {
        insn.push(rng.next() as u8);
    }
    (insn, undefined)
}

fn encode_legacy(rng: &mut Rng) -> (Vec<u8>, u64) {
    let (prefix, opcode, undefined) = LEGACY[rng.below(LEGACY.len() as u64) as usize];
    let (reg, rm) = (free_register(rng), free_register(rng));
    let tail = operand(rng, reg, rm);
    let base = if tail[0] >= 0xc0 { rm } else { 3 };
    let mut insn = Vec::new();
    if prefix != 0x66 && opcode != [0x38, 0xf6] && rng.below(4) == 0 {
        insn.push(0x66);
    }
    insn.push(prefix);
    insn.push(0x40 | (rng.below(2) as u8) << 3 | reg >> 3 << 2 | base >> 3);
    insn.push(0x0f);
    insn.extend(opcode);
    insn.extend(tail);
    (insn, undefined)
}

#[test]
fn bit_manipulation_matches_this_processor() {
    let needed = is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("adx")
        && is_x86_feature_detected!("sse4.2");
    if !needed {
        return;
    }
    let host = Host::new();
    let mut guest = Guest::new(host.code as u64);
    let mut rng = Rng(Generator::new(0x1234_5678_9abc_def1));
    for _ in 0..20_000 {
        let (insn, undefined) =
            if rng.below(2) == 0 { encode_vex(&mut rng) } else { encode_legacy(&mut rng) };
        let mut regs = Regs { gpr: core::array::from_fn(|_| rng.value()), flags: rng.next() & ARITH | 0x202 };
        regs.gpr[3] = host.data as u64 + 2048;
        regs.gpr[4] = host.data as u64 + 0x800;
        let (native, ours) = compare(&host, &mut guest, &insn, regs, &mut rng);
        let mask = ARITH & !undefined;
        assert!(
            native.gpr == ours.gpr && (native.flags ^ ours.flags) & mask == 0,
            "{insn:02x?}\n  before {regs:x?}\n  native {native:x?}\n  ours   {ours:x?}"
        );
    }
}

/// Runs `insn` here and there.
fn compare(host: &Host, guest: &mut Guest, insn: &[u8], regs: Regs, rng: &mut Rng) -> (Regs, Regs) {
    let data: Vec<u8> = (0..0x1000).map(|_| rng.value() as u8).collect();
    host.set_bytes(&data);
    let (mut native, mut ours) = (regs, regs);
    let at = host.run(insn, &mut native);
    guest.run(insn, at, &mut ours, &mut data.clone());
    (native, ours)
}

#[test]
fn integer_instructions_match_this_processor() {
    let host = Host::new();
    let mut guest = Guest::new(host.code as u64);
    let mut rng = Rng(Generator::new(0x9e37_79b9_7f4a_7c15));
    let forms = forms();
    let runs = std::env::var("AERO_FUZZ_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let mut failures = Vec::new();
    for _ in 0..runs {
        let form = &forms[rng.below(forms.len() as u64) as usize];
        let insn = encode(form, &mut rng);
        let mut regs = Regs { gpr: core::array::from_fn(|_| rng.value()), flags: rng.next() & ARITH | 0x202 };
        regs.gpr[3] = host.data as u64 + 2048;
        regs.gpr[5] = rng.below(64);
        if rng.below(4) == 0 {
            regs.gpr[1] = rng.below(70);
        }
        regs.gpr[4] = host.data as u64 + 0x800;
        if result_is_undefined(&insn, &regs) {
            continue;
        }
        let data: Vec<u8> = (0..0x1000).map(|_| rng.value() as u8).collect();
        host.set_bytes(&data);
        let (mut native, mut ours) = (regs, regs);
        let at = host.run(&insn, &mut native);
        let native_data = host.bytes();
        let mut ours_data = data.clone();
        guest.run(&insn, at, &mut ours, &mut ours_data);
        let mask = ARITH & !form.undefined;
        let same =
            native.gpr == ours.gpr && (native.flags ^ ours.flags) & mask == 0 && native_data == ours_data;
        if !same {
            failures.push(format!(
                "{insn:02x?}\n  before {regs:x?}\n  native {native:x?}\n  ours   {ours:x?}\n  memory same: {}",
                native_data == ours_data
            ));
            if failures.len() >= 10 {
                break;
            }
        }
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}
