//! What is compiled, and what comes of it: plain data, so that any thread or worker can do the work.
//!
//! A job carries copied code bytes. The worker never looks at guest memory; whoever installs the result checks that the
//! bytes are still those.

use aero_x86::CodeSize;
use serde::{Deserialize, Serialize};

/// Offsets and choices that are compiled into code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Env {
    /// Arena offset of the processor's [`aero_cpu::state::CpuState`].
    pub state: u32,
    /// Arena offsets of the TLB's read tables, supervisor and user.
    pub read: [u32; 2],
    /// Arena offsets of the TLB's write tables, supervisor and user.
    pub write: [u32; 2],
    /// Arena offset of the jump table.
    pub jumps: u32,
    /// A region is entered only if the budget covers its longest way to the next check, so that it ends to the
    /// instruction. Otherwise it may overrun the budget by that way.
    pub exact: bool,
    /// The engine has tail calls.
    pub tail_calls: bool,
    /// Number of the processor's model in [`aero_x86::cpuid::MODELS`].
    pub model: u8,
    /// What is done beyond the quick translation.
    pub tier: Tier,
}

/// How much work compiling may be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Tier {
    /// Quick.
    Baseline,
    /// Everything.
    Optimizing,
}

/// The mode that code was found in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub struct Key {
    /// 64-bit code; otherwise 32-bit code in flat segments.
    pub long: bool,
    /// At CPL 3.
    pub user: bool,
    /// The run loop's number for the mode, for [`aero_cpu::jit::jump_tag`].
    pub mode: u64,
}

/// A page of code.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Page {
    /// Its linear address less that of the head's page, in pages.
    pub delta: i8,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Where code that has run begins: only branches to these places are followed, and those on the page itself and from
    /// others. `None`: all are.
    pub ran: Option<Vec<u16>>,
    /// Where other regions have their heads.
    pub heads: Vec<u16>,
}

/// A region to be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Source {
    /// Linear address of the head where it was found hot. The code may run at others.
    pub head: u64,
    /// The mode.
    pub key: Key,
    /// The head's page, and pages beside it whose place is known.
    pub pages: Vec<Page>,
}

/// Regions that are compiled together.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Names it.
    pub ticket: u32,
    /// How.
    pub env: Env,
    /// What.
    pub sources: Vec<Source>,
}

/// What is known of a compiled region.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Compiled {
    /// Runs of its code bytes: from the head, and how many.
    pub ranges: Vec<(i32, u32)>,
    /// The instructions that `exec` numbers: bytes from the head.
    pub interpreted: Vec<i32>,
    /// Guest instructions.
    pub instructions: u32,
}

/// A compiled module. Function *n* of its table segment is region *n*; a region that could not be compiled is `None` and
/// its function leaves at once.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Module {
    /// WebAssembly.
    pub wasm: Vec<u8>,
    /// One for each source.
    pub regions: Vec<Option<Compiled>>,
}

impl Source {
    /// The code size.
    pub fn code(&self) -> CodeSize {
        if self.key.long { CodeSize::B64 } else { CodeSize::B32 }
    }

    fn page(&self, offset: i32) -> Option<(&Page, u16)> {
        let at = i64::from(offset) + (self.head & 0xfff) as i64;
        let page = self.pages.iter().find(|page| i64::from(page.delta) == at >> 12)?;
        Some((page, (at & 0xfff) as u16))
    }

    /// Whether a branch to `offset` from the head is worth following: it was taken before, as far as is known.
    pub fn has_run(&self, offset: i32) -> bool {
        let ran = self.page(offset).and_then(|(page, at)| Some((page.ran.as_ref()?, at)));
        ran.is_none_or(|(ran, at)| ran.binary_search(&at).is_ok())
    }

    /// Whether another region has its head at `offset` from this one's.
    pub fn is_head(&self, offset: i32) -> bool {
        offset != 0 && self.page(offset).is_some_and(|(page, at)| page.heads.contains(&at))
    }

    /// Up to `into.len()` code bytes at `offset` from the head, as far as pages are at hand.
    pub fn fetch(&self, offset: i32, into: &mut [u8]) -> usize {
        let first = i64::from(offset) + (self.head & 0xfff) as i64;
        for (n, byte) in into.iter_mut().enumerate() {
            let at = first + n as i64;
            let page = self.pages.iter().find(|p| i64::from(p.delta) == at >> 12);
            let Some(found) = page.and_then(|p| p.bytes.get((at & 0xfff) as usize)) else { return n };
            *byte = *found;
        }
        into.len()
    }
}
