import { assert } from '../errors.js';

/** Room for a body whose length is unknown, in bytes. It doubles as needed. */
const ROOM_FIRST = 4 * 1024;

/** Puts the pieces of a body together. Costs what has arrived (twice that at most), not what was announced. */
export class ByteCollector {
  #bytes = new Uint8Array(0);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** Takes a copy of a piece. `announced` is the length that the whole body is said to have, null if unknown. */
  add(piece: Uint8Array, announced: number | null): void {
    const length = this.#length + piece.length;
    assert(announced === null || length <= announced, 'no more arrives than was announced');
    if (length > this.#bytes.length) {
      const doubled = Math.max(length, 2 * this.#bytes.length, ROOM_FIRST);
      const grown = new Uint8Array(announced === null ? doubled : Math.min(doubled, announced));
      grown.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = grown;
    }
    this.#bytes.set(piece, this.#length);
    this.#length = length;
  }

  /** All that was added; valid until the next `add`. */
  take(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }
}
