/** Which replicas do not hear which, of any kind or aimed at the leader. */
import type { Random } from '../sim/random.js';
import type { Replica } from './replica.js';

export class Partitions {
  readonly #random: Random;
  readonly #blocked = new Set<string>();

  constructor(random: Random) {
    this.#random = random;
  }

  blocks(from: number, to: number): boolean {
    return this.#blocked.has(`${from} ${to}`);
  }

  heal(): void {
    this.#blocked.clear();
  }

  toString(): string {
    return [...this.#blocked].join(', ');
  }

  /** Ends the present partition and draws another one, or none; `sometimes` hears of the aimed ones. */
  draw(living: readonly Replica[], leader: Replica | undefined, sometimes: (name: string) => void): void {
    this.#blocked.clear();
    if (this.#random.chance(0.4)) return;
    const others = living.filter((replica) => replica !== leader);
    const kinds = ['silence', 'divide', 'any', 'split'] as const;
    const kind = leader === undefined || others.length === 0 ? 'any' : this.#random.pick(kinds);
    if (leader !== undefined && kind === 'silence') {
      sometimes('a leader is silenced');
      this.#silence(leader, others);
    } else if (leader !== undefined && kind === 'divide') {
      sometimes('a leader is divided from another replica');
      const other = this.#random.pick(others);
      this.#cut(leader, other);
      this.#cut(other, leader);
    } else if (kind === 'split') {
      sometimes('the cluster is split');
      this.#split(living);
    } else {
      this.#any(living);
    }
  }

  /** Cuts `some` off from all others: the old members from the new ones. */
  between(living: readonly Replica[], some: ReadonlySet<number>): void {
    this.#blocked.clear();
    for (const from of living) {
      for (const to of living) if (some.has(from.id) !== some.has(to.id)) this.#cut(from, to);
    }
  }

  #any(living: readonly Replica[]): void {
    for (const from of living) {
      for (const to of living) if (from !== to && this.#random.chance(0.4)) this.#cut(from, to);
    }
  }

  /** Two halves that do not hear each other. */
  #split(living: readonly Replica[]): void {
    const half = new Set(living.filter(() => this.#random.chance(0.5)));
    for (const from of living) {
      for (const to of living) if (half.has(from) !== half.has(to)) this.#cut(from, to);
    }
  }

  /** Nobody hears the leader any more, and it hears one of the others: its lease ends, and it does not know why. */
  #silence(leader: Replica, others: readonly Replica[]): void {
    const heard = this.#random.pick(others);
    for (const other of others) {
      this.#cut(leader, other);
      if (other !== heard) this.#cut(other, leader);
    }
  }

  #cut(from: Replica, to: Replica): void {
    this.#blocked.add(`${from.id} ${to.id}`);
  }
}
