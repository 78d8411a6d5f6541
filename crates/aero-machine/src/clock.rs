//! Virtual time.
//!
//! Every clock of the machine derives from one counter of nanoseconds. Under [`ClockConfig::Icount`] it is a function of
//! the instructions retired plus the idle time skipped, and nothing of the host reaches the guest. Under
//! [`ClockConfig::Realtime`] it follows the host's clock, less the time spent paused.

use crate::config::ClockConfig;
use aero_bus::VmTime;

/// The host's clock.
pub trait WallClock {
    /// Nanoseconds since some fixed moment; never goes back.
    fn now_ns(&mut self) -> u64;
}

/// Under `Realtime`, so many instructions run between two looks at the host's clock, which bounds how late an
/// interrupt is taken (`architecture.md` §4: 10,000 instructions).
const REALTIME_SLICE: u64 = 10_000;

/// Under `Realtime`, the host's clock is asked anew after so many instructions: a guest that looks at the time again and
/// again would otherwise spend its own on asking.
const GUESSED: u64 = 512;

/// Nanoseconds that 1,024 instructions take at most, as far as guesses go.
const SLOWEST: u64 = 4096;

/// When the host's clock was asked last, and how fast instructions ran until then.
#[derive(Clone, Copy, Default)]
struct Pace {
    /// Instructions retired then.
    retired: u64,
    /// Virtual time then.
    ns: u64,
    /// Nanoseconds of 1,024 instructions.
    rate: u64,
    /// Instructions retired when the time was last wanted.
    wanted: u64,
}

/// The machine's clock.
pub(crate) struct Clock {
    config: ClockConfig,
    wall: Box<dyn WallClock>,
    /// Icount: virtual time that passed without instructions. Realtime: subtracted from the host's clock.
    offset: u64,
    paused_at: Option<u64>,
    last: VmTime,
    pace: Pace,
}

impl Clock {
    pub fn new(config: ClockConfig, mut wall: Box<dyn WallClock>) -> Self {
        let offset = match config {
            ClockConfig::Realtime => wall.now_ns(),
            ClockConfig::Icount { .. } => 0,
        };
        Self { config, wall, offset, paused_at: None, last: VmTime(0), pace: Pace::default() }
    }

    /// Time when `retired` instructions have retired.
    pub fn now(&mut self, retired: u64) -> VmTime {
        let now = match (self.config, self.paused_at) {
            (ClockConfig::Icount { mips }, _) => self.offset + scale(retired, mips),
            (ClockConfig::Realtime, Some(at)) => at,
            (ClockConfig::Realtime, None) => self.realtime(retired),
        };
        self.last = self.last.max(VmTime(now));
        self.last
    }

    /// The host's time, or between two instructions that are close to when it was asked, a guess at it. Time that passes
    /// without instructions is never guessed.
    fn realtime(&mut self, retired: u64) -> u64 {
        let Pace { retired: then, ns, rate, wanted } = self.pace;
        let run = retired.wrapping_sub(then);
        self.pace.wanted = retired;
        if (1..GUESSED).contains(&run) && retired != wanted {
            return ns + ((run * rate) >> 10);
        }
        let now = self.wall.now_ns().saturating_sub(self.offset);
        let rate = (now.saturating_sub(ns) << 10).checked_div(run).map_or(rate, |rate| rate.min(SLOWEST));
        self.pace = Pace { retired, ns: now, rate, wanted: retired };
        now
    }

    /// Whether idle time is jumped over.
    pub fn skips_idle_time(&self) -> bool {
        matches!(self.config, ClockConfig::Icount { .. })
    }

    /// Lets the idle time until `deadline` pass.
    pub fn skip_to(&mut self, retired: u64, deadline: VmTime) {
        let now = self.now(retired);
        self.offset += deadline.since(now);
    }

    /// How many instructions may run from `retired` on before the machine looks at the time again.
    pub fn instructions_until(&self, retired: u64, deadline: Option<VmTime>) -> u64 {
        match self.config {
            ClockConfig::Realtime => REALTIME_SLICE,
            ClockConfig::Icount { mips } => {
                let Some(deadline) = deadline else { return u64::MAX };
                let ns = deadline.0.saturating_sub(self.offset);
                let due = (u128::from(ns) * u128::from(mips)).div_ceil(1000);
                u64::try_from(due).unwrap_or(u64::MAX).saturating_sub(retired).max(1)
            }
        }
    }

    /// Stops the clock.
    pub fn pause(&mut self) {
        if self.paused_at.is_none() {
            self.paused_at = Some(self.wall.now_ns().saturating_sub(self.offset));
        }
    }

    /// Lets it go on from where it stopped.
    pub fn resume(&mut self) {
        if let Some(at) = self.paused_at.take()
            && self.config == ClockConfig::Realtime
        {
            self.offset = self.wall.now_ns().saturating_sub(at);
        }
    }
}

/// Nanoseconds that `retired` instructions take.
fn scale(retired: u64, mips: u32) -> u64 {
    (u128::from(retired) * 1000 / u128::from(mips)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stopped;
    impl WallClock for Stopped {
        fn now_ns(&mut self) -> u64 {
            7
        }
    }

    fn icount(mips: u32) -> Clock {
        Clock::new(ClockConfig::Icount { mips }, Box::new(Stopped))
    }

    #[test]
    fn deadline_is_reached_by_exactly_the_instructions_promised() {
        for (mips, retired, deadline) in
            [(100, 0, 1), (100, 0, 10), (3, 10, 5000), (1000, 999, 1001), (7, 0, 12345)]
        {
            let mut clock = icount(mips);
            let n = clock.instructions_until(retired, Some(VmTime(deadline)));
            assert!(clock.now(retired + n).0 >= deadline, "{mips} {deadline}");
            let mut clock = icount(mips);
            assert!(n == 1 || clock.now(retired + n - 1).0 < deadline, "{mips} {deadline}");
        }
    }

    #[test]
    fn skipped_time_passes_without_instructions() {
        let mut clock = icount(100);
        clock.skip_to(100, VmTime(5000));
        assert_eq!((clock.now(100), clock.now(200)), (VmTime(5000), VmTime(6000)));
    }

    #[test]
    fn time_between_instructions_close_together_is_guessed_and_never_goes_back() {
        struct Counted(std::rc::Rc<std::cell::Cell<u64>>);
        impl WallClock for Counted {
            fn now_ns(&mut self) -> u64 {
                self.0.set(self.0.get() + 1000);
                self.0.get()
            }
        }
        let asked = std::rc::Rc::new(std::cell::Cell::new(0));
        let mut clock = Clock::new(ClockConfig::Realtime, Box::new(Counted(asked.clone())));
        clock.now(1000);
        let before = asked.get();
        let times: Vec<_> = (1..500).map(|n| clock.now(1000 + n)).collect();
        assert_eq!(asked.get(), before, "nobody asked the host");
        assert!(times.is_sorted() && times[498].0 > times[0].0);
        clock.now(1499);
        assert_eq!(asked.get(), before + 1000, "time that passes without instructions is the host's");
        clock.now(5000);
        assert_eq!(asked.get(), before + 2000, "and after many instructions too");
    }

    #[test]
    fn time_stands_still_while_paused() {
        struct Running(u64);
        impl WallClock for Running {
            fn now_ns(&mut self) -> u64 {
                self.0 += 100;
                self.0
            }
        }
        let mut clock = Clock::new(ClockConfig::Realtime, Box::new(Running(0)));
        let before = clock.now(0);
        clock.pause();
        let paused = clock.now(0);
        assert_eq!(clock.now(0), paused);
        clock.resume();
        assert!(paused.since(before) <= 200 && clock.now(0).since(paused) <= 200);
    }
}
