//! Real, unreal, 16-bit protected and virtual-8086 mode; compatibility mode's own rules.

use crate::guest::*;
use aero_cpu::state::{Segment, cr0, eflags, reg, seg};

#[test]
fn real_mode_interrupt_goes_through_the_vector_table() {
    let mut g = Guest::new(Mode::Real);
    g.st().set_rflags(eflags::IF | eflags::CF | 2);
    let t = g.faults(&[0xcd, 0x21], 2, 0x21, None);
    assert_eq!((t.cs, t.flags), (CODE >> 4, eflags::IF | eflags::CF | 2));
    let mut g = Guest::new(Mode::Real);
    g.st().set_rflags(eflags::IF | 2);
    g.load(&[0xcd, 0x21]);
    g.go();
    assert_eq!((g.gpr(reg::RSP), g.st().rflags() & eflags::IF), (STACK - 6, 0));
    // and back by IRET
    let mut g = Guest::new(Mode::Real);
    g.write(HANDLERS + 16 * 0x21, &[0xb0, 0x77, 0xcf]);
    g.st().set_rflags(eflags::IF | 2);
    g.fine(&[0xcd, 0x21, 0x90]);
    assert_eq!((g.gpr(0) & 0xff, g.gpr(reg::RSP), g.st().rflags()), (0x77, STACK, eflags::IF | 2));
}

#[test]
fn real_mode_vector_beyond_the_table_is_gp() {
    let mut g = Guest::new(Mode::Real);
    g.st().idtr.limit = 0x20 * 4 - 1;
    g.faults(&[0xcd, 0x20], 0, 13, None);
    // With no room for #GP either it becomes a double fault.
    let mut g = Guest::new(Mode::Real);
    g.st().idtr.limit = 12 * 4;
    g.faults(&[0xcd, 0x20], 0, 8, None);
}

#[test]
fn real_mode_offsets_wrap_and_straddling_the_end_faults() {
    let mut g = Guest::new(Mode::Real);
    // mov ax, [bx + 2] with BX = 0xffff wraps to 1
    g.write(0, &[0x11, 0x22, 0x33]);
    g.st().segments[usize::from(seg::DS)] = Segment::real(0x3000, 0);
    g.write(DATA, &[0xa1, 0xa2, 0xa3]);
    g.st().set_gpr(reg::RBX, 0xffff);
    g.fine(&[0x8b, 0x47, 0x02]);
    assert_eq!(g.gpr(0) & 0xffff, 0xa3a2);
    g.faults(&[0x8b, 0x07], 0, 13, None); // the word at 0xffff
    g.st().set_gpr(reg::RBP, 0xffff);
    g.faults(&[0x8b, 0x46, 0x00], 0, 12, None); // through SS
    // 32-bit addresses do not wrap: beyond the limit
    g.st().set_gpr(reg::RBX, 0x1_0000);
    g.faults(&[0x67, 0x8b, 0x03], 0, 13, None);
}

#[test]
fn real_mode_stack_wraps_at_64_kib() {
    let mut g = Guest::new(Mode::Real);
    g.st().segments[usize::from(seg::SS)] = Segment::real(0x3000, 0);
    g.st().set_gpr(reg::RSP, 0xabcd_0000);
    g.st().set_gpr(reg::RAX, 0x1234);
    g.fine(&[0x50]);
    assert_eq!(g.gpr(reg::RSP), 0xabcd_fffe);
    assert_eq!(g.read16(DATA + 0xfffe), 0x1234);
}

#[test]
fn real_mode_far_transfers_load_paragraphs() {
    let mut g = Guest::new(Mode::Real);
    // call 0x3000:0x10; there: mov al, 0x55; retf
    g.write(DATA + 0x10, &[0xb0, 0x55, 0xcb]);
    g.fine(&[0x9a, 0x10, 0x00, 0x00, 0x30]);
    assert_eq!((g.gpr(0) & 0xff, g.selector(seg::CS), g.st().rip), (0x55, (CODE >> 4) as u16, 6));
    g.write(DATA + 0x20, &[0xf4]);
    g.load(&[0xea, 0x20, 0x00, 0x00, 0x30]);
    g.go();
    assert_eq!((g.selector(seg::CS), g.st().segments[1].base, g.st().rip), (0x3000, DATA, 0x21));
}

#[test]
fn instruction_pointer_beyond_64_kib_faults_in_real_mode() {
    let mut g = Guest::new(Mode::Real);
    g.st().segments[usize::from(seg::CS)] = Segment::real(0x3000, 0);
    g.write(DATA + 0xffff, &[0x90]);
    g.st().rip = 0xffff;
    let End::Trap(t) = g.go() else { panic!("no fault") };
    assert_eq!(t.vector, 13);
}

#[test]
fn limits_loaded_in_protected_mode_stay_in_real_mode() {
    let mut g = Guest::new(Mode::Real);
    g.write64(GDT + 0x10, descriptor(0, 0xf_ffff, 0x93, 0xc));
    g.write32(0x12_3450, 0xfeed_beef);
    #[rustfmt::skip]
    let code = [
        0x0f, 0x20, 0xc0,             // mov eax, cr0
        0x0c, 0x01,                   // or al, 1
        0x0f, 0x22, 0xc0,             // mov cr0, eax
        0xbb, 0x10, 0x00,             // mov bx, 0x10
        0x8e, 0xdb,                   // mov ds, bx
        0x24, 0xfe,                   // and al, 0xfe
        0x0f, 0x22, 0xc0,             // mov cr0, eax
        0x31, 0xdb,                   // xor bx, bx
        0x8e, 0xdb,                   // mov ds, bx
        0x67, 0x66, 0xa1, 0x50, 0x34, 0x12, 0x00, // mov eax, [0x123450]
    ];
    g.fine(&code);
    assert_eq!(g.gpr(0), 0xfeed_beef);
    assert!(!g.st().protected());
}

#[test]
fn entering_and_leaving_protected_mode_by_far_jumps() {
    let mut g = Guest::new(Mode::Real);
    g.write64(GDT + 0x08, descriptor(0, 0xf_ffff, 0x9b, 0xc));
    g.write64(GDT + 0x18, descriptor(CODE, 0xffff, 0x9b, 0));
    #[rustfmt::skip]
    let code = [
        0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0,       // set CR0.PE
        0x66, 0xea, 0x10, 0x00, 0x01, 0x00, 0x08, 0x00,       // jmp 0x08:0x10010
        0xbb, 0x78, 0x56, 0x34, 0x12,                         // mov ebx, 0x12345678 (32-bit code)
        0xea, 0x1c, 0x00, 0x00, 0x00, 0x18, 0x00,             // jmp 0x18:0x1c
        0x24, 0xfe, 0x0f, 0x22, 0xc0,                         // clear CR0.PE (16-bit code)
        0xea, 0x26, 0x00, 0x00, 0x10,                         // jmp 0x1000:0x26
        0xb9, 0x34, 0x12,                                     // mov cx, 0x1234
    ];
    g.fine(&code);
    assert_eq!((g.gpr(reg::RBX), g.gpr(reg::RCX) & 0xffff), (0x1234_5678, 0x1234));
    assert_eq!((g.selector(seg::CS), g.st().cr0 & cr0::PE), (0x1000, 0));
}

#[test]
fn protected_16_bit_code_uses_16_bit_sizes_and_prefixes_widen() {
    let mut g = Guest::new(Mode::Protected16);
    g.st().set_gpr(reg::RAX, 0xaaaa_0000);
    g.fine(&[0xb8, 0x34, 0x12, 0x66, 0xbb, 0x78, 0x56, 0x34, 0x12]);
    assert_eq!((g.gpr(reg::RAX), g.gpr(reg::RBX)), (0xaaaa_1234, 0x1234_5678));
    // A 16-bit stack keeps the upper half of ESP.
    g.st().set_gpr(reg::RSP, 0x5555_0002);
    g.fine(&[0x66, 0x58]);
    assert_eq!(g.gpr(reg::RSP), 0x5555_0006);
    // Interrupts through 32-bit gates push dwords onto it.
    let mut g = Guest::new(Mode::Protected16);
    g.faults(&[0x90, 0x0f, 0x0b], 1, 6, None);
}

const VM: u64 = eflags::VM;

/// Enters VM86 mode at CS = `CODE >> 4` with the given flags, where `code` lies.
fn vm86(flags: u64, code: &[u8]) -> Guest {
    let mut g = Guest::new(Mode::Protected32);
    g.load(&[0xcf]);
    g.write(CODE + 0x100, code);
    let frame = [0x100, CODE >> 4, flags | VM | 2, 0xff00, USER_STACK >> 4, 0x1111, 0x3000, 0x3333, 0x4444];
    let sp = STACK - 36;
    for (i, value) in frame.iter().enumerate() {
        g.write32(sp + 4 * i as u64, *value as u32);
    }
    g.st().set_gpr(reg::RSP, sp);
    g
}

#[track_caller]
fn vm86_trap(flags: u64, code: &[u8]) -> (Guest, Trap) {
    let mut g = vm86(flags, code);
    match g.go() {
        End::Trap(t) => (g, t),
        other => panic!("{other:x?}"),
    }
}

#[test]
fn iret_enters_vm86_and_an_interrupt_leaves_it() {
    // mov al, [0] through DS = 0x3000; int 0x21
    let mut g = vm86(eflags::IOPL | eflags::IF, &[0xa0, 0x00, 0x00, 0xcd, 0x21]);
    g.write(DATA, &[0x5a]);
    let End::Trap(t) = g.go() else { panic!("no trap") };
    assert_eq!((t.vector, t.ip, t.cs, t.stack), (0x21, 0x105, CODE >> 4, Some((0xff00, USER_STACK >> 4))));
    assert_eq!(t.flags, VM | eflags::IOPL | eflags::IF | 2);
    assert_eq!(g.gpr(0) & 0xff, 0x5a);
    // The frame above: ES, DS, FS, GS; the registers themselves are null now.
    let sp = g.gpr(reg::RSP);
    assert_eq!(sp, TSS_STACK - 36);
    let above: Vec<u32> = (5..9).map(|n| g.read32(sp + 4 * n)).collect();
    assert_eq!(above, [0x1111, 0x3000, 0x3333, 0x4444]);
    for n in [seg::ES, seg::DS, seg::FS, seg::GS] {
        assert_eq!((g.selector(n), g.st().segments[usize::from(n)].present()), (0, false));
    }
    assert_eq!((g.st().cpl, g.selector(seg::CS), g.selector(seg::SS)), (0, CS0, DS0));
    assert_eq!(g.st().rflags() & (VM | eflags::IF), 0);
}

#[test]
fn vm86_with_low_iopl_faults_on_flag_instructions() {
    for code in [&[0xfa][..], &[0xfb], &[0x9c], &[0x9d], &[0xcd, 0x21], &[0xcf], &[0x66, 0x9c]] {
        let (_, t) = vm86_trap(0, code);
        assert_eq!((t.vector, t.error, t.ip), (13, Some(0), 0x100), "{code:02x?}");
    }
    // INT3 and INTO are not subject to it.
    let (_, t) = vm86_trap(0, &[0xcc]);
    assert_eq!((t.vector, t.ip), (3, 0x101));
    let (_, t) = vm86_trap(eflags::OF, &[0xce]);
    assert_eq!((t.vector, t.ip), (4, 0x101));
}

#[test]
fn vm86_refuses_privileged_and_protected_mode_instructions() {
    for code in [&[0xf4][..], &[0x0f, 0x20, 0xc0], &[0x0f, 0x06], &[0x0f, 0x01, 0x16, 0, 0], &[0x0f, 0x32]] {
        let (_, t) = vm86_trap(eflags::IOPL, code);
        assert_eq!((t.vector, t.error), (13, Some(0)), "{code:02x?}");
    }
    for code in [&[0x0f, 0x00, 0xc0][..], &[0x0f, 0x00, 0xd8], &[0x0f, 0x02, 0xc0], &[0x63, 0xc0]] {
        let (_, t) = vm86_trap(eflags::IOPL, code);
        assert_eq!(t.vector, 6, "{code:02x?}");
    }
}

#[test]
fn vm86_ports_go_by_the_bitmap_whatever_the_iopl() {
    for iopl in [0, eflags::IOPL] {
        let mut g = vm86(iopl, &[0xe4, 0x60, 0xe4, 0x61]);
        g.write(TSS + 0x66, &0x68u16.to_le_bytes());
        g.write(TSS + 0x68, &[0; 0x20]);
        g.write(TSS + 0x68 + 0x0c, &[0x02]); // port 0x61
        let End::Trap(t) = g.go() else { panic!("no trap") };
        assert_eq!((t.vector, t.error, t.ip), (13, Some(0), 0x102));
    }
}

#[test]
fn vm86_iret_and_popf_keep_iopl_and_vm() {
    // push 0; popf; pushf; pop ax; int 0x21
    let (g, t) = vm86_trap(eflags::IOPL | eflags::IF, &[0x6a, 0, 0x9d, 0x9c, 0x58, 0xcd, 0x21]);
    assert_eq!(g.gpr(0) & 0xffff, eflags::IOPL | 2);
    assert_eq!(t.flags, VM | eflags::IOPL | 2);
    // pushf; push cs; push 0x108; iret -> int 0x21
    let code = [0x9c, 0x0e, 0x68, 0x08, 0x01, 0xcf, 0xf4, 0xf4, 0xcd, 0x21];
    let (_, t) = vm86_trap(eflags::IOPL | eflags::IF, &code);
    assert_eq!((t.vector, t.ip, t.flags), (0x21, 0x10a, VM | eflags::IOPL | eflags::IF | 2));
}

#[test]
fn vm86_gate_must_lead_to_cpl_0() {
    let mut g = vm86(eflags::IOPL, &[0xcd, 0x21]);
    g.set_gate(0x21, CS3, HANDLERS, 0xee);
    let End::Trap(t) = g.go() else { panic!("no trap") };
    assert_eq!((t.vector, t.error), (13, Some(u64::from(CS3 & !3))));
}

#[test]
fn iret_to_vm86_beyond_64_kib_is_gp() {
    let mut g = vm86(0, &[]);
    g.write32(STACK - 36, 0x1_0000);
    let End::Trap(t) = g.go() else { panic!("no trap") };
    assert_eq!((t.vector, t.error, t.ip), (13, Some(0), CODE));
}

#[test]
fn compatibility_mode_truncates_addresses_and_pushes_64_bit_frames() {
    let mut g = Guest::new(Mode::Compatibility);
    // [ebx + 8] wraps at 4 GiB
    g.st().set_gpr(reg::RBX, 0xffff_ffff_ffff_fffc);
    g.write32(HANDLERS + 4, 0);
    g.fine(&[0x8b, 0x83, 0x04, 0x00, 0x03, 0x00]);
    let t = g.faults(&[0xcd, 0x21], 2, 0x21, None);
    assert_eq!((t.cs, t.stack), (u64::from(CS32), Some((STACK, u64::from(DS0)))));
    // Segment limits count.
    g.st().segments[usize::from(seg::DS)].limit = 0xfff;
    g.faults(&load_eax(DATA), 0, 13, Some(0));
}

#[test]
fn long_mode_frames_are_aligned_and_ignore_data_segments() {
    let mut g = Guest::new(Mode::Long);
    g.st().set_gpr(reg::RSP, STACK - 5);
    g.load(&[0xcd, 0x21]);
    let End::Trap(t) = g.go() else { panic!("no trap") };
    assert_eq!(t.stack, Some((STACK - 5, DS0.into())));
    assert_eq!(g.gpr(reg::RSP), STACK - 16 - 40);
    // A null DS, or one with a small limit, does not matter in 64-bit mode.
    let mut g = Guest::new(Mode::Long);
    g.st().segments[usize::from(seg::DS)] = Segment::default();
    g.fine(&load_eax(DATA));
}

#[test]
fn interrupt_stack_table_switches_without_privilege_change() {
    let mut g = Guest::new(Mode::Long);
    g.set_ist(0x21);
    g.load(&[0xcd, 0x21]);
    let End::Trap(t) = g.go() else { panic!("no trap") };
    assert_eq!((g.gpr(reg::RSP), t.stack), (TSS_STACK - 40, Some((STACK, DS0.into()))));
    // From CPL 3 as well; SS becomes null with RPL 0.
    let mut g = Guest::user(Mode::Long);
    g.set_ist(0x21);
    g.write64(TSS + 4, 0x1234_5678);
    g.load(&[0xcd, 0x21]);
    let End::Trap(t) = g.go() else { panic!("no trap") };
    assert_eq!((g.gpr(reg::RSP), t.stack), (TSS_STACK - 40, Some((USER_STACK, DS3.into()))));
    assert_eq!((g.selector(seg::SS), g.st().cpl), (0, 0));
}
