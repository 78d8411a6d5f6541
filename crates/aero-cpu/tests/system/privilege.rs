//! Changes of privilege: interrupt gates, call gates, far returns, conforming code, SYSENTER, SYSCALL.

use crate::guest::*;
use aero_cpu::state::{eflags, reg, seg};

const USERS: [Mode; 5] = [Mode::Protected32, Mode::Paged32, Mode::Pae, Mode::Compatibility, Mode::Long];

fn far(opcode: u8, selector: u16, offset: u64) -> Vec<u8> {
    [&[opcode][..], &(offset as u32).to_le_bytes(), &selector.to_le_bytes()].concat()
}

fn take(g: &mut Guest) -> Trap {
    match g.go() {
        End::Trap(t) => t,
        other => panic!("{other:x?}"),
    }
}

#[test]
fn interrupt_from_cpl_3_switches_to_the_stack_of_the_tss() {
    for mode in USERS {
        let mut g = Guest::user(mode);
        let flags = eflags::IF | 2;
        g.st().set_rflags(flags);
        g.load(&[0xcd, 0x21]);
        let t = take(&mut g);
        assert_eq!((t.vector, t.ip, t.flags), (0x21, CODE + 2, flags));
        assert_eq!(t.stack, Some((USER_STACK, DS3.into())));
        let long = matches!(mode, Mode::Long | Mode::Compatibility);
        assert_eq!(g.gpr(reg::RSP), TSS_STACK - if long { 40 } else { 20 });
        assert_eq!((g.st().cpl, g.selector(seg::CS)), (0, CS0));
        assert_eq!(g.selector(seg::SS), if long { 0 } else { DS0 });
        // Data segments stay: what CPL 3 may use CPL 0 may use.
        assert_eq!(g.selector(seg::DS), DS3);
        assert_eq!(g.st().rflags() & eflags::IF, 0);
    }
}

#[test]
fn trap_gate_keeps_interrupts_enabled() {
    for mode in USERS {
        let mut g = Guest::new(mode);
        g.set_gate(0x21, CS0, HANDLERS + 0x210, 0x8f);
        g.st().set_rflags(eflags::IF | eflags::NT | 2);
        g.load(&[0xcd, 0x21]);
        take(&mut g);
        assert_eq!(g.st().rflags() & (eflags::IF | eflags::NT), eflags::IF);
    }
}

#[test]
fn sixteen_bit_gate_pushes_words() {
    let mut g = Guest::user(Mode::Protected32);
    g.set_gate(0x21, CS0, 0xdead_0000 | (HANDLERS + 0x210), 0xe6);
    g.load(&[0xcd, 0x21]);
    g.go();
    let sp = g.gpr(reg::RSP);
    assert_eq!((sp, g.st().rip), (TSS_STACK - 10, HANDLERS + 0x211));
    let words: Vec<u16> = (0..5).map(|n| g.read16(sp + 2 * n)).collect();
    assert_eq!(words, [2, CS3, 2, USER_STACK as u16, DS3]);
}

#[test]
fn iret_returns_to_cpl_3_with_its_stack_and_flags() {
    for mode in USERS {
        let mut g = Guest::user(mode);
        let long = matches!(mode, Mode::Long | Mode::Compatibility);
        let iret: &[u8] = if long { &[0x48, 0xcf] } else { &[0xcf] };
        g.write(HANDLERS + 0x210, &[&[0xb3, 0x5a][..], iret].concat());
        g.st().set_rflags(eflags::IF | eflags::DF | eflags::CF | 2);
        // int 0x21, then HLT faults at CPL 3
        let t = g.faults(&[0xcd, 0x21], 2, 13, Some(0));
        assert_eq!(t.stack, Some((USER_STACK, DS3.into())));
        assert_eq!(t.flags & !eflags::RF, eflags::IF | eflags::DF | eflags::CF | 2);
        assert_eq!(g.gpr(reg::RBX) & 0xff, 0x5a);
    }
}

/// Runs `int 0x21` at CPL 3, with `vector` served by a task: the exception's frame needs a stack that works. Returns
/// the error code, and checks that the interrupted task resumes at the INT.
fn error_by_task(g: &mut Guest, vector: u8) -> u32 {
    const TASK_STACK: u64 = 0xb000;
    g.write(DATA, &[0xf4]);
    for (at, value) in [(0x20, DATA), (0x24, 2), (0x38, TASK_STACK), (0x4c, CS0.into()), (0x50, DS0.into())] {
        g.write32(TSS2 + at, value as u32);
    }
    g.write64(IDT + 8 * u64::from(vector), gate(TR2, 0, 0x85, 0));
    g.load(&[0xcd, 0x21]);
    assert_eq!(g.go(), End::Halt);
    assert_eq!((g.st().rip, g.gpr(reg::RSP)), (DATA + 1, TASK_STACK - 4));
    assert_eq!((g.read32(TSS + 0x20), g.read32(TSS + 0x38)), (CODE as u32, USER_STACK as u32));
    g.read32(TASK_STACK - 4)
}

#[test]
fn inner_stack_that_is_bad_is_ts_with_its_selector() {
    for (selector, error) in [(DS3, DS3 & !3), (0, 0), (CS0, CS0), (READ_ONLY, READ_ONLY), (0x108, 0x108)] {
        let mut g = Guest::user(Mode::Protected32);
        g.write32(TSS + 8, selector.into());
        assert_eq!(error_by_task(&mut g, 10), error.into());
    }
    let mut g = Guest::user(Mode::Protected32);
    g.set_gdt(FREE, descriptor(0, 0xf_ffff, 0x13, 0xc));
    g.write32(TSS + 8, FREE.into());
    assert_eq!(error_by_task(&mut g, 12), FREE.into());
    // A TSS too short for the stack pointer. The handler stays at CPL 3: pop eax; jmp $
    let mut g = Guest::user(Mode::Protected32);
    g.st().tr.limit = 8;
    g.write(DATA, &[0x58, 0xeb, 0xfe]);
    g.set_gate(10, CS3, DATA, 0x8e);
    g.load(&[0xcd, 0x21]);
    g.cpu.run(&mut g.mem, &mut g.board, 20);
    assert_eq!((g.st().rip, g.gpr(reg::RAX)), (DATA + 1, TR.into()));
}

#[test]
fn call_gate_copies_parameters_and_far_return_drops_them() {
    let mut g = Guest::user(Mode::Protected32);
    g.write64(GDT + u64::from(GATE), gate(CS0, DATA, 0xec, 2));
    // The routine adds its parameters and returns to the outer level, dropping 8 bytes.
    g.write(DATA, &[0x8b, 0x44, 0x24, 8, 0x03, 0x44, 0x24, 12, 0x8c, 0xcb, 0x89, 0xe1, 0xca, 8, 0]);
    let code = [&[0x6a, 5, 0x6a, 7][..], &far(0x9a, GATE | 3, 0xffff_ffff)].concat();
    let t = g.faults(&code, code.len() as u64, 13, Some(0));
    assert_eq!((g.gpr(reg::RAX), g.gpr(reg::RBX), g.gpr(reg::RCX)), (12, CS0.into(), TSS_STACK - 24));
    assert_eq!((t.cs, t.stack), (CS3.into(), Some((USER_STACK, DS3.into()))));
}

#[test]
fn call_gate_frames_hold_return_address_and_outer_stack() {
    let mut g = Guest::user(Mode::Protected32);
    g.write64(GDT + u64::from(GATE), gate(CS0, DATA, 0xec, 1));
    g.write(DATA, &[0xf4]);
    let code = [&[0x6a, 9][..], &far(0x9a, GATE, 0)].concat();
    g.load(&code);
    g.go();
    let frame: Vec<u32> = (0..5).map(|n| g.read32(TSS_STACK - 20 + 4 * n)).collect();
    assert_eq!(frame, [(CODE + 9) as u32, CS3.into(), 9, USER_STACK as u32 - 4, DS3.into()]);
    assert_eq!((g.gpr(reg::RSP), g.st().cpl, g.st().rip), (TSS_STACK - 20, 0, DATA + 1));
    // 16-bit gate
    let mut g = Guest::user(Mode::Protected32);
    g.write64(GDT + u64::from(GATE), gate(CS0, 0xf000, 0xe4, 0));
    g.write(0xf000, &[0xf4]);
    g.load(&far(0x9a, GATE, 0));
    g.go();
    let frame: Vec<u16> = (0..4).map(|n| g.read16(TSS_STACK - 8 + 2 * n)).collect();
    assert_eq!(frame, [7, CS3, USER_STACK as u16, DS3]);
    // 64-bit gate, from 64-bit code by memory operand
    let mut g = Guest::user(Mode::Long);
    g.write64(GDT + u64::from(GATE), gate(CS0, DATA, 0xec, 0));
    g.write64(GDT + u64::from(GATE) + 8, 0);
    g.write(DATA, &[0xf4]);
    g.write(DATA + 0x100, &[0, 0, 0, 0, GATE as u8, 0]);
    g.load(&[&[0xff, 0x1c, 0x25][..], &(DATA as u32 + 0x100).to_le_bytes()].concat());
    assert_eq!(g.go(), End::Halt);
    let frame: Vec<u64> = (0..4).map(|n| g.read64(TSS_STACK - 32 + 8 * n)).collect();
    assert_eq!(frame, [CODE + 7, CS3.into(), USER_STACK, DS3.into()]);
    assert_eq!((g.st().cpl, g.selector(seg::SS), g.st().rip), (0, 0, DATA + 1));
}

#[test]
fn call_gate_checks_privilege_and_presence() {
    let call = far(0x9a, GATE | 3, 0);
    let check = |raw: u64, vector: u8, error: u16| {
        let mut g = Guest::user(Mode::Protected32);
        g.write64(GDT + u64::from(GATE), raw);
        g.faults(&call, 0, vector, Some(error.into()));
        g.faults(&far(0xea, GATE | 3, 0), 0, vector, Some(error.into()));
    };
    check(gate(CS0, DATA, 0x8c, 0), 13, GATE); // DPL 0
    check(gate(CS0, DATA, 0x6c, 0), 11, GATE); // absent
    check(gate(DS0, DATA, 0xec, 0), 13, DS0); // not code
    check(gate(0, DATA, 0xec, 0), 13, 0);
    check(gate(0x108, DATA, 0xec, 0), 13, 0x108);
    // JMP through a gate cannot change the CPL.
    let mut g = Guest::user(Mode::Protected32);
    g.write64(GDT + u64::from(GATE), gate(CS0, DATA, 0xec, 0));
    g.faults(&far(0xea, GATE | 3, 0), 0, 13, Some(CS0.into()));
    g.write64(GDT + u64::from(GATE), gate(CS3, DATA, 0xec, 0));
    g.write(DATA, &[0x0f, 0x0b]);
    let t = g.trap(&far(0xea, GATE | 3, 0));
    assert_eq!((t.vector, t.ip, t.cs), (6, DATA, CS3.into()));
}

#[test]
fn far_return_to_cpl_3_nulls_segments_that_it_may_not_use() {
    let mut g = Guest::new(Mode::Protected32);
    g.write(CODE + 0x100, &[0x0f, 0x0b]);
    for (i, value) in [CODE as u32 + 0x100, CS3.into(), USER_STACK as u32, DS3.into()].iter().enumerate() {
        g.write32(STACK - 16 + 4 * i as u64, *value);
    }
    g.st().set_gpr(reg::RSP, STACK - 16);
    let (user, conforming) = (g.descriptor_of(DS3), g.descriptor_of(CONFORMING));
    g.st().segments[usize::from(seg::ES)] = segment(DS3, user);
    g.st().segments[usize::from(seg::FS)] = segment(CONFORMING, conforming);
    g.load(&[0xcb]);
    let t = take(&mut g);
    assert_eq!(
        (t.vector, t.ip, t.cs, t.stack),
        (6, CODE + 0x100, CS3.into(), Some((USER_STACK, DS3.into())))
    );
    let left: Vec<u16> = [seg::ES, seg::DS, seg::FS, seg::GS].map(|n| g.selector(n)).to_vec();
    assert_eq!(left, [DS3, 0, CONFORMING, 0]);
}

#[test]
fn far_return_checks_its_target() {
    let check = |cs: u16, ss: u16, vector: u8, error: u16| {
        let mut g = Guest::new(Mode::Protected32);
        for (i, value) in [CODE as u32, cs.into(), USER_STACK as u32, ss.into()].iter().enumerate() {
            g.write32(STACK - 16 + 4 * i as u64, *value);
        }
        g.st().set_gpr(reg::RSP, STACK - 16);
        g.faults(&[0xcb], 0, vector, Some(error.into()));
        assert_eq!(g.gpr(reg::RSP), STACK - 16);
        // IRET checks the same.
        let mut g = Guest::new(Mode::Protected32);
        for (i, value) in [CODE as u32, cs.into(), 2, USER_STACK as u32, ss.into()].iter().enumerate() {
            g.write32(STACK - 20 + 4 * i as u64, *value);
        }
        g.st().set_gpr(reg::RSP, STACK - 20);
        g.faults(&[0xcf], 0, vector, Some(error.into()));
    };
    check(0, DS3, 13, 0);
    check(DS0, DS3, 13, DS0);
    check(CS3 & !3, DS3, 13, CS3 & !3); // RPL 0, DPL 3
    check(CS0 | 3, DS3, 13, CS0);
    check(CS3, 0, 13, 0);
    check(CS3, DS0 | 3, 13, DS0);
    check(CS3, DS3 & !3, 13, DS3 & !3);
    check(0x108, DS3, 13, 0x108);
    check(0x14, DS3, 13, 0x14);
}

#[test]
fn far_return_to_an_inner_level_is_gp() {
    let mut g = Guest::user(Mode::Protected32);
    g.faults(
        &[&[0x6a, CS0 as u8, 0x68][..], &(CODE as u32).to_le_bytes(), &[0xcb]].concat(),
        7,
        13,
        Some(CS0.into()),
    );
}

#[test]
fn conforming_code_keeps_the_cpl() {
    for mode in [Mode::Protected32, Mode::Paged32] {
        let mut g = Guest::user(mode);
        g.write(DATA, &[0x0f, 0x0b]);
        let t = g.trap(&far(0x9a, CONFORMING, DATA));
        assert_eq!((t.vector, t.ip, t.cs), (6, DATA, u64::from(CONFORMING) | 3));
        assert_eq!(g.read32(USER_STACK - 8), (CODE + 7) as u32);
        // Other code of CPL 0 is out of reach.
        g.faults(&far(0x9a, CS0, DATA), 0, 13, Some(CS0.into()));
        g.faults(&far(0xea, CS0 | 3, DATA), 0, 13, Some(CS0.into()));
        g.faults(&far(0xea, DS3, DATA), 0, 13, Some(u64::from(DS3 & !3)));
        g.faults(&far(0xea, 3, DATA), 0, 13, Some(0));
    }
    // More privileged code cannot call less privileged code, conforming or not.
    let mut g = Guest::new(Mode::Protected32);
    g.faults(&far(0xea, CS3, DATA), 0, 13, Some(u64::from(CS3 & !3)));
    g.set_gdt(FREE, descriptor(0, 0xf_ffff, 0xff, 0xc));
    g.faults(&far(0xea, FREE, DATA), 0, 13, Some(FREE.into()));
    // Beyond the target's limit
    g.set_gdt(FREE, descriptor(0, 0xfff, 0x9b, 0x4));
    g.faults(&far(0xea, FREE, DATA), 0, 13, Some(0));
    g.faults(&far(0xea, ABSENT, DATA), 0, 13, Some(ABSENT.into()));
    g.set_gdt(FREE, descriptor(0, 0xf_ffff, 0x1b, 0xc));
    g.faults(&far(0xea, FREE, DATA), 0, 11, Some(FREE.into()));
}

#[test]
fn long_and_compatibility_mode_reach_each_other_by_far_transfers() {
    let mut g = Guest::new(Mode::Compatibility);
    // jmp CS0:CODE+0x10; mov rax, imm64; push CS32; push CODE+0x30; retf (64-bit)
    let code = far(0xea, CS0, CODE + 0x10);
    g.write(CODE + 0x10, &[0x48, 0xb8, 8, 7, 6, 5, 4, 3, 2, 1, 0x6a, CS32 as u8]);
    g.write(CODE + 0x1c, &[&[0x68][..], &(CODE as u32 + 0x30).to_le_bytes(), &[0x48, 0xcb]].concat());
    g.write(CODE + 0x30, &[0x40, 0xf4]); // inc eax, in 32-bit code
    g.load(&code);
    assert_eq!(g.go(), End::Halt);
    assert_eq!((g.gpr(0), g.st().rip, g.selector(seg::CS)), (0x0506_0709, CODE + 0x32, CS32));
}

#[test]
fn code_segment_with_both_long_and_big_is_gp() {
    let mut g = Guest::new(Mode::Compatibility);
    g.set_gdt(FREE, descriptor(0, 0xf_ffff, 0x9b, 0xe));
    g.faults(&far(0xea, FREE, CODE), 0, 13, Some(FREE.into()));
}

fn msr(n: u32, value: u64) -> Vec<u8> {
    [&mov(1, n)[..], &mov(0, value as u32), &mov(2, (value >> 32) as u32), &[0x0f, 0x30]].concat()
}

// checklist: 17
#[test]
fn syscall_and_sysret_change_levels_in_64_bit_mode() {
    let mut g = Guest::user(Mode::Long);
    g.st().msr.star = u64::from(CS32) << 48 | u64::from(CS0) << 32;
    g.st().msr.lstar = DATA;
    g.st().msr.fmask = eflags::IF | eflags::DF;
    g.st().set_rflags(eflags::IF | eflags::DF | eflags::CF | 2);
    g.write(DATA, &[0xf4]);
    g.load(&[0x0f, 0x05]);
    assert_eq!(g.go(), End::Halt);
    assert_eq!((g.gpr(reg::RCX), g.gpr(reg::R11)), (CODE + 2, eflags::IF | eflags::DF | eflags::CF | 2));
    assert_eq!((g.st().cpl, g.selector(seg::CS), g.selector(seg::SS)), (0, CS0, CS0 + 8));
    assert_eq!((g.st().rflags(), g.gpr(reg::RSP)), (eflags::CF | 2, USER_STACK));
    // SYSRET to 64-bit and to 32-bit code
    for (code, cs, ss) in [(&[0x48, 0x0f, 0x07][..], 0x4b, 0x43), (&[0x0f, 0x07], 0x3b, 0x43)] {
        let mut g = Guest::new(Mode::Long);
        g.st().msr.star = 0x38 << 48;
        g.write(DATA, &[0x0f, 0x0b]);
        g.st().set_gpr(reg::RCX, DATA);
        g.st().set_gpr(reg::R11, eflags::IF | eflags::RF | eflags::VM | eflags::CF);
        g.load(code);
        let t = take(&mut g);
        assert_eq!((t.vector, t.ip, t.cs, t.stack), (6, DATA, cs, Some((STACK, ss))));
        assert_eq!(t.flags & !eflags::RF, eflags::IF | eflags::CF | 2);
    }
    let mut g = Guest::new(Mode::Long);
    g.st().set_gpr(reg::RCX, 1 << 47);
    g.faults(&[0x48, 0x0f, 0x07], 0, 13, Some(0));
}

#[test]
fn syscall_needs_sce_and_64_bit_mode() {
    let mut g = Guest::user(Mode::Long);
    g.st().msr.efer &= !1;
    g.faults(&[0x0f, 0x05], 0, 6, None);
    let mut g = Guest::user(Mode::Compatibility);
    g.faults(&[0x0f, 0x05], 0, 6, None);
    let mut g = Guest::user(Mode::Long);
    g.faults(&[0x48, 0x0f, 0x07], 0, 13, Some(0));
}

#[test]
fn sysenter_and_sysexit_change_levels() {
    for mode in USERS {
        let long = matches!(mode, Mode::Long | Mode::Compatibility);
        let mut g = Guest::user(mode);
        g.faults(&[0x0f, 0x34], 0, 13, Some(0));
        g.st().msr.sysenter_cs = CS0.into();
        g.st().msr.sysenter_eip = DATA;
        g.st().msr.sysenter_esp = STACK;
        g.st().set_rflags(eflags::IF | eflags::CF | 2);
        g.write(DATA, &[0xf4]);
        g.load(&[0x0f, 0x34]);
        assert_eq!(g.go(), End::Halt);
        assert_eq!((g.st().cpl, g.selector(seg::CS), g.selector(seg::SS)), (0, CS0, CS0 + 8));
        assert_eq!((g.gpr(reg::RSP), g.st().rflags(), g.st().code64()), (STACK, eflags::CF | 2, long));
    }
    for (mode, code, by) in [
        (Mode::Protected32, &[0x0f, 0x35][..], 16),
        (Mode::Long, &[0x0f, 0x35], 16),
        (Mode::Long, &[0x48, 0x0f, 0x35], 32),
    ] {
        let mut g = Guest::new(mode);
        g.faults(code, 0, 13, Some(0));
        g.st().msr.sysenter_cs = CS0.into();
        g.write(DATA, &[0x0f, 0x0b]);
        g.st().set_gpr(reg::RDX, DATA);
        g.st().set_gpr(reg::RCX, USER_STACK);
        g.load(code);
        let t = take(&mut g);
        let cs = u64::from(CS0) + by;
        assert_eq!((t.vector, t.ip, t.cs, t.stack), (6, DATA, cs | 3, Some((USER_STACK, (cs + 8) | 3))));
    }
    let mut g = Guest::user(Mode::Protected32);
    g.st().msr.sysenter_cs = CS0.into();
    g.faults(&[0x0f, 0x35], 0, 13, Some(0));
}

// checklist: 17
#[test]
fn swapgs_exchanges_bases_at_cpl_0_only() {
    let mut g = Guest::new(Mode::Long);
    let code = [&msr(0xc000_0101, 0x1000)[..], &msr(0xc000_0102, 0xffff_8000_0000_0000), &[0x0f, 0x01, 0xf8]]
        .concat();
    g.fine(&code);
    assert_eq!((g.st().segments[5].base, g.st().msr.kernel_gs_base), (0xffff_8000_0000_0000, 0x1000));
    let mut g = Guest::user(Mode::Long);
    g.faults(&[0x0f, 0x01, 0xf8], 0, 13, Some(0));
}

#[test]
fn ports_at_cpl_3_need_iopl_or_the_bitmap() {
    for mode in USERS {
        let mut g = Guest::new(mode);
        g.enter_user(3);
        let t = g.faults(&[0xe4, 0x60], 2, 13, Some(0)); // the HLT
        assert_eq!(t.cs & 3, 3);
        let mut g = Guest::user(mode);
        g.faults(&[0xe4, 0x60], 0, 13, Some(0));
        g.write(TSS + 0x66, &0x68u16.to_le_bytes());
        g.write(TSS + 0x68, &[0xff; 0x80]);
        g.write(TSS + 0x68 + 0x0c, &[0xfc]); // 0x60 and 0x61
        g.faults(&[0xe4, 0x60, 0xe4, 0x61, 0x66, 0xe5, 0x60, 0xe4, 0x62], 7, 13, Some(0));
        g.faults(&[0x66, 0xe5, 0x61], 0, 13, Some(0)); // 0x61 and 0x62
        g.faults(&[0xe5, 0x60], 0, 13, Some(0)); // four ports
        // The bitmap ends where the limit says, with a byte to spare.
        g.write(TSS + 0x68 + 0x20, &[0; 4]);
        g.st().tr.limit = 0x68 + 0x21;
        g.faults(&[&mov(2, 0x107)[..], &[0xec, 0xb2, 8, 0xec]].concat(), 8, 13, Some(0));
    }
}

#[test]
fn flags_that_cpl_3_may_not_change_stay() {
    for mode in [Mode::Protected32, Mode::Long] {
        let mut g = Guest::user(mode);
        g.st().set_rflags(eflags::IF | 2);
        // push 0x3000 | DF; popf: IOPL and IF stay
        let t = g.faults(&[0x68, 0, 0x34, 0, 0, 0x9d], 6, 13, Some(0));
        assert_eq!(t.flags & !eflags::RF, eflags::IF | eflags::DF | 2);
        let mut g = Guest::new(mode);
        g.enter_user(3);
        let t = g.faults(&[0x68, 2, 0, 0, 0, 0x9d], 6, 13, Some(0));
        assert_eq!(t.flags & !eflags::RF, eflags::IOPL | 2);
        g.faults(&[0xfb, 0xfa], 2, 13, Some(0));
    }
}

#[test]
fn inner_stack_without_room_is_ss_with_its_selector() {
    // By interrupt and by call gate: a stack segment that ends below the stack pointer.
    let mut g = Guest::user(Mode::Protected32);
    g.set_gdt(FREE, descriptor(0, 0x7fff, 0x93, 0x4));
    g.write32(TSS + 8, FREE.into());
    assert_eq!(error_by_task(&mut g, 12), FREE.into());
    let mut g = Guest::user(Mode::Protected32);
    g.set_gdt(FREE, descriptor(0, 0x7fff, 0x93, 0x4));
    g.write32(TSS + 8, FREE.into());
    g.write64(GDT + u64::from(GATE), gate(CS0, DATA, 0xec, 0));
    g.set_gate(12, CS3, DATA + 0x10, 0x8e);
    // A handler at CPL 3 needs no inner stack: pop eax (the error code); then it waits.
    g.write(DATA + 0x10, &[0x58, 0xeb, 0xfe]);
    g.load(&far(0x9a, GATE, 0));
    assert_eq!(g.cpu.run(&mut g.mem, &mut g.board, 10), aero_cpu::Exit::Budget);
    assert_eq!((g.gpr(reg::RAX), g.st().rip, g.st().cpl), (FREE.into(), DATA + 0x11, 3));
}

#[test]
fn sixteen_byte_descriptors_must_lie_in_the_table_as_a_whole() {
    let mut g = Guest::new(Mode::Long);
    g.set_gdt(0xf8, descriptor(TSS2, 0x67, 0x89, 0));
    let code = [&mov(0, 0xf8)[..], &[0x0f, 0x00, 0xd8]].concat();
    g.faults(&code, 5, 13, Some(0xf8));
    g.st().gdtr.limit = 0x107;
    g.fine(&code);
}

#[test]
fn frames_of_enter_and_pusha_are_exact() {
    let mut g = Guest::new(Mode::Protected32);
    // push 0x11; push 0x22; mov ebp, esp; enter 16, 2; leave
    g.st().set_gpr(reg::RBP, STACK - 0x100);
    g.write32(STACK - 0x104, 0xd15);
    let sp = STACK;
    g.fine(&[0xc8, 16, 0, 2]);
    assert_eq!((g.gpr(reg::RBP), g.gpr(reg::RSP)), (sp - 4, sp - 4 - 8 - 16));
    let frame = [g.read32(sp - 4), g.read32(sp - 8), g.read32(sp - 12)].map(u64::from);
    assert_eq!(frame, [STACK - 0x100, 0xd15, sp - 4]);
    g.fine(&[0xc9]);
    assert_eq!((g.gpr(reg::RBP), g.gpr(reg::RSP)), (STACK - 0x100, sp));
    // pusha stores the stack pointer from before, popa drops it.
    g.fine(&[0x60, 0x61, 0x60]);
    assert_eq!((g.gpr(reg::RSP), u64::from(g.read32(sp - 20))), (sp - 32, sp));
    // A PUSHA that faults leaves the stack pointer.
    let mut g = Guest::user(Mode::Paged32);
    g.set_pte(USER_STACK, 0);
    g.st().set_gpr(reg::RSP, USER_STACK + 0x1010);
    g.set_pte(USER_STACK + 0x1000, (USER_STACK + 0x1000) | 7);
    let t = g.trap(&[0x60]);
    assert_eq!((t.vector, t.error, t.stack), (14, Some(6), Some((USER_STACK + 0x1010, DS3.into()))));
}
