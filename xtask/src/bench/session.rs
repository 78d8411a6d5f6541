//! An emulator that runs the bench guest, with the guest's serial line on its standard streams.
//!
//! The guest prints `@begin NAME` and a result line around every round, and before it, where turns are given,
//! `@ready NAME`; then it waits for a line. The lines are stamped here with the host's wall clock and with the CPU
//! time that each thread of the emulator has used (`cputime`). A round that was given its turn begins with the turn:
//! a browser's text comes some milliseconds late, and the guest was idle before.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use super::cputime::{Reading, tree};
use super::machines::Ready;

/// One round of one test.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// The build of the kit: `x64`, `i686` or `p4`; `i686-27f` with 53 bits of x87 precision.
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

/// How long the way to `/init` was.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Boot {
    /// Wall seconds from the start of the program, or of the machine in a browser.
    pub wall_seconds: f64,
    /// CPU seconds of the emulating thread.
    pub thread_seconds: f64,
    /// CPU seconds of all watched threads.
    pub process_seconds: f64,
}

/// What one boot of the bench guest gave.
#[derive(Debug, Default, Serialize)]
pub struct Measured {
    /// The way to `/init`.
    pub boot: Option<Boot>,
    /// All rounds, in order.
    pub rounds: Vec<Round>,
    /// Whether the guest came to its end, or as far as was wanted.
    pub done: bool,
    /// The guest's last lines, for a message when it did not.
    pub tail: Vec<String>,
}

/// Where a guest stops to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// `/init` has begun.
    Init,
    /// It waits for its turn at this test of this kit.
    Ready {
        /// The kit.
        kit: String,
        /// The test.
        test: String,
    },
    /// It has run everything.
    Done,
    /// Its program ended, or it took too long.
    Lost,
}

const TAIL_LINES: usize = 20;

/// A running emulator. Dropping it ends it.
pub struct Session {
    child: Child,
    input: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    meter: Meter,
    /// What the command needs while it runs.
    _ready: Ready,
}

impl Session {
    /// Starts the emulator.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(mut ready: Ready) -> Result<Session> {
        let start = Instant::now();
        let command: &mut Command = &mut ready.command;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| command.get_program().to_string_lossy().into_owned())?;
        let lines = lines_of(&mut child)?;
        let input = child.stdin.take();
        let meter = Meter::new(child.id(), start);
        Ok(Session { child, input, lines, meter, _ready: ready })
    }

    /// Reads the guest's lines to the next stop, for `limit` at most.
    pub fn next_stop(&mut self, limit: Duration) -> Stop {
        let begun = Instant::now();
        // An error is the end of the time or of the output.
        while let Ok(line) = self.lines.recv_timeout(limit.saturating_sub(begun.elapsed())) {
            if let Some(stop) = self.meter.line(&line) {
                return stop;
            }
        }
        Stop::Lost
    }

    /// Gives the guest its turn and waits for the next stop.
    pub fn turn(&mut self, limit: Duration) -> Stop {
        self.meter.begin_turn();
        let sent = self.input.as_mut().map(|input| input.write_all(b"\n").and_then(|()| input.flush()));
        match sent {
            Some(Ok(())) => self.next_stop(limit),
            _ => Stop::Lost,
        }
    }

    /// Ends the emulator and gives what it measured; `done` says whether it came as far as was wanted.
    pub fn finish(mut self, done: bool) -> Measured {
        self.meter.measured.done = done;
        std::mem::take(&mut self.meter.measured)
    }
}

impl Drop for Session {
    /// Ends the program and what it started: a browser outlives the script that drives it.
    fn drop(&mut self) {
        for process in tree(self.child.id()).into_iter().rev() {
            let mut kill = Command::new("kill");
            kill.arg("-KILL").arg(process.to_string()).stderr(Stdio::null()).status().ok();
        }
        self.child.wait().ok();
    }
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

/// A moment, by both clocks.
struct Stamp {
    at: Instant,
    threads: Reading,
}

impl Stamp {
    fn now(root: u32) -> Stamp {
        Stamp { at: Instant::now(), threads: Reading::of(root) }
    }
}

struct Meter {
    root: u32,
    start: Instant,
    kit: String,
    turn: Option<Stamp>,
    begun: Option<(String, Stamp)>,
    measured: Measured,
}

impl Meter {
    fn new(root: u32, start: Instant) -> Meter {
        Meter { root, start, kit: String::new(), turn: None, begun: None, measured: Measured::default() }
    }

    fn begin_turn(&mut self) {
        self.turn = Some(Stamp::now(self.root));
    }

    fn line(&mut self, line: &str) -> Option<Stop> {
        self.measured.tail.push(line.to_owned());
        if self.measured.tail.len() > TAIL_LINES {
            self.measured.tail.remove(0);
        }
        if let Some(test) = after(line, "@begin ") {
            let stamp = self.turn.take().unwrap_or_else(|| Stamp::now(self.root));
            self.begun = Some((test.to_owned(), stamp));
        } else if let Some(result) = parse_result(line) {
            self.finish_round(result);
        } else if let Some(test) = after(line, "@ready ") {
            return Some(Stop::Ready { kit: self.kit.clone(), test: test.to_owned() });
        } else if let Some(kit) = after(line, "@kit ") {
            self.kit = kit.to_owned();
        } else if line.contains("@start") {
            self.start = Instant::now();
        } else if line.contains("@init ") {
            self.note_boot();
            return Some(Stop::Init);
        } else if line.contains("@done") {
            return Some(Stop::Done);
        }
        None
    }

    fn note_boot(&mut self) {
        let wall_seconds = self.start.elapsed().as_secs_f64();
        let used = Reading::of(self.root).since(&Reading::default());
        self.measured.boot =
            Some(Boot { wall_seconds, thread_seconds: used.thread, process_seconds: used.process });
    }

    fn finish_round(&mut self, result: ResultLine) {
        let Some((_, begun)) = self.begun.take().filter(|(test, _)| *test == result.test) else {
            return;
        };
        let wall_seconds = begun.at.elapsed().as_secs_f64();
        let used = Reading::of(self.root).since(&begun.threads);
        self.measured.rounds.push(Round {
            kit: self.kit.clone(),
            work: result.rate * result.seconds / result.units as f64,
            test: result.test,
            rate_unit: result.rate_unit,
            units: result.units,
            guest_seconds: result.seconds,
            wall_seconds,
            thread_seconds: used.thread,
            process_seconds: used.process,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn meter() -> Meter {
        Meter::new(std::process::id(), Instant::now())
    }

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
        let mut meter = meter();
        meter.line("@kit x64");
        meter.line("@begin fib");
        meter.line("div: 1 Mdiv/s units=1 secs=1.0 check=00000000");
        assert!(meter.measured.rounds.is_empty());
        meter.line("@begin div");
        meter.line("div: 1 Mdiv/s units=1 secs=1.0 check=00000000");
        assert_eq!(meter.measured.rounds[0].kit, "x64");
    }

    #[test]
    fn guest_stops_where_it_waits_and_at_its_end() {
        let mut meter = meter();
        assert!(matches!(meter.line("@init 1.20 0.9"), Some(Stop::Init)));
        assert!(meter.measured.boot.is_some());
        assert_eq!(meter.line("@kit p4"), None);
        let ready = Stop::Ready { kit: "p4".to_owned(), test: "fib".to_owned() };
        assert_eq!(meter.line("@ready fib"), Some(ready));
        assert_eq!(meter.line("@done 9.1 3"), Some(Stop::Done));
    }

    #[test]
    fn round_in_its_turn_begins_with_the_turn() {
        let mut meter = meter();
        meter.begin_turn();
        std::thread::sleep(Duration::from_millis(30));
        meter.line("@begin fib");
        meter.line("fib: 1 Mcall/s units=1 secs=1.0 check=00000000");
        assert!(meter.measured.rounds[0].wall_seconds >= 0.03);
    }
}
