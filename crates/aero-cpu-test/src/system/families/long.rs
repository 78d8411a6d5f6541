//! Long mode: far transfers, gates, IRETQ, interrupt stacks, canonical addresses; SYSCALL and its kin.

use super::super::case::{Case, Env, descriptor, flag, gate, reg, sel};
use super::super::layout::{at, linear, state};
use super::segments;
use crate::random::Random;

/// Where addresses stop being canonical, and near it.
fn address(r: &mut Random, good: u32) -> u64 {
    match r.word_below(6) {
        0 => (1u64 << 47).wrapping_sub(u64::from(r.word_below(3))),
        1 => 0xffff_8000_0000_0000 - u64::from(r.word_below(2)),
        2 => u64::from(r.word()) << 32 | u64::from(r.word()),
        _ => good.into(),
    }
}

/// SYSCALL, SYSRET, SYSENTER and SYSEXIT in 64-bit, compatibility and protected mode.
pub fn syscall(r: &mut Random) -> Case {
    let env = r.pick(&[Env::Long, Env::Long, Env::Flat, Env::Paged]);
    let (how, code): (&str, &[u8]) = match r.word_below(7) {
        0 | 1 => ("syscall", &[0x0f, 0x05]),
        2 => ("sysret", &[0x0f, 0x07]),
        3 => ("sysret, 64 bits", &[0x48, 0x0f, 0x07]),
        4 => ("sysenter", &[0x0f, 0x34]),
        5 => ("sysexit", &[0x0f, 0x35]),
        _ => ("sysexit, 64 bits", &[0x48, 0x0f, 0x35]),
    };
    let compatible = env == Env::Long && r.one_in(4);
    let cpl = if how.starts_with("sysc") || how == "sysenter" {
        r.pick(&[3u8, 3, 0])
    } else {
        r.pick(&[0u8, 0, 0, 3])
    };
    let mut case = Case::new(env, format!("{env:?} CPL {cpl} compatible {compatible}: {how}"));
    case.ring(cpl);
    if compatible {
        case.cs_ip(if cpl == 0 { sel::CODE0 } else { sel::CODE3 }, linear(at::CODE));
    }
    let entry_cs = r.pick(&[sel::CODE0, 0, 3, sel::CODE3]);
    let (target, stack) = if env == Env::Long {
        (address(r, linear(at::CODE_B)), address(r, linear(at::STACK3)))
    } else {
        (linear(at::CODE_B).into(), linear(at::STACK3).into())
    };
    let entry = linear(at::CODE_B);
    let mut msrs = vec![(0x174, entry_cs.into()), (0x175, linear(at::STACK0).into()), (0x176, entry.into())];
    if env == Env::Long {
        let star = u64::from((sel::CODE3 - 3) | r.word_below(4) as u16) << 48 | u64::from(sel::SYSCALL) << 32;
        msrs.extend([
            (0xc000_0081, star),
            (0xc000_0082, entry.into()),
            (0xc000_0083, u64::from(entry) + 0x10),
            (0xc000_0084, r.draw() & 0x3f_7fd5),
        ]);
        if r.one_in(5) {
            case.patches.put32(state::EFER, 0x900);
            case.title += ", no SCE";
        }
    }
    case.msrs(&msrs);
    case.reg64(reg::ECX, if how == "sysexit" { stack } else { target });
    case.reg64(reg::EDX, target);
    case.reg64(11, r.draw() & u64::from(flag::ALL & !flag::TF));
    case.flags(r.word() & (0x8d5 | flag::AC | flag::ID));
    case.title += &format!(", target {target:x} stack {stack:x} cs {entry_cs:x}");
    case.code(code);
    case
}

/// A segment to go to: 64-bit, compatibility or neither.
fn target(case: &mut Case, r: &mut Random) -> u16 {
    if r.one_in(2) {
        return r.pick(&[sel::LONG0, sel::LONG3, sel::CODE0, sel::CODE3, sel::CONFORMING, 0])
            ^ r.pick(&[0, 0, 3, 1]);
    }
    let selector = (sel::FREE + 0x40) | r.word_below(4) as u16 | if r.one_in(3) { 4 } else { 0 };
    let access = if r.one_in(3) {
        segments::access(r)
    } else {
        0x98 | (r.word_below(4) as u8 * 0x20) | r.word_below(8) as u8
    };
    let flags = r.pick(&[0xa, 0xa, 0xc, 0xe, 8]);
    case.patches.table(selector, descriptor(0, 0xf_ffff, access, flags));
    case.title += &format!(", code {selector:x} access {access:02x} flags {flags:x}");
    selector
}

/// Far transfers, interrupts and returns in 64-bit and compatibility mode.
pub fn transfer(r: &mut Random) -> Case {
    let cpl = r.pick(&[0u8, 0, 3]);
    let compatible = r.one_in(4);
    let mut case = Case::new(Env::Long, format!("CPL {cpl} compatible {compatible}: "));
    case.ring(cpl);
    if compatible {
        case.cs_ip(if cpl == 0 { sel::CODE0 } else { sel::CODE3 }, linear(at::CODE));
    }
    case.flags(r.word() & 0x8d5 | (r.word_below(8) / 7 * flag::NT));
    case.reg64(reg::EBX, linear(at::DATA).into());
    match r.word_below(6) {
        0 => indirect(&mut case, r),
        1 => far_return(&mut case, r, cpl),
        2 | 3 => iret(&mut case, r, cpl),
        4 => interrupt(&mut case, r),
        _ => memory(&mut case, r),
    }
    case
}

fn top(cpl: u8) -> u16 {
    if cpl == 0 { at::STACK0 } else { at::STACK3 }
}

/// JMP and CALL through memory, to code and call gates.
fn indirect(case: &mut Case, r: &mut Random) {
    let code = target(case, r);
    let call = r.one_in(2);
    let selector = if r.one_in(2) { code } else { call_gate(case, r, code) };
    let offset = address(r, linear(at::CODE_B));
    let wide = r.one_in(2);
    let pointer = offset.to_le_bytes();
    let pointer = [&pointer[..if wide { 8 } else { 4 }], &selector.to_le_bytes()].concat();
    case.patches.put(at::DATA, &pointer);
    case.title += &format!(", {} {selector:x}:{offset:x} wide {wide}", if call { "call" } else { "jmp" });
    let modrm = if call { 0x1b } else { 0x2b };
    case.code(&[0x48, 0xff, modrm][usize::from(!wide)..]);
}

fn call_gate(case: &mut Case, r: &mut Random, code: u16) -> u16 {
    let selector = (sel::FREE + 0x80) | r.word_below(4) as u16;
    let access = r.pick(&[0x8cu8, 0x8c, 0x8c, 0x84, 0x8e, 0x0c]) | r.pick(&[3u8, 3, 0]) << 5;
    let offset = address(r, linear(at::CODE_B));
    case.patches.gdt(selector, gate(code, offset as u32, access, r.pick(&[0, 0, 4])));
    let upper = (offset >> 32) | if r.one_in(8) { u64::from(r.word_below(0x2000)) << 32 } else { 0 };
    case.patches.gdt(selector + 8, upper);
    case.title += &format!(", gate {selector:x} to {code:x}:{offset:x} access {access:02x} upper {upper:x}");
    selector
}

fn frame(case: &mut Case, cpl: u8, values: &[u64], bytes: usize) {
    let all: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()[..bytes].to_vec()).collect();
    case.patches.put(top(cpl), &all);
}

fn stack(case: &mut Case, r: &mut Random, code: u16) -> u16 {
    if !r.one_in(3) {
        return if code & 3 == 0 { sel::DATA0 } else { sel::DATA3 & !3 | code & 3 };
    }
    let selector = segments::selector(r);
    let access = segments::access(r);
    case.patches.table(selector, descriptor(0, 0xf_ffff, access, 0xc));
    case.title += &format!(", stack {selector:x} access {access:02x}");
    selector
}

fn far_return(case: &mut Case, r: &mut Random, cpl: u8) {
    let code = target(case, r);
    let ss = stack(case, r, code);
    let wide = r.one_in(2);
    let (rip, rsp) = (address(r, linear(at::CODE_B)), address(r, linear(at::STACK3)));
    frame(case, cpl, &[rip, code.into(), rsp, ss.into()], if wide { 8 } else { 4 });
    case.title += &format!(", retf to {code:x}:{rip:x} stack {ss:x}:{rsp:x} wide {wide}");
    case.code(&[0x48, 0xcb][usize::from(!wide)..]);
}

fn iret(case: &mut Case, r: &mut Random, cpl: u8) {
    let code = target(case, r);
    let ss = stack(case, r, code);
    let bytes = r.pick(&[8usize, 8, 4, 2]);
    let (rip, rsp) = (address(r, linear(at::CODE_B)), address(r, linear(at::STACK3)));
    let flags = u64::from(
        r.word() & flag::ALL & !flag::TF | (r.word_below(2) * flag::RF) | (r.word_below(8) / 7 * flag::VM),
    );
    frame(case, cpl, &[rip, code.into(), flags, rsp, ss.into()], bytes);
    case.title += &format!(", iret of {bytes} to {code:x}:{rip:x} flags {flags:x} stack {ss:x}:{rsp:x}");
    let code: &[u8] = match bytes {
        8 => &[0x48, 0xcf],
        4 => &[0xcf],
        _ => &[0x66, 0xcf],
    };
    case.code(code);
}

fn interrupt(case: &mut Case, r: &mut Random) {
    let (vector, code): (u8, Vec<u8>) = match r.word_below(4) {
        0 => (6, vec![0x0f, 0x0b]),
        1 => (13, vec![0x0f, 0x01, 0xf0, 0x8e, 0xd8]),
        _ => {
            let vector = r.word_below(80) as u8;
            (vector, vec![0xcd, vector])
        }
    };
    let code_selector = target(case, r);
    let access = r.pick(&[0x8eu8, 0x8e, 0x8f, 0x86, 0x85, 0x0e]) | r.pick(&[3u8, 3, 0]) << 5;
    let ist = if r.one_in(2) { 0 } else { r.word_below(8) as u8 };
    let offset = if r.one_in(4) { address(r, linear(at::CODE_B)) } else { linear(at::CODE_B).into() };
    if vector < 64 {
        let at = at::IDT + 16 * u16::from(vector);
        case.patches.put64(at, gate(code_selector, offset as u32, access, ist));
        case.patches.put64(at + 8, offset >> 32);
    }
    if r.one_in(4) {
        let ring = r.pick(&[4u16, 0x24]);
        case.patches.put64(at::TSS + ring, address(r, linear(at::INNER_STACK0)));
    }
    case.reg(reg::EAX, segments::selector(r).into());
    case.title +=
        &format!(", interrupt {vector} to {code_selector:x}:{offset:x} access {access:02x} ist {ist}");
    case.code(&code);
}

/// Accesses near where addresses stop being canonical.
fn memory(case: &mut Case, r: &mut Random) {
    let at = address(r, linear(at::DATA)).wrapping_sub(u64::from(r.word_below(9)));
    let (how, code): (&str, &[u8]) = match r.word_below(9) {
        0 => ("mov rax, m", &[0x48, 0x8b, 0x03]),
        1 => ("mov m, eax", &[0x89, 0x03]),
        2 => ("mov rax, [rbp]", &[0x48, 0x8b, 0x45, 0x00]),
        3 => ("push at rsp", &[0x48, 0x89, 0xdc, 0x50]),
        4 => ("pop at rsp", &[0x48, 0x89, 0xdc, 0x58]),
        5 => ("jmp rbx", &[0xff, 0xe3]),
        6 => ("call rbx", &[0xff, 0xd3]),
        7 => ("xchg", &[0x48, 0x87, 0x03]),
        _ => ("ret", &[0x53, 0xc3]),
    };
    case.reg64(reg::EBX, at);
    case.reg64(reg::EBP, at);
    case.title += &format!(", {how} at {at:x}");
    case.code(code);
}
