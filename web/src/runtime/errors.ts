/** A failure in words for the person at the page: what is wrong and why (`message`), and what to do (`cure`). */
export class AeroError extends Error {
  constructor(
    message: string,
    readonly cure: string = "",
  ) {
    super(message);
    this.name = "AeroError";
  }
}

/** Any thrown value as an `AeroError`. */
export function asAeroError(error: unknown): AeroError {
  if (error instanceof AeroError) return error;
  return new AeroError(error instanceof Error ? error.message : String(error));
}

/** A file that the server answered with an error status. */
export function httpError(what: string, url: string, status: number): AeroError {
  if (status === 404) {
    return new AeroError(
      `The ${what} was not found: ${url} (404).`,
      "Check the address. The built-in guests are made by “cargo xtask guests”.",
    );
  }
  return new AeroError(`The ${what} could not be loaded: ${url} answered ${status}.`, "Try again later.");
}

/** A file that could not be fetched at all. */
export function networkError(what: string, url: string, cause: unknown): AeroError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new AeroError(
    `The ${what} could not be loaded from ${url}: ${why}.`,
    "Check the connection. A file from another site must be sent with CORS headers " +
      "(Access-Control-Allow-Origin) or Cross-Origin-Resource-Policy.",
  );
}

/** A page of HTML where a file was expected: what servers send for an address they do not know. */
export function htmlError(what: string, url: string): AeroError {
  return new AeroError(
    `The ${what} is a web page, not a file: ${url}.`,
    "Check the address; the server probably has no such file.",
  );
}

const CURES: readonly (readonly [RegExp, string])[] = [
  [/initrd|initramfs/i, "Give the guest more memory, or choose a smaller initrd."],
  [/bzimage|kernel/i, "Choose a Linux kernel in bzImage form, such as Debian's /boot/vmlinuz-… file."],
  [/memory/i, "Choose less memory for the guest, or close other tabs and try again."],
];

/** What the machine's own one-line message leaves open: what to do. */
export function buildError(message: string): AeroError {
  const cure = CURES.find(([pattern]) => pattern.test(message))?.[1] ?? "";
  return new AeroError(`The machine could not be built: ${message}`, cure);
}

/** The browser refused the emulator's shared memory. */
export function memoryRefused(cause: unknown): AeroError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new AeroError(
    `The browser gave no shared memory to the emulator: ${why}.`,
    "Close other tabs and reload; on a phone, try a computer.",
  );
}
