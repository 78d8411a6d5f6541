//! Makes a failing case small: takes away what the failure does not need.

use super::case::{Case, FpuImage};

/// The smallest case found for which `fails` still holds.
pub fn shrink(case: &Case, fails: &mut dyn FnMut(&Case) -> bool) -> Case {
    let mut best = case.clone();
    let mut attempt = |best: &mut Case, change: &dyn Fn(&mut Case)| {
        let mut smaller = best.clone();
        change(&mut smaller);
        if fails(&smaller) {
            *best = smaller;
        }
    };
    attempt(&mut best, &|c| c.patches.clear());
    for n in (0..best.patches.len()).rev() {
        attempt(&mut best, &|c| _ = c.patches.remove(n));
    }
    attempt(&mut best, &|c| c.state.fpu = FpuImage::initial());
    let initial = FpuImage::initial();
    for at in (0..best.state.fpu.0.len()).step_by(16) {
        if best.state.fpu.0[at..at + 16] != initial.0[at..at + 16] {
            attempt(&mut best, &|c| c.state.fpu.0[at..at + 16].copy_from_slice(&initial.0[at..at + 16]));
        }
    }
    for n in (0..16).filter(|n| *n != 4) {
        attempt(&mut best, &|c| c.state.gpr[n] = 0);
    }
    // Not TF: what is not single-stepped needs room for the way back behind it.
    for bit in [0, 2, 4, 6, 7, 10, 11] {
        attempt(&mut best, &|c| c.state.rflags &= !(1 << bit));
    }
    best
}
