//! The guests: Linux systems made of Debian packages and a few of our own files, and images that firmware boots from
//! (`media.rs`), in the user's cache.
//!
//! ```text
//! <cache>/guests/parts/<package>/…           files taken out of packages, kept
//! <cache>/guests/<name>/{kernel,initrd,guest.json}
//! ```
//!
//! `guest.json` is the one definition of how a guest is booted; the page, `aero run` and the tests take
//! kernel, initrd, command line and memory from it. Nothing here is committed and nothing is installed.
//! Building again costs milliseconds: an initramfs is small and always made anew, so no stale one can stay
//! behind.

mod cpio;
pub mod debian;
mod media;
mod proof;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use cpio::Archive;
use debian::Part;

/// How a guest is booted: the content of `guest.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Guest {
    /// Name of the guest and of its folder.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// The Debian package that the kernel comes from.
    pub package: String,
    /// Kernel file, relative to the folder.
    pub kernel: String,
    /// Initramfs file, relative to the folder.
    pub initrd: String,
    /// Kernel command line.
    pub append: String,
    /// Guest memory in MiB.
    pub memory: u32,
}

impl Guest {
    /// Reads the definition of a guest that was built.
    ///
    /// # Errors
    /// When it was not built.
    pub fn load(name: &str) -> Result<Guest> {
        let path = folder(name)?.join("guest.json");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("{}: run `cargo xtask guests {name}`", path.display()))?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    /// The kernel's path.
    ///
    /// # Errors
    /// When the user's cache folder cannot be told.
    pub fn kernel_path(&self) -> Result<PathBuf> {
        Ok(folder(&self.name)?.join(&self.kernel))
    }

    /// The initramfs's path.
    ///
    /// # Errors
    /// When the user's cache folder cannot be told.
    pub fn initrd_path(&self) -> Result<PathBuf> {
        Ok(folder(&self.name)?.join(&self.initrd))
    }
}

enum Contents {
    /// Greets and has a shell on the serial line and on the VGA console.
    Shell,
    /// Runs these builds of the bench kit and switches off.
    Bench(&'static [&'static str]),
    /// Runs programs whose output on the host is known and switches off.
    Proof(&'static proof::Programs),
}

struct Recipe {
    name: &'static str,
    title: &'static str,
    kernel: Part,
    busybox: Part,
    contents: Contents,
}

const AMD64_KERNEL: Part = Part { package: "linux-image-amd64", path: "boot/vmlinuz" };
const I386_KERNEL: Part = Part { package: "linux-image-686:i386", path: "boot/vmlinuz" };
const PAE_KERNEL: Part = Part { package: "linux-image-686-pae:i386", path: "boot/vmlinuz" };
const AMD64_BUSYBOX: Part = Part { package: "busybox-static", path: "bin/busybox" };
const I386_BUSYBOX: Part = Part { package: "busybox-static:i386", path: "bin/busybox" };

const RECIPES: &[Recipe] = &[
    Recipe {
        name: "default",
        title: "Debian's amd64 kernel with a busybox shell",
        kernel: AMD64_KERNEL,
        busybox: AMD64_BUSYBOX,
        contents: Contents::Shell,
    },
    Recipe {
        name: "i386",
        title: "Debian's 686 kernel (two-level paging) with a busybox shell",
        kernel: I386_KERNEL,
        busybox: I386_BUSYBOX,
        contents: Contents::Shell,
    },
    Recipe {
        name: "pae",
        title: "Debian's 686-pae kernel (three-level paging, NX) with a busybox shell",
        kernel: PAE_KERNEL,
        busybox: I386_BUSYBOX,
        contents: Contents::Shell,
    },
    Recipe {
        name: "bench",
        title: "guest-bench under Debian's amd64 kernel",
        kernel: AMD64_KERNEL,
        busybox: AMD64_BUSYBOX,
        contents: Contents::Bench(&["x64"]),
    },
    Recipe {
        name: "bench-i386",
        title: "guest-bench under Debian's 686 kernel",
        kernel: I386_KERNEL,
        busybox: I386_BUSYBOX,
        contents: Contents::Bench(&["i686", "p4"]),
    },
    Recipe {
        name: "proof",
        title: "compiler, cryptography and floating-point checks under Debian's amd64 kernel",
        kernel: AMD64_KERNEL,
        busybox: AMD64_BUSYBOX,
        contents: Contents::Proof(&proof::AMD64),
    },
    Recipe {
        name: "proof-i386",
        title: "compiler, cryptography and floating-point checks under Debian's 686 kernel",
        kernel: I386_KERNEL,
        busybox: I386_BUSYBOX,
        contents: Contents::Proof(&proof::I386),
    },
];

/// The guests with kernels that the boot tests and the page need.
const BOOT_GUESTS: &[&str] = &["default", "i386", "pae", "proof", "proof-i386"];

/// `cargo xtask guests [NAME…]`: builds the named guests, or all of them.
///
/// # Errors
/// When a name is unknown, a package cannot be had, or a file cannot be written.
pub fn run(args: &[String]) -> Result<()> {
    let mut names: Vec<&str> = args.iter().map(String::as_str).collect();
    if names.is_empty() {
        names = RECIPES.iter().map(|recipe| recipe.name).chain(media::names()).collect();
    }
    ensure_named(&names)
}

/// Builds the guests that the page and the boot tests need, where they are not there yet.
///
/// # Errors
/// As [`run`].
pub fn ensure() -> Result<()> {
    let names: Vec<_> = BOOT_GUESTS.iter().copied().chain(media::names()).collect();
    ensure_named(&names)
}

/// Builds the named guests, where they are not there yet.
///
/// # Errors
/// As [`run`].
pub fn ensure_named(names: &[&str]) -> Result<()> {
    for name in names {
        if media::build(name).with_context(|| format!("guest {name}"))? {
            continue;
        }
        let Some(recipe) = RECIPES.iter().find(|recipe| recipe.name == *name) else {
            let known: Vec<_> = RECIPES.iter().map(|recipe| recipe.name).chain(media::names()).collect();
            bail!("no guest is called {name:?}; there are {}", known.join(", "));
        };
        build(recipe).with_context(|| format!("guest {name}"))?;
    }
    Ok(())
}

/// The user's cache: `$AERO_CACHE`, or `aero` in the usual place for caches.
///
/// # Errors
/// When none of the variables that tell it is set.
pub fn cache() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("AERO_CACHE")
        .or_else(|| set("HOME").map(|home| home.join(".cache/aero")))
        .context("neither AERO_CACHE nor HOME is set: no place for the guests")
}

/// The folder of a guest in the cache.
///
/// # Errors
/// As [`cache`].
pub fn folder(name: &str) -> Result<PathBuf> {
    Ok(cache()?.join("guests").join(name))
}

/// A file of the repository, by its path from the root.
pub fn source(path: &str) -> PathBuf {
    // `cargo run` sets it; the other one serves a binary that is started by hand where it was built.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&here).parent().map_or_else(|| PathBuf::from(path), |root| root.join(path))
}

/// Writes a file so that it is there whole or not at all, and leaves one with the same content alone.
/// Returns whether it wrote.
///
/// # Errors
/// When the file system refuses.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<bool> {
    if fs::read(path).is_ok_and(|there| there == content) {
        return Ok(false);
    }
    let folder = path.parent().context("a file lies in a folder")?;
    let part = path.with_extension(format!("part{}", std::process::id()));
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&part, content))
        .and_then(|()| fs::rename(&part, path))
        .with_context(|| path.display().to_string())?;
    Ok(true)
}

fn build(recipe: &Recipe) -> Result<()> {
    let begun = Instant::now();
    let guests = cache()?.join("guests");
    let kernel = debian::fetch(&guests, &recipe.kernel)?;
    let busybox_file = debian::fetch(&guests, &recipe.busybox)?;
    let busybox = fs::read(&busybox_file)?;
    let archive = match recipe.contents {
        Contents::Shell => shell_archive(busybox)?,
        Contents::Bench(kits) => bench_archive(busybox, kits)?,
        Contents::Proof(programs) => {
            let mut archive = base_archive(busybox);
            proof::add(&mut archive, recipe.name, programs, &busybox_file)?;
            archive
        }
    };
    let guest = definition(recipe, debian::origin(&kernel));
    let folder = guests.join(recipe.name);
    let mut changed = write_whole(&folder.join(&guest.kernel), &fs::read(&kernel)?)?;
    changed |= write_whole(&folder.join(&guest.initrd), &archive.bytes())?;
    changed |= write_whole(&folder.join("guest.json"), serde_json::to_string_pretty(&guest)?.as_bytes())?;
    let what = if changed { "built" } else { "is up to date" };
    println!("guests: {} {what} ({}, {:.1} s)", recipe.name, guest.package, begun.elapsed().as_secs_f32());
    Ok(())
}

fn definition(recipe: &Recipe, package: String) -> Guest {
    // The last console is /dev/console. Mitigations guard a real processor's speculation, of which there is
    // none here. The kernel's tests of its own cryptography take 3 of the 6.5 thousand million instructions
    // of an i386 boot; a boot test asks for them as the test of the processor that they are.
    let consoles = match recipe.contents {
        Contents::Shell => "console=tty0 console=ttyS0,115200",
        Contents::Bench(_) | Contents::Proof(_) => "console=ttyS0,115200 quiet",
    };
    let append = format!("{consoles} mitigations=off cryptomgr.notests");
    Guest {
        name: recipe.name.to_owned(),
        title: recipe.title.to_owned(),
        package,
        kernel: "kernel".to_owned(),
        initrd: "initrd".to_owned(),
        append,
        memory: 512,
    }
}

fn shell_archive(busybox: Vec<u8>) -> Result<Archive> {
    let mut archive = base_archive(busybox);
    archive.file("init", 0o755, read_source("guests/rootfs/init")?);
    archive.file("etc/inittab", 0o644, read_source("guests/rootfs/inittab")?);
    archive.file("etc/profile", 0o644, read_source("guests/rootfs/profile")?);
    archive.directory("root");
    archive.directory("tmp");
    Ok(archive)
}

fn bench_archive(busybox: Vec<u8>, kits: &[&str]) -> Result<Archive> {
    let mut archive = base_archive(busybox);
    archive.file("init", 0o755, read_source("bench/guest-bench/init")?);
    archive.file("cold", 0o755, read_source("bench/guest-bench/cold")?);
    for kit in kits {
        let binary = crate::bench::kit::build(kit)?;
        archive.file(&format!("gbench-{kit}"), 0o755, fs::read(binary)?);
    }
    Ok(archive)
}

fn base_archive(busybox: Vec<u8>) -> Archive {
    let mut archive = Archive::default();
    archive.file("bin/busybox", 0o755, busybox);
    archive.symlink("bin/sh", "busybox");
    // The kernel opens it for /init before devtmpfs is mounted.
    archive.char_device("dev/console", 5, 1);
    archive.directory("proc");
    archive.directory("sys");
    archive
}

fn read_source(path: &str) -> Result<Vec<u8>> {
    let path = source(path);
    fs::read(&path).with_context(|| path.display().to_string())
}
