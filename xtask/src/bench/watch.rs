//! Runs an emulator whose serial line is its standard output, and measures the guest's tests from outside.
//!
//! The guest prints `@begin NAME` and a result line around every round. Both are stamped here with the host's
//! wall clock and with the CPU time that each thread of the emulator has used. The *emulating thread* is the
//! one that used most in between: units of work per second of its CPU time is a rate that neither other work
//! on the host nor the guest's own idea of time can change.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

/// One round of one test.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// The build of the kit: `x64`, `i686` or `p4`.
    pub kit: String,
    /// The test.
    pub test: String,
    /// Name of the rate of one unit of `work` per second.
    pub rate_unit: String,
    /// How much work one repetition is, in the rate's unit.
    pub work: f64,
    /// Repetitions.
    pub units: u64,
    /// Seconds by the guest's clock.
    pub guest_seconds: f64,
    /// Seconds by the host's clock.
    pub wall_seconds: f64,
    /// CPU seconds of the emulating thread.
    pub thread_seconds: f64,
    /// CPU seconds of all watched threads.
    pub process_seconds: f64,
    /// What the test computed, in hexadecimal.
    pub check: String,
}

/// What one boot of the bench guest gave.
#[derive(Debug, Default, Serialize)]
pub struct Measured {
    /// Wall seconds from the start of the program to `/init`.
    pub boot_wall_seconds: Option<f64>,
    /// CPU seconds of the emulating thread to `/init`.
    pub boot_thread_seconds: Option<f64>,
    /// All rounds, in order.
    pub rounds: Vec<Round>,
    /// Whether the guest came to its end.
    pub done: bool,
    /// The guest's last lines, for a message when it did not.
    pub tail: Vec<String>,
}

const TAIL_LINES: usize = 20;

/// Runs `command` until the guest says `@done`, its output ends, or `limit` is over.
///
/// # Errors
/// When the program cannot be started.
pub fn watch(command: &mut Command, limit: Duration) -> Result<Measured> {
    let begun = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| command.get_program().to_string_lossy().into_owned())?;
    let lines = lines_of(&mut child)?;
    let mut meter = Meter::new(child.id(), begun);
    // An error is the end of the time or of the output.
    while let Ok(line) = lines.recv_timeout(limit.saturating_sub(begun.elapsed())) {
        meter.line(&line);
        if meter.measured.done {
            break;
        }
    }
    end(&mut child);
    Ok(meter.measured)
}

/// Ends the program and what it started: a browser outlives the script that drives it.
fn end(child: &mut Child) {
    for process in tree(child.id()).into_iter().rev() {
        Command::new("kill").arg("-KILL").arg(process.to_string()).stderr(Stdio::null()).status().ok();
    }
    child.wait().ok();
}

fn lines_of(child: &mut Child) -> Result<mpsc::Receiver<String>> {
    let output = child.stdout.take().context("the program's output is not piped")?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(output);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            bytes.clear();
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

struct Begun {
    test: String,
    at: Instant,
    threads: HashMap<u32, u64>,
}

struct Meter {
    root: u32,
    start: Instant,
    kit: String,
    begun: Option<Begun>,
    measured: Measured,
}

impl Meter {
    fn new(root: u32, start: Instant) -> Meter {
        Meter { root, start, kit: String::new(), begun: None, measured: Measured::default() }
    }

    fn line(&mut self, line: &str) {
        if let Some(test) = after(line, "@begin ") {
            self.begun =
                Some(Begun { test: test.to_owned(), at: Instant::now(), threads: thread_times(self.root) });
        } else if let Some(result) = parse_result(line) {
            self.finish_round(result);
        } else if let Some(kit) = after(line, "@kit ") {
            self.kit = kit.to_owned();
        } else if line.contains("@init ") {
            self.measured.boot_wall_seconds = Some(self.start.elapsed().as_secs_f64());
            let (busiest, _) = used(&HashMap::new(), &thread_times(self.root));
            self.measured.boot_thread_seconds = Some(busiest);
        }
        self.measured.done |= line.contains("@done");
        self.measured.tail.push(line.to_owned());
        if self.measured.tail.len() > TAIL_LINES {
            self.measured.tail.remove(0);
        }
    }

    fn finish_round(&mut self, result: ResultLine) {
        let Some(begun) = self.begun.take().filter(|begun| begun.test == result.test) else {
            return;
        };
        let wall_seconds = begun.at.elapsed().as_secs_f64();
        let (thread_seconds, process_seconds) = used(&begun.threads, &thread_times(self.root));
        self.measured.rounds.push(Round {
            kit: self.kit.clone(),
            work: result.rate * result.seconds / result.units as f64,
            test: result.test,
            rate_unit: result.rate_unit,
            units: result.units,
            guest_seconds: result.seconds,
            wall_seconds,
            thread_seconds,
            process_seconds,
            check: result.check,
        });
    }
}

fn after<'a>(line: &'a str, mark: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(mark)?;
    rest.split_whitespace().next()
}

struct ResultLine {
    test: String,
    rate: f64,
    rate_unit: String,
    units: u64,
    seconds: f64,
    check: String,
}

/// Takes `NAME: RATE UNIT units=N secs=S check=HEX` apart.
fn parse_result(line: &str) -> Option<ResultLine> {
    let (test, rest) = line.split_once(": ")?;
    let (measured, counts) = rest.split_once(" units=")?;
    let (rate, rate_unit) = measured.split_once(' ')?;
    let (units, rest) = counts.split_once(" secs=")?;
    let (seconds, check) = rest.split_once(" check=")?;
    Some(ResultLine {
        test: test.trim_start().to_owned(),
        rate: rate.parse().ok()?,
        rate_unit: rate_unit.to_owned(),
        units: units.parse().ok().filter(|&units| units > 0)?,
        seconds: seconds.parse().ok()?,
        check: check.to_owned(),
    })
}

/// CPU seconds used between two readings: by the busiest thread, and by all.
fn used(before: &HashMap<u32, u64>, now: &HashMap<u32, u64>) -> (f64, f64) {
    let spent = |(thread, time): (&u32, &u64)| {
        let nanoseconds = time.saturating_sub(before.get(thread).copied().unwrap_or(0));
        Duration::from_nanos(nanoseconds).as_secs_f64()
    };
    let all: Vec<f64> = now.iter().map(spent).collect();
    (all.iter().copied().fold(0.0, f64::max), all.iter().sum())
}

/// Nanoseconds on a CPU of every thread of the program, or of its browser's renderer processes when it has
/// some.
fn thread_times(root: u32) -> HashMap<u32, u64> {
    let processes = tree(root);
    let renderers: Vec<u32> = processes.iter().copied().filter(|&process| is_renderer(process)).collect();
    let watched = if renderers.is_empty() { processes } else { renderers };
    watched.into_iter().flat_map(thread_ids).filter_map(|thread| Some((thread, run_time(thread)?))).collect()
}

fn is_renderer(process: u32) -> bool {
    let arguments = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&arguments).contains("--type=renderer")
}

fn run_time(thread: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{thread}/schedstat")).ok()?;
    text.split(' ').next()?.parse().ok()
}

fn thread_ids(process: u32) -> Vec<u32> {
    numbers_in(&format!("/proc/{process}/task"))
}

/// A process and its descendants, parents first.
fn tree(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        for thread in thread_ids(found[at]) {
            let children = fs::read_to_string(format!("/proc/{}/task/{thread}/children", found[at]));
            let children = children.unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        at += 1;
    }
    found
}

fn numbers_in(folder: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_line_is_taken_apart() {
        let line = "pipe: 16.4 k roundtrips/s units=82 secs=0.6012 check=00000007";
        let result = parse_result(line).unwrap();
        assert_eq!((result.test.as_str(), result.units, result.check.as_str()), ("pipe", 82, "00000007"));
        assert_eq!(result.rate_unit, "k roundtrips/s");
    }

    #[test]
    fn other_lines_are_no_results() {
        for line in ["", "@begin pipe", "Linux: version 6.1", "x: 1 MB/s units=0 secs=1 check=0"] {
            assert!(parse_result(line).is_none(), "{line}");
        }
    }

    #[test]
    fn round_needs_its_own_beginning() {
        let mut meter = Meter::new(std::process::id(), Instant::now());
        meter.line("@kit x64");
        meter.line("@begin fib");
        meter.line("div: 1 Mdiv/s units=1 secs=1.0 check=00000000");
        assert!(meter.measured.rounds.is_empty());
        meter.line("@begin div");
        meter.line("div: 1 Mdiv/s units=1 secs=1.0 check=00000000");
        assert_eq!(meter.measured.rounds[0].kit, "x64");
    }

    #[test]
    fn busiest_thread_counts_apart_from_the_sum() {
        let before = HashMap::from([(1, 1_000_000_000), (2, 5)]);
        let now = HashMap::from([(1, 1_500_000_000), (2, 2_000_000_005)]);
        assert_eq!(used(&before, &now), (2.0, 2.5));
    }

    #[test]
    fn own_process_has_a_thread_with_cpu_time() {
        assert!(thread_times(std::process::id()).values().any(|&time| time > 0));
    }
}
