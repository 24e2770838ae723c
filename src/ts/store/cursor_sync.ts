/**
 * Replicates acknowledgements. A Get raises `prev` on the master only; here the master proposes what changed, at most
 * once per interval and Paxos group and never while nothing changed. After a failover at most one interval of
 * acknowledged work is handed out again.
 */
import { PhxError } from '../errors.js';
import type { ReplicatedLog } from '../paxos/replicated_log.js';
import { type CursorUpdate, cursor_updates_max, encodeCursors } from './command.js';

/** The timers that a `CursorSync` needs; tests pass their own. */
export interface Timers {
  /** Calls `callback` once after `delay_ms`; returns a function that cancels. */
  after(delay_ms: number, callback: () => void): () => void;
}

/** Timers of the process that do not keep it alive. */
export const process_timers: Timers = {
  after(delay_ms, callback) {
    const timer = setTimeout(callback, delay_ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/** Reads the acknowledged cursor of a consumer group, and what of it is replicated already. */
export type ReadCursor = (queue_id: number, consumer_group: number) => { prev: number; replicated_prev: number };

/** What `CursorSync` is made of. */
export interface CursorSyncOptions {
  readonly log: Pick<ReplicatedLog, 'mastership' | 'propose'>;
  readonly readCursor: ReadCursor;
  readonly interval_ms: number;
  readonly timers: Timers;
  /** A proposal failed and is tried again after the interval. */
  readonly onFailure: (group: number, error: PhxError) => void;
  /** An error that is not an operating error: a broken invariant. Must stop the process. */
  readonly onDefect: (error: unknown) => void;
}

interface DirtyCursor {
  readonly queue_id: number;
  readonly consumer_group: number;
}

/** See the head of this file. Bounded by what is configured: one entry per queue and consumer group. */
export class CursorSync {
  readonly #options: CursorSyncOptions;
  /** Per Paxos group, by a key of queue and consumer group. */
  readonly #dirty = new Map<number, Map<string, DirtyCursor>>();
  #cancel: (() => void) | null = null;
  #flushing: Promise<void> | null = null;
  #closed = false;

  constructor(options: CursorSyncOptions) {
    this.#options = options;
  }

  /** Cursors that wait to be replicated. */
  get waiting(): number {
    let waiting = 0;
    for (const cursors of this.#dirty.values()) waiting += cursors.size;
    return waiting;
  }

  /** Notes that a consumer group acknowledged something that is not replicated yet. */
  mark(group: number, queue_id: number, consumer_group: number): void {
    if (this.#closed) return;
    let cursors = this.#dirty.get(group);
    if (cursors === undefined) {
      cursors = new Map();
      this.#dirty.set(group, cursors);
    }
    cursors.set(`${queue_id}:${consumer_group}`, { queue_id, consumer_group });
    this.#arm();
  }

  /** Proposes what waits, once; operating errors leave it waiting. Concurrent calls share one round. */
  flush(): Promise<void> {
    this.#flushing ??= this.#round().finally(() => {
      this.#flushing = null;
    });
    return this.#flushing;
  }

  /** Proposes what waits a last time and stops. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#disarm();
    await this.#flushing;
    await this.flush();
    this.#dirty.clear();
  }

  /** Stops at once; what waits is given up. */
  abandon(): void {
    this.#disarm();
    this.#dirty.clear();
  }

  #disarm(): void {
    this.#closed = true;
    this.#cancel?.();
    this.#cancel = null;
  }

  #arm(): void {
    if (this.#cancel !== null || this.#closed || this.#dirty.size === 0) return;
    this.#cancel = this.#options.timers.after(this.#options.interval_ms, () => {
      this.#cancel = null;
      this.flush().then(() => this.#arm(), this.#options.onDefect);
    });
  }

  async #round(): Promise<void> {
    await Promise.all([...this.#dirty.entries()].map(([group, cursors]) => this.#sync(group, cursors)));
  }

  async #sync(group: number, cursors: Map<string, DirtyCursor>): Promise<void> {
    // Another master hears the acknowledgements now; if this one leads again, the next Get marks what is missing.
    if (this.#options.log.mastership(group).role !== 'master') cursors.clear();
    const updates: CursorUpdate[] = [];
    for (const { queue_id, consumer_group } of cursors.values()) {
      if (updates.length === cursor_updates_max) break;
      updates.push({ queue_id, consumer_group, prev: this.#options.readCursor(queue_id, consumer_group).prev });
    }
    if (updates.length > 0) {
      try {
        await this.#options.log.propose(group, encodeCursors(updates));
      } catch (error) {
        if (!(error instanceof PhxError)) throw error;
        this.#options.onFailure(group, error);
      }
    }
    this.#forgetReplicated(group, cursors);
  }

  #forgetReplicated(group: number, cursors: Map<string, DirtyCursor>): void {
    for (const [key, { queue_id, consumer_group }] of cursors) {
      const cursor = this.#options.readCursor(queue_id, consumer_group);
      if (cursor.replicated_prev >= cursor.prev) cursors.delete(key);
    }
    if (cursors.size === 0) this.#dirty.delete(group);
  }
}
