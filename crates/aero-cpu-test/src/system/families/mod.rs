//! Generators of cases, one for each part of the system level.

mod control;
mod debugging;
mod gates;
mod long;
mod paging;
mod real;
mod segments;
mod tasks;
mod vm86;

use super::case::Case;
use crate::random::Random;

/// A kind of case.
pub struct Family {
    /// Its name on the command line.
    pub name: &'static str,
    /// How many of all cases are of this kind, in relation to others.
    pub weight: u32,
    /// Makes one.
    pub make: fn(&mut Random) -> Case,
}

const fn family(name: &'static str, weight: u32, make: fn(&mut Random) -> Case) -> Family {
    Family { name, weight, make }
}

/// Every family.
pub const FAMILIES: &[Family] = &[
    family("real", 4, real::real),
    family("vm86", 4, vm86::vm86),
    family("load", 4, segments::load),
    family("limits", 4, segments::limits),
    family("query", 3, segments::query),
    family("transfer", 4, gates::transfer),
    family("return", 3, gates::far_return),
    family("interrupt", 4, gates::interrupt),
    family("iret", 4, gates::iret),
    family("tasks", 3, tasks::tasks),
    family("paging", 5, paging::paging),
    family("debug", 3, debugging::debug),
    family("alignment", 1, debugging::alignment),
    family("privilege", 2, control::privilege),
    family("control", 2, control::control),
    family("stack", 2, segments::stack),
    family("syscall", 2, long::syscall),
    family("long", 4, long::transfer),
];
