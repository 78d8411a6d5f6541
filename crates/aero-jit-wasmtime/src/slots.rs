//! Which entries of the function table are free.

use std::collections::BTreeMap;

/// Free runs: where each begins and how long it is. No two touch.
pub struct Slots(BTreeMap<u32, u32>);

impl Slots {
    /// All of `count` slots are free.
    pub fn new(count: u32) -> Self {
        Self(BTreeMap::from([(0, count)]))
    }

    /// Takes `count` slots in a row.
    pub fn take(&mut self, count: u32) -> Option<u32> {
        let (first, len) = self.0.iter().map(|(first, len)| (*first, *len)).find(|(_, len)| *len >= count)?;
        self.0.remove(&first);
        if len > count {
            self.0.insert(first + count, len - count);
        }
        Some(first)
    }

    /// Gives back slots that were taken.
    pub fn give(&mut self, first: u32, count: u32) {
        let (mut first, mut count) = (first, count);
        if let Some((before, len)) = self.0.range(..first).next_back().map(|(at, len)| (*at, *len))
            && before + len == first
        {
            self.0.remove(&before);
            (first, count) = (before, count + len);
        }
        if let Some(len) = self.0.remove(&(first + count)) {
            count += len;
        }
        if count > 0 {
            self.0.insert(first, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_given_back_join_their_neighbours() {
        let mut slots = Slots::new(10);
        let [a, b, c] = [3, 4, 3].map(|count| slots.take(count).expect("room"));
        assert_eq!((a, b, c, slots.take(1)), (0, 3, 7, None));
        slots.give(a, 3);
        slots.give(c, 3);
        assert_eq!(slots.take(4), None);
        slots.give(b, 4);
        assert_eq!(slots.take(10), Some(0));
    }

    #[test]
    fn first_run_that_is_long_enough_is_taken() {
        let mut slots = Slots::new(8);
        let [a, _, c] = [2, 1, 4].map(|count| slots.take(count).expect("room"));
        slots.give(a, 2);
        slots.give(c, 4);
        assert_eq!((slots.take(3), slots.take(1), slots.take(1)), (Some(3), Some(0), Some(1)));
    }
}
