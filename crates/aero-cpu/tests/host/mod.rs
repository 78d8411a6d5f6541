//! Two pages at one address here and in a guest: code, then data.

use aero_mem::{Gpa, GuestMemory};

/// Where the guest's pages lie.
pub const CODE: u64 = 0x8000;
/// The second of them.
pub const DATA: u64 = 0x9000;

/// Two pages of this process that can be read, written and run, below 2 GiB.
pub fn pages() -> (*mut u8, *mut u8) {
    // SAFETY: a fresh anonymous mapping.
    let at = unsafe {
        libc::mmap(
            core::ptr::null_mut(),
            0x2000,
            libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT,
            -1,
            0,
        )
    };
    assert_ne!(at, libc::MAP_FAILED, "a mapping for generated code");
    (at.cast(), at.cast::<u8>().wrapping_add(0x1000))
}

/// Page tables from 1000h on that map the guest's pages at `linear`.
pub fn map(mem: &mut GuestMemory, linear: u64) {
    let mut entry = |table: u64, index: u64, value: u64| {
        mem.write(Gpa(table + (index & 0x1ff) * 8), &(value | 7).to_le_bytes()).expect("RAM");
    };
    let data = linear + 0x1000;
    let data_table = if data >> 21 == linear >> 21 { 0x4000 } else { 0x5000 };
    entry(0x1000, linear >> 39, 0x2000);
    entry(0x2000, linear >> 30, 0x3000);
    entry(0x3000, linear >> 21, 0x4000);
    entry(0x3000, data >> 21, data_table);
    entry(0x4000, linear >> 12, CODE);
    entry(data_table, data >> 12, DATA);
}
