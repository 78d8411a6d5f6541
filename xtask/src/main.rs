//! The project's tasks: `cargo xtask <task>`.
//!
//! Everything that a person or CI does with this repository is a task here, so that both do the same. Tasks install
//! what they miss (`setup`), keep everything heavy outside the repository (`paths`), and end with one clear line.

mod bench;
mod boots;
mod build;
mod checklist;
mod commands;
mod fuzz;
mod guests;
mod layers;
mod lint;
mod parity;
mod paths;
mod room;
mod serve;
mod setup;
mod sources;
mod test;
mod toolchain;
mod wasm;

use std::process::ExitCode;

use anyhow::Result;

const USAGE: &str = "\
usage: cargo xtask <task>

  run     set up what is missing, build, serve the page and say its address
            [--port N]
  test    set up what is missing and run every test
            [--all]    ignored tests too
            [FILTER]   only the steps with this in their names, or else Rust tests with it in theirs
  setup   install what is missing
            [--no-install | --offline]   only say what is missing, and fail
  build   the program `aero` and the page
            [--debug]  quicker to build, slower to run
            [--native | --web]   only one of the two
  serve   serve the page that was built
            [--port N] [--root DIR]
  lint    formatting, clippy, and the rules about layers
  guests  build the Linux guests              [NAME...]
  bench   measure Aero beside other emulators (see bench/README.md)
  gen     write a generated file again        checklist
  fuzz    arbitrary bytes as programs under libFuzzer    cpu [--seconds N]
  ci      what CI runs: test
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let task = args.next().unwrap_or_default();
    let args: Vec<String> = args.collect();
    let Some(outcome) = dispatch(&task, &args) else {
        eprint!("{USAGE}");
        return ExitCode::from(if matches!(task.as_str(), "help" | "--help" | "-h") { 0 } else { 2 });
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {task}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the task, or gives nothing when there is no such task.
fn dispatch(task: &str, args: &[String]) -> Option<Result<()>> {
    Some(match task {
        "run" => serve::run_page(args),
        "test" | "ci" => test::run(args),
        "setup" => setup::run(args),
        "build" => build::run(args),
        "serve" => serve::run(args),
        "lint" => lint::run(args),
        "guests" => guests::run(args),
        "bench" => bench::run(args),
        "fuzz" => fuzz::run(args),
        "gen" => checklist::generate(args),
        _ => return None,
    })
}
