//! What a case came to: the dwords of the window that differ from the pristine one.

use super::layout::{at, linear, record};
use super::program::{BEGIN, DONE, END, RESET};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The result of one case in one emulator.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Outcome {
    /// An exception ended it.
    Done(Words),
    /// A triple fault did. How far the deliveries before it came is nobody's business.
    Reset,
    /// Nothing did: the emulator hung, or died.
    Lost,
}

/// Dwords by their offset in the window.
pub type Words = BTreeMap<u16, u32>;

impl Outcome {
    /// The dwords that changed.
    pub fn words(&self) -> Option<&Words> {
        match self {
            Self::Done(words) => Some(words),
            Self::Reset | Self::Lost => None,
        }
    }

    /// A dword of the record; those that did not change are 0.
    pub fn record(&self, offset: u16) -> u32 {
        self.words().and_then(|words| words.get(&offset)).copied().unwrap_or(0)
    }

    /// The vector that ended it.
    pub fn vector(&self) -> Option<u8> {
        match self {
            Self::Done(_) => Some(self.record(record::VECTOR) as u8 & 0x3f),
            _ => None,
        }
    }

    /// A digest, the same on every host (FNV-1a).
    pub fn digest(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325;
        let mut byte = |b: u8| hash = (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
        byte(match self {
            Self::Done(_) => DONE,
            Self::Reset => RESET,
            Self::Lost => 0,
        });
        for (offset, value) in self.words().into_iter().flatten() {
            offset.to_le_bytes().into_iter().chain(value.to_le_bytes()).for_each(&mut byte);
        }
        hash
    }
}

/// What a run wrote, taken apart.
pub struct Parsed {
    /// Results of the first cases.
    pub outcomes: Vec<Outcome>,
    /// The ROM came to its end.
    pub complete: bool,
}

/// Takes the output of a ROM apart; what comes before the begin mark is the emulator's own chatter.
pub fn parse(output: &[u8]) -> Parsed {
    let mut parsed = Parsed { outcomes: Vec::new(), complete: false };
    let Some(begin) = output.windows(BEGIN.len()).position(|w| w == BEGIN) else { return parsed };
    let mut rest = &output[begin + BEGIN.len()..];
    loop {
        match rest.first() {
            Some(&END) => {
                parsed.complete = true;
                return parsed;
            }
            Some(&mark @ (DONE | RESET)) => {
                let Some((number, words, after)) = one(&rest[1..]) else { return parsed };
                if usize::from(number) != parsed.outcomes.len() & 0xffff {
                    return parsed;
                }
                parsed.outcomes.push(if mark == DONE { Outcome::Done(words) } else { Outcome::Reset });
                rest = after;
            }
            // Between two cases Bochs' debugger says that it has stopped at a reset.
            Some(text) if text.is_ascii() => rest = &rest[1..],
            _ => return parsed,
        }
    }
}

fn one(bytes: &[u8]) -> Option<(u16, Words, &[u8])> {
    let mut words = Words::new();
    let (number, mut rest) = bytes.split_first_chunk::<2>()?;
    loop {
        let (index, after) = rest.split_first_chunk::<2>()?;
        let index = u16::from_le_bytes(*index);
        if index == u16::MAX {
            return Some((u16::from_le_bytes(*number), words, after));
        }
        let (value, after) = after.split_first_chunk::<4>()?;
        words.insert(index.wrapping_mul(4), u32::from_le_bytes(*value));
        rest = after;
    }
}

/// Tells one outcome in a line or two.
pub fn describe(outcome: &Outcome) -> String {
    let mut text = match outcome {
        Outcome::Lost => return "hangs".into(),
        Outcome::Reset => String::from("triple fault"),
        Outcome::Done(_) => format!("vector {}", outcome.record(record::VECTOR) & 0x3f),
    };
    for (offset, value) in outcome.words().into_iter().flatten() {
        if *offset != record::VECTOR {
            let _ = write!(text, " {}={value:x}", name(*offset));
        }
    }
    text
}

/// What differs, as `name: a | b | …`, a dash where the pristine value is left.
pub fn differences(outcomes: &[&Outcome]) -> Vec<String> {
    let mut offsets: Vec<u16> =
        outcomes.iter().filter_map(|o| o.words()).flat_map(|words| words.keys().copied()).collect();
    offsets.sort_unstable();
    offsets.dedup();
    let value = |o: &Outcome, at: u16| o.words().and_then(|words| words.get(&at)).copied();
    let mut lines = Vec::new();
    for at in offsets {
        let values: Vec<_> = outcomes.iter().map(|o| value(o, at)).collect();
        if values.iter().any(|v| *v != values[0]) {
            let texts: Vec<_> =
                values.iter().map(|v| v.map_or("-".into(), |v: u32| format!("{v:x}"))).collect();
            lines.push(format!("{}: {}", name(at), texts.join(" | ")));
        }
    }
    lines
}

const GPRS: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];
const SEGMENTS: [&str; 8] = ["cs", "ss", "ds", "es", "fs", "gs", "tr", "ldtr"];

/// What lies at an offset of the window.
pub fn name(offset: u16) -> String {
    let high = if offset & 4 != 0 { "+4" } else { "" };
    match offset {
        record::VECTOR => "vector".into(),
        record::KIND => "kind".into(),
        record::GPR..0x88 => {
            let high = if (offset - record::GPR) & 4 == 0 { "" } else { "+4" };
            format!("{}{}", GPRS[usize::from((offset - record::GPR) / 8)], high)
        }
        record::SEGMENTS..record::FLAGS => SEGMENTS[usize::from((offset - record::SEGMENTS) / 4)].into(),
        record::FLAGS => "flags".into(),
        record::CR0 => "cr0".into(),
        0xc0 | 0xc4 => format!("cr2{high}"),
        record::CR3 => "cr3".into(),
        record::CR4 => "cr4".into(),
        record::DR6 => "dr6".into(),
        record::DR7 => "dr7".into(),
        at::GDT..at::LDT => format!("gdt[{:02x}]{high}", (offset - at::GDT) & !7),
        at::LDT..at::TSS => format!("ldt[{:02x}]{high}", (offset - at::LDT) & !7),
        at::TSS..at::TSS_B => format!("tss+{:x}", offset - at::TSS),
        at::TSS_B..at::TSS_C => format!("tss_b+{:x}", offset - at::TSS_B),
        at::TSS_C..at::TSS_GATE => format!("tss_c+{:x}", offset - at::TSS_C),
        at::TSS_GATE..at::IDT => format!("tss_gate+{:x}", offset - at::TSS_GATE),
        at::IDT..at::ROOT => format!("idt+{:x}", offset - at::IDT),
        at::ROOT..at::POINTERS => format!("root+{:x}", offset - at::ROOT),
        at::POINTERS..at::DIRECTORY => format!("pointers+{:x}", offset - at::POINTERS),
        at::DIRECTORY..at::TABLE => format!("directory+{:x}", offset - at::DIRECTORY),
        at::TABLE..0x6000 => format!("table+{:x}", offset - at::TABLE),
        _ => format!("[{:x}]", linear(offset)),
    }
}
