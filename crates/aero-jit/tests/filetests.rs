//! The cases of `filetests/*.ir`: a region or x86 code, steps, and the text that must come out.
//!
//! ```text
//! test simplify dead: what it shows
//! region i64
//! …
//! ; expect
//! region i64
//! …
//! ```
//!
//! A case begins with `test`, its steps, and a title. The steps `simplify`, `dead` and `flags` are passes; the region is
//! verified after each. `translate`, first, makes the region from a line `code i64: 48 89 c3`. `run`, last, evaluates it
//! and gives how it was left and what changed; lines such as `; rcx = 5`, `; memory 0x1000 = 1 2 3`, `; missing 2` (a
//! page), and `; code 3` (a page that cannot be written) say what it finds, and `;;` begins a remark. `AERO_BLESS=1` writes
//! the expected texts anew.

use aero_jit::evaluate::{Flat, Guest, evaluate};
use aero_jit::ir::{BlockId, Region, Type, Var};
use aero_jit::job::{Env, Key, Page, Source, Tier};
use aero_jit::{flags, passes, text, translate, verify};
use std::fmt::Write;
use std::path::Path;

/// Linear address of the head of translated code.
const HEAD: u64 = 0x40_0100;
const EXPECT: &str = "; expect";

#[test]
fn file_cases_give_what_they_expect() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("filetests");
    let mut failures = String::new();
    let mut files: Vec<_> =
        folder.read_dir().expect("filetests").map(|f| f.expect("a file").path()).collect();
    files.sort();
    for path in &files {
        let old = std::fs::read_to_string(path).expect("a text file");
        let new = rewritten(&old);
        if std::env::var_os("AERO_BLESS").is_some() {
            std::fs::write(path, &new).expect("a file that can be written");
        } else if old != new {
            let _ = writeln!(failures, "{}:\n{}", path.display(), difference(&old, &new));
        }
    }
    assert!(!files.is_empty() && failures.is_empty(), "AERO_BLESS=1 accepts this:\n{failures}");
}

/// A file with the texts that come out now.
fn rewritten(file: &str) -> String {
    let starts = file.match_indices("test ").map(|(at, _)| at);
    let starts: Vec<usize> = starts.filter(|at| *at == 0 || file[..*at].ends_with('\n')).collect();
    let ends = starts.iter().skip(1).copied().chain([file.len()]);
    let cases: Vec<String> = starts.iter().zip(ends).map(|(start, end)| case(&file[*start..end])).collect();
    file[..starts.first().copied().unwrap_or(file.len())].to_string() + &cases.join("\n")
}

fn case(text: &str) -> String {
    let input = text.split(EXPECT).next().unwrap_or_default().trim_end();
    let result = result(input).unwrap_or_else(|wrong| format!("error: {wrong}\n"));
    format!("{input}\n{EXPECT}\n{result}")
}

fn result(input: &str) -> Result<String, String> {
    let (first, body) = input.split_once('\n').ok_or("nothing to test")?;
    let steps: Vec<&str> = first.split(':').next().unwrap_or_default().split_whitespace().skip(1).collect();
    let mut region = match steps.first() {
        Some(&"translate") => translated(body)?,
        _ => text::parse(body).map_err(|e| e.to_string())?,
    };
    verified(&region, "input")?;
    for step in steps {
        match step {
            "translate" => continue,
            "simplify" => passes::simplify::run(&mut region),
            "dead" => passes::dead::run(&mut region),
            "flags" => flags::run(&mut region),
            "run" => return run(&region, body),
            _ => return Err(format!("there is no step {step}")),
        }
        verified(&region, step)?;
    }
    Ok(without_nops(&region))
}

fn verified(region: &Region, after: &str) -> Result<(), String> {
    verify::verify(region).map_err(|wrong| format!("after {after}: {wrong}"))
}

/// What is left of a region; values keep their numbers.
fn without_nops(region: &Region) -> String {
    region.to_string().split_inclusive('\n').filter(|line| line.trim() != "nop").collect()
}

/// The region of a line `code i64: 48 89 c3`.
fn translated(body: &str) -> Result<Region, String> {
    let line = body.lines().find_map(|l| l.strip_prefix("code ")).ok_or("no line \"code\"")?;
    let (word, bytes) = line.split_once(':').ok_or("no bytes")?;
    let mut page = vec![0xf4; 4096];
    let bytes = hex(bytes)?;
    page[HEAD as usize & 0xfff..][..bytes.len()].copy_from_slice(&bytes);
    let key = Key { long: word == "i64", user: true, mode: 1 };
    let source =
        Source { head: HEAD, key, pages: vec![Page { delta: 0, bytes: page, ran: None, heads: Vec::new() }] };
    translate::region(&source, &env()).map(|(region, _)| region).ok_or_else(|| "nothing to translate".into())
}

fn env() -> Env {
    Env {
        state: 0x1000,
        read: [0x10000, 0x810000],
        write: [0x1010000, 0x1810000],
        jumps: 0x2010000,
        exact: true,
        tail_calls: true,
        model: 2,
        tier: Tier::Optimizing,
    }
}

fn hex(bytes: &str) -> Result<Vec<u8>, String> {
    let byte = |b: &str| u8::from_str_radix(b, 16).map_err(|_| format!("{b} is no byte"));
    bytes.split_whitespace().map(byte).collect()
}

/// Evaluates a region: how it was left, and what changed.
fn run(region: &Region, body: &str) -> Result<String, String> {
    let (mut guest, mut world) = (Guest::new(region.word, HEAD), Flat::new(16, 4096 * 4));
    for line in body.lines().filter_map(|l| l.strip_prefix("; ")) {
        prepare(line, &mut guest, &mut world)?;
    }
    let (old_guest, old_world) = (guest.clone(), world.clone());
    let outcome = evaluate(region, BlockId(0), 10_000, &mut guest, &mut world);
    let mut report = format!("{:x?}, {} retired\n", outcome.exit, outcome.retired);
    report += &changed_registers(&old_guest, &guest);
    report += &changed_memory(&old_world.memory, &world.memory);
    Ok(report)
}

fn prepare(line: &str, guest: &mut Guest, world: &mut Flat) -> Result<(), String> {
    let (what, value) = line.split_once('=').unwrap_or((line, ""));
    let mut words = what.split_whitespace();
    let (name, at) = (words.next().unwrap_or_default(), words.next());
    match (name, at) {
        ("memory", Some(at)) => {
            let (at, bytes) = (number(at)? as usize, hex(value)?);
            world.memory.get_mut(at..at + bytes.len()).ok_or("outside memory")?.copy_from_slice(&bytes);
        }
        ("missing", Some(page)) => drop(world.missing.insert(number(page)?)),
        ("code", Some(page)) => drop(world.code.insert(number(page)?)),
        _ => {
            let var = text::var_named(guest.word, name).ok_or_else(|| format!("nothing is called {name}"))?;
            guest.set(var, number(value)?.into());
        }
    }
    Ok(())
}

fn number(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("{text} is no number"))
}

fn changed_registers(old: &Guest, new: &Guest) -> String {
    let word: Type = new.word;
    let vars = (0..16).map(Var::Gpr).chain((0..16).map(Var::Xmm));
    let mut lines = String::new();
    for var in vars.filter(|var| old.get(*var) != new.get(*var)) {
        let _ = writeln!(lines, "{} = {:#x}", text::var_name(word, var), new.get(var));
    }
    if old.flags().bits() != new.flags().bits() {
        let flags = new.flags();
        let names = [
            (flags.cf(), "cf"),
            (flags.pf(), "pf"),
            (flags.af(), "af"),
            (flags.zf(), "zf"),
            (flags.sf(), "sf"),
            (flags.of(), "of"),
        ];
        let set: Vec<&str> = names.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        let _ = writeln!(lines, "flags = {}", if set.is_empty() { "none".into() } else { set.join(" ") });
    }
    lines
}

fn changed_memory(old: &[u8], new: &[u8]) -> String {
    let changed = (0..new.len()).filter(|at| old[*at] != new[*at]);
    changed.map(|at| format!("memory {at:#x} = {:02x}\n", new[at])).collect()
}

/// The first lines that differ.
fn difference(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let title = old[..same].iter().rev().find(|l| l.starts_with("test ")).copied().unwrap_or_default();
    let some = |lines: &[&str], mark: &str| -> String {
        lines.iter().skip(same).take(12).map(|l| format!("{mark} {l}\n")).collect()
    };
    format!("{title} (line {})\n{}{}", same + 1, some(&old, "-"), some(&new, "+"))
}
