//! What is known of numbers from block to block.
//!
//! A loop that keeps numbers in registers would ask about them in every turn. So blocks are translated twice: the first
//! time says what each learns and what it asks of registers as they come; then the second time knows what holds on every
//! way to a block. A loop that the region begins with has no way to it but from outside, where nothing is known: what it
//! asks is asked once before it, in a block of its own, and so are the conditions that its instructions share.

use super::Translator;
use super::needs::{Check, Needs};
use super::number::Format;
use crate::ir::{Block, BlockId, End, Inst};

/// Facts about each XMM register: see [`Translator::numbers_known`].
pub type Known = [u8; 16];

/// What a block does to facts, if nothing is known before it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// What is known after it.
    pub known: Known,
    /// Which registers it changes.
    pub written: u16,
    /// What it asks of registers as they come.
    pub wanted: Known,
    /// The conditions that it checks.
    pub needs: u8,
}

/// How to translate the second time.
#[derive(Debug)]
pub struct Plan {
    /// What is known before each block.
    pub known: Vec<Known>,
    /// What is to be asked before the first block, which a loop comes back to.
    pub ahead: Option<Summary>,
}

/// What the blocks' summaries come to; `None` if there is nothing to gain.
pub fn plan(blocks: &[Block], summaries: &[Summary]) -> Option<Plan> {
    let asks = |s: &Summary| s.wanted != [0; 16];
    let loops = blocks.iter().any(|b| b.end.successors().any(|to| to == BlockId(0)));
    let first = summaries.first().filter(|s| loops && (asks(s) || s.needs != 0));
    if first.is_none() && !(blocks.len() > 1 && summaries.iter().any(asks)) {
        return None;
    }
    let entry = first.map_or([0; 16], |s| s.wanted);
    Some(Plan { known: before(blocks, summaries, entry), ahead: first.copied() })
}

fn before(blocks: &[Block], summaries: &[Summary], entry: Known) -> Vec<Known> {
    let mut known = vec![[u8::MAX; 16]; blocks.len()];
    let mut seen = vec![false; blocks.len()];
    known[0] = entry;
    let mut open = vec![0];
    while let Some(n) = open.pop() {
        seen[n] = true;
        let after = after(&blocks[n], &summaries[n], &known[n]);
        for to in blocks[n].end.successors().map(|to| to.0 as usize).filter(|to| *to < blocks.len()) {
            let met = core::array::from_fn(|r| known[to][r] & after[r]);
            if met != known[to] || !seen[to] {
                known[to] = met;
                open.push(to);
            }
        }
    }
    // What cannot be reached is not worth a thought.
    known.iter().zip(seen).map(|(k, seen)| if seen { *k } else { [0; 16] }).collect()
}

fn after(block: &Block, summary: &Summary, before: &Known) -> Known {
    if matches!(block.end, End::Call { .. }) {
        return [0; 16];
    }
    core::array::from_fn(|r| {
        let kept = if summary.written >> r & 1 != 0 { 0 } else { before[r] };
        summary.known[r] | kept
    })
}

impl Translator<'_> {
    /// Notes that the block asks whether a register holds numbers, if it still holds what it came with.
    pub(super) fn want(&mut self, reg: Option<u8>, facts: u8) {
        if let Some(n) = reg.filter(|n| self.summary.written >> n & 1 == 0) {
            self.summary.wanted[usize::from(n)] |= facts;
        }
    }

    /// The block that asks what the first block would, and its checks.
    pub fn ahead(&mut self, asks: &Summary) -> (Block, Vec<Check>) {
        self.begin([0; 16]);
        self.at = 0;
        self.emit(Inst::At { offset: 0, done: 0 });
        for what in [Needs::Sse, Needs::Native] {
            if asks.needs & what as u8 != 0 {
                self.needs(what);
            }
        }
        for (n, facts) in (0u8..16).zip(asks.wanted).filter(|(_, facts)| *facts != 0) {
            let vector = self.xmm(n);
            for (f, bits) in [(Format::F32, facts & 3), (Format::F64, facts >> 2 & 3)] {
                match bits {
                    0 => {}
                    1 => self.guard_operand(f, Some(n), vector),
                    _ => self.guard_operands(f, Some(n), vector),
                }
            }
        }
        let insts = core::mem::take(&mut self.insts);
        let block = Block { offset: 0, insts, end: End::Jump(BlockId(1)), retires: 0 };
        (block, core::mem::take(&mut self.checks))
    }
}
