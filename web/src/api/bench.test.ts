import { describe, expect, it } from "vitest";
import { guestCpuOrder } from "./bench";

describe("guestCpuOrder", () => {
  it("leaves out what the emulator has defaults for", () => {
    expect(guestCpuOrder({})).toEqual({ options: "{}", jit: undefined });
  });

  it("reads processor and way to compile as the page's link does", () => {
    const { options, jit } = guestCpuOrder({ only: ["alu"], seconds: 0.5, cpu: "max", jit: "full,threshold=2" });
    expect(jit).toEqual({ tier: "full", threshold: 2, exact: false });
    expect(JSON.parse(options)).toEqual({ only: ["alu"], seconds: 0.5, cpu: { model: "max", strict_msr: false }, jit });
    expect(() => guestCpuOrder({ jit: "on" })).toThrow("is not known");
  });
});
