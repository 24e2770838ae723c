import { type AssignedQueue, queueKey } from './assigned_queue.js';

/** What is counted. */
export interface Counts {
  /** Calls of handlers that have ended. */
  readonly handled: number;
  /** Of these, the ones that failed. */
  readonly errors: number;
  /** Items that were enqueued again after a failure. */
  readonly retries: number;
  /** Items that went to the dead letters. */
  readonly dead_letters: number;
}

/** How far a queue is behind. */
export interface QueueLag extends AssignedQueue {
  /** Age of the newest item when it was fetched, by the producers' clocks; 0 when the queue was found empty. */
  readonly lag_ms: number;
}

/** Counts since the last report, and the lags that are new. */
export interface TallyReport {
  readonly counts: Counts;
  readonly lags: readonly QueueLag[];
}

/** Counts what a consumer does. Reports can be added up, which is how workers hand theirs on. */
export class Tally {
  #counts = { handled: 0, errors: 0, retries: 0, dead_letters: 0 };
  readonly #lags = new Map<string, QueueLag>();

  count(what: keyof Counts, by = 1): void {
    this.#counts[what] += by;
  }

  lag(queue: AssignedQueue, lag_ms: number): void {
    this.#lags.set(queueKey(queue), { ...queue, lag_ms });
  }

  add({ counts, lags }: TallyReport): void {
    this.#counts.handled += counts.handled;
    this.#counts.errors += counts.errors;
    this.#counts.retries += counts.retries;
    this.#counts.dead_letters += counts.dead_letters;
    for (const lag of lags) this.#lags.set(queueKey(lag), lag);
  }

  read(): TallyReport {
    return { counts: { ...this.#counts }, lags: [...this.#lags.values()] };
  }

  /** As `read`, and starts over. */
  take(): TallyReport {
    const report = this.read();
    this.#counts = { handled: 0, errors: 0, retries: 0, dead_letters: 0 };
    this.#lags.clear();
    return report;
  }
}
