//! Saved state: what a device writes into a snapshot and reads back.
//!
//! A device's saved state is a type of its own (`PitStateV1`), never the runtime type, so that the runtime type may
//! change freely. [`Section`] is that state as bytes with a kind and a version; a snapshot is a list of sections. Old
//! versions stay as structs with `From<V1> for V2`, and an unknown version is refused politely.

use serde::{Serialize, de::DeserializeOwned};

/// One device's saved state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Which device wrote it, for example `"i8254"`.
    pub kind: &'static str,
    /// The version of the state type.
    pub version: u16,
    /// The state, in postcard encoding.
    pub body: Vec<u8>,
}

/// Why a section could not be restored.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RestoreError {
    /// The section belongs to another device.
    #[error("the saved state of a {found} cannot be restored into a {expected}")]
    WrongKind {
        /// What the device saves.
        expected: &'static str,
        /// What the section holds.
        found: &'static str,
    },
    /// A newer or retired version.
    #[error("{kind}: version {version} of its saved state is not known to this build")]
    UnknownVersion {
        /// The device.
        kind: &'static str,
        /// The version in the section.
        version: u16,
    },
    /// The bytes do not decode.
    #[error("{kind}: its saved state is damaged")]
    Damaged {
        /// The device.
        kind: &'static str,
    },
}

/// Something whose state can be saved and restored. Save, restore, save gives the same section twice.
pub trait Saved {
    /// The state now.
    fn save(&self) -> Section;

    /// Takes over a saved state. On an error nothing has changed.
    ///
    /// # Errors
    /// When the section is another device's, of an unknown version, or damaged.
    fn restore(&mut self, section: &Section) -> Result<(), RestoreError>;
}

impl Section {
    /// Encodes `state`.
    pub fn new<T: Serialize>(kind: &'static str, version: u16, state: &T) -> Self {
        let body = postcard::to_allocvec(state).expect("plain data always encodes into memory");
        Self { kind, version, body }
    }

    /// Decodes the state of a device that knows one version.
    ///
    /// # Errors
    /// As [`Saved::restore`].
    pub fn decode<T: DeserializeOwned>(&self, kind: &'static str, version: u16) -> Result<T, RestoreError> {
        if self.kind != kind {
            return Err(RestoreError::WrongKind { expected: kind, found: self.kind });
        }
        if self.version != version {
            return Err(RestoreError::UnknownVersion { kind, version: self.version });
        }
        postcard::from_bytes(&self.body).map_err(|_| RestoreError::Damaged { kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn section_of_another_device_or_version_is_refused() {
        let s = Section::new("pit", 1, &7u32);
        assert_eq!(s.decode::<u32>("pit", 1), Ok(7));
        assert!(matches!(s.decode::<u32>("rtc", 1), Err(RestoreError::WrongKind { .. })));
        assert!(matches!(s.decode::<u32>("pit", 2), Err(RestoreError::UnknownVersion { .. })));
        let cut = Section { body: vec![], ..s };
        assert_eq!(cut.decode::<u32>("pit", 1), Err(RestoreError::Damaged { kind: "pit" }));
    }
}
