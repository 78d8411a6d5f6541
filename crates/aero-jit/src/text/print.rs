//! The printer: `Display` of regions.

use super::names::*;
use crate::ir::{Binary, Block, BlockId, End, Inst, Region, Touched, Type, Unary, Value, Var};
use crate::simd::Shape;
use crate::types;
use core::fmt::{self, Display, Formatter};

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

impl Display for BlockId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "b{}", self.0)
    }
}

impl Display for Type {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(TYPES, self).unwrap_or_default())
    }
}

impl Display for Region {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "region {}", self.word)?;
        if !self.interpreted.is_empty() {
            let offsets: Vec<String> = self.interpreted.iter().map(|o| format!("{o:+}")).collect();
            writeln!(f, "interpreted {}", offsets.join(", "))?;
        }
        self.blocks.iter().enumerate().try_for_each(|(n, block)| print_block(f, self.word, n, block))
    }
}

fn print_block(f: &mut Formatter<'_>, word: Type, number: usize, block: &Block) -> fmt::Result {
    writeln!(f, "b{number} {:+} retires {}:", block.offset, block.retires)?;
    let types = types::of_block(word, block);
    for (n, inst) in block.insts.iter().enumerate() {
        f.write_str("  ")?;
        if inst.makes_value() {
            write!(f, "v{n} = ")?;
        }
        print_inst(f, word, inst, &types)?;
        f.write_str("\n")?;
    }
    writeln!(f, "  {}", block.end)
}

fn print_inst(f: &mut Formatter<'_>, word: Type, inst: &Inst, types: &[Option<Type>]) -> fmt::Result {
    let var = |var: Var| var_name(word, var);
    match *inst {
        Inst::Nop => f.write_str("nop"),
        Inst::At { offset, done } => write!(f, "at {offset:+} done {done}"),
        Inst::Const(ty, bits) => write!(f, "const.{ty} {}", number(ty, bits)),
        Inst::ConstV(low, high) => write!(f, "const.v128 {low:#x}, {high:#x}"),
        Inst::Get(v) => write!(f, "get {}", var(v)),
        Inst::Set(v, value) => write!(f, "set {}, {value}", var(v)),
        Inst::Unary(op, a) => write!(f, "{} {a}", unary_name(op, a, types)),
        Inst::Binary(op, a, b) => write!(f, "{} {a}, {b}", binary_name(op, a, types)),
        Inst::Select { when, yes, no } => write!(f, "select {when}, {yes}, {no}"),
        Inst::Vector(shape, of) => print_shape(f, shape, of),
        Inst::Rip(offset) => write!(f, "rip {offset:+}"),
        Inst::State { at, size, ty } => write!(f, "state{size}.{ty} [{at:#x}]"),
        Inst::SetState { at, size, value } => write!(f, "setstate{size} [{at:#x}], {value}"),
        Inst::Guard(v) => write!(f, "guard {v}"),
        Inst::GuardEither(a, b) => write!(f, "guardeither {a}, {b}"),
        Inst::Exec { op, reads, writes } => {
            write!(f, "exec {op} reads({}) writes({})", touched(word, reads), touched(word, writes))
        }
        Inst::Flags { kind, a, b } => write!(f, "flags {} {a}, {b}", flag_kind_name(kind)),
        Inst::FlagsIf { when, kind, a, b } => write!(f, "flagsif {} {when}, {a}, {b}", flag_kind_name(kind)),
        Inst::Carry(v) => write!(f, "carry {v}"),
        Inst::CarryOverflow(v) => write!(f, "carryoverflow {v}"),
        Inst::X87 { op, x, y, value } => write!(f, "x87 {} {x:#x}, {y:#x}, {value}", op.name()),
        Inst::EnterX87 { full, empty, used } => write!(f, "enterx87 {full:#x}, {empty:#x}, {used:#x}"),
        Inst::HaveX87 { full, empty, used } => write!(f, "havex87 {full:#x}, {empty:#x}, {used:#x}"),
        Inst::Settle => f.write_str("settle"),
        Inst::Condition(cc) => write!(f, "condition {}", CONDITIONS[usize::from(cc & 15)]),
        Inst::Load { .. }
        | Inst::Store { .. }
        | Inst::Place { .. }
        | Inst::Peek { .. }
        | Inst::Poke { .. } => print_access(f, inst),
    }
}

fn print_access(f: &mut Formatter<'_>, inst: &Inst) -> fmt::Result {
    let sign = |signed: bool| if signed { 's' } else { 'u' };
    match *inst {
        Inst::Load { address, size, signed, ty } => write!(f, "load{size}{}.{ty} {address}", sign(signed)),
        Inst::Peek { place, size, signed, ty } => write!(f, "peek{size}{}.{ty} {place}", sign(signed)),
        Inst::Store { address, size, value } => write!(f, "store{size} {address}, {value}"),
        Inst::Poke { place, size, value } => write!(f, "poke{size} {place}, {value}"),
        Inst::Place { address, size } => write!(f, "place{size} {address}"),
        _ => Ok(()),
    }
}

fn print_shape(f: &mut Formatter<'_>, shape: Shape, [a, b, c]: [Value; 3]) -> fmt::Result {
    match shape {
        Shape::Shuffle(lanes) => {
            let lanes = lanes.map(|l| l.to_string()).join(" ");
            write!(f, "shuffle [{lanes}] {a}, {b}")
        }
        Shape::Bitselect => write!(f, "bitselect {a}, {b}, {c}"),
        Shape::Extract { bytes, lane } => write!(f, "extract{bytes} [{lane}] {a}"),
        Shape::ExtractFloat { bytes, lane } => write!(f, "fextract{bytes} [{lane}] {a}"),
        Shape::ReplaceFloat { bytes, lane } => write!(f, "freplace{bytes} [{lane}] {a}, {b}"),
        Shape::Replace { bytes, lane } => write!(f, "replace{bytes} [{lane}] {a}, {b}"),
        Shape::Shift { bytes, way } => {
            write!(f, "shift{bytes} {} {a}, {b}", name_of(WAYS, &way).unwrap_or_default())
        }
    }
}

fn unary_name(op: Unary, operand: Value, types: &[Option<Type>]) -> String {
    match op {
        Unary::Wasm(op) => op.name().into(),
        _ => typed(name_of(UNARY, &op), operand, types),
    }
}

fn binary_name(op: Binary, operand: Value, types: &[Option<Type>]) -> String {
    match op {
        Binary::Wasm(op) => op.name().into(),
        _ => typed(name_of(BINARY, &op), operand, types),
    }
}

/// The name of an operator of several types, and which it is.
fn typed(name: Option<&str>, operand: Value, types: &[Option<Type>]) -> String {
    let ty = types
        .get(operand.0 as usize)
        .copied()
        .flatten()
        .map_or_else(|| "unknown".into(), |ty| ty.to_string());
    format!("{}.{ty}", name.unwrap_or_default())
}

/// A constant: near 0 in decimal with a sign, otherwise its bits.
fn number(ty: Type, bits: u64) -> String {
    let signed = if ty == Type::I32 { i64::from(bits as i32) } else { bits as i64 };
    match ty {
        Type::I32 | Type::I64 if (-0x1000..=0x1000).contains(&signed) => signed.to_string(),
        Type::I32 | Type::F32 => format!("{:#x}", bits as u32),
        _ => format!("{bits:#x}"),
    }
}

fn touched(word: Type, what: Touched) -> String {
    let bits = |mask: u16| (0..16u8).filter(move |n| mask >> n & 1 != 0);
    let gprs = bits(what.gprs).map(|n| var_name(word, Var::Gpr(n)));
    let xmms = bits(what.xmms).map(|n| var_name(word, Var::Xmm(n)));
    let flags = what.flags.then(|| "flags".to_string());
    gprs.chain(xmms).chain(flags).collect::<Vec<_>>().join(" ")
}

impl Display for End {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Jump(to) => write!(f, "jump {to}"),
            Self::Branch { when, yes, no } => write!(f, "branch {when}, {yes}, {no}"),
            Self::Leave(to) => write!(f, "leave {to}"),
            Self::Call { to, back, then } => write!(f, "call {to}, back {back:+}, {then}"),
            Self::Return(to) => write!(f, "return {to}"),
            Self::Interpret(at) => write!(f, "interpret {at:+}"),
        }
    }
}
