//! Control registers, MSRs, descriptor-table registers, selector inspection, the local APIC as software sees it.

use crate::guest::*;
use aero_cpu::state::{cr0, cr4, efer, eflags, reg, seg};

/// `mov cr<n>, eax` with a value (32-bit).
fn set_cr(n: u8, value: u32) -> Vec<u8> {
    [&mov(0, value)[..], &[0x0f, 0x22, 0xc0 | n << 3]].concat()
}

fn msr(n: u32, value: u64) -> Vec<u8> {
    [&mov(1, n)[..], &mov(0, value as u32), &mov(2, (value >> 32) as u32), &[0x0f, 0x30]].concat()
}

/// Offset of the WRMSR in [`msr`].
const WRMSR: u64 = 15;

#[test]
fn illegal_cr0_values_are_gp_0() {
    for mode in [Mode::Protected32, Mode::Paged32, Mode::Long, Mode::Compatibility] {
        let mut g = Guest::new(mode);
        let (before, on) = (g.st().cr0, g.st().cr0 as u32);
        for value in [0x8000_0010, on | cr0::NW as u32, on & !1 | 0x8000_0000] {
            g.faults(&set_cr(0, value), 5, 13, Some(0));
            assert_eq!(g.st().cr0, before);
        }
    }
    let mut g = Guest::new(Mode::Long);
    g.faults(&set_cr(0, 0x11), 5, 13, Some(0)); // paging off in 64-bit mode
    // mov rax, 1 << 32 | cr0; mov cr0, rax
    g.faults(&[0x48, 0xb8, 0x11, 0, 0, 0x80, 1, 0, 0, 0, 0x0f, 0x22, 0xc0], 10, 13, Some(0));
    // Reserved bits below 32 are ignored; ET stays set.
    let mut g = Guest::new(Mode::Protected32);
    g.fine(&set_cr(0, 0x1000_0001));
    assert_eq!(g.st().cr0, cr0::PE | cr0::ET);
}

#[test]
fn illegal_cr4_values_are_gp_0() {
    for mode in [Mode::Protected32, Mode::Long] {
        let mut g = Guest::new(mode);
        let base = g.st().cr4 as u32;
        for bit in [12, 13, 14, 15, 19, 23, 31] {
            g.faults(&set_cr(4, base | 1 << bit), 5, 13, Some(0));
        }
        g.fine(&set_cr(4, base | (cr4::PGE | cr4::TSD | cr4::DE) as u32));
    }
    let mut g = Guest::new(Mode::Long);
    g.faults(&set_cr(4, cr4::OSFXSR as u32), 5, 13, Some(0)); // PAE off
}

#[test]
fn control_registers_that_do_not_exist_are_ud() {
    for mode in [Mode::Protected32, Mode::Long] {
        let mut g = Guest::new(mode);
        for n in [1, 5, 6, 7] {
            g.faults(&[0x0f, 0x20, 0xc0 | n << 3], 0, 6, None);
            g.faults(&[0x0f, 0x22, 0xc0 | n << 3], 0, 6, None);
        }
        // DR4 and DR5 are DR6 and DR7, until DE.
        g.fine(&[0x0f, 0x21, 0xe0]);
        assert_eq!(g.gpr(0), 0xffff_0ff0);
        g.st().cr4 |= cr4::DE;
        g.faults(&[0x0f, 0x21, 0xe0], 0, 6, None);
    }
}

#[test]
fn cr3_beyond_the_physical_address_is_gp() {
    let mut g = Guest::new(Mode::Long);
    g.faults(&[0x48, 0xb8, 0, 0, 2, 0, 0x10, 0, 0, 0, 0x0f, 0x22, 0xd8], 10, 13, Some(0));
}

#[test]
fn long_mode_is_entered_by_paging_with_lme() {
    let on = [&set_cr(3, TABLES as u32)[..], &msr(0xc000_0080, efer::LME)].concat();
    // Paging without PAE is refused.
    let mut g = Guest::new(Mode::Protected32);
    g.faults(&[&on[..], &set_cr(0, 0x8000_0011)].concat(), on.len() as u64 + 5, 13, Some(0));
    // The tables of a long-mode guest, from 32-bit protected mode
    let mut g = Guest::new(Mode::Long);
    let raw = g.descriptor_of(CS32);
    g.st().segments[usize::from(seg::CS)] = segment(CS32, raw);
    g.st().cr0 = cr0::PE | cr0::ET;
    g.st().cr4 = 0;
    g.st().cr3 = 0;
    g.st().msr.efer = 0;
    let on = [&set_cr(4, cr4::PAE as u32)[..], &on, &set_cr(0, 0x8000_0011)].concat();
    let jump = [&[0xea][..], &(CODE as u32 + on.len() as u32 + 7).to_le_bytes(), &CS0.to_le_bytes()].concat();
    g.fine(&[&on[..], &jump, &[0x48, 0xc7, 0xc3, 0xff, 0xff, 0xff, 0xff]].concat()); // mov rbx, -1
    assert_eq!(g.gpr(reg::RBX), u64::MAX);
    assert_eq!(g.st().msr.efer, efer::LME | efer::LMA);
    // LME cannot change while paging is on; LMA follows paging.
    g.faults(&msr(0xc000_0080, 0), WRMSR, 13, Some(0));
}

#[test]
fn efer_refuses_reserved_bits() {
    let mut g = Guest::new(Mode::Long);
    for bit in [1, 9, 12, 13, 63] {
        let value = g.st().msr.efer | 1 << bit;
        g.faults(&msr(0xc000_0080, value), WRMSR, 13, Some(0));
    }
    g.fine(&msr(0xc000_0080, efer::LME | efer::NXE));
    assert_eq!(g.st().msr.efer, efer::LME | efer::LMA | efer::NXE);
}

#[test]
fn address_registers_must_be_canonical() {
    let mut g = Guest::new(Mode::Long);
    for n in [0x175, 0x176, 0xc000_0082, 0xc000_0083, 0xc000_0100, 0xc000_0101, 0xc000_0102] {
        g.faults(&msr(n, 1 << 47), WRMSR, 13, Some(0));
        g.fine(&msr(n, 0xffff_8000_0000_1000));
        g.fine(&[&mov(1, n)[..], &[0x0f, 0x32]].concat());
        assert_eq!((g.gpr(reg::RAX), g.gpr(reg::RDX)), (0x1000, 0xffff_8000));
    }
    g.faults(&msr(0x277, 0x0203), WRMSR, 13, Some(0)); // PAT types 2 and 3
    g.fine(&msr(0x277, 0x0007_0106_0007_0106));
}

#[test]
fn time_stamp_counter_runs_and_can_be_reserved_for_cpl_0() {
    for mode in [Mode::Protected32, Mode::Long] {
        let mut g = Guest::new(mode);
        g.fine(&[0x0f, 0x31, 0x89, 0xc3, 0x90, 0x90, 0x0f, 0x31]);
        assert!(g.gpr(reg::RAX) > g.gpr(reg::RBX));
        let mut g = Guest::user(mode);
        g.faults(&[0x0f, 0x31], 2, 13, Some(0)); // the HLT
        g.st().cr4 |= cr4::TSD;
        g.faults(&[0x0f, 0x31], 0, 13, Some(0));
    }
}

#[test]
fn descriptor_table_registers_store_and_load() {
    let at = |opcode: u8| [&[0x0f, 0x01, opcode, 0x25][..], &(DATA as u32).to_le_bytes()].concat();
    let mut g = Guest::new(Mode::Protected32);
    g.fine(&[0x0f, 0x01, 0x05, 0, 0, 3, 0]); // sgdt [DATA]
    assert_eq!(g.bytes::<8>(DATA), [0xff, 0, 0, 0x10, 0, 0, 0, 0]);
    g.fine(&[0x0f, 0x01, 0x0d, 0, 0, 3, 0]); // sidt
    assert_eq!(g.bytes::<8>(DATA), [0xff, 0x0f, 0, 0x20, 0, 0, 0, 0]);
    // lgdt with a 16-bit operand keeps 24 bits.
    g.write(DATA, &[0x34, 0x12, 0x44, 0x33, 0x22, 0x11]);
    g.fine(&[0x66, 0x0f, 0x01, 0x15, 0, 0, 3, 0]);
    assert_eq!((g.st().gdtr.base, g.st().gdtr.limit), (0x22_3344, 0x1234));
    g.fine(&[0x0f, 0x01, 0x15, 0, 0, 3, 0]);
    assert_eq!(g.st().gdtr.base, 0x1122_3344);
    let mut g = Guest::new(Mode::Long);
    g.write(DATA, &[0xa5; 12]);
    g.fine(&at(0x04));
    assert_eq!(g.bytes::<12>(DATA), [0xff, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0xa5, 0xa5]);
    g.write64(DATA + 2, 0x0000_9000_0000_0000);
    g.faults(&at(0x14), 0, 13, Some(0));
    assert_eq!(g.st().gdtr.base, GDT);
}

#[test]
fn task_and_local_table_registers_are_checked() {
    let mut g = Guest::new(Mode::Protected32);
    let with = |selector: u16, modrm: u8| [&mov(0, selector.into())[..], &[0x0f, 0x00, modrm]].concat();
    const LLDT: u8 = 0xd0;
    const LTR: u8 = 0xd8;
    g.fine(&with(LDTR, LLDT));
    assert_eq!((g.st().ldtr.selector, g.st().ldtr.base, g.st().ldtr.limit), (LDTR, LDT, 0xff));
    g.fine(&[0x0f, 0x00, 0xc3]); // sldt ebx
    assert_eq!(g.gpr(reg::RBX), LDTR.into());
    g.fine(&with(0, LLDT));
    g.faults(&with(DS0, LLDT), 5, 13, Some(DS0.into()));
    g.faults(&with(LDTR | 4, LLDT), 5, 13, Some(u64::from(LDTR | 4)));
    g.faults(&with(TR, LTR), 5, 13, Some(TR.into())); // busy
    g.faults(&with(0, LTR), 5, 13, Some(0));
    g.fine(&with(TR2, LTR));
    assert_eq!((g.st().tr.base, g.descriptor_of(TR2) >> 40 & 0xff), (TSS2, 0x8b));
    g.set_gdt(TR2, descriptor(TSS2, 0x67, 0x09, 0));
    g.faults(&with(TR2, LTR), 5, 11, Some(TR2.into()));
    // Long mode reads 16 bytes.
    let mut g = Guest::new(Mode::Long);
    g.set_gdt(TR2, descriptor(TSS2, 0x67, 0x89, 0));
    g.write64(GDT + u64::from(TR2) + 8, 0xffff_8000);
    g.fine(&with(TR2, LTR));
    assert_eq!(g.st().tr.base, 0xffff_8000_0000_0000 | TSS2);
}

#[test]
fn system_descriptor_across_the_end_of_its_table_is_a_protection_fault_even_if_absent() {
    let with = |selector: u16, modrm: u8| [&mov(0, selector.into())[..], &[0x0f, 0x00, modrm]].concat();
    for (selector, access, modrm) in [(TR2, 0x09, 0xd8), (LDTR, 0x02, 0xd0)] {
        let mut g = Guest::new(Mode::Long);
        g.set_gdt(selector, descriptor(DATA, 0x67, access, 0));
        g.write64(GDT + u64::from(selector) + 8, 0);
        g.faults(&with(selector, modrm), 5, 11, Some(selector.into()));
        g.st().gdtr.limit = selector + 14;
        g.faults(&with(selector, modrm), 5, 13, Some(selector.into()));
    }
}

#[test]
fn lar_and_lsl_look_at_what_the_level_may_see() {
    let lar = |selector: u16| [&mov(1, selector.into())[..], &mov(0, 0x5555), &[0x0f, 0x02, 0xc1]].concat();
    let lsl = |selector: u16| [&mov(1, selector.into())[..], &mov(0, 0x5555), &[0x0f, 0x03, 0xc1]].concat();
    let mut g = Guest::new(Mode::Protected32);
    let mut check = |code: Vec<u8>, value: Option<u64>| {
        g.fine(&code);
        assert_eq!(g.gpr(0), value.unwrap_or(0x5555), "{code:02x?}");
        assert_eq!(g.st().rflags() & eflags::ZF != 0, value.is_some());
    };
    check(lar(CS0), Some(0x00c0_9b00));
    check(lar(DS3), Some(0x00c0_f300));
    check(lar(DS0 | 3), None); // RPL above DPL
    check(lar(CONFORMING | 3), Some(0x00c0_9f00));
    check(lar(0), None);
    check(lar(0x108), None);
    check(lar(TR2), Some(0x8900));
    check(lsl(CS0), Some(0xffff_ffff));
    check(lsl(CS16), Some(0xffff));
    check(lsl(TR), Some(0x1ff));
    check(lsl(LDTR), Some(0xff));
    g.write64(GDT + u64::from(GATE), gate(CS0, 0, 0x8c, 0));
    let mut check = |code: Vec<u8>, found: bool| {
        g.fine(&code);
        assert_eq!(g.st().rflags() & eflags::ZF != 0, found);
    };
    check(lar(GATE), true);
    check(lsl(GATE), false);
    let mut g = Guest::user(Mode::Protected32);
    g.st().set_gpr(0, 0);
    let t = g.faults(&lar(DS0), 13, 13, Some(0));
    assert_eq!(t.flags & eflags::ZF, 0);
}

#[test]
fn verr_and_verw_tell_readable_from_writable() {
    let mut g = Guest::new(Mode::Protected32);
    g.set_gdt(FREE, descriptor(0, 0xf_ffff, 0x99, 0xc)); // execute-only
    for (selector, read, write) in [
        (DS0, true, true),
        (READ_ONLY, true, false),
        (CS0, true, false),
        (FREE, false, false),
        (DS0 | 3, false, false),
        (TR, false, false),
        (0, false, false),
        (CONFORMING | 3, true, false),
    ] {
        for (modrm, expected) in [(0xe0, read), (0xe8, write)] {
            g.fine(&[&mov(0, selector.into())[..], &[0x0f, 0x00, modrm]].concat());
            assert_eq!(g.st().rflags() & eflags::ZF != 0, expected, "{selector:#x} {modrm:#x}");
        }
    }
}

#[test]
fn arpl_raises_the_requested_level() {
    let mut g = Guest::new(Mode::Protected32);
    g.fine(&[&mov(0, 0x1230)[..], &mov(1, 3), &[0x63, 0xc8]].concat());
    assert_eq!((g.gpr(0), g.st().rflags() & eflags::ZF), (0x1233, eflags::ZF));
    g.fine(&[&mov(0, 0x1233)[..], &mov(1, 1), &[0x63, 0xc8]].concat());
    assert_eq!((g.gpr(0), g.st().rflags() & eflags::ZF), (0x1233, 0));
}

// checklist: 14
#[test]
fn local_apic_answers_in_its_page_and_cr8_is_its_priority() {
    for mode in [Mode::Protected32, Mode::Long] {
        let mut g = Guest::new(mode);
        if mode == Mode::Long {
            // The page of 0xfee00000, by a 2 MiB entry of the fourth gigabyte.
            g.write64(TABLES + 0x1000 + 24, 0x2_4007);
            g.write64(0x2_4000 + (0xfee0_0000u64 >> 21 & 0x1ff) * 8, 0xfee0_0000 | 0x87);
        }
        let read = |at: u32| [&[0xbb][..], &at.to_le_bytes(), &[0x8b, 0x03]].concat(); // mov ebx, at; mov eax, [rbx]
        let write = |at: u32, value: u32| {
            [&[0xbb][..], &at.to_le_bytes(), &[0xc7, 0x03], &value.to_le_bytes()].concat()
        };
        g.fine(&read(0xfee0_0030));
        assert_eq!(g.gpr(0) & 0xff, 0x14);
        assert!(g.board.device.is_empty(), "the access stays in the processor");
        g.fine(&write(0xfee0_0080, 0x20));
        assert_eq!(g.cpu.core.lapic.cr8(), 2);
        // Vector 0x31 waits for a task priority below its own.
        g.st().set_rflags(eflags::IF | 2);
        g.cpu.core.lapic.accept(0x31, false);
        g.cpu.core.lapic.set_cr8(3);
        g.fine(&[&write(0xfee0_0080, 0x30)[..], &[0x90, 0x90]].concat());
        let lower = write(0xfee0_0080, 0x20);
        let t = g.trap(&[&lower[..], &[0x90, 0x90]].concat());
        assert_eq!((t.vector, t.ip), (0x31, CODE + lower.len() as u64));
    }
    let mut g = Guest::new(Mode::Long);
    g.fine(&[&mov(0, 9)[..], &[0x44, 0x0f, 0x22, 0xc0, 0x44, 0x0f, 0x20, 0xc3]].concat()); // mov cr8, rax; mov rbx, cr8
    assert_eq!((g.gpr(reg::RBX), g.cpu.core.lapic.priority()), (9, 0x90));
    g.faults(&[&mov(0, 16)[..], &[0x44, 0x0f, 0x22, 0xc0]].concat(), 5, 13, Some(0));
}

#[test]
fn lmsw_sets_protection_but_never_clears_it() {
    let mut g = Guest::new(Mode::Protected32);
    g.fine(&[&mov(0, 0x8)[..], &[0x0f, 0x01, 0xf0, 0x0f, 0x01, 0xe3]].concat()); // lmsw ax; smsw ebx
    assert_eq!(g.gpr(reg::RBX) & 0x1f, 0x19);
    g.fine(&[0x0f, 0x06, 0x0f, 0x20, 0xc3]); // clts; mov ebx, cr0
    assert_eq!(g.gpr(reg::RBX) & 0x1f, 0x11);
}

#[test]
fn debug_registers_keep_their_fixed_bits() {
    let mut g = Guest::new(Mode::Protected32);
    g.fine(&[&mov(0, 0)[..], &[0x0f, 0x23, 0xf0, 0x0f, 0x23, 0xf8]].concat());
    assert_eq!((g.st().dr[6], g.st().dr[7]), (0xffff_0ff0, 0x400));
    g.fine(&[&mov(0, u32::MAX)[..], &[0x0f, 0x23, 0xf0]].concat());
    assert_eq!(g.st().dr[6], 0xffff_efff);
    let mut g = Guest::new(Mode::Long);
    g.faults(&[0x48, 0xb8, 0, 0, 0, 0, 1, 0, 0, 0, 0x0f, 0x23, 0xf0], 10, 13, Some(0));
}
