import { describe, expect, it } from "vitest";
import { combine, type Progress, Tally } from "./progress";

describe("combine", () => {
  it("weighs parts by their sizes", () => {
    const parts = [
      { loaded: 10, total: 10 },
      { loaded: 0, total: 30 },
    ];
    expect(combine("x", parts)).toEqual({ what: "x", loaded: 10, fraction: 0.25 });
  });

  it("has no fraction while a size is unknown", () => {
    const parts = [
      { loaded: 5, total: undefined },
      { loaded: 1, total: 2 },
    ];
    expect(combine("x", parts).fraction).toBeUndefined();
    expect(combine("x", []).fraction).toBeUndefined();
  });

  it("never passes 1 when more arrives than was announced", () => {
    expect(combine("x", [{ loaded: 20, total: 10 }]).fraction).toBe(1);
  });
});

describe("Tally", () => {
  it("reports the sum at every step", () => {
    const seen: Progress[] = [];
    const tally = new Tally("Loading", (progress) => seen.push(progress));
    tally.set("a", 0, 50);
    tally.set("b", 25, 50);
    tally.set("a", 50, 50);
    expect(seen.map((progress) => progress.fraction)).toEqual([0, 0.25, 0.75]);
  });
});
