/**
 * Sleep that input can end, without blocking the worker: a worker in `Atomics.wait` hears nothing. `waitAsync` has no
 * lower limit; a timer, the substitute, waits 4 ms at least.
 */
export class Sleeper {
  readonly #word = new Int32Array(new SharedArrayBuffer(4));
  #pending: (() => void) | undefined;

  /** Runs `turn` after `ms` (which may be infinite), or soon after `wake`. */
  sleep(ms: number, turn: () => void): void {
    let done = false;
    const finish = (): void => {
      if (done) return;
      done = true;
      this.#pending = undefined;
      turn();
    };
    if (typeof Atomics.waitAsync !== "function") {
      const timer = Number.isFinite(ms) ? setTimeout(finish, ms) : undefined;
      this.#pending = () => {
        clearTimeout(timer);
        queueMicrotask(finish);
      };
      return;
    }
    const wait = Atomics.waitAsync(this.#word, 0, 0, ms);
    this.#pending = () => Atomics.notify(this.#word, 0);
    if (wait.async) void wait.value.then(finish);
    else setTimeout(finish, 0);
  }

  /** Ends the sleep, if there is one. */
  wake(): void {
    this.#pending?.();
  }
}
