/** What a worker that runs a machine compiles with. */
import { function_table, type InitOutput } from "../pkg/aero_wasm.js";
import { CodeEngine, environmentOf } from "./engine";
import { hasTailCalls } from "./features";
import type { MachineConfig } from "./protocol";
import { Translator } from "./translator";

/** The part of a machine's configuration that compiling depends on. */
export type HowToCompile = Pick<MachineConfig, "jit" | "clock">;

/** What runs compiled code, unless nothing is to be compiled. */
export function makeEngine(config: HowToCompile, module: WebAssembly.Module, exports: InitOutput): CodeEngine | undefined {
  if (config.jit?.tier === "off") return undefined;
  const tailCalls = hasTailCalls();
  const table = function_table() as WebAssembly.Table;
  const translator = compilesAside(config) ? makeTranslator(module, tailCalls) : undefined;
  return new CodeEngine(table, environmentOf(exports, exports.memory, table), tailCalls, translator);
}

/** A run that is to be repeatable, or that is to interpret nothing, waits for what it has compiled. */
function compilesAside(config: HowToCompile): boolean {
  return config.clock.kind !== "icount" && config.jit?.threshold !== 1;
}

function makeTranslator(module: WebAssembly.Module, tailCalls: boolean): Translator {
  const worker = new Worker(new URL("./jit.worker.ts", import.meta.url), { type: "module", name: "jit" });
  return new Translator(worker, module, tailCalls, (line) => console.warn(line));
}
