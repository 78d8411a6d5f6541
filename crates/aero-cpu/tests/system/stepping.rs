//! Single stepping, stack faults of near branches, INVLPG of the largest pages.
use crate::guest::*;
use aero_cpu::state::{eflags, reg};

#[test]
fn near_branches_on_a_non_canonical_stack_are_ss() {
    // call rel32; ret; call [DATA]; push [DATA]
    let memory = |modrm: u8| [&[0xff, modrm, 0x25][..], &(DATA as u32).to_le_bytes()].concat();
    for code in [vec![0xe8, 0, 0, 0, 0], vec![0xc3], memory(0x14), memory(0x34)] {
        let mut g = Guest::new(Mode::Long);
        g.set_ist(12);
        g.set_ist(13);
        g.st().set_gpr(reg::RSP, 0x0000_9000_0000_0000);
        g.faults(&code, 0, 12, Some(0));
    }
}

#[test]
fn invlpg_drops_all_of_a_1_gib_page() {
    let mut g = Guest::new(Mode::Long);
    g.write64(TABLES + 0x1000 + 8, 0x87);
    let entry = TABLES + 0x1000 + 8;
    let code = [
        &load_eax(0x4003_0000)[..],
        &load_eax(0x4050_0000),
        &[0xc7, 0x04, 0x25],
        &(entry as u32).to_le_bytes(),
        &[0; 4],
        &[0x0f, 0x01, 0x3c, 0x25],
        &0x4003_0000u32.to_le_bytes(),
        &load_eax(0x4050_0000),
    ]
    .concat();
    g.faults(&code, code.len() as u64 - 7, 14, Some(0));
}

/// Runs `code` with TF set; the #DB handler stores each saved IP's low dword at DATA, DATA + 4, ...
fn steps(code: &[u8]) -> Vec<u64> {
    let mut g = Guest::new(Mode::Protected32);
    // push eax; mov eax, [esp + 4]; mov [ebp], eax; add ebp, 4; pop eax; iret
    g.write(HANDLERS + 16, &[0x50, 0x8b, 0x44, 0x24, 4, 0x89, 0x45, 0, 0x83, 0xc5, 4, 0x58, 0xcf]);
    g.write(HANDLERS + 16 * 0x21, &[0x90, 0xcf]);
    g.st().set_gpr(reg::RBP, DATA);
    g.st().set_rflags(eflags::TF | 2);
    g.run(code);
    let end = g.gpr(reg::RBP);
    (DATA..end).step_by(4).map(|at| u64::from(g.read32(at)) - CODE).collect()
}

#[test]
fn single_step_traps_after_the_instruction_that_follows_mov_ss() {
    // mov eax, ss; mov ss, eax; nop; nop
    assert_eq!(steps(&[0x8c, 0xd0, 0x8e, 0xd0, 0x90, 0x90])[..3], [2, 5, 6]);
}

#[test]
fn software_interrupt_is_not_single_stepped_into_its_handler() {
    // int 0x21; nop: INT clears TF; its IRET brings it back for the NOP.
    assert_eq!(steps(&[0xcd, 0x21, 0x90])[..1], [3]);
}

#[test]
fn single_step_traps_after_each_iteration_of_a_repeat() {
    let setup = [mov(7, DATA as u32 + 0x1000), mov(1, 3)].concat();
    assert_eq!(steps(&[&setup[..], &[0xf3, 0xaa]].concat())[..5], [5, 10, 10, 10, 12]);
}
