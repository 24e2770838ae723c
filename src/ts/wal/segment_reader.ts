/** Goes through the records of a sealed segment from its file, in windows. */

import type { PlacedRecord } from './contents.js';
import { crc32c } from './crc32c.js';
import { RecordKind } from './engine.js';
import type { LogFile } from './files.js';
import {
  EngineKind,
  emptyHeader,
  RECORD_HEADER_BYTES,
  readRecordHeader,
  recordBytes,
  SEGMENT_HEADER_BYTES,
  segmentSeed,
} from './format.js';

const WINDOW_BYTES = 1024 * 1024;

/** A record with its body, null if the bytes are not those that were written. */
export interface ReadRecord extends PlacedRecord {
  readonly kind: RecordKind;
  readonly body: Buffer | null;
}

export class SegmentReader {
  private readonly file: Pick<LogFile, 'read'>;
  private readonly segment: number;
  private readonly seed: number;
  private size_bytes: number;
  private window = Buffer.alloc(0);
  private window_start = 0;
  private offset = SEGMENT_HEADER_BYTES;

  constructor(file: Pick<LogFile, 'read'>, segment: number, identity: Uint8Array, size_bytes: number) {
    this.file = file;
    this.segment = segment;
    this.seed = segmentSeed(identity, segment);
    this.size_bytes = size_bytes;
  }

  /** The next record that `wanted` says yes to, or null at the seal or the end. Places without a sound header are skipped. */
  async next(wanted: (record: PlacedRecord) => boolean): Promise<ReadRecord | null> {
    const header = emptyHeader();
    for (;;) {
      const at = await this.reach(RECORD_HEADER_BYTES);
      if (this.offset + RECORD_HEADER_BYTES > this.size_bytes) return null;
      if (!readRecordHeader(this.window, at, this.offset, this.seed, header)) {
        this.offset += 8;
        continue;
      }
      const { kind, group, instance, body_bytes } = header;
      if (kind === EngineKind.seal) return null;
      const record: PlacedRecord = { kind, group, instance, segment: this.segment, offset: this.offset, body_bytes };
      const keyed = kind === RecordKind.entry || kind === RecordKind.state;
      if (keyed && wanted(record)) {
        const start = (await this.reach(recordBytes(body_bytes))) + RECORD_HEADER_BYTES;
        const body = this.window.subarray(start, start + body_bytes);
        const sound = body.length === body_bytes && crc32c(body) === header.body_crc;
        this.offset += recordBytes(body_bytes);
        return { ...record, kind, body: sound ? body : null };
      }
      this.offset += recordBytes(body_bytes);
    }
  }

  /** Makes the window hold `bytes` from the offset on, as far as the file goes; returns where they start in it. */
  private async reach(bytes: number): Promise<number> {
    const end = Math.min(this.offset + bytes, this.size_bytes);
    if (this.offset >= this.window_start && end <= this.window_start + this.window.length) {
      return this.offset - this.window_start;
    }
    const length = Math.min(Math.max(bytes, WINDOW_BYTES), this.size_bytes - this.offset);
    // A new one each time: records of the one before may still be looked at.
    const window = Buffer.allocUnsafeSlow(Math.max(0, length));
    const filled = await this.file.read(window, this.offset);
    this.window = window.subarray(0, filled);
    // A file that is shorter than it was has nothing behind its end.
    if (filled < window.length) this.size_bytes = this.offset + filled;
    this.window_start = this.offset;
    return 0;
  }
}
