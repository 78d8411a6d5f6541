//! `cargo xtask test`: every test there is, as named steps.
//!
//! A step that fails does not stop those after it, so that one run tells all; only a failed set-up does, since
//! nothing can be expected to work without it.

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::boots;
use crate::build;
use crate::commands;
use crate::guests;
use crate::layers;
use crate::lint;
use crate::parity;
use crate::paths;
use crate::room;
use crate::serve;
use crate::setup::{self, Scope};
use crate::wasm::{self, Quality};

/// Crates whose tests are built as the task runner itself is: its dependencies are there then, and none is hot.
const TOOLS: [&str; 2] = ["xtask", "aero-gateway"];

#[derive(Debug, Default)]
struct Options {
    ignored_too: bool,
    filter: Option<String>,
}

struct Step {
    name: &'static str,
    run: fn(&Options) -> Result<()>,
    /// Nothing after it makes sense when it fails.
    vital: bool,
}

const STEPS: [Step; 14] = [
    Step { name: "room", run: |_| room::ensure(), vital: true },
    Step { name: "setup", run: |_| setup::ensure(Scope::Test), vital: true },
    Step { name: "format", run: |_| lint::format(), vital: false },
    Step { name: "layers", run: |_| lint::rules(), vital: false },
    Step { name: "clippy", run: |_| lint::clippy(), vital: false },
    Step { name: "rust", run: rust_tests, vital: false },
    Step { name: "tools", run: tool_tests, vital: false },
    Step { name: "guests", run: |_| guests::ensure(), vital: false },
    Step { name: "native", run: |_| build::native(Quality::Release), vital: false },
    Step { name: "boots", run: |_| boots::run(None).map(drop), vital: false },
    Step { name: "wasm", run: |_| browser_build(), vital: false },
    Step { name: "page", run: |_| build::page(Quality::Release), vital: false },
    Step { name: "web", run: |_| web_tests(), vital: false },
    Step { name: "e2e", run: |_| browser_tests(), vital: false },
];

/// `cargo xtask test [--all] [FILTER]`
///
/// # Errors
/// When an option is unknown or a step fails.
pub fn run(args: &[String]) -> Result<()> {
    let options = parse(args)?;
    let begun = Instant::now();
    let mut passed = 0;
    let mut failed = Vec::new();
    for step in STEPS.iter().filter(|step| is_wanted(step, &options)) {
        if take(step, &options) {
            passed += 1;
            continue;
        }
        failed.push(step.name);
        if step.vital {
            break;
        }
    }
    println!("\ntest: {:.0} s for the whole run", begun.elapsed().as_secs_f32());
    if !failed.is_empty() {
        println!("{passed} passed, {} failed", failed.len());
        bail!("these steps failed: {}", failed.join(", "));
    }
    println!("{passed} passed, 0 failed");
    Ok(())
}

fn take(step: &Step, options: &Options) -> bool {
    println!("\n=== {} ===", step.name);
    let begun = Instant::now();
    let outcome = (step.run)(options);
    let seconds = begun.elapsed().as_secs_f32();
    match &outcome {
        Ok(()) => println!("=== {}: ok in {seconds:.1} s ===", step.name),
        Err(error) => println!("=== {}: FAILED after {seconds:.1} s: {error:#} ===", step.name),
    }
    outcome.is_ok()
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options::default();
    for arg in args {
        match arg.as_str() {
            "--all" => options.ignored_too = true,
            option if option.starts_with('-') => bail!("unknown option {option}; there is --all"),
            filter if options.filter.is_none() => options.filter = Some(filter.to_owned()),
            more => bail!("one filter is enough, but there is also {more}"),
        }
    }
    Ok(options)
}

/// A filter that names steps picks those; any other picks Rust tests.
fn is_wanted(step: &Step, options: &Options) -> bool {
    let Some(filter) = &options.filter else { return true };
    if names_steps(filter) { step.name.contains(filter.as_str()) } else { step.name == "rust" }
}

fn names_steps(filter: &str) -> bool {
    STEPS.iter().any(|step| step.name.contains(filter))
}

fn rust_tests(options: &Options) -> Result<()> {
    let mut cargo = commands::cargo()?;
    cargo.args(["test", "--locked", "--workspace"]);
    for tool in TOOLS {
        cargo.args(["--exclude", tool]);
    }
    cargo.arg("--");
    if options.ignored_too {
        cargo.arg("--include-ignored");
    }
    cargo.args(options.filter.as_ref().filter(|filter| !names_steps(filter)));
    commands::run(&mut cargo)
}

fn tool_tests(_: &Options) -> Result<()> {
    let mut cargo = commands::cargo()?;
    cargo.args(["test", "--locked", "--profile", "xtask"]);
    for tool in TOOLS {
        cargo.args(["--package", tool]);
    }
    commands::run(&mut cargo)
}

/// Everything below the hosts builds for the browser; most of it is what the page's build needs anyway.
fn browser_build() -> Result<()> {
    let crates = layers::hostless()?;
    let names: Vec<_> = crates.iter().map(|package| package.name.as_str()).collect();
    wasm::compile(Quality::Release, &names)
}

fn web_tests() -> Result<()> {
    commands::run(&mut in_web(paths::npm_program("tsc"), &["--noEmit"]))?;
    commands::run(&mut in_web(paths::npm_program("vitest"), &["run"]))
}

fn browser_tests() -> Result<()> {
    let server = serve::page()?;
    let url = server.url()?;
    // It ends with this process.
    thread::spawn(move || {
        if let Err(error) = server.run() {
            eprintln!("error: {error}");
        }
    });
    let recording = parity::recording()?;
    let mut tests = in_web("npm".into(), &["run", "e2e"]);
    tests.env("AERO_URL", url).env("AERO_PARITY_OUT", &recording).env("AERO_PARITY_CLOCK", parity::CLOCK);
    commands::run(&mut tests)?;
    parity::check(&recording)
}

fn in_web(program: PathBuf, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(paths::web());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(args: &[&str]) -> Vec<&'static str> {
        let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
        let options = parse(&args).unwrap();
        STEPS.iter().filter(|step| is_wanted(step, &options)).map(|step| step.name).collect()
    }

    #[test]
    fn without_a_filter_every_step_runs() {
        assert_eq!(wanted(&["--all"]).len(), STEPS.len());
    }

    #[test]
    fn filter_picks_steps_by_name() {
        assert_eq!(wanted(&["e2e"]), ["e2e"]);
    }

    #[test]
    fn any_other_filter_is_for_rust_tests() {
        assert_eq!(wanted(&["reset_twice"]), ["rust"]);
    }
}
