//! The device of test kernels, as QEMU's `pc-testdev`: ports and memory that keep what is written, and a hand on
//! every interrupt line.
//!
//! | region | where | what |
//! |---|---|---|
//! | 0 | E0h–E3h | four bytes of storage, at any width |
//! | 1 | E4h–E7h | a dword names a page whose translation a hypervisor is to drop; there is nothing to drop here |
//! | 2 | E8h–EBh | four bytes of storage, a byte at a time |
//! | 3 | 2000h–2017h | the level of interrupt line *n*: any value but 0 raises it |
//! | 4 | 64 KiB of memory | storage, at any width |

use aero_bus::{At, Cx, Device, IoError, IrqLine, Mmio, PortIo, Width};

/// Sizes.
mod spec {
    pub const STORAGE: usize = 4;
    pub const LINES: usize = 24;
    pub const MEMORY: usize = 64 << 10;
    /// Bytes of [`MEMORY`], as the machine places it.
    pub const MEMORY_SIZE: u64 = MEMORY as u64;
}

/// Bytes of region 4.
pub use spec::MEMORY_SIZE;
use spec::*;

/// The region of memory.
pub const REGION_MEMORY: u8 = 4;

/// The device.
pub struct TestDevice {
    /// The board's interrupt lines by global number; `None` where the board has no such line.
    lines: [Option<IrqLine>; LINES],
    wide: [u8; STORAGE],
    bytes: [u8; STORAGE],
    memory: Vec<u8>,
}

impl TestDevice {
    /// A device with its hands on `lines`, all of them down.
    pub fn new(lines: [Option<IrqLine>; LINES]) -> Self {
        Self { lines, wide: [0; STORAGE], bytes: [0; STORAGE], memory: vec![0; MEMORY] }
    }

    fn storage(&mut self, at: At, width: Width) -> Result<&mut [u8], IoError> {
        let all = match at.region {
            0 => &mut self.wide[..],
            2 => &mut self.bytes[..],
            REGION_MEMORY => &mut self.memory[..],
            _ => return Err(IoError::Unclaimed),
        };
        let start = usize::try_from(at.offset).map_err(|_| IoError::Unclaimed)?;
        let end = start.saturating_add(width.bytes() as usize).min(all.len());
        all.get_mut(start..end).filter(|bytes| !bytes.is_empty()).ok_or(IoError::Unclaimed)
    }

    fn load(&mut self, at: At, width: Width) -> Result<u64, IoError> {
        let bytes = self.storage(at, width)?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn store(&mut self, at: At, width: Width, value: u64) -> Result<(), IoError> {
        let bytes = self.storage(at, width)?;
        bytes.iter_mut().zip(value.to_le_bytes()).for_each(|(to, from)| *to = from);
        Ok(())
    }
}

impl Device for TestDevice {
    fn reset(&mut self, cx: &mut Cx<'_>) {
        self.lines.iter().flatten().for_each(|line| cx.set_irq(*line, false));
        *self = Self::new(self.lines);
    }

    fn pio(&mut self) -> Option<&mut dyn PortIo> {
        Some(self)
    }

    fn mmio(&mut self) -> Option<&mut dyn Mmio> {
        Some(self)
    }
}

impl PortIo for TestDevice {
    fn read(&mut self, _cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        match at.region {
            REGION_MEMORY => Err(IoError::Unclaimed),
            1 | 3 => Ok(0),
            _ => self.load(at, width),
        }
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError> {
        match at.region {
            REGION_MEMORY => return Err(IoError::Unclaimed),
            1 => {}
            3 => {
                let line = self.lines.get(at.offset as usize).ok_or(IoError::Unclaimed)?;
                line.iter().for_each(|line| cx.set_irq(*line, value != 0));
            }
            _ => return self.store(at, width, value),
        }
        Ok(())
    }
}

impl Mmio for TestDevice {
    fn read(&mut self, _cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        if at.region == REGION_MEMORY { self.load(at, width) } else { Err(IoError::Unclaimed) }
    }

    fn write(&mut self, _cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError> {
        if at.region == REGION_MEMORY { self.store(at, width, value) } else { Err(IoError::Unclaimed) }
    }
}

mod saved {
    use super::{MEMORY, STORAGE, TestDevice};
    use aero_state::{RestoreError, Saved, Section};
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct TestDeviceStateV1 {
        wide: [u8; STORAGE],
        bytes: [u8; STORAGE],
        memory: Vec<u8>,
    }

    impl Saved for TestDevice {
        fn save(&self) -> Section {
            // The levels of the lines are the fabric's.
            let Self { lines: _, wide, bytes, memory } = self;
            let state = TestDeviceStateV1 { wide: *wide, bytes: *bytes, memory: memory.clone() };
            Section::new("test-device", 1, &state)
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let TestDeviceStateV1 { wide, bytes, memory } = section.decode("test-device", 1)?;
            if memory.len() != MEMORY {
                return Err(RestoreError::Damaged { kind: "test-device" });
            }
            *self = Self { lines: self.lines, wide, bytes, memory };
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aero_bus::bench::{TestBoard, conformance};

    fn device(board: &mut TestBoard) -> TestDevice {
        TestDevice::new(core::array::from_fn(|n| (n != 23).then(|| board.line())))
    }

    #[test]
    fn test_device_passes_the_conformance_suite() {
        conformance(&[0, 1, 2, 3, 4, 5], device);
    }

    #[test]
    fn ports_keep_what_is_written_at_any_width() {
        let mut board = TestBoard::new();
        let mut device = device(&mut board);
        PortIo::write(&mut device, &mut board.cx(), At::new(0, 0), Width::B4, 0x1234_5678).unwrap();
        board.outb(&mut device, 0, 1, 0xab);
        assert_eq!(PortIo::read(&mut device, &mut board.cx(), At::new(0, 0), Width::B4), Ok(0x1234_ab78));
        assert_eq!(PortIo::read(&mut device, &mut board.cx(), At::new(0, 2), Width::B2), Ok(0x1234));
    }

    #[test]
    fn memory_keeps_what_is_written_and_ends() {
        let mut board = TestBoard::new();
        let mut device = device(&mut board);
        let at = At::new(REGION_MEMORY, 0xfffc);
        Mmio::write(&mut device, &mut board.cx(), at, Width::B4, 0xdead_beef).unwrap();
        assert_eq!(Mmio::read(&mut device, &mut board.cx(), at, Width::B8), Ok(0xdead_beef));
        let beyond = At::new(REGION_MEMORY, 0x1_0000);
        assert_eq!(Mmio::read(&mut device, &mut board.cx(), beyond, Width::B1), Err(IoError::Unclaimed));
    }

    #[test]
    fn port_of_a_line_sets_its_level() {
        let mut board = TestBoard::new();
        let mut device = device(&mut board);
        let line = device.lines[14].expect("a line");
        board.outb(&mut device, 3, 14, 1);
        assert!(board.fabric.level(line));
        board.outb(&mut device, 3, 14, 0);
        assert!(!board.fabric.level(line));
        board.outb(&mut device, 3, 23, 1);
    }
}
