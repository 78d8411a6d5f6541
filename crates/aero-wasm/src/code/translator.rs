//! The translator's worker: jobs in, modules out.

use aero_jit::job::{Job, Module};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsError, JsValue};

/// A job that is done.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Translated {
    wasm: Vec<u8>,
    facts: Vec<u8>,
}

#[wasm_bindgen]
impl Translated {
    /// The WebAssembly module, as a copy outside the shared memory. Call it once.
    pub fn take_wasm(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.wasm)
    }

    /// What [`unpack`] reads. Call it once.
    pub fn take_facts(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.facts)
    }
}

/// Compiles a job as [`pack`] wrote it.
///
/// # Errors
/// When the bytes are not a job.
#[wasm_bindgen]
pub fn translate(job: &[u8]) -> Result<Translated, JsError> {
    let job: Job = postcard::from_bytes(job)?;
    let module = aero_jit::compile(&job);
    Ok(Translated { facts: encode(&module), wasm: module.wasm })
}

/// The functions of this instance that Rust calls by pointer.
#[wasm_bindgen]
pub fn function_table() -> JsValue {
    wasm_bindgen::function_table()
}

/// A job as bytes.
pub(super) fn pack(job: &Job) -> Vec<u8> {
    encode(job)
}

/// A module with what is known of it.
pub(super) fn unpack(facts: &[u8]) -> Result<Module, String> {
    postcard::from_bytes(facts).map_err(|error| format!("the translator's facts: {error}"))
}

fn encode(value: &impl serde::Serialize) -> Vec<u8> {
    postcard::to_allocvec(value).expect("plain data goes into a vector")
}

#[cfg(test)]
mod tests {
    use super::*;
    use aero_jit::job::{Env, Key, Page, Source, Tier};

    fn job() -> Job {
        let env = Env {
            state: 0x1000,
            read: [0x10_0000, 0x20_0000],
            write: [0x30_0000, 0x40_0000],
            jumps: 0x5000,
            exact: true,
            tail_calls: false,
            model: 0,
            tier: Tier::Baseline,
        };
        // nop; jmp $
        let page = Page { delta: 0, bytes: vec![0x90, 0xeb, 0xfe], ran: None, heads: Vec::new() };
        let key = Key { long: true, user: false, mode: 3 };
        Job { ticket: 7, env, sources: vec![Source { head: 0xffff_8000_0000_0000, key, pages: vec![page] }] }
    }

    #[test]
    fn job_survives_the_way_to_the_translator() {
        let there: Job = postcard::from_bytes(&pack(&job())).expect("a job");
        assert_eq!(there, job());
    }

    #[test]
    fn module_survives_the_way_back() {
        let mut done = translate(&pack(&job())).expect("a job");
        let here = aero_jit::compile(&job());
        assert_eq!(done.take_wasm(), here.wasm);
        assert_eq!(unpack(&done.take_facts()), Ok(here));
    }

    #[test]
    fn facts_that_are_none_are_refused() {
        assert!(unpack(&[]).is_err());
    }
}
