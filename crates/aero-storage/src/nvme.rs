//! An NVMe 1.4 controller with one namespace.
//!
//! Software puts commands of 64 bytes into submission queues in memory and writes a queue's new tail to its doorbell; the
//! controller puts completions of 16 bytes into completion queues, each with a phase tag that flips with every pass
//! through the ring, and interrupts. Queue 0 is for administration: it makes the others, of which there may be 32 pairs.
//!
//! [`queue`] has commands, rings and the lists of pages that a command's data is in, `admin` the commands of queue 0,
//! `io` those that reach the drive. A command that does is one request to the drive (one for each range, for dataset
//! management), and ends when that does, in any order. Data is copied once: from the guest into what the drive takes,
//! or from what the drive gave into the guest.
//!
//! Interrupts are by MSI-X with a vector for each completion queue, by MSI, or by the pin, which is driven while
//! an unmasked completion queue has entries. They are sent once after each call, however many commands ended in it.
//!
//! A controller that reads or writes a queue outside memory stops with "controller fatal status", as 9.5 has it, until
//! software resets it.
//!
//! Source: NVM Express Base Specification 1.4; sections are cited by number.

mod admin;
mod io;
mod queue;
mod spec;
#[cfg(test)]
mod tests;

use crate::in_flight::InFlight;
use admin::{Events, Features, Log};
use aero_bus::block::{Completion as Ended, DriveId, Medium};
use aero_bus::pci::{Bar, ConfigSpace, Identity, Msi, Msix, PciFunction};
use aero_bus::{At, Cx, Device, IoError, IrqLine, Mmio, Width};
use aero_mem::Unmapped;
use queue::{Command, Completion, CompletionQueue, Status, Submission};
use spec::*;

/// What a command that was taken does next.
enum Fate {
    /// It ends now, with this result.
    Done(u32),
    /// It ends later.
    Later,
}

/// Registers that software writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
struct Registers {
    cc: u32,
    csts: u32,
    aqa: u32,
    asq: u64,
    acq: u64,
    /// Masked vectors, of the pin and MSI.
    masked: u32,
}

impl Registers {
    fn is_ready(&self) -> bool {
        self.csts & (CSTS_RDY | CSTS_CFS) == CSTS_RDY
    }

    /// Bytes of a memory page: 7.6.1.
    fn page(&self) -> u64 {
        4096 << (self.cc >> 7 & 15).min(MAX_MPS)
    }

    /// Whether the controller can be enabled as it is configured. (3.1.5)
    fn is_sound(&self) -> bool {
        let (command_set, page, arbitration) = (self.cc >> 4 & 7, self.cc >> 7 & 15, self.cc >> 11 & 7);
        let queues = self.aqa & 0xfff != 0 && self.aqa >> 16 & 0xfff != 0;
        let aligned = self.asq.is_multiple_of(self.page()) && self.acq.is_multiple_of(self.page());
        command_set == 0 && page <= MAX_MPS && arbitration == 0 && queues && aligned
    }
}

/// An NVMe controller.
pub struct Nvme {
    drive: DriveId,
    medium: Medium,
    serial: String,
    line: IrqLine,
    config: ConfigSpace,
    msi: Msi,
    msix: Msix,
    registers: Registers,
    submissions: Vec<Option<Submission>>,
    completions: Vec<Option<CompletionQueue>>,
    /// Completion queues that got entries in this call, one bit each.
    posted: u64,
    features: Features,
    events: Events,
    log: Log,
    under_way: InFlight<io::Entry>,
    was_master: bool,
}

impl Nvme {
    /// A controller whose namespace is `drive`, which holds `medium`; `serial` has 20 ASCII characters at most. The pin is `line`.
    pub fn new(drive: DriveId, medium: Medium, serial: &str, line: IrqLine) -> Self {
        let id = Identity {
            vendor: VENDOR,
            device: DEVICE,
            class: CLASS,
            revision: 2,
            multifunction: false,
            interrupt_pin: 1,
        };
        let mut config = ConfigSpace::new(id).with_bar(0, Bar::Memory64 { size: BAR_SIZE });
        let msi = Msi::add(&mut config);
        let msix = Msix::add(&mut config, QUEUES as u16, 0, MSIX_TABLE as u32, MSIX_PBA as u32);
        Self {
            drive,
            medium,
            serial: serial.chars().filter(char::is_ascii_graphic).take(20).collect(),
            line,
            config,
            msi,
            msix,
            registers: Registers::default(),
            submissions: vec![None; QUEUES],
            completions: vec![None; QUEUES],
            posted: 0,
            features: Features::default(),
            events: Events::default(),
            log: Log::default(),
            under_way: InFlight::default(),
            was_master: false,
        }
    }

    /// Whether a request is under way, so that state cannot be saved yet.
    pub fn is_busy(&self) -> bool {
        self.under_way.len() != 0
    }

    /// Blocks of the namespace.
    fn blocks(&self) -> u64 {
        self.medium.bytes / aero_bus::block::SECTOR
    }

    // Registers.

    fn read_register(&self, offset: u64, width: Width) -> u64 {
        let r = &self.registers;
        let mut image = [0; 0x40];
        let mut put = |at: u64, bytes: &[u8]| image[at as usize..][..bytes.len()].copy_from_slice(bytes);
        put(0, &CAP.to_le_bytes());
        put(8, &VS.to_le_bytes());
        put(INTMS, &r.masked.to_le_bytes());
        put(INTMC, &r.masked.to_le_bytes());
        put(CC, &r.cc.to_le_bytes());
        put(0x1c, &r.csts.to_le_bytes());
        put(AQA, &r.aqa.to_le_bytes());
        put(ASQ, &r.asq.to_le_bytes());
        put(ACQ, &r.acq.to_le_bytes());
        let byte = |i: u64| image.get(offset.saturating_add(i) as usize).copied().unwrap_or(0);
        (0..width.bytes()).rev().fold(0, |value, i| value << 8 | u64::from(byte(i)))
    }

    /// Writes an aligned dword; no other write of a register is defined (3.1).
    fn write_register(&mut self, cx: &mut Cx<'_>, offset: u64, value: u32) {
        let r = &mut self.registers;
        let low = |old: u64| old & !0xffff_ffff | u64::from(value & !0xfff);
        let high = |old: u64| old & 0xffff_ffff | u64::from(value) << 32;
        match offset {
            INTMS => {
                r.masked |= value;
                self.drive_pin(cx);
            }
            INTMC => self.unmask(cx, value),
            CC => self.configure(cx, value & CC_WRITABLE),
            AQA => r.aqa = value & 0x0fff_0fff,
            0x28 => r.asq = low(r.asq),
            0x2c => r.asq = high(r.asq),
            0x30 => r.acq = low(r.acq),
            0x34 => r.acq = high(r.acq),
            DOORBELLS..MSIX_TABLE => self.ring(cx, (offset - DOORBELLS) / 4, value),
            _ => {}
        }
    }

    fn configure(&mut self, cx: &mut Cx<'_>, cc: u32) {
        let before = core::mem::replace(&mut self.registers.cc, cc).to_le_bytes();
        let (was, is) = (before[0] & 1 != 0, cc & CC_EN != 0);
        if is && !was {
            self.enable();
        } else if was && !is {
            self.disable(cx);
        }
        let (notified, notify) = (before[1] >> 6, cc >> 14 & 3);
        if notify != 0 && notified == 0 {
            self.shut_down(cx);
        }
    }

    fn enable(&mut self) {
        let r = &mut self.registers;
        r.csts = if r.is_sound() { CSTS_RDY } else { CSTS_CFS };
        if r.csts != CSTS_RDY {
            return;
        }
        self.submissions[0] = Some(Submission::new(r.asq, (r.aqa & 0xfff) + 1, 0));
        self.completions[0] = Some(CompletionQueue::new(r.acq, (r.aqa >> 16 & 0xfff) + 1, true, 0));
    }

    /// A controller reset: everything but the admin queue's registers and PCI's (7.3.2).
    fn disable(&mut self, cx: &mut Cx<'_>) {
        self.registers.csts = 0;
        self.registers.masked = 0;
        self.submissions.fill(None);
        self.completions.fill(None);
        self.posted = 0;
        self.features = Features::default();
        self.events = Events::default();
        self.under_way.release_if(|_| true);
        self.drive_pin(cx);
    }

    /// What is in memory cannot be reached: nothing more until a reset.
    fn fail(&mut self, _: Unmapped) {
        log::warn!("NVMe: a queue lies outside memory; the controller stops until it is reset");
        self.registers.csts |= CSTS_CFS;
    }

    // Doorbells and queues.

    /// Doorbell `n`: even ones are tails of submission queues, odd ones heads of completion queues. (3.1.24, 3.1.25)
    fn ring(&mut self, cx: &mut Cx<'_>, n: u64, value: u32) {
        if !self.registers.is_ready() {
            return;
        }
        let queue = (n / 2) as usize;
        let value = value & 0xffff;
        let known = if n.is_multiple_of(2) {
            self.ring_tail(cx, queue, value)
        } else {
            self.ring_head(cx, queue, value)
        };
        match known {
            Some(true) => {}
            Some(false) => self.events.report(admin::Event::INVALID_DOORBELL_VALUE),
            None => self.events.report(admin::Event::INVALID_DOORBELL),
        }
        self.deliver_events(cx);
        self.signal(cx);
    }

    fn ring_tail(&mut self, cx: &mut Cx<'_>, n: usize, tail: u32) -> Option<bool> {
        let queue = self.submissions.get_mut(n)?.as_mut()?;
        if tail >= queue.size {
            return Some(false);
        }
        queue.tail = tail;
        self.run(cx, n);
        Some(true)
    }

    fn ring_head(&mut self, cx: &mut Cx<'_>, n: usize, head: u32) -> Option<bool> {
        let queue = self.completions.get_mut(n)?.as_mut()?;
        let before = queue.tail;
        let known = queue.advance(cx, head);
        if queue.tail != before {
            self.posted |= 1 << n;
        }
        let known = known.unwrap_or_else(|unmapped| {
            self.fail(unmapped);
            true
        });
        for sq in 0..QUEUES {
            if self.submissions[sq].as_ref().is_some_and(|s| usize::from(s.cq) == n) {
                self.run(cx, sq);
            }
        }
        self.drive_pin(cx);
        Some(known)
    }

    /// Takes and starts what waits in submission queue `n`.
    fn run(&mut self, cx: &mut Cx<'_>, n: usize) {
        while let Some(command) = self.fetch(cx, n) {
            let sq = n as u16;
            let fate = match n {
                0 => self.administer(cx, &command),
                _ => self.begin(cx, sq, &command),
            };
            match fate {
                Ok(Fate::Later) => {}
                Ok(Fate::Done(result)) => self.post(cx, sq, command.id(), result, Status::OK),
                Err(status) => self.refuse(cx, sq, &command, status),
            }
        }
    }

    fn fetch(&mut self, cx: &Cx<'_>, n: usize) -> Option<Command> {
        let able = self.registers.is_ready() && self.config.is_master();
        let queue = self.submissions[n].as_mut().filter(|_| able)?;
        let room = self.completions[usize::from(queue.cq)].as_ref().is_some_and(CompletionQueue::has_room);
        if !room || self.under_way.len() >= crate::in_flight::MOST {
            return None;
        }
        queue.fetch(cx).unwrap_or_else(|unmapped| {
            self.fail(unmapped);
            None
        })
    }

    /// Ends a command with an error, which the error log keeps.
    fn refuse(&mut self, cx: &mut Cx<'_>, sq: u16, command: &Command, status: Status) {
        self.log.error(sq, command.id(), status, command.namespace(), command.qword(10));
        self.post(cx, sq, command.id(), 0, status.with_more());
    }

    fn post(&mut self, cx: &mut Cx<'_>, sq: u16, id: u16, result: u32, status: Status) {
        let Some(submission) = &self.submissions[usize::from(sq)] else { return };
        let cq = usize::from(submission.cq);
        let completion = Completion { result, sq, sq_head: submission.head as u16, id, status };
        let Some(queue) = self.completions[cq].as_mut() else { return };
        let written = queue.post(cx, completion);
        self.posted |= 1 << cq;
        if let Err(unmapped) = written {
            self.fail(unmapped);
        }
    }

    // Interrupts. (7.5)

    fn signal(&mut self, cx: &mut Cx<'_>) {
        let mut posted = core::mem::take(&mut self.posted);
        if posted == 0 {
            return;
        }
        if !self.msix.enabled(&self.config) {
            return self.signal_single(cx, posted);
        }
        while posted != 0 {
            let n = posted.trailing_zeros() as usize;
            posted &= posted - 1;
            if let Some(queue) = self.completions[n].as_ref().filter(|q| q.interrupts) {
                self.msix.notify(&self.config, cx, queue.vector);
            }
        }
    }

    /// By MSI's one message, or the pin.
    fn signal_single(&mut self, cx: &mut Cx<'_>, posted: u64) {
        let masked = self.registers.masked & 1 != 0;
        let interrupts = |(n, q): (usize, &Option<CompletionQueue>)| {
            posted >> n & 1 != 0 && q.as_ref().is_some_and(|q| q.interrupts)
        };
        let wanted = self.completions.iter().enumerate().any(interrupts);
        match self.msi.message(&self.config).filter(|_| wanted && !masked) {
            Some(message) => cx.message(message),
            None => self.drive_pin(cx),
        }
    }

    fn unmask(&mut self, cx: &mut Cx<'_>, vectors: u32) {
        let opened = self.registers.masked & vectors;
        self.registers.masked &= !vectors;
        if opened & 1 != 0
            && self.is_pending()
            && let Some(message) = self.msi.message(&self.config)
        {
            cx.message(message);
        }
        self.drive_pin(cx);
    }

    fn is_pending(&self) -> bool {
        self.completions.iter().flatten().any(|q| q.interrupts && q.is_pending())
    }

    fn uses_pin(&self) -> bool {
        !self.msix.enabled(&self.config) && self.msi.message(&self.config).is_none()
    }

    fn drive_pin(&mut self, cx: &mut Cx<'_>) {
        let asked = self.uses_pin() && self.registers.masked & 1 == 0 && self.is_pending();
        let level = self.config.set_interrupt(asked);
        cx.set_irq(self.line, level);
    }
}

impl Device for Nvme {
    fn reset(&mut self, cx: &mut Cx<'_>) {
        self.config.reset();
        self.msix.reset();
        self.registers = Registers::default();
        self.log = Log::default();
        self.was_master = false;
        self.disable(cx);
    }

    fn mmio(&mut self) -> Option<&mut dyn Mmio> {
        Some(self)
    }

    fn pci(&mut self) -> Option<&mut dyn PciFunction> {
        Some(self)
    }

    fn complete(&mut self, cx: &mut Cx<'_>, done: Ended) {
        self.end(cx, done);
        self.signal(cx);
    }
}

impl Mmio for Nvme {
    fn read(&mut self, _cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        match (at.region, at.offset) {
            (0, 0..MSIX_TABLE) => Ok(self.read_register(at.offset, width)),
            (0, MSIX_TABLE..MSIX_PBA) => Ok(self.msix.read_table(at.offset - MSIX_TABLE, width)),
            (0, MSIX_PBA..BAR_SIZE) => Ok(self.msix.read_pending(at.offset - MSIX_PBA, width)),
            _ => Err(IoError::Unclaimed),
        }
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError> {
        match (at.region, at.offset) {
            (0, offset @ 0..MSIX_TABLE) if offset.is_multiple_of(4) => match width {
                Width::B4 => self.write_register(cx, offset, value as u32),
                Width::B8 => {
                    self.write_register(cx, offset, value as u32);
                    self.write_register(cx, offset + 4, (value >> 32) as u32);
                }
                _ => {}
            },
            (0, MSIX_TABLE..MSIX_PBA) => {
                self.msix.write_table(&self.config, cx, at.offset - MSIX_TABLE, width, value);
            }
            (0, 0..BAR_SIZE) => {}
            _ => return Err(IoError::Unclaimed),
        }
        Ok(())
    }
}

impl PciFunction for Nvme {
    fn config(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn config_written(&mut self, cx: &mut Cx<'_>, _at: u8) {
        self.msix.send_pending(&self.config, cx);
        let master = self.config.is_master();
        if master && !core::mem::replace(&mut self.was_master, master) {
            (0..QUEUES).for_each(|n| self.run(cx, n));
            self.signal(cx);
        }
        self.was_master = master;
        self.drive_pin(cx);
    }
}

mod saved {
    use super::*;
    use aero_bus::pci::MsixVector;
    use aero_state::{RestoreError, Saved, Section};
    use serde::{Deserialize, Serialize};

    const KIND: &str = "nvme";

    /// The controller between two commands. Requests under way are not in it: a machine lets them end before it saves.
    #[derive(Serialize, Deserialize)]
    struct NvmeStateV1 {
        config: Vec<u8>,
        msix: Vec<MsixVector>,
        registers: Registers,
        submissions: Vec<Option<Submission>>,
        completions: Vec<Option<CompletionQueue>>,
        features: Features,
        events: Events,
        log: Log,
    }

    impl NvmeStateV1 {
        fn is_sane(&self) -> bool {
            let ends_somewhere =
                |s: &Submission| self.completions.get(usize::from(s.cq)).is_some_and(Option::is_some);
            self.msix.len() == QUEUES
                && self.submissions.len() == QUEUES
                && self.completions.len() == QUEUES
                && self.submissions.iter().flatten().all(|s| s.is_sane() && ends_somewhere(s))
                && self.completions.iter().flatten().all(CompletionQueue::is_sane)
                && self.features.is_sane()
        }
    }

    impl Saved for Nvme {
        fn save(&self) -> Section {
            let state = NvmeStateV1 {
                config: self.config.bytes().to_vec(),
                msix: self.msix.vectors().to_vec(),
                registers: self.registers,
                submissions: self.submissions.clone(),
                completions: self.completions.clone(),
                features: self.features.clone(),
                events: self.events.clone(),
                log: self.log.clone(),
            };
            Section::new(KIND, 1, &state)
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let damaged = RestoreError::Damaged { kind: KIND };
            let state: NvmeStateV1 = section.decode(KIND, 1)?;
            let Some(config) =
                <[u8; 256]>::try_from(state.config.as_slice()).ok().filter(|_| state.is_sane())
            else {
                return Err(damaged);
            };
            self.config.restore(&config);
            self.msix.restore(&state.msix);
            self.was_master = self.config.is_master();
            (self.registers, self.posted) = (state.registers, 0);
            (self.submissions, self.completions) = (state.submissions, state.completions);
            (self.features, self.events, self.log) = (state.features, state.events, state.log);
            self.under_way.release_if(|_| true);
            let asked = self.uses_pin() && self.registers.masked & 1 == 0 && self.is_pending();
            self.config.set_interrupt(asked);
            Ok(())
        }
    }
}
