/**
 * Compiled code's way into the emulator: modules are instantiated against the emulator's own memory and function table,
 * and what they import of it are its exports as they are. The engine calls from one module into another without any of
 * this; what is here runs when code is installed or given up.
 */
import type { Arrival, Engine } from "../pkg/aero_wasm.js";

/** The emulator's exports that compiled code imports begin with this, and are imported without it. */
const PREFIX = "aero_jit_";

/** What a module of compiled code finds under `env`, but for its slot. */
export function environmentOf(exports: object, memory: WebAssembly.Memory, table: WebAssembly.Table): WebAssembly.ModuleImports {
  const helpers = Object.entries(exports)
    .filter(([name]) => name.startsWith(PREFIX))
    .map(([name, helper]) => [name.slice(PREFIX.length), helper as WebAssembly.ExportValue]);
  return { ...Object.fromEntries(helpers), memory, table };
}

/** A job that the translator has done. Without facts there is no module. */
export interface Finished extends Arrival {
  module: WebAssembly.Module | undefined;
}

/** The other end of a worker that compiles. */
export interface JobTaker {
  /** Whether it may still finish what it is given. */
  alive(): boolean;
  submit(ticket: number, job: Uint8Array<ArrayBuffer>): void;
  /** What is done and was not taken, the oldest first. */
  take(): Finished | undefined;
}

export class CodeEngine implements Engine {
  constructor(
    private readonly table: WebAssembly.Table,
    private readonly env: WebAssembly.ModuleImports,
    private readonly tailCalls: boolean,
    private readonly translator?: JobTaker,
  ) {}

  grow(count: number): number | undefined {
    try {
      return this.table.grow(count);
    } catch {
      return undefined;
    }
  }

  install(wasm: Uint8Array, first: number): void {
    // The engine compiles no shared bytes, and these are the emulator's.
    this.#instantiate(new WebAssembly.Module(wasm.slice()), first);
  }

  install_arrival(arrival: Finished, first: number): void {
    if (arrival.module === undefined) throw new Error(arrival.refusal);
    this.#instantiate(arrival.module, first);
  }

  /** The module puts its functions into the table itself. */
  #instantiate(module: WebAssembly.Module, first: number): void {
    const slot = new WebAssembly.Global({ value: "i32", mutable: false }, first);
    new WebAssembly.Instance(module, { env: { ...this.env, slot } });
  }

  tail_calls(): boolean {
    return this.tailCalls;
  }

  /** Functions that nothing refers to are freed, and their module with the last of them. */
  release(first: number, count: number): void {
    for (let slot = first; slot < first + count; slot += 1) this.table.set(slot, null);
  }

  has_translator(): boolean {
    return this.translator?.alive() ?? false;
  }

  submit(ticket: number, job: Uint8Array): void {
    this.translator?.submit(ticket, job.slice());
  }

  take(): Finished | undefined {
    return this.translator?.take();
  }
}
