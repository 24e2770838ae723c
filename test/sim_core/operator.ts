/** Whoever changes the members of the simulated cluster: at random during the faults, to repair it afterwards. */
import type { Configuration } from '../../src/ts/paxos/core/members.js';
import type { MembersChange } from '../../src/ts/paxos/core/types.js';
import type { Random } from '../sim/random.js';
import { memberOf, type Replica } from './replica.js';

/** More voters than this are not needed to find a mistake. */
const VOTERS_MAX = 5;
const LEARNERS_MAX = 2;

export class Operator {
  readonly #random: Random;
  readonly #voters_min: number;
  /** Starts a replica with an empty disk and a new id. */
  readonly #recruit: (id: number) => Replica;

  constructor(random: Random, voters_min: number, recruit: (id: number) => Replica) {
    this.#random = random;
    this.#voters_min = voters_min;
    this.#recruit = recruit;
  }

  /** A change that a cluster may be asked for, or null. */
  next({ members, next_id }: Configuration, replicas: readonly Replica[]): MembersChange | null {
    const wiped = members.find(({ id }) => replicas.some((replica) => replica.id === id && replica.wiped));
    const learners = members.filter(({ role }) => role === 'learner');
    const voters = members.filter(({ role }) => role === 'voter');
    const random = this.#random;
    if (wiped !== undefined && random.chance(0.8)) {
      const learner = learners.find(({ id }) => id !== wiped.id);
      const by = learner === undefined || random.chance(0.3) ? this.#newcomer(next_id, replicas) : learner;
      return { type: 'replace', id: wiped.id, by };
    }
    switch (random.pick(['add_learner', 'promote', 'remove', 'replace', 'replace'] as const)) {
      case 'add_learner':
        if (learners.length >= LEARNERS_MAX) return null;
        return { type: 'add_learner', member: this.#newcomer(next_id, replicas) };
      case 'promote':
        if (learners.length === 0 || voters.length >= VOTERS_MAX) return null;
        return { type: 'promote', id: random.pick(learners).id };
      case 'remove':
        return voters.length <= this.#voters_min ? null : { type: 'remove', id: random.pick(members).id };
      case 'replace':
        return { type: 'replace', id: random.pick(voters).id, by: this.#newcomer(next_id, replicas) };
    }
  }

  /** One that was started for a change that came to nothing, or a new one. */
  #newcomer(next_id: number, replicas: readonly Replica[]): ReturnType<typeof memberOf> {
    const spare = replicas.find(({ id, retired }) => id >= next_id && !retired);
    const id = spare?.id ?? Math.max(next_id, ...replicas.map((replica) => replica.id + 1));
    if (spare === undefined) this.#recruit(id);
    return memberOf(id);
  }
}
