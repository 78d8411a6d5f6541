//! Pages whose code keeps changing.
//!
//! Compiling pays only when the code runs many times as it is. So a page whose regions have to be dropped again and
//! again is given up: its code is interpreted for some millions of instructions, then for twice as many. What happened
//! long ago weighs less and less.

use rustc_hash::FxHashMap;

/// Changes, within about [`WINDOW`], that are too many.
const TOO_MANY: u32 = 8;

/// Instructions after which what happened weighs half.
const WINDOW: u64 = 32 << 20;

/// Instructions for which a page is given up at first.
const FIRST_BAN: u64 = 8 << 20;

/// The most that this doubles.
const MAX_DOUBLINGS: u32 = 6;

/// Pages beyond which the account begins anew.
const MAX_PAGES: usize = 4096;

/// What is remembered of changes, by the page's arena offset.
#[derive(Default)]
pub struct Churn {
    pages: FxHashMap<u32, Page>,
}

#[derive(Clone, Copy, Default)]
struct Page {
    changes: u32,
    last: u64,
    bans: u32,
    until: u64,
}

impl Churn {
    /// Code of `page` has changed after `now` retired instructions. Whether that is the once too often.
    pub fn changed(&mut self, page: u32, now: u64) -> bool {
        if self.pages.len() >= MAX_PAGES {
            self.pages.clear();
        }
        let page = self.pages.entry(page).or_default();
        let halvings = (now.wrapping_sub(page.last) / WINDOW).min(31) as u32;
        page.changes = (page.changes >> halvings) + 1;
        page.bans = page.bans.saturating_sub(halvings >> 3);
        page.last = now;
        if page.changes <= TOO_MANY {
            return false;
        }
        page.changes = TOO_MANY / 2;
        page.until = now.wrapping_add(FIRST_BAN << page.bans.min(MAX_DOUBLINGS));
        page.bans += 1;
        true
    }

    /// Whether code of `page` is left to the interpreter.
    pub fn is_given_up(&self, page: u32, now: u64) -> bool {
        self.pages.get(&page).is_some_and(|page| (page.until.wrapping_sub(now) as i64) > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_that_keeps_changing_is_given_up_for_longer_each_time() {
        let mut churn = Churn::default();
        assert!((0..u64::from(TOO_MANY)).all(|n| !churn.changed(7, n)));
        assert!(!churn.is_given_up(7, 8));
        assert!(churn.changed(7, 8));
        assert!(churn.is_given_up(7, 8 + FIRST_BAN - 1) && !churn.is_given_up(7, 8 + FIRST_BAN));
        assert!(!churn.is_given_up(6, 9));
        let again = 8 + FIRST_BAN;
        let n = (0..).take_while(|_| !churn.changed(7, again)).count();
        assert_eq!(n, TOO_MANY as usize / 2);
        assert!(churn.is_given_up(7, again + 2 * FIRST_BAN - 1));
    }

    #[test]
    fn rare_changes_are_forgotten() {
        let mut churn = Churn::default();
        assert!((0..1000).all(|n| !churn.changed(7, n * WINDOW)));
    }
}
