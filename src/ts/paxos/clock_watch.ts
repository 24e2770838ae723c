/** Notices that the machine slept: a wall clock runs on meanwhile, the monotonic one does not. */
import type { Runtime } from './runtime.js';
import type { TransportLogger } from './transport.js';

type Clocks = Pick<Runtime, 'monotonic_ms' | 'wall_ms'>;

export class ClockWatch {
  readonly #clocks: Clocks;
  readonly #tolerance_ms: number;
  readonly #logger: TransportLogger;
  #offset_ms: number;

  constructor(clocks: Clocks, tolerance_ms: number, logger: TransportLogger) {
    this.#clocks = clocks;
    this.#tolerance_ms = tolerance_ms;
    this.#logger = logger;
    this.#offset_ms = clocks.wall_ms() - clocks.monotonic_ms();
  }

  /** Whether the clocks have run apart since the last look, by more than the tolerance. */
  jumped(): boolean {
    const offset_ms = this.#clocks.wall_ms() - this.#clocks.monotonic_ms();
    const jump_ms = Math.abs(offset_ms - this.#offset_ms);
    this.#offset_ms = offset_ms;
    if (jump_ms <= this.#tolerance_ms) return false;
    this.#logger.warn(`the wall clock jumped by ${Math.round(jump_ms)} ms; leases are renewed before they are used`);
    return true;
  }
}
