//! The tables as firmware that runs in the guest wants them.
//!
//! SeaBIOS and OVMF place the tables of ACPI themselves, in memory that they hand to the operating system as
//! such. The machine gives them two files of bytes in which an address is an offset into a file, and a third
//! that is a program of 128-byte commands: reserve memory for a file, add a file's address to a number in a
//! file, make a checksum. The commands are run in order (OVMF makes two passes, and so wants all reservations
//! first). The bytes with a checksum are 0 here: SeaBIOS subtracts the sum of the range from what is there,
//! OVMF stores it.
//!
//! The FADT's ports are wherever firmware put the power-management block, and SeaBIOS and OVMF differ: make
//! the files when the guest first selects one of them, not when the machine is built. Their lengths depend on
//! neither ports nor addresses. (QEMU, `hw/acpi/bios-linker-loader.c`, as a description of the format.)

use crate::acpi::{CHECKSUM, Image, RSDP_ADDRESSES, RSDP_CHECKSUMS};
use crate::board::Board;

/// Layout of a command, and names of files.
mod spec {
    pub const TABLES: &str = "etc/acpi/tables";
    pub const RSDP: &str = "etc/acpi/rsdp";
    pub const LOADER: &str = "etc/table-loader";

    pub const LEN: usize = 128;
    /// Bytes of a file's name, NUL included.
    pub const NAME: usize = 56;

    /// Name, alignment (dword), zone (byte).
    pub const ALLOCATE: u32 = 1;
    /// Name of the file to change, name of the file pointed to, offset (dword), width (byte).
    pub const ADD_POINTER: u32 = 2;
    /// Name, offset of the checksum, first byte and length of what it covers (dwords).
    pub const ADD_CHECKSUM: u32 = 3;

    /// Zones: anywhere below 4 GiB, or where systems search for the root pointer.
    pub const HIGH: u8 = 1;
    pub const F_SEGMENT: u8 = 2;
    pub const TABLES_ALIGN: u32 = 64;
    pub const RSDP_ALIGN: u32 = 16;
}

use spec::{LOADER, RSDP, TABLES};

/// Bytes that the FACS takes: its own.
const FACS_AREA: usize = 64;

/// The three files with which firmware installs the tables of `board`: names of `fw_cfg` and bytes.
pub fn files(board: &Board) -> Vec<(&'static str, Vec<u8>)> {
    let image = Image::new(board, FACS_AREA);
    let program = program(&image);
    vec![(RSDP, image.rsdp), (TABLES, image.bytes), (LOADER, program)]
}

fn program(image: &Image) -> Vec<u8> {
    let mut program =
        [allocate(TABLES, spec::TABLES_ALIGN, spec::HIGH), allocate(RSDP, spec::RSDP_ALIGN, spec::F_SEGMENT)]
            .concat();
    for (file, addresses) in [(TABLES, &image.addresses[..]), (RSDP, &RSDP_ADDRESSES)] {
        program.extend(addresses.iter().flat_map(|(at, width)| add_pointer(file, *at as u32, *width)));
    }
    for table in &image.tables[1..] {
        program.extend(add_checksum(TABLES, table.start + CHECKSUM, table.start, table.len()));
    }
    for (at, len) in RSDP_CHECKSUMS {
        program.extend(add_checksum(RSDP, at, 0, len));
    }
    program
}

fn allocate(file: &str, align: u32, zone: u8) -> Vec<u8> {
    command(spec::ALLOCATE, &[name(file), align.to_le_bytes().to_vec(), vec![zone]])
}

/// All addresses are addresses of the tables.
fn add_pointer(file: &str, at: u32, width: u8) -> Vec<u8> {
    command(spec::ADD_POINTER, &[name(file), name(TABLES), at.to_le_bytes().to_vec(), vec![width]])
}

fn add_checksum(file: &str, at: usize, start: usize, len: usize) -> Vec<u8> {
    let numbers = [at, start, len].map(|n| (n as u32).to_le_bytes().to_vec());
    command(spec::ADD_CHECKSUM, &[vec![name(file)], numbers.to_vec()].concat())
}

fn command(number: u32, fields: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend(fields.concat());
    bytes.resize(spec::LEN, 0);
    bytes
}

fn name(file: &str) -> Vec<u8> {
    let mut bytes = file.as_bytes().to_vec();
    bytes.resize(spec::NAME, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acpi::{self, tests::board};

    /// Runs the program as firmware does, with the tables at `tables_at` and the root pointer at `rsdp_at`.
    fn install(board: &Board, tables_at: u64) -> (Vec<u8>, Vec<u8>) {
        let mut files = files(board);
        let program = files.pop().expect("the program").1;
        let index = |name: &[u8]| {
            let end = name.iter().position(|b| *b == 0).expect("a NUL");
            files.iter().position(|(file, _)| file.as_bytes() == &name[..end]).expect("a file")
        };
        let mut bytes = [files[0].1.clone(), files[1].1.clone()];
        let (mut reserved, mut patched) = (Vec::new(), 0);
        let dword = |c: &[u8], at: usize| u32::from_le_bytes(c[at..at + 4].try_into().expect("4")) as usize;
        assert_eq!(program.len() % 128, 0);
        for c in program.chunks(128) {
            let file = index(&c[4..60]);
            match dword(c, 0) {
                1 => {
                    assert_eq!(patched, 0, "reservations come first");
                    reserved.push((files[file].0, dword(c, 60), c[64]));
                }
                2 => {
                    assert_eq!(files[index(&c[60..116])].0, TABLES);
                    let (at, width) = (dword(c, 116), usize::from(c[120]));
                    let field = &mut bytes[file][at..at + width];
                    let mut value = [0; 8];
                    value[..width].copy_from_slice(field);
                    let moved = (u64::from_le_bytes(value) + tables_at).to_le_bytes();
                    field.copy_from_slice(&moved[..width]);
                    patched += 1;
                }
                3 => {
                    let (at, start, len) = (dword(c, 60), dword(c, 64), dword(c, 68));
                    assert_eq!(bytes[file][at], 0, "OVMF sums what is there");
                    let sum = bytes[file][start..start + len].iter().fold(0u8, |s, b| s.wrapping_sub(*b));
                    bytes[file][at] = sum;
                }
                other => panic!("command {other}"),
            }
        }
        assert_eq!(reserved, [(TABLES, 64, spec::HIGH), (RSDP, 16, spec::F_SEGMENT)]);
        let [rsdp, tables] = bytes;
        (rsdp, tables)
    }

    // checklist: 38
    #[test]
    fn tables_that_firmware_installs_are_those_of_the_direct_form() {
        let at = 0x7ff_0000;
        let (rsdp, tables) = install(&board(), at);
        let direct = acpi::build(&board(), at, 0xf_0000);
        let sum = |b: &[u8]| b.iter().fold(0u8, |s, b| s.wrapping_add(*b));
        assert_eq!((sum(&rsdp[..20]), sum(&rsdp)), (0, 0));
        let mut seen = 0;
        let mut at_of = |name: &[u8]| {
            seen += 1;
            64 * tables.chunks(64).position(|line| line.starts_with(name)).expect("the table")
        };
        for (_, bytes) in &direct.pieces {
            let name = &bytes[..4];
            if name == b"RSD " {
                continue;
            }
            let start = at_of(name);
            let own = &tables[start..start + bytes.len()];
            let addresses = [&b"FACP"[..], b"RSDT", b"XSDT"].contains(&name);
            if name != b"FACS" {
                assert_eq!(sum(own), 0);
            }
            assert!(addresses || own == bytes, "{name:?}");
        }
        assert_eq!(seen, 8);
        let le = |b: &[u8]| b.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)) - at;
        let xsdt = le(&rsdp[24..32]) as usize;
        assert_eq!(&tables[xsdt..xsdt + 4], b"XSDT");
        let names: Vec<_> = tables[xsdt + 36..xsdt + 68]
            .chunks(8)
            .map(|a| &tables[le(a) as usize..le(a) as usize + 4])
            .collect();
        assert_eq!(names, [b"FACP", b"APIC", b"HPET", b"WAET"]);
    }

    #[test]
    fn lengths_do_not_depend_on_where_firmware_put_the_ports() {
        let lengths =
            |pm_base| files(&Board { pm_base, ..board() }).iter().map(|f| f.1.len()).collect::<Vec<_>>();
        assert_eq!(lengths(0x600), lengths(0xb000));
        assert_ne!(files(&Board { pm_base: 0xb000, ..board() })[1], files(&board())[1]);
    }
}
