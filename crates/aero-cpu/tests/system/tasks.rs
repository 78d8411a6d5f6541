//! Hardware task switches by JMP, CALL, IRET and task gates.

use crate::guest::*;
use aero_cpu::state::{cr0, eflags, reg, seg};

fn far(opcode: u8, selector: u16) -> Vec<u8> {
    [&[opcode, 0, 0, 0, 0][..], &selector.to_le_bytes()].concat()
}

const TASK_CODE: u64 = DATA;
const TASK_STACK: u64 = 0xb000;

/// A guest whose second TSS describes a task at `TASK_CODE`, and whose first TSS's selector is busy.
fn guest(mode: Mode) -> Guest {
    let mut g = Guest::new(mode);
    g.write(TASK_CODE, &[0xf4]);
    let cr3 = g.st().cr3 as u32;
    g.write32(TSS2 + 0x1c, cr3);
    g.write32(TSS + 0x1c, cr3); // no switch stores it
    g.write32(TSS2 + 0x20, TASK_CODE as u32);
    g.write32(TSS2 + 0x24, eflags::CF as u32 | 2);
    for n in 0..8 {
        g.write32(TSS2 + 0x28 + 4 * n, 0x1000 + n as u32);
    }
    g.write32(TSS2 + 0x38, TASK_STACK as u32);
    for (n, selector) in [DS0, CS0, DS0, DS3, 0, DS0].iter().enumerate() {
        g.write32(TSS2 + 0x48 + 4 * n as u64, (*selector).into());
    }
    g.write32(TSS2 + 0x60, LDTR.into());
    g
}

fn access(g: &Guest, selector: u16) -> u64 {
    g.descriptor_of(selector) >> 40 & 0xff
}

#[test]
fn jump_to_a_tss_saves_one_task_and_loads_the_other() {
    for mode in [Mode::Protected32, Mode::Paged32] {
        let mut g = guest(mode);
        g.st().set_gpr(reg::RBX, 0xbbbb);
        g.load(&far(0xea, TR2));
        assert_eq!(g.go(), End::Halt);
        assert_eq!(g.st().rip, TASK_CODE + 1);
        let general: Vec<u64> = (0..8).map(|n| g.gpr(n)).collect();
        assert_eq!(general, [0x1000, 0x1001, 0x1002, 0x1003, TASK_STACK, 0x1005, 0x1006, 0x1007]);
        let segments: Vec<u16> = (0..6).map(|n| g.selector(n)).collect();
        assert_eq!(segments, [DS0, CS0, DS0, DS3, 0, DS0]);
        assert_eq!((g.st().rflags(), g.st().cr0 & cr0::TS), (eflags::CF | 2, cr0::TS));
        assert_eq!((g.st().tr.selector, g.st().tr.base, g.st().ldtr.base), (TR2, TSS2, LDT));
        assert_eq!((access(&g, TR), access(&g, TR2)), (0x89, 0x8b), "busy bits swap");
        assert_eq!((g.read32(TSS + 0x20), g.read32(TSS + 0x24)), (CODE as u32 + 7, 2));
        assert_eq!((g.read32(TSS + 0x34), g.read32(TSS + 0x38)), (0xbbbb, STACK as u32));
        assert_eq!((g.read16(TSS + 0x4c), g.read16(TSS2)), (CS0, 0), "no back link");
    }
}

#[test]
fn tss_in_the_local_table_is_a_protection_fault_even_if_absent() {
    for (opcode, access) in [(0xea, 0x89), (0xea, 0x09), (0x9a, 0x01)] {
        let mut g = guest(Mode::Protected32);
        let raw = g.descriptor_of(LDTR);
        g.st().ldtr = segment(LDTR, raw);
        g.write64(LDT + 8, descriptor(TSS2, 0x67, access, 0));
        g.faults(&far(opcode, 0x0c), 0, 13, Some(0x0c));
    }
}

#[test]
fn call_nests_and_iret_returns() {
    for mode in [Mode::Protected32, Mode::Paged32] {
        let mut g = guest(mode);
        g.write(TASK_CODE, &[0x9c, 0x58, 0xcf, 0xf4]); // pushf; pop eax; iret; hlt
        g.st().set_gpr(reg::RAX, 0x77);
        g.load(&[&far(0x9a, TR2)[..], &[0xb3, 0x5a]].concat());
        assert_eq!(g.go(), End::Halt);
        assert_eq!(g.st().rip, CODE + 10);
        assert_eq!((g.gpr(reg::RAX), g.gpr(reg::RBX) & 0xff, g.gpr(reg::RSP)), (0x77, 0x5a, STACK));
        assert_eq!(g.read16(TSS2), TR, "back link");
        assert_eq!((access(&g, TR), access(&g, TR2)), (0x8b, 0x89));
        // The nested task saw NT; IRET saved it without.
        assert_eq!(u64::from(g.read32(TSS2 + 0x28)), eflags::NT | eflags::CF | 2);
        assert_eq!(u64::from(g.read32(TSS2 + 0x24)), eflags::CF | 2);
        assert_eq!((g.read32(TSS2 + 0x20), g.st().rflags() & eflags::NT), (TASK_CODE as u32 + 3, 0));
        assert_eq!(g.st().tr.selector, TR);
    }
}

#[test]
fn calling_leaves_the_old_task_busy() {
    let mut g = guest(Mode::Protected32);
    g.load(&far(0x9a, TR2));
    assert_eq!(g.go(), End::Halt);
    assert_eq!((access(&g, TR), access(&g, TR2)), (0x8b, 0x8b));
    assert_ne!(g.st().rflags() & eflags::NT, 0);
}

#[test]
fn task_switch_loads_cr3() {
    let mut g = guest(Mode::Paged32);
    // A second directory that maps DATA + 0x1000 elsewhere.
    let mut directory = vec![0; 0x1000];
    g.mem.read(aero_mem::Gpa(PAGE_TABLE), &mut directory).expect("RAM");
    g.write(0x5_0000, &directory);
    g.write32(0x5_0000 + 0x31 * 4, DATA as u32 + 0x2007);
    g.write32(0x5_1000, 0x5_0007);
    g.write32(TSS2 + 0x1c, 0x5_1000);
    g.write32(DATA + 0x1000, 1);
    g.write32(DATA + 0x2000, 2);
    g.write(TASK_CODE, &[&load_eax(DATA + 0x1000)[..], &[0xf4]].concat());
    g.load(&[load_eax(DATA + 0x1000), far(0xea, TR2)].concat());
    assert_eq!(g.go(), End::Halt);
    assert_eq!((g.gpr(0), g.read32(TSS + 0x28), g.st().cr3), (2, 1, 0x5_1000));
}

// checklist: 13
#[test]
fn task_gate_in_the_idt_switches_and_pushes_the_error_code() {
    let mut g = guest(Mode::Protected32);
    g.write64(IDT + 13 * 8, gate(TR2, 0, 0x85, 0));
    g.load(&[&mov(0, 0x100)[..], &[0x8e, 0xd8]].concat());
    assert_eq!(g.go(), End::Halt);
    assert_eq!((g.st().tr.selector, g.gpr(reg::RSP), g.read32(TASK_STACK - 4)), (TR2, TASK_STACK - 4, 0x100));
    assert_eq!(
        (g.read32(TSS + 0x20), g.read16(TSS2)),
        (CODE as u32 + 5, TR),
        "the fault's own address is saved"
    );
    // Without an error code nothing is pushed; INT n saves the next instruction's address.
    let mut g = guest(Mode::Protected32);
    g.write64(IDT + 0x21 * 8, gate(TR2, 0, 0xe5, 0));
    g.load(&[0xcd, 0x21]);
    assert_eq!(g.go(), End::Halt);
    assert_eq!((g.gpr(reg::RSP), g.read32(TSS + 0x20)), (TASK_STACK, CODE as u32 + 2));
}

#[test]
fn task_gate_in_the_gdt_is_checked_by_its_own_dpl() {
    let mut g = guest(Mode::Protected32);
    g.enter_user(0);
    g.faults(&far(0xea, TR2), 0, 13, Some(TR2.into()));
    g.write64(GDT + u64::from(GATE), gate(TR2, 0, 0xe5, 0));
    g.load(&far(0xea, GATE));
    assert_eq!(g.go(), End::Halt);
    assert_eq!((g.st().tr.selector, g.st().cpl), (TR2, 0));
}

#[test]
fn busy_absent_or_short_tss_is_refused() {
    let mut g = guest(Mode::Protected32);
    g.faults(&far(0xea, TR), 0, 13, Some(TR.into())); // itself, busy
    g.faults(&far(0x9a, TR), 0, 13, Some(TR.into()));
    g.set_gdt(TR2, descriptor(TSS2, 0x67, 0x09, 0));
    g.faults(&far(0xea, TR2), 0, 11, Some(TR2.into()));
    g.set_gdt(TR2, descriptor(TSS2, 0x66, 0x89, 0));
    g.faults(&far(0xea, TR2), 0, 10, Some(TR2.into()));
    // IRET to a task that is not busy
    let mut g = guest(Mode::Protected32);
    g.write(TSS, &TR2.to_le_bytes());
    g.st().set_rflags(eflags::NT | 2);
    g.faults(&[0xcf], 0, 10, Some(TR2.into()));
    assert_eq!(access(&g, TR), 0x8b);
}

#[test]
fn sixteen_bit_tss_holds_words() {
    let mut g = guest(Mode::Protected32);
    g.set_gdt(TR2, descriptor(TSS2, 0x2b, 0x81, 0));
    g.write(TSS2, &[0; 0x68]);
    g.write(0xf000, &[0xf4]);
    let words = [0xf000u16, 3, 1, 2, 3, 4, TASK_STACK as u16, 6, 7, 8, DS0, CS0, DS0, DS0, 0];
    for (n, value) in words.iter().enumerate() {
        g.write(TSS2 + 0x0e + 2 * n as u64, &value.to_le_bytes());
    }
    g.load(&far(0x9a, TR2));
    assert_eq!(g.go(), End::Halt);
    assert_eq!((g.st().rip, g.read16(TSS2)), (0xf001, TR));
    assert_eq!((g.gpr(reg::RAX) & 0xffff, g.gpr(reg::RDI) & 0xffff), (1, 8));
    assert_eq!((access(&g, TR2), g.st().rflags()), (0x83, eflags::NT | 3));
    assert_eq!((g.selector(seg::FS), g.selector(seg::DS)), (0, DS0));
    // IRET back saves into the short TSS and restores the long one.
    g.write(0xf000, &[0xb0, 0x55, 0xcf]);
    let mut again = guest(Mode::Protected32);
    again.set_gdt(TR2, descriptor(TSS2, 0x2b, 0x81, 0));
    again.write(TSS2, &[0; 0x68]);
    again.write(0xf000, &[0xb0, 0x55, 0xcf]);
    for (n, value) in words.iter().enumerate() {
        again.write(TSS2 + 0x0e + 2 * n as u64, &value.to_le_bytes());
    }
    again.load(&[&far(0x9a, TR2)[..], &[0x90]].concat());
    assert_eq!(again.go(), End::Halt);
    assert_eq!((again.st().rip, again.st().tr.selector), (CODE + 9, TR));
    assert_eq!((again.read16(TSS2 + 0x0e), again.read16(TSS2 + 0x12)), (0xf003, 0x55));
}

#[test]
fn task_switch_into_vm86_is_possible() {
    let mut g = guest(Mode::Protected32);
    g.write32(TSS2 + 0x20, 0x10);
    g.write32(TSS2 + 0x24, (eflags::VM | eflags::IOPL | 2) as u32);
    g.write32(TSS2 + 0x4c, 0x3000);
    g.write32(TSS2 + 0x50, 0x0900);
    g.write(DATA + 0x10, &[0xcd, 0x21]);
    g.write32(TSS2 + 4, TSS_STACK as u32);
    g.write32(TSS2 + 8, DS0.into());
    g.load(&far(0xea, TR2));
    let End::Trap(t) = g.go() else { panic!("no trap") };
    assert_eq!((t.vector, t.ip, t.cs, t.flags), (0x21, 0x12, 0x3000, eflags::VM | eflags::IOPL | 2));
}

/// A guest as [`guest`], whose second task has a stack for CPL 0.
fn guest_with_inner_stack() -> Guest {
    let mut g = guest(Mode::Protected32);
    g.write32(TSS2 + 4, TSS_STACK as u32);
    g.write32(TSS2 + 8, DS0.into());
    g
}

#[test]
fn bad_segments_of_the_new_task_fault_in_the_new_task() {
    for (at, selector, vector, error) in [
        (0x60, DS0, 10, DS0),             // LDT: not one
        (0x60, FREE, 10, FREE),           // LDT: absent
        (0x60, LDTR | 4, 10, LDTR | 4),   // LDT: in a local table
        (0x4c, DS0, 10, DS0),             // CS: data
        (0x4c, 0, 10, 0),                 // CS: null
        (0x4c, CS3 & !3, 10, CS3 & !3),   // CS: DPL is not RPL
        (0x4c, FREE + 8, 11, FREE + 8),   // CS: absent
        (0x50, READ_ONLY, 10, READ_ONLY), // SS: not writable
        (0x50, 0, 10, 0),                 // SS: null
        (0x50, DS3, 10, DS3 & !3),        // SS: other level
        (0x50, ABSENT, 12, ABSENT),       // SS: absent
        (0x48, 0x108, 10, 0x108),         // ES: beyond the table
        (0x54, ABSENT, 11, ABSENT),       // DS: absent
        (0x54, TR, 10, TR),               // DS: system
        (0x58, DS0 | 3, 10, DS0),         // FS: RPL
    ] {
        let mut g = guest_with_inner_stack();
        g.write32(TSS2 + at, selector.into());
        g.set_gdt(FREE, descriptor(LDT, 0xff, 0x02, 0));
        g.set_gdt(FREE + 8, descriptor(0, 0xf_ffff, 0x1b, 0xc));
        g.load(&far(0xea, TR2));
        let End::Trap(t) = g.go() else { panic!("no trap for {selector:#x} at {at:#x}") };
        assert_eq!((t.vector, t.error), (vector, Some(error.into())), "{at:#x} {selector:#x}");
        assert_eq!(t.ip, TASK_CODE, "{at:#x}: the new task's place");
        assert_eq!((g.st().tr.selector, access(&g, TR), access(&g, TR2)), (TR2, 0x89, 0x8b));
        assert_eq!(g.read32(TSS + 0x20), CODE as u32 + 7, "the old task is saved");
    }
}

#[test]
fn instruction_pointer_beyond_the_new_code_segment_is_gp_in_the_new_task() {
    let mut g = guest_with_inner_stack();
    g.set_gdt(FREE, descriptor(0, 0xfff, 0x9b, 4));
    g.write32(TSS2 + 0x4c, FREE.into());
    g.load(&far(0xea, TR2));
    let End::Trap(t) = g.go() else { panic!("no trap") };
    assert_eq!((t.vector, t.error, t.ip, t.cs), (13, Some(0), TASK_CODE, FREE.into()));
}

#[test]
fn error_code_without_room_on_the_new_stack_faults_in_the_new_task() {
    let mut g = guest_with_inner_stack();
    g.write64(IDT + 13 * 8, gate(TR2, 0, 0x85, 0));
    g.set_gdt(FREE, descriptor(0, 0xfff, 0x93, 4));
    g.write32(TSS2 + 0x50, FREE.into());
    g.set_ts_task(8);
    g.load(&[&mov(0, 0x100)[..], &[0x8e, 0xd8]].concat());
    // #SS while #GP is delivered is #DF.
    assert_eq!(g.go(), End::Halt);
    assert_eq!((g.st().tr.selector, g.read32(TSS2 + 0x20)), (THIRD, TASK_CODE as u32));
}

/// A third TSS, for what goes wrong in the second task.
const THIRD: u16 = FREE + 0x10;

impl Guest {
    /// Gives `vector` a task of its own, whose TSS is `THIRD`.
    fn set_ts_task(&mut self, vector: u64) {
        const TSS3: u64 = 0x5800;
        self.set_gdt(THIRD, descriptor(TSS3, 0x67, 0x89, 0));
        for (at, value) in
            [(0x20, TASK_CODE), (0x24, 2), (0x38, 0xa000), (0x4c, CS0.into()), (0x50, DS0.into())]
        {
            self.write32(TSS3 + at, value as u32);
        }
        self.write64(IDT + 8 * vector, gate(THIRD, 0, 0x85, 0));
    }
}

#[test]
fn tss_too_short_for_the_old_task_is_refused() {
    let mut g = guest(Mode::Protected32);
    g.st().tr.limit = 0x5e;
    g.faults(&far(0xea, TR2), 0, 10, Some(TR.into()));
    assert_eq!((access(&g, TR2), g.st().tr.selector), (0x89, TR));
}

#[test]
fn single_step_ends_with_the_old_task() {
    let mut g = guest(Mode::Protected32);
    g.st().set_rflags(eflags::TF | 2);
    g.load(&far(0xea, TR2));
    assert_eq!(g.go(), End::Halt);
    assert_eq!((g.st().rip, g.read32(TSS + 0x24)), (TASK_CODE + 1, eflags::TF as u32 | 2));
}

#[test]
fn a_switch_that_cannot_be_saved_changes_nothing() {
    // The old TSS lies across a page that is read-only.
    let mut g = guest(Mode::Paged32);
    g.st().tr.base = 0x3_7fc0;
    g.set_pte(0x3_8000, 0x3_8001);
    let t = g.trap(&far(0xea, TR2));
    assert_eq!((t.vector, t.error, t.ip), (14, Some(3), CODE));
    assert_eq!((g.st().cr2, g.read32(0x3_7fe0)), (0x3_8000, 0));
    assert_eq!((access(&g, TR), access(&g, TR2), g.st().tr.selector), (0x8b, 0x89, TR));
    // The new one is partly absent.
    let mut g = guest(Mode::Paged32);
    g.set_gdt(TR2, descriptor(0x3_7fc0, 0x67, 0x89, 0));
    g.set_pte(0x3_8000, 0);
    let t = g.trap(&far(0xea, TR2));
    assert_eq!((t.vector, t.error, g.st().cr2), (14, Some(0), 0x3_8000));
    assert_eq!((access(&g, TR2), g.read32(TSS + 0x20)), (0x89, 0));
}

#[test]
fn trap_flag_of_a_tss_is_a_debug_trap_before_the_first_instruction() {
    let mut g = guest_with_inner_stack();
    g.write32(TSS2 + 0x64, 1);
    g.load(&far(0xea, TR2));
    let End::Trap(t) = g.go() else { panic!("no trap") };
    assert_eq!((t.vector, t.ip, g.st().dr[6]), (1, TASK_CODE, 0xffff_8ff0));
}

#[test]
fn task_switch_turns_local_breakpoints_off() {
    let mut g = guest(Mode::Protected32);
    g.st().dr[0] = TASK_CODE;
    g.st().dr[1] = TASK_CODE + 0x100;
    g.st().dr[7] = 0x509; // L0, G1, LE
    g.load(&far(0xea, TR2));
    assert_eq!(g.go(), End::Halt);
    assert_eq!(g.st().dr[7], 0x408);
}

#[test]
fn fault_through_a_task_gate_saves_rf() {
    let mut g = guest(Mode::Protected32);
    g.write64(IDT + 6 * 8, gate(TR2, 0, 0x85, 0));
    g.load(&[0x0f, 0x0b]);
    assert_eq!(g.go(), End::Halt);
    assert_eq!(u64::from(g.read32(TSS + 0x24)), eflags::RF | 2);
}

#[test]
fn long_mode_has_no_task_switches() {
    let mut g = Guest::new(Mode::Compatibility);
    g.set_gdt(TR2, descriptor(TSS2, 0x67, 0x89, 0));
    g.faults(&far(0xea, TR2), 0, 13, Some(TR2.into()));
    g.write64(GDT + u64::from(GATE), gate(TR2, 0, 0xe5, 0));
    g.faults(&far(0x9a, GATE), 0, 13, Some(GATE.into()));
    let mut g = Guest::new(Mode::Long);
    g.st().set_rflags(eflags::NT | 2);
    g.faults(&[0x48, 0xcf], 0, 13, Some(0));
}
