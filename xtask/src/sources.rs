//! What the crates below the hosts must not mention: clocks, files, sockets, threads and printing.
//!
//! They run in a browser's worker, where none of these exist, and a run must be repeatable. Tests may use
//! them, so whatever is marked `#[cfg(test)]` is left out, as are comments.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use regex::Regex;

use crate::layers;
use crate::paths;

/// What is looked for, and what to use in its place.
const FORBIDDEN: &[(&str, &str)] = &[
    (r"\bInstant\b|\bSystemTime\b", "time comes from the machine's virtual clock or a host's WallClock"),
    (r"\bstd::fs\b|\bstd::\{[^}]*\bfs\b", "files are the host's; the machine gets bytes"),
    (r"\bstd::net\b|\bstd::\{[^}]*\bnet\b", "sockets are the host's"),
    (r"\bstd::thread\b|\bstd::\{[^}]*\bthread\b", "the machine is one value on one thread"),
    (r"\be?print(ln)?!", "nothing below the hosts prints; use the log macros"),
];

/// Fails when a crate below the hosts uses something of the host.
///
/// # Errors
/// When one does, or a source cannot be read.
pub fn check() -> Result<()> {
    let rules = rules()?;
    let mut wrong = Vec::new();
    for package in layers::hostless()? {
        let files = read_all(&package.folder.join("src"))?;
        let tests: Vec<_> = files.iter().flat_map(|(file, text)| test_modules(file, text)).collect();
        let is_test = |file: &Path| tests.iter().any(|test| file.with_extension("").starts_with(test));
        for (file, text) in files.iter().filter(|(file, _)| !is_test(file)) {
            let name = file.strip_prefix(paths::root()).unwrap_or(file).display();
            let found = violations(text, &rules);
            wrong.extend(found.into_iter().map(|(line, reason)| format!("{name}:{line}: {reason}")));
        }
    }
    if !wrong.is_empty() {
        bail!("sources:\n  {}", wrong.join("\n  "));
    }
    Ok(())
}

fn read_all(folder: &Path) -> Result<Vec<(PathBuf, String)>> {
    let read = |file: PathBuf| {
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        Ok((file, text))
    };
    rust_files(folder)?.into_iter().map(read).collect()
}

fn rules() -> Result<Vec<(Regex, &'static str)>> {
    FORBIDDEN.iter().map(|(pattern, reason)| Ok((Regex::new(pattern)?, *reason))).collect()
}

/// What breaks a rule, with its line, in the part of a file that is not for tests.
fn violations(text: &str, rules: &[(Regex, &'static str)]) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        if is_for_tests(line) {
            skip_item(&mut lines);
            continue;
        }
        let code = line.split("//").next().unwrap_or_default();
        let broken = rules.iter().filter(|(pattern, _)| pattern.is_match(code));
        found.extend(broken.map(|(_, reason)| (index + 1, *reason)));
    }
    found
}

fn is_for_tests(line: &str) -> bool {
    let line = line.trim();
    line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test,")
}

/// Passes over the item that follows an attribute. Sources are formatted, so it ends with its first line, or
/// with a closing brace as far to the right as that line.
fn skip_item<'a>(lines: &mut impl Iterator<Item = (usize, &'a str)>) {
    let Some((_, first)) = lines.find(|(_, line)| !line.trim_start().starts_with("#[")) else { return };
    if !first.trim_end().ends_with('{') {
        return;
    }
    let indent = &first[..first.len() - first.trim_start().len()];
    let end = format!("{indent}}}");
    lines.find(|(_, line)| *line == end);
}

/// Modules that a file declares for tests, as paths without `.rs`.
fn test_modules(file: &Path, text: &str) -> Vec<PathBuf> {
    let stem = file.file_stem().unwrap_or_default();
    let is_root = ["mod", "lib", "main"].iter().any(|root| stem == *root);
    let folder = if is_root { file.with_file_name("") } else { file.with_extension("") };
    let pairs = text.lines().zip(text.lines().skip(1));
    let declared = pairs
        .filter(|(attribute, _)| is_for_tests(attribute))
        .filter_map(|(_, item)| item.trim().strip_suffix(';')?.split_once("mod ").map(|(_, name)| name));
    declared.map(|name| folder.join(name)).collect()
}

/// The Rust sources below a folder, in order.
///
/// # Errors
/// When a folder cannot be read.
pub fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        violations(text, &rules().unwrap()).into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn host_facilities_are_found_with_their_lines() {
        let text = "use std::fs;\nlet a = Instant::now();\nuse std::{fmt, thread};\nprintln!();\n";
        assert_eq!(lines(text), [1, 2, 3, 4]);
    }

    #[test]
    fn comments_and_tests_are_free() {
        let text = "//! Not like std::fs.\nlet a = 1; // no Instant\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
        assert!(lines(text).is_empty());
    }

    #[test]
    fn code_behind_a_test_item_is_looked_at() {
        let text = "#[cfg(test)]\nmod tests;\n#[cfg(test)]\npub(crate) mod more {\n    fn a() {\n    }\n}\nprintln!();\n";
        assert_eq!(lines(text), [8]);
    }

    #[test]
    fn modules_for_tests_are_known_by_their_declaration() {
        let text = "#[cfg(test)]\nmod tests;\nmod image;\n#[cfg(all(test, unix))]\npub(crate) mod oracle;\n";
        let paths = |file: &str| test_modules(Path::new(file), text);
        assert_eq!(paths("fpu/mod.rs"), [Path::new("fpu/tests"), Path::new("fpu/oracle")]);
        assert_eq!(paths("fpu.rs"), [Path::new("fpu/tests"), Path::new("fpu/oracle")]);
    }

    #[test]
    fn similar_names_are_free() {
        assert!(lines("use std::fmt;\nthread_local!(static A: u8 = 1);\nlet net = 1;\n").is_empty());
    }
}
