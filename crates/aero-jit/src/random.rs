//! Random regions that keep all the rules, for property tests.

use crate::ir::*;
use crate::simd::{Op1, Op2, Shape, Way};
use crate::types;
use aero_cpu::jit::FlagKind;
use aero_cpu::state::CpuState;
use core::mem::offset_of;

/// A source of regions: the same seed, the same region.
pub struct Random {
    state: u64,
    /// The variables of flags are used, as after the pass that brings them in.
    pub flag_vars: bool,
}

/// A block under way.
struct Builder<'r> {
    random: &'r mut Random,
    word: Type,
    insts: Vec<Inst>,
    types: Vec<Option<Type>>,
    /// What `Place` made in this guest instruction, and its size.
    places: Vec<(Value, u8)>,
}

const SIZES: [u8; 5] = [1, 2, 4, 8, 16];
const INTERPRETED: u64 = 4;
/// Where the state block is read and written: far from what variables hold.
const STATE: u32 = offset_of!(CpuState, msr) as u32;

impl Random {
    pub fn new(seed: u64) -> Self {
        Self { state: seed, flag_vars: true }
    }

    /// SplitMix64.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let a = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let b = (a ^ a >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        b ^ b >> 31
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.bits() % n
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// A number of the kind that finds mistakes.
    pub fn number(&mut self) -> u64 {
        let edges = [0, 1, 2, 7, 8, 31, 32, 63, 0x7f, 0x80, 0xff, 0xffff, 0x8000_0000, u64::MAX, 1 << 63];
        match self.below(4) {
            0 => self.bits(),
            1 => self.below(16),
            2 => 1 << self.below(64),
            _ => self.pick(&edges).wrapping_add(self.below(3)).wrapping_sub(1),
        }
    }

    pub fn region(&mut self) -> Region {
        let word = self.pick(&[Type::I32, Type::I64]);
        let count = 1 + self.below(4);
        let blocks = (0..count).map(|n| self.block(word, n, count)).collect();
        let interpreted = (0..INTERPRETED as i32).map(|n| n * 7 - 5).collect();
        Region { word, blocks, interpreted, second: None }
    }

    fn block(&mut self, word: Type, number: u64, count: u64) -> Block {
        let (offset, guest) = (self.below(300) as i32 - 150, self.below(6));
        let mut builder = Builder { random: self, word, insts: vec![], types: vec![], places: vec![] };
        for done in 0..guest {
            builder.guest_instruction((number * 100 + done * 3) as i32, done as u32);
        }
        let end = builder.end(count);
        Block { offset, insts: builder.insts, end, retires: guest as u32 }
    }

    fn var(&mut self) -> Var {
        let flag_vars = [Var::FlagKind, Var::FlagA, Var::FlagB, Var::CarryKind, Var::CarryA, Var::CarryB];
        match self.below(10) {
            0..5 => Var::Gpr(self.below(6) as u8),
            5..7 => Var::Gpr(self.below(16) as u8),
            7 => Var::Xmm(self.below(3) as u8),
            8 => Var::Xmm(self.below(16) as u8),
            _ if self.flag_vars => self.pick(&flag_vars),
            _ => Var::Gpr(0),
        }
    }

    fn touched(&mut self) -> Touched {
        let (gprs, xmms) = (self.bits() & self.bits(), self.bits() & self.bits() & self.bits());
        Touched { gprs: gprs as u16, xmms: xmms as u16, flags: self.one_in(2) }
    }

    fn flag_operation(&mut self) -> FlagKind {
        self.pick(&[
            FlagKind::ADD,
            FlagKind::SUB,
            FlagKind::LOGIC,
            FlagKind::INC,
            FlagKind::DEC,
            FlagKind::SHL,
            FlagKind::SHR,
            FlagKind::SAR,
            FlagKind::IMUL,
            FlagKind::MUL,
        ])
    }
}

impl Builder<'_> {
    fn push(&mut self, inst: Inst) -> Value {
        let ty = types::result(self.word, &inst, |v| self.types[v.0 as usize]);
        self.insts.push(inst);
        self.types.push(ty);
        Value(self.insts.len() as u32 - 1)
    }

    /// A value of this type: one at hand, sooner a late one, or a new one.
    fn value(&mut self, ty: Type) -> Value {
        let n = self.types.len();
        for _ in 0..8 {
            let back = if self.random.one_in(4) { n } else { n.min(8) };
            if back == 0 || self.random.one_in(8) {
                break;
            }
            let at = n - 1 - self.random.below(back as u64) as usize;
            if self.types[at] == Some(ty) {
                return Value(at as u32);
            }
        }
        self.leaf(ty)
    }

    fn leaf(&mut self, ty: Type) -> Value {
        let number = self.random.number();
        let inst = match ty {
            Type::V128 if self.random.one_in(3) => Inst::ConstV(number, self.random.number()),
            Type::V128 => Inst::Get(Var::Xmm(self.random.below(3) as u8)),
            _ if ty == self.word && self.random.one_in(2) => Inst::Get(Var::Gpr(self.random.below(6) as u8)),
            Type::I32 | Type::F32 => Inst::Const(ty, number & 0xffff_ffff),
            Type::I64 | Type::F64 => Inst::Const(ty, number),
        };
        self.push(inst)
    }

    fn integer(&mut self) -> Type {
        self.random.pick(&[Type::I32, Type::I64, self.word])
    }

    fn any_type(&mut self) -> Type {
        self.random.pick(&[Type::I32, Type::I64, self.word, Type::F32, Type::F64, Type::V128])
    }

    /// Operations that may leave and such that do nothing, then changes.
    fn guest_instruction(&mut self, offset: i32, done: u32) {
        self.places.clear();
        self.push(Inst::At { offset, done });
        for _ in 0..self.random.below(8) {
            match self.random.below(8) {
                0 => self.may_leave(),
                1 if self.random.one_in(4) => drop(self.push(Inst::Nop)),
                _ => self.pure(),
            }
        }
        self.memory_change();
        for _ in 0..self.random.below(4) {
            self.change();
        }
    }

    fn may_leave(&mut self) {
        let address = self.address();
        let size = self.random.pick(&SIZES);
        match self.random.below(5) {
            0 => {
                let place = self.push(Inst::Place { address, size });
                self.places.push((place, size));
            }
            1 if self.random.one_in(2) => {
                let when = self.value(Type::I32);
                if self.random.one_in(2) {
                    self.push(Inst::Guard(when));
                } else {
                    let otherwise = self.value(Type::I32);
                    self.push(Inst::GuardEither(when, otherwise));
                }
            }
            _ => {
                let ty = self.accessed(size);
                let signed = ty != Type::V128 && self.random.one_in(2);
                self.push(Inst::Load { address, size, signed, ty });
            }
        }
    }

    /// A type that holds this many bytes.
    fn accessed(&mut self, size: u8) -> Type {
        let fit: Vec<Type> =
            [Type::I32, Type::I64, Type::V128].into_iter().filter(|ty| ty.size() >= size).collect();
        self.random.pick(&fit)
    }

    /// Mostly one that is mapped.
    fn address(&mut self) -> Value {
        let address = self.value(self.word);
        if self.random.one_in(8) {
            return address;
        }
        let mask = self.push(Inst::Const(self.word, 0x7ffc));
        self.push(Inst::Binary(Binary::And, address, mask))
    }

    fn memory_change(&mut self) {
        let size = self.random.pick(&SIZES);
        match self.random.below(6) {
            0 | 1 => {
                let (address, ty) = (self.address(), self.accessed(size));
                let value = self.value(ty);
                self.push(Inst::Store { address, size, value });
            }
            2 => {
                let (op, reads, writes) =
                    (self.random.below(INTERPRETED) as u16, self.random.touched(), self.random.touched());
                self.push(Inst::Exec { op, reads, writes });
            }
            _ if !self.places.is_empty() => {
                let (place, size) = self.random.pick(&self.places.clone());
                let ty = self.accessed(size);
                let value = self.value(ty);
                self.push(Inst::Poke { place, size, value });
            }
            _ => {}
        }
    }

    fn change(&mut self) {
        match self.random.below(8) {
            0 => self.flags(),
            1 => self.carry(),
            2 => {
                let ty = self.any_type();
                let value = self.value(ty);
                let at = STATE + self.random.below(8) as u32 * 16;
                self.push(Inst::SetState { at, size: ty.size(), value });
            }
            3 => self.pure(),
            _ => {
                let var = self.random.var();
                let value = self.settable(var);
                self.push(Inst::Set(var, value));
            }
        }
    }

    /// A value that a variable may have: kinds of flags are such that take any operands.
    fn settable(&mut self, var: Var) -> Value {
        match var {
            Var::FlagKind | Var::CarryKind => {
                let kind = self.random.below(6) * 4 + self.random.below(3);
                self.push(Inst::Const(Type::I32, kind))
            }
            _ => self.value(var.type_in(self.word)),
        }
    }

    /// Operands zero-extended from the operation's size; a shift by something, and not out of itself.
    fn flags(&mut self) {
        let operation = self.random.flag_operation();
        let size = self.random.pick(&SIZES[..if self.word == Type::I64 { 4 } else { 3 }]);
        let (kind, bits) = (operation.sized(size), u64::from(size) * 8);
        let a = self.flag_operand(bits);
        let shift = matches!(operation, FlagKind::SHL | FlagKind::SHR | FlagKind::SAR);
        let b = if shift {
            let count = 1 + self.random.below(bits - 1);
            self.push(Inst::Const(self.word, count))
        } else {
            self.flag_operand(bits)
        };
        let keeps_carry = matches!(operation, FlagKind::INC | FlagKind::DEC);
        if self.random.one_in(4) && !keeps_carry {
            let when = self.value(Type::I32);
            self.push(Inst::FlagsIf { when, kind, a, b });
        } else {
            self.push(Inst::Flags { kind, a, b });
        }
    }

    fn flag_operand(&mut self, bits: u64) -> Value {
        let a = self.value(self.word);
        if bits == u64::from(self.word.size()) * 8 {
            return a;
        }
        let mask = self.push(Inst::Const(self.word, u64::MAX >> (64 - bits)));
        self.push(Inst::Binary(Binary::And, a, mask))
    }

    fn carry(&mut self) {
        let v = self.value(Type::I32);
        match self.random.below(4) {
            0 => {
                let three = self.push(Inst::Const(Type::I32, 3));
                let bits = self.push(Inst::Binary(Binary::And, v, three));
                self.push(Inst::CarryOverflow(bits));
            }
            1 => drop(self.push(Inst::Settle)),
            _ => {
                let one = self.push(Inst::Const(Type::I32, 1));
                let bit = self.push(Inst::Binary(Binary::And, v, one));
                self.push(Inst::Carry(bit));
            }
        }
    }

    fn pure(&mut self) {
        match self.random.below(16) {
            0 => drop(self.any_leaf()),
            1 | 2 => self.get(),
            3 | 4 => self.unary(),
            5..11 => self.binary(),
            11 => self.select(),
            12 => self.vector(),
            13 => self.memory_value(),
            14 => {
                let cc = self.random.below(16) as u8;
                self.push(Inst::Condition(cc));
            }
            _ => {
                let offset = self.random.below(64) as i32 - 32;
                self.push(Inst::Rip(offset));
            }
        }
    }

    fn any_leaf(&mut self) -> Value {
        let ty = self.any_type();
        self.leaf(ty)
    }

    fn get(&mut self) {
        let var = self.random.var();
        self.push(Inst::Get(var));
    }

    fn memory_value(&mut self) {
        let size = self.random.pick(&SIZES);
        let ty = self.accessed(size);
        match self.places.last() {
            Some(&(place, size)) if self.random.one_in(2) => {
                let ty = self.accessed(size);
                let signed = ty != Type::V128 && self.random.one_in(2);
                self.push(Inst::Peek { place, size, signed, ty });
            }
            _ => {
                let at = STATE + self.random.below(8) as u32 * 16;
                self.push(Inst::State { at, size, ty });
            }
        }
    }

    fn unary(&mut self) {
        use Unary::*;
        let ops = [Eqz, Eqz, Clz, Ctz, Popcnt, Wrap, ExtendS, ExtendU, Extend8S, Extend16S, Extend32S];
        let op =
            if self.random.one_in(4) { Wasm(self.random.pick(Op1::ALL)) } else { self.random.pick(&ops) };
        let ty = match op {
            Wrap | Extend32S => Type::I64,
            ExtendS | ExtendU => Type::I32,
            Wasm(op) => op.takes(),
            _ => self.integer(),
        };
        let a = self.value(ty);
        self.push(Inst::Unary(op, a));
    }

    fn binary(&mut self) {
        use Binary::*;
        let common = [Add, Sub, Mul, And, Or, Xor, Shl, ShrS, ShrU, Rotl, Rotr, Add, And, Or];
        let compares = [Eq, Ne, LtS, LtU, LeS, LeU, GtS, GtU, GeS, GeU];
        let op = match self.random.below(8) {
            0 => Wasm(self.random.pick(Op2::ALL)),
            1 | 2 => self.random.pick(&compares),
            3 => return self.division(),
            _ => self.random.pick(&common),
        };
        let ty = if let Wasm(op) = op { op.takes() } else { self.integer() };
        let a = self.value(ty);
        let b = if self.random.one_in(3) { self.leaf(ty) } else { self.value(ty) };
        self.push(Inst::Binary(op, a, b));
    }

    fn division(&mut self) {
        let op = self.random.pick(&[Binary::DivS, Binary::DivU, Binary::RemS, Binary::RemU]);
        let ty = self.integer();
        let a = self.value(ty);
        let divisor =
            if self.random.one_in(2) { 1 << self.random.below(20) } else { 1 + self.random.below(99) };
        let b = self.push(Inst::Const(ty, divisor));
        self.push(Inst::Binary(op, a, b));
    }

    fn select(&mut self) {
        let ty = self.any_type();
        let (when, yes, no) = (self.value(Type::I32), self.value(ty), self.value(ty));
        self.push(Inst::Select { when, yes, no });
    }

    fn vector(&mut self) {
        let bytes = self.random.pick(&SIZES[..4]);
        let lane = self.random.below(16 / u64::from(bytes)) as u8;
        let way = self.random.pick(&[Way::Left, Way::Right, Way::RightSigned]);
        let pattern = core::array::from_fn(|_| self.random.below(32) as u8);
        let float = 4 << self.random.below(2);
        let float_lane = self.random.below(16 / float) as u8;
        let float = float as u8;
        let shape = match self.random.below(7) {
            0 => Shape::Shuffle(pattern),
            1 => Shape::Bitselect,
            2 => Shape::Extract { bytes, lane },
            3 => Shape::Replace { bytes, lane },
            4 => Shape::ExtractFloat { bytes: float, lane: float_lane },
            5 => Shape::ReplaceFloat { bytes: float, lane: float_lane },
            _ => Shape::Shift { bytes, way },
        };
        let second = match shape {
            Shape::Replace { bytes, .. } => types::lane(bytes),
            Shape::ReplaceFloat { bytes, .. } => types::float_lane(bytes),
            Shape::Shift { .. } => Type::I32,
            _ => Type::V128,
        };
        let mut of = [Value(0); 3];
        for (n, v) in of.iter_mut().enumerate().take(shape.operands()) {
            *v = self.value(if n == 1 { second } else { Type::V128 });
        }
        self.push(Inst::Vector(shape, of));
    }

    fn end(&mut self, blocks: u64) -> End {
        let mut to = || BlockId(self.random.below(blocks) as u32);
        let (yes, no) = (to(), to());
        match self.random.below(8) {
            0 => End::Jump(yes),
            1..4 => End::Branch { when: self.value(Type::I32), yes, no },
            4 => End::Leave(self.value(self.word)),
            5 => End::Call { to: self.value(self.word), back: self.random.below(99) as i32, then: yes },
            6 => End::Return(self.value(self.word)),
            _ => End::Interpret(self.random.below(99) as i32 - 50),
        }
    }
}
