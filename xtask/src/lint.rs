//! `cargo xtask lint`: everything that is wrong without being run.

use anyhow::{Result, bail};

use crate::commands;
use crate::layers;
use crate::sources;

/// `cargo xtask lint`
///
/// # Errors
/// When there is an argument, or one of the checks finds something.
pub fn run(args: &[String]) -> Result<()> {
    if !args.is_empty() {
        bail!("lint takes no arguments");
    }
    format()?;
    rules()?;
    clippy()?;
    println!("lint: nothing to complain about");
    Ok(())
}

/// Rust sources are formatted.
///
/// # Errors
/// When one is not.
pub fn format() -> Result<()> {
    commands::run(commands::cargo()?.args(["fmt", "--all", "--check"]))
}

/// Dependencies point down, and the lower layers keep away from the host.
///
/// # Errors
/// When a rule is broken.
pub fn rules() -> Result<()> {
    layers::check()?;
    sources::check()
}

/// Clippy finds nothing in any target of the workspace.
///
/// # Errors
/// When it finds something.
pub fn clippy() -> Result<()> {
    let mut cargo = commands::cargo()?;
    cargo.args(["clippy", "--locked", "--workspace", "--all-targets", "--", "-Dwarnings"]);
    commands::run(&mut cargo)
}
