//! A short campaign with a fixed seed, and the parts that failures go through.

use super::campaign::{self, Plan};
use super::case::{Mode, Outcome, State};
use super::{forms, generate, shrink, text};
use crate::processor::Maker;
use crate::random::Random;

#[test]
fn short_campaign_finds_no_difference_outside_the_list() {
    let modes = vec![Mode::B16, Mode::B32, Mode::B64];
    let plan =
        Plan { seed: 20, first: 0, cases: 300_000, jobs: 1, modes, filter: None, maker: Maker::INTERPRETER };
    let found = campaign::run(&plan).expect("the harness works here");
    assert!(found.forms.values().all(|c| c.cases > 0), "a form never ran");
    let told: Vec<&str> = found.failures.values().map(|f| f.text.as_str()).collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
}

#[test]
fn a_case_written_to_a_file_reads_back() {
    let forms = forms::all();
    let modes = [Mode::B16, Mode::B32, Mode::B64];
    let cases = (0..400).filter_map(|n| {
        let mut rng = Random::new(9, n);
        let (mode, form) = (rng.pick(&modes), &forms[rng.below(forms.len() as u64) as usize]);
        form.in_mode(mode).then(|| generate::case(&mut rng, form, mode))?
    });
    let mut seen = 0;
    for case in cases {
        let state = State::zero(case.mode);
        let text = text::write(&case, "name", [("native", &Outcome::Done, &state); 2], &[]);
        let again = text::read(&text).expect("what was written");
        assert_eq!((again.mode, again.code(), again.fpu), (case.mode, case.code(), case.fpu));
        assert!(again.state == case.state && again.patches == case.patches, "{text}");
        seen += 1;
    }
    assert!(seen > 100, "only {seen} cases");
}

#[test]
fn shrinking_keeps_what_the_failure_needs() {
    let forms = forms::all();
    let form = forms.iter().find(|f| f.name() == "Add_rm32_r32").expect("a form of the base set");
    let case = generate::case(&mut Random::new(1, 1), form, Mode::B64).expect("operands");
    let small = shrink::shrink(&case, &mut |c| c.state.gpr[3] == case.state.gpr[3]);
    assert_eq!(small.state.gpr[3], case.state.gpr[3]);
    assert!(small.patches.is_empty() && small.state.gpr[0] == 0);
}
