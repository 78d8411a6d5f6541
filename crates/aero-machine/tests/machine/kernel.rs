//! Kernels of a few instructions, assembled by hand, and the machines that run them.
//!
//! [`program`] wraps code into the smallest bzImage that the loader takes, with a stack and a log of results:
//! [`Asm::record`] appends a register to the log, [`results`] reads it from outside. Every encoding here means the same
//! in 32-bit and in 64-bit code, so that one program tests both ways into a kernel.

use aero_machine::{
    Boot, ClockConfig, Config, CpuChoice, Exit, JitConfig, Kernel, Machine, REPEATABLE_RTC, WallClock,
};
use aero_mem::Gpa;
use std::cell::Cell;
use std::rc::Rc;

/// Where kernels are loaded.
const ORIGIN: u64 = 0x10_0000;
/// What they are told to need.
const INIT_SIZE: u32 = 0x1_0000;
/// Where [`Asm::record`] writes.
const RESULTS: u32 = 0x8_0000;
const STACK: u32 = 0x9_0000;
/// Port of the device that ends a run.
pub const DEBUG_EXIT: u16 = 0xf4;
/// First port of COM1.
pub const COM1: u16 = 0x3f8;

/// How a kernel is entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// 32-bit protected mode, paging off.
    Protected,
    /// Long mode, 4 GiB mapped to itself.
    Long,
}

/// Both.
pub const MODES: [Mode; 2] = [Mode::Protected, Mode::Long];

/// General registers by encoding number. EBP belongs to [`Asm::record`], EDX to port numbers.
#[derive(Clone, Copy)]
pub enum Reg {
    Eax = 0,
    Ecx = 1,
    Edx = 2,
    Ebx = 3,
    Esp = 4,
    Ebp = 5,
    Esi = 6,
    Edi = 7,
}

use Reg::{Eax, Ebp, Edx, Esp};

/// Conditions by encoding number.
#[derive(Clone, Copy)]
pub enum When {
    Zero = 4,
    NotZero = 5,
}

/// A place in the code.
#[derive(Clone, Copy)]
pub struct Label(usize);

/// Code under construction.
pub struct Asm {
    mode: Mode,
    bytes: Vec<u8>,
    /// Offsets of labels; `None` until bound.
    labels: Vec<Option<usize>>,
    /// Distances to fill in: where, to which label.
    jumps: Vec<(usize, Label)>,
    /// Addresses of the interrupt table's pointer to fill in.
    table_uses: Vec<usize>,
    gates: Vec<(u8, Label)>,
}

impl Asm {
    fn new(mode: Mode) -> Self {
        // The 64-bit entry lies 200h bytes behind the 32-bit one.
        let bytes = vec![0; if mode == Mode::Long { 0x200 } else { 0 }];
        Self { mode, bytes, labels: vec![], jumps: vec![], table_uses: vec![], gates: vec![] }
    }

    /// These bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    fn raw32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    /// The address of the next instruction.
    pub fn address(&self) -> u64 {
        ORIGIN + self.bytes.len() as u64
    }

    /// A label for later.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Puts a label here.
    pub fn bind(&mut self, label: Label) {
        self.labels[label.0] = Some(self.bytes.len());
    }

    /// A label here.
    pub fn here(&mut self) -> Label {
        let label = self.label();
        self.bind(label);
        label
    }

    fn to(&mut self, label: Label) {
        self.jumps.push((self.bytes.len(), label));
        self.raw32(0);
    }

    pub fn jmp(&mut self, label: Label) {
        self.raw(&[0xe9]);
        self.to(label);
    }

    pub fn jump_if(&mut self, when: When, label: Label) {
        self.raw(&[0x0f, 0x80 | when as u8]);
        self.to(label);
    }

    /// `count` turns of `body`, counted in `reg`.
    pub fn repeat(&mut self, reg: Reg, count: u32, body: impl FnOnce(&mut Self)) {
        self.mov_imm(reg, count);
        let top = self.here();
        body(self);
        self.dec(reg);
        self.jump_if(When::NotZero, top);
    }

    pub fn mov_imm(&mut self, reg: Reg, value: u32) {
        self.raw(&[0xb8 | reg as u8]);
        self.raw32(value);
    }

    fn registers(&mut self, opcode: u8, to: Reg, from: Reg) {
        self.raw(&[opcode, 0xc0 | (from as u8) << 3 | to as u8]);
    }

    pub fn mov(&mut self, to: Reg, from: Reg) {
        self.registers(0x89, to, from);
    }

    pub fn and_imm(&mut self, reg: Reg, value: u32) {
        self.raw(&[0x81, 0xe0 | reg as u8]);
        self.raw32(value);
    }

    pub fn cmp_imm(&mut self, reg: Reg, value: u32) {
        self.raw(&[0x81, 0xf8 | reg as u8]);
        self.raw32(value);
    }

    pub fn inc(&mut self, reg: Reg) {
        self.raw(&[0xff, 0xc0 | reg as u8]);
    }

    pub fn dec(&mut self, reg: Reg) {
        self.raw(&[0xff, 0xc8 | reg as u8]);
    }

    pub fn push(&mut self, reg: Reg) {
        self.raw(&[0x50 | reg as u8]);
    }

    pub fn pop(&mut self, reg: Reg) {
        self.raw(&[0x58 | reg as u8]);
    }

    /// An instruction with the operand `[address]`, without base and index.
    fn absolute(&mut self, opcode: &[u8], field: u8, address: u32) {
        let reachable = self.mode == Mode::Protected || address < 1 << 31;
        assert!(reachable, "64-bit code sign-extends {address:#x}");
        self.raw(opcode);
        self.raw(&[field << 3 | 4, 0x25]);
        self.raw32(address);
    }

    pub fn load(&mut self, reg: Reg, address: u32) {
        self.absolute(&[0x8b], reg as u8, address);
    }

    pub fn store(&mut self, address: u32, reg: Reg) {
        self.absolute(&[0x89], reg as u8, address);
    }

    pub fn store_imm(&mut self, address: u32, value: u32) {
        self.absolute(&[0xc7], 0, address);
        self.raw32(value);
    }

    pub fn store_byte(&mut self, address: u32, value: u8) {
        self.absolute(&[0xc6], 0, address);
        self.raw(&[value]);
    }

    pub fn load_byte(&mut self, reg: Reg, address: u32) {
        self.absolute(&[0x0f, 0xb6], reg as u8, address);
    }

    pub fn load_word(&mut self, reg: Reg, address: u32) {
        self.absolute(&[0x0f, 0xb7], reg as u8, address);
    }

    /// Appends a register to the log of results.
    pub fn record(&mut self, reg: Reg) {
        self.raw(&[0x89, 0x45 | (reg as u8) << 3, 0]);
        // LEA leaves the flags alone.
        self.raw(&[0x8d, 0x6d, 4]);
    }

    /// The bytes of `opcode` with EDX holding the port.
    fn port(&mut self, port: u16, opcode: &[u8]) {
        self.mov_imm(Edx, port.into());
        self.raw(opcode);
    }

    pub fn out(&mut self, port: u16, value: u8) {
        self.mov_imm(Eax, value.into());
        self.out_al(port);
    }

    pub fn out_al(&mut self, port: u16) {
        self.port(port, &[0xee]);
    }

    pub fn out16(&mut self, port: u16, value: u16) {
        self.mov_imm(Eax, value.into());
        self.port(port, &[0x66, 0xef]);
    }

    pub fn out32(&mut self, port: u16, value: u32) {
        self.mov_imm(Eax, value);
        self.port(port, &[0xef]);
    }

    /// Reads a byte into EAX.
    pub fn inb(&mut self, port: u16) {
        self.mov_imm(Eax, 0);
        self.port(port, &[0xec]);
    }

    /// Reads a word into EAX.
    pub fn inw(&mut self, port: u16) {
        self.mov_imm(Eax, 0);
        self.port(port, &[0x66, 0xed]);
    }

    /// Reads a dword into EAX.
    pub fn inl(&mut self, port: u16) {
        self.port(port, &[0xed]);
    }

    /// Waits until one of the bits of `mask` is set at `port`.
    pub fn poll(&mut self, port: u16, mask: u8) {
        let again = self.here();
        self.inb(port);
        self.and_imm(Eax, mask.into());
        self.jump_if(When::Zero, again);
    }

    pub fn hlt(&mut self) {
        self.raw(&[0xf4]);
    }

    pub fn cli(&mut self) {
        self.raw(&[0xfa]);
    }

    pub fn sti(&mut self) {
        self.raw(&[0xfb]);
    }

    pub fn ud2(&mut self) {
        self.raw(&[0x0f, 0x0b]);
    }

    /// Reads the time-stamp counter into EDX:EAX.
    pub fn rdtsc(&mut self) {
        self.raw(&[0x0f, 0x31]);
    }

    pub fn iret(&mut self) {
        if self.mode == Mode::Long {
            self.raw(&[0x48]);
        }
        self.raw(&[0xcf]);
    }

    /// Makes `handler` the handler of `vector`.
    pub fn gate(&mut self, vector: u8, handler: Label) {
        self.gates.push((vector, handler));
    }

    /// Loads the interrupt table.
    pub fn lidt(&mut self) {
        self.absolute(&[0x0f, 0x01], 3, 0);
        self.table_uses.push(self.bytes.len() - 4);
    }

    /// Ends the run with [`Exit::DebugExit`]; `status` is doubled and made odd by the device.
    pub fn exit(&mut self, status: u8) {
        self.out(DEBUG_EXIT, status);
    }

    /// Halts for ever, interrupts as they are.
    pub fn halt_for_ever(&mut self) {
        let again = self.here();
        self.hlt();
        self.jmp(again);
    }

    /// Writes text to COM1.
    pub fn print(&mut self, text: &str) {
        text.bytes().for_each(|byte| self.out(COM1, byte));
    }

    /// An interrupt handler of `vector` that saves EAX and EDX around `body`.
    pub fn handler(&mut self, vector: u8, body: impl FnOnce(&mut Self)) {
        let (handler, after) = (self.label(), self.label());
        self.jmp(after);
        self.bind(handler);
        self.push(Eax);
        self.push(Edx);
        body(self);
        self.pop(Edx);
        self.pop(Eax);
        self.iret();
        self.bind(after);
        self.gate(vector, handler);
    }

    /// Puts the 8259s at vectors 20h and 28h with only the interrupts of `irqs` let through.
    pub fn start_pic(&mut self, irqs: u16) {
        for (port, vector, cascade) in [(0x20, 0x20, 4), (0xa0, 0x28, 2)] {
            self.out(port, 0x11);
            self.out(port + 1, vector);
            self.out(port + 1, cascade);
            self.out(port + 1, 1);
        }
        let [low, high] = (!irqs).to_le_bytes();
        self.out(0x21, low);
        self.out(0xa1, high);
    }

    /// Ends an interrupt of the first 8259.
    pub fn end_of_interrupt(&mut self) {
        self.out(0x20, 0x20);
    }

    /// Starts a counter of the 8254.
    pub fn start_counter(&mut self, counter: u8, mode: u8, count: u16) {
        self.out(0x43, counter << 6 | 0x30 | mode << 1);
        let [low, high] = count.to_le_bytes();
        self.out(0x40 + u16::from(counter), low);
        self.out(0x40 + u16::from(counter), high);
    }

    /// The kernel: code, interrupt table, pointer to it.
    fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len().next_multiple_of(16), 0);
        let table = self.address();
        let slot = if self.mode == Mode::Long { 16 } else { 8 };
        let mut gates = vec![0u8; 256 * slot];
        for (vector, handler) in &self.gates {
            let offset = self.labels[handler.0].expect("the handler is bound");
            let entry = interrupt_gate(ORIGIN as u32 + offset as u32);
            gates[usize::from(*vector) * slot..][..8].copy_from_slice(&entry);
        }
        self.raw(&gates);
        let pointer = self.address() as u32;
        self.raw(&(gates.len() as u16 - 1).to_le_bytes());
        self.raw(&table.to_le_bytes());
        for at in core::mem::take(&mut self.table_uses) {
            self.bytes[at..at + 4].copy_from_slice(&pointer.to_le_bytes());
        }
        for (at, label) in core::mem::take(&mut self.jumps) {
            let target = self.labels[label.0].expect("the label is bound") as i32;
            self.bytes[at..at + 4].copy_from_slice(&(target - at as i32 - 4).to_le_bytes());
        }
        assert!(self.bytes.len() < INIT_SIZE as usize, "the program outgrows what its header announces");
        self.bytes
    }
}

/// A present interrupt gate to code segment 10h below 4 GiB: the whole of a 32-bit one, the first half of a 64-bit one.
fn interrupt_gate(handler: u32) -> [u8; 8] {
    let [a, b, c, d] = handler.to_le_bytes();
    [a, b, 0x10, 0, 0, 0x8e, c, d]
}

/// A bzImage of boot protocol 2.15 (Linux, `Documentation/arch/x86/boot.rst`).
fn bzimage(mode: Mode, payload: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 2 * 512];
    let mut set = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    set(0x1f1, &[1]); // setup_sects
    set(0x1f4, &(payload.len().div_ceil(16) as u32).to_le_bytes()); // syssize
    set(0x1fe, &[0x55, 0xaa, 0xeb, 0x66]); // boot_flag, jump over the header
    set(0x202, b"HdrS\x0f\x02");
    set(0x211, &[1]); // loadflags: LOADED_HIGH
    set(0x22c, &0x7fff_ffffu32.to_le_bytes()); // initrd_addr_max
    set(0x230, &0x10_0000u32.to_le_bytes()); // kernel_alignment
    set(0x236, &[u8::from(mode == Mode::Long)]); // xloadflags: XLF_KERNEL_64
    set(0x238, &2047u32.to_le_bytes()); // cmdline_size
    set(0x258, &ORIGIN.to_le_bytes()); // pref_address
    set(0x260, &INIT_SIZE.to_le_bytes());
    file.extend(payload);
    file
}

/// A kernel with a stack and a log of results that runs `body`.
pub fn program(mode: Mode, body: impl FnOnce(&mut Asm)) -> Vec<u8> {
    let mut asm = Asm::new(mode);
    asm.mov_imm(Esp, STACK);
    asm.mov_imm(Ebp, RESULTS);
    body(&mut asm);
    bzimage(mode, &asm.finish())
}

/// Host time that a test sets.
#[derive(Clone, Default)]
pub struct TestClock(Rc<Cell<u64>>);

impl TestClock {
    /// Lets the host's clock show this many nanoseconds.
    pub fn set(&self, ns: u64) {
        self.0.set(ns);
    }
}

impl WallClock for TestClock {
    fn now_ns(&mut self) -> u64 {
        self.0.get()
    }
}

/// A small machine: 4 MiB, 100 instructions a virtual microsecond.
pub fn config() -> Config {
    Config {
        cpu: CpuChoice { model: "max".to_owned(), ..CpuChoice::default() },
        hyperv: false,
        hpet: false,
        jit: JitConfig::default(),
        memory: 4 << 20,
        clock: ClockConfig::Icount { mips: 100 },
        rtc: REPEATABLE_RTC,
        debug_exit: Some(DEBUG_EXIT),
        debugcon: vec![0xe9],
        post_port: None,
        test_device: false,
        vga: true,
    }
}

/// What boots `kernel` and nothing else.
pub fn boot(kernel: Vec<u8>) -> Boot {
    Boot::Kernel(Kernel::linux(kernel, None, String::new()))
}

/// A machine whose time is its instruction count.
pub fn machine(kernel: Vec<u8>) -> Machine {
    Machine::new(config(), boot(kernel), Box::new(TestClock::default())).expect("a small machine")
}

/// A machine whose time is the test's clock.
pub fn realtime_machine(kernel: Vec<u8>) -> (Machine, TestClock) {
    let clock = TestClock::default();
    let config = Config { clock: ClockConfig::Realtime, ..config() };
    (Machine::new(config, boot(kernel), Box::new(clock.clone())).expect("a small machine"), clock)
}

/// Runs until the machine says something else than that the budget is used up.
pub fn run(machine: &mut Machine) -> Exit {
    run_in_slices(machine, 1_000_000)
}

/// The same, `budget` instructions at a time.
pub fn run_in_slices(machine: &mut Machine, budget: u64) -> Exit {
    const ENOUGH: u64 = 20_000_000;
    let end = machine.retired() + ENOUGH;
    while machine.retired() < end {
        match machine.run(budget) {
            Exit::Budget => {}
            exit => return exit,
        }
    }
    panic!("no end after {ENOUGH} instructions, at {:#x}", machine.cpu_state().rip);
}

/// Runs a program to its end by [`Asm::exit`] with status 0.
pub fn finish(machine: &mut Machine) {
    assert_eq!(run(machine), Exit::DebugExit(1));
}

/// The first `count` results that the guest recorded.
pub fn results(machine: &Machine, count: usize) -> Vec<u32> {
    (0..count).map(|n| u32_at(machine, u64::from(RESULTS) + 4 * n as u64)).collect()
}

/// Runs `body` and the exit behind it; gives what it recorded.
pub fn results_of(mode: Mode, count: usize, body: impl FnOnce(&mut Asm)) -> Vec<u32> {
    let mut machine = machine(program(mode, |a| {
        body(a);
        a.exit(0);
    }));
    finish(&mut machine);
    results(&machine, count)
}

/// Bytes of guest memory.
pub fn bytes_at<const N: usize>(machine: &Machine, at: u64) -> [u8; N] {
    machine.memory().read_array(Gpa(at)).expect("RAM")
}

/// A dword of guest memory.
pub fn u32_at(machine: &Machine, at: u64) -> u32 {
    u32::from_le_bytes(bytes_at(machine, at))
}

/// A qword of guest memory.
pub fn u64_at(machine: &Machine, at: u64) -> u64 {
    u64::from_le_bytes(bytes_at(machine, at))
}
