//! Page-table walks as a guest sees them: error codes, CR2, accessed and dirty bits, TLB invalidation, canonical
//! addresses, accesses and instructions that cross pages.

use crate::guest::*;
use aero_cpu::state::{cr0, cr4, efer, reg};

const PAGED: [Mode; 3] = [Mode::Paged32, Mode::Pae, Mode::Long];
const NX: u64 = 1 << 63;
const ACCESSED: u64 = 0x20;
const DIRTY: u64 = 0x40;

#[track_caller]
fn page_fault(g: &mut Guest, code: &[u8], at: u64, error: u64, address: u64) {
    g.faults(code, at, 14, Some(error));
    assert_eq!(g.st().cr2, address);
}

/// In the mode, with the page of `DATA` mapped by `pte`.
fn with_page(mode: Mode, user: bool, pte: u64) -> Guest {
    let mut g = if user { Guest::user(mode) } else { Guest::new(mode) };
    g.set_pte(DATA, pte);
    g
}

#[test]
fn error_code_tells_presence_write_and_privilege() {
    const AT: u64 = DATA + 0x10;
    for mode in PAGED {
        for (user, u) in [(false, 0), (true, 4)] {
            page_fault(&mut with_page(mode, user, 0), &load_eax(AT), 0, u, AT);
            page_fault(&mut with_page(mode, user, 0), &store_eax(AT), 0, u | 2, AT);
            page_fault(&mut with_page(mode, user, DATA | 5), &store_eax(AT), 0, u | 3, AT);
        }
        page_fault(&mut with_page(mode, true, DATA | 3), &load_eax(AT), 0, 5, AT);
        page_fault(&mut with_page(mode, true, DATA | 3), &store_eax(AT), 0, 7, AT);
    }
}

// checklist: 15
#[test]
fn fetch_fault_sets_the_instruction_bit_only_with_no_execute_enabled() {
    for mode in PAGED {
        let i = if mode == Mode::Paged32 { 0 } else { 16 };
        for (user, u) in [(false, 0), (true, 4)] {
            let mut g = with_page(mode, user, 0);
            let t = g.trap(&jump(DATA));
            assert_eq!((t.vector, t.error, t.ip), (14, Some(u | i), DATA));
            assert_eq!(g.st().cr2, DATA);
            if mode == Mode::Paged32 {
                continue;
            }
            let t = with_page(mode, user, DATA | 7 | NX).trap(&jump(DATA));
            assert_eq!((t.vector, t.error, t.ip), (14, Some(u | 17), DATA));
            let mut g = with_page(mode, user, 0);
            g.st().msr.efer &= !efer::NXE;
            let t = g.trap(&jump(DATA));
            assert_eq!((t.vector, t.error, t.ip), (14, Some(u), DATA));
        }
    }
}

#[test]
fn no_execute_page_can_still_be_read_and_written() {
    for mode in [Mode::Pae, Mode::Long] {
        let mut g = with_page(mode, false, DATA | 7 | NX);
        g.fine(&[load_eax(DATA), store_eax(DATA)].concat());
    }
}

#[test]
fn reserved_bits_fault_with_rsvd() {
    for (mode, bit) in
        [(Mode::Pae, 1 << 52), (Mode::Pae, 1 << 36), (Mode::Long, 1 << 36), (Mode::Long, 1 << 51)]
    {
        page_fault(&mut with_page(mode, false, DATA | 7 | bit), &load_eax(DATA), 0, 9, DATA);
        page_fault(&mut with_page(mode, true, DATA | 7 | bit), &store_eax(DATA), 0, 15, DATA);
    }
    // Software bits of long mode are free.
    with_page(Mode::Long, false, DATA | 7 | 0x7ff << 52).fine(&load_eax(DATA));
    for mode in [Mode::Pae, Mode::Long] {
        let mut g = with_page(mode, false, DATA | 7 | NX);
        g.st().msr.efer &= !efer::NXE;
        page_fault(&mut g, &load_eax(DATA), 0, 9, DATA);
    }
}

#[test]
fn reserved_bits_of_large_pages_and_upper_levels_fault() {
    const AT: u64 = 0x40_0000 + DATA;
    let mut g = Guest::new(Mode::Paged32);
    g.write32(TABLES + 4, 0x87 | 1 << 21);
    page_fault(&mut g, &load_eax(AT), 0, 9, AT);
    for mode in [Mode::Pae, Mode::Long] {
        let mut g = Guest::new(mode);
        g.write64(TABLES + 0x2000 + 8, 0x87 | 1 << 13);
        page_fault(&mut g, &load_eax(0x20_0000), 0, 9, 0x20_0000);
    }
    let mut g = Guest::new(Mode::Long);
    g.write64(TABLES + 0x1000 + 8, 0x87 | 1 << 13);
    page_fault(&mut g, &load_eax(0x4000_0000), 0, 9, 0x4000_0000);
    let mut g = Guest::new(Mode::Long);
    g.write64(TABLES + 8, (TABLES + 0x1000) | 0x87);
    // mov rax, [1 << 39]
    page_fault(&mut g, &[0x48, 0xa1, 0, 0, 0, 0, 0x80, 0, 0, 0], 0, 9, 1 << 39);
}

#[test]
fn large_pages_map_what_they_say() {
    const FRAME: u64 = 0x40_0000;
    let mut g = Guest::new(Mode::Paged32);
    g.write32(FRAME + 0x12_3454, 0xfeed);
    g.write32(TABLES + 0x200 * 4, FRAME as u32 | 0x87);
    g.fine(&load_eax(0x8000_0000 + 0x12_3454));
    assert_eq!(g.gpr(0), 0xfeed);
    // Without PSE the entry names a page table.
    g.write32(FRAME + 0x123 * 4, DATA as u32 | 7);
    g.write32(DATA + 0x454, 0xbeef);
    g.st().cr4 &= !cr4::PSE;
    g.fine(&load_eax(0x8000_0000 + 0x12_3454));
    assert_eq!(g.gpr(0), 0xbeef);
    for mode in [Mode::Pae, Mode::Long] {
        let mut g = Guest::new(mode);
        g.write32(FRAME + 0x12_3454, 0xfeed);
        g.write64(TABLES + 0x2000 + 8, FRAME | 0x87);
        g.fine(&load_eax(0x20_0000 + 0x12_3454));
        assert_eq!(g.gpr(0), 0xfeed);
    }
    let mut g = Guest::new(Mode::Long);
    g.write32(FRAME + 0x12_3454, 0xfeed);
    g.write64(TABLES + 0x1000 + 8, 0x87);
    g.fine(&load_eax(0x4000_0000 + FRAME + 0x12_3454));
    assert_eq!(g.gpr(0), 0xfeed);
}

#[test]
fn rights_of_all_levels_combine() {
    // A table entry without W, U or with NX takes the right away from the page.
    for mode in PAGED {
        let (entry, at) = match mode {
            Mode::Paged32 => (TABLES + 4, 0x40_0000 + DATA),
            _ => (TABLES + 0x2000 + 8, 0x20_0000 + DATA),
        };
        let mut g = Guest::new(mode);
        g.write32(entry, PAGE_TABLE as u32 | 5);
        page_fault(&mut g, &store_eax(at), 0, 3, at);
        let mut g = Guest::user(mode);
        g.write32(entry, PAGE_TABLE as u32 | 3);
        page_fault(&mut g, &load_eax(at), 0, 5, at);
        if mode != Mode::Paged32 {
            g.write64(entry, PAGE_TABLE | 7 | NX);
            g.st();
            let t = g.trap(&jump(at));
            assert_eq!((t.vector, t.error, t.ip), (14, Some(21), at));
        }
    }
    for (entry, table, at) in [
        (TABLES + 0x1000 + 8, TABLES + 0x2000, 0x4000_0000 + DATA),
        (TABLES + 0x1000 + 8, TABLES + 0x2000, 0x4000_0000 + CODE),
    ] {
        let mut g = Guest::user(Mode::Long);
        g.write64(entry, table | 5);
        page_fault(&mut g, &store_eax(at), 0, 7, at);
        g.write64(entry, table | 3);
        g.st();
        page_fault(&mut g, &load_eax(at), 0, 5, at);
        g.write64(entry, table | 7 | NX);
        g.st();
        let t = g.trap(&jump(at));
        assert_eq!((t.vector, t.error, t.ip), (14, Some(21), at));
    }
}

#[test]
fn supervisor_writes_read_only_pages_only_without_wp() {
    for mode in PAGED {
        let mut g = with_page(mode, false, DATA | 5);
        g.st().cr0 &= !cr0::WP;
        g.st().set_gpr(reg::RAX, 0x77);
        g.fine(&store_eax(DATA));
        assert_eq!(g.read32(DATA), 0x77);
        assert_eq!(g.pte(DATA) & 0xfff, 5 | ACCESSED | DIRTY);
        let mut g = with_page(mode, true, DATA | 5);
        g.st().cr0 &= !cr0::WP;
        page_fault(&mut g, &store_eax(DATA), 0, 7, DATA);
        // Setting WP in a running program takes effect at once.
        let mut g = with_page(mode, false, DATA | 5);
        g.st().cr0 &= !cr0::WP;
        let code = [
            &[0x0f, 0x20, 0xc3][..],
            &store_eax(DATA),
            &[0x0f, 0x20, 0xc0, 0x0d, 0, 0, 1, 0, 0x0f, 0x22, 0xc0],
            &store_eax(DATA),
        ]
        .concat();
        page_fault(&mut g, &code, code.len() as u64 - 7, 3, DATA);
    }
}

#[test]
fn accessed_and_dirty_bits_are_set_only_when_due() {
    for mode in PAGED {
        let mut g = Guest::new(mode);
        g.fine(&load_eax(DATA));
        assert_eq!(g.pte(DATA), DATA | 7 | ACCESSED, "{mode:?}");
        assert_eq!(g.pte(DATA + 0x1000), (DATA + 0x1000) | 7);
        g.fine(&store_eax(DATA));
        assert_eq!(g.pte(DATA), DATA | 7 | ACCESSED | DIRTY);
        let directory = if mode == Mode::Paged32 { TABLES } else { TABLES + 0x2000 };
        assert_eq!(g.read32(directory) & 0x60, ACCESSED as u32, "a directory entry has no dirty bit");
        // A read that fills the TLB does not let a later write pass unseen.
        let mut g = Guest::new(mode);
        g.fine(&[load_eax(DATA), store_eax(DATA)].concat());
        assert_eq!(g.pte(DATA), DATA | 7 | ACCESSED | DIRTY);
        // A refused write sets no dirty bit.
        let mut g = with_page(mode, false, DATA | 5);
        g.trap(&store_eax(DATA));
        assert_eq!(g.pte(DATA) & DIRTY, 0);
        // Instruction fetches set the accessed bit.
        assert_eq!(g.pte(CODE) & 0x60, ACCESSED);
    }
    let mut g = Guest::new(Mode::Long);
    g.write64(TABLES + 0x2000 + 8, 0x87);
    g.fine(&load_eax(0x20_0000));
    assert_eq!(g.read64(TABLES + 0x2000 + 8), 0x87 | ACCESSED);
    g.fine(&store_eax(0x30_0000));
    assert_eq!(g.read64(TABLES + 0x2000 + 8), 0x87 | ACCESSED | DIRTY);
}

#[test]
fn read_modify_write_faults_as_a_write() {
    for mode in PAGED {
        // add [DATA], eax; xchg; cmpxchg that would not store; bts
        for op in [&[0x01][..], &[0x87], &[0x0f, 0xb1], &[0x0f, 0xab], &[0x0f, 0xc1], &[0x31]] {
            let code = [op, &[0x04, 0x25], &(DATA as u32).to_le_bytes()].concat();
            page_fault(&mut with_page(mode, false, DATA | 5), &code, 0, 3, DATA);
            page_fault(&mut with_page(mode, false, 0), &code, 0, 2, DATA);
        }
    }
}

/// `DATA` holds 1 and `DATA + 0x1000` holds 2; both frames can stand behind `DATA`.
fn two_frames(mode: Mode, flags: u64) -> Guest {
    let mut g = Guest::new(mode);
    g.write32(DATA, 1);
    g.write32(DATA + 0x1000, 2);
    g.set_pte(DATA, DATA | flags);
    g
}

/// Code that reads `DATA` into EBX, maps the other frame there, runs `between`, and reads again into ECX.
fn remap(g: &Guest, flags: u64, between: &[u8]) -> Vec<u8> {
    [
        &load_eax(DATA)[..],
        &[0x89, 0xc3],
        &[&[0xc7, 0x04, 0x25][..], &(g.pte_at(DATA) as u32).to_le_bytes()].concat(),
        &((DATA + 0x1000) as u32 | flags as u32).to_le_bytes(),
        between,
        &load_eax(DATA),
        &[0x89, 0xc1],
    ]
    .concat()
}

const RELOAD_CR3: [u8; 6] = [0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8];

#[test]
fn cr3_load_drops_all_but_global_pages() {
    for mode in PAGED {
        for (pge, flags, second) in [(false, 7, 2), (false, 0x107, 2), (true, 7, 2), (true, 0x107, 1)] {
            let mut g = two_frames(mode, flags);
            if pge {
                g.st().cr4 |= cr4::PGE;
            }
            let code = remap(&g, flags, &RELOAD_CR3);
            g.fine(&code);
            assert_eq!((g.gpr(3), g.gpr(1)), (1, second), "{mode:?} PGE {pge} {flags:#x}");
        }
        // Toggling CR4.PGE drops global pages too.
        let mut g = two_frames(mode, 0x107);
        g.st().cr4 |= cr4::PGE;
        let toggle = [0x0f, 0x20, 0xe0, 0x34, 0x80, 0x0f, 0x22, 0xe0]; // mov eax, cr4; xor al, 0x80; mov cr4, eax
        let code = remap(&g, 0x107, &toggle);
        g.fine(&code);
        assert_eq!((g.gpr(3), g.gpr(1)), (1, 2));
    }
}

#[test]
fn invlpg_drops_the_page_global_or_not() {
    let invlpg = [&[0x0f, 0x01, 0x3c, 0x25][..], &(DATA as u32 + 0x123).to_le_bytes()].concat();
    for mode in PAGED {
        for flags in [7, 0x107] {
            let mut g = two_frames(mode, flags);
            g.st().cr4 |= cr4::PGE;
            let code = remap(&g, flags, &invlpg);
            g.fine(&code);
            assert_eq!((g.gpr(3), g.gpr(1)), (1, 2));
        }
    }
}

/// Touches both addresses of a large page, unmaps it through `entry`, and invalidates it by `by`.
fn unmap_large(g: &mut Guest, entry: u64, touched: [u64; 2], by: u64) {
    let code = [
        &load_eax(touched[0])[..],
        &load_eax(touched[1]),
        &[0x89, 0x04, 0x25],
        &(touched[1] as u32).to_le_bytes(),
        &[0xc7, 0x04, 0x25],
        &(entry as u32).to_le_bytes(),
        &[0; 4],
        &[0x0f, 0x01, 0x3c, 0x25],
        &(by as u32).to_le_bytes(),
    ]
    .concat();
    g.fine(&code);
    for at in touched {
        // No new look at the tables by the test itself: run without touching the state.
        let t = g.trap(&load_eax(at));
        assert_eq!((t.vector, t.error), (14, Some(0)), "{at:#x}");
        let t = g.trap(&[&[0x89, 0x04, 0x25][..], &(at as u32).to_le_bytes()].concat());
        assert_eq!((t.vector, t.error), (14, Some(2)), "{at:#x}");
    }
}

#[test]
fn invlpg_drops_all_of_a_large_page() {
    let mut g = Guest::new(Mode::Paged32);
    g.write32(TABLES + 4, 0x87);
    unmap_large(&mut g, TABLES + 4, [0x40_0000, 0x7f_f000], 0x50_0000);
    for mode in [Mode::Pae, Mode::Long] {
        let mut g = Guest::new(mode);
        g.write64(TABLES + 0x2000 + 8, 0x87);
        unmap_large(&mut g, TABLES + 0x2000 + 8, [0x20_0000, 0x3f_f000], 0x30_0000);
    }
}

#[test]
fn non_canonical_data_is_gp_and_stack_is_ss() {
    let mut g = Guest::new(Mode::Long);
    g.st().set_gpr(reg::RBX, 0x0000_8000_0000_0000);
    g.st().set_gpr(reg::RBP, 0xffff_7fff_ffff_ffff);
    g.faults(&[0x8b, 0x03], 0, 13, Some(0));
    g.faults(&[0x89, 0x03], 0, 13, Some(0));
    g.faults(&[0x8b, 0x45, 0], 0, 12, Some(0));
    g.faults(&[0x3e, 0x8b, 0x45, 0], 0, 12, Some(0)); // DS override is ignored in 64-bit mode
    g.faults(&[0x64, 0x8b, 0x45, 0], 0, 13, Some(0)); // FS is not
    // The last bytes below the hole
    g.st().set_gpr(reg::RBX, 0x0000_7fff_ffff_fffe);
    g.faults(&[0x8b, 0x03], 0, 13, Some(0));
    g.faults(&[0x66, 0x8b, 0x03], 0, 14, Some(0));
}

#[test]
fn non_canonical_stack_pointer_is_ss() {
    // push, pop, pushf, iretq, retf, leave
    const ALL: [&[u8]; 6] = [&[0x50], &[0x58], &[0x9c], &[0x48, 0xcf], &[0x48, 0xcb], &[0xc9]];
    for code in ALL {
        let mut g = Guest::new(Mode::Long);
        g.set_ist(12);
        g.st().set_gpr(reg::RSP, 0x0000_9000_0000_0000);
        g.st().set_gpr(reg::RBP, 0x0000_9000_0000_0000);
        g.faults(code, 0, 12, Some(0));
    }
}

#[test]
fn branch_to_a_non_canonical_address_is_gp_at_the_branch() {
    let mut g = Guest::new(Mode::Long);
    g.st().set_gpr(reg::RBX, 0x0000_8000_0000_0000);
    g.faults(&[0xff, 0xe3], 0, 13, Some(0)); // jmp rbx
    g.faults(&[0xff, 0xd3], 0, 13, Some(0)); // call rbx
    g.faults(&[0x53, 0xc3], 1, 13, Some(0)); // push rbx; ret
}

#[test]
fn wrmsr_of_a_base_checks_canonical_and_fs_uses_it() {
    let mut g = Guest::new(Mode::Long);
    g.write32(DATA, 0x1234);
    let wrmsr = [&mov(1, 0xc000_0100)[..], &mov(0, DATA as u32 - 0x40), &[0x31, 0xd2, 0x0f, 0x30]].concat();
    g.fine(&[&wrmsr[..], &[0x64, 0x8b, 0x04, 0x25, 0x40, 0, 0, 0]].concat());
    assert_eq!(g.gpr(0), 0x1234);
}

// checklist: 10
#[test]
fn straddling_store_is_all_or_nothing() {
    const END: u64 = DATA + 0x1000;
    // Stores of 2, 4, 8, 16, 10 bytes at [rbx], and read-modify-writes.
    const STORES: [(&[u8], u64); 10] = [
        (&[0x66, 0x89, 0x03], 1),
        (&[0x89, 0x03], 2),
        (&[0x48, 0x89, 0x03], 5),
        (&[0x0f, 0x11, 0x03], 9),
        (&[0xdb, 0x3b], 4),
        (&[0x48, 0x01, 0x03], 3),
        (&[0x48, 0x0f, 0xc1, 0x03], 3),
        (&[0x0f, 0xc7, 0x0b], 3),
        (&[0x0f, 0x01, 0x03], 3),
        (&[0xdd, 0x1b], 3),
    ];
    for (code, back) in STORES {
        for (pte, error) in [(0, 2), ((END) | 5, 3)] {
            let mut g = Guest::new(Mode::Long);
            g.write(END - 16, &[0xa5; 32]);
            g.set_pte(END, pte);
            g.st().set_gpr(reg::RBX, END - back);
            g.st().set_gpr(reg::RAX, 0x1111_1111_1111_1111);
            let code = [&[0xdb, 0xe3, 0xd9, 0xe8], code].concat(); // fninit; fld1
            page_fault(&mut g, &code, 4, error, END);
            assert_eq!(g.bytes::<32>(END - 16), [0xa5; 32], "{code:02x?}");
            assert_eq!(g.gpr(reg::RAX), 0x1111_1111_1111_1111);
        }
        // The first page absent, the second fine.
        let mut g = Guest::new(Mode::Long);
        g.write(END, &[0xa5; 16]);
        g.set_pte(DATA, 0);
        g.st().set_gpr(reg::RBX, END - back);
        let code = [&[0xdb, 0xe3, 0xd9, 0xe8], code].concat();
        page_fault(&mut g, &code, 4, 2, END - back);
        assert_eq!(g.bytes::<16>(END), [0xa5; 16]);
    }
}

#[test]
fn straddling_access_joins_pages_that_are_not_neighbours() {
    for mode in PAGED {
        let mut g = Guest::new(mode);
        g.set_pte(DATA + 0x1000, (DATA + 0x3000) | 7);
        g.write(DATA + 0xffe, &[0x11, 0x22]);
        g.write(DATA + 0x3000, &[0x33, 0x44]);
        g.fine(&load_eax(DATA + 0xffe));
        assert_eq!(g.gpr(0), 0x4433_2211);
        g.st().set_gpr(0, 0xddcc_bbaa);
        g.fine(&store_eax(DATA + 0xffe));
        assert_eq!(g.bytes::<2>(DATA + 0xffe), [0xaa, 0xbb]);
        assert_eq!(g.bytes::<2>(DATA + 0x3000), [0xcc, 0xdd]);
        assert_eq!(g.bytes::<2>(DATA + 0x1000), [0, 0]);
    }
}

#[test]
fn push_into_an_absent_page_leaves_the_stack_pointer() {
    for mode in [Mode::Paged32, Mode::Pae] {
        let mut g = Guest::user(mode);
        g.set_pte(USER_STACK, 0);
        g.st().set_gpr(reg::RSP, USER_STACK + 2);
        let t = g.trap(&[0x50]);
        assert_eq!((t.vector, t.error, t.ip), (14, Some(6), CODE));
        assert_eq!(t.stack, Some((USER_STACK + 2, DS3.into())));
        assert_eq!(g.st().cr2, USER_STACK, "the first byte of the page that is absent");
    }
}

#[test]
fn instruction_across_pages_runs_or_faults_on_the_second_page() {
    for mode in PAGED {
        let mut g = Guest::new(mode);
        // mov eax, 0x44332211 with three bytes on the next page, which lies elsewhere
        let at = DATA + 0xffe;
        g.set_pte(DATA + 0x1000, (DATA + 0x3000) | 7);
        g.write(at, &[0xb8, 0x11]);
        g.write(DATA + 0x3000, &[0x22, 0x33, 0x44, 0xf4]);
        assert_eq!(g.run(&jump(at)), End::Halt);
        assert_eq!(g.gpr(0), 0x4433_2211);
        // Another frame behind the second page: the same place, other bytes.
        g.write(DATA + 0x5000, &[0x99, 0x88, 0x77, 0xf4]);
        g.set_pte(DATA + 0x1000, (DATA + 0x5000) | 7);
        assert_eq!(g.run(&jump(at)), End::Halt);
        assert_eq!(g.gpr(0), 0x7788_9911);
        g.set_pte(DATA + 0x1000, 0);
        let t = g.trap(&jump(at));
        let fetch = if mode == Mode::Paged32 { 0 } else { 16 };
        assert_eq!((t.vector, t.error, t.ip), (14, Some(fetch), at));
        assert_eq!(g.st().cr2, DATA + 0x1000);
    }
}

#[test]
fn system_accesses_at_cpl_3_count_as_supervisor() {
    for mode in [Mode::Paged32, Mode::Pae, Mode::Long] {
        let mut g = Guest::user(mode);
        // Tables are supervisor pages; loading a segment reads them all the same.
        for page in [GDT, IDT, TSS] {
            g.set_pte(page, page | 3);
        }
        let code = [&mov(0, DS3.into())[..], &[0x8e, 0xd8]].concat();
        g.faults(&code, 7, 13, Some(0)); // reaches the HLT
        g.set_pte(GDT, 0);
        g.st();
        let mut g2 = Guest::user(mode);
        g2.set_gdt(DS3, descriptor(0, 0xf_ffff, 0xf2, 0xc)); // not accessed
        g2.set_pte(GDT, GDT | 3);
        g2.faults(&code, 7, 13, Some(0));
        assert_eq!(g2.descriptor_of(DS3) >> 40 & 0xff, 0xf3);
    }
}

#[test]
fn pae_pointers_are_checked_when_cr3_is_loaded() {
    let mut g = Guest::new(Mode::Pae);
    g.write64(TABLES + 0x1000 + 16, 0x1 | 1 << 5);
    g.faults(&RELOAD_CR3, 3, 13, Some(0));
    g.write64(TABLES + 0x1000 + 16, 0);
    g.fine(&RELOAD_CR3);
    page_fault(&mut g, &load_eax(0x8000_0000), 0, 0, 0x8000_0000);
    // Pointers changed in memory count only after a load.
    g.write64(TABLES + 0x1000 + 16, (TABLES + 0x2000) | 1);
    page_fault(&mut g, &load_eax(0x8000_0000), 0, 0, 0x8000_0000);
    g.fine(&[&RELOAD_CR3[..], &load_eax(0x8000_0000 + DATA)].concat());
}
