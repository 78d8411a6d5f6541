//! Registers, opcodes and codes by the specification's names.

/// PCI: a controller of QEMU's, which every driver binds by class 01/08/02.
pub const VENDOR: u16 = 0x1b36;
pub const DEVICE: u16 = 0x0010;
pub const CLASS: u32 = 0x01_0802;

/// BAR 0: registers and doorbells, the MSI-X table, its pending bits.
pub const BAR_SIZE: u64 = 0x4000;
pub const DOORBELLS: u64 = 0x1000;
pub const MSIX_TABLE: u64 = 0x2000;
pub const MSIX_PBA: u64 = 0x3000;

pub const INTMS: u64 = 0x0c;
pub const INTMC: u64 = 0x10;
pub const CC: u64 = 0x14;
pub const AQA: u64 = 0x24;
pub const ASQ: u64 = 0x28;
pub const ACQ: u64 = 0x30;

/// I/O queue pairs; queue 0 is the admin queue.
pub const IO_QUEUES: u16 = 32;
pub const QUEUES: usize = IO_QUEUES as usize + 1;
/// Entries of a queue.
pub const MAX_ENTRIES: u32 = 1024;

/// CAP: 1024 entries (zero-based), contiguous queues required, 10 s to become ready, the NVM command set, pages of
/// 4 KiB to 64 KiB.
pub const CAP: u64 = (MAX_ENTRIES as u64 - 1) | 1 << 16 | 20 << 24 | 1 << 37 | (MAX_MPS as u64) << 52;
pub const MAX_MPS: u32 = 4;
pub const VS: u32 = 0x0001_0400;

pub const CC_EN: u32 = 1;
pub const CC_WRITABLE: u32 = 0x00ff_fff1;
pub const CSTS_RDY: u32 = 1;
pub const CSTS_CFS: u32 = 2;
pub const CSTS_SHST: u32 = 3 << 2;
pub const CSTS_SHUTTING_DOWN: u32 = 1 << 2;
pub const CSTS_SHUT_DOWN: u32 = 2 << 2;

/// Bytes of a command and of a completion.
pub const COMMAND: usize = 64;
pub const COMPLETION: usize = 16;

/// Largest transfer: 2 to this power of the smallest page, 1 MiB.
pub const MDTS: u8 = 8;
pub const MAX_TRANSFER: u32 = 4096 << MDTS;

pub const DELETE_SQ: u8 = 0x00;
pub const CREATE_SQ: u8 = 0x01;
pub const GET_LOG_PAGE: u8 = 0x02;
pub const DELETE_CQ: u8 = 0x04;
pub const CREATE_CQ: u8 = 0x05;
pub const IDENTIFY: u8 = 0x06;
pub const ABORT: u8 = 0x08;
pub const SET_FEATURES: u8 = 0x09;
pub const GET_FEATURES: u8 = 0x0a;
pub const ASYNC_EVENT: u8 = 0x0c;

pub const FLUSH: u8 = 0x00;
pub const WRITE: u8 = 0x01;
pub const READ: u8 = 0x02;
pub const COMPARE: u8 = 0x05;
pub const WRITE_ZEROES: u8 = 0x08;
pub const DATASET_MANAGEMENT: u8 = 0x09;
pub const VERIFY: u8 = 0x0c;

/// Dword 12 of reads and writes: force unit access.
pub const FUA: u32 = 1 << 30;

/// The namespace, and the number that means all of them.
pub const NAMESPACE: u32 = 1;
pub const ALL_NAMESPACES: u32 = 0xffff_ffff;

/// Event requests that may be outstanding.
pub const EVENT_REQUESTS: usize = 4;
/// Entries of the error log.
pub const ERROR_ENTRIES: usize = 16;

pub const LOG_ERROR: u8 = 1;
pub const LOG_SMART: u8 = 2;
pub const LOG_FIRMWARE: u8 = 3;

/// The disk's temperature in kelvins, and from where on it would be too warm.
pub const TEMPERATURE: u16 = 310;
pub const WARNING_TEMPERATURE: u16 = 343;
