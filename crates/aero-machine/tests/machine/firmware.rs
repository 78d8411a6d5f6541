//! What the kernel finds in memory, and machines that are refused.

use crate::kernel::{
    MODES, Mode, TestClock, boot, bytes_at, config, finish, machine, program, u32_at, u64_at,
};
use aero_machine::{Boot, BuildError, ClockConfig, Config, Kernel, Machine};
use aero_mem::Gpa;

const GIB: u64 = 1 << 30;
const RSI: u8 = 6;

fn ending(mode: Mode) -> Vec<u8> {
    program(mode, |a| a.exit(0))
}

fn build(config: Config, kernel: Vec<u8>) -> Result<Machine, BuildError> {
    Machine::new(config, boot(kernel), Box::new(TestClock::default()))
}

/// Why a machine is not built, in one line.
fn refusal(config: Config, kernel: Vec<u8>) -> String {
    let message = build(config, kernel).err().expect("refused").to_string();
    assert!(!message.is_empty() && !message.contains('\n'), "{message:?}");
    message
}

/// Base, size and kind of every range that the zero page lists.
fn e820(m: &Machine) -> Vec<(u64, u64, u32)> {
    let page = m.cpu_state().gpr(RSI);
    let [count] = bytes_at(m, page + 0x1e8);
    let entries = (0..u64::from(count)).map(|n| page + 0x2d0 + 20 * n);
    entries.map(|at| (u64_at(m, at), u64_at(m, at + 8), u32_at(m, at + 16))).collect()
}

#[test]
fn memory_map_accounts_for_all_memory() {
    for mode in MODES {
        let m = machine(ending(mode));
        let map = e820(&m);
        assert!(map.is_sorted() && map.windows(2).all(|w| w[0].0 + w[0].1 <= w[1].0), "{map:x?}");
        let ram: u64 =
            map.iter().filter(|(.., kind)| [1, 3, 4].contains(kind)).map(|(_, size, _)| size).sum();
        // Less the hole from A0000h to FFFFFh and the extended BIOS data area.
        assert_eq!(ram, (4 << 20) - (0x10_0000 - 0x9_fc00), "{mode:?}: {map:x?}");
    }
}

#[test]
fn memory_above_3_gib_lies_at_4_gib_and_is_usable() {
    const FOUR_GIB: u64 = 4 * GIB;
    const AT: u64 = FOUR_GIB + 0x12_3450;
    const PDPT: u32 = 0x1_4000;
    const DIRECTORY: u32 = 0x8_8000;
    let kernel = program(Mode::Long, |a| {
        // One page of 2 MiB for the first bytes above 4 GiB.
        a.store_imm(PDPT + 4 * 8, DIRECTORY | 3);
        a.store_imm(DIRECTORY, 0x83);
        a.store_imm(DIRECTORY + 4, 1);
        a.raw(&[0x48, 0xb8]); // mov rax, AT
        a.raw(&AT.to_le_bytes());
        a.raw(&[0xc7, 0x00]); // mov dword [rax], imm32
        a.raw(&0x5eed_cafe_u32.to_le_bytes());
        a.raw(&[0x8b, 0x08]); // mov ecx, [rax]
        a.record(crate::kernel::Reg::Ecx);
        a.exit(0);
    });
    let mut m = build(Config { memory: 3 * GIB + (256 << 20), ..config() }, kernel).expect("3.25 GiB");
    let map = e820(&m);
    assert!(map.contains(&(FOUR_GIB, 256 << 20, 1)), "{map:x?}");
    assert!(map.iter().all(|(base, size, kind)| *kind == 2 || base + size <= 3 * GIB || *base == FOUR_GIB));
    finish(&mut m);
    assert_eq!(crate::kernel::results(&m, 1), [0x5eed_cafe]);
    assert_eq!(u32_at(&m, AT), 0x5eed_cafe);
    assert!(m.memory().read_array::<1>(Gpa(3 * GIB)).is_err());
    assert_eq!(m.stats().memory, 3 * GIB + (256 << 20));
}

#[test]
fn too_much_memory_is_refused() {
    let message = refusal(Config { memory: aero_mem::MAX_RAM + 1, ..config() }, ending(Mode::Long));
    assert!(message.contains("more than the 3584 MiB"), "{message}");
    let message = refusal(Config { memory: u64::MAX, ..config() }, ending(Mode::Long));
    assert!(message.contains("more than the 3584 MiB"), "{message}");
}

#[test]
fn too_little_memory_is_refused() {
    for memory in [0, 4096, 1 << 20] {
        let message = refusal(Config { memory, ..config() }, ending(Mode::Long));
        assert!(message.contains("memory") || message.contains("RAM"), "{message}");
    }
}

#[test]
fn bad_kernel_is_refused() {
    for kernel in [&b""[..], &[0; 4096]] {
        let message = refusal(config(), kernel.to_vec());
        assert!(message.contains("not a Linux bzImage"), "{message}");
    }
    let message = refusal(config(), b"\x7fELF".to_vec());
    assert!(message.contains("without a multiboot header"), "{message}");
}

#[test]
fn impossible_clock_is_refused() {
    for mips in [0, 100_001] {
        let message = refusal(Config { clock: ClockConfig::Icount { mips }, ..config() }, ending(Mode::Long));
        assert!(message.contains("MIPS"), "{message}");
    }
}

#[test]
fn command_line_and_initrd_are_where_the_zero_page_says() {
    let initrd = vec![0xa5; 5000];
    let kernel = Kernel::linux(ending(Mode::Long), Some(initrd.clone()), "quiet x=1".into());
    let boot = Boot::Kernel(kernel);
    let m = Machine::new(config(), boot, Box::new(TestClock::default())).expect("a small machine");
    let page = m.cpu_state().gpr(RSI);
    assert_eq!(bytes_at(&m, u32_at(&m, page + 0x228).into()), *b"quiet x=1\0");
    assert_eq!(u32_at(&m, page + 0x21c), 5000);
    let mut found = vec![0; 5000];
    m.memory().read(Gpa(u32_at(&m, page + 0x218).into()), &mut found).expect("RAM");
    assert_eq!(found, initrd);
}

fn bytes(m: &Machine, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    m.memory().read(Gpa(at), &mut bytes).expect("RAM");
    bytes
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, b| sum.wrapping_add(*b))
}

/// A table with its checksum verified.
fn table(m: &Machine, at: u64) -> Vec<u8> {
    let table = bytes(m, at, u32_at(m, at + 4) as usize);
    assert_eq!(sum(&table), 0, "{}", table[..4].escape_ascii());
    table
}

#[test]
fn acpi_tables_are_where_the_zero_page_says_with_right_checksums() {
    let m = machine(ending(Mode::Long));
    let rsdp = u64_at(&m, m.cpu_state().gpr(RSI) + 0x70);
    assert_eq!(rsdp, aero_machine::layout::RSDP);
    let root = bytes(&m, rsdp, 36);
    assert_eq!(&root[..8], b"RSD PTR ");
    assert_eq!((sum(&root[..20]), sum(&root)), (0, 0));
    let xsdt = table(&m, u64_at(&m, rsdp + 24));
    assert_eq!(&xsdt[..4], b"XSDT");
    let addresses =
        xsdt[36..].chunks_exact(8).map(|a| u64::from_le_bytes(a.try_into().expect("eight bytes")));
    let tables: Vec<Vec<u8>> = addresses.map(|at| table(&m, at)).collect();
    let fadt = tables.iter().find(|t| t.starts_with(b"FACP")).expect("a FADT");
    assert!(tables.iter().any(|t| t.starts_with(b"APIC")), "a MADT");
    let dword = |at: usize| u32::from_le_bytes(fadt[at..at + 4].try_into().expect("four bytes"));
    assert!(table(&m, dword(40).into()).starts_with(b"DSDT"));
    assert_eq!((dword(56), dword(64), dword(76)), (0x600, 0x604, 0x608), "PM1a event, control, timer");
}

#[test]
fn tables_are_whole_again_after_a_reset() {
    let mut m = machine(program(Mode::Protected, |a| {
        a.store_imm(aero_machine::layout::RSDP as u32, 0);
        a.exit(0);
    }));
    finish(&mut m);
    assert_eq!(u32_at(&m, aero_machine::layout::RSDP), 0);
    m.reset().expect("the kernel loads again");
    assert_eq!(bytes_at(&m, aero_machine::layout::RSDP), *b"RSD PTR ");
}
