//! The guest CPU throughput suite: how many instructions a second the machine runs, by kind of work.
//!
//! Each payload is a bare multiboot kernel of ours with no system around it: the figures are the processor's alone. It
//! runs one test a given number of times, writes what it computed to a debug console, and stops the machine by the
//! debug-exit port; letting the machine run on repeats it. Rust computes the same (`model`), and a payload whose result
//! differs is wrong, however fast it was.
//!
//! [`Suite`] is a state machine that a host steps, a browser's worker between two turns of its event loop: compiled
//! code arrives there by messages. Time that passes between steps is not counted, nor are warm-up runs. The host makes
//! the machines, because it alone can lend them an engine for compiled code.
//!
//! `guest_cpu/payload.asm` is the source; `payload32.hex` and `payload64.hex` are what nasm makes of it.

mod model;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::clock::WallClock;
use crate::config::{Boot, BuildError, ClockConfig, Config, CpuChoice, JitConfig, Kernel};
use crate::machine::{Exit, Machine};

const PAYLOAD32: &str = include_str!("guest_cpu/payload32.hex");
const PAYLOAD64: &str = include_str!("guest_cpu/payload64.hex");

/// Where a payload's image has the number of its test, and behind it the repetitions.
const ORDER_AT: usize = 32;

/// Guest instructions between two looks at the clock.
const STEP: u64 = 500_000;

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// Additions, rotations, products, shifts.
    Alu,
    /// Branches that follow a count.
    BranchPredictable,
    /// Branches that follow a random generator.
    BranchUnpredictable,
    /// Loads and stores through 64 KiB, one word after the other.
    MemorySequential,
    /// Loads and stores through 4 MiB, a page and a cache line apart.
    MemoryStrided,
    /// Calls and returns, two deep.
    CallReturn,
}

/// A test at a width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The name: `alu32`.
    pub name: &'static str,
    /// What it does.
    pub test: Test,
    /// 32: protected mode; 64: long mode. Both with paging.
    pub bits: u32,
}

const fn payload(name: &'static str, test: Test, bits: u32) -> Payload {
    Payload { name, test, bits }
}

/// All payloads.
pub const PAYLOADS: [Payload; 12] = [
    payload("alu32", Test::Alu, 32),
    payload("alu64", Test::Alu, 64),
    payload("branch_pred32", Test::BranchPredictable, 32),
    payload("branch_pred64", Test::BranchPredictable, 64),
    payload("branch_unpred32", Test::BranchUnpredictable, 32),
    payload("branch_unpred64", Test::BranchUnpredictable, 64),
    payload("mem_seq32", Test::MemorySequential, 32),
    payload("mem_seq64", Test::MemorySequential, 64),
    payload("mem_stride32", Test::MemoryStrided, 32),
    payload("mem_stride64", Test::MemoryStrided, 64),
    payload("call_ret32", Test::CallReturn, 32),
    payload("call_ret64", Test::CallReturn, 64),
];

impl Payload {
    /// The kernel that repeats the test `iterations` times a run.
    pub fn kernel(&self, iterations: u32) -> Kernel {
        let mut image = bytes(if self.bits == 64 { PAYLOAD64 } else { PAYLOAD32 });
        image[ORDER_AT..][..4].copy_from_slice(&(self.test as u32).to_le_bytes());
        image[ORDER_AT + 4..][..4].copy_from_slice(&iterations.to_le_bytes());
        Kernel { image, name: self.name.to_owned(), ..Kernel::default() }
    }

    /// What a run of it computes.
    pub fn checksum(&self, iterations: u32) -> u64 {
        model::checksum(self.test, self.bits, iterations)
    }
}

/// The bytes that hexadecimal text stands for; ours has nothing else in it.
fn bytes(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Names of payloads, or beginnings of names; all when empty.
    pub only: Vec<String>,
    /// Host seconds for each payload; a quarter more is spent to warm up.
    pub seconds: f64,
    /// Repetitions in a run.
    pub iterations: u32,
    /// The processor.
    pub cpu: CpuChoice,
    /// What becomes of code that runs often.
    pub jit: JitConfig,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            only: Vec::new(),
            seconds: 1.0,
            iterations: 200_000,
            cpu: CpuChoice::default(),
            jit: JitConfig::default(),
        }
    }
}

/// What a payload gave.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measurement {
    /// The payload's name.
    pub variant: &'static str,
    /// Repetitions in a run.
    pub iterations_per_run: u32,
    /// Runs that were not counted.
    pub warmup_runs: u32,
    /// Runs that were.
    pub measured_runs: u32,
    /// Guest instructions of the measured runs.
    pub instructions: u64,
    /// Host seconds of the measured runs.
    pub seconds: f64,
    /// Millions of instructions a second over all measured runs.
    pub mips: f64,
    /// The same of the fastest run.
    pub best_mips: f64,
    /// What every run has to compute, in hexadecimal.
    pub expected_checksum: String,
    /// What the last run computed, or the first that was wrong.
    pub observed_checksum: String,
}

impl Measurement {
    /// Whether every run computed what it has to.
    pub fn is_right(&self) -> bool {
        self.expected_checksum == self.observed_checksum
    }
}

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// No payload is called so.
    #[error("no payload's name begins with '{0}'; there are {known}", known = PAYLOADS.map(|p| p.name).join(", "))]
    Unknown(String),
    /// Nothing to repeat, or nothing to spend on it.
    #[error("a payload takes at least 1 iteration and a positive number of seconds, 3600 at most")]
    Nothing,
    /// The machine cannot be built.
    #[error("{0}")]
    Build(#[from] BuildError),
    /// A payload stopped otherwise than it should.
    #[error("{payload} stopped the machine: {exit:?}")]
    Stopped {
        /// Which.
        payload: &'static str,
        /// How.
        exit: Exit,
    },
}

/// The payloads that the options choose.
///
/// # Errors
/// When a name is unknown or the numbers mean nothing.
pub fn chosen(options: &Options) -> Result<Vec<Payload>, SuiteError> {
    if options.iterations == 0 || !(options.seconds > 0.0 && options.seconds <= 3600.0) {
        return Err(SuiteError::Nothing);
    }
    let named = |payload: &Payload, only: &String| payload.name.starts_with(only.as_str());
    if let Some(only) = options.only.iter().find(|only| !PAYLOADS.iter().any(|p| named(p, only))) {
        return Err(SuiteError::Unknown(only.clone()));
    }
    let wanted = |p: &Payload| options.only.is_empty() || options.only.iter().any(|only| named(p, only));
    Ok(PAYLOADS.into_iter().filter(wanted).collect())
}

/// Makes machines; a host lends each its engine, if it has one.
pub type Make<'a> = dyn FnMut(Config, Boot) -> Result<Machine, BuildError> + 'a;

/// The suite on its way.
pub struct Suite {
    options: Options,
    waiting: VecDeque<Payload>,
    current: Option<Trial>,
    done: Vec<Measurement>,
}

impl Suite {
    /// The suite before its first step.
    ///
    /// # Errors
    /// When a payload is unknown or the numbers mean nothing.
    pub fn new(options: Options) -> Result<Self, SuiteError> {
        let waiting = chosen(&options)?.into();
        Ok(Self { options, waiting, current: None, done: Vec::new() })
    }

    /// Goes on for about `limit_ns` of the host's time; true when everything is done.
    ///
    /// # Errors
    /// When a machine cannot be built or a payload goes astray.
    pub fn step(
        &mut self,
        clock: &mut dyn WallClock,
        limit_ns: u64,
        make: &mut Make<'_>,
    ) -> Result<bool, SuiteError> {
        if self.current.is_none() {
            let Some(payload) = self.waiting.pop_front() else { return Ok(true) };
            self.current = Some(Trial::new(payload, &self.options, make)?);
        }
        if let Some(trial) = &mut self.current
            && trial.step(clock, limit_ns)?
        {
            self.done.extend(self.current.take().map(Trial::measurement));
        }
        Ok(self.current.is_none() && self.waiting.is_empty())
    }

    /// What is done so far.
    pub fn measurements(&self) -> &[Measurement] {
        &self.done
    }
}

/// One payload in a machine of its own.
struct Trial {
    payload: Payload,
    machine: Machine,
    iterations: u32,
    expected: u64,
    /// Of each run, whether right or wrong the first wrong one stays.
    observed: u64,
    /// Nanoseconds to warm up, then to measure.
    warmup_ns: u64,
    measure_ns: u64,
    warm: Totals,
    measured: Totals,
    best_mips: f64,
    /// The run that is going on.
    run_ns: u64,
    run_from: u64,
}

/// Runs with what they took.
#[derive(Default)]
struct Totals {
    runs: u32,
    instructions: u64,
    ns: u64,
}

impl Totals {
    fn add(&mut self, instructions: u64, ns: u64) {
        self.runs += 1;
        self.instructions += instructions;
        self.ns += ns;
    }
}

impl Trial {
    fn new(payload: Payload, options: &Options, make: &mut Make<'_>) -> Result<Self, SuiteError> {
        let machine = make(config(options), Boot::Kernel(payload.kernel(options.iterations)))?;
        let expected = payload.checksum(options.iterations);
        let measure_ns = (options.seconds * 1e9) as u64;
        Ok(Self {
            payload,
            machine,
            iterations: options.iterations,
            expected,
            observed: expected,
            warmup_ns: measure_ns / 4,
            measure_ns,
            warm: Totals::default(),
            measured: Totals::default(),
            best_mips: 0.0,
            run_ns: 0,
            run_from: 0,
        })
    }

    /// Goes on for a while; true when enough was measured.
    fn step(&mut self, clock: &mut dyn WallClock, limit_ns: u64) -> Result<bool, SuiteError> {
        let begun = clock.now_ns();
        let mut before = begun;
        loop {
            let exit = self.machine.run(STEP);
            let now = clock.now_ns();
            self.run_ns += now.saturating_sub(before);
            before = now;
            match exit {
                Exit::Budget => {}
                Exit::DebugExit(_) => self.end_run(),
                exit => return Err(SuiteError::Stopped { payload: self.payload.name, exit }),
            }
            if self.measured.ns >= self.measure_ns {
                return Ok(true);
            }
            if now.saturating_sub(begun) >= limit_ns {
                return Ok(false);
            }
        }
    }

    /// A run has ended: the first one also filled the memory, and none counts before the machine is warm.
    fn end_run(&mut self) {
        let result = self.machine.take_debugcon(0);
        let observed = result.iter().rev().fold(0, |value: u64, byte| value << 8 | u64::from(*byte));
        if self.observed == self.expected {
            self.observed = observed;
        }
        let retired = self.machine.retired();
        let instructions = retired - self.run_from;
        if self.warm.runs == 0 || self.warm.ns < self.warmup_ns {
            self.warm.add(instructions, self.run_ns);
        } else {
            self.measured.add(instructions, self.run_ns);
            self.best_mips = self.best_mips.max(mips(instructions, self.run_ns));
        }
        self.run_ns = 0;
        self.run_from = retired;
    }

    fn measurement(self) -> Measurement {
        let digits = self.payload.bits as usize / 4;
        Measurement {
            variant: self.payload.name,
            iterations_per_run: self.iterations,
            warmup_runs: self.warm.runs,
            measured_runs: self.measured.runs,
            instructions: self.measured.instructions,
            seconds: self.measured.ns as f64 / 1e9,
            mips: mips(self.measured.instructions, self.measured.ns),
            best_mips: self.best_mips,
            expected_checksum: format!("{:0digits$x}", self.expected),
            observed_checksum: format!("{:0digits$x}", self.observed),
        }
    }
}

fn mips(instructions: u64, ns: u64) -> f64 {
    instructions as f64 * 1e3 / ns.max(1) as f64
}

/// A machine with nothing that a payload does not use.
fn config(options: &Options) -> Config {
    Config {
        memory: 16 << 20,
        cpu: options.cpu.clone(),
        jit: options.jit,
        clock: ClockConfig::Realtime,
        debug_exit: Some(0xF4),
        debugcon: vec![0xE9],
        vga: false,
        ..Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::JitTier;
    use std::path::Path;
    use std::process::Command;

    /// A clock that goes on by a microsecond at every look.
    struct Ticking(u64);

    impl WallClock for Ticking {
        fn now_ns(&mut self) -> u64 {
            self.0 += 1_000;
            self.0
        }
    }

    fn interpreted(config: Config, boot: Boot) -> Result<Machine, BuildError> {
        Machine::new(config, boot, Box::new(Ticking(0)))
    }

    fn options(iterations: u32) -> Options {
        let jit = JitConfig { tier: JitTier::Off, ..JitConfig::default() };
        Options { iterations, seconds: 1e-5, jit, ..Options::default() }
    }

    fn run(options: Options) -> Result<Vec<Measurement>, SuiteError> {
        let mut suite = Suite::new(options)?;
        while !suite.step(&mut Ticking(0), 1_000_000, &mut interpreted)? {}
        Ok(suite.measurements().to_vec())
    }

    #[test]
    fn every_payload_computes_what_the_model_says() {
        // Enough to go around in the memory tests' 64 KiB and 4 MiB.
        for iterations in [1, 20_000] {
            let measured = run(options(iterations)).expect("every payload runs");
            assert_eq!(measured.len(), PAYLOADS.len());
            for m in &measured {
                assert_eq!(m.observed_checksum, m.expected_checksum, "{} of {iterations}", m.variant);
                assert!(m.warmup_runs > 0 && m.measured_runs > 0 && m.mips > 0.0, "{m:?}");
                assert!(m.instructions >= u64::from(m.measured_runs) * u64::from(iterations) * 5, "{m:?}");
            }
        }
    }

    #[test]
    fn checksums_depend_on_test_width_and_iterations() {
        let all: Vec<u64> = PAYLOADS.iter().flat_map(|p| [p.checksum(70_000), p.checksum(70_001)]).collect();
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
    }

    #[test]
    fn wrong_result_is_kept_and_told() {
        let wrong = |config, boot| {
            let Boot::Kernel(mut kernel) = boot else { panic!("a payload is a kernel") };
            kernel.image[ORDER_AT + 4] ^= 1; // other repetitions than the model knows of
            interpreted(config, Boot::Kernel(kernel))
        };
        let mut suite =
            Suite::new(Options { only: vec!["alu32".to_owned()], ..options(50) }).expect("a suite");
        while !suite.step(&mut Ticking(0), 1_000_000, &mut { wrong }).expect("it runs") {}
        assert!(!suite.measurements()[0].is_right());
    }

    #[test]
    fn names_choose_by_their_beginning() {
        let only = vec!["branch_pred".to_owned(), "alu64".to_owned()];
        let names: Vec<_> = run(Options { only, ..options(10) }).unwrap().iter().map(|m| m.variant).collect();
        assert_eq!(names, ["alu64", "branch_pred32", "branch_pred64"]);
        let error = Suite::new(Options { only: vec!["fpu".to_owned()], ..options(10) }).err().unwrap();
        assert!(error.to_string().contains("'fpu'"), "{error}");
        assert!(Suite::new(options(0)).is_err());
    }

    #[test]
    fn payloads_are_what_the_source_assembles_to() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/guest_cpu");
        for (bits, kept) in [(32, PAYLOAD32), (64, PAYLOAD64)] {
            let made = assembled(&folder, bits);
            let text: Vec<String> = made.chunks(32).map(hex_line).collect();
            let text = text.join("\n") + "\n";
            if std::env::var_os("AERO_BLESS").is_some() {
                std::fs::write(folder.join(format!("payload{bits}.hex")), &text).expect("a file");
            } else {
                assert_eq!(text, kept, "payload{bits}.hex is old: run this test with AERO_BLESS=1");
            }
        }
    }

    fn hex_line(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn assembled(folder: &Path, bits: u32) -> Vec<u8> {
        let to = std::env::temp_dir().join(format!("aero-payload-{}-{bits}", std::process::id()));
        let mut nasm = Command::new("nasm");
        nasm.args(["-f", "bin", "-D", &format!("BITS={bits}"), "-o"])
            .arg(&to)
            .arg(folder.join("payload.asm"));
        let output = nasm.output().expect("nasm is there: cargo xtask setup installs it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let made = std::fs::read(&to).expect("what nasm made");
        std::fs::remove_file(&to).expect("a file of ours");
        made
    }
}
