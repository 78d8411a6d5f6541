//! A board for device tests, and the suite that every device passes.

use crate::block::{BlockBackend, Completion, DriveId, MemoryDisk};
use crate::{At, Cx, Device, DeviceId, Fabric, IoError, IrqLine, Mmio, PortIo, TimerId, VmTime, Width};
use aero_mem::GuestMemory;

/// A fabric, 2 MiB of memory and 16 MiB of video memory, and one device's id.
pub struct TestBoard {
    /// Lines, timers, messages.
    pub fabric: Fabric,
    /// Guest memory.
    pub memory: GuestMemory,
    /// The drives, by their ids.
    pub disks: Vec<MemoryDisk>,
}

impl Default for TestBoard {
    fn default() -> Self {
        Self::new()
    }
}

impl TestBoard {
    /// An empty board at time 0.
    pub fn new() -> Self {
        let memory = GuestMemory::with_video(2 << 20, 1, &[], 16 << 20).expect("a test has 18 MiB");
        Self { fabric: Fabric::new(), memory, disks: Vec::new() }
    }

    /// A new interrupt line.
    pub fn line(&mut self) -> IrqLine {
        self.fabric.mint_line()
    }

    /// Puts a drive on the board.
    pub fn attach(&mut self, disk: MemoryDisk) -> DriveId {
        self.disks.push(disk);
        DriveId((self.disks.len() - 1) as u8)
    }

    /// Carries the device's requests to the drives, and their ends back, until it submits no more.
    pub fn serve(&mut self, device: &mut dyn Device) {
        while self.fabric.has_transfers() {
            for (_, request) in self.fabric.take_transfers() {
                let Some(disk) = self.disks.get_mut(usize::from(request.drive.0)) else { continue };
                disk.submit(0, request.operation);
                if let Some((_, result)) = disk.poll() {
                    let done = Completion { drive: request.drive, id: request.id, result };
                    device.complete(&mut self.cx(), done);
                }
            }
        }
    }

    /// The context of the device under test.
    pub fn cx(&mut self) -> Cx<'_> {
        Cx::new(&mut self.fabric, &mut self.memory, DeviceId(1))
    }

    /// Lets `ns` nanoseconds pass, delivering timers at their times.
    pub fn pass(&mut self, device: &mut dyn Device, ns: u64) {
        let end = self.fabric.now().after(ns);
        while let Some(at) = self.fabric.timers.next_deadline().filter(|at| *at <= end) {
            self.fabric.advance_to(at);
            if let Some((_, which)) = self.fabric.timers.take_due(at) {
                device.timer(&mut self.cx(), which);
            }
        }
        self.fabric.advance_to(end);
    }

    /// Reads a byte-wide port.
    pub fn inb(&mut self, device: &mut dyn PortIo, region: u8, offset: u64) -> u8 {
        device.read(&mut self.cx(), At::new(region, offset), Width::B1).unwrap_or(0xff) as u8
    }

    /// Writes a byte-wide port.
    pub fn outb(&mut self, device: &mut dyn PortIo, region: u8, offset: u64, value: u8) {
        let _ = device.write(&mut self.cx(), At::new(region, offset), Width::B1, value.into());
    }
}

/// The suite: saved state survives a round trip, two resets are one, and no access of any width at any offset panics.
/// `make` builds the device on a board; `regions` are the numbers of its regions.
pub fn conformance<D: Device>(regions: &[u8], mut make: impl FnMut(&mut TestBoard) -> D) {
    let mut board = TestBoard::new();
    let mut device = make(&mut board);
    device.reset(&mut board.cx());
    let once = device.save();
    device.reset(&mut board.cx());
    assert_eq!(device.save(), once, "two resets are one");

    scribble(&mut device, &mut board, regions);
    let saved = device.save();
    let mut twin = make(&mut TestBoard::new());
    twin.restore(&saved).expect("its own saved state");
    assert_eq!(twin.save(), saved, "save, restore, save is save");
    for which in 0..=u8::MAX {
        device.timer(&mut board.cx(), TimerId(which));
    }
    board.fabric.advance_to(VmTime(u64::MAX / 2));
    scribble(&mut device, &mut board, regions);
}

fn scribble<D: Device>(device: &mut D, board: &mut TestBoard, regions: &[u8]) {
    const VALUES: [u64; 6] = [0, 1, 0x36, 0x80, 0xff, u64::MAX];
    const WIDTHS: [Width; 4] = [Width::B1, Width::B2, Width::B4, Width::B8];
    for (at, width) in
        regions.iter().flat_map(|r| (0..512).map(|o| At::new(*r, o))).flat_map(|at| WIDTHS.map(|w| (at, w)))
    {
        for value in VALUES {
            let value = value & width.ones();
            let _: Option<Result<(), IoError>> =
                device.pio().map(|p| PortIo::write(p, &mut board.cx(), at, width, value));
            let _ = device.pio().map(|p| PortIo::read(p, &mut board.cx(), at, width));
            let _ = device.mmio().map(|m| Mmio::write(m, &mut board.cx(), at, width, value));
            let _ = device.mmio().map(|m| Mmio::read(m, &mut board.cx(), at, width));
        }
    }
}
