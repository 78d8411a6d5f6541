//! From a job to a module: the list of passes.

use crate::emit;
use crate::flags;
use crate::ir::Region;
use crate::job::{Compiled, Env, Job, Key, Module, Source};
use crate::passes::{dead, simplify};
use crate::region;
use crate::structure;
use crate::translate;
use crate::verify::debug_verify;

/// Compiles the regions of a job into one module.
pub fn compile(job: &Job) -> Module {
    let made: Vec<_> = job.sources.iter().map(|source| region(source, &job.env)).collect();
    let (regions, compiled): (Vec<_>, Vec<_>) = made.into_iter().map(Option::unzip).unzip();
    let emitted = emit::module(&job.env, &regions);
    let regions = compiled.into_iter().zip(emitted.good).map(|(c, good)| c.filter(|_| good)).collect();
    Module { wasm: emitted.wasm, regions }
}

/// One region, ready to be emitted, and what is known of it.
fn region(source: &Source, env: &Env) -> Option<((Region, Key), Compiled)> {
    let (mut region, blocks) = translate::region(source, env)?;
    debug_verify(&region, "translate");
    passes(&mut region);
    if let Some(second) = &mut region.second {
        passes(second);
    }
    let compiled = Compiled {
        ranges: region::ranges(&blocks),
        interpreted: region.interpreted.clone(),
        instructions: blocks.iter().map(|b| b.insns.len() as u32).sum(),
    };
    Some(((region, source.key), compiled))
}

fn passes(region: &mut Region) {
    structure::make_reducible(region);
    debug_verify(region, "make_reducible");
    flags::run(region);
    debug_verify(region, "flags");
    simplify::run(region);
    debug_verify(region, "simplify");
    dead::run(region);
    debug_verify(region, "dead");
}
