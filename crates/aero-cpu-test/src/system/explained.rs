//! Differences that are the oracles', each with what the manual says.
//!
//! A [`Word`] rule explains one dword of the window that differs and nothing else; a [`Whole`] rule explains that an
//! oracle took another way altogether. Section numbers are those of the Intel SDM, volume 3 where none is given.

use super::case::Case;
use super::engines::Oracle;
use super::layout::{at, record};
use super::outcome::Outcome;

/// One dword that differs.
struct Difference<'a> {
    title: &'a str,
    vector: u8,
    offset: u16,
    ours: u32,
    theirs: u32,
}

/// Explains a dword.
struct Word {
    oracle: Oracle,
    reason: &'static str,
    holds: fn(&Difference<'_>) -> bool,
}

/// What a [`Whole`] rule looks at.
struct Situation<'a> {
    case: &'a Case,
    ours: &'a Outcome,
    /// What the other oracle came to, if it ran.
    third: Option<(Oracle, &'a Outcome)>,
}

impl Situation<'_> {
    /// Whether the other oracle, if it ran, sides with Aero, up to what word rules explain.
    fn third_agrees(&self) -> bool {
        self.third.is_none_or(|(oracle, third)| {
            third == self.ours || words(self.case, oracle, self.ours, third).is_some()
        })
    }
}

/// Explains an outcome.
struct Whole {
    oracle: Oracle,
    families: &'static [&'static str],
    /// One of these is in the title; none means any title.
    titles: &'static [&'static str],
    reason: &'static str,
    holds: fn(&Situation<'_>) -> bool,
}

/// The accessed bit in the upper dword of a segment descriptor.
const ACCESSED: u32 = 1 << 8;
const RF: u32 = 1 << 16;

const fn word(oracle: Oracle, reason: &'static str, holds: fn(&Difference<'_>) -> bool) -> Word {
    Word { oracle, reason, holds }
}

const WORDS: &[Word] = &[
    word(Oracle::Qemu, "TCG pushes RF clear on faults; 17.3.1.1 has it set", |d| {
        is_stack(d) && d.ours == d.theirs | RF
    }),
    word(
        Oracle::Bochs,
        "Bochs clears RF before a software interrupt; 17.3.1.1: it is pushed as it was",
        |d| is_stack(d) && d.ours == d.theirs | RF && matches!(d.vector, 3 | 4 | 9 | 20..),
    ),
    word(Oracle::Bochs, "Bochs pushes RF set on #DF; 17.3.1.1 says so of faults, and #DF is an abort", |d| {
        d.offset >= at::IDT && d.theirs == d.ours | RF && d.vector == 8
    }),
    word(Oracle::Bochs, "bits 19:16 of what LAR gives are undefined (vol. 2A)", |d| {
        d.title.contains("lar ecx") && d.offset == ECX && (d.ours ^ d.theirs) & !0xf_0000 == 0
    }),
    word(Oracle::Bochs, "a 16-bit TSS leaves the upper halves of registers undefined (8.6)", |d| {
        // The stub pushes EAX on the task's stack.
        let pushed = (at::DATA_B + 0x3c0..at::DATA_B + 0x3f8).contains(&d.offset);
        d.title.contains("16 bits") && (pushed || is_general(d) && (d.ours ^ d.theirs) & 0xffff == 0)
    }),
    word(Oracle::Bochs, "Bochs pushes CALL's frame before it looks at EIP; vol. 2A has it after", |d| {
        let pushed = is_outer_stack(d) || is_stack(d) && d.ours == 0;
        d.title.starts_with("far call") && d.vector == 13 && (pushed || is_page_entry(d))
    }),
    word(Oracle::Qemu, "TCG's IRET loads VIF and VIP at every CPL; vol. 2A: at CPL 0", |d| {
        let flags = is_stack(d) || d.offset == record::FLAGS;
        d.title.contains("iret") && flags && (d.ours ^ d.theirs) & !0x19_0000 == 0
    }),
    word(Oracle::Qemu, "TCG saves RF clear in the old TSS on a fault; 17.3.1.1 has it set", |d| {
        d.offset == at::TSS + 0x24 && d.ours == d.theirs | RF
    }),
    word(
        Oracle::Bochs,
        "B0 to B3 may be set of breakpoints that are not enabled, or come at once (17.2.3)",
        |d| d.offset == record::DR6 && d.ours & !d.theirs == 0 && d.theirs & !d.ours & !0xf == 0,
    ),
    word(Oracle::Bochs, "Bochs reads the stack before it looks at IOPL; the manual says no order", |d| {
        let pops = ["popf", "iret"].iter().any(|how| d.title.starts_with(how));
        pops && d.title.contains("IOPL") && d.vector == 13 && is_page_entry(d)
    }),
    word(
        Oracle::Bochs,
        "general detect is a fault, so RF is pushed set (17.2.4, 17.3.1.1); Bochs has it clear",
        |d| d.title.contains("CPL 0") && d.vector == 1 && is_stack(d) && d.ours == d.theirs | RF,
    ),
    word(Oracle::Bochs, "a load that a later check undoes may leave the accessed bit set (3.4.5.1)", |d| {
        (at::GDT..at::TSS).contains(&d.offset) && d.vector == 13 && d.ours == d.theirs | ACCESSED
    }),
    word(
        Oracle::Bochs,
        "a conforming handler keeps CPL 3, and pushes as such (6.12.1.2); Bochs as its DPL",
        |d| d.title.contains(" ist ") && d.vector == 14 && is_stack(d) && d.ours ^ d.theirs == 4,
    ),
    word(Oracle::Bochs, "the error code of #DF is 0 (6.15); Bochs has EXT in it", |d| {
        d.vector == 8 && d.offset >= at::IDT && d.theirs == d.ours | 1
    }),
    word(Oracle::Bochs, "a trap amid REP pushes RF set (17.3.1.1); Bochs has it clear", |d| {
        d.title.contains("rep ") && d.vector == 1 && is_stack(d) && d.ours == d.theirs | RF
    }),
    word(Oracle::Bochs, "DR7 bit 11 is reserved where there is no RTM (17.2.4); Bochs keeps it", |d| {
        (d.offset == record::DR7 || is_general(d)) && d.theirs == d.ours | 0x800 && d.title.contains("mov dr")
    }),
    word(
        Oracle::Bochs,
        "alignment and pages are checked in no set order (6.9), so accessed bits may be set",
        |d| d.vector == 17 && (at::ROOT..0x6000).contains(&d.offset),
    ),
    word(
        Oracle::Bochs,
        "Bochs pushes the return address before it looks at the target; vol. 2A has it after",
        |d| {
            let calls = ["call rbx", "wide true"].iter().any(|how| d.title.contains(how));
            calls && d.vector == 13 && (is_stack(d) || is_page_entry(d))
        },
    ),
];

/// The number in hexadecimal digits that `text` begins with.
fn hexadecimal(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(text.len());
    u64::from_str_radix(&text[..digits], 16).ok()
}

/// Whether a case that goes through a gate "to selector:offset" finds a canonical address in it.
fn gate_is_canonical(title: &str) -> bool {
    let offset = title.split_once(" to ").and_then(|(_, target)| target.split_once(':'));
    offset.and_then(|(_, offset)| hexadecimal(offset)).is_none_or(aero_cpu::access::is_canonical)
}

/// Whether a case begins with general detect on.
fn detects(title: &str) -> bool {
    let dr7 = title.split_once(", dr7 ").and_then(|(_, dr7)| hexadecimal(dr7));
    dr7.is_some_and(|dr7| dr7 & aero_cpu::debug::dr7::GD != 0)
}

const ECX: u16 = record::GPR + 8;

/// In a stack, where frames are.
fn is_stack(d: &Difference<'_>) -> bool {
    (0x6000..at::CODE).contains(&d.offset) || (at::DATA..0xf000).contains(&d.offset)
}

/// A stack other than that which exceptions switch to.
fn is_outer_stack(d: &Difference<'_>) -> bool {
    is_stack(d) && !(at::INNER_STACK0 - 0x40..at::INNER_STACK0).contains(&d.offset)
}

/// An entry of the page tables.
fn is_page_entry(d: &Difference<'_>) -> bool {
    (at::ROOT..0x6000).contains(&d.offset)
}

/// A general register in the record.
fn is_general(d: &Difference<'_>) -> bool {
    (record::GPR..record::SEGMENTS).contains(&d.offset)
}

/// What TCG leaves out, where Bochs and Aero agree that it matters.
const fn loose(families: &'static [&'static str], reason: &'static str) -> Whole {
    Whole { oracle: Oracle::Qemu, families, titles: &[], reason, holds: |s| s.third_agrees() }
}

const fn either(oracle: Oracle, titles: &'static [&'static str], reason: &'static str) -> Whole {
    Whole { oracle, families: &["control"], titles, reason, holds: |_| true }
}

const WHOLES: &[Whole] = &[
    Whole {
        oracle: Oracle::Bochs,
        families: &["long"],
        titles: &["iret of 4", "iret of 2"],
        reason: "IRET of 32 and 16 bits in 64-bit mode pops RSP too (vol. 2A); Bochs does so with 64 only",
        holds: |s| s.case.title.contains("compatible false"),
    },
    either(
        Oracle::Bochs,
        &["wrmsr c0000084", "wrmsr c0000103"],
        "the upper halves of IA32_FMASK and IA32_TSC_AUX are reserved (vol. 4): #GP; Bochs drops them",
    ),
    either(
        Oracle::Qemu,
        &["wrmsr c0000084", "wrmsr c0000103"],
        "the upper halves of IA32_FMASK and IA32_TSC_AUX are reserved (vol. 4): #GP; TCG keeps them",
    ),
    either(
        Oracle::Bochs,
        &["wrmsr 174"],
        "the bits of IA32_SYSENTER_CS beside the selector are not used but kept (vol. 4); Bochs drops some",
    ),
    either(
        Oracle::Qemu,
        &["wrmsr 174"],
        "the bits of IA32_SYSENTER_CS beside the selector are not used but kept (vol. 4); TCG drops them",
    ),
    Whole {
        oracle: Oracle::Bochs,
        families: &["long"],
        titles: &[", interrupt "],
        reason: "a gate's RIP that is not canonical faults before anything is pushed (vol. 2A); Bochs pushes first",
        holds: |s| s.ours.vector() == Some(13) && !gate_is_canonical(&s.case.title),
    },
    Whole {
        oracle: Oracle::Qemu,
        families: &["long"],
        titles: &[", interrupt "],
        reason: "a gate's RIP that is not canonical faults before anything is pushed (vol. 2A); TCG pushes first",
        holds: |s| s.ours.vector() == Some(13) && !gate_is_canonical(&s.case.title),
    },
    Whole {
        oracle: Oracle::Qemu,
        families: &["debug"],
        titles: &["icebp"],
        reason: "TCG does not clear GD on the way to #DB (17.2.4), nor raise it for reads",
        holds: |s| s.ours.vector() == Some(1) && detects(&s.case.title),
    },
    Whole {
        oracle: Oracle::Qemu,
        families: &["long"],
        titles: &["iret of 4", "iret of 2"],
        reason: "TCG's IRET takes a null SS for 32-bit code and sets no accessed bits (vol. 2A)",
        holds: |s| s.case.title.contains("compatible false"),
    },
    Whole {
        oracle: Oracle::Bochs,
        families: &["debug"],
        titles: &["icebp"],
        reason: "every #DB clears GD on its way (17.2.4); Bochs leaves it set on INT1",
        holds: |s| s.ours.vector() == Some(1) && detects(&s.case.title),
    },
    Whole {
        oracle: Oracle::Bochs,
        families: &["query"],
        titles: &["lar ecx, ax 0x3f", "lar cx, ax 0x3f", "lsl ecx, ax 0x3f", "lsl cx, ax 0x3f"],
        reason: "Bochs wants all 16 bytes of a system descriptor inside the table, for LAR and LSL too (vol. 2A)",
        holds: |_| true,
    },
    loose(
        &["real", "limits", "stack", "load"],
        "TCG checks neither limits nor types on accesses (5.3, 5.5), and lets LOCK stand before some instructions",
    ),
    loose(
        &["transfer", "return", "interrupt", "iret", "tasks", "long"],
        "TCG checks no EIP against the limit, sets no accessed bit of code segments, and has EXT clear (5.3, 6.13)",
    ),
    loose(&["vm86"], "TCG checks no limits in VM86 mode, and has VME only in part (20.3)"),
    loose(&["alignment"], "TCG raises no #AC (6.15)"),
    loose(&["debug"], "TCG reports of breakpoints and steps only what it needs to stop for (17.2.3)"),
    loose(&["paging"], "TCG sets accessed bits of entries that fault, and pushes flags as they are (4.8)"),
    loose(&["query"], "TCG knows no LAR of 16-bit gates, and takes a null selector for LTR (vol. 2A)"),
    loose(&["syscall"], "TCG tells a null SYSENTER_CS by all of it, RPL too; SYSEXIT likewise (vol. 2B)"),
    loose(
        &["privilege", "control"],
        "TCG has #GP before #UD for registers that are not there, and ports read 0",
    ),
];

/// Why `oracle` differs from Aero here, if that is known and Aero is right.
pub fn reason(
    family: &str,
    case: &Case,
    oracle: Oracle,
    ours: &Outcome,
    others: &[(Oracle, &Outcome)],
) -> Option<&'static str> {
    let theirs = others.iter().find(|(other, _)| *other == oracle)?.1;
    if let Some(reason) = words(case, oracle, ours, theirs) {
        return Some(reason);
    }
    let third = others.iter().copied().find(|(other, _)| *other != oracle);
    let situation = Situation { case, ours, third };
    let fits = |rule: &&Whole| {
        rule.oracle == oracle
            && (rule.families.is_empty() || rule.families.contains(&family))
            && (rule.titles.is_empty() || rule.titles.iter().any(|title| case.title.contains(title)))
            && (rule.holds)(&situation)
    };
    WHOLES.iter().find(fits).map(|rule| rule.reason)
}

/// The first of the reasons that together explain all dwords that differ.
fn words(case: &Case, oracle: Oracle, ours: &Outcome, theirs: &Outcome) -> Option<&'static str> {
    let same_end = std::mem::discriminant(ours) == std::mem::discriminant(theirs);
    if !same_end {
        return None;
    }
    let mut first = None;
    for difference in differences(case, ours, theirs) {
        let rule = WORDS.iter().find(|rule| rule.oracle == oracle && (rule.holds)(&difference))?;
        first.get_or_insert(rule.reason);
    }
    first
}

fn differences<'a>(case: &'a Case, ours: &Outcome, theirs: &Outcome) -> Vec<Difference<'a>> {
    let vector = ours.vector().unwrap_or(0xff);
    let at =
        |outcome: &Outcome, offset: u16| outcome.words().and_then(|w| w.get(&offset)).copied().unwrap_or(0);
    let mut offsets: Vec<_> =
        [ours, theirs].iter().filter_map(|o| o.words()).flat_map(|w| w.keys().copied()).collect();
    offsets.sort_unstable();
    offsets.dedup();
    offsets
        .into_iter()
        .map(|offset| Difference {
            title: &case.title,
            vector,
            offset,
            ours: at(ours, offset),
            theirs: at(theirs, offset),
        })
        .filter(|d| d.ours != d.theirs)
        .collect()
}
