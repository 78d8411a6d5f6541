//! The rules of the intermediate language, checked between passes.
//!
//! What [`crate::ir`] says in words is here as code: types, definition before use, and what a side exit relies on.

use crate::ir::{Binary, Block, BlockId, End, Inst, Region, Type, Unary, Value, Var};
use crate::simd::Shape;
use crate::types;

/// A rule that a region breaks, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{block} {place}: {wrong}")]
pub struct Invalid {
    /// In which block.
    pub block: BlockId,
    /// Where in it.
    pub place: Place,
    /// What.
    pub wrong: Wrong,
}

/// A place in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The instruction that would make this value.
    Inst(Value),
    /// The end.
    End,
}

/// A broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Wrong {
    #[error("the region's word is {0}")]
    Word(Type),
    #[error("{0} has not been made before in this block")]
    Undefined(Value),
    #[error("{value} is {is}, not {wants}")]
    Type { value: Value, is: Type, wants: Type },
    #[error("{0} is no integer")]
    NoInteger(Value),
    #[error("{0:?} does not exist in this code")]
    NoVar(Var),
    #[error("{size} bytes are no access of type {ty}")]
    Size { size: u8, ty: Type },
    #[error("there is no such lane")]
    Lane,
    #[error("no constant has type {0} and these bits")]
    Constant(Type),
    #[error("there is no condition {0}")]
    Condition(u8),
    #[error("{0} does not exist")]
    NoBlock(BlockId),
    #[error("there is no interpreted instruction {0}")]
    NotInterpreted(u16),
    #[error("it may leave, but belongs to no guest instruction")]
    Homeless,
    #[error("it may leave after the guest instruction has changed something")]
    LateLeave,
    #[error("the guest instruction changes memory twice")]
    TwoChanges,
    #[error("{0} is no place of this guest instruction")]
    NoPlace(Value),
    #[error("{says} instructions are said to be done, and it is {is}")]
    Done { says: u32, is: u32 },
    #[error("the block is said to retire {says} instructions, and it is {is}")]
    Retires { says: u32, is: u32 },
}

type Checked = Result<(), Wrong>;

/// Checks a region.
pub fn verify(region: &Region) -> Result<(), Invalid> {
    if !matches!(region.word, Type::I32 | Type::I64) {
        return Err(invalid(0, Place::End, Wrong::Word(region.word)));
    }
    region.blocks.iter().enumerate().try_for_each(|(n, block)| {
        let mut check = Check::new(region);
        check.block(block).map_err(|(place, wrong)| invalid(n, place, wrong))
    })?;
    region.second.as_deref().map_or(Ok(()), verify)
}

/// Checks a region in builds for tests, where a broken rule is a broken pass.
///
/// # Panics
/// If a rule is broken, naming what ran last.
pub fn debug_verify(region: &Region, after: &str) {
    if cfg!(debug_assertions)
        && let Err(wrong) = verify(region)
    {
        panic!("{after} made an invalid region: {wrong}\n{region}");
    }
}

fn invalid(block: usize, place: Place, wrong: Wrong) -> Invalid {
    Invalid { block: BlockId(block as u32), place, wrong }
}

impl core::fmt::Display for Place {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Inst(value) => value.fmt(f),
            Self::End => f.write_str("end"),
        }
    }
}

/// What is known at a point of a block.
struct Check<'a> {
    region: &'a Region,
    types: Vec<Option<Type>>,
    /// Guest instructions that have begun.
    begun: u32,
    /// Where the one under way begins.
    home: u32,
    /// It has changed something.
    changed: bool,
    /// It has changed memory.
    wrote: bool,
}

impl<'a> Check<'a> {
    fn new(region: &'a Region) -> Self {
        Self { region, types: Vec::new(), begun: 0, home: 0, changed: false, wrote: false }
    }

    fn block(&mut self, block: &Block) -> Result<(), (Place, Wrong)> {
        for (n, inst) in block.insts.iter().enumerate() {
            let place = Place::Inst(Value(n as u32));
            self.inst(block, n as u32, inst).map_err(|wrong| (place, wrong))?;
        }
        self.end(block).map_err(|wrong| (Place::End, wrong))
    }

    fn inst(&mut self, block: &Block, number: u32, inst: &Inst) -> Checked {
        inst.uses().try_for_each(|v| self.type_of(v).map(|_| ()))?;
        self.operands(block, inst)?;
        self.order(number, inst)?;
        let ty = types::result(self.region.word, inst, |v| self.types.get(v.0 as usize).copied().flatten());
        self.types.push(ty);
        Ok(())
    }

    fn end(&self, block: &Block) -> Checked {
        match block.end {
            End::Branch { when, .. } => self.is(when, Type::I32)?,
            End::Leave(to) | End::Return(to) | End::Call { to, .. } => self.is(to, self.region.word)?,
            End::Jump(_) | End::Interpret(_) => {}
        }
        if let Some(to) = block.end.successors().find(|to| to.0 as usize >= self.region.blocks.len()) {
            return Err(Wrong::NoBlock(to));
        }
        // A block that asks before a loop begins an instruction, and leaves it to the loop.
        let asks =
            block.retires == 0 && self.begun == 1 && !self.changed && matches!(block.end, End::Jump(_));
        ensure(block.retires == self.begun || asks, Wrong::Retires { says: block.retires, is: self.begun })
    }

    /// What side exits rely on: where they are, and that nothing has changed before.
    fn order(&mut self, number: u32, inst: &Inst) -> Checked {
        if let Inst::At { done, .. } = *inst {
            ensure(done == self.begun, Wrong::Done { says: done, is: self.begun })?;
            (self.begun, self.home, self.changed, self.wrote) = (self.begun + 1, number, false, false);
        }
        if inst.may_leave() {
            ensure(self.begun != 0, Wrong::Homeless)?;
            ensure(!self.changed, Wrong::LateLeave)?;
        }
        let writes =
            matches!(inst, Inst::Store { .. } | Inst::Poke { .. } | Inst::Exec { .. } | Inst::X87 { .. });
        ensure(!(writes && self.wrote), Wrong::TwoChanges)?;
        self.wrote |= writes;
        self.changed |= writes
            || matches!(
                inst,
                Inst::Set(..)
                    | Inst::SetState { .. }
                    | Inst::Flags { .. }
                    | Inst::FlagsIf { .. }
                    | Inst::Carry(_)
                    | Inst::CarryOverflow(_)
            );
        Ok(())
    }

    fn operands(&self, block: &Block, inst: &Inst) -> Checked {
        let word = self.region.word;
        match *inst {
            Inst::Nop
            | Inst::At { .. }
            | Inst::ConstV(..)
            | Inst::Rip(_)
            | Inst::EnterX87 { .. }
            | Inst::HaveX87 { .. } => Ok(()),
            Inst::Const(ty, bits) => constant(ty, bits),
            Inst::Get(var) => self.var(var),
            Inst::Set(var, v) => self.var(var).and_then(|()| self.is(v, var.type_in(word))),
            Inst::Unary(op, a) => self.unary(op, a),
            Inst::Binary(op, a, b) => self.binary(op, a, b),
            Inst::Select { when, yes, no } => {
                self.is(when, Type::I32)?;
                self.is(no, self.type_of(yes)?)
            }
            Inst::Vector(shape, of) => self.vector(shape, of),
            Inst::GuardEither(a, b) => self.is(a, Type::I32).and_then(|()| self.is(b, Type::I32)),
            Inst::Guard(v) | Inst::Carry(v) | Inst::CarryOverflow(v) => self.is(v, Type::I32),
            Inst::Exec { op, .. } => {
                ensure(usize::from(op) < self.region.interpreted.len(), Wrong::NotInterpreted(op))
            }
            Inst::Flags { a, b, .. } => self.is(a, word).and_then(|()| self.is(b, word)),
            Inst::FlagsIf { when, a, b, .. } => {
                self.is(when, Type::I32).and_then(|()| self.is(a, word)).and_then(|()| self.is(b, word))
            }
            Inst::X87 { value, .. } => self.is(value, Type::I64),
            Inst::Condition(cc) => ensure(cc < 16, Wrong::Condition(cc)),
            _ => self.access(block, inst),
        }
    }

    fn access(&self, block: &Block, inst: &Inst) -> Checked {
        match *inst {
            Inst::State { size, ty, .. } => access(size, ty, false),
            Inst::SetState { size, value, .. } => match self.type_of(value)? {
                ty @ (Type::F32 | Type::F64) => ensure(size == ty.size(), Wrong::Size { size, ty }),
                ty => access(size, ty, false),
            },
            Inst::Load { address, size, signed, ty } => {
                self.is(address, self.region.word)?;
                access(size, ty, signed)
            }
            Inst::Store { address, size, value } => {
                self.is(address, self.region.word)?;
                access(size, self.type_of(value)?, false)
            }
            Inst::Place { address, size } => {
                self.is(address, self.region.word)?;
                access(size, Type::V128, false)
            }
            Inst::Peek { place, size, signed, ty } => {
                self.place(block, place, size)?;
                access(size, ty, signed)
            }
            Inst::Poke { place, size, value } => {
                self.place(block, place, size)?;
                access(size, self.type_of(value)?, false)
            }
            _ => Ok(()),
        }
    }

    /// A place must have been asked for in this guest instruction, and be large enough.
    fn place(&self, block: &Block, place: Value, bytes: u8) -> Checked {
        match block.insts.get(place.0 as usize) {
            Some(Inst::Place { size, .. }) if *size >= bytes && place.0 > self.home => Ok(()),
            _ => Err(Wrong::NoPlace(place)),
        }
    }

    fn unary(&self, op: Unary, a: Value) -> Checked {
        match op {
            Unary::Wrap | Unary::Extend32S => self.is(a, Type::I64),
            Unary::ExtendS | Unary::ExtendU => self.is(a, Type::I32),
            Unary::Wasm(op) => self.is(a, op.takes()),
            _ => self.integer(a).map(|_| ()),
        }
    }

    fn binary(&self, op: Binary, a: Value, b: Value) -> Checked {
        let ty = match op {
            Binary::Wasm(op) => op.takes(),
            _ => self.integer(a)?,
        };
        self.is(a, ty)?;
        self.is(b, ty)
    }

    fn vector(&self, shape: Shape, [a, b, c]: [Value; 3]) -> Checked {
        self.is(a, Type::V128)?;
        let lane_exists = |bytes: u8, lane: u8| {
            let known = matches!(bytes, 1 | 2 | 4 | 8);
            ensure(known && u32::from(lane) < 16 / u32::from(bytes), Wrong::Lane)
        };
        match shape {
            Shape::Shuffle(lanes) => {
                ensure(lanes.iter().all(|l| *l < 32), Wrong::Lane)?;
                self.is(b, Type::V128)
            }
            Shape::Bitselect => self.is(b, Type::V128).and_then(|()| self.is(c, Type::V128)),
            Shape::Extract { bytes, lane } => lane_exists(bytes, lane),
            Shape::Replace { bytes, lane } => {
                lane_exists(bytes, lane)?;
                self.is(b, types::lane(bytes))
            }
            Shape::ExtractFloat { bytes, lane } => {
                ensure(matches!(bytes, 4 | 8), Wrong::Lane).and_then(|()| lane_exists(bytes, lane))
            }
            Shape::ReplaceFloat { bytes, lane } => {
                ensure(matches!(bytes, 4 | 8), Wrong::Lane)?;
                lane_exists(bytes, lane)?;
                self.is(b, types::float_lane(bytes))
            }
            Shape::Shift { bytes, .. } => {
                lane_exists(bytes, 0)?;
                self.is(b, Type::I32)
            }
        }
    }

    fn var(&self, var: Var) -> Checked {
        match var {
            Var::Gpr(n) | Var::Xmm(n) if n >= 16 => Err(Wrong::NoVar(var)),
            Var::Fp(n) if n >= 8 => Err(Wrong::NoVar(var)),
            _ => Ok(()),
        }
    }

    fn type_of(&self, value: Value) -> Result<Type, Wrong> {
        self.types.get(value.0 as usize).copied().flatten().ok_or(Wrong::Undefined(value))
    }

    fn integer(&self, value: Value) -> Result<Type, Wrong> {
        match self.type_of(value)? {
            ty @ (Type::I32 | Type::I64) => Ok(ty),
            _ => Err(Wrong::NoInteger(value)),
        }
    }

    fn is(&self, value: Value, wants: Type) -> Checked {
        let is = self.type_of(value)?;
        ensure(is == wants, Wrong::Type { value, is, wants })
    }
}

fn ensure(holds: bool, wrong: Wrong) -> Checked {
    if holds { Ok(()) } else { Err(wrong) }
}

fn constant(ty: Type, bits: u64) -> Checked {
    let fits = match ty {
        Type::I32 | Type::F32 => bits >> 32 == 0,
        Type::I64 | Type::F64 => true,
        Type::V128 => false,
    };
    ensure(fits, Wrong::Constant(ty))
}

/// Whether memory can be accessed so: integers and vectors, no more bytes than the type has.
fn access(size: u8, ty: Type, signed: bool) -> Checked {
    let is_float = matches!(ty, Type::F32 | Type::F64);
    let known = matches!(size, 1 | 2 | 4 | 8 | 16) && size <= ty.size();
    ensure(known && !is_float && !(signed && ty == Type::V128), Wrong::Size { size, ty })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::text::parse;

    /// The message for a block of these lines, which retires one instruction.
    fn message(lines: &str) -> String {
        let text = format!("region i64\ninterpreted +0\nb0 +0 retires 1:\n{lines}");
        verify(&parse(&text).unwrap()).map_or_else(|e| e.to_string(), |()| "valid".into())
    }

    #[test]
    fn random_regions_are_valid() {
        for seed in 0..3000 {
            let region = Random::new(seed).region();
            verify(&region).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{region}"));
        }
    }

    #[test]
    fn operands_of_the_wrong_type_are_found() {
        assert_eq!(
            message("at +0 done 0\n v1 = const.i32 1\n set rax, v1\n jump b0"),
            "b0 v2: v1 is i32, not i64"
        );
        assert_eq!(
            message("at +0 done 0\n v1 = get xmm0\n v2 = add v1, v1\n jump b0"),
            "b0 v2: v1 is no integer"
        );
        assert_eq!(message("at +0 done 0\n v1 = get rax\n branch v1, b0, b0"), "b0 end: v1 is i64, not i32");
        let narrow = "at +0 done 0\n v1 = get rax\n v2 = load8u.i32 v1\n jump b0";
        assert_eq!(message(narrow), "b0 v2: 8 bytes are no access of type i32");
    }

    #[test]
    fn use_before_definition_is_found() {
        let mut region =
            parse("region i64\nb0 +0 retires 0:\n v0 = get rax\n v1 = eqz v0\n jump b0").unwrap();
        region.blocks[0].insts.swap(0, 1);
        let found =
            Invalid { block: BlockId(0), place: Place::Inst(Value(0)), wrong: Wrong::Undefined(Value(0)) };
        assert_eq!(verify(&region), Err(found));
    }

    #[test]
    fn leaving_after_a_change_is_found() {
        let late = "it may leave after the guest instruction has changed something";
        for change in ["set rax, v1", "setstate8 [16], v1", "flags add.8 v1, v1", "carry v2", "store8 v1, v1"]
        {
            let lines = format!(
                "at +0 done 0\n v1 = get rax\n v2 = eqz v1\n {change}\n v4 = load8u.i64 v1\n jump b0"
            );
            assert_eq!(message(&lines), format!("b0 v4: {late}"), "{change}");
        }
        assert_eq!(
            message("v0 = get rax\n v1 = load8u.i64 v0\n jump b0"),
            "b0 v1: it may leave, but belongs to no guest instruction"
        );
    }

    #[test]
    fn places_are_good_for_one_guest_instruction() {
        let poke = "v1 = get rax\n v2 = place8 v1\n poke8 v2, v1";
        assert_eq!(message(&format!("at +0 done 0\n {poke}\n jump b0")), "valid");
        assert_eq!(
            message(&format!("at +0 done 0\n {poke}\n poke8 v2, v1\n jump b0")),
            "b0 v4: the guest instruction changes memory twice"
        );
        assert_eq!(
            message(&format!("at +0 done 0\n {poke}\n at +1 done 1\n poke8 v2, v1\n jump b0")),
            "b0 v5: v2 is no place of this guest instruction"
        );
    }

    #[test]
    fn counts_and_numbers_are_checked() {
        assert_eq!(message("jump b0"), "b0 end: the block is said to retire 1 instructions, and it is 0");
        assert_eq!(
            message("at +0 done 1\n jump b0"),
            "b0 v0: 1 instructions are said to be done, and it is 0"
        );
        assert_eq!(message("at +0 done 0\n jump b7"), "b0 end: b7 does not exist");
        assert_eq!(
            message("at +0 done 0\n exec 1 reads() writes()\n jump b0"),
            "b0 v1: there is no interpreted instruction 1"
        );
        assert_eq!(
            message("at +0 done 0\n v1 = get xmm16\n jump b0"),
            "b0 v1: Xmm(16) does not exist in this code"
        );
    }
}
