/** What the page shows, and what its buttons do. */
import { computed, signal } from "@preact/signals";
import { Aero, bench, type AeroOptions, type Progress, type Source, type State, type Stats } from "../api";
import { type AeroError, asAeroError } from "../runtime/errors";
import { missing, environment } from "../runtime/features";
import { fetchGuest } from "./guest";
import { parseSettings, type Settings } from "./settings";

/** What the user chose to boot. */
export interface Choice {
  /** A built-in guest; empty for own files. */
  guest: string;
  kernel: Source | undefined;
  initrd: Source | undefined;
  append: string | undefined;
  /** MiB; undefined for the guest's own size. */
  memory: number | undefined;
}

declare global {
  interface Window {
    /** The machine in this page; before there is one, measurements only. */
    aero?: Aero | Pick<Aero, "bench">;
  }
}

export const aero = signal<Aero | undefined>(undefined);
export const state = signal<State>("stopped");
export const stats = signal<Stats | undefined>(undefined);
export const progress = signal<Progress | undefined>(undefined);
export const problem = signal<AeroError | undefined>(undefined);
export const choice = signal<Choice>({
  guest: "default",
  kernel: undefined,
  initrd: undefined,
  append: undefined,
  memory: undefined,
});

/** Whether a machine exists or is being made. */
export const busy = computed(() => state.value !== "stopped" && state.value !== "failed");
export const ready = computed(() => choice.value.guest !== "" || choice.value.kernel !== undefined);

let settings: Settings = { autostart: false };
let screen: HTMLElement | undefined;

/** Takes the settings from the link, and starts if it says so. */
export function begin(element: HTMLElement): void {
  screen = element;
  window.aero ??= { bench };
  try {
    const lacking = missing(environment());
    if (lacking[0] !== undefined) throw lacking[0];
    settings = parseSettings(location.search);
    choice.value = fromSettings(settings);
    if (settings.autostart) void start();
  } catch (error) {
    show(error);
  }
}

function fromSettings(link: Settings): Choice {
  const source = (url: string | undefined): Source | undefined => (url === undefined ? undefined : { url });
  return {
    guest: link.guest ?? (link.kernel === undefined ? "default" : ""),
    kernel: source(link.kernel),
    initrd: source(link.initrd),
    append: link.append,
    memory: link.memory,
  };
}

/** Changes the choice. */
export function choose(change: Partial<Choice>): void {
  choice.value = { ...choice.value, ...change };
}

/** Starts a new machine, or lets the one there is go on. */
export async function start(): Promise<void> {
  problem.value = undefined;
  try {
    if (state.value === "paused" && aero.value) await aero.value.start();
    else await boot();
  } catch (error) {
    show(error);
  }
}

async function boot(): Promise<void> {
  if (screen === undefined) return;
  await discard();
  setState("booting");
  progress.value = { what: "Loading", fraction: undefined, loaded: 0 };
  try {
    const made = await Aero.create(await options(screen, choice.value));
    adopt(made);
    await made.start();
  } finally {
    progress.value = undefined;
  }
}

async function discard(): Promise<void> {
  await aero.value?.powerOff();
  aero.value = undefined;
  stats.value = undefined;
}

/** The link's and the form's settings over the guest's own. */
async function options(container: HTMLElement, chosen: Choice): Promise<AeroOptions> {
  const guest = chosen.guest === "" ? undefined : await fetchGuest(chosen.guest);
  const kernel = chosen.kernel ?? (guest && { url: guest.kernel });
  if (kernel === undefined) throw new Error("There is nothing to boot: choose a guest or a kernel file.");
  const initrd = chosen.initrd ?? (guest?.initrd === undefined ? undefined : { url: guest.initrd });
  const append = chosen.append ?? guest?.append;
  const memory = chosen.memory ?? guest?.memory;
  return {
    container,
    kernel,
    ...(initrd && { initrd }),
    ...(append !== undefined && { append }),
    ...(memory !== undefined && { memory }),
    ...(settings.cpu !== undefined && { cpu: settings.cpu }),
    ...(settings.jit !== undefined && { jit: settings.jit }),
    ...(settings.clock !== undefined && { clock: settings.clock }),
    ...(settings.rtc !== undefined && { rtc: settings.rtc }),
    onProgress: (step) => {
      progress.value = step;
    },
  };
}

function adopt(made: Aero): void {
  made.on("state", (now) => {
    state.value = now;
  });
  made.on("stats", (now) => {
    stats.value = now;
  });
  made.on("error", show);
  aero.value = made;
  window.aero = made;
}

function setState(now: State): void {
  state.value = now;
  if (screen) screen.dataset["state"] = now;
}

function show(error: unknown): void {
  problem.value = asAeroError(error);
  setState("failed");
}

export async function pause(): Promise<void> {
  await aero.value?.pause();
}

export async function reset(): Promise<void> {
  problem.value = undefined;
  await aero.value?.reset().catch(show);
}

export async function powerOff(): Promise<void> {
  problem.value = undefined;
  await discard();
  setState("stopped");
}
