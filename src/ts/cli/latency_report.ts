/** Upper bounds of the latency rows, in milliseconds. */
const BOUNDS_MS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];

/** How many calls of a period the percentiles are computed from at most; the first ones. */
const SAMPLES_MAX = 1_000_000;

function percent(part: number, whole: number): string {
  return (whole === 0 ? 0 : (100 * part) / whole).toFixed(2);
}

function percentile(sorted: readonly number[], share: number): string {
  const index = Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1);
  return (sorted[Math.max(0, index)] ?? 0).toFixed(2);
}

/** Counts the calls of one reporting period and prints the benchmark's block of figures. */
export class LatencyReport {
  readonly #ret_counts = new Map<number, number>();
  readonly #bucket_counts: number[] = Array.from({ length: BOUNDS_MS.length + 1 }, () => 0);
  #samples_ms: number[] = [];
  #total = 0;
  #usetime_ms = 0;
  #sleep_ms = 0;

  /** Counts one call: its return code and how long it took, in milliseconds. */
  record(ret: number, usetime_ms: number): void {
    this.#total += 1;
    this.#usetime_ms += usetime_ms;
    this.#ret_counts.set(ret, (this.#ret_counts.get(ret) ?? 0) + 1);
    const bound = BOUNDS_MS.findIndex((bound_ms) => usetime_ms < bound_ms);
    const bucket = bound === -1 ? BOUNDS_MS.length : bound;
    this.#bucket_counts[bucket] = (this.#bucket_counts[bucket] ?? 0) + 1;
    if (this.#samples_ms.length < SAMPLES_MAX) this.#samples_ms.push(usetime_ms);
  }

  /** Counts time that a routine rested between two calls, in milliseconds. */
  recordSleep(sleep_ms: number): void {
    this.#sleep_ms += sleep_ms;
  }

  /** How many calls were counted since the last block. */
  get total(): number {
    return this.#total;
  }

  /** The block of a period of `period_ms` in which `nroutine_all` routines ran; counting starts over. */
  take(period_ms: number, nroutine_all: number): string {
    const sorted_ms = this.#samples_ms.sort((a, b) => a - b);
    const lines = [
      '-----------------------------------------------------',
      `--\ttotal:\t${this.#total}`,
      `--\ttime(ms):\t${Math.round(period_ms)}`,
      `--\tqps:\t${((this.#total * 1000) / Math.max(1, period_ms)).toFixed(2)}`,
      `--\troutine_sleep:\t${percent(this.#sleep_ms, period_ms * nroutine_all)}%`,
      '--\tretcode\tcnt\tpercent',
      ...[...this.#ret_counts]
        .sort(([a], [b]) => a - b)
        .map(([ret, count]) => `--\t${ret}\t${count}\t${percent(count, this.#total)}%`),
      '--\tusetime(ms)\tcnt\tpercent',
      ...this.#bucket_counts.map((count, bucket) => {
        const bound_ms = BOUNDS_MS[bucket];
        const name = bound_ms === undefined ? `>= ${BOUNDS_MS.at(-1)}` : `< ${bound_ms}`;
        return `--\t${name}\t${count}\t${percent(count, this.#total)}%`;
      }),
      `--\tavg_usetime(ms):\t${(this.#usetime_ms / Math.max(1, this.#total)).toFixed(2)}`,
      `--\tp50/p99/p99.9_usetime(ms):\t${[0.5, 0.99, 0.999].map((share) => percentile(sorted_ms, share)).join('/')}`,
    ];
    this.#reset();
    return lines.join('\n');
  }

  #reset(): void {
    this.#ret_counts.clear();
    this.#bucket_counts.fill(0);
    this.#samples_ms = [];
    this.#total = 0;
    this.#usetime_ms = 0;
    this.#sleep_ms = 0;
  }
}
