//! Where a recorded processor and later ones differ on purpose.
//!
//! The 8088 and the 80286 do some things that later processors do not, and the manual's compatibility chapter (Intel
//! SDM vol. 3, chapter 24, "Architecture Compatibility") says so. There the later processor is right. [`difference`]
//! names the rule by which a test is left out before it runs, [`difference_of_exception`] the rule that explains an
//! exception that only one of the two raised. A report counts what each rule took.

use super::case::{Case, Recorded, reg};
use aero_x86::{DecodeError, Insn, Operand, Rep};
use iced_x86::Mnemonic;

/// The longest instruction of the 80286 (80286 Programmer's Reference Manual, appendix B).
const MAX_LEN_80286: usize = 10;

/// Vectors that the rules know.
mod vector {
    pub const STACK: u8 = 12;
    pub const PROTECTION: u8 = 13;
}

/// Why `case` is not run, if it is not. `insn` is its instruction as later processors decode it, `code` its bytes
/// without an HLT.
pub fn difference(
    recorded: Recorded,
    case: &Case,
    code: &[u8],
    insn: &Result<Insn, DecodeError>,
) -> Option<&'static str> {
    let opcode = Opcode::of(code);
    if matches!(opcode.first, 0xd8..=0xdf) && recorded != Recorded::I80386 {
        return Some("no coprocessor: ESC only reads memory");
    }
    match recorded {
        Recorded::I8088 => on_8088(case, &opcode, insn),
        Recorded::I80286 => on_80286(code, &opcode, insn),
        Recorded::I80386 => on_80386(&opcode),
    }
}

/// Why an exception that only one side raised is no error, if it is not. `raised` is what Aero did.
pub fn difference_of_exception(
    recorded: Recorded,
    expected: Option<u8>,
    raised: Option<u8>,
) -> Option<&'static str> {
    use vector::*;
    match (recorded, expected, raised) {
        (Recorded::I8088, None, Some(STACK | PROTECTION)) => {
            Some("the 8088 wraps an operand at the end of a segment; #GP or #SS later")
        }
        (Recorded::I80286, Some(PROTECTION), Some(STACK)) => {
            Some("an operand over the end of the stack segment is exception 13 on the 80286, #SS later")
        }
        (Recorded::I80286, None, Some(STACK)) => Some("the 80286 wraps POP at FFFFh; #SS later"),
        _ => None,
    }
}

/// Registers that are not compared. The 80286 moves the index registers and CX of a string instruction before it
/// faults; later processors leave them, so that the instruction can be run again.
pub fn moved_by_fault(recorded: Recorded, case: &Case, insn: &Result<Insn, DecodeError>) -> &'static [usize] {
    let string = |insn: &Insn| insn.operands[..usize::from(insn.count)].contains(&Operand::Implied);
    let faulted = case.raised.is_some_and(|raised| raised.number == vector::PROTECTION);
    match insn {
        Ok(insn) if recorded == Recorded::I80286 && faulted && string(insn) => {
            &[reg::ECX, reg::ESI, reg::EDI]
        }
        _ => &[],
    }
}

fn on_8088(case: &Case, opcode: &Opcode, insn: &Result<Insn, DecodeError>) -> Option<&'static str> {
    if let Some(why) = opcode.undocumented_on_8088() {
        return Some(why);
    }
    let Ok(insn) = insn else { return Some("an encoding that later processors do not have") };
    let stack_pointer = case.before(reg::ESP) & 0xffff;
    let shift_by_cl = matches!(opcode.first, 0xd2 | 0xd3) && case.before(reg::ECX) & 0xff > 31;
    let divides = matches!(insn.mnemonic, Mnemonic::Div | Mnemonic::Idiv | Mnemonic::Aam);
    match insn.mnemonic {
        _ if insn.lock => Some("LOCK: any instruction takes it on the 8088, #UD later"),
        Mnemonic::Push if opcode.first == 0x54 => Some("PUSH SP pushes the new SP on the 8088"),
        _ if shift_by_cl => Some("the 8088 does not mask shift counts"),
        _ if divides && case.expected(reg::ESP) & 0xffff == stack_pointer.wrapping_sub(6) & 0xffff => {
            Some("divide error: the 8088 pushes the next instruction's address")
        }
        _ if divides && insn.rep != Rep::None => Some("REP before IDIV changes the sign on the 8088"),
        Mnemonic::Mul | Mnemonic::Imul if insn.rep != Rep::None => {
            Some("REP before a multiplication changes the sign on the 8088")
        }
        _ => None,
    }
}

fn on_80286(code: &[u8], opcode: &Opcode, insn: &Result<Insn, DecodeError>) -> Option<&'static str> {
    match insn {
        _ if code.len() > MAX_LEN_80286 => Some("longer than 10 bytes, the 80286's limit; 15 later"),
        Err(_) if opcode.lock => Some("LOCK: any instruction takes it on the 80286, #UD later"),
        Ok(insn) if insn.lock && !lockable(insn) => {
            Some("LOCK: any instruction takes it on the 80286, #UD later")
        }
        Ok(_) if matches!(opcode.first, 0x8c | 0x8e) && opcode.second >> 3 & 7 >= 4 => {
            Some("FS and GS are not there on the 80286")
        }
        _ => None,
    }
}

fn on_80386(opcode: &Opcode) -> Option<&'static str> {
    match (opcode.first, opcode.second) {
        (0xd8..=0xdf, _) => Some("no coprocessor"),
        (0x0f, 0x20..=0x26) => Some("control, debug and test registers of the 80386"),
        (0x0f, 0x01) => Some("reserved bits of the 80386's CR0 read as ones"),
        (0x0f, 0x10..=0x13) => Some("UMOV, of the 80386 alone"),
        (0x0f, 0xa6 | 0xa7) => Some("XBTS and IBTS, of the 80386 alone"),
        (0xf1, _) => Some("ICEBP enters the emulator's mode"),
        _ => None,
    }
}

/// Whether later processors take LOCK before `insn` (SDM vol. 2, LOCK): a destination in memory, and one of these.
fn lockable(insn: &Insn) -> bool {
    use Mnemonic as M;
    let memory = insn.operands[..usize::from(insn.count)].contains(&Operand::Mem);
    let first = insn.operands[0] == Operand::Mem;
    memory
        && match insn.mnemonic {
            M::Xchg => true,
            M::Add | M::Adc | M::And | M::Or | M::Sbb | M::Sub | M::Xor => first,
            M::Inc | M::Dec | M::Neg | M::Not | M::Bts | M::Btr | M::Btc => first,
            _ => false,
        }
}

/// The bytes behind the prefixes.
struct Opcode {
    first: u8,
    second: u8,
    lock: bool,
}

impl Opcode {
    fn of(code: &[u8]) -> Self {
        let prefix = |b: &u8| matches!(b, 0x26 | 0x2e | 0x36 | 0x3e | 0xf0 | 0xf2 | 0xf3 | 0x64..=0x67);
        let prefixes = code.iter().take_while(|b| prefix(b)).count();
        let byte = |n: usize| code.get(prefixes + n).copied().unwrap_or_default();
        Self { first: byte(0), second: byte(1), lock: code[..prefixes].contains(&0xf0) }
    }

    fn undocumented_on_8088(&self) -> Option<&'static str> {
        let member = self.second >> 3 & 7;
        let undocumented = match self.first {
            0x0f | 0x60..=0x6f | 0xc0 | 0xc1 | 0xc8 | 0xc9 | 0xd6 | 0xf1 => true,
            0xd0..=0xd3 => member == 6,
            0x8f | 0xc6 | 0xc7 => member != 0,
            0xf6 | 0xf7 => member == 1,
            0xfe => member >= 2,
            0xff => member == 7 || self.second >= 0xc0 && matches!(member, 3 | 5),
            0x8c => member >= 4,
            0x8e => member >= 4 || member == 1,
            0xc4 | 0xc5 | 0x8d => self.second >= 0xc0,
            _ => false,
        };
        undocumented.then_some("an opcode that the 8088's manual does not have")
    }
}
