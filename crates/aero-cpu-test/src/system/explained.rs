//! Differences that are the oracles', each with what the manual says.
//!
//! A [`Word`] rule explains one dword of the window that differs and nothing else; a [`Whole`] rule explains that an
//! oracle took another way altogether. Section numbers are those of the Intel SDM, volume 3 where none is given.

use super::case::Case;
use super::engines::Oracle;
use super::layout::at;
use super::outcome::Outcome;

/// One dword that differs.
struct Difference {
    offset: u16,
    ours: u32,
    theirs: u32,
}

/// Explains a dword.
struct Word {
    oracle: Oracle,
    reason: &'static str,
    holds: fn(&Difference) -> bool,
}

/// What a [`Whole`] rule looks at.
struct Situation<'a> {
    family: &'a str,
    case: &'a Case,
    ours: &'a Outcome,
    theirs: &'a Outcome,
    /// What the other oracle came to, if it ran.
    third: Option<&'a Outcome>,
}

impl Situation<'_> {
    /// Whether the other oracle sides with Aero, up to what word rules explain.
    fn third_agrees(&self) -> bool {
        self.third.is_some_and(|third| {
            third == self.ours
                || words(Oracle::Bochs, self.ours, third).is_some()
                || words(Oracle::Qemu, self.ours, third).is_some()
        })
    }
}

/// Explains an outcome.
struct Whole {
    oracle: Oracle,
    families: &'static [&'static str],
    reason: &'static str,
    holds: fn(&Situation<'_>) -> bool,
}

const RF: u32 = 1 << 16;

const WORDS: &[Word] = &[Word {
    oracle: Oracle::Qemu,
    reason: "TCG pushes RF clear on faults; 17.3.1.1 has it set",
    holds: |d| (0x6000..at::CODE).contains(&d.offset) && d.ours == d.theirs | RF,
}];

const WHOLES: &[Whole] = &[];

/// Why `oracle` differs from Aero here, if that is known and Aero is right.
pub fn reason(
    family: &str,
    case: &Case,
    oracle: Oracle,
    ours: &Outcome,
    others: &[(Oracle, &Outcome)],
) -> Option<&'static str> {
    let theirs = others.iter().find(|(other, _)| *other == oracle)?.1;
    if let Some(reason) = words(oracle, ours, theirs) {
        return Some(reason);
    }
    let third = others.iter().find(|(other, _)| *other != oracle).map(|(_, outcome)| *outcome);
    let situation = Situation { family, case, ours, theirs, third };
    let fits = |rule: &&Whole| {
        rule.oracle == oracle
            && (rule.families.is_empty() || rule.families.contains(&family))
            && (rule.holds)(&situation)
    };
    WHOLES.iter().find(fits).map(|rule| rule.reason)
}

/// The first of the reasons that together explain all dwords that differ.
fn words(oracle: Oracle, ours: &Outcome, theirs: &Outcome) -> Option<&'static str> {
    let same_end = std::mem::discriminant(ours) == std::mem::discriminant(theirs);
    if !same_end {
        return None;
    }
    let mut first = None;
    for difference in differences(ours, theirs) {
        let rule = WORDS.iter().find(|rule| rule.oracle == oracle && (rule.holds)(&difference))?;
        first.get_or_insert(rule.reason);
    }
    first
}

fn differences(ours: &Outcome, theirs: &Outcome) -> Vec<Difference> {
    let at =
        |outcome: &Outcome, offset: u16| outcome.words().and_then(|w| w.get(&offset)).copied().unwrap_or(0);
    let mut offsets: Vec<_> =
        [ours, theirs].iter().filter_map(|o| o.words()).flat_map(|w| w.keys().copied()).collect();
    offsets.sort_unstable();
    offsets.dedup();
    offsets
        .into_iter()
        .map(|offset| Difference { offset, ours: at(ours, offset), theirs: at(theirs, offset) })
        .filter(|d| d.ours != d.theirs)
        .collect()
}
