//! The parser of the text form.

use super::names::*;
use crate::ir::{Block, BlockId, End, Inst, Region, Touched, Type, Value, Var};
use crate::simd::Shape;
use crate::types;
use crate::x87::X87;
use aero_cpu::jit::FlagKind;
use rustc_hash::FxHashMap;

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ParseError {
    /// From 1.
    pub line: usize,
    /// What was not expected.
    pub what: String,
}

type Parsed<T> = Result<T, String>;

/// Reads a region.
pub fn parse(text: &str) -> Result<Region, ParseError> {
    let mut parser = Parser::default();
    for (n, line) in text.lines().enumerate() {
        parser.line(line).map_err(|what| ParseError { line: n + 1, what })?;
    }
    parser.finish().map_err(|what| ParseError { line: text.lines().count(), what })
}

#[derive(Default)]
struct Parser<'a> {
    word: Option<Type>,
    interpreted: Vec<i32>,
    blocks: Vec<Block>,
    /// The block under way, until its end.
    open: Option<Open<'a>>,
}

struct Open<'a> {
    word: Type,
    block: Block,
    types: Vec<Option<Type>>,
    names: FxHashMap<&'a str, Value>,
}

impl<'a> Parser<'a> {
    fn line(&mut self, line: &'a str) -> Parsed<()> {
        let mut words = Words { rest: line.split(';').next().unwrap_or_default() };
        let Some(first) = words.any() else { return Ok(()) };
        match first {
            "region" => self.word = Some(type_named(words.next()?)?),
            "interpreted" => {
                while let Some(word) = words.any() {
                    self.interpreted.push(number(word)?);
                }
            }
            _ => self.code(first, &mut words)?,
        }
        words.end()
    }

    fn code(&mut self, first: &'a str, words: &mut Words<'a>) -> Parsed<()> {
        let word = self.word.ok_or("no line \"region\" yet")?;
        let Some(open) = &mut self.open else {
            self.open = Some(Open::begin(word, first, self.blocks.len(), words)?);
            return Ok(());
        };
        if let Some(end) = open.end(first, words)? {
            open.block.end = end;
            self.blocks.extend(self.open.take().map(|open| open.block));
            return Ok(());
        }
        open.inst(first, words)
    }

    fn finish(self) -> Parsed<Region> {
        match self {
            Self { open: Some(_), .. } => Err("the last block has no end".into()),
            Self { word: None, .. } => Err("no line \"region\"".into()),
            Self { word: Some(word), blocks, interpreted, .. } => {
                Ok(Region { word, blocks, interpreted, second: None })
            }
        }
    }
}

impl<'a> Open<'a> {
    fn begin(word: Type, name: &str, number: usize, words: &mut Words<'a>) -> Parsed<Self> {
        if block_id(name)?.0 as usize != number {
            return Err(format!("block {number} is called {name}"));
        }
        let offset = words.number()?;
        words.keyword("retires")?;
        let retires = words.number()?;
        let block = Block { offset, insts: Vec::new(), end: End::Interpret(offset), retires };
        Ok(Self { word, block, types: Vec::new(), names: FxHashMap::default() })
    }

    fn end(&self, first: &str, words: &mut Words<'a>) -> Parsed<Option<End>> {
        Ok(Some(match first {
            "jump" => End::Jump(words.block()?),
            "branch" => End::Branch { when: self.value(words)?, yes: words.block()?, no: words.block()? },
            "leave" => End::Leave(self.value(words)?),
            "call" => {
                let to = self.value(words)?;
                words.keyword("back")?;
                End::Call { to, back: words.number()?, then: words.block()? }
            }
            "return" => End::Return(self.value(words)?),
            "interpret" => End::Interpret(words.number()?),
            _ => return Ok(None),
        }))
    }

    fn inst(&mut self, first: &'a str, words: &mut Words<'a>) -> Parsed<()> {
        let effect = self.effect(first, words)?;
        let inst = match effect {
            Some(inst) => inst,
            None => self.making(words)?,
        };
        let ty = types::result(self.word, &inst, |v| self.type_of(v));
        if inst.makes_value() {
            self.names.insert(first, Value(self.block.insts.len() as u32));
        }
        self.block.insts.push(inst);
        self.types.push(ty);
        Ok(())
    }

    /// An instruction that makes no value.
    fn effect(&self, first: &str, words: &mut Words<'a>) -> Parsed<Option<Inst>> {
        Ok(Some(match split_size(first) {
            ("nop", None, "") => Inst::Nop,
            ("at", None, "") => {
                let offset = words.number()?;
                words.keyword("done")?;
                Inst::At { offset, done: words.number()? }
            }
            ("set", None, "") => Inst::Set(self.var(words)?, self.value(words)?),
            ("guard", None, "") => Inst::Guard(self.value(words)?),
            ("guardeither", None, "") => Inst::GuardEither(self.value(words)?, self.value(words)?),
            ("exec", None, "") => self.exec(words)?,
            ("flags", None, "") => self.flags(words)?,
            ("flagsif", None, "") => self.flags_if(words)?,
            ("carry", None, "") => Inst::Carry(self.value(words)?),
            ("carryoverflow", None, "") => Inst::CarryOverflow(self.value(words)?),
            ("enterx87", None, "") => {
                Inst::EnterX87 { full: words.number()?, empty: words.number()?, used: words.number()? }
            }
            ("havex87", None, "") => {
                Inst::HaveX87 { full: words.number()?, empty: words.number()?, used: words.number()? }
            }
            ("settle", None, "") => Inst::Settle,
            ("setstate", Some(size), "") => {
                Inst::SetState { at: words.number()?, size, value: self.value(words)? }
            }
            ("store", Some(size), "") => {
                Inst::Store { address: self.value(words)?, size, value: self.value(words)? }
            }
            ("poke", Some(size), "") => {
                Inst::Poke { place: self.value(words)?, size, value: self.value(words)? }
            }
            _ => return Ok(None),
        }))
    }

    /// An instruction that makes a value, after the value's name.
    fn making(&self, words: &mut Words<'a>) -> Parsed<Inst> {
        let first = words.next()?;
        let (name, ty) = match first.split_once('.') {
            Some((name, suffix)) => (name, Some(type_named(suffix)?)),
            None => (first, None),
        };
        if let Some(op) = unary_named(name) {
            return Ok(Inst::Unary(op, self.typed(ty, words)?));
        }
        if let Some(op) = binary_named(name) {
            return Ok(Inst::Binary(op, self.typed(ty, words)?, self.value(words)?));
        }
        let inst = match split_size(name) {
            (name, None, _) => self.unsized_making(name, ty, words)?,
            (name, Some(size), tail) => self.sized_making(name, size, tail, ty, words)?,
        };
        inst.ok_or_else(|| format!("no instruction is called {first}"))
    }

    fn unsized_making(&self, name: &str, ty: Option<Type>, words: &mut Words<'a>) -> Parsed<Option<Inst>> {
        Ok(Some(match (name, ty) {
            ("const", Some(Type::V128)) => Inst::ConstV(words.number()?, words.number()?),
            ("const", Some(ty)) => Inst::Const(ty, words.constant(ty)?),
            ("get", None) => Inst::Get(self.var(words)?),
            ("rip", None) => Inst::Rip(words.number()?),
            ("select", None) => {
                Inst::Select { when: self.value(words)?, yes: self.value(words)?, no: self.value(words)? }
            }
            ("x87", None) => {
                let name = words.next()?;
                let known = X87::named().find(|(known, _)| known == name);
                let (_, op) = known.ok_or_else(|| format!("no operation of the x87 is called {name}"))?;
                Inst::X87 { op, x: words.number()?, y: words.number()?, value: self.value(words)? }
            }
            ("condition", None) => Inst::Condition(condition(words.next()?)?),
            ("shuffle", None) => self.shuffle(words)?,
            ("bitselect", None) => self.vector(Shape::Bitselect, words)?,
            _ => return Ok(None),
        }))
    }

    /// Instructions with a number of bytes in their name.
    fn sized_making(
        &self,
        name: &str,
        size: u8,
        tail: &str,
        ty: Option<Type>,
        words: &mut Words<'a>,
    ) -> Parsed<Option<Inst>> {
        let signed = tail == "s";
        Ok(Some(match (name, tail, ty) {
            ("state", "", Some(ty)) => Inst::State { at: words.number()?, size, ty },
            ("place", "", None) => Inst::Place { address: self.value(words)?, size },
            ("load", "u" | "s", Some(ty)) => Inst::Load { address: self.value(words)?, size, signed, ty },
            ("peek", "u" | "s", Some(ty)) => Inst::Peek { place: self.value(words)?, size, signed, ty },
            ("extract", "", None) => {
                self.vector(Shape::Extract { bytes: size, lane: words.number()? }, words)?
            }
            ("replace", "", None) => {
                self.vector(Shape::Replace { bytes: size, lane: words.number()? }, words)?
            }
            ("fextract", "", None) => {
                self.vector(Shape::ExtractFloat { bytes: size, lane: words.number()? }, words)?
            }
            ("freplace", "", None) => {
                self.vector(Shape::ReplaceFloat { bytes: size, lane: words.number()? }, words)?
            }
            ("shift", "", None) => {
                let way = words.next()?;
                let way = named(WAYS, way).ok_or_else(|| format!("no shift is called {way}"))?;
                self.vector(Shape::Shift { bytes: size, way }, words)?
            }
            _ => return Ok(None),
        }))
    }

    fn shuffle(&self, words: &mut Words<'a>) -> Parsed<Inst> {
        let mut lanes = [0; 16];
        for lane in &mut lanes {
            *lane = words.number()?;
        }
        self.vector(Shape::Shuffle(lanes), words)
    }

    fn vector(&self, shape: Shape, words: &mut Words<'a>) -> Parsed<Inst> {
        let mut of = [Value(0); 3];
        for v in of.iter_mut().take(shape.operands()) {
            *v = self.value(words)?;
        }
        Ok(Inst::Vector(shape, of))
    }

    fn flag_kind(words: &mut Words<'a>) -> Parsed<FlagKind> {
        let kind = words.next()?;
        flag_kind_named(kind).ok_or_else(|| format!("no kind of flags is called {kind}"))
    }

    fn flags(&self, words: &mut Words<'a>) -> Parsed<Inst> {
        Ok(Inst::Flags { kind: Self::flag_kind(words)?, a: self.value(words)?, b: self.value(words)? })
    }

    fn flags_if(&self, words: &mut Words<'a>) -> Parsed<Inst> {
        let kind = Self::flag_kind(words)?;
        Ok(Inst::FlagsIf { when: self.value(words)?, kind, a: self.value(words)?, b: self.value(words)? })
    }

    fn exec(&self, words: &mut Words<'a>) -> Parsed<Inst> {
        let op = words.number()?;
        words.keyword("reads")?;
        let (mut reads, mut writes) = (Touched::default(), Touched::default());
        let mut now = &mut reads;
        while let Some(name) = words.any() {
            match (name, var_named(self.word, name)) {
                ("writes", _) => now = &mut writes,
                ("flags", _) => now.flags = true,
                (_, Some(Var::Gpr(n @ 0..16))) => now.gprs |= 1 << n,
                (_, Some(Var::Xmm(n @ 0..16))) => now.xmms |= 1 << n,
                _ => return Err(format!("no register is called {name}")),
            }
        }
        Ok(Inst::Exec { op, reads, writes })
    }

    fn var(&self, words: &mut Words<'a>) -> Parsed<Var> {
        let name = words.next()?;
        var_named(self.word, name).ok_or_else(|| format!("no variable is called {name}"))
    }

    fn value(&self, words: &mut Words<'a>) -> Parsed<Value> {
        let name = words.next()?;
        self.names.get(name).copied().ok_or_else(|| format!("{name} has not been made in this block"))
    }

    /// A value of the type that its operator's name says.
    fn typed(&self, said: Option<Type>, words: &mut Words<'a>) -> Parsed<Value> {
        let value = self.value(words)?;
        match (said, self.type_of(value)) {
            (Some(said), Some(is)) if said != is => Err(format!("{value} is {is}, not {said}")),
            _ => Ok(value),
        }
    }

    fn type_of(&self, value: Value) -> Option<Type> {
        self.types.get(value.0 as usize).copied().flatten()
    }
}

/// The words of a line.
struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn any(&mut self) -> Option<&'a str> {
        let between = |c: char| c.is_whitespace() || ",()[]:=".contains(c);
        let rest = self.rest.trim_start_matches(between);
        let (word, rest) = rest.split_at(rest.find(between).unwrap_or(rest.len()));
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    fn next(&mut self) -> Parsed<&'a str> {
        self.any().ok_or_else(|| "the line ends too early".into())
    }

    fn end(&mut self) -> Parsed<()> {
        self.any().map_or(Ok(()), |word| Err(format!("{word} is too much")))
    }

    fn keyword(&mut self, keyword: &str) -> Parsed<()> {
        let word = self.next()?;
        if word == keyword { Ok(()) } else { Err(format!("{word} where {keyword} should be")) }
    }

    fn number<T: TryFrom<i128>>(&mut self) -> Parsed<T> {
        number(self.next()?)
    }

    fn block(&mut self) -> Parsed<BlockId> {
        block_id(self.next()?)
    }

    /// Bits of a constant, perhaps written with a sign.
    fn constant(&mut self, ty: Type) -> Parsed<u64> {
        let value: i128 = self.number()?;
        let bits = u32::from(ty.size()) * 8;
        if !(-(1 << (bits - 1))..1 << bits).contains(&value) {
            return Err(format!("{value} is no {ty}"));
        }
        Ok(value as u64 & (u64::MAX >> (64 - bits)))
    }
}

fn number<T: TryFrom<i128>>(word: &str) -> Parsed<T> {
    let parsed = match word.strip_prefix("0x") {
        Some(digits) => i128::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    };
    parsed.and_then(|n| T::try_from(n).ok()).ok_or_else(|| format!("{word} is no number that fits"))
}

fn type_named(name: &str) -> Parsed<Type> {
    named(TYPES, name).ok_or_else(|| format!("no type is called {name}"))
}

fn condition(name: &str) -> Parsed<u8> {
    let cc = CONDITIONS.iter().position(|c| *c == name);
    cc.map(|cc| cc as u8).ok_or_else(|| format!("no condition is called {name}"))
}

fn block_id(name: &str) -> Parsed<BlockId> {
    let id = name.strip_prefix('b').and_then(|n| n.parse().ok());
    id.map(BlockId).ok_or_else(|| format!("{name} is no block"))
}

/// `load4u` is `load`, 4, `u`.
fn split_size(name: &str) -> (&str, Option<u8>, &str) {
    let head = name.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let stem = head.trim_end_matches(|c: char| c.is_ascii_digit());
    match head[stem.len()..].parse() {
        Ok(size) => (stem, Some(size), &name[head.len()..]),
        Err(_) => (name, None, ""),
    }
}
