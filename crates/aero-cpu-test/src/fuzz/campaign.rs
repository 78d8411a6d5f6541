//! Runs many cases: in child processes, since native execution takes its process over, and gathers what they found.
//!
//! A child writes its [`Findings`] as lines of text into a pipe when it is through. The number of the case under way
//! lies in shared memory, so that a child that dies names the case that killed it.

#![allow(unsafe_code, reason = "fork, pipe and a shared page")]

use super::bench::Bench;
use super::case::{Case, Mode, Outcome};
use super::compare::Difference;
use super::forms::{self, Form};
use super::listed::{self, Ended};
use super::{generate, raw, shrink, text};
use crate::processor::Maker;
use crate::random::Random;
use anyhow::Context;
use iced_x86::{Decoder, DecoderOptions, Instruction};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;

/// What to run.
#[derive(Clone)]
pub struct Plan {
    /// Where the random numbers begin.
    pub seed: u64,
    /// The number of the first case.
    pub first: u64,
    /// How many cases.
    pub cases: u64,
    /// Child processes.
    pub jobs: u64,
    /// Code sizes.
    pub modes: Vec<Mode>,
    /// Only forms whose name matches.
    pub filter: Option<regex::Regex>,
    /// Makes Aero's processor.
    pub maker: Maker,
}

/// How often a form ran.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Count {
    /// Cases.
    pub cases: u64,
    /// Cases that ended without an exception of the instruction's own.
    pub completed: u64,
}

/// A kind of failure: form, field and mode.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Times seen.
    pub count: u64,
    /// One case, as a file.
    pub text: String,
}

/// What a campaign found.
#[derive(Default)]
pub struct Findings {
    /// By form name.
    pub forms: BTreeMap<String, Count>,
    /// By rule.
    pub listed: Vec<u64>,
    /// By form, field and mode.
    pub failures: BTreeMap<String, Failure>,
    /// Cases of random bytes among the others.
    pub raw: u64,
    /// Instructions that ran compiled.
    pub compiled: u64,
}

/// One case in so many is made of random or damaged bytes.
const RAW_SHARE: u64 = 12;

/// Runs the plan.
///
/// # Errors
/// When the host refuses, or a child dies.
pub fn run(plan: &Plan) -> anyhow::Result<Findings> {
    let mut all = Findings { listed: vec![0; listed::RULES.len()], ..Findings::default() };
    let children: Vec<Child> = (0..plan.jobs)
        .map(|job| Child::start(|progress| work(plan, job, progress)))
        .collect::<Result<_, _>>()?;
    for child in children {
        all.merge(&child.finish()?)?;
    }
    Ok(all)
}

/// Runs one case in a child and gives back its text with the ends and differences, and whether it fails.
///
/// # Errors
/// When the host refuses, or the child dies.
pub fn replay(case: &Case, maker: Maker) -> anyhow::Result<(String, bool)> {
    let child = Child::start(|_| {
        let mut worker = Worker::new(maker)?;
        let mut differences = Vec::new();
        worker.bench.run(case, &mut differences);
        let failing = worker.unlisted(case, &differences, &mut |_| {});
        let text = describe(&worker.bench, case, &name(case), &differences);
        Ok(format!("{}\n{text}", failing.len()))
    })?;
    let out = child.finish()?;
    let (failing, text) = out.split_once('\n').context("the child's answer")?;
    Ok((text.to_owned(), failing != "0"))
}

/// A form's name for a case.
fn name(case: &Case) -> String {
    format!("{:?}", decode(case).code())
}

/// The instruction of a case.
pub fn decode(case: &Case) -> Instruction {
    Decoder::with_ip(case.mode.bits(), case.code(), case.state.rip, DecoderOptions::NONE).decode()
}

fn describe(bench: &Bench, case: &Case, name: &str, differences: &[Difference]) -> String {
    let (n, o) = (&bench.native_end, &bench.our_end);
    text::write(case, name, [("native", &n.0, &n.1), ("ours", &o.0, &o.1)], differences)
}

struct Worker {
    bench: Bench,
}

impl Worker {
    fn new(maker: Maker) -> anyhow::Result<Self> {
        Ok(Self { bench: Bench::new(maker)? })
    }

    /// The differences of the case that just ran that no rule allows; tells `seen` the rules of the others.
    fn unlisted(&self, case: &Case, all: &[Difference], seen: &mut dyn FnMut(usize)) -> Vec<Difference> {
        let insn = decode(case);
        let (n, o) = (&self.bench.native_end, &self.bench.our_end);
        let ended = Ended { case, insn: &insn, native: (n.0, &n.1), ours: (o.0, &o.1) };
        all.iter()
            .filter(|d| match listed::allows(&ended, d) {
                Some(rule) => {
                    seen(rule);
                    false
                }
                None => true,
            })
            .copied()
            .collect()
    }

    /// As [`Worker::unlisted`], counted in `listed`; a case that a context switch may have met is run again.
    fn unallowed(&mut self, case: &Case, all: &mut Vec<Difference>, listed: &mut [u64]) -> Vec<Difference> {
        let left = self.unlisted(case, all, &mut |rule| listed[rule] += 1);
        let rule = listed::may_be_interrupted(&decode(case)).filter(|_| !left.is_empty());
        let Some(rule) = rule else { return left };
        all.clear();
        self.bench.run(case, all);
        let left = self.unlisted(case, all, &mut |_| {});
        listed[rule] += u64::from(left.is_empty());
        left
    }

    /// Shrinks a failing case as long as the same kind of field differs, and describes what is left.
    fn explain(&mut self, case: &Case, name: &str, kind: &str) -> String {
        let small = shrink::shrink(case, &mut |c| {
            let mut differences = Vec::new();
            self.bench.run(c, &mut differences);
            let left = self.unlisted(c, &differences, &mut |_| {});
            left.first().is_some_and(|d| kind_of(d) == kind)
        });
        let mut differences = Vec::new();
        self.bench.run(&small, &mut differences);
        let left = self.unlisted(&small, &differences, &mut |_| {});
        describe(&self.bench, &small, name, &left)
    }
}

fn kind_of(d: &Difference) -> String {
    let name = format!("{:?}", d.field);
    name.split('(').next().unwrap_or_default().to_owned()
}

/// The forms of `forms` that the plan wants, by their places, for each mode that has some.
fn wanted(plan: &Plan, forms: &[Form]) -> Vec<(Mode, Vec<usize>)> {
    let named = |f: &Form| plan.filter.as_ref().is_none_or(|r| r.is_match(&f.name()));
    let list = |mode: Mode| {
        let list = forms.iter().enumerate().filter(|(_, f)| f.in_mode(mode) && named(f));
        (mode, list.map(|(i, _)| i).collect())
    };
    plan.modes.iter().map(|mode| list(*mode)).filter(|(_, list): &(_, Vec<_>)| !list.is_empty()).collect()
}

/// A child's part of the plan: every `jobs`th case.
fn work(plan: &Plan, job: u64, progress: &mut dyn FnMut(u64)) -> anyhow::Result<String> {
    let forms = forms::all();
    let lists = wanted(plan, &forms);
    anyhow::ensure!(!lists.is_empty(), "no form matches");
    let mut worker = Worker::new(plan.maker)?;
    let mut found = Findings { listed: vec![0; listed::RULES.len()], ..Findings::default() };
    let mut counts = vec![Count::default(); forms.len()];
    let mut differences = Vec::new();
    for number in (plan.first + job..plan.first + plan.cases).step_by(plan.jobs as usize) {
        progress(number);
        let mut rng = Random::new(plan.seed, number);
        let (mode, list) = &lists[rng.below(lists.len() as u64) as usize];
        let index = list[rng.below(list.len() as u64) as usize];
        let form = &forms[index];
        let damaged = rng.one_in(RAW_SHARE);
        let make = |rng: &mut Random| match damaged {
            true => raw::case(rng, form, *mode),
            false => generate::case(rng, form, *mode),
        };
        let Some(case) = (0..16).find_map(|_| make(&mut rng)) else { continue };
        differences.clear();
        worker.bench.run(&case, &mut differences);
        if damaged {
            found.raw += 1;
        } else {
            counts[index].cases += 1;
            let end = worker.bench.native_end.0;
            counts[index].completed += u64::from(!matches!(end, Outcome::Trap(t) if t.vector != 1));
        }
        if differences.is_empty() {
            continue;
        }
        let left = worker.unallowed(&case, &mut differences, &mut found.listed);
        let Some(first) = left.first() else { continue };
        let name = if damaged { format!("raw:{}", name(&case)) } else { form.name() };
        let kind = kind_of(first);
        let key = format!("{name} {kind} {}", case.mode.bits());
        if let Some(known) = found.failures.get_mut(&key) {
            known.count += 1;
        } else {
            let text = worker.explain(&case, &format!("{name}, case {number} of seed {}", plan.seed), &kind);
            found.failures.insert(key, Failure { count: 1, text });
        }
    }
    found.compiled = worker.bench.compiled();
    found.forms = forms.iter().zip(counts).map(|(f, c)| (f.name(), c)).collect();
    Ok(found.to_text())
}

impl Findings {
    fn to_text(&self) -> String {
        let mut out = format!("raw {}\ncompiled {}\n", self.raw, self.compiled);
        for (name, c) in &self.forms {
            out += &format!("form {name} {} {}\n", c.cases, c.completed);
        }
        for (rule, n) in self.listed.iter().enumerate() {
            out += &format!("listed {rule} {n}\n");
        }
        for (key, f) in &self.failures {
            out += &format!("failure {} {key}\t{}\n", f.count, f.text.replace('\n', "\r"));
        }
        out
    }

    fn merge(&mut self, text: &str) -> anyhow::Result<()> {
        for line in text.lines() {
            let (what, rest) = line.split_once(' ').context("a finding")?;
            match what {
                "raw" => self.raw += rest.parse::<u64>()?,
                "compiled" => self.compiled += rest.parse::<u64>()?,
                "form" => {
                    let mut parts = rest.split(' ');
                    let count = self.forms.entry(parts.next().unwrap_or_default().to_owned()).or_default();
                    count.cases += parts.next().unwrap_or_default().parse::<u64>()?;
                    count.completed += parts.next().unwrap_or_default().parse::<u64>()?;
                }
                "listed" => {
                    let (rule, n) = rest.split_once(' ').context("a rule")?;
                    self.listed[rule.parse::<usize>()?] += n.parse::<u64>()?;
                }
                "failure" => {
                    let (count, rest) = rest.split_once(' ').context("a count")?;
                    let (key, text) = rest.split_once('\t').context("a case")?;
                    let text = text.replace('\r', "\n");
                    let failure = self.failures.entry(key.to_owned()).or_insert(Failure { count: 0, text });
                    failure.count += count.parse::<u64>()?;
                }
                other => anyhow::bail!("unknown finding {other}"),
            }
        }
        Ok(())
    }
}

/// A forked process that answers with text.
struct Child {
    pid: libc::pid_t,
    answer: File,
    progress: *mut u64,
}

impl Child {
    /// Forks and runs `work` in the child.
    fn start(work: impl FnOnce(&mut dyn FnMut(u64)) -> anyhow::Result<String>) -> anyhow::Result<Self> {
        let progress = shared_page()?;
        let mut ends = [0; 2];
        // SAFETY: an array of two descriptors.
        anyhow::ensure!(unsafe { libc::pipe(ends.as_mut_ptr()) } == 0, "pipe: {}", last_error());
        // SAFETY: the child leaves by `_exit` and touches nothing that other threads may have held locked, but the
        // allocator, which the C library makes usable after a fork.
        let pid = unsafe { libc::fork() };
        anyhow::ensure!(pid >= 0, "fork: {}", last_error());
        // SAFETY: both descriptors are open and ours; each side keeps one.
        let (answer, mut to_parent) = unsafe { (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])) };
        if pid != 0 {
            drop(to_parent);
            return Ok(Self { pid, answer, progress });
        }
        drop(answer);
        // SAFETY: the page is mapped and only this process writes it.
        let mut note = |number| unsafe { progress.write_volatile(number) };
        // A panic must not unwind into what the parent was doing when it forked.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&mut note)));
        let text = match done {
            Ok(Ok(text)) => format!("{text}\0"),
            Ok(Err(error)) => format!("{error:#}\u{1}"),
            // SAFETY: ends the child without running the parent's exit handlers.
            Err(_) => unsafe { libc::_exit(4) },
        };
        let written = to_parent.write_all(text.as_bytes());
        // SAFETY: ends the child without running the parent's exit handlers.
        unsafe { libc::_exit(written.is_err().into()) }
    }

    /// Waits for the answer.
    fn finish(mut self) -> anyhow::Result<String> {
        let mut text = String::new();
        self.answer.read_to_string(&mut text)?;
        let mut status = 0;
        // SAFETY: waits for our own child.
        unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
        match text.pop() {
            Some('\0') => Ok(text),
            Some('\u{1}') => anyhow::bail!("{text}"),
            _ => {
                // SAFETY: the page is mapped, the child is gone.
                let number = unsafe { self.progress.read_volatile() };
                anyhow::bail!("the harness died (status {status:#x}) in case {number}")
            }
        }
    }
}

fn last_error() -> std::io::Error {
    std::io::Error::last_os_error()
}

/// A page that a child shares with its parent. It is never unmapped: there are as many as there are children.
fn shared_page() -> anyhow::Result<*mut u64> {
    // SAFETY: a fresh mapping.
    let page = unsafe {
        libc::mmap(
            core::ptr::null_mut(),
            0x1000,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    anyhow::ensure!(page != libc::MAP_FAILED, "mmap: {}", last_error());
    Ok(page.cast())
}
