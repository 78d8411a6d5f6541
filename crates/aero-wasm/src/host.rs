//! What the worker gives to the machine: a clock, and a place for messages.

use aero_machine::WallClock;
use std::sync::Mutex;
use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen]
extern "C" {
    /// Milliseconds since the worker started, with the resolution that cross-origin isolation allows (5 µs).
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn performance_now() -> f64;
    #[wasm_bindgen(js_namespace = console, js_name = warn)]
    fn console_warn(message: &str);
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(message: &str);
}

/// The worker's monotonic clock.
pub(crate) struct BrowserClock;

impl WallClock for BrowserClock {
    fn now_ns(&mut self) -> u64 {
        // Never negative; 2^53 µs are centuries.
        (performance_now() * 1e6) as u64
    }
}

static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Routes panics and log messages to the worker. Call it once, before a machine is made.
#[wasm_bindgen]
pub fn install() {
    std::panic::set_hook(Box::new(|info| {
        let message = info.to_string();
        console_error(&message);
        if let Ok(mut last) = PANIC.lock() {
            *last = Some(message);
        }
    }));
    // A second call finds the logger in place, which is what it wants.
    if log::set_logger(&ConsoleLog).is_ok() {
        log::set_max_level(log::LevelFilter::Warn);
    }
}

/// The message of the panic that stopped this module, if one did.
#[wasm_bindgen]
pub fn take_panic() -> Option<String> {
    PANIC.lock().ok()?.take()
}

/// Sends the core's rare messages to the worker's console.
struct ConsoleLog;

impl log::Log for ConsoleLog {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            console_warn(&format!("{}: {}", record.target(), record.args()));
        }
    }

    fn flush(&self) {}
}
