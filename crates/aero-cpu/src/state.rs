//! The architectural state of one processor, in the layout that compiled code shares.
//!
//! [`CpuState`] lives in the arena at [`aero_mem::Layout::vcpu`]. It is `#[repr(C)]` plain data; compiled code finds its
//! fields by `offset_of!`. Nothing here points anywhere.

#![allow(
    unsafe_code,
    reason = "register access by byte offset into the register file; offsets are masked into it"
)]

use crate::fpu::Fpu;
use crate::word::Word;

/// EFLAGS bits (Intel SDM vol. 1, 3.4.3).
pub mod eflags {
    /// Carry.
    pub const CF: u64 = 1 << 0;
    /// Bit 1, always set.
    pub const FIXED: u64 = 1 << 1;
    /// Parity.
    pub const PF: u64 = 1 << 2;
    /// Auxiliary carry.
    pub const AF: u64 = 1 << 4;
    /// Zero.
    pub const ZF: u64 = 1 << 6;
    /// Sign.
    pub const SF: u64 = 1 << 7;
    /// Trap: single step.
    pub const TF: u64 = 1 << 8;
    /// Interrupts enabled.
    pub const IF: u64 = 1 << 9;
    /// Direction of string instructions: down.
    pub const DF: u64 = 1 << 10;
    /// Overflow.
    pub const OF: u64 = 1 << 11;
    /// I/O privilege level, two bits.
    pub const IOPL: u64 = 3 << 12;
    /// Nested task.
    pub const NT: u64 = 1 << 14;
    /// Resume: instruction breakpoints are held off.
    pub const RF: u64 = 1 << 16;
    /// Virtual-8086 mode.
    pub const VM: u64 = 1 << 17;
    /// Alignment check.
    pub const AC: u64 = 1 << 18;
    /// Virtual interrupt flag.
    pub const VIF: u64 = 1 << 19;
    /// Virtual interrupt pending.
    pub const VIP: u64 = 1 << 20;
    /// CPUID exists if this can be toggled.
    pub const ID: u64 = 1 << 21;
    /// The flags that arithmetic sets, kept in [`super::Flags`].
    pub const ARITH: u64 = CF | PF | AF | ZF | SF | OF;
    /// Every flag that exists.
    pub const ALL: u64 = ARITH | TF | IF | DF | IOPL | NT | RF | VM | AC | VIF | VIP | ID;
}

/// CR0 bits.
pub mod cr0 {
    /// Protection enable.
    pub const PE: u64 = 1 << 0;
    /// Monitor coprocessor: WAIT heeds TS.
    pub const MP: u64 = 1 << 1;
    /// Emulation: x87 instructions fault.
    pub const EM: u64 = 1 << 2;
    /// Task switched: the FPU belongs to another task.
    pub const TS: u64 = 1 << 3;
    /// Extension type, always set.
    pub const ET: u64 = 1 << 4;
    /// Numeric errors raise #MF.
    pub const NE: u64 = 1 << 5;
    /// Write protection binds supervisors too.
    pub const WP: u64 = 1 << 16;
    /// Alignment mask: AC counts.
    pub const AM: u64 = 1 << 18;
    /// Not write-through.
    pub const NW: u64 = 1 << 29;
    /// Cache disable.
    pub const CD: u64 = 1 << 30;
    /// Paging.
    pub const PG: u64 = 1 << 31;
    /// Every bit that exists.
    pub const ALL: u64 = PE | MP | EM | TS | ET | NE | WP | AM | NW | CD | PG;
}

/// CR4 bits.
pub mod cr4 {
    use aero_x86::{Feature, Features};

    /// Virtual-8086 mode extensions.
    pub const VME: u64 = 1 << 0;
    /// Protected-mode virtual interrupts.
    pub const PVI: u64 = 1 << 1;
    /// RDTSC is for CPL 0.
    pub const TSD: u64 = 1 << 2;
    /// Debugging extensions: DR4 and DR5 fault.
    pub const DE: u64 = 1 << 3;
    /// 4 MiB pages.
    pub const PSE: u64 = 1 << 4;
    /// 8-byte page-table entries.
    pub const PAE: u64 = 1 << 5;
    /// Machine-check enable.
    pub const MCE: u64 = 1 << 6;
    /// Global pages.
    pub const PGE: u64 = 1 << 7;
    /// RDPMC at every CPL.
    pub const PCE: u64 = 1 << 8;
    /// The system saves SSE state: SSE is enabled.
    pub const OSFXSR: u64 = 1 << 9;
    /// SSE exceptions raise #XM.
    pub const OSXMMEXCPT: u64 = 1 << 10;
    /// SLDT, SIDT, SGDT, STR, SMSW are for CPL 0.
    pub const UMIP: u64 = 1 << 11;
    /// RDFSBASE and its kin.
    pub const FSGSBASE: u64 = 1 << 16;
    /// Process-context identifiers.
    pub const PCIDE: u64 = 1 << 17;
    /// XSAVE and its kin, XCR0.
    pub const OSXSAVE: u64 = 1 << 18;
    /// Supervisors do not fetch from user pages.
    pub const SMEP: u64 = 1 << 20;
    /// Supervisors do not access user pages, unless AC is set.
    pub const SMAP: u64 = 1 << 21;
    /// Protection keys of user pages.
    pub const PKE: u64 = 1 << 22;
    /// Protection keys of supervisor pages.
    pub const PKS: u64 = 1 << 24;

    /// The bits that a processor with `features` lets software set; the others fault.
    pub fn legal(features: Features) -> u64 {
        const ALWAYS: u64 = TSD | MCE | PCE | OSXMMEXCPT;
        const GATED: [(Feature, u64); 15] = [
            (Feature::Vme, VME | PVI),
            (Feature::De, DE),
            (Feature::Pse, PSE),
            (Feature::Pae, PAE),
            (Feature::Pge, PGE),
            (Feature::Fxsr, OSFXSR),
            (Feature::Umip, UMIP),
            (Feature::Fsgsbase, FSGSBASE),
            (Feature::Pcid, PCIDE),
            (Feature::Xsave, OSXSAVE),
            (Feature::Smep, SMEP),
            (Feature::Smap, SMAP),
            (Feature::Pku, PKE),
            (Feature::Pks, PKS),
            (Feature::Sse, OSXMMEXCPT),
        ];
        GATED.iter().filter(|(f, _)| features.has(*f)).fold(ALWAYS, |bits, (_, bit)| bits | bit)
    }
}

/// EFER bits.
pub mod efer {
    /// SYSCALL enable.
    pub const SCE: u64 = 1 << 0;
    /// Long mode enable.
    pub const LME: u64 = 1 << 8;
    /// Long mode active.
    pub const LMA: u64 = 1 << 10;
    /// No-execute enable.
    pub const NXE: u64 = 1 << 11;
}

/// General registers by encoding number.
pub mod reg {
    /// RAX.
    pub const RAX: u8 = 0;
    /// RCX.
    pub const RCX: u8 = 1;
    /// RDX.
    pub const RDX: u8 = 2;
    /// RBX.
    pub const RBX: u8 = 3;
    /// RSP.
    pub const RSP: u8 = 4;
    /// RBP.
    pub const RBP: u8 = 5;
    /// RSI.
    pub const RSI: u8 = 6;
    /// RDI.
    pub const RDI: u8 = 7;
    /// R11.
    pub const R11: u8 = 11;
}

/// Segment registers by encoding number.
pub mod seg {
    /// ES.
    pub const ES: u8 = 0;
    /// CS.
    pub const CS: u8 = 1;
    /// SS.
    pub const SS: u8 = 2;
    /// DS.
    pub const DS: u8 = 3;
    /// FS.
    pub const FS: u8 = 4;
    /// GS.
    pub const GS: u8 = 5;
}

/// A segment register with its hidden part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Segment {
    /// Linear address of offset 0.
    pub base: u64,
    /// The last valid offset (expand-down: the last invalid one), in bytes.
    pub limit: u32,
    /// The descriptor's access byte in bits 7:0 and AVL, L, D/B, G in bits 15:12, as VMX stores them.
    pub attributes: u32,
    /// The visible selector.
    pub selector: u16,
}

impl Segment {
    /// Attribute bit: usable. A null selector leaves it clear.
    pub const PRESENT: u32 = 1 << 7;
    /// Attribute bit: code or data, not system.
    pub const CODE_OR_DATA: u32 = 1 << 4;
    /// Attribute bit of code and data: code.
    pub const CODE: u32 = 1 << 3;
    /// Attribute bit: conforming (code) or expand-down (data).
    pub const CONFORMING: u32 = 1 << 2;
    /// Attribute bit: readable (code) or writable (data).
    pub const READ_WRITE: u32 = 1 << 1;
    /// Attribute bit: 64-bit code.
    pub const LONG: u32 = 1 << 13;
    /// Attribute bit: D/B, 32-bit.
    pub const BIG: u32 = 1 << 14;
    /// Attribute bit: limit counts 4 KiB pages.
    pub const GRANULAR: u32 = 1 << 15;

    /// What real mode and VM86 mode load: base is 16 times the selector. `limit` stays 64 KiB.
    pub fn real(selector: u16, dpl: u32) -> Self {
        Self { base: u64::from(selector) << 4, limit: 0xffff, attributes: 0x93 | dpl << 5, selector }
    }

    /// A null SS, which 64-bit code below CPL 3 may use. DPL follows the selector, so that the CPL can be read from it.
    pub fn null_stack(selector: u16) -> Self {
        Self { selector, attributes: u32::from(selector & 3) << 5, ..Self::default() }
    }

    /// Whether the segment may be used at all.
    pub fn present(&self) -> bool {
        self.attributes & Self::PRESENT != 0
    }

    /// Descriptor privilege level.
    pub fn dpl(&self) -> u8 {
        (self.attributes >> 5 & 3) as u8
    }

    /// D/B: 32-bit code, or a 32-bit stack pointer.
    pub fn big(&self) -> bool {
        self.attributes & Self::BIG != 0
    }

    /// The attribute bits that tell [`Segment::FLAT_DATA`] from others.
    pub const FLAT_MASK: u32 =
        Self::PRESENT | Self::CODE_OR_DATA | Self::CODE | Self::CONFORMING | Self::READ_WRITE;
    /// A segment of data that may be written and does not expand down.
    pub const FLAT_DATA: u32 = Self::PRESENT | Self::CODE_OR_DATA | Self::READ_WRITE;

    /// A writable data segment over all of 4 GiB from 0: accesses through it need no check.
    pub fn is_flat_data(&self) -> bool {
        self.base == 0 && self.limit == u32::MAX && self.attributes & Self::FLAT_MASK == Self::FLAT_DATA
    }
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct TableRegister {
    /// Linear address of entry 0.
    pub base: u64,
    /// The last valid offset.
    pub limit: u16,
}

/// The arithmetic flags, kept as what they follow from.
///
/// `result` is the last result, sign-extended. `aux` holds what it does not tell: bit 31 CF, bit 30 the carry out of
/// the bit below the sign (so OF is bit 31 xor bit 30), bit 3 AF, bits 15:8 a byte that is xored into the result for
/// parity, bit 0 inverts the sign. ALU operations set both words with a few logic operations and no branch, and any
/// combination of flags can be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Flags {
    /// The last result, sign-extended to 64 bits.
    pub result: u64,
    /// Carries and corrections.
    pub aux: u32,
}

/// Model-specific registers that are storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Msrs {
    /// IA32_EFER.
    pub efer: u64,
    /// IA32_STAR: selectors of SYSCALL and SYSRET.
    pub star: u64,
    /// IA32_LSTAR: entry of SYSCALL.
    pub lstar: u64,
    /// IA32_CSTAR: kept, not used (entry from compatibility mode elsewhere).
    pub cstar: u64,
    /// IA32_FMASK: flags that SYSCALL clears.
    pub fmask: u64,
    /// IA32_KERNEL_GS_BASE: what SWAPGS brings in.
    pub kernel_gs_base: u64,
    /// IA32_TSC_AUX: what RDTSCP returns in ECX.
    pub tsc_aux: u64,
    /// IA32_SYSENTER_CS.
    pub sysenter_cs: u64,
    /// IA32_SYSENTER_ESP.
    pub sysenter_esp: u64,
    /// IA32_SYSENTER_EIP.
    pub sysenter_eip: u64,
    /// IA32_PAT.
    pub pat: u64,
    /// IA32_MISC_ENABLE.
    pub misc_enable: u64,
    /// IA32_MTRR_DEF_TYPE.
    pub mtrr_def_type: u64,
    /// The fixed-range MTRRs in address order.
    pub mtrr_fixed: [u64; 11],
    /// PHYSBASE and PHYSMASK of each variable range.
    pub mtrr_variable: [u64; 16],
    /// IA32_BIOS_SIGN_ID.
    pub microcode_rev: u64,
    /// IA32_MCG_STATUS.
    pub mcg_status: u64,
    /// IA32_MCG_CTL.
    pub mcg_ctl: u64,
    /// IA32_XSS: the supervisor state components that XSAVES handles.
    pub xss: u64,
    /// IA32_PKRS: protection-key rights of supervisor pages.
    pub pkrs: u64,
    /// IA32_DEBUGCTL.
    pub debugctl: u64,
    /// CTL, STATUS, ADDR, MISC of each machine-check bank.
    pub mc_banks: [[u64; 4]; 10],
}

/// One processor. Offsets of its fields are part of the contract with compiled code.
#[repr(C)]
pub struct CpuState {
    /// RAX..R15, then [`aero_x86::slot::ZERO`], [`aero_x86::slot::BLOCK`], and unused slots up to a power of two.
    gpr: [u64; 32],
    /// The instruction pointer; during a block, that of its start.
    pub rip: u64,
    /// Arithmetic flags.
    pub flags: Flags,
    /// EFLAGS without the arithmetic flags.
    pub eflags: u64,
    /// Instructions that may still run before the run loop must look; writing 0 asks for attention.
    pub budget: i64,
    /// Segment registers in encoding order.
    pub segments: [Segment; 6],
    /// Task register.
    pub tr: Segment,
    /// Local descriptor table register.
    pub ldtr: Segment,
    /// Global descriptor table register.
    pub gdtr: TableRegister,
    /// Interrupt descriptor table register.
    pub idtr: TableRegister,
    /// Current privilege level.
    pub cpl: u8,
    /// CR0.
    pub cr0: u64,
    /// CR2: the linear address of the last page fault.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// PAE page-directory-pointer entries, loaded with CR3.
    pub pdpte: [u64; 4],
    /// DR0..DR3, DR6, DR7.
    pub dr: [u64; 8],
    /// MSRs.
    pub msr: Msrs,
    /// x87.
    pub fpu: Fpu,
    /// XMM registers, low half first.
    pub xmm: [[u64; 2]; 16],
    /// SSE control and status.
    pub mxcsr: u32,
    /// The upper halves of the YMM registers.
    pub ymm_high: [[u64; 2]; 16],
    /// XCR0: the state components that XSAVE handles and AVX may use.
    pub xcr0: u64,
    /// Protection-key rights of user pages.
    pub pkru: u32,
    /// Arithmetic flags that compiled code has left undone; settled whenever the interpreter looks.
    pub lazy: crate::jit::Lazy,
    /// A helper of compiled code could not do what it was asked: the region leaves.
    pub redo: u32,
    /// Values of 128 bits on their way between compiled code and its helpers.
    pub scratch: [u64; 4],
    /// The x87 that compiled code has left undone; settled with the flags.
    pub lazy_x87: crate::jit::x87::LazyX87,
}

const _: () = assert!(size_of::<CpuState>() <= aero_mem::VCPU_STATE_SIZE as usize);

impl CpuState {
    /// Offset of general register `n`, for compiled code.
    pub const fn gpr_offset(n: u8) -> u32 {
        (core::mem::offset_of!(Self, gpr) + 8 * n as usize) as u32
    }

    /// State after power-on or INIT-less reset (Intel SDM vol. 3, table 10-1).
    pub fn reset(&mut self) {
        *self = Self::power_on();
    }

    /// A fresh state.
    pub fn power_on() -> Self {
        let data = Segment::real(0, 0);
        let mut segments = [data; 6];
        segments[usize::from(seg::CS)] = Segment { base: 0xffff_0000, selector: 0xf000, ..data };
        let mut state = Self {
            gpr: [0; 32],
            rip: 0xfff0,
            flags: Flags::default(),
            eflags: eflags::FIXED,
            budget: 0,
            segments,
            tr: Segment { limit: 0xffff, attributes: 0x8b, ..Segment::default() },
            ldtr: Segment { limit: 0xffff, attributes: 0x82, ..Segment::default() },
            gdtr: TableRegister { base: 0, limit: 0xffff },
            idtr: TableRegister { base: 0, limit: 0xffff },
            cpl: 0,
            cr0: cr0::CD | cr0::NW | cr0::ET,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            pdpte: [0; 4],
            dr: [0, 0, 0, 0, 0, 0, 0xffff_0ff0, 0x400],
            msr: crate::msr::table::power_on(),
            fpu: Fpu::default(),
            xmm: [[0; 2]; 16],
            mxcsr: 0x1f80,
            ymm_high: [[0; 2]; 16],
            xcr0: 1,
            pkru: 0,
            lazy: crate::jit::Lazy::default(),
            redo: 0,
            scratch: [0; 4],
            lazy_x87: crate::jit::x87::LazyX87::default(),
        };
        state.set_gpr(reg::RDX, 0x0002_06a7);
        state.set_arith(0);
        state
    }

    /// A 64-bit register by number.
    #[inline(always)]
    pub fn gpr(&self, n: u8) -> u64 {
        self.gpr[usize::from(n & 31)]
    }

    /// Sets a 64-bit register by number.
    #[inline(always)]
    pub fn set_gpr(&mut self, n: u8, value: u64) {
        self.gpr[usize::from(n & 31)] = value;
    }

    /// Reads the register at byte offset `at` of the register file: number times 8, plus 1 for AH, CH, DH, BH.
    #[inline(always)]
    pub fn reg<T: Word>(&self, at: u8) -> T {
        let file = self.gpr.as_ptr().cast::<u8>();
        // SAFETY: 7 bits of offset plus 8 bytes lie within the 256-byte file, and every bit pattern is a `Word`.
        unsafe { file.add(usize::from(at & 0x7f)).cast::<T>().read_unaligned() }
    }

    /// Writes the register at byte offset `at`; a 32-bit write clears the upper half.
    #[inline(always)]
    pub fn set_reg<T: Word>(&mut self, at: u8, value: T) {
        let file = self.gpr.as_mut_ptr().cast::<u8>();
        // SAFETY: as in `reg`.
        unsafe {
            let place = file.add(usize::from(at & 0x7f));
            if T::BYTES == 4 {
                place.cast::<u64>().write_unaligned(value.zext());
            } else {
                place.cast::<T>().write_unaligned(value);
            }
        }
    }

    /// Whether protection is on (real mode otherwise).
    pub fn protected(&self) -> bool {
        self.cr0 & cr0::PE != 0
    }

    /// Virtual-8086 mode.
    pub fn vm86(&self) -> bool {
        self.eflags & eflags::VM != 0
    }

    /// Real or virtual-8086 mode: segment registers hold paragraphs.
    pub fn real_segments(&self) -> bool {
        !self.protected() || self.vm86()
    }

    /// Long mode is active (64-bit or compatibility).
    pub fn long_mode(&self) -> bool {
        self.msr.efer & efer::LMA != 0
    }

    /// 64-bit mode proper.
    pub fn code64(&self) -> bool {
        self.long_mode() && self.segments[1].attributes & Segment::LONG != 0
    }

    /// I/O privilege level.
    pub fn iopl(&self) -> u8 {
        (self.eflags >> 12 & 3) as u8
    }

    /// All of RFLAGS.
    pub fn rflags(&self) -> u64 {
        self.eflags & !eflags::ARITH | self.arith() | eflags::FIXED
    }

    /// Sets all of RFLAGS.
    pub fn set_rflags(&mut self, value: u64) {
        self.eflags = value & eflags::ALL & !eflags::ARITH | eflags::FIXED;
        self.set_arith(value);
    }
}
