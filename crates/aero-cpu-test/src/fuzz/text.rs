//! Cases as small text files: one `name value` a line, all numbers hexadecimal, `#` begins a comment.
//!
//! What is zero (or, of the x87 control word and MXCSR, as after initialisation) is left out, so a shrunk case is short
//! enough to read.

use super::case::{Case, FpuImage, Mode, Outcome, Patch, State, image};
use super::compare::Difference;
use super::layout;
use anyhow::{Context, ensure};
use core::fmt::Write;

const GPR: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];

/// Offset and bytes of each named part of the FPU image.
fn parts() -> Vec<(String, usize, usize)> {
    let mut parts: Vec<_> = [
        ("fcw", image::FCW, 2),
        ("fsw", image::FSW, 2),
        ("ftw", image::FTW, 1),
        ("fop", image::FOP, 2),
        ("fip", image::FIP, 8),
        ("fdp", image::FDP, 8),
        ("mxcsr", image::MXCSR, 4),
    ]
    .map(|(name, at, len)| (name.to_owned(), at, len))
    .into();
    parts.extend((0..8).map(|n| (format!("st{n}"), image::ST + 16 * n, 10)));
    parts.extend((0..16).map(|n| (format!("xmm{n}"), image::XMM + 16 * n, 16)));
    parts.extend((0..16).map(|n| (format!("ymm{n}h"), image::YMM + 16 * n, 16)));
    parts
}

fn number(bytes: &[u8]) -> u128 {
    bytes.iter().rev().fold(0, |n, b| n << 8 | u128::from(*b))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
}

/// The case, and as comments what happened.
pub fn write(
    case: &Case,
    name: &str,
    ends: [(&str, &Outcome, &State); 2],
    differences: &[Difference],
) -> String {
    let mut text = String::new();
    _ = writeln!(text, "# {name}\nmode {}\ncode {}", case.mode.bits(), hex(case.code()));
    let s = &case.state;
    let mut put = |name: &str, value: u128| _ = writeln!(text, "{name} {value:x}");
    put("rip", s.rip.into());
    put("rflags", s.rflags.into());
    for (name, value) in GPR.iter().zip(s.gpr).filter(|(_, v)| *v != 0) {
        put(name, value.into());
    }
    if case.fpu {
        let initial = FpuImage::initial();
        put("fpu", 1);
        for (name, at, len) in parts() {
            if s.fpu.0[at..at + len] != initial.0[at..at + len] {
                put(&name, number(&s.fpu.0[at..at + len]));
            }
        }
    }
    for p in &case.patches {
        _ = writeln!(text, "memory {:x} {}", p.at, hex(&p.bytes));
    }
    for (who, outcome, state) in ends {
        _ = writeln!(text, "# {who}: {outcome:x?} rip {:x} rflags {:x}", state.rip, state.rflags);
    }
    for d in differences {
        _ = writeln!(text, "# {}: native {:x}, ours {:x}", d.field, d.native, d.ours);
    }
    text
}

/// Reads what [`write`] wrote.
///
/// # Errors
/// When a line is not understood.
pub fn read(text: &str) -> anyhow::Result<Case> {
    let lines = text.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty());
    let mut case = Case {
        mode: Mode::B64,
        bytes: [0xcc; 16],
        len: 0,
        state: State::zero(Mode::B64),
        patches: Vec::new(),
        fpu: false,
    };
    for line in lines {
        let (name, value) = line.split_once(' ').with_context(|| format!("no value: {line}"))?;
        read_line(&mut case, name, value).with_context(|| format!("line {line:?}"))?;
    }
    ensure!(case.len > 0, "no code");
    Ok(case)
}

fn bytes(text: &str) -> anyhow::Result<Vec<u8>> {
    text.split_whitespace().map(|b| u8::from_str_radix(b, 16).context("a byte")).collect()
}

fn read_line(case: &mut Case, name: &str, value: &str) -> anyhow::Result<()> {
    match name {
        "mode" => {
            case.mode = Mode::of_bits(value.parse()?).context("16, 32 or 64")?;
            case.state.segments = case.mode.segments();
            return Ok(());
        }
        "code" => {
            let code = bytes(value)?;
            ensure!((1..=15).contains(&code.len()), "1 to 15 bytes");
            case.bytes[..code.len()].copy_from_slice(&code);
            case.len = code.len() as u8;
            return Ok(());
        }
        "memory" => {
            let (at, data) = value.split_once(' ').context("address and bytes")?;
            let at = u64::from_str_radix(at, 16)?;
            let bytes = bytes(data)?;
            ensure!(layout::WRITABLE.contains(&(at & !0xfff)), "not a writable page");
            ensure!((at as usize & 0xfff) + bytes.len() <= 0x1000, "leaves its page");
            case.patches.push(Patch { at, bytes });
            return Ok(());
        }
        _ => {}
    }
    let value = u128::from_str_radix(value, 16)?;
    match name {
        "rip" => case.state.rip = value as u64,
        "rflags" => case.state.rflags = value as u64,
        "fpu" => case.fpu = true,
        _ => {
            if let Some(n) = GPR.iter().position(|g| *g == name) {
                case.state.gpr[n] = value as u64;
                return Ok(());
            }
            let all = parts();
            let (_, at, len) = all.iter().find(|(n, _, _)| n == name).context("unknown name")?;
            case.state.fpu.0[*at..at + len].copy_from_slice(&value.to_le_bytes()[..*len]);
            case.fpu = true;
        }
    }
    Ok(())
}
