/** How far one of several downloads has come. */
export interface Part {
  /** Bytes so far. */
  loaded: number;
  /** Bytes in all; undefined while the server has not said. */
  total: number | undefined;
}

/** How far loading has come. */
export interface Progress {
  /** What is being done, in a few words. */
  what: string;
  /** From 0 to 1; undefined when it cannot be said. */
  fraction: number | undefined;
  loaded: number;
}

/** The progress of several parts as one. A part of unknown size makes the whole unknown. */
export function combine(what: string, parts: Iterable<Part>): Progress {
  let loaded = 0;
  let total: number | undefined = 0;
  for (const part of parts) {
    loaded += part.loaded;
    total = total === undefined || part.total === undefined ? undefined : total + Math.max(part.total, part.loaded);
  }
  return { what, loaded, fraction: total === undefined || total === 0 ? undefined : loaded / total };
}

/** Adds up several downloads and reports each step. */
export class Tally {
  readonly #parts = new Map<string, Part>();

  constructor(
    private readonly what: string,
    private readonly report: (progress: Progress) => unknown,
  ) {}

  /** Notes how far the part called `name` is. */
  set(name: string, loaded: number, total: number | undefined): void {
    this.#parts.set(name, { loaded, total });
    this.report(combine(this.what, this.#parts.values()));
  }
}
