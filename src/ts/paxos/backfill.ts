/**
 * Fetches the entries that a checkpoint from a peer needs and the own log lacks. They are written as entries that say of
 * themselves that they are chosen, which no accepted value does: so `restoreGroup` trusts them, and goes on here after a
 * restart. Has no timers: `tick` gives it the time.
 */
import { PhxError } from '../errors.js';
import type { LogEngine } from '../wal/engine.js';
import { appendDurably } from './checkpoint_store.js';
import type { AcceptedEntry } from './core/types.js';
import { type Gap, recordOf } from './records.js';

/** An answer that does not come in this time is asked for again. */
export const BACKFILL_RETRY_MS = 500;

export interface BackfillParts {
  readonly log: LogEngine;
  readonly group: number;
  readonly gap: Gap;
  /** Sends `fetch` for these instances to a replica that has them. */
  readonly ask: (from: number, through: number) => void;
  /** All of the gap is durable: restore the group again. */
  readonly onDone: () => void;
  /** The log failed: the replica has to stop. */
  readonly onFailure: (error: unknown) => void;
}

export class Backfill {
  readonly #parts: BackfillParts;
  #next: number;
  #asked_at_ms = Number.NEGATIVE_INFINITY;
  #writing = false;
  #closed = false;

  /** Asks at its first `tick`. */
  constructor(parts: BackfillParts) {
    this.#parts = parts;
    this.#next = parts.gap.from;
  }

  /** What is still missing. */
  get left(): number {
    return this.#parts.gap.through + 1 - this.#next;
  }

  /** Takes in the entries of a `learn`: those that come next, without a hole. Others are asked for again. */
  onLearn(entries: readonly AcceptedEntry[], now_ms: number): void {
    if (this.#writing || this.left === 0) return;
    const { gap, group } = this.#parts;
    const fitting: AcceptedEntry[] = [];
    for (const entry of entries) {
      if (entry.instance === this.#next + fitting.length && entry.instance <= gap.through) fitting.push(entry);
    }
    if (fitting.length === 0) return;
    const records = fitting.map(({ instance, ballot, value }) =>
      recordOf(group, { type: 'entry', instance, ballot, chosen_through: gap.through, value }),
    );
    this.#writing = true;
    appendDurably(this.#parts.log, records)
      .then(() => this.#wrote(fitting.length, now_ms))
      .catch((error: unknown) => this.#failed(error));
  }

  /** Asks, again if need be. */
  tick(now_ms: number): void {
    if (this.#closed || this.#writing || this.left === 0 || now_ms - this.#asked_at_ms < BACKFILL_RETRY_MS) return;
    this.#ask(now_ms);
  }

  /** Nothing is asked for or reported any more. */
  close(): void {
    this.#closed = true;
  }

  #ask(now_ms: number): void {
    this.#asked_at_ms = now_ms;
    this.#parts.ask(this.#next, this.#parts.gap.through);
  }

  #wrote(count: number, now_ms: number): void {
    this.#writing = false;
    this.#next += count;
    if (this.#closed) return;
    if (this.left === 0) this.#parts.onDone();
    else this.#ask(now_ms);
  }

  #failed(error: unknown): void {
    this.#writing = false;
    // A disk without room is asked again with the next answer.
    const retryable = error instanceof PhxError && error.retryable;
    if (!this.#closed && !retryable) this.#parts.onFailure(error);
  }
}
