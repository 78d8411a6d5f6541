//! The same guest under the same counting clock prints the same bytes in the terminal and in the browser.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::boots;
use crate::paths;

/// The boot test whose first part, up to the prompt, the browser repeats.
const TEST: &str = "icount";
/// Its clock, as the page takes it.
pub const CLOCK: &str = "icount=100";

/// Where the browser's test leaves what its guest printed. The file of an earlier run is removed.
///
/// # Errors
/// When the file system refuses.
pub fn recording() -> Result<PathBuf> {
    let folder = paths::target()?.join("parity");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let file = folder.join("browser.txt");
    if file.exists() {
        fs::remove_file(&file).with_context(|| file.display().to_string())?;
    }
    Ok(file)
}

/// Compares with what the boot test prints in the terminal.
///
/// # Errors
/// When the browser left no recording, the boot test fails, or the bytes differ.
pub fn check(recording: &Path) -> Result<()> {
    let browser = fs::read(recording).with_context(|| recording.display().to_string())?;
    let output = boots::recording(TEST)?;
    let terminal = fs::read(&output).with_context(|| output.display().to_string())?;
    if let Some(place) = difference(&browser, &terminal) {
        bail!(
            "browser and terminal print different bytes from line {place} on: compare {} and {}",
            recording.display(),
            output.display()
        );
    }
    println!("parity: {} bytes are the same in the browser and in the terminal", browser.len());
    Ok(())
}

/// The first line that differs, counted from 1. The terminal's run may go on where the browser's recording ends.
fn difference(browser: &[u8], terminal: &[u8]) -> Option<usize> {
    if browser.is_empty() {
        return Some(1);
    }
    let same = browser.iter().zip(terminal).take_while(|(one, other)| one == other).count();
    let line = 1 + browser[..same].iter().filter(|&&byte| byte == b'\n').count();
    (same < browser.len()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_run_in_the_terminal_is_the_same() {
        assert_eq!(difference(b"a\nb\n# ", b"a\nb\n# more"), None);
    }

    #[test]
    fn difference_is_placed_in_its_line() {
        assert_eq!(difference(b"a\nb\n# ", b"a\nc\n# "), Some(2));
        assert_eq!(difference(b"a\nb\n# ", b"a\nb\n"), Some(3));
        assert_eq!(difference(b"", b"a"), Some(1));
    }
}
