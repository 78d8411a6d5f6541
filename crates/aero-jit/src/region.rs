//! Which instructions make up a region: what direct jumps reach from the head, up to a limit, cut into basic blocks.

use crate::job::{Env, Source, Tier};
use aero_cpu::bind::bind;
use aero_cpu::vcpu::Mode;
use aero_x86::cpuid::MODELS;
use aero_x86::{Features, Insn, MAX_LEN, Mnemonic, Operand, decode};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Instructions in a region at most, by tier: engines optimise long functions at a cost that grows faster than they do.
fn limit(tier: Tier) -> usize {
    match tier {
        Tier::Baseline => 200,
        Tier::Optimizing => 400,
    }
}

/// Instructions of a region from which on it ends where another begins. A shorter one has that code as well: what runs
/// often together is better off in one.
const SHORT: usize = 64;

/// The number of SS: a load of it holds traps off for an instruction.
const STACK_SEGMENT: u8 = 2;

/// A straight run of instructions that is entered at its first only.
#[derive(Clone, Debug)]
pub struct Straight {
    /// Where it begins: bytes from the head.
    pub offset: i32,
    /// Its instructions with their places.
    pub insns: Vec<(i32, Insn)>,
    /// What follows.
    pub next: Next,
}

/// What follows a straight run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The last instruction says it: a branch.
    Branch,
    /// The code at this offset, which the region has.
    Block(i32),
    /// The code at this offset, which it has not.
    Outside(i32),
    /// An instruction at this offset that only the interpreter can run, since it ends blocks.
    Interpret(i32),
}

/// How an instruction goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// To the next.
    On,
    /// A near jump, call or return, known to the translator.
    Branch,
    /// Not to be translated, and not to be run from within a region.
    Ends,
}

/// Near branches of this instruction's code.
pub fn flow(insn: &Insn, mode: Mode) -> Flow {
    use Mnemonic as M;
    let ends = bind(Ok(*insn), mode, 0).ends;
    let string = insn.operands[..insn.count.into()].contains(&Operand::Implied);
    if !ends || string {
        return Flow::On;
    }
    if may_go_on(insn) {
        return Flow::On;
    }
    let near = matches!(insn.operands[0], Operand::Near(_));
    // A branch to 16 bits is nothing that compilers make.
    let narrow = !mode.code.eq(&aero_x86::CodeSize::B64) && insn.operand_size == 2;
    match insn.mnemonic {
        _ if narrow => Flow::Ends,
        M::Ret => Flow::Branch,
        M::Jmp | M::Call if near => Flow::Branch,
        M::Jmp | M::Call => {
            let pointer = if mode.code == aero_x86::CodeSize::B64 { 8 } else { 4 };
            let far = insn.operands[0] == Operand::Mem && insn.mem.size != pointer;
            if far || matches!(insn.operands[0], Operand::Far { .. }) { Flow::Ends } else { Flow::Branch }
        }
        M::Loop | M::Loope | M::Loopne | M::Jcxz => Flow::Ends,
        _ if near => Flow::Branch,
        _ => Flow::Ends,
    }
}

/// Whether an instruction that ends the interpreter's blocks hardly ever has to: it may let an interrupt in or change what
/// segments are, and a region has it run only when it has not.
fn may_go_on(insn: &Insn) -> bool {
    use Mnemonic as M;
    match insn.mnemonic {
        M::Popf | M::Popfd | M::Popfq | M::Sti | M::Wrmsr => true,
        M::Mov | M::Pop => matches!(insn.operands[0], Operand::Seg(n) if n != STACK_SEGMENT),
        _ => false,
    }
}

/// The mode that a source's code is bound for.
pub fn mode(source: &Source) -> Mode {
    Mode { code: source.code(), stack32: true, flat: true }
}

/// Decodes the instruction at `offset`; `None` if it is not one, or not all of it is at hand.
fn instruction(source: &Source, offset: i32, features: Features) -> Option<Insn> {
    let mut bytes = [0; MAX_LEN];
    let have = source.fetch(offset, &mut bytes);
    decode(&bytes[..have], source.code(), features).ok()
}

/// What a branch at `offset` may go on to within the region: its target, and what comes after it.
fn targets(offset: i32, insn: &Insn) -> [Option<i32>; 2] {
    let after = offset + i32::from(insn.len);
    let target = match insn.operands[0] {
        Operand::Near(by) => i32::try_from(by).ok().and_then(|by| offset.checked_add(by)),
        _ => None,
    };
    match insn.mnemonic {
        Mnemonic::Ret => [None, None],
        Mnemonic::Jmp => [target, None],
        Mnemonic::Call => [None, Some(after)],
        _ => [target, Some(after)],
    }
}

/// The instructions that are reached, and how each goes on.
struct Reached {
    insns: BTreeMap<i32, (Insn, Flow)>,
    leaders: BTreeSet<i32>,
}

fn reach(source: &Source, env: &Env) -> Reached {
    let features = MODELS[usize::from(env.model) % MODELS.len()].features;
    let mode = mode(source);
    let mut found = Reached { insns: BTreeMap::new(), leaders: BTreeSet::new() };
    let mut open = VecDeque::from([0]);
    while let Some(start) = open.pop_front() {
        found.leaders.insert(start);
        let mut at = start;
        while found.insns.len() < limit(env.tier) && !found.insns.contains_key(&at) {
            if found.insns.len() >= SHORT && source.is_head(at) {
                break;
            }
            let Some(insn) = instruction(source, at, features) else { break };
            let flow = flow(&insn, mode);
            found.insns.insert(at, (insn, flow));
            match flow {
                Flow::On => at += i32::from(insn.len),
                Flow::Ends => break,
                Flow::Branch => {
                    let targets = targets(at, &insn).into_iter().flatten();
                    open.extend(targets.filter(|to| source.has_run(*to)));
                    break;
                }
            }
        }
    }
    found
}

/// The basic blocks of a source, the head's first. Empty if the head itself cannot be compiled.
pub fn select(source: &Source, env: &Env) -> Vec<Straight> {
    let found = reach(source, env);
    let mut blocks = Vec::new();
    let mut order: Vec<i32> = found.leaders.iter().copied().filter(|l| found.insns.contains_key(l)).collect();
    order.sort_by_key(|l| (*l != 0, *l));
    for offset in order {
        blocks.push(straight(&found, offset));
    }
    if blocks.first().is_none_or(|b| b.offset != 0 || b.insns.is_empty()) {
        return Vec::new();
    }
    blocks
}

fn straight(found: &Reached, offset: i32) -> Straight {
    let mut insns = Vec::new();
    let mut at = offset;
    let next = loop {
        let Some((insn, flow)) = found.insns.get(&at) else { break Next::Outside(at) };
        match flow {
            Flow::Ends => break Next::Interpret(at),
            Flow::Branch => {
                insns.push((at, *insn));
                break Next::Branch;
            }
            Flow::On => insns.push((at, *insn)),
        }
        at += i32::from(insn.len);
        if found.leaders.contains(&at) && found.insns.contains_key(&at) {
            break Next::Block(at);
        }
    };
    Straight { offset, insns, next }
}

/// The runs of bytes that a region's instructions take, in order and joined.
pub fn ranges(blocks: &[Straight]) -> Vec<(i32, u32)> {
    let mut bytes: Vec<(i32, u32)> =
        blocks.iter().flat_map(|b| b.insns.iter().map(|(at, i)| (*at, u32::from(i.len)))).collect();
    bytes.sort_unstable();
    let mut joined: Vec<(i32, u32)> = Vec::new();
    for (at, len) in bytes {
        match joined.last_mut() {
            Some((start, have)) if *start + *have as i32 >= at => {
                *have = (*have).max((at - *start) as u32 + len);
            }
            _ => joined.push((at, len)),
        }
    }
    joined
}
