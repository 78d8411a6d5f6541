//! `bench boot`: Debian's kernels as far as `/init`, again and again, every machine in turn.

use std::time::Duration;

use anyhow::Result;

use super::goals::{self, Bar, Row};
use super::machines;
use super::options::Options;
use super::ratios::median;
use super::report::{Report, Run, table};
use super::session::{Boot, Session, Stop};
use crate::guests::Guest;

const LIMIT: Duration = Duration::from_secs(600);

/// Boots.
///
/// # Errors
/// When Aero is not built or a peer cannot be had.
pub fn measure(options: &Options) -> Result<Report> {
    let mut report = Report::new(&options.settings);
    let guests: Vec<Guest> = options.guests.iter().map(|name| Guest::load(name)).collect::<Result<_>>()?;
    for _ in 0..options.rounds(3, 1) {
        for guest in &guests {
            for kind in options.machines.iter().copied().filter(|kind| kind.runs(guest)) {
                println!("bench: {} boots {}", kind.name(), guest.name);
                let ready = machines::prepare(kind, guest, &guest.append, &options.settings)?;
                let mut session = Session::start(ready)?;
                let came = session.next_stop(LIMIT) == Stop::Init;
                let measured = session.finish(came);
                report.runs.push(Run {
                    machine: kind.name().to_owned(),
                    guest: guest.name.clone(),
                    measured,
                });
            }
        }
    }
    Ok(report)
}

/// The table and the figures that must be reached.
pub fn markdown(report: &Report) -> String {
    let mut out = format!("\nAero: {}; load before: {}\n", report.aero(), report.load);
    for guest in ["bench", "bench-i386"] {
        let rows = rows_of(report, guest);
        out += &table(&title(guest), &["wall s", "thread CPU s", "process CPU s", "boots"], rows);
    }
    out + &goals::table(&goals(report), &report.settings.cpu)
}

/// What must be reached.
pub fn goals(report: &Report) -> Vec<Row> {
    let process = |boot: &Boot| boot.process_seconds;
    let wall = |boot: &Boot| boot.wall_seconds;
    vec![
        row(
            report,
            "bench-i386",
            ["aero-chromium", "v86-chromium"],
            "process CPU",
            process,
            Bar::AtMost(0.5, 0.8),
        ),
        row(report, "bench-i386", ["aero-chromium", "v86-chromium"], "wall", wall, Bar::Shown),
        row(report, "bench", ["aero", "qemu"], "wall", wall, Bar::AtMost(1.2, 2.0)),
        row(report, "bench", ["aero", "qemu"], "process CPU", process, Bar::Shown),
    ]
}

fn title(guest: &str) -> String {
    let kernel = if guest == "bench" { "amd64" } else { "i386" };
    format!("Debian {kernel}, kernel to init, medians")
}

fn rows_of(report: &Report, guest: &str) -> Vec<(String, Vec<Option<f64>>)> {
    let mut machines: Vec<&str> = Vec::new();
    for run in report.runs.iter().filter(|run| run.guest == guest) {
        if !machines.contains(&run.machine.as_str()) {
            machines.push(&run.machine);
        }
    }
    let row = |machine: &str| {
        let values = [
            middle(report, guest, machine, |boot| boot.wall_seconds),
            middle(report, guest, machine, |boot| boot.thread_seconds),
            middle(report, guest, machine, |boot| boot.process_seconds),
            Some(boots(report, guest, machine).count() as f64),
        ];
        (machine.to_owned(), values.to_vec())
    };
    machines.into_iter().map(row).collect()
}

fn row(
    report: &Report,
    guest: &str,
    machines: [&str; 2],
    what: &str,
    value: fn(&Boot) -> f64,
    bar: Bar,
) -> Row {
    let seconds = machines.map(|machine| middle(report, guest, machine, value));
    Row {
        what: format!("{}, {what} seconds, {} ÷ {}", title(guest), machines[0], machines[1]),
        value: seconds[0].zip(seconds[1]).map(|(ours, theirs)| ours / theirs),
        bar,
        parts: machines.map(str::to_owned).into_iter().zip(seconds).collect(),
    }
}

fn boots<'a>(report: &'a Report, guest: &'a str, machine: &'a str) -> impl Iterator<Item = Boot> + 'a {
    let runs = report.runs.iter().filter(move |run| run.guest == guest && run.machine == machine);
    runs.filter_map(|run| run.measured.boot)
}

fn middle(report: &Report, guest: &str, machine: &str, value: fn(&Boot) -> f64) -> Option<f64> {
    median(boots(report, guest, machine).map(|boot| value(&boot)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::report;
    use crate::bench::session::Measured;

    fn booted(machine: &str, guest: &str, wall_seconds: f64, process_seconds: f64) -> Run {
        let boot = Boot { wall_seconds, thread_seconds: process_seconds / 2.0, process_seconds };
        let measured = Measured { boot: Some(boot), done: true, ..Measured::default() };
        Run { machine: machine.to_owned(), guest: guest.to_owned(), measured }
    }

    #[test]
    fn goals_are_ratios_of_medians() {
        let mut report = report(Vec::new());
        for wall in [4.0, 90.0, 6.0] {
            report.runs.push(booted("aero", "bench", wall, 5.0));
        }
        report.runs.push(booted("qemu", "bench", 4.0, 5.0));
        report.runs.push(booted("aero-chromium", "bench-i386", 9.0, 6.0));
        report.runs.push(booted("v86-chromium", "bench-i386", 9.0, 15.0));
        let values: Vec<_> = goals(&report).iter().map(|row| row.value).collect();
        assert_eq!(values, [Some(0.4), Some(1.0), Some(1.5), Some(1.0)]);
        let text = markdown(&report);
        assert!(text.contains("| aero | 6.00 | 2.50 | 5.00 | 3.00 |"), "{text}");
    }

    #[test]
    fn machine_that_never_came_to_init_has_no_figure() {
        let mut report = report(Vec::new());
        report.runs.push(Run {
            machine: "aero".to_owned(),
            guest: "bench".to_owned(),
            measured: Measured::default(),
        });
        assert!(goals(&report).iter().all(|row| row.value.is_none()));
        assert_eq!(report.unfinished().len(), 1);
    }
}
