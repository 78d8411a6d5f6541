//! Accesses that nothing answers.

use crate::kernel::Reg::{Eax, Ecx, Edx};
use crate::kernel::{MODES, Mode, finish, machine, program, results};
use aero_machine::Unclaimed;

/// Above RAM, below the PCI window.
const HOLE: u32 = 0x2000_0000;
const PORT: u16 = 0x5550;

// checklist: 62
#[test]
fn unclaimed_reads_are_all_ones_and_listed_once() {
    for mode in MODES {
        let mut m = machine(program(mode, |a| {
            for _ in 0..3 {
                a.inb(PORT);
                a.record(Eax);
                a.inw(PORT);
                a.record(Eax);
                a.inl(PORT);
                a.record(Eax);
                a.load_byte(Eax, HOLE + 5);
                a.record(Eax);
                a.load_word(Eax, HOLE + 6);
                a.record(Eax);
                a.load(Eax, HOLE + 8);
                a.record(Eax);
            }
            a.exit(0);
        }));
        finish(&mut m);
        assert_eq!(results(&m, 18), [0xff, 0xffff, u32::MAX].repeat(6), "{mode:?}");
        let listed: Vec<_> = m.unclaimed().collect();
        assert_eq!(listed, [Unclaimed::Port(PORT), Unclaimed::Memory(HOLE.into())], "{mode:?}");
        assert_eq!(m.stats().unclaimed, 2, "{mode:?}");
    }
}

// checklist: 62
#[test]
fn unclaimed_writes_are_dropped_and_listed() {
    let mut m = machine(program(Mode::Protected, |a| {
        a.out32(PORT, 0);
        a.store_imm(HOLE, 0);
        a.load(Eax, HOLE);
        a.record(Eax);
        a.exit(0);
    }));
    finish(&mut m);
    assert_eq!(results(&m, 1), [u32::MAX]);
    assert_eq!(m.unclaimed().count(), 2);
}

// checklist: 62
#[test]
fn each_trip_wire_tells_the_block_that_touched_it_first() {
    const MSR: u32 = 0x1234;
    let (mut begin, mut at) = (0, [0; 3]);
    let mut m = machine(program(Mode::Long, |a| {
        for turn in 0..2 {
            // A jump, so that a block begins here.
            let block = a.label();
            a.jmp(block);
            a.bind(block);
            let start = a.address();
            a.mov_imm(Edx, PORT.into());
            let port = a.address();
            a.raw(&[0xec]); // in al, dx
            let memory = a.address();
            a.store_imm(HOLE, 0);
            a.mov_imm(Ecx, MSR);
            let msr = a.address();
            a.raw(&[0x0f, 0x32]); // rdmsr
            if turn == 0 {
                (begin, at) = (start, [port, memory, msr]);
            }
        }
        a.exit(0);
    }));
    finish(&mut m);
    let wires = [Unclaimed::Port(PORT), Unclaimed::Memory(HOLE.into()), Unclaimed::Msr(MSR)];
    let seen = m.trip_wires();
    assert_eq!(seen.iter().map(|(what, _)| *what).collect::<Vec<_>>(), wires);
    for ((what, rip), at) in seen.into_iter().zip(at) {
        assert!((begin..=at).contains(&rip), "{what}: {rip:#x}, not {begin:#x} to {at:#x}");
    }
}

#[test]
fn access_across_the_end_of_ram_gives_ram_and_all_ones() {
    const END: u32 = 4 << 20;
    let mut m = machine(program(Mode::Long, |a| {
        a.load(Eax, END - 2);
        a.record(Eax);
        a.exit(0);
    }));
    finish(&mut m);
    assert_eq!(results(&m, 1)[0] >> 16, 0xffff);
}

#[test]
fn board_that_is_used_as_it_should_be_lists_nothing() {
    let mut m = machine(program(Mode::Long, |a| {
        a.start_pic(1);
        a.start_counter(0, 2, 1000);
        a.print("x");
        a.inb(0x61);
        a.inb(0x64);
        a.inl(0x608);
        a.out(0x80, 1);
        a.exit(0);
    }));
    finish(&mut m);
    assert_eq!(m.unclaimed().collect::<Vec<_>>(), []);
}
