//! Starting a Linux kernel without a boot loader (the kernel's `Documentation/arch/x86/boot.rst` and
//! `zero-page.rst`).
//!
//! A bzImage is two programs in one file. The first sectors are real-mode code that would ask a BIOS about
//! the machine; they also carry the *setup header*, in which the kernel says what it can do. The rest is the
//! protected-mode kernel, compressed, with its own unpacker at the front. This loader takes the place of the
//! real-mode code: it fills in the *zero page* (`boot_params`) with what that code would have found out, and
//! enters the second program directly, either in 32-bit protected mode or, if the kernel offers it, in 64-bit
//! long mode with all of 4 GiB mapped to itself.
//!
//! Guest memory afterwards:
//!
//! ```text
//! 0x00400            BIOS data area: only the words that say where conventional memory ends
//! 0x10000            zero page
//! 0x11000            GDT: 10h code, 18h data
//! 0x13000..0x19000   page tables (64-bit entry only)
//! 0x20000..0x30000   command line
//! pref_address       kernel, with `init_size` bytes to unpack itself into
//! near the top        initial RAM disk, as high as RAM and the kernel's reach allow
//! ```

use crate::e820::{E820Entry, E820Kind};
use aero_mem::{Gpa, GuestMemory, Unmapped};
use core::ops::Range;

/// Offsets in the file and in the zero page; names as in the boot protocol. Header fields have the same
/// offset in both.
mod spec {
    pub const SETUP_SECTS: usize = 0x1f1;
    pub const SYSSIZE: usize = 0x1f4;
    pub const BOOT_FLAG: usize = 0x1fe;
    pub const BOOT_MAGIC: [u8; 2] = [0x55, 0xaa];
    /// Operand of the short jump over the header: where the header ends, counted from [`HEADER`].
    pub const JUMP: usize = 0x201;
    pub const HEADER: usize = 0x202;
    pub const HEADER_MAGIC: [u8; 4] = *b"HdrS";
    pub const VERSION: usize = 0x206;
    pub const TYPE_OF_LOADER: usize = 0x210;
    pub const UNDEFINED_LOADER: u8 = 0xff;
    pub const LOADFLAGS: usize = 0x211;
    pub const LOADED_HIGH: u8 = 1 << 0;
    pub const CODE32_START: usize = 0x214;
    pub const RAMDISK_IMAGE: usize = 0x218;
    pub const RAMDISK_SIZE: usize = 0x21c;
    pub const CMD_LINE_PTR: usize = 0x228;
    pub const INITRD_ADDR_MAX: usize = 0x22c;
    pub const KERNEL_ALIGNMENT: usize = 0x230;
    pub const RELOCATABLE_KERNEL: usize = 0x234;
    pub const XLOADFLAGS: usize = 0x236;
    pub const XLF_KERNEL_64: u16 = 1 << 0;
    pub const CMDLINE_SIZE: usize = 0x238;
    pub const PREF_ADDRESS: usize = 0x258;
    pub const INIT_SIZE: usize = 0x260;
    /// The zero page keeps other things from here on, whatever length the header claims.
    pub const HEADER_LIMIT: usize = 0x290;

    /// First version with `cmdline_size`; of 2007.
    pub const OLDEST: u16 = 0x206;
    /// First version with `pref_address` and `init_size`.
    pub const PREFERENCE: u16 = 0x20a;
    /// First version with `xloadflags`.
    pub const EXTENDED_FLAGS: u16 = 0x20c;

    pub const SECTOR: usize = 512;
    /// `setup_sects` 0 means this, for the sake of very old kernels.
    pub const DEFAULT_SETUP_SECTS: usize = 4;
    pub const PARAGRAPH: u64 = 16;
    pub const CODE_64_ENTRY: u64 = 0x200;
    pub const MIB: u64 = 1 << 20;
    pub const FOUR_GIB: u64 = 1 << 32;

    pub const ZERO_PAGE_LEN: usize = 4096;
    pub const EXT_MEM_K: usize = 0x002;
    pub const ORIG_VIDEO_MODE: usize = 0x006;
    pub const ORIG_VIDEO_COLS: usize = 0x007;
    pub const ORIG_VIDEO_EGA_BX: usize = 0x00a;
    pub const ORIG_VIDEO_LINES: usize = 0x00e;
    pub const ORIG_VIDEO_IS_VGA: usize = 0x00f;
    pub const ORIG_VIDEO_POINTS: usize = 0x010;
    pub const ACPI_RSDP_ADDR: usize = 0x070;
    pub const ALT_MEM_K: usize = 0x1e0;
    pub const E820_ENTRIES: usize = 0x1e8;
    pub const E820_TABLE: usize = 0x2d0;
    pub const E820_ENTRY_LEN: usize = 20;
    pub const E820_MAX: usize = 128;
}

/// Where things go below 640 KiB.
mod place {
    use core::ops::Range;
    pub const ZERO_PAGE: u64 = 0x1_0000;
    pub const GDT: u64 = 0x1_1000;
    pub const PAGE_TABLES: u64 = 0x1_3000;
    pub const COMMAND_LINE: Range<u64> = 0x2_0000..0x3_0000;
    /// BIOS data area: segment of the extended area, and KiB of conventional memory.
    pub const BDA_EBDA_SEGMENT: u64 = 0x40e;
    pub const BDA_BASE_KIB: u64 = 0x413;
}

/// Flat segments for the entry: `__BOOT_CS` is 10h and `__BOOT_DS` 18h. Accessed bits are set, so that
/// loading the selectors writes nothing.
mod gdt {
    pub const CODE_32: u64 = 0x00cf_9b00_0000_ffff;
    pub const CODE_64: u64 = 0x00af_9b00_0000_ffff;
    pub const DATA: u64 = 0x00cf_9300_0000_ffff;
    pub const LIMIT: u16 = 4 * 8 - 1;
}

/// Why a kernel cannot be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The file has no setup header.
    #[error(
        "the kernel is not a Linux bzImage: {found}; give the file that Debian installs as /boot/vmlinuz-*"
    )]
    NotBzImage {
        /// What the file looks like.
        found: &'static str,
    },
    /// The file ends before the kernel does.
    #[error(
        "the kernel file is truncated: its header announces {expected} bytes, it has {found}; copy it again"
    )]
    Truncated {
        /// Bytes that the header announces.
        expected: u64,
        /// Bytes in the file.
        found: u64,
    },
    /// The kernel is older than the loader can start.
    #[error(
        "the kernel speaks boot protocol {}.{:02}, at least 2.06 is needed; use Linux 2.6.22 or newer",
        version >> 8, version & 0xff
    )]
    ProtocolTooOld {
        /// Major version in the high byte, minor in the low.
        version: u16,
    },
    /// No RAM where the kernel wants to be.
    #[error(
        "the kernel needs {} MiB of RAM at {} MiB, the machine has {} MiB; give the machine more memory",
        mib(*needs), at >> 20, mib(*ram)
    )]
    KernelDoesNotFit {
        /// Bytes that the kernel needs to unpack itself.
        needs: u64,
        /// Its preferred address.
        at: u64,
        /// Bytes of guest RAM.
        ram: u64,
    },
    /// No room for the initial RAM disk.
    #[error(
        "the initrd needs {} MiB beside the kernel and below {} MiB, RAM has {} MiB; \
         give the machine more memory",
        mib(*needs), limit >> 20, mib(*ram)
    )]
    InitrdDoesNotFit {
        /// Bytes of the initial RAM disk.
        needs: u64,
        /// The first address that the kernel cannot reach.
        limit: u64,
        /// Bytes of guest RAM.
        ram: u64,
    },
    /// The command line is longer than the kernel reads.
    #[error("the kernel command line has {len} bytes, this kernel takes {limit}; shorten it")]
    CommandLineTooLong {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The memory map promises RAM that guest memory does not have, or has too many ranges.
    #[error("the memory map does not fit the machine: {0}; this is an error of the machine's address map")]
    MemoryMap(String),
}

impl From<Unmapped> for LoadError {
    fn from(error: Unmapped) -> Self {
        Self::MemoryMap(error.to_string())
    }
}

/// Whole MiB that hold `bytes`.
fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(spec::MIB)
}

/// In which state the boot processor has to enter the kernel. Interrupts are off; segments are flat, with CS
/// = 10h and DS = ES = SS = 18h; EBP, EDI and EBX are 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Protected mode, paging off.
    Protected {
        /// First instruction.
        eip: u32,
        /// Address of the zero page.
        esi: u32,
        /// Address of the descriptor table.
        gdt: u64,
        /// Its limit.
        gdt_limit: u16,
    },
    /// Long mode; the first 4 GiB are mapped to themselves.
    Long {
        /// First instruction.
        rip: u64,
        /// Address of the zero page.
        rsi: u64,
        /// Address of the top page table.
        cr3: u64,
        /// Address of the descriptor table.
        gdt: u64,
        /// Its limit.
        gdt_limit: u16,
    },
}

/// A bzImage, looked at but not copied.
#[derive(Clone, Copy, Debug)]
pub struct LinuxImage<'a> {
    /// The protected-mode kernel.
    pub payload: &'a [u8],
    /// The setup header's bytes, which begin at offset 1F1h of the file and of the zero page.
    pub header: &'a [u8],
    /// Boot protocol, major version in the high byte.
    pub version: u16,
    /// Whether the kernel can be entered in long mode.
    pub long_mode: bool,
    /// Whether it runs at other addresses than the preferred one.
    pub relocatable: bool,
    /// What such an address must be a multiple of.
    pub alignment: u64,
    /// Where it wants to be.
    pub pref_address: u64,
    /// Bytes from there on that it needs before it reads the memory map.
    pub init_size: u64,
    /// The last address that may hold a byte of the initial RAM disk.
    pub initrd_addr_max: u64,
    /// Bytes of command line that it reads, without the closing NUL.
    pub cmdline_size: usize,
}

/// Reads the setup header of a bzImage.
///
/// # Errors
/// When `kernel` is no bzImage, is shorter than its header says, or is too old.
pub fn parse(kernel: &[u8]) -> Result<LinuxImage<'_>, LoadError> {
    let file = File(kernel);
    if file.array(spec::BOOT_FLAG) != Some(spec::BOOT_MAGIC)
        || file.array(spec::HEADER) != Some(spec::HEADER_MAGIC)
    {
        return Err(LoadError::NotBzImage { found: looks_like(kernel) });
    }
    let version = file.u16(spec::VERSION)?;
    if version < spec::OLDEST {
        return Err(LoadError::ProtocolTooOld { version });
    }
    if file.u8(spec::LOADFLAGS)? & spec::LOADED_HIGH == 0 {
        return Err(LoadError::NotBzImage { found: "it is a zImage, which loads below 640 KiB" });
    }
    let payload = file.payload()?;
    let prefers = version >= spec::PREFERENCE;
    let extended = version >= spec::EXTENDED_FLAGS;
    let alignment = u64::from(file.u32(spec::KERNEL_ALIGNMENT)?);
    // Before `init_size` existed, kernels were small; four times the compressed size covers them.
    let init_size = if prefers { file.u32(spec::INIT_SIZE)?.into() } else { 4 * payload.len() as u64 };
    Ok(LinuxImage {
        payload,
        header: file.header()?,
        version,
        long_mode: extended && file.u16(spec::XLOADFLAGS)? & spec::XLF_KERNEL_64 != 0,
        relocatable: file.u8(spec::RELOCATABLE_KERNEL)? != 0 && alignment.is_power_of_two(),
        alignment: alignment.max(spec::MIB),
        pref_address: if prefers { file.u64(spec::PREF_ADDRESS)? } else { spec::MIB },
        init_size: init_size.max(payload.len() as u64),
        initrd_addr_max: file.u32(spec::INITRD_ADDR_MAX)?.into(),
        cmdline_size: file.u32(spec::CMDLINE_SIZE)? as usize,
    })
}

/// Puts the kernel, its initial RAM disk, its command line `append` and the zero page into memory. `e820` is
/// the memory map that the kernel is told; everything goes into its RAM. `rsdp` is the address of the ACPI
/// root pointer.
///
/// # Errors
/// As [`parse`], and when something does not fit.
pub fn load(
    mem: &mut GuestMemory,
    kernel: &[u8],
    initrd: Option<&[u8]>,
    append: &str,
    e820: &[E820Entry],
    rsdp: u64,
) -> Result<Entry, LoadError> {
    let image = parse(kernel)?;
    let kernel_at = place_kernel(&image, e820)?;
    let initrd = initrd.filter(|bytes| !bytes.is_empty()).unwrap_or_default();
    let occupied = kernel_at..kernel_at + image.init_size;
    let initrd_at = place_initrd(&image, initrd.len() as u64, &occupied, e820)?;

    write_command_line(mem, &image, append)?;
    let mut page = zero_page(&image, e820, rsdp)?;
    put(&mut page, spec::CODE32_START, &(kernel_at as u32).to_le_bytes());
    put(&mut page, spec::RAMDISK_IMAGE, &(initrd_at as u32).to_le_bytes());
    put(&mut page, spec::RAMDISK_SIZE, &(initrd.len() as u32).to_le_bytes());
    mem.write(Gpa(place::ZERO_PAGE), &page)?;
    mem.write(Gpa(kernel_at), image.payload)?;
    mem.write(Gpa(initrd_at), initrd)?;
    write_bios_data(mem, e820)?;
    enter(mem, &image, kernel_at)
}

/// The file, read with bounds checks: its fields are whatever somebody wrote there.
struct File<'a>(&'a [u8]);

impl<'a> File<'a> {
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at + N)?.try_into().ok()
    }

    fn field<const N: usize>(&self, at: usize) -> Result<[u8; N], LoadError> {
        self.array(at).ok_or_else(|| self.truncated(spec::HEADER_LIMIT as u64))
    }

    fn u8(&self, at: usize) -> Result<u8, LoadError> {
        self.field(at).map(u8::from_le_bytes)
    }

    fn u16(&self, at: usize) -> Result<u16, LoadError> {
        self.field(at).map(u16::from_le_bytes)
    }

    fn u32(&self, at: usize) -> Result<u32, LoadError> {
        self.field(at).map(u32::from_le_bytes)
    }

    fn u64(&self, at: usize) -> Result<u64, LoadError> {
        self.field(at).map(u64::from_le_bytes)
    }

    fn truncated(&self, expected: u64) -> LoadError {
        LoadError::Truncated { expected, found: self.0.len() as u64 }
    }

    /// The setup header, cut where the zero page goes on with something else.
    fn header(&self) -> Result<&'a [u8], LoadError> {
        let end = (spec::HEADER + usize::from(self.u8(spec::JUMP)?)).min(spec::HEADER_LIMIT);
        self.0.get(spec::SETUP_SECTS..end).ok_or_else(|| self.truncated(end as u64))
    }

    /// What follows the boot sector and the setup sectors. `syssize` is rounded up to paragraphs, and what
    /// lies behind it (a signature) is not loaded.
    fn payload(&self) -> Result<&'a [u8], LoadError> {
        let sectors = match self.u8(spec::SETUP_SECTS)? {
            0 => spec::DEFAULT_SETUP_SECTS,
            n => n.into(),
        };
        let start = (sectors + 1) * spec::SECTOR;
        let size = u64::from(self.u32(spec::SYSSIZE)?) * spec::PARAGRAPH;
        let expected = start as u64 + size;
        let found = self.0.len() as u64;
        let rest = self.0.get(start..).unwrap_or_default();
        if size == 0 || rest.is_empty() || found + spec::PARAGRAPH <= expected {
            return Err(self.truncated(expected.max(start as u64 + 1)));
        }
        Ok(&rest[..rest.len().min(size as usize)])
    }
}

/// What a file that is not a bzImage probably is.
fn looks_like(file: &[u8]) -> &'static str {
    const COMPRESSED: &str = "it is compressed on the outside; unpack it first";
    match file {
        [] => "the file is empty",
        [0x7f, b'E', b'L', b'F', ..] => "it is an ELF file (vmlinux?), the bzImage is arch/x86/boot/bzImage",
        [0x1f, 0x8b, ..]
        | [0xfd, b'7', b'z', b'X', b'Z', ..]
        | [0x28, 0xb5, 0x2f, 0xfd, ..]
        | [b'B', b'Z', b'h', ..] => COMPRESSED,
        [b'!', b'<', b'a', b'r', b'c', b'h', b'>', ..] => "it is a Debian package; unpack it with dpkg -x",
        [b'0', b'7', b'0', b'7', b'0', ..] => "it is a cpio archive, probably the initrd",
        short if short.len() < spec::HEADER_LIMIT => "the file is too short for a setup header",
        _ => "the boot flag 55AAh and the magic \"HdrS\" are missing",
    }
}

/// The preferred address if there is RAM, else the lowest aligned one above it: a kernel never runs below its
/// preference, it moves itself up.
fn place_kernel(image: &LinuxImage<'_>, e820: &[E820Entry]) -> Result<u64, LoadError> {
    let needs = image.init_size;
    let refused = LoadError::KernelDoesNotFit { needs, at: image.pref_address, ram: total_ram(e820) };
    let preferred = image.pref_address.max(spec::MIB);
    for ram in low_ram(e820) {
        let unmoved = (preferred == image.pref_address && ram.contains(&preferred)).then_some(preferred);
        let moved =
            ram.start.max(preferred).checked_next_multiple_of(image.alignment).filter(|_| image.relocatable);
        let fits = |at: &u64| at.saturating_add(needs) <= ram.end;
        if let Some(at) = unmoved.filter(fits).or(moved.filter(fits)) {
            return Ok(at);
        }
    }
    Err(refused)
}

/// The highest page that leaves the initial RAM disk in RAM, in the kernel's reach and off the kernel.
fn place_initrd(
    image: &LinuxImage<'_>,
    len: u64,
    kernel: &Range<u64>,
    e820: &[E820Entry],
) -> Result<u64, LoadError> {
    if len == 0 {
        return Ok(0);
    }
    let limit = image.initrd_addr_max + 1;
    let mut best = None;
    for ram in low_ram(e820) {
        let end = ram.end.min(limit);
        let above = highest_page(ram.start.max(kernel.end)..end, len);
        let below = highest_page(ram.start.max(spec::MIB)..end.min(kernel.start), len);
        best = best.max(above).max(below);
    }
    best.ok_or(LoadError::InitrdDoesNotFit { needs: len, limit, ram: total_ram(e820) })
}

/// The highest page-aligned address at which `len` bytes lie in `room`.
fn highest_page(room: Range<u64>, len: u64) -> Option<u64> {
    let at = room.end.checked_sub(len)? / aero_mem::PAGE_SIZE * aero_mem::PAGE_SIZE;
    (at >= room.start).then_some(at)
}

/// RAM that 32-bit addresses reach.
fn low_ram(e820: &[E820Entry]) -> impl Iterator<Item = Range<u64>> {
    let ram = e820.iter().filter(|e| e.kind == E820Kind::Ram && e.base < spec::FOUR_GIB);
    ram.map(|e| e.base..e.end().min(spec::FOUR_GIB))
}

fn total_ram(e820: &[E820Entry]) -> u64 {
    e820.iter().filter(|e| e.kind == E820Kind::Ram).fold(0, |sum, e| sum.saturating_add(e.size))
}

fn write_command_line(mem: &mut GuestMemory, image: &LinuxImage<'_>, append: &str) -> Result<(), LoadError> {
    let room = (place::COMMAND_LINE.end - place::COMMAND_LINE.start - 1) as usize;
    let limit = image.cmdline_size.min(room);
    if append.len() > limit {
        return Err(LoadError::CommandLineTooLong { len: append.len(), limit });
    }
    mem.write(Gpa(place::COMMAND_LINE.start), append.as_bytes())?;
    mem.write(Gpa(place::COMMAND_LINE.start + append.len() as u64), &[0])?;
    Ok(())
}

/// The zero page without what depends on addresses: the header, the memory map, the screen.
fn zero_page(image: &LinuxImage<'_>, e820: &[E820Entry], rsdp: u64) -> Result<Vec<u8>, LoadError> {
    if e820.len() > spec::E820_MAX {
        return Err(LoadError::MemoryMap(format!("{} ranges, {} are the limit", e820.len(), spec::E820_MAX)));
    }
    let mut page = vec![0; spec::ZERO_PAGE_LEN];
    put(&mut page, spec::SETUP_SECTS, image.header);
    put(&mut page, spec::TYPE_OF_LOADER, &[spec::UNDEFINED_LOADER]);
    put(&mut page, spec::CMD_LINE_PTR, &(place::COMMAND_LINE.start as u32).to_le_bytes());
    put(&mut page, spec::ACPI_RSDP_ADDR, &rsdp.to_le_bytes());
    put(&mut page, spec::E820_ENTRIES, &[e820.len() as u8]);
    for (entry, slot) in e820.iter().zip(page[spec::E820_TABLE..].chunks_exact_mut(spec::E820_ENTRY_LEN)) {
        put(slot, 0, &entry.base.to_le_bytes());
        put(slot, 8, &entry.size.to_le_bytes());
        put(slot, 16, &(entry.kind as u32).to_le_bytes());
    }
    describe_extended_memory(&mut page, e820);
    describe_screen(&mut page);
    Ok(page)
}

/// KiB of RAM from 1 MiB up, as `INT 15h` E801h and 88h would say (the latter stops at 63 MiB).
fn describe_extended_memory(page: &mut [u8], e820: &[E820Entry]) {
    let kib = low_ram(e820).find(|ram| ram.contains(&spec::MIB)).map_or(0, |ram| (ram.end - spec::MIB) >> 10);
    put(page, spec::ALT_MEM_K, &(kib as u32).to_le_bytes());
    put(page, spec::EXT_MEM_K, &(kib.min(63 << 10) as u16).to_le_bytes());
}

/// VGA text mode 3 with the cursor home. `EGA_BX` is what `INT 10h, AH=12h` gives: colour, 256 KiB; the value
/// 10h would mean that the BIOS knows no such call, and the kernel would take the card for a CGA.
fn describe_screen(page: &mut [u8]) {
    put(page, spec::ORIG_VIDEO_MODE, &[3]);
    put(page, spec::ORIG_VIDEO_COLS, &[80]);
    put(page, spec::ORIG_VIDEO_EGA_BX, &3u16.to_le_bytes());
    put(page, spec::ORIG_VIDEO_LINES, &[25]);
    put(page, spec::ORIG_VIDEO_IS_VGA, &[1]);
    put(page, spec::ORIG_VIDEO_POINTS, &16u16.to_le_bytes());
}

fn put(page: &mut [u8], at: usize, bytes: &[u8]) {
    page[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Two words of the BIOS data area. Linux looks there for the end of conventional memory, which it reserves,
/// and for room for its real-mode trampoline.
fn write_bios_data(mem: &mut GuestMemory, e820: &[E820Entry]) -> Result<(), LoadError> {
    let Some(base) = low_ram(e820).find(|ram| ram.start == 0) else { return Ok(()) };
    let end = base.end.min(aero_mem::VGA_WINDOW.start);
    mem.write(Gpa(place::BDA_EBDA_SEGMENT), &((end >> 4) as u16).to_le_bytes())?;
    mem.write(Gpa(place::BDA_BASE_KIB), &((end >> 10) as u16).to_le_bytes())?;
    Ok(())
}

/// Descriptor table, page tables, and the registers that go with them.
fn enter(mem: &mut GuestMemory, image: &LinuxImage<'_>, kernel_at: u64) -> Result<Entry, LoadError> {
    let code = if image.long_mode { gdt::CODE_64 } else { gdt::CODE_32 };
    write_words(mem, place::GDT, &[0, 0, code, gdt::DATA])?;
    let (gdt, gdt_limit) = (place::GDT, gdt::LIMIT);
    if !image.long_mode {
        return Ok(Entry::Protected { eip: kernel_at as u32, esi: place::ZERO_PAGE as u32, gdt, gdt_limit });
    }
    write_identity_map(mem)?;
    let rip = kernel_at + spec::CODE_64_ENTRY;
    Ok(Entry::Long { rip, rsi: place::ZERO_PAGE, cr3: place::PAGE_TABLES, gdt, gdt_limit })
}

/// Maps 4 GiB to itself: one PML4 entry, four PDPT entries, 2048 pages of 2 MiB.
fn write_identity_map(mem: &mut GuestMemory) -> Result<(), LoadError> {
    const PRESENT_WRITABLE: u64 = 0b11;
    const LARGE: u64 = 1 << 7;
    const TABLE: u64 = aero_mem::PAGE_SIZE;
    let pdpt = place::PAGE_TABLES + TABLE;
    let directory = |n: u64| pdpt + TABLE * (n + 1);
    write_words(mem, place::PAGE_TABLES, &first_entries(&[pdpt | PRESENT_WRITABLE]))?;
    write_words(mem, pdpt, &first_entries(&[0, 1, 2, 3].map(|n| directory(n) | PRESENT_WRITABLE)))?;
    for n in 0..4 {
        let pages: Vec<u64> =
            (0..512).map(|page| (n << 30 | page << 21) | LARGE | PRESENT_WRITABLE).collect();
        write_words(mem, directory(n), &pages)?;
    }
    Ok(())
}

/// A whole table: memory may hold the remains of an earlier run.
fn first_entries(entries: &[u64]) -> [u64; 512] {
    let mut table = [0; 512];
    table[..entries.len()].copy_from_slice(entries);
    table
}

fn write_words(mem: &mut GuestMemory, at: u64, words: &[u64]) -> Result<(), Unmapped> {
    words.iter().zip((at..).step_by(8)).try_for_each(|(word, at)| mem.write(Gpa(at), &word.to_le_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::e820::memory_map;

    const RSDP: u64 = 0xf_0000;

    fn machine(ram_mib: u64) -> (GuestMemory, Vec<E820Entry>) {
        let low = ram_mib << 20;
        let map = memory_map(low, 0, low - crate::acpi::AREA..low, &[]);
        (GuestMemory::new(low, 1).expect("memory"), map)
    }

    /// A bzImage of protocol 2.15 whose kernel is `payload` bytes of its own low address byte.
    fn bzimage(payload: usize) -> Vec<u8> {
        let mut file = vec![0; 2 * 512];
        let mut set = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        set(0x1f1, &[1]);
        set(0x1f4, &(payload.div_ceil(16) as u32).to_le_bytes());
        set(0x1fe, &[0x55, 0xaa, 0xeb, 0x66]);
        set(0x202, b"HdrS\x0f\x02");
        set(0x211, &[1]);
        set(0x22c, &0x7fff_ffffu32.to_le_bytes());
        set(0x230, &0x20_0000u32.to_le_bytes());
        set(0x234, &[1, 21, 1, 0]);
        set(0x238, &2047u32.to_le_bytes());
        set(0x258, &0x100_0000u64.to_le_bytes());
        set(0x260, &0x80_0000u32.to_le_bytes());
        file.extend((0..payload).map(|n| n as u8));
        file
    }

    fn patched(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut file = bzimage(64 << 10);
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    }

    fn load_into(
        ram_mib: u64,
        kernel: &[u8],
        initrd: &[u8],
        append: &str,
    ) -> Result<(GuestMemory, Entry), LoadError> {
        let (mut mem, map) = machine(ram_mib);
        let entry = load(&mut mem, kernel, Some(initrd), append, &map, RSDP)?;
        Ok((mem, entry))
    }

    fn u32_at(mem: &GuestMemory, at: u64) -> u32 {
        u32::from_le_bytes(mem.read_array(Gpa(at)).expect("RAM"))
    }

    fn u64_at(mem: &GuestMemory, at: u64) -> u64 {
        u64::from_le_bytes(mem.read_array(Gpa(at)).expect("RAM"))
    }

    #[test]
    fn kernel_with_a_64_bit_entry_is_entered_in_long_mode_at_its_preferred_address() {
        let (mem, entry) = load_into(64, &bzimage(64 << 10), b"", "quiet").expect("loads");
        let want =
            Entry::Long { rip: 0x100_0200, rsi: 0x1_0000, cr3: 0x1_3000, gdt: 0x1_1000, gdt_limit: 31 };
        assert_eq!(entry, want);
        assert_eq!(mem.read_array(Gpa(0x100_0000 + 513)), Ok([1, 2, 3]));
        assert_eq!(u64_at(&mem, 0x1_1010), 0x00af_9b00_0000_ffff);
    }

    #[test]
    fn kernel_without_it_is_entered_in_protected_mode() {
        let (mem, entry) = load_into(64, &patched(0x236, &[0]), b"", "").expect("loads");
        assert_eq!(entry, Entry::Protected { eip: 0x100_0000, esi: 0x1_0000, gdt: 0x1_1000, gdt_limit: 31 });
        assert_eq!(u64_at(&mem, 0x1_1010), 0x00cf_9b00_0000_ffff);
        assert_eq!(u64_at(&mem, 0x1_1018), 0x00cf_9300_0000_ffff);
    }

    #[test]
    fn long_mode_entry_maps_all_of_4_gib_to_itself() {
        let (mem, _) = load_into(64, &bzimage(16), b"", "").expect("loads");
        for address in [0u64, 0x1f_ffff, 0x100_0200, 0x7fff_ffff, 0xfee0_0000, 0xffff_ffff] {
            let mut table = 0x1_3000;
            for shift in [39, 30] {
                let entry = u64_at(&mem, table + ((address >> shift) & 511) * 8);
                assert_eq!(entry & 0x83, 3, "{address:#x}");
                table = entry & !0xfff;
            }
            let page = u64_at(&mem, table + ((address >> 21) & 511) * 8);
            assert_eq!(page, address & !0x1f_ffff | 0x83, "{address:#x}");
        }
        assert_eq!(u64_at(&mem, 0x1_3008), 0);
    }

    #[test]
    fn zero_page_says_what_the_real_mode_code_would_have_found() {
        let (mem, _) = load_into(64, &bzimage(16), b"", "console=ttyS0").expect("loads");
        let at = |offset: u64| 0x1_0000 + offset;
        assert_eq!(mem.read_array(Gpa(at(0x202))), Ok(*b"HdrS"));
        assert_eq!(mem.read_array(Gpa(at(0x210))), Ok([0xff, 1]));
        assert_eq!((u32_at(&mem, at(0x214)), u32_at(&mem, at(0x228))), (0x100_0000, 0x2_0000));
        assert_eq!(mem.read_array(Gpa(0x2_0000)), Ok(*b"console=ttyS0\0"));
        assert_eq!(u64_at(&mem, at(0x70)), RSDP);
        assert_eq!(mem.read_array(Gpa(at(2))), Ok(((63u16 << 10) - 64).to_le_bytes()));
        assert_eq!(mem.read_array(Gpa(at(6))), Ok([3, 80]));
        assert_eq!(mem.read_array(Gpa(at(0xa))), Ok([3, 0, 0, 0, 25, 1, 16, 0]));
        assert_eq!(u32_at(&mem, at(0x1e0)), (63 << 10) - 64);
        assert_eq!(mem.read_array(Gpa(at(0x1e8))), Ok([6]));
        assert_eq!(
            (u64_at(&mem, at(0x2d0)), u64_at(&mem, at(0x2d8)), u32_at(&mem, at(0x2e0))),
            (0, 0x9_fc00, 1)
        );
        assert_eq!(u32_at(&mem, at(0x2d0 + 5 * 20 + 16)), 3);
        assert_eq!(mem.read_array(Gpa(0x40e)), Ok([0xc0, 0x9f]));
        assert_eq!(mem.read_array(Gpa(0x413)), Ok(639u16.to_le_bytes()));
    }

    #[test]
    fn initrd_lies_as_high_as_ram_and_kernel_allow() {
        let initrd = vec![0xa5; 5000];
        let (mem, _) = load_into(64, &bzimage(16), &initrd, "").expect("loads");
        assert_eq!((u32_at(&mem, 0x1_0218), u32_at(&mem, 0x1_021c)), (0x3fe_e000, 5000));
        assert_eq!(mem.read_array(Gpa(0x3fe_e000 + 4999)), Ok([0xa5, 0]));

        let (mem, _) =
            load_into(64, &patched(0x22c, &0x1ff_ffffu32.to_le_bytes()), &initrd, "").expect("loads");
        assert_eq!(u32_at(&mem, 0x1_0218), 0x1ff_e000);

        let (mem, _) =
            load_into(64, &patched(0x22c, &0x13f_ffffu32.to_le_bytes()), &initrd, "").expect("loads");
        assert_eq!(u32_at(&mem, 0x1_0218), 0xff_e000, "below the kernel, which needs 16 to 24 MiB");
    }

    #[test]
    fn initrd_that_fits_nowhere_is_refused_with_the_cure() {
        let error = load_into(32, &bzimage(16), &vec![0; 20 << 20], "").err().expect("refused").to_string();
        assert!(error.contains("the initrd needs 20 MiB") && error.contains("RAM has 32 MiB"), "{error}");
        assert!(error.ends_with("give the machine more memory"), "{error}");
    }

    #[test]
    fn kernel_that_does_not_fit_is_refused_with_the_cure() {
        let error = load_into(20, &bzimage(16), b"", "").err().expect("refused").to_string();
        assert_eq!(
            error,
            "the kernel needs 8 MiB of RAM at 16 MiB, the machine has 20 MiB; give the machine more memory"
        );
    }

    #[test]
    fn relocatable_kernel_moves_behind_a_hole_and_another_does_not() {
        let ram = |base: u64, end: u64| E820Entry { base, size: end - base, kind: E820Kind::Ram };
        let map = [ram(0, 0x9_fc00), ram(0x10_0000, 0x140_0000), ram(0x180_0001, 0x400_0000)];
        let (moves, stays) = (bzimage(16), patched(0x234, &[0]));
        assert_eq!(place_kernel(&parse(&moves).expect("parses"), &map), Ok(0x1a0_0000));
        assert!(matches!(
            place_kernel(&parse(&stays).expect("parses"), &map),
            Err(LoadError::KernelDoesNotFit { .. })
        ));
    }

    #[test]
    fn files_that_are_no_bzimage_are_named() {
        let cases: [(&[u8], &str); 7] = [
            (b"", "empty"),
            (b"\x7fELF\x02", "ELF"),
            (b"\x1f\x8b\x08", "compressed"),
            (b"!<arch>\n", "Debian package"),
            (b"070701", "cpio"),
            (b"abc", "too short"),
            (&[0; 4096], "HdrS"),
        ];
        for (file, word) in cases {
            let error = parse(file).expect_err("refused").to_string();
            assert!(error.contains("not a Linux bzImage") && error.contains(word), "{error}");
        }
        assert!(parse(&patched(0x211, &[0])).expect_err("refused").to_string().contains("zImage"));
    }

    #[test]
    fn old_and_truncated_kernels_are_refused() {
        assert_eq!(parse(&patched(0x206, &[3, 2])).err(), Some(LoadError::ProtocolTooOld { version: 0x203 }));
        let error = LoadError::ProtocolTooOld { version: 0x203 }.to_string();
        assert!(error.contains("boot protocol 2.03"), "{error}");
        let file = bzimage(64 << 10);
        let cut = file.len() - 100;
        let want = LoadError::Truncated { expected: file.len() as u64, found: cut as u64 };
        assert_eq!(parse(&file[..cut]).err(), Some(want));
    }

    #[test]
    fn command_line_longer_than_the_kernel_reads_is_refused() {
        let error = load_into(64, &bzimage(16), b"", &"x".repeat(2048)).err();
        assert_eq!(error, Some(LoadError::CommandLineTooLong { len: 2048, limit: 2047 }));
        let (mem, _) = load_into(64, &bzimage(16), b"", &"x".repeat(2047)).expect("loads");
        assert_eq!(mem.read_array(Gpa(0x2_0000 + 2046)), Ok([b'x', 0]));
    }

    #[test]
    fn payload_behind_syssize_is_not_loaded_and_a_missing_paragraph_tail_is_accepted() {
        let mut file = bzimage(100);
        assert_eq!(parse(&file).expect("parses").payload.len(), 100);
        file.extend([0xee; 4096]);
        assert_eq!(parse(&file).expect("parses").payload.len(), 112);
    }

    /// Repeatable noise (xorshift64).
    struct Noise(u64);

    impl Noise {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }
    }

    #[test]
    fn mutated_and_truncated_headers_never_panic() {
        let (mut mem, map) = machine(32);
        let (clean, mut noise) = (bzimage(4096), Noise(0x9e37_79b9_7f4a_7c15));
        let mut started = 0;
        for _ in 0..20_000 {
            let mut file = clean.clone();
            for _ in 0..1 + noise.next() % 6 {
                let at = 0x1f1 + (noise.next() % 0x80) as usize;
                file[at] = [0, 0xff, 0x80, noise.next() as u8][(noise.next() % 4) as usize];
            }
            if noise.next().is_multiple_of(4) {
                file.truncate((noise.next() % 6000) as usize);
            }
            started += usize::from(load(&mut mem, &file, Some(&[1, 2, 3]), "x", &map, RSDP).is_ok());
        }
        assert!(started > 1000, "most mutations miss what matters, {started} loaded");
        for len in 0..clean.len() {
            assert!(parse(&clean[..len]).is_err() || len + 16 > clean.len());
        }
    }
}
