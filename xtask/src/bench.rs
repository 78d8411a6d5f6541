//! `cargo xtask bench`: Aero's speed beside that of other emulators, on this machine, in one run.
//!
//! ```text
//! cargo xtask bench cpu [--quick] [--browser] [--only x64|i386] [--machines aero,qemu,v86]
//! ```
//!
//! The same guest (`guest-bench` under Debian's kernel) runs in every emulator, one after the other. Speeds
//! are guest instructions per second of host CPU time of the emulating thread; `bench/README.md` says how and
//! why.

pub mod kit;
mod machines;
mod report;
mod watch;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::guests::{self, Guest, cache, write_whole};
use machines::Kind;
use report::{Report, Run};

/// An interpreter needs minutes for the whole kit; a guest that hangs must not hold up the others for ever.
const LIMIT: Duration = Duration::from_secs(1800);

const USAGE: &str = "usage: cargo xtask bench cpu [--quick] [--browser] [--only x64|i386] \
                     [--machines aero,qemu,v86]";

struct Options {
    quick: bool,
    guests: Vec<&'static str>,
    machines: Vec<Kind>,
}

/// `cargo xtask bench …`
///
/// # Errors
/// When the arguments are wrong, Aero is not built, a peer cannot be had, or results disagree.
pub fn run(args: &[String]) -> Result<()> {
    let options = parse(args)?;
    guests::ensure_named(&options.guests)?;
    let mut report = Report::default();
    for name in &options.guests {
        measure(&Guest::load(name)?, &options, &mut report)?;
    }
    let markdown = report.markdown();
    println!("{markdown}");
    save(&report)?;
    let wrong = report.disagreements();
    if !wrong.is_empty() {
        bail!("{}", wrong.join("; "));
    }
    Ok(())
}

fn parse(args: &[String]) -> Result<Options> {
    let mut words = args.iter().map(String::as_str);
    if words.next() != Some("cpu") {
        bail!(USAGE);
    }
    let mut options = Options {
        quick: false,
        guests: vec!["bench", "bench-i386"],
        machines: vec![Kind::Aero, Kind::Qemu, Kind::V86],
    };
    let mut browser = false;
    while let Some(word) = words.next() {
        match word {
            "--quick" => options.quick = true,
            "--browser" => browser = true,
            "--only" => options.guests = guests_of(words.next().context(USAGE)?)?,
            "--machines" => options.machines = machines_of(words.next().context(USAGE)?)?,
            _ => bail!("{word}: {USAGE}"),
        }
    }
    if browser {
        options.machines.push(Kind::Browser);
    }
    Ok(options)
}

fn guests_of(word: &str) -> Result<Vec<&'static str>> {
    match word {
        "x64" => Ok(vec!["bench"]),
        "i386" => Ok(vec!["bench-i386"]),
        _ => bail!("--only {word}: expected x64 or i386"),
    }
}

fn machines_of(words: &str) -> Result<Vec<Kind>> {
    let named = |word: &str| {
        let known = [Kind::Aero, Kind::Qemu, Kind::V86, Kind::Browser];
        let found = known.into_iter().find(|kind| kind.name() == word);
        found.with_context(|| format!("--machines {word}: expected aero, qemu, v86 or aero-chromium"))
    };
    words.split(',').map(named).collect()
}

fn measure(guest: &Guest, options: &Options, report: &mut Report) -> Result<()> {
    let kits: &[&str] = if guest.name == "bench" {
        &["x64"]
    } else if options.quick {
        &["i686"]
    } else {
        &["i686", "p4"]
    };
    for kit in kits {
        report.instructions.insert((*kit).to_owned(), kit::instructions(kit)?);
    }
    let how = if options.quick { "set=int seconds=0.3 rounds=3" } else { "set=all seconds=0.6 rounds=3" };
    let append = format!("{} kits={} {how}", guest.append, kits.join(","));
    for kind in options.machines.iter().copied().filter(|kind| kind.runs(guest)) {
        println!("bench: {} boots {}", kind.name(), guest.name);
        let mut ready = machines::prepare(kind, guest, &append)?;
        let measured = watch::watch(&mut ready.command, LIMIT)?;
        drop(ready);
        if !measured.done {
            println!("bench: {} did not finish; its last lines were", kind.name());
            measured.tail.iter().for_each(|line| println!("    {line}"));
        }
        report.runs.push(Run { machine: kind.name().to_owned(), guest: guest.name.clone(), measured });
    }
    Ok(())
}

/// Keeps the figures as JSON: under their time, and the last ones as `cpu.json`.
fn save(report: &Report) -> Result<()> {
    let folder = cache()?.join("bench");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let text = serde_json::to_string_pretty(report)?;
    write_whole(&folder.join(format!("cpu-{now}.json")), text.as_bytes())?;
    let last = folder.join("cpu.json");
    write_whole(&last, text.as_bytes())?;
    println!("bench: figures are in {}", last.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn options_choose_guests_and_machines() {
        let options = parse(&words("cpu --quick --only i386 --machines qemu,v86 --browser")).unwrap();
        assert!(options.quick);
        assert_eq!(options.guests, ["bench-i386"]);
        assert_eq!(options.machines, [Kind::Qemu, Kind::V86, Kind::Browser]);
    }

    #[test]
    fn unknown_words_are_refused() {
        for text in ["gpu", "cpu --fast", "cpu --only", "cpu --only arm", "cpu --machines bochs"] {
            assert!(parse(&words(text)).is_err(), "{text}");
        }
    }
}
