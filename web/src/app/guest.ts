/** The built-in guests: directories under `/guests/`, each with a `guest.json` that `cargo xtask guests` writes. */
import { parseMemory } from "../api/options";
import { AeroError } from "../runtime/errors";
import { request } from "../runtime/download";

export interface Guest {
  /** Absolute addresses. */
  kernel: string;
  initrd: string | undefined;
  append: string;
  /** MiB. */
  memory: number | undefined;
}

/** The names that the page offers. */
export const GUESTS = [
  { name: "default", title: "Debian, 64-bit (amd64)" },
  { name: "i386", title: "Debian, 32-bit (686)" },
  { name: "pae", title: "Debian, 32-bit PAE (686-pae)" },
] as const;

/** Reads a `guest.json` that came from `base`; file names in it are relative to it. */
export function parseGuest(json: unknown, base: string): Guest {
  const bad = (what: string): AeroError =>
    new AeroError(`${base} ${what}.`, "Build the guests again with “cargo xtask guests”.");
  if (typeof json !== "object" || json === null) throw bad("is not a JSON object");
  const fields = json as Record<string, unknown>;
  const text = (key: string): string | undefined => {
    const value = fields[key];
    if (value === undefined || value === null) return undefined;
    if (typeof value !== "string") throw bad(`has a “${key}” that is not text`);
    return value;
  };
  const file = (name: string | undefined): string | undefined => name && new URL(name, base).href;
  const kernel = file(text("kernel"));
  if (kernel === undefined) throw bad("names no kernel");
  return { kernel, initrd: file(text("initrd")), append: text("append") ?? "", memory: memoryOf(fields["memory"]) };
}

function memoryOf(value: unknown): number | undefined {
  return typeof value === "number" || typeof value === "string" ? parseMemory(String(value)) : undefined;
}

/** Fetches a built-in guest's description. */
export async function fetchGuest(name: string): Promise<Guest> {
  if (!/^[\w-]+$/.test(name)) throw new AeroError(`“${name}” is not a guest's name.`, "Try guest=default.");
  const base = new URL(`/guests/${name}/guest.json`, location.href).href;
  const response = await request(`guest “${name}”`, base);
  const json: unknown = await response.json().catch(() => undefined);
  return parseGuest(json, base);
}
