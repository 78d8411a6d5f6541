//! A PS/2 mouse that becomes a wheel mouse when it is asked in the right way.
//!
//! A driver finds a wheel by setting the sample rate to 200, 100, 80 and reading the id: 3 instead of 0 means
//! that packets have a fourth byte. A second knock, 200, 200, 80, gives id 4: five buttons. Other makers'
//! probes (E8h or E6h several times, then E9h) get the status of an ordinary mouse, which is the answer that
//! says "not one of yours".
//!
//! Motion is gathered until the controller has taken the packet before, and what does not fit in one packet
//! goes into the next, so that none is lost and the overflow bits stay clear; only a read in remote mode,
//! which empties the counters, can report an overflow. Each change of a button makes a packet of its own, so
//! that a click is never merged away. Any command but "resend" drops packets that wait, as the host has
//! stopped listening. (IBM PS/2 Hardware Interface Technical Reference, "Mouse"; Microsoft IntelliMouse PS/2
//! protocol.)

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Command and answer bytes.
mod spec {
    pub const SCALE_1_TO_1: u8 = 0xe6;
    pub const SCALE_2_TO_1: u8 = 0xe7;
    pub const SET_RESOLUTION: u8 = 0xe8;
    pub const STATUS: u8 = 0xe9;
    pub const STREAM_MODE: u8 = 0xea;
    pub const READ_DATA: u8 = 0xeb;
    pub const LEAVE_WRAP: u8 = 0xec;
    pub const WRAP_MODE: u8 = 0xee;
    pub const REMOTE_MODE: u8 = 0xf0;
    pub const READ_ID: u8 = 0xf2;
    pub const SET_RATE: u8 = 0xf3;
    pub const ENABLE: u8 = 0xf4;
    pub const DISABLE: u8 = 0xf5;
    pub const DEFAULTS: u8 = 0xf6;
    pub const RESEND: u8 = 0xfe;
    pub const RESET: u8 = 0xff;

    pub const ACK: u8 = 0xfa;
    pub const SELF_TEST_PASSED: u8 = 0xaa;

    pub const ID_PLAIN: u8 = 0;
    pub const ID_WHEEL: u8 = 3;
    pub const ID_FIVE_BUTTONS: u8 = 4;
    pub const KNOCK_WHEEL: [u8; 3] = [200, 100, 80];
    pub const KNOCK_FIVE_BUTTONS: [u8; 3] = [200, 200, 80];

    pub const DEFAULT_RATE: u8 = 100;
    /// Four counts a millimetre.
    pub const DEFAULT_RESOLUTION: u8 = 2;

    pub const PACKET_ALWAYS: u8 = 0x08;
    pub const PACKET_X_SIGN: u8 = 0x10;
    pub const PACKET_Y_SIGN: u8 = 0x20;
    pub const PACKET_X_OVERFLOW: u8 = 0x40;
    pub const PACKET_Y_OVERFLOW: u8 = 0x80;

    pub const STATUS_SCALE_2_TO_1: u8 = 0x10;
    pub const STATUS_ENABLED: u8 = 0x20;
    pub const STATUS_REMOTE: u8 = 0x40;

    /// The largest counter value.
    pub const COUNTER_MAX: i32 = 255;
    /// Bytes of packets that wait, 16 wheel packets.
    pub const ROOM_FOR_PACKETS: usize = 64;
    /// Answers that a guest may leave unread.
    pub const ROOM_FOR_ANSWERS: usize = 16;
}

use spec::*;

/// A mouse button, numbered as browsers number them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum MouseButton {
    /// The left button.
    Left = 0,
    /// The middle button or the wheel.
    Middle = 1,
    /// The right button.
    Right = 2,
}

impl MouseButton {
    /// The button's bit in a packet.
    fn packet_bit(self) -> u8 {
        match self {
            Self::Left => 1,
            Self::Right => 2,
            Self::Middle => 4,
        }
    }
}

/// The mouse.
#[derive(Clone, Debug)]
pub struct Mouse {
    id: u8,
    rate: u8,
    resolution: u8,
    scale_2_to_1: bool,
    remote: bool,
    wrap: bool,
    reporting: bool,
    /// Buttons that are down, as in a packet.
    buttons: u8,
    /// A change of the buttons is in no packet.
    buttons_owed: bool,
    /// Motion since the last packet: right, up, wheel towards the user.
    moved: [i32; 3],
    /// The last three sample rates.
    knock: [u8; 3],
    awaiting: Option<u8>,
    answers: VecDeque<u8>,
    packets: VecDeque<u8>,
    last: u8,
}

impl Default for Mouse {
    fn default() -> Self {
        Self::new()
    }
}

impl Mouse {
    /// A mouse after its self test: plain, streaming, and silent until it is enabled.
    pub fn new() -> Self {
        Self {
            id: ID_PLAIN,
            rate: DEFAULT_RATE,
            resolution: DEFAULT_RESOLUTION,
            scale_2_to_1: false,
            remote: false,
            wrap: false,
            reporting: false,
            buttons: 0,
            buttons_owed: false,
            moved: [0; 3],
            knock: [0; 3],
            awaiting: None,
            answers: VecDeque::new(),
            packets: VecDeque::new(),
            last: 0,
        }
    }

    /// The mouse moves: `dx` counts to the right, `dy` down, and the wheel `wheel` notches up (away from the
    /// user).
    pub fn motion(&mut self, dx: i32, dy: i32, wheel: i32) {
        if !self.streaming() && !self.remote {
            return;
        }
        let [x, y, z] = self.moved;
        let wheel = if self.id == ID_PLAIN { 0 } else { wheel };
        self.moved = [x.saturating_add(dx), y.saturating_sub(dy), z.saturating_sub(wheel)];
    }

    /// A button goes down or up.
    pub fn button(&mut self, button: MouseButton, pressed: bool) {
        let bit = button.packet_bit();
        let buttons = if pressed { self.buttons | bit } else { self.buttons & !bit };
        if core::mem::replace(&mut self.buttons, buttons) == buttons {
            return;
        }
        self.buttons_owed = true;
        if self.streaming() && self.packets.len() + self.packet_len() <= ROOM_FOR_PACKETS {
            self.queue_packet();
        }
    }

    /// The next byte on its way to the controller.
    pub fn next_byte(&mut self) -> Option<u8> {
        let due = self.moved != [0; 3] || self.buttons_owed;
        if self.answers.is_empty() && self.packets.is_empty() && self.streaming() && due {
            self.queue_packet();
        }
        let byte = self.answers.pop_front().or_else(|| self.packets.pop_front())?;
        self.last = byte;
        Some(byte)
    }

    /// A byte from the controller: a command, or the argument of the one before.
    pub fn receive(&mut self, byte: u8) {
        if byte == RESEND && self.awaiting.is_none() && !self.wrap {
            return self.answer(&[self.last]);
        }
        self.buttons_owed |= !self.packets.is_empty();
        self.packets.clear();
        match self.awaiting.take() {
            Some(command) if byte != RESET => self.argument(command, byte),
            _ if self.wrap && byte != RESET && byte != LEAVE_WRAP => self.answer(&[byte]),
            _ => self.command(byte),
        }
        self.moved = [0; 3];
    }

    fn streaming(&self) -> bool {
        self.reporting && !self.remote && !self.wrap
    }

    fn command(&mut self, byte: u8) {
        match byte {
            SCALE_1_TO_1 => self.scale_2_to_1 = false,
            SCALE_2_TO_1 => self.scale_2_to_1 = true,
            SET_RESOLUTION | SET_RATE => self.awaiting = Some(byte),
            STATUS => return self.answer(&[ACK, self.status(), self.resolution, self.rate]),
            STREAM_MODE => self.remote = false,
            READ_DATA => return self.answer_read_data(),
            LEAVE_WRAP => self.wrap = false,
            WRAP_MODE => self.wrap = true,
            REMOTE_MODE => self.remote = true,
            READ_ID => return self.answer(&[ACK, self.id]),
            ENABLE => self.report(true),
            DISABLE => self.report(false),
            DEFAULTS => self.set_defaults(),
            RESET => return self.reset(),
            _ => return self.answer(&[RESEND]),
        }
        self.answer(&[ACK]);
    }

    fn argument(&mut self, command: u8, value: u8) {
        if command == SET_RESOLUTION {
            self.resolution = value & 3;
        } else {
            self.set_rate(value);
        }
        self.answer(&[ACK]);
    }

    fn set_rate(&mut self, rate: u8) {
        self.rate = rate;
        self.knock = [self.knock[1], self.knock[2], rate];
        match self.knock {
            KNOCK_WHEEL if self.id == ID_PLAIN => self.id = ID_WHEEL,
            KNOCK_FIVE_BUTTONS if self.id == ID_WHEEL => self.id = ID_FIVE_BUTTONS,
            _ => {}
        }
    }

    fn report(&mut self, reporting: bool) {
        self.reporting = reporting;
        self.buttons_owed = false;
    }

    fn set_defaults(&mut self) {
        let Self { id, buttons, knock, answers, last, .. } = core::mem::take(self);
        *self = Self { id, buttons, knock, answers, last, ..Self::new() };
    }

    fn reset(&mut self) {
        *self = Self { buttons: self.buttons, ..Self::new() };
        self.answer(&[ACK, SELF_TEST_PASSED, ID_PLAIN]);
    }

    /// The first status byte: its buttons lie in another order than a packet's.
    fn status(&self) -> u8 {
        let buttons = (self.buttons & 1) << 2 | (self.buttons & 4) >> 1 | (self.buttons & 2) >> 1;
        buttons
            | if self.scale_2_to_1 { STATUS_SCALE_2_TO_1 } else { 0 }
            | if self.reporting { STATUS_ENABLED } else { 0 }
            | if self.remote { STATUS_REMOTE } else { 0 }
    }

    fn packet_len(&self) -> usize {
        if self.id == ID_PLAIN { 3 } else { 4 }
    }

    /// Queues a packet with as much of the motion as it holds.
    fn queue_packet(&mut self) {
        // The scaled value has to fit as well.
        let most = if self.scale_2_to_1 { COUNTER_MAX / 2 } else { COUNTER_MAX };
        let [x, y, z] = self.take_motion(most);
        let (x, y) = if self.scale_2_to_1 { (scaled(x), scaled(y)) } else { (x, y) };
        let packet = self.packet([x, y, z], 0);
        self.packets.extend(&packet[..self.packet_len()]);
        self.buttons_owed = false;
    }

    /// Remote mode: the counters are sent without scaling and start again; what did not fit in them shows as
    /// overflow.
    fn answer_read_data(&mut self) {
        let motion = self.take_motion(COUNTER_MAX);
        let overflow = if self.moved[0] != 0 { PACKET_X_OVERFLOW } else { 0 }
            | if self.moved[1] != 0 { PACKET_Y_OVERFLOW } else { 0 };
        let packet = self.packet(motion, overflow);
        let mut answer = vec![ACK];
        answer.extend(&packet[..self.packet_len()]);
        self.answer(&answer);
        self.buttons_owed = false;
    }

    /// Takes at most `most` counts of each axis out of the gathered motion, and as many notches as a packet
    /// holds.
    fn take_motion(&mut self, most: i32) -> [i32; 3] {
        let notches = if self.id == ID_FIVE_BUTTONS { 7 } else { 127 };
        let limits = [most, most, notches];
        core::array::from_fn(|axis| {
            let taken = self.moved[axis].clamp(-limits[axis], limits[axis]);
            self.moved[axis] -= taken;
            taken
        })
    }

    fn packet(&self, [x, y, z]: [i32; 3], overflow: u8) -> [u8; 4] {
        let signs = if x < 0 { PACKET_X_SIGN } else { 0 } | if y < 0 { PACKET_Y_SIGN } else { 0 };
        // With five buttons, bits 4 and 5 of the last byte are the fourth and fifth; the host has three.
        let wheel = if self.id == ID_FIVE_BUTTONS { z as u8 & 0x0f } else { z as u8 };
        [PACKET_ALWAYS | self.buttons | signs | overflow, x as u8, y as u8, wheel]
    }

    fn answer(&mut self, bytes: &[u8]) {
        if self.answers.len() + bytes.len() <= ROOM_FOR_ANSWERS {
            self.answers.extend(bytes);
        }
    }
}

/// 2:1 scaling: slow motion is damped, fast motion doubled.
fn scaled(counts: i32) -> i32 {
    let size = match counts.abs() {
        n @ (0 | 1) => n,
        2 => 1,
        3 => 3,
        4 => 6,
        5 => 9,
        n => 2 * n,
    };
    size * counts.signum()
}

/// The mouse's saved state.
pub mod saved {
    use super::{Mouse, ROOM_FOR_ANSWERS, ROOM_FOR_PACKETS};
    use serde::{Deserialize, Serialize};

    /// Version 1.
    #[derive(Clone, Debug, Serialize, Deserialize)]
    pub struct MouseStateV1 {
        id: u8,
        rate: u8,
        resolution: u8,
        /// 2:1 scaling, remote mode, wrap mode, reporting.
        modes: [bool; 4],
        buttons: u8,
        buttons_owed: bool,
        moved: [i32; 3],
        knock: [u8; 3],
        awaiting: Option<u8>,
        answers: Vec<u8>,
        packets: Vec<u8>,
        last: u8,
    }

    impl Mouse {
        /// The state now.
        pub fn state(&self) -> MouseStateV1 {
            let Self {
                id,
                rate,
                resolution,
                scale_2_to_1,
                remote,
                wrap,
                reporting,
                buttons,
                buttons_owed,
                moved,
                knock,
                awaiting,
                answers,
                packets,
                last,
            } = self.clone();
            MouseStateV1 {
                id,
                rate,
                resolution,
                modes: [scale_2_to_1, remote, wrap, reporting],
                buttons,
                buttons_owed,
                moved,
                knock,
                awaiting,
                answers: answers.into(),
                packets: packets.into(),
                last,
            }
        }

        /// A mouse in a saved state; `None` if more waits in it than it has room for.
        pub fn from_state(state: MouseStateV1) -> Option<Self> {
            let MouseStateV1 { id, rate, resolution, modes, buttons, buttons_owed, .. } = state;
            let MouseStateV1 { moved, knock, awaiting, answers, packets, last, .. } = state;
            if answers.len() > ROOM_FOR_ANSWERS || packets.len() > ROOM_FOR_PACKETS {
                return None;
            }
            let [scale_2_to_1, remote, wrap, reporting] = modes;
            Some(Self {
                id,
                rate,
                resolution,
                scale_2_to_1,
                remote,
                wrap,
                reporting,
                buttons: buttons & 7,
                buttons_owed,
                moved,
                knock,
                awaiting,
                answers: answers.into(),
                packets: packets.into(),
                last,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(mouse: &mut Mouse) -> Vec<u8> {
        core::iter::from_fn(|| mouse.next_byte()).collect()
    }

    fn answers(mouse: &mut Mouse, bytes: &[u8]) -> Vec<u8> {
        let mut all = vec![];
        for byte in bytes {
            mouse.receive(*byte);
            all.extend(sent(mouse));
        }
        all
    }

    /// A mouse that has been enabled after `rates` were set.
    fn streaming(rates: &[u8]) -> Mouse {
        let mut mouse = Mouse::new();
        rates.iter().for_each(|rate| assert_eq!(answers(&mut mouse, &[0xf3, *rate]), [0xfa, 0xfa]));
        assert_eq!(answers(&mut mouse, &[0xf4]), [0xfa]);
        mouse
    }

    #[test]
    fn reset_and_id_are_those_of_a_plain_mouse() {
        let mut m = Mouse::new();
        assert_eq!(answers(&mut m, &[0xff]), [0xfa, 0xaa, 0x00]);
        assert_eq!(answers(&mut m, &[0xf2]), [0xfa, 0x00]);
    }

    // checklist: 58
    #[test]
    fn knocks_give_wheel_and_five_buttons() {
        let mut m = streaming(&[200, 100, 80]);
        assert_eq!(answers(&mut m, &[0xf2]), [0xfa, 3]);
        let mut m = streaming(&[200, 100, 80, 200, 200, 80]);
        assert_eq!(answers(&mut m, &[0xf2]), [0xfa, 4]);
        assert_eq!(answers(&mut m, &[0xff, 0xf2]), [0xfa, 0xaa, 0, 0xfa, 0]);
    }

    #[test]
    fn motion_is_sent_up_positive_with_sign_bits() {
        let mut m = streaming(&[]);
        m.motion(5, 3, 1);
        assert_eq!(sent(&mut m), [0x28, 5, 0xfd]);
        m.motion(-1, -2, 0);
        assert_eq!(sent(&mut m), [0x18, 0xff, 2]);
    }

    #[test]
    fn fast_motion_spreads_over_packets_without_overflow() {
        let mut m = streaming(&[]);
        m.motion(-300, 0, 0);
        assert_eq!(sent(&mut m), [0x18, 1, 0, 0x18, 0xd3, 0]);
    }

    #[test]
    fn wheel_goes_into_the_fourth_byte_towards_the_user() {
        let mut m = streaming(&[200, 100, 80]);
        m.motion(0, 0, 1);
        assert_eq!(sent(&mut m), [0x08, 0, 0, 0xff]);
        let mut m = streaming(&[200, 100, 80, 200, 200, 80]);
        m.motion(0, 0, -9);
        assert_eq!(sent(&mut m), [0x08, 0, 0, 7, 0x08, 0, 0, 2]);
    }

    #[test]
    fn click_that_waits_is_two_packets() {
        let mut m = streaming(&[]);
        m.motion(1, 0, 0);
        m.button(MouseButton::Left, true);
        m.button(MouseButton::Left, true);
        m.button(MouseButton::Left, false);
        assert_eq!(sent(&mut m), [0x09, 1, 0, 0x08, 0, 0]);
    }

    #[test]
    fn last_state_of_the_buttons_is_sent_after_a_full_queue() {
        let mut m = streaming(&[]);
        (0..101).for_each(|i| m.button(MouseButton::Right, i % 2 == 0));
        let bytes = sent(&mut m);
        assert!(bytes.len() <= ROOM_FOR_PACKETS + 3);
        assert_eq!(bytes[bytes.len() - 3..], [0x0a, 0, 0]);
    }

    #[test]
    fn silent_mouse_gathers_nothing() {
        let mut m = Mouse::new();
        m.motion(9, 9, 0);
        m.button(MouseButton::Left, true);
        assert!(sent(&mut m).is_empty());
        assert_eq!(answers(&mut m, &[0xf4]), [0xfa]);
    }

    #[test]
    fn status_tells_buttons_modes_resolution_and_rate() {
        let mut m = streaming(&[]);
        m.button(MouseButton::Left, true);
        answers(&mut m, &[0xe8, 3, 0xe7]);
        assert_eq!(answers(&mut m, &[0xe9]), [0xfa, 0x34, 3, 100]);
        assert_eq!(answers(&mut m, &[0xf6, 0xe9]), [0xfa, 0xfa, 0x04, 2, 100]);
    }

    #[test]
    fn remote_mode_sends_when_asked_and_tells_overflow() {
        let mut m = Mouse::new();
        assert_eq!(answers(&mut m, &[0xf0]), [0xfa]);
        m.motion(-400, -7, 0);
        assert_eq!(answers(&mut m, &[0xeb]), [0xfa, 0x58, 1, 7]);
        assert_eq!(answers(&mut m, &[0xeb]), [0xfa, 0x08, 0, 0]);
    }

    #[test]
    fn wrap_mode_echoes() {
        let mut m = Mouse::new();
        assert_eq!(answers(&mut m, &[0xee, 0xf2, 0x55, 0xec, 0xf2]), [0xfa, 0xf2, 0x55, 0xfa, 0xfa, 0]);
    }

    #[test]
    fn scaling_damps_slow_and_doubles_fast_motion() {
        let mut m = streaming(&[]);
        answers(&mut m, &[0xe7]);
        m.motion(2, 5, 0);
        assert_eq!(sent(&mut m), [0x28, 1, 0xf7]);
        m.motion(100, 0, 0);
        assert_eq!(sent(&mut m), [0x08, 200, 0]);
    }

    #[test]
    fn command_drops_packets_but_not_the_state_of_the_buttons() {
        let mut m = streaming(&[]);
        m.button(MouseButton::Left, true);
        m.receive(0xe6);
        assert_eq!(sent(&mut m), [0xfa, 0x09, 0, 0]);
    }

    #[test]
    fn unknown_command_asks_for_resend() {
        let mut m = Mouse::new();
        assert_eq!(answers(&mut m, &[0xe1, 0xfe]), [0xfe, 0xfe]);
    }
}
