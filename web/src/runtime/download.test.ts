import { afterEach, describe, expect, it, vi } from "vitest";
import { announced, download, readFile } from "./download";

const answer = (body: string, init: ResponseInit = {}): void => {
  vi.stubGlobal("fetch", () => Promise.resolve(new Response(body, init)));
};

afterEach(() => {
  vi.unstubAllGlobals();
});

describe("download", () => {
  it("returns the bytes and counts them", async () => {
    answer("12345", { headers: { "content-length": "5" } });
    const steps: [number, number | undefined][] = [];
    const bytes = await download("kernel", "/k", (loaded, total) => steps.push([loaded, total]));
    expect(new TextDecoder().decode(bytes)).toBe("12345");
    expect(steps).toEqual([
      [0, 5],
      [5, 5],
    ]);
  });

  it("says so when the file is not there", async () => {
    answer("", { status: 404 });
    await expect(download("initrd", "/i", () => undefined)).rejects.toThrow("The initrd was not found: /i (404).");
  });

  it("recognises a page in place of a file", async () => {
    answer("<!doctype html>", { headers: { "content-type": "text/html; charset=utf-8" } });
    await expect(download("kernel", "/k", () => undefined)).rejects.toThrow("is a web page");
  });

  it("says so when there is no connection", async () => {
    vi.stubGlobal("fetch", () => Promise.reject(new TypeError("Failed to fetch")));
    await expect(download("kernel", "/k", () => undefined)).rejects.toThrow("Failed to fetch");
  });
});

describe("announced", () => {
  it("trusts no length of a compressed body", () => {
    expect(announced(new Headers({ "content-length": "7" }))).toBe(7);
    expect(announced(new Headers({ "content-length": "7", "content-encoding": "gzip" }))).toBeUndefined();
    expect(announced(new Headers())).toBeUndefined();
  });
});

describe("readFile", () => {
  it("reads what the user chose", async () => {
    const bytes = await readFile("kernel", new Blob(["abc"]), () => undefined);
    expect(bytes.byteLength).toBe(3);
  });
});
