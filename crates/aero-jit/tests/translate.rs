//! Whatever the bytes are, what they are translated to keeps the rules of the intermediate language.

use aero_jit::ir::Region;
use aero_jit::job::{Env, Key, Page, Source, Tier};
use aero_jit::{flags, translate, verify};

fn env() -> Env {
    Env {
        state: 0x1000,
        read: [0x10000, 0x810000],
        write: [0x1010000, 0x1810000],
        jumps: 0x2010000,
        exact: true,
        tail_calls: true,
        model: 2,
        tier: Tier::Optimizing,
    }
}

fn source(bytes: &[u8], long: bool) -> Source {
    let mut page = vec![0xcc; 4096];
    page[0x100..][..bytes.len()].copy_from_slice(bytes);
    Source {
        head: 0x40_0100,
        key: Key { long, user: true, mode: 1 },
        pages: vec![Page { delta: 0, bytes: page, ran: None, heads: Vec::new() }],
    }
}

fn valid(what: &str, bytes: &[u8], region: &Region) {
    if let Err(wrong) = verify::verify(region) {
        panic!("{what} of {bytes:02x?}: {wrong}\n{region}");
    }
}

fn check(bytes: &[u8], long: bool) {
    let Some((mut region, _)) = translate::region(&source(bytes, long), &env()) else { return };
    valid("translation", bytes, &region);
    flags::run(&mut region);
    valid("flags", bytes, &region);
}

#[test]
fn random_bytes_keep_the_rules() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for n in 0..20_000 {
        let bytes: Vec<u8> = (0..64)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect();
        check(&bytes, n % 2 == 0);
    }
}

#[test]
fn loop_with_a_call_is_one_region() {
    // mov ecx, 10; l: call f; dec ecx; jnz l; ret; f: add eax, ecx; ret
    let bytes = [0xb9, 10, 0, 0, 0, 0xe8, 5, 0, 0, 0, 0xff, 0xc9, 0x75, 0xf7, 0xc3, 0x01, 0xc8, 0xc3];
    let (mut region, blocks) = translate::region(&source(&bytes, true), &env()).expect("a region");
    assert_eq!(blocks.len(), 4);
    flags::run(&mut region);
    valid("flags", &bytes, &region);
}

#[test]
fn operand_in_the_code_segment_is_left_to_the_interpreter() {
    // add cs:[eax], ecx; ret: 32-bit code may not write there.
    let (region, _) = translate::region(&source(&[0x2e, 0x01, 0x08, 0xc3], false), &env()).expect("a region");
    assert_eq!(region.interpreted, [0]);
    let (region, _) = translate::region(&source(&[0x2e, 0x01, 0x08, 0xc3], true), &env()).expect("a region");
    assert!(region.interpreted.is_empty(), "64-bit code has no segments to look at");
}
