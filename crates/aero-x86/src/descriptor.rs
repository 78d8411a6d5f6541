//! Descriptors as they lie in their tables (Intel SDM vol. 3A, 3.4.5 and 5.8.3), for those who write them.

/// A segment descriptor: `access` is the access byte, `flags` the nibble G, D/B, L, AVL.
pub fn segment(base: u64, limit: u64, access: u64, flags: u64) -> u64 {
    limit & 0xffff
        | (base & 0xff_ffff) << 16
        | access << 40
        | (limit >> 16 & 0xf) << 48
        | flags << 52
        | (base >> 24 & 0xff) << 56
}

/// A call, interrupt, trap or task gate (its low 8 bytes in long mode); `count` is the parameter count or the IST.
pub fn gate(selector: u16, offset: u64, access: u64, count: u64) -> u64 {
    offset & 0xffff | u64::from(selector) << 16 | count << 32 | access << 40 | (offset >> 16 & 0xffff) << 48
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_code_has_the_well_known_bytes() {
        assert_eq!(segment(0, 0xf_ffff, 0x9a, 0xc), 0x00cf_9a00_0000_ffff);
        assert_eq!(segment(0x1234_5678, 0, 0x92, 0), 0x1200_9234_5678_0000);
    }

    #[test]
    fn gate_holds_both_halves_of_its_offset() {
        assert_eq!(gate(8, 0x1234_5678, 0x8e, 0), 0x1234_8e00_0008_5678);
    }
}
