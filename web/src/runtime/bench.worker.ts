/** The worker that measures the processor. It makes its machines itself, and takes them along when it ends. */
import init, { guest_cpu_payloads, GuestCpuBench, type InitOutput, install, take_panic } from "../pkg/aero_wasm.js";
import { makeEngine } from "./compiling";
import { asAeroError } from "./errors";
import { withMemory } from "./memory";
import type { JitConfig } from "./protocol";
import { channelTurns } from "./turns";

/** What the page orders; the options are `aero_machine::guest_cpu::Options` as JSON. */
export interface BenchOrder {
  module: WebAssembly.Module;
  options: string;
  jit: JitConfig | undefined;
}

export type FromBench =
  /** What one payload gave, as JSON. */
  | { kind: "measured"; json: string }
  | { kind: "done" }
  | { kind: "failed"; message: string };

interface WorkerScope {
  postMessage(message: FromBench): void;
  onmessage: ((event: MessageEvent<BenchOrder>) => void) | null;
}

const scope = globalThis as unknown as WorkerScope;

/** Milliseconds between two turns of the event loop, where compiled code arrives. */
const SLICE_MS = 10;

async function measureAll(order: BenchOrder): Promise<void> {
  const exports = await withMemory((memory) => init({ module_or_path: order.module, ...(memory && { memory }) }));
  install();
  for (const payload of guest_cpu_payloads(order.options)) await measure(order, payload, exports);
  scope.postMessage({ kind: "done" });
}

async function measure(order: BenchOrder, payload: string, exports: InitOutput): Promise<void> {
  const how = { clock: { kind: "realtime" }, ...(order.jit && { jit: order.jit }) } as const;
  const bench = new GuestCpuBench(order.options, payload, makeEngine(how, order.module, exports));
  const turns = channelTurns();
  while (!bench.step(SLICE_MS)) await new Promise<void>((resolve) => turns(resolve));
  scope.postMessage({ kind: "measured", json: bench.measurements_json() });
  bench.free();
}

scope.onmessage = ({ data }) => {
  measureAll(data).catch((error: unknown) => {
    const panic = error instanceof WebAssembly.RuntimeError ? take_panic() : undefined;
    scope.postMessage({ kind: "failed", message: panic ?? asAeroError(error).message });
  });
};
