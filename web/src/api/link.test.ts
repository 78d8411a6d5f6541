import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { FromWorker, ToWorker } from "../runtime/protocol";
import { Link } from "./link";
import { machineConfig } from "./options";

/** A worker that records what it is told and says what a test makes it say. */
class FakeWorker {
  static last: FakeWorker;
  sent: ToWorker[] = [];
  terminated = false;
  onmessage: ((event: { data: FromWorker }) => void) | undefined;
  onerror: ((event: { message: string }) => void) | undefined;

  constructor() {
    FakeWorker.last = this;
  }
  postMessage(message: ToWorker): void {
    this.sent.push(message);
  }
  terminate(): void {
    this.terminated = true;
  }
  say(message: FromWorker): void {
    this.onmessage?.({ data: message });
  }
}

beforeEach(() => {
  vi.stubGlobal("Worker", FakeWorker);
});

afterEach(() => {
  vi.unstubAllGlobals();
});

const memory = {} as WebAssembly.Memory;
const payload = { module: {} as WebAssembly.Module, kernel: new ArrayBuffer(1), initrd: undefined };

function build() {
  const heard: FromWorker[] = [];
  const built = Link.build(payload, machineConfig({}), "quiet", {} as OffscreenCanvas, (event) => heard.push(event));
  return { built, heard, worker: FakeWorker.last };
}

async function buildWell() {
  const { built, heard, worker } = build();
  worker.say({ kind: "built", memory });
  return { ...(await built), heard, worker };
}

describe("Link", () => {
  it("orders a machine and receives its memory", async () => {
    const { memory: received, worker } = await buildWell();
    expect(received).toBe(memory);
    const order = worker.sent[0];
    expect(order?.kind === "build" && order.append).toBe("quiet");
  });

  it("rejects with the worker's words and ends it when the machine cannot be built", async () => {
    const { built, heard, worker } = build();
    worker.say({ kind: "failed", message: "no", cure: "less", dead: true });
    await expect(built).rejects.toMatchObject({ message: "no", cure: "less" });
    expect(worker.terminated).toBe(true);
    expect(heard).toEqual([]);
  });

  it("rejects when the worker's script does not load", async () => {
    const { built, worker } = build();
    worker.onerror?.({ message: "" });
    await expect(built).rejects.toThrow("its script could not be loaded");
  });

  it("matches answers to questions", async () => {
    const { link, worker } = await buildWell();
    const [first, second] = [link.ask("screenText"), link.ask("screenText")];
    worker.say({ kind: "answer", id: 1, value: "two" });
    worker.say({ kind: "refused", id: 0, message: "not now" });
    await expect(first).rejects.toThrow("not now");
    expect(await second).toBe("two");
  });

  it("passes on what the machine says by itself", async () => {
    const { heard, worker } = await buildWell();
    worker.say({ kind: "state", state: "running" });
    worker.onerror?.({ message: "lost" });
    expect(heard.map((event) => event.kind)).toEqual(["state", "failed"]);
  });

  it("leaves no question open and no event to come when it ends", async () => {
    const { link, heard, worker } = await buildWell();
    const question = link.ask("stats");
    link.end();
    await expect(question).rejects.toThrow("switched off");
    worker.say({ kind: "state", state: "paused" });
    expect([worker.terminated, heard.length]).toEqual([true, 0]);
  });
});
