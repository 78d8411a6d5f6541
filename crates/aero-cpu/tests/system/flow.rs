//! What the interpreter's blocks and budgets must not change: code that is overwritten, repeats that are interrupted,
//! the instruction count, single steps, interrupt shadows, NMI, HLT.

use crate::guest::*;
use aero_cpu::Exit;
use aero_cpu::state::{eflags, reg, seg};

const FLAT: [Mode; 4] = [Mode::Protected32, Mode::Paged32, Mode::Pae, Mode::Long];

/// `mov byte [at], value`
fn poke(at: u64, value: u8) -> Vec<u8> {
    [&[0xc6, 0x04, 0x25][..], &(at as u32).to_le_bytes(), &[value]].concat()
}

#[test]
fn overwritten_next_instruction_runs_its_new_bytes() {
    for mode in FLAT {
        let mut g = Guest::new(mode);
        // Twice, so that the second pass meets a cached block: mov ecx, 2 / poke / mov al, 0 / ...
        let body = poke(CODE + 5 + 8 + 1, 0x55);
        let code =
            [&mov(1, 2)[..], &body, &[0xb0, 0x00, 0x00, 0xc3], &poke(CODE + 5 + 8 + 1, 0), &[0xe2, 0xea]];
        let code = code.concat(); // add bl, al; loop back to the first poke
        g.st().set_gpr(reg::RBX, 0);
        g.fine(&code);
        assert_eq!(g.gpr(reg::RBX) & 0xff, 0xaa, "{mode:?}");
    }
}

#[test]
fn code_overwritten_by_wide_and_string_stores_runs_its_new_bytes() {
    for mode in FLAT {
        // The store overwrites "mov al, 0" behind it with "mov al, 0x55".
        let target = |len: u64| CODE + len;
        let new = [0xb0, 0x55, 0x90, 0x90];
        // mov dword [at], imm32
        let mut g = Guest::new(mode);
        let store = [&[0xc7, 0x04, 0x25][..], &(target(11) as u32).to_le_bytes(), &new].concat();
        g.fine(&[&store[..], &[0xb0, 0, 0x90, 0x90]].concat());
        assert_eq!(g.gpr(0) & 0xff, 0x55);
        // rep movsb
        let mut g = Guest::new(mode);
        g.write(DATA, &new);
        let setup = [mov(6, DATA as u32), mov(7, target(17) as u32), mov(1, 4)].concat();
        g.fine(&[&setup[..], &[0xf3, 0xa4, 0xb0, 0, 0x90, 0x90]].concat());
        assert_eq!(g.gpr(0) & 0xff, 0x55);
        // rep stosw, of "mov al, 0x55"
        let mut g = Guest::new(mode);
        let setup = [mov(0, 0x55b0), mov(7, target(18) as u32), mov(1, 1)].concat();
        g.fine(&[&setup[..], &[0xf3, 0x66, 0xab, 0xb0, 0]].concat());
        assert_eq!(g.gpr(0) & 0xff, 0x55);
        // push
        let mut g = Guest::new(mode);
        g.st().set_gpr(reg::RSP, target(7) + 2);
        g.fine(&[&mov(0, 0x55b0)[..], &[0x66, 0x50, 0xb0, 0]].concat());
        assert_eq!(g.gpr(0) & 0xff, 0x55);
        // movups
        let mut g = Guest::new(mode);
        g.write(DATA, &[new, [0xf4; 4], [0xf4; 4], [0xf4; 4]].concat());
        let at = |opcode: u8, at: u64| [&[0x0f, opcode, 0x04, 0x25][..], &(at as u32).to_le_bytes()].concat();
        g.fine(&[&at(0x10, DATA)[..], &at(0x11, target(16)), &[0xb0, 0]].concat());
        assert_eq!(g.gpr(0) & 0xff, 0x55);
    }
}

#[test]
fn routine_on_another_page_is_seen_when_rewritten() {
    const ROUTINE: u64 = DATA + 0x100;
    for mode in FLAT {
        let mut g = Guest::new(mode);
        g.write(ROUTINE, &[0xb0, 0x11, 0xc3]); // mov al, 0x11; ret
        let call = [&mov(7, ROUTINE as u32)[..], &[0xff, 0xd7]].concat();
        let code = [&call[..], &[0x88, 0xc3], &poke(ROUTINE + 1, 0x22), &call, &[0x88, 0xc7]].concat();
        g.fine(&code);
        assert_eq!(g.gpr(reg::RBX) & 0xffff, 0x2211);
        // From outside, between runs and by a device in the middle of one
        g.write(ROUTINE + 1, &[0x33]);
        g.fine(&call);
        assert_eq!(g.gpr(0) & 0xff, 0x33);
        g.board.dma = Some((ROUTINE + 1, vec![0x44]));
        g.fine(&[&call[..], &[0x88, 0xc3, 0xe6, 0x80], &call, &[0x88, 0xc7]].concat());
        assert_eq!(g.gpr(reg::RBX) & 0xffff, 0x4433);
    }
}

#[test]
fn device_write_into_the_next_instruction_is_seen() {
    for mode in FLAT {
        let mut g = Guest::new(mode);
        g.board.dma = Some((CODE + 3, vec![0x66]));
        for _ in 0..2 {
            g.fine(&[0xe6, 0x80, 0xb0, 0]); // out 0x80, al; mov al, 0
            assert_eq!(g.gpr(0) & 0xff, 0x66);
        }
    }
}

#[test]
fn code_is_seen_rewritten_through_any_linear_alias() {
    const ALIAS: u64 = 0x8_0000;
    for mode in [Mode::Paged32, Mode::Pae, Mode::Long] {
        let mut g = Guest::new(mode);
        g.set_pte(ALIAS, DATA | 7);
        g.write(DATA, &[0xb0, 0x11, 0xc3]);
        let call = |at: u64| [&mov(7, at as u32)[..], &[0xff, 0xd7]].concat();
        // Run through both, write through the alias, run through both.
        let code = [
            &call(DATA)[..],
            &[0x88, 0xc3],
            &call(ALIAS),
            &[0x00, 0xc3],
            &poke(ALIAS + 1, 0x22),
            &call(DATA),
            &[0x88, 0xc7],
            &poke(DATA + 1, 0x33),
            &call(ALIAS),
            &[0x88, 0xc1],
        ]
        .concat();
        g.fine(&code);
        assert_eq!((g.gpr(reg::RBX) & 0xffff, g.gpr(reg::RCX) & 0xff), (0x2222, 0x33), "{mode:?}");
    }
}

#[test]
fn second_half_of_an_instruction_across_pages_is_seen_rewritten() {
    for mode in FLAT {
        let mut g = Guest::new(mode);
        let at = DATA + 0xffe;
        g.write(at, &[0xb8, 1, 2, 3, 4, 0xc3]);
        let call = [&mov(7, at as u32)[..], &[0xff, 0xd7]].concat();
        g.fine(&[&call[..], &poke(at + 3, 0x77), &call].concat());
        assert_eq!(g.gpr(0), 0x0477_0201);
    }
}

#[test]
fn same_bytes_in_another_mode_are_decoded_anew() {
    let mut g = Guest::new(Mode::Protected32);
    // b8 imm: 5 bytes in 32-bit code, 3 in 16-bit code.
    let at = 0xd000;
    g.write(at, &[0xb8, 0x11, 0x22, 0x89, 0xc3, 0xf4]);
    assert_eq!(g.run(&jump(at)), End::Halt);
    assert_eq!(g.gpr(0), 0xc389_2211);
    g.load(&[0x90]);
    g.st().segments[usize::from(seg::CS)] = segment(CS16, descriptor(0, 0xffff, 0x9b, 0));
    g.st().rip = at;
    g.st().set_gpr(0, 0);
    assert_eq!(g.go(), End::Halt);
    assert_eq!((g.gpr(reg::RAX), g.gpr(reg::RBX)), (0x2211, 0x2211), "mov ax, 0x2211; mov bx, ax");
}

/// Everything that must not depend on how a run is sliced.
fn outcome(g: &mut Guest) -> (Vec<u64>, u64, u64, u64, Vec<u8>) {
    let mut memory = vec![0; 0x2_0000];
    g.mem.read(aero_mem::Gpa(DATA), &mut memory).expect("RAM");
    let retired = g.cpu.core.retired;
    let st = g.st();
    ((0..16).map(|n| st.gpr(n)).collect(), st.rip, st.rflags(), retired, memory)
}

/// A program with a bit of everything: loops, calls, strings, self-modification, faults and software interrupts whose
/// handlers return.
fn busy_program(g: &mut Guest) {
    let long = g.mode == Mode::Long;
    let iret: &[u8] = if long { &[0x48, 0xcf] } else { &[0xcf] };
    // #UD: skip the two bytes of UD2. add dword [esp], 2; iret
    g.write(HANDLERS + 16 * 6, &[&[0x83, 0x04, 0x24, 2], iret].concat());
    g.write(HANDLERS + 16 * 0x21, &[&[0xff, 0xc3][..], iret].concat()); // inc ebx
    g.write(HANDLERS + 16 * 0x40, &[&[0x83, 0xc3, 3][..], iret].concat()); // add ebx, 3
    g.board.vector = 0x40;
    let at = |code: &Vec<u8>| CODE + code.len() as u64;
    let mut code = mov(5, 5); // ebp: outer loop
    code.extend(mov(3, 0));
    let top = code.len();
    code.extend([mov(7, DATA as u32), mov(0, 0x0102_0304), mov(1, 700)].concat());
    code.extend([0xf3, 0xab]); // rep stosd
    code.extend([mov(6, DATA as u32), mov(7, DATA as u32 + 0x8001), mov(1, 5000)].concat());
    code.extend([0xf3, 0xa4]); // rep movsb
    code.extend([mov(6, DATA as u32), mov(7, DATA as u32 + 1), mov(1, 300)].concat());
    code.extend([0xf3, 0xa4]); // overlapping
    code.extend([0x0f, 0x0b]); // ud2
    code.extend([0xcd, 0x21]);
    code.extend([0xfb, 0xe6, 0x81, 0x90, 0xe6, 0x81, 0xfa]); // sti; a device interrupt, twice; cli
    let patched = at(&code) + 8 + 1;
    code.extend(poke(patched, 0x5a));
    code.extend([0xb0, 0x00]);
    code.extend(poke(patched, 0x00));
    code.extend([0x00, 0xc3]); // add bl, al
    code.extend(mov(1, 10));
    code.extend([0x01, 0xcb, 0xe2, 0xfc]); // add ebx, ecx; loop
    code.extend([0x50, 0x58, 0x9c, 0x9d]); // push, pop, pushf, popf
    code.extend([0xff, 0xcd]); // dec ebp
    let back = top as i64 - (code.len() as i64 + 6);
    code.extend([0x0f, 0x85]);
    code.extend((back as i32).to_le_bytes());
    g.load(&code);
}

#[test]
fn any_slicing_gives_the_same_state_and_count() {
    for mode in FLAT {
        let mut whole = Guest::new(mode);
        busy_program(&mut whole);
        assert_eq!(whole.go(), End::Halt);
        let expected = outcome(&mut whole);
        assert!(expected.3 > 30_000, "each iteration counts: {}", expected.3);
        for budget in [1, 2, 3, 7, 1000] {
            let mut g = Guest::new(mode);
            busy_program(&mut g);
            assert_eq!(g.go_in_slices(budget), End::Halt);
            let got = outcome(&mut g);
            assert_eq!(got.3, expected.3, "{mode:?} budget {budget}: retired");
            assert!(got == expected, "{mode:?} budget {budget}: state");
        }
    }
}

#[test]
fn budget_is_exact_to_the_instruction() {
    for mode in FLAT {
        let mut g = Guest::new(mode);
        g.load(&[0x90; 40]);
        for n in [1, 2, 5, 13] {
            let (before, rip) = (g.cpu.core.retired, g.st().rip);
            assert_eq!(g.cpu.run(&mut g.mem, &mut g.board, n), Exit::Budget);
            assert_eq!((g.cpu.core.retired - before, g.st().rip - rip), (n, n));
        }
        // A fault's delivery counts as one, the faulting instruction as none.
        let mut g = Guest::new(mode);
        g.load(&[0x90, 0x0f, 0x0b]);
        let before = g.cpu.core.retired;
        g.go();
        assert_eq!(g.cpu.core.retired - before, 3, "nop, delivery, the handler's hlt");
    }
}

#[test]
fn repeat_stops_on_budget_and_resumes_exactly() {
    for (mode, down) in
        [(Mode::Protected32, false), (Mode::Long, false), (Mode::Paged32, true), (Mode::Long, true)]
    {
        let mut g = Guest::new(mode);
        let bytes: Vec<u8> = (0..1000u32).map(|n| (n * 7) as u8).collect();
        g.write(DATA, &bytes);
        let start = if down { 999 } else { 0 };
        let setup =
            [mov(6, (DATA + start) as u32), mov(7, (DATA + 0x2000 + start) as u32), mov(1, 1000)].concat();
        g.load(&[&setup[..], &[if down { 0xfd } else { 0xfc }, 0xf3, 0xa4]].concat());
        assert_eq!(g.cpu.run(&mut g.mem, &mut g.board, 4 + 10), Exit::Budget);
        let moved = |n: u64| if down { 0u64.wrapping_sub(n) } else { n };
        assert_eq!((g.gpr(reg::RCX), g.st().rip), (990, CODE + 16));
        assert_eq!(g.gpr(reg::RSI), (DATA + start).wrapping_add(moved(10)));
        assert_eq!(g.gpr(reg::RDI), (DATA + 0x2000 + start).wrapping_add(moved(10)));
        assert_eq!(g.cpu.core.retired, 14);
        assert_eq!(g.go(), End::Halt);
        assert_eq!(g.gpr(reg::RCX), 0);
        assert_eq!(g.cpu.core.retired, 4 + 1000 + 1);
        assert_eq!(g.bytes::<1000>(DATA + 0x2000).to_vec(), bytes);
    }
}

#[test]
fn repeat_of_zero_touches_nothing() {
    for mode in [Mode::Paged32, Mode::Long] {
        let mut g = Guest::new(mode);
        g.set_pte(DATA, 0);
        g.fine(
            &[&[mov(6, DATA as u32), mov(7, DATA as u32), mov(1, 0)].concat()[..], &[0xf3, 0xa4, 0xf3, 0xab]]
                .concat(),
        );
        assert_eq!((g.gpr(reg::RSI), g.gpr(reg::RDI)), (DATA, DATA));
    }
}

#[test]
fn fault_inside_a_repeat_leaves_exact_registers() {
    for mode in [Mode::Paged32, Mode::Pae, Mode::Long] {
        // The destination's second page is read-only; 0x1000 - 0xf00 = 0x100 bytes fit before it.
        let mut g = Guest::new(mode);
        g.write(DATA, &[0x5a; 0x1000]);
        g.set_pte(DATA + 0x3000, (DATA + 0x3000) | 5);
        let setup = [mov(6, DATA as u32), mov(7, DATA as u32 + 0x2f00), mov(1, 0x400)].concat();
        let t = g.faults(&[&setup[..], &[0xf3, 0xa4]].concat(), 15, 14, Some(3));
        assert_ne!(t.flags & eflags::RF, 0);
        assert_eq!(g.st().cr2, DATA + 0x3000);
        assert_eq!((g.gpr(reg::RCX), g.gpr(reg::RSI), g.gpr(reg::RDI)), (0x300, DATA + 0x100, DATA + 0x3000));
        assert_eq!(g.bytes::<0x100>(DATA + 0x2f00), [0x5a; 0x100]);
        // Dwords that straddle: the one that crosses writes nothing.
        let mut g = Guest::new(mode);
        g.set_pte(DATA + 0x3000, 0);
        let setup = [mov(0, 0x1111_1111), mov(7, DATA as u32 + 0x2ff2), mov(1, 9)].concat();
        g.faults(&[&setup[..], &[0xf3, 0xab]].concat(), 15, 14, Some(2));
        assert_eq!((g.gpr(reg::RCX), g.gpr(reg::RDI)), (6, DATA + 0x2ffe));
        assert_eq!(g.bytes::<4>(DATA + 0x2ffc), [0x11, 0x11, 0, 0]);
        // CMPS has the flags that it began with.
        let mut g = Guest::new(mode);
        g.set_pte(DATA + 0x1000, 0);
        let setup = [mov(6, DATA as u32 + 0xff0), mov(7, DATA as u32 + 0x2000), mov(1, 100)].concat();
        let t = g.faults(&[&setup[..], &[0xf3, 0xa6]].concat(), 15, 14, Some(0));
        assert_eq!((g.gpr(reg::RCX), t.flags & eflags::ZF), (84, 0));
    }
}

#[test]
fn overlapping_moves_repeat_or_shift_as_the_direction_says() {
    for mode in FLAT {
        for (width, opcode) in [(1u64, &[0xf3, 0xa4][..]), (4, &[0xf3, 0xa5])] {
            // Upwards onto itself repeats the first element.
            let mut g = Guest::new(mode);
            g.write(DATA, &(0..=255).collect::<Vec<u8>>());
            let setup = [mov(6, DATA as u32), mov(7, (DATA + width) as u32), mov(1, 32)].concat();
            g.fine(&[&setup[..], opcode].concat());
            let first: Vec<u8> = (0..width as u8).collect();
            assert_eq!(g.bytes::<32>(DATA + width).to_vec(), first.repeat(32 / width as usize));
            // Upwards to a lower place is a plain move.
            let mut g = Guest::new(mode);
            g.write(DATA, &(0..=255).collect::<Vec<u8>>());
            let setup = [mov(6, (DATA + width) as u32), mov(7, DATA as u32), mov(1, 32)].concat();
            g.fine(&[&setup[..], opcode].concat());
            assert_eq!(g.bytes::<32>(DATA).to_vec(), (width as u8..).take(32).collect::<Vec<u8>>());
        }
    }
}

#[test]
fn interrupt_stops_a_repeat_and_its_frame_points_at_it() {
    for mode in FLAT {
        let mut g = Guest::new(mode);
        g.board.vector = 0x40;
        let setup = [mov(0, 0), mov(7, DATA as u32), mov(1, 5000)].concat();
        g.st().set_rflags(eflags::IF | 2);
        g.load(&[&setup[..], &[0xf3, 0xaa]].concat());
        assert_eq!(g.cpu.run(&mut g.mem, &mut g.board, 3 + 100), Exit::Budget);
        g.board.line = true;
        let End::Trap(t) = g.go() else { panic!("no interrupt") };
        assert_eq!((t.vector, t.ip, g.gpr(reg::RCX)), (0x40, CODE + 15, 4900));
        assert_ne!(t.flags & eflags::IF, 0);
    }
}

#[test]
fn port_strings_move_each_element() {
    let mut g = Guest::new(Mode::Protected32);
    g.board.input = 0xabcd;
    let setup = [mov(7, DATA as u32), mov(2, 0x1f0), mov(1, 4)].concat();
    g.fine(&[&setup[..], &[0xf3, 0x66, 0x6d]].concat()); // rep insw
    assert_eq!(g.bytes::<10>(DATA), [0xcd, 0xab, 0xcd, 0xab, 0xcd, 0xab, 0xcd, 0xab, 0, 0]);
    let setup = [mov(6, DATA as u32), mov(2, 0x1f0), mov(1, 2)].concat();
    g.fine(&[&setup[..], &[0xf3, 0x6e]].concat()); // rep outsb
    assert_eq!(g.board.written, [(0x1f0, 1, 0xcd), (0x1f0, 1, 0xab)]);
}

fn interruptible(mode: Mode) -> Guest {
    let mut g = Guest::new(mode);
    g.board.vector = 0x40;
    g
}

#[test]
fn sti_holds_interrupts_for_one_instruction() {
    for mode in FLAT {
        let mut g = interruptible(mode);
        g.board.line = true;
        let t = g.trap(&[0xfb, 0x90, 0x90]);
        assert_eq!((t.vector, t.ip), (0x40, CODE + 2));
        // sti; cli: nothing gets in
        let mut g = interruptible(mode);
        g.board.line = true;
        g.fine(&[0xfb, 0xfa, 0x90]);
        // sti while already enabled holds nothing
        let mut g = interruptible(mode);
        g.st().set_rflags(eflags::IF | 2);
        let t = g.trap(&[0xe6, 0x81, 0xfb, 0x90]);
        assert_eq!(t.ip, CODE + 2);
    }
}

#[test]
fn stack_segment_load_holds_interrupts_for_one_instruction() {
    for mode in FLAT {
        let mut g = interruptible(mode);
        g.st().set_rflags(eflags::IF | 2);
        // mov eax, ss; out 0x81; mov ss, eax: the line rises before the load, which comes first only if IF was clear
        let t = g.trap(&[0xfa, 0x8c, 0xd0, 0xe6, 0x81, 0x8e, 0xd0, 0xfb, 0x90, 0x90]);
        assert_eq!(t.ip, CODE + 9);
        let mut g = interruptible(mode);
        g.st().set_rflags(eflags::IF | 2);
        g.load(&[0x8c, 0xd0, 0x8e, 0xd0, 0x90, 0x90]);
        assert_eq!(g.cpu.run(&mut g.mem, &mut g.board, 2), Exit::Budget);
        g.board.line = true;
        let End::Trap(t) = g.go() else { panic!("no interrupt") };
        assert_eq!(t.ip, CODE + 5, "{mode:?}: after the instruction that follows MOV SS");
    }
}

#[test]
fn popf_and_iret_that_enable_interrupts_do_not_hold_them() {
    let mut g = interruptible(Mode::Protected32);
    g.board.line = true;
    let t = g.trap(&[0x68, 0x02, 0x02, 0, 0, 0x9d, 0x90]); // push 0x202; popf
    assert_eq!(t.ip, CODE + 6);
}

#[test]
fn halt_wakes_for_an_interrupt_and_resumes_after_it() {
    for mode in FLAT {
        let mut g = interruptible(mode);
        g.load(&[0xfb, 0xf4, 0xb0, 0x77]);
        assert_eq!(g.go(), End::Halt);
        assert_eq!(g.st().rip, CODE + 2);
        // Still halted
        assert_eq!(g.go(), End::Halt);
        assert_eq!(g.st().rip, CODE + 2);
        g.board.line = true;
        let End::Trap(t) = g.go() else { panic!("no interrupt") };
        assert_eq!((t.vector, t.ip), (0x40, CODE + 2));
        // With interrupts off nothing but NMI wakes it.
        let mut g = interruptible(mode);
        g.load(&[0xf4]);
        assert_eq!(g.go(), End::Halt);
        g.board.line = true;
        assert_eq!(g.go(), End::Halt);
        assert_eq!(g.st().rip, CODE + 1);
        g.cpu.core.nmi_pending = true;
        let End::Trap(t) = g.go() else { panic!("no NMI") };
        assert_eq!((t.vector, t.ip), (2, CODE + 1));
    }
}

#[test]
fn nmi_is_blocked_until_iret() {
    for mode in FLAT {
        let iret: &[u8] = if mode == Mode::Long { &[0x48, 0xcf] } else { &[0xcf] };
        let mut g = Guest::new(mode);
        // The handler counts in BL and spends some time.
        g.write(HANDLERS + 32, &[&[0xfe, 0xc3, 0x90, 0x90][..], iret].concat());
        g.load(&[0x90; 8]);
        g.st().set_gpr(reg::RBX, 0);
        g.cpu.core.nmi_pending = true;
        assert_eq!(g.cpu.run(&mut g.mem, &mut g.board, 2), Exit::Budget);
        assert_eq!((g.gpr(reg::RBX), g.st().rip), (1, HANDLERS + 35));
        g.cpu.core.nmi_pending = true;
        assert_eq!(g.cpu.run(&mut g.mem, &mut g.board, 1), Exit::Budget);
        assert_eq!((g.gpr(reg::RBX), g.st().rip), (1, HANDLERS + 36), "the second one waits");
        assert_eq!(g.go(), End::Halt);
        assert_eq!(g.gpr(reg::RBX), 2);
    }
}

#[test]
fn trap_flag_steps_each_instruction() {
    for mode in FLAT {
        let (pushf, popf): (&[u8], &[u8]) = (&[0x9c], &[0x9d]);
        // pushf; or dword [esp], 0x100; popf; nop; nop
        let code = [pushf, &[0x81, 0x0c, 0x24, 0, 1, 0, 0], popf, &[0x90, 0x90]].concat();
        let mut g = Guest::new(mode);
        let t = g.faults(&code, 10, 1, None);
        assert_eq!(t.flags & (eflags::TF | eflags::RF), eflags::TF);
        assert_ne!(g.st().dr[6] & 1 << 14, 0);
        // A handler that returns and counts: one trap for each instruction.
        let iret: &[u8] = if mode == Mode::Long { &[0x48, 0xcf] } else { &[0xcf] };
        let mut g = Guest::new(mode);
        g.write(HANDLERS + 16, &[&[0xff, 0xc3][..], iret].concat());
        g.st().set_gpr(reg::RBX, 0);
        let code = [&mov(3, 0)[..], pushf, &[0x81, 0x0c, 0x24, 0, 1, 0, 0], popf, &[0x90; 5]];
        let clear: &[u8] = &[0x9c, 0x81, 0x24, 0x24, 0xff, 0xfe, 0xff, 0xff, 0x9d];
        g.fine(&[&code.concat()[..], clear].concat());
        assert_eq!(g.gpr(reg::RBX), 5 + 3, "{mode:?}: five NOPs, PUSHF, AND, and the POPF that clears TF");
    }
}

#[test]
fn fault_under_the_trap_flag_comes_first_and_clears_it() {
    let mut g = Guest::new(Mode::Protected32);
    g.st().set_rflags(eflags::TF | 2);
    let t = g.faults(&[0x0f, 0x0b], 0, 6, None);
    assert_ne!(t.flags & eflags::TF, 0);
}

#[test]
fn sti_does_not_hold_single_steps() {
    let mut g = Guest::new(Mode::Protected32);
    g.st().set_rflags(eflags::TF | 2);
    g.faults(&[0xfb, 0x90], 1, 1, None);
}

#[test]
fn near_branch_beyond_the_limit_is_gp_at_the_branch() {
    // A code segment of 4 KiB at CODE; the targets lie at 0x2000.
    let start = || {
        let mut g = Guest::new(Mode::Protected32);
        g.set_gdt(FREE, descriptor(CODE, 0xfff, 0x9b, 4));
        let raw = g.descriptor_of(FREE);
        g.st().segments[1] = segment(FREE, raw);
        g.st().set_gpr(reg::RCX, 5);
        g.st().set_gpr(reg::RBX, 0x2000);
        g.write32(DATA, 0x2000);
        g.write32(STACK, 0x2000);
        g
    };
    let memory = |modrm: u8| [&[0xff, modrm][..], &(DATA as u32).to_le_bytes()].concat();
    let far_away = 0x1ffau32.to_le_bytes();
    for code in [
        [&[0xe9][..], &far_away].concat(),       // jmp
        [&[0x0f, 0x81][..], &far_away].concat(), // jno
        [&[0xe8][..], &far_away].concat(),       // call
        vec![0xff, 0xe3],                        // jmp ebx
        vec![0xff, 0xd3],                        // call ebx
        memory(0x25),
        memory(0x15),
        vec![0xc3],       // ret
        vec![0xc2, 4, 0], // ret 4
    ] {
        let mut g = start();
        let t = g.trap(&code);
        assert_eq!((t.vector, t.error, t.ip, t.cs), (13, Some(0), 0, FREE.into()), "{code:02x?}");
        assert_eq!((g.gpr(reg::RSP), g.gpr(reg::RCX)), (STACK, 5), "{code:02x?}");
    }
    // A count is not taken by a LOOP that faults. The branch lies at the end of the segment.
    let mut g = start();
    g.write(CODE + 0xff0, &[0xe2, 0x70]);
    let t = g.trap(&[&mov(0, 0xff0)[..], &[0xff, 0xe0]].concat());
    assert_eq!((t.vector, t.ip, g.gpr(reg::RCX)), (13, 0xff0, 5));
    // What is not taken may lead anywhere; what runs off the end faults there.
    let mut g = start();
    g.write(CODE + 0xffa, &[0x0f, 0x80, 0, 0x20, 0, 0]);
    let t = g.trap(&[&mov(0, 0xffa)[..], &[0xff, 0xe0]].concat());
    assert_eq!((t.vector, t.error, t.ip), (13, Some(0), 0x1000));
}

#[test]
fn relative_branch_to_a_non_canonical_address_is_gp_at_the_branch() {
    // The last page below the hole shows CODE.
    let top = 0x0000_7fff_ffff_f000;
    let mut g = Guest::new(Mode::Long);
    for (at, value) in
        [(TABLES + 0x7f8, 0x5_0007), (0x5_0ff8, 0x5_1007), (0x5_1ff8, 0x5_2007), (0x5_2ff8, CODE | 7)]
    {
        g.write64(at, value);
    }
    for (code, fault) in [
        (&[0xeb, 0x7e][..], 0),             // jmp
        (&[0xe9, 0, 2, 0, 0][..], 0),       // jmp
        (&[0x75, 0x7e][..], 0),             // jne
        (&[0xe8, 0, 2, 0, 0][..], 0),       // call
        (&[0xff, 0xc3, 0xe2, 0x70][..], 2), // inc ebx; loop
    ] {
        g.load(code);
        g.write(CODE + 0xff0, code);
        g.st().rip = top + 0xff0;
        g.st().set_gpr(reg::RCX, 9);
        g.st().set_rflags(2);
        g.st().set_gpr(reg::RSP, STACK);
        let End::Trap(t) = g.go() else { panic!("no trap") };
        assert_eq!((t.vector, t.error, t.ip), (13, Some(0), top + 0xff0 + fault), "{code:02x?}");
        assert_eq!((t.stack, g.gpr(reg::RCX)), (Some((STACK, DS0.into())), 9));
    }
}
