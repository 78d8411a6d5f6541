//! What the guest has said, and what it is expected to say.

use regex::Regex;
use regex::bytes::Regex as ByteRegex;

/// How much of the serial output is kept for matching and for reports.
const KEPT: usize = 256 << 10;

/// The serial output so far. Positions count from the first byte of the run; the oldest bytes are forgotten.
#[derive(Default)]
pub struct SerialLog {
    kept: Vec<u8>,
    forgotten: u64,
}

impl SerialLog {
    /// Adds what came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        if self.kept.len() > 2 * KEPT {
            let excess = self.kept.len() - KEPT;
            self.kept.drain(..excess);
            self.forgotten += excess as u64;
        }
    }

    /// The position behind the first match that starts at `from` or later.
    pub fn find(&self, pattern: &ByteRegex, from: u64) -> Option<u64> {
        let from = usize::try_from(from.saturating_sub(self.forgotten)).ok()?;
        let found = pattern.find_at(&self.kept, from.min(self.kept.len()))?;
        Some(self.forgotten + found.end() as u64)
    }

    /// The last `count` lines, as text.
    pub fn last_lines(&self, count: usize) -> String {
        let text = String::from_utf8_lossy(&self.kept);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

/// One `--expect-…` that is not met yet.
enum Expectation {
    Serial(ByteRegex),
    Screen(Regex),
}

/// The `--expect-…` options.
pub struct Expectations {
    open: Vec<Expectation>,
    any: bool,
}

impl Expectations {
    /// Expects all of these.
    ///
    /// # Errors
    /// When a pattern cannot be applied to bytes.
    pub fn new(serial: &[Regex], screen: &[Regex]) -> anyhow::Result<Self> {
        let mut open = Vec::new();
        for pattern in serial {
            open.push(Expectation::Serial(over_bytes(pattern)?));
        }
        open.extend(screen.iter().cloned().map(Expectation::Screen));
        Ok(Self { any: !open.is_empty(), open })
    }

    /// Strikes off what is met by now.
    pub fn look(&mut self, serial: &SerialLog, screen: &str) {
        self.open.retain(|expectation| match expectation {
            Expectation::Serial(pattern) => serial.find(pattern, 0).is_none(),
            Expectation::Screen(pattern) => !pattern.is_match(screen),
        });
    }

    /// Whether something on the screen is missing.
    pub fn looks_at_screen(&self) -> bool {
        self.open.iter().any(|expectation| matches!(expectation, Expectation::Screen(_)))
    }

    /// Whether something was expected at all.
    pub fn any(&self) -> bool {
        self.any
    }

    /// Whether nothing is missing.
    pub fn met(&self) -> bool {
        self.open.is_empty()
    }

    /// A line for each that is missing.
    pub fn missing(&self) -> Vec<String> {
        let line = |expectation: &Expectation| match expectation {
            Expectation::Serial(pattern) => format!("--expect-serial '{pattern}' did not come"),
            Expectation::Screen(pattern) => format!("--expect-screen '{pattern}' did not come"),
        };
        self.open.iter().map(line).collect()
    }
}

/// The same pattern for bytes: serial output need not be UTF-8.
pub fn over_bytes(pattern: &Regex) -> anyhow::Result<ByteRegex> {
    Ok(ByteRegex::new(pattern.as_str())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(pattern: &str) -> ByteRegex {
        ByteRegex::new(pattern).expect("a pattern")
    }

    #[test]
    fn match_across_two_pushes_is_found_once() {
        let mut log = SerialLog::default();
        log.push(b"\xfflog");
        assert_eq!(log.find(&bytes("login:"), 0), None);
        log.push(b"in: ");
        assert_eq!(log.find(&bytes("login:"), 0), Some(7));
        assert_eq!(log.find(&bytes("login:"), 7), None);
    }

    #[test]
    fn old_output_is_forgotten_but_positions_stay() {
        let mut log = SerialLog::default();
        log.push(&vec![b'x'; 2 * KEPT]);
        log.push(b"end\n");
        assert!(log.kept.len() <= 2 * KEPT);
        assert_eq!(log.find(&bytes("end"), 2 * KEPT as u64 - 5), Some(2 * KEPT as u64 + 3));
        assert_eq!(log.find(&bytes("x"), 0), Some(KEPT as u64 + 5));
    }

    #[test]
    fn last_lines_are_the_last() {
        let mut log = SerialLog::default();
        log.push(b"a\r\nb\r\nc");
        assert_eq!((log.last_lines(2).as_str(), log.last_lines(9).as_str()), ("b\nc", "a\nb\nc"));
    }

    #[test]
    fn expectations_are_struck_off_in_any_order() {
        let pattern = |text: &str| vec![Regex::new(text).expect("a pattern")];
        let mut all = Expectations::new(&pattern("ready"), &pattern("^Booted")).expect("good patterns");
        let mut log = SerialLog::default();
        log.push(b"ready\n");
        all.look(&log, "nothing");
        assert_eq!(all.missing(), ["--expect-screen '^Booted' did not come"]);
        all.look(&SerialLog::default(), "Booted");
        assert!(all.met() && all.any());
        assert!(!Expectations::new(&[], &[]).expect("nothing").any());
    }
}
