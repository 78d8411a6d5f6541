//! Generators of cases, one for each part of the system level.

mod segments;

use super::case::Case;
use super::random::Random;

/// A kind of case.
pub struct Family {
    /// Its name on the command line.
    pub name: &'static str,
    /// How many of all cases are of this kind, in relation to others.
    pub weight: u32,
    /// Makes one.
    pub make: fn(&mut Random) -> Case,
}

/// Every family.
pub const FAMILIES: &[Family] = &[Family { name: "load", weight: 4, make: segments::load }];
