//! The evaluator: what a region does, without compiling it.
//!
//! Tests run a region before and after a pass, or beside the interpreter, and compare the [`Outcome`], the [`Guest`] and
//! the [`World`]. It is written for likeness to the definitions in [`crate::ir`], not for speed. It knows both the
//! abstract flags and the variables that [`crate::flags`] puts in their place: [`Guest::flags`] are the same before and
//! after.
//!
//! A region that [`crate::verify`] refuses may be evaluated to anything.

use crate::ir::{BlockId, End, Inst, Region, Touched, Type, Value, Var};
use crate::{operators, types};
use aero_cpu::jit::{FlagKind, Lazy};
use aero_cpu::state::{CpuState, Flags};
use core::mem::offset_of;
use rustc_hash::FxHashSet;

/// Memory, the state block, and the interpreter.
pub trait World {
    /// Reads guest memory, zero-extended; `None` makes the region leave.
    fn load(&mut self, address: u64, size: u8) -> Option<u128>;

    /// Writes guest memory; `None` makes the region leave.
    fn store(&mut self, address: u64, size: u8, value: u128) -> Option<()>;

    /// Where memory that can be read and written lies; `None` makes the region leave.
    fn place(&mut self, address: u64, size: u8) -> Option<u32>;

    /// Reads at a place.
    fn peek(&mut self, place: u32, size: u8) -> u128;

    /// Writes at a place.
    fn poke(&mut self, place: u32, size: u8, value: u128);

    /// Reads the state block.
    fn state(&mut self, at: u32, size: u8) -> u128;

    /// Writes the state block.
    fn set_state(&mut self, at: u32, size: u8, value: u128);

    /// Interprets an instruction; false makes the region leave. Of its changes to registers those count that the
    /// instruction of the region announces.
    fn exec(&mut self, op: u16, guest: &mut Guest) -> bool;
}

/// What a region keeps in variables, and the flags in the state block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// The region's word.
    pub word: Type,
    /// Linear address of the region's head.
    pub head: u64,
    /// General registers.
    pub gprs: [u64; 16],
    /// XMM registers.
    pub xmms: [u128; 16],
    /// The variables of flags.
    pub lazy: Lazy,
    /// The flags that [`FlagKind::MEMORY`] stands for.
    pub stored: Flags,
}

/// How a region was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Before a guest instruction.
    Redo {
        /// Bytes from the head.
        offset: i32,
        /// Guest instructions of the block that are complete.
        done: u32,
    },
    /// In or after the interpreted instruction of this number.
    Stopped(u16),
    /// To go on at a linear address.
    Leave(u64),
    /// To call a function, and to go on in a block after it.
    Call {
        /// Linear address of the function.
        to: u64,
        /// Where it is to return: bytes from the head.
        back: i32,
        /// The block there.
        then: BlockId,
    },
    /// To return to a linear address.
    Return(u64),
    /// To interpret the instruction at this distance from the head.
    Interpret(i32),
    /// It was not left, but ran for as many blocks as it might. This one is next.
    Unfinished(BlockId),
}

/// What came of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it was left.
    pub exit: Exit,
    /// Guest instructions that were completed, but for one in which it stopped.
    pub retired: u64,
}

/// Runs a region from a block on, for at most `blocks` blocks.
pub fn evaluate(
    region: &Region,
    from: BlockId,
    blocks: u32,
    guest: &mut Guest,
    world: &mut impl World,
) -> Outcome {
    let mut run = Run { region, guest, world, values: Vec::new(), types: Vec::new(), at: (0, 0), retired: 0 };
    let mut next = from;
    for _ in 0..blocks {
        match run.block(next) {
            Ok(block) => next = block,
            Err(exit) => return Outcome { exit, retired: run.retired },
        }
    }
    Outcome { exit: Exit::Unfinished(next), retired: run.retired }
}

/// A region under way.
struct Run<'a, W> {
    region: &'a Region,
    guest: &'a mut Guest,
    world: &'a mut W,
    /// The block's values so far, of each instruction, and the types of all.
    values: Vec<u128>,
    types: Vec<Option<Type>>,
    /// The last [`Inst::At`].
    at: (i32, u32),
    retired: u64,
}

impl<W: World> Run<'_, W> {
    /// The block that is next, or how the region was left.
    fn block(&mut self, id: BlockId) -> Result<BlockId, Exit> {
        let block = &self.region.blocks[id.0 as usize];
        self.values.clear();
        self.types = types::of_block(self.region.word, block);
        for inst in &block.insts {
            let value = self.inst(inst).inspect_err(|_| self.retired += u64::from(self.at.1))?;
            self.values.push(value);
        }
        self.retired += u64::from(block.retires);
        self.end(&block.end)
    }

    fn end(&self, end: &End) -> Result<BlockId, Exit> {
        match *end {
            End::Jump(to) => Ok(to),
            End::Branch { when, yes, no } => Ok(if self.bits(when) != 0 { yes } else { no }),
            End::Leave(to) => Err(Exit::Leave(self.word(to))),
            End::Call { to, back, then } => Err(Exit::Call { to: self.word(to), back, then }),
            End::Return(to) => Err(Exit::Return(self.word(to))),
            End::Interpret(offset) => Err(Exit::Interpret(offset)),
        }
    }

    /// The value that an instruction makes: 0 where it makes none.
    fn inst(&mut self, inst: &Inst) -> Result<u128, Exit> {
        match *inst {
            Inst::At { offset, done } => self.at = (offset, done),
            Inst::Set(var, v) => self.guest.set(var, self.bits(v)),
            Inst::Guard(v) if self.bits(v) == 0 => return Err(self.redo()),
            Inst::Exec { op, writes, .. } => self.exec(op, writes)?,
            // It may always leave, and the evaluator has no x87.
            Inst::X87 { .. } => return Err(self.redo()),
            Inst::GuardEither(a, b) if self.bits(a) == 0 && self.bits(b) == 0 => return Err(self.redo()),
            Inst::Nop | Inst::Guard(_) | Inst::GuardEither(..) => {}
            Inst::EnterX87 { .. } | Inst::HaveX87 { .. } => {}
            Inst::Flags { .. }
            | Inst::FlagsIf { .. }
            | Inst::Carry(_)
            | Inst::CarryOverflow(_)
            | Inst::Settle => self.flags(inst),
            _ => return self.memory(inst),
        }
        Ok(0)
    }

    /// Abstract flags are worked out at once.
    fn flags(&mut self, inst: &Inst) {
        let flags = self.guest.flags();
        let flags = match *inst {
            Inst::Flags { kind, a, b } => self.guest.described(kind, self.word(a), self.word(b)),
            Inst::FlagsIf { when, kind, a, b } if self.bits(when) != 0 => {
                self.guest.described(kind, self.word(a), self.word(b))
            }
            Inst::Carry(v) => flags.with_cf(self.bits(v) & 1 != 0),
            Inst::CarryOverflow(v) => flags.with_cf_of(self.bits(v) & 1 != 0, self.bits(v) & 2 != 0),
            _ => flags,
        };
        self.guest.settle(flags);
    }

    fn memory(&mut self, inst: &Inst) -> Result<u128, Exit> {
        match *inst {
            Inst::State { at, size, .. } => return Ok(self.state(at, size)),
            Inst::SetState { at, size, value } => self.world.set_state(at, size, self.low(value, size)),
            Inst::Load { address, size, signed, ty } => {
                let loaded = self.world.load(self.word(address), size).ok_or(self.redo())?;
                return Ok(extended(loaded, size, signed, ty));
            }
            Inst::Store { address, size, value } => {
                let stored = self.world.store(self.word(address), size, self.low(value, size));
                stored.ok_or(self.redo())?;
            }
            Inst::Place { address, size } => {
                let place = self.world.place(self.word(address), size);
                return place.map(u128::from).ok_or(self.redo());
            }
            Inst::Peek { place, size, signed, ty } => {
                return Ok(extended(self.world.peek(self.word(place) as u32, size), size, signed, ty));
            }
            Inst::Poke { place, size, value } => {
                self.world.poke(self.word(place) as u32, size, self.low(value, size));
            }
            _ => return Ok(self.pure(inst)),
        }
        Ok(0)
    }

    /// Reads the state block, of which the guest has the flags.
    fn state(&mut self, at: u32, size: u8) -> u128 {
        const FLAGS: u32 = offset_of!(CpuState, flags) as u32;
        const RESULT: u32 = FLAGS + offset_of!(Flags, result) as u32;
        const AUX: u32 = FLAGS + offset_of!(Flags, aux) as u32;
        match (at, size) {
            (RESULT, 8) => self.guest.stored.result.into(),
            (AUX, 4) => self.guest.stored.aux.into(),
            _ => self.world.state(at, size),
        }
    }

    fn pure(&self, inst: &Inst) -> u128 {
        match *inst {
            Inst::Const(ty, bits) => u128::from(bits & operators::ones(u32::from(ty.size()) * 8)),
            Inst::ConstV(low, high) => u128::from(high) << 64 | u128::from(low),
            Inst::Get(var) => self.guest.get(var),
            Inst::Unary(op, a) => operators::unary(op, self.type_of(a), self.bits(a)),
            // The verifier cannot see a divisor of 0; such a region must not be made.
            Inst::Binary(op, a, b) => {
                operators::binary(op, self.type_of(a), self.bits(a), self.bits(b)).unwrap_or_default()
            }
            Inst::Select { when, yes, no } => self.bits(if self.bits(when) != 0 { yes } else { no }),
            Inst::Vector(shape, of) => {
                let mut operands = [0; 3];
                operands.iter_mut().zip(of).take(shape.operands()).for_each(|(to, v)| *to = self.bits(v));
                operators::vector(shape, operands)
            }
            Inst::Rip(offset) => {
                self.guest.truncate(self.guest.head.wrapping_add_signed(offset.into())).into()
            }
            Inst::Condition(cc) => condition(self.guest.flags(), cc).into(),
            _ => 0,
        }
    }

    fn exec(&mut self, op: u16, writes: Touched) -> Result<(), Exit> {
        let before = self.guest.clone();
        self.guest.settle(before.flags());
        let goes_on = self.world.exec(op, self.guest);
        self.guest.keep(&before, writes);
        if goes_on { Ok(()) } else { Err(Exit::Stopped(op)) }
    }

    fn redo(&self) -> Exit {
        Exit::Redo { offset: self.at.0, done: self.at.1 }
    }

    fn bits(&self, value: Value) -> u128 {
        self.values[value.0 as usize]
    }

    fn word(&self, value: Value) -> u64 {
        self.bits(value) as u64
    }

    /// The low bytes of a value.
    fn low(&self, value: Value, size: u8) -> u128 {
        self.bits(value) & (u128::MAX >> (128 - u32::from(size) * 8))
    }

    fn type_of(&self, value: Value) -> Type {
        self.types[value.0 as usize].unwrap_or(Type::I64)
    }
}

fn extended(bits: u128, size: u8, signed: bool, ty: Type) -> u128 {
    if !signed {
        return bits;
    }
    let value = operators::signed(bits as u64, u32::from(size) * 8) as u64;
    u128::from(value & operators::ones(u32::from(ty.size()) * 8))
}

/// Whether the condition of Jcc's low four bits holds (SDM volume 1, appendix B).
fn condition(flags: Flags, cc: u8) -> bool {
    let holds = match cc >> 1 {
        0 => flags.of(),
        1 => flags.cf(),
        2 => flags.zf(),
        3 => flags.cf() | flags.zf(),
        4 => flags.sf(),
        5 => flags.pf(),
        6 => flags.sf() != flags.of(),
        _ => flags.zf() | (flags.sf() != flags.of()),
    };
    holds != (cc & 1 != 0)
}

impl Guest {
    /// All zero.
    pub fn new(word: Type, head: u64) -> Self {
        let (gprs, xmms) = ([0; 16], [0; 16]);
        Self { word, head, gprs, xmms, lazy: Lazy::default(), stored: Flags::default() }
    }

    /// A variable's bits.
    pub fn get(&self, var: Var) -> u128 {
        let word = |bits: u64| u128::from(self.truncate(bits));
        match var {
            Var::Gpr(n) => word(self.gprs[n as usize]),
            Var::Xmm(n) => self.xmms[n as usize],
            Var::FlagKind => self.lazy.kind.0.into(),
            Var::FlagA => word(self.lazy.a),
            Var::FlagB => word(self.lazy.b),
            Var::CarryKind => self.lazy.carry_kind.0.into(),
            Var::CarryA => word(self.lazy.carry_a),
            Var::CarryB => word(self.lazy.carry_b),
            // There is no x87 here, nor does anybody enter it.
            _ => 0,
        }
    }

    /// Changes a variable.
    pub fn set(&mut self, var: Var, bits: u128) {
        match var {
            Var::Gpr(n) => self.gprs[n as usize] = bits as u64,
            Var::Xmm(n) => self.xmms[n as usize] = bits,
            Var::FlagKind => self.lazy.kind = FlagKind(bits as u32),
            Var::FlagA => self.lazy.a = bits as u64,
            Var::FlagB => self.lazy.b = bits as u64,
            Var::CarryKind => self.lazy.carry_kind = FlagKind(bits as u32),
            Var::CarryA => self.lazy.carry_a = bits as u64,
            Var::CarryB => self.lazy.carry_b = bits as u64,
            _ => {}
        }
    }

    /// The arithmetic flags.
    pub fn flags(&self) -> Flags {
        self.widened(self.lazy).resolve(self.stored)
    }

    /// Puts flags where [`FlagKind::MEMORY`] finds them.
    pub fn settle(&mut self, flags: Flags) {
        self.stored = flags;
        self.lazy = Lazy::default();
    }

    /// The flags after an operation.
    fn described(&self, kind: FlagKind, a: u64, b: u64) -> Flags {
        self.widened(Lazy { kind, a, b, ..Lazy::default() }).resolve(self.flags())
    }

    /// [`FlagKind::WORDS`] has a result with its sign in 64 bits; a variable of 32-bit code has the low half.
    fn widened(&self, lazy: Lazy) -> Lazy {
        match (self.word, lazy.kind.operation()) {
            (Type::I32, FlagKind::WORDS) => Lazy { a: lazy.a as i32 as u64, ..lazy },
            _ => lazy,
        }
    }

    pub(crate) fn truncate(&self, bits: u64) -> u64 {
        if self.word == Type::I32 { u64::from(bits as u32) } else { bits }
    }

    /// Takes back all changes since `before` but to these.
    fn keep(&mut self, before: &Self, written: Touched) {
        let changed = core::mem::replace(self, before.clone());
        for n in 0..16 {
            if written.gprs >> n & 1 != 0 {
                self.gprs[n] = changed.truncate(changed.gprs[n]);
            }
            if written.xmms >> n & 1 != 0 {
                self.xmms[n] = changed.xmms[n];
            }
        }
        if written.flags {
            self.settle(changed.flags());
        }
    }
}

/// A small world: flat memory from address 0, of which pages may be missing or hold code.
///
/// Its interpreter makes something new of all registers, so that it matters what they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flat {
    /// Memory, whole pages.
    pub memory: Vec<u8>,
    /// Numbers of pages that are not mapped.
    pub missing: FxHashSet<u64>,
    /// Numbers of pages that cannot be written.
    pub code: FxHashSet<u64>,
    /// The state block.
    pub state: Vec<u8>,
    /// For each interpreted instruction its number and a digest of the registers and flags that it found.
    pub interpreted: Vec<(u16, u64)>,
    /// Which interpreted instructions stop: bit *n* for the *n*th that runs, the 65th the first again.
    pub stops: u64,
}

const PAGE: u64 = 4096;

impl Flat {
    /// Zeros: so many pages, all mapped, and a state block of so many bytes.
    pub fn new(pages: usize, state: usize) -> Self {
        Self {
            memory: vec![0; pages * PAGE as usize],
            missing: FxHashSet::default(),
            code: FxHashSet::default(),
            state: vec![0; state],
            interpreted: Vec::new(),
            stops: 0,
        }
    }

    /// The index of `size` bytes, all of which must be mapped.
    fn find(&self, address: u64, size: u8, refused: &FxHashSet<u64>) -> Option<usize> {
        let last = address.checked_add(u64::from(size) - 1)?;
        let bad = |page: u64| self.missing.contains(&page) || refused.contains(&page);
        let there = last < self.memory.len() as u64 && !bad(address / PAGE) && !bad(last / PAGE);
        there.then_some(address as usize)
    }
}

impl World for Flat {
    fn load(&mut self, address: u64, size: u8) -> Option<u128> {
        let at = self.find(address, size, &FxHashSet::default())?;
        Some(read(&self.memory, at, size))
    }

    fn store(&mut self, address: u64, size: u8, value: u128) -> Option<()> {
        let at = self.find(address, size, &self.code)?;
        write(&mut self.memory, at, size, value);
        Some(())
    }

    fn place(&mut self, address: u64, size: u8) -> Option<u32> {
        self.find(address, size, &self.code).map(|at| at as u32)
    }

    fn peek(&mut self, place: u32, size: u8) -> u128 {
        read(&self.memory, place as usize, size)
    }

    fn poke(&mut self, place: u32, size: u8, value: u128) {
        write(&mut self.memory, place as usize, size, value);
    }

    fn state(&mut self, at: u32, size: u8) -> u128 {
        read(&self.state, at as usize, size)
    }

    fn set_state(&mut self, at: u32, size: u8, value: u128) {
        write(&mut self.state, at as usize, size, value);
    }

    fn exec(&mut self, op: u16, guest: &mut Guest) -> bool {
        let digest = digest(guest).wrapping_add(op.into());
        let nth = self.interpreted.len() as u32;
        self.interpreted.push((op, digest));
        guest.gprs = core::array::from_fn(|n| digest.rotate_left(n as u32 * 3));
        guest.xmms = core::array::from_fn(|n| u128::from(digest).rotate_left(n as u32 * 5));
        guest.settle(Flags::from_bits(digest));
        self.stops >> (nth % 64) & 1 == 0
    }
}

fn digest(guest: &Guest) -> u64 {
    let xmms = guest.xmms.iter().flat_map(|x| [*x as u64, (x >> 64) as u64]);
    let all = guest.gprs.iter().map(|g| guest.truncate(*g)).chain(xmms).chain([guest.flags().bits()]);
    all.fold(0, |sum: u64, bits| (sum ^ bits).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
}

fn read(from: &[u8], at: usize, size: u8) -> u128 {
    let mut bytes = [0; 16];
    bytes[..size as usize].copy_from_slice(&from[at..at + size as usize]);
    u128::from_le_bytes(bytes)
}

fn write(to: &mut [u8], at: usize, size: u8, value: u128) {
    to[at..at + size as usize].copy_from_slice(&value.to_le_bytes()[..size as usize]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::parse;

    fn run(text: &str, guest: &mut Guest, world: &mut Flat) -> Outcome {
        let region = parse(&format!(
            "region i64
interpreted +1, +2
{text}"
        ))
        .unwrap();
        crate::verify::verify(&region).unwrap();
        evaluate(&region, BlockId(0), 100, guest, world)
    }

    #[test]
    fn loop_runs_until_its_condition_fails() {
        let text = "b0 +0 retires 2:
            at +0 done 0
            v1 = get rcx
            v2 = const.i64 1
            v3 = sub v1, v2
            set rcx, v3
            flags dec.8 v3, v3
            at +2 done 1
            v7 = condition ne
            branch v7, b0, b1
          b1 +4 retires 0:
            v0 = rip +4
            leave v0";
        let mut guest = Guest::new(Type::I64, 0x1000);
        guest.gprs[1] = 5;
        let outcome = run(text, &mut guest, &mut Flat::new(1, 0));
        assert_eq!(outcome, Outcome { exit: Exit::Leave(0x1004), retired: 10 });
        assert!(guest.flags().zf() && !guest.flags().cf() && guest.gprs[1] == 0);
    }

    #[test]
    fn missing_page_leaves_before_its_instruction() {
        let text = "b0 +0 retires 2:
            at +0 done 0
            v1 = get rax
            set rbx, v1
            at +3 done 1
            v4 = load8u.i64 v1
            set rcx, v4
            interpret +9";
        let (mut guest, mut world) = (Guest::new(Type::I64, 0), Flat::new(2, 0));
        guest.gprs[0] = 4090;
        world.missing.insert(1);
        let left = Outcome { exit: Exit::Redo { offset: 3, done: 1 }, retired: 1 };
        assert_eq!(run(text, &mut guest, &mut world), left);
        assert_eq!(guest.gprs[..4], [4090, 0, 0, 4090]);
        world.missing.clear();
        assert_eq!(run(text, &mut guest, &mut world).exit, Exit::Interpret(9));
    }

    #[test]
    fn code_can_be_read_but_no_place_is_given() {
        let (mut guest, mut world) = (Guest::new(Type::I64, 0), Flat::new(1, 0));
        world.code.insert(0);
        let load = "b0 +0 retires 1:
 at +0 done 0
 v1 = get rax
 v2 = load4s.i64 v1
 return v2";
        world.memory[3] = 0x80;
        assert_eq!(run(load, &mut guest, &mut world).exit, Exit::Return(0xffff_ffff_8000_0000));
        let place = "b0 +0 retires 1:
 at +0 done 0
 v1 = get rax
 v2 = place4 v1
 interpret +0";
        assert_eq!(run(place, &mut guest, &mut world).exit, Exit::Redo { offset: 0, done: 0 });
    }

    #[test]
    fn interpreted_instruction_changes_what_it_announces() {
        let text = "b0 +0 retires 1:
 at +0 done 0
 exec 1 reads(rax) writes(rcx flags)
 interpret +0";
        let (mut guest, mut world) = (Guest::new(Type::I64, 0), Flat::new(1, 0));
        run(text, &mut guest, &mut world);
        assert_eq!(world.interpreted.len(), 1);
        assert!(guest.gprs[1] != 0 && guest.gprs[0] == 0 && guest.xmms == [0; 16]);
        world.stops = 2;
        assert_eq!(run(text, &mut guest, &mut world).exit, Exit::Stopped(1));
    }

    #[test]
    fn conditions_are_those_of_the_flags() {
        let flags = |a: u64, b: u64| Lazy { kind: FlagKind::SUB.sized(1), a, b, ..Lazy::default() };
        for (a, b) in (0..=255).flat_map(|a| [0, 1, 0x7f, 0x80, 0xff].map(|b| (a, b))) {
            let flags = flags(a, b).resolve(Flags::default());
            let (x, y) = (a as i8, b as i8);
            let wants = [a < b, a == b, a <= b, x < y, x <= y];
            assert_eq!([2, 4, 6, 12, 14].map(|cc| condition(flags, cc)), wants, "{a} - {b}");
            assert_eq!([3, 5, 7, 13, 15].map(|cc| !condition(flags, cc)), wants);
        }
    }

    #[test]
    fn signs_of_words_come_back_in_32_bit_code() {
        let mut guest = Guest::new(Type::I32, 0);
        guest.set(Var::FlagKind, FlagKind::WORDS.0.into());
        guest.set(Var::FlagA, 0x8000_0000);
        assert!(guest.flags().sf() && !guest.flags().zf());
    }
}
