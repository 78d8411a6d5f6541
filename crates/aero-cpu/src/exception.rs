//! Exceptions: vectors, and what a faulting instruction leaves behind.

/// An interrupt vector with the processor's own meaning (Intel SDM vol. 3, table 6-1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vector(pub u8);

impl Vector {
    /// #DE.
    pub const DIVIDE_ERROR: Self = Self(0);
    /// #DB.
    pub const DEBUG: Self = Self(1);
    /// Non-maskable interrupt.
    pub const NMI: Self = Self(2);
    /// #BP.
    pub const BREAKPOINT: Self = Self(3);
    /// #OF.
    pub const OVERFLOW: Self = Self(4);
    /// #BR.
    pub const BOUND: Self = Self(5);
    /// #UD.
    pub const UNDEFINED: Self = Self(6);
    /// #NM.
    pub const DEVICE_NOT_AVAILABLE: Self = Self(7);
    /// #DF.
    pub const DOUBLE_FAULT: Self = Self(8);
    /// #TS.
    pub const INVALID_TSS: Self = Self(10);
    /// #NP.
    pub const NOT_PRESENT: Self = Self(11);
    /// #SS.
    pub const STACK: Self = Self(12);
    /// #GP.
    pub const PROTECTION: Self = Self(13);
    /// #PF.
    pub const PAGE_FAULT: Self = Self(14);
    /// #MF.
    pub const X87: Self = Self(16);
    /// #AC.
    pub const ALIGNMENT_CHECK: Self = Self(17);
    /// #XM.
    pub const SIMD: Self = Self(19);
}

/// An exception on its way to its handler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exception {
    /// Which.
    pub vector: Vector,
    /// The error code, for those that have one.
    pub code: Option<u32>,
    /// CR2, for page faults; what DR6 is to tell, for #DB.
    pub address: u64,
}

/// How exceptions combine into double faults (Intel SDM vol. 3, table 6-4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    Benign,
    Contributory,
    PageFault,
    DoubleFault,
}

impl Exception {
    /// Sets EXT in a selector error code: the fault came up while an event from outside the program was delivered
    /// (Intel SDM vol. 3, 6.13). A page fault's code has no such bit.
    pub fn mark_external(&mut self) {
        if matches!(
            self.vector,
            Vector::INVALID_TSS | Vector::NOT_PRESENT | Vector::STACK | Vector::PROTECTION
        ) {
            self.code = self.code.map(|code| code | 1);
        }
    }

    /// Whether the saved flags have RF set: the instruction runs again and its breakpoints have had their turn. Not for
    /// traps, and not for instruction breakpoints, whose handler sets RF itself (Intel SDM vol. 3, 18.3.1.1).
    pub fn resumes(&self) -> bool {
        match self.vector {
            Vector::DEBUG => self.address & crate::debug::dr6::BD != 0,
            vector => !matches!(vector, Vector::BREAKPOINT | Vector::OVERFLOW | Vector::DOUBLE_FAULT),
        }
    }

    fn class(self) -> Class {
        match self.vector.0 {
            0 | 10 | 11 | 12 | 13 => Class::Contributory,
            14 => Class::PageFault,
            8 => Class::DoubleFault,
            _ => Class::Benign,
        }
    }

    /// What becomes of this exception when it comes up while `first` is being delivered: `None` is a shutdown.
    pub fn after(self, first: Self) -> Option<Self> {
        let double = Self { vector: Vector::DOUBLE_FAULT, code: Some(0), address: 0 };
        match (first.class(), self.class()) {
            (Class::DoubleFault, Class::Contributory | Class::PageFault) => None,
            (Class::Contributory, Class::Contributory) => Some(double),
            (Class::PageFault, Class::Contributory | Class::PageFault) => Some(double),
            _ => Some(self),
        }
    }
}
