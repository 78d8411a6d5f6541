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
    F32Ceil: F32 => F32;
    F32Floor: F32 => F32;
    F32Trunc: F32 => F32;
    F64Ceil: F64 => F64;
    F64Floor: F64 => F64;
    F64Trunc: F64 => F64;
    I16x8Bitmask: V128 => I32;
    I8x16AllTrue: V128 => I32;
    I16x8AllTrue: V128 => I32;
    I32x4AllTrue: V128 => I32;
    I64x2AllTrue: V128 => I32;
    I8x16Abs: V128 => V128;
    I16x8Abs: V128 => V128;
    I32x4Abs: V128 => V128;
    I16x8ExtendLowI8x16S: V128 => V128;
    I16x8ExtendLowI8x16U: V128 => V128;
    I16x8ExtendHighI8x16S: V128 => V128;
    I16x8ExtendHighI8x16U: V128 => V128;
    I32x4ExtendLowI16x8S: V128 => V128;
    I32x4ExtendLowI16x8U: V128 => V128;
    I64x2ExtendLowI32x4S: V128 => V128;
    I64x2ExtendLowI32x4U: V128 => V128;
    I16x8ExtAddPairwiseI8x16U: V128 => V128;
    I32x4ExtAddPairwiseI16x8U: V128 => V128;
    I32x4ExtAddPairwiseI16x8S: V128 => V128;
    F32x4Abs: V128 => V128;
    F32x4Nearest: V128 => V128;
    F32x4Ceil: V128 => V128;
    F32x4Floor: V128 => V128;
    F32x4Trunc: V128 => V128;
    F64x2Abs: V128 => V128;
    F64x2Nearest: V128 => V128;
    F64x2Ceil: V128 => V128;
    F64x2Floor: V128 => V128;
    F64x2Trunc: V128 => V128;
    F32x4ConvertI32x4S: V128 => V128;
    F64x2ConvertLowI32x4S: V128 => V128;
    F32x4DemoteF64x2Zero: V128 => V128;
    F64x2PromoteLowF32x4: V128 => V128;
    I32x4TruncSatF32x4S: V128 => V128;
    I32x4TruncSatF64x2SZero: V128 => V128;
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
    F32Le: F32 => I32;
    F32Ge: F32 => I32;
    F32Ne: F32 => I32;
    F64Le: F64 => I32;
    F64Ge: F64 => I32;
    F64Ne: F64 => I32;
    I8x16AddSatS: V128 => V128;
    I8x16AddSatU: V128 => V128;
    I8x16SubSatS: V128 => V128;
    I8x16SubSatU: V128 => V128;
    I16x8AddSatS: V128 => V128;
    I16x8AddSatU: V128 => V128;
    I16x8SubSatS: V128 => V128;
    I16x8SubSatU: V128 => V128;
    I8x16AvgrU: V128 => V128;
    I16x8AvgrU: V128 => V128;
    I8x16MinS: V128 => V128;
    I8x16MinU: V128 => V128;
    I8x16MaxS: V128 => V128;
    I8x16MaxU: V128 => V128;
    I16x8MinS: V128 => V128;
    I16x8MinU: V128 => V128;
    I16x8MaxS: V128 => V128;
    I16x8MaxU: V128 => V128;
    I32x4MinS: V128 => V128;
    I32x4MinU: V128 => V128;
    I32x4MaxS: V128 => V128;
    I32x4MaxU: V128 => V128;
    I32x4ExtMulLowI16x8S: V128 => V128;
    I32x4ExtMulHighI16x8S: V128 => V128;
    I32x4ExtMulLowI16x8U: V128 => V128;
    I32x4ExtMulHighI16x8U: V128 => V128;
    I64x2ExtMulLowI32x4S: V128 => V128;
    I64x2ExtMulLowI32x4U: V128 => V128;
    I32x4DotI16x8S: V128 => V128;
    I8x16NarrowI16x8S: V128 => V128;
    I8x16NarrowI16x8U: V128 => V128;
    I16x8NarrowI32x4S: V128 => V128;
    I16x8NarrowI32x4U: V128 => V128;
    I8x16Swizzle: V128 => V128;
    I16x8Q15MulrSatS: V128 => V128;
    I64x2Eq: V128 => V128;
    I64x2GtS: V128 => V128;
    I32x4LtU: V128 => V128;
    I32x4GeU: V128 => V128;
    F32x4Eq: V128 => V128;
    F32x4Ne: V128 => V128;
    F32x4Lt: V128 => V128;
    F32x4Le: V128 => V128;
    F32x4Ge: V128 => V128;
    F64x2Eq: V128 => V128;
    F64x2Ne: V128 => V128;
    F64x2Lt: V128 => V128;
    F64x2Le: V128 => V128;
    F64x2Ge: V128 => V128;
    F32x4PMin: V128 => V128;
    F32x4PMax: V128 => V128;
    F64x2PMin: V128 => V128;
    F64x2PMax: V128 => V128;
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
    /// The lane as an F32, or an F64 for 8 bytes.
    ExtractFloat {
        /// 4 or 8.
        bytes: u8,
        /// Its number.
        lane: u8,
    },
    /// The vector with its lane replaced by an F32, or an F64 for 8 bytes.
    ReplaceFloat {
        /// 4 or 8.
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
            Self::Shuffle(_) | Self::Replace { .. } | Self::ReplaceFloat { .. } | Self::Shift { .. } => 2,
            Self::Bitselect => 3,
            Self::Extract { .. } | Self::ExtractFloat { .. } => 1,
        }
    }
}
