//! What `aero cpu-test fuzz` prints.

use super::campaign::{Findings, Plan};
use super::forms;
use super::listed::RULES;
use aero_machine::JitTier;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// The issue asks for so many cases of each form.
const WANTED: u64 = 1000;

/// Everything.
pub fn print(plan: &Plan, found: &Findings, time: Duration, every_form: bool) {
    let total: u64 = found.forms.values().map(|c| c.cases).sum::<u64>() + found.raw;
    let seconds = time.as_secs_f64();
    println!(
        "seed {}: {total} cases ({} of random bytes) in {seconds:.1} s, {:.0} a second",
        plan.seed,
        found.raw,
        total as f64 / seconds
    );
    if plan.maker.jit().tier != JitTier::Off {
        println!("{} instructions ran compiled", found.compiled);
    }
    coverage(found, every_form);
    exceptions(Some(&found.listed));
    failures(found);
}

fn coverage(found: &Findings, every_form: bool) {
    let ran = || found.forms.iter().filter(|(_, c)| c.cases > 0);
    let least = ran().map(|(_, c)| c.cases).min().unwrap_or(0);
    println!("\nforms: {} of {} ran, the rarest {least} times", ran().count(), found.forms.len());
    let rare = found.forms.values().filter(|c| c.cases < WANTED).count();
    println!("forms with fewer than {WANTED} cases: {rare}");
    let names = |list: Vec<&str>| if list.is_empty() { "none".to_owned() } else { list.join(" ") };
    let never = ran().filter(|(_, c)| c.completed == 0).map(|(n, _)| n.as_str()).collect();
    println!("forms that always end in an exception: {}", names(never));
    let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (code, reason) in forms::not_run() {
        reasons.entry(reason).or_default().push(format!("{code:?}"));
    }
    for (reason, list) in reasons {
        println!("not run, {reason}: {}", list.join(" "));
    }
    if every_form {
        println!("\n{:<44} {:>9} {:>9}", "form", "cases", "completed");
        for (name, c) in &found.forms {
            println!("{name:<44} {:>9} {:>9}", c.cases, c.completed);
        }
    }
}

/// The list of allowed differences, with how often each was met.
pub fn exceptions(counts: Option<&[u64]>) {
    println!("\nallowed differences:");
    for (i, rule) in RULES.iter().enumerate() {
        let forms = match rule.mnemonics {
            [] => "all".to_owned(),
            list => list.iter().map(|m| format!("{m:?}").to_uppercase()).collect::<Vec<_>>().join(" "),
        };
        let met = counts.map_or(String::new(), |c| format!(", met {} times", c[i]));
        println!("  {}{met}\n    forms: {forms}\n    field: {}", rule.name, rule.what);
        println!("    reason: {}\n    manual: {}", rule.reason, rule.section);
    }
}

fn failures(found: &Findings) {
    let count: u64 = found.failures.values().map(|f| f.count).sum();
    println!("\ndifferences outside the list: {count} cases, {} kinds", found.failures.len());
    for (key, failure) in &found.failures {
        println!("\n{key}: {} times", failure.count);
        for line in failure.text.lines() {
            println!("  {line}");
        }
    }
}

/// Writes each kind of failure into a file of its own.
///
/// # Errors
/// When the folder cannot be written.
pub fn save(folder: &Path, found: &Findings) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (key, failure) in &found.failures {
        let name = key.replace([' ', ':'], "-");
        std::fs::write(folder.join(format!("{name}.txt")), &failure.text)?;
    }
    Ok(())
}
