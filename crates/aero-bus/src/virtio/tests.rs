//! Rings and transport, driven through registers and memory as a driver does.

use super::bench::{TestRing, get, kick, power_up, put, read, start, write};
use super::*;
use crate::bench::{TestBoard, conformance};
use crate::pci::PciFunction;
use crate::{At, Device, PortIo, Width};
use aero_state::Saved;

/// Returns each buffer with its readable bytes reversed; queue 1 holds buffers until it is told to return them.
#[derive(Default)]
struct Mirror {
    chain: Chain,
    held: Vec<u16>,
    option: u8,
}

impl VirtioDevice for Mirror {
    const KIND: &'static str = "virtio-mirror";
    type State = u8;

    fn profile(&self) -> Profile {
        Profile {
            kind: 2,
            legacy_id: Some(0x1001),
            class: 0xff_0000,
            subsystem: 2,
            multifunction: false,
            queues: vec![16, 8],
            config_len: 8,
        }
    }

    fn features(&self) -> u64 {
        0x21
    }

    fn config(&self, image: &mut [u8]) {
        image[4] = self.option;
    }

    fn config_written(&mut self, offset: usize, value: u8) {
        if offset == 4 {
            self.option = value;
        }
    }

    fn reset(&mut self) {
        self.option = 0;
        self.held.clear();
    }

    fn queue_notified(&mut self, cx: &mut Cx<'_>, queues: &mut Queues, queue: u16) {
        while queues.pop(cx, queue, &mut self.chain) {
            if queue == 1 {
                self.held.push(self.chain.head());
                continue;
            }
            let mut bytes = vec![0; self.chain.readable_len().min(self.chain.writable_len()) as usize];
            if self.chain.read(cx, 0, &mut bytes).is_err() {
                return queues.fail();
            }
            bytes.reverse();
            if self.chain.write(cx, 0, &bytes).is_err() {
                return queues.fail();
            }
            queues.push(cx, queue, self.chain.head(), bytes.len() as u32);
        }
    }

    fn state(&self) -> u8 {
        self.option
    }

    fn restore(&mut self, state: u8) -> bool {
        self.option = state;
        true
    }
}

const ALL: u64 = 0x21 | feature::INDIRECT_DESC | feature::EVENT_IDX;

struct Bench {
    board: TestBoard,
    function: VirtioPci<Mirror>,
    ring: TestRing,
    line: crate::IrqLine,
}

impl Bench {
    fn bare(interface: Interface) -> Self {
        let mut board = TestBoard::new();
        let line = board.line();
        let function = VirtioPci::new(Mirror::default(), interface, line);
        Self { board, function, ring: TestRing::new(0x1_0000, 16), line }
    }

    fn started(features: u64) -> Self {
        let mut b = Self::bare(Interface::Transitional);
        let second = TestRing::new(0x2_0000, 8);
        assert_eq!(start(&mut b.board, &mut b.function, features, &[&b.ring, &second]), 15);
        b
    }

    fn status(&mut self) -> u8 {
        read(&mut self.board, &mut self.function, 0x14, Width::B1) as u8
    }

    fn kick(&mut self) {
        kick(&mut self.board, &mut self.function, 0);
    }

    fn isr(&mut self) -> u8 {
        read(&mut self.board, &mut self.function, 0x2000, Width::B1) as u8
    }

    fn high(&self) -> bool {
        self.board.fabric.level(self.line)
    }

    /// The capability of a type: where it is.
    fn capability(&mut self, id: u8, kind: Option<u8>) -> u8 {
        let config = self.function.config();
        let mut at = config.byte(0x34);
        while at != 0 && !(config.byte(at) == id && kind.is_none_or(|k| config.byte(at + 3) == k)) {
            at = config.byte(at + 1);
        }
        at
    }

    fn legacy(&mut self, offset: u64, width: Width) -> u64 {
        PortIo::read(&mut self.function, &mut self.board.cx(), At::new(0, offset), width).unwrap()
    }

    fn legacy_out(&mut self, offset: u64, width: Width, value: u64) {
        let at = At::new(0, offset);
        PortIo::write(&mut self.function, &mut self.board.cx(), at, width, value).unwrap();
    }
}

#[test]
fn conforms() {
    for interface in [Interface::Modern, Interface::Transitional] {
        conformance(&[0, 1, 2, 4], |board| VirtioPci::new(Mirror::default(), interface, board.line()));
    }
}

#[test]
fn scattered_buffer_comes_back_written_and_raises_the_pin_until_isr_is_read() {
    let mut b = Bench::started(0x21);
    put(&mut b.board, 0x8000, b"abc");
    put(&mut b.board, 0x9000, b"defg");
    let parts = [(0x8000, 3, false), (0x9000, 4, false), (0xa000, 2, true), (0xb000, 5, true)];
    let head = b.ring.offer(&mut b.board, &parts);
    b.kick();
    assert_eq!(b.ring.take(&mut b.board), Some((head, 7)));
    assert_eq!((get(&b.board, 0xa000), get(&b.board, 0xb000)), (*b"gf", *b"edcba"));
    assert!(b.high());
    assert_eq!((b.isr(), b.isr(), b.high()), (1, 0, false));
}

#[test]
fn indirect_table_is_followed_and_only_if_agreed() {
    let mut b = Bench::started(ALL);
    put(&mut b.board, 0x8000, b"xy");
    let head = b.ring.offer_indirect(&mut b.board, 0xc000, &[(0x8000, 2, false), (0xa000, 2, true)]);
    b.kick();
    assert_eq!((b.ring.take(&mut b.board), get(&b.board, 0xa000)), (Some((head, 2)), *b"yx"));
    let mut b = Bench::started(0x21);
    b.ring.offer_indirect(&mut b.board, 0xc000, &[(0x8000, 2, false), (0xa000, 2, true)]);
    b.kick();
    assert_eq!((b.ring.take(&mut b.board), b.status()), (None, 0x4f));
}

#[test]
fn ring_wraps_many_times() {
    let mut b = Bench::started(ALL);
    for n in 0..70_000u32 {
        put(&mut b.board, 0x8000, &n.to_le_bytes());
        let head = b.ring.offer(&mut b.board, &[(0x8000, 4, false), (0xa000, 4, true)]);
        b.kick();
        assert_eq!(b.ring.take(&mut b.board), Some((head, 4)));
        assert_eq!(get(&b.board, 0xa000), n.to_be_bytes());
    }
}

#[test]
fn interrupts_are_suppressed_by_flag_or_by_index() {
    let mut b = Bench::started(0x21);
    let avail = b.ring.avail();
    put(&mut b.board, avail, &[1, 0]);
    b.ring.offer(&mut b.board, &[(0xa000, 4, true)]);
    b.kick();
    assert_eq!((b.ring.take(&mut b.board).is_some(), b.isr()), (true, 0));

    let mut b = Bench::started(ALL);
    put(&mut b.board, avail + 4 + 32, &[2, 0]);
    let mut seen = Vec::new();
    for _ in 0..4 {
        b.ring.offer(&mut b.board, &[(0xa000, 4, true)]);
        b.kick();
        seen.push(b.isr());
    }
    assert_eq!(seen, [0, 0, 1, 0], "at the third buffer, index 2, and at no other");
    let event: [u8; 2] = get(&b.board, b.ring.used() + 4 + 8 * 16);
    assert_eq!(event, [4, 0], "and the device wants to hear of the fifth");
}

#[test]
fn broken_rings_need_a_reset_and_do_not_hang() {
    type Break = fn(&mut Bench);
    let breaks: [Break; 10] = [
        |b| (0..16).for_each(|n| b.ring.describe(&mut b.board, n, 0x8000, 4, 1, (n + 1) % 16)),
        |b| b.ring.describe(&mut b.board, 0, 0x8000, 4, 1, 0),
        |b| b.ring.describe(&mut b.board, 0, 0x8000, 4, 1, 16),
        |b| b.ring.describe(&mut b.board, 0, u64::MAX - 3, 4, 0, 0),
        |b| b.ring.describe(&mut b.board, 0, 0xc000, 24, 4, 0),
        |b| b.ring.describe(&mut b.board, 0, u64::MAX - 8, 32, 4, 0),
        |b| b.ring.describe(&mut b.board, 0, 0xc000, 32, 5, 1),
        |b| {
            // A table with a table in it.
            b.ring.describe(&mut b.board, 0, 0xc000, 16, 4, 0);
            put(&mut b.board, 0xc000, &[0, 0x80, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 4, 0, 0, 0]);
        },
        |b| {
            // Readable behind writable.
            b.ring.describe(&mut b.board, 0, 0x8000, 4, 3, 1);
            b.ring.describe(&mut b.board, 1, 0x9000, 4, 0, 0);
        },
        |b| {
            // Together more than 4 GiB.
            b.ring.describe(&mut b.board, 0, 0x8000, u32::MAX, 1, 1);
            b.ring.describe(&mut b.board, 1, 0x8000, 4, 0, 0);
        },
    ];
    for (n, make) in breaks.into_iter().enumerate() {
        let mut b = Bench::started(ALL);
        b.ring.describe(&mut b.board, 0, 0x8000, 4, 0, 0);
        make(&mut b);
        // The mirror reads what it can write, so the wild address needs a writable part.
        if n == 3 {
            b.ring.describe(&mut b.board, 0, u64::MAX - 3, 4, 1, 1);
            b.ring.describe(&mut b.board, 1, 0xa000, 4, 2, 0);
        }
        b.ring.offer_head(&mut b.board, 0);
        b.kick();
        assert_eq!((b.status(), b.isr() & 2), (0x4f, 2), "break {n}");
        b.ring.offer(&mut b.board, &[(0xa000, 4, true)]);
        b.kick();
        assert_eq!(b.ring.take(&mut b.board), None, "break {n}");
        write(&mut b.board, &mut b.function, 0x14, Width::B1, 0);
        assert_eq!(b.status(), 0);
    }
}

#[test]
fn heads_and_indices_out_of_range_and_rings_outside_memory_need_a_reset() {
    let mut b = Bench::started(ALL);
    b.ring.offer_head(&mut b.board, 16);
    b.kick();
    assert_eq!(b.status(), 0x4f);

    let mut b = Bench::started(ALL);
    let index = b.ring.avail() + 2;
    put(&mut b.board, index, &17u16.to_le_bytes());
    b.kick();
    assert_eq!(b.status(), 0x4f, "more buffers than entries");

    for base in [0x7fff_0000, u64::MAX - 0xfff, 0x1f_ffc0] {
        let mut b = Bench::bare(Interface::Modern);
        let far = TestRing::new(base.min(u64::MAX - 0x1fff), 16);
        start(&mut b.board, &mut b.function, ALL, &[&far]);
        b.kick();
        assert_eq!(b.status(), 0x4f, "rings at {base:x}");
    }
}

#[test]
fn buffers_offered_again_before_they_return_need_a_reset() {
    let mut b = Bench::started(ALL);
    let mut second = TestRing::new(0x2_0000, 8);
    for _ in 0..8 {
        second.offer(&mut b.board, &[(0xa000, 4, true)]);
    }
    kick(&mut b.board, &mut b.function, 1);
    assert_eq!((b.function.device().held.len(), b.status()), (8, 15));
    second.offer(&mut b.board, &[(0xa000, 4, true)]);
    kick(&mut b.board, &mut b.function, 1);
    assert_eq!((b.function.device().held.len(), b.status()), (8, 0x4f));
}

#[test]
fn garbage_in_rings_never_panics() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..300 {
        let mut b = Bench::started(ALL);
        let mut garbage = vec![0; 0x3000];
        for byte in &mut garbage {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Small numbers reach deeper than large ones.
            *byte = if seed >> 60 < 9 { (seed >> 40) as u8 & 7 } else { 0 };
        }
        put(&mut b.board, 0x1_0000, &garbage);
        put(&mut b.board, 0x1_0102, &[(seed >> 33) as u8 & 15, 0]);
        b.kick();
        kick(&mut b.board, &mut b.function, 1);
    }
}

#[test]
fn features_not_offered_or_without_version_1_are_refused() {
    let mut b = Bench::bare(Interface::Modern);
    let ring = TestRing::new(0x1_0000, 16);
    let status = start(&mut b.board, &mut b.function, 1 << 40, &[&ring]);
    assert_eq!(status & 8, 0);
    for (half, value) in [(0, 0x21), (1, 0)] {
        write(&mut b.board, &mut b.function, 0x14, Width::B1, 0);
        write(&mut b.board, &mut b.function, 0x08, Width::B4, half);
        write(&mut b.board, &mut b.function, 0x0c, Width::B4, value);
        write(&mut b.board, &mut b.function, 0x14, Width::B1, 11);
        assert_eq!(b.status(), 3);
    }
    write(&mut b.board, &mut b.function, 0, Width::B4, 1);
    assert_eq!(read(&mut b.board, &mut b.function, 4, Width::B4), 1, "VERSION_1 is offered");
}

#[test]
fn queue_size_and_addresses_change_only_while_it_is_off() {
    let mut b = Bench::bare(Interface::Modern);
    power_up(&mut b.board, &mut b.function);
    let mut size = |value| {
        write(&mut b.board, &mut b.function, 0x18, Width::B2, value);
        read(&mut b.board, &mut b.function, 0x18, Width::B2)
    };
    assert_eq!((size(8), size(7), size(0), size(32), size(16)), (8, 8, 8, 8, 16));
    write(&mut b.board, &mut b.function, 0x20, Width::B8, 0x1_2345_6000);
    write(&mut b.board, &mut b.function, 0x1c, Width::B2, 1);
    write(&mut b.board, &mut b.function, 0x20, Width::B4, 0);
    write(&mut b.board, &mut b.function, 0x18, Width::B2, 8);
    assert_eq!(read(&mut b.board, &mut b.function, 0x20, Width::B8), 0x1_2345_6000);
    assert_eq!(read(&mut b.board, &mut b.function, 0x18, Width::B4), 0xffff_0010);
    write(&mut b.board, &mut b.function, 0x16, Width::B2, 2);
    assert_eq!(read(&mut b.board, &mut b.function, 0x18, Width::B2), 0, "there is no third queue");
}

#[test]
fn message_is_sent_to_the_queue_s_vector_and_isr_stays_clear() {
    let mut b = Bench::started(ALL);
    let msix = b.capability(0x11, None);
    b.function.config().write(msix, 0x8000_0000, 0xc);
    b.function.config_written(&mut b.board.cx(), msix);
    for (at, value) in [(0x10, 0xfee0_0000), (0x18, 0x51), (0x1c, 0)] {
        crate::Mmio::write(&mut b.function, &mut b.board.cx(), At::new(1, at), Width::B4, value).unwrap();
    }
    write(&mut b.board, &mut b.function, 0x16, Width::B2, 0);
    for (vector, taken) in [(3, 0xffff), (1, 1)] {
        write(&mut b.board, &mut b.function, 0x1a, Width::B2, vector);
        assert_eq!(read(&mut b.board, &mut b.function, 0x1a, Width::B2), taken, "there are three vectors");
    }
    b.ring.offer(&mut b.board, &[(0xa000, 4, true)]);
    b.kick();
    let messages = b.board.fabric.take_messages();
    assert_eq!((messages.len(), messages[0].data, b.high(), b.isr()), (1, 0x51, false, 0));
}

#[test]
fn legacy_driver_places_its_queue_by_page_and_talks_through_ports() {
    let mut b = Bench::bare(Interface::Transitional);
    power_up(&mut b.board, &mut b.function);
    assert_eq!(b.function.config().read(0), 0x1001_1af4);
    assert_eq!((b.function.config().byte(8), b.function.config().read(0x2c) >> 16), (0, 2));
    b.legacy_out(0x12, Width::B1, 3);
    let offered = b.legacy(0, Width::B4);
    assert_eq!(offered, 0x21 | feature::INDIRECT_DESC | feature::EVENT_IDX | feature::ANY_LAYOUT);
    b.legacy_out(4, Width::B4, 0x21);
    assert_eq!(b.legacy(12, Width::B2), 16);
    b.legacy_out(8, Width::B4, 0x10);
    assert_eq!(b.legacy(8, Width::B4), 0x10);
    b.legacy_out(0x12, Width::B1, 7);
    put(&mut b.board, 0x8000, b"ab");
    let head = b.ring.offer(&mut b.board, &[(0x8000, 2, false), (0xa000, 2, true)]);
    b.legacy_out(0x10, Width::B2, 0);
    assert_eq!((b.ring.take(&mut b.board), get(&b.board, 0xa000)), (Some((head, 2)), *b"ba"));
    assert_eq!((b.high(), b.legacy(0x13, Width::B1), b.high()), (true, 1, false));
    b.legacy_out(24, Width::B1, 9);
    assert_eq!(b.legacy(24, Width::B1), 9, "the device's structure begins at 20");
    let msix = b.capability(0x11, None);
    b.function.config().write(msix, 0x8000_0000, 0xc);
    assert_eq!((b.legacy(28, Width::B1), b.legacy(20, Width::B2)), (9, 0xffff), "and at 24 with MSI-X");
    b.legacy_out(0x12, Width::B1, 0);
    assert_eq!(b.legacy(8, Width::B4), 0);
}

#[test]
fn window_in_configuration_space_reaches_the_structures() {
    let mut b = Bench::started(ALL);
    let window = b.capability(9, Some(5));
    let mut set = |at: u8, value: u32| {
        b.function.config().write(window + at, value, 0xf);
        b.function.config_written(&mut b.board.cx(), window + at);
    };
    set(4, 4);
    set(8, 0x3004);
    set(12, 1);
    set(16, 0x5a);
    assert_eq!(b.function.device().option, 0x5a);
    b.function.config().write(window + 8, 0x14, 0xf);
    b.function.config_reading(&mut b.board.cx(), window + 16);
    assert_eq!(b.function.config().read(window + 16), 15, "the status register");
}

#[test]
fn nothing_moves_until_the_function_is_a_bus_master() {
    let mut b = Bench::started(ALL);
    b.function.config().write(4, 3, 0x3);
    b.function.config_written(&mut b.board.cx(), 4);
    b.ring.offer(&mut b.board, &[(0xa000, 4, true)]);
    b.kick();
    assert_eq!((b.ring.take(&mut b.board), b.isr()), (None, 0));
    b.function.config().write(4, 7, 0x3);
    b.function.config_written(&mut b.board.cx(), 4);
    assert!(b.ring.take(&mut b.board).is_some());
}

#[test]
fn saved_rings_go_on_where_they_were() {
    let mut b = Bench::started(ALL);
    b.ring.offer(&mut b.board, &[(0xa000, 4, true)]);
    b.kick();
    b.ring.take(&mut b.board);
    let saved = b.function.save();
    let mut twin = VirtioPci::new(Mirror::default(), Interface::Transitional, b.line);
    twin.restore(&saved).unwrap();
    assert_eq!(twin.save(), saved);
    b.function = twin;
    let head = b.ring.offer(&mut b.board, &[(0xa000, 4, true)]);
    b.kick();
    assert_eq!(b.ring.take(&mut b.board), Some((head, 0)));
}

#[test]
fn two_resets_are_one_and_drop_the_pin() {
    let mut b = Bench::started(ALL);
    b.ring.offer(&mut b.board, &[(0xa000, 4, true)]);
    b.kick();
    assert!(b.high());
    b.function.reset(&mut b.board.cx());
    assert_eq!((b.high(), b.function.config().command(), b.function.is_driven()), (false, 0, false));
}
