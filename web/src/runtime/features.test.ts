import { describe, expect, it } from "vitest";
import { environment, hasTailCalls, missing, requireFeatures } from "./features";

const complete = {
  crossOriginIsolated: true,
  isSecureContext: true,
  hasWorker: true,
  hasSharedArrayBuffer: true,
  hasOffscreenCanvas: true,
  validate: () => true,
};

const messages = (change: Partial<typeof complete>): string =>
  missing({ ...complete, ...change })
    .map((problem) => `${problem.message} ${problem.cure}`)
    .join("\n");

describe("missing", () => {
  it("finds nothing in a complete browser", () => {
    expect(missing(complete)).toEqual([]);
    expect(() => requireFeatures(complete)).not.toThrow();
  });

  it("explains a page without cross-origin isolation, and does not blame the browser for it", () => {
    const text = messages({ crossOriginIsolated: false, hasSharedArrayBuffer: false });
    expect(text).toContain("not cross-origin isolated");
    expect(text).toContain("Cross-Origin-Opener-Policy: same-origin");
    expect(text).not.toContain("has no SharedArrayBuffer");
  });

  it("explains plain http", () => {
    expect(messages({ crossOriginIsolated: false, isSecureContext: false })).toContain("https");
  });

  it("names what an old browser lacks", () => {
    expect(messages({ hasSharedArrayBuffer: false })).toContain("SharedArrayBuffer");
    expect(messages({ hasOffscreenCanvas: false })).toContain("OffscreenCanvas");
    const text = messages({ validate: () => false });
    expect(text).toContain("no threads");
    expect(text).toContain("no SIMD");
  });

  it("throws everything as one error", () => {
    expect(() => requireFeatures({ ...complete, hasWorker: false, hasOffscreenCanvas: false })).toThrow(
      /web workers.*OffscreenCanvas/,
    );
  });

  it("tests with modules that a real engine accepts", () => {
    const { validate } = environment();
    expect(missing({ ...complete, validate })).toEqual([]);
  });
});

describe("hasTailCalls", () => {
  it("asks the engine, with a module that a real one accepts", () => {
    expect(hasTailCalls()).toBe(true);
    expect(hasTailCalls({ validate: () => false })).toBe(false);
    expect(hasTailCalls({ validate: undefined })).toBe(false);
  });
});
