/**
 * Fetches the entries that a checkpoint from a peer needs and the own log lacks. They are written as entries that say of
 * themselves that they are chosen, which no accepted value does: so `restoreGroup` trusts them, and goes on here after a
 * restart. The next portion is fetched while the one before is written. Has no timers: `tick` gives it the time.
 */
import { PhxError } from '../errors.js';
import type { LogEngine } from '../wal/engine.js';
import { appendDurably } from './checkpoint_store.js';
import type { AcceptedEntry } from './core/types.js';
import { type Gap, recordOf } from './records.js';

/** An answer that does not come in this time is asked for again. */
export const BACKFILL_RETRY_MS = 500;
/** Bytes of values that may wait for the disk while more are asked for. */
const UNDER_WAY_BYTES_MAX = 8 * 1024 * 1024;

export interface BackfillParts {
  readonly log: LogEngine;
  readonly group: number;
  readonly gap: Gap;
  /** Sends `fetch` for these instances to a replica that has them; `again`: whoever was asked last gave nothing. */
  readonly ask: (from: number, through: number, again: boolean) => void;
  /** All of the gap is durable: restore the group again. */
  readonly onDone: () => void;
  /** The log failed: the replica has to stop. */
  readonly onFailure: (error: unknown) => void;
}

export class Backfill {
  readonly #parts: BackfillParts;
  /** Everything below came. */
  #next: number;
  #under_way_bytes = 0;
  #portions_under_way = 0;
  /** What came last was of use, and the next portion is to be asked for once the disk allows. */
  #goes_on = false;
  #asked_at_ms = Number.NEGATIVE_INFINITY;
  #closed = false;

  /** Asks at its first `tick`. */
  constructor(parts: BackfillParts) {
    this.#parts = parts;
    this.#next = parts.gap.from;
  }

  /** Instances that have not come yet. */
  get left(): number {
    return this.#parts.gap.through + 1 - this.#next;
  }

  /** Takes in the entries of a `learn`: those that come next, without a hole. Others are asked for again. */
  onLearn(entries: readonly AcceptedEntry[], now_ms: number): void {
    if (this.#closed || this.left === 0) return;
    const { gap, group, log } = this.#parts;
    const from = this.#next;
    const fitting: AcceptedEntry[] = [];
    for (const entry of entries) {
      if (entry.instance === from + fitting.length && entry.instance <= gap.through) fitting.push(entry);
    }
    if (fitting.length === 0) return;
    const records = fitting.map(({ instance, ballot, value }) =>
      recordOf(group, { type: 'entry', instance, ballot, chosen_through: gap.through, value }),
    );
    const bytes = fitting.reduce((sum, { value }) => sum + value.length, 0);
    this.#next += fitting.length;
    this.#under_way_bytes += bytes;
    this.#portions_under_way += 1;
    this.#goes_on = true;
    // What a full disk had no room for is asked for again with the next tick.
    appendDurably(log, records)
      .catch((error: unknown) => this.#failed(error, from))
      .then(() => this.#settled(bytes, now_ms));
    this.#goOn(now_ms);
  }

  /** Asks, again if need be. */
  tick(now_ms: number): void {
    if (this.#closed || this.left === 0 || this.#isFull || now_ms - this.#asked_at_ms < BACKFILL_RETRY_MS) return;
    this.#ask(now_ms, Number.isFinite(this.#asked_at_ms));
  }

  /** Nothing is asked for or reported any more. */
  close(): void {
    this.#closed = true;
  }

  get #isFull(): boolean {
    return this.#under_way_bytes >= UNDER_WAY_BYTES_MAX;
  }

  #ask(now_ms: number, again: boolean): void {
    this.#goes_on = false;
    this.#asked_at_ms = now_ms;
    this.#parts.ask(this.#next, this.#parts.gap.through, again);
  }

  #goOn(now_ms: number): void {
    if (this.#goes_on && !this.#closed && this.left > 0 && !this.#isFull) this.#ask(now_ms, false);
  }

  #settled(bytes: number, now_ms: number): void {
    this.#under_way_bytes -= bytes;
    this.#portions_under_way -= 1;
    if (this.#closed) return;
    if (this.left === 0 && this.#portions_under_way === 0) this.#parts.onDone();
    else this.#goOn(now_ms);
  }

  #failed(error: unknown, from: number): void {
    this.#next = Math.min(this.#next, from);
    this.#goes_on = false;
    const retryable = error instanceof PhxError && error.retryable;
    if (!this.#closed && !retryable) {
      this.close();
      this.#parts.onFailure(error);
    }
  }
}
