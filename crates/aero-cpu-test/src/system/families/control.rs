//! What only CPL 0 may do, and writes to control registers and MSRs.

use super::super::case::{Case, Env, control as bits, flag, reg};
use super::super::layout::{at, linear, state};
use crate::random::Random;

/// Privileged and I/O-privileged instructions at every CPL.
pub fn privilege(r: &mut Random) -> Case {
    let env = r.pick(&[Env::Flat, Env::Paged, Env::Long]);
    let cpl = if env == Env::Long { r.pick(&[0u8, 3, 3]) } else { r.word_below(4) as u8 };
    let (iopl, umip, tsd) = (r.word_below(4), r.one_in(3), r.one_in(3));
    let (how, code) = privileged(r, cpl);
    let mut case = Case::new(env, format!("{env:?} CPL {cpl} IOPL {iopl} {how}, UMIP {umip} TSD {tsd}"));
    case.ring(cpl);
    case.flags(iopl << 12 | r.word() & (0x8d5 | flag::IF));
    let base = match env {
        Env::Paged => bits::PSE,
        Env::Long => bits::PAE,
        _ => 0,
    };
    let pvi = if r.one_in(4) { bits::PVI } else { 0 };
    let cr4 = base | pvi | if umip { bits::UMIP } else { 0 } | if tsd { bits::TSD } else { 0 };
    case.patches.put32(state::CR4, cr4);
    case.reg(reg::EBX, linear(at::DATA));
    case.reg(reg::EDX, r.near(&[0x308, 0x310, 0x31c]));
    case.reg(reg::EAX, 0);
    case.reg(reg::ECX, 0x174);
    case.msrs(&[(0x174, 0)]);
    case.reg(reg::EDI, linear(at::DATA));
    case.reg(reg::ESI, linear(at::DATA));
    case.patches.put16(at::IO_MAP + 0x60, r.word() as u16);
    case.patches.put32(at::STACK3, r.word() & 0x7fd5 & !flag::TF);
    case.code(&code);
    case
}

fn privileged(r: &mut Random, cpl: u8) -> (&'static str, Vec<u8>) {
    let n = r.word_below(30);
    if cpl == 0 && (n == 0 || n == 1) {
        return ("clts", vec![0x0f, 0x06]);
    }
    let (how, code): (&str, &[u8]) = match n {
        0 => ("hlt", &[0xf4]),
        1 => ("wbinvd", &[0x0f, 0x09]),
        2 => ("clts", &[0x0f, 0x06]),
        3 => ("invd", &[0x0f, 0x08]),
        4 => ("lgdt", &[0x0f, 0x01, 0x13]),
        5 => ("lidt", &[0x0f, 0x01, 0x1b]),
        6 => ("lmsw", &[0x0f, 0x01, 0xf0]),
        7 => ("invlpg", &[0x0f, 0x01, 0x3b]),
        8 => ("mov from cr0", &[0x0f, 0x20, 0xc0]),
        9 => ("mov from cr3", &[0x0f, 0x20, 0xd8]),
        10 => ("mov from dr7", &[0x0f, 0x21, 0xf8]),
        11 => ("mov to dr0", &[0x0f, 0x23, 0xc0]),
        12 => ("rdmsr", &[0x0f, 0x32]),
        13 => ("wrmsr", &[0x0f, 0x30]),
        14 => ("cli", &[0xfa]),
        15 => ("sti; nop", &[0xfb, 0x90]),
        16 => ("popf", &[0x9d]),
        17 => ("pushf", &[0x9c]),
        18 => ("in al, dx", &[0xec]),
        19 => ("out dx, ax", &[0x66, 0xef]),
        20 => ("in eax, dx", &[0xed]),
        21 => ("outsb", &[0x6e]),
        22 => ("insb", &[0x6c]),
        23 => ("sgdt", &[0x0f, 0x01, 0x03]),
        24 => ("sidt", &[0x0f, 0x01, 0x0b]),
        25 => ("smsw", &[0x0f, 0x01, 0xe0]),
        26 => ("str", &[0x0f, 0x00, 0xc8]),
        27 => ("sldt", &[0x0f, 0x00, 0xc0]),
        28 => ("mov from cr1", &[0x0f, 0x20, 0xc8]),
        _ => ("rsm", &[0x0f, 0xaa]),
    };
    (how, code.to_vec())
}

/// Writes of control registers and MSRs with any bits. What works is read back; the driver puts all right afterwards.
pub fn control(r: &mut Random) -> Case {
    let env = r.pick(&[Env::Flat, Env::Paged, Env::Pae, Env::Long]);
    let mut case = Case::new(env, "");
    case.ring(0);
    let (how, code) = match r.word_below(5) {
        0 => cr0(r, env),
        1 => cr4(r, env),
        2 => efer(r, env),
        3 => msr(r),
        _ => dr(r),
    };
    case.title = format!("{env:?} {how}");
    case.code(&code);
    case
}

fn mov_eax(value: u32) -> Vec<u8> {
    [&[0xb8][..], &value.to_le_bytes()].concat()
}

fn current_cr0(env: Env) -> u32 {
    if env == Env::Flat { bits::PE_ET } else { bits::PE_ET | bits::PG | bits::WP }
}

fn cr0(r: &mut Random, env: Env) -> (String, Vec<u8>) {
    let flips = [1, 2, 4, 8, 0x10, 0x20, 1 << 16, 1 << 18, 1 << 29, 1 << 30, 1 << 31, 1 << 7, 1 << 28];
    let mut value = current_cr0(env);
    for _ in 0..=r.word_below(3) {
        value ^= r.pick(&flips);
    }
    // Leaving protected mode or starting paging without tables ends in places that are no part of this.
    value |= 1;
    if env == Env::Flat {
        value &= !bits::PG;
    } else if env != Env::Long || value & bits::PG == 0 {
        value |= bits::PG;
    }
    (format!("mov cr0, {value:x}"), [&mov_eax(value)[..], &[0x0f, 0x22, 0xc0, 0x0f, 0x20, 0xc1]].concat())
}

fn cr4(r: &mut Random, env: Env) -> (String, Vec<u8>) {
    let mut value = match env {
        Env::Flat | Env::Real => 0,
        Env::Paged => bits::PSE,
        Env::Pae | Env::Long => bits::PAE,
    };
    for _ in 0..=r.word_below(3) {
        // SMEP and SMAP would stop code in user pages; LA57 and PKS no two emulators here have alike.
        value ^= 1 << r.pick(&[0u32, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16, 18]);
    }
    if r.one_in(16) {
        // Reserved, or of a later day. TCG hangs with some of them.
        value ^= 1 << r.pick(&[15u32, 19, 28, 31]);
    }
    // Changing the format of page tables under the code is another matter.
    if matches!(env, Env::Paged | Env::Pae) {
        value = value & !bits::PAE | if env == Env::Pae { bits::PAE } else { 0 };
    }
    (format!("mov cr4, {value:x}"), [&mov_eax(value)[..], &[0x0f, 0x22, 0xe0, 0x0f, 0x20, 0xe1]].concat())
}

fn efer(r: &mut Random, env: Env) -> (String, Vec<u8>) {
    let mut value = if env == Env::Long { 0xd01 } else { 0 };
    value ^= 1 << r.pick(&[0u32, 8, 11, 1, 2, 3, 9, 16, 20, 31]);
    if env == Env::Pae {
        value |= bits::EFER_NXE;
    }
    (format!("wrmsr efer, {value:x}"), write_msr(0xc000_0080, value, 0))
}

/// `mov ecx, …; mov eax, …; mov edx, …; wrmsr; rdmsr`
fn write_msr(number: u32, low: u32, high: u32) -> Vec<u8> {
    let mut code = vec![0xb9];
    code.extend(number.to_le_bytes());
    code.extend(mov_eax(low));
    code.push(0xba);
    code.extend(high.to_le_bytes());
    code.extend([0x0f, 0x30, 0x31, 0xc0, 0x31, 0xd2, 0x0f, 0x32]);
    code
}

fn msr(r: &mut Random) -> (String, Vec<u8>) {
    let number = r.pick(&[
        0x174u32,
        0x175,
        0x176,
        0x277,
        0xc000_0081,
        0xc000_0082,
        0xc000_0084,
        0xc000_0100,
        0xc000_0101,
        0xc000_0102,
        0xc000_0103,
    ]);
    let (low, high) = if number == 0x277 {
        (0x0007_0406 ^ r.pick(&[0, 1, 2, 3, 7, 8]), 0x0007_0406 ^ r.pick(&[0u32, 1 << 24, 8 << 24]))
    } else {
        (r.word(), r.pick(&[0, 0, 0x7fff, 0x8000, 0xffff_8000, 0xffff_ffff]))
    };
    (format!("wrmsr {number:x}, {high:x}:{low:x}"), write_msr(number, low, high))
}

fn dr(r: &mut Random) -> (String, Vec<u8>) {
    let n = r.pick(&[0u8, 3, 4, 5, 6, 7]);
    let value = r.word() & if n == 7 || n == 5 { !0x20ff } else { u32::MAX };
    let code = [&mov_eax(value)[..], &[0x0f, 0x23, 0xc0 | n << 3, 0x0f, 0x21, 0xc1 | n << 3]].concat();
    (format!("mov dr{n}, {value:x}"), code)
}
