//! Scripts: a line a step. The player only says what to do; the runner does it.

use crate::expect::SerialLog;
use crate::options;
use regex::Regex;
use regex::bytes::Regex as ByteRegex;
use std::path::PathBuf;
use std::time::Duration;

/// How long `expect` waits unless told.
const EXPECT_WITHIN: Duration = Duration::from_secs(30);

/// One line of a script.
#[derive(Clone, Debug)]
enum Step {
    Expect { what: Pattern, within: Duration },
    Wait(Duration),
    Do(Action),
    Quit,
}

#[derive(Clone, Debug)]
enum Pattern {
    Serial(ByteRegex),
    Screen(Regex),
}

/// Something for the machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Press the keys of this text.
    Type(String),
    /// Send these bytes to the serial port.
    Send(Vec<u8>),
    /// Press these keys one after the other, then release them; `KeyboardEvent.code` names.
    Keys(Vec<String>),
    /// Save the screen.
    Screenshot(PathBuf),
    /// Press the power button.
    PowerButton,
    /// Put this image into the first disc drive, or take out what is there.
    ChangeDisc(Option<PathBuf>),
}

/// A parsed script.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Line numbers and steps.
    steps: Vec<(usize, Step)>,
}

/// Parses a script.
///
/// # Errors
/// `LINE: what is wrong`.
pub fn parse(text: &str) -> Result<Script, String> {
    let mut steps = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let words = words(line).map_err(|e| format!("{number}: {e}"))?;
        if !words.is_empty() {
            steps.push((number, step(&words).map_err(|e| format!("{number}: {e}"))?));
        }
    }
    Ok(Script { steps })
}

/// The words of a line; a quoted word may have blanks and escapes.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_word(quoted)?,
            None => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        words.push(word);
        rest = after.trim_start();
    }
    Ok(words)
}

/// The word up to the closing quote, and what follows it. A backslash before any other character stays, so
/// that patterns need no second one.
fn quoted_word(quoted: &str) -> Result<(String, &str), String> {
    let mut word = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((word, &quoted[at + 1..])),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => word.push('\n'),
                Some('r') => word.push('\r'),
                Some('t') => word.push('\t'),
                Some('e') => word.push('\x1b'),
                Some(c @ ('"' | '\\')) => word.push(c),
                Some('x') => {
                    let hex: String = chars.by_ref().take(2).map(|(_, c)| c).collect();
                    let code = u8::from_str_radix(&hex, 16).ok().filter(u8::is_ascii);
                    word.push(code.ok_or("expected two hexadecimal digits up to 7f after \\x")?.into());
                }
                Some(other) => word.extend(['\\', other]),
                None => break,
            },
            c => word.push(c),
        }
    }
    Err("a closing \" is missing".to_owned())
}

fn step(words: &[String]) -> Result<Step, String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Ok(match words[..] {
        ["expect", kind, pattern] => expect(kind, pattern, EXPECT_WITHIN)?,
        ["expect", kind, pattern, within] => expect(kind, pattern, options::seconds(within)?)?,
        ["wait", time] => Step::Wait(options::seconds(time)?),
        ["type", text] => Step::Do(Action::Type(text.to_owned())),
        ["send", text] => Step::Do(Action::Send(text.as_bytes().to_vec())),
        ["key", keys] => Step::Do(Action::Keys(keys.split('+').map(key).collect::<Result<_, _>>()?)),
        ["screenshot", file] => Step::Do(Action::Screenshot(file.into())),
        ["power", "button"] => Step::Do(Action::PowerButton),
        ["quit"] => Step::Quit,
        ["eject", "cdrom"] => Step::Do(Action::ChangeDisc(None)),
        ["insert", "cdrom", file] => Step::Do(Action::ChangeDisc(Some(file.into()))),
        ["move" | "click" | "save", ..] => {
            return Err(format!("`{}` is not there yet in this version", words[0]));
        }
        _ => return Err(format!("`{}` is not a step; `aero run --help` lists them", words.join(" "))),
    })
}

fn expect(kind: &str, pattern: &str, within: Duration) -> Result<Step, String> {
    let bad = |e: regex::Error| format!("bad pattern: {}", e.to_string().replace('\n', " "));
    let what = match kind {
        "serial" => Pattern::Serial(ByteRegex::new(pattern).map_err(bad)?),
        "screen" => Pattern::Screen(Regex::new(pattern).map_err(bad)?),
        _ => return Err(format!("expected `serial` or `screen` after `expect`, not `{kind}`")),
    };
    Ok(Step::Expect { what, within })
}

/// Short names of keys and their `KeyboardEvent.code`.
const KEYS: [(&str, &str); 33] = [
    ("ctrl", "ControlLeft"),
    ("control", "ControlLeft"),
    ("alt", "AltLeft"),
    ("altgr", "AltRight"),
    ("shift", "ShiftLeft"),
    ("meta", "MetaLeft"),
    ("win", "MetaLeft"),
    ("enter", "Enter"),
    ("return", "Enter"),
    ("esc", "Escape"),
    ("escape", "Escape"),
    ("tab", "Tab"),
    ("space", "Space"),
    ("backspace", "Backspace"),
    ("del", "Delete"),
    ("delete", "Delete"),
    ("ins", "Insert"),
    ("insert", "Insert"),
    ("home", "Home"),
    ("end", "End"),
    ("pgup", "PageUp"),
    ("pgdn", "PageDown"),
    ("up", "ArrowUp"),
    ("down", "ArrowDown"),
    ("left", "ArrowLeft"),
    ("right", "ArrowRight"),
    ("capslock", "CapsLock"),
    ("sysrq", "PrintScreen"),
    ("print", "PrintScreen"),
    ("pause", "Pause"),
    ("minus", "Minus"),
    ("slash", "Slash"),
    ("period", "Period"),
];

/// The `KeyboardEvent.code` of a key: a short name, a letter, a digit, f1 to f24, or the code itself.
fn key(name: &str) -> Result<String, String> {
    let lower = name.to_ascii_lowercase();
    if let Some((_, code)) = KEYS.iter().find(|(short, _)| *short == lower) {
        return Ok((*code).to_owned());
    }
    let number = lower.strip_prefix('f').and_then(|n| n.parse::<u8>().ok());
    Ok(match lower.as_bytes() {
        [letter @ b'a'..=b'z'] => format!("Key{}", letter.to_ascii_uppercase() as char),
        [digit @ b'0'..=b'9'] => format!("Digit{}", *digit as char),
        _ if number.is_some_and(|n| (1..=24).contains(&n)) => lower.to_ascii_uppercase(),
        _ if name.starts_with(|c: char| c.is_ascii_uppercase()) => name.to_owned(),
        _ => return Err(format!("`{name}` is not a key")),
    })
}

/// What a script wants next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Nothing before this time, unless what it waits for comes.
    Waiting(Duration),
    /// This, and then ask again.
    Do(Action),
    /// The end of the run.
    Quit,
    /// The end of the run: something did not come.
    Failed(String),
    /// Nothing any more.
    Finished,
}

/// A script under way. Times are those of the run's clock.
pub struct Player {
    script: Script,
    next: usize,
    /// When the present step began.
    began: Option<Duration>,
    /// Where in the serial output the last match ended.
    position: u64,
}

impl Player {
    /// A script at its first line.
    pub fn new(script: Script) -> Self {
        Self { script, next: 0, began: None, position: 0 }
    }

    /// Looks at what is there at time `now`, and says what to do.
    pub fn poll(&mut self, now: Duration, serial: &SerialLog, screen: &str) -> Progress {
        loop {
            let Some((line, step)) = self.script.steps.get(self.next) else { return Progress::Finished };
            let began = *self.began.get_or_insert(now);
            match step {
                Step::Expect { what, within } => match found(what, serial, self.position, screen) {
                    Some(position) => self.position = position,
                    None if now < began.saturating_add(*within) => {
                        return Progress::Waiting(began.saturating_add(*within));
                    }
                    None => {
                        return Progress::Failed(format!(
                            "script line {line}: {what} did not come within {} s",
                            within.as_secs_f64()
                        ));
                    }
                },
                Step::Wait(time) if now < began.saturating_add(*time) => {
                    return Progress::Waiting(began.saturating_add(*time));
                }
                Step::Wait(_) => {}
                Step::Do(action) => {
                    let action = action.clone();
                    self.advance();
                    return Progress::Do(action);
                }
                Step::Quit => return Progress::Quit,
            }
            self.advance();
        }
    }

    fn advance(&mut self) {
        self.next += 1;
        self.began = None;
    }

    /// Whether the script expects anything, at any line.
    pub fn expects(&self) -> bool {
        self.script.steps.iter().any(|(_, step)| matches!(step, Step::Expect { .. }))
    }

    /// Whether a line that is still to come looks at the screen.
    pub fn looks_at_screen(&self) -> bool {
        let rest = self.script.steps.get(self.next..).unwrap_or_default();
        rest.iter().any(|(_, step)| matches!(step, Step::Expect { what: Pattern::Screen(_), .. }))
    }

    /// The first expectation that the script has not come past.
    pub fn missing(&self) -> Option<String> {
        let rest = self.script.steps.get(self.next..).unwrap_or_default();
        rest.iter().find_map(|(line, step)| match step {
            Step::Expect { what, .. } => Some(format!("script line {line}: {what} did not come")),
            _ => None,
        })
    }
}

/// Where the match ends in the serial output; for the screen, where the output was looked at before.
fn found(what: &Pattern, serial: &SerialLog, from: u64, screen: &str) -> Option<u64> {
    match what {
        Pattern::Serial(pattern) => serial.find(pattern, from),
        Pattern::Screen(pattern) => pattern.is_match(screen).then_some(from),
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Serial(pattern) => write!(f, "serial '{pattern}'"),
            Self::Screen(pattern) => write!(f, "screen '{pattern}'"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn player(text: &str) -> Player {
        Player::new(parse(text).expect("a good script"))
    }

    fn log(bytes: &[u8]) -> SerialLog {
        let mut log = SerialLog::default();
        log.push(bytes);
        log
    }

    #[test]
    fn words_are_split_and_unescaped() {
        assert_eq!(
            words("type \"a b\\n\\x1b\\d\" 5 # note"),
            Ok(vec!["type".into(), "a b\n\x1b\\d".into(), "5".into()])
        );
        assert_eq!(words("  # only a comment"), Ok(vec![]));
        assert!(words("type \"open").is_err() && words("type \"\\xzz\"").is_err());
    }

    #[test]
    fn errors_name_their_line() {
        for (text, part) in [
            ("quit\n\njump", "3: `jump`"),
            ("expect serial \"(\"", "1: bad pattern"),
            ("expect smell \"x\"", "`smell`"),
            ("wait soon", "number of seconds"),
            ("key ctrl+what", "`what`"),
            ("move 1 2", "not there yet"),
        ] {
            let error = parse(text).expect_err("a bad script");
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn key_names_become_codes() {
        let names = ["ctrl", "alt", "del", "a", "7", "F12", "NumpadEnter"].map(|name| key(name).ok());
        let codes = ["ControlLeft", "AltLeft", "Delete", "KeyA", "Digit7", "F12", "NumpadEnter"];
        assert_eq!(names, codes.map(|code| Some(code.to_owned())));
        assert!(key("f25").is_err());
    }

    #[test]
    fn steps_happen_in_order_and_serial_matches_follow_each_other() {
        let mut p = player("expect serial \"# \" 5\nsend \"ls\\n\"\nexpect serial \"# \"\nquit");
        assert_eq!(p.poll(SECOND, &log(b"boot"), ""), Progress::Waiting(6 * SECOND));
        assert_eq!(p.poll(SECOND, &log(b"boot# "), ""), Progress::Do(Action::Send(b"ls\n".to_vec())));
        assert_eq!(p.poll(2 * SECOND, &log(b"boot# "), ""), Progress::Waiting(32 * SECOND));
        assert_eq!(p.poll(3 * SECOND, &log(b"boot# ls\n# "), ""), Progress::Quit);
        assert!(p.expects() && p.missing().is_none());
    }

    #[test]
    fn late_expectation_fails_with_its_line() {
        let mut p = player("# start\nexpect screen \"GRUB\" 2");
        assert!(p.looks_at_screen());
        assert_eq!(p.poll(SECOND, &log(b""), "nothing"), Progress::Waiting(3 * SECOND));
        let failed = p.poll(3 * SECOND, &log(b""), "nothing");
        assert_eq!(failed, Progress::Failed("script line 2: screen 'GRUB' did not come within 2 s".into()));
        assert!(p.missing().is_some());
    }

    #[test]
    fn wait_counts_from_when_it_began() {
        let mut p = player("wait 2\nkey ctrl+c\npower button");
        assert_eq!(p.poll(5 * SECOND, &log(b""), ""), Progress::Waiting(7 * SECOND));
        let keys = vec!["ControlLeft".to_owned(), "KeyC".to_owned()];
        assert_eq!(p.poll(7 * SECOND, &log(b""), ""), Progress::Do(Action::Keys(keys)));
        assert_eq!(p.poll(7 * SECOND, &log(b""), ""), Progress::Do(Action::PowerButton));
        assert_eq!(p.poll(7 * SECOND, &log(b""), ""), Progress::Finished);
    }
}
