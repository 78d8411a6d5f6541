/** The machine's end of the JIT worker. */
import type { Finished, JobTaker } from "./engine";
import type { FromTranslator, ToTranslator } from "./protocol";

/** What is used of a `Worker`. */
export interface WorkerLike {
  postMessage(message: ToTranslator, transfer: Transferable[]): void;
  terminate(): void;
  onmessage: ((event: MessageEvent<FromTranslator>) => void) | null;
  onerror: ((event: ErrorEvent) => void) | null;
}

/**
 * Gives jobs to the JIT worker and keeps what it sends back until the machine, between two slices, takes it. A worker that
 * fails is ended and mourned in one line; the machine then compiles for itself.
 */
export class Translator implements JobTaker {
  readonly #done: Finished[] = [];
  #worker: WorkerLike | undefined;

  constructor(
    worker: WorkerLike,
    module: WebAssembly.Module,
    tailCalls: boolean,
    private readonly warn: (line: string) => void,
  ) {
    this.#worker = worker;
    worker.onmessage = ({ data }) => this.#receive(data);
    worker.onerror = (event) => this.#fail(event.message || "its script could not be loaded");
    worker.postMessage({ kind: "begin", module, tailCalls }, []);
  }

  /** Results that have arrived are good even if the worker has failed since. */
  alive(): boolean {
    return this.#worker !== undefined || this.#done.length > 0;
  }

  submit(ticket: number, job: Uint8Array<ArrayBuffer>): void {
    this.#worker?.postMessage({ kind: "job", ticket, job }, [job.buffer]);
  }

  take(): Finished | undefined {
    return this.#done.shift();
  }

  #receive(message: FromTranslator): void {
    if (this.#worker === undefined) return;
    switch (message.kind) {
      case "done": {
        const { ticket, ms, module, facts } = message;
        this.#done.push({ ticket, ms, module, facts, refusal: "" });
        break;
      }
      case "refused": {
        const { ticket, ms, reason } = message;
        this.#done.push({ ticket, ms, module: undefined, facts: undefined, refusal: reason });
        break;
      }
      case "failed":
        this.#fail(message.reason);
    }
  }

  #fail(reason: string): void {
    this.#worker?.terminate();
    this.#worker = undefined;
    this.warn(`The JIT's worker failed, and code is compiled beside the guest instead: ${reason}`);
  }
}
