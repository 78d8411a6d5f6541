//! Types text on the keyboard, a key at a time.

use crate::layout::Dev;
use aero_bus::{Cx, Fabric, TimerId};
use aero_devices_input::i8042::I8042;
use aero_devices_input::scancodes::keys_for_char;
use aero_mem::GuestMemory;
use std::collections::VecDeque;

/// Virtual time between two key events: about the pace at which a guest's keyboard driver still keeps up.
const PACE_NS: u64 = 10_000_000;

/// Key events waiting to be typed.
#[derive(Default)]
pub(crate) struct Typist {
    queue: VecDeque<(&'static str, bool)>,
}

impl Typist {
    /// Queues the keys that type `text`; characters that a US keyboard does not have are left out.
    pub fn queue(&mut self, fabric: &mut Fabric, text: &str) {
        const SHIFT: &str = "ShiftLeft";
        for (code, shift) in text.chars().filter_map(keys_for_char) {
            let keys = [(code, true), (code, false)];
            if shift {
                self.queue.push_back((SHIFT, true));
                self.queue.extend(keys);
                self.queue.push_back((SHIFT, false));
            } else {
                self.queue.extend(keys);
            }
        }
        self.arm(fabric);
    }

    fn arm(&self, fabric: &mut Fabric) {
        let armed = fabric.timers.deadline_of(Dev::Typist.id(), TimerId(0)).is_some();
        if !armed && !self.queue.is_empty() {
            let at = fabric.now().after(PACE_NS);
            fabric.timers.arm(Dev::Typist.id(), TimerId(0), at);
        }
    }

    /// The next key, unless the guest has not yet taken the one before.
    pub fn press_next(&mut self, fabric: &mut Fabric, mem: &mut GuestMemory, keyboard: &mut I8042) {
        if keyboard.keyboard_idle()
            && let Some((code, pressed)) = self.queue.pop_front()
        {
            keyboard.key(&mut Cx::new(fabric, mem, Dev::I8042.id()), code, pressed);
        }
        self.arm(fabric);
    }
}
