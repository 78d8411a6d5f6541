//! The command line and the configuration file.
//!
//! A configuration file is TOML with the names of the options. Each entry becomes the argument it stands for,
//! unless the command line has that option, and everything is parsed again: one parser, one set of messages.

use crate::script::{self, Script};
use aero_machine::{Bus, CpuChoice, JitConfig, REPEATABLE_RTC};
use anyhow::{Context as _, anyhow, bail};
use clap::parser::ValueSource;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use regex::Regex;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

const EXIT_STATUS: &str = "\
Exit status:
  0  the guest powered off, or everything that was expected came
  1  something expected did not come, or the time ran out; the last screen and serial lines are printed
  2  bad usage, or a file that cannot be read or written
  3  the guest triple-faulted or stopped for good
  With --debug-exit, the value V that the guest wrote gives (V << 1) | 1.

While --serial stdio is a terminal, every key goes to the guest. Ctrl-A x quits, Ctrl-A Ctrl-A sends Ctrl-A.";

const SCRIPT_HELP: &str = "\
Run the lines of FILE:
  expect serial|screen \"REGEX\" [SECS]   wait for it, 30 s unless told; serial matches follow each other
  type \"TEXT\"                          press the keys of TEXT
  send \"TEXT\"                          send TEXT to the serial port
  key ctrl+alt+del                     press keys together
  eject cdrom | insert cdrom FILE        take the disc out of the first drive, put one in
  wait SECS | screenshot FILE | power button | quit
Text knows \\n \\r \\t \\e \\\" \\\\ \\xNN; # starts a comment. With the clock icount, seconds are the guest's. A
script that expects something and comes to its end ends the run.";

/// A complete x86-64 PC.
#[derive(Parser)]
#[command(name = "aero", version, about, after_help = EXIT_STATUS)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Start a machine
    #[command(after_help = EXIT_STATUS)]
    Run(Box<RunArgs>),
    /// Measure how fast the machine is
    #[command(subcommand)]
    Bench(crate::bench::Bench),
    /// Prove the processor against real ones and other emulators
    #[command(subcommand)]
    CpuTest(aero_cpu_test::Test),
}

/// The arguments of `aero run`.
#[derive(Args, Clone)]
#[command(args_override_self = true)]
pub struct RunArgs {
    /// Kernel to boot: Linux (bzImage), or multiboot 1 (ELF32, ELF64, or with addresses in its header)
    #[arg(long, value_name = "FILE", help_heading = "What to boot", conflicts_with = "firmware")]
    kernel: Option<PathBuf>,
    /// Initial RAM disk for the kernel; a multiboot kernel's module
    #[arg(long, value_name = "FILE", help_heading = "What to boot")]
    initrd: Option<PathBuf>,
    /// Kernel command line
    #[arg(
        long,
        value_name = "STR",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    #[arg(help_heading = "What to boot")]
    append: String,
    /// Firmware in place of a kernel: a ROM of 64 KiB to 16 MiB, which ends at 4 GiB and, its last 128 KiB, at 1 MiB
    #[arg(long, value_name = "FILE", help_heading = "What to boot", conflicts_with_all = ["initrd"])]
    firmware: Option<PathBuf>,
    /// Disk image (repeatable); without --kernel and --firmware, SeaBIOS boots from it. snapshot keeps what is written
    /// in memory
    #[arg(
        long,
        value_name = "FILE[,bus=ahci|ide|nvme|virtio][,readonly][,snapshot]",
        help_heading = "What to boot"
    )]
    disk: Vec<String>,
    /// Disc image (ISO 9660 or the like), or none for an empty drive (repeatable)
    #[arg(long, value_name = "FILE|none[,bus=ide|ahci]", help_heading = "What to boot")]
    cdrom: Vec<String>,
    /// Floppy image, or none for an empty drive (repeatable; at most two)
    #[arg(long, value_name = "FILE|none[,readonly][,snapshot]", help_heading = "What to boot")]
    floppy: Vec<String>,
    /// What firmware tries, in order: a floppies, c disks, d discs, n network
    #[arg(
        long,
        value_name = "order=LETTERS[,menu=on]",
        default_value = "order=cdn",
        help_heading = "What to boot"
    )]
    boot: BootOption,

    /// Guest memory, in bytes or with K, M or G
    #[arg(long, value_name = "SIZE", default_value = "1G", help_heading = "The machine")]
    memory: Size,
    /// The machine: win7; with ,hv=on it shows the hypervisor interface that Windows knows, with ,hpet=on it has a
    /// high-precision event timer
    #[arg(long, value_name = "NAME[,hv=on][,hpet=on]", default_value = "win7", help_heading = "The machine")]
    machine: MachineOption,
    /// Processors: 1, until there can be more
    #[arg(long, value_name = "N", default_value = "1", value_parser = cpus, help_heading = "The machine")]
    cpus: u32,
    /// Processor model: win7, core2 or max; with ,strict-msr unknown MSRs fault
    #[arg(long, value_name = "MODEL[,strict-msr]", default_value = "win7", help_heading = "The machine")]
    cpu: CpuOption,
    /// Guest time: realtime, or icount[=MIPS] for runs that repeat exactly
    #[arg(long, value_name = "CLOCK", default_value = "realtime", help_heading = "The machine")]
    clock: Clock,
    /// What the clock chip shows: utc, local, or a date such as 2026-01-31T12:00:00 [default: utc; with the
    /// clock icount 2026-01-01]
    #[arg(long, value_name = "TIME", help_heading = "The machine")]
    rtc: Option<Rtc>,
    /// Graphics card
    #[arg(long, value_enum, default_value = "std", help_heading = "The machine")]
    vga: Vga,
    /// The device of test kernels: ports E0h-EBh and memory at FF000000h keep what is written, 2000h+N sets the level
    /// of interrupt N, F4h ends the run as --debug-exit does
    #[arg(long, help_heading = "The machine")]
    testdev: bool,
    /// Port of the device whose writes end the run with a status that the guest chooses
    #[arg(long, value_name = "PORT", value_parser = port, help_heading = "The machine")]
    debug_exit: Option<u16>,
    /// Collect the bytes that the guest writes to PORT (0x402) in FILE, or print them (repeatable)
    #[arg(long, value_name = "[PORT=]FILE|stdio", help_heading = "The machine")]
    debugcon: Vec<Debugcon>,
    /// Print each byte that the guest writes to PORT as a POST code on standard error, and the last at the end
    #[arg(long, value_name = "PORT", value_parser = port, help_heading = "The machine")]
    post_port: Option<u16>,

    /// What becomes of code that runs often: off interprets it, baseline compiles it quickly, full also thoroughly.
    /// With ,threshold=N when a block has run N times
    #[arg(long, value_name = "HOW[,threshold=N]", default_value = "full", help_heading = "Speed")]
    jit: JitConfig,

    /// Window for the screen
    #[arg(long, value_enum, default_value = "none", help_heading = "The host")]
    display: Display,
    /// First serial port: stdio, none, or file:FILE. With the clock icount it takes no input from here
    #[arg(long, value_name = "WHERE", default_value = "stdio", help_heading = "The host")]
    serial: Serial,
    /// Take options from a TOML file with the same names; the command line wins
    #[arg(long, value_name = "FILE", help_heading = "The host")]
    config: Option<PathBuf>,

    #[arg(long, value_name = "FILE", help = "Run the lines of FILE", long_help = SCRIPT_HELP)]
    #[arg(help_heading = "Automation")]
    script: Option<PathBuf>,
    /// Give up after this many seconds of the host's time, exit status 1
    #[arg(long, value_name = "SECS", value_parser = seconds, allow_negative_numbers = true)]
    #[arg(help_heading = "Automation")]
    timeout: Option<Duration>,
    /// End when this was seen on the serial port (repeatable; all must come)
    #[arg(long, value_name = "REGEX", help_heading = "Automation")]
    expect_serial: Vec<Regex>,
    /// End when this was seen on the screen (repeatable; all must come)
    #[arg(long, value_name = "REGEX", help_heading = "Automation")]
    expect_screen: Vec<Regex>,
    /// Save the screen as PNG, at the end or after SECS
    #[arg(long, value_name = "FILE[@SECS]", help_heading = "Automation")]
    screenshot: Option<Screenshot>,
    /// Stop after exactly N guest instructions
    #[arg(long, value_name = "N", help_heading = "Automation")]
    max_insns: Option<u64>,
    /// Write counters of the run to FILE as JSON
    #[arg(long, value_name = "FILE", help_heading = "Automation")]
    stats: Option<PathBuf>,
    /// At the end, list what the guest used and nothing knows: ports, memory pages, MSRs, with RIP of the code's block
    #[arg(long, value_enum, value_name = "WHAT", help_heading = "Automation")]
    log: Option<Log>,
}

/// `--log`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Log {
    /// What nothing knows
    Unknown,
}

/// What is started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// A kernel.
    Kernel { file: PathBuf, initrd: Option<PathBuf>, append: String },
    /// A ROM; SeaBIOS if none is named.
    Firmware(Option<PathBuf>),
}

/// Everything about a run, checked as far as no file but the configuration and the script is needed.
#[derive(Debug)]
pub struct RunOptions {
    pub boot: What,
    pub drives: Vec<DriveOption>,
    pub boot_order: BootOption,
    /// Bytes.
    pub memory: u64,
    pub cpu: CpuChoice,
    pub hyperv: bool,
    pub hpet: bool,
    pub jit: JitConfig,
    pub clock: Clock,
    pub rtc: Rtc,
    pub vga: bool,
    pub debug_exit: Option<u16>,
    pub debugcon: Vec<Debugcon>,
    pub post_port: Option<u16>,
    pub testdev: bool,
    pub serial: Serial,
    pub script: Script,
    pub timeout: Option<Duration>,
    pub expect_serial: Vec<Regex>,
    pub expect_screen: Vec<Regex>,
    pub screenshot: Option<Screenshot>,
    pub max_insns: Option<u64>,
    pub stats: Option<PathBuf>,
    pub log: Option<Log>,
}

impl RunOptions {
    /// The ports of debug consoles, each once.
    pub fn debugcon_ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = Vec::new();
        for port in self.debugcon.iter().map(|d| d.port) {
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
        ports
    }
}

impl RunArgs {
    /// Adds the configuration file and reads the script. `line` is the command line that these arguments came
    /// from.
    ///
    /// # Errors
    /// One line that names the option, the file and the cure.
    pub fn resolve(self, line: impl Iterator<Item = OsString>) -> anyhow::Result<RunOptions> {
        match self.config.clone() {
            Some(file) => with_config(&file, line.collect())?.into_options(),
            None => self.into_options(),
        }
    }

    fn into_options(self) -> anyhow::Result<RunOptions> {
        let rtc = self.rtc.unwrap_or(match self.clock {
            Clock::Realtime => Rtc::Utc,
            Clock::Icount { .. } => Rtc::At(REPEATABLE_RTC),
        });
        let mut drives = drives(&self.disk, &self.cdrom, &self.floppy)?;
        let boot = match (self.kernel, self.firmware) {
            (Some(file), _) => What::Kernel { file, initrd: self.initrd, append: self.append },
            (None, Some(_)) if !self.append.is_empty() => {
                bail!("--append: firmware takes no command line; leave it out or give --kernel FILE");
            }
            (None, Some(rom)) => What::Firmware(Some(rom)),
            (None, None) if !drives.is_empty() => What::Firmware(None),
            (None, None) => bail!(
                "there is nothing to boot; give --disk, --cdrom or --floppy with an image, --kernel with a Linux bzImage \
                 or a multiboot kernel, or --firmware with a ROM"
            ),
        };
        if matches!(boot, What::Firmware(_)) && !drives.iter().any(|d| matches!(d.at, Where::Disc(_))) {
            // A PC has a drive for discs: one can be put in later.
            drives.push(DriveOption {
                at: Where::Disc(Bus::IdeCd),
                file: None,
                read_only: true,
                snapshot: false,
            });
        }
        // Where kernels that know the device end a run.
        const TESTDEV_EXIT: u16 = 0xf4;
        let debug_exit = self.debug_exit.or(self.testdev.then_some(TESTDEV_EXIT));
        let taken = [debug_exit, self.post_port];
        if let Some(port) = self.debugcon.iter().map(|d| d.port).find(|port| taken.contains(&Some(*port))) {
            bail!("--debugcon: port {port:#x} is the port of --debug-exit or --post-port; give another");
        }
        Ok(RunOptions {
            boot,
            drives,
            boot_order: self.boot,
            memory: self.memory.0,
            cpu: self.cpu.0,
            hyperv: self.machine.hyperv,
            hpet: self.machine.hpet,
            // The limit is a number of instructions, not about one.
            jit: JitConfig { exact: self.max_insns.is_some(), ..self.jit },
            clock: self.clock,
            rtc,
            vga: self.vga == Vga::Std,
            debug_exit,
            debugcon: self.debugcon,
            post_port: self.post_port,
            testdev: self.testdev,
            serial: self.serial,
            script: self.script.as_deref().map(read_script).transpose()?.unwrap_or_default(),
            timeout: self.timeout,
            expect_serial: self.expect_serial,
            expect_screen: self.expect_screen,
            screenshot: self.screenshot,
            max_insns: self.max_insns,
            stats: self.stats,
            log: self.log,
        })
    }
}

/// A drive of the command line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DriveOption {
    pub at: Where,
    /// `None` for an empty drive.
    pub file: Option<PathBuf>,
    pub read_only: bool,
    pub snapshot: bool,
}

/// What a drive is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Where {
    Floppy,
    Disk(Bus),
    Disc(Bus),
}

impl DriveOption {
    /// The option that asks for it.
    pub fn name(&self) -> &'static str {
        match self.at {
            Where::Floppy => "--floppy",
            Where::Disk(_) => "--disk",
            Where::Disc(_) => "--cdrom",
        }
    }

    /// Reads `FILE[,word...]`.
    fn parse(text: &str, at: Where) -> Result<Self, String> {
        let mut words = text.split(',');
        let file = words.next().unwrap_or_default();
        if file.is_empty() {
            return Err("expected the name of an image file".to_owned());
        }
        let empty = file == "none" && !matches!(at, Where::Disk(_));
        let file = (!empty).then(|| PathBuf::from(file));
        let mut drive = Self { at, file, read_only: matches!(at, Where::Disc(_)), snapshot: false };
        for word in words {
            match (word, &mut drive.at) {
                ("readonly", _) => drive.read_only = true,
                ("snapshot", Where::Disk(_) | Where::Floppy) => drive.snapshot = true,
                ("format=raw", _) => {}
                ("bus=ahci", Where::Disk(bus)) => *bus = Bus::AhciDisk,
                ("bus=nvme", Where::Disk(bus)) => *bus = Bus::Nvme,
                ("bus=virtio", Where::Disk(bus)) => *bus = Bus::Virtio,
                ("bus=ide", Where::Disk(bus)) => *bus = Bus::IdeDisk,
                ("bus=ahci", Where::Disc(bus)) => *bus = Bus::AhciCd,
                ("bus=ide", Where::Disc(bus)) => *bus = Bus::IdeCd,
                _ => {
                    return Err(format!(
                        "'{word}' is not known after the file; bus=ahci, ide, nvme or virtio, format=raw, readonly and snapshot are"
                    ));
                }
            }
        }
        Ok(drive)
    }
}

/// The drives in the order of their numbers.
fn drives(disks: &[String], discs: &[String], floppies: &[String]) -> anyhow::Result<Vec<DriveOption>> {
    let all = |texts: &[String], option: &str, at: Where| {
        let parse = |text: &String| DriveOption::parse(text, at).map_err(|e| anyhow!("{option} {text}: {e}"));
        texts.iter().map(parse).collect::<anyhow::Result<Vec<_>>>()
    };
    let mut drives = all(disks, "--disk", Where::Disk(Bus::AhciDisk))?;
    drives.extend(all(discs, "--cdrom", Where::Disc(Bus::IdeCd))?);
    drives.extend(all(floppies, "--floppy", Where::Floppy)?);
    Ok(drives)
}

/// `--boot`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BootOption {
    pub order: String,
    pub menu: bool,
}

impl FromStr for BootOption {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let mut option = Self { order: "cdn".to_owned(), menu: false };
        for word in s.split(',') {
            match word.split_once('=') {
                Some(("order", order)) if !order.is_empty() && order.chars().all(|c| "acdn".contains(c)) => {
                    option.order = order.to_owned();
                }
                Some(("menu", on @ ("on" | "off"))) => option.menu = on == "on",
                _ => {
                    return Err(format!(
                        "'{word}' is not known; order= with letters of acdn, menu=on and menu=off are"
                    ));
                }
            }
        }
        Ok(option)
    }
}

/// `--machine`.
#[derive(Clone, Debug)]
struct MachineOption {
    hyperv: bool,
    hpet: bool,
}

impl FromStr for MachineOption {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let mut words = s.split(',');
        match words.next() {
            Some("win7") => {}
            other => {
                return Err(format!("there is no machine '{}'; there is win7", other.unwrap_or_default()));
            }
        }
        let mut option = Self { hyperv: false, hpet: false };
        for word in words {
            let (part, on) = match word {
                "hv=on" => (&mut option.hyperv, true),
                "hv=off" => (&mut option.hyperv, false),
                "hpet=on" => (&mut option.hpet, true),
                "hpet=off" => (&mut option.hpet, false),
                _ => {
                    return Err(format!(
                        "'{word}' is not known after the machine; hv and hpet are, with =on or =off"
                    ));
                }
            };
            *part = on;
        }
        Ok(option)
    }
}

/// `--cpu`.
#[derive(Clone, Debug)]
pub struct CpuOption(pub CpuChoice);

impl FromStr for CpuOption {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let mut words = s.split(',');
        let model = words.next().unwrap_or_default().to_owned();
        let mut choice = CpuChoice { model, ..CpuChoice::default() };
        choice.find().map_err(|e| e.to_string())?;
        for word in words {
            match word {
                "strict-msr" => choice.strict_msr = true,
                _ => return Err(format!("'{word}' is not known after the model; strict-msr is")),
            }
        }
        Ok(Self(choice))
    }
}

fn read_script(file: &Path) -> anyhow::Result<Script> {
    let text = std::fs::read_to_string(file).with_context(|| format!("--script {}", file.display()))?;
    script::parse(&text).map_err(|e| anyhow!("--script {}:{e}", file.display()))
}

/// Parses the command line again behind the entries of the configuration file that it does not override.
fn with_config(file: &Path, line: Vec<OsString>) -> anyhow::Result<RunArgs> {
    let name = format!("--config {}", file.display());
    let text = std::fs::read_to_string(file).with_context(|| name.clone())?;
    let table: toml::Table = text.parse().map_err(|e| anyhow!("{name}: {}", one_line(&e)))?;
    let given = Cli::command().get_matches_from(&line);
    let given = given.subcommand_matches("run").context("only `run` takes a configuration")?;
    let mut arguments = vec![OsString::from("aero"), OsString::from("run")];
    for (key, value) in &table {
        let id = key.replace('-', "_");
        let known = Cli::command()
            .find_subcommand("run")
            .is_some_and(|run| run.get_arguments().any(|a| a.get_id() == &*id));
        if !known || id == "config" {
            bail!("{name}: `{key}` is not an option; `aero run --help` lists them");
        }
        if let (toml::Value::Boolean(on), true) = (value, is_switch(&id)) {
            arguments.extend(on.then(|| format!("--{key}").into()));
        } else if given.value_source(&id) != Some(ValueSource::CommandLine) {
            for value in texts(value).with_context(|| format!("{name}: `{key}` must be text or a number"))? {
                arguments.push(format!("--{key}={value}").into());
            }
        }
    }
    arguments.extend(line.into_iter().skip(2));
    let matches =
        Cli::command().try_get_matches_from(arguments).map_err(|e| anyhow!("{name}: {}", first_line(&e)))?;
    match Cli::from_arg_matches(&matches)?.command {
        Command::Run(args) => Ok(*args),
        Command::Bench(_) | Command::CpuTest(_) => unreachable!("the arguments begin with run"),
    }
}

/// Whether an option takes no value.
fn is_switch(id: &str) -> bool {
    let command = Cli::command();
    let run = command.find_subcommand("run");
    let argument = run.and_then(|run| run.get_arguments().find(|a| a.get_id() == id));
    argument.is_some_and(|a| !a.get_action().takes_values())
}

/// The values of a TOML entry as arguments; a list repeats the option. `None` for tables and the like.
fn texts(value: &toml::Value) -> Option<Vec<String>> {
    Some(match value {
        toml::Value::String(text) => vec![text.clone()],
        toml::Value::Integer(number) => vec![number.to_string()],
        toml::Value::Float(number) => vec![number.to_string()],
        toml::Value::Datetime(date) => vec![date.to_string()],
        toml::Value::Array(all) => all.iter().map(texts).collect::<Option<Vec<_>>>()?.concat(),
        toml::Value::Boolean(_) | toml::Value::Table(_) => return None,
    })
}

fn one_line(error: &toml::de::Error) -> String {
    error.message().replace('\n', "; ")
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or("bad usage");
    line.trim_start_matches("error: ").to_owned()
}

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected a number of bytes, or one with K, M or G, such as 512M".to_owned();
        let (digits, shift) = match text.chars().last().map(|c| c.to_ascii_uppercase()) {
            Some('K') => (&text[..text.len() - 1], 10),
            Some('M') => (&text[..text.len() - 1], 20),
            Some('G') => (&text[..text.len() - 1], 30),
            _ => (text, 0),
        };
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(expected());
        }
        let number: u64 = digits.parse().map_err(|_| expected())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(|| "more bytes than any machine has".to_owned())
    }
}

/// Where guest time comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clock {
    /// The host's clock.
    Realtime,
    /// The number of instructions.
    Icount {
        /// Millions of instructions in a second of guest time.
        mips: u32,
    },
}

impl FromStr for Clock {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const DEFAULT_MIPS: u32 = 100;
        match text.split_once('=') {
            None if text == "realtime" => Ok(Self::Realtime),
            None if text == "icount" => Ok(Self::Icount { mips: DEFAULT_MIPS }),
            Some(("icount", mips)) => match mips.parse() {
                Ok(mips @ 1..=100_000) => Ok(Self::Icount { mips }),
                _ => Err("expected 1 to 100000 million instructions per second".to_owned()),
            },
            _ => Err("expected realtime or icount[=MIPS]".to_owned()),
        }
    }
}

/// What the clock chip shows at the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rtc {
    /// The host's time in UTC.
    Utc,
    /// The host's local time.
    Local,
    /// A fixed time, seconds since 1970.
    At(u64),
}

impl FromStr for Rtc {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "utc" => return Ok(Self::Utc),
            "local" => return Ok(Self::Local),
            _ => {}
        }
        let expected =
            || "expected utc, local, or a date from 1970 on such as 2026-01-31T12:00:00".to_owned();
        let date: jiff::civil::DateTime = text.parse().map_err(|_| expected())?;
        let zoned = date.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| expected())?;
        u64::try_from(zoned.timestamp().as_second()).map(Self::At).map_err(|_| expected())
    }
}

/// The graphics card.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Vga {
    /// A VGA
    Std,
    /// No card
    None,
}

/// Where the screen is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Display {
    /// Nowhere
    None,
}

/// Where the first serial port goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Serial {
    /// Standard input and output.
    Stdio,
    /// Nowhere.
    None,
    /// Output into a file.
    File(PathBuf),
}

impl FromStr for Serial {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("file:")) {
            ("stdio", _) => Ok(Self::Stdio),
            ("none", _) => Ok(Self::None),
            (_, Some(file)) if !file.is_empty() => Ok(Self::File(file.into())),
            _ => Err("expected stdio, none or file:FILE".to_owned()),
        }
    }
}

/// Where bytes go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sink {
    /// Standard output.
    Stdio,
    /// A file, made anew.
    File(PathBuf),
}

/// One `--debugcon`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Debugcon {
    pub port: u16,
    pub to: Sink,
}

impl FromStr for Debugcon {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const DEFAULT_PORT: u16 = 0x402;
        let (port, to) = match text.split_once('=') {
            Some((number, to)) if number.starts_with(|c: char| c.is_ascii_digit()) => (port(number)?, to),
            _ => (DEFAULT_PORT, text),
        };
        match to {
            "" => Err("expected [PORT=]FILE or [PORT=]stdio".to_owned()),
            "stdio" => Ok(Self { port, to: Sink::Stdio }),
            file => Ok(Self { port, to: Sink::File(file.into()) }),
        }
    }
}

fn cpus(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(1) => Ok(1),
        Ok(2..) => Err("this machine has one processor so far; give --cpus 1 or leave it out".to_owned()),
        _ => Err("expected a number of processors; there is 1 so far".to_owned()),
    }
}

fn port(text: &str) -> Result<u16, String> {
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u16::from_str_radix(hex, 16),
        None => text.parse(),
    };
    number.map_err(|_| "expected a port from 0 to 65535, such as 0xf4".to_owned())
}

/// A number of seconds, with or without a fraction.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|_| "expected a number of seconds, 0 or more".to_owned())
}

/// A picture to take.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Screenshot {
    /// The PNG file.
    pub file: PathBuf,
    /// When; at the end of the run if `None`.
    pub at: Option<Duration>,
}

impl FromStr for Screenshot {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let timed = text.rsplit_once('@').and_then(|(file, at)| Some((file, seconds(at).ok()?)));
        let (file, at) = timed.map_or((text, None), |(file, at)| (file, Some(at)));
        if file.is_empty() {
            return Err("expected FILE or FILE@SECS".to_owned());
        }
        Ok(Self { file: file.into(), at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aero_machine::JitTier;

    fn parse(line: &[&str]) -> anyhow::Result<RunOptions> {
        let line: Vec<OsString> = ["aero", "run"].iter().chain(line).map(OsString::from).collect();
        let Command::Run(args) = Cli::try_parse_from(&line)?.command else { panic!("not run") };
        args.resolve(line.into_iter())
    }

    #[test]
    fn command_line_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn machine_has_a_switch_for_the_hypervisor_interface() {
        let hyperv = |text: &str| parse(&["--kernel", "k", "--machine", text]).map(|o| o.hyperv).ok();
        assert_eq!(["win7", "win7,hv=on", "win7,hv=off"].map(hyperv), [Some(false), Some(true), Some(false)]);
        assert_eq!(["pc", "win7,hv", ""].map(hyperv), [None; 3]);
        let hpet = |text: &str| parse(&["--kernel", "k", "--machine", text]).map(|o| o.hpet).ok();
        assert_eq!(["win7", "win7,hv=on,hpet=on", "win7,hpet"].map(hpet), [Some(false), Some(true), None]);
    }

    #[test]
    fn code_is_compiled_unless_told_otherwise() {
        let jit = |line: &[&str]| parse(&[&["--kernel", "k"], line].concat()).map(|o| o.jit);
        assert_eq!(jit(&[]).ok(), Some(JitConfig::default()));
        let baseline = JitConfig { tier: JitTier::Baseline, threshold: Some(9), exact: false };
        assert_eq!(jit(&["--jit", "baseline,threshold=9"]).ok(), Some(baseline));
        assert!(jit(&["--max-insns", "5"]).is_ok_and(|jit| jit.exact));
        let error = jit(&["--jit", "on"]).expect_err("no such way").to_string();
        assert!(error.contains("--jit") && error.contains("off, baseline and full"), "{error}");
    }

    #[test]
    fn sizes_take_k_m_and_g() {
        let bytes = |text: &str| text.parse::<Size>().map(|s| s.0).ok();
        assert_eq!(
            ["4096", "64K", "512m", "2G"].map(bytes),
            [Some(4096), Some(65536), Some(512 << 20), Some(2 << 30)]
        );
        assert_eq!(["", "G", "-1", "+1", "1T", "1.5G", "99999999999G"].map(bytes), [None; 7]);
    }

    #[test]
    fn clocks_and_dates_are_understood() {
        assert_eq!("icount=250".parse(), Ok(Clock::Icount { mips: 250 }));
        assert_eq!("icount".parse(), Ok(Clock::Icount { mips: 100 }));
        assert!("icount=0".parse::<Clock>().is_err() && "fast".parse::<Clock>().is_err());
        assert_eq!("2026-01-01".parse(), Ok(Rtc::At(REPEATABLE_RTC)));
        assert_eq!("1970-01-01T00:01:00".parse(), Ok(Rtc::At(60)));
        assert!("yesterday".parse::<Rtc>().is_err() && "1969-12-31".parse::<Rtc>().is_err());
    }

    #[test]
    fn files_with_ports_and_times_are_split() {
        let debug = |text: &str| text.parse::<Debugcon>().map(|d| (d.port, d.to));
        assert_eq!(debug("0xe9=stdio"), Ok((0xe9, Sink::Stdio)));
        assert_eq!(debug("a=b.log"), Ok((0x402, Sink::File("a=b.log".into()))));
        assert!(debug("99999=x").is_err() && debug("").is_err());
        let shot: Screenshot = "me@home.png@2.5".parse().expect("a file and a time");
        assert_eq!((shot.file, shot.at), ("me@home.png".into(), Some(Duration::from_millis(2500))));
        assert_eq!("x@y.png".parse::<Screenshot>().map(|s| s.at), Ok(None));
    }

    #[test]
    fn repeatable_clock_starts_at_a_fixed_date() {
        let options = parse(&["--kernel", "k", "--clock", "icount"]).expect("good options");
        assert_eq!(options.rtc, Rtc::At(REPEATABLE_RTC));
        assert_eq!(parse(&["--kernel", "k"]).expect("good options").rtc, Rtc::Utc);
    }

    #[test]
    fn debug_consoles_may_have_ports_of_their_own() {
        let consoles = ["--debugcon", "a", "--debugcon", "0xe9=b", "--debugcon", "stdio"];
        let options = parse(&[&["--kernel", "k"], &consoles[..]].concat()).expect("two ports");
        assert_eq!((options.debugcon_ports(), options.debugcon.len()), (vec![0x402, 0xe9], 3));
        let error = parse(&["--kernel", "k", "--debugcon", "0xf4=a", "--testdev"])
            .expect_err("one port, two devices");
        assert!(error.to_string().contains("0xf4"), "{error}");
    }

    #[test]
    fn firmware_takes_the_place_of_a_kernel() {
        let firmware = parse(&["--firmware", "rom"]).expect("good options").boot;
        assert_eq!(firmware, What::Firmware(Some("rom".into())));
        for line in [
            &["--firmware", "rom", "--kernel", "k"][..],
            &["--firmware", "rom", "--initrd", "i"],
            &["--firmware", "rom", "--append", "x"],
            &["--kernel", "k", "--cpus", "2"],
        ] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn test_device_has_an_exit_port_unless_another_is_given() {
        let exit =
            |line: &[&str]| parse(&[&["--kernel", "k"], line].concat()).expect("good options").debug_exit;
        assert_eq!(exit(&["--testdev"]), Some(0xf4));
        assert_eq!(exit(&["--testdev", "--debug-exit", "0x501"]), Some(0x501));
        assert_eq!(exit(&[]), None);
    }

    fn config(text: &str, line: &[&str]) -> anyhow::Result<RunOptions> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("vm.toml");
        std::fs::write(&file, text).expect("a file");
        parse(&[&["--config", file.to_str().expect("a plain name")], line].concat())
    }

    #[test]
    fn configuration_fills_in_and_the_command_line_wins() {
        let text = "kernel = 'k'\nmemory = '256M'\ntimeout = 1.5\ndebug-exit = 0xf4\nexpect-serial = ['a', 'b']\ntestdev = true";
        let options = config(text, &["--memory", "64M", "--expect-serial", "c"]).expect("good options");
        let kernel = What::Kernel { file: "k".into(), initrd: None, append: String::new() };
        assert_eq!((options.boot, options.memory), (kernel, 64 << 20));
        assert_eq!((options.timeout, options.debug_exit), (Some(Duration::from_millis(1500)), Some(0xf4)));
        assert!(options.testdev);
        assert_eq!(options.expect_serial.iter().map(Regex::as_str).collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn bad_configuration_is_one_line_with_its_file() {
        for (text, part) in [
            ("kernal = 'k'", "`kernal` is not an option"),
            ("memory = 'much'", "memory"),
            ("kernel = ", "vm.toml"),
            ("memory = true", "must be text or a number"),
        ] {
            let error = format!("{:#}", config(text, &[]).expect_err("bad configuration"));
            assert!(error.contains("vm.toml") && error.contains(part) && !error.contains('\n'), "{error}");
        }
    }
}
