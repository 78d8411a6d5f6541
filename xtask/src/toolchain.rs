//! The Rust toolchain that builds for the browser.
//!
//! Threads in WebAssembly need a standard library that was built with atomics, so cargo builds it (`-Z build-std`).
//! All that it needs is the library's *source* beside the compiler: `RUSTC_BOOTSTRAP=1` lets a stable compiler
//! take the option. rustup has the source as the component `rust-src`, Debian as the package `rust-web-src`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::commands;

/// The oldest compiler that will do; `rust-version` of the workspace.
pub const OLDEST: (u32, u32) = (1, 90);

/// Names a compiler to use, and so ends the search.
const CHOICE: &str = "AERO_WEB_RUSTC";

/// What to do when none was found.
pub const CURE: &str =
    "rustup component add rust-src   (or: apt-get install rustc-web cargo-web rust-web-src)";

/// A toolchain that can build for the browser.
#[derive(Debug)]
pub struct Toolchain {
    /// The compiler.
    pub rustc: PathBuf,
    /// The cargo beside it.
    pub cargo: PathBuf,
    /// The linker, where the toolchain has none of its own.
    pub linker: Option<PathBuf>,
    /// The compiler's version.
    pub version: (u32, u32),
}

/// Finds the toolchain: `$AERO_WEB_RUSTC`, then rustup's for this repository, rustup's nightly, the distribution's.
///
/// # Errors
/// When none of them will do; the error says why for each.
pub fn find() -> Result<Toolchain> {
    if let Some(rustc) = std::env::var_os(CHOICE).filter(|rustc| !rustc.is_empty()) {
        return probe(Path::new(&rustc)).context(CHOICE);
    }
    let rustup = |args: &[&str]| commands::output("rustup", args).map(PathBuf::from);
    let candidates = [
        rustup(&["which", "rustc"]),
        rustup(&["which", "--toolchain", "nightly", "rustc"]),
        Some(PathBuf::from("/usr/bin/rustc")).filter(|rustc| rustc.exists()),
    ];
    let mut reasons = Vec::new();
    for rustc in candidates.into_iter().flatten() {
        match probe(&rustc) {
            Ok(toolchain) => return Ok(toolchain),
            Err(error) => reasons.push(format!("{error:#}")),
        }
    }
    bail!("no Rust toolchain can build for the browser ({})", reasons.join("; "))
}

/// Whether the compiler was named, so that installing another one would not help.
pub fn is_named() -> bool {
    std::env::var_os(CHOICE).is_some_and(|rustc| !rustc.is_empty())
}

fn probe(rustc: &Path) -> Result<Toolchain> {
    let name = rustc.display().to_string();
    let ask = |args: &[&str]| commands::output(&name, args).with_context(|| format!("{name} does not run"));
    let facts = ask(&["-vV"])?;
    let fact = |key: &str| facts.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    let version = version(fact("release: ")).with_context(|| format!("{name} does not tell its version"))?;
    if version < OLDEST {
        bail!("{name} is {}.{}, older than {}.{}", version.0, version.1, OLDEST.0, OLDEST.1);
    }
    let sysroot = PathBuf::from(ask(&["--print", "sysroot"])?);
    if !sysroot.join("lib/rustlib/src/rust/library/Cargo.lock").exists() {
        bail!("{name} lacks the source of the standard library");
    }
    let cargo = rustc.with_file_name("cargo");
    if !cargo.exists() {
        bail!("{name} has no cargo beside it");
    }
    let linker = linker(&sysroot, fact("host: "))?;
    Ok(Toolchain { rustc: rustc.to_owned(), cargo, linker, version })
}

/// Reads the first two numbers of a version.
pub fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim_start_matches('v').split('.').map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// Debian's compiler has no `rust-lld`; any one that understands WebAssembly takes its place.
fn linker(sysroot: &Path, host: &str) -> Result<Option<PathBuf>> {
    let lld = Path::new("lib/rustlib").join(host).join("bin/rust-lld");
    if sysroot.join(&lld).exists() {
        return Ok(None);
    }
    let other =
        rustup_toolchains().into_iter().map(|toolchain| toolchain.join(&lld)).find(|lld| lld.exists());
    match other.or_else(|| commands::find("wasm-ld")) {
        Some(linker) => Ok(Some(linker)),
        None => bail!("no linker for WebAssembly: install rustup, or `apt-get install lld`"),
    }
}

fn rustup_toolchains() -> Vec<PathBuf> {
    let home = std::env::var_os("RUSTUP_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".rustup")));
    let entries = home.and_then(|home| fs::read_dir(home.join("toolchains")).ok());
    let mut found: Vec<_> = entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    // The newest first, as far as names tell: "stable-…" before "nightly-…" before numbers.
    found.sort();
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_read_with_and_without_its_letter() {
        assert_eq!(version("1.96.0"), Some((1, 96)));
        assert_eq!(version("1.97.0-nightly"), Some((1, 97)));
        assert_eq!(version("v20.19.1"), Some((20, 19)));
        assert_eq!(version("unknown"), None);
    }

    #[test]
    fn missing_compiler_is_an_error_that_names_it() {
        let error = probe(Path::new("/no/such/rustc")).unwrap_err();
        assert!(error.to_string().contains("/no/such/rustc"), "{error}");
    }
}
