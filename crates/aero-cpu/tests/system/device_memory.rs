//! Instructions on device memory: as many accesses as hardware makes, each of the size that it has.

use crate::guest::*;
use aero_cpu::state::reg;

/// The video window is device memory.
const MMIO: u64 = 0xa_8000;

fn absolute(opcode: &[u8], at: u64) -> Vec<u8> {
    [opcode, &(at as u32).to_le_bytes()].concat()
}

/// The accesses of `code`: address, bytes, and whether it is a write.
fn accesses(mode: Mode, code: &[u8]) -> Vec<(u64, u32, bool)> {
    let mut g = Guest::new(mode);
    for (r, value) in
        [(reg::RSI, MMIO), (reg::RDI, MMIO + 0x100), (reg::RCX, 2), (reg::RDX, u64::from(u32::MAX))]
    {
        g.st().set_gpr(r, value);
    }
    g.st().set_gpr(reg::RAX, u64::from(u32::MAX));
    g.fine(code);
    g.board.device.iter().map(|(at, len, value)| (*at, *len, value.is_some())).collect()
}

const R: bool = false;
const W: bool = true;

#[test]
fn loads_and_stores_keep_their_size() {
    let at = MMIO + 1;
    for (code, want) in [
        (absolute(&[0x8a, 0x04, 0x25], at), vec![(at, 1, R)]),
        (absolute(&[0x66, 0x8b, 0x04, 0x25], at), vec![(at, 2, R)]),
        (absolute(&[0x8b, 0x04, 0x25], at), vec![(at, 4, R)]),
        (absolute(&[0x48, 0x8b, 0x04, 0x25], at), vec![(at, 8, R)]),
        (absolute(&[0x48, 0x89, 0x04, 0x25], at), vec![(at, 8, W)]),
        (absolute(&[0x0f, 0xb6, 0x04, 0x25], at), vec![(at, 1, R)]),
        (absolute(&[0xff, 0x34, 0x25], at), vec![(at, 8, R)]),
        (absolute(&[0x8c, 0x1c, 0x25], at), vec![(at, 2, W)]),
        (absolute(&[0x0f, 0x01, 0x24, 0x25], at), vec![(at, 2, W)]),
        (absolute(&[0x0f, 0x10, 0x04, 0x25], at), vec![(at, 8, R), (at + 8, 8, R)]),
        (absolute(&[0x0f, 0x29, 0x04, 0x25], MMIO), vec![(MMIO, 8, W), (MMIO + 8, 8, W)]),
        (absolute(&[0x0f, 0x6f, 0x04, 0x25], at), vec![(at, 8, R)]),
        (absolute(&[0x66, 0x0f, 0x6e, 0x04, 0x25], at), vec![(at, 4, R)]),
    ] {
        assert_eq!(accesses(Mode::Long, &code), want, "{code:02x?}");
    }
}

#[test]
fn read_modify_write_reads_once_and_writes_once() {
    let at = MMIO;
    for (code, len) in [
        (absolute(&[0x01, 0x04, 0x25], at), 4),       // add
        (absolute(&[0xfe, 0x04, 0x25], at), 1),       // inc
        (absolute(&[0x66, 0xf7, 0x14, 0x25], at), 2), // not
        (absolute(&[0x48, 0x87, 0x04, 0x25], at), 8), // xchg
        (absolute(&[0x0f, 0xc1, 0x04, 0x25], at), 4), // xadd
        (absolute(&[0x0f, 0xb1, 0x14, 0x25], at), 4), // cmpxchg
        (absolute(&[0x0f, 0xb3, 0x04, 0x25], at), 4), // btr, bit 31 of the last dword below
        (absolute(&[0xd1, 0x04, 0x25], at), 4),       // rol
        (absolute(&[0x0f, 0xc7, 0x0c, 0x25], at), 8), // cmpxchg8b
    ] {
        let seen = accesses(Mode::Long, &code);
        let place = seen[0].0;
        assert_eq!(seen, [(place, len, R), (place, len, W)], "{code:02x?}");
    }
    let pair = absolute(&[0x48, 0x0f, 0xc7, 0x0c, 0x25], at);
    assert_eq!(accesses(Mode::Long, &pair), [(at, 8, R), (at + 8, 8, R), (at, 8, W), (at + 8, 8, W)]);
    // What only looks does not write.
    for code in [absolute(&[0x39, 0x04, 0x25], at), absolute(&[0x85, 0x04, 0x25], at)] {
        assert_eq!(accesses(Mode::Long, &code), [(at, 4, R)], "{code:02x?}");
    }
}

#[test]
fn string_instructions_access_element_by_element() {
    for mode in [Mode::Protected32, Mode::Long] {
        let (s, d) = (MMIO, MMIO + 0x100);
        assert_eq!(
            accesses(mode, &[0xf3, 0xa5]),
            [(s, 4, R), (d, 4, W), (s + 4, 4, R), (d + 4, 4, W)],
            "{mode:?}: movs"
        );
        assert_eq!(accesses(mode, &[0xf3, 0xaa]), [(d, 1, W), (d + 1, 1, W)], "stos");
        assert_eq!(accesses(mode, &[0xf3, 0x66, 0xad]), [(s, 2, R), (s + 2, 2, R)], "lods");
        assert_eq!(
            accesses(mode, &[0xf3, 0xa7]),
            [(s, 4, R), (d, 4, R), (s + 4, 4, R), (d + 4, 4, R)],
            "cmps"
        );
        assert_eq!(accesses(mode, &[0xf3, 0xaf]), [(d, 4, R), (d + 4, 4, R)], "scas");
        assert_eq!(accesses(mode, &[0xf3, 0x6c]), [(d, 1, W), (d + 1, 1, W)], "ins");
    }
}

#[test]
fn access_across_device_pages_comes_in_bytes() {
    let at = MMIO + 0xffe;
    let seen = accesses(Mode::Long, &absolute(&[0x8b, 0x04, 0x25], at));
    assert_eq!(seen, [(at, 1, R), (at + 1, 1, R), (at + 2, 1, R), (at + 3, 1, R)]);
}

#[test]
fn fault_in_the_second_page_touches_no_device() {
    let mut g = Guest::new(Mode::Long);
    g.set_pte(MMIO + 0x1000, 0);
    g.faults(&absolute(&[0x89, 0x04, 0x25], MMIO + 0xffe), 0, 14, Some(2));
    assert_eq!(g.board.device, []);
}
