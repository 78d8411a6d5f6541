//! How much time compiled code may cost the worker that runs the guest.

/// Two pictures at 60 Hz are so far apart.
const WINDOW_NS: u64 = 16_000_000;

/// So much of a window may go into compiling and installing before the rest waits for the next one. What is begun is
/// finished, so that a window may see this and one module more.
const SHARE_NS: u64 = 4_000_000;

/// What was spent lately.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    since: u64,
    spent: u64,
}

impl Pace {
    /// Whether more may be begun at `now`.
    pub fn allows(&mut self, now: u64) -> bool {
        if now.saturating_sub(self.since) >= WINDOW_NS {
            *self = Self { since: now, spent: 0 };
        }
        self.spent < SHARE_NS
    }

    /// Something took `ns`.
    pub fn spend(&mut self, ns: u64) {
        self.spent += ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_that_is_used_up_comes_back_with_the_next_window() {
        let mut pace = Pace::default();
        let start = 5 * WINDOW_NS;
        assert!(pace.allows(start));
        pace.spend(SHARE_NS - 1);
        assert!(pace.allows(start + 1));
        pace.spend(1);
        assert!(!pace.allows(start + WINDOW_NS - 1));
        assert!(pace.allows(start + WINDOW_NS));
    }
}
