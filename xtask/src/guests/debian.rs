//! Files out of Debian packages, without installing them.
//!
//! A package is downloaded with `apt-get download`, the wanted files are read out of its tar stream and the
//! package is deleted again. What was taken stays in the cache as a *part*, so that a second run needs no
//! network. Kernels are found through their meta packages, because the numbers in their names change and
//! differ between architectures.
//!
//! The system's package index is asked first. When it does not know a package, or knows one that its server
//! no longer has, an index of our own in the cache is brought up to date and asked instead. That one always
//! covers i386, needs no root, and leaves the system's alone.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;

use anyhow::{Context, Result, bail, ensure};

use crate::commands;

/// One file of one package.
pub struct Part {
    /// Package name, with `:i386` behind it for the other architecture. A meta package stands for the first
    /// `linux-image-6…` that it depends on.
    pub package: &'static str,
    /// Start of the file's path inside the package; the first file that matches is taken.
    pub path: &'static str,
}

/// Gives the part's place in the cache, and downloads it when it is not there.
///
/// # Errors
/// When the package is unknown to apt, cannot be downloaded, or lacks the file.
pub fn fetch(cache: &Path, part: &Part) -> Result<PathBuf> {
    let name = Path::new(part.path).file_name().context("a part names a file")?;
    let place = cache.join("parts").join(part.package.replace(':', "-")).join(name);
    if place.exists() {
        return Ok(place);
    }
    let folder = place.parent().context("a part has a folder")?;
    fs::create_dir_all(folder)?;
    let archive = Index::system().download(part.package, folder).or_else(|_| {
        let own = Index::own(&cache.join("apt"))?;
        own.download(part.package, folder)
    })?;
    let content = read_file(&archive.file, part.path);
    fs::remove_file(&archive.file)?;
    let content = content.with_context(|| format!("package {}", archive.package))?;
    fs::write(folder.join("package.txt"), format!("{}\n", archive.package))?;
    super::write_whole(&place, &content)?;
    Ok(place)
}

/// The name of the package that a fetched part came from; a kernel's holds its version.
pub fn origin(part: &Path) -> String {
    let text = fs::read_to_string(part.with_file_name("package.txt")).unwrap_or_default();
    text.trim().to_owned()
}

/// Installs Debian packages when `program` is not on the path, and says so first.
///
/// # Errors
/// When neither root nor `sudo` is at hand, or apt fails.
pub fn ensure_program(program: &str, packages: &[&str]) -> Result<()> {
    if commands::find(program).is_some() {
        return Ok(());
    }
    install(program, packages)
}

/// Installs Debian packages because `what` is missing, and says so first.
///
/// # Errors
/// As [`ensure_program`].
pub fn install(what: &str, packages: &[&str]) -> Result<()> {
    println!("{what} is missing: installing {}", packages.join(" "));
    // `env` carries the variable through sudo.
    let mut command = commands::as_root("env")?;
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=300"]);
    command.args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(packages);
    commands::run(&mut command).context("try `apt-get update` first")
}

/// A downloaded package.
struct Archive {
    package: String,
    file: PathBuf,
}

/// What apt knows about packages.
struct Index {
    options: Vec<String>,
}

impl Index {
    fn system() -> Index {
        // Root need not become another user who could not write into the cache.
        Index { options: vec!["-oAPT::Sandbox::User=root".to_owned()] }
    }

    /// An index in `folder`, brought up to date once in a run.
    fn own(folder: &Path) -> Result<Index> {
        static REFRESHED: Once = Once::new();
        let mut index = Index::system();
        let (lists, archives) = (folder.join("lists"), folder.join("archives"));
        fs::create_dir_all(lists.join("partial"))?;
        fs::create_dir_all(archives.join("partial"))?;
        let more = [
            format!("-oDir::State::lists={}", lists.display()),
            format!("-oDir::Cache={}", archives.display()),
            "-oAPT::Architectures::=i386".to_owned(),
            "-oAcquire::Languages=none".to_owned(),
            "-oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        ];
        index.options.extend(more);
        REFRESHED.call_once(|| {
            println!("guests: bringing our own package index up to date");
            // A suite whose mirror is being changed makes this fail; what the others hold is there
            // nevertheless.
            index.command("apt-get").arg("update").output().ok();
        });
        Ok(index)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-q").args(&self.options);
        command
    }

    fn download(&self, name: &str, folder: &Path) -> Result<Archive> {
        let package = self.resolve(name)?;
        println!("guests: downloading {package}");
        let output = self.command("apt-get").args(["download", &package]).current_dir(folder).output();
        let output = output.context("apt-get")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        if errors.contains("Unable to locate") || errors.contains("No candidate") {
            bail!("{}", unknown(name));
        }
        ensure!(output.status.success(), "apt-get download {package}: {}", errors.trim());
        for entry in fs::read_dir(folder)? {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == "deb") {
                return Ok(Archive { package, file });
            }
        }
        bail!("apt-get download {package} left no package behind")
    }

    /// The package that a kernel's meta package stands for; any other stands for itself.
    fn resolve(&self, name: &str) -> Result<String> {
        if !name.starts_with("linux-image-") {
            return Ok(name.to_owned());
        }
        let output = self.command("apt-cache").args(["depends", name]).output().context("apt-cache")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let found = text.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
        found.map(str::to_owned).with_context(|| unknown(name))
    }
}

fn unknown(package: &str) -> String {
    let cure = if package.ends_with(":i386") {
        "dpkg --add-architecture i386 && apt-get update"
    } else {
        "apt-get update"
    };
    format!("apt does not know the package {package}; run `{cure}` and try again")
}

/// Reads the first regular file whose path starts with `./` and `wanted`. Stops there, because a kernel
/// package has its kernel in front of some hundred megabytes of modules.
fn read_file(archive: &Path, wanted: &str) -> Result<Vec<u8>> {
    let mut unpacker = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(archive)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("dpkg-deb")?;
    let mut stream = unpacker.stdout.take().context("dpkg-deb has no output")?;
    let found = find_in_tar(&mut stream, wanted);
    drop(stream);
    // It ends by itself once its pipe is closed; its status then says so and means nothing.
    unpacker.kill().ok();
    unpacker.wait()?;
    found
}

/// POSIX tar: 512-byte blocks, a header with the name at 0 and the size in octal at 124, type at 156.
fn find_in_tar(stream: &mut impl Read, wanted: &str) -> Result<Vec<u8>> {
    const BLOCK: usize = 512;
    let mut header = [0; BLOCK];
    while stream.read_exact(&mut header).is_ok() && header[0] != 0 {
        let name = field(&header[..100]);
        let size = usize::from_str_radix(field(&header[124..136]).trim(), 8)
            .with_context(|| format!("the size of {name} in the package's archive"))?;
        let mut content = vec![0; size.next_multiple_of(BLOCK)];
        stream.read_exact(&mut content)?;
        let regular = header[156] == b'0' || header[156] == 0;
        if regular && name.strip_prefix("./").is_some_and(|name| name.starts_with(wanted)) {
            content.truncate(size);
            return Ok(content);
        }
    }
    bail!("no file {wanted} inside")
}

fn field(bytes: &[u8]) -> String {
    let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar_entry(name: &str, content: &[u8]) -> Vec<u8> {
        let mut header = vec![0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[156] = b'0';
        header.extend_from_slice(content);
        header.resize(header.len().next_multiple_of(512), 0);
        header
    }

    #[test]
    fn file_is_found_by_the_start_of_its_path() {
        let mut tar = tar_entry("./boot/config-6.1", b"config");
        tar.extend(tar_entry("./boot/vmlinuz-6.1", b"kernel"));
        let found = find_in_tar(&mut tar.as_slice(), "boot/vmlinuz").unwrap();
        assert_eq!(found, b"kernel");
    }

    #[test]
    fn missing_file_is_an_error_that_names_it() {
        let tar = tar_entry("./boot/config-6.1", b"config");
        let error = find_in_tar(&mut tar.as_slice(), "boot/vmlinuz").unwrap_err();
        assert!(error.to_string().contains("boot/vmlinuz"));
    }

    #[test]
    fn unknown_i386_package_names_the_cure() {
        assert!(unknown("busybox-static:i386").contains("--add-architecture i386"));
        assert!(!unknown("busybox-static").contains("--add-architecture"));
    }
}
