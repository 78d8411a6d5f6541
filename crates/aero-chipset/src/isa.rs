//! The ISA bus as an 8-bit device meets it: a wider access is byte accesses to ports that follow each other
//! (PIIX3 data sheet, "ISA bus: 16-bit to 8-bit data size translation"). `out 70h, ax`, for one, writes an
//! index register and the data register behind it.

use aero_bus::{At, IoError, Width};

/// Reads `width` as bytes. The first byte decides whether the access is claimed; a later one that is not,
/// floats.
pub(crate) fn read_bytes(
    at: At,
    width: Width,
    mut byte: impl FnMut(At) -> Result<u8, IoError>,
) -> Result<u64, IoError> {
    let mut value = u64::from(byte(at)?);
    for i in 1..width.bytes() {
        let next = byte(At::new(at.region, at.offset + i)).unwrap_or(0xff);
        value |= u64::from(next) << (8 * i);
    }
    Ok(value)
}

/// Writes `width` as bytes, lowest first. The first byte decides whether the access is claimed.
pub(crate) fn write_bytes(
    at: At,
    width: Width,
    value: u64,
    mut byte: impl FnMut(At, u8) -> Result<(), IoError>,
) -> Result<(), IoError> {
    byte(at, value as u8)?;
    for i in 1..width.bytes() {
        // A byte beyond the device goes to nobody.
        let _ = byte(At::new(at.region, at.offset + i), (value >> (8 * i)) as u8);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_access_beyond_the_device_floats() {
        let two = |at: At| if at.offset < 2 { Ok(at.offset as u8 + 1) } else { Err(IoError::Unclaimed) };
        assert_eq!(read_bytes(At::new(0, 0), Width::B4, two), Ok(0xffff_0201));
        assert_eq!(read_bytes(At::new(0, 2), Width::B1, two), Err(IoError::Unclaimed));
    }

    #[test]
    fn wide_write_is_bytes_in_order() {
        let mut seen = Vec::new();
        let _ = write_bytes(At::new(0, 0), Width::B2, 0xbbaa, |at, v| {
            seen.push((at.offset, v));
            Ok(())
        });
        assert_eq!(seen, [(0, 0xaa), (1, 0xbb)]);
    }
}
