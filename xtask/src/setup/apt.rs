//! Debian packages.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Need, Scope};
use crate::commands;

const LISTS: &str = "/var/lib/apt/lists";

/// What of Debian's is missing.
pub fn needs(scope: Scope) -> Vec<Need> {
    if commands::find("apt-get").is_none() {
        let cure =
            "Debian 12 or a relative of it is needed: the guests are made of Debian's packages by apt-get";
        return vec![Need::Manual(cure.to_owned())];
    }
    let mut needs = Vec::new();
    let packages = if scope == Scope::Test { packages() } else { Vec::new() };
    if !packages.is_empty() {
        needs.push(Need::Packages(packages));
    }
    // The 32-bit guests are for tests only.
    let architectures: &[&str] = if scope == Scope::Test { &["amd64", "i386"] } else { &["amd64"] };
    needs.extend(architectures.iter().filter(|name| !has_lists(name)).map(|name| Need::Lists(name)));
    needs
}

/// What the tests run, by the program that a package brings.
const TOOLS: [(&str, &str); 5] = [
    ("iasl", "acpica-tools"),
    ("nasm", "nasm"),
    ("bochs", "bochs"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("xorriso", "xorriso"),
];

/// Where SeaBIOS may lie; `aero run` looks there too.
const BIOS: [&str; 2] = ["/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/bios-256k.bin"];

/// What the tests run: a browser, the compiler that judges the firmware's ACPI tables, the assembler of the bare-metal
/// images, the program that makes discs, the firmware, and the emulators that `aero cpu-test system` compares with.
fn packages() -> Vec<&'static str> {
    let mut packages: Vec<_> = TOOLS
        .iter()
        .filter(|(program, _)| commands::find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if std::env::var_os("AERO_CHROMIUM").is_none() && commands::find("chromium").is_none() {
        packages.push("chromium");
    }
    if std::env::var_os("AERO_FIRMWARE_DIR").is_none() && !BIOS.iter().any(|file| Path::new(file).exists()) {
        packages.push("seabios");
    }
    packages
}

/// Installs packages, or newer versions of them.
///
/// # Errors
/// When there is no way to become root, or apt cannot install them.
pub fn install(packages: &[&str]) -> Result<()> {
    // Only this architecture's lists: those of another one can be broken for a day on a mirror, and apt then keeps
    // the old lists of all architectures. It would also delete the lists that it was not to fetch.
    update(&["-o", &format!("APT::Architectures={}", native()?), "-o", "APT::Get::List-Cleanup=false"])?;
    println!("setup: installing {}", packages.join(" "));
    let mut install = apt_get()?;
    install.args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(packages);
    commands::run(&mut install)
}

/// Fetches apt's lists for an architecture, which is added where it is not there.
///
/// # Errors
/// When there is no way to become root, or the lists cannot be had.
pub fn fetch_lists(architecture: &str) -> Result<()> {
    if architecture != native()? {
        commands::run(commands::as_root("dpkg")?.args(["--add-architecture", architecture]))?;
    }
    update(&[])?;
    if !has_lists(architecture) {
        bail!("apt-get update brought no list of packages for {architecture}");
    }
    Ok(())
}

/// One broken list makes `apt-get update` fail although all others came. What matters is whether the packages can
/// be had afterwards.
fn update(options: &[&str]) -> Result<()> {
    println!("setup: apt-get update");
    if commands::run(apt_get()?.args(options).args(["--quiet", "update"])).is_err() {
        println!("setup: apt-get update had errors; going on with the lists that came");
    }
    Ok(())
}

fn apt_get() -> Result<Command> {
    // `env` carries the variable through sudo.
    let mut command = commands::as_root("env")?;
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=300"]);
    Ok(command)
}

fn native() -> Result<String> {
    commands::output("dpkg", &["--print-architecture"])
        .context("dpkg does not tell this system's architecture")
}

/// Looks at names only: asking apt itself takes a second.
fn has_lists(architecture: &str) -> bool {
    let end = format!("_main_binary-{architecture}_Packages");
    let mut entries = fs::read_dir(LISTS).into_iter().flatten().flatten();
    entries.any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // Other sources of packages keep their lists here too.
        name.contains("debian") && name.contains(&end)
    })
}
