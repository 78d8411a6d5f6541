//! Random instructions on this interpreter and on the host's processor.

mod bench;
mod case;
mod compare;
mod forms;
mod generate;
mod layout;
mod listed;
mod native;
mod ours;
mod rng;
mod values;

use bench::Bench;
use case::{Case, Mode};
use compare::Difference;
use forms::Form;
use iced_x86::{Decoder, DecoderOptions, Instruction};
use rng::Rng;
use std::collections::BTreeMap;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// Where the random numbers begin
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many cases
    #[arg(long, default_value_t = 1_000_000)]
    pub cases: u64,
    /// Code size; can be given several times
    #[arg(long, value_parser = mode)]
    pub mode: Vec<Mode>,
    /// Only forms whose name matches
    #[arg(long)]
    pub form: Option<regex::Regex>,
}

fn mode(text: &str) -> Result<Mode, String> {
    text.parse().ok().and_then(Mode::of_bits).ok_or_else(|| "16, 32 or 64".to_owned())
}

struct Failure {
    count: u64,
    case: Case,
    differences: Vec<Difference>,
}

/// Runs it.
///
/// # Errors
/// When the host refuses.
pub fn run(args: &Args) -> anyhow::Result<bool> {
    let mut bench = Bench::new()?;
    let forms = forms::all();
    let modes = if args.mode.is_empty() { vec![Mode::B16, Mode::B32, Mode::B64] } else { args.mode.clone() };
    let lists: Vec<(Mode, Vec<&Form>)> = modes
        .iter()
        .map(|m| {
            let list = forms
                .iter()
                .filter(|f| f.in_mode(*m) && args.form.as_ref().is_none_or(|r| r.is_match(&f.name())))
                .collect();
            (*m, list)
        })
        .collect();
    println!("{} forms", forms.len());
    let mut differences = Vec::new();
    let mut failures: BTreeMap<String, Failure> = BTreeMap::new();
    let mut listed: BTreeMap<&str, u64> = BTreeMap::new();
    let mut done = 0u64;
    let start = std::time::Instant::now();
    for number in 0..args.cases {
        let mut rng = Rng::new(args.seed, number);
        let (mode, list) = &lists[rng.below(lists.len() as u64) as usize];
        if list.is_empty() {
            continue;
        }
        let form = list[rng.below(list.len() as u64) as usize];
        let Some(case) = (0..8).find_map(|_| generate::case(&mut rng, form, *mode)) else { continue };
        if std::env::var_os("FUZZ_TRACE").is_some() {
            eprintln!("{number} {} {:?} {:02x?}", form.name(), case.mode, case.code());
        }
        bench.run(&case, &mut differences);
        done += 1;
        if differences.is_empty() {
            continue;
        }
        let insn = decode(&case);
        differences.retain(|d| match listed::allows(&insn, d) {
            Some(rule) => {
                *listed.entry(rule.name).or_default() += 1;
                false
            }
            None => true,
        });
        if let Some(first) = differences.first() {
            let kind = format!("{:?}", first.field).split('(').next().unwrap_or_default().to_owned();
            let key = format!("{} {} {:?}", form.name(), kind, case.mode);
            let found = std::mem::take(&mut differences);
            failures.entry(key).and_modify(|f| f.count += 1).or_insert(Failure {
                count: 1,
                case,
                differences: found,
            });
        }
        differences.clear();
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{done} cases in {seconds:.1} s, {:.0} a second", done as f64 / seconds);
    println!("listed: {listed:?}");
    for (key, f) in &failures {
        println!(
            "{key}: {} times, {:02x?} rip {:x} flags {:x}",
            f.count,
            f.case.code(),
            f.case.state.rip,
            f.case.state.rflags
        );
        for d in f.differences.iter().take(4) {
            println!("    {}: native {:x} ours {:x}", d.field, d.native, d.ours);
        }
    }
    Ok(failures.is_empty())
}

fn decode(case: &Case) -> Instruction {
    Decoder::with_ip(case.mode.bits(), case.code(), case.state.rip, DecoderOptions::NONE).decode()
}
