//! One recorded test: a processor and memory before an instruction and after it.

/// The processor that a set was recorded on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Recorded {
    /// 8088 or 8086: one instruction is run, without an HLT behind it
    #[value(name = "8088")]
    I8088,
    /// 80286: the instruction and an HLT
    #[value(name = "80286")]
    I80286,
    /// 80386: the same, with registers of 32 bits
    #[value(name = "80386")]
    I80386,
}

impl Recorded {
    /// What the report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::I8088 => "8088",
            Self::I80286 => "80286",
            Self::I80386 => "80386",
        }
    }

    /// Whether a test ends with an HLT.
    pub fn halts(self) -> bool {
        self != Self::I8088
    }
}

/// Registers, in the order in which MOO files number the 32-bit ones.
pub const NAMES: [&str; REGISTERS] = [
    "cr0", "cr3", "eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "esp", "cs", "ds", "es", "fs", "gs", "ss",
    "eip", "eflags", "dr6", "dr7",
];

/// How many there are.
pub const REGISTERS: usize = 20;

/// Numbers of registers in [`NAMES`].
pub mod reg {
    /// EAX; EBX follows.
    #[cfg(test)]
    pub const EAX: usize = 2;
    /// ECX.
    pub const ECX: usize = 4;
    /// ESI.
    pub const ESI: usize = 6;
    /// EDI.
    pub const EDI: usize = 7;
    /// ESP.
    pub const ESP: usize = 9;
    /// CS; DS, ES, FS, GS and SS follow.
    pub const CS: usize = 10;
    /// SS.
    pub const SS: usize = 15;
    /// EIP.
    pub const EIP: usize = 16;
    /// EFLAGS.
    pub const EFLAGS: usize = 17;
}

/// The 16-bit registers in the order in which MOO files number them, as numbers of [`NAMES`].
pub const WORD_REGISTERS: [usize; 14] = [2, 3, 4, 5, 10, 15, 11, 12, 9, 8, 6, 7, 16, 17];

/// The number of the register that a file calls `name`.
pub fn register(name: &str) -> Option<usize> {
    NAMES.iter().position(|n| *n == name || n.strip_prefix('e') == Some(name))
}

/// Values of some registers.
pub type Registers = [Option<u32>; REGISTERS];

/// A processor with memory: everything before a test, what changed after it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    /// Registers.
    pub regs: Registers,
    /// Bytes by physical address.
    pub ram: Vec<(u32, u8)>,
}

/// An exception that the instruction raised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Raised {
    /// Its vector.
    pub number: u8,
}

/// One test.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Case {
    /// The opcode in hex, with the number of the group member.
    pub form: String,
    /// Disassembly.
    pub name: String,
    /// The instruction, with the HLT behind it if the set has one.
    pub bytes: Vec<u8>,
    /// Before.
    pub initial: Snapshot,
    /// What is different afterwards.
    pub after: Snapshot,
    /// The exception, where the set says so.
    pub raised: Option<Raised>,
    /// Bits of registers that are defined, where the set says so.
    pub masks: Registers,
}

impl Case {
    /// The value of a register before.
    pub fn before(&self, reg: usize) -> u32 {
        self.initial.regs[reg].unwrap_or_default()
    }

    /// The value of a register afterwards.
    pub fn expected(&self, reg: usize) -> u32 {
        self.after.regs[reg].unwrap_or_else(|| self.before(reg))
    }

    /// The physical address of `offset` in the real-mode segment that register `segment` names.
    pub fn address(&self, segment: usize, offset: u32) -> u32 {
        ((self.before(segment) & 0xffff) << 4) + (offset & 0xffff)
    }
}

/// A file of tests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Set {
    /// The processor that it was recorded on.
    pub recorded: Recorded,
    /// Its tests.
    pub cases: Vec<Case>,
}
