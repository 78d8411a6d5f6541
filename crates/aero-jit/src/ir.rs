//! The intermediate language: a [`Region`] of basic blocks over guest state in variables and temporary values.
//!
//! A region is one WebAssembly function. What lives longer than a block is in a [`Var`], which becomes a local of that
//! function: guest registers, and the description of the arithmetic flags. What a block computes on the way is a
//! [`Value`], named by the instruction that makes it, assigned once, and never used in another block.
//!
//! **Side exits.** Loads, stores, [`Inst::Place`] and [`Inst::Guard`] may leave the region *before* the guest instruction
//! that they belong to. So all variables must hold, at each of them, what the guest's state is before that instruction:
//! a guest instruction sets its variables after the last of its operations that can leave, and at most one of its
//! operations changes memory, also after all others that can leave. The interpreter then runs the instruction, with its
//! fault or its device access; compiled code knows neither. [`Inst::At`] says where a guest instruction begins.
//!
//! **Flags.** The arithmetic flags are described, not computed: a kind and two operands ([`aero_cpu::jit::Lazy`]). The
//! translator says [`Inst::Flags`] and [`Inst::Condition`]; the pass [`crate::flags`] turns them into variables and
//! comparisons.

use aero_cpu::jit::FlagKind;

/// The type of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Type {
    /// 32 bits, or a truth value.
    I32,
    /// 64 bits.
    I64,
    /// A single.
    F32,
    /// A double.
    F64,
    /// 128 bits.
    V128,
}

/// A value: the number of the instruction that makes it, in its block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Value(pub u32);

/// A block's number in its region; 0 is the entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct BlockId(pub u32);

/// Guest state that a region keeps in locals.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Var {
    /// A general register: the region's word.
    Gpr(u8),
    /// An XMM register.
    Xmm(u8),
    /// What the flags follow from: a [`FlagKind`] (`I32`). [`FlagKind::MEMORY`] on entry.
    FlagKind,
    /// Its first operand: the region's word.
    FlagA,
    /// Its second operand: the region's word.
    FlagB,
    /// What CF follows from, where a region has instructions that keep it; otherwise unused.
    CarryKind,
    /// Its first operand.
    CarryA,
    /// Its second operand.
    CarryB,
    /// An x87 register as a double, between [`Inst::HaveX87`] and leaving: R(TOP + n), with TOP as it was there.
    Fp(u8),
    /// What else describes the x87: a field of [`aero_cpu::jit::x87::LazyX87`], from there on.
    FpStack,
    /// TOP as it was at [`Inst::HaveX87`].
    FpBase,
    /// First operand of the last operation.
    FpA,
    /// Second.
    FpB,
    /// Opcode of the last instruction and kind of the last operation; 0 at the region's entry.
    FpCode,
    /// Linear address of the last instruction: bytes from the head.
    FpIp,
    /// Address of the last operand in memory.
    FpDp,
    /// Its segment.
    FpDs,
}

/// Operations of one operand. Names are WebAssembly's, without the type where it is the operand's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[allow(missing_docs, reason = "the names are WebAssembly's")]
pub enum Unary {
    Eqz,
    Clz,
    Ctz,
    Popcnt,
    /// I64 to I32.
    Wrap,
    /// I32 to I64.
    ExtendS,
    /// I32 to I64.
    ExtendU,
    Extend8S,
    Extend16S,
    /// I64 only.
    Extend32S,
    /// Any WebAssembly operator of one operand that has no name here: vectors and floating point.
    Wasm(crate::simd::Op1),
}

/// Operations of two operands of one type, I32 or I64; comparisons give I32.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[allow(missing_docs, reason = "the names are WebAssembly's")]
pub enum Binary {
    Add,
    Sub,
    Mul,
    And,
    Or,
    Xor,
    Shl,
    ShrS,
    ShrU,
    Rotl,
    Rotr,
    Eq,
    Ne,
    LtS,
    LtU,
    LeS,
    LeU,
    GtS,
    GtU,
    GeS,
    GeU,
    /// The divisor must be known not to be 0, and the quotient to fit.
    DivS,
    /// The divisor must be known not to be 0.
    DivU,
    /// The divisor must be known not to be 0.
    RemS,
    /// The divisor must be known not to be 0.
    RemU,
    /// Any WebAssembly operator of two operands that has no name here: vectors and floating point.
    Wasm(crate::simd::Op2),
}

/// Which general registers, and whether the flags: what an interpreted instruction reads or writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Touched {
    /// Bit *n*: register *n*.
    pub gprs: u16,
    /// Bit *n*: XMM register *n*.
    pub xmms: u16,
    /// The arithmetic flags.
    pub flags: bool,
}

/// An instruction. Those that make a value name it by their place in the block.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Inst {
    /// Nothing: what a pass has removed.
    Nop,
    /// What follows belongs to the guest instruction at `offset` from the region's head; `done` instructions of this
    /// block are complete.
    At {
        /// Bytes from the head.
        offset: i32,
        /// Complete guest instructions of the block.
        done: u32,
    },
    /// An I32 or I64 (bits of an F32 or F64).
    Const(Type, u64),
    /// A V128, low half first.
    ConstV(u64, u64),
    /// A variable's value.
    Get(Var),
    /// Changes a variable.
    Set(Var, Value),
    /// One operand.
    Unary(Unary, Value),
    /// Two operands.
    Binary(Binary, Value, Value),
    /// `yes` if the I32 is not 0.
    Select {
        /// An I32.
        when: Value,
        /// The value if it is not 0.
        yes: Value,
        /// The value if it is 0.
        no: Value,
    },
    /// Operators of vectors with three operands or a lane.
    Vector(crate::simd::Shape, [Value; 3]),
    /// The linear address of the byte at this distance from the region's head: the region's word.
    Rip(i32),
    /// Reads `size` bytes of the state block, zero-extended.
    State {
        /// Offset in [`aero_cpu::state::CpuState`].
        at: u32,
        /// 1, 2, 4, 8 or 16.
        size: u8,
        /// I32, I64 or V128.
        ty: Type,
    },
    /// Writes the low `size` bytes of a value to the state block.
    SetState {
        /// Offset in [`aero_cpu::state::CpuState`].
        at: u32,
        /// 1, 2, 4, 8 or 16.
        size: u8,
        /// I32, I64, F32, F64 or V128.
        value: Value,
    },
    /// Reads guest memory, or leaves.
    Load {
        /// The linear address: the region's word.
        address: Value,
        /// 1, 2, 4, 8 or 16.
        size: u8,
        /// Sign-extended.
        signed: bool,
        /// I32, I64 or V128.
        ty: Type,
    },
    /// Writes the low `size` bytes of a value to guest memory, or leaves.
    Store {
        /// The linear address: the region's word.
        address: Value,
        /// 1, 2, 4, 8 or 16.
        size: u8,
        /// I32, I64 or V128.
        value: Value,
    },
    /// The arena offset (I32) of `size` bytes of RAM that may be written and hold no code, or leaves. Good until the next
    /// guest instruction.
    Place {
        /// The linear address: the region's word.
        address: Value,
        /// Bytes: 1, 2, 4, 8 or 16.
        size: u8,
    },
    /// Reads at a place.
    Peek {
        /// From [`Inst::Place`].
        place: Value,
        /// 1, 2, 4, 8 or 16.
        size: u8,
        /// Sign-extended.
        signed: bool,
        /// I32, I64 or V128.
        ty: Type,
    },
    /// Writes at a place.
    Poke {
        /// From [`Inst::Place`].
        place: Value,
        /// 1, 2, 4, 8 or 16.
        size: u8,
        /// I32, I64 or V128.
        value: Value,
    },
    /// Leaves unless the I32 is not 0.
    Guard(Value),
    /// Leaves unless one of two I32 is not 0. The first mostly is; what only the second needs is computed only if not.
    GuardEither(Value, Value),
    /// The interpreter runs this guest instruction, which does not branch: number `op` of the region's list. Leaves after
    /// it if something waits, and if it faults.
    Exec {
        /// Number in [`Region::interpreted`].
        op: u16,
        /// What it reads.
        reads: Touched,
        /// What it writes.
        writes: Touched,
    },
    /// An operation of the x87 on the state block, or leaves. An I32, not 0: what [`crate::x87`] says.
    X87 {
        /// Which.
        op: crate::x87::X87,
        /// Its first small number.
        x: u16,
        /// Its second.
        y: u16,
        /// Its operand: an I64.
        value: Value,
    },
    /// Goes on in [`Region::second`] if the x87 rounds to nearest and to 53 bits, has recorded an inexact result and has no
    /// exception to report, the registers in `full` are not empty and those in `empty` are, and all of `used` are doubles,
    /// normal or zero. Bit *n* is R(TOP + n).
    EnterX87 {
        /// Not empty.
        full: u8,
        /// Empty.
        empty: u8,
        /// Those that are to become variables.
        used: u8,
    },
    /// The registers that [`Inst::EnterX87`] has just asked for become variables.
    HaveX87 {
        /// Not empty.
        full: u8,
        /// Empty.
        empty: u8,
        /// Those that become variables.
        used: u8,
    },
    /// All arithmetic flags follow from `kind` of these operands. [`FlagKind::INC`] and [`FlagKind::DEC`] keep CF.
    Flags {
        /// Of which operation.
        kind: FlagKind,
        /// First operand: the region's word, zero-extended from the operation's size.
        a: Value,
        /// Second operand, the same; anything where the kind has one.
        b: Value,
    },
    /// The same if the I32 is not 0; otherwise they stay as they are.
    FlagsIf {
        /// An I32.
        when: Value,
        /// Of which operation; none that keeps CF.
        kind: FlagKind,
        /// First operand.
        a: Value,
        /// Second operand.
        b: Value,
    },
    /// CF alone: the low bit of an I32.
    Carry(Value),
    /// CF and OF: bits 0 and 1 of an I32.
    CarryOverflow(Value),
    /// Works out the flags into the state block: their kind is [`FlagKind::MEMORY`] then.
    Settle,
    /// Whether condition `cc` (the low four bits of Jcc) holds: an I32.
    Condition(u8),
}

/// How a block ends.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum End {
    /// Goes on in a block.
    Jump(BlockId),
    /// One of two blocks.
    Branch {
        /// An I32.
        when: Value,
        /// If it is not 0.
        yes: BlockId,
        /// If it is 0.
        no: BlockId,
    },
    /// Goes on at a linear address, perhaps in another region.
    Leave(Value),
    /// Calls the guest function at `to`, whose return address has been pushed, and goes on in `then` when it returns to
    /// `back` bytes from the head.
    Call {
        /// Linear address: the region's word.
        to: Value,
        /// Where it is to return: bytes from the head.
        back: i32,
        /// The block there.
        then: BlockId,
    },
    /// Returns to the linear address that was popped.
    Return(Value),
    /// The interpreter goes on with the guest instruction at this distance from the head.
    Interpret(i32),
}

/// A block.
#[derive(Clone, PartialEq, Debug)]
pub struct Block {
    /// Where it begins: bytes from the head.
    pub offset: i32,
    /// Its instructions.
    pub insts: Vec<Inst>,
    /// Its end.
    pub end: End,
    /// Guest instructions that it retires.
    pub retires: u32,
}

/// Code to be compiled into one function.
#[derive(Clone, PartialEq, Debug)]
pub struct Region {
    /// I64 in 64-bit code, I32 otherwise.
    pub word: Type,
    /// Block 0 is the entry.
    pub blocks: Vec<Block>,
    /// The guest instructions that [`Inst::Exec`] numbers: bytes from the head.
    pub interpreted: Vec<i32>,
    /// The same code with the x87 in variables, where [`Inst::EnterX87`] goes on. A function of its own, so that neither
    /// makes the other slow.
    pub second: Option<Box<Region>>,
}

impl Type {
    /// Bytes.
    pub fn size(self) -> u8 {
        match self {
            Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
            Self::V128 => 16,
        }
    }
}

impl Region {
    /// The type of a variable's values.
    pub fn type_of(&self, var: Var) -> Type {
        var.type_in(self.word)
    }
}

impl Var {
    /// The type of its values in code of this word.
    pub fn type_in(self, word: Type) -> Type {
        match self {
            Self::FlagKind | Self::CarryKind => Type::I32,
            Self::FpStack | Self::FpBase | Self::FpCode | Self::FpIp | Self::FpDs => Type::I32,
            Self::Fp(_) | Self::FpA | Self::FpB => Type::F64,
            Self::Xmm(_) => Type::V128,
            Self::Gpr(_) | Self::FlagA | Self::FlagB | Self::CarryA | Self::CarryB | Self::FpDp => word,
        }
    }
}

impl Inst {
    /// The values that it uses.
    pub fn uses(&self) -> impl Iterator<Item = Value> {
        let (mut used, mut copy) = ([None; 3], *self);
        let mut free = used.iter_mut();
        copy.map_uses(|v| {
            if let Some(slot) = free.next() {
                *slot = Some(v);
            }
            v
        });
        used.into_iter().flatten()
    }

    /// Replaces each value that it uses.
    pub fn map_uses(&mut self, mut to: impl FnMut(Value) -> Value) {
        match self {
            Self::Set(_, v)
            | Self::Unary(_, v)
            | Self::Guard(v)
            | Self::Carry(v)
            | Self::CarryOverflow(v)
            | Self::SetState { value: v, .. }
            | Self::Load { address: v, .. }
            | Self::Place { address: v, .. }
            | Self::X87 { value: v, .. }
            | Self::Peek { place: v, .. } => *v = to(*v),
            Self::Binary(_, a, b)
            | Self::GuardEither(a, b)
            | Self::Flags { a, b, .. }
            | Self::Store { address: a, value: b, .. }
            | Self::Poke { place: a, value: b, .. } => (*a, *b) = (to(*a), to(*b)),
            Self::Select { when: a, yes: b, no: c } | Self::FlagsIf { when: a, a: b, b: c, .. } => {
                (*a, *b, *c) = (to(*a), to(*b), to(*c));
            }
            Self::Vector(shape, of) => of.iter_mut().take(shape.operands()).for_each(|v| *v = to(*v)),
            Self::Nop
            | Self::At { .. }
            | Self::Const(..)
            | Self::ConstV(..)
            | Self::Get(_)
            | Self::Rip(_)
            | Self::State { .. }
            | Self::Exec { .. }
            | Self::Settle
            | Self::EnterX87 { .. }
            | Self::HaveX87 { .. }
            | Self::Condition(_) => {}
        }
    }

    /// Whether it makes a value.
    pub fn makes_value(&self) -> bool {
        self.is_pure() || matches!(self, Self::Load { .. } | Self::Place { .. } | Self::X87 { .. })
    }

    /// Whether it makes a value and does nothing else.
    pub fn is_pure(&self) -> bool {
        matches!(
            self,
            Self::Const(..)
                | Self::ConstV(..)
                | Self::Get(_)
                | Self::Unary(..)
                | Self::Binary(..)
                | Self::Select { .. }
                | Self::Vector(..)
                | Self::Rip(_)
                | Self::State { .. }
                | Self::Peek { .. }
                | Self::Condition(_)
        )
    }

    /// Whether it may leave the region.
    pub fn may_leave(&self) -> bool {
        matches!(
            self,
            Self::Load { .. }
                | Self::Store { .. }
                | Self::Place { .. }
                | Self::Guard(_)
                | Self::GuardEither(..)
                | Self::Exec { .. }
                | Self::X87 { .. }
                | Self::EnterX87 { .. }
        )
    }
}

impl End {
    /// The value that it uses.
    pub fn uses(&self) -> Option<Value> {
        match *self {
            Self::Branch { when: v, .. } | Self::Leave(v) | Self::Call { to: v, .. } | Self::Return(v) => {
                Some(v)
            }
            Self::Jump(_) | Self::Interpret(_) => None,
        }
    }

    /// The blocks that may follow.
    pub fn successors(&self) -> impl Iterator<Item = BlockId> {
        let both = match *self {
            Self::Jump(to) | Self::Call { then: to, .. } => [Some(to), None],
            Self::Branch { yes, no, .. } => [Some(yes), Some(no)],
            Self::Leave(_) | Self::Return(_) | Self::Interpret(_) => [None, None],
        };
        both.into_iter().flatten()
    }
}
