//! The names of things: tables that the printer reads one way and the parser the other.

use crate::ir::{Binary, Type, Unary, Var};
use crate::simd::{Op1, Op2, Way};
use aero_cpu::jit::FlagKind;

pub const TYPES: &[(Type, &str)] =
    &[(Type::I32, "i32"), (Type::I64, "i64"), (Type::F32, "f32"), (Type::F64, "f64"), (Type::V128, "v128")];

pub const UNARY: &[(Unary, &str)] = &[
    (Unary::Eqz, "eqz"),
    (Unary::Clz, "clz"),
    (Unary::Ctz, "ctz"),
    (Unary::Popcnt, "popcnt"),
    (Unary::Wrap, "wrap"),
    (Unary::ExtendS, "extend_s"),
    (Unary::ExtendU, "extend_u"),
    (Unary::Extend8S, "extend8_s"),
    (Unary::Extend16S, "extend16_s"),
    (Unary::Extend32S, "extend32_s"),
];

pub const BINARY: &[(Binary, &str)] = &[
    (Binary::Add, "add"),
    (Binary::Sub, "sub"),
    (Binary::Mul, "mul"),
    (Binary::And, "and"),
    (Binary::Or, "or"),
    (Binary::Xor, "xor"),
    (Binary::Shl, "shl"),
    (Binary::ShrS, "shr_s"),
    (Binary::ShrU, "shr_u"),
    (Binary::Rotl, "rotl"),
    (Binary::Rotr, "rotr"),
    (Binary::Eq, "eq"),
    (Binary::Ne, "ne"),
    (Binary::LtS, "lt_s"),
    (Binary::LtU, "lt_u"),
    (Binary::LeS, "le_s"),
    (Binary::LeU, "le_u"),
    (Binary::GtS, "gt_s"),
    (Binary::GtU, "gt_u"),
    (Binary::GeS, "ge_s"),
    (Binary::GeU, "ge_u"),
    (Binary::DivS, "div_s"),
    (Binary::DivU, "div_u"),
    (Binary::RemS, "rem_s"),
    (Binary::RemU, "rem_u"),
];

pub const WAYS: &[(Way, &str)] = &[(Way::Left, "shl"), (Way::Right, "shr_u"), (Way::RightSigned, "shr_s")];

/// Conditions by the low four bits of Jcc.
pub const CONDITIONS: [&str; 16] =
    ["o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"];

/// Operations that flags follow from, each of four sizes.
const FLAG_KINDS: &[(FlagKind, &str)] = &[
    (FlagKind::ADD, "add"),
    (FlagKind::SUB, "sub"),
    (FlagKind::LOGIC, "logic"),
    (FlagKind::INC, "inc"),
    (FlagKind::DEC, "dec"),
    (FlagKind::WORDS, "words"),
    (FlagKind::BIT, "bit"),
    (FlagKind::SHL, "shl"),
    (FlagKind::SHR, "shr"),
    (FlagKind::SAR, "sar"),
    (FlagKind::IMUL, "imul"),
    (FlagKind::MUL, "mul"),
    (FlagKind::ORDER, "order"),
];

const GPR64: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];
const GPR32: [&str; 16] = [
    "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "r8d", "r9d", "r10d", "r11d", "r12d", "r13d",
    "r14d", "r15d",
];
const NAMED_VARS: &[(Var, &str)] = &[
    (Var::FlagKind, "flag.kind"),
    (Var::FlagA, "flag.a"),
    (Var::FlagB, "flag.b"),
    (Var::CarryKind, "carry.kind"),
    (Var::CarryA, "carry.a"),
    (Var::CarryB, "carry.b"),
    (Var::FpStack, "x87.stack"),
    (Var::FpBase, "x87.base"),
    (Var::FpA, "x87.a"),
    (Var::FpB, "x87.b"),
    (Var::FpCode, "x87.code"),
    (Var::FpIp, "x87.ip"),
    (Var::FpDp, "x87.dp"),
    (Var::FpDs, "x87.ds"),
];

/// What a table calls a thing.
pub fn name_of<T: PartialEq>(table: &[(T, &'static str)], thing: &T) -> Option<&'static str> {
    table.iter().find(|(t, _)| t == thing).map(|(_, name)| *name)
}

/// What has this name in a table.
pub fn named<T: Copy>(table: &[(T, &'static str)], name: &str) -> Option<T> {
    table.iter().find(|(_, n)| *n == name).map(|(thing, _)| *thing)
}

fn gprs(word: Type) -> &'static [&'static str; 16] {
    if word == Type::I64 { &GPR64 } else { &GPR32 }
}

/// A variable's name in code of this word.
pub fn var_name(word: Type, var: Var) -> String {
    match var {
        Var::Gpr(n) => gprs(word).get(n as usize).map_or_else(|| format!("gpr{n}"), |name| (*name).into()),
        Var::Xmm(n) => format!("xmm{n}"),
        Var::Fp(n) => format!("fp{n}"),
        _ => name_of(NAMED_VARS, &var).unwrap_or_default().into(),
    }
}

/// The variable of this name.
pub fn var_named(word: Type, name: &str) -> Option<Var> {
    if let Some(n) = gprs(word).iter().position(|g| *g == name) {
        return Some(Var::Gpr(n as u8));
    }
    let numbered = |prefix: &str| name.strip_prefix(prefix).and_then(|n| n.parse().ok());
    named(NAMED_VARS, name)
        .or_else(|| numbered("xmm").map(Var::Xmm))
        .or_else(|| numbered("gpr").map(Var::Gpr))
        .or_else(|| numbered("fp").map(Var::Fp))
}

/// A flag kind's name: operation and bytes.
pub fn flag_kind_name(kind: FlagKind) -> String {
    match name_of(FLAG_KINDS, &kind.operation()) {
        _ if kind == FlagKind::MEMORY => "memory".into(),
        Some(operation) => format!("{operation}.{}", kind.size()),
        None => format!("kind.{}", kind.0),
    }
}

/// The flag kind of this name.
pub fn flag_kind_named(name: &str) -> Option<FlagKind> {
    if name == "memory" {
        return Some(FlagKind::MEMORY);
    }
    let (operation, number) = name.split_once('.')?;
    let number: u32 = number.parse().ok()?;
    if operation == "kind" {
        return Some(FlagKind(number));
    }
    let kind = named(FLAG_KINDS, operation)?;
    matches!(number, 1 | 2 | 4 | 8).then(|| kind.sized(number as u8))
}

/// The operator of one operand of this name.
pub fn unary_named(name: &str) -> Option<Unary> {
    let wasm = || Op1::ALL.iter().find(|op| op.name() == name).map(|op| Unary::Wasm(*op));
    named(UNARY, name).or_else(wasm)
}

/// The operator of two operands of this name.
pub fn binary_named(name: &str) -> Option<Binary> {
    let wasm = || Op2::ALL.iter().find(|op| op.name() == name).map(|op| Binary::Wasm(*op));
    named(BINARY, name).or_else(wasm)
}
