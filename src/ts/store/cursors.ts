/**
 * Where the consumer groups of one queue stand. Per group: `prev` (acknowledged: a client says that it handled all up
 * to here) and `next` (handed out). Both live on the master; `prev` is also replicated, a little later, by commands.
 *
 * Inside, a cursor is a number and `cursor_none` (0) stands for "none", which sorts before every item.
 */
import { assert } from '../errors.js';

/** No cursor: before the first item. */
export const cursor_none = 0;
/** What the wire says for "none". */
export const wire_cursor_none = 0xffff_ffff_ffff_ffffn;
/** Consumer groups are the bits of a 64-bit mask. */
export const consumer_group_max = 64;

/** A pair of cursors as a request carries it and as a reply returns it. */
export interface CursorPair {
  readonly prev: number;
  readonly next: number;
}

/** Cursor of the wire as a number. One that no item can have becomes Infinity: it equals no stored cursor. */
export function cursorFromWire(cursor: bigint): number {
  if (cursor === wire_cursor_none) return cursor_none;
  return cursor > BigInt(Number.MAX_SAFE_INTEGER) ? Number.POSITIVE_INFINITY : Number(cursor);
}

/** Cursor as the wire wants it. */
export function cursorToWire(cursor: number): bigint {
  return cursor === cursor_none ? wire_cursor_none : BigInt(cursor);
}

/** State of one consumer group in one queue. */
export interface GroupCursor {
  readonly prev: number;
  readonly next: number;
  /** The `prev` that the log carries: equal on all replicas that applied as much. */
  readonly replicated_prev: number;
}

interface MutableGroupCursor {
  prev: number;
  next: number;
  replicated_prev: number;
}

const nowhere: GroupCursor = { prev: cursor_none, next: cursor_none, replicated_prev: cursor_none };

/** The cursors of all consumer groups of one queue. Consumer groups are 1 to 64. */
export class QueueCursors {
  readonly #groups = new Map<number, MutableGroupCursor>();

  /** Consumer groups that ever acknowledged or fetched here, with their cursors. */
  entries(): Iterable<[number, GroupCursor]> {
    return this.#groups.entries();
  }

  /** Visits the cursors that the log carries, of those consumer groups that have one. */
  forEachReplicated(visit: (consumer_group: number, prev: number) => void): void {
    this.#groups.forEach(({ replicated_prev }, consumer_group) => {
      if (replicated_prev !== cursor_none) visit(consumer_group, replicated_prev);
    });
  }

  /** State of a consumer group; all "none" if it never came. */
  of(consumer_group: number): GroupCursor {
    return this.#groups.get(consumer_group) ?? nowhere;
  }

  /**
   * Decides where a Get starts. A client whose `next` is not what this master last handed out, or that acknowledges
   * more than it fetched, is rewound to the last acknowledged cursor; an acknowledgement never goes backwards.
   */
  reconcile(consumer_group: number, asked: CursorPair): CursorPair {
    const stored = this.of(consumer_group);
    let { prev, next } = asked;
    if (stored.next === cursor_none || stored.next !== next || prev > next) {
      prev = stored.prev;
      next = stored.prev;
    }
    return { prev: Math.max(prev, stored.prev), next };
  }

  /** Where a `random` Get starts: it neither sees nor moves what was handed out. */
  reconcileRandom(consumer_group: number, asked: CursorPair): CursorPair {
    const { prev } = this.of(consumer_group);
    // A cursor that no item can have would hide the queue from a client that sends rubbish.
    return { prev, next: Number.isFinite(asked.next) ? Math.max(asked.next, prev) : prev };
  }

  /** Stores what a Get returns. Returns true if `prev` is now ahead of the replicated one. */
  commit(consumer_group: number, answer: CursorPair): boolean {
    const stored = this.#ensure(consumer_group);
    stored.prev = Math.max(stored.prev, answer.prev);
    // Not a maximum: a rewound client must find the `next` of its own reply here when it comes again.
    if (answer.next !== cursor_none) stored.next = Math.max(answer.next, stored.prev);
    return stored.prev > stored.replicated_prev;
  }

  /** Applies a replicated acknowledgement; one that is not ahead of the local `prev` leaves the local cursors alone. */
  applyPrev(consumer_group: number, prev: number): void {
    const stored = this.#ensure(consumer_group);
    stored.replicated_prev = Math.max(stored.replicated_prev, prev);
    if (prev > stored.prev) {
      stored.prev = prev;
      stored.next = prev;
    }
  }

  #ensure(consumer_group: number): MutableGroupCursor {
    assert(consumer_group >= 1 && consumer_group <= consumer_group_max, 'a consumer group is 1 to 64');
    let stored = this.#groups.get(consumer_group);
    if (stored === undefined) {
      stored = { ...nowhere };
      this.#groups.set(consumer_group, stored);
    }
    return stored;
  }
}
