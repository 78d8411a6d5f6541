//! Requests under way, by the ids that a drive hands back.
//!
//! A controller's entry for a request lives in a slot that is used again, so that what it owns (lists of memory
//! stretches) is not allocated anew. An id is a slot and the slot's generation: the end of a request that was
//! abandoned by a reset meets a newer generation and finds nothing.

use aero_bus::block::RequestId;

/// Bits of an id that are the slot.
const SLOT_BITS: u32 = 14;
/// How many requests can be under way at once.
pub(crate) const MOST: usize = 1 << SLOT_BITS;

#[derive(Default)]
struct Slot<T> {
    generation: u32,
    busy: bool,
    entry: T,
}

/// Entries of type `T` under way.
#[derive(Default)]
pub(crate) struct InFlight<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u16>,
}

impl<T: Default> InFlight<T> {
    /// A slot for a new request, with whatever its last user left in the entry; `None` when [`MOST`] are under way.
    pub(crate) fn claim(&mut self) -> Option<(RequestId, &mut T)> {
        let n = match self.free.pop() {
            Some(n) => n,
            None if self.slots.len() < MOST => {
                self.slots.push(Slot::default());
                (self.slots.len() - 1) as u16
            }
            None => return None,
        };
        let slot = &mut self.slots[usize::from(n)];
        slot.busy = true;
        Some((RequestId(slot.generation << SLOT_BITS | u32::from(n)), &mut slot.entry))
    }

    /// The entry of a request that is under way.
    pub(crate) fn get(&mut self, id: RequestId) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.0 as usize % MOST)?;
        (slot.busy && slot.generation == id.0 >> SLOT_BITS).then_some(&mut slot.entry)
    }

    /// Ends a request: its id means nothing any more.
    pub(crate) fn release(&mut self, id: RequestId) {
        let n = id.0 as usize % MOST;
        if let Some(slot) = self.slots.get_mut(n).filter(|s| s.busy) {
            slot.busy = false;
            slot.generation = (slot.generation + 1) % (1 << (32 - SLOT_BITS));
            self.free.push(n as u16);
        }
    }

    /// Ends every request for which `gone` says so.
    pub(crate) fn release_if(&mut self, mut gone: impl FnMut(&T) -> bool) {
        for n in 0..self.slots.len() {
            let slot = &self.slots[n];
            if slot.busy && gone(&slot.entry) {
                self.release(RequestId(n as u32));
            }
        }
    }

    /// How many are under way.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_of_an_ended_request_finds_nothing_though_its_slot_is_used_again() {
        let mut under_way = InFlight::<u32>::default();
        let (first, entry) = under_way.claim().unwrap();
        *entry = 7;
        under_way.release(first);
        let (second, entry) = under_way.claim().unwrap();
        assert_eq!(*entry, 7, "left by the first");
        assert_eq!(under_way.get(first), None);
        assert_eq!(under_way.len(), 1);
        assert_eq!(under_way.get(second), Some(&mut 7));
        under_way.release_if(|n| *n == 7);
        assert_eq!(under_way.get(second), None);
        assert_eq!(under_way.len(), 0);
    }

    #[test]
    fn slots_are_limited() {
        let mut under_way = InFlight::<()>::default();
        assert!((0..MOST).all(|_| under_way.claim().is_some()));
        assert!(under_way.claim().is_none());
    }
}
