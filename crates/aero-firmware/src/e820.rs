//! The memory map that firmware reports (`INT 15h, AX=E820h`; ACPI 6.5 section 15.1).
//!
//! A map is a sorted list of ranges that do not overlap. What it leaves out is as important as what it says:
//! the hole from A0000h to EFFFFh is not described at all, because Windows is confused by RAM or reserved
//! ranges there, and no range may touch what the PCI root bridge claims in its `_CRS` (bug check A5h,
//! parameter 2).

use core::ops::Range;

/// The first megabyte, as every PC BIOS reports it.
mod spec {
    /// End of conventional memory: the extended BIOS data area takes the last KiB of 640.
    pub const BASE_RAM_END: u64 = 0x9_fc00;
    /// End of the extended BIOS data area, start of the video window.
    pub const EBDA_END: u64 = 0xa_0000;
    /// The segment where the system BIOS, and here the ACPI root pointer, lies.
    pub const BIOS: u64 = 0xf_0000;
    /// Extended memory starts here.
    pub const EXTENDED: u64 = 0x10_0000;
    /// RAM that does not fit below the PCI window continues here.
    pub const HIGH_RAM: u64 = 1 << 32;
}

/// What a range is for; the discriminants are the types of ACPI 6.5 table 15.4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum E820Kind {
    /// Free for the operating system.
    Ram = 1,
    /// Never to be used or assigned.
    Reserved = 2,
    /// ACPI tables: RAM once the tables have been read.
    Acpi = 3,
    /// ACPI memory that must survive sleep.
    Nvs = 4,
}

/// One range of the map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct E820Entry {
    /// First guest physical address.
    pub base: u64,
    /// Length in bytes, never 0.
    pub size: u64,
    /// What it is for.
    pub kind: E820Kind,
}

impl E820Entry {
    /// The first address behind the range.
    pub fn end(&self) -> u64 {
        self.base.saturating_add(self.size)
    }
}

/// The map of a machine with `low_ram` bytes of RAM from address 0 and `high_ram` bytes from 4 GiB.
///
/// `acpi` is [`crate::AcpiTables::range`] inside low RAM; its first page, which holds the FACS, is reported
/// as non-volatile storage and the rest as ACPI tables. `reserved` are the pages of chips that no PCI window
/// covers (I/O APIC, local APIC, HPET, flash).
///
/// The result is sorted and free of overlaps if the arguments do not overlap each other.
pub fn memory_map(low_ram: u64, high_ram: u64, acpi: Range<u64>, reserved: &[Range<u64>]) -> Vec<E820Entry> {
    let facs_end = (acpi.start + crate::acpi::FACS_AREA).min(acpi.end);
    let mut map = vec![
        entry(0..spec::BASE_RAM_END.min(low_ram), E820Kind::Ram),
        entry(spec::BASE_RAM_END..spec::EBDA_END, E820Kind::Reserved),
        entry(spec::BIOS..spec::EXTENDED, E820Kind::Reserved),
        entry(spec::EXTENDED..acpi.start, E820Kind::Ram),
        entry(acpi.start..facs_end, E820Kind::Nvs),
        entry(facs_end..acpi.end, E820Kind::Acpi),
        entry(acpi.end..low_ram, E820Kind::Ram),
        entry(spec::HIGH_RAM..spec::HIGH_RAM.saturating_add(high_ram), E820Kind::Ram),
    ];
    map.extend(reserved.iter().map(|range| entry(range.clone(), E820Kind::Reserved)));
    map.retain(|e| e.size != 0);
    map.sort_by_key(|e| e.base);
    map
}

fn entry(range: Range<u64>, kind: E820Kind) -> E820Entry {
    E820Entry { base: range.start, size: range.end.saturating_sub(range.start), kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHIPS: [Range<u64>; 2] = [0xfec0_0000..0xfec0_1000, 0xfee0_0000..0xfee0_1000];

    fn map(low: u64, high: u64) -> Vec<E820Entry> {
        memory_map(low, high, low - 0x1_0000..low, &CHIPS)
    }

    #[test]
    fn map_of_256_mib_has_every_range_in_order() {
        use E820Kind::{Acpi, Nvs, Ram, Reserved};
        let got: Vec<_> = map(256 << 20, 0).iter().map(|e| (e.base, e.end(), e.kind)).collect();
        let want = [
            (0, 0x9_fc00, Ram),
            (0x9_fc00, 0xa_0000, Reserved),
            (0xf_0000, 0x10_0000, Reserved),
            (0x10_0000, 0xfff_0000, Ram),
            (0xfff_0000, 0xfff_1000, Nvs),
            (0xfff_1000, 0x1000_0000, Acpi),
            (0xfec0_0000, 0xfec0_1000, Reserved),
            (0xfee0_0000, 0xfee0_1000, Reserved),
        ];
        assert_eq!(got, want);
    }

    // checklist: 27
    #[test]
    fn any_size_gives_a_sorted_map_without_overlaps_or_a_word_on_the_video_hole() {
        for (low, high) in [(1 << 21, 0), (64 << 20, 0), (0xc000_0000, 0), (0xc000_0000, 1 << 30)] {
            let map = map(low, high);
            assert!(map.windows(2).all(|pair| pair[0].end() <= pair[1].base), "{map:x?}");
            assert!(map.iter().all(|e| e.end() <= 0xa_0000 || e.base >= 0xf_0000), "{map:x?}");
            let ram: u64 = map.iter().filter(|e| e.kind == E820Kind::Ram).map(|e| e.size).sum();
            assert_eq!(ram, low + high - 0x6_0400 - 0x1_0000);
        }
    }

    #[test]
    fn ram_above_4_gib_is_one_range() {
        let map = map(0xc000_0000, 512 << 20);
        let above: Vec<_> = map.iter().filter(|e| e.base >= 1 << 32).collect();
        assert_eq!(above, [&E820Entry { base: 1 << 32, size: 512 << 20, kind: E820Kind::Ram }]);
    }
}
