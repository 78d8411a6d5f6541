//! The arena: one block of host memory, addressed by 32-bit offsets.
//!
//! Unsafe because it owns the raw block and hands out pointers into it. Everything here keeps one promise: an
//! [`ArenaPtr`] access at `offset..offset + size_of::<T>()` is inside the block whenever `offset` came from
//! [`Layout`] or from a TLB entry, since TLB entries only ever name RAM pages and the guard page.

use crate::PAGE_SIZE;

/// Bytes reserved for one processor's state block; `aero-cpu` asserts that its state fits.
pub const VCPU_STATE_SIZE: u32 = 16 << 10;

/// Entries of one translation look-aside table. `2^20` is what the one-load check needs for host offsets up to 4 GiB:
/// two guest pages with the same index lie a multiple of 4 GiB apart, so a stale match cannot land inside the arena.
pub const TLB_ENTRIES: usize = 1 << 20;

/// Entries, of 16 bytes, of a processor's table of compiled code by linear address.
pub const JUMP_ENTRIES: u32 = 16384;

const JUMP_BYTES: u32 = JUMP_ENTRIES * 16;

const TLB_BYTES: u32 = (TLB_ENTRIES * 8) as u32;

/// Which of a processor's four tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum TlbKind {
    /// Reads at CPL 0–2.
    SupervisorRead = 0,
    /// Writes at CPL 0–2.
    SupervisorWrite = 1,
    /// Reads at CPL 3.
    UserRead = 2,
    /// Writes at CPL 3.
    UserWrite = 3,
}

/// Where everything lies in the arena, in offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// One page that belongs to nobody: empty TLB entries aim at it, so that no guest address can leave the arena.
    pub guard: u32,
    /// State block of processor 0; the others follow at [`VCPU_STATE_SIZE`].
    pub vcpus: u32,
    /// TLBs of processor 0, in the order of [`TlbKind`]; the others follow.
    pub tlbs: u32,
    /// Jump table of processor 0; the others follow.
    pub jumps: u32,
    /// A `u64` per page of RAM, ROM and video memory: bit *n* is set while bytes `64n..64n+64` of the page hold decoded code.
    pub code_map: u32,
    /// A `u32` per page of them, bumped when code in it is overwritten.
    pub page_versions: u32,
    /// Guest RAM, contiguous.
    pub ram: u32,
    /// The firmware's ROM, behind RAM.
    pub rom: u32,
    /// Video memory, behind the ROM.
    pub video: u32,
    /// The end of the arena.
    pub end: u64,
}

impl Layout {
    /// Lays out an arena that begins at offset `start` for `ram` bytes of guest RAM, `rom` bytes of ROM, `video`
    /// bytes of video memory and `vcpus` processors.
    pub(crate) fn new(start: u32, ram: u64, rom: u64, video: u64, vcpus: u32) -> Self {
        let pages = [ram, rom, video].iter().map(|bytes| bytes.div_ceil(PAGE_SIZE)).sum::<u64>();
        let guard = align_up(u64::from(start));
        let vcpus_at = guard + PAGE_SIZE;
        let tlbs = vcpus_at + u64::from(VCPU_STATE_SIZE) * u64::from(vcpus);
        let jumps = tlbs + u64::from(TLB_BYTES) * 4 * u64::from(vcpus);
        let code_map = jumps + u64::from(JUMP_BYTES) * u64::from(vcpus);
        let page_versions = align_up(code_map + pages * 8);
        let ram_at = align_up(page_versions + pages * 4);
        Self {
            guard: guard as u32,
            vcpus: vcpus_at as u32,
            tlbs: tlbs as u32,
            jumps: jumps as u32,
            code_map: code_map as u32,
            page_versions: page_versions as u32,
            ram: ram_at as u32,
            rom: (ram_at + align_up(ram)) as u32,
            video: (ram_at + align_up(ram) + align_up(rom)) as u32,
            end: ram_at + pages * PAGE_SIZE,
        }
    }

    /// The offset of one processor's table.
    #[inline]
    pub fn tlb(&self, vcpu: u32, kind: TlbKind) -> u32 {
        self.tlbs + (vcpu * 4 + kind as u32) * TLB_BYTES
    }

    /// The offset of one processor's jump table.
    pub fn jumps(&self, vcpu: u32) -> u32 {
        self.jumps + vcpu * JUMP_BYTES
    }

    /// The offset of one processor's state block.
    pub fn vcpu(&self, vcpu: u32) -> u32 {
        self.vcpus + vcpu * VCPU_STATE_SIZE
    }
}

/// The next page boundary.
fn align_up(n: u64) -> u64 {
    n.next_multiple_of(PAGE_SIZE)
}

/// The address that offset 0 stands for. Copying it is free; using it is unsafe.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct ArenaPtr(*mut u8);

impl ArenaPtr {
    /// A pointer to `offset`.
    #[inline(always)]
    pub fn at<T>(self, offset: u64) -> *mut T {
        self.0.wrapping_add(offset as usize).cast()
    }

    /// Reads a value that may be unaligned.
    ///
    /// # Safety
    /// `offset` comes from the arena's [`Layout`] or from a TLB hit, and the arena is alive.
    #[inline(always)]
    pub unsafe fn read<T: Copy>(self, offset: u64) -> T {
        // SAFETY: by the caller's promise the bytes lie in the arena; the arena is zero-initialised plain memory.
        unsafe { self.at::<T>(offset).read_unaligned() }
    }

    /// Writes a value that may be unaligned.
    ///
    /// # Safety
    /// As for [`ArenaPtr::read`].
    #[inline(always)]
    pub unsafe fn write<T: Copy>(self, offset: u64, value: T) {
        // SAFETY: as above.
        unsafe { self.at::<T>(offset).write_unaligned(value) }
    }
}

/// Zeroed memory that a host lends for an arena, so that its WebAssembly engine has the same memory.
#[cfg(not(target_arch = "wasm32"))]
pub struct Lent {
    base: core::ptr::NonNull<u8>,
    bytes: u64,
    keep: Keep,
}

/// What keeps lent memory alive.
#[cfg(not(target_arch = "wasm32"))]
type Keep = Box<dyn core::any::Any + Send>;

// SAFETY: the memory is lent to one owner (`Lent::new`), and what keeps it alive can be sent.
#[cfg(not(target_arch = "wasm32"))]
unsafe impl Send for Lent {}

#[cfg(not(target_arch = "wasm32"))]
impl Lent {
    /// Lends `bytes` from `base`, which live as long as `keep`.
    ///
    /// # Safety
    /// The bytes are zero and aligned to 16, can be read and written until `keep` is dropped, and nobody touches
    /// them in the meantime but whoever the new owner lets: the processor that runs, its compiled code among it.
    pub unsafe fn new(base: core::ptr::NonNull<u8>, bytes: u64, keep: Keep) -> Self {
        Self { base, bytes, keep }
    }

    /// How much it is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The block itself, zeroed, freed on drop where the platform can.
pub(crate) struct Arena {
    pub base: ArenaPtr,
    /// Who frees it; `None` when this does.
    #[cfg(not(target_arch = "wasm32"))]
    lender: Option<Keep>,
    #[cfg(not(target_arch = "wasm32"))]
    bytes: usize,
}

// SAFETY: the arena is plain memory with one owner; the pointer is not shared by cloning `Arena`.
unsafe impl Send for Arena {}

#[cfg(not(target_arch = "wasm32"))]
mod platform {
    use super::{Arena, ArenaPtr, Lent};
    use std::alloc::{Layout, alloc_zeroed, dealloc};

    /// Alignment 16 keeps the allocator on its `calloc` path, which maps fresh zero pages without touching them.
    fn shape(bytes: usize) -> Option<Layout> {
        Layout::from_size_align(bytes, 16).ok()
    }

    impl Arena {
        /// A zeroed block of `bytes`; its first usable offset is 0.
        pub fn new(bytes: u64) -> Option<(Self, u32)> {
            let bytes = usize::try_from(bytes).ok().filter(|b| *b > 0)?;
            // SAFETY: the size is not zero.
            let base = unsafe { alloc_zeroed(shape(bytes)?) };
            (!base.is_null()).then_some((Self { base: ArenaPtr(base), lender: None, bytes }, 0))
        }

        /// A block that is somebody else's.
        pub fn lent(lent: Lent) -> Self {
            let base = ArenaPtr(lent.base.as_ptr());
            Self { base, lender: Some(lent.keep), bytes: lent.bytes as usize }
        }
    }

    impl Drop for Arena {
        fn drop(&mut self) {
            if self.lender.is_some() {
                return;
            }
            let shape = shape(self.bytes).expect("the shape was valid when the block was allocated");
            // SAFETY: the block was allocated with this shape and is freed once.
            unsafe { dealloc(self.base.0, shape) }
        }
    }
}

#[cfg(target_arch = "wasm32")]
mod platform {
    use super::{Arena, ArenaPtr};

    impl Arena {
        /// Grows the emulator's linear memory; the block is given back only with the whole memory. Offsets are
        /// addresses, so the base is null.
        pub fn new(bytes: u64) -> Option<(Self, u32)> {
            let pages = usize::try_from(bytes.div_ceil(65536)).ok()?;
            let before = core::arch::wasm32::memory_grow(0, pages);
            let start = before.checked_mul(65536).filter(|_| before != usize::MAX)?;
            Some((Self { base: ArenaPtr(core::ptr::null_mut()) }, start as u32))
        }
    }
}
