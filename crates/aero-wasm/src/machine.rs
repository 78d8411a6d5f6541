//! The handle that JavaScript holds.

use crate::code::{self, Engine};
use crate::host::BrowserClock;
use crate::slice;
use aero_gpu::Frame;
use aero_machine::{Boot, Config, Exit, Kernel};
use wasm_bindgen::JsError;
use wasm_bindgen::prelude::wasm_bindgen;

/// Why a slice ended.
#[wasm_bindgen]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SliceStatus {
    /// The time is up; call again.
    Running = 0,
    /// Every processor is halted; call again after [`Machine::idle_ms`], or when input arrives.
    Idle = 1,
    /// The guest powered off.
    Shutdown = 2,
    /// The guest asked for a reset; call [`Machine::reset`].
    Reset = 3,
    /// The guest wrote to the debug-exit port; see [`Machine::exit_value`].
    DebugExit = 4,
    /// The machine cannot go on; see [`Machine::fault`].
    Fault = 5,
}

/// A machine, its last frame and why it last stopped.
#[wasm_bindgen]
pub struct Machine {
    machine: aero_machine::Machine,
    frame: Frame,
    idle_ms: f64,
    exit_value: u32,
    fault: String,
}

#[wasm_bindgen]
impl Machine {
    /// Builds a machine. `config` is `aero_machine::Config` as JSON; `kernel` and `initrd` are the files' bytes. Without an
    /// engine nothing is compiled.
    ///
    /// # Errors
    /// In one readable line: a configuration that is not valid, a file that does not fit, no memory.
    #[wasm_bindgen(constructor)]
    pub fn new(
        config: &str,
        kernel: Vec<u8>,
        initrd: Option<Vec<u8>>,
        append: String,
        engine: Option<Engine>,
    ) -> Result<Machine, JsError> {
        let config: Config =
            serde_json::from_str(config).map_err(|e| JsError::new(&format!("machine configuration: {e}")))?;
        let kernel = Kernel::linux(kernel, initrd, append);
        let engine = engine.and_then(code::lend);
        let clock = Box::new(BrowserClock);
        let machine = aero_machine::Machine::with_engine(config, Boot::Kernel(kernel), clock, engine)?;
        Ok(Self { machine, frame: Frame::default(), idle_ms: 0.0, exit_value: 0, fault: String::new() })
    }

    /// Runs the guest for about `max_ms` milliseconds, less if it has nothing to do or stops.
    pub fn run_slice(&mut self, max_ms: f64) -> SliceStatus {
        code::begin_turn();
        let machine = &mut self.machine;
        let exit = slice::run_for(&mut BrowserClock, (max_ms * 1e6) as u64, |budget| machine.run(budget));
        self.note(exit)
    }

    fn note(&mut self, exit: Exit) -> SliceStatus {
        match exit {
            Exit::Budget | Exit::WaitIo => SliceStatus::Running,
            Exit::Idle { until } => {
                let now = self.machine.now();
                self.idle_ms = until.map_or(f64::INFINITY, |at| at.since(now) as f64 / 1e6);
                SliceStatus::Idle
            }
            Exit::Shutdown => SliceStatus::Shutdown,
            Exit::Reset => SliceStatus::Reset,
            Exit::DebugExit(value) => {
                self.exit_value = value;
                SliceStatus::DebugExit
            }
            Exit::Fault(report) => {
                self.fault = report;
                SliceStatus::Fault
            }
        }
    }

    /// After [`SliceStatus::Idle`]: milliseconds until the next timer is due, infinite when none is armed.
    pub fn idle_ms(&self) -> f64 {
        self.idle_ms
    }

    /// After [`SliceStatus::DebugExit`]: the value that the guest wrote.
    pub fn exit_value(&self) -> u32 {
        self.exit_value
    }

    /// After [`SliceStatus::Fault`]: what happened.
    pub fn fault(&self) -> String {
        self.fault.clone()
    }

    /// Stops virtual time.
    pub fn pause(&mut self) {
        self.machine.pause();
    }

    /// Lets virtual time go on.
    pub fn resume(&mut self) {
        self.machine.resume();
    }

    /// Power-on state, with the kernel loaded again.
    ///
    /// # Errors
    /// When the boot files cannot be loaded again.
    pub fn reset(&mut self) -> Result<(), JsError> {
        // A frame remembers what it shows; the screen begins anew.
        self.frame = Frame::default();
        Ok(self.machine.reset()?)
    }

    /// Bytes into COM1.
    pub fn serial_send(&mut self, bytes: &[u8]) {
        self.machine.serial_send(bytes);
    }

    /// Bytes that came out of COM1 since the last call, as a copy outside the shared memory.
    pub fn take_serial(&mut self) -> Vec<u8> {
        self.machine.take_serial()
    }

    /// Bytes written to the debug console port since the last call.
    pub fn take_debugcon(&mut self) -> Vec<u8> {
        self.machine.take_debugcon(0)
    }

    /// The text screen, lines joined by line feeds.
    pub fn screen_text(&self) -> String {
        self.machine.screen_text()
    }

    /// Draws the screen; true if it changed since the last call.
    pub fn render(&mut self) -> bool {
        self.machine.render(&mut self.frame)
    }

    /// Width of the last frame in pixels.
    pub fn frame_width(&self) -> u32 {
        self.frame.width
    }

    /// Height of the last frame in pixels.
    pub fn frame_height(&self) -> u32 {
        self.frame.height
    }

    /// Address of the last frame's RGBA bytes in the shared memory, good until the next [`Machine::render`].
    pub fn frame_ptr(&self) -> *const u8 {
        self.frame.rgba.as_ptr()
    }

    /// Number of the last frame's RGBA bytes.
    pub fn frame_len(&self) -> usize {
        self.frame.rgba.len()
    }

    /// A key, by its `KeyboardEvent.code`.
    pub fn inject_browser_key(&mut self, code: &str, pressed: bool) {
        self.machine.inject_browser_key(code, pressed);
    }

    /// Moves the mouse: `dx` right, `dy` down, `wheel` up.
    pub fn inject_mouse_motion(&mut self, dx: i32, dy: i32, wheel: i32) {
        self.machine.inject_mouse_motion(dx, dy, wheel);
    }

    /// Types text on the guest's keyboard (US layout).
    pub fn type_text(&mut self, text: &str) {
        self.machine.type_text(text);
    }

    /// Guest instructions retired since power-on.
    pub fn retired(&self) -> f64 {
        self.machine.retired() as f64
    }

    /// Virtual nanoseconds since power-on.
    pub fn now_ns(&mut self) -> f64 {
        self.machine.now().0 as f64
    }

    /// The machine's counters as a JSON object of numbers.
    pub fn stats_json(&mut self) -> String {
        serde_json::to_string(&self.machine.stats()).expect("flat numbers have no failing serialisation")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aero_machine::{ClockConfig, JitTier};
    use serde_json::Value;

    /// What the page's sources say between `before` and `after`.
    fn between(source: &'static str, before: &str, after: &str) -> &'static str {
        let (_, rest) = source.split_once(before).expect(before);
        rest.split_once(after).expect(after).0
    }

    /// The type of a field that is an object.
    fn interface(name: &str) -> &'static str {
        match name {
            "clock" => "ClockConfig",
            "cpu" => "CpuChoice",
            "jit" => "JitConfig",
            _ => panic!("{name} has no type"),
        }
    }

    /// The fields of a JSON object as TypeScript declares them, sorted.
    fn fields(object: &impl serde::Serialize) -> Vec<String> {
        let Ok(Value::Object(fields)) = serde_json::to_value(object) else { panic!("not an object") };
        let field = |(name, value): (&String, &Value)| match value {
            Value::Object(_) => format!("{name}: {}", interface(name)),
            Value::Array(_) => format!("{name}: number[]"),
            Value::Null => format!("{name}: number | null"),
            Value::Bool(_) => format!("{name}: boolean"),
            Value::Number(_) => format!("{name}: number"),
            other => format!("{name}: {other}"),
        };
        let mut fields: Vec<_> = fields.iter().map(field).collect();
        fields.sort();
        fields
    }

    const PROTOCOL: &str = include_str!("../../../web/src/runtime/protocol.ts");

    #[test]
    fn page_declares_the_configuration_that_the_machine_takes() {
        let declared = between(PROTOCOL, "export interface MachineConfig {\n", "\n}");
        let declared = declared.lines().map(str::trim).filter(|line| !line.starts_with("/**"));
        // Each has a default, so the page may leave any of them out.
        let mut declared: Vec<_> =
            declared.map(|line| line.trim_end_matches(';').replacen("?:", ":", 1)).collect();
        declared.sort();
        assert_eq!(declared, fields(&Config::default()));
    }

    #[test]
    fn page_declares_the_choice_of_processor() {
        let declared = between(PROTOCOL, "export interface CpuChoice {\n", "\n}");
        let declared = declared.lines().map(str::trim).filter(|line| !line.starts_with("/**"));
        let declared: Vec<_> = declared.map(|line| line.trim_end_matches(';')).collect();
        assert_eq!(declared, ["model: string", "strict_msr: boolean"]);
        let choice = serde_json::to_value(aero_machine::CpuChoice::default()).expect("plain data");
        assert!(choice["model"].is_string() && choice["strict_msr"].is_boolean());
    }

    #[test]
    fn page_declares_the_ways_to_compile() {
        let declared = between(PROTOCOL, "export interface JitConfig {\n", "\n}");
        let declared = declared.lines().map(str::trim).filter(|line| !line.starts_with("/**"));
        let declared: Vec<_> = declared.map(|line| line.trim_end_matches(';')).collect();
        let tiers = [JitTier::Off, JitTier::Baseline, JitTier::Full]
            .map(|tier| serde_json::to_string(&tier).expect("plain data"));
        let tiers = format!("tier: {}", tiers.join(" | "));
        assert_eq!(declared, [tiers.as_str(), "threshold: number | null", "exact: boolean"]);
        let config = serde_json::to_value(aero_machine::JitConfig::default()).expect("plain data");
        assert!(config["tier"].is_string() && config["threshold"].is_null() && config["exact"].is_boolean());
    }

    #[test]
    fn page_declares_the_clocks_that_the_machine_has() {
        let clocks = [ClockConfig::Realtime, ClockConfig::Icount { mips: 1 }];
        let expected: Vec<_> =
            clocks.iter().map(|clock| format!("{{ {} }}", fields(clock).join("; "))).collect();
        assert_eq!(between(PROTOCOL, "export type ClockConfig = ", ";\n"), expected.join(" | "));
    }

    #[test]
    fn page_knows_why_a_slice_ended() {
        let runner = include_str!("../../../web/src/runtime/runner.ts");
        let all = [
            SliceStatus::Running,
            SliceStatus::Idle,
            SliceStatus::Shutdown,
            SliceStatus::Reset,
            SliceStatus::DebugExit,
            SliceStatus::Fault,
        ];
        let expected: Vec<_> = all.iter().map(|status| format!("{status:?}: {}", *status as u32)).collect();
        assert_eq!(between(runner, "export const Slice = { ", " } as const"), expected.join(", "));
    }
}
