//! Which values of a block are computed where they are used, and which wait in a local.
//!
//! WebAssembly computes on a stack, so a value that is used once needs no name: its instructions stand in the place of the
//! use. That moves them behind what lies between, which is right if nothing there changes what they read. One pass from the
//! block's end to its begin decides it: on the way to a value all its uses have been seen, and for every variable and for
//! memory the next change is known. Constants, addresses of code, and variables that do not change as long as they are
//! needed are written again at each use.

use crate::emit::vars;
use crate::ir::{Block, Inst, Region, Type, Value};
use crate::types;

/// Values inside of each other at most: deeper ones go through a local, since engines and we recurse over them.
const DEEPEST: u32 = 60;

/// What is known of a value, by number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// Its type.
    pub(super) ty: Type,
    /// Uses that are still to come.
    pub(super) uses: u32,
    /// Computed at its use.
    pub(super) inline: bool,
    /// The local where it waits otherwise.
    pub(super) local: u32,
    /// Where the last of its uses takes place.
    last: u32,
    depth: u32,
}

/// A block's values. Reused from block to block.
#[derive(Default)]
pub(super) struct Values {
    pub(super) known: Vec<Known>,
}

/// The next change of things on the way from a block's end to its begin: an instruction's number.
struct Changes {
    vars: [u32; vars::COUNT],
    state: u32,
    memory: u32,
}

impl Values {
    /// Looks at a block.
    pub(super) fn plan(&mut self, region: &Region, block: &Block) {
        let end = block.insts.len() as u32;
        self.known.clear();
        for inst in &block.insts {
            let known = &self.known;
            let ty = types::result(region.word, inst, |v| known.get(v.0 as usize).map(|known| known.ty));
            // What makes no value is never asked for its type.
            let ty = ty.unwrap_or(Type::I32);
            self.known.push(Known { ty, uses: 0, inline: false, local: 0, last: 0, depth: 0 });
        }
        let mut changes = Changes { vars: [end; vars::COUNT], state: end, memory: end };
        if let Some(value) = block.end.uses() {
            self.used(value, end, 0);
        }
        for (n, inst) in block.insts.iter().enumerate().rev() {
            self.place(n, inst, &mut changes);
        }
    }

    fn used(&mut self, value: Value, at: u32, depth: u32) {
        let known = &mut self.known[value.0 as usize];
        known.uses += 1;
        known.last = known.last.max(at);
        known.depth = known.depth.max(depth);
    }

    fn place(&mut self, n: usize, inst: &Inst, changes: &mut Changes) {
        let known = self.known[n];
        let pure = inst.is_pure();
        if pure && known.uses == 0 {
            return;
        }
        let inline = pure && may_move(inst, &known, changes);
        self.known[n].inline = inline;
        let (at, depth) = if inline { (known.last, known.depth + 1) } else { (n as u32, 1) };
        inst.uses().for_each(|value| self.used(value, at, depth));
        changes.note(n as u32, inst);
    }

    /// A value's type.
    pub(super) fn of(&self, value: Value) -> Type {
        self.known[value.0 as usize].ty
    }
}

impl Changes {
    fn note(&mut self, n: u32, inst: &Inst) {
        match inst {
            Inst::Set(var, _) => {
                if let Some(var) = vars::number(*var) {
                    self.vars[var] = n;
                }
            }
            Inst::SetState { .. } | Inst::Settle => self.state = n,
            Inst::X87 { .. } => (self.state, self.memory) = (n, n),
            // A page walk may set accessed bits, which are memory too.
            Inst::Load { .. } | Inst::Store { .. } | Inst::Place { .. } | Inst::Poke { .. } => {
                self.memory = n
            }
            Inst::Exec { .. } => *self = Self { vars: [n; vars::COUNT], state: n, memory: n },
            _ => {}
        }
    }
}

/// Whether a pure value may be computed where it is used.
fn may_move(inst: &Inst, known: &Known, changes: &Changes) -> bool {
    let once = known.uses == 1 && known.depth < DEEPEST;
    match inst {
        Inst::Const(..) | Inst::ConstV(..) | Inst::Rip(_) => true,
        Inst::Get(var) => vars::number(*var).is_some_and(|n| changes.vars[n] >= known.last),
        Inst::State { .. } => once && changes.state >= known.last,
        Inst::Peek { .. } => once && changes.memory >= known.last,
        _ => once,
    }
}
