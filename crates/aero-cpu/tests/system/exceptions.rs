//! Each vector with its error code, saved RIP and RF; double and triple faults; what decoding refuses.

use crate::guest::*;
use aero_cpu::Exit;
use aero_cpu::state::{cr0, cr4, eflags, reg, seg};

const FLAT: [Mode; 5] = [Mode::Protected32, Mode::Paged32, Mode::Pae, Mode::Compatibility, Mode::Long];

#[test]
fn division_by_zero_is_de_at_the_instruction_with_rf() {
    for mode in FLAT {
        let mut g = Guest::new(mode);
        // xor ecx, ecx; div ecx
        let t = g.faults(&[0x31, 0xc9, 0xf7, 0xf1], 2, 0, None);
        assert_ne!(t.flags & eflags::RF, 0, "{mode:?}");
    }
}

#[test]
fn quotient_overflow_is_de_and_keeps_registers() {
    let mut g = Guest::new(Mode::Long);
    g.st().set_gpr(reg::RDX, 5);
    g.st().set_gpr(reg::RAX, 9);
    g.faults(&[&mov(1, 5)[..], &[0xf7, 0xf1]].concat(), 5, 0, None);
    assert_eq!((g.gpr(reg::RAX), g.gpr(reg::RDX)), (9, 5));
}

#[test]
fn undefined_opcode_is_ud_with_rf_clear_before() {
    for mode in FLAT {
        let mut g = Guest::new(mode);
        let t = g.faults(&[0x90, 0x0f, 0x0b], 1, 6, None);
        assert_ne!(t.flags & eflags::RF, 0);
    }
    let mut g = Guest::new(Mode::Real);
    let t = g.faults(&[0x90, 0x0f, 0x0b], 1, 6, None);
    assert_eq!(t.cs, CODE >> 4);
}

#[test]
fn breakpoint_is_a_trap_after_the_instruction_without_rf() {
    for mode in FLAT {
        let mut g = Guest::new(mode);
        let t = g.faults(&[0x90, 0xcc], 2, 3, None);
        assert_eq!(t.flags & eflags::RF, 0);
    }
}

#[test]
fn into_traps_only_with_overflow() {
    let mut g = Guest::new(Mode::Protected32);
    // xor eax, eax; into
    g.fine(&[0x31, 0xc0, 0xce]);
    // mov al, 0x7f; inc al; into
    g.faults(&[0xb0, 0x7f, 0xfe, 0xc0, 0xce], 5, 4, None);
}

#[test]
fn bound_out_of_range_is_br_at_the_instruction() {
    let mut g = Guest::new(Mode::Protected32);
    g.write32(DATA, -5i32 as u32);
    g.write32(DATA + 4, 10);
    let check =
        |index: i32| [&mov(0, index as u32)[..], &[0x62, 0x05], &(DATA as u32).to_le_bytes()].concat();
    for inside in [-5, 0, 10] {
        g.fine(&check(inside));
    }
    for outside in [-6, 11] {
        g.st().set_gpr(reg::RSP, STACK);
        g.faults(&check(outside), 5, 5, None);
    }
}

#[test]
fn x87_with_task_switched_is_nm() {
    for mode in FLAT {
        let mut g = Guest::new(mode);
        g.st().cr0 |= cr0::TS;
        g.faults(&[0xd9, 0xe8], 0, 7, None); // fld1
        g.faults(&[0x0f, 0x6e, 0xc0], 0, 7, None); // movd mm0, eax
        g.faults(&[0x0f, 0x57, 0xc0], 0, 7, None); // xorps
        g.fine(&[0x9b]); // fwait: MP is clear
        g.st().cr0 |= cr0::MP;
        g.faults(&[0x9b], 0, 7, None);
    }
}

#[test]
fn emulation_makes_x87_nm_and_sse_ud() {
    let mut g = Guest::new(Mode::Long);
    g.st().cr0 |= cr0::EM;
    g.faults(&[0xd9, 0xe8], 0, 7, None);
    g.faults(&[0x0f, 0x57, 0xc0], 0, 6, None);
    g.faults(&[0x0f, 0x6e, 0xc0], 0, 6, None); // MMX
}

#[test]
fn sse_without_osfxsr_is_ud() {
    let mut g = Guest::new(Mode::Protected32);
    g.st().cr4 = 0;
    g.faults(&[0x0f, 0x57, 0xc0], 0, 6, None);
    g.fine(&[0xd9, 0xe8]);
}

#[test]
fn unmasked_x87_error_is_mf_at_the_next_waiting_instruction() {
    let mut g = Guest::new(Mode::Long);
    g.write(DATA, &0x037bu16.to_le_bytes()); // zero divide unmasked
    let load = [&[0xdb, 0xe3, 0xd9, 0x2c, 0x25][..], &(DATA as u32).to_le_bytes()].concat(); // fninit; fldcw
    let divide = [&load[..], &[0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9, 0x90, 0x9b]].concat();
    let t = g.faults(&divide, load.len() as u64 + 7, 16, None);
    assert_ne!(t.flags & eflags::RF, 0);
}

#[test]
fn unmasked_simd_error_is_xm_or_ud() {
    let mut g = Guest::new(Mode::Long);
    g.write32(DATA, 0x1d80); // zero divide unmasked
    let ldmxcsr = [&[0x0f, 0xae, 0x14, 0x25][..], &(DATA as u32).to_le_bytes()].concat();
    // mov eax, 1.0f; movd xmm0, eax; xorps xmm1, xmm1; divss xmm0, xmm1
    let divide = [
        &ldmxcsr[..],
        &mov(0, 0x3f80_0000),
        &[0x66, 0x0f, 0x6e, 0xc0, 0x0f, 0x57, 0xc9, 0xf3, 0x0f, 0x5e, 0xc1],
    ];
    let divide = divide.concat();
    let at = divide.len() as u64 - 4;
    g.faults(&divide, at, 19, None);
    g.st().mxcsr = 0x1f80;
    g.st().cr4 &= !cr4::OSXMMEXCPT;
    g.faults(&divide, at, 6, None);
}

#[test]
fn misaligned_access_is_ac_only_at_cpl_3_with_am_and_ac() {
    for mode in [Mode::Paged32, Mode::Pae, Mode::Long, Mode::Compatibility] {
        let mut g = Guest::user(mode);
        g.st().cr0 |= cr0::AM;
        let flags = g.st().rflags();
        g.st().set_rflags(flags | eflags::AC);
        let t = g.faults(&load_eax(DATA + 1), 0, 17, Some(0));
        assert_ne!(t.flags & eflags::RF, 0);
        let mut g = Guest::new(mode);
        g.st().cr0 |= cr0::AM;
        g.st().set_rflags(eflags::AC | 2);
        g.fine(&load_eax(DATA + 1));
        let mut g = Guest::user(mode);
        g.st().set_rflags(eflags::AC | 2);
        // HLT at CPL 3 ends it.
        g.faults(&load_eax(DATA + 1), 7, 13, Some(0));
    }
}

#[test]
fn privileged_instructions_at_cpl_3_are_gp_0() {
    const ALL: [&[u8]; 14] = [
        &[0xf4],
        &[0x0f, 0x06],
        &[0x0f, 0x08],
        &[0x0f, 0x09],
        &[0x0f, 0x20, 0xc0],
        &[0x0f, 0x22, 0xd8],
        &[0x0f, 0x21, 0xc0],
        &[0x0f, 0x23, 0xf8],
        &[0x0f, 0x30],
        &[0x0f, 0x32],
        &[0x0f, 0x01, 0x38],
        &[0x0f, 0x01, 0x10],
        &[0x0f, 0x01, 0xf0],
        &[0xfa],
    ];
    for mode in [Mode::Protected32, Mode::Paged32, Mode::Long, Mode::Compatibility] {
        for code in ALL {
            let mut g = Guest::user(mode);
            g.st().set_gpr(reg::RAX, DATA);
            let t = g.faults(code, 0, 13, Some(0));
            assert_eq!(t.cs & 3, 3);
        }
    }
}

#[test]
fn absent_segment_is_np_with_its_selector_and_stack_is_ss() {
    for mode in FLAT {
        let mut g = Guest::new(mode);
        g.faults(&[&mov(0, ABSENT.into())[..], &[0x8e, 0xd8]].concat(), 5, 11, Some(ABSENT.into()));
        g.faults(&[&mov(0, ABSENT.into())[..], &[0x8e, 0xd0]].concat(), 5, 12, Some(ABSENT.into()));
        assert_eq!(g.selector(seg::DS), DS0);
    }
}

#[test]
fn bad_segment_loads_are_gp_with_the_selector() {
    for mode in FLAT {
        let mut g = Guest::new(mode);
        let mut load = |selector: u16, register: u8, error: u16| {
            let code = [&mov(0, selector.into())[..], &[0x8e, 0xc0 | register << 3]].concat();
            g.faults(&code, 5, 13, Some(error.into()));
        };
        load(0x100, seg::DS, 0x100); // beyond the limit
        load(0x14, seg::ES, 0x14); // no LDT
        load(TR, seg::DS, TR); // a system descriptor
        load(DS3, seg::SS, DS3 & !3); // DPL 3 stack
        load(READ_ONLY, seg::SS, READ_ONLY);
        load(CS0, seg::SS, CS0);
        load(DS0 | 3, seg::DS, DS0); // RPL above DPL
        if mode != Mode::Long {
            load(0, seg::SS, 0);
        }
    }
}

#[test]
fn local_descriptor_error_codes_keep_the_table_bit() {
    let mut g = Guest::new(Mode::Protected32);
    let raw = g.descriptor_of(LDTR);
    g.st().ldtr = segment(LDTR, raw);
    g.write64(LDT + 8, descriptor(0, 0xf_ffff, 0x13, 0xc));
    g.faults(&[&mov(0, 0x0c)[..], &[0x8e, 0xd8]].concat(), 5, 11, Some(0x0c));
    g.write64(LDT + 8, descriptor(0x100, 0xf_ffff, 0x93, 0xc));
    g.fine(&[&mov(0, 0x0c)[..], &[0x8e, 0xd8]].concat());
    assert_eq!(g.st().segments[3].base, 0x100);
}

#[test]
fn segment_limit_is_gp_or_ss_by_segment() {
    let mut g = Guest::new(Mode::Protected32);
    g.st().segments[usize::from(seg::DS)].limit = DATA as u32 + 2;
    g.faults(&load_eax(DATA), 0, 13, Some(0));
    g.fine(&[0x66, 0xa1, 1, 0, 3, 0]); // mov ax, [DATA + 1]: the last two bytes
    g.st().segments[usize::from(seg::DS)].limit = u32::MAX;
    let mut g = Guest::new(Mode::Protected32);
    g.set_gdt(FREE, descriptor(0, 0xfff, 0x97, 0x4)); // expand-down, valid above 0xfff
    let raw = g.descriptor_of(FREE);
    g.st().segments[usize::from(seg::ES)] = segment(FREE, raw);
    g.fine(&[0x26, 0xa1, 0, 0x10, 0, 0]);
    g.faults(&[0x26, 0xa1, 0xff, 0x0f, 0, 0], 0, 13, Some(0));
    // [ebp] of a small stack segment
    let mut g = Guest::new(Mode::Protected32);
    g.st().segments[usize::from(seg::SS)].limit = 0xffff;
    g.st().set_gpr(reg::RBP, 0xfffd);
    g.faults(&[0x8b, 0x45, 0], 0, 12, Some(0));
    g.faults(&[0x36, 0xa1, 0, 0, 1, 0], 0, 12, Some(0));
}

#[test]
fn null_and_read_only_segments_refuse_access() {
    let mut g = Guest::new(Mode::Protected32);
    g.fine(&[0x31, 0xc0, 0x8e, 0xd8]); // xor eax, eax; mov ds, ax
    assert_eq!(g.selector(seg::DS), 0);
    g.faults(&load_eax(DATA), 0, 13, Some(0));
    let mut g = Guest::new(Mode::Protected32);
    g.fine(&[&mov(0, READ_ONLY.into())[..], &[0x8e, 0xd8]].concat());
    g.fine(&load_eax(DATA));
    g.faults(&store_eax(DATA), 0, 13, Some(0));
    // Code segments are never writable; execute-only ones are not readable.
    g.st().segments[usize::from(seg::DS)] = segment(CS0, descriptor(0, 0xf_ffff, 0x9b, 0xc));
    g.faults(&store_eax(DATA), 0, 13, Some(0));
    g.st().segments[usize::from(seg::DS)] = segment(CS0, descriptor(0, 0xf_ffff, 0x99, 0xc));
    g.faults(&load_eax(DATA), 0, 13, Some(0));
}

#[test]
fn software_interrupt_checks_the_gate() {
    for mode in FLAT {
        let scale = if matches!(mode, Mode::Long | Mode::Compatibility) { 16 } else { 8 };
        let mut g = Guest::user(mode);
        g.set_gate(0x21, CS0, HANDLERS, 0x8e);
        g.faults(&[0xcd, 0x21], 0, 13, Some(0x21 * 8 + 2));
        let mut g = Guest::new(mode);
        g.set_gate(0x21, CS0, HANDLERS, 0x0e);
        g.faults(&[0xcd, 0x21], 0, 11, Some(0x21 * 8 + 2));
        g.st().idtr.limit = 0x21 * scale + scale - 2;
        g.faults(&[0xcd, 0x21], 0, 13, Some(0x21 * 8 + 2));
        g.set_gate(0x20, CS0, HANDLERS, 0x92);
        g.faults(&[0xcd, 0x20], 0, 13, Some(0x20 * 8 + 2));
        g.set_gate(0x20, 0, HANDLERS, 0xee);
        g.faults(&[0xcd, 0x20], 0, 13, Some(0));
        g.set_gate(0x20, DS0, HANDLERS, 0xee);
        g.faults(&[0xcd, 0x20], 0, 13, Some(DS0.into()));
    }
}

#[test]
fn faults_while_delivering_an_event_carry_the_ext_bit() {
    for mode in FLAT {
        // #UD through a gate that is not present
        let mut g = Guest::new(mode);
        g.set_gate(6, CS0, HANDLERS, 0x0e);
        g.faults(&[0x0f, 0x0b], 0, 11, Some(6 * 8 + 3));
        // ... and through one whose selector lies outside the table
        g.set_gate(6, 0x108, HANDLERS, 0x8e);
        g.faults(&[0x0f, 0x0b], 0, 13, Some(0x109));
        g.set_gate(6, DS0, HANDLERS, 0x8e);
        g.faults(&[0x0f, 0x0b], 0, 13, Some(u64::from(DS0) | 1));
        // a device interrupt
        let mut g = Guest::new(mode);
        g.board.vector = 0x40;
        g.set_gate(0x40, 0, HANDLERS, 0x8e);
        g.st().set_rflags(eflags::IF | 2);
        g.board.line = true;
        g.faults(&[0x90], 0, 13, Some(1));
    }
}

#[test]
fn contributory_faults_make_a_double_fault() {
    for mode in FLAT {
        let mut g = Guest::new(mode);
        g.set_gate(13, CS0, HANDLERS, 0x0e);
        g.set_gate(11, CS0, HANDLERS, 0x0e);
        // #GP -> #NP: double fault
        let t = g.faults(&[&mov(0, 0x100)[..], &[0x8e, 0xd8]].concat(), 5, 8, Some(0));
        assert_eq!(t.cs & 3, 0);
        // #UD -> #NP is served serially; here its own gate is absent, so #NP -> #NP
        let mut g = Guest::new(mode);
        g.set_gate(6, CS0, HANDLERS, 0x0e);
        g.faults(&[0x0f, 0x0b], 0, 11, Some(6 * 8 + 3));
    }
}

#[test]
fn page_fault_while_delivering_a_page_fault_is_a_double_fault_with_the_second_cr2() {
    for mode in [Mode::Paged32, Mode::Pae, Mode::Long] {
        let mut g = Guest::new(mode);
        g.set_pte(DATA, 0);
        let scale = if mode == Mode::Long { 16 } else { 8 };
        // Move the table so that vector 8 and 14 lie on different pages.
        let idt = 0x4_1000 - 10 * scale;
        for n in 0..32 {
            let entry: [u8; 16] = g.bytes(IDT + n * scale);
            g.write(idt + n * scale, &entry[..scale as usize]);
        }
        g.st().idtr.base = idt;
        g.set_pte(0x4_1000, 0);
        g.faults(&load_eax(DATA), 0, 8, Some(0));
        assert_eq!(g.st().cr2, idt + 14 * scale);
    }
}

#[test]
fn page_fault_while_delivering_a_protection_fault_is_served() {
    let mut g = Guest::new(Mode::Paged32);
    let idt = 0x4_1000 - 13 * 8 - 4;
    for n in 0..32 {
        let entry: [u8; 8] = g.bytes(IDT + n * 8);
        g.write(idt + n * 8, &entry);
    }
    g.st().idtr.base = idt;
    g.set_pte(0x4_1000, 0);
    // #GP's gate crosses into an absent page, and so does #PF's: #GP -> #PF -> #PF is a double fault.
    g.faults(&[&mov(0, 0x100)[..], &[0x8e, 0xd8]].concat(), 5, 8, Some(0));
    let mut g = Guest::user(Mode::Paged32);
    // The inner stack's page is absent: #GP's frame cannot be pushed, nor can #PF's. A third fault shuts down.
    g.set_pte(TSS_STACK - 1, 0);
    assert_eq!(g.run(&[0xf4]), End::Exit(Exit::Shutdown));
}

#[test]
fn fault_while_delivering_a_double_fault_shuts_down() {
    for mode in FLAT {
        let mut g = Guest::new(mode);
        g.st().idtr.limit = 0;
        assert_eq!(g.run(&[0x0f, 0x0b]), End::Exit(Exit::Shutdown));
    }
}

#[test]
fn lock_is_legal_only_with_memory_destinations_of_some_instructions() {
    let mut g = Guest::new(Mode::Long);
    g.st().set_gpr(reg::RBX, DATA);
    const LEGAL: [&[u8]; 10] = [
        &[0xf0, 0x01, 0x03],             // add [rbx], eax
        &[0xf0, 0x83, 0x0b, 1],          // or dword [rbx], 1
        &[0xf0, 0xff, 0x03],             // inc
        &[0xf0, 0xf7, 0x13],             // not
        &[0xf0, 0xf7, 0x1b],             // neg
        &[0xf0, 0x0f, 0xb1, 0x03],       // cmpxchg
        &[0xf0, 0x0f, 0xc1, 0x03],       // xadd
        &[0xf0, 0x87, 0x03],             // xchg
        &[0xf0, 0x0f, 0xab, 0x03],       // bts
        &[0xf0, 0x0f, 0xba, 0x33, 0x01], // btr
    ];
    for code in LEGAL {
        g.fine(code);
    }
    const ILLEGAL: [&[u8]; 9] = [
        &[0xf0, 0x01, 0xc0],       // add eax, eax
        &[0xf0, 0x03, 0x03],       // add eax, [rbx]
        &[0xf0, 0x39, 0x03],       // cmp
        &[0xf0, 0x85, 0x03],       // test
        &[0xf0, 0x89, 0x03],       // mov
        &[0xf0, 0x90],             // nop
        &[0xf0, 0x0f, 0xa3, 0x03], // bt
        &[0xf0, 0x0f, 0xaf, 0x03], // imul
        &[0xf0, 0xd1, 0x23],       // shl
    ];
    for code in ILLEGAL {
        g.faults(code, 0, 6, None);
    }
}

#[test]
fn instructions_beyond_15_bytes_are_gp_0() {
    for mode in FLAT {
        let mut g = Guest::new(mode);
        let mut code = vec![0x66; 14];
        code.push(0x90);
        g.fine(&code);
        code.insert(0, 0x66);
        g.faults(&code, 0, 13, Some(0));
        // An instruction that is legal but for its length
        let mut long = vec![0x3e; 10];
        long.extend(mov(0, 1));
        g.fine(&long);
        long.insert(0, 0x3e);
        g.faults(&long, 0, 13, Some(0));
    }
}

#[test]
fn instructions_of_other_modes_are_ud() {
    let mut g = Guest::new(Mode::Long);
    for code in
        [&[0x06][..], &[0x0e], &[0x1f], &[0x27], &[0x37], &[0x60], &[0x61], &[0xce], &[0xd4, 10], &[0xea]]
    {
        g.faults(code, 0, 6, None);
    }
    let mut g = Guest::new(Mode::Real);
    for code in [&[0x0f, 0x00, 0xc0][..], &[0x0f, 0x00, 0xd0], &[0x0f, 0x02, 0xc0], &[0x63, 0xc0]] {
        g.faults(code, 0, 6, None);
    }
    let mut g = Guest::new(Mode::Protected32);
    for code in [&[0x0f, 0x05][..], &[0x0f, 0x07], &[0x0f, 0x01, 0xf8]] {
        g.faults(code, 0, 6, None);
    }
}

#[test]
fn fetch_beyond_the_code_segment_is_gp_0_there() {
    let mut g = Guest::new(Mode::Protected32);
    g.st().segments[usize::from(seg::CS)].limit = CODE as u32 + 2;
    g.faults(&[0x90, 0x90, 0x90, 0x90], 3, 13, Some(0));
    // an instruction that begins inside and ends outside
    g.faults(&[0x90, 0xb8, 1, 2, 3, 4], 1, 13, Some(0));
}
