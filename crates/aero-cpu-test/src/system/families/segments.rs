//! Loading segment registers in protected mode: every type of descriptor by every way.

use super::super::case::{Case, Env, descriptor, flag, reg, sel};
use super::super::layout::{at, linear};
use super::super::random::Random;

/// A random access byte: any type, mostly present, mostly a code or data segment.
pub fn access(r: &mut Random) -> u8 {
    let mut access = r.below(256) as u8;
    if !r.one_in(4) {
        access |= 0x90;
    }
    access
}

/// A random selector among the free ones of the global or local table, with any RPL; rarely null or beyond the limit.
pub fn selector(r: &mut Random) -> u16 {
    let rpl = r.below(4) as u16;
    match r.below(16) {
        0 => rpl,
        1 => 0x3f8 | rpl,
        2 => 0x400 | rpl,
        3 => 0x204 | rpl,
        4..8 => (r.below(0x38) as u16 + 1) << 3 | 4 | rpl,
        _ => sel::FREE + (r.below(0x20) as u16) * 8 | rpl,
    }
}

/// A protected mode to run in, with and without paging.
pub fn env(r: &mut Random) -> Env {
    r.pick(&[Env::Flat, Env::Flat, Env::Paged])
}

/// MOV, POP, LDS and their like to any segment register.
pub fn load(r: &mut Random) -> Case {
    let (selector, access, cpl) = (selector(r), access(r), r.below(4) as u8);
    let flags = r.below(16) as u8;
    let segment = r.pick(&[0u8, 2, 3, 4, 5]);
    let (how, code) = load_code(r, segment);
    let title = format!("{how} {segment}, {selector:#x} at CPL {cpl}: access {access:02x} flags {flags:x}");
    let mut case = Case::new(env(r), title);
    case.ring(cpl);
    case.patches.table(selector, descriptor(linear(at::DATA), r.below(0x1_0000), access, flags));
    case.reg(reg::EAX, selector.into());
    case.reg(reg::EBX, linear(at::DATA));
    case.patches.put32(at::DATA, r.word());
    case.patches.put16(at::DATA + 4, selector);
    case.flags(r.word() & 0x8d5 | if cpl == 3 { 0 } else { r.below(2) * flag::AC });
    case.code(&code);
    case
}

fn load_code(r: &mut Random, segment: u8) -> (&'static str, Vec<u8>) {
    let far = [0xc4, 0xb2, 0xc5, 0xb4, 0xb5];
    match (r.below(4), segment) {
        (0, _) => ("mov", vec![0x8e, 0xc0 | segment << 3]),
        (1, 0 | 2 | 3) => ("pop", vec![0x50, 0x07 | segment << 3]),
        (1, _) => ("pop", vec![0x50, 0x0f, 0xa1 | (segment - 4) << 3]),
        (2, 0 | 3) => ("lxs", vec![if segment == 0 { 0xc4 } else { 0xc5 }, 0x0b]),
        (2, _) => ("lxs", vec![0x0f, far[usize::from(segment) - 1], 0x0b]),
        _ => ("mov", vec![0x8e, 0x43 | segment << 3, 4]),
    }
}
