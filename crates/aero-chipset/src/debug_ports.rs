//! Ports that exist for whoever debugs: an exit port, a text port and the POST code port.
//!
//! [`DebugExit`] and [`DebugCon`] behave as QEMU's `isa-debug-exit` and `isa-debugcon`, which test kernels
//! and firmware use. Port 80h takes the codes that firmware writes as it boots; Linux writes there to waste a
//! microsecond.

use aero_bus::{At, Cx, Device, IoError, PortIo, Width};

/// Register facts.
mod spec {
    /// What a read of the text port returns, so that firmware can tell that the port is there (QEMU's
    /// `readback`).
    pub const DEBUGCON_READBACK: u64 = 0xe9;
}

/// Ends the run with a status of the guest's choice. Region 0: one to four ports.
#[derive(Default)]
pub struct DebugExit;

impl DebugExit {
    /// The device.
    pub fn new() -> Self {
        Self
    }
}

impl Device for DebugExit {
    fn reset(&mut self, _cx: &mut Cx<'_>) {}

    fn pio(&mut self) -> Option<&mut dyn PortIo> {
        Some(self)
    }
}

impl PortIo for DebugExit {
    fn read(&mut self, _cx: &mut Cx<'_>, _at: At, _width: Width) -> Result<u64, IoError> {
        Ok(0)
    }

    fn write(&mut self, cx: &mut Cx<'_>, _at: At, _width: Width, value: u64) -> Result<(), IoError> {
        cx.request_exit((value as u32) << 1 | 1);
        Ok(())
    }
}

/// Collects text on any number of ports. Region *n* is console *n*, one port.
#[derive(Default)]
pub struct DebugCon {
    outputs: Vec<Vec<u8>>,
}

impl DebugCon {
    /// `count` consoles, with nothing collected.
    pub fn new(count: usize) -> Self {
        Self { outputs: vec![Vec::new(); count] }
    }

    /// What the guest has written to console `n` since the last call.
    pub fn take_output(&mut self, n: usize) -> Vec<u8> {
        self.outputs.get_mut(n).map(core::mem::take).unwrap_or_default()
    }
}

impl Device for DebugCon {
    fn reset(&mut self, _cx: &mut Cx<'_>) {}

    fn pio(&mut self) -> Option<&mut dyn PortIo> {
        Some(self)
    }
}

impl PortIo for DebugCon {
    fn read(&mut self, _cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        let others = width.ones() & !0xff;
        let ours = at.offset == 0 && usize::from(at.region) < self.outputs.len();
        ours.then_some(others | spec::DEBUGCON_READBACK).ok_or(IoError::Unclaimed)
    }

    fn write(&mut self, _cx: &mut Cx<'_>, at: At, _width: Width, value: u64) -> Result<(), IoError> {
        let output = self.outputs.get_mut(usize::from(at.region)).filter(|_| at.offset == 0);
        output.ok_or(IoError::Unclaimed)?.push(value as u8);
        Ok(())
    }
}

/// The POST code port. Region 0: 80h and its like, which show their last code. Region 1: a port of the user's choice,
/// whose codes are kept for whoever looks.
#[derive(Default)]
pub struct PostPort {
    code: u8,
    /// Codes of region 1 that nobody has taken yet.
    log: Vec<u8>,
}

impl PostPort {
    /// The device, showing code 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// The last code written.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// The codes written to region 1 since the last call.
    pub fn take_log(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.log)
    }
}

impl Device for PostPort {
    fn reset(&mut self, _cx: &mut Cx<'_>) {
        self.code = 0;
    }

    fn pio(&mut self) -> Option<&mut dyn PortIo> {
        Some(self)
    }
}

impl PortIo for PostPort {
    fn read(&mut self, _cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        let others = width.ones() & !0xff;
        (at.offset == 0).then_some(others | u64::from(self.code)).ok_or(IoError::Unclaimed)
    }

    fn write(&mut self, _cx: &mut Cx<'_>, at: At, _width: Width, value: u64) -> Result<(), IoError> {
        if at.offset != 0 {
            return Err(IoError::Unclaimed);
        }
        self.code = value as u8;
        if at.region == 1 {
            self.log.push(value as u8);
        }
        Ok(())
    }
}

mod saved {
    use super::{DebugCon, DebugExit, PostPort};
    use aero_state::{RestoreError, Saved, Section};
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct DebugExitStateV1;

    impl Saved for DebugExit {
        fn save(&self) -> Section {
            let Self = self;
            Section::new("debug-exit", 1, &DebugExitStateV1)
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            section.decode::<DebugExitStateV1>("debug-exit", 1).map(|DebugExitStateV1| ())
        }
    }

    #[derive(Serialize, Deserialize)]
    struct DebugConStateV2 {
        outputs: Vec<Vec<u8>>,
    }

    impl Saved for DebugCon {
        fn save(&self) -> Section {
            let Self { outputs } = self;
            Section::new("debugcon", 2, &DebugConStateV2 { outputs: outputs.clone() })
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let DebugConStateV2 { outputs } = section.decode("debugcon", 2)?;
            *self = Self { outputs };
            Ok(())
        }
    }

    #[derive(Serialize, Deserialize)]
    struct PostPortStateV2 {
        code: u8,
        log: Vec<u8>,
    }

    impl Saved for PostPort {
        fn save(&self) -> Section {
            let Self { code, log } = self;
            Section::new("post-port", 2, &PostPortStateV2 { code: *code, log: log.clone() })
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let PostPortStateV2 { code, log } = section.decode("post-port", 2)?;
            *self = Self { code, log };
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aero_bus::PowerRequest;
    use aero_bus::bench::{TestBoard, conformance};

    #[test]
    fn debug_ports_pass_the_conformance_suite() {
        conformance(&[0], |_| DebugExit::new());
        conformance(&[0, 1, 2], |_| DebugCon::new(2));
        conformance(&[0, 1], |_| PostPort::new());
    }

    #[test]
    fn exit_status_is_odd_and_twice_the_value() {
        let mut board = TestBoard::new();
        board.outb(&mut DebugExit::new(), 0, 0, 0x10);
        assert_eq!(board.fabric.take_request(), Some(PowerRequest::DebugExit(0x21)));
    }

    #[test]
    fn text_is_collected_and_the_port_is_recognised() {
        let (mut board, mut con) = (TestBoard::new(), DebugCon::new(2));
        b"ok\n".iter().for_each(|b| board.outb(&mut con, 0, 0, *b));
        board.outb(&mut con, 1, 0, b'!');
        assert_eq!((board.inb(&mut con, 1, 0), board.inb(&mut con, 2, 0)), (0xe9, 0xff));
        assert_eq!((&con.take_output(0)[..], &con.take_output(1)[..]), (&b"ok\n"[..], &b"!"[..]));
        assert!(con.take_output(0).is_empty() && con.take_output(9).is_empty());
    }

    #[test]
    fn post_code_reads_back() {
        let (mut board, mut post) = (TestBoard::new(), PostPort::new());
        board.outb(&mut post, 0, 0, 0x42);
        assert_eq!((post.code(), board.inb(&mut post, 0, 0)), (0x42, 0x42));
        assert!(post.take_log().is_empty());
        board.outb(&mut post, 1, 0, 0x43);
        board.outb(&mut post, 1, 0, 0x44);
        assert_eq!((post.code(), post.take_log()), (0x44, vec![0x43, 0x44]));
    }
}
