//! What a device may do to the world, lent for one call.

use crate::block::{DriveId, Operation, Request, RequestId};
use crate::{ApicMessage, DeviceId, Fabric, IrqLine, PowerRequest, TimerId, VmTime};
use aero_mem::{Gpa, GuestMemory, Unmapped};

/// A device's only way out.
pub struct Cx<'a> {
    fabric: &'a mut Fabric,
    memory: &'a mut GuestMemory,
    device: DeviceId,
}

impl<'a> Cx<'a> {
    /// Lends the world to `device`.
    pub fn new(fabric: &'a mut Fabric, memory: &'a mut GuestMemory, device: DeviceId) -> Self {
        Self { fabric, memory, device }
    }

    /// Virtual time of the instruction or event under way.
    pub fn now(&self) -> VmTime {
        self.fabric.now()
    }

    /// Drives a line. Lines are wire-OR: a line is high while any device drives it high.
    pub fn set_irq(&mut self, line: IrqLine, level: bool) {
        self.fabric.set_line(line, self.device, level);
    }

    /// A rising and a falling edge on a line that this device does not hold.
    pub fn pulse_irq(&mut self, line: IrqLine) {
        self.fabric.pulse_line(line, self.device);
    }

    /// Sends an interrupt message to the local APICs (MSI, or the I/O APIC's own).
    pub fn message(&mut self, message: ApicMessage) {
        self.fabric.send(message);
    }

    /// Arms timer `which` of this device for `deadline`, in place of what it was armed for.
    pub fn arm(&mut self, which: TimerId, deadline: VmTime) {
        self.fabric.timers.arm(self.device, which, deadline);
    }

    /// Disarms timer `which` of this device.
    pub fn cancel(&mut self, which: TimerId) {
        self.fabric.timers.cancel(self.device, which);
    }

    /// Asks for the whole machine to be reset after this call.
    pub fn request_reset(&mut self) {
        self.fabric.request(PowerRequest::Reset);
    }

    /// Asks for the machine to be switched off after this call.
    pub fn request_power_off(&mut self) {
        self.fabric.request(PowerRequest::Off);
    }

    /// Ends the run with a status that the guest chose (the `isa-debug-exit` device).
    pub fn request_exit(&mut self, status: u32) {
        self.fabric.request(PowerRequest::DebugExit(status));
    }

    /// Sends a request to a drive; its end comes to [`Device::complete`](crate::Device::complete) under this `id`.
    pub fn submit(&mut self, drive: DriveId, id: RequestId, operation: Operation) {
        self.fabric.submit(self.device, Request { drive, id, operation });
    }

    /// Reads guest memory.
    ///
    /// # Errors
    /// When a byte is not RAM.
    pub fn dma_read(&self, gpa: Gpa, into: &mut [u8]) -> Result<(), Unmapped> {
        self.memory.read(gpa, into)
    }

    /// Writes guest memory.
    ///
    /// # Errors
    /// When a byte is not RAM.
    pub fn dma_write(&mut self, gpa: Gpa, from: &[u8]) -> Result<(), Unmapped> {
        self.memory.write(gpa, from)
    }

    /// Guest memory, for the card whose video memory lies in it and who says where guests see it.
    pub fn memory(&mut self) -> &mut GuestMemory {
        self.memory
    }
}
