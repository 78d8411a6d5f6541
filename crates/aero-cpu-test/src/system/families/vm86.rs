//! Virtual-8086 mode: what IOPL, VME and the task's bitmaps let through.

use super::super::case::{Case, Env, control, descriptor, flag, reg, sel};
use super::super::layout::{WINDOW, at, linear, state};
use crate::random::Random;

/// One instruction in VM86 mode.
pub fn vm86(r: &mut Random) -> Case {
    let (vector, port) = (r.word_below(72) as u8, r.near(&[0x308, 0x310, 0x31c]));
    let (how, code) = code(r, vector);
    let iopl = r.word_below(4);
    let vme = r.one_in(3);
    let bits = r.word() & (flag::VIF | flag::VIP | flag::IF | flag::NT | flag::AC | 0x8d5);
    // Both at once fault before any instruction, says Bochs; the manual has it for STI and POPF only.
    let bits = if bits & flag::VIF != 0 { bits & !flag::VIP } else { bits };
    let title = format!("{how}, IOPL {iopl}, VME {vme}, flags {bits:x}, port {port:x}");
    let mut case = Case::new(r.pick(&[Env::Flat, Env::Paged]), title);
    case.vm86(bits | iopl << 12);
    let cr4 = if case.env == Env::Paged { control::PSE } else { 0 };
    case.patches.put32(state::CR4, cr4 | if vme { control::VME } else { 0 });
    case.reg(reg::EAX, r.word() & 0xffff_0fff | 0x1000);
    case.reg(reg::EDX, port);
    case.reg(reg::EBX, r.near(&[at::DATA.into(), 0xfffc, 0x1_0000]));
    if how_many_parts(&case.title) {
        case.reg(reg::EBX, at::DATA.into());
    }
    case.reg(reg::ECX, r.word_below(4));
    frame(&mut case, r);
    bitmaps(&mut case, r, vector, port);
    if r.one_in(6) {
        let target = r.pick(&[sel::CODE3, sel::CODE1, sel::CONFORMING, sel::DATA0, sel::HANDLER]);
        let raw =
            super::super::case::gate(target, r.word_below(0x100), r.pick(&[0xee, 0x8e, 0xef, 0xe6, 0xe7]), 0);
        case.patches.put64(at::IDT + 8 * u16::from(vector & 63), raw);
        case.title += &format!(", gate {raw:x}");
    }
    case.code(&code);
    case
}

/// Whether the operand is of several parts: which of them wraps at 64 KiB the manual does not say.
fn how_many_parts(title: &str) -> bool {
    title.starts_with("bound")
}

/// What POPF or IRET takes from the stack.
fn frame(case: &mut Case, r: &mut Random) {
    let flags = r.word() & !flag::TF;
    let (ip, cs): (u32, u32) = (at::CODE_B.into(), WINDOW >> 4);
    let bytes: Vec<u8> = if case.title.starts_with("iretd") {
        [ip, cs, flags].into_iter().flat_map(u32::to_le_bytes).collect()
    } else if case.title.starts_with("iret") {
        [ip, cs, flags].into_iter().flat_map(|v| (v as u16).to_le_bytes()).collect()
    } else {
        flags.to_le_bytes().to_vec()
    };
    case.patches.put(at::STACK3, &bytes);
}

/// The interrupt redirection and I/O bitmaps, and where the TSS ends.
fn bitmaps(case: &mut Case, r: &mut Random, vector: u8, port: u32) {
    let redirected = at::IO_MAP - 32 + u16::from(vector / 8);
    case.patches.put(redirected, &[r.word_below(256) as u8]);
    let at_port = at::IO_MAP + (port / 8) as u16;
    if at_port < at::TSS + 0x1ff {
        case.patches.put16(at_port, r.word() as u16);
    }
    if r.one_in(8) {
        let limit = r.near(&[u32::from(at::IO_MAP - at::TSS) + port / 8, 0x67, 0x88]);
        case.patches.gdt(sel::TSS, descriptor(linear(at::TSS), limit, 0x89, 0));
        case.title += &format!(", TSS limit {limit:x}");
    }
}

fn code(r: &mut Random, vector: u8) -> (String, Vec<u8>) {
    const PARAGRAPH: u16 = (WINDOW >> 4) as u16;
    let (how, code): (&str, Vec<u8>) = match r.word_below(32) {
        0..3 => ("pushf", vec![0x9c]),
        3..6 => ("popf", vec![0x9d]),
        6 => ("pushfd", vec![0x66, 0x9c]),
        7 => ("popfd", vec![0x66, 0x9d]),
        8 | 9 => ("cli", vec![0xfa]),
        10 | 11 => ("sti; nop", vec![0xfb, 0x90]),
        12..16 => return (format!("int {vector}"), vec![0xcd, vector]),
        16 => ("int3", vec![0xcc]),
        17 => ("into", vec![0xce]),
        18 => ("iret", vec![0xcf]),
        19 => ("iretd", vec![0x66, 0xcf]),
        20 => ("in al, dx", vec![0xec]),
        21 => ("out dx, ax", vec![0xef]),
        22 => ("in eax, dx", vec![0x66, 0xed]),
        23 => ("hlt", vec![0xf4]),
        24 => ("mov eax, cr0", vec![0x0f, 0x20, 0xc0]),
        25 => ("sldt ax", vec![0x0f, 0x00, 0xc0]),
        26 => ("mov eax, [bx]", vec![0x66, 0x8b, 0x07]),
        27 => ("mov ds, ax; mov al, [bx]", vec![0x8e, 0xd8, 0x8a, 0x07]),
        28 => ("call far", [&[0x9a][..], &at::CODE_B.to_le_bytes(), &PARAGRAPH.to_le_bytes()].concat()),
        29 => ("bound ax, m", vec![0x62, 0x07]),
        30 => ("icebp", vec![0xf1]),
        _ => ("lock nop", vec![0xf0, 0x90]),
    };
    (how.into(), code)
}
