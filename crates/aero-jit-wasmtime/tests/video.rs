//! Video memory under interpreted and under compiled code: written pages are known, however often they were drawn, and
//! a frame buffer that moves is followed.

use aero_cpu::state::{Segment, cr0, seg};
use aero_cpu::{Cpu, CpuConfig, Exit, NoDevices};
use aero_jit::cache::{CodeCache, Limits, Options};
use aero_jit::job::{Env, Tier};
use aero_jit_wasmtime::Wasmtime;
use aero_mem::{Gpa, GuestMemory};
use aero_x86::cpuid::{MAX, MODELS};
use std::time::Instant;

const RAM: u64 = 16 << 20;
const VIDEO: u64 = 16 << 20;
const CODE: u64 = 0x1000;
const FRAME_BUFFER: u64 = 0xe000_0000;

/// Stores EAX in ECX dwords from EDI on, and halts.
const FILL: [u8; 9] = [0x89, 0x07, 0x83, 0xc7, 0x04, 0x49, 0x75, 0xf8, 0xf4];
/// REP STOSD, and halts.
const FILL_BY_STRING: [u8; 3] = [0xf3, 0xab, 0xf4];

/// A processor in flat protected mode.
struct Rig {
    mem: GuestMemory,
    cpu: Cpu,
}

impl Rig {
    fn interpreting() -> Self {
        let mut mem = GuestMemory::with_video(RAM, 1, &[], VIDEO).expect("memory");
        let cpu = Cpu::new(&mut mem, 0, CpuConfig::of(&MAX));
        Self::ready(mem, cpu)
    }

    fn compiling() -> Self {
        let bytes = GuestMemory::arena_bytes_with_video(RAM, 1, 0, VIDEO);
        let (host, arena) = Wasmtime::synchronous(Tier::Optimizing, bytes).expect("wasmtime");
        let mut mem = GuestMemory::lent_with_video(arena, RAM, 1, &[], VIDEO).expect("memory");
        let mut cpu = Cpu::new(&mut mem, 0, CpuConfig::of(&MAX));
        let model = MODELS.iter().position(|m| m.name == MAX.name).expect("a model") as u8;
        let options = Options { exact: false, tail_calls: true, model, tier: Tier::Optimizing };
        let env = Env::new(mem.layout(), 0, options);
        let limits = Limits { threshold: 1, ..Limits::default() };
        cpu.set_translator(Box::new(CodeCache::new(Box::new(host), env, limits)));
        Self::ready(mem, cpu)
    }

    fn ready(mut mem: GuestMemory, cpu: Cpu) -> Self {
        mem.map_frame_buffer(Some(FRAME_BUFFER));
        mem.take_dirty_video(|_| {});
        Self { mem, cpu }
    }

    /// Fills `dwords` from `at` on.
    fn fill(&mut self, code: &[u8], at: u64, dwords: u64, value: u32) {
        self.cpu.reset(&mut self.mem);
        self.mem.write(Gpa(CODE), code).expect("RAM");
        let st = self.cpu.state_mut(&mut self.mem);
        st.cr0 = cr0::PE | cr0::ET;
        for n in 0..6 {
            let kind = if n == usize::from(seg::CS) { 0x9b } else { 0x93 };
            let attributes = kind | Segment::BIG | Segment::GRANULAR;
            st.segments[n] = Segment { base: 0, limit: u32::MAX, attributes, selector: 8 };
        }
        [(0, value.into()), (1, dwords), (7, at)].into_iter().for_each(|(n, v)| st.set_gpr(n, v));
        st.rip = CODE;
        while self.cpu.run(&mut self.mem, &mut NoDevices, 10_000_000) == Exit::Budget {}
        assert_eq!(self.cpu.state(&self.mem).gpr(1), 0, "it ran to its end");
    }

    fn taken(&mut self) -> Vec<usize> {
        let mut pages = Vec::new();
        self.mem.take_dirty_video(|page| pages.push(page));
        pages
    }
}

#[test]
fn pages_written_after_they_were_taken_are_taken_again() {
    for (mut rig, compiles) in [(Rig::interpreting(), false), (Rig::compiling(), true)] {
        for code in [&FILL[..], &FILL_BY_STRING] {
            for round in 1..=4 {
                rig.fill(code, FRAME_BUFFER + 0x3000, 3 * 1024, round);
                assert_eq!(rig.taken(), [3, 4, 5], "round {round}, compiled: {compiles}");
                assert_eq!(
                    [0x2ffc, 0x3000, 0x5ffc, 0x6000].map(|at| rig.mem.video_dword(at)),
                    [0, round, round, 0]
                );
            }
        }
        let installed = rig.cpu.translator().map_or(0, |t| t.tally().installed);
        assert_eq!(installed > 0, compiles, "{installed} regions");
    }
}

#[test]
fn frame_buffer_that_moved_is_not_written_at_its_old_place() {
    const ELSEWHERE: u64 = 0xd000_0000;
    for mut rig in [Rig::interpreting(), Rig::compiling()] {
        rig.fill(&FILL, FRAME_BUFFER, 4096, 1);
        rig.mem.map_frame_buffer(Some(ELSEWHERE));
        rig.fill(&FILL, FRAME_BUFFER, 4096, 2);
        assert_eq!(rig.mem.video_dword(0x1000), 1);
        rig.fill(&FILL, ELSEWHERE, 4096, 3);
        assert_eq!(rig.mem.video_dword(0x1000), 3);
    }
}

/// What drawing costs beside writing to RAM: 1024×768 pixels of 32 bits, each picture taken as a drawing does.
#[test]
#[ignore = "a measurement"]
fn speed_of_drawing() {
    const DWORDS: u64 = 1024 * 768;
    for (name, mut rig) in [("interpreted", Rig::interpreting()), ("compiled", Rig::compiling())] {
        for (kind, code) in [("loop", &FILL[..]), ("rep stosd", &FILL_BY_STRING)] {
            for (place, at) in [("RAM", 0x10_0000), ("frame buffer", FRAME_BUFFER)] {
                rig.fill(code, at, DWORDS, 0);
                let (start, rounds) = (Instant::now(), 40);
                for round in 0..rounds {
                    rig.fill(code, at, DWORDS, round);
                    rig.taken();
                }
                let each = start.elapsed() / rounds;
                println!("{name}, {kind}, {place}: {each:?} a picture");
            }
        }
    }
}
