/**
 * A simulated log: appends become durable in order after a while; a crash keeps a prefix of those that had not. It begins
 * with a checkpoint, the state after some instance.
 */
import { crc32 } from 'node:zlib';
import { NO_BALLOT } from '../../src/ts/paxos/core/ballot.js';
import { type Configuration, Members } from '../../src/ts/paxos/core/members.js';
import type { Restored } from '../../src/ts/paxos/core/state.js';
import type { AcceptedEntry, LogWrite, Snapshot } from '../../src/ts/paxos/core/types.js';
import { rosterOf } from '../../src/ts/paxos/core/value.js';
import type { Random } from '../sim/random.js';
import type { Timeline } from './timeline.js';

interface Pending {
  readonly append: number;
  readonly writes: readonly LogWrite[];
}

export interface DiskFaults {
  readonly sync_mean_ms: number;
  /** Probability of a sync that takes a hundred times as long. */
  readonly stall: number;
}

export class SimDisk {
  readonly #timeline: Timeline;
  readonly #random: Random;
  readonly #faults: DiskFaults;
  readonly #entries = new Map<number, AcceptedEntry>();
  #base: Snapshot;
  #promised = NO_BALLOT;
  #longest_grant_ms = 0;
  #mark = 0;
  #pending: Pending[] = [];
  #syncing = 0;
  #epoch = 0;

  constructor(timeline: Timeline, random: Random, faults: DiskFaults, founders: Configuration) {
    this.#timeline = timeline;
    this.#random = random;
    this.#faults = faults;
    this.#base = { through: 0, chain: 0, configurations: [founders], retained_from: 1 };
  }

  /** What a replica that lags too far is sent. */
  get base(): Snapshot {
    return this.#base;
  }

  /** Group commit: what waits when a sync starts becomes durable when it ends. */
  append(append: number, writes: readonly LogWrite[], durable: (append: number) => void): void {
    this.#pending.push({ append, writes });
    if (this.#syncing === 0) this.#sync(durable);
  }

  /** The process died: of what was not synced a prefix survives. */
  crash(): void {
    this.#epoch += 1;
    this.#syncing = 0;
    const kept = this.#random.integer(0, this.#pending.length);
    for (const { writes } of this.#pending.slice(0, kept)) this.#store(writes);
    this.#pending = [];
  }

  /** Begins anew with a checkpoint, the own one or another's; the instances below it are deleted. */
  rebase(base: Snapshot): void {
    this.#base = base;
    this.#mark = Math.max(this.#mark, base.through);
    for (const instance of [...this.#entries.keys()]) if (instance <= base.through) this.#entries.delete(instance);
  }

  /** Everything is gone. */
  wipe(founders: Configuration): void {
    this.#entries.clear();
    this.#base = { through: 0, chain: 0, configurations: [founders], retained_from: 1 };
    this.#promised = NO_BALLOT;
    this.#longest_grant_ms = 0;
    this.#mark = 0;
  }

  /** Some records of values known to be chosen, above an instance, can no longer be read; how many. */
  damage(above = 0): number {
    const from = Math.max(this.#base.through, above) + 1;
    const count = Math.min(this.#random.integer(1, 3), this.#mark - from + 1);
    for (let done = 0; done < count; done += 1) this.#entries.delete(this.#random.integer(from, this.#mark));
    return Math.max(count, 0);
  }

  /** Reads what a restart finds: `apply` gets the values known to be chosen, up to the first that cannot be read. */
  restore(apply: (entry: AcceptedEntry) => void): Restored {
    const members = new Members(0, this.#base.configurations);
    let { through, chain } = this.#base;
    for (let entry = this.#entries.get(through + 1); entry !== undefined && through < this.#mark; ) {
      through += 1;
      apply(entry);
      chain = crc32(entry.value, chain);
      const roster = rosterOf(entry.value);
      if (roster !== null) members.learn(through, roster);
      members.forget(through);
      entry = this.#entries.get(through + 1);
    }
    return {
      promised: this.#promised,
      longest_grant_ms: this.#longest_grant_ms,
      chosen_through: through,
      chain,
      configurations: members.list,
      known_through: this.#mark,
      entries: [...this.#entries.values()].filter(({ instance }) => instance > through),
      retained_from: this.#base.through + 1,
    };
  }

  /** Entries as a peer that catches up reads them. */
  range(from: number, through: number, count_max: number): AcceptedEntry[] {
    const found: AcceptedEntry[] = [];
    for (let instance = from; instance <= through && found.length < count_max; instance += 1) {
      const entry = this.#entries.get(instance);
      if (entry === undefined) throw new Error(`applied instance ${instance} is not on disk`);
      found.push(entry);
    }
    return found;
  }

  #sync(durable: (append: number) => void): void {
    const epoch = this.#epoch;
    const count = this.#pending.length;
    this.#syncing = count;
    const { sync_mean_ms, stall } = this.#faults;
    const delay_ms = this.#random.wait(sync_mean_ms) * (this.#random.chance(stall) ? 100 : 1);
    this.#timeline.after(delay_ms, () => {
      if (epoch !== this.#epoch) return;
      const done = this.#pending.splice(0, count);
      for (const { writes } of done) this.#store(writes);
      this.#syncing = 0;
      if (this.#pending.length > 0) this.#sync(durable);
      const last = done.at(-1);
      if (last !== undefined) durable(last.append);
    });
  }

  #store(writes: readonly LogWrite[]): void {
    for (const write of writes) {
      if (write.type === 'promise') {
        this.#promised = write.ballot;
      } else if (write.type === 'longest_grant') {
        this.#longest_grant_ms = write.lease_ms;
      } else {
        const { instance, ballot, value } = write;
        if (instance > this.#base.through) this.#entries.set(instance, { instance, ballot, value });
        this.#mark = Math.max(this.#mark, write.chosen_through);
      }
    }
  }
}
