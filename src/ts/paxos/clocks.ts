/** Compares the clocks of a node: a wall clock that runs away from the monotonic one means that the machine slept. */
import type { Runtime } from './runtime.js';

export class Clocks {
  readonly #runtime: Pick<Runtime, 'wall_ms' | 'monotonic_ms'>;
  #offset_ms: number;

  constructor(runtime: Pick<Runtime, 'wall_ms' | 'monotonic_ms'>) {
    this.#runtime = runtime;
    this.#offset_ms = runtime.wall_ms() - runtime.monotonic_ms();
  }

  /** By how much they have moved against each other since the last call. */
  jump_ms(): number {
    const before_ms = this.#offset_ms;
    this.#offset_ms = this.#runtime.wall_ms() - this.#runtime.monotonic_ms();
    return Math.abs(this.#offset_ms - before_ms);
  }
}
