/**
 * The index of one queue: for each retained item where its bytes are in the log. 16 bytes an item, in chunks that keep
 * cursor and instance relative to their first entry; items are appended at the tail and trimmed at the head.
 */
import { assert } from '../errors.js';

const entries_per_chunk_min = 32;
const entries_per_chunk_max = 4096;
/** Cursor delta, instance delta, offset, length. */
const words_per_entry = 4;
const delta_max = 0xffff_ffff;

/** Where one item is. */
export interface IndexEntry {
  readonly cursor: number;
  readonly instance: number;
  /** Of the item's bytes in the value of the instance. */
  readonly offset: number;
  readonly item_bytes: number;
}

interface Chunk {
  readonly cursor_base: number;
  readonly instance_base: number;
  words: Uint32Array;
  /** Entries before this one were trimmed. */
  head: number;
  /** Entries written, trimmed ones included. */
  count: number;
}

/** See the head of this file. Cursors must increase strictly, instances must not decrease. */
export class QueueIndex {
  readonly #chunks: Chunk[] = [];
  #items = 0;
  #last_cursor: number;

  /** `trimmed_through` is the cursor of the newest item that was there and was trimmed; 0: there was none. */
  constructor(trimmed_through = 0) {
    this.#last_cursor = trimmed_through;
  }

  /** Retained items. */
  get items(): number {
    return this.#items;
  }

  /** Cursor of the newest item ever appended, 0 if none; trimming does not change it. */
  get lastCursor(): number {
    return this.#last_cursor;
  }

  /** The oldest retained item, or null where there is none. */
  get first(): IndexEntry | null {
    const chunk = this.#chunks[0];
    return chunk === undefined ? null : entryAt(chunk, chunk.head);
  }

  /** Cursor of the oldest retained item, or null where there is none. */
  get firstCursor(): number | null {
    return this.first?.cursor ?? null;
  }

  /** Bytes of memory that the entries take. */
  get memoryBytes(): number {
    let bytes = 0;
    for (const chunk of this.#chunks) bytes += chunk.words.byteLength;
    return bytes;
  }

  /** Appends an entry at the tail. */
  append(cursor: number, instance: number, offset: number, item_bytes: number): void {
    assert(cursor > this.#last_cursor && Number.isSafeInteger(cursor), 'cursors of a queue increase strictly');
    const chunk = this.#tailFor(cursor, instance);
    const at = chunk.count * words_per_entry;
    chunk.words[at] = cursor - chunk.cursor_base;
    chunk.words[at + 1] = instance - chunk.instance_base;
    chunk.words[at + 2] = offset;
    chunk.words[at + 3] = item_bytes;
    chunk.count += 1;
    this.#items += 1;
    this.#last_cursor = cursor;
  }

  /** Up to `items_max` entries with a cursor above `cursor`, until their items reach `bytes_max` (at least one entry). */
  after(cursor: number, items_max: number, bytes_max: number): IndexEntry[] {
    const found: IndexEntry[] = [];
    let bytes = 0;
    let chunk_number = this.#chunkAfter(cursor);
    let chunk = this.#chunks[chunk_number];
    let at = chunk === undefined ? 0 : entryAfter(chunk, cursor);
    while (chunk !== undefined && found.length < items_max && bytes < bytes_max) {
      if (at === chunk.count) {
        chunk_number += 1;
        chunk = this.#chunks[chunk_number];
        at = chunk?.head ?? 0;
        continue;
      }
      const entry = entryAt(chunk, at);
      found.push(entry);
      bytes += entry.item_bytes;
      at += 1;
    }
    return found;
  }

  /** Number of retained items with a cursor above `cursor`: the lag of a consumer group that stands there. */
  countAfter(cursor: number): number {
    const first = this.#chunkAfter(cursor);
    let items = 0;
    for (let i = first; i < this.#chunks.length; i++) {
      const chunk = this.#chunks[i];
      if (chunk !== undefined) items += chunk.count - (i === first ? entryAfter(chunk, cursor) : chunk.head);
    }
    return items;
  }

  /** Drops the entries with a cursor up to and including `cursor`, but keeps the newest `kept_min`. Returns how many. */
  trim(cursor: number, kept_min: number): number {
    let left = Math.min(this.#items - kept_min, this.#items - this.countAfter(cursor));
    if (left <= 0) return 0;
    const dropped = left;
    let whole_chunks = 0;
    for (const chunk of this.#chunks) {
      const live = chunk.count - chunk.head;
      if (live > left) {
        chunk.head += left;
        break;
      }
      left -= live;
      whole_chunks += 1;
    }
    this.#chunks.splice(0, whole_chunks);
    this.#items -= dropped;
    return dropped;
  }

  /** Number of the first chunk that holds an entry with a cursor above `cursor`. */
  #chunkAfter(cursor: number): number {
    let low = 0;
    let high = this.#chunks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const chunk = this.#chunks[middle];
      if (chunk !== undefined && cursorAt(chunk, chunk.count - 1) <= cursor) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #tailFor(cursor: number, instance: number): Chunk {
    const tail = this.#chunks.at(-1);
    if (tail !== undefined && fits(tail, cursor, instance)) {
      if (tail.count * words_per_entry < tail.words.length) return tail;
      if (tail.count < entries_per_chunk_max) {
        const larger = new Uint32Array(tail.words.length * 2);
        larger.set(tail.words);
        tail.words = larger;
        return tail;
      }
    }
    // A queue that fills chunks gets whole ones at once; one with a few items stays at half a KiB.
    const entries = tail === undefined ? entries_per_chunk_min : entries_per_chunk_max;
    const words = new Uint32Array(entries * words_per_entry);
    const chunk = { cursor_base: cursor, instance_base: instance, words, head: 0, count: 0 };
    this.#chunks.push(chunk);
    return chunk;
  }
}

function fits(chunk: Chunk, cursor: number, instance: number): boolean {
  assert(instance >= chunk.instance_base, 'instances of a queue do not decrease');
  return cursor - chunk.cursor_base <= delta_max && instance - chunk.instance_base <= delta_max;
}

function cursorAt(chunk: Chunk, at: number): number {
  return chunk.cursor_base + (chunk.words[at * words_per_entry] ?? 0);
}

function entryAt(chunk: Chunk, at: number): IndexEntry {
  const word = at * words_per_entry;
  return {
    cursor: chunk.cursor_base + (chunk.words[word] ?? 0),
    instance: chunk.instance_base + (chunk.words[word + 1] ?? 0),
    offset: chunk.words[word + 2] ?? 0,
    item_bytes: chunk.words[word + 3] ?? 0,
  };
}

/** Number of the first live entry of `chunk` with a cursor above `cursor`. */
function entryAfter(chunk: Chunk, cursor: number): number {
  let low = chunk.head;
  let high = chunk.count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (cursorAt(chunk, middle) <= cursor) low = middle + 1;
    else high = middle;
  }
  return low;
}
