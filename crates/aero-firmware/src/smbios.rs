//! SMBIOS: the description of the computer that management software reads (DMTF DSP0134, version 2.8).
//!
//! It is a list of structures behind an entry point that systems search for in F0000h–FFFFFh. A structure is
//! a header (type, length, handle), fields of fixed places, and its strings, which fields refer to by number:
//!
//! ```text
//! _SM_ ─► 0 BIOS   1 system   2 board   3 chassis   4 processor
//!         16 memory array ◄─ 17 memory device          ◄─ 19 where it is mapped
//!         32 boot status   127 end
//! ```
//!
//! No operating system needs it to start; Windows shows it, and what identifies a machine (its UUID) is here.
//! [`files`] gives it to SeaBIOS and OVMF, which place it themselves, and [`build`] to a guest without
//! firmware.

/// Structure types, field values and lengths (DSP0134 chapters 5 and 7).
mod spec {
    pub const VERSION: [u8; 2] = [2, 8];
    pub const ANCHOR: &str = "etc/smbios/smbios-anchor";
    pub const TABLES: &str = "etc/smbios/smbios-tables";
    pub const ENTRY_LEN: usize = 0x1f;
    /// The second part of the entry point, with a checksum of its own, begins here.
    pub const INTERMEDIATE: usize = 0x10;
    pub const ADDRESS: usize = 0x18;

    pub const CHASSIS: u16 = 0x0300;
    pub const MEMORY_ARRAY: u16 = 0x1000;
    /// "There is no information about errors", and "no cache is described".
    pub const NO_ERROR_HANDLE: u16 = 0xfffe;
    pub const NO_HANDLE: u16 = 0xffff;

    /// BIOS characteristics: PCI, boots from CD, selectable boot, EDD.
    pub const BIOS_PCI: u64 = 1 << 7;
    pub const BIOS_CD_BOOT: u64 = 1 << 15;
    pub const BIOS_SELECTABLE_BOOT: u64 = 1 << 16;
    pub const BIOS_EDD: u64 = 1 << 19;
    /// Extension bytes: ACPI; virtual machine.
    pub const BIOS_EXTENSION: [u8; 2] = [1 << 0, 1 << 4];
    /// Segment where the BIOS begins, and its size in 64 KiB less one.
    pub const BIOS_SEGMENT: u16 = 0xe000;
    pub const BIOS_SIZE: u8 = 3;

    pub const WAKE_POWER_SWITCH: u8 = 6;
    pub const HOSTING_BOARD: u8 = 1;
    pub const MOTHERBOARD: u8 = 0x0a;
    pub const DESKTOP: u8 = 3;
    /// Chassis states: safe; security: none.
    pub const SAFE: u8 = 3;
    pub const NO_SECURITY: u8 = 3;

    pub const CENTRAL_PROCESSOR: u8 = 3;
    pub const OTHER: u8 = 1;
    /// Socket populated, processor enabled.
    pub const CPU_ENABLED: u8 = 0x41;
    pub const UPGRADE_NONE: u8 = 6;
    /// Processor characteristics: 64-bit; several cores.
    pub const CPU_64_BIT: u16 = 1 << 2;
    pub const CPU_MULTI_CORE: u16 = 1 << 3;

    pub const SYSTEM_BOARD: u8 = 3;
    pub const SYSTEM_MEMORY: u8 = 3;
    pub const NO_ECC: u8 = 3;
    pub const DIMM: u8 = 9;
    pub const RAM: u8 = 7;
    /// Type detail: other.
    pub const DETAIL_OTHER: u16 = 1 << 1;
    /// A size of this and more goes into the extended field.
    pub const EXTENDED_CAPACITY_KIB: u64 = 0x8000_0000;
    pub const EXTENDED_SIZE_MIB: u64 = 0x7fff;
    pub const NO_BOOT_ERROR: u8 = 0;
}

/// What the structures have to know about the machine.
#[derive(Clone, Debug)]
pub struct System {
    /// Identifies this machine for good, in the order in which it is written as text.
    pub uuid: [u8; 16],
    /// Version of the program, as text.
    pub version: String,
    /// Date of the BIOS, `MM/DD/YYYY`.
    pub date: String,
    /// Cores, all in one socket.
    pub cores: u8,
    /// EAX and EDX of CPUID leaf 1.
    pub cpu_id: (u32, u32),
    /// Maker of the processor.
    pub cpu_vendor: String,
    /// The processor's brand string.
    pub cpu_name: String,
    /// Its frequency.
    pub mhz: u16,
    /// Bytes of RAM from address 0.
    pub low_ram: u64,
    /// Bytes of RAM from 4 GiB.
    pub high_ram: u64,
}

/// The two files with which firmware installs the structures: names of `fw_cfg` and bytes. The entry point
/// has no address yet; firmware fills it in and makes the checksums.
pub fn files(system: &System) -> Vec<(&'static str, Vec<u8>)> {
    let table = Table::new(system);
    vec![(spec::ANCHOR, table.entry_point(0)), (spec::TABLES, table.bytes)]
}

/// The structures for a guest without firmware: (guest physical address, bytes) of the entry point at
/// `entry_at`, a multiple of 16 in F0000h–FFFFFh, and of the structures behind it.
pub fn build(system: &System, entry_at: u32) -> [(u64, Vec<u8>); 2] {
    let table = Table::new(system);
    let table_at = entry_at + spec::ENTRY_LEN.next_multiple_of(16) as u32;
    [(entry_at.into(), table.entry_point(table_at)), (table_at.into(), table.bytes)]
}

/// The structures so far.
struct Table {
    bytes: Vec<u8>,
    count: u16,
    largest: u16,
}

impl Table {
    fn new(system: &System) -> Self {
        let mut table = Self { bytes: Vec::new(), count: 0, largest: 0 };
        for structure in [bios(system), identity(system), base_board(system), chassis(), processor(system)] {
            table.append(structure);
        }
        memory(system).into_iter().for_each(|structure| table.append(structure));
        table.append(Structure::new(32, 0x2000).bytes(&[0; 6]).bytes(&[spec::NO_BOOT_ERROR]));
        table.append(Structure::new(127, 0x7f00));
        table
    }

    fn append(&mut self, structure: Structure) {
        let bytes = structure.finish();
        self.count += 1;
        self.largest = self.largest.max(bytes.len() as u16);
        self.bytes.extend(bytes);
    }

    fn entry_point(&self, table_at: u32) -> Vec<u8> {
        let [major, minor] = spec::VERSION;
        let mut bytes = b"_SM_\0".to_vec();
        bytes.extend([spec::ENTRY_LEN as u8, major, minor]);
        bytes.extend(self.largest.to_le_bytes());
        bytes.resize(spec::INTERMEDIATE, 0);
        bytes.extend(*b"_DMI_\0");
        bytes.extend((self.bytes.len() as u16).to_le_bytes());
        debug_assert_eq!(bytes.len(), spec::ADDRESS);
        bytes.extend(table_at.to_le_bytes());
        bytes.extend(self.count.to_le_bytes());
        bytes.push(major << 4 | minor);
        bytes[spec::INTERMEDIATE + 5] = checksum(&bytes[spec::INTERMEDIATE..]);
        bytes[4] = checksum(&bytes);
        bytes
    }
}

/// The byte that makes the sum 0.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, b| sum.wrapping_sub(*b))
}

/// A structure under construction: its fields are appended in order.
struct Structure {
    fields: Vec<u8>,
    strings: Vec<u8>,
    last_string: u8,
}

impl Structure {
    fn new(kind: u8, handle: u16) -> Self {
        let [low, high] = handle.to_le_bytes();
        Self { fields: vec![kind, 0, low, high], strings: Vec::new(), last_string: 0 }
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.fields.extend(bytes);
        self
    }

    fn words(self, words: &[u16]) -> Self {
        words.iter().fold(self, |s, w| s.bytes(&w.to_le_bytes()))
    }

    fn dwords(self, dwords: &[u32]) -> Self {
        dwords.iter().fold(self, |s, d| s.bytes(&d.to_le_bytes()))
    }

    fn qwords(self, qwords: &[u64]) -> Self {
        qwords.iter().fold(self, |s, q| s.bytes(&q.to_le_bytes()))
    }

    /// A field that refers to a string; none if the text is empty. A NUL would end the string.
    fn text(mut self, text: &str) -> Self {
        let text: Vec<u8> = text.bytes().filter(|b| *b != 0).collect();
        if text.is_empty() {
            return self.bytes(&[0]);
        }
        self.last_string += 1;
        self.strings.extend(text);
        self.strings.push(0);
        let number = self.last_string;
        self.bytes(&[number])
    }

    fn finish(mut self) -> Vec<u8> {
        self.fields[1] = self.fields.len() as u8;
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        self.strings.push(0);
        self.fields.append(&mut self.strings);
        self.fields
    }
}

fn bios(system: &System) -> Structure {
    let features = spec::BIOS_PCI | spec::BIOS_CD_BOOT | spec::BIOS_SELECTABLE_BOOT | spec::BIOS_EDD;
    Structure::new(0, 0)
        .text("Aero")
        .text(&system.version)
        .words(&[spec::BIOS_SEGMENT])
        .text(&system.date)
        .bytes(&[spec::BIOS_SIZE])
        .qwords(&[features])
        .bytes(&spec::BIOS_EXTENSION)
        // Release of the BIOS is not numbered, and there is no embedded controller.
        .bytes(&[0, 0, 0xff, 0xff])
}

/// The first three fields of a UUID are stored with their lowest byte first.
fn identity(system: &System) -> Structure {
    let [a, b, c, d, e, f, g, h, rest @ ..] = system.uuid;
    Structure::new(1, 0x0100)
        .text("Aero")
        .text("Aero PC (i440FX + PIIX)")
        .text(&system.version)
        .text("")
        .bytes(&[d, c, b, a, f, e, h, g])
        .bytes(&rest)
        .bytes(&[spec::WAKE_POWER_SWITCH])
        .text("")
        .text("Virtual Machine")
}

fn base_board(system: &System) -> Structure {
    Structure::new(2, 0x0200)
        .text("Aero")
        .text("440FX")
        .text(&system.version)
        .text("")
        .text("")
        .bytes(&[spec::HOSTING_BOARD])
        .text("")
        .words(&[spec::CHASSIS])
        .bytes(&[spec::MOTHERBOARD, 0])
}

fn chassis() -> Structure {
    Structure::new(3, spec::CHASSIS)
        .text("Aero")
        .bytes(&[spec::DESKTOP])
        .text("")
        .text("")
        .text("")
        .bytes(&[spec::SAFE, spec::SAFE, spec::SAFE, spec::NO_SECURITY])
        .dwords(&[0])
        // Height unknown, one power cord, no contained elements.
        .bytes(&[0, 1, 0, 0])
        .text("")
}

fn processor(system: &System) -> Structure {
    let several = if system.cores > 1 { spec::CPU_MULTI_CORE } else { 0 };
    Structure::new(4, 0x0400)
        .text("CPU 0")
        .bytes(&[spec::CENTRAL_PROCESSOR, spec::OTHER])
        .text(&system.cpu_vendor)
        .dwords(&[system.cpu_id.0, system.cpu_id.1])
        .text(&system.cpu_name)
        // Voltage and external clock are unknown.
        .bytes(&[0])
        .words(&[0, system.mhz, system.mhz])
        .bytes(&[spec::CPU_ENABLED, spec::UPGRADE_NONE])
        .words(&[spec::NO_HANDLE; 3])
        .text("")
        .text("")
        .text("")
        .bytes(&[system.cores; 3])
        .words(&[spec::CPU_64_BIT | several, spec::OTHER.into()])
}

/// The memory array, its one module, and where that is mapped: below and above the PCI window.
fn memory(system: &System) -> Vec<Structure> {
    let total = system.low_ram + system.high_ram;
    let mut structures = vec![memory_array(total), memory_device(total), mapped(0, 0..system.low_ram)];
    if system.high_ram != 0 {
        structures.push(mapped(1, 1 << 32..(1 << 32) + system.high_ram));
    }
    structures
}

fn memory_array(bytes: u64) -> Structure {
    let kib = bytes >> 10;
    let (short, long) =
        if kib < spec::EXTENDED_CAPACITY_KIB { (kib, 0) } else { (spec::EXTENDED_CAPACITY_KIB, bytes) };
    Structure::new(16, spec::MEMORY_ARRAY)
        .bytes(&[spec::SYSTEM_BOARD, spec::SYSTEM_MEMORY, spec::NO_ECC])
        .dwords(&[short as u32])
        .words(&[spec::NO_ERROR_HANDLE, 1])
        .qwords(&[long])
}

fn memory_device(bytes: u64) -> Structure {
    let mib = bytes >> 20;
    let (short, long) = if mib < spec::EXTENDED_SIZE_MIB { (mib, 0) } else { (spec::EXTENDED_SIZE_MIB, mib) };
    Structure::new(17, 0x1100)
        .words(&[spec::MEMORY_ARRAY, spec::NO_ERROR_HANDLE, 64, 64, short as u16])
        .bytes(&[spec::DIMM, 0])
        .text("DIMM 0")
        .text("Bank 0")
        .bytes(&[spec::RAM])
        // Its speed is unknown.
        .words(&[spec::DETAIL_OTHER, 0])
        .text("Aero")
        .text("")
        .text("")
        .text("")
        // Its ranks, speed and voltages are unknown.
        .bytes(&[0])
        .dwords(&[long as u32])
        .words(&[0; 4])
}

fn mapped(n: u16, range: core::ops::Range<u64>) -> Structure {
    let (first, last) = (range.start >> 10, (range.end >> 10).saturating_sub(1));
    // Either the addresses fit in KiB, or they are given in bytes instead.
    let narrow = last < u64::from(u32::MAX);
    let short = if narrow { [first as u32, last as u32] } else { [u32::MAX; 2] };
    let long = if narrow { [0, 0] } else { [range.start, range.end - 1] };
    Structure::new(19, 0x1300 + n)
        .dwords(&short)
        .words(&[spec::MEMORY_ARRAY])
        // One device in a row.
        .bytes(&[1])
        .qwords(&long)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(low: u64, high: u64) -> System {
        System {
            uuid: *b"\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef",
            version: "0.1.0".into(),
            date: "11/25/2026".into(),
            cores: 2,
            cpu_id: (0x206a7, 0x0f8b_fbff),
            cpu_vendor: "GenuineIntel".into(),
            cpu_name: "Some CPU @ 2.00GHz".into(),
            mhz: 2000,
            low_ram: low,
            high_ram: high,
        }
    }

    /// Each structure as (type, handle, fields, strings).
    fn parse(mut bytes: &[u8]) -> Vec<(u8, u16, Vec<u8>, Vec<String>)> {
        let mut structures = Vec::new();
        while let [kind, len, low, high, ..] = *bytes {
            let (fields, rest) = bytes.split_at(len.into());
            let end = rest.windows(2).position(|w| w == [0, 0]).expect("two NULs");
            let strings = rest[..end].split(|b| *b == 0).filter(|s| !s.is_empty());
            let strings = strings.map(|s| String::from_utf8_lossy(s).into_owned()).collect();
            structures.push((kind, u16::from_le_bytes([low, high]), fields.to_vec(), strings));
            bytes = &rest[end + 2..];
        }
        assert!(bytes.is_empty());
        structures
    }

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |s, b| s.wrapping_add(*b))
    }

    #[test]
    fn entry_point_counts_the_structures_and_its_sums_are_zero() {
        let [(at, entry), (table_at, table)] = build(&system(1 << 30, 0), 0xf_5000);
        assert_eq!((at, table_at, entry.len()), (0xf_5000, 0xf_5020, 31));
        assert_eq!(
            (sum(&entry), sum(&entry[16..]), &entry[..4], &entry[16..21]),
            (0, 0, &b"_SM_"[..], &b"_DMI_"[..])
        );
        let structures = parse(&table);
        assert_eq!(u16::from_le_bytes([entry[28], entry[29]]) as usize, structures.len());
        assert_eq!(u16::from_le_bytes([entry[22], entry[23]]) as usize, table.len());
        assert_eq!((&entry[24..28], &entry[6..8], entry[30]), (&[0x20, 0x50, 0xf, 0][..], &[2, 8][..], 0x28));
        assert_eq!(files(&system(1 << 30, 0))[1], ("etc/smbios/smbios-tables", table));
    }

    #[test]
    fn structures_have_the_lengths_of_their_version_and_handles_of_their_own() {
        let structures = parse(&Table::new(&system(3 << 30, 13 << 30)).bytes);
        let shapes: Vec<_> = structures.iter().map(|(kind, _, fields, _)| (*kind, fields.len())).collect();
        let want = [
            (0, 0x18),
            (1, 0x1b),
            (2, 0x0f),
            (3, 0x16),
            (4, 0x2a),
            (16, 0x17),
            (17, 0x28),
            (19, 0x1f),
            (19, 0x1f),
        ];
        assert_eq!(shapes, [&want[..], &[(32, 0x0b), (127, 4)]].concat());
        let mut handles: Vec<_> = structures.iter().map(|s| s.1).collect();
        handles.dedup();
        assert_eq!(handles.len(), structures.len());
    }

    #[test]
    fn memory_is_counted_and_mapped_around_the_window() {
        let dword = |f: &[u8], at: usize| u32::from_le_bytes(f[at..at + 4].try_into().expect("4"));
        let of = |low, high| {
            let all = parse(&Table::new(&system(low, high)).bytes);
            let fields = |kind| all.iter().filter(|s| s.0 == kind).map(|s| s.2.clone()).collect::<Vec<_>>();
            (fields(16)[0].clone(), fields(17)[0].clone(), fields(19))
        };
        let (array, device, maps) = of(3 << 30, 1 << 30);
        assert_eq!((dword(&array, 7), device[12], device[13]), (4 << 20, 0, 0x10));
        let ranges: Vec<_> = maps.iter().map(|m| (dword(m, 4), dword(m, 8))).collect();
        assert_eq!(ranges, [(0, (3 << 20) - 1), (4 << 20, (5 << 20) - 1)]);
        let (array, device, maps) = of(3 << 30, 4 << 40);
        assert_eq!((dword(&array, 7), dword(&array, 15), dword(&array, 19)), (0x8000_0000, 3 << 30, 1 << 10));
        assert_eq!((&device[12..14], dword(&device, 28)), (&[0xff, 0x7f][..], (4 << 20) + (3 << 10)));
        assert_eq!((dword(&maps[1], 4), dword(&maps[1], 15), dword(&maps[1], 19)), (u32::MAX, 0, 1));
    }

    #[test]
    fn uuid_is_stored_as_its_text_says_and_strings_are_numbered() {
        let structures = parse(&Table::new(&system(1 << 30, 0)).bytes);
        let (_, _, fields, strings) = &structures[1];
        assert_eq!(&fields[8..16], [0x67, 0x45, 0x23, 0x01, 0xab, 0x89, 0xef, 0xcd]);
        assert_eq!((fields[4], fields[5], fields[7], strings[0].as_str()), (1, 2, 0, "Aero"));
        assert_eq!(structures[4].3, ["CPU 0", "GenuineIntel", "Some CPU @ 2.00GHz"]);
    }
}
