//! Structured control flow: from a graph of blocks to nested `block`, `loop` and `if`.
//!
//! WebAssembly jumps only out of blocks and back to loops. A graph in which every retreating edge goes to a block that
//! dominates its source (a *reducible* one) nests that way by its dominator tree alone, as Norman Ramsey showed in
//! "Beyond Relooper" (ICFP 2022): the code of a block is followed by that of the blocks that it immediately dominates. Those
//! with several ways in (*merges*) come after a `block` that the ways leave; a block with one way in stands where the
//! way is; a target of a retreating edge becomes a `loop`. No code is doubled and no variable says where to go.
//!
//! Compilers make reducible code. What else comes is first made so by [`make_reducible`], at the price of leaving the region.

use crate::ir::{Block, BlockId, End, Inst, Region, Value};

/// A step of the structured code, in the order of the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Opens a `block`.
    Block,
    /// Opens the `loop` of this header.
    Loop(BlockId),
    /// A block's instructions and its end. A jump or a call goes on with the next step; a branch leaves its condition for it.
    Code(BlockId),
    /// Opens an `if` of the condition. Its code never runs through its end.
    If,
    /// Closes the innermost that is open.
    Close,
    /// Jumps to the label of this depth.
    Br(u32),
    /// The same if the condition holds.
    BrIf(u32),
    /// The same if it does not.
    BrUnless(u32),
}

/// A region's structure.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Structure {
    /// The code.
    pub steps: Vec<Step>,
    /// The blocks that can be reached, in reverse postorder.
    pub order: Vec<BlockId>,
    /// By block: whether it is the header of a loop.
    pub headers: Vec<bool>,
    /// By block: the most guest instructions from its begin to the next loop header, the return of a call, or an exit.
    pub ways: Vec<u32>,
}

impl Structure {
    /// The structure of a region; `None` if it is not reducible.
    pub fn of(region: &Region) -> Option<Self> {
        let graph = Graph::of(region)?;
        if !graph.retreating(region).iter().all(|edge| graph.dominates(edge.to, edge.from)) {
            return None;
        }
        let mut headers = vec![false; region.blocks.len()];
        let mut entries = vec![0u32; region.blocks.len()];
        for from in &graph.order {
            for to in region.blocks[from.0 as usize].end.successors() {
                if graph.retreats(*from, to) {
                    headers[to.0 as usize] = true;
                } else {
                    entries[to.0 as usize] += 1;
                }
            }
        }
        let ways = ways(region, &graph.order, &headers);
        let steps = Nesting::new(region, &graph, &headers, &entries).run();
        Some(Self { steps, order: graph.order, headers, ways })
    }
}

/// Makes a region reducible: an edge that goes back to a block which does not dominate its source leaves the region for
/// that block's address instead.
pub fn make_reducible(region: &mut Region) {
    let Some(graph) = Graph::of(region) else { return };
    for Edge { from, which, to } in graph.retreating(region) {
        if graph.dominates(to, from) {
            continue;
        }
        let out = BlockId(region.blocks.len() as u32);
        let offset = region.blocks[to.0 as usize].offset;
        region.blocks.push(Block {
            offset,
            insts: vec![Inst::Rip(offset)],
            end: End::Leave(Value(0)),
            retires: 0,
        });
        match (&mut region.blocks[from.0 as usize].end, which) {
            (End::Jump(to) | End::Call { then: to, .. } | End::Branch { yes: to, .. }, 0)
            | (End::Branch { no: to, .. }, _) => *to = out,
            _ => {}
        }
    }
}

/// The most guest instructions from each block to the next check of the budget. Edges to loop headers and the returns of
/// calls end a way, so successors come before their predecessors in postorder.
fn ways(region: &Region, order: &[BlockId], headers: &[bool]) -> Vec<u32> {
    let mut ways = vec![0u32; region.blocks.len()];
    for block in order.iter().rev() {
        let Block { end, retires, .. } = &region.blocks[block.0 as usize];
        let on = match end {
            End::Call { .. } => 0,
            _ => end
                .successors()
                .filter(|to| !headers[to.0 as usize])
                .map(|to| ways[to.0 as usize])
                .max()
                .unwrap_or(0),
        };
        ways[block.0 as usize] = retires + on;
    }
    ways
}

/// An edge: successor number `which` of `from`.
struct Edge {
    from: BlockId,
    which: usize,
    to: BlockId,
}

/// What depth-first search and dominance tell.
struct Graph {
    order: Vec<BlockId>,
    /// By block: its place in `order`; [`NONE`] if it cannot be reached.
    place: Vec<u32>,
    /// By place: the place of the immediate dominator. The entry's is itself.
    dominator: Vec<u32>,
}

const NONE: u32 = u32::MAX;

impl Graph {
    /// `None` if there is no entry, or an edge to no block.
    fn of(region: &Region) -> Option<Self> {
        let count = region.blocks.len();
        let edges = || region.blocks.iter().flat_map(|b| b.end.successors());
        if count == 0 || edges().any(|to| to.0 as usize >= count) {
            return None;
        }
        let order = reverse_postorder(region);
        let mut place = vec![NONE; count];
        order.iter().enumerate().for_each(|(n, b)| place[b.0 as usize] = n as u32);
        let dominator = dominators(region, &order, &place);
        Some(Self { order, place, dominator })
    }

    fn place(&self, block: BlockId) -> u32 {
        self.place[block.0 as usize]
    }

    /// Whether an edge goes back in reverse postorder.
    fn retreats(&self, from: BlockId, to: BlockId) -> bool {
        self.place(to) <= self.place(from)
    }

    fn retreating(&self, region: &Region) -> Vec<Edge> {
        let edges = self.order.iter().flat_map(|from| {
            let to = region.blocks[from.0 as usize].end.successors();
            to.enumerate().map(|(which, to)| Edge { from: *from, which, to })
        });
        edges.filter(|e| self.retreats(e.from, e.to)).collect()
    }

    fn dominates(&self, above: BlockId, below: BlockId) -> bool {
        let (above, mut below) = (self.place(above), self.place(below));
        while below > above {
            below = self.dominator[below as usize];
        }
        below == above
    }
}

fn reverse_postorder(region: &Region) -> Vec<BlockId> {
    let mut seen = vec![false; region.blocks.len()];
    let mut order = Vec::with_capacity(region.blocks.len());
    let mut stack = vec![(BlockId(0), 0)];
    seen[0] = true;
    while let Some((block, next)) = stack.last_mut() {
        let successor = region.blocks[block.0 as usize].end.successors().nth(*next);
        *next += 1;
        match successor {
            Some(to) if !seen[to.0 as usize] => {
                seen[to.0 as usize] = true;
                stack.push((to, 0));
            }
            Some(_) => {}
            None => {
                order.push(*block);
                stack.pop();
            }
        }
    }
    order.reverse();
    order
}

/// Immediate dominators, by the iteration of Cooper, Harvey and Kennedy ("A Simple, Fast Dominance Algorithm"): one round
/// for reducible graphs, and a second that finds nothing to change.
fn dominators(region: &Region, order: &[BlockId], place: &[u32]) -> Vec<u32> {
    let mut dominator = vec![NONE; order.len()];
    dominator[0] = 0;
    let mut changed = true;
    while changed {
        changed = false;
        for (from, block) in order.iter().enumerate() {
            for to in region.blocks[block.0 as usize].end.successors() {
                let to = place[to.0 as usize] as usize;
                if to == 0 {
                    continue;
                }
                let meet = match dominator[to] {
                    NONE => from as u32,
                    known => intersect(&dominator, known, from as u32),
                };
                changed |= dominator[to] != meet;
                dominator[to] = meet;
            }
        }
    }
    dominator
}

fn intersect(dominator: &[u32], mut a: u32, mut b: u32) -> u32 {
    while a != b {
        if a > b {
            a = dominator[a as usize];
        } else {
            b = dominator[b as usize];
        }
    }
    a
}

/// What is still to be written.
enum Task {
    /// A block and all that it dominates.
    Tree(BlockId),
    /// The block itself and the ways out of it.
    Code(BlockId),
    /// The end of what was opened last.
    Close,
}

/// Writes the steps.
struct Nesting<'a> {
    region: &'a Region,
    graph: &'a Graph,
    headers: &'a [bool],
    entries: &'a [u32],
    /// By block: the first of the merges that it immediately dominates, and by merge: the next; in reverse postorder.
    first: Vec<Option<BlockId>>,
    next: Vec<Option<BlockId>>,
    /// Labels that are open.
    open: u32,
    /// By block: how many labels were open when its own was opened.
    label: Vec<u32>,
    tasks: Vec<Task>,
    steps: Vec<Step>,
}

impl<'a> Nesting<'a> {
    fn new(region: &'a Region, graph: &'a Graph, headers: &'a [bool], entries: &'a [u32]) -> Self {
        let count = region.blocks.len();
        let (mut first, mut next) = (vec![None; count], vec![None; count]);
        for block in graph.order.iter().rev().filter(|b| entries[b.0 as usize] > 1) {
            let above = graph.order[graph.dominator[graph.place(*block) as usize] as usize];
            next[block.0 as usize] = first[above.0 as usize];
            first[above.0 as usize] = Some(*block);
        }
        let steps = Vec::with_capacity(count * 3);
        let label = vec![0; count];
        Self { region, graph, headers, entries, first, next, open: 0, label, tasks: Vec::new(), steps }
    }

    fn run(mut self) -> Vec<Step> {
        self.tasks.push(Task::Tree(BlockId(0)));
        while let Some(task) = self.tasks.pop() {
            match task {
                Task::Tree(block) => self.tree(block),
                Task::Code(block) => self.code(block),
                Task::Close => self.close(),
            }
        }
        self.steps
    }

    /// Opens the block's loop, and a `block` for each merge below it, the last outermost.
    fn tree(&mut self, block: BlockId) {
        if self.headers[block.0 as usize] {
            self.open(block, Step::Loop(block));
            self.tasks.push(Task::Close);
        }
        let begin = self.tasks.len();
        self.tasks.push(Task::Code(block));
        let mut merge = self.first[block.0 as usize];
        while let Some(m) = merge {
            self.tasks.extend([Task::Close, Task::Tree(m)]);
            merge = self.next[m.0 as usize];
        }
        for n in (begin..self.tasks.len()).rev() {
            if let Task::Tree(merge) = self.tasks[n] {
                self.open(merge, Step::Block);
            }
        }
        self.tasks[begin..].reverse();
    }

    fn code(&mut self, block: BlockId) {
        self.steps.push(Step::Code(block));
        match self.region.blocks[block.0 as usize].end {
            End::Jump(to) | End::Call { then: to, .. } => self.go(block, to),
            End::Branch { yes, no, .. } => self.branch(block, yes, no),
            End::Leave(_) | End::Return(_) | End::Interpret(_) => {}
        }
    }

    fn branch(&mut self, block: BlockId, yes: BlockId, no: BlockId) {
        match (self.jump(block, yes), self.jump(block, no)) {
            (Some(depth), _) => {
                self.steps.push(Step::BrIf(depth));
                self.go(block, no);
            }
            (None, Some(depth)) => {
                self.steps.push(Step::BrUnless(depth));
                self.tasks.push(Task::Tree(yes));
            }
            (None, None) => {
                self.steps.push(Step::If);
                self.open += 1;
                self.tasks.extend([Task::Tree(no), Task::Close, Task::Tree(yes)]);
            }
        }
    }

    /// A way on: a jump, or the target itself.
    fn go(&mut self, from: BlockId, to: BlockId) {
        match self.jump(from, to) {
            Some(depth) => self.steps.push(Step::Br(depth)),
            None => self.tasks.push(Task::Tree(to)),
        }
    }

    /// The depth of the label to jump to, or `None` if the target stands where the way is.
    fn jump(&self, from: BlockId, to: BlockId) -> Option<u32> {
        let labelled = self.graph.retreats(from, to) || self.entries[to.0 as usize] > 1;
        // A merge's `loop` is opened after its `block` is closed, so that the label noted last is the right one.
        labelled.then(|| self.open - 1 - self.label[to.0 as usize])
    }

    fn open(&mut self, block: BlockId, step: Step) {
        self.label[block.0 as usize] = self.open;
        self.open += 1;
        self.steps.push(step);
    }

    /// A jump to the end of a `block` that stands there is left out.
    fn close(&mut self) {
        if self.steps.last() == Some(&Step::Br(0)) && self.closes_block() {
            self.steps.pop();
        }
        self.open -= 1;
        self.steps.push(Step::Close);
    }

    /// Whether the next close is that of a `block`: the one whose label a forward jump of depth 0 names.
    fn closes_block(&self) -> bool {
        let level = self.open - 1;
        matches!(self.tasks.last(), Some(Task::Tree(merge)) if self.label[merge.0 as usize] == level
            && self.entries[merge.0 as usize] > 1)
    }
}

#[cfg(test)]
mod tests;
