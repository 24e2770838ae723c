/** What the RPC layer needs of a logger; pino's fits. */
export interface WarnLogger {
  warn(line: string): void;
}

/** How long after a line of one kind the next one may come, in milliseconds. */
const PAUSE_MS = 1_000;

/** Keeps clients from filling the log: a line of each kind at most once a second, with the number of those left out. */
export class SeldomLog<Kind extends string> {
  readonly #logger: WarnLogger;
  readonly #kinds = new Map<Kind, { next_ms: number; left_out: number }>();

  constructor(logger: WarnLogger) {
    this.#logger = logger;
  }

  warn(kind: Kind, line: string): void {
    const now_ms = performance.now();
    const last = this.#kinds.get(kind) ?? { next_ms: 0, left_out: 0 };
    if (now_ms < last.next_ms) {
      last.left_out += 1;
      return;
    }
    this.#kinds.set(kind, { next_ms: now_ms + PAUSE_MS, left_out: 0 });
    this.#logger.warn(last.left_out === 0 ? line : `${line} (and ${last.left_out} more before)`);
  }
}
