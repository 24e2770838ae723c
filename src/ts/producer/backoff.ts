/** Bounds of an exponential back-off, in milliseconds. */
export interface BackoffLimits {
  readonly first_ms: number;
  readonly longest_ms: number;
}

/**
 * Waits that double from `first_ms` to `longest_ms`, each with up to half of itself added at random so that clients
 * which failed together do not come back together.
 */
export class Backoff {
  readonly #limits: BackoffLimits;
  readonly #random: () => number;
  #next_ms: number;

  constructor(limits: BackoffLimits, random: () => number = Math.random) {
    this.#limits = limits;
    this.#random = random;
    this.#next_ms = limits.first_ms;
  }

  /** The next wait in milliseconds; the one after it is twice as long, up to the limit. */
  next(): number {
    const base_ms = this.#next_ms;
    this.#next_ms = Math.min(base_ms * 2, this.#limits.longest_ms);
    return base_ms + this.#random() * (base_ms / 2);
  }

  /** Starts over at the shortest wait, after a success. */
  reset(): void {
    this.#next_ms = this.#limits.first_ms;
  }
}

/**
 * Waits `wait_ms` milliseconds, or until `signal` fires if that is sooner. Never rejects: the caller looks at its
 * signal afterwards. A wait of 0 resolves at once.
 */
export function pause(wait_ms: number, signal?: AbortSignal): Promise<void> {
  if (wait_ms <= 0 || signal?.aborted === true) return Promise.resolve();
  return new Promise((resolve) => {
    const finish = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', finish);
      resolve();
    };
    const timer = setTimeout(finish, wait_ms);
    signal?.addEventListener('abort', finish, { once: true });
  });
}
