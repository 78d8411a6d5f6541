//! The tables under ACPICA's own tools, as tests: `iasl` takes them apart and compiles them again, `acpiexec`
//! is an interpreter of byte code with made-up hardware below it.
//!
//! This file knows nothing of how the tables are made, so that the machine's tests can include it too.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;

/// A folder of its own for each test, gone when the test passes.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("test").replace(':', "-");
        let dir = std::env::temp_dir().join(format!("aero-acpica-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a writable temporary folder");
        Self(dir)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.0.join(name), bytes).expect("write a table");
    }

    /// Runs a tool here and returns what it said; a tool that is missing or fails ends the test.
    fn run(&self, tool: &str, args: &[&str]) -> String {
        let out = Command::new(tool).current_dir(&self.0).args(args).output().unwrap_or_else(|e| {
            panic!(
                "this test needs {tool} ({e}); install the package acpica-tools, or run `cargo xtask setup`"
            )
        });
        let said = [out.stdout, out.stderr].map(|b| String::from_utf8_lossy(&b).into_owned()).concat();
        let fine = out.status.success() && !said.contains("Could not");
        assert!(fine, "{tool} {args:?} in {}:\n{said}", self.0.display());
        said
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            std::fs::remove_dir_all(&self.0).expect("the folder is ours");
        }
    }
}

/// Takes each table apart, compiles it, and compares. Byte code must compile without a warning.
pub fn round_trip(tables: &[Vec<u8>]) {
    let dir = Scratch::new();
    for (n, bytes) in tables.iter().enumerate() {
        let name = format!("{}-{n}", String::from_utf8_lossy(&bytes[..4]));
        dir.write(&format!("{name}.dat"), bytes);
        dir.run("iasl", &["-d", &format!("{name}.dat")]);
        // Optimised names would be shorter.
        let said = dir.run("iasl", &["-oa", &format!("{name}.dsl")]);
        let data_table = !name.starts_with("DSDT");
        assert!(data_table || said.contains(" 0 Errors, 0 Warnings, "), "{said}");
        let again = std::fs::read(dir.0.join(format!("{name}.aml"))).expect("iasl wrote it");
        // The header differs in the compiler's name and version, and so in the checksum.
        let body = if name.starts_with("FACS") { 0 } else { 36 };
        assert_eq!(bytes[body..], again[body..], "{name} changed on the way through iasl");
    }
}

/// The source text of byte code.
pub fn disassemble(dsdt: &[u8]) -> String {
    let dir = Scratch::new();
    dir.write("dsdt.dat", dsdt);
    dir.run("iasl", &["-d", "dsdt.dat"]);
    std::fs::read_to_string(dir.0.join("dsdt.dsl")).expect("iasl wrote it")
}

/// The names that stand in `dsl` before the line that declares them, anywhere, methods included.
pub fn forward_references(dsl: &str) -> Vec<String> {
    let body = &dsl[dsl.find("DefinitionBlock").expect("a definition block")..];
    let tokens = tokens(body);
    let mut declared: BTreeSet<&str> = ["_SB", "_PR", "_GPE"].into();
    let mut missing = Vec::new();
    for (n, token) in tokens.iter().enumerate() {
        if !is_name(token) {
            continue;
        }
        if declares(&tokens, n) {
            declared.insert(token);
        } else if !declared.contains(token.as_str()) {
            missing.push(token.clone());
        }
    }
    missing
}

/// Words and signs, without comments and strings.
fn tokens(source: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let skip = match c {
            '"' => rest[1..].find('"').map_or(rest.len(), |at| at + 2),
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |at| at + 2),
            _ => word.max(c.len_utf8()),
        };
        if word > 0 || "(),{}".contains(c) {
            tokens.push(rest[..skip].to_owned());
        }
        rest = &rest[skip..];
    }
    tokens
}

/// Words that look like names: three keywords, and how iasl names a resource and a field in it.
const NOT_NAMES: [&str; 5] = ["IO", "DMA", "IRQ", "_Y00", "_INT"];

/// Capitals, digits and underscores, at most four: keywords have small letters, but for a few.
fn is_name(token: &str) -> bool {
    let letters = token.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    let first = token.starts_with(|c: char| c.is_ascii_uppercase() || c == '_');
    letters && first && token.len() <= 4 && !NOT_NAMES.contains(&token)
}

/// Whether the name at `n` is being declared: the first argument of a declaring word, the last of a buffer
/// field, or a field unit (a name and its width inside the braces of a field list).
fn declares(tokens: &[String], n: usize) -> bool {
    let word = |at: usize| tokens.get(at).map_or("", String::as_str);
    let before = |back: usize| n.checked_sub(back).map_or("", word);
    let declaring =
        ["Name", "Method", "Device", "OperationRegion", "Processor", "PowerResource", "ThermalZone"];
    let first = before(1) == "(" && declaring.contains(&before(2));
    let opened = enclosing(tokens, n)
        .and_then(|at| at.checked_sub(1))
        .is_some_and(|at| word(at).starts_with("Create"));
    let last = word(n + 1) == ")" && before(1) == "," && opened;
    let unit = ["{", ","].contains(&before(1)) && word(n + 1) == "," && word(n + 2).parse::<u32>().is_ok();
    first || last || unit
}

/// Where the parenthesis opens in which the token at `n` is.
fn enclosing(tokens: &[String], n: usize) -> Option<usize> {
    let mut depth = 0;
    (0..n).rev().find(|at| {
        match tokens[*at].as_str() {
            ")" => depth += 1,
            "(" => depth -= 1,
            _ => {}
        }
        depth < 0
    })
}

/// Evaluates every predefined name, then steers each link to each interrupt that it offers, and disables it.
pub fn evaluate_every_method(dsdt: &[u8]) {
    // The interpreter calls _SRS with a number, which is no setting; that one comes below.
    let said = run_acpiexec(dsdt, &["execute predefined".into()]);
    let ends = said.lines().filter(|line| line.contains(" returned AE_") && !line.contains("._SRS "));
    let ends: Vec<_> = ends.collect();
    assert!(ends.len() > 50 && ends.iter().all(|line| line.ends_with("AE_OK")), "{said}");
    for link in ["LNKA", "LNKB", "LNKC", "LNKD"] {
        let call = |name: &str, argument: &str| format!("evaluate \\_SB.{link}.{name} {argument}");
        let offered = interrupts_of(&acpiexec(dsdt, &[call("_PRS", "")]));
        assert!(!offered.is_empty(), "{link}._PRS");
        for gsi in offered {
            let setting = format!("(89 06 00 09 01 {gsi:02X} 00 00 00)");
            let said = acpiexec(dsdt, &[call("_SRS", &setting), call("_STA", ""), call("_CRS", "")]);
            assert_eq!(
                (interrupts_of(&said), said.contains("= 000000000000000B")),
                (vec![gsi], true),
                "{said}"
            );
        }
        let said = acpiexec(dsdt, &[call("_DIS", ""), call("_STA", ""), call("_CRS", "")]);
        assert_eq!((interrupts_of(&said), said.contains("= 0000000000000009")), (vec![0], true), "{said}");
    }
}

fn run_acpiexec(dsdt: &[u8], commands: &[String]) -> String {
    let dir = Scratch::new();
    dir.write("dsdt.dat", dsdt);
    dir.run("acpiexec", &["-b", &commands.join(";"), "dsdt.dat"])
}

/// Runs commands of the interpreter; any error or warning that it reports ends the test.
fn acpiexec(dsdt: &[u8], commands: &[String]) -> String {
    let said = run_acpiexec(dsdt, commands);
    assert!(!["ACPI Error", "ACPI Warning", "ACPI BIOS"].iter().any(|word| said.contains(word)), "{said}");
    said
}

/// The interrupts of the first extended interrupt resource in a dump of bytes.
fn interrupts_of(said: &str) -> Vec<u32> {
    let bytes = dumped(said);
    let Some(at) = bytes.iter().position(|b| *b == 0x89) else { return Vec::new() };
    let numbers = &bytes[at + 5..at + 5 + 4 * usize::from(bytes[at + 4])];
    numbers.chunks(4).map(le).collect()
}

fn le(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |n, b| n << 8 | u32::from(*b))
}

/// The bytes of all buffers in a dump.
fn dumped(said: &str) -> Vec<u8> {
    let lines = said.lines().filter_map(|line| line.split_once("//"));
    let hex = lines.filter_map(|(line, _)| line.rsplit_once(": "));
    let words = hex.flat_map(|(_, hex)| hex.split_whitespace());
    words.filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}

/// In both interrupt modes: each pin of each device on the bus goes to a link, and each interrupt that a link
/// offers is a pin of the I/O APIC, declared level by the MADT, and none of a device with an interrupt of its
/// own.
pub fn check_routing(dsdt: &[u8], madt: &[u8]) {
    const LEGACY: [u32; 7] = [0, 1, 8, 12, 13, 14, 15];
    for mode in 0..2 {
        let said = acpiexec(dsdt, &[format!("evaluate \\_PIC {mode}"), "evaluate \\_SB.PCI0._PRT".into()]);
        let integers: Vec<u64> = said
            .lines()
            .filter_map(|line| line.split_once("[Integer] = "))
            .filter_map(|(_, hex)| u64::from_str_radix(hex.trim(), 16).ok())
            .collect();
        // Each entry: address, pin, (link), index.
        let pins: BTreeSet<(u64, u64)> = integers.chunks(3).map(|entry| (entry[0], entry[1])).collect();
        let want = (1..=30).flat_map(|device| (0..4).map(move |pin| (device << 16 | 0xffff, pin)));
        assert_eq!(pins, want.collect(), "mode {mode}");
        assert!(integers.chunks(3).all(|entry| entry[2] == 0));
        assert_eq!(said.matches("LNK").count(), 120, "{said}");
        for link in ["LNKA", "LNKB", "LNKC", "LNKD"] {
            let offered =
                acpiexec(dsdt, &[format!("evaluate \\_PIC {mode}"), format!("evaluate \\_SB.{link}._PRS")]);
            for gsi in interrupts_of(&offered) {
                assert!(gsi < 24 && !LEGACY.contains(&gsi), "{link} offers {gsi}");
                let level = [2, 10, 0, gsi as u8, gsi as u8, 0, 0, 0, 0x0d, 0];
                assert!(
                    madt.windows(10).any(|w| w == level),
                    "the MADT declares {gsi} active high and level"
                );
            }
        }
    }
}

/// The root bus claims no memory of the map but what lies in the video window's hole.
pub fn check_root_windows(dsdt: &[u8], map: &[Range<u64>]) {
    let bytes = dumped(&acpiexec(dsdt, &["evaluate \\_SB.PCI0._CRS".into()]));
    // A dword address space descriptor of type memory.
    let at = bytes.windows(4).enumerate().filter(|(_, w)| *w == [0x87, 0x17, 0, 0]).map(|(at, _)| at);
    let windows: Vec<_> = at.map(|at| (le(&bytes[at + 10..at + 14]), le(&bytes[at + 14..at + 18]))).collect();
    assert_eq!(windows.len(), 2, "{bytes:x?}");
    for (first, last) in windows {
        let hit = map.iter().find(|r| r.start <= last.into() && u64::from(first) < r.end);
        assert_eq!(hit, None, "PCI0 claims {first:#x} to {last:#x}");
    }
}
