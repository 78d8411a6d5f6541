//! The ACPI tables (ACPI 2.0 layout, which Linux and Windows 7 both take).
//!
//! The root pointer lies in the BIOS segment, where an operating system searches on 16-byte boundaries. It
//! points to two lists of the same tables, one with 32-bit addresses (RSDT) and one with 64-bit addresses
//! (XSDT):
//!
//! ```text
//! RSDP ─┬─ RSDT ─┬─ FADT ─┬─ FACS   the power-management ports, and the memory shared with firmware
//!       └─ XSDT ─┤        └─ DSDT   byte code, see `dsdt`
//!                ├─ MADT            processors, I/O APIC, and where ISA interrupts arrive
//!                ├─ HPET            where that timer block is, if there is one
//!                └─ WAET            "this RTC and PM timer have no errata"
//! ```
//!
//! The address map of the machine is the only source of numbers: it fills in a [`Board`]. The area in memory
//! has a fixed size, so that the memory map of a machine does not depend on what the tables say (a hibernated
//! system demands the same map when it wakes).

pub use crate::board::{Board, FloppyKind, HpetBlock, IsaDevice, IsaKind};
use crate::dsdt;
use acpi_tables::sdt::{GenericAddress, Sdt};
use core::ops::Range;

/// Bytes of guest RAM that the tables take. The machine passes `end of low RAM - AREA` to [`build`].
pub const AREA: u64 = 0x1_0000;

/// The part at the start of the area that holds the FACS, which has to survive sleep.
pub const FACS_AREA: u64 = 0x1000;

/// Offsets and values of the tables (ACPI 2.0c chapter 5.2; FADT names as there).
mod spec {
    pub const HEADER: u32 = 36;

    pub const FADT_LEN: u32 = 244;
    pub const FADT_REVISION: u8 = 3;
    pub const FIRMWARE_CTRL: usize = 36;
    pub const DSDT: usize = 40;
    /// `INT_MODEL` of ACPI 1.0; later revisions reserve it and allow 1.
    pub const INT_MODEL: usize = 44;
    pub const PREFERRED_PM_PROFILE: usize = 45;
    pub const PROFILE_DESKTOP: u8 = 1;
    pub const SCI_INT: usize = 46;
    pub const SMI_CMD: usize = 48;
    pub const ACPI_ENABLE: usize = 52;
    pub const ACPI_DISABLE: usize = 53;
    pub const PM1A_EVT_BLK: usize = 56;
    pub const PM1A_CNT_BLK: usize = 64;
    pub const PM_TMR_BLK: usize = 76;
    pub const GPE0_BLK: usize = 80;
    pub const PM1_EVT_LEN: usize = 88;
    pub const PM1_CNT_LEN: usize = 89;
    pub const PM_TMR_LEN: usize = 91;
    pub const GPE0_BLK_LEN: usize = 92;
    pub const P_LVL2_LAT: usize = 96;
    pub const P_LVL3_LAT: usize = 98;
    /// A latency above 1000 µs says that the C state does not exist.
    pub const NO_C_STATE: u16 = 0xfff;
    pub const CENTURY: usize = 108;
    pub const IAPC_BOOT_ARCH: usize = 109;
    /// ISA devices, and an 8042. VGA present and MSI allowed are the clear bits 2 and 3.
    pub const LEGACY_DEVICES_AND_8042: u16 = 0b11;
    pub const FLAGS: usize = 112;
    pub const WBINVD: u32 = 1 << 0;
    pub const PROC_C1: u32 = 1 << 2;
    /// Set: there is no sleep button in fixed hardware. `PWR_BUTTON` (bit 4) stays clear: there is such a
    /// power button.
    pub const SLP_BUTTON: u32 = 1 << 5;
    pub const RTC_S4: u32 = 1 << 7;
    pub const RESET_REG_SUP: u32 = 1 << 10;
    pub const RESET_REG: usize = 116;
    pub const RESET_VALUE: usize = 128;
    pub const X_FIRMWARE_CTRL: usize = 132;
    pub const X_DSDT: usize = 140;
    pub const X_PM1A_EVT_BLK: usize = 148;
    pub const X_PM1A_CNT_BLK: usize = 172;
    pub const X_PM_TMR_BLK: usize = 208;
    pub const X_GPE0_BLK: usize = 220;
    /// Where addresses of memory are, and their bytes.
    pub const FADT_ADDRESSES: [(usize, u8); 4] =
        [(FIRMWARE_CTRL, 4), (DSDT, 4), (X_FIRMWARE_CTRL, 8), (X_DSDT, 8)];

    pub const FACS_LEN: usize = 64;
    pub const FACS_ALIGN: usize = 64;
    pub const FACS_VERSION: usize = 32;

    pub const RSDP_LEN: usize = 36;
    /// The part that ACPI 1.0 knows and the first checksum covers.
    pub const RSDP_V1_LEN: usize = 20;

    /// Generic address structure: system I/O space, and access sizes.
    pub const SYSTEM_IO: u8 = 1;
    pub const BYTE_ACCESS: u8 = 1;
    pub const WORD_ACCESS: u8 = 2;
    pub const DWORD_ACCESS: u8 = 3;

    /// MADT flag: the board also has two 8259s.
    pub const PCAT_COMPAT: u32 = 1;
    /// MPS INTI flags of an interrupt that is active high and level-triggered.
    pub const ACTIVE_HIGH_LEVEL: u16 = 0x0d;
    /// MPS INTI flags of an interrupt that behaves as its bus says: edge, active high on ISA.
    pub const AS_THE_BUS: u16 = 0;

    /// HPET table: addresses are memory addresses, 64 bits wide.
    pub const SYSTEM_MEMORY: u8 = 0;
    pub const HPET_REGISTER_BITS: u8 = 64;

    /// WAET: the RTC needs no double reads of register C, and the PM timer no repeated reads.
    pub const RTC_GOOD_AND_PM_TIMER_GOOD: u32 = 0b11;
}

/// The tables as bytes, ready to be copied into guest memory.
#[derive(Clone, Debug)]
pub struct AcpiTables {
    /// (Guest physical address, bytes) of each table and of the root pointer.
    pub pieces: Vec<(u64, Vec<u8>)>,
    /// Address of the root pointer.
    pub rsdp: u64,
    /// The part of low RAM that the tables take, for [`crate::memory_map`].
    pub range: Range<u64>,
}

/// Makes the tables for `board`, laid out in [`AREA`] bytes from `at` (a multiple of the page size, below 4
/// GiB), with the root pointer at `rsdp_at` (a multiple of 16 in F0000h–FFFFFh).
///
/// # Panics
/// When the addresses are not so: they come from the machine's own address map.
pub fn build(board: &Board, at: u64, rsdp_at: u64) -> AcpiTables {
    let range = at..at + AREA;
    assert!(
        at.is_multiple_of(FACS_AREA) && range.end <= 1 << 32,
        "ACPI area at {at:#x}: page-aligned, below 4 GiB"
    );
    assert!(
        rsdp_at.is_multiple_of(16) && (0xf_0000..0x10_0000).contains(&rsdp_at),
        "ACPI root pointer at {rsdp_at:#x}: must be where systems search for it"
    );
    let mut image = Image::new(board, FACS_AREA as usize);
    assert!(image.bytes.len() as u64 <= AREA, "the ACPI tables of 255 processors fit in AREA");
    image.finish(at);
    let tables =
        image.tables.iter().map(|table| (at + table.start as u64, image.bytes[table.clone()].to_vec()));
    let pieces = tables.chain([(rsdp_at, image.rsdp.clone())]).collect();
    AcpiTables { pieces, rsdp: rsdp_at, range }
}

/// All tables in one piece whose place in memory is not yet known: an address in it is an offset in the
/// piece, and no checksum is made.
pub(crate) struct Image {
    pub bytes: Vec<u8>,
    /// Where addresses are in `bytes`: offset, and how many bytes each has.
    pub addresses: Vec<(usize, u8)>,
    /// Each table. [`CHECKSUM`] is in all but the first, which is the FACS.
    pub tables: Vec<Range<usize>>,
    /// The root pointer, whose addresses are at [`RSDP_ADDRESSES`] and checksums at [`RSDP_CHECKSUMS`].
    pub rsdp: Vec<u8>,
}

/// Where a table's checksum is.
pub(crate) const CHECKSUM: usize = 9;
/// The addresses of RSDT and XSDT in the root pointer.
pub(crate) const RSDP_ADDRESSES: [(usize, u8); 2] = [(16, 4), (24, 8)];
/// The checksums in the root pointer and what each covers from the start.
pub(crate) const RSDP_CHECKSUMS: [(usize, usize); 2] = [(8, spec::RSDP_V1_LEN), (32, spec::RSDP_LEN)];

impl Image {
    /// The tables of `board`, the FACS with `facs_area` bytes to itself.
    pub fn new(board: &Board, facs_area: usize) -> Self {
        let mut image =
            Self { bytes: Vec::new(), addresses: Vec::new(), tables: Vec::new(), rsdp: Vec::new() };
        let facs = image.place(facs());
        image.bytes.resize(facs_area, 0);
        let dsdt = image.place(dsdt(board));
        let fadt = image.place(fadt(board, facs, dsdt));
        image.mark(fadt, spec::FADT_ADDRESSES);
        let mut listed = vec![fadt, image.place(madt(board))];
        listed.extend(board.hpet.map(|block| image.place(hpet(block))));
        listed.push(image.place(waet()));
        let [rsdt, xsdt] = [(*b"RSDT", 4u8), (*b"XSDT", 8)].map(|(name, width)| {
            let at = image.place(list(name, &listed, width.into()));
            let entry = |n: usize| (spec::HEADER as usize + n * usize::from(width), width);
            image.mark(at, (0..listed.len()).map(entry));
            at
        });
        image.rsdp = rsdp(rsdt, xsdt);
        image
    }

    /// Appends a table without its checksum; returns its offset.
    fn place(&mut self, mut table: Vec<u8>) -> u64 {
        let at = self.bytes.len().next_multiple_of(spec::FACS_ALIGN);
        if at != 0 {
            table[CHECKSUM] = 0;
        }
        self.bytes.resize(at, 0);
        self.tables.push(at..at + table.len());
        self.bytes.append(&mut table);
        at as u64
    }

    /// Notes the addresses in the table at `table`.
    fn mark(&mut self, table: u64, addresses: impl IntoIterator<Item = (usize, u8)>) {
        self.addresses.extend(addresses.into_iter().map(|(at, width)| (table as usize + at, width)));
    }

    /// Makes it right for a place in memory.
    fn finish(&mut self, base: u64) {
        self.addresses.iter().for_each(|at| relocate(&mut self.bytes, *at, base));
        RSDP_ADDRESSES.iter().for_each(|at| relocate(&mut self.rsdp, *at, base));
        for table in &self.tables[1..] {
            let sum = checksum(&self.bytes[table.clone()]);
            self.bytes[table.start + CHECKSUM] = sum;
        }
        for (at, len) in RSDP_CHECKSUMS {
            self.rsdp[at] = checksum(&self.rsdp[..len]);
        }
    }
}

/// Adds `base` to the address at `at`.
fn relocate(bytes: &mut [u8], (at, width): (usize, u8), base: u64) {
    let field = &mut bytes[at..at + usize::from(width)];
    let mut value = [0; 8];
    value[..field.len()].copy_from_slice(field);
    let moved = u64::from_le_bytes(value).wrapping_add(base).to_le_bytes();
    field.copy_from_slice(&moved[..field.len()]);
}

fn table(signature: &[u8; 4], length: u32, revision: u8) -> Sdt {
    Sdt::new(*signature, length, revision, *b"AERO  ", *b"AEROPC  ", 1)
}

/// RSDT or XSDT: the addresses of `tables` in `width` bytes each.
fn list(signature: [u8; 4], tables: &[u64], width: usize) -> Vec<u8> {
    let mut sdt = table(&signature, spec::HEADER, 1);
    for at in tables {
        sdt.append_slice(&at.to_le_bytes()[..width]);
    }
    sdt.as_slice().to_vec()
}

fn rsdp(rsdt: u64, xsdt: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(spec::RSDP_LEN);
    bytes.extend(*b"RSD PTR \0AERO  \x02");
    bytes.extend((rsdt as u32).to_le_bytes());
    bytes.extend((spec::RSDP_LEN as u32).to_le_bytes());
    bytes.extend(xsdt.to_le_bytes());
    bytes.extend([0; 4]);
    bytes
}

/// The byte that makes the sum of `bytes` and itself 0.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, b| sum.wrapping_sub(*b))
}

/// The hardware signature stays 0: the board of a saved machine never changes under it.
fn facs() -> Vec<u8> {
    let mut bytes = vec![0; spec::FACS_LEN];
    bytes[..4].copy_from_slice(b"FACS");
    bytes[4] = spec::FACS_LEN as u8;
    bytes[spec::FACS_VERSION] = 1;
    bytes
}

/// Revision 1 makes integers 32 bits wide, which every interpreter agrees on.
fn dsdt(board: &Board) -> Vec<u8> {
    let mut sdt = table(b"DSDT", spec::HEADER, 1);
    sdt.append_slice(&dsdt::definition_block(board));
    sdt.as_slice().to_vec()
}

fn fadt(board: &Board, facs: u64, dsdt: u64) -> Vec<u8> {
    let mut sdt = table(b"FACP", spec::FADT_LEN, spec::FADT_REVISION);
    for (offset, x_offset, at) in
        [(spec::FIRMWARE_CTRL, spec::X_FIRMWARE_CTRL, facs), (spec::DSDT, spec::X_DSDT, dsdt)]
    {
        sdt.write_u32(offset, at as u32);
        sdt.write_u64(x_offset, at);
    }
    sdt.write_u8(spec::INT_MODEL, 1);
    sdt.write_u8(spec::PREFERRED_PM_PROFILE, spec::PROFILE_DESKTOP);
    sdt.write_u16(spec::SCI_INT, board.sci.into());
    sdt.write_u32(spec::SMI_CMD, board.smi_cmd.into());
    sdt.write_u8(spec::ACPI_ENABLE, board.acpi_enable);
    sdt.write_u8(spec::ACPI_DISABLE, board.acpi_disable);
    fadt_register_blocks(&mut sdt, board);
    sdt.write_u16(spec::P_LVL2_LAT, spec::NO_C_STATE);
    sdt.write_u16(spec::P_LVL3_LAT, spec::NO_C_STATE);
    sdt.write_u8(spec::CENTURY, board.rtc_century);
    sdt.write_u16(spec::IAPC_BOOT_ARCH, spec::LEGACY_DEVICES_AND_8042);
    let flags = spec::WBINVD | spec::PROC_C1 | spec::SLP_BUTTON | spec::RTC_S4 | spec::RESET_REG_SUP;
    sdt.write_u32(spec::FLAGS, flags);
    sdt.write(spec::RESET_REG, io_register(board.reset_port, 1, spec::BYTE_ACCESS));
    sdt.write_u8(spec::RESET_VALUE, board.reset_value);
    sdt.as_slice().to_vec()
}

/// Each block is named three times: by port, by length, and as a generic address.
fn fadt_register_blocks(sdt: &mut Sdt, board: &Board) {
    use spec::*;
    let pm = board.pm_base;
    let blocks = [
        (PM1A_EVT_BLK, PM1_EVT_LEN, X_PM1A_EVT_BLK, pm, 4, WORD_ACCESS),
        (PM1A_CNT_BLK, PM1_CNT_LEN, X_PM1A_CNT_BLK, pm + 4, 2, WORD_ACCESS),
        (PM_TMR_BLK, PM_TMR_LEN, X_PM_TMR_BLK, pm + 8, 4, DWORD_ACCESS),
        (GPE0_BLK, GPE0_BLK_LEN, X_GPE0_BLK, board.gpe0, board.gpe0_len, BYTE_ACCESS),
    ];
    for (block, len_at, extended, port, len, access) in blocks {
        sdt.write_u32(block, port.into());
        sdt.write_u8(len_at, len);
        sdt.write(extended, io_register(port, len, access));
    }
}

fn io_register(port: u16, bytes: u8, access_size: u8) -> GenericAddress {
    GenericAddress {
        address_space_id: spec::SYSTEM_IO,
        register_bit_width: bytes.saturating_mul(8),
        register_bit_offset: 0,
        access_size,
        address: port.into(),
    }
}

fn madt(board: &Board) -> Vec<u8> {
    let mut sdt = table(b"APIC", spec::HEADER, 1);
    sdt.append_slice(&board.lapic.to_le_bytes());
    sdt.append_slice(&spec::PCAT_COMPAT.to_le_bytes());
    for id in 0..board.cpus {
        sdt.append_slice(&[0, 8, id, id, 1, 0, 0, 0]);
    }
    let mut ioapic = vec![1, 12, board.ioapic_id, 0];
    ioapic.extend(board.ioapic.to_le_bytes());
    ioapic.extend([0; 4]);
    sdt.append_slice(&ioapic);
    // The 8254 is wired to pin 2, since pin 0 takes the 8259.
    sdt.append_slice(&source_override(0, 2, spec::AS_THE_BUS));
    let mut level: Vec<u8> = board.pirq_choices.iter().copied().chain([board.sci]).collect();
    level.sort_unstable();
    level.dedup();
    for irq in level {
        sdt.append_slice(&source_override(irq, irq, spec::ACTIVE_HIGH_LEVEL));
    }
    // Every processor (FFh) has its NMI on LINT1.
    sdt.append_slice(&[4, 6, 0xff, 0, 0, 1]);
    sdt.as_slice().to_vec()
}

/// ISA interrupt `irq` arrives at global system interrupt `gsi`.
fn source_override(irq: u8, gsi: u8, flags: u16) -> [u8; 10] {
    let [low, high] = flags.to_le_bytes();
    [2, 10, 0, irq, gsi, 0, 0, 0, low, high]
}

fn hpet(block: HpetBlock) -> Vec<u8> {
    let mut sdt = table(b"HPET", spec::HEADER, 1);
    sdt.append_slice(&block.id.to_le_bytes());
    sdt.append_slice(&[spec::SYSTEM_MEMORY, spec::HPET_REGISTER_BITS, 0, 0]);
    sdt.append_slice(&u64::from(block.base).to_le_bytes());
    // The first of its kind, without a promise about the page around it.
    sdt.append_slice(&[0]);
    sdt.append_slice(&block.min_tick.to_le_bytes());
    sdt.append_slice(&[0]);
    sdt.as_slice().to_vec()
}

fn waet() -> Vec<u8> {
    let mut sdt = table(b"WAET", spec::HEADER, 1);
    sdt.append_slice(&spec::RTC_GOOD_AND_PM_TIMER_GOOD.to_le_bytes());
    sdt.as_slice().to_vec()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::acpica;

    const AT: u64 = 0xfff_0000;
    const RSDP_AT: u64 = 0xf_0000;

    pub fn board() -> Board {
        let isa = |kind, ports: &[(u16, u8)], irq| {
            let dma = match kind {
                IsaKind::Dma => Some(4),
                IsaKind::Floppy => Some(2),
                _ => None,
            };
            IsaDevice { kind, ports: ports.to_vec(), irq, dma }
        };
        Board {
            cpus: 2,
            ioapic: 0xfec0_0000,
            ioapic_id: 0,
            lapic: 0xfee0_0000,
            pm_base: 0x600,
            pm_len: 64,
            gpe0: 0xafe0,
            gpe0_len: 4,
            smi_cmd: 0xb2,
            acpi_enable: 0xf1,
            acpi_disable: 0xf0,
            sci: 9,
            reset_port: 0xcf9,
            reset_value: 6,
            s3: Some(1),
            s4: Some(2),
            s5: 0,
            rtc_century: 0x32,
            pci_window: 0xe000_0000..0xfec0_0000,
            pci_config: (0xcf8, 8),
            isa_bridge: 1,
            pirq_of: |device, pin| device.wrapping_add(pin).wrapping_sub(1) & 3,
            pirq_choices: vec![5, 10, 11],
            hpet: Some(HpetBlock { base: 0xfed0_0000, id: 0x8086_a201, min_tick: 100 }),
            floppies: [Some(FloppyKind::D1440), None],
            isa: vec![
                isa(
                    IsaKind::Motherboard,
                    &[(0x80, 1), (0x92, 1), (0xb2, 2), (0x4d0, 2), (0x600, 64), (0xafe0, 4)],
                    None,
                ),
                isa(IsaKind::Pic, &[(0x20, 2), (0xa0, 2)], Some(2)),
                isa(IsaKind::Dma, &[(0, 16), (0x81, 15), (0xc0, 32)], None),
                isa(IsaKind::Pit, &[(0x40, 4)], Some(0)),
                isa(IsaKind::Speaker, &[(0x61, 1)], None),
                isa(IsaKind::Rtc, &[(0x70, 2)], Some(8)),
                isa(IsaKind::Fpu, &[(0xf0, 16)], Some(13)),
                isa(IsaKind::Keyboard, &[(0x60, 1), (0x64, 1)], Some(1)),
                isa(IsaKind::Mouse, &[], Some(12)),
                isa(IsaKind::Serial, &[(0x3f8, 8)], Some(4)),
                isa(IsaKind::Serial, &[(0x2f8, 8)], Some(3)),
                isa(IsaKind::Parallel, &[(0x378, 4)], Some(7)),
                isa(IsaKind::Floppy, &[(0x3f0, 6), (0x3f7, 1)], Some(6)),
            ],
        }
    }

    fn tables() -> AcpiTables {
        build(&board(), AT, RSDP_AT)
    }

    fn find(tables: &AcpiTables, signature: &[u8]) -> (u64, Vec<u8>) {
        tables.pieces.iter().find(|(_, bytes)| bytes.starts_with(signature)).expect("table exists").clone()
    }

    fn le(bytes: &[u8]) -> u64 {
        bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
    }

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, b| sum.wrapping_add(*b))
    }

    #[test]
    fn every_table_has_a_right_checksum_and_length() {
        for (at, bytes) in tables().pieces {
            match &bytes[..4] {
                b"RSD " => assert_eq!((sum(&bytes[..20]), sum(&bytes), bytes.len()), (0, 0, 36)),
                b"FACS" => assert_eq!((at % 64, le(&bytes[4..8])), (0, 64)),
                _ => assert_eq!((sum(&bytes), le(&bytes[4..8])), (0, bytes.len() as u64), "table at {at:#x}"),
            }
        }
    }

    #[test]
    fn pieces_lie_in_the_area_and_do_not_overlap() {
        let tables = build(&Board { cpus: 255, ..board() }, AT, RSDP_AT);
        let mut area: Vec<_> = tables.pieces.iter().filter(|(at, _)| *at != RSDP_AT).collect();
        area.sort_by_key(|(at, _)| *at);
        assert!(area.windows(2).all(|p| p[0].0 + p[0].1.len() as u64 <= p[1].0));
        assert!(
            area.iter().all(|(at, b)| tables.range.start <= *at && at + b.len() as u64 <= tables.range.end)
        );
        assert_eq!((tables.range, tables.rsdp), (AT..AT + AREA, RSDP_AT));
    }

    // checklist: 38
    #[test]
    fn rsdt_and_xsdt_list_the_same_tables_in_the_same_order() {
        let tables = tables();
        let (rsdt_at, rsdt) = find(&tables, b"RSDT");
        let (xsdt_at, xsdt) = find(&tables, b"XSDT");
        let (_, rsdp) = find(&tables, b"RSD PTR ");
        assert_eq!((le(&rsdp[16..20]), le(&rsdp[24..32]), rsdp[15]), (rsdt_at, xsdt_at, 2));
        let short: Vec<u64> = rsdt[36..].chunks(4).map(le).collect();
        let long: Vec<u64> = xsdt[36..].chunks(8).map(le).collect();
        assert_eq!(short, long);
        let names = [&b"FACP"[..], b"APIC", b"HPET", b"WAET"].map(|name| find(&tables, name).0);
        assert_eq!(short, names);
    }

    // checklist: 41
    #[test]
    fn fadt_extended_fields_equal_the_legacy_fields() {
        let tables = tables();
        let (_, fadt) = find(&tables, b"FACP");
        assert_eq!((fadt.len(), fadt[8]), (244, 3));
        for (legacy, extended) in [(56, 148), (64, 172), (76, 208), (80, 220)] {
            assert_eq!(
                le(&fadt[legacy..legacy + 4]),
                le(&fadt[extended + 4..extended + 12]),
                "block at {legacy}"
            );
        }
        let (facs, _) = find(&tables, b"FACS");
        let (dsdt, _) = find(&tables, b"DSDT");
        assert_eq!((le(&fadt[36..40]), le(&fadt[132..140])), (facs, facs));
        assert_eq!((le(&fadt[40..44]), le(&fadt[140..148])), (dsdt, dsdt));
        assert_eq!(le(&fadt[112..116]) & 0x30, 0x20, "a fixed power button, no fixed sleep button");
    }

    // checklist: 46
    #[test]
    fn madt_names_processors_io_apic_and_overrides() {
        let (_, madt) = find(&tables(), b"APIC");
        let mut rest = &madt[44..];
        let mut entries = Vec::new();
        while let [_, len, ..] = rest {
            let (entry, tail) = rest.split_at(usize::from(*len));
            entries.push(entry.to_vec());
            rest = tail;
        }
        assert_eq!((le(&madt[36..40]), le(&madt[40..44])), (0xfee0_0000, 1));
        let want: [&[u8]; 9] = [
            &[0, 8, 0, 0, 1, 0, 0, 0],
            &[0, 8, 1, 1, 1, 0, 0, 0],
            &[1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0],
            &[2, 10, 0, 0, 2, 0, 0, 0, 0, 0],
            &[2, 10, 0, 5, 5, 0, 0, 0, 13, 0],
            &[2, 10, 0, 9, 9, 0, 0, 0, 13, 0],
            &[2, 10, 0, 10, 10, 0, 0, 0, 13, 0],
            &[2, 10, 0, 11, 11, 0, 0, 0, 13, 0],
            &[4, 6, 255, 0, 0, 1],
        ];
        assert_eq!(entries, want);
    }

    fn acpica_tables() -> Vec<Vec<u8>> {
        tables().pieces.into_iter().filter(|(at, _)| *at != RSDP_AT).map(|(_, bytes)| bytes).collect()
    }

    // checklist: 39
    #[test]
    fn iasl_disassembles_every_table_and_compiles_it_to_the_same_body() {
        acpica::round_trip(&acpica_tables());
    }

    // checklist: 39
    #[test]
    fn no_name_is_used_before_it_is_declared() {
        let dsl = acpica::disassemble(&find(&tables(), b"DSDT").1);
        assert_eq!(acpica::forward_references(&dsl), Vec::<String>::new());
        let moved = dsl.replacen("Name (_HID", "Name (ABCD, LNKA)\n Name (_HID", 1);
        assert_eq!(acpica::forward_references(&moved), ["LNKA"], "the script sees one");
    }

    // checklist: 45
    #[test]
    fn acpiexec_evaluates_every_method() {
        acpica::evaluate_every_method(&find(&tables(), b"DSDT").1);
    }

    // checklist: 44
    #[test]
    fn every_pin_is_routed_in_both_modes_to_an_interrupt_of_no_legacy_device() {
        acpica::check_routing(&find(&tables(), b"DSDT").1, &find(&tables(), b"APIC").1);
    }

    // checklist: 28
    #[test]
    fn root_bus_claims_nothing_that_the_memory_map_names() {
        let low = 3 << 30;
        let tables = build(&board(), low - AREA, RSDP_AT);
        let chips = [0xfec0_0000..0xfec0_1000, 0xfed0_0000..0xfed0_0400, 0xfee0_0000..0xfee0_1000];
        let map = crate::memory_map(low, 1 << 30, tables.range.clone(), &chips);
        let ranges: Vec<_> = map.iter().map(|e| e.base..e.end()).collect();
        acpica::check_root_windows(&find(&tables, b"DSDT").1, &ranges);
    }
}
