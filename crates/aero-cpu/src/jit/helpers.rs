//! The functions that compiled code calls, by the names that `aero_jit::host::HELPERS` has for them.
//!
//! Those that touch memory do what the interpreter would, as long as nobody could notice but by the memory itself. They
//! do nothing at all, and say so, when the access would fault, reaches a device, a page with a breakpoint or bytes of
//! code, or when its walk of the page tables calls for the run loop: the region leaves, and the interpreter does it.

#![allow(unsafe_code, reason = "compiled code hands the processor back as a bare pointer")]

use crate::exec::run_interpreted;
use crate::vcpu::Vcpu;
use core::ffi::c_void;

/// The processor at work.
///
/// # Safety
/// `ctx` is what [`super::Translator::run`] was given, and compiled code runs on this thread, waiting for a helper: so
/// nothing else uses the processor now.
unsafe fn at_work<'a>(ctx: *mut c_void) -> &'a mut Vcpu<'a> {
    // SAFETY: the caller's promise. The reference lives only as long as the helper that asked for it.
    unsafe { &mut *ctx.cast() }
}

/// Reads `size` (1, 2, 4, 8) bytes at linear address `la`, zero-extended; or sets [`redo`](crate::state::CpuState::redo).
///
/// # Safety
/// `ctx` is what [`super::Translator::run`] was given, and compiled code calls this.
pub unsafe fn load(ctx: *mut c_void, la: u64, size: u32) -> u64 {
    // SAFETY: the caller's promise.
    let v = unsafe { at_work(ctx) };
    v.load_quietly(la, size).unwrap_or_else(|| {
        v.st.redo = 1;
        0
    })
}

/// Reads 16 bytes into [`scratch`](crate::state::CpuState::scratch), low half first. Not 0: redo.
///
/// # Safety
/// As for [`load`].
pub unsafe fn load16(ctx: *mut c_void, la: u64) -> u32 {
    // SAFETY: the caller's promise.
    let v = unsafe { at_work(ctx) };
    let Some(value) = v.load16_quietly(la) else { return 1 };
    v.st.scratch[..2].copy_from_slice(&value);
    0
}

/// Writes the low `size` (1, 2, 4, 8) bytes of `value`. Not 0: redo.
///
/// # Safety
/// As for [`load`].
pub unsafe fn store(ctx: *mut c_void, la: u64, size: u32, value: u64) -> u32 {
    // SAFETY: the caller's promise.
    let v = unsafe { at_work(ctx) };
    u32::from(v.store_quietly(la, size, value).is_none())
}

/// Writes 16 bytes from [`scratch`](crate::state::CpuState::scratch). Not 0: redo.
///
/// # Safety
/// As for [`load`].
pub unsafe fn store16(ctx: *mut c_void, la: u64) -> u32 {
    // SAFETY: the caller's promise.
    let v = unsafe { at_work(ctx) };
    let value = [v.st.scratch[0], v.st.scratch[1]];
    u32::from(v.store16_quietly(la, value).is_none())
}

/// The arena offset of `size` bytes, within one page, that may be read and written until the next guest instruction. 0:
/// redo.
///
/// # Safety
/// As for [`load`].
pub unsafe fn place(ctx: *mut c_void, la: u64, size: u32) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { at_work(ctx) }.place_quietly(la, size).unwrap_or(0)
}

/// Interprets instruction `number` of the region in function slot `slot`. RIP in the state is that instruction's, the
/// budget is what it was at the block's begin less what the block has done. Not 0: the region returns
/// [`super::Status::Stopped`] at once; RIP and the budget are exact. 0: RIP is the next instruction's, and the budget is
/// less by what this one was charged.
///
/// # Safety
/// As for [`load`].
pub unsafe fn exec(ctx: *mut c_void, slot: u32, number: u32) -> u32 {
    // SAFETY: the caller's promise.
    u32::from(run_interpreted(unsafe { at_work(ctx) }, slot, number))
}

/// Works out the arithmetic flags and the x87 that were left undone.
///
/// # Safety
/// As for [`load`].
pub unsafe fn settle(ctx: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { at_work(ctx) }.st.settle();
}
