//! Compiled code in the browser: regions become functions of the emulator's own function table.
//!
//! ```text
//!            job                        module
//! code cache ───► Host ──► translator ─────────► Engine ──► function table
//!                  ▲                                            │
//!                  └───────────── call_indirect ────────────────┘
//! ```
//!
//! A region is called from Rust as any function behind a pointer is: in WebAssembly a function pointer *is* a number of the
//! table. What a region asks the processor for ([`helpers`]) it calls as directly, since a function that one module exports
//! and another imports is called without JavaScript. JavaScript runs to make and to install modules only ([`Engine`]).
//!
//! The translator is a worker with an instance of its own of this very module ([`translate`]); it hands over a module that is
//! validated and a few bytes of facts. Without that worker, and where runs are to be repeatable, jobs are compiled here.

mod engine;
mod helpers;
mod host;
mod pace;
mod slots;
mod translator;
mod trial;

pub use engine::{Arrival, Engine};
pub(crate) use host::{begin_turn, lend};
pub use translator::{Translated, function_table, translate};
pub use trial::try_code;
