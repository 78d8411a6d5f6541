//! The functions that compiled code calls.
//!
//! WebAssembly cannot hold a pointer to the processor, so modules pass 0 for it, and [`Context`] has the pointer of
//! the call that is under way. Each function reads it anew; none keeps it.

use aero_cpu::jit;
use aero_cpu::vcpu::Vcpu;
use core::ffi::c_void;
use core::sync::atomic::{AtomicPtr, Ordering};
use std::sync::Arc;
use wasmtime::{Func, Store};

/// What the functions of [`aero_jit::host::HELPERS`] do. The first argument is what was given to
/// [`aero_jit::host::CodeHost::call`].
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names are those of the imports")]
pub struct Helpers {
    pub load: unsafe fn(ctx: *mut c_void, la: u64, size: u32) -> u64,
    pub load16: unsafe fn(ctx: *mut c_void, la: u64) -> u32,
    pub store: unsafe fn(ctx: *mut c_void, la: u64, size: u32, value: u64) -> u32,
    pub store16: unsafe fn(ctx: *mut c_void, la: u64) -> u32,
    pub place: unsafe fn(ctx: *mut c_void, la: u64, size: u32) -> u32,
    pub exec: unsafe fn(ctx: *mut c_void, slot: u32, number: u32) -> u32,
    pub settle: unsafe fn(ctx: *mut c_void),
    /// Not an import: [`Vcpu::mode_key`], asked when compiled code is entered.
    pub mode: unsafe fn(ctx: *mut c_void) -> u64,
}

impl Helpers {
    /// The processor's.
    pub const PROCESSOR: Self = Self {
        load: jit::load,
        load16: jit::load16,
        store: jit::store,
        store16: jit::store16,
        place: jit::place,
        exec: jit::exec,
        settle: jit::settle,
        mode: mode_key,
    };
}

/// # Safety
/// `ctx` is what [`aero_jit::host::CodeHost::call`] was given, and compiled code has not been entered.
unsafe fn mode_key(ctx: *mut c_void) -> u64 {
    // SAFETY: the caller's promise: it is a processor that nothing else refers to.
    unsafe { &*ctx.cast::<Vcpu<'_>>() }.mode_key()
}

/// The processor that runs compiled code, while it does.
#[derive(Clone, Default)]
pub struct Context(Arc<AtomicPtr<c_void>>);

impl Context {
    /// Helper functions get this from now on.
    pub fn set(&self, ctx: *mut c_void) {
        self.0.store(ctx, Ordering::Relaxed);
    }

    fn get(&self) -> *mut c_void {
        self.0.load(Ordering::Relaxed)
    }
}

/// The functions of [`aero_jit::host::HELPERS`] in a store, by name.
pub fn functions(store: &mut Store<()>, context: &Context, helpers: Helpers) -> Vec<(&'static str, Func)> {
    let Helpers { load, load16, store: store_, store16, place, exec, settle, .. } = helpers;
    let mut functions = Vec::new();
    // SAFETY (here and below): the pointer is that of the call under way; its caller has lent the processor to it.
    let cx = context.clone();
    let call = move |_: i32, la: u64, size: u32| unsafe { load(cx.get(), la, size) };
    functions.push(("load", Func::wrap(&mut *store, call)));
    let cx = context.clone();
    let call = move |_: i32, la: u64| unsafe { load16(cx.get(), la) };
    functions.push(("load16", Func::wrap(&mut *store, call)));
    let cx = context.clone();
    let call = move |_: i32, la: u64, size: u32, value: u64| unsafe { store_(cx.get(), la, size, value) };
    functions.push(("store", Func::wrap(&mut *store, call)));
    let cx = context.clone();
    let call = move |_: i32, la: u64| unsafe { store16(cx.get(), la) };
    functions.push(("store16", Func::wrap(&mut *store, call)));
    let cx = context.clone();
    let call = move |_: i32, la: u64, size: u32| unsafe { place(cx.get(), la, size) };
    functions.push(("place", Func::wrap(&mut *store, call)));
    let cx = context.clone();
    let call = move |_: i32, slot: u32, number: u32| unsafe { exec(cx.get(), slot, number) };
    functions.push(("exec", Func::wrap(&mut *store, call)));
    let cx = context.clone();
    let call = move |_: i32| unsafe { settle(cx.get()) };
    functions.push(("settle", Func::wrap(&mut *store, call)));
    functions
}
