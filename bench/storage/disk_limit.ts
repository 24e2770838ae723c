/**
 * What this machine gives a single writer: writes one after the other, each followed by fdatasync, over blocks that were
 * written before, in a plain loop that calls the kernel directly. Nobody waits for an event here.
 */
import { closeSync, fdatasyncSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Figures, LimitKey } from './command.js';
import { quantile } from './figures.js';

/** As many bytes as a log takes that uses its segments again. */
const FILE_SEGMENTS = 4;
const FILL_BYTES = 1024 * 1024;
const WARM_UP_SHARE = 0.2;

export class DiskLimit {
  private readonly descriptor: number;
  private readonly file_bytes: number;
  private position = 0;

  constructor(folder: string, segment_bytes: number) {
    this.file_bytes = FILE_SEGMENTS * segment_bytes;
    this.descriptor = openSync(join(folder, 'limit'), 'w');
    const block = Buffer.alloc(FILL_BYTES, 'z');
    for (let at = 0; at < this.file_bytes; at += FILL_BYTES) {
      writeSync(this.descriptor, block, 0, FILL_BYTES, at);
      fdatasyncSync(this.descriptor);
    }
  }

  measure(batch_bytes: number, seconds: number): Figures<LimitKey> {
    const batch = Buffer.alloc(Math.max(8, Math.round(batch_bytes / 8) * 8), 'l');
    this.run(batch, seconds * WARM_UP_SHARE);
    const started_ms = performance.now();
    const latencies_ms = Float64Array.from(this.run(batch, seconds));
    const elapsed_ms = performance.now() - started_ms;
    const batches_per_s = (latencies_ms.length * 1000) / elapsed_ms;
    latencies_ms.sort();
    return {
      batches_per_s,
      p50_us: quantile(latencies_ms, 0.5) * 1000,
      p99_us: quantile(latencies_ms, 0.99) * 1000,
    };
  }

  close(): void {
    closeSync(this.descriptor);
  }

  private run(batch: Buffer, seconds: number): number[] {
    const latencies_ms: number[] = [];
    let now_ms = performance.now();
    const until_ms = now_ms + seconds * 1000;
    while (now_ms < until_ms) {
      const began_ms = now_ms;
      if (this.position + batch.length > this.file_bytes) this.position = 0;
      writeSync(this.descriptor, batch, 0, batch.length, this.position);
      fdatasyncSync(this.descriptor);
      this.position += batch.length;
      now_ms = performance.now();
      latencies_ms.push(now_ms - began_ms);
    }
    return latencies_ms;
  }
}
