/**
 * How far a replica has got in what it said to its groups: for each group the highest instance it holds and the round that
 * it promised. Only what is durable counts, and the sum never falls, so a folder that comes back with less is an old one.
 * Node records do not count: replicas that remember each other's position would move each other on for ever.
 */
import type { LogEngine } from '../wal/engine.js';
import { roundOf } from './core/ballot.js';
import { promisedIn } from './records.js';

export class VotePosition {
  readonly #log: Pick<LogEngine, 'bounds' | 'state'>;
  readonly #chosen_through: readonly number[];
  readonly #counted: number[];
  readonly #touched = new Set<number>();
  #sum = 0;

  /**
   * `chosen_through` of each group as the log was read: entries below may have been deleted, the highest among them, so what
   * a checkpoint covers has to be in it.
   */
  constructor(log: Pick<LogEngine, 'bounds' | 'state'>, chosen_through: readonly number[]) {
    this.#log = log;
    this.#chosen_through = chosen_through;
    this.#counted = chosen_through.map(() => 0);
    for (const group of chosen_through.keys()) this.#touched.add(group);
  }

  /** Something of the group became durable. */
  touch(group: number): void {
    this.#touched.add(group);
  }

  /** The position now. */
  get value(): number {
    for (const group of this.#touched) {
      const highest = Math.max(this.#chosen_through[group] ?? 0, this.#log.bounds(group)?.last ?? 0);
      const before = this.#counted[group] ?? 0;
      const now = Math.max(before, highest + roundOf(promisedIn(this.#log, group)));
      this.#counted[group] = now;
      this.#sum += now - before;
    }
    this.#touched.clear();
    return this.#sum;
  }
}
