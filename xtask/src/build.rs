//! `cargo xtask build`: the program `aero` and the page.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::commands;
use crate::paths;
use crate::wasm::{self, Quality};

/// `cargo xtask build [--debug] [--native | --web]`
///
/// # Errors
/// When an option is unknown or something does not build.
pub fn run(args: &[String]) -> Result<()> {
    let (mut quality, mut with_native, mut with_page) = (Quality::Release, true, true);
    for arg in args {
        match arg.as_str() {
            "--release" => quality = Quality::Release,
            "--debug" => quality = Quality::Debug,
            "--native" => with_page = false,
            "--web" => with_native = false,
            _ => bail!("unknown option {arg}; there are --release, --debug, --native and --web"),
        }
    }
    let begun = Instant::now();
    if with_native {
        native(quality)?;
    }
    if with_page {
        page(quality)?;
    }
    println!("build: done in {:.0} s", begun.elapsed().as_secs_f32());
    Ok(())
}

/// Builds the program `aero`.
///
/// # Errors
/// When it does not build.
pub fn native(quality: Quality) -> Result<()> {
    println!("build: the program `aero`");
    let mut cargo = commands::cargo()?;
    cargo.args(["build", "--locked", "--package", "aero-cli"]);
    if quality == Quality::Release {
        cargo.arg("--release");
    }
    commands::run(&mut cargo)
}

/// Builds the page with the machine in it.
///
/// # Errors
/// When it does not build.
pub fn page(quality: Quality) -> Result<()> {
    wasm::package(quality)?;
    println!("build: the page");
    let mut vite = Command::new(paths::npm_program("vite"));
    commands::run(vite.args(["build", "--logLevel", "warn"]).current_dir(paths::web()))
}
