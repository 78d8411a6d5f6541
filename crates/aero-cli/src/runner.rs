//! The loop around the machine.
//!
//! A *turn* runs the machine for a slice of instructions, hands on what it sent, lets the script and the
//! expectations look, and feeds it what was typed. When the guest has halted, the turn ends in a sleep that
//! the next timer, a key, or the next thing that the script waits for ends. With the clock `icount` nothing
//! of the host reaches the guest: no standard input, and every step of the script is timed by guest time
//! between slices of a fixed length, so a run repeats exactly.

use crate::expect::{Expectations, SerialLog};
use crate::host::{self, Closed, Event, Events, HostClock, Output};
use crate::options::{Clock, Log, Rtc, RunOptions, Serial, Sink, What, Where};
use crate::script::{Action, Player, Progress};
use crate::terminal::{EscapeKey, RawMode};
use crate::{disk, firmware, screenshot, stats};
use aero_firmware::{LoadError, MultibootError};
use aero_jit_wasmtime::Wasmtime;
use aero_machine::{
    Boot, BuildError, ClockConfig, Config, Engine, Exit, Frame, Kernel, Machine, Tier, VmTime,
};
use aero_mem::{AllocError, MAX_RAM};
use anyhow::Context as _;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Instructions per turn: some milliseconds, so that a key is not waited for.
const SLICE: u64 = 500_000;

/// The longest sleep; only a bound for arithmetic.
const LONG: Duration = Duration::from_secs(3600);

/// Lines of serial output in a report.
const REPORT_LINES: usize = 25;

/// Why a run is over.
#[derive(Clone, PartialEq, Eq, Debug)]
enum End {
    /// Everything expected has come, or the script said so.
    Done,
    PoweredOff,
    /// `--max-insns`.
    Instructions,
    /// Ctrl-A x, or nobody reads the output any more.
    UserQuit,
    TimedOut,
    /// A line of the script failed.
    Failed(String),
    DebugExit(u32),
    Fault(String),
    /// Halted, with nothing left that could wake it.
    Halted,
    Signal(u8),
}

impl End {
    fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::PoweredOff => "powered off",
            Self::Instructions => "instruction limit",
            Self::UserQuit => "quit",
            Self::TimedOut => "timed out",
            Self::Failed(_) => "expectation failed",
            Self::DebugExit(_) => "debug exit",
            Self::Fault(_) => "fault",
            Self::Halted => "halted",
            Self::Signal(_) => "signal",
        }
    }

    /// The program's exit status; `unmet` says whether something expected has not come.
    fn status(&self, unmet: bool) -> u8 {
        const FAILED: u8 = 1;
        const STOPPED: u8 = 3;
        const SIGNALLED: u8 = 128;
        match self {
            Self::DebugExit(status) => *status as u8,
            Self::Fault(_) => STOPPED,
            Self::Signal(number) => SIGNALLED.wrapping_add(*number),
            Self::TimedOut | Self::Failed(_) => FAILED,
            _ if unmet => FAILED,
            Self::Halted => STOPPED,
            Self::Done | Self::PoweredOff | Self::Instructions | Self::UserQuit => 0,
        }
    }

    /// A line for the report, where the end is not what was wanted.
    fn reason(&self, options: &RunOptions) -> Option<String> {
        Some(match self {
            Self::TimedOut => {
                format!("the time ran out after {} s", options.timeout.unwrap_or_default().as_secs_f64())
            }
            Self::Failed(line) => line.clone(),
            Self::Fault(report) => format!("the guest stopped: {report}"),
            Self::Halted => "the guest has halted and nothing can wake it".to_owned(),
            Self::PoweredOff => "the guest powered off".to_owned(),
            Self::Instructions => "the instruction limit was reached".to_owned(),
            Self::DebugExit(status) => format!("the guest ended the run with status {status}"),
            Self::Signal(_) | Self::Done | Self::UserQuit => return None,
        })
    }
}

/// Runs a machine to its end and returns the exit status.
///
/// # Errors
/// One line for a file that cannot be read or written, or a machine that cannot be built.
pub fn run(options: &RunOptions) -> anyhow::Result<u8> {
    let mut runner = Runner::new(options)?;
    let end = loop {
        if let Some(end) = runner.turn()? {
            break end;
        }
    };
    runner.finish(&end)
}

struct Runner<'a> {
    options: &'a RunOptions,
    machine: Machine,
    started: Instant,
    /// Guest time that a halted machine was spared under `icount`.
    skipped: Duration,
    log: SerialLog,
    serial: Option<Output>,
    /// Outputs of debug consoles, each with the number of its console.
    debugcon: Vec<(usize, Output)>,
    /// The last POST code.
    post_code: Option<u8>,
    expectations: Expectations,
    player: Player,
    /// When the script wants to look again.
    script_due: Option<Duration>,
    /// When `--screenshot FILE@SECS` is due; `None` once taken.
    picture_due: Option<Duration>,
    events: Events,
    /// Whether standard input may still bring something.
    input_open: bool,
    escape: Option<EscapeKey>,
    raw: Option<RawMode>,
}

impl<'a> Runner<'a> {
    fn new(options: &'a RunOptions) -> anyhow::Result<Self> {
        let expectations = Expectations::new(&options.expect_serial, &options.expect_screen)?;
        let boot = boot(options)?;
        let takes_input = options.serial == Serial::Stdio && options.clock == Clock::Realtime;
        let events = Events::listen(takes_input)?;
        let drives = disk::open_all(&options.drives, &events.sender())?;
        let serial = match &options.serial {
            Serial::None => None,
            Serial::Stdio => Some(Output::open("--serial", &Sink::Stdio)?),
            Serial::File(file) => Some(Output::open("--serial", &Sink::File(file.clone()))?),
        };
        let debugcon = consoles(options)?;
        let started = Instant::now();
        let config = config(options);
        let engine = engine(&config, &boot);
        let clock = Box::new(HostClock(started));
        let machine = Machine::with_drives(config, boot, drives, clock, engine)
            .map_err(|e| anyhow::Error::msg(blamed(&e, options)))?;
        let raw = match takes_input && std::io::stdin().is_terminal() {
            true => Some(RawMode::enter()?),
            false => None,
        };
        Ok(Self {
            options,
            machine,
            started,
            skipped: Duration::ZERO,
            log: SerialLog::default(),
            serial,
            debugcon,
            post_code: None,
            expectations,
            player: Player::new(options.script.clone()),
            script_due: None,
            picture_due: options.screenshot.as_ref().and_then(|shot| shot.at),
            events,
            input_open: takes_input,
            escape: raw.is_some().then(EscapeKey::default),
            raw,
        })
    }

    /// The clock of scripts and pictures.
    fn clock(&mut self) -> Duration {
        match self.options.clock {
            Clock::Realtime => self.started.elapsed(),
            Clock::Icount { .. } => Duration::from_nanos(self.machine.now().0) + self.skipped,
        }
    }

    fn turn(&mut self) -> anyhow::Result<Option<End>> {
        let Some(budget) = self.budget() else { return Ok(Some(End::Instructions)) };
        let exit = self.machine.run(budget);
        if self.hand_on()?.is_err() {
            return Ok(Some(End::UserQuit));
        }
        let looked = self.look()?;
        let idle = match exit {
            Exit::Budget => None,
            Exit::WaitIo => return Ok(self.wait_for_drive()),
            Exit::Idle { until } => Some(until),
            Exit::Reset => match self.machine.reset() {
                Ok(()) => None,
                Err(e) => return Ok(Some(End::Fault(format!("after a reset, {e}")))),
            },
            Exit::Shutdown => return Ok(Some(End::PoweredOff)),
            Exit::DebugExit(status) => return Ok(Some(End::DebugExit(status))),
            Exit::Fault(report) => return Ok(Some(End::Fault(report))),
        };
        if looked.is_some() {
            return Ok(looked);
        }
        if self.options.timeout.is_some_and(|limit| self.started.elapsed() >= limit) {
            return Ok(Some(End::TimedOut));
        }
        Ok(match idle {
            Some(until) => self.idle(until),
            None => self.take_events(),
        })
    }

    /// Instructions for the next slice; `None` at `--max-insns`.
    fn budget(&self) -> Option<u64> {
        let left = self.options.max_insns.map_or(SLICE, |limit| limit.saturating_sub(self.machine.retired()));
        (left > 0).then_some(left.min(SLICE))
    }

    /// Writes what the guest sent to where it goes.
    fn hand_on(&mut self) -> anyhow::Result<Result<(), Closed>> {
        let sent = self.machine.take_serial();
        self.log.push(&sent);
        for code in self.machine.take_post_codes() {
            eprintln!("POST {code:02X}h");
            self.post_code = Some(code);
        }
        let consoles = self.options.debugcon_ports().len();
        let debug: Vec<_> = (0..consoles).map(|n| self.machine.take_debugcon(n)).collect();
        for (n, output) in &mut self.debugcon {
            if let closed @ Err(Closed) = output.write(&debug[*n])? {
                return Ok(closed);
            }
        }
        self.serial.as_mut().map_or(Ok(Ok(())), |serial| serial.write(&sent))
    }

    /// Lets the expectations and the script look, and does what the script says.
    fn look(&mut self) -> anyhow::Result<Option<End>> {
        if let Some(due) = self.picture_due
            && self.clock() >= due
        {
            self.take_picture()?;
        }
        let screen = match self.expectations.looks_at_screen() || self.player.looks_at_screen() {
            true => self.machine.screen_text(),
            false => String::new(),
        };
        self.expectations.look(&self.log, &screen);
        loop {
            let now = self.clock();
            match self.player.poll(now, &self.log, &screen) {
                Progress::Do(action) => self.perform(action)?,
                Progress::Waiting(due) => {
                    self.script_due = Some(due);
                    return Ok(None);
                }
                Progress::Quit => return Ok(Some(End::Done)),
                Progress::Failed(line) => return Ok(Some(End::Failed(line))),
                Progress::Finished => break,
            }
        }
        self.script_due = None;
        let expected = self.expectations.any() || self.player.expects();
        Ok((expected && self.expectations.met()).then_some(End::Done))
    }

    fn perform(&mut self, action: Action) -> anyhow::Result<()> {
        match action {
            Action::Type(text) => self.machine.type_text(&text),
            Action::Send(bytes) => self.machine.serial_send(&bytes),
            Action::Keys(keys) => {
                keys.iter().for_each(|code| self.machine.inject_browser_key(code, true));
                keys.iter().rev().for_each(|code| self.machine.inject_browser_key(code, false));
            }
            Action::Screenshot(file) => screenshot::write(&self.picture(), &file)?,
            Action::PowerButton => self.machine.power_button(),
            Action::ChangeDisc(file) => self.change_disc(file.as_deref())?,
        }
        Ok(())
    }

    fn change_disc(&mut self, file: Option<&Path>) -> anyhow::Result<()> {
        let drive = self.options.drives.iter().position(|drive| matches!(drive.at, Where::Disc(_)));
        let Some(drive) = drive else {
            anyhow::bail!("there is no disc drive; give --cdrom none for an empty one")
        };
        let events = self.events.sender();
        let disc = file.map(|file| disk::open("insert cdrom", file, true, false, &events)).transpose()?;
        if !self.machine.change_medium(drive, disc) {
            eprintln!("aero: the guest has locked the disc drive; it was told that the disc is wanted");
        }
        Ok(())
    }

    fn picture(&mut self) -> Frame {
        let mut frame = Frame::default();
        self.machine.render(&mut frame);
        frame
    }

    /// Takes the picture of `--screenshot`.
    fn take_picture(&mut self) -> anyhow::Result<()> {
        self.picture_due = None;
        let Some(shot) = &self.options.screenshot else { return Ok(()) };
        screenshot::write(&self.picture(), &shot.file)
    }

    /// The guest has halted until `until`.
    fn idle(&mut self, until: Option<VmTime>) -> Option<End> {
        if self.options.clock != Clock::Realtime {
            return self.skip_idle(until);
        }
        let awaited = self.input_open || self.machine.io_pending();
        if until.is_none() && !awaited && self.next_due().is_none() {
            return Some(End::Halted);
        }
        let (now, clock) = (self.machine.now(), self.clock());
        let timer = until.map(|at| Duration::from_nanos(at.since(now)));
        let due = self.next_due().map(|due| due.saturating_sub(clock));
        let limit = self.options.timeout.map(|limit| limit.saturating_sub(self.started.elapsed()));
        let sleep = [timer, due, limit].into_iter().flatten().min().unwrap_or(LONG);
        match self.events.wait(sleep.min(LONG)) {
            Some(event) => self.take_event(event).or_else(|| self.take_events()),
            None => None,
        }
    }

    /// The guest's time stands still until the host has finished a request to a drive.
    fn wait_for_drive(&mut self) -> Option<End> {
        const MOST: Duration = Duration::from_millis(20);
        let event = self.events.wait(MOST);
        if self.options.timeout.is_some_and(|limit| self.started.elapsed() >= limit) {
            return Some(End::TimedOut);
        }
        event.and_then(|event| self.take_event(event))
    }

    /// Nothing happens in guest time any more: the script's clock alone goes on.
    fn skip_idle(&mut self, until: Option<VmTime>) -> Option<End> {
        if until.is_none() {
            let Some(due) = self.next_due() else { return Some(End::Halted) };
            let clock = self.clock();
            self.skipped += due.saturating_sub(clock);
        }
        self.take_events()
    }

    /// When the script or a picture is due next.
    fn next_due(&self) -> Option<Duration> {
        [self.script_due, self.picture_due].into_iter().flatten().min()
    }

    fn take_events(&mut self) -> Option<End> {
        while let Some(event) = self.events.poll() {
            let end = self.take_event(event);
            if end.is_some() {
                return end;
            }
        }
        None
    }

    fn take_event(&mut self, event: Event) -> Option<End> {
        match event {
            Event::Signal(number) => return Some(End::Signal(number)),
            Event::InputEnded => self.input_open = false,
            Event::Drive => {}
            Event::Typed(bytes) => {
                let (bytes, quit) = match &mut self.escape {
                    Some(escape) => escape.filter(&bytes),
                    None => (bytes, false),
                };
                self.machine.serial_send(&bytes);
                return quit.then_some(End::UserQuit);
            }
        }
        None
    }

    /// Writes what is to be written at the end, reports, and returns the exit status.
    fn finish(mut self, end: &End) -> anyhow::Result<u8> {
        self.raw = None;
        let mut missing = self.expectations.missing();
        if !matches!(end, End::Failed(_)) {
            missing.extend(self.player.missing());
        }
        let status = end.status(!missing.is_empty());
        let wanted = status == 0 || matches!(end, End::DebugExit(_) | End::Signal(_));
        if !wanted || !missing.is_empty() {
            self.report(end, &missing);
        }
        if let Some(code) = self.post_code {
            eprintln!("the last POST code is {code:02X}h");
        }
        if self.options.log == Some(Log::Unknown) {
            for (what, rip) in self.machine.trip_wires() {
                eprintln!("unknown {what} at {rip:#x}");
            }
        }
        if self.options.screenshot.as_ref().is_some_and(|shot| shot.at.is_none())
            || self.picture_due.is_some()
        {
            self.take_picture()?;
        }
        if let Some(file) = &self.options.stats {
            let run = stats::Run {
                wall: self.started.elapsed(),
                guest_ns: self.machine.now().0,
                instructions: self.machine.retired(),
                exit_status: status,
                ended: end.name(),
            };
            stats::write(file, &self.machine.stats(), &run)?;
        }
        Ok(status)
    }

    /// Says on standard error what went wrong, and what the guest showed last.
    fn report(&self, end: &End, missing: &[String]) {
        eprintln!();
        for line in end.reason(self.options).iter().chain(missing) {
            eprintln!("aero: {line}");
        }
        let screen = self.machine.screen_text();
        if !screen.trim().is_empty() {
            eprintln!("--- the screen\n{}", screen.trim_end());
        }
        let serial = self.log.last_lines(REPORT_LINES);
        if !serial.is_empty() {
            eprintln!("--- the last serial lines\n{serial}");
        }
    }
}

fn boot(options: &RunOptions) -> anyhow::Result<Boot> {
    // The machine looks at the kernel first; a size that no machine can have is told before a file is read.
    if !(1 << 20..=MAX_RAM).contains(&options.memory) {
        anyhow::bail!("--memory {}: {}", bytes(options.memory), AllocError::of(options.memory));
    }
    let (file, initrd, append) = match &options.boot {
        What::Firmware(rom) => {
            return firmware::load(rom.as_deref(), &options.boot_order).map(Boot::Firmware);
        }
        What::Kernel { file, initrd, append } => (file, initrd, append),
    };
    let too_large =
        format!("do not fit into {} MiB of guest memory; give a larger --memory", options.memory >> 20);
    let read = |option: &str, file: &PathBuf| host::read_file(option, file, options.memory, &too_large);
    Ok(Boot::Kernel(Kernel {
        image: read("--kernel", file)?,
        name: file.display().to_string(),
        initrd: initrd.as_ref().map(|file| read("--initrd", file)).transpose()?,
        initrd_name: initrd.as_ref().map(|file| file.display().to_string()).unwrap_or_default(),
        append: append.clone(),
    }))
}

/// Opens the outputs of the debug consoles.
fn consoles(options: &RunOptions) -> anyhow::Result<Vec<(usize, Output)>> {
    let ports = options.debugcon_ports();
    let number = |port: u16| ports.iter().position(|p| *p == port).unwrap_or_default();
    let consoles = options.debugcon.iter();
    consoles.map(|d| Ok((number(d.port), Output::open("--debugcon", &d.to)?))).collect()
}

fn config(options: &RunOptions) -> Config {
    Config {
        cpu: options.cpu.clone(),
        hyperv: options.hyperv,
        hpet: options.hpet,
        jit: options.jit,
        memory: options.memory,
        clock: match options.clock {
            Clock::Realtime => ClockConfig::Realtime,
            Clock::Icount { mips } => ClockConfig::Icount { mips },
        },
        rtc: rtc_start(options.rtc),
        debug_exit: options.debug_exit,
        debugcon: options.debugcon_ports(),
        post_port: options.post_port,
        test_device: options.testdev,
        vga: options.vga,
    }
}

/// An engine for compiled code, if one is wanted and this host has one. Under `icount` it compiles where it is asked to,
/// and at the threshold 1 code must not be interpreted while it waits.
pub fn engine(config: &Config, boot: &Boot) -> Option<Engine> {
    let tier = config.jit.tier.compiled()?;
    let repeats = matches!(config.clock, ClockConfig::Icount { .. }) || config.jit.threshold == Some(1);
    let bytes = Machine::arena_bytes(config, boot);
    let made = if repeats { Wasmtime::synchronous(tier, bytes) } else { Wasmtime::new(tier, bytes) };
    match made {
        Ok((host, arena)) => Some(Engine { host: Box::new(host), tail_calls: true, arena }),
        Err(error) => {
            eprintln!("aero: --jit: {error}; everything is interpreted, as with --jit off");
            None
        }
    }
}

/// An engine for processors under test.
///
/// # Errors
/// When there is none on this host.
pub fn test_engine(tier: Tier, bytes: u64) -> anyhow::Result<Engine> {
    let (host, arena) = Wasmtime::synchronous(tier, bytes).context("--jit")?;
    Ok(Engine { host: Box::new(host), tail_calls: true, arena })
}

/// What the clock chip starts with, in seconds since 1970.
fn rtc_start(rtc: Rtc) -> u64 {
    let utc = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match rtc {
        Rtc::Utc => utc,
        Rtc::Local => utc.saturating_add_signed(jiff::Zoned::now().offset().seconds().into()),
        Rtc::At(seconds) => seconds,
    }
}

/// A machine that cannot be built, with the option that is to blame.
fn blamed(error: &BuildError, options: &RunOptions) -> String {
    let (kernel, initrd) = match &options.boot {
        What::Kernel { file, initrd, .. } => (format!("--kernel {}", file.display()), initrd.as_ref()),
        What::Firmware(Some(rom)) => (format!("--firmware {}", rom.display()), None),
        What::Firmware(None) => ("SeaBIOS".to_owned(), None),
    };
    let option = match (error, initrd) {
        (BuildError::Memory(_), _) => format!("--memory {}", bytes(options.memory)),
        (BuildError::Mips(_), _) => "--clock".to_owned(),
        (BuildError::Model(_), _) => "--cpu".to_owned(),
        (BuildError::Drive(_), _) => "--disk, --cdrom, --floppy".to_owned(),
        (BuildError::Load(LoadError::InitrdDoesNotFit { .. }), Some(file)) => {
            format!("--initrd {}", file.display())
        }
        (BuildError::Load(LoadError::CommandLineTooLong { .. }), _) => "--append".to_owned(),
        (BuildError::Multiboot(MultibootError::NoRoom { .. }), Some(file)) => {
            format!("--initrd {}", file.display())
        }
        (BuildError::Load(_) | BuildError::Multiboot(_) | BuildError::Firmware(_), _) => kernel,
    };
    format!("{option}: {error}")
}

fn bytes(count: u64) -> String {
    match count {
        n if n > 0 && n % (1 << 20) == 0 => format!("{}M", n >> 20),
        n => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmet_expectation_turns_a_good_end_into_a_failure() {
        for end in [End::Done, End::PoweredOff, End::Instructions, End::UserQuit] {
            assert_eq!((end.status(false), end.status(true)), (0, 1), "{end:?}");
        }
        assert_eq!((End::Halted.status(false), End::Halted.status(true)), (3, 1));
    }

    #[test]
    fn exit_statuses_are_the_promised_ones() {
        let ends =
            [End::TimedOut, End::Failed(String::new()), End::Fault(String::new()), End::DebugExit(0x21)];
        assert_eq!(ends.map(|end| end.status(false)), [1, 1, 3, 0x21]);
        assert_eq!(End::Signal(15).status(true), 143);
    }

    #[test]
    fn sizes_are_shown_as_they_are_given() {
        assert_eq!([512 << 20, 1000, 0].map(bytes), ["512M", "1000", "0"]);
    }
}
