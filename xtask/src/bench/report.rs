//! Tables of a bench: medians of rounds, MIPS, ratios to the peers, and results that disagree.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde::Serialize;

use super::goals::{self, Row};
use super::machines::Settings;
use super::ratios::{Comparison, Cpu, GROUPS, INTEGER, PAIRS, Pair, compare, median, whole_mean};
use super::session::{Measured, Round};

/// The kits, in the order of the tables.
const KITS: &[&str] = &["x64", "p4", "i686", "i686-27f"];

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
#[derive(Debug, Serialize)]
pub struct Report {
    /// How Aero was set up.
    pub settings: Settings,
    /// The host's load averages before it began.
    pub load: String,
    /// All boots, in the order of the tables' columns.
    pub runs: Vec<Run>,
    /// Instructions in a unit, by kit and test.
    pub instructions: BTreeMap<String, BTreeMap<String, u64>>,
}

/// A report with what is computed from it.
#[derive(Debug, Serialize)]
pub struct Full<'a> {
    #[serde(flatten)]
    report: &'a Report,
    comparisons: Vec<Comparison>,
    goals: Vec<Row>,
}

impl Report {
    /// An empty report.
    pub fn new(settings: &Settings) -> Report {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
        Report { settings: settings.clone(), load, runs: Vec::new(), instructions: BTreeMap::new() }
    }

    /// The report with ratios and goals, for a file.
    pub fn full(&self) -> Full<'_> {
        Full { report: self, comparisons: self.comparisons(), goals: goals::of_kits(self) }
    }

    /// The tables, as Markdown.
    pub fn markdown(&self) -> String {
        let mut out = format!("\nAero: {}; load before: {}\n", self.aero(), self.load);
        out += &self.boot_table();
        for kit in KITS {
            let machines = self.machines(kit);
            if machines.is_empty() {
                continue;
            }
            out += &self.mips_table(kit, &machines);
            out += &self.rate_table(kit, &machines);
            out += &self.cpu_table(kit, &machines);
            out += &self.ratio_table(kit);
        }
        out += &goals::table(&goals::of_kits(self), &self.settings.cpu);
        for line in self.disagreements() {
            writeln!(out, "\n**{line}**").expect("a string takes all text");
        }
        out
    }

    /// Aero's settings, in words.
    pub fn aero(&self) -> String {
        let jit = self.settings.jit.as_ref().map_or_else(String::new, |jit| format!(" --jit {jit}"));
        format!("--cpu {}{jit}", self.settings.cpu)
    }

    /// Work per CPU second: the median of the rounds.
    pub fn rate(&self, machine: &str, kit: &str, test: &str, cpu: Cpu) -> Option<f64> {
        self.median(machine, kit, test, |round| round.work * round.units as f64 / cpu.seconds(round))
    }

    /// Guest instructions per microsecond of the emulating thread, or `None` where they are not counted.
    pub fn mips(&self, machine: &str, kit: &str, test: &str) -> Option<f64> {
        let instructions = *self.instructions.get(kit)?.get(test)?;
        let units =
            self.median(machine, kit, test, |round| round.units as f64 / Cpu::Thread.seconds(round))?;
        Some(units * instructions as f64 / 1e6)
    }

    /// The geometric mean over the integer group, when every test of it was measured.
    pub fn integer_mean(&self, machine: &str, kit: &str) -> Option<f64> {
        whole_mean(INTEGER.tests_of(kit).into_iter().map(|test| self.mips(machine, kit, test)))
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

    /// The machines that did not come to their end.
    pub fn unfinished(&self) -> Vec<String> {
        let lost = self.runs.iter().filter(|run| !run.measured.done);
        lost.map(|run| format!("{} did not finish {}", run.machine, run.guest)).collect()
    }

    fn comparisons(&self) -> Vec<Comparison> {
        let mut all = Vec::new();
        for (kit, pair) in
            KITS.iter().flat_map(|kit| self.pairs(kit).into_iter().map(move |pair| (kit, pair)))
        {
            for cpu in [Cpu::Thread, Cpu::Process] {
                all.extend(GROUPS.iter().filter_map(|group| compare(self, pair, kit, group, cpu)));
            }
        }
        all
    }

    /// The pairs of which both ran the kit.
    fn pairs(&self, kit: &str) -> Vec<Pair> {
        let machines = self.machines(kit);
        let both = |pair: &&Pair| machines.contains(&pair.machine) && machines.contains(&pair.peer);
        PAIRS.iter().filter(both).copied().collect()
    }

    fn boot_table(&self) -> String {
        let mut out = "\n| boot to /init | guest | thread CPU s | process CPU s | wall s |\n\
                       |---|---|---:|---:|---:|\n"
            .to_owned();
        for run in self.runs.iter().filter(|run| run.machine != "native") {
            let boot = run.measured.boot;
            let values = [
                boot.map(|boot| boot.thread_seconds),
                boot.map(|boot| boot.process_seconds),
                boot.map(|boot| boot.wall_seconds),
            ];
            out += &row(&format!("{} | {}", run.machine, run.guest), &values);
        }
        out
    }

    fn mips_table(&self, kit: &str, machines: &[&str]) -> String {
        let tests = self.tests(kit);
        let of_test = |test: &str| machines.iter().map(|it| self.mips(it, kit, test)).collect::<Vec<_>>();
        let mut rows: Vec<_> = tests.iter().map(|test| ((*test).to_owned(), of_test(test))).collect();
        let means = machines.iter().map(|machine| self.integer_mean(machine, kit)).collect();
        rows.push(("**geometric mean of the integer group**".to_owned(), means));
        table(&format!("{kit} kit, MIPS of the emulating thread"), machines, rows)
    }

    /// What has no count of instructions: the C library's and the kernel's work.
    fn rate_table(&self, kit: &str, machines: &[&str]) -> String {
        let counted =
            |test: &&str| self.instructions.get(kit).is_some_and(|counts| counts.contains_key(*test));
        let tests = self.tests(kit).into_iter().filter(|test| !counted(test));
        let row = |test: &str| {
            let unit = self.rounds(kit).find(|round| round.test == test).map_or("", |round| &round.rate_unit);
            let rates = machines.iter().map(|machine| self.rate(machine, kit, test, Cpu::Thread));
            (format!("{test}, {unit}"), rates.collect())
        };
        table(
            &format!("{kit} kit, work per CPU second of the emulating thread"),
            machines,
            tests.map(row).collect(),
        )
    }

    /// All rounds together: what the compiling threads cost.
    fn cpu_table(&self, kit: &str, machines: &[&str]) -> String {
        let total = |seconds: fn(&Round) -> f64| {
            let sum = |machine: &&str| Some(self.rounds_of(machine, kit).map(seconds).sum::<f64>());
            machines.iter().map(sum).collect::<Vec<_>>()
        };
        let rows = vec![
            ("CPU of the emulating thread".to_owned(), total(|round| round.thread_seconds)),
            ("CPU of the whole process".to_owned(), total(|round| round.process_seconds)),
            ("wall".to_owned(), total(|round| round.wall_seconds)),
        ];
        table(&format!("{kit} kit, seconds of all rounds"), machines, rows)
    }

    fn ratio_table(&self, kit: &str) -> String {
        let pairs = self.pairs(kit);
        if pairs.is_empty() {
            return String::new();
        }
        let mut rows = Vec::new();
        for group in GROUPS.iter().filter(|group| !group.tests_of(kit).is_empty()) {
            let compared = |cpu| pairs.iter().filter_map(move |pair| compare(self, *pair, kit, group, cpu));
            if group.name != "whole kit" {
                for (at, test) in group.tests_of(kit).into_iter().enumerate() {
                    rows.push((test.to_owned(), compared(Cpu::Thread).map(|it| it.tests[at].1).collect()));
                }
            }
            let means = |cpu| compared(cpu).map(|it| it.mean).collect::<Vec<_>>();
            rows.push((format!("**{}**, geometric mean", group.name), means(Cpu::Thread)));
            rows.push((format!("{}, by CPU of the process", group.name), means(Cpu::Process)));
        }
        let names: Vec<String> = pairs.iter().map(Pair::to_string).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        table(&format!("{kit} kit, ratios"), &names, rows)
    }

    /// The rounds of a machine with a kit.
    pub fn rounds_of<'a>(&'a self, machine: &'a str, kit: &'a str) -> impl Iterator<Item = &'a Round> {
        let runs = self.runs.iter().filter(move |run| run.machine == machine);
        runs.flat_map(|run| &run.measured.rounds).filter(move |round| round.kit == kit)
    }

    fn rounds<'a>(&'a self, kit: &'a str) -> impl Iterator<Item = &'a Round> {
        self.runs.iter().flat_map(|run| &run.measured.rounds).filter(move |round| round.kit == kit)
    }

    /// The tests of a kit, in the order that they ran in.
    pub fn tests<'a>(&'a self, kit: &'a str) -> Vec<&'a str> {
        let mut tests: Vec<&str> = Vec::new();
        for round in self.rounds(kit) {
            if !tests.contains(&round.test.as_str()) {
                tests.push(&round.test);
            }
        }
        tests
    }

    /// The machines that ran a kit.
    pub fn machines(&self, kit: &str) -> Vec<&str> {
        let mut machines: Vec<&str> = Vec::new();
        for run in self.runs.iter().filter(|run| run.measured.rounds.iter().any(|round| round.kit == kit)) {
            if !machines.contains(&run.machine.as_str()) {
                machines.push(&run.machine);
            }
        }
        machines
    }

    fn median(&self, machine: &str, kit: &str, test: &str, value: impl Fn(&Round) -> f64) -> Option<f64> {
        let rounds = self.rounds_of(machine, kit).filter(|round| round.test == test);
        median(rounds.map(value).collect())
    }
}

/// A table with a heading; nothing when no row has a value.
pub fn table(title: &str, columns: &[&str], rows: Vec<(String, Vec<Option<f64>>)>) -> String {
    let rows: Vec<_> = rows.into_iter().filter(|(_, values)| values.iter().any(Option::is_some)).collect();
    if rows.is_empty() {
        return String::new();
    }
    let rule = "---:|".repeat(columns.len());
    let mut out = format!("\n### {title}\n\n| | {} |\n|---|{rule}\n", columns.join(" | "));
    rows.iter().for_each(|(name, values)| out += &row(name, values));
    out
}

fn row(name: &str, values: &[Option<f64>]) -> String {
    let values: Vec<String> = values.iter().map(|value| figure(*value)).collect();
    format!("| {name} | {} |\n", values.join(" | "))
}

/// A number with three digits that count, or a dash.
pub fn figure(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) if value >= 0.1 => format!("{value:.2}"),
        Some(value) => format!("{value:.4}"),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A round of two units of work a repetition.
    pub fn round_of(kit: &str, test: &str, units: u64, thread_seconds: f64, process_seconds: f64) -> Round {
        Round {
            kit: kit.to_owned(),
            test: test.to_owned(),
            rate_unit: "MB/s".to_owned(),
            work: 2.0,
            units,
            guest_seconds: 1.0,
            wall_seconds: 1.0,
            thread_seconds,
            process_seconds,
            check: "a".to_owned(),
        }
    }

    /// A report of these machines' rounds.
    pub fn report(machines: Vec<(&str, Vec<Round>)>) -> Report {
        let run = |(machine, rounds): (&str, Vec<Round>)| Run {
            machine: machine.to_owned(),
            guest: "bench".to_owned(),
            measured: Measured { rounds, done: true, ..Measured::default() },
        };
        let settings = Settings { cpu: "win7".to_owned(), jit: None };
        Report { runs: machines.into_iter().map(run).collect(), ..Report::new(&settings) }
    }

    fn fib(units: u64) -> Round {
        round_of("x64", "fib", units, 1.0, 1.0)
    }

    fn counted(mut report: Report) -> Report {
        let counts = INTEGER.tests_of("x64").into_iter().map(|test| (test.to_owned(), 1_000_000)).collect();
        report.instructions.insert("x64".to_owned(), counts);
        report
    }

    #[test]
    fn mips_is_units_by_cpu_time_by_instructions() {
        let report = counted(report(vec![("aero", vec![fib(100), fib(50), fib(80)])]));
        assert_eq!(report.mips("aero", "x64", "fib"), Some(80.0));
        assert_eq!(report.mips("qemu", "x64", "fib"), None);
    }

    #[test]
    fn mean_needs_the_whole_group() {
        let part = counted(report(vec![("aero", vec![fib(80)])]));
        assert_eq!(part.integer_mean("aero", "x64"), None);
        let all = INTEGER.tests_of("x64").into_iter().map(|test| round_of("x64", test, 80, 1.0, 1.0));
        let mean = counted(report(vec![("aero", all.collect())])).integer_mean("aero", "x64").unwrap();
        assert!((mean - 80.0).abs() < 1e-9);
    }

    #[test]
    fn different_results_are_named() {
        let other = Round { check: "b".to_owned(), ..fib(1) };
        let report = report(vec![("aero", vec![fib(1)]), ("qemu", vec![other])]);
        assert_eq!(report.disagreements().len(), 1);
        assert!(report.markdown().contains("x64 fib computes differently"));
    }

    #[test]
    fn uncounted_tests_appear_as_rates() {
        let round = round_of("x64", "memcpy", 10, 2.0, 2.0);
        let table = report(vec![("aero", vec![round])]).markdown();
        assert!(table.contains("| memcpy, MB/s | 10.0 |"), "{table}");
    }

    #[test]
    fn ratios_stand_beside_each_other_with_their_pair() {
        let report = report(vec![("aero", vec![fib(30)]), ("qemu", vec![fib(20)])]);
        let text = report.markdown();
        assert!(text.contains("| | aero ÷ qemu |"), "{text}");
        assert!(text.contains("| fib | 1.50 |"), "{text}");
        let json = serde_json::to_value(report.full()).unwrap();
        assert_eq!(json["comparisons"][0]["pair"]["peer"], "qemu");
    }

    #[test]
    fn settings_are_named() {
        let mut report = report(Vec::new());
        report.settings.jit = Some("full".to_owned());
        assert!(report.markdown().contains("Aero: --cpu win7 --jit full"));
    }
}
