/** What must hold in every run. A violation throws with the simulated time; the runner adds the seed. */
import type { Proposal } from '../../src/ts/paxos/core/types.js';
import { commandsOf, originOf } from '../../src/ts/paxos/core/value.js';

export class Violation extends Error {
  constructor(now_ms: number, what: string) {
    super(`at ${now_ms.toFixed(3)} ms: ${what}`);
    this.name = 'Violation';
  }
}

interface Acknowledged {
  readonly instance: number;
  /** Highest instance acknowledged before this proposal began. */
  readonly after: number;
}

export class Checker {
  readonly #now: () => number;
  readonly #origins = new Map<number, number>();
  readonly #commands = new Map<number, readonly number[]>();
  readonly #began = new Map<number, number>();
  readonly #acknowledged = new Map<number, Acknowledged>();
  #highest = 0;
  proposed = 0;
  reads = 0;

  constructor(now: () => number) {
    this.#now = now;
  }

  get counts(): { readonly proposed: number; readonly acknowledged: number; readonly reads: number } {
    return { proposed: this.proposed, acknowledged: this.acknowledged, reads: this.reads };
  }

  get acknowledged(): number {
    return this.#acknowledged.size;
  }

  /** One value per instance, instances without gaps. */
  applied(replica: number, instance: number, previous: number, value: Uint8Array): void {
    this.#require(instance === previous + 1, `replica ${replica} applied ${instance} after ${previous}`);
    const origin = originOf(value);
    const known = this.#origins.get(instance);
    if (known === undefined) {
      this.#origins.set(instance, origin);
      this.#commands.set(instance, idsIn(value));
      return;
    }
    this.#require(known === origin, `instance ${instance} has two values: from ballot ${known} and from ${origin}`);
  }

  proposing(id: number): void {
    this.proposed += 1;
    this.#began.set(id, this.#highest);
  }

  /** Real-time order: what was proposed after an acknowledgement comes after it. */
  acknowledge(id: number, instance: number): void {
    const after = this.#began.get(id) ?? 0;
    this.#require(!this.#acknowledged.has(id), `proposal ${id} was acknowledged twice`);
    this.#require(instance > after, `proposal ${id} at ${instance} was overtaken by one acknowledged at ${after}`);
    this.#require(this.#commands.get(instance)?.includes(id) === true, `proposal ${id} is not in instance ${instance}`);
    this.#acknowledged.set(id, { instance, after });
    this.#highest = Math.max(this.#highest, instance);
  }

  /** At most one replica may believe that it is master. */
  masters(masters: readonly number[]): void {
    this.#require(masters.length <= 1, `replicas ${masters.join(' and ')} both serve as master`);
  }

  /** Linearizable: a master has applied whatever was acknowledged before. */
  read(replica: number, applied_through: number): void {
    this.reads += 1;
    const what = `master ${replica} has applied ${applied_through}, but ${this.#highest} was acknowledged`;
    this.#require(applied_through >= this.#highest, what);
  }

  /** After healing: nothing acknowledged is missing. */
  finish(applied_through: number): void {
    for (const [id, { instance }] of this.#acknowledged) {
      this.#require(instance <= applied_through, `acknowledged proposal ${id} at ${instance} was lost`);
    }
    const all = [...this.#commands.values()].flat();
    this.#require(new Set(all).size === all.length, 'a proposal was chosen twice');
  }

  #require(holds: boolean, what: string): void {
    if (!holds) throw new Violation(this.#now(), what);
  }
}

/** The proposal of a command that is its own id. */
export function proposalOf(id: number, deadline_ms: number): Proposal {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, id, true);
  return { id, parts: [bytes], bytes: 4, deadline_ms };
}

/** Ids of the proposals in a value: each command is four bytes. */
export function idsIn(value: Uint8Array): number[] {
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  return commandsOf(value).map(({ offset }) => view.getUint32(offset, true));
}
