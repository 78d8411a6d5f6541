/** Messages between the page and the worker that owns the machine, and between that and the worker that compiles. */

/** `aero_machine::ClockConfig`. */
export type ClockConfig = { kind: "realtime" } | { kind: "icount"; mips: number };

/** `aero_machine::Config`. */
export interface MachineConfig {
  /** Bytes of guest RAM. */
  memory: number;
  cpu?: CpuChoice;
  hpet?: boolean;
  hyperv?: boolean;
  jit?: JitConfig;
  clock: ClockConfig;
  /** What the RTC shows at power-on, in seconds since 1970; without it the date of repeatable runs. */
  rtc?: number;
  debug_exit: number | null;
  debugcon: number[];
  post_port?: number | null;
  test_device?: boolean;
  vga: boolean;
}

/** The processor, by the name of its model. */
export interface CpuChoice {
  model: string;
  /** Unknown MSRs raise #GP; otherwise they read zero and swallow writes. */
  strict_msr: boolean;
}

/** What becomes of code that runs often. */
export interface JitConfig {
  /** How much work compiling may be. */
  tier: "off" | "baseline" | "full";
  /** How often a block runs before it is compiled; `null` leaves it to the translator. */
  threshold: number | null;
  /** Compiled code ends to the instruction. */
  exact: boolean;
}

/** What a machine is doing, as the page shows it. */
export type State = "booting" | "running" | "paused" | "stopped" | "failed";

/** Numbers about the running machine. */
export interface Stats {
  /** Millions of guest instructions per second of host time, lately. */
  mips: number;
  /** Guest instructions since power-on. */
  retired: number;
  /** Virtual seconds since power-on. */
  uptime: number;
  /** Host seconds spent running the guest, idle time not counted. */
  busy: number;
  /** Bytes of the emulator's memory, guest RAM included. */
  memoryBytes: number;
  /** Frames drawn. */
  frames: number;
  /** The machine's own counters. */
  machine: Record<string, unknown>;
}

/** What the page can ask for. */
export interface Answers {
  screenText: string;
  screenshot: Blob;
  stats: Stats;
}

export type Question = keyof Answers;

export type ToWorker =
  | {
      kind: "build";
      module: WebAssembly.Module;
      config: MachineConfig;
      kernel: ArrayBuffer;
      initrd: ArrayBuffer | undefined;
      append: string;
      canvas: OffscreenCanvas;
    }
  | { kind: "run" }
  | { kind: "pause" }
  | { kind: "reset" }
  | { kind: "serial"; bytes: Uint8Array<ArrayBuffer> }
  | { kind: "key"; code: string; pressed: boolean }
  | { kind: "mouse"; dx: number; dy: number; wheel: number }
  | { kind: "type"; text: string }
  | { kind: "ask"; id: number; question: Question };

export type FromWorker =
  | { kind: "built"; memory: WebAssembly.Memory }
  | { kind: "state"; state: "running" | "paused" | "stopped" }
  | { kind: "serial"; bytes: Uint8Array<ArrayBuffer> }
  | { kind: "screen"; width: number; height: number }
  | { kind: "stats"; stats: Stats }
  | { kind: "answer"; id: number; value: Answers[Question] }
  | { kind: "refused"; id: number; message: string }
  /** `dead`: the machine is gone and only a new worker helps; otherwise a reset does. */
  | { kind: "failed"; message: string; cure: string; dead: boolean };

export type ToTranslator =
  | { kind: "begin"; module: WebAssembly.Module; tailCalls: boolean }
  | { kind: "job"; ticket: number; job: Uint8Array<ArrayBuffer> };

export type FromTranslator =
  | { kind: "done"; ticket: number; ms: number; module: WebAssembly.Module; facts: Uint8Array<ArrayBuffer> }
  | { kind: "refused"; ticket: number; ms: number; reason: string }
  /** The worker has ended. */
  | { kind: "failed"; reason: string };
