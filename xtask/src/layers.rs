//! The layers of the workspace, and the check that every dependency points down.
//!
//! The table is `ARCHITECTURE.md`'s. A crate may depend on crates of lower layers only; the exceptions are listed one
//! by one. Dependencies of tests are free: a test may look at a neighbour.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::commands;

/// Crate and layer. A crate that is not here may not be in the workspace.
const LAYERS: &[(&str, u8)] = &[
    ("aero-mem", 1),
    ("aero-state", 1),
    ("aero-wire", 1),
    ("aero-bus", 2),
    ("aero-netstack", 2),
    ("aero-x86", 2),
    ("aero-shader", 2),
    ("aero-cpu", 3),
    ("aero-jit", 3),
    ("aero-chipset", 3),
    ("aero-devices-input", 3),
    ("aero-storage", 3),
    ("aero-usb", 3),
    ("aero-net", 3),
    ("aero-audio", 3),
    ("aero-gpu", 3),
    ("aero-firmware", 3),
    ("aero-machine", 4),
    ("aero-wasm", 5),
    ("aero-jit-wasmtime", 5),
    ("aero-cpu-test", 5),
    ("aero-cli", 5),
    ("aero-gateway", 5),
    ("xtask", 6),
];

/// Arrows within a layer that are wanted.
const SIDEWAYS: &[(&str, &str)] =
    &[("aero-jit", "aero-cpu"), ("aero-cli", "aero-jit-wasmtime"), ("aero-cli", "aero-cpu-test")];

/// Crates that may depend on these few only, whatever their layer.
const NARROW: &[(&str, &[&str])] =
    &[("aero-gateway", &["aero-wire", "aero-netstack"]), ("xtask", &["aero-gateway"])];

/// Layers that build for the browser and know nothing of the host.
const HOSTLESS: std::ops::RangeInclusive<u8> = 1..=4;

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// Nothing for an ordinary dependency, else `dev` or `build`.
    kind: Option<String>,
    /// Set for crates of the workspace.
    path: Option<PathBuf>,
}

/// A crate of the layers that know nothing of the host.
#[derive(Debug)]
pub struct Hostless {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
}

/// Fails when a dependency between crates of the workspace is not one that the table allows.
///
/// # Errors
/// When there is such a dependency, or cargo does not list them.
pub fn check() -> Result<()> {
    let mut wrong = Vec::new();
    for package in packages()? {
        if layer(&package.name).is_none() {
            wrong.push(format!("{}: not in the table of layers (xtask/src/layers.rs)", package.name));
        }
        let inside = package.dependencies.iter().filter(|dependency| dependency.path.is_some());
        for dependency in inside.filter(|dependency| dependency.kind.as_deref() != Some("dev")) {
            if let Some(reason) = objection(&package.name, &dependency.name) {
                wrong.push(format!("{} must not depend on {}: {reason}", package.name, dependency.name));
            }
        }
    }
    if !wrong.is_empty() {
        bail!("layers:\n  {}", wrong.join("\n  "));
    }
    Ok(())
}

/// The crates below the hosts.
///
/// # Errors
/// When cargo does not list the workspace.
pub fn hostless() -> Result<Vec<Hostless>> {
    let below = packages()?
        .into_iter()
        .filter(|package| layer(&package.name).is_some_and(|layer| HOSTLESS.contains(&layer)));
    let crates = below.filter_map(|package| {
        let folder = package.manifest_path.parent()?.to_owned();
        Some(Hostless { name: package.name, folder })
    });
    Ok(crates.collect())
}

fn packages() -> Result<Vec<Package>> {
    let mut cargo = commands::cargo()?;
    let output =
        cargo.args(["metadata", "--format-version=1", "--no-deps"]).output().context("cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    Ok(metadata.packages)
}

fn layer(name: &str) -> Option<u8> {
    LAYERS.iter().find(|(known, _)| *known == name).map(|&(_, layer)| layer)
}

/// Why one crate may not depend on another, if so.
fn objection(from: &str, to: &str) -> Option<String> {
    if let Some((_, allowed)) = NARROW.iter().find(|(name, _)| *name == from) {
        let listed = allowed.contains(&to);
        return (!listed).then(|| format!("it may depend on {} only", allowed.join(" and ")));
    }
    // A crate that is not in the table is reported as such.
    let (above, below) = (layer(from)?, layer(to)?);
    let allowed = above > below || SIDEWAYS.contains(&(from, to));
    (!allowed).then(|| format!("layer {below} is not below layer {above}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrow_down_is_allowed() {
        for (from, to) in
            [("aero-cpu", "aero-mem"), ("aero-machine", "aero-chipset"), ("xtask", "aero-gateway")]
        {
            assert_eq!(objection(from, to), None, "{from} -> {to}");
        }
    }

    #[test]
    fn arrow_up_or_sideways_is_refused() {
        for (from, to) in
            [("aero-mem", "aero-bus"), ("aero-gpu", "aero-cpu"), ("aero-gateway", "aero-machine")]
        {
            assert!(objection(from, to).is_some(), "{from} -> {to}");
        }
    }

    #[test]
    fn compiler_may_use_the_processor_but_not_the_other_way_round() {
        assert_eq!(objection("aero-jit", "aero-cpu"), None);
        assert!(objection("aero-cpu", "aero-jit").is_some());
    }
}
