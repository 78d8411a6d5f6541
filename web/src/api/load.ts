import { compile, download, type OnBytes, readFile } from "../runtime/download";
import { Tally } from "../runtime/progress";
import moduleUrl from "../pkg/aero_wasm_bg.wasm?url";
import type { AeroOptions, Source } from "./options";

/** Everything that a machine is built from. */
export interface Payload {
  module: WebAssembly.Module;
  kernel: ArrayBuffer;
  initrd: ArrayBuffer | undefined;
}

let compiled: Promise<WebAssembly.Module> | undefined;

/** The emulator's module: fetched and compiled once for the page. */
export function emulatorModule(onBytes: OnBytes = () => undefined): Promise<WebAssembly.Module> {
  compiled ??= compile(moduleUrl, onBytes).catch((error: unknown) => {
    compiled = undefined;
    throw error;
  });
  return compiled;
}

function fetchSource(what: string, source: Source, onBytes: OnBytes): Promise<ArrayBuffer> {
  return "url" in source ? download(what, source.url, onBytes) : readFile(what, source.file, onBytes);
}

/** Fetches the emulator, the kernel and the initrd side by side. */
export async function load(options: AeroOptions): Promise<Payload> {
  let over = false;
  // When one file fails the others still arrive; nobody wants to hear of them.
  const tally = new Tally("Loading", (progress) => over || options.onProgress?.(progress));
  const part =
    (name: string): OnBytes =>
    (loaded, total) =>
      tally.set(name, loaded, total);
  try {
    const [compiledModule, kernel, initrd] = await Promise.all([
      emulatorModule(part("emulator")),
      fetchSource("kernel", options.kernel, part("kernel")),
      options.initrd && fetchSource("initrd", options.initrd, part("initrd")),
    ]);
    return { module: compiledModule, kernel, initrd };
  } finally {
    over = true;
  }
}
