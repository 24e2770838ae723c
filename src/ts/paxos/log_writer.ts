/**
 * Hands the protocol's writes to the log: portions that fit into a segment, one for each turn of the event loop while the
 * disk keeps up, and no more under way than the log takes. Whoever brings more looks at `waiting_bytes` first.
 */
import { PhxError } from '../errors.js';
import type { LogEngine, LogRecord } from '../wal/engine.js';
import { recordBytes } from '../wal/format.js';

/** A portion is closed when its records take this much; a larger record makes one of its own. */
export const PORTION_BYTES_MAX = 8 * 1024 * 1024;
/** Bytes handed to the log that are not durable yet, before further portions wait here. */
export const UNDER_WAY_BYTES_MAX = 64 * 1024 * 1024;

interface Portion {
  readonly records: LogRecord[];
  bytes: number;
  /** For each group the last append that ends in this portion. */
  readonly appends: Map<number, number>;
}

export class LogWriter {
  readonly #log: LogEngine;
  readonly #onDurable: (group: number, append: number) => void;
  readonly #onFailure: (error: Error) => void;
  readonly #portion_bytes_max: number;
  #portions: Portion[] = [];
  /** For each group the portions that are not durable yet and hold something of it. */
  readonly #unsettled = new Map<number, number>();
  readonly #settling = new Map<number, (() => void)[]>();
  #under_way_bytes = 0;
  #waiting_bytes = 0;
  #closed = false;

  /** `onDurable(group, append)`: all appends of the group up to that one are on stable storage. */
  constructor(
    log: LogEngine,
    onDurable: (group: number, append: number) => void,
    onFailure: (error: Error) => void,
    portion_bytes_max: number = PORTION_BYTES_MAX,
  ) {
    this.#log = log;
    this.#onDurable = onDurable;
    this.#onFailure = onFailure;
    this.#portion_bytes_max = portion_bytes_max;
  }

  /** Bytes of the records that the log has not been given yet. */
  get waiting_bytes(): number {
    return this.#waiting_bytes;
  }

  /** Queues the records of one append of a group; they leave with `flush`. */
  add(group: number, append: number, records: readonly LogRecord[]): void {
    for (const record of records) {
      const bytes = recordBytes(record.body.reduce((sum, part) => sum + part.length, 0));
      this.#waiting_bytes += bytes;
      const portion = this.#portionFor(bytes);
      portion.records.push(record);
      portion.bytes += bytes;
    }
    const last = this.#portions.at(-1);
    if (last === undefined) return;
    if (!last.appends.has(group)) this.#unsettled.set(group, (this.#unsettled.get(group) ?? 0) + 1);
    last.appends.set(group, append);
  }

  /** Resolves when all that was added for the group is durable and was reported; never if that fails. */
  settled(group: number): Promise<void> {
    if (!this.#unsettled.has(group)) return Promise.resolve();
    return new Promise((resolve) => {
      const waiting = this.#settling.get(group) ?? [];
      this.#settling.set(group, waiting);
      waiting.push(resolve);
    });
  }

  /**
   * Gives the log what it can take now. The rest follows when something became durable. What a full disk has no room for
   * waits, and all behind it: this replica says nothing more that would have to be durable until a later call finds room.
   */
  flush(): void {
    while (!this.#closed && this.#under_way_bytes < UNDER_WAY_BYTES_MAX) {
      const [portion] = this.#portions;
      if (portion === undefined) return;
      try {
        this.#log.append(portion.records, (error) => this.#done(portion, error));
      } catch (error) {
        if (error instanceof PhxError && error.code === 'LOG_FULL') return;
        this.#fail(error instanceof Error ? error : new Error(String(error)));
        return;
      }
      this.#portions.shift();
      this.#waiting_bytes -= portion.bytes;
      this.#under_way_bytes += portion.bytes;
    }
  }

  /** Nothing is written or reported any more. */
  close(): void {
    this.#closed = true;
    this.#portions = [];
    this.#waiting_bytes = 0;
  }

  #portionFor(bytes: number): Portion {
    const last = this.#portions.at(-1);
    if (last !== undefined && last.bytes + bytes <= this.#portion_bytes_max) return last;
    const portion: Portion = { records: [], bytes: 0, appends: new Map() };
    this.#portions.push(portion);
    return portion;
  }

  #done(portion: Portion, error: Error | null): void {
    if (this.#closed) return;
    if (error !== null) {
      this.#fail(error);
      return;
    }
    this.#under_way_bytes -= portion.bytes;
    for (const [group, append] of portion.appends) {
      this.#onDurable(group, append);
      this.#settle(group);
    }
    this.flush();
  }

  #settle(group: number): void {
    const left = (this.#unsettled.get(group) ?? 0) - 1;
    if (left > 0) {
      this.#unsettled.set(group, left);
      return;
    }
    this.#unsettled.delete(group);
    for (const resolve of this.#settling.get(group) ?? []) resolve();
    this.#settling.delete(group);
  }

  #fail(error: Error): void {
    this.close();
    this.#onFailure(error);
  }
}
