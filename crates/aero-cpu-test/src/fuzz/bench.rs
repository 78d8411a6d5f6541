//! One case on both sides.

use super::case::{Case, Outcome, State};
use super::compare::{self, Difference};
use super::layout;
use super::native::Native;
use super::ours::Ours;
use crate::processor::Maker;

/// Both processors with their memory in the background pattern.
pub struct Bench {
    native: Native,
    ours: Ours,
    background: [[u8; 0x1000]; 4],
    /// After the last case.
    pub native_end: (Outcome, State),
    /// After the last case.
    pub our_end: (Outcome, State),
}

impl Bench {
    /// Takes the process over for native execution.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn new(maker: Maker) -> anyhow::Result<Self> {
        // An engine for compiled code catches signals too. Those of native code must not come to it, with the segment
        // registers of a case: the last to ask for them gets them.
        let ours = Ours::new(maker)?;
        let end = || (Outcome::Done, State::zero(super::case::Mode::B64));
        Ok(Self {
            native: Native::new()?,
            ours,
            background: layout::WRITABLE.map(layout::background),
            native_end: end(),
            our_end: end(),
        })
    }

    /// Instructions that ran compiled on our side.
    pub fn compiled(&self) -> u64 {
        self.ours.compiled()
    }

    /// Runs `case` on both and adds what differs to `into`.
    pub fn run(&mut self, case: &Case, into: &mut Vec<Difference>) {
        for patch in &case.patches {
            let (page, at) = (patch.at & !0xfff, patch.at as usize & 0xfff);
            self.native.page_mut(page)[at..at + patch.bytes.len()].copy_from_slice(&patch.bytes);
            self.ours.write(patch.at, &patch.bytes);
        }
        self.our_end.1.fpu = case.state.fpu;
        self.our_end.0 = self.ours.run(case, &mut self.our_end.1);
        self.native_end.0 = self.native.run(case, &mut self.native_end.1);
        compare::registers(
            case,
            (self.native_end.0, &self.native_end.1),
            (self.our_end.0, &self.our_end.1),
            into,
        );
        for (page, background) in layout::WRITABLE.into_iter().zip(&self.background) {
            let native = self.native.page_mut(page);
            let mut ours = [0; 0x1000];
            self.ours.page(page, &mut ours);
            let same = *native == ours;
            if !same {
                compare::memory(page, native, &ours, into);
            }
            // Nearly every case leaves most pages alone.
            if !same || native != background {
                *native = *background;
                self.ours.set_page(page, background);
            }
        }
    }
}
