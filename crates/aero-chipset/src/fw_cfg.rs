//! The configuration device of QEMU's machines, `fw_cfg`: what a machine tells its firmware and its test kernels.
//!
//! It is a set of numbered items of bytes. A word written to the first port selects an item, and byte reads of the
//! second give its bytes in order, zeros behind its end. Well-known numbers hold the processor count and the like;
//! item 19h is the *directory*, which lists items that have names. (QEMU, `docs/specs/fw_cfg.rst`; the device there
//! also has a DMA interface, which the id item would announce and here does not.)

use aero_bus::{At, Cx, Device, IoError, PortIo, Width};
use std::collections::BTreeMap;

/// Items and layouts.
mod spec {
    /// "QEMU".
    pub const SIGNATURE: u16 = 0x00;
    /// Features: bit 0, this interface; bit 1, DMA.
    pub const ID: u16 = 0x01;
    pub const ID_TRADITIONAL: u32 = 1;
    /// Bytes of RAM, a qword.
    pub const RAM_SIZE: u16 = 0x03;
    /// Processors at power-on, a word.
    pub const CPU_COUNT: u16 = 0x05;
    /// Processors at most, a word.
    pub const MAX_CPUS: u16 = 0x0f;
    /// The directory: a big-endian count, then entries.
    pub const DIRECTORY: u16 = 0x19;
    /// The first item with a name.
    pub const FIRST_FILE: u16 = 0x20;
    /// Bytes of a name in the directory, NUL included.
    pub const NAME: usize = 56;

    pub const SELECTOR: u64 = 0;
    pub const DATA: u64 = 1;
}

use spec::*;

/// The device. Region 0: selector and data.
#[derive(Default)]
pub struct FwCfg {
    items: BTreeMap<u16, Vec<u8>>,
    selected: u16,
    offset: u32,
}

impl FwCfg {
    /// The items of a machine with `cpus` processors and `ram` bytes of RAM, and its named items.
    pub fn new(cpus: u16, ram: u64, files: &[(&str, &[u8])]) -> Self {
        let numbered = (FIRST_FILE..).zip(files);
        let mut items: BTreeMap<_, _> = numbered.clone().map(|(n, (_, data))| (n, data.to_vec())).collect();
        items.extend([
            (SIGNATURE, b"QEMU".to_vec()),
            (ID, ID_TRADITIONAL.to_le_bytes().to_vec()),
            (RAM_SIZE, ram.to_le_bytes().to_vec()),
            (CPU_COUNT, cpus.to_le_bytes().to_vec()),
            (MAX_CPUS, cpus.to_le_bytes().to_vec()),
            (DIRECTORY, directory(numbered)),
        ]);
        Self { items, ..Self::default() }
    }

    fn next_byte(&mut self) -> u8 {
        let item = self.items.get(&self.selected);
        let byte = item.and_then(|item| item.get(self.offset as usize)).copied();
        self.offset = self.offset.saturating_add(1);
        byte.unwrap_or_default()
    }
}

fn directory<'a>(files: impl Iterator<Item = (u16, &'a (&'a str, &'a [u8]))> + Clone) -> Vec<u8> {
    let mut bytes = (files.clone().count() as u32).to_be_bytes().to_vec();
    for (number, (name, data)) in files {
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(number.to_be_bytes());
        bytes.extend([0, 0]);
        let mut padded = [0; NAME];
        // The last byte stays NUL.
        padded.iter_mut().take(NAME - 1).zip(name.bytes()).for_each(|(to, from)| *to = from);
        bytes.extend(padded);
    }
    bytes
}

impl Device for FwCfg {
    fn reset(&mut self, _cx: &mut Cx<'_>) {
        (self.selected, self.offset) = (0, 0);
    }

    fn pio(&mut self) -> Option<&mut dyn PortIo> {
        Some(self)
    }
}

impl PortIo for FwCfg {
    fn read(&mut self, _cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        match (at.offset, width) {
            (SELECTOR | DATA, Width::B1) => Ok(self.next_byte().into()),
            _ => Err(IoError::Unclaimed),
        }
    }

    fn write(&mut self, _cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError> {
        match (at.offset, width) {
            (SELECTOR, Width::B2) => (self.selected, self.offset) = (value as u16, 0),
            // Items cannot be written.
            (DATA, Width::B1) => {}
            _ => return Err(IoError::Unclaimed),
        }
        Ok(())
    }
}

mod saved {
    use super::FwCfg;
    use aero_state::{RestoreError, Saved, Section};
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct FwCfgStateV1 {
        selected: u16,
        offset: u32,
    }

    impl Saved for FwCfg {
        fn save(&self) -> Section {
            // The items come from the machine's configuration.
            let Self { items: _, selected, offset } = *self;
            Section::new("fw-cfg", 1, &FwCfgStateV1 { selected, offset })
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let FwCfgStateV1 { selected, offset } = section.decode("fw-cfg", 1)?;
            (self.selected, self.offset) = (selected, offset);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aero_bus::bench::{TestBoard, conformance};

    fn device() -> FwCfg {
        FwCfg::new(2, 512 << 20, &[("etc/one", b"1"), ("etc/two", b"22")])
    }

    fn read(device: &mut FwCfg, item: u64, count: usize) -> Vec<u8> {
        let mut board = TestBoard::new();
        device.write(&mut board.cx(), At::new(0, 0), Width::B2, item).unwrap();
        (0..count).map(|_| board.inb(device, 0, 1)).collect()
    }

    #[test]
    fn fw_cfg_passes_the_conformance_suite() {
        conformance(&[0], |_| device());
    }

    #[test]
    fn well_known_items_are_there_and_zeros_follow() {
        let mut device = device();
        assert_eq!(read(&mut device, 0, 6), b"QEMU\0\0");
        assert_eq!((read(&mut device, 5, 2), read(&mut device, 0xf, 2)), (vec![2, 0], vec![2, 0]));
        assert_eq!(read(&mut device, 3, 8), (512u64 << 20).to_le_bytes());
        assert_eq!(read(&mut device, 0x1234, 2), [0, 0]);
    }

    #[test]
    fn directory_leads_to_the_files() {
        let mut device = device();
        let directory = read(&mut device, 0x19, 4 + 2 * 64);
        assert_eq!(&directory[..4], [0, 0, 0, 2]);
        let second = &directory[4 + 64..];
        assert_eq!((&second[..8], &second[8..16]), (&[0, 0, 0, 2, 0, 0x21, 0, 0][..], &b"etc/two\0"[..]));
        assert_eq!(read(&mut device, 0x21, 3), b"22\0");
    }

    #[test]
    fn selecting_again_starts_over_and_writes_change_nothing() {
        let (mut board, mut device) = (TestBoard::new(), device());
        assert_eq!(read(&mut device, 0, 2), b"QE");
        board.outb(&mut device, 0, 1, b'x');
        assert_eq!(board.inb(&mut device, 0, 1), b'M');
        assert_eq!(read(&mut device, 0, 1), b"Q");
    }
}
