//! A board with nothing on it, for tests and proofs of the processor alone.

use crate::lapic::Icr;
use crate::vcpu::Bus;
use aero_mem::GuestMemory;

/// Reads give ones, writes go nowhere, and nothing interrupts.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDevices;

impl Bus for NoDevices {
    fn read_memory(&mut self, _: &mut GuestMemory, _: u64, _: u64, len: u32) -> u64 {
        u64::MAX >> (64 - 8 * len)
    }
    fn write_memory(&mut self, _: &mut GuestMemory, _: u64, _: u64, _: u32, _: u64) {}
    fn read_port(&mut self, _: &mut GuestMemory, _: u64, _: u16, len: u32) -> u32 {
        u32::MAX >> (32 - 8 * len)
    }
    fn write_port(&mut self, _: &mut GuestMemory, _: u64, _: u16, _: u32, _: u32) {}
    fn now(&mut self, when: u64) -> u64 {
        when
    }
    fn interrupt_line(&self) -> bool {
        false
    }
    fn acknowledge_interrupt(&mut self, _: &mut GuestMemory, _: u64) -> u8 {
        0
    }
    fn needs_attention(&self) -> bool {
        false
    }
    fn send_ipi(&mut self, _: Icr) {}
    fn end_of_interrupt(&mut self, _: &mut GuestMemory, _: u64, _: u8) {}
}
