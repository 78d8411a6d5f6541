//! The counters of a run, as JSON.

use aero_machine::Stats;
use anyhow::Context as _;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// What the host knows of a run.
pub struct Run {
    pub wall: Duration,
    /// Guest time, nanoseconds.
    pub guest_ns: u64,
    /// Guest instructions.
    pub instructions: u64,
    pub exit_status: u8,
    pub ended: &'static str,
}

/// Writes the counters of the machine and of the run to `file`.
///
/// # Errors
/// When the file cannot be written.
pub fn write(file: &Path, machine: &Stats, run: &Run) -> anyhow::Result<()> {
    let name = || format!("--stats {}", file.display());
    let machine = serde_json::to_value(machine).with_context(name)?;
    let mut text = serde_json::to_string_pretty(&document(machine, run)).with_context(name)?;
    text.push('\n');
    std::fs::write(file, text).with_context(name)
}

/// The machine's counters with the run's beside them.
fn document(machine: Value, run: &Run) -> Value {
    let seconds = run.wall.as_secs_f64();
    let mips = if seconds > 0.0 { run.instructions as f64 / seconds / 1e6 } else { 0.0 };
    let mut all = machine;
    if let (Some(all), Value::Object(run)) = (
        all.as_object_mut(),
        json!({
            "wall_seconds": seconds,
            "guest_seconds": run.guest_ns as f64 / 1e9,
            "instructions": run.instructions,
            "mips": mips,
            "peak_memory_bytes": peak_memory(),
            "exit_status": run.exit_status,
            "ended": run.ended,
        }),
    ) {
        all.extend(run);
    }
    all
}

/// The most memory that this process has had in use, in bytes; `None` where the host does not say.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_and_machine_counters_stand_side_by_side() {
        let run = Run {
            wall: Duration::from_secs(2),
            guest_ns: 1_500_000_000,
            instructions: 80_000_000,
            exit_status: 0,
            ended: "powered off",
        };
        let all = document(json!({ "tlb_misses": 7 }), &run);
        assert_eq!((all["tlb_misses"].as_u64(), all["mips"].as_f64()), (Some(7), Some(40.0)));
        assert_eq!((all["guest_seconds"].as_f64(), all["ended"].as_str()), (Some(1.5), Some("powered off")));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn peak_memory_is_known_on_linux() {
        assert!(peak_memory().is_some_and(|bytes| bytes > 1 << 16));
    }
}
