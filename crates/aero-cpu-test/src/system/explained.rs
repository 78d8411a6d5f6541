//! Differences that are the oracles', each with what the manual says.
//!
//! A [`Word`] rule explains one dword of the window that differs and nothing else; a [`Whole`] rule explains that an
//! oracle took another way altogether. Section numbers are those of the Intel SDM, volume 3 where none is given.

use super::case::{Case, Env, flag};
use super::engines::Oracle;
use super::layout::{at, record};
use super::outcome::Outcome;
use aero_cpu::debug::dr6::{BD, BS};

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
    oracle: Oracle,
    ours: &'a Outcome,
    theirs: &'a Outcome,
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

    /// Whether both ended alike, and every dword that differs is one of these or has a word rule.
    fn only(&self, expected: fn(&Difference<'_>) -> bool) -> bool {
        let known = |d: &Difference<'_>| expected(d) || rule_of(self.oracle, d).is_some();
        same_end(self.ours, self.theirs) && differences(self.case, self.ours, self.theirs).iter().all(known)
    }

    /// Whether Aero came to #GP and the oracle to something else.
    fn only_aero_protects(&self) -> bool {
        self.ours.vector() == Some(13) && self.theirs.vector() != Some(13)
    }

    /// The number in hexadecimal digits that follows `what` in the title.
    fn number(&self, what: &str) -> Option<u64> {
        self.case.title.split_once(what).and_then(|(_, rest)| hexadecimal(rest))
    }

    /// As [`Situation::number`], where the title says `what` more than once: of a return after the descriptors it uses.
    fn last_number(&self, what: &str) -> Option<u64> {
        self.case.title.rsplit_once(what).and_then(|(_, rest)| hexadecimal(rest))
    }

    /// Whether a far return of the case goes to the CPL it comes from.
    fn keeps_level(&self, how: &str) -> bool {
        let target = self.case.title.split_once(how).and_then(|(_, rest)| rest.split_once(" to "));
        let rpl = target.and_then(|(_, selector)| hexadecimal(selector)).map(|selector| selector & 3);
        rpl.is_some() && rpl == self.number("CPL ")
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
const ZF: u32 = 1 << 6;

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
    word(
        Oracle::Qemu,
        "entries that point to directories under PAE have no accessed bit (4.4); TCG sets it",
        |d| {
            let pointers = (at::POINTERS..at::POINTERS + 32).contains(&d.offset);
            pointers && d.theirs & 0xfff == 0x21 && (d.ours == 0 || d.theirs == d.ours | 0x20)
        },
    ),
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
        pops && d.title.contains("IOPL") && matches!(d.vector, 8 | 13) && is_page_entry(d)
    }),
    word(
        Oracle::Bochs,
        "general detect is a fault, so RF is pushed set (17.2.4, 17.3.1.1); Bochs has it clear",
        |d| d.title.contains("CPL 0") && d.vector == 1 && is_stack(d) && d.ours == d.theirs | RF,
    ),
    word(
        Oracle::Bochs,
        "general detect comes before the instruction, single step after it (17.2.3, 17.3.1); Bochs tells of both",
        |d| d.offset == record::DR6 && d.theirs == d.ours | BS as u32 && d.ours & BD as u32 != 0,
    ),
    word(Oracle::Bochs, "a load that a later check undoes may leave the accessed bit set (3.4.5.1)", |d| {
        is_descriptor(d) && d.vector == 13 && d.ours == d.theirs | ACCESSED
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
            let calls = ["call rbx", ", call "].iter().any(|how| d.title.contains(how));
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

const EAX: u16 = record::GPR;
const ECX: u16 = record::GPR + 8;
const EDX: u16 = record::GPR + 16;

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

/// A segment descriptor.
fn is_descriptor(d: &Difference<'_>) -> bool {
    (at::GDT..at::TSS).contains(&d.offset)
}

/// The flags in the record.
fn is_flags(d: &Difference<'_>) -> bool {
    d.offset == record::FLAGS
}

/// DR7, in which the oracle has left general detect on.
fn is_detect(d: &Difference<'_>) -> bool {
    d.offset == record::DR7 && d.theirs == d.ours | aero_cpu::debug::dr7::GD as u32
}

/// Where the stub of the vector has pushed the upper half of EAX, on its way to the record: a word aligned or not.
fn is_pushed_eax(d: &Difference<'_>) -> bool {
    let bits = d.ours ^ d.theirs;
    is_stack(d) && (bits & 0xffff == 0 || bits & 0xffff_0000 == 0)
}

/// A general register in the record.
fn is_general(d: &Difference<'_>) -> bool {
    (record::GPR..record::SEGMENTS).contains(&d.offset)
}

/// What TCG leaves out, where Bochs and Aero agree that it matters.
const fn loose(families: &'static [&'static str], reason: &'static str) -> Whole {
    Whole { oracle: Oracle::Qemu, families, titles: &[], reason, holds: |s| s.third_agrees() }
}

/// WRMSR of a value whose upper half is not zero.
const fn upper_half(oracle: Oracle, reason: &'static str) -> Whole {
    Whole {
        oracle,
        families: &["control"],
        titles: &["wrmsr c0000084, ", "wrmsr c0000103, "],
        reason,
        holds: |s| s.only_aero_protects() && s.number(", ").is_some_and(|high| high != 0),
    }
}

/// RDMSR of IA32_SYSENTER_CS differs above the selector.
const fn sysenter_cs(oracle: Oracle, reason: &'static str) -> Whole {
    Whole {
        oracle,
        families: &["control"],
        titles: &["wrmsr 174, "],
        reason,
        holds: |s| {
            s.only(|d| {
                d.offset == EDX || d.offset == EAX && (d.ours ^ d.theirs) & 0xffff == 0 || is_pushed_eax(d)
            })
        },
    }
}

/// The null SS of a return to 64-bit code has another RPL than that code.
const fn null_stack(oracle: Oracle, reason: &'static str) -> Whole {
    Whole {
        oracle,
        families: &["long"],
        titles: &["iret of ", "retf "],
        reason,
        holds: |s| {
            let rpl = s.number(" to ").map(|code| code & 3);
            let stack = s.last_number(" stack ");
            s.only_aero_protects()
                && matches!(rpl, Some(0..=2))
                && stack.is_some_and(|ss| ss < 4)
                && stack != rpl
        },
    }
}

const WHOLES: &[Whole] = &[
    Whole {
        oracle: Oracle::Bochs,
        families: &["long"],
        titles: &["compatible false: "],
        reason: "IRET of 32 and 16 bits in 64-bit mode pops RSP too (vol. 2A); Bochs does so with 64 only",
        holds: |s| s.keeps_level("iret of 4") || s.keeps_level("iret of 2"),
    },
    upper_half(
        Oracle::Bochs,
        "the upper halves of IA32_FMASK and IA32_TSC_AUX are reserved (vol. 4): #GP; Bochs drops them",
    ),
    upper_half(
        Oracle::Qemu,
        "the upper halves of IA32_FMASK and IA32_TSC_AUX are reserved (vol. 4): #GP; TCG keeps them",
    ),
    sysenter_cs(
        Oracle::Bochs,
        "the bits of IA32_SYSENTER_CS beside the selector are not used but kept (vol. 4); Bochs drops some",
    ),
    sysenter_cs(
        Oracle::Qemu,
        "the bits of IA32_SYSENTER_CS beside the selector are not used but kept (vol. 4); TCG drops them",
    ),
    null_stack(
        Oracle::Bochs,
        "the RPL of a null SS must be that of the code gone back to (vol. 2A, IRET): #GP(0); Bochs lets it pass",
    ),
    null_stack(
        Oracle::Qemu,
        "the RPL of a null SS must be that of the code gone back to (vol. 2A, IRET): #GP(0); TCG lets it pass",
    ),
    Whole {
        oracle: Oracle::Bochs,
        families: &["long"],
        titles: &[", interrupt "],
        reason: "a gate's RIP that is not canonical faults before anything is pushed (vol. 2A); Bochs pushes first",
        holds: |s| {
            // What Bochs pushes may fault in its turn.
            let pushed = matches!(s.theirs.vector(), None | Some(12 | 14));
            !gate_is_canonical(&s.case.title)
                && matches!(s.ours.vector(), Some(8 | 13))
                && (pushed || s.only(|d| is_stack(d) || is_page_entry(d)))
        },
    },
    Whole {
        oracle: Oracle::Qemu,
        families: &["long"],
        titles: &[", interrupt "],
        reason: "a gate's RIP that is not canonical faults before anything is pushed (vol. 2A); TCG pushes first",
        holds: |s| matches!(s.ours.vector(), Some(8 | 13)) && !gate_is_canonical(&s.case.title),
    },
    Whole {
        oracle: Oracle::Qemu,
        families: &["debug"],
        titles: &["icebp"],
        reason: "TCG does not know INT1 (vol. 2A)",
        holds: |s| s.ours.vector() == Some(1) && s.theirs.vector() == Some(6),
    },
    Whole {
        oracle: Oracle::Qemu,
        families: &["debug"],
        titles: &["icebp"],
        reason: "TCG does not clear GD on the way to #DB (17.2.4), nor raise it for reads",
        holds: |s| detects(&s.case.title) && s.only(is_detect),
    },
    Whole {
        oracle: Oracle::Qemu,
        families: &["long"],
        titles: &["iret of 4"],
        reason: "IRET leaves VM alone in long mode (vol. 2A); TCG goes to VM86 mode",
        holds: |s| s.last_number(" flags ").is_some_and(|flags| flags & u64::from(flag::VM) != 0),
    },
    Whole {
        oracle: Oracle::Qemu,
        families: &["long"],
        titles: &["compatible false: "],
        reason: "TCG's IRET takes a null SS for 32-bit code and sets no accessed bits (vol. 2A)",
        holds: |s| {
            let null = s.only_aero_protects() && s.last_number(" stack ").is_some_and(|ss| ss < 4);
            let bits = |d: &Difference<'_>| {
                is_stack(d) || is_flags(d) || is_descriptor(d) && d.ours == d.theirs | ACCESSED
            };
            (s.keeps_level("iret of 4") || s.keeps_level("iret of 2")) && (null || s.only(bits))
        },
    },
    Whole {
        oracle: Oracle::Bochs,
        families: &["debug"],
        titles: &["icebp"],
        reason: "every #DB clears GD on its way (17.2.4); Bochs leaves it set on INT1",
        // So the stub of the vector is stopped where it reads DR7.
        holds: |s| {
            let stopped = s.theirs.vector() == Some(1) && u64::from(s.theirs.record(record::DR6)) & BD != 0;
            s.ours.vector() == Some(1) && detects(&s.case.title) && stopped
        },
    },
    Whole {
        oracle: Oracle::Bochs,
        families: &["query"],
        titles: &["lar ecx, ax 0x3f", "lar cx, ax 0x3f", "lsl ecx, ax 0x3f", "lsl cx, ax 0x3f"],
        reason: "LAR and LSL use 8 bytes of a system descriptor (vol. 2A); Bochs wants all 16 inside the table",
        holds: |s| {
            s.case.env == Env::Long
                && s.only(|d| d.offset == ECX || is_stack(d) && d.ours == d.theirs | ZF || is_flags(d))
        },
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
    let situation = Situation { case, oracle, ours, theirs, third };
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
    if !same_end(ours, theirs) {
        return None;
    }
    let mut first = None;
    for difference in differences(case, ours, theirs) {
        first.get_or_insert(rule_of(oracle, &difference)?.reason);
    }
    first
}

fn rule_of(oracle: Oracle, difference: &Difference<'_>) -> Option<&'static Word> {
    WORDS.iter().find(|rule| rule.oracle == oracle && (rule.holds)(difference))
}

fn same_end(ours: &Outcome, theirs: &Outcome) -> bool {
    std::mem::discriminant(ours) == std::mem::discriminant(theirs)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::outcome::Words;

    fn done(vector: u32, words: &[(u16, u32)]) -> Outcome {
        let vector = (record::VECTOR, vector);
        Outcome::Done(Words::from_iter([vector].into_iter().chain(words.iter().copied())))
    }

    /// Whether a difference of Bochs is explained.
    fn explains(family: &str, env: Env, title: &str, ours: &Outcome, theirs: &Outcome) -> bool {
        let case = Case::new(env, title);
        reason(family, &case, Oracle::Bochs, ours, &[(Oracle::Bochs, theirs)]).is_some()
    }

    #[test]
    fn reserved_half_of_an_msr_explains_a_fault_only_if_it_is_written() {
        let (fault, fine) = (done(13, &[]), done(3, &[]));
        let holds = |title, ours, theirs| explains("control", Env::Flat, title, ours, theirs);
        assert!(holds("Flat wrmsr c0000084, 7fff:1", &fault, &fine));
        assert!(!holds("Flat wrmsr c0000084, 0:1", &fault, &fine));
        assert!(!holds("Flat wrmsr c0000084, 7fff:1", &fine, &fault));
        assert!(!holds("Flat wrmsr c0000082, 7fff:1", &fault, &fine));
    }

    #[test]
    fn selector_in_sysenter_cs_may_not_differ() {
        let holds =
            |ours, theirs| explains("control", Env::Flat, "Flat wrmsr 174, 0:12345678", &ours, &theirs);
        assert!(holds(done(3, &[(EAX, 0x1234_5678)]), done(3, &[(EAX, 0x5678)])));
        assert!(!holds(done(3, &[(EAX, 0x1234_5678)]), done(3, &[(EAX, 0x1234_0000)])));
        assert!(!holds(done(3, &[(ECX, 0x174)]), done(3, &[])));
    }

    #[test]
    fn null_stack_is_explained_with_the_wrong_rpl_only() {
        let (fault, fine) = (done(13, &[]), done(3, &[]));
        let holds = |code: &str, stack: &str| {
            let title =
                format!("CPL 0 compatible true: , iret of 2 to {code}:b000 flags 2 stack {stack}:9800");
            explains("long", Env::Long, &title, &fault, &fine)
        };
        assert!(holds("21", "0"));
        assert!(holds("20", "3"));
        assert!(!holds("21", "1"));
        assert!(!holds("23", "0"));
        assert!(!holds("21", "10"));
    }

    #[test]
    fn lar_at_the_end_of_the_table_is_explained_in_long_mode_and_for_its_result_only() {
        let (ours, theirs) = (done(3, &[(ECX, 0x8900)]), done(3, &[]));
        let title = "lar ecx, ax 0x3f8 at CPL 0: access 89";
        assert!(explains("query", Env::Long, title, &ours, &theirs));
        assert!(!explains("query", Env::Flat, title, &ours, &theirs));
        assert!(!explains("query", Env::Long, title, &done(3, &[(EDX, 1)]), &theirs));
        assert!(!explains("query", Env::Long, "lar ecx, ax 0x3e8 at CPL 0: access 89", &ours, &theirs));
    }

    #[test]
    fn iret_that_keeps_its_level_is_told_from_one_that_goes_out() {
        let (ours, theirs) = (done(13, &[]), done(3, &[]));
        let holds = |title| explains("long", Env::Long, title, &ours, &theirs);
        assert!(holds("CPL 0 compatible false: , iret of 4 to 20:1b000 flags 2 stack 10:19800"));
        assert!(!holds("CPL 0 compatible false: , iret of 4 to 5b:1b000 flags 2 stack 53:19800"));
        assert!(!holds("CPL 0 compatible false: , iret of 8 to 20:1b000 flags 2 stack 10:19800"));
        assert!(!holds("CPL 0 compatible true: , iret of 4 to 20:1b000 flags 2 stack 10:19800"));
    }
}
