//! `aero`, the emulator in a terminal.
//!
//! [`options`] turns the command line and a configuration file into one [`options::RunOptions`]. [`runner`]
//! owns the machine and loops: run a slice, print what the guest sent to its serial port, feed it what was
//! typed, let the [`script`] and the [`expect`]ations look at what is there, and sleep while the guest has
//! nothing to do. Everything that a user can get wrong ends in one line that names the option and the file,
//! and in exit status 2.

mod bench;
mod disk;
mod expect;
mod firmware;
mod host;
mod options;
mod runner;
mod screenshot;
mod script;
mod stats;
mod terminal;

use clap::Parser as _;
use std::process::ExitCode;

/// Exit status for bad usage and unreadable files.
const BAD_USAGE: u8 = 2;

fn main() -> ExitCode {
    terminal::restore_on_panic();
    let cli = match options::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let done = match cli.command {
        options::Command::Run(args) => {
            args.resolve(std::env::args_os()).and_then(|options| runner::run(&options))
        }
        options::Command::Bench(bench) => bench.run().map(|right| u8::from(!right)),
        options::Command::CpuTest(test) => test.run(runner::test_engine).map(|same| u8::from(!same)),
    };
    match done {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("aero: {error:#}");
            ExitCode::from(BAD_USAGE)
        }
    }
}

/// Help and version as they are; a mistake in one line, like every other.
fn usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if asked || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // Printing fails only when nobody reads.
        let _ = error.print();
        return if asked { ExitCode::SUCCESS } else { ExitCode::from(BAD_USAGE) };
    }
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("Usage:"));
    let told: Vec<&str> = lines.filter(|l| !l.starts_with("For more information") && *l != "^").collect();
    let told = told.join(" ");
    eprintln!("aero: {}; see aero run --help", told.trim_start_matches("error: "));
    ExitCode::from(BAD_USAGE)
}
