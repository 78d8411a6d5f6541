//! The guest CPU throughput suite in a worker of its own.
//!
//! [`GuestCpuBench`] is one payload on its way. The worker steps it and goes back to its event loop in between, since
//! that is where compiled code arrives. Every payload gets an engine that has run nothing else, so that nothing that
//! was compiled for the last one can come late.

use crate::code::{self, Engine};
use crate::host::BrowserClock;
use aero_machine::guest_cpu::{self, Options, Suite};
use aero_machine::{Boot, BuildError, Config, Machine};
use wasm_bindgen::JsError;
use wasm_bindgen::prelude::wasm_bindgen;

/// The names of the payloads that `options` choose, as JSON of `aero_machine::guest_cpu::Options`.
///
/// # Errors
/// In one readable line, when the options are not valid or name an unknown payload.
#[wasm_bindgen]
pub fn guest_cpu_payloads(options: &str) -> Result<Vec<String>, JsError> {
    let payloads = guest_cpu::chosen(&parse(options)?)?;
    Ok(payloads.into_iter().map(|payload| payload.name.to_owned()).collect())
}

fn parse(options: &str) -> Result<Options, JsError> {
    serde_json::from_str(options).map_err(|error| JsError::new(&format!("bench options: {error}")))
}

/// A measurement of one payload.
#[wasm_bindgen]
pub struct GuestCpuBench {
    suite: Suite,
    engine: Option<aero_machine::Engine>,
}

#[wasm_bindgen]
impl GuestCpuBench {
    /// Measures the payload of that name by these options. Without an engine nothing is compiled.
    ///
    /// # Errors
    /// As [`guest_cpu_payloads`].
    #[wasm_bindgen(constructor)]
    pub fn new(options: &str, payload: String, engine: Option<Engine>) -> Result<GuestCpuBench, JsError> {
        let suite = Suite::new(Options { only: vec![payload], ..parse(options)? })?;
        Ok(Self { suite, engine: engine.and_then(code::lend) })
    }

    /// Goes on for about `max_ms` milliseconds; true when it is done.
    ///
    /// # Errors
    /// When the machine cannot be built or the payload goes astray.
    pub fn step(&mut self, max_ms: f64) -> Result<bool, JsError> {
        code::begin_turn();
        let engine = &mut self.engine;
        let mut make = |config: Config, boot: Boot| -> Result<Machine, BuildError> {
            Machine::with_engine(config, boot, Box::new(BrowserClock), engine.take())
        };
        Ok(self.suite.step(&mut BrowserClock, (max_ms * 1e6) as u64, &mut make)?)
    }

    /// What was measured, as a JSON array.
    pub fn measurements_json(&self) -> String {
        serde_json::to_string(self.suite.measurements()).expect("flat data have no failing serialisation")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_declares_what_is_measured() {
        let source = include_str!("../../../web/src/api/bench.ts");
        let (_, rest) =
            source.split_once("export interface GuestCpuMeasurement {\n").expect("the declaration");
        let declared = rest.split_once("\n}").expect("its end").0.lines().map(str::trim);
        let declared: Vec<_> = declared
            .filter(|line| !line.starts_with("/**"))
            .filter_map(|line| line.split_once(':'))
            .collect();
        let mut declared: Vec<_> = declared.into_iter().map(|(name, _)| name).collect();
        declared.sort_unstable();
        let mut suite = GuestCpuBench::new(r#"{"seconds":1e-6,"iterations":10}"#, "alu32".to_owned(), None)
            .unwrap_or_else(|_| panic!("a bench"));
        let clock = &mut Ticking(0);
        let make = &mut |config, boot| Machine::new(config, boot, Box::new(Ticking(0)));
        while !suite.suite.step(clock, 1_000_000, make).expect("it runs") {}
        let measured: serde_json::Value = serde_json::from_str(&suite.measurements_json()).expect("JSON");
        let mut fields: Vec<_> = measured[0].as_object().expect("an object").keys().cloned().collect();
        fields.sort_unstable();
        assert_eq!(declared, fields);
    }

    struct Ticking(u64);

    impl aero_machine::WallClock for Ticking {
        fn now_ns(&mut self) -> u64 {
            self.0 += 1_000;
            self.0
        }
    }
}
