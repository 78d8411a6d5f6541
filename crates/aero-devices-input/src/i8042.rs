//! The 8042 keyboard controller: two PS/2 ports, and some wires of the mainboard that found room on it.
//!
//! The guest sees one byte at a time in the output buffer. Two can wait for it: the answer to a controller
//! command, and the byte that a device has delivered. The answer shows first, so that a driver which sends a
//! command while a key arrives reads the answer it waits for; the key shows after it.
//!
//! The interrupt lines follow the buffer: IRQ 1 while a keyboard or controller byte shows, IRQ 12 while a
//! mouse byte does, each if the command byte enables it. Reading port 60h always lowers the line before the
//! next byte raises it, because the interrupt controllers count edges: a byte without an edge is input that
//! nobody fetches.
//!
//! Key codes come a millisecond apart, as over the cable. It matters while nobody listens: Linux empties the
//! buffer before it looks for the controller, and takes a seventeenth byte in a row for a sign that there is
//! none.
//!
//! Linux tests the mouse port by command D3h, which puts a byte into the buffer as if it came from the mouse,
//! and looks for status bit 5, for IRQ 12, and (with F0h, 56h, A4h) for a multiplexing controller, which
//! would not echo. (IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device
//! Controller"; 8042 on the AT.)

use crate::keyboard::Keyboard;
use crate::mouse::{Mouse, MouseButton};
use crate::scancodes;
use aero_bus::{At, Cx, Device, IoError, IrqLine, PortIo, TimerId, VmTime, Width};

/// Register facts.
mod spec {
    /// Region 0: the data port, 60h.
    pub const DATA: u8 = 0;
    /// Region 1: status and command, 64h.
    pub const COMMAND: u8 = 1;

    pub const STATUS_OUTPUT_FULL: u8 = 0x01;
    pub const STATUS_SYSTEM: u8 = 0x04;
    pub const STATUS_COMMAND: u8 = 0x08;
    /// The key lock is open.
    pub const STATUS_NOT_LOCKED: u8 = 0x10;
    pub const STATUS_AUX: u8 = 0x20;

    pub const MODE_KEYBOARD_IRQ: u8 = 0x01;
    pub const MODE_AUX_IRQ: u8 = 0x02;
    pub const MODE_SYSTEM: u8 = 0x04;
    pub const MODE_KEYBOARD_OFF: u8 = 0x10;
    pub const MODE_AUX_OFF: u8 = 0x20;
    pub const MODE_TRANSLATE: u8 = 0x40;
    pub const MODE_MASK: u8 = 0x7f;
    /// What firmware would leave: both interrupts on, translation on. A kernel may be booted without
    /// firmware, and then nobody else sets this up.
    pub const MODE_RESET: u8 = MODE_KEYBOARD_IRQ | MODE_AUX_IRQ | MODE_TRANSLATE;

    pub const READ_RAM: u8 = 0x20;
    pub const READ_RAM_LAST: u8 = 0x3f;
    pub const WRITE_RAM: u8 = 0x60;
    pub const WRITE_RAM_LAST: u8 = 0x7f;
    pub const PASSWORD_INSTALLED: u8 = 0xa4;
    pub const AUX_DISABLE: u8 = 0xa7;
    pub const AUX_ENABLE: u8 = 0xa8;
    pub const AUX_TEST: u8 = 0xa9;
    pub const SELF_TEST: u8 = 0xaa;
    pub const KEYBOARD_TEST: u8 = 0xab;
    pub const KEYBOARD_DISABLE: u8 = 0xad;
    pub const KEYBOARD_ENABLE: u8 = 0xae;
    pub const READ_INPUT_PORT: u8 = 0xc0;
    pub const READ_OUTPUT_PORT: u8 = 0xd0;
    pub const WRITE_OUTPUT_PORT: u8 = 0xd1;
    pub const WRITE_KEYBOARD_BUFFER: u8 = 0xd2;
    pub const WRITE_AUX_BUFFER: u8 = 0xd3;
    pub const WRITE_AUX: u8 = 0xd4;
    pub const A20_OFF: u8 = 0xdd;
    pub const A20_ON: u8 = 0xdf;
    /// F0h–FFh pulse the low bits of the output port that are 0 in the command.
    pub const PULSE: u8 = 0xf0;

    pub const NO_PASSWORD: u8 = 0xf1;
    pub const SELF_TEST_PASSED: u8 = 0x55;
    pub const INTERFACE_GOOD: u8 = 0x00;
    /// Keyboard not inhibited.
    pub const INPUT_PORT: u8 = 0x80;

    /// Low: the processor is reset.
    pub const OUTPUT_NOT_RESET: u8 = 0x01;
    pub const OUTPUT_A20: u8 = 0x02;
    pub const OUTPUT_KEYBOARD_FULL: u8 = 0x10;
    pub const OUTPUT_AUX_FULL: u8 = 0x20;
    /// Keyboard clock and data, idle.
    pub const OUTPUT_IDLE: u8 = 0xc0;

    /// Nanoseconds that a byte takes on the keyboard's cable: eleven bits at about 11 kHz.
    pub const KEYBOARD_BYTE_NS: u64 = 1_000_000;
}

use spec::*;

/// The one timer: the keyboard's next byte has come over the cable.
const NEXT_CODE: TimerId = TimerId(0);

/// A byte for the output buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
struct Shown {
    value: u8,
    /// It comes, or claims to come, from the mouse.
    aux: bool,
}

/// The controller with a keyboard and a mouse. Region 0: port 60h; region 1: port 64h.
pub struct I8042 {
    keyboard_irq: IrqLine,
    aux_irq: IrqLine,
    keyboard: Keyboard,
    mouse: Mouse,
    /// Byte 0 is the command byte.
    ram: [u8; 32],
    output_port: u8,
    /// The command whose argument the next write of port 60h brings.
    awaiting: Option<u8>,
    wrote_command: bool,
    reply: Option<Shown>,
    delivered: Option<Shown>,
    last_read: u8,
    /// When the cable is free for the next byte of a key code.
    cable_free_at: VmTime,
}

impl I8042 {
    /// A controller after reset, with its interrupts on `keyboard_irq` (IRQ 1) and `aux_irq` (IRQ 12). A20 is
    /// open.
    pub fn new(keyboard_irq: IrqLine, aux_irq: IrqLine) -> Self {
        let mut ram = [0; 32];
        ram[0] = MODE_RESET;
        Self {
            keyboard_irq,
            aux_irq,
            keyboard: Keyboard::new(),
            mouse: Mouse::new(),
            ram,
            output_port: OUTPUT_NOT_RESET | OUTPUT_A20,
            awaiting: None,
            wrote_command: false,
            reply: None,
            delivered: None,
            last_read: 0,
            cable_free_at: VmTime(0),
        }
    }

    /// The key named `code` (a `KeyboardEvent.code`) goes down or up. An unknown name is ignored.
    pub fn key(&mut self, cx: &mut Cx<'_>, code: &str, pressed: bool) {
        self.keyboard.key(code, pressed);
        self.settle(cx);
    }

    /// The mouse moves: `dx` right, `dy` down, `wheel` notches up.
    pub fn mouse_motion(&mut self, cx: &mut Cx<'_>, dx: i32, dy: i32, wheel: i32) {
        self.mouse.motion(dx, dy, wheel);
        self.settle(cx);
    }

    /// A mouse button goes down or up.
    pub fn mouse_button(&mut self, cx: &mut Cx<'_>, button: MouseButton, pressed: bool) {
        self.mouse.button(button, pressed);
        self.settle(cx);
    }

    /// Whether the controller opens the A20 gate.
    pub fn a20(&self) -> bool {
        self.output_port & OUTPUT_A20 != 0
    }

    /// Whether the guest has read every key so far and listens for more: whoever types a text waits for this
    /// between keys.
    pub fn keyboard_idle(&self) -> bool {
        let waiting = self.delivered.is_some_and(|byte| !byte.aux);
        self.mode() & MODE_KEYBOARD_OFF == 0 && self.keyboard.is_idle() && !waiting
    }

    /// The keyboard's lamps: bit 0 Scroll Lock, 1 Num Lock, 2 Caps Lock.
    pub fn leds(&self) -> u8 {
        self.keyboard.leds()
    }

    fn mode(&self) -> u8 {
        self.ram[0]
    }

    fn set_mode(&mut self, set: u8, clear: u8) {
        self.ram[0] = (self.ram[0] & !clear | set) & MODE_MASK;
    }

    fn shown(&self) -> Option<Shown> {
        self.reply.or(self.delivered)
    }

    /// Lets a device deliver, and drives the interrupt lines.
    fn settle(&mut self, cx: &mut Cx<'_>) {
        if self.delivered.is_none() {
            self.delivered = self.take_from_keyboard(cx).or_else(|| self.take_from_mouse());
        }
        let (keyboard, aux) = match self.shown() {
            Some(Shown { aux: true, .. }) => (false, self.mode() & MODE_AUX_IRQ != 0),
            Some(Shown { aux: false, .. }) => (self.mode() & MODE_KEYBOARD_IRQ != 0, false),
            None => (false, false),
        };
        cx.set_irq(self.keyboard_irq, keyboard);
        cx.set_irq(self.aux_irq, aux);
    }

    fn take_from_keyboard(&mut self, cx: &mut Cx<'_>) -> Option<Shown> {
        if self.mode() & MODE_KEYBOARD_OFF != 0 {
            return None;
        }
        let byte = self.keyboard.next_answer().or_else(|| self.next_code(cx))?;
        let value = match byte {
            _ if self.mode() & MODE_TRANSLATE == 0 => byte,
            // The keyboard queues a whole key at once, so that the released key follows.
            scancodes::RELEASE => scancodes::set1_byte(self.keyboard.next_code()?) | 0x80,
            _ => scancodes::set1_byte(byte),
        };
        Some(Shown { value, aux: false })
    }

    /// The next byte of a key code, once it has come over the cable.
    fn next_code(&mut self, cx: &mut Cx<'_>) -> Option<u8> {
        if !self.keyboard.has_codes() {
            return None;
        }
        if cx.now() < self.cable_free_at {
            cx.arm(NEXT_CODE, self.cable_free_at);
            return None;
        }
        self.cable_free_at = cx.now().after(KEYBOARD_BYTE_NS);
        self.keyboard.next_code()
    }

    fn take_from_mouse(&mut self) -> Option<Shown> {
        let on = self.mode() & MODE_AUX_OFF == 0;
        on.then(|| self.mouse.next_byte()).flatten().map(|value| Shown { value, aux: true })
    }

    fn read_data(&mut self, cx: &mut Cx<'_>) -> u8 {
        if let Some(byte) = self.reply.take().or_else(|| self.delivered.take()) {
            self.last_read = byte.value;
            cx.set_irq(self.keyboard_irq, false);
            cx.set_irq(self.aux_irq, false);
            self.settle(cx);
        }
        self.last_read
    }

    fn status(&self) -> u8 {
        let buffer = match self.shown() {
            Some(Shown { aux: true, .. }) => STATUS_OUTPUT_FULL | STATUS_AUX,
            Some(Shown { aux: false, .. }) => STATUS_OUTPUT_FULL,
            None => 0,
        };
        let system = if self.mode() & MODE_SYSTEM != 0 { STATUS_SYSTEM } else { 0 };
        let command = if self.wrote_command { STATUS_COMMAND } else { 0 };
        buffer | system | command | STATUS_NOT_LOCKED
    }

    fn answer(&mut self, value: u8) {
        self.reply = Some(Shown { value, aux: false });
    }

    fn command(&mut self, cx: &mut Cx<'_>, command: u8) {
        self.awaiting = None;
        match command {
            READ_RAM..=READ_RAM_LAST => self.answer(self.ram[usize::from(command & 0x1f)]),
            WRITE_RAM..=WRITE_RAM_LAST => self.awaiting = Some(command),
            WRITE_OUTPUT_PORT..=WRITE_AUX => self.awaiting = Some(command),
            PASSWORD_INSTALLED => self.answer(NO_PASSWORD),
            AUX_DISABLE => self.set_mode(MODE_AUX_OFF, 0),
            AUX_ENABLE => self.set_mode(0, MODE_AUX_OFF),
            AUX_TEST | KEYBOARD_TEST => self.answer(INTERFACE_GOOD),
            SELF_TEST => {
                self.set_mode(MODE_SYSTEM, 0);
                self.answer(SELF_TEST_PASSED);
            }
            KEYBOARD_DISABLE => self.set_mode(MODE_KEYBOARD_OFF, 0),
            KEYBOARD_ENABLE => self.set_mode(0, MODE_KEYBOARD_OFF),
            READ_INPUT_PORT => self.answer(INPUT_PORT),
            READ_OUTPUT_PORT => self.answer(self.read_output_port()),
            A20_OFF => self.output_port &= !OUTPUT_A20,
            A20_ON => self.output_port |= OUTPUT_A20,
            PULSE..=0xff if command & OUTPUT_NOT_RESET == 0 => cx.request_reset(),
            PULSE..=0xff => {}
            _ => log::debug!("keyboard controller: command {command:02x} is not one it has"),
        }
    }

    fn read_output_port(&self) -> u8 {
        let full = match self.shown() {
            Some(Shown { aux: true, .. }) => OUTPUT_AUX_FULL,
            Some(Shown { aux: false, .. }) => OUTPUT_KEYBOARD_FULL,
            None => 0,
        };
        OUTPUT_IDLE | full | self.output_port
    }

    fn write_data(&mut self, cx: &mut Cx<'_>, value: u8) {
        match self.awaiting.take() {
            None => {
                // A byte for a device starts that device's clock again.
                self.set_mode(0, MODE_KEYBOARD_OFF);
                self.keyboard.receive(value);
            }
            Some(WRITE_AUX) => {
                self.set_mode(0, MODE_AUX_OFF);
                self.mouse.receive(value);
            }
            Some(WRITE_OUTPUT_PORT) => self.write_output_port(cx, value),
            Some(WRITE_KEYBOARD_BUFFER) => self.answer(value),
            Some(WRITE_AUX_BUFFER) => self.reply = Some(Shown { value, aux: true }),
            Some(WRITE_RAM) => self.set_mode(value, MODE_MASK),
            Some(command) => self.ram[usize::from(command & 0x1f)] = value,
        }
    }

    fn write_output_port(&mut self, cx: &mut Cx<'_>, value: u8) {
        self.output_port = value & OUTPUT_A20 | OUTPUT_NOT_RESET;
        if value & OUTPUT_NOT_RESET == 0 {
            cx.request_reset();
        }
    }
}

impl Device for I8042 {
    fn reset(&mut self, cx: &mut Cx<'_>) {
        *self = Self::new(self.keyboard_irq, self.aux_irq);
        self.settle(cx);
    }

    fn pio(&mut self) -> Option<&mut dyn PortIo> {
        Some(self)
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _which: TimerId) {
        self.settle(cx);
    }
}

/// Both ports are a byte wide and nothing of the controller follows them: a wider access meets the byte
/// alone.
impl PortIo for I8042 {
    fn read(&mut self, cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        let byte = match (at.region, at.offset) {
            (DATA, 0) => self.read_data(cx),
            (COMMAND, 0) => self.status(),
            _ => return Err(IoError::Unclaimed),
        };
        Ok(width.ones() & !0xff | u64::from(byte))
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: At, _width: Width, value: u64) -> Result<(), IoError> {
        match (at.region, at.offset) {
            (DATA, 0) => self.write_data(cx, value as u8),
            (COMMAND, 0) => self.command(cx, value as u8),
            _ => return Err(IoError::Unclaimed),
        }
        self.wrote_command = at.region == COMMAND;
        self.settle(cx);
        Ok(())
    }
}

mod saved {
    use super::{I8042, Keyboard, Mouse, Shown};
    use crate::{keyboard::saved::KeyboardStateV1, mouse::saved::MouseStateV1};
    use aero_bus::VmTime;
    use aero_state::{RestoreError, Saved, Section};
    use serde::{Deserialize, Serialize};

    const KIND: &str = "i8042";

    #[derive(Serialize, Deserialize)]
    struct I8042StateV1 {
        keyboard: KeyboardStateV1,
        mouse: MouseStateV1,
        ram: [u8; 32],
        output_port: u8,
        awaiting: Option<u8>,
        wrote_command: bool,
        reply: Option<Shown>,
        delivered: Option<Shown>,
        last_read: u8,
        cable_free_at: VmTime,
    }

    impl Saved for I8042 {
        fn save(&self) -> Section {
            let Self {
                keyboard_irq: _,
                aux_irq: _,
                keyboard,
                mouse,
                ram,
                output_port,
                awaiting,
                wrote_command,
                reply,
                delivered,
                last_read,
                cable_free_at,
            } = self;
            let state = I8042StateV1 {
                keyboard: keyboard.state(),
                mouse: mouse.state(),
                ram: *ram,
                output_port: *output_port,
                awaiting: *awaiting,
                wrote_command: *wrote_command,
                reply: *reply,
                delivered: *delivered,
                last_read: *last_read,
                cable_free_at: *cable_free_at,
            };
            Section::new(KIND, 1, &state)
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let state: I8042StateV1 = section.decode(KIND, 1)?;
            let I8042StateV1 { keyboard, mouse, ram, output_port, awaiting, .. } = state;
            let I8042StateV1 { wrote_command, reply, delivered, last_read, cable_free_at, .. } = state;
            let damaged = RestoreError::Damaged { kind: KIND };
            let (Some(keyboard), Some(mouse)) = (Keyboard::from_state(keyboard), Mouse::from_state(mouse))
            else {
                return Err(damaged);
            };
            let (keyboard_irq, aux_irq) = (self.keyboard_irq, self.aux_irq);
            *self = Self {
                keyboard_irq,
                aux_irq,
                keyboard,
                mouse,
                ram,
                output_port,
                awaiting,
                wrote_command,
                reply,
                delivered,
                last_read,
                cable_free_at,
            };
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aero_bus::PowerRequest;
    use aero_bus::bench::{TestBoard, conformance};
    use aero_state::Saved;

    struct Bench {
        board: TestBoard,
        kbc: I8042,
        irq1: IrqLine,
        irq12: IrqLine,
    }

    impl Bench {
        fn new() -> Self {
            let mut board = TestBoard::new();
            let (irq1, irq12) = (board.line(), board.line());
            Self { board, kbc: I8042::new(irq1, irq12), irq1, irq12 }
        }

        fn command(&mut self, value: u8) {
            self.board.outb(&mut self.kbc, COMMAND, 0, value);
        }

        fn data(&mut self, value: u8) {
            self.board.outb(&mut self.kbc, DATA, 0, value);
        }

        fn aux(&mut self, value: u8) {
            self.command(WRITE_AUX);
            self.data(value);
        }

        fn status(&mut self) -> u8 {
            self.board.inb(&mut self.kbc, COMMAND, 0)
        }

        fn read(&mut self) -> u8 {
            self.board.inb(&mut self.kbc, DATA, 0)
        }

        /// Reads until the buffer is empty and nothing is on the cable.
        fn drain(&mut self) -> Vec<u8> {
            let mut bytes = vec![];
            while self.arrive() {
                bytes.push(self.read());
            }
            bytes
        }

        /// Whether a byte shows, after the time of a byte on the cable.
        fn arrive(&mut self) -> bool {
            self.board.pass(&mut self.kbc, KEYBOARD_BYTE_NS);
            self.status() & STATUS_OUTPUT_FULL != 0
        }

        fn key(&mut self, code: &str, pressed: bool) {
            self.kbc.key(&mut self.board.cx(), code, pressed);
        }

        /// Rising edges since the last call, of IRQ 1 and of IRQ 12.
        fn edges(&mut self) -> (usize, usize) {
            let changes = self.board.fabric.take_line_changes();
            let count = |line| changes.iter().filter(|c| c.line == line && c.level).count();
            (count(self.irq1), count(self.irq12))
        }
    }

    #[test]
    fn controller_passes_the_conformance_suite() {
        conformance(&[DATA, COMMAND], |board| {
            let (keyboard, aux) = (board.line(), board.line());
            I8042::new(keyboard, aux)
        });
    }

    #[test]
    fn self_tests_pass() {
        let mut b = Bench::new();
        for (command, answer) in [(0xaa, 0x55), (0xab, 0x00), (0xa9, 0x00), (0xc0, 0x80), (0xa4, 0xf1)] {
            b.command(command);
            assert_eq!(b.drain(), [answer], "{command:02x}");
        }
        assert_eq!(b.status(), STATUS_SYSTEM | STATUS_COMMAND | STATUS_NOT_LOCKED);
    }

    #[test]
    fn command_byte_reads_back_and_follows_the_port_commands() {
        let mut b = Bench::new();
        b.command(0x60);
        b.data(0x47);
        for (command, mode) in [(0xa7, 0x67), (0xad, 0x77), (0xa8, 0x57), (0xae, 0x47)] {
            b.command(command);
            b.command(0x20);
            assert_eq!(b.drain(), [mode]);
        }
    }

    // checklist: 58
    #[test]
    fn key_is_translated_and_each_byte_has_its_edge() {
        let mut b = Bench::new();
        b.key("ArrowUp", true);
        b.key("ArrowUp", false);
        assert_eq!(b.edges(), (1, 0));
        assert_eq!(b.drain(), [0xe0, 0x48, 0xe0, 0xc8]);
        assert_eq!(b.edges(), (3, 0));
        assert_eq!(b.read(), 0xc8, "an empty buffer shows the last byte");
    }

    #[test]
    fn answers_follow_each_other_at_once_with_an_edge_each() {
        let mut b = Bench::new();
        b.data(0xf2);
        assert_eq!(b.edges(), (1, 0));
        assert_eq!((b.read(), b.edges()), (0xfa, (1, 0)));
        assert_eq!((b.read(), b.edges()), (0xab, (1, 0)));
        assert_eq!((b.read(), b.edges()), (0x41, (0, 0)));
    }

    #[test]
    fn linux_flush_finds_an_end_though_keys_wait() {
        let mut b = Bench::new();
        (0..20).for_each(|_| b.key("KeyA", true));
        let mut count = 0;
        while b.status() & STATUS_OUTPUT_FULL != 0 {
            b.board.pass(&mut b.kbc, 50_000);
            b.read();
            count += 1;
        }
        assert!(count <= 16, "{count}");
    }

    #[test]
    fn key_is_raw_without_translation() {
        let mut b = Bench::new();
        b.command(0x60);
        b.data(0x01);
        b.key("KeyA", false);
        assert_eq!(b.drain(), [0xf0, 0x1c]);
    }

    // checklist: 58
    #[test]
    fn keyboard_id_is_translated() {
        let mut b = Bench::new();
        b.data(0xf2);
        assert_eq!(b.drain(), [0xfa, 0xab, 0x41]);
        b.data(0xf0);
        b.data(0x00);
        assert_eq!(b.drain(), [0xfa, 0xfa, 0x41]);
    }

    #[test]
    fn disabled_port_holds_its_bytes_back() {
        let mut b = Bench::new();
        b.command(KEYBOARD_DISABLE);
        b.key("KeyA", true);
        assert_eq!(b.drain(), []);
        assert!(!b.kbc.keyboard_idle());
        b.command(KEYBOARD_ENABLE);
        assert_eq!(b.drain(), [0x1e]);
        assert!(b.kbc.keyboard_idle());
    }

    #[test]
    fn answer_of_the_controller_overtakes_a_key() {
        let mut b = Bench::new();
        b.key("KeyA", true);
        b.command(0x20);
        assert_eq!(b.read(), MODE_RESET);
        b.edges();
        assert_eq!(b.read(), 0x1e);
    }

    #[test]
    fn linux_aux_loop_test_sees_its_byte_as_from_the_mouse() {
        let mut b = Bench::new();
        for byte in [0x5a, 0xf0, 0x56, 0xa4, 0xa5] {
            b.command(WRITE_AUX_BUFFER);
            b.data(byte);
            assert_eq!(b.status() & 0x21, 0x21);
            assert_eq!((b.read(), b.edges()), (byte, (0, 1)));
        }
        assert_eq!(b.status() & 0x21, 0);
    }

    #[test]
    fn keyboard_buffer_write_interrupts_as_the_keyboard() {
        let mut b = Bench::new();
        b.command(WRITE_KEYBOARD_BUFFER);
        b.data(0x42);
        assert_eq!((b.status() & 0x21, b.edges()), (0x01, (1, 0)));
        assert_eq!(b.read(), 0x42);
    }

    // checklist: 58
    #[test]
    fn mouse_answers_through_the_aux_port() {
        let mut b = Bench::new();
        b.aux(0xff);
        assert_eq!(b.status() & STATUS_AUX, STATUS_AUX);
        assert_eq!(b.drain(), [0xfa, 0xaa, 0x00]);
        assert_eq!(b.edges(), (0, 3));
        b.aux(0xf4);
        assert_eq!(b.drain(), [0xfa]);
        b.kbc.mouse_motion(&mut b.board.cx(), 1, -1, 0);
        b.kbc.mouse_button(&mut b.board.cx(), MouseButton::Right, true);
        assert_eq!(b.drain(), [0x08, 1, 1, 0x0a, 0, 0]);
    }

    #[test]
    fn interrupts_follow_the_command_byte() {
        let mut b = Bench::new();
        b.command(0x60);
        b.data(0x40);
        b.key("KeyA", true);
        assert_eq!(b.edges(), (0, 0));
        b.command(0x60);
        b.data(0x41);
        assert_eq!(b.edges(), (1, 0));
    }

    // checklist: 30
    #[test]
    fn a20_gate_has_three_handles() {
        let mut b = Bench::new();
        assert!(b.kbc.a20());
        b.command(0xdd);
        assert!(!b.kbc.a20());
        b.command(0xdf);
        b.command(0xd0);
        assert_eq!(b.drain(), [0xc3]);
        b.command(0xd1);
        b.data(0xdd);
        assert!(!b.kbc.a20());
        assert_eq!(b.board.fabric.take_request(), None);
    }

    // checklist: 53
    #[test]
    fn pulse_and_output_port_reset_the_machine() {
        let mut b = Bench::new();
        b.command(0xff);
        assert_eq!(b.board.fabric.take_request(), None);
        b.command(0xfe);
        assert_eq!(b.board.fabric.take_request(), Some(PowerRequest::Reset));
        b.command(0xd1);
        b.data(0x02);
        assert_eq!(b.board.fabric.take_request(), Some(PowerRequest::Reset));
    }

    #[test]
    fn waiting_bytes_survive_a_restore() {
        let mut b = Bench::new();
        b.key("Delete", false);
        b.aux(0xf2);
        b.command(0x20);
        let mut twin = I8042::new(b.irq1, b.irq12);
        twin.restore(&b.kbc.save()).unwrap();
        b.kbc = twin;
        assert_eq!(b.drain(), [MODE_RESET, 0xe0, 0xd3, 0xfa, 0x00]);
    }
}
