//! How a machine starts: with firmware there is nothing to do; without, this leaves behind what firmware and a boot
//! loader would, for a Linux kernel or a multiboot kernel.

use crate::config::{BuildError, FirmwareError, Kernel, MAX_FIRMWARE};
use crate::layout;
use aero_cpu::Cpu;
use aero_cpu::state::{CpuState, Segment, TableRegister, cr0, cr4, efer, eflags, reg};
use aero_firmware::linux::{self, Entry};
use aero_firmware::multiboot::{self, MultibootEntry};
use aero_firmware::{acpi, e820};
use aero_mem::{Gpa, GuestMemory};

/// Puts tables, kernel and initrd into memory and the bootstrap processor at the kernel's entry.
pub(crate) fn load(
    cpus: &mut [Cpu],
    mem: &mut GuestMemory,
    kernel: &Kernel,
    hpet: bool,
) -> Result<(), BuildError> {
    let at = mem.low_ram() - acpi::AREA;
    let tables = acpi::build(&layout::board(cpus.len() as u8, layout::PM_BASE, hpet), at, layout::RSDP);
    let map = e820::memory_map(mem.low_ram(), mem.high_ram(), tables.range.clone(), &layout::reserved(hpet));
    let start = if multiboot::is_multiboot(&kernel.image) {
        let module = kernel.initrd.as_deref().map(|bytes| (bytes, &*kernel.initrd_name));
        let line = [&*kernel.name, &*kernel.append].join(" ");
        Start::Multiboot(multiboot::load(mem, &kernel.image, module, line.trim_end(), &map)?)
    } else {
        let initrd = kernel.initrd.as_deref();
        Start::Linux(linux::load(mem, &kernel.image, initrd, &kernel.append, &map, tables.rsdp)?)
    };
    for (at, bytes) in &tables.pieces {
        mem.write(Gpa(*at), bytes).expect("the tables lie in the RAM that the map reserves for them");
    }
    for cpu in cpus.iter_mut() {
        cpu.core.lapic.set_virtual_wire();
        let st = cpu.state_mut(mem);
        set_memory_types(st);
        match &start {
            Start::Linux(entry) => enter(st, entry),
            Start::Multiboot(entry) => enter_multiboot(st, entry),
        }
    }
    Ok(())
}

/// How the kernel wants to be entered.
enum Start {
    Linux(Entry),
    Multiboot(MultibootEntry),
}

/// Looks at a kernel before memory is asked for.
pub(crate) fn check(kernel: &Kernel) -> Result<(), BuildError> {
    if multiboot::is_multiboot(&kernel.image) {
        multiboot::parse(&kernel.image)?;
    } else {
        linux::parse(&kernel.image)?;
    }
    Ok(())
}

/// Looks at a ROM.
pub(crate) fn check_firmware(rom: &[u8]) -> Result<(), FirmwareError> {
    const STEP: u64 = 64 << 10;
    let len = rom.len() as u64;
    match len {
        STEP..=MAX_FIRMWARE if len.is_multiple_of(STEP) => Ok(()),
        _ => Err(FirmwareError::Size { len }),
    }
}

/// Memory type ranges as a BIOS sets them: write-back, the PCI window uncached.
fn set_memory_types(st: &mut CpuState) {
    const ENABLE: u64 = 1 << 11;
    const FIXED_ENABLE: u64 = 1 << 10;
    const WRITE_BACK: u64 = 6;
    const VALID: u64 = 1 << 11;
    let width = (1u64 << aero_x86::cpuid::PHYSICAL_BITS) - 1;
    st.msr.mtrr_def_type = ENABLE | FIXED_ENABLE | WRITE_BACK;
    st.msr.mtrr_fixed = [0x0606_0606_0606_0606; 11];
    // The legacy video window.
    st.msr.mtrr_fixed[2] = 0;
    st.msr.mtrr_variable[0] = aero_mem::LOW_RAM_END;
    st.msr.mtrr_variable[1] = !0x3fff_ffff & width | VALID;
}

/// The state that the kernel's boot protocol asks for (Linux, `Documentation/arch/x86/boot.rst`, 1.15 and 1.16).
fn enter(st: &mut CpuState, entry: &Entry) {
    const CODE64: u32 = 0xa09b;
    let (rip, rsi, gdt, limit, code) = match *entry {
        Entry::Protected { eip, esi, gdt, gdt_limit } => (eip.into(), esi.into(), gdt, gdt_limit, CODE32),
        Entry::Long { rip, rsi, cr3, gdt, gdt_limit } => {
            st.cr3 = cr3;
            st.cr4 = cr4::PAE;
            st.msr.efer = efer::LME | efer::LMA;
            (rip, rsi, gdt, gdt_limit, CODE64)
        }
    };
    let paging = if code == CODE64 { cr0::PG } else { 0 };
    st.cr0 = cr0::PE | cr0::ET | paging;
    st.gdtr = TableRegister { base: gdt, limit };
    set_flat(st, (0x10, code), 0x18);
    st.set_gpr(reg::RSI, rsi);
    st.rip = rip;
}

/// The state of the Multiboot Specification, 3.2. It leaves CR0.NE open; set, a kernel that never touches the bit gets its
/// floating-point errors as #MF, where clear it would wait for ever on a masked IRQ 13. Under VMX no guest sees the other.
fn enter_multiboot(st: &mut CpuState, entry: &MultibootEntry) {
    st.cr0 = cr0::PE | cr0::ET | cr0::NE;
    st.gdtr = TableRegister { base: entry.gdt, limit: entry.gdt_limit };
    set_flat(st, (8, CODE32), 0x10);
    st.idtr = REAL_MODE_VECTORS;
    st.set_gpr(reg::RAX, entry.eax.into());
    st.set_gpr(reg::RBX, entry.ebx.into());
    st.rip = entry.eip.into();
}

const CODE32: u32 = 0xc09b;

/// The specification leaves IDTR open. A loader that was started by a BIOS leaves the BIOS's, and kernels that go back to
/// real mode at once raise interrupts there without an LIDT of their own.
const REAL_MODE_VECTORS: TableRegister = TableRegister { base: 0, limit: 0x3ff };

/// Flat segments, no interrupt table, empty registers and flags.
fn set_flat(st: &mut CpuState, (code, attributes): (u16, u32), data: u16) {
    const DATA: u32 = 0xc093;
    let flat = |selector, attributes| Segment { base: 0, limit: u32::MAX, attributes, selector };
    st.idtr = TableRegister { base: 0, limit: 0 };
    let [es, cs, ss, ds, fs, gs] = &mut st.segments;
    *cs = flat(code, attributes);
    for s in [es, ss, ds, fs, gs] {
        *s = flat(data, DATA);
    }
    for n in 0..16 {
        st.set_gpr(n, 0);
    }
    st.eflags = eflags::FIXED;
}
