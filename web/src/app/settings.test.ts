import { describe, expect, it } from "vitest";
import { parseSettings } from "./settings";

describe("parseSettings", () => {
  it("is empty without parameters", () => {
    expect(parseSettings("")).toEqual({ autostart: false });
  });

  it("reads every parameter", () => {
    const link = "?kernel=/k&initrd=/i&append=console%3DttyS0+quiet&memory=1G&cpu=max&jit=baseline,threshold=1&clock=icount=100&rtc=7&autostart=1";
    expect(parseSettings(link)).toEqual({
      kernel: "/k",
      initrd: "/i",
      append: "console=ttyS0 quiet",
      memory: 1024,
      cpu: "max",
      jit: "baseline,threshold=1",
      clock: "icount=100",
      rtc: 7,
      autostart: true,
    });
  });

  it.each([
    ["?autostart", true],
    ["?autostart=0", false],
    ["?autostart=true", true],
  ])("reads %s", (link, on) => {
    expect(parseSettings(link).autostart).toBe(on);
  });

  it("refuses a memory size in words", () => {
    expect(() => parseSettings("?memory=lots")).toThrow("“lots” is not a size");
  });
});
