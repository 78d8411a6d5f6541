//! `aero cpu-test system`: what user mode cannot run, here, under Bochs and under QEMU.
//!
//! [`families`] makes cases from a seed; [`case`] says what a case is; [`engines`] packs them by the thousand into ROMs
//! ([`program`] is what the ROM runs, [`layout`] where things lie) and runs each ROM in every emulator; [`outcome`] is
//! what comes back. Where all agree there is nothing to say. Where they do not, [`explained`] must know why: it is a
//! list of what the oracles are known to do otherwise than the manual, and anything not on it fails the run.

pub mod case;
pub mod engines;
pub mod explained;
pub mod families;
pub mod layout;
pub mod outcome;
pub mod program;

use crate::processor::Maker;
use crate::random::Random;
use aero_machine::JitConfig;
use anyhow::{Result, bail};
use case::{Case, Env};
use engines::{Aero, Folder, Oracle};
use families::{FAMILIES, Family};
use outcome::Outcome;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The arguments of `aero cpu-test system`.
#[derive(clap::Args)]
pub struct Args {
    /// Where the random numbers begin
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many cases, over all families
    #[arg(long, default_value_t = 20_000)]
    pub cases: u32,
    /// Compare with this one only; both otherwise
    #[arg(long, value_enum)]
    pub oracle: Vec<Oracle>,
    /// Only this family
    #[arg(long, value_name = "NAME")]
    pub family: Option<String>,
    /// Keep the cases that differ here, each as a ROM of its own with its outcomes
    #[arg(long, value_name = "DIR")]
    pub save: Option<PathBuf>,
    /// Write the digests of families without differences to this file, for the tests
    #[arg(long, value_name = "FILE")]
    pub bless: Option<PathBuf>,
    /// Compile code as aero run does; full,threshold=1 compiles all of it
    #[arg(long, value_name = "HOW[,threshold=N]", default_value = "off")]
    pub jit: JitConfig,
    /// Show at most so many differences of each family
    #[arg(long, default_value_t = 5)]
    pub show: usize,
}

/// Counts of one family.
#[derive(Default)]
struct Tally {
    cases: usize,
    differences: usize,
    /// Of all that Aero came to.
    digest: u64,
    explained: BTreeMap<&'static str, usize>,
}

/// Runs the test and prints its report; `false` if a difference is unexplained.
///
/// # Errors
/// When an oracle is missing or a file cannot be written.
pub fn run(args: &Args, maker: Maker) -> Result<bool> {
    let oracles = oracles(&args.oracle)?;
    let families = chosen(args.family.as_deref())?;
    let mut session = Session::new(&oracles, maker)?;
    println!("system: seed {}, against {}", args.seed, names(&oracles));
    let mut fine = true;
    let mut golden = String::new();
    for (family, count) in shares(&families, args.cases) {
        let tally = session.family(family, count, args)?;
        println!("{}", line(family, &tally));
        fine &= tally.differences == 0;
        if tally.differences == 0 {
            golden.push_str(&format!("{} {} {count} {:016x}\n", family.name, args.seed, tally.digest));
        }
    }
    if let Some(path) = &args.bless {
        std::fs::write(path, golden)?;
    }
    Ok(fine)
}

/// How many cases of each family.
fn shares<'f>(families: &[&'f Family], cases: u32) -> Vec<(&'f Family, u32)> {
    let weights: u32 = families.iter().map(|family| family.weight).sum();
    families.iter().map(|family| (*family, (cases * family.weight).div_ceil(weights))).collect()
}

fn names(oracles: &[Oracle]) -> String {
    let names: Vec<_> = oracles.iter().map(|oracle| oracle.name()).collect();
    if names.is_empty() { "nothing".into() } else { names.join(" and ") }
}

fn oracles(asked: &[Oracle]) -> Result<Vec<Oracle>> {
    let all = [Oracle::Bochs, Oracle::Qemu];
    let wanted: Vec<_> = if asked.is_empty() { all.to_vec() } else { asked.to_vec() };
    let wanted: Vec<_> = wanted.into_iter().filter(|oracle| *oracle != Oracle::None).collect();
    for oracle in &wanted {
        if !oracle.is_here() {
            bail!(
                "{} is not installed (Debian package {}); --oracle chooses another, or none",
                oracle.program(),
                oracle.package()
            );
        }
    }
    Ok(wanted)
}

fn chosen(name: Option<&str>) -> Result<Vec<&'static Family>> {
    let Some(name) = name else { return Ok(FAMILIES.iter().collect()) };
    let found: Vec<_> = FAMILIES.iter().filter(|family| family.name == name).collect();
    if found.is_empty() {
        let names: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
        bail!("there is no family {name}; there are {}", names.join(", "));
    }
    Ok(found)
}

fn line(family: &Family, tally: &Tally) -> String {
    let explained: usize = tally.explained.values().sum();
    let mut text = format!(
        "{:<12} {:>7} cases {:>6} differences {:>6} explained",
        family.name, tally.cases, tally.differences, explained
    );
    for (reason, count) in &tally.explained {
        text.push_str(&format!("\n    {count:>6} {reason}"));
    }
    text
}

/// The cases of a family: those of one environment are together.
pub fn cases_of(family: &Family, seed: u64, count: u32) -> BTreeMap<Env, Vec<Case>> {
    let stream = family.name.bytes().fold(0u64, |sum, byte| sum.wrapping_mul(131).wrapping_add(byte.into()));
    let mut by_env: BTreeMap<Env, Vec<Case>> = BTreeMap::new();
    for n in 0..count {
        let mut random = Random::new(seed, stream.wrapping_add(u64::from(n)));
        let case = (family.make)(&mut random);
        by_env.entry(case.env).or_default().push(case);
    }
    by_env
}

/// Digests on digests: any outcome that changes changes it.
fn digest(before: u64, outcomes: &[Outcome]) -> u64 {
    outcomes
        .iter()
        .fold(before, |sum, outcome| (sum.rotate_left(5) ^ outcome.digest()).wrapping_mul(0x100_0000_01b3))
}

/// Emulators at hand.
struct Session {
    aero: Aero,
    oracles: Vec<(Oracle, Folder)>,
}

impl Session {
    fn new(oracles: &[Oracle], maker: Maker) -> Result<Self> {
        let with_folder = |oracle: &Oracle| Ok((*oracle, Folder::new(*oracle)?));
        Ok(Self { aero: Aero::new(maker)?, oracles: oracles.iter().map(with_folder).collect::<Result<_>>()? })
    }

    fn family(&mut self, family: &Family, count: u32, args: &Args) -> Result<Tally> {
        let mut tally = Tally::default();
        for (env, cases) in cases_of(family, args.seed, count) {
            let (ours, theirs) = self.outcomes(env, &cases)?;
            tally.digest = digest(tally.digest, &ours);
            for (n, case) in cases.iter().enumerate() {
                let others: Vec<_> = theirs.iter().map(|(oracle, all)| (*oracle, &all[n])).collect();
                self.judge(family, case, &ours[n], &others, args, &mut tally)?;
            }
        }
        Ok(tally)
    }

    /// All emulators side by side.
    #[expect(clippy::type_complexity, reason = "a list of results for each oracle")]
    fn outcomes(&mut self, env: Env, cases: &[Case]) -> Result<(Vec<Outcome>, Vec<(Oracle, Vec<Outcome>)>)> {
        let (aero, oracles) = (&mut self.aero, &self.oracles);
        std::thread::scope(|scope| {
            let threads: Vec<_> = oracles
                .iter()
                .map(|(oracle, folder)| scope.spawn(|| engines::run_oracle(*oracle, folder, env, cases)))
                .collect();
            let ours = aero.run(env, cases)?;
            let mut theirs = Vec::new();
            for ((oracle, _), thread) in oracles.iter().zip(threads) {
                let Ok(outcomes) = thread.join() else { bail!("the thread of an oracle panicked") };
                theirs.push((*oracle, outcomes?));
            }
            Ok((ours, theirs))
        })
    }

    fn judge(
        &self,
        family: &Family,
        case: &Case,
        ours: &Outcome,
        others: &[(Oracle, &Outcome)],
        args: &Args,
        tally: &mut Tally,
    ) -> Result<()> {
        tally.cases += 1;
        for (oracle, theirs) in others {
            if *theirs == ours {
                continue;
            }
            if let Some(reason) = explained::reason(family.name, case, *oracle, ours, others) {
                *tally.explained.entry(reason).or_default() += 1;
                continue;
            }
            tally.differences += 1;
            if tally.differences <= args.show {
                report(family, case, ours, others);
            }
            if let Some(dir) = &args.save {
                save(dir, family, tally.differences, case, ours, others)?;
            }
            return Ok(());
        }
        Ok(())
    }
}

fn telling(family: &Family, case: &Case, ours: &Outcome, others: &[(Oracle, &Outcome)]) -> String {
    let mut text = format!("{}: {}\n  aero  {}\n", family.name, case.title, outcome::describe(ours));
    for (oracle, theirs) in others {
        text.push_str(&format!("  {:<5} {}\n", oracle.name(), outcome::describe(theirs)));
    }
    let all: Vec<_> = [ours].into_iter().chain(others.iter().map(|(_, theirs)| *theirs)).collect();
    for line in outcome::differences(&all) {
        text.push_str(&format!("    {line}\n"));
    }
    text
}

fn report(family: &Family, case: &Case, ours: &Outcome, others: &[(Oracle, &Outcome)]) {
    print!("{}", telling(family, case, ours, others));
}

fn save(
    dir: &std::path::Path,
    family: &Family,
    number: usize,
    case: &Case,
    ours: &Outcome,
    others: &[(Oracle, &Outcome)],
) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let name = format!("{}-{number:05}", family.name);
    let rom = engines::Rom::pack(case.env, std::slice::from_ref(case))?;
    std::fs::write(dir.join(format!("{name}.rom")), rom.bytes)?;
    std::fs::write(dir.join(format!("{name}.txt")), telling(family, case, ours, others))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by `--bless`: family, seed, cases, digest. Only families in which every oracle agrees are here.
    const GOLDEN: &str = include_str!("golden.txt");

    fn golden() -> Vec<(&'static Family, u64, u32, u64)> {
        let parse = |line: &'static str| {
            let mut words = line.split(' ');
            let mut word = || words.next().expect("four words in a line");
            let family = chosen(Some(word())).expect("a family")[0];
            let seed = word().parse().expect("a seed");
            let cases = word().parse().expect("a number of cases");
            (family, seed, cases, u64::from_str_radix(word(), 16).expect("a digest"))
        };
        GOLDEN.lines().map(parse).collect()
    }

    fn args(seed: u64) -> Args {
        let jit = Maker::INTERPRETER.jit();
        Args { seed, cases: 0, oracle: Vec::new(), family: None, save: None, bless: None, jit, show: 3 }
    }

    #[test]
    fn outcomes_are_those_that_all_emulators_agreed_on() {
        let mut session = Session::new(&[], Maker::INTERPRETER).expect("a machine");
        assert!(!golden().is_empty());
        for (family, seed, cases, expected) in golden() {
            let tally = session.family(family, cases, &args(seed)).expect("ROMs run");
            assert_eq!(tally.digest, expected, "family {}; cpu-test system tells what differs", family.name);
        }
    }

    #[test]
    fn recorded_cases_agree_with_the_oracles_that_are_installed() {
        let here: Vec<_> =
            [Oracle::Bochs, Oracle::Qemu].into_iter().filter(|oracle| oracle.is_here()).collect();
        if here.len() < 2 {
            return eprintln!("Bochs and QEMU are not both here: nothing to compare with");
        }
        let mut session = Session::new(&here, Maker::INTERPRETER).expect("a machine");
        for (family, seed, cases, _) in golden() {
            // A part of them, to be quick: the emulators take a second to start.
            let tally = session.family(family, cases / 4, &args(seed)).expect("ROMs run");
            assert_eq!(tally.differences, 0, "family {}", family.name);
        }
    }

    #[test]
    fn case_of_a_known_fault_reports_vector_code_and_frame() {
        let mut case = Case::new(Env::Flat, "mov ds, 3FCh: beyond the table's limit less one");
        case.reg(case::reg::EAX, 0x403);
        case.code(&[0x8e, 0xd8]);
        let outcomes =
            Aero::new(Maker::INTERPRETER).expect("a machine").run(Env::Flat, &[case]).expect("a ROM");
        let outcome = &outcomes[0];
        assert_eq!(outcome.vector(), Some(13));
        let words = outcome.words().expect("it ended");
        // Error code, EIP, CS, EFLAGS with RF.
        let frame = [0x400, layout::linear(layout::at::CODE), case::sel::CODE0.into(), 0x1_0002];
        for (n, value) in frame.into_iter().enumerate() {
            let at = layout::at::STACK0 - 16 + 4 * n as u16;
            assert_eq!(words.get(&at), Some(&value), "dword {n} of the frame");
        }
    }

    #[test]
    fn byte_at_the_end_of_the_window_is_put_and_the_rest_too() {
        let mut case = Case::new(Env::Flat, "mov al, m; INT3");
        case.patches.put(0xffff, &[0x5a]);
        case.reg(case::reg::EBX, layout::linear(0xffff));
        case.code(&[0x8a, 0x03]);
        let outcomes =
            Aero::new(Maker::INTERPRETER).expect("a machine").run(Env::Flat, &[case]).expect("a ROM");
        assert_eq!(outcomes[0].vector(), Some(3));
        assert_eq!(outcomes[0].record(layout::record::GPR), 0x5a);
    }

    #[test]
    fn triple_fault_is_told_and_the_next_case_runs() {
        let mut broken = Case::new(Env::Flat, "no vectors at all");
        broken.patches.put16(layout::state::IDTR, 0);
        let cases = [broken, Case::new(Env::Flat, "INT3 at once")];
        let outcomes =
            Aero::new(Maker::INTERPRETER).expect("a machine").run(Env::Flat, &cases).expect("a ROM");
        assert_eq!(outcomes[0], Outcome::Reset);
        assert_eq!(outcomes[1].vector(), Some(3));
    }

    #[test]
    fn hang_loses_its_case_only() {
        let mut hang = Case::new(Env::Flat, "jumps to itself");
        hang.code(&[0xeb, 0xfe]);
        let cases = [hang, Case::new(Env::Flat, "INT3 at once")];
        let outcomes =
            Aero::new(Maker::INTERPRETER).expect("a machine").run(Env::Flat, &cases).expect("a ROM");
        assert_eq!(outcomes[0], Outcome::Lost);
        assert_eq!(outcomes[1].vector(), Some(3));
    }
}
