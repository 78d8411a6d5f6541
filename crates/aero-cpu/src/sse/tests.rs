//! Instructions as a guest runs them: operands, memory, faults.

use super::arith::{Divps, Mulps};
use super::float::{Env, record};
use super::rows::ROWS;
use super::{Operation, arith};
use crate::state::{Segment, cr0, cr4, efer, eflags, seg};
use crate::{Cpu, Exit, NoDevices};
use aero_mem::{Gpa, GuestMemory};
use aero_x86::{CodeSize, Insn, Operand, decode};

const GDT: u64 = 0x1000;
const IDT: u64 = 0x2000;
const HANDLERS: u64 = 0x3000;
const PML4: u64 = 0x4000;
const PDPT: u64 = 0x5000;
const PD: u64 = 0x6000;
const PT: u64 = 0x7000;
const STACK: u64 = 0x9000;
const CODE: u64 = 0xa000;
/// Two pages; the page at `HOLE` behind them is not present.
const DATA: u64 = 0xb000;
const HOLE: u64 = 0xd000;
const CODE_SELECTOR: u16 = 8;

/// A processor in 64-bit or flat 32-bit mode whose exception handlers halt, each at its own address.
struct Bench {
    mem: GuestMemory,
    cpu: Cpu,
}

impl Bench {
    fn new(long: bool) -> Self {
        let mut mem = GuestMemory::new(1 << 20, 1).expect("a megabyte");
        let mut cpu = Cpu::new(&mut mem, 0, crate::CpuConfig::of(&aero_x86::cpuid::MAX));
        let mut put = |at: u64, value: u64| mem.write(Gpa(at), &value.to_le_bytes()).expect("RAM");
        put(GDT + 8, if long { 0x00af_9b00_0000_ffff } else { 0x00cf_9b00_0000_ffff });
        put(GDT + 16, 0x00cf_9300_0000_ffff);
        for vector in 0..32 {
            let handler = HANDLERS + 16 * vector;
            let gate = 0x0000_8e00_0008_0000 | handler;
            put(handler, 0xf4);
            put(IDT + vector * if long { 16 } else { 8 }, gate);
        }
        // Paging for long mode; the 32-bit bench runs without.
        put(PML4, PDPT | 3);
        put(PDPT, PD | 3);
        put(PD, PT | 3);
        for page in 0..16 {
            put(PT + 8 * page, page << 12 | if page << 12 == HOLE { 0 } else { 3 });
        }
        let st = cpu.state_mut(&mut mem);
        st.cr0 = cr0::PE | cr0::ET | cr0::NE;
        st.cr4 = cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::PAE | cr4::OSXSAVE;
        st.xcr0 = 7;
        if long {
            st.cr0 |= cr0::PG;
            st.cr3 = PML4;
            st.msr.efer = efer::LME | efer::LMA;
        }
        let flat = Segment { base: 0, limit: u32::MAX, attributes: 0xc093, selector: 16 };
        st.segments = [flat; 6];
        let code = if long { 0xa09b } else { 0xc09b };
        st.segments[usize::from(seg::CS)] = Segment { attributes: code, selector: CODE_SELECTOR, ..flat };
        st.gdtr.base = GDT;
        st.gdtr.limit = 0xff;
        st.idtr.base = IDT;
        st.idtr.limit = 0x1ff;
        st.set_gpr(4, STACK);
        st.set_gpr(0, DATA);
        st.set_gpr(7, DATA);
        st.rip = CODE;
        Self { mem, cpu }
    }

    /// Runs `code`, then HLT; the vector of the exception that came up, if one did.
    fn run(&mut self, code: &[u8]) -> Option<u64> {
        self.mem.write(Gpa(CODE), code).expect("RAM");
        self.mem.write(Gpa(CODE + code.len() as u64), &[0xf4]).expect("RAM");
        let st = self.cpu.state_mut(&mut self.mem);
        st.rip = CODE;
        st.set_gpr(4, STACK);
        self.cpu.core.halted = false;
        let exit = self.cpu.run(&mut self.mem, &mut NoDevices, 10_000);
        assert_eq!(exit, Exit::Halted);
        let rip = self.cpu.state(&self.mem).rip;
        (rip < PML4).then(|| (rip - HANDLERS) / 16)
    }

    fn st(&mut self) -> &mut crate::state::CpuState {
        self.cpu.state_mut(&mut self.mem)
    }

    fn word(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.mem.read_array(Gpa(at)).expect("RAM"))
    }

    fn put(&mut self, at: u64, value: u64) {
        self.mem.write(Gpa(at), &value.to_le_bytes()).expect("RAM");
    }
}

const UD: u64 = 6;
const NM: u64 = 7;
const GP: u64 = 13;
const PF: u64 = 14;
const MF: u64 = 16;
const XM: u64 = 19;

#[test]
fn moves_between_memory_and_registers_keep_every_bit() {
    for long in [false, true] {
        let mut b = Bench::new(long);
        b.put(DATA, 0x1111_2222_3333_4444);
        b.put(DATA + 8, 0x5555_6666_7777_8888);
        // movaps xmm1, [eax]; movups [eax+0x21], xmm1; movss xmm2, [eax]; movhps xmm3, [eax]; movlps
        // [eax+0x40], xmm3
        let code = [
            0x0f, 0x28, 0x08, 0x0f, 0x11, 0x48, 0x21, 0xf3, 0x0f, 0x10, 0x10, 0x0f, 0x16, 0x18, 0x0f, 0x17,
            0x58, 0x40,
        ];
        b.st().xmm[2] = [u64::MAX; 2];
        b.st().xmm[3] = [7, 9];
        assert_eq!(b.run(&code), None);
        assert_eq!(b.st().xmm[1], [0x1111_2222_3333_4444, 0x5555_6666_7777_8888]);
        assert_eq!(
            [b.word(DATA + 0x21), b.word(DATA + 0x29)],
            [0x1111_2222_3333_4444, 0x5555_6666_7777_8888]
        );
        assert_eq!(b.st().xmm[2], [0x3333_4444, 0]);
        assert_eq!(b.st().xmm[3], [7, 0x1111_2222_3333_4444]);
        assert_eq!(b.word(DATA + 0x40), 0x1111_2222_3333_4444);
    }
}

#[test]
fn rex_reaches_the_upper_registers() {
    let mut b = Bench::new(true);
    b.st().xmm[15] = [0x4000_0000_0000_0000, 3];
    b.st().xmm[8] = [0x3ff0_0000_0000_0000, 5];
    // addsd xmm8, xmm15; movq rdx, xmm8; cvttsd2si rcx, xmm15; movd r9d, xmm15
    let code = [
        0xf2, 0x45, 0x0f, 0x58, 0xc7, 0x66, 0x4c, 0x0f, 0x7e, 0xc2, 0xf2, 0x49, 0x0f, 0x2c, 0xcf, 0x66, 0x45,
        0x0f, 0x7e, 0xf9,
    ];
    assert_eq!(b.run(&code), None);
    assert_eq!(b.st().xmm[8], [0x4008_0000_0000_0000, 5]);
    assert_eq!((b.st().gpr(2), b.st().gpr(1), b.st().gpr(9)), (0x4008_0000_0000_0000, 2, 0));
}

#[test]
fn misaligned_operand_of_16_bytes_is_a_protection_fault() {
    let mut b = Bench::new(false);
    assert_eq!(b.run(&[0x0f, 0x28, 0x48, 0x08]), Some(GP)); // movaps xmm1, [eax+8]
    assert_eq!(b.run(&[0x0f, 0x29, 0x48, 0x08]), Some(GP)); // movaps [eax+8], xmm1
    assert_eq!(b.run(&[0x66, 0x0f, 0xfe, 0x48, 0x04]), Some(GP)); // paddd xmm1, [eax+4]
    assert_eq!(b.run(&[0x0f, 0x10, 0x48, 0x04]), None); // movups xmm1, [eax+4]
    assert_eq!(b.run(&[0xf2, 0x0f, 0x58, 0x48, 0x04]), None); // addsd xmm1, [eax+4]
}

#[test]
fn store_into_a_missing_page_changes_nothing() {
    let mut b = Bench::new(true);
    b.st().xmm[1] = [u64::MAX; 2];
    b.st().set_gpr(0, HOLE - 8);
    assert_eq!(b.run(&[0x0f, 0x11, 0x08]), Some(PF)); // movups [rax], xmm1
    assert_eq!(b.word(HOLE - 8), 0);
    b.st().set_gpr(0, HOLE - 256);
    assert_eq!(b.run(&[0x0f, 0xae, 0x00]), Some(PF)); // fxsave [rax]
    assert!((0..32).all(|i| b.word(HOLE - 256 + 8 * i) == 0));
}

#[test]
fn disabled_units_fault() {
    let (sse, mmx) = ([0x0f, 0x58, 0xc1], [0x0f, 0xfc, 0xc1]); // addps xmm0, xmm1; paddb mm0, mm1
    let cases: [(u64, u64, _, _); 4] = [
        (cr0::TS, 0, Some(NM), Some(NM)),
        (cr0::EM, 0, Some(UD), Some(UD)),
        (cr0::EM | cr0::TS, 0, Some(UD), Some(UD)),
        (0, cr4::OSFXSR, Some(UD), None),
    ];
    for (set, clear, want_sse, want_mmx) in cases {
        let mut b = Bench::new(false);
        b.st().cr0 |= set;
        b.st().cr4 &= !clear;
        assert_eq!((b.run(&sse), b.run(&mmx)), (want_sse, want_mmx), "{set:#x} {clear:#x}");
    }
}

#[test]
fn sse_code_that_names_no_xmm_register_is_checked_too() {
    let mut b = Bench::new(false);
    b.st().cr4 &= !cr4::OSFXSR;
    assert_eq!(b.run(&[0xf3, 0x0f, 0x2c, 0x08]), Some(UD)); // cvttss2si ecx, [eax]
    assert_eq!(b.run(&[0x0f, 0x2c, 0x08]), Some(UD)); // cvttps2pi mm1, [eax]
    assert_eq!(b.run(&[0x0f, 0xae, 0x10]), Some(UD)); // ldmxcsr [eax]
}

#[test]
fn pending_x87_exception_comes_before_mmx() {
    let mut b = Bench::new(false);
    b.st().fpu.status = 0x81;
    b.st().fpu.control = 0x037e;
    assert_eq!(b.run(&[0x0f, 0xfc, 0xc1]), Some(MF));
    assert_eq!(b.run(&[0x0f, 0x58, 0xc1]), None);
}

#[test]
fn mmx_shares_the_x87_registers() {
    let mut b = Bench::new(false);
    b.st().fpu.top = 5;
    b.st().fpu.tags = 0;
    b.put(DATA, 0x0102_0304_0506_0708);
    // movq mm1, [eax]; paddb mm1, mm1; movd ecx, mm1
    assert_eq!(b.run(&[0x0f, 0x6f, 0x08, 0x0f, 0xfc, 0xc9, 0x0f, 0x7e, 0xc9]), None);
    assert_eq!(b.st().gpr(1), 0x0a0c_0e10);
    let fpu = b.st().fpu;
    assert_eq!((fpu.top, fpu.tags, fpu.mmx(1)), (0, 0xff, 0x0204_0608_0a0c_0e10));
    assert_eq!(fpu.st[1].to_bytes()[8..], [0xff, 0xff]);
    assert_eq!(b.run(&[0x0f, 0x77]), None); // emms
    assert_eq!(b.st().fpu.tags, 0);
}

#[test]
fn low_unpack_of_mmx_reads_four_bytes() {
    let mut b = Bench::new(true);
    b.st().set_gpr(0, HOLE - 4);
    b.mem.write(Gpa(HOLE - 4), &[1, 2, 3, 4]).expect("RAM");
    assert_eq!(b.run(&[0x0f, 0x60, 0x08]), None); // punpcklbw mm1, [rax]
    assert_eq!(b.st().fpu.mmx(1), 0x0400_0300_0200_0100);
}

#[test]
fn unmasked_exception_keeps_the_destination() {
    let mut b = Bench::new(false);
    b.st().xmm[0] = [0x3f80_0000, 1];
    b.st().xmm[1] = [0, 0];
    b.st().mxcsr = 0x1d80;
    assert_eq!(b.run(&[0xf3, 0x0f, 0x5e, 0xc1]), Some(XM)); // divss xmm0, xmm1
    assert_eq!((b.st().xmm[0], b.st().mxcsr), ([0x3f80_0000, 1], 0x1d84));
    b.st().cr4 &= !cr4::OSXMMEXCPT;
    assert_eq!(b.run(&[0xf3, 0x0f, 0x5e, 0xc1]), Some(UD));
}

#[test]
fn comparison_sets_the_flags_of_branches() {
    let mut b = Bench::new(false);
    b.st().xmm[0] = [0x3f80_0000, 0];
    b.st().xmm[1] = [0x4000_0000, 0];
    b.st().set_arith(eflags::ARITH);
    assert_eq!(b.run(&[0x0f, 0x2f, 0xc1]), None); // comiss xmm0, xmm1
    assert_eq!(b.st().arith(), eflags::CF);
}

#[test]
fn mxcsr_refuses_reserved_bits() {
    let mut b = Bench::new(false);
    b.put(DATA, 0x9fc0);
    assert_eq!(b.run(&[0x0f, 0xae, 0x10, 0x0f, 0xae, 0x58, 0x08]), None); // ldmxcsr [eax]; stmxcsr [eax+8]
    assert_eq!(b.word(DATA + 8), 0x9fc0);
    b.put(DATA, 0x1_1f80);
    assert_eq!(b.run(&[0x0f, 0xae, 0x10]), Some(GP));
    assert_eq!(b.st().mxcsr, 0x9fc0);
}

#[test]
fn state_image_restores_what_it_saved() {
    for (long, registers) in [(false, 8), (true, 16)] {
        let mut b = Bench::new(long);
        (0..64).for_each(|i| b.put(DATA + 8 * i, 0xa5a5_a5a5_a5a5_a5a5));
        for i in 0..16 {
            b.st().xmm[i] = [i as u64 + 1, !(i as u64)];
        }
        b.st().mxcsr = 0x1fa0;
        b.st().fpu.enter_mmx();
        b.st().fpu.set_mmx(3, 0x1234_5678_9abc_def0);
        assert_eq!(b.run(&[0x0f, 0xae, 0x00]), None); // fxsave [eax]
        assert_eq!(b.word(DATA + 24), 0xffff_0000_1fa0);
        assert_eq!(b.word(DATA + 32 + 48), 0x1234_5678_9abc_def0);
        let end = DATA + 160 + 16 * registers as u64;
        assert!((end..DATA + 512).step_by(8).all(|at| b.word(at) == 0xa5a5_a5a5_a5a5_a5a5));
        let saved = b.st().fpu;
        b.st().xmm = [[0; 2]; 16];
        b.st().mxcsr = 0x1f80;
        b.st().fpu.fninit();
        assert_eq!(b.run(&[0x0f, 0xae, 0x08]), None); // fxrstor [eax]
        for i in 0..16 {
            let want = if i < registers { [i as u64 + 1, !(i as u64)] } else { [0; 2] };
            assert_eq!(b.st().xmm[i], want);
        }
        assert_eq!((b.st().mxcsr, b.st().fpu), (0x1fa0, saved));
    }
}

#[test]
fn state_image_must_be_aligned_and_sound() {
    let mut b = Bench::new(false);
    assert_eq!(b.run(&[0x0f, 0xae, 0x40, 0x08]), Some(GP)); // fxsave [eax+8]
    b.put(DATA + 24, 0x10000);
    assert_eq!(b.run(&[0x0f, 0xae, 0x08]), Some(GP)); // fxrstor [eax]
    b.st().cr0 |= cr0::TS;
    assert_eq!(b.run(&[0x0f, 0xae, 0x00]), Some(NM));
}

#[test]
fn masked_store_writes_chosen_bytes() {
    let mut b = Bench::new(false);
    b.st().xmm[3] = [0x0807_0605_0403_0201, 0x100f_0e0d_0c0b_0a09];
    b.st().xmm[6] = [0x80, 0xff00_0000_0000_0000];
    assert_eq!(b.run(&[0x66, 0x0f, 0xf7, 0xde]), None); // maskmovdqu xmm3, xmm6
    assert_eq!([b.word(DATA), b.word(DATA + 8)], [1, 0x1000_0000_0000_0000]);
    b.st().fpu.set_mmx(2, 0xaa55_aa55);
    b.st().fpu.set_mmx(5, 0x8000);
    assert_eq!(b.run(&[0x0f, 0xf7, 0xd5]), None); // maskmovq mm2, mm5
    assert_eq!(b.word(DATA), 0xaa01);
}

#[test]
fn string_instructions_are_not_taken() {
    let mut b = Bench::new(false);
    b.put(DATA, 0x55);
    b.st().set_gpr(6, DATA);
    b.st().set_gpr(7, DATA + 0x100);
    assert_eq!(b.run(&[0xa5]), None); // movsd
    assert_eq!(b.word(DATA + 0x100), 0x55);
}

/// MXCSR as an Intel processor left it in the handler of SIGFPE.
#[test]
fn unmasked_flags_are_those_of_a_processor() {
    let one = 0x3f80_0000;
    type Two = fn(&mut Env, [u64; 2], [u64; 2], u8) -> [u64; 2];
    let (mul, div): (Two, Two) = (Mulps::apply, Divps::apply);
    let cases = [
        (mul, [0x7f00_0000, 0], [0x7f00_0000, 0], 0x1b80, 0x1b88),
        (mul, [0x7f7f_ffff, 0], [0x7f7f_fff1, 0], 0x1b80, 0x1ba8),
        (mul, [0x0080_0000, 0], [0x3f00_0000, 0], 0x1780, 0x1790),
        (mul, [0x0080_0001, 0], [0x3f00_0000, 0], 0x1780, 0x1790),
        (mul, [0x0081_2345, 0], [0x3eab_cdef, 0], 0x1780, 0x17b0),
        (mul, [0x0080_0000, 0], [0x0080_0000, 0], 0x1780, 0x1790),
        (mul, [0x0080_0001, 0], [0x3f00_0000, 0], 0x9780, 0x9790),
        (mul, [0x3f81_2345, 0x7f80_0001], [0x3f82_3456, one], 0x1f00, 0x1f01),
        (mul, [0x3f81_2345, 1], [0x3f82_3456, one], 0x1f00, 0x1f22),
        (mul, [0x7f80_0001, 1], [0x3f82_3456, one], 0x1f00, 0x1f03),
        (mul, [0x7f80_0001, 1], [0x3f82_3456, one], 0x1e80, 0x1e83),
        (mul, [0x7f00_0000, 0x3f81_2345], [0x7f00_0000, 0x3f81_2345], 0x0f80, 0x0fa8),
        (mul, [1, one], [0x3f00_0000, 0x4040_0000], 0x1e80, 0x1e82),
        (div, [one, one], [0, 0x4040_0000], 0x1d80, 0x1d84),
        (div, [one, one], [0, 0x4040_0000], 0x0f80, 0x0fa4),
    ];
    for (n, (f, a, b, control, want)) in cases.into_iter().enumerate() {
        let upper = one | one << 32;
        let mut env = Env::new(control);
        f(&mut env, [a[0] | a[1] << 32, 0], [b[0] | b[1] << 32, upper], 0);
        assert_eq!(record(control, env.flags).0, want, "case {n}");
    }
}

#[test]
fn denormal_times_one_underflows_only_when_unmasked() {
    for (control, flags) in [(0x1f80, 0x02), (0x1780, 0x12)] {
        let mut env = Env::new(control);
        arith::Mulss::apply(&mut env, [1, 0], [0x3f80_0000, 0], 0);
        assert_eq!(env.flags, flags);
    }
}

/// Every prefix and opcode of the two-byte and three-byte maps, with registers and with memory.
fn legacy_encodings(see: &mut impl FnMut(&[u8])) {
    let prefixes = [&[][..], &[0x66], &[0xf3], &[0xf2], &[0x48], &[0x66, 0x48], &[0xf3, 0x48], &[0xf2, 0x48]];
    for (prefix, map, opcode) in prefixes.iter().flat_map(|p| {
        [None, Some(0x38), Some(0x3a)].into_iter().flat_map(move |m| (0..=255u8).map(move |o| (p, m, o)))
    }) {
        for modrm in (0..=255u8).filter(|m| m & 7 == 1 && matches!(m >> 6, 0 | 3)) {
            let mut code = prefix.to_vec();
            code.push(0x0f);
            code.extend(map);
            code.extend([opcode, modrm, 3, 0, 0, 0, 0]);
            see(&code);
        }
    }
}

/// Every VEX encoding: maps, W, L, prefix and opcode, with and without a register in vvvv; registers, memory, and
/// memory with an index.
fn vex_encodings(see: &mut impl FnMut(&[u8])) {
    for (map, opcode, fields) in (1..=3u8)
        .flat_map(|m| (0..=255u8).flat_map(move |o| (0..16u8).map(move |f| (m, o, (f & 8) << 4 | f & 7))))
    {
        for (vvvv, modrm) in [(15, 0xd1), (2, 0xd1), (15, 0x11), (2, 0x11), (2, 0x0c), (15, 0x0c), (15, 0x19)]
        {
            see(&[0xc4, 0xe0 | map, fields | vvvv << 3, opcode, modrm, 0x2b, 0, 0, 0, 0]);
        }
        // The groups: shifts by immediates, the loads of MXCSR.
        (0..8u8).for_each(|reg| {
            see(&[0xc4, 0xe0 | map, fields | 2 << 3, opcode, 0xc1 | reg << 3, 5]);
            see(&[0xc4, 0xe0 | map, fields | 15 << 3, opcode, 0x01 | reg << 3, 5]);
        });
    }
}

fn has_handler(insn: &Insn) -> bool {
    let mode = crate::vcpu::Mode { code: CodeSize::B64, stack32: true, flat: true };
    let bound = crate::bind::bind(Ok(*insn), mode, 0);
    !core::ptr::fn_addr_eq(bound.op.run, crate::op::branch::undefined as crate::op::Run)
}

#[test]
fn every_vector_instruction_of_the_richest_model_has_a_handler() {
    let (mut without, mut seen) = (Vec::new(), std::collections::HashSet::new());
    let mut see = |code: &[u8]| {
        let Ok(insn) = decode(code, CodeSize::B64, aero_x86::cpuid::MAX.features) else { return };
        let name = format!("{:?}", insn.mnemonic);
        let operands = &insn.operands[..insn.count.into()];
        let vector = operands.iter().any(|o| matches!(o, Operand::Xmm(_) | Operand::Ymm(_) | Operand::Mm(_)));
        if vector || insn.vex && name.starts_with('V') {
            seen.insert(insn.mnemonic);
            if !has_handler(&insn) {
                without.push(format!("{name} {operands:?} {code:02x?}"));
            }
        }
    };
    legacy_encodings(&mut see);
    vex_encodings(&mut see);
    assert!(without.is_empty(), "{without:#?}");
    assert!(seen.len() > 600, "only {} instructions were tried", seen.len());
}

#[test]
fn every_row_is_reached_by_an_encoding() {
    let mut reached = std::collections::HashSet::new();
    let mut see = |code: &[u8]| {
        if let Ok(insn) = decode(code, CodeSize::B64, aero_x86::cpuid::MAX.features) {
            reached.extend(super::vector::row_of(&insn));
        }
    };
    legacy_encodings(&mut see);
    vex_encodings(&mut see);
    let missing: Vec<_> =
        (0..ROWS.len()).filter(|n| !reached.contains(n)).map(|n| ROWS[n].mnemonic).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// MXCSR, XSTATE_BV, XCOMP_BV of the area at `DATA`.
fn area(b: &Bench) -> (u64, u64, u64) {
    (b.word(DATA + 24) & 0xffff_ffff, b.word(DATA + 512), b.word(DATA + 520))
}

const XSAVE: [u8; 4] = [0x48, 0x0f, 0xae, 0x20]; // xsave64 [rax]
const XSAVEOPT: [u8; 4] = [0x48, 0x0f, 0xae, 0x30];
const XSAVEC: [u8; 4] = [0x48, 0x0f, 0xc7, 0x20];
const XSAVES: [u8; 4] = [0x48, 0x0f, 0xc7, 0x28];
const XRSTOR: [u8; 4] = [0x48, 0x0f, 0xae, 0x28];
const XRSTORS: [u8; 4] = [0x48, 0x0f, 0xc7, 0x18];

/// A bench whose XSAVE instructions go to `DATA` for the components `mask`: RDI is the address.
fn xsave_bench(mask: u64) -> Bench {
    let mut b = Bench::new(true);
    b.st().xcr0 = 0x207;
    b.st().set_gpr(0, mask);
    b.st().set_gpr(2, 0);
    b
}

/// The same instruction at `[rdi]`, since RAX is the mask.
fn at_rdi(code: [u8; 4]) -> [u8; 4] {
    [code[0], code[1], code[2], code[3] | 7]
}

fn fill(b: &mut Bench) {
    for i in 0..16_u64 {
        b.st().xmm[i as usize] = [i + 1, !i];
        b.st().ymm_high[i as usize] = [0x1000 + i, 0x2000 + i];
    }
    b.st().pkru = 0x5555_5550;
    b.st().mxcsr = 0x1fa0;
    b.st().fpu.enter_mmx();
    b.st().fpu.set_mmx(3, 0x1234);
}

fn clear(b: &mut Bench) {
    b.st().xmm = [[0; 2]; 16];
    b.st().ymm_high = [[0; 2]; 16];
    b.st().pkru = 0;
    b.st().mxcsr = 0x1f80;
    b.st().fpu = crate::fpu::Fpu::default();
}

#[test]
fn every_format_of_saved_state_restores_what_it_saved() {
    let formats = [(XSAVE, XRSTOR, 0), (XSAVEOPT, XRSTOR, 0), (XSAVEC, XRSTOR, 1 << 63 | 0x207)];
    for (save, restore, compaction) in formats.into_iter().chain([(XSAVES, XRSTORS, 1 << 63 | 0x207)]) {
        let mut b = xsave_bench(u64::MAX >> 32);
        fill(&mut b);
        let (xmm, high, fpu) = (b.st().xmm, b.st().ymm_high, b.st().fpu);
        assert_eq!(b.run(&at_rdi(save)), None);
        assert_eq!(area(&b), (0x1fa0, 0x207, compaction));
        let keys = if compaction == 0 { 2688 } else { 832 };
        assert_eq!((b.word(DATA + 576), b.word(DATA + keys)), (0x1000, 0x5555_5550));
        clear(&mut b);
        assert_eq!(b.run(&at_rdi(restore)), None);
        assert_eq!((b.st().xmm, b.st().ymm_high, b.st().fpu), (xmm, high, fpu));
        assert_eq!((b.st().pkru, b.st().mxcsr), (0x5555_5550, 0x1fa0));
    }
}

#[test]
fn state_that_is_not_asked_for_is_left_alone() {
    let mut b = xsave_bench(4);
    fill(&mut b);
    b.put(DATA + 512, 0x1);
    b.put(DATA + 160, 77);
    assert_eq!(b.run(&at_rdi(XSAVE)), None);
    assert_eq!((area(&b).1, b.word(DATA + 160)), (5, 77));
    // With AVX but not SSE, the standard format still has MXCSR.
    assert_eq!(area(&b).0, 0x1fa0);
    b.st().set_gpr(0, 1);
    clear(&mut b);
    fill(&mut b);
    assert_eq!(b.run(&at_rdi(XRSTOR)), None);
    assert_eq!((b.st().xmm[3], b.st().mxcsr, b.st().pkru), ([4, !3], 0x1fa0, 0x5555_5550));
}

#[test]
fn components_in_their_initial_configuration_are_not_written() {
    for (save, bits) in [(XSAVE, 0), (XSAVEOPT, 0), (XSAVEC, 2)] {
        let mut b = xsave_bench(7);
        clear(&mut b);
        b.st().mxcsr = 0x1fa0;
        (0..128).for_each(|i| b.put(DATA + 8 * i, if (64..72).contains(&i) { 0 } else { 0xa5a5 }));
        assert_eq!(b.run(&at_rdi(save)), None);
        assert_eq!(area(&b).0, 0x1fa0, "{save:x?}");
        assert_eq!(area(&b).1, bits, "{save:x?}");
        // XSAVE alone writes what is initial; MXCSR makes XSAVEC write the XMM registers.
        assert_eq!(b.word(DATA + 32) == 0xa5a5, save != XSAVE);
        assert_eq!(b.word(DATA + 160) == 0xa5a5, save == XSAVEOPT);
        assert_eq!(b.word(DATA + 576) == 0xa5a5, save != XSAVE);
    }
}

#[test]
fn restore_without_a_component_makes_it_initial() {
    for compaction in [0, 1 << 63 | 7] {
        let mut b = xsave_bench(7);
        fill(&mut b);
        b.put(DATA + 24, 0x1f00);
        b.put(DATA + 520, compaction);
        assert_eq!(b.run(&at_rdi(XRSTOR)), None);
        assert_eq!((b.st().xmm, b.st().ymm_high), ([[0; 2]; 16], [[0; 2]; 16]));
        assert_eq!((b.st().fpu, b.st().pkru), (crate::fpu::Fpu::default(), 0x5555_5550));
        assert_eq!(b.st().mxcsr, if compaction == 0 { 0x1f00 } else { 0x1f80 });
    }
}

#[test]
fn reserved_bits_of_saved_state_fault_and_change_nothing() {
    let all = 1 << 63 | 0x207;
    let cases = [
        (512, 8, 0), // XSTATE_BV: not in XCR0
        (520, 7, 0), // XCOMP_BV without bit 63
        (528, 1, 0),
        (520, 1 << 63 | 8, 0), // XCOMP_BV: not in XCR0
        (512, 4, 1 << 63 | 3), // XSTATE_BV: not in XCOMP_BV
        (528, 1, all),
        (568, 1, all),
        (24, 0x1_1f80, 0),
    ];
    for (at, value, compaction) in cases {
        let mut b = xsave_bench(7);
        fill(&mut b);
        b.put(DATA + 24, 0x1f80);
        b.put(DATA + 520, compaction);
        b.put(DATA + at, value);
        assert_eq!(b.run(&at_rdi(XRSTOR)), Some(GP), "{at} {value:x} {compaction:x}");
        assert_eq!((b.st().xmm[3], b.st().mxcsr), ([4, !3], 0x1fa0));
    }
    let mut b = xsave_bench(7);
    // Of the standard format, what follows the first 24 bytes is not looked at; XRSTORS has no standard format.
    b.put(DATA + 568, 1);
    b.put(DATA + 24, 0x1f80);
    assert_eq!(b.run(&at_rdi(XRSTOR)), None);
    assert_eq!(b.run(&at_rdi(XRSTORS)), Some(GP));
}

#[test]
fn saving_state_checks_mode_alignment_and_privilege() {
    for (code, kernel) in [(XSAVE, false), (XSAVEC, false), (XSAVES, true), (XRSTOR, false), (XRSTORS, true)]
    {
        let mut b = xsave_bench(7);
        b.put(DATA + 24, 0x1f80);
        b.put(DATA + 520, 1 << 63 | 7);
        b.st().set_gpr(7, DATA + 32);
        assert_eq!(b.run(&at_rdi(code)), Some(GP));
        b.st().cr0 |= cr0::TS;
        assert_eq!(b.run(&at_rdi(code)), Some(NM));
        b.st().cr4 &= !cr4::OSXSAVE;
        assert_eq!(b.run(&at_rdi(code)), Some(UD));
        assert_eq!(matches!(code, XSAVES | XRSTORS), kernel);
    }
    let mut b = xsave_bench(7);
    fill(&mut b);
    b.st().set_gpr(7, HOLE - 576);
    assert_eq!(b.run(&at_rdi(XSAVE)), Some(PF));
    assert!((0..72).all(|i| b.word(HOLE - 576 + 8 * i) == 0));
}

#[test]
fn xcr0_takes_only_combinations_that_make_sense() {
    let set = [0x0f, 0x01, 0xd1]; // xsetbv
    for (value, selector, want) in [
        (7, 0, None),
        (3, 0, None),
        (1, 0, None),
        (0x207, 0, None),
        (0x201, 0, None),
        (0, 0, Some(GP)),
        (2, 0, Some(GP)),
        (5, 0, Some(GP)),
        (0xf, 0, Some(GP)),
        (1 << 63 | 1, 0, Some(GP)),
        (7, 1, Some(GP)),
    ] {
        let mut b = Bench::new(true);
        b.st().set_gpr(0, value & 0xffff_ffff);
        b.st().set_gpr(2, value >> 32);
        b.st().set_gpr(1, selector);
        assert_eq!(b.run(&set), want, "{value:x}");
        assert_eq!(b.st().xcr0, if want.is_none() { value } else { 7 });
    }
    let mut b = Bench::new(true);
    b.st().cr4 &= !cr4::OSXSAVE;
    assert_eq!(b.run(&set), Some(UD));
}

#[test]
fn prefixes_before_the_xsave_family_are_undefined() {
    for code in
        [[0x0f, 0x01, 0xd0], [0x0f, 0x01, 0xd1], [0x0f, 0xae, 0x27], [0x0f, 0xc7, 0x27], [0x0f, 0xc7, 0x2f]]
    {
        assert!(decode(&code, CodeSize::B64, aero_x86::cpuid::MAX.features).is_ok());
        for prefix in [0x66, 0xf2, 0xf3, 0xf0] {
            let with = [&[prefix], &code[..]].concat();
            let got = decode(&with, CodeSize::B64, aero_x86::cpuid::MAX.features);
            assert!(got.is_err(), "{with:02x?} {got:?}");
        }
    }
}

#[test]
fn xgetbv_reads_xcr0_and_what_is_in_use() {
    let get = [0x0f, 0x01, 0xd0];
    let mut b = Bench::new(true);
    b.st().ymm_high[9] = [0, 1];
    for (selector, mxcsr, value) in [(0, 0x1f80, 7), (1, 0x1f80, 4), (1, 0x1fa0, 6)] {
        b.st().mxcsr = mxcsr;
        b.st().set_gpr(1, selector);
        b.st().set_gpr(2, 99);
        assert_eq!(b.run(&get), None);
        assert_eq!((b.st().gpr(0), b.st().gpr(2)), (value, 0));
    }
    b.st().set_gpr(1, 2);
    assert_eq!(b.run(&get), Some(GP));
}

#[test]
fn vex_is_undefined_unless_the_system_enables_it() {
    let add = [0xc5, 0xf4, 0x58, 0xc2]; // vaddps ymm0, ymm1, ymm2
    type Change = fn(&mut crate::state::CpuState);
    let cases: [(Change, u64); 6] = [
        (|st| st.cr4 &= !cr4::OSXSAVE, UD),
        (|st| st.xcr0 = 3, UD),
        (|st| st.xcr0 = 1, UD),
        (|st| st.cr0 |= cr0::TS, NM),
        (|st| (st.cr0, st.xcr0) = (st.cr0 | cr0::TS, 3), UD),
        (|st| (st.cr0, st.cr4) = (st.cr0 | cr0::TS, st.cr4 & !cr4::OSXSAVE), UD),
    ];
    for (n, (change, want)) in cases.into_iter().enumerate() {
        let mut b = Bench::new(true);
        change(b.st());
        assert_eq!(b.run(&add), Some(want), "case {n}");
    }
    // CR0.EM and CR4.OSFXSR are of no concern to VEX.
    let mut b = Bench::new(true);
    b.st().cr0 |= cr0::EM;
    b.st().cr4 &= !cr4::OSFXSR;
    assert_eq!(b.run(&add), None);
}

#[test]
fn vex_is_undefined_in_real_mode() {
    let mut b = Bench::new(false);
    b.st().cr0 &= !cr0::PE;
    let real = Segment { base: 0, limit: 0xffff, attributes: 0x93, selector: 0 };
    b.st().segments = [real; 6];
    b.st().gdtr.base = 0;
    b.st().idtr = crate::state::TableRegister { base: 0, limit: 0x3ff };
    // Vector 6 of a real-mode table leads to a HLT of its own.
    b.put(24, 0x3060);
    b.mem.write(Gpa(CODE), &[0xc5, 0xf4, 0x58, 0xc2, 0xf4]).expect("RAM");
    b.st().rip = CODE;
    b.st().set_gpr(4, STACK);
    assert_eq!(b.cpu.run(&mut b.mem, &mut NoDevices, 10), Exit::Halted);
    assert_eq!(b.cpu.state(&b.mem).rip & 0xfff0, 0x3060);
}

#[test]
fn prefixes_and_fields_that_vex_forbids_are_undefined() {
    let add = [0xc5, 0xf4, 0x58, 0xc2];
    for prefix in [0x66, 0xf2, 0xf3, 0xf0, 0x48, 0x40] {
        assert_eq!(Bench::new(true).run(&[&[prefix], &add[..]].concat()), Some(UD), "{prefix:x}");
    }
    let undefined: [&[u8]; 9] = [
        &[0xc5, 0xf0, 0x51, 0xc2],             // vsqrtps xmm0, xmm2 with vvvv
        &[0xc5, 0xf4, 0x12, 0xc2],             // vmovhlps with L
        &[0xc5, 0xf5, 0x6e, 0xc2],             // vmovd with L
        &[0xc5, 0xf1, 0xd7, 0xc2],             // vpmovmskb with vvvv
        &[0xc4, 0xe2, 0xf9, 0x18, 0xc2],       // vbroadcastss with W
        &[0xc4, 0xe2, 0x79, 0x1a, 0x07],       // vbroadcastf128 without L
        &[0xc4, 0xe2, 0x69, 0x92, 0x14, 0x2f], // vgatherdps: mask and destination the same
        &[0xc4, 0xe2, 0x69, 0x92, 0x2c, 0x2f], // index and destination the same
        &[0xc4, 0xe3, 0x7d, 0x14, 0xc2, 0x01], // vpextrb with L
    ];
    for code in undefined {
        assert_eq!(Bench::new(true).run(code), Some(UD), "{code:02x?}");
    }
}

#[test]
fn upper_halves_stay_without_vex_and_go_with_it() {
    let mut b = Bench::new(true);
    b.st().ymm_high = [[7, 8]; 16];
    assert_eq!(b.run(&[0x0f, 0x58, 0xc1]), None); // addps xmm0, xmm1
    assert_eq!(b.run(&[0x66, 0x0f, 0x38, 0x40, 0xc1]), None); // pmulld xmm0, xmm1
    assert_eq!(b.st().ymm_high[0], [7, 8]);
    assert_eq!(b.run(&[0xc5, 0xf0, 0x58, 0xc2]), None); // vaddps xmm0, xmm1, xmm2
    assert_eq!((b.st().ymm_high[0], b.st().ymm_high[1]), ([0; 2], [7, 8]));
    assert_eq!(b.run(&[0xc5, 0xf8, 0x77]), None); // vzeroupper
    assert_eq!(b.st().ymm_high, [[0; 2]; 16]);
    b.st().xmm = [[1; 2]; 16];
    assert_eq!(b.run(&[0xc5, 0xfc, 0x77]), None); // vzeroall
    assert_eq!(b.st().xmm, [[0; 2]; 16]);
    let mut short = Bench::new(false);
    short.st().ymm_high = [[7, 8]; 16];
    assert_eq!(short.run(&[0xc5, 0xf8, 0x77]), None);
    assert_eq!((short.st().ymm_high[7], short.st().ymm_high[8]), ([0; 2], [7, 8]));
}

#[test]
fn vex_operands_need_no_alignment_but_for_aligned_moves() {
    let mut b = Bench::new(true);
    b.st().set_gpr(7, DATA + 8);
    assert_eq!(b.run(&[0xc5, 0xf4, 0x58, 0x07]), None); // vaddps ymm0, ymm1, [rdi]
    assert_eq!(b.run(&[0xc5, 0xfc, 0x28, 0x07]), Some(GP)); // vmovaps ymm0, [rdi]
    assert_eq!(b.run(&[0xc5, 0xfd, 0x7f, 0x07]), Some(GP)); // vmovdqa [rdi], ymm0
    assert_eq!(b.run(&[0xc5, 0xfd, 0xe7, 0x07]), Some(GP)); // vmovntdq [rdi], ymm0
    b.st().set_gpr(7, DATA + 16);
    assert_eq!(b.run(&[0xc5, 0xfc, 0x28, 0x07]), Some(GP)); // vmovaps ymm0, [rdi]
    assert_eq!(b.run(&[0xc5, 0xf8, 0x28, 0x07]), None); // vmovaps xmm0, [rdi]
    b.st().set_gpr(7, DATA + 8);
    assert_eq!(b.run(&[0x66, 0x0f, 0x38, 0x40, 0x07]), Some(GP)); // pmulld xmm0, [rdi]
    assert_eq!(b.run(&[0x66, 0x0f, 0x3a, 0x63, 0x07, 0]), None); // pcmpistri xmm0, [rdi], 0
    assert_eq!(b.run(&[0x66, 0x0f, 0x38, 0x21, 0x07]), None); // pmovsxbd xmm0, [rdi]
}

#[test]
fn wide_store_into_a_missing_page_changes_nothing() {
    let mut b = Bench::new(true);
    b.st().xmm[1] = [u64::MAX; 2];
    b.st().set_gpr(7, HOLE - 24);
    assert_eq!(b.run(&[0xc5, 0xfc, 0x11, 0x0f]), Some(PF)); // vmovups [rdi], ymm1
    assert!((0..3).all(|i| b.word(HOLE - 24 + 8 * i) == 0));
}

#[test]
fn masked_moves_touch_only_chosen_elements() {
    let mut b = Bench::new(true);
    b.st().set_gpr(7, HOLE - 16);
    b.put(HOLE - 16, 0x2222_2222_1111_1111);
    b.put(HOLE - 8, 0x4444_4444_3333_3333);
    b.st().xmm[2] = [1 << 63, 1 << 31];
    // vmaskmovps ymm0, ymm2, [rdi]
    assert_eq!(b.run(&[0xc4, 0xe2, 0x6d, 0x2c, 0x07]), None);
    assert_eq!((b.st().xmm[0], b.st().ymm_high[0]), ([0x2222_2222_0000_0000, 0x3333_3333], [0; 2]));
    b.st().xmm[0] = [u64::MAX; 2];
    // vpmaskmovd [rdi], ymm2, ymm0
    assert_eq!(b.run(&[0xc4, 0xe2, 0x6d, 0x8e, 0x07]), None);
    assert_eq!((b.word(HOLE - 16), b.word(HOLE - 8)), (0xffff_ffff_1111_1111, 0x4444_4444_ffff_ffff));
    b.st().ymm_high[2] = [1 << 31, 0];
    b.st().xmm[0] = [0; 2];
    assert_eq!(b.run(&[0xc4, 0xe2, 0x6d, 0x8e, 0x07]), Some(PF));
    assert_eq!(b.word(HOLE - 16), 0xffff_ffff_1111_1111);
}

#[test]
fn faulting_gather_keeps_what_it_has_and_can_go_on() {
    let mut b = Bench::new(true);
    (0..4).for_each(|i| b.put(DATA + 8 * i, 0x10 + i));
    b.st().set_gpr(7, DATA);
    b.st().xmm[5] = [1 | (HOLE - DATA) << 29, 2 | 3 << 32];
    b.st().xmm[2] = [u64::MAX, 1 << 63];
    b.st().xmm[3] = [0xaaaa_aaaa_aaaa_aaaa; 2];
    b.st().ymm_high[2] = [5; 2];
    b.st().ymm_high[3] = [5; 2];
    let gather = [0xc4, 0xe2, 0x69, 0x90, 0x1c, 0xef]; // vpgatherdd xmm3, [rdi + xmm5 * 8], xmm2
    assert_eq!(b.run(&gather), Some(PF));
    assert_eq!(b.st().xmm[3], [0xaaaa_aaaa_0000_0011, 0xaaaa_aaaa_aaaa_aaaa]);
    assert_eq!(b.st().xmm[2], [0xffff_ffff_0000_0000, 1 << 63]);
    // What is left of the registers changes only in the end.
    assert_eq!((b.st().ymm_high[2], b.st().ymm_high[3]), ([5; 2], [5; 2]));
    b.st().xmm[5] = [1, 2 | 3 << 32];
    assert_eq!(b.run(&gather), None);
    assert_eq!(b.st().xmm[3], [0x0000_0010_0000_0011, 0x0000_0013_aaaa_aaaa]);
    assert_eq!((b.st().xmm[2], b.st().ymm_high[2], b.st().ymm_high[3]), ([0; 2], [0; 2], [0; 2]));
}

#[test]
fn unmasked_exception_in_one_lane_keeps_the_whole_destination() {
    let mut b = Bench::new(true);
    b.st().mxcsr = 0x1d80;
    b.st().xmm[1] = [0x3f80_0000_3f80_0000; 2];
    b.st().ymm_high[1] = [0x3f80_0000_3f80_0000; 2];
    b.st().xmm[2] = b.st().xmm[1];
    b.st().ymm_high[2] = [0x3f80_0000_3f80_0000, 0];
    b.st().xmm[0] = [9; 2];
    assert_eq!(b.run(&[0xc5, 0xf4, 0x5e, 0xc2]), Some(XM)); // vdivps ymm0, ymm1, ymm2
    assert_eq!((b.st().xmm[0], b.st().mxcsr), ([9; 2], 0x1d84));
}

#[test]
fn models_without_the_features_do_not_know_the_instructions() {
    use aero_x86::cpuid::{CORE2, MAX, WIN7};
    let known =
        |code: &[u8], model: &aero_x86::cpuid::Model| decode(code, CodeSize::B64, model.features).is_ok();
    let sse4: [&[u8]; 2] = [
        &[0x66, 0x0f, 0x38, 0x40, 0xc1],    // pmulld
        &[0x66, 0x0f, 0x3a, 0x63, 0xc1, 0], // pcmpistri
    ];
    for code in sse4 {
        assert_eq!([&MAX, &WIN7, &CORE2].map(|model| known(code, model)), [true, true, false], "{code:02x?}");
    }
    let later: [&[u8]; 4] = [
        &[0x66, 0x0f, 0x38, 0xdc, 0xc1], // aesenc
        &[0x0f, 0x38, 0xc8, 0xc1],       // sha1nexte
        &[0xc5, 0xf4, 0x58, 0xc2],       // vaddps
        &[0x0f, 0x01, 0xd0],             // xgetbv
    ];
    for code in later {
        assert_eq!(
            [&MAX, &WIN7, &CORE2].map(|model| known(code, model)),
            [true, false, false],
            "{code:02x?}"
        );
    }
}

#[test]
fn fields_for_upper_registers_are_ignored_outside_64_bit_code() {
    let d = |code: &[u8]| decode(code, CodeSize::B32, aero_x86::cpuid::MAX.features).expect("an instruction");
    // vblendvps xmm0, xmm1, xmm2, xmm7, with the fourth register's upper bit set
    assert_eq!(d(&[0xc4, 0xe3, 0x71, 0x4a, 0xc2, 0xf0]).operands[3], Operand::Xmm(7));
    // vaddps xmm0, xmm1, xmm2, with vvvv's upper bit as for register 9
    assert_eq!(d(&[0xc4, 0xe1, 0x30, 0x58, 0xc2]).operands[1], Operand::Xmm(1));
    // W selects no general register of 8 bytes: vmovd, vcvtsi2sd, vpextrd
    assert_eq!(d(&[0xc4, 0xe1, 0xf9, 0x7e, 0xc2]).operands[0], Operand::Gpr { reg: 2, size: 4, high: false });
    assert_eq!(d(&[0xc4, 0xe1, 0xfb, 0x2a, 0xc2]).operands[2], Operand::Gpr { reg: 2, size: 4, high: false });
    assert_eq!(
        d(&[0xc4, 0xe3, 0xf9, 0x16, 0xc2, 1]).operands[0],
        Operand::Gpr { reg: 2, size: 4, high: false }
    );
}
