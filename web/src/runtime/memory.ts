import { memoryRefused } from "./errors";

/** Pages of 64 KiB that the module was linked for: 4 GiB. */
const MAXIMUM = 65536;
/** Below this no guest of use has room. */
const SMALLEST = 4096;
/** A little more than the module's own data; the heap and guest RAM come by growing. */
const INITIAL = 256;

/**
 * Runs `init` with the memory that the module asks for and, where the browser refuses to reserve 4 GiB (iOS does),
 * with ever smaller ones. `init` without a memory makes the module's own.
 */
export async function withMemory<T>(
  init: (memory: WebAssembly.Memory | undefined) => Promise<T>,
  make: (descriptor: WebAssembly.MemoryDescriptor) => WebAssembly.Memory = (d) => new WebAssembly.Memory(d),
): Promise<T> {
  let refusal: unknown;
  for (let maximum = MAXIMUM; maximum >= SMALLEST; maximum /= 2) {
    try {
      return await init(maximum === MAXIMUM ? undefined : make({ initial: INITIAL, maximum, shared: true }));
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      refusal = error;
    }
  }
  throw memoryRefused(refusal);
}

/** Pages for the JIT's worker: 256 MiB. */
const TRANSLATOR_MAXIMUM = 4096;

/** The memory of an instance that only compiles. It must be able to grow beyond its first pages. */
export function translatorMemory(): WebAssembly.Memory {
  return new WebAssembly.Memory({ initial: INITIAL, maximum: TRANSLATOR_MAXIMUM, shared: true });
}
