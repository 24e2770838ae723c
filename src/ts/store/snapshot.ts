/**
 * What a checkpoint holds of a Paxos group's queues, as bytes. All integers are little-endian.
 *
 *   snapshot   version u16 | zero u16 | queues u32 | cursor of the group's newest item u64 | the queues, by ascending id
 *   queue      id i32 | consumer groups u32 | items and bytes ever added, cursor of the newest item: 3 x u64 |
 *              consumer groups x (consumer group u32, replicated cursor u64), by ascending consumer group
 *
 *   retention  version u16 | zero u16 | queues u32 | the first item: cursor u64, instance u64, offset in its value u32 |
 *              queues x (id i32, cursor of the oldest item u64), by ascending id
 *
 * The snapshot is the replicated state and nothing else. The retention is what this replica keeps of it: queues without
 * items are not in it, and without any the first item is zero.
 */
import { PhxError } from '../errors.js';
import { consumer_group_max, cursor_none, type QueueCursors } from './cursors.js';
import type { IndexEntry } from './queue_index.js';
import type { QueueState } from './state_machine.js';

const version = 1;
const snapshot_header_bytes = 16;
const queue_bytes = 32;
const cursor_bytes = 12;
const retention_header_bytes = 28;
const retained_queue_bytes = 12;

/** One queue of a snapshot. */
export interface QueueSnapshot {
  readonly queue_id: number;
  readonly added_items: number;
  readonly added_bytes: number;
  readonly last_cursor: number;
  /** Consumer groups with the cursors that the log carries. */
  readonly cursors: readonly (readonly [number, number])[];
}

/** The replicated state of a Paxos group. */
export interface GroupSnapshot {
  readonly last_cursor: number;
  readonly queues: readonly QueueSnapshot[];
}

/** What a replica keeps of a Paxos group. */
export interface GroupRetention {
  /** The item with the lowest cursor, or null if nothing is kept. */
  readonly first: Pick<IndexEntry, 'cursor' | 'instance' | 'offset'> | null;
  /** Per queue with items the cursor of its oldest one. */
  readonly first_cursors: ReadonlyMap<number, number>;
}

/**
 * The replicated state of the queues of one Paxos group; `last_cursor` is that of the group's newest item. Nothing else runs
 * meanwhile, so no memory is taken for a queue or a cursor.
 */
export function encodeSnapshot(queues: readonly QueueState[], last_cursor: number): Uint8Array {
  const writer = new Writer(snapshot_header_bytes + queues.length * (queue_bytes + cursor_bytes));
  writer.header().u64(last_cursor);
  let written = 0;
  const cursors = new SortedCursors();
  for (const { queue_id, index, cursors: replicated, added_items, added_bytes } of byId(queues)) {
    cursors.take(replicated);
    // One that no command changed may or may not be there.
    if (added_items === 0 && cursors.count === 0) continue;
    written += 1;
    writer.reserve(queue_bytes + cursors.count * cursor_bytes);
    writer.i32(queue_id).u32(cursors.count).u64(added_items).u64(added_bytes).u64(index.lastCursor);
    for (let i = 0; i < cursors.count; i++) writer.u32(cursors.groupAt(i)).u64(cursors.prevAt(i));
  }
  return writer.finish(written);
}

/** Reads a snapshot. Throws LOG_CORRUPT. */
export function decodeSnapshot(bytes: Uint8Array): GroupSnapshot {
  const reader = new Reader(bytes, 'snapshot');
  const count = reader.header();
  const last_cursor = reader.u64();
  const queues: QueueSnapshot[] = [];
  for (let i = 0; i < count; i++) {
    const queue_id = reader.i32();
    const consumer_groups = reader.u32();
    const counters = { added_items: reader.u64(), added_bytes: reader.u64(), last_cursor: reader.u64() };
    const cursors: [number, number][] = [];
    for (let j = 0; j < consumer_groups; j++) cursors.push([reader.u32(), reader.u64()]);
    queues.push({ queue_id, ...counters, cursors });
  }
  reader.end();
  return { last_cursor, queues };
}

/** What the queues of one Paxos group keep. */
export function encodeRetention(queues: readonly QueueState[]): Uint8Array {
  const writer = new Writer(retention_header_bytes + queues.length * retained_queue_bytes);
  const { cursor, instance, offset } = firstItem(queues) ?? { cursor: 0, instance: 0, offset: 0 };
  writer.header().u64(cursor).u64(instance).u32(offset);
  let written = 0;
  for (const { queue_id, index } of byId(queues)) {
    const { firstCursor } = index;
    if (firstCursor === null) continue;
    written += 1;
    writer.i32(queue_id).u64(firstCursor);
  }
  return writer.finish(written);
}

/** Reads a retention. Throws LOG_CORRUPT. */
export function decodeRetention(bytes: Uint8Array): GroupRetention {
  const reader = new Reader(bytes, 'retention');
  const count = reader.header();
  const first = { cursor: reader.u64(), instance: reader.u64(), offset: reader.u32() };
  const first_cursors = new Map<number, number>();
  for (let i = 0; i < count; i++) first_cursors.set(reader.i32(), reader.u64());
  reader.end();
  return { first: first.cursor === cursor_none ? null : first, first_cursors };
}

/** The retained item with the lowest cursor, or null. */
export function firstItem(queues: readonly QueueState[]): IndexEntry | null {
  let lowest: IndexEntry | null = null;
  for (const { index } of queues) {
    const { first } = index;
    if (first !== null && (lowest === null || first.cursor < lowest.cursor)) lowest = first;
  }
  return lowest;
}

function byId(queues: readonly QueueState[]): readonly QueueState[] {
  return queues.toSorted((a, b) => a.queue_id - b.queue_id);
}

/** The replicated cursors of one queue after the other, by ascending consumer group. */
class SortedCursors {
  count = 0;
  readonly #groups = new Uint32Array(consumer_group_max);
  readonly #prevs = new Float64Array(consumer_group_max);

  take(cursors: QueueCursors): void {
    this.count = 0;
    cursors.forEachReplicated((consumer_group, prev) => this.#insert(consumer_group, prev));
  }

  groupAt(i: number): number {
    return this.#groups[i] ?? 0;
  }

  prevAt(i: number): number {
    return this.#prevs[i] ?? 0;
  }

  #insert(consumer_group: number, prev: number): void {
    let at = this.count;
    for (; at > 0 && this.groupAt(at - 1) > consumer_group; at--) {
      this.#groups[at] = this.groupAt(at - 1);
      this.#prevs[at] = this.prevAt(at - 1);
    }
    this.#groups[at] = consumer_group;
    this.#prevs[at] = prev;
    this.count += 1;
  }
}

/** Fills bytes, more of them as needed. */
class Writer {
  #bytes: Uint8Array;
  #view: DataView;
  #at = 0;

  constructor(bytes: number) {
    this.#bytes = new Uint8Array(bytes);
    this.#view = new DataView(this.#bytes.buffer);
  }

  /** Version and room for a count, which `finish` fills in. */
  header(): this {
    this.#view.setUint16(0, version, true);
    this.#at = 8;
    return this;
  }

  /** Makes room for so many bytes. */
  reserve(bytes: number): void {
    if (this.#at + bytes <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(this.#at + bytes, 2 * this.#bytes.length));
    larger.set(this.#bytes);
    this.#bytes = larger;
    this.#view = new DataView(larger.buffer);
  }

  /** What was written, with the count in the header. */
  finish(count: number): Uint8Array {
    this.#view.setUint32(4, count, true);
    return this.#bytes.subarray(0, this.#at);
  }

  i32(value: number): this {
    this.#view.setInt32(this.#at, value, true);
    this.#at += 4;
    return this;
  }

  u32(value: number): this {
    this.#view.setUint32(this.#at, value, true);
    this.#at += 4;
    return this;
  }

  u64(value: number): this {
    this.u32(value % 2 ** 32);
    return this.u32(Math.floor(value / 2 ** 32));
  }
}

/** Reads what a `Writer` wrote. */
class Reader {
  readonly #what: string;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array, what: string) {
    this.#what = what;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  header(): number {
    const found = this.#view.byteLength < 4 ? 0 : this.#view.getUint16(0, true);
    if (found > version) {
      const what = `the ${this.#what} of a checkpoint is of version ${found}: was it written by a newer release?`;
      throw new PhxError('LOG_FORMAT', what);
    }
    if (found !== version) throw this.#corrupt(`is of version ${found}`);
    this.#at = 4;
    return this.u32();
  }

  i32(): number {
    return this.#view.getInt32(this.#advance(4), true);
  }

  u32(): number {
    return this.#view.getUint32(this.#advance(4), true);
  }

  u64(): number {
    const low = this.u32();
    return this.u32() * 2 ** 32 + low;
  }

  end(): void {
    if (this.#at !== this.#view.byteLength) throw this.#corrupt('is longer than what it holds');
  }

  #advance(bytes: number): number {
    const at = this.#at;
    if (at + bytes > this.#view.byteLength) throw this.#corrupt('is cut short');
    this.#at += bytes;
    return at;
  }

  #corrupt(how: string): PhxError {
    return new PhxError('LOG_CORRUPT', `the ${this.#what} of a checkpoint ${how}`);
  }
}
