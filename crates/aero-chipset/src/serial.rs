//! A PC serial port: a [16550A](crate::uart16550) at eight ports, with its interrupt gated by OUT2.
//!
//! On a PC the chip's INTR pin reaches the interrupt line through a buffer that OUT2 enables; software that
//! forgets OUT2 gets no interrupts. The far end of the cable is the host: what the guest sends is collected,
//! and what the host sends waits on the wire until the receiver has room, so that no character is ever
//! overrun by the host. (IBM PC/AT Technical Reference, Serial/Parallel Adapter.)

use crate::isa;
use crate::uart16550::{Received, Uart16550, saved::UartStateV1};
use aero_bus::{At, Cx, Device, IoError, IrqLine, PortIo, Width};
use std::collections::VecDeque;

/// Register facts.
mod spec {
    /// Ports that the adapter decodes.
    pub const PORTS: u64 = 8;
}

/// A serial port. Region 0: its eight ports.
pub struct Serial {
    uart: Uart16550,
    irq: IrqLine,
    wire: VecDeque<Received>,
    output: Vec<u8>,
    /// Whether anybody takes the output.
    plugged: bool,
}

impl Serial {
    /// A port that interrupts on `irq`.
    pub fn new(irq: IrqLine) -> Self {
        Self { uart: Uart16550::new(), irq, wire: VecDeque::new(), output: Vec::new(), plugged: true }
    }

    /// A port with no cable: what the guest sends is lost.
    pub fn unplugged(irq: IrqLine) -> Self {
        Self { plugged: false, ..Self::new(irq) }
    }

    /// The host sends bytes. They wait, in any number, until the guest reads them.
    pub fn send(&mut self, cx: &mut Cx<'_>, bytes: &[u8]) {
        self.wire.extend(bytes.iter().copied().map(Received::byte));
        self.settle(cx);
    }

    /// The host sends a break condition, after what it sent before.
    pub fn send_break(&mut self, cx: &mut Cx<'_>) {
        self.wire.push_back(Received::line_break());
        self.settle(cx);
    }

    /// What the guest has sent since the last call.
    pub fn take_output(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.output)
    }

    /// How many of the host's bytes the guest's port has not yet taken.
    pub fn unsent(&self) -> usize {
        self.wire.len()
    }

    /// Drives the line, then lets waiting characters in and drives it again: what a read has cleared is seen as a falling
    /// edge before the next character raises it, as on a wire that takes its time.
    fn settle(&mut self, cx: &mut Cx<'_>) {
        self.drive(cx);
        while self.uart.can_receive() {
            let Some(character) = self.wire.pop_front() else { return };
            self.uart.receive(character);
            self.drive(cx);
        }
    }

    fn drive(&self, cx: &mut Cx<'_>) {
        cx.set_irq(self.irq, self.uart.interrupt() && self.uart.out2());
    }
}

impl Device for Serial {
    fn reset(&mut self, cx: &mut Cx<'_>) {
        self.uart = Uart16550::new();
        self.settle(cx);
    }

    fn pio(&mut self) -> Option<&mut dyn PortIo> {
        Some(self)
    }
}

impl PortIo for Serial {
    fn read(&mut self, cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        let value = isa::read_bytes(at, width, |at| Ok(self.uart.read(register(at)?)));
        self.settle(cx);
        value
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError> {
        let done = isa::write_bytes(at, width, value, |at, byte| {
            let sent = self.uart.write(register(at)?, byte);
            self.output.extend(sent.filter(|_| self.plugged));
            Ok(())
        });
        self.settle(cx);
        done
    }
}

fn register(at: At) -> Result<u8, IoError> {
    if at.offset < spec::PORTS { Ok(at.offset as u8) } else { Err(IoError::Unclaimed) }
}

mod saved {
    use super::{Received, Serial, Uart16550, UartStateV1};
    use aero_state::{RestoreError, Saved, Section};
    use serde::{Deserialize, Serialize};

    const KIND: &str = "serial";

    #[derive(Serialize, Deserialize)]
    struct SerialStateV1 {
        uart: UartStateV1,
        wire: Vec<Received>,
        output: Vec<u8>,
    }

    impl Saved for Serial {
        fn save(&self) -> Section {
            let Self { uart, irq: _, wire, output, plugged: _ } = self;
            let wire = wire.iter().copied().collect();
            Section::new(KIND, 1, &SerialStateV1 { uart: uart.state(), wire, output: output.clone() })
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let SerialStateV1 { uart, wire, output } = section.decode(KIND, 1)?;
            self.uart = Uart16550::from_state(uart).ok_or(RestoreError::Damaged { kind: KIND })?;
            self.wire = wire.into();
            self.output = output;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aero_bus::bench::{TestBoard, conformance};
    use aero_state::Saved;

    const MCR_OUT2: u8 = 8;

    fn port() -> (TestBoard, Serial, IrqLine) {
        let mut board = TestBoard::new();
        let line = board.line();
        (board, Serial::new(line), line)
    }

    fn levels(board: &mut TestBoard) -> Vec<bool> {
        board.fabric.take_line_changes().iter().map(|c| c.level).collect()
    }

    #[test]
    fn serial_passes_the_conformance_suite() {
        conformance(&[0], |board| Serial::new(board.line()));
    }

    #[test]
    fn text_that_the_guest_writes_is_taken_once() {
        let (mut board, mut serial, _) = port();
        b"hi".iter().for_each(|b| board.outb(&mut serial, 0, 0, *b));
        assert_eq!(serial.take_output(), b"hi");
        assert!(serial.take_output().is_empty());
    }

    #[test]
    fn interrupt_passes_only_with_out2() {
        let (mut board, mut serial, line) = port();
        board.outb(&mut serial, 0, 1, 2);
        assert!(!board.fabric.level(line));
        board.outb(&mut serial, 0, 4, MCR_OUT2);
        assert!(board.fabric.level(line));
        assert_eq!(board.inb(&mut serial, 0, 2), 2);
        assert_eq!(levels(&mut board), [true, false]);
    }

    #[test]
    fn more_input_than_the_fifo_holds_arrives_whole() {
        let (mut board, mut serial, line) = port();
        board.outb(&mut serial, 0, 2, 0xc1);
        board.outb(&mut serial, 0, 4, MCR_OUT2);
        board.outb(&mut serial, 0, 1, 1);
        let text: Vec<u8> = (0..100).collect();
        serial.send(&mut board.cx(), &text);
        assert!(board.fabric.level(line));
        let mut got = vec![];
        while board.inb(&mut serial, 0, 5) & 1 != 0 {
            got.push(board.inb(&mut serial, 0, 0));
        }
        assert_eq!(got, text);
        assert!(!board.fabric.level(line));
    }

    #[test]
    fn input_before_a_reset_waits_on_the_wire() {
        let (mut board, mut serial, _) = port();
        serial.send(&mut board.cx(), b"ab");
        serial.reset(&mut board.cx());
        assert_eq!(board.inb(&mut serial, 0, 0), b'b');
    }

    #[test]
    fn word_access_is_two_bytes() {
        let (mut board, mut serial, _) = port();
        let cx = &mut board.cx();
        serial.write(cx, At::new(0, 6), Width::B2, 0x5aff).unwrap();
        assert_eq!(serial.read(cx, At::new(0, 6), Width::B4).unwrap(), 0xffff_5ab0);
    }

    #[test]
    fn restore_takes_over_the_wire_or_changes_nothing() {
        let (mut board, mut serial, _) = port();
        board.outb(&mut serial, 0, 2, 1);
        serial.send(&mut board.cx(), &[7; 40]);
        let mut section = serial.save();
        let mut other = Serial::new(board.line());
        other.restore(&section).unwrap();
        assert_eq!(other.unsent(), 24);
        section.body.truncate(3);
        assert!(other.restore(&section).is_err());
        assert_eq!(other.unsent(), 24, "a failed restore changes nothing");
    }
}
