//! The coprocessor error latch: how a PC reports floating-point errors to software that expects a 287.
//!
//! With CR0.NE clear the processor does not raise #MF. It pulls FERR#, the bridge answers with IRQ 13, and
//! the processor waits in front of its next floating-point instruction. The handler writes port F0h, which
//! takes the request back and makes the bridge hold IGNNE# low: now floating-point instructions run in spite
//! of the error, until one of them clears it and FERR# rises again.
//! (Intel 290550, 82371SB PIIX3, COPROC_ERR; Intel SDM volume 1, appendix D.)

use aero_bus::{At, Cx, Device, IoError, IrqLine, PortIo, Width};

/// The latch. Region 0: port F0h.
pub struct CoprocessorError {
    irq: IrqLine,
    /// The processor reports an error.
    ferr: bool,
    /// The processor is told to ignore it.
    ignne: bool,
}

impl CoprocessorError {
    /// The latch, with no error, driving `irq`.
    pub fn new(irq: IrqLine) -> Self {
        Self { irq, ferr: false, ignne: false }
    }

    /// The processor's FERR# pin: asserting it latches the interrupt, releasing it releases IGNNE#.
    pub fn set_ferr(&mut self, cx: &mut Cx<'_>, asserted: bool) {
        if asserted && !self.ferr {
            cx.set_irq(self.irq, true);
        }
        self.ferr = asserted;
        self.ignne &= asserted;
    }

    /// Whether IGNNE# is asserted.
    pub fn ignne(&self) -> bool {
        self.ignne
    }
}

impl Device for CoprocessorError {
    fn reset(&mut self, cx: &mut Cx<'_>) {
        cx.set_irq(self.irq, false);
        *self = Self::new(self.irq);
    }

    fn pio(&mut self) -> Option<&mut dyn PortIo> {
        Some(self)
    }
}

impl PortIo for CoprocessorError {
    fn read(&mut self, _cx: &mut Cx<'_>, _at: At, _width: Width) -> Result<u64, IoError> {
        Err(IoError::Unclaimed)
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: At, _width: Width, _value: u64) -> Result<(), IoError> {
        if at.offset != 0 {
            return Err(IoError::Unclaimed);
        }
        cx.set_irq(self.irq, false);
        self.ignne = self.ferr;
        Ok(())
    }
}

mod saved {
    use super::CoprocessorError;
    use aero_state::{RestoreError, Saved, Section};
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct CoprocessorErrorStateV1 {
        ferr: bool,
        ignne: bool,
    }

    impl Saved for CoprocessorError {
        fn save(&self) -> Section {
            let Self { irq: _, ferr, ignne } = *self;
            Section::new("coprocessor-error", 1, &CoprocessorErrorStateV1 { ferr, ignne })
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let CoprocessorErrorStateV1 { ferr, ignne } = section.decode("coprocessor-error", 1)?;
            (self.ferr, self.ignne) = (ferr, ignne && ferr);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aero_bus::bench::{TestBoard, conformance};

    fn error(board: &mut TestBoard) -> CoprocessorError {
        let mut latch = CoprocessorError::new(board.line());
        latch.set_ferr(&mut board.cx(), true);
        latch
    }

    #[test]
    fn coprocessor_error_passes_the_conformance_suite() {
        conformance(&[0], |board| CoprocessorError::new(board.line()));
    }

    #[test]
    fn error_latches_the_interrupt_until_the_port_is_written() {
        let mut board = TestBoard::new();
        let mut latch = error(&mut board);
        assert!(board.fabric.level(latch.irq) && !latch.ignne());
        latch.set_ferr(&mut board.cx(), false);
        assert!(board.fabric.level(latch.irq));
        board.outb(&mut latch, 0, 0, 0);
        assert!(!board.fabric.level(latch.irq) && !latch.ignne());
    }

    #[test]
    fn write_under_an_error_asserts_ignne_until_the_error_ends() {
        let mut board = TestBoard::new();
        let mut latch = error(&mut board);
        board.outb(&mut latch, 0, 0, 0);
        assert!(latch.ignne());
        latch.set_ferr(&mut board.cx(), false);
        assert!(!latch.ignne());
    }
}
