//! `cargo xtask setup`: what the tasks need, beyond the Rust and Node.js that a developer brings along.
//!
//! A *need* is something missing, with the command that would bring it. Looking for needs takes a fraction of a
//! second, so every task that builds something does it first.

mod apt;
mod npm;

use anyhow::{Result, bail};

use crate::commands;
use crate::toolchain;

/// What the set-up is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Building and running.
    Run,
    /// Tests too.
    Test,
}

/// Something missing.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Need {
    /// The standard library's source, for the browser's build.
    WebRust,
    /// Debian packages.
    Packages(Vec<&'static str>),
    /// apt's lists of what there is for the other architecture, or for this one.
    Lists(&'static str),
    /// A newer npm.
    Npm,
    /// The page's npm packages.
    Modules,
    /// Something that we do not install, and how to get it.
    Manual(String),
}

impl Need {
    /// The command that brings it.
    fn cure(&self) -> String {
        match self {
            Need::WebRust => toolchain::CURE.to_owned(),
            Need::Packages(packages) => format!("apt-get install {}", packages.join(" ")),
            Need::Lists("i386") => "dpkg --add-architecture i386 && apt-get update".to_owned(),
            Need::Lists(_) => "apt-get update".to_owned(),
            Need::Npm => npm::INSTALL.to_owned(),
            Need::Modules => "cd web && npm ci".to_owned(),
            Need::Manual(cure) => cure.clone(),
        }
    }

    /// What it is for.
    fn purpose(&self) -> &'static str {
        match self {
            Need::WebRust => "the source of Rust's standard library, built with threads for the browser",
            Need::Packages(_) => {
                "what the tests run: a browser, an assembler, firmware, a maker of discs, other emulators"
            }
            Need::Lists("i386") => "what Debian has for i386, where the 32-bit guests' kernels come from",
            Need::Lists(_) => "what Debian has, where the guests' kernels come from",
            Need::Npm => "npm 11 or newer (10 cannot install the page's bundler)",
            Need::Modules => "the npm packages that the page is built with",
            Need::Manual(_) => "to be done by hand",
        }
    }

    fn install(&self) -> Result<()> {
        match self {
            Need::WebRust => web_rust(),
            Need::Packages(packages) => apt::install(packages),
            Need::Lists(architecture) => apt::fetch_lists(architecture),
            Need::Npm => npm::upgrade(),
            Need::Modules => npm::install_modules(),
            Need::Manual(cure) => bail!("{cure}"),
        }
    }
}

/// `cargo xtask setup [--no-install | --offline]`
///
/// # Errors
/// When an option is unknown, or something is missing and cannot or must not be installed.
pub fn run(args: &[String]) -> Result<()> {
    match args {
        [] => ensure(Scope::Test),
        [option] if option == "--no-install" || option == "--offline" => check(),
        _ => bail!("there are the options --no-install and --offline (the same)"),
    }
}

/// Installs what is missing, after saying what.
///
/// # Errors
/// When something cannot be installed.
pub fn ensure(scope: Scope) -> Result<()> {
    let needs = needs(scope);
    if needs.is_empty() {
        println!("setup: everything is there");
        return Ok(());
    }
    if needs.iter().any(|need| matches!(need, Need::Manual(_))) {
        bail!("missing, and more than this task can install:\n{}", list(&needs));
    }
    println!("setup: missing, and about to be installed:\n{}", list(&needs));
    for need in &needs {
        need.install()?;
    }
    let left = self::needs(scope);
    if !left.is_empty() {
        bail!("still missing after the installation:\n{}", list(&left));
    }
    println!("setup: done, everything is there");
    Ok(())
}

fn check() -> Result<()> {
    let needs = needs(Scope::Test);
    if !needs.is_empty() {
        bail!("missing, with the commands that install it:\n{}", list(&needs));
    }
    println!("setup: everything is there");
    Ok(())
}

fn list(needs: &[Need]) -> String {
    let lines = needs.iter().map(|need| format!("  {}\n      ({})", need.cure(), need.purpose()));
    lines.collect::<Vec<_>>().join("\n")
}

fn needs(scope: Scope) -> Vec<Need> {
    let mut needs = npm::needs();
    match toolchain::find() {
        Ok(_) => {}
        Err(error) if toolchain::is_named() => needs.push(Need::Manual(format!("{error:#}"))),
        Err(_) => needs.push(Need::WebRust),
    }
    needs.extend(apt::needs(scope));
    needs
}

/// rustup's component is preferred, as it fits the compiler that builds the rest; Debian's packages stand in where
/// rustup is absent or cannot download.
fn web_rust() -> Result<()> {
    let mut rustup = std::process::Command::new("rustup");
    let added = commands::run(rustup.args(["component", "add", "rust-src"]));
    if added.is_ok() && toolchain::find().is_ok() {
        return Ok(());
    }
    println!("setup: rustup could not add rust-src; taking Debian's Rust for the browser's build");
    apt::install(&["rustc-web", "cargo-web", "rust-web-src"])?;
    toolchain::find().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_need_names_its_cure_and_purpose() {
        let needs = [Need::WebRust, Need::Packages(vec!["chromium"]), Need::Lists("i386"), Need::Modules];
        let text = list(&needs);
        for word in ["rust-src", "apt-get install chromium", "--add-architecture i386", "npm ci"] {
            assert!(text.contains(word), "{word} is not in:\n{text}");
        }
    }
}
