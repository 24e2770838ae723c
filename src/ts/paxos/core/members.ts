/**
 * Who takes part, instance by instance. A members value that is chosen at instance i governs the instances from
 * i + MEMBERS_DELAY on ("Paxos Made Simple", section 3), so that whoever proposes at an instance, and therefore knows
 * what was chosen MEMBERS_DELAY below it, knows whose acceptances count there.
 */
import { assert } from '../../errors.js';
import type { Member, Roster } from './roster.js';

/** A constant of the protocol: replicas that differ in it would count different votes. */
export const MEMBERS_DELAY = 64;

/** The members from one instance on. */
export interface Configuration {
  /** Where the members value was chosen, 0 for the founders. */
  readonly chosen_at: number;
  /** The first instance that it governs. */
  readonly from: number;
  readonly next_id: number;
  readonly members: readonly Member[];
}

/** The first configuration of a group. */
export function foundedBy(members: readonly Member[]): Configuration {
  return { chosen_at: 0, from: 0, next_id: Math.max(...members.map(({ id }) => id)) + 1, members };
}

/** A configuration with the ids that count. */
interface Governed {
  readonly configuration: Configuration;
  readonly voters: readonly number[];
}

export class Members {
  #self: number;
  #list: Governed[] = [];
  #configurations: readonly Configuration[] = [];
  #others: readonly number[] = [];

  /** `list` begins with the configuration that governs the next instance to apply. */
  constructor(self: number, list: readonly Configuration[]) {
    this.#self = self;
    this.restart(list);
  }

  /** The configurations that a restart needs. */
  get list(): readonly Configuration[] {
    return this.#configurations;
  }

  /** Everybody but this replica, of all configurations that matter: voters and learners. */
  get others(): readonly number[] {
    return this.#others;
  }

  get newest(): Configuration {
    const last = this.#list.at(-1);
    assert(last !== undefined, 'a group has members');
    return last.configuration;
  }

  /** The ids of the voters that the newest configuration names. */
  get voters(): readonly number[] {
    return this.#list.at(-1)?.voters ?? [];
  }

  /** This replica is the member `self` now. */
  name(self: number): void {
    this.#self = self;
    this.#change();
  }

  restart(list: readonly Configuration[]): void {
    assert(list.length > 0, 'a group has members');
    this.#list = list.map(governed);
    this.#change();
  }

  /** Takes in a members value chosen at `instance`; false if it is void: made from other members than the present ones. */
  learn(instance: number, roster: Roster): boolean {
    const { chosen_at, from } = this.newest;
    if (roster.based_on !== chosen_at || instance < from || instance <= chosen_at) return false;
    const { next_id, members } = roster;
    this.#list.push(governed({ chosen_at: instance, from: instance + MEMBERS_DELAY, next_id, members }));
    this.#change();
    return true;
  }

  /** The configuration that came with `instance`, if it took effect. */
  cameWith(instance: number): Configuration | null {
    return this.#list.find(({ configuration }) => configuration.chosen_at === instance)?.configuration ?? null;
  }

  /** Drops what governs nothing above `through`. */
  forget(through: number): void {
    const first = this.#firstAbove(through);
    if (first === 0) return;
    this.#list.splice(0, first);
    this.#change();
  }

  /** Whether the voters for which `has` holds are a majority of those that govern `instance`. */
  isQuorum(instance: number, has: (id: number) => boolean): boolean {
    const governing = this.#list[this.#firstAbove(instance - 1)];
    assert(governing !== undefined, 'the members that govern an instance are known');
    return isMajority(governing, has);
  }

  /** Whether they are a majority in every configuration that governs anything above `through`. */
  isQuorumOfAll(through: number, has: (id: number) => boolean): boolean {
    return this.#list.slice(this.#firstAbove(through)).every((governing) => isMajority(governing, has));
  }

  /**
   * The lowest of the highest values that a majority reaches, over all configurations that govern anything above
   * `through`; null if somewhere none reaches any.
   */
  reachedByAll(through: number, reachedBy: (id: number) => number | undefined): number | null {
    let lowest = Number.POSITIVE_INFINITY;
    for (const { voters } of this.#list.slice(this.#firstAbove(through))) {
      const values = voters.flatMap((id) => reachedBy(id) ?? []).sort((a, b) => b - a);
      const reached = values[Math.floor(voters.length / 2)];
      if (reached === undefined) return null;
      lowest = Math.min(lowest, reached);
    }
    return lowest;
  }

  /** Whether `id` has a vote for `instance` or any above. */
  isVoter(instance: number, id: number): boolean {
    return this.#list.slice(this.#firstAbove(instance - 1)).some(({ voters }) => voters.includes(id));
  }

  /** Whether `id` was a member and takes part in nothing above `through`. */
  isExcluded(through: number, id: number): boolean {
    if (id >= this.newest.next_id) return false;
    const list = this.#list.slice(this.#firstAbove(through));
    return !list.some(({ configuration }) => configuration.members.some((member) => member.id === id));
  }

  /** Index of the configuration that governs `through` + 1: those from there on govern something above `through`. */
  #firstAbove(through: number): number {
    let index = this.#list.length - 1;
    while (index > 0 && (this.#list[index]?.configuration.from ?? 0) > through + 1) index -= 1;
    return index;
  }

  #change(): void {
    this.#configurations = this.#list.map(({ configuration }) => configuration);
    const ids = this.#configurations.flatMap(({ members }) => members.map(({ id }) => id));
    this.#others = [...new Set(ids)].filter((id) => id !== this.#self);
  }
}

function governed(configuration: Configuration): Governed {
  const voters = configuration.members.filter(({ role }) => role === 'voter').map(({ id }) => id);
  return { configuration, voters };
}

function isMajority({ voters }: Governed, has: (id: number) => boolean): boolean {
  let count = 0;
  for (const id of voters) if (has(id)) count += 1;
  return 2 * count > voters.length;
}
