/** Notices that the machine slept: a wall clock runs on meanwhile, the monotonic one does not. */
import type { Runtime } from './runtime.js';

export class ClockWatch {
  readonly #runtime: Pick<Runtime, 'monotonic_ms' | 'wall_ms'>;
  readonly #tolerance_ms: number;
  #offset_ms: number;

  constructor(runtime: Pick<Runtime, 'monotonic_ms' | 'wall_ms'>, tolerance_ms: number) {
    this.#runtime = runtime;
    this.#tolerance_ms = tolerance_ms;
    this.#offset_ms = runtime.wall_ms() - runtime.monotonic_ms();
  }

  /** By how much the clocks have run apart since the last look, 0 if it was within the tolerance. */
  look(): number {
    const offset_ms = this.#runtime.wall_ms() - this.#runtime.monotonic_ms();
    const jump_ms = Math.abs(offset_ms - this.#offset_ms);
    this.#offset_ms = offset_ms;
    return jump_ms <= this.#tolerance_ms ? 0 : jump_ms;
  }
}
