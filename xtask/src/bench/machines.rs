//! The emulators that are compared: how each boots the bench guest with its serial line on standard output.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::guests::{Guest, cache, debian, source};

/// The release of v86 that is compared with.
const V86_VERSION: &str = "0.5.462";

/// An emulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `aero run`.
    Aero,
    /// Aero's page in headless Chromium.
    Browser,
    /// QEMU with its translator on one thread.
    Qemu,
    /// v86 in Node, for 32-bit guests.
    V86,
}

impl Kind {
    /// The name in tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Aero => "aero",
            Kind::Browser => "aero-chromium",
            Kind::Qemu => "qemu",
            Kind::V86 => "v86",
        }
    }

    /// Whether it can run the guest at all.
    pub fn runs(self, guest: &Guest) -> bool {
        self != Kind::V86 || is_i386(guest)
    }
}

fn is_i386(guest: &Guest) -> bool {
    guest.name.ends_with("i386")
}

/// A command that boots a guest, and what it needs to live meanwhile.
pub struct Ready {
    /// The command; its standard output is the guest's serial line.
    pub command: Command,
    /// Ended when this is dropped.
    _server: Option<Server>,
}

impl Ready {
    fn alone(command: Command) -> Ready {
        Ready { command, _server: None }
    }
}

/// Prepares a run; installs a peer that is missing, and says so.
///
/// # Errors
/// When Aero is not built or a peer cannot be had.
pub fn prepare(kind: Kind, guest: &Guest, append: &str) -> Result<Ready> {
    match kind {
        Kind::Aero => aero(guest, append).map(Ready::alone),
        Kind::Browser => browser(guest, append),
        Kind::Qemu => qemu(guest, append).map(Ready::alone),
        Kind::V86 => v86(guest, append).map(Ready::alone),
    }
}

fn aero(guest: &Guest, append: &str) -> Result<Command> {
    let mut command = Command::new(crate::boots::aero_binary()?);
    command.arg("run").arg("--kernel").arg(guest.kernel_path()?).arg("--initrd").arg(guest.initrd_path()?);
    command.args(["--append", append, "--memory", &format!("{}M", guest.memory)]);
    command.args(["--serial", "stdio", "--display", "none"]);
    Ok(command)
}

fn qemu(guest: &Guest, append: &str) -> Result<Command> {
    let program = if is_i386(guest) { "qemu-system-i386" } else { "qemu-system-x86_64" };
    debian::ensure_program(program, &["qemu-system-x86"])?;
    let mut command = Command::new(program);
    command.args([
        "-accel",
        "tcg,thread=single",
        "-m",
        &guest.memory.to_string(),
        "-smp",
        "1",
        "-nodefaults",
    ]);
    command.args(["-display", "none", "-serial", "stdio", "-no-reboot", "-append", append]);
    command.arg("-kernel").arg(guest.kernel_path()?).arg("-initrd").arg(guest.initrd_path()?);
    Ok(command)
}

fn v86(guest: &Guest, append: &str) -> Result<Command> {
    let bios = bios_folder()?;
    let mut command = Command::new("node");
    command.arg(source("bench/v86.mjs")).arg(v86_folder()?).arg(bios);
    command.arg(guest.kernel_path()?).arg(guest.initrd_path()?).arg(append).arg(guest.memory.to_string());
    Ok(command)
}

fn v86_folder() -> Result<PathBuf> {
    let root = cache()?.join("bench/npm");
    let folder = root.join("node_modules/v86");
    let manifest = fs::read_to_string(folder.join("package.json")).unwrap_or_default();
    if manifest.contains(&format!("\"version\": \"{V86_VERSION}\"")) {
        return Ok(folder);
    }
    println!("bench: installing v86 {V86_VERSION} from npm into {}", root.display());
    fs::create_dir_all(&root)?;
    let status = Command::new("npm")
        .args(["install", "--silent", "--no-audit", "--no-fund", "--no-save", "--prefix"])
        .arg(&root)
        .arg(format!("v86@{V86_VERSION}"))
        .stdin(Stdio::null())
        .status()
        .context("npm")?;
    ensure!(status.success(), "npm could not install v86 {V86_VERSION}");
    Ok(folder)
}

/// v86 brings no firmware; SeaBIOS comes out of its package, beside the guests' parts.
fn bios_folder() -> Result<PathBuf> {
    let parts = cache()?.join("guests");
    let mut folder = None;
    for path in ["usr/share/seabios/bios.bin", "usr/share/seabios/vgabios-stdvga.bin"] {
        let file = debian::fetch(&parts, &debian::Part { package: "seabios", path })?;
        folder = file.parent().map(Path::to_owned);
    }
    folder.context("the firmware's folder")
}

/// `cargo xtask serve` in the background.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn browser(guest: &Guest, append: &str) -> Result<Ready> {
    let playwright = source("web/node_modules/playwright-core");
    if !playwright.exists() {
        bail!("{} is missing: run `cargo xtask setup`", playwright.display());
    }
    let (server, url) = serve()?;
    let mut command = Command::new("node");
    command.arg(source("bench/chromium.mjs")).arg(playwright).arg(chromium()?).arg(url);
    // The server offers the cache's guests by their names.
    let file = |name: &str| format!("/guests/{}/{name}", guest.name);
    command.args([&file(&guest.kernel), &file(&guest.initrd), append, &guest.memory.to_string()]);
    Ok(Ready { command, _server: Some(server) })
}

fn chromium() -> Result<String> {
    if let Ok(path) = std::env::var("AERO_CHROMIUM") {
        return Ok(path);
    }
    debian::ensure_program("chromium", &["chromium"])?;
    Ok("/usr/bin/chromium".to_owned())
}

/// Starts the page's server and waits for the address it prints.
fn serve() -> Result<(Server, String)> {
    let child = Command::new(std::env::current_exe()?)
        .arg("serve")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo xtask serve")?;
    let mut server = Server(child);
    let output = server.0.stdout.take().context("the server's output is not piped")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if let Some(url) = line.split_whitespace().find(|word| word.starts_with("http://")) {
            return Ok((server, url.to_owned()));
        }
    }
    bail!("`cargo xtask serve` ended without printing an address")
}
