//! The configuration device of QEMU's machines, `fw_cfg`: what a machine tells its firmware and its test kernels.
//!
//! It is a set of numbered items of bytes. A word written to the first port selects an item, and byte reads of the
//! second give its bytes in order, zeros behind its end. Well-known numbers hold the processor count and the like;
//! item 19h is the *directory*, which lists items that have names.
//!
//! Firmware that is past its first steps uses the DMA interface: it puts a big-endian control block (what to do, how many
//! bytes, where) into memory and its address into eight ports; writing the lower half starts. When the device has
//! cleared the block's first dword it is done, which here is at once. (QEMU, `docs/specs/fw_cfg.rst`.)

use aero_bus::{At, Cx, Device, IoError, PortIo, Width};
use aero_mem::Gpa;
use std::collections::BTreeMap;

/// Items and layouts.
mod spec {
    /// "QEMU".
    pub const SIGNATURE: u16 = 0x00;
    /// Features: bit 0, selector and data port; bit 1, DMA.
    pub const ID: u16 = 0x01;
    pub const ID_PORTS_AND_DMA: u32 = 3;
    /// Bytes of RAM, a qword.
    pub const RAM_SIZE: u16 = 0x03;
    /// 1 if there is no display, a word.
    pub const NO_GRAPHIC: u16 = 0x04;
    /// Processors at power-on, a word.
    pub const CPU_COUNT: u16 = 0x05;
    /// Whether firmware offers its boot menu, a word.
    pub const BOOT_MENU: u16 = 0x0e;
    /// Processors at most, a word.
    pub const MAX_CPUS: u16 = 0x0f;
    /// The directory: a big-endian count, then entries.
    pub const DIRECTORY: u16 = 0x19;
    /// The first item with a name.
    pub const FIRST_FILE: u16 = 0x20;
    /// Whether the timer is on pin 2 of the I/O APIC, a byte.
    pub const IRQ0_OVERRIDE: u16 = 0x8002;
    /// Bytes of a name in the directory, NUL included.
    pub const NAME: usize = 56;

    /// Region 0.
    pub const PORTS: u8 = 0;
    pub const SELECTOR: u64 = 0;
    pub const DATA: u64 = 1;
    /// Region 1.
    pub const DMA: u8 = 1;
    pub const DMA_HIGH: u64 = 0;
    pub const DMA_LOW: u64 = 4;
    /// What the DMA ports read as.
    pub const DMA_SIGNATURE: [u8; 8] = *b"QEMU CFG";

    /// Control: the item is in bits 31:16.
    pub const ERROR: u32 = 1 << 0;
    pub const READ: u32 = 1 << 1;
    pub const SKIP: u32 = 1 << 2;
    pub const SELECT: u32 = 1 << 3;
    pub const WRITE: u32 = 1 << 4;
    /// Bytes of the control block: control and length (dwords), address (qword).
    pub const BLOCK: usize = 16;
    /// Bytes moved between the item and memory at a time.
    pub const PIECE: usize = 4096;
}

use spec::*;

/// The device. Region 0: selector and data; region 1: the eight ports of the DMA interface.
#[derive(Default)]
pub struct FwCfg {
    items: BTreeMap<u16, Vec<u8>>,
    /// Names of the items from [`FIRST_FILE`] on.
    names: Vec<String>,
    selected: u16,
    offset: u32,
    dma_high: u32,
}

impl FwCfg {
    /// The items of a machine with `cpus` processors and `ram` bytes of RAM, and its named items.
    pub fn new(cpus: u16, ram: u64, files: &[(&str, &[u8])]) -> Self {
        let items = [
            (SIGNATURE, b"QEMU".to_vec()),
            (ID, ID_PORTS_AND_DMA.to_le_bytes().to_vec()),
            (RAM_SIZE, ram.to_le_bytes().to_vec()),
            (NO_GRAPHIC, vec![0, 0]),
            (CPU_COUNT, cpus.to_le_bytes().to_vec()),
            (MAX_CPUS, cpus.to_le_bytes().to_vec()),
            (IRQ0_OVERRIDE, vec![1]),
        ];
        let mut device = Self { items: items.into(), ..Self::default() };
        device.list();
        files.iter().for_each(|(name, data)| device.set_file(name, data.to_vec()));
        device
    }

    /// Whether firmware offers its boot menu.
    pub fn set_boot_menu(&mut self, on: bool) {
        self.items.insert(BOOT_MENU, vec![on.into(), 0]);
    }

    /// Adds a named item, or changes the one of that name.
    pub fn set_file(&mut self, name: &str, data: Vec<u8>) {
        let n = self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        self.items.insert(FIRST_FILE + n as u16, data);
        self.list();
    }

    /// Writes the directory.
    fn list(&mut self) {
        let mut bytes = (self.names.len() as u32).to_be_bytes().to_vec();
        for (number, name) in (FIRST_FILE..).zip(&self.names) {
            let len = self.items.get(&number).map_or(0, Vec::len);
            bytes.extend((len as u32).to_be_bytes());
            bytes.extend(number.to_be_bytes());
            bytes.extend([0, 0]);
            let mut padded = [0; NAME];
            // The last byte stays NUL.
            padded.iter_mut().take(NAME - 1).zip(name.bytes()).for_each(|(to, from)| *to = from);
            bytes.extend(padded);
        }
        self.items.insert(DIRECTORY, bytes);
    }

    fn select(&mut self, item: u16) {
        (self.selected, self.offset) = (item, 0);
    }

    /// The next bytes of the selected item, zeros behind its end.
    fn next_bytes(&mut self, into: &mut [u8]) {
        let item = self.items.get(&self.selected).map_or(&[][..], Vec::as_slice);
        let rest = item.get(self.offset as usize..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        into[count..].fill(0);
        self.offset = self.offset.saturating_add(into.len() as u32);
    }

    /// Does what the control block at `at` says, and says so there.
    fn run_block(&mut self, cx: &mut Cx<'_>, at: Gpa) {
        let mut block = [0; BLOCK];
        if cx.dma_read(at, &mut block).is_err() {
            return;
        }
        let dword = |n: usize| u32::from_be_bytes([block[n], block[n + 1], block[n + 2], block[n + 3]]);
        let (control, len) = (dword(0), dword(4));
        let address = u64::from(dword(8)) << 32 | u64::from(dword(12));
        let done = self.carry_out(cx, control, len, Gpa(address));
        let status = if done { 0 } else { ERROR };
        // A block that cannot be written has no reader.
        let _ = cx.dma_write(at, &status.to_be_bytes());
    }

    /// Selects, reads or skips; `false` for what cannot be done. Items cannot be written.
    fn carry_out(&mut self, cx: &mut Cx<'_>, control: u32, len: u32, to: Gpa) -> bool {
        if control & SELECT != 0 {
            self.select((control >> 16) as u16);
        }
        if control & READ != 0 {
            return self.copy_out(cx, len, to);
        }
        if control & SKIP != 0 {
            self.offset = self.offset.saturating_add(len);
        }
        control & WRITE == 0 || control & SKIP != 0
    }

    fn copy_out(&mut self, cx: &mut Cx<'_>, len: u32, to: Gpa) -> bool {
        let mut piece = [0; PIECE];
        let mut at = 0;
        while at < len {
            let count = (len - at).min(PIECE as u32);
            let bytes = &mut piece[..count as usize];
            self.next_bytes(bytes);
            if cx.dma_write(to.offset(at.into()), bytes).is_err() {
                return false;
            }
            at += count;
        }
        true
    }
}

impl Device for FwCfg {
    fn reset(&mut self, _cx: &mut Cx<'_>) {
        (self.selected, self.offset, self.dma_high) = (0, 0, 0);
    }

    fn pio(&mut self) -> Option<&mut dyn PortIo> {
        Some(self)
    }
}

impl PortIo for FwCfg {
    fn read(&mut self, _cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        let bytes = width.bytes() as usize;
        match (at.region, at.offset) {
            (PORTS, SELECTOR | DATA) if bytes == 1 => {
                let mut byte = [0];
                self.next_bytes(&mut byte);
                Ok(byte[0].into())
            }
            (DMA, offset) => {
                let rest = DMA_SIGNATURE.get(offset as usize..).ok_or(IoError::Unclaimed)?;
                let value =
                    rest.iter().take(bytes).rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
                Ok(value)
            }
            _ => Err(IoError::Unclaimed),
        }
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError> {
        match (at.region, at.offset, width) {
            (PORTS, SELECTOR, Width::B2) => self.select(value as u16),
            // Items cannot be written.
            (PORTS, DATA, Width::B1) => {}
            (DMA, DMA_HIGH, Width::B4) => self.dma_high = (value as u32).swap_bytes(),
            (DMA, DMA_LOW, Width::B4) => {
                let low = (value as u32).swap_bytes();
                let high = core::mem::take(&mut self.dma_high);
                self.run_block(cx, Gpa(u64::from(high) << 32 | u64::from(low)));
            }
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
    struct FwCfgStateV2 {
        selected: u16,
        offset: u32,
        dma_high: u32,
    }

    impl Saved for FwCfg {
        fn save(&self) -> Section {
            // The items come from the machine's configuration.
            let Self { items: _, names: _, selected, offset, dma_high } = *self;
            Section::new("fw-cfg", 2, &FwCfgStateV2 { selected, offset, dma_high })
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let FwCfgStateV2 { selected, offset, dma_high } = section.decode("fw-cfg", 2)?;
            (self.selected, self.offset, self.dma_high) = (selected, offset, dma_high);
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
        conformance(&[0, 1], |_| device());
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

    /// A control block at 1000h; where its bytes go is 2000h.
    fn dma(board: &mut TestBoard, device: &mut FwCfg, control: u32, len: u32) -> u32 {
        let block = [control.to_be_bytes(), len.to_be_bytes(), [0; 4], 0x2000u32.to_be_bytes()].concat();
        board.cx().dma_write(Gpa(0x1000), &block).unwrap();
        device.write(&mut board.cx(), At::new(1, 0), Width::B4, 0).unwrap();
        device.write(&mut board.cx(), At::new(1, 4), Width::B4, 0x1000u32.swap_bytes().into()).unwrap();
        let mut status = [0; 4];
        board.cx().dma_read(Gpa(0x1000), &mut status).unwrap();
        u32::from_be_bytes(status)
    }

    #[test]
    fn control_block_selects_skips_and_reads() {
        let (mut board, mut device) = (TestBoard::new(), device());
        board.cx().dma_write(Gpa(0x2000), &[0xee; 8]).unwrap();
        assert_eq!(dma(&mut board, &mut device, SELECT, 0), 0);
        assert_eq!(dma(&mut board, &mut device, SKIP, 1), 0);
        assert_eq!(dma(&mut board, &mut device, READ, 6), 0);
        let mut bytes = [0; 8];
        board.cx().dma_read(Gpa(0x2000), &mut bytes).unwrap();
        assert_eq!(bytes, *b"EMU\0\0\0\xee\xee");
        assert_eq!(dma(&mut board, &mut device, 0x21 << 16 | SELECT | READ, 2), 0);
        board.cx().dma_read(Gpa(0x2000), &mut bytes).unwrap();
        assert_eq!(&bytes[..2], b"22");
    }

    #[test]
    fn writing_an_item_or_reading_it_into_nowhere_is_an_error() {
        let (mut board, mut device) = (TestBoard::new(), device());
        assert_eq!(dma(&mut board, &mut device, SELECT | WRITE, 4), ERROR);
        assert_eq!(dma(&mut board, &mut device, SELECT | READ, u32::MAX), ERROR);
    }

    #[test]
    fn dma_ports_say_who_they_are() {
        let (mut board, mut device) = (TestBoard::new(), device());
        let high = device.read(&mut board.cx(), At::new(1, 0), Width::B4).unwrap() as u32;
        assert_eq!(high.to_le_bytes(), *b"QEMU");
        assert_eq!(read(&mut device, 1, 4), [3, 0, 0, 0]);
    }

    #[test]
    fn file_set_again_keeps_its_number() {
        let mut device = device();
        device.set_file("etc/one", b"other".to_vec());
        assert_eq!(read(&mut device, 0x20, 6), b"other\0");
        let directory = read(&mut device, 0x19, 8);
        assert_eq!(directory, [0, 0, 0, 2, 0, 0, 0, 5]);
    }
}
