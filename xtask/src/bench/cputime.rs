//! CPU time of a program's threads, read from outside.
//!
//! The *emulating thread* is the one that used most between two readings: units of work per second of its CPU time is
//! a rate that neither other work on the host nor the guest's own idea of time can change. For a browser its renderer
//! processes are read, where the emulator's workers and the engine's compiling threads are.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

/// Nanoseconds on a CPU, by thread.
#[derive(Debug, Clone, Default)]
pub struct Reading(HashMap<u32, u64>);

/// CPU seconds between two readings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Used {
    /// Of the thread that used most.
    pub thread: f64,
    /// Of all threads.
    pub process: f64,
}

impl Reading {
    /// Reads every thread of the program and its descendants, or of its browser's renderer processes when it has some.
    pub fn of(root: u32) -> Reading {
        let processes = tree(root);
        let renderers: Vec<u32> = processes.iter().copied().filter(|&process| is_renderer(process)).collect();
        let watched = if renderers.is_empty() { processes } else { renderers };
        let threads = watched.into_iter().flat_map(thread_ids);
        Reading(threads.filter_map(|thread| Some((thread, run_time(thread)?))).collect())
    }

    /// What was used since an earlier reading.
    pub fn since(&self, before: &Reading) -> Used {
        let spent = |(thread, time): (&u32, &u64)| {
            let nanoseconds = time.saturating_sub(before.0.get(thread).copied().unwrap_or(0));
            Duration::from_nanos(nanoseconds).as_secs_f64()
        };
        let all: Vec<f64> = self.0.iter().map(spent).collect();
        Used { thread: all.iter().copied().fold(0.0, f64::max), process: all.iter().sum() }
    }
}

fn is_renderer(process: u32) -> bool {
    let arguments = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&arguments).contains("--type=renderer")
}

fn run_time(thread: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{thread}/schedstat")).ok()?;
    text.split(' ').next()?.parse().ok()
}

fn thread_ids(process: u32) -> Vec<u32> {
    numbers_in(&format!("/proc/{process}/task"))
}

/// A process and its descendants, parents first.
pub fn tree(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        for thread in thread_ids(found[at]) {
            let children = fs::read_to_string(format!("/proc/{}/task/{thread}/children", found[at]));
            let children = children.unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        at += 1;
    }
    found
}

fn numbers_in(folder: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busiest_thread_counts_apart_from_the_sum() {
        let before = Reading(HashMap::from([(1, 1_000_000_000), (2, 5)]));
        let now = Reading(HashMap::from([(1, 1_500_000_000), (2, 2_000_000_005)]));
        assert_eq!(now.since(&before), Used { thread: 2.0, process: 2.5 });
    }

    #[test]
    fn own_process_has_a_thread_with_cpu_time() {
        assert!(Reading::of(std::process::id()).since(&Reading::default()).thread > 0.0);
    }
}
