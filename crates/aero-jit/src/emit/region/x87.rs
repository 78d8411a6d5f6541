//! The x87 in variables: entering, and what is said about it at exits.

use super::{Body, CTX, DEPTH, Vars, vars};
use crate::emit::code::Mostly;
use crate::emit::{Common, Helper, x87};
use crate::ir::{Inst, Type, Var};
use crate::x87::X87;
use aero_cpu::fpu::Fpu;
use aero_cpu::jit::x87::{LazyX87, NO_SEGMENT, stack};
use aero_cpu::state::CpuState;
use core::mem::offset_of;
use wasm_encoder::BlockType;

const LAZY: u32 = offset_of!(CpuState, lazy_x87) as u32;
const FPU: u32 = offset_of!(CpuState, fpu) as u32;

impl Body<'_> {
    /// Whether the region looks at the x87.
    fn has_x87(&self) -> bool {
        let fpu = FPU..FPU + size_of::<Fpu>() as u32;
        self.region.blocks.iter().flat_map(|b| &b.insts).any(|inst| match inst {
            Inst::X87 { .. } | Inst::EnterX87 { .. } => true,
            Inst::State { at, .. } | Inst::SetState { at, .. } => fpu.contains(at),
            _ => false,
        })
    }

    /// Has worked out what an earlier region has left undone, if this one looks at it.
    pub(super) fn settle_x87(&mut self) -> Option<()> {
        if !self.has_x87() {
            return Some(());
        }
        self.state(LAZY + offset_of!(LazyX87, pending) as u32, Type::I32, 4)?;
        self.code.if_(BlockType::Empty, Mostly::NotTaken);
        self.code.put().local_get(CTX).call(Helper::Settle.index()).end();
        Some(())
    }

    /// Goes on in the second form of the region if the x87 can be in variables.
    pub(super) fn enter_x87(&mut self, full: u8, empty: u8, used: u8) -> Option<()> {
        let Some(second) = self.module.known(Common::Second(self.number)) else { return Some(()) };
        let known = full | empty;
        // A loop at 64 bits of precision asks in every turn.
        self.state(FPU + offset_of!(Fpu, control) as u32, Type::I32, 2)?;
        self.code.put().i32_const(x87::CONTROL_BITS).i32_and().i32_const(x87::CONTROL).i32_eq();
        self.code.put().if_(BlockType::Empty);
        self.code.put().i32_const(i32::from(known) << 8 | i32::from(full)).i32_const(used.into());
        self.code.put().i64_const(0);
        let function = self.module.shared(Common::X87(X87::Enter))?;
        self.code.put().call(function).if_(BlockType::Empty);
        self.write_for_head()?;
        self.code.put().local_get(CTX).local_get(DEPTH);
        match self.module.env.tail_calls {
            true => _ = self.code.put().return_call(second),
            false => _ = self.code.put().call(second).return_(),
        }
        self.code.put().end().end();
        Some(())
    }

    /// Loads the variables, which that has written beside each other.
    pub(super) fn have_x87(&mut self, full: u8, empty: u8, used: u8) -> Option<()> {
        for n in (0..8).filter(|n| used >> n & 1 != 0) {
            let from = LAZY + (offset_of!(LazyX87, values) + 8 * usize::from(n)) as u32;
            self.state(from, Type::F64, 8)?;
            self.code.put().local_set(self.locals[vars::number(Var::Fp(n))?]);
        }
        self.state(FPU + offset_of!(Fpu, top) as u32, Type::I32, 1)?;
        self.code.put().local_set(self.locals[vars::number(Var::FpBase)?]);
        let stack = stack(0, full | empty, full);
        self.code.put().i32_const(stack as i32).local_set(self.locals[vars::number(Var::FpStack)?]);
        Some(())
    }

    /// Says what variables have of the x87. Without those of the registers nothing is said about them.
    pub(super) fn spill_x87(&mut self, which: Vars) -> Option<()> {
        let with_registers = which.and(Vars::FP) != Vars::default();
        let group = if with_registers { Vars::FP } else { Vars::default() };
        let registers = Vars::registers_of_x87(which.mask_of_x87());
        let all = which.or(group.without(Vars::registers_of_x87(0xff))).or(Vars::LAST).and(Vars::X87);
        for var in all.and(self.flow.used).iter() {
            let (field, ty) = field(var)?;
            let local = self.locals[vars::number(var)?];
            self.at_state(LAZY + field)?;
            match var {
                Var::FpIp => self.linear(local),
                _ => _ = self.code.put().local_get(local),
            }
            match ty {
                Some(ty) => self.store_state(LAZY + field, ty, ty.size())?,
                None => self.store_word(LAZY + field)?,
            }
        }
        if !with_registers {
            self.say(offset_of!(LazyX87, stack), 0)?;
        }
        self.say(offset_of!(LazyX87, mask), registers.mask_of_x87())?;
        self.say(offset_of!(LazyX87, pending), 1)
    }

    /// Lets the exits say nothing: the interpreter was told all, and may have gone on from there.
    pub(super) fn forget_x87(&mut self) -> Option<()> {
        for (var, none) in [(Var::FpCode, 0), (Var::FpStack, 0), (Var::FpDs, NO_SEGMENT)] {
            if self.flow.used.has(var) {
                self.code.put().i32_const(none as i32).local_set(self.locals[vars::number(var)?]);
            }
        }
        Some(())
    }

    fn say(&mut self, field: usize, value: u8) -> Option<()> {
        self.at_state(LAZY + field as u32)?;
        self.code.put().i32_const(value.into());
        self.store_state(LAZY + field as u32, Type::I32, 4)
    }

    /// Puts the linear address at the distance in a local from the head on the stack.
    fn linear(&mut self, distance: u32) {
        let mut put = self.code.put();
        put.local_get(self.fixed.base).local_get(distance);
        match self.region.word {
            Type::I64 => _ = put.i64_extend_i32_s().i64_add(),
            _ => _ = put.i32_add(),
        }
    }
}

/// Where a variable is said, and its type if it is not the region's word.
fn field(var: Var) -> Option<(u32, Option<Type>)> {
    let (field, ty) = match var {
        Var::Fp(n) => (offset_of!(LazyX87, values) + 8 * usize::from(n), Some(Type::F64)),
        Var::FpStack => (offset_of!(LazyX87, stack), Some(Type::I32)),
        Var::FpBase => (offset_of!(LazyX87, base), Some(Type::I32)),
        Var::FpA => (offset_of!(LazyX87, a), Some(Type::F64)),
        Var::FpB => (offset_of!(LazyX87, b), Some(Type::F64)),
        Var::FpCode => (offset_of!(LazyX87, code), Some(Type::I32)),
        Var::FpDs => (offset_of!(LazyX87, ds), Some(Type::I32)),
        Var::FpIp => (offset_of!(LazyX87, ip), None),
        Var::FpDp => (offset_of!(LazyX87, dp), None),
        _ => return None,
    };
    Some((field as u32, ty))
}
