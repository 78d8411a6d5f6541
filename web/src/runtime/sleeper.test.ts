import { describe, expect, it } from "vitest";
import { Sleeper } from "./sleeper";

const slept = (sleeper: Sleeper, ms: number): Promise<void> => new Promise((resolve) => sleeper.sleep(ms, resolve));

describe("Sleeper", () => {
  it("sleeps for the given time", async () => {
    const start = performance.now();
    await slept(new Sleeper(), 20);
    expect(performance.now() - start).toBeGreaterThan(15);
  });

  it("wakes early from a sleep without end", async () => {
    const sleeper = new Sleeper();
    const sleep = slept(sleeper, Infinity);
    sleeper.wake();
    await sleep;
  });

  it("may be woken when it is awake", () => {
    new Sleeper().wake();
  });
});
