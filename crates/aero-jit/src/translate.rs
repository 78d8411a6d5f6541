//! From x86 instructions to the intermediate language.
//!
//! One function for each kind of instruction, in files by group. A function returns `None` for a form that it does not
//! know; what it has emitted is taken back then, and the interpreter runs the instruction ([`Inst::Exec`]).
//!
//! Integers of 1, 2 and 4 bytes are I32, zero-extended; of 8 bytes I64. Variables hold the region's word. The order
//! within an instruction is: loads and places, computation, flags, registers, and the store last or before the registers,
//! so that whatever leaves finds the state before the instruction.

mod alu;
mod branch;
mod data;
mod muldiv;
mod shift;
mod sse;
mod stack;
mod system;
mod x87;

use crate::ir::{Binary, Block, BlockId, End, Inst, Region, Touched, Type, Unary, Value, Var};
use crate::job::{Env, Source};
use crate::region::{Next, Straight, select};
use aero_cpu::jit::FlagKind;
use aero_cpu::jit::x87::Last;
use aero_cpu::state::{CpuState, Segment, seg};
use aero_x86::{Insn, Operand, slot};
use core::mem::offset_of;
use rustc_hash::FxHashMap;
use sse::flow::{self, Plan, Summary};
use sse::needs::Needs;
use x87::double::Now;
use x87::plan::Asked;

/// The region of a source and its straight runs; `None` if its head cannot be compiled.
pub fn region(source: &Source, env: &Env) -> Option<(Region, Vec<Straight>)> {
    let blocks = select(source, env);
    if blocks.is_empty() {
        return None;
    }
    let mut t = Translator {
        long: source.key.long,
        numbers: FxHashMap::default(),
        insts: Vec::new(),
        interpreted: Vec::new(),
        extra: Vec::new(),
        at: 0,
        done: 0,
        bytes: source,
        proven: 0,
        checks: Vec::new(),
        numbers_known: [0; 16],
        recorded: None,
        summary: Summary::default(),
        outside: FxHashMap::default(),
        total: 0,
        double: None,
        asked: Asked::default(),
        cut: false,
    };
    let plan = x87::plan::of(&blocks);
    let pass = match &plan {
        Some(plan) => t.pass_asking(&blocks, plan),
        None => t.pass_planned(&blocks),
    };
    let mut region = t.finish(pass);
    region.second = plan.map(|plan| {
        let pass = t.pass_in_variables(&blocks, &plan);
        Box::new(t.finish(pass))
    });
    region.interpreted.clone_from(&t.interpreted);
    Some((region, blocks))
}

/// All blocks, translated once.
#[derive(Default)]
struct Pass {
    blocks: Vec<Block>,
    /// Of each block.
    checks: Vec<Vec<sse::needs::Check>>,
    /// Of each block.
    summaries: Vec<Summary>,
}

/// Where an instruction's result goes.
#[derive(Clone, Copy)]
enum Dest {
    /// A register.
    Register { reg: u8, size: u8, high: bool },
    /// RAM.
    Place { place: Value, size: u8 },
}

struct Translator<'a> {
    long: bool,
    numbers: FxHashMap<i32, BlockId>,
    insts: Vec<Inst>,
    interpreted: Vec<i32>,
    /// Blocks that only leave the region.
    extra: Vec<Block>,
    /// The instruction under way: bytes from the head.
    at: i32,
    /// Instructions of the block that are complete.
    done: u32,
    bytes: &'a Source,
    /// The [`sse::needs::Needs`] that the block has checked.
    proven: u8,
    /// Where it did.
    checks: Vec<sse::needs::Check>,
    /// What is known of the numbers in each XMM register: that they are neither NaNs nor denormal. Bit 0 says it of the
    /// lowest as a single, bit 1 of all four, bit 2 of the lower as a double, bit 3 of both.
    numbers_known: [u8; 16],
    /// Whether the block knows of an inexact result in MXCSR: an I32.
    recorded: Option<Value>,
    /// What the block does to [`Self::numbers_known`].
    summary: Summary,
    /// The number of blocks but for those in `extra`.
    total: u32,
    /// The numbers of those in `extra`, by where they go.
    outside: FxHashMap<i32, BlockId>,
    /// The x87 is in variables.
    double: Option<Now>,
    /// What was asked of its registers then.
    asked: Asked,
    /// The instruction that was interpreted may have changed the x87 that was in variables.
    cut: bool,
}

impl Translator<'_> {
    /// Translates all blocks, with what is known of numbers between them if that is of use.
    fn pass_planned(&mut self, straights: &[Straight]) -> Pass {
        let pass = self.pass(straights, None);
        match flow::plan(&pass.blocks, &pass.summaries) {
            Some(plan) => self.pass(straights, Some(&plan)),
            None => pass,
        }
    }

    fn pass(&mut self, straights: &[Straight], plan: Option<&Plan>) -> Pass {
        let ahead = plan.and_then(|p| p.ahead.as_ref());
        self.start(straights.len() as u32 + u32::from(ahead.is_some()));
        self.number(straights.iter(), ahead.is_some().into());
        let mut pass = Pass::default();
        if let Some(asks) = ahead {
            let (block, checks) = self.ahead(asks);
            pass.blocks.push(block);
            pass.checks.push(checks);
        }
        for (n, straight) in straights.iter().enumerate() {
            pass.blocks.push(self.block(straight, plan.map_or([0; 16], |p| p.known[n])));
            pass.checks.push(core::mem::take(&mut self.checks));
            pass.summaries.push(Summary { known: self.numbers_known, ..self.summary });
        }
        pass
    }

    /// Translates the blocks for the x87 in memory, behind a block that asks whether it can be in variables.
    fn pass_asking(&mut self, straights: &[Straight], plan: &x87::plan::Plan) -> Pass {
        self.start(1 + straights.len() as u32);
        self.number(straights.iter(), 1);
        // Going back to the head is asking anew.
        self.numbers.insert(0, BlockId(0));
        let x87::plan::Plan { asked: Asked { full, empty }, used, .. } = *plan;
        let mut pass = Pass::default();
        self.begin([0; 16]);
        self.at = 0;
        self.emit(Inst::At { offset: 0, done: 0 });
        self.needs(Needs::X87);
        self.emit(Inst::EnterX87 { full, empty, used });
        let insts = core::mem::take(&mut self.insts);
        pass.blocks.push(Block { offset: 0, insts, end: End::Jump(BlockId(1)), retires: 0 });
        pass.checks.push(core::mem::take(&mut self.checks));
        for straight in straights {
            pass.blocks.push(self.block(straight, [0; 16]));
            pass.checks.push(core::mem::take(&mut self.checks));
        }
        pass
    }

    /// Translates the blocks that the plan reaches for the x87 in variables.
    fn pass_in_variables(&mut self, straights: &[Straight], plan: &x87::plan::Plan) -> Pass {
        let starts = straights.iter().zip(&plan.starts);
        let reached: Vec<_> = starts.filter_map(|(b, start)| Some((b, (*start)?))).collect();
        let interpreted = core::mem::take(&mut self.interpreted);
        self.start(1 + reached.len() as u32);
        self.interpreted = interpreted;
        self.number(reached.iter().map(|(b, _)| *b), 1);
        let x87::plan::Plan { asked: Asked { full, empty }, used, .. } = *plan;
        let insts = vec![Inst::At { offset: 0, done: 0 }, Inst::HaveX87 { full, empty, used }];
        let mut pass = Pass::default();
        pass.blocks.push(Block { offset: 0, insts, end: End::Jump(BlockId(1)), retires: 0 });
        pass.checks.push(Vec::new());
        self.asked = plan.asked;
        for (straight, stack) in reached {
            self.double = Some(Now::new(stack));
            pass.blocks.push(self.block(straight, [0; 16]));
            pass.checks.push(core::mem::take(&mut self.checks));
        }
        pass
    }

    /// The region of a pass.
    fn finish(&mut self, mut pass: Pass) -> Region {
        // Blocks that leave were numbered after all others.
        pass.blocks.append(&mut self.extra);
        sse::needs::drop_repeated(&mut pass.blocks, &pass.checks);
        let word = if self.long { Type::I64 } else { Type::I32 };
        Region { word, blocks: pass.blocks, interpreted: self.interpreted.clone(), second: None }
    }

    /// Begins anew with so many blocks.
    fn start(&mut self, total: u32) {
        self.total = total;
        self.interpreted.clear();
        self.extra.clear();
        self.outside.clear();
    }

    fn number<'b>(&mut self, straights: impl Iterator<Item = &'b Straight>, first: u32) {
        self.numbers = straights.zip(first..).map(|(b, n)| (b.offset, BlockId(n))).collect();
    }

    fn begin(&mut self, known: flow::Known) {
        self.insts = Vec::new();
        self.done = 0;
        (self.proven, self.numbers_known, self.recorded) = (0, known, None);
        self.summary = Summary::default();
        self.cut = false;
        if self.double.is_some() {
            self.proven = Needs::X87 as u8;
        }
    }

    fn block(&mut self, straight: &Straight, known: flow::Known) -> Block {
        self.begin(known);
        let mut end = None;
        for (n, (at, insn)) in straight.insns.iter().enumerate() {
            self.at = *at;
            if let Some(now) = &mut self.double {
                now.may_round = x87::plan::is_replaced(&straight.insns[n + 1..]);
            }
            let before = self.insts.len();
            self.emit(Inst::At { offset: *at, done: self.done });
            let last = straight.next == Next::Branch && straight.insns.last().is_some_and(|(l, _)| l == at);
            if last {
                end = Some(self.branch(insn));
                if matches!(end, Some(End::Interpret(_))) {
                    self.insts.truncate(before);
                    break;
                }
            } else {
                self.instruction(insn);
            }
            self.done += 1;
            if self.cut {
                let next = *at + i32::from(insn.len);
                end = Some(End::Leave(self.emit(Inst::Rip(next))));
                break;
            }
        }
        let end = end.unwrap_or_else(|| self.follow(straight.next));
        Block { offset: straight.offset, insts: core::mem::take(&mut self.insts), end, retires: self.done }
    }

    fn follow(&mut self, next: Next) -> End {
        match next {
            Next::Block(at) => self.jump(at),
            Next::Outside(at) => End::Leave(self.emit(Inst::Rip(at))),
            Next::Interpret(at) => End::Interpret(at),
            Next::Branch => End::Interpret(self.at),
        }
    }

    /// Goes on at `at`, in the region or outside.
    fn jump(&mut self, at: i32) -> End {
        match self.numbers.get(&at) {
            Some(block) => End::Jump(*block),
            None => End::Leave(self.emit(Inst::Rip(at))),
        }
    }

    /// The block at `at`, or one that leaves for it.
    fn block_at(&mut self, at: i32) -> BlockId {
        if let Some(block) = self.numbers.get(&at) {
            return *block;
        }
        self.block_outside(at)
    }

    /// A block that leaves for `at`.
    fn block_outside(&mut self, at: i32) -> BlockId {
        if let Some(block) = self.outside.get(&at) {
            return *block;
        }
        let block = BlockId(self.total + self.extra.len() as u32);
        self.outside.insert(at, block);
        self.extra.push(Block {
            offset: at,
            insts: vec![Inst::Rip(at)],
            end: End::Leave(Value(0)),
            retires: 0,
        });
        block
    }

    /// Translates an instruction that does not branch, or has the interpreter run it.
    fn instruction(&mut self, insn: &Insn) {
        let before = self.insts.len();
        let (proven, checks, numbers) = (self.proven, self.checks.len(), self.numbers_known);
        let (recorded, summary, double) = (self.recorded, self.summary, self.double);
        if self.known(insn).is_none() {
            self.insts.truncate(before);
            self.checks.truncate(checks);
            (self.proven, self.numbers_known, self.recorded) = (proven, numbers, recorded);
            (self.summary, self.double) = (summary, double);
            self.interpret(insn);
        }
    }

    fn known(&mut self, insn: &Insn) -> Option<()> {
        if insn.operands[..insn.count.into()].contains(&Operand::Implied) {
            return None;
        }
        if self.double.is_some() && insn.x87_opcode != 0 {
            return self.x87_in_variables(insn);
        }
        self.alu(insn)
            .or_else(|| self.data(insn))
            .or_else(|| self.stack(insn))
            .or_else(|| self.shift(insn))
            .or_else(|| self.product(insn))
            .or_else(|| self.sse(insn))
            .or_else(|| self.x87(insn))
            .or_else(|| self.system(insn))
    }

    fn interpret(&mut self, insn: &Insn) {
        let op = self.interpreted.len() as u16;
        self.interpreted.push(self.at);
        let mut bytes = [0; aero_x86::MAX_LEN];
        let have = self.bytes.fetch(self.at, &mut bytes).min(insn.len.into());
        let (reads, writes) = match aero_x86::touched(&bytes[..have], self.bytes.code()) {
            Some(t) => {
                let all = Touched { gprs: t.gprs, xmms: t.xmms, flags: t.flags };
                (all, Touched { gprs: t.gprs_written, xmms: t.xmms_written, flags: t.flags_written })
            }
            None => (EVERYTHING, EVERYTHING),
        };
        self.emit(Inst::Exec { op, reads, writes });
        (self.proven, self.recorded) = (0, None);
        (0..16).filter(|n| writes.xmms >> n & 1 != 0).for_each(|n| self.numbers_known[n] = 0);
        self.summary.written |= writes.xmms;
        if let Some(now) = &mut self.double {
            now.last = Some(Last::Status);
            self.proven = Needs::X87 as u8;
            self.cut = !x87::plan::keeps_x87(insn) || insn.x87_opcode != 0 && !x87::plan::only_reads(insn);
            self.forget_x87(self.cut);
        }
    }
}

/// An instruction of which nothing is known.
const EVERYTHING: Touched = Touched { gprs: 0xffff, xmms: 0xffff, flags: true };

/// What instructions are built from.
impl Translator<'_> {
    fn emit(&mut self, inst: Inst) -> Value {
        self.insts.push(inst);
        Value(self.insts.len() as u32 - 1)
    }

    fn word(&self) -> Type {
        if self.long { Type::I64 } else { Type::I32 }
    }

    fn word_size(&self) -> u8 {
        self.word().size()
    }

    fn int(&mut self, ty: Type, value: u64) -> Value {
        let value = if ty == Type::I32 { u64::from(value as u32) } else { value };
        self.emit(Inst::Const(ty, value))
    }

    /// An integer of `size` bytes.
    fn int_of(&mut self, size: u8, value: u64) -> Value {
        self.int(type_of(size), value & mask(size))
    }

    fn bin(&mut self, op: Binary, a: Value, b: Value) -> Value {
        self.emit(Inst::Binary(op, a, b))
    }

    /// `a op n`, both of type `ty`.
    fn bin_int(&mut self, op: Binary, ty: Type, a: Value, n: u64) -> Value {
        let n = self.int(ty, n);
        self.bin(op, a, n)
    }

    fn un(&mut self, op: Unary, a: Value) -> Value {
        self.emit(Inst::Unary(op, a))
    }

    fn select(&mut self, when: Value, yes: Value, no: Value) -> Value {
        self.emit(Inst::Select { when, yes, no })
    }

    /// Clears what lies above `size` bytes.
    fn clean(&mut self, size: u8, value: Value) -> Value {
        match size {
            1 | 2 => self.bin_int(Binary::And, Type::I32, value, mask(size)),
            _ => value,
        }
    }

    /// An integer of `size` bytes, sign-extended in its type.
    fn signed(&mut self, size: u8, value: Value) -> Value {
        match size {
            1 => self.un(Unary::Extend8S, value),
            2 => self.un(Unary::Extend16S, value),
            _ => value,
        }
    }

    /// An integer of `size` bytes as a word.
    fn widen(&mut self, size: u8, value: Value) -> Value {
        if self.long && size < 8 { self.un(Unary::ExtendU, value) } else { value }
    }

    /// A word as an integer of `size` bytes.
    fn narrow(&mut self, size: u8, word: Value) -> Value {
        let value = if self.long && size < 8 { self.un(Unary::Wrap, word) } else { word };
        self.clean(size, value)
    }

    /// All of a general register.
    fn gpr(&mut self, reg: u8) -> Value {
        self.emit(Inst::Get(Var::Gpr(reg)))
    }

    fn set_gpr(&mut self, reg: u8, word: Value) {
        self.emit(Inst::Set(Var::Gpr(reg), word));
    }

    fn read_register(&mut self, reg: u8, size: u8, high: bool) -> Value {
        let word = self.gpr(reg);
        if !high {
            return self.narrow(size, word);
        }
        let ty = self.word();
        let shifted = self.bin_int(Binary::ShrU, ty, word, 8);
        self.narrow(1, shifted)
    }

    /// Writes an integer of `size` bytes to a register: 4 bytes clear the upper half, fewer keep the rest.
    fn write_register(&mut self, reg: u8, size: u8, high: bool, value: Value) {
        let wide = self.widen(size, value);
        if size >= 4 {
            return self.set_gpr(reg, wide);
        }
        let (ty, shift) = (self.word(), if high { 8 } else { 0 });
        let old = self.gpr(reg);
        let kept = self.bin_int(Binary::And, ty, old, !(mask(size) << shift));
        let placed = if high { self.bin_int(Binary::Shl, ty, wide, 8) } else { wide };
        let merged = self.bin(Binary::Or, kept, placed);
        self.set_gpr(reg, merged);
    }

    /// The linear address of the memory operand.
    fn address(&mut self, insn: &Insn) -> Option<Value> {
        let offset = self.offset(insn)?;
        self.linear(insn.mem.segment, offset)
    }

    /// The memory operand's offset in its segment, in the address size.
    fn offset(&mut self, insn: &Insn) -> Option<Value> {
        let (ty, mem) = (self.word(), insn.mem);
        if insn.address_size < 4 || mem.index >= 16 && mem.index != slot::ZERO {
            return None;
        }
        let mut sum = match mem.base {
            slot::BLOCK => {
                let at = i32::try_from(mem.disp).ok()?.checked_add(self.at)?;
                Some(self.emit(Inst::Rip(at)))
            }
            slot::ZERO => None,
            base => Some(self.gpr(base)),
        };
        if mem.index != slot::ZERO {
            let index = self.gpr(mem.index);
            let scaled =
                if mem.scale == 0 { index } else { self.bin_int(Binary::Shl, ty, index, mem.scale.into()) };
            sum = Some(sum.map_or(scaled, |s| self.bin(Binary::Add, s, scaled)));
        }
        let disp = if mem.base == slot::BLOCK { 0 } else { mem.disp as u64 };
        let sum = match sum {
            Some(s) if disp == 0 => s,
            Some(s) => self.bin_int(Binary::Add, ty, s, disp),
            None => self.int(ty, disp),
        };
        let short = self.long && insn.address_size == 4;
        Some(if short { self.bin_int(Binary::And, ty, sum, 0xffff_ffff) } else { sum })
    }

    /// The linear address of an offset. Flat segments begin at 0; FS and GS have bases, and in 32-bit code limits, which
    /// must be those of a flat segment here.
    fn linear(&mut self, segment: u8, offset: Value) -> Option<Value> {
        // A code segment cannot be written, and perhaps not be read.
        if segment == seg::CS && !self.long {
            return None;
        }
        if segment < seg::FS {
            return Some(offset);
        }
        let at = |field: usize| {
            (offset_of!(CpuState, segments) + usize::from(segment) * size_of::<Segment>() + field) as u32
        };
        if !self.long {
            self.guard_flat(at(offset_of!(Segment, limit)), at(offset_of!(Segment, attributes)));
        }
        let (size, ty) = (self.word_size(), self.word());
        let base = self.emit(Inst::State { at: at(offset_of!(Segment, base)), size, ty });
        Some(self.bin(Binary::Add, base, offset))
    }

    fn guard_flat(&mut self, limit: u32, attributes: u32) {
        let limit = self.emit(Inst::State { at: limit, size: 4, ty: Type::I32 });
        let whole = self.bin_int(Binary::Eq, Type::I32, limit, u64::from(u32::MAX));
        let attributes = self.emit(Inst::State { at: attributes, size: 4, ty: Type::I32 });
        let kind = self.bin_int(Binary::And, Type::I32, attributes, Segment::FLAT_MASK.into());
        let data = self.bin_int(Binary::Eq, Type::I32, kind, Segment::FLAT_DATA.into());
        let both = self.bin(Binary::And, whole, data);
        self.emit(Inst::Guard(both));
    }

    fn load(&mut self, address: Value, size: u8) -> Value {
        self.emit(Inst::Load { address, size, signed: false, ty: type_of(size) })
    }

    fn store(&mut self, address: Value, size: u8, value: Value) {
        self.emit(Inst::Store { address, size, value });
    }

    /// Operand `n` as an integer of its size.
    fn read(&mut self, insn: &Insn, n: usize) -> Option<Value> {
        let size = operand_size(insn, n)?;
        self.read_sized(insn, n, size)
    }

    /// Operand `n`, an immediate of `size` bytes if it is one.
    fn read_sized(&mut self, insn: &Insn, n: usize, size: u8) -> Option<Value> {
        match insn.operands[n] {
            Operand::Gpr { reg, size, high } => Some(self.read_register(reg, size, high)),
            Operand::Imm(value) => Some(self.int_of(size, value)),
            Operand::Mem => {
                let address = self.address(insn)?;
                Some(self.load(address, size))
            }
            _ => None,
        }
    }

    /// Operand `n`, which will be written: where it is, and its value.
    fn modify(&mut self, insn: &Insn, n: usize) -> Option<(Dest, Value)> {
        match insn.operands[n] {
            Operand::Gpr { reg, size, high } => {
                Some((Dest::Register { reg, size, high }, self.read_register(reg, size, high)))
            }
            Operand::Mem => {
                let size = operand_size(insn, n)?;
                let address = self.address(insn)?;
                let place = self.emit(Inst::Place { address, size });
                let value = self.emit(Inst::Peek { place, size, signed: false, ty: type_of(size) });
                Some((Dest::Place { place, size }, value))
            }
            _ => None,
        }
    }

    fn write(&mut self, dest: Dest, value: Value) {
        match dest {
            Dest::Register { reg, size, high } => self.write_register(reg, size, high, value),
            Dest::Place { place, size } => _ = self.emit(Inst::Poke { place, size, value }),
        }
    }

    /// All arithmetic flags follow from `kind` of two integers of `size` bytes.
    fn flags(&mut self, kind: FlagKind, size: u8, a: Value, b: Value) {
        let (a, b) = (self.widen(size, a), self.widen(size, b));
        self.emit(Inst::Flags { kind: kind.sized(size), a, b });
    }

    /// Flags of a logic operation's result.
    fn logic_flags(&mut self, size: u8, result: Value) {
        self.flags(FlagKind::LOGIC, size, result, result);
    }
}

/// The type of integers of `size` bytes.
fn type_of(size: u8) -> Type {
    if size == 8 { Type::I64 } else { Type::I32 }
}

/// The bits of an integer of `size` bytes.
fn mask(size: u8) -> u64 {
    u64::MAX >> (64 - 8 * u32::from(size))
}

/// Bytes of operand `n`, a general register or memory.
fn operand_size(insn: &Insn, n: usize) -> Option<u8> {
    match insn.operands[n] {
        Operand::Gpr { size, .. } => Some(size),
        Operand::Mem => Some(insn.mem.size).filter(|s| matches!(s, 1 | 2 | 4 | 8)),
        _ => None,
    }
}
