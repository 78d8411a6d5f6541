//! Guests that are images: floppies, discs and firmware, for the tests that boot as a PC does.
//!
//! ```text
//! <cache>/guests/<name>/<file>
//! ```
//!
//! Some come out of a package as they are, one is assembled from this repository, and one is a disc put together
//! from a kernel guest and isolinux. A test names them as `name/file`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use super::debian::{self, Part};
use super::{Guest, cache, source, write_whole};
use crate::commands;

/// An image.
struct Medium {
    name: &'static str,
    /// The image's name in the guest's folder.
    file: &'static str,
    contents: Contents,
}

/// Where an image comes from.
enum Contents {
    /// A file of a package.
    Packaged(Part),
    /// A source file for nasm, from the repository's root.
    Assembled(&'static str),
    /// A disc on which isolinux starts the kernel of this guest.
    Disc(&'static str),
}

const fn packaged(package: &'static str, path: &'static str) -> Contents {
    Contents::Packaged(Part { package, path })
}

const MEDIA: &[Medium] = &[
    Medium {
        name: "bios-probe",
        file: "probe.img",
        contents: Contents::Assembled("guests/bios-probe/probe.asm"),
    },
    Medium {
        name: "grub-rescue",
        file: "disc.iso",
        contents: packaged("grub-rescue-pc", "usr/lib/grub-rescue/grub-rescue-cdrom.iso"),
    },
    Medium {
        name: "memtest",
        file: "disc.iso",
        contents: packaged("memtest86+", "usr/lib/memtest86+/memtest86+x64.iso"),
    },
    Medium { name: "ipxe", file: "disc.iso", contents: packaged("ipxe", "usr/lib/ipxe/ipxe.iso") },
    Medium { name: "ovmf", file: "ovmf.fd", contents: packaged("ovmf", "usr/share/ovmf/OVMF.fd") },
    Medium { name: "isolinux", file: "disc.iso", contents: Contents::Disc("default") },
];

/// What isolinux consists of; both lie beside the kernel, in the disc's root.
const ISOLINUX: [(&str, Part); 2] = [
    ("isolinux.bin", Part { package: "isolinux", path: "usr/lib/ISOLINUX/isolinux.bin" }),
    ("ldlinux.c32", Part { package: "syslinux-common", path: "usr/lib/syslinux/modules/bios/ldlinux.c32" }),
];

/// The names of all images' guests.
pub fn names() -> impl Iterator<Item = &'static str> {
    MEDIA.iter().map(|medium| medium.name)
}

/// Builds the guest of this name. Returns whether there is one.
///
/// # Errors
/// When a package or a program cannot be had, or a file cannot be written.
pub fn build(name: &str) -> Result<bool> {
    let Some(medium) = MEDIA.iter().find(|medium| medium.name == name) else { return Ok(false) };
    let begun = Instant::now();
    let folder = super::folder(name)?;
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let image = match &medium.contents {
        Contents::Packaged(part) => fs::read(debian::fetch(&cache()?.join("guests"), part)?)?,
        Contents::Assembled(file) => assemble(&source(file), &folder)?,
        Contents::Disc(guest) => disc(guest, &folder)?,
    };
    let changed = write_whole(&folder.join(medium.file), &image)?;
    let what = if changed { "built" } else { "is up to date" };
    println!("guests: {name} {what} ({:.1} s)", begun.elapsed().as_secs_f32());
    Ok(true)
}

fn assemble(file: &Path, folder: &Path) -> Result<Vec<u8>> {
    debian::ensure_program("nasm", &["nasm"])?;
    let made = folder.join("assembled");
    commands::run(Command::new("nasm").args(["-f", "bin", "-o"]).arg(&made).arg(file))?;
    take(&made)
}

/// An ISO 9660 file system with an El Torito entry without emulation.
fn disc(guest: &str, folder: &Path) -> Result<Vec<u8>> {
    debian::ensure_program("xorriso", &["xorriso"])?;
    super::ensure_named(&[guest])?;
    let guest = Guest::load(guest)?;
    let tree = folder.join("tree");
    for (name, part) in &ISOLINUX {
        let file = debian::fetch(&cache()?.join("guests"), part)?;
        write_whole(&tree.join(name), &fs::read(file)?)?;
    }
    write_whole(&tree.join("kernel"), &fs::read(guest.kernel_path()?)?)?;
    write_whole(&tree.join("initrd"), &fs::read(guest.initrd_path()?)?)?;
    let menu = format!("default aero\nlabel aero\nkernel /kernel\ninitrd /initrd\nappend {}\n", guest.append);
    write_whole(&tree.join("isolinux.cfg"), menu.as_bytes())?;
    let made = folder.join("made.iso");
    let mut xorriso = Command::new("xorriso");
    xorriso.args([
        "-report_about",
        "WARNING",
        "-as",
        "mkisofs",
        "-b",
        "isolinux.bin",
        "-c",
        "boot.cat",
        "-no-emul-boot",
    ]);
    xorriso.args(["-boot-load-size", "4", "-boot-info-table", "-o"]).arg(&made).arg(&tree);
    // The dates in the image, so that the same files give the same bytes.
    commands::run(xorriso.env("SOURCE_DATE_EPOCH", "0"))?;
    take(&made)
}

/// Reads a file and removes it.
fn take(file: &Path) -> Result<Vec<u8>> {
    let content = fs::read(file).with_context(|| file.display().to_string())?;
    fs::remove_file(file)?;
    Ok(content)
}
