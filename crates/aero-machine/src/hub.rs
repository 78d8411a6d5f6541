//! Requests to drives on their way between devices and backends.
//!
//! A device's request waits in the fabric until the device's call is over. At the next boundary of the run loop the hub gives
//! it a *ticket* and hands it to the drive's backend; whatever backends have finished goes back to the device that asked.
//!
//! With the host's clock an end is delivered as soon as it is there, and before the processor goes on if the backend was done
//! at once. With the clock `icount` the host's speed must not show: every request is *due* a fixed virtual time
//! after it was submitted, ends are delivered in the order in which they are due, and a machine whose due request the host has
//! not finished waits for it ([`Exit::WaitIo`](crate::Exit::WaitIo)).

use aero_bus::block::{BlockBackend, BlockError, Completion, DriveId, Operation, Request};
use aero_bus::{DeviceId, VmTime};
use std::collections::BTreeMap;

/// Virtual time that a request takes at least, with the clock `icount`: a fast disk's.
const LATENCY_NS: u64 = 50_000;
/// And for each KiB of it: 1 GiB/s.
const NS_PER_KIB: u64 = 1_000;

/// A request that a device has submitted and not got back.
struct Flight {
    device: DeviceId,
    drive: DriveId,
    id: aero_bus::block::RequestId,
    /// When its end may be delivered; `None` with the host's clock.
    due: Option<VmTime>,
    result: Option<Result<Vec<u8>, BlockError>>,
}

/// What a drive has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DriveTally {
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
    /// Requests.
    pub requests: u64,
}

/// Drives and the requests under way. A drive without a medium has no backend.
pub(crate) struct Hub {
    drives: Vec<Option<Box<dyn BlockBackend>>>,
    tallies: Vec<DriveTally>,
    /// By ticket, which is the order of submission.
    flights: BTreeMap<u64, Flight>,
    next_ticket: u64,
    /// Whether ends are delivered by virtual time.
    timed: bool,
}

impl Hub {
    pub fn new(drives: Vec<Option<Box<dyn BlockBackend>>>, timed: bool) -> Self {
        let tallies = vec![DriveTally::default(); drives.len()];
        Self { drives, tallies, flights: BTreeMap::new(), next_ticket: 0, timed }
    }

    /// Whether no request is under way.
    pub fn is_idle(&self) -> bool {
        self.flights.is_empty()
    }

    /// What each drive has moved.
    pub fn tallies(&self) -> &[DriveTally] {
        &self.tallies
    }

    /// Puts another backend into a drive, or none. What was under way on the old one fails.
    pub fn change(&mut self, drive: DriveId, backend: Option<Box<dyn BlockBackend>>) {
        self.poll();
        for flight in self.flights.values_mut().filter(|f| f.drive == drive) {
            flight.result.get_or_insert(Err(BlockError::Medium));
        }
        if let Some(slot) = self.drives.get_mut(usize::from(drive.0)) {
            *slot = backend;
        }
    }

    /// Takes a device's request.
    pub fn submit(&mut self, now: VmTime, device: DeviceId, request: Request) {
        let Request { drive, id, operation } = request;
        let bytes = operation.extent().map_or(0, |(_, bytes)| bytes);
        let moved =
            if matches!(operation, Operation::Read { .. } | Operation::Write { .. }) { bytes } else { 0 };
        let due = self.timed.then(|| now.after(LATENCY_NS + moved.div_ceil(1024) * NS_PER_KIB));
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        if let Some(tally) = self.tallies.get_mut(usize::from(drive.0)) {
            tally.requests += 1;
            let way = if operation.writes() { &mut tally.written } else { &mut tally.read };
            *way += moved;
        }
        let result = match self.drives.get_mut(usize::from(drive.0)) {
            Some(Some(backend)) => match backend.medium().check(&operation) {
                Ok(()) => {
                    backend.submit(ticket, operation);
                    None
                }
                Err(error) => Some(Err(error)),
            },
            _ => Some(Err(BlockError::Medium)),
        };
        self.flights.insert(ticket, Flight { device, drive, id, due, result });
    }

    /// Takes from the backends what has ended.
    fn poll(&mut self) {
        for backend in self.drives.iter_mut().flatten() {
            while let Some((ticket, result)) = backend.poll() {
                if let Some(flight) = self.flights.get_mut(&ticket) {
                    flight.result.get_or_insert(result);
                }
            }
        }
    }

    /// The first request that is due by virtual time, and when.
    fn first_due(&self) -> Option<(VmTime, u64)> {
        self.flights.iter().filter_map(|(ticket, flight)| Some((flight.due?, *ticket))).min()
    }

    /// When the next end is to be delivered, with the clock `icount`.
    pub fn next_deadline(&self) -> Option<VmTime> {
        if self.timed { self.first_due().map(|(due, _)| due) } else { None }
    }

    /// Whether the next end is due and the host has not got there.
    pub fn is_waiting(&self, now: VmTime) -> bool {
        self.timed
            && self
                .first_due()
                .is_some_and(|(due, ticket)| due <= now && self.flights[&ticket].result.is_none())
    }

    /// The next end for a device.
    pub fn take_done(&mut self, now: VmTime) -> Option<(DeviceId, Completion)> {
        if self.flights.is_empty() {
            return None;
        }
        self.poll();
        let ticket = if self.timed {
            let (due, ticket) = self.first_due()?;
            (due <= now && self.flights[&ticket].result.is_some()).then_some(ticket)?
        } else {
            *self.flights.iter().find(|(_, flight)| flight.result.is_some())?.0
        };
        let Flight { device, drive, id, result, .. } = self.flights.remove(&ticket)?;
        Some((device, Completion { drive, id, result: result? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aero_bus::block::{Medium, MemoryDisk, RequestId};
    use std::cell::Cell;
    use std::rc::Rc;

    const A: DeviceId = DeviceId(1);

    /// A drive that finishes nothing before it is told to.
    struct Slow(MemoryDisk, Rc<Cell<bool>>);

    impl BlockBackend for Slow {
        fn medium(&self) -> Medium {
            self.0.medium()
        }
        fn submit(&mut self, ticket: u64, operation: Operation) {
            self.0.submit(ticket, operation);
        }
        fn poll(&mut self) -> Option<aero_bus::block::Outcome> {
            self.1.get().then(|| self.0.poll())?
        }
    }

    fn slow(timed: bool) -> (Hub, Rc<Cell<bool>>) {
        let done = Rc::new(Cell::new(false));
        let disk = Slow(MemoryDisk::new(vec![7; 1024], true), done.clone());
        (Hub::new(vec![Some(Box::new(disk)), None], timed), done)
    }

    fn read(drive: u8, id: u32, offset: u64) -> Request {
        Request { drive: DriveId(drive), id: RequestId(id), operation: Operation::Read { offset, len: 512 } }
    }

    #[test]
    fn end_comes_as_soon_as_the_host_has_it() {
        let (mut hub, done) = slow(false);
        hub.submit(VmTime(0), A, read(0, 9, 0));
        assert_eq!((hub.take_done(VmTime(0)), hub.next_deadline()), (None, None));
        done.set(true);
        let (device, end) = hub.take_done(VmTime(0)).expect("done");
        assert_eq!((device, end.id, end.result), (A, RequestId(9), Ok(vec![7; 512])));
        assert!(hub.is_idle());
    }

    #[test]
    fn timed_end_comes_when_it_is_due_however_fast_the_host() {
        let (mut hub, done) = slow(true);
        hub.submit(VmTime(100), A, read(0, 1, 0));
        let due = hub.next_deadline().expect("due");
        assert!(!hub.is_waiting(VmTime(due.0 - 1)) && hub.is_waiting(due));
        assert_eq!(hub.take_done(due), None);
        done.set(true);
        assert_eq!(hub.take_done(VmTime(due.0 - 1)), None);
        assert!(hub.take_done(due).is_some());
    }

    #[test]
    fn request_beyond_the_medium_or_to_an_empty_drive_fails() {
        let (mut hub, _) = slow(false);
        for (request, error) in [
            (read(0, 1, 1024), BlockError::OutOfRange),
            (read(1, 2, 0), BlockError::Medium),
            (read(9, 3, 0), BlockError::Medium),
        ] {
            hub.submit(VmTime(0), A, request);
            assert_eq!(hub.take_done(VmTime(0)).expect("done").1.result, Err(error));
        }
    }

    #[test]
    fn medium_taken_out_fails_what_is_under_way() {
        let (mut hub, _) = slow(true);
        hub.submit(VmTime(0), A, read(0, 1, 0));
        hub.change(DriveId(0), None);
        let due = hub.next_deadline().expect("due");
        assert_eq!(hub.take_done(due).expect("done").1.result, Err(BlockError::Medium));
    }
}
