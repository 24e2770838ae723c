/** A simulated log: appends become durable in order after a while; a crash keeps a prefix of those that had not. */

import { crc32 } from 'node:zlib';
import { NO_BALLOT } from '../../src/ts/paxos/core/ballot.js';
import { type Configuration, Members } from '../../src/ts/paxos/core/members.js';
import type { Restored } from '../../src/ts/paxos/core/state.js';
import type { AcceptedEntry, LogWrite } from '../../src/ts/paxos/core/types.js';
import { rosterOf } from '../../src/ts/paxos/core/value.js';
import type { Random } from './random.js';
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
  #promised = NO_BALLOT;
  #longest_grant_ms = 0;
  #mark = 0;
  #pending: Pending[] = [];
  #syncing = 0;
  #epoch = 0;

  constructor(timeline: Timeline, random: Random, faults: DiskFaults) {
    this.#timeline = timeline;
    this.#random = random;
    this.#faults = faults;
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

  /** What a restart reads; `apply` gets the prefix known to be chosen. */
  restore(founders: Configuration, apply: (entry: AcceptedEntry) => void): Restored {
    const members = new Members(0, [founders]);
    let chain = 0;
    for (let instance = 1; instance <= this.#mark; instance += 1) {
      const entry = this.#entries.get(instance);
      if (entry === undefined) throw new Error(`instance ${instance} below the mark ${this.#mark} is not on disk`);
      apply(entry);
      chain = crc32(entry.value, chain);
      const roster = rosterOf(entry.value);
      if (roster !== null) members.learn(instance, roster);
      members.forget(instance);
    }
    const entries = [...this.#entries.values()].filter((entry) => entry.instance > this.#mark);
    return {
      promised: this.#promised,
      longest_grant_ms: this.#longest_grant_ms,
      chosen_through: this.#mark,
      chain,
      configurations: members.list,
      known_through: this.#mark,
      retained_from: 1,
      entries,
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
        this.#entries.set(instance, { instance, ballot, value });
        this.#mark = Math.max(this.#mark, write.chosen_through);
      }
    }
  }
}
