//! The JSON forms: one object a line, or one array in a file as the older sets are.

use super::case::{Case, Raised, Recorded, Registers, Set, Snapshot, reg, register};
use anyhow::{Context as _, bail};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Test {
    #[serde(default)]
    form: Option<String>,
    #[serde(default)]
    name: String,
    bytes: Code,
    initial: State,
    #[serde(rename = "final")]
    after: State,
    #[serde(default)]
    exception: Option<Exception>,
}

/// An instruction, as hex or as a list of numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Code {
    Hex(String),
    List(Vec<u8>),
}

#[derive(Deserialize)]
struct State {
    #[serde(default)]
    regs: BTreeMap<String, u32>,
    #[serde(default)]
    ram: Vec<(u32, u8)>,
}

#[derive(Deserialize)]
struct Exception {
    number: u8,
}

/// Reads a file. `form` is what its tests are called where they do not say.
///
/// # Errors
/// When the text is not such JSON.
pub fn parse(file: &[u8], form: &str) -> anyhow::Result<Set> {
    let text = std::str::from_utf8(file).context("neither a MOO file nor text")?;
    let cases = if text.trim_start().starts_with('[') { array(text, form)? } else { lines(text, form)? };
    let Some(first) = cases.first() else { bail!("there is no test in it") };
    Ok(Set { recorded: recorded(first), cases })
}

/// The sets differ in what their tests hold.
fn recorded(first: &Case) -> Recorded {
    match first {
        case if case.initial.regs[0].is_some() => Recorded::I80386,
        case if case.bytes.last() == Some(&0xf4) => Recorded::I80286,
        _ => Recorded::I8088,
    }
}

fn lines(text: &str, form: &str) -> anyhow::Result<Vec<Case>> {
    let numbered = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    numbered
        .map(|(n, line)| {
            let test = serde_json::from_str(line).with_context(|| format!("line {}", n + 1))?;
            case(test, form).with_context(|| format!("line {}", n + 1))
        })
        .collect()
}

fn array(text: &str, form: &str) -> anyhow::Result<Vec<Case>> {
    let tests: Vec<Test> = serde_json::from_str(text)?;
    let numbered = tests.into_iter().enumerate();
    numbered.map(|(n, test)| case(test, form).with_context(|| format!("test {n}"))).collect()
}

fn case(test: Test, form: &str) -> anyhow::Result<Case> {
    let initial = snapshot(test.initial)?;
    if initial.regs[reg::EIP].is_none() {
        bail!("there is no register ip in its initial state");
    }
    Ok(Case {
        form: test.form.unwrap_or_else(|| form.to_owned()),
        name: test.name,
        bytes: code(test.bytes)?,
        initial,
        after: snapshot(test.after)?,
        raised: test.exception.map(|e| Raised { number: e.number }),
        masks: Registers::default(),
    })
}

fn code(bytes: Code) -> anyhow::Result<Vec<u8>> {
    let text = match bytes {
        Code::List(bytes) => return Ok(bytes),
        Code::Hex(text) => text,
    };
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let whole = text.len().is_multiple_of(2);
    let all: Option<Vec<u8>> = pairs.map(byte).collect();
    all.filter(|_| whole).with_context(|| format!("bytes \"{text}\" are not hex digits in pairs"))
}

fn snapshot(state: State) -> anyhow::Result<Snapshot> {
    let mut regs = Registers::default();
    for (name, value) in state.regs {
        let number = register(&name).with_context(|| format!("register {name} is not known"))?;
        regs[number] = Some(value);
    }
    Ok(Snapshot { regs, ram: state.ram })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"form":"04","name":"add al,1","bytes":"0401f4","initial":{"regs":{"ax":1,"ip":16},
        "ram":[[16,4]]},"final":{"regs":{"ax":2,"ip":19},"ram":[]},"exception":{"number":6,"flags_at":8}}"#;

    #[test]
    fn line_and_array_hold_the_same_test() {
        let line = LINE.replace('\n', " ");
        let lines = parse(line.as_bytes(), "").expect("a line");
        assert_eq!(parse(format!("[{line}]").as_bytes(), "").expect("an array"), lines);
        let case = &lines.cases[0];
        assert_eq!(
            (lines.recorded, &*case.form, &case.bytes[..]),
            (Recorded::I80286, "04", &[4, 1, 0xf4][..])
        );
        assert_eq!((case.expected(reg::EAX), case.raised.map(|r| r.number)), (2, Some(6)));
    }

    #[test]
    fn older_arrays_take_their_form_from_outside() {
        let text = LINE.replace("\"form\":\"04\",", "").replace("\"0401f4\"", "[4,1]");
        let set = parse(format!("[{text}]").as_bytes(), "04").expect("an array");
        assert_eq!((set.recorded, &*set.cases[0].form), (Recorded::I8088, "04"));
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let line = LINE.replace('\n', " ");
        for (text, part) in [
            (format!("{line}\n{{"), "line 2"),
            (line.replace("0401f4", "0401f"), "not hex"),
            (line.replace("\"ax\":1", "\"zx\":1"), "register zx"),
            (line.replace("\"ip\":16", "\"sp\":16"), "no register ip"),
            (String::new(), "no test"),
        ] {
            let error = format!("{:#}", parse(text.as_bytes(), "").expect_err("bad text"));
            assert!(error.contains(part), "{error}");
        }
    }
}
