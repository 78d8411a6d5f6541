import { describe, expect, it } from "vitest";
import { parseGuest } from "./guest";

const base = "http://host/guests/default/guest.json";

describe("parseGuest", () => {
  it("resolves file names against the description", () => {
    const json = { name: "default", kernel: "kernel", initrd: "initrd", append: "console=ttyS0", memory: 512 };
    expect(parseGuest(json, base)).toEqual({
      kernel: "http://host/guests/default/kernel",
      initrd: "http://host/guests/default/initrd",
      append: "console=ttyS0",
      memory: 512,
    });
  });

  it("needs nothing but a kernel", () => {
    const guest = parseGuest({ kernel: "k" }, base);
    expect([guest.initrd, guest.append, guest.memory]).toEqual([undefined, "", undefined]);
  });

  it.each([
    [undefined, "is not a JSON object"],
    [{}, "names no kernel"],
    [{ kernel: 5 }, "“kernel” that is not text"],
    [{ kernel: "k", memory: "?" }, "is not a size"],
  ])("refuses %j in words", (json, words) => {
    expect(() => parseGuest(json, base)).toThrow(words);
  });
});
