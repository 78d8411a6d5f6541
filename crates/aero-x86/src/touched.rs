//! Which registers an instruction reads and writes, for compiled code that lets the interpreter run it.

use crate::CodeSize;
use iced_x86::{
    Decoder, DecoderOptions, InstructionInfoFactory, InstructionInfoOptions, OpAccess, Register, RflagsBits,
};

/// Registers by bit: what an instruction depends on, and what it may change. What may change is among what it depends on,
/// since a part of it, or all on some condition, may stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Touched {
    /// General registers.
    pub gprs: u16,
    /// Those that may change.
    pub gprs_written: u16,
    /// XMM registers.
    pub xmms: u16,
    /// Those that may change.
    pub xmms_written: u16,
    /// The arithmetic flags.
    pub flags: bool,
    /// They may change.
    pub flags_written: bool,
}

const ARITHMETIC: u32 =
    RflagsBits::OF | RflagsBits::SF | RflagsBits::ZF | RflagsBits::AF | RflagsBits::CF | RflagsBits::PF;

/// What the instruction that `bytes` are touches; `None` for one that concerns the system or saves and restores state.
pub fn touched(bytes: &[u8], size: CodeSize) -> Option<Touched> {
    let mut decoder = Decoder::with_ip(size.bits(), bytes, 0, DecoderOptions::FORCE_RESERVED_NOP);
    let raw = decoder.decode();
    if raw.is_invalid() || raw.is_privileged() || raw.is_save_restore_instruction() {
        return None;
    }
    let mut touched = Touched {
        flags: (raw.rflags_read() | raw.rflags_modified()) & ARITHMETIC != 0,
        flags_written: raw.rflags_modified() & ARITHMETIC != 0,
        ..Touched::default()
    };
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info_options(&raw, InstructionInfoOptions::NO_MEMORY_USAGE);
    for used in info.used_registers() {
        let written = !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess);
        touched.add(used.register(), written);
    }
    Some(touched)
}

impl Touched {
    fn add(&mut self, register: Register, written: bool) {
        let bit = |n: usize| if n < 16 { 1 << n } else { 0 };
        if register.is_gpr() {
            let full = register.full_register();
            let mask = bit(full as usize - Register::RAX as usize);
            self.gprs |= mask;
            self.gprs_written |= if written { mask } else { 0 };
        } else if register.is_vector_register() {
            let mask = bit(register.number());
            self.xmms |= mask;
            self.xmms_written |= if written { mask } else { 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_move_touches_its_pointers_and_count() {
        let t = touched(&[0xf3, 0xa4], CodeSize::B64).expect("an instruction");
        assert_eq!((t.gprs, t.gprs_written, t.flags), (0b1100_0010, 0b1100_0010, false));
    }

    #[test]
    fn vector_store_writes_no_register() {
        let t = touched(&[0x0f, 0x29, 0x58, 0x10], CodeSize::B64).expect("an instruction");
        assert_eq!((t.gprs, t.gprs_written, t.xmms, t.xmms_written), (1, 0, 8, 0));
    }

    #[test]
    fn state_restore_and_privileged_instructions_touch_anything() {
        assert_eq!(touched(&[0x0f, 0xae, 0x08], CodeSize::B64), None);
        assert_eq!(touched(&[0x0f, 0x22, 0xd8], CodeSize::B64), None);
    }
}
