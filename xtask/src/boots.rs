//! Guest boots as tests: every folder of `guests/` with a `test.toml` is one (`guests/README.md` has the
//! format).
//!
//! A test becomes an `aero run` command line with a script. The guest's serial line comes back on the
//! program's standard output; it is kept, with the screen's last text and the figures, in
//! `<target>/boots/<test>/`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use regex::bytes::Regex;
use serde::Deserialize;

use crate::guests::{self, Guest, source};
use crate::paths;

/// A `test.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    /// What the test proves, in a line.
    about: String,
    /// The guest whose kernel is booted, a folder of the cache. Without one, firmware boots from the images.
    guest: Option<String>,
    /// A ROM in place of SeaBIOS: `GUEST/FILE` in the cache, as the images are.
    firmware: Option<String>,
    /// Disks: images with what `aero run --disk` takes behind the file.
    #[serde(default)]
    disk: Vec<String>,
    /// Discs.
    #[serde(default)]
    cdrom: Vec<String>,
    /// Floppies.
    #[serde(default)]
    floppy: Vec<String>,
    /// As `aero run --boot` takes it.
    boot: Option<String>,
    /// The port by which the guest ends the run.
    debug_exit: Option<u16>,
    /// Words behind the guest's own command line.
    #[serde(default)]
    append: String,
    /// Guest memory in MiB, where it is not the guest's usual one.
    memory: Option<u32>,
    /// As `aero run --cpu` takes it.
    cpu: Option<String>,
    /// As `aero run --clock` takes it.
    #[serde(default = "realtime")]
    clock: String,
    /// Seconds for the whole run.
    timeout: u64,
    /// How the run ends, as `--stats` names it.
    #[serde(default = "powered_off")]
    ends: String,
    /// How many times it runs. All runs must print the same bytes and retire the same number of instructions.
    #[serde(default = "once")]
    runs: usize,
    /// Regular expressions that no serial line may match, besides those of `guests/never.txt`.
    #[serde(default)]
    never: Vec<String>,
    /// Why the test is expected to fail. One that passes nevertheless is an error, so that the mark goes.
    known_failure: Option<String>,
    /// What to wait for and what to type, in order.
    #[serde(default)]
    step: Vec<Step>,
}

fn realtime() -> String {
    "realtime".to_owned()
}

fn powered_off() -> String {
    "powered off".to_owned()
}

fn once() -> usize {
    1
}

/// One thing to do; exactly one of the four is given.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// Wait until the serial line, from where the last expectation ended, matches.
    expect_serial: Option<String>,
    /// Wait until the screen's text matches.
    expect_screen: Option<String>,
    /// Send text to the serial line.
    send: Option<String>,
    /// Type text on the keyboard.
    keys: Option<String>,
    /// Seconds that an expectation may take.
    within: Option<u64>,
}

/// Seconds for an expectation that names none.
const PATIENCE: u64 = 60;
/// MiB of a machine without a kernel guest.
const MEMORY: u32 = 256;
/// How a run ends whose script came to its end.
const DONE: &str = "done";
/// What the program itself may take to start and to report, beyond the test's time.
const GRACE: Duration = Duration::from_secs(30);
/// What a run leaves in its folder: what the guest printed, and the program's figures.
const SERIAL: &str = "serial.txt";
const STATS: &str = "stats.json";
/// Lines of serial text that a failure shows.
const SHOWN_LINES: usize = 30;

impl Test {
    /// The steps as an `aero run` script. A script that comes to its end ends the run, so the last line waits
    /// for the guest to end it, unless that is how the run is to end.
    fn script(&self) -> Result<String> {
        let lines: Result<Vec<String>> = self.step.iter().map(Step::script_line).collect();
        let wait = if self.ends == DONE { String::new() } else { format!("wait {}\n", self.timeout) };
        Ok(format!("{}\n{wait}", lines?.join("\n")))
    }

    /// Options and the images that they take.
    fn images(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let each = [("--disk", &self.disk), ("--cdrom", &self.cdrom), ("--floppy", &self.floppy)];
        let drives =
            each.into_iter().flat_map(|(option, images)| images.iter().map(move |image| (option, &**image)));
        drives.chain(self.firmware.iter().map(|rom| ("--firmware", &**rom)))
    }

    /// The guests that it needs, each once.
    fn guests(&self) -> Vec<&str> {
        let of_images = self.images().filter_map(|(_, image)| Some(image.split_once('/')?.0));
        let guests: BTreeSet<_> = self.guest.iter().map(String::as_str).chain(of_images).collect();
        guests.into_iter().collect()
    }

    /// What boots, and the memory, as arguments.
    fn machine(&self) -> Result<Vec<OsString>> {
        let guests = paths::guests()?;
        let mut arguments: Vec<OsString> = Vec::new();
        for (option, image) in self.images() {
            // An empty drive has the word for it in place of a file.
            let file = if image.contains('/') { guests.join(image).into() } else { image.into() };
            arguments.extend([option.into(), file]);
        }
        let mut memory = MEMORY;
        if let Some(guest) = self.guest.as_deref().map(Guest::load).transpose()? {
            let append = format!("{} {}", guest.append, self.append);
            arguments.extend(["--kernel".into(), guest.kernel_path()?.into()]);
            arguments.extend(["--initrd".into(), guest.initrd_path()?.into()]);
            arguments.extend(["--append".into(), append.trim_end().into()]);
            memory = guest.memory;
        }
        arguments.extend(["--memory".into(), format!("{}M", self.memory.unwrap_or(memory)).into()]);
        arguments.extend(self.boot.iter().flat_map(|boot| ["--boot".into(), boot.into()]));
        arguments
            .extend(self.debug_exit.iter().flat_map(|port| ["--debug-exit".into(), port.to_string().into()]));
        Ok(arguments)
    }
}

impl Step {
    /// The step as a line of an `aero run` script.
    fn script_line(&self) -> Result<String> {
        let within = self.within.unwrap_or(PATIENCE);
        let all = [
            self.expect_serial.as_ref().map(|text| format!("expect serial {} {within}", quoted(text))),
            self.expect_screen.as_ref().map(|text| format!("expect screen {} {within}", quoted(text))),
            self.send.as_ref().map(|text| format!("send {}", quoted(text))),
            self.keys.as_ref().map(|text| format!("type {}", quoted(text))),
        ];
        let mut lines = all.into_iter().flatten();
        match (lines.next(), lines.next()) {
            (Some(line), None) => Ok(line),
            _ => bail!("a step is exactly one of expect_serial, expect_screen, send and keys: {self:?}"),
        }
    }
}

fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

/// Runs the boot tests whose name contains `filter`, and says how many passed.
///
/// # Errors
/// When Aero is not built, a test file is wrong, a guest cannot be built, or a test fails.
pub fn run(filter: Option<&str>) -> Result<usize> {
    let program = aero_binary()?;
    let never = never_patterns()?;
    let mut passed = 0;
    let mut failed = Vec::new();
    for (name, test) in tests(filter)? {
        let begun = Instant::now();
        let outcome = judge(&test, boot(&program, &name, &test, &never));
        let seconds = begun.elapsed().as_secs_f32();
        match outcome {
            Ok(note) => {
                println!("boot {name}: ok in {seconds:.0} s{note} ({})", test.about);
                passed += 1;
            }
            Err(error) => {
                println!("boot {name}: FAILED after {seconds:.0} s: {error:#}");
                failed.push(name);
            }
        }
    }
    ensure!(failed.is_empty(), "boot tests failed: {}", failed.join(", "));
    Ok(passed)
}

/// What the guest of a boot test printed. It is booted unless that was done with this program and this guest.
///
/// # Errors
/// As [`run`].
pub fn recording(name: &str) -> Result<PathBuf> {
    let Some((_, test)) = tests(Some(name))?.into_iter().find(|(found, _)| found == name) else {
        bail!("no boot test is called {name}");
    };
    let Some(guest) = &test.guest else { bail!("{name} boots no kernel") };
    guests::ensure_named(&test.guests())?;
    let folder = paths::target()?.join("boots").join(name).join("1");
    let written = |path: &Path| fs::metadata(path).and_then(|facts| facts.modified()).ok();
    let guest = Guest::load(guest)?;
    let inputs = [aero_binary()?, guest.kernel_path()?, guest.initrd_path()?];
    // The figures are the last that a run writes.
    let done = written(&folder.join(STATS));
    if inputs.iter().any(|input| written(input) >= done) {
        run(Some(name))?;
    }
    Ok(folder.join(SERIAL))
}

/// The `aero` program: `$AERO_BIN`, or the newest of the release and the test build.
///
/// # Errors
/// When there is none.
pub fn aero_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("AERO_BIN") {
        return Ok(path.into());
    }
    let target = paths::target()?;
    let built = ["release", "debug"].map(|profile| target.join(profile).join("aero"));
    let dated = built.into_iter().filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)));
    let newest = dated.max().map(|(_, path)| path);
    newest.with_context(|| {
        format!("no `aero` in {}: run `cargo build --release --package aero-cli`", target.display())
    })
}

fn tests(filter: Option<&str>) -> Result<Vec<(String, Test)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(source("guests")).context("guests")? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = path.join("test.toml");
        if !file.exists() || filter.is_some_and(|filter| !name.contains(filter)) {
            continue;
        }
        let test = toml::from_str(&fs::read_to_string(&file)?).with_context(|| file.display().to_string())?;
        found.push((name, test));
    }
    found.sort_by(|left, right| left.0.cmp(&right.0));
    Ok(found)
}

/// The expressions that hold for every guest: one a line, `#` begins a comment.
fn never_patterns() -> Result<Vec<Regex>> {
    let text = fs::read_to_string(source("guests/never.txt")).context("guests/never.txt")?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| Regex::new(line).context("guests/never.txt")).collect()
}

/// Turns a known failure round.
fn judge(test: &Test, outcome: Result<String>) -> Result<String> {
    match (&test.known_failure, outcome) {
        (None, outcome) => outcome,
        (Some(why), Err(_)) => Ok(format!(", as a known failure: {why}")),
        (Some(why), Ok(_)) => bail!("it passes now; take out known_failure = {why:?}"),
    }
}

/// What is compared between runs.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    serial: Vec<u8>,
    instructions: u64,
}

fn boot(program: &Path, name: &str, test: &Test, never: &[Regex]) -> Result<String> {
    ensure!(test.runs > 0, "runs must be at least 1");
    guests::ensure_named(&test.guests())?;
    let machine = test.machine()?;
    // Only runs that must not depend on the host's speed are repeated, so they may disturb each other.
    let outcomes: Result<Vec<Outcome>> = thread::scope(|scope| {
        let start = |number| {
            let folder = paths::target().map(|target| target.join("boots").join(name).join(number));
            let machine = &machine;
            scope.spawn(move || boot_once(program, &folder?, machine, test, never))
        };
        let numbers = (1..=test.runs).map(|number| number.to_string());
        let runs: Vec<_> = numbers.map(start).collect();
        runs.into_iter().map(|run| run.join().expect("a boot does not panic")).collect()
    });
    let outcomes = outcomes?;
    for other in &outcomes[1..] {
        compare(&outcomes[0], other)?;
    }
    Ok(format!(", {:.2} G instructions", outcomes[0].instructions as f64 / 1e9))
}

fn boot_once(
    program: &Path,
    folder: &Path,
    machine: &[OsString],
    test: &Test,
    never: &[Regex],
) -> Result<Outcome> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let (script, stats, serial) = (folder.join("script"), folder.join(STATS), folder.join(SERIAL));
    fs::remove_file(&stats).ok();
    fs::write(&script, test.script()?)?;
    let mut command = Command::new(program);
    command.arg("run").args(machine);
    command.args(test.cpu.iter().flat_map(|model| ["--cpu", model]));
    command.args(["--clock", &test.clock, "--serial", "stdio", "--display", "none"]);
    command
        .args(["--timeout", &test.timeout.to_string()])
        .arg("--script")
        .arg(&script)
        .arg("--stats")
        .arg(&stats);
    command
        .stdin(Stdio::null())
        .stdout(File::create(&serial)?)
        .stderr(File::create(folder.join("messages.txt"))?);
    let ended = wait(&mut command, Duration::from_secs(test.timeout) + GRACE);
    let serial = fs::read(&serial)?;
    let judged = ended.and_then(|()| {
        let figures = Figures::read(&stats)?;
        ensure!(
            figures.ended == test.ends,
            "the run ended with {:?} instead of {:?}",
            figures.ended,
            test.ends
        );
        check_never(&serial, never, &test.never)?;
        Ok(figures.instructions)
    });
    let instructions = judged.with_context(|| report(&serial, folder))?;
    Ok(Outcome { serial, instructions })
}

/// Runs the program for at most `limit`. Its exit status is not looked at: the figures say how the run ended.
fn wait(command: &mut Command, limit: Duration) -> Result<()> {
    let mut child = command.spawn().with_context(|| command.get_program().to_string_lossy().into_owned())?;
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    child.kill().ok();
    child.wait()?;
    bail!("the program did not end by itself within {} s", limit.as_secs())
}

fn check_never(serial: &[u8], common: &[Regex], own: &[String]) -> Result<()> {
    let own: Result<Vec<Regex>, _> = own.iter().map(|pattern| Regex::new(pattern)).collect();
    let own = own?;
    for line in serial.split(|&byte| byte == b'\n') {
        if let Some(pattern) = common.iter().chain(&own).find(|pattern| pattern.is_match(line)) {
            bail!("serial line {:?} matches {pattern}", String::from_utf8_lossy(line).trim_end());
        }
    }
    Ok(())
}

fn compare(first: &Outcome, other: &Outcome) -> Result<()> {
    let differing = first.serial.iter().zip(&other.serial).position(|(a, b)| a != b);
    let at = differing.unwrap_or_else(|| first.serial.len().min(other.serial.len()));
    if first.serial != other.serial {
        let around = |serial: &[u8]| {
            let (from, to) = (at.saturating_sub(60), serial.len().min(at + 20));
            String::from_utf8_lossy(&serial[from..to]).into_owned()
        };
        let (one, two) = (around(&first.serial), around(&other.serial));
        bail!("two runs print different bytes from byte {at} on: {one:?} and {two:?}");
    }
    let (one, two) = (first.instructions, other.instructions);
    ensure!(one == two, "two runs print the same but retire {one} and {two} instructions");
    Ok(())
}

/// What is read from the file that `--stats` writes.
#[derive(Debug, Deserialize)]
struct Figures {
    /// How the run ended.
    ended: String,
    /// Guest instructions retired.
    instructions: u64,
}

impl Figures {
    fn read(stats: &Path) -> Result<Figures> {
        let text = fs::read_to_string(stats).context("the program wrote no figures")?;
        serde_json::from_str(&text).with_context(|| stats.display().to_string())
    }
}

fn report(serial: &[u8], folder: &Path) -> String {
    let text = String::from_utf8_lossy(serial);
    let lines: Vec<&str> = text.lines().collect();
    let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n    ");
    let messages = fs::read_to_string(folder.join("messages.txt")).unwrap_or_default();
    format!("serial text ends\n    {shown}\n{}\n(all of it in {})", messages.trim_end(), folder.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn every_test_file_of_the_repository_makes_a_script() {
        let tests = tests(None).unwrap();
        assert!(tests.len() >= 4, "guests/ lost its tests");
        for (name, test) in tests {
            assert!(!test.script().expect(&name).trim().is_empty(), "{name}");
        }
        assert!(!never_patterns().unwrap().is_empty());
    }

    #[test]
    fn expressions_of_the_test_files_are_valid() {
        for (name, test) in tests(None).unwrap() {
            let steps = test.step.iter().flat_map(|step| [&step.expect_serial, &step.expect_screen]);
            for pattern in steps.flatten().chain(&test.never) {
                Regex::new(pattern).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
    }

    #[test]
    fn images_are_files_of_the_cache_and_name_their_guests() {
        let text = "about = 'x'\ntimeout = 1\ncdrom = ['a/b.iso,bus=ahci', 'none', 'a/b.iso']\nfirmware = 'c/d'\nends = 'done'";
        let test: Test = toml::from_str(text).unwrap();
        assert_eq!(test.guests(), ["a", "c"]);
        let machine = test.machine().unwrap().join(OsStr::new(" ")).into_string().unwrap();
        assert!(machine.contains("a/b.iso,bus=ahci --cdrom none --cdrom "), "{machine}");
        assert!(machine.ends_with(" --memory 256M"), "{machine}");
        assert!(!test.script().unwrap().contains("wait"));
    }

    #[test]
    fn step_with_two_actions_is_refused() {
        let step = Step { send: Some("a".to_owned()), keys: Some("b".to_owned()), ..Step::default() };
        assert!(step.script_line().is_err());
    }

    #[test]
    fn text_is_quoted_for_the_script() {
        let step = Step { send: Some("echo \"a\\b\"\n".to_owned()), ..Step::default() };
        assert_eq!(step.script_line().unwrap(), r#"send "echo \"a\\b\"\n""#);
    }

    #[test]
    fn forbidden_line_is_named() {
        let common = [Regex::new("BUG:").unwrap()];
        let error = check_never(b"fine\r\n[    1.0] BUG: bad page\r\n", &common, &[]).unwrap_err();
        assert!(error.to_string().contains("BUG: bad page"));
        assert!(check_never(b"fine\r\n", &common, &["fin$".to_owned()]).is_ok());
    }

    #[test]
    fn runs_that_differ_are_told_apart() {
        let outcome = |text: &str, instructions| Outcome { serial: text.as_bytes().to_vec(), instructions };
        assert!(compare(&outcome("ab", 1), &outcome("ab", 1)).is_ok());
        assert!(compare(&outcome("ab", 1), &outcome("ax", 1)).unwrap_err().to_string().contains("byte 1"));
        assert!(compare(&outcome("ab", 1), &outcome("abc", 1)).unwrap_err().to_string().contains("byte 2"));
        assert!(compare(&outcome("ab", 1), &outcome("ab", 2)).unwrap_err().to_string().contains("retire"));
    }

    #[test]
    fn known_failure_must_go_once_it_passes() {
        let text = "about = 'x'\nguest = 'default'\ntimeout = 1\nknown_failure = 'why'";
        let test: Test = toml::from_str(text).unwrap();
        assert!(judge(&test, Ok(String::new())).is_err());
        assert!(judge(&test, Err(anyhow::anyhow!("it fails"))).is_ok());
    }
}
