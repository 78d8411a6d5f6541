//! Where things are: sources in the repository, everything that is built outside of it or ignored.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::guests;

/// The repository.
pub fn root() -> PathBuf {
    guests::source("")
}

/// The npm package of the page.
pub fn web() -> PathBuf {
    guests::source("web")
}

/// The built page.
pub fn page() -> PathBuf {
    guests::source("web/dist")
}

/// The JavaScript and WebAssembly that the Rust side becomes, imported by the page's sources.
pub fn web_package() -> PathBuf {
    guests::source("web/src/pkg")
}

/// A program of the page's npm packages.
pub fn npm_program(name: &str) -> PathBuf {
    web().join("node_modules/.bin").join(name)
}

/// The guests, one folder each.
///
/// # Errors
/// When there is no place for the cache.
pub fn guests() -> Result<PathBuf> {
    Ok(guests::cache()?.join("guests"))
}

/// Where cargo builds for this computer: `$CARGO_TARGET_DIR`, or the folder that this program was built in.
///
/// # Errors
/// When the system cannot tell where this program is.
pub fn target() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CARGO_TARGET_DIR").filter(|path| !path.is_empty()) {
        return Ok(root().join(path));
    }
    let program = std::env::current_exe()?;
    program.ancestors().nth(2).map(PathBuf::from).context("the folder that cargo builds into")
}

/// Where cargo builds for the browser. Its flags differ for every crate and for the standard library, so a shared
/// folder would rebuild everything each time.
///
/// # Errors
/// When there is no place for the cache.
pub fn web_target() -> Result<PathBuf> {
    Ok(guests::cache()?.join("target-web"))
}
