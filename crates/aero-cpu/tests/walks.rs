//! Every combination of the bits of a directory entry, a table entry, an access and the control bits: the walk against the
//! rules of the Intel SDM, vol. 3, 4.6 and 4.7, written down a second time and the other way round (first what the error
//! code says, then whether there is one).

use aero_cpu::mmu::{Access, Kind, Who, walk};
use aero_cpu::state::{CpuState, cr0, cr4, efer, eflags};
use aero_mem::{Gpa, GuestMemory};
use aero_x86::cpuid::MAX;

const DIRECTORY: u64 = 0x1000;
const TABLE: u64 = 0x2000;
const ROOT: u64 = 0x3000;
const POINTERS: u64 = 0x4000;
const FRAME: u64 = 0x20_0000;
/// The linear address: entry 1 of the directory, entry 3 of the table.
const LA: u64 = 1 << 21 | 3 << 12 | 0x123;

const PRESENT: u64 = 1;
const WRITE: u64 = 2;
const USER: u64 = 4;
const ACCESSED: u64 = 0x20;
const DIRTY: u64 = 0x40;
const LARGE: u64 = 0x80;
const BEYOND: u64 = 1 << 36;
const LOW_RESERVED: u64 = 1 << 13;
const NX: u64 = 1 << 63;
const KEY: u64 = 7 << 59;

const DIRECTORY_BITS: [u64; 7] = [PRESENT, WRITE, USER, LARGE, BEYOND, LOW_RESERVED, NX];
const TABLE_BITS: [u64; 6] = [PRESENT, WRITE, USER, DIRTY, BEYOND, NX];

/// The bits of `of` that number `n` chooses.
fn choose(of: &[u64], n: u64) -> u64 {
    of.iter().enumerate().filter(|(i, _)| n >> i & 1 != 0).fold(0, |all, (_, bit)| all | bit)
}

/// Control bits as one number: WP, NXE, SMEP, SMAP, AC, PKE, then the rights of key 7 in two bits.
#[derive(Clone, Copy)]
struct Control(u64);

impl Control {
    fn on(self, n: u64) -> bool {
        self.0 >> n & 1 != 0
    }

    fn apply(self, st: &mut CpuState) {
        let bit = |n: u64, bit: u64| if self.on(n) { bit } else { 0 };
        st.cr0 = cr0::PE | cr0::PG | bit(0, cr0::WP);
        st.msr.efer = efer::LME | efer::LMA | bit(1, efer::NXE);
        st.cr4 = cr4::PAE | bit(2, cr4::SMEP) | bit(3, cr4::SMAP) | bit(5, cr4::PKE);
        st.eflags = eflags::FIXED | bit(4, eflags::AC);
        st.pkru = (self.0 as u32 >> 6 & 3) << 14;
    }
}

/// What the manual says: the error code, or none.
fn expected(pde: u64, pte: u64, access: Access, c: Control) -> Option<u32> {
    let (wp, nxe, smep, smap, ac, pke) = (c.on(0), c.on(1), c.on(2), c.on(3), c.on(4), c.on(5));
    let fetch = access.kind == Kind::Fetch;
    let write = access.kind == Kind::Write;
    let user = access.who == Who::User;
    let base = u32::from(write) << 1 | u32::from(user) << 2 | u32::from(fetch && (nxe || smep)) << 4;
    if pde & PRESENT == 0 {
        return Some(base);
    }
    let large = pde & LARGE != 0;
    let nx_reserved = |e: u64| e & NX != 0 && !nxe;
    // In a directory entry bit 13 is an address bit unless the entry maps a page.
    if nx_reserved(pde) || pde & BEYOND != 0 || large && pde & LOW_RESERVED != 0 {
        return Some(base | 9);
    }
    let leaf = if large { pde } else { pte };
    let both = if large { pde } else { pde & pte };
    if !large {
        if pte & PRESENT == 0 {
            return Some(base);
        }
        if nx_reserved(pte) || pte & BEYOND != 0 {
            return Some(base | 9);
        }
    }
    let (page_user, page_write) = (both & USER != 0, both & WRITE != 0);
    let no_execute = pde & NX != 0 || !large && pte & NX != 0;
    let mut refused = user && !page_user;
    refused |= fetch && no_execute;
    refused |= fetch && !user && page_user && smep;
    refused |= write && !page_write && (user || wp);
    refused |= !fetch && !user && page_user && smap && !(ac && access.who == Who::Supervisor);
    let (no_access, no_write) = (c.on(6), c.on(7));
    let keyed = pke && page_user && !fetch && leaf >> 59 & 15 == 7;
    let key = keyed && (no_access || write && no_write && (user || wp));
    (refused || key).then_some(base | 1 | u32::from(key) << 5)
}

#[test]
fn every_combination_of_bits_gives_what_the_manual_says() {
    let mut mem = GuestMemory::new(8 << 20, 1).expect("8 MiB");
    let mut st = CpuState::power_on();
    st.cr3 = ROOT;
    let put = |mem: &mut GuestMemory, at: u64, e: u64| mem.write(Gpa(at), &e.to_le_bytes()).expect("RAM");
    let get = |mem: &GuestMemory, at: u64| u64::from_le_bytes(mem.read_array(Gpa(at)).expect("RAM"));
    put(&mut mem, ROOT, POINTERS | PRESENT | WRITE | USER);
    put(&mut mem, POINTERS, DIRECTORY | PRESENT | WRITE | USER);
    let accesses: Vec<Access> = [Who::User, Who::Supervisor, Who::Processor]
        .into_iter()
        .flat_map(|who| [Kind::Read, Kind::Write, Kind::Fetch].map(|kind| Access { who, kind }))
        .filter(|a| (a.who, a.kind) != (Who::Processor, Kind::Fetch))
        .collect();
    let mut faults = 0u32;
    for d in 0..1 << DIRECTORY_BITS.len() {
        let chosen = choose(&DIRECTORY_BITS, d);
        let large = chosen & LARGE != 0;
        let pde = chosen | KEY | if large { FRAME } else { TABLE };
        // Where the entry is no page, its bit 13 would move the table.
        if !large && chosen & LOW_RESERVED != 0 {
            continue;
        }
        for t in 0..if large { 1 } else { 1 << TABLE_BITS.len() } {
            let pte = choose(&TABLE_BITS, t) | FRAME | 3 << 12 | KEY;
            for c in 0..1 << 8 {
                let control = Control(c);
                control.apply(&mut st);
                for &access in &accesses {
                    put(&mut mem, DIRECTORY + 8, pde);
                    put(&mut mem, TABLE + 24, pte);
                    let got = walk(&st, MAX.features, &mut mem, LA, access);
                    let want = expected(pde, pte, access, control);
                    let what = || format!("pde {pde:#x} pte {pte:#x} control {c:#x} {access:?}");
                    assert_eq!(got.err().map(|f| f.0), want, "{}", what());
                    let (leaf_at, leaf) = if large { (DIRECTORY + 8, pde) } else { (TABLE + 24, pte) };
                    let marks = match (want, access.kind) {
                        (Some(_), _) => 0,
                        (None, Kind::Write) => ACCESSED | DIRTY,
                        (None, _) => ACCESSED,
                    };
                    assert_eq!(get(&mem, leaf_at), leaf | marks, "{}", what());
                    match got {
                        Err(_) => faults += 1,
                        Ok(page) => {
                            let dirty = (leaf | marks) & DIRTY != 0;
                            let writes = Access { kind: Kind::Write, ..access };
                            let may = expected(pde, pte, writes, control).is_none();
                            assert_eq!(page.base, FRAME + 0x3000, "{}", what());
                            if access.kind != Kind::Fetch {
                                assert_eq!(page.writable, may && dirty, "{}", what());
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(faults > 1_000_000);
}
