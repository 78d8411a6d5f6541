/** Sends the keyboard to the guest while the screen has the focus. */

export interface KeySink {
  key(code: string, pressed: boolean): void;
}

/** The parts of a `KeyboardEvent` that are read. */
export interface Key {
  code: string;
  ctrlKey: boolean;
  altKey: boolean;
  isComposing: boolean;
}

/** Ctrl+Alt+G gives the keyboard back to the page. */
export function isWayOut(key: Key): boolean {
  return key.code === "KeyG" && key.ctrlKey && key.altKey;
}

/** Which keys the guest believes to be down, so that none stays down when the focus leaves. */
export class Keyboard {
  readonly #down = new Set<string>();

  constructor(private readonly sink: KeySink) {}

  /** Returns whether the guest got the key. */
  press(key: Key): boolean {
    if (key.code === "" || key.code === "Unidentified" || key.isComposing) return false;
    this.#down.add(key.code);
    this.sink.key(key.code, true);
    return true;
  }

  release(key: Key): boolean {
    if (!this.#down.delete(key.code)) return false;
    this.sink.key(key.code, false);
    return true;
  }

  releaseAll(): void {
    for (const code of this.#down) this.sink.key(code, false);
    this.#down.clear();
  }
}

/** Captures the keyboard for `element`; the returned function ends it. */
export function capture(element: HTMLElement, sink: KeySink): () => void {
  const keyboard = new Keyboard(sink);
  const ending = new AbortController();
  const { signal } = ending;
  const down = (event: KeyboardEvent): void => {
    if (isWayOut(event)) element.blur();
    else if (!keyboard.press(event)) return;
    event.preventDefault();
  };
  const up = (event: KeyboardEvent): void => {
    if (keyboard.release(event)) event.preventDefault();
  };
  element.addEventListener("keydown", down, { signal });
  element.addEventListener("keyup", up, { signal });
  element.addEventListener("blur", () => keyboard.releaseAll(), { signal });
  window.addEventListener("blur", () => keyboard.releaseAll(), { signal });
  return () => {
    keyboard.releaseAll();
    ending.abort();
  };
}
