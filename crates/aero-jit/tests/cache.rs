//! The code cache and the run loop's side of compiled code, with the host in `threaded` in place of an engine.

#[allow(dead_code, reason = "scaffolding for every test of the processor")]
#[path = "../../aero-cpu/tests/guest/mod.rs"]
mod guest;
mod threaded;

use aero_cpu::jit::Tally;
use aero_cpu::state::{eflags, reg};
use aero_cpu::{Cpu, Exit};
use aero_jit::cache::{CodeCache, Limits, Options};
use aero_jit::host::HostError;
use aero_jit::job::{Env, Tier};
use aero_mem::GuestMemory;
use aero_x86::cpuid::MODELS;
use guest::{CODE, DATA, End, Guest, Mode, PAGE_TABLE, TABLES};
use std::rc::Rc;
use threaded::{Control, Threaded};

/// Tests attach their own.
fn prepare(_: &GuestMemory, _: &mut Cpu) {}

const BATCHED: Limits =
    Limits { threshold: 4, regions: 1000, modules: 1000, bytes: 1 << 20, queue: 64, jobs: 1, batch: 4 };

/// A guest whose blocks are compiled when they run for the fourth time.
fn guest(mode: Mode) -> (Guest, Rc<Control>) {
    guest_with(mode, BATCHED)
}

fn guest_with(mode: Mode, limits: Limits) -> (Guest, Rc<Control>) {
    let mut g = Guest::new(mode);
    let control = Rc::new(Control::default());
    let options =
        Options { exact: true, tail_calls: true, model: MODELS.len() as u8 - 1, tier: Tier::Baseline };
    let env = Env::new(g.mem.layout(), 0, options);
    let host = Threaded::new(env, control.clone());
    g.cpu.set_translator(Box::new(CodeCache::new(Box::new(host), env, limits)));
    (g, control)
}

fn tally(g: &Guest) -> Tally {
    g.cpu.translator().expect("attached").tally()
}

fn runs(control: &Control, head: u64) -> u32 {
    control.runs.borrow().get(&head).copied().unwrap_or(0)
}

/// Runs `code` at [`CODE`] for at most `budget` instructions.
fn run(g: &mut Guest, code: &[u8], budget: u64) -> Exit {
    g.write(CODE, code);
    g.st().rip = CODE;
    go_on(g, budget)
}

/// Runs on from where it stands.
fn go_on(g: &mut Guest, budget: u64) -> Exit {
    g.cpu.core.halted = false;
    g.cpu.run(&mut g.mem, &mut g.board, budget)
}

fn rip(g: &Guest) -> u64 {
    g.cpu.state(&g.mem).rip
}

/// `mov ecx, n; L: add [DATA], ecx; sub ecx, edx; jnz L; hlt`, with EDX = 1 and the loop at `CODE + 5`.
fn count_down(n: u32) -> Vec<u8> {
    let mut code = vec![0xb9];
    code.extend(n.to_le_bytes());
    code.extend([0x01, 0x0c, 0x25]);
    code.extend((DATA as u32).to_le_bytes());
    code.extend([0x29, 0xd1, 0x75, 0xf5, 0xf4]);
    code
}

const LOOP: u64 = CODE + 5;

#[test]
fn hot_loop_is_compiled_and_gives_what_the_interpreter_does() {
    let (mut g, control) = guest(Mode::Long);
    g.st().set_gpr(reg::RDX, 1);
    assert_eq!(run(&mut g, &count_down(100), 10_000), Exit::Halted);
    assert_eq!(g.read32(DATA), 5050);
    assert_eq!(runs(&control, LOOP), 96, "four rounds are interpreted, the first in the block before");
    assert_eq!(g.cpu.core.retired, 2 + 300);
    let t = tally(&g);
    assert_eq!((t.requested, t.installed, t.regions, t.modules), (1, 1, 1, 1));
}

#[test]
fn flags_that_compiled_code_left_undone_are_there_when_the_interpreter_looks() {
    let (mut g, _) = guest(Mode::Long);
    g.st().set_gpr(reg::RDX, 1);
    // The loop's flags are pushed by the block after it.
    let mut code = count_down(50);
    code.pop();
    code.extend([0x9c, 0x58, 0xf4]);
    assert_eq!(run(&mut g, &code, 10_000), Exit::Halted);
    assert_eq!(g.gpr(reg::RAX) & eflags::ARITH, eflags::ZF | eflags::PF);
}

#[test]
fn every_budget_ends_compiled_code_to_the_instruction() {
    for budget in 1..200 {
        let (mut g, control) = guest(Mode::Long);
        g.st().set_gpr(reg::RDX, 1);
        assert_eq!(run(&mut g, &count_down(1000), budget), Exit::Budget);
        assert_eq!(g.cpu.core.retired, budget);
        let (rounds, rest) = ((budget - 1) / 3, (budget - 1) % 3);
        assert_eq!(g.gpr(reg::RCX), 1000 - rounds - u64::from(rest == 2));
        assert_eq!(rip(&g), LOOP + [0, 7, 9][rest as usize]);
        assert_eq!(runs(&control, LOOP) > 0, budget > 13, "{budget}");
    }
}

#[test]
fn region_that_leaves_at_its_head_makes_progress_and_is_given_up() {
    let (mut g, control) = guest(Mode::Long);
    g.st().set_gpr(reg::RDX, 1);
    g.st().set_gpr(reg::RBX, 0xa_0000);
    // L: mov eax, [rbx]; sub ecx, edx; jnz L; hlt, where RBX leads to a device.
    let code = [0xb9, 0, 8, 0, 0, 0x8b, 0x03, 0x29, 0xd1, 0x75, 0xfa, 0xf4];
    assert_eq!(run(&mut g, &code, 10_000), Exit::Halted);
    assert_eq!(g.board.device.len(), 2048);
    assert!((512..600).contains(&runs(&control, LOOP)), "{}", runs(&control, LOOP));
    assert_eq!((tally(&g).regions, tally(&g).failed, control.taken.get()), (0, 1, 0));
}

#[test]
fn fault_in_compiled_code_is_that_of_its_instruction() {
    let (mut g, control) = guest(Mode::Long);
    g.st().set_gpr(reg::RDX, 1);
    g.st().set_gpr(reg::RBX, DATA);
    g.write64(PAGE_TABLE + 8 * (DATA / 0x1000 + 2), 0);
    // L: mov [rbx], ecx; add rbx, r8; sub ecx, edx; jnz L
    g.st().set_gpr(8, 256);
    let code = [0xb9, 0x2f, 8, 0, 0, 0x89, 0x0b, 0x4c, 0x01, 0xc3, 0x29, 0xd1, 0x75, 0xf7];
    let end = g.run(&code);
    let End::Trap(trap) = end else { panic!("{end:?}") };
    assert_eq!((trap.vector, trap.ip, trap.error), (14, LOOP, Some(2)));
    assert_eq!(g.cpu.state(&g.mem).cr2, DATA + 0x2000);
    assert_eq!((g.gpr(reg::RBX), g.gpr(reg::RCX)), (DATA + 0x2000, 0x80f));
    assert_eq!(trap.flags & eflags::ARITH, eflags::PF | eflags::AF, "of the subtraction that gave 80Fh");
    assert!(runs(&control, LOOP) > 20);
}

#[test]
fn page_crossing_accesses_of_compiled_code_are_done_without_leaving() {
    let (mut g, control) = guest(Mode::Long);
    g.st().set_gpr(reg::RDX, 1);
    g.st().set_gpr(reg::RBX, DATA + 0xffd);
    g.write32(DATA + 0xffd, 7);
    // L: mov eax, [rbx]; add eax, edx; mov [rbx], eax; sub ecx, edx; jnz L; hlt
    let code = [0xb9, 100, 0, 0, 0, 0x8b, 0x03, 0x01, 0xd0, 0x89, 0x03, 0x29, 0xd1, 0x75, 0xf6, 0xf4];
    assert_eq!(run(&mut g, &code, 10_000), Exit::Halted);
    assert_eq!((g.read32(DATA + 0xffd), runs(&control, LOOP)), (107, 96));
}

#[test]
fn overwritten_code_is_dropped_before_it_runs_again() {
    let (mut g, control) = guest(Mode::Long);
    g.st().set_gpr(reg::RDX, 1);
    assert_eq!(run(&mut g, &count_down(100), 10_000), Exit::Halted);
    // add becomes sub.
    g.write(LOOP, &[0x29]);
    g.st().rip = CODE;
    assert_eq!(go_on(&mut g, 10_000), Exit::Halted);
    assert_eq!(g.read32(DATA), 0);
    assert_eq!((tally(&g).overwritten, tally(&g).installed, tally(&g).regions), (1, 2, 1));
    assert_eq!(control.taken.get(), 1);
}

#[test]
fn code_that_writes_over_its_own_loop_runs_as_written_at_once() {
    let (mut g, _) = guest(Mode::Long);
    g.st().set_gpr(reg::RDX, 1);
    g.st().set_gpr(reg::RBX, LOOP + 5);
    // What is written is the next instruction's opcode: the addition becomes a subtraction.
    let code = [
        0xb9, 20, 0, 0, 0, // mov ecx, 20
        0x01, 0xd0, // L: add eax, edx
        0x40, 0x88, 0x33, // mov [rbx], sil
        0x01, 0xd7, // add edi, edx
        0x29, 0xd1, // sub ecx, edx
        0x75, 0xf5, // jnz L
        0xf4,
    ];
    g.st().set_gpr(reg::RSI, 0x29);
    g.st().set_gpr(reg::RDI, 100);
    assert_eq!(run(&mut g, &code, 10_000), Exit::Halted);
    assert_eq!((g.gpr(reg::RAX), g.gpr(reg::RDI)), (20, 80));
    assert_eq!(g.cpu.core.retired, 2 + 100);
}

#[test]
fn data_beside_code_costs_no_compiling() {
    let (mut g, control) = guest(Mode::Long);
    g.st().set_gpr(reg::RDX, 1);
    // L: add [rbx], edx; sub ecx, edx; jnz L; hlt
    let code = [0xb9, 0, 1, 0, 0, 0x01, 0x13, 0x29, 0xd1, 0x75, 0xfa, 0xf4];
    let mut before = 0;
    for (n, data) in [(1, DATA), (2, CODE + 64), (3, CODE + 32)] {
        g.st().set_gpr(reg::RBX, data);
        assert_eq!(run(&mut g, &code, 10_000), Exit::Halted);
        assert_eq!(g.read32(data), 256);
        // In the same 64 bytes each round leaves, and once more for the block that is decoded anew.
        let range = if n < 3 { 250..256 } else { 250..512 };
        let more = runs(&control, LOOP) - before;
        assert!(range.contains(&more), "{n}: {more} runs");
        before += more;
    }
    // The second is what follows the addition, where the interpreter left off.
    assert_eq!((tally(&g).overwritten, tally(&g).installed), (0, 2));
}

#[test]
fn device_that_writes_over_code_is_noticed_by_the_next_round() {
    let (mut g, _) = guest(Mode::Long);
    g.st().set_gpr(reg::RDX, 1);
    // L: add ebx, edx; mov eax, ecx; out 0x80, al (when ecx is 50: the board writes); sub ecx, edx; jnz L; hlt
    let code = [0xb9, 100, 0, 0, 0, 0x01, 0xd3, 0xe6, 0x80, 0x29, 0xd1, 0x75, 0xf8, 0xf4];
    assert_eq!(run(&mut g, &code, 2 + 4 * 50 - 1), Exit::Budget);
    assert_eq!((g.gpr(reg::RBX), g.gpr(reg::RCX)), (50, 50));
    g.board.dma = Some((LOOP, vec![0x29]));
    assert_eq!(go_on(&mut g, 10_000), Exit::Halted);
    assert_eq!(g.gpr(reg::RBX), 50 + 1 - 49, "one more round begins before the device writes");
}

#[test]
fn page_that_keeps_changing_is_left_to_the_interpreter() {
    let (mut g, control) = guest(Mode::Long);
    g.st().set_gpr(reg::RDX, 1);
    g.write(CODE, &count_down(100));
    for n in 0..20 {
        g.write(LOOP, &[if n % 2 == 0 { 0x29 } else { 0x01 }]);
        g.st().rip = CODE;
        assert_eq!(go_on(&mut g, 10_000), Exit::Halted);
    }
    let t = tally(&g);
    assert_eq!((t.given_up, t.overwritten), (1, t.installed));
    assert!(t.installed < 20, "{t:?}");
    assert_eq!(control.taken.get(), 0);
    let before = runs(&control, LOOP);
    g.st().rip = CODE;
    assert_eq!(go_on(&mut g, 10_000), Exit::Halted);
    assert_eq!(runs(&control, LOOP), before);
}

#[test]
fn code_that_changes_while_it_is_compiled_is_not_installed() {
    let (mut g, control) = guest(Mode::Long);
    control.hold.set(true);
    g.st().set_gpr(reg::RDX, 1);
    assert_eq!(run(&mut g, &count_down(100), 10_000), Exit::Halted);
    g.write(LOOP, &[0x29]);
    control.hold.set(false);
    g.st().rip = CODE;
    assert_eq!(go_on(&mut g, 10_000), Exit::Halted);
    assert_eq!(g.read32(DATA), 0);
    assert_eq!((tally(&g).outdated, tally(&g).installed), (1, 1));
}

#[test]
fn interpreter_goes_on_while_code_is_compiled() {
    let (mut g, control) = guest(Mode::Long);
    control.hold.set(true);
    g.st().set_gpr(reg::RDX, 1);
    assert_eq!(run(&mut g, &count_down(1000), 1500), Exit::Budget);
    assert_eq!((runs(&control, LOOP), g.cpu.core.retired), (0, 1500));
    control.hold.set(false);
    assert_eq!(go_on(&mut g, 10_000), Exit::Halted);
    assert!(runs(&control, LOOP) > 400);
    assert_eq!(g.read32(DATA), 500_500);
}

/// Two address spaces: in the second, linear page `page` leads to the physical page `to`.
fn second_space(g: &mut Guest, page: u64, to: u64) -> u64 {
    const COPY: u64 = 0x4_0000;
    for table in 0..4 {
        let mut bytes = [0; 4096];
        g.mem.read(aero_mem::Gpa(TABLES + table * 0x1000), &mut bytes).expect("RAM");
        g.write(COPY + table * 0x1000, &bytes);
    }
    (0..3).for_each(|n| g.write64(COPY + n * 0x1000, (COPY + (n + 1) * 0x1000) | 7));
    g.write64(COPY + 0x3000 + page / 0x1000 * 8, to | 7);
    COPY
}

#[test]
fn same_address_in_another_space_runs_that_spaces_code() {
    let (mut g, control) = guest(Mode::Long);
    let other = second_space(&mut g, CODE, 0x5_0000);
    g.st().set_gpr(reg::RDX, 1);
    let mut code = count_down(100);
    code[5] = 0x29;
    g.write(0x5_0000, &code);
    assert_eq!(run(&mut g, &count_down(100), 10_000), Exit::Halted);
    assert_eq!(g.read32(DATA), 5050);
    let st = g.st();
    (st.cr3, st.rip) = (other, CODE);
    assert_eq!(go_on(&mut g, 10_000), Exit::Halted);
    assert_eq!((g.read32(DATA), tally(&g).installed), (0, 2));
    assert_eq!(runs(&control, LOOP), 192);
    // Back again, nothing is compiled anew.
    let st = g.st();
    (st.cr3, st.rip) = (TABLES, CODE);
    assert_eq!(go_on(&mut g, 10_000), Exit::Halted);
    assert_eq!((g.read32(DATA), tally(&g).installed), (5050, 2));
}

#[test]
fn guest_that_loads_cr3_in_its_loop_runs_what_the_new_tables_say() {
    let (mut g, control) = guest(Mode::Long);
    let other = second_space(&mut g, CODE, 0x5_0000);
    g.st().set_gpr(reg::RDX, 1);
    g.st().set_gpr(reg::RSI, TABLES);
    g.st().set_gpr(reg::RDI, other);
    // L: mov cr3, rdi; xchg rsi, rdi; add ebx, edx (sub in the other space); sub ecx, edx; jnz L; hlt
    let mut code = vec![
        0xb9, 100, 0, 0, 0, 0x0f, 0x22, 0xdf, 0x48, 0x87, 0xf7, 0x01, 0xd3, 0x29, 0xd1, 0x75, 0xf4, 0xf4,
    ];
    g.write(CODE, &code);
    code[11] = 0x29;
    g.write(0x5_0000, &code);
    g.st().rip = CODE;
    assert_eq!(go_on(&mut g, 10_000), Exit::Halted);
    assert_eq!(g.gpr(reg::RBX), 0, "each space has every other round");
    assert_eq!(g.cpu.core.retired, 2 + 500);
    assert!(runs(&control, LOOP) > 80, "{} {:?}", runs(&control, LOOP), tally(&g));
}

/// A loop that begins 8 bytes before the end of `CODE`'s page and ends on the next.
fn crossing() -> (u64, Vec<u8>) {
    // L: nop; nop; nop; nop; add ebx, edx; nop; nop | add eax, edx; sub ecx, edx; jnz L; hlt
    let code = vec![0x90, 0x90, 0x90, 0x90, 0x01, 0xd3, 0x90, 0x90, 0x01, 0xd0, 0x29, 0xd1, 0x75, 0xf2, 0xf4];
    (CODE + 0xff8, code)
}

#[test]
fn region_is_not_entered_where_its_second_page_is_another() {
    let (mut g, control) = guest(Mode::Long);
    let other = second_space(&mut g, CODE + 0x1000, 0x5_0000);
    let (at, code) = crossing();
    g.write(at, &code);
    let mut tail = code[8..].to_vec();
    tail[0] = 0x29;
    g.write(0x5_0000, &tail);
    let st = g.st();
    (st.rip, st.cr3) = (at, TABLES);
    st.set_gpr(reg::RDX, 1);
    st.set_gpr(reg::RCX, 50);
    assert_eq!(go_on(&mut g, 10_000), Exit::Halted);
    assert_eq!((g.gpr(reg::RAX), g.gpr(reg::RBX)), (50, 50));
    assert!(runs(&control, at) > 40);
    let st = g.st();
    (st.rip, st.cr3) = (at, other);
    st.set_gpr(reg::RCX, 50);
    assert_eq!(go_on(&mut g, 10_000), Exit::Halted);
    assert_eq!((g.gpr(reg::RAX), g.gpr(reg::RBX)), (0, 100));
    assert!(tally(&g).misfits > 0);
}

#[test]
fn region_that_never_fits_any_more_is_compiled_anew() {
    let (mut g, _) = guest(Mode::Long);
    let other = second_space(&mut g, CODE + 0x1000, 0x5_0000);
    let (at, code) = crossing();
    g.write(at, &code);
    g.write(0x5_0000, &code[8..]);
    let st = g.st();
    (st.rip, st.cr3) = (at, TABLES);
    st.set_gpr(reg::RDX, 1);
    st.set_gpr(reg::RCX, 50);
    assert_eq!(go_on(&mut g, 10_000), Exit::Halted);
    let st = g.st();
    (st.rip, st.cr3) = (at, other);
    st.set_gpr(reg::RCX, 10_000);
    assert_eq!(go_on(&mut g, 1_000_000), Exit::Halted);
    assert_eq!(
        (tally(&g).misfits, tally(&g).installed, tally(&g).regions),
        (64, 3, 2),
        "the block on the second page is a head too"
    );
}

#[test]
fn compiled_code_sets_no_accessed_bit_that_the_interpreter_would_not() {
    let (mut g, _) = guest(Mode::Long);
    g.st().set_gpr(reg::RDX, 1);
    assert_eq!(run(&mut g, &count_down(100), 10_000), Exit::Halted);
    let accessed = |g: &Guest, at: u64| g.read32(PAGE_TABLE + at / 0x1000 * 8) >> 5 & 1;
    assert_eq!(accessed(&g, CODE), 1);
    assert_eq!([CODE - 0x1000, CODE + 0x1000, CODE + 0x2000].map(|at| accessed(&g, at)), [0; 3]);
}

#[test]
fn flushed_page_is_looked_up_before_its_code_runs_again() {
    let (mut g, control) = guest(Mode::Long);
    g.st().set_gpr(reg::RDX, 1);
    let function = 0x1_2000u64;
    // The function: add ebx, edx; jmp back. Its other version subtracts, on another physical page.
    let back = CODE + 10;
    let jump = |from: u64, to: u64| ((to.wrapping_sub(from + 5)) as u32).to_le_bytes();
    for (page, op) in [(function, 0x01), (0x5_0000, 0x29)] {
        let mut body = vec![op, 0xd3, 0xe9];
        body.extend(jump(function + 2, back));
        g.write(page, &body);
    }
    // L: jmp function; back: mov [rsi], rdi (the page's entry); invlpg [r8]; sub ecx, edx; jnz L; hlt
    let mut code = vec![0xb9, 40, 0, 0, 0, 0xe9];
    code.extend(jump(LOOP, function));
    code.extend([0x48, 0x89, 0x3e, 0x41, 0x0f, 0x01, 0x38, 0x29, 0xd1, 0x75, 0xee, 0xf4]);
    let st = g.st();
    st.set_gpr(reg::RSI, PAGE_TABLE + function / 0x1000 * 8);
    st.set_gpr(reg::RDI, function | 7);
    st.set_gpr(8, function);
    assert_eq!(run(&mut g, &code, 3 * 40 * 2 / 2), Exit::Budget);
    let so_far = g.gpr(reg::RBX);
    assert!(so_far > 10 && runs(&control, function) > 5);
    g.cpu.state_mut(&mut g.mem).set_gpr(reg::RDI, 0x5_0000 | 7);
    assert_eq!(go_on(&mut g, 10_000), Exit::Halted);
    let one_more = i64::from(so_far as i32) - (40 - so_far as i64);
    let off = g.gpr(reg::RBX) as i32 as i64 - one_more;
    assert!(off == 0 || off == 2, "{off}: at most the round under way is of the old page");
}

#[test]
fn same_code_is_compiled_for_each_privilege() {
    let (mut g, _) = guest(Mode::Long);
    g.st().set_gpr(reg::RDX, 1);
    assert_eq!(run(&mut g, &count_down(100), 10_000), Exit::Halted);
    g.enter_user(0);
    g.st().set_gpr(reg::RDX, 1);
    // HLT faults at CPL 3.
    g.write64(DATA, 0);
    let end = g.run(&count_down(100));
    assert!(matches!(end, End::Trap(trap) if trap.vector == 13), "{end:?}");
    assert_eq!((g.read32(DATA), tally(&g).installed), (5050, 2));
}

#[test]
fn heads_that_wait_are_compiled_together() {
    let (mut g, control) = guest(Mode::Long);
    control.hold.set(true);
    g.st().set_gpr(reg::RDX, 1);
    // Nine loops of eight rounds, one after the other.
    let mut code = Vec::new();
    for _ in 0..9 {
        code.extend([0xb9, 8, 0, 0, 0, 0x01, 0xd3, 0x29, 0xd1, 0x75, 0xfa]);
    }
    code.push(0xf4);
    assert_eq!(run(&mut g, &code, 10_000), Exit::Halted);
    assert_eq!(*control.jobs.borrow(), [1], "the first alone, since there was nothing to do");
    control.hold.set(false);
    assert_eq!(run(&mut g, &code, 10_000), Exit::Halted);
    assert_eq!(*control.jobs.borrow(), [1, 4, 4]);
    assert_eq!((tally(&g).installed, g.gpr(reg::RBX)), (9, 144));
}

#[test]
fn regions_that_were_not_used_for_longest_make_room() {
    let (mut g, control) = guest_with(Mode::Long, Limits { regions: 8, ..BATCHED });
    g.st().set_gpr(reg::RDX, 1);
    let round = [0xb9, 8, 0, 0, 0, 0x01, 0xd3, 0x29, 0xd1, 0x75, 0xfa];
    let mut code: Vec<u8> = round.iter().copied().cycle().take(round.len() * 9).collect();
    code.push(0xf4);
    assert_eq!(run(&mut g, &code, 10_000), Exit::Halted);
    let t = tally(&g);
    assert_eq!((t.installed, t.evicted, t.regions), (9, 3, 6));
    assert_eq!(control.taken.get(), 6);
    // The last ones are still there, and the first is made again.
    let again = CODE + 8 * 11;
    let before = runs(&control, again + 5);
    g.st().rip = again;
    assert_eq!(go_on(&mut g, 10_000), Exit::Halted);
    assert!(runs(&control, again + 5) > before, "{before} {:?} {:?}", control.runs.borrow(), tally(&g));
    assert_eq!(tally(&g).installed, 9);
}

#[test]
fn host_that_is_full_gets_room_and_the_head_another_try() {
    let (mut g, control) = guest(Mode::Long);
    g.st().set_gpr(reg::RDX, 1);
    assert_eq!(run(&mut g, &count_down(100), 10_000), Exit::Halted);
    control.errors.borrow_mut().push_back(HostError::Full);
    let at = CODE + 0x100;
    g.write(at, &count_down(100));
    g.st().rip = at;
    assert_eq!(go_on(&mut g, 10_000), Exit::Halted);
    let t = tally(&g);
    assert_eq!((t.evicted, t.installed, t.failed, t.regions), (1, 2, 0, 1));
}

#[test]
fn batch_that_is_refused_is_tried_one_by_one_and_only_the_culprit_fails() {
    let (mut g, control) = guest(Mode::Long);
    control.hold.set(true);
    g.st().set_gpr(reg::RDX, 1);
    let round = [0xb9, 8, 0, 0, 0, 0x01, 0xd3, 0x29, 0xd1, 0x75, 0xfa];
    let mut code: Vec<u8> = round.iter().copied().cycle().take(round.len() * 5).collect();
    code.push(0xf4);
    assert_eq!(run(&mut g, &code, 10_000), Exit::Halted);
    let refused = || HostError::Refused("no".into());
    control.errors.borrow_mut().extend([refused(), refused()]);
    control.hold.set(false);
    for _ in 0..2 {
        g.st().rip = CODE;
        assert_eq!(go_on(&mut g, 10_000), Exit::Halted);
    }
    assert_eq!(*control.jobs.borrow(), [1, 4, 1, 1, 1, 1]);
    assert_eq!((tally(&g).installed, tally(&g).failed), (4, 1));
}

#[test]
fn reset_machine_has_no_compiled_code() {
    let (mut g, control) = guest(Mode::Long);
    g.st().set_gpr(reg::RDX, 1);
    assert_eq!(run(&mut g, &count_down(100), 10_000), Exit::Halted);
    g.cpu.reset(&mut g.mem);
    assert_eq!((tally(&g).regions, control.taken.get()), (0, 0));
}

#[test]
fn repeat_in_compiled_code_ends_with_the_budget() {
    for budget in [50, 51, 52, 60, 61, 70, 150, 151, 152, 153] {
        let mut states = Vec::new();
        for threshold in [1, u32::MAX] {
            let (mut g, _) = guest_with(Mode::Long, Limits { threshold, ..BATCHED });
            let st = g.st();
            st.set_gpr(reg::RDX, 1);
            st.set_gpr(reg::RDI, DATA);
            // L: mov ecx, 30; rep stosb; add ebx, edx; add ebx, edx; cmp ebx, r8d; jnz L; hlt
            st.set_gpr(8, 8);
            let code =
                [0xb9, 30, 0, 0, 0, 0xf3, 0xaa, 0x01, 0xd3, 0x01, 0xd3, 0x44, 0x39, 0xc3, 0x75, 0xf0, 0xf4];
            let exit = run(&mut g, &code, budget);
            let st = g.cpu.state(&g.mem);
            let gprs: Vec<u64> = (0..16).map(|n| st.gpr(n)).collect();
            states.push((exit, gprs, st.rip, st.rflags(), g.cpu.core.retired));
        }
        assert_eq!(states[0], states[1], "{budget}");
    }
}
