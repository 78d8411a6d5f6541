import { describe, expect, it } from "vitest";
import { withMemory } from "./memory";

const memory = {} as WebAssembly.Memory;

describe("withMemory", () => {
  it("leaves the memory to the module where the browser allows it", async () => {
    expect(await withMemory((given) => Promise.resolve(given))).toBeUndefined();
  });

  it("asks for less until the browser agrees", async () => {
    const asked: number[] = [];
    const result = await withMemory(
      (given) => (given === undefined ? Promise.reject(new RangeError("too large")) : Promise.resolve(given)),
      ({ initial, maximum }) => {
        asked.push(maximum ?? 0);
        expect(initial).toBeLessThan(maximum ?? 0);
        if ((maximum ?? 0) > 10_000) throw new RangeError("too large");
        return memory;
      },
    );
    expect(asked).toEqual([32768, 16384, 8192]);
    expect(result).toBe(memory);
  });

  it("gives up in words", async () => {
    const refuse = (): never => {
      throw new RangeError("no room");
    };
    await expect(withMemory(refuse, refuse)).rejects.toThrow("gave no shared memory to the emulator: no room");
  });

  it("does not hide other failures", async () => {
    await expect(withMemory(() => Promise.reject(new TypeError("bug")))).rejects.toThrow(TypeError);
  });
});
