/**
 * Reads and writes the checkpoints of all groups in the log. The order of writing is the whole crash rule: the chunks are
 * durable before the record that names them, and only then what they replace is truncated. So after a crash either the old
 * record holds, and all that it needs is there, or the new one.
 */
import { assert, PhxError } from '../errors.js';
import { type LogEngine, type LogRecord, RecordKind } from '../wal/engine.js';
import {
  CHECKPOINT_BYTES_MAX,
  CHUNK_BYTES,
  type CheckpointPayload,
  type CheckpointRecord,
  checksumOf,
  decodeRecord,
  encodeRecord,
  payloadBytes,
  payloadOf,
  SLOT_CHECKPOINT,
  shadowGroupOf,
} from './checkpoint.js';

/** Chunks are read in portions of this size. */
const READ_BYTES = 4 * 1024 * 1024;

/** A checkpoint to be written. The bytes must not change until it is. */
export interface NewCheckpoint {
  readonly instance: number;
  readonly chain: number;
  readonly first_needed: number;
  readonly first_retained: number;
  readonly own_through: number;
  readonly configurations: readonly Uint8Array[];
  readonly state: readonly Uint8Array[];
  readonly retention: readonly Uint8Array[];
}

/** A checkpoint and what it holds. */
export interface Checkpoint {
  readonly record: CheckpointRecord;
  readonly payload: CheckpointPayload;
}

/** Keeps the chunks of a checkpoint in the log until `release`, even when a newer one is there. */
export interface CheckpointPin {
  readonly record: CheckpointRecord;
  release(): void;
}

/** See the head of this file. There is one for a log. */
export class CheckpointStore {
  readonly #log: LogEngine;
  readonly #records = new Map<number, CheckpointRecord>();
  /** The highest number given to a chunk, where this process gave one. */
  readonly #last_chunks = new Map<number, number>();
  readonly #pins = new Map<number, Set<CheckpointPin>>();
  /** Settles when the last checkpoint that was to be written is. */
  #written: Promise<void> = Promise.resolve();

  constructor(log: LogEngine) {
    this.#log = log;
  }

  /** The valid checkpoint of a group, or null. Throws LOG_CORRUPT if its record is damaged. */
  record(group: number): CheckpointRecord | null {
    const known = this.#records.get(group);
    if (known !== undefined) return known;
    const bytes = this.#log.state(group, SLOT_CHECKPOINT);
    if (bytes === null) return null;
    const record = decodeRecord(bytes);
    this.#records.set(group, record);
    return record;
  }

  /**
   * The valid checkpoint of a group with its verified payload, or null. Rejects with LOG_CORRUPT if anything of it is
   * damaged or missing: what it replaced is gone, so there is no older one to fall back on.
   */
  async read(group: number): Promise<Checkpoint | null> {
    const record = this.record(group);
    if (record === null) return null;
    const bytes = new Uint8Array(payloadBytes(record));
    for (let at = 0; at < bytes.length; ) {
      const portion = await this.readAt(group, record, at, READ_BYTES);
      for (const part of portion) {
        bytes.set(part, at);
        at += part.length;
      }
    }
    return { record, payload: await payloadOf(record, bytes) };
  }

  /**
   * Bytes of the payload from `offset` on: `bytes_max` of them, or what is left, or what a whole number of chunks gives.
   * Rejects with LOG_CORRUPT. The checkpoint is the valid one, or pinned.
   */
  async readAt(group: number, record: CheckpointRecord, offset: number, bytes_max: number): Promise<Uint8Array[]> {
    const total = payloadBytes(record);
    assert(offset >= 0 && offset < total && bytes_max > 0, 'a checkpoint is read within its payload');
    const end = Math.min(total, offset + bytes_max);
    const first = record.first_chunk + Math.floor(offset / CHUNK_BYTES);
    const last = record.first_chunk + Math.floor((end - 1) / CHUNK_BYTES);
    const chunks = await this.#log.readRange(shadowGroupOf(group), first, last, READ_BYTES);
    const parts: Uint8Array[] = [];
    let expected = first;
    for (const { instance, body } of chunks) {
      const start = (expected - record.first_chunk) * CHUNK_BYTES;
      if (instance !== expected || body.length !== Math.min(CHUNK_BYTES, total - start)) break;
      parts.push(body.subarray(Math.max(0, offset - start), Math.max(0, end - start)));
      expected += 1;
    }
    if (parts.length === 0) {
      throw new PhxError('LOG_CORRUPT', `group ${group}: chunk ${first} of the checkpoint is missing from the log`);
    }
    return parts;
  }

  /**
   * Writes a checkpoint, chunk after chunk as the disk takes them, and truncates what it replaces. One after the other, those
   * of all groups; one that is older than the valid one by then is not written. Resolves to the record of the valid one.
   * Rejects with SIZE_TOO_LARGE, PROPOSE_FAST_REJECT, LOG_FULL or what the log fails with; the old one stays valid then.
   */
  write(group: number, made: NewCheckpoint): Promise<CheckpointRecord> {
    const written = this.#written.then(() => this.#write(group, made));
    this.#written = written.then(ignore, ignore);
    return written;
  }

  async #write(group: number, made: NewCheckpoint): Promise<CheckpointRecord> {
    const valid = this.record(group);
    if (valid !== null && valid.instance > made.instance) return valid;
    const { configurations, state, retention, ...place } = made;
    const parts = [...configurations, ...state, ...retention];
    const bytes = sizeOf(parts);
    if (bytes > CHECKPOINT_BYTES_MAX) {
      throw new PhxError('SIZE_TOO_LARGE', `a checkpoint of ${bytes} bytes exceeds ${CHECKPOINT_BYTES_MAX}`);
    }
    const first_chunk = this.#lastChunk(group) + 1;
    const last_chunk = await this.#writeChunks(group, first_chunk, parts);
    const record = {
      ...place,
      first_chunk,
      last_chunk,
      configurations_bytes: sizeOf(configurations),
      state_bytes: sizeOf(state),
      retention_bytes: sizeOf(retention),
      state_checksum: await checksumOf(state),
      checksum: await checksumOf(parts),
    };
    const body = [encodeRecord(record)];
    await appendDurably(this.#log, [{ kind: RecordKind.state, group, instance: SLOT_CHECKPOINT, body }]);
    this.#records.set(group, record);
    this.truncate(group);
    return record;
  }

  /** Drops from the log what the valid checkpoint replaces. After a crash that may have come back: call it at the start. */
  truncate(group: number): void {
    const record = this.record(group);
    if (record === null) return;
    let first_chunk = record.first_chunk;
    for (const pin of this.#pins.get(group) ?? []) first_chunk = Math.min(first_chunk, pin.record.first_chunk);
    this.#log.truncate(group, record.first_retained);
    this.#log.truncate(shadowGroupOf(group), first_chunk);
  }

  /** Pins the valid checkpoint of a group; null if there is none. */
  pin(group: number): CheckpointPin | null {
    const record = this.record(group);
    if (record === null) return null;
    const pins = this.#pins.get(group) ?? new Set<CheckpointPin>();
    this.#pins.set(group, pins);
    const pin = {
      record,
      release: () => {
        if (pins.delete(pin)) this.truncate(group);
      },
    };
    pins.add(pin);
    return pin;
  }

  /** Chunks of a checkpoint that was never finished keep their numbers: in a crash they might come back. */
  #lastChunk(group: number): number {
    const found = this.#log.bounds(shadowGroupOf(group))?.last ?? 0;
    return Math.max(found, this.record(group)?.last_chunk ?? 0, this.#last_chunks.get(group) ?? 0);
  }

  /** Returns the number of the last chunk. */
  async #writeChunks(group: number, first: number, parts: readonly Uint8Array[]): Promise<number> {
    let number = first;
    for (const body of chunksOf(parts)) {
      this.#last_chunks.set(group, number);
      // One after the other: the values of the protocol pass in between.
      await appendDurably(this.#log, [{ kind: RecordKind.entry, group: shadowGroupOf(group), instance: number, body }]);
      number += 1;
    }
    return number - 1;
  }
}

function ignore(): void {}

/** Appends; resolves when it is durable. Rejects with what the log throws or fails with. */
export function appendDurably(log: LogEngine, records: readonly LogRecord[]): Promise<void> {
  return new Promise((resolve, reject) => {
    log.append(records, (error) => (error === null ? resolve() : reject(error)));
  });
}

function sizeOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, part) => sum + part.length, 0);
}

/** Cuts parts that follow each other into chunks; nothing is copied. */
function* chunksOf(parts: readonly Uint8Array[]): Generator<Uint8Array[]> {
  let chunk: Uint8Array[] = [];
  let room = CHUNK_BYTES;
  for (const part of parts) {
    for (let at = 0; at < part.length; ) {
      const slice = part.subarray(at, at + room);
      chunk.push(slice);
      at += slice.length;
      room -= slice.length;
      if (room > 0) continue;
      yield chunk;
      chunk = [];
      room = CHUNK_BYTES;
    }
  }
  if (chunk.length > 0) yield chunk;
}
