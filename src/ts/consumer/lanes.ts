import { assert } from '../errors.js';

/** How many handlers of one queue run at the same time unless the caller says otherwise. */
export const HANDLERS_CONCURRENT_MAX = 100;

interface Waiting {
  readonly start: () => Promise<void>;
  readonly lane_key: string | null;
}

/**
 * Runs handlers: tasks of one lane strictly one after the other in the order in which they came, tasks of different
 * lanes and tasks without a lane at the same time, up to a limit. Lanes live as long as this object, so the order of a
 * key holds across fetches too. What waits is bounded by the callers: a pull loop hands in one fetch at a time.
 */
export class Lanes {
  readonly #concurrent_max: number;
  /**
   * Tasks that wait behind the one that runs, or waits to run, in their lane. An entry exists while the lane is busy.
   */
  readonly #behind = new Map<string, Waiting[]>();
  /** Heads of lanes and keyless tasks that wait for a free place, oldest first. */
  #ready: Waiting[] = [];
  #ready_head = 0;
  #running = 0;

  /** `concurrent_max`: how many tasks run at the same time, at least 1. */
  constructor(concurrent_max: number = HANDLERS_CONCURRENT_MAX) {
    assert(Number.isInteger(concurrent_max) && concurrent_max >= 1, 'at least one handler must be able to run');
    this.#concurrent_max = concurrent_max;
  }

  /** How many tasks run now. */
  get running(): number {
    return this.#running;
  }

  /** How many lanes have a task that runs or waits. */
  get busy_lanes(): number {
    return this.#behind.size;
  }

  /**
   * Runs `task` after all earlier tasks with the same `lane_key`; `null` means no order. Settles as the task does. A
   * task that fails does not hold up its lane.
   */
  run<T>(lane_key: string | null, task: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const start = async (): Promise<void> => {
        try {
          resolve(await task());
        } catch (cause) {
          reject(cause);
        }
      };
      this.#enter({ start, lane_key });
    });
  }

  #enter(waiting: Waiting): void {
    if (waiting.lane_key !== null) {
      const behind = this.#behind.get(waiting.lane_key);
      if (behind !== undefined) {
        behind.push(waiting);
        return;
      }
      this.#behind.set(waiting.lane_key, []);
    }
    this.#ready.push(waiting);
    this.#startReady();
  }

  #startReady(): void {
    while (this.#running < this.#concurrent_max) {
      const waiting = this.#ready[this.#ready_head];
      if (waiting === undefined) break;
      this.#ready_head += 1;
      if (this.#ready_head === this.#ready.length) {
        this.#ready = [];
        this.#ready_head = 0;
      }
      this.#running += 1;
      void waiting.start().then(() => this.#finish(waiting));
    }
  }

  #finish(waiting: Waiting): void {
    this.#running -= 1;
    assert(this.#running >= 0, 'a task finishes once');
    if (waiting.lane_key !== null) {
      const behind = this.#behind.get(waiting.lane_key);
      assert(behind !== undefined, 'a lane stays while its task runs');
      const next = behind.shift();
      if (next === undefined) this.#behind.delete(waiting.lane_key);
      else this.#ready.push(next);
    }
    this.#startReady();
  }
}
