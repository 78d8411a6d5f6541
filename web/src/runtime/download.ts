import { AeroError, htmlError, httpError, networkError } from "./errors";

/** Called as bytes arrive; `total` is undefined when the server did not say or sends the file compressed. */
export type OnBytes = (loaded: number, total: number | undefined) => void;

/** The response for a file, or an error in words. `what` names the file's role ("kernel"). */
export async function request(what: string, url: string): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url);
  } catch (cause) {
    throw networkError(what, url, cause);
  }
  if (!response.ok) throw httpError(what, url, response.status);
  if (response.headers.get("content-type")?.startsWith("text/html")) throw htmlError(what, url);
  return response;
}

/** The size that the server announces for the bytes that will arrive. */
export function announced(headers: Headers): number | undefined {
  if (headers.has("content-encoding")) return undefined;
  const length = Number(headers.get("content-length") ?? NaN);
  return Number.isFinite(length) && length > 0 ? length : undefined;
}

/** The same response, counted as it is read. */
export function counted(response: Response, onBytes: OnBytes): Response {
  const total = announced(response.headers);
  let loaded = 0;
  const counter = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
    transform(chunk, controller) {
      loaded += chunk.byteLength;
      onBytes(loaded, total);
      controller.enqueue(chunk);
    },
  });
  onBytes(0, total);
  return new Response(response.body?.pipeThrough(counter) ?? null, { headers: response.headers });
}

/** A file's bytes. */
export async function download(what: string, url: string, onBytes: OnBytes): Promise<ArrayBuffer> {
  const response = await request(what, url);
  try {
    return await counted(response, onBytes).arrayBuffer();
  } catch (cause) {
    throw networkError(what, url, cause);
  }
}

/** The bytes of a file that the user chose. */
export async function readFile(what: string, file: Blob, onBytes: OnBytes): Promise<ArrayBuffer> {
  onBytes(0, file.size);
  try {
    const bytes = await file.arrayBuffer();
    onBytes(file.size, file.size);
    return bytes;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new AeroError(`The ${what} could not be read: ${why}.`, "Choose the file again.");
  }
}

/** The emulator's module, compiled while it arrives. */
export async function compile(url: string, onBytes: OnBytes): Promise<WebAssembly.Module> {
  const response = counted(await request("emulator", url), onBytes);
  if (response.headers.get("content-type") !== "application/wasm") {
    return WebAssembly.compile(await response.arrayBuffer());
  }
  return WebAssembly.compileStreaming(response);
}
