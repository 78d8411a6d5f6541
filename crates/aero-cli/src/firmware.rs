//! Where firmware comes from: a file of the user's, or SeaBIOS as the host's packages install it.

use crate::host;
use crate::options::BootOption;
use aero_machine::{Firmware, MAX_FIRMWARE};
use anyhow::bail;
use std::path::{Path, PathBuf};

/// The folder that is looked into first.
const FOLDER: &str = "AERO_FIRMWARE_DIR";
/// Then these, where packages of SeaBIOS and of QEMU put them.
const FOLDERS: [&str; 4] =
    ["/usr/share/seabios", "/usr/share/qemu", "/usr/local/share/seabios", "/usr/local/share/qemu"];
const BIOS: &str = "bios-256k.bin";
const VGA_BIOS: &str = "vgabios-stdvga.bin";

/// Reads the firmware: `rom`, or SeaBIOS.
///
/// # Errors
/// One line that says what is missing and where it comes from.
pub fn load(rom: Option<&Path>, boot: &BootOption) -> anyhow::Result<Firmware> {
    let vga_bios = find(VGA_BIOS);
    let (rom, vga_bios) = match rom {
        Some(rom) => (rom.to_owned(), vga_bios),
        None => (found(find(BIOS), BIOS)?, Some(found(vga_bios, VGA_BIOS)?)),
    };
    let too_large = format!("are more than the {} MiB that a ROM may have", MAX_FIRMWARE >> 20);
    let read = |file: &PathBuf| host::read_file("--firmware", file, MAX_FIRMWARE, &too_large);
    Ok(Firmware {
        rom: read(&rom)?,
        vga_bios: vga_bios.as_ref().map(read).transpose()?.unwrap_or_default(),
        order: boot.order.clone(),
        menu: boot.menu,
    })
}

fn find(name: &str) -> Option<PathBuf> {
    let first = std::env::var_os(FOLDER).map(PathBuf::from);
    let folders = first.into_iter().chain(FOLDERS.map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn found(file: Option<PathBuf>, name: &str) -> anyhow::Result<PathBuf> {
    match file {
        Some(file) => Ok(file),
        None => bail!(
            "the firmware {name} is not installed; install the package seabios (cargo xtask setup does), \
             or name its folder in {FOLDER}, or give --firmware FILE"
        ),
    }
}
