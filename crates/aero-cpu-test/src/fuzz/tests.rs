//! A short campaign with a fixed seed.

use super::campaign::{self, Plan};
use super::case::Mode;

#[test]
fn short_campaign_finds_no_difference_outside_the_list() {
    let modes = vec![Mode::B16, Mode::B32, Mode::B64];
    let plan = Plan { seed: 20, first: 0, cases: 300_000, jobs: 1, modes, filter: None };
    let found = campaign::run(&plan).expect("the harness works here");
    assert!(found.forms.values().all(|c| c.cases > 0), "a form never ran");
    let kinds: Vec<&String> = found.failures.keys().collect();
    assert!(kinds.is_empty(), "{kinds:#?}");
}
