import { AeroError } from "./errors";

/** The parts of the global scope that decide whether Aero can run. */
export interface Environment {
  crossOriginIsolated: boolean;
  isSecureContext: boolean;
  hasWorker: boolean;
  hasSharedArrayBuffer: boolean;
  hasOffscreenCanvas: boolean;
  /** Whether the engine accepts a WebAssembly module; undefined without WebAssembly. */
  validate: ((module: Uint8Array<ArrayBuffer>) => boolean) | undefined;
}

/** What this browser has. */
export function environment(scope: typeof globalThis = globalThis): Environment {
  const has = (name: string): boolean => name in scope;
  return {
    crossOriginIsolated: scope.crossOriginIsolated === true,
    isSecureContext: scope.isSecureContext === true,
    hasWorker: has("Worker"),
    hasSharedArrayBuffer: has("SharedArrayBuffer"),
    hasOffscreenCanvas:
      has("OffscreenCanvas") && "transferControlToOffscreen" in (scope.HTMLCanvasElement?.prototype ?? {}),
    validate: has("WebAssembly") ? (module) => scope.WebAssembly.validate(module) : undefined,
  };
}

const HEADER = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];

/** `(memory 1 1 shared)` and a function with `memory.atomic.notify`. */
const THREADS = new Uint8Array([
  ...HEADER, 1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 5, 4, 1, 3, 1, 1, 10, 13, 1, 11, 0, 0x41, 0, 0x41, 0, 0xfe, 0, 2, 0,
  0x1a, 0x0b,
]);

/** A function that makes and drops a `v128`. */
const SIMD = new Uint8Array([...HEADER, 1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 10, 9, 1, 7, 0, 0x41, 0, 0xfd, 15, 0x1a, 0x0b]);

/** A function that ends by calling itself: `return_call 0`. */
const TAIL_CALLS = new Uint8Array([...HEADER, 1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 10, 6, 1, 4, 0, 0x12, 0, 0x0b]);

/** Whether compiled code may end by calling other compiled code. Without it the code returns and is called anew. */
export function hasTailCalls(env: Pick<Environment, "validate"> = environment()): boolean {
  return env.validate?.(TAIL_CALLS) ?? false;
}

const UPDATE = "Use a current Chrome, Edge, Firefox or Safari.";

/** Everything that is missing, most important first; empty when Aero can run. */
export function missing(env: Environment): AeroError[] {
  const problems: AeroError[] = [];
  const need = (present: boolean, message: string, cure: string): void => {
    if (!present) problems.push(new AeroError(message, cure));
  };
  need(env.validate !== undefined, "This browser has no WebAssembly, in which the emulator is written.", UPDATE);
  need(env.hasWorker, "This browser has no web workers, in which the machine runs.", UPDATE);
  if (env.isSecureContext) {
    need(
      env.crossOriginIsolated,
      "This page is not cross-origin isolated, so the browser withholds shared memory and threads from it.",
      "The server must send “Cross-Origin-Opener-Policy: same-origin” and “Cross-Origin-Embedder-Policy: " +
        "require-corp” with the page; “cargo xtask serve” does. The page must not be embedded in a page without them.",
    );
  } else {
    need(
      false,
      "This page came over plain http, so the browser withholds shared memory and threads from it.",
      "Open it by https, or from the same computer by http://localhost.",
    );
  }
  if (env.crossOriginIsolated) {
    need(env.hasSharedArrayBuffer, "This browser has no SharedArrayBuffer, in which the guest's memory lies.", UPDATE);
  }
  if (env.validate !== undefined) {
    need(env.validate(THREADS), "This browser's WebAssembly has no threads.", UPDATE);
    need(env.validate(SIMD), "This browser's WebAssembly has no SIMD instructions.", UPDATE);
  }
  need(env.hasOffscreenCanvas, "This browser has no OffscreenCanvas, on which the machine draws its screen.", UPDATE);
  return problems;
}

/** Throws one error that names everything missing. */
export function requireFeatures(env: Environment = environment()): void {
  const problems = missing(env);
  if (problems.length === 0) return;
  const cures = new Set(problems.map((p) => p.cure));
  throw new AeroError(problems.map((p) => p.message).join(" "), [...cures].join(" "));
}
