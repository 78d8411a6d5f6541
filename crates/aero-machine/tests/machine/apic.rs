//! The local APIC's way through the machine: commands to oneself and timers, in both forms.

use crate::kernel::Reg::{Eax, Ebx, Ecx, Edx};
use crate::kernel::{Asm, MODES, Mode, TestClock, When, boot, config, finish, program, results};
use aero_machine::{Config, CpuChoice, Machine};

const APIC_BASE: u32 = 0x1b;
const SELF_VECTOR: u8 = 0x51;
const TIMER_VECTOR: u8 = 0x52;
const NMI: u8 = 2;

fn wrmsr(a: &mut Asm, n: u32, value: u32) {
    a.mov_imm(Ecx, n);
    a.mov_imm(Eax, value);
    a.mov_imm(Edx, 0);
    a.raw(&[0x0f, 0x30]);
}

fn rdmsr(a: &mut Asm, n: u32) {
    a.mov_imm(Ecx, n);
    a.raw(&[0x0f, 0x32]);
}

/// x2APIC form, enabled by software.
fn start_x2apic(a: &mut Asm) {
    wrmsr(a, APIC_BASE, 0xfee0_0d00);
    wrmsr(a, 0x80f, 0x1ff);
}

/// Counts in EBX and ends the interrupt.
fn counter(a: &mut Asm, vector: u8, ends: bool) {
    a.handler(vector, |a| {
        a.inc(Ebx);
        if ends {
            a.push(Ecx);
            wrmsr(a, 0x80b, 0);
            a.pop(Ecx);
        }
    });
}

fn results_with_everything(count: usize, mode: Mode, body: impl FnOnce(&mut Asm)) -> Vec<u32> {
    let cpu = CpuChoice { model: "max".to_owned(), strict_msr: true };
    let config = Config { cpu, ..config() };
    let kernel = boot(program(mode, body));
    let mut m = Machine::new(config, kernel, Box::new(TestClock::default())).expect("a machine");
    finish(&mut m);
    results(&m, count)
}

#[test]
fn commands_to_oneself_arrive_before_the_next_instruction() {
    for mode in MODES {
        let seen = results_with_everything(4, mode, |a| {
            counter(a, SELF_VECTOR, true);
            counter(a, NMI, false);
            a.lidt();
            start_x2apic(a);
            a.mov_imm(Ebx, 0);
            a.sti();
            wrmsr(a, 0x83f, SELF_VECTOR.into()); // SELF IPI
            a.record(Ebx);
            wrmsr(a, 0x830, 0x4_4000 | u32::from(SELF_VECTOR)); // ICR, shorthand self
            a.record(Ebx);
            wrmsr(a, 0x830, 0x4400); // NMI to identification 0
            a.record(Ebx);
            a.cli();
            wrmsr(a, 0x83f, SELF_VECTOR.into());
            a.record(Ebx);
            a.exit(0);
        });
        assert_eq!(seen, [1, 2, 3, 3], "{mode:?}");
    }
}

#[test]
fn timer_counts_once_again_and_again_or_to_a_deadline() {
    for mode in MODES {
        let seen = results_with_everything(6, mode, |a| {
            counter(a, TIMER_VECTOR, true);
            a.lidt();
            start_x2apic(a);
            a.mov_imm(Ebx, 0);
            a.sti();
            let wait = |a: &mut Asm, count: u32| {
                let again = a.here();
                a.cmp_imm(Ebx, count);
                a.jump_if(When::NotZero, again);
            };
            wrmsr(a, 0x83e, 0xb); // by 1
            wrmsr(a, 0x832, TIMER_VECTOR.into());
            wrmsr(a, 0x838, 0x1_0000);
            wait(a, 1);
            rdmsr(a, 0x839);
            a.record(Eax);
            // Periodic does not start again what has run out.
            wrmsr(a, 0x832, 0x2_0000 | u32::from(TIMER_VECTOR));
            rdmsr(a, 0x839);
            a.record(Eax);
            wrmsr(a, 0x838, 0x1_0000);
            wait(a, 4);
            a.record(Ebx);
            // A deadline that has passed.
            wrmsr(a, 0x832, 0x4_0000 | u32::from(TIMER_VECTOR));
            a.mov_imm(Ebx, 0);
            wrmsr(a, 0x6e0, 1);
            a.record(Ebx);
            rdmsr(a, 0x6e0);
            a.record(Eax);
            // One to come.
            a.rdtsc();
            a.raw(&[0x05, 0, 0, 1, 0]); // add eax, 0x10000
            a.mov_imm(Ecx, 0x6e0);
            a.raw(&[0x0f, 0x30]);
            a.sti();
            a.hlt();
            a.record(Ebx);
            a.exit(0);
        });
        assert_eq!(seen, [0, 0, 4, 1, 0, 2], "{mode:?}");
    }
}
