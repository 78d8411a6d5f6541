/**
 * The embedding API: one `Aero` is one machine with its screen.
 *
 * ```ts
 * const vm = await Aero.create({ container, memory: 512, kernel: { url }, initrd: { url }, append: "console=ttyS0" });
 * vm.on("serial", (bytes) => …);
 * await vm.start();
 * ```
 */
import { AeroError, asAeroError } from "../runtime/errors";
import { requireFeatures } from "../runtime/features";
import type { FromWorker, State, Stats } from "../runtime/protocol";
import { Tail } from "../runtime/tail";
import { bench } from "./bench";
import { Emitter } from "./emitter";
import { Link } from "./link";
import { load } from "./load";
import { type AeroOptions, machineConfig } from "./options";

export { AeroError } from "../runtime/errors";
export type { Progress } from "../runtime/progress";
export type { State, Stats } from "../runtime/protocol";
export { bench, type GuestCpuMeasurement, type GuestCpuOptions } from "./bench";
export type { AeroOptions, Source } from "./options";

/** What an `Aero` tells its listeners. */
export interface AeroEvents {
  /** Bytes from the guest's first serial port. */
  serial: Uint8Array;
  /** The size of the guest's screen in pixels. */
  screen: { width: number; height: number };
  state: State;
  /** Twice a second while the machine runs. */
  stats: Stats;
  error: AeroError;
}

const NO_STATS: Stats = { mips: 0, retired: 0, uptime: 0, busy: 0, memoryBytes: 0, frames: 0, machine: {} };

export class Aero {
  readonly #events = new Emitter<AeroEvents>();
  readonly #serial = new Tail();
  #state: State = "stopped";
  #stats = NO_STATS;
  #link: Link | undefined;
  #memory: WebAssembly.Memory | undefined;
  #building: Promise<void> | undefined;

  private constructor(private readonly options: AeroOptions) {}

  /**
   * Loads the files and builds a machine, ready to start.
   *
   * Rejects with an `AeroError`, in words for the user, when the browser lacks something, a file cannot be loaded or
   * the machine cannot be built.
   */
  static async create(options: AeroOptions): Promise<Aero> {
    const aero = new Aero(options);
    await aero.#build();
    return aero;
  }

  /** Adds a listener; the returned function removes it. */
  on<K extends keyof AeroEvents>(event: K, listener: (value: AeroEvents[K]) => void): () => void {
    return this.#events.on(event, listener);
  }

  get state(): State {
    return this.#state;
  }

  /** The emulator's memory, guest RAM included; undefined while there is no machine. */
  get memory(): WebAssembly.Memory | undefined {
    return this.#memory;
  }

  /** Starts or continues the machine. One that was switched off is built again. */
  async start(): Promise<void> {
    if (this.#link === undefined) await this.#build();
    else if (this.#state === "stopped" || this.#state === "failed") this.#link.send({ kind: "reset" });
    this.#link?.send({ kind: "run" });
  }

  async pause(): Promise<void> {
    this.#link?.send({ kind: "pause" });
  }

  /** Power-on state, with the kernel loaded again. */
  async reset(): Promise<void> {
    if (this.#link === undefined) return this.start();
    this.#link.send({ kind: "reset" });
  }

  /** Switches the machine off and gives its memory back. */
  async powerOff(): Promise<void> {
    await this.#building?.catch(() => undefined);
    this.#end();
    this.#setState("stopped");
  }

  /** Measurements of the machine, apart from this one. */
  readonly bench = bench;

  readonly keyboard = {
    /** Types text on the guest's keyboard (US layout). */
    type: (text: string): void => this.#link?.send({ kind: "type", text }),
    /** Presses or releases a key, by its `KeyboardEvent.code`. */
    key: (code: string, pressed: boolean): void => this.#link?.send({ kind: "key", code, pressed }),
  };

  readonly mouse = {
    /** Moves the mouse, in counts: `dx` right, `dy` down, `wheel` up. */
    move: (dx: number, dy: number, wheel = 0): void => this.#link?.send({ kind: "mouse", dx, dy, wheel }),
  };

  readonly serial = {
    /** Sends text or bytes into the guest's first serial port. */
    send: (data: string | Uint8Array): void => {
      const bytes = typeof data === "string" ? new TextEncoder().encode(data) : new Uint8Array(data);
      this.#link?.send({ kind: "serial", bytes });
    },
    /** The last 256 KiB that came out of it. */
    history: (): Uint8Array => this.#serial.bytes(),
  };

  /** The guest's text screen, lines joined by line feeds. */
  screenText(): Promise<string> {
    return this.#machine().ask("screenText");
  }

  /** The guest's screen as a PNG file. */
  screenshot(): Promise<Blob> {
    return this.#machine().ask("screenshot");
  }

  /** The latest numbers, at most half a second old while the machine runs. */
  stats(): Stats {
    return this.#stats;
  }

  /** The numbers of this moment. */
  async measure(): Promise<Stats> {
    this.#stats = await this.#machine().ask("stats");
    return this.#stats;
  }

  #machine(): Link {
    if (this.#link === undefined) throw new AeroError("The machine is switched off.", "Start it first.");
    return this.#link;
  }

  /** Builds the machine; callers at the same time share one. */
  #build(): Promise<void> {
    this.#building ??= this.#buildOnce().finally(() => {
      this.#building = undefined;
    });
    return this.#building;
  }

  async #buildOnce(): Promise<void> {
    this.#setState("booting");
    try {
      requireFeatures();
      const config = machineConfig(this.options);
      const payload = await load(this.options);
      this.options.onProgress?.({ what: "Building the machine", fraction: undefined, loaded: 0 });
      const built = await Link.build(payload, config, this.options.append ?? "", this.#newCanvas(), (e) => this.#note(e));
      this.#link = built.link;
      this.#memory = built.memory;
    } catch (error) {
      throw this.#failed(asAeroError(error), true);
    }
  }

  /** A canvas is lent to a worker once, so every machine gets its own. */
  #newCanvas(): OffscreenCanvas {
    const canvas = document.createElement("canvas");
    canvas.width = 720;
    canvas.height = 400;
    this.options.container.querySelector(":scope > canvas")?.remove();
    this.options.container.prepend(canvas);
    return canvas.transferControlToOffscreen();
  }

  #note(event: Exclude<FromWorker, { kind: "built" | "answer" | "refused" }>): void {
    switch (event.kind) {
      case "serial":
        this.#serial.push(event.bytes);
        this.#events.emit("serial", event.bytes);
        break;
      case "screen":
        this.#events.emit("screen", { width: event.width, height: event.height });
        break;
      case "stats":
        this.#stats = event.stats;
        this.#events.emit("stats", event.stats);
        break;
      case "state":
        this.#setState(event.state);
        break;
      case "failed":
        this.#failed(new AeroError(event.message, event.cure), event.dead);
    }
  }

  #failed(error: AeroError, dead: boolean): AeroError {
    if (dead) this.#end();
    this.#setState("failed");
    this.#events.emit("error", error);
    return error;
  }

  #end(): void {
    this.#link?.end();
    this.#link = undefined;
    this.#memory = undefined;
  }

  #setState(state: State): void {
    this.#state = state;
    this.options.container.dataset["state"] = state;
    this.#events.emit("state", state);
  }
}
