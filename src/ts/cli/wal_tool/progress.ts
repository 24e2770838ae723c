/** Tells somebody at a terminal how far a long reading is. */
import type { WriteStream } from 'node:tty';

const INTERVAL_MS = 500;
const MEBIBYTE = 1024 * 1024;

export class Progress {
  private readonly stream: WriteStream;
  private shown_ms = performance.now();
  private shown = false;
  private read_bytes = 0;

  constructor(stream: WriteStream) {
    this.stream = stream;
  }

  /** `done` of `count` segments are read, the last one of `bytes`. */
  advance(done: number, count: number, bytes: number): void {
    this.read_bytes += bytes;
    const now_ms = performance.now();
    if (this.stream.isTTY !== true || now_ms - this.shown_ms < INTERVAL_MS) return;
    this.shown_ms = now_ms;
    this.shown = true;
    this.stream.write(`\r${done} of ${count} segments, ${Math.round(this.read_bytes / MEBIBYTE)} MiB`);
  }

  /** Removes the line. */
  end(): void {
    if (this.shown) this.stream.write('\r\u001b[K');
    this.shown = false;
  }
}
