//! The browser's handle on the machine.
//!
//! A dedicated worker owns one [`Machine`]. It calls [`Machine::run_slice`] with a time limit of about 2 ms, returns to
//! its event loop for input, and calls again; when the guest is idle it sleeps for [`Machine::idle_ms`] or until
//! input arrives. Everything else is a short call: bytes into and out of the serial port, keys, a frame.
//!
//! The module imports one shared `WebAssembly.Memory`. Guest RAM is grown inside it by `aero-mem`, and a frame is
//! handed out as an address and a length ([`Machine::frame_ptr`]), since a canvas takes no shared memory and the
//! worker has to copy the pixels anyway. Guest RAM is given back only by dropping the worker and its memory.
//!
//! Time is the worker's `performance.now()`. A panic stops the module for good; its message is kept for
//! [`take_panic`], so that the page can show it in words.

mod bench;
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "only a browser has an engine to lend"))]
mod code;
mod host;
mod machine;
mod slice;

pub use bench::{GuestCpuBench, guest_cpu_payloads};
pub use code::{Arrival, Engine, Translated, function_table, translate, try_code};
pub use host::{install, take_panic};
pub use machine::{Machine, SliceStatus};
