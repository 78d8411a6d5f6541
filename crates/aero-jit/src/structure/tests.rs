use super::*;
use crate::ir::Type;

fn region(ends: &[End]) -> Region {
    let block = |(n, end): (usize, &End)| Block {
        offset: n as i32 * 16,
        insts: vec![Inst::Const(Type::I32, 0)],
        end: *end,
        retires: 1 + n as u32,
    };
    Region {
        word: Type::I64,
        blocks: ends.iter().enumerate().map(block).collect(),
        interpreted: Vec::new(),
        second: None,
    }
}

fn jump(to: u32) -> End {
    End::Jump(BlockId(to))
}

fn branch(yes: u32, no: u32) -> End {
    End::Branch { when: Value(0), yes: BlockId(yes), no: BlockId(no) }
}

fn call(then: u32) -> End {
    End::Call { to: Value(0), back: 0, then: BlockId(then) }
}

const OUT: End = End::Return(Value(0));

/// Pseudo-random bits (xorshift).
struct Coin(u64);

impl Coin {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// The blocks that a region runs through, at most so many.
fn walk_graph(region: &Region, mut coin: Coin) -> Vec<u32> {
    let (mut at, mut trace) = (0, Vec::new());
    while trace.len() < 100 {
        trace.push(at);
        at = match region.blocks[at as usize].end {
            End::Jump(to) | End::Call { then: to, .. } => to.0,
            End::Branch { yes, no, .. } => {
                if coin.next() & 1 != 0 {
                    yes.0
                } else {
                    no.0
                }
            }
            _ => break,
        };
    }
    trace
}

/// The same through the steps, as an engine would.
fn walk_steps(region: &Region, steps: &[Step], mut coin: Coin) -> Vec<u32> {
    let (mut at, mut trace, mut taken) = (0, Vec::new(), false);
    while trace.len() < 100 {
        let label = |depth: u32| jump_target(steps, at, depth);
        at = match steps[at] {
            Step::Code(block) => {
                trace.push(block.0);
                match region.blocks[block.0 as usize].end {
                    End::Jump(_) | End::Call { .. } => {}
                    End::Branch { .. } => taken = coin.next() & 1 != 0,
                    _ => break,
                }
                at + 1
            }
            Step::Br(depth) => label(depth),
            Step::BrIf(depth) if taken => label(depth),
            Step::BrUnless(depth) if !taken => label(depth),
            Step::If if !taken => close_of(steps, at) + 1,
            _ => at + 1,
        };
    }
    trace
}

fn close_of(steps: &[Step], open: usize) -> usize {
    let mut depth = 0;
    for (n, step) in steps.iter().enumerate().skip(open) {
        match step {
            Step::Block | Step::Loop(_) | Step::If => depth += 1,
            Step::Close => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return n;
        }
    }
    panic!("step {open} is never closed");
}

fn jump_target(steps: &[Step], from: usize, depth: u32) -> usize {
    let mut open = Vec::new();
    for (n, step) in steps.iter().enumerate().take(from) {
        match step {
            Step::Block | Step::Loop(_) | Step::If => open.push(n),
            Step::Close => _ = open.pop(),
            _ => {}
        }
    }
    let label = open[open.len() - 1 - depth as usize];
    match steps[label] {
        Step::Loop(_) => label + 1,
        Step::Block => close_of(steps, label) + 1,
        other => panic!("a jump to {other:?}"),
    }
}

/// Checks that the structured code goes the graph's ways, and returns it.
fn same_ways(ends: &[End]) -> Structure {
    let region = region(ends);
    let structure = Structure::of(&region).expect("reducible");
    for seed in 1..60 {
        let graph = walk_graph(&region, Coin(seed * 0x9e37_79b9));
        assert_eq!(walk_steps(&region, &structure.steps, Coin(seed * 0x9e37_79b9)), graph, "{structure:?}");
    }
    structure
}

#[test]
fn chain_needs_no_labels() {
    let s = same_ways(&[jump(1), call(2), OUT]);
    assert_eq!(s.steps, [0, 1, 2].map(|n| Step::Code(BlockId(n))));
}

#[test]
fn diamond_merges_behind_a_block() {
    let s = same_ways(&[branch(1, 2), jump(3), jump(3), OUT]);
    let code = |n| Step::Code(BlockId(n));
    let expected =
        [Step::Block, code(0), Step::If, code(1), Step::Br(1), Step::Close, code(2), Step::Close, code(3)];
    assert_eq!(s.steps, expected);
}

#[test]
fn branch_to_a_merge_needs_no_if() {
    let s = same_ways(&[branch(2, 1), jump(2), OUT]);
    assert!(s.steps.contains(&Step::BrIf(0)) && !s.steps.contains(&Step::If), "{s:?}");
    let s = same_ways(&[branch(1, 2), jump(2), OUT]);
    assert!(s.steps.contains(&Step::BrUnless(0)) && !s.steps.contains(&Step::If), "{s:?}");
}

#[test]
fn branch_with_one_target_goes_there() {
    same_ways(&[branch(1, 1), OUT]);
}

#[test]
fn nested_loops_keep_their_headers() {
    let s = same_ways(&[jump(1), branch(2, 5), jump(3), branch(3, 4), jump(1), OUT]);
    assert_eq!(s.headers, [false, true, false, true, false, false]);
}

#[test]
fn loop_with_several_exits_leaves_each_for_its_block() {
    same_ways(&[branch(1, 4), branch(2, 5), branch(3, 4), branch(0, 5), OUT, jump(4)]);
}

#[test]
fn header_that_is_a_merge_has_both_labels() {
    same_ways(&[branch(1, 2), jump(3), jump(3), branch(3, 4), OUT]);
}

#[test]
fn entry_may_be_a_header() {
    let s = same_ways(&[branch(0, 1), OUT]);
    assert!(s.headers[0]);
}

#[test]
fn ways_end_at_headers_and_calls() {
    // Block n retires n + 1.
    let s = same_ways(&[branch(1, 2), jump(3), jump(3), branch(4, 5), jump(3), call(6), OUT]);
    assert_eq!(s.ways, [1 + 3, 2, 3, 4 + 6, 5, 6, 7]);
}

#[test]
fn jump_into_a_loop_is_refused_until_made_to_leave() {
    let mut region = region(&[branch(1, 2), jump(2), branch(1, 3), OUT]);
    assert_eq!(Structure::of(&region), None);
    make_reducible(&mut region);
    assert!(Structure::of(&region).is_some());
    assert_eq!(region.blocks.len(), 5);
    let out = &region.blocks[4];
    assert_eq!((out.end, &out.insts[0]), (End::Leave(Value(0)), &Inst::Rip(out.offset)));
}

#[test]
fn reducible_region_stays_as_it_is() {
    let mut made = region(&[jump(1), branch(1, 2), OUT]);
    let before = made.clone();
    make_reducible(&mut made);
    assert_eq!(made, before);
}

#[test]
fn edge_to_nowhere_is_refused() {
    assert_eq!(Structure::of(&region(&[jump(1)])), None);
    assert_eq!(Structure::of(&region(&[])), None);
}

#[test]
fn random_graphs_keep_their_ways() {
    let mut coin = Coin(1);
    for _ in 0..2000 {
        let count = 1 + coin.next() % 12;
        let mut any = || (coin.next() >> 9) as u32 % count as u32;
        let ends: Vec<End> = (0..count)
            .map(|_| match any() % 5 {
                0 => OUT,
                1 => jump(any()),
                2 => call(any()),
                _ => branch(any(), any()),
            })
            .collect();
        let mut region = region(&ends);
        make_reducible(&mut region);
        let ends: Vec<End> = region.blocks.iter().map(|b| b.end).collect();
        same_ways(&ends);
    }
}
