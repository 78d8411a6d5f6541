//! Ratios between emulators: test by test, and their geometric mean by group.
//!
//! A ratio is work per CPU second of one emulator over that of another in the same run. A mean stands only when every
//! test of its group was measured on both sides: half a group is another figure.

use serde::Serialize;

use super::report::Report;
use super::session::Round;

/// Tests that are one kind of work.
#[derive(Debug)]
pub struct Group {
    /// Its name in tables.
    pub name: &'static str,
    kits: &'static [&'static str],
    tests: &'static [&'static str],
}

const EVERY: &[&str] = &["x64", "i686", "p4"];
const VECTORS: &[&str] = &["x64", "p4"];
const SCALAR: &[&str] = &["nbody", "mandel", "matmul"];

/// Integer work, whose mean in MIPS is a headline figure.
pub const INTEGER: &Group = &Group {
    name: "integer",
    kits: EVERY,
    tests: &["sieve", "crc32", "sha256", "qsort", "interp", "fib", "mul64", "div", "bigcode"],
};

/// A program's own instructions: all tests that peers' MIPS are given for.
pub const WHOLE: &Group = &Group {
    name: "whole kit",
    kits: EVERY,
    tests: &[
        "sieve", "crc32", "sha256", "qsort", "interp", "fib", "mul64", "div", "bigcode", "bytecopy",
        "chase16k", "nbody", "mandel", "matmul", "matmul4", "simdint",
    ],
};

/// Floating point with the x87, under either control word.
pub const X87: &Group = &Group { name: "x87", kits: &["i686", "i686-27f"], tests: SCALAR };

/// Vectors: four floats, sixteen bytes.
pub const PACKED: &Group = &Group { name: "packed", kits: VECTORS, tests: &["matmul4", "simdint"] };

/// All groups, in the order of the tables.
pub const GROUPS: &[&Group] = &[
    INTEGER,
    X87,
    &Group { name: "scalar SSE", kits: VECTORS, tests: SCALAR },
    PACKED,
    &Group { name: "string", kits: EVERY, tests: &["memcpy", "memset", "repmovs"] },
    &Group { name: "memory", kits: EVERY, tests: &["bytecopy", "chase16k", "chase1m", "chase64m"] },
    &Group { name: "smc", kits: EVERY, tests: &["smc", "smcdata", "smcgen", "smcself"] },
    &Group {
        name: "kernel",
        kits: EVERY,
        tests: &["getpid", "int80", "clock", "pagefault", "fork", "forkexec", "pipe"],
    },
    WHOLE,
];

impl Group {
    /// The tests of it that a kit has; none when the group says nothing about that kit.
    pub fn tests_of(&self, kit: &str) -> Vec<&'static str> {
        let has = |test: &&str| match *test {
            "matmul4" | "simdint" => kit != "i686",
            "int80" => kit != "x64",
            _ => true,
        };
        let of_kit = self.tests.iter().copied().filter(has);
        if self.kits.contains(&kit) { of_kit.collect() } else { Vec::new() }
    }
}

/// Whose CPU time a rate is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cpu {
    /// The emulating thread's.
    Thread,
    /// All of the program's, with the threads that compile.
    Process,
}

impl Cpu {
    /// CPU seconds of a round. The kernel counts a thread's time in steps of a few milliseconds; nothing is measured
    /// below one.
    pub fn seconds(self, round: &Round) -> f64 {
        let seconds = match self {
            Cpu::Thread => round.thread_seconds,
            Cpu::Process => round.process_seconds,
        };
        seconds.max(1e-3)
    }
}

/// Two emulators: the first's rates over the second's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// Ours.
    pub machine: &'static str,
    /// The other.
    pub peer: &'static str,
}

/// The pairs that are looked at.
pub const PAIRS: &[Pair] = &[
    Pair { machine: "aero-chromium", peer: "qemu" },
    Pair { machine: "aero", peer: "qemu" },
    Pair { machine: "aero-chromium", peer: "v86-chromium" },
    Pair { machine: "aero", peer: "v86" },
    Pair { machine: "aero", peer: "native" },
];

impl std::fmt::Display for Pair {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} ÷ {}", self.machine, self.peer)
    }
}

/// One group of one kit in two emulators.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// The two.
    pub pair: Pair,
    /// The kit.
    pub kit: String,
    /// The group.
    pub group: &'static str,
    /// Whose CPU time.
    pub cpu: Cpu,
    /// Each test's ratio.
    pub tests: Vec<(&'static str, Option<f64>)>,
    /// Their geometric mean, when all are there.
    pub mean: Option<f64>,
}

/// Compares a group; nothing when the kit has no such tests.
pub fn compare(report: &Report, pair: Pair, kit: &str, group: &Group, cpu: Cpu) -> Option<Comparison> {
    let ratio = |test: &'static str| {
        let ours = report.rate(pair.machine, kit, test, cpu)?;
        Some(ours / report.rate(pair.peer, kit, test, cpu)?)
    };
    let tests: Vec<_> = group.tests_of(kit).into_iter().map(|test| (test, ratio(test))).collect();
    if tests.is_empty() {
        return None;
    }
    let mean = whole_mean(tests.iter().map(|(_, ratio)| *ratio));
    Some(Comparison { pair, kit: kit.to_owned(), group: group.name, cpu, tests, mean })
}

/// The geometric mean of values that are all there.
pub fn whole_mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    geometric_mean(&values.collect::<Option<Vec<f64>>>()?)
}

/// The geometric mean of positive numbers.
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    if values.is_empty() || values.iter().any(|value| *value <= 0.0) {
        return None;
    }
    let sum: f64 = values.iter().map(|value| value.ln()).sum();
    Some((sum / values.len() as f64).exp())
}

/// The middle value, or the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::{report, round_of};

    const AERO_QEMU: Pair = Pair { machine: "aero", peer: "qemu" };

    fn close(left: Option<f64>, right: f64) -> bool {
        left.is_some_and(|left| (left / right - 1.0).abs() < 1e-12)
    }

    #[test]
    fn geometric_mean_of_two_and_eight_is_four() {
        assert!(close(geometric_mean(&[2.0, 8.0]), 4.0));
        assert!(close(geometric_mean(&[0.5, 2.0, 1.0]), 1.0));
        assert_eq!(geometric_mean(&[]), None);
        assert_eq!(geometric_mean(&[1.0, 0.0]), None);
    }

    #[test]
    fn median_is_the_middle_in_any_order() {
        assert_eq!(median(vec![9.0, 1.0, 4.0]), Some(4.0));
        assert_eq!(median(vec![9.0, 1.0, 4.0, 6.0]), Some(5.0));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn ratio_is_work_per_cpu_second_over_the_peers() {
        // 100 units in 2 s against 30 in 1 s by thread; 100 in 4 s against 30 in 1 s by process.
        let ours = round_of("i686", "nbody", 100, 2.0, 4.0);
        let theirs = round_of("i686", "nbody", 30, 1.0, 1.0);
        let report = report(vec![("aero", vec![ours]), ("qemu", vec![theirs])]);
        let ratio = |cpu| compare(&report, AERO_QEMU, "i686", X87, cpu).unwrap().tests[0].1;
        assert!(close(ratio(Cpu::Thread), 50.0 / 30.0));
        assert!(close(ratio(Cpu::Process), 25.0 / 30.0));
    }

    #[test]
    fn mean_needs_every_test_of_the_group_on_both_sides() {
        let rounds = |factor: u64, tests: &[&str]| {
            tests.iter().map(|test| round_of("i686", test, 10 * factor, 1.0, 1.0)).collect::<Vec<_>>()
        };
        let part = report(vec![("aero", rounds(3, SCALAR)), ("qemu", rounds(1, &SCALAR[..2]))]);
        let compared = compare(&part, AERO_QEMU, "i686", X87, Cpu::Thread).unwrap();
        assert_eq!((compared.mean, compared.tests[2].1), (None, None));
        let whole = report(vec![("aero", rounds(3, SCALAR)), ("qemu", rounds(1, SCALAR))]);
        let compared = compare(&whole, AERO_QEMU, "i686", X87, Cpu::Thread).unwrap();
        assert!(close(compared.mean, 3.0));
    }

    #[test]
    fn groups_say_nothing_about_kits_that_lack_them() {
        let empty = report(Vec::new());
        assert!(compare(&empty, AERO_QEMU, "i686", PACKED, Cpu::Thread).is_none());
        assert!(compare(&empty, AERO_QEMU, "p4", X87, Cpu::Thread).is_none());
        assert!(!WHOLE.tests_of("i686").contains(&"simdint"));
        assert!(WHOLE.tests_of("p4").contains(&"simdint"));
    }
}
