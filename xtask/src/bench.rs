//! `cargo xtask bench`: Aero's speed beside that of other emulators, on this machine, in one run.
//!
//! ```text
//! cargo xtask bench cpu|smc|boot|cold [--quick] [--browser] [--only x64|i386] [--machines LIST]
//!                                     [--cpu MODEL] [--jit MODE] [--set LIST] [--rounds N]
//! ```
//!
//! The same guest (`guest-bench` under Debian's kernel) runs in every emulator. `bench/README.md` says how and why.

mod boot;
mod cold;
mod cputime;
mod goals;
pub mod kit;
mod machines;
mod options;
mod ratios;
mod report;
mod rounds;
mod session;
mod turns;

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use serde::Serialize;

use crate::guests::{self, cache, write_whole};
use options::{Options, Task};
use report::Report;

/// `cargo xtask bench …`
///
/// # Errors
/// When the arguments are wrong, Aero is not built, a peer cannot be had, a guest does not come to its end, or results
/// disagree.
pub fn run(args: &[String]) -> Result<()> {
    let options = Options::parse(args)?;
    guests::ensure_named(&options.guests)?;
    let report = match options.task {
        Task::Cpu | Task::Smc => {
            let report = rounds::kits(&options)?;
            println!("{}", report.markdown());
            save(if options.task == Task::Cpu { "cpu" } else { "smc" }, &report.full())?;
            report
        }
        Task::Cold => {
            let report = rounds::cold(&options)?;
            println!("{}", cold::markdown(&report));
            save("cold", &report)?;
            report
        }
        Task::Boot => {
            let report = boot::measure(&options)?;
            println!("{}", boot::markdown(&report));
            save("boot", &BootFile { report: &report, goals: boot::goals(&report) })?;
            report
        }
    };
    verdict(&report)
}

#[derive(Serialize)]
struct BootFile<'a> {
    #[serde(flatten)]
    report: &'a Report,
    goals: Vec<goals::Row>,
}

fn verdict(report: &Report) -> Result<()> {
    let wrong = [report.disagreements(), report.unfinished()].concat();
    if !wrong.is_empty() {
        bail!("{}", wrong.join("; "));
    }
    Ok(())
}

/// Keeps the figures as JSON: under their time, and the last ones under the bench's name alone.
fn save(name: &str, figures: &impl Serialize) -> Result<()> {
    let folder = cache()?.join("bench");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let text = serde_json::to_string_pretty(figures)?;
    write_whole(&folder.join(format!("{name}-{now}.json")), text.as_bytes())?;
    let last = folder.join(format!("{name}.json"));
    write_whole(&last, text.as_bytes())?;
    println!("bench: figures are in {}", last.display());
    Ok(())
}
