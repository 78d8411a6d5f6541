/** The worker that compiles guest code: an instance of the emulator with a memory of its own and no machine in it. */
import init, { function_table, install, take_panic, translate, try_code } from "../pkg/aero_wasm.js";
import { CodeEngine, environmentOf } from "./engine";
import { translatorMemory } from "./memory";
import type { FromTranslator, ToTranslator } from "./protocol";

/** The part of the dedicated worker's scope that is used here; the page's library types do not have it. */
interface WorkerScope {
  postMessage(message: FromTranslator, transfer: Transferable[]): void;
  onmessage: ((event: MessageEvent<ToTranslator>) => void) | null;
  close(): void;
}

const scope = globalThis as unknown as WorkerScope;

/** Jobs come before the worker has begun, and wait for it. */
let begun: Promise<void> | undefined;

async function begin(module: WebAssembly.Module, tailCalls: boolean): Promise<void> {
  const exports = await init({ module_or_path: module, memory: translatorMemory() });
  install();
  const table = function_table() as WebAssembly.Table;
  // The worker tries what the machine will do, in an instance where it does no harm.
  try_code(new CodeEngine(table, environmentOf(exports, exports.memory, table), tailCalls));
}

function work(ticket: number, job: Uint8Array): void {
  const start = performance.now();
  const spent = (): number => performance.now() - start;
  try {
    const done = translate(job);
    const module = new WebAssembly.Module(done.take_wasm() as Uint8Array<ArrayBuffer>);
    const facts = done.take_facts() as Uint8Array<ArrayBuffer>;
    done.free();
    scope.postMessage({ kind: "done", ticket, ms: spent(), module, facts }, [facts.buffer]);
  } catch (error) {
    // After a trap the instance is in no known state.
    if (error instanceof WebAssembly.RuntimeError) throw error;
    scope.postMessage({ kind: "refused", ticket, ms: spent(), reason: String(error) }, []);
  }
}

async function receive(message: ToTranslator): Promise<void> {
  try {
    if (message.kind === "begin") begun = begin(message.module, message.tailCalls);
    await begun;
    if (message.kind === "job") work(message.ticket, message.job);
  } catch (error) {
    scope.postMessage({ kind: "failed", reason: panicOf() ?? String(error) }, []);
    scope.close();
  }
}

/** The panic behind a trap, if the module had got so far that it can tell. */
function panicOf(): string | undefined {
  try {
    return take_panic();
  } catch {
    return undefined;
  }
}

scope.onmessage = (event) => void receive(event.data);
