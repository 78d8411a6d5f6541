import { readFile } from "node:fs/promises";
import { beforeAll, describe, expect, it } from "vitest";
import init, { function_table, install, try_code } from "../pkg/aero_wasm.js";
import { CodeEngine, environmentOf, type Finished } from "./engine";
import { translatorMemory } from "./memory";

/** The emulator as the page has it: bound and optimised. */
let exports: Awaited<ReturnType<typeof init>>;
let table: WebAssembly.Table;

beforeAll(async () => {
  const bytes = await readFile(new URL("../pkg/aero_wasm_bg.wasm", import.meta.url));
  exports = await init({ module_or_path: bytes, memory: translatorMemory() });
  install();
  table = function_table() as WebAssembly.Table;
});

const engine = (tailCalls = true, without = ""): CodeEngine => {
  const rest = Object.fromEntries(Object.entries(exports).filter(([name]) => name !== without));
  return new CodeEngine(table, environmentOf(rest, exports.memory, table), tailCalls);
};

describe("CodeEngine with the optimised emulator", () => {
  it.each([true, false])("grows the table, and Rust calls what was put there (tail calls: %s)", (tailCalls) => {
    const before = table.length;
    try_code(engine(tailCalls));
    expect(table.length).toBeGreaterThan(before);
  });

  it("leaves nothing behind in slots that were given up", () => {
    const before = table.length;
    try_code(engine());
    const slots = Array.from({ length: table.length - before }, (_, n) => table.get(before + n) as unknown);
    expect(slots.every((slot) => slot === null)).toBe(true);
  });

  it.each(["load", "load16", "store", "store16", "place", "exec", "settle"])("imports %s", (name) => {
    expect(() => try_code(engine(true, `aero_jit_${name}`))).toThrow(name);
  });
});

describe("CodeEngine", () => {
  const env = {};

  it("says that a full table cannot grow", () => {
    const full = new WebAssembly.Table({ element: "anyfunc", initial: 1, maximum: 2 });
    const tight = new CodeEngine(full, env, true);
    expect([tight.grow(1), tight.grow(1)]).toEqual([1, undefined]);
  });

  it("throws the reason of a job that came to nothing", () => {
    const refused: Finished = { ticket: 1, ms: 2, module: undefined, facts: undefined, refusal: "too long" };
    expect(() => new CodeEngine(table, env, true).install_arrival(refused, 0)).toThrow("too long");
  });

  it("gives the translator bytes of its own", () => {
    const shared = new Uint8Array(new SharedArrayBuffer(4)).fill(7);
    const taken: Uint8Array[] = [];
    const taker = { alive: () => true, submit: (_: number, job: Uint8Array) => taken.push(job), take: () => undefined };
    new CodeEngine(table, env, true, taker).submit(3, shared);
    shared.fill(0);
    expect(taken).toEqual([new Uint8Array([7, 7, 7, 7])]);
    expect(taken[0]?.buffer).toBeInstanceOf(ArrayBuffer);
  });
});
