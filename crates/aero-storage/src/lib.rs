//! Disk controllers.
//!
//! A controller turns what a guest's driver programs into requests of [`aero_bus::block`] and their ends into status and
//! interrupts. It knows nothing of files or formats: a drive is a [`DriveId`](aero_bus::block::DriveId) and what its medium
//! holds. Commands that several controllers speak are in one place, away from any register.

mod in_flight;
pub mod nvme;
pub mod virtio_blk;
