//! `bench cpu`, `bench smc` and `bench cold`: tests inside guests that run at the same time and take turns.

use std::time::Duration;

use anyhow::{Result, bail};

use super::kit;
use super::machines::{self, Kind};
use super::options::{Options, Task};
use super::report::{Report, Run};
use super::session::{Session, Stop};
use super::turns::{self, Player};
use crate::guests::Guest;

/// For one boot, and for one round: an interpreter needs minutes for a boot, and a guest that hangs must not hold up
/// the others for ever.
const LIMIT: Duration = Duration::from_secs(600);

/// Runs the kits, every machine at the same time, a round each in turn.
///
/// # Errors
/// When Aero is not built or a peer cannot be had.
pub fn kits(options: &Options) -> Result<Report> {
    let mut report = Report::new(&options.settings);
    for name in &options.guests {
        let guest = Guest::load(name)?;
        let kits = kits_of(&guest, options);
        if options.task == Task::Cpu {
            for kit in &kits {
                report.instructions.insert(kit.clone(), kit::instructions(kit)?);
            }
        }
        let seconds = if options.quick { "0.15" } else { "0.6" };
        let rounds = options.rounds(5, 2);
        let how = format!("set={} seconds={seconds} rounds={rounds} gate=1", options.set);
        play(&guest, options, &kits, &how, &mut report)?;
    }
    Ok(report)
}

/// Boots fresh guests again and again, and runs many short programs in each.
///
/// # Errors
/// As [`kits`].
pub fn cold(options: &Options) -> Result<Report> {
    let mut report = Report::new(&options.settings);
    for _ in 0..options.rounds(3, 1) {
        for name in &options.guests {
            let guest = Guest::load(name)?;
            let kit = if guest.name == "bench" { "cold-x64" } else { "cold-p4" };
            play(&guest, options, &[kit.to_owned()], "gate=1", &mut report)?;
        }
    }
    Ok(report)
}

fn kits_of(guest: &Guest, options: &Options) -> Vec<String> {
    let with_x87 =
        options.set.split(',').any(|word| matches!(word, "all" | "fp" | "nbody" | "mandel" | "matmul"));
    let kits: &[&str] = match (guest.name.as_str(), options.task) {
        ("bench", _) => &["x64"],
        (_, Task::Smc) => &["p4"],
        _ if with_x87 => &["p4", "i686", "i686-27f"],
        _ => &["p4", "i686"],
    };
    kits.iter().map(|kit| (*kit).to_owned()).collect()
}

fn play(guest: &Guest, options: &Options, kits: &[String], how: &str, report: &mut Report) -> Result<()> {
    let append = format!("{} kits={} {how}", guest.append, kits.join(","));
    let mut players = Vec::new();
    for kind in options.machines.iter().copied().filter(|kind| kind.runs(guest)) {
        players.push(begin(kind, guest, &append, options)?);
    }
    if players.is_empty() {
        bail!("none of the chosen machines runs {}", guest.name);
    }
    turns::play(&mut players, kits, LIMIT);
    for Player { machine, session, stop, .. } in players {
        let measured = session.finish(stop == Stop::Done);
        if !measured.done {
            println!("bench: {machine} did not finish; its last lines were");
            measured.tail.iter().for_each(|line| println!("    {line}"));
        }
        report.runs.push(Run { machine, guest: guest.name.clone(), measured });
    }
    Ok(())
}

/// Boots a guest as far as its first turn.
fn begin(kind: Kind, guest: &Guest, append: &str, options: &Options) -> Result<Player> {
    println!("bench: {} starts {}", kind.name(), guest.name);
    let mut session = Session::start(machines::prepare(kind, guest, append, &options.settings)?)?;
    let mut stop = session.next_stop(LIMIT);
    if stop == Stop::Init {
        stop = session.next_stop(LIMIT);
    }
    Ok(Player::new(kind.name().to_owned(), session, stop))
}
