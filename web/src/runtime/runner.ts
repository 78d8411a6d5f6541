/**
 * The machine's life in its worker: slices while the guest has work, sleep while it has none, and everything that
 * leaves the machine in between. It knows nothing of workers, canvases or WebAssembly, so that it can be tested.
 */
import type { FromWorker, Stats } from "./protocol";

/** Why a slice ended; the numbers of `SliceStatus` in `aero-wasm`. */
export const Slice = { Running: 0, Idle: 1, Shutdown: 2, Reset: 3, DebugExit: 4, Fault: 5 } as const;

/** What the runner uses of `aero-wasm`'s `Machine`. */
export interface RunnableMachine {
  run_slice(maxMs: number): number;
  idle_ms(): number;
  exit_value(): number;
  fault(): string;
  pause(): void;
  resume(): void;
  reset(): void;
  take_serial(): Uint8Array;
  render(): boolean;
  retired(): number;
  now_ns(): number;
  stats_json(): string;
}

/** What the runner uses of its worker. */
export interface Surroundings {
  /** Milliseconds, monotonic. */
  now(): number;
  /** Runs `turn` after the messages that have arrived. */
  soon(turn: () => void): void;
  /** Runs `turn` after `ms`, or at once after `wake`. */
  sleep(ms: number, turn: () => void): void;
  /** Ends a sleep. */
  wake(): void;
  post(message: FromWorker): void;
  /** Puts the machine's frame on the screen. */
  draw(): void;
  memoryBytes(): number;
}

/** The longest stretch in which the worker is deaf. */
const SLICE_MS = 2;
const FRAME_MS = 1000 / 60;
const STATS_MS = 500;
/** Serial bytes wait this long for company. */
const SERIAL_MS = 8;
/** A sleeping guest's screen is looked at this often, for the cursor's blinking. */
const IDLE_FRAME_MS = 125;
/** Not worth falling asleep for. */
const SHORTEST_SLEEP_MS = 0.05;

export class Runner {
  #running = false;
  #over = false;
  /** Whether a turn is already on its way. */
  #scheduled = false;
  #frames = 0;
  #busyMs = 0;
  #lastFrame = -Infinity;
  #lastSerial = -Infinity;
  #lastStats = { at: 0, retired: 0 };
  #mips = 0;

  constructor(
    private readonly machine: RunnableMachine,
    private readonly around: Surroundings,
  ) {
    machine.pause();
  }

  /** Starts or continues. */
  run(): void {
    if (this.#running || this.#over) return;
    this.#running = true;
    this.machine.resume();
    this.#lastStats = { at: this.around.now(), retired: this.machine.retired() };
    this.around.post({ kind: "state", state: "running" });
    this.#schedule();
  }

  /** Holds the machine; virtual time stands still. */
  pause(): void {
    if (!this.#running) return;
    this.#running = false;
    this.machine.pause();
    this.#flush();
    this.around.post({ kind: "state", state: "paused" });
    this.around.wake();
  }

  /** Power-on state. A machine that had stopped runs again. */
  reset(): void {
    this.machine.reset();
    this.#flush();
    if (this.#over) {
      this.#over = false;
      this.run();
    }
    this.around.wake();
  }

  /** Says that input has been given to the machine. */
  poke(): void {
    this.around.wake();
  }

  stats(): Stats {
    return {
      mips: this.#mips,
      retired: this.machine.retired(),
      uptime: this.machine.now_ns() / 1e9,
      busy: this.#busyMs / 1e3,
      memoryBytes: this.around.memoryBytes(),
      frames: this.#frames,
      machine: JSON.parse(this.machine.stats_json()) as Record<string, unknown>,
    };
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.around.soon(this.#turn);
  }

  readonly #turn = (): void => {
    this.#scheduled = false;
    if (!this.#running) return;
    const start = this.around.now();
    const status = this.machine.run_slice(SLICE_MS);
    const end = this.around.now();
    this.#busyMs += end - start;
    this.#emit(end, status === Slice.Idle);
    this.#continue(status, end);
  };

  #continue(status: number, now: number): void {
    switch (status) {
      case Slice.Running:
        this.#schedule();
        break;
      case Slice.Idle:
        this.#rest(Math.min(this.machine.idle_ms(), IDLE_FRAME_MS));
        break;
      case Slice.Reset:
        this.machine.reset();
        this.#schedule();
        break;
      case Slice.Shutdown:
      case Slice.DebugExit:
        this.#stop(now);
        break;
      default:
        this.#stop(now);
        this.around.post({
          kind: "failed",
          message: `The guest cannot go on: ${this.machine.fault()}`,
          cure: "Reset it, or try another kernel.",
          dead: false,
        });
    }
  }

  #rest(ms: number): void {
    if (ms < SHORTEST_SLEEP_MS) {
      this.#schedule();
      return;
    }
    this.#scheduled = true;
    this.around.sleep(ms, this.#turn);
  }

  #stop(now: number): void {
    this.#running = false;
    this.#over = true;
    this.machine.pause();
    this.#flush();
    this.#report(now);
    this.around.post({ kind: "state", state: "stopped" });
  }

  /** Lets out what is due. An idle guest has finished what it wanted to say. */
  #emit(now: number, idle: boolean): void {
    if (idle || now - this.#lastSerial >= SERIAL_MS) this.#emitSerial(now);
    if (now - this.#lastFrame >= FRAME_MS) this.#emitFrame(now);
    if (now - this.#lastStats.at >= STATS_MS) this.#report(now);
  }

  #flush(): void {
    const now = this.around.now();
    this.#emitSerial(now);
    this.#emitFrame(now);
  }

  #emitSerial(now: number): void {
    this.#lastSerial = now;
    const bytes = this.machine.take_serial();
    if (bytes.length > 0) this.around.post({ kind: "serial", bytes: bytes as Uint8Array<ArrayBuffer> });
  }

  #emitFrame(now: number): void {
    this.#lastFrame = now;
    if (!this.machine.render()) return;
    this.#frames += 1;
    this.around.draw();
  }

  #report(now: number): void {
    const retired = this.machine.retired();
    const ms = now - this.#lastStats.at;
    // A reset begins the count again.
    if (ms > 0) this.#mips = Math.max(0, retired - this.#lastStats.retired) / ms / 1e3;
    this.#lastStats = { at: now, retired };
    this.around.post({ kind: "stats", stats: this.stats() });
  }
}
