//! Who may do what with a page beyond user, writable and no-execute: SMEP, SMAP, protection keys; and what CPL 3 may not
//! see or may change: UMIP, the bases of FS and GS.

use crate::guest::*;
use aero_cpu::state::{cr0, cr4, eflags, reg, seg};

const PAGED: [Mode; 3] = [Mode::Paged32, Mode::Pae, Mode::Long];
const STAC: [u8; 3] = [0x0f, 0x01, 0xcb];
const CLAC: [u8; 3] = [0x0f, 0x01, 0xca];
const WRPKRU: [u8; 3] = [0x0f, 0x01, 0xef];
const RDPKRU: [u8; 3] = [0x0f, 0x01, 0xee];

/// All pages are the supervisor's but that of `DATA`, which belongs to users.
fn supervised(mode: Mode) -> Guest {
    let mut g = Guest::new(mode);
    let pages = if mode == Mode::Paged32 { 1024 } else { 512 };
    (0..pages).for_each(|n| g.set_pte(n << 12, n << 12 | 3));
    g.set_pte(DATA, DATA | 7);
    g
}

#[track_caller]
fn page_fault(g: &mut Guest, code: &[u8], at: u64, error: u64, address: u64) {
    g.faults(code, at, 14, Some(error));
    assert_eq!(g.st().cr2, address);
}

#[test]
fn smep_keeps_supervisors_from_running_user_pages() {
    for mode in PAGED {
        let mut g = supervised(mode);
        g.write(DATA, &[0xf4]);
        assert_eq!(g.run(&jump(DATA)), End::Halt);
        g.st().cr4 |= cr4::SMEP;
        let t = g.trap(&jump(DATA));
        assert_eq!((t.vector, t.error, t.ip), (14, Some(0x11), DATA));
        // Data accesses are free, and an absent page tells of the fetch even without no-execute.
        g.fine(&[load_eax(DATA), store_eax(DATA)].concat());
        g.st().msr.efer &= !aero_cpu::state::efer::NXE;
        g.set_pte(DATA, 0);
        let t = g.trap(&jump(DATA));
        assert_eq!((t.vector, t.error), (14, Some(0x10)));
    }
}

#[test]
fn smep_set_by_a_running_program_counts_from_the_next_fetch() {
    let mut g = supervised(Mode::Long);
    // CODE itself is the user's page, run warm, before CR4 changes under it.
    g.set_pte(CODE, CODE | 7);
    let code = [&[0x0f, 0x20, 0xe0, 0x0d][..], &(cr4::SMEP as u32).to_le_bytes(), &[0x0f, 0x22, 0xe0, 0x90]]
        .concat();
    let t = g.trap(&code);
    assert_eq!((t.vector, t.error, t.ip), (14, Some(0x11), CODE + 11));
}

#[test]
fn smap_keeps_supervisors_from_user_data_unless_ac_is_set() {
    for mode in PAGED {
        let mut g = supervised(mode);
        g.st().cr4 |= cr4::SMAP;
        page_fault(&mut g, &load_eax(DATA), 0, 1, DATA);
        page_fault(&mut g, &store_eax(DATA), 0, 3, DATA);
        g.fine(&[&STAC[..], &load_eax(DATA), &store_eax(DATA)].concat());
        // What AC let through is not remembered for when it is clear again.
        let code = [&STAC[..], &load_eax(DATA), &store_eax(DATA), &CLAC, &load_eax(DATA)].concat();
        page_fault(&mut g, &code, code.len() as u64 - 7, 1, DATA);
        // Fetches are SMEP's business.
        g.write(DATA, &[0xf4]);
        assert_eq!(g.run(&jump(DATA)), End::Halt);
        // Read-only pages stay so.
        g.set_pte(DATA, DATA | 5);
        page_fault(&mut g, &[&STAC[..], &store_eax(DATA)].concat(), 3, 3, DATA);
    }
}

#[test]
fn flags_popped_with_ac_open_user_data_too() {
    let mut g = supervised(Mode::Long);
    g.st().cr4 |= cr4::SMAP;
    // push 0x40002; popfq; load; push 2; popfq; load
    let code = [&[0x68, 2, 0, 4, 0, 0x9d][..], &load_eax(DATA), &[0x6a, 2, 0x9d], &load_eax(DATA)].concat();
    page_fault(&mut g, &code, code.len() as u64 - 7, 1, DATA);
}

#[test]
fn processor_reads_its_tables_in_user_pages_under_smap_never() {
    for (mode, ac) in [(Mode::Pae, 0), (Mode::Pae, eflags::AC), (Mode::Long, 0), (Mode::Long, eflags::AC)] {
        let mut g = supervised(mode);
        g.st().cr4 |= cr4::SMAP;
        // mov ds, ax reads the table, which has moved to the user's page.
        let table: [u8; 256] = g.bytes(GDT);
        g.write(DATA, &table);
        g.st().gdtr.base = DATA;
        g.st().eflags |= ac;
        // A handler's CS is read there, too: nothing can be delivered.
        let end = g.run(&[&mov(0, DS0.into())[..], &[0x8e, 0xd8]].concat());
        assert_eq!(end, End::Exit(aero_cpu::Exit::Shutdown), "{mode:?} {ac:#x}");
        assert_eq!(g.st().cr2 & !0xff, DATA);
    }
}

#[test]
fn stac_and_clac_are_undefined_outside_cpl_0() {
    let mut g = Guest::user(Mode::Long);
    g.faults(&STAC, 0, 6, None);
    g.faults(&CLAC, 0, 6, None);
    let mut g = Guest::new(Mode::Protected32);
    g.fine(&STAC);
    assert_eq!(g.st().eflags & eflags::AC, eflags::AC);
    g.fine(&CLAC);
    assert_eq!(g.st().eflags & eflags::AC, 0);
}

/// A page of key `key` at `DATA`, with keys switched on.
fn keyed(mut g: Guest, flags: u64, key: u64) -> Guest {
    g.st().cr4 |= cr4::PKE | cr4::PKS;
    g.set_pte(DATA, DATA | flags | key << 59);
    g
}

#[test]
fn user_keys_bind_data_accesses_by_pkru() {
    const KEY: u64 = 5;
    const NO_ACCESS: u32 = 1 << (2 * KEY);
    const NO_WRITE: u32 = 2 << (2 * KEY);
    for user in [true, false] {
        let guest = || if user { Guest::user(Mode::Long) } else { Guest::new(Mode::Long) };
        let u = if user { 4 } else { 0 };
        let mut g = keyed(guest(), 7, KEY);
        let halts = |g: &mut Guest, code: &[u8]| {
            // At CPL 3 the HLT at the end is a #GP.
            let end = g.run(code);
            assert!(end == End::Halt || matches!(end, End::Trap(t) if t.vector == 13), "{end:x?}");
        };
        g.st().pkru = NO_ACCESS;
        page_fault(&mut g, &load_eax(DATA), 0, 0x21 | u, DATA);
        page_fault(&mut g, &store_eax(DATA), 0, 0x23 | u, DATA);
        g.st().pkru = NO_WRITE;
        halts(&mut g, &load_eax(DATA));
        page_fault(&mut g, &store_eax(DATA), 0, 0x23 | u, DATA);
        // Without WP a supervisor writes all the same, but cannot access what is closed.
        g.st().cr0 &= !cr0::WP;
        if user {
            page_fault(&mut g, &store_eax(DATA), 0, 0x27, DATA);
        } else {
            g.fine(&store_eax(DATA));
        }
        g.st().pkru = NO_ACCESS;
        page_fault(&mut g, &store_eax(DATA), 0, 0x23 | u, DATA);
        // Other keys, switched off keys, and fetches are free.
        g.st().cr0 |= cr0::WP;
        g.st().pkru = !(NO_ACCESS | NO_WRITE | 3);
        halts(&mut g, &store_eax(DATA));
        g.write(DATA, &[0xf4]);
        g.st().pkru = NO_ACCESS;
        let end = g.run(&jump(DATA));
        assert!(end == End::Halt || matches!(end, End::Trap(t) if t.vector == 13), "{end:x?}");
        g.st().cr4 &= !cr4::PKE;
        halts(&mut g, &store_eax(DATA));
    }
}

#[test]
fn wrpkru_counts_at_once_and_rdpkru_reads_it() {
    let mut g = keyed(Guest::new(Mode::Long), 7, 1);
    let wrpkru = |value: u32| [&mov(0, value)[..], &[0x31, 0xc9, 0x31, 0xd2], &WRPKRU].concat();
    // Open and warm, then closed to writes, then closed.
    let warm = [load_eax(DATA), store_eax(DATA)].concat();
    let code = [&wrpkru(0)[..], &warm, &wrpkru(8), &load_eax(DATA), &store_eax(DATA)].concat();
    page_fault(&mut g, &code, code.len() as u64 - 7, 0x23, DATA);
    let code = [&wrpkru(0)[..], &warm, &wrpkru(4), &load_eax(DATA)].concat();
    page_fault(&mut g, &code, code.len() as u64 - 7, 0x21, DATA);
    // And open again.
    g.fine(&[&wrpkru(4)[..], &wrpkru(0), &warm].concat());
    g.fine(&[&wrpkru(0x1234_5670)[..], &[0xf7, 0xd2, 0xf7, 0xd0], &RDPKRU].concat());
    assert_eq!((g.gpr(reg::RAX), g.gpr(reg::RDX)), (0x1234_5670, 0));
    g.st().pkru = 0;
    g.faults(&[&mov(1, 1)[..], &RDPKRU].concat(), 5, 13, Some(0));
    g.faults(&[&mov(1, 1)[..], &mov(2, 0), &WRPKRU].concat(), 10, 13, Some(0));
    g.faults(&[&mov(1, 0)[..], &mov(2, 1), &WRPKRU].concat(), 10, 13, Some(0));
    g.st().cr4 &= !cr4::PKE;
    g.faults(&[&mov(1, 0)[..], &RDPKRU].concat(), 5, 6, None);
    g.faults(&[&mov(1, 0)[..], &WRPKRU].concat(), 5, 6, None);
}

#[test]
fn supervisor_keys_bind_supervisor_pages_by_pkrs() {
    let pkrs = |value: u32| [&mov(1, 0x6e1)[..], &mov(0, value), &mov(2, 0), &[0x0f, 0x30]].concat();
    let mut g = keyed(Guest::new(Mode::Long), 3, 2);
    let warm = [load_eax(DATA), store_eax(DATA)].concat();
    let code = [&pkrs(0)[..], &warm, &pkrs(0x20), &load_eax(DATA), &store_eax(DATA)].concat();
    page_fault(&mut g, &code, code.len() as u64 - 7, 0x23, DATA);
    let code = [&pkrs(0)[..], &warm, &pkrs(0x10), &load_eax(DATA)].concat();
    page_fault(&mut g, &code, code.len() as u64 - 7, 0x21, DATA);
    g.st().cr0 &= !cr0::WP;
    g.fine(&[&pkrs(0x20)[..], &warm].concat());
    // PKRU has no say there, PKRS none over user pages.
    g.st().msr.pkrs = 0;
    g.st().pkru = !3;
    g.fine(&warm);
    g.st().pkru = 0;
    g.st().msr.pkrs = 0xffff_fffc;
    g.set_pte(DATA, DATA | 7 | 2 << 59);
    g.fine(&warm);
    let high = [&mov(1, 0x6e1)[..], &mov(0, 0), &mov(2, 1), &[0x0f, 0x30]].concat();
    g.faults(&high, 15, 13, Some(0));
}

#[test]
fn keys_are_of_4_level_paging_only() {
    // With PAE outside long mode the bits of a key are reserved.
    let mut g = Guest::new(Mode::Pae);
    g.set_pte(DATA, DATA | 7 | 1 << 59);
    page_fault(&mut g, &load_eax(DATA), 0, 9, DATA);
    let mut g = Guest::user(Mode::Pae);
    g.st().cr4 |= cr4::PKE;
    g.st().pkru = u32::MAX;
    g.faults(&load_eax(DATA), 7, 13, Some(0)); // the HLT
}

/// SGDT, SIDT, SLDT, STR, SMSW to `[DATA]` and the last three to EAX.
const STORES: [&[u8]; 8] = [
    &[0x0f, 0x01, 0x04, 0x25, 0, 0, 3, 0],
    &[0x0f, 0x01, 0x0c, 0x25, 0, 0, 3, 0],
    &[0x0f, 0x00, 0x04, 0x25, 0, 0, 3, 0],
    &[0x0f, 0x00, 0x0c, 0x25, 0, 0, 3, 0],
    &[0x0f, 0x01, 0x24, 0x25, 0, 0, 3, 0],
    &[0x0f, 0x00, 0xc0],
    &[0x0f, 0x00, 0xc8],
    &[0x0f, 0x01, 0xe0],
];

#[test]
fn umip_hides_the_tables_from_cpl_3() {
    for mode in [Mode::Protected32, Mode::Long, Mode::Compatibility] {
        for code in STORES {
            let mut g = Guest::user(mode);
            g.faults(code, code.len() as u64, 13, Some(0)); // the HLT
            g.st().cr4 |= cr4::UMIP;
            g.faults(code, 0, 13, Some(0));
            let mut g = Guest::new(mode);
            g.st().cr4 |= cr4::UMIP;
            g.fine(code);
        }
    }
}

#[test]
fn bases_of_fs_and_gs_are_read_and_written_where_cr4_allows() {
    for (segment, write, read) in [(seg::FS, 0xd0, 0xc0), (seg::GS, 0xd8, 0xc8)] {
        let mut g = Guest::user(Mode::Long);
        let long = |modrm: u8| vec![0xf3, 0x48, 0x0f, 0xae, modrm];
        g.faults(&long(write), 0, 6, None);
        g.faults(&long(read), 0, 6, None);
        g.st().cr4 |= cr4::FSGSBASE;
        g.st().set_gpr(reg::RAX, 0xffff_8000_1234_5678);
        g.faults(&long(write), 5, 13, Some(0)); // the HLT
        assert_eq!(g.st().segments[usize::from(segment)].base, 0xffff_8000_1234_5678);
        g.st().set_gpr(reg::RAX, 0);
        g.faults(&long(read), 5, 13, Some(0));
        assert_eq!(g.gpr(reg::RAX), 0xffff_8000_1234_5678);
        g.faults(&[0xf3, 0x0f, 0xae, read], 4, 13, Some(0));
        assert_eq!(g.gpr(reg::RAX), 0x1234_5678);
        g.st().set_gpr(reg::RAX, 0xffff_ffff_8765_4321);
        g.faults(&[0xf3, 0x0f, 0xae, write], 4, 13, Some(0));
        assert_eq!(g.st().segments[usize::from(segment)].base, 0x8765_4321);
        g.st().set_gpr(reg::RAX, 1 << 47);
        g.faults(&long(write), 0, 13, Some(0));
        assert_eq!(g.st().segments[usize::from(segment)].base, 0x8765_4321);
    }
    let mut g = Guest::new(Mode::Compatibility);
    g.st().cr4 |= cr4::FSGSBASE;
    g.faults(&[0xf3, 0x0f, 0xae, 0xc0], 0, 6, None);
}
