//! Where a case's memory lies, here and on the host: the same linear addresses.
//!
//! Everything is below 4 GiB, so that 32-bit code reaches it, and inside one aligned 64 KiB region, so that 16-bit
//! segments with the region's base reach it too. The pages between the mapped ones are not mapped: operands that
//! straddle an edge fault half-way.

/// The region's linear address.
pub const REGION: u64 = 0x2000_0000;
/// Bytes of the region.
pub const REGION_SIZE: u64 = 0x1_0000;
/// Offset of the page that code lies in; it can be read and executed.
pub const CODE: u64 = 0x2000;
/// Offset of two adjacent pages of data.
pub const DATA: u64 = 0x6000;
/// Offset of a page that cannot be written.
pub const CONSTANT: u64 = 0xa000;
/// Offset of the stack page.
pub const STACK: u64 = 0xd000;
/// Offset of the page that ends with the region, for wraps at 64 KiB.
pub const LAST: u64 = 0xf000;
/// The writable pages.
pub const WRITABLE: [u64; 4] = [DATA, DATA + 0x1000, STACK, LAST];
/// Every page that a case may touch.
pub const PAGES: [u64; 6] = [CODE, DATA, DATA + 0x1000, CONSTANT, STACK, LAST];
/// Base of FS and GS.
pub const FS_BASE: u64 = REGION + DATA + 0x40;
/// Base of GS.
pub const GS_BASE: u64 = REGION + LAST - 0x2000;

/// Selectors of the host's tables (Linux: `arch/x86/include/asm/segment.h`) and of the local table that the harness
/// installs.
pub mod selector {
    /// 32-bit code.
    pub const CODE32: u16 = 0x23;
    /// Flat data.
    pub const DATA: u16 = 0x2b;
    /// 64-bit code.
    pub const CODE64: u16 = 0x33;
    /// Local: 16-bit code at the region.
    pub const CODE16: u16 = 0x07;
    /// Local: 16-bit data at the region.
    pub const DATA16: u16 = 0x0f;
    /// Local: flat 32-bit data whose base is that of FS.
    pub const FS: u16 = 0x17;
    /// Local: the same of GS.
    pub const GS: u16 = 0x1f;
}

/// The background of a writable or constant page: what lies there before a case writes its own.
pub fn background(page: u64) -> [u8; 0x1000] {
    let mut rng = crate::random::Random::new(page, 0);
    let mut bytes = [0; 0x1000];
    for chunk in bytes.chunks_mut(16) {
        chunk.copy_from_slice(&super::values::vector(&mut rng).to_le_bytes());
    }
    bytes
}
