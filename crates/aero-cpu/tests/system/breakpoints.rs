//! Breakpoints and watchpoints, DR6 and DR7, RF, INT1, and what MOV SS does to them.

use crate::guest::*;
use aero_cpu::state::{cr4, eflags, reg};

const DR6: u64 = 0xffff_0ff0;
const BS: u64 = 1 << 14;
const BD: u64 = 1 << 13;

/// DR7 with breakpoint `n` global, `kind` 0 execute, 1 write, 2 port, 3 access, `len` as DR7 has it.
fn dr7(n: u64, kind: u64, len: u64) -> u64 {
    0x400 | 2 << (2 * n) | kind << (16 + 4 * n) | len << (18 + 4 * n)
}

/// Runs `code`; the #DB handler stores the saved IP and DR6 at DATA + 0x100, and sets RF in the saved flags if DR6 has
/// B0 to B3. Returns what was stored: offsets into `code`, and DR6.
fn debug_traps(g: &mut Guest, code: &[u8]) -> Vec<(u64, u64)> {
    let long = g.mode == Mode::Long;
    // push rax; mov rax, [rsp + 8]; mov [rbp], eax; mov rax, dr6; mov [rbp + 4], eax; add ebp, 8;
    // test al, 15; je over; or byte [rsp + 8 + 18], 1; over: pop rax; iret
    let handler: &[u8] = if long {
        &[
            0x50, 0x48, 0x8b, 0x44, 0x24, 8, 0x89, 0x45, 0, 0x0f, 0x21, 0xf0, 0x89, 0x45, 4, 0x83, 0xc5, 8,
            0xa8, 15, 0x74, 5, 0x80, 0x4c, 0x24, 0x1a, 1, 0x58, 0x48, 0xcf,
        ]
    } else {
        &[
            0x50, 0x8b, 0x44, 0x24, 4, 0x89, 0x45, 0, 0x0f, 0x21, 0xf0, 0x89, 0x45, 4, 0x83, 0xc5, 8, 0xa8,
            15, 0x74, 5, 0x80, 0x4c, 0x24, 0x0e, 1, 0x58, 0xcf,
        ]
    };
    const HANDLER: u64 = 0xe000;
    g.write(HANDLER, handler);
    g.set_gate(1, CS0, HANDLER, 0xee);
    g.st().set_gpr(reg::RBP, DATA + 0x100);
    g.run(code);
    let end = g.gpr(reg::RBP);
    (DATA + 0x100..end)
        .step_by(8)
        .map(|at| (u64::from(g.read32(at)).wrapping_sub(CODE), u64::from(g.read32(at + 4))))
        .collect()
}

const MODES: [Mode; 4] = [Mode::Protected32, Mode::Paged32, Mode::Pae, Mode::Long];

#[test]
fn instruction_breakpoint_faults_before_the_instruction_and_rf_lets_it_run() {
    for mode in MODES {
        let mut g = Guest::new(mode);
        g.st().dr[0] = CODE + 2;
        g.st().dr[7] = dr7(0, 0, 0);
        g.st().dr[6] = DR6 | BS | 2; // B1 goes, BS stays
        // mov bl, 1; inc ebx; dec ecx
        assert_eq!(debug_traps(&mut g, &[0xb3, 1, 0xff, 0xc3, 0xff, 0xc9]), [(2, DR6 | BS | 1)]);
        assert_eq!(g.gpr(reg::RBX) & 0xff, 2);
    }
}

#[test]
fn instruction_breakpoint_is_met_again_each_time() {
    let mut g = Guest::new(Mode::Protected32);
    g.st().dr[3] = CODE + 5;
    g.st().dr[7] = dr7(3, 0, 0);
    // mov ecx, 3; again: nop; loop again
    let code = [mov(1, 3), vec![0x90, 0xe2, 0xfd]].concat();
    assert_eq!(debug_traps(&mut g, &code), [(5, DR6 | 8); 3]);
}

#[test]
fn instruction_breakpoint_on_a_repeat_is_met_once() {
    let mut g = Guest::new(Mode::Protected32);
    g.st().dr[0] = CODE + 10;
    g.st().dr[7] = dr7(0, 0, 0);
    let code = [mov(1, 5), mov(7, DATA as u32), vec![0xf3, 0xaa]].concat();
    assert_eq!(debug_traps(&mut g, &code), [(10, DR6 | 1)]);
    assert_eq!(g.gpr(reg::RDI), DATA + 5);
}

#[test]
fn breakpoint_is_met_where_a_branch_lands_and_in_warm_code() {
    let mut g = Guest::new(Mode::Long);
    let code = [mov(1, 4), vec![0x90, 0x90, 0xff, 0xc3, 0xe2, 0xfa]].concat();
    g.run(&code);
    g.st().dr[2] = CODE + 7;
    g.st().dr[7] = dr7(2, 0, 0);
    assert_eq!(debug_traps(&mut g, &code).len(), 4);
}

#[test]
fn data_breakpoint_traps_after_the_access_by_kind_length_and_place() {
    let store = |at: u64| store_eax(at);
    let load = |at: u64| load_eax(at);
    let byte = |at: u64| [&[0x88, 0x04, 0x25][..], &(at as u32).to_le_bytes()].concat();
    for mode in MODES {
        for (kind, len, at, code, hit) in [
            (1, 3, DATA, store(DATA), true),
            (1, 3, DATA, load(DATA), false),
            (3, 3, DATA, load(DATA), true),
            (3, 3, DATA + 3, load(DATA), true), // aligned down
            (1, 0, DATA + 3, store(DATA), true),
            (1, 0, DATA + 4, store(DATA), false),
            (1, 1, DATA + 2, byte(DATA + 1), false),
            (1, 1, DATA + 2, byte(DATA + 3), true),
            (1, 2, DATA, byte(DATA + 7), true),
            (1, 2, DATA, byte(DATA + 8), false),
            (1, 0, DATA + 4, store(DATA + 1), true), // unaligned access
            (1, 0, DATA + 0x1001, store(DATA + 0xffe), true), // in the second page
            (3, 0, DATA, vec![0xff, 0x04, 0x25], true), // inc
        ] {
            let mut code = code;
            if code.len() == 3 {
                code.extend_from_slice(&(DATA as u32).to_le_bytes());
            }
            let mut g = Guest::new(mode);
            g.st().dr[1] = at;
            g.st().dr[7] = dr7(1, kind, len);
            // Warm translations must not hide it.
            let seen = debug_traps(&mut g, &[&code[..], &[0x90]].concat());
            let want = if hit { vec![(code.len() as u64, DR6 | 2)] } else { vec![] };
            assert_eq!(seen, want, "{mode:?} kind {kind} len {len} at {at:#x}: {code:02x?}");
        }
    }
}

#[test]
fn watchpoint_set_by_the_program_catches_the_next_store() {
    for mode in [Mode::Protected32, Mode::Long] {
        let mut g = Guest::new(mode);
        // mov eax, DATA; mov dr0, eax; mov eax, dr7; mov dr7, eax; mov [DATA], eax; xor eax, eax; mov dr7, eax;
        // mov [DATA], eax
        let code = [
            store_eax(DATA),
            mov(0, DATA as u32),
            vec![0x0f, 0x23, 0xc0],
            mov(0, dr7(0, 1, 3) as u32),
            vec![0x0f, 0x23, 0xf8],
            store_eax(DATA),
            vec![0x31, 0xc0, 0x0f, 0x23, 0xf8],
            store_eax(DATA),
        ]
        .concat();
        assert_eq!(debug_traps(&mut g, &code), [(7 + 16 + 7, DR6 | 1)], "{mode:?}");
    }
}

#[test]
fn repeated_store_traps_after_the_iteration_that_meets_the_breakpoint() {
    for mode in [Mode::Protected32, Mode::Long] {
        let mut g = Guest::new(mode);
        g.st().dr[0] = DATA + 2;
        g.st().dr[7] = dr7(0, 1, 0);
        let code = [mov(1, 5), mov(7, DATA as u32), vec![0xf3, 0xaa]].concat();
        assert_eq!(debug_traps(&mut g, &code), [(10, DR6 | 1)], "it stands at the repeat still");
        assert_eq!(g.gpr(reg::RCX), 0);
    }
}

#[test]
fn push_and_wide_accesses_meet_breakpoints() {
    let mut g = Guest::new(Mode::Long);
    g.st().dr[0] = STACK - 8;
    g.st().dr[7] = dr7(0, 1, 2);
    assert_eq!(debug_traps(&mut g, &[0x50, 0x90]), [(1, DR6 | 1)]);
    // movups [DATA], xmm0: its upper half
    let mut g = Guest::new(Mode::Long);
    g.st().dr[0] = DATA + 12;
    g.st().dr[7] = dr7(0, 1, 3);
    let code = [&[0x0f, 0x11, 0x04, 0x25][..], &(DATA as u32).to_le_bytes()].concat();
    assert_eq!(debug_traps(&mut g, &code), [(8, DR6 | 1)]);
}

#[test]
fn port_breakpoint_needs_debugging_extensions() {
    for (de, hits) in [(0, vec![]), (cr4::DE, vec![(2, DR6 | 4), (4, DR6 | 4)])] {
        let mut g = Guest::new(Mode::Protected32);
        g.st().cr4 |= de;
        g.st().dr[2] = 0x60;
        g.st().dr[7] = dr7(2, 2, 1);
        // out 0x60, al; in al, 0x61; in al, 0x62; out 0x5f, al
        assert_eq!(debug_traps(&mut g, &[0xe6, 0x60, 0xe4, 0x61, 0xe4, 0x62, 0xe6, 0x5f]), hits);
    }
}

#[test]
fn general_detect_faults_before_debug_registers_are_touched() {
    let mut g = Guest::new(Mode::Protected32);
    g.st().dr[7] = 0x400 | 1 << 13;
    // mov eax, dr0 runs again after the handler, GD gone
    let seen = debug_traps(&mut g, &[0x0f, 0x21, 0xc0]);
    assert_eq!((seen, g.st().dr[7]), (vec![(0, DR6 | BD)], 0x400));
    // It is a fault: RF is pushed as set. The privilege check comes first.
    let mut g = Guest::new(Mode::Protected32);
    g.st().dr[7] = 0x400 | 1 << 13;
    let t = g.faults(&[0x0f, 0x21, 0xc0], 0, 1, None);
    assert_ne!(t.flags & eflags::RF, 0);
    g.st().dr[7] = 0x400 | 1 << 13;
    g.enter_user(0);
    g.faults(&[0x0f, 0x21, 0xc0], 0, 13, Some(0));
}

#[test]
fn instruction_breakpoint_pushes_rf_clear_and_other_faults_set() {
    let mut g = Guest::new(Mode::Protected32);
    g.st().dr[0] = CODE;
    g.st().dr[7] = dr7(0, 0, 0);
    let t = g.faults(&[0x90], 0, 1, None);
    assert_eq!(t.flags & eflags::RF, 0);
    g.st().dr[7] = 0x400;
    for code in [&[0x0f, 0x0b][..], &[0xf7, 0xf1]] {
        let t = g.trap(code);
        assert_ne!(t.flags & eflags::RF, 0, "{code:02x?}");
    }
    for code in [&[0xcc][..], &[0xf1], &[0xcd, 0x30]] {
        let t = g.trap(code);
        assert_eq!(t.flags & eflags::RF, 0, "{code:02x?}");
    }
}

#[test]
fn rf_lasts_for_one_instruction() {
    // push 0x10002; push CS0; push next; iret; next: nop; int 0x30
    let mut g = Guest::new(Mode::Protected32);
    let next = CODE as u32 + 13;
    let code = [
        &[0x68][..],
        &0x1_0002u32.to_le_bytes(),
        &[0x6a, CS0 as u8, 0x68],
        &next.to_le_bytes(),
        &[0xcf],
        &[0x90, 0xcd, 0x30],
    ]
    .concat();
    let t = g.trap(&code);
    assert_eq!((t.vector, t.flags & eflags::RF), (0x30, 0));
}

#[test]
fn btf_single_steps_from_branch_to_branch() {
    let mut g = Guest::new(Mode::Protected32);
    g.st().set_rflags(eflags::TF | 2);
    g.st().msr.debugctl = 2;
    // nop; jne over (taken); nop; over: nop. #DB clears BTF: the last NOP traps too.
    let seen = debug_traps(&mut g, &[0x90, 0x75, 1, 0x90, 0x90]);
    assert_eq!(seen[..2], [(4, DR6 | BS), (5, DR6 | BS)]);
    assert_eq!(g.st().msr.debugctl, 0);
}

#[test]
fn single_step_and_watchpoint_are_told_together() {
    let mut g = Guest::new(Mode::Protected32);
    g.st().dr[0] = DATA;
    g.st().dr[7] = dr7(0, 1, 3);
    g.st().set_rflags(eflags::TF | 2);
    let seen = debug_traps(&mut g, &store_eax(DATA));
    assert_eq!(seen[0], (7, DR6 | BS | 1));
}

#[test]
fn int1_sets_nothing_in_dr6_and_ignores_the_gate_level() {
    let mut g = Guest::user(Mode::Protected32);
    g.set_gate(1, CS0, HANDLERS + 16, 0x8e);
    let t = g.faults(&[0xf1], 1, 1, None);
    assert_eq!((t.vector, g.st().dr[6]), (1, DR6));
    g.faults(&[0xcd, 1], 0, 13, Some(8 + 2));
}

#[test]
fn mov_ss_holds_its_own_watchpoint_off_for_one_instruction() {
    let load_ss = [&[0x8e, 0x14, 0x25][..], &(DATA as u32).to_le_bytes()].concat();
    let guest = || {
        let mut g = Guest::new(Mode::Long);
        g.write(DATA, &DS0.to_le_bytes());
        g.st().dr[1] = DATA;
        g.st().dr[7] = 0x00f0_040a;
        g
    };
    // nop: the trap comes after it
    assert_eq!(debug_traps(&mut guest(), &[&load_ss[..], &[0x90, 0x90]].concat()), [(8, DR6 | 2)]);
    // int1: one #DB tells both
    let seen = debug_traps(&mut guest(), &[&load_ss[..], &[0xf1]].concat());
    assert_eq!(seen, [(8, DR6 | 2)]);
    // int 0x30: the trap comes in its handler
    let mut g = guest();
    g.write(HANDLERS + 0x300, &[0x90, 0xf4]);
    let seen = debug_traps(&mut g, &[&load_ss[..], &[0xcd, 0x30]].concat());
    assert_eq!(seen, [((HANDLERS + 0x300).wrapping_sub(CODE), DR6 | 2)]);
    // int 1: twice, the second one first
    let seen = debug_traps(&mut guest(), &[&load_ss[..], &[0xcd, 1]].concat());
    assert_eq!(seen, [(0xe000u64.wrapping_sub(CODE), DR6 | 2), (9, DR6 | 2)]);
}

#[test]
fn mov_ss_suppresses_the_breakpoint_of_the_next_instruction() {
    let mut g = Guest::new(Mode::Protected32);
    g.st().dr[0] = CODE + 4;
    g.st().dr[7] = dr7(0, 0, 0);
    // mov eax, ss; mov ss, eax; nop
    assert_eq!(debug_traps(&mut g, &[0x8c, 0xd0, 0x8e, 0xd0, 0x90]), []);
}

#[test]
fn faulting_instruction_reports_no_watchpoint() {
    let mut g = Guest::new(Mode::Protected32);
    g.st().dr[0] = DATA;
    g.st().dr[7] = dr7(0, 3, 3);
    // div dword [DATA]: zero
    let code = [&[0xf7, 0x34, 0x25][..], &(DATA as u32).to_le_bytes()].concat();
    g.faults(&code, 0, 0, None);
    assert_eq!(g.st().dr[6], DR6);
}

#[test]
fn debug_registers_keep_their_fixed_bits() {
    let mut g = Guest::new(Mode::Protected32);
    for (n, value, want) in
        [(6, 0, DR6), (6, u32::MAX, 0xffff_eff0 | 0xf), (7, 0, 0x400), (7, 0xffff_dc00, 0xffff_0400)]
    {
        g.st().dr[7] = 0x400;
        // mov dr, ecx; mov eax, dr
        g.run(&[mov(1, value), vec![0x0f, 0x23, 0xc1 | n << 3, 0x0f, 0x21, 0xc0 | n << 3]].concat());
        assert_eq!(g.gpr(0), want, "dr{n} = {value:#x}");
    }
    let mut g = Guest::new(Mode::Long);
    for n in [6, 7] {
        // mov rcx, 1 << 32; mov dr, rcx
        g.faults(&[0x48, 0xb9, 0, 0, 0, 0, 1, 0, 0, 0, 0x0f, 0x23, 0xc1 | n << 3], 10, 13, Some(0));
    }
}

#[test]
fn syscall_steps_by_the_mask_and_sysret_traps_at_once() {
    let mut g = Guest::user(Mode::Long);
    g.st().msr.star = u64::from(CS0) << 32 | 0x10 << 48;
    g.st().msr.lstar = DATA;
    g.st().msr.fmask = eflags::TF;
    g.write(DATA, &[0x90, 0x90, 0xf4]);
    g.st().set_rflags(eflags::TF | 2);
    g.load(&[0x0f, 0x05]);
    assert_eq!(g.go(), End::Halt, "no trap on the way in");
    assert_eq!((g.st().rip, g.gpr(reg::R11)), (DATA + 3, eflags::TF | 2));
    // Without the mask the trap is at the kernel's first instruction.
    let mut g = Guest::user(Mode::Long);
    g.st().msr.star = u64::from(CS0) << 32;
    g.st().msr.lstar = DATA;
    g.st().set_rflags(eflags::TF | 2);
    g.load(&[0x0f, 0x05]);
    let End::Trap(t) = g.go() else { panic!("no trap") };
    assert_eq!((t.vector, t.ip, t.cs), (1, DATA, CS0.into()));
    // sysretq with TF in r11
    let mut g = Guest::new(Mode::Long);
    g.st().msr.star = 0x8 << 48;
    g.set_gdt(0x10, descriptor(0, 0xf_ffff, 0xf3, 0xc));
    g.set_gdt(0x18, descriptor(0, 0xf_ffff, 0xfb, 0xa));
    g.st().set_gpr(reg::RCX, DATA);
    g.st().set_gpr(reg::R11, eflags::TF | 2);
    g.load(&[0x48, 0x0f, 0x07]);
    let End::Trap(t) = g.go() else { panic!("no trap") };
    assert_eq!((t.vector, t.ip, t.cs, t.flags & eflags::TF), (1, DATA, 0x1b, eflags::TF));
}

#[test]
fn interrupt_waits_for_the_debug_trap_before_it() {
    // The line rises with OUT, which also is single-stepped: #DB's handler is interrupted, not the OUT.
    let mut g = Guest::new(Mode::Protected32);
    g.board.vector = 0x40;
    g.st().set_rflags(eflags::TF | eflags::IF | 2);
    g.set_gate(1, CS0, HANDLERS + 16, 0xef); // a trap gate: IF stays
    g.load(&[0xe6, 0x81, 0x90]);
    let End::Trap(t) = g.go() else { panic!("no trap") };
    assert_eq!((t.vector, t.ip), (0x40, HANDLERS + 16));
}
