import { describe, expect, it } from "vitest";
import { Tail } from "./tail";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (tail: Tail): string => new TextDecoder().decode(tail.bytes());

describe("Tail", () => {
  it("keeps everything while it fits", () => {
    const tail = new Tail(8);
    tail.push(bytes("abc"));
    tail.push(bytes("de"));
    expect(text(tail)).toBe("abcde");
    expect(text(tail)).toBe("abcde");
  });

  it("keeps the last bytes when it does not", () => {
    const tail = new Tail(4);
    for (const piece of ["abc", "de", "f"]) tail.push(bytes(piece));
    expect(text(tail)).toBe("cdef");
    tail.push(bytes("0123456789"));
    expect(text(tail)).toBe("6789");
    tail.clear();
    expect(text(tail)).toBe("");
  });
});
