//! What the kernel of Windows 7 insists on: the processor's part of the platform contract, as far as no other
//! test here shows it.

use crate::guest::*;
use aero_cpu::CpuConfig;
use aero_cpu::state::reg;
use aero_x86::cpuid::{MODELS, WIN7};

fn cpuid(g: &mut Guest, leaf: u32, subleaf: u32) -> [u32; 4] {
    g.fine(&[&mov(0, leaf)[..], &mov(1, subleaf), &[0x0f, 0xa2]].concat());
    [reg::RAX, reg::RBX, reg::RCX, reg::RDX].map(|r| g.gpr(r) as u32)
}

fn rdmsr(g: &mut Guest, n: u32) -> u64 {
    g.fine(&[&mov(1, n)[..], &[0x0f, 0x32]].concat());
    g.gpr(reg::RDX) << 32 | g.gpr(reg::RAX) & 0xffff_ffff
}

fn wrmsr(g: &mut Guest, n: u32, value: u64) {
    g.fine(&[&mov(1, n)[..], &mov(0, value as u32), &mov(2, (value >> 32) as u32), &[0x0f, 0x30]].concat());
}

// checklist: 1
#[test]
fn every_model_has_the_features_that_the_kernel_demands() {
    for model in MODELS {
        let mut g = Guest::with(Mode::Long, CpuConfig::of(model));
        let [_, _, _, features] = cpuid(&mut g, 1, 0);
        assert_eq!(features & 0x0789_f3fd, 0x0789_f3fd, "{}", model.name);
        let [_, b, c, d] = cpuid(&mut g, 0, 0);
        let vendor: Vec<u8> = [b, d, c].iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(vendor, b"GenuineIntel");
        assert_ne!(cpuid(&mut g, 0x8000_0001, 0)[3] & 1 << 11, 0, "SYSCALL");
    }
}

// checklist: 2
#[test]
fn no_model_announces_performance_counters() {
    for model in MODELS {
        let mut g = Guest::with(Mode::Long, CpuConfig::of(model));
        assert_eq!(cpuid(&mut g, 0x0a, 0), [0; 4], "{}", model.name);
    }
}

// checklist: 3
#[test]
fn the_windows_model_shows_nothing_that_makes_the_kernel_touch_more() {
    let mut g = Guest::with(Mode::Long, CpuConfig::of(&WIN7));
    let [_, _, more, features] = cpuid(&mut g, 1, 0);
    assert_eq!(cpuid(&mut g, 6, 0)[2] & 2, 0, "energy bias");
    assert_eq!((features & 1 << 21, more & 1 << 26), (0, 0), "DS and XSAVE");
    assert_eq!((cpuid(&mut g, 0x0d, 0), cpuid(&mut g, 0x0d, 1)), ([0; 4], [0; 4]));
    // XSETBV
    g.faults(&[0x0f, 0x01, 0xd1], 0, 6, None);
}

// checklist: 4
#[test]
fn physical_addresses_have_one_width_everywhere() {
    for model in MODELS {
        let mut g = Guest::with(Mode::Long, CpuConfig { strict_msr: true, ..CpuConfig::of(model) });
        let width = cpuid(&mut g, 0x8000_0008, 0)[0] & 0xff;
        let (inside, outside) = (1u64 << (width - 1), 1u64 << width);
        wrmsr(&mut g, 0x201, inside | 0x800);
        assert_eq!(rdmsr(&mut g, 0x201), inside | 0x800, "{}", model.name);
        let code =
            [&mov(1, 0x201)[..], &mov(0, 0x800), &mov(2, (outside >> 32) as u32), &[0x0f, 0x30]].concat();
        g.faults(&code, 15, 13, Some(0));
        // The same bit of a page table entry is reserved.
        let mut g = Guest::with(Mode::Long, CpuConfig::of(model));
        g.set_pte(DATA, DATA | outside | 3);
        let trap = g.trap(&load_eax(DATA));
        assert_eq!((trap.vector, trap.error), (14, Some(9)), "{}", model.name);
    }
}

// checklist: 5
#[test]
fn registers_that_the_kernel_reads_have_their_values() {
    let mut g = Guest::with(Mode::Long, CpuConfig::of(&WIN7));
    for (n, value) in [(0x1a0, 0x1801), (0xfe, 0x508), (0x179, 0x10a), (0x17, 0), (0x1d9, 0), (0xc1, 0)] {
        assert_eq!(rdmsr(&mut g, n), value, "{n:#x}");
    }
}

// checklist: 6
#[test]
fn registers_that_the_kernel_writes_take_it() {
    let mut g = Guest::with(Mode::Long, CpuConfig::of(&WIN7));
    wrmsr(&mut g, 0x79, DATA);
    wrmsr(&mut g, 0x8b, 0);
    for (n, value) in [(0x1a0, 0x1801), (0x277, 0x0007_0106_0007_0106)] {
        wrmsr(&mut g, n, value);
        assert_eq!(rdmsr(&mut g, n), value, "{n:#x}");
    }
    for n in (0x200..0x210).step_by(2) {
        wrmsr(&mut g, n, 0xc000_0000);
        wrmsr(&mut g, n + 1, 0xf_c000_0800);
        assert_eq!((rdmsr(&mut g, n), rdmsr(&mut g, n + 1)), (0xc000_0000, 0xf_c000_0800), "{n:#x}");
    }
}

// checklist: 8
#[test]
fn prefetches_and_fences_never_fault() {
    for model in MODELS {
        for mode in [Mode::Protected32, Mode::Long] {
            let mut g = Guest::with(mode, CpuConfig::of(model));
            g.set_pte(DATA, 0);
            g.st().set_gpr(reg::RBX, DATA);
            // prefetchw [rbx]; prefetch [rbx]; prefetcht0 [rbx]; lfence; mfence; sfence
            g.fine(&[0x0f, 0x0d, 0x0b, 0x0f, 0x0d, 0x03, 0x0f, 0x18, 0x0b]);
            g.fine(&[0x0f, 0xae, 0xe8, 0x0f, 0xae, 0xf0, 0x0f, 0xae, 0xf8]);
            g.set_pte(DATA, DATA | 3);
            g.st().set_gpr(reg::RBX, DATA);
            // clflush [rbx]
            g.fine(&[0x0f, 0xae, 0x3b]);
        }
    }
}

// checklist: 12
#[test]
fn descriptor_table_is_written_only_where_a_bit_was_clear() {
    const ACCESSED: u64 = 1 << 40;
    const BUSY: u64 = 1 << 41;
    let mut g = Guest::new(Mode::Protected32);
    for selector in [CS0, DS0, CS32, READ_ONLY] {
        let raw = g.descriptor_of(selector);
        g.set_gdt(selector, raw | ACCESSED);
    }
    let tr2 = g.descriptor_of(TR2) & !BUSY;
    g.set_gdt(TR2, tr2);
    let table = |g: &Guest| g.bytes::<0xa0>(GDT);
    let before = table(&g);
    // mov ds, es, fs, gs, ss from ax; far jump to CS32
    let loads: Vec<u8> = [0xd8, 0xc0, 0xe0, 0xe8, 0xd0].iter().flat_map(|modrm| [0x8e, *modrm]).collect();
    g.fine(&[&mov(0, DS0.into())[..], &loads].concat());
    assert_eq!(table(&g), before);
    g.fine(&[&mov(0, TR2.into())[..], &[0x0f, 0x00, 0xd8]].concat());
    let mut after = before;
    after[usize::from(TR2) + 5] |= 2;
    assert_eq!(table(&g), after, "LTR sets busy and nothing else");
}

// checklist: 20
#[test]
fn hypervisor_leaves_are_zero_without_the_bit_and_at_their_end() {
    let mut g = Guest::with(Mode::Long, CpuConfig::of(&WIN7));
    assert_eq!(cpuid(&mut g, 1, 0)[2] >> 31, 0);
    for leaf in [0x4000_0000, 0x4000_0001, 0x4000_0082] {
        assert_eq!(cpuid(&mut g, leaf, 0), [0; 4], "{leaf:#x}");
    }
    let mut g = Guest::with(Mode::Long, CpuConfig { hyperv: true, ..CpuConfig::of(&WIN7) });
    assert_eq!((cpuid(&mut g, 1, 0)[2] >> 31, cpuid(&mut g, 0x4000_0001, 0)[0]), (1, 0x3123_7648));
    assert_eq!(cpuid(&mut g, 0x4000_0082, 0), [0; 4]);
}
