//! WebAssembly's operators of vectors and floating point, as the intermediate language names them.
//!
//! Their meaning is WebAssembly's. Each enum is one list, from which the text form, the types and the encoding follow.

use crate::ir::Type;
use wasm_encoder::Instruction;

macro_rules! operators {
    ($(#[$doc:meta])* $name:ident, $($op:ident: $from:ident => $to:ident;)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[allow(missing_docs, reason = "the names are WebAssembly's")]
        pub enum $name { $($op,)* }

        impl $name {
            /// Every operator.
            pub const ALL: &[Self] = &[$(Self::$op,)*];

            /// The type of the operands.
            pub fn takes(self) -> Type {
                match self { $(Self::$op => Type::$from,)* }
            }

            /// The type of the result.
            pub fn gives(self) -> Type {
                match self { $(Self::$op => Type::$to,)* }
            }

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$op => stringify!($op),)* }
            }

            /// As the encoder has it.
            pub fn instruction(self) -> Instruction<'static> {
                match self { $(Self::$op => Instruction::$op,)* }
            }
        }
    };
}

operators! {
    /// One operand.
    Op1,
    F32Abs: F32 => F32;
    F32Neg: F32 => F32;
    F32Sqrt: F32 => F32;
    F32Nearest: F32 => F32;
    F64Abs: F64 => F64;
    F64Neg: F64 => F64;
    F64Sqrt: F64 => F64;
    F64Nearest: F64 => F64;
    F32DemoteF64: F64 => F32;
    F64PromoteF32: F32 => F64;
    F32ConvertI32S: I32 => F32;
    F32ConvertI64S: I64 => F32;
    F64ConvertI32S: I32 => F64;
    F64ConvertI64S: I64 => F64;
    I32TruncSatF32S: F32 => I32;
    I32TruncSatF64S: F64 => I32;
    I64TruncSatF32S: F32 => I64;
    I64TruncSatF64S: F64 => I64;
    I32ReinterpretF32: F32 => I32;
    I64ReinterpretF64: F64 => I64;
    F32ReinterpretI32: I32 => F32;
    F64ReinterpretI64: I64 => F64;
    V128Not: V128 => V128;
    V128AnyTrue: V128 => I32;
    I8x16Splat: I32 => V128;
    I16x8Splat: I32 => V128;
    I32x4Splat: I32 => V128;
    I64x2Splat: I64 => V128;
    F32x4Splat: F32 => V128;
    F64x2Splat: F64 => V128;
    I8x16Bitmask: V128 => I32;
    I32x4Bitmask: V128 => I32;
    I64x2Bitmask: V128 => I32;
    F32x4Sqrt: V128 => V128;
    F64x2Sqrt: V128 => V128;
}

operators! {
    /// Two operands of one type.
    Op2,
    F32Add: F32 => F32;
    F32Sub: F32 => F32;
    F32Mul: F32 => F32;
    F32Div: F32 => F32;
    F64Add: F64 => F64;
    F64Sub: F64 => F64;
    F64Mul: F64 => F64;
    F64Div: F64 => F64;
    F32Eq: F32 => I32;
    F32Lt: F32 => I32;
    F32Gt: F32 => I32;
    F64Eq: F64 => I32;
    F64Lt: F64 => I32;
    F64Gt: F64 => I32;
    V128And: V128 => V128;
    V128AndNot: V128 => V128;
    V128Or: V128 => V128;
    V128Xor: V128 => V128;
    I8x16Add: V128 => V128;
    I8x16Sub: V128 => V128;
    I16x8Add: V128 => V128;
    I16x8Sub: V128 => V128;
    I16x8Mul: V128 => V128;
    I32x4Add: V128 => V128;
    I32x4Sub: V128 => V128;
    I32x4Mul: V128 => V128;
    I64x2Add: V128 => V128;
    I64x2Sub: V128 => V128;
    I8x16Eq: V128 => V128;
    I16x8Eq: V128 => V128;
    I32x4Eq: V128 => V128;
    I8x16GtS: V128 => V128;
    I16x8GtS: V128 => V128;
    I32x4GtS: V128 => V128;
    F32x4Add: V128 => V128;
    F32x4Sub: V128 => V128;
    F32x4Mul: V128 => V128;
    F32x4Div: V128 => V128;
    F64x2Add: V128 => V128;
    F64x2Sub: V128 => V128;
    F64x2Mul: V128 => V128;
    F64x2Div: V128 => V128;
}

/// Operators with a lane, a pattern, or three operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Shape {
    /// `i8x16.shuffle` of two vectors by this pattern.
    Shuffle([u8; 16]),
    /// `v128.bitselect`: the first where the third has ones, else the second.
    Bitselect,
    /// The lane of this number and of this many bytes, zero-extended: I32, or I64 for 8 bytes.
    Extract {
        /// 1, 2, 4 or 8.
        bytes: u8,
        /// Its number.
        lane: u8,
    },
    /// The vector with its lane replaced by an I32, or an I64 for 8 bytes.
    Replace {
        /// 1, 2, 4 or 8.
        bytes: u8,
        /// Its number.
        lane: u8,
    },
    /// A shift of each lane by an I32, taken modulo its bits.
    Shift {
        /// Bytes of a lane.
        bytes: u8,
        /// Which way.
        way: Way,
    },
}

/// A shift's direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Way {
    /// Left.
    Left,
    /// Right, zeros come in.
    Right,
    /// Right, the sign comes in.
    RightSigned,
}

impl Shape {
    /// How many operands it has.
    pub fn operands(self) -> usize {
        match self {
            Self::Shuffle(_) | Self::Replace { .. } | Self::Shift { .. } => 2,
            Self::Bitselect => 3,
            Self::Extract { .. } => 1,
        }
    }
}
