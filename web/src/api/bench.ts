/** Measurements of the machine: `window.aero.bench`. They need no guest and leave a running machine alone. */
import { AeroError } from "../runtime/errors";
import type { BenchOrder, FromBench } from "../runtime/bench.worker";
import { emulatorModule } from "./load";
import { parseCpu, parseJit } from "./options";

export interface GuestCpuOptions {
  /** Programs, or beginnings of their names; all unless given. */
  only?: string[];
  /** Host seconds for each program; 1 unless given. */
  seconds?: number;
  /** Repetitions between two looks at a program's result. */
  iterations?: number;
  /** As `AeroOptions.cpu`. */
  cpu?: string;
  /** As `AeroOptions.jit`. */
  jit?: string;
  /** Called as each program is measured. */
  onMeasurement?: (measurement: GuestCpuMeasurement) => void;
}

/** `aero_machine::guest_cpu::Measurement`. */
export interface GuestCpuMeasurement {
  /** The program: kind of work and width, as in `alu32`. */
  variant: string;
  iterations_per_run: number;
  warmup_runs: number;
  measured_runs: number;
  /** Guest instructions of the measured runs. */
  instructions: number;
  /** Host seconds of the measured runs. */
  seconds: number;
  mips: number;
  /** Of the fastest run. */
  best_mips: number;
  expected_checksum: string;
  observed_checksum: string;
}

/** The options as the emulator reads them. */
export function guestCpuOrder(options: GuestCpuOptions): Pick<BenchOrder, "options" | "jit"> {
  const { only, seconds, iterations } = options;
  const jit = options.jit === undefined ? undefined : parseJit(options.jit);
  const cpu = options.cpu === undefined ? undefined : parseCpu(options.cpu);
  return { options: JSON.stringify({ only, seconds, iterations, cpu, jit }), jit };
}

/**
 * Runs the guest CPU throughput suite: programs for the bare machine, each in a machine of its own. Rejects when a
 * program computes something wrong.
 */
export async function runGuestCpuBench(options: GuestCpuOptions = {}): Promise<GuestCpuMeasurement[]> {
  const order: BenchOrder = { module: await emulatorModule(), ...guestCpuOrder(options) };
  const worker = new Worker(new URL("../runtime/bench.worker.ts", import.meta.url), { type: "module", name: "bench" });
  try {
    return await collect(worker, order, options.onMeasurement);
  } finally {
    worker.terminate();
  }
}

function collect(
  worker: Worker,
  order: BenchOrder,
  onMeasurement: GuestCpuOptions["onMeasurement"],
): Promise<GuestCpuMeasurement[]> {
  const all: GuestCpuMeasurement[] = [];
  return new Promise((resolve, reject) => {
    worker.onerror = (event) => reject(new AeroError(`The bench's worker failed: ${event.message}.`, "Reload the page."));
    worker.onmessage = ({ data }: MessageEvent<FromBench>) => {
      if (data.kind === "done") return resolve(all);
      if (data.kind === "failed") return reject(new AeroError(data.message));
      for (const measurement of JSON.parse(data.json) as GuestCpuMeasurement[]) {
        const { variant, expected_checksum, observed_checksum } = measurement;
        if (observed_checksum !== expected_checksum) {
          reject(new AeroError(`${variant} computed ${observed_checksum} in place of ${expected_checksum}.`, "Please report it."));
        }
        all.push(measurement);
        onMeasurement?.(measurement);
      }
    };
    worker.postMessage(order);
  });
}

export const bench = { runGuestCpuBench };
