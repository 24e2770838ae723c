/** A closed loop: a fixed number of operations is outstanding, and each that completes starts the next. */
import type { Figures, LoopKey } from './command.js';
import { quantile } from './figures.js';
import { LoopClock, type LoopTime } from './loop_time.js';

const WARM_UP_SHARE = 0.2;
/** With more outstanding than this, the latency of one operation in `SAMPLE_STRIDE` is taken: clocks cost time too. */
const SAMPLE_ALL_MAX = 16;
/** A prime, so that all places in a batch have their turn. */
const SAMPLE_STRIDE = 13;

export type Done = (error: Error | null) => void;

export interface ClosedLoopOptions {
  readonly outstanding: number;
  readonly seconds: number;
  /** Starts one operation; `done` is called later. */
  readonly start: (done: Done) => void;
  /** Called at the beginning and at the end of what is measured. */
  readonly mark?: () => void;
}

/** Runs the loop, at first unmeasured; all that was started has completed when it resolves. */
export function runClosedLoop(options: ClosedLoopOptions): Promise<Figures<LoopKey>> {
  return new Promise((resolve, reject) => new ClosedLoop(options, resolve, reject).run());
}

class ClosedLoop {
  private readonly options: ClosedLoopOptions;
  private readonly resolve: (figures: Figures<LoopKey>) => void;
  private readonly reject: (error: Error) => void;
  private readonly stride: number;
  private readonly latencies_ms: number[] = [];
  private started = 0;
  private completed = 0;
  private running = 0;
  private phase: 'warm-up' | 'measured' | 'ending' = 'warm-up';
  private until_ms = 0;
  private from_ms = 0;
  private from_completed = 0;
  private clock = new LoopClock();
  private measured: Figures<LoopKey> | null = null;

  constructor(
    options: ClosedLoopOptions,
    resolve: (figures: Figures<LoopKey>) => void,
    reject: (error: Error) => void,
  ) {
    this.options = options;
    this.resolve = resolve;
    this.reject = reject;
    this.stride = options.outstanding <= SAMPLE_ALL_MAX ? 1 : SAMPLE_STRIDE;
  }

  run(): void {
    const { outstanding, seconds } = this.options;
    this.until_ms = performance.now() + seconds * 1000 * WARM_UP_SHARE;
    for (this.running = 0; this.running < outstanding; this.running++) this.begin();
  }

  private readonly next: Done = (error) => {
    if (error !== null) {
      this.reject(error);
      return;
    }
    this.completed++;
    if (this.phase !== 'ending') {
      this.begin();
      return;
    }
    this.running--;
    if (this.running === 0 && this.measured !== null) this.resolve(this.measured);
  };

  private begin(): void {
    this.started++;
    if (this.started % this.stride !== 0) {
      this.options.start(this.next);
      return;
    }
    const began_ms = performance.now();
    this.options.start((error) => {
      const now_ms = performance.now();
      if (this.phase === 'measured' && began_ms >= this.from_ms) this.latencies_ms.push(now_ms - began_ms);
      if (now_ms >= this.until_ms) this.turn(now_ms);
      this.next(error);
    });
  }

  private turn(now_ms: number): void {
    if (this.phase === 'ending') return;
    this.options.mark?.();
    if (this.phase === 'measured') {
      this.measured = this.figures(now_ms, this.clock.read());
      this.phase = 'ending';
      return;
    }
    this.phase = 'measured';
    this.from_ms = now_ms;
    this.until_ms = now_ms + this.options.seconds * 1000;
    this.from_completed = this.completed;
    this.clock = new LoopClock();
  }

  private figures(now_ms: number, time: LoopTime): Figures<LoopKey> {
    const operations = this.completed - this.from_completed;
    const latencies_ms = Float64Array.from(this.latencies_ms).sort();
    return {
      per_s: (operations * 1000) / (now_ms - this.from_ms),
      p50_us: quantile(latencies_ms, 0.5) * 1000,
      p99_us: quantile(latencies_ms, 0.99) * 1000,
      loop_ns: time.loop_ns / operations,
      thread_cpu_ns: time.thread_cpu_ns / operations,
      process_cpu_ns: time.process_cpu_ns / operations,
    };
  }
}
