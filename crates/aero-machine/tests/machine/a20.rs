//! The A20 gate.

use crate::kernel::Reg::Eax;
use crate::kernel::{Mode, results_of};

/// Two places that differ in bit 20 only.
const LOW: u32 = 0x0007_0000;
const HIGH: u32 = 0x0017_0000;

#[test]
fn closed_gate_folds_odd_mebibytes_onto_even_ones() {
    // The gate is open after reset; the keyboard controller closes it, port 92h or the controller opens it again.
    let seen = results_of(Mode::Protected, 5, |a| {
        let record = |a: &mut crate::kernel::Asm| {
            a.load(Eax, HIGH);
            a.record(Eax);
        };
        // The program lies at 1 MiB: a copy at 0 goes on while the gate is closed.
        // mov esi, 0x100000; xor edi, edi; mov ecx, 0x400; rep movsd
        a.raw(&[0xbe, 0, 0, 0x10, 0, 0x31, 0xff, 0xb9, 0, 4, 0, 0, 0xf3, 0xa5]);
        a.store_imm(LOW, 1);
        a.store_imm(HIGH, 2);
        record(a);
        a.out(0x64, 0xdd);
        record(a);
        a.out(0x92, 2);
        record(a);
        a.out(0x92, 0);
        a.store_imm(HIGH, 3);
        a.out(0x64, 0xdf);
        record(a);
        a.load(Eax, LOW);
        a.record(Eax);
    });
    assert_eq!(seen, [2, 1, 2, 2, 3]);
}
