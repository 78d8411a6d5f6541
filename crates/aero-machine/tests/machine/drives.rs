//! Drives: from a guest's register to a backend and back.

use crate::kernel::{Asm, Mode, Reg, TestClock, boot, config, finish, program, results};
use aero_bus::block::{BlockBackend, Medium, MemoryDisk, Operation, Outcome};
use aero_machine::{Bus, ClockConfig, Config, Drive, Exit, Machine};
use std::cell::Cell;
use std::rc::Rc;

/// A drive that finishes nothing before it is told to.
struct Slow(MemoryDisk, Rc<Cell<bool>>);

impl BlockBackend for Slow {
    fn medium(&self) -> Medium {
        self.0.medium()
    }
    fn submit(&mut self, ticket: u64, operation: Operation) {
        self.0.submit(ticket, operation);
    }
    fn poll(&mut self) -> Option<Outcome> {
        self.1.get().then(|| self.0.poll())?
    }
}

fn image() -> Vec<u8> {
    (0..8u8).flat_map(|sector| [sector ^ 0xa5; 512]).collect()
}

/// Reads sector 3 of the primary master by PIO, and records its first dword.
fn read_sector_3(a: &mut Asm) {
    for (port, value) in
        [(0x3f6, 2), (0x1f6, 0xe0), (0x1f2, 1), (0x1f3, 3), (0x1f4, 0), (0x1f5, 0), (0x1f7, 0x20)]
    {
        a.out(port, value);
    }
    // Until BSY falls and DRQ rises: in al, dx; and al, 88h; cmp al, 8; jne.
    a.raw(&[0xba]);
    a.raw(&0x1f7u32.to_le_bytes());
    a.raw(&[0xec, 0x24, 0x88, 0x3c, 0x08, 0x75, 0xf9]);
    a.inl(0x1f0);
    a.record(Reg::Eax);
    a.exit(0);
}

fn machine(clock: ClockConfig, backend: impl BlockBackend + 'static) -> Machine {
    let kernel = boot(program(Mode::Protected, read_sector_3));
    let drives = vec![Drive::new(Bus::IdeDisk, backend)];
    let config = Config { clock, ..config() };
    Machine::with_drives(config, kernel, drives, Box::new(TestClock::default()), None)
        .expect("a small machine")
}

#[test]
fn sector_is_read_with_either_clock() {
    for clock in [ClockConfig::Realtime, ClockConfig::Icount { mips: 100 }] {
        let mut m = machine(clock, MemoryDisk::new(image(), true));
        finish(&mut m);
        assert_eq!(results(&m, 1), [0xa6a6_a6a6], "{clock:?}");
        assert_eq!((m.stats().drives[0].read, m.stats().drives[0].requests), (512, 1));
        assert!(!m.io_pending());
    }
}

#[test]
fn guest_time_waits_for_a_slow_host_and_ends_the_same() {
    let clock = ClockConfig::Icount { mips: 100 };
    let mut fast = machine(clock, MemoryDisk::new(image(), true));
    finish(&mut fast);
    let done = Rc::new(Cell::new(false));
    let mut slow = machine(clock, Slow(MemoryDisk::new(image(), true), done.clone()));
    assert_eq!(slow.run(1_000_000), Exit::WaitIo);
    let waited = slow.retired();
    assert_eq!((slow.run(1_000_000), slow.retired()), (Exit::WaitIo, waited));
    done.set(true);
    finish(&mut slow);
    assert_eq!((slow.retired(), results(&slow, 1)), (fast.retired(), vec![0xa6a6_a6a6]));
}

#[test]
fn host_clock_goes_on_while_the_host_is_slow() {
    let done = Rc::new(Cell::new(false));
    let mut m = machine(ClockConfig::Realtime, Slow(MemoryDisk::new(image(), true), done.clone()));
    assert_eq!((m.run(100_000), m.io_pending()), (Exit::Budget, true));
    done.set(true);
    finish(&mut m);
    assert_eq!(results(&m, 1), [0xa6a6_a6a6]);
}
