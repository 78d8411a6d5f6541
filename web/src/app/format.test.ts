import { describe, expect, it } from "vitest";
import { formatBytes, formatMips, formatUptime, roleOf } from "./format";

describe("format", () => {
  it("writes sizes", () => {
    expect([0, 1536, 600 << 20, 1.5 * 2 ** 30].map(formatBytes)).toEqual(["0 B", "1.5 KiB", "600 MiB", "1.5 GiB"]);
  });

  it("writes speeds and times", () => {
    expect([formatMips(3.14), formatMips(82.6)]).toEqual(["3.1 MIPS", "83 MIPS"]);
    expect([5, 65.9, 3661].map(formatUptime)).toEqual(["00:05", "01:05", "1:01:01"]);
  });
});

describe("roleOf", () => {
  it.each([
    ["vmlinuz-6.1.0-37-amd64", "kernel"],
    ["bzImage", "kernel"],
    ["initrd.img-6.1.0-37-amd64", "initrd"],
    ["rootfs.cpio.gz", "initrd"],
    ["mystery", undefined],
  ])("takes %s for %s", (name, role) => {
    expect(roleOf(name)).toBe(role);
  });
});
