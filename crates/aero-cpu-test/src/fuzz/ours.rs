//! Aero's side: a processor in user mode with the host's memory layout, selectors and descriptors.
//!
//! The region's pages are mapped at the host's addresses; tables and handlers lie in the upper half, which user code
//! cannot reach. Exceptions are delivered for real: every vector leads to a stub, and the frame on the supervisor's
//! stack tells the state, as a signal frame does on the host.

use super::case::{Case, FpuImage, Mode, Outcome, State, Trap, image};
use super::layout::{self, FS_BASE, GS_BASE, REGION, selector};
use super::native::{PLACED, placed_code};
use crate::processor::Maker;
use aero_cpu::fpu::F80;
use aero_cpu::segments::Descriptor;
use aero_cpu::state::{CpuState, Segment, TableRegister, cr0, cr4, efer, seg};
use aero_cpu::{Cpu, NoDevices};
use aero_mem::{Gpa, GuestMemory};
use aero_x86::descriptor::segment as descriptor;

/// Linear address of the supervisor's structures: physical memory from 0.
const UPPER: u64 = 0xffff_8000_0000_0000;

/// Physical addresses.
mod place {
    pub const GDT: u64 = 0x1000;
    pub const LDT: u64 = 0x1800;
    pub const IDT: u64 = 0x2000;
    pub const TSS: u64 = 0x3000;
    pub const STACK: u64 = 0x5000;
    pub const HANDLERS: u64 = 0x6000;
    pub const TABLES: u64 = 0x8000;
    /// The region's offset 0.
    pub const REGION: u64 = 0x2_0000;
}

/// How many instructions a case may take: repeats count each iteration.
const PATIENCE: u64 = 1 << 12;

/// The processor with its memory.
pub struct Ours {
    mem: GuestMemory,
    cpu: Cpu,
    segments: [[Segment; 6]; 3],
    /// Where the last case's code was.
    placed: usize,
    /// The last case left x87, SSE and AVX state behind.
    fpu_used: bool,
}

fn segment(selector: u16, raw: u64) -> Segment {
    if selector & !3 == 0 {
        return Segment { selector, ..Segment::default() };
    }
    Descriptor::new(selector, raw).segment()
}

/// The host's tables: selector and descriptor. The kernel's own entries are there so that loading them fails alike.
fn descriptors() -> Vec<(u16, u64)> {
    vec![
        (0x08, descriptor(0, 0xf_ffff, 0x9b, 0xc)),
        (0x10, descriptor(0, 0xf_ffff, 0x9b, 0xa)),
        (0x18, descriptor(0, 0xf_ffff, 0x93, 0xc)),
        (selector::CODE32, descriptor(0, 0xf_ffff, 0xfb, 0xc)),
        (selector::DATA, descriptor(0, 0xf_ffff, 0xf3, 0xc)),
        (selector::CODE64, descriptor(0, 0xf_ffff, 0xfb, 0xa)),
        (0x40, descriptor(0, 0x206f, 0x8b, 0)),
        (0x50, descriptor(0, 0x1f, 0x82, 0)),
        (0x7b, descriptor(0, 0, 0xf5, 4)),
        (selector::CODE16, descriptor(REGION, 0xffff, 0xfb, 0)),
        (selector::DATA16, descriptor(REGION, 0xffff, 0xf3, 0)),
        (selector::FS, descriptor(FS_BASE, 0xf_ffff, 0xf3, 0xc)),
        (selector::GS, descriptor(GS_BASE, 0xf_ffff, 0xf3, 0xc)),
    ]
}

impl Ours {
    /// A processor of the model `max`, ready for cases.
    ///
    /// # Errors
    /// When the host has no memory or no engine for it.
    pub fn new(maker: Maker) -> anyhow::Result<Self> {
        let (mem, cpu) = maker.make(2 << 20)?;
        let table = descriptors();
        let segments = [Mode::B16, Mode::B32, Mode::B64].map(|mode| {
            mode.segments().map(|s| {
                let raw = table.iter().find(|(t, _)| *t == s).map_or(0, |(_, raw)| *raw);
                segment(s, raw)
            })
        });
        let mut ours = Self { mem, cpu, segments, placed: 0, fpu_used: true };
        ours.make_tables(&table)?;
        ours.make_state();
        Ok(ours)
    }

    fn write64(&mut self, at: u64, value: u64) -> anyhow::Result<()> {
        self.mem.write(Gpa(at), &value.to_le_bytes()).map_err(|e| anyhow::anyhow!("{e:?}"))
    }

    fn make_tables(&mut self, descriptors: &[(u16, u64)]) -> anyhow::Result<()> {
        for (selector, raw) in descriptors {
            let table = if selector & 4 != 0 { place::LDT } else { place::GDT };
            self.write64(table + u64::from(selector & !7), *raw)?;
        }
        for vector in 0..256 {
            let handler = UPPER + place::HANDLERS + 16 * vector;
            let dpl = if matches!(vector, 3 | 4) { 0xee } else { 0x8e };
            let low = handler & 0xffff | 0x10 << 16 | dpl << 40 | (handler >> 16 & 0xffff) << 48;
            self.write64(place::IDT + 16 * vector, low)?;
            self.write64(place::IDT + 16 * vector + 8, handler >> 32)?;
            self.mem
                .write(Gpa(place::HANDLERS + 16 * vector), &[0xf4])
                .map_err(|e| anyhow::anyhow!("{e:?}"))?;
        }
        self.write64(place::TSS + 4, UPPER + place::STACK)?;
        self.write64(place::TSS + 0x64, 0xffff << 16)?;
        self.make_page_tables()
    }

    fn make_page_tables(&mut self) -> anyhow::Result<()> {
        let table = |n: u64| place::TABLES + 0x1000 * n;
        const USER: u64 = 0x67;
        const SUPERVISOR: u64 = 0x63;
        const NO_EXECUTE: u64 = 1 << 63;
        self.write64(table(0), table(1) | USER)?;
        self.write64(table(0) + 256 * 8, table(4) | SUPERVISOR)?;
        self.write64(table(1) + (REGION >> 30 & 0x1ff) * 8, table(2) | USER)?;
        self.write64(table(2) + (REGION >> 21 & 0x1ff) * 8, table(3) | USER)?;
        for page in layout::PAGES {
            let rights = match page {
                layout::CODE => 0x65,
                layout::CONSTANT => 0x65 | NO_EXECUTE,
                _ => USER | NO_EXECUTE,
            };
            let entry = table(3) + ((REGION + page) >> 12 & 0x1ff) * 8;
            self.write64(entry, (place::REGION + page) | rights)?;
        }
        self.write64(table(4), table(5) | SUPERVISOR)?;
        self.write64(table(5), 0x80 | SUPERVISOR)?;
        for page in layout::PAGES {
            let bytes = if page == layout::CODE { [0xcc; 0x1000] } else { layout::background(page) };
            self.set_page(page, &bytes);
        }
        Ok(())
    }

    fn make_state(&mut self) {
        let features = aero_x86::cpuid::MAX.features;
        let st = self.cpu.state_mut(&mut self.mem);
        st.cr0 = cr0::PE | cr0::PG | cr0::ET | cr0::NE | cr0::WP | cr0::AM | cr0::MP;
        st.cr3 = place::TABLES;
        st.cr4 = cr4::PAE | cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::FSGSBASE | cr4::OSXSAVE | cr4::PGE;
        st.cr4 &= cr4::legal(features);
        st.xcr0 = 7;
        st.msr.efer = efer::LME | efer::LMA | efer::NXE | efer::SCE;
        st.gdtr = TableRegister { base: UPPER + place::GDT, limit: 0x7f };
        st.idtr = TableRegister { base: UPPER + place::IDT, limit: 0xfff };
        st.tr = Segment { base: UPPER + place::TSS, limit: 0x206f, attributes: 0x8b, selector: 0x40 };
        st.ldtr = Segment { base: UPPER + place::LDT, limit: 0x1f, attributes: 0x82, selector: 0x50 };
    }

    /// Replaces a page of the region.
    pub fn set_page(&mut self, page: u64, bytes: &[u8; 0x1000]) {
        self.write(page, bytes);
    }

    /// Writes into the region.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        self.mem.write(Gpa(place::REGION + at), bytes).expect("the region lies in RAM");
    }

    /// A page of the region.
    pub fn page(&self, page: u64, into: &mut [u8; 0x1000]) {
        self.mem.read(Gpa(place::REGION + page), into).expect("the region lies in RAM");
    }

    /// Instructions so far that ran compiled, without those that compiled code had interpreted.
    pub fn compiled(&self) -> u64 {
        let all = self.cpu.translator().map_or(0, |translator| translator.tally().instructions);
        all.saturating_sub(self.cpu.regions().interpreted().values().sum())
    }

    /// Runs `case` and leaves the state after it in `out`. Data must have been set up.
    pub fn run(&mut self, case: &Case, out: &mut State) -> Outcome {
        self.place_code(case);
        // A page that changes with each case would be given up by what compiles.
        self.cpu.forget_compiled(&mut self.mem);
        let segments = &self.segments[case.mode as usize];
        let st = self.cpu.state_mut(&mut self.mem);
        st.segments = *segments;
        if case.mode == Mode::B64 {
            st.segments[usize::from(seg::FS)].base = FS_BASE;
            st.segments[usize::from(seg::GS)].base = GS_BASE;
        }
        for (n, value) in case.state.gpr.iter().enumerate() {
            st.set_gpr(n as u8, *value);
        }
        st.cpl = 3;
        st.rip = case.state.rip;
        st.set_rflags(case.state.rflags);
        if case.fpu {
            load_fpu(st, &case.state.fpu);
        } else if self.fpu_used {
            load_fpu(st, &FpuImage::initial());
        }
        self.fpu_used = case.fpu;
        self.cpu.core.halted = false;
        self.cpu.core.shadow = aero_cpu::vcpu::Shadow::Open;
        self.step(case);
        self.take(case, out)
    }

    fn place_code(&mut self, case: &Case) {
        let at = case.offset();
        let last = core::mem::replace(&mut self.placed, at);
        self.write(layout::CODE + last as u64, &[0xcc; PLACED][..PLACED.min(0x1000 - last)]);
        let (bytes, len) = placed_code(case);
        self.write(layout::CODE + at as u64, &bytes[..len.min(0x1000 - at)]);
    }

    /// Runs until the instruction is through, or a handler is reached.
    fn step(&mut self, case: &Case) {
        let stepping = case.stepping();
        for _ in 0..PATIENCE {
            self.cpu.run(&mut self.mem, &mut NoDevices, 1);
            let st = self.cpu.state(&self.mem);
            if st.cpl == 0 || !stepping && st.rip != case.state.rip {
                return;
            }
        }
    }

    fn take(&self, case: &Case, out: &mut State) -> Outcome {
        let st = self.cpu.state(&self.mem);
        for n in 0..16 {
            out.gpr[usize::from(n)] = st.gpr(n);
        }
        out.rip = st.rip;
        out.rflags = st.rflags();
        out.segments = st.segments.map(|s| s.selector);
        if case.fpu {
            store_fpu(st, &mut out.fpu);
        }
        if st.cpl != 0 {
            return Outcome::Done;
        }
        let vector = (st.rip.wrapping_sub(UPPER + place::HANDLERS) >> 4) as u8;
        let coded = matches!(vector, 8 | 10..=14 | 17 | 21);
        let mut frame = [0; 48];
        let at = st.gpr(4).wrapping_sub(UPPER);
        self.mem.read(Gpa(at), &mut frame).expect("the stack lies in RAM");
        let first = usize::from(coded);
        let slot = |n: usize| u64::from_le_bytes(core::array::from_fn(|i| frame[n * 8 + i]));
        out.rip = slot(first);
        out.segments[usize::from(seg::CS)] = slot(first + 1) as u16;
        out.rflags = slot(first + 2);
        out.gpr[4] = slot(first + 3);
        out.segments[usize::from(seg::SS)] = slot(first + 4) as u16;
        Outcome::Trap(Trap { vector, error: if coded { slot(0) as u32 } else { 0 }, cr2: st.cr2 })
    }
}

fn load_fpu(st: &mut CpuState, f: &FpuImage) {
    let fpu = &mut st.fpu;
    let status = f.get16(image::FSW);
    fpu.control = f.get16(image::FCW);
    fpu.status = status & !0x3800;
    fpu.top = (status >> 11 & 7) as u8;
    fpu.tags = f.0[image::FTW];
    fpu.fop = f.get16(image::FOP);
    fpu.fip = f.get64(image::FIP);
    fpu.fdp = f.get64(image::FDP);
    (fpu.fcs, fpu.fds) = (0, 0);
    for n in 0..8 {
        let at = image::ST + 16 * n;
        fpu.st[(usize::from(fpu.top) + n) & 7] = F80 { mantissa: f.get64(at), sign_exp: f.get16(at + 8) };
    }
    st.mxcsr = f.get32(image::MXCSR);
    for n in 0..16 {
        let (x, y) = (image::XMM + 16 * n, image::YMM + 16 * n);
        st.xmm[n] = [f.get64(x), f.get64(x + 8)];
        st.ymm_high[n] = [f.get64(y), f.get64(y + 8)];
    }
}

fn store_fpu(st: &CpuState, f: &mut FpuImage) {
    let fpu = &st.fpu;
    f.set16(image::FCW, fpu.control);
    f.set16(image::FSW, fpu.status_word());
    f.0[image::FTW] = fpu.tags;
    f.set16(image::FOP, fpu.fop);
    f.set64(image::FIP, fpu.fip);
    f.set64(image::FDP, fpu.fdp);
    for n in 0..8 {
        let at = image::ST + 16 * n;
        let value = fpu.st[(usize::from(fpu.top) + n) & 7];
        f.set64(at, value.mantissa);
        f.set16(at + 8, value.sign_exp);
    }
    f.set32(image::MXCSR, st.mxcsr);
    for n in 0..16 {
        let (x, y) = (image::XMM + 16 * n, image::YMM + 16 * n);
        f.set64(x, st.xmm[n][0]);
        f.set64(x + 8, st.xmm[n][1]);
        f.set64(y, st.ymm_high[n][0]);
        f.set64(y + 8, st.ymm_high[n][1]);
    }
}
