//! Drives and where on the board they are.
//!
//! A [`Drive`] is what a user attaches: a backend, or none for a drive with removable media that is empty, and the bus it is on.
//! [`Attached`] finds each its place, in the order given: floppy A and B; on IDE, disks from the primary master on and discs
//! from the secondary master on; on AHCI from port 0 on.

use aero_bus::IrqLine;
use aero_bus::block::{BlockBackend, DriveId, Medium};
use aero_bus::virtio::{Interface, VirtioPci};
use aero_storage::ahci::PORTS as AHCI_PORTS;
use aero_storage::ata::Disk;
use aero_storage::atapi::Cd;
use aero_storage::floppy::{DriveKind, Floppy, Format};
use aero_storage::nvme::Nvme;
use aero_storage::unit::Unit;
use aero_storage::virtio_blk::VirtioBlk;

/// What a drive is and what it is attached to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bus {
    /// A floppy drive.
    Floppy,
    /// A disk on an IDE channel.
    IdeDisk,
    /// A CD and DVD drive on an IDE channel.
    IdeCd,
    /// A disk on a port of the AHCI controller.
    AhciDisk,
    /// A CD and DVD drive on a port of the AHCI controller.
    AhciCd,
    /// The namespace of the NVMe controller.
    Nvme,
    /// The virtio disk.
    Virtio,
}

/// A drive.
pub struct Drive {
    /// What and where.
    pub bus: Bus,
    /// What is in it.
    pub backend: Option<Box<dyn BlockBackend>>,
}

impl Drive {
    /// A drive with this in it.
    pub fn new(bus: Bus, backend: impl BlockBackend + 'static) -> Self {
        Self { bus, backend: Some(Box::new(backend)) }
    }

    fn medium(&self) -> Option<Medium> {
        Some(self.backend.as_ref()?.medium())
    }
}

/// Why a drive cannot be attached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriveError {
    /// All places are taken.
    #[error("there is no place left for {0}")]
    NoPlace(&'static str),
    /// A floppy of no known format.
    #[error("a floppy image has at most 2949120 bytes, this one has {bytes}")]
    Floppy {
        /// Bytes of the image.
        bytes: u64,
    },
}

/// A place where a drive can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// Drive A or B.
    Floppy(u8),
    /// Channel and unit.
    Ide(u8, u8),
    /// Port.
    Ahci(u8),
    /// The one namespace.
    Nvme,
    /// The one disk.
    Virtio,
}

/// Drives in their places. A drive's number is its place in the order given.
#[derive(Default)]
pub(crate) struct Attached {
    drives: Vec<Drive>,
    places: Vec<Place>,
}

impl Attached {
    /// Finds each drive a place.
    ///
    /// # Errors
    /// When there are more than places, or a floppy has no known format.
    pub fn new(drives: Vec<Drive>) -> Result<Self, DriveError> {
        let mut places = Vec::new();
        for drive in &drives {
            let (choices, what) = choices(drive.bus);
            let place = choices.iter().find(|place| !places.contains(*place));
            places.push(*place.ok_or(DriveError::NoPlace(what))?);
            if let (Bus::Floppy, Some(Medium { bytes, .. })) = (drive.bus, drive.medium())
                && Format::of(bytes).is_none()
            {
                return Err(DriveError::Floppy { bytes });
            }
        }
        Ok(Self { drives, places })
    }

    /// Where each drive is.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The drive at a place.
    fn at(&self, place: Place) -> Option<(DriveId, &Drive)> {
        let n = self.places.iter().position(|p| *p == place)?;
        Some((DriveId(n as u8), &self.drives[n]))
    }

    /// The floppy drives: a PC has at least one.
    pub fn floppy_kinds(&self) -> [Option<DriveKind>; 2] {
        [0, 1].map(|n| match self.at(Place::Floppy(n)) {
            Some((_, drive)) => {
                Some(match drive.medium().and_then(|m| Format::of(m.bytes)).map(|f| f.drive) {
                    None | Some(DriveKind::D720) => DriveKind::D1440,
                    Some(kind) => kind,
                })
            }
            None => (n == 0).then_some(DriveKind::D1440),
        })
    }

    /// The floppy controller.
    pub fn floppy(&self, irq: IrqLine) -> Floppy {
        let mut floppy = Floppy::new(irq, self.floppy_kinds());
        for n in 0..2 {
            if let Some((id, drive)) = self.at(Place::Floppy(n)) {
                floppy.insert(n, drive.medium().map(|medium| (id, medium)));
            }
        }
        floppy
    }

    /// What hangs on the IDE cables.
    pub fn ide(&self) -> [[Option<Unit>; 2]; 2] {
        [0, 1].map(|channel| [0, 1].map(|unit| self.unit(Place::Ide(channel, unit))))
    }

    /// What is at the ports of the AHCI controller; `None` if there is nothing, and then there is no controller.
    pub fn ahci(&self) -> Option<[Option<Unit>; AHCI_PORTS]> {
        let any = self.places.iter().any(|place| matches!(place, Place::Ahci(_)));
        any.then(|| core::array::from_fn(|port| self.unit(Place::Ahci(port as u8))))
    }

    /// The NVMe controller, if it has a drive.
    pub fn nvme(&self, line: IrqLine) -> Option<Nvme> {
        let (id, drive) = self.at(Place::Nvme)?;
        Some(Nvme::new(id, drive.medium()?, &serial(id), line))
    }

    /// The virtio disk, if there is one.
    pub fn virtio_blk(&self, line: IrqLine) -> Option<VirtioPci<VirtioBlk>> {
        let (id, drive) = self.at(Place::Virtio)?;
        Some(VirtioPci::new(
            VirtioBlk::new(id, drive.medium()?, &serial(id), 1),
            Interface::Transitional,
            line,
        ))
    }

    /// Every drive with its place.
    pub fn iter(&self) -> impl Iterator<Item = (Bus, Place)> + '_ {
        self.drives.iter().map(|drive| drive.bus).zip(self.places.iter().copied())
    }

    fn unit(&self, place: Place) -> Option<Unit> {
        let (id, drive) = self.at(place)?;
        let serial = serial(id);
        Some(match (drive.bus, drive.medium()) {
            (Bus::IdeCd | Bus::AhciCd, medium) => Unit::Cd(Cd::new(id, medium, &serial)),
            (_, medium) => Unit::Disk(Disk::new(id, medium?, &serial)),
        })
    }

    pub fn into_backends(self) -> Vec<Option<Box<dyn BlockBackend>>> {
        self.drives.into_iter().map(|drive| drive.backend).collect()
    }
}

/// A serial number that stays the same as long as the drives are given in the same order.
fn serial(id: DriveId) -> String {
    format!("AERO{:04}", id.0 + 1)
}

/// Where a drive may be, the first choice first.
fn choices(bus: Bus) -> (&'static [Place], &'static str) {
    use Place::{Ahci, Floppy, Ide};
    const AHCI: [Place; AHCI_PORTS] = [Ahci(0), Ahci(1), Ahci(2), Ahci(3), Ahci(4), Ahci(5)];
    match bus {
        Bus::Nvme => (&[Place::Nvme], "a second drive on NVMe; the controller has one"),
        Bus::Virtio => (&[Place::Virtio], "a second virtio disk; there is one"),
        Bus::AhciDisk | Bus::AhciCd => (&AHCI, "another drive on AHCI; it has six ports"),
        Bus::Floppy => (&[Floppy(0), Floppy(1)], "a third floppy drive; a PC has two"),
        Bus::IdeDisk => {
            (&[Ide(0, 0), Ide(0, 1), Ide(1, 1), Ide(1, 0)], "another disk on IDE; it has four places")
        }
        Bus::IdeCd => {
            (&[Ide(1, 0), Ide(1, 1), Ide(0, 1), Ide(0, 0)], "another disc drive on IDE; it has four places")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aero_bus::block::MemoryDisk;

    fn drive(bus: Bus, bytes: usize) -> Drive {
        Drive::new(bus, MemoryDisk::new(vec![0; bytes], false))
    }

    #[test]
    fn drives_take_their_first_choice_that_is_free() {
        let drives =
            [Bus::IdeDisk, Bus::IdeCd, Bus::IdeDisk, Bus::IdeDisk, Bus::Floppy].map(|b| drive(b, 512));
        let attached = Attached::new(drives.into()).unwrap();
        let ide = |channel, unit| Place::Ide(channel, unit);
        assert_eq!(attached.places(), [ide(0, 0), ide(1, 0), ide(0, 1), ide(1, 1), Place::Floppy(0)]);
    }

    #[test]
    fn drive_without_a_place_is_refused() {
        let floppies = [0; 3].map(|_| drive(Bus::Floppy, 512));
        let message = Attached::new(floppies.into()).err().unwrap().to_string();
        assert!(message.contains("third floppy drive"), "{message}");
        let message = Attached::new(vec![drive(Bus::Floppy, 3 << 20)]).err().unwrap().to_string();
        assert!(message.contains("3145728"), "{message}");
    }
}
