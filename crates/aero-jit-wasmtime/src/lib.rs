//! Compiled guest code outside a browser: wasmtime behind `aero_jit`'s `CodeHost`.
