//! The bench kit: `bench/guest-bench` built for each kind of guest, and how many instructions a unit of its
//! work is.
//!
//! An emulator's speed is units of work per second of host CPU time; times the instructions in a unit that
//! makes MIPS that can be compared between emulators. The instructions are counted once per binary, by
//! Valgrind's callgrind on the host: a run of three units less a run of one, halved, so that start-up and
//! inputs cancel out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, bail, ensure};

use crate::guests::{cache, debian, source, write_whole};

/// A program of ours for guests: its name, its folder, its files.
struct Sources {
    name: &'static str,
    folder: &'static str,
    files: &'static [&'static str],
}

const BENCH: Sources = Sources {
    name: "gbench",
    folder: "bench/guest-bench",
    files: &["gbench.h", "gbench.c", "integer.c", "memory.c", "float.c", "system.c", "smc.c"],
};

/// Checks of floating-point arithmetic that print the same on every right processor.
const CHECK: Sources = Sources { name: "fpcheck", folder: "bench/fpcheck", files: &["fpcheck.c"] };

const COMMON_FLAGS: &str = "-O2 -static -s -fno-tree-vectorize -fno-pie -no-pie -Wall -Wextra";

/// Tests whose instructions are the program's own; the rest is the kernel's or the C library's work.
pub const COUNTED: &[&str] = &[
    "sieve", "crc32", "sha256", "qsort", "interp", "fib", "mul64", "div", "bigcode", "bytecopy", "chase16k",
    "chase1m", "nbody", "mandel", "matmul", "matmul4", "simdint",
];

/// The kit's order of tests: system, self-modifying, integer, memory, floating point.
const ORDER: &[&str] = &[
    "getpid",
    "int80",
    "clock",
    "pagefault",
    "fork",
    "forkexec",
    "pipe",
    "smc",
    "smcdata",
    "smcgen",
    "smcself",
    "sieve",
    "crc32",
    "sha256",
    "qsort",
    "interp",
    "fib",
    "mul64",
    "div",
    "bigcode",
    "memcpy",
    "memset",
    "repmovs",
    "bytecopy",
    "chase16k",
    "chase1m",
    "chase64m",
    "nbody",
    "mandel",
    "matmul",
    "matmul4",
    "simdint",
];

/// Where a test stands in the kit; behind all others if it is not of the kit.
pub fn order(test: &str) -> usize {
    ORDER.iter().position(|known| *known == test).unwrap_or(usize::MAX)
}

/// The binary of a kit: `i686-27f` is `i686` with another x87 control word.
fn binary(kit: &str) -> &str {
    kit.strip_suffix("-27f").unwrap_or(kit)
}

fn flags(kit: &str) -> Result<&'static str> {
    Ok(match binary(kit) {
        "x64" => "-m64",
        "i686" => "-m32 -march=i686 -mfpmath=387",
        "p4" => "-m32 -march=pentium4 -msse2 -mfpmath=sse",
        _ => bail!("no bench kit is called {kit:?}; there are x64, i686 and p4"),
    })
}

/// Compiles a kit into the cache, unless the one there is of these sources.
///
/// # Errors
/// When the kit is unknown or the compiler fails.
pub fn build(kit: &str) -> Result<PathBuf> {
    build_program(&BENCH, kit)
}

/// Compiles the floating-point checks for a kit's processor.
///
/// # Errors
/// As [`build`].
pub fn build_check(kit: &str) -> Result<PathBuf> {
    build_program(&CHECK, kit)
}

fn build_program(program: &Sources, kit: &str) -> Result<PathBuf> {
    let flags = flags(kit)?;
    let place = folder()?.join(format!("{}-{kit}", program.name));
    let stamp = program.stamp(flags)?;
    let stamp_file = place.with_extension("stamp");
    if place.exists() && fs::read_to_string(&stamp_file).is_ok_and(|there| there == stamp) {
        return Ok(place);
    }
    ensure_compiler(kit)?;
    println!("bench: compiling {} for {kit}", program.name);
    program.compile(&place, flags)?;
    write_whole(&stamp_file, stamp.as_bytes())?;
    Ok(place)
}

/// Instructions in one unit of each counted test of a kit, from the cache or counted now (about a minute).
///
/// # Errors
/// When Valgrind is missing and cannot be installed, or fails.
pub fn instructions(kit: &str) -> Result<BTreeMap<String, u64>> {
    let kit = binary(kit);
    let binary = build(kit)?;
    let place = folder()?.join(format!("instructions-{:016x}.json", fingerprint(&fs::read(&binary)?)));
    if let Ok(text) = fs::read_to_string(&place) {
        return serde_json::from_str(&text).with_context(|| place.display().to_string());
    }
    debian::ensure_program("valgrind", &["valgrind"])?;
    println!("bench: counting the instructions of the {kit} kit's tests");
    let counts = count_all(kit, &binary)?;
    write_whole(&place, serde_json::to_string_pretty(&counts)?.as_bytes())?;
    Ok(counts)
}

/// The folder of the built kits.
///
/// # Errors
/// When there is no place for the cache.
pub fn folder() -> Result<PathBuf> {
    let folder = cache()?.join("bench/kit");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

impl Sources {
    fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.files.iter().map(|name| source(self.folder).join(name))
    }

    /// What a binary depends on, apart from the compiler's version.
    fn stamp(&self, flags: &str) -> Result<String> {
        let mut all = format!("{COMMON_FLAGS} {flags}\n").into_bytes();
        for path in self.paths() {
            all.extend(fs::read(&path).with_context(|| path.display().to_string())?);
        }
        Ok(format!("{:016x}\n", fingerprint(&all)))
    }

    fn compile(&self, place: &Path, flags: &str) -> Result<()> {
        let status = Command::new("gcc")
            .args(COMMON_FLAGS.split(' '))
            .args(flags.split(' '))
            .args(self.paths().filter(|path| path.extension().is_some_and(|ending| ending == "c")))
            .arg("-o")
            .arg(place)
            .arg("-lm")
            .status()
            .context("gcc")?;
        ensure!(status.success(), "gcc could not compile {} with {flags}", self.folder);
        Ok(())
    }
}

/// FNV-1a: tells one version of our own files from another, nothing more.
fn fingerprint(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xCBF2_9CE4_8422_2325;
    const PRIME: u64 = 0x100_0000_01B3;
    bytes.iter().fold(OFFSET, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

fn ensure_compiler(kit: &str) -> Result<()> {
    debian::ensure_program("gcc", &["gcc", "libc6-dev"])?;
    // A compiler without the other architecture's library is all there is on a plain machine.
    let start_code = Path::new("/usr/lib32/crt1.o");
    if kit == "x64" || start_code.exists() {
        return Ok(());
    }
    debian::install("the 32-bit C library", &["gcc-multilib"])
}

/// Counts on two threads: callgrind has one, and a test takes some seconds under it.
fn count_all(kit: &str, binary: &Path) -> Result<BTreeMap<String, u64>> {
    let mut names: Vec<&str> = COUNTED.to_vec();
    if kit == "i686" {
        names.retain(|name| *name != "matmul4" && *name != "simdint"); // it has no vector instructions
    }
    let queue = Mutex::new(names);
    let counts = Mutex::new(BTreeMap::new());
    let work = || -> Result<()> {
        loop {
            let next = queue.lock().expect("no thread panics with it").pop();
            let Some(name) = next else { return Ok(()) };
            let per_unit = (collected(binary, name, 3)? - collected(binary, name, 1)?) / 2;
            counts.lock().expect("no thread panics with it").insert(name.to_owned(), per_unit);
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(work);
        work().and(other.join().expect("counting does not panic"))
    })?;
    Ok(counts.into_inner().expect("no thread panics with it"))
}

fn collected(binary: &Path, test: &str, units: u32) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(binary)
        .args(["-r", "1", "-u", &units.to_string(), test])
        .output()
        .context("valgrind")?;
    let text = String::from_utf8_lossy(&output.stderr);
    let count = text.lines().find_map(|line| line.split("Collected : ").nth(1));
    let count = count.with_context(|| format!("callgrind counted nothing for {test}: {text}"))?;
    count.trim().parse().with_context(|| format!("callgrind's count for {test}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_of_known_text_is_fnv1a() {
        assert_eq!(fingerprint(b""), 0xCBF2_9CE4_8422_2325);
        assert_eq!(fingerprint(b"a"), 0xAF63_DC4C_8601_EC8C);
    }

    #[test]
    fn order_names_every_test_of_the_kit_once() {
        let mut declared = Vec::new();
        for file in BENCH.paths().filter(|path| path.extension().is_some_and(|ending| ending == "c")) {
            let text = fs::read_to_string(&file).unwrap();
            let rows =
                text.lines().filter_map(|line| line.trim().strip_prefix("{ \"")?.split_once("\", run_"));
            declared.extend(rows.map(|(name, _)| name.to_owned()));
        }
        let mut known = ORDER.to_vec();
        known.sort_unstable();
        declared.sort_unstable();
        assert_eq!(declared, known);
    }

    #[test]
    fn unknown_kit_is_refused_by_name() {
        assert!(build("i586").unwrap_err().to_string().contains("i586"));
    }
}
