//! The instructions that programs are made of, run without a call.
//!
//! A call through a pointer is a good part of what an instruction costs, most of all in WebAssembly, where it checks the
//! table, the signature and the stack. So [`run`] has the commonest handlers of flat 64-bit and 32-bit code in its body,
//! chosen by [`Kind`]; all others it calls. Handlers of registers alone cannot fault nor ask for attention, which saves
//! looking.

use crate::op::alu::{self, Add, And, Cmp, Dec, Inc, Neg, Not, Or, Sub, Test, Xor};
use crate::op::shift::{self, Rol, Ror, Sar, Shl, Shr};
use crate::op::{Ea, Flat32, Flat64, Op, Run, branch, data, muldiv, stack};
use crate::vcpu::{Mode, Stop, Vcpu};
use crate::word::Word;
use aero_x86::CodeSize;

/// What [`run`] returns of a block that did not end by itself: the instruction, and how it ended.
pub type Left<'a> = (&'a Op, Result<(), Stop>);

macro_rules! hot {
    (registers { $($quiet:ident $q:expr;)* } others { $($loud:ident $l:expr;)* }) => {
        /// Which handler of [`run`]'s body an instruction has.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Kind { Called, $($quiet,)* $($loud,)* }

        /// The handlers with the addresses (`M`) and the stack and branch size (`N`) of a code size.
        fn find<M: Ea, N: Word>(run: Run) -> Kind {
            let table: &[(Run, Kind)] = &[$(($q, Kind::$quiet),)* $(($l, Kind::$loud),)*];
            let found = table.iter().find(|(known, _)| core::ptr::fn_addr_eq(*known, run));
            found.map_or(Kind::Called, |(_, kind)| *kind)
        }

        /// Runs a block of flat code whose instructions were all bound for its size, until one leaves it. `None` at its
        /// end.
        #[inline(always)]
        pub fn run<'a, M: Ea, N: Word>(v: &mut Vcpu<'_>, ops: &'a [Op]) -> Option<Left<'a>> {
            for op in ops {
                let done = match op.kind {
                    $(Kind::$quiet => {
                        // Registers alone: always `Ok`, and nobody asks for attention.
                        let _ = $q(v, op);
                        continue;
                    })*
                    $(Kind::$loud => {
                        v.under_way(op);
                        $l(v, op)
                    })*
                    Kind::Called => {
                        v.under_way(op);
                        (op.run)(v, op)
                    }
                };
                if done.is_err() || v.attention {
                    return Some((op, done));
                }
            }
            None
        }
    };
}

hot! {
    registers {
        MovRr4 data::mov_rr::<u32>;
        MovRr8 data::mov_rr::<u64>;
        MovRi4 data::mov_ri::<u32>;
        MovRi8 data::mov_ri::<u64>;
        Zext1 data::extend_rr::<u32, u8, false>;
        Zext2 data::extend_rr::<u32, u16, false>;
        Sext4 data::extend_rr::<u64, u32, true>;
        Lea4 data::lea::<u32>;
        Lea8 data::lea64;
        AddRr4 alu::rr::<u32, Add>;
        AddRr8 alu::rr::<u64, Add>;
        SubRr4 alu::rr::<u32, Sub>;
        SubRr8 alu::rr::<u64, Sub>;
        CmpRr1 alu::rr::<u8, Cmp>;
        CmpRr4 alu::rr::<u32, Cmp>;
        CmpRr8 alu::rr::<u64, Cmp>;
        AndRr4 alu::rr::<u32, And>;
        AndRr8 alu::rr::<u64, And>;
        OrRr4 alu::rr::<u32, Or>;
        OrRr8 alu::rr::<u64, Or>;
        XorRr4 alu::rr::<u32, Xor>;
        XorRr8 alu::rr::<u64, Xor>;
        TestRr1 alu::rr::<u8, Test>;
        TestRr4 alu::rr::<u32, Test>;
        TestRr8 alu::rr::<u64, Test>;
        AddRi4 alu::ri::<u32, Add>;
        AddRi8 alu::ri::<u64, Add>;
        SubRi4 alu::ri::<u32, Sub>;
        SubRi8 alu::ri::<u64, Sub>;
        CmpRi1 alu::ri::<u8, Cmp>;
        CmpRi4 alu::ri::<u32, Cmp>;
        CmpRi8 alu::ri::<u64, Cmp>;
        AndRi4 alu::ri::<u32, And>;
        AndRi8 alu::ri::<u64, And>;
        TestRi1 alu::ri::<u8, Test>;
        OrRi4 alu::ri::<u32, Or>;
        XorRi4 alu::ri::<u32, Xor>;
        Inc4 alu::unary_r::<u32, Inc>;
        Dec4 alu::unary_r::<u32, Dec>;
        Neg4 alu::unary_r::<u32, Neg>;
        Not4 alu::unary_r::<u32, Not>;
        Shl4 shift::shift_r::<u32, Shl, false>;
        Shl8 shift::shift_r::<u64, Shl, false>;
        Shr4 shift::shift_r::<u32, Shr, false>;
        Shr8 shift::shift_r::<u64, Shr, false>;
        Sar4 shift::shift_r::<u32, Sar, false>;
        Sar8 shift::shift_r::<u64, Sar, false>;
        Rol4 shift::shift_r::<u32, Rol, false>;
        Ror4 shift::shift_r::<u32, Ror, false>;
        ShlCl4 shift::shift_r::<u32, Shl, true>;
        ShrCl4 shift::shift_r::<u32, Shr, true>;
        Imul4 muldiv::imul_rr::<u32>;
        Imul8 muldiv::imul_rr::<u64>;
    }
    others {
        Load1 data::mov_rm::<u8, M>;
        Load4 data::mov_rm::<u32, M>;
        Load8 data::mov_rm::<u64, M>;
        LoadZext1 data::extend_rm::<u32, M, u8, false>;
        LoadZext2 data::extend_rm::<u32, M, u16, false>;
        LoadSext4 data::extend_rm::<u64, M, u32, true>;
        Store1 data::mov_mr::<u8, M>;
        Store2 data::mov_mr::<u16, M>;
        Store4 data::mov_mr::<u32, M>;
        Store8 data::mov_mr::<u64, M>;
        StoreI1 data::mov_mi::<u8, M>;
        StoreI4 data::mov_mi::<u32, M>;
        StoreI8 data::mov_mi::<u64, M>;
        AddRm4 alu::rm::<u32, M, Add>;
        AddRm8 alu::rm::<u64, M, Add>;
        SubRm4 alu::rm::<u32, M, Sub>;
        SubRm8 alu::rm::<u64, M, Sub>;
        AndRm4 alu::rm::<u32, M, And>;
        OrRm4 alu::rm::<u32, M, Or>;
        XorRm4 alu::rm::<u32, M, Xor>;
        CmpRm4 alu::rm::<u32, M, Cmp>;
        CmpRm8 alu::rm::<u64, M, Cmp>;
        CmpMi1 alu::mi::<u8, M, Cmp>;
        CmpMi4 alu::mi::<u32, M, Cmp>;
        CmpMr4 alu::mr::<u32, M, Cmp>;
        CmpMr8 alu::mr::<u64, M, Cmp>;
        AddMr4 alu::mr::<u32, M, Add>;
        AddMr8 alu::mr::<u64, M, Add>;
        SubMr4 alu::mr::<u32, M, Sub>;
        AddMi4 alu::mi::<u32, M, Add>;
        AddMi8 alu::mi::<u64, M, Add>;
        SubMi4 alu::mi::<u32, M, Sub>;
        CmpMi8 alu::mi::<u64, M, Cmp>;
        TestMi1 alu::mi::<u8, M, Test>;
        Push stack::push_r::<N>;
        Pop stack::pop_r::<N>;
        Call branch::call::<N, false>;
        Ret branch::ret::<N, false>;
        Jmp branch::jmp::<N, false>;
        JmpR branch::jmp_r::<N, false>;
        JmpM branch::jmp_m::<N, M, false>;
        CallR branch::call_r::<N, false>;
        CallM branch::call_m::<N, M, false>;
        Jb branch::jcc::<N, false, 2>;
        Jae branch::jcc::<N, false, 3>;
        Je branch::jcc::<N, false, 4>;
        Jne branch::jcc::<N, false, 5>;
        Jbe branch::jcc::<N, false, 6>;
        Ja branch::jcc::<N, false, 7>;
        Js branch::jcc::<N, false, 8>;
        Jns branch::jcc::<N, false, 9>;
        Jl branch::jcc::<N, false, 12>;
        Jge branch::jcc::<N, false, 13>;
        Jle branch::jcc::<N, false, 14>;
        Jg branch::jcc::<N, false, 15>;
    }
}

/// The kind of a handler in blocks of `mode`.
pub fn kind(run: Run, mode: Mode) -> Kind {
    match mode.code {
        _ if !mode.flat => Kind::Called,
        CodeSize::B64 => find::<Flat64, u64>(run),
        CodeSize::B32 => find::<Flat32, u32>(run),
        CodeSize::B16 => Kind::Called,
    }
}
