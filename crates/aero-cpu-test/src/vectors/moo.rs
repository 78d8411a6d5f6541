//! MOO files, the binary form of the published single-step sets (versions 1.0 and 1.1).
//!
//! A file is a row of *chunks*: four letters, the number of bytes as a little-endian dword, the bytes. Some chunks
//! hold chunks in turn:
//!
//! ```text
//! MOO     version, number of tests, processor
//! META    opcode, mnemonic: what the name of the file says too
//! RMSK    which bits of the 16-bit registers are defined after every test (RM32: of the 32-bit ones)
//! TEST    number, then
//!   NAME  disassembly
//!   BYTS  instruction
//!   INIT  before:  REGS or RG32 (a bit mask, then a value for each bit), RAM, QUEU, EA32
//!   FINA  what is different afterwards: the same, and RMSK or RM32 for this test
//!   CYCL  what the bus did
//!   EXCP  vector, and where FLAGS were pushed
//!   HASH
//! ```
//!
//! Chunks of other names are skipped. A file that ends too early, or says something impossible, gives an error with
//! the offset at which it does.

use super::case::{Case, NAMES, Raised, Recorded, Registers, Set, Snapshot, WORD_REGISTERS};
use core::ops::Range;

/// Names and sizes.
mod spec {
    pub const MAGIC: [u8; 4] = *b"MOO ";
    pub const CHUNK_HEADER: usize = 8;
    /// Version, reserved bytes, count, processor.
    pub const FILE_HEADER: usize = 12;
    /// The versions that this reader knows have this number before the point.
    pub const MAJOR: u8 = 1;
    /// A RAM entry: address, byte.
    pub const RAM_ENTRY: usize = 5;
}

/// Why a file is not understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("at offset {at:#x}: {what}")]
pub struct Damaged {
    /// Bytes from the start of the (unpacked) file.
    pub at: usize,
    /// What was expected there.
    pub what: String,
}

/// Whether a file is of this kind.
pub fn is_moo(file: &[u8]) -> bool {
    file.starts_with(&spec::MAGIC)
}

/// Reads a file. `form` is what its tests are called where it does not say.
///
/// # Errors
/// When the file is cut short or contradicts itself.
pub fn parse(file: &[u8], form: &str) -> Result<Set, Damaged> {
    let whole = Bytes { file, range: 0..file.len() };
    let mut chunks = whole.chunks();
    let (_, mut head) =
        chunks.next().unwrap_or_else(|| Err(whole.error("an empty file, expected a MOO chunk")))?;
    let (count, recorded) = file_header(&mut head)?;
    let mut masks = Registers::default();
    let mut cases = Vec::new();
    for chunk in chunks {
        let (name, mut bytes) = chunk?;
        match &name {
            b"RMSK" => masks = words(&mut bytes)?,
            b"RM32" => masks = dwords(&mut bytes)?,
            b"TEST" => cases.push(test(bytes, form, &masks)?),
            _ => {}
        }
    }
    if cases.len() != count as usize {
        return Err(whole.error(&format!(
            "the header announces {count} tests, the file has {}; it is cut short or damaged",
            cases.len()
        )));
    }
    Ok(Set { recorded, cases })
}

fn file_header(head: &mut Bytes<'_>) -> Result<(u32, Recorded), Damaged> {
    if head.range.len() < spec::FILE_HEADER {
        return Err(head.error("a header of 12 bytes or more was expected"));
    }
    let version = head.array::<2>("the version")?;
    if version[0] != spec::MAJOR {
        let [major, minor] = version;
        return Err(head.error(&format!("version {major}.{minor} is not known, 1.0 and 1.1 are")));
    }
    head.array::<2>("reserved bytes")?;
    let count = head.u32("the number of tests")?;
    let cpu = head.array::<4>("the processor")?;
    let recorded = match cpu.trim_ascii_end() {
        b"8088" | b"8086" | b"V20" | b"V30" | b"88" | b"86" => Recorded::I8088,
        b"C286" | b"286" | b"186" | b"80286" => Recorded::I80286,
        b"386E" | b"386" => Recorded::I80386,
        other => {
            let other = String::from_utf8_lossy(other);
            return Err(head.error(&format!("processor '{other}' is not known; 8088, C286 and 386E are")));
        }
    };
    Ok((count, recorded))
}

fn test(mut bytes: Bytes<'_>, form: &str, masks: &Registers) -> Result<Case, Damaged> {
    bytes.u32("the test's number")?;
    let mut case = Case { form: form.to_owned(), masks: *masks, ..Case::default() };
    let mut seen = [false; 3];
    for chunk in bytes.chunks() {
        let (name, mut bytes) = chunk?;
        match &name {
            b"NAME" => case.name = String::from_utf8_lossy(bytes.counted("the name")?).into_owned(),
            b"BYTS" => (case.bytes, seen[0]) = (bytes.counted("the instruction")?.to_vec(), true),
            b"INIT" => (case.initial, seen[1]) = (snapshot(bytes, &mut case.masks)?, true),
            b"FINA" => (case.after, seen[2]) = (snapshot(bytes, &mut case.masks)?, true),
            b"EXCP" => {
                case.raised = Some(Raised { number: bytes.array::<1>("the vector")?[0] });
            }
            _ => {}
        }
    }
    match ["BYTS", "INIT", "FINA"].iter().zip(seen).find(|(_, seen)| !seen) {
        Some((missing, _)) => Err(bytes.error(&format!("the test has no {missing} chunk"))),
        None => Ok(case),
    }
}

fn snapshot(bytes: Bytes<'_>, masks: &mut Registers) -> Result<Snapshot, Damaged> {
    let mut all = Snapshot::default();
    for chunk in bytes.chunks() {
        let (name, mut bytes) = chunk?;
        match &name {
            b"REGS" => all.regs = words(&mut bytes)?,
            b"RG32" => all.regs = dwords(&mut bytes)?,
            b"RMSK" => *masks = words(&mut bytes)?,
            b"RM32" => *masks = dwords(&mut bytes)?,
            b"RAM " => all.ram = ram(&mut bytes)?,
            _ => {}
        }
    }
    Ok(all)
}

fn words(bytes: &mut Bytes<'_>) -> Result<Registers, Damaged> {
    let mask = u16::from_le_bytes(bytes.array("the mask of the registers")?);
    let mut regs = Registers::default();
    for (bit, number) in WORD_REGISTERS.into_iter().enumerate().filter(|(bit, _)| mask >> bit & 1 != 0) {
        let value = bytes.array(&format!("register {} (bit {bit})", &NAMES[number]))?;
        regs[number] = Some(u16::from_le_bytes(value).into());
    }
    Ok(regs)
}

fn dwords(bytes: &mut Bytes<'_>) -> Result<Registers, Damaged> {
    let mask = bytes.u32("the mask of the registers")?;
    let mut regs = Registers::default();
    for (bit, name) in NAMES.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 != 0) {
        regs[bit] = Some(bytes.u32(&format!("register {name} (bit {bit})"))?);
    }
    Ok(regs)
}

fn ram(bytes: &mut Bytes<'_>) -> Result<Vec<(u32, u8)>, Damaged> {
    let count = bytes.u32("the number of RAM bytes")? as usize;
    if count.saturating_mul(spec::RAM_ENTRY) > bytes.range.len() {
        return Err(bytes.error(&format!("{count} RAM bytes do not fit into their chunk")));
    }
    let mut entry = || Ok((bytes.u32("an address")?, bytes.array::<1>("a byte")?[0]));
    (0..count).map(|_| entry()).collect()
}

/// A part of the file that knows where it lies.
#[derive(Clone)]
struct Bytes<'a> {
    file: &'a [u8],
    range: Range<usize>,
}

impl<'a> Bytes<'a> {
    fn error(&self, what: &str) -> Damaged {
        Damaged { at: self.range.start, what: what.to_owned() }
    }

    fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8], Damaged> {
        if len > self.range.len() {
            let left = self.range.len();
            return Err(self.error(&format!("expected {what} ({len} bytes), {left} are left")));
        }
        let at = self.range.start;
        self.range.start += len;
        Ok(&self.file[at..at + len])
    }

    fn skip(&mut self, len: usize, what: &str) -> Result<(), Damaged> {
        self.take(len, what).map(|_| ())
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Damaged> {
        let bytes = self.take(N, what)?;
        Ok(core::array::from_fn(|i| bytes[i]))
    }

    fn u32(&mut self, what: &str) -> Result<u32, Damaged> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// Bytes behind their number.
    fn counted(&mut self, what: &str) -> Result<&'a [u8], Damaged> {
        let len = self.u32("a length")? as usize;
        self.take(len, what)
    }

    /// The chunks that follow.
    fn chunks(&self) -> impl Iterator<Item = Result<([u8; 4], Bytes<'a>), Damaged>> + use<'a> {
        let mut rest = self.clone();
        core::iter::from_fn(move || {
            if rest.range.is_empty() {
                return None;
            }
            let chunk = rest.chunk();
            if chunk.is_err() {
                rest.range.start = rest.range.end;
            }
            Some(chunk)
        })
    }

    fn chunk(&mut self) -> Result<([u8; 4], Self), Damaged> {
        if self.range.len() < spec::CHUNK_HEADER {
            return Err(self.error("expected a chunk's name and length (8 bytes)"));
        }
        let name = self.array("a chunk's name")?;
        let len = self.u32("a chunk's length")? as usize;
        let at = self.range.start;
        self.skip(len, &format!("the {} chunk", String::from_utf8_lossy(&name)))?;
        Ok((name, Self { file: self.file, range: at..at + len }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
        [&name[..], &(data.len() as u32).to_le_bytes(), data].concat()
    }

    fn head(count: u32, cpu: &[u8; 4]) -> Vec<u8> {
        chunk(b"MOO ", &[&[1, 1, 0, 0][..], &count.to_le_bytes(), cpu].concat())
    }

    fn text(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
        chunk(name, &[&(data.len() as u32).to_le_bytes(), data].concat())
    }

    fn regs(mask: u16, values: &[u16]) -> Vec<u8> {
        let values: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        chunk(b"REGS", &[&mask.to_le_bytes()[..], &values].concat())
    }

    /// `add al,1` with HLT, from AL = 1, with a chunk that nobody knows.
    fn sample() -> Vec<u8> {
        let ram = [&1u32.to_le_bytes()[..], &0x1000u32.to_le_bytes(), &[4]].concat();
        let mut values = [0; 14];
        (values[0], values[12], values[13]) = (1, 0x1000, 2);
        let init = chunk(b"INIT", &[regs(0x3fff, &values), chunk(b"RAM ", &ram)].concat());
        let after = chunk(b"FINA", &regs(0x3001, &[2, 0x1003, 2]));
        let body = [
            0u32.to_le_bytes().to_vec(),
            text(b"NAME", b"add al,1"),
            text(b"BYTS", &[4, 1, 0xf4]),
            init,
            after,
            chunk(b"EXCP", &[13, 8, 0, 0, 0]),
        ];
        [head(1, b"C286"), chunk(b"WHAT", &[1, 2, 3]), chunk(b"TEST", &body.concat())].concat()
    }

    #[test]
    fn test_is_read_with_registers_in_their_places_and_unknown_chunks_skipped() {
        let set = parse(&sample(), "04").expect("a good file");
        let case = &set.cases[0];
        assert_eq!((set.recorded, &*case.form, &*case.name), (Recorded::I80286, "04", "add al,1"));
        assert_eq!((case.before(2), case.expected(2), case.expected(16)), (1, 2, 0x1003));
        assert_eq!((&case.bytes[..], &case.initial.ram[..]), (&[4, 1, 0xf4][..], &[(0x1000, 4)][..]));
        assert_eq!(case.raised, Some(Raised { number: 13 }));
    }

    #[test]
    fn registers_of_32_bits_and_masks_of_the_file_are_read() {
        let eax = [&(1u32 << 2).to_le_bytes()[..], &0x1234_5678u32.to_le_bytes()].concat();
        let flags = [&(1u32 << 17).to_le_bytes()[..], &0xffff_f7ffu32.to_le_bytes()].concat();
        let body = [
            0u32.to_le_bytes().to_vec(),
            text(b"BYTS", &[0x90]),
            chunk(b"INIT", &chunk(b"RG32", &eax)),
            chunk(b"FINA", &[]),
        ];
        let file = [head(1, b"386E"), chunk(b"RM32", &flags), chunk(b"TEST", &body.concat())].concat();
        let set = parse(&file, "90").expect("a good file");
        assert_eq!((set.recorded, set.cases[0].before(2)), (Recorded::I80386, 0x1234_5678));
        assert_eq!(set.cases[0].masks[17], Some(0xffff_f7ff));
    }

    #[test]
    fn file_that_is_cut_anywhere_is_refused_with_an_offset() {
        let file = sample();
        for len in 0..file.len() {
            let error = parse(&file[..len], "04").expect_err("a cut file");
            assert!(error.at <= len && !error.what.is_empty(), "{len}: {error}");
        }
    }

    #[test]
    fn damaged_bytes_never_panic() {
        let file = sample();
        for at in 0..file.len() {
            for value in [0, 0x7f, 0xff] {
                let mut damaged = file.clone();
                damaged[at] = value;
                let _ = parse(&damaged, "04");
            }
        }
    }

    #[test]
    fn unknown_version_and_processor_are_named() {
        let mut file = sample();
        file[8] = 2;
        assert!(parse(&file, "").expect_err("a new version").what.contains("version 2.1"));
        let error = parse(&head(0, b"Z80 "), "").expect_err("another processor");
        assert!(error.what.contains("Z80"), "{error}");
    }
}
