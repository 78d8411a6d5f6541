import { AeroError } from "../runtime/errors";
import type { Progress } from "../runtime/progress";
import type { ClockConfig, CpuChoice, JitConfig, MachineConfig } from "../runtime/protocol";

/** A file: an address, or bytes that the user chose. */
export type Source = { url: string } | { file: Blob };

/** What a machine is made of. */
export interface AeroOptions {
  /** The element that the screen appears in; it gets `data-state`. */
  container: HTMLElement;
  /** Guest RAM in MiB; 512 unless given. */
  memory?: number;
  /** A Linux kernel (bzImage). */
  kernel: Source;
  initrd?: Source;
  /** The kernel's command line. */
  append?: string;
  /** The processor model: `"win7"` (unless given), `"core2"` or `"max"`; with `,strict-msr` unknown MSRs fault. */
  cpu?: string;
  /** What becomes of code that runs often: `"off"`, `"baseline"` or `"full"` (unless given), `,threshold=N` after N runs. */
  jit?: string;
  /** `"realtime"`, `"icount"` (repeatable, 100 MIPS) or `"icount=MIPS"`. */
  clock?: string;
  /** What the real-time clock shows at power-on, in seconds since 1970; a repeatable run has a date of its own. */
  rtc?: number;
  /** Called as files arrive. */
  onProgress?: (progress: Progress) => void;
}

export const DEFAULT_MEMORY_MIB = 512;
const DEFAULT_MIPS = 100;

/** Reads `realtime`, `icount` and `icount=MIPS`. */
export function parseClock(text: string): ClockConfig {
  if (text === "realtime") return { kind: "realtime" };
  const mips = text === "icount" ? DEFAULT_MIPS : Number(/^icount=(\d+)$/.exec(text)?.[1] ?? 0);
  if (mips >= 1 && mips <= 100_000) return { kind: "icount", mips };
  throw new AeroError(
    `The clock “${text}” is not known.`,
    "Use clock=realtime, clock=icount or clock=icount=100 (100 million instructions per second).",
  );
}

/** Reads `MODEL` and `MODEL,strict-msr`. The machine knows which models there are, and says so. */
export function parseCpu(text: string): CpuChoice {
  const [model = "", ...rest] = text.split(",");
  if (rest.every((word) => word === "strict-msr")) return { model, strict_msr: rest.length > 0 };
  throw new AeroError(`The processor “${text}” is not known.`, "Use cpu=win7, cpu=core2 or cpu=max, with ,strict-msr behind it if wanted.");
}

/** Reads `off`, `baseline` and `full`, with `,threshold=N` or without. */
export function parseJit(text: string): JitConfig {
  const [tier = "", ...rest] = text.split(",");
  const threshold = rest.map((word) => Number(/^threshold=(\d+)$/.exec(word)?.[1] ?? 0));
  if (isTier(tier) && threshold.every((n) => n >= 1 && n < 2 ** 32)) {
    return { tier, threshold: threshold.at(-1) ?? null, exact: false };
  }
  throw new AeroError(
    `The way to compile “${text}” is not known.`,
    "Use jit=off, jit=baseline or jit=full, with ,threshold=N behind it if wanted.",
  );
}

const TIERS: readonly string[] = ["off", "baseline", "full"] satisfies JitConfig["tier"][];

function isTier(word: string): word is JitConfig["tier"] {
  return TIERS.includes(word);
}

/** Reads a size in MiB: a number, or one with K, M or G. */
export function parseMemory(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([KMG]?)(?:iB)?$/i.exec(text.trim());
  const unit = { "": 1, K: 1 / 1024, M: 1, G: 1024 }[match?.[2]?.toUpperCase() ?? ""] ?? 1;
  const mib = Number(match?.[1] ?? NaN) * unit;
  if (mib >= 1) return mib;
  throw new AeroError(`The memory size “${text}” is not a size.`, "Write it in MiB (memory=512) or with a unit (memory=1G).");
}

/** The part of the options that the machine itself takes. */
export function machineConfig(options: Omit<AeroOptions, "container" | "kernel">, nowMs = Date.now()): MachineConfig {
  const clock = parseClock(options.clock ?? "realtime");
  // A repeatable run cannot begin now: the machine knows a fixed date.
  const rtc = options.rtc ?? (clock.kind === "icount" ? undefined : Math.floor(nowMs / 1000));
  return {
    memory: Math.round((options.memory ?? DEFAULT_MEMORY_MIB) * 1024) * 1024,
    clock,
    ...(options.cpu !== undefined && { cpu: parseCpu(options.cpu) }),
    ...(options.jit !== undefined && { jit: parseJit(options.jit) }),
    ...(rtc !== undefined && { rtc }),
    debug_exit: null,
    debugcon: [],
    vga: true,
  };
}
