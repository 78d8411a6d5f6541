//! The ATA command set, away from any register.
//!
//! A controller (IDE's ports, AHCI's command tables) collects what the guest wrote into a [`TaskFile`].
//! [`Disk::command`] says what that means as a [`Plan`]: end now with this status, give these bytes, move
//! this extent between medium and host by PIO, by DMA or as a queued command. The controller carries the plan
//! out with its own sequence of busy bits, interrupts and FISes, cuts a long extent into requests of at most
//! [`CHUNK`] bytes ([`Extent::cut`]), and reports the [`Ending`].
//!
//! A command moves at most 32 MiB (65,536 sectors), so a guest cannot make the host hold more than [`CHUNK`]
//! for each command. What the disk cannot do ends with ABRT, a sector that is not there with IDNF and its
//! address. Commands that no standard knows are logged once each. (ATA/ATAPI-8 ACS, T13/1699-D; SATA 3.0 for
//! queued commands.)

use aero_bus::block::{BlockError, DriveId, Medium, Operation, SECTOR};
use serde::{Deserialize, Serialize};

/// Commands, bits and words by their names in the standard.
pub(crate) mod spec {
    /// Status: busy.
    pub const BSY: u8 = 0x80;
    /// Status: device ready.
    pub const DRDY: u8 = 0x40;
    /// Status: seek complete.
    pub const DSC: u8 = 0x10;
    /// Status: data request.
    pub const DRQ: u8 = 0x08;
    /// Status: error, and for packet commands check condition.
    pub const ERR: u8 = 0x01;
    /// What a disk shows when it rests.
    pub const READY: u8 = DRDY | DSC;

    /// Error: uncorrectable data.
    pub const UNC: u8 = 0x40;
    /// Error: address not found.
    pub const IDNF: u8 = 0x10;
    /// Error: aborted.
    pub const ABRT: u8 = 0x04;
    /// What the error register shows after a reset: device 0 passed, device 1 passed or absent.
    pub const DIAGNOSTIC_PASSED: u8 = 0x01;

    /// Device register: the address is an LBA.
    pub const DEVICE_LBA: u8 = 0x40;
    /// Device register: device 1; in a queued write, force unit access.
    pub const DEVICE_1: u8 = 0x10;
    /// Bit 7 of the device register of a queued write: force unit access.
    pub const DEVICE_FUA: u8 = 0x80;

    pub const DATA_SET_MANAGEMENT: u8 = 0x06;
    pub const DEVICE_RESET: u8 = 0x08;
    pub const RECALIBRATE: u8 = 0x10;
    pub const RECALIBRATE_LAST: u8 = 0x1f;
    pub const READ_SECTORS: u8 = 0x20;
    pub const READ_SECTORS_NO_RETRY: u8 = 0x21;
    pub const READ_SECTORS_EXT: u8 = 0x24;
    pub const READ_DMA_EXT: u8 = 0x25;
    pub const READ_NATIVE_MAX_EXT: u8 = 0x27;
    pub const READ_MULTIPLE_EXT: u8 = 0x29;
    pub const READ_LOG_EXT: u8 = 0x2f;
    pub const WRITE_SECTORS: u8 = 0x30;
    pub const WRITE_SECTORS_NO_RETRY: u8 = 0x31;
    pub const WRITE_SECTORS_EXT: u8 = 0x34;
    pub const WRITE_DMA_EXT: u8 = 0x35;
    pub const WRITE_MULTIPLE_EXT: u8 = 0x39;
    pub const WRITE_DMA_FUA_EXT: u8 = 0x3d;
    pub const READ_VERIFY: u8 = 0x40;
    pub const READ_VERIFY_NO_RETRY: u8 = 0x41;
    pub const READ_VERIFY_EXT: u8 = 0x42;
    pub const READ_LOG_DMA_EXT: u8 = 0x47;
    pub const READ_FPDMA_QUEUED: u8 = 0x60;
    pub const WRITE_FPDMA_QUEUED: u8 = 0x61;
    pub const SEEK: u8 = 0x70;
    pub const SEEK_LAST: u8 = 0x7f;
    pub const EXECUTE_DIAGNOSTIC: u8 = 0x90;
    pub const INITIALIZE_PARAMETERS: u8 = 0x91;
    pub const PACKET: u8 = 0xa0;
    pub const IDENTIFY_PACKET: u8 = 0xa1;
    pub const SMART: u8 = 0xb0;
    pub const READ_MULTIPLE: u8 = 0xc4;
    pub const WRITE_MULTIPLE: u8 = 0xc5;
    pub const SET_MULTIPLE: u8 = 0xc6;
    pub const READ_DMA: u8 = 0xc8;
    pub const READ_DMA_NO_RETRY: u8 = 0xc9;
    pub const WRITE_DMA: u8 = 0xca;
    pub const WRITE_DMA_NO_RETRY: u8 = 0xcb;
    pub const WRITE_MULTIPLE_FUA_EXT: u8 = 0xce;
    pub const STANDBY_IMMEDIATE: u8 = 0xe0;
    pub const IDLE_IMMEDIATE: u8 = 0xe1;
    pub const STANDBY: u8 = 0xe2;
    pub const IDLE: u8 = 0xe3;
    pub const CHECK_POWER: u8 = 0xe5;
    pub const SLEEP: u8 = 0xe6;
    pub const FLUSH: u8 = 0xe7;
    pub const FLUSH_EXT: u8 = 0xea;
    pub const IDENTIFY: u8 = 0xec;
    pub const SET_FEATURES: u8 = 0xef;
    pub const SECURITY_FREEZE: u8 = 0xf5;
    pub const READ_NATIVE_MAX: u8 = 0xf8;
    /// Commands of optional feature sets that guests try and that this disk, truthfully, aborts: device
    /// configuration, read and write buffer, microcode, security, SET MAX, media status, trusted computing,
    /// configure stream, write uncorrectable.
    pub const KNOWN_ABSENT: [u8; 18] = [
        0x00, 0x08, 0xa0, 0xa1, 0xb1, 0xe4, 0xe8, 0x92, 0xf1, 0xf2, 0xf3, 0xf4, 0xf6, 0xf9, 0x37, 0xda, 0x45,
        0x51,
    ];
    /// The power management commands of ATA-3 and before, 94h to 99h.
    pub const OLD_POWER: [(u8, u8); 6] = [
        (0x94, STANDBY_IMMEDIATE),
        (0x95, IDLE_IMMEDIATE),
        (0x96, STANDBY),
        (0x97, IDLE),
        (0x98, CHECK_POWER),
        (0x99, SLEEP),
    ];

    /// CHECK POWER MODE: active or idle, standby.
    pub const POWER_ACTIVE: u16 = 0xff;
    pub const POWER_STANDBY: u16 = 0x00;
    /// SMART is only for who knows these bytes in LBA mid and high.
    pub const SMART_KEY: u64 = 0xc2_4f00;
    /// SMART RETURN STATUS: all is well is the same key.
    pub const SMART_WELL: u64 = SMART_KEY;
    /// The general purpose log that says why a queued command failed.
    pub const LOG_QUEUED_ERROR: u8 = 0x10;
    /// TRIM in DATA SET MANAGEMENT's feature register.
    pub const DSM_TRIM: u16 = 1;
    /// 512-byte blocks of ranges that DATA SET MANAGEMENT takes at once.
    pub const DSM_BLOCKS: u16 = 8;
    /// Sectors of a block of READ and WRITE MULTIPLE at most.
    pub const MULTIPLE_MAX: u16 = 16;
    /// Commands that a disk behind AHCI holds at once.
    pub const QUEUE_DEPTH: u16 = 32;
}

use spec::*;

/// The longest request to a drive: long enough that its cost is the copying, a multiple of every block of
/// READ MULTIPLE and of a disc's sectors.
pub const CHUNK: u64 = 4 << 20;

/// What the guest wrote into a device's registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TaskFile {
    /// The command.
    pub command: u8,
    /// Features, 16 bits for the extended commands.
    pub feature: u16,
    /// Sector count, 16 bits for the extended commands.
    pub count: u16,
    /// The LBA registers: low, mid and high in bits 23:0, their previous contents in 47:24.
    pub lba: u64,
    /// The device register.
    pub device: u8,
}

/// Bytes of a medium still to move.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// How many.
    pub len: u64,
}

impl Extent {
    /// Takes up to `most` bytes off its front.
    pub fn cut(&mut self, most: u64) -> Self {
        let front = Self { offset: self.offset, len: self.len.min(most) };
        self.offset += front.len;
        self.len -= front.len;
        front
    }
}

/// How a command's data travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Way {
    /// The host moves words, in blocks of this many bytes.
    Pio(u32),
    /// The controller moves them.
    Dma,
    /// The controller moves them, and other commands run meanwhile under their own tags.
    Queued(u8),
}

/// How a command ended, as far as registers show it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Ending {
    /// The error register; 0 is success.
    pub error: u8,
    /// The LBA registers, if the command sets them.
    pub lba: Option<u64>,
    /// The sector count register, if the command sets it.
    pub count: Option<u16>,
}

impl Ending {
    /// Success.
    pub const GOOD: Self = Self { error: 0, lba: None, count: None };
    /// The command is not one the device does.
    pub const ABORTED: Self = Self { error: ABRT, lba: None, count: None };

    /// The command failed at byte `offset` of the medium.
    pub fn of(error: BlockError, writing: bool, offset: u64) -> Self {
        let bits = match error {
            BlockError::OutOfRange => IDNF,
            BlockError::ReadOnly | BlockError::NoSpace => ABRT,
            BlockError::Medium if writing => ABRT,
            BlockError::Medium => UNC,
        };
        Self { error: bits, lba: Some(offset / SECTOR), count: None }
    }

    /// The status register.
    pub fn status(self) -> u8 {
        READY | if self.error == 0 { 0 } else { ERR }
    }
}

/// What a command asks of the controller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Plan {
    /// The end, without data.
    End(Ending),
    /// These bytes go to the host.
    Give(Vec<u8>, Way),
    /// The medium's bytes go to the host.
    Read(Extent, Way),
    /// The host's bytes go to the medium, and if told, last before the command ends.
    Write {
        /// Where to.
        extent: Extent,
        /// How they come.
        way: Way,
        /// Whether a flush follows.
        durable: bool,
    },
    /// The host gives this many bytes of ranges, then [`Disk::trim`] is asked.
    Trim(u32, Way),
    /// The medium is read and nothing comes of it but the status.
    Verify(Extent),
    /// Requests without data; the command ends with the last of them.
    Carry(Vec<Operation>),
    /// Twelve bytes of a packet command come next.
    Packet {
        /// Whether its data travels by DMA.
        dma: bool,
    },
    /// Both devices of a cable test themselves, and show their signatures.
    Diagnostic,
    /// This device resets, and shows its signature.
    Reset,
}

/// What a guest can change in a disk: plain data, part of the saved state of its controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DiskSettings {
    /// Sectors of a block of READ MULTIPLE, 0 if that is off.
    multiple: u16,
    /// Logical heads and sectors for addresses without LBA.
    heads: u16,
    sectors: u16,
    /// The word of IDENTIFY with the mode, its number.
    dma_mode: u8,
    write_cache: bool,
    look_ahead: bool,
    smart: bool,
    frozen: bool,
    standby: bool,
    /// The queued command that failed, until the host has read its log.
    queued_error: Option<QueuedError>,
}

/// Why a queued command failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct QueuedError {
    tag: u8,
    ending: Ending,
}

const POWER_ON: DiskSettings = DiskSettings {
    multiple: MULTIPLE_MAX,
    heads: 16,
    sectors: 63,
    dma_mode: 0x45,
    write_cache: true,
    look_ahead: true,
    smart: true,
    frozen: false,
    standby: false,
    queued_error: None,
};

/// A disk with the ATA command set.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Where its bytes are.
    pub drive: DriveId,
    medium: Medium,
    serial: String,
    /// Behind a serial cable: queued commands, and the words of IDENTIFY about the link.
    serial_ata: bool,
    settings: DiskSettings,
    /// Commands that have been logged as unknown.
    logged: [bool; 256],
}

impl Disk {
    /// The disk `drive`, which holds `medium` and shows `serial` (up to 20 ASCII characters).
    pub fn new(drive: DriveId, medium: Medium, serial: &str) -> Self {
        let serial = serial.chars().filter(char::is_ascii_graphic).take(20).collect();
        Self { drive, medium, serial, serial_ata: false, settings: POWER_ON, logged: [false; 256] }
    }

    /// The controller's cable is a serial one.
    pub(crate) fn on_serial_cable(mut self) -> Self {
        self.serial_ata = true;
        self
    }

    /// After power-on.
    pub fn power_on(&mut self) {
        self.settings = POWER_ON;
    }

    /// After a reset by software or by COMRESET: transfer modes and caches stay as they are, as the SATA
    /// "software settings preservation" says, and so does the geometry.
    pub fn soft_reset(&mut self) {
        self.settings.standby = false;
        self.settings.queued_error = None;
    }

    /// What a guest has changed.
    pub fn settings(&self) -> DiskSettings {
        self.settings
    }

    /// Takes over what a guest had changed.
    pub fn set_settings(&mut self, settings: DiskSettings) {
        let (heads, sectors) = (settings.heads.clamp(1, 16), settings.sectors.clamp(1, 255));
        let multiple = if valid_multiple(settings.multiple) { settings.multiple } else { 0 };
        self.settings = DiskSettings { heads, sectors, multiple, ..settings };
    }

    /// Sectors of the medium.
    pub fn capacity(&self) -> u64 {
        self.medium.bytes / SECTOR
    }

    /// What `task` asks for.
    pub fn command(&mut self, task: &TaskFile) -> Plan {
        if !matches!(task.command, CHECK_POWER | STANDBY | STANDBY_IMMEDIATE) {
            self.settings.standby = false;
        }
        self.transfer(task).or_else(|| self.control(task)).unwrap_or_else(|| self.unknown(task.command))
    }

    /// Commands that move the medium's data.
    fn transfer(&self, task: &TaskFile) -> Option<Plan> {
        let one = Way::Pio(SECTOR as u32);
        let many = Way::Pio(u32::from(self.settings.multiple) * SECTOR as u32);
        Some(match task.command {
            READ_SECTORS | READ_SECTORS_NO_RETRY => self.read(self.narrow(task), one),
            READ_SECTORS_EXT => self.read(wide(task), one),
            READ_MULTIPLE => self.read(self.narrow(task), many),
            READ_MULTIPLE_EXT => self.read(wide(task), many),
            READ_DMA | READ_DMA_NO_RETRY => self.read(self.narrow(task), Way::Dma),
            READ_DMA_EXT => self.read(wide(task), Way::Dma),
            READ_FPDMA_QUEUED => self.queued(task, false),
            WRITE_SECTORS | WRITE_SECTORS_NO_RETRY => self.write(self.narrow(task), one, false),
            WRITE_SECTORS_EXT => self.write(wide(task), one, false),
            WRITE_MULTIPLE => self.write(self.narrow(task), many, false),
            WRITE_MULTIPLE_EXT => self.write(wide(task), many, false),
            WRITE_MULTIPLE_FUA_EXT => self.write(wide(task), many, true),
            WRITE_DMA | WRITE_DMA_NO_RETRY => self.write(self.narrow(task), Way::Dma, false),
            WRITE_DMA_EXT => self.write(wide(task), Way::Dma, false),
            WRITE_DMA_FUA_EXT => self.write(wide(task), Way::Dma, true),
            WRITE_FPDMA_QUEUED => self.queued(task, true),
            READ_VERIFY | READ_VERIFY_NO_RETRY => self.verify(self.narrow(task)),
            READ_VERIFY_EXT => self.verify(wide(task)),
            _ => return None,
        })
    }

    /// The first sector and the number of sectors of a command with 28-bit addresses; `None` for an address
    /// without LBA that the geometry does not have.
    fn narrow(&self, task: &TaskFile) -> Option<(u64, u64)> {
        let count = if task.count & 0xff == 0 { 256 } else { u64::from(task.count & 0xff) };
        if task.device & DEVICE_LBA != 0 {
            return Some((task.lba & 0xff_ffff | u64::from(task.device & 0xf) << 24, count));
        }
        let (heads, sectors) = (u64::from(self.settings.heads), u64::from(self.settings.sectors));
        let (cylinder, head, sector) =
            (task.lba >> 8 & 0xffff, u64::from(task.device & 0xf), task.lba & 0xff);
        let exists = (1..=sectors).contains(&sector) && head < heads;
        exists.then(|| ((cylinder * heads + head) * sectors + sector - 1, count))
    }

    /// The extent, if all of it is on the medium.
    fn on_medium(&self, range: Option<(u64, u64)>) -> Result<Extent, Ending> {
        let (first, count) = range.ok_or(Ending { error: IDNF, ..Ending::GOOD })?;
        if first + count > self.capacity() {
            let missing = first.max(self.capacity());
            return Err(Ending { error: IDNF, lba: Some(missing), count: None });
        }
        Ok(Extent { offset: first * SECTOR, len: count * SECTOR })
    }

    fn read(&self, range: Option<(u64, u64)>, way: Way) -> Plan {
        if way == Way::Pio(0) {
            return Plan::End(Ending::ABORTED);
        }
        self.on_medium(range).map_or_else(Plan::End, |extent| Plan::Read(extent, way))
    }

    fn verify(&self, range: Option<(u64, u64)>) -> Plan {
        self.on_medium(range).map_or_else(Plan::End, Plan::Verify)
    }

    fn write(&self, range: Option<(u64, u64)>, way: Way, durable: bool) -> Plan {
        if way == Way::Pio(0) || self.medium.read_only {
            return Plan::End(Ending::ABORTED);
        }
        let durable = durable || !self.settings.write_cache;
        self.on_medium(range).map_or_else(Plan::End, |extent| Plan::Write { extent, way, durable })
    }

    /// A queued command: its sector count is in the feature registers, its tag in bits 7:3 of the count.
    /// After one has failed the rest abort, until the host has read why.
    fn queued(&self, task: &TaskFile, writing: bool) -> Plan {
        if !self.serial_ata || self.settings.queued_error.is_some() {
            return Plan::End(Ending::ABORTED);
        }
        let count = if task.feature == 0 { 65_536 } else { u64::from(task.feature) };
        let (range, way) = (Some((task.lba, count)), Way::Queued((task.count >> 3) as u8 & 31));
        if writing { self.write(range, way, task.device & DEVICE_FUA != 0) } else { self.read(range, way) }
    }

    /// A queued command failed; its log is kept for READ LOG EXT.
    pub fn queued_failed(&mut self, tag: u8, ending: Ending) {
        self.settings.queued_error = Some(QueuedError { tag, ending });
    }

    /// Commands that move none of the medium's data.
    fn control(&mut self, task: &TaskFile) -> Option<Plan> {
        let command = OLD_POWER.iter().find(|(old, _)| *old == task.command).map_or(task.command, |p| p.1);
        Some(match command {
            IDENTIFY => Plan::Give(words(&self.identify()), Way::Pio(SECTOR as u32)),
            FLUSH | FLUSH_EXT => Plan::Carry(vec![Operation::Flush]),
            DATA_SET_MANAGEMENT => self.data_set_management(task),
            SET_FEATURES => end(self.set_features(task)),
            SET_MULTIPLE => end(self.set_multiple(task.count & 0xff)),
            INITIALIZE_PARAMETERS => end(self.set_geometry(task)),
            RECALIBRATE..=RECALIBRATE_LAST => Plan::End(Ending::GOOD),
            SEEK..=SEEK_LAST => {
                let one = self.narrow(&TaskFile { count: 1, ..*task });
                Plan::End(self.on_medium(one).err().unwrap_or(Ending::GOOD))
            }
            STANDBY_IMMEDIATE | STANDBY => {
                self.settings.standby = true;
                Plan::Carry(vec![Operation::Flush])
            }
            SLEEP => Plan::Carry(vec![Operation::Flush]),
            IDLE_IMMEDIATE | IDLE => Plan::End(Ending::GOOD),
            CHECK_POWER => {
                let mode = if self.settings.standby { POWER_STANDBY } else { POWER_ACTIVE };
                Plan::End(Ending { count: Some(mode), ..Ending::GOOD })
            }
            READ_NATIVE_MAX => self.native_max(0x0fff_ffff),
            READ_NATIVE_MAX_EXT => self.native_max(0xffff_ffff_ffff),
            READ_LOG_EXT | READ_LOG_DMA_EXT => self.read_log(task),
            SMART => self.smart(task),
            SECURITY_FREEZE => {
                self.settings.frozen = true;
                Plan::End(Ending::GOOD)
            }
            EXECUTE_DIAGNOSTIC => Plan::Diagnostic,
            _ => return None,
        })
    }

    fn unknown(&mut self, command: u8) -> Plan {
        let logged = core::mem::replace(&mut self.logged[usize::from(command)], true);
        if !logged && !KNOWN_ABSENT.contains(&command) {
            log::info!("unknown ATA command {command:02x}: aborted");
        }
        Plan::End(Ending::ABORTED)
    }

    fn native_max(&self, most: u64) -> Plan {
        Plan::End(Ending { lba: Some(self.capacity().saturating_sub(1).min(most)), ..Ending::GOOD })
    }

    fn set_multiple(&mut self, sectors: u16) -> Option<()> {
        valid_multiple(sectors).then(|| self.settings.multiple = sectors)
    }

    fn set_geometry(&mut self, task: &TaskFile) -> Option<()> {
        let sectors = task.count & 0xff;
        (sectors != 0).then(|| {
            self.settings.heads = u16::from(task.device & 0xf) + 1;
            self.settings.sectors = sectors;
        })
    }

    fn set_features(&mut self, task: &TaskFile) -> Option<()> {
        match task.feature as u8 {
            0x03 => self.set_mode(task.count as u8)?,
            0x02 => self.settings.write_cache = true,
            0x82 => self.settings.write_cache = false,
            0xaa => self.settings.look_ahead = true,
            0x55 => self.settings.look_ahead = false,
            // Keep or lose settings at a software reset: they are always kept.
            0x66 | 0xcc => {}
            // SATA: auto-activation of DMA Setup and preservation of settings, on and off.
            0x10 | 0x90 if self.serial_ata && matches!(task.count, 2 | 6) => {}
            _ => return None,
        }
        Some(())
    }

    /// Transfer modes: PIO 0–4, multiword DMA 0–2, Ultra DMA 0–5.
    fn set_mode(&mut self, mode: u8) -> Option<()> {
        match mode {
            0x00 | 0x01 | 0x08..=0x0c => {}
            0x20..=0x22 | 0x40..=0x45 => self.settings.dma_mode = mode,
            _ => return None,
        }
        Some(())
    }

    fn data_set_management(&self, task: &TaskFile) -> Plan {
        let trims = task.feature & 0xff == DSM_TRIM && (1..=DSM_BLOCKS).contains(&task.count);
        if !trims || self.medium.read_only {
            return Plan::End(Ending::ABORTED);
        }
        Plan::Trim(u32::from(task.count) * SECTOR as u32, Way::Dma)
    }

    /// What the ranges of a TRIM ask for: 8 bytes each, 48 bits of address and 16 of length; a length of 0 is
    /// no range.
    pub fn trim(&self, ranges: &[u8]) -> Plan {
        let mut operations = Vec::new();
        for range in ranges.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)) {
            let (first, count) = (range & 0xffff_ffff_ffff, range >> 48);
            if count == 0 {
                continue;
            }
            match self.on_medium(Some((first, count))) {
                Ok(Extent { offset, len }) => operations.push(Operation::Discard { offset, len }),
                Err(ending) => return Plan::End(ending),
            }
        }
        if operations.is_empty() { Plan::End(Ending::GOOD) } else { Plan::Carry(operations) }
    }

    /// Logs: the directory and, behind a serial cable, what became of a queued command.
    fn read_log(&mut self, task: &TaskFile) -> Plan {
        let (log, page) = (task.lba as u8, task.lba >> 8 & 0xff | task.lba >> 32 & 0xff00);
        let way = if task.command == READ_LOG_EXT { Way::Pio(SECTOR as u32) } else { Way::Dma };
        if task.count != 1 || page != 0 {
            return Plan::End(Ending::ABORTED);
        }
        let mut data = vec![0; SECTOR as usize];
        match log {
            0 => {
                data[0] = 1;
                data[usize::from(LOG_QUEUED_ERROR) * 2] = u8::from(self.serial_ata);
            }
            LOG_QUEUED_ERROR if self.serial_ata => self.queued_error_log(&mut data),
            _ => return Plan::End(Ending::ABORTED),
        }
        Plan::Give(data, way)
    }

    fn queued_error_log(&mut self, data: &mut [u8]) {
        match self.settings.queued_error.take() {
            None => data[0] = 0x80,
            Some(QueuedError { tag, ending }) => {
                data[..4].copy_from_slice(&[tag, 0, ending.status(), ending.error]);
                let lba = ending.lba.unwrap_or_default().to_le_bytes();
                data[4..7].copy_from_slice(&lba[..3]);
                data[7] = DEVICE_LBA;
                data[8..11].copy_from_slice(&lba[3..6]);
            }
        }
        seal(data);
    }

    fn smart(&mut self, task: &TaskFile) -> Plan {
        let feature = task.feature as u8;
        if task.lba & 0xff_ff00 != SMART_KEY || !self.settings.smart && feature != 0xd8 {
            return Plan::End(Ending::ABORTED);
        }
        let sector = Way::Pio(SECTOR as u32);
        match feature {
            0xd0 => Plan::Give(smart_data(), sector),
            0xd1 => Plan::Give(smart_thresholds(), sector),
            // Attribute autosave, save, and an immediate off-line test, which ends at once.
            0xd2..=0xd4 => Plan::End(Ending::GOOD),
            0xd5 if task.lba as u8 <= 1 && task.count == 1 => Plan::Give(smart_log(task.lba as u8), sector),
            0xd8 | 0xd9 => {
                self.settings.smart = feature == 0xd8;
                Plan::End(Ending::GOOD)
            }
            0xda => Plan::End(Ending { lba: Some(SMART_WELL), ..Ending::GOOD }),
            _ => Plan::End(Ending::ABORTED),
        }
    }

    /// The 256 words of IDENTIFY DEVICE (ACS table 20).
    fn identify(&self) -> [u16; 256] {
        let mut w = [0; 256];
        self.identify_geometry(&mut w);
        text(&mut w[10..20], &self.serial);
        text(&mut w[23..27], "1.0");
        text(&mut w[27..47], "AERO DISK");
        w[47] = 0x8000 | MULTIPLE_MAX;
        w[48] = 0x4000;
        // LBA, DMA, IORDY and its disabling, standard standby timers.
        w[49] = 0x2f00;
        w[50] = 0x4000;
        (w[51], w[52]) = (0x0200, 0x0200);
        w[59] = if self.settings.multiple == 0 { 0 } else { 0x100 | self.settings.multiple };
        self.identify_modes(&mut w);
        self.identify_features(&mut w);
        // One logical sector of 512 bytes in each physical sector; a medium that does not turn.
        w[105] = DSM_BLOCKS;
        w[106] = 0x4000;
        world_wide_name(&mut w[108..112], &self.serial);
        w[169] = 1;
        w[217] = 1;
        seal_words(&mut w);
        w
    }

    fn identify_geometry(&self, w: &mut [u16; 256]) {
        let sectors = self.capacity();
        let cylinders = |heads: u16, per_track: u16| {
            (sectors / (u64::from(heads) * u64::from(per_track))).min(16_383) as u16
        };
        let (heads, per_track) = (self.settings.heads, self.settings.sectors);
        w[0] = 0x0040;
        (w[1], w[3], w[6]) = (cylinders(16, 63), 16, 63);
        w[53] = 7;
        (w[54], w[55], w[56]) = (cylinders(heads, per_track), heads, per_track);
        let current = u32::from(w[54]) * u32::from(heads) * u32::from(per_track);
        (w[57], w[58]) = (current as u16, (current >> 16) as u16);
        let narrow = sectors.min(0x0fff_ffff) as u32;
        (w[60], w[61]) = (narrow as u16, (narrow >> 16) as u16);
        for (i, word) in w[100..104].iter_mut().enumerate() {
            *word = (sectors >> (16 * i)) as u16;
        }
    }

    fn identify_modes(&self, w: &mut [u16; 256]) {
        let selected = 1 << (8 + (self.settings.dma_mode & 7));
        w[63] = 0x07 | if self.settings.dma_mode < 0x40 { selected } else { 0 };
        w[64] = 3;
        w[65..69].fill(120);
        w[88] = 0x3f | if self.settings.dma_mode >= 0x40 { selected } else { 0 };
        if self.serial_ata {
            w[75] = QUEUE_DEPTH - 1;
            // 1.5 and 3 Gbit/s, queued commands; the speed in use; settings survive a reset.
            (w[76], w[77], w[78], w[79]) = (0x0106, 0x0004, 0x0044, 0x0040);
            w[222] = 0x1020;
        } else {
            // The cable has 80 wires; device 0 passed its test.
            w[93] = 0x600b;
        }
    }

    fn identify_features(&self, w: &mut [u16; 256]) {
        let enabled = |on: bool, bit: u16| if on { 1 << bit } else { 0 };
        // Versions 4 to 8.
        w[80] = 0x01f0;
        // SMART, power management, write cache, look-ahead.
        w[82] = 1 << 0 | 1 << 3 | 1 << 5 | 1 << 6;
        // FLUSH, FLUSH EXT, 48-bit addresses.
        w[83] = 0x4000 | 1 << 13 | 1 << 12 | 1 << 10;
        // General purpose logging, forced unit access, world wide name.
        w[84] = 0x4000 | 1 << 8 | 1 << 6 | 1 << 5;
        w[85] = 1 << 3
            | enabled(self.settings.smart, 0)
            | enabled(self.settings.write_cache, 5)
            | enabled(self.settings.look_ahead, 6);
        w[86] = 1 << 15 | w[83] & 0x3fff;
        w[87] = w[84];
        (w[119], w[120]) = (0x4000, 0x4000);
    }
}

/// First sector and number of sectors of a command with 48-bit addresses.
fn wide(task: &TaskFile) -> Option<(u64, u64)> {
    Some((task.lba, if task.count == 0 { 65_536 } else { task.count.into() }))
}

fn end(done: Option<()>) -> Plan {
    Plan::End(done.map_or(Ending::ABORTED, |()| Ending::GOOD))
}

fn valid_multiple(sectors: u16) -> bool {
    sectors == 0 || sectors <= MULTIPLE_MAX && sectors.is_power_of_two()
}

/// Puts ASCII into words as ATA orders it: the first character in the high byte, spaces behind.
pub(crate) fn text(words: &mut [u16], text: &str) {
    let mut bytes = text.bytes().chain(core::iter::repeat(b' '));
    for word in words {
        *word = u16::from_be_bytes([bytes.next().unwrap_or(b' '), bytes.next().unwrap_or(b' ')]);
    }
}

/// A locally assigned name (NAA 5 without a vendor's number) from the serial number, by FNV-1a.
fn world_wide_name(words: &mut [u16], serial: &str) {
    let hash = serial
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let name = 5 << 60 | hash >> 4;
    for (i, word) in words.iter_mut().enumerate() {
        *word = (name >> (48 - 16 * i)) as u16;
    }
}

/// The signature and checksum of IDENTIFY's last word.
pub(crate) fn seal_words(w: &mut [u16; 256]) {
    w[255] = 0xa5;
    let sum = w.iter().flat_map(|word| word.to_le_bytes()).fold(0u8, u8::wrapping_add);
    w[255] |= u16::from(sum.wrapping_neg()) << 8;
}

/// The words as the bytes that travel.
pub(crate) fn words(w: &[u16; 256]) -> Vec<u8> {
    w.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Makes the last byte of a log such that all add up to 0.
fn seal(data: &mut [u8]) {
    let Some((last, rest)) = data.split_last_mut() else { return };
    *last = rest.iter().copied().fold(0u8, u8::wrapping_add).wrapping_neg();
}

/// Attributes: id, flags, normalised value, threshold. A medium without mechanics has power-on hours and
/// start counts.
const SMART_ATTRIBUTES: [(u8, u16, u8, u8); 3] = [(5, 0x33, 100, 36), (9, 0x32, 100, 0), (12, 0x32, 100, 0)];

fn smart_data() -> Vec<u8> {
    let mut data = vec![0; SECTOR as usize];
    data[0] = 16;
    for (i, (id, flags, value, _)) in SMART_ATTRIBUTES.into_iter().enumerate() {
        let entry = &mut data[2 + i * 12..14 + i * 12];
        entry[0] = id;
        entry[1..3].copy_from_slice(&flags.to_le_bytes());
        (entry[3], entry[4]) = (value, value);
    }
    // Off-line tests and attribute autosave exist; error logging does.
    (data[367], data[368], data[370]) = (0x01, 0x03, 0x01);
    seal(&mut data);
    data
}

fn smart_thresholds() -> Vec<u8> {
    let mut data = vec![0; SECTOR as usize];
    data[0] = 16;
    for (i, (id, _, _, threshold)) in SMART_ATTRIBUTES.into_iter().enumerate() {
        (data[2 + i * 12], data[3 + i * 12]) = (id, threshold);
    }
    seal(&mut data);
    data
}

/// The directory of SMART's logs, and the summary error log, which is empty.
fn smart_log(log: u8) -> Vec<u8> {
    let mut data = vec![0; SECTOR as usize];
    data[0] = 1;
    data[2] = u8::from(log == 0);
    if log == 1 {
        seal(&mut data);
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(sectors: u64) -> Disk {
        Disk::new(DriveId(0), Medium { bytes: sectors * SECTOR, read_only: false }, "AR1")
    }

    fn task(command: u8, lba: u64, count: u16) -> TaskFile {
        TaskFile { command, lba, count, device: DEVICE_LBA, ..TaskFile::default() }
    }

    fn identify(disk: &mut Disk) -> Vec<u16> {
        let Plan::Give(data, _) = disk.command(&task(IDENTIFY, 0, 0)) else { panic!("data") };
        data.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b)).collect()
    }

    #[test]
    fn identify_describes_the_medium() {
        let w = identify(&mut disk(0x1_2345_6789));
        assert_eq!((w[60], w[61]), (0xffff, 0x0fff), "28 bits are all used");
        assert_eq!(&w[100..104], &[0x6789, 0x2345, 1, 0]);
        assert_eq!((w[1], w[3], w[6]), (16_383, 16, 63));
        assert_eq!(w[10..12], [u16::from_be_bytes(*b"AR"), u16::from_be_bytes(*b"1 ")]);
        assert_eq!(w[49] & 0x300, 0x300, "LBA and DMA");
        assert_eq!((w[53] & 7, w[63] & 7, w[88]), (7, 7, 0x203f));
        assert_eq!((w[83] & 0x3400, w[86] & 0x3400, w[169]), (0x3400, 0x3400, 1));
        assert_eq!((w[75], w[76]), (0, 0), "no queue on a parallel cable");
        let sum = w.iter().flat_map(|w| w.to_le_bytes()).fold(0u8, u8::wrapping_add);
        assert_eq!((sum, w[255] & 0xff), (0, 0xa5));
    }

    #[test]
    fn identify_of_a_serial_disk_shows_the_queue() {
        let mut disk = disk(100).on_serial_cable();
        let w = identify(&mut disk);
        assert_eq!((w[75], w[76] & 0x100), (31, 0x100));
    }

    #[test]
    fn addresses_come_in_28_and_48_bits_and_as_cylinders() {
        let mut d = disk(1 << 33);
        let narrow = TaskFile { device: DEVICE_LBA | 3, ..task(READ_DMA, 0x01_0203, 0) };
        let at = |sector: u64, count: u64| Extent { offset: sector * SECTOR, len: count * SECTOR };
        assert_eq!(d.command(&narrow), Plan::Read(at(0x301_0203, 256), Way::Dma));
        assert_eq!(
            d.command(&task(READ_DMA_EXT, 0x1_0000_0000, 0)),
            Plan::Read(at(0x1_0000_0000, 65_536), Way::Dma)
        );
        let cylinder_2_head_1_sector_5 = TaskFile { device: 1, ..task(READ_SECTORS, 2 << 8 | 5, 2) };
        assert_eq!(
            d.command(&cylinder_2_head_1_sector_5),
            Plan::Read(at((2 * 16 + 1) * 63 + 4, 2), Way::Pio(512))
        );
        let sector_0 = TaskFile { device: 0, ..task(READ_SECTORS, 0, 1) };
        assert_eq!(d.command(&sector_0), Plan::End(Ending { error: IDNF, ..Ending::GOOD }));
    }

    #[test]
    fn address_beyond_the_medium_is_not_found_and_named() {
        for command in [READ_SECTORS, READ_DMA_EXT, WRITE_DMA, WRITE_SECTORS_EXT, READ_VERIFY] {
            let missing = Plan::End(Ending { error: IDNF, lba: Some(100), count: None });
            assert_eq!(disk(100).command(&task(command, 99, 2)), missing, "{command:02x}");
            assert_ne!(disk(100).command(&task(command, 98, 2)), missing, "{command:02x}");
        }
    }

    #[test]
    fn features_change_what_identify_shows() {
        let mut d = disk(100);
        for (feature, count) in [(0x82, 0), (0x55, 0), (0x03, 0x22)] {
            let set = TaskFile { feature, count, ..task(SET_FEATURES, 0, 0) };
            assert_eq!(d.command(&set), Plan::End(Ending::GOOD));
        }
        let w = identify(&mut d);
        assert_eq!((w[85] & 0x60, w[63], w[88]), (0, 0x0407, 0x3f));
        let bad = TaskFile { feature: 0x03, count: 0x47, ..task(SET_FEATURES, 0, 0) };
        assert_eq!(d.command(&bad), Plan::End(Ending::ABORTED));
    }

    #[test]
    fn write_is_durable_if_forced_or_without_a_cache() {
        let mut d = disk(100);
        let durable = |plan| matches!(plan, Plan::Write { durable: true, .. });
        assert!(!durable(d.command(&task(WRITE_DMA_EXT, 0, 1))));
        assert!(durable(d.command(&task(WRITE_DMA_FUA_EXT, 0, 1))));
        d.command(&TaskFile { feature: 0x82, ..task(SET_FEATURES, 0, 0) });
        assert!(durable(d.command(&task(WRITE_DMA_EXT, 0, 1))));
    }

    #[test]
    fn multiple_needs_a_power_of_two_up_to_16() {
        let mut d = disk(100);
        assert_eq!(d.command(&task(SET_MULTIPLE, 0, 3)), Plan::End(Ending::ABORTED));
        assert_eq!(d.command(&task(SET_MULTIPLE, 0, 32)), Plan::End(Ending::ABORTED));
        assert_eq!(d.command(&task(SET_MULTIPLE, 0, 8)), Plan::End(Ending::GOOD));
        let Plan::Read(_, Way::Pio(4096)) = d.command(&task(READ_MULTIPLE, 0, 20)) else {
            panic!("8 sectors")
        };
        d.command(&task(SET_MULTIPLE, 0, 0));
        assert_eq!(d.command(&task(READ_MULTIPLE, 0, 20)), Plan::End(Ending::ABORTED));
    }

    #[test]
    fn power_mode_shows_standby_until_the_next_command() {
        let mut d = disk(100);
        let mode = |d: &mut Disk| match d.command(&task(CHECK_POWER, 0, 0)) {
            Plan::End(ending) => ending.count,
            _ => None,
        };
        assert_eq!(mode(&mut d), Some(0xff));
        assert_eq!(d.command(&task(0x96, 0, 0)), Plan::Carry(vec![Operation::Flush]), "the old STANDBY");
        assert_eq!(mode(&mut d), Some(0));
        d.command(&task(IDLE_IMMEDIATE, 0, 0));
        assert_eq!(mode(&mut d), Some(0xff));
    }

    #[test]
    fn trim_discards_its_ranges() {
        let mut d = disk(100);
        let trim = TaskFile { feature: DSM_TRIM, ..task(DATA_SET_MANAGEMENT, 0, 1) };
        assert_eq!(d.command(&trim), Plan::Trim(512, Way::Dma));
        let mut ranges = [0; 512];
        ranges[..8].copy_from_slice(&(5u64 | 3 << 48).to_le_bytes());
        ranges[16..24].copy_from_slice(&(99u64 | 1 << 48).to_le_bytes());
        let discards = [(5, 3), (99, 1)]
            .map(|(at, n)| Operation::Discard { offset: at * SECTOR, len: n * SECTOR })
            .to_vec();
        assert_eq!(d.trim(&ranges), Plan::Carry(discards));
        ranges[24..32].copy_from_slice(&(99u64 | 2 << 48).to_le_bytes());
        assert!(matches!(d.trim(&ranges), Plan::End(Ending { error: IDNF, .. })));
    }

    #[test]
    fn smart_needs_its_key_and_says_all_is_well() {
        let mut d = disk(100);
        let status = TaskFile { feature: 0xda, ..task(SMART, SMART_KEY, 0) };
        assert_eq!(d.command(&status), Plan::End(Ending { lba: Some(0xc2_4f00), ..Ending::GOOD }));
        assert_eq!(d.command(&TaskFile { lba: 0, ..status }), Plan::End(Ending::ABORTED));
        let Plan::Give(data, _) = d.command(&TaskFile { feature: 0xd0, ..status }) else { panic!("data") };
        assert_eq!(data.iter().copied().fold(0u8, u8::wrapping_add), 0);
        d.command(&TaskFile { feature: 0xd9, ..status });
        assert_eq!(d.command(&status), Plan::End(Ending::ABORTED));
    }

    #[test]
    fn failed_queued_command_aborts_the_others_until_its_log_is_read() {
        let mut d = disk(100).on_serial_cable();
        let queued = TaskFile { feature: 1, ..task(READ_FPDMA_QUEUED, 7, 5 << 3) };
        let read = Plan::Read(Extent { offset: 7 * SECTOR, len: SECTOR }, Way::Queued(5));
        assert_eq!(d.command(&queued), read);
        d.queued_failed(5, Ending { error: UNC, lba: Some(7), count: None });
        assert_eq!(d.command(&queued), Plan::End(Ending::ABORTED));
        let Plan::Give(log, _) = d.command(&task(READ_LOG_EXT, 0x10, 1)) else { panic!("the log") };
        assert_eq!(log[..5], [5, 0, READY | ERR, UNC, 7]);
        assert_eq!(log.iter().copied().fold(0u8, u8::wrapping_add), 0);
        assert_eq!(d.command(&queued), read);
    }

    #[test]
    fn read_only_medium_takes_no_writes() {
        let mut d = Disk::new(DriveId(0), Medium { bytes: 51_200, read_only: true }, "");
        for command in [WRITE_SECTORS, WRITE_DMA_EXT, WRITE_MULTIPLE, DATA_SET_MANAGEMENT] {
            let write = TaskFile { feature: 1, ..task(command, 0, 1) };
            assert_eq!(d.command(&write), Plan::End(Ending::ABORTED));
        }
    }

    // checklist: 62
    #[test]
    fn unknown_command_is_aborted() {
        for command in [0x00, 0x05, 0x5c, 0x87, 0xff] {
            assert_eq!(disk(100).command(&task(command, 0, 1)), Plan::End(Ending::ABORTED), "{command:02x}");
        }
    }
}
