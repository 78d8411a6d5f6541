//! The parallel port, with a printer on it that is always ready.
//!
//! Three registers: the data lines, the printer's answers, and the control lines. Software puts a byte on the
//! data lines and pulses STROBE; the printer takes the byte when the pulse begins and acknowledges it when
//! the pulse ends, which interrupts if software wants that. What is printed is collected for the host. In the
//! input direction nothing drives the data lines.
//!
//! Four of the control lines and one answer are inverted on the way to the cable; the registers' own sense is
//! used here. (IBM PC/AT Technical Reference, Serial/Parallel Adapter; IEEE 1284, compatibility mode;
//! direction bit of the PS/2.)

use crate::isa;
use aero_bus::{At, Cx, Device, IoError, IrqLine, PortIo, Width};

/// Register facts.
mod spec {
    pub const DATA: u64 = 0;
    pub const STATUS: u64 = 1;
    pub const CONTROL: u64 = 2;

    /// Status: not busy, no acknowledge under way, paper, selected, no error; the unused bits float high.
    pub const READY: u8 = 0b1101_1111;

    pub const STROBE: u8 = 1 << 0;
    /// Control: the printer is not being initialised; the printer is selected.
    pub const INIT: u8 = 1 << 2;
    pub const SELECT_IN: u8 = 1 << 3;
    pub const IRQ_ENABLE: u8 = 1 << 4;
    pub const INPUT: u8 = 1 << 5;
    pub const CONTROL_WRITABLE: u8 = 0x3f;
    /// Control bits that do not exist read as ones.
    pub const CONTROL_FLOATING: u8 = 0xc0;
    pub const CONTROL_RESET: u8 = INIT | SELECT_IN;
    pub const NOBODY_DRIVES: u8 = 0xff;
}

use spec::*;

/// A parallel port. Region 0: its three ports.
pub struct Lpt {
    data: u8,
    control: u8,
    irq: IrqLine,
    output: Vec<u8>,
}

impl Lpt {
    /// A port that interrupts on `irq`.
    pub fn new(irq: IrqLine) -> Self {
        Self { data: 0, control: CONTROL_RESET, irq, output: Vec::new() }
    }

    /// What the guest has printed since the last call.
    pub fn take_output(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.output)
    }

    fn read_byte(&self, at: At) -> Result<u8, IoError> {
        Ok(match (at.region, at.offset) {
            (0, DATA) if self.control & INPUT != 0 => NOBODY_DRIVES,
            (0, DATA) => self.data,
            (0, STATUS) => READY,
            (0, CONTROL) => self.control | CONTROL_FLOATING,
            _ => return Err(IoError::Unclaimed),
        })
    }

    fn write_byte(&mut self, cx: &mut Cx<'_>, at: At, value: u8) -> Result<(), IoError> {
        match (at.region, at.offset) {
            (0, DATA) => self.data = value,
            // The printer's lines are not ours to drive.
            (0, STATUS) => {}
            (0, CONTROL) => self.write_control(cx, value & CONTROL_WRITABLE),
            _ => return Err(IoError::Unclaimed),
        }
        Ok(())
    }

    fn write_control(&mut self, cx: &mut Cx<'_>, value: u8) {
        let (before, after) = (self.control & STROBE, value & STROBE);
        self.control = value;
        if after > before {
            self.output.push(self.data);
        } else if after < before && value & IRQ_ENABLE != 0 {
            cx.pulse_irq(self.irq);
        }
    }
}

impl Device for Lpt {
    fn reset(&mut self, _cx: &mut Cx<'_>) {
        (self.data, self.control) = (0, CONTROL_RESET);
    }

    fn pio(&mut self) -> Option<&mut dyn PortIo> {
        Some(self)
    }
}

impl PortIo for Lpt {
    fn read(&mut self, _cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        isa::read_bytes(at, width, |at| self.read_byte(at))
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError> {
        isa::write_bytes(at, width, value, |at, byte| self.write_byte(cx, at, byte))
    }
}

mod saved {
    use super::{CONTROL_WRITABLE, Lpt};
    use aero_state::{RestoreError, Saved, Section};
    use serde::{Deserialize, Serialize};

    const KIND: &str = "lpt";

    #[derive(Serialize, Deserialize)]
    struct LptStateV1 {
        data: u8,
        control: u8,
        output: Vec<u8>,
    }

    impl Saved for Lpt {
        fn save(&self) -> Section {
            let Self { data, control, irq: _, output } = self;
            let state = LptStateV1 { data: *data, control: *control, output: output.clone() };
            Section::new(KIND, 1, &state)
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let LptStateV1 { data, control, output } = section.decode(KIND, 1)?;
            (self.data, self.control, self.output) = (data, control & CONTROL_WRITABLE, output);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aero_bus::bench::{TestBoard, conformance};

    fn port() -> (TestBoard, Lpt, IrqLine) {
        let mut board = TestBoard::new();
        let line = board.line();
        (board, Lpt::new(line), line)
    }

    fn print(board: &mut TestBoard, lpt: &mut Lpt, text: &[u8], idle: u8) {
        for byte in text {
            board.outb(lpt, 0, DATA, *byte);
            board.outb(lpt, 0, CONTROL, idle | STROBE);
            board.outb(lpt, 0, CONTROL, idle);
        }
    }

    #[test]
    fn lpt_passes_the_conformance_suite() {
        conformance(&[0], |board| Lpt::new(board.line()));
    }

    #[test]
    fn strobed_bytes_are_taken_once() {
        let (mut board, mut lpt, _) = port();
        print(&mut board, &mut lpt, b"hello", INIT | SELECT_IN);
        board.outb(&mut lpt, 0, DATA, b'?');
        assert_eq!((lpt.take_output(), lpt.take_output()), (b"hello".to_vec(), vec![]));
    }

    #[test]
    fn printer_is_ready_and_registers_read_back() {
        let (mut board, mut lpt, _) = port();
        for value in [0xaa, 0x55] {
            board.outb(&mut lpt, 0, DATA, value);
            assert_eq!(board.inb(&mut lpt, 0, DATA), value, "how software looks for the port");
        }
        assert_eq!((board.inb(&mut lpt, 0, STATUS), board.inb(&mut lpt, 0, CONTROL)), (0xdf, 0xcc));
        board.outb(&mut lpt, 0, CONTROL, INPUT);
        assert_eq!(board.inb(&mut lpt, 0, DATA), 0xff);
    }

    #[test]
    fn acknowledge_interrupts_only_when_enabled() {
        let (mut board, mut lpt, line) = port();
        print(&mut board, &mut lpt, b"a", INIT);
        assert!(board.fabric.take_line_changes().is_empty());
        print(&mut board, &mut lpt, b"b", INIT | IRQ_ENABLE);
        let changes: Vec<_> = board.fabric.take_line_changes().iter().map(|c| (c.line, c.level)).collect();
        assert_eq!(changes, [(line, true), (line, false)]);
    }
}
