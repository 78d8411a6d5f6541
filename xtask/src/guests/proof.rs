//! The proof guests: real programs that run on the host when the guest is made and again in the guest, and must print the
//! same bytes.
//!
//! The initramfs holds GCC's compiler proper and OpenSSL out of Debian's packages with their libraries, the checks of
//! `bench/fpcheck`, a C file of some thousand lines that is made here, the script that runs them all
//! (`guests/proof-rootfs/proof.sh`), and what it printed on the host (`expected.txt`). They are loaded by the loader in
//! the same folder, so nothing of the host's own libraries takes part.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::cpio::Archive;
use super::debian::{self, Part};
use super::{cache, read_source, write_whole};
use crate::bench::kit;

/// A file of the guest's folder: where it goes, and which part it is.
type File = (&'static str, Part);

const fn part(package: &'static str, path: &'static str) -> Part {
    Part { package, path }
}

/// What runs in a guest of an architecture.
pub struct Programs {
    files: &'static [File],
    /// Builds of `bench/fpcheck`.
    checks: &'static [&'static str],
}

/// 64-bit programs.
pub const AMD64: Programs = Programs {
    files: &[
        ("bin/cc1", part("cpp-12", "usr/lib/gcc/x86_64-linux-gnu/12/cc1")),
        ("bin/openssl", part("openssl", "usr/bin/openssl")),
        ("lib/ld.so", part("libc6", "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")),
        ("lib/libc.so.6", part("libc6", "lib/x86_64-linux-gnu/libc.so.6")),
        ("lib/libm.so.6", part("libc6", "lib/x86_64-linux-gnu/libm.so.6")),
        ("lib/libisl.so.23", part("libisl23", "usr/lib/x86_64-linux-gnu/libisl.so.23")),
        ("lib/libmpc.so.3", part("libmpc3", "usr/lib/x86_64-linux-gnu/libmpc.so.3")),
        ("lib/libmpfr.so.6", part("libmpfr6", "usr/lib/x86_64-linux-gnu/libmpfr.so.6")),
        ("lib/libgmp.so.10", part("libgmp10", "usr/lib/x86_64-linux-gnu/libgmp.so.10")),
        ("lib/libz.so.1", part("zlib1g", "lib/x86_64-linux-gnu/libz.so.1")),
        ("lib/libzstd.so.1", part("libzstd1", "usr/lib/x86_64-linux-gnu/libzstd.so.1")),
        ("lib/libssl.so.3", part("libssl3", "usr/lib/x86_64-linux-gnu/libssl.so.3")),
        ("lib/libcrypto.so.3", part("libssl3", "usr/lib/x86_64-linux-gnu/libcrypto.so.3")),
    ],
    checks: &["x64"],
};

/// 32-bit programs.
pub const I386: Programs = Programs {
    files: &[
        ("bin/cc1", part("cpp-12:i386", "usr/lib/gcc/i686-linux-gnu/12/cc1")),
        ("bin/openssl", part("openssl:i386", "usr/bin/openssl")),
        ("lib/ld.so", part("libc6:i386", "lib/i386-linux-gnu/ld-linux.so.2")),
        ("lib/libc.so.6", part("libc6:i386", "lib/i386-linux-gnu/libc.so.6")),
        ("lib/libm.so.6", part("libc6:i386", "lib/i386-linux-gnu/libm.so.6")),
        ("lib/libisl.so.23", part("libisl23:i386", "usr/lib/i386-linux-gnu/libisl.so.23")),
        ("lib/libmpc.so.3", part("libmpc3:i386", "usr/lib/i386-linux-gnu/libmpc.so.3")),
        ("lib/libmpfr.so.6", part("libmpfr6:i386", "usr/lib/i386-linux-gnu/libmpfr.so.6")),
        ("lib/libgmp.so.10", part("libgmp10:i386", "usr/lib/i386-linux-gnu/libgmp.so.10")),
        ("lib/libz.so.1", part("zlib1g:i386", "lib/i386-linux-gnu/libz.so.1")),
        ("lib/libzstd.so.1", part("libzstd1:i386", "usr/lib/i386-linux-gnu/libzstd.so.1")),
        ("lib/libssl.so.3", part("libssl3:i386", "usr/lib/i386-linux-gnu/libssl.so.3")),
        ("lib/libcrypto.so.3", part("libssl3:i386", "usr/lib/i386-linux-gnu/libcrypto.so.3")),
    ],
    checks: &["i686", "p4"],
};

/// Puts the programs and what they print on the host into `archive`, under `proof/`.
///
/// # Errors
/// When a package or a compiler cannot be had, or a program fails on the host.
pub fn add(archive: &mut Archive, name: &str, programs: &Programs, busybox: &Path) -> Result<()> {
    let folder = stage(name, programs)?;
    let expected = on_the_host(&folder, busybox)?;
    archive.file("init", 0o755, read_source("guests/proof-rootfs/init")?);
    archive.file("proof/expected.txt", 0o644, expected);
    archive.directory("tmp");
    for file in files_of(&folder, programs) {
        archive.file(&format!("proof/{file}"), 0o755, fs::read(folder.join(&file))?);
    }
    Ok(())
}

fn files_of(folder: &Path, programs: &Programs) -> Vec<String> {
    let mut files: Vec<String> = programs.files.iter().map(|(place, _)| (*place).to_owned()).collect();
    files.extend(programs.checks.iter().map(|kit| format!("bin/fpcheck-{kit}")));
    files.extend(["proof.sh", "big.c"].map(str::to_owned));
    files.retain(|file| folder.join(file).exists());
    files
}

/// Lays the files out as they will lie in the guest.
fn stage(name: &str, programs: &Programs) -> Result<PathBuf> {
    let guests = cache()?.join("guests");
    let folder = guests.join(name).join("proof");
    for (place, part) in programs.files {
        place_program(&folder.join(place), &debian::fetch(&guests, part)?)?;
    }
    for kit in programs.checks {
        place_program(&folder.join(format!("bin/fpcheck-{kit}")), &kit::build_check(kit)?)?;
    }
    write_whole(&folder.join("proof.sh"), &read_source("guests/proof-rootfs/proof.sh")?)?;
    write_whole(&folder.join("big.c"), big_source().as_bytes())?;
    Ok(folder)
}

fn place_program(to: &Path, from: &Path) -> Result<()> {
    write_whole(to, &fs::read(from)?)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).with_context(|| to.display().to_string())
}

/// What the script prints here.
fn on_the_host(folder: &Path, busybox: &Path) -> Result<Vec<u8>> {
    let temporary = folder.join("tmp");
    let shell = folder.join("busybox");
    place_program(&shell, busybox)?;
    fs::create_dir_all(&temporary)?;
    let output = Command::new(&shell)
        .args(["sh", "proof.sh"])
        .current_dir(folder)
        .env("BUSYBOX", &shell)
        .env("TMPDIR", &temporary)
        .output()
        .with_context(|| shell.display().to_string())?;
    fs::remove_dir_all(&temporary).ok();
    let text = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&text);
    ensure!(output.status.success() && !said.contains("failed"), "the proof fails on the host:\n{said}");
    Ok(text)
}

/// Functions in the C file.
const FUNCTIONS: u32 = 270;

/// A C file of about five thousand lines, the same at every call: loops, switches, structures, shifts, divisions,
/// doubles and 64-bit arithmetic, so that a compiler has something to do in every pass.
fn big_source() -> String {
    let mut state = 0x2545_f491u32;
    let mut random = |below: u32| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state % below
    };
    let mut text = String::from(
        "struct node { int key; unsigned long long sum; double weight; struct node *next; };\n\
         static unsigned table[64];\n",
    );
    for n in 0..FUNCTIONS {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "long f{n}(long a, unsigned b, double x, struct node *p)\n{{\n    long r = a ^ {c0};\n    for (int i = 0; i < \
             {c1}; i++) {{\n        r += (long)table[(b + i * {c2}) & 63] << (i & 7);\n        if (r & {c3})\n            \
             r = r / {c4} - (r % {c5});\n        else\n            b = b * {c6}u + (unsigned)i;\n    }}\n    switch (b % \
             {c7}) {{\n    case 0: r += p->key; break;\n    case 1: p->sum += (unsigned long long)r * b; break;\n    case 2: \
             p->weight = p->weight * {c8}.5 + x / (r + {c9}); break;\n    case 3: while (p->next) p = p->next; break;\n    \
             default: table[b & 63] ^= (unsigned)(p->sum >> {c10});\n    }}\n    return r + (long)(x * {c11}.25){call};\n}}\n",
            c0 = random(1 << 20),
            c1 = 3 + random(30),
            c2 = 1 + random(17),
            c3 = 1 << random(12),
            c4 = 2 + random(1000),
            c5 = 3 + random(77),
            c6 = 1 + random(1 << 16),
            c7 = 4 + random(9),
            c8 = random(100),
            c9 = 1 + random(50),
            c10 = random(60),
            c11 = random(300),
            call = if n == 0 { String::new() } else { format!(" + f{}(r, b, x, p)", random(n)) },
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c_file_has_five_thousand_lines_and_is_always_the_same() {
        let text = big_source();
        assert!((5000..6000).contains(&text.lines().count()), "{}", text.lines().count());
        assert_eq!(text, big_source());
    }
}
