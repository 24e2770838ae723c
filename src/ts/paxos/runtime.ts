/** What a node takes from outside of itself: time, chance and connections. The simulator puts its own in their place. */
import { randomBytes } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { type Connections, Transport, type TransportOptions } from './transport.js';

export interface Runtime {
  /** Does not run while the machine sleeps. */
  monotonic_ms(): number;
  /** Runs while the machine sleeps; people and programs may set it. */
  wall_ms(): number;
  /** Calls `run` at this interval until the result is called. */
  every(interval_ms: number, run: () => void): () => void;
  /** Calls `run` once, after this time, unless the result is called before. */
  after(delay_ms: number, run: () => void): () => void;
  /** Calls `run` once, after everything that is ready now was taken in. */
  atEndOfTurn(run: () => void): void;
  /** A random whole number from 0 to 2^32 - 1 that nobody can guess: births are made of them. */
  seed(): number;
  /** As `Transport.start`. */
  connect(options: TransportOptions): Promise<Connections>;
}

/** This process. */
export const PROCESS_RUNTIME: Runtime = {
  monotonic_ms: () => performance.now(),
  wall_ms: () => Date.now(),
  every: (interval_ms, run) => {
    const timer = setInterval(run, interval_ms);
    return () => clearInterval(timer);
  },
  after: (delay_ms, run) => {
    const timer = setTimeout(run, delay_ms);
    return () => clearTimeout(timer);
  },
  atEndOfTurn: (run) => {
    setImmediate(run);
  },
  seed: () => randomBytes(4).readUInt32LE(),
  connect: (options) => Transport.start(options),
};
