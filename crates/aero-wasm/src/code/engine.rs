//! What the worker's JavaScript does for compiled code; `web/src/runtime/engine.ts` is the other side.

use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** Makes and installs modules of compiled code. */
export interface Engine {
  /** Grows the function table; the first new slot, or nothing when it is full. */
  grow(count: number): number | undefined;
  /** Installs a module whose regions begin at a slot. The bytes are the emulator's and good during the call only. */
  install(wasm: Uint8Array, first: number): void;
  /** The same for a module that the translator has made. */
  install_arrival(arrival: Arrival, first: number): void;
  /** Whether compiled code may end by calling other compiled code. */
  tail_calls(): boolean;
  /** Empties slots. */
  release(first: number, count: number): void;
  /** Whether there is a translator that takes jobs. */
  has_translator(): boolean;
  /** Gives the translator a job. The bytes are good during the call only. */
  submit(ticket: number, job: Uint8Array): void;
  /** What the translator has done and nobody has taken, the oldest first. */
  take(): Arrival | undefined;
}

/** A job that the translator has done. */
export interface Arrival {
  ticket: number;
  /** Milliseconds that it took. */
  ms: number;
  /** The module with facts about it as Rust reads them, or none and the reason why there is no module. */
  facts: Uint8Array | undefined;
  refusal: string;
}
"#;

#[wasm_bindgen]
extern "C" {
    /// The worker's engine.
    #[wasm_bindgen(typescript_type = "Engine")]
    #[derive(Debug)]
    pub type Engine;

    #[wasm_bindgen(method)]
    pub(super) fn grow(this: &Engine, count: u32) -> Option<u32>;
    #[wasm_bindgen(method, catch)]
    pub(super) fn install(this: &Engine, wasm: &[u8], first: u32) -> Result<(), JsValue>;
    #[wasm_bindgen(method, catch)]
    pub(super) fn install_arrival(this: &Engine, arrival: &Arrival, first: u32) -> Result<(), JsValue>;
    #[wasm_bindgen(method)]
    pub(crate) fn tail_calls(this: &Engine) -> bool;
    #[wasm_bindgen(method)]
    pub(super) fn release(this: &Engine, first: u32, count: u32);
    #[wasm_bindgen(method)]
    pub(super) fn has_translator(this: &Engine) -> bool;
    #[wasm_bindgen(method)]
    pub(super) fn submit(this: &Engine, ticket: u32, job: &[u8]);
    #[wasm_bindgen(method)]
    pub(super) fn take(this: &Engine) -> Option<Arrival>;

    /// A job that the translator has done.
    #[wasm_bindgen(typescript_type = "Arrival")]
    #[derive(Debug)]
    pub type Arrival;

    #[wasm_bindgen(method, getter)]
    pub(super) fn ticket(this: &Arrival) -> u32;
    #[wasm_bindgen(method, getter)]
    pub(super) fn ms(this: &Arrival) -> f64;
    #[wasm_bindgen(method, getter)]
    pub(super) fn facts(this: &Arrival) -> Option<Vec<u8>>;
    #[wasm_bindgen(method, getter)]
    pub(super) fn refusal(this: &Arrival) -> String;
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = String)]
    fn string_of(value: &JsValue) -> String;
}

/// What an exception says.
pub(super) fn words(error: &JsValue) -> String {
    string_of(error)
}
