//! Recorded single-step vectors.
//!
//! People have put old processors on a bench, loaded registers and memory, run one instruction and written down what
//! came out, a few thousand times for every opcode. `aero cpu-test vectors FILE…` runs such recordings here:
//!
//! | kind of file | read by |
//! |---|---|
//! | MOO (`.MOO`, the published 8088, 80286 and 80386 sets) | [`moo`] |
//! | JSON, one test a line or an array of tests | [`json`] |
//!
//! Either may be packed with gzip. A test is run in real mode on a processor of the newest model ([`machine`]) and
//! compared in every register and in all of the memory that real mode reaches, except for
//! - flags and results that the manual leaves undefined ([`aero_x86::undefined`]) or that the set masks itself,
//! - the top four bits of FLAGS on the 8088 and the 80286, which have none there in real mode,
//! - what later processors do otherwise on purpose ([`later`]): such tests are counted as skipped, with the reason.

mod case;
mod json;
mod later;
mod machine;
mod moo;

use crate::processor::Maker;
use aero_machine::JitConfig;
use anyhow::{Context as _, bail};
use case::{Case, Recorded, Set};
use machine::{Bench, Verdict};
use regex::Regex;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Failures that are printed for one form unless `--verbose`.
const SHOWN: u64 = 3;

/// The largest file that is unpacked.
const MAX_UNPACKED: u64 = 4 << 30;

/// Arguments of `aero cpu-test vectors`.
#[derive(clap::Args)]
pub struct Args {
    /// MOO files, or JSON: a test a line, or an array; gzip or not
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Run only the forms that match, such as '^F7\.[67]$'
    #[arg(long, value_name = "REGEX")]
    form: Option<Regex>,
    /// Run at most N tests of each form
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// The processor that the files were recorded on [default: what they say]
    #[arg(long, value_enum, value_name = "CPU")]
    cpu: Option<Recorded>,
    /// Compile code as aero run does; full,threshold=1 compiles all of it
    #[arg(long, value_name = "HOW[,threshold=N]", default_value = "off")]
    pub jit: JitConfig,
    /// List every form and print every failure
    #[arg(long)]
    verbose: bool,
}

/// What came of the tests of one form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn skips(&self) -> u64 {
        self.skipped.values().sum()
    }

    fn run(&self) -> u64 {
        self.passed + self.failed
    }

    fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        for (why, count) in &other.skipped {
            *self.skipped.entry(why).or_default() += count;
        }
    }
}

/// Runs the tests and prints the report; `false` if one failed.
///
/// # Errors
/// When a file cannot be read or understood; the message names it.
pub fn run(args: &Args, maker: Maker) -> anyhow::Result<bool> {
    let mut bench = Bench::new(maker)?;
    let mut forms = BTreeMap::<String, Tally>::new();
    for file in &args.files {
        let mut set = load(file).with_context(|| file.display().to_string())?;
        set.recorded = args.cpu.unwrap_or(set.recorded);
        println!("{}: {} tests, recorded on an {}", file.display(), set.cases.len(), set.recorded.name());
        run_set(args, &mut bench, &set, &mut forms);
    }
    if forms.is_empty() {
        bail!("no test has a form that matches --form; run without it to see the forms with --verbose");
    }
    Ok(report(&forms, args.verbose))
}

fn run_set(args: &Args, bench: &mut Bench, set: &Set, forms: &mut BTreeMap<String, Tally>) {
    let wanted = |case: &&Case| args.form.as_ref().is_none_or(|form| form.is_match(&case.form));
    for case in set.cases.iter().filter(wanted) {
        let tally = forms.entry(case.form.clone()).or_default();
        if args.limit.is_some_and(|limit| tally.run() + tally.skips() >= limit) {
            continue;
        }
        match bench.test(set.recorded, case) {
            Verdict::Passed => tally.passed += 1,
            Verdict::Skipped(why) => *tally.skipped.entry(why).or_default() += 1,
            Verdict::Failed(lines) => {
                tally.failed += 1;
                if args.verbose || tally.failed <= SHOWN {
                    show(case, &lines);
                }
            }
        }
    }
}

fn show(case: &Case, lines: &[String]) {
    let bytes: Vec<_> = case.bytes.iter().map(|b| format!("{b:02x}")).collect();
    println!("FAILED {}: {}  ({})", case.form, case.name, bytes.join(" "));
    if let Some(raised) = case.raised {
        println!("  exception {} was recorded", raised.number);
    }
    lines.iter().for_each(|line| println!("  {line}"));
}

/// Prints the table; whether all is well.
fn report(forms: &BTreeMap<String, Tally>, verbose: bool) -> bool {
    println!("{:<10} {:>9} {:>9} {:>9} {:>9}", "form", "run", "passed", "failed", "skipped");
    let mut all = Tally::default();
    for (form, tally) in forms {
        all.add(tally);
        if verbose || tally.failed != 0 {
            row(form, tally);
        }
    }
    row("all", &all);
    println!(
        "{} forms, {} of them with failures",
        forms.len(),
        forms.values().filter(|t| t.failed != 0).count()
    );
    for (why, count) in &all.skipped {
        println!("skipped {count:>6}: {why}");
    }
    all.failed == 0
}

fn row(name: &str, tally: &Tally) {
    println!("{name:<10} {:>9} {:>9} {:>9} {:>9}", tally.run(), tally.passed, tally.failed, tally.skips());
}

/// Reads a file of any kind.
fn load(file: &Path) -> anyhow::Result<Set> {
    let bytes = unpacked(std::fs::read(file).context("cannot be read")?)?;
    let form = form_of(file);
    if moo::is_moo(&bytes) {
        return Ok(moo::parse(&bytes, &form)?);
    }
    json::parse(&bytes, &form)
}

fn unpacked(bytes: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    if !bytes.starts_with(&GZIP) {
        return Ok(bytes);
    }
    let mut all = Vec::new();
    let mut unpacker = flate2::read::MultiGzDecoder::new(&bytes[..]).take(MAX_UNPACKED);
    if let Err(error) = unpacker.read_to_end(&mut all) {
        bail!("at offset {:#x} of what is unpacked: expected more of the gzip file: {error}", all.len());
    }
    Ok(all)
}

/// The sets name files for the form: `F6.7.json.gz`, `6601.MOO`.
fn form_of(file: &Path) -> String {
    let name = file.file_name().map_or_else(Default::default, |name| name.to_string_lossy().into_owned());
    let lower = name.to_ascii_lowercase();
    let ends = [".moo.gz", ".json.gz", ".jsonl.gz", ".moo", ".json", ".jsonl", ".gz"];
    let end = ends.into_iter().find(|end| lower.ends_with(end)).map_or(0, str::len);
    name[..name.len() - end].to_owned()
}

#[cfg(test)]
mod tests;
