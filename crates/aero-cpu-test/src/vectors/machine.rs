//! A processor with 16 MiB of RAM and no devices, and what a test does with it.

use super::case::{Case, NAMES, REGISTERS, Recorded, reg};
use super::later;
use crate::processor::Maker;
use aero_cpu::state::{CpuState, Segment, cr0, reg as gpr};
use aero_cpu::{Cpu, Exit, NoDevices};
use aero_mem::{Bank, Gpa, GuestMemory, VGA_WINDOW};
use aero_x86::undefined::undefined;
use aero_x86::{CodeSize, DecodeError, Insn, Operand, decode};

/// What one test came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Everything as recorded.
    Passed,
    /// Differences, a line each.
    Failed(Vec<String>),
    /// Not compared, for this reason.
    Skipped(&'static str),
}

/// RAM that real mode reaches: all of it is compared.
const REACH: usize = 0x11_0000;

/// What RAM holds that a test says nothing about: HLT, so that code that leaves its way stops.
const BACKGROUND: u8 = 0xf4;

/// An interrupt vector that a test says nothing about leads to a place of its own.
fn background_at(at: u32) -> u8 {
    const VECTORS: u32 = 0x400;
    const HANDLERS: u32 = 0xf000_1000;
    if at >= VECTORS {
        return BACKGROUND;
    }
    (HANDLERS + (at / 4) * 16).to_le_bytes()[(at % 4) as usize]
}

/// Instructions and iterations that one test takes at most; REP counts are at most 127.
const BUDGET: u64 = 1000;

/// FLAGS bits that exist in real mode on each processor; the others are compared on none. IOPL and NT are not
/// there in real mode on the 80286, and read as ones on the 8088.
fn flags_that_exist(recorded: Recorded) -> u32 {
    match recorded {
        Recorded::I8088 | Recorded::I80286 => 0x0fd5,
        Recorded::I80386 => 0x0003_7fd5,
    }
}

/// The machine.
pub struct Bench {
    mem: GuestMemory,
    cpu: Cpu,
    /// Memory between tests, and room for a copy of memory after one.
    background: Vec<u8>,
    seen: Vec<u8>,
}

impl Bench {
    /// A machine of the newest model: it has every instruction that a set may hold.
    ///
    /// # Errors
    /// When the host has no memory or no engine for it.
    pub fn new(maker: Maker) -> anyhow::Result<Self> {
        let (mut mem, cpu) = maker.make(16 << 20)?;
        mem.set_banks(VGA_WINDOW, Bank::RAM);
        let background: Vec<u8> = (0..REACH as u32).map(background_at).collect();
        mem.write(Gpa(0), &background)?;
        Ok(Self { mem, cpu, background, seen: vec![0; REACH] })
    }

    /// Runs a test of a set that was recorded on `recorded`.
    pub fn test(&mut self, recorded: Recorded, case: &Case) -> Verdict {
        let code = match recorded.halts() && case.bytes.len() > 1 {
            true => &case.bytes[..case.bytes.len() - 1],
            false => &case.bytes,
        };
        let features = aero_x86::cpuid::MAX.features;
        let mut padded = code.to_vec();
        padded.resize(code.len().max(aero_x86::MAX_LEN), BACKGROUND);
        let insn = decode(&padded, CodeSize::B16, features);
        if let Some(why) = later::difference(recorded, case, code, &insn) {
            return Verdict::Skipped(why);
        }
        if let Some(at) = case.initial.ram.iter().map(|(at, _)| *at).find(|at| *at as usize >= REACH) {
            return Verdict::Failed(vec![format!(
                "the test has RAM at {at:#x}, which real mode does not reach"
            )]);
        }
        let exit = self.run(recorded, case, code);
        self.mem.set_a20(true);
        // Memory was written when the machine was made, so all of it is there.
        let _ = self.mem.read(Gpa(0), &mut self.seen);
        let verdict = self.compare(recorded, case, code, &insn, exit);
        self.restore();
        verdict
    }

    fn run(&mut self, recorded: Recorded, case: &Case, code: &[u8]) -> Exit {
        self.cpu.reset(&mut self.mem);
        self.cpu.core.counters = Default::default();
        // The 8088 has 20 address lines.
        self.mem.set_a20(recorded != Recorded::I8088);
        for (at, byte) in &case.initial.ram {
            let _ = self.mem.write(Gpa((*at).into()), &[*byte]);
        }
        set_registers(self.cpu.state_mut(&mut self.mem), recorded, case);
        if recorded.halts() {
            return self.cpu.run(&mut self.mem, &mut NoDevices, BUDGET);
        }
        self.run_one(code)
    }

    /// One instruction with all its repeats, without an HLT to stop at.
    fn run_one(&mut self, code: &[u8]) -> Exit {
        let repeats = code.iter().any(|b| matches!(b, 0xf2 | 0xf3));
        let start = self.cpu.state(&self.mem).rip;
        for _ in 0..BUDGET {
            let exit = self.cpu.run(&mut self.mem, &mut NoDevices, 1);
            let moved = self.cpu.state(&self.mem).rip != start;
            if exit != Exit::Budget || moved || !repeats {
                return exit;
            }
        }
        Exit::Budget
    }

    fn compare(
        &mut self,
        recorded: Recorded,
        case: &Case,
        code: &[u8],
        insn: &Result<Insn, DecodeError>,
        exit: Exit,
    ) -> Verdict {
        let raised = self.raised(case);
        let expected = case.raised.map(|r| r.number);
        if raised != expected
            && let Some(why) = later::difference_of_exception(recorded, expected, raised)
        {
            return Verdict::Skipped(why);
        }
        let mut found = Vec::new();
        if recorded.halts() && exit != Exit::Halted {
            found.push(format!("it ended with {exit:?} instead of the HLT"));
        }
        let undefined = insn.as_ref().map_or(Default::default(), |insn| {
            undefined(insn, case.before(reg::ECX) as u8, source_of(insn, case))
        });
        let flags = flags_that_exist(recorded) & !(undefined.flags as u32);
        let moved = later::moved_by_fault(recorded, case, insn);
        self.compare_registers(recorded, case, (flags, moved), &mut found);
        let pushed = (flags_at(case), flags);
        self.compare_memory(case, pushed, pushes_flags(case, code), &mut found);
        if found.is_empty() { Verdict::Passed } else { Verdict::Failed(found) }
    }

    /// The vector of the exception that Aero raised: where it went tells.
    fn raised(&self, case: &Case) -> Option<u8> {
        if self.cpu.core.counters.exceptions == 0 {
            return None;
        }
        let st = self.cpu.state(&self.mem);
        let cs = st.segments[1].selector;
        let vectors = [0u8, 1, 4, 5, 6, 7, 12, 13];
        let entry = |n: u8| -> Option<u32> {
            let word = |at: u32| {
                let byte = |at: u32| {
                    case.initial.ram.iter().find(|(a, _)| *a == at).map_or(background_at(at), |(_, b)| *b)
                };
                u16::from_le_bytes([byte(at), byte(at + 1)])
            };
            let at = u32::from(n) * 4;
            let near = (st.rip as u16).wrapping_sub(word(at)) <= 1;
            (near && word(at + 2) == cs).then_some(at)
        };
        vectors.into_iter().find(|n| entry(*n).is_some())
    }

    fn compare_registers(
        &self,
        recorded: Recorded,
        case: &Case,
        (flags, ignored): (u32, &[usize]),
        found: &mut Vec<String>,
    ) {
        let got = registers(self.cpu.state(&self.mem));
        let width = if recorded == Recorded::I80386 { u32::MAX } else { 0xffff };
        for (n, name) in
            NAMES.iter().enumerate().filter(|(n, _)| is_compared(recorded, *n) && !ignored.contains(n))
        {
            let known = case.masks[n].unwrap_or(u32::MAX);
            let mask = known & if n == reg::EFLAGS { flags } else { width };
            let mask = mask & if (reg::CS..=reg::SS).contains(&n) { 0xffff } else { u32::MAX };
            let want = case.expected(n);
            if (got[n] ^ want) & mask != 0 {
                found.push(line(name, case.before(n) & width, want & width, got[n] & width, mask));
            }
        }
    }

    /// Compares everything that real mode reaches. `pushed` is where FLAGS were pushed and which of their bits count.
    fn compare_memory(
        &mut self,
        case: &Case,
        pushed: (u32, u32),
        flags_pushed: bool,
        found: &mut Vec<String>,
    ) {
        let mut want = core::mem::take(&mut self.background);
        for (at, byte) in case.initial.ram.iter().chain(&case.after.ram) {
            if let Some(place) = want.get_mut(*at as usize) {
                *place = *byte;
            }
        }
        let different = if self.seen == want { 0..0 } else { 0..REACH };
        for at in different.filter(|at| self.seen[*at] != want[*at]) {
            let mask = match (at as u32).wrapping_sub(pushed.0) {
                _ if !flags_pushed => 0xff,
                0 => pushed.1 as u8,
                1 => (pushed.1 >> 8) as u8,
                _ => 0xff,
            };
            if (self.seen[at] ^ want[at]) & mask != 0 && found.len() < MAX_LINES {
                found.push(format!("[{at:06x}]  want {:02x}, got {:02x}", want[at], self.seen[at]));
            }
        }
        for (at, _) in case.initial.ram.iter().chain(&case.after.ram) {
            if let Some(place) = want.get_mut(*at as usize) {
                *place = background_at(*at);
            }
        }
        self.background = want;
    }

    /// Puts the background back wherever memory is not it.
    fn restore(&mut self) {
        const PIECE: usize = 4096;
        let pieces = self.seen.chunks(PIECE).zip(self.background.chunks(PIECE));
        for (n, (_, clean)) in pieces.enumerate().filter(|(_, (seen, clean))| seen != clean) {
            let _ = self.mem.write(Gpa((n * PIECE) as u64), clean);
        }
    }
}

/// Lines of differences of one test at most.
const MAX_LINES: usize = 24;

fn line(name: &str, before: u32, want: u32, got: u32, mask: u32) -> String {
    if !name.contains("flags") {
        return format!("{name:<7} was {before:x}, want {want:x}, got {got:x}");
    }
    let names =
        ["cf", "", "pf", "", "af", "", "zf", "sf", "tf", "if", "df", "of", "", "", "nt", "", "rf", "vm"];
    let wrong = |n: &usize| (want ^ got) & mask & 1 << n != 0;
    let list: Vec<_> =
        (0..names.len()).filter(wrong).map(|n| format!("{}={}", names[n], got >> n & 1)).collect();
    format!("{name:<7} was {before:x}, want {want:x}, got {got:x} (wrong: {})", list.join(" "))
}

/// Where FLAGS are pushed, if they are: first on the stack. (The address that a set gives for an exception is one off
/// when the stack is odd.)
fn flags_at(case: &Case) -> u32 {
    case.address(reg::SS, case.before(reg::ESP).wrapping_sub(2))
}

/// Whether the instruction, or an exception, pushes FLAGS as its first word.
fn pushes_flags(case: &Case, code: &[u8]) -> bool {
    case.raised.is_some() || code.iter().any(|b| matches!(b, 0x9c | 0xcc..=0xce))
}

/// The source operand of a bit scan, where it is a register.
fn source_of(insn: &Insn, case: &Case) -> u64 {
    const BY_ENCODING: [usize; 8] = [2, 4, 5, 3, 9, 8, 6, 7];
    match insn.operands[1] {
        Operand::Gpr { reg, size, .. } if reg < 8 => {
            u64::from(case.before(BY_ENCODING[usize::from(reg)]))
                & (u64::MAX >> (64 - 8 * u32::from(size).min(8)))
        }
        _ => 1,
    }
}

/// Control and debug registers hold reserved bits of their own on the 80386; FS and GS are not in older sets.
fn is_compared(recorded: Recorded, n: usize) -> bool {
    let old = !matches!(n, 13 | 14);
    (2..18).contains(&n) && (recorded == Recorded::I80386 || old)
}

fn set_registers(st: &mut CpuState, recorded: Recorded, case: &Case) {
    let by_name = [
        (gpr::RAX, 2),
        (gpr::RBX, 3),
        (gpr::RCX, 4),
        (gpr::RDX, 5),
        (gpr::RSI, 6),
        (gpr::RDI, 7),
        (gpr::RBP, 8),
        (gpr::RSP, 9),
    ];
    for (register, n) in by_name {
        st.set_gpr(register, case.before(n).into());
    }
    // In the order ES CS SS DS FS GS.
    for (segment, n) in [12, 10, 15, 11, 13, 14].into_iter().enumerate() {
        let selector = case.before(n) as u16;
        st.segments[segment] =
            Segment { base: u64::from(selector) << 4, limit: 0xffff, selector, ..st.segments[segment] };
    }
    st.rip = u64::from(case.before(reg::EIP));
    st.cr0 = cr0::ET;
    st.set_rflags(u64::from(case.before(reg::EFLAGS) & flags_that_exist(recorded)));
}

fn registers(st: &CpuState) -> [u32; REGISTERS] {
    let g = |n| st.gpr(n) as u32;
    let s = |n: usize| u32::from(st.segments[n].selector);
    [
        st.cr0 as u32,
        st.cr3 as u32,
        g(gpr::RAX),
        g(gpr::RBX),
        g(gpr::RCX),
        g(gpr::RDX),
        g(gpr::RSI),
        g(gpr::RDI),
        g(gpr::RBP),
        g(gpr::RSP),
        s(1),
        s(3),
        s(0),
        s(4),
        s(5),
        s(2),
        st.rip as u32,
        st.rflags() as u32,
        st.dr[6] as u32,
        st.dr[7] as u32,
    ]
}
