/**
 * Frames appended records and gathers them into batches: what is appended while one batch is being written and synced
 * makes up the next one. Positions, links and checksums are settled at once, because batches are written in order and a
 * failed one ends the log.
 */
import { assert, PhxError } from '../errors.js';
import { crc32cOfView } from './crc32c.js';
import type { LogRecord } from './engine.js';
import {
  checkKey,
  decodeRecordHeader,
  EngineKind,
  emptyHeader,
  FLAG_CONTINUES,
  RECORD_HEADER_BYTES,
  recordBytes,
  SEGMENT_HEADER_BYTES,
  segmentSeed,
  writeRecordHeader,
} from './format.js';

/** A batch is closed when it holds this much: one write and one sync. */
export const BATCH_BYTES_MAX = 8 * 1024 * 1024;

/** Appends are refused while more than this waits to be written. */
export const PENDING_BYTES_MAX = 256 * 1024 * 1024;

const BATCH_BYTES_INITIAL = 64 * 1024;
const BATCH_BYTES_KEPT_MAX = 4 * 1024 * 1024;

export type AppendDone = (error: Error | null) => void;

/** Where the next record goes. */
export interface LogTail {
  readonly segment: number;
  readonly offset: number;
  readonly link: number;
  /** The segment takes no record any more, and there is no space for the next one yet. */
  readonly sealed: boolean;
}

/** One write: framed records that follow each other in one segment. */
export interface Batch {
  readonly segment: number;
  readonly start: number;
  buffer: Buffer;
  /** Of `buffer`: numbers are written through it, which costs less than the methods of Buffer. */
  view: DataView;
  used_bytes: number;
  readonly done: AppendDone[];
  /** Segment that the records were copied from, 0 for records that are new. */
  readonly copied_from: number;
}

export class AppendQueue {
  private readonly identity: Uint8Array;
  private readonly segment_bytes: number;
  private readonly batches: Batch[] = [];
  private spare: Buffer | null = null;
  private segment: number;
  private offset: number;
  private link: number;
  private seed: number;
  /** The log was opened behind a seal, and nothing was appended since. */
  private sealed: boolean;
  private pending_bytes = 0;
  private readonly mayRotate: () => boolean;

  /** `mayRotate` says whether there is, or may soon be, a segment to go on in when the present one is full. */
  constructor(identity: Uint8Array, segment_bytes: number, tail: LogTail, mayRotate: () => boolean) {
    this.identity = identity;
    this.mayRotate = mayRotate;
    this.segment_bytes = segment_bytes;
    this.segment = tail.segment;
    this.offset = tail.offset;
    this.link = tail.link;
    this.sealed = tail.sealed;
    this.seed = segmentSeed(identity, tail.segment);
  }

  get empty(): boolean {
    return this.batches.length === 0;
  }

  /**
   * Frames the records behind all others; `done` goes to the batch that takes them. Returns the framed bytes.
   *
   * @throws PhxError SIZE_TOO_LARGE if the records do not fit into one segment, PROPOSE_FAST_REJECT if too much waits,
   *   LOG_FULL if they need another segment and there is no space for one; nothing is changed then
   */
  append(records: readonly LogRecord[], done: AppendDone): number {
    const bytes = this.measure(records);
    this.makeRoom(bytes, 0);
    const batch = this.openBatch(bytes, 0);
    let at = 0;
    for (const record of records) {
      at++;
      this.frame(batch, record.kind, at < records.length ? FLAG_CONTINUES : 0, record);
    }
    batch.done.push(done);
    return bytes;
  }

  /**
   * Appends copies of records that lie in the segment `copied_from`, each for itself, in a batch of their own. There must
   * be one at least, and `fits` must have said that there is room.
   */
  appendCopies(records: readonly LogRecord[], copied_from: number, done: AppendDone): void {
    let batch: Batch | null = null;
    for (const record of records) {
      const bytes = recordBytes(bodyBytes(record.body));
      this.makeRoom(bytes, copied_from);
      batch = this.openBatch(bytes, copied_from);
      this.frame(batch, record.kind, 0, record);
    }
    assert(batch !== null, 'there is something to copy');
    batch.done.push(done);
  }

  /** Whether records of `bytes` in all fit into the present segment. */
  fits(bytes: number): boolean {
    return !this.sealed && this.offset + bytes + RECORD_HEADER_BYTES <= this.segment_bytes;
  }

  /** The keys of all records that wait here. */
  addKeysTo(keys: RecordKeys): void {
    for (const batch of this.batches) keys.addBatch(batch);
  }

  /** The oldest batch, no longer open to appends; the caller gives its buffer back with `recycle`. */
  take(): Batch | null {
    const batch = this.batches.shift() ?? null;
    if (batch !== null) this.pending_bytes -= batch.used_bytes;
    return batch;
  }

  recycle(batch: Batch): void {
    if (batch.buffer.length <= BATCH_BYTES_KEPT_MAX) this.spare = batch.buffer;
  }

  private measure(records: readonly LogRecord[]): number {
    let bytes = 0;
    for (const record of records) {
      checkKey(record.kind, record.group, record.instance);
      bytes += recordBytes(bodyBytes(record.body));
    }
    const room_bytes = this.segment_bytes - SEGMENT_HEADER_BYTES - RECORD_HEADER_BYTES;
    if (bytes > room_bytes) {
      throw new PhxError('SIZE_TOO_LARGE', `an append of ${bytes} bytes does not fit into a segment (${room_bytes})`);
    }
    if (this.pending_bytes + bytes > PENDING_BYTES_MAX) {
      const message = `${this.pending_bytes} bytes wait for the disk (limit ${PENDING_BYTES_MAX})`;
      throw new PhxError('PROPOSE_FAST_REJECT', message, { retryable: true });
    }
    return bytes;
  }

  /** Seals the segment and goes on to the next one if `bytes` and a seal do not fit. */
  private makeRoom(bytes: number, copied_from: number): void {
    if (bytes === 0 || this.fits(bytes)) return;
    if (!this.mayRotate()) {
      const message = 'the newest segment of the log is full, and the disk has no space for another';
      throw new PhxError('LOG_FULL', message, { retryable: true });
    }
    if (!this.sealed) this.frame(this.openBatch(RECORD_HEADER_BYTES, copied_from), EngineKind.seal, 0, NO_RECORD);
    this.sealed = false;
    this.segment++;
    this.offset = SEGMENT_HEADER_BYTES;
    this.seed = segmentSeed(this.identity, this.segment);
    this.link = this.seed;
  }

  /** The batch that takes the next `bytes`, with room for them in its buffer. */
  private openBatch(bytes: number, copied_from: number): Batch {
    const last = this.batches[this.batches.length - 1];
    const needed = (last?.used_bytes ?? 0) + bytes;
    const alike = last !== undefined && last.segment === this.segment && last.copied_from === copied_from;
    if (alike && needed <= BATCH_BYTES_MAX) {
      if (needed > last.buffer.length) {
        last.buffer = grow(last.buffer, last.used_bytes, needed);
        last.view = viewOf(last.buffer);
      }
      return last;
    }
    const reused = this.spare !== null && this.spare.length >= bytes ? this.spare : null;
    if (reused !== null) this.spare = null;
    const buffer = reused ?? Buffer.allocUnsafeSlow(Math.max(bytes, BATCH_BYTES_INITIAL));
    const place = { segment: this.segment, start: this.offset };
    const batch: Batch = { ...place, buffer, view: viewOf(buffer), used_bytes: 0, done: [], copied_from };
    this.batches.push(batch);
    return batch;
  }

  private frame(batch: Batch, kind: number, flags: number, record: Omit<LogRecord, 'kind'>): void {
    const at = batch.used_bytes;
    let end = at + RECORD_HEADER_BYTES;
    for (const part of record.body) {
      batch.buffer.set(part, end);
      end += part.length;
    }
    const body_bytes = end - at - RECORD_HEADER_BYTES;
    const bytes = recordBytes(body_bytes);
    for (let padding = end; padding < at + bytes; padding++) batch.buffer[padding] = 0;
    this.link = writeRecordHeader(batch.view, at, this.offset, this.seed, {
      kind,
      flags,
      group: record.group,
      instance: record.instance,
      body_bytes,
      batch: batch.start,
      link: this.link,
      body_crc: crc32cOfView(batch.view, at + RECORD_HEADER_BYTES, end),
    });
    batch.used_bytes += bytes;
    this.offset += bytes;
    this.pending_bytes += bytes;
  }
}

/** Keys of records that were appended and are not in the index yet. */
export class RecordKeys {
  private readonly keys = new Set<string>();

  addBatch(batch: Batch): void {
    const header = emptyHeader();
    for (let at = 0; at < batch.used_bytes; at += recordBytes(header.body_bytes)) {
      decodeRecordHeader(batch.buffer, at, header);
      this.keys.add(keyOf(header));
    }
  }

  has(record: RecordKey): boolean {
    return this.keys.has(keyOf(record));
  }
}

interface RecordKey {
  readonly kind: number;
  readonly group: number;
  readonly instance: number;
}

function keyOf({ kind, group, instance }: RecordKey): string {
  return `${kind}/${group}/${instance}`;
}

const NO_RECORD = { group: 0, instance: 0, body: [] };

function bodyBytes(body: readonly Uint8Array[]): number {
  let bytes = 0;
  for (const part of body) bytes += part.length;
  return bytes;
}

function viewOf(buffer: Buffer): DataView {
  return new DataView(buffer.buffer, buffer.byteOffset, buffer.length);
}

function grow(buffer: Buffer, used: number, needed: number): Buffer {
  const larger = Buffer.allocUnsafeSlow(Math.max(needed, buffer.length * 2));
  buffer.copy(larger, 0, 0, used);
  return larger;
}
