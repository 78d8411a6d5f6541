import { describe, expect, it } from "vitest";
import type { FromTranslator, ToTranslator } from "./protocol";
import { Translator, type WorkerLike } from "./translator";

class FakeWorker implements WorkerLike {
  sent: ToTranslator[] = [];
  ended = false;
  onmessage: ((event: MessageEvent<FromTranslator>) => void) | null = null;
  onerror: ((event: ErrorEvent) => void) | null = null;
  postMessage(message: ToTranslator): void {
    this.sent.push(message);
  }
  terminate(): void {
    this.ended = true;
  }
  say(data: FromTranslator): void {
    this.onmessage?.({ data } as MessageEvent<FromTranslator>);
  }
}

const module = {} as WebAssembly.Module;
const facts = new Uint8Array([1]);

function begin() {
  const worker = new FakeWorker();
  const lines: string[] = [];
  const translator = new Translator(worker, module, true, (line) => lines.push(line));
  return { worker, lines, translator };
}

describe("Translator", () => {
  it("begins with the emulator's module and passes jobs on", () => {
    const { worker, translator } = begin();
    translator.submit(4, new Uint8Array([9]));
    expect(worker.sent.map((message) => message.kind)).toEqual(["begin", "job"]);
  });

  it("keeps what is done until it is taken, in order", () => {
    const { worker, translator } = begin();
    worker.say({ kind: "done", ticket: 1, ms: 2, module, facts });
    worker.say({ kind: "refused", ticket: 2, ms: 3, reason: "no" });
    expect(translator.take()).toEqual({ ticket: 1, ms: 2, module, facts, refusal: "" });
    expect(translator.take()).toMatchObject({ ticket: 2, refusal: "no", facts: undefined });
    expect(translator.take()).toBeUndefined();
  });

  it("says in one line that its worker has failed, and lives on for what is done", () => {
    const { worker, lines, translator } = begin();
    worker.say({ kind: "done", ticket: 1, ms: 2, module, facts });
    worker.say({ kind: "failed", reason: "a bug" });
    worker.say({ kind: "done", ticket: 2, ms: 2, module, facts });
    translator.submit(3, new Uint8Array(1));
    expect([worker.ended, worker.sent.length, lines.length]).toEqual([true, 1, 1]);
    expect(lines[0]).toContain("a bug");
    expect(translator.alive()).toBe(true);
    expect(translator.take()?.ticket).toBe(1);
    expect(translator.alive()).toBe(false);
  });

  it("notices a script that does not load", () => {
    const { worker, lines, translator } = begin();
    worker.onerror?.({ message: "" } as ErrorEvent);
    expect([translator.alive(), lines.length]).toEqual([false, 1]);
  });
});
