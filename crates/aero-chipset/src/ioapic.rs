//! The I/O APIC: 24 pins, each with a redirection entry that says which message to send to the local APICs.
//!
//! Edge: a rising pin sends one message, and a masked pin forgets the edge. Level: while the pin is asserted
//! and the entry's remote IRR is clear, a message is sent and remote IRR is set; the end of interrupt,
//! broadcast by the local APIC that took it, clears remote IRR, and a pin that is still asserted sends again.
//!
//! Pins carry *asserted*, not volts: lines of this machine are wire-OR and high means asserted, whatever
//! polarity the guest programs. The polarity bit is kept and has no effect, since every guest programs what
//! it believes the firmware's tables say, and they cannot all be right.
//!
//! Source: Intel 82093AA data sheet (290566-001), section 3. The end-of-interrupt register at 40h is of later
//! chips (ICH); it is accepted because writing it does no harm.

use aero_bus::{ApicMessage, At, Cx, Device, IoError, Mmio, Width};

mod spec {
    //! Registers by their names in the data sheet.

    /// Which register the window shows.
    pub const IOREGSEL: u64 = 0x00;
    /// The window.
    pub const IOWIN: u64 = 0x10;
    /// End of interrupt (later chips).
    pub const EOIR: u64 = 0x40;

    /// Identification, bits 27:24.
    pub const IOAPICID: u8 = 0x00;
    /// Version and number of entries.
    pub const IOAPICVER: u8 = 0x01;
    /// Arbitration identification.
    pub const IOAPICARB: u8 = 0x02;
    /// The first half of entry 0.
    pub const IOREDTBL: u8 = 0x10;

    /// Pins.
    pub const PINS: usize = 24;
    /// Version 11h; bits 23:16 hold the number of the last entry.
    pub const VERSION: u32 = (PINS as u32 - 1) << 16 | 0x11;

    /// Entry: delivery mode.
    pub const DELMOD: u64 = 7 << 8;
    /// Entry: the destination is logical.
    pub const DESTMOD: u64 = 1 << 11;
    /// Entry: a level-triggered interrupt was accepted and not yet ended.
    pub const REMOTE_IRR: u64 = 1 << 14;
    /// Entry: level-triggered.
    pub const LEVEL: u64 = 1 << 15;
    /// Entry: masked.
    pub const MASK: u64 = 1 << 16;
    /// Entry bits that the guest may write: all but delivery status (12), remote IRR (14) and the reserved
    /// ones.
    pub const WRITABLE: u64 = 0xff00_0000_0001_afff;

    /// Where messages to local APICs go.
    pub const MESSAGE_ADDRESS: u64 = 0xfee0_0000;
    /// Message address: logical destination.
    pub const MESSAGE_LOGICAL: u64 = 1 << 2;
    /// Message data: assert.
    pub const MESSAGE_ASSERT: u32 = 1 << 14;
    /// Message data: level-triggered.
    pub const MESSAGE_LEVEL: u32 = 1 << 15;
}

/// The I/O APIC.
pub struct IoApic {
    id: u8,
    select: u8,
    /// Levels of the pins.
    pins: u32,
    entries: [u64; spec::PINS],
}

impl Default for IoApic {
    fn default() -> Self {
        Self::new()
    }
}

impl IoApic {
    /// An I/O APIC in its power-on state: identification 0, every entry masked.
    pub fn new() -> Self {
        Self { id: 0, select: 0, pins: 0, entries: [spec::MASK; spec::PINS] }
    }

    /// Drives a pin; `level` true is asserted. Pins above 23 do not exist.
    pub fn set_pin(&mut self, cx: &mut Cx<'_>, pin: u8, level: bool) {
        let n = usize::from(pin);
        if n >= spec::PINS {
            return;
        }
        let rising = level && self.pins & (1 << n) == 0;
        self.pins = self.pins & !(1 << n) | u32::from(level) << n;
        if self.is_level(n) {
            self.service_level(cx, n);
        } else if rising && self.entries[n] & spec::MASK == 0 {
            self.send(cx, n);
        }
    }

    /// A local APIC has ended a level-triggered interrupt.
    pub fn end_of_interrupt(&mut self, cx: &mut Cx<'_>, vector: u8) {
        for n in 0..spec::PINS {
            let entry = self.entries[n];
            if entry & spec::REMOTE_IRR != 0 && entry as u8 == vector {
                self.entries[n] &= !spec::REMOTE_IRR;
                self.service_level(cx, n);
            }
        }
    }

    /// Whether the entry is level-triggered. Only fixed and lowest-priority ones can be: NMI, SMI, INIT and
    /// ExtINT are edges whatever the bit says (section 3.2.4, delivery mode).
    fn is_level(&self, n: usize) -> bool {
        let entry = self.entries[n];
        entry & spec::LEVEL != 0 && (entry & spec::DELMOD) >> 8 <= 1
    }

    fn service_level(&mut self, cx: &mut Cx<'_>, n: usize) {
        let asserted = self.pins & (1 << n) != 0;
        if self.is_level(n) && asserted && self.entries[n] & (spec::MASK | spec::REMOTE_IRR) == 0 {
            self.entries[n] |= spec::REMOTE_IRR;
            self.send(cx, n);
        }
    }

    fn send(&self, cx: &mut Cx<'_>, n: usize) {
        let entry = self.entries[n];
        let logical = if entry & spec::DESTMOD != 0 { spec::MESSAGE_LOGICAL } else { 0 };
        let trigger = if self.is_level(n) { spec::MESSAGE_LEVEL } else { 0 };
        // Vector and delivery mode have the same places in the entry and in the message.
        let data = entry as u32 & (spec::DELMOD as u32 | 0xff) | spec::MESSAGE_ASSERT | trigger;
        cx.message(ApicMessage { address: spec::MESSAGE_ADDRESS | (entry >> 56) << 12 | logical, data });
    }

    fn read_selected(&self) -> u32 {
        match self.select {
            spec::IOAPICID | spec::IOAPICARB => u32::from(self.id) << 24,
            spec::IOAPICVER => spec::VERSION,
            select => match entry_half(select) {
                Some((n, 0)) => self.entries[n] as u32,
                Some((n, _)) => (self.entries[n] >> 32) as u32,
                None => 0,
            },
        }
    }

    fn write_selected(&mut self, cx: &mut Cx<'_>, value: u32) {
        if self.select == spec::IOAPICID {
            self.id = (value >> 24) as u8 & 0xf;
        } else if let Some((n, half)) = entry_half(self.select) {
            self.write_entry(cx, n, half, value);
        }
    }

    fn write_entry(&mut self, cx: &mut Cx<'_>, n: usize, half: u32, value: u32) {
        let shift = 32 * half;
        let changed = spec::WRITABLE & (u64::from(u32::MAX) << shift);
        self.entries[n] = self.entries[n] & !changed | (u64::from(value) << shift) & changed;
        // Linux ends an interrupt on chips without EOIR by switching the entry to edge and back.
        if self.entries[n] & spec::LEVEL == 0 {
            self.entries[n] &= !spec::REMOTE_IRR;
        }
        self.service_level(cx, n);
    }
}

/// The entry that a register number belongs to, and which half of it.
fn entry_half(select: u8) -> Option<(usize, u32)> {
    let index = select.checked_sub(spec::IOREDTBL)?;
    let n = usize::from(index / 2);
    (n < spec::PINS).then_some((n, u32::from(index % 2)))
}

impl Device for IoApic {
    fn reset(&mut self, _cx: &mut Cx<'_>) {
        *self = Self::new();
    }

    fn mmio(&mut self) -> Option<&mut dyn Mmio> {
        Some(self)
    }
}

impl Mmio for IoApic {
    fn read(&mut self, _cx: &mut Cx<'_>, at: At, _width: Width) -> Result<u64, IoError> {
        match at.offset {
            spec::IOREGSEL => Ok(self.select.into()),
            spec::IOWIN => Ok(self.read_selected().into()),
            spec::EOIR => Ok(0),
            _ => Err(IoError::Unclaimed),
        }
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: At, _width: Width, value: u64) -> Result<(), IoError> {
        match at.offset {
            spec::IOREGSEL => self.select = value as u8,
            spec::IOWIN => self.write_selected(cx, value as u32),
            spec::EOIR => self.end_of_interrupt(cx, value as u8),
            _ => return Err(IoError::Unclaimed),
        }
        Ok(())
    }
}

mod saved {
    use super::{IoApic, spec};
    use aero_state::{RestoreError, Saved, Section};
    use serde::{Deserialize, Serialize};

    const KIND: &str = "ioapic";

    #[derive(Serialize, Deserialize)]
    struct IoApicStateV1 {
        id: u8,
        select: u8,
        pins: u32,
        entries: [u64; spec::PINS],
    }

    impl Saved for IoApic {
        fn save(&self) -> Section {
            let Self { id, select, pins, entries } = *self;
            Section::new(KIND, 1, &IoApicStateV1 { id, select, pins, entries })
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let IoApicStateV1 { id, select, pins, entries } = section.decode(KIND, 1)?;
            *self = Self { id, select, pins, entries };
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aero_bus::bench::{TestBoard, conformance};

    struct Bench {
        board: TestBoard,
        apic: IoApic,
    }

    impl Bench {
        fn new() -> Self {
            Self { board: TestBoard::new(), apic: IoApic::new() }
        }

        fn write(&mut self, select: u8, value: u32) {
            let cx = &mut self.board.cx();
            self.apic.write(cx, At::new(0, 0), Width::B4, select.into()).unwrap();
            self.apic.write(cx, At::new(0, 0x10), Width::B4, value.into()).unwrap();
        }

        fn read(&mut self, select: u8) -> u32 {
            let cx = &mut self.board.cx();
            self.apic.write(cx, At::new(0, 0), Width::B4, select.into()).unwrap();
            self.apic.read(cx, At::new(0, 0x10), Width::B4).unwrap() as u32
        }

        fn entry(&mut self, n: u8, value: u64) {
            self.write(0x11 + 2 * n, (value >> 32) as u32);
            self.write(0x10 + 2 * n, value as u32);
        }

        fn pin(&mut self, pin: u8, level: bool) {
            self.apic.set_pin(&mut self.board.cx(), pin, level);
        }

        fn sent(&mut self) -> Vec<(u64, u32)> {
            self.board.fabric.take_messages().iter().map(|m| (m.address, m.data)).collect()
        }
    }

    #[test]
    fn conforms() {
        conformance(&[0], |_| IoApic::new());
    }

    #[test]
    fn version_says_24_entries() {
        assert_eq!(Bench::new().read(1), 0x0017_0011);
    }

    #[test]
    fn identification_reads_back_in_its_place() {
        let mut b = Bench::new();
        b.write(0, 0xffff_ffff);
        assert_eq!((b.read(0), b.read(2)), (0x0f00_0000, 0x0f00_0000));
    }

    #[test]
    fn timer_edge_on_pin_2_sends_its_vector() {
        let mut b = Bench::new();
        b.entry(2, 0x0100_0000_0000_0830);
        b.pin(2, true);
        b.pin(2, true);
        b.pin(2, false);
        b.pin(2, true);
        assert_eq!(b.sent(), [(0xfee0_1004, 0x4030); 2]);
    }

    #[test]
    fn masked_edge_is_forgotten() {
        let mut b = Bench::new();
        b.entry(4, 0x1_0034);
        b.pin(4, true);
        b.entry(4, 0x34);
        assert_eq!(b.sent(), []);
        b.pin(4, false);
        b.pin(4, true);
        assert_eq!(b.sent().len(), 1);
    }

    // checklist: 50
    #[test]
    fn level_sends_once_until_its_end_and_again_if_still_asserted() {
        let mut b = Bench::new();
        b.entry(9, 0x8159);
        b.pin(9, true);
        b.pin(9, true);
        assert_eq!(b.sent(), [(0xfee0_0000, 0xc159)]);
        assert_eq!(b.read(0x10 + 18), 0xc159, "remote IRR reads back");
        b.apic.end_of_interrupt(&mut b.board.cx(), 0x58);
        assert_eq!(b.sent(), []);
        b.apic.end_of_interrupt(&mut b.board.cx(), 0x59);
        assert_eq!(b.sent().len(), 1);
        b.pin(9, false);
        b.apic.end_of_interrupt(&mut b.board.cx(), 0x59);
        assert_eq!(b.sent(), []);
        assert_eq!(b.read(0x10 + 18), 0x8159);
    }

    #[test]
    fn masked_level_is_sent_when_unmasked() {
        let mut b = Bench::new();
        b.entry(10, 0x1_8040);
        b.pin(10, true);
        assert_eq!(b.sent(), []);
        b.entry(10, 0x8040);
        assert_eq!(b.sent(), [(0xfee0_0000, 0xc040)]);
    }

    #[test]
    fn switch_to_edge_clears_remote_irr() {
        let mut b = Bench::new();
        b.entry(11, 0x8041);
        b.pin(11, true);
        b.entry(11, 0x1_0041);
        b.entry(11, 0x1_8041);
        assert_eq!(b.sent().len(), 1);
        b.entry(11, 0x8041);
        assert_eq!(b.sent().len(), 1);
    }

    #[test]
    fn guest_cannot_set_status_or_remote_irr() {
        let mut b = Bench::new();
        b.entry(3, u64::MAX);
        assert_eq!((b.read(0x16), b.read(0x17)), (0x0001_afff, 0xff00_0000));
    }

    #[test]
    fn extint_is_an_edge_with_its_delivery_mode() {
        let mut b = Bench::new();
        b.entry(0, 0x8700);
        b.pin(0, true);
        b.pin(0, false);
        b.pin(0, true);
        assert_eq!(b.sent(), [(0xfee0_0000, 0x4700); 2]);
    }

    #[test]
    fn missing_pins_and_registers_do_nothing() {
        let mut b = Bench::new();
        b.pin(24, true);
        b.pin(255, true);
        b.write(0x40, 0xffff_ffff);
        assert_eq!(b.read(0x40), 0);
        assert_eq!(b.sent(), []);
    }
}
