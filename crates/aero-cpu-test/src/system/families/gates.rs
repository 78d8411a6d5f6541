//! Control transfers between segments: far jumps, calls and returns, call gates, interrupt gates, IRET.

use super::super::case::{Case, descriptor, flag, gate, reg, sel};
use super::super::layout::{WINDOW, at, linear};
use super::segments;
use crate::random::Random;

/// A code segment to go to, often a good one. The selector has the RPL; the descriptor is put where it belongs.
fn code_target(case: &mut Case, r: &mut Random, slot: u16) -> u16 {
    if r.one_in(4) {
        return r.pick(&[
            sel::CODE0,
            sel::CODE1,
            sel::CODE2,
            sel::CODE3,
            sel::CONFORMING,
            sel::CODE16_3,
            sel::CODE16,
            sel::DATA3,
            0,
        ]) ^ r.word_below(4) as u16;
    }
    let selector = slot | r.word_below(4) as u16 | if r.one_in(3) { 4 } else { 0 };
    let access = if r.one_in(3) {
        segments::access(r)
    } else {
        0x98 | (r.word_below(4) as u8 * 0x20) | r.word_below(8) as u8
    };
    let limit = if r.one_in(6) { r.near(&[0xa000, 0xb000]) } else { 0xffff };
    let flags = r.pick(&[0, 4, 4]);
    case.patches.table(selector, descriptor(WINDOW, limit, access, flags));
    case.title += &format!(", code {selector:x} access {access:02x} limit {limit:x} flags {flags}");
    selector
}

/// Stacks of the task, sometimes wrong.
fn inner_stacks(case: &mut Case, r: &mut Random) {
    if !r.one_in(4) {
        return;
    }
    let ring = r.word_below(3) as u16;
    let selector = segments::selector(r);
    let access = segments::access(r);
    case.patches
        .table(selector, descriptor(WINDOW, r.near(&[0xffff, 0x7800]) & 0xffff, access, r.pick(&[0, 4])));
    case.patches.put16(at::TSS + 8 + 8 * ring, selector);
    let sp = r.pick(&[at::INNER_STACK0.into(), 4, 0x18, 0x1_0008]);
    case.patches.put32(at::TSS + 4 + 8 * ring, sp);
    case.title += &format!(", stack {ring} {selector:x}:{sp:x} access {access:02x}");
}

/// Far JMP and CALL to code segments and call gates, 16 and 32 bits.
pub fn transfer(r: &mut Random) -> Case {
    let cpl = r.word_below(4) as u8;
    let call = r.one_in(2);
    let title = format!("far {} at CPL {cpl}", if call { "call" } else { "jmp" });
    let mut case = Case::new(segments::env(r), title);
    case.ring(cpl);
    let target = code_target(&mut case, r, sel::FREE + 0x40);
    let offset: u32 = r.pick(&[at::CODE_B.into(), at::CODE_B.into(), 0xffff, 0x1_0000]);
    let selector = if r.one_in(3) { target } else { call_gate(&mut case, r, target) };
    inner_stacks(&mut case, r);
    let mut code = if r.one_in(6) { vec![0x66] } else { vec![] };
    if r.one_in(3) {
        code.extend([0xff, if call { 0x1b } else { 0x2b }]);
    } else {
        code.push(if call { 0x9a } else { 0xea });
        code.extend(if code.len() == 2 {
            [offset as u8, (offset >> 8) as u8].to_vec()
        } else {
            offset.to_le_bytes().to_vec()
        });
        code.extend(selector.to_le_bytes());
    }
    case.reg(reg::EBX, linear(at::DATA));
    let short = code[0] == 0x66;
    let pointer = if short { (offset as u16).to_le_bytes().to_vec() } else { offset.to_le_bytes().to_vec() };
    case.patches.put(at::DATA, &[&pointer[..], &selector.to_le_bytes()].concat());
    arguments(&mut case, r);
    case.code(&code);
    case
}

/// What a call gate copies.
fn arguments(case: &mut Case, r: &mut Random) {
    let words: Vec<u8> = (0..16).flat_map(|_| r.word().to_le_bytes()).collect();
    for top in [at::STACK3, at::INNER_STACK1, at::INNER_STACK2] {
        if r.one_in(2) {
            case.patches.put(top, &words);
        }
    }
}

fn call_gate(case: &mut Case, r: &mut Random, target: u16) -> u16 {
    let selector = (sel::FREE + 0x80) | r.word_below(4) as u16 | if r.one_in(3) { 4 } else { 0 };
    let kind = r.pick(&[0x8cu8, 0x8c, 0x8c, 0x84, 0x85, 0x8e, 0x82, 0x0c]);
    let access = kind | r.pick(&[3u8, 3, 3, 2, 1, 0]) << 5;
    let count = if r.one_in(2) { 0 } else { r.word_below(32) as u8 };
    let offset = r.pick(&[at::CODE_B.into(), at::CODE_B.into(), 0xffff, linear(at::CODE_B)]);
    case.patches.table(selector, gate(target, offset, access, count));
    case.title += &format!(", gate {selector:x} to {target:x}:{offset:x} access {access:02x} count {count}");
    selector
}

/// Far RET to code segments, with and without stack change.
pub fn far_return(r: &mut Random) -> Case {
    let cpl = r.word_below(4) as u8;
    let mut case = Case::new(segments::env(r), format!("far ret at CPL {cpl}"));
    case.ring(cpl);
    let target = code_target(&mut case, r, sel::FREE + 0x40);
    let ss = return_stack(&mut case, r, target);
    let release = r.pick(&[0u16, 0, 4, 8]);
    let short = r.one_in(5);
    let eip = r.pick(&[u32::from(at::CODE_B), at::CODE_B.into(), linear(at::CODE_B), 0xffff]);
    let top = stack_of(cpl);
    let mut frame: Vec<u32> = vec![eip, target.into()];
    frame.extend((0..release / 4).map(u32::from));
    frame.extend([r.pick(&[linear(at::STACK3), at::STACK3.into(), 0x1_0000]), ss.into()]);
    put_frame(&mut case, top, &frame, short);
    data_segments(&mut case, r, cpl);
    let mut code = if short { vec![0x66] } else { vec![] };
    if release == 0 {
        code.push(0xcb)
    } else {
        code.extend([0xca, release as u8, 0])
    }
    case.title += &format!(" to {target:x}:{eip:x}, release {release}, short {short}");
    case.code(&code);
    case
}

fn stack_of(cpl: u8) -> u16 {
    [at::STACK0, at::INNER_STACK1, at::INNER_STACK2, at::STACK3][usize::from(cpl)]
}

fn put_frame(case: &mut Case, top: u16, frame: &[u32], short: bool) {
    let bytes: Vec<u8> = frame
        .iter()
        .flat_map(|v| v.to_le_bytes().into_iter().take(if short { 2 } else { 4 }).collect::<Vec<_>>())
        .collect();
    case.patches.put(top, &bytes);
}

/// A stack segment to return to: mostly one that fits the RPL of the code.
fn return_stack(case: &mut Case, r: &mut Random, code: u16) -> u16 {
    if !r.one_in(3) {
        return [sel::DATA0, sel::DATA1, sel::DATA2, sel::DATA3][usize::from(code & 3)];
    }
    let selector = segments::selector(r);
    let access = segments::access(r);
    case.patches.table(selector, descriptor(WINDOW, 0xffff, access, r.pick(&[0, 4])));
    case.title += &format!(", stack {selector:x} access {access:02x}");
    selector
}

/// Data segments that an outward return may have to take away.
fn data_segments(case: &mut Case, r: &mut Random, cpl: u8) {
    use super::super::layout::state::{DS, ES, FS, GS};
    let all = [sel::DATA0, sel::DATA1, sel::DATA2, sel::DATA3, sel::CONFORMING, 0];
    for which in [DS, ES, FS, GS] {
        let selector = r.pick(&all);
        let dpl = if selector == sel::CONFORMING { 3 } else { selector & 3 };
        if selector == 0 || dpl >= cpl.into() {
            case.segment(which, selector & !3 | u16::from(cpl).min(dpl));
        }
    }
}

/// INT n, INT3, INTO, BOUND and faults through gates of every type.
pub fn interrupt(r: &mut Random) -> Case {
    let cpl = r.word_below(4) as u8;
    let (vector, code) = interrupt_code(r);
    let mut case = Case::new(segments::env(r), format!("interrupt {vector} at CPL {cpl}"));
    case.ring(cpl);
    let target = code_target(&mut case, r, sel::FREE + 0x40);
    let kind = r.pick(&[0x8eu8, 0x8e, 0x8f, 0x86, 0x87, 0x85, 0x8c, 0x0e]);
    let access = kind | r.pick(&[3u8, 3, 3, 2, 1, 0]) << 5;
    let (selector, offset) = if kind == 0x85 {
        task_gate(&mut case, r)
    } else {
        (target, r.pick(&[at::CODE_B.into(), at::CODE_B.into(), 0xffff, linear(at::CODE_B)]))
    };
    if vector < 64 {
        case.patches.put64(at::IDT + 8 * u16::from(vector), gate(selector, offset, access, 0));
    }
    case.title += &format!(", gate to {selector:x}:{offset:x} access {access:02x}");
    inner_stacks(&mut case, r);
    case.flags(r.word() & 0x0dd5 & !flag::TF | (r.word_below(2) * flag::NT) | r.word_below(4) << 12);
    case.reg(reg::EAX, r.word());
    case.reg(reg::EBX, linear(at::DATA));
    case.code(&code);
    case
}

fn interrupt_code(r: &mut Random) -> (u8, Vec<u8>) {
    match r.word_below(10) {
        0 => (3, vec![0xcc]),
        1 => (4, vec![0xb0, 0x7f, 0x04, 0x01, 0xce]),
        2 => (5, vec![0x62, 0x03]),
        3 => (0, vec![0x31, 0xd2, 0x31, 0xc9, 0xf7, 0xf1]),
        4 => (6, vec![0x0f, 0x0b]),
        5 => (13, vec![0x66, 0xb8, 0xf8, 0xff, 0x8e, 0xd8]),
        _ => {
            let vector = r.word_below(80) as u8;
            (vector, vec![0xcd, vector])
        }
    }
}

/// A task gate's selector, with the task behind it; the handler is the stub of vector 63.
pub fn task_gate(case: &mut Case, r: &mut Random) -> (u16, u32) {
    super::tasks::gate_task(case, r);
    (sel::TSS_GATE, 0)
}

/// IRET in all its forms: to the same and outer rings, to VM86, nested tasks, 16 bits; with flags to be changed.
pub fn iret(r: &mut Random) -> Case {
    let cpl = r.word_below(4) as u8;
    let short = r.one_in(5);
    let mut case = Case::new(segments::env(r), format!("iret at CPL {cpl}, short {short}"));
    case.ring(cpl);
    let target = code_target(&mut case, r, sel::FREE + 0x40);
    let ss = return_stack(&mut case, r, target);
    let vm = r.one_in(5);
    let flags =
        r.word() & flag::ALL & !flag::TF | if vm { flag::VM } else { 0 } | (r.word_below(2) * flag::RF);
    let eip = r.pick(&[u32::from(at::CODE_B), at::CODE_B.into(), linear(at::CODE_B), 0xffff]);
    let esp = r.pick(&[linear(at::STACK3), at::STACK3.into()]);
    let (target, ss, eip) = if vm && cpl == 0 {
        (0x1000 | r.word_below(2) as u16, 0x1000, at::CODE_B.into())
    } else {
        (target, ss, eip)
    };
    let segments = [0x1000, 0x1234, 0x10, 0xffff];
    let mut frame = vec![eip, target.into(), flags, esp, ss.into()];
    frame.extend(segments);
    put_frame(&mut case, stack_of(cpl), &frame, short);
    data_segments(&mut case, r, cpl);
    let nested = r.one_in(6);
    case.flags(r.word() & 0x8d5 | r.word_below(4) << 12 | if nested { flag::NT } else { 0 });
    if nested {
        super::tasks::back_link(&mut case, r);
    }
    case.title += &format!(" to {target:x}:{eip:x} flags {flags:x} stack {ss:x}:{esp:x}, nested {nested}");
    case.code(if short { &[0x66, 0xcf] } else { &[0xcf] });
    case
}
