//! Tables of a bench: medians of rounds, MIPS beside the peers, and results that disagree.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde::Serialize;

use super::kit::INTEGER;
use super::watch::{Measured, Round};

/// One boot of one guest in one emulator.
#[derive(Debug, Serialize)]
pub struct Run {
    /// The emulator's name.
    pub machine: String,
    /// The guest's name.
    pub guest: String,
    /// What was measured.
    pub measured: Measured,
}

/// Everything that a bench found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// All boots, in the order of the tables' columns.
    pub runs: Vec<Run>,
    /// Instructions in a unit, by kit and test.
    pub instructions: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Report {
    /// The tables, as Markdown.
    pub fn markdown(&self) -> String {
        let mut out = self.boot_table();
        for kit in ["x64", "i686", "p4"] {
            let machines = self.machines(kit);
            if machines.is_empty() {
                continue;
            }
            out += &self.mips_table(kit, &machines);
            out += &self.rate_table(kit, &machines);
        }
        for line in self.disagreements() {
            writeln!(out, "\n**{line}**").expect("a string takes all text");
        }
        out
    }

    /// Guest instructions per microsecond of the emulating thread, or `None` where they are not counted.
    pub fn mips(&self, machine: &str, kit: &str, test: &str) -> Option<f64> {
        let instructions = *self.instructions.get(kit)?.get(test)?;
        let units = self.median(machine, kit, test, |round| round.units as f64 / cpu_seconds(round))?;
        Some(units * instructions as f64 / 1e6)
    }

    /// The geometric mean over the integer group, when every test of it was measured.
    pub fn integer_mean(&self, machine: &str, kit: &str) -> Option<f64> {
        let logarithms: Option<Vec<f64>> =
            INTEGER.iter().map(|test| self.mips(machine, kit, test).map(f64::ln)).collect();
        let logarithms = logarithms?;
        Some((logarithms.iter().sum::<f64>() / logarithms.len() as f64).exp())
    }

    /// One line for every test whose result differs between emulators or kits that must agree.
    pub fn disagreements(&self) -> Vec<String> {
        let mut checks: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
        for round in self.runs.iter().flat_map(|run| &run.measured.rounds) {
            checks.entry((&round.kit, &round.test)).or_default().insert(&round.check);
        }
        let differing = checks.into_iter().filter(|(_, values)| values.len() > 1);
        differing
            .map(|((kit, test), values)| format!("{kit} {test} computes differently: {values:?}"))
            .collect()
    }

    fn boot_table(&self) -> String {
        let mut out = "\n| boot to /init | guest | CPU s | wall s |\n|---|---|---:|---:|\n".to_owned();
        for run in &self.runs {
            let Measured { boot_thread_seconds: cpu, boot_wall_seconds: wall, .. } = &run.measured;
            writeln!(out, "| {} | {} | {} | {} |", run.machine, run.guest, figure(*cpu), figure(*wall))
                .expect("a string takes all text");
        }
        out
    }

    fn mips_table(&self, kit: &str, machines: &[&str]) -> String {
        let mut out = heading(&format!("{kit} kit, MIPS"), "test", machines);
        for test in self.tests(kit) {
            let row: Vec<_> = machines.iter().map(|machine| self.mips(machine, kit, test)).collect();
            if row.iter().any(Option::is_some) {
                out += &table_row(test, &row);
            }
        }
        let means: Vec<_> = machines.iter().map(|machine| self.integer_mean(machine, kit)).collect();
        if means.iter().any(Option::is_some) {
            out += &table_row("**geometric mean of the integer group**", &means);
        }
        out
    }

    /// What has no count of instructions: the C library's and the kernel's work.
    fn rate_table(&self, kit: &str, machines: &[&str]) -> String {
        let counted =
            |test: &&str| self.instructions.get(kit).is_some_and(|counts| counts.contains_key(*test));
        let tests: Vec<&str> = self.tests(kit).into_iter().filter(|test| !counted(test)).collect();
        if tests.is_empty() {
            return String::new();
        }
        let mut out = heading(&format!("{kit} kit, work per CPU second"), "test", machines);
        for test in tests {
            let rate = |round: &Round| round.work * round.units as f64 / cpu_seconds(round);
            let row: Vec<_> = machines.iter().map(|machine| self.median(machine, kit, test, rate)).collect();
            let unit = self.rounds(kit).find(|round| round.test == test).map_or("", |round| &round.rate_unit);
            out += &table_row(&format!("{test}, {unit}"), &row);
        }
        out
    }

    fn rounds<'a>(&'a self, kit: &'a str) -> impl Iterator<Item = &'a Round> {
        self.runs.iter().flat_map(|run| &run.measured.rounds).filter(move |round| round.kit == kit)
    }

    fn tests<'a>(&'a self, kit: &'a str) -> Vec<&'a str> {
        let mut tests: Vec<&str> = Vec::new();
        for round in self.rounds(kit) {
            if !tests.contains(&round.test.as_str()) {
                tests.push(&round.test);
            }
        }
        tests
    }

    fn machines(&self, kit: &str) -> Vec<&str> {
        let ran = |run: &&Run| run.measured.rounds.iter().any(|round| round.kit == kit);
        self.runs.iter().filter(ran).map(|run| run.machine.as_str()).collect()
    }

    fn median(&self, machine: &str, kit: &str, test: &str, value: impl Fn(&Round) -> f64) -> Option<f64> {
        let of_machine = self.runs.iter().filter(|run| run.machine == machine);
        let rounds = of_machine.flat_map(|run| &run.measured.rounds);
        let mut values: Vec<f64> =
            rounds.filter(|round| round.kit == kit && round.test == test).map(value).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() {
            0 => None,
            odd if odd % 2 == 1 => Some(values[middle]),
            _ => Some(f64::midpoint(values[middle - 1], values[middle])),
        }
    }
}

/// The kernel counts a thread's time in steps of a few milliseconds; nothing is measured below one.
fn cpu_seconds(round: &Round) -> f64 {
    round.thread_seconds.max(1e-3)
}

fn heading(title: &str, first: &str, machines: &[&str]) -> String {
    let mut out = format!("\n### {title}\n\n| {first} | {}", machines.join(" | "));
    for other in machines.iter().skip(1) {
        write!(out, " | {} / {other}", machines[0]).expect("a string takes all text");
    }
    let columns = 2 * machines.len() - 1;
    out + " |\n|---|" + &"---:|".repeat(columns) + "\n"
}

/// A row: the values, then the first one's ratio to each of the others.
fn table_row(name: &str, values: &[Option<f64>]) -> String {
    let mut out = format!("| {name}");
    for value in values {
        write!(out, " | {}", figure(*value)).expect("a string takes all text");
    }
    for other in values.iter().skip(1) {
        let ratio = values[0].zip(*other).map(|(first, other)| first / other);
        write!(out, " | {}", figure(ratio)).expect("a string takes all text");
    }
    out + " |\n"
}

fn figure(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(test: &str, units: u64, thread_seconds: f64, check: &str) -> Round {
        Round {
            kit: "x64".to_owned(),
            test: test.to_owned(),
            rate_unit: "MB/s".to_owned(),
            work: 2.0,
            units,
            guest_seconds: 1.0,
            wall_seconds: 1.0,
            thread_seconds,
            process_seconds: thread_seconds,
            check: check.to_owned(),
        }
    }

    fn report(rounds: Vec<Round>) -> Report {
        let measured = Measured { rounds, ..Measured::default() };
        let counts = INTEGER.iter().map(|test| ((*test).to_owned(), 1_000_000)).collect();
        Report {
            runs: vec![Run { machine: "aero".to_owned(), guest: "bench".to_owned(), measured }],
            instructions: BTreeMap::from([("x64".to_owned(), counts)]),
        }
    }

    #[test]
    fn mips_is_units_by_cpu_time_by_instructions() {
        let report =
            report(vec![round("fib", 100, 1.0, "1"), round("fib", 50, 1.0, "1"), round("fib", 80, 1.0, "1")]);
        assert_eq!(report.mips("aero", "x64", "fib"), Some(80.0));
        assert_eq!(report.mips("qemu", "x64", "fib"), None);
    }

    #[test]
    fn mean_needs_the_whole_group() {
        assert_eq!(report(vec![round("fib", 80, 1.0, "1")]).integer_mean("aero", "x64"), None);
        let all = INTEGER.iter().map(|test| round(test, 80, 1.0, "1")).collect();
        let mean = report(all).integer_mean("aero", "x64").unwrap();
        assert!((mean - 80.0).abs() < 1e-9);
    }

    #[test]
    fn different_results_are_named() {
        let report =
            report(vec![round("fib", 1, 1.0, "a"), round("fib", 1, 1.0, "b"), round("div", 1, 1.0, "a")]);
        assert_eq!(report.disagreements().len(), 1);
        assert!(report.markdown().contains("x64 fib computes differently"));
    }

    #[test]
    fn uncounted_tests_appear_as_rates() {
        let table = report(vec![round("memcpy", 10, 2.0, "a")]).markdown();
        assert!(table.contains("| memcpy, MB/s | 10.0 |"), "{table}");
    }
}
