//! What devices have asked for and the machine has yet to do: plain data, so that a snapshot can hold it.

use crate::block::Request;
use crate::{DeviceId, TimerId, VmTime};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An interrupt line, minted by [`Fabric::mint_line`]. A device cannot make one up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct IrqLine(u16);

impl IrqLine {
    /// The line's number in the order of minting.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A line's level changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LineChange {
    /// Which line.
    pub line: IrqLine,
    /// Its level now.
    pub level: bool,
}

/// An interrupt message in the form of an MSI: the address says where to, the data what (Intel SDM vol. 3, 11.11).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ApicMessage {
    /// `0xFEExxxxx`: destination id in bits 19:12, redirection hint 3, logical mode 2.
    pub address: u64,
    /// Vector in bits 7:0, delivery mode 10:8, level 14, level-triggered 15.
    pub data: u32,
}

/// What a device asked of the whole machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PowerRequest {
    /// Reset everything.
    Reset,
    /// Switch off.
    Off,
    /// Stop with the guest's own exit status.
    DebugExit(u32),
}

/// Armed timers, ordered by deadline and, for equal deadlines, by when they were armed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerQueue {
    by_time: BTreeMap<(VmTime, u64), (DeviceId, TimerId)>,
    armed: BTreeMap<(DeviceId, TimerId), (VmTime, u64)>,
    sequence: u64,
}

impl TimerQueue {
    /// Arms a timer; an earlier arming of the same timer is forgotten.
    pub fn arm(&mut self, device: DeviceId, which: TimerId, deadline: VmTime) {
        self.cancel(device, which);
        self.sequence += 1;
        self.by_time.insert((deadline, self.sequence), (device, which));
        self.armed.insert((device, which), (deadline, self.sequence));
    }

    /// Disarms a timer.
    pub fn cancel(&mut self, device: DeviceId, which: TimerId) {
        if let Some(key) = self.armed.remove(&(device, which)) {
            self.by_time.remove(&key);
        }
    }

    /// When the next timer is due.
    pub fn next_deadline(&self) -> Option<VmTime> {
        self.by_time.first_key_value().map(|((at, _), _)| *at)
    }

    /// When one timer is due.
    pub fn deadline_of(&self, device: DeviceId, which: TimerId) -> Option<VmTime> {
        self.armed.get(&(device, which)).map(|(at, _)| *at)
    }

    /// Takes the first timer that is due at `now`, disarmed.
    pub fn take_due(&mut self, now: VmTime) -> Option<(DeviceId, TimerId)> {
        let (&key, &timer) = self.by_time.first_key_value().filter(|((at, _), _)| *at <= now)?;
        self.by_time.remove(&key);
        self.armed.remove(&timer);
        Some(timer)
    }
}

/// Lines, messages, timers and requests.
#[derive(Default)]
pub struct Fabric {
    now: VmTime,
    /// Armed timers.
    pub timers: TimerQueue,
    drivers: Vec<Vec<DeviceId>>,
    changes: Vec<LineChange>,
    messages: Vec<ApicMessage>,
    request: Option<PowerRequest>,
    /// Requests to drives, with who submitted them.
    transfers: Vec<(DeviceId, Request)>,
}

impl Fabric {
    /// A fabric with no lines, at time 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a line. Only the machine's builder calls this.
    pub fn mint_line(&mut self) -> IrqLine {
        self.drivers.push(Vec::new());
        IrqLine((self.drivers.len() - 1) as u16)
    }

    /// Virtual time.
    pub fn now(&self) -> VmTime {
        self.now
    }

    /// Moves virtual time forward; going back is ignored.
    pub fn advance_to(&mut self, now: VmTime) {
        self.now = self.now.max(now);
    }

    /// The level of a line.
    pub fn level(&self, line: IrqLine) -> bool {
        !self.drivers[line.index()].is_empty()
    }

    pub(crate) fn set_line(&mut self, line: IrqLine, device: DeviceId, level: bool) {
        let drivers = &mut self.drivers[line.index()];
        let before = !drivers.is_empty();
        drivers.retain(|d| *d != device);
        if level {
            drivers.push(device);
        }
        let after = !drivers.is_empty();
        if before != after {
            self.changes.push(LineChange { line, level: after });
        }
    }

    pub(crate) fn pulse_line(&mut self, line: IrqLine, device: DeviceId) {
        self.set_line(line, device, true);
        self.set_line(line, device, false);
    }

    pub(crate) fn send(&mut self, message: ApicMessage) {
        self.messages.push(message);
    }

    pub(crate) fn submit(&mut self, device: DeviceId, request: Request) {
        self.transfers.push((device, request));
    }

    /// Whether a request to a drive waits to be taken.
    #[inline]
    pub fn has_transfers(&self) -> bool {
        !self.transfers.is_empty()
    }

    /// Requests to drives since the last call, in order.
    pub fn take_transfers(&mut self) -> Vec<(DeviceId, Request)> {
        core::mem::take(&mut self.transfers)
    }

    /// What a device, or a processor, asks of the machine.
    pub fn request(&mut self, request: PowerRequest) {
        self.request = Some(request);
    }

    /// Whether anything waits to be drained.
    #[inline]
    pub fn has_work(&self) -> bool {
        !self.changes.is_empty()
            || !self.messages.is_empty()
            || self.request.is_some()
            || self.has_transfers()
    }

    /// Line changes since the last call, in order.
    pub fn take_line_changes(&mut self) -> Vec<LineChange> {
        core::mem::take(&mut self.changes)
    }

    /// Messages since the last call, in order.
    pub fn take_messages(&mut self) -> Vec<ApicMessage> {
        core::mem::take(&mut self.messages)
    }

    /// The last request for reset, power-off or exit.
    pub fn take_request(&mut self) -> Option<PowerRequest> {
        self.request.take()
    }

    /// Drops every level, timer, message and request: the machine is being reset. Time goes on.
    pub fn clear(&mut self) {
        let Self { now: _, timers, drivers, changes, messages, request, transfers } = self;
        *timers = TimerQueue::default();
        drivers.iter_mut().for_each(Vec::clear);
        changes.clear();
        messages.clear();
        *request = None;
        transfers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: DeviceId = DeviceId(1);
    const B: DeviceId = DeviceId(2);

    #[test]
    fn line_is_high_while_any_device_drives_it() {
        let mut f = Fabric::new();
        let line = f.mint_line();
        f.set_line(line, A, true);
        f.set_line(line, B, true);
        f.set_line(line, A, false);
        assert!(f.level(line));
        f.set_line(line, B, false);
        let levels: Vec<_> = f.take_line_changes().iter().map(|c| c.level).collect();
        assert_eq!(levels, [true, false]);
    }

    #[test]
    fn timers_come_in_order_of_deadline_then_of_arming() {
        let mut q = TimerQueue::default();
        q.arm(A, TimerId(0), VmTime(20));
        q.arm(B, TimerId(0), VmTime(10));
        q.arm(A, TimerId(1), VmTime(10));
        q.arm(A, TimerId(0), VmTime(5));
        q.cancel(A, TimerId(9));
        let order: Vec<_> = core::iter::from_fn(|| q.take_due(VmTime(15))).collect();
        assert_eq!(order, [(A, TimerId(0)), (B, TimerId(0)), (A, TimerId(1))]);
        assert_eq!(q.next_deadline(), None);
    }

    #[test]
    fn timer_not_yet_due_stays() {
        let mut q = TimerQueue::default();
        q.arm(A, TimerId(0), VmTime(20));
        assert_eq!(q.take_due(VmTime(19)), None);
        assert_eq!(q.next_deadline(), Some(VmTime(20)));
    }
}
