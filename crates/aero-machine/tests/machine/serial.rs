//! COM1, and interrupts by both ways.

use crate::kernel::Reg::Eax;
use crate::kernel::{Asm, COM1, MODES, Mode, When, finish, machine, program, results, run};
use aero_machine::{Exit, layout};

const RBR: u16 = COM1;
const IER: u16 = COM1 + 1;
const MCR: u16 = COM1 + 4;
const LSR: u16 = COM1 + 5;
const LSR_DATA_READY: u8 = 1;

/// Lets received bytes interrupt: the receiver's interrupt, and OUT2, which gates the line on a PC.
fn enable_receiver_interrupt(a: &mut Asm) {
    a.out(MCR, 0x0b);
    a.out(IER, 1);
}

/// Records what the receiver has until it has no more, as drivers do: an edge-triggered interrupt comes once.
fn drain_receiver(a: &mut Asm) {
    let (next, done) = (a.here(), a.label());
    a.inb(LSR);
    a.and_imm(Eax, LSR_DATA_READY.into());
    a.jump_if(When::Zero, done);
    a.inb(RBR);
    a.record(Eax);
    a.jmp(next);
    a.bind(done);
}

/// Sends two bytes to a machine that halts between interrupts; gives what its handler recorded.
fn received_by_interrupt(kernel: Vec<u8>) -> Vec<u32> {
    let mut m = machine(kernel);
    assert_eq!(run(&mut m), Exit::Idle { until: None });
    assert_eq!(results(&m, 1), [0], "no interrupt without a byte");
    m.serial_send(b"ab");
    assert_eq!(run(&mut m), Exit::Idle { until: None });
    results(&m, 3)
}

#[test]
fn bytes_written_to_com1_come_out_once() {
    for mode in MODES {
        let mut m = machine(program(mode, |a| {
            a.print("hello, host\n");
            a.exit(0);
        }));
        finish(&mut m);
        assert_eq!(m.take_serial(), b"hello, host\n", "{mode:?}");
        assert_eq!(m.take_serial(), b"", "{mode:?}");
    }
}

#[test]
fn bytes_sent_by_the_host_are_read_by_polling_in_order() {
    let mut m = machine(program(Mode::Protected, |a| {
        let next = a.here();
        a.poll(LSR, LSR_DATA_READY);
        a.inb(RBR);
        a.out_al(COM1);
        a.cmp_imm(Eax, b'\n'.into());
        a.jump_if(When::NotZero, next);
        a.exit(0);
    }));
    assert_eq!(m.run(1000), Exit::Budget);
    assert_eq!(m.take_serial(), b"");
    let line: Vec<u8> = (0..100).map(|n| b'0' + n % 10).chain(*b"\n").collect();
    m.serial_send(&line);
    finish(&mut m);
    assert_eq!(m.take_serial(), line);
}

#[test]
fn received_byte_interrupts_through_the_pic() {
    for mode in MODES {
        let kernel = program(mode, |a| {
            a.handler(0x24, |a| {
                drain_receiver(a);
                a.end_of_interrupt();
            });
            a.lidt();
            a.start_pic(1 << 4);
            enable_receiver_interrupt(a);
            a.sti();
            a.halt_for_ever();
        });
        assert_eq!(received_by_interrupt(kernel), [b'a'.into(), b'b'.into(), 0], "{mode:?}");
    }
}

/// Without FIFOs a character takes its time on the wire, so that the line has fallen before the next one raises it.
#[test]
fn every_byte_interrupts_while_the_fifos_are_off() {
    let kernel = program(Mode::Protected, |a| {
        a.handler(0x24, |a| {
            a.inb(RBR);
            a.record(Eax);
            a.end_of_interrupt();
        });
        a.lidt();
        a.start_pic(1 << 4);
        enable_receiver_interrupt(a);
        a.sti();
        a.halt_for_ever();
    });
    assert_eq!(received_by_interrupt(kernel), [b'a'.into(), b'b'.into(), 0]);
}

#[test]
fn received_byte_interrupts_through_the_io_apic() {
    const IOREGSEL: u32 = layout::IOAPIC as u32;
    const IOWIN: u32 = IOREGSEL + 0x10;
    const IOREDTBL4: u32 = 0x10 + 2 * 4;
    const SVR: u32 = layout::LAPIC as u32 + 0xf0;
    const EOI: u32 = layout::LAPIC as u32 + 0xb0;
    const VECTOR: u8 = 0x44;
    let kernel = program(Mode::Protected, |a| {
        a.handler(VECTOR, |a| {
            drain_receiver(a);
            a.store_imm(EOI, 0);
        });
        a.lidt();
        a.start_pic(0);
        a.store_imm(SVR, 0x1ff);
        // To processor 0, edge-triggered.
        for (register, value) in [(IOREDTBL4 + 1, 0), (IOREDTBL4, u32::from(VECTOR))] {
            a.store_imm(IOREGSEL, register);
            a.store_imm(IOWIN, value);
        }
        enable_receiver_interrupt(a);
        a.sti();
        a.halt_for_ever();
    });
    assert_eq!(received_by_interrupt(kernel), [b'a'.into(), b'b'.into(), 0]);
}

#[test]
fn debug_console_collects_text() {
    let mut m = machine(program(Mode::Long, |a| {
        a.out(0xe9, b'!');
        a.exit(0);
    }));
    finish(&mut m);
    assert_eq!(m.take_debugcon(0), b"!");
    assert_eq!(m.take_debugcon(0), b"");
}

#[test]
fn second_port_interrupts_on_irq_3_and_its_output_goes_nowhere() {
    const COM2: u16 = 0x2f8;
    let mut m = machine(program(Mode::Long, |a| {
        a.handler(0x23, |a| {
            a.inb(COM2 + 2);
            a.record(Eax);
            a.end_of_interrupt();
        });
        a.lidt();
        a.start_pic(1 << 3);
        a.sti();
        a.out(COM2 + 4, 0x0b);
        a.out(COM2, b'x');
        // The transmitter is empty.
        a.out(COM2 + 1, 2);
        a.inb(COM2 + 5);
        a.record(Eax);
        a.exit(0);
    }));
    finish(&mut m);
    assert_eq!(results(&m, 2), [0x02, 0x60]);
    assert_eq!(m.take_serial(), b"");
    assert_eq!(m.unclaimed().count(), 0);
}
