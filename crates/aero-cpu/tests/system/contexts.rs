//! Control registers against each other, process-context identifiers, INVPCID, INVLPG, and translations that must or must
//! not survive.

use crate::guest::*;
use aero_cpu::CpuConfig;
use aero_cpu::state::{Segment, cr0, cr4, efer, reg, seg};
use aero_x86::cpuid::{CORE2, MAX};

/// `mov rax, value` (64 bits).
fn mov_rax(value: u64) -> Vec<u8> {
    [&[0x48, 0xb8][..], &value.to_le_bytes()].concat()
}

/// `mov cr<n>, rax` with a value, in 64-bit code; the MOV to the register is 10 bytes in.
fn set_cr(n: u8, value: u64) -> Vec<u8> {
    [&mov_rax(value)[..], &[0x0f, 0x22, 0xc0 | n << 3]].concat()
}

#[test]
fn contexts_are_switched_on_in_long_mode_with_identifier_zero_only() {
    let mut g = Guest::new(Mode::Long);
    let on = g.st().cr4 | cr4::PCIDE;
    g.st().cr3 = TABLES | 5;
    g.faults(&set_cr(4, on), 10, 13, Some(0));
    g.st().cr3 = TABLES;
    g.fine(&set_cr(4, on));
    assert_eq!(g.st().cr4, on);
    // Then CR3 has twelve low bits, and paging cannot be left, not even from 32-bit code.
    g.fine(&set_cr(3, TABLES | 0xabc));
    assert_eq!(g.st().cr3, TABLES | 0xabc);
    let mut g = Guest::new(Mode::Compatibility);
    g.st().cr4 |= cr4::PCIDE;
    let off = [&mov(0, (cr0::PE | cr0::ET) as u32)[..], &[0x0f, 0x22, 0xc0]].concat();
    g.faults(&off, 5, 13, Some(0));
    for mode in [Mode::Protected32, Mode::Paged32, Mode::Pae] {
        let mut g = Guest::new(mode);
        let value = (g.st().cr4 | cr4::PCIDE) as u32;
        g.faults(&[&mov(0, value)[..], &[0x0f, 0x22, 0xe0]].concat(), 5, 13, Some(0));
    }
    let mut g = Guest::with(Mode::Long, CpuConfig::of(&CORE2));
    g.faults(&set_cr(4, on), 10, 13, Some(0));
}

#[test]
fn cr3_bit_63_keeps_translations_only_with_contexts_and_is_not_stored() {
    const KEEP: u64 = 1 << 63;
    let mut g = Guest::new(Mode::Long);
    g.faults(&set_cr(3, TABLES | KEEP), 10, 13, Some(0));
    g.st().cr4 |= cr4::PCIDE;
    g.fine(&set_cr(3, TABLES | 7 | KEEP));
    assert_eq!(g.st().cr3, TABLES | 7);
    g.faults(&set_cr(3, TABLES | KEEP | 1 << 62), 10, 13, Some(0));
    g.faults(&set_cr(3, TABLES | 1 << 36), 10, 13, Some(0));
}

/// `invpcid rax, [DATA + 0x100]`.
fn invpcid(kind: u64) -> Vec<u8> {
    let at = (DATA as u32 + 0x100).to_le_bytes();
    [&mov_rax(kind)[..], &[0x66, 0x0f, 0x38, 0x82, 0x04, 0x25], &at].concat()
}

fn describe(g: &mut Guest, context: u64, address: u64) {
    g.write64(DATA + 0x100, context);
    g.write64(DATA + 0x108, address);
}

#[test]
fn invpcid_checks_kind_descriptor_and_privilege() {
    let mut g = Guest::new(Mode::Long);
    (0..4).for_each(|kind| g.fine(&invpcid(kind)));
    for kind in [4, 5, 1 << 32, u64::MAX] {
        g.faults(&invpcid(kind), 10, 13, Some(0));
    }
    // Without contexts only context 0 can be named.
    describe(&mut g, 5, 0);
    for (kind, fine) in [(0, false), (1, false), (2, true), (3, true)] {
        if fine { g.fine(&invpcid(kind)) } else { _ = g.faults(&invpcid(kind), 10, 13, Some(0)) }
    }
    g.st().cr4 |= cr4::PCIDE;
    (0..4).for_each(|kind| g.fine(&invpcid(kind)));
    describe(&mut g, 0x1000, 0);
    (0..4).for_each(|kind| _ = g.faults(&invpcid(kind), 10, 13, Some(0)));
    describe(&mut g, 0, 1 << 47);
    g.faults(&invpcid(0), 10, 13, Some(0));
    (1..4).for_each(|kind| g.fine(&invpcid(kind)));
    let mut g = Guest::user(Mode::Long);
    g.faults(&invpcid(0), 10, 13, Some(0));
    let mut g = Guest::with(Mode::Long, CpuConfig::of(&CORE2));
    g.faults(&invpcid(0), 10, 6, None);
}

#[test]
fn invpcid_drops_what_its_kind_says() {
    // A remapped page is read through the new entry after each kind that must drop it.
    for (kind, global, dropped) in [
        (0, false, true),
        (1, false, true),
        (3, false, true),
        (2, false, true),
        (2, true, true),
        (3, true, false),
    ] {
        let flags = if global { 0x107 } else { 7 };
        let mut g = Guest::new(Mode::Long);
        g.st().cr4 |= cr4::PGE;
        g.write32(DATA, 1);
        g.write32(DATA + 0x1000, 2);
        g.set_pte(DATA + 0x2000, DATA | flags);
        describe(&mut g, 0, DATA + 0x2000);
        let code = [
            &load_eax(DATA + 0x2000)[..],
            &[0xc7, 0x04, 0x25],
            &(g.pte_at(DATA + 0x2000) as u32).to_le_bytes(),
            &((DATA + 0x1000) as u32 | flags as u32).to_le_bytes(),
            &invpcid(kind),
            &load_eax(DATA + 0x2000),
        ]
        .concat();
        g.fine(&code);
        assert_eq!(g.gpr(0), if dropped { 2 } else { 1 }, "kind {kind}, global {global}");
    }
}

#[test]
fn invlpg_of_anything_is_harmless_and_of_code_is_seen() {
    let mut g = Guest::new(Mode::Long);
    g.st().set_gpr(reg::RBX, 0x0000_9000_0000_0000);
    g.fine(&[0x0f, 0x01, 0x3b]); // invlpg [rbx], not canonical
    let mut user = Guest::user(Mode::Long);
    user.faults(&[0x0f, 0x01, 0x3b], 0, 13, Some(0));
    // A routine is called, its page is remapped to another one, and is called again.
    for large in [false, true] {
        let mut g = Guest::new(Mode::Long);
        let (entry, at, first, second) = if large {
            (TABLES + 0x2000 + 8, 0x20_0000 + DATA + 0x123, 0x87u32, 0x40_0087)
        } else {
            (g.pte_at(DATA), DATA + 0x123, DATA as u32 | 7, (DATA as u32 + 0x1000) | 7)
        };
        g.write64(entry, first.into());
        let frames =
            if large { [DATA + 0x123, 0x40_0000 + DATA + 0x123] } else { [DATA + 0x123, DATA + 0x1123] };
        g.write(frames[0], &[0xb3, 1, 0xc3]); // mov bl, 1; ret
        g.write(frames[1], &[0xb3, 2, 0xc3]);
        let call = [&mov(1, at as u32)[..], &[0xff, 0xd1]].concat();
        let code = [
            &call[..],
            &[0xc7, 0x04, 0x25],
            &(entry as u32).to_le_bytes(),
            &second.to_le_bytes(),
            // INVLPG of another byte of the page
            &[0x0f, 0x01, 0x3c, 0x25],
            &(at as u32 & !0xfff).to_le_bytes(),
            &call,
        ]
        .concat();
        g.fine(&code);
        assert_eq!(g.gpr(reg::RBX) & 0xff, 2, "large {large}");
    }
}

#[test]
fn pages_of_1_gib_exist_only_where_the_model_has_them() {
    const FRAME: u64 = 0x40_0000;
    let mut g = Guest::with(Mode::Long, CpuConfig::of(&CORE2));
    g.write64(TABLES + 0x1000 + 8, 0x87);
    g.faults(&load_eax(0x4000_0000 + FRAME), 0, 14, Some(9));
    let mut g = Guest::with(Mode::Long, CpuConfig::of(&MAX));
    g.write64(TABLES + 0x1000 + 8, 0x87);
    g.fine(&load_eax(0x4000_0000 + FRAME));
}

#[test]
fn pse_36_reaches_above_4_gib() {
    let mut g = Guest::new(Mode::Paged32);
    // Address bit 35 by bit 16 of the entry: a device, since there is no RAM.
    g.write32(TABLES + 0x200 * 4, 0x87 | 1 << 16);
    g.fine(&load_eax(0x8000_0010));
    assert_eq!(g.board.device, [((1 << 35) + 0x10, 4, None)]);
    for bit in 17..22 {
        g.write32(TABLES + 0x200 * 4, 0x87 | 1 << bit);
        g.st();
        g.faults(&load_eax(0x8000_0010), 0, 14, Some(9));
    }
}

#[test]
fn pae_pointers_are_loaded_again_by_the_control_bits_that_say_so() {
    let toggle = |cr: u8, bit: u32| {
        let modrm = 0xc0 | cr << 3;
        [&[0x0f, 0x20, modrm, 0x35][..], &bit.to_le_bytes(), &[0x0f, 0x22, modrm]].concat()
    };
    let far = 0x8000_0000 + DATA;
    for (cr, bit, reloads) in [
        (0, cr0::CD, true),
        (0, cr0::WP, false),
        (4, cr4::PGE, true),
        (4, cr4::PSE, true),
        (4, cr4::SMEP, true),
        (4, cr4::TSD, false),
    ] {
        let mut g = Guest::new(Mode::Pae);
        let pages = 512;
        (0..pages).for_each(|n| g.set_pte(n << 12, n << 12 | 3));
        g.write64(TABLES + 0x1000 + 16, (TABLES + 0x2000) | 1);
        let code = [toggle(cr, bit as u32), load_eax(far)].concat();
        if reloads {
            g.fine(&code);
            // And a bad pointer faults there, with nothing changed.
            let mut g = Guest::new(Mode::Pae);
            let before = (g.st().cr0, g.st().cr4);
            g.write64(TABLES + 0x1000 + 16, 1 | 1 << 1);
            g.faults(&toggle(cr, bit as u32), 8, 13, Some(0));
            assert_eq!((g.st().cr0, g.st().cr4), before);
        } else {
            g.faults(&code, 11, 14, Some(0));
        }
    }
}

#[test]
fn long_mode_is_not_entered_from_a_16_bit_task() {
    let mut g = Guest::new(Mode::Long);
    let raw = g.descriptor_of(CS32);
    g.st().segments[usize::from(seg::CS)] = segment(CS32, raw);
    g.st().cr0 = cr0::PE | cr0::ET;
    g.st().msr.efer = efer::LME;
    g.st().tr = Segment { attributes: 0x83, selector: TR, limit: 0x2b, base: TSS };
    let on = [&mov(0, 0x8000_0011)[..], &[0x0f, 0x22, 0xc0]].concat();
    g.load(&on);
    g.go();
    assert_eq!(g.st().cr0 & cr0::PG, 0);
    assert_eq!(g.st().msr.efer & efer::LMA, 0);
}

#[test]
fn page_tables_outside_ram_hold_nothing_present() {
    for mode in [Mode::Paged32, Mode::Pae, Mode::Long] {
        let mut g = Guest::new(mode);
        let directory = if mode == Mode::Paged32 { TABLES + 4 } else { TABLES + 0x2000 + 8 };
        let at = if mode == Mode::Paged32 { 0x40_0000 } else { 0x20_0000 };
        g.write32(directory, 0xf000_0007);
        g.faults(&load_eax(at), 0, 14, Some(0));
        g.faults(&store_eax(at), 0, 14, Some(2));
    }
    let mut g = Guest::new(Mode::Long);
    g.write64(TABLES + 8, 0xf_ffff_f007);
    g.st();
    g.faults(&[0x48, 0xa1, 0, 0, 0, 0, 0x80, 0, 0, 0], 0, 14, Some(0));
}

#[test]
fn code_in_device_memory_runs() {
    const ROM: u64 = 0xa_0000;
    for mode in [Mode::Protected32, Mode::Paged32, Mode::Long] {
        let mut g = Guest::new(mode);
        // mov ebx, 0x11223344; inc ecx; jmp +0; hlt
        let code = [0xbb, 0x44, 0x33, 0x22, 0x11, 0xff, 0xc1, 0xeb, 0, 0xf4];
        g.board.rom = (ROM + 0x10, code.to_vec());
        g.st().set_gpr(reg::RCX, 0);
        assert_eq!(g.run(&jump(ROM + 0x10)), End::Halt);
        assert_eq!((g.gpr(reg::RBX), g.gpr(reg::RCX)), (0x1122_3344, 1));
        assert_eq!(g.st().rip, ROM + 0x10 + code.len() as u64);
        // All ones is no instruction.
        let t = g.trap(&jump(ROM + 0x800));
        assert_eq!((t.vector, t.ip), (6, ROM + 0x800));
    }
}

#[test]
fn instruction_may_begin_in_ram_and_end_in_device_memory_and_back() {
    for mode in [Mode::Paged32, Mode::Long] {
        let mut g = Guest::new(mode);
        // mov eax, 0x44332211, split after two bytes; DATA + 0x1000 is the video window.
        g.set_pte(DATA + 0x1000, 0xa_0000 | 7);
        g.write(DATA + 0xffe, &[0xb8, 0x11]);
        g.board.rom = (0xa_0000, vec![0x22, 0x33, 0x44, 0xf4]);
        assert_eq!(g.run(&jump(DATA + 0xffe)), End::Halt);
        assert_eq!(g.gpr(0), 0x4433_2211);
        g.set_pte(DATA, 0xa_0000 | 7);
        g.set_pte(DATA + 0x1000, (DATA + 0x1000) | 7);
        g.write(DATA + 0x1000, &[0x66, 0x77, 0x88, 0xf4]);
        g.board.rom = (0xa_0ffe, vec![0xb8, 0x55]);
        assert_eq!(g.run(&jump(DATA + 0xffe)), End::Halt);
        assert_eq!(g.gpr(0), 0x8877_6655);
        // The second page is absent.
        g.set_pte(DATA + 0x1000, 0);
        g.trap(&jump(DATA + 0xffe));
        assert_eq!(g.st().cr2, DATA + 0x1000);
    }
}

#[test]
fn local_apic_lies_in_front_of_ram_where_its_base_says() {
    let mut g = Guest::new(Mode::Long);
    g.write32(DATA + 0x30, 0x1234);
    let base = |at: u64| [&mov(1, 0x1b)[..], &mov(0, at as u32 | 0x900), &mov(2, 0), &[0x0f, 0x30]].concat();
    // Warm the translation, then move the registers there, and away again.
    let code = [&load_eax(DATA + 0x30)[..], &base(DATA), &load_eax(DATA + 0x30), &[0x89, 0xc3]].concat();
    g.fine(&[&code[..], &base(0xfee0_0000), &load_eax(DATA + 0x30)].concat());
    assert_eq!((g.gpr(reg::RBX), g.gpr(reg::RAX)), (0x5_0014, 0x1234));
}
