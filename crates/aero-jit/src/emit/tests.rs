//! What every module must be: valid, with its regions in the table and its hints in their section. What regions do is
//! tested where there is an engine.

use super::*;
use crate::ir::{BlockId, End, Inst, Type, Value};
use crate::job::Tier;
use crate::random::Random;
use crate::structure::make_reducible;
use crate::text::parse;
use wasmparser::{KnownCustom, Parser, Payload, Validator, WasmFeatures};

const KEY: Key = Key { long: true, user: false, mode: 5 };

fn env() -> Env {
    Env {
        state: 0x1000,
        read: [0x1_0000, 0x81_0000],
        write: [0x101_0000, 0xf000_0000],
        jumps: 0x200_0000,
        exact: true,
        tail_calls: true,
        model: 0,
        tier: Tier::Optimizing,
    }
}

fn validate(wasm: &[u8]) {
    let features = WasmFeatures::WASM2 | WasmFeatures::THREADS | WasmFeatures::TAIL_CALL;
    Validator::new_with_features(features).validate_all(wasm).unwrap();
}

fn one(text: &str) -> Emitted {
    module(&env(), &[Some((parse(text).unwrap(), KEY))])
}

/// A function's operators with their offsets from its body's begin.
fn operators(wasm: &[u8], function: usize) -> Vec<(u32, String)> {
    let bodies = Parser::new(0).parse_all(wasm).filter_map(|payload| match payload.unwrap() {
        Payload::CodeSectionEntry(body) => Some(body),
        _ => None,
    });
    let body = bodies.into_iter().nth(function).unwrap();
    let begin = body.range().start;
    let mut reader = body.get_operators_reader().unwrap();
    let mut found = Vec::new();
    while !reader.eof() {
        let (op, at) = reader.read_with_offset().unwrap();
        found.push(((at - begin) as u32, format!("{op:?}")));
    }
    found
}

/// How many operators of this name a function has.
fn count(wasm: &[u8], name: &str) -> usize {
    operators(wasm, 0).iter().filter(|(_, op)| op.split([' ', '{']).next() == Some(name)).count()
}

#[test]
fn random_regions_make_valid_modules() {
    for seed in 0..1500 {
        let mut region = Random::new(seed).region();
        crate::flags::run(&mut region);
        make_reducible(&mut region);
        let long = region.word == Type::I64;
        let key = Key { long, user: seed & 1 != 0, mode: seed % 9 };
        let env = Env { exact: seed % 3 == 0, tail_calls: seed % 5 != 0, ..env() };
        let emitted = module(&env, &[Some((region, key)), None]);
        assert_eq!(emitted.good, [true, false], "seed {seed}");
        validate(&emitted.wasm);
    }
}

#[test]
fn what_earlier_passes_lower_is_refused_for_its_region_alone() {
    let abstract_flags = "region i64\nb0 +0 retires 1:\n v0 = const.i64 1\n flags sub.8 v0, v0\n leave v0";
    let good = "region i32\nb0 +0 retires 0:\n v0 = rip +7\n leave v0";
    let regions = [abstract_flags, good].map(|text| Some((parse(text).unwrap(), KEY)));
    let emitted = module(&env(), &regions);
    assert_eq!(emitted.good, [false, true]);
    validate(&emitted.wasm);
    assert!(operators(&emitted.wasm, 0).iter().any(|(_, op)| op == "I32Const { value: 2 }"));
}

#[test]
fn edge_to_nowhere_and_irreducible_loop_are_refused() {
    let block = |end| crate::ir::Block { offset: 0, insts: vec![Inst::Const(Type::I32, 0)], end, retires: 1 };
    let branch = |yes, no| block(End::Branch { when: Value(0), yes: BlockId(yes), no: BlockId(no) });
    for blocks in [vec![block(End::Jump(BlockId(3)))], vec![branch(1, 2), branch(2, 1), branch(1, 2)]] {
        let region = Region { word: Type::I32, blocks, interpreted: vec![], second: None };
        assert_eq!(module(&env(), &[Some((region, KEY))]).good, [false]);
    }
}

#[test]
fn dispatcher_is_valid() {
    validate(&dispatcher(&env()));
}

#[test]
fn hints_name_branches_in_rising_order() {
    let emitted = one("region i64\ninterpreted +3\nb0 +0 retires 2:
        at +0 done 0
        v1 = get rax
        v2 = load8u.i64 v1
        set rbx, v2
        at +3 done 1
        exec 0 reads rax writes rbx
        leave v1");
    let hints = Parser::new(0).parse_all(&emitted.wasm).find_map(|payload| match payload.unwrap() {
        Payload::CustomSection(section) => match section.as_known() {
            KnownCustom::BranchHints(hints) => Some(hints),
            _ => None,
        },
        _ => None,
    });
    for function in hints.expect("a section of hints") {
        let function = function.unwrap();
        let ops = operators(&emitted.wasm, function.func as usize - HELPERS.len());
        let mut last = 0;
        for hint in function.hints {
            let hint = hint.unwrap();
            assert!(hint.func_offset > last);
            last = hint.func_offset;
            let op = &ops.iter().find(|(at, _)| *at == hint.func_offset).expect("an operator").1;
            assert!(op.starts_with("If") || op.starts_with("BrIf"), "{op}");
        }
    }
}

#[test]
fn value_used_once_needs_no_local() {
    let emitted = one("region i64\nb0 +0 retires 1:
        at +0 done 0
        v1 = get rax
        v2 = const.i64 5
        v3 = add.i64 v1, v2
        v4 = mul.i64 v3, v3
        set rax, v4
        interpret +3");
    // The sum waits; neither the register nor the product do.
    let sets = operators(&emitted.wasm, 0);
    let begin = sets.iter().position(|(_, op)| op == "I64Mul").unwrap();
    assert!(sets[begin + 1].1.starts_with("LocalSet"));
    assert_eq!(count(&emitted.wasm, "I64Add"), 2, "the sum, and RIP of the side exit");
}

#[test]
fn variable_that_changes_before_its_use_is_read_before() {
    let emitted = one("region i64\nb0 +0 retires 1:
        at +0 done 0
        v1 = get rax
        v2 = get rbx
        set rax, v2
        set rbx, v1
        interpret +3");
    let ops: Vec<String> = operators(&emitted.wasm, 0).into_iter().map(|(_, op)| op).collect();
    let local = |n: usize| ops[n].split(['{', '}']).nth(1).unwrap().to_owned();
    let at = ops.windows(6).position(|w| {
        let kinds: Vec<bool> = w.iter().map(|op| op.starts_with("LocalGet")).collect();
        kinds == [true, false, true, false, true, false] && w.iter().all(|op| op.starts_with("Local"))
    });
    let at = at.expect("three moves");
    assert_eq!(local(at), local(at + 3), "the first to be overwritten is what was put away");
    assert_eq!((local(at + 1), local(at + 2)), (local(at + 4), local(at + 5)));
}

#[test]
fn way_out_stores_only_what_has_changed() {
    let stores = |text: &str| count(&one(text).wasm, "I64Store");
    // The side exit and the way out store RIP and the budget each.
    let none = stores("region i64\nb0 +0 retires 1:\n v0 = get rax\n leave v0");
    let some = stores("region i64\nb0 +0 retires 1:\n v0 = get rax\n set rbx, v0\n leave v0");
    assert_eq!((none, some), (4, 6));
}

#[test]
fn accesses_of_one_kind_share_a_function() {
    let functions = |text: &str| {
        let wasm = one(text).wasm;
        let payloads = Parser::new(0).parse_all(&wasm);
        payloads.filter(|p| matches!(p, Ok(Payload::CodeSectionEntry(_)))).count()
    };
    let load = "v0 = get rax\n v1 = load4u.i64 v0\n v2 = load4u.i64 v1\n v3 = load8u.i64 v2\n leave v3";
    assert_eq!(functions(&format!("region i64\nb0 +0 retires 1:\n {load}")), 3);
}
