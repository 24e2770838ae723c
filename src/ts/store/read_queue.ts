/**
 * The part of a Get that reads: walks the index of a queue, looks into the stored bytes as far as the filters need, and
 * collects the items to hand out as slices of the stored values.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { assert } from '../errors.js';
import { type ItemFields, scanItem } from '../protocol/add_request.js';
import type { CursorPair } from './cursors.js';
import type { IndexEntry, QueueIndex } from './queue_index.js';

/** Most index entries that one step reads before it looks at the limits again. */
const window_items_max = 256;
/** Most values that one step holds: those of other queues travel along, so few values may be much memory. */
const window_values_max = 16;
/** Most items that one Get looks at; filters may skip most of them. */
const scanned_items_max = 65_536;
/** After so many items a Get lets the event loop go on with other things: leases are renewed there. */
const turn_items_max = 1_024;
/** Bytes of values that the items of one Get may keep in memory as views; further items are copied out of theirs. */
const viewed_bytes_max = 16 * 1024 * 1024;

/** What a Get asks for, after its cursors were reconciled. */
export interface ReadRequest {
  readonly start: CursorPair;
  readonly items_max: number;
  /** Reading stops once the items reach this; the last one may exceed it. */
  readonly bytes_max: number;
  /** The items after the first one younger than this stay. Null: no limit. */
  readonly youngest: Moment | null;
  /** Whether the asking consumer group gets this item. */
  readonly wants: (item: ItemFields) => boolean;
  /** Reads the value of an instance of the queue's Paxos group. */
  readonly value: (instance: number) => Uint8Array | Promise<Uint8Array>;
  /** Reading stops once this returns true; the first step is always taken. */
  readonly expired: () => boolean;
}

/** A time as items carry it. */
export interface Moment {
  readonly seconds: number;
  readonly milliseconds: number;
}

/** An item to hand out. */
export interface FoundItem {
  readonly cursor: number;
  /** The item as stored. */
  readonly bytes: Uint8Array;
  readonly fields: ItemFields;
}

/** What a Get answers with. */
export interface ReadResult {
  readonly items: readonly FoundItem[];
  readonly end: CursorPair;
  /** Items that the filters passed over. */
  readonly skipped_items: number;
}

/** Reads items after `start`. Rejects with what `value` rejects with. */
export async function readQueue(index: QueueIndex, request: ReadRequest): Promise<ReadResult> {
  const reader = new Reader(request);
  while (reader.wantsMore()) {
    const left_bytes = request.bytes_max - reader.bytes;
    const items_max = Math.min(window_items_max, request.items_max - reader.items.length);
    const window = firstValues(index.after(reader.next, items_max, left_bytes));
    if (window.length === 0 || !(await reader.take(window))) break;
    if (reader.turnIsOver()) await nextTurn();
  }
  return reader.result();
}

class Reader {
  readonly items: FoundItem[] = [];
  bytes = 0;
  next: number;
  #scanned_items = 0;
  #turn_began_at_item = 0;
  #viewed_bytes = 0;
  readonly #request: ReadRequest;

  constructor(request: ReadRequest) {
    this.#request = request;
    // Items up to `prev` were acknowledged: never hand them out again, wherever `next` stands.
    this.next = Math.max(request.start.next, request.start.prev);
  }

  wantsMore(): boolean {
    const { items_max, bytes_max, expired } = this.#request;
    if (this.items.length >= items_max || this.bytes >= bytes_max) return false;
    return this.#scanned_items === 0 || (this.#scanned_items < scanned_items_max && !expired());
  }

  /** Whether it is time to let others run; begins a new turn if so. */
  turnIsOver(): boolean {
    if (this.#scanned_items - this.#turn_began_at_item < turn_items_max) return false;
    this.#turn_began_at_item = this.#scanned_items;
    return true;
  }

  /** Takes the items of `window`; false if reading ends here. */
  async take(window: readonly IndexEntry[]): Promise<boolean> {
    const values = await this.#values(window);
    for (const value of values.values()) this.#viewed_bytes += value.length;
    // A few small items would otherwise hold the large values of other queues until the reply is written.
    const copies = this.#viewed_bytes > viewed_bytes_max;
    for (const entry of window) {
      const value = values.get(entry.instance);
      assert(value !== undefined && entry.offset + entry.item_bytes <= value.length, 'an item lies within its value');
      const bytes = value.subarray(entry.offset, entry.offset + entry.item_bytes);
      const fields = scanItem(bytes);
      const { youngest, wants } = this.#request;
      if (youngest !== null && isLater(fields, youngest)) return false;
      this.#scanned_items += 1;
      this.next = entry.cursor;
      if (!wants(fields)) continue;
      this.items.push({ cursor: entry.cursor, bytes: copies ? new Uint8Array(bytes) : bytes, fields });
      this.bytes += entry.item_bytes;
    }
    return true;
  }

  result(): ReadResult {
    const end = { prev: this.#request.start.prev, next: this.next };
    return { items: this.items, end, skipped_items: this.#scanned_items - this.items.length };
  }

  async #values(window: readonly IndexEntry[]): Promise<Map<number, Uint8Array>> {
    const values = new Map<number, Uint8Array>();
    const slow: Promise<void>[] = [];
    let instance_before = -1;
    for (const { instance } of window) {
      if (instance === instance_before) continue;
      instance_before = instance;
      const value = this.#request.value(instance);
      if (value instanceof Uint8Array) values.set(instance, value);
      else slow.push(value.then((bytes) => void values.set(instance, bytes)));
    }
    if (slow.length > 0) await Promise.all(slow);
    return values;
  }
}

/** The entries up to the last one of the first `window_values_max` instances. */
function firstValues(entries: readonly IndexEntry[]): readonly IndexEntry[] {
  let values = 0;
  let instance_before = -1;
  for (const [i, { instance }] of entries.entries()) {
    if (instance === instance_before) continue;
    if (values === window_values_max) return entries.slice(0, i);
    values += 1;
    instance_before = instance;
  }
  return entries;
}

function isLater(item: ItemFields, moment: Moment): boolean {
  if (item.atime !== moment.seconds) return item.atime > moment.seconds;
  return item.atime_ms > moment.milliseconds;
}
