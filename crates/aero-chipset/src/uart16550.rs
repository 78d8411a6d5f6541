//! The 16550A asynchronous receiver/transmitter, as a chip: eight registers and two pins, no bus.
//!
//! A byte written to the transmitter is on the wire at once; there is no baud delay, so the transmitter is
//! always empty and its FIFO is never seen. The receiver's FIFO is real: 16 bytes, trigger levels, overrun,
//! and a character's errors appear in the line status register when the character reaches the FIFO's top.
//!
//! Three details decide whether operating systems take this for a working 16550A:
//!
//! * The "transmitter empty" interrupt is an event, not a level: it is raised when the holding register
//!   becomes empty and again when its enable bit goes from 0 to 1 while the register is empty; reading IIR,
//!   when IIR names it, takes it away. Linux tests both (`UART_BUG_TXEN`, `UART_BUG_THRE`).
//! * Loopback connects the modem outputs to the inputs and the transmitter to the receiver, and cuts the
//!   outputs off, OUT2 with them, which on a PC is what lets the interrupt through. Linux measures the FIFO
//!   in loopback.
//! * The receive time-out: with characters below the trigger level and a quiet line, an interrupt comes after
//!   four character times. Here characters arrive at once, so the line is quiet as soon as they have arrived.
//!
//! Characters keep eight bits whatever LCR says: boot code that never programs LCR still expects its text to
//! arrive. (National Semiconductor PC16550D data sheet, section 8.)

use std::collections::VecDeque;

/// Register facts (PC16550D, table II).
mod spec {
    /// Receiver buffer, transmitter holding register; divisor low while DLAB.
    pub const DATA: u8 = 0;
    /// Interrupt enable; divisor high while DLAB.
    pub const IER: u8 = 1;
    /// Interrupt identification (read), FIFO control (write).
    pub const IIR_FCR: u8 = 2;
    /// Line control.
    pub const LCR: u8 = 3;
    /// Modem control.
    pub const MCR: u8 = 4;
    /// Line status.
    pub const LSR: u8 = 5;
    /// Modem status.
    pub const MSR: u8 = 6;

    pub const IER_ERBFI: u8 = 0x01;
    pub const IER_ETBEI: u8 = 0x02;
    pub const IER_ELSI: u8 = 0x04;
    pub const IER_EDSSI: u8 = 0x08;
    pub const IER_MASK: u8 = 0x0f;

    pub const IIR_NONE: u8 = 0x01;
    pub const IIR_MODEM: u8 = 0x00;
    pub const IIR_THRE: u8 = 0x02;
    pub const IIR_DATA: u8 = 0x04;
    pub const IIR_LINE: u8 = 0x06;
    pub const IIR_TIMEOUT: u8 = 0x0c;
    pub const IIR_FIFO: u8 = 0xc0;

    pub const FCR_ENABLE: u8 = 0x01;
    pub const FCR_CLEAR_RX: u8 = 0x02;
    pub const TRIGGER_LEVELS: [usize; 4] = [1, 4, 8, 14];
    pub const FIFO_BYTES: usize = 16;

    pub const LCR_DLAB: u8 = 0x80;

    pub const MCR_DTR: u8 = 0x01;
    pub const MCR_RTS: u8 = 0x02;
    pub const MCR_OUT1: u8 = 0x04;
    pub const MCR_OUT2: u8 = 0x08;
    pub const MCR_LOOP: u8 = 0x10;
    pub const MCR_MASK: u8 = 0x1f;

    pub const LSR_DR: u8 = 0x01;
    pub const LSR_OE: u8 = 0x02;
    pub const LSR_BI: u8 = 0x10;
    pub const LSR_ERRORS: u8 = 0x1e;
    pub const LSR_THRE: u8 = 0x20;
    pub const LSR_TEMT: u8 = 0x40;
    pub const LSR_FIFO_ERROR: u8 = 0x80;

    pub const MSR_CTS: u8 = 0x10;
    pub const MSR_DSR: u8 = 0x20;
    pub const MSR_RI: u8 = 0x40;
    pub const MSR_DCD: u8 = 0x80;
    /// The other end of the cable is there and ready.
    pub const MSR_CONNECTED: u8 = MSR_CTS | MSR_DSR | MSR_DCD;

    /// Divisor of 9600 baud from 1.8432 MHz: what firmware leaves behind.
    pub const DIVISOR_9600: u16 = 12;
}

use spec::*;

/// A character on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Received {
    /// Its bits.
    data: u8,
    /// The LSR error bits that come with it.
    errors: u8,
}

impl Received {
    /// A good character.
    pub fn byte(data: u8) -> Self {
        Self { data, errors: 0 }
    }

    /// A break condition: the line held low for longer than a character (Linux: the magic SysRq key of a
    /// serial console).
    pub fn line_break() -> Self {
        Self { data: 0, errors: LSR_BI }
    }
}

/// The chip.
#[derive(Clone, Debug)]
pub struct Uart16550 {
    ier: u8,
    lcr: u8,
    mcr: u8,
    scr: u8,
    divisor: u16,
    fifo_enabled: bool,
    trigger: u8,
    received: VecDeque<Received>,
    line_errors: u8,
    thre_interrupt: bool,
    modem_inputs: u8,
    modem_deltas: u8,
}

impl Default for Uart16550 {
    fn default() -> Self {
        Self::new()
    }
}

impl Uart16550 {
    /// The chip after a master reset, with a connected cable.
    pub fn new() -> Self {
        Self {
            ier: 0,
            lcr: 0,
            mcr: 0,
            scr: 0,
            divisor: DIVISOR_9600,
            fifo_enabled: false,
            trigger: 0,
            received: VecDeque::new(),
            line_errors: 0,
            thre_interrupt: false,
            modem_inputs: MSR_CONNECTED,
            modem_deltas: 0,
        }
    }

    /// Reads register `register` (0..=7), with the effects that a read has.
    pub fn read(&mut self, register: u8) -> u8 {
        let [divisor_low, divisor_high] = self.divisor.to_le_bytes();
        match register {
            DATA if self.dlab() => divisor_low,
            DATA => self.read_data(),
            IER if self.dlab() => divisor_high,
            IER => self.ier,
            IIR_FCR => self.read_iir(),
            LCR => self.lcr,
            MCR => self.mcr,
            LSR => self.read_lsr(),
            MSR => self.modem_inputs | core::mem::take(&mut self.modem_deltas),
            _ => self.scr,
        }
    }

    /// Writes register `register` (0..=7). The result is the character that leaves on SOUT, if one does.
    pub fn write(&mut self, register: u8, value: u8) -> Option<u8> {
        match register {
            DATA if self.dlab() => self.divisor = self.divisor & 0xff00 | u16::from(value),
            DATA => return self.transmit(value),
            IER if self.dlab() => self.divisor = self.divisor & 0x00ff | u16::from(value) << 8,
            IER => self.write_ier(value),
            IIR_FCR => self.write_fcr(value),
            LCR => self.lcr = value,
            MCR => self.write_mcr(value),
            // LSR and MSR are for the factory to write.
            LSR | MSR => {}
            _ => self.scr = value,
        }
        None
    }

    /// The level of the INTR pin.
    pub fn interrupt(&self) -> bool {
        self.interrupt_id() != IIR_NONE
    }

    /// Whether the OUT2 pin is asserted. Loopback forces every modem output inactive.
    pub fn out2(&self) -> bool {
        self.mcr & (MCR_OUT2 | MCR_LOOP) == MCR_OUT2
    }

    /// Whether a character on SIN would be taken without an overrun.
    pub fn can_receive(&self) -> bool {
        self.mcr & MCR_LOOP == 0 && self.received.len() < self.capacity()
    }

    /// A character arrives on SIN. Loopback cuts SIN off, and the character is lost.
    pub fn receive(&mut self, character: Received) {
        if self.mcr & MCR_LOOP == 0 {
            self.push(character);
        }
    }

    fn dlab(&self) -> bool {
        self.lcr & LCR_DLAB != 0
    }

    fn capacity(&self) -> usize {
        if self.fifo_enabled { FIFO_BYTES } else { 1 }
    }

    fn push(&mut self, character: Received) {
        if self.received.len() >= self.capacity() {
            self.line_errors |= LSR_OE;
            // With a FIFO the new character is lost in the shift register; without, it replaces the old one.
            if self.fifo_enabled {
                return;
            }
            self.received.clear();
        }
        self.received.push_back(character);
        if self.received.len() == 1 {
            self.reveal_errors();
        }
    }

    /// A character's errors enter LSR when it is the next to be read.
    fn reveal_errors(&mut self) {
        self.line_errors |= self.received.front().map_or(0, |c| c.errors);
    }

    fn read_data(&mut self) -> u8 {
        let data = self.received.pop_front().map_or(0, |c| c.data);
        self.reveal_errors();
        data
    }

    fn transmit(&mut self, value: u8) -> Option<u8> {
        // The byte is gone at once, so the holding register has become empty again.
        self.thre_interrupt = true;
        if self.mcr & MCR_LOOP == 0 {
            return Some(value);
        }
        self.push(Received::byte(value));
        None
    }

    fn write_ier(&mut self, value: u8) {
        let risen = value & !self.ier;
        self.ier = value & IER_MASK;
        if risen & IER_ETBEI != 0 {
            self.thre_interrupt = true;
        }
    }

    fn write_fcr(&mut self, value: u8) {
        let enable = value & FCR_ENABLE != 0;
        if value & FCR_CLEAR_RX != 0 || enable != self.fifo_enabled {
            self.received.clear();
        }
        self.fifo_enabled = enable;
        self.trigger = if enable { value >> 6 } else { 0 };
    }

    fn write_mcr(&mut self, value: u8) {
        self.mcr = value & MCR_MASK;
        let inputs = if self.mcr & MCR_LOOP == 0 { MSR_CONNECTED } else { self.looped_modem_inputs() };
        self.modem_deltas |= modem_deltas(self.modem_inputs, inputs);
        self.modem_inputs = inputs;
    }

    fn looped_modem_inputs(&self) -> u8 {
        [(MCR_RTS, MSR_CTS), (MCR_DTR, MSR_DSR), (MCR_OUT1, MSR_RI), (MCR_OUT2, MSR_DCD)]
            .into_iter()
            .filter(|(output, _)| self.mcr & output != 0)
            .fold(0, |inputs, (_, input)| inputs | input)
    }

    fn read_lsr(&mut self) -> u8 {
        let ready = if self.received.is_empty() { 0 } else { LSR_DR };
        let errors = core::mem::take(&mut self.line_errors);
        let queued = self.fifo_enabled && self.received.iter().any(|c| c.errors != 0);
        ready | errors | LSR_THRE | LSR_TEMT | if queued { LSR_FIFO_ERROR } else { 0 }
    }

    fn read_iir(&mut self) -> u8 {
        let id = self.interrupt_id();
        if id == IIR_THRE {
            self.thre_interrupt = false;
        }
        id | if self.fifo_enabled { IIR_FIFO } else { 0 }
    }

    /// The most urgent interrupt, in the order of PC16550D table IV.
    fn interrupt_id(&self) -> u8 {
        let waiting = self.received.len();
        let level = TRIGGER_LEVELS[usize::from(self.trigger & 3)];
        if self.ier & IER_ELSI != 0 && self.line_errors & LSR_ERRORS != 0 {
            IIR_LINE
        } else if self.ier & IER_ERBFI != 0 && waiting >= level {
            IIR_DATA
        } else if self.ier & IER_ERBFI != 0 && waiting != 0 {
            IIR_TIMEOUT
        } else if self.ier & IER_ETBEI != 0 && self.thre_interrupt {
            IIR_THRE
        } else if self.ier & IER_EDSSI != 0 && self.modem_deltas != 0 {
            IIR_MODEM
        } else {
            IIR_NONE
        }
    }
}

/// MSR bits 3:0 for a change of the inputs. RI counts only when it ends (TERI).
fn modem_deltas(old: u8, new: u8) -> u8 {
    let changed = (old ^ new) & (MSR_CTS | MSR_DSR | MSR_DCD) | old & !new & MSR_RI;
    changed >> 4
}

/// The chip's saved state.
pub mod saved {
    use super::{FIFO_BYTES, Received, Uart16550};
    use serde::{Deserialize, Serialize};

    /// Version 1.
    #[derive(Clone, Debug, Serialize, Deserialize)]
    pub struct UartStateV1 {
        ier: u8,
        lcr: u8,
        mcr: u8,
        scr: u8,
        divisor: u16,
        fifo_enabled: bool,
        trigger: u8,
        received: Vec<Received>,
        line_errors: u8,
        thre_interrupt: bool,
        modem_inputs: u8,
        modem_deltas: u8,
    }

    impl Uart16550 {
        /// The state now.
        pub fn state(&self) -> UartStateV1 {
            let Self {
                ier,
                lcr,
                mcr,
                scr,
                divisor,
                fifo_enabled,
                trigger,
                received,
                line_errors,
                thre_interrupt,
                modem_inputs,
                modem_deltas,
            } = self.clone();
            let received = received.into();
            UartStateV1 {
                ier,
                lcr,
                mcr,
                scr,
                divisor,
                fifo_enabled,
                trigger,
                received,
                line_errors,
                thre_interrupt,
                modem_inputs,
                modem_deltas,
            }
        }

        /// A chip in a saved state; `None` if its receiver holds more than the FIFO can.
        pub fn from_state(state: UartStateV1) -> Option<Self> {
            let UartStateV1 {
                ier,
                lcr,
                mcr,
                scr,
                divisor,
                fifo_enabled,
                trigger,
                received,
                line_errors,
                thre_interrupt,
                modem_inputs,
                modem_deltas,
            } = state;
            let received = (received.len() <= FIFO_BYTES).then(|| received.into())?;
            Some(Self {
                ier,
                lcr,
                mcr,
                scr,
                divisor,
                fifo_enabled,
                trigger,
                received,
                line_errors,
                thre_interrupt,
                modem_inputs,
                modem_deltas,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_fifo(fcr: u8) -> Uart16550 {
        let mut uart = Uart16550::new();
        uart.write(IIR_FCR, fcr);
        uart
    }

    fn arrive(uart: &mut Uart16550, bytes: &[u8]) {
        bytes.iter().for_each(|b| uart.receive(Received::byte(*b)));
    }

    #[test]
    fn written_byte_leaves_at_once_and_the_transmitter_stays_empty() {
        let mut uart = Uart16550::new();
        assert_eq!(uart.write(DATA, b'x'), Some(b'x'));
        assert_eq!(uart.read(LSR), LSR_THRE | LSR_TEMT);
    }

    #[test]
    fn divisor_is_behind_dlab() {
        let mut uart = Uart16550::new();
        uart.write(LCR, LCR_DLAB | 3);
        uart.write(DATA, 1);
        uart.write(IER, 2);
        assert_eq!((uart.read(DATA), uart.read(IER)), (1, 2));
        uart.write(LCR, 3);
        assert_eq!((uart.read(DATA), uart.read(IER)), (0, 0));
    }

    #[test]
    fn interrupt_enable_and_scratch_keep_the_bits_that_exist() {
        let mut uart = Uart16550::new();
        uart.write(IER, 0xff);
        uart.write(7, 0xa5);
        assert_eq!((uart.read(IER), uart.read(7)), (0x0f, 0xa5));
    }

    #[test]
    fn transmitter_interrupt_fires_again_each_time_it_is_enabled() {
        let mut uart = Uart16550::new();
        for _ in 0..2 {
            uart.write(IER, IER_ETBEI);
            assert!(uart.interrupt());
            assert_eq!(uart.read(IIR_FCR), IIR_THRE);
            assert_eq!(uart.read(IIR_FCR), IIR_NONE);
            uart.write(IER, 0);
        }
    }

    #[test]
    fn transmitter_interrupt_comes_after_each_byte_but_not_while_masked() {
        let mut uart = Uart16550::new();
        uart.write(DATA, 1);
        assert!(!uart.interrupt());
        uart.write(IER, IER_ETBEI);
        uart.read(IIR_FCR);
        uart.write(IER, IER_ETBEI);
        assert!(!uart.interrupt(), "a bit that stays set is no edge");
        uart.write(DATA, 2);
        assert!(uart.interrupt());
    }

    #[test]
    fn iir_read_for_a_more_urgent_reason_keeps_the_transmitter_interrupt() {
        let mut uart = Uart16550::new();
        uart.write(IER, IER_ETBEI | IER_ERBFI);
        arrive(&mut uart, b"a");
        assert_eq!(uart.read(IIR_FCR), IIR_DATA);
        uart.read(DATA);
        assert_eq!(uart.read(IIR_FCR), IIR_THRE);
    }

    #[test]
    fn characters_below_the_trigger_level_time_out() {
        let mut uart = with_fifo(FCR_ENABLE | 0x80);
        uart.write(IER, IER_ERBFI);
        arrive(&mut uart, b"1234567");
        assert_eq!(uart.read(IIR_FCR), IIR_FIFO | IIR_TIMEOUT);
        arrive(&mut uart, b"8");
        assert_eq!(uart.read(IIR_FCR), IIR_FIFO | IIR_DATA);
        let text: Vec<u8> = (0..8).map(|_| uart.read(DATA)).collect();
        assert_eq!(text, b"12345678");
        assert_eq!(uart.read(IIR_FCR), IIR_FIFO | IIR_NONE);
    }

    #[test]
    fn overrun_keeps_the_fifo_and_interrupts_once_until_lsr_is_read() {
        let mut uart = with_fifo(FCR_ENABLE);
        uart.write(IER, IER_ELSI);
        (0..17).for_each(|b| uart.receive(Received::byte(b)));
        assert_eq!(uart.read(IIR_FCR), IIR_FIFO | IIR_LINE);
        assert_eq!(uart.read(LSR), LSR_DR | LSR_OE | LSR_THRE | LSR_TEMT);
        assert!(!uart.interrupt());
        let kept: Vec<u8> = (0..16).map(|_| uart.read(DATA)).collect();
        assert_eq!(kept, (0..16).collect::<Vec<u8>>());
    }

    #[test]
    fn overrun_without_fifo_keeps_the_new_character() {
        let mut uart = Uart16550::new();
        arrive(&mut uart, b"ab");
        assert_eq!(uart.read(LSR) & LSR_OE, LSR_OE);
        assert_eq!(uart.read(DATA), b'b');
    }

    #[test]
    fn break_shows_when_it_reaches_the_top_of_the_fifo() {
        let mut uart = with_fifo(FCR_ENABLE);
        arrive(&mut uart, b"a");
        uart.receive(Received::line_break());
        assert_eq!(uart.read(LSR) & (LSR_BI | LSR_FIFO_ERROR), LSR_FIFO_ERROR);
        uart.read(DATA);
        assert_eq!(uart.read(LSR) & LSR_BI, LSR_BI);
        uart.read(DATA);
        assert_eq!(uart.read(LSR), LSR_THRE | LSR_TEMT);
    }

    #[test]
    fn loopback_shows_modem_outputs_as_inputs() {
        let mut uart = Uart16550::new();
        uart.write(MCR, MCR_LOOP | 0x0a);
        assert_eq!(uart.read(MSR) & 0xf0, 0x90);
        assert!(!uart.out2());
        uart.write(MCR, MCR_OUT2);
        assert!(uart.out2());
    }

    #[test]
    fn ring_indicator_counts_only_when_it_ends() {
        let mut uart = Uart16550::new();
        uart.write(MCR, MCR_LOOP);
        uart.read(MSR);
        uart.write(MCR, MCR_LOOP | MCR_OUT1);
        assert_eq!(uart.read(MSR), MSR_RI);
        uart.write(MCR, MCR_LOOP);
        assert_eq!(uart.read(MSR), 0x04);
    }

    #[test]
    fn fifo_measured_in_loopback_has_sixteen_bytes() {
        let mut uart = with_fifo(FCR_ENABLE | FCR_CLEAR_RX);
        uart.write(MCR, MCR_LOOP);
        (0..=255).for_each(|b| assert_eq!(uart.write(DATA, b), None));
        let mut count = 0;
        while uart.read(LSR) & LSR_DR != 0 {
            uart.read(DATA);
            count += 1;
        }
        assert_eq!(count, 16);
    }

    #[test]
    fn linux_probe_for_better_uarts_finds_a_16550a() {
        let mut uart = Uart16550::new();
        uart.write(LCR, 0xbf);
        uart.write(IIR_FCR, 0);
        uart.write(LCR, 0);
        uart.write(IIR_FCR, FCR_ENABLE);
        assert_eq!(uart.read(IIR_FCR) >> 6, 3);
        for lcr in [0x80, 0xbf, 0xe0] {
            uart.write(LCR, lcr);
            assert_eq!(uart.read(IIR_FCR), IIR_FIFO | IIR_NONE);
        }
        uart.write(IIR_FCR, FCR_ENABLE | 0x20);
        assert_eq!(uart.read(IIR_FCR) >> 5, 6, "no 64-byte FIFO");
    }
}
