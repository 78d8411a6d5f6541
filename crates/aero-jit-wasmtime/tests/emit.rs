//! Emitted code as the engine runs it: random regions beside the evaluator, and what one region alone does not show.

#![allow(
    unsafe_code,
    reason = "helper functions are given a pointer, and the arena is memory that the engine made"
)]

use aero_cpu::jit::{FlagKind, Lazy, MAX_DEPTH, Status};
use aero_cpu::state::Flags;
use aero_jit::emit::{Emitted, module};
use aero_jit::evaluate::{Exit, Guest, World, evaluate};
use aero_jit::ir::{BlockId, Inst, Region, Type, Var};
use aero_jit::structure::{Structure, make_reducible};
use aero_jit::text::parse;
use aero_jit::{flags, verify};
// What the file of random regions looks for in its own crate.
use aero_jit::{ir, simd, types};
use random::Random;
use rig::{Op, PAGES, Rig, SPARE, interpret, key};

#[path = "../../aero-jit/src/random.rs"]
mod random;
#[path = "emit/rig.rs"]
mod rig;

const HEAD: u64 = 0x40_1000;

/// The evaluator's side of a rig.
struct Model {
    memory: Vec<u8>,
    spare: Vec<u8>,
    missing: Vec<u64>,
    code: Vec<u64>,
    ops: Vec<Op>,
    stops: u64,
    interpreted: Vec<(u32, u64)>,
    ram: u32,
}

impl Model {
    fn of(rig: &mut Rig) -> Self {
        Self {
            memory: rig.ram().to_vec(),
            spare: rig.spare().to_vec(),
            missing: rig.missing.clone(),
            code: rig.code.clone(),
            ops: rig.ops.clone(),
            stops: rig.stops,
            interpreted: Vec::new(),
            ram: rig.ram,
        }
    }

    fn find(&self, la: u64, size: u8, write: bool) -> Option<usize> {
        let last = la.checked_add(u64::from(size) - 1)?;
        let bad = |page| self.missing.contains(&page) || write && self.code.contains(&page);
        (last < PAGES * 4096 && !bad(la >> 12) && !bad(last >> 12)).then_some(la as usize)
    }
}

fn get(from: &[u8], at: usize, size: u8) -> u128 {
    let mut bytes = [0; 16];
    bytes[..size.into()].copy_from_slice(&from[at..at + usize::from(size)]);
    u128::from_le_bytes(bytes)
}

fn put(to: &mut [u8], at: usize, size: u8, value: u128) {
    to[at..at + usize::from(size)].copy_from_slice(&value.to_le_bytes()[..size.into()]);
}

impl World for Model {
    fn load(&mut self, address: u64, size: u8) -> Option<u128> {
        self.find(address, size, false).map(|at| get(&self.memory, at, size))
    }

    fn store(&mut self, address: u64, size: u8, value: u128) -> Option<()> {
        let at = self.find(address, size, true)?;
        put(&mut self.memory, at, size, value);
        Some(())
    }

    fn place(&mut self, address: u64, size: u8) -> Option<u32> {
        self.find(address, size, true).map(|at| self.ram + at as u32)
    }

    fn peek(&mut self, place: u32, size: u8) -> u128 {
        get(&self.memory, (place - self.ram) as usize, size)
    }

    fn poke(&mut self, place: u32, size: u8, value: u128) {
        put(&mut self.memory, (place - self.ram) as usize, size, value);
    }

    fn state(&mut self, at: u32, size: u8) -> u128 {
        get(&self.spare, (at - SPARE) as usize, size)
    }

    fn set_state(&mut self, at: u32, size: u8, value: u128) {
        put(&mut self.spare, (at - SPARE) as usize, size, value);
    }

    fn exec(&mut self, op: u16, guest: &mut Guest) -> bool {
        let nth = self.interpreted.len() as u32;
        let digest = interpret(guest, op.into(), self.ops[usize::from(op)]);
        self.interpreted.push((op.into(), digest));
        self.stops >> (nth % 64) & 1 == 0
    }
}

/// How a region should return: status, RIP, budget.
fn expect(
    region: &Region,
    exact: bool,
    mut budget: i64,
    guest: &mut Guest,
    model: &mut Model,
) -> (Status, u64, i64) {
    let structure = Structure::of(region).expect("it was made reducible");
    let word = |la: u64| if region.word == Type::I32 { u64::from(la as u32) } else { la };
    let rip = |offset: i32| word(HEAD.wrapping_add_signed(offset.into()));
    let (mut at, mut first) = (BlockId(0), true);
    loop {
        let block = at.0 as usize;
        let least = if exact { i64::from(structure.ways[block]).max(1) } else { 1 };
        if (core::mem::take(&mut first) || structure.headers[block]) && budget < least {
            return (Status::Redo, rip(region.blocks[block].offset), budget);
        }
        let outcome = evaluate(region, at, 1, guest, model);
        budget -= outcome.retired as i64;
        return match outcome.exit {
            Exit::Unfinished(next) => {
                at = next;
                continue;
            }
            Exit::Redo { offset, .. } => (Status::Redo, rip(offset), budget),
            Exit::Interpret(offset) => (Status::Redo, rip(offset), budget),
            Exit::Leave(to) | Exit::Call { to, .. } => (Status::Goto, word(to), budget),
            Exit::Return(to) => (Status::Returned, word(to), budget),
            // RIP is the interpreter's affair.
            Exit::Stopped(_) => (Status::Stopped, u64::MAX, budget - 1),
        };
    }
}

/// A random region as the translator could have made it, and what its interpreted instructions do.
fn random_region(random: &mut Random) -> (Region, Vec<Op>) {
    // A loop of nothing would never end.
    let endless = |region: &Region| {
        region.blocks.iter().any(|block| block.retires == 0 && block.end.successors().next().is_some())
    };
    let mut region = random.region();
    while endless(&region) {
        region = random.region();
    }
    let mut touched = || {
        let (gprs, xmms) = (random.bits() & random.bits(), random.bits() & random.bits());
        ir::Touched { gprs: gprs as u16, xmms: xmms as u16, flags: random.one_in(2) }
    };
    let ops: Vec<Op> = (0..4).map(|_| Op { reads: touched(), writes: touched(), greedy: 0 }).collect();
    for block in &mut region.blocks {
        for inst in &mut block.insts {
            match inst {
                Inst::State { at, .. } | Inst::SetState { at, .. } => *at += SPARE,
                Inst::Exec { op, reads, writes } => {
                    (*reads, *writes) = (ops[usize::from(*op)].reads, ops[usize::from(*op)].writes);
                }
                // These belong to the pass that lowers flags.
                Inst::Set(var, _) if of_flags(*var) => *inst = Inst::Nop,
                Inst::Get(var) if of_flags(*var) => *inst = Inst::Const(var.type_in(region.word), 0),
                _ => {}
            }
        }
    }
    make_reducible(&mut region);
    verify::verify(&region).expect("the region keeps the rules");
    (region, ops)
}

fn of_flags(var: Var) -> bool {
    !matches!(var, Var::Gpr(_) | Var::Xmm(_))
}

fn random_lazy(random: &mut Random, word: Type) -> Lazy {
    let kinds = [FlagKind::ADD, FlagKind::SUB, FlagKind::LOGIC, FlagKind::INC, FlagKind::DEC, FlagKind::SHL];
    let size = random.pick(&[1, 2, 4, word.size()]);
    let mut operand = || random.number() & (u64::MAX >> (64 - 8 * u32::from(size)));
    let lazy = Lazy {
        a: operand(),
        b: operand() & 7 | 1,
        carry_a: operand(),
        carry_b: operand(),
        ..Lazy::default()
    };
    match random.below(4) {
        0 => Lazy::default(),
        1 => {
            let (kind, result) = (FlagKind::WORDS, random.number() as i32 as u64);
            Lazy { kind, a: result, ..lazy }
        }
        2 => Lazy { kind: random.pick(&kinds).sized(size), ..lazy },
        _ => {
            let carry_kind = random.pick(&[FlagKind::BIT, FlagKind::BITS, FlagKind::SUB.sized(size)]);
            Lazy { kind: random.pick(&kinds).sized(size), carry_kind, ..lazy }
        }
    }
}

/// Makes everything that a region sees random.
fn shuffle(rig: &mut Rig, random: &mut Random, word: Type) {
    let mask = if word == Type::I32 { u64::from(u32::MAX) } else { u64::MAX };
    let near = |n: u64| if n & 3 == 0 { n >> 2 & 0x7fff } else { n };
    for n in 0..16 {
        let number = near(random.number());
        rig.state().set_gpr(n, number & mask);
        rig.state().xmm[usize::from(n)] = [random.number(), random.number()];
    }
    let lazy = random_lazy(random, word);
    rig.state().lazy = lazy;
    rig.state().flags = Flags::from_bits(random.bits());
    rig.state().rip = HEAD;
    rig.state().budget = random.below(40) as i64;
    rig.stops = if random.one_in(2) { 0 } else { random.bits() & random.bits() };
    rig.interpreted.clear();
    rig.missing = if random.one_in(2) { vec![random.below(PAGES)] } else { vec![] };
    rig.code = if random.one_in(2) { vec![random.below(PAGES)] } else { vec![] };
    rig.ram().chunks_mut(8).for_each(|to| to.copy_from_slice(&random.number().to_le_bytes()));
    rig.spare().chunks_mut(8).for_each(|to| to.copy_from_slice(&random.number().to_le_bytes()));
    let known = if random.one_in(2) { u64::MAX } else { random.bits() };
    rig.fill(known);
}

/// Runs a region in the engine and in the evaluator.
fn compare(rig: &mut Rig, slot: u32, region: &Region, what: &str) {
    let mut guest = rig.guest(region.word, HEAD);
    let mut model = Model::of(rig);
    let budget = rig.state().budget;
    let begin = format!("{:?} {:?}", guest.lazy, guest.stored);
    let wanted = expect(region, rig.env.exact, budget, &mut guest, &mut model);
    let status = rig.call(slot);
    let what = || format!("{what}, flags {begin}, {wanted:?}\n{region}");
    assert_eq!(status, wanted.0, "{}", what());
    if status != Status::Stopped {
        assert_eq!(rig.state().rip, wanted.1, "RIP {}", what());
    }
    assert_eq!(rig.state().budget, wanted.2, "budget {}", what());
    rig.state().settle_flags();
    let found = rig.guest(region.word, HEAD);
    assert_eq!(found.gprs, guest.gprs, "{}", what());
    assert_eq!(found.xmms, guest.xmms, "{}", what());
    assert_eq!(found.flags().bits(), guest.flags().bits(), "{}", what());
    assert_eq!(rig.interpreted, model.interpreted, "{}", what());
    assert!(rig.ram() == model.memory && rig.spare() == model.spare, "memory {}", what());
}

fn emit(rig: &Rig, regions: &[Region]) -> Emitted {
    let lowered = regions.iter().map(|region| {
        let mut region = region.clone();
        flags::run(&mut region);
        let key = key(region.word);
        Some((region, key))
    });
    module(&rig.env, &lowered.collect::<Vec<_>>())
}

#[test]
fn random_regions_do_what_the_evaluator_does() {
    const REGIONS: u32 = 16;
    let mut rig = Rig::new();
    for seed in 0..60 {
        let mut random = Random::new(seed);
        rig.env.exact = seed % 2 == 0;
        let made: Vec<(Region, Vec<Op>)> = (0..REGIONS).map(|_| random_region(&mut random)).collect();
        let regions: Vec<Region> = made.iter().map(|(region, _)| region.clone()).collect();
        let emitted = emit(&rig, &regions);
        assert!(emitted.good.iter().all(|good| *good));
        let first = rig.install(emitted);
        for (n, (region, ops)) in made.iter().enumerate() {
            rig.ops.clone_from(ops);
            rig.word = region.word;
            for round in 0..12 {
                shuffle(&mut rig, &mut random, region.word);
                compare(
                    &mut rig,
                    first + n as u32,
                    region,
                    &format!("seed {seed}, region {n}, round {round}"),
                );
            }
        }
        rig.release(first, REGIONS);
    }
    assert!(rig.slow > 1000 && rig.settled > 100, "{} and {} calls", rig.slow, rig.settled);
}

/// A rig with regions at linear addresses 0x1000, 0x2000, and so on, all in the jump table; the slot of the first.
fn linked(texts: &[&str], change: impl FnOnce(&mut Rig)) -> (Rig, u32) {
    let mut rig = Rig::new();
    change(&mut rig);
    let regions: Vec<Region> = texts.iter().map(|text| parse(text).expect("a region")).collect();
    let emitted = emit(&rig, &regions);
    assert!(emitted.good.iter().all(|good| *good));
    let first = rig.install(emitted);
    for (n, region) in regions.iter().enumerate() {
        rig.lead((n as u64 + 1) << 12, region.word, first + n as u32);
    }
    rig.state().rip = 0x1000;
    rig.state().budget = 1 << 40;
    rig.fill(u64::MAX);
    (rig, first)
}

/// Calls what `rax` points to and then counts in `rbx`.
const CALLER: &str = "region i64
    b0 +0 retires 2:
        at +0 done 0
        v1 = get rcx
        v2 = const.i64 1
        v3 = add v1, v2
        set rcx, v3
        at +3 done 1
        v6 = get rax
        call v6, back +5, b1
    b1 +5 retires 1:
        at +5 done 0
        v1 = get rbx
        v2 = const.i64 1
        v3 = add v1, v2
        set rbx, v3
        v5 = rip +9
        return v5";

#[test]
fn call_goes_on_where_the_callee_returns_to() {
    let callee = "region i64
        b0 +0 retires 4:
            at +0 done 0
            v1 = get rbx
            v2 = const.i64 40
            v3 = add v1, v2
            set rbx, v3
            v5 = get rdx
            return v5";
    let (mut rig, slot) = linked(&[CALLER, callee], |_| {});
    for (back, rbx, status, rip, retired) in
        [(0x1005, 42, Status::Returned, 0x1009, 7), (0x1006, 41, Status::Returned, 0x1006, 6)]
    {
        rig.state().rip = 0x1000;
        rig.state().budget = 100;
        [(0, 0x2000), (1, 0), (2, back), (3, 1)]
            .into_iter()
            .for_each(|(n, value)| rig.state().set_gpr(n, value));
        assert_eq!(rig.call(slot), status);
        let state = rig.state();
        assert_eq!((state.gpr(1), state.gpr(3), state.rip, state.budget), (1, rbx, rip, 100 - retired));
    }
}

#[test]
fn callee_that_does_not_return_hands_its_status_on() {
    let callee = "region i64\nb0 +0 retires 1:\n at +0 done 0\n interpret +3";
    let (mut rig, slot) = linked(&[CALLER, callee], |_| {});
    rig.state().set_gpr(0, 0x2000);
    assert_eq!(rig.call(slot), Status::Redo);
    assert_eq!(rig.state().rip, 0x2003);
    rig.state().rip = 0x1000;
    rig.state().set_gpr(0, 0x9000);
    assert_eq!(rig.call(slot), Status::Goto);
    assert_eq!((rig.state().rip, rig.state().gpr(3)), (0x9000, 0));
}

#[test]
fn calls_go_only_so_deep() {
    let (mut rig, slot) = linked(&[CALLER], |_| {});
    rig.state().set_gpr(0, 0x1000);
    assert_eq!(rig.call(slot), Status::Goto);
    assert_eq!((rig.state().rip, rig.state().gpr(1)), (0x1000, u64::from(MAX_DEPTH) + 1));
}

#[test]
fn regions_that_leave_for_each_other_run_until_the_budget_is_spent() {
    let text = |to: i32| {
        format!(
            "region i64
            b0 +0 retires 3:
                at +0 done 0
                v1 = get rcx
                v2 = const.i64 1
                v3 = add v1, v2
                set rcx, v3
                v5 = rip {to:+}
                leave v5"
        )
    };
    let (there, back) = (text(0x1000), text(-0x1000));
    for (tail_calls, runs) in [(true, 100_000), (false, 1)] {
        let (mut rig, slot) = linked(&[&there, &back], |rig| {
            (rig.env.exact, rig.env.tail_calls) = (true, tail_calls);
        });
        rig.state().budget = 300_002;
        let status = rig.call(slot);
        assert_eq!(status, if tail_calls { Status::Redo } else { Status::Goto });
        assert_eq!((rig.state().gpr(1), rig.state().budget), (runs, 300_002 - 3 * runs as i64));
    }
}

#[test]
fn other_mode_does_not_match() {
    let leave = "region i32\nb0 +0 retires 1:\n v0 = const.i32 0x2000\n leave v0";
    let (mut rig, slot) = linked(&[leave, leave], |_| {});
    let other = aero_jit::job::Key { mode: 4, ..key(Type::I32) };
    let region = parse(leave).expect("a region");
    let emitted = module(&rig.env, &[Some((region, other))]);
    let stranger = rig.install(emitted);
    rig.state().budget = 10;
    assert_eq!(rig.call(stranger), Status::Goto);
    assert_eq!(rig.state().budget, 9);
    assert_eq!(rig.call(slot), Status::Redo);
    assert_eq!(rig.state().budget, 0);
}

#[test]
fn only_what_crosses_a_page_needs_help() {
    let text = |size: u8, ty: &str| {
        format!(
            "region i64
            b0 +0 retires 1:
                at +0 done 0
                v1 = get rax
                v2 = load{size}u.{ty} v1
                v3 = get rdx
                store{size} v3, v2
                interpret +1"
        )
    };
    for (size, ty) in [(1, "i32"), (2, "i32"), (4, "i64"), (8, "i64"), (16, "v128")] {
        let (mut rig, slot) = linked(&[&text(size, ty)], |_| {});
        for (from, to, slow) in
            [(0x100, 0x200, 0), (0x101, 0x203, 0), (0xfff, 0x1fff, if size > 1 { 2 } else { 0 })]
        {
            rig.ram().iter_mut().enumerate().for_each(|(n, byte)| *byte = (n * 7 + n / 251) as u8);
            let wanted = rig.ram()[from..from + usize::from(size)].to_vec();
            rig.slow = 0;
            rig.state().set_gpr(0, from as u64);
            rig.state().set_gpr(2, to as u64);
            assert_eq!(rig.call(slot), Status::Redo);
            assert_eq!(rig.state().rip & 0xfff, 1, "size {size} from {from:#x}");
            rig.state().rip = 0x1000;
            assert_eq!(rig.slow, slow);
            assert_eq!(rig.ram()[to..to + usize::from(size)], wanted);
        }
    }
}

#[test]
fn exact_budget_is_asked_again_after_the_interpreter() {
    let text = "region i64
        interpreted +0
        b0 +0 retires 3:
            at +0 done 0
            exec 0 reads rcx writes rcx
            at +2 done 1
            v3 = const.i64 7
            set rbx, v3
            at +4 done 2
            set rdx, v3
            jump b1
        b1 +6 retires 2:
            v0 = rip +9
            leave v0";
    for (greedy, rip, budget) in [(0, 0x1009, 5), (5, 0x1009, 0), (6, 0x1002, 3)] {
        let (mut rig, slot) = linked(&[text], |rig| {
            rig.env.exact = true;
            rig.ops = vec![Op { greedy, ..Op::default() }];
        });
        rig.state().budget = 10;
        let status = if rip == 0x1009 { Status::Goto } else { Status::Redo };
        assert_eq!(rig.call(slot), status, "greedy {greedy}");
        assert_eq!((rig.state().rip, rig.state().budget), (rip, budget));
        assert_eq!(rig.state().gpr(3), if rip == 0x1009 { 7 } else { 0 });
    }
}

#[test]
fn exact_budget_is_asked_again_after_a_call() {
    let callee = "region i64\nb0 +0 retires 5:\n v0 = get rdx\n return v0";
    let (mut rig, slot) = linked(&[CALLER, callee], |rig| rig.env.exact = true);
    [(0, 0x2000), (2, 0x1005)].into_iter().for_each(|(n, value)| rig.state().set_gpr(n, value));
    rig.state().budget = 7;
    assert_eq!(rig.call(slot), Status::Redo);
    assert_eq!((rig.state().rip, rig.state().budget, rig.state().gpr(3)), (0x1005, 0, 0));
}

#[test]
fn interpreted_instruction_finds_its_own_place_and_ends_the_region_if_it_stops() {
    let text = "region i64
        interpreted +3
        b0 +0 retires 3:
            at +0 done 0
            v1 = const.i64 7
            set rbx, v1
            at +3 done 1
            exec 0 reads rcx writes rcx
            at +5 done 2
            set rdx, v1
            interpret +9";
    for (stops, status, rdx, budget) in [(0, Status::Redo, 7, 7), (1, Status::Stopped, 0, 8)] {
        let (mut rig, slot) = linked(&[text], |rig| {
            rig.ops = vec![Op { writes: ir::Touched { gprs: 2, ..Default::default() }, ..Op::default() }];
            rig.stops = stops;
        });
        rig.state().budget = 10;
        rig.state().set_gpr(2, 0);
        assert_eq!(rig.call(slot), status);
        assert_eq!(rig.found, [(0x1003, 9)]);
        let state = rig.state();
        assert_eq!((state.gpr(3), state.gpr(2), state.budget), (7, rdx, budget));
        assert_ne!(state.gpr(1), 0);
    }
}

#[test]
fn missing_region_is_redone() {
    let mut rig = Rig::new();
    let emitted = module(&rig.env, &[None]);
    let slot = rig.install(emitted);
    rig.state().rip = 0x77;
    assert_eq!((rig.call(slot), rig.state().rip), (Status::Redo, 0x77));
}
