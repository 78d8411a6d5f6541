//! Segments in protected mode: loading them by every way, limits, questions about descriptors, stacks of two sizes.

use super::super::case::{Case, Env, descriptor, flag, reg, sel};
use super::super::layout::{at, linear};
use crate::random::Random;

/// A random access byte: any type, mostly present, mostly a code or data segment.
pub fn access(r: &mut Random) -> u8 {
    let mut access = r.word_below(256) as u8;
    if !r.one_in(4) {
        access |= 0x90;
    }
    access
}

/// A random selector among the free ones of the global or local table, with any RPL; rarely null or beyond the limit.
pub fn selector(r: &mut Random) -> u16 {
    let rpl = r.word_below(4) as u16;
    match r.word_below(16) {
        0 => rpl,
        1 => 0x3f8 | rpl,
        2 => 0x400 | rpl,
        3 => 0x204 | rpl,
        4..8 => (r.word_below(0x38) as u16 + 1) << 3 | 4 | rpl,
        _ => (sel::FREE + (r.word_below(0x20) as u16) * 8) | rpl,
    }
}

/// A protected mode to run in, with and without paging.
pub fn env(r: &mut Random) -> Env {
    r.pick(&[Env::Flat, Env::Flat, Env::Paged])
}

/// MOV, POP, LDS and their like to any segment register.
pub fn load(r: &mut Random) -> Case {
    let (selector, access, cpl) = (selector(r), access(r), r.word_below(4) as u8);
    let flags = r.word_below(16) as u8;
    let segment = r.pick(&[0u8, 2, 3, 4, 5]);
    let (how, code) = load_code(r, segment);
    let title = format!("{how} {segment}, {selector:#x} at CPL {cpl}: access {access:02x} flags {flags:x}");
    let mut case = Case::new(env(r), title);
    case.ring(cpl);
    case.patches.table(selector, descriptor(linear(at::DATA), r.word_below(0x1_0000), access, flags));
    case.reg(reg::EAX, selector.into());
    case.reg(reg::EBX, linear(at::DATA));
    case.patches.put32(at::DATA, r.word());
    case.patches.put16(at::DATA + 4, selector);
    case.flags(r.word() & 0x8d5 | if cpl == 3 { 0 } else { r.word_below(2) * flag::AC });
    case.code(&code);
    case
}

fn load_code(r: &mut Random, segment: u8) -> (&'static str, Vec<u8>) {
    let far = [0xc4, 0xb2, 0xc5, 0xb4, 0xb5];
    match (r.word_below(4), segment) {
        (0, _) => ("mov", vec![0x8e, 0xc0 | segment << 3]),
        (1, 0 | 2 | 3) => ("pop", vec![0x50, 0x07 | segment << 3]),
        (1, _) => ("pop", vec![0x50, 0x0f, 0xa1 | (segment - 4) << 3]),
        (2, 0 | 3) => ("lxs", vec![if segment == 0 { 0xc4 } else { 0xc5 }, 0x0b]),
        (2, _) => ("lxs", vec![0x0f, far[usize::from(segment) - 1], 0x0b]),
        _ => ("mov", vec![0x8e, 0x43 | segment << 3, 4]),
    }
}

/// Where the limit cases look: around the limit, and around the ends of 64 KiB and 4 GiB.
const EDGES: [u32; 6] = [0, 0xffff, 0x1_0000, 0x7fff_ffff, 0xffff_fff8, 0x800];

/// A read or write near the limit of a segment: data up and down, code, granular or not.
pub fn limits(r: &mut Random) -> Case {
    let kinds: [u8; 8] = [0xf3, 0xf1, 0xf7, 0xf5, 0xfb, 0xf9, 0xf3, 0xf7];
    let access = r.pick(&kinds);
    let big = if r.one_in(2) { 4 } else { 0 };
    let granular = if r.one_in(4) { 8 } else { 0 };
    let limit = if granular != 0 { r.word_below(4) } else { r.near(&[0x10, 0x800, 0xfff, 0xfff8]) & 0xffff };
    let bytes_limit = if granular != 0 { limit << 12 | 0xfff } else { limit };
    let offset = if r.one_in(4) { r.near(&EDGES) } else { r.near(&[bytes_limit]) };
    let (how, code) = access_code(r);
    let title = format!("{how} at {offset:x}: access {access:02x} big {big} limit {bytes_limit:x}");
    let mut case = Case::new(env(r), title);
    let cpl = r.pick(&[0, 3]);
    case.ring(cpl);
    // The base keeps what lies beyond 64 KiB and below 0 inside RAM that all emulators have.
    case.patches.gdt(sel::FREE, descriptor(linear(at::DATA), limit, access, big | granular));
    case.segment(super::super::layout::state::ES, sel::FREE | 3);
    case.reg(reg::EBX, offset);
    case.reg(reg::EAX, r.word());
    case.reg(reg::EDI, offset);
    case.patches.put32(at::DATA, r.word());
    case.code(&code);
    case
}

/// An instruction that works on `es:[ebx]` or `es:[edi]`.
fn access_code(r: &mut Random) -> (&'static str, Vec<u8>) {
    match r.word_below(12) {
        0 => ("mov al, m", vec![0x26, 0x8a, 0x03]),
        1 => ("mov ax, m", vec![0x66, 0x26, 0x8b, 0x03]),
        2 => ("mov eax, m", vec![0x26, 0x8b, 0x03]),
        3 => ("mov m, al", vec![0x26, 0x88, 0x03]),
        4 => ("mov m, ax", vec![0x66, 0x26, 0x89, 0x03]),
        5 => ("mov m, eax", vec![0x26, 0x89, 0x03]),
        6 => ("xchg m, eax", vec![0x26, 0x87, 0x03]),
        7 => ("stosd", vec![0xab]),
        8 => ("scasb", vec![0xae]),
        9 => ("cmpxchg8b m", vec![0x26, 0x0f, 0xc7, 0x0b]),
        10 => ("push m", vec![0x26, 0xff, 0x33]),
        _ => ("mov al, [bx]", vec![0x67, 0x26, 0x8a, 0x07]),
    }
}

/// LAR, LSL, VERR, VERW, ARPL, LLDT, LTR, SLDT, STR.
pub fn query(r: &mut Random) -> Case {
    let (selector, access, cpl) = (selector(r), r.word_below(256) as u8, r.word_below(4) as u8);
    let (how, code, privileged) = query_code(r);
    let title = format!("{how} {selector:#x} at CPL {cpl}: access {access:02x}");
    let mut case = Case::new(if r.one_in(4) { Env::Long } else { env(r) }, title);
    let cpl = if case.env == Env::Long && cpl != 0 || privileged && r.one_in(2) { cpl & !3 } else { cpl };
    case.ring(cpl);
    case.patches.table(
        selector,
        descriptor(linear(at::TSS_B), r.word_below(0x10_0000), access, r.word_below(16) as u8),
    );
    case.reg(reg::EAX, u32::from(selector) | r.word() << 16);
    case.reg(reg::ECX, r.word());
    case.reg(reg::EBX, linear(at::DATA));
    case.patches.put32(at::DATA, r.word());
    case.flags(r.word() & 0x8d5);
    case.code(&code);
    case
}

fn query_code(r: &mut Random) -> (&'static str, Vec<u8>, bool) {
    match r.word_below(14) {
        0 | 1 => ("lar ecx, ax", vec![0x0f, 0x02, 0xc8], false),
        2 => ("lar cx, ax", vec![0x66, 0x0f, 0x02, 0xc8], false),
        3 | 4 => ("lsl ecx, ax", vec![0x0f, 0x03, 0xc8], false),
        5 => ("lsl cx, ax", vec![0x66, 0x0f, 0x03, 0xc8], false),
        6 => ("verr ax", vec![0x0f, 0x00, 0xe0], false),
        7 => ("verw ax", vec![0x0f, 0x00, 0xe8], false),
        8 => ("arpl ax, cx", vec![0x63, 0xc8], false),
        9 => ("lldt ax; sldt ecx", vec![0x0f, 0x00, 0xd0, 0x0f, 0x00, 0xc1], true),
        10 => ("ltr ax; str ecx", vec![0x0f, 0x00, 0xd8, 0x0f, 0x00, 0xc9], true),
        11 => ("sldt cx; str [ebx]", vec![0x66, 0x0f, 0x00, 0xc1, 0x0f, 0x00, 0x0b], false),
        12 => ("smsw ecx", vec![0x0f, 0x01, 0xe1], false),
        _ => ("smsw [ebx]", vec![0x0f, 0x01, 0x23], false),
    }
}

/// Pushes, pops, calls and frames with a 16-bit stack in 32-bit code, the other way round, and near the stack's ends.
pub fn stack(r: &mut Random) -> Case {
    let (code16, stack16) = (r.one_in(2), r.one_in(2));
    let (how, code) = stack_code(r);
    let sp = match r.word_below(4) {
        0 => r.near(&[0, 0x1_0000]) & if stack16 { 0xffff } else { u32::MAX },
        1 => u32::from(at::STACK0) | r.word_below(2) << 16,
        _ => u32::from(at::STACK0) - 4 * r.word_below(3),
    };
    let title =
        format!("{how}, code of {} bits, SP {sp:x} of {}", 32 >> u8::from(code16), 32 >> u8::from(stack16));
    let mut case = Case::new(Env::Flat, title);
    case.ring(0);
    if code16 {
        case.cs_ip(sel::CODE16, at::CODE.into());
    }
    let flags = if stack16 { 0 } else { 4 };
    case.patches.gdt(sel::FREE, descriptor(super::super::layout::WINDOW, 0xffff, 0x93, flags));
    case.ss_sp(sel::FREE, sp);
    for n in [reg::EAX, reg::ECX, reg::EDX] {
        case.reg(n, r.word());
    }
    case.reg(reg::EBX, u32::from(at::DATA));
    case.reg(reg::EBP, r.near(&[at::STACK0.into(), 0, 0x1_0000]));
    case.segment(super::super::layout::state::DS, sel::DATA16);
    let short = code16 != (code[0] == 0x66);
    return_addresses(&mut case, code16, short);
    case.code(&code);
    case
}

/// What RET takes for a return address is one, wherever the stack may be. Its lower two bytes are alike, so that a word
/// that is not aligned leads nowhere else. Below the window's begin 32-bit code finds address 0, where UD2 waits; for
/// 16-bit code that is the window's begin itself, whose first 12 bytes the stub of the vector overwrites.
fn return_addresses(case: &mut Case, code16: bool, short: bool) {
    let address: u32 = 0xb0b0 | if code16 { 0 } else { linear(0) };
    let bytes = &address.to_le_bytes()[..if short { 2 } else { 4 }];
    case.patches.put(at::STACK0 - 16, &bytes.repeat(64 / bytes.len()));
    case.patches.put(0xfff0, &bytes.repeat(16 / bytes.len()));
    if code16 {
        case.patches.put(at::RECORD, &bytes.repeat(12 / bytes.len()));
    }
}

fn stack_code(r: &mut Random) -> (&'static str, Vec<u8>) {
    let (how, code) = match r.word_below(16) {
        0 => ("push eax", vec![0x50]),
        1 => ("pop ecx", vec![0x59]),
        2 => ("push esp", vec![0x54]),
        3 => ("pop esp", vec![0x5c]),
        4 => ("pusha", vec![0x60]),
        5 => ("popa", vec![0x61]),
        6 => ("enter 8, 0", vec![0xc8, 8, 0, 0]),
        7 => ("enter 8, n", vec![0xc8, 8, 0, r.word_below(40) as u8]),
        8 => ("leave", vec![0xc9]),
        9 => ("call", vec![0xe8, 0, 0, 0, 0]),
        10 => ("ret", vec![0xc3]),
        11 => ("ret 6", vec![0xc2, 6, 0]),
        12 => ("pushf", vec![0x9c]),
        13 => ("push ds; pop es", vec![0x1e, 0x07]),
        14 => ("pop [esp+4]", vec![0x67, 0x8f, 0x44, 0x24, 4]),
        _ => ("push imm8", vec![0x6a, 0x85]),
    };
    if r.one_in(3) { (how, [&[0x66][..], &code].concat()) } else { (how, code) }
}
