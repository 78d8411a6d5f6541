//! The 8259A interrupt controllers: two chips of eight inputs, the slave's output on the master's input 2.
//!
//! A chip has three registers of eight bits. A request sits in IRR until the processor fetches its vector
//! (the INTA cycle), then its bit stands in ISR until the guest says end of interrupt. While a bit stands in
//! ISR, only inputs of higher priority may ask again. IMR hides requests without forgetting them.
//!
//! An input is edge-triggered unless the ELCR register says level. An edge is latched and stays even if the
//! line falls before the INTA cycle. (The chip would forget it and answer with its spurious vector; here a
//! device may raise and lower a line within one call, and a pulse must not be lost.) The request of a
//! level-triggered input is the line itself.
//!
//! The cascade input is the slave's output itself, neither latched nor an edge: whatever the slave asks is
//! seen by the master as long as the slave asks it.
//!
//! Sources: Intel 8259A data sheet (231468-003); 82371SB (PIIX3) data sheet, sections "Interrupt controller
//! registers" and 2.5.6 (ELCR). The PIIX3 ignores ICW1.LTIM: ELCR takes its place.

use crate::isa;
use aero_bus::{At, Cx, Device, IoError, IrqLine, PortIo, Width};

mod spec {
    //! Registers by their names in the data sheet.

    /// Region 0: ports 20h and 21h.
    pub const MASTER: u8 = 0;
    /// Region 1: ports A0h and A1h.
    pub const SLAVE: u8 = 1;
    /// Region 2: ports 4D0h and 4D1h.
    pub const ELCR: u8 = 2;

    /// Port 0 with this bit is ICW1.
    pub const ICW1: u8 = 1 << 4;
    /// ICW1: ICW4 will follow.
    pub const ICW1_IC4: u8 = 1 << 0;
    /// ICW1: no slave, so no ICW3.
    pub const ICW1_SNGL: u8 = 1 << 1;
    /// ICW4: automatic end of interrupt.
    pub const ICW4_AEOI: u8 = 1 << 1;
    /// ICW4: special fully nested mode.
    pub const ICW4_SFNM: u8 = 1 << 4;

    /// Port 0 with this bit (and not ICW1) is OCW3, else OCW2.
    pub const OCW3: u8 = 1 << 3;
    /// OCW3: bits 0 and 1 choose what a read gives.
    pub const OCW3_RR: u8 = 1 << 1;
    /// OCW3: ISR (else IRR).
    pub const OCW3_RIS: u8 = 1 << 0;
    /// OCW3: the next read is an INTA cycle.
    pub const OCW3_POLL: u8 = 1 << 2;
    /// OCW3: special mask mode.
    pub const OCW3_SMM: u8 = 1 << 5;
    /// OCW3: the SMM bit counts.
    pub const OCW3_ESMM: u8 = 1 << 6;

    /// The input that carries the slave.
    pub const CASCADE: u8 = 2;
    /// What a chip answers when nobody asks.
    pub const SPURIOUS: u8 = 7;
    /// Inputs that may be level-triggered (PIIX3: IRQ 0, 1, 2, 8 and 13 are always edges).
    pub const ELCR_WRITABLE: [u8; 2] = [0xf8, 0xde];
}

/// What the next write to port 1 is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
enum Expect {
    Ocw1,
    Icw2,
    Icw3,
    Icw4,
}

/// One 8259A.
#[derive(Clone, Copy)]
struct Chip {
    /// Levels of the inputs.
    lines: u8,
    /// Edges seen and not yet acknowledged.
    edges: u8,
    /// Inputs whose request is the line's level.
    level: u8,
    /// Inputs masked by IMR.
    imr: u8,
    /// Interrupts in service.
    isr: u8,
    /// The input of lowest priority; the next one, cyclically, has the highest.
    lowest: u8,
    /// ICW2: vector of input 0.
    base: u8,
    expect: Expect,
    icw4_follows: bool,
    single: bool,
    auto_eoi: bool,
    rotate_on_auto_eoi: bool,
    fully_nested_special: bool,
    special_mask: bool,
    read_isr: bool,
    poll: bool,
}

impl Chip {
    /// Power-on. The data sheet leaves it undefined; masked is the harmless choice.
    fn new() -> Self {
        Self {
            lines: 0,
            edges: 0,
            level: 0,
            imr: 0xff,
            isr: 0,
            lowest: 7,
            base: 0,
            expect: Expect::Ocw1,
            icw4_follows: false,
            single: false,
            auto_eoi: false,
            rotate_on_auto_eoi: false,
            fully_nested_special: false,
            special_mask: false,
            read_isr: false,
            poll: false,
        }
    }

    fn set_input(&mut self, input: u8, high: bool) {
        let bit = 1 << input;
        if high {
            self.edges |= bit & !self.lines;
            self.lines |= bit;
        } else {
            self.lines &= !bit;
        }
    }

    /// IRR: who asks.
    fn requests(&self) -> u8 {
        (self.edges & !self.level) | (self.lines & self.level)
    }

    /// The input of `set` with the highest priority, with its rank (0 is first).
    fn first_of(&self, set: u8) -> Option<(u8, u32)> {
        if set == 0 {
            return None;
        }
        let rank = set.rotate_right(u32::from(self.lowest) + 1).trailing_zeros();
        Some(((self.lowest + 1 + rank as u8) & 7, rank))
    }

    /// The request that the chip presents: one that is unmasked and outranks all in service.
    fn request(&self) -> Option<u8> {
        let (input, rank) = self.first_of(self.requests() & !self.imr)?;
        let mut blocking = self.isr;
        if self.special_mask {
            blocking &= !self.imr;
        }
        // Only the master is ever programmed for it: a slave in service does not silence its own better
        // requests.
        if self.fully_nested_special {
            blocking &= !(1 << spec::CASCADE);
        }
        match self.first_of(blocking) {
            Some((_, served)) if served <= rank => None,
            _ => Some(input),
        }
    }

    /// The INTA cycle.
    fn acknowledge(&mut self) -> Option<u8> {
        let input = self.request()?;
        self.edges &= !(1 << input);
        if !self.auto_eoi {
            self.isr |= 1 << input;
        } else if self.rotate_on_auto_eoi {
            self.lowest = input;
        }
        Some(input)
    }

    /// Writes the port with A0 = 0.
    fn command(&mut self, value: u8) {
        if value & spec::ICW1 != 0 {
            self.initialise(value);
        } else if value & spec::OCW3 != 0 {
            self.ocw3(value);
        } else {
            self.ocw2(value);
        }
    }

    fn initialise(&mut self, icw1: u8) {
        let Self { lines, level, base, .. } = *self;
        *self = Self {
            lines,
            level,
            base,
            imr: 0,
            expect: Expect::Icw2,
            icw4_follows: icw1 & spec::ICW1_IC4 != 0,
            single: icw1 & spec::ICW1_SNGL != 0,
            ..Self::new()
        };
    }

    fn ocw2(&mut self, value: u8) {
        let named = value & 7;
        match value >> 5 {
            0 => self.rotate_on_auto_eoi = false,
            4 => self.rotate_on_auto_eoi = true,
            1 => drop(self.end_of_interrupt()),
            5 => {
                if let Some(ended) = self.end_of_interrupt() {
                    self.lowest = ended;
                }
            }
            3 => self.isr &= !(1 << named),
            7 => {
                self.isr &= !(1 << named);
                self.lowest = named;
            }
            6 => self.lowest = named,
            _ => {}
        }
    }

    /// The non-specific end of interrupt. In special mask mode it passes over inputs that are masked.
    fn end_of_interrupt(&mut self) -> Option<u8> {
        let set = if self.special_mask { self.isr & !self.imr } else { self.isr };
        let (input, _) = self.first_of(set)?;
        self.isr &= !(1 << input);
        Some(input)
    }

    fn ocw3(&mut self, value: u8) {
        if value & spec::OCW3_ESMM != 0 {
            self.special_mask = value & spec::OCW3_SMM != 0;
        }
        self.poll = value & spec::OCW3_POLL != 0;
        if value & spec::OCW3_RR != 0 {
            self.read_isr = value & spec::OCW3_RIS != 0;
        }
    }

    /// Writes the port with A0 = 1.
    fn data(&mut self, value: u8) {
        let after_icw3 = if self.icw4_follows { Expect::Icw4 } else { Expect::Ocw1 };
        self.expect = match self.expect {
            Expect::Ocw1 => {
                self.imr = value;
                Expect::Ocw1
            }
            Expect::Icw2 => {
                self.base = value & 0xf8;
                if self.single { after_icw3 } else { Expect::Icw3 }
            }
            // The wiring is known; what the guest says of it changes nothing.
            Expect::Icw3 => after_icw3,
            Expect::Icw4 => {
                self.auto_eoi = value & spec::ICW4_AEOI != 0;
                self.fully_nested_special = value & spec::ICW4_SFNM != 0;
                Expect::Ocw1
            }
        };
    }

    /// Reads either port.
    fn read(&mut self, a0: bool) -> u8 {
        if core::mem::take(&mut self.poll) {
            return self.acknowledge().map_or(0, |input| 0x80 | input);
        }
        match (a0, self.read_isr) {
            (true, _) => self.imr,
            (false, true) => self.isr,
            (false, false) => self.requests(),
        }
    }
}

/// Both controllers.
pub struct Pic {
    master: Chip,
    slave: Chip,
    intr: IrqLine,
}

impl Pic {
    /// A pair whose master drives `intr`, the processor's INTR pin (and LINT0 of the local APICs).
    pub fn new(intr: IrqLine) -> Self {
        let mut pic = Self { master: Chip::new(), slave: Chip::new(), intr };
        pic.set_level_inputs([0, 0]);
        pic
    }

    /// Drives one of the 16 inputs. Input 2 is the cascade and cannot be driven; numbers above 15 do not
    /// exist.
    pub fn set_input(&mut self, cx: &mut Cx<'_>, irq: u8, level: bool) {
        match irq {
            spec::CASCADE | 16.. => return,
            0..=7 => self.master.set_input(irq, level),
            8..=15 => self.slave.set_input(irq - 8, level),
        }
        self.update(cx);
    }

    /// The processor's INTA cycle: the vector of the request that INTR announced. With none left it is the
    /// spurious vector, the base plus 7, and nothing is put in service.
    pub fn acknowledge(&mut self, cx: &mut Cx<'_>) -> u8 {
        let vector = match self.master.acknowledge() {
            Some(spec::CASCADE) if !self.master.single => {
                self.slave.base | self.slave.acknowledge().unwrap_or(spec::SPURIOUS)
            }
            Some(input) => self.master.base | input,
            None => self.master.base | spec::SPURIOUS,
        };
        self.update(cx);
        vector
    }

    /// Brings the cascade and INTR up to date.
    fn update(&mut self, cx: &mut Cx<'_>) {
        self.cascade();
        cx.set_irq(self.intr, self.master.request().is_some());
    }

    fn cascade(&mut self) {
        let asks = self.slave.request().is_some();
        self.master.set_input(spec::CASCADE, asks);
    }

    fn set_level_inputs(&mut self, elcr: [u8; 2]) {
        self.master.level = elcr[0] & spec::ELCR_WRITABLE[0] | 1 << spec::CASCADE;
        self.slave.level = elcr[1] & spec::ELCR_WRITABLE[1];
    }

    fn elcr(&self) -> [u8; 2] {
        [self.master.level & spec::ELCR_WRITABLE[0], self.slave.level]
    }

    fn read_byte(&mut self, at: At) -> Result<u8, IoError> {
        match (at.region, at.offset) {
            (spec::MASTER, a0 @ 0..=1) => Ok(self.master.read(a0 == 1)),
            (spec::SLAVE, a0 @ 0..=1) => Ok(self.slave.read(a0 == 1)),
            (spec::ELCR, which @ 0..=1) => Ok(self.elcr()[which as usize]),
            _ => Err(IoError::Unclaimed),
        }
    }

    fn write_byte(&mut self, at: At, value: u8) -> Result<(), IoError> {
        match (at.region, at.offset) {
            (spec::MASTER, 0) => self.master.command(value),
            (spec::MASTER, 1) => self.master.data(value),
            (spec::SLAVE, 0) => self.slave.command(value),
            (spec::SLAVE, 1) => self.slave.data(value),
            (spec::ELCR, which @ 0..=1) => {
                let mut elcr = self.elcr();
                elcr[which as usize] = value;
                self.set_level_inputs(elcr);
            }
            _ => return Err(IoError::Unclaimed),
        }
        Ok(())
    }
}

impl Device for Pic {
    fn reset(&mut self, cx: &mut Cx<'_>) {
        *self = Self::new(self.intr);
        self.update(cx);
    }

    fn pio(&mut self) -> Option<&mut dyn PortIo> {
        Some(self)
    }
}

impl PortIo for Pic {
    fn read(&mut self, cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        let value = isa::read_bytes(at, width, |at| self.read_byte(at));
        // A poll is an INTA cycle.
        self.update(cx);
        value
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError> {
        let done = isa::write_bytes(at, width, value, |at, byte| self.write_byte(at, byte));
        self.update(cx);
        done
    }
}

mod saved {
    use super::{Chip, Expect, Pic};
    use aero_state::{RestoreError, Saved, Section};
    use serde::{Deserialize, Serialize};

    const KIND: &str = "i8259";

    #[derive(Serialize, Deserialize)]
    struct ChipStateV1 {
        lines: u8,
        edges: u8,
        level: u8,
        imr: u8,
        isr: u8,
        lowest: u8,
        base: u8,
        expect: Expect,
        icw4_follows: bool,
        single: bool,
        auto_eoi: bool,
        rotate_on_auto_eoi: bool,
        fully_nested_special: bool,
        special_mask: bool,
        read_isr: bool,
        poll: bool,
    }

    #[derive(Serialize, Deserialize)]
    struct PicStateV1 {
        master: ChipStateV1,
        slave: ChipStateV1,
    }

    impl From<&Chip> for ChipStateV1 {
        fn from(chip: &Chip) -> Self {
            let Chip {
                lines,
                edges,
                level,
                imr,
                isr,
                lowest,
                base,
                expect,
                icw4_follows,
                single,
                auto_eoi,
                rotate_on_auto_eoi,
                fully_nested_special,
                special_mask,
                read_isr,
                poll,
            } = *chip;
            Self {
                lines,
                edges,
                level,
                imr,
                isr,
                lowest,
                base,
                expect,
                icw4_follows,
                single,
                auto_eoi,
                rotate_on_auto_eoi,
                fully_nested_special,
                special_mask,
                read_isr,
                poll,
            }
        }
    }

    impl From<ChipStateV1> for Chip {
        fn from(s: ChipStateV1) -> Self {
            Self {
                lines: s.lines,
                edges: s.edges,
                level: s.level,
                imr: s.imr,
                isr: s.isr,
                lowest: s.lowest & 7,
                base: s.base,
                expect: s.expect,
                icw4_follows: s.icw4_follows,
                single: s.single,
                auto_eoi: s.auto_eoi,
                rotate_on_auto_eoi: s.rotate_on_auto_eoi,
                fully_nested_special: s.fully_nested_special,
                special_mask: s.special_mask,
                read_isr: s.read_isr,
                poll: s.poll,
            }
        }
    }

    impl Saved for Pic {
        fn save(&self) -> Section {
            let Self { master, slave, intr: _ } = self;
            Section::new(KIND, 1, &PicStateV1 { master: master.into(), slave: slave.into() })
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let PicStateV1 { master, slave } = section.decode(KIND, 1)?;
            self.master = master.into();
            self.slave = slave.into();
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
        pic: Pic,
        intr: IrqLine,
    }

    impl Bench {
        /// Initialised as Linux does: vectors 30h and 38h, nothing masked.
        fn new() -> Self {
            Self::with_icw4(1, 1)
        }

        fn with_icw4(master: u8, slave: u8) -> Self {
            let mut board = TestBoard::new();
            let intr = board.line();
            let mut pic = Pic::new(intr);
            for (region, base, icw3, icw4) in [(0, 0x30, 4, master), (1, 0x38, 2, slave)] {
                board.outb(&mut pic, region, 0, 0x11);
                for icw in [base, icw3, icw4, 0] {
                    board.outb(&mut pic, region, 1, icw);
                }
            }
            Self { board, pic, intr }
        }

        fn out(&mut self, region: u8, offset: u64, value: u8) {
            self.board.outb(&mut self.pic, region, offset, value);
        }

        fn inb(&mut self, region: u8, offset: u64) -> u8 {
            self.board.inb(&mut self.pic, region, offset)
        }

        fn pin(&mut self, irq: u8, level: bool) {
            self.pic.set_input(&mut self.board.cx(), irq, level);
        }

        fn pulse(&mut self, irq: u8) {
            self.pin(irq, true);
            self.pin(irq, false);
        }

        fn intr(&self) -> bool {
            self.board.fabric.level(self.intr)
        }

        fn ack(&mut self) -> u8 {
            self.pic.acknowledge(&mut self.board.cx())
        }

        /// Acknowledges for as long as INTR is up.
        fn acks(&mut self) -> Vec<u8> {
            let mut seen = Vec::new();
            while self.intr() && seen.len() < 20 {
                seen.push(self.ack());
            }
            seen
        }
    }

    #[test]
    fn conforms() {
        conformance(&[0, 1, 2], |board| Pic::new(board.line()));
    }

    #[test]
    fn mask_written_reads_back() {
        let mut b = Bench::new();
        b.out(0, 1, 0xfb);
        b.out(1, 1, 0xa5);
        assert_eq!((b.inb(0, 1), b.inb(1, 1)), (0xfb, 0xa5));
    }

    #[test]
    fn edge_gives_one_interrupt() {
        let mut b = Bench::new();
        b.pin(4, true);
        assert_eq!(b.acks(), [0x34]);
        b.out(0, 0, 0x20);
        assert!(!b.intr());
        b.pin(4, false);
        b.pin(4, true);
        assert!(b.intr());
    }

    #[test]
    fn pulse_is_not_lost() {
        let mut b = Bench::new();
        b.pulse(0);
        assert_eq!(b.acks(), [0x30]);
    }

    #[test]
    fn slave_interrupt_puts_both_in_service() {
        let mut b = Bench::new();
        b.pulse(12);
        assert_eq!(b.acks(), [0x3c]);
        b.out(0, 0, 0x0b);
        b.out(1, 0, 0x0b);
        assert_eq!((b.inb(0, 0), b.inb(1, 0)), (0x04, 0x10));
    }

    #[test]
    fn second_slave_interrupt_waits_for_both_ends() {
        let mut b = Bench::new();
        b.pulse(9);
        b.pulse(10);
        assert_eq!(b.acks(), [0x39]);
        b.out(1, 0, 0x20);
        assert!(!b.intr(), "the master still serves input 2");
        b.out(0, 0, 0x20);
        assert_eq!(b.acks(), [0x3a]);
    }

    #[test]
    fn higher_priority_interrupts_lower_but_not_the_reverse() {
        let mut b = Bench::new();
        b.pulse(5);
        assert_eq!(b.acks(), [0x35]);
        b.pulse(6);
        assert!(!b.intr());
        b.pulse(1);
        assert_eq!(b.acks(), [0x31]);
        b.out(0, 0, 0x20);
        assert!(!b.intr());
        b.out(0, 0, 0x20);
        assert_eq!(b.acks(), [0x36]);
    }

    #[test]
    fn masked_request_stays_in_irr() {
        let mut b = Bench::new();
        b.out(0, 1, 0x08);
        b.pulse(3);
        assert!(!b.intr());
        assert_eq!(b.inb(0, 0), 0x08);
        b.out(0, 1, 0);
        assert_eq!(b.acks(), [0x33]);
    }

    #[test]
    fn level_input_asks_while_high() {
        let mut b = Bench::new();
        b.out(2, 1, 0x08);
        b.pin(11, true);
        assert_eq!(b.acks(), [0x3b]);
        b.out(1, 0, 0x20);
        b.out(0, 0, 0x20);
        assert!(b.intr());
        b.pin(11, false);
        assert!(!b.intr());
    }

    #[test]
    fn elcr_keeps_only_inputs_that_may_be_level() {
        let mut b = Bench::new();
        b.out(2, 0, 0xff);
        b.out(2, 1, 0xff);
        assert_eq!((b.inb(2, 0), b.inb(2, 1)), (0xf8, 0xde));
    }

    #[test]
    fn acknowledge_without_request_is_spurious() {
        let mut b = Bench::new();
        b.out(2, 0, 0x20);
        b.pin(5, true);
        b.pin(5, false);
        assert_eq!(b.ack(), 0x37);
        b.out(0, 0, 0x0b);
        assert_eq!(b.inb(0, 0), 0, "nothing is in service");
    }

    #[test]
    fn rotation_makes_the_served_input_lowest() {
        let mut b = Bench::new();
        b.pulse(3);
        b.ack();
        b.out(0, 0, 0xa0);
        b.pulse(3);
        b.pulse(4);
        b.pulse(2 + 5);
        assert_eq!(b.ack(), 0x34);
    }

    #[test]
    fn set_priority_orders_inputs() {
        let mut b = Bench::new();
        b.out(0, 0, 0xc0 | 4);
        b.pulse(0);
        b.pulse(5);
        assert_eq!(b.ack(), 0x35);
        assert!(!b.intr(), "input 0 now ranks below 5");
    }

    #[test]
    fn specific_end_ends_the_named_one() {
        let mut b = Bench::new();
        b.pulse(5);
        b.ack();
        b.pulse(1);
        b.ack();
        b.out(0, 0, 0x60 | 5);
        b.out(0, 0, 0x0b);
        assert_eq!(b.inb(0, 0), 0x02);
    }

    #[test]
    fn special_mask_mode_lets_lower_priorities_through() {
        let mut b = Bench::new();
        b.pulse(1);
        b.ack();
        b.out(0, 0, 0x68);
        b.out(0, 1, 0x02);
        b.pulse(6);
        assert_eq!(b.acks(), [0x36]);
        b.out(0, 0, 0x20);
        b.out(0, 0, 0x0b);
        assert_eq!(b.inb(0, 0), 0x02, "the masked one is passed over");
    }

    #[test]
    fn automatic_end_leaves_nothing_in_service() {
        let mut b = Bench::with_icw4(3, 3);
        b.pulse(8);
        b.pulse(15);
        assert_eq!(b.acks(), [0x38, 0x3f]);
        b.out(0, 0, 0x0b);
        assert_eq!(b.inb(0, 0), 0);
    }

    #[test]
    fn automatic_rotation_is_round_robin() {
        let mut b = Bench::with_icw4(3, 1);
        b.out(0, 0, 0x80);
        b.pulse(3);
        assert_eq!(b.ack(), 0x33);
        b.pulse(3);
        b.pulse(5);
        assert_eq!(b.acks(), [0x35, 0x33]);
    }

    #[test]
    fn special_fully_nested_lets_a_better_slave_request_in() {
        let mut b = Bench::with_icw4(0x11, 1);
        b.pulse(12);
        b.ack();
        b.pulse(9);
        assert_eq!(b.acks(), [0x39]);
    }

    #[test]
    fn poll_acknowledges() {
        let mut b = Bench::new();
        b.pulse(6);
        b.out(0, 0, 0x0c);
        assert_eq!(b.inb(0, 0), 0x86);
        assert!(!b.intr());
        b.out(0, 0, 0x0c);
        assert_eq!(b.inb(0, 0), 0, "nobody asks");
    }

    #[test]
    fn initialisation_forgets_edges_and_masks() {
        let mut b = Bench::new();
        b.pulse(4);
        b.out(0, 1, 0xff);
        b.out(0, 0, 0x11);
        assert_eq!(b.inb(0, 1), 0);
        assert!(!b.intr());
    }

    #[test]
    fn power_on_is_masked() {
        let mut board = TestBoard::new();
        let intr = board.line();
        let mut pic = Pic::new(intr);
        pic.set_input(&mut board.cx(), 0, true);
        assert!(!board.fabric.level(intr));
    }
}
