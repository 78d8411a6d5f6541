//! Paging: entry bits of every level against every kind of access, in every paging mode.

use super::super::case::{Case, Env, control, flag, reg};
use super::super::layout::{at, linear, state};
use crate::random::Random;

/// The pages that cases access: data, code, stack.
const PAGES: [u16; 3] = [at::DATA, at::CODE_B, at::DATA_B];

/// One access through entries with random bits.
pub fn paging(r: &mut Random) -> Case {
    let env = r.pick(&[Env::Paged, Env::Pae, Env::Long]);
    let cpl = r.pick(&[0u8, 3, 3]);
    let page = r.pick(&PAGES);
    let (how, code) = access(r, env, page);
    let mut case = Case::new(env, format!("{env:?} CPL {cpl} {how}"));
    case.ring(cpl);
    case.reg(reg::EBX, linear(page) + 0x10);
    case.reg(reg::ESI, linear(page) + 0x10);
    case.reg(reg::EDI, linear(page) + 0x20);
    case.reg(reg::EAX, r.word());
    entry(&mut case, r, page);
    if r.one_in(3) {
        upper(&mut case, r);
    }
    control_bits(&mut case, r, cpl);
    case.code(&code);
    case
}

fn size(env: Env) -> u16 {
    if env == Env::Paged { 4 } else { 8 }
}

/// The page's entry.
fn entry(case: &mut Case, r: &mut Random, page: u16) {
    let low = (r.word_below(0x200) | if r.one_in(4) { 0 } else { 1 }) & !0x18;
    let high = high_bits(case.env, r);
    let at = at::TABLE + size(case.env) * (linear(page) >> 12) as u16;
    put(case, at, linear(page) | low, high);
    case.title += &format!(", page {page:x} bits {high:x}:{low:x}");
}

/// An entry above the page's.
fn upper(case: &mut Case, r: &mut Random) {
    let levels: &[(u16, u32)] = match case.env {
        Env::Paged => &[(at::ROOT, linear(at::TABLE))],
        Env::Pae => &[(at::DIRECTORY, linear(at::TABLE)), (at::POINTERS, linear(at::DIRECTORY))],
        _ => &[
            (at::DIRECTORY, linear(at::TABLE)),
            (at::POINTERS, linear(at::DIRECTORY)),
            (at::ROOT, linear(at::POINTERS)),
        ],
    };
    let (at, next) = r.pick(levels);
    // What the driver itself needs stays: the entry is present and writable for it.
    let mut low = 0x03 | (r.word_below(2) * 0x04) | (r.word_below(4) * 0x20) | (r.word_below(2) * 0x08);
    let mut high = high_bits(case.env, r) & !0x000f_ffff;
    if case.env == Env::Pae && at == at::POINTERS {
        (low, high) = (1, 0);
    }
    if case.env == Env::Long && r.one_in(4) {
        high |= r.word_below(2) << 31;
    }
    if high >> 31 != 0 {
        // No execution at all would stop the driver too.
        high &= !(1 << 31);
    }
    put(case, at, next | low, high);
    case.title += &format!(", entry at {at:x} bits {high:x}:{low:x}");
}

/// XD and reserved bits.
fn high_bits(env: Env, r: &mut Random) -> u32 {
    if env == Env::Paged {
        return 0;
    }
    let xd = r.word_below(2) << 31;
    // Bits 40 to 51 lie above every emulator's physical width; 52 to 62 are ignored.
    let reserved = if r.one_in(6) { 1 << (8 + r.word_below(12)) } else { 0 };
    let ignored = if r.one_in(6) { 1 << (20 + r.word_below(7)) } else { 0 };
    xd | reserved | ignored
}

fn put(case: &mut Case, at: u16, low: u32, high: u32) {
    case.patches.put32(at, low);
    if case.env != Env::Paged {
        case.patches.put32(at + 4, high);
    }
}

/// WP, SMEP, SMAP, NXE.
fn control_bits(case: &mut Case, r: &mut Random, cpl: u8) {
    use control::*;
    let wp = if r.one_in(2) { WP } else { 0 };
    case.patches.put32(state::CR0, PG | PE_ET | wp);
    let mut cr4 = if case.env == Env::Paged { PSE } else { PAE };
    // Code at CPL 0 lies in a user page here, so SMEP is for ring 3 and for calls that go wrong.
    if r.one_in(3) && cpl == 3 {
        cr4 |= SMEP;
    }
    if r.one_in(3) {
        cr4 |= SMAP;
        case.flags(r.word_below(2) * flag::AC);
    }
    if r.one_in(4) {
        cr4 |= PGE;
    }
    case.patches.put32(state::CR4, cr4);
    let nxe = r.one_in(3);
    if case.env == Env::Pae && nxe {
        case.patches.put32(state::EFER, 0);
    } else if case.env == Env::Long && nxe {
        case.patches.put32(state::EFER, EFER_LME);
    }
    case.title += &format!(", wp {} cr4 {cr4:x} nxe {}", u8::from(wp != 0), u8::from(!nxe));
}

/// What is done to `[ebx]`.
fn access(r: &mut Random, env: Env, page: u16) -> (&'static str, Vec<u8>) {
    let clac = r.one_in(8);
    let (how, code): (&str, Vec<u8>) = match r.word_below(14) {
        0 => ("read", vec![0x8b, 0x03]),
        1 => ("write", vec![0x89, 0x03]),
        2 => ("add", vec![0x01, 0x03]),
        3 => ("xchg", vec![0x87, 0x03]),
        4 => ("movs", vec![0xa5]),
        5 => ("push", vec![0xff, 0x33]),
        6 => ("pop", vec![0x8f, 0x03]),
        7 => ("cmpxchg", vec![0x0f, 0xb1, 0x0b]),
        8 => ("bts", vec![0x0f, 0xba, 0x2b, 0x05]),
        9 => ("jump", jump(page)),
        10 => ("call", vec![0xff, 0xd3]),
        11 => ("read across", vec![0x8b, 0x83, 0xee, 0x0f, 0, 0]),
        12 => ("write across", vec![0x89, 0x83, 0xee, 0x0f, 0, 0]),
        _ => ("write before", vec![0x89, 0x43, 0xed]),
    };
    if clac && env != Env::Real { (how, [&[0x90][..], &code].concat()) } else { (how, code) }
}

/// `mov ecx, page; jmp ecx`
fn jump(page: u16) -> Vec<u8> {
    [&[0xb9][..], &linear(page).to_le_bytes(), &[0xff, 0xe1]].concat()
}
