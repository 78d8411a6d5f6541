//! PCI configuration mechanism 1.

use crate::kernel::Reg::Eax;
use crate::kernel::{Asm, Mode, results_of};

const CONFADD: u16 = 0xcf8;
const CONFDATA: u16 = 0xcfc;

/// What CONFADD must hold.
fn address(bus: u32, device: u32, function: u32, register: u32) -> u32 {
    1 << 31 | bus << 16 | device << 11 | function << 8 | register
}

fn select(a: &mut Asm, address: u32) {
    a.out32(CONFADD, address);
}

fn record_dword(a: &mut Asm) {
    a.inl(CONFDATA);
    a.record(Eax);
}

#[test]
fn functions_of_the_board_give_their_identity() {
    let functions = [(0, 0, 0x1237_8086), (1, 0, 0x7000_8086), (1, 3, 0x7113_8086)];
    let ids = results_of(Mode::Protected, functions.len(), |a| {
        for (device, function, _) in functions {
            select(a, address(0, device, function, 0));
            record_dword(a);
        }
    });
    assert_eq!(ids, functions.map(|(.., id)| id));
}

#[test]
fn absent_functions_are_all_ones() {
    let absent = [(0, 0, 1), (0, 1, 7), (0, 2, 1), (0, 31, 0), (0, 31, 7), (1, 0, 0), (255, 31, 7)];
    let ids = results_of(Mode::Long, absent.len(), |a| {
        for (bus, device, function) in absent {
            select(a, address(bus, device, function, 0));
            record_dword(a);
        }
    });
    assert_eq!(ids, [u32::MAX; 7]);
}

#[test]
fn whole_bus_has_just_the_functions_of_the_layout() {
    let ids = results_of(Mode::Long, 32 * 8, |a| {
        for devfn in 0..32 * 8 {
            select(a, address(0, devfn >> 3, devfn & 7, 0));
            record_dword(a);
        }
    });
    let found: Vec<usize> = (0..32 * 8).filter(|n| ids[*n] != u32::MAX).collect();
    assert_eq!(found, [0, 1 << 3, 1 << 3 | 1, 1 << 3 | 3, 2 << 3]);
}

#[test]
fn bytes_and_words_are_read_in_place() {
    let got = results_of(Mode::Protected, 8, |a| {
        select(a, address(0, 0, 0, 0));
        for n in 0..4 {
            a.inb(CONFDATA + n);
            a.record(Eax);
        }
        for n in 0..3 {
            a.inw(CONFDATA + n);
            a.record(Eax);
        }
        a.inl(CONFADD);
        a.record(Eax);
    });
    assert_eq!(got, [0x86, 0x80, 0x37, 0x12, 0x8086, 0x3780, 0x1237, 1 << 31]);
}

#[test]
fn bytes_and_words_are_written_in_place() {
    // PMCCFG of the host bridge: 50h and 51h are storage.
    let got = results_of(Mode::Protected, 4, |a| {
        select(a, address(0, 0, 0, 0x50));
        record_dword(a);
        a.out(CONFDATA + 1, 0xab);
        record_dword(a);
        a.out(CONFDATA, 0xcd);
        record_dword(a);
        a.out16(CONFDATA, 0x1234);
        record_dword(a);
    });
    let rest = got[0] & 0xffff_0000;
    assert_eq!(got[1..], [rest | 0xab00, rest | 0xabcd, rest | 0x1234], "{got:x?}");
}

#[test]
fn data_port_is_all_ones_while_configuration_cycles_are_off() {
    let got = results_of(Mode::Long, 2, |a| {
        select(a, 0);
        record_dword(a);
        select(a, address(0, 0, 0, 0));
        // Bytes do not reach CONFADD: CF9h is the reset control register, CFBh nobody's.
        a.out(CONFADD + 3, 0);
        record_dword(a);
    });
    assert_eq!(got, [u32::MAX, 0x1237_8086]);
}

#[test]
fn firmware_has_placed_the_power_management_ports() {
    let got = results_of(Mode::Long, 2, |a| {
        select(a, address(0, 1, 3, 0x40));
        record_dword(a);
        select(a, address(0, 1, 3, 0x80));
        a.inb(CONFDATA);
        a.record(Eax);
    });
    assert_eq!(got, [0x601, 1]);
}
