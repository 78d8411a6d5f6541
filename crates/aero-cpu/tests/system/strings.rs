//! String instructions by page runs do what they do element by element, and repeats that overwrite themselves do it
//! however the budget slices them.

use crate::guest::*;
use aero_cpu::state::{eflags, reg};
use aero_mem::Gpa;

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }
}

/// What a repeat begins with.
struct Case {
    code: Vec<u8>,
    gpr: [(u8, u64); 4],
    flags: u64,
    data: Vec<u8>,
}

/// All that a repeat can change.
#[derive(PartialEq, Eq, Debug)]
struct After {
    gpr: Vec<u64>,
    flags: u64,
    retired: u64,
    memory: Vec<u8>,
    end: End,
}

fn play(mode: Mode, case: &Case, budget: u64) -> After {
    let mut g = Guest::new(mode);
    g.write(DATA, &case.data);
    // A page in the middle that cannot be written, so that some repeats fault.
    if mode != Mode::Real && mode != Mode::Protected32 {
        g.set_pte(DATA + 0x3000, (DATA + 0x3000) | 5);
    }
    g.load(&case.code);
    let st = g.st();
    case.gpr.iter().for_each(|(n, value)| st.set_gpr(*n, *value));
    st.set_rflags(case.flags);
    let end = g.go_in_slices(budget);
    let mut memory = vec![0; 0x4000];
    g.mem.read(Gpa(DATA), &mut memory).expect("RAM");
    let retired = g.cpu.core.retired;
    let st = g.st();
    After { gpr: (0..8).map(|n| st.gpr(n)).collect(), flags: st.rflags(), retired, memory, end }
}

fn random_case(rng: &mut Rng, mode: Mode) -> Case {
    let opcode = rng.pick(&[0xa4u8, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf]);
    let mut code = vec![rng.pick(&[0xf3u8, 0xf2])];
    if rng.below(3) == 0 {
        code.push(0x66);
    }
    if mode == Mode::Long && rng.below(3) == 0 {
        code.push(0x48);
    }
    code.push(opcode);
    // Near each other half of the time, so that they overlap; near the ends of pages.
    let edge = rng.below(3) * 0x1000;
    let source = 0x800 + edge + rng.below(0x900);
    let target = if rng.below(2) == 0 { source + rng.below(40) - 20 } else { 0x800 + rng.below(0x2000) };
    // Few values, so that comparisons go on for a while.
    let few = rng.pick(&[1, 2, 256]);
    let data = (0..0x4000).map(|_| (rng.next() >> 20) as u8 % few.min(255) as u8).collect();
    let count = rng.pick(&[0, 1, 3, 40, 300, 700]);
    let base = if mode == Mode::Real { 0 } else { DATA };
    Case {
        code,
        gpr: [
            (reg::RAX, rng.below(2) * 0x0001_0101),
            (reg::RCX, count),
            (reg::RSI, base + source),
            (reg::RDI, base + target),
        ],
        flags: eflags::FIXED | rng.next() & (eflags::DF | eflags::ARITH),
        data,
    }
}

#[test]
fn page_runs_do_what_single_elements_do() {
    let mut rng = Rng(0x2545_f491_4f6c_dd1d);
    for mode in [Mode::Protected32, Mode::Paged32, Mode::Long] {
        for n in 0..150 {
            let case = random_case(&mut rng, mode);
            let (whole, single) = (play(mode, &case, 1 << 20), play(mode, &case, 1));
            assert!(
                whole == single,
                "{mode:?} case {n}: {:02x?} {:x?} flags {:x}\nwhole  {:x?} {:x} {} {:?}\nsingle {:x?} {:x} {} {:?}",
                case.code,
                case.gpr,
                case.flags,
                whole.gpr,
                whole.flags,
                whole.retired,
                whole.end,
                single.gpr,
                single.flags,
                single.retired,
                single.end
            );
        }
    }
}

/// Runs a string instruction in real mode from `ds:si` to `es:di` with every segment at `DATA`.
fn real(code: &[u8], si: u64, di: u64, count: u64, budget: u64) -> (End, [u64; 3], Vec<u8>) {
    let mut g = Guest::new(Mode::Real);
    let data: Vec<u8> = (0..0x1_0000u32).map(|n| ((n * 31) >> 3) as u8).collect();
    g.write(DATA, &data);
    g.load(code);
    let st = g.st();
    for n in [0, 3] {
        st.segments[n] = aero_cpu::state::Segment::real((DATA >> 4) as u16, 0);
    }
    // The upper halves must stay.
    st.set_gpr(reg::RSI, 0x7777_0000 | si);
    st.set_gpr(reg::RDI, 0x6666_0000 | di);
    st.set_gpr(reg::RCX, 0x5555_0000 | count);
    let end = g.go_in_slices(budget);
    let mut memory = vec![0; 0x1_0000];
    g.mem.read(Gpa(DATA), &mut memory).expect("RAM");
    (end, [g.gpr(reg::RSI), g.gpr(reg::RDI), g.gpr(reg::RCX)], memory)
}

#[test]
fn sixteen_bit_indices_wrap_and_keep_their_upper_halves() {
    for budget in [1, 1 << 20] {
        let (end, regs, memory) = real(&[0xf3, 0xa4], 0xfff0, 0x2000, 0x20, budget);
        assert_eq!((end, regs), (End::Halt, [0x7777_0010, 0x6666_2020, 0x5555_0000]));
        let from = |n: u32| (((0xfff0 + n) % 0x1_0000 * 31) >> 3) as u8;
        assert_eq!(memory[0x2000..0x2020].to_vec(), (0..0x20).map(from).collect::<Vec<u8>>());
        // A word at FFFFh lies across the segment's limit.
        let (end, regs, _) = real(&[0xf3, 0xa5], 0xfffb, 0x2000, 8, budget);
        let End::Trap(t) = end else { panic!("no fault") };
        assert_eq!((t.vector, regs), (13, [0x7777_ffff, 0x6666_2004, 0x5555_0006]));
    }
}

#[test]
fn repeat_that_overwrites_itself_runs_its_new_bytes() {
    for mode in [Mode::Protected32, Mode::Long] {
        for budget in [1, 2, 5, 1 << 20] {
            // rep stosb over itself: without its F3 it is a plain STOSB, which takes its own place.
            let mut g = Guest::new(mode);
            let at = CODE + 15;
            let setup = [mov(0, 0x90), mov(7, at as u32), mov(1, 100)].concat();
            g.load(&[&setup[..], &[0xf3, 0xaa], &[0x90; 20]].concat());
            assert_eq!(g.go_in_slices(budget), End::Halt);
            assert_eq!((g.gpr(reg::RCX), g.gpr(reg::RDI)), (99, at + 2), "{mode:?} in slices of {budget}");
            // Only the opcode is overwritten: F3 90 is PAUSE.
            let mut g = Guest::new(mode);
            let setup = [mov(0, 0x90), mov(7, at as u32 + 1), mov(1, 100)].concat();
            g.load(&[&setup[..], &[0xf3, 0xaa], &[0x90; 20]].concat());
            assert_eq!(g.go_in_slices(budget), End::Halt);
            assert_eq!((g.gpr(reg::RCX), g.gpr(reg::RDI)), (99, at + 2), "{mode:?} in slices of {budget}");
        }
    }
}

#[test]
fn address_size_prefix_clears_upper_halves_only_of_what_moves() {
    // addr32 rep movsb, with garbage above.
    let mut g = Guest::new(Mode::Long);
    let set = |g: &mut Guest, count: u64| {
        g.load(&[0x67, 0xf3, 0xa4]);
        g.st().set_gpr(reg::RCX, 0x1_0000_0000 | count);
        g.st().set_gpr(reg::RSI, 0x2_0000_0000 | DATA);
        g.st().set_gpr(reg::RDI, 0x3_0000_0000 | (DATA + 0x100));
    };
    set(&mut g, 2);
    assert_eq!(g.go(), End::Halt);
    assert_eq!((g.gpr(reg::RCX), g.gpr(reg::RSI), g.gpr(reg::RDI)), (0, DATA + 2, DATA + 0x102));
    set(&mut g, 0);
    assert_eq!(g.go(), End::Halt);
    assert_eq!((g.gpr(reg::RCX), g.gpr(reg::RSI)), (0x1_0000_0000, 0x2_0000_0000 | DATA));
}

#[test]
fn device_memory_is_moved_one_element_at_a_time() {
    for mode in [Mode::Protected32, Mode::Paged32] {
        let mut g = Guest::new(mode);
        g.write(DATA, &[1, 2, 3, 4, 5, 6, 7, 8]);
        let setup = [mov(6, DATA as u32), mov(7, 0xa_0ffe), mov(1, 2)].concat();
        g.fine(&[&setup[..], &[0xf3, 0xa5]].concat());
        // The first dword crosses a page: four bytes; the second is one access.
        let written: Vec<(u64, u32)> = g.board.device.iter().map(|(at, len, _)| (*at, *len)).collect();
        assert_eq!(written, [(0xa_0ffe, 1), (0xa_0fff, 1), (0xa_1000, 1), (0xa_1001, 1), (0xa_1002, 4)]);
    }
}

#[test]
fn interrupted_comparison_that_faults_has_the_flags_it_began_with() {
    for budget in [1, 3, 1 << 20] {
        let mut g = Guest::new(Mode::Long);
        g.set_pte(DATA + 0x1000, 0);
        let setup = [mov(6, DATA as u32 + 0xff0), mov(7, DATA as u32 + 0x2000), mov(1, 100)].concat();
        g.load(&[&setup[..], &[0xf3, 0xa6]].concat());
        g.st().set_rflags(eflags::FIXED | eflags::CF | eflags::SF);
        let End::Trap(t) = g.go_in_slices(budget) else { panic!("no fault") };
        assert_eq!((t.vector, t.flags & eflags::ARITH), (14, eflags::CF | eflags::SF));
        assert_eq!(g.gpr(reg::RCX), 84);
    }
}
