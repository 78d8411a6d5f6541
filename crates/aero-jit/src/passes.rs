//! Passes that make a region smaller and keep what it does. Each is one walk over each block.

pub mod dead;
pub mod simplify;

use crate::ir::{Inst, Var};

/// How many variables there are.
const VARS: usize = 54;

/// The variables that describe the flags, a bit each by [`number`].
const FLAG_VARS: u64 = 0x3f << 32;

/// A variable's number, below [`VARS`].
fn number(var: Var) -> usize {
    match var {
        Var::Gpr(n) => usize::from(n & 15),
        Var::Xmm(n) => 16 + usize::from(n & 15),
        Var::FlagKind => 32,
        Var::FlagA => 33,
        Var::FlagB => 34,
        Var::CarryKind => 35,
        Var::CarryA => 36,
        Var::CarryB => 37,
        Var::Fp(n) => 38 + usize::from(n & 7),
        Var::FpStack => 46,
        Var::FpBase => 47,
        Var::FpA => 48,
        Var::FpB => 49,
        Var::FpCode => 50,
        Var::FpIp => 51,
        Var::FpDp => 52,
        Var::FpDs => 53,
    }
}

/// Whether an instruction reads or writes the variables that describe the flags without naming them.
fn touches_flags(inst: &Inst) -> bool {
    matches!(
        inst,
        Inst::Flags { .. }
            | Inst::FlagsIf { .. }
            | Inst::Carry(_)
            | Inst::CarryOverflow(_)
            | Inst::Settle
            | Inst::Condition(_)
            | Inst::Exec { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::{Exit, Flat, Guest, Outcome, evaluate};
    use crate::flags;
    use crate::ir::{BlockId, Region, Var};
    use crate::random::Random;
    use crate::verify::verify;
    use aero_cpu::jit::{FlagKind, Lazy};
    use aero_cpu::state::{CpuState, Flags};

    /// A guest and a world with something in them.
    fn start(random: &mut Random, region: &Region) -> (Guest, Flat) {
        let mut guest = Guest::new(region.word, 0x40_0000);
        for n in 0..16 {
            let wide = random.number();
            guest.set(
                Var::Gpr(n),
                guest.truncate(if random.one_in(3) { random.below(0x8000) } else { wide }).into(),
            );
            guest.set(Var::Xmm(n), u128::from(random.number()) << 64 | u128::from(random.number()));
        }
        guest.stored = Flags::from_bits(random.bits());
        let (a, b) = (u64::from(random.number() as u8), u64::from(random.number() as u8));
        if random.one_in(2) {
            guest.lazy = Lazy { kind: FlagKind::SUB.sized(1), a, b, ..Lazy::default() };
        }
        let mut world = Flat::new(8, size_of::<CpuState>());
        let fill = random.bits();
        world
            .memory
            .iter_mut()
            .enumerate()
            .for_each(|(n, byte)| *byte = (n as u64 ^ fill).count_ones() as u8 ^ n as u8);
        world.missing.insert(random.below(8));
        world.code.insert(random.below(8));
        world.stops = random.bits() & random.bits() & random.bits();
        (guest, world)
    }

    /// How it is left, with what registers, flags and memory.
    fn observed(region: &Region, guest: &Guest, world: &Flat) -> (Outcome, [u64; 16], [u128; 16], u64, Flat) {
        let (mut guest, mut world) = (guest.clone(), world.clone());
        let outcome = evaluate(region, BlockId(0), 20, &mut guest, &mut world);
        // Flags that nobody sees any more may be gone where the evaluator stops, which no region does.
        let flags = if matches!(outcome.exit, Exit::Unfinished(_)) { 0 } else { guest.flags().bits() };
        (outcome, guest.gprs, guest.xmms, flags, world)
    }

    /// Runs random regions before and after a pass; how many instructions there were, and are.
    fn check(flag_vars: bool, pass: impl Fn(&mut Region)) -> (usize, usize) {
        let mut sizes = (0, 0);
        for seed in 0..3000 {
            let mut random = Random::new(seed);
            random.flag_vars = flag_vars;
            let before = random.region();
            let mut after = before.clone();
            pass(&mut after);
            verify(&after).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{before}\n{after}"));
            for _ in 0..4 {
                let (guest, world) = start(&mut random, &before);
                let (want, got) = (observed(&before, &guest, &world), observed(&after, &guest, &world));
                assert!(
                    want == got,
                    "seed {seed}:\n{before}\n{after}\n{:?}\n{:?}\n{guest:x?}",
                    want.0,
                    got.0
                );
            }
            let size = |region: &Region| region.blocks.iter().map(|b| b.insts.len()).sum::<usize>();
            sizes = (sizes.0 + size(&before), sizes.1 + size(&after));
        }
        sizes
    }

    #[test]
    fn simplified_region_does_the_same() {
        check(true, simplify::run);
    }

    #[test]
    fn region_without_dead_code_does_the_same() {
        check(true, dead::run);
    }

    #[test]
    fn lowered_flags_are_the_same() {
        check(false, flags::run);
    }

    #[test]
    fn all_passes_together_do_the_same_in_less() {
        let (before, after) = check(false, |region| {
            simplify::run(region);
            flags::run(region);
            simplify::run(region);
            dead::run(region);
            simplify::run(region);
        });
        assert!(after < before, "{before} instructions became {after}");
    }

    #[test]
    fn second_run_changes_nothing() {
        for seed in 0..1000 {
            let mut once = Random::new(seed).region();
            simplify::run(&mut once);
            dead::run(&mut once);
            simplify::run(&mut once);
            let mut twice = once.clone();
            simplify::run(&mut twice);
            assert_eq!(once.to_string(), twice.to_string(), "seed {seed}");
        }
    }
}
