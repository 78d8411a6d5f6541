//! `cargo xtask fuzz cpu`: libFuzzer on the processor.
//!
//! ```text
//! cargo xtask fuzz cpu [--seconds N]
//! ```
//!
//! cargo-fuzz is installed where the other tools are, beside the guests; the corpus and what broke stay there too. The
//! compiler must be a nightly one, for the instrumentation.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::{commands, paths};

const USAGE: &str = "usage: cargo xtask fuzz cpu [--seconds N]";
/// The version of cargo-fuzz that this was written for.
const VERSION: &str = "0.13.2";
/// What a run takes unless it is told otherwise.
const SECONDS: u32 = 600;

/// `cargo xtask fuzz …`
///
/// # Errors
/// When the arguments are wrong, a tool cannot be had, or an input breaks the processor.
pub fn run(args: &[String]) -> Result<()> {
    let seconds = parse(args)?;
    let tool = installed()?;
    let folder = paths::guests()?.join("fuzz/cpu");
    let (corpus, artifacts) = (folder.join("corpus"), folder.join("artifacts"));
    for path in [&corpus, &artifacts] {
        std::fs::create_dir_all(path).with_context(|| path.display().to_string())?;
    }
    let mut command = commands::plain_cargo(tool);
    command
        .current_dir(paths::root())
        .env("RUSTUP_TOOLCHAIN", "nightly")
        .args(["fuzz", "run", "--sanitizer", "none", "--target-dir"])
        .arg(paths::target()?.join("fuzz"))
        .arg("cpu")
        .arg(&corpus)
        .arg("--")
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-timeout=20", "-max_len=4096", "-rss_limit_mb=4096", "-print_final_stats=1"]);
    commands::run(&mut command)?;
    println!("no input broke the processor in {seconds} seconds");
    Ok(())
}

fn parse(args: &[String]) -> Result<u32> {
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["cpu"] => Ok(SECONDS),
        ["cpu", "--seconds", n] => n.parse().context("--seconds"),
        _ => bail!("{USAGE}"),
    }
}

/// cargo-fuzz, installed if need be.
fn installed() -> Result<PathBuf> {
    if let Some(found) = commands::find("cargo-fuzz") {
        return Ok(found);
    }
    let folder = paths::guests()?.join("tools");
    let program = folder.join("bin/cargo-fuzz");
    if !program.exists() {
        let mut install = commands::cargo()?;
        install.args(["install", "cargo-fuzz", "--version", VERSION, "--root"]).arg(&folder);
        commands::run(&mut install).context("installing cargo-fuzz")?;
    }
    Ok(program)
}
