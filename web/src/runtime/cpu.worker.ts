/** The worker that owns the machine. */
import init, { install, Machine, take_panic } from "../pkg/aero_wasm.js";
import { makeEngine } from "./compiling";
import type { CodeEngine } from "./engine";
import { AeroError, asAeroError, buildError } from "./errors";
import { withMemory } from "./memory";
import type { Answers, FromWorker, Question, ToWorker } from "./protocol";
import { Runner, type Surroundings } from "./runner";
import { Screen } from "./screen";
import { Sleeper } from "./sleeper";
import { channelTurns } from "./turns";

/** The part of the dedicated worker's scope that is used here; the page's library types do not have it. */
interface WorkerScope {
  postMessage(message: FromWorker, transfer?: Transferable[]): void;
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
}

const scope = globalThis as unknown as WorkerScope;

type BuildOrder = Extract<ToWorker, { kind: "build" }>;

function post(message: FromWorker): void {
  scope.postMessage(message, message.kind === "serial" ? [message.bytes.buffer] : []);
}

let worker: CpuWorker | undefined;

/** After a panic or a trap the module is in no known state: the machine is over. */
function fail(error: unknown): void {
  worker = undefined;
  const { message, cure } = explain(error);
  post({ kind: "failed", message, cure, dead: true });
}

function explain(error: unknown): AeroError {
  if (error instanceof WebAssembly.RuntimeError) {
    return new AeroError(`The emulator has a bug and stopped: ${take_panic() ?? error.message}`, "Please report it.");
  }
  return asAeroError(error);
}

class CpuWorker {
  private constructor(
    private readonly machine: Machine,
    private readonly runner: Runner,
    private readonly screen: Screen,
  ) {}

  static async build(order: BuildOrder): Promise<CpuWorker> {
    const exports = await withMemory((memory) =>
      init({ module_or_path: order.module, ...(memory && { memory }) }),
    );
    install();
    const { memory } = exports;
    const machine = makeMachine(order, makeEngine(order.config, order.module, exports));
    const screen = new Screen(order.canvas, memory, (width, height) => post({ kind: "screen", width, height }));
    const runner = new Runner(machine, surroundings(memory, () => screen.draw(machine)));
    post({ kind: "built", memory });
    return new CpuWorker(machine, runner, screen);
  }

  handle(message: Exclude<ToWorker, { kind: "build" }>): void {
    switch (message.kind) {
      case "run":
        return this.runner.run();
      case "pause":
        return this.runner.pause();
      case "reset":
        return this.runner.reset();
      case "serial":
        this.machine.serial_send(message.bytes);
        return this.runner.poke();
      case "key":
        this.machine.inject_browser_key(message.code, message.pressed);
        return this.runner.poke();
      case "mouse":
        this.machine.inject_mouse_motion(message.dx, message.dy, message.wheel);
        return this.runner.poke();
      case "type":
        this.machine.type_text(message.text);
        return this.runner.poke();
      case "ask":
        void this.answer(message.id, message.question);
    }
  }

  private async answer(id: number, question: Question): Promise<void> {
    try {
      post({ kind: "answer", id, value: await this.find(question) });
    } catch (error) {
      post({ kind: "refused", id, message: asAeroError(error).message });
    }
  }

  private async find(question: Question): Promise<Answers[Question]> {
    switch (question) {
      case "screenText":
        return this.machine.screen_text();
      case "screenshot":
        return this.screen.png();
      case "stats":
        return this.runner.stats();
    }
  }
}

function makeMachine(order: BuildOrder, engine: CodeEngine | undefined): Machine {
  const { config, kernel, initrd, append } = order;
  try {
    return new Machine(
      JSON.stringify(config),
      new Uint8Array(kernel),
      initrd === undefined ? undefined : new Uint8Array(initrd),
      append,
      engine,
    );
  } catch (error) {
    // A trap is a bug and reported as such; an `Error` is the machine's own message.
    if (error instanceof WebAssembly.RuntimeError || !(error instanceof Error)) throw error;
    throw buildError(error.message);
  }
}

function surroundings(memory: WebAssembly.Memory, draw: () => void): Surroundings {
  const turns = channelTurns();
  const sleeper = new Sleeper();
  const guarded = (turn: () => void) => (): void => {
    try {
      turn();
    } catch (error) {
      fail(error);
    }
  };
  return {
    now: () => performance.now(),
    soon: (turn) => turns(guarded(turn)),
    sleep: (ms, turn) => sleeper.sleep(ms, guarded(turn)),
    wake: () => sleeper.wake(),
    memoryBytes: () => memory.buffer.byteLength,
    post,
    draw,
  };
}

async function receive(message: ToWorker): Promise<void> {
  try {
    if (message.kind === "build") worker = await CpuWorker.build(message);
    else worker?.handle(message);
  } catch (error) {
    fail(error);
  }
}

scope.onmessage = (event) => void receive(event.data);
