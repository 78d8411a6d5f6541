//! The emulators that are compared: how each boots the bench guest with its serial line on the standard streams.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use super::kit;

use crate::guests::{Guest, cache, debian, source};

/// The release of v86 that is compared with.
const V86_VERSION: &str = "0.5.462";

/// Something that runs the kit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// This computer, without an emulator.
    Native,
    /// `aero run`.
    Aero,
    /// Aero's page in headless Chromium.
    AeroChromium,
    /// QEMU with its translator on one thread.
    Qemu,
    /// v86 in Node, for 32-bit guests.
    V86,
    /// v86 in a page in headless Chromium, for 32-bit guests.
    V86Chromium,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 6] =
        [Kind::Native, Kind::Aero, Kind::AeroChromium, Kind::Qemu, Kind::V86, Kind::V86Chromium];

    /// The name in tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Native => "native",
            Kind::Aero => "aero",
            Kind::AeroChromium => "aero-chromium",
            Kind::Qemu => "qemu",
            Kind::V86 => "v86",
            Kind::V86Chromium => "v86-chromium",
        }
    }

    /// Whether it can run the guest at all.
    pub fn runs(self, guest: &Guest) -> bool {
        !matches!(self, Kind::V86 | Kind::V86Chromium) || is_i386(guest)
    }

    /// Whether there is a guest that boots.
    pub fn boots(self) -> bool {
        self != Kind::Native
    }
}

fn is_i386(guest: &Guest) -> bool {
    guest.name.ends_with("i386")
}

/// How Aero is set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// As `aero run --cpu` takes it.
    pub cpu: String,
    /// As `aero run --jit` takes it; nothing is passed when it is not given.
    pub jit: Option<String>,
}

/// A command that runs a guest, and what it needs to live meanwhile.
pub struct Ready {
    /// The command; the guest's serial line is on its standard input and output.
    pub command: Command,
    /// Ended when this is dropped.
    _server: Option<Server>,
    /// Removed when this is dropped.
    _profile: Option<Profile>,
}

impl Ready {
    fn alone(command: Command) -> Ready {
        Ready { command, _server: None, _profile: None }
    }
}

/// Prepares a run; installs a peer that is missing, and says so.
///
/// # Errors
/// When Aero is not built or a peer cannot be had.
pub fn prepare(kind: Kind, guest: &Guest, append: &str, settings: &Settings) -> Result<Ready> {
    match kind {
        Kind::Native => native(append).map(Ready::alone),
        Kind::Aero => aero(guest, append, settings).map(Ready::alone),
        Kind::AeroChromium => aero_chromium(guest, append, settings),
        Kind::Qemu => qemu(guest, append).map(Ready::alone),
        Kind::V86 => v86(guest, append).map(Ready::alone),
        Kind::V86Chromium => v86_chromium(guest, append),
    }
}

/// The guest's `/init` does the same for a guest. This computer's kernel is no baseline for a guest's, so the tests
/// of it are left out.
fn native(append: &str) -> Result<Command> {
    const SCRIPT: &str = r#"
        for kit in $(echo "$kits" | tr , ' '); do
            echo "@kit $kit"
            tests=$(echo "$tests" | tr , ' ')
            case $kit in
            *-27f) "$folder/gbench-${kit%-27f}" -g -x 27f -t "$seconds" -r "$rounds" nbody mandel matmul ;;
            *) "$folder/gbench-$kit" -g -t "$seconds" -r "$rounds" $tests ;;
            esac
        done
        echo @done"#;
    let word = |name: &str| {
        let mut words = append.split(' ');
        words.find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default().to_owned()
    };
    let everything = ["smc", "int", "mem", "fp"].join(",");
    let set = word("set");
    let tests = if set == "all" { everything } else { set };
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT]).env("folder", kit::folder()?).env("tests", tests);
    command.env("kits", word("kits")).env("seconds", word("seconds")).env("rounds", word("rounds"));
    Ok(command)
}

fn aero(guest: &Guest, append: &str, settings: &Settings) -> Result<Command> {
    let mut command = Command::new(crate::boots::aero_binary()?);
    command.arg("run").arg("--kernel").arg(guest.kernel_path()?).arg("--initrd").arg(guest.initrd_path()?);
    command.args(["--append", append, "--memory", &format!("{}M", guest.memory)]);
    command.args(["--serial", "stdio", "--display", "none", "--cpu", &settings.cpu]);
    if let Some(jit) = &settings.jit {
        command.args(["--jit", jit]);
    }
    Ok(command)
}

fn qemu(guest: &Guest, append: &str) -> Result<Command> {
    let program = if is_i386(guest) { "qemu-system-i386" } else { "qemu-system-x86_64" };
    debian::ensure_program(program, &["qemu-system-x86"])?;
    let mut command = Command::new(program);
    command.args(["-accel", "tcg,thread=single", "-m", &guest.memory.to_string(), "-smp", "1"]);
    command.args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-append", append]);
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

fn v86_chromium(guest: &Guest, append: &str) -> Result<Ready> {
    let profile = Profile::new()?;
    let mut command = in_chromium("bench/v86-chromium.mjs", &profile)?;
    command.arg(v86_folder()?).arg(bios_folder()?);
    command.arg(guest.kernel_path()?).arg(guest.initrd_path()?).arg(append).arg(guest.memory.to_string());
    Ok(Ready { command, _server: None, _profile: Some(profile) })
}

fn v86_folder() -> Result<PathBuf> {
    let root = cache()?.join("bench/npm");
    let folder = root.join("node_modules/v86");
    let manifest = fs::read_to_string(folder.join("package.json")).unwrap_or_default();
    // The package's own manifest has the revision behind the version.
    if manifest.contains(&format!("\"version\": \"{V86_VERSION}")) {
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

fn aero_chromium(guest: &Guest, append: &str, settings: &Settings) -> Result<Ready> {
    let profile = Profile::new()?;
    let (server, url) = serve()?;
    let mut command = in_chromium("bench/chromium.mjs", &profile)?;
    // The server offers the cache's guests by their names.
    let file = |name: &str| format!("/guests/{}/{name}", guest.name);
    command.args([&url, &file(&guest.kernel), &file(&guest.initrd), append, &guest.memory.to_string()]);
    command.arg(format!("cpu={}", settings.cpu));
    command.args(settings.jit.iter().map(|jit| format!("jit={jit}")));
    Ok(Ready { command, _server: Some(server), _profile: Some(profile) })
}

/// A script that drives a browser of its own.
fn in_chromium(script: &str, profile: &Profile) -> Result<Command> {
    let playwright = source("web/node_modules/playwright-core");
    if !playwright.exists() {
        bail!("{} is missing: run `cargo xtask setup`", playwright.display());
    }
    let mut command = Command::new("node");
    command.arg(source(script)).arg(playwright).arg(chromium()?).arg(&profile.0);
    Ok(command)
}

/// A browser's profile: the browser is killed in the end and leaves it behind.
struct Profile(PathBuf);

impl Profile {
    fn new() -> Result<Profile> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("aero-bench-{}-{count}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(Profile(folder))
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
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
