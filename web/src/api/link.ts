import { AeroError, asAeroError } from "../runtime/errors";
import type { Answers, FromWorker, MachineConfig, Question, ToWorker } from "../runtime/protocol";
import type { Payload } from "./load";

/** What the worker says by itself. */
type Event = Exclude<FromWorker, { kind: "built" | "answer" | "refused" }>;

interface Waiting {
  resolve(value: Answers[Question]): void;
  reject(error: AeroError): void;
}

/** The page's end of one machine: a worker, its canvas and its questions. Ending it gives back the guest's memory. */
export class Link {
  readonly #worker = new Worker(new URL("../runtime/cpu.worker.ts", import.meta.url), { type: "module", name: "cpu" });
  readonly #waiting = new Map<number, Waiting>();
  #nextId = 0;
  #onEvent: (event: Event) => void;

  private constructor(onEvent: (event: Event) => void) {
    this.#onEvent = onEvent;
  }

  /** Starts a worker and builds the machine in it. */
  static async build(
    payload: Payload,
    config: MachineConfig,
    append: string,
    canvas: OffscreenCanvas,
    onEvent: (event: Event) => void,
  ): Promise<{ link: Link; memory: WebAssembly.Memory }> {
    const link = new Link(onEvent);
    try {
      const memory = await link.#built({ kind: "build", ...payload, config, append, canvas });
      return { link, memory };
    } catch (error) {
      link.end();
      throw asAeroError(error);
    }
  }

  #built(order: Extract<ToWorker, { kind: "build" }>): Promise<WebAssembly.Memory> {
    return new Promise((resolve, reject) => {
      this.#worker.onerror = (event) => {
        const why = event.message || "its script could not be loaded";
        reject(new AeroError(`The machine's worker failed: ${why}.`, "Reload the page."));
      };
      this.#worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
        if (data.kind === "failed") reject(new AeroError(data.message, data.cure));
        if (data.kind !== "built") return;
        this.#listen();
        resolve(data.memory);
      };
      this.#worker.postMessage(order, [order.canvas, order.kernel, ...(order.initrd ? [order.initrd] : [])]);
    });
  }

  #listen(): void {
    this.#worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#receive(data);
    this.#worker.onerror = (event) => {
      const message = `The machine's worker failed: ${event.message}.`;
      this.#onEvent({ kind: "failed", message, cure: "Reload the page.", dead: true });
    };
  }

  #receive(message: FromWorker): void {
    switch (message.kind) {
      case "built":
        break;
      case "answer":
        this.#take(message.id)?.resolve(message.value);
        break;
      case "refused":
        this.#take(message.id)?.reject(new AeroError(message.message));
        break;
      default:
        this.#onEvent(message);
    }
  }

  #take(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    return waiting;
  }

  send(message: Exclude<ToWorker, { kind: "build" | "ask" }>): void {
    this.#worker.postMessage(message);
  }

  ask<Q extends Question>(question: Q): Promise<Answers[Q]> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve: (value) => resolve(value as Answers[Q]), reject });
      this.#worker.postMessage({ kind: "ask", id, question } satisfies ToWorker);
    });
  }

  end(): void {
    this.#onEvent = () => undefined;
    this.#worker.terminate();
    for (const waiting of this.#waiting.values()) waiting.reject(new AeroError("The machine was switched off."));
    this.#waiting.clear();
  }
}
