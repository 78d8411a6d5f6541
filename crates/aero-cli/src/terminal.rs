//! The terminal in raw mode, and the escape key.

use crossterm::terminal;

/// Raw mode while it lives.
pub struct RawMode;

impl RawMode {
    /// Every key goes to the guest from now on.
    ///
    /// # Errors
    /// When the terminal refuses.
    pub fn enter() -> std::io::Result<Self> {
        terminal::enable_raw_mode()?;
        Ok(Self)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    // Nothing is left to be done about a terminal that has gone away.
    let _ = terminal::disable_raw_mode();
}

/// Leaves raw mode before a panic is reported: release builds abort without dropping anything.
pub fn restore_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if terminal::is_raw_mode_enabled().unwrap_or(false) {
            restore();
        }
        report(info);
    }));
}

/// Finds the escape key in what is typed: Ctrl-A x quits, Ctrl-A Ctrl-A (or Ctrl-A a) is Ctrl-A.
#[derive(Default)]
pub struct EscapeKey {
    pressed: bool,
}

impl EscapeKey {
    /// The bytes for the guest, and whether the user quits.
    pub fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        const CTRL_A: u8 = 1;
        let mut through = Vec::with_capacity(typed.len());
        for &byte in typed {
            match (std::mem::take(&mut self.pressed), byte) {
                (false, CTRL_A) => self.pressed = true,
                (false, byte) => through.push(byte),
                (true, b'x' | b'X') => return (through, true),
                (true, b'a' | CTRL_A) => through.push(CTRL_A),
                (true, _) => {}
            }
        }
        (through, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_key_quits_even_across_reads() {
        let mut key = EscapeKey::default();
        assert_eq!(key.filter(b"ls\x01"), (b"ls".to_vec(), false));
        assert_eq!(key.filter(b"xrest"), (vec![], true));
    }

    #[test]
    fn doubled_escape_key_is_itself_and_others_are_dropped() {
        let mut key = EscapeKey::default();
        assert_eq!(key.filter(b"\x01\x01x\x01a\x01qy"), (b"\x01x\x01y".to_vec(), false));
    }
}
