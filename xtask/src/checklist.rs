//! `cargo xtask gen checklist`: `docs/win7-checklist.md`, what Windows 7 expects and which test shows it.
//!
//! A test says which points it covers in a comment above it, `// checklist: 41, 46`; the test of a guest does
//! so in its `test.toml` with `#`. This task finds them, runs the Rust tests among them, and writes the
//! table. A point without a test says `unproven`: so does what only Windows itself could show.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::commands;
use crate::paths;
use crate::sources::rust_files;

/// The points, numbered from 1, and where each part begins.
const POINTS: [(&str, &[&str]); 4] = [
    (
        "Processor",
        &[
            "CPUID leaf 1 EDX has all of 0789F3FDh; the vendor is one of three",
            "CPUID leaf 0Ah is zero unless the counters count",
            "CPUID leaf 6 ECX bit 1, DS and, without XSAVE, leaf 0Dh are clear; XSETBV is undefined then",
            "Physical width is the same in CPUID, MTRR masks and reserved bits",
            "Machine-specific registers of the table read without a fault",
            "Machine-specific registers of the table take writes",
            "Microcode revision after the write, CPUID, read dance",
            "PREFETCHW never faults; fences and CLFLUSH always exist",
            "A store across pages into its own block happens once",
            "A store whose second page faults leaves the first alone",
            "Code patched one instruction ahead runs as patched",
            "Descriptor tables are written only for accessed and busy bits that were clear",
            "Task gate to the double-fault TSS",
            "CR8 and the local APIC's TPR are one; it holds interrupts back",
            "A fetch from a no-execute page in PAE mode sets error bit 4",
            "FXSAVE image, MXCSR mask, alignment fault",
            "SYSCALL, SYSRET, SWAPGS and IRETQ in every combination; non-canonical LSTAR faults",
            "x87 in 80 bits, precision control, pointers of FNSTENV",
            "Saturating and shuffling SSE integers",
            "Hypervisor leaves are absent without the bit; 40000082h is zero",
        ],
    ),
    (
        "BIOS",
        &[
            "INT 13h AH=41h on disk and disc",
            "INT 13h AH=48h for every buffer size",
            "INT 13h AH=42h on the disc in blocks of 2,048; AH=08h fails there",
            "INT 13h AX=4B01h fills its packet",
            "El Torito loads 4,096 bytes at 7C00h",
            "A boot image that gives up goes on to the disk",
            "E820: sorted, disjoint, ends, nothing from A0000h to EFFFFh",
            "E820 and what the PCI root claims do not meet",
            "E801, 88h and INT 12h agree with E820",
            "INT 15h, port 92h and the 8042 all switch A20",
            "INT 1Ah AH=BBh is refused at once",
            "PCI BIOS functions",
            "INT 1Ah AH=00h and 40:6C advance at 18.2 Hz",
            "INT 16h with keys",
            "INT 10h's whole mode-set path in a restricted 8086 interpreter",
            "VBE mode information: frame buffer is the BAR, masks, both pitches, 1024×768×32",
            "Mode 12h, write modes 0 to 3",
            "RSDP where it is searched for; checksums; XSDT and RSDT alike",
        ],
    ),
    (
        "ACPI, interrupts and time",
        &[
            "iasl there and back without a complaint; no name before its declaration",
            "fwts: fadt, madt, facs, rsdp, dsdt, pcirouting, uniqueid, acpi_pwrb",
            "FADT's length fits its revision; X_ fields equal the others",
            "ACPI_ENABLE sets SCI_EN before the next read",
            "PM timer: monotonic, its frequency, wraps, TMR_STS on bit 23",
            "Every pin is routed in both modes, to no interrupt of a legacy device",
            "Every interrupt link has _STA, _CRS, _PRS, _SRS and _DIS",
            "MADT overrides 0 to 2 and 9 level; Linux shows both so",
            "RTC periodic interrupts: as many as periods, however late; nothing before register C is read",
            "RTC: update in progress, BCD and 24 hours, alarm",
            "TSC, PM timer, PIT counter 2, local APIC and HPET agree within 100 ppm",
            "Local APIC: INIT and SIPI, lowest priority, EOI broadcast, level again",
            "S5 switches off; the power button raises the SCI",
            "S4: Linux hibernates and wakes",
            "CF9h and 64h reset",
        ],
    ),
    (
        "Devices",
        &[
            "PCI: BAR sizes, all-ones for absent functions, bytes at CFCh to CFFh",
            "IDE: an absent drive fails fast; interrupt and bus-master bits",
            "ATAPI: every command's answer",
            "AHCI: COMRESET, order of PxCI and interrupt, PIO Setup, NCQ, ATAPI",
            "PS/2: AUXB, an edge for each byte, knocks, keyboard identity",
            "HD Audio: rings, immediate command, position buffer, pin defaults",
            "82540EM: checksum, link, 1 GiB without loss",
            "UHCI and EHCI: tablet, port hand-over",
            "Unknown accesses are logged and never end the run",
            "Linux boots with and without HPET and hypervisor leaves, on 1 and 2 processors",
            "A restored snapshot keeps TSC, PM timer and RTC monotonic",
        ],
    ),
];

/// A test that says which point it covers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Mark {
    point: usize,
    /// The crate of a Rust test; none for the test of a guest.
    package: Option<String>,
    name: String,
}

/// `cargo xtask gen checklist`
///
/// # Errors
/// When a mark is malformed, a file cannot be read or written, or a test that covers a point fails.
pub fn generate(args: &[String]) -> Result<()> {
    if args != ["checklist"] {
        bail!("what to generate: checklist");
    }
    let marks = marks()?;
    let outcomes = run_tests(&marks)?;
    let text = table(&marks, &outcomes);
    let file = paths::root().join("docs/win7-checklist.md");
    fs::write(&file, text).with_context(|| file.display().to_string())?;
    let covered: BTreeSet<_> = marks.iter().map(|mark| mark.point).collect();
    println!("{}: {} of {} points have tests", file.display(), covered.len(), points().count());
    let bad: Vec<_> =
        outcomes.iter().filter(|(_, outcome)| *outcome != "ok").map(|((_, name), _)| name).collect();
    if !bad.is_empty() {
        bail!("not passed: {bad:?}");
    }
    Ok(())
}

fn points() -> impl Iterator<Item = &'static str> {
    POINTS.iter().flat_map(|(_, points)| points.iter().copied())
}

fn marks() -> Result<Vec<Mark>> {
    let mut marks = Vec::new();
    for package in folders(&paths::root().join("crates"))? {
        let name = file_name(&package);
        for file in rust_files(&package)? {
            let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            let found = marked_tests(&text).with_context(|| file.display().to_string())?;
            marks.extend(found.into_iter().map(|(point, test)| Mark {
                point,
                package: Some(name.clone()),
                name: test,
            }));
        }
    }
    for guest in folders(&paths::root().join("guests"))? {
        let Ok(text) = fs::read_to_string(guest.join("test.toml")) else { continue };
        for list in text.lines().filter_map(|line| line.trim().strip_prefix("# checklist:")) {
            marks.extend(numbers(list)?.map(|point| Mark { point, package: None, name: file_name(&guest) }));
        }
    }
    marks.sort();
    Ok(marks)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn folders(of: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(of).with_context(|| of.display().to_string())?;
    let paths: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    Ok(paths.into_iter().filter(|path| path.is_dir()).collect())
}

/// The points in a file and the tests that cover them: the next function behind the comment.
fn marked_tests(text: &str) -> Result<Vec<(usize, String)>> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(list) = line.trim().strip_prefix("// checklist:") else { continue };
        let function =
            lines.find_map(|line| line.trim().strip_prefix("fn ")?.split_once('(')).map(|(name, _)| name);
        let Some(name) = function else { bail!("no test behind `{}`", line.trim()) };
        found.extend(numbers(list)?.map(|point| (point, name.to_owned())));
    }
    Ok(found)
}

fn numbers(list: &str) -> Result<impl Iterator<Item = usize>> {
    let numbers: Vec<usize> = list.split(',').map(|n| Ok(n.trim().parse()?)).collect::<Result<_>>()?;
    if let Some(wrong) = numbers.iter().find(|n| !(1..=points().count()).contains(*n)) {
        bail!("the checklist has no point {wrong}");
    }
    Ok(numbers.into_iter())
}

/// How each test ended, by package and name.
fn run_tests(marks: &[Mark]) -> Result<BTreeMap<(String, String), String>> {
    let mut of_package: BTreeMap<&String, BTreeSet<&String>> = BTreeMap::new();
    for mark in marks {
        if let Some(package) = &mark.package {
            of_package.entry(package).or_default().insert(&mark.name);
        }
    }
    let mut outcomes = BTreeMap::new();
    for (package, names) in of_package {
        let mut cargo = commands::cargo()?;
        cargo.args(["test", "--locked", "--no-fail-fast", "-p", package, "--tests", "--"]).args(&names);
        let output = cargo.output().with_context(|| format!("tests of {package}"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        for name in names {
            outcomes.insert((package.clone(), name.clone()), outcome(&said, name));
        }
    }
    Ok(outcomes)
}

/// What the test runner said of the test `name`, of whatever module; the worst if there are several.
fn outcome(said: &str, name: &str) -> String {
    let tests = said.lines().filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "));
    let ours = tests.filter(|(path, _)| {
        path.rsplit("::").next().unwrap_or_default().trim_end_matches(" - should panic") == name
    });
    let ends: Vec<&str> = ours.map(|(_, end)| end).collect();
    let bad = ends.iter().find(|end| **end != "ok");
    bad.or(ends.first()).map_or("did not run", |end| *end).to_owned()
}

fn table(marks: &[Mark], outcomes: &BTreeMap<(String, String), String>) -> String {
    let mut text = String::from(
        "# What Windows 7 expects\n\nMade by `cargo xtask gen checklist` from the tests that name a point; the numbers are those of the platform contract.\n\
         `unproven`: no test covers it, or only Windows could show it. Tests of guests run with `cargo xtask test boots`.\n",
    );
    let mut number = 0;
    for (part, points) in POINTS {
        text += &format!("\n## {part}\n\n| | Point | Tests | Result |\n|---|---|---|---|\n");
        for point in points {
            number += 1;
            let of_point = marks.iter().filter(|mark| mark.point == number);
            let (tests, result) = cells(of_point, outcomes);
            text += &format!("| {number} | {point} | {tests} | {result} |\n");
        }
    }
    text
}

/// The tests of a point, and how they ended.
fn cells<'a>(
    marks: impl Iterator<Item = &'a Mark>,
    outcomes: &BTreeMap<(String, String), String>,
) -> (String, String) {
    let (mut tests, mut results) = (Vec::new(), BTreeSet::new());
    for mark in marks {
        match &mark.package {
            Some(package) => {
                tests.push(format!("{package}: `{}`", mark.name));
                let outcome = outcomes.get(&(package.clone(), mark.name.clone()));
                results.insert(outcome.map_or("did not run", String::as_str));
            }
            None => {
                tests.push(format!("guest `{}`", mark.name));
                results.insert("by its boot");
            }
        }
    }
    if tests.is_empty() {
        return (String::new(), "unproven".to_owned());
    }
    (tests.join("<br>"), results.into_iter().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checklist_has_64_points() {
        assert_eq!(points().count(), 64);
        assert_eq!(
            points().nth(46),
            Some(
                "RTC periodic interrupts: as many as periods, however late; nothing before register C is read"
            )
        );
    }

    #[test]
    fn a_mark_belongs_to_the_next_function() {
        let text = "// checklist: 41, 46\n#[test]\nfn one() {\n}\n#[test]\nfn two() {}\n    // checklist: 3\n    #[test]\n    fn three() {";
        let found = marked_tests(text).unwrap();
        assert_eq!(found, [(41, "one".into()), (46, "one".into()), (3, "three".into())]);
    }

    #[test]
    fn marks_of_no_point_or_no_test_are_refused() {
        for text in ["// checklist: 65\nfn a() {", "// checklist: x\nfn a() {", "// checklist: 1\n"] {
            assert!(marked_tests(text).is_err(), "{text}");
        }
    }

    #[test]
    fn outcome_is_the_worst_of_that_name() {
        let said =
            "test a::b::one ... ok\ntest a::two ... ok\ntest c::two ... FAILED\ntest ones ... FAILED\n";
        assert_eq!(
            [outcome(said, "one"), outcome(said, "two"), outcome(said, "three")],
            ["ok", "FAILED", "did not run"]
        );
    }

    #[test]
    fn point_without_a_test_is_unproven() {
        let mark = Mark { point: 2, package: Some("p".into()), name: "t".into() };
        let outcomes = [(("p".to_owned(), "t".to_owned()), "ok".to_owned())].into();
        let text = table(&[mark], &outcomes);
        assert!(
            text.contains("| 2 | CPUID leaf 0Ah is zero unless the counters count | p: `t` | ok |\n"),
            "{text}"
        );
        assert_eq!(text.matches("| unproven |").count(), 63);
    }
}
