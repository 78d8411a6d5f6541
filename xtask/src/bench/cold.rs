//! The tables of `bench cold`: seconds for fixed work, by test.

use super::ratios::{PAIRS, Pair, median, whole_mean};
use super::report::{Report, table};
use super::session::Round;

/// The kits, as rounds name them.
const KITS: &[&str] = &["cold-x64", "cold-p4"];

/// A kind of seconds.
type Clock = (&'static str, fn(&Round) -> f64);

const CLOCKS: &[Clock] = &[
    ("wall seconds", |round| round.wall_seconds),
    ("CPU seconds of the emulating thread", |round| round.thread_seconds),
    ("CPU seconds of the whole process", |round| round.process_seconds),
];

/// The tables, as Markdown.
pub fn markdown(report: &Report) -> String {
    let mut out = format!("\nAero: {}; load before: {}\n", report.aero(), report.load);
    for kit in KITS {
        let machines = report.machines(kit);
        for clock in CLOCKS {
            out += &seconds_table(report, kit, &machines, clock);
        }
        for clock in CLOCKS {
            out += &ratio_table(report, kit, &machines, clock);
        }
    }
    out
}

fn seconds_table(report: &Report, kit: &str, machines: &[&str], (name, clock): &Clock) -> String {
    let row = |test: &str| machines.iter().map(|it| seconds(report, it, kit, test, *clock)).collect();
    let mut rows: Vec<(String, Vec<_>)> =
        report.tests(kit).into_iter().map(|test| (test.to_owned(), row(test))).collect();
    let sum = |at: usize| rows.iter().map(|(_, values)| values[at]).sum::<Option<f64>>();
    let sums = (0..machines.len()).map(sum).collect();
    rows.push(("**sum**".to_owned(), sums));
    table(&format!("{kit}: {name}"), machines, rows)
}

fn ratio_table(report: &Report, kit: &str, machines: &[&str], (name, clock): &Clock) -> String {
    let both = |pair: &&Pair| machines.contains(&pair.machine) && machines.contains(&pair.peer);
    let pairs: Vec<&Pair> = PAIRS.iter().filter(both).collect();
    let row = |test: &str| pairs.iter().map(|pair| speed(report, pair, kit, test, *clock)).collect();
    let mut rows: Vec<(String, Vec<_>)> =
        report.tests(kit).into_iter().map(|test| (test.to_owned(), row(test))).collect();
    let mean = |at: usize| whole_mean(rows.iter().map(|(_, values)| values[at]));
    let means = (0..pairs.len()).map(mean).collect();
    rows.push(("**geometric mean**".to_owned(), means));
    let names: Vec<String> = pairs.iter().map(ToString::to_string).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    table(&format!("{kit}: speed by {name}"), &names, rows)
}

/// The work is the same, so the ratio of speeds is that of times, turned around.
fn speed(report: &Report, pair: &Pair, kit: &str, test: &str, clock: fn(&Round) -> f64) -> Option<f64> {
    let [ours, theirs] = [pair.machine, pair.peer].map(|it| seconds(report, it, kit, test, clock));
    Some(theirs? / ours?.max(1e-3))
}

fn seconds(report: &Report, machine: &str, kit: &str, test: &str, clock: fn(&Round) -> f64) -> Option<f64> {
    median(report.rounds_of(machine, kit).filter(|round| round.test == test).map(clock).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::{report, round_of};

    #[test]
    fn speed_is_the_peers_time_over_ours() {
        let ours = [1.0, 2.0, 9.0].map(|seconds| round_of("cold-p4", "shells", 50, seconds, seconds));
        let theirs = vec![round_of("cold-p4", "shells", 50, 3.0, 6.0)];
        let report = report(vec![("aero", ours.to_vec()), ("v86", theirs)]);
        let text = markdown(&report);
        assert!(text.contains("speed by CPU seconds of the emulating thread"), "{text}");
        let pair = Pair { machine: "aero", peer: "v86" };
        assert_eq!(speed(&report, &pair, "cold-p4", "shells", CLOCKS[1].1), Some(1.5));
        assert_eq!(speed(&report, &pair, "cold-p4", "shells", CLOCKS[2].1), Some(3.0));
        assert_eq!(speed(&report, &pair, "cold-p4", "storm", CLOCKS[2].1), None);
    }
}
