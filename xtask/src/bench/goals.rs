//! The figures that the translator is held to, each with its goal and the floor below which it is not done.

use std::fmt::Write;

use serde::Serialize;

use super::ratios::{Comparison, Cpu, Group, INTEGER, PACKED, Pair, WHOLE, X87, compare};
use super::report::{Report, figure};

/// Aero in Chromium over QEMU.
const CHROMIUM_QEMU: Pair = Pair { machine: "aero-chromium", peer: "qemu" };
/// Aero in a terminal over QEMU.
const NATIVE_QEMU: Pair = Pair { machine: "aero", peer: "qemu" };
/// Aero over v86, both in Chromium.
const CHROMIUM_V86: Pair = Pair { machine: "aero-chromium", peer: "v86-chromium" };

/// What a value must reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub enum Bar {
    /// At least the goal, or at least the floor.
    AtLeast(f64, f64),
    /// At most the goal, or at most the floor.
    AtMost(f64, f64),
    /// Nothing: it is only shown.
    Shown,
}

/// One figure.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What is measured.
    pub what: String,
    /// The value, when everything it needs was measured.
    pub value: Option<f64>,
    /// What it must reach.
    pub bar: Bar,
    /// What it is made of.
    pub parts: Vec<(String, Option<f64>)>,
}

impl Row {
    fn verdict(&self) -> &'static str {
        let Some(value) = self.value else { return "not measured" };
        let (goal, floor) = match self.bar {
            Bar::AtLeast(goal, floor) => (value >= goal, value >= floor),
            Bar::AtMost(goal, floor) => (value <= goal, value <= floor),
            Bar::Shown => return "",
        };
        match (goal, floor) {
            (true, _) => "goal",
            (false, true) => "floor",
            (false, false) => "**below**",
        }
    }

    fn line(&self) -> String {
        let (goal, floor) = match self.bar {
            Bar::AtLeast(goal, floor) => (format!("≥ {goal}"), format!("≥ {floor}")),
            Bar::AtMost(goal, floor) => (format!("≤ {goal}"), format!("≤ {floor}")),
            Bar::Shown => Default::default(),
        };
        let parts: Vec<_> =
            self.parts.iter().map(|(name, value)| format!("{name} {}", figure(*value))).collect();
        // Tests that nobody ran say nothing.
        let nothing = self.parts.iter().all(|(_, value)| value.is_none());
        let parts = if nothing { Vec::new() } else { parts };
        let value = figure(self.value);
        format!(
            "| {} | {value} | {goal} | {floor} | {} | {} |\n",
            self.what,
            self.verdict(),
            parts.join(", ")
        )
    }
}

/// The rows as a table.
pub fn table(rows: &[Row], cpu: &str) -> String {
    let mut out = format!("\n### Must show (`--cpu {cpu}`)\n\n");
    out += "| bench | value | goal | floor | reaches | of |\n|---|---:|---:|---:|---|---|\n";
    rows.iter().for_each(|row| write!(out, "{}", row.line()).expect("a string takes all text"));
    out
}

/// What can be read off a run of the kits.
pub fn of_kits(report: &Report) -> Vec<Row> {
    let mut rows = vec![
        mean(report, WHOLE, "x64", CHROMIUM_QEMU, Bar::AtLeast(1.3, 0.9)),
        mean(report, WHOLE, "x64", NATIVE_QEMU, Bar::AtLeast(1.2, 0.9)),
        mean(report, INTEGER, "x64", CHROMIUM_QEMU, Bar::Shown),
        mean(report, INTEGER, "x64", NATIVE_QEMU, Bar::Shown),
        mean(report, WHOLE, "p4", CHROMIUM_V86, Bar::AtLeast(2.0, 1.3)),
        mean(report, X87, "i686", CHROMIUM_V86, Bar::AtLeast(2.0, 1.3)),
        mean(report, X87, "i686-27f", CHROMIUM_V86, Bar::AtLeast(5.0, 3.0)),
        mean(report, PACKED, "p4", CHROMIUM_V86, Bar::AtLeast(10.0, 4.0)),
    ];
    for machine in ["aero-chromium", "aero"] {
        for kit in ["x64", "p4"] {
            rows.push(block_copies(report, machine, kit));
            rows.push(self_modifying(report, machine, kit));
        }
    }
    for test in ["forkexec", "getpid", "pagefault"] {
        rows.push(one_test(report, test, "p4", CHROMIUM_V86, Bar::AtLeast(1.5, 1.0)));
    }
    rows
}

fn mean(report: &Report, group: &Group, kit: &str, pair: Pair, bar: Bar) -> Row {
    let what = format!("{kit}, {}, geometric mean, {pair}", group.name);
    let compared = compare(report, pair, kit, group, Cpu::Thread);
    let parts = |it: &Comparison| it.tests.iter().map(|(test, ratio)| ((*test).to_owned(), *ratio)).collect();
    Row {
        what,
        value: compared.as_ref().and_then(|it| it.mean),
        bar,
        parts: compared.iter().flat_map(parts as fn(&Comparison) -> Vec<_>).collect(),
    }
}

fn one_test(report: &Report, test: &str, kit: &str, pair: Pair, bar: Bar) -> Row {
    let rates = [pair.machine, pair.peer].map(|machine| report.rate(machine, kit, test, Cpu::Thread));
    let value = rates[0].zip(rates[1]).map(|(ours, theirs)| ours / theirs);
    let parts = [pair.machine, pair.peer].map(str::to_owned).into_iter().zip(rates).collect();
    Row { what: format!("{kit}, {test}, {pair}"), value, bar, parts }
}

/// In GB/s; the slower of the two counts.
fn block_copies(report: &Report, machine: &str, kit: &str) -> Row {
    let rate = |test: &str| report.rate(machine, kit, test, Cpu::Thread).map(|megabytes| megabytes / 1e3);
    let parts: Vec<_> = ["memcpy", "repmovs"].iter().map(|test| ((*test).to_owned(), rate(test))).collect();
    let value = parts[0].1.zip(parts[1].1).map(|(left, right)| left.min(right));
    Row {
        what: format!("{kit}, block copies in GB/s, {machine}"),
        value,
        bar: Bar::AtLeast(20.0, 10.0),
        parts,
    }
}

/// In millions of patches a second.
fn self_modifying(report: &Report, machine: &str, kit: &str) -> Row {
    let rate = |test: &str| report.rate(machine, kit, test, Cpu::Thread).map(|thousands| thousands / 1e3);
    let others = ["smcdata", "smcgen", "smcself"].iter().map(|test| ((*test).to_owned(), rate(test)));
    let what = format!("{kit}, self-modifying in M/s, {machine}");
    Row { what, value: rate("smc"), bar: Bar::AtLeast(1.0, 0.3), parts: others.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::{report, round_of};

    fn row(value: Option<f64>, bar: Bar) -> Row {
        Row { what: String::new(), value, bar, parts: Vec::new() }
    }

    #[test]
    fn verdict_tells_goal_floor_and_below() {
        let bar = Bar::AtLeast(2.0, 1.3);
        let said = [2.0, 1.3, 1.2].map(|value| row(Some(value), bar).verdict());
        assert_eq!(said, ["goal", "floor", "**below**"]);
        let bar = Bar::AtMost(0.5, 0.8);
        let said = [0.5, 0.8, 0.9].map(|value| row(Some(value), bar).verdict());
        assert_eq!(said, ["goal", "floor", "**below**"]);
        assert_eq!(row(None, bar).verdict(), "not measured");
    }

    #[test]
    fn every_figure_has_a_row_even_when_nothing_was_measured() {
        let rows = of_kits(&report(Vec::new()));
        assert_eq!(rows.len(), 19);
        assert!(rows.iter().all(|row| row.value.is_none()));
    }

    #[test]
    fn block_copies_count_by_the_slower_one_in_gigabytes() {
        // Work is 2 MB a unit: 10,000 units in a second are 20 GB/s.
        let rounds =
            vec![round_of("p4", "memcpy", 10_000, 1.0, 1.0), round_of("p4", "repmovs", 6_000, 1.0, 1.0)];
        let report = report(vec![("aero", rounds)]);
        assert_eq!(block_copies(&report, "aero", "p4").value, Some(12.0));
    }

    #[test]
    fn table_prints_every_tests_ratio() {
        let ours = vec![round_of("p4", "getpid", 30, 1.0, 1.0)];
        let theirs = vec![round_of("p4", "getpid", 10, 1.0, 1.0)];
        let report = report(vec![("aero-chromium", ours), ("v86-chromium", theirs)]);
        let text = table(&of_kits(&report), "win7");
        assert!(text.contains("getpid, aero-chromium ÷ v86-chromium | 3.00 | ≥ 1.5 | ≥ 1 | goal"), "{text}");
    }
}
