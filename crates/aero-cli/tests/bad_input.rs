//! What a user can get wrong ends in exit status 2 and one line that names the option.

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn aero(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_aero");
    Command::new(program).args(arguments).stdin(Stdio::null()).output().expect("the program starts")
}

/// Runs `aero run` and returns its one line of complaint.
fn refused(arguments: &[&str]) -> String {
    let output = aero(&[&["run"], arguments].concat());
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

fn refused_in_one_line(arguments: &[&str]) -> String {
    let text = refused(arguments);
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn with(&self, name: &str, bytes: &[u8]) -> String {
        let file = self.0.path().join(name);
        std::fs::write(&file, bytes).expect("a file");
        text(&file)
    }
}

fn text(file: &Path) -> String {
    file.to_str().expect("a plain name").to_owned()
}

#[test]
fn version_and_help_are_there() {
    let version = aero(&["--version"]);
    assert!(version.status.success() && version.stdout.starts_with(b"aero "));
    let help = aero(&["run", "--help"]);
    let help = String::from_utf8(help.stdout).expect("text");
    for part in
        ["--kernel", "--firmware", "--testdev", "--post-port", "--expect-serial", "Exit status", "Ctrl-A x"]
    {
        assert!(help.contains(part), "{part} is missing");
    }
}

#[test]
fn missing_empty_and_wrong_kernels_are_refused() {
    let files = Files::new();
    let folder = text(files.0.path());
    for (file, part) in [
        ("no/such/file".to_owned(), "no such file"),
        (folder, "directory"),
        (files.with("empty", b""), "empty"),
        (files.with("text", b"this is not a kernel"), "bzImage"),
    ] {
        let line = refused_in_one_line(&["--kernel", &file, "--memory", "64M"]);
        assert!(line.contains(&format!("--kernel {file}: ")) && line.contains(part), "{line}");
    }
    assert!(refused_in_one_line(&[]).contains("there is nothing to boot"));
}

#[test]
fn initrd_larger_than_memory_is_refused() {
    let files = Files::new();
    let kernel = files.with("kernel", b"any");
    let initrd = files.with("initrd", &vec![0; 3 << 20]);
    let line = refused_in_one_line(&["--kernel", &kernel, "--initrd", &initrd, "--memory", "2M"]);
    assert!(line.contains("--initrd") && line.contains("3 MiB") && line.contains("--memory"), "{line}");
}

#[test]
fn memory_that_cannot_be_is_refused() {
    let files = Files::new();
    let kernel = files.with("kernel", b"any");
    for size in ["8000G", "64K"] {
        let line = refused_in_one_line(&["--kernel", &kernel, "--memory", size]);
        assert!(line.contains("--memory"), "{line}");
    }
}

/// An ELF file of 32 bits with a multiboot header, its segment at `at`.
fn multiboot(at: u32, checksum: u32) -> Vec<u8> {
    const MAGIC: u32 = 0x1bad_b002;
    let words = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>();
    let ident = [0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 3, 0];
    let sizes = [52, 0, 32, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    let program = words(&[1, 84, at, at, 16, 16, 7, 4]);
    let body = words(&[MAGIC, 0, checksum, 0xf4f4_f4f4]);
    [&ident[..], &words(&[1, at + 12, 52, 0, 0]), &sizes, &program, &body].concat()
}

#[test]
fn bad_multiboot_kernels_are_named_with_the_cure() {
    const GOOD: u32 = 0xe452_4ffe;
    let files = Files::new();
    let good = multiboot(0x10_0000, GOOD);
    for (bytes, parts) in [
        (multiboot(0x10_0000, 1), ["checksum", "offset 0x54"]),
        (good[..good.len() - 4].to_vec(), ["truncated", "a segment"]),
        (good[..60].to_vec(), ["multiboot header", "first 8 KiB"]),
        (multiboot(0x7000_0000, GOOD), ["0x70000000", "--memory"]),
        (multiboot(0xf_8000, GOOD), ["0xf8000", "link it elsewhere"]),
    ] {
        let file = files.with("kernel.elf", &bytes);
        let line = refused_in_one_line(&["--kernel", &file, "--memory", "32M"]);
        assert!(line.contains(&format!("--kernel {file}: ")), "{line}");
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
}

#[test]
fn bad_firmware_is_named_with_the_cure() {
    let files = Files::new();
    for (bytes, part) in
        [(vec![0; 1000], "64 KiB"), (vec![0; 65 << 10], "64 KiB"), (vec![0; 17 << 20], "16 MiB")]
    {
        let file = files.with("rom", &bytes);
        let line = refused_in_one_line(&["--firmware", &file]);
        assert!(line.contains(&format!("--firmware {file}: ")) && line.contains(part), "{line}");
    }
    assert!(
        refused_in_one_line(&["--firmware", "no/such/rom"])
            .contains("--firmware no/such/rom: there is no such file")
    );
    let both = refused(&["--firmware", "rom", "--kernel", "k"]);
    assert!(both.contains("--firmware") && both.contains("--kernel"), "{both}");
}

#[test]
fn several_processors_are_refused_for_now() {
    let line = refused(&["--kernel", "k", "--cpus", "4"]);
    assert!(line.contains("--cpus") && line.contains("one processor"), "{line}");
}

#[test]
fn bad_options_are_named() {
    for (arguments, part) in [
        (&["--memory", "lots"][..], "--memory"),
        (&["--frobnicate"], "--frobnicate"),
        (&["--clock", "sundial"], "--clock"),
        (&["--rtc", "teatime"], "--rtc"),
        (&["--serial", "carrier-pigeon"], "--serial"),
        (&["--expect-serial", "("], "--expect-serial"),
        (&["--timeout", "-1"], "--timeout"),
        (&["--debug-exit", "70000"], "--debug-exit"),
        (&["--post-port", "none"], "--post-port"),
    ] {
        let text = refused(&[&["--kernel", "k"], arguments].concat());
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn bad_script_names_its_file_and_line() {
    let files = Files::new();
    let script = files.with("steps", b"# a comment\nwait 1\nexpct serial \"x\"\n");
    let line = refused_in_one_line(&["--kernel", "k", "--script", &script]);
    assert!(line.contains(&format!("--script {script}:3: `expct")), "{line}");
    assert!(refused_in_one_line(&["--kernel", "k", "--script", "no/such"]).contains("--script no/such"));
}

#[test]
fn bad_configuration_names_its_file() {
    let files = Files::new();
    let config = files.with("vm.toml", b"memry = '1G'\n");
    let line = refused_in_one_line(&["--config", &config]);
    assert!(line.contains(&format!("--config {config}: `memry` is not an option")), "{line}");
}

#[test]
fn unwritable_output_is_refused_before_the_guest_starts() {
    let files = Files::new();
    let kernel = files.with("kernel", b"any");
    let line = refused_in_one_line(&["--kernel", &kernel, "--serial", "file:no/such/folder/log"]);
    assert!(line.contains("--serial no/such/folder/log"), "{line}");
}

#[test]
fn bad_drives_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, len: usize| {
        let path = folder.path().join(name);
        std::fs::write(&path, vec![0; len]).expect("a file");
        path.display().to_string()
    };
    let (short, odd, good) = (file("short", 100), file("odd", 700), file("good", 1024));
    let large = file("large", 3 << 20);
    for (arguments, part) in [
        (&["--disk", &short][..], "less than a sector"),
        (&["--cdrom", &odd], "pad it to 1024"),
        (&["--disk", "no/such"], "no such file"),
        (&["--disk", &format!("{good},bus=scsi")], "'bus=scsi' is not known"),
        (&["--floppy", &large], "a floppy image has at most"),
        (&["--disk", &good, "--disk", &good], "another process"),
        (&["--disk", &good, "--boot", "order=x"], "'order=x' is not known"),
    ] {
        let line = refused_in_one_line(arguments);
        assert!(line.contains(part), "{arguments:?}: {line}");
    }
}
