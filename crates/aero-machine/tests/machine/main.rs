//! The machine as a host sees it: kernels of a few instructions, and what comes out.
//!
//! Everything goes through the public surface of `aero_machine`. The programs are in [`kernel`]'s little assembler.

mod a20;
mod apic;
mod drives;
mod firmware;
mod hpet;
mod input;
mod kernel;
mod pci;
mod power;
mod repeatable;
mod screen;
mod serial;
mod time;
mod unclaimed;
