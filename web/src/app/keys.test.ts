import { describe, expect, it } from "vitest";
import { isWayOut, Keyboard } from "./keys";

const key = (code: string) => ({ code, ctrlKey: false, altKey: false, isComposing: false });

function setup() {
  const sent: string[] = [];
  const keyboard = new Keyboard({ key: (code, pressed) => sent.push(`${code} ${pressed ? "down" : "up"}`) });
  return { sent, keyboard };
}

describe("Keyboard", () => {
  it("passes presses, repeats and releases on", () => {
    const { sent, keyboard } = setup();
    keyboard.press(key("KeyA"));
    keyboard.press(key("KeyA"));
    keyboard.release(key("KeyA"));
    expect(sent).toEqual(["KeyA down", "KeyA down", "KeyA up"]);
  });

  it("leaves no key down when the focus goes", () => {
    const { sent, keyboard } = setup();
    keyboard.press(key("ControlLeft"));
    keyboard.press(key("AltLeft"));
    keyboard.releaseAll();
    keyboard.releaseAll();
    expect(sent.slice(2)).toEqual(["ControlLeft up", "AltLeft up"]);
  });

  it("sends no release of a key that went down elsewhere", () => {
    const { sent, keyboard } = setup();
    expect(keyboard.release(key("Enter"))).toBe(false);
    expect(sent).toEqual([]);
  });

  it("leaves keys without a code, and composed text, to the browser", () => {
    const { sent, keyboard } = setup();
    expect(keyboard.press(key(""))).toBe(false);
    expect(keyboard.press({ ...key("KeyA"), isComposing: true })).toBe(false);
    expect(sent).toEqual([]);
  });
});

describe("isWayOut", () => {
  it("is Ctrl+Alt+G", () => {
    expect(isWayOut({ ...key("KeyG"), ctrlKey: true, altKey: true })).toBe(true);
    expect(isWayOut({ ...key("KeyG"), ctrlKey: true })).toBe(false);
  });
});
