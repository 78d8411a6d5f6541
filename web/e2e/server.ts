/** A small static server, for what the project's own server never does: leave out the isolation headers. */
import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";

const TYPES: Record<string, string> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".wasm": "application/wasm",
  ".json": "application/json",
};

const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};

export interface Running {
  url: string;
  close(): Promise<void>;
}

/** Serves `mounts` (path prefix to folder, longest prefix first) on a free port of this computer. */
export async function serve(mounts: readonly (readonly [string, string])[], isolated: boolean): Promise<Running> {
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url ?? "/", "http://localhost").pathname));
    const mount = mounts.find(([prefix]) => path.startsWith(prefix));
    const rest = mount && path.slice(mount[0].length);
    const file = mount && join(mount[1], rest === "" ? "index.html" : (rest ?? ""));
    try {
      const body = await readFile(file ?? "");
      const type = TYPES[extname(file ?? "")] ?? "application/octet-stream";
      response.writeHead(200, { "Content-Type": type, "Content-Length": body.length, ...(isolated && ISOLATION) });
      response.end(body);
    } catch {
      response.writeHead(404).end("not found");
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return { url: `http://localhost:${port}`, close: () => closed(server) };
}

function closed(server: Server): Promise<void> {
  server.closeAllConnections();
  return new Promise((resolve) => server.close(() => resolve()));
}
