//! VM86 mode with its extensions (VME), protected-mode virtual interrupts (PVI), the I/O permission bitmap.

use crate::guest::*;
use aero_cpu::state::{cr4, eflags, reg, seg};

const VM: u64 = eflags::VM;
const VIF: u64 = eflags::VIF;
const VIP: u64 = eflags::VIP;
const IF: u64 = eflags::IF;
const TF: u64 = eflags::TF;
const IOPL: u64 = eflags::IOPL;

/// A guest that enters VM86 mode at CS = `CODE >> 4` with `flags`, under VME, and runs `code` there. The redirection
/// bitmap lies at TSS + 0x68, all ones, the I/O bitmap behind it.
fn guest(flags: u64, code: &[u8]) -> Guest {
    let mut g = Guest::new(Mode::Protected32);
    g.st().cr4 |= cr4::VME;
    g.write(TSS + 0x66, &0x88u16.to_le_bytes());
    g.write(TSS + 0x68, &[0xff; 0x120]);
    g.load(&[0xcf]);
    g.write(CODE + 0x100, code);
    let frame = [0x100, CODE >> 4, flags | VM | 2, 0xff00, USER_STACK >> 4, 0, 0x3000, 0, 0];
    let sp = STACK - 36;
    for (i, value) in frame.iter().enumerate() {
        g.write32(sp + 4 * i as u64, *value as u32);
    }
    g.st().set_gpr(reg::RSP, sp);
    g
}

#[track_caller]
fn trap(mut g: Guest) -> (Guest, Trap) {
    match g.go() {
        End::Trap(t) => (g, t),
        other => panic!("{other:x?}"),
    }
}

/// Runs `code` and then INT3, and returns the flags that it pushes.
#[track_caller]
fn flags_after(flags: u64, code: &[u8]) -> (Guest, u64) {
    let (g, t) = trap(guest(flags, &[code, &[0xcc]].concat()));
    assert_eq!((t.vector, t.ip), (3, 0x101 + code.len() as u64), "{code:02x?}");
    (g, t.flags)
}

#[track_caller]
fn gp(flags: u64, code: &[u8], at: u64) {
    let (_, t) = trap(guest(flags, code));
    assert_eq!((t.vector, t.error, t.ip), (13, Some(0), 0x100 + at), "{code:02x?}");
}

#[test]
fn cli_and_sti_change_vif_below_iopl_3_and_if_at_iopl_3() {
    assert_eq!(flags_after(VIF | IF, &[0xfa]).1, VM | IF | 2);
    assert_eq!(flags_after(IF, &[0xfb]).1, VM | IF | VIF | 2);
    assert_eq!(flags_after(IOPL | IF | VIF, &[0xfa]).1, VM | IOPL | VIF | 2);
    assert_eq!(flags_after(IOPL | VIP, &[0xfb]).1, VM | IOPL | IF | VIP | 2);
    gp(VIP | IF, &[0xfb], 0);
    assert_eq!(flags_after(VIP | IF, &[0xfa]).1, VM | VIP | IF | 2);
}

#[test]
fn pushf_shows_vif_as_if_and_iopl_as_3() {
    // pushf; pop ax
    for (flags, want) in [(VIF, IF | IOPL | 2), (IF, IOPL | 2), (VIF | IF | eflags::CF, IF | IOPL | 3)] {
        let (g, _) = flags_after(flags, &[0x9c, 0x58]);
        assert_eq!(g.gpr(0) & 0xffff, want, "{flags:#x}");
    }
    let (g, _) = flags_after(IOPL | VIF, &[0x9c, 0x58]);
    assert_eq!(g.gpr(0) & 0xffff, IOPL | 2);
    gp(IF, &[0x66, 0x9c], 0);
    gp(IF, &[0x66, 0x9d], 0);
    gp(IF, &[0x66, 0xcf], 0);
}

#[test]
fn popf_moves_if_to_vif() {
    let popf = |value: u16| [&[0x68][..], &value.to_le_bytes(), &[0x9d]].concat();
    assert_eq!(flags_after(0, &popf(0x202)).1, VM | VIF | 2);
    assert_eq!(flags_after(VIF | IF, &popf(0x0803)).1, VM | IF | 0x803);
    assert_eq!(flags_after(0, &popf(0x7002)).1, VM | 0x4002, "NT changes, IOPL does not");
    gp(VIP, &popf(0x202), 3);
    gp(0, &popf(0x102), 3);
    assert_eq!(flags_after(VIP, &popf(2)).1, VM | VIP | 2);
}

#[test]
fn virtual_interrupt_that_waits_where_they_are_enabled_is_gp_before_the_first_instruction() {
    for code in [0xfa, 0x90, 0x9c] {
        gp(VIP | VIF, &[code], 0);
    }
    // Not without VME.
    let mut g = guest(VIP | VIF, &[0xcc]);
    g.st().cr4 &= !cr4::VME;
    assert_eq!(trap(g).1.vector, 3);
}

#[test]
fn iret_moves_if_to_vif() {
    // push flags; push cs; push 0x108; iret; (0x108) int3
    let code =
        |flags: u16| [&[0x68][..], &flags.to_le_bytes(), &[0x0e, 0x68, 0x08, 0x01, 0xcf, 0xcc]].concat();
    let (_, t) = trap(guest(IF, &code(0x203)));
    assert_eq!((t.vector, t.ip, t.flags), (3, 0x109, VM | IF | VIF | 3));
    let (_, t) = trap(guest(VIF, &code(2)));
    assert_eq!((t.ip, t.flags), (0x109, VM | 2));
    gp(VIP, &code(0x202), 7);
    gp(0, &code(0x102), 7);
}

#[test]
fn int_n_goes_to_the_8086_program_where_the_bitmap_is_clear() {
    for (flags, pushed, after) in [
        (VIF | eflags::CF, IF | IOPL | 3, VM | 3),
        (IF, IOPL | 2, VM | IF | 2),
        (IOPL | IF | VIF, IOPL | IF | 2, VM | IOPL | VIF | 2),
    ] {
        let mut g = guest(flags, &[0xcd, 0x21]);
        g.write(TSS + 0x68 + 4, &[0xfd]);
        // The vector leads to CODE + 0x200: an INT3
        g.write32(0x21 * 4, (CODE as u32 >> 4) << 16 | 0x200);
        g.write(CODE + 0x200, &[0xcc]);
        let (g, t) = trap(g);
        assert_eq!((t.vector, t.ip, t.flags), (3, 0x201, after), "{flags:#x}");
        assert_eq!(t.stack, Some((0xff00 - 6, USER_STACK >> 4)));
        let frame: Vec<u64> = (0..3).map(|n| g.read16((USER_STACK & !15) + 0xfefa + 2 * n).into()).collect();
        assert_eq!(frame, [0x102, CODE >> 4, pushed], "{flags:#x}");
    }
    // Through the IDT where it is set, if IOPL allows.
    gp(0, &[0xcd, 0x21], 0);
    let (_, t) = trap(guest(IOPL, &[0xcd, 0x21]));
    assert_eq!((t.vector, t.ip), (0x21, 0x102));
}

#[test]
fn redirection_bitmap_beyond_the_tss_limit_is_gp() {
    let mut g = guest(IOPL, &[0xcd, 0x21]);
    g.write(TSS + 0x66, &0xffffu16.to_le_bytes());
    let (_, t) = trap(g);
    assert_eq!((t.vector, t.error, t.ip), (13, Some(0), 0x100));
}

#[test]
fn int3_is_never_redirected() {
    let mut g = guest(0, &[0xcc]);
    g.write(TSS + 0x68, &[0; 32]);
    let (_, t) = trap(g);
    assert_eq!((t.vector, t.ip), (3, 0x101));
    let mut g = guest(0, &[0xcd, 0x03]);
    g.write(TSS + 0x68, &[0; 32]);
    g.write32(12, (CODE as u32 >> 4) << 16 | 0x200);
    g.write(CODE + 0x200, &[0x0f, 0x0b]);
    let (_, t) = trap(g);
    assert_eq!((t.vector, t.ip), (6, 0x200));
}

#[test]
fn pvi_gives_cpl_3_a_virtual_interrupt_flag() {
    for mode in [Mode::Protected32, Mode::Long] {
        let run = |flags: u64, code: &[u8]| {
            let mut g = Guest::user(mode);
            g.st().cr4 |= cr4::PVI;
            g.st().set_rflags(flags | 2);
            let t = g.trap(&[code, &[0xcc]].concat());
            (t.vector, t.flags & !eflags::RF)
        };
        assert_eq!(run(IF, &[0xfb]), (3, IF | VIF | 2));
        assert_eq!(run(IF | VIF, &[0xfa]), (3, IF | 2));
        assert_eq!(run(IF | VIP, &[0xfb]).0, 13);
        assert_eq!(run(IOPL | IF | VIF, &[0xfa]), (3, IOPL | VIF | 2));
        // PUSHF and POPF know nothing of it.
        assert_eq!(run(VIF, &[0x9c, 0x9d]), (3, VIF | 2));
        let mut g = Guest::user(mode);
        g.faults(&[0xfb], 0, 13, Some(0));
    }
}

#[test]
fn ports_need_every_bit_of_the_bitmap_and_its_terminator() {
    for mode in [Mode::Protected32, Mode::Long] {
        let mut g = Guest::user(mode);
        g.write(TSS + 0x66, &0x68u16.to_le_bytes());
        g.write(TSS + 0x68, &[0; 0x20]);
        g.write(TSS + 0x68 + 1, &[0x01]); // port 8
        let ok = |g: &mut Guest, code: &[u8], fine: bool| {
            let t = g.trap(&[code, &[0xcc]].concat());
            assert_eq!(t.vector, if fine { 3 } else { 13 }, "{mode:?} {code:02x?}");
        };
        ok(&mut g, &[0xe4, 7], true);
        ok(&mut g, &[0xe4, 8], false);
        ok(&mut g, &[0x66, 0xe5, 7], false); // word over the byte's end
        ok(&mut g, &[0xe5, 4], true);
        ok(&mut g, &[0xe5, 5], false);
        ok(&mut g, &[0xe7, 9], true);
        // Two bytes are read, whatever the width: the last byte in the limit serves nobody.
        g.st().tr.limit = 0x68 + 2;
        ok(&mut g, &[0xe4, 9], true);
        ok(&mut g, &[0xe4, 16], false);
        g.st().tr.limit = 0x66;
        ok(&mut g, &[0xe4, 7], false);
    }
    // A 16-bit TSS has no bitmap.
    let mut g = Guest::user(Mode::Protected32);
    g.write(TSS + 0x66, &0x68u16.to_le_bytes());
    g.write(TSS + 0x68, &[0; 0x20]);
    g.st().tr.attributes = 0x83;
    g.write(TSS + 2, &(TSS_STACK as u16).to_le_bytes());
    g.write(TSS + 4, &DS0.to_le_bytes());
    g.faults(&[0xe4, 7], 0, 13, Some(0));
}

#[test]
fn umip_in_vm86_mode_comes_after_undefined_instructions() {
    for (code, vector) in [
        (&[0x0f, 0x01, 0x06, 0, 0][..], 13), // sgdt
        (&[0x0f, 0x01, 0xe0][..], 13),       // smsw ax
        (&[0x0f, 0x00, 0xc0][..], 6),        // sldt ax
    ] {
        let mut g = guest(IOPL, code);
        g.st().cr4 |= cr4::UMIP;
        assert_eq!(trap(g).1.vector, vector, "{code:02x?}");
    }
}

#[test]
fn trap_flag_survives_a_redirected_interrupt_on_the_stack_only() {
    // Under IOPL 3, TF set by POPF: INT clears it for the routine, which returns with it.
    let mut g = guest(IOPL | TF, &[0xcd, 0x21, 0x90]);
    g.write(TSS + 0x68 + 4, &[0xfd]);
    g.write32(0x21 * 4, (CODE as u32 >> 4) << 16 | 0x200);
    g.write(CODE + 0x200, &[0x90, 0xcf]);
    let (g, t) = trap(g);
    assert_eq!((t.vector, t.ip, t.flags & TF), (1, 0x103, TF));
    assert_eq!(g.selector(seg::CS), CS0);
}
