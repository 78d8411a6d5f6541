//! What the processor keeps beside compiled code.

use super::jumps::JumpTable;
use crate::bind::bind;
use crate::op::Op;
use crate::vcpu::{Mode, Stop};
use aero_x86::{Features, MAX_LEN, decode};

/// What the processor keeps beside compiled code: the jump table's bookkeeping, the instructions that regions have
/// interpreted, by function slot, and how compiled code last ended.
pub struct Regions {
    pub(crate) jumps: JumpTable,
    pub(crate) ops: Vec<Box<[Op]>>,
    /// How the interpreted instruction ended that ended a region.
    pub(crate) ended: Result<(), Stop>,
    /// What the jump table was right for when compiled code was entered.
    pub(crate) key: u64,
}

impl Default for Regions {
    fn default() -> Self {
        Self { jumps: JumpTable::default(), ops: Vec::new(), ended: Ok(()), key: 0 }
    }
}

impl Regions {
    /// Notes the instructions that the region in `slot` numbers: the bytes that each begins with.
    pub(crate) fn bind(&mut self, slot: u32, code: &[[u8; MAX_LEN]], mode: Mode, features: Features) {
        let slot = slot as usize;
        if self.ops.len() <= slot {
            self.ops.resize_with(slot + 1, Box::default);
        }
        self.ops[slot] =
            code.iter().map(|bytes| bind(decode(bytes, mode.code, features), mode, 0).op).collect();
    }

    /// Forgets the instructions of a region that is given up.
    pub(crate) fn release(&mut self, slot: u32) {
        if let Some(ops) = self.ops.get_mut(slot as usize) {
            *ops = Box::default();
        }
    }

    /// Instruction `number` of the region in `slot`.
    pub(crate) fn op(&self, slot: u32, number: u32) -> Option<Op> {
        self.ops.get(slot as usize)?.get(number as usize).copied()
    }
}
