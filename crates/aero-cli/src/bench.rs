//! `aero bench guest-cpu`: the suite of `aero_machine::guest_cpu` in a terminal.

use crate::host::HostClock;
use crate::options::CpuOption;
use crate::runner;
use aero_machine::guest_cpu::{Measurement, Options, Suite};
use aero_machine::{Boot, BuildError, Config, JitConfig, Machine};
use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What to measure.
#[derive(Subcommand)]
pub enum Bench {
    /// Guest instructions a second, by kind of work: programs for the bare machine whose results are checked
    GuestCpu(GuestCpu),
}

/// The arguments of `aero bench guest-cpu`.
#[derive(Args)]
pub struct GuestCpu {
    /// Programs, or beginnings of their names (alu, branch_pred, branch_unpred, mem_seq, mem_stride, call_ret, each
    /// with 32 or 64 behind it) [default: all]
    #[arg(value_name = "NAME")]
    only: Vec<String>,
    /// Host seconds for each program
    #[arg(long, value_name = "SECS", default_value = "1")]
    seconds: f64,
    /// Repetitions between two looks at a program's result
    #[arg(long, value_name = "N", default_value = "200000")]
    iterations: u32,
    /// Processor model, as for aero run
    #[arg(long, value_name = "MODEL[,strict-msr]", default_value = "win7")]
    cpu: CpuOption,
    /// What becomes of code that runs often, as for aero run
    #[arg(long, value_name = "HOW[,threshold=N]", default_value = "full")]
    jit: JitConfig,
    /// Write the figures as JSON to FILE as well, or in place of the table to standard output: -
    #[arg(long, value_name = "FILE|-")]
    json: Option<PathBuf>,
}

impl Bench {
    /// Measures and prints; false if a program computed something wrong.
    ///
    /// # Errors
    /// When there is no such program, no machine can be built, or a file cannot be written.
    pub fn run(self) -> anyhow::Result<bool> {
        let Bench::GuestCpu(what) = self;
        let options = Options {
            only: what.only,
            seconds: what.seconds,
            iterations: what.iterations,
            cpu: what.cpu.0,
            jit: what.jit,
        };
        let measured = measure(options.clone())?;
        let document = || json!({ "options": options, "measurements": measured });
        match what.json {
            Some(file) if file == Path::new("-") => println!("{:#}", document()),
            Some(file) => {
                print!("{}", table(&measured));
                let text = format!("{:#}\n", document());
                std::fs::write(&file, text).with_context(|| format!("--json {}", file.display()))?;
            }
            None => print!("{}", table(&measured)),
        }
        Ok(measured.iter().all(Measurement::is_right))
    }
}

fn measure(options: Options) -> anyhow::Result<Vec<Measurement>> {
    let mut suite = Suite::new(options)?;
    let mut clock = HostClock(Instant::now());
    while !suite.step(&mut clock, u64::MAX, &mut machine)? {}
    Ok(suite.measurements().to_vec())
}

fn machine(config: Config, boot: Boot) -> Result<Machine, BuildError> {
    let engine = runner::engine(&config, &boot);
    Machine::with_engine(config, boot, Box::new(HostClock(Instant::now())), engine)
}

fn table(measured: &[Measurement]) -> String {
    let head = format!("{:<16} {:>9} {:>9} {:>8}  checksum\n", "program", "MIPS", "best", "runs");
    let rows = measured.iter().map(|m| {
        let verdict = if m.is_right() { "" } else { " WRONG, expected " };
        let expected = if m.is_right() { "" } else { &m.expected_checksum };
        let numbers =
            format!("{:<16} {:>9.1} {:>9.1} {:>8}", m.variant, m.mips, m.best_mips, m.measured_runs);
        format!("{numbers}  {}{verdict}{expected}\n", m.observed_checksum)
    });
    head + &rows.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aero_machine::JitTier;

    fn options() -> Options {
        let jit = JitConfig { tier: JitTier::Off, ..JitConfig::default() };
        Options { only: vec!["alu".to_owned()], seconds: 0.001, iterations: 500, jit, ..Options::default() }
    }

    #[test]
    fn programs_run_at_both_widths_with_right_results() {
        let measured = measure(options()).expect("the programs run");
        let names: Vec<_> = measured.iter().map(|m| (m.variant, m.is_right())).collect();
        assert_eq!(names, [("alu32", true), ("alu64", true)]);
        assert_eq!(table(&measured).lines().count(), 3);
    }

    #[test]
    fn wrong_result_is_said_in_the_table() {
        let mut measured = measure(options()).expect("the programs run");
        measured[0].observed_checksum = "0bad0bad".to_owned();
        assert!(table(&measured).contains("0bad0bad WRONG, expected "));
    }
}
