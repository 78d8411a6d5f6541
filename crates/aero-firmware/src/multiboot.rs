//! Starting a multiboot kernel (Multiboot Specification 0.6.96).
//!
//! Such a kernel carries a *multiboot header*, 12 bytes or more on a dword boundary in its first 8 KiB: a magic number,
//! flags, and a checksum that makes the three add up to zero. If flag 16 is set, the header also says which bytes of
//! the file go where (the "a.out kludge"); otherwise the file is an ELF executable, of 32 or of 64 bits, whose program
//! headers say so. The kernel is entered in 32-bit protected mode, paging off, flat segments, EAX = 2BADB002h, and EBX
//! pointing to the *information structure*: memory sizes, command line, modules, memory map, the loader's name.
//!
//! What this loader leaves in memory:
//!
//! ```text
//! the kernel's segments        where it says, zeros up to their size in memory
//! modules                      page-aligned, behind the kernel
//! information, strings, GDT    in conventional memory where the kernel is not, or behind the modules
//! ```

use crate::e820::{E820Entry, E820Kind};
use aero_mem::{Gpa, GuestMemory, Unmapped};
use core::ops::Range;

/// Numbers of the specification and of ELF.
mod spec {
    pub const MAGIC: u32 = 0x1bad_b002;
    /// What EAX holds at the entry.
    pub const BOOTED: u32 = 0x2bad_b002;
    pub const SEARCH: usize = 8192;
    pub const HEADER: usize = 12;
    /// Modules on page boundaries, memory information, video mode: asked for by flags 0, 1 and 2. Modules always lie
    /// on page boundaries and memory is always told; there is no video mode to tell, and kernels live without.
    pub const KNOWN_REQUIREMENTS: u32 = 0b111;
    pub const REQUIREMENTS: u32 = 0xffff;
    pub const ADDRESSES: u32 = 1 << 16;

    pub const INFO_LEN: usize = 120;
    /// Memory sizes, command line, modules, memory map, loader's name.
    pub const INFO_FLAGS: u32 = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9;
    pub const MODULE_LEN: usize = 16;
    pub const LOADER: &str = "Aero";

    pub const ELF_MAGIC: [u8; 4] = [0x7f, b'E', b'L', b'F'];
    pub const ELF_32: u8 = 1;
    pub const ELF_64: u8 = 2;
    pub const LITTLE_ENDIAN: u8 = 1;
    pub const EXECUTABLE: u16 = 2;
    pub const I386: u16 = 3;
    pub const X86_64: u16 = 62;
    pub const PT_LOAD: u32 = 1;

    pub const PAGE: u64 = 4096;
    /// The first place that is tried for the information structure.
    pub const LOW: u64 = 0x9000;
}

/// Flat segments as loaders leave them: 8 is code, 10h is data.
mod gdt {
    pub const CODE: u64 = 0x00cf_9b00_0000_ffff;
    pub const DATA: u64 = 0x00cf_9300_0000_ffff;
    pub const LEN: usize = 3 * 8;
}

/// Why a kernel cannot be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MultibootError {
    /// Neither a header with addresses nor an ELF file.
    #[error(
        "the multiboot header says no addresses (flag 16), so the file must be ELF, and {0}; link it as an ELF32 or ELF64 executable for x86"
    )]
    NotElf(&'static str),
    /// An ELF file without the header.
    #[error(
        "this is an ELF file without a multiboot header in its first 8 KiB; put one (magic 1BADB002h, on a dword boundary, checksum right) at its start"
    )]
    NoHeader,
    /// A header whose checksum is wrong, and no other.
    #[error(
        "the checksum of the multiboot header at offset {at:#x} is wrong: magic, flags and checksum must add up to 0; assemble it anew"
    )]
    Checksum {
        /// Where the header lies in the file.
        at: usize,
    },
    /// The kernel asks for something that this loader does not know.
    #[error(
        "the multiboot header requires features {flags:#x} that this loader does not have; clear these bits of its flags"
    )]
    Requires {
        /// Bits of the header's flags.
        flags: u32,
    },
    /// The file ends before something that it announces.
    #[error("the file is truncated: {what} ends at byte {end}, the file has {found}; copy or link it again")]
    Truncated {
        /// What it announces.
        what: &'static str,
        /// Where that ends.
        end: u64,
        /// Bytes in the file.
        found: u64,
    },
    /// The header's addresses contradict each other.
    #[error("the multiboot header's addresses contradict each other ({0}); link the kernel again")]
    Addresses(&'static str),
    /// A segment does not lie in RAM.
    #[error(
        "the kernel loads at {start:#x}–{end:#x}, where the machine has no free RAM; link it elsewhere (1 MiB is usual) or give a larger --memory"
    )]
    OutsideRam {
        /// First byte.
        start: u64,
        /// Byte behind the last.
        end: u64,
    },
    /// Nowhere to put a module or the information structure.
    #[error("{what} needs {bytes} bytes of RAM below 4 GiB beside the kernel; give a larger --memory")]
    NoRoom {
        /// What.
        what: &'static str,
        /// Its size.
        bytes: u64,
    },
    /// The memory map promises RAM that is not there.
    #[error("the memory map does not fit the machine: {0}; this is an error of the machine's address map")]
    MemoryMap(String),
}

impl From<Unmapped> for MultibootError {
    fn from(error: Unmapped) -> Self {
        Self::MemoryMap(error.to_string())
    }
}

use MultibootError as Error;

/// Registers at the kernel's entry. Interrupts are off; CS is 8, the data segments are 10h, all flat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MultibootEntry {
    /// First instruction.
    pub eip: u32,
    /// The number that tells the kernel how it was started.
    pub eax: u32,
    /// The information structure.
    pub ebx: u32,
    /// The descriptor table.
    pub gdt: u64,
    /// Its limit.
    pub gdt_limit: u16,
}

/// A part of the kernel in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Segment<'a> {
    at: u64,
    bytes: &'a [u8],
    /// Bytes in memory; zeros follow those of the file.
    size: u64,
}

impl Segment<'_> {
    fn range(&self) -> Range<u64> {
        self.at..self.at.saturating_add(self.size)
    }
}

/// A kernel, looked at but not copied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MultibootImage<'a> {
    segments: Vec<Segment<'a>>,
    entry: u32,
}

/// Whether a file is meant to be started this way: it is ELF, or has the magic number where the header would be.
pub fn is_multiboot(kernel: &[u8]) -> bool {
    kernel.starts_with(&spec::ELF_MAGIC) || headers(kernel).next().is_some()
}

/// Offsets of the magic number in the part of the file that is searched.
fn headers(kernel: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let end = kernel.len().min(spec::SEARCH).saturating_sub(spec::HEADER - 1);
    (0..end).step_by(4).filter(|at| u32_at(kernel, *at) == Some(spec::MAGIC))
}

/// Reads a kernel's headers.
///
/// # Errors
/// When it is no multiboot kernel or contradicts itself.
pub fn parse(kernel: &[u8]) -> Result<MultibootImage<'_>, Error> {
    let sums_up = |at: &usize| {
        let word = |n: usize| u32_at(kernel, at + 4 * n).unwrap_or_default();
        word(0).wrapping_add(word(1)).wrapping_add(word(2)) == 0
    };
    let at = match headers(kernel).find(sums_up) {
        Some(at) => at,
        None => return Err(headers(kernel).next().map_or(Error::NoHeader, |at| Error::Checksum { at })),
    };
    let flags = u32_at(kernel, at + 4).unwrap_or_default();
    let unknown = flags & spec::REQUIREMENTS & !spec::KNOWN_REQUIREMENTS;
    match (unknown, flags & spec::ADDRESSES) {
        (0, 0) => elf(kernel),
        (0, _) => by_addresses(kernel, at),
        (flags, _) => Err(Error::Requires { flags }),
    }
}

/// The header's own addresses: header, first and last byte to load, end of zeros, entry.
fn by_addresses(kernel: &[u8], at: usize) -> Result<MultibootImage<'_>, Error> {
    let truncated = || truncated("the multiboot header", at as u64 + 32, kernel);
    let field = |n: usize| u32_at(kernel, at + 12 + 4 * n).map(u64::from).ok_or_else(truncated);
    let [header, load, load_end, bss_end, entry] = [field(0)?, field(1)?, field(2)?, field(3)?, field(4)?];
    let before = header.checked_sub(load).ok_or(Error::Addresses("header_addr is below load_addr"))?;
    let start = (at as u64).checked_sub(before).ok_or(Error::Addresses("load_addr is before the file"))?;
    let file_size = match load_end {
        0 => kernel.len() as u64 - start,
        _ => load_end.checked_sub(load).ok_or(Error::Addresses("load_end_addr is below load_addr"))?,
    };
    let bytes = slice(kernel, start, file_size, "what the multiboot header loads")?;
    let size = match bss_end {
        0 => file_size,
        _ => bss_end.checked_sub(load).ok_or(Error::Addresses("bss_end_addr is below load_addr"))?,
    };
    if size < file_size {
        return Err(Error::Addresses("bss_end_addr is below load_end_addr"));
    }
    Ok(MultibootImage { segments: vec![Segment { at: load, bytes, size }], entry: entry as u32 })
}

/// One program header, as both classes have it.
struct Program {
    kind: u32,
    offset: u64,
    vaddr: u64,
    paddr: u64,
    file_size: u64,
    size: u64,
}

fn elf(kernel: &[u8]) -> Result<MultibootImage<'_>, Error> {
    let (class, machine) = match kernel {
        [a, b, c, d, class, spec::LITTLE_ENDIAN, ..] if [*a, *b, *c, *d] == spec::ELF_MAGIC => {
            (*class, u16_at(kernel, 18).unwrap_or_default())
        }
        _ => return Err(Error::NotElf("it is not")),
    };
    match (class, machine) {
        (spec::ELF_32 | spec::ELF_64, spec::I386 | spec::X86_64) => {}
        _ => return Err(Error::NotElf("it is one for another processor")),
    }
    if u16_at(kernel, 16) != Some(spec::EXECUTABLE) {
        return Err(Error::NotElf("it is no executable (e_type 2)"));
    }
    let programs = programs(kernel, class)?;
    let loaded = programs.iter().filter(|p| p.kind == spec::PT_LOAD && p.size != 0);
    let mut segments = Vec::new();
    for p in loaded.clone() {
        if p.file_size > p.size {
            return Err(Error::Addresses("a program header has more bytes in the file than in memory"));
        }
        let bytes = slice(kernel, p.offset, p.file_size, "a segment")?;
        segments.push(Segment { at: p.paddr, bytes, size: p.size });
    }
    if segments.is_empty() {
        return Err(Error::NotElf("it has no segment to load"));
    }
    let entry = if class == spec::ELF_32 { u32_at(kernel, 24).map(u64::from) } else { u64_at(kernel, 24) };
    let entry = entry.unwrap_or_default();
    // The entry is a virtual address; paging is off.
    let holds = |p: &&Program| entry.checked_sub(p.vaddr).is_some_and(|within| within < p.size);
    let entry = loaded.clone().find(holds).map_or(entry, |p| p.paddr.wrapping_add(entry - p.vaddr));
    let entry = u32::try_from(entry).map_err(|_| Error::Addresses("the entry is above 4 GiB"))?;
    Ok(MultibootImage { segments, entry })
}

fn programs(kernel: &[u8], class: u8) -> Result<Vec<Program>, Error> {
    let wide = class == spec::ELF_64;
    let header = || truncated("the ELF header", 64, kernel);
    let word = |at: usize| u32_at(kernel, at).map(u64::from);
    let table = if wide { u64_at(kernel, 32) } else { word(28) }.ok_or_else(header)?;
    let (size_at, count_at) = if wide { (54, 56) } else { (42, 44) };
    let size = u64::from(u16_at(kernel, size_at).ok_or_else(header)?);
    let count = u64::from(u16_at(kernel, count_at).ok_or_else(header)?);
    let needed = if wide { 56 } else { 32 };
    if size < needed {
        return Err(Error::NotElf("its program headers are too short"));
    }
    let table = slice(kernel, table, size * count, "the table of program headers")?;
    let read = |p: &[u8]| {
        let dword = |at: usize| u64::from(u32_at(p, at).unwrap_or_default());
        let number = |narrow: usize, broad: usize| match wide {
            true => u64_at(p, broad).unwrap_or_default(),
            false => dword(narrow),
        };
        Program {
            kind: dword(0) as u32,
            offset: number(4, 8),
            vaddr: number(8, 16),
            paddr: number(12, 24),
            file_size: number(16, 32),
            size: number(20, 40),
        }
    };
    Ok(table.chunks_exact(size as usize).map(read).collect())
}

/// Puts the kernel, `module` with its string, and everything that the kernel is told into memory. `command_line` begins
/// with the kernel's name. `e820` is the memory map; everything goes into its RAM.
///
/// # Errors
/// As [`parse`], and when something does not fit.
pub fn load(
    mem: &mut GuestMemory,
    kernel: &[u8],
    module: Option<(&[u8], &str)>,
    command_line: &str,
    e820: &[E820Entry],
) -> Result<MultibootEntry, Error> {
    let image = parse(kernel)?;
    let mut room = Room { e820, taken: Vec::new() };
    for segment in &image.segments {
        room.take(segment.range())?;
    }
    for segment in &image.segments {
        mem.write(Gpa(segment.at), segment.bytes)?;
        zero(mem, segment.at + segment.bytes.len() as u64..segment.range().end)?;
    }
    let behind = image.segments.iter().map(|s| s.range().end).max().unwrap_or(0).max(1 << 20);
    let module_at = match module {
        Some((bytes, _)) => room.find(behind, bytes.len() as u64, "the module (--initrd)")?,
        None => 0,
    };
    if let Some((bytes, _)) = module {
        mem.write(Gpa(module_at), bytes)?;
    }
    let loaded = module.map(|(bytes, name)| (module_at..module_at + bytes.len() as u64, name));
    let len = info(0, loaded.clone(), command_line, e820).len() as u64;
    let what = "what the kernel is told";
    let at = room.find(spec::LOW, len, what).or_else(|_| room.find(behind, len, what))?;
    let bytes = info(at, loaded, command_line, e820);
    mem.write(Gpa(at), &bytes)?;
    Ok(MultibootEntry {
        eip: image.entry,
        eax: spec::BOOTED,
        ebx: (at as usize + gdt::LEN) as u32,
        gdt: at,
        gdt_limit: gdt::LEN as u16 - 1,
    })
}

fn zero(mem: &mut GuestMemory, range: Range<u64>) -> Result<(), Unmapped> {
    const ZEROS: [u8; spec::PAGE as usize] = [0; spec::PAGE as usize];
    let mut at = range.start;
    while at < range.end {
        let len = (range.end - at).min(spec::PAGE);
        mem.write(Gpa(at), &ZEROS[..len as usize])?;
        at += len;
    }
    Ok(())
}

/// RAM below 4 GiB and what of it is in use.
struct Room<'a> {
    e820: &'a [E820Entry],
    taken: Vec<Range<u64>>,
}

impl Room<'_> {
    fn take(&mut self, range: Range<u64>) -> Result<(), Error> {
        let (start, end) = (range.start, range.end);
        if !self.is_ram(&range) {
            return Err(Error::OutsideRam { start, end });
        }
        self.taken.push(range);
        Ok(())
    }

    fn is_ram(&self, range: &Range<u64>) -> bool {
        let holds = |e: &E820Entry| e.kind == E820Kind::Ram && e.base <= range.start && range.end <= e.end();
        range.end <= 1 << 32 && self.e820.iter().any(holds)
    }

    /// The first free page-aligned place for `len` bytes from `from` on; it is taken.
    fn find(&mut self, from: u64, len: u64, what: &'static str) -> Result<u64, Error> {
        let mut at = from.next_multiple_of(spec::PAGE);
        let low = self.e820.iter().filter(|e| e.kind == E820Kind::Ram && e.base < 1 << 32);
        let end = low.map(E820Entry::end).max().unwrap_or(0);
        while at < end {
            let range = at..at.saturating_add(len);
            let hit = self.taken.iter().find(|t| t.start < range.end && range.start < t.end);
            match hit {
                Some(taken) => at = taken.end.next_multiple_of(spec::PAGE),
                None if self.is_ram(&range) => {
                    self.taken.push(range);
                    return Ok(at);
                }
                None => at += spec::PAGE,
            }
        }
        Err(Error::NoRoom { what, bytes: len })
    }
}

/// Descriptor table, information structure, module list, memory map and strings, as one block at `at`.
fn info(at: u64, module: Option<(Range<u64>, &str)>, command_line: &str, e820: &[E820Entry]) -> Vec<u8> {
    let mut block: Vec<u8> = [0, gdt::CODE, gdt::DATA].iter().flat_map(|d| d.to_le_bytes()).collect();
    let fields = block.len();
    block.resize(fields + spec::INFO_LEN, 0);
    let put = |block: &mut Vec<u8>, offset: usize, value: u64| {
        block[fields + offset..][..4].copy_from_slice(&(value as u32).to_le_bytes());
    };
    let address = |block: &Vec<u8>| at + block.len() as u64;
    put(&mut block, 0, spec::INFO_FLAGS.into());
    let ram_at = |base: u64| e820.iter().find(|e| e.kind == E820Kind::Ram && e.base == base);
    put(&mut block, 4, ram_at(0).map_or(0, |e| e.size >> 10));
    put(&mut block, 8, ram_at(1 << 20).map_or(0, |e| e.size >> 10));
    let here = address(&block);
    put(&mut block, 16, here);
    string(&mut block, command_line);
    if let Some((range, name)) = module {
        let here = address(&block);
        let list = here + (name.len() as u64 + 1).next_multiple_of(4);
        string(&mut block, name);
        put(&mut block, 20, 1);
        put(&mut block, 24, list);
        [range.start, range.end, here, 0].iter().for_each(|n| block.extend((*n as u32).to_le_bytes()));
        debug_assert_eq!(address(&block), list + spec::MODULE_LEN as u64);
    }
    let map: Vec<u8> = e820.iter().flat_map(map_entry).collect();
    let here = address(&block);
    put(&mut block, 44, map.len() as u64);
    put(&mut block, 48, here);
    block.extend(map);
    let here = address(&block);
    put(&mut block, 64, here);
    string(&mut block, spec::LOADER);
    block
}

/// A NUL-terminated string, padded to a dword boundary.
fn string(block: &mut Vec<u8>, text: &str) {
    block.extend(text.bytes());
    block.push(0);
    block.resize(block.len().next_multiple_of(4), 0);
}

/// Size of the rest, base, length, type.
fn map_entry(e: &E820Entry) -> Vec<u8> {
    let rest = [&e.base.to_le_bytes()[..], &e.size.to_le_bytes(), &(e.kind as u32).to_le_bytes()].concat();
    [&(rest.len() as u32).to_le_bytes()[..], &rest].concat()
}

fn truncated(what: &'static str, end: u64, kernel: &[u8]) -> Error {
    Error::Truncated { what, end, found: kernel.len() as u64 }
}

fn slice<'a>(kernel: &'a [u8], at: u64, len: u64, what: &'static str) -> Result<&'a [u8], Error> {
    let end = at.saturating_add(len);
    if end > kernel.len() as u64 {
        return Err(truncated(what, end, kernel));
    }
    Ok(&kernel[at as usize..end as usize])
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 0x10_0000;

    fn header(flags: u32, more: &[u32]) -> Vec<u8> {
        let sum = 0u32.wrapping_sub(spec::MAGIC.wrapping_add(flags));
        [&[spec::MAGIC, flags, sum], more].concat().iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    /// An ELF file with a header, `code` behind it at `paddr`, and as many zeros again.
    fn elf_file(class: u8, vaddr: u64, paddr: u64, code: &[u8]) -> Vec<u8> {
        let wide = class == spec::ELF_64;
        let n = |v: u64| if wide { v.to_le_bytes().to_vec() } else { (v as u32).to_le_bytes().to_vec() };
        let (head, program) = if wide { (64, 56) } else { (52, 32) };
        let mut file = [&spec::ELF_MAGIC[..], &[class, 1, 1], &[0; 9], &[2, 0, 3, 0, 1, 0, 0, 0]].concat();
        [vaddr + 12, head, 0].iter().for_each(|v| file.extend(n(*v)));
        file.extend([0, 0, 0, 0, head as u8, 0, program as u8, 0, 1, 0]);
        file.resize(head as usize, 0);
        let offset = head + program;
        let body = [header(0, &[]), code.to_vec()].concat();
        let size = body.len() as u64;
        file.extend(1u32.to_le_bytes());
        if wide {
            file.extend(5u32.to_le_bytes());
        }
        [offset, vaddr, paddr, size, 2 * size].iter().for_each(|v| file.extend(n(*v)));
        file.resize(offset as usize, 0);
        [file, body].concat()
    }

    fn machine() -> (GuestMemory, Vec<E820Entry>) {
        let mem = GuestMemory::new(8 << 20, 1).expect("8 MiB");
        let map = crate::memory_map(mem.low_ram(), 0, 0x7f_0000..0x80_0000, &[]);
        (mem, map)
    }

    fn text(mem: &GuestMemory, at: u32) -> String {
        let bytes = (u64::from(at)..).map(|at| mem.read_array::<1>(Gpa(at)).expect("RAM")[0]);
        bytes.take_while(|b| *b != 0).map(char::from).collect()
    }

    fn dword(mem: &GuestMemory, at: u32) -> u32 {
        u32::from_le_bytes(mem.read_array(Gpa(at.into())).expect("RAM"))
    }

    #[test]
    fn both_classes_load_and_their_entry_is_physical() {
        for class in [spec::ELF_32, spec::ELF_64] {
            let (mut mem, map) = machine();
            mem.write(Gpa(AT), &[0xff; 64]).expect("RAM");
            let file = elf_file(class, 0xc010_0000, AT, &[0xf4]);
            let entry = load(&mut mem, &file, None, "k", &map).expect("loads");
            assert_eq!((entry.eip, entry.eax), (AT as u32 + 12, 0x2bad_b002));
            assert_eq!(mem.read_array::<3>(Gpa(AT + 12)), Ok([0xf4, 0, 0]), "zeros follow");
        }
    }

    #[test]
    fn kernel_is_told_of_memory_command_line_module_and_loader() {
        let (mut mem, map) = machine();
        let file = elf_file(spec::ELF_32, AT, AT, &[0xf4]);
        let entry = load(&mut mem, &file, Some((b"module", "m arg")), "k a=1", &map).expect("loads");
        let field = |n: u32| dword(&mem, entry.ebx + n);
        assert_eq!((field(0), field(4), field(8)), (0x24d, 639, 0x7f_0000 / 1024 - 1024));
        assert_eq!((text(&mem, field(16)), text(&mem, field(64))), ("k a=1".into(), "Aero".into()));
        let module = field(24);
        let [start, end] = [dword(&mem, module), dword(&mem, module + 4)];
        assert_eq!((field(20), start % 4096, end - start), (1, 0, 6));
        assert_eq!(
            (mem.read_array(Gpa(start.into())), text(&mem, dword(&mem, module + 8))),
            (Ok(*b"module"), "m arg".into())
        );
        assert!(u64::from(start) >= AT + 26);
        let (len, first) = (field(44), field(48));
        assert_eq!(
            (len as usize, dword(&mem, first), dword(&mem, first + 12)),
            (24 * map.len(), 20, 0x9_fc00)
        );
    }

    #[test]
    fn addresses_of_the_header_load_what_they_say() {
        let (mut mem, map) = machine();
        let at = 0x20_0000;
        let mut file = vec![0x11; 8];
        file.extend(header(spec::ADDRESSES, &[at + 8, at, at + 44, at + 0x100, at + 40]));
        file.resize(60, 0xee);
        let entry = load(&mut mem, &file, None, "k", &map).expect("loads");
        assert_eq!(entry.eip, at + 40);
        let [first, last, zero] =
            [0, 43, 44].map(|n| mem.read_array::<1>(Gpa(u64::from(at) + n)).expect("RAM")[0]);
        assert_eq!((first, last, zero), (0x11, 0xee, 0));
    }

    #[test]
    fn information_keeps_out_of_a_kernel_in_low_memory() {
        let (mut mem, map) = machine();
        let file = elf_file(spec::ELF_32, 0x4000, 0x4000, &[0x90; 0x8000]);
        let entry = load(&mut mem, &file, None, "k", &map).expect("loads");
        assert!(u64::from(entry.ebx) >= 0x4000 + 0x1_0000, "{entry:x?}");
    }

    #[test]
    fn mistakes_are_told_apart() {
        let (mut mem, map) = machine();
        let good = elf_file(spec::ELF_32, AT, AT, &[0xf4]);
        let mut refusal = |file: &[u8]| load(&mut mem, file, None, "", &map).expect_err("refused");
        let edited = |at: usize, value: u8| {
            let mut file = good.clone();
            file[at] = value;
            file
        };
        assert_eq!(refusal(&edited(84, 0)), Error::NoHeader);
        assert_eq!(refusal(&edited(92, 0x55)), Error::Checksum { at: 84 });
        assert!(matches!(refusal(&good[..good.len() - 1]), Error::Truncated { what: "a segment", .. }));
        assert!(matches!(refusal(&edited(28, 0xf0)), Error::Truncated { .. }), "program headers");
        assert_eq!(refusal(&edited(67, 0x70)), Error::OutsideRam { start: 0x7010_0000, end: 0x7010_001a });
        assert!(matches!(refusal(&edited(18, 40)), Error::NotElf(_)), "another processor");
        assert_eq!(refusal(&header(1 << 9, &[])), Error::Requires { flags: 1 << 9 });
        assert!(matches!(refusal(&header(spec::ADDRESSES, &[1, 2, 3, 4, 5])), Error::Addresses(_)));
        assert!(matches!(refusal(&header(0, &[])), Error::NotElf(_)));
    }

    #[test]
    fn damaged_files_never_panic() {
        let (mut mem, map) = machine();
        let good = elf_file(spec::ELF_64, AT, AT, &[0xf4]);
        for (at, value) in (0..good.len()).flat_map(|at| [0, 1, 0x7f, 0xff].map(|v| (at, v))) {
            let mut file = good.clone();
            file[at] = value;
            let _ = load(&mut mem, &file, None, "", &map);
        }
        (0..good.len()).for_each(|len| assert!(load(&mut mem, &good[..len], None, "", &map).is_err()));
    }
}
