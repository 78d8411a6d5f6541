//! Regions as text, for tests and for looking at them.
//!
//! ```text
//! region i64
//! interpreted +9
//! b0 +0 retires 2:
//!   at +0 done 0
//!   v1 = get rax
//!   v2 = load4u.i64 v1
//!   set rcx, v2
//!   at +3 done 1
//!   v5 = eqz.i64 v2
//!   branch v5, b0, b1
//! ```
//!
//! An instruction a line. The number in a value's name is its instruction's place in the block; the parser takes any
//! names, each from its definition on. Commas and brackets are for the reader: the parser sees words. A semicolon begins
//! a comment.

mod names;
mod parse;
mod print;

pub use names::{var_name, var_named};
pub use parse::{ParseError, parse};

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::random::Random;
    use core::mem::discriminant;
    use std::collections::HashSet;

    #[test]
    fn printed_region_parses_to_itself() {
        for seed in 0..3000 {
            let region = Random::new(seed).region();
            let text = region.to_string();
            let again = parse(&text).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{text}"));
            assert_eq!(again, region, "seed {seed}:\n{text}");
            assert_eq!(again.to_string(), text);
        }
    }

    #[test]
    fn random_regions_have_every_instruction() {
        let regions: Vec<_> = (0..500).map(|seed| Random::new(seed).region()).collect();
        let blocks = || regions.iter().flat_map(|r| &r.blocks);
        let kinds: HashSet<_> = blocks().flat_map(|b| &b.insts).map(discriminant).collect();
        let ends: HashSet<_> = blocks().map(|b| discriminant(&b.end)).collect();
        assert_eq!((kinds.len(), ends.len()), (27, 6));
    }

    #[test]
    fn names_are_free_and_brackets_do_not_matter() {
        let text = "region i32\nb0 +0 retires 0:\n here = rip -4 ; a comment\n\n there = add here (here)\n leave there";
        let region = parse(text).unwrap();
        assert_eq!(
            region.to_string(),
            "region i32\nb0 +0 retires 0:\n  v0 = rip -4\n  v1 = add.i32 v0, v0\n  leave v1\n"
        );
    }

    #[test]
    fn errors_name_the_line() {
        let wrong =
            |body: &str| parse(&format!("region i64\nb0 +0 retires 0:\n{body}")).unwrap_err().to_string();
        assert_eq!(wrong(" set rax, v1"), "line 3: v1 has not been made in this block");
        assert_eq!(wrong(" v0 = frob v1"), "line 3: no instruction is called frob");
        assert_eq!(wrong(" v0 = rip +0\n v1 = add.i32 v0, v0"), "line 4: v0 is i64, not i32");
        assert_eq!(wrong(" v0 = const.i32 0x100000000"), "line 3: 4294967296 is no i32");
        assert_eq!(wrong(" interpret +0 +1"), "line 3: +1 is too much");
        assert_eq!(wrong(" nop"), "line 3: the last block has no end");
        assert_eq!(parse("nop").unwrap_err().to_string(), "line 1: no line \"region\" yet");
    }
}
