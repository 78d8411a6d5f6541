//! Which slots of the function table are whose.

use std::ops::Range;

/// The table grows by so many slots or more: growing copies it.
const CHUNK: u32 = 1024;

/// Free slots as runs, sorted by place, no two of them touching.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    free: Vec<Range<u32>>,
}

impl Slots {
    /// The first of `count` slots in a row. `grow` makes the table larger by as many slots as it is told, and returns the
    /// first new one.
    pub fn take(&mut self, count: u32, grow: impl FnOnce(u32) -> Option<u32>) -> Option<u32> {
        if let Some(first) = self.take_free(count) {
            return Some(first);
        }
        let more = count.max(CHUNK);
        let first = grow(more)?;
        self.put(first, more);
        self.take_free(count)
    }

    fn take_free(&mut self, count: u32) -> Option<u32> {
        let at = self.free.iter().position(|run| run.len() >= count as usize)?;
        let run = &mut self.free[at];
        let first = run.start;
        run.start += count;
        if run.start == run.end {
            self.free.remove(at);
        }
        Some(first)
    }

    /// Gives slots back.
    pub fn put(&mut self, first: u32, count: u32) {
        if count == 0 {
            return;
        }
        let at = self.free.partition_point(|run| run.start < first);
        self.free.insert(at, first..first + count);
        self.join(at);
        if at > 0 {
            self.join(at - 1);
        }
    }

    /// Makes one of a run and the next if they touch.
    fn join(&mut self, at: usize) {
        if self.free.get(at + 1).is_some_and(|next| next.start == self.free[at].end) {
            self.free[at].end = self.free.remove(at + 1).end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grow_at(first: u32) -> impl FnOnce(u32) -> Option<u32> {
        move |_| Some(first)
    }

    fn full(_: u32) -> Option<u32> {
        None
    }

    #[test]
    fn slots_come_from_what_the_table_grew_by() {
        let mut slots = Slots::default();
        assert_eq!(slots.take(3, grow_at(100)), Some(100));
        assert_eq!(slots.take(5, full), Some(103));
        assert_eq!(slots.take(CHUNK - 8, full), Some(108));
        assert_eq!(slots.take(1, full), None);
    }

    #[test]
    fn more_than_a_chunk_grows_the_table_by_as_much() {
        let mut slots = Slots::default();
        let mut asked = 0;
        let first = slots.take(CHUNK + 1, |count| {
            asked = count;
            Some(7)
        });
        assert_eq!((first, asked), (Some(7), CHUNK + 1));
    }

    #[test]
    fn neighbours_given_back_in_any_order_are_one_run_again() {
        let mut slots = Slots::default();
        let taken: Vec<_> = (0..3).map(|_| slots.take(10, grow_at(1)).expect("a chunk")).collect();
        for at in [0, 2, 1] {
            slots.put(taken[at], 10);
        }
        assert_eq!(slots.free.len(), 1);
        assert_eq!(slots.take(CHUNK, full), Some(1));
    }

    #[test]
    fn run_that_is_too_short_is_left_for_later() {
        let mut slots = Slots::default();
        let first = slots.take(2, grow_at(1)).expect("a chunk");
        assert_eq!(slots.take(1, full), Some(3));
        slots.put(first, 2);
        assert_eq!(slots.take(4, full), Some(4));
        assert_eq!(slots.take(2, full), Some(first));
    }
}
