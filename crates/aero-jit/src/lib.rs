//! The translator: guest code that runs often becomes WebAssembly.
//!
//! ```text
//! Source ── region ──► blocks of instructions ── translate ──► Region ── passes ──► Region ── emit ──► function
//! ```
//!
//! [`compile()`] is the whole way, a pass a line. It is a function of plain data ([`job`]): it runs on any thread or worker.
//! [`cache`] decides what is compiled and keeps what was; [`host`] is where the result runs.

pub mod cache;
pub mod compile;
pub mod emit;
pub mod evaluate;
pub mod flags;
pub mod host;
pub mod ir;
pub mod job;
pub mod operators;
pub mod passes;
pub mod region;
pub mod simd;
pub mod structure;
pub mod text;
pub mod translate;
pub mod types;
pub mod verify;
pub mod x87;

#[cfg(test)]
mod random;

pub use compile::compile;
