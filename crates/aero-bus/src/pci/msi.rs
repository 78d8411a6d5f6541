//! Message-signalled interrupts: the MSI capability as data in a function's configuration space, and MSI-X with its table
//! in a BAR. (PCI Local Bus Specification 3.0, section 6.8.)

use super::ConfigSpace;
use crate::{ApicMessage, Cx, Width};
use serde::{Deserialize, Serialize};

/// Capability ids.
mod spec {
    pub const MSI: u8 = 0x05;
    pub const MSIX: u8 = 0x11;
    /// Message control: enable.
    pub const MSI_ENABLE: u16 = 1;
    /// Message control: 64-bit addresses.
    pub const MSI_64: u16 = 1 << 7;
    pub const MSIX_ENABLE: u16 = 1 << 15;
    pub const MSIX_FUNCTION_MASK: u16 = 1 << 14;
    /// Vector control: masked.
    pub const MASKED: u32 = 1;
}

use spec::*;

/// A function's MSI capability, one message with a 64-bit address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Msi {
    at: u8,
}

impl Msi {
    /// Adds the capability to `config`.
    pub fn add(config: &mut ConfigSpace) -> Self {
        let mut body = [0; 12];
        body[..2].copy_from_slice(&MSI_64.to_le_bytes());
        let mask = [1, 0, 0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        Self { at: config.add_capability(MSI, &body, &mask) }
    }

    /// The message to send, while software has MSI enabled: the pin is not to be driven then.
    pub fn message(self, config: &ConfigSpace) -> Option<ApicMessage> {
        let control = config.word(self.at + 2);
        let address = u64::from(config.read(self.at + 4)) | u64::from(config.read(self.at + 8)) << 32;
        (control & MSI_ENABLE != 0).then(|| ApicMessage { address, data: config.word(self.at + 12).into() })
    }
}

/// A vector of an MSI-X table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MsixVector {
    address: u64,
    data: u32,
    control: u32,
    pending: bool,
}

/// MSI-X: a capability, a table of vectors and their pending bits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Msix {
    at: u8,
    vectors: Vec<MsixVector>,
}

/// Bytes of a table entry.
const ENTRY: u64 = 16;

impl Msix {
    /// Adds the capability for `count` vectors (1..=2048) to `config`: the table lies at `table` and the pending bits at `pba`,
    /// multiples of 8, in BAR `bar`.
    pub fn add(config: &mut ConfigSpace, count: u16, bar: u8, table: u32, pba: u32) -> Self {
        let mut body = Vec::from((count - 1).to_le_bytes());
        body.extend((table | u32::from(bar)).to_le_bytes());
        body.extend((pba | u32::from(bar)).to_le_bytes());
        let mask = [0, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0];
        let at = config.add_capability(MSIX, &body, &mask);
        let vector = MsixVector { address: 0, data: 0, control: MASKED, pending: false };
        Self { at, vectors: vec![vector; count.into()] }
    }

    /// Whether software has MSI-X enabled: the pin is not to be driven then.
    pub fn enabled(&self, config: &ConfigSpace) -> bool {
        config.word(self.at + 2) & MSIX_ENABLE != 0
    }

    /// Sends vector `n`, or keeps it pending while it is masked.
    pub fn notify(&mut self, config: &ConfigSpace, cx: &mut Cx<'_>, n: u16) {
        if let Some(vector) = self.vectors.get_mut(usize::from(n)) {
            vector.pending = true;
            self.send_pending(config, cx);
        }
    }

    /// Sends what is pending and no longer masked: to be called when software has written the capability or the table.
    pub fn send_pending(&mut self, config: &ConfigSpace, cx: &mut Cx<'_>) {
        let control = config.word(self.at + 2);
        if control & MSIX_ENABLE == 0 || control & MSIX_FUNCTION_MASK != 0 {
            return;
        }
        for vector in self.vectors.iter_mut().filter(|v| v.pending && v.control & MASKED == 0) {
            vector.pending = false;
            cx.message(ApicMessage { address: vector.address, data: vector.data });
        }
    }

    /// Reads the table at `offset` from its start.
    pub fn read_table(&self, offset: u64, width: Width) -> u64 {
        let Some(v) = self.vectors.get((offset / ENTRY) as usize) else { return 0 };
        let entry = u128::from(v.address) | u128::from(v.data) << 64 | u128::from(v.control) << 96;
        (entry >> (offset % ENTRY * 8)) as u64 & width.ones()
    }

    /// Writes the table at `offset` from its start: aligned dwords and qwords, as the specification demands.
    pub fn write_table(
        &mut self,
        config: &ConfigSpace,
        cx: &mut Cx<'_>,
        offset: u64,
        width: Width,
        value: u64,
    ) {
        if width == Width::B8 {
            self.write_table(config, cx, offset, Width::B4, value & 0xffff_ffff);
            self.write_table(config, cx, offset + 4, Width::B4, value >> 32);
            return;
        }
        let Some(v) = self.vectors.get_mut((offset / ENTRY) as usize).filter(|_| width == Width::B4) else {
            return;
        };
        match offset % ENTRY {
            0 => v.address = v.address & !0xffff_ffff | value & !3,
            4 => v.address = v.address & 0xffff_ffff | value << 32,
            8 => v.data = value as u32,
            12 => v.control = value as u32 & MASKED,
            _ => {}
        }
        self.send_pending(config, cx);
    }

    /// Reads the pending bits at `offset` from their start.
    pub fn read_pending(&self, offset: u64, width: Width) -> u64 {
        let first = offset.saturating_mul(8) as usize;
        let bits = self.vectors.iter().skip(first).take(width.bytes() as usize * 8);
        bits.enumerate().fold(0, |word, (n, v)| word | u64::from(v.pending) << n)
    }

    /// Every vector masked and none pending, as after a reset of the function.
    pub fn reset(&mut self) {
        self.vectors.fill(MsixVector { address: 0, data: 0, control: MASKED, pending: false });
    }

    /// The vectors, for saved state.
    pub fn vectors(&self) -> &[MsixVector] {
        &self.vectors
    }

    /// Takes over saved vectors; false if their number is another.
    pub fn restore(&mut self, vectors: &[MsixVector]) -> bool {
        let fits = vectors.len() == self.vectors.len();
        if fits {
            self.vectors.copy_from_slice(vectors);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::super::Identity;
    use super::*;
    use crate::bench::TestBoard;

    fn space() -> ConfigSpace {
        ConfigSpace::new(Identity {
            vendor: 0x8086,
            device: 0x2922,
            class: 0x01_0601,
            revision: 2,
            multifunction: false,
            interrupt_pin: 1,
        })
    }

    #[test]
    fn msi_is_sent_where_software_says_once_enabled() {
        let mut config = space();
        let msi = Msi::add(&mut config);
        assert_eq!((config.byte(0x34), config.byte(msi.at), config.byte(6) & 0x10), (msi.at, 5, 0x10));
        assert_eq!(msi.message(&config), None);
        config.write(msi.at + 4, 0xfee0_1000, 0xf);
        config.write(msi.at + 12, 0x41, 0xf);
        config.write(msi.at, 1 << 16, 0xf);
        assert_eq!(msi.message(&config), Some(ApicMessage { address: 0xfee0_1000, data: 0x41 }));
    }

    #[test]
    fn masked_vector_waits_until_it_is_unmasked() {
        let (mut board, mut config) = (TestBoard::new(), space());
        let mut msix = Msix::add(&mut config, 3, 0, 0x2000, 0x3000);
        config.write(msix.at, 0x8000_0000, 0xc);
        msix.write_table(&config, &mut board.cx(), 16, Width::B8, 0xfee0_0000);
        msix.write_table(&config, &mut board.cx(), 24, Width::B4, 0x55);
        msix.notify(&config, &mut board.cx(), 1);
        assert_eq!((board.fabric.take_messages().len(), msix.read_pending(0, Width::B4)), (0, 2));
        msix.write_table(&config, &mut board.cx(), 28, Width::B4, 0);
        assert_eq!(board.fabric.take_messages(), [ApicMessage { address: 0xfee0_0000, data: 0x55 }]);
        assert_eq!(msix.read_pending(0, Width::B4), 0);
        assert_eq!(msix.read_table(24, Width::B4), 0x55);
    }
}
