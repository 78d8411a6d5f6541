//! Node.js, npm and the page's npm packages.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use anyhow::Result;

use super::Need;
use crate::commands;
use crate::paths;
use crate::toolchain::version;

/// The command that brings a new enough npm.
pub const INSTALL: &str = "npm install --global npm@11";
const OLDEST_NPM: (u32, u32) = (11, 0);

/// What of npm's is missing.
pub fn needs() -> Vec<Need> {
    let node = commands::output("node", &["--version"]).as_deref().and_then(version);
    if !node.is_some_and(is_new_enough) {
        let cure = "install Node.js 20.19 or newer of 20, or 22.12 or newer, with npm";
        return vec![Need::Manual(cure.to_owned())];
    }
    let mut needs = Vec::new();
    let npm = commands::output("npm", &["--version"]).as_deref().and_then(version);
    if npm.is_none_or(|npm| npm < OLDEST_NPM) {
        needs.push(Need::Npm);
    }
    if !modules_are_current() {
        needs.push(Need::Modules);
    }
    needs
}

/// What the page's bundler asks for.
fn is_new_enough(node: (u32, u32)) -> bool {
    match node.0 {
        20 => node.1 >= 19,
        22 => node.1 >= 12,
        major => major > 22,
    }
}

/// npm writes its own record of what it installed last.
fn modules_are_current() -> bool {
    let written = |path: &Path| fs::metadata(path).and_then(|facts| facts.modified()).ok();
    let wanted = written(&paths::web().join("package-lock.json"));
    let there: Option<SystemTime> = written(&paths::web().join("node_modules/.package-lock.json"));
    there.is_some() && there >= wanted
}

/// Brings a new enough npm.
///
/// # Errors
/// When npm fails, and as root too.
pub fn upgrade() -> Result<()> {
    println!("setup: {INSTALL}");
    let words: Vec<&str> = INSTALL.split(' ').skip(1).collect();
    // A Node.js of the user's own takes it as it is, the system's asks for root.
    if commands::run(Command::new("npm").args(&words)).is_ok() {
        return Ok(());
    }
    commands::run(commands::as_root("npm")?.args(&words))
}

/// Installs the page's packages.
///
/// # Errors
/// When npm fails.
pub fn install_modules() -> Result<()> {
    println!("setup: npm ci, in web/");
    commands::run(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(paths::web()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_versions_are_judged_as_the_bundler_does() {
        for (node, good) in [((18, 20), false), ((20, 18), false), ((20, 19), true), ((21, 7), false)] {
            assert_eq!(is_new_enough(node), good, "{node:?}");
        }
        for (node, good) in [((22, 11), false), ((22, 12), true), ((24, 0), true)] {
            assert_eq!(is_new_enough(node), good, "{node:?}");
        }
    }
}
