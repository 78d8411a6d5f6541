//! A PS/2 keyboard with 101 keys and more, in scan code sets 1 and 2.
//!
//! Answers to commands come before key codes that wait. A key's bytes enter the queue together or not at all;
//! when there is no room, one overrun code tells the guest that it has lost keys. Releases get a reserve of
//! room, so that a guest which was slow for a while does not see a key held down for ever. Repeating a held
//! key is the host's doing: it reports the key as pressed again. (IBM PS/2 Hardware Interface Technical
//! Reference, "Keyboards (101- and 102-key)", commands from the system.)

use crate::scancodes;
use std::collections::VecDeque;

/// Command and answer bytes.
mod spec {
    pub const SET_LEDS: u8 = 0xed;
    pub const ECHO: u8 = 0xee;
    pub const SCAN_CODE_SET: u8 = 0xf0;
    pub const READ_ID: u8 = 0xf2;
    pub const SET_RATE: u8 = 0xf3;
    pub const ENABLE: u8 = 0xf4;
    pub const DISABLE: u8 = 0xf5;
    pub const DEFAULTS: u8 = 0xf6;
    /// F7h–FAh set how the keys of set 3 behave: accepted, since there is no set 3.
    pub const ALL_KEYS_FIRST: u8 = 0xf7;
    pub const ALL_KEYS_LAST: u8 = 0xfa;
    pub const RESEND: u8 = 0xfe;
    pub const RESET: u8 = 0xff;

    pub const ACK: u8 = 0xfa;
    pub const SELF_TEST_PASSED: u8 = 0xaa;
    pub const ID: [u8; 2] = [0xab, 0x83];
    pub const OVERRUN_SET1: u8 = 0xff;
    pub const OVERRUN_SET2: u8 = 0x00;

    /// 10.9 characters a second after half a second.
    pub const DEFAULT_RATE: u8 = 0x2b;
    /// Bytes of key codes that wait before presses are lost, and before releases are.
    pub const ROOM_FOR_PRESSES: usize = 96;
    pub const ROOM_FOR_RELEASES: usize = 160;
    /// Answers that a guest may leave unread.
    pub const ROOM_FOR_ANSWERS: usize = 16;
}

use spec::*;

/// The keyboard.
#[derive(Clone, Debug)]
pub struct Keyboard {
    set: u8,
    scanning: bool,
    leds: u8,
    rate: u8,
    awaiting: Option<u8>,
    answers: VecDeque<u8>,
    codes: VecDeque<u8>,
    last: u8,
}

impl Default for Keyboard {
    fn default() -> Self {
        Self::new()
    }
}

impl Keyboard {
    /// A keyboard that has passed its self test and scans in set 2.
    pub fn new() -> Self {
        Self {
            set: 2,
            scanning: true,
            leds: 0,
            rate: DEFAULT_RATE,
            awaiting: None,
            answers: VecDeque::new(),
            codes: VecDeque::new(),
            last: 0,
        }
    }

    /// The lamps that the guest has lit: bit 0 Scroll Lock, 1 Num Lock, 2 Caps Lock.
    pub fn leds(&self) -> u8 {
        self.leds
    }

    /// Whether key codes would be sent, and none wait.
    pub fn is_idle(&self) -> bool {
        self.scanning && self.answers.is_empty() && self.codes.is_empty()
    }

    /// The key named `code` goes down or up. A name that no key has is ignored.
    pub fn key(&mut self, code: &str, pressed: bool) {
        let Some(set2) = scancodes::set2(code, pressed).filter(|_| self.scanning) else { return };
        let bytes = if self.set == 1 { scancodes::set1(&set2) } else { set2 };
        let room = if pressed { ROOM_FOR_PRESSES } else { ROOM_FOR_RELEASES };
        if self.codes.len() + bytes.len() <= room {
            self.codes.extend(bytes);
        } else {
            self.overrun();
        }
    }

    fn overrun(&mut self) {
        let code = if self.set == 1 { OVERRUN_SET1 } else { OVERRUN_SET2 };
        if self.codes.back() != Some(&code) && self.codes.len() < ROOM_FOR_RELEASES {
            self.codes.push_back(code);
        }
    }

    /// The next byte of an answer on its way to the controller. Answers go before key codes.
    pub fn next_answer(&mut self) -> Option<u8> {
        let byte = self.answers.pop_front()?;
        self.last = byte;
        Some(byte)
    }

    /// Whether key codes wait.
    pub fn has_codes(&self) -> bool {
        !self.codes.is_empty()
    }

    /// The next byte of a key code on its way to the controller.
    pub fn next_code(&mut self) -> Option<u8> {
        let byte = self.codes.pop_front()?;
        self.last = byte;
        Some(byte)
    }

    /// A byte from the controller: a command, or the argument of the one before.
    pub fn receive(&mut self, byte: u8) {
        match self.awaiting.take() {
            // No argument is as large as a command; then the host has given the first one up.
            Some(command) if byte < SET_LEDS => self.argument(command, byte),
            _ => self.command(byte),
        }
    }

    fn command(&mut self, byte: u8) {
        match byte {
            SET_LEDS | SCAN_CODE_SET | SET_RATE => {
                self.awaiting = Some(byte);
                self.answer(&[ACK]);
            }
            ECHO => self.answer(&[ECHO]),
            READ_ID => self.answer(&[ACK, ID[0], ID[1]]),
            ENABLE => self.acknowledge_and_scan(true),
            DISABLE => {
                self.set_defaults();
                self.acknowledge_and_scan(false);
            }
            DEFAULTS => {
                self.set_defaults();
                self.acknowledge_and_scan(self.scanning);
            }
            ALL_KEYS_FIRST..=ALL_KEYS_LAST => self.answer(&[ACK]),
            RESEND => self.answer(&[self.last]),
            RESET => {
                *self = Self::new();
                self.answer(&[ACK, SELF_TEST_PASSED]);
            }
            _ => self.answer(&[RESEND]),
        }
    }

    fn argument(&mut self, command: u8, value: u8) {
        match (command, value) {
            (SET_LEDS, _) => self.leds = value & 7,
            (SET_RATE, _) => self.rate = value & 0x7f,
            (SCAN_CODE_SET, 0) => return self.answer(&[ACK, self.set]),
            (SCAN_CODE_SET, 1 | 2) => {
                self.set = value;
                self.codes.clear();
            }
            _ => return self.answer(&[RESEND]),
        }
        self.answer(&[ACK]);
    }

    fn set_defaults(&mut self) {
        self.set = 2;
        self.rate = DEFAULT_RATE;
    }

    fn acknowledge_and_scan(&mut self, scanning: bool) {
        self.scanning = scanning;
        self.codes.clear();
        self.answer(&[ACK]);
    }

    fn answer(&mut self, bytes: &[u8]) {
        if self.answers.len() + bytes.len() <= ROOM_FOR_ANSWERS {
            self.answers.extend(bytes);
        }
    }
}

/// The keyboard's saved state.
pub mod saved {
    use super::{Keyboard, ROOM_FOR_ANSWERS, ROOM_FOR_RELEASES};
    use serde::{Deserialize, Serialize};

    /// Version 1.
    #[derive(Clone, Debug, Serialize, Deserialize)]
    pub struct KeyboardStateV1 {
        set: u8,
        scanning: bool,
        leds: u8,
        rate: u8,
        awaiting: Option<u8>,
        answers: Vec<u8>,
        codes: Vec<u8>,
        last: u8,
    }

    impl Keyboard {
        /// The state now.
        pub fn state(&self) -> KeyboardStateV1 {
            let Self { set, scanning, leds, rate, awaiting, answers, codes, last } = self.clone();
            let (answers, codes) = (answers.into(), codes.into());
            KeyboardStateV1 { set, scanning, leds, rate, awaiting, answers, codes, last }
        }

        /// A keyboard in a saved state; `None` if more waits in it than it has room for.
        pub fn from_state(state: KeyboardStateV1) -> Option<Self> {
            let KeyboardStateV1 { set, scanning, leds, rate, awaiting, answers, codes, last } = state;
            if answers.len() > ROOM_FOR_ANSWERS || codes.len() > ROOM_FOR_RELEASES {
                return None;
            }
            let (answers, codes) = (answers.into(), codes.into());
            Some(Self { set, scanning, leds, rate, awaiting, answers, codes, last })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(keyboard: &mut Keyboard) -> Vec<u8> {
        core::iter::from_fn(|| keyboard.next_answer().or_else(|| keyboard.next_code())).collect()
    }

    fn answers(keyboard: &mut Keyboard, bytes: &[u8]) -> Vec<u8> {
        let mut all = vec![];
        for byte in bytes {
            keyboard.receive(*byte);
            all.extend(sent(keyboard));
        }
        all
    }

    #[test]
    fn probe_of_linux_is_answered() {
        let mut k = Keyboard::new();
        assert_eq!(answers(&mut k, &[0xf5]), [0xfa]);
        assert_eq!(answers(&mut k, &[0xf2]), [0xfa, 0xab, 0x83]);
        assert_eq!(answers(&mut k, &[0xed, 0x02, 0xf3, 0x00, 0xf4]), [0xfa; 5]);
        assert_eq!(k.leds(), 2);
        assert_eq!(answers(&mut k, &[0xee, 0xff]), [0xee, 0xfa, 0xaa]);
    }

    #[test]
    fn scan_code_set_is_told_and_changed() {
        let mut k = Keyboard::new();
        assert_eq!(answers(&mut k, &[0xf0, 0]), [0xfa, 0xfa, 2]);
        assert_eq!(answers(&mut k, &[0xf0, 1]), [0xfa, 0xfa]);
        k.key("ArrowUp", false);
        assert_eq!(sent(&mut k), [0xe0, 0xc8]);
        assert_eq!(answers(&mut k, &[0xf0, 3]), [0xfa, 0xfe]);
        assert_eq!(answers(&mut k, &[0xf6, 0xf0, 0]), [0xfa, 0xfa, 0xfa, 2]);
    }

    #[test]
    fn disabled_keyboard_sends_no_keys() {
        let mut k = Keyboard::new();
        k.key("KeyA", true);
        k.receive(0xf5);
        k.key("KeyB", true);
        assert_eq!(sent(&mut k), [0xfa]);
        assert!(!k.is_idle());
    }

    #[test]
    fn answer_comes_before_waiting_keys() {
        let mut k = Keyboard::new();
        k.key("KeyA", true);
        k.receive(0xed);
        assert_eq!(sent(&mut k), [0xfa, 0x1c]);
    }

    #[test]
    fn command_in_place_of_an_argument_is_a_command() {
        let mut k = Keyboard::new();
        assert_eq!(answers(&mut k, &[0xed, 0xf2]), [0xfa, 0xfa, 0xab, 0x83]);
    }

    #[test]
    fn resend_repeats_the_last_byte_and_unknown_commands_ask_for_it() {
        let mut k = Keyboard::new();
        k.key("KeyA", true);
        sent(&mut k);
        assert_eq!(answers(&mut k, &[0xfe, 0xef]), [0x1c, 0xfe]);
    }

    #[test]
    fn full_queue_loses_presses_before_releases_and_says_so_once() {
        let mut k = Keyboard::new();
        (0..200).for_each(|_| k.key("KeyA", true));
        k.key("KeyA", false);
        let bytes = sent(&mut k);
        assert_eq!(bytes[..96], [0x1c; 96]);
        assert_eq!(bytes[96..], [0x00, 0xf0, 0x1c]);
    }

    #[test]
    fn unread_answers_are_bounded() {
        let mut k = Keyboard::new();
        (0..1000).for_each(|_| k.receive(0xee));
        assert_eq!(sent(&mut k).len(), ROOM_FOR_ANSWERS);
    }
}
