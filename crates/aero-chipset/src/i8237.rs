//! The two 8237 DMA controllers of the ISA bus, and the page registers that widen their 16-bit addresses.
//!
//! The first serves channels 0 to 3 with bytes, the second channels 5 to 7 with words; the second's channel 0
//! (channel 4) is where the first one asks for the bus. A channel has a mode, a current address and a current
//! count, which run, and base values to which *autoinitialise* returns them at terminal count; without it,
//! terminal count masks the channel. The count is one less than the transfers to do.
//!
//! Nothing moves by itself: the board lends the device on a channel to [`Dma::serve`] whenever it may be
//! ready, and everything that can move then does, at once. What the chip can do and a PC cannot (memory to
//! memory, rotating priority, compressed timing) is storage here.
//!
//! Sources: Intel 8237A data sheet (231466-005); 82371SB (PIIX3) data sheet, "DMA registers".

use crate::isa;
use aero_bus::isa_dma::{DmaPeer, DmaRequest};
use aero_bus::{At, Cx, Device, IoError, PortIo, Width};
use aero_mem::Gpa;

/// Registers by their names in the data sheet.
mod spec {
    /// Region 0: ports 00h to 0Fh.
    pub const FIRST: u8 = 0;
    /// Region 1: ports C0h to DFh, each register at two of them.
    pub const SECOND: u8 = 1;
    /// Region 2: ports 81h to 8Fh.
    pub const PAGES: u8 = 2;

    pub const STATUS_COMMAND: u64 = 0x8;
    pub const REQUEST: u64 = 0x9;
    pub const SINGLE_MASK: u64 = 0xa;
    pub const MODE: u64 = 0xb;
    pub const CLEAR_FLIP_FLOP: u64 = 0xc;
    pub const MASTER_CLEAR: u64 = 0xd;
    pub const CLEAR_MASK: u64 = 0xe;
    pub const ALL_MASK: u64 = 0xf;
    pub const REGISTERS: u64 = 0x10;

    /// Command: controller disable.
    pub const DISABLE: u8 = 1 << 2;
    /// Request and single mask: set (else reset).
    pub const SET: u8 = 1 << 2;
    /// Mode: transfer type, autoinitialise, address decrement.
    pub const TYPE: u8 = 0b1100;
    pub const VERIFY: u8 = 0b0000;
    pub const TO_MEMORY: u8 = 0b0100;
    pub const FROM_MEMORY: u8 = 0b1000;
    pub const AUTOINITIALISE: u8 = 1 << 4;
    pub const DECREMENT: u8 = 1 << 5;

    /// The page register of channels 0 to 7, as offsets from port 81h; channel 4 has none, its place is the
    /// refresh page's.
    pub const PAGE_OF: [usize; 8] = [6, 2, 0, 1, 14, 10, 8, 9];
    pub const PAGE_PORTS: usize = 15;
    /// Registers that cannot be read.
    pub const NOT_READABLE: u8 = 0xff;
}

use spec::*;

#[derive(Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
struct Channel {
    mode: u8,
    base_address: u16,
    base_count: u16,
    address: u16,
    count: u16,
}

impl Channel {
    /// Lets `transfers` happen; whether that was the last.
    fn advance(&mut self, transfers: u32) -> bool {
        let step = transfers as u16;
        let down = self.mode & DECREMENT != 0;
        self.address = if down { self.address.wrapping_sub(step) } else { self.address.wrapping_add(step) };
        let last = transfers > self.count.into();
        self.count = self.count.wrapping_sub(step);
        if last && self.mode & AUTOINITIALISE != 0 {
            (self.address, self.count) = (self.base_address, self.base_count);
        }
        last
    }
}

/// One 8237.
#[derive(Clone, Copy, serde::Serialize, serde::Deserialize)]
struct Chip {
    channels: [Channel; 4],
    command: u8,
    /// Terminal counts reached since the status was read.
    reached: u8,
    /// Requests by software.
    request: u8,
    mask: u8,
    /// The next byte of an address or count is the high one.
    high: bool,
}

impl Chip {
    fn new() -> Self {
        Self { channels: [Channel::default(); 4], command: 0, reached: 0, request: 0, mask: 0xf, high: false }
    }

    fn read(&mut self, register: u64) -> u8 {
        match register {
            0..=7 => {
                let channel = &self.channels[(register / 2) as usize];
                let value = if register & 1 == 0 { channel.address } else { channel.count };
                value.to_le_bytes()[self.flip()]
            }
            STATUS_COMMAND => self.request << 4 | core::mem::take(&mut self.reached),
            // The temporary register of memory-to-memory transfers.
            MASTER_CLEAR => 0,
            ALL_MASK => self.mask,
            _ => NOT_READABLE,
        }
    }

    fn write(&mut self, register: u64, value: u8) {
        let bit = 1 << (value & 3);
        match register {
            0..=7 => self.write_word(register, value),
            STATUS_COMMAND => self.command = value,
            REQUEST if value & SET != 0 => self.request |= bit,
            REQUEST => self.request &= !bit,
            SINGLE_MASK if value & SET != 0 => self.mask |= bit,
            SINGLE_MASK => self.mask &= !bit,
            MODE => self.channels[usize::from(value & 3)].mode = value & !3,
            CLEAR_FLIP_FLOP => self.high = false,
            MASTER_CLEAR => *self = Self { channels: self.channels, ..Self::new() },
            CLEAR_MASK => self.mask = 0,
            _ => self.mask = value & 0xf,
        }
    }

    /// Base and current value are written together.
    fn write_word(&mut self, register: u64, value: u8) {
        let byte = self.flip();
        let channel = &mut self.channels[(register / 2) as usize];
        let (base, current) = match register & 1 {
            0 => (&mut channel.base_address, &mut channel.address),
            _ => (&mut channel.base_count, &mut channel.count),
        };
        let mut bytes = base.to_le_bytes();
        bytes[byte] = value;
        *base = u16::from_le_bytes(bytes);
        *current = *base;
    }

    /// Which byte is next.
    fn flip(&mut self) -> usize {
        self.high = !self.high;
        usize::from(!self.high)
    }

    /// The channel, if it may move bytes now.
    fn ready(&self, channel: usize) -> Option<&Channel> {
        let held = self.command & DISABLE != 0 || self.mask >> channel & 1 != 0;
        (!held).then_some(&self.channels[channel])
    }
}

/// Both controllers and the page registers. Region 0: ports 00h–0Fh; region 1: C0h–DFh; region 2: 81h–8Fh.
pub struct Dma {
    chips: [Chip; 2],
    pages: [u8; PAGE_PORTS],
}

impl Default for Dma {
    fn default() -> Self {
        Self::new()
    }
}

impl Dma {
    /// Both controllers, all channels masked.
    pub fn new() -> Self {
        Self { chips: [Chip::new(); 2], pages: [0; PAGE_PORTS] }
    }

    /// Moves all that the device on `channel` (0 to 7) asks for and the channel's programming allows. `cx` is
    /// the device's.
    pub fn serve(&mut self, cx: &mut Cx<'_>, channel: u8, peer: &mut dyn DmaPeer) {
        let (chip, n) = (usize::from(channel >> 2 & 1), usize::from(channel & 3));
        while let Some((request, channel)) = peer.dma_request().zip(self.chips[chip].ready(n)) {
            let bytes_each = 1 << chip;
            let (DmaRequest::ToMemory(wanted) | DmaRequest::FromMemory(wanted)) = request;
            let transfers = (wanted as u64 / bytes_each).min(u64::from(channel.count) + 1) as u32;
            if transfers == 0 || !self.carry(cx, (chip, n), request, transfers, peer) {
                return;
            }
            if self.chips[chip].channels[n].advance(transfers) {
                self.end(chip, n);
            }
        }
    }

    /// Carries so many bytes or words; `false` if the channel is programmed the other way.
    fn carry(
        &self,
        cx: &mut Cx<'_>,
        at: (usize, usize),
        request: DmaRequest,
        transfers: u32,
        peer: &mut dyn DmaPeer,
    ) -> bool {
        let Channel { mode, count, .. } = self.chips[at.0].channels[at.1];
        let (mode, last) = (mode & TYPE, transfers > count.into());
        let bytes_each = 1 << at.0;
        let len = transfers as usize * bytes_each;
        match request {
            DmaRequest::ToMemory(_) if mode == TO_MEMORY || mode == VERIFY => {
                let bytes = peer.dma_take(cx, len, last);
                if mode == TO_MEMORY {
                    let places = self.places(at).zip(bytes.chunks(bytes_each));
                    // What lies outside RAM goes to nobody.
                    places.for_each(|(gpa, bytes)| _ = cx.dma_write(gpa, bytes));
                }
            }
            DmaRequest::FromMemory(_) if mode == FROM_MEMORY => {
                let mut bytes = vec![0xff; len];
                let places = self.places(at).zip(bytes.chunks_mut(bytes_each));
                places.for_each(|(gpa, bytes)| _ = cx.dma_read(gpa, bytes));
                peer.dma_give(cx, &bytes, last);
            }
            _ => return false,
        }
        true
    }

    /// The addresses of the transfers from the current one on. They wrap within 64 KiB (128 KiB of words).
    fn places(&self, (chip, n): (usize, usize)) -> impl Iterator<Item = Gpa> {
        let Channel { mode, address, .. } = self.chips[chip].channels[n];
        let page = self.pages[PAGE_OF[4 * chip + n]];
        (0u16..=u16::MAX).map(move |i| {
            let address =
                if mode & DECREMENT != 0 { address.wrapping_sub(i) } else { address.wrapping_add(i) };
            match chip {
                0 => Gpa(u64::from(page) << 16 | u64::from(address)),
                _ => Gpa(u64::from(page & !1) << 16 | u64::from(address) << 1),
            }
        })
    }

    /// Terminal count.
    fn end(&mut self, chip: usize, n: usize) {
        let chip = &mut self.chips[chip];
        chip.reached |= 1 << n;
        chip.request &= !(1 << n);
        if chip.channels[n].mode & AUTOINITIALISE == 0 {
            chip.mask |= 1 << n;
        }
    }

    fn read_byte(&mut self, at: At) -> Result<u8, IoError> {
        match (at.region, at.offset) {
            (FIRST, register) if register < REGISTERS => Ok(self.chips[0].read(register)),
            (SECOND, offset) if offset < 2 * REGISTERS => Ok(self.chips[1].read(offset / 2)),
            (PAGES, offset) => self.pages.get(offset as usize).copied().ok_or(IoError::Unclaimed),
            _ => Err(IoError::Unclaimed),
        }
    }

    fn write_byte(&mut self, at: At, value: u8) -> Result<(), IoError> {
        match (at.region, at.offset) {
            (FIRST, register) if register < REGISTERS => self.chips[0].write(register, value),
            (SECOND, offset) if offset < 2 * REGISTERS => self.chips[1].write(offset / 2, value),
            (PAGES, offset) => *self.pages.get_mut(offset as usize).ok_or(IoError::Unclaimed)? = value,
            _ => return Err(IoError::Unclaimed),
        }
        Ok(())
    }
}

impl Device for Dma {
    fn reset(&mut self, _cx: &mut Cx<'_>) {
        *self = Self::new();
    }

    fn pio(&mut self) -> Option<&mut dyn PortIo> {
        Some(self)
    }
}

impl PortIo for Dma {
    fn read(&mut self, _cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        isa::read_bytes(at, width, |at| self.read_byte(at))
    }

    fn write(&mut self, _cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError> {
        isa::write_bytes(at, width, value, |at, byte| self.write_byte(at, byte))
    }
}

mod saved {
    use super::{Chip, Dma, PAGE_PORTS};
    use aero_state::{RestoreError, Saved, Section};
    use serde::{Deserialize, Serialize};

    const KIND: &str = "i8237";

    #[derive(Serialize, Deserialize)]
    struct DmaStateV1 {
        chips: [Chip; 2],
        pages: [u8; PAGE_PORTS],
    }

    impl Saved for Dma {
        fn save(&self) -> Section {
            let Self { chips, pages } = *self;
            Section::new(KIND, 1, &DmaStateV1 { chips, pages })
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let DmaStateV1 { chips, pages } = section.decode(KIND, 1)?;
            *self = Self { chips, pages };
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aero_bus::bench::{TestBoard, conformance};

    /// A device with bytes to give, or room for bytes.
    #[derive(Default)]
    struct Peer {
        has: Vec<u8>,
        room: usize,
        got: Vec<u8>,
        ended: u32,
    }

    impl DmaPeer for Peer {
        fn dma_request(&self) -> Option<DmaRequest> {
            match (self.has.len(), self.room - self.got.len()) {
                (0, 0) => None,
                (0, room) => Some(DmaRequest::FromMemory(room)),
                (len, _) => Some(DmaRequest::ToMemory(len)),
            }
        }

        fn dma_take(&mut self, _cx: &mut Cx<'_>, len: usize, last: bool) -> Vec<u8> {
            self.ended += u32::from(last);
            self.has.drain(..len).collect()
        }

        fn dma_give(&mut self, _cx: &mut Cx<'_>, bytes: &[u8], last: bool) {
            self.ended += u32::from(last);
            self.got.extend(bytes);
        }
    }

    struct Bench {
        board: TestBoard,
        dma: Dma,
        peer: Peer,
    }

    impl Bench {
        fn new() -> Self {
            Self { board: TestBoard::new(), dma: Dma::new(), peer: Peer::default() }
        }

        fn out(&mut self, region: u8, offset: u64, value: u8) {
            self.board.outb(&mut self.dma, region, offset, value);
        }

        fn inb(&mut self, region: u8, offset: u64) -> u8 {
            self.board.inb(&mut self.dma, region, offset)
        }

        /// Programs channel 2 and unmasks it.
        fn channel_2(&mut self, mode: u8, page: u8, address: u16, count: u16) {
            self.out(0, CLEAR_FLIP_FLOP, 0);
            self.out(0, MODE, mode | 2);
            address.to_le_bytes().iter().for_each(|b| self.out(0, 4, *b));
            count.to_le_bytes().iter().for_each(|b| self.out(0, 5, *b));
            self.out(2, 0, page);
            self.out(0, SINGLE_MASK, 2);
        }

        fn serve(&mut self, channel: u8) {
            self.dma.serve(&mut self.board.cx(), channel, &mut self.peer);
        }

        fn memory<const N: usize>(&self, at: u64) -> [u8; N] {
            self.board.memory.read_array(Gpa(at)).expect("RAM")
        }
    }

    #[test]
    fn dma_passes_the_conformance_suite() {
        conformance(&[0, 1, 2], |_| Dma::new());
    }

    #[test]
    fn bytes_go_to_memory_until_the_count_ends_and_masks_the_channel() {
        let mut b = Bench::new();
        b.channel_2(TO_MEMORY, 0x01, 0x2345, 3);
        b.peer.has = (1..=6).collect();
        b.serve(2);
        assert_eq!((b.memory(0x1_2345), b.peer.ended), ([1, 2, 3, 4, 0], 1));
        assert_eq!((b.peer.has.len(), b.inb(0, STATUS_COMMAND), b.inb(0, STATUS_COMMAND)), (2, 4, 0));
        assert_eq!(b.inb(0, ALL_MASK), 0xf);
        assert_eq!([4, 4, 5, 5].map(|r| b.inb(0, r)), [0x49, 0x23, 0xff, 0xff]);
    }

    #[test]
    fn short_device_leaves_the_count_running() {
        let mut b = Bench::new();
        b.channel_2(TO_MEMORY, 0, 0x1000, 511);
        b.peer.has = vec![7; 12];
        b.serve(2);
        assert_eq!((b.peer.ended, b.inb(0, STATUS_COMMAND)), (0, 0));
        assert_eq!([5, 5].map(|r| b.inb(0, r)), [0xf3, 0x01]);
    }

    #[test]
    fn autoinitialise_begins_again_and_goes_on() {
        let mut b = Bench::new();
        b.channel_2(TO_MEMORY | AUTOINITIALISE, 0, 0x1000, 3);
        b.peer.has = (1..=6).collect();
        b.serve(2);
        assert_eq!((b.memory(0x1000), b.peer.ended), ([5, 6, 3, 4], 1));
        assert_eq!(b.inb(0, ALL_MASK), 0xb);
    }

    #[test]
    fn memory_is_read_downwards_and_wraps_in_its_page() {
        let mut b = Bench::new();
        for (at, byte) in [(0x1_0001, 1), (0x1_0000, 2), (0x1_ffff, 3), (0x1_fffe, 4)] {
            b.board.memory.write(Gpa(at), &[byte]).expect("RAM");
        }
        b.channel_2(FROM_MEMORY | DECREMENT, 1, 1, 3);
        b.peer.room = 8;
        b.serve(2);
        assert_eq!((&b.peer.got[..], b.peer.ended), (&[1, 2, 3, 4][..], 1));
    }

    #[test]
    fn verify_counts_and_writes_nothing() {
        let mut b = Bench::new();
        b.channel_2(VERIFY, 0, 0x1000, 1);
        b.peer.has = vec![9; 2];
        b.serve(2);
        assert_eq!((b.memory(0x1000), b.peer.ended), ([0, 0], 1));
    }

    #[test]
    fn masked_disabled_or_turned_channel_moves_nothing() {
        let mut b = Bench::new();
        b.channel_2(TO_MEMORY, 0, 0x1000, 3);
        b.peer.has = vec![1; 4];
        b.out(0, SINGLE_MASK, SET | 2);
        b.serve(2);
        b.out(0, CLEAR_MASK, 0);
        b.out(0, STATUS_COMMAND, DISABLE);
        b.serve(2);
        b.out(0, STATUS_COMMAND, 0);
        b.out(0, MODE, FROM_MEMORY | 2);
        b.serve(2);
        assert_eq!((b.peer.has.len(), b.peer.ended), (4, 0));
        b.out(0, MODE, TO_MEMORY | 2);
        b.serve(2);
        assert_eq!((b.peer.has.len(), b.peer.ended), (0, 1));
    }

    #[test]
    fn second_controller_moves_words() {
        let mut b = Bench::new();
        b.out(1, 2 * MODE, TO_MEMORY | 1);
        [0x00, 0x40].iter().for_each(|v| b.out(1, 2 * 2, *v));
        [1, 0].iter().for_each(|v| b.out(1, 2 * 3, *v));
        b.out(2, 0x8b - 0x81, 0x03);
        b.out(1, 2 * SINGLE_MASK, 1);
        b.peer.has = vec![1, 2, 3, 4];
        b.serve(5);
        assert_eq!((b.memory(0x2_8000), b.peer.ended, b.inb(1, 2 * STATUS_COMMAND)), ([1, 2, 3, 4], 1, 2));
    }

    #[test]
    fn page_registers_are_where_the_at_has_them() {
        let mut b = Bench::new();
        for (channel, port) in [(0, 0x87), (1, 0x83), (2, 0x81), (3, 0x82), (5, 0x8b), (6, 0x89), (7, 0x8a)] {
            b.out(2, port - 0x81, 0x50 + channel);
            assert_eq!(b.dma.pages[PAGE_OF[usize::from(channel)]], 0x50 + channel);
        }
        assert_eq!(b.inb(2, 0x84 - 0x81), 0, "the unused ones are storage");
    }

    #[test]
    fn master_clear_masks_and_forgets_the_byte_order() {
        let mut b = Bench::new();
        b.out(0, 0, 0x11);
        b.out(0, CLEAR_MASK, 0);
        b.out(0, MASTER_CLEAR, 0);
        b.out(0, 0, 0x22);
        assert_eq!((b.dma.chips[0].channels[0].address, b.inb(0, ALL_MASK)), (0x22, 0xf));
    }
}
