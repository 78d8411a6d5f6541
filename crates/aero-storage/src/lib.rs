//! Disk controllers.
//!
//! A controller turns what a guest's driver programs into requests of [`aero_bus::block`] and their ends into
//! status and interrupts. It knows nothing of files or formats: a drive is a
//! [`DriveId`](aero_bus::block::DriveId) and what its medium holds. Commands that several controllers speak
//! are in one place, away from any register: [`ata`] for disks, [`atapi`] for discs, and [`unit`] is either
//! of them at the end of a cable.

pub mod ahci;
pub mod ata;
pub mod atapi;
pub mod floppy;
pub mod ide;
mod in_flight;
pub mod nvme;
pub mod overlay;
pub mod unit;
pub mod virtio_blk;
