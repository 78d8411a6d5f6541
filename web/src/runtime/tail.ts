/** The last bytes of a stream, at most `limit` of them. */
export class Tail {
  #chunks: Uint8Array[] = [];
  #length = 0;

  constructor(private readonly limit = 256 * 1024) {}

  push(bytes: Uint8Array): void {
    this.#chunks.push(bytes);
    this.#length += bytes.length;
    while (this.#length - (this.#chunks[0]?.length ?? 0) >= this.limit) {
      this.#length -= this.#chunks.shift()?.length ?? 0;
    }
  }

  clear(): void {
    this.#chunks = [];
    this.#length = 0;
  }

  /** A copy, in one piece. */
  bytes(): Uint8Array<ArrayBuffer> {
    const all = new Uint8Array(this.#length);
    let at = 0;
    for (const chunk of this.#chunks) {
      all.set(chunk, at);
      at += chunk.length;
    }
    const whole = all.subarray(Math.max(0, all.length - this.limit));
    this.#chunks = [whole];
    this.#length = whole.length;
    return whole.slice();
  }
}
