//! Programs for the bare machine, in `tests/images`: assembled, run, and compared with the text beside each.
//!
//! `NAME.asm` is a ROM of 64 KiB (`bare.inc` has what they share) or, with a line `; kernel`, a multiboot kernel. It
//! writes to port E9h what `NAME.expected` says and ends by port F4h. The texts are those of the manual; Bochs gives the
//! same for every ROM but those with a line `; oracles:`, which says why not, and QEMU for those that do not need what
//! it leaves out (segment limits, alignment checks, unmasked SSE exceptions, general detect, VME).
//!
//! Lines that count: `; aero: ARGUMENTS` in place of `--cpu max`, `; status: N` for an exit status other than 1, and
//! `; fails: REASON` for an image that does not come out right yet. One that does is told to lose that line.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What came of one image.
#[derive(Debug)]
struct Outcome {
    text: String,
    status: Option<i32>,
    complaint: String,
}

/// The rest of the line of `source` that begins with `; key:`.
fn line<'a>(source: &'a str, key: &str) -> Option<&'a str> {
    let all = source.lines().filter_map(|line| line.strip_prefix("; "));
    all.filter_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim).next()
}

fn assemble(source: &Path, to: &Path) {
    let folder = format!("{}/", source.parent().expect("a folder").display());
    let nasm = Command::new("nasm")
        .args(["-f", "bin", "-w-prefix-seg", "-i", &folder, "-o"])
        .arg(to)
        .arg(source)
        .output();
    let nasm = nasm.expect("nasm is there: cargo xtask setup installs it");
    assert!(nasm.status.success(), "{}: {}", source.display(), String::from_utf8_lossy(&nasm.stderr));
}

fn run(source: &str, image: &Path) -> Outcome {
    let boot = if source.contains("\n; kernel\n") { "--kernel" } else { "--firmware" };
    let arguments = line(source, "aero").unwrap_or("--cpu max");
    let output = Command::new(env!("CARGO_BIN_EXE_aero"))
        .args(["run", boot])
        .arg(image)
        .args(["--debugcon", "0xe9=stdio", "--debug-exit", "0xf4", "--serial", "none", "--vga", "none"])
        .args(["--memory", "16M", "--timeout", "10"])
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    Outcome {
        text: String::from_utf8_lossy(&output.stdout).into_owned(),
        status: output.status.code(),
        complaint: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    }
}

/// What is wrong with an image, if anything is.
fn check(file: &Path, folder: &Path) -> Option<String> {
    let name = file.file_stem().expect("a name").to_string_lossy();
    let source = std::fs::read_to_string(file).expect("a source");
    let expected = std::fs::read_to_string(file.with_extension("expected")).unwrap_or_default();
    let image = folder.join(&*name);
    assemble(file, &image);
    let got = run(&source, &image);
    let status = line(&source, "status").map_or(1, |n| n.parse().expect("a number"));
    let right = got.text == expected && !expected.is_empty() && got.status == Some(status);
    match (line(&source, "fails"), right) {
        (None, true) | (Some(_), false) => None,
        (Some(why), true) => Some(format!("{name} comes out right now: remove its line \"; fails: {why}\"")),
        (None, false) => Some(format!("{name}: {}", difference(&expected, status, &got))),
    }
}

fn difference(expected: &str, status: i32, got: &Outcome) -> String {
    let lines = expected.lines().zip(got.text.lines()).enumerate();
    let first = lines
        .filter(|(_, (want, got))| want != got)
        .map(|(n, (want, got))| format!("line {}:\n  expected {want}\n  got      {got:.200}", n + 1));
    let ends = format!(
        "{} lines and status {status} expected, {} lines and status {:?} came; {}",
        expected.lines().count(),
        got.text.lines().count(),
        got.status,
        got.complaint
    );
    first.chain([ends]).take(4).collect::<Vec<_>>().join("\n")
}

fn images() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images");
    let files = std::fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path());
    let mut images: Vec<_> = files.filter(|file| file.extension().is_some_and(|e| e == "asm")).collect();
    images.sort();
    images
}

#[test]
fn every_image_writes_what_stands_beside_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let images = images();
    assert!(images.len() > 30, "{} images", images.len());
    let wrong: Vec<_> = images.iter().filter_map(|file| check(file, folder.path())).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
