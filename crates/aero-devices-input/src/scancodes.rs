//! Scan codes: from a key's name to what a PS/2 keyboard sends.
//!
//! In set 2 a key is one byte, some keys have E0h in front, and a release has F0h before the key's byte. Two
//! keys are odd: Print Screen pretends that Shift goes down with it, and Pause sends press and release in one
//! breath. Set 1 is set 2 put through the 8042's table, where F0h and the byte after it become that byte with
//! bit 7 set. (IBM PS/2 Hardware Interface Technical Reference, "Keyboards (101- and 102-key)"; Microsoft,
//! Keyboard Scan Code Specification 1.3a; names: W3C UI Events KeyboardEvent code values.)

/// Announces a key of the extended block.
pub const EXTENDED: u8 = 0xe0;
/// Announces a release in set 2.
pub const RELEASE: u8 = 0xf0;

/// One key: name, set 2 code, whether E0h comes first.
type Key = (&'static str, u8, bool);

#[rustfmt::skip]
const KEYS: &[Key] = &[
    ("KeyA", 0x1c, false), ("KeyB", 0x32, false), ("KeyC", 0x21, false), ("KeyD", 0x23, false),
    ("KeyE", 0x24, false), ("KeyF", 0x2b, false), ("KeyG", 0x34, false), ("KeyH", 0x33, false),
    ("KeyI", 0x43, false), ("KeyJ", 0x3b, false), ("KeyK", 0x42, false), ("KeyL", 0x4b, false),
    ("KeyM", 0x3a, false), ("KeyN", 0x31, false), ("KeyO", 0x44, false), ("KeyP", 0x4d, false),
    ("KeyQ", 0x15, false), ("KeyR", 0x2d, false), ("KeyS", 0x1b, false), ("KeyT", 0x2c, false),
    ("KeyU", 0x3c, false), ("KeyV", 0x2a, false), ("KeyW", 0x1d, false), ("KeyX", 0x22, false),
    ("KeyY", 0x35, false), ("KeyZ", 0x1a, false),
    ("Digit0", 0x45, false), ("Digit1", 0x16, false), ("Digit2", 0x1e, false), ("Digit3", 0x26, false),
    ("Digit4", 0x25, false), ("Digit5", 0x2e, false), ("Digit6", 0x36, false), ("Digit7", 0x3d, false),
    ("Digit8", 0x3e, false), ("Digit9", 0x46, false),
    ("Backquote", 0x0e, false), ("Minus", 0x4e, false), ("Equal", 0x55, false), ("Backslash", 0x5d, false),
    ("BracketLeft", 0x54, false), ("BracketRight", 0x5b, false), ("Semicolon", 0x4c, false),
    ("Quote", 0x52, false), ("Comma", 0x41, false), ("Period", 0x49, false), ("Slash", 0x4a, false),
    ("IntlBackslash", 0x61, false), ("IntlRo", 0x51, false), ("IntlYen", 0x6a, false),
    ("KanaMode", 0x13, false), ("Convert", 0x64, false), ("NonConvert", 0x67, false),
    ("Space", 0x29, false), ("Enter", 0x5a, false), ("Tab", 0x0d, false), ("Backspace", 0x66, false),
    ("Escape", 0x76, false), ("CapsLock", 0x58, false), ("NumLock", 0x77, false), ("ScrollLock", 0x7e, false),
    ("ShiftLeft", 0x12, false), ("ShiftRight", 0x59, false), ("ControlLeft", 0x14, false),
    ("ControlRight", 0x14, true), ("AltLeft", 0x11, false), ("AltRight", 0x11, true),
    ("MetaLeft", 0x1f, true), ("MetaRight", 0x27, true), ("OSLeft", 0x1f, true), ("OSRight", 0x27, true),
    ("ContextMenu", 0x2f, true),
    ("F1", 0x05, false), ("F2", 0x06, false), ("F3", 0x04, false), ("F4", 0x0c, false), ("F5", 0x03, false),
    ("F6", 0x0b, false), ("F7", 0x83, false), ("F8", 0x0a, false), ("F9", 0x01, false), ("F10", 0x09, false),
    ("F11", 0x78, false), ("F12", 0x07, false), ("F13", 0x08, false), ("F14", 0x10, false),
    ("F15", 0x18, false), ("F16", 0x20, false), ("F17", 0x28, false), ("F18", 0x30, false),
    ("F19", 0x38, false), ("F20", 0x40, false),
    ("F21", 0x48, false), ("F22", 0x50, false), ("F23", 0x57, false), ("F24", 0x5f, false),
    ("Insert", 0x70, true), ("Delete", 0x71, true), ("Home", 0x6c, true), ("End", 0x69, true),
    ("PageUp", 0x7d, true), ("PageDown", 0x7a, true),
    ("ArrowUp", 0x75, true), ("ArrowDown", 0x72, true), ("ArrowLeft", 0x6b, true), ("ArrowRight", 0x74, true),
    ("Numpad0", 0x70, false), ("Numpad1", 0x69, false), ("Numpad2", 0x72, false), ("Numpad3", 0x7a, false),
    ("Numpad4", 0x6b, false), ("Numpad5", 0x73, false), ("Numpad6", 0x74, false), ("Numpad7", 0x6c, false),
    ("Numpad8", 0x75, false), ("Numpad9", 0x7d, false), ("NumpadDecimal", 0x71, false),
    ("NumpadAdd", 0x79, false), ("NumpadSubtract", 0x7b, false), ("NumpadMultiply", 0x7c, false),
    ("NumpadDivide", 0x4a, true), ("NumpadEnter", 0x5a, true), ("NumpadComma", 0x6d, false),
    ("NumpadEqual", 0x0f, false),
    ("AudioVolumeMute", 0x23, true), ("AudioVolumeDown", 0x21, true), ("AudioVolumeUp", 0x32, true),
    ("MediaPlayPause", 0x34, true), ("MediaStop", 0x3b, true), ("MediaTrackNext", 0x4d, true),
    ("MediaTrackPrevious", 0x15, true), ("MediaSelect", 0x50, true), ("LaunchMail", 0x48, true),
    ("LaunchApp1", 0x40, true), ("LaunchApp2", 0x2b, true),
    ("BrowserSearch", 0x10, true), ("BrowserHome", 0x3a, true), ("BrowserBack", 0x38, true),
    ("BrowserForward", 0x30, true), ("BrowserStop", 0x28, true), ("BrowserRefresh", 0x20, true),
    ("BrowserFavorites", 0x18, true),
    ("Power", 0x37, true), ("Sleep", 0x3f, true), ("WakeUp", 0x5e, true),
];

/// The 8042's table for codes 00h–84h; a code beyond passes unchanged.
#[rustfmt::skip]
const SET2_TO_SET1: [u8; 0x85] = [
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
    0x80, 0x81, 0x82, 0x41, 0x54,
];

/// What a keyboard in scan code set 2 sends when the key named `code` goes down or up. `None`: no such key.
/// Pause sends nothing when it goes up.
pub fn set2(code: &str, pressed: bool) -> Option<Vec<u8>> {
    match (code, pressed) {
        ("Pause", true) => return Some(vec![0xe1, 0x14, 0x77, 0xe1, RELEASE, 0x14, RELEASE, 0x77]),
        ("Pause", false) => return Some(vec![]),
        ("PrintScreen", true) => return Some(vec![EXTENDED, 0x12, EXTENDED, 0x7c]),
        ("PrintScreen", false) => return Some(vec![EXTENDED, RELEASE, 0x7c, EXTENDED, RELEASE, 0x12]),
        _ => {}
    }
    let (_, key, extended) = KEYS.iter().find(|(name, ..)| *name == code)?;
    let mut bytes = Vec::with_capacity(3);
    bytes.extend(extended.then_some(EXTENDED));
    bytes.extend((!pressed).then_some(RELEASE));
    bytes.push(*key);
    Some(bytes)
}

/// What the 8042 makes of one byte from the keyboard, releases apart.
pub fn set1_byte(set2: u8) -> u8 {
    SET2_TO_SET1.get(usize::from(set2)).copied().unwrap_or(set2)
}

/// A set 2 sequence in set 1.
pub fn set1(set2: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(set2.len());
    let mut released = 0;
    for byte in set2 {
        if *byte == RELEASE {
            released = 0x80;
        } else {
            bytes.push(set1_byte(*byte) | core::mem::take(&mut released));
        }
    }
    bytes
}

/// Keys that give a digit or a sign on a US keyboard: name, plain, with Shift.
#[rustfmt::skip]
const SIGNS: &[(&str, char, char)] = &[
    ("Digit0", '0', ')'), ("Digit1", '1', '!'), ("Digit2", '2', '@'), ("Digit3", '3', '#'),
    ("Digit4", '4', '$'), ("Digit5", '5', '%'), ("Digit6", '6', '^'), ("Digit7", '7', '&'),
    ("Digit8", '8', '*'), ("Digit9", '9', '('),
    ("Backquote", '`', '~'), ("Minus", '-', '_'), ("Equal", '=', '+'), ("BracketLeft", '[', '{'),
    ("BracketRight", ']', '}'), ("Backslash", '\\', '|'), ("Semicolon", ';', ':'), ("Quote", '\'', '"'),
    ("Comma", ',', '<'), ("Period", '.', '>'), ("Slash", '/', '?'),
];

/// The key that types `c` on a US keyboard, and whether Shift is held. `None`: not on the keyboard.
pub fn keys_for_char(c: char) -> Option<(&'static str, bool)> {
    match c {
        '\n' | '\r' => Some(("Enter", false)),
        '\t' => Some(("Tab", false)),
        '\x08' | '\x7f' => Some(("Backspace", false)),
        '\x1b' => Some(("Escape", false)),
        ' ' => Some(("Space", false)),
        'a'..='z' => Some((letter(c as u8 - b'a'), false)),
        'A'..='Z' => Some((letter(c as u8 - b'A'), true)),
        _ => {
            let (code, plain, _) = SIGNS.iter().find(|(_, plain, shifted)| c == *plain || c == *shifted)?;
            Some((code, c != *plain))
        }
    }
}

/// The name of letter 0..=25: the table starts with the letters in order.
fn letter(index: u8) -> &'static str {
    KEYS[usize::from(index)].0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_key_has_its_own_code() {
        let aliases = 2;
        let codes: BTreeSet<_> = KEYS.iter().map(|(_, code, extended)| (code, extended)).collect();
        assert_eq!(codes.len(), KEYS.len() - aliases);
    }

    #[test]
    fn translation_gives_every_key_its_own_set_1_code() {
        let codes: BTreeSet<_> =
            KEYS.iter().map(|(_, code, extended)| (set1_byte(*code), extended)).collect();
        assert_eq!(codes.len(), KEYS.len() - 2);
        let table: BTreeSet<_> = SET2_TO_SET1[..0x80].iter().collect();
        assert_eq!(table.len(), 0x80, "a permutation but for 00 and 02");
    }

    #[test]
    fn plain_and_extended_keys_press_and_release() {
        assert_eq!(set2("KeyA", true).unwrap(), [0x1c]);
        assert_eq!(set2("KeyA", false).unwrap(), [0xf0, 0x1c]);
        assert_eq!(set2("ArrowUp", false).unwrap(), [0xe0, 0xf0, 0x75]);
        assert_eq!(set2("NoSuchKey", true), None);
    }

    #[test]
    fn set_1_has_the_codes_of_the_pc() {
        let set1_of = |code, pressed| set1(&set2(code, pressed).unwrap());
        assert_eq!(set1_of("Escape", true), [0x01]);
        assert_eq!(set1_of("KeyA", false), [0x9e]);
        assert_eq!(set1_of("F7", true), [0x41]);
        assert_eq!(set1_of("Delete", false), [0xe0, 0xd3]);
        assert_eq!(set1_of("PrintScreen", true), [0xe0, 0x2a, 0xe0, 0x37]);
        assert_eq!(set1_of("PrintScreen", false), [0xe0, 0xb7, 0xe0, 0xaa]);
        assert_eq!(set1_of("Pause", true), [0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5]);
        assert_eq!(set1_of("Pause", false), []);
    }

    #[test]
    fn every_printable_character_has_a_key() {
        for c in ' '..='~' {
            let (code, _) = keys_for_char(c).unwrap();
            assert!(set2(code, true).is_some(), "{c}");
        }
        assert_eq!(keys_for_char('Q'), Some(("KeyQ", true)));
        assert_eq!(keys_for_char('"'), Some(("Quote", true)));
        assert_eq!(keys_for_char('\n'), Some(("Enter", false)));
        assert_eq!(keys_for_char('é'), None);
    }

    #[test]
    fn keys_of_characters_are_distinct() {
        let keys: BTreeSet<_> = (' '..='~').map(|c| keys_for_char(c).unwrap()).collect();
        assert_eq!(keys.len(), 95);
    }
}
