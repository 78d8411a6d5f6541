//! The functions that compiled code calls, exported for modules to import.
//!
//! Their names are those of [`aero_jit::host::HELPERS`] behind `aero_jit_`, and so is their order. The worker hands them from
//! the emulator's exports to a module's imports as they are, so that a call stays in WebAssembly.

#![allow(
    unsafe_code,
    reason = "exported by name, and called with the processor that compiled code was called with"
)]

use aero_cpu::jit;
use core::ffi::c_void;

macro_rules! exports {
    ($($export:ident is $function:ident($($name:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        $(
            #[doc = concat!("[`jit::", stringify!($function), "`].")]
            ///
            /// # Safety
            /// Compiled code calls it, with the context that it was called with.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $export(ctx: *mut c_void $(, $name: $type)*) $(-> $result)? {
                // SAFETY: the caller's promise.
                unsafe { jit::$function(ctx $(, $name)*) }
            }
        )*

        #[cfg(test)]
        const EXPORTS: &[&str] = &[$(stringify!($export)),*];
    };
}

exports! {
    aero_jit_load is load(la: u64, size: u32) -> u64;
    aero_jit_load16 is load16(la: u64) -> u32;
    aero_jit_store is store(la: u64, size: u32, value: u64) -> u32;
    aero_jit_store16 is store16(la: u64) -> u32;
    aero_jit_place is place(la: u64, size: u32) -> u32;
    aero_jit_exec is exec(slot: u32, number: u32) -> u32;
    aero_jit_settle is settle();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Their types are checked where a module is instantiated: `web/src/runtime/engine.test.ts`.
    #[test]
    fn every_import_of_compiled_code_is_exported() {
        let expected: Vec<_> =
            aero_jit::host::HELPERS.iter().map(|(name, ..)| format!("aero_jit_{name}")).collect();
        assert_eq!(EXPORTS, expected);
    }
}
