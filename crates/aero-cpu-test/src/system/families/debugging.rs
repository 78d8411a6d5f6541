//! Debug registers, single step, ICEBP, the shadow of MOV SS; alignment checks.

use super::super::case::{Case, Env, control, flag, reg, sel};
use super::super::layout::{at, linear, state};
use crate::random::Random;

/// Instructions under breakpoints and TF.
pub fn debug(r: &mut Random) -> Case {
    let cpl = r.pick(&[0u8, 3]);
    let env = r.pick(&[Env::Flat, Env::Paged, Env::Long]);
    let (how, code) = code(r, cpl);
    let mut case = Case::new(env, format!("{env:?} CPL {cpl} {how}"));
    case.ring(cpl);
    case.reg(reg::EBX, linear(at::DATA));
    case.reg(reg::ESI, linear(at::DATA));
    case.reg(reg::EDI, linear(at::DATA + 0x10));
    case.reg(reg::ECX, r.word_below(4));
    case.reg(reg::EAX, u32::from(if cpl == 0 { sel::DATA0 } else { sel::DATA3 }));
    breakpoints(&mut case, r, cpl);
    let tf = r.one_in(3);
    if tf && cpl == 3 {
        case.flags(flag::TF);
        case.title += ", TF";
    }
    if r.one_in(4) && env == Env::Flat {
        case.patches.put32(state::CR4, control::DE);
        case.title += ", DE";
    }
    case.code(&code);
    case
}

/// Breakpoints on the code and the data; those that would stop the driver are not made.
fn breakpoints(case: &mut Case, r: &mut Random, cpl: u8) {
    let mut dr7 = 0x400 | r.word_below(4) << 8;
    for n in 0..4u32 {
        let (address, kind) = if r.one_in(2) {
            (linear(at::CODE) + r.word_below(6), 0)
        } else {
            (linear(at::DATA) + r.word_below(12), r.pick(&[0b01, 0b11]))
        };
        let len = if kind == 0 { 0 } else { r.pick(&[0, 1, 3]) };
        case.patches.put32(state::DR + 4 * n as u16, address);
        if r.one_in(2) {
            dr7 |= r.pick(&[1u32, 2, 3]) << (2 * n);
        }
        dr7 |= (kind | len << 2) << (16 + 4 * n);
        case.title += &format!(", dr{n} {:x} {kind}/{len}", address & 0xffff);
    }
    // In outer rings the manual leaves open whether GD or the CPL is looked at first.
    if cpl == 0 && r.one_in(12) {
        dr7 |= 1 << 13;
    }
    case.patches.put32(state::DR + 20, dr7);
    case.title += &format!(", dr7 {dr7:x}");
}

fn code(r: &mut Random, cpl: u8) -> (&'static str, Vec<u8>) {
    let (how, code): (&str, Vec<u8>) = match r.word_below(16) {
        0 => ("nops", vec![0x90; 6]),
        1 => ("read", vec![0x8b, 0x13, 0x90]),
        2 => ("write", vec![0x89, 0x13, 0x90]),
        3 => ("read byte and write", vec![0x8a, 0x53, 0x03, 0x88, 0x53, 0x05]),
        4 => ("rep movsd", vec![0xf3, 0xa5, 0x90]),
        5 => ("rep stosb", vec![0xf3, 0xaa]),
        6 => ("mov ss; nop", vec![0x8e, 0xd0, 0x90, 0x90]),
        7 => ("mov ss; write", vec![0x8e, 0xd0, 0x89, 0x13, 0x90]),
        8 => ("icebp", vec![0xf1, 0x90]),
        9 => ("int3", vec![0x90, 0xcc]),
        10 => ("mov from dr", vec![0x0f, 0x21, 0xf2, 0x0f, 0x21, 0xfa]),
        11 => ("mov from dr4", vec![0x0f, 0x21, 0xe2]),
        12 => ("push of memory", vec![0xff, 0x33, 0x90]),
        13 => ("xchg", vec![0x87, 0x13, 0x90]),
        14 => ("jump", vec![0xeb, 0x00, 0x90, 0x90]),
        _ => ("int 40", vec![0xcd, 40]),
    };
    // In ring 0 the code sets TF itself: pushf, or byte [esp+1], 1, popf.
    if cpl == 0 && r.one_in(4) {
        return (how, [&[0x9c, 0x80, 0x4c, 0x24, 0x01, 0x01, 0x9d][..], &code].concat());
    }
    (how, code)
}

/// Misaligned accesses with CR0.AM and EFLAGS.AC.
pub fn alignment(r: &mut Random) -> Case {
    let cpl = r.pick(&[3u8, 3, 3, 0, 1]);
    let env = if cpl == 1 { Env::Flat } else { r.pick(&[Env::Flat, Env::Paged, Env::Long]) };
    let (am, ac, offset) = (!r.one_in(6), !r.one_in(6), r.word_below(20));
    let (how, code) = alignment_code(r);
    let mut case = Case::new(env, format!("{env:?} CPL {cpl} {how} at +{offset}, AM {am} AC {ac}"));
    case.ring(cpl);
    case.reg(reg::EBX, linear(at::DATA) + offset);
    case.reg(reg::EDI, linear(at::DATA) + offset);
    case.reg(reg::ESI, linear(at::DATA) + r.word_below(8));
    case.flags(if ac { flag::AC } else { 0 });
    let cr0 = control::PE_ET | if env == Env::Flat { 0 } else { control::PG | control::WP };
    case.patches.put32(state::CR0, cr0 | if am { control::AM } else { 0 });
    case.code(&code);
    case
}

fn alignment_code(r: &mut Random) -> (&'static str, Vec<u8>) {
    match r.word_below(12) {
        0 => ("mov eax, m", vec![0x8b, 0x03]),
        1 => ("mov m, eax", vec![0x89, 0x03]),
        2 => ("mov ax, m", vec![0x66, 0x8b, 0x03]),
        3 => ("mov al, m", vec![0x8a, 0x03]),
        4 => ("movsd", vec![0xa5]),
        5 => ("movsw", vec![0x66, 0xa5]),
        6 => ("xchg", vec![0x87, 0x03]),
        7 => ("cmpxchg8b", vec![0x0f, 0xc7, 0x0b]),
        8 => ("push m", vec![0xff, 0x33]),
        9 => ("add m, eax", vec![0x01, 0x03]),
        10 => ("sgdt m", vec![0x0f, 0x01, 0x03]),
        _ => ("stosd", vec![0xab]),
    }
}
