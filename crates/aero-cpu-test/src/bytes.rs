//! Arbitrary bytes as a program: the processor must neither panic nor hang, whatever it is given.
//!
//! [`run`] makes a machine out of its input: the mode, the privilege, registers, a list of changes to tables, page-table
//! entries, control registers, MSRs and segments, and the rest as code and data. It then runs a bounded number of
//! instructions in slices, with interrupts in between. libFuzzer drives it (`cargo xtask fuzz cpu`), and a test with
//! seeded random inputs.
//!
//! The state that a run starts from is one that software could have made: paging, protection and long mode are on or
//! off together as the mode says, and the code under test may change them with the instructions for it.

use aero_cpu::segments::Descriptor;
use aero_cpu::state::{CpuState, Segment, TableRegister, cr0, cr4, efer, eflags, seg};
use aero_cpu::{Bus, Cpu, CpuConfig, Exit};
use aero_mem::{Gpa, GuestMemory};
use aero_x86::descriptor::segment as descriptor;

/// Physical places; everything lies below 1 MiB and is mapped at its own address.
mod place {
    pub const GDT: u64 = 0x1000;
    pub const IDT: u64 = 0x2000;
    pub const TSS: u64 = 0x3000;
    pub const LDT: u64 = 0x5000;
    pub const HANDLERS: u64 = 0x6000;
    pub const STACK: u64 = 0x9000;
    pub const CODE: u64 = 0x1_0000;
    pub const TABLES: u64 = 0x2_0000;
    pub const PAGE_TABLE: u64 = 0x2_3000;
    pub const DATA: u64 = 0x3_0000;
    /// Memory that a run starts with cleared.
    pub const USED: u64 = 0xa_0000;
}

const RAM: u64 = 2 << 20;
/// Instructions of one slice, and slices of a run.
const SLICE: u64 = 600;
const SLICES: usize = 4;

/// What the processor starts in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Real,
    Virtual8086,
    Protected16,
    Protected32,
    Paged32,
    Pae,
    Compatibility,
    Long,
}

const MODES: [Mode; 8] = [
    Mode::Real,
    Mode::Virtual8086,
    Mode::Protected16,
    Mode::Protected32,
    Mode::Paged32,
    Mode::Pae,
    Mode::Compatibility,
    Mode::Long,
];

impl Mode {
    fn long(self) -> bool {
        matches!(self, Self::Compatibility | Self::Long)
    }
}

/// Takes values off the front of the input; zeros when it is used up.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn quad(&mut self) -> u64 {
        u64::from_le_bytes(core::array::from_fn(|_| self.byte()))
    }

    /// Few bytes for the values that matter: a place, a small number, or anything.
    fn value(&mut self) -> u64 {
        const PLACES: [u64; 12] = [
            place::GDT,
            place::IDT,
            place::TSS,
            place::STACK,
            place::CODE,
            place::TABLES,
            place::PAGE_TABLE,
            place::DATA,
            place::DATA + 0xffa,
            0xffff_fffc,
            0x7fff_ffff_fffc,
            0xfee0_0000,
        ];
        match self.byte() {
            n @ 0..=11 => PLACES[usize::from(n)],
            n @ 12..=127 => u64::from(n) - 12,
            n @ 128..=159 => 1 << (2 * (n - 128)),
            160..=200 => u64::from(self.word()),
            _ => self.quad(),
        }
    }
}

/// Devices that answer with what the input says, and an interrupt line that rises between slices.
struct Board {
    answer: u64,
    line: bool,
    vector: u8,
    accesses: u64,
}

impl Bus for Board {
    fn read_memory(&mut self, _: &mut GuestMemory, _: u64, gpa: u64, _: u32) -> u64 {
        self.accesses += 1;
        self.answer ^ gpa
    }
    fn write_memory(&mut self, _: &mut GuestMemory, _: u64, _: u64, _: u32, _: u64) {
        self.accesses += 1;
    }
    fn read_port(&mut self, _: &mut GuestMemory, _: u64, _: u16, _: u32) -> u32 {
        self.answer as u32
    }
    fn write_port(&mut self, mem: &mut GuestMemory, _: u64, port: u16, _: u32, value: u32) {
        // A device with DMA: code changes under the processor's feet.
        if port & 0xff == 0x80 {
            _ = mem.write(Gpa(place::CODE + u64::from(value & 0xfff)), &value.to_le_bytes());
        }
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
        false
    }
    fn send_ipi(&mut self, _: aero_cpu::lapic::Icr) {}
    fn end_of_interrupt(&mut self, _: &mut GuestMemory, _: u64, _: u8) {}
}

/// A machine that runs inputs one after the other.
pub struct Machine {
    mem: GuestMemory,
    cpu: Cpu,
}

impl Machine {
    /// A machine with the model `max`.
    ///
    /// # Errors
    /// When the host has no memory for it.
    pub fn new() -> anyhow::Result<Self> {
        let mut mem = GuestMemory::new(RAM, 1).map_err(|e| anyhow::anyhow!("guest memory: {e}"))?;
        let cpu = Cpu::new(&mut mem, 0, CpuConfig::of(&aero_x86::cpuid::MAX));
        Ok(Self { mem, cpu })
    }

    /// Runs one input; gives the instructions that were retired.
    pub fn run(&mut self, input: &[u8]) -> u64 {
        let mut input = Input(input);
        let mode = MODES[usize::from(input.byte() & 7)];
        let options = input.byte();
        self.clear();
        self.make_tables(mode, options & 1 != 0);
        self.make_state(mode, options & 1 != 0, options);
        for n in 0..16 {
            let value = if input.byte() & 1 == 0 { place::DATA } else { input.value() };
            if n != 4 {
                self.cpu.state_mut(&mut self.mem).set_gpr(n, value);
            }
        }
        for _ in 0..input.byte() & 31 {
            self.change(mode, &mut input);
        }
        let mut board = Board { answer: input.quad(), line: false, vector: input.byte(), accesses: 0 };
        self.write(place::DATA, &input.0[..input.0.len().min(64)]);
        self.write(place::CODE, &input.0[..input.0.len().min(0x2000)]);
        self.go(&mut board, options)
    }

    fn go(&mut self, board: &mut Board, options: u8) -> u64 {
        let before = self.cpu.core.retired;
        for slice in 0..SLICES {
            match self.cpu.run(&mut self.mem, board, SLICE) {
                Exit::Shutdown => break,
                Exit::Halted if options & 2 == 0 => break,
                _ => {}
            }
            board.line = options & 2 != 0;
            self.cpu.core.nmi_pending |= options & 4 != 0 && slice == 1;
        }
        self.cpu.core.retired.wrapping_sub(before)
    }

    fn clear(&mut self) {
        self.cpu.reset(&mut self.mem);
        let zeros = [0; 0x1000];
        for page in (0..place::USED).step_by(0x1000) {
            self.write(page, &zeros);
        }
        self.mem.take_modified_code();
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        // Addresses that the input chose may lie outside RAM: then nothing happens.
        _ = self.mem.write(Gpa(at), bytes);
    }

    fn write64(&mut self, at: u64, value: u64) {
        self.write(at, &value.to_le_bytes());
    }

    fn make_tables(&mut self, mode: Mode, user: bool) {
        (0..256).for_each(|n| self.write(place::HANDLERS + 16 * n, &[0xf4]));
        if mode == Mode::Real {
            (0..256).for_each(|n| self.write(4 * n, &((place::HANDLERS + 16 * n) as u32).to_le_bytes()));
            return;
        }
        for (selector, raw) in descriptors(mode) {
            self.write64(place::GDT + u64::from(selector & !7), raw);
        }
        let step = if mode.long() { 16 } else { 8 };
        for n in 0..256 {
            let offset = place::HANDLERS + 16 * n;
            let raw = offset & 0xffff | 0x08 << 16 | 0xee << 40 | (offset >> 16 & 0xffff) << 48;
            self.write64(place::IDT + step * n, raw);
        }
        self.write64(place::TSS + 4, place::STACK | if mode.long() { 0 } else { 0x10 << 32 });
        self.write64(place::TSS + 0x60, 0x68 << 48);
        self.make_page_tables(mode, user);
    }

    fn make_page_tables(&mut self, mode: Mode, user: bool) {
        let rights = if user { 7 } else { 3 };
        if mode == Mode::Paged32 {
            self.write64(place::TABLES, place::PAGE_TABLE | rights);
            (0..512).for_each(|n| {
                let (low, high) = ((2 * n) << 12 | rights, (2 * n + 1) << 12 | rights);
                self.write64(place::PAGE_TABLE + 8 * n, low | high << 32);
            });
            return;
        }
        let pointer = if mode == Mode::Pae { 1 } else { rights };
        self.write64(place::TABLES, (place::TABLES + 0x1000) | rights);
        self.write64(place::TABLES + 0x1000, (place::TABLES + 0x2000) | pointer);
        self.write64(place::TABLES + 0x2000, place::PAGE_TABLE | rights);
        (0..512).for_each(|n| self.write64(place::PAGE_TABLE + 8 * n, n << 12 | rights));
    }

    fn make_state(&mut self, mode: Mode, user: bool, options: u8) {
        let user = user || mode == Mode::Virtual8086;
        let list = descriptors(mode);
        let load = |selector: u16| {
            let raw = list.iter().find(|(s, _)| *s == selector & !3).map_or(0, |(_, raw)| *raw);
            Descriptor::new(selector, raw).segment()
        };
        let st = self.cpu.state_mut(&mut self.mem);
        st.rip = place::CODE;
        st.set_gpr(4, place::STACK);
        let flag = |on: u8, bit: u64| if options & on != 0 { bit } else { 0 };
        let flags = eflags::FIXED | flag(8, eflags::TF) | flag(16, eflags::IF) | flag(32, eflags::AC);
        st.set_rflags(flags | flag(64, eflags::IOPL));
        if mode == Mode::Real {
            real_segments(st, 0);
            st.idtr = TableRegister { base: 0, limit: 0x3ff };
            return;
        }
        st.gdtr = TableRegister { base: place::GDT, limit: 0xff };
        st.idtr = TableRegister { base: place::IDT, limit: 0xfff };
        st.tr = Segment { base: place::TSS, limit: 0x1ff, attributes: 0x8b, selector: 0x28 };
        st.ldtr = Segment { base: place::LDT, limit: 0xff, attributes: 0x82, selector: 0x38 };
        make_control_registers(st, mode);
        st.cpl = if user { 3 } else { 0 };
        let (code, data) = if user { (0x1b, 0x23) } else { (0x08, 0x10) };
        st.segments = [load(data); 6];
        st.segments[usize::from(seg::CS)] = load(code);
        match mode {
            Mode::Virtual8086 => {
                st.eflags |= eflags::VM;
                real_segments(st, 3);
            }
            Mode::Compatibility => st.segments[usize::from(seg::CS)] = load(if user { 0x4b } else { 0x40 }),
            Mode::Protected16 => {
                st.segments[usize::from(seg::CS)].base = place::CODE;
                st.rip = 0;
            }
            _ => {}
        }
    }

    /// One change to what the run starts from.
    fn change(&mut self, mode: Mode, input: &mut Input<'_>) {
        let (kind, index) = (input.byte(), u64::from(input.byte()));
        let value = input.value();
        let entry = if mode == Mode::Paged32 { 4 } else { 8 };
        match kind & 15 {
            0 => self.write64(place::GDT + (index & 31) * 8, value),
            1 => self.write64(place::IDT + index * 8, value),
            2 => self.write64(place::LDT + (index & 31) * 8, value),
            3 => self.write64(place::TSS + index * 2, value),
            4 => self.write(place::TABLES + (index & 7) * entry, &value.to_le_bytes()[..entry as usize]),
            5 => self.write64(place::TABLES + 0x1000 + (index & 7) * 8, value),
            6 => self.write64(place::TABLES + 0x2000 + (index & 7) * 8, value),
            7 | 8 => self.write(place::PAGE_TABLE + index * entry, &value.to_le_bytes()[..entry as usize]),
            9 => self.write(index << 12 | value & 0xfff, &input.quad().to_le_bytes()),
            _ => self.change_register(kind & 15, index, value),
        }
    }

    fn change_register(&mut self, kind: u8, index: u64, value: u64) {
        let legal = cr4::legal(self.cpu.core.config.model.features);
        let st = self.cpu.state_mut(&mut self.mem);
        match kind {
            10 => {
                const FREE: u64 = cr0::MP | cr0::EM | cr0::TS | cr0::NE | cr0::WP | cr0::AM;
                st.cr0 = st.cr0 & !FREE | value & FREE;
            }
            11 => {
                let free = legal & !(cr4::PAE | cr4::PCIDE);
                st.cr4 = st.cr4 & !free | value & free;
            }
            12 => change_segment(st, index, value),
            13 => match index & 7 {
                n @ 0..=3 => st.dr[n as usize] = value,
                _ => st.dr[7] = value & 0xffff_23ff | 0x400,
            },
            14 => match index & 7 {
                0 => st.msr.star = value,
                1 => st.msr.sysenter_cs = value & 0xffff,
                2 => st.mxcsr = value as u32 & 0xffff,
                3 => st.fpu.control = value as u16 & 0x1f3f | 0x40,
                4 => st.pkru = value as u32,
                5 => st.msr.sysenter_eip = value & 0x7fff_ffff_ffff,
                6 => st.msr.lstar = value & 0x7fff_ffff_ffff,
                _ => st.xcr0 = [1, 3, 7][value as usize % 3],
            },
            _ => st.set_gpr((index & 15) as u8, value),
        }
    }
}

/// Protection, and paging and long mode as the mode wants them.
fn make_control_registers(st: &mut CpuState, mode: Mode) {
    st.cr0 = cr0::PE | cr0::ET | cr0::NE | cr0::WP | cr0::AM;
    st.cr4 = cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::OSXSAVE | cr4::VME;
    st.xcr0 = 7;
    match mode {
        Mode::Paged32 => {
            st.cr0 |= cr0::PG;
            st.cr4 |= cr4::PSE;
            st.cr3 = place::TABLES;
        }
        Mode::Pae => {
            st.cr0 |= cr0::PG;
            st.cr4 |= cr4::PAE;
            st.cr3 = place::TABLES + 0x1000;
            st.pdpte[0] = (place::TABLES + 0x2000) | 1;
            st.msr.efer = efer::NXE;
        }
        Mode::Compatibility | Mode::Long => {
            st.cr0 |= cr0::PG;
            st.cr4 |= cr4::PAE | cr4::PGE | cr4::FSGSBASE;
            st.cr3 = place::TABLES;
            st.msr.efer = efer::LME | efer::LMA | efer::NXE | efer::SCE;
        }
        _ => {}
    }
}

/// Base, limit and type of a segment, as some descriptor could have given them.
fn change_segment(st: &mut CpuState, index: u64, value: u64) {
    if st.real_segments() {
        return;
    }
    let n = (index & 7) as usize % 6;
    let s = &mut st.segments[n];
    s.base = value & 0xffff_ffff;
    s.limit = (value >> 16) as u32 | 0xfff;
    if n != usize::from(seg::CS) && n != usize::from(seg::SS) {
        let types = (value >> 40) as u32 & 0xd06f;
        s.attributes = types | Segment::CODE_OR_DATA | if index & 8 == 0 { Segment::PRESENT } else { 0 };
    }
}

fn real_segments(st: &mut CpuState, dpl: u32) {
    st.segments = [Segment::real(0, dpl); 6];
    st.segments[usize::from(seg::CS)] = Segment::real((place::CODE >> 4) as u16, dpl);
    st.rip = 0;
}

/// Selector and descriptor: code and data of both privileges, the TSS, the LDT, 32-bit code, a call gate, a task gate.
fn descriptors(mode: Mode) -> Vec<(u16, u64)> {
    let (flags, limit) = match mode {
        Mode::Long | Mode::Compatibility => (0xa, 0xf_ffff),
        Mode::Protected16 => (0, 0xffff),
        _ => (0xc, 0xf_ffff),
    };
    let base = if mode == Mode::Protected16 { place::CODE } else { 0 };
    vec![
        (0x08, descriptor(base, limit, 0x9b, flags)),
        (0x10, descriptor(0, limit, 0x93, flags & 0xc)),
        (0x18, descriptor(base, limit, 0xfb, flags)),
        (0x20, descriptor(0, limit, 0xf3, flags & 0xc)),
        (0x28, descriptor(place::TSS, 0x1ff, 0x8b, 0)),
        (0x38, descriptor(place::LDT, 0xff, 0x82, 0)),
        (0x40, descriptor(0, 0xf_ffff, 0x9b, 0xc)),
        (0x48, descriptor(0, 0xf_ffff, 0xfb, 0xc)),
        (0x50, place::HANDLERS & 0xffff | 0x08 << 16 | 0xec << 40),
        (0x60, 0x70 << 16 | 0xe5 << 40),
        (0x70, descriptor(place::TSS + 0x800, 0x67, 0x89, 0)),
        (0x78, descriptor(0, 0xf_ffff, 0x9f, flags)),
    ]
}

/// Runs one input on a machine of this thread's.
///
/// # Panics
/// When there is no memory for the machine, or the processor has a bug.
pub fn run(input: &[u8]) -> u64 {
    thread_local! {
        static MACHINE: core::cell::RefCell<Option<Machine>> = const { core::cell::RefCell::new(None) };
    }
    MACHINE.with_borrow_mut(|machine| {
        let machine = machine.get_or_insert_with(|| Machine::new().expect("2 MiB of guest memory"));
        machine.run(input)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn random_bytes_in_every_mode_run_without_a_panic() {
        let mut random = Random::new(3, 0);
        let mut retired = 0;
        for _ in 0..4000 {
            let input: Vec<u8> = (0..64).flat_map(|_| random.draw().to_le_bytes()).collect();
            retired += run(&input);
        }
        assert!(retired > 10_000, "only {retired} instructions ran");
    }

    #[test]
    fn nops_in_long_mode_run_to_the_budget() {
        // Mode 7, no options, 16 registers, no changes, the board, then code.
        let mut input = vec![7, 0];
        input.extend([0; 16]);
        input.extend([0; 10]);
        input.extend([0x90; 0x2000]);
        assert_eq!(run(&input), SLICE * SLICES as u64);
    }

    #[test]
    fn every_mode_executes_its_code() {
        for mode in 0..8 {
            let mut input = vec![mode, 0];
            input.extend([0; 16]);
            input.extend([0; 10]);
            input.extend([0x90; 0x2000]);
            assert!(run(&input) > 100, "mode {:?} stops at once", MODES[usize::from(mode)]);
        }
    }
}
