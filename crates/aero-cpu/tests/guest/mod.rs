//! A bare machine for tests of the processor: memory laid out by the constants below, tables built from code, and a
//! board with a port, an interrupt line and nothing else.
//!
//! Every vector leads to a stub of its own that halts ([`Guest::go`] then tells which), so a test reads: make a guest
//! in a [`Mode`], change what matters, run bytes, look at registers, memory and the pushed frame.

#![allow(unsafe_code, reason = "moves machines out of guests that are dropped, to other threads")]

use aero_cpu::segments::Descriptor;
use aero_cpu::state::{Segment, TableRegister, cr0, cr4, efer, eflags, reg, seg};
use aero_cpu::{Bus, Cpu, CpuConfig, Exit};
use aero_mem::{Gpa, GuestMemory};
pub use aero_x86::descriptor::{gate, segment as descriptor};
use core::mem::ManuallyDrop;
use std::sync::{Mutex, PoisonError};

/// Machines that tests have done with: making one fills 32 MiB of tables, and some tests want dozens.
static SPARE: Mutex<Vec<Spare>> = Mutex::new(Vec::new());

struct Spare(GuestMemory, Cpu);

// SAFETY: both hold pointers into one mapping that nothing else refers to, and they move together.
unsafe impl Send for Spare {}

/// A machine in power-on state with zeroed memory, and what [`crate::prepare`] adds.
fn machine(config: CpuConfig) -> (GuestMemory, Cpu) {
    let (mem, mut cpu) = bare_machine(config);
    crate::prepare(&mem, &mut cpu);
    (mem, cpu)
}

fn bare_machine(config: CpuConfig) -> (GuestMemory, Cpu) {
    let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let Some(Spare(mut mem, mut cpu)) = spare else {
        let mut mem = GuestMemory::new(8 << 20, 1).expect("8 MiB");
        let cpu = Cpu::new(&mut mem, 0, config);
        return (mem, cpu);
    };
    cpu.core.config = config;
    // What tests write to: everything below the video window, and the frames of large pages.
    mem.write(Gpa(0), &[0; 0xa_0000]).expect("RAM");
    mem.write(Gpa(0x40_0000), &[0; 0x20_0000]).expect("RAM");
    mem.take_modified_code();
    cpu.reset(&mut mem);
    cpu.core.retired = 0;
    (mem, cpu)
}

impl Drop for Guest {
    fn drop(&mut self) {
        // SAFETY: both are taken once, here, and the guest is gone afterwards.
        let spare = unsafe { Spare(ManuallyDrop::take(&mut self.mem), ManuallyDrop::take(&mut self.cpu)) };
        SPARE.lock().unwrap_or_else(PoisonError::into_inner).push(spare);
    }
}

/// Physical (and by default linear) places.
pub const GDT: u64 = 0x1000;
/// Interrupt descriptors.
pub const IDT: u64 = 0x2000;
/// The first task state segment.
pub const TSS: u64 = 0x3000;
/// The second one.
pub const TSS2: u64 = 0x4000;
/// Local descriptors.
pub const LDT: u64 = 0x5000;
/// Where vector *n* leads: `HANDLERS + 16 * n`, an HLT.
pub const HANDLERS: u64 = 0x6000;
/// Top of the stack that tests start with.
pub const STACK: u64 = 0x9000;
/// Top of the stack that the TSS gives CPL 0.
pub const TSS_STACK: u64 = 0xc000;
/// Where test code lies.
pub const CODE: u64 = 0x1_0000;
/// Top of the stack at CPL 3.
pub const USER_STACK: u64 = 0x1_a000;
/// The root page table; the others follow.
pub const TABLES: u64 = 0x2_0000;
/// Page tables of the lowest 2 MiB (4 MiB in 32-bit paging).
pub const PAGE_TABLE: u64 = 0x2_3000;
/// Free for tests.
pub const DATA: u64 = 0x3_0000;

/// CPL 0 code of the mode.
pub const CS0: u16 = 0x08;
/// CPL 0 data, flat.
pub const DS0: u16 = 0x10;
/// CPL 3 code of the mode.
pub const CS3: u16 = 0x1b;
/// CPL 3 data, flat.
pub const DS3: u16 = 0x23;
/// The task register's selector.
pub const TR: u16 = 0x28;
/// CPL 0 32-bit code.
pub const CS32: u16 = 0x38;
/// CPL 0 16-bit code, base 0, 64 KiB.
pub const CS16: u16 = 0x40;
/// CPL 0 16-bit data, base 0, 64 KiB.
pub const DS16: u16 = 0x48;
/// CPL 3 32-bit code.
pub const CS32_3: u16 = 0x53;
/// A local descriptor table's descriptor.
pub const LDTR: u16 = 0x58;
/// Conforming 32-bit (64-bit in long mode) code with DPL 0.
pub const CONFORMING: u16 = 0x68;
/// Data that is not present.
pub const ABSENT: u16 = 0x70;
/// Free for a gate of 8 or 16 bytes.
pub const GATE: u16 = 0x78;
/// The second TSS.
pub const TR2: u16 = 0x88;
/// Read-only data with DPL 0.
pub const READ_ONLY: u16 = 0x98;
/// Free for tests from here to 0xf8.
pub const FREE: u16 = 0xa0;

/// What the processor runs in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Real mode, every segment at 0.
    Real,
    /// Protected mode, 16-bit code and stack.
    Protected16,
    /// Protected mode, 32-bit, no paging.
    Protected32,
    /// 32-bit paging.
    Paged32,
    /// PAE paging.
    Pae,
    /// Long mode, 32-bit code.
    Compatibility,
    /// 64-bit mode.
    Long,
}

/// A frame that a delivery pushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trap {
    /// Vector.
    pub vector: u8,
    /// Error code, for the vectors that have one.
    pub error: Option<u64>,
    /// Saved instruction pointer.
    pub ip: u64,
    /// Saved CS.
    pub cs: u64,
    /// Saved flags.
    pub flags: u64,
    /// Saved stack pointer and SS, where they are part of the frame.
    pub stack: Option<(u64, u64)>,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// HLT in the test's own code.
    Halt,
    /// In the stub of a vector.
    Trap(Trap),
    /// Something else.
    Exit(Exit),
}

/// What surrounds the processor.
#[derive(Default)]
pub struct Board {
    /// Port writes: port, bytes, value.
    pub written: Vec<(u16, u32, u32)>,
    /// What port reads return.
    pub input: u32,
    /// Device memory accesses: address, bytes, value written.
    pub device: Vec<(u64, u32, Option<u64>)>,
    /// Device memory that reads as these bytes, from this address on; all ones elsewhere.
    pub rom: (u64, Vec<u8>),
    /// A reset was asked for.
    pub reset: bool,
    /// What a write to port 0x80 copies into memory.
    pub dma: Option<(u64, Vec<u8>)>,
    /// A write to port 0x81 raises the interrupt line.
    pub line: bool,
    /// The vector that the line stands for.
    pub vector: u8,
    /// The FERR# pin; raises the interrupt line.
    pub ferr: bool,
    /// The IGNNE# pin.
    pub ignne: bool,
    attention: bool,
}

impl Bus for Board {
    fn read_memory(&mut self, _: &mut GuestMemory, _: u64, gpa: u64, len: u32) -> u64 {
        self.device.push((gpa, len, None));
        let (first, bytes) = &self.rom;
        let byte =
            |i: u64| bytes.get(gpa.wrapping_add(i).wrapping_sub(*first) as usize).copied().unwrap_or(0xff);
        (0..u64::from(len)).fold(0, |value, i| value | u64::from(byte(i)) << (8 * i))
    }
    fn write_memory(&mut self, _: &mut GuestMemory, _: u64, gpa: u64, len: u32, value: u64) {
        self.device.push((gpa, len, Some(value)));
    }
    fn read_port(&mut self, _: &mut GuestMemory, _: u64, _: u16, _: u32) -> u32 {
        self.input
    }
    fn write_port(&mut self, mem: &mut GuestMemory, _: u64, port: u16, len: u32, value: u32) {
        self.written.push((port, len, value));
        if let (0x80, Some((at, bytes))) = (port, &self.dma) {
            mem.write(Gpa(*at), bytes).expect("RAM");
        }
        if port == 0xf0 {
            self.ignne = self.ferr;
        }
        if port == 0x81 {
            self.line = true;
            self.attention = true;
        }
    }
    fn set_ferr(&mut self, _: &mut GuestMemory, _: u64, asserted: bool) {
        self.ferr = asserted;
        self.line |= asserted;
        self.ignne &= asserted;
    }
    fn ignne(&self) -> bool {
        self.ignne
    }
    fn now(&mut self, when: u64) -> u64 {
        when
    }
    fn interrupt_line(&self) -> bool {
        self.line
    }
    fn acknowledge_interrupt(&mut self, _: &mut GuestMemory, _: u64) -> u8 {
        self.line = false;
        self.vector
    }
    fn needs_attention(&self) -> bool {
        self.attention
    }
    fn send_ipi(&mut self, _: aero_cpu::lapic::Icr) {}
    fn request_reset(&mut self) {
        self.reset = true;
    }
    fn end_of_interrupt(&mut self, _: &mut GuestMemory, _: u64, _: u8) {}
}

/// The machine.
pub struct Guest {
    pub mem: ManuallyDrop<GuestMemory>,
    pub cpu: ManuallyDrop<Cpu>,
    pub board: Board,
    pub mode: Mode,
}

/// What a segment register holds after loading descriptor `raw` by `selector`.
pub fn segment(selector: u16, raw: u64) -> Segment {
    Descriptor::new(selector, raw).segment()
}

impl Guest {
    /// A guest at CPL 0 in `mode`, interrupts off.
    pub fn new(mode: Mode) -> Self {
        Self::with(mode, CpuConfig::of(&aero_x86::cpuid::MAX))
    }

    /// As [`Guest::new`], with another processor.
    pub fn with(mode: Mode, config: CpuConfig) -> Self {
        let (mem, cpu) = machine(config);
        let (mem, mut cpu) = (ManuallyDrop::new(mem), ManuallyDrop::new(cpu));
        cpu.core.lapic.set_virtual_wire();
        let mut g = Self { mem, cpu, board: Board::default(), mode };
        (0..256).for_each(|n| g.write(HANDLERS + 16 * n, &[0xf4]));
        if mode == Mode::Real {
            (0..256u64).for_each(|n| g.write(n * 4, &((HANDLERS + 16 * n) as u32).to_le_bytes()));
        } else {
            g.make_tables();
        }
        g.make_state();
        g
    }

    /// As [`Guest::new`], at CPL 3.
    pub fn user(mode: Mode) -> Self {
        let mut g = Self::new(mode);
        g.enter_user(0);
        g
    }

    /// Goes to CPL 3 with I/O privilege level `iopl`.
    pub fn enter_user(&mut self, iopl: u64) {
        let cs = if self.mode == Mode::Compatibility { CS32_3 } else { CS3 };
        let (code, data) = (self.descriptor_of(cs), self.descriptor_of(DS3));
        let st = self.cpu.state_mut(&mut self.mem);
        st.cpl = 3;
        st.segments = [segment(DS3, data); 6];
        st.segments[usize::from(seg::CS)] = segment(cs, code);
        st.set_gpr(reg::RSP, USER_STACK);
        st.set_rflags(iopl << 12 | eflags::FIXED);
    }

    fn long(&self) -> bool {
        matches!(self.mode, Mode::Long | Mode::Compatibility)
    }

    fn make_tables(&mut self) {
        let long = self.long();
        let flags = if long { 0xa } else { 0xc };
        self.set_gdt(CS0, descriptor(0, 0xf_ffff, 0x9b, flags));
        self.set_gdt(DS0, descriptor(0, 0xf_ffff, 0x93, 0xc));
        self.set_gdt(CS3, descriptor(0, 0xf_ffff, 0xfb, flags));
        self.set_gdt(DS3, descriptor(0, 0xf_ffff, 0xf3, 0xc));
        self.set_gdt(TR, descriptor(TSS, 0x1ff, 0x8b, 0));
        self.set_gdt(CS32, descriptor(0, 0xf_ffff, 0x9b, 0xc));
        self.set_gdt(CS16, descriptor(0, 0xffff, 0x9b, 0));
        self.set_gdt(DS16, descriptor(0, 0xffff, 0x93, 0));
        self.set_gdt(CS32_3, descriptor(0, 0xf_ffff, 0xfb, 0xc));
        self.set_gdt(LDTR, descriptor(LDT, 0xff, 0x82, 0));
        self.set_gdt(CONFORMING, descriptor(0, 0xf_ffff, 0x9f, flags));
        self.set_gdt(ABSENT, descriptor(0, 0xf_ffff, 0x13, 0xc));
        self.set_gdt(TR2, descriptor(TSS2, 0x67, 0x89, 0));
        self.set_gdt(READ_ONLY, descriptor(0, 0xf_ffff, 0x91, 0xc));
        for n in 0..=255 {
            self.set_gate(n, CS0, HANDLERS + 16 * u64::from(n), 0xee);
        }
        if long {
            self.write64(TSS + 4, TSS_STACK);
        } else {
            self.write32(TSS + 4, TSS_STACK as u32);
            self.write32(TSS + 8, DS0.into());
        }
        // No port is free for CPL 3: the bitmap lies beyond the limit.
        self.write(TSS + 0x66, &0xffffu16.to_le_bytes());
        let pointers: u64 = if self.mode == Mode::Pae { 1 } else { 7 };
        match self.mode {
            Mode::Paged32 => {
                self.write32(TABLES, PAGE_TABLE as u32 | 7);
                (0..1024u32).for_each(|n| self.write32(PAGE_TABLE + 4 * u64::from(n), n << 12 | 7));
            }
            _ => {
                self.write64(TABLES, (TABLES + 0x1000) | 7);
                self.write64(TABLES + 0x1000, (TABLES + 0x2000) | pointers);
                self.write64(TABLES + 0x2000, PAGE_TABLE | 7);
                (0..512u64).for_each(|n| self.write64(PAGE_TABLE + 8 * n, n << 12 | 7));
            }
        }
    }

    fn make_state(&mut self) {
        let mode = self.mode;
        let (code, data) = match mode {
            Mode::Protected16 => (CS16, DS16),
            Mode::Compatibility => (CS32, DS0),
            _ => (CS0, DS0),
        };
        let (code_raw, data_raw, tss) =
            (self.descriptor_of(code), self.descriptor_of(data), self.descriptor_of(TR));
        let st = self.cpu.state_mut(&mut self.mem);
        st.rip = CODE;
        st.set_gpr(reg::RDX, 0);
        st.set_gpr(reg::RSP, STACK);
        if mode == Mode::Real {
            st.segments = [Segment::real(0, 0); 6];
            st.idtr = TableRegister { base: 0, limit: 0x3ff };
            st.gdtr = TableRegister { base: GDT, limit: 0xff };
            st.cr0 = cr0::ET | cr0::NE;
            // 64 KiB reach no further than the start of `CODE`.
            st.segments[usize::from(seg::CS)] = Segment::real((CODE >> 4) as u16, 0);
            st.rip = 0;
            return;
        }
        st.segments = [segment(data, data_raw); 6];
        st.segments[usize::from(seg::CS)] = segment(code, code_raw);
        st.tr = segment(TR, tss);
        st.ldtr = Segment::default();
        st.gdtr = TableRegister { base: GDT, limit: 0xff };
        st.idtr = TableRegister { base: IDT, limit: 0xfff };
        st.cr0 = cr0::PE | cr0::ET | cr0::NE | cr0::WP;
        st.cr4 = cr4::OSFXSR | cr4::OSXMMEXCPT;
        match mode {
            Mode::Paged32 => {
                st.cr0 |= cr0::PG;
                st.cr4 |= cr4::PSE;
                st.cr3 = TABLES;
            }
            Mode::Pae => {
                st.cr0 |= cr0::PG;
                st.cr4 |= cr4::PAE;
                st.cr3 = TABLES + 0x1000;
                st.pdpte[0] = (TABLES + 0x2000) | 1;
                st.msr.efer = efer::NXE;
            }
            Mode::Long | Mode::Compatibility => {
                st.cr0 |= cr0::PG;
                st.cr4 |= cr4::PAE;
                st.cr3 = TABLES;
                st.msr.efer = efer::LME | efer::LMA | efer::NXE | efer::SCE;
            }
            Mode::Protected16 => {
                st.segments[usize::from(seg::CS)].base = CODE;
                st.rip = 0;
            }
            _ => {}
        }
    }

    /// The state, to look at or to change; translations are dropped.
    pub fn st(&mut self) -> &mut aero_cpu::state::CpuState {
        self.cpu.state_mut(&mut self.mem)
    }

    /// A general register.
    pub fn gpr(&self, n: u8) -> u64 {
        self.cpu.state(&self.mem).gpr(n)
    }

    /// The selector in a segment register.
    pub fn selector(&self, n: u8) -> u16 {
        self.cpu.state(&self.mem).segments[usize::from(n)].selector
    }

    /// Writes physical memory.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        self.mem.write(Gpa(at), bytes).expect("RAM");
    }

    /// Writes a dword.
    pub fn write32(&mut self, at: u64, value: u32) {
        self.write(at, &value.to_le_bytes());
    }

    /// Writes a qword.
    pub fn write64(&mut self, at: u64, value: u64) {
        self.write(at, &value.to_le_bytes());
    }

    /// Reads `N` bytes.
    pub fn bytes<const N: usize>(&self, at: u64) -> [u8; N] {
        self.mem.read_array(Gpa(at)).expect("RAM")
    }

    /// Reads a word.
    pub fn read16(&self, at: u64) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }

    /// Reads a dword.
    pub fn read32(&self, at: u64) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    /// Reads a qword.
    pub fn read64(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }

    /// Writes a global descriptor.
    pub fn set_gdt(&mut self, selector: u16, raw: u64) {
        self.write64(GDT + u64::from(selector & !7), raw);
    }

    /// Reads a global descriptor.
    pub fn descriptor_of(&self, selector: u16) -> u64 {
        self.read64(GDT + u64::from(selector & !7))
    }

    /// Writes an interrupt descriptor.
    pub fn set_gate(&mut self, vector: u8, selector: u16, offset: u64, access: u64) {
        let size = if self.long() { 16 } else { 8 };
        self.write64(IDT + size * u64::from(vector), gate(selector, offset, access, 0));
    }

    /// Where the entry lies that maps linear page `la` of the lowest 2 MiB.
    pub fn pte_at(&self, la: u64) -> u64 {
        PAGE_TABLE + (la >> 12) * if self.mode == Mode::Paged32 { 4 } else { 8 }
    }

    /// Maps linear page `la` of the lowest 2 MiB.
    pub fn set_pte(&mut self, la: u64, value: u64) {
        let at = self.pte_at(la);
        if self.mode == Mode::Paged32 {
            self.write32(at, value as u32)
        } else {
            self.write64(at, value)
        }
        self.st();
    }

    /// The entry that maps linear page `la`.
    pub fn pte(&self, la: u64) -> u64 {
        let at = self.pte_at(la);
        if self.mode == Mode::Paged32 { self.read32(at).into() } else { self.read64(at) }
    }

    /// Runs `code`, followed by HLT. After a trap CS, SS, RSP, the CPL and the flags are what they were before, so
    /// that one guest serves for several tries; [`Guest::load`] and [`Guest::go`] leave the handler's state to see.
    pub fn run(&mut self, code: &[u8]) -> End {
        self.load(code);
        let st = self.cpu.state(&self.mem);
        let (cs, ss) = (st.segments[1], st.segments[2]);
        let (cpl, flags, sp) = (st.cpl, st.rflags(), st.gpr(reg::RSP));
        let end = self.go();
        if matches!(end, End::Trap(_)) {
            let st = self.st();
            (st.segments[1], st.segments[2], st.cpl) = (cs, ss, cpl);
            st.set_rflags(flags);
            st.set_gpr(reg::RSP, sp);
        }
        end
    }

    /// Puts `code` and an HLT where RIP starts.
    pub fn load(&mut self, code: &[u8]) {
        self.write(CODE, code);
        self.write(CODE + code.len() as u64, &[0xf4]);
        self.cpu.core.halted = false;
        let cs_base = self.st().segments[usize::from(seg::CS)].base;
        self.st().rip = CODE - cs_base;
    }

    /// Runs until something halts.
    pub fn go(&mut self) -> End {
        self.go_in_slices(1 << 20)
    }

    /// Runs until something halts, at most `budget` instructions at a time.
    pub fn go_in_slices(&mut self, budget: u64) -> End {
        for _ in 0..1 << 20 {
            match self.cpu.run(&mut self.mem, &mut self.board, budget) {
                Exit::Attention => self.board.attention = false,
                Exit::Budget if budget < 1 << 20 => {}
                Exit::Halted => return self.end(),
                exit => return End::Exit(exit),
            }
        }
        panic!("the guest never halts");
    }

    fn end(&mut self) -> End {
        let rip = self.st().rip;
        let at = self.st().segments[usize::from(seg::CS)].base + rip;
        let stub = (HANDLERS..HANDLERS + 0x1000).contains(&at) && at & 15 == 1;
        if stub { End::Trap(self.trap_frame(((at - HANDLERS) >> 4) as u8)) } else { End::Halt }
    }

    fn trap_frame(&self, vector: u8) -> Trap {
        let size: u64 = match self.mode {
            Mode::Real => 2,
            Mode::Long | Mode::Compatibility => 8,
            _ => 4,
        };
        let st = self.cpu.state(&self.mem);
        let ss = st.segments[usize::from(seg::SS)];
        let mask = if ss.big() || size == 8 { u64::MAX } else { 0xffff };
        let base = if size == 8 { 0 } else { ss.base };
        let slot = |n: u64| {
            let bytes: [u8; 8] = self.bytes(base + (st.gpr(reg::RSP) & mask) + n * size);
            u64::from_le_bytes(bytes) & u64::MAX >> (64 - 8 * size)
        };
        let coded = matches!(vector, 8 | 10..=14 | 17) && size > 2;
        let first = u64::from(coded);
        let (ip, cs, flags) = (slot(first), slot(first + 1) & 0xffff, slot(first + 2));
        let outer = size == 8 || size == 4 && (cs & 3 != 0 || flags & eflags::VM != 0);
        Trap {
            vector,
            error: coded.then(|| slot(0)),
            ip,
            cs,
            flags,
            stack: outer.then(|| (slot(first + 3), slot(first + 4) & 0xffff)),
        }
    }

    /// Runs `code` and expects an exception.
    #[track_caller]
    pub fn trap(&mut self, code: &[u8]) -> Trap {
        match self.run(code) {
            End::Trap(trap) => trap,
            other => panic!("{code:02x?} gave {other:x?} with rip {:#x}", self.st().rip),
        }
    }

    /// Runs `code` and expects exactly this vector and error code at the instruction that begins `at` bytes into it.
    #[track_caller]
    pub fn faults(&mut self, code: &[u8], at: u64, vector: u8, error: Option<u64>) -> Trap {
        let trap = self.trap(code);
        let base = if self.mode == Mode::Real || self.mode == Mode::Protected16 { 0 } else { CODE };
        assert_eq!((trap.vector, trap.error, trap.ip), (vector, error, base + at), "{code:02x?}: {trap:x?}");
        trap
    }

    /// Runs `code` and expects it to reach its HLT.
    #[track_caller]
    pub fn fine(&mut self, code: &[u8]) {
        let end = self.run(code);
        assert_eq!(end, End::Halt, "{code:02x?} with rip {:#x}", self.st().rip);
    }
}

/// `mov eax, [at]`, in 32-bit and 64-bit code.
pub fn load_eax(at: u64) -> Vec<u8> {
    [&[0x8b, 0x04, 0x25][..], &(at as u32).to_le_bytes()].concat()
}

/// `mov [at], eax`, in 32-bit and 64-bit code.
pub fn store_eax(at: u64) -> Vec<u8> {
    [&[0x89, 0x04, 0x25][..], &(at as u32).to_le_bytes()].concat()
}

/// `mov eax, at; jmp eax` (`rax`).
pub fn jump(at: u64) -> Vec<u8> {
    [&[0xb8][..], &(at as u32).to_le_bytes(), &[0xff, 0xe0]].concat()
}

/// `mov reg, value` of 32 bits.
pub fn mov(n: u8, value: u32) -> Vec<u8> {
    [&[0xb8 + n][..], &value.to_le_bytes()].concat()
}

impl Guest {
    /// Gives `vector` interrupt stack 1 (long mode), so that a broken stack does not keep it from its handler.
    pub fn set_ist(&mut self, vector: u8) {
        self.write64(TSS + 0x24, TSS_STACK);
        let at = IDT + 16 * u64::from(vector);
        let raw = self.read64(at);
        self.write64(at, raw | 1 << 32);
    }
}
