//! All clocks of the board are one virtual time in different units.

use aero_bus::bench::TestBoard;
use aero_bus::{At, Device, Mmio, PortIo, VmTime, Width};
use aero_chipset::acpi_pm::AcpiPm;
use aero_chipset::hpet::Hpet;
use aero_chipset::i8254::{HZ, Pit};
use aero_chipset::mc146818::Rtc;

struct Clocks {
    board: TestBoard,
    pit: Pit,
    pm: AcpiPm,
    hpet: Hpet,
    rtc: Rtc,
}

impl Clocks {
    fn new() -> Self {
        let mut board = TestBoard::new();
        let mut line = || board.line();
        let (pit, pm) = (Pit::new(line()), AcpiPm::new(line()));
        let hpet = Hpet::new([line(), line()], Vec::new());
        let rtc = Rtc::new(line(), 0, 1 << 30, 0);
        let mut clocks = Self { board, pit, pm, hpet, rtc };
        let run = At::new(0, 0x10);
        Mmio::write(&mut clocks.hpet, &mut clocks.board.cx(), run, Width::B4, 1).unwrap();
        // Counter 2 of the PIT, gate open, mode 0, from its largest count.
        clocks.board.outb(&mut clocks.pit, 1, 0, 1);
        [(3, 0xb0), (2, 0), (2, 0)].iter().for_each(|(r, v)| clocks.board.outb(&mut clocks.pit, 0, *r, *v));
        clocks
    }

    fn pm_seconds(&mut self) -> f64 {
        let ticks = PortIo::read(&mut self.pm, &mut self.board.cx(), At::new(0, 8), Width::B4).unwrap();
        ticks as f64 / 3_579_545.0
    }

    fn hpet_seconds(&mut self) -> f64 {
        let [capabilities, count] = [0, 0xf0]
            .map(|r| Mmio::read(&mut self.hpet, &mut self.board.cx(), At::new(0, r), Width::B8).unwrap());
        count as f64 * (capabilities >> 32) as f64 / 1e15
    }

    fn out2(&mut self) -> bool {
        self.board.inb(&mut self.pit, 1, 0) & 0x20 != 0
    }

    fn rtc_seconds(&mut self) -> u8 {
        self.board.outb(&mut self.rtc, 0, 0, 0);
        self.board.inb(&mut self.rtc, 0, 1)
    }
}

// checklist: 49
#[test]
fn pm_timer_hpet_pit_and_rtc_agree_within_100_ppm() {
    let mut c = Clocks::new();
    // As systems calibrate: wait for OUT of counter 2 in a loop.
    while !c.out2() {
        let now = c.board.fabric.now();
        c.board.fabric.advance_to(VmTime(now.0 + 500));
    }
    let pit = 65_536.0 / HZ as f64;
    let (pm, hpet) = (c.pm_seconds(), c.hpet_seconds());
    for (a, b) in [(pit, pm), (pit, hpet), (pm, hpet)] {
        assert!((a / b - 1.0).abs() < 100e-6, "{pit} {pm} {hpet}");
    }
    // The second of the RTC ends at the second of the others.
    c.board.fabric.advance_to(VmTime(3_999_900_000));
    assert_eq!((c.rtc_seconds(), c.hpet_seconds() < 4.0, c.pm_seconds() < 4.0), (3, true, true));
    c.board.fabric.advance_to(VmTime(4_000_000_300));
    assert_eq!((c.rtc_seconds(), c.hpet_seconds() >= 4.0, c.pm_seconds() >= 4.0), (4, true, true));
}

#[test]
fn reset_does_not_move_the_time_of_day() {
    let mut c = Clocks::new();
    c.board.fabric.advance_to(VmTime(7_500_000_000));
    c.rtc.reset(&mut c.board.cx());
    assert_eq!(c.rtc_seconds(), 7);
}
