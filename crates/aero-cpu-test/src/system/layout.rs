//! Where things lie in the memory of a test ROM.
//!
//! One 64 KiB window holds all that a case can see and change: its tables, stacks, code and data. Beside it lie the
//! driver, the pristine copy of the window, and the driver's own few variables. A case is a list of bytes to put into
//! the window; its result is a list of the dwords that then differ from the pristine copy.

/// Where the window begins in physical memory.
pub const WINDOW: u32 = 0x1_0000;
/// Bytes of the window.
pub const WINDOW_SIZE: u32 = 0x1_0000;
/// Where the driver and the exception stubs lie. No more than 16 KiB.
pub const DRIVER: u32 = 0x3_0000;
/// The pristine copy of the window.
pub const PRISTINE: u32 = 0x4_0000;
/// The ROM, below 1 MiB; it is also at the top of 4 GiB.
pub const ROM: u32 = 0xe_0000;
/// Bytes of the ROM.
pub const ROM_SIZE: usize = 0x2_0000;
/// Vectors that have a stub; those above have no gate.
pub const VECTORS: u32 = 64;
/// Bytes from one stub to the next.
pub const STUB: u32 = 8;

/// Offsets in the driver's segment.
pub mod driver {
    /// Stubs for interrupts taken in real mode.
    pub const STUBS16: u32 = 0x000;
    /// Stubs for 32-bit code.
    pub const STUBS32: u32 = 0x200;
    /// Stubs for 64-bit code.
    pub const STUBS64: u32 = 0x400;
    /// 16-bit code; begins with the entry to real mode.
    pub const CODE16: u32 = 0x800;
    /// 32-bit code.
    pub const CODE32: u32 = 0x1000;
    /// 64-bit code; begins with the entry to long mode.
    pub const CODE64: u32 = 0x2000;
    /// Descriptors of the driver.
    pub const GDT: u32 = 0x2800;
    /// GDTR of the driver.
    pub const GDTR: u32 = 0x2880;
    /// IDTR of the driver: no vectors.
    pub const IDTR: u32 = 0x2890;
    /// Far pointer to where exception stubs return to the driver.
    pub const COLLECT: u32 = 0x28a0;
    /// The end of what the ROM brings.
    pub const SIZE: u32 = 0x2900;
    /// Far pointer through which real mode enters a case.
    pub const ENTRY: u32 = 0x3f00;
}

/// Selectors of the driver's own table.
pub mod own {
    /// Flat 32-bit code.
    pub const CODE32: u16 = 0x08;
    /// Flat data.
    pub const DATA: u16 = 0x10;
    /// 64-bit code.
    pub const CODE64: u16 = 0x18;
    /// 16-bit code at the driver, 64 KiB.
    pub const CODE16: u16 = 0x20;
    /// 16-bit data at 0, 64 KiB.
    pub const DATA16: u16 = 0x28;
}

/// The driver's variables, physical addresses.
pub mod var {
    /// Holds [`ALIVE`] once the driver has begun: a reset then is a triple fault.
    pub const MAGIC: u32 = 0x800;
    /// What `MAGIC` holds.
    pub const ALIVE: u32 = 0x6f72_6541;
    /// The next case.
    pub const NEXT: u32 = 0x804;
    /// Its number.
    pub const INDEX: u32 = 0x808;
    /// Top of the driver's stack.
    pub const STACK: u32 = 0x4000;
    /// Every vector of the table at 0, which VM86 uses under VME. Its bytes are UD2 and what is as undefined, so that
    /// code that strays there stops.
    pub const REDIRECTION: u32 = 0x0f0b_0b0f;
    /// Where they lead: UD2.
    pub const REDIRECTED: u32 = (REDIRECTION >> 16 << 4) + (REDIRECTION & 0xffff);
    /// UD2.
    pub const UD2: u32 = 0x0b0f;
}

/// Offsets in the window.
pub mod at {
    /// What the exception stubs recorded.
    pub const RECORD: u16 = 0x000;
    /// The state that the driver loads; not compared.
    pub const STATE: u16 = 0x200;
    /// Global descriptors.
    pub const GDT: u16 = 0x400;
    /// Local descriptors.
    pub const LDT: u16 = 0x800;
    /// The task that cases run in.
    pub const TSS: u16 = 0xa00;
    /// Its I/O bitmap.
    pub const IO_MAP: u16 = 0xa88;
    /// Another 32-bit task.
    pub const TSS_B: u16 = 0xc00;
    /// A 16-bit task.
    pub const TSS_C: u16 = 0xd00;
    /// The task of task gates.
    pub const TSS_GATE: u16 = 0xe00;
    /// Interrupt descriptors, or real-mode vectors.
    pub const IDT: u16 = 0x1000;
    /// PML4, or 32-bit page directory.
    pub const ROOT: u16 = 0x2000;
    /// Page directory pointers.
    pub const POINTERS: u16 = 0x3000;
    /// Page directory of PAE and 4-level paging.
    pub const DIRECTORY: u16 = 0x4000;
    /// Page table.
    pub const TABLE: u16 = 0x5000;
    /// Top of the stack of CPL 0 cases.
    pub const STACK0: u16 = 0x6800;
    /// Top of the stack that the TSS gives for CPL 0; those for 1 and 2 follow.
    pub const INNER_STACK0: u16 = 0x7800;
    /// As above, CPL 1.
    pub const INNER_STACK1: u16 = 0x8400;
    /// As above, CPL 2.
    pub const INNER_STACK2: u16 = 0x8c00;
    /// Top of the stack of CPL 3 cases.
    pub const STACK3: u16 = 0x9800;
    /// Code; filled with INT3.
    pub const CODE: u16 = 0xa000;
    /// Another page of code; filled with INT3.
    pub const CODE_B: u16 = 0xb000;
    /// Data.
    pub const DATA: u16 = 0xc000;
    /// Another page of data.
    pub const DATA_B: u16 = 0xd000;
}

/// Offsets of the record.
pub mod record {
    /// The vector; 63 stands for the task gate's task.
    pub const VECTOR: u16 = 0x00;
    /// Who took it: 1 real mode, 2 protected mode, 3 64-bit mode.
    pub const KIND: u16 = 0x04;
    /// RAX to R15, 8 bytes each.
    pub const GPR: u16 = 0x08;
    /// CS, SS, DS, ES, FS, GS, TR, LDTR, 4 bytes each.
    pub const SEGMENTS: u16 = 0x90;
    /// RFLAGS in the handler.
    pub const FLAGS: u16 = 0xb0;
    /// CR0.
    pub const CR0: u16 = 0xb8;
    /// CR2.
    pub const CR2: u16 = 0xc0;
    /// CR3.
    pub const CR3: u16 = 0xc8;
    /// CR4.
    pub const CR4: u16 = 0xd0;
    /// DR6.
    pub const DR6: u16 = 0xd8;
    /// DR7.
    pub const DR7: u16 = 0xe0;
}

/// Offsets of the state to enter with, from the window's begin.
pub mod state {
    /// How to enter: see [`super::enter`].
    pub const HOW: u16 = 0x200;
    /// RAX to R15, 8 bytes each; RSP is in the frame.
    pub const GPR: u16 = 0x208;
    /// The frame of IRETQ: RIP, CS, RFLAGS, RSP, SS, 8 bytes each.
    pub const RIP: u16 = 0x288;
    /// See [`RIP`].
    pub const CS: u16 = 0x290;
    /// See [`RIP`].
    pub const FLAGS: u16 = 0x298;
    /// See [`RIP`].
    pub const RSP: u16 = 0x2a0;
    /// See [`RIP`].
    pub const SS: u16 = 0x2a8;
    /// ES, DS, FS, GS, 4 bytes each.
    pub const ES: u16 = 0x2b0;
    /// See [`ES`].
    pub const DS: u16 = 0x2b4;
    /// See [`ES`].
    pub const FS: u16 = 0x2b8;
    /// See [`ES`].
    pub const GS: u16 = 0x2bc;
    /// CR0.
    pub const CR0: u16 = 0x2c0;
    /// CR3.
    pub const CR3: u16 = 0x2c4;
    /// CR4.
    pub const CR4: u16 = 0x2c8;
    /// EFER.
    pub const EFER: u16 = 0x2cc;
    /// Limit and base, 10 bytes.
    pub const GDTR: u16 = 0x2d0;
    /// Limit and base, 10 bytes.
    pub const IDTR: u16 = 0x2e0;
    /// LDTR.
    pub const LDTR: u16 = 0x2f0;
    /// TR; 0 loads none.
    pub const TR: u16 = 0x2f4;
    /// DR0 to DR3, DR6, DR7, 4 bytes each.
    pub const DR: u16 = 0x300;
    /// CS:EIP as a far pointer.
    pub const FAR: u16 = 0x318;
    /// MSRs: number, low, high; ended by a number of all ones.
    pub const MSRS: u16 = 0x320;
}

/// How the driver enters a case.
pub mod enter {
    /// Real mode with segments of 64 KiB.
    pub const REAL: u32 = 0;
    /// Real mode with data segments of 4 GiB ("unreal").
    pub const UNREAL: u32 = 1;
    /// Protected mode, CPL 0, by a far jump.
    pub const JUMP: u32 = 2;
    /// Protected mode, an outer ring or VM86, by IRET.
    pub const RETURN: u32 = 3;
    /// Long mode, by IRETQ.
    pub const LONG: u32 = 4;
}

/// The physical address of a place in the window.
pub const fn linear(offset: u16) -> u32 {
    WINDOW + offset as u32
}
