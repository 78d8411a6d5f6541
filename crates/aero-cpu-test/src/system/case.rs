//! A case: what to put into the window before the driver enters it.
//!
//! Cases start from the pristine window of their [`Env`], in which everything is as an operating system would have
//! it: flat segments for every ring, a gate for each of 64 vectors, a task, identity-mapped pages. A case changes what
//! it is about, and says so in its title.

use super::layout::{self, DRIVER, WINDOW, at, driver, enter, linear, state};

/// What a case runs in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Env {
    /// Real mode.
    Real,
    /// Protected mode without paging.
    Flat,
    /// 32-bit paging.
    Paged,
    /// PAE paging.
    Pae,
    /// 4-level paging, long mode.
    Long,
}

/// Selectors of the pristine global descriptor table.
pub mod sel {
    /// 32-bit code at the driver, for gates.
    pub const HANDLER: u16 = 0x08;
    /// Flat data, DPL 0.
    pub const DATA0: u16 = 0x10;
    /// Flat 32-bit code, DPL 0.
    pub const CODE0: u16 = 0x18;
    /// 64-bit code, DPL 0 (long mode only).
    pub const LONG0: u16 = 0x20;
    /// The task; 16 bytes.
    pub const TSS: u16 = 0x28;
    /// The local table; 16 bytes.
    pub const LDT: u16 = 0x38;
    /// Flat 32-bit code, DPL 3.
    pub const CODE3: u16 = 0x4b;
    /// Flat data, DPL 3.
    pub const DATA3: u16 = 0x53;
    /// 64-bit code, DPL 3 (long mode only).
    pub const LONG3: u16 = 0x5b;
    /// 16-bit code at the window.
    pub const CODE16: u16 = 0x60;
    /// 16-bit data at the window.
    pub const DATA16: u16 = 0x68;
    /// Flat code and data of rings 1 and 2.
    pub const CODE1: u16 = 0x71;
    /// See [`CODE1`].
    pub const DATA1: u16 = 0x79;
    /// See [`CODE1`].
    pub const CODE2: u16 = 0x82;
    /// See [`CODE1`].
    pub const DATA2: u16 = 0x8a;
    /// 16-bit code at the window, DPL 3.
    pub const CODE16_3: u16 = 0x93;
    /// 16-bit data at the window, DPL 3.
    pub const DATA16_3: u16 = 0x9b;
    /// A second 32-bit task.
    pub const TSS_B: u16 = 0xa0;
    /// A 16-bit task.
    pub const TSS_C: u16 = 0xa8;
    /// The task of task gates.
    pub const TSS_GATE: u16 = 0xb0;
    /// Flat conforming 32-bit code, DPL 0.
    pub const CONFORMING: u16 = 0xb8;
    /// 64-bit code for SYSCALL; flat data follows.
    pub const SYSCALL: u16 = 0xe0;
    /// Free from here to 3F8h.
    pub const FREE: u16 = 0x100;
}

/// General registers by number.
pub mod reg {
    #![expect(missing_docs, reason = "the manual's names")]
    pub const EAX: u16 = 0;
    pub const ECX: u16 = 1;
    pub const EDX: u16 = 2;
    pub const EBX: u16 = 3;
    pub const EBP: u16 = 5;
    pub const ESI: u16 = 6;
    pub const EDI: u16 = 7;
}

/// EFLAGS.
pub mod flag {
    #![expect(missing_docs, reason = "the manual's names")]
    pub const FIXED: u32 = 2;
    pub const TF: u32 = 1 << 8;
    pub const IF: u32 = 1 << 9;
    pub const NT: u32 = 1 << 14;
    pub const RF: u32 = 1 << 16;
    pub const VM: u32 = 1 << 17;
    pub const AC: u32 = 1 << 18;
    pub const VIF: u32 = 1 << 19;
    pub const VIP: u32 = 1 << 20;
    pub const ID: u32 = 1 << 21;
    /// All that POPF can load: everything but VM and RF.
    pub const ALL: u32 = 0x003c_7fd7 & !VM;
}

/// Control bits.
pub mod control {
    #![expect(missing_docs, reason = "the manual's names")]
    pub const PE_ET: u32 = 0x11;
    pub const WP: u32 = 1 << 16;
    pub const AM: u32 = 1 << 18;
    pub const PG: u32 = 1 << 31;
    pub const VME: u32 = 1;
    pub const PVI: u32 = 2;
    pub const TSD: u32 = 4;
    pub const DE: u32 = 8;
    pub const PSE: u32 = 1 << 4;
    pub const PAE: u32 = 1 << 5;
    pub const PGE: u32 = 1 << 7;
    pub const UMIP: u32 = 1 << 11;
    pub const SMEP: u32 = 1 << 20;
    pub const SMAP: u32 = 1 << 21;
    pub const EFER_SCE: u32 = 1;
    pub const EFER_LME: u32 = 1 << 8;
    pub const EFER_NXE: u32 = 1 << 11;
}

/// A segment descriptor: `access` is the access byte, `flags` the nibble G, D/B, L, AVL.
pub fn descriptor(base: u32, limit: u32, access: u8, flags: u8) -> u64 {
    aero_x86::descriptor::segment(base.into(), limit.into(), access.into(), flags.into())
}

/// A call, interrupt, trap or task gate (its low 8 bytes in long mode).
pub fn gate(selector: u16, offset: u32, access: u8, count: u8) -> u64 {
    aero_x86::descriptor::gate(selector, offset.into(), access.into(), count.into())
}

/// Bytes for the window.
#[derive(Clone, Default, Debug)]
pub struct Patches(Vec<u8>);

const FILL: u16 = 0x8000;

impl Patches {
    /// Puts bytes.
    pub fn put(&mut self, offset: u16, bytes: &[u8]) {
        self.entry(bytes.len() as u16, offset, bytes);
    }

    /// Fills `len` bytes.
    pub fn fill(&mut self, offset: u16, len: u16, byte: u8) {
        self.entry(len | FILL, offset, &[byte]);
    }

    fn entry(&mut self, len: u16, offset: u16, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.0.extend(len.to_le_bytes());
            self.0.extend(offset.to_le_bytes());
            self.0.extend(bytes);
        }
    }

    /// Puts a word.
    pub fn put16(&mut self, offset: u16, value: u16) {
        self.put(offset, &value.to_le_bytes());
    }

    /// Puts a dword.
    pub fn put32(&mut self, offset: u16, value: u32) {
        self.put(offset, &value.to_le_bytes());
    }

    /// Puts a qword.
    pub fn put64(&mut self, offset: u16, value: u64) {
        self.put(offset, &value.to_le_bytes());
    }

    /// Puts a global descriptor.
    pub fn gdt(&mut self, selector: u16, raw: u64) {
        self.put64(at::GDT + (selector & !7), raw);
    }

    /// Puts a descriptor where its selector says: the local table with bit 2, the global one without; nowhere if that
    /// is the null descriptor's place or beyond the table.
    pub fn table(&mut self, selector: u16, raw: u64) {
        let (table, end) = if selector & 4 == 0 { (at::GDT, at::LDT) } else { (at::LDT, at::TSS) };
        let place = table + (selector & !7);
        if place < end && selector > 3 {
            self.put64(place, raw);
        }
    }

    /// The list as the driver reads it.
    pub fn encoded(&self) -> Vec<u8> {
        [&self.0[..], &[0, 0]].concat()
    }
}

/// A case.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is about, for people.
    pub title: String,
    /// Where it runs.
    pub env: Env,
    /// What it changes.
    pub patches: Patches,
}

impl Case {
    /// A case that does what `env` does by default.
    pub fn new(env: Env, title: impl Into<String>) -> Self {
        Self { title: title.into(), env, patches: Patches::default() }
    }

    /// Bytes in a ROM.
    pub fn encoded(&self) -> Vec<u8> {
        [&[1][..], &self.patches.encoded()].concat()
    }

    /// Puts the code to run where code begins, followed by what is there: INT3.
    pub fn code(&mut self, bytes: &[u8]) {
        self.patches.put(at::CODE, bytes);
    }

    /// Sets a general register.
    pub fn reg(&mut self, n: u16, value: u32) {
        self.patches.put32(state::GPR + 8 * n, value);
    }

    /// Sets a 64-bit general register.
    pub fn reg64(&mut self, n: u16, value: u64) {
        self.patches.put64(state::GPR + 8 * n, value);
    }

    /// How the driver enters.
    pub fn how(&mut self, how: u32) {
        self.patches.put32(state::HOW, how);
    }

    /// Sets CS:EIP.
    pub fn cs_ip(&mut self, cs: u16, ip: u32) {
        self.patches.put32(state::RIP, ip);
        self.patches.put16(state::CS, cs);
        let far = if self.env == Env::Real {
            (u32::from(cs) << 16 | ip & 0xffff).to_le_bytes().to_vec()
        } else {
            [&ip.to_le_bytes()[..], &cs.to_le_bytes()].concat()
        };
        self.patches.put(state::FAR, &far);
    }

    /// Sets SS:ESP.
    pub fn ss_sp(&mut self, ss: u16, sp: u32) {
        self.patches.put32(state::RSP, sp);
        self.patches.put16(state::SS, ss);
    }

    /// Sets the flags.
    pub fn flags(&mut self, flags: u32) {
        self.patches.put32(state::FLAGS, flags | flag::FIXED);
    }

    /// Sets ES, DS, FS and GS.
    pub fn data(&mut self, selector: u16) {
        for offset in [state::ES, state::DS, state::FS, state::GS] {
            self.patches.put16(offset, selector);
        }
    }

    /// Sets one data segment: [`state::ES`] and so on.
    pub fn segment(&mut self, which: u16, selector: u16) {
        self.patches.put16(which, selector);
    }

    /// Starts at the privilege level, with flat segments (not in real mode).
    pub fn ring(&mut self, cpl: u8) {
        let (code, data, stack) = match (self.env, cpl) {
            (Env::Long, 0) => (sel::LONG0, sel::DATA0, at::STACK0),
            (_, 0) => (sel::CODE0, sel::DATA0, at::STACK0),
            (_, 1) => (sel::CODE1, sel::DATA1, at::INNER_STACK1),
            (_, 2) => (sel::CODE2, sel::DATA2, at::INNER_STACK2),
            (Env::Long, _) => (sel::LONG3, sel::DATA3, at::STACK3),
            _ => (sel::CODE3, sel::DATA3, at::STACK3),
        };
        self.cs_ip(code, linear(at::CODE));
        self.ss_sp(data, linear(stack));
        self.data(data);
        if self.env != Env::Long {
            self.how(if cpl == 0 { enter::JUMP } else { enter::RETURN });
        }
    }

    /// Starts in VM86 mode, every segment at the window, code where code begins.
    pub fn vm86(&mut self, flags: u32) {
        const PARAGRAPH: u16 = (WINDOW >> 4) as u16;
        self.how(enter::RETURN);
        self.cs_ip(PARAGRAPH, at::CODE.into());
        self.ss_sp(PARAGRAPH, at::STACK3.into());
        self.data(PARAGRAPH);
        self.flags(flags | flag::VM);
    }

    /// Loads an MSR; the list ends after the last: `slot` counts from 0.
    pub fn msrs(&mut self, list: &[(u32, u64)]) {
        let mut bytes = Vec::new();
        for (number, value) in list {
            bytes.extend(number.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend(u32::MAX.to_le_bytes());
        self.patches.put(state::MSRS, &bytes);
    }
}

impl Env {
    /// Its pristine window.
    pub fn pristine(self) -> Patches {
        let mut p = Patches::default();
        p.put32(state::MSRS, u32::MAX);
        p.put32(state::DR + 16, 0xffff_0ff0);
        p.put32(state::DR + 20, 0x400);
        p.put32(state::FLAGS, flag::FIXED);
        p.fill(at::CODE, 0x2000, 0xcc);
        if self == Self::Real {
            real(&mut p);
        } else {
            self.protected(&mut p);
        }
        p
    }

    fn protected(self, p: &mut Patches) {
        self.descriptors(p);
        self.gates(p);
        self.tasks(p);
        self.paging(p);
        table_register(p, state::GDTR, 0x3ff, at::GDT);
        let gate_size = if self == Self::Long { 16 } else { 8 };
        table_register(p, state::IDTR, layout::VECTORS as u16 * gate_size - 1, at::IDT);
        p.put16(state::LDTR, sel::LDT);
        p.put16(state::TR, sel::TSS);
        let how = if self == Self::Long { enter::LONG } else { enter::JUMP };
        let mut case = Case { title: String::new(), env: self, patches: std::mem::take(p) };
        case.how(how);
        case.ring(0);
        *p = case.patches;
    }

    fn descriptors(self, p: &mut Patches) {
        let mut flat = |selector, access, flags| p.gdt(selector, descriptor(0, 0xf_ffff, access, flags));
        flat(sel::DATA0, 0x93, 0xc);
        flat(sel::CODE0, 0x9b, 0xc);
        flat(sel::CODE3, 0xfb, 0xc);
        flat(sel::DATA3, 0xf3, 0xc);
        flat(sel::CODE1, 0xbb, 0xc);
        flat(sel::DATA1, 0xb3, 0xc);
        flat(sel::CODE2, 0xdb, 0xc);
        flat(sel::DATA2, 0xd3, 0xc);
        flat(sel::CONFORMING, 0x9f, 0xc);
        flat(sel::SYSCALL + 8, 0x93, 0xc);
        if self == Self::Long {
            flat(sel::LONG0, 0x9b, 0xa);
            flat(sel::LONG3, 0xfb, 0xa);
            flat(sel::SYSCALL, 0x9b, 0xa);
        }
        p.gdt(sel::HANDLER, descriptor(DRIVER, 0xffff, 0x9b, 4));
        p.gdt(sel::CODE16, descriptor(WINDOW, 0xffff, 0x9b, 0));
        p.gdt(sel::DATA16, descriptor(WINDOW, 0xffff, 0x93, 0));
        p.gdt(sel::CODE16_3, descriptor(WINDOW, 0xffff, 0xfb, 0));
        p.gdt(sel::DATA16_3, descriptor(WINDOW, 0xffff, 0xf3, 0));
        p.gdt(sel::TSS, descriptor(linear(at::TSS), 0x1ff, 0x89, 0));
        p.gdt(sel::LDT, descriptor(linear(at::LDT), 0x1ff, 0x82, 0));
    }

    fn gates(self, p: &mut Patches) {
        for n in 0..layout::VECTORS {
            let stub = n * layout::STUB;
            if self == Self::Long {
                let offset = DRIVER + driver::STUBS64 + stub;
                p.put64(at::IDT + 16 * n as u16, gate(sel::LONG0, offset, 0xee, 0));
            } else {
                p.put64(at::IDT + 8 * n as u16, gate(sel::HANDLER, driver::STUBS32 + stub, 0xee, 0));
            }
        }
    }

    fn tasks(self, p: &mut Patches) {
        if self == Self::Long {
            p.put64(at::TSS + 4, linear(at::INNER_STACK0).into());
            p.put64(at::TSS + 12, linear(at::INNER_STACK1).into());
            p.put64(at::TSS + 20, linear(at::INNER_STACK2).into());
            p.put64(at::TSS + 0x24, linear(at::DATA + 0x800).into());
            p.put64(at::TSS + 0x2c, linear(at::DATA_B + 0x800).into());
        } else {
            p.put32(at::TSS + 4, linear(at::INNER_STACK0));
            p.put16(at::TSS + 8, sel::DATA0);
            p.put32(at::TSS + 12, linear(at::INNER_STACK1));
            p.put16(at::TSS + 16, sel::DATA1);
            p.put32(at::TSS + 20, linear(at::INNER_STACK2));
            p.put16(at::TSS + 24, sel::DATA2);
            p.put32(at::TSS + 28, self.cr3());
        }
        p.put16(at::TSS + 0x66, at::IO_MAP - at::TSS);
    }

    fn cr3(self) -> u32 {
        match self {
            Self::Real | Self::Flat => 0,
            Self::Pae => linear(at::POINTERS),
            Self::Paged | Self::Long => linear(at::ROOT),
        }
    }

    fn paging(self, p: &mut Patches) {
        use control::*;
        let (cr0, cr4, efer) = match self {
            Self::Real | Self::Flat => (0, 0, 0),
            Self::Paged => (PG | WP, PSE, 0),
            Self::Pae => (PG | WP, PAE, EFER_NXE),
            Self::Long => (PG | WP, PAE, EFER_LME | EFER_NXE | EFER_SCE),
        };
        p.put32(state::CR0, cr0 | PE_ET);
        p.put32(state::CR3, self.cr3());
        p.put32(state::CR4, cr4);
        p.put32(state::EFER, efer);
        let size = if self == Self::Paged { 4 } else { 8 };
        match self {
            Self::Real | Self::Flat => return,
            Self::Paged => p.put32(at::ROOT, linear(at::TABLE) | TABLE_BITS),
            Self::Pae => p.put32(at::POINTERS, linear(at::DIRECTORY) | 1),
            Self::Long => {
                p.put32(at::ROOT, linear(at::POINTERS) | TABLE_BITS);
                p.put32(at::POINTERS, linear(at::DIRECTORY) | TABLE_BITS);
            }
        }
        if size == 8 {
            p.put32(at::DIRECTORY, linear(at::TABLE) | TABLE_BITS);
        }
        for page in 0..0x40u32 {
            let value = page << 12 | page_bits(page);
            p.put32(at::TABLE + size * page as u16, value);
        }
    }
}

/// Present, writable, user, accessed.
const TABLE_BITS: u32 = 0x27;

/// The stack of CPL 3, code and data are the user's, and neither accessed nor dirty yet.
fn page_bits(page: u32) -> u32 {
    let first_user = linear(at::STACK3) >> 12;
    if (first_user..first_user + 7).contains(&page) { 0x07 } else { 0x63 }
}

fn table_register(p: &mut Patches, to: u16, limit: u16, offset: u16) {
    p.put16(to, limit);
    p.put32(to + 2, linear(offset));
}

fn real(p: &mut Patches) {
    let mut case = Case { title: String::new(), env: Env::Real, patches: std::mem::take(p) };
    let paragraph = (WINDOW >> 4) as u16;
    case.how(enter::REAL);
    case.cs_ip(paragraph, at::CODE.into());
    case.ss_sp(paragraph, at::STACK0.into());
    case.data(paragraph);
    *p = case.patches;
    p.put32(state::CR0, 0x10);
    for n in 0..layout::VECTORS {
        p.put16(at::IDT + 4 * n as u16, (driver::STUBS16 + n * layout::STUB) as u16);
        p.put16(at::IDT + 4 * n as u16 + 2, (DRIVER >> 4) as u16);
    }
    table_register(p, state::GDTR, 0x3ff, at::GDT);
    table_register(p, state::IDTR, 4 * layout::VECTORS as u16 - 1, at::IDT);
}
