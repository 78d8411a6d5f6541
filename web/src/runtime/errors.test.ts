import { describe, expect, it } from "vitest";
import { AeroError, asAeroError, buildError, httpError, memoryRefused, networkError } from "./errors";

describe("error texts", () => {
  it("names the file, its address and the status of a 404", () => {
    const error = httpError("kernel", "/k", 404);
    expect(error.message).toBe("The kernel was not found: /k (404).");
    expect(error.cure).toContain("cargo xtask guests");
  });

  it("mentions CORS when a file cannot be fetched", () => {
    expect(networkError("initrd", "https://elsewhere/i", new TypeError("Failed to fetch")).cure).toContain("CORS");
  });

  it("says what to do about a machine that cannot be built", () => {
    expect(buildError("the kernel is not a bzImage").cure).toContain("vmlinuz");
    expect(buildError("initrd of 900 MiB does not fit in 512 MiB").cure).toContain("more memory");
    expect(buildError("the host has no 3000 MiB for guest memory").cure).toContain("less memory");
  });

  it("keeps an error that is already in words", () => {
    const error = new AeroError("a", "b");
    expect(asAeroError(error)).toBe(error);
    expect(asAeroError("text").message).toBe("text");
    expect(memoryRefused(new RangeError("no")).message).toContain("no");
  });
});
