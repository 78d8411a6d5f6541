import { describe, expect, it } from "vitest";
import { machineConfig, parseClock, parseCpu, parseJit, parseMemory } from "./options";

describe("parseClock", () => {
  it("reads the forms that the terminal program reads", () => {
    expect(parseClock("realtime")).toEqual({ kind: "realtime" });
    expect(parseClock("icount")).toEqual({ kind: "icount", mips: 100 });
    expect(parseClock("icount=250")).toEqual({ kind: "icount", mips: 250 });
  });

  it.each(["", "icount=", "icount=0", "icount=-1", "fast"])("refuses “%s” in words", (text) => {
    expect(() => parseClock(text)).toThrow("is not known");
  });
});

describe("parseCpu", () => {
  it("reads the forms that the terminal program reads", () => {
    expect(parseCpu("core2")).toEqual({ model: "core2", strict_msr: false });
    expect(parseCpu("max,strict-msr")).toEqual({ model: "max", strict_msr: true });
  });

  it("refuses other words behind the model", () => {
    expect(() => parseCpu("max,fast")).toThrow("is not known");
  });
});

describe("parseJit", () => {
  it("reads the forms that the terminal program reads", () => {
    expect(parseJit("off")).toEqual({ tier: "off", threshold: null, exact: false });
    expect(parseJit("full,threshold=1")).toEqual({ tier: "full", threshold: 1, exact: false });
  });

  it.each(["", "on", "full,fast", "full,threshold=0", "full,threshold=", "full,threshold=4294967296"])(
    "refuses “%s” in words",
    (text) => {
      expect(() => parseJit(text)).toThrow("is not known");
    },
  );
});

describe("parseMemory", () => {
  it.each([
    ["512", 512],
    ["512M", 512],
    ["1G", 1024],
    ["1.5g", 1536],
    ["2048K", 2],
    ["1GiB", 1024],
  ])("reads %s as %d MiB", (text, mib) => {
    expect(parseMemory(text)).toBe(mib);
  });

  it.each(["", "0", "much", "-5", "1T"])("refuses “%s” in words", (text) => {
    expect(() => parseMemory(text)).toThrow("is not a size");
  });
});

describe("machineConfig", () => {
  it("follows the host unless told otherwise", () => {
    expect(machineConfig({}, 5_999)).toEqual({
      memory: 512 << 20,
      clock: { kind: "realtime" },
      rtc: 5,
      debug_exit: null,
      debugcon: [],
      vga: true,
    });
  });

  it("names a processor only when it is told one", () => {
    expect(machineConfig({})).not.toHaveProperty("cpu");
    expect(machineConfig({ cpu: "max" }).cpu).toEqual({ model: "max", strict_msr: false });
  });

  it("leaves the date of a repeatable run to the machine", () => {
    expect(machineConfig({ clock: "icount" })).not.toHaveProperty("rtc");
    expect(machineConfig({ clock: "icount", rtc: 7 }).rtc).toBe(7);
  });
});
