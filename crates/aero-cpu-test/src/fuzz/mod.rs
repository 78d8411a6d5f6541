//! `aero cpu-test fuzz`: random instructions with random operands on this interpreter and on the host's processor.
//!
//! | module | is |
//! |---|---|
//! | [`forms`] | the instruction forms, from the decoder's opcode tables |
//! | [`generate`], [`raw`], [`values`] | cases: well-formed ones, damaged ones, interesting operands |
//! | [`native`] | the host's side: a trampoline, signals as the way out |
//! | [`ours`] | Aero's side: the same addresses, selectors and descriptors |
//! | [`compare`], [`listed`] | what differs, and what may |
//! | [`shrink`], [`text`] | a failing case made small, as a file |
//! | [`campaign`], [`report`] | many cases in child processes, and what is printed |
//!
//! A case is one instruction: bytes, registers, a few patches of memory. Both sides begin with the same state, run it,
//! and are compared completely: registers, flags, x87, SSE and AVX state, memory, and the exception with error code
//! and address if one came up. Nothing is known about what any instruction should do: the host's processor is the
//! authority, and [`listed`] holds the few places where it may not be one.

mod bench;
mod campaign;
mod case;
mod compare;
mod forms;
mod generate;
mod layout;
mod listed;
mod native;
mod ours;
mod raw;
mod report;
mod shrink;
#[cfg(test)]
mod tests;
mod text;
mod values;

use crate::processor::Maker;
use aero_machine::JitConfig;
use campaign::Plan;
use case::Mode;
use std::path::PathBuf;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// Where the random numbers begin
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many cases
    #[arg(long, default_value_t = 1_000_000)]
    pub cases: u64,
    /// Begin with this case
    #[arg(long, default_value_t = 0)]
    pub first: u64,
    /// Processes that share the work
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=256))]
    pub jobs: u64,
    /// Code size, 16, 32 or 64; can be given several times
    #[arg(long, value_parser = mode)]
    pub mode: Vec<Mode>,
    /// Only forms whose name matches this expression
    #[arg(long, value_name = "REGEX")]
    pub form: Option<regex::Regex>,
    /// Run the case in this file instead, and print both ends
    #[arg(long, value_name = "FILE")]
    pub replay: Option<PathBuf>,
    /// Write failing cases, shrunk, into this folder
    #[arg(long, value_name = "DIR")]
    pub save: Option<PathBuf>,
    /// Print how often each form ran
    #[arg(long)]
    pub coverage: bool,
    /// Compile code as aero run does; full,threshold=1 compiles all of it
    #[arg(long, value_name = "HOW[,threshold=N]", default_value = "off")]
    pub jit: JitConfig,
    /// Print the list of allowed differences, and nothing else
    #[arg(long)]
    pub list_exceptions: bool,
}

fn mode(text: &str) -> Result<Mode, String> {
    text.parse().ok().and_then(Mode::of_bits).ok_or_else(|| "16, 32 or 64".to_owned())
}

/// Runs it; `false` if there was a difference that is not listed.
///
/// # Errors
/// When the host refuses a mapping, a file cannot be read or written, or the harness dies.
pub fn run(args: &Args, maker: Maker) -> anyhow::Result<bool> {
    if args.list_exceptions {
        report::exceptions(None);
        return Ok(true);
    }
    if let Some(path) = &args.replay {
        let case = text::read(&std::fs::read_to_string(path)?)?;
        let (text, fails) = campaign::replay(&case, maker)?;
        print!("{text}");
        println!("{}", if fails { "FAILED" } else { "passed" });
        return Ok(!fails);
    }
    let modes = if args.mode.is_empty() { vec![Mode::B16, Mode::B32, Mode::B64] } else { args.mode.clone() };
    let plan = Plan {
        seed: args.seed,
        first: args.first,
        cases: args.cases,
        jobs: args.jobs,
        modes,
        filter: args.form.clone(),
        maker,
    };
    let start = std::time::Instant::now();
    let found = campaign::run(&plan)?;
    report::print(&plan, &found, start.elapsed(), args.coverage);
    if let Some(folder) = &args.save {
        report::save(folder, &found)?;
    }
    Ok(found.failures.is_empty())
}
