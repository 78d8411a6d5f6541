//! Guest memory: the fast path in line, the rest by calls.

use super::{Address, Body, CTX, Kind, Shared};
use crate::emit::code::{Mostly, at, load, store, val_type};
use crate::emit::tlb::look;
use crate::emit::vars;
use crate::emit::{Common, Helper};
use crate::ir::{Block, Inst, Type, Value};
use aero_cpu::state::CpuState;
use core::mem::offset_of;
use wasm_encoder::{BlockType, ValType};

/// An operand that is needed twice.
#[derive(Clone, Copy)]
enum Twice {
    Local(u32),
    Again(Value),
}

impl Body<'_> {
    /// Puts what lies at an address on the stack.
    pub(super) fn load(
        &mut self,
        block: &Block,
        address: Value,
        size: u8,
        signed: bool,
        ty: Type,
    ) -> Option<()> {
        let la = self.address(block, address)?;
        self.look(la, Kind::Load, size, BlockType::Result(val_type(ty)));
        self.code.put().local_get(self.fixed.t).i32_wrap_i64();
        load(&mut self.code, ty, size, signed, at(0, alignment(size)))?;
        self.code.put().else_();
        self.note_exit();
        self.code.put().local_get(CTX);
        la.wide(&mut self.code);
        if size == 16 {
            self.code.put().call(Helper::Load16.index());
            let exit = self.exit_label();
            self.code.br_if(exit, Mostly::NotTaken);
            self.state(offset_of!(CpuState, scratch) as u32, Type::V128, 16)?;
        } else {
            self.slow(Kind::Load, size)?;
            self.narrow(ty, size, signed);
            self.state(offset_of!(CpuState, redo) as u32, Type::I32, 4)?;
            let exit = self.exit_label();
            self.code.br_if(exit, Mostly::NotTaken);
        }
        self.close();
        Some(())
    }

    /// Stores a value.
    pub(super) fn store(&mut self, block: &Block, address: Value, size: u8, value: Value) -> Option<()> {
        let ty = self.values.of(value);
        let value = self.twice(block, value)?;
        let la = self.address(block, address)?;
        self.look(la, Kind::Store, size, BlockType::Empty);
        self.code.put().local_get(self.fixed.t).i32_wrap_i64();
        self.again(block, value)?;
        store(&mut self.code, ty, size, at(0, alignment(size)))?;
        self.code.put().else_();
        self.note_exit();
        if size == 16 {
            let scratch = self.place_in_state(offset_of!(CpuState, scratch) as u32)?;
            self.code.put().i32_const(0);
            self.again(block, value)?;
            store(&mut self.code, ty, size, scratch)?;
            self.code.put().local_get(CTX);
            la.wide(&mut self.code);
            self.code.put().call(Helper::Store16.index());
        } else {
            self.code.put().local_get(CTX);
            la.wide(&mut self.code);
            if size == 1 {
                self.code.put().i32_const(1);
            }
            self.again(block, value)?;
            self.widen(ty);
            let function = self.slow_function(Kind::Store, size)?;
            self.code.put().call(function);
        }
        let exit = self.exit_label();
        self.code.br_if(exit, Mostly::NotTaken);
        self.close();
        Some(())
    }

    /// Puts the arena offset of what lies at an address on the stack.
    pub(super) fn place(&mut self, block: &Block, address: Value, size: u8) -> Option<()> {
        let la = self.address(block, address)?;
        self.look(la, Kind::Place, size, BlockType::Result(ValType::I32));
        self.code.put().local_get(self.fixed.t).i32_wrap_i64().else_();
        self.note_exit();
        self.code.put().local_get(CTX);
        la.wide(&mut self.code);
        self.slow(Kind::Place, size)?;
        self.code.put().local_tee(self.fixed.entry).i32_eqz();
        let exit = self.exit_label();
        self.code.br_if(exit, Mostly::NotTaken);
        self.code.put().local_get(self.fixed.entry);
        self.close();
        Some(())
    }

    /// Looks into the TLB and opens the `if` of what to do with a hit.
    fn look(&mut self, la: Address, kind: Kind, size: u8, ty: BlockType) {
        let table = kind.table(&self.module.env, self.key);
        look(&mut self.code, la, self.fixed.t, table, size);
        self.code.if_(ty, Mostly::Taken);
        self.nesting += 1;
    }

    fn close(&mut self) {
        self.nesting -= 1;
        self.code.put().end();
    }

    /// Calls what does the rest; the context and the address are on the stack.
    fn slow(&mut self, kind: Kind, size: u8) -> Option<()> {
        if !matches!(size, 2 | 4 | 8) {
            self.code.put().i32_const(size.into());
        }
        let function = self.slow_function(kind, size)?;
        self.code.put().call(function);
        Some(())
    }

    /// What does the rest: a function of the module where an access might only be unaligned, else the helper, which is
    /// told the size.
    fn slow_function(&mut self, kind: Kind, size: u8) -> Option<u32> {
        let table = kind.table(&self.module.env, self.key);
        match size {
            2 | 4 | 8 => self.module.shared(Common::Access(Shared { kind, size, table })),
            _ => Some(Helper::of(kind).index()),
        }
    }

    /// A linear address in a local: that where it waits already, or one of its own.
    fn address(&mut self, block: &Block, value: Value) -> Option<Address> {
        let word = self.region.word;
        if let Some(local) = self.waits(block, value) {
            return Some(Address { local, word });
        }
        self.value(block, value)?;
        self.code.put().local_set(self.fixed.la);
        Some(Address { local: self.fixed.la, word })
    }

    /// The local that holds a value already.
    fn waits(&mut self, block: &Block, value: Value) -> Option<u32> {
        if !self.values.known[value.0 as usize].inline {
            return Some(self.taken(value));
        }
        match block.insts[value.0 as usize] {
            Inst::Get(var) => Some(self.locals[vars::number(var)?]),
            _ => None,
        }
    }

    /// Makes a value ready to be put on the stack twice.
    fn twice(&mut self, block: &Block, value: Value) -> Option<Twice> {
        if let Some(local) = self.waits(block, value) {
            return Some(Twice::Local(local));
        }
        if let Inst::Const(..) | Inst::ConstV(..) | Inst::Rip(_) = block.insts[value.0 as usize] {
            return Some(Twice::Again(value));
        }
        let ty = self.values.of(value);
        let local = *self.twice[ty as usize].get_or_insert_with(|| self.code.local(ty));
        self.value(block, value)?;
        self.code.put().local_set(local);
        Some(Twice::Local(local))
    }

    fn again(&mut self, block: &Block, value: Twice) -> Option<()> {
        match value {
            Twice::Local(local) => _ = self.code.put().local_get(local),
            Twice::Again(value) => self.value(block, value)?,
        }
        Some(())
    }

    /// From the low `size` bytes of an I64, zero-extended, to a `ty`.
    fn narrow(&mut self, ty: Type, size: u8, signed: bool) {
        let t = self.fixed.t;
        let mut put = self.code.put();
        match (ty, size, signed) {
            (Type::I64, 1, true) => _ = put.i64_extend8_s(),
            (Type::I64, 2, true) => _ = put.i64_extend16_s(),
            (Type::I64, 4, true) => _ = put.i64_extend32_s(),
            (Type::I64, ..) => {}
            (Type::I32, 1, true) => _ = put.i32_wrap_i64().i32_extend8_s(),
            (Type::I32, 2, true) => _ = put.i32_wrap_i64().i32_extend16_s(),
            (Type::I32, ..) => _ = put.i32_wrap_i64(),
            (Type::V128, ..) => _ = put.local_set(t).v128_const(0).local_get(t).i64x2_replace_lane(0),
            (Type::F32, ..) => _ = put.i32_wrap_i64().f32_reinterpret_i32(),
            (Type::F64, ..) => _ = put.f64_reinterpret_i64(),
        }
    }

    /// From a `ty` to an I64 with its low bytes.
    fn widen(&mut self, ty: Type) {
        let mut put = self.code.put();
        match ty {
            Type::I64 => {}
            Type::I32 => _ = put.i64_extend_i32_u(),
            Type::V128 => _ = put.i64x2_extract_lane(0),
            Type::F32 => _ = put.i32_reinterpret_f32().i64_extend_i32_u(),
            Type::F64 => _ = put.i64_reinterpret_f64(),
        }
    }
}

/// What is known of the alignment of an access that passed the look in line, as a power of two.
fn alignment(size: u8) -> u32 {
    if size == 16 { 0 } else { size.trailing_zeros() }
}
