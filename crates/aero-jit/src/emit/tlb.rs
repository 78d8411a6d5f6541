//! The look into the TLB, in line and out of line.
//!
//! An entry holds the difference between a linear page and the arena offset of its RAM, so that `t = la - entry` *is* the
//! arena offset if it lies below 4 GiB; see `docs/decisions/0002-delta-tlb.md`. In line stands that look for aligned accesses.
//! An unaligned one that stays in its page does the look again in one of a few functions that a module's regions share, which
//! ask the processor only about the rest.

use crate::emit::Made;
use crate::emit::code::{Code, Mostly, at, load, store};
use crate::ir::Type;
use crate::job::{Env, Key};
use wasm_encoder::{BlockType, ValType};

/// What an access is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Load,
    Store,
    Place,
}

impl Kind {
    /// The arena offset of the table.
    pub(super) fn table(self, env: &Env, key: &Key) -> u32 {
        let tables = if self == Self::Load { env.read } else { env.write };
        tables[usize::from(key.user)]
    }
}

/// A linear address in a local.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address {
    pub(super) local: u32,
    pub(super) word: Type,
}

impl Address {
    /// Puts it on the stack, 64 bits wide.
    pub(super) fn wide(self, code: &mut Code) {
        code.put().local_get(self.local);
        if self.word == Type::I32 {
            code.put().i64_extend_i32_u();
        }
    }

    /// Its bits 31:12 as the offset of its entry in a table.
    fn entry(self, code: &mut Code) {
        let mut put = code.put();
        put.local_get(self.local);
        if self.word == Type::I32 {
            put.i32_const(9).i32_shr_u();
        } else {
            put.i64_const(9).i64_shr_u().i32_wrap_i64();
        }
        put.i32_const(0x7f_fff8).i32_and();
    }
}

/// Sets `t` to the address less the entry, and puts whether it may be used for `size` bytes on the stack.
pub(super) fn look(code: &mut Code, la: Address, t: u32, table: u32, size: u8) {
    la.wide(code);
    la.entry(code);
    let mut put = code.put();
    put.i64_load(at(table, 3)).i64_sub().local_tee(t);
    if size == 16 {
        // Vectors are often not aligned: what counts is the page.
        put.i64_const(32).i64_shr_u().i32_wrap_i64();
        put.local_get(t).i32_wrap_i64().i32_const(0xfff).i32_and().i32_const(0xff0).i32_gt_u();
        put.i32_or().i32_eqz();
    } else {
        put.i64_const(!0xffff_ffff | (i64::from(size) - 1)).i64_and().i64_eqz();
    }
}

/// A function that regions share: an access of 2, 4 or 8 bytes that the look in line refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shared {
    pub(super) kind: Kind,
    pub(super) size: u8,
    pub(super) table: u32,
}

impl Shared {
    /// Its type's parameters and result.
    pub(super) fn signature(kind: Kind) -> (&'static [ValType], ValType) {
        match kind {
            Kind::Load => (&[ValType::I32, ValType::I64], ValType::I64),
            Kind::Store => (&[ValType::I32, ValType::I64, ValType::I64], ValType::I32),
            Kind::Place => (&[ValType::I32, ValType::I64], ValType::I32),
        }
    }

    /// Its body; `helper` is the imported function.
    pub(super) fn body(self, helper: u32) -> Option<Made> {
        const LA: u32 = 1;
        const VALUE: u32 = 2;
        let (parameters, result) = Self::signature(self.kind);
        let mut code = Code::new(parameters.len() as u32);
        let t = code.local(Type::I64);
        let la = Address { local: LA, word: Type::I64 };
        la.wide(&mut code);
        la.entry(&mut code);
        let last = 0x1000 - i32::from(self.size);
        code.put().i64_load(at(self.table, 3)).i64_sub().local_tee(t).i64_const(32).i64_shr_u().i64_eqz();
        code.put()
            .local_get(LA)
            .i32_wrap_i64()
            .i32_const(0xfff)
            .i32_and()
            .i32_const(last)
            .i32_le_u()
            .i32_and();
        code.if_(BlockType::Result(result), Mostly::Taken);
        code.put().local_get(t).i32_wrap_i64();
        match self.kind {
            Kind::Load => load(&mut code, Type::I64, self.size, false, at(0, 0))?,
            Kind::Store => {
                code.put().local_get(VALUE);
                store(&mut code, Type::I64, self.size, at(0, 0))?;
                code.put().i32_const(0);
            }
            Kind::Place => {}
        }
        code.put().else_().local_get(0).local_get(LA).i32_const(self.size.into());
        if self.kind == Kind::Store {
            code.put().local_get(VALUE);
        }
        code.put().call(helper).end().end();
        Some(code.finish())
    }
}
