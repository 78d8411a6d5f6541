//! Integer instructions where only the manual can say: what faults changes nothing, near branches check their targets,
//! and the newer instructions' own rules.

use crate::guest::*;
use aero_cpu::state::{eflags, reg, seg};

const PAGED: [Mode; 3] = [Mode::Paged32, Mode::Pae, Mode::Long];

/// Registers other than RSP, flags without RF, and the memory from `DATA` on.
fn snapshot(g: &mut Guest) -> (Vec<u64>, u64, Vec<u8>) {
    let mut memory = vec![0; 0x5000];
    g.mem.read(aero_mem::Gpa(DATA), &mut memory).expect("RAM");
    let st = g.st();
    ((0..16).map(|n| st.gpr(n)).collect(), st.rflags(), memory)
}

/// Runs `insn` alone and expects a fault that changes neither registers nor memory from `DATA` on; the stack that takes
/// the frame is elsewhere.
#[track_caller]
fn faults_without_a_trace(g: &mut Guest, insn: &[u8], vector: u8) {
    g.load(insn);
    let before = snapshot(g);
    let End::Trap(t) = g.go() else { panic!("{insn:02x?} did not fault in {:?}", g.mode) };
    assert_eq!(t.vector, vector, "{insn:02x?}: {t:x?}");
    let after = snapshot(g);
    let others =
        |regs: &[u64]| regs.iter().enumerate().filter(|(n, _)| *n != 4).map(|(_, r)| *r).collect::<Vec<_>>();
    assert_eq!(others(&after.0), others(&before.0), "{insn:02x?} in {:?}", g.mode);
    assert!(after.2 == before.2, "{insn:02x?} in {:?} wrote memory", g.mode);
    let kept = eflags::ARITH | eflags::DF;
    assert_eq!(t.flags & kept, before.1 & kept, "{insn:02x?} in {:?}", g.mode);
    if let Some((sp, _)) = t.stack {
        assert_eq!(sp, before.0[4], "{insn:02x?} in {:?}", g.mode);
    }
}

/// A guest at CPL 3 (so that exceptions have a stack of their own) whose page at `DATA + 0x1000` is absent and whose page
/// at `DATA + 0x3000` is read-only.
fn with_holes(mode: Mode) -> Guest {
    let mut g = Guest::user(mode);
    g.write(DATA, &(0..0x5000u32).map(|n| ((n * 7) >> 2) as u8).collect::<Vec<u8>>());
    g.set_pte(DATA + 0x1000, 0);
    g.set_pte(DATA + 0x3000, (DATA + 0x3000) | 5);
    g.st().set_rflags(eflags::FIXED | eflags::CF | eflags::SF | eflags::AF);
    for n in [0, 1, 2, 3, 5, 6, 7] {
        g.st().set_gpr(n, 0x1111_1111 * u64::from(n) + 3);
    }
    g
}

#[test]
fn faulting_instruction_changes_nothing() {
    // With [ebx] in read-only memory, straddling into it, and straddling into an absent page.
    const WRITES: [&[u8]; 24] = [
        &[0x01, 0x03],
        &[0x11, 0x03],
        &[0x83, 0x2b, 1],
        &[0xf7, 0x1b],
        &[0xff, 0x03],
        &[0xff, 0x0b],
        &[0xd1, 0x23],
        &[0xd3, 0x13],
        &[0x0f, 0xa5, 0x03],
        &[0x0f, 0xac, 0x03, 5],
        &[0x87, 0x03],
        &[0x0f, 0xc1, 0x03],
        &[0x0f, 0xb1, 0x03],
        &[0x0f, 0xc7, 0x0b],
        &[0x0f, 0xab, 0x03],
        &[0x0f, 0xba, 0x3b, 3],
        &[0x89, 0x03],
        &[0xc7, 0x03, 1, 2, 3, 4],
        &[0x0f, 0xc3, 0x03],
        &[0x0f, 0x38, 0xf1, 0x03],
        &[0x8f, 0x03],
        &[0x66, 0x01, 0x03],
        &[0xf0, 0x0f, 0xb1, 0x03],
        &[0x66, 0x87, 0x03],
    ];
    for mode in PAGED {
        for (insn, at) in WRITES.iter().flat_map(|i| [0x3000, 0x2fff, 0x0fff].map(|at| (i, at))) {
            let mut g = with_holes(mode);
            g.st().set_gpr(reg::RBX, DATA + at);
            // BTS with a register offset reaches elsewhere; keep it here.
            g.st().set_gpr(reg::RAX, 5);
            faults_without_a_trace(&mut g, insn, 14);
        }
    }
}

#[test]
fn compare_and_exchange_that_fails_still_writes() {
    for mode in PAGED {
        let mut g = with_holes(mode);
        g.st().set_gpr(reg::RBX, DATA + 0x3000);
        g.load(&[0x0f, 0xb1, 0x0b]); // cmpxchg [ebx], ecx
        let End::Trap(t) = g.go() else { panic!("no fault") };
        assert_eq!((t.vector, t.error), (14, Some(7)), "a write, by CPL 3, to a present page");
    }
}

#[test]
fn stack_frames_are_made_whole_or_not_at_all() {
    for mode in [Mode::Paged32, Mode::Pae] {
        // PUSHA whose last slots lie in the absent page.
        let mut g = with_holes(mode);
        g.st().set_gpr(reg::RSP, DATA + 0x2000 + 12);
        faults_without_a_trace(&mut g, &[0x60], 14);
        // POPA whose last slots do.
        let mut g = with_holes(mode);
        g.st().set_gpr(reg::RSP, DATA + 0x1000 - 12);
        faults_without_a_trace(&mut g, &[0x61], 14);
    }
    for mode in PAGED {
        // ENTER 16, 5: the frame ends in the absent page, or the display begins there, or only the local space does.
        let size = if mode == Mode::Long { 8 } else { 4 };
        for (sp, bp) in [(0x2008, 0x4800), (0x2800, 0x2004), (0x2008 + 6 * size, 0x4800)] {
            let mut g = with_holes(mode);
            g.st().set_gpr(reg::RSP, DATA + sp);
            g.st().set_gpr(reg::RBP, DATA + bp);
            faults_without_a_trace(&mut g, &[0xc8, 16, 0, 5], 14);
        }
    }
}

#[test]
fn enter_copies_the_display_as_deep_as_told() {
    for (mode, size) in [(Mode::Protected32, 4u64), (Mode::Long, 8)] {
        for level in [0u8, 1, 2, 7, 31, 33] {
            let mut g = Guest::new(mode);
            let (bp, sp) = (DATA + 0x1000, DATA + 0x2000);
            for i in 1..40u64 {
                g.write(bp - size * i, &(0x1000 + i).to_le_bytes()[..size as usize]);
            }
            g.st().set_gpr(reg::RBP, bp);
            g.st().set_gpr(reg::RSP, sp);
            g.fine(&[0xc8, 0x20, 0, level]);
            let deep = u64::from(level & 31);
            let read = |g: &Guest, at| if size == 4 { g.read32(at).into() } else { g.read64(at) };
            assert_eq!((read(&g, sp - size), g.gpr(reg::RBP)), (bp, sp - size));
            for i in 1..deep {
                assert_eq!(read(&g, sp - size * (i + 1)), 0x1000 + i, "{mode:?} level {level}");
            }
            if deep > 0 {
                assert_eq!(read(&g, sp - size * (deep + 1)), sp - size);
            }
            assert_eq!(g.gpr(reg::RSP), sp - size * (deep + 1) - 0x20);
        }
    }
}

#[test]
fn near_branch_beyond_the_code_segment_faults_itself() {
    // A code segment that ends soon after the branches.
    let branches: [(&[u8], u8); 7] = [
        (&[0xe9, 0, 0x10, 0, 0], 13),
        (&[0xe8, 0, 0x10, 0, 0], 13),
        (&[0xff, 0xe0], 13),
        (&[0xff, 0xd0], 13),
        (&[0xe2, 0x40], 13),
        (&[0xe3, 0x40], 0),
        (&[0xc3], 13),
    ];
    for (insn, vector) in branches {
        let mut g = Guest::new(Mode::Protected32);
        g.set_gdt(FREE, descriptor(0, CODE + 0x20, 0x9b, 4));
        g.load(insn);
        let cs = segment(FREE, g.descriptor_of(FREE));
        g.write(STACK - 4, &0x7fff_0000u32.to_le_bytes());
        let st = g.st();
        st.segments[usize::from(seg::CS)] = cs;
        st.set_gpr(reg::RAX, CODE + 0x1000);
        st.set_gpr(reg::RCX, 5);
        st.set_gpr(reg::RSP, STACK - 4);
        match g.go() {
            End::Trap(t) => {
                assert_eq!((t.vector, t.error, t.ip), (vector, Some(0), CODE), "{insn:02x?}");
                // Frame: error code, EIP, CS, EFLAGS.
                assert_eq!((g.gpr(reg::RSP), g.gpr(reg::RCX)), (STACK - 4 - 16, 5), "{insn:02x?}");
            }
            end => assert_eq!((end, vector), (End::Halt, 0), "{insn:02x?}"),
        }
    }
}

#[test]
fn relative_branch_out_of_the_canonical_half_faults_itself() {
    let mut g = Guest::new(Mode::Long);
    // The last page of the lower half, mapped to CODE.
    let (top, tables) = (0x7fff_ffff_f000u64, TABLES + 0x6000);
    g.write64(TABLES + 8 * 255, tables | 7);
    g.write64(tables + 8 * 511, (tables + 0x1000) | 7);
    g.write64(tables + 0x1000 + 8 * 511, (tables + 0x2000) | 7);
    g.write64(tables + 0x2000 + 8 * 511, CODE | 7);
    for insn in [&[0xe9, 0, 0x20, 0, 0][..], &[0xe8, 0, 0x20, 0, 0]] {
        g.load(insn);
        g.st().rip = top;
        g.st().set_gpr(reg::RSP, STACK);
        let End::Trap(t) = g.go() else { panic!("no fault") };
        assert_eq!((t.vector, t.ip, t.stack.map(|s| s.0)), (13, top, Some(STACK)), "{insn:02x?}");
    }
}

// checklist: 9, 11
#[test]
fn instruction_that_overwrites_itself_across_pages_acts_once() {
    for mode in PAGED {
        // xor dword [CODE + 0xffc], imm32 lies across the page boundary and changes bytes on both sides of it: its own
        // first bytes, and the instruction behind it.
        let mut g = Guest::new(mode);
        let at = CODE + 0x1000 - 4;
        let target = CODE + 0x1000 - 2;
        let insn = [&[0x81, 0x34, 0x25][..], &(target as u32).to_le_bytes(), &[0, 0, 0, 0xff]].concat();
        g.load(&jump(at));
        g.write(at, &[&insn[..], &[0xb0, 0x11, 0xf4]].concat());
        g.st().set_gpr(0, 0);
        let before = g.read32(target);
        assert_eq!(g.go(), End::Halt);
        assert_eq!(g.read32(target), before ^ 0xff00_0000, "{mode:?}");
        assert_eq!(g.gpr(0) & 0xff, 0x11);
        // A store over the next instruction's immediate, straddling.
        let mut g = Guest::new(mode);
        let at = CODE + 0x1000 - 12;
        let insn = [&[0xc7, 0x04, 0x25][..], &((CODE + 0xffe) as u32).to_le_bytes(), &[0, 0xb0, 0x77, 0xf4]]
            .concat();
        g.load(&jump(at));
        g.write(at, &[&insn[..], &[0x90; 8]].concat());
        assert_eq!(g.go(), End::Halt);
        assert_eq!(g.gpr(0) & 0xff, 0x77, "{mode:?}");
    }
}

#[test]
fn random_numbers_repeat_with_the_seed_and_set_only_carry() {
    let draw = || {
        let mut g = Guest::new(Mode::Long);
        g.cpu.core.random = aero_cpu::op::random::Generator::new(42);
        g.st().set_rflags(eflags::FIXED | eflags::ARITH);
        g.st().set_gpr(reg::RDX, u64::MAX);
        // rdrand rax; rdseed ecx; rdrand dx
        g.fine(&[0x48, 0x0f, 0xc7, 0xf0, 0x0f, 0xc7, 0xf9, 0x66, 0x0f, 0xc7, 0xf2]);
        assert_eq!(g.st().rflags() & eflags::ARITH, eflags::CF);
        [g.gpr(reg::RAX), g.gpr(reg::RCX), g.gpr(reg::RDX)]
    };
    let numbers = draw();
    assert_eq!(numbers, draw());
    assert_ne!(numbers[0] >> 32, 0);
    assert_eq!((numbers[1] >> 32, numbers[2] >> 16), (0, u64::MAX >> 16));
}

#[test]
fn monitor_and_mwait_are_for_cpl_0_and_know_no_extensions() {
    for (mode, insn) in [Mode::Protected32, Mode::Long].into_iter().flat_map(|m| [0xc8, 0xc9].map(|i| (m, i)))
    {
        let code = [0x0f, 0x01, insn];
        Guest::user(mode).faults(&code, 0, 6, None);
        let mut g = Guest::new(mode);
        g.st().set_gpr(reg::RCX, 1);
        g.faults(&code, 0, 13, Some(0));
        g.st().set_gpr(reg::RCX, 0);
        g.fine(&code);
    }
    let mut g = Guest::new(Mode::Long);
    g.set_pte(DATA, 0);
    g.st().set_gpr(reg::RAX, DATA);
    g.faults(&[0x0f, 0x01, 0xc8], 0, 14, Some(0));
}

#[test]
fn mwait_sleeps_only_if_nothing_came_since_monitor() {
    // monitor; sti; mwait; nop; hlt at the end.
    let code = [0x0f, 0x01, 0xc8, 0xfb, 0x0f, 0x01, 0xc9, 0x90];
    let mut g = Guest::new(Mode::Long);
    g.st().set_gpr(reg::RAX, DATA);
    assert_eq!(g.run(&code), End::Halt);
    assert_eq!(g.st().rip, CODE + 7, "asleep behind MWAIT");
    // Without MONITOR, or with interrupts off, it goes on.
    for code in [&code[3..], &[0x0f, 0x01, 0xc8, 0x0f, 0x01, 0xc9, 0x90]] {
        let mut g = Guest::new(Mode::Long);
        g.st().set_gpr(reg::RAX, DATA);
        g.fine(code);
        assert_eq!(g.st().rip, CODE + code.len() as u64 + 1);
    }
    // An interrupt between the two: iretq, then MWAIT goes on.
    let mut g = Guest::new(Mode::Long);
    g.write(HANDLERS + 16 * 0x40, &[0x48, 0xcf]);
    g.board.vector = 0x40;
    g.st().set_gpr(reg::RAX, DATA);
    g.st().set_rflags(eflags::FIXED | eflags::IF);
    let code = [0x0f, 0x01, 0xc8, 0xe6, 0x81, 0x0f, 0x01, 0xc9, 0x90];
    g.fine(&code);
    assert_eq!(g.st().rip, CODE + code.len() as u64 + 1);
}

#[test]
fn processor_id_is_tsc_aux() {
    for mode in [Mode::Protected32, Mode::Long] {
        let mut g = Guest::user(mode);
        g.st().msr.tsc_aux = 0x1234_5678;
        g.st().set_gpr(reg::RBX, u64::MAX);
        g.load(&[0xf3, 0x0f, 0xc7, 0xfb]); // rdpid ebx; then HLT faults at CPL 3
        let End::Trap(t) = g.go() else { panic!("HLT at CPL 3") };
        assert_eq!((t.vector, g.gpr(reg::RBX)), (13, 0x1234_5678));
    }
}

#[test]
fn sixteen_byte_exchange_must_be_aligned() {
    let mut g = Guest::new(Mode::Long);
    g.st().set_gpr(reg::RBX, DATA + 8);
    g.faults(&[0x48, 0x0f, 0xc7, 0x0b], 0, 13, Some(0));
    g.st().set_gpr(reg::RBX, DATA + 16);
    g.fine(&[0xf0, 0x48, 0x0f, 0xc7, 0x0b]);
}

#[test]
fn bit_offset_in_a_register_reaches_beyond_the_operand() {
    // bts [rbx], rax: 64 bits, negative offsets too.
    let mut g = Guest::new(Mode::Long);
    g.st().set_gpr(reg::RBX, DATA + 0x800);
    for (offset, at, byte) in
        [(64 * 3 + 1, 0x818u64, 2u8), (-1, 0x7ff, 0x80), (-64, 0x7f8, 1), (-8 * 0x800, 0, 1)]
    {
        g.st().set_gpr(reg::RAX, offset as u64);
        g.fine(&[0x48, 0x0f, 0xab, 0x03]);
        assert_eq!(g.bytes::<1>(DATA + at), [byte], "offset {offset}");
    }
    // bts [ebx], ax: 16 bits of offset, sign-extended, on a 32-bit address.
    let mut g = Guest::new(Mode::Protected32);
    g.st().set_gpr(reg::RBX, DATA + 0x1000);
    g.st().set_gpr(reg::RAX, 0x7fff_8000);
    g.fine(&[0x66, 0x0f, 0xab, 0x03]);
    assert_eq!(g.bytes::<1>(DATA), [1]);
}

#[test]
fn segment_push_of_four_bytes_keeps_the_slots_upper_half() {
    let mut g = Guest::new(Mode::Protected32);
    g.write32(STACK - 4, 0xaaaa_aaaa);
    g.fine(&[0x1e]); // push ds
    assert_eq!((g.read32(STACK - 4), g.gpr(reg::RSP)), (0xaaaa_0000 | u32::from(DS0), STACK - 4));
    let mut g = Guest::new(Mode::Long);
    g.write64(STACK - 8, u64::MAX);
    g.fine(&[0x0f, 0xa8]); // push gs
    assert_eq!((g.read64(STACK - 8), g.gpr(reg::RSP)), (DS0.into(), STACK - 8));
}

#[test]
fn vex_is_undefined_outside_protected_mode() {
    // andn eax, ecx, edx
    let code = [0xc4, 0xe2, 0x70, 0xf2, 0xc2];
    Guest::new(Mode::Real).faults(&code, 0, 6, None);
    for mode in [Mode::Protected16, Mode::Protected32, Mode::Long] {
        let mut g = Guest::new(mode);
        g.st().set_gpr(reg::RCX, 0x0f);
        g.st().set_gpr(reg::RDX, 0xff);
        g.fine(&code);
        assert_eq!(g.gpr(reg::RAX), 0xf0);
    }
}

#[test]
fn rotate_through_carry_counts_modulo_width_and_carry() {
    let mut g = Guest::new(Mode::Protected32);
    let mut rotate = |code: &[u8], value: u64, count: u64, carry: bool| {
        g.st().set_gpr(reg::RAX, value);
        g.st().set_gpr(reg::RCX, count);
        g.st().set_rflags(eflags::FIXED | u64::from(carry));
        g.fine(code);
        let carry = g.st().rflags() & eflags::CF != 0;
        (g.gpr(reg::RAX), carry)
    };
    assert_eq!(rotate(&[0xd2, 0xd0], 0x5a, 9, true), (0x5a, true));
    assert_eq!(rotate(&[0xd2, 0xd0], 0x80, 10, true), (0x01, true));
    assert_eq!(rotate(&[0xd2, 0xd8], 0x01, 28, false), (0, true));
    assert_eq!(rotate(&[0x66, 0xd3, 0xd0], 0x8000, 17, false), (0x8000, false));
    assert_eq!(rotate(&[0x66, 0xd3, 0xd8], 0x0001, 18, true), (0x8000, true));
    assert_eq!(rotate(&[0xd3, 0xd0], 0x8000_0000, 32, true), (0x8000_0000, true));
}

#[test]
fn longer_than_fifteen_bytes_is_gp() {
    for mode in [Mode::Protected32, Mode::Long] {
        let long = [&[0x66; 14][..], &[0x90]].concat();
        Guest::new(mode).fine(&long);
        let longer = [&[0x2e; 15][..], &[0x90]].concat();
        Guest::new(mode).faults(&longer, 0, 13, Some(0));
    }
}
