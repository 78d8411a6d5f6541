//! The program in a test ROM: it enters cases, catches what they end with, and writes the results to a port.
//!
//! It boots into flat 32-bit code, copies itself to RAM and builds the pristine window from the ROM's first list of
//! bytes. Then, for each case: put the case's bytes into the window, load the state that lies there, go. Every way out
//! is an exception (code pages are full of INT3): a stub for its vector stores the registers in the window's record and
//! comes back here, where each dword of the window that differs from the pristine copy is written to the debug port and
//! put right again. A triple fault resets the machine; the boot code finds a variable set and goes on from there.
//!
//! The output: `AEROROM!`; for each case a mark (C5h, or C6h after a triple fault), its number (16 bits), pairs of the
//! dword's index (16 bits) and value (32 bits), and FFFFh; at the end EDh.

use super::layout::{self, DRIVER, PRISTINE, ROM, WINDOW, WINDOW_SIZE, driver, enter, linear, own, var};
use super::layout::{record, state};
use anyhow::Result;
use iced_x86::code_asm::*;
use iced_x86::{Code, Instruction};

/// What the output begins with.
pub const BEGIN: &[u8] = b"AEROROM!";
/// Mark of a case that an exception ended.
pub const DONE: u8 = 0xc5;
/// Mark of a case that a triple fault ended.
pub const RESET: u8 = 0xc6;
/// The end of the output.
pub const END: u8 = 0xed;
/// Port of the output, as Bochs and QEMU have it.
pub const DEBUG_PORT: u16 = 0xe9;
/// A write here ends QEMU's run (`isa-debug-exit`).
pub const EXIT_PORT: u16 = 0x501;
/// The word "Shutdown" here ends Bochs' run.
const BOCHS_EXIT_PORT: u32 = 0x8900;

/// Where the boot code lies in the ROM: 16-bit, then 32-bit.
const BOOT16: usize = 0x1_fe00;
const BOOT32: usize = 0x1_fe80;
const RESET_VECTOR: usize = 0x1_fff0;

/// Where code that went to an offset without its segment's base strays.
const STRAY: u32 = 0x8000;

/// Memory beside the window that cases write, and the dwords that fill it before each: the table at 0, what follows
/// the window, and what lies 64 KiB from the base of the segments whose limits are tried.
const BESIDE: [(u32, u32, u32); 3] = [
    (0, 0x400, var::REDIRECTION),
    (WINDOW + WINDOW_SIZE, WINDOW + WINDOW_SIZE + 0x1000, STOP),
    (WINDOW + 0x1_b000, WINDOW + 0x1_d000, STOP),
];
/// INT3, four times: what runs off the window's end is to stop there.
const STOP: u32 = 0xcccc_cccc;

const CR0_PE_ET: u32 = 0x11;
const CR4_PAE: u32 = 0x20;
const EFER: u32 = 0xc000_0080;
const EFLAGS_VM: u32 = 1 << 17;
const DR7_IDLE: u32 = 0x400;
const PIC_MASKS: [u32; 2] = [0x21, 0xa1];

/// First byte after the driver that [`image`] leaves free, and the end of that room.
pub const FREE: core::ops::Range<usize> = driver::SIZE as usize..BOOT16;

/// The ROM with everything but cases.
///
/// # Errors
/// When the program cannot be assembled: a mistake in this file.
pub fn image() -> Result<Vec<u8>> {
    let mut rom = vec![0; layout::ROM_SIZE];
    let mut put = |at: usize, bytes: &[u8]| rom[at..at + bytes.len()].copy_from_slice(bytes);
    let (code32, entries) = code32()?;
    let (code16, common16) = code16(entries.collect)?;
    let (code64, common64) = code64()?;
    put(driver::CODE16 as usize, &code16);
    put(driver::CODE32 as usize, &code32);
    put(driver::CODE64 as usize, &code64);
    for n in 0..layout::VECTORS {
        let table = |stubs: u32| (stubs + n * layout::STUB) as usize;
        put(table(driver::STUBS16), &stub(n, driver::STUBS16, common16, 2));
        put(table(driver::STUBS32), &stub(n, driver::STUBS32, entries.common, 4));
        put(table(driver::STUBS64), &stub(n, driver::STUBS64, common64, 4));
    }
    put(driver::GDT as usize, &own_gdt());
    put(driver::GDTR as usize, &table_register(0x2f, DRIVER + driver::GDT));
    put(driver::IDTR as usize, &table_register(0, 0));
    put(driver::COLLECT as usize, &far_pointer(entries.collect, own::CODE32));
    put(BOOT16, &boot16()?);
    put(BOOT32, &boot32(&entries)?);
    put(RESET_VECTOR, &[0xea, BOOT16 as u8, (BOOT16 >> 8) as u8, 0x00, 0xf0]);
    Ok(rom)
}

/// `push n; jmp common`
fn stub(n: u32, table: u32, common: u32, displacement: u32) -> Vec<u8> {
    let at = table + n * layout::STUB;
    let rel = common.wrapping_sub(at + 3 + displacement).to_le_bytes();
    [&[0x6a, n as u8, 0xe9], &rel[..displacement as usize]].concat()
}

fn own_gdt() -> Vec<u8> {
    let code16 = 0x0000_9b00_0000_ffff | u64::from(DRIVER) << 16;
    let table = [
        0,
        0x00cf_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        0x00af_9b00_0000_ffff,
        code16,
        0x0000_9300_0000_ffff,
    ];
    table.into_iter().flat_map(u64::to_le_bytes).collect()
}

fn table_register(limit: u16, base: u32) -> Vec<u8> {
    [&limit.to_le_bytes()[..], &u64::from(base).to_le_bytes()].concat()
}

fn far_pointer(offset: u32, selector: u16) -> Vec<u8> {
    [&offset.to_le_bytes()[..], &selector.to_le_bytes()].concat()
}

/// The physical address of a state or record field.
fn field(offset: u16) -> u32 {
    linear(offset)
}

fn far_jump(a: &mut CodeAssembler, code: Code, selector: u16, offset: u32) -> Result<()> {
    Ok(a.add_instruction(Instruction::with_far_branch(code, selector, offset)?)?)
}

/// From the reset vector to 32-bit code, everything still in the ROM.
fn boot16() -> Result<Vec<u8>> {
    let gdtr = (BOOT16 as u32 + 0x70) & 0xffff;
    let mut a = CodeAssembler::new(16)?;
    a.cli()?;
    // lgdt cs:[gdtr] with a 32-bit base
    a.db(&[0x2e, 0x66, 0x0f, 0x01, 0x16])?;
    a.db(&(gdtr as u16).to_le_bytes())?;
    a.mov(eax, cr0)?;
    a.or(al, 1)?;
    a.mov(cr0, eax)?;
    far_jump(&mut a, Code::Jmp_ptr1632, own::CODE32, ROM + BOOT32 as u32)?;
    let mut code = a.assemble(BOOT16 as u64 & 0xffff)?;
    code.resize(0x70, 0xcc);
    code.extend(table_register(0x2f, ROM + driver::GDT));
    Ok(code)
}

fn boot32(entries: &Entries) -> Result<Vec<u8>> {
    let mut a = CodeAssembler::new(32)?;
    let mut fresh = a.create_label();
    load_own_segments(&mut a)?;
    a.cld()?;
    a.mov(ebx, entries.resume)?;
    a.cmp(dword_ptr(var::MAGIC), var::ALIVE)?;
    a.jne(fresh)?;
    a.jmp(ebx)?;
    a.set_label(&mut fresh)?;
    a.mov(ebx, entries.start)?;
    a.mov(esi, ROM)?;
    a.mov(edi, DRIVER)?;
    a.mov(ecx, driver::SIZE / 4)?;
    a.rep().movsd()?;
    a.jmp(ebx)?;
    Ok(a.assemble(u64::from(ROM) + BOOT32 as u64)?)
}

fn load_own_segments(a: &mut CodeAssembler) -> Result<()> {
    a.mov(eax, u32::from(own::DATA))?;
    a.mov(ds, ax)?;
    a.mov(es, ax)?;
    a.mov(fs, ax)?;
    a.mov(gs, ax)?;
    a.mov(ss, ax)?;
    a.mov(esp, var::STACK)?;
    Ok(())
}

/// Addresses in the 32-bit part.
struct Entries {
    start: u32,
    collect: u32,
    resume: u32,
    /// What the exception stubs jump to, as an offset in the driver's segment.
    common: u32,
}

/// Labels of the 32-bit part.
struct Labels {
    start: CodeLabel,
    next: CodeLabel,
    apply: CodeLabel,
    collect: CodeLabel,
    resume: CodeLabel,
    compare: CodeLabel,
    put_bytes: CodeLabel,
    finish: CodeLabel,
    common: CodeLabel,
}

fn code32() -> Result<(Vec<u8>, Entries)> {
    let mut a = CodeAssembler::new(32)?;
    let mut l = Labels {
        start: a.create_label(),
        next: a.create_label(),
        apply: a.create_label(),
        collect: a.create_label(),
        resume: a.create_label(),
        compare: a.create_label(),
        put_bytes: a.create_label(),
        finish: a.create_label(),
        common: a.create_label(),
    };
    start(&mut a, &mut l)?;
    next(&mut a, &mut l)?;
    enter_case(&mut a)?;
    collect(&mut a, &mut l)?;
    apply(&mut a, &mut l)?;
    compare(&mut a, &mut l)?;
    put_bytes(&mut a, &mut l)?;
    finish(&mut a, &mut l)?;
    a.set_label(&mut l.common)?;
    common32(&mut a)?;
    let options = iced_x86::BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
    let result = a.assemble_options((DRIVER + driver::CODE32).into(), options)?;
    let address = |label| -> Result<u32> { Ok(result.label_ip(label)? as u32) };
    let entries = Entries {
        start: address(&l.start)?,
        collect: address(&l.collect)?,
        resume: address(&l.resume)?,
        common: address(&l.common)? - DRIVER,
    };
    Ok((result.inner.code_buffer, entries))
}

fn mask_interrupts(a: &mut CodeAssembler) -> Result<()> {
    a.mov(al, 0xffu32)?;
    for port in PIC_MASKS {
        a.out(port, al)?;
    }
    Ok(())
}

/// Builds the pristine window and the window.
fn start(a: &mut CodeAssembler, l: &mut Labels) -> Result<()> {
    a.set_label(&mut l.start)?;
    mask_interrupts(a)?;
    a.xor(eax, eax)?;
    a.mov(edi, PRISTINE)?;
    a.mov(ecx, WINDOW_SIZE / 4)?;
    a.rep().stosd()?;
    a.mov(esi, ROM + driver::SIZE)?;
    a.mov(ebp, PRISTINE)?;
    a.call(l.apply)?;
    a.mov(dword_ptr(var::NEXT), esi)?;
    a.mov(dword_ptr(var::INDEX), 0xffff_ffffu32)?;
    a.mov(esi, PRISTINE)?;
    a.mov(edi, WINDOW)?;
    a.mov(ecx, WINDOW_SIZE / 4)?;
    a.rep().movsd()?;
    // What lands before the window's begin is to stop there.
    a.mov(eax, STOP)?;
    a.mov(edi, STRAY)?;
    a.mov(ecx, (WINDOW - STRAY) / 4)?;
    a.rep().stosd()?;
    a.mov(word_ptr(var::REDIRECTED), var::UD2)?;
    a.mov(dword_ptr(var::MAGIC), var::ALIVE)?;
    for byte in BEGIN {
        a.mov(al, u32::from(*byte))?;
        a.out(u32::from(DEBUG_PORT), al)?;
    }
    Ok(())
}

/// Takes the next case from the ROM: a byte 1 and its list, or a byte 0.
fn next(a: &mut CodeAssembler, l: &mut Labels) -> Result<()> {
    a.set_label(&mut l.next)?;
    a.mov(esi, dword_ptr(var::NEXT))?;
    a.lodsb()?;
    a.test(al, al)?;
    a.je(l.finish)?;
    // Cases may have written there.
    for (from, to, fill) in BESIDE {
        a.mov(eax, fill)?;
        a.mov(edi, from)?;
        a.mov(ecx, (to - from) / 4)?;
        a.rep().stosd()?;
    }
    a.mov(ebp, WINDOW)?;
    a.call(l.apply)?;
    a.mov(dword_ptr(var::NEXT), esi)?;
    a.inc(dword_ptr(var::INDEX))?;
    Ok(())
}

/// Puts a list of bytes at ESI into the window at EBP. An entry is a length and an offset, 16 bits each, and the bytes;
/// or, with bit 15 of the length set, one byte to fill with. Length 0 ends the list.
fn apply(a: &mut CodeAssembler, l: &mut Labels) -> Result<()> {
    let (mut fill, mut done) = (a.create_label(), a.create_label());
    a.set_label(&mut l.apply)?;
    a.movzx(ecx, word_ptr(esi))?;
    a.add(esi, 2)?;
    a.test(ecx, ecx)?;
    a.je(done)?;
    a.movzx(edi, word_ptr(esi))?;
    a.add(esi, 2)?;
    a.add(edi, ebp)?;
    a.btr(ecx, 15)?;
    a.jc(fill)?;
    a.rep().movsb()?;
    a.jmp(l.apply)?;
    a.set_label(&mut fill)?;
    a.lodsb()?;
    a.rep().stosb()?;
    a.jmp(l.apply)?;
    a.set_label(&mut done)?;
    a.ret()?;
    Ok(())
}

/// Loads the state in the window and goes.
fn enter_case(a: &mut CodeAssembler) -> Result<()> {
    let (mut not_real, mut long, mut by_return, mut vm86, mut small) =
        (a.create_label(), a.create_label(), a.create_label(), a.create_label(), a.create_label());
    load_debug_registers(a)?;
    load_msrs(a)?;
    a.xor(eax, eax)?;
    a.mov(cr2, eax)?;
    a.mov(eax, dword_ptr(field(state::CR4)))?;
    a.mov(cr4, eax)?;
    a.cmp(dword_ptr(field(state::HOW)), enter::UNREAL)?;
    a.ja(not_real)?;
    a.lidt(fword_ptr(field(state::IDTR)))?;
    a.mov(eax, dword_ptr(field(state::FAR)))?;
    a.mov(dword_ptr(DRIVER + driver::ENTRY), eax)?;
    a.mov(eax, u32::from(own::DATA16))?;
    a.mov(ss, ax)?;
    a.cmp(dword_ptr(field(state::HOW)), enter::REAL)?;
    a.je(small)?;
    a.mov(eax, u32::from(own::DATA))?;
    a.set_label(&mut small)?;
    a.mov(es, ax)?;
    a.mov(fs, ax)?;
    a.mov(gs, ax)?;
    a.mov(ds, ax)?;
    far_jump(a, Code::Jmp_ptr1632, own::CODE16, driver::CODE16)?;

    a.set_label(&mut not_real)?;
    a.mov(eax, dword_ptr(field(state::CR3)))?;
    a.mov(cr3, eax)?;
    a.xor(edx, edx)?;
    a.mov(eax, dword_ptr(field(state::EFER)))?;
    a.mov(ecx, EFER)?;
    a.wrmsr()?;
    a.mov(eax, dword_ptr(field(state::CR0)))?;
    a.mov(cr0, eax)?;
    a.cmp(dword_ptr(field(state::HOW)), enter::LONG)?;
    a.je(long)?;
    load_tables(a)?;
    a.cmp(dword_ptr(field(state::HOW)), enter::RETURN)?;
    a.je(by_return)?;

    a.push(dword_ptr(field(state::FLAGS)))?;
    a.popfd()?;
    load_segments(a)?;
    a.mov(ss, word_ptr(field(state::SS)))?;
    a.mov(esp, dword_ptr(field(state::RSP)))?;
    load_registers(a)?;
    a.mov(ds, word_ptr(field(state::DS)))?;
    // jmp far cs:[FAR]
    a.db(&[0x2e, 0xff, 0x2d])?;
    a.db(&field(state::FAR).to_le_bytes())?;

    a.set_label(&mut by_return)?;
    a.test(dword_ptr(field(state::FLAGS)), EFLAGS_VM)?;
    a.jne(vm86)?;
    push_frame(a)?;
    load_segments(a)?;
    load_registers(a)?;
    a.mov(ds, word_ptr(field(state::DS)))?;
    a.iretd()?;

    a.set_label(&mut vm86)?;
    for segment in [state::GS, state::FS, state::DS, state::ES] {
        a.push(dword_ptr(field(segment)))?;
    }
    push_frame(a)?;
    load_registers(a)?;
    a.iretd()?;

    a.set_label(&mut long)?;
    far_jump(a, Code::Jmp_ptr1632, own::CODE64, DRIVER + driver::CODE64)
}

fn load_debug_registers(a: &mut CodeAssembler) -> Result<()> {
    for (n, register) in [dr0, dr1, dr2, dr3, dr6, dr7].into_iter().enumerate() {
        a.mov(eax, dword_ptr(field(state::DR) + 4 * n as u32))?;
        a.mov(register, eax)?;
    }
    Ok(())
}

fn load_msrs(a: &mut CodeAssembler) -> Result<()> {
    let (mut again, mut done) = (a.create_label(), a.create_label());
    a.mov(esi, field(state::MSRS))?;
    a.set_label(&mut again)?;
    a.lodsd()?;
    a.cmp(eax, -1)?;
    a.je(done)?;
    a.mov(ecx, eax)?;
    a.lodsd()?;
    a.mov(edx, dword_ptr(esi))?;
    a.add(esi, 4)?;
    a.wrmsr()?;
    a.jmp(again)?;
    a.set_label(&mut done)?;
    Ok(())
}

fn load_tables(a: &mut CodeAssembler) -> Result<()> {
    let mut none = a.create_label();
    a.lgdt(fword_ptr(field(state::GDTR)))?;
    a.lidt(fword_ptr(field(state::IDTR)))?;
    a.lldt(word_ptr(field(state::LDTR)))?;
    a.cmp(word_ptr(field(state::TR)), 0)?;
    a.je(none)?;
    a.ltr(word_ptr(field(state::TR)))?;
    a.set_label(&mut none)?;
    Ok(())
}

fn load_segments(a: &mut CodeAssembler) -> Result<()> {
    a.mov(es, word_ptr(field(state::ES)))?;
    a.mov(fs, word_ptr(field(state::FS)))?;
    a.mov(gs, word_ptr(field(state::GS)))?;
    Ok(())
}

fn push_frame(a: &mut CodeAssembler) -> Result<()> {
    for offset in [state::SS, state::RSP, state::FLAGS, state::CS, state::RIP] {
        a.push(dword_ptr(field(offset)))?;
    }
    Ok(())
}

/// The general registers with their numbers, but for the stack pointer.
const REGISTERS32: [(u16, AsmRegister32); 7] =
    [(0, eax), (1, ecx), (2, edx), (3, ebx), (5, ebp), (6, esi), (7, edi)];

fn load_registers(a: &mut CodeAssembler) -> Result<()> {
    for (n, register) in REGISTERS32 {
        a.mov(register, dword_ptr(field(state::GPR + 8 * n)))?;
    }
    Ok(())
}

/// Back in the driver's 32-bit code: leaves the case's mode, and writes the results.
fn collect(a: &mut CodeAssembler, l: &mut Labels) -> Result<()> {
    let mut emit = a.create_label();
    a.set_label(&mut l.resume)?;
    mask_interrupts(a)?;
    a.lgdt(fword_ptr(DRIVER + driver::GDTR))?;
    a.mov(bl, u32::from(RESET))?;
    a.jmp(emit)?;

    a.set_label(&mut l.collect)?;
    load_own_segments(a)?;
    a.mov(eax, CR0_PE_ET)?;
    a.mov(cr0, eax)?;
    a.xor(eax, eax)?;
    a.mov(cr4, eax)?;
    a.lldt(ax)?;
    a.xor(edx, edx)?;
    a.mov(ecx, EFER)?;
    a.wrmsr()?;
    a.lidt(fword_ptr(DRIVER + driver::IDTR))?;
    a.push(2)?;
    a.popfd()?;
    a.mov(bl, u32::from(DONE))?;

    a.set_label(&mut emit)?;
    a.mov(al, bl)?;
    a.out(u32::from(DEBUG_PORT), al)?;
    a.mov(eax, dword_ptr(var::INDEX))?;
    a.mov(ebx, 2)?;
    a.call(l.put_bytes)?;
    for (from, to) in [(0, layout::at::STATE.into()), (layout::at::GDT.into(), WINDOW_SIZE)] {
        a.mov(esi, WINDOW + from)?;
        a.mov(edi, PRISTINE + from)?;
        a.mov(ecx, (to - from) / 4)?;
        a.call(l.compare)?;
    }
    a.mov(esi, PRISTINE + u32::from(layout::at::STATE))?;
    a.mov(edi, field(layout::at::STATE))?;
    a.mov(ecx, u32::from(layout::at::GDT - layout::at::STATE) / 4)?;
    a.rep().movsd()?;
    a.or(eax, -1)?;
    a.mov(ebx, 2)?;
    a.call(l.put_bytes)?;
    a.jmp(l.next)?;
    Ok(())
}

/// Writes and repairs each of ECX dwords at ESI that differ from those at EDI.
fn compare(a: &mut CodeAssembler, l: &mut Labels) -> Result<()> {
    let mut done = a.create_label();
    a.set_label(&mut l.compare)?;
    a.repe().cmpsd()?;
    a.je(done)?;
    a.lea(eax, dword_ptr(esi) - (4 + WINDOW))?;
    a.shr(eax, 2)?;
    a.mov(ebx, 2)?;
    a.call(l.put_bytes)?;
    a.mov(eax, dword_ptr(esi - 4))?;
    a.mov(ebx, 4)?;
    a.call(l.put_bytes)?;
    a.mov(eax, dword_ptr(edi - 4))?;
    a.mov(dword_ptr(esi - 4), eax)?;
    a.test(ecx, ecx)?;
    a.jne(l.compare)?;
    a.set_label(&mut done)?;
    a.ret()?;
    Ok(())
}

/// Writes the lowest EBX bytes of EAX to the debug port.
fn put_bytes(a: &mut CodeAssembler, l: &mut Labels) -> Result<()> {
    a.set_label(&mut l.put_bytes)?;
    a.out(u32::from(DEBUG_PORT), al)?;
    a.shr(eax, 8)?;
    a.dec(ebx)?;
    a.jne(l.put_bytes)?;
    a.ret()?;
    Ok(())
}

/// Ends the run, in every emulator's way.
fn finish(a: &mut CodeAssembler, l: &mut Labels) -> Result<()> {
    let mut forever = a.create_label();
    a.set_label(&mut l.finish)?;
    a.mov(al, u32::from(END))?;
    a.out(u32::from(DEBUG_PORT), al)?;
    a.mov(edx, u32::from(EXIT_PORT))?;
    a.out(dx, al)?;
    a.mov(edx, BOCHS_EXIT_PORT)?;
    for byte in b"Shutdown" {
        a.mov(al, u32::from(*byte))?;
        a.out(dx, al)?;
    }
    a.set_label(&mut forever)?;
    a.hlt()?;
    a.jmp(forever)?;
    Ok(())
}

/// Where 32-bit stubs lead: vector, perhaps an error code, and the frame are on the stack of the case.
fn common32(a: &mut CodeAssembler) -> Result<()> {
    let rec = |offset: u16| field(offset);
    // push ds, in 16 bits: the upper half of a 32-bit push is not defined
    a.db(&[0x66, 0x1e])?;
    a.push(eax)?;
    a.mov(eax, u32::from(own::DATA))?;
    a.mov(ds, ax)?;
    a.pop(dword_ptr(rec(record::GPR)))?;
    a.pop(word_ptr(rec(record::SEGMENTS + 8)))?;
    a.pop(dword_ptr(rec(record::VECTOR)))?;
    for (n, register) in REGISTERS32.into_iter().skip(1).chain([(4, esp)]) {
        a.mov(dword_ptr(rec(record::GPR + 8 * n)), register)?;
    }
    store_segments(a, rec(record::SEGMENTS))?;
    a.str(word_ptr(rec(record::SEGMENTS + 24)))?;
    a.sldt(word_ptr(rec(record::SEGMENTS + 28)))?;
    a.pushfd()?;
    a.pop(dword_ptr(rec(record::FLAGS)))?;
    store_control32(a, rec(0))?;
    a.mov(dword_ptr(rec(record::KIND)), 2)?;
    a.mov(eax, DR7_IDLE)?;
    a.mov(dr7, eax)?;
    a.lgdt(fword_ptr(DRIVER + driver::GDTR))?;
    a.jmp(fword_ptr(DRIVER + driver::COLLECT))?;
    Ok(())
}

/// CS, SS, ES, FS and GS; DS is needed to store anything.
fn store_segments(a: &mut CodeAssembler, to: u32) -> Result<()> {
    a.mov(word_ptr(to), cs)?;
    a.mov(word_ptr(to + 4), ss)?;
    a.mov(word_ptr(to + 12), es)?;
    a.mov(word_ptr(to + 16), fs)?;
    a.mov(word_ptr(to + 20), gs)?;
    Ok(())
}

fn store_control32(a: &mut CodeAssembler, base: u32) -> Result<()> {
    for (register, offset) in [(cr0, record::CR0), (cr2, record::CR2), (cr3, record::CR3), (cr4, record::CR4)]
    {
        a.mov(eax, register)?;
        a.mov(dword_ptr(base + u32::from(offset)), eax)?;
    }
    for (register, offset) in [(dr6, record::DR6), (dr7, record::DR7)] {
        a.mov(eax, register)?;
        a.mov(dword_ptr(base + u32::from(offset)), eax)?;
    }
    Ok(())
}

/// The entry to real mode, and where real-mode stubs lead. In real mode DS is the window.
fn code16(collect: u32) -> Result<(Vec<u8>, u32)> {
    let mut a = CodeAssembler::new(16)?;
    enter_real(&mut a)?;
    let mut common = a.create_label();
    a.set_label(&mut common)?;
    common16(&mut a, collect)?;
    let options = iced_x86::BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
    let result = a.assemble_options(driver::CODE16.into(), options)?;
    let common = result.label_ip(&common)? as u32;
    Ok((result.inner.code_buffer, common))
}

/// Paragraph of the window, and of the driver.
const WINDOW_PARAGRAPH: u16 = (WINDOW >> 4) as u16;
const DRIVER_PARAGRAPH: u16 = (DRIVER >> 4) as u16;

fn enter_real(a: &mut CodeAssembler) -> Result<()> {
    a.mov(eax, cr0)?;
    a.and(al, 0xfe)?;
    a.mov(cr0, eax)?;
    // This jump is 5 bytes long and goes to the next instruction: `mov eax, cr0` is 3, `and al` 2, `mov cr0` 3.
    far_jump(a, Code::Jmp_ptr1616, DRIVER_PARAGRAPH, driver::CODE16 + 13)?;
    a.mov(ax, u32::from(WINDOW_PARAGRAPH))?;
    a.mov(ds, ax)?;
    a.mov(eax, dword_ptr(u32::from(state::CR0)))?;
    a.mov(cr0, eax)?;
    a.lgdt(fword_ptr(u32::from(state::GDTR)))?;
    a.xor(ax, ax)?;
    a.mov(ss, ax)?;
    a.mov(sp, var::STACK)?;
    a.push(dword_ptr(u32::from(state::FLAGS)))?;
    a.popfd()?;
    a.mov(es, word_ptr(u32::from(state::ES)))?;
    a.mov(fs, word_ptr(u32::from(state::FS)))?;
    a.mov(gs, word_ptr(u32::from(state::GS)))?;
    a.mov(ss, word_ptr(u32::from(state::SS)))?;
    a.mov(esp, dword_ptr(u32::from(state::RSP)))?;
    for (n, register) in REGISTERS32 {
        a.mov(register, dword_ptr(u32::from(state::GPR + 8 * n)))?;
    }
    a.mov(ds, word_ptr(u32::from(state::DS)))?;
    // jmp far cs:[ENTRY]
    a.db(&[0x2e, 0xff, 0x2e])?;
    a.db(&(driver::ENTRY as u16).to_le_bytes())?;
    Ok(())
}

fn common16(a: &mut CodeAssembler, collect: u32) -> Result<()> {
    let rec = |offset: u16| u32::from(offset);
    a.push(ds)?;
    a.push(eax)?;
    a.mov(ax, u32::from(WINDOW_PARAGRAPH))?;
    a.mov(ds, ax)?;
    a.pop(dword_ptr(rec(record::GPR)))?;
    a.pop(word_ptr(rec(record::SEGMENTS + 8)))?;
    a.pop(word_ptr(rec(record::VECTOR)))?;
    for (n, register) in REGISTERS32.into_iter().skip(1).chain([(4, esp)]) {
        a.mov(dword_ptr(rec(record::GPR + 8 * n)), register)?;
    }
    store_segments(a, rec(record::SEGMENTS))?;
    a.pushfd()?;
    a.pop(dword_ptr(rec(record::FLAGS)))?;
    store_control32(a, 0)?;
    a.mov(dword_ptr(rec(record::KIND)), 1)?;
    a.mov(eax, DR7_IDLE)?;
    a.mov(dr7, eax)?;
    // lgdt cs:[GDTR] with a 32-bit base
    a.db(&[0x2e, 0x66, 0x0f, 0x01, 0x16])?;
    a.db(&(driver::GDTR as u16).to_le_bytes())?;
    a.mov(eax, CR0_PE_ET)?;
    a.mov(cr0, eax)?;
    far_jump(a, Code::Jmp_ptr1632, own::CODE32, collect)
}

/// The entry to long mode, and where 64-bit stubs lead.
fn code64() -> Result<(Vec<u8>, u32)> {
    let mut a = CodeAssembler::new(64)?;
    enter_long(&mut a)?;
    let mut common = a.create_label();
    a.set_label(&mut common)?;
    common64(&mut a)?;
    let options = iced_x86::BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
    let result = a.assemble_options((DRIVER + driver::CODE64).into(), options)?;
    let common = result.label_ip(&common)? as u32 - DRIVER;
    Ok((result.inner.code_buffer, common))
}

/// The general registers with their numbers, but for the stack pointer.
const REGISTERS64: [(u16, AsmRegister64); 15] = [
    (0, rax),
    (1, rcx),
    (2, rdx),
    (3, rbx),
    (5, rbp),
    (6, rsi),
    (7, rdi),
    (8, r8),
    (9, r9),
    (10, r10),
    (11, r11),
    (12, r12),
    (13, r13),
    (14, r14),
    (15, r15),
];

fn enter_long(a: &mut CodeAssembler) -> Result<()> {
    let mut none = a.create_label();
    let at = |offset: u16| u64::from(field(offset));
    a.lgdt(tbyte_ptr(at(state::GDTR)))?;
    a.lidt(tbyte_ptr(at(state::IDTR)))?;
    a.lldt(word_ptr(at(state::LDTR)))?;
    a.cmp(word_ptr(at(state::TR)), 0)?;
    a.je(none)?;
    a.ltr(word_ptr(at(state::TR)))?;
    a.set_label(&mut none)?;
    a.mov(es, word_ptr(at(state::ES)))?;
    a.mov(fs, word_ptr(at(state::FS)))?;
    a.mov(gs, word_ptr(at(state::GS)))?;
    a.mov(ds, word_ptr(at(state::DS)))?;
    for (n, register) in REGISTERS64 {
        a.mov(register, qword_ptr(at(state::GPR + 8 * n)))?;
    }
    a.mov(esp, field(state::RIP))?;
    a.iretq()?;
    Ok(())
}

fn common64(a: &mut CodeAssembler) -> Result<()> {
    let rec = |offset: u16| u64::from(field(offset));
    a.push(rax)?;
    a.pop(qword_ptr(rec(record::GPR)))?;
    a.pop(qword_ptr(rec(record::VECTOR)))?;
    for (n, register) in REGISTERS64.into_iter().skip(1).chain([(4, rsp)]) {
        a.mov(qword_ptr(rec(record::GPR + 8 * n)), register)?;
    }
    let segments = rec(record::SEGMENTS);
    for (n, register) in [cs, ss, ds, es, fs, gs].into_iter().enumerate() {
        a.mov(word_ptr(segments + 4 * n as u64), register)?;
    }
    a.str(word_ptr(segments + 24))?;
    a.sldt(word_ptr(segments + 28))?;
    a.pushfq()?;
    a.pop(qword_ptr(rec(record::FLAGS)))?;
    for (register, offset) in [(cr0, record::CR0), (cr2, record::CR2), (cr3, record::CR3), (cr4, record::CR4)]
    {
        a.mov(rax, register)?;
        a.mov(qword_ptr(rec(offset)), rax)?;
    }
    for (register, offset) in [(dr6, record::DR6), (dr7, record::DR7)] {
        a.mov(rax, register)?;
        a.mov(qword_ptr(rec(offset)), rax)?;
    }
    a.mov(dword_ptr(rec(record::KIND)), 3)?;
    a.mov(eax, DR7_IDLE)?;
    a.mov(dr7, rax)?;
    // PCIDE must go before paging does.
    a.mov(eax, CR4_PAE)?;
    a.mov(cr4, rax)?;
    a.lgdt(tbyte_ptr(u64::from(DRIVER + driver::GDTR)))?;
    a.jmp(fword_ptr(u64::from(DRIVER + driver::COLLECT)))?;
    Ok(())
}
