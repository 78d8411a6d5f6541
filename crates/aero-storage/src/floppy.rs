//! The 82077AA floppy controller with two drives.
//!
//! Everything is a *command*: bytes written to the FIFO port, then perhaps data, then bytes of result read
//! from it. The main status register says which of these the chip expects. Data goes through the ISA bus's
//! DMA controller (the chip is a [`DmaPeer`]) or, in non-DMA mode, through the same FIFO port with an
//! interrupt for each byte.
//!
//! ```text
//! command ─► execute ─┬─► data ⇄ drive ─► result ─► command      READ, WRITE, FORMAT …: interrupt at the
//! result
//!                     ├─────────────────► result ─► command      SENSE …, DUMPREG: no interrupt
//! └─────────────────► command                SEEK, RECALIBRATE: interrupt, told by SENSE INTERRUPT
//! ```
//!
//! A disk image is its sectors in the order cylinder, head, sector; its length tells the format
//! ([`Format::of`]). Sectors of a track are fetched and stored as one request to the drive. Whoever reads the
//! wrong data rate, cylinder, head or sector gets the error that the chip gives when it finds no such sector
//! mark, since that is how systems find out what is in the drive. Heads move and sectors pass at once; a
//! drive without a disk fails at once too, where a real one would never answer.
//!
//! The disk-change line rises with every change of the disk and falls with the first step while a disk is in.
//!
//! Not modelled: deleted-data marks (a raw image has none), and the SCAN commands, which end as invalid ones.
//!
//! Source: Intel 82077AA data sheet (290166-007); registers in PC/AT mode.

use aero_bus::block::{Completion, DriveId, Medium, Operation, RequestId, SECTOR};
use aero_bus::isa_dma::{DmaPeer, DmaRequest};
use aero_bus::{At, Cx, Device, IoError, IrqLine, PortIo, Width};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Registers, status bits and commands by their names in the data sheet.
mod spec {
    /// Region 0: ports 3F0h to 3F5h; region 1: port 3F7h.
    pub const REGISTERS: u8 = 0;
    pub const PORT_7: u8 = 1;
    pub const SRA: u64 = 0;
    pub const SRB: u64 = 1;
    pub const DOR: u64 = 2;
    pub const TDR: u64 = 3;
    pub const MSR_DSR: u64 = 4;
    pub const FIFO: u64 = 5;

    pub const DOR_DRIVE: u8 = 0b11;
    /// Clear: the chip is held in reset.
    pub const DOR_NOT_RESET: u8 = 1 << 2;
    pub const DOR_DMAGATE: u8 = 1 << 3;
    pub const DSR_RESET: u8 = 1 << 7;
    pub const RATE: u8 = 0b11;
    pub const RATE_250K: u8 = 2;

    pub const MSR_RQM: u8 = 1 << 7;
    pub const MSR_DIO: u8 = 1 << 6;
    pub const MSR_NON_DMA: u8 = 1 << 5;
    pub const MSR_BUSY: u8 = 1 << 4;
    pub const DIR_DISK_CHANGE: u8 = 1 << 7;

    pub const ST0_ABNORMAL: u8 = 0x40;
    pub const ST0_INVALID: u8 = 0x80;
    /// The ready line changed: what polling finds after a reset.
    pub const ST0_POLLED: u8 = 0xc0;
    pub const ST0_SEEK_END: u8 = 1 << 5;
    pub const ST0_EQUIPMENT_CHECK: u8 = 1 << 4;
    pub const ST0_HEAD: u8 = 1 << 2;
    pub const ST1_END: u8 = 1 << 7;
    pub const ST1_DATA_ERROR: u8 = 1 << 5;
    pub const ST1_NO_DATA: u8 = 1 << 2;
    pub const ST1_NOT_WRITABLE: u8 = 1 << 1;
    pub const ST1_MISSING_MARK: u8 = 1 << 0;
    pub const ST2_CONTROL_MARK: u8 = 1 << 6;
    pub const ST2_DATA_ERROR: u8 = 1 << 5;
    pub const ST2_WRONG_CYLINDER: u8 = 1 << 4;
    pub const ST3_PROTECTED: u8 = 1 << 6;
    pub const ST3_READY: u8 = 1 << 5;
    pub const ST3_TRACK_0: u8 = 1 << 4;
    pub const ST3_TWO_SIDES: u8 = 1 << 3;

    pub const READ_TRACK: u8 = 0x02;
    pub const SPECIFY: u8 = 0x03;
    pub const SENSE_DRIVE: u8 = 0x04;
    pub const WRITE: u8 = 0x05;
    pub const READ: u8 = 0x06;
    pub const RECALIBRATE: u8 = 0x07;
    pub const SENSE_INTERRUPT: u8 = 0x08;
    pub const WRITE_DELETED: u8 = 0x09;
    pub const READ_ID: u8 = 0x0a;
    pub const READ_DELETED: u8 = 0x0c;
    pub const FORMAT: u8 = 0x0d;
    pub const DUMPREG: u8 = 0x0e;
    pub const SEEK: u8 = 0x0f;
    pub const VERSION: u8 = 0x10;
    pub const PERPENDICULAR: u8 = 0x12;
    pub const CONFIGURE: u8 = 0x13;
    pub const LOCK: u8 = 0x14;
    pub const VERIFY: u8 = 0x16;
    /// The code without the option bits MT, MFM and SK.
    pub const CODE: u8 = 0x1f;
    pub const MULTI_TRACK: u8 = 1 << 7;
    pub const MFM: u8 = 1 << 6;
    pub const SKIP: u8 = 1 << 5;
    /// SEEK: relative, inwards.
    pub const RELATIVE: u8 = 1 << 7;
    pub const INWARDS: u8 = 1 << 6;
    /// LOCK: lock (else unlock).
    pub const LOCK_SET: u8 = 1 << 7;
    /// VERIFY: the last byte counts sectors.
    pub const ENABLE_COUNT: u8 = 1 << 7;

    /// Second byte of most commands.
    pub const HEAD: u8 = 1 << 2;
    /// SPECIFY: no DMA.
    pub const ND: u8 = 1 << 0;
    /// CONFIGURE: implied seek; no polling; what LOCK protects is the rest and the next byte.
    pub const IMPLIED_SEEK: u8 = 1 << 6;
    pub const NO_POLLING: u8 = 1 << 4;
    pub const CONFIG_RESET: u8 = 1 << 5;
    /// PERPENDICULAR: the drive bits are meant.
    pub const OVERWRITE: u8 = 1 << 7;
    pub const DRIVE_BITS: u8 = 0x3c;
    pub const GAP_WGATE: u8 = 0x03;

    pub const VERSION_82077AA: u8 = 0x90;
    /// Sector size code of 512 bytes.
    pub const N_512: u8 = 2;
    /// Steps of a recalibration at most.
    pub const RECALIBRATE_STEPS: u8 = 79;
    /// Nanoseconds of a turn.
    pub const TURN_NS: u64 = 200_000_000;
}

use spec::*;

/// Kinds of drive; the discriminants are the types of CMOS byte 10h.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum DriveKind {
    /// 5.25 inches, 360 KiB.
    D360 = 1,
    /// 5.25 inches, 1.2 MiB.
    D1200 = 2,
    /// 3.5 inches, 720 KiB.
    D720 = 3,
    /// 3.5 inches, 1.44 MiB.
    D1440 = 4,
    /// 3.5 inches, 2.88 MiB.
    D2880 = 5,
}

/// How a disk is recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Format {
    /// Cylinders.
    pub cylinders: u8,
    /// Sides.
    pub heads: u8,
    /// Sectors of a track.
    pub sectors: u8,
    /// Data rate as the chip selects it: 500, 300, 250, 1000 kbit/s.
    rate: u8,
    /// The drive that it is made for.
    pub drive: DriveKind,
}

const fn format(cylinders: u8, heads: u8, sectors: u8, rate: u8, drive: DriveKind) -> Format {
    Format { cylinders, heads, sectors, rate, drive }
}

/// Smallest first.
const FORMATS: [Format; 9] = [
    format(40, 1, 8, 2, DriveKind::D360),
    format(40, 1, 9, 2, DriveKind::D360),
    format(40, 2, 8, 2, DriveKind::D360),
    format(40, 2, 9, 2, DriveKind::D360),
    format(80, 2, 9, 2, DriveKind::D720),
    format(80, 2, 15, 0, DriveKind::D1200),
    format(80, 2, 18, 0, DriveKind::D1440),
    format(80, 2, 21, 0, DriveKind::D1440),
    format(80, 2, 36, 3, DriveKind::D2880),
];

impl Format {
    /// The smallest format that holds an image of so many bytes.
    pub fn of(bytes: u64) -> Option<Self> {
        FORMATS.into_iter().find(|f| f.bytes() >= bytes)
    }

    /// Bytes of a full image.
    pub fn bytes(self) -> u64 {
        u64::from(self.cylinders) * u64::from(self.heads) * u64::from(self.sectors) * SECTOR
    }

    /// The rate at which it is read in a drive: a 1.2 MiB drive turns faster than a 360 KiB one.
    fn rate_in(self, drive: DriveKind) -> u8 {
        if drive == DriveKind::D1200 && self.rate == RATE_250K { 1 } else { self.rate }
    }
}

/// A disk in a drive.
#[derive(Clone, Copy)]
struct Disk {
    id: DriveId,
    medium: Medium,
    format: Format,
}

/// A drive.
#[derive(Clone, Copy)]
struct Drive {
    kind: DriveKind,
    disk: Option<Disk>,
    /// Where the heads are.
    cylinder: u8,
    changed: bool,
}

/// What a data command does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Kind {
    Read,
    ReadDeleted,
    Write,
    /// So many sectors, or 0 for all to the last.
    Verify(u8),
    Format {
        filler: u8,
    },
}

/// A data command under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Transfer {
    kind: Kind,
    drive: u8,
    multi_track: bool,
    cylinder: u8,
    head: u8,
    /// First sector of the run on this track, and the last that is wanted.
    sector: u8,
    last: u8,
    /// Sectors of the run.
    run: u8,
    /// Bytes from the disk for the host, or from the host for the disk.
    buffer: VecDeque<u8>,
    /// Bytes that moved between buffer and host in this run.
    moved: u32,
    /// The drive works on this request.
    request: Option<u32>,
    terminal_count: bool,
}

impl Transfer {
    fn to_host(&self) -> bool {
        matches!(self.kind, Kind::Read | Kind::ReadDeleted)
    }

    fn run_bytes(&self) -> u32 {
        match self.kind {
            Kind::Format { .. } => 4 * u32::from(self.run),
            _ => SECTOR as u32 * u32::from(self.run),
        }
    }

    /// Bytes that it could move to or from the host now.
    fn wanted(&self) -> usize {
        match self.kind {
            _ if self.request.is_some() || self.terminal_count => 0,
            Kind::Read | Kind::ReadDeleted => self.buffer.len(),
            Kind::Write | Kind::Format { .. } => (self.run_bytes() - self.moved) as usize,
            Kind::Verify(_) => 0,
        }
    }
}

/// The controller. Region 0: ports 3F0h–3F5h; region 1: port 3F7h.
pub struct Floppy {
    irq: IrqLine,
    drives: [Option<Drive>; 2],
    dor: u8,
    tdr: u8,
    rate: u8,
    command: Vec<u8>,
    results: VecDeque<u8>,
    transfer: Option<Transfer>,
    next_request: u32,
    interrupt: bool,
    /// What SENSE INTERRUPT will tell: ST0 and cylinder.
    events: VecDeque<(u8, u8)>,
    cylinders: [u8; 4],
    specify: [u8; 2],
    config: u8,
    precompensation_track: u8,
    perpendicular: u8,
    locked: bool,
    last_sector: u8,
}

impl Floppy {
    /// A controller with these drives, empty, that interrupts on `irq`.
    pub fn new(irq: IrqLine, drives: [Option<DriveKind>; 2]) -> Self {
        let drive = |kind| Drive { kind, disk: None, cylinder: 0, changed: true };
        Self {
            irq,
            drives: drives.map(|kind| kind.map(drive)),
            dor: 0,
            tdr: 0,
            rate: RATE_250K,
            command: Vec::new(),
            results: VecDeque::new(),
            transfer: None,
            next_request: 0,
            interrupt: false,
            events: VecDeque::new(),
            cylinders: [0; 4],
            specify: [0; 2],
            config: CONFIG_RESET,
            precompensation_track: 0,
            perpendicular: 0,
            locked: false,
            last_sector: 0,
        }
    }

    /// Puts a disk into drive 0 or 1, or takes it out. `false` if there is no such drive or no format so large.
    pub fn insert(&mut self, drive: u8, disk: Option<(DriveId, Medium)>) -> bool {
        let disk = match disk {
            None => None,
            Some((id, medium)) => {
                let Some(format) = Format::of(medium.bytes) else { return false };
                Some(Disk { id, medium, format })
            }
        };
        let Some(Some(drive)) = self.drives.get_mut(usize::from(drive)) else { return false };
        (drive.disk, drive.changed) = (disk, true);
        true
    }

    fn drive(&self, n: u8) -> Option<&Drive> {
        self.drives.get(usize::from(n))?.as_ref()
    }

    fn no_dma(&self) -> bool {
        self.specify[1] & ND != 0
    }

    fn in_reset(&self) -> bool {
        self.dor & DOR_NOT_RESET == 0
    }

    fn drive_line(&self, cx: &mut Cx<'_>) {
        cx.set_irq(self.irq, self.interrupt && self.dor & DOR_DMAGATE != 0);
    }

    // Registers.

    fn status(&self) -> u8 {
        if self.in_reset() {
            return 0;
        }
        match &self.transfer {
            Some(t) if self.no_dma() && t.wanted() > 0 => {
                MSR_RQM | MSR_NON_DMA | MSR_BUSY | if t.to_host() { MSR_DIO } else { 0 }
            }
            Some(_) => MSR_BUSY,
            None if !self.results.is_empty() => MSR_RQM | MSR_DIO | MSR_BUSY,
            None if !self.command.is_empty() => MSR_RQM | MSR_BUSY,
            None => MSR_RQM,
        }
    }

    fn read_register(&mut self, cx: &mut Cx<'_>, at: At) -> Result<u8, IoError> {
        Ok(match (at.region, at.offset) {
            // Nothing drives these in PC/AT mode.
            (REGISTERS, SRA | SRB) => 0xff,
            (REGISTERS, DOR) => self.dor,
            (REGISTERS, TDR) => self.tdr,
            (REGISTERS, MSR_DSR) => self.status(),
            (REGISTERS, FIFO) => self.read_fifo(cx),
            (PORT_7, 0) => {
                let selected = self.drive(self.dor & DOR_DRIVE);
                if selected.is_some_and(|drive| drive.changed) { DIR_DISK_CHANGE } else { 0 }
            }
            _ => return Err(IoError::Unclaimed),
        })
    }

    fn write_register(&mut self, cx: &mut Cx<'_>, at: At, value: u8) -> Result<(), IoError> {
        match (at.region, at.offset) {
            (REGISTERS, SRA | SRB) => {}
            (REGISTERS, DOR) => self.write_dor(value),
            (REGISTERS, TDR) => self.tdr = value & 3,
            (REGISTERS, MSR_DSR) => {
                self.rate = value & RATE;
                if value & DSR_RESET != 0 {
                    self.enter_reset();
                    self.leave_reset();
                }
            }
            (REGISTERS, FIFO) => self.write_fifo(cx, value),
            (PORT_7, 0) => self.rate = value & RATE,
            _ => return Err(IoError::Unclaimed),
        }
        self.drive_line(cx);
        Ok(())
    }

    fn write_dor(&mut self, value: u8) {
        let was_in_reset = self.in_reset();
        self.dor = value;
        match (was_in_reset, self.in_reset()) {
            (false, true) => self.enter_reset(),
            (true, false) => self.leave_reset(),
            _ => {}
        }
    }

    fn enter_reset(&mut self) {
        self.command.clear();
        self.results.clear();
        self.events.clear();
        self.transfer = None;
        self.interrupt = false;
        if !self.locked {
            (self.config, self.precompensation_track) = (CONFIG_RESET, 0);
        }
        self.perpendicular &= DRIVE_BITS;
    }

    /// Polling finds that all four drives became ready.
    fn leave_reset(&mut self) {
        if self.config & NO_POLLING == 0 {
            self.events = (0..4).map(|n| (ST0_POLLED | n, self.cylinders[usize::from(n)])).collect();
            self.interrupt = true;
        }
    }

    fn read_fifo(&mut self, cx: &mut Cx<'_>) -> u8 {
        if let Some(transfer) = &self.transfer {
            if !(self.no_dma() && transfer.to_host() && transfer.wanted() > 0) {
                return 0;
            }
            let byte = self.move_to_host(cx, 1, false).pop();
            self.drive_line(cx);
            return byte.unwrap_or(0);
        }
        if !self.results.is_empty() {
            self.answered(cx);
        }
        self.results.pop_front().unwrap_or(0)
    }

    fn write_fifo(&mut self, cx: &mut Cx<'_>, value: u8) {
        if self.in_reset() || !self.results.is_empty() {
            return;
        }
        if let Some(transfer) = &self.transfer {
            if self.no_dma() && !transfer.to_host() && transfer.wanted() > 0 {
                self.move_from_host(cx, &[value], false);
            }
            return;
        }
        self.command.push(value);
        if self.command.len() >= length(self.command[0]) {
            let command = core::mem::take(&mut self.command);
            self.execute(cx, &command);
        }
    }

    // Commands.

    fn execute(&mut self, cx: &mut Cx<'_>, command: &[u8]) {
        let byte = |n: usize| command.get(n).copied().unwrap_or_default();
        let unit = byte(1) & DOR_DRIVE;
        match byte(0) & CODE {
            _ if !is_known(byte(0)) => self.results = [ST0_INVALID].into(),
            SPECIFY => self.specify = [byte(1), byte(2)],
            SENSE_DRIVE => self.results = [self.st3(byte(1))].into(),
            RECALIBRATE => self.recalibrate(unit),
            SEEK => self.seek(byte(0), unit, byte(2)),
            SENSE_INTERRUPT => self.sense_interrupt(),
            READ_ID => self.read_id(cx, byte(1)),
            DUMPREG => self.dump_registers(),
            VERSION => self.results = [VERSION_82077AA].into(),
            PERPENDICULAR => {
                let drives = if byte(1) & OVERWRITE != 0 { byte(1) } else { self.perpendicular };
                self.perpendicular = drives & DRIVE_BITS | byte(1) & GAP_WGATE;
            }
            CONFIGURE => (self.config, self.precompensation_track) = (byte(2), byte(3)),
            LOCK => {
                self.locked = byte(0) & LOCK_SET != 0;
                self.results = [u8::from(self.locked) << 4].into();
            }
            FORMAT => self.format_track(cx, command),
            _ => self.data_command(cx, command),
        }
    }

    fn st3(&self, unit: u8) -> u8 {
        let drive = self.drive(unit & DOR_DRIVE);
        let protected = drive.and_then(|d| d.disk).is_some_and(|d| d.medium.read_only);
        let track_0 = drive.is_some_and(|d| d.cylinder == 0);
        unit & (HEAD | DOR_DRIVE)
            | ST3_READY
            | ST3_TWO_SIDES
            | if protected { ST3_PROTECTED } else { 0 }
            | if track_0 { ST3_TRACK_0 } else { 0 }
    }

    /// Without a drive there is no signal of track 0, and the steps run out.
    fn recalibrate(&mut self, unit: u8) {
        self.cylinders[usize::from(unit)] = 0;
        let from = self.drive(unit).map_or(u8::MAX, |d| d.cylinder);
        self.step_to(unit, from.saturating_sub(RECALIBRATE_STEPS));
        let found = self.drive(unit).is_some_and(|d| d.cylinder == 0);
        let failed = if found { 0 } else { ST0_ABNORMAL | ST0_EQUIPMENT_CHECK };
        self.seek_ends(unit, failed);
    }

    fn seek(&mut self, command: u8, unit: u8, wanted: u8) {
        let known = self.cylinders[usize::from(unit)];
        let to = match (command & RELATIVE != 0, command & INWARDS != 0) {
            (false, _) => wanted,
            (true, true) => known.saturating_add(wanted),
            (true, false) => known.saturating_sub(wanted),
        };
        let at = self.drive(unit).map_or(0, |d| d.cylinder);
        // The chip knows the distance, not the place.
        let place = i16::from(at) + i16::from(to) - i16::from(known);
        self.step_to(unit, place.clamp(0, u8::MAX.into()) as u8);
        self.cylinders[usize::from(unit)] = to;
        self.seek_ends(unit, 0);
    }

    /// Moves the heads. A drive stops them behind the last cylinder that any disk has; a step tells the drive
    /// of a disk.
    fn step_to(&mut self, unit: u8, cylinder: u8) {
        let Some(Some(drive)) = self.drives.get_mut(usize::from(unit)) else { return };
        let last = if drive.kind == DriveKind::D360 { 41 } else { 83 };
        drive.cylinder = cylinder.min(last);
        drive.changed &= drive.disk.is_none();
    }

    fn seek_ends(&mut self, unit: u8, failed: u8) {
        self.forget_polling();
        self.events.push_back((ST0_SEEK_END | failed | unit, self.cylinders[usize::from(unit)]));
        self.interrupt = true;
    }

    /// What polling found after a reset is told only until the next interrupt: BIOSes ask once and go on.
    fn forget_polling(&mut self) {
        self.events.retain(|(st0, _)| st0 & ST0_POLLED != ST0_POLLED);
    }

    fn sense_interrupt(&mut self) {
        self.results = match self.events.pop_front() {
            Some((st0, cylinder)) => [st0, cylinder].into(),
            None => [ST0_INVALID].into(),
        };
        self.interrupt = false;
    }

    fn dump_registers(&mut self) {
        let locked = u8::from(self.locked) << 7;
        self.results = self.cylinders.into();
        self.results.extend(self.specify);
        self.results.extend([
            self.last_sector,
            locked | self.perpendicular,
            self.config,
            self.precompensation_track,
        ]);
    }

    /// The disk of a drive, if the rate that is set can read it.
    fn readable(&self, unit: u8) -> Option<Disk> {
        let drive = self.drive(unit)?;
        drive.disk.filter(|disk| disk.format.rate_in(drive.kind) == self.rate)
    }

    /// Sectors of a track of the disk that can be read in a drive.
    fn track_sectors(&self, unit: u8) -> u8 {
        self.readable(unit).map_or(0, |disk| disk.format.sectors)
    }

    /// The next sector mark that passes the head.
    fn read_id(&mut self, cx: &mut Cx<'_>, unit_head: u8) {
        let (unit, head) = (unit_head & DOR_DRIVE, u8::from(unit_head & HEAD != 0));
        let cylinder = self.drive(unit).map_or(0, |d| d.cylinder);
        let readable = self.readable(unit);
        let found = readable.filter(|d| cylinder < d.format.cylinders && head < d.format.heads);
        let (error, sector) = match found {
            Some(disk) => {
                let sectors = u64::from(disk.format.sectors);
                (0, (cx.now().0 % TURN_NS * sectors / TURN_NS) as u8 + 1)
            }
            None => (ST1_MISSING_MARK, 0),
        };
        let status = if error == 0 { 0 } else { ST0_ABNORMAL };
        self.finish([status | unit_head & 7, error, 0], [cylinder, head, sector]);
    }

    fn data_command(&mut self, cx: &mut Cx<'_>, command: &[u8]) {
        let &[options, unit_head, cylinder, head, sector, size, last, _, length] = command else { return };
        let kind = match options & CODE {
            WRITE | WRITE_DELETED => Kind::Write,
            READ_DELETED => Kind::ReadDeleted,
            VERIFY => Kind::Verify(if unit_head & ENABLE_COUNT != 0 { length } else { 0 }),
            _ => Kind::Read,
        };
        self.last_sector = last;
        let whole_track = options & CODE == READ_TRACK;
        let sector = if whole_track { 1 } else { sector };
        let unit = unit_head & DOR_DRIVE;
        if self.config & IMPLIED_SEEK != 0 {
            self.step_to(unit, cylinder);
            self.cylinders[usize::from(unit)] = cylinder;
        }
        let transfer = Transfer {
            kind,
            drive: unit,
            multi_track: options & MULTI_TRACK != 0 && !whole_track,
            cylinder,
            head,
            sector,
            last,
            run: 0,
            buffer: VecDeque::new(),
            moved: 0,
            request: None,
            terminal_count: false,
        };
        let side = u8::from(unit_head & HEAD != 0);
        match self.refusal(&transfer, side, size) {
            None => self.begin_run(cx, transfer),
            Some([st1, st2]) => self.fail(cx, &transfer, st1, st2),
        }
    }

    /// Why a transfer cannot begin: ST1 and ST2.
    fn refusal(&self, t: &Transfer, side: u8, size: u8) -> Option<[u8; 2]> {
        let at = self.drive(t.drive).map_or(0, |d| d.cylinder);
        let Some(disk) = self.readable(t.drive).filter(|d| at < d.format.cylinders && side < d.format.heads)
        else {
            return Some([ST1_MISSING_MARK, 0]);
        };
        let writes = matches!(t.kind, Kind::Write | Kind::Format { .. });
        if writes && disk.medium.read_only {
            return Some([ST1_NOT_WRITABLE, 0]);
        }
        if at != t.cylinder {
            return Some([ST1_NO_DATA, ST2_WRONG_CYLINDER]);
        }
        let absent = t.head != side || size != N_512 || t.sector == 0 || t.sector > disk.format.sectors;
        absent.then_some([ST1_NO_DATA, 0])
    }

    fn format_track(&mut self, cx: &mut Cx<'_>, command: &[u8]) {
        let &[_, unit_head, size, sectors, _, filler] = command else { return };
        let (unit, head) = (unit_head & DOR_DRIVE, u8::from(unit_head & HEAD != 0));
        self.last_sector = sectors;
        let transfer = Transfer {
            kind: Kind::Format { filler },
            drive: unit,
            multi_track: false,
            cylinder: self.drive(unit).map_or(0, |d| d.cylinder),
            head,
            sector: 1,
            last: sectors,
            run: sectors,
            buffer: VecDeque::new(),
            moved: 0,
            request: None,
            terminal_count: false,
        };
        match self.refusal(&transfer, head, size) {
            None if (1..=self.track_sectors(unit)).contains(&sectors) => {
                self.transfer = Some(transfer);
                self.ask_host(cx);
            }
            None => self.fail(cx, &transfer, ST1_NO_DATA, 0),
            Some([st1, st2]) => self.fail(cx, &transfer, st1, st2),
        }
    }

    // The data of a command.

    /// The sectors from the current one to the last on this track.
    fn begin_run(&mut self, cx: &mut Cx<'_>, mut t: Transfer) {
        let sectors = self.track_sectors(t.drive);
        if t.sector > sectors {
            return self.fail(cx, &t, ST1_NO_DATA, 0);
        }
        // A last sector before the first is passed by: the track ends the run.
        let end = if t.last >= t.sector { t.last.min(sectors) } else { sectors };
        t.run = end - t.sector + 1;
        match t.kind {
            Kind::Verify(count) if count != 0 => t.run = t.run.min(count),
            Kind::ReadDeleted => t.run = 1,
            _ => {}
        }
        t.moved = 0;
        t.buffer.clear();
        self.transfer = Some(t);
        match self.transfer.as_ref().map(|t| t.kind) {
            Some(Kind::Write) => self.ask_host(cx),
            _ => self.fetch(cx),
        }
    }

    /// Where the run lies on the disk: offset, and how much of it the image has.
    fn extent(&self, t: &Transfer, sectors: u8) -> Option<(Disk, u64, u64)> {
        let disk = self.drive(t.drive)?.disk?;
        let f = disk.format;
        let track = u64::from(t.cylinder) * u64::from(f.heads) + u64::from(t.head);
        let offset = (track * u64::from(f.sectors) + u64::from(t.sector) - 1) * SECTOR;
        let len = (u64::from(sectors) * SECTOR).min(disk.medium.bytes.saturating_sub(offset));
        Some((disk, offset, len))
    }

    fn submit(&mut self, cx: &mut Cx<'_>, id: DriveId, operation: Operation) {
        let request = self.next_request;
        self.next_request = request.wrapping_add(1);
        if let Some(t) = &mut self.transfer {
            t.request = Some(request);
        }
        cx.submit(id, RequestId(request), operation);
    }

    fn fetch(&mut self, cx: &mut Cx<'_>) {
        let Some(t) = &self.transfer else { return };
        match self.extent(t, t.run) {
            Some((_, _, 0)) => self.fetched(cx, Vec::new()),
            Some((disk, offset, len)) => {
                self.submit(cx, disk.id, Operation::Read { offset, len: len as u32 })
            }
            None => self.stop(cx, ST1_MISSING_MARK, 0),
        }
    }

    fn fetched(&mut self, cx: &mut Cx<'_>, mut bytes: Vec<u8>) {
        let Some(t) = &mut self.transfer else { return };
        // What a short image lacks reads as zeros.
        bytes.resize(t.run_bytes() as usize, 0);
        if t.to_host() {
            t.buffer = bytes.into();
            self.ask_host(cx);
        } else {
            t.moved = t.run_bytes();
            self.run_ends(cx);
        }
    }

    /// In non-DMA mode each byte is asked for by an interrupt.
    fn ask_host(&mut self, cx: &mut Cx<'_>) {
        let asks = self.no_dma() && self.transfer.as_ref().is_some_and(|t| t.wanted() > 0);
        if asks {
            // Each is an edge of its own.
            cx.set_irq(self.irq, false);
            self.interrupt = true;
            self.drive_line(cx);
        }
    }

    /// Gives the host bytes of the buffer. With `last`, terminal count comes with them.
    fn move_to_host(&mut self, cx: &mut Cx<'_>, len: usize, last: bool) -> Vec<u8> {
        let Some(t) = &mut self.transfer else { return Vec::new() };
        let bytes: Vec<u8> = t.buffer.drain(..len.min(t.buffer.len())).collect();
        t.moved += bytes.len() as u32;
        t.terminal_count = last;
        let ends = last || t.buffer.is_empty();
        self.answered(cx);
        if ends {
            self.run_ends(cx)
        } else {
            self.ask_host(cx)
        }
        bytes
    }

    fn move_from_host(&mut self, cx: &mut Cx<'_>, bytes: &[u8], last: bool) {
        let Some(t) = &mut self.transfer else { return };
        t.buffer.extend(bytes);
        t.moved += bytes.len() as u32;
        t.terminal_count = last;
        let ends = last || t.moved >= t.run_bytes();
        self.answered(cx);
        if ends { self.store(cx) } else { self.ask_host(cx) }
    }

    /// The host has done what an interrupt asked for.
    fn answered(&mut self, cx: &mut Cx<'_>) {
        self.interrupt = false;
        self.drive_line(cx);
    }

    /// Sends what the host gave to the drive; half a sector is filled up with zeros.
    fn store(&mut self, cx: &mut Cx<'_>) {
        let Some(t) = &mut self.transfer else { return };
        let mut data: Vec<u8> = core::mem::take(&mut t.buffer).into();
        if let Kind::Format { filler } = t.kind {
            let (made, drive) = (formatted(&data, t.cylinder, t.head), t.drive);
            let last = self.track_sectors(drive);
            let made =
                made.filter(|(first, count)| u16::from(*first) + u16::from(*count) <= u16::from(last) + 1);
            let Some((first, count)) = made else { return self.stop(cx, ST1_NO_DATA, 0) };
            if let Some(t) = &mut self.transfer {
                (t.sector, t.run) = (first, count);
            }
            data = vec![filler; usize::from(count) * SECTOR as usize];
        }
        data.resize(data.len().next_multiple_of(SECTOR as usize), 0);
        let sectors = (data.len() as u64 / SECTOR) as u8;
        let Some(t) = &self.transfer else { return };
        match self.extent(t, sectors) {
            Some((disk, offset, len)) if len == data.len() as u64 => {
                self.submit(cx, disk.id, Operation::Write { offset, data });
            }
            _ => self.stop(cx, ST1_NO_DATA, 0),
        }
    }

    /// All sectors of the run have been moved, or terminal count cut it short.
    fn run_ends(&mut self, cx: &mut Cx<'_>) {
        let Some(mut t) = self.transfer.take() else { return };
        let done = t.moved.div_ceil(SECTOR as u32) as u8;
        match t.kind {
            Kind::Format { .. } => return self.finish([self.st0(&t, 0), 0, 0], [t.cylinder, t.head, t.run]),
            Kind::ReadDeleted => {
                t.sector += 1;
                return self.finish([self.st0(&t, 0), 0, ST2_CONTROL_MARK], [t.cylinder, t.head, t.sector]);
            }
            Kind::Verify(count) => {
                let left = count.saturating_sub(t.run);
                t.terminal_count = left == 0 && (count != 0 || !self.goes_on(&t, done));
                t.kind = Kind::Verify(left);
            }
            _ => {}
        }
        let at_last = t.sector + done - 1 == t.last;
        let goes_on = self.goes_on(&t, done);
        // The status tells of the head that was used last, the address of the sector that would come next.
        let st0 = self.st0(&t, 0);
        t.sector += done;
        if at_last {
            (t.sector, t.head, t.cylinder) = match (t.multi_track, t.head) {
                (true, 0) => (1, 1, t.cylinder),
                (true, _) => (1, 0, t.cylinder.wrapping_add(1)),
                (false, head) => (1, head, t.cylinder.wrapping_add(1)),
            };
        }
        match (t.terminal_count, at_last) {
            (true, _) => self.finish([st0, 0, 0], [t.cylinder, t.head, t.sector]),
            (false, true) if !goes_on => {
                self.finish([st0 | ST0_ABNORMAL, ST1_END, 0], [t.cylinder, t.head, t.sector]);
            }
            _ => self.begin_run(cx, t),
        }
    }

    /// Whether there is a second side to go to behind the last sector.
    fn goes_on(&self, t: &Transfer, done: u8) -> bool {
        let two = self.readable(t.drive).is_some_and(|d| d.format.heads == 2);
        t.sector + done - 1 != t.last || t.multi_track && t.head == 0 && two
    }

    fn st0(&self, t: &Transfer, status: u8) -> u8 {
        status | t.drive | if t.head != 0 { ST0_HEAD } else { 0 }
    }

    /// Ends the command that is under way with an error.
    fn stop(&mut self, cx: &mut Cx<'_>, st1: u8, st2: u8) {
        if let Some(t) = self.transfer.take() {
            self.fail(cx, &t, st1, st2);
        }
    }

    fn fail(&mut self, cx: &mut Cx<'_>, t: &Transfer, st1: u8, st2: u8) {
        self.finish([self.st0(t, ST0_ABNORMAL), st1, st2], [t.cylinder, t.head, t.sector]);
        self.drive_line(cx);
    }

    /// The result of a command that ends with an interrupt.
    fn finish(&mut self, status: [u8; 3], [cylinder, head, sector]: [u8; 3]) {
        self.forget_polling();
        self.transfer = None;
        self.results = status.into();
        self.results.extend([cylinder, head, sector, N_512]);
        self.interrupt = true;
    }
}

/// Bytes of a command.
fn length(first: u8) -> usize {
    match first & CODE {
        _ if !is_known(first) => 1,
        SENSE_INTERRUPT | DUMPREG | VERSION | LOCK => 1,
        SENSE_DRIVE | RECALIBRATE | READ_ID | PERPENDICULAR => 2,
        SPECIFY | SEEK => 3,
        CONFIGURE => 4,
        FORMAT => 6,
        _ => 9,
    }
}

/// Whether the command exists with these option bits.
fn is_known(first: u8) -> bool {
    let options = match first & CODE {
        READ | READ_DELETED | VERIFY => MULTI_TRACK | MFM | SKIP,
        WRITE | WRITE_DELETED => MULTI_TRACK | MFM,
        READ_TRACK => MFM | SKIP,
        READ_ID | FORMAT => MFM,
        SEEK => RELATIVE | INWARDS,
        LOCK => LOCK_SET,
        SPECIFY | SENSE_DRIVE | RECALIBRATE | SENSE_INTERRUPT | DUMPREG | VERSION | PERPENDICULAR
        | CONFIGURE => 0,
        _ => return false,
    };
    first & !CODE & !options == 0
}

/// The first sector and the number of sectors that a list of marks makes, if they are this track's and fill a
/// range.
fn formatted(marks: &[u8], cylinder: u8, head: u8) -> Option<(u8, u8)> {
    let ours = |mark: &[u8]| mark[0] == cylinder && mark[1] == head && mark[3] == N_512;
    let mut sectors: Vec<u8> = marks.chunks_exact(4).filter(|mark| ours(mark)).map(|mark| mark[2]).collect();
    sectors.sort_unstable();
    sectors.dedup();
    let (first, last) = (*sectors.first()?, *sectors.last()?);
    let whole = 4 * sectors.len() == marks.len() && usize::from(last - first) + 1 == sectors.len();
    (whole && first != 0).then_some((first, sectors.len() as u8))
}

impl DmaPeer for Floppy {
    fn dma_request(&self) -> Option<DmaRequest> {
        let transfer = self.transfer.as_ref().filter(|_| !self.no_dma() && self.dor & DOR_DMAGATE != 0)?;
        match transfer.wanted() {
            0 => None,
            len if transfer.to_host() => Some(DmaRequest::ToMemory(len)),
            len => Some(DmaRequest::FromMemory(len)),
        }
    }

    fn dma_take(&mut self, cx: &mut Cx<'_>, len: usize, last: bool) -> Vec<u8> {
        let bytes = self.move_to_host(cx, len, last);
        self.drive_line(cx);
        bytes
    }

    fn dma_give(&mut self, cx: &mut Cx<'_>, bytes: &[u8], last: bool) {
        self.move_from_host(cx, bytes, last);
        self.drive_line(cx);
    }
}

impl Device for Floppy {
    /// The disks stay, and the heads where they are.
    fn reset(&mut self, cx: &mut Cx<'_>) {
        let fresh = Self::new(self.irq, [None; 2]);
        *self = Self { drives: self.drives, next_request: self.next_request, ..fresh };
        self.drive_line(cx);
    }

    fn pio(&mut self) -> Option<&mut dyn PortIo> {
        Some(self)
    }

    fn complete(&mut self, cx: &mut Cx<'_>, done: Completion) {
        let Some(t) = &mut self.transfer else { return };
        if t.request != Some(done.id.0) {
            return;
        }
        t.request = None;
        let writes = matches!(t.kind, Kind::Write | Kind::Format { .. });
        match done.result {
            Ok(_) if writes => self.run_ends(cx),
            Ok(bytes) => self.fetched(cx, bytes),
            Err(_) => self.stop(cx, ST1_DATA_ERROR, ST2_DATA_ERROR),
        }
        self.drive_line(cx);
    }
}

impl PortIo for Floppy {
    fn read(&mut self, cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        let mut value = u64::from(self.read_register(cx, at)?);
        for i in 1..width.bytes() {
            let byte = self.read_register(cx, At::new(at.region, at.offset + i)).unwrap_or(0xff);
            value |= u64::from(byte) << (8 * i);
        }
        Ok(value)
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError> {
        self.write_register(cx, at, value as u8)?;
        for i in 1..width.bytes() {
            // A byte beyond the device goes to nobody.
            let _ = self.write_register(cx, At::new(at.region, at.offset + i), (value >> (8 * i)) as u8);
        }
        Ok(())
    }
}

mod saved {
    use super::{DRIVE_BITS, Floppy, GAP_WGATE, Transfer};
    use aero_state::{RestoreError, Saved, Section};
    use serde::{Deserialize, Serialize};

    const KIND: &str = "floppy";

    #[derive(Serialize, Deserialize)]
    struct FloppyStateV1 {
        /// Cylinder and disk-change line of each drive.
        drives: [(u8, bool); 2],
        dor: u8,
        tdr: u8,
        rate: u8,
        command: Vec<u8>,
        results: Vec<u8>,
        transfer: Option<Transfer>,
        next_request: u32,
        interrupt: bool,
        events: Vec<(u8, u8)>,
        cylinders: [u8; 4],
        specify: [u8; 2],
        config: u8,
        precompensation_track: u8,
        perpendicular: u8,
        locked: bool,
        last_sector: u8,
    }

    /// A transfer whose numbers a controller could have made.
    fn is_sane(t: &Transfer) -> bool {
        let small = [t.sector, t.run, t.cylinder].iter().all(|n| *n < 100) && t.sector > 0;
        let moved = t.moved <= t.run_bytes() && t.buffer.len() as u32 <= t.run_bytes();
        small && moved && t.drive < 4 && t.head < 2
    }

    impl Saved for Floppy {
        fn save(&self) -> Section {
            // The line and the disks are the board's.
            let Self {
                irq: _,
                drives,
                dor,
                tdr,
                rate,
                command,
                results,
                transfer,
                next_request,
                interrupt,
                events,
                cylinders,
                specify,
                config,
                precompensation_track,
                perpendicular,
                locked,
                last_sector,
            } = self;
            let state = FloppyStateV1 {
                drives: drives.map(|drive| drive.map_or((0, true), |d| (d.cylinder, d.changed))),
                dor: *dor,
                tdr: *tdr,
                rate: *rate,
                command: command.clone(),
                results: results.iter().copied().collect(),
                transfer: transfer.clone(),
                next_request: *next_request,
                interrupt: *interrupt,
                events: events.iter().copied().collect(),
                cylinders: *cylinders,
                specify: *specify,
                config: *config,
                precompensation_track: *precompensation_track,
                perpendicular: *perpendicular,
                locked: *locked,
                last_sector: *last_sector,
            };
            Section::new(KIND, 1, &state)
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let state: FloppyStateV1 = section.decode(KIND, 1)?;
            if state.command.len() > 8 || state.transfer.as_ref().is_some_and(|t| !is_sane(t)) {
                return Err(RestoreError::Damaged { kind: KIND });
            }
            for (drive, (cylinder, changed)) in self.drives.iter_mut().zip(state.drives) {
                if let Some(drive) = drive {
                    (drive.cylinder, drive.changed) = (cylinder, changed);
                }
            }
            *self = Self {
                irq: self.irq,
                drives: self.drives,
                dor: state.dor,
                tdr: state.tdr,
                rate: state.rate,
                command: state.command,
                results: state.results.into(),
                transfer: state.transfer,
                next_request: state.next_request,
                interrupt: state.interrupt,
                events: state.events.into(),
                cylinders: state.cylinders,
                specify: state.specify,
                config: state.config,
                precompensation_track: state.precompensation_track,
                perpendicular: state.perpendicular & (DRIVE_BITS | GAP_WGATE),
                locked: state.locked,
                last_sector: state.last_sector,
            };
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aero_bus::bench::{TestBoard, conformance};
    use aero_bus::block::MemoryDisk;

    /// An image whose sector `n` begins with `n`.
    fn image(format: Format) -> Vec<u8> {
        let sectors = 0..(format.bytes() / SECTOR) as u32;
        sectors.flat_map(|n| [&n.to_le_bytes()[..], &[0xa5; SECTOR as usize - 4]].concat()).collect()
    }

    struct Bench {
        board: TestBoard,
        floppy: Floppy,
        irq: IrqLine,
    }

    const D1440: Format = FORMATS[6];

    impl Bench {
        fn new(format: Format, read_only: bool) -> Self {
            let mut board = TestBoard::new();
            let irq = board.line();
            let mut floppy = Floppy::new(irq, [Some(format.drive), Some(format.drive)]);
            let disk = MemoryDisk::new(image(format), read_only);
            let medium = aero_bus::block::BlockBackend::medium(&disk);
            let id = board.attach(disk);
            assert!(floppy.insert(0, Some((id, medium))));
            let mut bench = Self { board, floppy, irq };
            bench.out(DOR, 0);
            bench.out(DOR, DOR_NOT_RESET | DOR_DMAGATE | 0x10);
            (0..4).for_each(|n| assert_eq!(bench.command(&[SENSE_INTERRUPT], 2), [0xc0 | n, 0]));
            bench.board.outb(&mut bench.floppy, PORT_7, 0, format.rate_in(format.drive));
            bench.command(&[SPECIFY, 0xdf, 2], 0);
            bench.command(&[RECALIBRATE, 0], 0);
            assert_eq!(bench.command(&[SENSE_INTERRUPT], 2), [ST0_SEEK_END, 0]);
            bench
        }

        fn out(&mut self, register: u64, value: u8) {
            self.board.outb(&mut self.floppy, REGISTERS, register, value);
        }

        fn inb(&mut self, register: u64) -> u8 {
            self.board.inb(&mut self.floppy, REGISTERS, register)
        }

        fn interrupt(&self) -> bool {
            self.board.fabric.level(self.irq)
        }

        fn send(&mut self, bytes: &[u8]) {
            for byte in bytes {
                assert_eq!(self.inb(MSR_DSR) & (MSR_RQM | MSR_DIO), MSR_RQM, "{bytes:x?}");
                self.out(FIFO, *byte);
            }
        }

        fn results(&mut self, count: usize) -> Vec<u8> {
            let bytes = (0..count).map(|_| {
                assert_eq!(self.inb(MSR_DSR), MSR_RQM | MSR_DIO | MSR_BUSY);
                self.inb(FIFO)
            });
            let bytes = bytes.collect();
            assert_eq!(self.inb(MSR_DSR), MSR_RQM, "{bytes:x?}");
            bytes
        }

        fn command(&mut self, bytes: &[u8], results: usize) -> Vec<u8> {
            self.send(bytes);
            self.results(results)
        }

        fn command_if_idle(&mut self, first: u8, random: u64) {
            if self.inb(MSR_DSR) == MSR_RQM {
                [first, (random >> 16) as u8, (random >> 24) as u8].iter().for_each(|b| self.out(FIFO, *b));
            }
        }

        fn seek(&mut self, unit_head: u8, cylinder: u8) {
            self.command(&[SEEK, unit_head, cylinder], 0);
            assert_eq!(self.command(&[SENSE_INTERRUPT], 2), [ST0_SEEK_END | unit_head & 3, cylinder]);
        }

        /// Plays the DMA controller: moves `count` bytes at most, then terminal count.
        fn dma(&mut self, count: usize, from_memory: &[u8]) -> Vec<u8> {
            let mut moved = Vec::new();
            self.board.serve(&mut self.floppy);
            while let Some(request) = self.floppy.dma_request() {
                let left = count - moved.len();
                let cx = &mut self.board.cx();
                match request {
                    DmaRequest::ToMemory(len) => {
                        moved.extend(self.floppy.dma_take(cx, len.min(left), len >= left));
                    }
                    DmaRequest::FromMemory(len) => {
                        let bytes = &from_memory[moved.len()..moved.len() + len.min(left)];
                        self.floppy.dma_give(cx, bytes, len >= left);
                        moved.extend(bytes);
                    }
                }
                self.board.serve(&mut self.floppy);
            }
            moved
        }

        /// The number at the start of each sector of `bytes`.
        fn numbers(bytes: &[u8]) -> Vec<u32> {
            let first = |s: &[u8]| u32::from_le_bytes([s[0], s[1], s[2], s[3]]);
            bytes.chunks(SECTOR as usize).map(first).collect()
        }
    }

    fn read(cylinder: u8, head: u8, sector: u8, last: u8) -> [u8; 9] {
        [MULTI_TRACK | MFM | SKIP | READ, head << 2, cylinder, head, sector, 2, last, 0x1b, 0xff]
    }

    fn write(cylinder: u8, head: u8, sector: u8, last: u8) -> [u8; 9] {
        [MULTI_TRACK | MFM | WRITE, head << 2, cylinder, head, sector, 2, last, 0x1b, 0xff]
    }

    #[test]
    fn floppy_passes_the_conformance_suite() {
        conformance(&[0, 1], |board| {
            let irq = board.line();
            let mut floppy = Floppy::new(irq, [Some(DriveKind::D1440), None]);
            let id = board.attach(MemoryDisk::new(image(D1440), false));
            floppy.insert(0, Some((id, Medium { bytes: D1440.bytes(), read_only: false })));
            floppy
        });
    }

    #[test]
    fn sectors_are_read_until_terminal_count() {
        let mut b = Bench::new(D1440, false);
        b.seek(0, 2);
        b.send(&read(2, 0, 5, 18));
        assert_eq!((b.inb(MSR_DSR), b.interrupt()), (MSR_BUSY, false));
        let bytes = b.dma(3 * 512, &[]);
        assert_eq!(Bench::numbers(&bytes), [76, 77, 78]);
        assert!(b.interrupt());
        assert_eq!(b.results(7), [0, 0, 0, 2, 0, 8, 2]);
        assert!(!b.interrupt());
    }

    #[test]
    fn multi_track_goes_on_to_the_second_side_and_ends_behind_it() {
        let mut b = Bench::new(D1440, false);
        b.send(&read(0, 0, 17, 18));
        assert_eq!(Bench::numbers(&b.dma(4 * 512, &[])), [16, 17, 18, 19]);
        assert_eq!(b.results(7), [HEAD, 0, 0, 0, 1, 3, 2]);
        b.send(&read(0, 1, 18, 18));
        assert_eq!(Bench::numbers(&b.dma(512, &[])), [35]);
        assert_eq!(b.results(7)[3..], [1, 0, 1, 2], "the next sector is on the next cylinder");
        b.send(&read(0, 1, 18, 18));
        b.dma(1024, &[]);
        assert_eq!(b.results(7)[..2], [ST0_ABNORMAL | HEAD, ST1_END], "no terminal count");
    }

    #[test]
    fn written_sectors_are_on_the_disk_before_the_interrupt() {
        let mut b = Bench::new(D1440, false);
        b.seek(0, 1);
        b.send(&write(1, 1, 3, 18));
        let bytes: Vec<u8> = (0..1000u32).map(|n| n as u8).collect();
        assert_eq!(b.dma(1000, &bytes).len(), 1000);
        assert!(b.interrupt());
        assert_eq!(b.results(7), [HEAD, 0, 0, 1, 1, 5, 2]);
        let at = (3 * 18 + 2) * 512;
        assert_eq!(b.board.disks[0].bytes()[at..at + 1000], bytes[..]);
        assert_eq!(b.board.disks[0].bytes()[at + 1000..at + 1024], [0; 24], "half a sector is filled up");
    }

    #[test]
    fn read_only_disk_refuses_writes() {
        let mut b = Bench::new(D1440, true);
        b.send(&write(0, 0, 1, 18));
        assert!(b.interrupt());
        assert_eq!(b.results(7), [ST0_ABNORMAL, ST1_NOT_WRITABLE, 0, 0, 0, 1, 2]);
        assert_eq!(b.command(&[SENSE_DRIVE, 0], 1), [0x78]);
        assert_eq!(b.command(&[SENSE_DRIVE, 5], 1), [0x3d], "drive 1, head 1, at track 0, no disk");
    }

    #[test]
    fn what_is_not_on_the_disk_is_not_found() {
        let mut b = Bench::new(D1440, false);
        let mut fails = |command: &[u8]| {
            b.send(command);
            b.board.serve(&mut b.floppy);
            b.dma(1 << 20, &[]);
            let results = b.results(7);
            assert_eq!(results[0] & 0xc0, ST0_ABNORMAL);
            (results[1], results[2])
        };
        assert_eq!(fails(&read(0, 0, 19, 18)), (ST1_NO_DATA, 0));
        assert_eq!(fails(&read(0, 0, 18, 36)), (ST1_NO_DATA, 0), "the track ends first");
        assert_eq!(fails(&read(3, 0, 1, 18)), (ST1_NO_DATA, ST2_WRONG_CYLINDER));
        let mut sizes = read(0, 0, 1, 18);
        sizes[5] = 3;
        assert_eq!(fails(&sizes), (ST1_NO_DATA, 0));
        let mut other_drive = read(0, 0, 1, 18);
        other_drive[1] = 1;
        assert_eq!(fails(&other_drive), (ST1_MISSING_MARK, 0));
    }

    #[test]
    fn rate_of_another_format_finds_no_mark() {
        let mut b = Bench::new(D1440, false);
        b.board.outb(&mut b.floppy, PORT_7, 0, RATE_250K);
        assert_eq!(b.command(&[MFM | READ_ID, 0], 7)[..2], [ST0_ABNORMAL, ST1_MISSING_MARK]);
        b.board.outb(&mut b.floppy, PORT_7, 0, 0);
        assert_eq!(b.command(&[MFM | READ_ID, 4], 7), [4, 0, 0, 0, 1, 1, 2]);
        b.board.pass(&mut b.floppy, TURN_NS / 2);
        assert_eq!(b.command(&[MFM | READ_ID, 0], 7)[5], 10, "half a turn later");
    }

    #[test]
    fn every_format_reads_its_last_sector() {
        for format in FORMATS {
            let mut b = Bench::new(format, false);
            let (cylinder, head) = (format.cylinders - 1, format.heads - 1);
            b.seek(0, cylinder);
            b.send(&read(cylinder, head, format.sectors, format.sectors));
            let last = (format.bytes() / SECTOR) as u32 - 1;
            assert_eq!(Bench::numbers(&b.dma(512, &[])), [last], "{format:?}");
            assert_eq!(b.results(7)[0], head << 2);
            assert_eq!(Format::of(format.bytes()), Some(format));
        }
        assert_eq!(Format::of(3 << 20), None);
    }

    #[test]
    fn short_image_reads_as_zeros_behind_its_end() {
        let mut b = Bench::new(D1440, false);
        let id = b.board.attach(MemoryDisk::new(vec![7; 1_300_000], false));
        b.floppy.insert(0, Some((id, Medium { bytes: 1_300_480, read_only: false })));
        b.seek(0, 79);
        b.send(&read(79, 1, 18, 18));
        assert_eq!(b.dma(512, &[]), [0; 512]);
        assert_eq!(b.results(7)[0], HEAD);
    }

    #[test]
    fn formatted_track_holds_the_filler() {
        let mut b = Bench::new(D1440, false);
        b.seek(0, 4);
        b.send(&[MFM | FORMAT, 4, 2, 18, 0x54, 0xf6]);
        // Interleaved.
        let marks: Vec<u8> = (0..18).flat_map(|n| [4, 1, 1 + n * 7 % 18, 2]).collect();
        let marks = if marks.len() == 72 { marks } else { panic!("18 marks") };
        b.dma(72, &marks);
        assert_eq!(b.results(7)[..3], [HEAD, 0, 0]);
        let at = 9 * 18 * 512;
        let bytes = b.board.disks[0].bytes();
        assert!(bytes[at..at + 18 * 512].iter().all(|x| *x == 0xf6));
        assert_eq!((bytes[at - 1], bytes[at + 18 * 512 + 4]), (0xa5, 0xa5));
    }

    #[test]
    fn track_formatted_beyond_its_end_leaves_the_next_one_alone() {
        let mut b = Bench::new(D1440, false);
        assert_eq!(b.command(&[MFM | FORMAT, 0, 2, 19, 0x54, 0xf6], 7)[..2], [ST0_ABNORMAL, ST1_NO_DATA]);
        b.send(&[MFM | FORMAT, 0, 2, 2, 0x54, 0xf6]);
        b.dma(8, &[0, 0, 18, 2, 0, 0, 19, 2]);
        assert_eq!(b.results(7)[..2], [ST0_ABNORMAL, ST1_NO_DATA]);
        assert_eq!(b.board.disks[0].bytes(), image(D1440));
    }

    #[test]
    fn without_dma_each_byte_comes_with_an_interrupt() {
        let mut b = Bench::new(D1440, false);
        b.command(&[SPECIFY, 0xdf, 3], 0);
        b.send(&read(0, 1, 18, 18));
        b.board.serve(&mut b.floppy);
        let mut bytes = Vec::new();
        while b.inb(MSR_DSR) & MSR_NON_DMA != 0 {
            assert_eq!(b.inb(MSR_DSR), MSR_RQM | MSR_DIO | MSR_NON_DMA | MSR_BUSY);
            assert!(b.interrupt());
            let _ = b.board.fabric.take_line_changes();
            bytes.push(b.inb(FIFO));
            let edges = b.board.fabric.take_line_changes();
            assert_eq!(edges.iter().map(|c| c.level).collect::<Vec<_>>(), [false, true]);
        }
        assert_eq!(Bench::numbers(&bytes), [35]);
        assert_eq!(b.results(7)[..2], [HEAD | ST0_ABNORMAL, ST1_END]);
        b.send(&write(0, 1, 18, 18));
        (0..512).for_each(|_| b.out(FIFO, 0x3c));
        b.board.serve(&mut b.floppy);
        assert_eq!(b.results(7)[1], ST1_END);
        assert_eq!(b.board.disks[0].bytes()[35 * 512..36 * 512], [0x3c; 512]);
    }

    #[test]
    fn disk_change_falls_with_a_step_when_a_disk_is_in() {
        let mut b = Bench::new(D1440, false);
        let changed = |b: &mut Bench| b.board.inb(&mut b.floppy, PORT_7, 0) & DIR_DISK_CHANGE != 0;
        assert!(!changed(&mut b), "the recalibration stepped");
        assert!(b.floppy.insert(0, None));
        b.seek(0, 1);
        assert!(changed(&mut b), "no disk, so it stays");
        b.floppy.insert(0, Some((DriveId(0), Medium { bytes: D1440.bytes(), read_only: true })));
        assert!(changed(&mut b));
        b.seek(0, 2);
        assert!(!changed(&mut b));
        assert!(!b.floppy.insert(2, None), "there are two drives");
        let large = Medium { bytes: 4 << 20, read_only: false };
        assert!(!b.floppy.insert(0, Some((DriveId(0), large))));
    }

    #[test]
    fn absent_drive_never_finds_track_0() {
        let mut b = Bench::new(D1440, false);
        b.command(&[RECALIBRATE, 2], 0);
        assert!(b.interrupt());
        assert_eq!(b.command(&[SENSE_INTERRUPT], 2), [0x72, 0]);
        assert!(!b.interrupt());
        assert_eq!(b.command(&[SENSE_INTERRUPT], 1), [ST0_INVALID]);
    }

    #[test]
    fn seeks_are_absolute_or_relative() {
        let mut b = Bench::new(D1440, false);
        b.seek(0, 10);
        b.command(&[SEEK | RELATIVE | INWARDS, 0, 5], 0);
        assert_eq!(b.command(&[SENSE_INTERRUPT], 2), [ST0_SEEK_END, 15]);
        b.command(&[SEEK | RELATIVE, 0, 3], 0);
        assert_eq!(b.command(&[SENSE_INTERRUPT], 2), [ST0_SEEK_END, 12]);
        b.send(&read(12, 0, 1, 18));
        assert_eq!(Bench::numbers(&b.dma(512, &[])), [12 * 36]);
        b.results(7);
        b.command(&[CONFIGURE, 0, IMPLIED_SEEK | CONFIG_RESET, 0], 0);
        b.send(&read(20, 0, 1, 18));
        assert_eq!(Bench::numbers(&b.dma(512, &[])), [20 * 36]);
        b.results(7);
    }

    #[test]
    fn lock_keeps_the_configuration_over_a_software_reset() {
        let mut b = Bench::new(D1440, false);
        assert_eq!(b.command(&[VERSION], 1), [0x90]);
        b.command(&[CONFIGURE, 0, 0x57, 8], 0);
        b.command(&[PERPENDICULAR, OVERWRITE | 0x07], 0);
        assert_eq!(b.command(&[DUMPREG], 10), [0, 0, 0, 0, 0xdf, 2, 0, 0x07, 0x57, 8]);
        assert_eq!(b.command(&[LOCK | LOCK_SET], 1), [0x10]);
        b.out(MSR_DSR, DSR_RESET);
        assert!(!b.interrupt(), "polling is off");
        assert_eq!(b.command(&[DUMPREG], 10)[7..], [0x84, 0x57, 8]);
        assert_eq!(b.command(&[LOCK], 1), [0]);
        b.out(MSR_DSR, DSR_RESET);
        assert!(b.interrupt());
        assert_eq!(b.command(&[DUMPREG], 10)[7..], [0x04, CONFIG_RESET, 0]);
    }

    #[test]
    fn verify_counts_sectors_and_moves_nothing() {
        let mut b = Bench::new(D1440, false);
        b.send(&[MFM | VERIFY, ENABLE_COUNT, 0, 0, 3, 2, 18, 0x1b, 4]);
        assert!(b.dma(0, &[]).is_empty());
        assert_eq!(b.results(7), [0, 0, 0, 0, 0, 7, 2]);
        b.send(&[MFM | VERIFY, 0, 0, 0, 3, 2, 18, 0x1b, 0xff]);
        b.dma(0, &[]);
        assert_eq!(b.results(7)[..2], [0, 0], "without a count it ends with the track");
    }

    #[test]
    fn bios_that_asks_once_after_a_reset_finds_the_end_of_its_seek_next() {
        let mut b = Bench::new(D1440, false);
        b.out(DOR, 0);
        b.out(DOR, DOR_NOT_RESET | DOR_DMAGATE);
        assert_eq!(b.command(&[SENSE_INTERRUPT], 2), [ST0_POLLED, 0]);
        b.command(&[RECALIBRATE, 0], 0);
        assert_eq!(b.command(&[SENSE_INTERRUPT], 2), [ST0_SEEK_END, 0]);
        assert_eq!(b.command(&[SENSE_INTERRUPT], 1), [ST0_INVALID]);
    }

    #[test]
    fn unknown_command_is_invalid_and_raises_nothing() {
        let mut b = Bench::new(D1440, false);
        for command in [0x00, 0x01, 0x11, 0x18, 0x1f, 0x26 | 0x80, 0x48] {
            let known = is_known(command);
            if !known {
                assert_eq!(b.command(&[command], 1), [ST0_INVALID], "{command:#x}");
            }
            assert!(!b.interrupt());
        }
    }

    #[test]
    fn reset_forgets_the_command_and_late_ends_of_requests() {
        let mut b = Bench::new(D1440, false);
        b.send(&read(0, 0, 1, 18));
        b.out(DOR, 0);
        assert_eq!(b.inb(MSR_DSR), 0);
        b.board.serve(&mut b.floppy);
        b.out(DOR, DOR_NOT_RESET | DOR_DMAGATE);
        assert_eq!((b.inb(MSR_DSR), b.floppy.dma_request()), (MSR_RQM, None));
        assert!(b.interrupt());
        b.out(DOR, DOR_NOT_RESET);
        assert!(!b.interrupt(), "the gate holds it back");
    }

    #[test]
    fn random_commands_of_any_kind_end_or_wait_and_never_panic() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = move || {
            // Xorshift.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut b = Bench::new(D1440, false);
        let mut finished = 0;
        for _ in 0..60_000 {
            let n = random();
            let small = [0, 1, 2, 3, 18, 4, 79, 255][(n >> 8 & 7) as usize];
            match n & 31 {
                0 => b.out(DOR, (n >> 16) as u8),
                1 => b.out(MSR_DSR, (n >> 16) as u8 & 0x8f),
                2 => b.command_if_idle(SPECIFY, n),
                3 => b.floppy.complete(
                    &mut b.board.cx(),
                    Completion {
                        drive: DriveId(0),
                        id: RequestId(b.floppy.next_request.wrapping_sub(1)),
                        result: Err(aero_bus::block::BlockError::Medium),
                    },
                ),
                4..8 => drop(b.dma((n >> 32 & 0x3fff) as usize + 1, &[0x5a; 0x8000])),
                8..12 => drop(b.inb(FIFO)),
                12 => b.out(DOR, DOR_NOT_RESET | DOR_DMAGATE | 0x10),
                13..20 => b.out(
                    FIFO,
                    [READ, WRITE, VERIFY, FORMAT, SEEK, CONFIGURE, READ_DELETED, READ_TRACK]
                        [(n >> 8 & 7) as usize]
                        | MFM,
                ),
                _ => b.out(FIFO, small),
            }
            finished += usize::from(b.inb(MSR_DSR) == MSR_RQM | MSR_DIO | MSR_BUSY);
        }
        assert!(finished > 1_000, "{finished}");
    }
}
