//! The x87 as a part of the processor: which encodings exist, which wait, what each records, what faults leave, and
//! how errors are reported. What the operations compute is tested beside them.

use crate::guest::*;
use aero_cpu::Exit;
use aero_cpu::fpu::F80;
use aero_cpu::state::{cr0, eflags, reg};

/// Vectors.
const UD: u8 = 6;
const NM: u8 = 7;
const MF: u8 = 16;

/// A page that is not mapped.
const HOLE: u64 = 0x5_0000;

/// Encodings with a register form (second byte C0h and above) that are undefined, as a bit for each second byte:
/// blank in the SDM's opcode maps (volume 2, tables) and not among the aliases that processors accept.
const UNDEFINED: [u64; 8] = [
    0,
    0x0000_80cc_00fe_0000, // D9 D1–D7, E2, E3, E6, E7, EF
    0xffff_fdff_0000_0000, // DA E0–E8, EA–FF
    0xff00_00e0_0000_0000, // DB E5–E7, F8–FF
    0,
    0xffff_0000_0000_0000, // DD F0–FF
    0x0000_0000_fd00_0000, // DE D8, DA–DF
    0xff00_00fe_0000_0000, // DF E1–E7, F8–FF
];
/// Undefined memory forms, as a bit for each /digit.
const UNDEFINED_MEMORY: [u8; 8] = [0, 1 << 1, 0, 1 << 4 | 1 << 6, 0, 1 << 5, 0, 0];

/// Instructions that do not wait: FNSTENV, FNSTCW, FNENI, FNDISI, FNCLEX, FNINIT, FNSETPM, FNSAVE, FNSTSW twice.
const NOT_WAITING: [[u8; 2]; 10] = [
    [0xd9, 0x33],
    [0xd9, 0x3b],
    [0xdb, 0xe0],
    [0xdb, 0xe1],
    [0xdb, 0xe2],
    [0xdb, 0xe3],
    [0xdb, 0xe4],
    [0xdd, 0x33],
    [0xdd, 0x3b],
    [0xdf, 0xe0],
];
/// Waiting instructions that leave the pointers alone: FLDENV, FLDCW, FRSTOR.
const CONTROL: [[u8; 2]; 3] = [[0xd9, 0x23], [0xd9, 0x2b], [0xdd, 0x23]];

/// Every encoding, the memory forms with `[ebx]`: bytes, and whether it exists.
fn encodings() -> impl Iterator<Item = ([u8; 2], bool)> {
    (0..8u8).flat_map(|n| {
        let register =
            (0..64u8).map(move |k| ([0xd8 + n, 0xc0 + k], UNDEFINED[usize::from(n)] >> k & 1 == 0));
        let memory =
            (0..8u8).map(move |r| ([0xd8 + n, r << 3 | 3], UNDEFINED_MEMORY[usize::from(n)] >> r & 1 == 0));
        register.chain(memory)
    })
}

fn existing() -> impl Iterator<Item = [u8; 2]> {
    encodings().filter(|(_, exists)| *exists).map(|(code, _)| code)
}

/// A guest whose x87 is as after FNINIT but for two registers, with EBX at zeroed data.
fn guest(mode: Mode) -> Guest {
    let mut g = Guest::new(mode);
    prepare(&mut g);
    g
}

fn prepare(g: &mut Guest) {
    g.write(DATA, &[0; 128]);
    let fpu = &mut g.st().fpu;
    fpu.fninit();
    fpu.load_integer(3);
    fpu.load_integer(2);
    g.st().set_gpr(reg::RBX, DATA);
}

/// Makes an unmasked division by zero pending.
fn break_it(g: &mut Guest) {
    let fpu = &mut g.st().fpu;
    fpu.set_control(0x37b);
    fpu.status |= 1 << 2;
    fpu.set_control(0x37b);
    assert!(fpu.pending_exception());
}

#[test]
fn undefined_encodings_are_ud_and_all_others_run() {
    for mode in [Mode::Long, Mode::Protected32, Mode::Real] {
        let mut g = guest(mode);
        for (code, exists) in encodings() {
            prepare(&mut g);
            // 32-bit addresses, so that /3 is [ebx].
            let code = if mode == Mode::Real { vec![0x67, code[0], code[1]] } else { code.to_vec() };
            if mode == Mode::Real {
                g.st().set_gpr(reg::RBX, 0x4000);
            }
            match g.run(&code) {
                End::Halt => assert!(exists, "{mode:?} {code:02x?} ran"),
                End::Trap(t) => assert!(!exists && t.vector == UD, "{mode:?} {code:02x?} {t:x?}"),
                other => panic!("{mode:?} {code:02x?} {other:x?}"),
            }
        }
    }
}

#[test]
fn lock_is_ud_with_every_x87_instruction() {
    let mut g = guest(Mode::Long);
    for code in existing() {
        g.faults(&[0xf0, code[0], code[1]], 0, UD, None);
    }
}

#[test]
fn every_x87_instruction_is_nm_under_em_or_ts() {
    for bit in [cr0::EM, cr0::TS] {
        let mut g = guest(Mode::Protected32);
        g.st().cr0 |= bit;
        for code in existing() {
            g.faults(&code, 0, NM, None);
        }
    }
}

#[test]
fn pending_error_stops_waiting_instructions_before_they_touch_memory() {
    let mut g = guest(Mode::Long);
    for code in existing() {
        prepare(&mut g);
        break_it(&mut g);
        if NOT_WAITING.contains(&code) {
            g.fine(&code);
            continue;
        }
        g.st().set_gpr(reg::RBX, 1 << 46);
        g.faults(&code, 0, MF, None);
    }
    // MMX: movd mm0, eax; emms; paddb mm0, [rbx].
    for code in [&[0x0f, 0x6e, 0xc0][..], &[0x0f, 0x77], &[0x0f, 0xfc, 0x03]] {
        prepare(&mut g);
        break_it(&mut g);
        g.faults(code, 0, MF, None);
    }
}

#[test]
fn all_but_control_instructions_record_where_they_are() {
    let mut g = guest(Mode::Protected32);
    for code in existing() {
        prepare(&mut g);
        g.st().fpu.set_pointers(0x123, 0x77, 0x11, 0x66, 0x22);
        // A prefix before it: FIP points at the prefix.
        g.fine(&[0x90, 0x36, code[0], code[1]]);
        let fpu = g.st().fpu;
        let seen = (fpu.fop, fpu.fcs, fpu.fip, fpu.fds, fpu.fdp);
        if code == [0xdb, 0xe3] || code == [0xdd, 0x33] {
            assert_eq!(seen, (0, 0, 0, 0, 0), "{code:02x?}");
        } else if code == [0xd9, 0x23] || code == [0xdd, 0x23] {
            assert_eq!(seen, (0, 0, 0, 0, 0), "{code:02x?} loads them");
        } else if NOT_WAITING.contains(&code) || CONTROL.contains(&code) {
            assert_eq!(seen, (0x123, 0x77, 0x11, 0x66, 0x22), "{code:02x?}");
        } else {
            let fop = u16::from(code[0] & 7) << 8 | u16::from(code[1]);
            let data = if code[1] < 0xc0 { (DS0, DATA) } else { (0x66, 0x22) };
            assert_eq!(seen, (fop, CS0, CODE + 1, data.0, data.1), "{code:02x?}");
        }
    }
}

#[test]
fn faulting_operand_leaves_the_x87_as_it_was() {
    for mode in [Mode::Long, Mode::Paged32] {
        let mut g = guest(mode);
        g.set_pte(HOLE, 0);
        for code in existing().filter(|code| code[1] < 0xc0) {
            prepare(&mut g);
            // A result that is inexact, invalid or denormal in whatever format it has.
            g.st().fpu.set_st(0, F80::new(0x7000, 0xc000_0000_0000_0001));
            // The first byte is in a page that is there, the last one (of at least two) is not.
            let stores = matches!(code[0], 0xd9 | 0xdd) && matches!(code[1] >> 3, 6);
            for at in [HOLE, HOLE - 1] {
                g.write(HOLE - 128, &[0x5a; 128]);
                g.st().set_gpr(reg::RBX, at);
                let before = g.st().fpu;
                let t = g.trap(&code);
                assert_eq!(t.vector, 14, "{code:02x?}");
                assert_eq!(g.st().fpu, before, "{mode:?} {code:02x?} at {at:#x}");
                assert_eq!(g.bytes::<128>(HOLE - 128), [0x5a; 128], "{mode:?} {code:02x?}");
            }
            if stores {
                g.st().set_gpr(reg::RBX, HOLE - 13);
                g.trap(&code);
                assert_eq!(g.bytes::<128>(HOLE - 128), [0x5a; 128], "{mode:?} {code:02x?}");
            }
        }
    }
}

#[test]
fn suppressed_store_still_needs_a_page_that_can_be_written() {
    let mut g = guest(Mode::Long);
    g.set_pte(HOLE, 0);
    g.st().set_gpr(reg::RBX, HOLE - 1);
    g.st().fpu.set_control(0x37e);
    g.st().fpu.set_st(0, F80::new(0x7fff, 1));
    let before = g.st().fpu;
    // fst dword, fistp dword, fisttp qword, fbstp: all invalid, unmasked.
    for code in [[0xd9, 0x13], [0xdb, 0x1b], [0xdd, 0x0b], [0xdf, 0x33]] {
        assert_eq!(g.trap(&code).vector, 14, "{code:02x?}");
        assert_eq!(g.st().fpu, before, "{code:02x?}");
    }
}

#[test]
fn suppressed_store_still_needs_a_segment_that_can_be_written() {
    let mut g = guest(Mode::Protected32);
    g.st().fpu.set_control(0x37e);
    g.st().fpu.set_st(0, F80::INFINITY);
    g.st().segments[3] = segment(READ_ONLY, descriptor(0, 0xf_ffff, 0x91, 0xc));
    let before = g.st().fpu;
    // fistp dword [ebx]
    g.faults(&[0xdb, 0x1b], 0, 13, Some(0));
    assert_eq!(g.st().fpu, before);
}

#[test]
fn alignment_is_checked_by_the_parts_of_an_operand() {
    // Ten bytes: 8; images: their words.
    let cases: [(&[u8], u64); 12] = [
        (&[0xd9, 0x03], 4),       // fld dword
        (&[0xdd, 0x1b], 8),       // fstp qword
        (&[0xdf, 0x03], 2),       // fild word
        (&[0xdb, 0x2b], 8),       // fld tbyte
        (&[0xdb, 0x3b], 8),       // fstp tbyte
        (&[0xdf, 0x23], 8),       // fbld
        (&[0xdf, 0x33], 8),       // fbstp
        (&[0xd9, 0x33], 4),       // fnstenv
        (&[0x66, 0xd9, 0x23], 2), // fldenv
        (&[0xdd, 0x33], 4),       // fnsave
        (&[0x66, 0xdd, 0x33], 2),
        (&[0xdd, 0x23], 4), // frstor
    ];
    let mut g = Guest::user(Mode::Protected32);
    g.st().cr0 |= cr0::AM;
    for (code, alignment) in cases {
        for distance in 0..9 {
            prepare(&mut g);
            let flags = g.st().rflags();
            g.st().set_rflags(flags | eflags::AC);
            g.st().set_gpr(reg::RBX, DATA + distance);
            // What runs reaches HLT, which CPL 3 may not use.
            let expected = if distance % alignment == 0 { 13 } else { 17 };
            assert_eq!(g.trap(code).vector, expected, "{code:02x?} at {distance}");
        }
    }
}

#[test]
fn error_that_a_restore_ends_releases_ferr() {
    // fxrstor [ebx] of an image without exceptions, in a handler; iretd
    let mut g = ferr_guest(&[0x0f, 0xae, 0x0b, 0xcf]);
    g.write(DATA, &[0; 512]);
    g.write(DATA, &0x37fu16.to_le_bytes());
    g.fine(&[0xd9, 0xe8]);
    assert!(!g.board.ferr && !g.st().fpu.pending_exception());
}

/// With NE clear, an interrupt whose handler clears the error and returns.
fn ferr_guest(handler: &[u8]) -> Guest {
    let mut g = guest(Mode::Protected32);
    break_it(&mut g);
    let st = g.st();
    st.cr0 &= !cr0::NE;
    st.set_rflags(eflags::FIXED | eflags::IF);
    g.board.vector = 0x75;
    g.write(HANDLERS + 16 * 0x75, handler);
    g
}

#[test]
fn error_without_ne_asserts_ferr_and_waits_for_the_interrupt() {
    // fnclex; iretd
    let mut g = ferr_guest(&[0xdb, 0xe2, 0xcf]);
    g.fine(&[0xd9, 0xe8]); // fld1
    assert!(!g.board.ferr && !g.st().fpu.pending_exception());
    assert_eq!(g.st().fpu.st(0), F80::ONE);
}

#[test]
fn error_without_ne_and_without_interrupts_freezes() {
    for code in [&[0xd9, 0xe8][..], &[0x9b], &[0x0f, 0x6e, 0xc0]] {
        let mut g = ferr_guest(&[]);
        g.st().set_rflags(eflags::FIXED);
        let before = g.st().fpu;
        g.load(code);
        let rip = g.st().rip;
        let exit = loop {
            match g.cpu.run(&mut g.mem, &mut g.board, 1000) {
                Exit::Attention => {}
                exit => break exit,
            }
        };
        assert_eq!(exit, Exit::Budget);
        assert_eq!((g.st().rip, g.st().fpu), (rip, before));
        assert!(g.board.ferr);
    }
}

#[test]
fn ignne_lets_instructions_run_until_the_error_is_gone() {
    // out 0xf0, al; fld1; fnclex; iretd
    let mut g = ferr_guest(&[0xe6, 0xf0, 0xd9, 0xe8, 0xdb, 0xe2, 0xcf]);
    g.fine(&[0xd9, 0xee]); // fldz
    assert_eq!((g.st().fpu.st(0), g.st().fpu.st(1)), (F80::ZERO, F80::ONE));
    assert!(!g.board.ferr && !g.board.ignne);
}

#[test]
fn non_waiting_instructions_ignore_an_error_without_ne() {
    let mut g = ferr_guest(&[0xf4]);
    // fnstsw ax; fnclex
    g.fine(&[0xdf, 0xe0, 0xdb, 0xe2]);
    assert_eq!(g.gpr(reg::RAX) & 0x84, 0x84);
    assert!(!g.board.ferr);
}

#[test]
fn mmx_instructions_mark_every_register_used_and_set_top() {
    let mut g = guest(Mode::Long);
    // movd mm3, eax
    g.fine(&[0x0f, 0x6e, 0xd8]);
    let fpu = g.st().fpu;
    assert_eq!((fpu.top, fpu.tags, fpu.st[3].sign_exp), (0, 0xff, 0xffff));
    // movd eax, mm3 only reads, and does the same to TOP and tags.
    prepare(&mut g);
    let kept = g.st().fpu.st[3];
    g.fine(&[0x0f, 0x7e, 0xd8]);
    let fpu = g.st().fpu;
    assert_eq!((fpu.top, fpu.tags, fpu.st[3]), (0, 0xff, kept));
    g.fine(&[0x0f, 0x77]);
    assert_eq!(g.st().fpu.tags, 0);
}
