//! Real mode: segments of 64 KiB and what is at their ends, the vector table, what does not exist there.

use super::super::case::{Case, Env, flag, reg};
use super::super::layout::{WINDOW, at, enter};
use crate::random::Random;

const PARAGRAPH: u16 = (WINDOW >> 4) as u16;

/// One instruction in real mode.
pub fn real(r: &mut Random) -> Case {
    let (how, code) = real_code(r);
    let mut case = Case::new(Env::Real, how);
    let unreal = r.one_in(4);
    let offset = r.near(&[0xffff, 0xfffc, at::DATA.into(), 0x1_0000]);
    let offset = if r.one_in(2) { offset & 0xffff } else { offset };
    let sp = if r.one_in(3) { r.near(&[0x10, 0x1_0000]) & 0xffff } else { at::STACK0.into() };
    case.title += &format!(" at {offset:x}, SP {sp:x}{}", if unreal { ", unreal" } else { "" });
    if unreal {
        case.how(enter::UNREAL);
    }
    case.reg(reg::EBX, offset);
    case.reg(reg::ESI, offset);
    case.reg(reg::EDI, offset ^ r.word_below(4));
    case.reg(reg::EAX, r.word());
    case.reg(reg::ECX, r.word_below(4));
    case.reg(reg::EDX, r.word());
    case.ss_sp(PARAGRAPH, sp);
    case.flags(r.word() & 0x7fd5 & !(flag::TF | flag::IF));
    if how_far(&case.title) {
        // What goes somewhere must not go anywhere.
        case.reg(reg::EBX, at::DATA.into());
        let first = if case.title.starts_with("iret") { 0xfffb } else { 0xffff };
        let sp = r.pick(&[at::STACK0, at::STACK0, first, 0xfffd]);
        if sp == at::STACK0 {
            case.ss_sp(PARAGRAPH, sp.into());
        } else {
            high_stack(&mut case, sp);
        }
        case.title += &format!(", rather SP {sp:x}");
    }
    case.patches.put16(at::DATA, at::CODE_B);
    case.patches.put16(at::DATA + 2, PARAGRAPH);
    case.patches.put16(at::DATA + 4, PARAGRAPH);
    case.patches.put(at::STACK0, &[&at::CODE_B.to_le_bytes()[..], &PARAGRAPH.to_le_bytes()].concat());
    case.patches.put16(at::STACK0 + 4, r.word() as u16 & 0x7fd5 & !(flag::TF | flag::IF) as u16);
    place(&mut case, r, &code);
    case
}

/// A stack that has no room above, in a segment that begins below the window. What an emulator finds there that knows
/// no limits is IP, CS and flags that lead to INT3.
fn high_stack(case: &mut Case, sp: u16) {
    const BELOW: u16 = 0x500;
    case.ss_sp(PARAGRAPH - BELOW, sp.into());
    let words = [at::CODE_B + 0x800, PARAGRAPH, flag::FIXED as u16];
    let bytes: Vec<u8> = words.into_iter().flat_map(u16::to_le_bytes).collect();
    case.patches.put(sp - (BELOW << 4), &bytes);
}

/// Whether an instruction takes its target, or an operand of several parts, from memory.
fn how_far(title: &str) -> bool {
    ["far", "ret", "bound", "lds", "sgdt", "popf", "mov ss"].iter().any(|what| title.contains(what))
}

/// Puts the code at its usual place, or across the end of the segment.
fn place(case: &mut Case, r: &mut Random, code: &[u8]) {
    if !r.one_in(12) {
        return case.code(code);
    }
    let start = 0u16.wrapping_sub(1 + r.word_below(code.len() as u32) as u16);
    case.cs_ip(PARAGRAPH, start.into());
    // What would wrap is left out: the record lies at the begin of the window.
    case.patches.put(start, &code[..usize::from(0u16.wrapping_sub(start))]);
    // Where an emulator that knows no limits goes on; the stub of the vector writes over it.
    case.patches.put(at::RECORD, &[0xcc, 0xcc]);
    case.title += " at the end of the segment";
}

fn real_code(r: &mut Random) -> (String, Vec<u8>) {
    let vector = r.word_below(80) as u8;
    let (how, code): (&str, Vec<u8>) = match r.word_below(40) {
        0 => ("mov al, m", vec![0x8a, 0x07]),
        1 => ("mov ax, m", vec![0x8b, 0x07]),
        2 => ("mov eax, m", vec![0x66, 0x8b, 0x07]),
        3 => ("mov m, ax", vec![0x89, 0x07]),
        4 => ("mov m, eax", vec![0x66, 0x89, 0x07]),
        5 => ("mov al, [ebx]", vec![0x67, 0x8a, 0x03]),
        6 => ("mov eax, [ebx]", vec![0x67, 0x66, 0x8b, 0x03]),
        7 => ("mov [ebx], ax", vec![0x67, 0x89, 0x03]),
        8 => ("rep movsw", vec![0xf3, 0xa5]),
        9 => ("rep stosd", vec![0xf3, 0x66, 0xab]),
        10 => ("lodsw", vec![0xad]),
        11 => ("push ax", vec![0x50]),
        12 => ("push eax", vec![0x66, 0x50]),
        13 => ("pop cx", vec![0x59]),
        14 => ("pusha", vec![0x60]),
        15 => ("popad", vec![0x66, 0x61]),
        16..19 => return (format!("int {vector}"), vec![0xcd, vector]),
        19 => ("int3", vec![0xcc]),
        20 => ("into", vec![0xce]),
        21 => ("bound ax, m", vec![0x62, 0x07]),
        22 => ("divide error", vec![0x31, 0xc0, 0xf7, 0xf0]),
        23 => ("iret", vec![0xcf]),
        24 => ("call far", [&[0x9a][..], &at::CODE_B.to_le_bytes(), &PARAGRAPH.to_le_bytes()].concat()),
        25 => ("call far [bx]", vec![0xff, 0x1f]),
        26 => ("jmp far [bx]", vec![0xff, 0x2f]),
        27 => ("retf", vec![0xcb]),
        28 => ("lds dx, [bx]", vec![0xc5, 0x17]),
        29 => ("mov ss, m; mov ax, ss", vec![0x8e, 0x57, 4, 0x8c, 0xd0]),
        30 => ("sldt ax", vec![0x0f, 0x00, 0xc0]),
        31 => ("lar ax, bx", vec![0x0f, 0x02, 0xc3]),
        32 => ("arpl ax, bx", vec![0x63, 0xd8]),
        33 => ("smsw eax; sgdt [bx]", vec![0x66, 0x0f, 0x01, 0xe0, 0x0f, 0x01, 0x07]),
        34 => ("mov cs, ax", vec![0x8e, 0xc8]),
        35 => ("mov eax, cr0; mov cr0, eax", vec![0x0f, 0x20, 0xc0, 0x0f, 0x22, 0xc0]),
        36 => ("pushf; popf", vec![0x9c, 0x9d]),
        37 => ("popfd", vec![0x66, 0x9d]),
        38 => ("enter 4, n; leave", vec![0xc8, 4, 0, r.word_below(4) as u8, 0xc9]),
        _ => ("lock mov", vec![0xf0, 0x89, 0x07]),
    };
    (how.into(), code)
}
