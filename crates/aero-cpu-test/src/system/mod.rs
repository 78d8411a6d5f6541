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
pub mod random;

use anyhow::{Result, bail};
use case::{Case, Env};
use engines::{Aero, Folder, Oracle};
use families::{FAMILIES, Family};
use outcome::Outcome;
use random::Random;
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
    /// Show at most so many differences of each family
    #[arg(long, default_value_t = 5)]
    pub show: usize,
}

/// Counts of one family.
#[derive(Default)]
struct Tally {
    cases: usize,
    differences: usize,
    explained: BTreeMap<&'static str, usize>,
}

/// Runs the test and prints its report; `false` if a difference is unexplained.
///
/// # Errors
/// When an oracle is missing or a file cannot be written.
pub fn run(args: &Args) -> Result<bool> {
    let oracles = oracles(&args.oracle)?;
    let families = chosen(args.family.as_deref())?;
    let mut session = Session::new(&oracles)?;
    println!("system: seed {}, against {}", args.seed, names(&oracles));
    let mut fine = true;
    for (family, count) in shares(&families, args.cases) {
        let tally = session.family(family, count, args)?;
        println!("{}", line(family, &tally));
        fine &= tally.differences == 0;
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

/// Emulators at hand.
struct Session {
    aero: Aero,
    oracles: Vec<(Oracle, Folder)>,
}

impl Session {
    fn new(oracles: &[Oracle]) -> Result<Self> {
        let with_folder = |oracle: &Oracle| Ok((*oracle, Folder::new(*oracle)?));
        Ok(Self { aero: Aero::new()?, oracles: oracles.iter().map(with_folder).collect::<Result<_>>()? })
    }

    fn family(&mut self, family: &Family, count: u32, args: &Args) -> Result<Tally> {
        let mut tally = Tally::default();
        for (env, cases) in cases_of(family, args.seed, count) {
            let (ours, theirs) = self.outcomes(env, &cases)?;
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
