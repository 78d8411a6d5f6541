/** The page's settings, as a link carries them. */
import { parseMemory } from "../api/options";

export interface Settings {
  /** A built-in guest's name. */
  guest?: string;
  kernel?: string;
  initrd?: string;
  append?: string;
  /** MiB. */
  memory?: number;
  cpu?: string;
  jit?: string;
  clock?: string;
  /** Seconds since 1970. */
  rtc?: number;
  autostart: boolean;
}

const ON = new Set(["", "1", "true", "yes", "on"]);

/** Reads `?guest=…&kernel=URL&initrd=URL&append=…&memory=512&cpu=win7&jit=full&clock=icount=100&rtc=…&autostart=1`. */
export function parseSettings(search: string): Settings {
  const params = new URLSearchParams(search);
  const settings: Settings = { autostart: ON.has(params.get("autostart") ?? "0") };
  for (const key of ["guest", "kernel", "initrd", "append", "cpu", "jit", "clock"] as const) {
    const value = params.get(key);
    if (value !== null && value !== "") settings[key] = value;
  }
  const memory = params.get("memory");
  if (memory !== null) settings.memory = parseMemory(memory);
  const rtc = Number(params.get("rtc") ?? NaN);
  if (Number.isSafeInteger(rtc) && rtc >= 0) settings.rtc = rtc;
  return settings;
}
