//! Discs: the packet commands of a CD and DVD drive, away from any register.
//!
//! The controller collects twelve bytes and asks [`Cd::packet`] what they mean; the [`Reply`] is data, an
//! extent of the medium, data to take, or an end. A command that fails leaves a [`Sense`], which REQUEST
//! SENSE fetches: key, and what exactly.
//!
//! A change of medium shows in three ways, since guests look at any of them. The first command after it that
//! may tell (not INQUIRY, REQUEST SENSE, GET CONFIGURATION or GET EVENT STATUS) fails once with UNIT
//! ATTENTION, 6/28h. GET EVENT STATUS NOTIFICATION has an event, once. Without a medium, commands that need
//! one fail with NOT READY, 2/3Ah. A guest that has locked the tray sees the host's wish to eject as an event
//! and opens the tray itself.
//!
//! The medium is an image of 2,048-byte sectors. READ CD wants more of a sector than that: synchronisation,
//! header and the error correction codes are computed, as they follow from the address and the data. (MMC-5,
//! T10/1675-D; SPC-3; ATA/ATAPI-7 for PACKET; ECMA-130 sections 14 and annex A for sectors.)

use crate::ata::{self, Ending, Extent, Plan, TaskFile, Way};
use aero_bus::block::{DriveId, Medium};
use serde::{Deserialize, Serialize};

/// Packet commands and codes by their names in MMC-5.
mod spec {
    /// Bytes of a sector's user data.
    pub const SECTOR: u64 = 2048;
    /// Bytes of a whole sector.
    pub const RAW: usize = 2352;
    /// Sectors of a CD of 80 minutes: a larger medium is a DVD.
    pub const CD_MAX: u64 = 80 * 60 * 75;
    /// Sectors before address 0, two seconds.
    pub const PREGAP: u32 = 150;

    pub const PROFILE_NONE: u16 = 0;
    pub const PROFILE_CD_ROM: u16 = 8;
    pub const PROFILE_DVD_ROM: u16 = 0x10;

    pub const TEST_UNIT_READY: u8 = 0x00;
    pub const REQUEST_SENSE: u8 = 0x03;
    pub const INQUIRY: u8 = 0x12;
    pub const MODE_SELECT_6: u8 = 0x15;
    pub const MODE_SENSE_6: u8 = 0x1a;
    pub const START_STOP_UNIT: u8 = 0x1b;
    pub const PREVENT_ALLOW: u8 = 0x1e;
    pub const READ_FORMAT_CAPACITIES: u8 = 0x23;
    pub const READ_CAPACITY: u8 = 0x25;
    pub const READ_10: u8 = 0x28;
    pub const SEEK_10: u8 = 0x2b;
    pub const VERIFY_10: u8 = 0x2f;
    pub const READ_SUBCHANNEL: u8 = 0x42;
    pub const READ_TOC: u8 = 0x43;
    pub const READ_HEADER: u8 = 0x44;
    pub const GET_CONFIGURATION: u8 = 0x46;
    pub const GET_EVENT_STATUS: u8 = 0x4a;
    pub const STOP_PLAY: u8 = 0x4e;
    pub const READ_DISC_INFORMATION: u8 = 0x51;
    pub const READ_TRACK_INFORMATION: u8 = 0x52;
    pub const MODE_SELECT_10: u8 = 0x55;
    pub const MODE_SENSE_10: u8 = 0x5a;
    pub const READ_12: u8 = 0xa8;
    pub const GET_PERFORMANCE: u8 = 0xac;
    pub const READ_DVD_STRUCTURE: u8 = 0xad;
    pub const READ_CD_MSF: u8 = 0xb9;
    pub const SET_CD_SPEED: u8 = 0xbb;
    pub const MECHANISM_STATUS: u8 = 0xbd;
    pub const READ_CD: u8 = 0xbe;
    /// Commands of writers, players and copy protection, which guests try and this drive, truthfully, does
    /// not have.
    pub const KNOWN_ABSENT: [u8; 14] =
        [0x04, 0x2a, 0x35, 0x45, 0x47, 0x4b, 0x53, 0x54, 0x5b, 0x5c, 0xa1, 0xa3, 0xa4, 0xaa];

    /// Media events of GET EVENT STATUS NOTIFICATION.
    pub const EVENT_EJECT_REQUEST: u8 = 1;
    pub const EVENT_NEW_MEDIA: u8 = 2;
    pub const EVENT_REMOVAL: u8 = 3;
    /// The class of media events, and its bit.
    pub const CLASS_MEDIA: u8 = 4;

    /// READ CD: synchronisation, header, user data, codes, and the bits for error flags.
    pub const CD_SYNC: u8 = 0x80;
    pub const CD_HEADER: u8 = 0x20;
    pub const CD_USER: u8 = 0x10;
    pub const CD_CODES: u8 = 0x08;
    pub const CD_ERRORS: u8 = 0x06;

    /// The mode page of capabilities; of error recovery; all of them.
    pub const PAGE_RECOVERY: u8 = 0x01;
    pub const PAGE_CAPABILITIES: u8 = 0x2a;
    pub const PAGE_ALL: u8 = 0x3f;
    /// 40 times the speed of a CD, in kB/s.
    pub const SPEED: u16 = 7056;
}

use spec::*;

/// Why a packet command failed: key, code and qualifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Sense {
    /// Sense key: 0 none, 2 not ready, 3 medium error, 5 illegal request, 6 unit attention.
    pub key: u8,
    /// Additional sense code.
    pub asc: u8,
    /// Its qualifier.
    pub ascq: u8,
}

impl Sense {
    const fn new(key: u8, asc: u8, ascq: u8) -> Self {
        Self { key, asc, ascq }
    }

    /// The medium cannot be read.
    pub const UNREADABLE: Self = Self::new(3, 0x11, 0);
    const NO_MEDIUM: Self = Self::new(2, 0x3a, 1);
    const TRAY_OPEN: Self = Self::new(2, 0x3a, 2);
    const UNKNOWN_COMMAND: Self = Self::new(5, 0x20, 0);
    const OUT_OF_RANGE: Self = Self::new(5, 0x21, 0);
    const INVALID_FIELD: Self = Self::new(5, 0x24, 0);
    const INVALID_PARAMETER: Self = Self::new(5, 0x26, 0);
    const WRONG_FORMAT: Self = Self::new(5, 0x30, 2);
    const NOT_SAVED: Self = Self::new(5, 0x39, 0);
    const LOCKED: Self = Self::new(5, 0x53, 2);
    const WRONG_TRACK_MODE: Self = Self::new(5, 0x64, 0);
    const MEDIUM_CHANGED: Self = Self::new(6, 0x28, 0);
}

/// What parts of a sector a command wants: the bits of READ CD's byte 9.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Shape(u8);

impl Shape {
    /// The user data.
    pub const USER: Self = Self(CD_USER);

    /// What the host gets for sectors of user data that begin at byte `offset` of the medium.
    pub fn of(self, offset: u64, user: Vec<u8>) -> Vec<u8> {
        if self == Self::USER {
            return user;
        }
        let first = (offset / SECTOR) as u32;
        let sectors = user.as_chunks::<2048>().0.iter();
        sectors.zip(first..).flat_map(|(data, lba)| self.select(&raw_sector(lba, data))).collect()
    }

    fn select(self, raw: &[u8; RAW]) -> Vec<u8> {
        let parts = [(CD_SYNC, 0..12), (CD_HEADER, 12..16), (CD_USER, 16..2064), (CD_CODES, 2064..RAW)];
        let wanted = parts.into_iter().filter(|(bit, _)| self.0 & bit != 0);
        wanted.flat_map(|(_, range)| raw[range].iter().copied()).collect()
    }
}

/// What a packet command asks of the controller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// It ends well, without data.
    Done,
    /// It fails; the sense is kept.
    Check(Sense),
    /// These bytes go to the host.
    Give(Vec<u8>),
    /// The medium's bytes go to the host.
    Read(Extent, Shape),
    /// The host gives this many bytes, then [`Cd::taken`] is asked.
    Take(u32),
}

/// What a guest can change in a drive, and what it has yet to be told: plain data, part of the saved state of
/// its controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CdSettings {
    open: bool,
    locked: bool,
    /// Fails the next command that may tell.
    attention: Option<Sense>,
    sense: Sense,
    event: u8,
    /// kB/s.
    speed: u16,
    retries: u8,
    dma_mode: u8,
    /// The command under way is MODE SELECT with a header of this many bytes.
    mode_header: u8,
}

const POWER_ON: CdSettings = CdSettings {
    open: false,
    locked: false,
    attention: None,
    sense: Sense::new(0, 0, 0),
    event: 0,
    speed: SPEED,
    retries: 5,
    dma_mode: 0x22,
    mode_header: 0,
};

/// A CD and DVD drive.
#[derive(Clone, Debug)]
pub struct Cd {
    /// Where its medium's bytes are.
    pub drive: DriveId,
    medium: Option<Medium>,
    serial: String,
    serial_ata: bool,
    settings: CdSettings,
    logged: [bool; 256],
}

impl Cd {
    /// A drive with a medium in it, or none.
    pub fn new(drive: DriveId, medium: Option<Medium>, serial: &str) -> Self {
        let serial = serial.chars().filter(char::is_ascii_graphic).take(20).collect();
        Self { drive, medium, serial, serial_ata: false, settings: POWER_ON, logged: [false; 256] }
    }

    /// The controller's cable is a serial one.
    pub(crate) fn on_serial_cable(mut self) -> Self {
        self.serial_ata = true;
        self
    }

    /// After power-on: the tray is in, and the medium stays.
    pub fn power_on(&mut self) {
        self.settings = POWER_ON;
    }

    /// After DEVICE RESET, a reset by software or COMRESET.
    pub fn soft_reset(&mut self) {
        self.settings.sense = Sense::default();
        self.settings.mode_header = 0;
    }

    /// What a guest has changed.
    pub fn settings(&self) -> (CdSettings, Option<Medium>) {
        (self.settings, self.medium)
    }

    /// Takes over what a guest had changed, and the medium of that time.
    pub fn set_settings(&mut self, (settings, medium): (CdSettings, Option<Medium>)) {
        (self.settings, self.medium) = (settings, medium);
    }

    /// The host puts a medium in, in place of what was there, and shuts the tray.
    pub fn insert(&mut self, medium: Medium) {
        self.medium = Some(medium);
        self.settings.open = false;
        self.announce();
    }

    /// The host asks for the medium back. While a guest has the tray locked it is only told of the wish, and
    /// this is false, unless `force`.
    pub fn eject(&mut self, force: bool) -> bool {
        if self.settings.locked && !force {
            self.settings.event = EVENT_EJECT_REQUEST;
            return false;
        }
        if self.medium.take().is_some() {
            self.settings.event = EVENT_REMOVAL;
        }
        self.settings.locked = false;
        true
    }

    /// Whether the guest has opened the tray.
    pub fn tray_open(&self) -> bool {
        self.settings.open
    }

    fn announce(&mut self) {
        self.settings.attention = Some(Sense::MEDIUM_CHANGED);
        self.settings.event = EVENT_NEW_MEDIA;
    }

    /// The medium that can be read, its number of sectors.
    fn ready(&self) -> Result<u32, Sense> {
        if self.settings.open {
            return Err(Sense::TRAY_OPEN);
        }
        let sectors = self.medium.ok_or(Sense::NO_MEDIUM)?.bytes / SECTOR;
        Ok(sectors.min(u32::MAX.into()) as u32)
    }

    fn profile(&self) -> u16 {
        match self.ready() {
            Err(_) => PROFILE_NONE,
            Ok(sectors) if u64::from(sectors) > CD_MAX => PROFILE_DVD_ROM,
            Ok(_) => PROFILE_CD_ROM,
        }
    }

    /// What an ATA command asks for.
    pub fn command(&mut self, task: &TaskFile) -> Plan {
        use ata::spec as a;
        match task.command {
            a::PACKET => Plan::Packet { dma: task.feature & 1 != 0 },
            a::IDENTIFY_PACKET => Plan::Give(ata::words(&self.identify()), Way::Pio(512)),
            a::DEVICE_RESET => Plan::Reset,
            a::EXECUTE_DIAGNOSTIC => Plan::Diagnostic,
            a::SET_FEATURES => Plan::End(self.set_features(task)),
            a::CHECK_POWER | 0x98 => Plan::End(Ending { count: Some(a::POWER_ACTIVE), ..Ending::GOOD }),
            a::STANDBY_IMMEDIATE..=a::IDLE | a::SLEEP | a::FLUSH | a::FLUSH_EXT | 0x94..=0x97 | 0x99 => {
                Plan::End(Ending::GOOD)
            }
            // IDENTIFY DEVICE and READ SECTORS abort and show what this is (ATA/ATAPI-7, 6.17 and 6.36).
            a::IDENTIFY | a::READ_SECTORS => {
                Plan::End(Ending { lba: Some(SIGNATURE_LBA), count: Some(1), ..Ending::ABORTED })
            }
            _ => Plan::End(Ending::ABORTED),
        }
    }

    fn set_features(&mut self, task: &TaskFile) -> Ending {
        match (task.feature as u8, task.count as u8) {
            (0x03, 0x00 | 0x01 | 0x08..=0x0c) | (0x02 | 0x82 | 0xaa | 0x55 | 0x66 | 0xcc, _) => {}
            (0x03, mode @ (0x20..=0x22 | 0x40..=0x45)) => self.settings.dma_mode = mode,
            (0x10 | 0x90, 2 | 5 | 6) if self.serial_ata => {}
            _ => return Ending::ABORTED,
        }
        Ending::GOOD
    }

    /// The 256 words of IDENTIFY PACKET DEVICE.
    fn identify(&self) -> [u16; 256] {
        let mut w = [0; 256];
        // A packet device, CD-ROM, removable, DRQ within 50 µs, packets of 12 bytes.
        w[0] = 0x85c0;
        ata::text(&mut w[10..20], &self.serial);
        ata::text(&mut w[23..27], "1.0");
        ata::text(&mut w[27..47], "AERO DVD-ROM");
        w[49] = 0x0f00;
        w[50] = 0x4000;
        w[53] = 6;
        let (mode, selected) = (self.settings.dma_mode, 1 << (8 + (self.settings.dma_mode & 7)));
        w[63] = 0x07 | if mode < 0x40 { selected } else { 0 };
        w[64] = 3;
        w[65..69].fill(120);
        w[80] = 0x00f0;
        // NOP is not there; packet, power management, DEVICE RESET are.
        (w[82], w[83], w[84]) = (1 << 9 | 1 << 4 | 1 << 3, 0x4000, 0x4000);
        (w[85], w[86], w[87]) = (w[82], 0, 0x4000);
        w[88] = 0x3f | if mode >= 0x40 { selected } else { 0 };
        if self.serial_ata {
            (w[76], w[77], w[78], w[222]) = (0x0006, 0x0004, 0x0040, 0x1020);
        } else {
            w[93] = 0x600b;
        }
        ata::seal_words(&mut w);
        w
    }

    /// The status register after `reply` has ended.
    pub fn ending(sense: Option<Sense>) -> Ending {
        let error = sense.map_or(0, |s| s.key << 4 | if s.key == 5 { ata::spec::ABRT } else { 0 });
        Ending { error, lba: None, count: None }
    }

    /// The command under way failed; REQUEST SENSE will say why.
    pub fn failed(&mut self, sense: Sense) {
        self.settings.sense = sense;
    }

    /// What a packet asks for.
    pub fn packet(&mut self, cdb: &[u8; 12]) -> Reply {
        let quiet = matches!(cdb[0], INQUIRY | REQUEST_SENSE | GET_CONFIGURATION | GET_EVENT_STATUS);
        if let Some(sense) = self.settings.attention.take_if(|_| !quiet) {
            self.settings.sense = sense;
            return Reply::Check(sense);
        }
        let reply = self.execute(cdb).unwrap_or_else(Reply::Check);
        match reply {
            Reply::Check(sense) => self.settings.sense = sense,
            _ if cdb[0] != REQUEST_SENSE => self.settings.sense = Sense::default(),
            _ => {}
        }
        reply
    }

    fn execute(&mut self, cdb: &[u8; 12]) -> Result<Reply, Sense> {
        match cdb[0] {
            TEST_UNIT_READY => self.ready().map(|_| Reply::Done),
            REQUEST_SENSE => Ok(give(self.request_sense(), cdb[4].into())),
            INQUIRY => inquiry(cdb),
            MODE_SENSE_6 => self.mode_sense(cdb, 4, cdb[4].into()),
            MODE_SENSE_10 => self.mode_sense(cdb, 8, be16(cdb, 7)),
            MODE_SELECT_6 => self.mode_select(4, cdb[4].into()),
            MODE_SELECT_10 => self.mode_select(8, be16(cdb, 7)),
            START_STOP_UNIT => self.start_stop(cdb[4]),
            PREVENT_ALLOW => {
                self.settings.locked = cdb[4] & 1 != 0;
                Ok(Reply::Done)
            }
            READ_FORMAT_CAPACITIES => Ok(self.format_capacities(be16(cdb, 7))),
            READ_CAPACITY => self.read_capacity(),
            READ_10 => self.read(be32(cdb, 2), be16(cdb, 7) as u32, Shape::USER),
            READ_12 => self.read(be32(cdb, 2), be32(cdb, 6), Shape::USER),
            READ_CD => self.read_cd(be32(cdb, 2), be32(cdb, 5) & 0xff_ffff, cdb),
            READ_CD_MSF => self.read_cd_msf(cdb),
            SEEK_10 => self.extent(be32(cdb, 2), 1).map(|_| Reply::Done),
            VERIFY_10 => self.extent(be32(cdb, 2), be16(cdb, 7) as u32).map(|_| Reply::Done),
            READ_SUBCHANNEL => self.read_subchannel(cdb),
            READ_TOC => self.read_toc(cdb),
            READ_HEADER => self.read_header(cdb),
            GET_CONFIGURATION => self.get_configuration(cdb),
            GET_EVENT_STATUS => self.get_event_status(cdb),
            STOP_PLAY => self.ready().map(|_| Reply::Done),
            READ_DISC_INFORMATION => self.read_disc_information(cdb),
            READ_TRACK_INFORMATION => self.read_track_information(cdb),
            GET_PERFORMANCE => self.get_performance(cdb),
            READ_DVD_STRUCTURE => self.read_dvd_structure(cdb),
            SET_CD_SPEED => {
                self.settings.speed = (be16(cdb, 2) as u16).clamp(176, SPEED);
                Ok(Reply::Done)
            }
            MECHANISM_STATUS => Ok(give(self.mechanism_status(), be16(cdb, 8))),
            other => Err(self.unknown(other)),
        }
    }

    fn unknown(&mut self, command: u8) -> Sense {
        let logged = core::mem::replace(&mut self.logged[usize::from(command)], true);
        if !logged && !KNOWN_ABSENT.contains(&command) {
            log::info!("unknown ATAPI command {command:02x}: refused");
        }
        Sense::UNKNOWN_COMMAND
    }

    fn request_sense(&mut self) -> Vec<u8> {
        let sense = core::mem::take(&mut self.settings.sense);
        let sense = if sense.key == 0 { self.settings.attention.take().unwrap_or(sense) } else { sense };
        let mut data = vec![0; 18];
        (data[0], data[2], data[7], data[12], data[13]) = (0x70, sense.key, 10, sense.asc, sense.ascq);
        data
    }

    // Medium and tray.

    fn start_stop(&mut self, how: u8) -> Result<Reply, Sense> {
        // A power condition, bits 7:4, overrides the rest.
        match how & 0xf3 {
            // Eject.
            2 if self.settings.locked && !self.settings.open => return Err(Sense::LOCKED),
            2 => {
                if !self.settings.open && self.medium.is_some() {
                    self.settings.event = EVENT_REMOVAL;
                }
                self.settings.open = true;
            }
            // Load.
            3 if self.settings.open => {
                self.settings.open = false;
                if self.medium.is_some() {
                    self.announce();
                }
            }
            _ => {}
        }
        Ok(Reply::Done)
    }

    fn extent(&self, first: u32, count: u32) -> Result<Extent, Sense> {
        let sectors = u64::from(self.ready()?);
        if u64::from(first) + u64::from(count) > sectors || u64::from(first) >= sectors {
            return Err(Sense::OUT_OF_RANGE);
        }
        Ok(Extent { offset: u64::from(first) * SECTOR, len: u64::from(count) * SECTOR })
    }

    fn read(&self, first: u32, count: u32, shape: Shape) -> Result<Reply, Sense> {
        let extent = self.extent(first, count)?;
        Ok(if extent.len == 0 { Reply::Done } else { Reply::Read(extent, shape) })
    }

    /// READ CD: every sector is of mode 1, so a subheader, which is asked for too, has no bytes.
    fn read_cd(&self, first: u32, count: u32, cdb: &[u8; 12]) -> Result<Reply, Sense> {
        let (kind, flags) = (cdb[1] >> 2 & 7, cdb[9]);
        if flags & CD_ERRORS != 0 || cdb[10] & 7 != 0 {
            return Err(Sense::INVALID_FIELD);
        }
        let parts = flags & (CD_SYNC | CD_HEADER | CD_USER | CD_CODES);
        let reply = self.read(first, count, Shape(parts))?;
        match kind {
            0 | 2 if parts == 0 => Ok(Reply::Done),
            0 | 2 => Ok(reply),
            _ => Err(Sense::WRONG_TRACK_MODE),
        }
    }

    fn read_cd_msf(&self, cdb: &[u8; 12]) -> Result<Reply, Sense> {
        let (first, end) = (lba_of(&cdb[3..6]), lba_of(&cdb[6..9]));
        let (Some(first), Some(end)) = (first, end) else { return Err(Sense::OUT_OF_RANGE) };
        let count = end.checked_sub(first).ok_or(Sense::INVALID_FIELD)?;
        self.read_cd(first, count, cdb)
    }

    fn read_capacity(&self) -> Result<Reply, Sense> {
        let last = self.ready()?.saturating_sub(1);
        let mut data = last.to_be_bytes().to_vec();
        data.extend((SECTOR as u32).to_be_bytes());
        Ok(Reply::Give(data))
    }

    fn format_capacities(&self, room: usize) -> Reply {
        let (blocks, kind) = self.ready().map_or((0, 3u8), |sectors| (sectors, 2));
        let mut data = vec![0, 0, 0, 8];
        data.extend(blocks.to_be_bytes());
        data.extend([kind, 0, 8, 0]);
        give(data, room)
    }

    fn read_header(&self, cdb: &[u8; 12]) -> Result<Reply, Sense> {
        let lba = be32(cdb, 2);
        self.extent(lba, 1)?;
        let mut data = vec![1, 0, 0, 0];
        data.extend(address(lba, cdb[1] & 2 != 0));
        Ok(give(data, be16(cdb, 7)))
    }

    // What is on the disc.

    fn read_toc(&self, cdb: &[u8; 12]) -> Result<Reply, Sense> {
        let sectors = self.ready()?;
        let msf = cdb[1] & 2 != 0;
        // Drives of before MMC have the format in the control byte.
        let format = if cdb[2] & 0xf != 0 { cdb[2] & 0xf } else { cdb[9] >> 6 };
        let (first, body) = match format {
            0 => (1, toc_tracks(cdb[6], msf, sectors).ok_or(Sense::INVALID_FIELD)?),
            1 => {
                let mut session = vec![0, 0x14, 1, 0];
                session.extend(address(0, msf));
                (1, session)
            }
            2 => (1, toc_raw(sectors)),
            _ => return Err(Sense::INVALID_FIELD),
        };
        let mut data = ((body.len() + 2) as u16).to_be_bytes().to_vec();
        data.extend([first, 1]);
        data.extend(body);
        Ok(give(data, be16(cdb, 7)))
    }

    fn read_subchannel(&self, cdb: &[u8; 12]) -> Result<Reply, Sense> {
        self.ready()?;
        // No audio status; without the Q bit that is all.
        let mut data = vec![0, 0x15, 0, 0];
        if cdb[2] & 0x40 != 0 {
            let body = match cdb[3] {
                1 => {
                    let mut position = vec![1, 0x14, 1, 1];
                    position.extend(address(0, cdb[1] & 2 != 0));
                    position.extend([0; 4]);
                    position
                }
                // No catalogue number, no recording code.
                format @ 2..=3 => [[format, 0, 0, 0].as_slice(), &[0; 16]].concat(),
                _ => return Err(Sense::INVALID_FIELD),
            };
            data[3] = body.len() as u8;
            data.extend(body);
        }
        Ok(give(data, be16(cdb, 7)))
    }

    fn read_disc_information(&self, cdb: &[u8; 12]) -> Result<Reply, Sense> {
        self.ready()?;
        if cdb[1] & 7 != 0 {
            return Err(Sense::INVALID_FIELD);
        }
        let mut data = vec![0; 34];
        // Complete disc, last session complete; one session with one track; unrestricted use.
        data[..8].copy_from_slice(&[0, 32, 0x0e, 1, 1, 1, 1, 0x20]);
        data[16..24].fill(0xff);
        Ok(give(data, be16(cdb, 7)))
    }

    fn read_track_information(&self, cdb: &[u8; 12]) -> Result<Reply, Sense> {
        let sectors = self.ready()?;
        let exists = match (cdb[1] & 3, be32(cdb, 2)) {
            (0, lba) => lba < sectors,
            (1 | 2, number) => number == 1,
            _ => false,
        };
        if !exists {
            return Err(Sense::INVALID_FIELD);
        }
        let mut data = vec![0; 36];
        // Track 1 of session 1, a data track of mode 1, recorded to its end.
        data[..8].copy_from_slice(&[0, 34, 1, 1, 0, 4, 1, 2]);
        data[24..28].copy_from_slice(&sectors.to_be_bytes());
        data[28..32].copy_from_slice(&(sectors.saturating_sub(1)).to_be_bytes());
        Ok(give(data, be16(cdb, 7)))
    }

    fn read_dvd_structure(&self, cdb: &[u8; 12]) -> Result<Reply, Sense> {
        let sectors = self.ready()?;
        let (layer, format) = (cdb[6], cdb[7]);
        let body = match format {
            0xff => [[0u8, 0x40, 8, 4], [1, 0x40, 0, 8], [4, 0x40, 8, 4]].concat(),
            _ if self.profile() != PROFILE_DVD_ROM => return Err(Sense::WRONG_FORMAT),
            _ if layer != 0 => return Err(Sense::INVALID_FIELD),
            0 => dvd_physical(sectors),
            // Neither copy protection nor a region.
            1 => vec![0; 4],
            4 => vec![0; 2048],
            _ => return Err(Sense::INVALID_FIELD),
        };
        let mut data = ((body.len() + 2) as u16).to_be_bytes().to_vec();
        data.extend([0, 0]);
        data.extend(body);
        Ok(give(data, be16(cdb, 8)))
    }

    // What the drive is.

    fn get_configuration(&self, cdb: &[u8; 12]) -> Result<Reply, Sense> {
        let (which, first) = (cdb[1] & 3, be16(cdb, 2) as u16);
        if which == 3 {
            return Err(Sense::INVALID_FIELD);
        }
        let profile = self.profile();
        let mut body = vec![0, 0];
        body.extend(profile.to_be_bytes());
        for (code, version, always, current, data) in features(profile, &self.serial) {
            let wanted = match which {
                0 => code >= first,
                1 => code >= first && current,
                _ => code == first,
            };
            if wanted {
                body.extend(code.to_be_bytes());
                body.extend([version << 2 | u8::from(always) << 1 | u8::from(current), data.len() as u8]);
                body.extend(data);
            }
        }
        let mut data = (body.len() as u32).to_be_bytes().to_vec();
        data.extend(body);
        Ok(give(data, be16(cdb, 7)))
    }

    fn get_event_status(&mut self, cdb: &[u8; 12]) -> Result<Reply, Sense> {
        // Only polling: there is no queue.
        if cdb[1] & 1 == 0 {
            return Err(Sense::INVALID_FIELD);
        }
        let room = be16(cdb, 7);
        if cdb[4] & 1 << CLASS_MEDIA == 0 {
            return Ok(give(vec![0, 2, 0x80, 1 << CLASS_MEDIA], room));
        }
        // An event that the host has no room for stays.
        let event = if room > 4 { core::mem::take(&mut self.settings.event) } else { 0 };
        let present = self.medium.is_some() && !self.settings.open;
        let state = u8::from(present) << 1 | u8::from(self.settings.open);
        Ok(give(vec![0, 6, CLASS_MEDIA, 1 << CLASS_MEDIA, event, state, 0, 0], room))
    }

    fn get_performance(&self, cdb: &[u8; 12]) -> Result<Reply, Sense> {
        let sectors = self.ready()?;
        if cdb[10] != 0 || cdb[1] & 4 != 0 {
            return Err(Sense::INVALID_FIELD);
        }
        let speed = u32::from(self.settings.speed).to_be_bytes();
        let mut data = 20u32.to_be_bytes().to_vec();
        data.extend([0; 4]);
        for part in [[0; 4], speed, sectors.saturating_sub(1).to_be_bytes(), speed] {
            data.extend(part);
        }
        Ok(give(data, 8 + be16(cdb, 8) * 16))
    }

    fn mechanism_status(&self) -> Vec<u8> {
        vec![0, if self.settings.open { 0x10 } else { 0 }, 0, 0, 0, 0, 0, 0]
    }

    fn mode_sense(&self, cdb: &[u8; 12], header: usize, room: usize) -> Result<Reply, Sense> {
        let (control, page) = (cdb[2] >> 6, cdb[2] & 0x3f);
        if control == 3 {
            return Err(Sense::NOT_SAVED);
        }
        let mut data = vec![0; header];
        for (code, body) in self.mode_pages(control) {
            if page == code || page == PAGE_ALL {
                data.extend([code, body.len() as u8]);
                data.extend(body);
            }
        }
        if data.len() == header {
            return Err(Sense::INVALID_FIELD);
        }
        let medium = self.medium_type();
        if header == 4 {
            (data[0], data[1]) = ((data.len() - 1) as u8, medium);
        } else {
            let len = ((data.len() - 2) as u16).to_be_bytes();
            data[..3].copy_from_slice(&[len[0], len[1], medium]);
        }
        Ok(give(data, room))
    }

    fn medium_type(&self) -> u8 {
        match (self.settings.open, self.medium) {
            (true, _) => 0x71,
            (_, None) => 0x70,
            _ => 0x01,
        }
    }

    /// The mode pages and their bodies: current values, or for `control` 1 the bits that can be changed.
    fn mode_pages(&self, control: u8) -> [(u8, Vec<u8>); 2] {
        let retries = match control {
            0 => self.settings.retries,
            1 => 0xff,
            _ => POWER_ON.retries,
        };
        let mut capabilities = vec![0; 18];
        if control != 1 {
            let speed = self.settings.speed.to_be_bytes();
            // Reads CD-R, CD-RW, DVD-ROM; nothing is written; modes 1 and 2, sessions; a tray that locks and
            // ejects.
            let lock = u8::from(self.settings.locked) << 1;
            capabilities[..6].copy_from_slice(&[0x0b, 0, 0x70, 0, 0x29 | lock, 0]);
            capabilities[6..8].copy_from_slice(&SPEED.to_be_bytes());
            capabilities[10..12].copy_from_slice(&512u16.to_be_bytes());
            capabilities[12..14].copy_from_slice(&speed);
        }
        [(PAGE_RECOVERY, vec![0, retries, 0, 0, 0, 0]), (PAGE_CAPABILITIES, capabilities)]
    }

    fn mode_select(&mut self, header: u8, len: usize) -> Result<Reply, Sense> {
        self.settings.mode_header = header;
        Ok(if len == 0 { Reply::Done } else { Reply::Take(len as u32) })
    }

    /// The host has given what MODE SELECT asked for: the retries of page 1 are all that can be changed.
    pub fn taken(&mut self, data: &[u8]) -> Reply {
        let header = usize::from(self.settings.mode_header);
        match data.get(header..).unwrap_or_default() {
            [] => Reply::Done,
            [PAGE_RECOVERY, 6, _, retries, ..] => {
                self.settings.retries = *retries;
                Reply::Done
            }
            _ => {
                self.settings.sense = Sense::INVALID_PARAMETER;
                Reply::Check(Sense::INVALID_PARAMETER)
            }
        }
    }
}

/// What a packet device shows in its LBA registers after a reset: 14h in mid, EBh in high.
pub(crate) const SIGNATURE_LBA: u64 = 0xeb_1401;

fn be16(cdb: &[u8; 12], at: usize) -> usize {
    usize::from(u16::from_be_bytes([cdb[at], cdb[at + 1]]))
}

fn be32(cdb: &[u8; 12], at: usize) -> u32 {
    u32::from_be_bytes([cdb[at], cdb[at + 1], cdb[at + 2], cdb[at + 3]])
}

/// Data, cut to the room that the host has.
fn give(mut data: Vec<u8>, room: usize) -> Reply {
    data.truncate(room);
    if data.is_empty() { Reply::Done } else { Reply::Give(data) }
}

/// Minute, second and frame of a sector.
fn msf(lba: u32) -> [u8; 3] {
    let at = lba.saturating_add(PREGAP);
    [(at / 75 / 60).min(255) as u8, (at / 75 % 60) as u8, (at % 75) as u8]
}

/// The sector at a minute, second and frame; none before the first.
fn lba_of(msf: &[u8]) -> Option<u32> {
    let [minute, second, frame] = *msf else { return None };
    ((u32::from(minute) * 60 + u32::from(second)) * 75 + u32::from(frame)).checked_sub(PREGAP)
}

fn address(lba: u32, as_msf: bool) -> [u8; 4] {
    if !as_msf {
        return lba.to_be_bytes();
    }
    let [minute, second, frame] = msf(lba);
    [0, minute, second, frame]
}

fn inquiry(cdb: &[u8; 12]) -> Result<Reply, Sense> {
    // No vital product data.
    if cdb[1] & 3 != 0 || cdb[2] != 0 {
        return Err(Sense::INVALID_FIELD);
    }
    let mut data = vec![0x05, 0x80, 0x05, 0x32, 31, 0, 0, 0];
    data.extend(b"AERO    DVD-ROM         1.0 ");
    Ok(give(data, be16(cdb, 3)))
}

/// TOC format 0: track 1, unless it begins behind that, and the lead-out.
fn toc_tracks(from: u8, msf: bool, sectors: u32) -> Option<Vec<u8>> {
    if from > 1 && from != 0xaa {
        return None;
    }
    let mut body = Vec::new();
    for (track, lba) in [(1, 0), (0xaa, sectors)].into_iter().filter(|(track, _)| *track >= from) {
        body.extend([0, 0x14, track, 0]);
        body.extend(address(lba, msf));
    }
    Some(body)
}

/// TOC format 2: the entries of the lead-in's Q channel, in minutes, seconds and frames.
fn toc_raw(sectors: u32) -> Vec<u8> {
    let entry = |point: u8, at: [u8; 3]| [1, 0x14, 0, point, 0, 0, 0, 0, at[0], at[1], at[2]];
    [entry(0xa0, [1, 0, 0]), entry(0xa1, [1, 0, 0]), entry(0xa2, msf(sectors)), entry(1, msf(0))].concat()
}

/// The physical format of a DVD-ROM with one layer: the data area begins at 30000h.
fn dvd_physical(sectors: u32) -> Vec<u8> {
    const DATA_AREA: u32 = 0x3_0000;
    let mut data = vec![0; 2048];
    // Book DVD-ROM version 1; 120 mm, no rate given; one layer with embossed data.
    data[..4].copy_from_slice(&[0x01, 0x0f, 0x01, 0]);
    data[4..8].copy_from_slice(&DATA_AREA.to_be_bytes());
    data[8..12].copy_from_slice(&DATA_AREA.saturating_add(sectors.saturating_sub(1)).to_be_bytes());
    data
}

type Feature = (u16, u8, bool, bool, Vec<u8>);

/// The features of GET CONFIGURATION: code, version, persistent, current, data.
fn features(profile: u16, serial: &str) -> Vec<Feature> {
    let (cd, dvd) = (profile == PROFILE_CD_ROM, profile == PROFILE_DVD_ROM);
    let mut profiles = Vec::new();
    for (code, current) in [(PROFILE_DVD_ROM, dvd), (PROFILE_CD_ROM, cd)] {
        profiles.extend(code.to_be_bytes());
        profiles.extend([u8::from(current), 0]);
    }
    let padded = serial.len().next_multiple_of(4);
    let mut serial = serial.as_bytes().to_vec();
    serial.resize(padded, b' ');
    vec![
        (0x0000, 0, true, true, profiles),
        // Core: ATAPI, no block events. Morphing: polled. A tray with lock and eject.
        (0x0001, 1, true, true, vec![0, 0, 0, 2, 0, 0, 0, 0]),
        (0x0002, 1, true, true, vec![0, 0, 0, 0]),
        (0x0003, 0, true, true, vec![0x29, 0, 0, 0]),
        // Random readable: 2,048 bytes a block, one block at a time.
        (0x0010, 0, false, cd || dvd, vec![0, 0, 8, 0, 0, 1, 0, 0]),
        (0x001e, 2, false, cd, vec![0, 0, 0, 0]),
        (0x001f, 0, false, dvd, vec![]),
        (0x0100, 0, true, true, vec![]),
        (0x0105, 0, true, true, vec![]),
        (0x0108, 0, true, true, serial),
    ]
}

/// A whole sector of mode 1: synchronisation, header, data, and the codes that protect them (ECMA-130,
/// section 14).
fn raw_sector(lba: u32, data: &[u8; 2048]) -> [u8; RAW] {
    let mut raw = [0; RAW];
    raw[1..11].fill(0xff);
    let bcd = |n: u8| (n / 10) * 16 + n % 10;
    raw[12..15].copy_from_slice(&msf(lba).map(bcd));
    raw[15] = 1;
    raw[16..2064].copy_from_slice(data);
    let edc = edc(&raw[..2064]);
    raw[2064..2068].copy_from_slice(&edc.to_le_bytes());
    parity(&mut raw, 2076, 86, 24, 2, 86);
    parity(&mut raw, 2248, 52, 43, 86, 88);
    raw
}

/// The error detection code: a CRC of polynomial 8001801Bh, least significant bit first.
fn edc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| c >> 1 ^ if c & 1 != 0 { 0xd801_8001 } else { 0 })
    })
}

/// Twice a number in the field of 256 elements with polynomial 11Dh.
const fn twice(x: u8) -> u8 {
    x << 1 ^ if x & 0x80 != 0 { 0x1d } else { 0 }
}

/// Each number divided by three in that field.
const THIRD: [u8; 256] = {
    let mut table = [0; 256];
    let mut y = 0;
    while y < 256 {
        table[(twice(y as u8) ^ y as u8) as usize] = y as u8;
        y += 1;
    }
    table
};

/// Writes the P or Q parity at `at`: `vectors` of them, of `len` bytes each, `step` apart (ECMA-130, annex
/// A).
fn parity(raw: &mut [u8; RAW], at: usize, vectors: usize, len: usize, spread: usize, step: usize) {
    let size = vectors * len;
    for vector in 0..vectors {
        let mut from = (vector >> 1) * spread + (vector & 1);
        let (mut weighted, mut plain) = (0u8, 0u8);
        for _ in 0..len {
            let byte = raw[12 + from];
            from += step;
            if from >= size {
                from -= size;
            }
            weighted = twice(weighted ^ byte);
            plain ^= byte;
        }
        let first = THIRD[usize::from(twice(weighted) ^ plain)];
        raw[at + vector] = first;
        raw[at + vectors + vector] = first ^ plain;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTORS: u32 = 1000;

    fn medium(sectors: u32) -> Option<Medium> {
        Some(Medium { bytes: u64::from(sectors) * SECTOR, read_only: true })
    }

    fn drive(sectors: u32) -> Cd {
        Cd::new(DriveId(0), medium(sectors), "AR2")
    }

    fn cdb(bytes: &[(usize, u8)]) -> [u8; 12] {
        let mut cdb = [0; 12];
        bytes.iter().for_each(|(at, value)| cdb[*at] = *value);
        cdb
    }

    fn data(cd: &mut Cd, bytes: &[(usize, u8)]) -> Vec<u8> {
        match cd.packet(&cdb(bytes)) {
            Reply::Give(data) => data,
            other => panic!("{other:?}"),
        }
    }

    fn check(cd: &mut Cd, bytes: &[(usize, u8)]) -> (u8, u8, u8) {
        match cd.packet(&cdb(bytes)) {
            Reply::Check(Sense { key, asc, ascq }) => (key, asc, ascq),
            other => panic!("{other:?}"),
        }
    }

    fn sense(cd: &mut Cd) -> (u8, u8, u8) {
        let data = data(cd, &[(0, 0x03), (4, 18)]);
        (data[2], data[12], data[13])
    }

    fn ready(cd: &mut Cd) -> bool {
        cd.packet(&[0; 12]) == Reply::Done
    }

    fn event(cd: &mut Cd) -> (u8, u8) {
        let data = data(cd, &[(0, 0x4a), (1, 1), (4, 0x10), (8, 8)]);
        assert_eq!(data[..4], [0, 6, 4, 0x10]);
        (data[4], data[5])
    }

    // checklist: 56
    #[test]
    fn change_of_medium_is_told_once() {
        let mut cd = drive(SECTORS);
        assert!(ready(&mut cd));
        assert!(cd.eject(false));
        assert_eq!(check(&mut cd, &[]), (2, 0x3a, 1));
        assert_eq!(sense(&mut cd), (2, 0x3a, 1));
        assert_eq!(event(&mut cd), (3, 0));
        cd.insert(Medium { bytes: 4096, read_only: true });
        assert_eq!(data(&mut cd, &[(0, 0x12), (4, 36)]).len(), 36, "INQUIRY does not tell");
        assert_eq!(event(&mut cd), (2, 2), "new medium, which is there");
        assert_eq!(event(&mut cd), (0, 2));
        assert_eq!(check(&mut cd, &[]), (6, 0x28, 0));
        assert_eq!(sense(&mut cd), (6, 0x28, 0));
        assert_eq!(sense(&mut cd), (0, 0, 0));
        assert!(ready(&mut cd));
        assert_eq!(data(&mut cd, &[(0, 0x25)]), [0, 0, 0, 1, 0, 0, 8, 0]);
    }

    // checklist: 56
    #[test]
    fn request_sense_tells_a_change_that_nobody_has_asked_for() {
        let mut cd = drive(SECTORS);
        cd.insert(Medium { bytes: 4096, read_only: true });
        assert_eq!(sense(&mut cd), (6, 0x28, 0));
        assert!(ready(&mut cd));
    }

    // checklist: 56
    #[test]
    fn locked_tray_stays_shut_and_the_host_can_only_ask() {
        let mut cd = drive(SECTORS);
        assert_eq!(cd.packet(&cdb(&[(0, 0x1e), (4, 1)])), Reply::Done);
        assert_eq!(check(&mut cd, &[(0, 0x1b), (4, 2)]), (5, 0x53, 2));
        assert!(!cd.eject(false));
        assert_eq!(event(&mut cd), (1, 2));
        assert_eq!(cd.packet(&cdb(&[(0, 0x1e)])), Reply::Done);
        assert_eq!(cd.packet(&cdb(&[(0, 0x1b), (4, 2)])), Reply::Done);
        assert!(cd.tray_open());
        assert_eq!((check(&mut cd, &[]), event(&mut cd)), ((2, 0x3a, 2), (3, 1)));
        assert_eq!(cd.packet(&cdb(&[(0, 0x1b), (4, 3)])), Reply::Done);
        assert_eq!(check(&mut cd, &[]), (6, 0x28, 0), "the same disc, but who knows");
        assert!(ready(&mut cd) && cd.eject(true));
    }

    // checklist: 56
    #[test]
    fn configuration_names_the_profile_of_the_medium() {
        for (sectors, profile, feature) in [(SECTORS, 8, 0x1e), (400_000, 0x10, 0x1f)] {
            let mut cd = drive(sectors);
            let all = data(&mut cd, &[(0, 0x46), (7, 2)]);
            assert_eq!(all[6..8], [0, profile]);
            assert_eq!(u32::from_be_bytes([all[0], all[1], all[2], all[3]]) as usize, all.len() - 4);
            let one = data(&mut cd, &[(0, 0x46), (1, 2), (3, feature), (8, 100)]);
            assert_eq!((one[8..10].to_vec(), one[10] & 1), (vec![0, feature], 1), "current");
            let current = data(&mut cd, &[(0, 0x46), (1, 1), (7, 2)]);
            assert!(current.len() < all.len());
        }
        let mut empty = Cd::new(DriveId(0), None, "");
        assert_eq!(data(&mut empty, &[(0, 0x46), (8, 8)])[6..8], [0, 0]);
        assert_eq!(check(&mut empty, &[(0, 0x46), (1, 3), (8, 8)]), (5, 0x24, 0));
    }

    // checklist: 56
    #[test]
    fn event_status_is_only_polled() {
        let mut cd = drive(SECTORS);
        assert_eq!(check(&mut cd, &[(0, 0x4a), (4, 0x10), (8, 8)]), (5, 0x24, 0));
        assert_eq!(data(&mut cd, &[(0, 0x4a), (1, 1), (4, 2), (8, 8)]), [0, 2, 0x80, 0x10]);
    }

    // checklist: 56
    #[test]
    fn disc_and_track_information_describe_one_finished_track() {
        let mut cd = drive(SECTORS);
        let disc = data(&mut cd, &[(0, 0x51), (8, 34)]);
        assert_eq!((disc.len(), disc[..8].to_vec()), (34, vec![0, 32, 0x0e, 1, 1, 1, 1, 0x20]));
        let track = data(&mut cd, &[(0, 0x52), (1, 1), (5, 1), (8, 36)]);
        assert_eq!((track[2], track[5], &track[24..28]), (1, 4, &SECTORS.to_be_bytes()[..]));
        assert_eq!(check(&mut cd, &[(0, 0x52), (1, 1), (5, 2), (8, 36)]), (5, 0x24, 0));
    }

    // checklist: 56
    #[test]
    fn dvd_structure_is_a_dvds() {
        let mut cd = drive(400_000);
        let physical = data(&mut cd, &[(0, 0xad), (8, 16), (9, 0)]);
        assert_eq!((physical.len(), physical[..2].to_vec()), (2052, vec![8, 2]));
        assert_eq!(physical[8..16], [0, 3, 0, 0, 0, 9, 0x1a, 0x7f]);
        assert_eq!(data(&mut cd, &[(0, 0xad), (7, 1), (9, 8)]), [0, 6, 0, 0, 0, 0, 0, 0]);
        assert_eq!(check(&mut drive(SECTORS), &[(0, 0xad), (9, 8)]), (5, 0x30, 2));
    }

    // checklist: 56
    #[test]
    fn mechanism_status_shows_the_tray() {
        let mut cd = drive(SECTORS);
        assert_eq!(data(&mut cd, &[(0, 0xbd), (9, 8)]), [0; 8]);
        cd.packet(&cdb(&[(0, 0x1b), (4, 2)]));
        assert_eq!(data(&mut cd, &[(0, 0xbd), (9, 8)])[1], 0x10);
    }

    // checklist: 56
    #[test]
    fn contents_come_as_tracks_sessions_and_raw_entries() {
        let mut cd = drive(SECTORS);
        let tracks = data(&mut cd, &[(0, 0x43), (8, 100)]);
        assert_eq!(tracks[..12], [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0]);
        assert_eq!(tracks[12..], [0, 0x14, 0xaa, 0, 0, 0, 3, 0xe8]);
        let msf = data(&mut cd, &[(0, 0x43), (1, 2), (6, 0xaa), (8, 100)]);
        assert_eq!(msf[4..], [0, 0x14, 0xaa, 0, 0, 0, 15, 25], "1,150 frames are 15 s and 25");
        let session = data(&mut cd, &[(0, 0x43), (9, 0x40), (8, 100)]);
        assert_eq!(session, [0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0]);
        let raw = data(&mut cd, &[(0, 0x43), (2, 2), (8, 100)]);
        assert_eq!((raw.len(), raw[7], raw[29], raw[40]), (48, 0xa0, 0xa2, 1));
        assert_eq!(raw[34..37], [0, 15, 25]);
        assert_eq!(check(&mut cd, &[(0, 0x43), (6, 2), (8, 100)]), (5, 0x24, 0));
        assert_eq!(data(&mut cd, &[(0, 0x43), (8, 4)]), [0, 18, 1, 1], "cut, but the length is the whole");
    }

    // checklist: 56
    #[test]
    fn mode_pages_are_recovery_and_capabilities() {
        let mut cd = drive(SECTORS);
        let page = data(&mut cd, &[(0, 0x5a), (2, 0x2a), (8, 255)]);
        assert_eq!(
            (page.len(), page[..3].to_vec(), page[8..10].to_vec()),
            (28, vec![0, 26, 1], vec![0x2a, 18])
        );
        assert_eq!(page[14] & 2, 0, "not locked");
        cd.packet(&cdb(&[(0, 0x1e), (4, 1)]));
        assert_eq!(data(&mut cd, &[(0, 0x1a), (2, 0x2a), (4, 255)])[10] & 2, 2);
        assert_eq!(check(&mut cd, &[(0, 0x5a), (2, 5), (8, 255)]), (5, 0x24, 0));
        assert_eq!(check(&mut cd, &[(0, 0x5a), (2, 0xea), (8, 255)]), (5, 0x39, 0));
        assert_eq!(cd.packet(&cdb(&[(0, 0x15), (4, 12)])), Reply::Take(12));
        assert_eq!(cd.taken(&[0, 0, 0, 0, 1, 6, 0, 9, 0, 0, 0, 0]), Reply::Done);
        assert_eq!(data(&mut cd, &[(0, 0x1a), (2, 1), (4, 255)])[4..8], [1, 6, 0, 9]);
        assert_eq!(cd.packet(&cdb(&[(0, 0x15), (4, 12)])), Reply::Take(12));
        assert!(matches!(cd.taken(&[0, 0, 0, 0, 5, 6, 0, 9, 0, 0, 0, 0]), Reply::Check(_)));
        assert_eq!(sense(&mut cd), (5, 0x26, 0));
    }

    // checklist: 56
    #[test]
    fn reads_beyond_the_end_are_refused() {
        let mut cd = drive(SECTORS);
        let last = Extent { offset: 999 * SECTOR, len: SECTOR };
        let read = |at: u16, count: u8| cdb(&[(0, 0x28), (4, (at >> 8) as u8), (5, at as u8), (8, count)]);
        assert_eq!(cd.packet(&read(999, 1)), Reply::Read(last, Shape::USER));
        assert_eq!(cd.packet(&read(999, 0)), Reply::Done);
        assert_eq!(cd.packet(&read(999, 2)), Reply::Check(Sense::OUT_OF_RANGE));
        assert_eq!(cd.packet(&read(1000, 0)), Reply::Check(Sense::OUT_OF_RANGE));
    }

    #[test]
    fn whole_sector_has_codes_that_agree_with_its_data() {
        let data: Vec<u8> = (0..2048u32).map(|i| (i * 7 + 3) as u8).collect();
        let mut cd = drive(SECTORS);
        let reply = cd.packet(&cdb(&[(0, 0xbe), (5, 16), (8, 1), (9, 0xf8)]));
        let Reply::Read(extent, shape) = reply else { panic!("{reply:?}") };
        let raw = shape.of(extent.offset, data.clone());
        assert_eq!((raw.len(), &raw[16..2064]), (RAW, &data[..]));
        assert_eq!(raw[..16], [0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 2, 0x16, 1]);
        assert_eq!(edc(&raw[..2068]), 0, "a CRC over its own code is 0");
        // Each column of P and each diagonal of Q is a code word: its sum, and its sum weighted by powers of
        // two, are 0.
        for (vectors, len, spread, step, parity) in [(86, 24, 2, 86, 2076), (52, 43, 86, 88, 2248)] {
            for vector in 0..vectors {
                let start = (vector >> 1) * spread + (vector & 1);
                let place = |i: usize| 12 + (start + i * step) % (vectors * len);
                let own = [parity + vector, parity + vectors + vector];
                let word = (0..len).map(place).chain(own).map(|at| raw[at]);
                let (sum, weighted) = word.fold((0, 0), |(s, w), b| (s ^ b, twice(w) ^ b));
                assert_eq!((sum, weighted), (0, 0), "vector {vector} of {vectors}");
            }
        }
        let header = cd.packet(&cdb(&[(0, 0xbe), (5, 16), (8, 1), (9, 0x20)]));
        let Reply::Read(_, shape) = header else { panic!("{header:?}") };
        assert_eq!(shape.of(16 * SECTOR, data), [0, 2, 0x16, 1]);
        assert_eq!(check(&mut cd, &[(0, 0xbe), (1, 4), (8, 1), (9, 0x10)]), (5, 0x64, 0), "not audio");
        let subheader = cd.packet(&cdb(&[(0, 0xbe), (8, 1), (9, 0x40)]));
        assert_eq!(subheader, Reply::Done, "mode 1 has none");
    }

    #[test]
    fn minutes_seconds_and_frames_name_sectors() {
        let mut cd = drive(SECTORS);
        let read = cdb(&[(0, 0xb9), (4, 2), (5, 10), (7, 2), (8, 12), (9, 0x10)]);
        let two_from_ten = Extent { offset: 10 * SECTOR, len: 2 * SECTOR };
        assert_eq!(cd.packet(&read), Reply::Read(two_from_ten, Shape::USER));
        let pregap = cdb(&[(0, 0xb9), (5, 10), (7, 2), (9, 0x10)]);
        assert_eq!(cd.packet(&pregap), Reply::Check(Sense::OUT_OF_RANGE));
    }

    // checklist: 56
    #[test]
    fn the_smaller_commands_answer() {
        let mut cd = drive(SECTORS);
        let inquiry = data(&mut cd, &[(0, 0x12), (4, 96)]);
        assert_eq!((inquiry[0], inquiry[1], inquiry[4], &inquiry[8..12]), (5, 0x80, 31, &b"AERO"[..]));
        assert_eq!(data(&mut cd, &[(0, 0x42), (8, 4)]), [0, 0x15, 0, 0]);
        assert_eq!(data(&mut cd, &[(0, 0x42), (2, 0x40), (3, 1), (8, 16)]).len(), 16);
        assert_eq!(data(&mut cd, &[(0, 0x44), (5, 9), (8, 8)]), [1, 0, 0, 0, 0, 0, 0, 9]);
        assert_eq!(data(&mut cd, &[(0, 0x23), (8, 12)])[4..9], [0, 0, 3, 0xe8, 2]);
        assert_eq!(data(&mut cd, &[(0, 0xac), (9, 1)]).len(), 24);
        for (quiet, at) in [(0xbb, 0), (0x2b, 5), (0x2f, 5), (0x4e, 0)] {
            assert_eq!(cd.packet(&cdb(&[(0, quiet), (at.max(1), 0)])), Reply::Done, "{quiet:02x}");
        }
    }

    // checklist: 62
    #[test]
    fn unknown_packet_is_refused() {
        let mut cd = drive(SECTORS);
        for command in [0x02, 0x2a, 0xa4, 0xff] {
            assert_eq!(check(&mut cd, &[(0, command)]), (5, 0x20, 0), "{command:02x}");
        }
    }

    #[test]
    fn sense_is_kept_until_the_next_command() {
        let mut cd = drive(SECTORS);
        check(&mut cd, &[(0, 0xff)]);
        assert_eq!(sense(&mut cd), (5, 0x20, 0));
        check(&mut cd, &[(0, 0xff)]);
        assert!(ready(&mut cd));
        assert_eq!(sense(&mut cd), (0, 0, 0));
    }
}
