//! The command line of `cargo xtask bench`.

use anyhow::{Context, Result, bail};

use super::machines::{Kind, Settings};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// The kits, in turns.
    Cpu,
    /// The kit's tests of code that changes.
    Smc,
    /// Kernel to `/init`.
    Boot,
    /// Many short programs in a fresh guest.
    Cold,
}

/// Help.
pub const USAGE: &str = "\
usage: cargo xtask bench cpu|smc|boot|cold [option...]

  --quick              short rounds, few of them: shows that everything runs
  --browser            also Aero and v86 in headless Chromium (`cargo xtask build` first)
  --only x64|i386      one of the two guests
  --machines LIST      of native, aero, aero-chromium, qemu, v86, v86-chromium
  --cpu MODEL          Aero's processor; win7 unless given
  --jit MODE           Aero's translator: off, baseline or full, with what `aero run --jit` takes behind it;
                       nothing is passed unless given
  --set LIST           groups of tests (sys, smc, int, mem, fp) or tests; only for cpu
  --rounds N           rounds of each test, or boots";

/// A command line.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is measured.
    pub task: Task,
    /// Short rounds, few of them.
    pub quick: bool,
    /// The guests' names.
    pub guests: Vec<&'static str>,
    /// What they run in.
    pub machines: Vec<Kind>,
    /// How Aero is set up.
    pub settings: Settings,
    /// Groups of tests or tests, with commas between.
    pub set: String,
    /// Rounds or boots, where not the usual number.
    pub rounds: Option<u32>,
}

impl Options {
    /// Reads the words behind `bench`.
    ///
    /// # Errors
    /// When a word is unknown or lacks its value.
    pub fn parse(args: &[String]) -> Result<Options> {
        let mut words = args.iter().map(String::as_str);
        let mut options = Options::new(task(words.next())?);
        let mut browser = false;
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value\n{USAGE}"));
            match word {
                "--quick" => options.quick = true,
                "--browser" => browser = true,
                "--only" => options.guests = guests(value()?)?,
                "--machines" => options.machines = machines(value()?)?,
                "--cpu" => options.settings.cpu = value()?.to_owned(),
                "--jit" => options.settings.jit = Some(jit(value()?)?),
                "--set" if options.task == Task::Cpu => options.set = value()?.to_owned(),
                "--rounds" => options.rounds = Some(rounds(value()?)?),
                _ => bail!("{word} is no option\n{USAGE}"),
            }
        }
        if browser {
            options.add(&[Kind::AeroChromium, Kind::V86Chromium]);
        }
        if matches!(options.task, Task::Boot | Task::Cold) {
            options.machines.retain(|kind| kind.boots());
        }
        Ok(options)
    }

    fn new(task: Task) -> Options {
        Options {
            task,
            quick: false,
            guests: vec!["bench", "bench-i386"],
            machines: vec![Kind::Native, Kind::Aero, Kind::Qemu, Kind::V86],
            settings: Settings { cpu: "win7".to_owned(), jit: None },
            set: if task == Task::Smc { "smc" } else { "all" }.to_owned(),
            rounds: None,
        }
    }

    fn add(&mut self, kinds: &[Kind]) {
        let missing = kinds.iter().filter(|kind| !self.machines.contains(kind));
        let missing: Vec<Kind> = missing.copied().collect();
        self.machines.extend(missing);
    }

    /// The number of rounds: what was asked for, or the usual one.
    pub fn rounds(&self, usual: u32, quick: u32) -> u32 {
        self.rounds.unwrap_or(if self.quick { quick } else { usual })
    }
}

fn task(word: Option<&str>) -> Result<Task> {
    Ok(match word {
        Some("cpu") => Task::Cpu,
        Some("smc") => Task::Smc,
        Some("boot") => Task::Boot,
        Some("cold") => Task::Cold,
        _ => bail!(USAGE),
    })
}

fn guests(word: &str) -> Result<Vec<&'static str>> {
    match word {
        "x64" => Ok(vec!["bench"]),
        "i386" => Ok(vec!["bench-i386"]),
        _ => bail!("--only {word}: expected x64 or i386"),
    }
}

fn machines(words: &str) -> Result<Vec<Kind>> {
    let named = |word: &str| {
        let found = Kind::ALL.into_iter().find(|kind| kind.name() == word);
        let known = Kind::ALL.map(Kind::name).join(", ");
        found.with_context(|| format!("--machines {word}: expected some of {known}"))
    };
    words.split(',').map(named).collect()
}

/// What follows a comma is the translator's own business.
fn jit(word: &str) -> Result<String> {
    match word.split(',').next() {
        Some("off" | "baseline" | "full") => Ok(word.to_owned()),
        _ => bail!("--jit {word}: expected off, baseline or full"),
    }
}

fn rounds(word: &str) -> Result<u32> {
    let number = word.parse().ok().filter(|number| (1..=100).contains(number));
    number.with_context(|| format!("--rounds {word}: expected 1 to 100"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options> {
        Options::parse(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_choose_guests_and_machines() {
        let options = parse("cpu --quick --only i386 --machines qemu,v86-chromium --browser").unwrap();
        assert!(options.quick);
        assert_eq!(options.guests, ["bench-i386"]);
        assert_eq!(options.machines, [Kind::Qemu, Kind::V86Chromium, Kind::AeroChromium]);
    }

    #[test]
    fn translator_and_processor_are_passed_on_as_they_are() {
        let options = parse("cpu --jit full,threshold=1 --cpu max").unwrap();
        assert_eq!(options.settings.jit.as_deref(), Some("full,threshold=1"));
        assert_eq!(options.settings.cpu, "max");
        assert_eq!(parse("cpu").unwrap().settings.jit, None);
    }

    #[test]
    fn nothing_boots_natively() {
        assert!(parse("cpu").unwrap().machines.contains(&Kind::Native));
        assert!(!parse("boot").unwrap().machines.contains(&Kind::Native));
    }

    #[test]
    fn unknown_words_are_refused() {
        let wrong = ["gpu", "cpu --fast", "cpu --only", "cpu --only arm", "cpu --machines bochs"];
        for text in wrong.into_iter().chain(["boot --set int", "cpu --jit on", "cold --rounds 0"]) {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
