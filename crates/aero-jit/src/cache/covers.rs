//! Blocks that a region has besides its head.
//!
//! Such a block is a head of its own only if it stays hot when that region is there: then it is reached from elsewhere.

use super::store::{Place, State, Store};
use rustc_hash::FxHashMap;

/// Times that a block is named as hot while a region that has it lives before it gets its own.
const MAX_ASKED: u32 = 16;

/// Blocks that are remembered.
const MAX_COVERED: usize = 1 << 17;

/// A region that has a block.
struct Cover {
    head: Place,
    asked: u32,
}

/// Which blocks regions have, by place. Regions that are gone are noticed when somebody asks.
#[derive(Default)]
pub struct Covers {
    by_place: FxHashMap<Place, Cover>,
}

impl Covers {
    /// The region with this head will have these blocks.
    pub fn note(&mut self, head: Place, blocks: impl IntoIterator<Item = Place>) {
        if self.by_place.len() >= MAX_COVERED {
            self.by_place.clear();
        }
        for block in blocks {
            self.by_place.entry(block).or_insert(Cover { head, asked: 0 });
        }
    }

    /// Whether a hot block had better wait for another's region, or for what becomes of it now that that is there.
    pub fn may_wait(&mut self, block: Place, store: &mut Store) -> bool {
        let Some(cover) = self.by_place.get_mut(&block) else { return false };
        let waits = match store.state(cover.head) {
            Some(State::Waiting) => true,
            Some(State::Ready(_)) => {
                cover.asked += 1;
                cover.asked < MAX_ASKED
            }
            _ => false,
        };
        if !waits {
            self.by_place.remove(&block);
        }
        waits
    }
}
