/** Logs refused requests, but never floods: of each kind one line per interval, with the number of those left out. */
import { RetCode, retCodeName } from '../protocol/ret_code.js';

const interval_ms = 10_000;
/** Codes that are part of normal operation and no line's worth: clients look for the master. */
const expected: ReadonlySet<number> = new Set([RetCode.NOT_MASTER, RetCode.NO_MASTER]);

/** Where the lines go. */
export interface RefusalLogger {
  warn(message: string): void;
}

interface Kind {
  said_at_ms: number;
  left_out: number;
}

/** See the head of this file. Bounded by the number of methods and codes. */
export class RefusalLog {
  readonly #logger: RefusalLogger;
  readonly #now_ms: () => number;
  readonly #kinds = new Map<string, Kind>();

  constructor(logger: RefusalLogger, now_ms: () => number) {
    this.#logger = logger;
    this.#now_ms = now_ms;
  }

  /** Notes that `method` was refused with `code`; `detail` is asked for more if a line is written. */
  refused(method: string, code: number, detail: () => string): void {
    if (expected.has(code)) return;
    const kind = `${method} ${code}`;
    const now_ms = this.#now_ms();
    const known = this.#kinds.get(kind);
    if (known !== undefined && now_ms - known.said_at_ms < interval_ms) {
      known.left_out += 1;
      return;
    }
    const left_out = known?.left_out ?? 0;
    this.#kinds.set(kind, { said_at_ms: now_ms, left_out: 0 });
    const line = `${method} refused with ${retCodeName(code)} (${code}): ${detail()}`;
    this.#logger.warn(left_out === 0 ? line : `${line}; ${left_out} more of the kind since the last line`);
  }
}
