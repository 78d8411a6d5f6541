//! Running the guest for a stretch of host time.

use aero_machine::{Exit, WallClock};

/// Guest instructions between two looks at the clock: some tenths of a millisecond at interpreter speed, so that a
/// 2 ms slice overshoots by little and the clock costs nothing.
const STEP: u64 = 20_000;

/// Calls `run` until `limit_ns` of host time have passed or the machine has something to say.
pub(crate) fn run_for(clock: &mut dyn WallClock, limit_ns: u64, mut run: impl FnMut(u64) -> Exit) -> Exit {
    let start = clock.now_ns();
    loop {
        let exit = run(STEP);
        let elapsed = clock.now_ns().saturating_sub(start);
        if !matches!(exit, Exit::Budget) || elapsed >= limit_ns {
            return exit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ticking(u64);

    impl WallClock for Ticking {
        fn now_ns(&mut self) -> u64 {
            self.0 += 100;
            self.0
        }
    }

    #[test]
    fn busy_guest_is_left_when_the_time_is_up() {
        let mut calls = 0;
        let exit = run_for(&mut Ticking(0), 500, |_| {
            calls += 1;
            Exit::Budget
        });
        assert!(matches!(exit, Exit::Budget));
        assert_eq!(calls, 5);
    }

    #[test]
    fn idle_guest_is_left_at_once() {
        let mut calls = 0;
        let exit = run_for(&mut Ticking(0), u64::MAX, |_| {
            calls += 1;
            Exit::Idle { until: None }
        });
        assert!(matches!(exit, Exit::Idle { until: None }));
        assert_eq!(calls, 1);
    }
}
