//! Administration: identity, queues, features, logs and events. (5)
//!
//! Formatting, firmware, security and namespace management are not offered in "optional admin commands", and are
//! invalid opcodes.

use super::queue::{Command, CompletionQueue, Pages, Status, Submission};
use super::spec::*;
use super::{Fate, Nvme};
use aero_bus::Cx;
use aero_bus::block::SECTOR;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Feature identifiers. (5.21.1)
mod feature {
    pub const ARBITRATION: u8 = 0x01;
    pub const POWER: u8 = 0x02;
    pub const TEMPERATURE: u8 = 0x04;
    pub const ERROR_RECOVERY: u8 = 0x05;
    pub const WRITE_CACHE: u8 = 0x06;
    pub const QUEUES: u8 = 0x07;
    pub const COALESCING: u8 = 0x08;
    pub const VECTOR: u8 = 0x09;
    pub const ATOMICITY: u8 = 0x0a;
    pub const EVENTS: u8 = 0x0b;
}

/// What software has set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Features {
    arbitration: u32,
    /// Temperature thresholds in kelvins: over, under.
    thresholds: [u16; 2],
    error_recovery: u32,
    pub(super) write_cache: bool,
    /// I/O queues that software may make, zero-based: submission, completion.
    queues: [u16; 2],
    /// Kept as a wish only: interrupts are gathered by call anyway.
    coalescing: u32,
    /// Vectors exempt from that, a bit each.
    uncoalesced: u64,
    atomicity: u32,
    events: u32,
}

impl Default for Features {
    fn default() -> Self {
        Self {
            arbitration: 0,
            thresholds: [WARNING_TEMPERATURE, 0],
            error_recovery: 0,
            write_cache: true,
            queues: [IO_QUEUES - 1; 2],
            coalescing: 0,
            uncoalesced: 0,
            atomicity: 0,
            events: 0,
        }
    }
}

impl Features {
    pub(super) fn is_sane(&self) -> bool {
        self.queues.iter().all(|n| *n < IO_QUEUES)
    }

    /// Dword 0 of "get features" for a feature; dword 11 chooses among several of a kind.
    fn get(&self, id: u8, which: u32) -> Result<u32, Status> {
        Ok(match id {
            feature::ARBITRATION => self.arbitration,
            feature::POWER => 0,
            feature::TEMPERATURE => u32::from(self.thresholds[threshold(which)?]),
            feature::ERROR_RECOVERY => self.error_recovery,
            feature::WRITE_CACHE => self.write_cache.into(),
            feature::QUEUES => u32::from(self.queues[0]) | u32::from(self.queues[1]) << 16,
            feature::COALESCING => self.coalescing,
            feature::VECTOR => {
                let vector = which & 0xffff;
                if vector >= QUEUES as u32 {
                    return Err(Status::INVALID_FIELD);
                }
                vector | ((self.uncoalesced >> vector & 1) as u32) << 16
            }
            feature::ATOMICITY => self.atomicity,
            feature::EVENTS => self.events,
            _ => return Err(Status::INVALID_FIELD),
        })
    }

    /// Sets a feature from dword 11; the result of the command.
    fn set(&mut self, id: u8, value: u32) -> Result<u32, Status> {
        match id {
            feature::ARBITRATION => self.arbitration = value,
            // There is one power state.
            feature::POWER if value & 0x1f == 0 => {}
            feature::TEMPERATURE => self.thresholds[threshold(value)?] = value as u16,
            feature::ERROR_RECOVERY => self.error_recovery = value & 0xffff,
            feature::WRITE_CACHE => self.write_cache = value & 1 != 0,
            feature::COALESCING => self.coalescing = value & 0xffff,
            feature::VECTOR => {
                let vector = value & 0xffff;
                self.get(id, vector)?;
                let bit = u64::from(value >> 16 & 1) << vector;
                self.uncoalesced = self.uncoalesced & !(1 << vector) | bit;
            }
            feature::ATOMICITY => self.atomicity = value & 1,
            feature::EVENTS => self.events = value & 0x1f,
            feature::QUEUES => return self.allot([value, value >> 16].map(|n| n as u16)),
            _ => return Err(Status::INVALID_FIELD),
        }
        Ok(0)
    }

    fn allot(&mut self, wanted: [u16; 2]) -> Result<u32, Status> {
        if wanted.contains(&0xffff) {
            return Err(Status::INVALID_FIELD);
        }
        self.queues = wanted.map(|n| n.min(IO_QUEUES - 1));
        self.get(feature::QUEUES, 0)
    }

    /// SMART warnings: the temperature is beyond a threshold. (5.14.1.2)
    fn warnings(&self) -> u8 {
        let [over, under] = self.thresholds;
        if TEMPERATURE >= over || TEMPERATURE <= under { 2 } else { 0 }
    }
}

/// Which threshold dword 11 means: the composite temperature's over (0) or under (1); all sensors is that one too.
fn threshold(value: u32) -> Result<usize, Status> {
    let (sensor, kind) = (value >> 16 & 15, value >> 20 & 3);
    let known = (sensor == 0 || sensor == 15) && kind < 2;
    known.then_some(kind as usize).ok_or(Status::INVALID_FIELD)
}

/// Something that software is told of without asking. (5.2)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Event {
    kind: u8,
    info: u8,
    log: u8,
}

impl Event {
    pub(super) const INVALID_DOORBELL: Self = Self { kind: 0, info: 0, log: LOG_ERROR };
    pub(super) const INVALID_DOORBELL_VALUE: Self = Self { kind: 0, info: 1, log: LOG_ERROR };
    const TEMPERATURE: Self = Self { kind: 1, info: 1, log: LOG_SMART };
}

/// Events, and the commands that wait for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Events {
    requests: VecDeque<u16>,
    unreported: Vec<Event>,
    /// Kinds that stay silent until software reads their log, a bit each.
    silent: u8,
}

impl Events {
    /// Remembers `event`, once.
    pub(super) fn report(&mut self, event: Event) {
        if !self.unreported.contains(&event) {
            self.unreported.push(event);
        }
    }

    /// The next event that may be told, with the command that waits for it.
    fn next(&mut self) -> Option<(u16, Event)> {
        let at = self.unreported.iter().position(|e| self.silent >> e.kind & 1 == 0)?;
        let request = self.requests.pop_front()?;
        let event = self.unreported.remove(at);
        self.silent |= 1 << event.kind;
        Some((request, event))
    }

    fn log_was_read(&mut self, log: u8) {
        let kind = [(LOG_ERROR, 0), (LOG_SMART, 1)].iter().find(|(l, _)| *l == log);
        kind.into_iter().for_each(|(_, kind)| self.silent &= !(1 << kind));
    }
}

/// An entry of the error log. (5.14.1.1)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mistake {
    count: u64,
    sq: u16,
    id: u16,
    status: Status,
    lba: u64,
    namespace: u32,
}

/// What the log pages tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Log {
    mistakes: VecDeque<Mistake>,
    count: u64,
    sectors_read: u64,
    sectors_written: u64,
    reads: u64,
    writes: u64,
}

impl Log {
    pub(super) fn error(&mut self, sq: u16, id: u16, status: Status, namespace: u32, lba: u64) {
        self.count += 1;
        self.mistakes.truncate(ERROR_ENTRIES - 1);
        self.mistakes.push_front(Mistake { count: self.count, sq, id, status, lba, namespace });
    }

    pub(super) fn count_read(&mut self, bytes: u32) {
        self.reads += 1;
        self.sectors_read += u64::from(bytes) / SECTOR;
    }

    pub(super) fn count_write(&mut self, bytes: u32) {
        self.writes += 1;
        self.sectors_written += u64::from(bytes) / SECTOR;
    }

    fn errors(&self) -> Vec<u8> {
        let mut page = vec![0; ERROR_ENTRIES * 64];
        for (entry, m) in page.chunks_exact_mut(64).zip(&self.mistakes) {
            entry[..8].copy_from_slice(&m.count.to_le_bytes());
            entry[8..10].copy_from_slice(&m.sq.to_le_bytes());
            entry[10..12].copy_from_slice(&m.id.to_le_bytes());
            entry[12..14].copy_from_slice(&(m.status.with_more().0 << 1).to_le_bytes());
            entry[16..24].copy_from_slice(&m.lba.to_le_bytes());
            entry[24..28].copy_from_slice(&m.namespace.to_le_bytes());
        }
        page
    }

    fn smart(&self, warnings: u8) -> Vec<u8> {
        let mut page = vec![0; 512];
        page[0] = warnings;
        page[1..3].copy_from_slice(&TEMPERATURE.to_le_bytes());
        // Spare capacity in percent, and below what it would be a warning.
        (page[3], page[4]) = (100, 10);
        let mut put = |at: usize, value: u64| page[at..at + 8].copy_from_slice(&value.to_le_bytes());
        // Units of a thousand sectors, rounded up.
        put(32, self.sectors_read.div_ceil(1000));
        put(48, self.sectors_written.div_ceil(1000));
        put(64, self.reads);
        put(80, self.writes);
        put(112, 1);
        put(176, self.count);
        page
    }
}

fn firmware_log() -> Vec<u8> {
    let mut page = vec![0; 512];
    page[0] = 1;
    page[8..16].copy_from_slice(FIRMWARE);
    page
}

const FIRMWARE: &[u8; 8] = b"1.0     ";
const MODEL: &str = "Aero NVMe Disk";

impl Nvme {
    /// Does a command of the admin queue.
    pub(super) fn administer(&mut self, cx: &mut Cx<'_>, command: &Command) -> Result<Fate, Status> {
        if !command.is_plain() {
            return Err(Status::INVALID_FIELD);
        }
        let done = |()| Fate::Done(0);
        match command.opcode() {
            DELETE_SQ => self.delete_submission(cx, command).map(done),
            CREATE_SQ => self.create_submission(command).map(done),
            GET_LOG_PAGE => self.get_log(cx, command).map(done),
            DELETE_CQ => self.delete_completion(cx, command).map(done),
            CREATE_CQ => self.create_completion(command).map(done),
            IDENTIFY => self.identify(cx, command).map(done),
            ABORT => Ok(Fate::Done(self.abort(cx, command))),
            SET_FEATURES => self.set_feature(cx, command).map(Fate::Done),
            GET_FEATURES => self.get_feature(command).map(Fate::Done),
            ASYNC_EVENT => self.await_event(cx, command),
            _ => Err(Status::INVALID_OPCODE),
        }
    }

    /// Copies what a command asked for to where it wants it.
    fn give(&self, cx: &mut Cx<'_>, command: &Command, bytes: &[u8]) -> Result<(), Status> {
        let mut pages = Pages::default();
        pages.follow(cx, self.registers.page(), command, bytes.len() as u32)?;
        pages.write(cx, bytes)
    }

    // Queues. (5.3 to 5.6)

    /// The id, size and address of a queue to be made; `allotted` is how many of its kind there may be, zero-based.
    fn new_queue(&self, command: &Command, allotted: u16) -> Result<(u16, u32, u64), Status> {
        let (id, last) = (command.dword(10) as u16, command.dword(10) >> 16);
        if id == 0 || id > allotted + 1 {
            return Err(Status::QUEUE_ID);
        }
        if last == 0 || last >= MAX_ENTRIES {
            return Err(Status::QUEUE_SIZE);
        }
        // Physically contiguous: CAP says that nothing else goes.
        if command.dword(11) & 1 == 0 {
            return Err(Status::INVALID_FIELD);
        }
        if !command.prp1().is_multiple_of(self.registers.page()) {
            return Err(Status::PRP_OFFSET);
        }
        Ok((id, last + 1, command.prp1()))
    }

    fn create_completion(&mut self, command: &Command) -> Result<(), Status> {
        let (id, size, base) = self.new_queue(command, self.features.queues[1])?;
        let place = &mut self.completions[usize::from(id)];
        if place.is_some() {
            return Err(Status::QUEUE_ID);
        }
        // Entries of 16 bytes: CC.IOCQES.
        if self.registers.cc >> 20 & 15 != 4 {
            return Err(Status::QUEUE_SIZE);
        }
        let (interrupts, vector) = (command.dword(11) & 2 != 0, (command.dword(11) >> 16) as u16);
        if usize::from(vector) >= QUEUES {
            return Err(Status::VECTOR);
        }
        *place = Some(CompletionQueue::new(base, size, interrupts, vector));
        Ok(())
    }

    fn create_submission(&mut self, command: &Command) -> Result<(), Status> {
        let (id, size, base) = self.new_queue(command, self.features.queues[0])?;
        let cq = (command.dword(11) >> 16) as u16;
        if self.submissions[usize::from(id)].is_some() {
            return Err(Status::QUEUE_ID);
        }
        // Entries of 64 bytes: CC.IOSQES.
        if self.registers.cc >> 16 & 15 != 6 {
            return Err(Status::QUEUE_SIZE);
        }
        if cq == 0 || self.completions.get(usize::from(cq)).is_none_or(Option::is_none) {
            return Err(Status::CQ_INVALID);
        }
        self.submissions[usize::from(id)] = Some(Submission::new(base, size, cq));
        Ok(())
    }

    fn delete_submission(&mut self, cx: &mut Cx<'_>, command: &Command) -> Result<(), Status> {
        let id = command.dword(10) as u16;
        if id == 0 || self.submissions.get(usize::from(id)).is_none_or(Option::is_none) {
            return Err(Status::QUEUE_ID);
        }
        self.abandon(cx, id);
        self.submissions[usize::from(id)] = None;
        Ok(())
    }

    fn delete_completion(&mut self, cx: &mut Cx<'_>, command: &Command) -> Result<(), Status> {
        let id = command.dword(10) as u16;
        if id == 0 || self.completions.get(usize::from(id)).is_none_or(Option::is_none) {
            return Err(Status::QUEUE_ID);
        }
        if self.submissions.iter().flatten().any(|s| s.cq == id) {
            return Err(Status::QUEUE_DELETION);
        }
        self.completions[usize::from(id)] = None;
        self.drive_pin(cx);
        Ok(())
    }

    /// What is under way at the drive is past recall; an event request is not. (5.1)
    fn abort(&mut self, cx: &mut Cx<'_>, command: &Command) -> u32 {
        let (sq, id) = (command.dword(10) as u16, (command.dword(10) >> 16) as u16);
        let Some(at) = self.events.requests.iter().position(|r| sq == 0 && *r == id) else { return 1 };
        self.events.requests.remove(at);
        self.post(cx, 0, id, 0, Status::ABORTED);
        0
    }

    // Features.

    fn set_feature(&mut self, cx: &mut Cx<'_>, command: &Command) -> Result<u32, Status> {
        let (id, value) = (command.dword(10) as u8, command.dword(11));
        if command.dword(10) >> 31 != 0 {
            return Err(Status::NOT_SAVEABLE);
        }
        let made = self.submissions[1..].iter().any(Option::is_some)
            || self.completions[1..].iter().any(Option::is_some);
        if id == feature::QUEUES && made {
            return Err(Status::SEQUENCE);
        }
        let result = self.features.set(id, value)?;
        // Bit 1 of the event configuration is the same bit as in the SMART warnings. (5.21.1.11)
        if matches!(id, feature::TEMPERATURE | feature::EVENTS)
            && self.features.warnings() & self.features.events as u8 != 0
        {
            self.events.report(Event::TEMPERATURE);
            self.deliver_events(cx);
        }
        Ok(result)
    }

    fn get_feature(&self, command: &Command) -> Result<u32, Status> {
        /// Capabilities: it can be changed.
        const CHANGEABLE: u32 = 4;
        let (id, select, which) = (command.dword(10) as u8, command.dword(10) >> 8 & 7, command.dword(11));
        match select {
            0 => self.features.get(id, which),
            // None is saved, so the saved ones are the defaults.
            1 | 2 => Features::default().get(id, which),
            3 => self.features.get(id, which).map(|_| CHANGEABLE),
            _ => Err(Status::INVALID_FIELD),
        }
    }

    // Events.

    fn await_event(&mut self, cx: &mut Cx<'_>, command: &Command) -> Result<Fate, Status> {
        if self.events.requests.len() == EVENT_REQUESTS {
            return Err(Status::EVENT_LIMIT);
        }
        self.events.requests.push_back(command.id());
        self.deliver_events(cx);
        Ok(Fate::Later)
    }

    pub(super) fn deliver_events(&mut self, cx: &mut Cx<'_>) {
        while let Some((request, event)) = self.events.next() {
            let result = u32::from(event.kind) | u32::from(event.info) << 8 | u32::from(event.log) << 16;
            self.post(cx, 0, request, result, Status::OK);
        }
    }

    // Logs. (5.14)

    fn get_log(&mut self, cx: &mut Cx<'_>, command: &Command) -> Result<(), Status> {
        let (id, retain) = (command.dword(10) as u8, command.dword(10) & 1 << 15 != 0);
        let dwords = u64::from(command.dword(10) >> 16) | u64::from(command.dword(11) & 0xffff) << 16;
        let (len, offset) = ((dwords + 1) * 4, command.qword(12));
        let page = match id {
            LOG_ERROR => self.log.errors(),
            LOG_SMART => self.log.smart(self.features.warnings()),
            LOG_FIRMWARE => firmware_log(),
            _ => return Err(Status::LOG_PAGE),
        };
        let rest =
            usize::try_from(offset).ok().and_then(|at| page.get(at..)).filter(|_| offset.is_multiple_of(4));
        let rest = rest.ok_or(Status::INVALID_FIELD)?;
        self.give(cx, command, &rest[..rest.len().min(len as usize)])?;
        if !retain {
            self.events.log_was_read(id);
            self.deliver_events(cx);
        }
        Ok(())
    }

    // Identity. (5.15)

    fn identify(&self, cx: &mut Cx<'_>, command: &Command) -> Result<(), Status> {
        let namespace = command.namespace();
        let page = match command.dword(10) as u8 {
            0 if namespace == NAMESPACE => self.identify_namespace(),
            3 if namespace == NAMESPACE => self.describe_namespace(),
            0 | 3 => return Err(Status::INVALID_NAMESPACE),
            1 => self.identify_controller(),
            2 => active_namespaces(namespace)?,
            _ => return Err(Status::INVALID_FIELD),
        };
        self.give(cx, command, &page[..])
    }

    fn identify_controller(&self) -> Box<[u8; 4096]> {
        let mut page = Box::new([0; 4096]);
        let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &VENDOR.to_le_bytes());
        put(2, &[0xf4, 0x1a]);
        put(4, format!("{:<20}", self.serial).as_bytes());
        put(24, format!("{MODEL:<40}").as_bytes());
        put(64, FIRMWARE);
        // Arbitration burst 2^6; the largest transfer.
        put(72, &[6]);
        put(77, &[MDTS]);
        put(80, &VS.to_le_bytes());
        // An I/O controller.
        put(111, &[1]);
        // Aborts and event requests at once, zero-based; firmware: one slot, which cannot be written.
        put(258, &[3, EVENT_REQUESTS as u8 - 1, 3]);
        // Log pages: with offsets and long lengths. Error log entries, zero-based.
        put(261, &[4, ERROR_ENTRIES as u8 - 1]);
        put(266, &WARNING_TEMPERATURE.to_le_bytes());
        put(268, &(WARNING_TEMPERATURE + 10).to_le_bytes());
        // Sizes of commands and completions: 2^6 and 2^4, required and largest.
        put(512, &[0x66, 0x44]);
        put(516, &1u32.to_le_bytes());
        // Compare, dataset management, write zeroes, select in features, verify.
        put(520, &0x9du16.to_le_bytes());
        // A volatile write cache; a flush of all namespaces is good too.
        put(525, &[0x07]);
        put(768, format!("nqn.2014-08.org.nvmexpress:{VENDOR:04x}{VENDOR:04x}{}", self.serial).as_bytes());
        // Power state 0: 25 W in hundredths.
        put(2048, &2500u16.to_le_bytes());
        page
    }

    fn identify_namespace(&self) -> Box<[u8; 4096]> {
        let mut page = Box::new([0; 4096]);
        let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
        for at in [0, 8, 16] {
            put(at, &self.blocks().to_le_bytes());
        }
        // Bits 2:0 of the deallocated blocks' behaviour: what they read as is not reported.
        put(33, &[0]);
        put(99, &[self.medium.read_only.into()]);
        put(120, &self.eui64().to_be_bytes());
        // LBA format 0: no metadata, 2^9 bytes.
        put(128, &[0, 0, 9, 0]);
        page
    }

    /// Namespace identification descriptors: the EUI-64.
    fn describe_namespace(&self) -> Box<[u8; 4096]> {
        let mut page = Box::new([0; 4096]);
        page[..2].copy_from_slice(&[1, 8]);
        page[4..12].copy_from_slice(&self.eui64().to_be_bytes());
        page
    }

    /// An identifier that stays with the serial number (FNV-1a of it), of the locally administered kind.
    fn eui64(&self) -> u64 {
        let hash = self.serial.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        hash & !(3 << 56) | 2 << 56
    }
}

/// Ids of namespaces beyond `after`.
fn active_namespaces(after: u32) -> Result<Box<[u8; 4096]>, Status> {
    if after >= 0xffff_fffe {
        return Err(Status::INVALID_NAMESPACE);
    }
    let mut page = Box::new([0; 4096]);
    if after < NAMESPACE {
        page[..4].copy_from_slice(&NAMESPACE.to_le_bytes());
    }
    Ok(page)
}
